// SPDX-License-Identifier: GPL-2.0-or-later
/* One end of a connection, from its header to its end. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "traffic.h"

atomic_bool signals_on;
static struct session *sessions;
static pthread_mutex_t sessions_lock = PTHREAD_MUTEX_INITIALIZER;

static void describe(const struct session *s, char *out, size_t size)
{
	snprintf(out, size, "seed %llu connection %u %s %s/%s fd %d sent %llu of %lld received %llu of %lld (%s, %s)",
		 (unsigned long long)s->h.seed, s->h.conn, s->side ? "server" : "client",
		 pattern_name[s->h.pattern], style_name[s->style], s->fd,
		 (unsigned long long)s->tx.pos, (long long)s->tx.total,
		 (unsigned long long)s->rx.pos, (long long)s->rx.total,
		 s->tx.doing ? s->tx.doing : "-", s->rx.doing ? s->rx.doing : "-");
}

int session_fail(struct session *s, const char *format, ...)
{
	char who[240], what[400];
	va_list ap;

	va_start(ap, format);
	vsnprintf(what, sizeof(what), format, ap);
	va_end(ap);
	/* the first is the cause, others may be its consequence */
	if (!atomic_exchange(&s->failed, true)) {
		describe(s, who, sizeof(who));
		snprintf(s->message, sizeof(s->message), "%s: %s", who, what);
		fprintf(stderr, "vmc-traffic: %s: %s\n", who, what);
	}
	return -EIO;
}

void session_report_all(void)
{
	struct session *s;
	char who[240];
	int n = 0;

	pthread_mutex_lock(&sessions_lock);
	for (s = sessions; s && n < 20; s = s->next, n++) {
		describe(s, who, sizeof(who));
		fprintf(stderr, "vmc-traffic: open: %s FIONREAD %d\n", who, io_queued(s));
	}
	pthread_mutex_unlock(&sessions_lock);
}

/* What a connection is set to from its beginning. */
static void session_options(struct session *s)
{
	struct rng r = { mix64(s->h.seed ^ mix64(s->h.conn + 0x6f707473ull + s->side)) };

	set_int(s->fd, SOL_SOCKET, SO_OOBINLINE, 1);
	set_timeo(s->fd, SO_RCVTIMEO, s->h.quiet_ms);
	set_timeo(s->fd, SO_SNDTIMEO, s->h.quiet_ms);
	if (s->h.pattern == P_STALL) {
		set_int(s->fd, SOL_SOCKET, s->side ? SO_RCVBUF : SO_SNDBUF, 65536);
		s->small_buffers = true;
	} else if (s->h.ops & OP_SOCKOPT) {
		s->small_buffers = rng_one_in(&r, 4);
		if (s->small_buffers) {
			set_int(s->fd, SOL_SOCKET, SO_SNDBUF, 16384);
			set_int(s->fd, SOL_SOCKET, SO_RCVBUF, 65536);
		}
		set_int(s->fd, IPPROTO_TCP, TCP_NODELAY, (int)rng_below(&r, 2));
	}
	if (s->style != S_BLOCKING)
		fcntl(s->fd, F_SETFL, fcntl(s->fd, F_GETFL) | O_NONBLOCK);
}

int session_open(struct session *s, const struct header *h, int fd, unsigned int side)
{
	unsigned int d;

	memset(s, 0, sizeof(*s));
	s->h = *h;
	s->fd = fd;
	s->side = side;
	s->style = h->style[side];
	s->memfd = s->pipe[0] = s->pipe[1] = s->epfd = -1;
	s->edge_in = s->edge_out = true;
	for (d = 0; d < 2; d++) {
		struct stream *t = d == side ? &s->tx : &s->rx;

		t->key = content_key(h->seed, h->conn, d);
		t->total = h->bytes[d];
		t->rng.state = mix64(h->seed ^ mix64(4ull * h->conn + 2 * side + d + 0x63616c6cull));
		t->blocking = s->style == S_BLOCKING;
		t->buf = malloc(h->chunk);
		if (!t->buf) {
			free(s->tx.buf);
			free(s->rx.buf);
			s->tx.buf = s->rx.buf = NULL;
			return -ENOMEM;
		}
	}
	session_options(s);
	pthread_mutex_lock(&sessions_lock);
	s->next = sessions;
	s->prev = &sessions;
	if (s->next)
		s->next->prev = &s->next;
	sessions = s;
	pthread_mutex_unlock(&sessions_lock);
	return 0;
}

