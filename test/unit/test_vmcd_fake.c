// SPDX-License-Identifier: GPL-2.0-or-later
#include "test_vmcd_fake.h"

#include "guest.h"
#include "link.h"
#include "store.h"

#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* ---------------------------------------------------------------- XenStore */

#define NODES_MAX	1024
#define EVENTS_MAX	1024
#define WATCHES_MAX	64
#define TOUCHED_MAX	64

struct node {
	char *path;
	char *value;
	size_t len;
	uint32_t owner;
	uint32_t reader;
};

struct tree {
	struct node node[NODES_MAX];
	unsigned int count;
};

struct fake_store {
	struct tree tree;
	struct tree tx;			/* one transaction at a time is enough */
	bool tx_open;
	char *touched[TOUCHED_MAX];
	unsigned int nr_touched;
	struct { char *path, *token; } watch[WATCHES_MAX];
	unsigned int nr_watches;
	struct { char *path, *token; } event[EVENTS_MAX];
	unsigned int nr_events;
	char text[64];
};

static struct fake *fake_of(struct vmc_xen *x)
{
	return (struct fake *)x;
}

static void fd_raise(int fd)
{
	uint64_t one = 1;

	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

static void fd_clear(int fd)
{
	uint64_t n;

	if (read(fd, &n, sizeof(n)) < 0)
		assert_int_equal(errno, EAGAIN);
}

static bool below(const char *path, const char *parent)
{
	size_t len = strlen(parent);

	return !strncmp(path, parent, len) && (!path[len] || path[len] == '/');
}

static void push_event(struct fake *f, const char *path, const char *token)
{
	struct fake_store *s = f->store;

	assert_true(s->nr_events < EVENTS_MAX);
	s->event[s->nr_events].path = strdup(path);
	s->event[s->nr_events].token = strdup(token);
	s->nr_events++;
	fd_raise(f->xen.store_fd);
}

static void fire(struct fake *f, const char *path)
{
	struct fake_store *s = f->store;

	for (unsigned int i = 0; i < s->nr_watches; i++)
		if (below(path, s->watch[i].path))
			push_event(f, path, s->watch[i].token);
}

static struct node *find(struct tree *t, const char *path)
{
	for (unsigned int i = 0; i < t->count; i++)
		if (!strcmp(t->node[i].path, path))
			return &t->node[i];
	return NULL;
}

static struct tree *tree(struct fake *f, vmc_xen_tx t)
{
	assert_true(t == VMC_XEN_NO_TX || f->store->tx_open);
	return t ? &f->store->tx : &f->store->tree;
}

static void touch(struct fake *f, vmc_xen_tx t, const char *path)
{
	struct fake_store *s = f->store;

	if (!t) {
		fire(f, path);
		return;
	}
	assert_true(s->nr_touched < TOUCHED_MAX);
	s->touched[s->nr_touched++] = strdup(path);
}

/* Missing parents are made too; a new node takes its parent's permissions. */
static struct node *make(struct tree *t, const char *path)
{
	struct node *n = find(t, path), *p;
	char parent[256];
	char *slash;

	if (n)
		return n;
	snprintf(parent, sizeof(parent), "%s", path);
	slash = strrchr(parent, '/');
	p = NULL;
	if (slash && slash != parent) {
		*slash = '\0';
		p = make(t, parent);
	}
	assert_true(t->count < NODES_MAX);
	n = &t->node[t->count++];
	*n = (struct node){ .path = strdup(path), .value = strdup("") };
	if (p) {
		n->owner = p->owner;
		n->reader = p->reader;
	}
	return n;
}

static void node_drop(struct tree *t, unsigned int i)
{
	free(t->node[i].path);
	free(t->node[i].value);
	t->node[i] = t->node[--t->count];
}

static void tree_clear(struct tree *t)
{
	while (t->count)
		node_drop(t, t->count - 1);
}

static void tree_copy(struct tree *to, const struct tree *from)
{
	tree_clear(to);
	for (unsigned int i = 0; i < from->count; i++) {
		struct node *n = &to->node[to->count++];

		*n = from->node[i];
		n->path = strdup(n->path);
		n->value = malloc(n->len + 1);
		memcpy(n->value, from->node[i].value, n->len);
		n->value[n->len] = '\0';
	}
}

static void put(struct tree *t, const char *path, const char *value, size_t len)
{
	struct node *n = make(t, path);

	free(n->value);
	n->value = malloc(len + 1);
	memcpy(n->value, value, len);
	n->value[len] = '\0';
	n->len = len;
}

static int remove_tree(struct fake *f, vmc_xen_tx tx, const char *path)
{
	struct tree *t = tree(f, tx);

	if (!find(t, path))
		return -ENOENT;
	/* a watch below the removed node hears of it, too */
	for (unsigned int i = 0; i < t->count;) {
		if (below(t->node[i].path, path)) {
			touch(f, tx, t->node[i].path);
			node_drop(t, i);
		} else {
			i++;
		}
	}
	return 0;
}

/* ------------------------------------------------------------- vmc_xen_ops */

static int op_read(struct vmc_xen *x, vmc_xen_tx t, const char *path, char *buf,
		   size_t size)
{
	struct node *n;

	if (fake_of(x)->store_dead)
		return -EBADF;
	n = find(tree(fake_of(x), t), path);
	if (!n)
		return -ENOENT;
	if (n->len >= size)
		return -E2BIG;
	if (memchr(n->value, '\0', n->len))
		return -EILSEQ;
	memcpy(buf, n->value, n->len + 1);
	return (int)n->len;
}

static int op_write(struct vmc_xen *x, vmc_xen_tx t, const char *path, const char *value)
{
	put(tree(fake_of(x), t), path, value, strlen(value));
	touch(fake_of(x), t, path);
	return 0;
}

static int op_mkdir(struct vmc_xen *x, vmc_xen_tx t, const char *path)
{
	if (!find(tree(fake_of(x), t), path)) {
		make(tree(fake_of(x), t), path);
		touch(fake_of(x), t, path);
	}
	return 0;
}

static int op_rm(struct vmc_xen *x, vmc_xen_tx t, const char *path)
{
	return remove_tree(fake_of(x), t, path);
}

static int op_set_perms(struct vmc_xen *x, vmc_xen_tx t, const char *path, uint32_t owner,
			uint32_t reader)
{
	struct node *n = find(tree(fake_of(x), t), path);

	if (!n)
		return -ENOENT;
	n->owner = owner;
	n->reader = reader;
	return 0;
}

static int op_directory(struct vmc_xen *x, vmc_xen_tx t, const char *path, char ***names,
			unsigned int *count)
{
	struct tree *tr = tree(fake_of(x), t);
	size_t len = strlen(path), n = 0;
	char **list, *text;

	if (!find(tr, path))
		return -ENOENT;
	list = calloc(1, tr->count * (sizeof(char *) + 64));
	assert_non_null(list);
	text = (char *)(list + tr->count);
	for (unsigned int i = 0; i < tr->count; i++) {
		const char *p = tr->node[i].path;

		if (strncmp(p, path, len) || p[len] != '/' || strchr(p + len + 1, '/'))
			continue;
		list[n++] = text;
		text += snprintf(text, 63, "%s", p + len + 1) + 1;
	}
	*names = list;
	*count = (unsigned int)n;
	return 0;
}

static int op_begin(struct vmc_xen *x, vmc_xen_tx *t)
{
	struct fake *f = fake_of(x);

	assert_false(f->store->tx_open);
	f->store->tx_open = true;
	tree_copy(&f->store->tx, &f->store->tree);
	*t = 1;
	return 0;
}

static int op_end(struct vmc_xen *x, vmc_xen_tx t, bool commit)
{
	struct fake *f = fake_of(x);
	struct fake_store *s = f->store;
	int err = 0;

	assert_int_equal(t, 1);
	assert_true(s->tx_open);
	if (commit && f->tx_conflicts) {
		f->tx_conflicts--;
		commit = false;
		err = -EAGAIN;
	}
	if (commit)
		tree_copy(&s->tree, &s->tx);
	s->tx_open = false;
	tree_clear(&s->tx);
	for (unsigned int i = 0; i < s->nr_touched; i++) {
		if (commit)
			fire(f, s->touched[i]);
		free(s->touched[i]);
	}
	s->nr_touched = 0;
	return err;
}

static int op_watch(struct vmc_xen *x, const char *path, const char *token)
{
	struct fake *f = fake_of(x);
	struct fake_store *s = f->store;

	if (f->watch_error)
		return f->watch_error;
	assert_true(s->nr_watches < WATCHES_MAX);
	for (unsigned int i = 0; i < s->nr_watches; i++)
		if (!strcmp(s->watch[i].path, path) && !strcmp(s->watch[i].token, token))
			return -EEXIST;
	s->watch[s->nr_watches].path = strdup(path);
	s->watch[s->nr_watches].token = strdup(token);
	s->nr_watches++;
	push_event(f, path, token);	/* as xenstored does */
	return 0;
}

static int op_unwatch(struct vmc_xen *x, const char *path, const char *token)
{
	struct fake_store *s = fake_of(x)->store;

	for (unsigned int i = 0; i < s->nr_watches; i++) {
		if (strcmp(s->watch[i].path, path) || strcmp(s->watch[i].token, token))
			continue;
		free(s->watch[i].path);
		free(s->watch[i].token);
		s->watch[i] = s->watch[--s->nr_watches];
		return 0;
	}
	return -ENOENT;
}

static int op_watch_next(struct vmc_xen *x, char *path, size_t path_size, char *token,
			 size_t token_size)
{
	struct fake *f = fake_of(x);
	struct fake_store *s = f->store;

	if (f->store_dead)
		return -EBADF;
	if (!s->nr_events) {
		fd_clear(x->store_fd);
		return 0;
	}
	snprintf(path, path_size, "%s", s->event[0].path);
	snprintf(token, token_size, "%s", s->event[0].token);
	free(s->event[0].path);
	free(s->event[0].token);
	s->nr_events--;
	memmove(&s->event[0], &s->event[1], s->nr_events * sizeof(s->event[0]));
	return 1;
}

static int op_domains(struct vmc_xen *x, uint32_t first, unsigned int max,
		      struct vmc_dominfo *info)
{
	struct fake *f = fake_of(x);
	int n = 0;

	if (f->list_error)
		return f->list_error;
	for (uint32_t domid = first; domid < first + 100 && (unsigned int)n < max; domid++)
		for (int i = 0; i < FAKE_GUESTS; i++)
			if (f->guest[i].used && f->guest[i].domid == domid)
				info[n++] = f->guest[i].info;
	return n;
}

static struct fake_guest *guest_by(struct fake *f, uint32_t domid)
{
	for (int i = 0; i < FAKE_GUESTS; i++)
		if (f->guest[i].used && f->guest[i].domid == domid)
			return &f->guest[i];
	return NULL;
}

static int op_map(struct vmc_xen *x, uint32_t domid, const uint32_t *refs,
		  unsigned int count, void **addr)
{
	struct fake *f = fake_of(x);
	struct fake_guest *g = guest_by(f, domid);

	if (f->map_error)
		return f->map_error;
	if (!g || !g->pages || count != VMC_LINK_PAGES)
		return -EINVAL;
	for (unsigned int i = 0; i < count; i++)
		if (refs[i] != g->ref + i)
			return -EINVAL;
	g->mapped++;
	*addr = g->pages;
	return 0;
}

static void op_unmap(struct vmc_xen *x, void *addr, unsigned int count)
{
	struct fake *f = fake_of(x);

	assert_int_equal(count, VMC_LINK_PAGES);
	for (int i = 0; i < FAKE_GUESTS; i++) {
		if (f->guest[i].pages == addr) {
			assert_true(f->guest[i].mapped);
			f->guest[i].mapped--;
			return;
		}
	}
	fail_msg("unmaps what is not mapped");
}

static int op_mapped(struct vmc_xen *x, uint32_t owner, uint32_t user)
{
	struct fake_guest *g = guest_by(fake_of(x), owner);

	if (!g)
		return -ESRCH;
	return g->lent_to == user ? (int)g->lent : 0;
}

static int op_bind(struct vmc_xen *x, uint32_t domid, uint32_t remote_port)
{
	struct fake *f = fake_of(x);
	struct fake_guest *g = guest_by(f, domid);

	if (f->bind_error)
		return f->bind_error;
	if (!g || g->port != remote_port || g->local_port)
		return -EINVAL;
	g->local_port = f->next_port++;
	g->masked = false;
	g->pending = false;
	return (int)g->local_port;
}

static struct fake_guest *by_port(struct fake *f, uint32_t port)
{
	for (int i = 0; i < FAKE_GUESTS; i++)
		if (f->guest[i].local_port == port && port)
			return &f->guest[i];
	return NULL;
}

static void op_unbind(struct vmc_xen *x, uint32_t port)
{
	struct fake_guest *g = by_port(fake_of(x), port);

	assert_non_null(g);
	g->local_port = 0;
	g->pending = false;
}

static int op_notify(struct vmc_xen *x, uint32_t port)
{
	struct fake_guest *g = by_port(fake_of(x), port);

	assert_non_null(g);
	g->rung++;
	return 0;
}

static int op_pending(struct vmc_xen *x)
{
	struct fake *f = fake_of(x);

	for (int i = 0; i < FAKE_GUESTS; i++) {
		struct fake_guest *g = &f->guest[i];

		if (g->local_port && g->pending && !g->masked) {
			g->pending = false;
			g->masked = true;
			return (int)g->local_port;
		}
	}
	fd_clear(x->evtchn_fd);
	return -EAGAIN;
}

static int op_unmask(struct vmc_xen *x, uint32_t port)
{
	struct fake_guest *g = by_port(fake_of(x), port);

	assert_non_null(g);
	g->masked = false;
	if (g->pending)
		fd_raise(x->evtchn_fd);
	return 0;
}

static const struct vmc_xen_ops fake_ops = {
	.read = op_read,
	.write = op_write,
	.mkdir = op_mkdir,
	.rm = op_rm,
	.set_perms = op_set_perms,
	.directory = op_directory,
	.begin = op_begin,
	.end = op_end,
	.watch = op_watch,
	.unwatch = op_unwatch,
	.watch_next = op_watch_next,
	.domains = op_domains,
	.map = op_map,
	.unmap = op_unmap,
	.mapped = op_mapped,
	.bind = op_bind,
	.unbind = op_unbind,
	.notify = op_notify,
	.pending = op_pending,
	.unmask = op_unmask,
};

/* -------------------------------------------------------------------- the host */

struct fake *fake_new(void)
{
	struct fake *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->store = calloc(1, sizeof(*f->store));
	assert_non_null(f->store);
	f->xen.ops = &fake_ops;
	f->xen.store_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	f->xen.evtchn_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	f->base = event_base_new();
	assert_non_null(f->base);
	f->next_port = 1;
	make(&f->store->tree, "/local/domain/0/backend");
	vmc_log_init(getenv("VMC_TEST_LOG") ? VMC_LOG_DEBUG : VMC_LOG_ERROR,
		     VMC_LOG_TO_STDERR);
	return f;
}

static void drop_watches(struct fake_store *s)
{
	while (s->nr_watches) {
		s->nr_watches--;
		free(s->watch[s->nr_watches].path);
		free(s->watch[s->nr_watches].token);
	}
	while (s->nr_events) {
		s->nr_events--;
		free(s->event[s->nr_events].path);
		free(s->event[s->nr_events].token);
	}
}

void fake_free(struct fake *f)
{
	if (f->d)
		fake_stop(f);
	drop_watches(f->store);
	tree_clear(&f->store->tree);
	event_base_free(f->base);
	close(f->xen.store_fd);
	close(f->xen.evtchn_fd);
	for (int i = 0; i < FAKE_GUESTS; i++) {
		assert_int_equal(f->guest[i].mapped, 0);
		assert_int_equal(f->guest[i].local_port, 0);
		free(f->guest[i].pages);
	}
	free(f->store);
	free(f);
}

void fake_start(struct fake *f)
{
	assert_null(f->d);
	assert_int_equal(vmcd_new(&f->d, f->base, &f->xen), 0);
	f->d->timing.front = 20;
	fake_settle(f);
}

void fake_stop(struct fake *f)
{
	vmcd_free(f->d);
	f->d = NULL;
	drop_watches(f->store);		/* with the connection */
	fd_clear(f->xen.store_fd);
	fd_clear(f->xen.evtchn_fd);
}

void fake_settle(struct fake *f)
{
	for (int i = 0; i < 100; i++)
		event_base_loop(f->base, EVLOOP_NONBLOCK);
}

void fake_run(struct fake *f, unsigned int ms)
{
	uint64_t end = vmc_now_ms() + ms;
	struct timespec nap = { .tv_nsec = 1000000 };

	do {
		event_base_loop(f->base, EVLOOP_NONBLOCK);
		nanosleep(&nap, NULL);
	} while (vmc_now_ms() < end);
	fake_settle(f);
}

struct fake_guest *fake_domain(struct fake *f, uint32_t domid, const char *name)
{
	char path[128];
	struct node *n;

	for (int i = 0; i < FAKE_GUESTS; i++) {
		struct fake_guest *g = &f->guest[i];

		if (g->used || g->pages)
			continue;
		*g = (struct fake_guest){ .host = f, .domid = domid, .used = true };
		g->info.domid = domid;
		memset(g->info.uuid, (int)domid, sizeof(g->info.uuid));
		snprintf(path, sizeof(path), "/local/domain/%u", domid);
		n = make(&f->store->tree, path);
		n->owner = 0;
		n->reader = domid;
		snprintf(path, sizeof(path), "/local/domain/%u/device", domid);
		fake_write(f, path, "");
		snprintf(path, sizeof(path), "/local/domain/%u/name", domid);
		fake_write(f, path, name);
		return g;
	}
	fail_msg("too many guests");
	return NULL;
}

void fake_vif(struct fake *f, uint32_t domid, unsigned int handle, const char *mac,
	      const char *bridge)
{
	char path[128];

	if (bridge) {
		snprintf(path, sizeof(path), "/local/domain/0/backend/vif/%u/%u/bridge", domid,
			 handle);
		fake_write(f, path, bridge);
	}
	snprintf(path, sizeof(path), "/local/domain/0/backend/vif/%u/%u/mac", domid, handle);
	fake_write(f, path, mac);
}

void fake_vif_remove(struct fake *f, uint32_t domid, unsigned int handle)
{
	char path[128];

	snprintf(path, sizeof(path), "/local/domain/0/backend/vif/%u/%u", domid, handle);
	fake_rm(f, path);
}

struct fake_guest *fake_vm(struct fake *f, uint32_t domid)
{
	char name[32], mac[32];
	struct fake_guest *g;

	snprintf(name, sizeof(name), "vm%u", domid);
	snprintf(mac, sizeof(mac), "00:16:3e:00:00:%02x", domid & 0xff);
	g = fake_domain(f, domid, name);
	fake_vif(f, domid, 0, mac, "xenbr0");
	fake_introduce_event(f);
	return g;
}

void fake_destroy(struct fake_guest *g)
{
	struct fake *f = g->host;
	char path[128];

	g->used = false;
	snprintf(path, sizeof(path), "/local/domain/%u", g->domid);
	remove_tree(f, VMC_XEN_NO_TX, path);
	snprintf(path, sizeof(path), "/local/domain/0/backend/vif/%u", g->domid);
	remove_tree(f, VMC_XEN_NO_TX, path);
	fake_release_event(f);
}

void fake_introduce_event(struct fake *f)
{
	fire(f, "@introduceDomain");
}

void fake_release_event(struct fake *f)
{
	fire(f, "@releaseDomain");
}

void fake_write(struct fake *f, const char *path, const char *value)
{
	fake_write_raw(f, path, value, strlen(value));
}

void fake_write_raw(struct fake *f, const char *path, const char *value, size_t len)
{
	put(&f->store->tree, path, value, len);
	fire(f, path);
}

void fake_rm(struct fake *f, const char *path)
{
	assert_int_equal(remove_tree(f, VMC_XEN_NO_TX, path), 0);
}

const char *fake_read(struct fake *f, const char *path)
{
	struct node *n = find(&f->store->tree, path);

	return n ? n->value : NULL;
}

const char *fake_perms(struct fake *f, const char *path)
{
	struct node *n = find(&f->store->tree, path);

	assert_non_null(n);
	snprintf(f->store->text, sizeof(f->store->text), "n%u,r%u", n->owner, n->reader);
	return f->store->text;
}

unsigned int fake_watches(struct fake *f)
{
	return f->store->nr_watches;
}

/* ------------------------------------------------------------------ the driver */

const char *fg_front(struct fake_guest *g, const char *node)
{
	char path[VMC_XEN_PATH_MAX];

	vmc_store_front_path(path, g->domid, node);
	return fake_read(g->host, path);
}

const char *fg_back(struct fake_guest *g, const char *node)
{
	char path[VMC_XEN_PATH_MAX];

	vmc_store_back_path(path, g->domid, node);
	return fake_read(g->host, path);
}

void fg_write(struct fake_guest *g, const char *node, const char *value)
{
	char path[VMC_XEN_PATH_MAX];

	vmc_store_front_path(path, g->domid, node);
	fake_write(g->host, path, value);
}

static void write_u32(struct fake_guest *g, const char *node, uint32_t value)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", value);
	fg_write(g, node, text);
}

