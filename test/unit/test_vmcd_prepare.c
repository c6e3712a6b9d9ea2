// SPDX-License-Identifier: GPL-2.0-or-later
/* Guests that are about to be saved or migrated: parted from their peers, and given back to them. */
#include "test_vmcd_fake.h"

#include "chan.h"
#include "guest.h"
#include "link.h"
#include "peer.h"
#include "prepare.h"
#include "quarantine.h"

#include <string.h>

struct scene {
	struct fake *f;
	struct fake_guest *a, *b;
	struct vmc_hold hold;
	struct vmc_hold timed[2];	/* nobody listens */
	unsigned int nr_timed;
	unsigned int done;		/* how often done() was called */
	char why[128];			/* its last word; empty if there was none */
};

static void on_done(struct vmc_hold *h, const char *why)
{
	struct scene *s = (struct scene *)((char *)h - offsetof(struct scene, hold));

	s->done++;
	snprintf(s->why, sizeof(s->why), "%s", why ? why : "");
}

static int setup(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));

	s->f = fake_new();
	fake_start(s->f);
	s->f->d->timing.chan_retry = 0;
	s->f->d->timing.prepare = 200;
	s->f->d->timing.prepare_look = 10;
	s->a = fake_vm(s->f, 3);
	s->b = fake_vm(s->f, 4);
	fg_ready(s->a);
	fg_ready(s->b);
	fg_drain(s->a);
	fg_drain(s->b);
	s->hold.done = on_done;
	s->hold.keep = true;
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct scene *s = *state;

	vmc_prepare_release(&s->hold);
	fake_free(s->f);
	free(s);
	return 0;
}

static struct vmc_guest *guest(struct scene *s, uint32_t domid)
{
	struct vmc_guest *g = vmc_guest_by_domid(s->f->d, domid);

	assert_non_null(g);
	return g;
}

static void hold(struct scene *s, uint32_t domid)
{
	assert_int_equal(vmc_prepare_hold(guest(s, domid), &s->hold), 0);
	assert_int_equal(s->done, 0);		/* never from the call itself */
}

static void hold_for(struct scene *s, uint32_t domid, unsigned int seconds)
{
	struct vmc_hold *h = &s->timed[s->nr_timed++];

	h->seconds = seconds;
	assert_int_equal(vmc_prepare_hold(guest(s, domid), h), 0);
}

static void expect_del(struct fake_guest *g, uint32_t peer)
{
	union vmc_any_msg m;

	fg_expect(g, VMC_L_PEER_DEL, &m);
	assert_int_equal(m.peer_del.domid, peer);
	assert_int_equal(m.peer_del.reason, VMC_R_PREPARE);
}

static void expect_add(struct fake_guest *g, uint32_t peer)
{
	union vmc_any_msg m;

	fg_expect(g, VMC_L_PEER_ADD, &m);
	assert_int_equal(m.peer_add.domid, peer);
}

static void expect_close(struct fake_guest *g, uint32_t id)
{
	union vmc_any_msg m;

	fg_expect(g, VMC_L_CHAN_CLOSE, &m);
	assert_int_equal(m.h.id, id);
	assert_int_equal(m.chan_close.reason, VMC_R_PREPARE);
}

static void closed(struct fake_guest *g, uint32_t id, uint32_t peer)
{
	fg_close(g, VMC_L_CHAN_CLOSED, id, peer, VMC_R_NONE);
}

static void expect_prepared(struct scene *s, uint32_t domid)
{
	fake_settle(s->f);
	assert_int_equal(s->done, 1);
	assert_string_equal(s->why, "");
	assert_string_equal(vmc_prepare_state(guest(s, domid)), "prepared");
}

/* Both are told of each other again. */
static void expect_home(struct scene *s)
{
	assert_false(vmc_prepare_has(guest(s, 3)));
	expect_add(s->a, 4);
	expect_add(s->b, 3);
}

static void expect_failed(struct scene *s, const char *why)
{
	fake_run(s->f, 400);
	assert_int_equal(s->done, 1);
	assert_non_null(strstr(s->why, why));
	assert_null(s->hold.guest);
	assert_string_equal(vmc_prepare_state(guest(s, 3)), "no");
}

/* ------------------------------------------------------------------ parting */

static void without_channels(void **state)
{
	struct scene *s = *state;

	hold(s, 3);
	assert_string_equal(vmc_prepare_state(guest(s, 3)), "preparing");
	expect_prepared(s, 3);
	expect_del(s->a, 4);
	expect_del(s->b, 3);
	vmc_prepare_release(&s->hold);
	fake_settle(s->f);
	expect_home(s);
	assert_int_equal(s->done, 1);
}

static void with_a_channel(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);

	hold(s, 3);
	expect_close(s->a, id);
	expect_del(s->a, 4);
	expect_close(s->b, id);
	expect_del(s->b, 3);
	closed(s->b, id, 3);
	fake_settle(s->f);
	assert_int_equal(s->done, 0);
	closed(s->a, id, 4);
	expect_prepared(s, 3);
	fake_run(s->f, 400);			/* it stays so */
	assert_string_equal(vmc_prepare_state(guest(s, 3)), "prepared");
	fg_expect_nothing(s->a);
	vmc_prepare_release(&s->hold);
	fake_settle(s->f);
	expect_home(s);
	assert_int_not_equal(fg_open(s->b, s->a), 0);
}

static void the_peer_lets_go_last(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);

	hold(s, 3);
	fake_settle(s->f);
	closed(s->a, id, 4);
	fake_settle(s->f);
	assert_int_equal(s->done, 0);
	closed(s->b, id, 3);
	expect_prepared(s, 3);
}

