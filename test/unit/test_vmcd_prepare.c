// SPDX-License-Identifier: GPL-2.0-or-later
/* Guests that are about to be saved or migrated: parted from their peers, and given back to them. */
#include "test_vmcd_fake.h"

#include "chan.h"
#include "guest.h"
#include "link.h"
#include "peer.h"
#include "prepare.h"

#include <string.h>

struct scene {
	struct fake *f;
	struct fake_guest *a, *b;
	struct vmc_hold hold;
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
	expect_failed(s, "d3, which is paused, does not let go");
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

static void for_a_time(void **state)
{
	struct scene *s = *state;

	assert_int_equal(vmc_prepare_for(guest(s, 3), 1), 0);
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

	assert_int_equal(vmc_prepare_for(guest(s, 3), 1000), 0);
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
		TEST(for_a_time),
		TEST(an_operator_resumes_it),
		TEST(a_copy_on_the_same_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
