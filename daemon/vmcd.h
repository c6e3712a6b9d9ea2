/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon as a whole: one event loop, one thread.
 *
 * Who calls whom: guest.c follows domains and their XenStore nodes and owns
 * struct vmc_guest; link.c moves messages between vmcd and one guest and hands
 * each to chan.c or stats.c; peer.c tells guests about each other, asking
 * policy.c, which asks config.c, quarantine.c and prepare.c; control.c and api.c
 * serve the operator, events.c those who watch.
 *
 * Nothing that a guest does is acted on in the middle of something else: a link
 * that has to go is only marked (vmc_link_fail), and the deferred step
 * (vmcd_schedule) takes it down when nobody is walking a list.
 */
#ifndef VMC_VMCD_H
#define VMC_VMCD_H

#include "guest.h"
#include "xen.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct event;
struct event_base;
struct vmc_config;
struct vmc_quarantine;
struct vmc_stats;

struct vmcd_timing {		/* milliseconds; tests make them short */
	unsigned int chan_answer;	/* for each step of opening, and for closing */
	unsigned int chan_recover;	/* for the other end of a channel that outlived vmcd */
	unsigned int chan_retry;	/* before a failed pair is tried again */
	unsigned int stats;		/* for guests to answer STATS_REQ */
	unsigned int violations;	/* of the protocol by a pair: so many in this time... */
	unsigned int quarantine;	/* ...bring it there for so long, the first time */
	unsigned int prepare;		/* for a guest and its peers to part */
	unsigned int prepare_look;	/* between looks at a guest that is about to part, or has and is stopped */
	unsigned int front;		/* between looks at a frontend that changes too often */
};

struct vmcd {
	struct event_base *base;
	struct vmc_xen *xen;
	struct vmcd_timing timing;
	struct vmc_config *config;	/* never NULL */
	uint64_t epoch;			/* of this process, on the wire */
	uint64_t started_ms;

	TAILQ_HEAD(, vmc_guest) guests;
	TAILQ_HEAD(, vmc_chan) chans;
	TAILQ_HEAD(, vmc_listener) listeners;
	uint32_t next_chan_id;
	unsigned int nr_up;		/* channels that are up */

	bool scan_due;			/* domains came or went */
	bool peers_due;			/* who may pair with whom may have changed */
	bool reap_due;			/* a link is marked as failed */

	struct vmc_stats *stats;
	struct vmc_quarantine *quarantine;
	struct event *deferred;
	struct event *store_event;
	struct event *store_more;
	struct event *evtchn_event;

	/* Called after each deferred step: something an operator sees may have changed. */
	void (*changed)(struct vmcd *d, void *arg);
	void *changed_arg;
	int exit_code;
};

/*
 * Takes over @xen's watches and event channels; @xen and @base stay the caller's
 * and outlive it. The first scan runs from the event loop. Returns 0 or -errno.
 */
int vmcd_new(struct vmcd **ret, struct event_base *base, struct vmc_xen *xen);

/*
 * Unmaps and unbinds everything, and leaves the xenbus devices, their states and
 * the channels between guests as they are: the next vmcd attaches to the same
 * links and goes on.
 */
void vmcd_free(struct vmcd *d);

/*
 * Takes over @config in place of the one before. Pairs that it forbids are parted, and
 * guests told what they may use, from the event loop.
 */
void vmcd_configure(struct vmcd *d, struct vmc_config *config);

/* Have the deferred step run from the event loop, soon. */
void vmcd_schedule(struct vmcd *d);

/* xenstored is gone: nothing works without it. Leaves the loop with a failure. */
void vmcd_store_lost(struct vmcd *d, int err);

#endif /* VMC_VMCD_H */