/* In every phase of its opening a channel is given up. */
static void while_a_channel_opens(void **state)
{
	struct scene *s = *state;
	union vmc_any_msg m;

	for (int phase = 0; phase < 3; phase++) {
		uint32_t id;

		fg_chan_req(s->a, 4);
		fg_expect(s->a, VMC_L_CHAN_PREPARE, &m);
		id = m.h.id;
		if (phase > 0) {
			fg_half(s->a, VMC_L_CHAN_OFFER, id, 4, 9);
			fg_expect(s->b, VMC_L_CHAN_CONNECT, &m);
		}
		if (phase > 1) {
			fg_half(s->b, VMC_L_CHAN_ACCEPT, id, 3, 0);
			fg_expect(s->a, VMC_L_CHAN_COMPLETE, &m);
		}
		s->done = 0;
		hold(s, 4);
		expect_close(s->a, id);
		if (phase > 0)
			expect_close(s->b, id);
		assert_int_equal(s->done, 0);
		closed(s->a, id, 4);
		if (phase > 0)
			closed(s->b, id, 3);
		expect_prepared(s, 4);
		vmc_prepare_release(&s->hold);
		fake_settle(s->f);
		fg_drain(s->a);
		fg_drain(s->b);
	}
}

static void a_peer_that_is_paused(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);

	s->b->info.paused = true;
	hold(s, 3);
	fake_settle(s->f);
	closed(s->a, id, 4);
	expect_prepared(s, 3);
	/* and when it runs again */
	s->b->info.paused = false;
	expect_close(s->b, id);
	closed(s->b, id, 3);
	fake_settle(s->f);
	assert_true(TAILQ_EMPTY(&s->f->d->chans));
}

static void a_peer_that_is_destroyed(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);

	hold(s, 3);
	fake_settle(s->f);
	closed(s->a, id, 4);
	fake_settle(s->f);
	assert_int_equal(s->done, 0);
	fake_destroy(s->b);
	fake_release_event(s->f);
	expect_prepared(s, 3);
}

static void nobody_joins_it(void **state)
{
	struct scene *s = *state;
	struct fake_guest *c = fake_vm(s->f, 5);
	union vmc_any_msg m;

	hold(s, 3);
	expect_prepared(s, 3);
	fg_drain(s->a);
	fg_drain(s->b);
	fg_ready(c);
	assert_null(vmc_peer_find(guest(s, 3), guest(s, 5)));
	assert_null(vmc_peer_find(guest(s, 5), guest(s, 3)));
	assert_non_null(vmc_peer_find(guest(s, 4), guest(s, 5)));
	fg_chan_req(s->b, 3);
	fg_expect(s->b, VMC_L_CHAN_CLOSE, &m);
	assert_int_equal(m.h.id, 0);
	assert_int_equal(m.chan_close.reason, VMC_R_NO_PEER);
	vmc_prepare_release(&s->hold);
	fake_settle(s->f);
	expect_add(s->a, 4);
	expect_add(s->a, 5);
}

/* -------------------------------------------------------------- what goes wrong */

static void a_guest_that_does_not_let_go(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);

	hold(s, 3);
	fake_settle(s->f);
	fg_drain(s->a);
	fg_drain(s->b);
	closed(s->b, id, 3);
	expect_failed(s, "d3 does not let go of channel 1");
	closed(s->a, id, 4);
	fake_settle(s->f);
	expect_home(s);
	/* and it can be tried again */
	s->done = 0;
	hold(s, 3);
	expect_prepared(s, 3);
}

static void a_guest_that_is_paused(void **state)
{
	struct scene *s = *state;

	fg_open(s->a, s->b);
	s->a->info.paused = true;
	hold(s, 3);
	fake_run(s->f, 400);
	assert_int_equal(s->done, 1);
	assert_non_null(strstr(s->why, "d3, which is paused, does not let go"));
	assert_null(s->hold.guest);
	s->a->info.paused = false;
	fake_run(s->f, 50);
	assert_string_equal(vmc_prepare_state(guest(s, 3)), "no");
}

static void pages_are_still_mapped(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);

	s->b->lent_to = 3;
	s->b->lent = 7;
	hold(s, 3);
	fake_settle(s->f);
	closed(s->a, id, 4);
	closed(s->b, id, 3);
	fake_run(s->f, 50);
	assert_int_equal(s->done, 0);
	s->b->lent = 0;
	fake_run(s->f, 50);
	expect_prepared(s, 3);
}

static void pages_stay_mapped(void **state)
{
	struct scene *s = *state;

	s->b->lent_to = 3;
	s->b->lent = 7;
	hold(s, 3);
	expect_failed(s, "it still has 7 pages of d4 mapped");
	/* what it has lent to others is theirs to let go */
	s->b->lent_to = 9;
	s->done = 0;
	hold(s, 3);
	expect_prepared(s, 3);
}

/* -------------------------------------------------------------------- the end */

static void it_is_stopped_when_nobody_holds_it(void **state)
{
	struct scene *s = *state;

	hold(s, 3);
	expect_prepared(s, 3);
	fg_drain(s->a);
	fg_drain(s->b);
	s->a->info.shutdown = true;
	s->a->info.suspended = true;
	vmc_prepare_release(&s->hold);
	fake_run(s->f, 100);
	fg_expect_nothing(s->b);
	s->a->info.shutdown = false;
	s->a->info.suspended = false;
	fake_run(s->f, 100);
	expect_home(s);
}

static void it_leaves(void **state)
{
	struct scene *s = *state;

	hold(s, 3);
	expect_prepared(s, 3);
	fg_drain(s->b);
	fake_destroy(s->a);
	fake_release_event(s->f);
	fake_settle(s->f);
	assert_null(s->hold.guest);
	assert_int_equal(s->done, 1);
	fg_expect_nothing(s->b);
}

