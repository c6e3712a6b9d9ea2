// SPDX-License-Identifier: GPL-2.0-or-later
/* Every function of vmc_packet.h, with one thread playing both sides. */
#include "test.h"

#include "vmc_packet.h"

#define SIZE	(1u << 17)	/* of the largest ring here */
#define SMALL	VMC_RING_MIN_SIZE
#define HDR	((uint32_t)sizeof(struct vmc_pkt))
#define MAXPOS	(UINT64_MAX >> 1)

struct ring {
	struct vmc_ring_hdr hdr;
	struct vmc_ring_prod p;
	struct vmc_ring_cons c;
	uint8_t *data;		/* exactly as long as the ring */
};

/* An empty ring of @size bytes whose both sides are at @pos. */
static void start(struct ring *r, uint32_t size, uint64_t pos)
{
	free(r->data);
	r->data = malloc(size);
	assert_non_null(r->data);
	memset(r->data, 0xa5, size);
	memset(&r->hdr, 0, sizeof(r->hdr));
	vmc_ring_prod_init(&r->p, &r->hdr, size);
	vmc_ring_cons_init(&r->c, &r->hdr, size);
	r->hdr.prod = pos << 1;
	r->hdr.cons = pos;
	r->p.pos = r->p.cons = pos;
	r->c.pos = r->c.cons = pos;
}

static int setup(void **state)
{
	struct ring *r = NULL;

	if (posix_memalign((void **)&r, 4096, sizeof(*r)))
		return -1;
	memset(r, 0, sizeof(*r));
	start(r, SIZE, 0);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct ring *r = *state;

	free(r->data);
	free(r);
	return 0;
}

static uint8_t byte_of(uint32_t seed, uint32_t i)
{
	return (uint8_t)(seed * 37 + i * 131 + (i >> 8) * 17);
}

/* Header and payload, not committed. */
static void put(struct ring *r, const struct vmc_pkt *p, uint32_t seed)
{
	uint8_t *buf = malloc(p->len);
	uint32_t i;

	assert_non_null(buf);
	for (i = 0; i < p->len; i++)
		buf[i] = byte_of(seed, i);
	vmc_ring_put(&r->p, r->data, 0, p, HDR);
	vmc_ring_put(&r->p, r->data, HDR, buf, p->len);
	free(buf);
}

/* As a producer should: a whole record, if there is room for it. */
static int produce(struct ring *r, const struct vmc_pkt *p, uint32_t seed)
{
	uint32_t room = vmc_pkt_room(p->len);
	int space = vmc_ring_prod_space(&r->p, room);

	if (space < 0)
		return space;
	if ((uint32_t)space < room)
		return -EAGAIN;
	put(r, p, seed);
	return vmc_ring_prod_commit(&r->p, room);
}

/* The next packet has to be this one. It is not given back. */
static void look(struct ring *r, const struct vmc_pkt *p, uint32_t seed)
{
	uint64_t before = r->c.cons;
	struct vmc_pkt got;
	uint8_t *buf;
	uint32_t i;

	memset(&got, 0x5a, sizeof(got));
	assert_int_equal(vmc_pkt_get(&r->c, r->data, &got), p->len);
	assert_memory_equal(&got, p, sizeof(got));
	buf = malloc(got.len);
	assert_non_null(buf);
	vmc_ring_get(&r->c, r->data, HDR, buf, got.len);
	for (i = 0; i < got.len; i++)
		if (buf[i] != byte_of(seed, i))
			fail_msg("byte %u of %u", i, got.len);
	free(buf);
	assert_int_equal(r->c.cons, before);
	assert_int_equal(r->hdr.cons, before);
}

static void consume(struct ring *r, const struct vmc_pkt *p, uint32_t seed)
{
	uint64_t before = r->c.cons;

	look(r, p, seed);
	vmc_pkt_advance(&r->c, p);
	assert_int_equal(r->c.cons, before + vmc_pkt_room(p->len));
	assert_int_equal(r->hdr.cons, r->c.cons);
}

/* Nothing is handed out, nothing consumed, however often one asks. */
static void assert_get(struct ring *r, int expected)
{
	uint64_t before = r->c.cons;
	struct vmc_pkt got;
	int i;

	for (i = 0; i < 3; i++) {
		assert_int_equal(vmc_pkt_get(&r->c, r->data, &got), expected);
		assert_int_equal(r->c.cons, before);
		assert_int_equal(r->hdr.cons, before);
	}
}

