// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Chooses the steps of a script. Only such as TCP has one answer to: what
 * hangs on when a packet or an acknowledgement comes is not here, and where it would
 * creep in the comments say so.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "play.h"

#define UNREAD_MAX	24576u	/* what TCP takes for sure while nobody reads */
#define SEGMENT		1000u	/* arrives as one */
#define PRESSURE_MAX	300000u
#define STEPS_MIN	4
#define STEPS_MAX	16

static uint32_t below(struct player *p, uint32_t n)
{
	return (uint32_t)rng_below(&p->rng, n);
}

static bool one_in(struct player *p, unsigned int n)
{
	return rng_one_in(&p->rng, n);
}

static uint32_t some(struct player *p, uint32_t least, uint32_t most)
{
	return (uint32_t)rng_log(&p->rng, least, most);
}

/* Nobody is there to read: a send is answered by a reset (RFC 1122, 4.2.2.13). */
static bool deaf(const struct model *m)
{
	return m->gone || (m->shut_rd && m->shut_wr);
}

/* Has the end of the stream, or an error, or won't read: no call waits. */
static bool ends(const struct model *m)
{
	return m->fin || m->reset || m->shut_rd;
}

/* Bytes can go from one end to the other. */
static bool flows(const struct model *from, const struct model *to)
{
	return !from->gone && !from->reset && !from->shut_wr && !to->gone && !to->reset &&
	       !to->shut_rd;
}

/* Both have sent all: closed, or about to be; when the last ACK comes is not ours to say. */
static bool closing(const struct model *m)
{
	return m->shut_wr && m->fin;
}

static struct outcome simple(struct player *p, unsigned int side, enum action action, uint32_t n)
{
	struct step st = { .action = action, .n = n };

	return take(p, side, &st);
}

/* --------------------------------------------------------- single calls */

static void choose_via(struct player *p, struct step *st)
{
	if (one_in(p, 12))
		st->via = 1 + below(p, VIA_CHILD - 1);
	else if (one_in(p, 150))	/* costs more than the rest of a script */
		st->via = VIA_CHILD;
}

static void choose_send(struct player *p, unsigned int side, struct step *st)
{
	const struct model *other = &p->m[!side];
	uint32_t room = UNREAD_MAX - unread(p, !side);

	st->n = some(p, 1, MOST);
	if (one_in(p, 30))
		st->n = 0;
	if (st->n > room)
		st->n = room;
	st->style = below(p, 66);
	st->flags = one_in(p, 4) ? MSG_DONTWAIT : 0;
	if (one_in(p, 4))
		st->flags |= MSG_NOSIGNAL;
	if (one_in(p, 16))
		st->flags |= MSG_EOR;
	/* answered by a reset, of which a second call would know or not */
	if (deaf(other)) {
		st->style = 0;
		return;
	}
	choose_via(p, st);
	if (st->n > 1 && one_in(p, 10))
		st->action = A_CORKED;
	else if (st->n && one_in(p, 16))
		st->action = A_ZEROCOPY;
}

static void choose_recv(struct player *p, unsigned int side, struct step *st)
{
	static const uint32_t flags[] = {
		0, 0, 0, MSG_DONTWAIT, MSG_DONTWAIT, MSG_PEEK, MSG_PEEK, MSG_TRUNC, MSG_WAITALL,
		MSG_PEEK | MSG_TRUNC, MSG_PEEK | MSG_WAITALL, MSG_PEEK | MSG_DONTWAIT,
		MSG_WAITALL | MSG_DONTWAIT,
	};
	const struct model *me = &p->m[side];
	uint32_t there = unread(p, side);

	st->n = one_in(p, 3) ? some(p, 1, 2 * MOST) : below(p, there + 1);
	if (st->n > 2 * MOST)
		st->n = 2 * MOST;
	st->flags = flags[below(p, sizeof(flags) / sizeof(flags[0]))];
	st->style = below(p, 60);
	/* nothing that would wait for ever */
	if (!ends(me) && (there < me->lowat || !there || (st->flags & MSG_WAITALL && st->n > there)))
		st->flags |= MSG_DONTWAIT;
	choose_via(p, st);
}

/* --------------------------------------------------------------- endings */

static void do_shutdown(struct player *p, unsigned int side, uint32_t how)
{
	struct model *me = &p->m[side], *other = &p->m[!side];
	struct step st = { .action = A_SHUTDOWN, .flags = how };

	choose_via(p, &st);
	if (me->reset || closing(me))
		return;
	take(p, side, &st);
	if (how != SHUT_RD && !me->shut_wr) {
		me->shut_wr = true;
		other->fin = true;
	}
	if (how != SHUT_WR)
		me->shut_rd = true;
}

/* @action, A_CLOSE in some style or A_DISCONNECT, ends this end's part. */
static void do_close(struct player *p, unsigned int side, enum action action, uint32_t style)
{
	struct model *me = &p->m[side], *other = &p->m[!side];
	struct step st = { .action = action, .style = style };
	bool hard = action == A_DISCONNECT || style == 1 || style == 2, resets;

	/* what is under way arrives first, so that it is clear what is lost */
	if (!other->gone && !other->waits)
		simple(p, !side, A_REST, 0);
	resets = !me->reset && (hard || unread(p, side));
	/* both ends have sent all: nobody is there to be reset */
	if (closing(me))
		resets = false;
	take(p, side, &st);
	if (p->result->bad)
		return;
	me->gone = true;
	if (resets)
		other->reset = true;
	else
		other->fin = true;
}

