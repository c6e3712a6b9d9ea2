// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy.h"

#include "config.h"
#include "link.h"
#include "prepare.h"
#include "quarantine.h"
#include "vmcd.h"

#include <string.h>

static bool on_bridge(const struct vmc_guest *g, const char *bridge)
{
	for (unsigned int i = 0; i < g->vifs.count; i++)
		if (!strcmp(g->vifs.vif[i].bridge, bridge))
			return true;
	return false;
}

unsigned int vmc_policy_macs(const struct vmc_guest *g, const struct vmc_guest *peer,
			     uint8_t mac[VMC_MACS_MAX][6])
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < peer->vifs.count; i++) {
		const struct vmc_vif *vif = &peer->vifs.vif[i];

		if (!vif->dup && on_bridge(g, vif->bridge))
			memcpy(mac[n++], vif->mac, sizeof(vif->mac));
	}
	return n;
}

bool vmc_policy_may_pair(const struct vmc_guest *a, const struct vmc_guest *b,
			 const char **why, enum vmc_reason *reason)
{
	const struct vmc_rule *rule = vmc_config_rule(a->d->config, a, b);
	uint8_t mac[VMC_MACS_MAX][6];

	*why = NULL;
	*reason = VMC_R_POLICY;
	if (a == b)
		*why = "the same guest";
	else if (rule && !rule->allow)
		*why = rule->text;
	else if (!vmc_link_ready(a) || !vmc_link_ready(b))
		*why = "no link to both";
	else if (vmc_quarantine_has(a, b))
		*why = "in quarantine for violations of the protocol";
	else if (!vmc_policy_macs(a, b, mac) || !vmc_policy_macs(b, a, mac))
		*why = "no bridge in common, or their MACs are not their own";
	if (!*why && (vmc_prepare_has(a) || vmc_prepare_has(b))) {
		*why = "about to be saved or migrated";
		*reason = VMC_R_PREPARE;
	}
	return !*why;
}