void session_close(struct session *s)
{
	pthread_mutex_lock(&sessions_lock);
	*s->prev = s->next;
	if (s->next)
		s->next->prev = s->prev;
	pthread_mutex_unlock(&sessions_lock);
	if (s->fd >= 0 && close(s->fd))
		session_fail(s, "close: %m");
	s->fd = -1;
	if (s->memfd >= 0)
		close(s->memfd);
	if (s->pipe[0] >= 0) {
		close(s->pipe[0]);
		close(s->pipe[1]);
	}
	if (s->epfd >= 0)
		close(s->epfd);
	free(s->tx.buf);
	free(s->rx.buf);
}

/* ------------------------------------------------------------- pumping */

static int failed_call(struct session *s, const struct stream *t, ssize_t error)
{
	if (error == -EIO || s->may_reset)
		return (int)error;
	return session_fail(s, "%s: %s", t->doing, strerror((int)-error));
}

static int pump_rx(struct session *s, uint64_t until)
{
	while (s->rx.pos < until) {
		ssize_t got = rx_once(s, until);

		if (got > 0)
			continue;
		if (!got)
			return s->may_reset ? -ENODATA :
			       session_fail(s, "the stream ended %llu bytes early",
					    (unsigned long long)(until - s->rx.pos));
		return failed_call(s, &s->rx, got);
	}
	return 0;
}

static int pump_tx(struct session *s, uint64_t until)
{
	while (s->tx.pos < until) {
		ssize_t got = tx_once(s, until - s->tx.pos);

		if (got < 0 && got != -EAGAIN && got != -EINTR)
			return failed_call(s, &s->tx, got);
	}
	return 0;
}

struct pump_thread {
	struct session *s;
	uint64_t until;
	int result;
};

static void *pump_tx_thread(void *arg)
{
	struct pump_thread *p = arg;

	p->result = pump_tx(p->s, p->until);
	return NULL;
}

/* Blocking calls in both directions take a thread each. */
static int pump_threads(struct session *s, uint64_t rx_until, uint64_t tx_until)
{
	struct pump_thread p = { .s = s, .until = tx_until };
	pthread_t thread;
	int err;

	err = thread_start(pump_tx_thread, &p, &thread);
	if (err)
		return session_fail(s, "no thread: %s", strerror(-err));
	err = pump_rx(s, rx_until);
	if (err)
		shutdown(s->fd, SHUT_RDWR);
	pthread_join(thread, NULL);
	return err ? err : p.result;
}

static int pump_events(struct session *s, uint64_t rx_until, uint64_t tx_until)
{
	uint64_t progress = now_ms();

	while (s->rx.pos < rx_until || s->tx.pos < tx_until) {
		bool in = s->rx.pos < rx_until, out = s->tx.pos < tx_until;
		int ready;
		ssize_t got;

		s->rx.doing = "waiting";
		s->duplex = out;
		ready = io_wait(s, in, out, 1000);
		if (ready < 0)
			return ready;
		if (ready & IO_IN && in) {
			got = rx_once(s, rx_until);
			if (got > 0)
				progress = now_ms();
			else if (!got)
				return s->may_reset ? -ENODATA :
				       session_fail(s, "the stream ended %llu bytes early",
						    (unsigned long long)(rx_until - s->rx.pos));
			else if (got != -EAGAIN)
				return failed_call(s, &s->rx, got);
		}
		if (ready & IO_OUT && out) {
			got = tx_once(s, tx_until - s->tx.pos);
			if (got > 0)
				progress = now_ms();
			else if (got != -EAGAIN && got != -EINTR)
				return failed_call(s, &s->tx, got);
		}
		if (now_ms() - progress > s->h.quiet_ms)
			return io_stalled(s, in ? "waiting" : "sending");
	}
	return 0;
}

