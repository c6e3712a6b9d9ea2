// SPDX-License-Identifier: GPL-2.0-only
/*
 * The rings of a channel: ours, which the peer writes, and the peer's, which
 * we write. PROTOCOL.md, "Rings on a channel", has the states.
 */
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "vmc.h"

#define VMC_RING_IDLE	(2 * HZ)	/* a free ring is kept that long */
#define VMC_IDLE_SCAN	HZ

/* ------------------------------------------------------------ our rings */

static int vmc_pool_announce(struct vmc_chan *ch, const struct vmc_rxring *r)
{
	struct vmc_c_ring_add m = {
		.h = { VMC_C_RING_ADD, sizeof(m), r->id },
		.pages = r->mem.pages,
	};
	unsigned int i;
	int err;

	for (m.first = 0; m.first < r->mem.pages; m.first += m.count) {
		m.count = min(r->mem.pages - m.first, VMC_GREFS_PER_MSG);
		memset(m.ref, 0, sizeof(m.ref));
		for (i = 0; i < m.count; i++)
			m.ref[i] = r->mem.ref[m.first + i];
		err = vmc_chan_send(ch, &m.h);
		if (err)
			return err;
	}
	return 0;
}

static void vmc_pool_rx_free(struct vmc_rxring *r)
{
	vmc_shared_end(&r->mem);
	vmc_shared_free(&r->mem);
	vmc_chan_put(r->chan);
	kfree(r);
}

static struct vmc_rxring *vmc_pool_rx_new(struct vmc_chan *ch, unsigned int pages,
					  enum vmc_reason *why)
{
	struct vmc_rxring *r;
	u32 id;

	for (id = 0; id < VMC_RINGS_MAX; id++)
		if (!rcu_access_pointer(ch->rx[id]))
			break;
	/* one peer must not be able to use up what all of them share */
	if (id == VMC_RINGS_MAX ||
	    ch->rx_pages + pages + vmc_shared_stuck(ch->domid) > vmc_grants_most() / 2) {
		*why = VMC_R_LIMIT;
		return NULL;
	}
	r = kzalloc(sizeof(*r), GFP_KERNEL);
	if (!r) {
		*why = VMC_R_NO_MEMORY;
		return NULL;
	}
	if (vmc_shared_alloc(&r->mem, pages, ch->domid, why)) {
		kfree(r);
		return NULL;
	}
	r->chan = ch;
	r->id = id;
	kref_get(&ch->ref);
	INIT_LIST_HEAD(&r->node);
	if (vmc_pool_announce(ch, r)) {
		*why = VMC_R_LIMIT;
		vmc_pool_rx_free(r);
		return NULL;
	}
	ch->rx_rings++;
	ch->rx_pages += pages;
	rcu_assign_pointer(ch->rx[id], r);
	return r;
}

/* A size that a ring can have, near the one that the peer would like. */
static unsigned int vmc_pool_pages(u32 want, u32 least)
{
	u32 most = max(vmc_ring_most(), least);

	return 1 + (rounddown_pow_of_two(clamp(want, VMC_RING_MIN_SIZE, most)) >> PAGE_SHIFT);
}

/* Takes a free ring of that many pages, or of more than @above for 0. */
static struct vmc_rxring *vmc_pool_rx_take(struct vmc_chan *ch, unsigned int pages,
					   unsigned int above)
{
	struct vmc_rxring *r;

	list_for_each_entry(r, &ch->rx_free, node)
		if (pages ? r->mem.pages == pages : r->mem.pages > above) {
			list_del_init(&r->node);
			return r;
		}
	return NULL;
}

/*
 * A ring ready for a new life, its wait word armed, or NULL with the reason. Of
 * about @want bytes; of any size from @least on if there is one and memory is short.
 */
struct vmc_rxring *vmc_pool_rx_get(struct vmc_chan *ch, u32 want, u32 least,
				   enum vmc_reason *why)
{
	unsigned int pages = vmc_pool_pages(want, least);
	struct vmc_ring_hdr *hdr;
	struct vmc_rxring *r;