static void it_leaves_too_early(void **state)
{
	struct scene *s = *state;

	fg_open(s->a, s->b);
	hold(s, 3);
	fake_settle(s->f);
	assert_int_equal(s->done, 0);
	fake_destroy(s->a);
	fake_release_event(s->f);
	fake_settle(s->f);
	assert_int_equal(s->done, 1);
	assert_string_equal(s->why, "it is gone");
	assert_null(s->hold.guest);
}

static void two_hold_it(void **state)
{
	struct scene *s = *state;
	struct vmc_hold other = { .keep = true };

	hold(s, 3);
	assert_int_equal(vmc_prepare_hold(guest(s, 3), &other), 0);
	expect_prepared(s, 3);
	fg_drain(s->a);
	fg_drain(s->b);
	vmc_prepare_release(&s->hold);
	fake_run(s->f, 50);
	fg_expect_nothing(s->a);
	vmc_prepare_release(&other);
	fake_settle(s->f);
	expect_home(s);
}

/* Who wants it later, and can't have it, takes it from nobody. */
static void one_holds_it_and_another_fails(void **state)
{
	struct scene *s = *state;
	struct vmc_hold first = { .keep = true };

	assert_int_equal(vmc_prepare_hold(guest(s, 3), &first), 0);
	fake_settle(s->f);
	assert_string_equal(vmc_prepare_state(guest(s, 3)), "prepared");
	s->b->lent_to = 3;
	s->b->lent = 1;
	hold(s, 3);
	fake_run(s->f, 400);
	assert_int_equal(s->done, 1);
	assert_non_null(strstr(s->why, "it still has 1 pages"));
	assert_ptr_equal(first.guest, guest(s, 3));
	assert_string_equal(vmc_prepare_state(guest(s, 3)), "prepared");
	vmc_prepare_release(&first);
	fake_settle(s->f);
	assert_false(vmc_prepare_has(guest(s, 3)));
}

static void for_a_time(void **state)
{
	struct scene *s = *state;

	hold_for(s, 3, 1);
	s->hold.keep = false;			/* wants to know, not to hold */
	hold(s, 3);
	expect_prepared(s, 3);
	assert_null(s->hold.guest);
	fg_drain(s->a);
	fg_drain(s->b);
	fake_run(s->f, 700);
	assert_true(vmc_prepare_has(guest(s, 3)));
	fake_run(s->f, 500);
	expect_home(s);
}

static void an_operator_resumes_it(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);

	hold_for(s, 3, 1000);
	hold(s, 3);
	fake_settle(s->f);
	fg_drain(s->a);
	fg_drain(s->b);
	vmc_prepare_resume(guest(s, 3));
	assert_int_equal(s->done, 1);
	assert_string_equal(s->why, "resumed by the operator");
	assert_null(s->hold.guest);
	closed(s->a, id, 4);
	closed(s->b, id, 3);
	fake_settle(s->f);
	expect_home(s);
	vmc_prepare_resume(guest(s, 3));	/* nothing to resume */
}

static void a_copy_on_the_same_host(void **state)
{
	struct scene *s = *state;
	struct fake_guest *new;

	hold(s, 3);
	expect_prepared(s, 3);
	fg_drain(s->b);
	s->a->info.suspended = s->a->info.shutdown = true;
	/* the domain that it goes to has its MAC already */
	new = fake_domain(s->f, 6, "vm3");
	memcpy(new->info.uuid, s->a->info.uuid, sizeof(new->info.uuid));
	fake_introduce_event(s->f);
	fake_vif(s->f, 6, 0, "00:16:3e:00:00:03", "xenbr0");
	fake_settle(s->f);
	fg_ready(new);
	assert_non_null(vmc_peer_find(guest(s, 4), guest(s, 6)));
	fake_destroy(s->a);
	fake_release_event(s->f);
	fake_settle(s->f);
	fg_expect_nothing(s->b);
	assert_null(s->hold.guest);
}

/* --------------------------------------------------------------- several holders */

/* One more who holds, and goes as a connection does: maybe from done() itself. */
struct waiter {
	struct vmc_hold hold;
	unsigned int done;
	bool leaves;
	char why[128];
};

static void on_waiter(struct vmc_hold *h, const char *why)
{
	struct waiter *w = (struct waiter *)((char *)h - offsetof(struct waiter, hold));

	w->done++;
	snprintf(w->why, sizeof(w->why), "%s", why ? why : "");
	if (w->leaves) {
		vmc_prepare_release(h);
		free(w);
	}
}

static struct waiter *waiter_new(struct scene *s, uint32_t domid, bool keep, bool leaves)
{
	struct waiter *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->hold.done = on_waiter;
	w->hold.keep = keep;
	w->leaves = leaves;
	assert_int_equal(vmc_prepare_hold(guest(s, domid), &w->hold), 0);
	assert_int_equal(w->done, 0);
	return w;
}

static void waiter_free(struct waiter *w)
{
	vmc_prepare_release(&w->hold);
	free(w);
}

static void drain(struct scene *s)
{
	fg_drain(s->a);
	fg_drain(s->b);
}

/* For what is not to fail, however slow this machine is. */
static void patiently(struct scene *s)
{
	s->f->d->timing.prepare = 20000;
}

static void expect_quiet(struct scene *s)
{
	fg_expect_nothing(s->a);
	fg_expect_nothing(s->b);
}

static void some_leave_when_they_hear(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);
	struct waiter *w;

	patiently(s);
	waiter_new(s, 3, true, true);
	w = waiter_new(s, 3, false, false);
	waiter_new(s, 3, true, true);
	hold(s, 3);
	waiter_new(s, 3, false, true);
	drain(s);
	closed(s->a, id, 4);
	assert_int_equal(w->done, 0);
	closed(s->b, id, 3);
	expect_prepared(s, 3);
	assert_int_equal(w->done, 1);
	assert_null(w->hold.guest);	/* it wanted to know, not to hold */
	waiter_free(w);
	fake_run(s->f, 50);
	expect_quiet(s);
	vmc_prepare_release(&s->hold);
	fake_settle(s->f);
	expect_home(s);
}