static void *page(struct fake_guest *g, unsigned int i)
{
	return g->pages + (size_t)i * VMC_PAGE_SIZE;
}

void fg_publish(struct fake_guest *g)
{
	static uint32_t next = 1000;
	struct fake_guest *old;

	if (g->pages && g->mapped) {
		/* vmcd still has the old ones: they live on in another slot */
		for (old = g->host->guest; old->used || old->pages; old++)
			;
		*old = *g;
		old->used = false;
		g->mapped = 0;
		g->local_port = 0;
	} else {
		free(g->pages);
	}
	g->pages = aligned_alloc(VMC_PAGE_SIZE, VMC_LINK_PAGES * (size_t)VMC_PAGE_SIZE);
	assert_non_null(g->pages);
	memset(g->pages, 0, VMC_LINK_PAGES * (size_t)VMC_PAGE_SIZE);
	g->ref = next;
	g->port = next / 10;
	next += 10;
	vmc_ring_cons_init(&g->cons, page(g, 0), VMC_MSG_RING_SIZE);
	vmc_ring_prod_init(&g->prod, page(g, 2), VMC_MSG_RING_SIZE);
	/* both sides sleep until the first message */
	vmc_store(&g->cons.hdr->cons_wait, 1);
	vmc_store(&g->prod.hdr->cons_wait, 1);

	for (unsigned int i = 0; i < VMC_LINK_PAGES; i++) {
		char node[16];

		snprintf(node, sizeof(node), VMC_XS_RING_REF "%u", i);
		write_u32(g, node, g->ref + i);
	}
	write_u32(g, VMC_XS_EVTCHN, g->port);
	write_u32(g, VMC_XS_VERSION_MIN, VMC_PROTO_MIN);
	write_u32(g, VMC_XS_VERSION_MAX, VMC_PROTO_MAX);
	fg_write(g, VMC_XS_DRIVER, "test-driver");
}

