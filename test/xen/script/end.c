// SPDX-License-Identifier: GPL-2.0-or-later
/* One end of a connection: one step after another, each when all has come to rest. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../tools/traffic.h"
#include "script.h"

#define REST_MS		10000

static uint64_t read_ms(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

uint64_t clock_ms(void)
{
	return read_ms(CLOCK_MONOTONIC);
}

/*
 * A machine that did not run for a while makes up for its ticks at once: a timeout
 * in ticks that began before that ends early by the other clock. Other timeouts
 * know nothing of ticks, which may be the ones that are late.
 */
struct clocks clocks_now(void)
{
	return (struct clocks){ read_ms(CLOCK_MONOTONIC), read_ms(CLOCK_MONOTONIC_COARSE) };
}

bool too_early(struct clocks begin, uint64_t ms)
{
	struct clocks now = clocks_now();

	return now.real - begin.real < ms / 2 && now.ticks - begin.ticks < ms / 2;
}

void nap_us(unsigned int us)
{
	struct timespec t = { .tv_nsec = (long)us * 1000 };

	nanosleep(&t, NULL);
}

void returned(struct outcome *o, long ret)
{
	o->ret = (int32_t)ret;
	o->error = ret < 0 ? errno : 0;
}

void end_init(struct end *e)
{
	memset(e, 0, sizeof(*e));
	e->fd = e->level = e->edge = e->room = -1;
	if (pipe2(e->pipe, O_CLOEXEC) || pipe2(e->spare, O_CLOEXEC)) {
		perror("vmc-script");
		exit(1);
	}
}

void end_open(struct end *e, int fd, uint64_t seed, unsigned int side)
{
	socklen_t len = sizeof(e->local);

	e->fd = fd;
	e->tx_key = content_key(seed, 0, side);
	e->rx_key = content_key(seed, 0, !side);
	e->tx_pos = e->rx_pos = 0;
	getsockname(fd, (struct sockaddr *)&e->local, &len);
	getpeername(fd, (struct sockaddr *)&e->peer, &len);
	e->memfd = memfd_create("script", MFD_CLOEXEC);
	e->level = epoll_on(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
	e->edge = epoll_on(fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
}

static void end_close(struct end *e)
{
	struct outcome unused = { 0 };

	if (e->waiter) {	/* only if the script ends before its time */
		shutdown(e->fd, SHUT_RDWR);
		do_woken(e, NULL, &unused);
	}
	close(e->fd);
	close(e->level);
	close(e->edge);
	close(e->memfd);
	if (e->room >= 0)
		close(e->room);
	e->fd = e->room = -1;
}

void end_reopen(struct end *e, uint64_t seed, unsigned int side)
{
	int fd = fcntl(e->fd, F_DUPFD_CLOEXEC, 0);

	end_close(e);
	end_open(e, fd, seed, side);
}

/*
 * Until what was sent before has arrived, to the byte. A shutdown in both
 * directions looks like a reset to poll(), not to TCP.
 */
static bool come_to_rest(struct end *e, const struct step *st, struct outcome *o)
{
	uint64_t deadline = clock_ms() + REST_MS;
	struct pollfd p = { .fd = e->fd, .events = EVENTS };
	unsigned int us = 200;
	int queued = -1;

	for (;;) {
		p.revents = 0;
		poll(&p, 1, 0);
		if (ioctl(e->fd, FIONREAD, &queued))
			queued = -1;
		if (queued == (int)st->queued && ((uint32_t)p.revents & st->until) == st->until &&
		    (!(st->until & POLLHUP) || tcp_state(e->fd) == TCP_CLOSE))
			return true;
		if (clock_ms() > deadline) {
			o->bad = BAD_REST;
			o->detail = (uint32_t)queued;
			o->events = (uint32_t)p.revents;
			return false;
		}
		nap_us(us);
		if (us < 5000)
			us *= 2;
	}
}

/* ------------------------------------------------------- ends of an end */

static void do_rest(struct end *e, const struct step *st, struct outcome *o)
{
	(void)e;
	(void)st;
	(void)o;
}

static void do_shutdown(struct end *e, const struct step *st, struct outcome *o)
{
	returned(o, shutdown(e->fd, (int)st->flags));
}

static void do_disconnect(struct end *e, const struct step *st, struct outcome *o)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	(void)st;
	returned(o, connect(e->fd, &none, sizeof(none)));
}

static void do_close(struct end *e, const struct step *st, struct outcome *o)
{
	/* at once; or when all is acknowledged */
	struct linger linger = { .l_onoff = 1, .l_linger = st->style == 3 ? 5 : 0 };

	if (st->style % 2)
		setsockopt(e->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	if (st->style == 2)
		do_disconnect(e, st, o);
	end_close(e);
}

static void do_switch(struct end *e, const struct step *st, struct outcome *o)
{
	int fd;

	(void)o;
	if (!e->switches)
		return;
	fd = open("/sys/kernel/debug/vmc/switch", O_WRONLY);
	if (fd < 0 || write(fd, st->style % 2 ? "tx" : "rx", 2) != 2) {
		perror("vmc-script: /sys/kernel/debug/vmc/switch");
		exit(1);
	}
	close(fd);
}

/* --------------------------------------------------------------- actions */

static const struct {
	action_fn *call;
	bool at_once;		/* while something is under way */
} actions[A_NR] = {
	[A_REST] = { do_rest, false },
	[A_SEND] = { do_send, false },
	[A_CORKED] = { do_corked, false },
	[A_ZEROCOPY] = { do_zerocopy, false },
	[A_CROWD] = { do_crowd, false },
	[A_URGENT] = { do_urgent, false },
	[A_FLOOD] = { do_flood, false },
	[A_ROOM] = { do_room, false },
	[A_RECV] = { do_recv, false },
	[A_DRAIN] = { do_drain, true },
	[A_INLINE] = { do_inline, false },
	[A_MARK] = { do_mark, false },
	[A_PEEK_OFF] = { do_peek_off, false },
	[A_TIMEOUT] = { do_timeout, false },
	[A_WAIT] = { do_wait, false },
	[A_SIGNAL] = { do_signal, true },
	[A_WOKEN] = { do_woken, true },
	[A_POLL] = { do_poll, false },
	[A_EPOLL] = { do_epoll, false },
	[A_QUEUED] = { do_queued, false },
	[A_UNSENT] = { do_unsent, false },
	[A_ERROR] = { do_error, false },
	[A_OPTION] = { do_option, false },
	[A_STATE] = { do_state, false },
	[A_SHUTDOWN] = { do_shutdown, false },
	[A_CLOSE] = { do_close, false },
	[A_DISCONNECT] = { do_disconnect, false },
	[A_SWITCH] = { do_switch, true },
	[A_OPEN] = { do_rest, true },
};

/* A descriptor for the same socket, through a message. */
static int passed(int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int pair[2], got = -1;

	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair))
		return -1;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(pair[0], &msg, 0) == 1 && recvmsg(pair[1], &msg, MSG_CMSG_CLOEXEC) == 1) {
		c = CMSG_FIRSTHDR(&msg);
		if (c && c->cmsg_type == SCM_RIGHTS)
			memcpy(&got, CMSG_DATA(c), sizeof(got));
	}
	close(pair[0]);
	close(pair[1]);
	return got;
}

