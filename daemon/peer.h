/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What each guest was told about its peers. */
#ifndef VMC_PEER_H
#define VMC_PEER_H

#include "guest.h"

struct vmc_peer {
	TAILQ_ENTRY(vmc_peer) entry;
	struct vmc_guest *guest;	/* the peer */
	unsigned int nr_macs;
	uint8_t mac[VMC_MACS_MAX][6];
	uint64_t not_before_ms;		/* a channel failed: no new attempt until then */
};

/* Brings what guests were told up to date: PEER_ADD, PEER_DEL, channels that may no longer be. */
void vmc_peer_update(struct vmcd *d);

/* @g is no longer anybody's peer; its peers are told @reason. */
void vmc_peer_forget(struct vmc_guest *g, enum vmc_reason reason);

/* The entry if @g was told of @peer, or NULL. */
struct vmc_peer *vmc_peer_find(struct vmc_guest *g, const struct vmc_guest *peer);

#endif /* VMC_PEER_H */
