// SPDX-License-Identifier: GPL-2.0-or-later
#include "stats.h"

#include "chan.h"
#include "link.h"
#include "vmcd.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

struct vmc_stats {
	TAILQ_HEAD(, vmc_stats_waiter) waiters;
	struct event *timer;
	uint32_t query;		/* the last one asked */
	unsigned int due;	/* guests that have not answered */
};

static void finish(struct vmcd *d)
{
	struct vmc_stats *s = d->stats;
	struct vmc_stats_waiter *w;
	struct vmc_guest *g;

	event_del(s->timer);
	s->due = 0;
	TAILQ_FOREACH(g, &d->guests, entry)
		g->stats_due = false;
	while ((w = TAILQ_FIRST(&s->waiters))) {
		TAILQ_REMOVE(&s->waiters, w, entry);
		w->waiting = false;
		w->done(w->arg);
	}
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	finish(arg);
}

int vmc_stats_new(struct vmcd *d)
{
	struct vmc_stats *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	TAILQ_INIT(&s->waiters);
	s->timer = evtimer_new(d->base, on_timer, d);
	if (!s->timer) {
		free(s);
		return -ENOMEM;
	}
	d->stats = s;
	return 0;
}

void vmc_stats_free(struct vmcd *d)
{
	if (!d->stats)
		return;
	event_free(d->stats->timer);
	free(d->stats);
	d->stats = NULL;
}

/* Lets done() run from the event loop. */
static void finish_soon(struct vmcd *d)
{
	static const struct timeval soon = { 0, 0 };

	event_add(d->stats->timer, &soon);
}

static void answered(struct vmc_guest *g)
{
	if (!g->stats_due)
		return;
	g->stats_due = false;
	if (!--g->d->stats->due)
		finish_soon(g->d);
}

void vmc_stats_ask(struct vmcd *d, struct vmc_stats_waiter *w)
{
	struct timeval deadline = vmc_timeval(d->timing.stats);
	struct vmc_stats *s = d->stats;
	struct vmc_guest *g;
	bool asked = !TAILQ_EMPTY(&s->waiters);

	TAILQ_INSERT_TAIL(&s->waiters, w, entry);
	w->waiting = true;
	if (asked)
		return;

	if (!++s->query)
		s->query = 1;
	s->due = 0;
	event_add(s->timer, &deadline);
	TAILQ_FOREACH(g, &d->guests, entry) {
		struct vmc_l_stats_req m = {
			.h = { .type = VMC_L_STATS_REQ, .len = sizeof(m), .id = s->query },
		};

		if (!vmc_link_ready(g))
			continue;
		g->stats_due = true;
		s->due++;
		vmc_link_send(g, &m.h);
	}
	if (!s->due)
		finish_soon(d);
}

void vmc_stats_cancel(struct vmcd *d, struct vmc_stats_waiter *w)
{
	if (!w->waiting)
		return;
	TAILQ_REMOVE(&d->stats->waiters, w, entry);
	w->waiting = false;
}

uint32_t vmc_stats_query(const struct vmcd *d)
{
	return d->stats->query;
}

void vmc_stats_guest_lost(struct vmc_guest *g)
{
	answered(g);
}

int vmc_stats_on_chan(struct vmc_guest *g, const union vmc_any_msg *m)
{
	const struct vmc_l_stats_chan *s = &m->stats_chan;
	struct vmc_chan_end *e;
	bool moved;

	/* Late, or about a channel that has ended since: of no use, and no harm. */
	if (!g->stats_due || s->h.id != g->d->stats->query)
		return 0;
	e = vmc_chan_end(g, s->chan);
	if (!e)
		return 0;
	/* before its first word, all since the channel opened */
	moved = s->tx_packets != e->stats.tx_packets || s->rx_packets != e->stats.rx_packets;
	e->stats = (struct vmc_chan_stats){
		.query = s->h.id,
		.tx_streams = s->tx_streams, .rx_streams = s->rx_streams,
		.rings = s->rings, .grants = s->grants,
		.bytes_granted = s->bytes_granted,
		.tx_bytes = s->tx_bytes, .rx_bytes = s->rx_bytes,
		.events_tx = s->events_tx, .events_rx = s->events_rx,
		.takeovers = s->takeovers, .ended = s->ended,
		.tx_packets = s->tx_packets, .rx_packets = s->rx_packets,
		.tx_dropped = s->tx_dropped, .rx_dropped = s->rx_dropped,
		.packets_moved = moved,
	};
	return 0;
}

int vmc_stats_on_end(struct vmc_guest *g, const union vmc_any_msg *m)
{
	const struct vmc_l_stats_end *s = &m->stats_end;

	if (!g->stats_due || s->h.id != g->d->stats->query)
		return 0;
	g->stats = (struct vmc_guest_stats){
		.query = s->h.id, .sockets = s->sockets, .grants = s->grants,
		.mapped = s->mapped, .hooked = s->hooked,
		.bytes_granted = s->bytes_granted,
	};
	memcpy(g->stats.reasons, s->reasons, sizeof(g->stats.reasons));
	answered(g);
	return 0;
}
