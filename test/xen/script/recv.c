// SPDX-License-Identifier: GPL-2.0-or-later
/* The calls that receive. */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../tools/traffic.h"
#include "script.h"

#define DRAIN_MS	10000

int cut(unsigned char *buf, size_t n, struct iovec *iov)
{
	size_t third = n / 3;

	iov[0] = (struct iovec){ buf, third };
	iov[1] = (struct iovec){ buf + third, 0 };
	iov[2] = (struct iovec){ buf + third, third };
	iov[3] = (struct iovec){ buf + 2 * third, n - 2 * third };
	return 4;
}

static void bad_at(struct outcome *o, uint64_t pos)
{
	o->bad = BAD_CONTENT;
	o->detail = (uint32_t)pos;
}

void check(const struct end *e, const unsigned char *buf, size_t n, bool in_order,
	   struct outcome *o)
{
	int surplus[256] = { 0 };
	unsigned char *right;
	size_t i;

	if (in_order) {
		i = content_check(e->rx_key, e->rx_pos, buf, n);
		if (i != n)
			bad_at(o, e->rx_pos + i);
		return;
	}
	right = malloc(n);
	if (!right)
		exit(1);
	content_fill(e->rx_key, e->rx_pos, right, n);
	for (i = 0; i < n; i++) {
		surplus[right[i]]--;
		surplus[buf[i]]++;
	}
	for (i = 0; i < 256; i++)
		if (surplus[i])
			bad_at(o, e->rx_pos);
	free(right);
}

/* Splices all that is there, piece by piece; @twice: and looks at it in two pipes. */
static ssize_t recv_by_pipe(struct end *e, size_t n, bool twice)
{
	unsigned char other[MOST];
	size_t done = 0, part;
	ssize_t r;
	int error;

	fcntl(e->fd, F_SETFL, O_NONBLOCK);
	do {
		part = n - done < MOST ? n - done : MOST;
		r = splice(e->fd, NULL, e->pipe[1], NULL, part, SPLICE_F_NONBLOCK);
		if (r > 0 && twice && (tee(e->pipe[0], e->spare[1], (size_t)r, 0) != r ||
				       read(e->spare[0], other, (size_t)r) != r))
			r = -1;
		if (r > 0 && (read(e->pipe[0], e->buf + done, (size_t)r) != r ||
			      (twice && memcmp(other, e->buf + done, (size_t)r))))
			r = -1;
		if (r > 0)
			done += (size_t)r;
	} while (r > 0 && done < n);
	error = errno;
	fcntl(e->fd, F_SETFL, 0);
	errno = error;
	return done ? (ssize_t)done : r;
}

