/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Everything that vmcd asks of Xen. The daemon's logic knows only this; the
 * real thing is in xen_real.c, and the unit tests bring a fake.
 *
 * All calls return 0 (or what they say) on success and -errno on failure, and
 * may block only as long as the hypervisor or xenstored takes to answer.
 */
#ifndef VMC_XEN_H
#define VMC_XEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VMC_XEN_PATH_MAX	256u	/* of the paths that vmcd uses */
#define VMC_XEN_VALUE_MAX	256u	/* of the values that vmcd reads */
#define VMC_XEN_PORT_MAX	((1u << 17) - 1)	/* FIFO event channels */
#define VMC_XEN_GREF_MIN	8u	/* those below are reserved by the grant-table ABI */

struct vmc_dominfo {
	uint32_t domid;
	uint8_t uuid[16];
	bool dying;
	bool paused;
	bool shutdown;		/* stopped, for a reason that follows */
	bool suspended;		/* shutdown, because it is being saved or migrated */
	bool crashed;		/* shutdown, because it crashed */
};

struct vmc_xen;

/* A XenStore transaction; VMC_XEN_NO_TX for single operations. */
typedef uint32_t vmc_xen_tx;
#define VMC_XEN_NO_TX	0u

struct vmc_xen_ops {
	/*
	 * Reads a node into @buf and terminates it. Returns the length; -ENOENT;
	 * -E2BIG if it does not fit; -EILSEQ if it contains a NUL.
	 */
	int (*read)(struct vmc_xen *x, vmc_xen_tx t, const char *path, char *buf,
		    size_t size);
	int (*write)(struct vmc_xen *x, vmc_xen_tx t, const char *path, const char *value);
	int (*mkdir)(struct vmc_xen *x, vmc_xen_tx t, const char *path);
	int (*rm)(struct vmc_xen *x, vmc_xen_tx t, const char *path);
	/* Owned by @owner, readable by @reader, by nobody else. */
	int (*set_perms)(struct vmc_xen *x, vmc_xen_tx t, const char *path, uint32_t owner,
			 uint32_t reader);
	/* One allocation: free(*names) frees all. */
	int (*directory)(struct vmc_xen *x, vmc_xen_tx t, const char *path, char ***names,
			 unsigned int *count);
	int (*begin)(struct vmc_xen *x, vmc_xen_tx *t);
	/* -EAGAIN: somebody else changed what this one read; do it again. */
	int (*end)(struct vmc_xen *x, vmc_xen_tx t, bool commit);

	int (*watch)(struct vmc_xen *x, const char *path, const char *token);
	int (*unwatch)(struct vmc_xen *x, const char *path, const char *token);
	/* Returns 1 and the next event, 0 if there is none now. Longer paths are cut off. */
	int (*watch_next)(struct vmc_xen *x, char *path, size_t path_size, char *token,
			  size_t token_size);

	/* Up to @max domains from @first on. Returns how many. */
	int (*domains)(struct vmc_xen *x, uint32_t first, unsigned int max,
		       struct vmc_dominfo *info);

	/* Maps @count pages of @domid, readable and writable, one after the other. */
	int (*map)(struct vmc_xen *x, uint32_t domid, const uint32_t *refs,
		   unsigned int count, void **addr);
	void (*unmap)(struct vmc_xen *x, void *addr, unsigned int count);

	/*
	 * How many pages that @owner has granted to @user are mapped by it now, by
	 * @owner's grant table. -ESRCH if there is no such domain.
	 */
	int (*mapped)(struct vmc_xen *x, uint32_t owner, uint32_t user);

	/* Returns the local port. */
	int (*bind)(struct vmc_xen *x, uint32_t domid, uint32_t remote_port);
	void (*unbind)(struct vmc_xen *x, uint32_t port);
	int (*notify)(struct vmc_xen *x, uint32_t port);
	/* Returns a port that was notified; call it only when evtchn_fd is readable. */
	int (*pending)(struct vmc_xen *x);
	/* A port that was pending is silent until it is unmasked. */
	int (*unmask)(struct vmc_xen *x, uint32_t port);
};

struct vmc_xen {
	const struct vmc_xen_ops *ops;
	int store_fd;		/* readable: watch_next() may have something */
	int evtchn_fd;		/* readable: pending() */
};

/*
 * Opens xenstored and the Xen devices. On failure it has logged which of them
 * is missing, and why, and returns -errno.
 */
int vmc_xen_open(struct vmc_xen **xen);
void vmc_xen_close(struct vmc_xen *xen);

#endif /* VMC_XEN_H */
