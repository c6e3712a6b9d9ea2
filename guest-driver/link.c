// SPDX-License-Identifier: GPL-2.0-only
/*
 * The link to vmcd: the xenbus frontend, two message rings in pages of ours,
 * one event channel, and what vmcd says over it.
 */
#include <linux/completion.h>
#include <linux/slab.h>
#include <xen/events.h>
#include <xen/xen-ops.h>
#include <xen/xenbus.h>

#include "vmc.h"

#define VMC_LINK_OUTQ_MAX	1024
#define VMC_LINK_PAUSE		(10 * HZ)	/* without channels, if the suspend never comes */

struct vmc_link {
	struct xenbus_device *dev;	/* NULL: no link */
	const struct bus_type *bus;	/* of the device, also of a former one */
	struct vmc_shared mem;		/* VMC_LINK_PAGES */
	struct vmc_ring_cons cons;	/* what we read; worker only */
	evtchn_port_t port;
	int irq;
	struct work_struct work;
	struct completion chans_gone;

	spinlock_t lock;		/* the rest */
	bool up;			/* rings usable */
	struct vmc_ring_prod prod;
	struct list_head outq;
	unsigned int outq_len;
	struct list_head chans;
	unsigned int nr_chans;
	unsigned long no_chans_before;	/* jiffies: none while it ends or is suspended */
};

static struct vmc_link vmc_link;

/* --------------------------------------------------------------- sending */

static void *vmc_link_page(unsigned int i)
{
	return (u8 *)vmc_link.mem.va + i * PAGE_SIZE;
}

/* lock held */
static void vmc_link_flush(struct vmc_link *l)
{
	struct vmc_outmsg *o, *tmp;
	bool sent = false;
	int err;

	if (!l->up)
		return;
	list_for_each_entry_safe(o, tmp, &l->outq, node) {
		err = vmc_msg_put(&l->prod, vmc_link_page(3), &o->h);
		if (err == -EAGAIN && vmc_ring_prod_arm(&l->prod, o->h.len))
			err = vmc_msg_put(&l->prod, vmc_link_page(3), &o->h);
		if (err) {
			if (err != -EAGAIN)
				pr_err_ratelimited("vmc: link ring: %d\n", err);
			break;
		}
		list_del(&o->node);
		l->outq_len--;
		kfree(o);
		sent = true;
	}
	if (sent && vmc_ring_prod_notify(&l->prod))
		notify_remote_via_irq(l->irq);
}

static bool vmc_link_send(const struct vmc_msg *m)
{
	struct vmc_link *l = &vmc_link;
	struct vmc_outmsg *o = vmc_outmsg_new(m);

	bool sent = false;

	if (!o)
		return false;
	spin_lock_bh(&l->lock);
	if (l->up && l->outq_len < VMC_LINK_OUTQ_MAX) {
		list_add_tail(&o->node, &l->outq);
		l->outq_len++;
		vmc_link_flush(l);
		sent = true;
	}
	spin_unlock_bh(&l->lock);
	if (!sent)
		kfree(o);
	return sent;
}

/* ------------------------------------------------------------- channels */

/* Once for each peer until vmcd answers. Any context but hard interrupts. */
void vmc_link_ask_channel(struct vmc_peer *peer)
{
	struct vmc_l_chan_req m = {
		.h = { VMC_L_CHAN_REQ, sizeof(m), 0 },
		.peer = peer->domid,
	};

	if (!READ_ONCE(vmc_leaving) && !xchg(&peer->asked, true) && !vmc_link_send(&m.h))
		WRITE_ONCE(peer->asked, false);
}

/* The bus that this guest's frontends are on; NULL before we had a device there. */
const struct bus_type *vmc_link_bus(void)
{
	return READ_ONCE(vmc_link.bus);
}

/* Counted, or NULL. Any context but hard interrupts. */
struct vmc_chan *vmc_link_chan(u32 id)
{
	struct vmc_link *l = &vmc_link;
	struct vmc_chan *ch, *found = NULL;

