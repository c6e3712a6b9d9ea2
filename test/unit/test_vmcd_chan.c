// SPDX-License-Identifier: GPL-2.0-or-later
/* Peers, and the broker of channels: the good path and every ugly one. */
#include "test_vmcd_fake.h"

#include "chan.h"
#include "guest.h"
#include "link.h"
#include "policy.h"
#include "quarantine.h"

struct scene {
	struct fake *f;
	struct fake_guest *a;
	struct fake_guest *b;
};

static int setup(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));

	s->f = fake_new();
	fake_start(s->f);
	s->f->d->timing.chan_retry = 0;
	s->a = fake_vm(s->f, 3);
	s->b = fake_vm(s->f, 4);
	*state = s;
	return 0;
}

static int setup_ready(void **state)
{
	struct scene *s;

	setup(state);
	s = *state;
	fg_ready(s->a);
	fg_ready(s->b);
	return 0;
}

static int teardown(void **state)
{
	struct scene *s = *state;

	fake_free(s->f);
	free(s);
	return 0;
}

static void no_channels(struct scene *s)
{
	fake_settle(s->f);
	assert_true(TAILQ_EMPTY(&s->f->d->chans));
	assert_int_equal(s->f->d->nr_up, 0);
}

static void expect_close(struct fake_guest *g, uint32_t id, uint32_t peer, uint32_t reason)
{
	union vmc_any_msg m;

	fg_expect(g, VMC_L_CHAN_CLOSE, &m);
	assert_int_equal(m.h.id, id);
	assert_int_equal(m.chan_close.peer, peer);
	assert_int_equal(m.chan_close.reason, reason);
}

static void closed(struct fake_guest *g, uint32_t id, uint32_t peer)
{
	fg_close(g, VMC_L_CHAN_CLOSED, id, peer, VMC_R_NONE);
}

/* ------------------------------------------------------------------- peers */

static void peers_are_told(void **state)
{
	static const uint8_t mac[6] = { 0, 0x16, 0x3e, 0, 0, 4 };
	struct scene *s = *state;
	union vmc_any_msg m;

	fg_connect(s->a);
	fg_expect(s->a, VMC_L_ATTACH, NULL);
	fg_hello(s->a, 0);
	fg_simple(s->a, VMC_L_READY, 0);
	fg_expect_nothing(s->a);

	fg_connect(s->b);
	fg_expect(s->b, VMC_L_ATTACH, NULL);
	fg_hello(s->b, 0);
	fg_expect_nothing(s->a);	/* not before READY */
	fg_simple(s->b, VMC_L_READY, 0);
	fg_expect(s->a, VMC_L_PEER_ADD, &m);
	assert_int_equal(m.peer_add.domid, 4);
	assert_int_equal(m.peer_add.nr_macs, 1);
	assert_memory_equal(m.peer_add.mac[0], mac, 6);
	assert_int_equal(m.peer_add.mac[1][0] | m.peer_add.mac[3][5], 0);
	fg_expect(s->b, VMC_L_PEER_ADD, &m);
	assert_int_equal(m.peer_add.domid, 3);
	fg_expect_nothing(s->a);
	fg_expect_nothing(s->b);
}

static void peers_share_a_bridge(void **state)
{
	struct scene *s = *state;
	struct fake_guest *c = fake_domain(s->f, 5, "c");
	union vmc_any_msg m;

	fake_vif(s->f, 5, 0, "00:16:3e:00:00:05", "other");
	fake_introduce_event(s->f);
	fg_ready(s->a);
	fg_ready(c);
	fg_expect_nothing(s->a);
	fg_expect_nothing(c);

	/* it gets a vif on the common bridge: only that MAC is told */
	fake_vif(s->f, 5, 1, "00:16:3e:00:01:05", "xenbr0");
	fg_expect(s->a, VMC_L_PEER_ADD, &m);
	assert_int_equal(m.peer_add.nr_macs, 1);
	assert_int_equal(m.peer_add.mac[0][4], 1);
	fg_expect(c, VMC_L_PEER_ADD, &m);
	/* the MAC changes */
	fake_vif(s->f, 5, 1, "00:16:3e:00:02:05", "xenbr0");
	fg_expect(s->a, VMC_L_PEER_ADD, &m);
	assert_int_equal(m.peer_add.mac[0][4], 2);
	fg_expect_nothing(c);
	/* and the vif is unplugged */
	fake_vif_remove(s->f, 5, 1);
	fg_expect(s->a, VMC_L_PEER_DEL, &m);
	assert_int_equal(m.peer_del.reason, VMC_R_POLICY);
	fg_expect(c, VMC_L_PEER_DEL, &m);
}

