// SPDX-License-Identifier: GPL-2.0-or-later
/* Connections that stay open, with some traffic both ways, until they are told to stop. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "traffic.h"

atomic_bool hold_stop;


/* A pause before the next send: most are short, a few connections sleep for seconds. */
static unsigned int hold_pause(struct session *s)
{
	unsigned int pace = s->h.stall_ms;

	if (s->h.conn % 8 == 7 && !s->h.rounds)
		pace *= HOLD_SLEEPER;
	return 1 + (unsigned int)rng_below(&s->tx.rng, 2ull * pace);
}

static bool hold_over(const struct session *s, const atomic_bool *peer_done)
{
	return s->side ? atomic_load(peer_done) : atomic_load(&hold_stop);
}

struct hold {
	struct session *s;
	atomic_bool peer_done;
	int result;
};

static void *hold_send(void *arg)
{
	struct hold *h = arg;
	struct session *s = h->s;
	uint64_t until;

	while (!hold_over(s, &h->peer_done) && !h->result) {
		until = s->tx.pos + rng_log(&s->tx.rng, 1, 2ull * s->h.chunk);
		while (s->tx.pos < until && !h->result) {
			ssize_t got = tx_once(s, until - s->tx.pos);

			if (got < 0 && got != -EAGAIN && got != -EINTR)
				h->result = (int)got;
		}
		if (!h->result) {
			unsigned int left = hold_pause(s);

			for (; left && !hold_over(s, &h->peer_done); left -= left < 20 ? left : 20)
				nap(left < 20 ? left : 20);
		}
	}
	if (!h->result && shutdown(s->fd, SHUT_WR))
		h->result = -errno;
	return NULL;
}

static int hold_receive(struct session *s)
{
	ssize_t got;

	do {
		got = rx_once(s, UINT64_MAX);
		if (s->h.conn % 8 == 3 && !atomic_load(&hold_stop))
			nap(5);		/* slow enough that writers wait for us */
	} while (got > 0 || got == -EAGAIN);
	return (int)got;
}

static int hold_blocking(struct session *s)
{
	struct hold h = { .s = s };
	pthread_t thread;
	int err;

	err = thread_start(hold_send, &h, &thread);
	if (err)
		return session_fail(s, "no thread: %s", strerror(-err));
	err = hold_receive(s);
	atomic_store(&h.peer_done, true);
	if (err)
		shutdown(s->fd, SHUT_RDWR);
	pthread_join(thread, NULL);
	return err ? err : h.result;
}

static int hold_events(struct session *s)
{
	uint64_t next = now_ms(), until = 0, heard = next, now;
	atomic_bool peer_done = false;
	bool sending = true;
	ssize_t got;
	int ready;

	while (sending || !atomic_load(&peer_done)) {
		bool out;

		now = now_ms();
		if (sending && s->tx.pos >= until && hold_over(s, &peer_done)) {
			if (shutdown(s->fd, SHUT_WR))
				return -errno;
			sending = false;
			continue;
		}
		if (sending && s->tx.pos >= until && now >= next) {
			until = s->tx.pos + rng_log(&s->tx.rng, 1, 2ull * s->h.chunk);
			next = now + hold_pause(s);
		}
		out = sending && s->tx.pos < until;
		s->rx.doing = "waiting";
		s->duplex = true;
		ready = io_wait(s, !atomic_load(&peer_done), out,
				out ? 500 : next > now && next - now < 50 ? (int)(next - now) : 50);
		if (ready < 0)
			return ready;
		if (ready & IO_IN && !atomic_load(&peer_done)) {
			got = rx_once(s, UINT64_MAX);
			if (!got)
				atomic_store(&peer_done, true);
			else if (got < 0 && got != -EAGAIN)
				return (int)got;
			else if (got > 0)
				heard = now_ms();
		}
		if (ready & IO_OUT && out) {
			got = tx_once(s, until - s->tx.pos);
			if (got < 0 && got != -EAGAIN && got != -EINTR)
				return (int)got;
		}
		if (now_ms() - heard > s->h.quiet_ms)
			return io_stalled(s, "waiting");
	}
	return 0;
}

static void hold_sleep(struct session *s)
{
	uint64_t now, until = now_ms() + hold_pause(s);

	while ((now = now_ms()) < until && !atomic_load(&hold_stop))
		nap(until - now < 250 ? (unsigned int)(until - now) : 250);
}

/* The server waits for a request; 0 is the end. */
static ssize_t hold_first(struct session *s, uint64_t until)
{
	uint64_t start = now_ms();
	ssize_t got;
	int ready;

	do {
		s->rx.doing = "waiting for a request";
		ready = s->rx.blocking ? IO_IN : io_wait(s, true, false, 1000);
		if (ready < 0)
			return ready;
		got = ready & IO_IN ? rx_once(s, until) : -EAGAIN;
		if (got == -EAGAIN && now_ms() - start > s->h.quiet_ms)
			return io_stalled(s, s->rx.doing);
	} while (got == -EAGAIN);
	return got;
}

/* Requests and answers in turn, of sizes that both know. */
static int hold_requests(struct session *s)
{
	struct rng sizes = { mix64(s->h.seed ^ mix64(s->h.conn)) };
	uint64_t n[2], until;
	ssize_t got;
	int err = 0;

	while (!err && (s->side || !atomic_load(&hold_stop))) {
		plan_round(&sizes, s->h.chunk, n);
		until = s->rx.pos + n[!s->side];
		if (s->side) {
			got = hold_first(s, until);
			if (got <= 0)
				return got ? (int)got : session_shutdown(s);
			err = session_pump(s, until, 0);
			if (!err)
				err = session_pump(s, 0, s->tx.pos + n[1]);
		} else {
			err = session_pump(s, 0, s->tx.pos + n[0]);
			if (!err)
				err = session_pump(s, until, 0);
			if (!err)
				hold_sleep(s);
		}
	}
	if (!err)
		err = session_shutdown(s);
	return err ? err : session_expect_eof(s);
}

int pattern_hold(struct session *s)
{
	int err;

	s->tx.total = s->rx.total = UINT64_MAX;
	if (s->h.rounds)
		err = hold_requests(s);
	else
		err = s->style == S_BLOCKING ? hold_blocking(s) : hold_events(s);
	if (err && err != -EIO)
		err = s->may_reset ? err : session_fail(s, "%s: %s", s->rx.doing, strerror(-err));
	return err;
}
