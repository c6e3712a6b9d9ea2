// SPDX-License-Identifier: GPL-2.0-only
/*
 * The writer's side of a packet ring: which packets go in, and in which order with
 * those that go over the network. PROTOCOL.md, "Packets".
 *
 * A source address changes its way only while its packets wait here: to local when
 * its mark has come out at the peer, to the network when the peer has read the ring.
 */
#include <linux/bpf-cgroup.h>
#include <linux/errqueue.h>
#include <linux/etherdevice.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/jiffies.h>
#include <linux/random.h>
#include <linux/seq_file.h>
#include <linux/skbuff.h>
#include <net/ip.h>
#include <net/ip6_route.h>
#include <net/ipv6.h>

#include "vmc.h"

#define VMC_QUEUE_MAX	1000		/* packets of one source that wait, as in a vif's queue */
#define VMC_MARK_TIME	(HZ / 5)	/* for a mark to be sent, and again for it to come out */
#define VMC_DRAIN_MS	20		/* for the reader to read what is in a ring that is left */
#define VMC_HANG	(HZ / 4)	/* packets wait so long for a reader that does nothing */
#define VMC_EARN	(2 * HZ)	/* so many packets as earn a ring, in this time */
#define VMC_AGAIN_MIN	(HZ / 4)	/* a source that was refused asks again, */
#define VMC_AGAIN_MAX	(8 * HZ)	/* at last so seldom */
#define VMC_SOURCE_IDLE	(5 * HZ)	/* its slot can be another's */

/* A packet that waits, charged to its socket: that is what slows a sender down. */
struct vmc_pkt_wait {
	struct list_head node;
	struct sk_buff *skb;
	struct sock *sk;		/* held; may be NULL */
	struct net_device *dev;		/* held: skb->dev */
	struct net *net;
	int (*okfn)(struct net *net, struct sock *sk, struct sk_buff *skb);
};

static void vmc_wait_free(struct vmc_pkt_wait *w)
{
	if (w->sk)
		sock_gen_put(w->sk);
	dev_put(w->dev);
	kfree(w);
}

void vmc_pkt_tx_init(struct vmc_chan *ch)
{
	struct vmc_pkt_tx *pt = &ch->ptx;
	unsigned int i;

	spin_lock_init(&pt->lock);
	pt->ask_after = jiffies;
	for (i = 0; i < VMC_PKT_SOURCES; i++)
		INIT_LIST_HEAD(&pt->src[i].queue);
}

/* ------------------------------------------------------- into the ring */

static u16 vmc_pkt_flags(const struct sk_buff *skb, const struct sock *sk)
{
	u16 flags = 0;

	if (skb->ip_summed == CHECKSUM_PARTIAL)
		flags |= VMC_PKT_CSUM_BLANK;
	else if (sk && sk_fullsock(sk) && sk->sk_type == SOCK_DGRAM &&
		 sk->sk_protocol == IPPROTO_UDP)
		flags |= VMC_PKT_CSUM_GOOD;
	if (skb_is_gso(skb))
		flags |= skb_shinfo(skb)->gso_type & SKB_GSO_UDP_L4 ? VMC_PKT_GSO_UDP :
								      VMC_PKT_GSO_TCP;
	return flags;
}

/* What the device would have done on the way: packet sockets and timestamps. */
static void vmc_pkt_seen(struct sk_buff *skb, const struct vmc_src *src)
{
	struct net_device *dev = src->dev;
	struct ethhdr *eth;

	if (unlikely(skb_shinfo(skb)->tx_flags & SKBTX_SCHED_TSTAMP))
		__skb_tstamp_tx(skb, NULL, NULL, skb->sk, SCM_TSTAMP_SCHED);
	skb_tx_timestamp(skb);
	if (likely(!dev_nit_active(dev)) || skb_cow_head(skb, ETH_HLEN))
		return;
	eth = skb_push(skb, ETH_HLEN);
	ether_addr_copy(eth->h_dest, src->mac);
	ether_addr_copy(eth->h_source, dev->dev_addr);
	eth->h_proto = skb->protocol;
	skb_reset_mac_header(skb);
	dev_queue_xmit_nit(skb, dev);
	skb_pull(skb, ETH_HLEN);
}

/* The peer's pages lie anywhere: where the ring's byte at @done is, and how many follow. */
static void *vmc_pkt_at(const struct vmc_txring *t, u32 done, u32 len, u32 *n)
{
	u32 off;

	*n = vmc_ring_prod_span(&t->prod, done, len, &off);
	*n = min_t(u32, *n, PAGE_SIZE - offset_in_page(off));
	return vmc_foreign_va(&t->map, 1 + (off >> PAGE_SHIFT)) + offset_in_page(off);
}

