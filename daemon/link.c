// SPDX-License-Identifier: GPL-2.0-or-later
#include "link.h"

#include "chan.h"
#include "stats.h"
#include "vmcd.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MSGS_PER_TURN	64	/* then the others' turn */

/* ----------------------------------------------------------------- failing */

int vmc_link_fail(struct vmc_guest *g, const char *fmt, ...)
{
	struct vmc_link *l = g->link;
	va_list ap;

	if (!l || l->failed)
		return -EPROTO;
	l->failed = true;
	va_start(ap, fmt);
	vsnprintf(l->why, sizeof(l->why), fmt, ap);
	va_end(ap);
	g->d->reap_due = true;
	vmcd_schedule(g->d);
	return -EPROTO;
}

void vmc_link_reap(struct vmcd *d)
{
	struct vmc_guest *g;

	TAILQ_FOREACH(g, &d->guests, entry) {
		char why[VMC_ERROR_MAX];

		if (!g->link)
			continue;
		if (g->link->failed) {
			snprintf(why, sizeof(why), "%s", g->link->why);
			vmc_guest_refuse(g, why);
		} else if (g->link->leaving) {
			vmc_guest_log(g, VMC_LOG_INFO, "link", "the driver leaves");
			vmc_guest_lose_link(g, VMC_R_PEER_GONE);
		}
	}
}

/* ----------------------------------------------------------------- sending */

static void notify(struct vmc_link *l)
{
	struct vmc_xen *xen = l->g->d->xen;
	int err = xen->ops->notify(xen, l->port);

	if (err)
		vmc_guest_log(l->g, VMC_LOG_DEBUG, "link", "cannot notify: %s",
			      strerror(-err));
}

/* Puts queued messages into the ring as far as there is room. */
static void flush_queue(struct vmc_link *l)
{
	union vmc_any_msg m;
	bool put = false;
	int err = 0;

	while (evbuffer_get_length(l->queue)) {
		evbuffer_copyout(l->queue, &m.h, sizeof(m.h));
		evbuffer_copyout(l->queue, &m, m.h.len);
		err = vmc_msg_put(&l->prod, l->prod_data, &m.h);
		if (err == -EAGAIN) {
			/* true: room appeared, or the next attempt tells what is wrong */
			if (vmc_ring_prod_arm(&l->prod, m.h.len))
				continue;
			break;
		}
		if (err)
			break;
		evbuffer_drain(l->queue, m.h.len);
		put = true;
	}
	if (put && vmc_ring_prod_notify(&l->prod))
		notify(l);
	if (err == -EPIPE)
		vmc_link_fail(l->g, "closed the ring that it reads");
	else if (err && err != -EAGAIN)
		vmc_link_fail(l->g, "impossible consumer index");
}

void vmc_link_send(struct vmc_guest *g, const struct vmc_msg *m)
{
	struct vmc_link *l = g->link;

	if (!vmc_link_alive(g))
		return;
	if (evbuffer_get_length(l->queue) + m->len > VMC_LINK_QUEUE_MAX) {
		vmc_link_fail(g, "does not read its messages");
		return;
	}
	if (evbuffer_add(l->queue, m, m->len)) {
		vmc_link_fail(g, "no memory for its messages");
		return;
	}
	flush_queue(l);
}

static void send_attach(struct vmc_link *l)
{
	struct vmc_l_attach m = {
		.h = { .type = VMC_L_ATTACH, .len = sizeof(m) },
		.version = l->version,
		.epoch = l->g->d->epoch,
		.domid = l->g->domid,
	};

	vmc_link_send(l->g, &m.h);
	/* a driver that heard of limits before keeps them until it hears of others */
	vmc_config_no_limits(&l->settings);
	l->settings_known = l->fresh;
}

static uint32_t u32_limit(uint64_t max)
{
	return max < UINT32_MAX ? (uint32_t)max : UINT32_MAX;
}

