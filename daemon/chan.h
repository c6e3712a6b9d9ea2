/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The broker of channels: PROTOCOL.md, section 3. vmcd is between the two
 * sides of a channel while it opens and while it closes, and out of the way
 * while it is up.
 */
#ifndef VMC_CHAN_H
#define VMC_CHAN_H

#include "guest.h"

enum vmc_chan_phase {
	VMC_PHASE_RECOVER,	/* one side has reported it after a restart of vmcd */
	VMC_PHASE_PREPARE,	/* waits for the first side's OFFER */
	VMC_PHASE_CONNECT,	/* waits for the second side's ACCEPT */
	VMC_PHASE_COMPLETE,	/* waits for the first side's UP */
	VMC_PHASE_UP,
	VMC_PHASE_CLOSING,	/* waits for CLOSED from each side that knows of it */
};

struct vmc_chan;

/* What a guest last said about its end; its word only. */
struct vmc_chan_stats {
	uint32_t query;		/* that it belongs to; 0: never */
	uint32_t tx_streams;
	uint32_t rx_streams;
	uint32_t rings;
	uint32_t grants;
	uint64_t bytes_granted;
	uint64_t tx_bytes;
	uint64_t rx_bytes;
	uint64_t events_tx;
	uint64_t events_rx;
	uint64_t takeovers;
	uint64_t ended;
	uint64_t tx_packets;
	uint64_t rx_packets;
	uint64_t tx_dropped;
	uint64_t rx_dropped;
	bool packets_moved;	/* some came or went since what it had said before */
};

struct vmc_chan_end {
	TAILQ_ENTRY(vmc_chan_end) entry;	/* in its guest's chan_ends, if guest */
	struct vmc_chan *chan;
	struct vmc_guest *guest;	/* NULL: dead, or not (yet) known to have it */
	uint32_t domid;
	bool asked;			/* it sent CHAN_REQ while the channel was opening */
	bool told;			/* it knows of the channel */
	bool closed;			/* it has answered CLOSED */
	bool claimed_up;		/* RECOVER: it says that the channel is up */
	unsigned int silent;		/* CLOSING: looks in a row at which it ran and had not answered */
	struct vmc_chan_stats stats;
};

struct vmc_chan {
	TAILQ_ENTRY(vmc_chan) entry;
	struct vmcd *d;
	uint32_t id;
	enum vmc_chan_phase phase;
	struct vmc_chan_end end[2];	/* 0: the first side, which asked */
	int again;			/* CLOSING: side that asked for a new one, or -1 */
	enum vmc_reason reason;		/* CLOSING */
	struct event *timer;
};

/* From the link, each with a message of a checked length. Return 0 or -EPROTO. */
int vmc_chan_on_state(struct vmc_guest *g, const union vmc_any_msg *m);
int vmc_chan_on_req(struct vmc_guest *g, const union vmc_any_msg *m);
int vmc_chan_on_offer(struct vmc_guest *g, const union vmc_any_msg *m);
int vmc_chan_on_accept(struct vmc_guest *g, const union vmc_any_msg *m);
int vmc_chan_on_up(struct vmc_guest *g, const union vmc_any_msg *m);
int vmc_chan_on_closed(struct vmc_guest *g, const union vmc_any_msg *m);
int vmc_chan_on_close(struct vmc_guest *g, const union vmc_any_msg *m);

/* @g has listed all its channels: those whose two ends don't agree are closed. */
void vmc_chan_guest_ready(struct vmc_guest *g);

/* @g is dead or has lost its link; the other sides are told. */
void vmc_chan_guest_lost(struct vmc_guest *g, enum vmc_reason reason);

/* Closes the channel of a pair, if there is one. */
void vmc_chan_close_pair(struct vmc_guest *a, struct vmc_guest *b, enum vmc_reason reason);

/* Closes channels between guests that are not peers (any more). */
void vmc_chan_check_peers(struct vmcd *d);

/* The guest's end of its channel @id, or NULL. */
struct vmc_chan_end *vmc_chan_end(struct vmc_guest *g, uint32_t id);

/* Forgets all without a word to anyone. */
void vmc_chan_free_all(struct vmcd *d);

static inline struct vmc_chan_end *vmc_chan_other(struct vmc_chan_end *e)
{
	return &e->chan->end[e == &e->chan->end[0]];
}

#endif /* VMC_CHAN_H */
