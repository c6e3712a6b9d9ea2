// SPDX-License-Identifier: GPL-2.0-or-later
/* The calls that send. */
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/io_uring.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../tools/traffic.h"
#include "script.h"

#define FLOOD_MAX	(8u << 20)
#define FLOOD_BUFFER	(16 << 10)
#define USUAL_BUFFER	(100 << 10)	/* always has space for what a script has under way */
#define ROOM_MS		10000

#ifndef SO_ZEROCOPY
#define SO_ZEROCOPY	60
#endif
#ifndef MSG_ZEROCOPY
#define MSG_ZEROCOPY	0x4000000
#endif

volatile int sigpipes;

/* Through a pipe; @twice: through two of them, by tee(). */
static ssize_t send_by_pipe(struct end *e, size_t n, bool twice)
{
	const int *from = twice ? e->spare : e->pipe;
	size_t done = 0;

	if (write(e->pipe[1], e->buf, n) != (ssize_t)n)
		return -1;
	if (twice && (tee(e->pipe[0], e->spare[1], n, 0) != (ssize_t)n ||
		      read(e->pipe[0], e->buf, n) != (ssize_t)n))
		return -1;
	while (done < n) {
		ssize_t r = splice(from[0], NULL, e->fd, NULL, n - done, 0);
		int error = errno;

		if (r <= 0) {	/* what is left must not be found by the next */
			while (n > done && (r = read(from[0], e->buf, n - done)) > 0)
				done += (size_t)r;
			errno = error;
			return -1;
		}
		done += (size_t)r;
	}
	return (ssize_t)done;
}

static ssize_t send_messages(struct end *e, size_t n, int flags)
{
	struct mmsghdr all[4] = { 0 };
	struct iovec iov[4];
	ssize_t sum = 0;
	int i, count = cut(e->buf, n, iov);

	for (i = 0; i < count; i++) {
		all[i].msg_hdr.msg_iov = &iov[i];
		all[i].msg_hdr.msg_iovlen = 1;
	}
	count = sendmmsg(e->fd, all, (unsigned int)count, flags);
	if (count < 0)
		return -1;
	for (i = 0; i < count; i++)
		sum += all[i].msg_len;
	return sum;
}

static ssize_t send_styled(struct end *e, const struct step *st, size_t n)
{
	struct iovec iov[4];
	struct msghdr msg = { .msg_iov = iov };
	off_t from = (off_t)e->tx_pos;	/* pages under way are not written again */
	unsigned int style = st->style % 11;
	int flags = (int)st->flags;

	if (style >= 9 && !(n && uring_works()))
		style -= 9;
	switch (style) {
	case 0:
		return send(e->fd, e->buf, n, flags);
	case 1:
		return write(e->fd, e->buf, n);
	case 2:
		return writev(e->fd, iov, cut(e->buf, n, iov));
	case 4:
		if (pwrite(e->memfd, e->buf, n, from) != (ssize_t)n)
			return -1;
		return n ? sendfile(e->fd, e->memfd, &from, n) : 0;
	case 5:
	case 6:
		return n ? send_by_pipe(e, n, style == 6) : 0;
	case 7:
		return sendto(e->fd, e->buf, n, flags, NULL, 0);
	case 8:
		return send_messages(e, n, flags);
	case 9:
		return uring_call(IORING_OP_SEND, e->fd, e->buf, (uint32_t)n, st->flags);
	}
	msg.msg_iovlen = (size_t)cut(e->buf, n, iov);
	if (style == 3)
		return sendmsg(e->fd, &msg, flags);
	return uring_call(IORING_OP_SENDMSG, e->fd, &msg, 1, st->flags);
}

static void sent(struct outcome *o, long ret, int sigpipes_before)
{
	returned(o, ret);
	if (ret > 0)
		o->sent = (uint32_t)ret;
	o->extra = (uint32_t)(sigpipes - sigpipes_before);
}

void do_send(struct end *e, const struct step *st, struct outcome *o)
{
	int before = sigpipes;

	content_fill(e->tx_key, e->tx_pos, e->buf, st->n);
	sent(o, send_styled(e, st, st->n), before);
}

/* Held back by TCP_CORK, MSG_MORE or SPLICE_F_MORE. */
void do_corked(struct end *e, const struct step *st, struct outcome *o)
{
	bool cork = st->style % 3 == 1;
	int before = sigpipes;
	size_t n = st->n / 2;
	ssize_t ret, more;

	content_fill(e->tx_key, e->tx_pos, e->buf, st->n);
	if (cork)
		set_int(e->fd, IPPROTO_TCP, TCP_CORK, 1);
	if (st->style % 3 == 2 && write(e->pipe[1], e->buf, n) == (ssize_t)n) {
		ret = splice(e->pipe[0], NULL, e->fd, NULL, n, SPLICE_F_MORE);
		if (ret < (ssize_t)n) {
			int error = errno;

			n -= ret < 0 ? 0 : (size_t)ret;
			if (read(e->pipe[0], e->buf + MOST, n) < 0)
				exit(1);
			errno = error;
		}
	} else {
		ret = send(e->fd, e->buf, n, cork ? 0 : MSG_MORE);
	}
	if (ret >= 0) {
		more = send(e->fd, e->buf + ret, st->n - (size_t)ret, 0);
		ret = more < 0 ? -1 : ret + more;
	}
	sent(o, ret, before);
	if (cork)
		set_int(e->fd, IPPROTO_TCP, TCP_CORK, 0);
}

