/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmc-flow: numbered datagrams, and who tells what became of them. The near end
 * asks over TCP for a run, and gets a UDP port of its own for it; the far end counts.
 */
#ifndef FLOW_H
#define FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FLOWS_MAX	64u
#define DATAGRAM_MAX	65507u
#define DATAGRAM_MIN	((unsigned int)sizeof(struct head))

struct head {		/* in front of each datagram; the rest follows from it */
	uint32_t run;
	uint32_t flow;
	uint32_t seq;
	uint32_t len;
};

enum kind { KIND_FLOW = 1, KIND_FLOOD, KIND_ECHO };

struct ask {		/* near to far: a run is to begin */
	uint32_t kind;
	uint32_t run;
	uint32_t flows;
};

struct answer {		/* far to near: where to */
	uint32_t port;
};

struct end {		/* near to far: it is over */
	uint64_t sent;
};

struct report {		/* far to near */
	uint64_t received;
	uint64_t duplicated;
	uint64_t reordered;
	uint64_t corrupt;
	uint64_t bytes;
	uint64_t ns;	/* from the first to the last */
};

struct options {
	const char *command;
	const char *address;
	const char *broken;	/* what the far end does wrong */
	const char *ready;	/* file that appears when the first datagram is sent */
	unsigned int port;
	unsigned int flows;
	unsigned int size_min;
	unsigned int size_max;
	double seconds;
	double rate;		/* datagrams a second, of all flows together */
	bool background;
};

uint64_t now_ns(void);
void fill(unsigned char *buf, uint32_t run, uint32_t flow, uint32_t seq, uint32_t len);
bool is_right(const unsigned char *buf, size_t len);
void read_all(int fd, void *buf, size_t len);
void write_all(int fd, const void *buf, size_t len);

int far_serve(const struct options *o);
int near_run(const struct options *o);

#endif
