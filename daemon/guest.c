// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest.h"

#include "chan.h"
#include "events.h"
#include "link.h"
#include "peer.h"
#include "prepare.h"
#include "quarantine.h"
#include "stats.h"
#include "store.h"
#include "vmcd.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DOMS_PER_CALL	64

#define TOKEN_INTRODUCE	"introduce"
#define TOKEN_RELEASE	"release"
#define TOKEN_VIF	"vif"
#define TOKEN_FRONT	'f'	/* and the domid */
#define TOKEN_NAME	'n'

#define VIF_TREE	"/local/domain/0/backend/vif"

/* -------------------------------------------------------------------- logs */

void vmc_guest_log(struct vmc_guest *g, enum vmc_log_level level, const char *subsystem,
		   const char *fmt, ...)
{
	uint32_t refused = g->log_rate.refused;
	va_list ap;

	if (!vmc_log_enabled(level) || !vmc_ratelimit_ok(&g->log_rate))
		return;
	if (refused) {
		vmc_log(VMC_LOG_NOTICE, subsystem, "d%u: %u messages about it left out",
			g->domid, refused);
		g->log_rate.refused = 0;
	}
	va_start(ap, fmt);
	vmc_log_dom(level, g->domid, subsystem, fmt, ap);
	va_end(ap);
}

const char *vmc_guest_state_name(const struct vmc_guest *g)
{
	switch (g->state) {
	case VMC_GUEST_CONNECTED:
		return "connected";
	case VMC_GUEST_REFUSED:
		return "refused";
	case VMC_GUEST_REMOVED:
		return "gone";
	case VMC_GUEST_NO_DEVICE:
	case VMC_GUEST_WAITING:
	default:
		return "waiting";
	}
}

/* ------------------------------------------------------------------- table */

struct vmc_guest *vmc_guest_by_domid(struct vmcd *d, uint32_t domid)
{
	struct vmc_guest *g;

	TAILQ_FOREACH(g, &d->guests, entry)
		if (g->domid == domid)
			return g;
	return NULL;
}

bool vmc_guest_paused(struct vmc_guest *g)
{
	struct vmc_xen *xen = g->d->xen;
	struct vmc_dominfo info;

	return xen->ops->domains(xen, g->domid, 1, &info) == 1 &&
	       info.domid == g->domid && (info.paused || info.suspended);
}

static void tell(const struct vmc_guest *g, const char *what, const char *detail)
{
	vmc_event(g->d, &(struct vmc_event){ .name = what, .domid = g->domid, .detail = detail });
}

/* -------------------------------------------------------------- the device */

void vmc_guest_lose_link(struct vmc_guest *g, enum vmc_reason reason)
{
	if (!g->link)
		return;
	g->link->leaving = true;	/* nothing more is sent on it */
	vmc_stats_guest_lost(g);
	vmc_chan_guest_lost(g, reason);
	vmc_peer_forget(g, reason);
	vmc_link_drop(g);
	if (g->state == VMC_GUEST_CONNECTED)
		g->state = VMC_GUEST_WAITING;
	tell(g, "guest-disconnected", vmc_reason_name(reason));
	vmcd_schedule(g->d);
}

void vmc_guest_refuse(struct vmc_guest *g, const char *why)
{
	int err;

	vmc_guest_log(g, VMC_LOG_WARNING, "link", "refused: %s", why);
	vmc_guest_lose_link(g, VMC_R_PROTOCOL);
	snprintf(g->error, sizeof(g->error), "%s", why);
	g->state = VMC_GUEST_REFUSED;
	g->left = false;
	tell(g, "guest-refused", g->error);
	err = vmc_store_refuse(g->d->xen, g->domid, g->error);
	if (err && err != -ENOENT)
		vmc_guest_log(g, VMC_LOG_WARNING, "store", "cannot tell the frontend: %s",
			      strerror(-err));
	vmcd_schedule(g->d);
}

static void attach(struct vmc_guest *g)
{
	char why[VMC_ERROR_MAX] = "";

	if (vmc_link_attach(g, why)) {
		vmc_guest_refuse(g, why);
		return;
	}
	g->state = VMC_GUEST_CONNECTED;
	g->error[0] = '\0';
	vmc_guest_log(g, VMC_LOG_INFO, "link", "attached: driver %s, protocol %u%s",
		      g->driver, g->protocol,
		      g->link->fresh ? "" : ", to a link in use");
	tell(g, "guest-connected", g->driver);
	vmcd_schedule(g->d);
}

