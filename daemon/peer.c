// SPDX-License-Identifier: GPL-2.0-or-later
#include "peer.h"

#include "chan.h"
#include "link.h"
#include "policy.h"
#include "prepare.h"
#include "vmcd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct vmc_peer *vmc_peer_find(struct vmc_guest *g, const struct vmc_guest *peer)
{
	struct vmc_peer *p;

	TAILQ_FOREACH(p, &g->peers, entry)
		if (p->guest == peer)
			return p;
	return NULL;
}

static void send_add(struct vmc_guest *g, const struct vmc_peer *p)
{
	struct vmc_l_peer_add m = {
		.h = { .type = VMC_L_PEER_ADD, .len = sizeof(m) },
		.domid = p->guest->domid,
		.nr_macs = p->nr_macs,
	};

	memcpy(m.mac, p->mac, p->nr_macs * sizeof(p->mac[0]));
	vmc_link_send(g, &m.h);
}

static void send_del(struct vmc_guest *g, uint32_t domid, enum vmc_reason reason)
{
	struct vmc_l_peer_del m = {
		.h = { .type = VMC_L_PEER_DEL, .len = sizeof(m) },
		.domid = domid,
		.reason = reason,
	};

	vmc_link_send(g, &m.h);
}

static void peer_free(struct vmc_guest *g, struct vmc_peer *p)
{
	TAILQ_REMOVE(&g->peers, p, entry);
	free(p);
}

static bool mac_claimed(struct vmc_guest *g, const struct vmc_vif *vif)
{
	for (unsigned int i = 0; i < g->vifs.count; i++)
		if (!memcmp(g->vifs.vif[i].mac, vif->mac, sizeof(vif->mac)) &&
		    !strcmp(g->vifs.vif[i].bridge, vif->bridge))
			return true;
	return false;
}

/* One guest that moves from one domain of this host to another: the first has no peers any more. */
static bool moving(const struct vmc_guest *a, const struct vmc_guest *b)
{
	return (vmc_prepare_has(a) || vmc_prepare_has(b)) &&
	       !memcmp(a->uuid, b->uuid, sizeof(a->uuid));
}

/* A MAC that two guests of one bridge have says nothing about who is meant. */
static void mark_duplicates(struct vmcd *d)
{
	struct vmc_guest *g, *o;

	TAILQ_FOREACH(g, &d->guests, entry) {
		for (unsigned int i = 0; i < g->vifs.count; i++) {
			struct vmc_vif *vif = &g->vifs.vif[i];
			bool dup = false;

			TAILQ_FOREACH(o, &d->guests, entry) {
				if (o != g && !moving(o, g) && mac_claimed(o, vif)) {
					dup = true;
					break;
				}
			}
			if (dup && !vif->dup)
				vmc_guest_log(g, VMC_LOG_WARNING, "peer",
					      "%02x:%02x:%02x:%02x:%02x:%02x on %s is d%u's too: neither is reached by it",
					      vif->mac[0], vif->mac[1], vif->mac[2],
					      vif->mac[3], vif->mac[4], vif->mac[5],
					      vif->bridge, o->domid);
			vif->dup = dup;
		}
	}
}

static void update_pair(struct vmc_guest *g, struct vmc_guest *other)
{
	struct vmc_peer *p = vmc_peer_find(g, other);
	uint8_t mac[VMC_MACS_MAX][6] = { 0 };
	enum vmc_reason reason;
	unsigned int n;
	const char *why;

	if (!vmc_policy_may_pair(g, other, &why, &reason)) {
		if (p) {
			vmc_guest_log(g, VMC_LOG_INFO, "peer", "d%u is no peer any more: %s",
				      other->domid, why);
			vmc_chan_close_pair(g, other, reason);
			send_del(g, other->domid, reason);
			peer_free(g, p);
		}
		return;
	}
	n = vmc_policy_macs(g, other, mac);
	if (p && p->nr_macs == n && !memcmp(p->mac, mac, sizeof(mac)))
		return;
	if (!p) {
		p = calloc(1, sizeof(*p));
		if (!p) {
			vmc_guest_log(g, VMC_LOG_ERROR, "peer", "no memory for a peer");
			return;
		}
		p->guest = other;
		TAILQ_INSERT_TAIL(&g->peers, p, entry);
		vmc_guest_log(g, VMC_LOG_INFO, "peer", "d%u is a peer", other->domid);
	}
	p->nr_macs = n;
	memcpy(p->mac, mac, sizeof(mac));
	send_add(g, p);
}

void vmc_peer_update(struct vmcd *d)
{
	struct vmc_guest *g, *o;

	mark_duplicates(d);
	TAILQ_FOREACH(g, &d->guests, entry) {
		if (!vmc_link_ready(g))
			continue;
		vmc_link_settings(g);
		TAILQ_FOREACH(o, &d->guests, entry)
			if (o != g)
				update_pair(g, o);
	}
	vmc_chan_check_peers(d);
}

void vmc_peer_forget(struct vmc_guest *g, enum vmc_reason reason)
{
	struct vmc_guest *o;
	struct vmc_peer *p;

	while ((p = TAILQ_FIRST(&g->peers)))
		peer_free(g, p);
	TAILQ_FOREACH(o, &g->d->guests, entry) {
		p = vmc_peer_find(o, g);
		if (p) {
			send_del(o, g->domid, reason);
			peer_free(o, p);
		}
	}
}