static int vmc_pkt_fill(const struct vmc_txring *t, const struct vmc_pkt *pkt,
			const struct sk_buff *skb)
{
	u32 done, n;
	void *va;

	for (done = 0; done < sizeof(*pkt); done += n) {
		va = vmc_pkt_at(t, done, sizeof(*pkt) - done, &n);
		memcpy(va, (const u8 *)pkt + done, n);
	}
	for (done = 0; done < skb->len; done += n) {
		va = vmc_pkt_at(t, sizeof(*pkt) + done, skb->len - done, &n);
		if (skb_copy_bits(skb, done, va, n))
			return -EFAULT;
	}
	return 0;
}

/*
 * Lock held, ring open. Returns 0 if the packet is in the ring, or was dropped by
 * the rules of its socket's cgroup (*dropped says so, with an errno); -EAGAIN if
 * there is no room now; another error if the ring is to be left.
 */
static int vmc_pkt_write(struct vmc_chan *ch, struct vmc_src *src, struct sk_buff *skb,
			 struct sock *sk, int *dropped)
{
	struct vmc_ring_prod *prod = &ch->ptx.ring->prod;
	struct vmc_pkt pkt = {
		.len = skb->len,
		.source = src - ch->ptx.src,
		.flags = vmc_pkt_flags(skb, sk),
		.gso_size = skb_shinfo(skb)->gso_size,
	};
	u32 room = vmc_pkt_room(pkt.len);
	int space, err;

	space = vmc_ring_prod_space(prod, room);
	if (space >= 0 && space < room) {
		if (!vmc_ring_prod_arm(prod, max(room, prod->size / 4)))
			return -EAGAIN;
		space = vmc_ring_prod_space(prod, room);
		if (space >= 0 && space < room)
			return -EAGAIN;
	}
	if (space < 0)
		return space;
	if (vmc_ring_prod_closed(prod))
		return -EPIPE;

	err = BPF_CGROUP_RUN_PROG_INET_EGRESS(sk, skb);
	if (err != NET_XMIT_SUCCESS && err != NET_XMIT_CN) {
		*dropped = err;
		return 0;
	}
	*dropped = 0;
	vmc_pkt_seen(skb, src);
	vmc_hostile_header(&pkt);
	if (vmc_pkt_fill(ch->ptx.ring, &pkt, skb)) {
		*dropped = -EFAULT;
		return 0;
	}
	vmc_hostile_packet(ch);
	err = vmc_ring_prod_commit(prod, room);
	if (err)
		return err;
	atomic64_inc(&ch->ptx.packets);
	atomic64_add(skb->len, &ch->tx_bytes);
	return 0;
}

static void vmc_pkt_notify(struct vmc_chan *ch)
{
	if (vmc_ring_prod_notify(&ch->ptx.ring->prod))
		vmc_chan_bell_data(ch, ch->ptx.ring->id);
}

/* Lock held: somebody has to leave the ring, which takes a worker. */
static void vmc_pkt_want_leave(struct vmc_chan *ch, enum vmc_reason why)
{
	struct vmc_pkt_tx *pt = &ch->ptx;

	if (!pt->leave_why && pt->state == VMC_PKT_TX_OPEN) {
		pt->leave_why = why;
		vmc_chan_queue(ch);
	}
}

static void vmc_pkt_ring_failed(struct vmc_chan *ch, int err)
{
	if (err == -EPIPE)
		vmc_pkt_want_leave(ch, VMC_R_PEER_CLOSED);
	else
		vmc_chan_broken(ch, "packet ring written by us");
}

/* -------------------------------------------------------------- waiting */

/* Lock held. Returns 0 if the packet waits. */
static int vmc_pkt_wait(struct vmc_chan *ch, struct vmc_src *src, struct sk_buff *skb,
			const struct nf_hook_state *state)
{
	struct vmc_pkt_wait *w;

	if (src->queued >= VMC_QUEUE_MAX)
		return -ENOBUFS;
	w = kmalloc(sizeof(*w), GFP_ATOMIC | __GFP_NOWARN);
	if (!w || !skb_dst_force(skb))
		goto no;
	w->skb = skb;
	w->sk = state->sk;
	w->net = state->net;
	w->okfn = state->okfn;
	if (w->sk && !refcount_inc_not_zero(&w->sk->sk_refcnt))
		goto no;
	w->dev = skb->dev;
	dev_hold(w->dev);
	list_add_tail(&w->node, &src->queue);
	src->queued++;
	ch->ptx.queued++;
	return 0;
no:
	kfree(w);
	return -ENOBUFS;
}