/* ------------------------------------------------------------ the header */

static void test_layout(void **state)
{
	(void)state;
#define AT(member, off) assert_int_equal(offsetof(struct vmc_pkt, member), off)
	AT(len, 0);
	AT(source, 4);
	AT(flags, 6);
	AT(gso_size, 8);
	AT(zero, 10);
#undef AT
	assert_int_equal(sizeof(struct vmc_pkt), 16);
	assert_int_equal(VMC_PKT_CSUM_BLANK, 1);
	assert_int_equal(VMC_PKT_CSUM_GOOD, 2);
	assert_int_equal(VMC_PKT_GSO_UDP, 4);
	assert_int_equal(VMC_PKT_GSO_TCP, 8);
	assert_int_equal(VMC_PKT_FLAGS, 15);
	assert_int_equal(VMC_PKT_FORGET, 1);
	assert_int_equal(VMC_PKT_SOURCES, 32);
	/* the header's room keeps records aligned */
	assert_int_equal(sizeof(struct vmc_pkt) % VMC_PKT_ALIGN, 0);
}

static bool ok(struct vmc_pkt p)
{
	return vmc_pkt_ok(&p);
}

#define OK(...) ok((struct vmc_pkt){ .len = 1400, __VA_ARGS__ })
#define OK_LEN(n) ok((struct vmc_pkt){ .len = (n) })

static void test_ok_len(void **state)
{
	uint32_t bit;

	(void)state;
	assert_false(OK_LEN(0));
	assert_false(OK_LEN(1));
	assert_false(OK_LEN(19));
	assert_true(OK_LEN(20));
	assert_true(OK_LEN(21));
	assert_true(OK_LEN(65535));
	assert_true(OK_LEN(65536));
	assert_true(OK_LEN(65574));
	assert_true(OK_LEN(65575));
	assert_false(OK_LEN(65576));
	assert_false(OK_LEN(UINT32_MAX));
	assert_false(OK_LEN((uint32_t)INT32_MAX));
	/* what is negative as an int, or wraps in vmc_pkt_room() */
	for (bit = 17; bit < 32; bit++)
		assert_false(OK_LEN(1400u | 1u << bit));
	for (bit = 0; bit < 64; bit++)
		assert_false(OK_LEN(UINT32_MAX - bit));
}

static void test_ok_source(void **state)
{
	uint32_t source;

	(void)state;
	for (source = 0; source <= UINT16_MAX; source++)
		assert_int_equal(OK(.source = (uint16_t)source), source < 32);
}

/* Each word of flags, with a segment size and without. */
static void test_ok_flags(void **state)
{
	uint32_t flags;

	(void)state;
	for (flags = 0; flags <= UINT16_MAX; flags++) {
		bool plain = flags < 16 && !(flags & 0xc);
		bool gso = flags < 16 && flags & 1 && ((flags & 0xc) == 4 || (flags & 0xc) == 8);

		assert_int_equal(OK(.flags = (uint16_t)flags), plain);
		assert_int_equal(OK(.flags = (uint16_t)flags, .gso_size = 600), gso);
	}
}

static void test_ok_zero(void **state)
{
	struct vmc_pkt p = { .len = 1400, .flags = VMC_PKT_CSUM_GOOD };
	int i, bit;

	(void)state;
	assert_true(ok(p));
	for (i = 0; i < 3; i++)
		for (bit = 0; bit < 16; bit++) {
			p.zero[i] = (uint16_t)(1u << bit);
			assert_false(ok(p));
			p.zero[i] = 0;
		}
	assert_true(ok(p));
}

/* Without segments there is no size of segments. */
static void test_ok_plain(void **state)
{
	uint32_t size;

	(void)state;
	for (size = 0; size <= UINT16_MAX; size++) {
		assert_int_equal(OK(.gso_size = (uint16_t)size), !size);
		assert_int_equal(OK(.gso_size = (uint16_t)size, .flags = VMC_PKT_CSUM_BLANK), !size);
		assert_int_equal(OK(.gso_size = (uint16_t)size, .flags = VMC_PKT_CSUM_GOOD), !size);
	}
}

static bool ok_gso(uint16_t flag, uint32_t len, uint16_t size)
{
	return ok((struct vmc_pkt){
		.len = len, .gso_size = size, .flags = VMC_PKT_CSUM_BLANK | flag,
	});
}

