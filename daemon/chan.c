// SPDX-License-Identifier: GPL-2.0-or-later
#include "chan.h"

#include "events.h"
#include "link.h"
#include "peer.h"
#include "quarantine.h"
#include "vmcd.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>

/* Ids above this are believed only if both ends report them: nobody wears out the numbers. */
#define ID_TRUSTED_MAX	0x7fffffffu

/* Looks at a guest that has to answer CHAN_CLOSE, in timing.chan_answer. */
#define CLOSE_LOOKS	10u

static const char *const phase_names[] = {
	"recover", "prepare", "connect", "complete", "up", "closing",
};

static void on_timer(evutil_socket_t fd, short what, void *arg);

/* ------------------------------------------------------------------- table */

struct vmc_chan_end *vmc_chan_end(struct vmc_guest *g, uint32_t id)
{
	struct vmc_chan_end *e;

	TAILQ_FOREACH(e, &g->chan_ends, entry)
		if (e->chan->id == id)
			return e;
	return NULL;
}

/*
 * The channel between two guests, seen from @g's end. By domid, because an end
 * that was not reported after a restart has no guest.
 */
static struct vmc_chan_end *end_to(struct vmc_guest *g, struct vmc_guest *peer)
{
	struct vmc_chan_end *e;

	TAILQ_FOREACH(e, &g->chan_ends, entry)
		if (vmc_chan_other(e)->domid == peer->domid)
			return e;
	TAILQ_FOREACH(e, &peer->chan_ends, entry)
		if (vmc_chan_other(e)->domid == g->domid)
			return vmc_chan_other(e);
	return NULL;
}

static bool id_in_use(struct vmcd *d, uint32_t id)
{
	struct vmc_chan *c;

	TAILQ_FOREACH(c, &d->chans, entry)
		if (c->id == id)
			return true;
	return false;
}

static uint32_t new_id(struct vmcd *d)
{
	uint32_t id;

	do {
		id = d->next_chan_id++;
	} while (!id || id_in_use(d, id));
	return id;
}

static void id_reported(struct vmcd *d, uint32_t id)
{
	if (id >= d->next_chan_id)
		d->next_chan_id = id + 1;	/* new_id() skips 0 */
}

static struct vmc_chan *chan_new(struct vmcd *d, uint32_t id)
{
	struct vmc_chan *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->timer = evtimer_new(d->base, on_timer, c);
	if (!c->timer) {
		free(c);
		return NULL;
	}
	c->d = d;
	c->id = id;
	c->again = -1;
	c->end[0].chan = c;
	c->end[1].chan = c;
	TAILQ_INSERT_TAIL(&d->chans, c, entry);
	return c;
}

static void end_join(struct vmc_chan_end *e, struct vmc_guest *g)
{
	e->guest = g;
	e->domid = g->domid;
	TAILQ_INSERT_TAIL(&g->chan_ends, e, entry);
	g->nr_chans++;
}

static void end_part(struct vmc_chan_end *e)
{
	if (!e->guest)
		return;
	TAILQ_REMOVE(&e->guest->chan_ends, e, entry);
	e->guest->nr_chans--;
	e->guest = NULL;
}

static void chan_free(struct vmc_chan *c)
{
	end_part(&c->end[0]);
	end_part(&c->end[1]);
	vmcd_schedule(c->d);
	TAILQ_REMOVE(&c->d->chans, c, entry);
	event_free(c->timer);
	free(c);
}

void vmc_chan_free_all(struct vmcd *d)
{
	struct vmc_chan *c;

	while ((c = TAILQ_FIRST(&d->chans)))
		chan_free(c);
	d->nr_up = 0;
}

static void tell(const struct vmc_chan *c, const char *what, const char *detail)
{
	vmc_event(c->d, &(struct vmc_event){ .name = what, .domid = c->end[0].domid,
					     .peer = c->end[1].domid, .channel = c->id,
					     .detail = detail });
}

static void set_phase(struct vmc_chan *c, enum vmc_chan_phase phase)
{
	struct timeval tv = vmc_timeval(phase == VMC_PHASE_RECOVER ? c->d->timing.chan_recover :
					phase == VMC_PHASE_CLOSING ?
					c->d->timing.chan_answer / CLOSE_LOOKS :
					c->d->timing.chan_answer);

	if (phase == VMC_PHASE_UP)
		c->d->nr_up++;
	else if (c->phase == VMC_PHASE_UP)
		c->d->nr_up--;
	c->phase = phase;
	if (phase == VMC_PHASE_UP) {
		tell(c, "channel-opened", "");
		c->again = -1;
		event_del(c->timer);
	} else {
		event_add(c->timer, &tv);
	}
	vmcd_schedule(c->d);
}

