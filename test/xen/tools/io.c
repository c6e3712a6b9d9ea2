// SPDX-License-Identifier: GPL-2.0-or-later
/* Waiting in each style, and what calls have in common. */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>

#include "traffic.h"

#define SPURIOUS_MAX	2000

uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void set_timeo(int fd, int option, uint32_t ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000 };

	setsockopt(fd, SOL_SOCKET, option, &tv, sizeof(tv));
}

void set_int(int fd, int level, int option, int value)
{
	setsockopt(fd, level, option, &value, sizeof(value));
}

int io_queued(const struct session *s)
{
	int n = 0;

	return ioctl(s->fd, FIONREAD, &n) ? -errno : n;
}

/* A page that can't be touched. */
void *bad_page(void)
{
	static _Atomic(void *) page;
	void *p = atomic_load(&page), *none = NULL;

	if (!p) {
		p = mmap(NULL, 1 << 16, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (!atomic_compare_exchange_strong(&page, &none, p)) {
			munmap(p, 1 << 16);
			p = none;
		}
	}
	return p;
}

int io_stalled(struct session *s, const char *what)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN | POLLOUT | POLLRDHUP };
	struct tcp_info ti = { 0 };
	socklen_t len = sizeof(ti);
	char byte;
	int outq = -1;
	ssize_t peek;

	poll(&p, 1, 0);
	ioctl(s->fd, SIOCOUTQ, &outq);
	getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &ti, &len);
	peek = recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	return session_fail(s, "%s: nothing for %u s%s; now poll says 0x%x, a peek %s, FIONREAD %d, "
			    "SIOCOUTQ %d, tcp state %u unacked %u retransmits %u",
			    what, s->h.quiet_ms / 1000,
			    peek > 0 && strcmp(what, "sending") ? " ALTHOUGH THERE IS DATA" : "",
			    (unsigned int)p.revents,
			    peek > 0 ? "1 byte" : peek == 0 ? "the end" : strerror(errno),
			    io_queued(s), outq, ti.tcpi_state, ti.tcpi_unacked,
			    ti.tcpi_retransmits);
}

/* The conditions that must not show too early, as poll() names them. */
static int check_events(struct session *s, unsigned int events)
{
	int queued;

	if (s->may_reset || s->rx.total == UINT64_MAX)
		return 0;
	if (events & POLLERR)
		return session_fail(s, "POLLERR");
	if (events & POLLHUP && !s->wr_shut)
		return session_fail(s, "POLLHUP before we shut down");
	if (events & (POLLRDHUP | POLLHUP)) {
		queued = io_queued(s);
		if (queued >= 0 && s->rx.pos + (uint64_t)queued < s->rx.total)
			return session_fail(s, "POLLRDHUP with %d bytes to read and %llu missing",
					    queued, (unsigned long long)
					    (s->rx.total - s->rx.pos - (uint64_t)queued));
	}
	return 0;
}

static int events_to_io(struct session *s, unsigned int events)
{
	int err = check_events(s, events);

	if (err)
		return err;
	return (events & (POLLIN | POLLRDHUP | POLLHUP | POLLERR) ? IO_IN : 0) |
	       (events & (POLLOUT | POLLHUP | POLLERR) ? IO_OUT : 0);
}

static int wait_poll(struct session *s, bool in, bool out, int ms)
{
	struct pollfd p = { .fd = s->fd, .events = (short)(POLLRDHUP | (in ? POLLIN : 0) |
							   (out ? POLLOUT : 0)) };

	if (!in)	/* the end would wake us all the time */
		p.events &= ~POLLRDHUP;
	if (poll(&p, 1, ms) < 0)
		return errno == EINTR ? 0 : session_fail(s, "poll: %m");
	return events_to_io(s, (unsigned int)p.revents);
}

static int wait_select(struct session *s, bool in, bool out, int ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000 };
	fd_set r, w;

	if (s->fd >= FD_SETSIZE)
		return wait_poll(s, in, out, ms);
	FD_ZERO(&r);
	FD_ZERO(&w);
	if (in)
		FD_SET(s->fd, &r);
	if (out)
		FD_SET(s->fd, &w);
	if (select(s->fd + 1, &r, &w, NULL, &tv) < 0)
		return errno == EINTR ? 0 : session_fail(s, "select: %m");
	return (FD_ISSET(s->fd, &r) ? IO_IN : 0) | (FD_ISSET(s->fd, &w) ? IO_OUT : 0);
}