/* Which of the calls with MSG_ZEROCOPY are done, as a number of them. */
void do_zerocopy(struct end *e, const struct step *st, struct outcome *o)
{
	unsigned char *page = mmap(NULL, MOST, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct pollfd p = { .fd = e->fd };
	char control[128];
	struct msghdr msg = { .msg_control = control };
	struct sock_extended_err *ee;
	struct cmsghdr *c;
	uint64_t deadline = clock_ms() + 5000;
	int before = sigpipes;

	content_fill(e->tx_key, e->tx_pos, page, st->n);
	set_int(e->fd, SOL_SOCKET, SO_ZEROCOPY, 1);
	sent(o, send(e->fd, page, st->n, MSG_ZEROCOPY), before);
	while (o->ret > 0 && clock_ms() < deadline) {
		poll(&p, 1, 100);
		msg.msg_controllen = sizeof(control);
		if (recvmsg(e->fd, &msg, MSG_ERRQUEUE) < 0)
			continue;
		c = CMSG_FIRSTHDR(&msg);
		ee = c ? (struct sock_extended_err *)CMSG_DATA(c) : NULL;
		o->extra = ee && ee->ee_origin == SO_EE_ORIGIN_ZEROCOPY ?
			   ee->ee_data - ee->ee_info + 1 : 1000;
		break;
	}
	munmap(page, MOST);
}

/* --------------------------------------------------------------- threads */

struct one_of_crowd {
	pthread_t thread;
	int fd;
	const unsigned char *data;
	size_t n;
	ssize_t ret;
};

static void *crowd_send(void *arg)
{
	struct one_of_crowd *c = arg;

	c->ret = send(c->fd, c->data, c->n, MSG_NOSIGNAL);
	return NULL;
}

/* The bytes arrive in any order; whole or not is up to TCP. */
void do_crowd(struct end *e, const struct step *st, struct outcome *o)
{
	struct one_of_crowd all[CROWD];
	unsigned int i;

	content_fill(e->tx_key, e->tx_pos, e->buf, CROWD * st->n);
	for (i = 0; i < CROWD; i++) {
		all[i] = (struct one_of_crowd){
			.fd = e->fd, .data = e->buf + i * st->n, .n = st->n,
		};
		if (pthread_create(&all[i].thread, NULL, crowd_send, &all[i]))
			exit(1);
	}
	for (i = 0; i < CROWD; i++) {
		pthread_join(all[i].thread, NULL);
		o->ret += (int32_t)all[i].ret;
	}
	o->sent = (uint32_t)o->ret;
}

/* ---------------------------------------------------------- urgent bytes */

/* As a byte of the stream if the other takes it inline, else beside it. */
void do_urgent(struct end *e, const struct step *st, struct outcome *o)
{
	unsigned char byte = 'U';

	if (st->style % 2)
		content_fill(e->tx_key, e->tx_pos, &byte, 1);
	returned(o, send(e->fd, &byte, 1, MSG_OOB));
	o->sent = o->ret == 1 && st->style % 2;
}

/* ------------------------------------------------------------- no space */

/* How much goes is not determined; that it arrives, and what the end of it looks like, is. */
static ssize_t flood_once(struct end *e, uint32_t done, int flags)
{
	content_fill(e->tx_key, e->tx_pos + done, e->buf, MOST);
	return send(e->fd, e->buf, MOST, flags | MSG_NOSIGNAL);
}

void do_flood(struct end *e, const struct step *st, struct outcome *o)
{
	const unsigned int ms = 20;
	struct clocks begin;
	ssize_t ret;

	(void)st;
	set_int(e->fd, SOL_SOCKET, SO_SNDBUF, FLOOD_BUFFER);
	while ((ret = flood_once(e, o->sent, MSG_DONTWAIT)) > 0 && o->sent < FLOOD_MAX)
		o->sent += (uint32_t)ret;
	returned(o, ret);
	o->extra = (uint32_t)o->error;
	set_timeo(e->fd, SO_SNDTIMEO, ms);
	do {
		begin = clocks_now();
		ret = flood_once(e, o->sent, 0);
		if (ret > 0)
			o->sent += (uint32_t)ret;
	} while (ret > 0 && o->sent < FLOOD_MAX);
	returned(o, ret);
	if (ret < 0 && errno == EAGAIN && too_early(begin, ms))
		o->bad = BAD_EARLY;
	set_timeo(e->fd, SO_SNDTIMEO, 0);
	e->room = epoll_on(e->fd, EPOLLOUT | EPOLLET);
}

void do_room(struct end *e, const struct step *st, struct outcome *o)
{
	struct epoll_event ev = { 0 };
	struct pollfd p = { .fd = e->fd, .events = POLLOUT };

	if (st->style % 2) {
		returned(o, epoll_wait(e->room, &ev, 1, ROOM_MS));
		o->extra = ev.events & EPOLLOUT;
	} else {
		returned(o, poll(&p, 1, ROOM_MS));
		o->extra = (uint32_t)p.revents & POLLOUT;
	}
	if (!o->extra)
		o->bad = BAD_ASLEEP;
	close(e->room);
	e->room = -1;
	set_int(e->fd, SOL_SOCKET, SO_SNDBUF, USUAL_BUFFER);
}

long send_all(struct end *e, size_t n)
{
	unsigned char *data = malloc(n);
	size_t done = 0;
	ssize_t ret;

	if (!data)
		exit(1);
	content_fill(e->tx_key, e->tx_pos, data, n);
	set_int(e->fd, SOL_SOCKET, SO_SNDBUF, FLOOD_BUFFER);
	do {
		ret = send(e->fd, data + done, n - done, 0);
		if (ret > 0)
			done += (size_t)ret;
	} while (done < n && (ret > 0 || errno == EINTR));
	free(data);
	set_int(e->fd, SOL_SOCKET, SO_SNDBUF, USUAL_BUFFER);
	return done == n ? (long)n : -1;
}
