/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What happens, told to whoever listens: operators who watch. */
#ifndef VMC_EVENTS_H
#define VMC_EVENTS_H

#include "vmcd.h"

struct vmc_event {
	const char *name;	/* "channel-opened": io.vmc.Manager.varlink lists them */
	uint32_t domid, peer;	/* whom it is about; 0: nobody */
	uint32_t channel;	/* 0: none */
	const char *detail;	/* a reason, or "" */
};

struct vmc_listener {
	TAILQ_ENTRY(vmc_listener) entry;
	/* In the middle of what happens: must change nothing, not even who listens. */
	void (*heard)(struct vmc_listener *l, struct vmcd *d, const struct vmc_event *e);
	bool listens;
};

/* @l is the caller's, and stays until vmc_events_ignore(), which may be called at any time. */
void vmc_events_listen(struct vmcd *d, struct vmc_listener *l);
void vmc_events_ignore(struct vmcd *d, struct vmc_listener *l);

void vmc_event(struct vmcd *d, const struct vmc_event *e);

#endif /* VMC_EVENTS_H */
