// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The reader of a packet ring against a writer who owns nothing but the shared
 * memory and uses it at will.
 *
 * Input: 8 bytes start position, one byte for the ring's size, then steps: one
 * byte, and what it needs.
 */
#include "fuzz.h"
#include "vmc_packet.h"

#define HDR	((uint32_t)sizeof(struct vmc_pkt))
#define BUDGET	64u	/* packets in one go, as many as a NAPI instance takes */

struct reader {
	struct vmc_ring_cons c;
	uint8_t *ring;
};

static void copy_in(struct reader *r, uint64_t at, const uint8_t *bytes, uint32_t len)
{
	while (len--)
		r->ring[at++ & (r->c.size - 1)] = *bytes++;
}

/* Clause by clause, not in the words of vmc_pkt_ok(). */
static bool sound(const struct vmc_pkt *p)
{
	bool udp = p->flags & VMC_PKT_GSO_UDP, tcp = p->flags & VMC_PKT_GSO_TCP;
	bool gso_ok = !p->gso_size;

	if (udp || tcp)
		gso_ok = !(udp && tcp) && p->flags & VMC_PKT_CSUM_BLANK && p->gso_size > 0 &&
			 p->gso_size < p->len;
	if (udp && gso_ok)
		gso_ok = p->len < (VMC_PKT_UDP_SEGS_MAX + 1) * (uint32_t)p->gso_size;
	if (tcp && gso_ok)
		gso_ok = p->gso_size >= VMC_PKT_TCP_MSS_MIN;
	return gso_ok && p->len >= VMC_PKT_MIN && p->len <= VMC_PKT_MAX &&
	       p->source < VMC_PKT_SOURCES && p->flags < 16 &&
	       !(p->zero[0] | p->zero[1] | p->zero[2]);
}

/* Is there a reason to refuse what the ring shows, the reader being at @before? */
static bool unsound(const struct reader *r, const struct vmc_ring_cons *before)
{
	uint64_t pos = before->closed ? before->pos : VMC_RING_POS(before->hdr->prod);
	uint64_t avail = pos - before->cons;
	uint8_t header[HDR];
	struct vmc_pkt p;
	uint32_t i;

	if (pos < before->pos || avail > before->size || (avail && avail < HDR))
		return true;
	if (!avail)
		return false;
	for (i = 0; i < HDR; i++)
		header[i] = r->ring[(before->cons + i) & (before->size - 1)];
	memcpy(&p, header, sizeof(p));
	return !sound(&p) || (p.len + 7ull) / 8 * 8 + HDR > avail;
}

/* What must hold after a look at the ring, @before being the state before it. */
static void check_look(const struct reader *r, const struct vmc_ring_cons *before, int ret,
		       const struct vmc_pkt *p)
{
	const struct vmc_ring_cons *c = &r->c;

	FUZZ_CHECK(c->cons == before->cons && c->hdr->cons == c->cons);
	FUZZ_CHECK(c->pos >= before->pos);
	FUZZ_CHECK(c->pos - c->cons <= c->size);
	FUZZ_CHECK(!before->closed || (c->closed && c->pos == before->pos));
	FUZZ_CHECK(ret >= 0 || ret == -EPIPE || ret == -EPROTO);
	FUZZ_CHECK(ret || c->pos == c->cons);
	FUZZ_CHECK(ret != -EPIPE || (c->closed && c->pos == c->cons));
	FUZZ_CHECK(ret != -EPROTO || unsound(r, before));
	if (ret <= 0)
		return;
	FUZZ_CHECK((uint32_t)ret == p->len);
	FUZZ_CHECK(vmc_pkt_ok(p) && sound(p));
	FUZZ_CHECK(vmc_pkt_room(p->len) >= HDR + p->len);
	FUZZ_CHECK(vmc_pkt_room(p->len) <= c->pos - c->cons);
}

/* A packet in memory that is exactly as long, as a receiver would have it. */
static void take(struct reader *r, const struct vmc_pkt *p)
{
	uint8_t *packet = malloc(p->len);
	uint32_t i;

	FUZZ_CHECK(packet);
	vmc_ring_get(&r->c, r->ring, HDR, packet, p->len);
	for (i = 0; i < p->len; i++)
		FUZZ_CHECK(packet[i] == r->ring[(r->c.cons + HDR + i) & (r->c.size - 1)]);
	free(packet);
}