/* ---------------------------------------------------------------- messages */

static void send_close(struct vmc_guest *g, uint32_t id, uint32_t peer,
		       enum vmc_reason reason)
{
	struct vmc_l_chan_close m = {
		.h = { .type = VMC_L_CHAN_CLOSE, .len = sizeof(m), .id = id },
		.peer = peer,
		.reason = reason,
	};

	vmc_link_send(g, &m.h);
}

static void send_prepare(struct vmc_chan *c)
{
	struct vmc_l_chan_prepare m = {
		.h = { .type = VMC_L_CHAN_PREPARE, .len = sizeof(m), .id = c->id },
		.peer = c->end[1].domid,
	};

	c->end[0].told = true;
	vmc_link_send(c->end[0].guest, &m.h);
}

/* A side's half, built anew for the other side: only checked values pass. */
static void send_half(struct vmc_chan_end *to, uint16_t type,
		      const struct vmc_l_chan_half *half, uint32_t port)
{
	struct vmc_l_chan_half m = {
		.h = { .type = type, .len = sizeof(m), .id = to->chan->id },
		.peer = vmc_chan_other(to)->domid,
		.port = port,
	};

	for (unsigned int i = 0; i < VMC_MSG_RING_PAGES; i++)
		m.ring_ref[i] = half->ring_ref[i];
	to->told = true;
	vmc_link_send(to->guest, &m.h);
}

/* Reasons are for people and for a guest's retry rule; one that is out of range is blamed. */
static enum vmc_reason checked_reason(uint32_t untrusted_reason)
{
	return untrusted_reason < VMC_R_MAX ? (enum vmc_reason)untrusted_reason :
					      VMC_R_PROTOCOL;
}

/* Counts against what may be logged about one of the two. */
static void chan_log(struct vmc_chan *c, enum vmc_log_level level, const char *text,
		     enum vmc_reason reason)
{
	int i = !c->end[0].guest;

	if (c->end[i].guest)
		vmc_guest_log(c->end[i].guest, level, "chan", "%u to d%u: %s in phase %s: %s",
			      c->id, c->end[!i].domid, text, phase_names[c->phase],
			      vmc_reason_name(reason));
}

/* ------------------------------------------------------------ open and close */

/* No new channel of this pair for a while: they must not keep vmcd and each other busy. */
static void pair_rest(struct vmc_guest *a, struct vmc_guest *b)
{
	uint64_t until = vmc_now_ms() + a->d->timing.chan_retry;
	struct vmc_peer *ab = vmc_peer_find(a, b), *ba = vmc_peer_find(b, a);

	if (ab)
		ab->not_before_ms = until;
	if (ba)
		ba->not_before_ms = until;
}

static bool has_its_share(const struct vmc_guest *g)
{
	return g->nr_chans >= VMC_CHANNELS_MAX ||
	       g->nr_chans >= vmc_config_settings(g->d->config, g).max[VMC_SET_CHANNELS];
}

/* @a asks for a channel to @b, and there is none. */
static void chan_open(struct vmc_guest *a, struct vmc_guest *b)
{
	struct vmc_peer *p = vmc_peer_find(a, b);
	struct vmcd *d = a->d;
	struct vmc_chan *c;

	/* It may have asked before it read our PEER_DEL. */
	if (!p || !vmc_peer_find(b, a)) {
		send_close(a, 0, b->domid, VMC_R_NO_PEER);
		return;
	}
	if (has_its_share(a) || has_its_share(b)) {
		send_close(a, 0, b->domid, VMC_R_LIMIT);
		return;
	}
	if (vmc_now_ms() < p->not_before_ms) {
		send_close(a, 0, b->domid, VMC_R_TIMEOUT);
		return;
	}
	c = chan_new(d, new_id(d));
	if (!c) {
		send_close(a, 0, b->domid, VMC_R_NO_MEMORY);
		return;
	}
	pair_rest(a, b);
	end_join(&c->end[0], a);
	end_join(&c->end[1], b);
	set_phase(c, VMC_PHASE_PREPARE);
	vmc_guest_log(a, VMC_LOG_DEBUG, "chan", "%u to d%u: opening", c->id, b->domid);
	send_prepare(c);
}

