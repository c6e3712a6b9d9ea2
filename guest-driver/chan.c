// SPDX-License-Identifier: GPL-2.0-only
/*
 * A channel to one peer: control ring both ways, doorbells, one event channel,
 * and the worker that handles what the peer says.
 */
#include <linux/slab.h>
#include <xen/events.h>
#include <xen/interface/event_channel.h>
#include <asm/xen/hypercall.h>

#include "vmc.h"

#define VMC_OUTQ_MAX	8192	/* messages that wait for room in the peer's control ring */
#define VMC_EMPTY_EVENTS 16	/* events in a row without news, before it is called a storm */
#define VMC_WORK_BUDGET	256	/* messages for one run of the worker */

static void vmc_chan_release(struct kref *ref)
{
	struct vmc_chan *ch = container_of(ref, struct vmc_chan, ref);

	vmc_peer_put(ch->peer);
	kvfree_rcu(ch, rcu);
}

void vmc_chan_put(struct vmc_chan *ch)
{
	kref_put(&ch->ref, vmc_chan_release);
}

/* --------------------------------------------------------------- sending */

static void vmc_chan_ring(struct vmc_chan *ch)
{
	/* only the first to ring since the peer last looked has to notify */
	if (!vmc_xchg(&ch->out_page->rung, 1)) {
		atomic64_inc(&ch->events_tx);
		notify_remote_via_irq(ch->irq);
	}
}

/* Sets a ring's bit in one of the peer's maps; after the end of the channel nothing. */
static void vmc_chan_bell(struct vmc_chan *ch, bool space, u32 ring)
{
	u64 *map;

	rcu_read_lock();
	/* pairs with vmc_chan_half_map(): out_page is set */
	if (smp_load_acquire(&ch->out_ok)) {
		map = space ? ch->out_page->space : ch->out_page->data;
		vmc_set_bit64(&map[ring / 64], ring % 64);
		vmc_chan_ring(ch);
	}
	rcu_read_unlock();
}

void vmc_chan_bell_data(struct vmc_chan *ch, u32 ring)
{
	vmc_chan_bell(ch, false, ring);
}

void vmc_chan_bell_space(struct vmc_chan *ch, u32 ring)
{
	vmc_chan_bell(ch, true, ring);
}

/* out_lock held. Sends what fits; true if something was notified about. */
static void vmc_chan_flush(struct vmc_chan *ch)
{
	void *data = vmc_foreign_va(&ch->out, 1);
	struct vmc_outmsg *o, *tmp;
	bool sent = false;
	int err;

	list_for_each_entry_safe(o, tmp, &ch->outq, node) {
		err = vmc_msg_put(&ch->out_prod, data, &o->h);
		if (err == -EAGAIN) {
			if (!vmc_ring_prod_arm(&ch->out_prod, o->h.len))
				break;
			err = vmc_msg_put(&ch->out_prod, data, &o->h);
		}
		if (err) {
			vmc_chan_broken(ch, "control ring");
			break;
		}
		list_del(&o->node);
		ch->outq_len--;
		kfree(o);
		sent = true;
	}
	vmc_jitter_atomic();
	if (sent && vmc_ring_prod_notify(&ch->out_prod))
		vmc_chan_ring(ch);
}

/*
 * Queues a message for the peer and sends it if there is room. Any context but
 * hard interrupts. Returns 0, -ENOTCONN, -ENOMEM.
 */
int vmc_chan_send(struct vmc_chan *ch, const struct vmc_msg *m)
{
	struct vmc_outmsg *o;
	int err = 0;

	o = vmc_outmsg_new(m);
	if (!o) {		/* a message lost is a protocol broken, but not by the peer */
		vmc_chan_start_close(ch, VMC_R_NO_MEMORY);
		return -ENOMEM;
	}
	spin_lock_bh(&ch->out_lock);
	if (!ch->out_ok || ch->outq_len >= VMC_OUTQ_MAX) {
		err = -ENOTCONN;
		kfree(o);
		if (ch->out_ok)
			vmc_chan_broken(ch, "the peer does not read its control ring");
	} else {
		list_add_tail(&o->node, &ch->outq);
		ch->outq_len++;
		vmc_chan_flush(ch);
	}
	spin_unlock_bh(&ch->out_lock);
	return err;
}

