/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The socket: whole messages out and in, each ended by a NUL byte, until a deadline. */
#ifndef VMC_CONN_H
#define VMC_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VMC_CONN_MESSAGE_MAX	(16u << 20)	/* bytes of one answer */
#define VMC_CONN_DETAIL_MAX	256u

struct vmc {
	int fd;				/* -1 if there is no connection (any more) */
	unsigned int timeout_ms;	/* 0: for ever */
	uint64_t deadline_ms;		/* of the call that is going on; 0: none */
	char *buf;			/* the answer, and what came after it */
	size_t len, size;
	size_t taken;			/* bytes of the answer, with its NUL byte */
	bool monitors;			/* takes events, and asks nothing any more */
	char detail[VMC_CONN_DETAIL_MAX];
};

/* Writes the detail of an error and returns the error. */
int vmc_fail(struct vmc *vmc, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

int vmc_conn_open(struct vmc *vmc, const char *path);
void vmc_conn_shut(struct vmc *vmc);
/* Sends @text with its NUL byte and waits for one message, then in vmc->buf, NUL-terminated. */
int vmc_conn_exchange(struct vmc *vmc, const char *text);
/*
 * Waits for one more message, @timeout_ms at most, or for ever if that is negative.
 * VMC_ERR_AGAIN: none has come, and the connection goes on.
 */
int vmc_conn_next(struct vmc *vmc, int timeout_ms);

#endif