	spin_lock_bh(&l->lock);
	list_for_each_entry(ch, &l->chans, node)
		if (ch->id == id) {
			kref_get(&ch->ref);
			found = ch;
			break;
		}
	spin_unlock_bh(&l->lock);
	return found;
}

void vmc_link_for_each_chan(void (*fn)(struct vmc_chan *ch, void *arg), void *arg)
{
	struct vmc_link *l = &vmc_link;
	struct vmc_chan *ch;

	spin_lock_bh(&l->lock);
	list_for_each_entry(ch, &l->chans, node)
		fn(ch, arg);
	spin_unlock_bh(&l->lock);
}

/*
 * Before peers are forgotten: packets for @domid, or for anybody (DOMID_INVALID), go
 * over the network from now on, behind those in rings, for a second at least.
 */
static void vmc_link_leave_packets(u32 domid, enum vmc_reason why)
{
	struct vmc_link *l = &vmc_link;
	struct vmc_chan *ch, *next;
	u32 last = 0;

	for (;;) {
		next = NULL;
		spin_lock_bh(&l->lock);
		list_for_each_entry(ch, &l->chans, node)
			if (ch->id > last && (!next || ch->id < next->id) &&
			    (domid == DOMID_INVALID || domid == ch->domid))
				next = ch;
		if (next)
			kref_get(&next->ref);
		spin_unlock_bh(&l->lock);
		if (!next)
			return;
		last = next->id;
		vmc_pkt_tx_stop(next, why);
		vmc_chan_put(next);
	}
}

static void vmc_link_closed(u32 id, u32 peer, enum vmc_reason why)
{
	struct vmc_l_chan_close m = {
		.h = { VMC_L_CHAN_CLOSED, sizeof(m), id },
		.peer = peer,
		.reason = why,
	};

	vmc_link_send(&m.h);
}

/* The channel has let go of everything; called once for each, by its end. */
void vmc_link_chan_closed(struct vmc_chan *ch, enum vmc_reason why)
{
	struct vmc_link *l = &vmc_link;
	struct vmc_peer *peer = vmc_peer_by_domid(ch->domid);
	bool last;

	if (peer)
		vmc_peer_refused(peer, why);
	vmc_peer_put(peer);
	spin_lock_bh(&l->lock);
	list_del_init(&ch->node);
	last = !--l->nr_chans;
	spin_unlock_bh(&l->lock);
	vmc_link_closed(ch->id, ch->domid, why);
	vmc_chan_put(ch);
	if (last)
		complete_all(&l->chans_gone);
}

static void vmc_link_chan_state(struct vmc_chan *ch, enum vmc_chan_state state)
{
	spin_lock_bh(&vmc_link.lock);
	ch->state = state;
	spin_unlock_bh(&vmc_link.lock);
}

/* A new channel for a peer that vmcd named; NULL with the answer sent if it can't be. */
static struct vmc_chan *vmc_link_chan_new(u32 id, u32 domid)
{
	struct vmc_link *l = &vmc_link;
	struct vmc_peer *peer = vmc_peer_by_domid(domid);
	struct vmc_chan *ch = NULL, *other;
	enum vmc_reason why = VMC_R_NO_PEER;

	if (!peer || READ_ONCE(vmc_leaving))
		goto refuse;
	why = VMC_R_NO_MEMORY;
	ch = vmc_chan_new(id, peer);
	if (!ch)
		goto refuse;
	why = VMC_R_NONE;
	spin_lock_bh(&l->lock);
	if (time_before(jiffies, l->no_chans_before))
		why = VMC_R_TIMEOUT;
	if (l->nr_chans >= VMC_CHANNELS_MAX)
		why = VMC_R_LIMIT;
	list_for_each_entry(other, &l->chans, node)
		if (other->domid == domid || other->id == id)
			why = VMC_R_LIMIT;
	if (!why) {
		list_add_tail(&ch->node, &l->chans);
		l->nr_chans++;
		reinit_completion(&l->chans_gone);
	}
	spin_unlock_bh(&l->lock);
	if (why)
		goto refuse;
	WRITE_ONCE(peer->asked, true);
	vmc_peer_put(peer);
	kref_get(&ch->ref);	/* the caller's */
	return ch;

refuse:
	if (ch)
		vmc_chan_put(ch);
	vmc_peer_put(peer);
	vmc_link_closed(id, domid, why);
	return NULL;
}