void fg_connect(struct fake_guest *g)
{
	fake_settle(g->host);
	fg_publish(g);
	fg_write(g, "state", "4");
	fake_settle(g->host);
}

void fg_put(struct fake_guest *g, const void *msg)
{
	assert_int_equal(vmc_msg_put(&g->prod, page(g, 3), msg), 0);
}

void fg_notify(struct fake_guest *g)
{
	g->pending = true;
	if (g->local_port && !g->masked)
		fd_raise(g->host->xen.evtchn_fd);
}

void fg_send(struct fake_guest *g, const void *msg)
{
	fg_put(g, msg);
	if (vmc_ring_prod_notify(&g->prod))
		fg_notify(g);
	fake_settle(g->host);
}

int fg_recv(struct fake_guest *g, union vmc_any_msg *m)
{
	int ret = vmc_msg_get(&g->cons, page(g, 1), m);

	assert_true(ret >= 0);
	if (!ret) {
		vmc_ring_cons_arm(&g->cons);
		return 0;
	}
	if (vmc_ring_cons_notify(&g->cons))
		fg_notify(g);
	if (m->h.type == VMC_L_ATTACH)
		g->epoch = m->attach.epoch;
	if (m->h.type == VMC_L_SETTINGS)
		g->settings = m->settings;
	return m->h.type == VMC_L_SETTINGS && !g->minds_settings ? fg_recv(g, m) : m->h.type;
}