/* If both sides have answered or are dead, the channel is gone. */
static void try_finish(struct vmc_chan *c)
{
	struct vmc_guest *asker = NULL, *peer = NULL;
	struct vmcd *d = c->d;

	for (int i = 0; i < 2; i++)
		if (c->end[i].guest && c->end[i].told && !c->end[i].closed)
			return;
	/* A side that asked, was told to wait, and never heard of the channel. */
	for (int i = 0; i < 2; i++)
		if (c->end[i].guest && c->end[i].asked && !c->end[i].told)
			send_close(c->end[i].guest, 0, c->end[!i].domid, c->reason);
	if (c->again >= 0) {
		asker = vmc_guest_by_domid(d, c->end[c->again].domid);
		peer = vmc_guest_by_domid(d, c->end[!c->again].domid);
	}
	chan_free(c);
	if (asker && peer)
		chan_open(asker, peer);
}

/* Orders each side that knows of it to end it. May free @c. */
static void chan_close(struct vmc_chan *c, enum vmc_reason reason)
{
	if (c->phase == VMC_PHASE_CLOSING)
		return;
	chan_log(c, c->phase == VMC_PHASE_UP ? VMC_LOG_INFO : VMC_LOG_DEBUG, "closing",
		 reason);
	if (c->phase != VMC_PHASE_UP && c->end[0].guest && c->end[1].guest)
		pair_rest(c->end[0].guest, c->end[1].guest);
	if (c->phase == VMC_PHASE_UP)
		tell(c, "channel-closed", vmc_reason_name(reason));
	c->reason = reason;
	c->end[0].silent = 0;
	c->end[1].silent = 0;
	set_phase(c, VMC_PHASE_CLOSING);
	for (int i = 0; i < 2; i++)
		if (c->end[i].guest && c->end[i].told && !c->end[i].closed)
			send_close(c->end[i].guest, c->id, c->end[!i].domid, reason);
	try_finish(c);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct vmc_chan *c = arg;

	(void)fd;
	(void)what;
	if (c->phase != VMC_PHASE_CLOSING) {
		chan_log(c, VMC_LOG_INFO, "no answer", VMC_R_TIMEOUT);
		chan_close(c, VMC_R_TIMEOUT);
		return;
	}
	/*
	 * A guest that does not answer CLOSE may still have its peer's pages mapped.
	 * One that is stopped by the toolstack can't help it, and is waited for: once it
	 * runs it has as much time as any other.
	 */
	for (int i = 0; i < 2; i++) {
		struct vmc_chan_end *e = &c->end[i];

		if (!e->guest || !e->told || e->closed)
			continue;
		e->silent = vmc_guest_paused(e->guest) ? 0 : e->silent + 1;
		if (e->silent == CLOSE_LOOKS)
			vmc_link_fail(e->guest, "does not answer CHAN_CLOSE for channel %u",
				      c->id);
	}
	/* A failed link is reaped, and the channel with it. */
	set_phase(c, VMC_PHASE_CLOSING);
}

/* ---------------------------------------------------------- from the guests */

int vmc_chan_on_req(struct vmc_guest *g, const union vmc_any_msg *m)
{
	uint32_t untrusted_peer = m->chan_req.peer;
	struct vmc_guest *peer = vmc_guest_by_domid(g->d, untrusted_peer);
	struct vmc_chan_end *e;

	if (!peer || peer == g) {
		send_close(g, 0, untrusted_peer, VMC_R_NO_PEER);
		return 0;
	}
	e = end_to(g, peer);
	if (!e) {
		chan_open(g, peer);
		return 0;
	}
	switch (e->chan->phase) {
	case VMC_PHASE_PREPARE:
	case VMC_PHASE_CONNECT:
	case VMC_PHASE_COMPLETE:
		e->asked = true;	/* both asked at once: one channel serves both */
		break;
	case VMC_PHASE_RECOVER:
	case VMC_PHASE_CLOSING:
		if (e->chan->again < 0)	/* when the old one has gone */
			e->chan->again = e == &e->chan->end[1];
		break;
	case VMC_PHASE_UP:
	default:
		break;
	}
	return 0;
}