void vmc_link_settings(struct vmc_guest *g)
{
	struct vmc_settings s = vmc_config_settings(g->d->config, g);
	struct vmc_l_settings m = {
		.h = { .type = VMC_L_SETTINGS, .len = sizeof(m) },
		.max_bytes = s.max[VMC_SET_MEMORY],
		.max_grants = u32_limit(s.max[VMC_SET_GRANTS]),
		.max_rings = u32_limit(s.max[VMC_SET_STREAMS]),
		.ring_bytes = u32_limit(s.max[VMC_SET_RING]),
		.poll_us = u32_limit(s.max[VMC_SET_POLL]),
		.packets = u32_limit(s.max[VMC_SET_PACKETS]),
	};

	s.max[VMC_SET_CHANNELS] = VMC_NO_LIMIT;	/* vmcd's own business */
	if (g->link->settings_known && !memcmp(&s, &g->link->settings, sizeof(s)))
		return;
	g->link->settings_known = true;
	g->link->settings = s;
	vmc_link_send(g, &m.h);
}

/* --------------------------------------------------------------- receiving */

static int on_hello(struct vmc_guest *g, const union vmc_any_msg *m)
{
	const struct vmc_l_hello *hello = &m->hello;
	struct vmc_link *l = g->link;

	if (hello->epoch != g->d->epoch)
		return vmc_link_fail(g, "HELLO with another epoch");
	if (hello->version != l->version)
		return vmc_link_fail(g, "HELLO with version %u instead of %u",
				     hello->version, l->version);
	if (hello->channels > VMC_CHANNELS_MAX)
		return vmc_link_fail(g, "HELLO with %u channels", hello->channels);
	l->announced = hello->channels;
	l->state = VMC_LINK_LISTING;
	vmc_sanitize(g->driver, sizeof(g->driver), hello->driver, sizeof(hello->driver));
	g->protocol = l->version;
	return 0;
}

static int on_chan_state(struct vmc_guest *g, const union vmc_any_msg *m)
{
	if (g->link->listed == g->link->announced)
		return vmc_link_fail(g, "more CHAN_STATE than announced");
	g->link->listed++;
	return vmc_chan_on_state(g, m);
}

static int on_ready(struct vmc_guest *g, const union vmc_any_msg *m)
{
	struct vmc_link *l = g->link;

	(void)m;
	if (l->listed != l->announced)
		return vmc_link_fail(g, "READY after %u of %u CHAN_STATE", l->listed,
				     l->announced);
	l->state = VMC_LINK_READY;
	vmc_guest_log(g, VMC_LOG_INFO, "link",
		      "ready: driver %s, protocol %u, %u channels%s", g->driver,
		      l->version, l->listed, l->fresh ? "" : ", after a restart");
	vmc_chan_guest_ready(g);
	g->d->peers_due = true;
	vmcd_schedule(g->d);
	return 0;
}

static int on_bye(struct vmc_guest *g, const union vmc_any_msg *m)
{
	(void)m;
	g->link->leaving = true;
	g->d->reap_due = true;
	vmcd_schedule(g->d);
	return 0;
}

#define IN(state)	(1u << VMC_LINK_##state)

/* Everything that a guest may say, and when. */
static const struct {
	uint16_t type;
	uint16_t states;
	const char *name;
	int (*handle)(struct vmc_guest *g, const union vmc_any_msg *m);
} rows[] = {
	{ VMC_L_HELLO, IN(ATTACHED), "HELLO", on_hello },
	{ VMC_L_CHAN_STATE, IN(LISTING), "CHAN_STATE", on_chan_state },
	{ VMC_L_READY, IN(LISTING), "READY", on_ready },
	{ VMC_L_BYE, IN(ATTACHED) | IN(LISTING) | IN(READY), "BYE", on_bye },
	/* traffic and the end of a channel don't wait until a guest has listed its channels */
	{ VMC_L_CHAN_REQ, IN(LISTING) | IN(READY), "CHAN_REQ", vmc_chan_on_req },
	{ VMC_L_CHAN_OFFER, IN(READY), "CHAN_OFFER", vmc_chan_on_offer },
	{ VMC_L_CHAN_ACCEPT, IN(READY), "CHAN_ACCEPT", vmc_chan_on_accept },
	{ VMC_L_CHAN_UP, IN(READY), "CHAN_UP", vmc_chan_on_up },
	{ VMC_L_CHAN_CLOSED, IN(LISTING) | IN(READY), "CHAN_CLOSED", vmc_chan_on_closed },
	{ VMC_L_CHAN_CLOSE, IN(READY), "CHAN_CLOSE", vmc_chan_on_close },
	{ VMC_L_STATS_CHAN, IN(READY), "STATS_CHAN", vmc_stats_on_chan },
	{ VMC_L_STATS_END, IN(READY), "STATS_END", vmc_stats_on_end },
};

