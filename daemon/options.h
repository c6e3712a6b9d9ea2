/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef VMC_OPTIONS_H
#define VMC_OPTIONS_H

#include "log.h"

#include <stdbool.h>
#include <stdio.h>

#define VMC_SOCKET_PATH		"/run/vmc/vmcd.sock"

struct vmc_options {
	bool foreground;
	bool quit;		/* --help or --version: done */
	bool check;		/* the configuration, and nothing else */
	bool log_level_given;	/* else the configuration's counts */
	enum vmc_log_level log_level;
	const char *config;	/* NULL: VMC_CONFIG_PATH, if it is there */
	const char *socket;	/* points into argv, or a constant */
};

/* Returns 0; -EINVAL for a usage error, which it has told on @err. */
int vmc_options_parse(int argc, char **argv, struct vmc_options *opt, FILE *out, FILE *err);

#endif /* VMC_OPTIONS_H */
