// SPDX-License-Identifier: GPL-2.0-or-later
#include "store.h"

#include "log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TX_TRIES	16

#define VIF_BACKENDS	"/local/domain/0/backend/vif"

static const char *const ring_ref_nodes[VMC_LINK_PAGES] = {
	VMC_XS_RING_REF "0", VMC_XS_RING_REF "1", VMC_XS_RING_REF "2", VMC_XS_RING_REF "3",
};

/* @node may be empty: the directory itself. */
void vmc_store_front_path(char path[VMC_XEN_PATH_MAX], uint32_t domid, const char *node)
{
	snprintf(path, VMC_XEN_PATH_MAX,
		 "/local/domain/%u/device/" VMC_XS_TYPE "/" VMC_XS_HANDLE "%s%s", domid,
		 *node ? "/" : "", node);
}

void vmc_store_back_path(char path[VMC_XEN_PATH_MAX], uint32_t domid, const char *node)
{
	snprintf(path, VMC_XEN_PATH_MAX,
		 "/local/domain/0/backend/" VMC_XS_TYPE "/%u/" VMC_XS_HANDLE "%s%s", domid,
		 *node ? "/" : "", node);
}

static int write_front(struct vmc_xen *xen, vmc_xen_tx t, uint32_t domid,
		       const char *node, const char *value)
{
	char path[VMC_XEN_PATH_MAX];

	vmc_store_front_path(path, domid, node);
	return xen->ops->write(xen, t, path, value);
}

static int write_back(struct vmc_xen *xen, vmc_xen_tx t, uint32_t domid,
		      const char *node, const char *value)
{
	char path[VMC_XEN_PATH_MAX];

	vmc_store_back_path(path, domid, node);
	return xen->ops->write(xen, t, path, value);
}

static int write_state(struct vmc_xen *xen, vmc_xen_tx t, uint32_t domid, bool front,
		       enum vmc_xenbus_state state)
{
	char value[4];

	snprintf(value, sizeof(value), "%d", (int)state % 10);
	return front ? write_front(xen, t, domid, "state", value) :
		       write_back(xen, t, domid, "state", value);
}

static int make_dir(struct vmc_xen *xen, vmc_xen_tx t, const char *path, uint32_t owner,
		    uint32_t reader)
{
	int err = xen->ops->mkdir(xen, t, path);

	return err ? err : xen->ops->set_perms(xen, t, path, owner, reader);
}

static int rm_if_there(struct vmc_xen *xen, vmc_xen_tx t, const char *path)
{
	int err = xen->ops->rm(xen, t, path);

	return err == -ENOENT ? 0 : err;
}

/* Runs @step in transactions until one goes through. */
static int transact(struct vmc_xen *xen, uint32_t domid,
		    int (*step)(struct vmc_xen *xen, vmc_xen_tx t, uint32_t domid,
				const void *arg),
		    const void *arg)
{
	int err = -EAGAIN;

	for (int i = 0; i < TX_TRIES && err == -EAGAIN; i++) {
		vmc_xen_tx t;

		err = xen->ops->begin(xen, &t);
		if (err)
			return err;
		err = step(xen, t, domid, arg);
		if (err)
			xen->ops->end(xen, t, false);
		else
			err = xen->ops->end(xen, t, true);
	}
	return err;
}

/*
 * The frontend's directory belongs to the guest and so does all that is made in
 * it, because nodes take the permissions of their parent. The levels above
 * belong to Dom0.
 */
