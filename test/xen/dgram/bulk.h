/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between end.c, which has the slots, and bulk.c, which sends and counts. */
#ifndef BULK_H
#define BULK_H

#include "dgram.h"

#define SLOTS	16

struct slot {
	int fd, epoll;
	char family;		/* '4', '6', or 'm': IPv4 by an IPv6 socket */
	union address peer;
	socklen_t peer_size;
};

/* slot and those after it; see bulk.c for what they take and answer */
void collect(struct slot *s, const char *line, char *reply);
void do_send(struct slot *s, const char *line, char *reply);
void do_sendmm(struct slot *s, const char *line, char *reply);
void do_recvmm(struct slot *s, const char *line, char *reply);
void do_burst(struct slot *s, const char *line, char *reply);
void do_crowd(struct slot *s, const char *line, char *reply);
void do_ping(struct slot *s, const char *line, char *reply);

#endif
