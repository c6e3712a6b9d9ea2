// SPDX-License-Identifier: GPL-2.0-or-later
/* Messages that a guest must not send, rings that it breaks, and who notices. */
#include "test_vmcd_fake.h"

#include "guest.h"
#include "link.h"

struct scene {
	struct fake *f;
	struct fake_guest *bad;
	struct fake_guest *good;
	struct fake_guest *third;
};

static int setup(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));

	s->f = fake_new();
	fake_start(s->f);
	s->f->d->timing.chan_retry = 0;
	s->bad = fake_vm(s->f, 3);
	s->good = fake_vm(s->f, 4);
	s->third = fake_vm(s->f, 5);
	fg_ready(s->good);
	fg_ready(s->third);
	fg_ready(s->bad);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct scene *s = *state;

	fake_free(s->f);
	free(s);
	return 0;
}

/* Refused, its peers told, and the two others go on as if nothing had been. */
static void only_the_bad_one(struct scene *s, const char *error)
{
	union vmc_any_msg m;
	uint32_t id;

	fg_assert_refused(s->bad, error);
	fg_expect(s->good, VMC_L_PEER_DEL, &m);
	assert_int_equal(m.peer_del.domid, 3);
	assert_int_equal(m.peer_del.reason, VMC_R_PROTOCOL);
	fg_expect_nothing(s->good);
	fg_expect(s->third, VMC_L_PEER_DEL, NULL);
	fg_expect_nothing(s->third);
	fg_assert_attached(s->good);
	fg_assert_attached(s->third);
	id = fg_open(s->good, s->third);
	fg_close(s->good, VMC_L_CHAN_CLOSED, id, 5, VMC_R_NONE);
	fg_expect(s->third, VMC_L_CHAN_CLOSE, NULL);
	fg_close(s->third, VMC_L_CHAN_CLOSED, id, 4, VMC_R_NONE);
}

/* The driver of the bad guest is loaded again. */
static void again(struct scene *s)
{
	fake_run(s->f, 25);
	fg_write(s->bad, "state", "1");
	fake_run(s->f, 25);
	fg_ready(s->bad);
	fg_drain(s->good);
	fg_drain(s->third);
	fg_drain(s->bad);
	fg_assert_attached(s->bad);
}

static void put_raw(struct fake_guest *g, uint16_t type, uint16_t len, uint32_t commit)
{
	uint8_t raw[VMC_MSG_MAX * 2] = { 0 };
	struct vmc_msg h = { type, len, 1 };

	memcpy(raw, &h, sizeof(h));
	vmc_ring_put(&g->prod, g->pages + 3 * (size_t)VMC_PAGE_SIZE, 0, raw, commit);
	assert_int_equal(vmc_ring_prod_commit(&g->prod, commit), 0);
	fg_notify(g);
	fake_settle(g->host);
}

static void illegal_types_and_lengths(void **state)
{
	static const struct { uint16_t type, len, commit; } cases[] = {
		{ 0x9999, 8, 8 },
		{ 0, 8, 8 },
		{ VMC_L_READY, 0, 8 },
		{ VMC_L_READY, 7, 8 },
		{ VMC_L_READY, 16, 16 },
		{ VMC_L_CHAN_REQ, 8, 8 },
		{ VMC_L_CHAN_REQ, 16, 8 },		/* cut off */
		{ VMC_L_CHAN_REQ, 16, 12 },
		{ VMC_L_CHAN_REQ, 0xffff, 16 },
		{ VMC_L_HELLO, 60, 64 },
		{ VMC_L_STATS_END, 256, 256 },
		{ VMC_L_STATS_CHAN, 96, 128 },
		{ VMC_L_CHAN_OFFER, 16, 16 },
		{ VMC_L_CHAN_UP, 4, 4 },		/* less than a header */
		{ VMC_L_CHAN_CLOSED, 24, 24 },
	};
	struct scene *s = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		put_raw(s->bad, cases[i].type, cases[i].len, cases[i].commit);
		only_the_bad_one(s, "unknown type, illegal length");
		again(s);
	}
}

