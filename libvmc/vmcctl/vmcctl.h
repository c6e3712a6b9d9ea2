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
};

/* All of vmcctl: results to @out, messages to @err. Returns the exit code. */
int vmcctl_run(int argc, char **argv, FILE *out, FILE *err);

/*
 * The commands that ask vmcd. Each writes its answer and returns 0 or an enum
 * vmc_error; @arg is the command's argument or NULL.
 */
int vmcctl_list(struct vmc *vmc, const char *arg, struct writer *w);
int vmcctl_channels(struct vmc *vmc, const char *arg, struct writer *w);
int vmcctl_show(struct vmc *vmc, const char *arg, struct writer *w);
int vmcctl_status(struct vmc *vmc, const char *arg, struct writer *w);

#endif
