// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Both sides of a byte ring, each against another side that writes anything
 * into the header at any moment. Neither may ever touch memory outside the
 * ring, believe an index that goes back, or report more than the ring holds.
 *
 * Input: one byte size, 8 bytes start position, then steps.
 */
#include "fuzz.h"
#include "vmc_ring.h"

struct side {
	struct vmc_ring_hdr *hdr;
	uint8_t *data;
	bool broken;	/* saw -EPROTO: not to be used any more */
};

static void produce(struct side *s, struct vmc_ring_prod *p, uint32_t want)
{
	static const uint8_t bytes[VMC_RING_MIN_SIZE * 4];
	struct vmc_ring_prod before = *p;
	int space = vmc_ring_prod_space(p, want), ret;

	FUZZ_CHECK(space <= (int)p->size);
	if (space < 0) {
		FUZZ_CHECK(space == (before.closed ? -EPIPE : -EPROTO));
		s->broken |= space == -EPROTO;
		return;
	}
	FUZZ_CHECK(p->cons >= before.cons && p->cons <= p->pos);
	FUZZ_CHECK(p->pos - p->cons <= p->size);
	if (want > (uint32_t)space)
		want = (uint32_t)space;
	vmc_ring_put(p, s->data, 0, bytes, want);
	ret = vmc_ring_prod_commit(p, want);
	FUZZ_CHECK(ret == 0 || ret == -EPIPE || ret == -EPROTO);
	FUZZ_CHECK(p->pos == before.pos + (ret ? 0 : want));
	FUZZ_CHECK(!ret || p->closed);
	s->broken |= ret == -EPROTO;
	vmc_ring_prod_notify(p);
}

static void consume(struct side *s, struct vmc_ring_cons *c, uint32_t want)
{
	static uint8_t bytes[VMC_RING_MIN_SIZE * 4];
	struct vmc_ring_cons before = *c;
	int avail = vmc_ring_cons_avail(c);

	FUZZ_CHECK(avail <= (int)c->size);
	FUZZ_CHECK(c->pos >= before.pos && c->cons == before.cons);
	FUZZ_CHECK(c->pos - c->cons <= c->size);
	FUZZ_CHECK(!before.closed || (c->closed && c->pos == before.pos));
	if (avail < 0) {
		FUZZ_CHECK(avail == -EPROTO || (avail == -EPIPE && c->closed));
		s->broken |= avail == -EPROTO;
		return;
	}
	if (want > (uint32_t)avail)
		want = (uint32_t)avail;
	vmc_ring_get(c, s->data, 0, bytes, want);
	vmc_ring_cons_advance(c, want);
	vmc_ring_cons_notify(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	uint32_t ring_size = VMC_RING_MIN_SIZE << fuzz_u8(&in) % 3;
	uint64_t start = fuzz_u64(&in) >> 2;	/* what no ring will ever have carried */
	struct vmc_ring_hdr *hdr = calloc(1, sizeof(*hdr));
	uint8_t *bytes = calloc(1, ring_size);
	struct side ps = { hdr, bytes, false }, cs = { hdr, bytes, false };
	struct vmc_ring_prod p;
	struct vmc_ring_cons c;

	FUZZ_CHECK(hdr && bytes);
	vmc_ring_prod_init(&p, hdr, ring_size);
	vmc_ring_cons_init(&c, hdr, ring_size);
	hdr->prod = start << 1;
	hdr->cons = p.pos = p.cons = c.pos = c.cons = start;

	while (in.left) {
		uint8_t step = fuzz_u8(&in) % 16;

		if ((step == 2 || step == 3 || step == 4) && ps.broken)
			continue;
		if (step >= 5 && step <= 8 && cs.broken)
			continue;
		switch (step) {
		case 0:
			hdr->prod = fuzz_u64(&in);
			break;
		case 1:
			hdr->cons = fuzz_u64(&in);
			break;
		case 2:
			produce(&ps, &p, fuzz_u16(&in));
			break;
		case 3:
			vmc_ring_prod_arm(&p, fuzz_u16(&in));
			break;
		case 4:
			vmc_ring_prod_close(&p);
			FUZZ_CHECK(hdr->prod & VMC_RING_CLOSED);
			break;
		case 5:
			consume(&cs, &c, fuzz_u16(&in));
			break;
		case 6:
			vmc_ring_cons_arm(&c);
			break;
		case 7:
			vmc_ring_cons_disarm(&c);
			FUZZ_CHECK(!hdr->cons_wait);
			break;
		case 8:
			if (vmc_ring_cons_close(&c))
				cs.broken = true;
			else
				FUZZ_CHECK(c.closed);
			break;
		case 9:
			hdr->prod += (uint64_t)fuzz_u16(&in) << 1;
			break;
		case 10:
			hdr->cons += fuzz_u16(&in);
			break;
		case 11:
			hdr->prod ^= VMC_RING_CLOSED;
			break;
		case 12:
			hdr->prod_wait = fuzz_u8(&in);
			hdr->cons_wait = fuzz_u8(&in);
			break;
		case 13:	/* a new life */
			vmc_ring_reset(hdr);
			vmc_ring_prod_init(&p, hdr, ring_size);
			vmc_ring_cons_init(&c, hdr, ring_size);
			ps.broken = cs.broken = false;
			break;
		case 14:
			if (!ps.broken)
				produce(&ps, &p, ring_size);
			break;
		default:
			if (!cs.broken)
				consume(&cs, &c, ring_size);
			break;
		}
	}
	free(bytes);
	free(hdr);
	return 0;
}
