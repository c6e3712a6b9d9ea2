// SPDX-License-Identifier: GPL-2.0-or-later
/* vmc_wire.h: legal lengths, and whole messages through a message ring. */
#include "test.h"

#include "vmc_wire.h"
#include "vmc_xenstore.h"

struct ring {
	struct vmc_ring_hdr hdr;
	struct vmc_ring_prod p;
	struct vmc_ring_cons c;
	uint8_t data[VMC_MSG_RING_SIZE];
};

static int setup(void **state)
{
	struct ring *r = NULL;

	if (posix_memalign((void **)&r, 4096, sizeof(*r)))
		return -1;
	memset(r, 0, sizeof(*r));
	vmc_ring_prod_init(&r->p, &r->hdr, VMC_MSG_RING_SIZE);
	vmc_ring_cons_init(&r->c, &r->hdr, VMC_MSG_RING_SIZE);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

/* The protocol's lengths as numbers: a change of a struct has to show here. */
static const struct {
	uint16_t type, len;
} legal[] = {
	{ 0x0001, 32 },  { 0x0002, 48 },  { 0x0003, 16 },  { 0x0004, 40 },  { 0x0010, 16 },  { 0x0011, 24 },
	{ 0x0012, 24 },  { 0x0013, 16 },  { 0x0020, 8 },
	{ 0x8001, 64 },  { 0x8002, 16 },  { 0x8003, 8 },   { 0x8004, 8 },   { 0x8010, 16 },
	{ 0x8011, 24 },  { 0x8012, 24 },  { 0x8013, 8 },   { 0x8014, 16 },  { 0x8020, 128 },
	{ 0x8021, 296 }, { 0x4001, 80 },  { 0x4002, 32 },  { 0x4003, 16 },
	{ 0x4010, 144 }, { 0x4011, 8 },   { 0x4012, 8 },   { 0x4013, 8 },   { 0x4020, 16 },
	{ 0x4021, 16 },  { 0x4022, 16 },  { 0x4023, 32 },  { 0x4024, 16 },  { 0x4025, 16 },
	{ 0x4026, 16 },
};
#define NR_LEGAL (sizeof(legal) / sizeof(legal[0]))

static uint16_t legal_len(uint32_t type)
{
	size_t i;

	for (i = 0; i < NR_LEGAL; i++)
		if (legal[i].type == type)
			return legal[i].len;
	return 0;
}

/* Each of the 2^16 types with each length that fits a message and beyond. */
static void test_lengths(void **state)
{
	uint32_t type, len;

	(void)state;
	for (type = 0; type <= UINT16_MAX; type++) {
		uint16_t right = legal_len(type);

		for (len = 0; len <= VMC_MSG_MAX + 8; len++)
			if (vmc_msg_len_ok((uint16_t)type, (uint16_t)len) !=
			    (right && len == right))
				fail_msg("type %#x, length %u", type, len);
		assert_false(vmc_msg_len_ok((uint16_t)type, UINT16_MAX));
	}
}

static void test_lengths_fit(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < NR_LEGAL; i++) {
		assert_in_range(legal[i].len, sizeof(struct vmc_msg), VMC_MSG_MAX);
		assert_int_equal(legal[i].len % 8, 0);
	}
	assert_int_equal(sizeof(union vmc_any_msg), VMC_MSG_MAX);
	assert_true(vmc_ring_size_ok(VMC_MSG_RING_SIZE));
}

static void test_layout(void **state)
{
	(void)state;
#define AT(type, member, off) assert_int_equal(offsetof(struct type, member), off)
	AT(vmc_msg, type, 0);
	AT(vmc_msg, len, 2);
	AT(vmc_msg, id, 4);
	AT(vmc_l_attach, epoch, 16);
	AT(vmc_l_attach, domid, 24);
	AT(vmc_l_settings, max_bytes, 8);
	AT(vmc_l_settings, packets, 32);
	AT(vmc_l_hello, epoch, 8);
	AT(vmc_l_hello, channels, 24);
	AT(vmc_l_hello, driver, 32);
	AT(vmc_l_peer_add, mac, 16);
	AT(vmc_l_peer_add, reserved, 40);
	AT(vmc_l_chan_half, port, 12);
	AT(vmc_l_chan_half, ring_ref, 16);
	AT(vmc_l_stats_chan, bytes_granted, 40);
	AT(vmc_l_stats_chan, ended, 88);
	AT(vmc_l_stats_chan, tx_packets, 96);
	AT(vmc_l_stats_chan, rx_packets, 104);
	AT(vmc_l_stats_chan, tx_dropped, 112);
	AT(vmc_l_stats_chan, rx_dropped, 120);
	AT(vmc_l_stats_end, hooked, 16);
	AT(vmc_l_stats_end, reasons, 40);
	AT(vmc_tuple, sport, 32);
	AT(vmc_proof_input, tuple, 12);
	AT(vmc_proof_input, nonce, 48);
	AT(vmc_c_offer, tuple, 8);
	AT(vmc_c_offer, want_bytes, 44);
	AT(vmc_c_offer, nonce, 48);
	AT(vmc_c_offer, proof, 64);
	AT(vmc_c_accept, proof, 16);
	AT(vmc_c_ring_add, pages, 8);
	AT(vmc_c_ring_add, ref, 16);
	AT(vmc_c_pkt_open, want_bytes, 8);
	AT(vmc_c_pkt_open, zero, 12);
	AT(vmc_c_pkt_answer, ring_id, 8);
	AT(vmc_c_pkt_answer, reason, 12);
	AT(vmc_c_addr_ask, slot, 8);
	AT(vmc_c_addr_ask, zero, 12);
	AT(vmc_c_addr_ask, addr, 16);
	AT(vmc_c_addr_answer, slot, 8);
	AT(vmc_c_addr_answer, reason, 12);
	AT(vmc_mark, magic, 0);
	AT(vmc_mark, chan, 4);
	AT(vmc_mark, id, 8);
	AT(vmc_mark, slot, 12);
	AT(vmc_mark, queues, 16);
	AT(vmc_chan_page, rung, 256);
	AT(vmc_chan_page, data, 512);
	AT(vmc_chan_page, space, 640);
#undef AT
}