/* Lock held. The first that waits, or NULL; it is the caller's. */
static struct vmc_pkt_wait *vmc_pkt_unwait(struct vmc_chan *ch, struct vmc_src *src)
{
	struct vmc_pkt_wait *w = list_first_entry_or_null(&src->queue, struct vmc_pkt_wait, node);

	if (w) {
		list_del(&w->node);
		src->queued--;
		ch->ptx.queued--;
	}
	return w;
}

/*
 * Lock held, and given up meanwhile: what waits goes over the network, in order.
 * Others put theirs behind it until it is done.
 */
static void vmc_pkt_to_network(struct vmc_chan *ch, struct vmc_src *src)
	__must_hold(&ch->ptx.lock)
{
	struct vmc_pkt_tx *pt = &ch->ptx;
	struct vmc_pkt_wait *w;

	if (src->flushing)
		return;
	src->flushing = true;
	while ((w = vmc_pkt_unwait(ch, src))) {
		spin_unlock_bh(&pt->lock);
		local_bh_disable();
		rcu_read_lock();
		w->okfn(w->net, w->sk, w->skb);
		rcu_read_unlock();
		local_bh_enable();
		vmc_wait_free(w);
		spin_lock_bh(&pt->lock);
	}
	src->flushing = false;
}

/* Lock held: what waits of this source goes into the ring. False if it is full, or over. */
static bool vmc_pkt_to_ring(struct vmc_chan *ch, struct vmc_src *src, struct list_head *done)
{
	struct vmc_pkt_wait *w;
	int err, dropped;

	while ((w = list_first_entry_or_null(&src->queue, struct vmc_pkt_wait, node))) {
		err = vmc_pkt_write(ch, src, w->skb, w->sk, &dropped);
		if (err == -EAGAIN)
			return false;
		if (err) {
			vmc_pkt_ring_failed(ch, err);
			return false;
		}
		if (dropped)
			atomic64_inc(&ch->ptx.dropped);
		vmc_pkt_unwait(ch, src);
		list_add_tail(&w->node, done);
	}
	return true;
}

/* Without the lock: what is in the ring now is not the sender's any more. */
static void vmc_pkt_done(struct list_head *done)
{
	struct vmc_pkt_wait *w, *tmp;

	list_for_each_entry_safe(w, tmp, done, node) {
		consume_skb(w->skb);
		vmc_wait_free(w);
	}
}

/* Lock held: what waits for room, and may go now. */
static void vmc_pkt_push(struct vmc_chan *ch, struct list_head *done)
{
	struct vmc_pkt_tx *pt = &ch->ptx;
	unsigned int i;

	if (pt->state != VMC_PKT_TX_OPEN || pt->leave_why)
		return;
	pt->full = false;
	for (i = 0; i < VMC_PKT_SOURCES && pt->queued; i++)
		if (pt->src[i].state == VMC_SRC_LOCAL &&
		    !vmc_pkt_to_ring(ch, &pt->src[i], done)) {
			pt->full = true;
			vmc_chan_tx_waits(ch);
			break;
		}
	vmc_pkt_notify(ch);
}

/* The reader has made room, or closed the ring. Softirq. */
void vmc_pkt_tx_space(struct vmc_chan *ch)
{
	struct vmc_pkt_tx *pt = &ch->ptx;
	LIST_HEAD(done);

	spin_lock_bh(&pt->lock);
	if (pt->state == VMC_PKT_TX_OPEN && vmc_ring_prod_closed(&pt->ring->prod))
		vmc_pkt_want_leave(ch, VMC_R_PEER_CLOSED);
	vmc_pkt_push(ch, &done);
	spin_unlock_bh(&pt->lock);
	vmc_pkt_done(&done);
}

/* -------------------------------------------------------------- sources */

static void vmc_src_set(struct vmc_src *src, enum vmc_src_state state)
{
	src->state = state;
	src->since = jiffies;
}

static void vmc_src_drop_dev(struct vmc_src *src)
{
	if (src->dev)
		dev_put(src->dev);
	src->dev = NULL;
}

/* Lock held: not now; later again, and each time later. What waits goes over the network. */
static void vmc_src_refused(struct vmc_chan *ch, struct vmc_src *src)
{
	unsigned long again = min_t(unsigned long, VMC_AGAIN_MIN << min_t(u8, src->refusals, 5),
				    VMC_AGAIN_MAX);

	if (src->refusals < U8_MAX)
		src->refusals++;
	src->state = VMC_SRC_NO;
	src->since = jiffies + again;
	vmc_src_drop_dev(src);
	vmc_pkt_to_network(ch, src);
}