static void vmc_link_chan_prepare(const struct vmc_l_chan_prepare *m)
{
	struct vmc_l_chan_half half = {
		.h = { VMC_L_CHAN_OFFER, sizeof(half), m->h.id },
	};
	struct vmc_chan *ch = vmc_link_chan_new(m->h.id, m->peer);
	enum vmc_reason why = VMC_R_NONE;

	if (!ch)
		return;
	if (vmc_chan_prepare(ch, &half, &why))
		vmc_chan_start_close(ch, why);
	else
		vmc_link_send(&half.h);
	vmc_chan_put(ch);
}

static void vmc_link_chan_connect(const struct vmc_l_chan_half *m)
{
	struct vmc_l_chan_half half = {
		.h = { VMC_L_CHAN_ACCEPT, sizeof(half), m->h.id },
	};
	struct vmc_chan *ch = vmc_link_chan_new(m->h.id, m->peer);
	enum vmc_reason why = VMC_R_NONE;

	if (!ch)
		return;
	if (vmc_chan_connect(ch, m, &half, &why)) {
		vmc_chan_start_close(ch, why);
	} else {
		vmc_link_chan_state(ch, VMC_CHAN_UP);
		vmc_link_send(&half.h);
	}
	vmc_chan_put(ch);
}

static void vmc_link_chan_complete(const struct vmc_l_chan_half *m)
{
	struct vmc_msg up = { VMC_L_CHAN_UP, sizeof(up), m->h.id };
	struct vmc_chan *ch = vmc_link_chan(m->h.id);
	enum vmc_reason why = VMC_R_NONE;

	if (!ch) {
		vmc_link_closed(m->h.id, m->peer, VMC_R_NONE);
		return;
	}
	if (vmc_chan_complete(ch, m, &why)) {
		vmc_chan_start_close(ch, why);
	} else {
		vmc_link_chan_state(ch, VMC_CHAN_UP);
		vmc_link_send(&up);
	}
	vmc_chan_put(ch);
}

static void vmc_link_chan_close(const struct vmc_l_chan_close *m)
{
	enum vmc_reason why = m->reason < VMC_R_MAX ? m->reason : VMC_R_PROTOCOL;
	struct vmc_peer *peer;
	struct vmc_chan *ch;

	if (!m->h.id) {			/* our CHAN_REQ was refused */
		peer = vmc_peer_by_domid(m->peer);
		if (peer)
			vmc_peer_refused(peer, why);
		vmc_peer_put(peer);
		return;
	}
	ch = vmc_link_chan(m->h.id);
	if (!ch) {
		vmc_link_closed(m->h.id, m->peer, why);
		return;
	}
	if (!vmc_hostile_keeps()) {
		vmc_link_chan_state(ch, VMC_CHAN_CLOSING);
		vmc_chan_start_close(ch, why);
	}
	vmc_chan_put(ch);
}

/*
 * Ends every channel and waits, for our own workers alone, until nothing of any
 * peer is mapped. None is opened until we run again, or for some seconds.
 */
void vmc_link_close_channels(void)
{
	struct vmc_link *l = &vmc_link;
	struct vmc_chan *ch;
	bool any = false;

	spin_lock_bh(&l->lock);
	l->no_chans_before = jiffies + VMC_LINK_PAUSE;
	list_for_each_entry(ch, &l->chans, node) {
		ch->state = VMC_CHAN_CLOSING;
		vmc_chan_start_close(ch, VMC_R_UNLOAD);
		any = true;
	}
	spin_unlock_bh(&l->lock);
	if (any)
		wait_for_completion(&l->chans_gone);
}

