// SPDX-License-Identifier: GPL-2.0-or-later
/* What connections do besides pumping bytes until they are through. */
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

#define THREADS	3

atomic_bool hold_stop;

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

static void nap(unsigned int ms)
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

	s->doing = "checking that nothing comes";
	if (io_queued(s))
		return session_fail(s, "FIONREAD says %d between rounds", io_queued(s));
	if (poll(&p, 1, 0))
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

	s->doing = "waiting for FIONREAD";
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

	s->doing = "waiting for bytes to leave unread";
	return poll(&p, 1, (int)s->h.quiet_ms) == 1 ? 0 : io_stalled(s, s->doing);
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

	s->doing = "send after the peer's close";
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

/* -------------------------------------------------------------- threads */

struct team {
	struct session *s;
	unsigned int id;
	uint64_t count;		/* bytes to send, or received */
	uint64_t seen[256];
	int result;
};

/* Single bytes, which no other thread's can divide: thread and running number. */
static void *team_write(void *arg)
{
	struct team *t = arg;
	uint64_t i;

	for (i = 0; i < t->count; i++) {
		unsigned char byte = (unsigned char)(t->id << 6 | (i & 63));
		ssize_t got = send(t->s->fd, &byte, 1, MSG_NOSIGNAL);

		if (got < 0 && errno == EINTR && atomic_load(&signals_on)) {
			i--;
			continue;
		}
		if (got != 1) {
			t->result = session_fail(t->s, "send of a thread: %s",
						 got < 0 ? strerror(errno) : "nothing");
			break;
		}
	}
	return NULL;
}

/* Who gets which bytes is open; together they are those that were sent. */
static void *team_read(void *arg)
{
	unsigned char buf[4096];
	struct team *t = arg;
	struct rng r = { t->id };
	ssize_t got, i;

	for (;;) {
		got = recv(t->s->fd, buf, rng_log(&r, 1, sizeof(buf)), 0);
		if (!got)
			break;
		if (got < 0 && errno == EINTR && atomic_load(&signals_on))
			continue;
		if (got < 0) {
			t->result = session_fail(t->s, "recv of a thread: %m");
			break;
		}
		for (i = 0; i < got; i++)
			t->seen[buf[i]]++;
		t->count += (uint64_t)got;
	}
	return NULL;
}

static int threads_compare(struct session *s, const struct team *readers)
{
	uint64_t want[256] = { 0 }, pos, count = 0;
	unsigned char part[512];
	unsigned int i, v;

	for (i = 0; i < THREADS; i++)
		count += readers[i].count;
	s->rx.pos = count;
	if (count != s->rx.total)
		return session_fail(s, "the threads together received %llu bytes",
				    (unsigned long long)count);
	for (pos = 0; pos < count; pos += sizeof(part)) {
		size_t n = count - pos < sizeof(part) ? count - pos : sizeof(part);

		content_fill(s->rx.key, pos, part, n);
		for (i = 0; i < n; i++)
			want[part[i]]++;
	}
	for (v = 0; v < 256; v++) {
		for (i = 0; i < THREADS; i++)
			want[v] -= readers[i].seen[v];
		if (want[v])
			return session_fail(s, "WRONG DATA: %lld bytes 0x%02x missing of %llu",
					    (long long)want[v], v, (unsigned long long)count);
	}
	return 0;
}

static int threads_client(struct session *s)
{
	struct team *teams = calloc(2 * THREADS, sizeof(*teams));
	pthread_t thread[2 * THREADS];
	unsigned int i, started = 0;
	int err = 0;

	if (!teams)
		return session_fail(s, "no memory");
	for (i = 0; i < 2 * THREADS && !err; i++) {
		teams[i].s = s;
		teams[i].id = i % THREADS;
		if (i < THREADS)
			teams[i].count = s->tx.total / THREADS + (i < s->tx.total % THREADS);
		err = thread_start(i < THREADS ? team_write : team_read, &teams[i], &thread[i]);
		started += !err;
	}
	if (err) {
		session_fail(s, "no thread: %s", strerror(-err));
		shutdown(s->fd, SHUT_RDWR);
	}
	for (i = 0; i < started; i++) {
		if (i == THREADS)
			shutdown(s->fd, SHUT_WR);
		pthread_join(thread[i], NULL);
		err = err ? err : teams[i].result;
	}
	if (!err)
		err = threads_compare(s, teams + THREADS);
	s->tx.pos = s->tx.total;
	free(teams);
	return err;
}

