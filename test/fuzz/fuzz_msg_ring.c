// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The reader of a message ring against a writer who owns nothing but the
 * shared memory and uses it at will.
 *
 * Input: 8 bytes start position, then steps: one byte, and what it needs.
 */
#include "fuzz.h"
#include "vmc_wire.h"

static void get(struct vmc_ring_cons *c, const uint8_t *ring)
{
	union vmc_any_msg *m = malloc(sizeof(*m));
	struct vmc_ring_cons before = *c;
	int ret;

	FUZZ_CHECK(m);
	memset(m, 0, sizeof(*m));
	ret = vmc_msg_get(c, ring, m);
	if (ret > 0) {
		FUZZ_CHECK(ret == m->h.len);
		FUZZ_CHECK(vmc_msg_len_ok(m->h.type, m->h.len));
		FUZZ_CHECK(c->cons - before.cons == (unsigned int)ret);
		FUZZ_CHECK(c->hdr->cons == c->cons);
	} else {
		FUZZ_CHECK(ret == 0 || ret == -EPIPE || ret == -EPROTO);
		FUZZ_CHECK(c->cons == before.cons);
		FUZZ_CHECK(ret != -EPIPE || c->closed);
	}
	FUZZ_CHECK(c->pos >= before.pos);
	FUZZ_CHECK(c->pos - c->cons <= c->size);
	FUZZ_CHECK(!before.closed || (c->closed && c->pos == before.pos));
	free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct vmc_ring_hdr *hdr = calloc(1, sizeof(*hdr));
	uint8_t *ring = malloc(VMC_MSG_RING_SIZE);
	struct vmc_ring_cons c;
	uint64_t start;
	uint16_t at, len;

	FUZZ_CHECK(hdr && ring);
	memset(ring, 0, VMC_MSG_RING_SIZE);
	vmc_ring_cons_init(&c, hdr, VMC_MSG_RING_SIZE);
	start = fuzz_u64(&in) >> 1;
	hdr->prod = start << 1;
	hdr->cons = c.cons = c.pos = start;

	while (in.left) {
		switch (fuzz_u8(&in) % 8) {
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
			at = (uint16_t)(c.cons & (VMC_MSG_RING_SIZE - 1));
			for (len = fuzz_u8(&in); len; len--, at++)
				ring[at % VMC_MSG_RING_SIZE] = fuzz_u8(&in);
			break;
		case 4:		/* bytes anywhere */
			at = fuzz_u16(&in);
			for (len = fuzz_u8(&in); len; len--, at++)
				ring[at % VMC_MSG_RING_SIZE] = fuzz_u8(&in);
			break;
		case 5:
			fuzz_take(&in, hdr, sizeof(*hdr));
			hdr->cons = c.cons;
			break;
		case 6:
			if (!vmc_ring_cons_close(&c))
				FUZZ_CHECK(c.closed);
			break;
		default:
			get(&c, ring);
			break;
		}
	}
	get(&c, ring);
	free(ring);
	free(hdr);
	return 0;
}