static void test_mark(void **state)
{
	(void)state;
	assert_int_equal(sizeof(struct vmc_mark), 20);
	assert_int_equal(strlen(VMC_MARK_MAGIC), sizeof(((struct vmc_mark *)NULL)->magic));
	assert_string_equal(VMC_MARK_MAGIC, "VMC1");
	assert_int_equal(VMC_MARK_ETHERTYPE, 0x88b5);
}

static void test_reason_names(void **state)
{
	static const char *const names[] = VMC_REASON_NAMES;
	size_t i, j;

	(void)state;
	assert_int_equal(sizeof(names) / sizeof(names[0]), VMC_R_MAX);
	for (i = 0; i < VMC_R_MAX; i++) {
		assert_int_equal(strspn(names[i], "abcdefghijklmnopqrstuvwxyz-"), strlen(names[i]));
		for (j = 0; j < i; j++)
			assert_string_not_equal(names[i], names[j]);
	}
	assert_string_equal(names[VMC_R_NONE], "none");
	assert_string_equal(names[VMC_R_PROOF], "proof");
	assert_string_equal(names[VMC_R_PEER_GONE], "peer-gone");
	assert_string_equal(names[VMC_R_TIMEOUT], "timeout");
	assert_string_equal(names[VMC_R_OPERATOR], "operator");
}

static void fill(union vmc_any_msg *m, size_t which, uint32_t id)
{
	uint16_t i;

	memset(m, 0, sizeof(*m));
	m->h.type = legal[which % NR_LEGAL].type;
	m->h.len = legal[which % NR_LEGAL].len;
	m->h.id = id;
	for (i = sizeof(m->h); i < m->h.len; i++)
		m->raw[i] = (uint8_t)(id * 7 + i);
}

/* Every type in turn, often enough to wrap at many offsets, ring mostly full. */
static void test_round_trip(void **state)
{
	struct ring *r = *state;
	union vmc_any_msg m, got;
	uint32_t put = 0, taken = 0;
	int ret;

	while (taken < 5000) {
		for (;;) {
			fill(&m, put, put);
			ret = vmc_msg_put(&r->p, r->data, &m.h);
			if (ret == -EAGAIN)
				break;
			assert_int_equal(ret, 0);
			put++;
		}
		assert_true(vmc_ring_prod_space(&r->p, m.h.len) < m.h.len);
		do {
			memset(&got, 0, sizeof(got));
			ret = vmc_msg_get(&r->c, r->data, &got);
			fill(&m, taken, taken);
			assert_int_equal(ret, m.h.len);
			assert_memory_equal(&m, &got, sizeof(m));
			taken++;
		} while (taken % 3 && taken < put);
	}
	while (taken < put) {
		fill(&m, taken++, 0);
		assert_int_equal(vmc_msg_get(&r->c, r->data, &got), m.h.len);
	}
	assert_int_equal(vmc_msg_get(&r->c, r->data, &got), 0);
}

static void test_closed(void **state)
{
	struct ring *r = *state;
	union vmc_any_msg m, got;

	fill(&m, 0, 1);
	assert_int_equal(vmc_msg_put(&r->p, r->data, &m.h), 0);
	vmc_ring_prod_close(&r->p);
	assert_int_equal(vmc_msg_put(&r->p, r->data, &m.h), -EPIPE);
	assert_int_equal(vmc_msg_get(&r->c, r->data, &got), m.h.len);
	assert_int_equal(vmc_msg_get(&r->c, r->data, &got), -EPIPE);
}

static void test_closed_by_reader(void **state)
{
	struct ring *r = *state;
	union vmc_any_msg m, got;

	fill(&m, 0, 1);
	assert_int_equal(vmc_ring_cons_close(&r->c), 0);
	assert_int_equal(vmc_msg_put(&r->p, r->data, &m.h), -EPIPE);
	assert_int_equal(vmc_msg_get(&r->c, r->data, &got), -EPIPE);
}