static void messages_that_guests_do_not_send(void **state)
{
	static const struct { uint16_t type, len; } cases[] = {
		{ VMC_L_ATTACH, sizeof(struct vmc_l_attach) },
		{ VMC_L_PEER_ADD, sizeof(struct vmc_l_peer_add) },
		{ VMC_L_PEER_DEL, sizeof(struct vmc_l_peer_del) },
		{ VMC_L_CHAN_PREPARE, sizeof(struct vmc_l_chan_prepare) },
		{ VMC_L_CHAN_CONNECT, sizeof(struct vmc_l_chan_half) },
		{ VMC_L_CHAN_COMPLETE, sizeof(struct vmc_l_chan_half) },
		{ VMC_L_STATS_REQ, sizeof(struct vmc_msg) },
		{ VMC_C_OFFER, sizeof(struct vmc_c_offer) },
		{ VMC_C_RING_ADD, sizeof(struct vmc_c_ring_add) },
		{ VMC_C_DONE, sizeof(struct vmc_msg) },
		{ VMC_C_PKT_OPEN, sizeof(struct vmc_c_pkt_open) },
		{ VMC_C_PKT_RING, sizeof(struct vmc_c_pkt_answer) },
		{ VMC_C_ADDR_ASK, sizeof(struct vmc_c_addr_ask) },
		{ VMC_C_ADDR_LIVE, sizeof(struct vmc_c_addr_answer) },
	};
	struct scene *s = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		put_raw(s->bad, cases[i].type, cases[i].len, cases[i].len);
		only_the_bad_one(s, "which guests don't send");
		again(s);
	}
}

static void ready_again(struct fake_guest *g)
{
	fg_simple(g, VMC_L_READY, 0);
}

static void hello_again(struct fake_guest *g)
{
	fg_hello(g, 0);
}

static void chan_state_late(struct fake_guest *g)
{
	fg_chan_state(g, 1, 4, VMC_CHAN_UP);
}

static void offer_unknown(struct fake_guest *g)
{
	fg_half(g, VMC_L_CHAN_OFFER, 4711, 4, 77);
}

static void accept_unknown(struct fake_guest *g)
{
	fg_half(g, VMC_L_CHAN_ACCEPT, 4711, 4, 0);
}

static void up_unknown(struct fake_guest *g)
{
	fg_simple(g, VMC_L_CHAN_UP, 4711);
}

static void close_ring(struct fake_guest *g)
{
	vmc_ring_prod_close(&g->prod);
	fg_notify(g);
}

static void index_back(struct fake_guest *g)
{
	vmc_store(&g->prod.hdr->prod, 0);
	fg_notify(g);
}

static void index_ahead(struct fake_guest *g)
{
	vmc_store(&g->prod.hdr->prod, (g->prod.pos + VMC_MSG_RING_SIZE + 8) << 1);
	fg_notify(g);
}

static void out_of_turn(void **state)
{
	static const struct {
		void (*act)(struct fake_guest *g);
		const char *error;
	} cases[] = {
		{ ready_again, "READY out of turn" },
		{ hello_again, "HELLO out of turn" },
		{ chan_state_late, "CHAN_STATE out of turn" },
		{ offer_unknown, "CHAN_OFFER for channel 4711, which it does not have" },
		{ accept_unknown, "CHAN_ACCEPT for channel 4711" },
		{ up_unknown, "CHAN_UP for channel 4711" },
		{ close_ring, "closed the ring that it writes" },
		{ index_back, "impossible index" },
		{ index_ahead, "impossible index" },
	};
	struct scene *s = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cases[i].act(s->bad);
		only_the_bad_one(s, cases[i].error);
		again(s);
	}
}

/* Attached anew, up to ATTACH. */
static void attached(struct scene *s)
{
	fake_run(s->f, 25);
	fg_write(s->bad, "state", "1");
	fake_run(s->f, 25);
	fg_connect(s->bad);
	fg_expect(s->bad, VMC_L_ATTACH, NULL);
}