static int create_step(struct vmc_xen *xen, vmc_xen_tx t, uint32_t domid, const void *arg)
{
	char path[VMC_XEN_PATH_MAX], front[VMC_XEN_PATH_MAX], back[VMC_XEN_PATH_MAX];
	char value[VMC_XEN_VALUE_MAX], id[12];
	int err;

	(void)arg;
	vmc_store_front_path(front, domid, "");
	vmc_store_back_path(back, domid, "");
	snprintf(id, sizeof(id), "%u", domid);

	/* xl removes the home of a dead domain: don't bring a part of it back. */
	snprintf(path, sizeof(path), "/local/domain/%u/device", domid);
	err = xen->ops->read(xen, t, path, value, sizeof(value));
	if (err < 0)
		return err;

	err = rm_if_there(xen, t, front);
	if (err)
		return err;
	err = rm_if_there(xen, t, back);
	if (err)
		return err;

	snprintf(path, sizeof(path), "/local/domain/%u/device/" VMC_XS_TYPE, domid);
	err = make_dir(xen, t, path, 0, domid);
	if (err)
		return err;
	err = make_dir(xen, t, front, domid, 0);
	if (err)
		return err;
	err = write_front(xen, t, domid, "backend", back);
	if (err)
		return err;
	err = write_front(xen, t, domid, "backend-id", "0");
	if (err)
		return err;
	err = write_state(xen, t, domid, true, VMC_XB_INITIALISING);
	if (err)
		return err;

	snprintf(path, sizeof(path), "/local/domain/0/backend/" VMC_XS_TYPE "/%u", domid);
	err = make_dir(xen, t, path, 0, domid);
	if (err)
		return err;
	err = make_dir(xen, t, back, 0, domid);
	if (err)
		return err;
	err = write_back(xen, t, domid, "frontend", front);
	if (err)
		return err;
	err = write_back(xen, t, domid, "frontend-id", id);
	if (err)
		return err;
	err = write_back(xen, t, domid, "online", "1");
	if (err)
		return err;
	return write_state(xen, t, domid, false, VMC_XB_INIT_WAIT);
}

int vmc_store_create(struct vmc_xen *xen, uint32_t domid)
{
	return transact(xen, domid, create_step, NULL);
}

bool vmc_store_exists(struct vmc_xen *xen, uint32_t domid)
{
	return vmc_store_front_state(xen, domid) >= 0 &&
	       vmc_store_back_state(xen, domid) >= 0;
}

void vmc_store_remove(struct vmc_xen *xen, uint32_t domid)
{
	char path[VMC_XEN_PATH_MAX];
	int err;

	snprintf(path, sizeof(path), "/local/domain/0/backend/" VMC_XS_TYPE "/%u", domid);
	err = rm_if_there(xen, VMC_XEN_NO_TX, path);
	if (err)
		vmc_log(VMC_LOG_WARNING, "store", "cannot remove %s: %s", path,
			strerror(-err));
	snprintf(path, sizeof(path), "/local/domain/%u/device/" VMC_XS_TYPE, domid);
	err = rm_if_there(xen, VMC_XEN_NO_TX, path);
	if (err)
		vmc_log(VMC_LOG_WARNING, "store", "cannot remove %s: %s", path,
			strerror(-err));
}

static int read_state(struct vmc_xen *xen, vmc_xen_tx t, const char *path)
{
	char untrusted[VMC_XEN_VALUE_MAX];
	uint32_t state;
	int err = xen->ops->read(xen, t, path, untrusted, sizeof(untrusted));

	if (err == -E2BIG || err == -EILSEQ)
		return VMC_XB_UNKNOWN;
	if (err < 0)
		return err;
	return vmc_parse_u32(untrusted, VMC_XB_CLOSED, &state) ? VMC_XB_UNKNOWN : (int)state;
}

int vmc_store_front_state(struct vmc_xen *xen, uint32_t domid)
{
	char path[VMC_XEN_PATH_MAX];

	vmc_store_front_path(path, domid, "state");
	return read_state(xen, VMC_XEN_NO_TX, path);
}

int vmc_store_back_state(struct vmc_xen *xen, uint32_t domid)
{
	char path[VMC_XEN_PATH_MAX];

	vmc_store_back_path(path, domid, "state");
	return read_state(xen, VMC_XEN_NO_TX, path);
}