/* A refused guest's driver starts again: so does vmcd. */
static void forgive(struct vmc_guest *g)
{
	vmc_store_unrefuse(g->d->xen, g->domid);
	g->error[0] = '\0';
	g->state = VMC_GUEST_WAITING;
	vmcd_schedule(g->d);
}

static void front_removed(struct vmc_guest *g)
{
	/* A domain that dies loses its nodes too: the scan finds that out. */
	g->d->scan_due = true;
	vmc_guest_log(g, VMC_LOG_INFO, "store", "its device is gone from XenStore");
	vmc_guest_lose_link(g, VMC_R_PEER_GONE);
	g->state = VMC_GUEST_REMOVED;
	vmcd_schedule(g->d);
}

static void front_connected(struct vmc_guest *g)
{
	if (g->state == VMC_GUEST_REFUSED) {
		/* Its state 1 was too short to be seen, but it did go through it. */
		if (!g->left)
			return;
		forgive(g);
	}
	if (g->link) {
		/* A failed link is about to be refused; one that said BYE has left before. */
		if (g->link->failed || (!g->link->leaving && vmc_link_current(g)))
			return;
		vmc_guest_log(g, VMC_LOG_INFO, "link", "the frontend has started again");
		vmc_guest_lose_link(g, VMC_R_PEER_GONE);
	}
	attach(g);
}

static void front_closed(struct vmc_guest *g)
{
	int err;

	if (g->state == VMC_GUEST_REFUSED) {
		g->left = true;
		return;
	}
	vmc_guest_lose_link(g, VMC_R_PEER_GONE);
	err = vmc_store_reset(g->d->xen, g->domid);
	if (err && err != -ENOENT)
		vmc_guest_log(g, VMC_LOG_WARNING, "store", "cannot reset its device: %s",
			      strerror(-err));
}

/* Brings vmcd's view in line with what the frontend's state says now. */
static void look_at_front(struct vmc_guest *g)
{
	int state;

	if (g->state == VMC_GUEST_NO_DEVICE || g->state == VMC_GUEST_REMOVED)
		return;
	state = vmc_store_front_state(g->d->xen, g->domid);
	vmc_guest_log(g, VMC_LOG_DEBUG, "store", "frontend state %d", state);
	switch (state) {
	case -ENOENT:
		front_removed(g);
		break;
	case VMC_XB_INITIALISING:
		if (g->state == VMC_GUEST_REFUSED)
			forgive(g);
		vmc_guest_lose_link(g, VMC_R_PEER_GONE);
		if (vmc_store_back_state(g->d->xen, g->domid) != VMC_XB_INIT_WAIT)
			vmc_store_set_back_state(g->d->xen, g->domid, VMC_XB_INIT_WAIT);
		break;
	case VMC_XB_CONNECTED:
		front_connected(g);
		break;
	case VMC_XB_CLOSING:
		if (g->state == VMC_GUEST_REFUSED)
			g->left = true;
		vmc_guest_lose_link(g, VMC_R_PEER_GONE);
		break;
	case VMC_XB_CLOSED:
		front_closed(g);
		break;
	default:	/* on its way, or rubbish, which means nothing */
		break;
	}
}

static void on_front(evutil_socket_t fd, short what, void *arg)
{
	struct vmc_guest *g = arg;
	struct timeval tv;

	(void)fd;
	(void)what;
	if (!vmc_ratelimit_ok(&g->front_rate)) {
		tv = vmc_timeval(g->d->timing.front);
		event_add(g->front_event, &tv);
		return;
	}
	look_at_front(g);
}

/* Many events in a row are one look. */
static void front_changed(struct vmc_guest *g)
{
	static const struct timeval now = { 0, 0 };

	if (!event_pending(g->front_event, EV_TIMEOUT, NULL))
		event_add(g->front_event, &now);
}

static void watch_front(struct vmc_guest *g)
{
	char path[VMC_XEN_PATH_MAX], token[16];
	int err;

	vmc_store_front_path(path, g->domid, "state");
	snprintf(token, sizeof(token), "%c%u", TOKEN_FRONT, g->domid);
	err = g->d->xen->ops->watch(g->d->xen, path, token);
	if (err)
		vmc_guest_log(g, VMC_LOG_ERROR, "store", "cannot watch %s: %s", path,
			      strerror(-err));
	g->watched = !err;
}