void fg_expect(struct fake_guest *g, uint16_t type, union vmc_any_msg *m)
{
	union vmc_any_msg any;

	if (!m)
		m = &any;
	fake_settle(g->host);
	assert_int_equal(fg_recv(g, m), type);
}

void fg_expect_nothing(struct fake_guest *g)
{
	union vmc_any_msg m;

	fake_settle(g->host);
	assert_int_equal(fg_recv(g, &m), 0);
}

void fg_drain(struct fake_guest *g)
{
	union vmc_any_msg m;

	fake_settle(g->host);
	while (fg_recv(g, &m))
		fake_settle(g->host);
}

void fg_hello(struct fake_guest *g, uint32_t chans)
{
	struct vmc_l_hello hello = {
		.h = { VMC_L_HELLO, sizeof(hello), 0 },
		.epoch = g->epoch,
		.version = 1,
		.channels = chans,
		.driver = "test-1.0",
	};

	fg_send(g, &hello);
}

void fg_simple(struct fake_guest *g, uint16_t type, uint32_t id)
{
	struct vmc_msg m = { type, sizeof(m), id };

	fg_send(g, &m);
}

void fg_chan_state(struct fake_guest *g, uint32_t id, uint32_t peer, uint32_t state)
{
	struct vmc_l_chan_state m = {
		.h = { VMC_L_CHAN_STATE, sizeof(m), id }, .peer = peer, .state = state,
	};

	fg_send(g, &m);
}