/*
 * Every change of an existing device looks first, in the same transaction,
 * whether it is still there: writing to a removed device would make nodes of a
 * dead domain.
 */
static int set_back_step(struct vmc_xen *xen, vmc_xen_tx t, uint32_t domid,
			 const void *arg)
{
	const enum vmc_xenbus_state *state = arg;
	char path[VMC_XEN_PATH_MAX];
	int old;

	vmc_store_back_path(path, domid, "state");
	old = read_state(xen, t, path);
	if (old < 0)
		return old;
	return write_state(xen, t, domid, false, *state);
}

int vmc_store_set_back_state(struct vmc_xen *xen, uint32_t domid,
			     enum vmc_xenbus_state state)
{
	return transact(xen, domid, set_back_step, &state);
}

static int refuse_step(struct vmc_xen *xen, vmc_xen_tx t, uint32_t domid, const void *arg)
{
	static const enum vmc_xenbus_state closed = VMC_XB_CLOSED;
	int err = set_back_step(xen, t, domid, &closed);

	return err ? err : write_back(xen, t, domid, VMC_XS_ERROR, arg);
}

int vmc_store_refuse(struct vmc_xen *xen, uint32_t domid, const char *why)
{
	return transact(xen, domid, refuse_step, why);
}

static int unrefuse_step(struct vmc_xen *xen, vmc_xen_tx t, uint32_t domid,
			 const void *arg)
{
	static const enum vmc_xenbus_state wait = VMC_XB_INIT_WAIT;
	char path[VMC_XEN_PATH_MAX];
	int err = set_back_step(xen, t, domid, &wait);

	(void)arg;
	vmc_store_back_path(path, domid, VMC_XS_ERROR);
	return err ? err : rm_if_there(xen, t, path);
}

int vmc_store_unrefuse(struct vmc_xen *xen, uint32_t domid)
{
	return transact(xen, domid, unrefuse_step, NULL);
}

void vmc_store_error(struct vmc_xen *xen, uint32_t domid, char *why, size_t size)
{
	char path[VMC_XEN_PATH_MAX], value[VMC_XEN_VALUE_MAX];
	int len;

	vmc_store_back_path(path, domid, VMC_XS_ERROR);
	len = xen->ops->read(xen, VMC_XEN_NO_TX, path, value, sizeof(value));
	vmc_sanitize(why, size, value, len > 0 ? (size_t)len : 0);
}

static int reset_step(struct vmc_xen *xen, vmc_xen_tx t, uint32_t domid, const void *arg)
{
	char path[VMC_XEN_PATH_MAX];
	int state, err;

	(void)arg;
	vmc_store_front_path(path, domid, "state");
	state = read_state(xen, t, path);
	if (state < 0)
		return state;
	if (state != VMC_XB_CLOSED)
		return -EALREADY;
	err = write_state(xen, t, domid, true, VMC_XB_INITIALISING);
	return err ? err : unrefuse_step(xen, t, domid, NULL);
}

int vmc_store_reset(struct vmc_xen *xen, uint32_t domid)
{
	int err = transact(xen, domid, reset_step, NULL);

	return err == -EALREADY ? 0 : err;
}

static int read_front_u32(struct vmc_xen *xen, uint32_t domid, const char *node,
			  uint32_t min, uint32_t max, uint32_t *value)
{
	char path[VMC_XEN_PATH_MAX], untrusted[VMC_XEN_VALUE_MAX];
	uint32_t v;
	int err;

	vmc_store_front_path(path, domid, node);
	err = xen->ops->read(xen, VMC_XEN_NO_TX, path, untrusted, sizeof(untrusted));
	if (err < 0)
		return err;
	err = vmc_parse_u32(untrusted, max, &v);
	if (err)
		return err;
	if (v < min)
		return -ERANGE;
	*value = v;
	return 0;
}