static void *threads_send(void *arg)
{
	struct team *t = arg;

	t->result = session_pump(t->s, 0, t->s->tx.total);
	if (!t->result)
		t->result = session_shutdown(t->s);
	return NULL;
}

static int threads_server(struct session *s)
{
	struct team sender = { .s = s };
	uint64_t next[4] = { 0 };
	unsigned char buf[512];
	pthread_t thread;
	ssize_t got, i;
	int err;

	err = thread_start(threads_send, &sender, &thread);
	if (err)
		return session_fail(s, "no thread: %s", strerror(-err));
	while ((got = recv(s->fd, buf, sizeof(buf), 0)) > 0)
		for (i = 0; i < got && !err; i++, s->rx.pos++) {
			unsigned int id = buf[i] >> 6;

			if ((next[id]++ & 63) != (buf[i] & 63u))
				err = session_fail(s, "WRONG DATA: byte %llu of thread %u is 0x%02x",
						   (unsigned long long)next[id] - 1, id, buf[i]);
		}
	if (got < 0 && !err)
		err = session_fail(s, "recv: %m");
	if (!err && s->rx.pos != s->rx.total)
		err = session_fail(s, "the end came after %llu bytes",
				   (unsigned long long)s->rx.pos);
	pthread_join(thread, NULL);
	return err ? err : sender.result;
}

int pattern_threads(struct session *s)
{
	/* the threads' calls wait, whatever the style */
	s->style = S_BLOCKING;
	s->tx.blocking = s->rx.blocking = true;
	s->h.ops &= ~(uint32_t)OP_OOB;
	fcntl(s->fd, F_SETFL, fcntl(s->fd, F_GETFL) & ~O_NONBLOCK);
	return s->side ? threads_server(s) : threads_client(s);
}

/* ---------------------------------------------------------------- stall */