static int dispatch(struct vmc_link *l, const union vmc_any_msg *m)
{
	/*
	 * What a guest said to the former vmcd is still in the ring after a restart:
	 * all before the answer to this ATTACH is for somebody else.
	 */
	if (l->state == VMC_LINK_ATTACHED && !l->fresh &&
	    (m->h.type != VMC_L_HELLO || m->hello.epoch != l->g->d->epoch))
		return 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].type != m->h.type)
			continue;
		if (!(rows[i].states & (1u << l->state)))
			return vmc_link_fail(l->g, "%s out of turn", rows[i].name);
		return rows[i].handle(l->g, m);
	}
	return vmc_link_fail(l->g, "sent message type 0x%x, which guests don't send",
			     m->h.type);
}

/* Returns whether there is more to read than one turn may. */
static bool receive(struct vmc_link *l)
{
	union vmc_any_msg m;
	bool more = true;
	int ret = 0;

	for (int n = 0; n < MSGS_PER_TURN; n++) {
		ret = vmc_msg_get(&l->cons, l->cons_data, &m);
		if (ret < 0)
			break;
		if (!ret) {
			if (vmc_ring_cons_arm(&l->cons))
				continue;
			more = false;
			break;
		}
		if (dispatch(l, &m) || l->leaving)
			break;
	}
	if (vmc_ring_cons_notify(&l->cons))
		notify(l);
	if (ret == -EPIPE)
		vmc_link_fail(l->g, "closed the ring that it writes");
	else if (ret < 0)
		vmc_link_fail(l->g, "unknown type, illegal length or impossible index in its ring");
	return more && vmc_link_alive(l->g);
}

static void run(struct vmc_link *l)
{
	static const struct timeval soon = { 0, 0 };
	struct vmc_xen *xen = l->g->d->xen;

	if (!vmc_link_alive(l->g))
		return;
	flush_queue(l);
	if (l->failed)
		return;
	if (receive(l)) {
		event_add(l->more, &soon);
		return;
	}
	/* After a violation the port stays masked: no more events from there. */
	if (l->masked && vmc_link_alive(l->g)) {
		l->masked = false;
		xen->ops->unmask(xen, l->port);
	}
}

static void on_more(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	run(arg);
}

void vmc_link_event(struct vmcd *d, uint32_t port)
{
	struct vmc_guest *g;

	TAILQ_FOREACH(g, &d->guests, entry) {
		if (g->link && g->link->port == port) {
			g->link->masked = true;
			/* otherwise its turn comes anyway */
			if (!event_pending(g->link->more, EV_TIMEOUT, NULL))
				run(g->link);
			return;
		}
	}
}

/* --------------------------------------------------------------- attaching */

/*
 * Positions come from the shared headers, so that a new vmcd goes on where the
 * former one stopped; on a fresh link they are 0. Both rings are the guest's
 * memory: a guest that lies here breaks its own link, and nothing else.
 */
static int take_positions(struct vmc_link *l)
{
	struct vmc_ring_hdr *out = l->prod.hdr, *in = l->cons.hdr;
	uint64_t word = vmc_load_acquire(&out->prod), cons = vmc_load(&out->cons);

	if (word & VMC_RING_CLOSED)
		return -EPIPE;
	l->prod.pos = VMC_RING_POS(word);
	if (cons > l->prod.pos || l->prod.pos - cons > l->prod.size)
		return -EPROTO;
	l->prod.cons = cons;
	l->cons.cons = vmc_load(&in->cons);
	l->cons.pos = l->cons.cons;
	l->fresh = !l->prod.pos && !l->cons.cons;
	return vmc_ring_cons_avail(&l->cons) < 0 ? -EPROTO : 0;
}

static void link_free(struct vmc_link *l)
{
	struct vmc_xen *xen = l->g->d->xen;

	if (l->more)
		event_free(l->more);
	if (l->queue)
		evbuffer_free(l->queue);
	if (l->port)
		xen->ops->unbind(xen, l->port);
	if (l->pages)
		xen->ops->unmap(xen, l->pages, VMC_LINK_PAGES);
	free(l);
}

