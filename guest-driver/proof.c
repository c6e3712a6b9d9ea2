// SPDX-License-Identifier: GPL-2.0-only
/* Proof that a guest holds one end of a connection; PROTOCOL.md, "Proof". */
#include <crypto/blake2s.h>

#include "vmc.h"

/*
 * @kind: 1 OFFER, 2 ACCEPT. @by_us: whether we are the prover. @opener: whether
 * our end opened the connection. Both ends compute the same.
 */
void vmc_proof(const struct vmc_conn *conn, u8 kind, bool by_us, bool opener, u32 offer_id,
	       u32 ring_id, const u8 *nonce, u8 *out)
{
	/* the opener's SYN is counted in its bytes_acked */
	struct vmc_proof_key key = {
		.opener_iss = opener ? conn->iss + 1 : conn->irs,
		.passive_iss = opener ? conn->irs : conn->iss,
	};
	struct vmc_proof_input in = {
		.kind = kind,
		.opener = by_us == opener,
		.offer_id = offer_id,
		.ring_id = ring_id,
	};

	if (opener) {
		in.tuple = conn->tuple;
	} else {
		memcpy(in.tuple.saddr, conn->tuple.daddr, sizeof(in.tuple.saddr));
		memcpy(in.tuple.daddr, conn->tuple.saddr, sizeof(in.tuple.daddr));
		in.tuple.sport = conn->tuple.dport;
		in.tuple.dport = conn->tuple.sport;
	}
	memcpy(in.nonce, nonce, VMC_NONCE_LEN);
	blake2s(out, (const u8 *)&in, (const u8 *)&key, VMC_PROOF_LEN, sizeof(in), sizeof(key));
}