static struct vmc_src *vmc_src_find(struct vmc_pkt_tx *pt, const u8 *addr)
{
	unsigned int i;

	for (i = 0; i < VMC_PKT_SOURCES; i++)
		if (pt->src[i].state != VMC_SRC_FREE &&
		    !memcmp(pt->src[i].addr, addr, sizeof(pt->src[i].addr)))
			return &pt->src[i];
	return NULL;
}

/* Lock held. The slot for this address, perhaps a new one; NULL if all are in use. */
static struct vmc_src *vmc_src_get(struct vmc_chan *ch, const u8 *addr)
{
	struct vmc_pkt_tx *pt = &ch->ptx;
	struct vmc_src *src, *old = NULL;
	unsigned int i;

	for (i = 0; i < VMC_PKT_SOURCES; i++) {
		src = &pt->src[i];
		if (src->state == VMC_SRC_FREE) {
			if (!old || old->state != VMC_SRC_FREE)
				old = src;
		} else if (!memcmp(src->addr, addr, sizeof(src->addr))) {
			src->used = jiffies;
			return src;
		} else if (!src->queued && !src->flushing &&
			   time_after(jiffies, src->used + VMC_SOURCE_IDLE) &&
			   (!old || (old->state != VMC_SRC_FREE &&
				     time_before(src->used, old->used)))) {
			old = src;
		}
	}
	/* what the former owner of the slot sent has to have been read */
	if (!old || (old->state != VMC_SRC_FREE && pt->ring &&
		     vmc_load(&pt->ring->prod.hdr->cons) != pt->ring->prod.pos))
		return NULL;
	vmc_src_drop_dev(old);
	old->state = VMC_SRC_FREE;
	old->refusals = 0;
	old->used = jiffies;
	memcpy(old->addr, addr, sizeof(old->addr));
	return old;
}

static void vmc_src_ask(struct vmc_chan *ch, struct vmc_src *src)
{
	struct vmc_c_addr_ask m = {
		.h = { VMC_C_ADDR_ASK, sizeof(m), get_random_u32() },
		.slot = src - ch->ptx.src,
	};

	src->id = m.h.id;
	memcpy(m.addr, src->addr, sizeof(m.addr));
	vmc_src_set(src, VMC_SRC_ASKED);
	vmc_chan_send(ch, &m.h);
}

/* Lock held. True if the mark is to be sent now, by whoever has called. */
static bool vmc_src_mark(struct vmc_chan *ch, struct vmc_src *src, struct vmc_mark *mark)
{
	if (src->state != VMC_SRC_MARKING)
		return false;
	if (!vmc_vif_is_empty(src->dev)) {	/* the worker will look again */
		mod_delayed_work(vmc_wq, &ch->trim, 1);
		return false;
	}
	vmc_src_set(src, VMC_SRC_MARKED);
	vmc_chan_tx_waits(ch);
	*mark = (struct vmc_mark){
		.magic = VMC_MARK_MAGIC,
		.chan = htonl(ch->id),
		.id = htonl(src->id),
		.slot = htonl(src - ch->ptx.src),
		.queues = htonl(READ_ONCE(src->dev->real_num_tx_queues)),
	};
	return true;
}

/* The peer's word about a source. chan->mutex. */
int vmc_pkt_tx_addr(struct vmc_chan *ch, const struct vmc_c_addr_answer *m)
{
	struct vmc_pkt_tx *pt = &ch->ptx;
	struct vmc_src *src;
	LIST_HEAD(done);

	if (m->slot >= VMC_PKT_SOURCES)
		return -EPROTO;
	src = &pt->src[m->slot];
	spin_lock_bh(&pt->lock);
	if (src->state == VMC_SRC_FREE || src->id != m->h.id || pt->state != VMC_PKT_TX_OPEN)
		goto out;	/* what it is about is over */
	switch (m->h.type) {
	case VMC_C_ADDR_OK:
		if (src->state == VMC_SRC_ASKED)
			vmc_src_set(src, VMC_SRC_OK);
		break;
	case VMC_C_ADDR_LIVE:
		if (src->state != VMC_SRC_MARKED)
			break;
		vmc_src_set(src, VMC_SRC_LOCAL);
		src->refusals = 0;
		vmc_pkt_push(ch, &done);
		break;
	case VMC_C_ADDR_NO:
		/* what is in the ring is lost then; what waits here is not */
		if (src->state != VMC_SRC_NO) {
			vmc_count(m->reason < VMC_R_MAX ? m->reason : VMC_R_PROTOCOL);
			vmc_src_refused(ch, src);
		}
		break;
	}
out:
	spin_unlock_bh(&pt->lock);
	vmc_pkt_done(&done);
	return 0;
}

