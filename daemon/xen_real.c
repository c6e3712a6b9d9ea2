// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The real Xen: libxenstore, libxenctrl, libxengnttab, libxenevtchn, and
 * libxenforeignmemory for a look at other domains' grant tables.
 *
 * libxenstore starts one thread of its own with the first watch; it does
 * nothing but read the socket and sort answers from events. Everything here is
 * called from the daemon's only thread.
 */
#include "xen.h"

#include "log.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xenctrl.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xengnttab.h>
#include <xenstore.h>
#include <xentoollog.h>

struct real {
	struct vmc_xen xen;
	struct xs_handle *xs;
	xc_interface *xc;
	xengnttab_handle *gnttab;
	xenforeignmemory_handle *fmem;
	xenevtchn_handle *evtchn;
};

/*
 * The libraries complain about every grant reference that can't be mapped, and a
 * guest chooses those. vmcd says what went wrong itself, and how often.
 */
static void xtl_message(struct xentoollog_logger *logger, xentoollog_level level,
			int errnoval, const char *context, const char *format, va_list ap)
	__attribute__((format(printf, 5, 0)));

static void xtl_message(struct xentoollog_logger *logger, xentoollog_level level,
			int errnoval, const char *context, const char *format, va_list ap)
{
	char text[256];

	(void)logger;
	(void)level;
	(void)errnoval;
	if (!vmc_log_enabled(VMC_LOG_DEBUG))
		return;
	vsnprintf(text, sizeof(text), format, ap);
	vmc_log(VMC_LOG_DEBUG, "xen", "%s: %s", context ? context : "library", text);
}

static void xtl_destroy(struct xentoollog_logger *logger)
{
	(void)logger;
}

static struct xentoollog_logger xtl = {
	.vmessage = xtl_message,
	.destroy = xtl_destroy,
};

static struct real *real(struct vmc_xen *x)
{
	return (struct real *)x;
}

static int neg_errno(void)
{
	return errno > 0 ? -errno : -EIO;
}

static int real_read(struct vmc_xen *x, vmc_xen_tx t, const char *path, char *buf,
		     size_t size)
{
	unsigned int len;
	char *untrusted = xs_read(real(x)->xs, t, path, &len);
	int ret;

	if (!untrusted)
		return neg_errno();
	if (len >= size) {
		ret = -E2BIG;
	} else if (memchr(untrusted, '\0', len)) {
		ret = -EILSEQ;
	} else {
		memcpy(buf, untrusted, len);
		buf[len] = '\0';
		ret = (int)len;
	}
	free(untrusted);
	return ret;
}

static int real_write(struct vmc_xen *x, vmc_xen_tx t, const char *path, const char *value)
{
	return xs_write(real(x)->xs, t, path, value, (unsigned int)strlen(value)) ?
	       0 : neg_errno();
}

static int real_mkdir(struct vmc_xen *x, vmc_xen_tx t, const char *path)
{
	return xs_mkdir(real(x)->xs, t, path) ? 0 : neg_errno();
}

static int real_rm(struct vmc_xen *x, vmc_xen_tx t, const char *path)
{
	return xs_rm(real(x)->xs, t, path) ? 0 : neg_errno();
}

static int real_set_perms(struct vmc_xen *x, vmc_xen_tx t, const char *path,
			  uint32_t owner, uint32_t reader)
{
	struct xs_permissions perms[2] = {
		{ .id = owner, .perms = XS_PERM_NONE },
		{ .id = reader, .perms = XS_PERM_READ },
	};

	return xs_set_permissions(real(x)->xs, t, path, perms, 2) ? 0 : neg_errno();
}

static int real_directory(struct vmc_xen *x, vmc_xen_tx t, const char *path,
			  char ***names, unsigned int *count)
{
	unsigned int n;
	char **list = xs_directory(real(x)->xs, t, path, &n);

	if (!list)
		return neg_errno();
	*names = list;
	*count = n;
	return 0;
}