	r = vmc_pool_rx_take(ch, pages, 0);
	if (!r)
		r = vmc_pool_rx_new(ch, pages, why);
	if (!r)
		r = vmc_pool_rx_take(ch, 0, least >> PAGE_SHIFT);
	if (!r)
		return NULL;
	*why = VMC_R_NONE;
	hdr = r->mem.va;
	vmc_ring_reset(hdr);
	vmc_store(&hdr->cons_wait, 1);
	vmc_ring_cons_init(&r->cons, hdr, (r->mem.pages - 1) * PAGE_SIZE);
	r->in_use = true;
	r->packets = false;
	r->peer_done = false;
	ch->streams = true;
	return r;
}

/* The reader is finished with the ring. Any context. */
void vmc_pool_rx_release(struct vmc_rxring *r)
{
	struct vmc_chan *ch = r->chan;

	kref_get(&ch->ref);	/* the ring's own may be gone as soon as it is on the list */
	RCU_INIT_POINTER(r->conn, NULL);
	llist_add(&r->released, &ch->released);
	vmc_chan_queue(ch);
	vmc_chan_put(ch);
}

static void vmc_pool_rx_idle(struct vmc_chan *ch, struct vmc_rxring *r)
{
	if (r->in_use || !r->peer_done || r->retiring)
		return;
	r->idle_since = jiffies;
	list_add(&r->node, &ch->rx_free);
}

/* The writer promises not to touch the ring again. */
int vmc_pool_rx_done(struct vmc_chan *ch, u32 id)
{
	struct vmc_rxring *r;
	struct vmc_conn *conn;

	r = id < VMC_RINGS_MAX ?
	    rcu_dereference_protected(ch->rx[id], lockdep_is_held(&ch->mutex)) : NULL;
	if (!r || r->peer_done || r->retiring)
		return -EPROTO;
	r->peer_done = true;
	/* a writer that could not even map the ring could not close it either */
	vmc_set_bit64(&((struct vmc_ring_hdr *)r->mem.va)->prod, VMC_RING_CLOSED_BIT);
	if (!r->in_use) {
		vmc_pool_rx_idle(ch, r);
		return 0;
	}
	if (r->packets) {
		vmc_pkt_rx_event(ch);
		return 0;
	}

	rcu_read_lock();
	conn = rcu_dereference(r->conn);
	if (conn && !kref_get_unless_zero(&conn->ref))
		conn = NULL;
	rcu_read_unlock();
	if (!conn)
		return 0;
	/* an application that never reads again must not hold an empty ring */
	if (mutex_trylock(&conn->rx_mutex)) {
		if (rcu_access_pointer(conn->rx) == r && !vmc_rx_pending(conn))
			vmc_rx_end(conn);
		mutex_unlock(&conn->rx_mutex);
	}
	vmc_conn_data_ready(conn);
	vmc_conn_put(conn);
	return 0;
}

int vmc_pool_rx_gone(struct vmc_chan *ch, u32 id)
{
	struct vmc_rxring *r;

	r = id < VMC_RINGS_MAX ?
	    rcu_dereference_protected(ch->rx[id], lockdep_is_held(&ch->mutex)) : NULL;
	if (!r || !r->retiring)
		return -EPROTO;
	RCU_INIT_POINTER(ch->rx[id], NULL);
	ch->rx_rings--;
	ch->rx_pages -= r->mem.pages;
	list_add(&r->node, &ch->rx_gone);
	return 0;
}

/* ----------------------------------------------------- the peer's rings */

int vmc_pool_tx_add(struct vmc_chan *ch, const struct vmc_c_ring_add *m)
{
	struct vmc_txring *t;
	u32 data = m->pages - 1u;

	if (m->h.id >= VMC_RINGS_MAX || m->pages < 2 || m->pages > VMC_RING_PAGES_MAX ||
	    data & (data - 1) || !m->count || m->count > VMC_GREFS_PER_MSG ||
	    m->first + m->count > m->pages)
		return -EPROTO;
	t = rcu_dereference_protected(ch->tx[m->h.id], lockdep_is_held(&ch->mutex));
	if (!t) {
		if (m->first)
			return -EPROTO;
		t = kzalloc(sizeof(*t), GFP_KERNEL);
		if (!t)
			return -ENOMEM;
		t->chan = ch;
		t->id = m->h.id;
		t->pages = m->pages;
		INIT_LIST_HEAD(&t->node);
		rcu_assign_pointer(ch->tx[t->id], t);
	}
	if (t->pages != m->pages || t->known != m->first)
		return -EPROTO;
	memcpy(t->ref + m->first, m->ref, m->count * sizeof(t->ref[0]));
	t->known += m->count;
	return 0;
}