static const char *node_error(int err)
{
	switch (err) {
	case -ENOENT:
		return "missing";
	case -ERANGE:
		return "out of range";
	case -EEXIST:
		return "used twice";
	case -EINVAL:
	case -E2BIG:
	case -EILSEQ:
		return "not a number";
	default:
		return strerror(-err);
	}
}

int vmc_link_attach(struct vmc_guest *g, char *why)
{
	struct vmc_xen *xen = g->d->xen;
	struct vmc_link *l = calloc(1, sizeof(*l));
	uint8_t *page;
	const char *bad;
	int err;

	if (!l) {
		snprintf(why, VMC_ERROR_MAX, "no memory");
		return -ENOMEM;
	}
	l->g = g;
	err = vmc_store_read_front(xen, g->domid, &l->front, &bad);
	if (err) {
		snprintf(why, VMC_ERROR_MAX, "bad node %s: %s", bad, node_error(err));
		goto fail;
	}
	if (l->front.version_min > VMC_PROTO_MAX || l->front.version_max < VMC_PROTO_MIN) {
		snprintf(why, VMC_ERROR_MAX,
			 "no common protocol version: the driver speaks %u to %u, vmcd %u to %u",
			 l->front.version_min, l->front.version_max, VMC_PROTO_MIN,
			 VMC_PROTO_MAX);
		err = -EPROTONOSUPPORT;
		goto fail;
	}
	l->version = l->front.version_max < VMC_PROTO_MAX ? l->front.version_max :
							     VMC_PROTO_MAX;
	err = xen->ops->map(xen, g->domid, l->front.ref, VMC_LINK_PAGES, &l->pages);
	if (err) {
		l->pages = NULL;
		snprintf(why, VMC_ERROR_MAX, "cannot map its pages: %s", strerror(-err));
		goto fail;
	}
	err = xen->ops->bind(xen, g->domid, l->front.port);
	if (err < 0) {
		snprintf(why, VMC_ERROR_MAX, "cannot bind its port %u: %s", l->front.port,
			 strerror(-err));
		goto fail;
	}
	l->port = (uint32_t)err;

	page = l->pages;
	vmc_ring_prod_init(&l->prod, (void *)page, VMC_MSG_RING_SIZE);
	l->prod_data = page + VMC_PAGE_SIZE;
	vmc_ring_cons_init(&l->cons, (void *)(page + 2 * (size_t)VMC_PAGE_SIZE),
			   VMC_MSG_RING_SIZE);
	l->cons_data = page + 3 * (size_t)VMC_PAGE_SIZE;
	err = take_positions(l);
	if (err) {
		snprintf(why, VMC_ERROR_MAX, "impossible index in its rings");
		goto fail;
	}
	l->queue = evbuffer_new();
	l->more = evtimer_new(g->d->base, on_more, l);
	if (!l->queue || !l->more) {
		snprintf(why, VMC_ERROR_MAX, "no memory");
		err = -ENOMEM;
		goto fail;
	}
	/* After a restart it is 4 already, and is left alone. */
	if (vmc_store_back_state(xen, g->domid) != VMC_XB_CONNECTED) {
		err = vmc_store_set_back_state(xen, g->domid, VMC_XB_CONNECTED);
		if (err) {
			snprintf(why, VMC_ERROR_MAX, "cannot write the backend's state: %s",
				 strerror(-err));
			goto fail;
		}
	}

	snprintf(g->driver, sizeof(g->driver), "%s", l->front.driver);
	g->protocol = l->version;
	g->link = l;
	send_attach(l);
	/* Whatever the former vmcd left in the ring may never have been announced. */
	if (!l->failed)
		notify(l);
	run(l);
	return 0;
fail:
	link_free(l);
	return err;
}

void vmc_link_drop(struct vmc_guest *g)
{
	if (!g->link)
		return;
	link_free(g->link);
	g->link = NULL;
	g->protocol = 0;
	g->driver[0] = '\0';
}

bool vmc_link_current(struct vmc_guest *g)
{
	struct vmc_front front;
	const char *bad;

	return g->link && !vmc_store_read_front(g->d->xen, g->domid, &front, &bad) &&
	       front.port == g->link->front.port &&
	       !memcmp(front.ref, g->link->front.ref, sizeof(front.ref));
}
