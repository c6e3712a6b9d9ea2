/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmcd.conf(5): what the operator wants. A configuration is read as a whole and
 * never changes afterwards; a new one takes its place.
 */
#ifndef VMC_CONFIG_H
#define VMC_CONFIG_H

#include "guest.h"
#include "log.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#define VMC_CONFIG_PATH		"/etc/vmc/vmcd.conf"

/* What a guest may use at most: of the host as a whole, or of a group. */
enum vmc_setting {
	VMC_SET_CHANNELS,	/* with other guests at once */
	VMC_SET_STREAMS,	/* that it receives through shared memory at once */
	VMC_SET_MEMORY,		/* bytes that it shares with other guests */
	VMC_SET_GRANTS,		/* grant references for that */
	VMC_SET_RING,		/* bytes in its largest ring */
	VMC_SET_POLL,		/* microseconds that it looks for data before it sleeps */
	VMC_SET_PACKETS,	/* enum vmc_packets */
	VMC_SETTINGS
};

#define VMC_NO_LIMIT	UINT64_MAX

struct vmc_settings {
	uint64_t max[VMC_SETTINGS];	/* VMC_NO_LIMIT: the host sets none */
};

struct vmc_pattern {
	TAILQ_ENTRY(vmc_pattern) entry;
	char text[];
};
TAILQ_HEAD(vmc_patterns, vmc_pattern);

/* Guests that fit one of the patterns of each kind that is given. */
struct vmc_group {
	TAILQ_ENTRY(vmc_group) entry;
	char *name;
	char *where;			/* "FILE:LINE" */
	struct vmc_patterns names;	/* globs, as in fnmatch(3) */
	struct vmc_patterns uuids;
	struct vmc_patterns bridges;	/* globs */
	struct vmc_settings settings;
};

/* Pairs with one guest in @a and the other in @b. */
struct vmc_rule {
	TAILQ_ENTRY(vmc_rule) entry;
	bool allow;
	const struct vmc_group *a, *b;	/* NULL: any guest */
	char *text;			/* "FILE:LINE: deny web any" */
};

struct vmc_config {
	enum vmc_log_level log_level;
	struct vmc_settings settings;
	TAILQ_HEAD(, vmc_group) groups;
	TAILQ_HEAD(, vmc_rule) rules;
};

/* Takes what is wrong with a configuration, a line at a time: "FILE:LINE: what, and a hint". */
typedef void vmc_config_tell(void *arg, const char *text);

/*
 * Reads @path.d/NAME.conf in the order of their names, then @path; of what is given twice
 * the first counts. A directory or, unless @must_exist, a file that is not there is empty.
 * Returns 0 and *ret, which is the caller's; -EINVAL after telling of everything that is
 * wrong, or -ENOMEM.
 */
int vmc_config_load(struct vmc_config **ret, const char *path, bool must_exist,
		    vmc_config_tell *tell, void *arg);

void vmc_config_no_limits(struct vmc_settings *s);

/* One without any file. NULL if memory ran out. */
struct vmc_config *vmc_config_new(void);
void vmc_config_free(struct vmc_config *c);

/* What @g may use: each by the first of its groups that says so, or by the host's. */
struct vmc_settings vmc_config_settings(const struct vmc_config *c, const struct vmc_guest *g);

/* The first rule that fits the two, in either order; NULL if none does: then they may. */
const struct vmc_rule *vmc_config_rule(const struct vmc_config *c, const struct vmc_guest *a,
				       const struct vmc_guest *b);

/* "memory" */
const char *vmc_setting_name(enum vmc_setting which);

/* Is @g in the group? */
bool vmc_config_has(const struct vmc_group *group, const struct vmc_guest *g);

#endif /* VMC_CONFIG_H */