/* ------------------------------------------------------------- receiving */

/* lock held: behind whatever is queued already. */
static bool vmc_link_enqueue(struct vmc_link *l, const struct vmc_msg *m)
{
	struct vmc_outmsg *o = vmc_outmsg_new(m);

	if (!o)
		return false;
	list_add_tail(&o->node, &l->outq);
	l->outq_len++;
	return true;
}

/*
 * A vmcd that may know nothing of us: which channels there are, as one block,
 * so that no end of a channel can overtake the news that it exists.
 */
static void vmc_link_announce(struct vmc_link *l, struct vmc_l_hello *hello)
{
	struct vmc_msg ready = { VMC_L_READY, sizeof(ready), 0 };
	struct vmc_chan *ch;
	bool ok;

	spin_lock_bh(&l->lock);
	hello->channels = l->nr_chans;
	ok = vmc_link_enqueue(l, &hello->h);
	list_for_each_entry(ch, &l->chans, node) {
		struct vmc_l_chan_state m = {
			.h = { VMC_L_CHAN_STATE, sizeof(m), ch->id },
			.peer = ch->domid,
			.state = ch->state,
		};

		ok = ok && vmc_link_enqueue(l, &m.h);
	}
	if (!ok || !vmc_link_enqueue(l, &ready))
		pr_err("vmc: no memory to answer vmcd; it will drop this link\n");
	vmc_link_flush(l);
	spin_unlock_bh(&l->lock);
}

static void vmc_link_settings(const struct vmc_l_settings *s)
{
	const struct vmc_host_limits limits = {
		.bytes = s->max_bytes,
		.grants = s->max_grants,
		.streams = s->max_rings,
		/* of whatever it says, a size that a ring can have */
		.ring_bytes = rounddown_pow_of_two(max(s->ring_bytes, VMC_RING_MIN_SIZE)),
		.poll_us = s->poll_us,
		.packets = s->packets,
	};

	vmc_host_allows(&limits);
}

static void vmc_link_attach(const struct vmc_l_attach *a)
{
	struct vmc_link *l = &vmc_link;
	struct vmc_l_hello hello = {
		.h = { VMC_L_HELLO, sizeof(hello), 0 },
		.epoch = a->epoch,
		.version = a->version,
	};

	if (a->version < VMC_PROTO_MIN || a->version > VMC_PROTO_MAX) {
		pr_err("vmc: vmcd chose protocol version %u, which is not in %u to %u\n",
		       a->version, VMC_PROTO_MIN, VMC_PROTO_MAX);
		return;
	}
	/* it names every peer anew, and can't know of one that left before it came */
	vmc_link_leave_packets(DOMID_INVALID, VMC_R_NO_PEER);
	vmc_peers_clear();
	strscpy(hello.driver, VMC_VERSION, sizeof(hello.driver));
	vmc_link_announce(l, &hello);
	dev_info(&l->dev->dev, "attached to vmcd as domain %u, protocol %u\n", a->domid,
		 a->version);
}

struct vmc_link_stats {
	struct list_head list;
	u32 query;
};

static void vmc_link_stats_chan(struct vmc_chan *ch, void *arg)
{
	struct vmc_link_stats *stats = arg;
	struct vmc_l_stats_chan m = {
		.h = { VMC_L_STATS_CHAN, sizeof(m), stats->query },
	};
	struct vmc_outmsg *o;

	vmc_status_fill_chan(&m, ch);
	o = vmc_outmsg_new(&m.h);
	if (o)
		list_add_tail(&o->node, &stats->list);
}