static void a_shared_mac_is_nobodys(void **state)
{
	struct scene *s = *state;
	struct fake_guest *c;
	union vmc_any_msg m;
	enum vmc_reason reason;
	const char *why;
	uint32_t id;

	fg_ready(s->a);
	fg_ready(s->b);
	id = fg_open(s->a, s->b);
	/* c takes b's MAC; it need not even have a driver */
	vmc_log_init((enum vmc_log_level)0, VMC_LOG_TO_STDERR);
	c = fake_domain(s->f, 5, "c");
	fake_vif(s->f, 5, 0, "00:16:3e:00:00:04", "xenbr0");
	fake_introduce_event(s->f);
	expect_close(s->a, id, 4, VMC_R_POLICY);
	fg_expect(s->a, VMC_L_PEER_DEL, &m);
	assert_int_equal(m.peer_del.domid, 4);
	expect_close(s->b, id, 3, VMC_R_POLICY);
	fg_expect(s->b, VMC_L_PEER_DEL, &m);
	closed(s->a, id, 4);
	closed(s->b, id, 3);
	no_channels(s);
	assert_false(vmc_policy_may_pair(vmc_guest_by_domid(s->f->d, 3),
					 vmc_guest_by_domid(s->f->d, 4), &why, &reason));
	assert_non_null(why);
	assert_int_equal(reason, VMC_R_POLICY);
	fg_ready(c);
	fg_expect_nothing(s->a);
	fg_expect_nothing(c);
	/* the same MAC on another bridge is no conflict */
	fake_vif(s->f, 5, 0, "00:16:3e:00:00:04", "other");
	fg_expect(s->a, VMC_L_PEER_ADD, &m);
	assert_int_equal(m.peer_add.domid, 4);
	fg_expect(s->b, VMC_L_PEER_ADD, &m);
	fg_expect_nothing(c);
}

/* ----------------------------------------------------------------- good paths */

static void open_and_close(void **state)
{
	struct scene *s = *state;
	uint32_t id, id2;

	id = fg_open(s->a, s->b);
	assert_int_equal(s->f->d->nr_up, 1);
	/* b ends it on its own */
	fg_close(s->b, VMC_L_CHAN_CLOSED, id, 3, VMC_R_UNLOAD);
	expect_close(s->a, id, 4, VMC_R_UNLOAD);
	fg_expect_nothing(s->b);
	assert_int_equal(s->f->d->nr_up, 0);
	closed(s->a, id, 4);
	no_channels(s);

	id2 = fg_open(s->b, s->a);
	assert_true(id2 > id);
	/* a asks vmcd to end it */
	fg_close(s->a, VMC_L_CHAN_CLOSE, id2, 4, VMC_R_NO_MEMORY);
	expect_close(s->a, id2, 4, VMC_R_NO_MEMORY);
	expect_close(s->b, id2, 3, VMC_R_NO_MEMORY);
	closed(s->b, id2, 3);
	assert_false(TAILQ_EMPTY(&s->f->d->chans));
	closed(s->a, id2, 4);
	no_channels(s);
}

static void both_ask_at_once(void **state)
{
	struct vmc_l_chan_req ra = { .h = { VMC_L_CHAN_REQ, sizeof(ra), 0 }, .peer = 4 };
	struct vmc_l_chan_req rb = { .h = { VMC_L_CHAN_REQ, sizeof(rb), 0 }, .peer = 3 };
	struct scene *s = *state;
	struct fake_guest *first, *second;
	union vmc_any_msg m;
	uint32_t id;

	fg_put(s->a, &ra);
	fg_put(s->b, &rb);
	fg_notify(s->a);
	fg_notify(s->b);
	fake_settle(s->f);
	first = fg_recv(s->a, &m) ? s->a : s->b;
	second = first == s->a ? s->b : s->a;
	if (first == s->b)
		fg_expect(first, VMC_L_CHAN_PREPARE, &m);
	assert_int_equal(m.h.type, VMC_L_CHAN_PREPARE);
	id = m.h.id;
	fg_expect_nothing(second);
	fg_half(first, VMC_L_CHAN_OFFER, id, second->domid, 5);
	fg_expect(second, VMC_L_CHAN_CONNECT, NULL);
	fg_half(second, VMC_L_CHAN_ACCEPT, id, first->domid, 0);
	fg_expect(first, VMC_L_CHAN_COMPLETE, NULL);
	fg_simple(first, VMC_L_CHAN_UP, id);
	fg_expect_nothing(first);
	fg_expect_nothing(second);
	assert_int_equal(s->f->d->nr_up, 1);
	/* a request for a channel that is up changes nothing */
	fg_chan_req(s->a, 4);
	fg_expect_nothing(s->a);
	fg_expect_nothing(s->b);
}

static void second_asker_hears_of_a_failure(void **state)
{
	struct scene *s = *state;
	union vmc_any_msg m;

	fg_chan_req(s->a, 4);
	fg_expect(s->a, VMC_L_CHAN_PREPARE, &m);
	fg_chan_req(s->b, 3);
	fg_expect_nothing(s->b);
	fg_close(s->a, VMC_L_CHAN_CLOSED, m.h.id, 4, VMC_R_NO_GRANTS);
	expect_close(s->b, 0, 3, VMC_R_NO_GRANTS);
	fg_expect_nothing(s->a);
	no_channels(s);
}

static void asked_again_while_closing(void **state)
{
	struct scene *s = *state;
	union vmc_any_msg m;
	uint32_t id = fg_open(s->a, s->b);

	fg_close(s->a, VMC_L_CHAN_CLOSED, id, 4, VMC_R_NONE);
	expect_close(s->b, id, 3, VMC_R_NONE);
	fg_chan_req(s->a, 4);
	fg_expect_nothing(s->a);
	closed(s->b, id, 3);
	/* now */
	fg_expect(s->a, VMC_L_CHAN_PREPARE, &m);
	assert_int_not_equal(m.h.id, id);
	assert_int_equal(m.chan_prepare.peer, 4);
	closed(s->a, m.h.id, 4);
	no_channels(s);
}