static void test_ok_gso_udp(void **state)
{
	const uint16_t udp = VMC_PKT_GSO_UDP;

	(void)state;
	assert_false(ok_gso(udp, 1400, 0));
	assert_true(ok_gso(udp, 1400, 1399));
	assert_false(ok_gso(udp, 1400, 1400));
	assert_false(ok_gso(udp, 1400, 1401));
	assert_false(ok_gso(udp, 1400, UINT16_MAX));
	/* 128 of them, at each end of the lengths */
	assert_true(ok_gso(udp, 20, 1));
	assert_true(ok_gso(udp, 128, 1));
	assert_false(ok_gso(udp, 129, 1));
	assert_true(ok_gso(udp, 1400, 11));
	assert_false(ok_gso(udp, 1400, 10));
	assert_true(ok_gso(udp, 65575, 509));
	assert_false(ok_gso(udp, 65575, 508));
	assert_true(ok_gso(udp, 65575, UINT16_MAX));
	assert_false(ok_gso(udp, 65576, 1000));
	assert_false(ok_gso(udp, 19, 1));
	/* nobody could have computed the checksums */
	assert_false(OK(.flags = VMC_PKT_GSO_UDP, .gso_size = 600));
	assert_false(OK(.flags = VMC_PKT_GSO_UDP | VMC_PKT_CSUM_GOOD, .gso_size = 600));
}

static void test_ok_gso_tcp(void **state)
{
	const uint16_t tcp = VMC_PKT_GSO_TCP;

	(void)state;
	assert_false(ok_gso(tcp, 1400, 0));
	assert_false(ok_gso(tcp, 1400, 1));
	assert_false(ok_gso(tcp, 1400, 499));
	assert_true(ok_gso(tcp, 1400, 500));
	assert_true(ok_gso(tcp, 1400, 1399));
	assert_false(ok_gso(tcp, 1400, 1400));
	assert_false(ok_gso(tcp, 1400, UINT16_MAX));
	assert_true(ok_gso(tcp, 501, 500));
	assert_false(ok_gso(tcp, 500, 500));
	assert_true(ok_gso(tcp, 65575, 500));
	assert_false(ok_gso(tcp, 65575, 499));
	assert_true(ok_gso(tcp, 65575, UINT16_MAX));
	assert_false(ok_gso(tcp, 65576, 1000));
	assert_false(OK(.flags = VMC_PKT_GSO_TCP, .gso_size = 600));
	assert_false(OK(.flags = VMC_PKT_GSO_TCP | VMC_PKT_CSUM_GOOD, .gso_size = 600));
	/* both at once */
	assert_false(ok_gso(VMC_PKT_GSO_UDP | tcp, 1400, 600));
	assert_false(ok_gso(VMC_PKT_GSO_UDP | tcp, 1400, 0));
}

static void test_room(void **state)
{
	uint32_t len, room;

	(void)state;
	assert_int_equal(vmc_pkt_room(20), 40);
	assert_int_equal(vmc_pkt_room(24), 40);
	assert_int_equal(vmc_pkt_room(25), 48);
	assert_int_equal(vmc_pkt_room(1500), 1520);
	assert_int_equal(vmc_pkt_room(65575), 65592);
	for (len = VMC_PKT_MIN; len <= VMC_PKT_MAX; len++) {
		room = vmc_pkt_room(len);
		assert_int_equal(room % 8, 0);
		assert_in_range(room, 16 + len, 16 + len + 7);
	}
}

/* ----------------------------------------------------- from a good producer */

static void test_none(void **state)
{
	struct ring *r = *state;
	struct vmc_pkt got;

	memset(&got, 0x5a, sizeof(got));
	assert_int_equal(vmc_pkt_get(&r->c, r->data, &got), 0);
	assert_int_equal(got.len, 0x5a5a5a5a);
	assert_get(r, 0);
}

static void test_one(void **state)
{
	static const uint32_t lens[] = { 20, 21, 24, 25, 1500, 9000, 65535, 65574, 65575 };
	struct ring *r = *state;
	size_t i;

	for (i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		struct vmc_pkt p = { .len = lens[i], .source = (uint16_t)i,
				     .flags = VMC_PKT_CSUM_BLANK };

		assert_int_equal(produce(r, &p, lens[i]), 0);
		look(r, &p, lens[i]);
		consume(r, &p, lens[i]);
		assert_get(r, 0);
		assert_int_equal(vmc_ring_prod_space(&r->p, SIZE), SIZE);
	}
}

