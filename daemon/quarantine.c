// SPDX-License-Identifier: GPL-2.0-or-later
#include "quarantine.h"

#include "events.h"
#include "util.h"
#include "vmcd.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>

#define TERM_MAX_MS	(24 * 3600 * 1000ull)

struct pair {
	TAILQ_ENTRY(pair) entry;
	const struct vmc_guest *a, *b;
	unsigned int violations;	/* since since_ms */
	uint64_t since_ms;
	uint64_t until_ms;		/* in quarantine till then */
	uint64_t term_ms;		/* of the next quarantine: each is twice as long as the one before */
};

struct vmc_quarantine {
	TAILQ_HEAD(, pair) pairs;
	struct event *timer;		/* when the next pair is free again */
};

static struct pair *find(const struct vmc_guest *a, const struct vmc_guest *b)
{
	struct pair *p;

	TAILQ_FOREACH(p, &a->d->quarantine->pairs, entry)
		if ((p->a == a && p->b == b) || (p->a == b && p->b == a))
			return p;
	return NULL;
}

static void arm(struct vmcd *d)
{
	uint64_t now = vmc_now_ms(), next = UINT64_MAX;
	struct timeval tv;
	struct pair *p;

	TAILQ_FOREACH(p, &d->quarantine->pairs, entry)
		if (p->until_ms > now && p->until_ms < next)
			next = p->until_ms;
	if (next == UINT64_MAX)
		return;
	tv = vmc_timeval((unsigned int)(next - now));
	event_add(d->quarantine->timer, &tv);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct vmcd *d = arg;

	(void)fd;
	(void)what;
	d->peers_due = true;
	vmcd_schedule(d);
	arm(d);
}

void vmc_quarantine_note(struct vmc_guest *a, struct vmc_guest *b)
{
	uint64_t now = vmc_now_ms();
	struct vmcd *d = a->d;
	struct pair *p = find(a, b);

	if (!p) {
		p = calloc(1, sizeof(*p));
		if (!p) {
			vmc_guest_log(a, VMC_LOG_ERROR, "peer", "no memory to count violations");
			return;
		}
		p->a = a;
		p->b = b;
		p->term_ms = d->timing.quarantine;
		TAILQ_INSERT_TAIL(&d->quarantine->pairs, p, entry);
	}
	if (!p->violations || now - p->since_ms > d->timing.violations) {
		p->violations = 0;
		p->since_ms = now;
	}
	if (++p->violations < VMC_VIOLATIONS_MAX)
		return;
	p->violations = 0;
	p->until_ms = now + p->term_ms;
	vmc_guest_log(a, VMC_LOG_WARNING, "peer",
		      "d%u: no channel for %llu s, one of the two broke the protocol %u times",
		      b->domid, (unsigned long long)p->term_ms / 1000, VMC_VIOLATIONS_MAX);
	vmc_event(d, &(struct vmc_event){ .name = "quarantined", .domid = a->domid,
					  .peer = b->domid, .detail = "protocol" });
	p->term_ms = 2 * p->term_ms < TERM_MAX_MS ? 2 * p->term_ms : TERM_MAX_MS;
	d->peers_due = true;
	vmcd_schedule(d);
	arm(d);
}

bool vmc_quarantine_has(const struct vmc_guest *a, const struct vmc_guest *b)
{
	const struct pair *p = find(a, b);

	return p && vmc_now_ms() < p->until_ms;
}

void vmc_quarantine_forget(const struct vmc_guest *g)
{
	struct pair *p, *next;

	for (p = TAILQ_FIRST(&g->d->quarantine->pairs); p; p = next) {
		next = TAILQ_NEXT(p, entry);
		if (p->a == g || p->b == g) {
			TAILQ_REMOVE(&g->d->quarantine->pairs, p, entry);
			free(p);
		}
	}
}

int vmc_quarantine_new(struct vmcd *d)
{
	struct vmc_quarantine *q = calloc(1, sizeof(*q));

	if (!q)
		return -ENOMEM;
	TAILQ_INIT(&q->pairs);
	q->timer = evtimer_new(d->base, on_timer, d);
	if (!q->timer) {
		free(q);
		return -ENOMEM;
	}
	d->quarantine = q;
	return 0;
}

/* The guests have gone before. */
void vmc_quarantine_free(struct vmcd *d)
{
	if (!d->quarantine)
		return;
	event_free(d->quarantine->timer);
	free(d->quarantine);
	d->quarantine = NULL;
}