static void a_pair_must_rest(void **state)
{
	struct scene *s = *state;
	union vmc_any_msg m;

	s->f->d->timing.chan_retry = 50;
	fg_chan_req(s->a, 4);
	fg_expect(s->a, VMC_L_CHAN_PREPARE, &m);
	fg_close(s->a, VMC_L_CHAN_CLOSED, m.h.id, 4, VMC_R_NO_MEMORY);
	fg_chan_req(s->a, 4);
	expect_close(s->a, 0, 4, VMC_R_TIMEOUT);
	fg_chan_req(s->b, 3);
	expect_close(s->b, 0, 3, VMC_R_TIMEOUT);
	fake_run(s->f, 60);
	fg_chan_req(s->a, 4);
	fg_expect(s->a, VMC_L_CHAN_PREPARE, NULL);
}

/* ---------------------------------------------------------------- quarantine */

/* @from says @reason of a channel that is up; both have closed it afterwards. */
static void complain(struct fake_guest *from, struct fake_guest *of, uint32_t reason)
{
	uint32_t id = fg_open(from, of);

	fg_close(from, VMC_L_CHAN_CLOSED, id, of->domid, reason);
	expect_close(of, id, from->domid, reason < VMC_R_MAX ? reason : VMC_R_PROTOCOL);
	/* its own complaint comes too late to count */
	fg_close(of, VMC_L_CHAN_CLOSED, id, from->domid, VMC_R_PROTOCOL);
}

static void expect_del(struct fake_guest *g, uint32_t peer)
{
	union vmc_any_msg m;

	fg_expect(g, VMC_L_PEER_DEL, &m);
	assert_int_equal(m.peer_del.domid, peer);
	assert_int_equal(m.peer_del.reason, VMC_R_POLICY);
}

static void expect_add(struct fake_guest *g, uint32_t peer)
{
	union vmc_any_msg m;

	fg_expect(g, VMC_L_PEER_ADD, &m);
	assert_int_equal(m.peer_add.domid, peer);
}

static void violations_bring_a_pair_into_quarantine(void **state)
{
	struct scene *s = *state;
	struct fake_guest *c = fake_vm(s->f, 5);

	s->f->d->timing.quarantine = 200;
	fg_ready(c);
	fg_drain(s->a);
	fg_drain(s->b);
	complain(s->a, s->b, VMC_R_PROTOCOL);
	complain(s->a, s->b, VMC_R_NO_MEMORY);	/* no violation */
	complain(s->b, s->a, VMC_R_MAX + 7);	/* a violation by itself */
	fg_expect_nothing(s->a);
	fg_expect_nothing(s->b);
	complain(s->b, s->a, VMC_R_PROTOCOL);
	expect_del(s->a, 4);
	expect_del(s->b, 3);
	fg_chan_req(s->a, 4);
	expect_close(s->a, 0, 4, VMC_R_NO_PEER);
	no_channels(s);

	/* with others they are as before */
	complain(s->a, c, VMC_R_NONE);
	complain(c, s->b, VMC_R_NONE);

	/* a driver that is loaded anew does not get out of it */
	fg_simple(s->a, VMC_L_BYE, 0);
	fg_write(s->a, "state", "6");
	fake_run(s->f, 30);
	fg_ready(s->a);
	fg_chan_req(s->a, 4);
	expect_close(s->a, 0, 4, VMC_R_NO_PEER);

	/* then they may again; the next time is twice as long */
	fake_run(s->f, 220);
	expect_add(s->a, 4);
	expect_add(s->b, 3);
	for (unsigned int i = 0; i < VMC_VIOLATIONS_MAX; i++)
		complain(s->a, s->b, VMC_R_PROTOCOL);
	expect_del(s->a, 4);
	expect_del(s->b, 3);
	fake_run(s->f, 250);
	fg_expect_nothing(s->a);
	fake_run(s->f, 200);
	expect_add(s->a, 4);
}

static void violations_long_ago_do_not_count(void **state)
{
	struct scene *s = *state;

	s->f->d->timing.violations = 20;
	complain(s->a, s->b, VMC_R_PROTOCOL);
	complain(s->b, s->a, VMC_R_PROTOCOL);
	fake_run(s->f, 30);
	complain(s->a, s->b, VMC_R_PROTOCOL);
	fg_expect_nothing(s->a);
	fg_expect_nothing(s->b);
	fg_open(s->a, s->b);
}

/* Who comes under the domid of one that has gone is somebody else. */
static void quarantine_ends_with_the_guest(void **state)
{
	struct scene *s = *state;

	for (unsigned int i = 0; i < VMC_VIOLATIONS_MAX; i++)
		complain(s->a, s->b, VMC_R_PROTOCOL);
	expect_del(s->b, 3);
	fake_destroy(s->a);
	fake_settle(s->f);
	s->a = fake_vm(s->f, 3);
	fg_ready(s->a);
	fg_open(s->a, s->b);
}

