// SPDX-License-Identifier: GPL-2.0-or-later
/* Requests and answers, resets, readers who don't read. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "traffic.h"

/* Threads by the thousand: small stacks. */
int thread_start(void *(*fn)(void *), void *arg, void *thread)
{
	pthread_attr_t attr;
	pthread_t own;
	int err;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 << 10);
	if (!thread)
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	err = pthread_create(thread ? thread : &own, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	return -err;
}

void nap(unsigned int ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

/* ------------------------------------------------------------ pingpong */

/* Between two rounds the peer is silent: nothing may seem to come. */
static int check_silence(struct session *s, struct rng *r)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN | POLLRDHUP };
	uint64_t start = now_ms(), took;
	char byte;
	ssize_t got;
	int flags;

	s->rx.doing = "checking that nothing comes";
	if (io_queued(s))
		return session_fail(s, "FIONREAD says %d between rounds", io_queued(s));
	if (poll(&p, 1, 0) > 0)
		return session_fail(s, "poll says 0x%x between rounds", (unsigned int)p.revents);
	if (recv(s->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) >= 0 || errno != EAGAIN)
		return session_fail(s, "recv finds something between rounds");
	if (!(s->h.ops & OP_TIMEO) || !rng_one_in(r, 3))
		return 0;
	flags = fcntl(s->fd, F_GETFL);
	fcntl(s->fd, F_SETFL, flags & ~O_NONBLOCK);
	set_timeo(s->fd, SO_RCVTIMEO, 30);
	got = recv(s->fd, &byte, 1, 0);
	took = now_ms() - start;
	if (got >= 0 || (errno != EAGAIN && !(errno == EINTR && atomic_load(&signals_on))))
		return session_fail(s, "recv with SO_RCVTIMEO returned %zd, %m", got);
	if (errno == EAGAIN && (took < 25 || took > 5000))
		return session_fail(s, "recv with SO_RCVTIMEO of 30 ms took %llu ms",
				    (unsigned long long)took);
	set_timeo(s->fd, SO_RCVTIMEO, s->h.quiet_ms);
	fcntl(s->fd, F_SETFL, flags);
	return 0;
}

/* The peer has sent @n bytes and waits: FIONREAD gets there and not past it. */
static int check_arrival(struct session *s, uint64_t n)
{
	uint64_t start = now_ms();
	int queued;

	s->rx.doing = "waiting for FIONREAD";
	do {
		queued = io_queued(s);
		if (queued < 0 || (uint64_t)queued > n)
			return session_fail(s, "FIONREAD says %d of %llu bytes", queued,
					    (unsigned long long)n);
		if ((uint64_t)queued == n)
			return 0;
		nap(1);
	} while (now_ms() - start < s->h.quiet_ms);
	return io_stalled(s, "FIONREAD");
}

int pattern_pingpong(struct session *s)
{
	struct rng sizes = { mix64(s->h.seed ^ mix64(s->h.conn)) };
	struct rng checks = { sizes.state + 1 };
	uint64_t n[2];
	uint32_t left;
	int err = 0;

	for (left = s->h.rounds; left && !err; left--) {
		plan_round(&sizes, s->h.chunk, n);
		if (s->side) {
			err = session_pump(s, s->rx.pos + n[0], 0);
			if (!err)
				err = session_pump(s, 0, s->tx.pos + n[1]);
			continue;
		}
		if (rng_one_in(&checks, 8))
			err = check_silence(s, &checks);
		if (!err)
			err = session_pump(s, 0, s->tx.pos + n[0]);
		if (!err && left > 1 && s->h.ops & OP_FIONREAD && !s->small_buffers &&
		    rng_one_in(&checks, 6))
			err = check_arrival(s, n[1]);
		if (!err)
			err = session_pump(s, s->rx.pos + n[1], 0);
	}
	return err;
}

/* ----------------------------------------------------------------- rst */

static bool is_reset(int err)
{
	return err == -ECONNRESET || err == -EPIPE;
}

static int wait_input(struct session *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };

	s->rx.doing = "waiting for bytes to leave unread";
	return poll(&p, 1, (int)s->h.quiet_ms) == 1 ? 0 : io_stalled(s, s->rx.doing);
}

static int rst_closer(struct session *s)
{
	struct linger now = { .l_onoff = 1 };
	struct rng r = { s->h.seed ^ s->h.conn };
	int err;

	err = session_pump(s, 0, s->tx.total);
	if (err)
		return err;
	if (s->h.rst == R_UNREAD) {
		s->exact = true;
		err = session_pump(s, rng_below(&r, s->rx.total), 0);
		return err ? err : wait_input(s);
	}
	err = session_pump(s, s->rx.total, 0);
	if (!err && s->h.rst == R_LINGER && setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)))
		err = session_fail(s, "SO_LINGER: %m");
	return err;
}