/* -------------------------------------------------------------- the hook */

/* Is a checksum that is left to the device one that the reader can find by itself? */
static bool vmc_pkt_csum_is_plain(const struct sk_buff *skb, bool v6)
{
	u8 proto = v6 ? ipv6_hdr(skb)->nexthdr : ip_hdr(skb)->protocol;

	if (skb->ip_summed != CHECKSUM_PARTIAL)
		return true;
	/* not one inside a tunnel, for one */
	return (proto == IPPROTO_UDP || proto == IPPROTO_TCP) &&
	       skb_checksum_start_offset(skb) == (v6 ? sizeof(struct ipv6hdr) : ip_hdrlen(skb));
}

/* Would the network's own path send this packet as it is, if only it were short? */
static bool vmc_pkt_fits(struct sk_buff *skb, const struct nf_hook_state *state)
{
	bool v6 = state->pf == NFPROTO_IPV6;
	unsigned int mtu;

	if (skb->len > (v6 ? VMC_PKT_MAX : U16_MAX) || skb->len < VMC_PKT_MIN ||
	    !vmc_pkt_csum_is_plain(skb, v6))
		return false;
	mtu = v6 ? ip6_skb_dst_mtu(skb) : ip_skb_dst_mtu(state->sk, skb);
	if (skb_is_gso(skb)) {
		unsigned int type = skb_shinfo(skb)->gso_type &
				    (SKB_GSO_UDP_L4 | SKB_GSO_TCPV4 | SKB_GSO_TCPV6);
		unsigned int size = skb_shinfo(skb)->gso_size;

		/* no tunnels, no lists */
		return skb->ip_summed == CHECKSUM_PARTIAL && !skb->encapsulation &&
		       !skb_has_frag_list(skb) && skb_gso_validate_network_len(skb, mtu) &&
		       (type == SKB_GSO_UDP_L4 ?
			size && skb->len / size <= VMC_PKT_UDP_SEGS_MAX :
			type && size >= VMC_PKT_TCP_MSS_MIN && size < skb->len);
	}
	if (v6)
		return !IP6CB(skb)->frag_max_size && (skb->len <= mtu || skb->ignore_df);
	return !IPCB(skb)->frag_max_size &&
	       (skb->len <= mtu || skb->ignore_df || !(ip_hdr(skb)->frag_off & htons(IP_DF)));
}

static void vmc_pkt_source(const struct sk_buff *skb, bool v6, u8 *addr)
{
	if (v6)
		memcpy(addr, &ipv6_hdr(skb)->saddr, 16);
	else
		ipv6_addr_set_v4mapped(ip_hdr(skb)->saddr, (struct in6_addr *)addr);
}

/* Lock held: no ring yet. Ask for one when there is traffic. */
static void vmc_pkt_earn(struct vmc_chan *ch)
{
	struct vmc_pkt_tx *pt = &ch->ptx;
	struct vmc_c_pkt_open m = {
		.h = { VMC_C_PKT_OPEN, sizeof(m), 0 },
		.want_bytes = VMC_PKT_RING_SIZE,
	};

	if (pt->state != VMC_PKT_TX_NONE || time_before(jiffies, pt->ask_after))
		return;
	if (time_after(jiffies, pt->earn_since + VMC_EARN)) {
		pt->earn_since = jiffies;
		pt->earned = 0;
	}
	if (++pt->earned < READ_ONCE(vmc_min_calls))
		return;
	pt->earned = 0;
	pt->state = VMC_PKT_TX_ASKED;
	m.h.id = ++pt->open_id;
	vmc_chan_send(ch, &m.h);
}

/* Packets of this source wait, or are to: a later one has to come after them. */
static bool vmc_src_holds(const struct vmc_src *src)
{
	return src->queued || src->flushing || src->state >= VMC_SRC_MARKING;
}

/* Lock held, ring open: is a packet of this source to be taken? Begins what comes before that. */
static bool vmc_src_takes(struct vmc_chan *ch, struct vmc_src *src, const struct vmc_hop *hop)
{
	switch (src->state) {
	case VMC_SRC_NO:
		if (time_before(jiffies, src->since))
			break;
		fallthrough;
	case VMC_SRC_FREE:
		vmc_src_ask(ch, src);
		break;
	case VMC_SRC_OK:
		if (src->flushing)
			break;
		if (!vmc_vif_sends_plainly(hop->dev)) {
			vmc_src_refused(ch, src);
			break;
		}
		dev_hold(hop->dev);
		src->dev = hop->dev;
		ether_addr_copy(src->mac, hop->mac);
		vmc_src_set(src, VMC_SRC_MARKING);
		break;
	}
	/* the same address may go out of another vif, too, which is another way */
	return vmc_src_holds(src) && (!src->dev || src->dev == hop->dev);
}

