/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The XenStore nodes of a vmc device, and what Dom0 knows about vifs. */
#ifndef VMC_STORE_H
#define VMC_STORE_H

#include "guest.h"
#include "vmc_xenstore.h"
#include "xen.h"


enum vmc_xenbus_state {
	VMC_XB_UNKNOWN = 0,
	VMC_XB_INITIALISING = 1,
	VMC_XB_INIT_WAIT = 2,
	VMC_XB_INITIALISED = 3,
	VMC_XB_CONNECTED = 4,
	VMC_XB_CLOSING = 5,
	VMC_XB_CLOSED = 6,
};

/* What a frontend published, checked. */
struct vmc_front {
	uint32_t version_min;
	uint32_t version_max;
	uint32_t port;
	uint32_t ref[VMC_LINK_PAGES];
	char driver[VMC_VERSION_LEN];
};

void vmc_store_front_path(char path[VMC_XEN_PATH_MAX], uint32_t domid, const char *node);
void vmc_store_back_path(char path[VMC_XEN_PATH_MAX], uint32_t domid, const char *node);

/*
 * Makes the device, in one transaction, in place of whatever was there. -ENOENT
 * if the domain has no home in XenStore (any more).
 */
int vmc_store_create(struct vmc_xen *xen, uint32_t domid);

/* Both directories are there: they belong to a device that a former vmcd made. */
bool vmc_store_exists(struct vmc_xen *xen, uint32_t domid);

/* Removes both directories; the domain may be gone already. */
void vmc_store_remove(struct vmc_xen *xen, uint32_t domid);

/* Xenbus states; VMC_XB_UNKNOWN for rubbish, -ENOENT if there is no such node. */
int vmc_store_front_state(struct vmc_xen *xen, uint32_t domid);
int vmc_store_back_state(struct vmc_xen *xen, uint32_t domid);
int vmc_store_set_back_state(struct vmc_xen *xen, uint32_t domid,
			     enum vmc_xenbus_state state);

/* Backend closed, with the reason. */
int vmc_store_refuse(struct vmc_xen *xen, uint32_t domid, const char *why);
/* Takes the reason back; the frontend may connect again. */
int vmc_store_unrefuse(struct vmc_xen *xen, uint32_t domid);
/* The reason that a former vmcd left, or an empty text. */
void vmc_store_error(struct vmc_xen *xen, uint32_t domid, char *why, size_t size);

/*
 * The driver has left: a fresh device for the next one, unless the frontend has
 * moved on since.
 */
int vmc_store_reset(struct vmc_xen *xen, uint32_t domid);

/* Returns 0, or -errno and the offending node's name. */
int vmc_store_read_front(struct vmc_xen *xen, uint32_t domid, struct vmc_front *front,
			 const char **bad);

/* What Dom0 set up for the guest; vifs without a bridge or a good MAC don't count. */
void vmc_store_read_vifs(struct vmc_xen *xen, uint32_t domid, struct vmc_vifs *vifs);
void vmc_store_read_name(struct vmc_xen *xen, uint32_t domid, char *name, size_t size);

#endif /* VMC_STORE_H */
