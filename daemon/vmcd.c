// SPDX-License-Identifier: GPL-2.0-or-later
#include "vmcd.h"

#include "chan.h"
#include "config.h"
#include "events.h"
#include "link.h"
#include "peer.h"
#include "prepare.h"
#include "quarantine.h"
#include "stats.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WATCHES_PER_TURN	64

static const struct vmcd_timing default_timing = {
	.chan_answer = 10000,
	.chan_recover = 5000,
	.chan_retry = 1000,
	.stats = 1000,
	.violations = 600 * 1000,
	.quarantine = 600 * 1000,
	.prepare = 12000,	/* longer than chan_answer: the links of those who don't answer fail before */
	.prepare_look = 250,
	.front = 250,
};

void vmcd_schedule(struct vmcd *d)
{
	static const struct timeval soon = { 0, 0 };

	if (!event_pending(d->deferred, EV_TIMEOUT, NULL))
		event_add(d->deferred, &soon);
}

/*
 * The only place where guests come and go and links are taken down. Each part
 * may make another due, or itself: the timer then brings another turn.
 */
static void on_deferred(evutil_socket_t fd, short what, void *arg)
{
	struct vmcd *d = arg;

	(void)fd;
	(void)what;
	if (d->scan_due) {
		d->scan_due = false;
		vmc_guest_scan(d);
	}
	if (d->reap_due) {
		d->reap_due = false;
		vmc_link_reap(d);
	}
	if (d->peers_due) {
		d->peers_due = false;
		vmc_peer_update(d);
	}
	vmc_prepare_update(d);
	if (d->changed)
		d->changed(d, d->changed_arg);
}

/* Never for what a guest does: only if Xen itself fails. A restart then is the cure. */
static void give_up(struct vmcd *d)
{
	d->exit_code = EXIT_FAILURE;
	event_base_loopbreak(d->base);
}

void vmcd_store_lost(struct vmcd *d, int err)
{
	vmc_log(VMC_LOG_ERROR, "store", "lost xenstored: %s", strerror(-err));
	give_up(d);
}

void vmcd_configure(struct vmcd *d, struct vmc_config *config)
{
	vmc_config_free(d->config);
	d->config = config;
	vmc_event(d, &(struct vmc_event){ .name = "configured", .detail = "" });
	d->peers_due = true;
	vmcd_schedule(d);
}

static void on_store(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval soon = { 0, 0 };
	char path[VMC_XEN_PATH_MAX], token[32];
	struct vmcd *d = arg;

	(void)fd;
	(void)what;
	for (int n = 0; n < WATCHES_PER_TURN; n++) {
		int ret = d->xen->ops->watch_next(d->xen, path, sizeof(path), token,
						  sizeof(token));

		if (ret < 0)
			vmcd_store_lost(d, ret);
		if (ret <= 0)
			return;
		vmc_guest_watch(d, path, token);
	}
	/* The descriptor may be quiet although there are more. */
	event_add(d->store_more, &soon);
}

static void on_evtchn(evutil_socket_t fd, short what, void *arg)
{
	struct vmcd *d = arg;
	int port;

	(void)fd;
	(void)what;
	/* One for each turn: a guest that storms waits for the others. */
	port = d->xen->ops->pending(d->xen);
	if (port >= 0) {
		vmc_link_event(d, (uint32_t)port);
	} else if (port != -EAGAIN) {
		vmc_log(VMC_LOG_ERROR, "xen", "lost the event channels: %s", strerror(-port));
		give_up(d);
	}
}

int vmcd_new(struct vmcd **ret, struct event_base *base, struct vmc_xen *xen)
{
	struct vmcd *d = calloc(1, sizeof(*d));
	struct timespec ts;
	int err;

	if (!d)
		return -ENOMEM;
	d->base = base;
	d->xen = xen;
	d->timing = default_timing;
	d->started_ms = vmc_now_ms();
	d->next_chan_id = 1;
	TAILQ_INIT(&d->guests);
	TAILQ_INIT(&d->chans);
	TAILQ_INIT(&d->listeners);
	/* Unlike that of any other vmcd on this host, and never 0. */
	clock_gettime(CLOCK_REALTIME, &ts);
	d->epoch = ((uint64_t)ts.tv_sec << 30 | (uint64_t)ts.tv_nsec) | 1;

	err = -ENOMEM;
	d->config = vmc_config_new();
	d->deferred = evtimer_new(base, on_deferred, d);
	d->store_more = evtimer_new(base, on_store, d);
	d->store_event = event_new(base, xen->store_fd, EV_READ | EV_PERSIST, on_store, d);
	d->evtchn_event = event_new(base, xen->evtchn_fd, EV_READ | EV_PERSIST, on_evtchn, d);
	if (!d->config || !d->deferred || !d->store_more || !d->store_event || !d->evtchn_event ||
	    event_add(d->store_event, NULL) || event_add(d->evtchn_event, NULL))
		goto fail;
	err = vmc_stats_new(d);
	if (err)
		goto fail;
	err = vmc_quarantine_new(d);
	if (err)
		goto fail;
	err = vmc_guest_start(d);
	if (err)
		goto fail;
	d->scan_due = true;
	vmcd_schedule(d);
	*ret = d;
	return 0;
fail:
	vmcd_free(d);
	return err;
}

void vmcd_free(struct vmcd *d)
{
	struct vmc_guest *g;
	struct vmc_peer *p;

	vmc_chan_free_all(d);
	while ((g = TAILQ_FIRST(&d->guests))) {
		while ((p = TAILQ_FIRST(&g->peers))) {
			TAILQ_REMOVE(&g->peers, p, entry);
			free(p);
		}
		vmc_guest_free(g);
	}
	vmc_quarantine_free(d);
	vmc_stats_free(d);
	if (d->evtchn_event)
		event_free(d->evtchn_event);
	if (d->store_event)
		event_free(d->store_event);
	if (d->store_more)
		event_free(d->store_more);
	if (d->deferred)
		event_free(d->deferred);
	vmc_config_free(d->config);
	free(d);
}
