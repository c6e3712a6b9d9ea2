// SPDX-License-Identifier: GPL-2.0-or-later
#include "prepare.h"

#include "chan.h"
#include "events.h"
#include "link.h"
#include "vmcd.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DOMS_PER_CALL	64

struct vmc_prepare {
	struct vmc_guest *g;
	TAILQ_HEAD(, vmc_hold) holds;
	struct vmc_hold timed;		/* what is left of those with seconds; never waits */
	uint64_t timed_until_ms;
	bool ready;
	struct event *timer;
};

static void say(const struct vmc_guest *g, const char *what, const char *detail)
{
	vmc_event(g->d, &(struct vmc_event){ .name = what, .domid = g->domid, .detail = detail });
}

static bool held(const struct vmc_prepare *p)
{
	return !TAILQ_EMPTY(&p->holds);
}

/* When to look again, if nothing happens before. */
static void arm(struct vmc_prepare *p)
{
	uint64_t now = vmc_now_ms(), next = now + p->g->d->timing.prepare_look;
	struct timeval tv;

	if (held(p) && p->ready) {
		if (!p->timed.guest)
			return;
		next = p->timed_until_ms > now ? p->timed_until_ms : now;
	}
	tv = vmc_timeval((unsigned int)(next - now));
	event_add(p->timer, &tv);
}

static void drop(struct vmc_prepare *p, struct vmc_hold *h)
{
	TAILQ_REMOVE(&p->holds, h, entry);
	h->guest = NULL;
}

static void hold_on(struct vmc_prepare *p, unsigned int seconds)
{
	p->timed_until_ms = vmc_now_ms() + seconds * 1000ull;
	if (p->timed.guest)
		return;
	p->timed.guest = p->g;
	p->timed.told = true;
	TAILQ_INSERT_TAIL(&p->holds, &p->timed, entry);
}

/* It is prepared: all who wait hear of it. */
static void tell(struct vmc_prepare *p)
{
	struct vmc_hold *h, *next;

	for (h = TAILQ_FIRST(&p->holds); h; h = next) {
		next = TAILQ_NEXT(h, entry);
		if (h->told)
			continue;
		h->told = true;
		if (h->seconds)
			hold_on(p, h->seconds);
		if (!h->keep)
			drop(p, h);
		if (h->done)
			h->done(h, NULL);
	}
}

/* Those who have waited until @now hear why not, and hold it no more. */
static bool drop_late(struct vmc_prepare *p, const char *why, uint64_t now)
{
	struct vmc_hold *h, *next;
	bool any = false;

	for (h = TAILQ_FIRST(&p->holds); h; h = next) {
		next = TAILQ_NEXT(h, entry);
		if (h->told || now < h->until_ms)
			continue;
		any = true;
		drop(p, h);
		h->told = true;
		if (h->done)
			h->done(h, why);
	}
	return any;
}

/* Nobody holds it any more; those who still wait hear why. */
static void drop_all(struct vmc_prepare *p, const char *why)
{
	struct vmc_hold *h, *next;

	for (h = TAILQ_FIRST(&p->holds); h; h = next) {
		bool told = h->told;

		next = TAILQ_NEXT(h, entry);
		drop(p, h);
		h->told = true;
		if (!told && h->done)
			h->done(h, why);
	}
}

/* Does somebody still wait for it? Then it is not ready, as far as they are concerned. */
static bool awaited(const struct vmc_prepare *p)
{
	const struct vmc_hold *h;

	TAILQ_FOREACH(h, &p->holds, entry)
		if (!h->told)
			return true;
	return false;
}

static void prepare_free(struct vmc_prepare *p)
{
	struct vmc_guest *g = p->g;

	g->prepare = NULL;
	event_free(p->timer);
	free(p);
	g->d->peers_due = true;
	vmcd_schedule(g->d);
}

/* The end that the guest has not closed, or that a running peer has not; NULL if there is none. */
static const struct vmc_chan_end *open_end(const struct vmc_guest *g)
{
	struct vmc_chan_end *e, *other;

	TAILQ_FOREACH(e, &g->chan_ends, entry) {
		if (e->told && !e->closed)
			return e;
		other = vmc_chan_other(e);
		/* one that is stopped may be so for long: its pages are not in this guest */
		if (other->guest && other->told && !other->closed &&
		    !vmc_guest_paused(other->guest))
			return other;
	}
	return NULL;
}

/*
 * Pages of other domains that @g has mapped, by the grant tables of those: not taken on
 * its word. Of domains that die, too. Returns how many, and whose, or -errno.
 */
