/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A short look before sleeping. The budget learns from each wait, as KVM's
 * halt polling does it: it doubles while waits turn out short, is dropped after
 * a long one, and is tried again at every eighth wait, since the first wait is
 * always long when the other side sleeps too.
 */
#ifndef VMC_POLL_H
#define VMC_POLL_H

#include <linux/sched.h>
#include <linux/sched/clock.h>
#include <linux/sched/signal.h>

#include "vmc.h"

#define VMC_POLL_START	(8u * NSEC_PER_USEC)
#define VMC_POLL_PROBE	8

static inline u64 vmc_poll_max(void)
{
	return (u64)min(READ_ONCE(vmc_poll_us), READ_ONCE(vmc_host.poll_us)) * NSEC_PER_USEC;
}

/* Nanoseconds to look before this wait; @now as from local_clock(). */
static inline u64 vmc_poll_budget(struct vmc_poll *p)
{
	if (p->ns)
		return min_t(u64, p->ns, vmc_poll_max());
	return ++p->waits % VMC_POLL_PROBE ? 0 : vmc_poll_max();
}

/* The wait took @took nanoseconds in all. */
static inline void vmc_poll_learn(struct vmc_poll *p, u64 took)
{
	u64 max = vmc_poll_max();

	if (took > max)
		p->ns = 0;
	else if (took > p->ns)
		p->ns = min(max, max_t(u64, VMC_POLL_START, 2ull * p->ns));
}

/* Somebody else wants the CPU, or the sleeper: stop looking. */
static inline bool vmc_poll_give_way(void)
{
	return need_resched() || signal_pending(current);
}

#endif /* VMC_POLL_H */
