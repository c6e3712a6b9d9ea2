// SPDX-License-Identifier: GPL-2.0-or-later
/* Single calls on a socket, each checked against what TCP promises. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "traffic.h"

#define SPURIOUS_MAX	2000
#define IOV_MAX_PARTS	5

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

static void set_int(int fd, int level, int option, int value)
{
	setsockopt(fd, level, option, &value, sizeof(value));
}

int io_queued(const struct session *s)
{
	int n = 0;

	return ioctl(s->fd, FIONREAD, &n) ? -errno : n;
}

/* A page that can't be touched. */
static void *bad_page(void)
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

/* ------------------------------------------------------------- waiting */

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

static ssize_t socket_error(struct session *s, struct stream *t, int error, bool wanted_to_wait)
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

/* -------------------------------------------------------------- sending */

static void tx_fill(struct session *s, void *buf, size_t n)
{
	uint64_t pos = s->tx.pos, at = s->fault_pos;
	size_t good;

	content_fill(s->tx.key, pos, buf, n);
	if (s->fault == FAULT_NONE || at >= pos + n)
		return;
	good = at > pos ? at - pos : 0;
	if (s->fault == FAULT_FLIP && at >= pos)
		((unsigned char *)buf)[good] ^= 1;
	else if (s->fault == FAULT_DROP)
		content_fill(s->tx.key, pos + good + 1, (char *)buf + good, n - good);
	else if (s->fault == FAULT_REPEAT && at)
		content_fill(s->tx.key, pos + good - 1, (char *)buf + good, n - good);
}

/* Cuts a buffer into parts, some of them empty. */
static int cut(struct rng *r, void *buf, size_t n, struct iovec *iov)
{
	int parts = 1 + (int)rng_below(r, IOV_MAX_PARTS), i;
	char *p = buf;

	for (i = 0; i < parts; i++) {
		size_t part = i == parts - 1 ? n : (size_t)rng_below(r, n + 1);

		iov[i] = (struct iovec){ p, part };
		p += part;
		n -= part;
	}
	return parts;
}

static ssize_t tx_sendfile(struct session *s, size_t n)
{
	off_t at = 0;

	/* truncated, so that pages still on their way are not written again */
	if (s->memfd < 0)
		s->memfd = memfd_create("traffic", MFD_CLOEXEC);
	if (s->memfd < 0 || ftruncate(s->memfd, 0) ||
	    pwrite(s->memfd, s->tx.buf, n, 0) != (ssize_t)n)
		return session_fail(s, "memfd: %m");
	return sendfile(s->fd, s->memfd, &at, n);
}