/* The peer has closed: writing tells so, soon. */
static int write_until_reset(struct session *s)
{
	uint64_t start = now_ms();
	unsigned int tries = 0;

	s->tx.doing = "send after the peer's close";
	while (now_ms() - start < s->h.quiet_ms) {
		if (send(s->fd, s->tx.buf, 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && is_reset(-errno))
			return 0;
		tries++;
		nap(2);
	}
	return session_fail(s, "%u times written after the peer's close, and no error", tries);
}

static int rst_watcher(struct session *s)
{
	int err;

	if (s->h.rst == R_LATE) {
		err = session_pump(s, s->rx.total, 0);
		if (!err)
			err = session_pump(s, 0, s->tx.total);
		if (!err)
			err = session_expect_eof(s);
		return err ? err : write_until_reset(s);
	}
	/* sent bytes can be lost in a reset, received ones have to be right all the same */
	s->may_reset = true;
	err = session_pump(s, 0, s->tx.total);
	if (!err)
		err = session_pump(s, UINT64_MAX, 0);
	if (is_reset(err))
		return 0;
	if (err == -EIO)
		return err;
	return session_fail(s, "a reset had to come, not %s",
			    err == -ENODATA ? "a proper end" : strerror(-err));
}

int pattern_rst(struct session *s)
{
	/* the closer's bytes must not make it wait for the watcher, who writes first */
	unsigned int closer = s->h.closer % 2;
	struct stream *t = s->side == closer ? &s->tx : &s->rx;

	t->total = t->total > 8192 ? 8192 : t->total;
	return s->side == closer ? rst_closer(s) : rst_watcher(s);
}

/* The server's end of P_ABANDON: what comes is right, and ends somehow. */
int pattern_abandon(struct session *s)
{
	int err;

	if (!s->side)
		return session_pump(s, 0, s->tx.total);
	s->may_reset = true;
	err = session_pump(s, UINT64_MAX, 0);
	return is_reset(err) || err == -ENODATA ? 0 : err;
}

/* ---------------------------------------------------------------- stall */

/* Nobody reads, nothing fits: sends say so, at once or after their time. */
static int stall_writer(struct session *s)
{
	uint64_t start, took, room = s->tx.total / 2;
	int flags = fcntl(s->fd, F_GETFL);
	ssize_t got;

	fcntl(s->fd, F_SETFL, flags & ~O_NONBLOCK);
	s->tx.doing = "send(MSG_DONTWAIT) until it is full";
	do {
		size_t n = s->h.chunk < 16384 ? s->h.chunk : 16384;

		content_fill(s->tx.key, s->tx.pos, s->tx.buf, n);
		got = send(s->fd, s->tx.buf, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (got < 0 && errno != EAGAIN)
			return session_fail(s, "%s: %m", s->tx.doing);
		s->tx.pos += got > 0 ? (uint64_t)got : 0;
	} while (got > 0 && s->tx.pos < room);
	if (got < 0 && s->h.ops & OP_TIMEO) {
		s->tx.doing = "send with SO_SNDTIMEO";
		set_timeo(s->fd, SO_SNDTIMEO, 60);
		start = now_ms();
		content_fill(s->tx.key, s->tx.pos, s->tx.buf, s->h.chunk);
		got = send(s->fd, s->tx.buf, s->h.chunk, MSG_NOSIGNAL);
		took = now_ms() - start;
		if (got < 0 && errno != EAGAIN && !(errno == EINTR && atomic_load(&signals_on)))
			return session_fail(s, "%s: %m", s->tx.doing);
		if (got < 0 && errno == EAGAIN && took < 50)
			return session_fail(s, "send with SO_SNDTIMEO of 60 ms gave up after %llu",
					    (unsigned long long)took);
		if (took > s->h.stall_ms + 5000)
			return session_fail(s, "send with SO_SNDTIMEO of 60 ms took %llu",
					    (unsigned long long)took);
		s->tx.pos += got > 0 ? (uint64_t)got : 0;
		set_timeo(s->fd, SO_SNDTIMEO, s->h.quiet_ms);
	}
	fcntl(s->fd, F_SETFL, flags);
	return session_pump(s, 0, s->tx.total);
}

int pattern_stall(struct session *s)
{
	if (!s->side)
		return stall_writer(s);
	nap(s->h.stall_ms);
	return session_pump(s, s->rx.total, 0);
}