static void vmc_link_stats(u32 query)
{
	struct vmc_link_stats stats = { .query = query };
	struct vmc_l_stats_end end = {
		.h = { VMC_L_STATS_END, sizeof(end), query },
	};
	struct vmc_outmsg *o, *tmp;

	INIT_LIST_HEAD(&stats.list);
	vmc_link_for_each_chan(vmc_link_stats_chan, &stats);
	list_for_each_entry_safe(o, tmp, &stats.list, node) {
		vmc_link_send(&o->h);
		kfree(o);
	}
	vmc_status_fill_end(&end);
	vmc_link_send(&end.h);
}

/* A peer may be named again while the channel to it is up: it goes on being used. */
static void vmc_link_peer_add(const struct vmc_l_peer_add *m)
{
	struct vmc_link *l = &vmc_link;
	struct vmc_chan *ch;

	if (vmc_peer_add(m)) {
		pr_err("vmc: PEER_ADD for domain %u not taken\n", m->domid);
		return;
	}
	vmc_vif_update();
	spin_lock_bh(&l->lock);
	list_for_each_entry(ch, &l->chans, node)
		if (ch->domid == m->domid && ch->state == VMC_CHAN_UP)
			vmc_peer_use_chan(ch);
	spin_unlock_bh(&l->lock);
}

static void vmc_link_peer_del(const struct vmc_l_peer_del *m)
{
	struct vmc_link *l = &vmc_link;
	struct vmc_chan *ch;

	vmc_link_leave_packets(m->domid, m->reason < VMC_R_MAX ? m->reason : VMC_R_PEER_GONE);
	vmc_peer_del(m->domid);
	vmc_vif_update();
	spin_lock_bh(&l->lock);
	list_for_each_entry(ch, &l->chans, node)
		if (ch->domid == m->domid && !vmc_hostile_keeps()) {
			ch->state = VMC_CHAN_CLOSING;
			vmc_chan_start_close(ch, m->reason < VMC_R_MAX ? m->reason :
								       VMC_R_PEER_GONE);
		}
	spin_unlock_bh(&l->lock);
}

static void vmc_link_handle(const union vmc_any_msg *m)
{
	switch (m->h.type) {
	case VMC_L_ATTACH:
		vmc_link_attach(&m->attach);
		break;
	case VMC_L_SETTINGS:
		vmc_link_settings(&m->settings);
		break;
	case VMC_L_PEER_ADD:
		vmc_link_peer_add(&m->peer_add);
		break;
	case VMC_L_PEER_DEL:
		vmc_link_peer_del(&m->peer_del);
		break;
	case VMC_L_CHAN_PREPARE:
		vmc_link_chan_prepare(&m->chan_prepare);
		break;
	case VMC_L_CHAN_CONNECT:
		vmc_link_chan_connect(&m->chan_half);
		break;
	case VMC_L_CHAN_COMPLETE:
		vmc_link_chan_complete(&m->chan_half);
		break;
	case VMC_L_CHAN_CLOSE:
		vmc_link_chan_close(&m->chan_close);
		break;
	case VMC_L_STATS_REQ:
		vmc_link_stats(m->h.id);
		break;
	default:
		pr_warn_ratelimited("vmc: message %#x from vmcd ignored\n", m->h.type);
	}
}

static void vmc_link_work(struct work_struct *work)
{
	struct vmc_link *l = container_of(work, struct vmc_link, work);
	union vmc_any_msg m;
	int ret;

	for (;;) {
		ret = vmc_msg_get(&l->cons, vmc_link_page(1), &m);
		if (ret > 0) {
			vmc_link_handle(&m);
			continue;
		}
		if (ret < 0) {
			pr_err("vmc: the link to vmcd is broken: %d\n", ret);
			spin_lock_bh(&l->lock);
			l->up = false;
			spin_unlock_bh(&l->lock);
			return;
		}
		if (!vmc_ring_cons_arm(&l->cons))
			break;
	}
	if (vmc_ring_cons_notify(&l->cons))
		notify_remote_via_irq(l->irq);
	spin_lock_bh(&l->lock);
	vmc_link_flush(l);
	spin_unlock_bh(&l->lock);
}