static int mapped_pages(const struct vmc_guest *g, uint32_t *whose)
{
	struct vmc_xen *xen = g->d->xen;
	struct vmc_dominfo info[DOMS_PER_CALL];
	uint32_t first = 1;	/* Dom0 is no guest */
	int count, n;

	do {
		count = xen->ops->domains(xen, first, DOMS_PER_CALL, info);
		for (int i = 0; i < count; i++) {
			*whose = info[i].domid;
			first = info[i].domid + 1;
			if (*whose == g->domid)
				continue;
			n = xen->ops->mapped(xen, *whose, g->domid);
			if (n && n != -ESRCH && n != -ENOENT)	/* not just gone */
				return n;
		}
	} while (count == DOMS_PER_CALL);
	return count < 0 ? count : 0;
}

/* Is it parted from all? If not, @why says what is in the way. */
static bool parted(struct vmc_guest *g, char *why)
{
	const struct vmc_chan_end *e = open_end(g);
	uint32_t whose = 0;
	int n;

	if (e) {
		snprintf(why, VMC_ERROR_MAX, "d%u%s does not let go of channel %u", e->domid,
			 vmc_guest_paused(e->guest) ? ", which is paused," : "", e->chan->id);
		return false;
	}
	n = mapped_pages(g, &whose);
	if (n < 0)
		snprintf(why, VMC_ERROR_MAX, "cannot read the grant table of d%u: %s", whose,
			 strerror(-n));
	else if (n)
		snprintf(why, VMC_ERROR_MAX, "it still has %d pages of d%u mapped", n, whose);
	return !n;
}

static void run(struct vmc_prepare *p)
{
	struct vmc_guest *g = p->g;
	char why[VMC_ERROR_MAX];

	if (held(p) && !p->ready) {
		p->ready = parted(g, why);
		if (p->ready) {
			vmc_guest_log(g, VMC_LOG_INFO, "prepare", "prepared");
			say(g, "prepared", "");
			tell(p);
		} else if (drop_late(p, why, vmc_now_ms())) {
			vmc_guest_log(g, VMC_LOG_WARNING, "prepare", "can't be prepared: %s",
				      why);
			say(g, "not-prepared", why);
			/* for those who were told before it is, and stays so */
			p->ready = held(p) && !awaited(p);
		}
	}
	if (p->timed.guest && vmc_now_ms() >= p->timed_until_ms)
		drop(p, &p->timed);
	/* If it is stopped it leaves, most likely; and if it stays, nobody tells us. */
	if (!held(p) && !vmc_guest_paused(g)) {
		vmc_guest_log(g, VMC_LOG_INFO, "prepare", "goes back to its peers");
		say(g, "resumed", "");
		prepare_free(p);
		return;
	}
	arm(p);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	run(arg);
}

void vmc_prepare_update(struct vmcd *d)
{
	struct vmc_guest *g;

	TAILQ_FOREACH(g, &d->guests, entry)
		if (g->prepare)
			run(g->prepare);
}

static struct vmc_prepare *prepare_of(struct vmc_guest *g)
{
	struct vmc_prepare *p = g->prepare;

	if (p)
		return p;
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->timer = evtimer_new(g->d->base, on_timer, p);
	if (!p->timer) {
		free(p);
		return NULL;
	}
	p->g = g;
	TAILQ_INIT(&p->holds);
	g->prepare = p;
	vmc_guest_log(g, VMC_LOG_INFO, "prepare", "to be saved or migrated: parted from its peers");
	say(g, "preparing", "");
	return p;
}

int vmc_prepare_hold(struct vmc_guest *g, struct vmc_hold *h)
{
	struct vmc_prepare *p = prepare_of(g);

	if (!p)
		return -ENOMEM;
	h->guest = g;
	h->told = false;
	h->since_ms = vmc_now_ms();
	h->until_ms = h->since_ms + g->d->timing.prepare;
	TAILQ_INSERT_TAIL(&p->holds, h, entry);
	p->ready = false;	/* or still is: looked at from the event loop */
	g->d->peers_due = true;
	vmcd_schedule(g->d);
	return 0;
}

void vmc_prepare_release(struct vmc_hold *h)
{
	struct vmc_guest *g = h->guest;

	if (!g)
		return;
	drop(g->prepare, h);
	vmcd_schedule(g->d);
}

void vmc_prepare_resume(struct vmc_guest *g)
{
	struct vmc_prepare *p = g->prepare;

	if (!p)
		return;
	drop_all(p, "resumed by the operator");
	vmcd_schedule(g->d);
}

bool vmc_prepare_has(const struct vmc_guest *g)
{
	return g->prepare;
}

const char *vmc_prepare_state(const struct vmc_guest *g)
{
	if (!g->prepare)
		return "no";
	return g->prepare->ready ? "prepared" : "preparing";
}

void vmc_prepare_forget(struct vmc_guest *g)
{
	struct vmc_prepare *p = g->prepare;

	if (!p)
		return;
	drop_all(p, "it is gone");
	g->prepare = NULL;
	event_free(p->timer);
	free(p);
}
