// SPDX-License-Identifier: GPL-2.0-or-later
#include "log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

static enum vmc_log_level log_level = VMC_LOG_NOTICE;
static enum vmc_log_target log_target = VMC_LOG_TO_STDERR;
static bool log_journal;

static const struct {
	const char *name;
	enum vmc_log_level level;
} level_names[] = {
	{ "error", VMC_LOG_ERROR },	{ "warning", VMC_LOG_WARNING },
	{ "notice", VMC_LOG_NOTICE },	{ "info", VMC_LOG_INFO },
	{ "debug", VMC_LOG_DEBUG },
};

#define NR_LEVELS (sizeof(level_names) / sizeof(level_names[0]))

/* JOURNAL_STREAM names the device and inode of the socket that leads to the journal. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
	       !fstat(STDERR_FILENO, &st) && st.st_dev == dev && st.st_ino == ino;
}

void vmc_log_init(enum vmc_log_level level, enum vmc_log_target target)
{
	log_level = level;
	log_journal = stderr_is_journal();
	vmc_log_set_target(target);
}

void vmc_log_set_target(enum vmc_log_target target)
{
	log_target = target;
	if (target == VMC_LOG_TO_SYSLOG)
		openlog("vmcd", LOG_PID, LOG_DAEMON);
}

void vmc_log_set_level(enum vmc_log_level level)
{
	log_level = level;
}

int vmc_log_level_parse(const char *name, enum vmc_log_level *level)
{
	for (size_t i = 0; i < NR_LEVELS; i++) {
		if (!strcmp(name, level_names[i].name)) {
			*level = level_names[i].level;
			return 0;
		}
	}
	return -EINVAL;
}

bool vmc_log_enabled(enum vmc_log_level level)
{
	return level <= log_level;
}

static const char *level_name(enum vmc_log_level level)
{
	for (size_t i = 0; i < NR_LEVELS; i++)
		if (level_names[i].level == level)
			return level_names[i].name;
	return "";
}

void vmc_log_dom(enum vmc_log_level level, uint32_t domid, const char *subsystem,
		 const char *fmt, va_list ap)
{
	char dom[16] = "", text[512];

	if (!vmc_log_enabled(level))
		return;
	if (domid != VMC_LOG_NO_DOMID)
		snprintf(dom, sizeof(dom), "d%u ", domid);
	vsnprintf(text, sizeof(text), fmt, ap);
	if (log_target == VMC_LOG_TO_SYSLOG)
		syslog((int)level, "%s%s: %s", dom, subsystem, text);
	else if (log_journal)
		fprintf(stderr, "<%d>%s%s: %s\n", (int)level, dom, subsystem, text);
	else
		fprintf(stderr, "vmcd: %s: %s%s: %s\n", level_name(level), dom, subsystem,
			text);
}

void vmc_log(enum vmc_log_level level, const char *subsystem, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vmc_log_dom(level, VMC_LOG_NO_DOMID, subsystem, fmt, ap);
	va_end(ap);
}