static ssize_t recv_message(struct end *e, const struct step *st, bool by_uring, uint32_t *extra)
{
	struct iovec iov[4];
	char control[64];
	struct msghdr msg = {
		.msg_iov = iov, .msg_iovlen = (size_t)cut(e->buf, st->n, iov),
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c;
	ssize_t r;

	if (by_uring)
		r = uring_call(IORING_OP_RECVMSG, e->fd, &msg, 1, st->flags);
	else
		r = recvmsg(e->fd, &msg, (int)st->flags);
	if (r < 0)
		return r;
	*extra = (uint32_t)msg.msg_flags;
	for (c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
		*extra += (uint32_t)(c->cmsg_type << 8) + *(uint32_t *)CMSG_DATA(c);
	return r;
}

static ssize_t recv_messages(struct end *e, const struct step *st, uint32_t *extra)
{
	struct mmsghdr all[2] = { 0 };
	struct iovec iov[2] = {
		{ e->buf, st->n / 2 }, { e->buf + st->n / 2, st->n - st->n / 2 },
	};
	int i, count;

	for (i = 0; i < 2; i++) {
		all[i].msg_hdr.msg_iov = &iov[i];
		all[i].msg_hdr.msg_iovlen = 1;
	}
	count = recvmmsg(e->fd, all, 2, (int)st->flags | MSG_WAITFORONE, NULL);
	*extra = (uint32_t)count;
	if (count < 0)
		return -1;
	if (count == 2 && all[0].msg_len < iov[0].iov_len)
		memmove(e->buf + all[0].msg_len, iov[1].iov_base, all[1].msg_len);
	return all[0].msg_len + (count == 2 ? all[1].msg_len : 0);
}

static ssize_t recv_styled(struct end *e, const struct step *st, uint32_t *extra)
{
	unsigned int style = st->style % 10;
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	struct iovec iov[4];
	int flags = (int)st->flags;
	ssize_t r;

	switch (style) {
	case 1:
		return recv_message(e, st, false, extra);
	case 2:
		if (!flags)
			return read(e->fd, e->buf, st->n);
		break;
	case 3:
		if (!flags)
			return readv(e->fd, iov, cut(e->buf, st->n, iov));
		break;
	case 4:
	case 5:
		if (flags == MSG_DONTWAIT && st->n)
			return recv_by_pipe(e, st->n, style == 5);
		break;
	case 6:
		r = recvfrom(e->fd, e->buf, st->n, flags, (struct sockaddr *)&from, &len);
		*extra = r < 0 ? 0 : len;	/* TCP names nobody */
		return r;
	case 7:		/* a second message has nothing new to peek at */
		if (!(flags & (MSG_PEEK | MSG_TRUNC | MSG_OOB | MSG_ERRQUEUE)))
			return recv_messages(e, st, extra);
		break;
	case 8:
	case 9:		/* io_uring repeats a MSG_WAITALL that comes to less, even if it peeks */
		if (flags & (MSG_WAITALL | MSG_OOB | MSG_ERRQUEUE) || !st->n || !uring_works())
			break;
		if (style == 9)
			return recv_message(e, st, true, extra);
		return uring_call(IORING_OP_RECV, e->fd, e->buf, st->n, st->flags);
	}
	return recv(e->fd, e->buf, st->n, flags);
}

void do_recv(struct end *e, const struct step *st, struct outcome *o)
{
	returned(o, recv_styled(e, st, &o->extra));
	if (o->ret <= 0)
		return;
	if (!(st->flags & MSG_TRUNC))
		check(e, e->buf, (size_t)o->ret, true, o);
	if (!(st->flags & MSG_PEEK))
		o->read = (uint32_t)o->ret;
}

/* @flags: threads sent it, in any order. How the bytes come in is not determined. */
void do_drain(struct end *e, const struct step *st, struct outcome *o)
{
	struct pollfd p = { .fd = e->fd, .events = POLLIN };
	unsigned char *all = malloc(st->n);
	ssize_t r;

	if (!all)
		exit(1);
	while (o->read < st->n && poll(&p, 1, DRAIN_MS) == 1) {
		r = recv(e->fd, all + o->read, st->n - o->read, MSG_DONTWAIT);
		if (r > 0)
			o->read += (uint32_t)r;
		else if (!r || errno != EAGAIN)
			break;
	}
	o->ret = o->read == st->n;
	if (o->ret)
		check(e, all, st->n, !st->flags, o);
	else
		o->bad = BAD_ASLEEP;
	o->detail = o->read;
	free(all);
}

/* ---------------------------------------------------------- urgent bytes */

void do_inline(struct end *e, const struct step *st, struct outcome *o)
{
	int on = (int)st->style % 2;

	returned(o, setsockopt(e->fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)));
}

/*
 * The one urgent byte there is, and all before it. extra is a digest of what
 * each call returned.
 */
void do_mark(struct end *e, const struct step *st, struct outcome *o)
{
	int at[3] = { -1, -1, -1 }, error[4] = { 0 };
	unsigned char *buf = e->buf, byte[2] = { 0 };
	ssize_t before, out[2], past;
	unsigned int i;

	(void)st;
	ioctl(e->fd, SIOCATMARK, &at[0]);
	before = recv(e->fd, buf, MOST, MSG_DONTWAIT);
	error[0] = before < 0 ? errno : 0;
	if (before > 0)
		buf += before;
	ioctl(e->fd, SIOCATMARK, &at[1]);
	for (i = 0; i < 2; i++) {
		out[i] = recv(e->fd, &byte[i], 1, i ? MSG_OOB : MSG_OOB | MSG_PEEK);
		error[1 + i] = out[i] < 0 ? errno : 0;
	}
	past = recv(e->fd, buf, MOST, MSG_DONTWAIT);
	error[3] = past < 0 ? errno : 0;
	if (past > 0)
		buf += past;
	ioctl(e->fd, SIOCATMARK, &at[2]);
	o->read = (uint32_t)(buf - e->buf);
	o->ret = (int32_t)o->read;
	check(e, e->buf, o->read, true, o);
	for (i = 0; i < 3; i++)
		o->extra = o->extra * 31 + (uint32_t)at[i];
	for (i = 0; i < 4; i++)
		o->extra = o->extra * 31 + (uint32_t)error[i];
	o->extra = (o->extra * 31 + byte[0]) * 31 + byte[1];
}

/* ---------------------------------------------------------- SO_PEEK_OFF */

/*
 * Two peeks of @flags bytes together, the first at @n, and none where nothing
 * is left: it would take an error. Kernels before 6.9 have no SO_PEEK_OFF for
 * TCP, but what it would return is clear.
 */
void do_peek_off(struct end *e, const struct step *st, struct outcome *o)
{
	uint32_t left = st->queued - st->n, all = st->flags < left ? st->flags : left, want;
	struct end there = { .rx_key = e->rx_key, .rx_pos = e->rx_pos + st->n };
	int value = (int)st->n, none = -1;
	ssize_t r;

	o->ret = (int32_t)all;
	if (setsockopt(e->fd, SOL_SOCKET, SO_PEEK_OFF, &value, sizeof(value)))
		return;
	for (want = all / 2, left = all; left; left -= (uint32_t)r, want = left) {
		r = recv(e->fd, e->buf, want ? want : left, MSG_PEEK | MSG_DONTWAIT);
		if (r <= 0) {
			returned(o, r);
			break;
		}
		check(&there, e->buf, (size_t)r, true, o);
		there.rx_pos += (uint64_t)r;
	}
	setsockopt(e->fd, SOL_SOCKET, SO_PEEK_OFF, &none, sizeof(none));
}