static void all_leave_when_it_fails(void **state)
{
	struct scene *s = *state;

	fg_open(s->a, s->b);
	waiter_new(s, 3, true, true);
	waiter_new(s, 3, false, true);
	hold(s, 3);
	waiter_new(s, 3, true, true);
	expect_failed(s, "d3 does not let go");
}

static void one_does_not_wait_any_more(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);
	struct waiter *w = waiter_new(s, 3, true, false);

	patiently(s);
	hold(s, 3);
	drain(s);
	waiter_free(w);			/* and is not told anything */
	fake_run(s->f, 30);
	assert_string_equal(vmc_prepare_state(guest(s, 3)), "preparing");
	closed(s->a, id, 4);
	closed(s->b, id, 3);
	expect_prepared(s, 3);
}

/* The last one goes before it is prepared: its peers are back, and the channel is opened anew. */
static void nobody_waits_any_more(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);
	union vmc_any_msg m;

	patiently(s);
	hold(s, 3);
	drain(s);
	vmc_prepare_release(&s->hold);
	fake_settle(s->f);
	expect_home(s);
	assert_int_equal(s->done, 0);
	fg_chan_req(s->b, 3);
	fg_expect_nothing(s->b);
	closed(s->a, id, 4);
	closed(s->b, id, 3);
	fg_expect(s->b, VMC_L_CHAN_PREPARE, &m);
	assert_int_not_equal(m.h.id, id);
	fake_run(s->f, 300);
	assert_int_equal(s->done, 0);
}

static void held_again_when_it_is_prepared(void **state)
{
	struct scene *s = *state;
	struct waiter *w;

	hold(s, 3);
	expect_prepared(s, 3);
	drain(s);
	w = waiter_new(s, 3, true, false);
	fake_settle(s->f);
	assert_int_equal(w->done, 1);
	assert_string_equal(w->why, "");
	assert_int_equal(s->done, 1);
	expect_quiet(s);
	waiter_free(w);
	fake_run(s->f, 50);
	assert_string_equal(vmc_prepare_state(guest(s, 3)), "prepared");
	expect_quiet(s);
}

static void others_do_not_prolong_the_wait(void **state)
{
	struct scene *s = *state;
	struct waiter *w[3];

	fg_open(s->a, s->b);
	hold(s, 3);
	for (int i = 0; i < 3; i++) {
		fake_run(s->f, 100);
		w[i] = waiter_new(s, 3, true, false);
	}
	assert_int_equal(s->done, 1);	/* after 300 ms; it has 200 */
	for (int i = 0; i < 3; i++)
		waiter_free(w[i]);
}

static void two_guests_at_once(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);
	struct waiter *w = waiter_new(s, 4, true, false);

	patiently(s);
	hold(s, 3);
	expect_close(s->a, id);
	expect_del(s->a, 4);
	expect_close(s->b, id);
	expect_del(s->b, 3);
	closed(s->a, id, 4);
	fake_settle(s->f);
	assert_int_equal(s->done + w->done, 0);
	closed(s->b, id, 3);
	expect_prepared(s, 3);
	assert_int_equal(w->done, 1);
	vmc_prepare_release(&s->hold);
	fake_run(s->f, 50);
	assert_false(vmc_prepare_has(guest(s, 3)));
	expect_quiet(s);		/* the other one is not back */
	waiter_free(w);
	fake_settle(s->f);
	expect_home(s);
}

static void resumed_for_all(void **state)
{
	struct scene *s = *state;
	struct waiter *w;

	patiently(s);
	hold(s, 3);
	expect_prepared(s, 3);
	fg_drain(s->a);
	fg_drain(s->b);
	s->b->lent_to = 3;		/* so that the others wait */
	s->b->lent = 1;
	w = waiter_new(s, 3, false, false);
	waiter_new(s, 3, true, true);
	fake_settle(s->f);
	vmc_prepare_resume(guest(s, 3));
	assert_int_equal(w->done, 1);
	assert_string_equal(w->why, "resumed by the operator");
	assert_null(w->hold.guest);
	waiter_free(w);
	assert_int_equal(s->done, 1);	/* who was told already does not hear of it */
	assert_null(s->hold.guest);
	fake_settle(s->f);
	expect_home(s);
	vmc_prepare_release(&s->hold);	/* it does not know */
	fake_run(s->f, 300);
	expect_quiet(s);
	s->b->lent = 0;
	s->done = 0;
	hold(s, 3);
	expect_prepared(s, 3);
}

/* ------------------------------------------------------------------- for a time */

static void the_time_is_set_anew(void **state)
{
	struct scene *s = *state;

	hold_for(s, 3, 1);
	fake_run(s->f, 600);
	hold_for(s, 3, 1);
	fake_run(s->f, 600);		/* the first one is over */
	assert_string_equal(vmc_prepare_state(guest(s, 3)), "prepared");
	drain(s);
	fake_run(s->f, 600);
	expect_home(s);
}

static void the_time_ends_while_another_holds(void **state)
{
	struct scene *s = *state;

	hold_for(s, 3, 1);
	hold(s, 3);
	expect_prepared(s, 3);
	drain(s);
	fake_run(s->f, 1200);
	assert_string_equal(vmc_prepare_state(guest(s, 3)), "prepared");
	expect_quiet(s);
	vmc_prepare_release(&s->hold);
	fake_settle(s->f);
	expect_home(s);
}

