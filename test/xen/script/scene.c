// SPDX-License-Identifier: GPL-2.0-or-later
/* Steps that belong together, and what has to be so before them. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "play.h"

#define SEGMENT		1000u	/* arrives as one */
#define PRESSURE_MAX	300000u

struct outcome simple(struct player *p, unsigned int side, enum action action, uint32_t n)
{
	struct step st = { .action = action, .n = n };

	return take(p, side, &st);
}

/* ------------------------------------------------------- calls that wait */

/* A call with nothing to wait for but its timeout. */
void timeout(struct player *p, unsigned int side)
{
	const struct model *me = &p->m[side];
	uint32_t there = unread(p, side);
	struct step st = { .action = A_TIMEOUT, .style = below(p, W_BY_SIGNAL) };

	if (there)	/* too little of it, then */
		st.style = W_WAITALL;
	st.n = some(p, 1, MOST);
	if (st.style == W_WAITALL)
		st.n = there + 1 + below(p, 100);
	if (!ends(me) && st.n <= 2 * MOST)
		take(p, side, &st);
}

/* The other end does what a call waits for; what is sent arrives at once. */
static void wake(struct player *p, unsigned int side, uint32_t n, bool by_bytes)
{
	static const uint32_t whole[] = { 0, 1, 2, 3, 7, 9, 10 };	/* as in send.c */
	uint32_t how = by_bytes ? 0 : below(p, 10);
	struct step st = {
		.action = A_SEND, .n = n, .style = whole[below(p, sizeof(whole) / sizeof(whole[0]))],
	};

	if (how < 7)
		take(p, side, &st);
	else if (how < 9)
		do_shutdown(p, side, SHUT_WR);
	else
		leave(p, side, A_CLOSE, below(p, 2));
}

/*
 * What a call that waits returns is clear if what comes, comes at once: a
 * segment, or as much as it wants. A signal in the middle of a send leaves a
 * count that is not; there, only the whole has to be right.
 */
void waiting(struct player *p, unsigned int side)
{
	struct model *me = &p->m[side], *other = &p->m[!side];
	struct step st = { .action = A_WAIT, .style = below(p, W_CROWD + 1) };
	uint32_t there = unread(p, side), n = some(p, 1, SEGMENT);
	bool timed = one_in(p, 4), interrupted = one_in(p, 3), restarts = one_in(p, 2), over;

	if (there && one_in(p, 2))
		st.style = W_WAITALL;
	if (ends(me) || !flows(other, me) || (there && st.style != W_WAITALL) ||
	    there > MOST / 2 || (me->lowat > 1 && st.style == W_SPLICE))
		return;
	if (n < me->lowat)
		n = me->lowat;
	st.n = st.style == W_WAITALL ? there + n : st.style == W_CROWD ? n : MOST;
	st.flags = timed;
	take(p, side, &st);
	me->waits = true;
	if (one_in(p, 3))
		simple(p, below(p, 2) || other->gone ? side : !side, A_SWITCH, 0);
	over = false;
	if (st.style < W_BY_SIGNAL && interrupted) {
		over = !restarts || timed || there || (st.style > W_WAITALL);
		take(p, side, &(struct step){ .action = A_SIGNAL, .n = over, .flags = restarts });
	}
	if (!over)
		wake(p, !side, st.style == W_CROWD ? CROWD * n : n, st.style == W_CROWD);
	simple(p, side, A_WOKEN, 0);
	me->waits = false;
}

/* More than there is space for, in either of two ways; the other end reads it all. */
void pressure(struct player *p, unsigned int side)
{
	struct model *me = &p->m[side], *other = &p->m[!side];
	bool by_thread = one_in(p, 2);
	struct step st = { .action = A_FLOOD, .style = below(p, 2) };

	if (!flows(me, other) || other->lowat > 1)
		return;
	if (by_thread) {
		st = (struct step){ .action = A_WAIT, .style = W_SEND };
		st.n = some(p, MOST, PRESSURE_MAX);
		take(p, side, &st);
		me->waits = true;
		if (one_in(p, 2))
			take(p, side, &(struct step){ .action = A_SIGNAL, .flags = one_in(p, 2) });
		simple(p, !side, A_DRAIN, unread(p, !side) + st.n);
		simple(p, side, A_WOKEN, 0);
		me->waits = false;
		return;
	}
	take(p, side, &st);
	simple(p, !side, A_DRAIN, unread(p, !side));
	st.action = A_ROOM;
	take(p, side, &st);
}