/* ------------------------------------------------------------- receiving */

void vmc_chan_queue(struct vmc_chan *ch)
{
	kref_get(&ch->ref);
	if (!queue_work(vmc_wq, &ch->work))
		vmc_chan_put(ch);
}

static int vmc_chan_handle(struct vmc_chan *ch, const union vmc_any_msg *m)
{
	switch (m->h.type) {
	case VMC_C_OFFER:
		vmc_rx_offer(ch, &m->offer);
		return 0;
	case VMC_C_ACCEPT:
		vmc_tx_accept(ch, &m->accept);
		return 0;
	case VMC_C_REJECT:
		vmc_tx_reject(ch, &m->reject);
		return 0;
	case VMC_C_RING_ADD:
		return vmc_pool_tx_add(ch, &m->ring_add);
	case VMC_C_RING_DEL:
		return vmc_pool_tx_del(ch, m->h.id);
	case VMC_C_RING_GONE:
		return vmc_pool_rx_gone(ch, m->h.id);
	case VMC_C_DONE:
		return vmc_pool_rx_done(ch, m->h.id);
	case VMC_C_PKT_OPEN:
		return vmc_pkt_rx_open(ch, &m->pkt_open);
	case VMC_C_PKT_RING:
	case VMC_C_PKT_NONE:
		return vmc_pkt_tx_answer(ch, &m->pkt_answer);
	case VMC_C_ADDR_ASK:
		return vmc_pkt_rx_ask(ch, &m->addr_ask);
	case VMC_C_ADDR_OK:
	case VMC_C_ADDR_NO:
	case VMC_C_ADDR_LIVE:
		return vmc_pkt_tx_addr(ch, &m->addr_answer);
	default:
		return -EPROTO;		/* a link message */
	}
}

static void vmc_chan_receive(struct vmc_chan *ch)
{
	void *data = (u8 *)ch->in.va + PAGE_SIZE;
	union vmc_any_msg m;
	unsigned int n;
	int ret;

	for (n = 0; n < VMC_WORK_BUDGET; n++) {
		ret = vmc_msg_get(&ch->in_cons, data, &m);
		if (ret > 0)
			ret = vmc_chan_handle(ch, &m);
		else if (!ret && !vmc_ring_cons_arm(&ch->in_cons))
			break;
		if (ret == -ENOMEM) {
			vmc_chan_start_close(ch, VMC_R_NO_MEMORY);
			return;
		}
		if (ret < 0) {
			vmc_chan_broken(ch, ret == -EPROTO ? "control message" : "control ring");
			return;
		}
	}
	if (ch->out_ok && vmc_ring_cons_notify(&ch->in_cons)) {
		rcu_read_lock();
		vmc_chan_ring(ch);
		rcu_read_unlock();
	}
	if (n == VMC_WORK_BUDGET)
		vmc_chan_queue(ch);
}

static void vmc_chan_work(struct work_struct *work)
{
	struct vmc_chan *ch = container_of(work, struct vmc_chan, work);
	unsigned long again;

	mutex_lock(&ch->mutex);
	if (!ch->dead && !READ_ONCE(ch->broken) && ch->out_ok) {
		vmc_chan_receive(ch);
		spin_lock_bh(&ch->out_lock);
		vmc_chan_flush(ch);
		spin_unlock_bh(&ch->out_lock);
	}
	again = vmc_pool_tidy(ch);
	if (!ch->dead) {
		if (xchg(&ch->tx_end_packets, false))
			vmc_pkt_tx_leave(ch, VMC_R_OPERATOR);
		if (xchg(&ch->rx_end_packets, false))
			vmc_pkt_rx_close(ch);
		again = min_not_zero(again, vmc_pkt_tx_tidy(ch));
		again = min_not_zero(again, vmc_pkt_rx_tidy(ch));
		if (again)
			queue_delayed_work(vmc_wq, &ch->trim, again);
	}
	mutex_unlock(&ch->mutex);
	vmc_chan_put(ch);
}

/* Somebody has to look whether the reader moves at all. Any context. */
void vmc_chan_tx_waits(struct vmc_chan *ch)
{
	if (!READ_ONCE(ch->tx_waiting) && !READ_ONCE(ch->dead)) {
		WRITE_ONCE(ch->tx_waiting, true);
		mod_delayed_work(vmc_wq, &ch->trim, VMC_STALL);
	}
}

