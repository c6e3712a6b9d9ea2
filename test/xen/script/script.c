// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Chooses the steps of a script, only such as TCP has one answer to. What hangs
 * on when a packet or an acknowledgement comes is left out where it would
 * come in; altogether missing are two ends that connect to each other at once,
 * and SIGIO.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "play.h"

#define UNREAD_MAX	24576u	/* what TCP takes for sure while nobody reads */
#define STEPS_MIN	4
#define STEPS_MAX	16

/* --------------------------------------------------------- single calls */

void choose_via(struct player *p, struct step *st)
{
	if (one_in(p, 12))
		st->via = 1 + below(p, VIA_CHILD - VIA_DUP);
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
		MSG_WAITALL | MSG_DONTWAIT, MSG_OOB, MSG_ERRQUEUE,
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

void do_shutdown(struct player *p, unsigned int side, uint32_t how)
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

void leave(struct player *p, unsigned int side, enum action action, uint32_t style)
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
		scene_fn *play;
	} scenes[] = {
		{ 910, peek_off }, { 922, timeout }, { 952, waiting }, { 956, crowd },
		{ 959, pressure }, { 962, urgent }, { 968, reuse },
	};
	uint32_t dice = below(p, 1000), i;

	for (i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (dice < calls[i].until) {
			call(p, side, calls[i].action);
			return;
		}
	for (i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++)
		if (dice < scenes[i].until) {
			scenes[i].play(p, side);
			return;
		}
	if (dice < 990)
		do_shutdown(p, side, below(p, 3));
	else
		leave(p, side, A_CLOSE, below(p, 4));
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
			leave(p, side, A_CLOSE, 0);
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