static void bad_handshakes(void **state)
{
	struct scene *s = *state;
	struct fake_guest *g = s->bad;
	struct vmc_l_hello hello = { .h = { VMC_L_HELLO, sizeof(hello), 0 } };

	attached(s);
	fg_simple(g, VMC_L_READY, 0);
	fg_assert_refused(g, "READY out of turn");

	attached(s);
	fg_chan_req(g, 4);
	fg_assert_refused(g, "CHAN_REQ out of turn");

	attached(s);
	hello.epoch = g->epoch ^ 1;
	hello.version = 1;
	fg_send(g, &hello);
	fg_assert_refused(g, "another epoch");

	attached(s);
	hello.epoch = g->epoch;
	hello.version = 2;
	fg_send(g, &hello);
	fg_assert_refused(g, "version 2");

	attached(s);
	fg_hello(g, VMC_CHANNELS_MAX + 1);
	fg_assert_refused(g, "257 channels");

	attached(s);
	fg_hello(g, UINT32_MAX);
	fg_assert_refused(g, "channels");

	attached(s);
	fg_hello(g, 1);
	fg_simple(g, VMC_L_READY, 0);
	fg_assert_refused(g, "READY after 0 of 1");

	attached(s);
	fg_hello(g, 1);
	fg_chan_state(g, 8, 4, VMC_CHAN_UP);
	fg_chan_state(g, 9, 4, VMC_CHAN_UP);
	fg_assert_refused(g, "more CHAN_STATE");

	attached(s);
	fg_hello(g, 2);
	fg_chan_state(g, 8, 4, VMC_CHAN_UP);
	fg_chan_state(g, 8, 4, VMC_CHAN_UP);
	fg_assert_refused(g, "twice");

	for (int i = 0; i < 5; i++) {
		attached(s);
		fg_hello(g, 1);
		fg_chan_state(g, i == 0 ? 0 : 8, i == 1 ? 3 : i == 2 ? 0 : 4,
			      i == 3 ? VMC_CHAN_NONE : i == 4 ? 77 : VMC_CHAN_UP);
		fg_assert_refused(g, "impossible values in CHAN_STATE");
	}
	/* nothing of it is left behind */
	assert_true(TAILQ_EMPTY(&s->f->d->chans));
}

static void requests_while_listing(void **state)
{
	struct scene *s = *state;
	union vmc_any_msg m;

	attached(s);
	fg_drain(s->good);
	fg_hello(s->bad, 0);
	fg_chan_req(s->bad, 4);
	fg_expect(s->bad, VMC_L_CHAN_CLOSE, &m);
	assert_int_equal(m.h.id, 0);
	assert_int_equal(m.chan_close.reason, VMC_R_NO_PEER);
	fg_close(s->bad, VMC_L_CHAN_CLOSED, 77, 4, VMC_R_NONE);
	fg_simple(s->bad, VMC_L_READY, 0);
	fg_expect(s->bad, VMC_L_PEER_ADD, NULL);
	fg_assert_attached(s->bad);
}

static void silent_guest_is_left_alone(void **state)
{
	struct scene *s = *state;

	attached(s);
	fg_drain(s->good);
	fake_run(s->f, 50);
	fg_assert_attached(s->bad);
	fg_expect_nothing(s->good);	/* but nobody's peer either */
}

static void bad_consumer_index(void **state)
{
	struct scene *s = *state;

	/* vmcd looks at it when the ring seems full */
	vmc_store(&s->bad->cons.hdr->cons, 1ull << 40);
	for (int i = 0; i < 300; i++)
		fg_chan_req(s->bad, 9);		/* each gets an answer */
	fg_assert_refused(s->bad, "impossible consumer index");
}

static void guest_closes_its_inbound_ring(void **state)
{
	struct scene *s = *state;

	vmc_ring_cons_close(&s->bad->cons);
	fg_chan_req(s->bad, 9);
	fg_assert_refused(s->bad, "closed the ring that it reads");
}

static void guest_that_does_not_read(void **state)
{
	struct scene *s = *state;
	int n;

	/* every request is answered: 4 KiB in the ring, 64 KiB in vmcd, then it is over */
	for (n = 0; n < 20000 && s->bad->local_port; n++)
		fg_chan_req(s->bad, 9);
	assert_in_range(n, (4096 + 65536) / 16, (4096 + 65536) / 16 + 20);
	fg_assert_refused(s->bad, "does not read");
	fg_assert_attached(s->good);
}