/* ------------------------------------------------------- calls that wait */

/* A call with nothing to wait for but its timeout. */
static void timeout(struct player *p, unsigned int side)
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
	struct step st = { .action = A_SEND, .n = n, .style = whole[below(p, 7)] };

	if (how < 7)
		take(p, side, &st);
	else if (how < 9)
		do_shutdown(p, side, SHUT_WR);
	else
		do_close(p, side, A_CLOSE, below(p, 2));
}

/*
 * What a call that waits returns is clear if what comes, comes at once: a
 * segment, or as much as it wants. A signal in the middle of a send leaves a
 * count that is not; there, only the whole has to be right.
 */
static void waiting(struct player *p, unsigned int side)
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
static void pressure(struct player *p, unsigned int side)
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
static void crowd(struct player *p, unsigned int side)
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
static void urgent(struct player *p, unsigned int side)
{
	uint32_t is_inline = below(p, 2);

	if (!flows(&p->m[side], &p->m[!side]) || unread(p, !side) > MOST)
		return;
	take(p, !side, &(struct step){ .action = A_INLINE, .style = is_inline });
	take(p, side, &(struct step){ .action = A_URGENT, .style = is_inline });
	take(p, !side, &(struct step){ .action = A_MARK, .style = is_inline });
}

static void peek_off(struct player *p, unsigned int side)
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

/* Connects the near end's socket, new or used before, to the far end. */
static void begin(struct player *p, int fd)
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
static void reuse(struct player *p)
{
	uint32_t lowat = p->m[0].lowat;

	if (p->m[0].gone)
		return;
	do_close(p, 0, A_DISCONNECT, 0);
	if (!p->m[1].gone)
		do_close(p, 1, A_CLOSE, 0);
	if (p->result->bad)
		return;
	memset(p->m, 0, sizeof(p->m));
	p->m[0].lowat = lowat;
	begin(p, p->near.fd);
}

/* ------------------------------------------------------------- the script */

/* One call. */
static void call(struct player *p, unsigned int side, enum action action)
{
	struct model *me = &p->m[side];
	struct step st = { .action = action, .style = below(p, 4096) };
	struct outcome o;

	switch (action) {
	case A_SEND:
		choose_send(p, side, &st);
		break;
	case A_RECV:
		choose_recv(p, side, &st);
		break;
	case A_EPOLL:
		st.flags = me->news && unread(p, side) && me->lowat <= 1;
		break;
	case A_POLL:
	case A_QUEUED:
		choose_via(p, &st);
		break;
	case A_UNSENT:
		if (me->reset || closing(me) || deaf(&p->m[!side]))
			return;
		break;
	case A_STATE:
		if (closing(me) && !me->reset)
			return;
		break;
	case A_OPTION:
		st.n = some(p, 1, 2000);
		choose_via(p, &st);
		break;
	default:
		break;
	}
	o = take(p, side, &st);
	if (st.action == A_OPTION && !o.ret && sets_lowat(&st))
		me->lowat = st.n;
}

static void one_step(struct player *p, unsigned int side)
{
	static const struct {
		uint32_t until;		/* of a thousand */
		enum action action;
	} calls[] = {
		{ 310, A_SEND }, { 590, A_RECV }, { 690, A_POLL }, { 735, A_EPOLL },
		{ 775, A_QUEUED }, { 783, A_UNSENT }, { 803, A_ERROR }, { 850, A_OPTION },
		{ 870, A_STATE }, { 897, A_SWITCH },
	};
	static const struct {
		uint32_t until;
		void (*play)(struct player *p, unsigned int side);
	} others[] = {
		{ 910, peek_off }, { 922, timeout }, { 952, waiting }, { 956, crowd },
		{ 959, pressure }, { 962, urgent },
	};
	uint32_t dice = below(p, 1000), i;

	for (i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (dice < calls[i].until) {
			call(p, side, calls[i].action);
			return;
		}
	for (i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (dice < others[i].until) {
			others[i].play(p, side);
			return;
		}
	if (dice < 966)
		reuse(p);
	else if (dice < 990)
		do_shutdown(p, side, below(p, 3));
	else
		do_close(p, side, A_CLOSE, below(p, 4));
}

/* All that was sent has to be there; then both ends go, in either order. */
static void finish(struct player *p)
{
	unsigned int side, first = below(p, 2), i;

	for (side = 0; side < 2; side++)
		while (!p->m[side].gone && unread(p, side)) {
			struct step st = {
				.action = A_RECV, .n = 2 * MOST, .flags = MSG_DONTWAIT,
			};

			if (take(p, side, &st).ret <= 0)
				break;
		}
	for (i = 0; i < 2; i++) {
		side = first ^ i;
		if (!p->m[side].gone)
			do_close(p, side, A_CLOSE, 0);
	}
}

void one_script(struct player *p)
{
	unsigned int steps, side;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0) {
		perror("vmc-script");
		exit(1);
	}
	memset(p->m, 0, sizeof(p->m));
	p->rng.state = mix64(p->seed);
	p->result->digest = p->seed;
	p->connection = 0;
	p->near.fd = -1;
	begin(p, fd);
	steps = STEPS_MIN + below(p, STEPS_MAX - STEPS_MIN + 1);
	while (steps-- && !p->result->bad) {
		side = below(p, 2);
		if (p->m[side].gone)
			side = !side;
		if (p->m[side].gone)
			break;
		one_step(p, side);
	}
	if (p->result->bad)	/* nothing after it means anything */
		abandon(p);
	else
		finish(p);
}
