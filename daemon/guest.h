/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guests: every domain except Dom0 that runs here, and its vmc device once it
 * has a vif. A guest is known by domid and uuid together, because domids are
 * used again.
 */
#ifndef VMC_GUEST_H
#define VMC_GUEST_H

#include "log.h"
#include "util.h"
#include "vmc_wire.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct event;
struct vmc_link;
struct vmcd;

#define VMC_NAME_MAX	128u
#define VMC_BRIDGE_MAX	64u
#define VMC_ERROR_MAX	128u

struct vmc_vif {
	uint8_t mac[6];
	bool dup;		/* another guest on this bridge has the same MAC */
	char bridge[VMC_BRIDGE_MAX];
};

struct vmc_vifs {
	unsigned int count;
	struct vmc_vif vif[VMC_MACS_MAX];
};

enum vmc_guest_state {
	VMC_GUEST_NO_DEVICE,	/* no vif yet, or vmcd could not make the device */
	VMC_GUEST_WAITING,	/* device made, no driver */
	VMC_GUEST_CONNECTED,	/* has a link */
	VMC_GUEST_REFUSED,	/* error says why */
	VMC_GUEST_REMOVED,	/* the device was taken out of XenStore, not by vmcd */
};

struct vmc_peer;
struct vmc_chan_end;
struct vmc_prepare;

/* What a guest last said about itself; numbers are the guest's word only. */
struct vmc_guest_stats {
	uint32_t query;		/* that it belongs to; 0: never */
	uint32_t sockets;
	uint32_t grants;
	uint32_t mapped;
	uint64_t hooked;
	uint64_t bytes_granted;
	uint64_t reasons[VMC_STATS_REASONS];
};

struct vmc_guest {
	TAILQ_ENTRY(vmc_guest) entry;
	struct vmcd *d;
	uint32_t domid;
	uint8_t uuid[16];
	bool seen;			/* in the scan that is running */
	char name[VMC_NAME_MAX];
	struct vmc_vifs vifs;
	enum vmc_guest_state state;
	char error[VMC_ERROR_MAX];

	/* The frontend. */
	bool watched;
	bool left;			/* refused, and its driver has gone through 1, 5 or 6 since */
	struct event *front_event;
	struct vmc_ratelimit front_rate;

	struct vmc_link *link;
	char driver[VMC_VERSION_LEN];
	uint32_t protocol;

	TAILQ_HEAD(, vmc_peer) peers;		/* that it was told of */
	TAILQ_HEAD(, vmc_chan_end) chan_ends;
	unsigned int nr_chans;

	struct vmc_prepare *prepare;	/* NULL: it is to have peers */

	bool stats_due;
	struct vmc_guest_stats stats;
	struct vmc_ratelimit log_rate;
};

/* Compares the domains that exist with those that are known. */
void vmc_guest_scan(struct vmcd *d);

/* One watch event. */
void vmc_guest_watch(struct vmcd *d, const char *path, const char *token);

/* Registers the watches that concern all guests. Returns 0 or -errno. */
int vmc_guest_start(struct vmcd *d);

struct vmc_guest *vmc_guest_by_domid(struct vmcd *d, uint32_t domid);

/* Gives up the link if there is one, and tells the frontend why. */
void vmc_guest_refuse(struct vmc_guest *g, const char *why);

/* The link is dead or goes away: channels are closed and peers told, then it is dropped. */
void vmc_guest_lose_link(struct vmc_guest *g, enum vmc_reason reason);

/*
 * Frees what vmcd knows of @g and unmaps its pages. Does not touch XenStore nor
 * tell anyone: for that, vmc_guest_scan().
 */
void vmc_guest_free(struct vmc_guest *g);

const char *vmc_guest_state_name(const struct vmc_guest *g);

/* Is it stopped by the toolstack, so that its silence means nothing? */
bool vmc_guest_paused(struct vmc_guest *g);

/* A log line about @g, at most a few in a row. */
void vmc_guest_log(struct vmc_guest *g, enum vmc_log_level level, const char *subsystem,
		   const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#endif /* VMC_GUEST_H */