static int real_begin(struct vmc_xen *x, vmc_xen_tx *t)
{
	xs_transaction_t tx = xs_transaction_start(real(x)->xs);

	if (tx == XBT_NULL)
		return neg_errno();
	*t = tx;
	return 0;
}

static int real_end(struct vmc_xen *x, vmc_xen_tx t, bool commit)
{
	return xs_transaction_end(real(x)->xs, t, !commit) ? 0 : neg_errno();
}

static int real_watch(struct vmc_xen *x, const char *path, const char *token)
{
	return xs_watch(real(x)->xs, path, token) ? 0 : neg_errno();
}

static int real_unwatch(struct vmc_xen *x, const char *path, const char *token)
{
	return xs_unwatch(real(x)->xs, path, token) ? 0 : neg_errno();
}

static int real_watch_next(struct vmc_xen *x, char *path, size_t path_size, char *token,
			   size_t token_size)
{
	char **event = xs_check_watch(real(x)->xs);

	if (!event)
		return errno == EAGAIN ? 0 : neg_errno();
	snprintf(path, path_size, "%s", event[XS_WATCH_PATH]);
	snprintf(token, token_size, "%s", event[XS_WATCH_TOKEN]);
	free(event);
	return 1;
}

static int real_domains(struct vmc_xen *x, uint32_t first, unsigned int max,
			struct vmc_dominfo *info)
{
	xc_domaininfo_t *list = calloc(max, sizeof(*list));
	int n;

	if (!list)
		return -ENOMEM;
	n = xc_domain_getinfolist(real(x)->xc, first, max, list);
	if (n < 0)
		n = neg_errno();
	for (int i = 0; i < n; i++) {
		uint32_t flags = list[i].flags;
		uint32_t reason = (flags >> XEN_DOMINF_shutdownshift) &
				  XEN_DOMINF_shutdownmask;
		bool shutdown = flags & XEN_DOMINF_shutdown;

		info[i] = (struct vmc_dominfo){
			.domid = list[i].domain,
			.dying = flags & XEN_DOMINF_dying,
			.paused = flags & XEN_DOMINF_paused,
			.shutdown = shutdown,
			.suspended = shutdown && reason == SHUTDOWN_suspend,
			.crashed = shutdown && reason == SHUTDOWN_crash,
		};
		memcpy(info[i].uuid, list[i].handle, sizeof(info[i].uuid));
	}
	free(list);
	return n;
}

static int real_map(struct vmc_xen *x, uint32_t domid, const uint32_t *refs,
		    unsigned int count, void **addr)
{
	uint32_t copy[16];
	void *p;

	if (!count || count > sizeof(copy) / sizeof(copy[0]))
		return -EINVAL;
	memcpy(copy, refs, count * sizeof(copy[0]));
	p = xengnttab_map_domain_grant_refs(real(x)->gnttab, count, domid, copy,
					    PROT_READ | PROT_WRITE);
	if (!p)
		return neg_errno();
	*addr = p;
	return 0;
}

static void real_unmap(struct vmc_xen *x, void *addr, unsigned int count)
{
	if (xengnttab_unmap(real(x)->gnttab, addr, count))
		vmc_log(VMC_LOG_ERROR, "xen", "cannot unmap granted pages: %s",
			strerror(errno));
}

/* The frames of a domain's grant table, of one kind; NULL with errno. */
static void *grant_frames(struct real *r, uint32_t domid, unsigned int id, size_t count,
			  xenforeignmemory_resource_handle **handle)
{
	void *addr = NULL;

	*handle = xenforeignmemory_map_resource(r->fmem, (domid_t)domid, XENMEM_resource_grant_table, id,
						0, count, &addr, PROT_READ, 0);
	return *handle ? addr : NULL;
}

static bool in_use(unsigned int flags)
{
	return flags & (GTF_reading | GTF_writing);
}