static void backlog_comes_in_order(void **state)
{
	struct scene *s = *state;
	union vmc_any_msg m;

	for (uint32_t i = 0; i < 1000; i++)
		fg_chan_req(s->bad, 1000 + i);
	for (uint32_t i = 0; i < 1000; i++) {
		fg_expect(s->bad, VMC_L_CHAN_CLOSE, &m);
		assert_int_equal(m.chan_close.peer, 1000 + i);
	}
	fg_expect_nothing(s->bad);
	fg_assert_attached(s->bad);
}

static void flood_does_not_starve(void **state)
{
	struct vmc_l_chan_req m = { .h = { VMC_L_CHAN_REQ, sizeof(m), 0 }, .peer = 9 };
	struct scene *s = *state;
	uint64_t before;

	for (int i = 0; i < 200; i++)
		fg_put(s->bad, &m);
	before = vmc_load(&s->bad->prod.hdr->cons);
	fg_notify(s->bad);
	event_base_loop(s->f->base, EVLOOP_ONCE);
	assert_int_equal(vmc_load(&s->bad->prod.hdr->cons) - before, 64 * sizeof(m));
	/* its port stays quiet until it was read empty; the others' do not */
	assert_true(s->bad->masked);
	fg_chan_req(s->good, 9);
	fg_expect(s->good, VMC_L_CHAN_CLOSE, NULL);
	fake_settle(s->f);
	assert_int_equal(vmc_load(&s->bad->prod.hdr->cons) - before, 200 * sizeof(m));
	assert_false(s->bad->masked);
}

static void guest_that_waits_for_room(void **state)
{
	struct vmc_l_chan_req m = { .h = { VMC_L_CHAN_REQ, sizeof(m), 0 }, .peer = 9 };
	struct scene *s = *state;
	unsigned int rung;

	while (vmc_ring_prod_space(&s->bad->prod, sizeof(m)) >= (int)sizeof(m))
		fg_put(s->bad, &m);
	assert_false(vmc_ring_prod_arm(&s->bad->prod, sizeof(m)));
	/* answers don't ring: the guest isn't asleep for those */
	vmc_store(&s->bad->cons.hdr->cons_wait, 0);
	rung = s->bad->rung;
	fg_notify(s->bad);
	fake_settle(s->f);
	assert_int_equal(s->bad->rung, rung + 1);
	assert_true(vmc_ring_prod_space(&s->bad->prod, VMC_MSG_RING_SIZE) ==
		    (int)VMC_MSG_RING_SIZE);
}

static void bye_in_the_middle(void **state)
{
	struct vmc_msg bye = { VMC_L_BYE, sizeof(bye), 0 };
	struct scene *s = *state;

	/* what follows BYE is not looked at */
	fg_put(s->bad, &bye);
	put_raw(s->bad, 0x9999, 8, 8);
	assert_int_equal(s->bad->mapped, 0);
	assert_null(fg_back(s->bad, "error"));
	fg_expect(s->good, VMC_L_PEER_DEL, NULL);
}

static void storms_of_events(void **state)
{
	struct scene *s = *state;

	for (int i = 0; i < 1000; i++) {
		fg_notify(s->bad);
		event_base_loop(s->f->base, EVLOOP_NONBLOCK);
	}
	fg_assert_attached(s->bad);
	fg_open(s->bad, s->good);
}

#define T(name)	cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(illegal_types_and_lengths),
		T(messages_that_guests_do_not_send),
		T(out_of_turn),
		T(bad_handshakes),
		T(requests_while_listing),
		T(silent_guest_is_left_alone),
		T(bad_consumer_index),
		T(guest_closes_its_inbound_ring),
		T(guest_that_does_not_read),
		T(backlog_comes_in_order),
		T(flood_does_not_starve),
		T(guest_that_waits_for_room),
		T(bye_in_the_middle),
		T(storms_of_events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
