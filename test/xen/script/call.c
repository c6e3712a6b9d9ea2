// SPDX-License-Identifier: GPL-2.0-or-later
/* One call at one end. */
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "../tools/traffic.h"
#include "script.h"

#define REST_MS		10000
#define EDGE_MS		1000
#define EVENTS		(POLLIN | POLLPRI | POLLOUT | POLLRDHUP)

#ifndef SO_ZEROCOPY
#define SO_ZEROCOPY	60
#endif
#ifndef MSG_ZEROCOPY
#define MSG_ZEROCOPY	0x4000000
#endif

static uint64_t clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void end_init(struct end *e)
{
	memset(e, 0, sizeof(*e));
	e->fd = -1;
	e->level = e->edge = -1;
	if (pipe2(e->pipe, O_CLOEXEC)) {
		perror("vmc-script");
		exit(1);
	}
}

void end_open(struct end *e, int fd, uint64_t seed, unsigned int side)
{
	struct epoll_event level = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP };
	struct epoll_event edge = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET };

	e->fd = fd;
	e->tx_key = content_key(seed, 0, side);
	e->rx_key = content_key(seed, 0, !side);
	e->tx_pos = e->rx_pos = 0;
	e->memfd = memfd_create("script", MFD_CLOEXEC);
	e->level = epoll_create1(EPOLL_CLOEXEC);
	e->edge = epoll_create1(EPOLL_CLOEXEC);
	epoll_ctl(e->level, EPOLL_CTL_ADD, fd, &level);
	epoll_ctl(e->edge, EPOLL_CTL_ADD, fd, &edge);
}

static void end_close(struct end *e)
{
	close(e->fd);
	close(e->level);
	close(e->edge);
	close(e->memfd);
	e->fd = -1;
}

/* A shutdown in both directions looks like a reset to poll(), not to TCP. */
static bool is_closed(const struct end *e)
{
	struct tcp_info ti = { 0 };
	socklen_t len = sizeof(ti);

	getsockopt(e->fd, IPPROTO_TCP, TCP_INFO, &ti, &len);
	return ti.tcpi_state == TCP_CLOSE;
}

/* Until what was sent before has arrived, to the byte. */
static bool come_to_rest(struct end *e, const struct step *st, struct outcome *o)
{
	uint64_t deadline = clock_ms() + REST_MS;
	struct pollfd p = { .fd = e->fd, .events = EVENTS };
	struct timespec nap = { .tv_nsec = 200000 };
	int queued = -1;

	for (;;) {
		p.revents = 0;
		poll(&p, 1, 0);
		if (ioctl(e->fd, FIONREAD, &queued))
			queued = -1;
		if (queued == (int)st->queued && ((uint32_t)p.revents & st->until) == st->until &&
		    (!(st->until & POLLHUP) || is_closed(e)))
			return true;
		if (clock_ms() > deadline) {
			o->bad = BAD_REST;
			o->detail = (uint32_t)queued;
			o->events = (uint32_t)p.revents;
			return false;
		}
		nanosleep(&nap, NULL);
		if (nap.tv_nsec < 5000000)
			nap.tv_nsec *= 2;
	}
}

/* The parts of a buffer that calls with an iovec get, one of them empty. */
static int cut(unsigned char *buf, size_t n, struct iovec *iov)
{
	size_t third = n / 3;

	iov[0] = (struct iovec){ buf, third };
	iov[1] = (struct iovec){ buf + third, 0 };
	iov[2] = (struct iovec){ buf + third, third };
	iov[3] = (struct iovec){ buf + 2 * third, n - 2 * third };
	return 4;
}

static ssize_t send_by_pipe(struct end *e, size_t n)
{
	size_t done = 0;

	if (write(e->pipe[1], e->buf, n) != (ssize_t)n)
		return -1;
	while (done < n) {
		ssize_t r = splice(e->pipe[0], NULL, e->fd, NULL, n - done, 0);
		int error = errno;

		if (r <= 0) {	/* what is left must not be found by the next */
			while (n > done && (r = read(e->pipe[0], e->buf, n - done)) > 0)
				done += (size_t)r;
			errno = error;
			return -1;
		}
		done += (size_t)r;
	}
	return (ssize_t)done;
}

