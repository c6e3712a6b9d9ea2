// SPDX-License-Identifier: GPL-2.0-or-later
/* Receiving: one call, checked against what TCP promises, and every byte against the content. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "traffic.h"


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
			    "the bytes are %s", (unsigned long long)pos, at, s->rx.doing, n, got, want,
			    origin);
}

static int rx_check(struct session *s, const void *buf, size_t n)
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

	s->rx.doing = all ? "recv(MSG_PEEK | MSG_WAITALL)" : "recv(MSG_PEEK)";
	got = recv(s->fd, s->rx.buf, n, flags | MSG_PEEK | (all ? MSG_WAITALL : 0));
	if (got <= 0)
		return got ? io_error(s, &s->rx, errno, !(flags & MSG_DONTWAIT)) : 0;
	err = rx_check(s, s->rx.buf, (size_t)got);
	if (err)
		return err;
	if (all && got < (ssize_t)n && !(s->h.ops & OP_OOB) && !atomic_load(&signals_on))
		return session_fail(s, "%s of %zu bytes returned %zd", s->rx.doing, n, got);
	s->rx.doing = "recv after a peek";
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

	s->rx.doing = "recv after FIONREAD";
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
 * With a low-water mark poll() holds out for that many bytes, of which @coming
 * are sure to come, unless this is the end. A waiting recv() is left alone: where bytes were there when
 * it began, TCP itself does not wake it before the mark is reached without them.
 */
static ssize_t rx_lowat(struct session *s, uint64_t coming)
{
	int want = 1 + (int)rng_below(&s->rx.rng, coming < 6000 ? coming : 6000), mark = 0, queued;
	struct pollfd p = { .fd = s->fd, .events = POLLIN | POLLRDHUP };
	struct tcp_info ti = { 0 };
	socklen_t len = sizeof(mark);

	set_int(s->fd, SOL_SOCKET, SO_RCVLOWAT, want);
	getsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &mark, &len);
	len = sizeof(ti);
	s->rx.doing = "poll with SO_RCVLOWAT";
	if (poll(&p, 1, (int)s->h.quiet_ms) == 0)
		return io_stalled(s, s->rx.doing);
	queued = io_queued(s);
	set_int(s->fd, SOL_SOCKET, SO_RCVLOWAT, 1);
	/* TCP gives up on the mark when its buffer or window is small */
	getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &ti, &len);
	if (p.revents == POLLIN && queued < mark && !(s->h.ops & (OP_OOB | OP_SOCKOPT)) &&
	    ti.tcpi_rcv_mss < 16384)
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
	s->rx.doing = "splice";
	got = splice(s->fd, NULL, s->pipe[1], NULL, n, flags);
	if (got <= 0)
		return got ? io_error(s, &s->rx, errno, s->rx.blocking) : 0;
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

	s->rx.doing = "readv with a bad address";
	got = readv(s->fd, iov, 2);
	if (got < 0)
		return errno == EFAULT ? -EINTR : io_error(s, &s->rx, errno, s->rx.blocking);
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
	struct iovec iov[IOV_PARTS];
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
		s->rx.doing = "read";
		waits = s->rx.blocking;
		got = read(s->fd, s->rx.buf, n);
		break;
	case 2:
	case 3:
		if (!(ops & OP_IOV))
			goto plain;
		s->rx.doing = "readv";
		waits = s->rx.blocking;
		got = readv(s->fd, iov, io_cut(r, s->rx.buf, n, iov));
		break;
	case 4:
		if (!(ops & OP_IOV))
			goto plain;
		s->rx.doing = "recvmsg";
		m.msg_iovlen = (size_t)io_cut(r, s->rx.buf, n, iov);
		got = recvmsg(s->fd, &m, flags);
		break;
	case 5:
	case 6:
		if (!(ops & OP_PEEK))
			goto plain;
		all = waits && sure && !s->small_buffers && n <= 4096 && n <= coming && ops & OP_WAITALL;
		return rx_peek(s, n, flags, all, until);
	case 7:
	case 8:
		if (!(ops & OP_WAITALL) || !waits || !sure)
			goto plain;
		n = n > coming ? (size_t)coming : n;
		s->rx.doing = "recv(MSG_WAITALL)";
		got = recv(s->fd, s->rx.buf, n, MSG_WAITALL);
		if (got > 0 && got < (ssize_t)n && !(ops & OP_OOB) && !atomic_load(&signals_on))
			return session_fail(s, "recv(MSG_WAITALL) of %zu returned %zd", n, got);
		break;
	case 9:
		if (!(ops & OP_LOWAT) || !sure || s->small_buffers)
			goto plain;
		return rx_lowat(s, coming);
	case 10:
		if (!(ops & OP_FIONREAD))
			goto plain;
		got = rx_fionread(s, until);
		return got ? got : -EINTR;
	case 11:
		if (!(ops & OP_TRUNC))
			goto plain;
		s->rx.doing = "recv(MSG_TRUNC)";
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
		s->rx.doing = "recv";
		got = recv(s->fd, s->rx.buf, n, flags);
	}
	if (got < 0)
		return io_error(s, &s->rx, errno, waits);
	if (got > (ssize_t)n)
		return session_fail(s, "%s of %zu bytes returned %zd", s->rx.doing, n, got);
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