int session_pump(struct session *s, uint64_t rx_until, uint64_t tx_until)
{
	if (s->style != S_BLOCKING)
		return pump_events(s, rx_until, tx_until);
	if (s->rx.pos < rx_until && s->tx.pos < tx_until)
		return pump_threads(s, rx_until, tx_until);
	if (s->tx.pos < tx_until)
		return pump_tx(s, tx_until);
	return pump_rx(s, rx_until);
}

/* -------------------------------------------------------------- the end */

int session_shutdown(struct session *s)
{
	s->wr_shut = true;
	if (shutdown(s->fd, SHUT_WR))
		return session_fail(s, "shutdown: %m");
	return 0;
}

/* Everything was received: the end, and nothing but the end, comes now, and stays. */
int session_expect_eof(struct session *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN | POLLRDHUP };
	uint64_t start = now_ms();
	ssize_t got;
	char byte;
	int ready, queued, i;

	s->rx.total = s->rx.pos;
	do {
		s->rx.doing = "waiting for the end";
		ready = s->rx.blocking ? IO_IN : io_wait(s, true, false, 1000);
		if (ready < 0)
			return ready;
		got = ready & IO_IN ? rx_once(s, s->rx.pos) : -EAGAIN;
		if (got == -EAGAIN && now_ms() - start > s->h.quiet_ms)
			return io_stalled(s, "waiting for the end");
	} while (got == -EAGAIN);
	if (got < 0)
		return failed_call(s, &s->rx, got);
	/* rx_once() has complained about a byte too many */
	for (i = 0; i < 2; i++) {
		got = recv(s->fd, &byte, 1, MSG_DONTWAIT | (i ? MSG_PEEK : 0));
		if (got)
			return session_fail(s, "after the end recv says %s",
					    got > 0 ? "a byte" : strerror(errno));
	}
	queued = io_queued(s);
	if (queued)
		return session_fail(s, "after the end FIONREAD says %d", queued);
	if (poll(&p, 1, 0) != 1 || !(p.revents & POLLIN) || !(p.revents & POLLRDHUP))
		return session_fail(s, "after the end poll says 0x%x", (unsigned int)p.revents);
	return 0;
}

static int session_end(struct session *s)
{
	int err;

	if (s->h.ending == E_SHUTDOWN) {
		err = session_shutdown(s);
		return err ? err : session_expect_eof(s);
	}
	if (s->side == (s->h.ending == E_SERVER))
		return 0;	/* we close */
	return session_expect_eof(s);
}

static int pattern_half_close(struct session *s)
{
	int err;

	if (s->side) {
		err = session_pump(s, s->rx.total, 0);
		if (!err)
			err = session_expect_eof(s);
		return err ? err : session_pump(s, 0, s->tx.total);
	}
	err = session_pump(s, 0, s->tx.total);
	if (!err)
		err = session_shutdown(s);
	if (!err)
		err = session_pump(s, s->rx.total, 0);
	return err ? err : session_expect_eof(s);
}

int session_run(struct session *s)
{
	int err;

	switch (s->h.pattern) {
	case P_STREAM:
	case P_BOTH:
		err = session_pump(s, s->rx.total, s->tx.total);
		return err ? err : session_end(s);
	case P_PINGPONG:
		err = pattern_pingpong(s);
		return err ? err : session_end(s);
	case P_HALF_CLOSE:
		return pattern_half_close(s);
	case P_RST:
		return pattern_rst(s);
	case P_THREADS:
		return pattern_threads(s);
	case P_STALL:
		err = pattern_stall(s);
		return err ? err : session_end(s);
	case P_HOLD:
		return pattern_hold(s);
	case P_SHA:
		return pattern_sha(s);
	case P_ABANDON:
		return pattern_abandon(s);
	default:
		return session_fail(s, "no such pattern");
	}
}