int vmc_pool_tx_del(struct vmc_chan *ch, u32 id)
{
	struct vmc_txring *t;

	t = id < VMC_RINGS_MAX ?
	    rcu_dereference_protected(ch->tx[id], lockdep_is_held(&ch->mutex)) : NULL;
	if (!t || READ_ONCE(t->busy))
		return -EPROTO;
	RCU_INIT_POINTER(ch->tx[id], NULL);
	list_add(&t->node, &ch->tx_gone);
	return 0;
}

/* A ring of the peer's that it may name for us to write, or NULL. */
struct vmc_txring *vmc_pool_tx_free(struct vmc_chan *ch, u32 id)
{
	struct vmc_txring *t;

	t = id < VMC_RINGS_MAX ?
	    rcu_dereference_protected(ch->tx[id], lockdep_is_held(&ch->mutex)) : NULL;
	/* busy pairs with vmc_pool_tx_done() */
	return t && t->known == t->pages && !smp_load_acquire(&t->busy) ? t : NULL;
}

int vmc_pool_tx_map(struct vmc_txring *t)
{
	int err;

	if (!t->mapped) {
		err = vmc_foreign_map(&t->map, t->chan->domid, t->ref, t->pages);
		if (err)
			return err;
		t->mapped = true;
	}
	vmc_ring_prod_init(&t->prod, vmc_foreign_va(&t->map, 0), (t->pages - 1) * PAGE_SIZE);
	return 0;
}

/* From now on the ring is this connection's to write. */
void vmc_pool_tx_start(struct vmc_txring *t, struct vmc_conn *conn)
{
	t->busy = true;
	t->idle_pos = 0;
	t->idle_cons = 0;
	t->idle_since = jiffies;
	t->chan->streams = true;
	rcu_assign_pointer(t->conn, conn);
}

/* The writer is finished with the ring, which is closed. Any context. */
void vmc_pool_tx_done(struct vmc_txring *t)
{
	struct vmc_msg m = { VMC_C_DONE, sizeof(m), t->id };
	struct vmc_chan *ch = t->chan;

	/* the end of a channel frees @t as soon as it has no writer any more */
	kref_get(&ch->ref);
	rcu_read_lock();	/* vmc_pool_reap() waits for the two stores */
	RCU_INIT_POINTER(t->conn, NULL);
	/* pairs with vmc_pool_tx_free(): the ring is touched no more */
	smp_store_release(&t->busy, false);
	rcu_read_unlock();
	vmc_chan_bell_data(ch, m.id);	/* the reader may sleep on the open ring */
	vmc_chan_send(ch, &m);
	vmc_chan_put(ch);
}

static void vmc_pool_end_tx(struct vmc_txring *t, enum vmc_reason why)
{
	struct vmc_conn *conn;

	rcu_read_lock();
	conn = rcu_dereference(t->conn);
	if (conn && !kref_get_unless_zero(&conn->ref))
		conn = NULL;
	rcu_read_unlock();
	if (!conn)
		return;
	vmc_tx_drop(conn, t, why);
	vmc_conn_put(conn);
}

/* --------------------------------------------------------- housekeeping */

static void vmc_pool_settle(struct vmc_chan *ch)
{
	struct vmc_rxring *r, *tmp;

	llist_for_each_entry_safe(r, tmp, llist_del_all(&ch->released), released) {
		r->in_use = false;
		if (ch->dead)
			list_add(&r->node, &ch->rx_gone);
		else
			vmc_pool_rx_idle(ch, r);
	}
}

/* Free rings that nobody wants any more. True if some are left to look at. */
static bool vmc_pool_retire(struct vmc_chan *ch)
{
	struct vmc_rxring *r, *tmp;

	list_for_each_entry_safe(r, tmp, &ch->rx_free, node) {
		struct vmc_msg m = { VMC_C_RING_DEL, sizeof(m), r->id };

		if (time_before(jiffies, r->idle_since + VMC_RING_IDLE))
			continue;
		list_del_init(&r->node);
		r->retiring = true;
		vmc_chan_send(ch, &m);
	}
	return !list_empty(&ch->rx_free);
}

