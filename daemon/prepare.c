// SPDX-License-Identifier: GPL-2.0-or-later
#include "prepare.h"

#include "chan.h"
#include "link.h"
#include "vmcd.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct vmc_prepare {
	struct vmc_guest *g;
	TAILQ_HEAD(, vmc_hold) holds;
	struct vmc_hold timed;		/* vmc_prepare_for() */
	uint64_t timed_until_ms;
	uint64_t until_ms;		/* to be prepared */
	bool ready;
	struct event *timer;
};

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

/* It is prepared: all who wait hear of it. */
static void tell(struct vmc_prepare *p)
{
	struct vmc_hold *h, *next;

	for (h = TAILQ_FIRST(&p->holds); h; h = next) {
		next = TAILQ_NEXT(h, entry);
		if (h->told)
			continue;
		h->told = true;
		if (!h->keep)
			drop(p, h);
		if (h->done)
			h->done(h, NULL);
	}
}

/* Those who wait for it hear why not, and hold it no more; with @all, the others don't either. */
static void drop_those(struct vmc_prepare *p, const char *why, bool all)
{
	struct vmc_hold *h, *next;

	for (h = TAILQ_FIRST(&p->holds); h; h = next) {
		bool told = h->told;

		next = TAILQ_NEXT(h, entry);
		if (told && !all)
			continue;
		drop(p, h);
		h->told = true;
		if (!told && h->done)
			h->done(h, why);
	}
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

static void give_up(struct vmc_prepare *p, const char *why)
{
	vmc_guest_log(p->g, VMC_LOG_WARNING, "prepare", "can't be prepared: %s", why);
	drop_those(p, why, false);
	if (held(p))
		p->ready = true;	/* for somebody else it is, and stays so */
	else
		prepare_free(p);
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
 * Pages of other guests that @g has mapped, by the grant tables of those guests: not
 * taken on its word. Returns how many, and whose, or -errno.
 */
static int mapped_pages(const struct vmc_guest *g, uint32_t *whose)
{
	struct vmc_xen *xen = g->d->xen;
	struct vmc_guest *o;
	int n;

	TAILQ_FOREACH(o, &g->d->guests, entry) {
		if (o == g)
			continue;
		n = xen->ops->mapped(xen, o->domid, g->domid);
		*whose = o->domid;
		if (n == -ESRCH || n == -ENOENT)	/* just gone */
			continue;
		if (n)
			return n;
	}
	return 0;
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

	if (p->timed.guest && vmc_now_ms() >= p->timed_until_ms)
		drop(p, &p->timed);
	if (!held(p)) {
		/* If it is stopped it leaves, most likely; and if it stays, nobody tells us. */
		if (!vmc_guest_paused(g)) {
			vmc_guest_log(g, VMC_LOG_INFO, "prepare", "goes back to its peers");
			prepare_free(p);
			return;
		}
	} else if (!p->ready) {
		p->ready = parted(g, why);
		if (p->ready) {
			vmc_guest_log(g, VMC_LOG_INFO, "prepare", "prepared");
			tell(p);
		} else if (vmc_now_ms() >= p->until_ms) {
			give_up(p, why);
			return;
		}
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
	TAILQ_INSERT_TAIL(&p->holds, h, entry);
	p->until_ms = h->since_ms + g->d->timing.prepare;
	p->ready = false;	/* or still is: looked at from the event loop */
	g->d->peers_due = true;
	vmcd_schedule(g->d);
	return 0;
}

int vmc_prepare_for(struct vmc_guest *g, unsigned int seconds)
{
	struct vmc_prepare *p = prepare_of(g);

	if (!p)
		return -ENOMEM;
	p->timed_until_ms = vmc_now_ms() + seconds * 1000ull;
	p->timed.keep = true;
	return p->timed.guest ? 0 : vmc_prepare_hold(g, &p->timed);
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
	drop_those(p, "resumed by the operator", true);
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
	drop_those(p, "it is gone", true);
	g->prepare = NULL;
	event_free(p->timer);
	free(p);
}