/* ------------------------------------------------------------------ refusals */

static void requests_for_nobody(void **state)
{
	static const uint32_t peers[] = { 0, 3, 5, 9, 0x7ff0, UINT32_MAX };
	struct scene *s = *state;

	fake_vm(s->f, 5);	/* here, but without a driver */
	for (size_t i = 0; i < sizeof(peers) / sizeof(peers[0]); i++) {
		fg_chan_req(s->a, peers[i]);
		expect_close(s->a, 0, peers[i], VMC_R_NO_PEER);
	}
	no_channels(s);
	fg_assert_attached(s->a);
}

static void too_many_channels(void **state)
{
	struct scene *s = *state;
	struct vmc_guest *b = vmc_guest_by_domid(s->f->d, 4);

	b->nr_chans += VMC_CHANNELS_MAX;
	fg_chan_req(s->a, 4);
	expect_close(s->a, 0, 4, VMC_R_LIMIT);
	fg_chan_req(s->b, 3);
	expect_close(s->b, 0, 3, VMC_R_LIMIT);
	b->nr_chans -= VMC_CHANNELS_MAX;
	no_channels(s);
}

static void ids_wrap_and_are_not_reused(void **state)
{
	struct scene *s = *state;
	struct fake_guest *c = fake_vm(s->f, 5);
	uint32_t id;

	fg_ready(c);
	id = fg_open(s->a, s->b);
	s->f->d->next_chan_id = UINT32_MAX;
	assert_int_equal(fg_open(s->a, c), UINT32_MAX);
	/* 0 is no id, and the first one is in use */
	assert_int_equal(fg_open(s->b, c), id + 1);
}

static void refused_by_either_side(void **state)
{
	struct scene *s = *state;
	union vmc_any_msg m;
	uint32_t id;

	/* the first, instead of OFFER */
	fg_chan_req(s->a, 4);
	fg_expect(s->a, VMC_L_CHAN_PREPARE, &m);
	fg_close(s->a, VMC_L_CHAN_CLOSED, m.h.id, 4, VMC_R_NO_PORT);
	fg_expect_nothing(s->a);
	fg_expect_nothing(s->b);
	no_channels(s);

	/* the second, instead of ACCEPT */
	fg_chan_req(s->a, 4);
	fg_expect(s->a, VMC_L_CHAN_PREPARE, &m);
	id = m.h.id;
	fg_half(s->a, VMC_L_CHAN_OFFER, id, 4, 9);
	fg_expect(s->b, VMC_L_CHAN_CONNECT, NULL);
	fg_close(s->b, VMC_L_CHAN_CLOSED, id, 3, VMC_R_MAP);
	expect_close(s->a, id, 4, VMC_R_MAP);
	closed(s->a, id, 4);
	no_channels(s);

	/* the first, instead of UP, with a reason that does not exist */
	fg_chan_req(s->a, 4);
	fg_expect(s->a, VMC_L_CHAN_PREPARE, &m);
	id = m.h.id;
	fg_half(s->a, VMC_L_CHAN_OFFER, id, 4, 9);
	fg_expect(s->b, VMC_L_CHAN_CONNECT, NULL);
	fg_half(s->b, VMC_L_CHAN_ACCEPT, id, 3, 0);
	fg_expect(s->a, VMC_L_CHAN_COMPLETE, NULL);
	fg_close(s->a, VMC_L_CHAN_CLOSED, id, 4, 0xdeadbeef);
	expect_close(s->b, id, 3, VMC_R_PROTOCOL);
	closed(s->b, id, 3);
	no_channels(s);
}

/* ------------------------------------------------------------------- crossings */

static void closes_cross(void **state)
{
	struct scene *s = *state;
	union vmc_any_msg m;
	uint32_t id;

	/* b closes while a's UP is on its way */
	fg_chan_req(s->a, 4);
	fg_expect(s->a, VMC_L_CHAN_PREPARE, &m);
	id = m.h.id;
	fg_half(s->a, VMC_L_CHAN_OFFER, id, 4, 9);
	fg_half(s->b, VMC_L_CHAN_ACCEPT, id, 3, 0);
	fg_close(s->b, VMC_L_CHAN_CLOSED, id, 3, VMC_R_UNLOAD);
	fg_simple(s->a, VMC_L_CHAN_UP, id);
	fg_assert_attached(s->a);
	fg_expect(s->a, VMC_L_CHAN_COMPLETE, NULL);
	expect_close(s->a, id, 4, VMC_R_UNLOAD);
	closed(s->a, id, 4);
	no_channels(s);
	fg_drain(s->b);

	/* a asks to close, b closes, both at once; everybody answers everything */
	id = fg_open(s->a, s->b);
	fg_close(s->a, VMC_L_CHAN_CLOSE, id, 4, VMC_R_NONE);
	fg_close(s->b, VMC_L_CHAN_CLOSED, id, 3, VMC_R_NONE);
	fg_close(s->b, VMC_L_CHAN_CLOSED, id, 3, VMC_R_NONE);
	closed(s->a, id, 4);
	closed(s->a, id, 4);
	fg_close(s->a, VMC_L_CHAN_CLOSE, id, 4, VMC_R_NONE);
	no_channels(s);
	fg_drain(s->a);
	fg_drain(s->b);
	fg_assert_attached(s->a);
	fg_assert_attached(s->b);

	/* OFFER after vmcd gave up */
	s->f->d->timing.chan_answer = 20;
	fg_chan_req(s->a, 4);
	fg_expect(s->a, VMC_L_CHAN_PREPARE, &m);
	id = m.h.id;
	fake_run(s->f, 30);
	s->f->d->timing.chan_answer = 10000;
	fg_half(s->a, VMC_L_CHAN_OFFER, id, 4, 9);
	expect_close(s->a, id, 4, VMC_R_TIMEOUT);
	closed(s->a, id, 4);
	fg_expect_nothing(s->b);
	no_channels(s);
}

