/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A player, and what it knows of the connection that its script is about. */
#ifndef VMC_SCRIPT_PLAY_H
#define VMC_SCRIPT_PLAY_H

#include "../tools/traffic.h"
#include "script.h"

/* What an end has to know about itself and the other to expect the right thing. */
struct model {
	uint64_t sent, read;	/* by this end; read: of what the other sent */
	uint64_t news;		/* came since the edge was last looked at */
	uint32_t lowat;
	bool shut_wr, shut_rd;
	bool fin;		/* the other will send no more */
	bool gone;		/* closed */
	bool reset;		/* the other reset it */
	bool waits;		/* in a call that takes what comes */
};

struct result {
	uint64_t digest, expected;
	uint32_t steps, bad;
};

struct player {
	const struct play_options *opt;
	struct sockaddr_in sin;	/* of the agent */
	uint16_t data_port;
	int control;
	struct end near;
	struct model m[2];	/* near, far */
	struct rng rng;
	uint64_t seed;
	uint32_t connection;	/* of this script's */
	struct result *result;
	char *told;		/* what this script has done */
	size_t told_len;
};

/* Has a step done at one end, writes it down, and tells the model. */
struct outcome take(struct player *p, unsigned int side, struct step *st);
/* Has the far end do something that is no step. */
void order(struct player *p, const struct step *st, struct outcome *o);
void note(struct player *p, unsigned int side, const struct step *st, const struct outcome *o);
/* What @side can read. */
uint32_t unread(const struct player *p, unsigned int side);
int dial(const struct sockaddr_in *sin, uint16_t port);
/* Ends what is open, when something went wrong. */
void abandon(struct player *p);

/* Random numbers that follow from the seed. */
static inline uint32_t below(struct player *p, uint32_t n)
{
	return (uint32_t)rng_below(&p->rng, n);
}

static inline bool one_in(struct player *p, unsigned int n)
{
	return rng_one_in(&p->rng, n);
}

static inline uint32_t some(struct player *p, uint32_t least, uint32_t most)
{
	return (uint32_t)rng_log(&p->rng, least, most);
}

/* Nobody is there to read: a send is answered by a reset (RFC 1122, 4.2.2.13). */
static inline bool deaf(const struct model *m)
{
	return m->gone || (m->shut_rd && m->shut_wr);
}

/* Has the end of the stream, or an error, or won't read: no call waits. */
static inline bool ends(const struct model *m)
{
	return m->fin || m->reset || m->shut_rd;
}

/* Bytes can go from one end to the other. */
static inline bool flows(const struct model *from, const struct model *to)
{
	return !from->gone && !from->reset && !from->shut_wr && !to->gone && !to->reset &&
	       !to->shut_rd;
}

/* Both have sent all: closed, or about to be; when the last ACK comes is not ours to say. */
static inline bool closing(const struct model *m)
{
	return m->shut_wr && m->fin;
}

/* ----------------------------------------------------------- script.c */

void one_script(struct player *p);
void choose_via(struct player *p, struct step *st);
void do_shutdown(struct player *p, unsigned int side, uint32_t how);
/* @action, A_CLOSE in some style or A_DISCONNECT, ends this end's part. */
void leave(struct player *p, unsigned int side, enum action action, uint32_t style);

/* ------------------------------------------------------------ scene.c */

struct outcome simple(struct player *p, unsigned int side, enum action action, uint32_t n);
/* Connects the near end's socket, new or used before, to the far end. */
void begin(struct player *p, int fd);

typedef void scene_fn(struct player *p, unsigned int side);
scene_fn timeout, waiting, pressure, crowd, urgent, peek_off, reuse;

#endif