int vmc_store_read_front(struct vmc_xen *xen, uint32_t domid, struct vmc_front *front,
			 const char **bad)
{
	char path[VMC_XEN_PATH_MAX], untrusted[VMC_XEN_VALUE_MAX];
	struct vmc_front f = { 0 };
	int err;

	*bad = VMC_XS_VERSION_MIN;
	err = read_front_u32(xen, domid, *bad, 1, UINT32_MAX, &f.version_min);
	if (err)
		return err;
	*bad = VMC_XS_VERSION_MAX;
	err = read_front_u32(xen, domid, *bad, f.version_min, UINT32_MAX, &f.version_max);
	if (err)
		return err;
	*bad = VMC_XS_EVTCHN;
	err = read_front_u32(xen, domid, *bad, 1, VMC_XEN_PORT_MAX, &f.port);
	if (err)
		return err;
	for (unsigned int i = 0; i < VMC_LINK_PAGES; i++) {
		*bad = ring_ref_nodes[i];
		err = read_front_u32(xen, domid, *bad, VMC_XEN_GREF_MIN, UINT32_MAX,
				     &f.ref[i]);
		if (err)
			return err;
		for (unsigned int k = 0; k < i; k++)
			if (f.ref[k] == f.ref[i])
				return -EEXIST;
	}

	/* Only for the operator: absent or too long is no reason to refuse. */
	vmc_store_front_path(path, domid, VMC_XS_DRIVER);
	err = xen->ops->read(xen, VMC_XEN_NO_TX, path, untrusted, sizeof(untrusted));
	vmc_sanitize(f.driver, sizeof(f.driver), untrusted, err > 0 ? (size_t)err : 0);

	*front = f;
	*bad = NULL;
	return 0;
}

static bool read_vif(struct vmc_xen *xen, uint32_t domid, const char *handle,
		     struct vmc_vif *vif)
{
	char path[VMC_XEN_PATH_MAX], value[VMC_XEN_VALUE_MAX];
	struct vmc_vif v = { 0 };
	int len;

	snprintf(path, sizeof(path), VIF_BACKENDS "/%u/%.16s/mac", domid, handle);
	len = xen->ops->read(xen, VMC_XEN_NO_TX, path, value, sizeof(value));
	if (len < 0 || vmc_parse_mac(value, v.mac))
		return false;
	snprintf(path, sizeof(path), VIF_BACKENDS "/%u/%.16s/bridge", domid, handle);
	len = xen->ops->read(xen, VMC_XEN_NO_TX, path, value, sizeof(value));
	if (len <= 0 || (size_t)len >= sizeof(v.bridge))
		return false;
	vmc_sanitize(v.bridge, sizeof(v.bridge), value, (size_t)len);
	*vif = v;
	return true;
}

void vmc_store_read_vifs(struct vmc_xen *xen, uint32_t domid, struct vmc_vifs *vifs)
{
	char path[VMC_XEN_PATH_MAX], **handles;
	struct vmc_vifs found = { 0 };
	unsigned int n;

	snprintf(path, sizeof(path), VIF_BACKENDS "/%u", domid);
	if (!xen->ops->directory(xen, VMC_XEN_NO_TX, path, &handles, &n)) {
		for (unsigned int i = 0; i < n && found.count < VMC_MACS_MAX; i++)
			if (read_vif(xen, domid, handles[i], &found.vif[found.count]))
				found.count++;
		free(handles);
	}
	*vifs = found;
}

void vmc_store_read_name(struct vmc_xen *xen, uint32_t domid, char *name, size_t size)
{
	char path[VMC_XEN_PATH_MAX], value[VMC_XEN_VALUE_MAX];
	int len;

	snprintf(path, sizeof(path), "/local/domain/%u/name", domid);
	len = xen->ops->read(xen, VMC_XEN_NO_TX, path, value, sizeof(value));
	vmc_sanitize(name, size, value, len > 0 ? (size_t)len : 0);
}