/* ------------------------------------------------------------------ violations */

static void wrong_side_or_phase(void **state)
{
	struct scene *s = *state;
	union vmc_any_msg m;
	uint32_t id;

	/* the second side sends OFFER for a channel that it was not even told of */
	fg_chan_req(s->a, 4);
	fg_expect(s->a, VMC_L_CHAN_PREPARE, &m);
	id = m.h.id;
	fg_half(s->b, VMC_L_CHAN_OFFER, id, 3, 9);
	fg_assert_refused(s->b, "out of turn");
	expect_close(s->a, id, 4, VMC_R_PROTOCOL);
	fg_expect(s->a, VMC_L_PEER_DEL, NULL);
	closed(s->a, id, 4);
	no_channels(s);
	fg_assert_attached(s->a);
}

static void up_too_early(void **state)
{
	struct scene *s = *state;
	union vmc_any_msg m;

	fg_chan_req(s->a, 4);
	fg_expect(s->a, VMC_L_CHAN_PREPARE, &m);
	fg_simple(s->a, VMC_L_CHAN_UP, m.h.id);
	fg_assert_refused(s->a, "out of turn");
	no_channels(s);
	fg_assert_attached(s->b);
}

static void offer_twice(void **state)
{
	struct scene *s = *state;
	union vmc_any_msg m;

	fg_chan_req(s->a, 4);
	fg_expect(s->a, VMC_L_CHAN_PREPARE, &m);
	fg_half(s->a, VMC_L_CHAN_OFFER, m.h.id, 4, 9);
	fg_half(s->a, VMC_L_CHAN_OFFER, m.h.id, 4, 9);
	fg_assert_refused(s->a, "out of turn");
	fg_expect(s->b, VMC_L_CHAN_CONNECT, NULL);
	expect_close(s->b, m.h.id, 3, VMC_R_PROTOCOL);
	fg_expect(s->b, VMC_L_PEER_DEL, NULL);
	closed(s->b, m.h.id, 3);
	no_channels(s);
}

static void foreign_channel(void **state)
{
	struct scene *s = *state;
	struct fake_guest *c = fake_vm(s->f, 5);
	uint32_t id;

	fg_ready(c);
	id = fg_open(s->a, s->b);
	/* ends of others are nothing to c: it can't close them, nor speak for them */
	fg_close(c, VMC_L_CHAN_CLOSED, id, 3, VMC_R_NONE);
	fg_close(c, VMC_L_CHAN_CLOSE, id, 3, VMC_R_NONE);
	fg_expect_nothing(s->a);
	fg_expect_nothing(s->b);
	assert_int_equal(s->f->d->nr_up, 1);
	fg_simple(c, VMC_L_CHAN_UP, id);
	fg_assert_refused(c, "which it does not have");
	assert_int_equal(s->f->d->nr_up, 1);
}

static void impossible_halves(void **state)
{
	static const struct { uint32_t peer, port, ref0, ref1; } cases[] = {
		{ 5, 9, 100, 101 },
		{ 3, 9, 100, 101 },
		{ 4, 0, 100, 101 },
		{ 4, 131072, 100, 101 },
		{ 4, 9, 0, 101 },
		{ 4, 9, 100, 7 },
		{ 4, 9, 100, 100 },
	};
	struct scene *s = *state;
	union vmc_any_msg m;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vmc_l_chan_half half = {
			.h = { VMC_L_CHAN_OFFER, sizeof(half), 0 },
			.peer = cases[i].peer, .port = cases[i].port,
			.ring_ref = { cases[i].ref0, cases[i].ref1 },
		};

		fg_chan_req(s->a, 4);
		fg_expect(s->a, VMC_L_CHAN_PREPARE, &m);
		half.h.id = m.h.id;
		fg_send(s->a, &half);
		fg_assert_refused(s->a, "impossible values in CHAN_OFFER");
		no_channels(s);
		fake_run(s->f, 25);
		fg_write(s->a, "state", "1");
		fake_run(s->f, 25);
		fg_ready(s->a);
	}
	fg_chan_req(s->a, 4);
	fg_expect(s->a, VMC_L_CHAN_PREPARE, &m);
	fg_half(s->a, VMC_L_CHAN_OFFER, m.h.id, 4, 9);
	fg_half(s->b, VMC_L_CHAN_ACCEPT, m.h.id, 5, 0);
	fg_assert_refused(s->b, "impossible values in CHAN_ACCEPT");
}

/* ---------------------------------------------------------------------- silence */