/* Everything that waits for a grace period, with one for all. */
static void vmc_pool_reap(struct vmc_chan *ch)
{
	struct vmc_rxring *r, *rtmp;
	struct vmc_txring *t, *ttmp;

	if (list_empty(&ch->rx_gone) && list_empty(&ch->tx_gone))
		return;
	synchronize_rcu();
	list_for_each_entry_safe(t, ttmp, &ch->tx_gone, node) {
		struct vmc_msg m = { VMC_C_RING_GONE, sizeof(m), t->id };

		list_del(&t->node);
		if (t->mapped)
			vmc_foreign_unmap(&t->map);
		if (!ch->dead)	/* asked for by RING_DEL; nobody asked a dead channel */
			vmc_chan_send(ch, &m);
		kfree(t);
	}
	list_for_each_entry_safe(r, rtmp, &ch->rx_gone, node) {
		list_del(&r->node);
		vmc_pool_rx_free(r);
	}
}

/* Readers have closed rings that we write: give them back, even if nobody writes again. */
static void vmc_pool_end_closed(struct vmc_chan *ch)
{
	struct vmc_txring *t;
	u32 id;

	for (id = 0; id < VMC_RINGS_MAX; id++) {
		t = rcu_dereference_protected(ch->tx[id], lockdep_is_held(&ch->mutex));
		if (t && READ_ONCE(t->busy) && vmc_ring_prod_ready(&t->prod, U32_MAX))
			vmc_pool_end_tx(t, VMC_R_PEER_CLOSED);
	}
}

/* Notes where writer and reader are. */
static void vmc_pool_tx_look(struct vmc_txring *t)
{
	u64 pos = READ_ONCE(t->prod.pos), cons = vmc_load(&t->prod.hdr->cons);

	if (pos == t->idle_pos && cons == t->idle_cons)
		return;
	if (cons != t->idle_cons)
		t->chan->tx_moved = jiffies;
	t->idle_pos = pos;
	t->idle_cons = cons;
	t->idle_since = jiffies;
}

/* Is there a reason for this writer to go back to TCP? All rings have been looked at. */
static enum vmc_reason vmc_pool_tx_idle(const struct vmc_txring *t)
{
	unsigned long idle = READ_ONCE(vmc_idle_s) * HZ, stall = VMC_STALL;
	const struct vmc_conn *conn;
	bool overtaken;

	rcu_read_lock();
	conn = rcu_dereference(t->conn);
	overtaken = conn && vmc_tx_overtaken(conn);
	rcu_read_unlock();
	if (unlikely(overtaken))
		return VMC_R_NOT_READY;
	if (idle && time_after_eq(jiffies, t->idle_since + idle))
		return VMC_R_IDLE;
	/* a peer that reads other rings meanwhile may just have much to do */
	if (time_before(jiffies, t->chan->tx_moved + VMC_STALL))
		stall = VMC_STALL_BUSY;
	/* the writer may wait for a reader that waits for what only TCP has room for */
	if (t->idle_pos != t->idle_cons && vmc_load(&t->prod.hdr->prod_wait) &&
	    time_after_eq(jiffies, t->idle_since + stall))
		return VMC_R_STALLED;
	return VMC_R_NONE;
}

/*
 * Streams that do not move go back to TCP, or all of them do; with traffic they
 * will earn new rings. True if there are streams to look at again.
 */
static bool vmc_pool_end_idle(struct vmc_chan *ch, bool all)
{
	enum vmc_reason why = VMC_R_OPERATOR;
	struct vmc_txring *t;
	bool streams = false;
	u32 id;

	for (id = 0; id < VMC_RINGS_MAX; id++) {
		t = rcu_dereference_protected(ch->tx[id], lockdep_is_held(&ch->mutex));
		if (t && READ_ONCE(t->busy) && !t->packets)
			vmc_pool_tx_look(t);
	}
	for (id = 0; id < VMC_RINGS_MAX; id++) {
		t = rcu_dereference_protected(ch->tx[id], lockdep_is_held(&ch->mutex));
		if (!t || !READ_ONCE(t->busy) || t->packets)
			continue;
		streams = true;
		if (!all)
			why = vmc_pool_tx_idle(t);
		if (why)
			vmc_pool_end_tx(t, why);
		else if (vmc_load(&t->prod.hdr->prod_wait))
			WRITE_ONCE(ch->tx_waiting, true);
	}
	return streams;
}

