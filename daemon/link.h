/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The link to one guest: its pages, its port, the messages both ways. */
#ifndef VMC_LINK_H
#define VMC_LINK_H

#include "config.h"
#include "guest.h"
#include "store.h"

struct evbuffer;

enum vmc_link_state {
	VMC_LINK_ATTACHED,	/* ATTACH sent; HELLO comes first */
	VMC_LINK_LISTING,	/* CHAN_STATEs follow until READY */
	VMC_LINK_READY,
};

#define VMC_LINK_QUEUE_MAX	65536u	/* bytes of messages that the guest has not taken */

struct vmc_link {
	struct vmc_guest *g;
	enum vmc_link_state state;
	struct vmc_front front;		/* what was mapped and bound */
	uint32_t version;
	uint32_t port;			/* vmcd's own */
	bool fresh;			/* nobody used the rings before this attach */
	bool masked;			/* the port was pending and is not unmasked yet */
	bool leaving;			/* BYE */
	bool failed;			/* see why; taken down in the deferred step */
	char why[VMC_ERROR_MAX];
	void *pages;
	struct vmc_ring_prod prod;	/* ring 0/1: what the guest reads */
	void *prod_data;
	struct vmc_ring_cons cons;	/* ring 2/3: what vmcd reads */
	const void *cons_data;
	struct evbuffer *queue;
	struct event *more;		/* the guest has more messages than one turn takes */
	struct vmc_settings settings;	/* that the guest was told last, */
	bool settings_known;		/* by this vmcd, or none by any */
	uint32_t announced;		/* CHAN_STATEs in HELLO */
	uint32_t listed;
};

/*
 * Reads what the frontend published, maps and binds it, tells the frontend
 * through the backend's state, and sends ATTACH. On failure nothing is left
 * behind, and @why (VMC_ERROR_MAX bytes) has the reason.
 */
int vmc_link_attach(struct vmc_guest *g, char *why);

/* Unmaps, unbinds, forgets. Tells nobody. No-op without a link. */
void vmc_link_drop(struct vmc_guest *g);

/* Does the frontend still publish what this link was made of? */
bool vmc_link_current(struct vmc_guest *g);

/* Sends or queues; a guest that doesn't take its messages loses its link. */
void vmc_link_send(struct vmc_guest *g, const struct vmc_msg *m);

/* Tells a guest that is ready what it may use, if that is not what it was told last. */
void vmc_link_settings(struct vmc_guest *g);

/*
 * The guest broke the protocol. Marks the link; from here on nothing is read
 * from it or sent on it, and the deferred step takes it down. Always -EPROTO.
 */
int vmc_link_fail(struct vmc_guest *g, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Takes down links that failed or said BYE. */
void vmc_link_reap(struct vmcd *d);

/* A port was notified. */
void vmc_link_event(struct vmcd *d, uint32_t port);

static inline bool vmc_link_alive(const struct vmc_guest *g)
{
	return g->link && !g->link->failed && !g->link->leaving;
}

static inline bool vmc_link_ready(const struct vmc_guest *g)
{
	return vmc_link_alive(g) && g->link->state == VMC_LINK_READY;
}

#endif /* VMC_LINK_H */