static void silence_while_opening(void **state)
{
	struct scene *s = *state;
	union vmc_any_msg m;

	s->f->d->timing.chan_answer = 30;
	fg_chan_req(s->a, 4);
	fg_expect(s->a, VMC_L_CHAN_PREPARE, &m);
	fg_half(s->a, VMC_L_CHAN_OFFER, m.h.id, 4, 9);
	fg_expect(s->b, VMC_L_CHAN_CONNECT, NULL);
	fake_run(s->f, 40);
	expect_close(s->a, m.h.id, 4, VMC_R_TIMEOUT);
	expect_close(s->b, m.h.id, 3, VMC_R_TIMEOUT);
	closed(s->a, m.h.id, 4);
	fg_expect_nothing(s->a);
	/* b says nothing to that either: it may still have a's pages */
	fake_run(s->f, 40);
	fg_assert_refused(s->b, "does not answer CHAN_CLOSE");
	fg_expect(s->a, VMC_L_PEER_DEL, NULL);
	no_channels(s);
	fg_assert_attached(s->a);
}

static void paused_guests_are_waited_for(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);

	s->f->d->timing.chan_answer = 20;
	s->b->info.paused = true;
	fg_close(s->a, VMC_L_CHAN_CLOSED, id, 4, VMC_R_NONE);
	fake_run(s->f, 80);
	fg_assert_attached(s->b);
	s->b->info.paused = false;
	expect_close(s->b, id, 3, VMC_R_NONE);
	closed(s->b, id, 3);
	no_channels(s);
	fake_run(s->f, 40);
	fg_assert_attached(s->b);
}

/* It runs again a moment before somebody looks: it has its time from then on. */
static void a_guest_that_was_paused_has_its_time(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);

	s->f->d->timing.chan_answer = 200;
	fg_close(s->a, VMC_L_CHAN_CLOSE, id, 4, VMC_R_NONE);
	s->b->info.paused = true;
	fg_close(s->a, VMC_L_CHAN_CLOSED, id, 4, VMC_R_NONE);
	for (int i = 0; i < 4; i++) {
		s->b->info.paused = true;
		fake_run(s->f, 190);
		s->b->info.paused = false;
		fake_run(s->f, 120);
		fg_assert_attached(s->b);
	}
	fake_run(s->f, 400);
	fg_assert_refused(s->b, "does not answer CHAN_CLOSE");
}

/* ------------------------------------------------------------------------ death */

/* Opens up to @step messages, then one side dies. */
static void death_at(void **state, int step, bool first_dies, bool crash)
{
	struct scene *s = *state;
	struct fake_guest *dead = first_dies ? s->a : s->b;
	struct fake_guest *live = first_dies ? s->b : s->a;
	bool told = !first_dies || step >= 2;
	union vmc_any_msg m;
	uint32_t id;

	fg_chan_req(s->a, 4);
	fg_expect(s->a, VMC_L_CHAN_PREPARE, &m);
	id = m.h.id;
	if (step >= 2) {
		fg_half(s->a, VMC_L_CHAN_OFFER, id, 4, 9);
		fg_expect(s->b, VMC_L_CHAN_CONNECT, NULL);
	}
	if (step >= 3) {
		fg_half(s->b, VMC_L_CHAN_ACCEPT, id, 3, 0);
		fg_expect(s->a, VMC_L_CHAN_COMPLETE, NULL);
	}
	if (step >= 4)
		fg_simple(s->a, VMC_L_CHAN_UP, id);
	if (step >= 5) {
		fg_close(live, VMC_L_CHAN_CLOSED, id, dead->domid, VMC_R_NONE);
		expect_close(dead, id, live->domid, VMC_R_NONE);
		told = false;
	}
	if (crash) {
		dead->info.shutdown = true;
		dead->info.crashed = true;
		fake_release_event(s->f);
	} else {
		fake_destroy(dead);
	}
	if (told)
		expect_close(live, id, dead->domid, VMC_R_PEER_GONE);
	fg_expect(live, VMC_L_PEER_DEL, &m);
	assert_int_equal(m.peer_del.domid, dead->domid);
	if (told)
		closed(live, id, dead->domid);
	fg_expect_nothing(live);
	no_channels(s);
	assert_int_equal(dead->mapped, 0);
	fg_assert_attached(live);
}

static void death_at_every_step(void **state)
{
	teardown(state);
	for (int step = 1; step <= 5; step++) {
		for (int how = 0; how < 4; how++) {
			setup_ready(state);
			death_at(state, step, how & 1, how & 2);
			teardown(state);
		}
	}
	setup_ready(state);
}

static void both_die(void **state)
{
	struct scene *s = *state;

	fg_open(s->a, s->b);
	fake_destroy(s->a);
	fake_destroy(s->b);
	no_channels(s);
}