/*
 * Who asked for signals (O_ASYNC) after the reader's last wait has not asked the
 * writer for a word. True if there are readers to look at again.
 */
static bool vmc_pool_tell_async(struct vmc_chan *ch)
{
	struct vmc_rxring *r;
	struct vmc_conn *conn;
	bool streams = false;
	u32 id;

	rcu_read_lock();
	for (id = 0; id < VMC_RINGS_MAX; id++) {
		r = rcu_dereference(ch->rx[id]);
		conn = r ? rcu_dereference(r->conn) : NULL;
		if (!conn)
			continue;
		streams = true;
		if (sock_flag(conn->sk, SOCK_FASYNC) && !vmc_load(&r->cons.hdr->cons_wait)) {
			vmc_ring_cons_wait(&r->cons);
			if (vmc_rx_has(conn))
				vmc_conn_data_ready(conn);
		}
	}
	rcu_read_unlock();
	return streams;
}

/* After each run of the channel's worker. When it wants to be called again, in jiffies, or 0. */
unsigned long vmc_pool_tidy(struct vmc_chan *ch)
{
	unsigned long again = 0;
	bool all, waiting;

	if (!ch->dead && xchg(&ch->tx_closed, false))
		vmc_pool_end_closed(ch);
	vmc_pool_settle(ch);
	if (!ch->dead) {
		all = xchg(&ch->tx_end_all, false);
		waiting = xchg(&ch->tx_waiting, false);
		if (all || (ch->streams &&
			    (waiting || time_after_eq(jiffies, ch->idle_scan)))) {
			ch->streams = vmc_pool_end_idle(ch, all) | vmc_pool_tell_async(ch);
			ch->idle_scan = jiffies + VMC_IDLE_SCAN;
		}
		if (vmc_pool_retire(ch) || ch->streams)
			again = READ_ONCE(ch->tx_waiting) ? VMC_STALL : VMC_IDLE_SCAN;
	}
	vmc_pool_reap(ch);
	return again;
}

static void vmc_pool_end_rx(struct vmc_rxring *r)
{
	struct vmc_conn *conn;

	/* one-sided: what is in the ring now is what the reader will get */
	vmc_set_bit64(&((struct vmc_ring_hdr *)r->mem.va)->prod, VMC_RING_CLOSED_BIT);
	rcu_read_lock();
	conn = rcu_dereference(r->conn);
	if (conn && kref_get_unless_zero(&conn->ref)) {
		rcu_read_unlock();
		vmc_conn_data_ready(conn);
		vmc_conn_put(conn);
		return;
	}
	rcu_read_unlock();
}

/*
 * The channel ends: writers go back to TCP and every foreign page is unmapped
 * when this returns. Readers keep the memory, which is ours, until they have
 * read it. The channel is dead.
 */
void vmc_pool_end(struct vmc_chan *ch, enum vmc_reason why)
{
	struct vmc_rxring *r;
	struct vmc_txring *t;
	u32 id;

	vmc_pkt_tx_end(ch, why);
	vmc_pkt_rx_end(ch);
	for (id = 0; id < VMC_RINGS_MAX; id++) {
		t = rcu_dereference_protected(ch->tx[id], lockdep_is_held(&ch->mutex));
		if (!t)
			continue;
		vmc_pool_end_tx(t, why);
		RCU_INIT_POINTER(ch->tx[id], NULL);
		list_add(&t->node, &ch->tx_gone);
	}
	vmc_pool_settle(ch);
	for (id = 0; id < VMC_RINGS_MAX; id++) {
		r = rcu_dereference_protected(ch->rx[id], lockdep_is_held(&ch->mutex));
		if (!r)
			continue;
		RCU_INIT_POINTER(ch->rx[id], NULL);
		if (r->in_use) {
			vmc_pool_end_rx(r);
			vmc_shared_end(&r->mem);
		} else if (list_empty(&r->node)) {
			list_add(&r->node, &ch->rx_gone);	/* retiring, or DONE missing */
		} else {
			list_move(&r->node, &ch->rx_gone);
		}
	}
	ch->rx_rings = 0;
	ch->rx_pages = 0;
	vmc_pool_reap(ch);
}