static bool half_ok(const struct vmc_l_chan_half *untrusted_half, bool with_port)
{
	const uint32_t *ref = untrusted_half->ring_ref;

	for (unsigned int i = 0; i < VMC_MSG_RING_PAGES; i++)
		if (ref[i] < VMC_XEN_GREF_MIN)
			return false;
	if (ref[0] == ref[1])
		return false;
	return !with_port ||
	       (untrusted_half->port && untrusted_half->port <= VMC_XEN_PORT_MAX);
}

/*
 * Finds the end for a message that moves an opening channel on. Returns 1 with
 * *e if it is the turn of that side; 0 if the message crossed with a close.
 */
static int opening_end(struct vmc_guest *g, const union vmc_any_msg *m, const char *name,
		       int side, enum vmc_chan_phase phase, struct vmc_chan_end **e)
{
	*e = vmc_chan_end(g, m->h.id);
	if (!*e)
		return vmc_link_fail(g, "%s for channel %u, which it does not have", name,
				     m->h.id);
	if ((*e)->chan->phase == VMC_PHASE_CLOSING)
		return 0;
	if ((*e)->chan->phase != phase || *e != &(*e)->chan->end[side])
		return vmc_link_fail(g, "%s out of turn for channel %u in phase %s", name,
				     m->h.id, phase_names[(*e)->chan->phase]);
	return 1;
}

int vmc_chan_on_offer(struct vmc_guest *g, const union vmc_any_msg *m)
{
	struct vmc_chan_end *e;
	int ret = opening_end(g, m, "CHAN_OFFER", 0, VMC_PHASE_PREPARE, &e);

	if (ret <= 0)
		return ret;
	if (m->chan_half.peer != e->chan->end[1].domid || !half_ok(&m->chan_half, true))
		return vmc_link_fail(g, "impossible values in CHAN_OFFER for channel %u",
				     m->h.id);
	set_phase(e->chan, VMC_PHASE_CONNECT);
	send_half(&e->chan->end[1], VMC_L_CHAN_CONNECT, &m->chan_half, m->chan_half.port);
	return 0;
}

int vmc_chan_on_accept(struct vmc_guest *g, const union vmc_any_msg *m)
{
	struct vmc_chan_end *e;
	int ret = opening_end(g, m, "CHAN_ACCEPT", 1, VMC_PHASE_CONNECT, &e);

	if (ret <= 0)
		return ret;
	if (m->chan_half.peer != e->chan->end[0].domid || !half_ok(&m->chan_half, false))
		return vmc_link_fail(g, "impossible values in CHAN_ACCEPT for channel %u",
				     m->h.id);
	set_phase(e->chan, VMC_PHASE_COMPLETE);
	send_half(&e->chan->end[0], VMC_L_CHAN_COMPLETE, &m->chan_half, 0);
	return 0;
}

int vmc_chan_on_up(struct vmc_guest *g, const union vmc_any_msg *m)
{
	struct vmc_chan_end *e;
	int ret = opening_end(g, m, "CHAN_UP", 0, VMC_PHASE_COMPLETE, &e);

	if (ret <= 0)
		return ret;
	set_phase(e->chan, VMC_PHASE_UP);
	vmc_guest_log(g, VMC_LOG_INFO, "chan", "%u to d%u: up", m->h.id,
		      e->chan->end[1].domid);
	return 0;
}

/* One of the two says why it ends. */
static void end_by(struct vmc_chan_end *e, uint32_t untrusted_reason)
{
	enum vmc_reason reason = checked_reason(untrusted_reason);
	struct vmc_chan_end *other = vmc_chan_other(e);

	if (reason == VMC_R_PROTOCOL && other->guest && e->chan->phase != VMC_PHASE_CLOSING)
		vmc_quarantine_note(e->guest, other->guest);
	chan_close(e->chan, reason);
}

int vmc_chan_on_closed(struct vmc_guest *g, const union vmc_any_msg *m)
{
	struct vmc_chan_end *e = vmc_chan_end(g, m->h.id);

	/* It closed on its own, and again when our CLOSE came. */
	if (!e || !e->told)
		return 0;
	e->closed = true;
	vmcd_schedule(g->d);
	if (e->chan->phase == VMC_PHASE_CLOSING)
		try_finish(e->chan);
	else
		end_by(e, m->chan_close.reason);
	return 0;
}