static void the_time_ends_after_another_failed(void **state)
{
	struct scene *s = *state;

	hold_for(s, 3, 1);
	fake_settle(s->f);
	assert_string_equal(vmc_prepare_state(guest(s, 3)), "prepared");
	drain(s);
	s->b->lent_to = 3;
	s->b->lent = 1;
	hold(s, 3);
	fake_run(s->f, 400);
	assert_int_equal(s->done, 1);
	assert_null(s->hold.guest);
	assert_string_equal(vmc_prepare_state(guest(s, 3)), "prepared");
	expect_quiet(s);
	fake_run(s->f, 800);
	expect_home(s);
}

static void the_time_ends_while_it_is_stopped(void **state)
{
	struct scene *s = *state;

	hold_for(s, 3, 1);
	fake_settle(s->f);
	drain(s);
	s->a->info.paused = true;
	fake_run(s->f, 1200);
	assert_true(vmc_prepare_has(guest(s, 3)));
	expect_quiet(s);
	s->a->info.paused = false;
	fake_run(s->f, 50);
	expect_home(s);
}

static void it_fails_and_the_time_with_it(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);

	hold_for(s, 3, 1000);
	s->hold.keep = false;
	hold(s, 3);
	expect_failed(s, "d3 does not let go");
	drain(s);
	closed(s->a, id, 4);
	closed(s->b, id, 3);
	assert_int_not_equal(fg_open(s->a, s->b), 0);
}

static void the_time_begins_when_it_is_prepared(void **state)
{
	struct scene *s = *state;

	s->f->d->timing.prepare = 2000;
	s->b->lent_to = 3;
	s->b->lent = 1;
	hold_for(s, 3, 1);
	s->hold.keep = false;
	hold(s, 3);
	fake_run(s->f, 1200);
	assert_int_equal(s->done, 0);
	s->b->lent = 0;
	fake_run(s->f, 100);
	expect_prepared(s, 3);
}

static void gone_with_all_timers_set(void **state)
{
	struct scene *s = *state;
	struct fake_guest *c = fake_vm(s->f, 5);

	patiently(s);
	fg_ready(c);
	/* held for a time; waiting; released and stopped */
	hold_for(s, 3, 1);
	s->a->lent_to = 4;
	s->a->lent = 1;
	waiter_new(s, 4, true, true);
	hold(s, 5);
	fake_settle(s->f);
	assert_int_equal(s->done, 1);
	c->info.paused = true;
	vmc_prepare_release(&s->hold);
	fake_settle(s->f);
	assert_string_equal(vmc_prepare_state(guest(s, 3)), "prepared");
	assert_string_equal(vmc_prepare_state(guest(s, 4)), "preparing");
	assert_true(vmc_prepare_has(guest(s, 5)));
	fake_destroy(s->a);
	fake_destroy(s->b);
	fake_destroy(c);
	fake_run(s->f, 1200);
	assert_true(TAILQ_EMPTY(&s->f->d->guests));
}

/* ------------------------------------------------------------------ who is stopped */

static void it_is_paused_when_nobody_holds_it(void **state)
{
	struct scene *s = *state;

	hold(s, 3);
	expect_prepared(s, 3);
	drain(s);
	s->a->info.paused = true;
	vmc_prepare_release(&s->hold);
	fake_run(s->f, 100);
	expect_quiet(s);
	/* held again, and again not */
	s->done = 0;
	hold(s, 3);
	expect_prepared(s, 3);
	vmc_prepare_release(&s->hold);
	fake_run(s->f, 50);
	vmc_prepare_resume(guest(s, 3));
	fake_run(s->f, 50);
	expect_quiet(s);
	s->a->info.paused = false;
	fake_run(s->f, 50);
	expect_home(s);
}

static void it_fails_while_it_is_suspended(void **state)
{
	struct scene *s = *state;

	fg_open(s->a, s->b);
	s->a->info.shutdown = s->a->info.suspended = true;
	hold(s, 3);
	fake_settle(s->f);
	drain(s);
	fake_run(s->f, 400);
	assert_int_equal(s->done, 1);
	expect_quiet(s);
	s->a->info.shutdown = s->a->info.suspended = false;
	fake_run(s->f, 50);
	expect_home(s);
}

static void a_peer_stops_meanwhile(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);

	patiently(s);
	hold(s, 3);
	drain(s);
	closed(s->a, id, 4);
	fake_run(s->f, 50);
	assert_int_equal(s->done, 0);
	/* nothing tells vmcd; the other way to be stopped */
	s->b->info.shutdown = s->b->info.suspended = true;
	fake_run(s->f, 50);
	expect_prepared(s, 3);
}

/* It asked for a channel and was stopped; the held one has not even heard of that. */
static void a_peer_that_asked_is_paused(void **state)
{
	struct scene *s = *state;

	patiently(s);
	fg_chan_req(s->a, 4);
	fg_expect(s->a, VMC_L_CHAN_PREPARE, NULL);
	s->a->info.paused = true;
	hold(s, 4);
	expect_prepared(s, 4);
	assert_false(TAILQ_EMPTY(&s->f->d->chans));
}

static void a_peer_runs_again(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);

	patiently(s);
	s->b->info.paused = true;
	hold(s, 3);
	drain(s);
	fake_run(s->f, 50);
	s->b->info.paused = false;
	closed(s->a, id, 4);
	fake_run(s->f, 50);
	assert_int_equal(s->done, 0);
	closed(s->b, id, 3);
	expect_prepared(s, 3);
}

/* --------------------------------------------------------------------- many peers */

