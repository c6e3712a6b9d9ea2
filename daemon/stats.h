/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Asking guests for their counters. One question at a time is out; whoever asks
 * meanwhile shares its answers.
 */
#ifndef VMC_STATS_H
#define VMC_STATS_H

#include "guest.h"

struct vmc_stats_waiter {
	TAILQ_ENTRY(vmc_stats_waiter) entry;
	/* Called once, from the event loop, never from vmc_stats_ask(); must not ask again. */
	void (*done)(void *arg);
	void *arg;
	bool waiting;
};

int vmc_stats_new(struct vmcd *d);
void vmc_stats_free(struct vmcd *d);

/* The waiter is the caller's, and lives until done() or vmc_stats_cancel(). */
void vmc_stats_ask(struct vmcd *d, struct vmc_stats_waiter *w);
void vmc_stats_cancel(struct vmcd *d, struct vmc_stats_waiter *w);

/* The question that the waiters of now were answered with. */
uint32_t vmc_stats_query(const struct vmcd *d);

/* @g won't answer any more. */
void vmc_stats_guest_lost(struct vmc_guest *g);

int vmc_stats_on_chan(struct vmc_guest *g, const union vmc_any_msg *m);
int vmc_stats_on_end(struct vmc_guest *g, const union vmc_any_msg *m);

#endif /* VMC_STATS_H */
