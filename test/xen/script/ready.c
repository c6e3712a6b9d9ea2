// SPDX-License-Identifier: GPL-2.0-or-later
/* What is ready, in all the ways to ask. */
#include <errno.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#include "script.h"

#define EDGE_MS		1000

int epoll_on(int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events };
	int ep = epoll_create1(EPOLL_CLOEXEC);

	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
	return ep;
}

int select_in(int fd, int ms, bool out, uint32_t *events)
{
	struct timeval t = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000L };
	fd_set r, w, x;
	int ret;

	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_ZERO(&x);
	FD_SET(fd, &r);
	FD_SET(fd, &x);
	if (out)
		FD_SET(fd, &w);
	ret = select(fd + 1, &r, &w, &x, ms < 0 ? NULL : &t);
	if (ret > 0)
		*events = (FD_ISSET(fd, &r) ? POLLIN : 0u) | (FD_ISSET(fd, &w) ? POLLOUT : 0u) |
			  (FD_ISSET(fd, &x) ? POLLPRI : 0u);
	return ret;
}

/* Through an epoll of its own; one that is asked for only once has no more to say. */
static int fresh_epoll(int fd, uint32_t how, uint32_t *events)
{
	struct epoll_event ev = { 0 }, again = { 0 };
	int ep = epoll_on(fd, how), ret = epoll_wait(ep, &ev, 1, 0);

	*events = ev.events;
	if (ret == 1 && how & EPOLLONESHOT && epoll_wait(ep, &again, 1, 0))
		ret = 100;
	close(ep);
	return ret;
}

/* What isn't ready stays pending: then it is taken back. */
static int uring_poll(int fd, uint32_t *events)
{
	int ret = uring_begin(IORING_OP_POLL_ADD, fd, NULL, 0, EVENTS);

	if (!ret)
		ret = uring_end(0);
	*events = ret > 0 ? (uint32_t)ret : 0;
	return ret > 0 ? 1 : 0;
}

void do_poll(struct end *e, const struct step *st, struct outcome *o)
{
	const uint32_t all = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP;
	struct pollfd p = { .fd = e->fd, .events = EVENTS };
	const struct timespec none = { 0 };
	struct epoll_event ev = { 0 };
	uint32_t events = 0;

	switch (st->style % 8) {
	case 1:
		returned(o, epoll_wait(e->level, &ev, 1, 0));
		events = ev.events;
		break;
	case 2:
		returned(o, ppoll(&p, 1, &none, NULL));
		events = (uint32_t)p.revents;
		break;
	case 3:
		returned(o, select_in(e->fd, 0, true, &events));
		break;
	case 4:
		returned(o, fresh_epoll(e->fd, all | EPOLLONESHOT, &events));
		break;
	case 5:
		returned(o, fresh_epoll(e->fd, EPOLLIN | EPOLLOUT | EPOLLEXCLUSIVE, &events));
		break;
	case 6:
		returned(o, fresh_epoll(e->fd, all | EPOLLET, &events));
		break;
	case 7:
		if (uring_works()) {
			returned(o, uring_poll(e->fd, &events));
			break;
		}
		__attribute__((fallthrough));
	default:
		returned(o, poll(&p, 1, 0));
		events = (uint32_t)p.revents;
	}
	o->extra = events;
}

void do_epoll(struct end *e, const struct step *st, struct outcome *o)
{
	struct epoll_event ev = { 0 };

	/* bytes can be there before their news */
	o->ret = epoll_wait(e->edge, &ev, 1, st->flags ? EDGE_MS : 0);
	/* more events than necessary are legal, fewer are not */
	if (st->flags && !(o->ret == 1 && ev.events & EPOLLIN)) {
		o->bad = BAD_EDGE;
		o->events = ev.events;
	}
	o->ret = 0;
}