void fg_chan_req(struct fake_guest *g, uint32_t peer)
{
	struct vmc_l_chan_req m = { .h = { VMC_L_CHAN_REQ, sizeof(m), 0 }, .peer = peer };

	fg_send(g, &m);
}

void fg_half(struct fake_guest *g, uint16_t type, uint32_t id, uint32_t peer, uint32_t port)
{
	struct vmc_l_chan_half m = {
		.h = { type, sizeof(m), id }, .peer = peer, .port = port,
		.ring_ref = { g->domid * 100 + 1, g->domid * 100 + 2 },
	};

	fg_send(g, &m);
}

void fg_close(struct fake_guest *g, uint16_t type, uint32_t id, uint32_t peer,
	      uint32_t reason)
{
	struct vmc_l_chan_close m = {
		.h = { type, sizeof(m), id }, .peer = peer, .reason = reason,
	};

	fg_send(g, &m);
}

void fg_ready(struct fake_guest *g)
{
	fg_connect(g);
	fg_expect(g, VMC_L_ATTACH, NULL);
	fg_hello(g, 0);
	fg_simple(g, VMC_L_READY, 0);
	for (int i = 0; i < FAKE_GUESTS; i++)
		if (g->host->guest[i].used && g->host->guest[i].local_port)
			fg_drain(&g->host->guest[i]);
}

