// SPDX-License-Identifier: GPL-2.0-or-later
/* Several threads on one socket: nothing gets lost or doubled between them. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "traffic.h"

#define THREADS	3


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