static void test_several(void **state)
{
	const struct vmc_pkt p[] = {
		{ .len = 20, .source = 31 },
		{ .len = 1500, .source = 3, .flags = VMC_PKT_CSUM_GOOD },
		{ .len = 20001, .flags = VMC_PKT_CSUM_BLANK | VMC_PKT_GSO_UDP, .gso_size = 1472 },
		{ .len = 65535, .flags = VMC_PKT_CSUM_BLANK | VMC_PKT_GSO_TCP, .gso_size = 1448 },
		{ .len = 33 },
	};
	const uint32_t n = sizeof(p) / sizeof(p[0]);
	struct ring *r = *state;
	uint32_t i;

	for (i = 0; i < n; i++)
		assert_int_equal(produce(r, &p[i], i), 0);
	for (i = 0; i < n; i++)
		consume(r, &p[i], i);
	assert_get(r, 0);
}

/* As many as fit, and not one more; each that is given back makes room. */
static void test_full(void **state)
{
	const struct vmc_pkt p = { .len = 100 };
	const uint32_t fit = SMALL / 120;
	struct ring *r = *state;
	uint32_t i;

	start(r, SMALL, 0);
	for (i = 0; i < fit; i++)
		assert_int_equal(produce(r, &p, i), 0);
	assert_int_equal(produce(r, &p, i), -EAGAIN);
	for (i = 0; i < 1000; i++) {
		consume(r, &p, i);
		assert_int_equal(produce(r, &p, i + fit), 0);
		assert_int_equal(produce(r, &p, 0), -EAGAIN);
	}
	for (; i < 1000 + fit; i++)
		consume(r, &p, i);
	assert_get(r, 0);

	/* the longest that a small ring has room for fills it */
	assert_int_equal(produce(r, &(struct vmc_pkt){ .len = SMALL - 16 }, 1), 0);
	assert_int_equal(vmc_ring_prod_space(&r->p, 1), 0);
	consume(r, &(struct vmc_pkt){ .len = SMALL - 16 }, 1);
	assert_int_equal(produce(r, &(struct vmc_pkt){ .len = SMALL - 15 }, 1), -EAGAIN);
}

/* The ring's end at each byte of the header and of the payload; aligned or not. */
static void test_wrap(void **state)
{
	const struct vmc_pkt p = { .len = 61, .source = 7, .flags = VMC_PKT_CSUM_GOOD };
	const struct vmc_pkt last = { .len = 4061 };
	struct ring *r = *state;
	uint32_t before;

	for (before = 0; before <= vmc_pkt_room(p.len); before++) {
		start(r, SMALL, 7ull * SMALL - before);
		assert_int_equal(produce(r, &p, before), 0);
		consume(r, &p, before);
		assert_get(r, 0);
	}
	/* nearly the whole ring */
	for (before = 1; before < SMALL; before++) {
		start(r, SMALL, SMALL + before);
		assert_int_equal(produce(r, &last, before), 0);
		consume(r, &last, before);
	}
}

static void test_wrap_longest(void **state)
{
	static const uint32_t before[] = { 1, 8, 15, 16, 17, 24, 40, 4096, 65591, 65592 };
	const struct vmc_pkt p = { .len = VMC_PKT_MAX, .source = 31 };
	struct ring *r = *state;
	size_t i;

	for (i = 0; i < sizeof(before) / sizeof(before[0]); i++) {
		start(r, SIZE, SIZE - before[i]);
		assert_int_equal(produce(r, &p, (uint32_t)i), 0);
		consume(r, &p, (uint32_t)i);
		assert_get(r, 0);
	}
}

/* Up to the last position that there is. */
static void test_large_positions(void **state)
{
	const struct vmc_pkt p = { .len = 500 };
	struct ring *r = *state;

	start(r, SMALL, MAXPOS - 2 * 520);
	assert_int_equal(produce(r, &p, 1), 0);
	assert_int_equal(produce(r, &p, 2), 0);
	consume(r, &p, 1);
	consume(r, &p, 2);
	assert_int_equal(r->c.cons, MAXPOS);
	assert_get(r, 0);
}

