// SPDX-License-Identifier: GPL-2.0-or-later
#include "events.h"

void vmc_events_listen(struct vmcd *d, struct vmc_listener *l)
{
	TAILQ_INSERT_TAIL(&d->listeners, l, entry);
	l->listens = true;
}

void vmc_events_ignore(struct vmcd *d, struct vmc_listener *l)
{
	if (!l->listens)
		return;
	TAILQ_REMOVE(&d->listeners, l, entry);
	l->listens = false;
}

void vmc_event(struct vmcd *d, const struct vmc_event *e)
{
	struct vmc_listener *l;

	TAILQ_FOREACH(l, &d->listeners, entry)
		l->heard(l, d, e);
}