/* Is this packet ours? Nothing has been done with it when this returns. */
static bool vmc_pkt_takes(struct vmc_chan *ch, const u8 *addr, const struct vmc_hop *hop)
{
	struct vmc_pkt_tx *pt = &ch->ptx;
	struct vmc_src *src;
	bool takes = false;

	spin_lock_bh(&pt->lock);
	if (pt->state == VMC_PKT_TX_OPEN && !pt->leave_why) {
		src = vmc_src_get(ch, addr);
		takes = src && vmc_src_takes(ch, src, hop);
	} else {
		vmc_pkt_earn(ch);
		/* while a ring is left */
		if (pt->queued || pt->flushing || pt->ring) {
			src = vmc_src_find(pt, addr);
			takes = src && vmc_src_holds(src);
		}
	}
	spin_unlock_bh(&pt->lock);
	return takes;
}

/* What has become of a packet, if not an errno: then it is to be dropped. */
enum {
	VMC_PKT_IN,		/* it is in the ring */
	VMC_PKT_WAITS,		/* it waits */
	VMC_PKT_REMOTE,		/* it is the network's */
};

/* Lock held. */
static int vmc_pkt_put(struct vmc_chan *ch, struct vmc_src *src, struct sk_buff *skb,
		       const struct nf_hook_state *state)
{
	struct vmc_pkt_tx *pt = &ch->ptx;
	int err, dropped;

	if (!src || !vmc_src_holds(src))
		return VMC_PKT_REMOTE;	/* it changed meanwhile */
	if (src->state == VMC_SRC_LOCAL && !src->queued && !src->flushing &&
	    pt->state == VMC_PKT_TX_OPEN && !pt->leave_why) {
		err = vmc_pkt_write(ch, src, skb, state->sk, &dropped);
		if (!err) {
			vmc_pkt_notify(ch);
			return dropped ?: VMC_PKT_IN;
		}
		if (err != -EAGAIN)
			vmc_pkt_ring_failed(ch, err);
		pt->full = true;
		vmc_chan_tx_waits(ch);
	}
	return vmc_pkt_wait(ch, src, skb, state) ?: VMC_PKT_WAITS;
}

/*
 * A packet for the peer, behind routing and all rules but those behind our own hook.
 * Inside RCU. Returns the verdict.
 */
unsigned int vmc_pkt_out(struct vmc_chan *ch, const struct vmc_hop *hop, struct sk_buff *skb,
			 const struct nf_hook_state *state)
{
	struct vmc_pkt_tx *pt = &ch->ptx;
	struct vmc_mark mark;
	unsigned int verdict;
	struct vmc_src *src;
	bool marks = false;
	u8 addr[16];
	int ret;

	if (!vmc_pkt_fits(skb, state))
		return NF_ACCEPT;
	vmc_pkt_source(skb, state->pf == NFPROTO_IPV6, addr);
	if (!vmc_pkt_takes(ch, addr, hop))
		return NF_ACCEPT;
	if (!vmc_vif_hooks_behind(skb, state, &verdict))
		return verdict;

	spin_lock_bh(&pt->lock);
	src = vmc_src_find(pt, addr);
	ret = vmc_pkt_put(ch, src, skb, state);
	if (ret == VMC_PKT_WAITS)
		marks = vmc_src_mark(ch, src, &mark);
	spin_unlock_bh(&pt->lock);

	switch (ret) {
	case VMC_PKT_WAITS:
		if (marks)
			vmc_vif_mark(hop->dev, hop->mac, &mark);
		return NF_STOLEN;
	case VMC_PKT_IN:
		consume_skb(skb);
		return NF_STOLEN;
	case VMC_PKT_REMOTE:
		ret = state->okfn(state->net, state->sk, skb);
		break;
	default:
		atomic64_inc(&pt->dropped);
		kfree_skb(skb);
	}
	return ret < 0 ? NF_STOLEN | ((u32)-ret << NF_VERDICT_QBITS) : NF_STOLEN;
}

/* ------------------------------------------------------------- the ring */