static ssize_t send_styled(struct end *e, const struct step *st, size_t n)
{
	struct iovec iov[4];
	struct msghdr msg = { .msg_iov = iov };
	off_t from = (off_t)e->tx_pos;	/* pages under way are not written again */

	switch (st->style % 6) {
	case 0:
		return send(e->fd, e->buf, n, (int)st->flags);
	case 1:
		return write(e->fd, e->buf, n);
	case 2:
		return writev(e->fd, iov, cut(e->buf, n, iov));
	case 3:
		msg.msg_iovlen = (size_t)cut(e->buf, n, iov);
		return sendmsg(e->fd, &msg, (int)st->flags);
	case 4:
		if (pwrite(e->memfd, e->buf, n, from) != (ssize_t)n)
			return -1;
		return n ? sendfile(e->fd, e->memfd, &from, n) : 0;
	default:
		return n ? send_by_pipe(e, n) : 0;
	}
}

static void do_send(struct end *e, const struct step *st, struct outcome *o)
{
	int one = 1, none = 0;
	ssize_t more;

	content_fill(e->tx_key, e->tx_pos, e->buf, st->n);
	if (st->action == A_CORKED) {
		if (st->style % 2)
			setsockopt(e->fd, IPPROTO_TCP, TCP_CORK, &one, sizeof(one));
		o->ret = (int)send(e->fd, e->buf, st->n / 2, st->style % 2 ? 0 : MSG_MORE);
		if (o->ret >= 0) {
			more = send(e->fd, e->buf + o->ret, st->n - (uint32_t)o->ret, 0);
			o->ret = more < 0 ? -1 : o->ret + (int)more;
		}
		if (st->style % 2)
			setsockopt(e->fd, IPPROTO_TCP, TCP_CORK, &none, sizeof(none));
	} else {
		o->ret = (int)send_styled(e, st, st->n);
	}
	o->error = o->ret < 0 ? errno : 0;
	if (o->ret > 0)
		e->tx_pos += (uint64_t)o->ret;
}

