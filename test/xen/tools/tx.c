// SPDX-License-Identifier: GPL-2.0-or-later
/* Sending: one call, checked against what TCP promises. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "traffic.h"


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
	struct iovec iov[IOV_PARTS];
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
		s->tx.doing = "write";
		waits = s->tx.blocking;
		whole = s->tx.blocking;
		got = write(s->fd, s->tx.buf, n);
		break;
	case 2:
	case 3:
		if (!(ops & OP_IOV))
			goto plain;
		s->tx.doing = "writev";
		waits = s->tx.blocking;
		whole = s->tx.blocking;
		got = writev(s->fd, iov, io_cut(r, s->tx.buf, n, iov));
		break;
	case 4:
		if (!(ops & OP_IOV))
			goto plain;
		s->tx.doing = "sendmsg";
		m.msg_iovlen = (size_t)io_cut(r, s->tx.buf, n, iov);
		got = sendmsg(s->fd, &m, flags);
		break;
	case 5:
		if (!(ops & OP_SENDFILE))
			goto plain;
		s->tx.doing = "sendfile";
		waits = s->tx.blocking;
		whole = false;
		got = tx_sendfile(s, n);
		if (got == -EIO)
			return got;
		break;
	case 6:
		if (!(ops & OP_OOB))
			goto plain;
		s->tx.doing = "send(MSG_OOB)";
		n = 1;
		got = send(s->fd, s->tx.buf, 1, flags | MSG_OOB);
		break;
	case 7:
		if (!(ops & OP_FAULT))
			goto plain;
		s->tx.doing = "sendmsg with a bad address";
		waits = s->tx.blocking;
		whole = false;
		got = tx_fault(s, n);
		if (got == -EIO)
			return got;
		if (got >= 0 || errno != EFAULT)
			break;
		flags = MSG_NOSIGNAL;
		waits = whole = s->tx.blocking;
		goto plain;
	default:
plain:
		s->tx.doing = "send";
		got = send(s->fd, s->tx.buf, n, flags);
	}

	if (got < 0)
		return io_error(s, &s->tx, errno, waits);
	if (!got || got > (ssize_t)n)
		return session_fail(s, "%s of %zu bytes returned %zd", s->tx.doing, n, got);
	if (whole && got < (ssize_t)n && !s->may_reset && !atomic_load(&signals_on))
		return session_fail(s, "%s should wait, but took %zd of %zu bytes", s->tx.doing, got,
				    n);
	s->tx.spurious = 0;
	s->tries = false;
	s->tx.pos += (uint64_t)got;
	if (ops & OP_MORE && ops & OP_SOCKOPT && (uint64_t)got == want)
		set_int(s->fd, IPPROTO_TCP, TCP_CORK, 0);
	return got;
}