int vmc_chan_on_close(struct vmc_guest *g, const union vmc_any_msg *m)
{
	struct vmc_chan_end *e = vmc_chan_end(g, m->h.id);

	if (e && e->told)
		end_by(e, m->chan_close.reason);
	return 0;
}

/* ------------------------------------------------------- after a restart */

/* A channel that the peer has reported and that waits for @g to do the same. */
static struct vmc_chan_end *claim_of(struct vmc_guest *g, uint32_t id, uint32_t peer)
{
	struct vmc_chan *c;

	TAILQ_FOREACH(c, &g->d->chans, entry)
		if (c->phase == VMC_PHASE_RECOVER && c->id == id &&
		    c->end[1].domid == g->domid && c->end[0].domid == peer)
			return &c->end[1];
	return NULL;
}

int vmc_chan_on_state(struct vmc_guest *g, const union vmc_any_msg *m)
{
	uint32_t id = m->h.id, untrusted_peer = m->chan_state.peer;
	uint32_t untrusted_state = m->chan_state.state;
	struct vmc_chan_end *e;
	struct vmc_chan *c;

	if (!id || untrusted_peer == g->domid || !untrusted_peer ||
	    untrusted_state < VMC_CHAN_OPENING || untrusted_state > VMC_CHAN_CLOSING)
		return vmc_link_fail(g, "impossible values in CHAN_STATE for channel %u", id);
	if (vmc_chan_end(g, id))
		return vmc_link_fail(g, "CHAN_STATE for channel %u twice", id);
	if (id <= ID_TRUSTED_MAX)
		id_reported(g->d, id);

	e = claim_of(g, id, untrusted_peer);
	if (!e) {
		c = chan_new(g->d, id);
		if (!c)
			return vmc_link_fail(g, "no memory for its channels");
		c->end[1].domid = untrusted_peer;
		e = &c->end[0];
		set_phase(c, VMC_PHASE_RECOVER);
	}
	e->told = true;
	e->claimed_up = untrusted_state == VMC_CHAN_UP;
	end_join(e, g);
	c = e->chan;
	if (!c->end[0].guest || !c->end[1].guest)
		return 0;

	id_reported(g->d, id);
	if (c->end[0].claimed_up && c->end[1].claimed_up)
		set_phase(c, VMC_PHASE_UP);
	else
		chan_close(c, VMC_R_TIMEOUT);	/* halfway: they may ask again */
	return 0;
}

void vmc_chan_guest_ready(struct vmc_guest *g)
{
	struct vmc_chan *c, *next;

	for (c = TAILQ_FIRST(&g->d->chans); c; c = next) {
		struct vmc_guest *peer;

		next = TAILQ_NEXT(c, entry);
		if (c->phase != VMC_PHASE_RECOVER)
			continue;
		if (c->end[1].domid == g->domid) {
			/* g has listed all it has: not this one */
			chan_close(c, VMC_R_NO_CHANNEL);
		} else if (c->end[0].guest == g) {
			peer = vmc_guest_by_domid(g->d, c->end[1].domid);
			if (peer && vmc_link_ready(peer))
				chan_close(c, VMC_R_NO_CHANNEL);
		}
	}
}

/* ------------------------------------------------------------ from inside */

void vmc_chan_guest_lost(struct vmc_guest *g, enum vmc_reason reason)
{
	struct vmc_chan_end *e;

	while ((e = TAILQ_FIRST(&g->chan_ends))) {
		end_part(e);
		if (e->chan->phase == VMC_PHASE_CLOSING)
			try_finish(e->chan);
		else
			chan_close(e->chan, reason);
	}
}

void vmc_chan_close_pair(struct vmc_guest *a, struct vmc_guest *b, enum vmc_reason reason)
{
	struct vmc_chan_end *e = end_to(a, b);

	if (e)
		chan_close(e->chan, reason);
}

void vmc_chan_check_peers(struct vmcd *d)
{
	struct vmc_chan *c, *next;

	for (c = TAILQ_FIRST(&d->chans); c; c = next) {
		struct vmc_guest *a = c->end[0].guest, *b = c->end[1].guest;

		next = TAILQ_NEXT(c, entry);
		if (a && b && vmc_link_ready(a) && vmc_link_ready(b) &&
		    !(vmc_peer_find(a, b) && vmc_peer_find(b, a)))
			chan_close(c, VMC_R_POLICY);
	}
}