/* The peer's answer to PKT_OPEN. chan->mutex. */
int vmc_pkt_tx_answer(struct vmc_chan *ch, const struct vmc_c_pkt_answer *m)
{
	struct vmc_pkt_tx *pt = &ch->ptx;
	struct vmc_txring *t = NULL;
	int err = -EPROTO;

	if (m->h.type == VMC_C_PKT_RING) {
		t = vmc_pool_tx_free(ch, m->ring_id);
		if (!t || (t->pages - 1) * PAGE_SIZE < VMC_PKT_RING_LEAST)
			return -EPROTO;
	}
	spin_lock_bh(&pt->lock);
	if (pt->state == VMC_PKT_TX_ASKED && pt->open_id == m->h.id) {
		err = 0;
		if (!t) {
			pt->state = VMC_PKT_TX_NONE;
			pt->ask_after = jiffies + 8 * HZ;
		}
	}
	spin_unlock_bh(&pt->lock);
	if (!t) {
		if (!err)
			vmc_count(m->reason < VMC_R_MAX ? m->reason : VMC_R_PROTOCOL);
		return err;
	}
	if (err)
		return err;
	if (vmc_pool_tx_map(t)) {
		vmc_count(VMC_R_MAP);
		spin_lock_bh(&pt->lock);
		pt->state = VMC_PKT_TX_NONE;
		pt->ask_after = jiffies + 8 * HZ;
		spin_unlock_bh(&pt->lock);
		vmc_pool_tx_start(t, NULL);
		vmc_pool_tx_done(t);
		return 0;
	}
	vmc_pool_tx_start(t, NULL);
	t->packets = true;
	spin_lock_bh(&pt->lock);
	pt->ring = t;
	pt->state = VMC_PKT_TX_OPEN;
	pt->leave_why = VMC_R_NONE;
	pt->seen_pos = 0;
	pt->seen_cons = 0;
	pt->used = jiffies;
	pt->moved = jiffies;
	spin_unlock_bh(&pt->lock);
	vmc_chan_queue(ch);	/* to be looked at from now on */
	return 0;
}

/* Somebody wants the writer to go back to the network. Any context. */
void vmc_pkt_tx_leave(struct vmc_chan *ch, enum vmc_reason why)
{
	spin_lock_bh(&ch->ptx.lock);
	vmc_pkt_want_leave(ch, why);
	spin_unlock_bh(&ch->ptx.lock);
}

/* Lock held: has the reader read all there is? */
static bool vmc_pkt_drained(const struct vmc_pkt_tx *pt)
{
	return vmc_load_acquire(&pt->ring->prod.hdr->cons) == pt->ring->prod.pos;
}

/*
 * Leaves the ring. What it holds comes before what waits here: the reader gets a
 * moment to read it, and if it does not, it is told to forget it. chan->mutex.
 */
static void vmc_pkt_do_leave(struct vmc_chan *ch, enum vmc_reason why, enum vmc_pkt_tx_state then)
{
	bool wait = why != VMC_R_STALLED && why != VMC_R_PEER_GONE && why != VMC_R_PROTOCOL;
	struct vmc_pkt_tx *pt = &ch->ptx;
	struct vmc_txring *t;
	ktime_t end;
	unsigned int i;

	spin_lock_bh(&pt->lock);
	t = pt->ring;
	if (t)
		pt->state = VMC_PKT_TX_LEAVING;
	spin_unlock_bh(&pt->lock);
	if (t) {
		end = ktime_add_ms(ktime_get(), VMC_DRAIN_MS);
		while (wait && !vmc_pkt_drained(pt) && ktime_before(ktime_get(), end))
			usleep_range(50, 200);
		if (!vmc_pkt_drained(pt))
			vmc_store(&t->prod.hdr->boundary, VMC_PKT_FORGET);
		vmc_ring_prod_close(&t->prod);
		vmc_count(why);
	}
	spin_lock_bh(&pt->lock);
	pt->ring = NULL;
	pt->state = then;
	pt->leave_why = VMC_R_NONE;
	pt->ask_after = jiffies + (why == VMC_R_IDLE ? 0 : HZ);
	pt->flushing = true;
	for (i = 0; i < VMC_PKT_SOURCES; i++) {
		vmc_pkt_to_network(ch, &pt->src[i]);
		vmc_src_drop_dev(&pt->src[i]);
		pt->src[i].state = VMC_SRC_FREE;
		pt->src[i].refusals = 0;
	}
	pt->flushing = false;
	spin_unlock_bh(&pt->lock);
	if (t) {
		t->packets = false;
		vmc_pool_tx_done(t);
	}
}