static void vmc_chan_trim(struct work_struct *work)
{
	vmc_chan_queue(container_of(to_delayed_work(work), struct vmc_chan, trim));
}

/* ---------------------------------------------------------------- events */

static bool vmc_chan_collect(struct vmc_chan *ch)
{
	struct vmc_chan_page *page = ch->in_page;
	struct vmc_rxring *r;
	struct vmc_txring *t;
	struct vmc_conn *conn;
	bool found = false;
	unsigned int i, bit;
	u64 bits;

	for (i = 0; i < ARRAY_SIZE(page->data); i++) {
		bits = vmc_load(&page->data[i]) ? vmc_xchg(&page->data[i], 0) : 0;
		for (; bits; bits &= bits - 1) {
			bit = __ffs64(bits);
			r = rcu_dereference(ch->rx[i * 64 + bit]);
			if (r && r->packets) {
				found = true;
				vmc_pkt_rx_event(ch);
				continue;
			}
			conn = r ? rcu_dereference(r->conn) : NULL;
			if (!conn)
				continue;
			found = true;
			vmc_conn_data_ready(conn);
		}
		bits = vmc_load(&page->space[i]) ? vmc_xchg(&page->space[i], 0) : 0;
		for (; bits; bits &= bits - 1) {
			bit = __ffs64(bits);
			t = rcu_dereference(ch->tx[i * 64 + bit]);
			if (t && t->packets) {
				found = true;
				vmc_pkt_tx_space(ch);
				continue;
			}
			conn = t ? rcu_dereference(t->conn) : NULL;
			if (!conn)
				continue;
			found = true;
			if (vmc_load(&t->prod.hdr->prod) & VMC_RING_CLOSED &&
			    !xchg(&ch->tx_closed, true))
				vmc_chan_queue(ch);
			vmc_conn_write_space(conn);
		}
	}
	return found;
}

static void vmc_chan_tasklet(struct tasklet_struct *tl)
{
	struct vmc_chan *ch = from_tasklet(ch, tl, tasklet);
	bool found;

	atomic64_inc(&ch->events_rx);
	rcu_read_lock();
	/* before the bits: whoever sets one after this rings again */
	vmc_xchg(&ch->in_page->rung, 0);
	found = vmc_chan_collect(ch);
	rcu_read_unlock();
	/*
	 * The wait word may have been taken for what the worker had read before it
	 * asked: nobody would ask again, and the next message would not be told of.
	 */
	vmc_ring_cons_wait(&ch->in_cons);
	if (vmc_ring_cons_ready(&ch->in_cons, 1) || !list_empty(&ch->outq)) {
		found = true;
		vmc_chan_queue(ch);
	}
	/*
	 * An event can come after the worker has already seen what it announced.
	 * Many such in a row are a peer's mischief: let Xen's back-off have them.
	 */
	ch->empty_events = found ? 0 : ch->empty_events + 1;
	xen_irq_lateeoi(ch->irq, ch->empty_events > VMC_EMPTY_EVENTS ?
				 XEN_EOI_FLAG_SPURIOUS : 0);
}

static irqreturn_t vmc_chan_irq(int irq, void *arg)
{
	struct vmc_chan *ch = arg;

	/* an event can come while it is being bound, before bind has told us this */
	ch->irq = irq;
	tasklet_schedule(&ch->tasklet);
	return IRQ_HANDLED;
}

/* ---------------------------------------------------------- opening */

static void vmc_chan_close_work(struct work_struct *work);

struct vmc_chan *vmc_chan_new(u32 id, struct vmc_peer *peer)
{
	struct vmc_chan *ch = kvzalloc(sizeof(*ch), GFP_KERNEL);