static irqreturn_t vmc_link_irq(int irq, void *arg)
{
	queue_work(vmc_wq, &vmc_link.work);
	return IRQ_HANDLED;
}

/* ---------------------------------------------------------------- xenbus */

static int vmc_link_publish(struct vmc_link *l)
{
	struct xenbus_device *dev = l->dev;
	struct xenbus_transaction xbt;
	char node[16];
	unsigned int i;
	int err;

again:
	err = xenbus_transaction_start(&xbt);
	if (err)
		return err;
	for (i = 0; i < VMC_LINK_PAGES && !err; i++) {
		snprintf(node, sizeof(node), VMC_XS_RING_REF "%u", i);
		err = xenbus_printf(xbt, dev->nodename, node, "%u", l->mem.ref[i]);
	}
	if (!err)
		err = xenbus_printf(xbt, dev->nodename, VMC_XS_EVTCHN, "%u", l->port);
	if (!err)
		err = xenbus_printf(xbt, dev->nodename, VMC_XS_VERSION_MIN, "%u", VMC_PROTO_MIN);
	if (!err)
		err = xenbus_printf(xbt, dev->nodename, VMC_XS_VERSION_MAX, "%u", VMC_PROTO_MAX);
	if (!err)
		err = xenbus_printf(xbt, dev->nodename, VMC_XS_DRIVER, "%s", VMC_VERSION);
	if (err) {
		xenbus_transaction_end(xbt, 1);
		return err;
	}
	err = xenbus_transaction_end(xbt, 0);
	if (err == -EAGAIN)
		goto again;
	return err;
}

static void vmc_link_down(struct vmc_link *l)
{
	struct vmc_outmsg *o, *tmp;

	spin_lock_bh(&l->lock);
	l->up = false;
	list_for_each_entry_safe(o, tmp, &l->outq, node)
		kfree(o);
	INIT_LIST_HEAD(&l->outq);
	l->outq_len = 0;
	spin_unlock_bh(&l->lock);
	if (l->irq > 0) {
		disable_irq(l->irq);
		cancel_work_sync(&l->work);	/* it notifies */
		unbind_from_irqhandler(l->irq, NULL);
	}
	l->irq = 0;
	vmc_shared_end(&l->mem);
	vmc_shared_free(&l->mem);
	l->dev = NULL;
}

static int vmc_link_up(struct vmc_link *l, struct xenbus_device *dev)
{
	static const struct vmc_host_limits none = VMC_HOST_NO_LIMITS;
	enum vmc_reason why = VMC_R_NONE;
	struct vmc_ring_hdr *in, *out;
	int err;

	l->dev = dev;
	WRITE_ONCE(l->bus, dev->dev.bus);
	vmc_host_allows(&none);		/* those of another host's, it may be */
	err = vmc_shared_alloc(&l->mem, VMC_LINK_PAGES, dev->otherend_id, &why);
	if (err) {
		xenbus_dev_fatal(dev, err, "allocating the link");
		return err;
	}
	in = vmc_link_page(0);
	out = vmc_link_page(2);
	/* both sides sleep until the first message */
	vmc_store(&in->cons_wait, 1);
	vmc_store(&out->cons_wait, 1);
	vmc_ring_cons_init(&l->cons, in, VMC_MSG_RING_SIZE);
	err = xenbus_alloc_evtchn(dev, &l->port);
	if (err)
		goto fail;
	err = bind_evtchn_to_irqhandler(l->port, vmc_link_irq, 0, "vmc-link", NULL);
	if (err < 0) {
		xenbus_free_evtchn(dev, l->port);
		xenbus_dev_fatal(dev, err, "binding the link's port");
		goto fail;
	}
	l->irq = err;
	spin_lock_bh(&l->lock);
	vmc_ring_prod_init(&l->prod, out, VMC_MSG_RING_SIZE);
	l->no_chans_before = jiffies;
	l->up = true;
	spin_unlock_bh(&l->lock);
	err = vmc_link_publish(l);
	if (err) {
		xenbus_dev_fatal(dev, err, "writing the device's nodes");
		goto fail;
	}
	return xenbus_switch_state(dev, XenbusStateConnected);
fail:
	vmc_link_down(l);
	return err;
}