static ssize_t tx_fault(struct session *s, size_t n)
{
	struct iovec iov[2] = { { s->tx.buf, n }, { bad_page(), 1 + rng_below(&s->tx.rng, 9000) } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t got = sendmsg(s->fd, &m, MSG_NOSIGNAL);

	if (got > (ssize_t)n)
		return session_fail(s, "%zd bytes sent, only %zu were readable", got, n);
	return got;
}

static void tx_options(struct session *s)
{
	struct rng *r = &s->tx.rng;

	switch (rng_below(r, 6)) {
	case 0:
		set_int(s->fd, SOL_SOCKET, SO_SNDBUF, 1 << (14 + rng_below(r, 6)));
		break;
	case 1:
		set_int(s->fd, IPPROTO_TCP, TCP_NODELAY, (int)rng_below(r, 2));
		break;
	case 2:
		set_int(s->fd, SOL_SOCKET, SO_KEEPALIVE, (int)rng_below(r, 2));
		break;
	case 3:
		set_int(s->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 60000);
		break;
	case 4:
		set_int(s->fd, SOL_SOCKET, SO_PRIORITY, (int)rng_below(r, 7));
		break;
	case 5:
		if (s->h.ops & OP_MORE) {
			set_int(s->fd, IPPROTO_TCP, TCP_CORK, 1);
			s->tx.spurious = 0;
		}
		break;
	}
}

ssize_t tx_once(struct session *s, uint64_t want)
{
	struct rng *r = &s->tx.rng;
	uint32_t ops = s->h.ops;
	uint64_t n64 = rng_log(r, 1, s->h.chunk);
	struct iovec iov[IOV_MAX_PARTS];
	struct msghdr m = { .msg_iov = iov };
	bool whole = s->tx.blocking, waits = true;
	int flags = MSG_NOSIGNAL;
	size_t n;
	ssize_t got;

	n = (size_t)(n64 < want ? n64 : want);
	tx_fill(s, s->tx.buf, n);
	if (ops & OP_SOCKOPT && rng_one_in(r, 32))
		tx_options(s);
	if (ops & OP_MORE && n < want && rng_one_in(r, 4))
		flags |= MSG_MORE;
	if (ops & OP_DONTWAIT && rng_one_in(r, 6)) {
		flags |= MSG_DONTWAIT;
		waits = whole = false;
	}

	switch (rng_below(r, 10)) {
	case 0:
	case 1:
		s->doing = "write";
		waits = s->tx.blocking;
		whole = s->tx.blocking;
		got = write(s->fd, s->tx.buf, n);
		break;
	case 2:
	case 3:
		if (!(ops & OP_IOV))
			goto plain;
		s->doing = "writev";
		waits = s->tx.blocking;
		whole = s->tx.blocking;
		got = writev(s->fd, iov, cut(r, s->tx.buf, n, iov));
		break;
	case 4:
		if (!(ops & OP_IOV))
			goto plain;
		s->doing = "sendmsg";
		m.msg_iovlen = (size_t)cut(r, s->tx.buf, n, iov);
		got = sendmsg(s->fd, &m, flags);
		break;
	case 5:
		if (!(ops & OP_SENDFILE))
			goto plain;
		s->doing = "sendfile";
		waits = s->tx.blocking;
		whole = false;
		got = tx_sendfile(s, n);
		if (got == -EIO)
			return got;
		break;
	case 6:
		if (!(ops & OP_OOB))
			goto plain;
		s->doing = "send(MSG_OOB)";
		n = 1;
		got = send(s->fd, s->tx.buf, 1, flags | MSG_OOB);
		break;
	case 7:
		if (!(ops & OP_FAULT))
			goto plain;
		s->doing = "sendmsg with a bad address";
		waits = s->tx.blocking;
		whole = false;
		got = tx_fault(s, n);
		if (got == -EIO)
			return got;
		if (got >= 0 || errno != EFAULT)
			break;
		flags = MSG_NOSIGNAL;
		waits = whole = s->tx.blocking;
		/* fall through */
	default:
plain:
		s->doing = "send";
		got = send(s->fd, s->tx.buf, n, flags);
	}

	if (got < 0)
		return socket_error(s, &s->tx, errno, waits);
	if (!got || got > (ssize_t)n)
		return session_fail(s, "%s of %zu bytes returned %zd", s->doing, n, got);
	if (whole && got < (ssize_t)n && !atomic_load(&signals_on))
		return session_fail(s, "%s should wait, but took %zd of %zu bytes", s->doing, got,
				    n);
	s->tx.spurious = 0;
	s->tries = false;
	s->tx.pos += (uint64_t)got;
	if (ops & OP_MORE && ops & OP_SOCKOPT && (uint64_t)got == want)
		set_int(s->fd, IPPROTO_TCP, TCP_CORK, 0);
	return got;
}

/* ------------------------------------------------------------ receiving */

static void hex(char *out, const unsigned char *p, size_t n)
{
	while (n--)
		out += sprintf(out, "%02x", *p++);
}

static int rx_mismatch(struct session *s, const unsigned char *p, size_t n, size_t at)
{
	char got[33] = "", want[33] = "", origin[120] = "of no stream of this connection";
	uint64_t pos = s->rx.pos + at, where, total;
	size_t show = n - at < 16 ? n - at : 16;
	unsigned char expected[16];

	content_fill(s->rx.key, pos, expected, show);
	hex(got, p + at, show);
	hex(want, expected, show);
	total = s->rx.total < (256u << 20) ? s->rx.total + 4096 : 256u << 20;
	if (n - at < 16)
		snprintf(origin, sizeof(origin), "too few to say whose");
	else if (content_find(s->rx.key, total, p + at, &where))
		snprintf(origin, sizeof(origin), "those of position %llu (%+lld)",
			 (unsigned long long)where, (long long)(where - pos));
	else if (n - at >= 40 && content_find(s->rx.key, total, p + at + 24, &where))
		snprintf(origin, sizeof(origin), "unknown, but 24 bytes on those of position %llu (%+lld)",
			 (unsigned long long)where, (long long)(where - pos - 24));
	else if (content_find(s->tx.key, s->tx.pos + 4096, p + at, &where))
		snprintf(origin, sizeof(origin), "those that we sent at position %llu",
			 (unsigned long long)where);
	return session_fail(s, "WRONG DATA at position %llu (byte %zu of a %s of %zu): %s instead of %s; "
			    "the bytes are %s", (unsigned long long)pos, at, s->doing, n, got, want,
			    origin);
}

int rx_check(struct session *s, const void *buf, size_t n)
{
	size_t at = content_check(s->rx.key, s->rx.pos, buf, n);

	return at == n ? 0 : rx_mismatch(s, buf, n, at);
}

/* Bytes that came at the position: check them and go on behind them. */
static ssize_t rx_take(struct session *s, const void *buf, ssize_t got, uint64_t until)
{
	int err = buf ? rx_check(s, buf, (size_t)got) : 0;

	if (err)
		return err;
	s->rx.pos += (uint64_t)got;
	s->rx.spurious = 0;
	s->tries = false;
	if (s->rx.pos > until)
		return session_fail(s, "%llu bytes too many",
				    (unsigned long long)(s->rx.pos - until));
	return got;
}

static ssize_t rx_peek(struct session *s, size_t n, int flags, bool all, uint64_t until)
{
	ssize_t got, again;
	int err;

	s->doing = all ? "recv(MSG_PEEK | MSG_WAITALL)" : "recv(MSG_PEEK)";
	got = recv(s->fd, s->rx.buf, n, flags | MSG_PEEK | (all ? MSG_WAITALL : 0));
	if (got <= 0)
		return got ? socket_error(s, &s->rx, errno, !(flags & MSG_DONTWAIT)) : 0;
	err = rx_check(s, s->rx.buf, (size_t)got);
	if (err)
		return err;
	if (all && got < (ssize_t)n && !(s->h.ops & OP_OOB) && !atomic_load(&signals_on))
		return session_fail(s, "%s of %zu bytes returned %zd", s->doing, n, got);
	s->doing = "recv after a peek";
	again = recv(s->fd, s->rx.buf, (size_t)got, MSG_DONTWAIT);
	if (again < 0)
		return session_fail(s, "%zd bytes peeked, then recv says %m", got);
	if (again != got && !(s->h.ops & OP_OOB))
		return session_fail(s, "%zd bytes peeked, then %zd received", got, again);
	return rx_take(s, s->rx.buf, again, until);
}

/* What FIONREAD says must then be there. */
static ssize_t rx_fionread(struct session *s, uint64_t until)
{
	int queued = io_queued(s);
	ssize_t total = 0;

	s->doing = "recv after FIONREAD";
	if (queued < 0)
		return session_fail(s, "FIONREAD: %s", strerror(-queued));
	while (total < queued) {
		size_t n = s->exact && until - s->rx.pos < s->h.chunk ?
			   (size_t)(until - s->rx.pos) : s->h.chunk;
		ssize_t got = n ? recv(s->fd, s->rx.buf, n, MSG_DONTWAIT) : 0;

		if (!n)
			break;

		if (got <= 0)
			return session_fail(s, "FIONREAD said %d, but after %zd bytes recv says %s",
					    queued, total, got ? strerror(errno) : "the end");
		got = rx_take(s, s->rx.buf, got, until);
		if (got < 0)
			return got;
		total += got;
	}
	return total;
}

/*
 * With a low-water mark, poll() and a waiting recv() hold out for that many
 * bytes, of which @coming are sure to come.
 */
static ssize_t rx_lowat(struct session *s, uint64_t coming, uint64_t until)
{
	int want = 1 + (int)rng_below(&s->rx.rng, coming < 6000 ? coming : 6000), mark = 0, queued;
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	socklen_t len = sizeof(mark);
	size_t n = (size_t)want + rng_below(&s->rx.rng, s->h.chunk);
	ssize_t got = -1;
	int err = 0;

	n = n > s->h.chunk ? s->h.chunk : n;
	n = s->exact && n > coming ? (size_t)coming : n;
	set_int(s->fd, SOL_SOCKET, SO_RCVLOWAT, want);
	getsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &mark, &len);
	mark = mark > (int)n ? (int)n : mark;
	if (s->rx.blocking && rng_one_in(&s->rx.rng, 2)) {
		s->doing = "recv with SO_RCVLOWAT";
		got = recv(s->fd, s->rx.buf, n, 0);
		err = got < 0 ? errno : 0;
		set_int(s->fd, SOL_SOCKET, SO_RCVLOWAT, 1);
		if (got < 0)
			return socket_error(s, &s->rx, err, true);
		if (got < mark && !(s->h.ops & OP_OOB) && !atomic_load(&signals_on))
			return session_fail(s, "recv with a low-water mark of %d returned %zd", mark,
					    got);
		return got ? rx_take(s, s->rx.buf, got, until) : 0;
	}
	s->doing = "poll with SO_RCVLOWAT";
	if (poll(&p, 1, (int)s->h.quiet_ms) == 0)
		return io_stalled(s, s->doing);
	queued = io_queued(s);
	set_int(s->fd, SOL_SOCKET, SO_RCVLOWAT, 1);
	/* TCP gives up on the mark when its buffer or window is small */
	if (p.revents == POLLIN && queued < mark && !(s->h.ops & (OP_OOB | OP_SOCKOPT)))
		return session_fail(s, "poll with a low-water mark of %d: readable at %d", mark,
				    queued);
	return -EINTR;
}

