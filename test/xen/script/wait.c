// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Calls that wait: until a timeout, until a signal, or until the other end
 * does something. Those run in a thread of their own.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "script.h"

#define TIMEOUT_MS	20
#define LONG_MS		60000	/* does not end in a test, but is a timeout */
#define WOKEN_MS	10000
#define ASLEEP_TRIES	20

struct sleeper {
	struct waiter *w;
	pthread_t thread;
	pid_t tid;		/* when the call begins */
	bool done;
	unsigned char *buf;
	struct outcome o;
};

struct waiter {
	struct end *e;
	struct step st;
	bool by_uring;
	unsigned int nr;
	struct sleeper sleepers[CROWD];
	unsigned char buf[CROWD * MOST];
};

static void nothing(int sig)
{
	(void)sig;
}

/* SIGUSR1 lets calls go on, SIGUSR2 does not. */
void wait_init(void)
{
	struct sigaction a = { .sa_handler = nothing, .sa_flags = SA_RESTART };

	sigaction(SIGUSR1, &a, NULL);
	a.sa_flags = 0;
	sigaction(SIGUSR2, &a, NULL);
}

static int wait_epoll(int fd, uint32_t how, int ms, uint32_t *events)
{
	struct epoll_event ev = { 0 }, again = { 0 }, rearm = { .events = how };
	int ep = epoll_on(fd, how), ret = epoll_wait(ep, &ev, 1, ms), error = errno;

	*events = ev.events;
	if (ret == 1 && how & EPOLLONESHOT) {
		/* says no more until it is asked to */
		ret += 10 * epoll_wait(ep, &again, 1, 0);
		epoll_ctl(ep, EPOLL_CTL_MOD, fd, &rearm);
		ret += 100 * epoll_wait(ep, &again, 1, 0);
	}
	close(ep);
	errno = error;
	return ret;
}

static ssize_t wait_splice(const struct end *e, unsigned char *buf, size_t n)
{
	ssize_t ret = splice(e->fd, NULL, e->pipe[1], NULL, n, 0);

	if (ret > 0 && read(e->pipe[0], buf, (size_t)ret) != ret)
		exit(1);
	return ret;
}

/* The call; @ms bounds those for an event, SO_RCVTIMEO those for bytes. */
static void wait_in(struct end *e, unsigned int kind, unsigned char *buf, size_t n, int ms,
		    struct outcome *o)
{
	struct pollfd p = { .fd = e->fd, .events = POLLIN | POLLPRI | POLLRDHUP };
	struct iovec iov[4];
	struct msghdr msg = { .msg_iov = iov };

	switch (kind) {
	case W_RECV:
		returned(o, recv(e->fd, buf, n, 0));
		break;
	case W_READ:
		returned(o, read(e->fd, buf, n));
		break;
	case W_RECVMSG:
		msg.msg_iovlen = (size_t)cut(buf, n, iov);
		returned(o, recvmsg(e->fd, &msg, 0));
		break;
	case W_SPLICE:
		returned(o, wait_splice(e, buf, n));
		break;
	case W_WAITALL:
	case W_CROWD:
		returned(o, recv(e->fd, buf, n, MSG_WAITALL));
		break;
	case W_POLL:
		returned(o, poll(&p, 1, ms));
		o->extra = (uint32_t)p.revents;
		break;
	case W_SELECT:
		returned(o, select_in(e->fd, ms, false, &o->extra));
		break;
	case W_EPOLL:
		returned(o, wait_epoll(e->fd, EPOLLIN | EPOLLRDHUP, ms, &o->extra));
		break;
	case W_EDGE:
		returned(o, wait_epoll(e->fd, EPOLLIN | EPOLLRDHUP | EPOLLET, ms, &o->extra));
		break;
	case W_ONESHOT:
		returned(o, wait_epoll(e->fd, EPOLLIN | EPOLLRDHUP | EPOLLONESHOT, ms,
				       &o->extra));
		break;
	case W_EXCLUSIVE:
		returned(o, wait_epoll(e->fd, EPOLLIN | EPOLLEXCLUSIVE, ms, &o->extra));
		break;
	case W_SEND:
		returned(o, send_all(e, n));
		break;
	}
	if (o->ret <= 0)
		return;
	if (kind == W_SEND)
		o->sent = (uint32_t)o->ret;
	else if (kind <= W_WAITALL || kind == W_CROWD)
		o->read = (uint32_t)o->ret;
}

void do_timeout(struct end *e, const struct step *st, struct outcome *o)
{
	struct clocks begin;

	set_timeo(e->fd, SO_RCVTIMEO, TIMEOUT_MS);
	begin = clocks_now();
	wait_in(e, st->style, e->buf, st->n, TIMEOUT_MS, o);
	if (too_early(begin, TIMEOUT_MS))
		o->bad = BAD_EARLY;
	set_timeo(e->fd, SO_RCVTIMEO, 0);
	if (o->read)
		check(e, e->buf, o->read, true, o);
}

/* --------------------------------------------------------------- threads */