static void new_guest_with_a_dead_ones_domid(void **state)
{
	struct scene *s = *state;
	struct fake_guest *b;
	uint32_t id = fg_open(s->a, s->b);
	union vmc_any_msg m;

	fake_destroy(s->b);
	expect_close(s->a, id, 4, VMC_R_PEER_GONE);
	fg_expect(s->a, VMC_L_PEER_DEL, NULL);
	/* a is slow; the next domain has b's domid and asks for a */
	b = fake_vm(s->f, 4);
	fg_connect(b);
	fg_expect(b, VMC_L_ATTACH, NULL);
	fg_hello(b, 0);
	fg_simple(b, VMC_L_READY, 0);
	fg_expect(b, VMC_L_PEER_ADD, NULL);
	fg_expect(s->a, VMC_L_PEER_ADD, NULL);
	fg_chan_req(b, 3);
	fg_expect_nothing(b);
	closed(s->a, id, 4);
	fg_expect(b, VMC_L_CHAN_PREPARE, &m);
	assert_int_not_equal(m.h.id, id);
	fg_close(b, VMC_L_CHAN_CLOSED, m.h.id, 3, VMC_R_NONE);
	no_channels(s);
}

/* ---------------------------------------------------------------- vmcd restarts */

static void restart(struct scene *s)
{
	fake_stop(s->f);
	assert_int_equal(s->a->mapped, 0);
	assert_int_equal(s->b->mapped, 0);
	assert_string_equal(fg_back(s->a, "state"), "4");
	fake_start(s->f);
	s->f->d->timing.chan_retry = 0;
}

static void reattach(struct fake_guest *g)
{
	fg_assert_attached(g);
	fg_expect(g, VMC_L_ATTACH, NULL);
}

static void restart_keeps_channels(void **state)
{
	struct scene *s = *state;
	union vmc_any_msg m;
	uint32_t id = fg_open(s->a, s->b);
	uint64_t epoch = s->a->epoch;

	restart(s);
	reattach(s->a);
	reattach(s->b);
	assert_true(s->a->epoch != epoch);
	fg_hello(s->a, 1);
	fg_chan_state(s->a, id, 4, VMC_CHAN_UP);
	fg_simple(s->a, VMC_L_READY, 0);
	fg_hello(s->b, 1);
	fg_chan_state(s->b, id, 3, VMC_CHAN_UP);
	fg_simple(s->b, VMC_L_READY, 0);
	fg_expect(s->a, VMC_L_PEER_ADD, NULL);
	fg_expect(s->b, VMC_L_PEER_ADD, NULL);
	fg_expect_nothing(s->a);
	fg_expect_nothing(s->b);
	assert_int_equal(s->f->d->nr_up, 1);
	/* the numbers go on, and the channel can be closed */
	fg_close(s->a, VMC_L_CHAN_CLOSED, id, 4, VMC_R_NONE);
	expect_close(s->b, id, 3, VMC_R_NONE);
	closed(s->b, id, 3);
	no_channels(s);
	fg_chan_req(s->a, 4);
	fg_expect(s->a, VMC_L_CHAN_PREPARE, &m);
	assert_true(m.h.id > id);
}

static void restart_with_messages_in_the_rings(void **state)
{
	struct vmc_l_chan_req req = { .h = { VMC_L_CHAN_REQ, sizeof(req), 0 }, .peer = 4 };
	struct vmc_msg stale = { VMC_L_READY, sizeof(stale), 0 };
	struct scene *s = *state;
	union vmc_any_msg m;

	/* unread in both directions when the former vmcd died */
	fg_chan_req(s->a, 99);
	fake_stop(s->f);
	fg_put(s->a, &req);
	fg_put(s->a, &stale);
	fake_start(s->f);
	expect_close(s->a, 0, 99, VMC_R_NO_PEER);
	reattach(s->a);
	reattach(s->b);
	fg_hello(s->a, 0);
	fg_simple(s->a, VMC_L_READY, 0);
	fg_hello(s->b, 0);
	fg_simple(s->b, VMC_L_READY, 0);
	fg_expect(s->a, VMC_L_PEER_ADD, &m);
	fg_expect_nothing(s->a);
	no_channels(s);
	fg_assert_attached(s->a);
}

static void restart_only_one_side_has_it(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);

	/* b has closed it meanwhile; a is asked first, or b is */
	for (int order = 0; order < 2; order++) {
		restart(s);
		reattach(s->a);
		reattach(s->b);
		if (order) {
			fg_hello(s->b, 0);
			fg_simple(s->b, VMC_L_READY, 0);
		}
		fg_hello(s->a, 1);
		fg_chan_state(s->a, id, 4, VMC_CHAN_UP);
		fg_simple(s->a, VMC_L_READY, 0);
		if (!order) {
			fg_expect_nothing(s->a);	/* b has its time */
			fg_hello(s->b, 0);
			fg_simple(s->b, VMC_L_READY, 0);
		}
		expect_close(s->a, id, 4, VMC_R_NO_CHANNEL);
		closed(s->a, id, 4);
		fg_drain(s->a);
		fg_drain(s->b);
		no_channels(s);
	}
}

static void restart_other_side_never_comes(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);
	union vmc_any_msg m;

	fake_stop(s->f);
	fake_destroy(s->b);
	fake_start(s->f);
	s->f->d->timing.chan_recover = 30;
	s->f->d->timing.chan_retry = 0;
	reattach(s->a);
	fg_hello(s->a, 1);
	fg_chan_state(s->a, id, 4, VMC_CHAN_UP);
	fg_simple(s->a, VMC_L_READY, 0);
	fg_expect_nothing(s->a);
	fake_run(s->f, 40);
	fg_expect(s->a, VMC_L_CHAN_CLOSE, &m);
	assert_int_equal(m.h.id, id);
	closed(s->a, id, 4);
	no_channels(s);
}