/* Makes the device, or takes over the one that a former vmcd made. */
static void make_device(struct vmc_guest *g)
{
	struct vmc_xen *xen = g->d->xen;
	int err;

	if (vmc_store_exists(xen, g->domid)) {
		g->state = VMC_GUEST_WAITING;
		if (vmc_store_back_state(xen, g->domid) == VMC_XB_CLOSED) {
			vmc_store_error(xen, g->domid, g->error, sizeof(g->error));
			if (g->error[0])
				g->state = VMC_GUEST_REFUSED;
		}
		vmc_guest_log(g, VMC_LOG_INFO, "store", "found its device");
	} else {
		err = vmc_store_create(xen, g->domid);
		if (err) {
			vmc_guest_log(g, err == -ENOENT ? VMC_LOG_INFO : VMC_LOG_WARNING,
				      "store", "cannot make its device: %s",
				      strerror(-err));
			return;
		}
		g->state = VMC_GUEST_WAITING;
		vmc_guest_log(g, VMC_LOG_INFO, "store", "made its device");
	}
	tell(g, "guest-joined", "");
	watch_front(g);
	front_changed(g);
	vmcd_schedule(g->d);
}

/* ----------------------------------------------------------- domains and vifs */

static bool vifs_equal(const struct vmc_vifs *a, const struct vmc_vifs *b)
{
	if (a->count != b->count)
		return false;
	for (unsigned int i = 0; i < a->count; i++)
		if (memcmp(a->vif[i].mac, b->vif[i].mac, sizeof(a->vif[i].mac)) ||
		    strcmp(a->vif[i].bridge, b->vif[i].bridge))
			return false;
	return true;
}

static void vifs_changed(struct vmc_guest *g)
{
	struct vmc_vifs vifs;

	vmc_store_read_vifs(g->d->xen, g->domid, &vifs);
	if (!vifs_equal(&vifs, &g->vifs)) {
		g->vifs = vifs;
		g->d->peers_due = true;
		vmcd_schedule(g->d);
	}
	if (g->state == VMC_GUEST_NO_DEVICE && g->vifs.count)
		make_device(g);
}

static void watch_name(struct vmc_guest *g, bool on)
{
	char path[VMC_XEN_PATH_MAX], token[16];

	snprintf(path, sizeof(path), "/local/domain/%u/name", g->domid);
	snprintf(token, sizeof(token), "%c%u", TOKEN_NAME, g->domid);
	if (on)
		g->d->xen->ops->watch(g->d->xen, path, token);
	else
		g->d->xen->ops->unwatch(g->d->xen, path, token);
}

static void guest_add(struct vmcd *d, const struct vmc_dominfo *info)
{
	struct vmc_guest *g = calloc(1, sizeof(*g));

	if (g)
		g->front_event = evtimer_new(d->base, on_front, g);
	if (!g || !g->front_event) {
		vmc_log(VMC_LOG_ERROR, "guest", "no memory for d%u", info->domid);
		free(g);
		return;
	}
	g->d = d;
	g->domid = info->domid;
	memcpy(g->uuid, info->uuid, sizeof(g->uuid));
	g->seen = true;
	TAILQ_INIT(&g->peers);
	TAILQ_INIT(&g->chan_ends);
	vmc_ratelimit_init(&g->front_rate, 32, d->timing.front);
	vmc_ratelimit_init(&g->log_rate, 20, 3000);
	TAILQ_INSERT_TAIL(&d->guests, g, entry);
	vmc_store_read_name(d->xen, g->domid, g->name, sizeof(g->name));
	watch_name(g, true);
	vmc_guest_log(g, VMC_LOG_DEBUG, "guest", "is here");
	vifs_changed(g);
}

void vmc_guest_free(struct vmc_guest *g)
{
	char path[VMC_XEN_PATH_MAX], token[16];
	struct vmcd *d = g->d;

	vmc_prepare_forget(g);
	vmc_quarantine_forget(g);
	vmc_link_drop(g);
	if (g->watched) {
		vmc_store_front_path(path, g->domid, "state");
		snprintf(token, sizeof(token), "%c%u", TOKEN_FRONT, g->domid);
		d->xen->ops->unwatch(d->xen, path, token);
	}
	watch_name(g, false);
	TAILQ_REMOVE(&d->guests, g, entry);
	event_free(g->front_event);
	free(g);
}

/* The domain is dead, or about to be: its peers let go of it at once. */
static void guest_gone(struct vmc_guest *g, const char *how)
{
	struct vmcd *d = g->d;

	if (g->state != VMC_GUEST_NO_DEVICE)
		vmc_guest_log(g, VMC_LOG_INFO, "guest", "%s", how);
	vmc_guest_lose_link(g, VMC_R_PEER_GONE);
	if (g->state != VMC_GUEST_NO_DEVICE) {
		vmc_store_remove(d->xen, g->domid);
		tell(g, "guest-left", how);
	}
	vmc_guest_free(g);
	d->peers_due = true;
	vmcd_schedule(d);
}