static void test_producer_closes(void **state)
{
	const struct vmc_pkt p = { .len = 99 };
	struct ring *r = *state;

	assert_int_equal(produce(r, &p, 1), 0);
	assert_int_equal(produce(r, &p, 2), 0);
	vmc_ring_prod_close(&r->p);
	assert_int_equal(produce(r, &p, 3), -EPIPE);
	consume(r, &p, 1);
	consume(r, &p, 2);
	assert_get(r, -EPIPE);

	start(r, SMALL, 0);
	vmc_ring_prod_close(&r->p);
	assert_get(r, -EPIPE);
}

static void test_consumer_closes(void **state)
{
	const struct vmc_pkt p = { .len = 99 };
	struct ring *r = *state;

	assert_int_equal(produce(r, &p, 1), 0);
	assert_int_equal(vmc_ring_cons_close(&r->c), 0);
	assert_int_equal(produce(r, &p, 2), -EPIPE);
	consume(r, &p, 1);
	assert_get(r, -EPIPE);
}

/* -------------------------------------------------- from a hostile producer */

/* After a get nothing in the ring matters for what the header says. */
static void test_header_is_private(void **state)
{
	const struct vmc_pkt p = { .len = 1000 };
	struct ring *r = *state;
	struct vmc_pkt got;

	start(r, SMALL, 0);
	assert_int_equal(produce(r, &p, 1), 0);
	assert_int_equal(produce(r, &p, 2), 0);
	assert_int_equal(vmc_pkt_get(&r->c, r->data, &got), 1000);
	memset(r->data, 0xff, 16);
	assert_memory_equal(&got, &p, sizeof(p));
	vmc_pkt_advance(&r->c, &got);
	assert_int_equal(r->c.cons, 1016);
	consume(r, &p, 2);
	assert_get(r, 0);
}

/* A record of which only the beginning was committed, in an open ring and a closed one. */
static void test_truncated(void **state)
{
	const struct vmc_pkt p = { .len = 100, .source = 5 };
	struct ring *r = *state;
	uint32_t n;

	for (n = 1; n < 120; n++) {
		start(r, SMALL, SMALL - 50);
		put(r, &p, n);
		assert_int_equal(vmc_ring_prod_commit(&r->p, n), 0);
		assert_get(r, -EPROTO);
		vmc_ring_prod_close(&r->p);
		assert_get(r, -EPROTO);

		/* behind a good one */
		start(r, SMALL, SMALL - 50);
		assert_int_equal(produce(r, &p, 1), 0);
		put(r, &p, 2);
		assert_int_equal(vmc_ring_prod_commit(&r->p, n), 0);
		consume(r, &p, 1);
		assert_get(r, -EPROTO);
	}
}

/* A header that asks for more bytes than there are, in a ring that claims @avail. */
static int get_forged(struct ring *r, struct vmc_pkt p, uint32_t avail)
{
	uint64_t before;
	struct vmc_pkt got;
	int ret;

	start(r, SMALL, 3 * SMALL - 8);
	vmc_ring_put(&r->p, r->data, 0, &p, HDR);
	assert_int_equal(vmc_ring_prod_commit(&r->p, avail), 0);
	before = r->c.cons;
	ret = vmc_pkt_get(&r->c, r->data, &got);
	assert_int_equal(r->c.cons, before);
	assert_int_equal(r->hdr.cons, before);
	if (ret > 0)
		assert_memory_equal(&got, &p, sizeof(p));
	return ret;
}

static void test_too_long(void **state)
{
	struct ring *r = *state;
	uint32_t len, avail;

	for (avail = 40; avail <= SMALL; avail += 8) {
		assert_int_equal(get_forged(r, (struct vmc_pkt){ .len = avail - 16 }, avail),
				 avail - 16);
		assert_int_equal(get_forged(r, (struct vmc_pkt){ .len = avail - 15 }, avail),
				 -EPROTO);
		/* the packet would fit, its padding would not */
		assert_int_equal(get_forged(r, (struct vmc_pkt){ .len = avail - 23 }, avail),
				 avail - 23 < VMC_PKT_MIN ? -EPROTO : (int)avail - 23);
		assert_int_equal(get_forged(r, (struct vmc_pkt){ .len = avail - 23 }, avail - 1),
				 -EPROTO);
	}
	for (len = SMALL - 15; len <= VMC_PKT_MAX; len += 7)
		assert_int_equal(get_forged(r, (struct vmc_pkt){ .len = len }, SMALL), -EPROTO);
	/* what wraps when it is rounded up */
	for (len = UINT32_MAX; len > UINT32_MAX - 64; len--)
		assert_int_equal(get_forged(r, (struct vmc_pkt){ .len = len }, SMALL), -EPROTO);
	assert_int_equal(get_forged(r, (struct vmc_pkt){ .len = 0 }, SMALL), -EPROTO);
	assert_int_equal(get_forged(r, (struct vmc_pkt){ .len = 19 }, SMALL), -EPROTO);
	assert_int_equal(get_forged(r, (struct vmc_pkt){ .len = 1u << 31 | 100 }, SMALL), -EPROTO);
}

