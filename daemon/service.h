/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The process around the daemon: start, service manager, signals, stop. */
#ifndef VMC_SERVICE_H
#define VMC_SERVICE_H

#include "options.h"

/* Returns the exit status: EX_CONFIG of sysexits.h for a configuration that is wrong. */
int vmc_service_run(const struct vmc_options *opt);

/* Only reads the configuration, and tells on stderr what is wrong. Returns the exit status. */
int vmc_service_check(const struct vmc_options *opt);

#endif /* VMC_SERVICE_H */