static int vmc_link_probe(struct xenbus_device *dev, const struct xenbus_device_id *id)
{
	if (vmc_link.dev) {
		xenbus_dev_error(dev, -EBUSY, "one vmc device is enough");
		return -EBUSY;
	}
	return vmc_link_up(&vmc_link, dev);
}

static void vmc_link_remove(struct xenbus_device *dev)
{
	struct vmc_msg bye = { VMC_L_BYE, sizeof(bye), 0 };
	struct vmc_link *l = &vmc_link;

	if (l->dev != dev)
		return;
	vmc_link_close_channels();
	vmc_link_send(&bye);
	vmc_link_down(l);
	vmc_peers_clear();
	vmc_vif_update();
	xenbus_switch_state(dev, XenbusStateClosed);
}

static void vmc_link_backend(struct xenbus_device *dev, enum xenbus_state state)
{
	char *why;

	if (state != XenbusStateClosed && state != XenbusStateClosing)
		return;
	if (dev->state == XenbusStateClosed)
		return;
	why = xenbus_read(XBT_NIL, dev->otherend, VMC_XS_ERROR, NULL);
	dev_warn(&dev->dev, "vmcd closed the device%s%s\n", IS_ERR(why) ? "" : ": ",
		 IS_ERR(why) ? "" : why);
	if (!IS_ERR(why))
		kfree(why);
	vmc_link_close_channels();
	vmc_peers_clear();
	vmc_vif_update();
	xenbus_switch_state(dev, XenbusStateClosed);
}

/* Nothing foreign may be mapped while the guest is saved. */
static int vmc_link_suspend(struct xenbus_device *dev)
{
	vmc_link_close_channels();
	return 0;
}

/* After a restore, and after a suspend that was called off. */
static int vmc_link_runs_again(struct notifier_block *nb, unsigned long event, void *data)
{
	spin_lock_bh(&vmc_link.lock);
	vmc_link.no_chans_before = jiffies;
	spin_unlock_bh(&vmc_link.lock);
	return NOTIFY_DONE;
}

static struct notifier_block vmc_link_resume_nb = { .notifier_call = vmc_link_runs_again };

/* On another host, or on this one under another domid: everything anew. */
static int vmc_link_resume(struct xenbus_device *dev)
{
	vmc_link_down(&vmc_link);
	vmc_peers_clear();
	vmc_vif_update();
	return vmc_link_up(&vmc_link, dev);
}

static const struct xenbus_device_id vmc_link_ids[] = {
	{ VMC_XS_TYPE },
	{ "" }
};

static struct xenbus_driver vmc_link_driver = {
	.ids = vmc_link_ids,
	.probe = vmc_link_probe,
	.remove = vmc_link_remove,
	.suspend = vmc_link_suspend,
	.resume = vmc_link_resume,
	.otherend_changed = vmc_link_backend,
};

int vmc_link_init(void)
{
	struct vmc_link *l = &vmc_link;
	int err;

	spin_lock_init(&l->lock);
	INIT_LIST_HEAD(&l->outq);
	INIT_LIST_HEAD(&l->chans);
	INIT_WORK(&l->work, vmc_link_work);
	init_completion(&l->chans_gone);
	/*
	 * Without an owner: xenbus would take a reference on the module for as long
	 * as the device is bound, and nobody could unload it. Unregistering unbinds,
	 * and waits for it, so no call can outlive the module.
	 */
	err = __xenbus_register_frontend(&vmc_link_driver, NULL, KBUILD_MODNAME);
	if (!err)
		xen_resume_notifier_register(&vmc_link_resume_nb);
	return err;
}

void vmc_link_exit(void)
{
	xen_resume_notifier_unregister(&vmc_link_resume_nb);
	xenbus_unregister_driver(&vmc_link_driver);
}