static int mapped_v1(struct real *r, uint32_t owner, uint32_t user, unsigned int frames)
{
	xenforeignmemory_resource_handle *handle;
	const volatile grant_entry_v1_t *e = grant_frames(r, owner,
							  XENMEM_resource_grant_table_id_shared,
							  frames, &handle);
	int n = 0;

	if (!e)
		return neg_errno();
	for (size_t i = 0; i < (size_t)frames * XC_PAGE_SIZE / sizeof(*e); i++)
		n += e[i].domid == user && in_use(e[i].flags);
	xenforeignmemory_unmap_resource(r->fmem, handle);
	return n;
}

/* Version 2 keeps what is in use apart from who may. */
static int mapped_v2(struct real *r, uint32_t owner, uint32_t user, unsigned int frames)
{
	size_t entries = (size_t)frames * XC_PAGE_SIZE / sizeof(grant_entry_v2_t);
	size_t words = XC_PAGE_SIZE / sizeof(grant_status_t);
	xenforeignmemory_resource_handle *shared, *status = NULL;
	const volatile grant_entry_v2_t *e = grant_frames(r, owner,
							  XENMEM_resource_grant_table_id_shared,
							  frames, &shared);
	const volatile grant_status_t *s = NULL;
	int n = 0;

	if (e)
		s = grant_frames(r, owner, XENMEM_resource_grant_table_id_status,
				 (entries + words - 1) / words, &status);
	if (!s)
		n = neg_errno();
	for (size_t i = 0; s && i < entries; i++)
		n += e[i].hdr.domid == user && in_use(s[i]);
	if (status)
		xenforeignmemory_unmap_resource(r->fmem, status);
	if (shared)
		xenforeignmemory_unmap_resource(r->fmem, shared);
	return n;
}

static int real_mapped(struct vmc_xen *x, uint32_t owner, uint32_t user)
{
	struct gnttab_query_size size = { .dom = (domid_t)owner };
	struct real *r = real(x);
	int version;

	if (xc_gnttab_query_size(r->xc, &size))
		return neg_errno();
	if (size.status == GNTST_bad_domain)
		return -ESRCH;
	if (size.status != GNTST_okay)
		return -EIO;
	version = xc_gnttab_get_version(r->xc, owner);
	if (version < 0)
		return neg_errno();
	if (!size.nr_frames)
		return 0;
	return version == 2 ? mapped_v2(r, owner, user, size.nr_frames) :
			      mapped_v1(r, owner, user, size.nr_frames);
}

static int real_bind(struct vmc_xen *x, uint32_t domid, uint32_t remote_port)
{
	int port = xenevtchn_bind_interdomain(real(x)->evtchn, domid, remote_port);

	return port < 0 ? neg_errno() : port;
}

static void real_unbind(struct vmc_xen *x, uint32_t port)
{
	if (xenevtchn_unbind(real(x)->evtchn, port))
		vmc_log(VMC_LOG_ERROR, "xen", "cannot unbind port %u: %s", port,
			strerror(errno));
}

static int real_notify(struct vmc_xen *x, uint32_t port)
{
	return xenevtchn_notify(real(x)->evtchn, port) ? neg_errno() : 0;
}

static int real_pending(struct vmc_xen *x)
{
	/* xenevtchn_pending() may block whatever the descriptor's flags say: look first. */
	struct pollfd pfd = { .fd = x->evtchn_fd, .events = POLLIN };
	int port;

	if (poll(&pfd, 1, 0) <= 0)
		return -EAGAIN;
	port = xenevtchn_pending(real(x)->evtchn);
	return port < 0 ? neg_errno() : port;
}

static int real_unmask(struct vmc_xen *x, uint32_t port)
{
	return xenevtchn_unmask(real(x)->evtchn, port) ? neg_errno() : 0;
}

