/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: Varlink framing (one JSON object, then a NUL), the
 * callers' credentials, and limits on what callers can cost.
 */
#ifndef VMC_CONTROL_H
#define VMC_CONTROL_H

#include "vmcd.h"

#define VMC_CONTROL_CLIENTS_MAX	64u
#define VMC_CONTROL_INPUT_MAX	65536u		/* bytes of one request */
#define VMC_CONTROL_OUTPUT_MAX	(8u << 20)	/* bytes that a client has not taken */
#define VMC_CONTROL_GROUP	"vmc"		/* may call, as root may */

struct vmc_control;

/* Takes the place of a socket that a former vmcd left at @path. */
int vmc_control_new(struct vmc_control **ret, struct vmcd *d, const char *path);
/* Takes over @fd, a Unix socket that listens already, and is not removed at the end. */
int vmc_control_inherit(struct vmc_control **ret, struct vmcd *d, int fd);
/* Closes all connections and removes the socket that it has made. */
void vmc_control_free(struct vmc_control *c);

#endif /* VMC_CONTROL_H */