/* ---------------------------------------------------------- other things */

/* Threads that send; what comes first is not determined, so all of it is read at once. */
void crowd(struct player *p, unsigned int side)
{
	uint32_t there = unread(p, !side);

	if (!flows(&p->m[side], &p->m[!side]) || p->m[!side].lowat > 1)
		return;
	if (there)
		simple(p, !side, A_DRAIN, there);
	simple(p, side, A_CROWD, some(p, 1, SEGMENT));
	take(p, !side, &(struct step){ .action = A_DRAIN, .n = unread(p, !side), .flags = 1 });
}

/*
 * An urgent byte, read before anything follows it. Later it would stand in the
 * way: TCP's splice() never gets past it.
 */
void urgent(struct player *p, unsigned int side)
{
	uint32_t is_inline = below(p, 2);

	if (!flows(&p->m[side], &p->m[!side]) || unread(p, !side) > MOST)
		return;
	take(p, !side, &(struct step){ .action = A_INLINE, .style = is_inline });
	take(p, side, &(struct step){ .action = A_URGENT, .style = is_inline });
	take(p, !side, &(struct step){ .action = A_MARK, .style = is_inline });
}

void peek_off(struct player *p, unsigned int side)
{
	uint32_t there = unread(p, side);
	struct step st = { .action = A_PEEK_OFF };

	if (!there)
		return;
	st.n = below(p, there);
	st.flags = some(p, 2, MOST);
	take(p, side, &st);
}

/* ------------------------------------------------------------ beginnings */

/* The first bytes go with the SYN if the kernel lets them, else after it: the outcome is the same. */
static long fast_open(struct player *p, int fd, const struct sockaddr_in *to, uint64_t seed,
		      uint32_t n)
{
	long ret;

	content_fill(content_key(seed, 0, 0), 0, p->near.buf, n);
	ret = sendto(fd, p->near.buf, n, MSG_FASTOPEN, (const struct sockaddr *)to, sizeof(*to));
	if (ret < 0 && (errno == EOPNOTSUPP || errno == EPERM)) {
		ret = connect(fd, (const struct sockaddr *)to, sizeof(*to));
		if (!ret)
			ret = send(fd, p->near.buf, n, 0);
	}
	return ret;
}

static long connect_later(int fd, const struct sockaddr_in *to)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof(int);
	int error = 0;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) && errno != EINPROGRESS)
		return -1;
	poll(&p, 1, 10000);
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	fcntl(fd, F_SETFL, 0);
	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) && errno != EISCONN)
		return -1;
	return error;
}

void begin(struct player *p, int fd)
{
	struct step st = { .action = A_OPEN, .style = below(p, 10) };
	struct sockaddr_in to = p->sin;
	uint64_t seed = mix64(p->seed + p->connection++);
	struct step accepts = { .action = A_ACCEPT, .seed = seed };
	struct outcome o = { 0 };
	bool again = p->near.fd >= 0;

	to.sin_port = htons(p->data_port);
	if (st.style == 0) {
		st.n = some(p, 1, SEGMENT);
		returned(&o, fast_open(p, fd, &to, seed, st.n));
		o.sent = o.ret > 0 ? (uint32_t)o.ret : 0;
	} else if (st.style == 1) {
		returned(&o, connect_later(fd, &to));
	} else {
		returned(&o, connect(fd, (struct sockaddr *)&to, sizeof(to)));
	}
	note(p, 0, &st, &o);
	if (o.ret < 0)
		exit(1);
	set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (again)
		end_reopen(&p->near, seed, 0);
	else
		end_open(&p->near, fd, seed, 0);
	p->near.tx_pos = p->m[0].sent = p->m[1].news = o.sent;
	order(p, &accepts, &o);
	if (o.ret) {
		fprintf(stderr, "vmc-script: far accept: %s\n", strerror(-o.ret));
		exit(1);
	}
}

/* The near end's socket leaves the connection and gets another. */
void reuse(struct player *p, unsigned int side)
{
	uint32_t lowat = p->m[0].lowat;

	if (side || p->m[0].gone)
		return;
	leave(p, 0, A_DISCONNECT, 0);
	if (!p->m[1].gone)
		leave(p, 1, A_CLOSE, 0);
	if (p->result->bad)
		return;
	memset(p->m, 0, sizeof(p->m));
	p->m[0].lowat = lowat;
	begin(p, p->near.fd);
}