static ssize_t rx_splice(struct session *s, size_t n, uint64_t until)
{
	unsigned int flags = SPLICE_F_MOVE | (s->rx.blocking ? 0 : SPLICE_F_NONBLOCK);
	ssize_t got, have = 0, part;

	if (s->pipe[0] < 0 && pipe2(s->pipe, O_CLOEXEC))
		return session_fail(s, "pipe: %m");
	s->doing = "splice";
	got = splice(s->fd, NULL, s->pipe[1], NULL, n, flags);
	if (got <= 0)
		return got ? socket_error(s, &s->rx, errno, s->rx.blocking) : 0;
	if (got > (ssize_t)n)
		return session_fail(s, "splice of %zu returned %zd", n, got);
	for (; have < got; have += part) {
		part = read(s->pipe[0], s->rx.buf + have, (size_t)(got - have));
		if (part <= 0)
			return session_fail(s, "splice moved %zd bytes, the pipe has %zd", got,
					    have);
	}
	return rx_take(s, s->rx.buf, got, until);
}

static ssize_t rx_fault(struct session *s, size_t n, uint64_t until)
{
	struct iovec iov[2] = { { s->rx.buf, n }, { bad_page(), 1 + rng_below(&s->rx.rng, 9000) } };
	ssize_t got;

	s->doing = "readv with a bad address";
	got = readv(s->fd, iov, 2);
	if (got < 0)
		return errno == EFAULT ? -EINTR : socket_error(s, &s->rx, errno, s->rx.blocking);
	if (got > (ssize_t)n)
		return session_fail(s, "%zd bytes received, only %zu were writable", got, n);
	return got ? rx_take(s, s->rx.buf, got, until) : 0;
}