static void scan_one(struct vmcd *d, const struct vmc_dominfo *info)
{
	struct vmc_guest *g = vmc_guest_by_domid(d, info->domid);

	if (g && memcmp(g->uuid, info->uuid, sizeof(g->uuid))) {
		guest_gone(g, "gone, and its domid used again");
		g = NULL;
	}
	if (info->dying || (info->shutdown && !info->suspended)) {
		/* Not seen: the peers of a crashed guest must not wait for its destruction. */
		if (g)
			guest_gone(g, info->dying ? "is dying" :
				   info->crashed ? "crashed" : "shut down");
		return;
	}
	if (!g) {
		guest_add(d, info);
		return;
	}
	g->seen = true;
	if (g->state == VMC_GUEST_NO_DEVICE)
		vifs_changed(g);
}

void vmc_guest_scan(struct vmcd *d)
{
	struct vmc_dominfo info[DOMS_PER_CALL];
	struct vmc_guest *g, *next;
	uint32_t first = 1;	/* Dom0 is no guest */
	int n;

	TAILQ_FOREACH(g, &d->guests, entry)
		g->seen = false;
	do {
		n = d->xen->ops->domains(d->xen, first, DOMS_PER_CALL, info);
		if (n < 0) {
			vmc_log(VMC_LOG_ERROR, "guest", "cannot list domains: %s",
				strerror(-n));
			return;		/* nobody is forgotten because of that */
		}
		for (int i = 0; i < n; i++) {
			scan_one(d, &info[i]);
			first = info[i].domid + 1;
		}
	} while (n == DOMS_PER_CALL);

	for (g = TAILQ_FIRST(&d->guests); g; g = next) {
		next = TAILQ_NEXT(g, entry);
		if (!g->seen)
			guest_gone(g, "is gone");
	}
}

/* --------------------------------------------------------------------- watches */

/* Whether @path, below the tree of vif backends, may say something about MACs and bridges. */
static bool vif_event(const char *path, uint32_t *domid)
{
	char id[12];
	size_t len;

	if (strncmp(path, VIF_TREE "/", sizeof(VIF_TREE)))
		return false;
	path += sizeof(VIF_TREE);
	len = strcspn(path, "/");
	if (len >= sizeof(id))
		return false;
	memcpy(id, path, len);
	id[len] = '\0';
	if (vmc_parse_u32(id, UINT16_MAX, domid))
		return false;
	path += len;
	if (!*path)
		return true;		/* all of the domain's vifs, removed */
	path++;
	path += strcspn(path, "/");
	return !*path || !strcmp(path, "/mac") || !strcmp(path, "/bridge");
}

void vmc_guest_watch(struct vmcd *d, const char *path, const char *token)
{
	struct vmc_guest *g;
	uint32_t domid;

	if (!strcmp(token, TOKEN_INTRODUCE) || !strcmp(token, TOKEN_RELEASE)) {
		d->scan_due = true;
		vmcd_schedule(d);
		return;
	}
	if (!strcmp(token, TOKEN_VIF)) {
		if (!vif_event(path, &domid))
			return;
		g = vmc_guest_by_domid(d, domid);
		if (g)
			vifs_changed(g);
		return;
	}
	if (vmc_parse_u32(token + 1, UINT16_MAX, &domid))
		return;
	g = vmc_guest_by_domid(d, domid);
	if (!g)
		return;
	if (*token == TOKEN_FRONT) {
		front_changed(g);
	} else if (*token == TOKEN_NAME) {
		vmc_store_read_name(d->xen, domid, g->name, sizeof(g->name));
		d->peers_due = true;	/* rules may go by it */
		vmcd_schedule(d);
	}
}

int vmc_guest_start(struct vmcd *d)
{
	static const struct {
		const char *path;
		const char *token;
	} watches[] = {
		{ "@introduceDomain", TOKEN_INTRODUCE },
		{ "@releaseDomain", TOKEN_RELEASE },
		{ VIF_TREE, TOKEN_VIF },
	};

	for (size_t i = 0; i < sizeof(watches) / sizeof(watches[0]); i++) {
		int err = d->xen->ops->watch(d->xen, watches[i].path, watches[i].token);

		if (err) {
			vmc_log(VMC_LOG_ERROR, "store", "cannot watch %s in XenStore: %s",
				watches[i].path, strerror(-err));
			return err;
		}
	}
	return 0;
}