static void all_peers_let_go(void **state)
{
	struct scene *s = *state;
	struct fake_guest *c = fake_vm(s->f, 5);
	uint32_t with_b, with_c, other;

	patiently(s);
	fg_ready(c);
	with_b = fg_open(s->a, s->b);
	with_c = fg_open(c, s->a);
	other = fg_open(s->b, c);
	hold(s, 3);
	expect_close(s->b, with_b);
	expect_del(s->b, 3);
	fg_expect_nothing(s->b);	/* its channel with c is nobody's business */
	expect_close(c, with_c);
	expect_del(c, 3);
	fg_expect_nothing(c);
	closed(s->a, with_b, 4);
	closed(s->a, with_c, 5);
	closed(c, with_c, 3);
	fake_run(s->f, 50);
	assert_int_equal(s->done, 0);
	closed(s->b, with_b, 3);
	expect_prepared(s, 3);
	assert_int_equal(s->f->d->nr_up, 1);
	fg_drain(s->a);
	vmc_prepare_release(&s->hold);
	fake_settle(s->f);
	expect_home(s);
	expect_add(s->a, 5);
	expect_add(c, 3);
	fg_close(c, VMC_L_CHAN_CLOSED, other, 4, VMC_R_NONE);
}

static void expect_refusal(struct fake_guest *g, uint32_t peer, uint32_t reason)
{
	union vmc_any_msg m;

	fg_expect(g, VMC_L_CHAN_CLOSE, &m);
	assert_int_equal(m.h.id, 0);
	assert_int_equal(m.chan_close.peer, peer);
	assert_int_equal(m.chan_close.reason, reason);
}

static void no_channel_for_it(void **state)
{
	struct scene *s = *state;

	hold(s, 3);
	expect_prepared(s, 3);
	drain(s);
	fg_chan_req(s->a, 4);
	expect_refusal(s->a, 4, VMC_R_NO_PEER);
	fg_chan_req(s->b, 3);
	expect_refusal(s->b, 3, VMC_R_NO_PEER);
	assert_true(TAILQ_EMPTY(&s->f->d->chans));
}

static void asked_while_it_closes(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);

	patiently(s);
	hold(s, 3);
	drain(s);
	fg_chan_req(s->b, 3);
	fg_expect_nothing(s->b);
	closed(s->b, id, 3);
	closed(s->a, id, 4);
	expect_refusal(s->b, 3, VMC_R_NO_PEER);
	expect_prepared(s, 3);
	assert_true(TAILQ_EMPTY(&s->f->d->chans));
}

/* Both asked; the second one, which knows of no channel yet, hears why there is none. */
static void the_second_asker_hears_why(void **state)
{
	struct scene *s = *state;
	union vmc_any_msg m;

	patiently(s);
	fg_chan_req(s->a, 4);
	fg_expect(s->a, VMC_L_CHAN_PREPARE, &m);
	fg_chan_req(s->b, 3);
	fg_expect_nothing(s->b);
	hold(s, 4);
	expect_close(s->a, m.h.id);
	closed(s->a, m.h.id, 4);
	expect_del(s->b, 3);
	expect_refusal(s->b, 3, VMC_R_PREPARE);
	expect_prepared(s, 4);
}

/* OFFER, ACCEPT and UP that were on their way are no violations. */
static void answers_cross_with_it(void **state)
{
	struct scene *s = *state;
	union vmc_any_msg m;

	patiently(s);
	for (int phase = 0; phase < 3; phase++) {
		uint32_t id;

		fg_chan_req(s->a, 4);
		fg_expect(s->a, VMC_L_CHAN_PREPARE, &m);
		id = m.h.id;
		if (phase > 0)
			fg_half(s->a, VMC_L_CHAN_OFFER, id, 4, 9);
		if (phase > 1)
			fg_half(s->b, VMC_L_CHAN_ACCEPT, id, 3, 0);
		s->done = 0;
		hold(s, 3);
		drain(s);
		if (phase == 0)
			fg_half(s->a, VMC_L_CHAN_OFFER, id, 4, 9);
		else if (phase == 1)
			fg_half(s->b, VMC_L_CHAN_ACCEPT, id, 3, 0);
		else
			fg_simple(s->a, VMC_L_CHAN_UP, id);
		expect_quiet(s);
		assert_int_equal(s->done, 0);
		closed(s->a, id, 4);
		if (phase > 0)
			closed(s->b, id, 3);
		expect_prepared(s, 3);
		fg_assert_attached(s->a);
		fg_assert_attached(s->b);
		vmc_prepare_release(&s->hold);
		drain(s);
	}
}

/* ---------------------------------------------------------------------- the links */

static void a_driver_comes_meanwhile(void **state)
{
	struct scene *s = *state;
	struct fake_guest *c = fake_vm(s->f, 5);

	fake_settle(s->f);
	hold(s, 5);
	expect_prepared(s, 5);		/* it has no driver: nothing to part */
	fg_connect(c);
	fg_expect(c, VMC_L_ATTACH, NULL);
	fg_hello(c, 0);
	fg_simple(c, VMC_L_READY, 0);
	fg_expect_nothing(c);
	expect_quiet(s);
	assert_string_equal(vmc_prepare_state(guest(s, 5)), "prepared");
	vmc_prepare_release(&s->hold);
	fake_settle(s->f);
	expect_add(c, 3);
	expect_add(c, 4);
	expect_add(s->a, 5);
	expect_add(s->b, 5);
}

static void a_driver_starts_again(void **state)
{
	struct scene *s = *state;

	hold(s, 3);
	expect_prepared(s, 3);
	drain(s);
	fg_simple(s->a, VMC_L_BYE, 0);
	fg_write(s->a, "state", "6");
	fake_run(s->f, 30);
	fg_connect(s->a);
	fg_expect(s->a, VMC_L_ATTACH, NULL);
	fg_hello(s->a, 0);
	fg_simple(s->a, VMC_L_READY, 0);
	expect_quiet(s);
	assert_string_equal(vmc_prepare_state(guest(s, 3)), "prepared");
	vmc_prepare_release(&s->hold);
	fake_settle(s->f);
	expect_home(s);
}