	if (!ch)
		return NULL;
	kref_init(&ch->ref);
	kref_get(&peer->ref);
	ch->id = id;
	ch->peer = peer;
	ch->domid = peer->domid;
	ch->state = VMC_CHAN_OPENING;
	ch->idle_scan = jiffies;
	ch->tx_moved = jiffies - VMC_STALL;
	INIT_LIST_HEAD(&ch->node);
	INIT_LIST_HEAD(&ch->outq);
	INIT_LIST_HEAD(&ch->rx_free);
	INIT_LIST_HEAD(&ch->rx_gone);
	INIT_LIST_HEAD(&ch->tx_gone);
	init_llist_head(&ch->released);
	spin_lock_init(&ch->out_lock);
	mutex_init(&ch->mutex);
	INIT_WORK(&ch->work, vmc_chan_work);
	INIT_WORK(&ch->close_work, vmc_chan_close_work);
	INIT_DELAYED_WORK(&ch->trim, vmc_chan_trim);
	tasklet_setup(&ch->tasklet, vmc_chan_tasklet);
	vmc_pkt_tx_init(ch);
	vmc_pkt_rx_init(ch);
	return ch;
}

/* Our half: the control ring that we read. */
static int vmc_chan_half_alloc(struct vmc_chan *ch, struct vmc_l_chan_half *half,
			       enum vmc_reason *why)
{
	unsigned int i;
	int err;

	err = vmc_shared_alloc(&ch->in, VMC_MSG_RING_PAGES, ch->domid, why);
	if (err)
		return err;
	ch->in_page = ch->in.va;
	vmc_store(&ch->in_page->ring.cons_wait, 1);
	vmc_ring_cons_init(&ch->in_cons, &ch->in_page->ring, VMC_MSG_RING_SIZE);
	for (i = 0; i < VMC_MSG_RING_PAGES; i++)
		half->ring_ref[i] = ch->in.ref[i];
	half->peer = ch->domid;
	return 0;
}

static int vmc_chan_bind(struct vmc_chan *ch, enum vmc_reason *why)
{
	int irq = bind_evtchn_to_irqhandler_lateeoi(ch->port, vmc_chan_irq, 0, "vmc-channel", ch);

	if (irq < 0) {		/* the port was closed with it */
		*why = VMC_R_NO_PORT;
		return irq;
	}
	ch->irq = irq;
	return 0;
}

/* The peer's half: the control ring that we write. From here on we can talk. */
static int vmc_chan_half_map(struct vmc_chan *ch, const struct vmc_l_chan_half *theirs,
			     enum vmc_reason *why)
{
	int err = vmc_foreign_map(&ch->out, ch->domid, theirs->ring_ref, VMC_MSG_RING_PAGES);

	if (err) {
		*why = err == -ENOMEM ? VMC_R_NO_MEMORY : VMC_R_MAP;
		return err;
	}
	ch->out_mapped = true;
	ch->out_page = vmc_foreign_va(&ch->out, 0);
	spin_lock_bh(&ch->out_lock);
	vmc_ring_prod_init(&ch->out_prod, &ch->out_page->ring, VMC_MSG_RING_SIZE);
	/* pairs with the bells, which hold no lock */
	smp_store_release(&ch->out_ok, true);
	spin_unlock_bh(&ch->out_lock);
	vmc_peer_use_chan(ch);
	vmc_chan_queue(ch);
	return 0;
}

/* First side: a half with a fresh port for the peer. */
static int vmc_chan_do_prepare(struct vmc_chan *ch, struct vmc_l_chan_half *half,
			       enum vmc_reason *why)
{
	struct evtchn_alloc_unbound op = { .dom = DOMID_SELF, .remote_dom = ch->domid };
	int err;

	err = vmc_chan_half_alloc(ch, half, why);
	if (err)
		return err;
	err = HYPERVISOR_event_channel_op(EVTCHNOP_alloc_unbound, &op);
	if (err) {
		*why = VMC_R_NO_PORT;
		return err;
	}
	ch->port = op.port;
	half->port = op.port;
	return vmc_chan_bind(ch, why);
}

/* Second side: binds the first side's port and maps its ring. */
static int vmc_chan_do_connect(struct vmc_chan *ch, const struct vmc_l_chan_half *theirs,
			       struct vmc_l_chan_half *half, enum vmc_reason *why)
{
	struct evtchn_bind_interdomain op = {
		.remote_dom = ch->domid,
		.remote_port = theirs->port,
	};
	int err;

	err = vmc_chan_half_alloc(ch, half, why);
	if (err)
		return err;
	err = HYPERVISOR_event_channel_op(EVTCHNOP_bind_interdomain, &op);
	if (err) {
		*why = VMC_R_NO_PORT;
		return err;
	}
	ch->port = op.local_port;
	err = vmc_chan_bind(ch, why);
	if (err)
		return err;
	return vmc_chan_half_map(ch, theirs, why);
}

