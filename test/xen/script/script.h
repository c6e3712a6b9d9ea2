/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmc-script: random but repeatable scripts of socket calls on one connection,
 * and what each call returned. Run twice, over TCP and over VMC, the two have to
 * have the same to tell.
 *
 * One process plays: it chooses each step from the seed and from what went
 * before, has it done at one end or the other, and writes down the outcome. The
 * far end is an agent that is told its steps over a connection of its own. One
 * step happens at a time, and it begins when all that was sent before has come
 * to rest, so that there is one right outcome.
 */
#ifndef VMC_SCRIPT_H
#define VMC_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MOST		8192u	/* bytes in a call */

enum action {
	A_REST,		/* only wait for what was sent before */
	A_SEND,
	A_CORKED,	/* two sends, the first of which may be held back */
	A_ZEROCOPY,	/* and its completion */
	A_RECV,
	A_POLL,
	A_EPOLL,	/* edge-triggered */
	A_QUEUED,	/* FIONREAD */
	A_ERROR,	/* SO_ERROR */
	A_OPTION,
	A_SHUTDOWN,
	A_CLOSE,
	A_SWITCH,	/* all streams of the guest back to TCP, if this is about VMC */
	A_NR,
	/* what an agent is asked besides */
	A_LISTEN = 100,	/* ret: the port */
	A_ACCEPT,
	A_END,		/* closes, whatever the state */
};

struct step {
	uint32_t action;
	uint32_t n;		/* bytes, or a value */
	uint32_t flags;		/* MSG_*, SHUT_* */
	uint32_t style;
	uint32_t queued;	/* first wait until so many bytes can be read */
	uint32_t until;		/* and until poll() shows these; POLLHUP: and TCP is closed */
	uint64_t seed;		/* A_ACCEPT */
};

enum { BAD_NONE, BAD_CONTENT, BAD_REST, BAD_EDGE };

struct outcome {
	int32_t ret;
	int32_t error;		/* errno, if ret is -1 */
	uint32_t extra;		/* poll's events, msg_flags, an option's value */
	uint32_t bad;		/* wrong by itself, whatever TCP would have done */
	uint32_t detail;	/* of what is bad: a position, or bytes to read, */
	uint32_t events;	/* and what poll() shows */
};

/* One end of the connection. */
struct end {
	int fd, level, edge;	/* the socket and two epolls on it */
	int pipe[2], memfd;
	uint64_t tx_key, rx_key, tx_pos, rx_pos;
	bool switches;		/* A_SWITCH means something here */
	unsigned char buf[2 * MOST];
};

/* ------------------------------------------------------------- call.c */

void end_init(struct end *e);
void end_open(struct end *e, int fd, uint64_t seed, unsigned int side);
/* Is this A_OPTION about SO_RCVLOWAT, with n for its value? */
bool sets_lowat(const struct step *st);
void end_do(struct end *e, const struct step *st, struct outcome *o);

/* ------------------------------------------------------------ agent.c */

struct agent_options {
	uint16_t port;
	bool background, switches;
};

int agent(const struct agent_options *opt);
/* All of it, or the process ends. */
void put_all(int fd, const void *data, size_t n);
void get_all(int fd, void *data, size_t n);

/* ------------------------------------------------------------- play.c */

struct play_options {
	const char *host;
	uint16_t port;
	uint64_t seed;		/* of the first */
	unsigned int scripts, parallel;
	bool switches, verbose;
	const char *out;	/* a line for each script */
	const char *expect;	/* such a file, of another run */
};

int play(const struct play_options *opt);

#endif