/* -EINTR: nothing happened, choose again. */
static ssize_t rx_try(struct session *s, uint64_t until)
{
	struct rng *r = &s->rx.rng;
	uint32_t ops = s->h.ops;
	uint64_t coming = until - s->rx.pos;
	size_t n = rng_log(r, 1, s->h.chunk);
	struct iovec iov[IOV_MAX_PARTS];
	struct msghdr m = { .msg_iov = iov };
	int flags = 0;
	bool waits = s->rx.blocking, all;
	ssize_t got;

	/* before bytes that only our own sending brings about, waiting would be for ever */
	bool sure = coming && until != UINT64_MAX && !s->duplex;

	n = s->exact && n > coming ? (size_t)coming : n;
	if (ops & OP_DONTWAIT && rng_one_in(r, 6)) {
		flags |= MSG_DONTWAIT;
		waits = false;
	}
	if (ops & OP_SOCKOPT && rng_one_in(r, 64) && !s->small_buffers)
		set_int(s->fd, SOL_SOCKET, SO_RCVBUF, 1 << (16 + rng_below(r, 4)));

	switch (rng_below(r, 16)) {
	case 0:
	case 1:
		s->doing = "read";
		waits = s->rx.blocking;
		got = read(s->fd, s->rx.buf, n);
		break;
	case 2:
	case 3:
		if (!(ops & OP_IOV))
			goto plain;
		s->doing = "readv";
		waits = s->rx.blocking;
		got = readv(s->fd, iov, cut(r, s->rx.buf, n, iov));
		break;
	case 4:
		if (!(ops & OP_IOV))
			goto plain;
		s->doing = "recvmsg";
		m.msg_iovlen = (size_t)cut(r, s->rx.buf, n, iov);
		got = recvmsg(s->fd, &m, flags);
		break;
	case 5:
	case 6:
		if (!(ops & OP_PEEK))
			goto plain;
		all = waits && sure && n <= 4096 && n <= coming && ops & OP_WAITALL;
		return rx_peek(s, n, flags, all, until);
	case 7:
	case 8:
		if (!(ops & OP_WAITALL) || !waits || !sure)
			goto plain;
		n = n > coming ? (size_t)coming : n;
		s->doing = "recv(MSG_WAITALL)";
		got = recv(s->fd, s->rx.buf, n, MSG_WAITALL);
		if (got > 0 && got < (ssize_t)n && !(ops & OP_OOB) && !atomic_load(&signals_on))
			return session_fail(s, "recv(MSG_WAITALL) of %zu returned %zd", n, got);
		break;
	case 9:
		if (!(ops & OP_LOWAT) || !sure || s->small_buffers)
			goto plain;
		return rx_lowat(s, coming, until);
	case 10:
		if (!(ops & OP_FIONREAD))
			goto plain;
		got = rx_fionread(s, until);
		return got ? got : -EINTR;
	case 11:
		if (!(ops & OP_TRUNC))
			goto plain;
		s->doing = "recv(MSG_TRUNC)";
		got = recv(s->fd, s->rx.buf, n, flags | MSG_TRUNC);
		if (got > 0)
			return rx_take(s, NULL, got, until);
		break;
	case 12:
		if (!(ops & OP_SPLICE))
			goto plain;
		return rx_splice(s, n < 65536 ? n : 65536, until);
	case 13:
		if (!(ops & OP_FAULT))
			goto plain;
		return rx_fault(s, n, until);
	default:
plain:
		s->doing = "recv";
		got = recv(s->fd, s->rx.buf, n, flags);
	}
	if (got < 0)
		return socket_error(s, &s->rx, errno, waits);
	if (got > (ssize_t)n)
		return session_fail(s, "%s of %zu bytes returned %zd", s->doing, n, got);
	return got ? rx_take(s, s->rx.buf, got, until) : 0;
}

ssize_t rx_once(struct session *s, uint64_t until)
{
	ssize_t got;

	do {
		got = rx_try(s, until);
		if (got == -EAGAIN && s->rx.blocking)
			got = -EINTR;	/* MSG_DONTWAIT found nothing: wait */
	} while (got == -EINTR);
	return got;
}