/* First side: maps the second side's ring. */
static int vmc_chan_do_complete(struct vmc_chan *ch, const struct vmc_l_chan_half *theirs,
				enum vmc_reason *why)
{
	return vmc_chan_half_map(ch, theirs, why);
}

/*
 * Each step under the mutex, and none once the end has begun: the end undoes
 * what it finds.
 */
int vmc_chan_prepare(struct vmc_chan *ch, struct vmc_l_chan_half *half,
		     enum vmc_reason *why)
{
	int err;

	mutex_lock(&ch->mutex);
	err = ch->dead ? -ESHUTDOWN : vmc_chan_do_prepare(ch, half, why);
	mutex_unlock(&ch->mutex);
	return err;
}

int vmc_chan_connect(struct vmc_chan *ch, const struct vmc_l_chan_half *theirs,
		     struct vmc_l_chan_half *half, enum vmc_reason *why)
{
	int err;

	mutex_lock(&ch->mutex);
	err = ch->dead ? -ESHUTDOWN : vmc_chan_do_connect(ch, theirs, half, why);
	mutex_unlock(&ch->mutex);
	return err;
}

int vmc_chan_complete(struct vmc_chan *ch, const struct vmc_l_chan_half *theirs,
		      enum vmc_reason *why)
{
	int err = -EPROTO;

	mutex_lock(&ch->mutex);
	if (ch->dead)
		err = -ESHUTDOWN;
	else if (ch->irq && !ch->out_mapped)
		err = vmc_chan_do_complete(ch, theirs, why);
	mutex_unlock(&ch->mutex);
	return err;
}

/* --------------------------------------------------------------- ending */

/* Whoever finds it may call this, in any context; once is enough. */
void vmc_chan_broken(struct vmc_chan *ch, const char *what)
{
	if (xchg(&ch->broken, true))
		return;
	pr_warn_ratelimited("vmc: domain %u broke the protocol (%s), channel %u ends\n",
			    ch->domid, what, ch->id);
	vmc_count(VMC_R_PROTOCOL);
	vmc_chan_start_close(ch, VMC_R_PROTOCOL);
}

/* Starts the end; CHAN_CLOSED goes out when nothing of the peer is mapped any more. */
void vmc_chan_start_close(struct vmc_chan *ch, enum vmc_reason why)
{
	cmpxchg(&ch->close_reason, VMC_R_NONE, why);
	kref_get(&ch->ref);
	if (!queue_work(vmc_wq, &ch->close_work))
		vmc_chan_put(ch);
}

static void vmc_chan_close_work(struct work_struct *work)
{
	struct vmc_chan *ch = container_of(work, struct vmc_chan, close_work);
	struct vmc_outmsg *o, *tmp;

	mutex_lock(&ch->mutex);
	if (ch->dead)
		goto out;
	WRITE_ONCE(ch->dead, true);
	smp_mb();	/* pairs with vmc_tx_offer(): whoever comes after this sees it */
	vmc_peer_forget_chan(ch);
	vmc_tx_forget_offers(ch);
	vmc_pool_end(ch, ch->close_reason);

	spin_lock_bh(&ch->out_lock);
	WRITE_ONCE(ch->out_ok, false);
	list_for_each_entry_safe(o, tmp, &ch->outq, node)
		kfree(o);
	INIT_LIST_HEAD(&ch->outq);
	spin_unlock_bh(&ch->out_lock);
	synchronize_rcu();		/* bells that saw out_ok */

	if (ch->irq) {
		disable_irq(ch->irq);
		tasklet_kill(&ch->tasklet);	/* its EOI wants the irq alive */
		unbind_from_irqhandler(ch->irq, ch);
	}
	vmc_pkt_rx_free(ch);
	if (ch->out_mapped)
		vmc_foreign_unmap(&ch->out);
	vmc_shared_end(&ch->in);
	vmc_shared_free(&ch->in);
	cancel_delayed_work_sync(&ch->trim);
	vmc_link_chan_closed(ch, ch->close_reason);
out:
	mutex_unlock(&ch->mutex);
	vmc_chan_put(ch);
}