static void *sleep_in_call(void *arg)
{
	struct sleeper *s = arg;
	const struct step *st = &s->w->st;

	__atomic_store_n(&s->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
	wait_in(s->w->e, st->style, s->buf, st->n, -1, &s->o);
	__atomic_store_n(&s->done, true, __ATOMIC_RELEASE);
	return NULL;
}

/* What follows is right in any case, but says more if the call does sleep. */
static void until_asleep(const struct sleeper *s)
{
	char name[40], text[128], *p;
	unsigned int tries;
	pid_t tid;
	FILE *f;

	for (tries = 0; tries < ASLEEP_TRIES; tries++) {
		tid = __atomic_load_n(&s->tid, __ATOMIC_ACQUIRE);
		if (tid) {
			snprintf(name, sizeof(name), "/proc/self/task/%d/stat", tid);
			f = fopen(name, "re");
			if (!f)
				return;
			p = fgets(text, sizeof(text), f) ? strrchr(text, ')') : NULL;
			fclose(f);
			if (!p || p[2] == 'S')
				return;
		}
		nap_us(100);
	}
}

/* @st->flags: with SO_RCVTIMEO, though it does not run out */
void do_wait(struct end *e, const struct step *st, struct outcome *o)
{
	struct waiter *w = calloc(1, sizeof(*w));
	struct sleeper *s;
	unsigned int i;

	if (!w)
		exit(1);
	(void)o;
	e->waiter = w;
	w->e = e;
	w->st = *st;
	if (st->flags)
		set_timeo(e->fd, SO_RCVTIMEO, LONG_MS);
	if (st->style == W_URING_RECV || st->style == W_URING_POLL) {
		w->by_uring = uring_works();
		/* what has no io_uring waits otherwise */
		w->st.style = st->style == W_URING_RECV ? W_RECV : W_POLL;
	}
	if (w->by_uring && st->style == W_URING_RECV)
		uring_begin(IORING_OP_RECV, e->fd, w->buf, st->n, 0);
	else if (w->by_uring)	/* POLLPRI may come with every wake-up */
		uring_begin(IORING_OP_POLL_ADD, e->fd, NULL, 0, POLLIN | POLLRDHUP);
	if (w->by_uring)
		return;
	w->nr = st->style == W_CROWD ? CROWD : 1;
	for (i = 0; i < w->nr; i++) {
		s = &w->sleepers[i];
		s->w = w;
		s->buf = w->buf + i * st->n;
		if (pthread_create(&s->thread, NULL, sleep_in_call, s))
			exit(1);
		until_asleep(s);
	}
}

/* @st->flags: SA_RESTART; @st->n: the call ends, at the latest by the next signal */
void do_signal(struct end *e, const struct step *st, struct outcome *o)
{
	struct sleeper *s = &e->waiter->sleepers[0];
	uint64_t deadline = clock_ms() + WOKEN_MS;

	(void)o;
	/* one that comes before the call sleeps is for nothing */
	do {
		pthread_kill(s->thread, st->flags ? SIGUSR1 : SIGUSR2);
		nap_us(500);
	} while (st->n && !__atomic_load_n(&s->done, __ATOMIC_ACQUIRE) && clock_ms() < deadline);
}

/* A thread that nothing wakes is woken by a signal, and wrong. */
static void join(struct sleeper *s, struct outcome *o)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += WOKEN_MS / 1000;
	if (!pthread_timedjoin_np(s->thread, NULL, &t))
		return;
	o->bad = BAD_ASLEEP;
	while (!__atomic_load_n(&s->done, __ATOMIC_ACQUIRE)) {
		/* a send goes on after signals, but not without a connection */
		shutdown(s->w->e->fd, SHUT_RDWR);
		pthread_kill(s->thread, SIGUSR2);
		nap_us(10000);
	}
	pthread_join(s->thread, NULL);
}

static void uring_woken(const struct waiter *w, struct outcome *o)
{
	int ret = uring_end(WOKEN_MS);

	if (ret == -ETIME)
		o->bad = BAD_ASLEEP;
	errno = ret < 0 ? -ret : 0;
	returned(o, ret < 0 ? -1 : ret);
	if (w->st.style == W_RECV && ret > 0) {
		o->read = (uint32_t)ret;
	} else if (w->st.style == W_POLL && ret > 0) {
		o->extra = (uint32_t)ret;
		o->ret = 1;
	}
}

void do_woken(struct end *e, const struct step *st, struct outcome *o)
{
	struct waiter *w = e->waiter;
	unsigned int i;

	(void)st;
	if (w->by_uring)
		uring_woken(w, o);
	for (i = 0; i < w->nr; i++) {
		struct sleeper *s = &w->sleepers[i];

		join(s, o);
		/* those of a crowd fail together, if at all */
		o->ret = s->o.ret < 0 ? s->o.ret : o->ret + s->o.ret;
		o->error = s->o.error;
		o->extra += s->o.extra;
		o->sent += s->o.sent;
		o->read += s->o.read;
	}
	if (o->read)
		check(e, w->buf, o->read, w->nr < 2, o);
	if (w->st.flags)
		set_timeo(e->fd, SO_RCVTIMEO, 0);
	e->waiter = NULL;
	free(w);
}
