// SPDX-License-Identifier: GPL-2.0-only
/* Memory shared with another domain, in both directions, with its budget. */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <xen/page.h>

#include "vmc.h"

atomic_t vmc_grants;
atomic_t vmc_mapped;
atomic64_t vmc_bytes;

static bool vmc_budget_take(unsigned int pages, enum vmc_reason *why)
{
	u64 max_bytes = vmc_max_mb ? (u64)vmc_max_mb << 20 :
				     ((u64)totalram_pages() << PAGE_SHIFT) / 8;

	max_bytes = min(max_bytes, READ_ONCE(vmc_host.bytes));
	if (atomic_add_return(pages, &vmc_grants) > vmc_grants_most()) {
		*why = VMC_R_NO_GRANTS;
		goto undo;
	}
	if (atomic64_add_return((s64)pages << PAGE_SHIFT, &vmc_bytes) > max_bytes) {
		atomic64_sub((s64)pages << PAGE_SHIFT, &vmc_bytes);
		*why = VMC_R_NO_MEMORY;
		goto undo;
	}
	return true;
undo:
	atomic_sub(pages, &vmc_grants);
	return false;
}

static void vmc_budget_give(unsigned int pages)
{
	atomic_sub(pages, &vmc_grants);
	atomic64_sub((s64)pages << PAGE_SHIFT, &vmc_bytes);
}

/*
 * Allocates zeroed pages and grants them, writable, to @domid. Process context.
 * Returns 0, or -ENOMEM or -ENOSPC with the reason in *why.
 */
int vmc_shared_alloc(struct vmc_shared *s, unsigned int pages, u32 domid,
		     enum vmc_reason *why)
{
	int ref;

	memset(s, 0, sizeof(*s));
	if (!vmc_budget_take(pages, why))
		return -ENOMEM;
	s->va = __vmalloc((size_t)pages << PAGE_SHIFT,
			  GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN | __GFP_NORETRY);
	if (!s->va) {
		vmc_budget_give(pages);
		*why = VMC_R_NO_MEMORY;
		return -ENOMEM;
	}
	s->pages = pages;
	s->domid = domid;
	for (; s->granted < pages; s->granted++) {
		struct page *page = vmalloc_to_page((u8 *)s->va + s->granted * PAGE_SIZE);

		ref = gnttab_grant_foreign_access(domid, xen_page_to_gfn(page), 0);
		if (ref < 0) {
			*why = VMC_R_NO_GRANTS;
			vmc_shared_end(s);
			vmc_shared_free(s);
			return -ENOSPC;
		}
		s->ref[s->granted] = ref;
	}
	return 0;
}

/* ------------------------------------------------- pages not given back */

#define VMC_STUCK_RETRY	(HZ / 10)

/* A page of ours that a peer still maps: not reused, and in the budget, until it lets go. */
struct vmc_stuck {
	struct list_head node;
	struct page *page;
	grant_ref_t ref;
	u32 domid;
};

static LIST_HEAD(vmc_stuck);
static DEFINE_SPINLOCK(vmc_stuck_lock);
static void vmc_stuck_retry(struct work_struct *work);
static DECLARE_DELAYED_WORK(vmc_stuck_work, vmc_stuck_retry);

static void vmc_stuck_retry(struct work_struct *work)
{
	struct vmc_stuck *s, *tmp;
	LIST_HEAD(list);
	bool again;

	spin_lock(&vmc_stuck_lock);
	list_splice_init(&vmc_stuck, &list);
	spin_unlock(&vmc_stuck_lock);
	list_for_each_entry_safe(s, tmp, &list, node) {
		if (!gnttab_try_end_foreign_access(s->ref))
			continue;
		list_del(&s->node);
		put_page(s->page);
		vmc_budget_give(1);
		kfree(s);
	}
	spin_lock(&vmc_stuck_lock);
	list_splice(&list, &vmc_stuck);
	again = !list_empty(&vmc_stuck);
	spin_unlock(&vmc_stuck_lock);
	if (again)
		queue_delayed_work(vmc_wq, &vmc_stuck_work, VMC_STUCK_RETRY);
}

/* Pages that @domid still maps although we want them back. */
unsigned int vmc_shared_stuck(u32 domid)
{
	struct vmc_stuck *s;
	unsigned int n = 0;

	spin_lock(&vmc_stuck_lock);
	list_for_each_entry(s, &vmc_stuck, node)
		n += s->domid == domid;
	spin_unlock(&vmc_stuck_lock);
	return n;
}

/* Nobody shares memory any more; what is stuck is left to the kernel's own list. */
void vmc_mem_exit(void)
{
	struct vmc_stuck *s, *tmp;

	cancel_delayed_work_sync(&vmc_stuck_work);
	list_for_each_entry_safe(s, tmp, &vmc_stuck, node) {
		gnttab_end_foreign_access(s->ref, s->page);
		kfree(s);
	}
	INIT_LIST_HEAD(&vmc_stuck);
}