/* Which of the calls with MSG_ZEROCOPY are done, as a number of them. */
static void do_zerocopy(struct end *e, const struct step *st, struct outcome *o)
{
	unsigned char *page = mmap(NULL, MOST, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct pollfd p = { .fd = e->fd };
	char control[128];
	struct msghdr msg = { .msg_control = control };
	struct sock_extended_err *ee;
	struct cmsghdr *c;
	uint64_t deadline = clock_ms() + 5000;
	int one = 1;

	content_fill(e->tx_key, e->tx_pos, page, st->n);
	setsockopt(e->fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one));
	o->ret = (int)send(e->fd, page, st->n, MSG_ZEROCOPY);
	o->error = o->ret < 0 ? errno : 0;
	if (o->ret > 0)
		e->tx_pos += (uint64_t)o->ret;
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

/* Splices all that is there, piece by piece. */
static ssize_t recv_by_pipe(struct end *e, size_t n)
{
	size_t done = 0;
	ssize_t r;
	int error;

	fcntl(e->fd, F_SETFL, O_NONBLOCK);
	do {
		r = splice(e->fd, NULL, e->pipe[1], NULL, n - done, SPLICE_F_NONBLOCK);
		if (r > 0 && read(e->pipe[0], e->buf + done, (size_t)r) != r)
			r = -1;
		if (r > 0)
			done += (size_t)r;
	} while (r > 0 && done < n);
	error = errno;
	fcntl(e->fd, F_SETFL, 0);
	errno = error;
	return done ? (ssize_t)done : r;
}

static ssize_t recv_styled(struct end *e, const struct step *st, uint32_t *extra)
{
	struct iovec iov[4];
	char control[64];
	struct msghdr msg = {
		.msg_iov = iov, .msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c;
	ssize_t r;

	if (st->style % 5 == 1) {
		msg.msg_iovlen = (size_t)cut(e->buf, st->n, iov);
		r = recvmsg(e->fd, &msg, (int)st->flags);
		if (r < 0)
			return r;
		*extra = (uint32_t)msg.msg_flags;
		for (c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
			*extra += (uint32_t)(c->cmsg_type << 8) + *(uint32_t *)CMSG_DATA(c);
		return r;
	}
	if (!st->flags && st->style % 5 == 2)
		return read(e->fd, e->buf, st->n);
	if (!st->flags && st->style % 5 == 3)
		return readv(e->fd, iov, cut(e->buf, st->n, iov));
	if (st->flags == MSG_DONTWAIT && st->style % 5 == 4 && st->n)
		return recv_by_pipe(e, st->n);
	return recv(e->fd, e->buf, st->n, (int)st->flags);
}

static void do_recv(struct end *e, const struct step *st, struct outcome *o)
{
	size_t good;

	o->ret = (int)recv_styled(e, st, &o->extra);
	o->error = o->ret < 0 ? errno : 0;
	if (o->ret <= 0)
		return;
	if (!(st->flags & MSG_TRUNC)) {
		good = content_check(e->rx_key, e->rx_pos, e->buf, (size_t)o->ret);
		if (good != (size_t)o->ret) {
			o->bad = BAD_CONTENT;
			o->detail = (uint32_t)(e->rx_pos + good);
		}
	}
	if (!(st->flags & MSG_PEEK))
		e->rx_pos += (uint64_t)o->ret;
}

static void do_poll(struct end *e, const struct step *st, struct outcome *o)
{
	struct pollfd p = { .fd = e->fd, .events = EVENTS };
	struct epoll_event ev = { 0 };

	if (st->action == A_EPOLL) {
		/* bytes can be there before their news */
		o->ret = epoll_wait(e->edge, &ev, 1, st->flags ? EDGE_MS : 0);
		/* more events than necessary are legal, fewer are not */
		if (st->flags && !(o->ret == 1 && ev.events & EPOLLIN)) {
			o->bad = BAD_EDGE;
			o->events = ev.events;
		}
		o->ret = 0;
	} else if (st->style % 2) {
		o->ret = epoll_wait(e->level, &ev, 1, 0);
		o->extra = ev.events;
	} else {
		o->ret = poll(&p, 1, 0);
		o->extra = (uint32_t)p.revents;
	}
}

static const struct {
	int level, name, value;
} settings[] = {
	{ IPPROTO_TCP, TCP_NODELAY, 1 },
	{ IPPROTO_TCP, TCP_NODELAY, 0 },
	{ IPPROTO_TCP, TCP_QUICKACK, 1 },
	{ IPPROTO_TCP, TCP_USER_TIMEOUT, 30000 },
	{ IPPROTO_TCP, TCP_INQ, 1 },
	{ SOL_SOCKET, SO_KEEPALIVE, 1 },
	{ SOL_SOCKET, SO_RCVLOWAT, 1 },
	{ SOL_SOCKET, SO_RCVLOWAT, 1000 },
	{ SOL_SOCKET, SO_SNDBUF, 256 << 10 },
	{ SOL_SOCKET, SO_RCVBUF, 256 << 10 },
	{ IPPROTO_IP, IP_TOS, 0x10 },
};

#define NR_SETTINGS (sizeof(settings) / sizeof(settings[0]))

bool sets_lowat(const struct step *st)
{
	unsigned int i = st->style % NR_SETTINGS;

	return settings[i].name == SO_RCVLOWAT && settings[i].level == SOL_SOCKET;
}

static void do_option(struct end *e, const struct step *st, struct outcome *o)
{
	unsigned int i = st->style % NR_SETTINGS;
	int value = sets_lowat(st) ? (int)st->n : settings[i].value;

	o->ret = setsockopt(e->fd, settings[i].level, settings[i].name, &value, sizeof(value));
	o->error = o->ret < 0 ? errno : 0;
}

static void do_close(struct end *e, const struct step *st, struct outcome *o)
{
	struct linger now = { .l_onoff = 1 };
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	if (st->style == 1)
		setsockopt(e->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	if (st->style == 2)
		o->extra = (uint32_t)connect(e->fd, &none, sizeof(none));
	end_close(e);
}

static void do_switch(const struct end *e, const struct step *st)
{
	int fd;

	if (!e->switches)
		return;
	fd = open("/sys/kernel/debug/vmc/switch", O_WRONLY);
	if (fd < 0 || write(fd, st->style % 2 ? "tx" : "rx", 2) != 2) {
		perror("vmc-script: /sys/kernel/debug/vmc/switch");
		exit(1);
	}
	close(fd);
}

void end_do(struct end *e, const struct step *st, struct outcome *o)
{
	socklen_t len = sizeof(o->extra);

	memset(o, 0, sizeof(*o));
	if (st->action == A_END) {
		end_close(e);
		return;
	}
	if (!come_to_rest(e, st, o))
		return;
	switch (st->action) {
	case A_SEND:
	case A_CORKED:
		do_send(e, st, o);
		break;
	case A_ZEROCOPY:
		do_zerocopy(e, st, o);
		break;
	case A_RECV:
		do_recv(e, st, o);
		break;
	case A_POLL:
	case A_EPOLL:
		do_poll(e, st, o);
		break;
	case A_QUEUED:
		o->ret = ioctl(e->fd, FIONREAD, &o->extra);
		break;
	case A_ERROR:
		o->ret = getsockopt(e->fd, SOL_SOCKET, SO_ERROR, &o->extra, &len);
		break;
	case A_OPTION:
		do_option(e, st, o);
		break;
	case A_SHUTDOWN:
		o->ret = shutdown(e->fd, (int)st->flags);
		o->error = o->ret < 0 ? errno : 0;
		break;
	case A_CLOSE:
		do_close(e, st, o);
		break;
	case A_SWITCH:
		do_switch(e, st);
		break;
	}
}
