/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VMCCTL_H
#define VMCCTL_H

#include "writer.h"
#include "vmc/vmc.h"

#include <stdio.h>

/* The exit codes that vmcctl(1) promises. */
enum vmcctl_exit {
	VMCCTL_OK = 0,
	VMCCTL_FAILED = 1,
	VMCCTL_USAGE = 2,
	VMCCTL_NOT_RUNNING = 3,
	VMCCTL_NO_GUEST = 4,
	VMCCTL_FORBIDDEN = 5,	/* by the rules */
};

/* All of vmcctl: results to @out, messages to @err. Returns the exit code. */
int vmcctl_run(int argc, char **argv, FILE *out, FILE *err);

#define VMCCTL_PREPARE_SECONDS		300u
#define VMCCTL_PREPARE_TIMEOUT_MS	20000u	/* vmcd takes up to 12 s */

struct vmcctl_request {
	const char *arg;	/* the command's argument, its first if it has several, or NULL */
	const char *more;	/* its second */
	unsigned int seconds;	/* --seconds, 0 if not given */
	unsigned int watch;	/* --watch, in seconds, 0 if not given */
};

/* The commands that ask vmcd. Each writes its answer and returns an exit code or an enum vmc_error. */
int vmcctl_list(struct vmc *vmc, const struct vmcctl_request *request, struct writer *w);
int vmcctl_channels(struct vmc *vmc, const struct vmcctl_request *request, struct writer *w);
int vmcctl_show(struct vmc *vmc, const struct vmcctl_request *request, struct writer *w);
int vmcctl_status(struct vmc *vmc, const struct vmcctl_request *request, struct writer *w);
/* Takes --watch seconds, or one. */
int vmcctl_top(struct vmc *vmc, const struct vmcctl_request *request, struct writer *w);
int vmcctl_policy(struct vmc *vmc, const struct vmcctl_request *request, struct writer *w);
int vmcctl_prepare(struct vmc *vmc, const struct vmcctl_request *request, struct writer *w);
int vmcctl_resume(struct vmc *vmc, const struct vmcctl_request *request, struct writer *w);

/*
 * Prints events as they happen, a line each, until something fails: never returns 0.
 */
int vmcctl_monitor(struct vmc *vmc, bool json, FILE *out);

/*
 * Looks at the whole host; @connected is what vmc_connect() returned. Returns an exit code,
 * VMCCTL_FAILED if there are problems, or an enum vmc_error.
 */
int vmcctl_doctor(struct vmc *vmc, int connected, struct writer *w);
extern const char *vmcctl_root;	/* before the paths that it looks at; for tests */

/* In a format of its own. Returns 0 or an enum vmc_error. */
int vmcctl_metrics(struct vmc *vmc, FILE *out);

#endif