static const struct vmc_xen_ops real_ops = {
	.read = real_read,
	.write = real_write,
	.mkdir = real_mkdir,
	.rm = real_rm,
	.set_perms = real_set_perms,
	.directory = real_directory,
	.begin = real_begin,
	.end = real_end,
	.watch = real_watch,
	.unwatch = real_unwatch,
	.watch_next = real_watch_next,
	.domains = real_domains,
	.map = real_map,
	.unmap = real_unmap,
	.mapped = real_mapped,
	.bind = real_bind,
	.unbind = real_unbind,
	.notify = real_notify,
	.pending = real_pending,
	.unmask = real_unmask,
};

/* Says which device is in the way, and what to do about it. */
static int device_error(const char *path, const char *module)
{
	int err = neg_errno();

	if (access(path, F_OK))
		vmc_log(VMC_LOG_ERROR, "xen",
			"%s does not exist: is this Dom0 of a Xen host, and is the kernel module %s loaded?",
			path, module);
	else if (err == -EACCES || err == -EPERM || access(path, R_OK | W_OK))
		vmc_log(VMC_LOG_ERROR, "xen", "no right to use %s: vmcd has to run as root",
			path);
	else
		vmc_log(VMC_LOG_ERROR, "xen", "cannot open %s: %s", path, strerror(-err));
	return err;
}

int vmc_xen_open(struct vmc_xen **xen)
{
	struct real *r = calloc(1, sizeof(*r));
	struct vmc_dominfo dom0;
	int err;

	if (!r)
		return -ENOMEM;
	r->xen.ops = &real_ops;

	/*
	 * The devices first: they tell apart a host without Xen from one whose
	 * xenstored is not up.
	 */
	r->evtchn = access("/dev/xen/evtchn", R_OK | W_OK) ? NULL : xenevtchn_open(&xtl, 0);
	if (!r->evtchn) {
		err = device_error("/dev/xen/evtchn", "xen-evtchn");
		goto fail;
	}
	r->gnttab = access("/dev/xen/gntdev", R_OK | W_OK) ? NULL : xengnttab_open(&xtl, 0);
	if (!r->gnttab) {
		err = device_error("/dev/xen/gntdev", "xen-gntdev");
		goto fail;
	}
	r->xc = access("/dev/xen/privcmd", R_OK | W_OK) ? NULL :
		xc_interface_open(&xtl, &xtl, 0);
	if (!r->xc) {
		err = device_error("/dev/xen/privcmd", "xen-privcmd");
		goto fail;
	}
	r->fmem = xenforeignmemory_open(&xtl, 0);
	if (!r->fmem) {
		err = device_error("/dev/xen/privcmd", "xen-privcmd");
		goto fail;
	}
	err = real_domains(&r->xen, 0, 1, &dom0);
	if (err < 0) {
		vmc_log(VMC_LOG_ERROR, "xen",
			"the hypervisor does not let vmcd list domains: %s (not Dom0?)",
			strerror(-err));
		goto fail;
	}
	r->xs = xs_open(0);
	if (!r->xs) {
		err = neg_errno();
		vmc_log(VMC_LOG_ERROR, "xen", "cannot connect to xenstored: %s (is it running?)",
			strerror(-err));
		goto fail;
	}
	r->xen.store_fd = xs_fileno(r->xs);
	r->xen.evtchn_fd = xenevtchn_fd(r->evtchn);
	if (r->xen.store_fd < 0 || r->xen.evtchn_fd < 0) {
		err = neg_errno();
		vmc_log(VMC_LOG_ERROR, "xen", "no descriptor to wait on: %s", strerror(-err));
		goto fail;
	}
	*xen = &r->xen;
	return 0;
fail:
	vmc_xen_close(&r->xen);
	return err;
}

void vmc_xen_close(struct vmc_xen *xen)
{
	struct real *r = real(xen);

	if (r->xs)
		xs_close(r->xs);
	if (r->fmem)
		xenforeignmemory_close(r->fmem);
	if (r->xc)
		xc_interface_close(r->xc);
	if (r->gnttab)
		xengnttab_close(r->gnttab);
	if (r->evtchn)
		xenevtchn_close(r->evtchn);
	free(r);
}