/*
 * Receives what there is, at most a budget. With @in the writer changes the header
 * and its own word as soon as a packet has been looked at.
 */
static void receive(struct reader *r, struct fuzz_input *in)
{
	struct vmc_pkt *p = malloc(sizeof(*p));
	struct vmc_ring_cons before;
	uint64_t begin = r->c.cons;
	uint8_t other[HDR];
	uint32_t n;
	int ret;

	FUZZ_CHECK(p);
	for (n = 0; n < BUDGET; n++) {
		before = r->c;
		memset(p, 0, sizeof(*p));
		ret = vmc_pkt_get(&r->c, r->ring, p);
		check_look(r, &before, ret, p);
		if (ret <= 0)
			break;
		if (in) {
			fuzz_take(in, other, sizeof(other));
			copy_in(r, r->c.cons, other, sizeof(other));
			r->c.hdr->prod = fuzz_u64(in);
		}
		if (!r->c.closed || r->c.hdr->boundary != VMC_PKT_FORGET)
			take(r, p);
		vmc_pkt_advance(&r->c, p);
		FUZZ_CHECK(r->c.cons == before.cons + vmc_pkt_room((uint32_t)ret));
		FUZZ_CHECK(r->c.hdr->cons == r->c.cons && r->c.cons <= r->c.pos);
		FUZZ_CHECK(r->c.cons - begin >= (n + 1) * (HDR + VMC_PKT_MIN));
	}
	/* a ring that does not change has an end */
	FUZZ_CHECK(in || r->c.cons - begin <= r->c.size);
	free(p);
}

/* A header behind what is there, and as many bytes committed as it asks for. */
static void record(struct reader *r, struct fuzz_input *in)
{
	struct vmc_ring_hdr *hdr = r->c.hdr;
	uint8_t bytes[HDR];
	struct vmc_pkt p;

	fuzz_take(in, bytes, sizeof(bytes));
	memcpy(&p, bytes, sizeof(p));
	copy_in(r, VMC_RING_POS(hdr->prod), bytes, sizeof(bytes));
	hdr->prod += (uint64_t)vmc_pkt_room(p.len) << 1;
}

static void bytes(struct reader *r, struct fuzz_input *in, uint64_t at)
{
	uint8_t buf[UINT8_MAX];
	uint8_t len = fuzz_u8(in);

	fuzz_take(in, buf, len);
	copy_in(r, at, buf, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct vmc_ring_hdr *hdr = calloc(1, sizeof(*hdr));
	struct reader r;
	uint64_t start;
	uint32_t len;

	start = fuzz_u64(&in) >> 1;
	len = VMC_RING_MIN_SIZE << fuzz_u8(&in) % 6;
	r.ring = malloc(len);
	FUZZ_CHECK(hdr && r.ring);
	memset(r.ring, 0, len);
	vmc_ring_cons_init(&r.c, hdr, len);
	hdr->prod = start << 1;
	hdr->cons = r.c.cons = r.c.pos = start;

	while (in.left) {
		switch (fuzz_u8(&in) % 11) {
		case 0:		/* the whole word */
			hdr->prod = fuzz_u64(&in);
			break;
		case 1:		/* a step ahead */
			hdr->prod += (uint64_t)fuzz_u16(&in) << 1;
			break;
		case 2:
			hdr->prod ^= VMC_RING_CLOSED;
			break;
		case 3:		/* bytes at the reader's position */
			bytes(&r, &in, r.c.cons);
			break;
		case 4:		/* bytes anywhere */
			bytes(&r, &in, fuzz_u16(&in));
			break;
		case 5:
			fuzz_take(&in, hdr, sizeof(*hdr));
			hdr->cons = r.c.cons;
			break;
		case 6:
			if (!vmc_ring_cons_close(&r.c))
				FUZZ_CHECK(r.c.closed);
			break;
		case 7:
			record(&r, &in);
			break;
		case 8:
			hdr->boundary ^= VMC_PKT_FORGET;
			break;
		case 9:
			receive(&r, &in);
			break;
		default:
			receive(&r, NULL);
			break;
		}
	}
	receive(&r, NULL);
	free(r.ring);
	free(hdr);
	return 0;
}
