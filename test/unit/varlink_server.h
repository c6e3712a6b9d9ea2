/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A vmcd of one thread that answers with whatever a test tells it. */
#ifndef VMC_VARLINK_SERVER_H
#define VMC_VARLINK_SERVER_H

#include <stdbool.h>
#include <stddef.h>

struct reply {
	const char *data;	/* NULL: no answer, the client waits */
	size_t len;		/* 0: strlen(data) + 1, the NUL byte included */
	bool slow;		/* byte by byte */
	bool close;		/* after the answer */
};

struct varlink_server;

/* Listens on a new socket; answers the calls with the replies in turn, then with the last again. */
struct varlink_server *varlink_server_start(const struct reply *replies, size_t count);
const char *varlink_server_path(const struct varlink_server *s);
/* The last call it got, JSON text. */
const char *varlink_server_call(const struct varlink_server *s);
void varlink_server_stop(struct varlink_server *s);

#endif