/* The call is a child's; what it did to the stream is known here, too. */
static void in_child(struct end *e, const struct step *st, struct outcome *o)
{
	struct outcome *shared = mmap(NULL, sizeof(*o), PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid = shared == MAP_FAILED ? -1 : fork();
	int status;

	if (!pid) {
		actions[st->action].call(e, st, shared);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status) {
		perror("vmc-script: child");
		exit(1);
	}
	*o = *shared;
	munmap(shared, sizeof(*o));
}

static void end_call(struct end *e, const struct step *st, struct outcome *o)
{
	int own = e->fd;

	if (st->via == VIA_CHILD) {
		in_child(e, st, o);
	} else if (st->via == VIA_ITSELF) {
		actions[st->action].call(e, st, o);
	} else if (st->via == VIA_NONBLOCK) {
		fcntl(own, F_SETFL, O_NONBLOCK);
		actions[st->action].call(e, st, o);
		fcntl(own, F_SETFL, 0);
	} else {
		e->fd = st->via == VIA_DUP ? fcntl(own, F_DUPFD_CLOEXEC, 0) : passed(own);
		if (st->via == VIA_MOVED) {
			close(own);
			own = e->fd;
		}
		actions[st->action].call(e, st, o);
		if (e->fd != own)
			close(e->fd);
		e->fd = own;
	}
	e->tx_pos += o->sent;
	e->rx_pos += o->read;
}

void end_do(struct end *e, const struct step *st, struct outcome *o)
{
	memset(o, 0, sizeof(*o));
	if (st->action >= A_NR)
		end_close(e);
	else if (actions[st->action].at_once || come_to_rest(e, st, o))
		end_call(e, st, o);
}