uint32_t fg_open(struct fake_guest *a, struct fake_guest *b)
{
	union vmc_any_msg m;
	uint32_t id;

	fg_chan_req(a, b->domid);
	fg_expect(a, VMC_L_CHAN_PREPARE, &m);
	id = m.h.id;
	assert_int_not_equal(id, 0);
	assert_int_equal(m.chan_prepare.peer, b->domid);
	fg_expect_nothing(b);

	fg_half(a, VMC_L_CHAN_OFFER, id, b->domid, 77);
	fg_expect(b, VMC_L_CHAN_CONNECT, &m);
	assert_int_equal(m.h.id, id);
	assert_int_equal(m.chan_half.peer, a->domid);
	assert_int_equal(m.chan_half.port, 77);
	assert_int_equal(m.chan_half.ring_ref[0], a->domid * 100 + 1);
	assert_int_equal(m.chan_half.ring_ref[1], a->domid * 100 + 2);

	fg_half(b, VMC_L_CHAN_ACCEPT, id, a->domid, 0);
	fg_expect(a, VMC_L_CHAN_COMPLETE, &m);
	assert_int_equal(m.h.id, id);
	assert_int_equal(m.chan_half.peer, b->domid);
	assert_int_equal(m.chan_half.port, 0);
	assert_int_equal(m.chan_half.ring_ref[0], b->domid * 100 + 1);

	fg_simple(a, VMC_L_CHAN_UP, id);
	fg_expect_nothing(a);
	fg_expect_nothing(b);
	return id;
}

void fg_assert_refused(struct fake_guest *g, const char *text)
{
	const char *error;

	fake_settle(g->host);
	assert_string_equal(fg_back(g, "state"), "6");
	error = fg_back(g, "error");
	assert_non_null(error);
	if (!strstr(error, text))
		fail_msg("error is \"%s\", not \"%s\"", error, text);
	assert_int_equal(g->mapped, 0);
	assert_int_equal(g->local_port, 0);
}

void fg_assert_attached(struct fake_guest *g)
{
	fake_settle(g->host);
	assert_string_equal(fg_back(g, "state"), "4");
	assert_null(fg_back(g, "error"));
	assert_int_equal(g->mapped, 1);
	assert_int_not_equal(g->local_port, 0);
}