/* A message with this header, in a ring that claims @avail bytes. */
static int get_forged(struct ring *r, uint16_t type, uint16_t len, uint32_t avail)
{
	struct vmc_msg h = { .type = type, .len = len, .id = 3 };
	union vmc_any_msg got;
	uint64_t before;
	int ret;

	vmc_ring_reset(&r->hdr);
	vmc_ring_prod_init(&r->p, &r->hdr, VMC_MSG_RING_SIZE);
	vmc_ring_cons_init(&r->c, &r->hdr, VMC_MSG_RING_SIZE);
	vmc_ring_put(&r->p, r->data, 0, &h, sizeof(h));
	assert_int_equal(vmc_ring_prod_commit(&r->p, avail), 0);
	before = r->c.cons;
	memset(&got, 0x5a, sizeof(got));
	ret = vmc_msg_get(&r->c, r->data, &got);
	if (ret < 0) {	/* nothing is consumed, nothing handed out */
		size_t i;

		assert_int_equal(r->c.cons, before);
		for (i = 0; i < sizeof(got); i++)
			assert_int_equal(got.raw[i], 0x5a);
	}
	return ret;
}

static void test_corrupt_headers(void **state)
{
	struct ring *r = *state;
	uint32_t type, len;
	size_t i;

	for (i = 0; i < NR_LEGAL; i++) {
		uint16_t t = legal[i].type, l = legal[i].len;

		assert_int_equal(get_forged(r, t, l, l), l);
		assert_int_equal(get_forged(r, t, l, VMC_MSG_RING_SIZE), l);
		/* committed short, or in part only */
		assert_int_equal(get_forged(r, t, l, l - 1u), -EPROTO);
		assert_int_equal(get_forged(r, t, l, 7), -EPROTO);
		assert_int_equal(get_forged(r, t, l, 1), -EPROTO);
		for (len = 0; len < 300; len++)
			if (len != l)
				assert_int_equal(get_forged(r, t, (uint16_t)len, 512), -EPROTO);
		assert_int_equal(get_forged(r, t, UINT16_MAX, VMC_MSG_RING_SIZE), -EPROTO);
		assert_int_equal(get_forged(r, t, (uint16_t)(l | 0x8000), VMC_MSG_RING_SIZE),
				 -EPROTO);
	}
	for (type = 0; type <= UINT16_MAX; type++)
		if (!legal_len(type))
			assert_int_equal(get_forged(r, (uint16_t)type, 16, 64), -EPROTO);
}

static void test_impossible_index(void **state)
{
	struct ring *r = *state;
	union vmc_any_msg m, got;

	fill(&m, 0, 1);
	assert_int_equal(vmc_msg_put(&r->p, r->data, &m.h), 0);
	r->hdr.prod = (VMC_MSG_RING_SIZE + 1ull) << 1;
	assert_int_equal(vmc_msg_get(&r->c, r->data, &got), -EPROTO);
	assert_int_equal(vmc_msg_put(&r->p, r->data, &m.h), -EPROTO);

	vmc_ring_reset(&r->hdr);
	vmc_ring_prod_init(&r->p, &r->hdr, VMC_MSG_RING_SIZE);
	while (!vmc_msg_put(&r->p, r->data, &m.h))
		;
	r->hdr.cons = VMC_MSG_RING_SIZE + 1;
	assert_int_equal(vmc_msg_put(&r->p, r->data, &m.h), -EPROTO);
}

/* The header that was checked is the one handed out, at every offset. */
static void test_header_across_the_wrap(void **state)
{
	struct ring *r = *state;
	union vmc_any_msg m, got;
	uint32_t start;

	for (start = VMC_MSG_RING_SIZE - 260; start <= VMC_MSG_RING_SIZE; start++) {
		vmc_ring_reset(&r->hdr);
		vmc_ring_prod_init(&r->p, &r->hdr, VMC_MSG_RING_SIZE);
		vmc_ring_cons_init(&r->c, &r->hdr, VMC_MSG_RING_SIZE);
		assert_int_equal(vmc_ring_prod_commit(&r->p, start), 0);
		assert_int_equal(vmc_ring_cons_avail(&r->c), start);
		vmc_ring_cons_advance(&r->c, start);
		fill(&m, start, start);
		memset(&got, 0, sizeof(got));
		assert_int_equal(vmc_msg_put(&r->p, r->data, &m.h), 0);
		assert_int_equal(vmc_msg_get(&r->c, r->data, &got), m.h.len);
		assert_memory_equal(&m, &got, sizeof(m));
	}
}

static void test_xenstore_names(void **state)
{
	(void)state;
	assert_string_equal(VMC_XS_TYPE, "vmc");
	assert_string_equal(VMC_XS_HANDLE, "0");
	assert_string_equal(VMC_XS_RING_REF, "ring-ref");
	assert_int_equal(VMC_LINK_PAGES, 2 * VMC_MSG_RING_PAGES);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_lengths),
		T(test_lengths_fit),
		T(test_layout),
		T(test_mark),
		T(test_reason_names),
		T(test_round_trip),
		T(test_closed),
		T(test_closed_by_reader),
		T(test_corrupt_headers),
		T(test_impossible_index),
		T(test_header_across_the_wrap),
		T(test_xenstore_names),
	};

	return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
