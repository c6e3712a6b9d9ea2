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

/* ----------------------------------------------------------- script.c */

void one_script(struct player *p);

#endif