/* What vmc_pkt_ok() refuses is not handed out, whatever else is right. */
static void test_bad_headers(void **state)
{
	static const struct vmc_pkt good = { .len = 1400 };
	static const struct vmc_pkt bad[] = {
		{ .len = 1400, .source = 32 },
		{ .len = 1400, .source = UINT16_MAX },
		{ .len = 1400, .flags = 16 },
		{ .len = 1400, .flags = 0x8000 },
		{ .len = 1400, .gso_size = 600 },
		{ .len = 1400, .gso_size = 600, .flags = VMC_PKT_GSO_UDP },
		{ .len = 1400, .gso_size = 600, .flags = VMC_PKT_GSO_TCP },
		{ .len = 1400, .gso_size = 600, .flags = VMC_PKT_FLAGS },
		{ .len = 1400, .gso_size = 0, .flags = VMC_PKT_GSO_UDP | VMC_PKT_CSUM_BLANK },
		{ .len = 1400, .gso_size = 499, .flags = VMC_PKT_GSO_TCP | VMC_PKT_CSUM_BLANK },
		{ .len = 1400, .zero = { 1 } },
		{ .len = 1400, .zero = { 0, 1 } },
		{ .len = 1400, .zero = { 0, 0, 0x8000 } },
	};
	struct ring *r = *state;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(vmc_pkt_ok(&bad[i]));
		assert_int_equal(get_forged(r, bad[i], 1416), -EPROTO);
		assert_int_equal(get_forged(r, bad[i], SMALL), -EPROTO);
		assert_int_equal(get_forged(r, good, 1416), 1400);
	}
}

static void test_impossible_index(void **state)
{
	const struct vmc_pkt p = { .len = 100 };
	struct ring *r = *state;
	struct vmc_pkt got;

	start(r, SMALL, 10000);
	assert_int_equal(produce(r, &p, 1), 0);
	consume(r, &p, 1);
	memset(&got, 0x5a, sizeof(got));
	r->hdr.prod = (10120ull + SMALL + 1) << 1;	/* more than the ring holds */
	assert_int_equal(vmc_pkt_get(&r->c, r->data, &got), -EPROTO);
	assert_int_equal(got.len, 0x5a5a5a5a);
	assert_get(r, -EPROTO);
	r->hdr.prod = 10119ull << 1;			/* back */
	assert_get(r, -EPROTO);
	r->hdr.prod = 0;
	assert_get(r, -EPROTO);
	r->hdr.prod = UINT64_MAX;
	assert_get(r, -EPROTO);
	r->hdr.prod = 10119ull << 1 | VMC_RING_CLOSED;
	assert_get(r, -EPROTO);
	r->hdr.prod = 10120ull << 1;			/* as it was */
	assert_get(r, 0);
}

/* The end is final: what a producer adds to a ring that it closed is not there. */
static void test_closed_is_final(void **state)
{
	const struct vmc_pkt p = { .len = 100 };
	struct ring *r = *state;

	assert_int_equal(produce(r, &p, 1), 0);
	vmc_ring_prod_close(&r->p);
	consume(r, &p, 1);
	assert_get(r, -EPIPE);
	put(r, &p, 2);
	r->hdr.prod = 2 * 120ull << 1;
	assert_get(r, -EPIPE);
	r->hdr.prod = 0;
	assert_get(r, -EPIPE);
}

/* ------------------------------------------------------------- all together */

static uint32_t rnd_state;

static uint32_t rnd(uint32_t below)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 17;
	rnd_state ^= rnd_state << 5;
	return rnd_state % below;
}