static void restart_in_the_middle_of_opening(void **state)
{
	struct scene *s = *state;
	union vmc_any_msg m;
	uint32_t id;

	fg_chan_req(s->a, 4);
	fg_expect(s->a, VMC_L_CHAN_PREPARE, &m);
	id = m.h.id;
	fg_half(s->a, VMC_L_CHAN_OFFER, id, 4, 9);
	fg_expect(s->b, VMC_L_CHAN_CONNECT, NULL);
	restart(s);
	reattach(s->a);
	reattach(s->b);
	fg_hello(s->a, 1);
	fg_chan_state(s->a, id, 4, VMC_CHAN_OPENING);
	fg_simple(s->a, VMC_L_READY, 0);
	fg_hello(s->b, 1);
	fg_chan_state(s->b, id, 3, VMC_CHAN_UP);
	expect_close(s->a, id, 4, VMC_R_TIMEOUT);
	expect_close(s->b, id, 3, VMC_R_TIMEOUT);
	closed(s->a, id, 4);
	closed(s->b, id, 3);
	fg_simple(s->b, VMC_L_READY, 0);
	no_channels(s);
	fg_assert_attached(s->b);
}

static void restart_with_a_liar(void **state)
{
	struct scene *s = *state;
	struct fake_guest *c = fake_vm(s->f, 5);
	uint32_t id;

	fg_ready(c);
	id = fg_open(s->a, s->b);
	restart(s);
	reattach(s->a);
	reattach(s->b);
	reattach(c);
	/* c claims their channel, and ids that would wear out the numbers */
	fg_hello(c, 4);
	fg_chan_state(c, id, 3, VMC_CHAN_UP);
	fg_chan_state(c, 0xffffffff, 3, VMC_CHAN_UP);
	fg_chan_state(c, 0xfffffffe, 4, VMC_CHAN_UP);
	fg_chan_state(c, 9, 77, VMC_CHAN_UP);
	fg_simple(c, VMC_L_READY, 0);
	fg_hello(s->a, 1);
	fg_chan_state(s->a, id, 4, VMC_CHAN_UP);
	fg_simple(s->a, VMC_L_READY, 0);
	fg_hello(s->b, 1);
	fg_chan_state(s->b, id, 3, VMC_CHAN_UP);
	fg_simple(s->b, VMC_L_READY, 0);
	assert_int_equal(s->f->d->nr_up, 1);
	expect_close(c, id, 3, VMC_R_NO_CHANNEL);
	expect_close(c, 0xffffffff, 3, VMC_R_NO_CHANNEL);
	fg_drain(s->a);
	fg_drain(s->b);
	fg_drain(c);
	assert_int_equal(s->f->d->nr_up, 1);
	assert_true(s->f->d->next_chan_id < 100);
}

static void restart_request_before_the_verdict(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);
	union vmc_any_msg m;

	restart(s);
	reattach(s->a);
	reattach(s->b);
	fg_hello(s->b, 0);
	fg_simple(s->b, VMC_L_READY, 0);
	fg_hello(s->a, 1);
	fg_chan_state(s->a, id, 4, VMC_CHAN_UP);
	fg_simple(s->a, VMC_L_READY, 0);
	fg_expect(s->b, VMC_L_PEER_ADD, NULL);
	expect_close(s->a, id, 4, VMC_R_NO_CHANNEL);
	/* b wants one while a still clears the old one away */
	fg_chan_req(s->b, 3);
	fg_expect_nothing(s->b);
	closed(s->a, id, 4);
	fg_expect(s->b, VMC_L_CHAN_PREPARE, &m);
	assert_int_not_equal(m.h.id, id);
}

#define T(name)	cmocka_unit_test_setup_teardown(name, setup_ready, teardown)
#define T0(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T0(peers_are_told),
		T0(peers_share_a_bridge),
		T0(a_shared_mac_is_nobodys),
		T(open_and_close),
		T(both_ask_at_once),
		T(second_asker_hears_of_a_failure),
		T(asked_again_while_closing),
		T(a_pair_must_rest),
		T(violations_bring_a_pair_into_quarantine),
		T(violations_long_ago_do_not_count),
		T(quarantine_ends_with_the_guest),
		T(requests_for_nobody),
		T(too_many_channels),
		T(ids_wrap_and_are_not_reused),
		T(refused_by_either_side),
		T(closes_cross),
		T(wrong_side_or_phase),
		T(up_too_early),
		T(offer_twice),
		T(foreign_channel),
		T(impossible_halves),
		T(silence_while_opening),
		T(paused_guests_are_waited_for),
		T(a_guest_that_was_paused_has_its_time),
		T(death_at_every_step),
		T(both_die),
		T(new_guest_with_a_dead_ones_domid),
		T(restart_keeps_channels),
		T(restart_with_messages_in_the_rings),
		T(restart_only_one_side_has_it),
		T(restart_other_side_never_comes),
		T(restart_in_the_middle_of_opening),
		T(restart_with_a_liar),
		T(restart_request_before_the_verdict),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
