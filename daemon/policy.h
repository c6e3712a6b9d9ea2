/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who may pair with whom. */
#ifndef VMC_POLICY_H
#define VMC_POLICY_H

#include "guest.h"

/*
 * May @a and @b share a channel? The answer is the same for (b, a). If not,
 * @why says in a few words why not (until the configuration changes), and @reason what
 * the two are told.
 */
bool vmc_policy_may_pair(const struct vmc_guest *a, const struct vmc_guest *b,
			 const char **why, enum vmc_reason *reason);

/*
 * The MACs under which @g may meet @peer: those of @peer's vifs that are on a
 * bridge with @g and belong to nobody else there. Returns how many.
 */
unsigned int vmc_policy_macs(const struct vmc_guest *g, const struct vmc_guest *peer,
			     uint8_t mac[VMC_MACS_MAX][6]);

#endif /* VMC_POLICY_H */
