/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pairs of guests that have no channel for a while, because one of the two broke
 * the protocol on theirs again and again. Which one did is not known: each can lie
 * about the other. So the verdict never reaches beyond the pair, and a guest that
 * lies cuts off nobody but itself.
 */
#ifndef VMC_QUARANTINE_H
#define VMC_QUARANTINE_H

#include "guest.h"

/* Violations within timing.violations that bring a pair into quarantine. */
#define VMC_VIOLATIONS_MAX	3u

/* One of the two says that the other broke the protocol on their channel. */
void vmc_quarantine_note(struct vmc_guest *a, struct vmc_guest *b);

/* Are @a and @b in quarantine now? */
bool vmc_quarantine_has(const struct vmc_guest *a, const struct vmc_guest *b);

/* @g is being freed. */
void vmc_quarantine_forget(const struct vmc_guest *g);

/* Returns 0 or -ENOMEM. */
int vmc_quarantine_new(struct vmcd *d);
void vmc_quarantine_free(struct vmcd *d);

#endif /* VMC_QUARANTINE_H */