/*
 * Takes the other domain's access away. A page that it still maps is kept out
 * of use, and in the budget, until it maps it no more. It has to have written its
 * last: the ring is closed. Process context.
 */
void vmc_shared_end(struct vmc_shared *s)
{
	struct vmc_stuck *stuck;
	u8 *va;

	for (; s->granted; s->granted--) {
		grant_ref_t ref = s->ref[s->granted - 1];

		if (gnttab_try_end_foreign_access(ref))
			continue;
		stuck = kmalloc(sizeof(*stuck), GFP_KERNEL | __GFP_NOFAIL);
		va = (u8 *)s->va + (s->granted - 1) * PAGE_SIZE;
		/*
		 * What the peer wrote there is not known to Xen as long as it maps the
		 * page: one write of ours, and it goes along when we are migrated.
		 */
		WRITE_ONCE(*va, READ_ONCE(*va));
		stuck->page = vmalloc_to_page(va);
		get_page(stuck->page);
		stuck->ref = ref;
		stuck->domid = s->domid;
		s->stuck++;
		spin_lock(&vmc_stuck_lock);
		list_add(&stuck->node, &vmc_stuck);
		spin_unlock(&vmc_stuck_lock);
		queue_delayed_work(vmc_wq, &vmc_stuck_work, VMC_STUCK_RETRY);
	}
}

/* Frees the memory; access has to be ended. The reader may be using it until RCU says not. */
void vmc_shared_free(struct vmc_shared *s)
{
	if (!s->va)
		return;
	WARN_ON_ONCE(s->granted);
	vmc_budget_give(s->pages - s->stuck);
	vfree(s->va);
	s->va = NULL;
}

/* Maps @pages pages of @domid. Process context. Returns 0, -ENOMEM or -EIO. */
int vmc_foreign_map(struct vmc_foreign *f, u32 domid, const u32 *ref,
		    unsigned int pages)
{
	struct gnttab_map_grant_ref *op;
	unsigned int i, good = 0;
	int err;

	op = kcalloc(pages, sizeof(*op), GFP_KERNEL);
	if (!op)
		return -ENOMEM;
	err = gnttab_alloc_pages(pages, f->page);
	if (err)
		goto out;
	for (i = 0; i < pages; i++)
		gnttab_set_map_op(&op[i], (unsigned long)page_address(f->page[i]),
				  GNTMAP_host_map, ref[i], domid);
	err = gnttab_map_refs(op, NULL, f->page, pages);
	if (err)
		pr_warn_ratelimited("vmc: mapping %u pages of domain %u: %d\n", pages, domid, err);
	for (i = 0; i < pages; i++) {
		f->handle[i] = INVALID_GRANT_HANDLE;
		if (!op[i].status) {
			f->handle[i] = op[i].handle;
			good++;
		}
	}
	f->pages = pages;
	atomic_add(good, &vmc_mapped);
	if (err || good != pages) {
		vmc_foreign_unmap(f);
		err = -EIO;
	}
out:
	kfree(op);
	return err;
}

/* Unmaps and frees. Nobody may be touching the pages. Process context. */
void vmc_foreign_unmap(struct vmc_foreign *f)
{
	struct gnttab_unmap_grant_ref *op;
	struct gntab_unmap_queue_data *data;	/* with a timer, so not on the stack */
	struct page **page;
	unsigned int i, n = 0;
	int err = 0;

	if (!f->pages)
		return;
	/* cannot be allowed to fail: a foreign page must not stay mapped */
	op = kcalloc(f->pages, sizeof(*op), GFP_KERNEL | __GFP_NOFAIL);
	page = kcalloc(f->pages, sizeof(*page), GFP_KERNEL | __GFP_NOFAIL);
	data = kzalloc(sizeof(*data), GFP_KERNEL | __GFP_NOFAIL);
	for (i = 0; i < f->pages; i++) {
		if (f->handle[i] == INVALID_GRANT_HANDLE)
			continue;
		gnttab_set_unmap_op(&op[n], (unsigned long)page_address(f->page[i]),
				    GNTMAP_host_map, f->handle[i]);
		page[n++] = f->page[i];
	}
	if (n) {
		data->unmap_ops = op;
		data->pages = page;
		data->count = n;
		err = gnttab_unmap_refs_sync(data);
		atomic_sub(n, &vmc_mapped);
	}
	if (WARN_ON_ONCE(err))
		pr_err("vmc: unmapping %u foreign pages: %d; they are not reused\n", n, err);
	else
		gnttab_free_pages(f->pages, f->page);
	f->pages = 0;
	kfree(data);
	kfree(page);
	kfree(op);
}

/* A copy of a whole message, to be kfree()d; NULL without memory. Any context. */
struct vmc_outmsg *vmc_outmsg_new(const struct vmc_msg *m)
{
	struct vmc_outmsg *o = kmalloc(offsetof(struct vmc_outmsg, raw) + m->len, GFP_ATOMIC);

	if (o)
		memcpy(o->raw, m, m->len);
	return o;
}