/* Nobody reads, nothing fits: sends say so, at once or after their time. */
static int stall_writer(struct session *s)
{
	uint64_t start, took, room = s->tx.total / 2;
	int flags = fcntl(s->fd, F_GETFL);
	ssize_t got;

	fcntl(s->fd, F_SETFL, flags & ~O_NONBLOCK);
	s->doing = "send(MSG_DONTWAIT) until it is full";
	do {
		size_t n = s->h.chunk < 16384 ? s->h.chunk : 16384;

		content_fill(s->tx.key, s->tx.pos, s->tx.buf, n);
		got = send(s->fd, s->tx.buf, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (got < 0 && errno != EAGAIN)
			return session_fail(s, "%s: %m", s->doing);
		s->tx.pos += got > 0 ? (uint64_t)got : 0;
	} while (got > 0 && s->tx.pos < room);
	if (got < 0 && s->h.ops & OP_TIMEO) {
		s->doing = "send with SO_SNDTIMEO";
		set_timeo(s->fd, SO_SNDTIMEO, 60);
		start = now_ms();
		content_fill(s->tx.key, s->tx.pos, s->tx.buf, s->h.chunk);
		got = send(s->fd, s->tx.buf, s->h.chunk, MSG_NOSIGNAL);
		took = now_ms() - start;
		if (got < 0 && errno != EAGAIN && !(errno == EINTR && atomic_load(&signals_on)))
			return session_fail(s, "%s: %m", s->doing);
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

/* ----------------------------------------------------------------- hold */

/* A pause before the next send: most are short, a few connections sleep for seconds. */
static unsigned int hold_pause(struct session *s)
{
	unsigned int pace = s->h.stall_ms;

	if (s->h.conn % 8 == 7)
		pace *= 40;
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
		s->doing = "waiting";
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

int pattern_hold(struct session *s)
{
	int err;

	s->tx.total = s->rx.total = UINT64_MAX;
	err = s->style == S_BLOCKING ? hold_blocking(s) : hold_events(s);
	if (err && err != -EIO)
		err = s->may_reset ? err : session_fail(s, "%s: %s", s->doing, strerror(-err));
	return err;
}

/* ------------------------------------------------------------------ sha */

#define SHA_BLOCK	65536u

struct sha_send {
	struct session *s;
	unsigned char digest[SHA256_LEN];
	int result;
};

static int send_all(struct session *s, const void *buf, size_t n)
{
	const char *p = buf;

	while (n) {
		ssize_t got = send(s->fd, p, n, MSG_NOSIGNAL);

		if (got <= 0)
			return session_fail(s, "send: %m");
		p += got;
		n -= (size_t)got;
	}
	return 0;
}

static int recv_all(struct session *s, void *buf, size_t n)
{
	ssize_t got = recv(s->fd, buf, n, MSG_WAITALL);

	return got == (ssize_t)n ? 0 :
	       session_fail(s, "recv: %s", got < 0 ? strerror(errno) : "the end");
}

static void *sha_send_thread(void *arg)
{
	struct sha_send *t = arg;
	struct session *s = t->s;
	struct sha256 sha;

	sha256_init(&sha);
	while (s->tx.pos < s->tx.total && !t->result) {
		uint64_t left = s->tx.total - s->tx.pos;
		size_t n = left < s->h.chunk ? (size_t)left : s->h.chunk;

		content_fill(s->tx.key, s->tx.pos, s->tx.buf, n);
		sha256_add(&sha, s->tx.buf, n);
		t->result = send_all(s, s->tx.buf, n);
		s->tx.pos += n;
	}
	sha256_end(&sha, t->digest);
	return NULL;
}

static void print_digest(const char *what, const unsigned char *digest)
{
	int i;

	printf("%s ", what);
	for (i = 0; i < SHA256_LEN; i++)
		printf("%02x", digest[i]);
	printf("\n");
}

int pattern_sha(struct session *s)
{
	struct sha_send t = { .s = s };
	unsigned char got[SHA256_LEN], peer[2][SHA256_LEN];
	struct sha256 sha;
	pthread_t thread;
	int err;

	err = thread_start(sha_send_thread, &t, &thread);
	if (err)
		return session_fail(s, "no thread: %s", strerror(-err));
	sha256_init(&sha);
	while (s->rx.pos < s->rx.total) {
		uint64_t left = s->rx.total - s->rx.pos;
		ssize_t n = recv(s->fd, s->rx.buf, left < s->h.chunk ? (size_t)left : s->h.chunk, 0);

		if (n <= 0) {
			err = session_fail(s, "recv: %s", n ? strerror(errno) : "the end");
			shutdown(s->fd, SHUT_RDWR);
			break;
		}
		sha256_add(&sha, s->rx.buf, (size_t)n);
		s->rx.pos += (uint64_t)n;
	}
	pthread_join(thread, NULL);
	sha256_end(&sha, got);
	if (!err)
		err = t.result;
	if (!err && s->side) {
		err = send_all(s, t.digest, SHA256_LEN);
		return err ? err : send_all(s, got, SHA256_LEN);
	}
	if (!err)
		err = recv_all(s, peer, sizeof(peer));
	if (err)
		return err;
	print_digest("sent by the client    ", t.digest);
	print_digest("received by the server", peer[1]);
	print_digest("sent by the server    ", peer[0]);
	print_digest("received by the client", got);
	if (memcmp(t.digest, peer[1], SHA256_LEN) || memcmp(got, peer[0], SHA256_LEN))
		return session_fail(s, "WRONG DATA: the hashes differ");
	return 0;
}