/* A link ends before the wait does, and nobody says CLOSED any more. */
static void it_is_refused_meanwhile(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);

	patiently(s);
	s->f->d->timing.chan_answer = 50;
	s->b->lent_to = 3;
	s->b->lent = 2;
	hold(s, 3);
	fg_drain(s->b);
	closed(s->b, id, 3);
	fake_run(s->f, 300);
	fg_assert_refused(s->a, "does not answer CHAN_CLOSE");
	assert_int_equal(s->done, 0);	/* that is not proof enough */
	s->b->lent = 0;
	fake_run(s->f, 50);
	expect_prepared(s, 3);
}

static void a_peer_is_refused_meanwhile(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);

	patiently(s);
	s->f->d->timing.chan_answer = 50;
	hold(s, 3);
	fg_drain(s->a);
	closed(s->a, id, 4);
	fake_settle(s->f);
	assert_int_equal(s->done, 0);
	fake_run(s->f, 300);
	fg_assert_refused(s->b, "does not answer CHAN_CLOSE");
	expect_prepared(s, 3);
}

/* ------------------------------------------------------------------ the grant tables */

static int mapped_error;
static uint32_t mapped_asked;

static int fake_mapped(struct vmc_xen *x, uint32_t owner, uint32_t user)
{
	(void)x;
	assert_int_equal(user, 3);
	assert_int_not_equal(owner, 3);
	mapped_asked |= 1u << owner;
	return owner == 4 ? mapped_error : 0;
}

static void a_table_that_cannot_be_read(void **state)
{
	struct scene *s = *state;
	static struct vmc_xen_ops ops;
	const struct vmc_xen_ops *old = s->f->xen.ops;

	fake_domain(s->f, 5, "no-vif");	/* also one without a device may lend */
	fake_vm(s->f, 6);
	fake_introduce_event(s->f);
	fake_settle(s->f);
	mapped_asked = 0;
	mapped_error = -EIO;
	ops = *old;
	ops.mapped = fake_mapped;
	s->f->xen.ops = &ops;
	hold(s, 3);
	expect_failed(s, "cannot read the grant table of d4: ");
	/* it gets better in time; the tables of all others are read */
	s->done = 0;
	patiently(s);
	hold(s, 3);
	fake_run(s->f, 50);
	assert_int_equal(s->done, 0);
	mapped_error = 0;
	fake_run(s->f, 50);
	expect_prepared(s, 3);
	assert_int_equal(mapped_asked, 1u << 4 | 1u << 5 | 1u << 6);
	/* one that is just gone has none */
	vmc_prepare_release(&s->hold);
	for (int i = 0; i < 2; i++) {
		mapped_error = i ? -ENOENT : -ESRCH;
		s->done = 0;
		hold(s, 3);
		expect_prepared(s, 3);
		vmc_prepare_release(&s->hold);
	}
	fake_settle(s->f);
	s->f->xen.ops = old;
}

/* ------------------------------------------------------------------ with quarantine */

/* A channel that @from blames @of for. */
static void complain(struct fake_guest *from, struct fake_guest *of)
{
	uint32_t id = fg_open(from, of);

	fg_close(from, VMC_L_CHAN_CLOSED, id, of->domid, VMC_R_PROTOCOL);
	fg_expect(of, VMC_L_CHAN_CLOSE, NULL);
	closed(of, id, from->domid);
	fake_settle(from->host);
}

static void quarantine(struct scene *s)
{
	for (unsigned int i = 0; i < VMC_VIOLATIONS_MAX; i++)
		complain(s->a, s->b);
	fake_settle(s->f);
	assert_null(vmc_peer_find(guest(s, 3), guest(s, 4)));
}

static void quarantine_lasts_longer(void **state)
{
	struct scene *s = *state;

	s->f->d->timing.quarantine = 800;
	quarantine(s);
	drain(s);
	hold(s, 3);
	expect_prepared(s, 3);
	vmc_prepare_release(&s->hold);
	fake_run(s->f, 50);
	assert_false(vmc_prepare_has(guest(s, 3)));
	expect_quiet(s);		/* they were no peers before, nor are they now */
	fake_run(s->f, 900);
	expect_home(s);
}

static void quarantine_ends_before(void **state)
{
	struct scene *s = *state;

	s->f->d->timing.quarantine = 50;
	quarantine(s);
	drain(s);
	hold(s, 3);
	expect_prepared(s, 3);
	fake_run(s->f, 150);
	assert_false(vmc_quarantine_has(guest(s, 3), guest(s, 4)));
	expect_quiet(s);
	vmc_prepare_release(&s->hold);
	fake_settle(s->f);
	expect_home(s);
}

/* The last violation is in the channel that is closed for it: too late to count. */
static void quarantine_is_not_for_its_end(void **state)
{
	struct scene *s = *state;
	uint32_t id;

	patiently(s);
	for (unsigned int i = 1; i < VMC_VIOLATIONS_MAX; i++)
		complain(s->a, s->b);
	id = fg_open(s->a, s->b);
	hold(s, 3);
	drain(s);
	fg_close(s->a, VMC_L_CHAN_CLOSED, id, 4, VMC_R_PROTOCOL);
	fg_close(s->b, VMC_L_CHAN_CLOSED, id, 3, VMC_R_PROTOCOL);
	expect_prepared(s, 3);
	assert_false(vmc_quarantine_has(guest(s, 3), guest(s, 4)));
	vmc_prepare_release(&s->hold);
	fake_settle(s->f);
	expect_home(s);
}

/* ----------------------------------------------------------------- vmcd goes and comes */