/* Any good header: mostly short packets, some as long as can be. */
static struct vmc_pkt random_pkt(uint32_t ring)
{
	uint32_t max = ring - HDR < VMC_PKT_MAX ? ring - HDR : VMC_PKT_MAX;
	struct vmc_pkt p = { .source = (uint16_t)rnd(VMC_PKT_SOURCES) };

	if (rnd(4))
		max = max < 1500 ? max : 1500;
	p.len = rnd(50) ? VMC_PKT_MIN + rnd(max - VMC_PKT_MIN + 1) : max;
	switch (rnd(4)) {
	case 0:
		p.flags = VMC_PKT_CSUM_GOOD;
		break;
	case 1:
		p.flags = VMC_PKT_CSUM_BLANK | VMC_PKT_GSO_UDP;
		p.gso_size = (uint16_t)(p.len / VMC_PKT_UDP_SEGS_MAX + 1);
		break;
	case 2:
		p.flags = VMC_PKT_CSUM_BLANK;
		if (p.len <= VMC_PKT_TCP_MSS_MIN)
			break;
		p.flags |= VMC_PKT_GSO_TCP;
		p.gso_size = (uint16_t)(VMC_PKT_TCP_MSS_MIN +
					rnd((p.len < UINT16_MAX ? p.len : UINT16_MAX) -
					    VMC_PKT_TCP_MSS_MIN));
		break;
	default:
		break;
	}
	return p;
}

/* The model: the packets that are in the ring, in order, and the bytes they take. */
#define MODEL	(SIZE / 40 + 1)

struct model {
	struct { struct vmc_pkt p; uint32_t seed; } *q;
	uint32_t first, count;
	uint64_t bytes, put;
};

static void model_step(struct ring *r, struct model *m, struct vmc_pkt *p, bool produces)
{
	uint32_t at;

	if (produces) {
		int expected = m->bytes + vmc_pkt_room(p->len) > r->p.size ? -EAGAIN : 0;

		assert_int_equal(produce(r, p, (uint32_t)m->put), expected);
		if (expected)
			return;
		assert_in_range(m->count, 0, MODEL - 1);
		at = (m->first + m->count++) % MODEL;
		m->q[at].p = *p;
		m->q[at].seed = (uint32_t)m->put++;
		m->bytes += vmc_pkt_room(p->len);
		*p = random_pkt(r->p.size);
	} else if (m->count) {
		at = m->first;
		consume(r, &m->q[at].p, m->q[at].seed);
		m->first = (at + 1) % MODEL;
		m->count--;
		m->bytes -= vmc_pkt_room(m->q[at].p.len);
	} else {
		assert_get(r, 0);
	}
}

static void test_model(void **state)
{
	static const uint32_t sizes[] = { SMALL, 4 * SMALL, SIZE };
	struct ring *r = *state;
	struct vmc_pkt p;
	size_t i;

	rnd_state = 2463534242u;
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct model m = { .q = calloc(MODEL, sizeof(*m.q)) };
		uint32_t step, bias = 50;

		assert_non_null(m.q);
		start(r, sizes[i], 8 * rnd(sizes[i]));
		p = random_pkt(sizes[i]);
		for (step = 0; step < 40000; step++) {
			if (!(step % 500))	/* mostly empty for a while, then mostly full */
				bias = 10 + rnd(80);
			model_step(r, &m, &p, rnd(100) < bias);
			assert_int_equal(r->p.pos - r->c.cons, m.bytes);
		}
		assert_true(m.put > 5000);
		vmc_ring_prod_close(&r->p);
		assert_int_equal(produce(r, &p, 0), -EPIPE);
		while (m.count)
			model_step(r, &m, &p, false);
		assert_get(r, -EPIPE);
		free(m.q);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_layout),
		T(test_ok_len),
		T(test_ok_source),
		T(test_ok_flags),
		T(test_ok_zero),
		T(test_ok_plain),
		T(test_ok_gso_udp),
		T(test_ok_gso_tcp),
		T(test_room),
		T(test_none),
		T(test_one),
		T(test_several),
		T(test_full),
		T(test_wrap),
		T(test_wrap_longest),
		T(test_large_positions),
		T(test_producer_closes),
		T(test_consumer_closes),
		T(test_header_is_private),
		T(test_truncated),
		T(test_too_long),
		T(test_bad_headers),
		T(test_impossible_index),
		T(test_closed_is_final),
		T(test_model),
	};

	return cmocka_run_group_tests_name("packet", tests, NULL, NULL);
}