static int wait_epoll(struct session *s, uint32_t events, int ms, unsigned int *got)
{
	struct epoll_event e = { .events = events };
	int n;

	if (s->epfd < 0) {
		s->epfd = epoll_create1(EPOLL_CLOEXEC);
		if (s->epfd < 0 || epoll_ctl(s->epfd, EPOLL_CTL_ADD, s->fd, &e))
			return session_fail(s, "epoll: %m");
	} else if (s->epoll_events != events) {
		if (epoll_ctl(s->epfd, EPOLL_CTL_MOD, s->fd, &e))
			return session_fail(s, "epoll_ctl: %m");
	}
	s->epoll_events = events;
	n = epoll_wait(s->epfd, &e, 1, ms);
	if (n < 0 && errno != EINTR)
		return session_fail(s, "epoll_wait: %m");
	*got = n > 0 ? e.events : 0;
	return 0;
}

static int wait_edge(struct session *s, bool in, bool out, int ms)
{
	int ready = (in && s->edge_in ? IO_IN : 0) | (out && s->edge_out ? IO_OUT : 0);
	unsigned int got;
	int err;

	if (ready)
		return ready;
	err = wait_epoll(s, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, ms, &got);
	if (!err)
		err = events_to_io(s, got);
	if (err < 0)
		return err;
	s->edge_in |= !!(err & IO_IN);
	s->edge_out |= !!(err & IO_OUT);
	return (in && s->edge_in ? IO_IN : 0) | (out && s->edge_out ? IO_OUT : 0);
}

int io_wait(struct session *s, bool in, bool out, int ms)
{
	static const struct timespec nap = { .tv_nsec = 300000 };
	unsigned int got;
	int err;

	switch (s->style) {
	case S_NONBLOCKING:
		if (s->tries)
			nanosleep(&nap, NULL);
		s->tries = true;
		return (in ? IO_IN : 0) | (out ? IO_OUT : 0);
	case S_SELECT:
		return wait_select(s, in, out, ms);
	case S_EPOLL_LT:
		err = wait_epoll(s, (in ? EPOLLIN | EPOLLRDHUP : 0) | (out ? EPOLLOUT : 0), ms,
				 &got);
		return err ? err : events_to_io(s, got);
	case S_EPOLL_ET:
		return wait_edge(s, in, out, ms);
	default:
		return wait_poll(s, in, out, ms);
	}
}

/* A call found nothing although the wait said that it would. */
static ssize_t not_ready(struct session *s, struct stream *t)
{
	if (t == &s->rx)
		s->edge_in = false;
	else
		s->edge_out = false;
	if (s->style != S_NONBLOCKING && s->style != S_EPOLL_ET && ++t->spurious > SPURIOUS_MAX)
		return session_fail(s, "%s is ready, says %s, but the call says EAGAIN, %u times",
				    t == &s->rx ? "input" : "output", style_name[s->style],
				    t->spurious);
	return -EAGAIN;
}

ssize_t io_error(struct session *s, struct stream *t, int error, bool wanted_to_wait)
{
	if (error == EINTR && atomic_load(&signals_on))
		return -EINTR;
	if (error == EINTR)
		return session_fail(s, "EINTR without a signal");
	if (error != EAGAIN)
		return -error;
	if (t->blocking && wanted_to_wait)
		return io_stalled(s, t == &s->rx ? "receiving" : "sending");
	return t->blocking ? -EAGAIN : not_ready(s, t);
}

int io_cut(struct rng *r, void *buf, size_t n, struct iovec *iov)
{
	int parts = 1 + (int)rng_below(r, IOV_PARTS), i;
	char *p = buf;

	for (i = 0; i < parts; i++) {
		size_t part = i == parts - 1 ? n : (size_t)rng_below(r, n + 1);

		iov[i] = (struct iovec){ p, part };
		p += part;
		n -= part;
	}
	return parts;
}