/* Lock held. Sources that wait for something for too long, or whose way has changed. */
static void vmc_pkt_look_at_sources(struct vmc_chan *ch, unsigned long *again)
	__must_hold(&ch->ptx.lock)
{
	struct vmc_pkt_tx *pt = &ch->ptx;
	struct vmc_mark mark;
	struct vmc_src *src;
	unsigned int i;

	for (i = 0; i < VMC_PKT_SOURCES; i++) {
		src = &pt->src[i];
		if (!src->dev)
			continue;
		if (src->dev->reg_state != NETREG_REGISTERED ||
		    !vmc_vif_sends_plainly(src->dev)) {
			vmc_pkt_want_leave(ch, VMC_R_POLICY);
			return;
		}
		if (src->state == VMC_SRC_LOCAL)
			continue;
		if (time_after(jiffies, src->since + VMC_MARK_TIME)) {
			vmc_count(VMC_R_TIMEOUT);
			vmc_src_refused(ch, src);
			continue;
		}
		*again = src->state == VMC_SRC_MARKING ? 1 : VMC_STALL;
		if (vmc_src_mark(ch, src, &mark)) {
			struct net_device *dev = src->dev;
			u8 mac[ETH_ALEN];

			ether_addr_copy(mac, src->mac);
			dev_hold(dev);
			spin_unlock_bh(&pt->lock);
			vmc_vif_mark(dev, mac, &mark);
			dev_put(dev);
			spin_lock_bh(&pt->lock);
		}
	}
}

/* After each run of the channel's worker. When it wants to be called again, in jiffies, or 0. */
unsigned long vmc_pkt_tx_tidy(struct vmc_chan *ch)
{
	struct vmc_pkt_tx *pt = &ch->ptx;
	unsigned long idle = READ_ONCE(vmc_idle_s) * HZ, again = HZ;
	enum vmc_reason why;
	u64 cons;

	spin_lock_bh(&pt->lock);
	if (pt->state != VMC_PKT_TX_OPEN) {
		spin_unlock_bh(&pt->lock);
		return 0;
	}
	cons = vmc_load(&pt->ring->prod.hdr->cons);
	if (cons != pt->seen_cons || !pt->full) {
		pt->seen_cons = cons;
		pt->moved = jiffies;
	}
	if (pt->seen_pos != pt->ring->prod.pos) {
		pt->seen_pos = pt->ring->prod.pos;
		pt->used = jiffies;
	}
	if (pt->full)
		again = VMC_STALL;
	if (time_after(jiffies, pt->moved + VMC_HANG))
		vmc_pkt_want_leave(ch, VMC_R_STALLED);
	else if (idle && time_after_eq(jiffies, pt->used + idle))
		vmc_pkt_want_leave(ch, VMC_R_IDLE);
	vmc_pkt_look_at_sources(ch, &again);
	why = pt->leave_why;
	spin_unlock_bh(&pt->lock);
	if (!why)
		return again;
	vmc_pkt_do_leave(ch, why, VMC_PKT_TX_NONE);
	return 0;
}

void vmc_pkt_tx_show(struct vmc_chan *ch, struct seq_file *s)
{
	static const char *const ring[] = { "none", "asked", "open", "leaving", "dead" };
	static const char *const source[] = {
		"free", "asked", "no", "ok", "marking", "marked", "local"
	};
	struct vmc_pkt_tx *pt = &ch->ptx;
	const struct vmc_src *src;
	unsigned int i;

	spin_lock_bh(&pt->lock);
	seq_printf(s, " tx %s packets %llu dropped %llu waiting %u%s\n", ring[pt->state],
		   (u64)atomic64_read(&pt->packets), (u64)atomic64_read(&pt->dropped), pt->queued,
		   pt->full ? " full" : "");
	for (i = 0; i < VMC_PKT_SOURCES; i++) {
		src = &pt->src[i];
		if (src->state != VMC_SRC_FREE)
			seq_printf(s, " tx source %pI6c %s waiting %u refusals %u\n", src->addr,
				   source[src->state], src->queued, src->refusals);
	}
	spin_unlock_bh(&pt->lock);
}

/* Returns when the ring has been left. Process context. */
void vmc_pkt_tx_stop(struct vmc_chan *ch, enum vmc_reason why)
{
	mutex_lock(&ch->mutex);
	if (!ch->dead && ch->ptx.ring)
		vmc_pkt_do_leave(ch, why, VMC_PKT_TX_NONE);
	mutex_unlock(&ch->mutex);
}

/* The channel ends. chan->mutex. */
void vmc_pkt_tx_end(struct vmc_chan *ch, enum vmc_reason why)
{
	vmc_pkt_do_leave(ch, why, VMC_PKT_TX_DEAD);
}