static void stop_while_held(void **state)
{
	struct scene *s = *state;

	patiently(s);
	/* as service.c does: first the connections and their holds, then the rest */
	fg_open(s->a, s->b);
	hold(s, 3);
	fake_settle(s->f);
	vmc_prepare_release(&s->hold);
	fake_stop(s->f);
	assert_int_equal(s->done, 0);
	assert_null(s->hold.guest);
}

static void stop_with_holds_left(void **state)
{
	struct scene *s = *state;

	patiently(s);
	fg_open(s->a, s->b);
	hold_for(s, 4, 100);
	waiter_new(s, 4, true, true);
	hold(s, 3);
	fake_settle(s->f);
	fake_stop(s->f);
	assert_int_equal(s->done, 1);
	assert_string_equal(s->why, "it is gone");
	assert_null(s->hold.guest);
}

static void restart(struct scene *s)
{
	fake_stop(s->f);
	fake_start(s->f);
	s->f->d->timing.chan_retry = 0;
	s->f->d->timing.prepare_look = 10;
	patiently(s);
	fg_expect(s->a, VMC_L_ATTACH, NULL);
	fg_expect(s->b, VMC_L_ATTACH, NULL);
}

static void list(struct fake_guest *g, uint32_t id, uint32_t peer)
{
	fg_hello(g, id ? 1 : 0);
	if (id)
		fg_chan_state(g, id, peer, VMC_CHAN_UP);
	fg_simple(g, VMC_L_READY, 0);
}

static void a_new_vmcd_knows_no_holds(void **state)
{
	struct scene *s = *state;

	hold(s, 3);
	expect_prepared(s, 3);
	drain(s);
	vmc_prepare_release(&s->hold);
	restart(s);
	list(s->a, 0, 0);
	list(s->b, 0, 0);
	expect_home(s);
}

/* Held by a new vmcd before the guests have said what they have. */
static void held_before_the_lists(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);

	restart(s);
	s->b->lent_to = 3;
	s->b->lent = 4;
	hold(s, 3);
	fake_run(s->f, 30);
	assert_int_equal(s->done, 0);
	list(s->a, id, 4);
	expect_quiet(s);
	list(s->b, id, 3);
	fg_expect(s->a, VMC_L_CHAN_CLOSE, NULL);
	fg_expect(s->b, VMC_L_CHAN_CLOSE, NULL);
	expect_quiet(s);		/* not peers yet, so no PEER_DEL */
	closed(s->a, id, 4);
	closed(s->b, id, 3);
	fake_run(s->f, 30);
	assert_int_equal(s->done, 0);
	s->b->lent = 0;
	fake_run(s->f, 30);
	expect_prepared(s, 3);
}

/* The other end never comes: the channel is given up in its time, and the guest told. */
static void held_with_half_a_channel(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);

	fake_stop(s->f);
	fake_destroy(s->b);
	fake_start(s->f);
	s->f->d->timing.chan_recover = 50;
	s->f->d->timing.prepare_look = 10;
	patiently(s);
	fg_expect(s->a, VMC_L_ATTACH, NULL);
	list(s->a, id, 4);
	hold(s, 3);
	fake_run(s->f, 20);
	assert_int_equal(s->done, 0);
	fake_run(s->f, 60);
	fg_expect(s->a, VMC_L_CHAN_CLOSE, NULL);
	assert_int_equal(s->done, 0);
	closed(s->a, id, 4);
	expect_prepared(s, 3);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(without_channels),
		TEST(with_a_channel),
		TEST(the_peer_lets_go_last),
		TEST(while_a_channel_opens),
		TEST(a_peer_that_is_paused),
		TEST(a_peer_that_is_destroyed),
		TEST(nobody_joins_it),
		TEST(a_guest_that_does_not_let_go),
		TEST(a_guest_that_is_paused),
		TEST(pages_are_still_mapped),
		TEST(pages_stay_mapped),
		TEST(it_is_stopped_when_nobody_holds_it),
		TEST(it_leaves),
		TEST(it_leaves_too_early),
		TEST(two_hold_it),
		TEST(one_holds_it_and_another_fails),
		TEST(for_a_time),
		TEST(an_operator_resumes_it),
		TEST(a_copy_on_the_same_host),
		TEST(some_leave_when_they_hear),
		TEST(all_leave_when_it_fails),
		TEST(one_does_not_wait_any_more),
		TEST(nobody_waits_any_more),
		TEST(held_again_when_it_is_prepared),
		TEST(others_do_not_prolong_the_wait),
		TEST(two_guests_at_once),
		TEST(resumed_for_all),
		TEST(the_time_is_set_anew),
		TEST(the_time_ends_while_another_holds),
		TEST(the_time_ends_after_another_failed),
		TEST(the_time_ends_while_it_is_stopped),
		TEST(it_fails_and_the_time_with_it),
		TEST(the_time_begins_when_it_is_prepared),
		TEST(gone_with_all_timers_set),
		TEST(it_is_paused_when_nobody_holds_it),
		TEST(it_fails_while_it_is_suspended),
		TEST(a_peer_stops_meanwhile),
		TEST(a_peer_that_asked_is_paused),
		TEST(a_peer_runs_again),
		TEST(all_peers_let_go),
		TEST(no_channel_for_it),
		TEST(asked_while_it_closes),
		TEST(the_second_asker_hears_why),
		TEST(answers_cross_with_it),
		TEST(a_driver_comes_meanwhile),
		TEST(a_driver_starts_again),
		TEST(it_is_refused_meanwhile),
		TEST(a_peer_is_refused_meanwhile),
		TEST(a_table_that_cannot_be_read),
		TEST(quarantine_lasts_longer),
		TEST(quarantine_ends_before),
		TEST(quarantine_is_not_for_its_end),
		TEST(stop_while_held),
		TEST(stop_with_holds_left),
		TEST(a_new_vmcd_knows_no_holds),
		TEST(held_before_the_lists),
		TEST(held_with_half_a_channel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
