/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Log lines: "<subsystem>: text", or "d<domid> <subsystem>: text". They go to
 * stderr, with sd-daemon level prefixes where that is the journal, or to
 * syslog once the daemon has left its terminal.
 */
#ifndef VMC_LOG_H
#define VMC_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

enum vmc_log_level {	/* values of syslog(3) */
	VMC_LOG_ERROR = 3,
	VMC_LOG_WARNING = 4,
	VMC_LOG_NOTICE = 5,
	VMC_LOG_INFO = 6,
	VMC_LOG_DEBUG = 7,
};

enum vmc_log_target {
	VMC_LOG_TO_STDERR,	/* or the journal, if stderr is connected to it */
	VMC_LOG_TO_SYSLOG,
};

#define VMC_LOG_NO_DOMID	UINT32_MAX

void vmc_log_init(enum vmc_log_level level, enum vmc_log_target target);

void vmc_log_set_level(enum vmc_log_level level);
void vmc_log_set_target(enum vmc_log_target target);

/* Returns 0 and the level, or -EINVAL. */
int vmc_log_level_parse(const char *name, enum vmc_log_level *level);

bool vmc_log_enabled(enum vmc_log_level level);

void vmc_log(enum vmc_log_level level, const char *subsystem, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

void vmc_log_dom(enum vmc_log_level level, uint32_t domid, const char *subsystem,
		 const char *fmt, va_list ap) __attribute__((format(printf, 4, 0)));

#endif /* VMC_LOG_H */
