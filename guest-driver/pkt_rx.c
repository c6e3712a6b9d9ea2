// SPDX-License-Identifier: GPL-2.0-only
/*
 * The reader's side of a packet ring: who may send as whom, and the way into our
 * own IP stack. Nothing that the peer writes is believed. PROTOCOL.md, "Packets".
 *
 * Each channel has a NAPI instance; a device of ours, which nobody sees, carries them.
 */
#include <linux/etherdevice.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/random.h>
#include <linux/sched/clock.h>
#include <linux/seq_file.h>
#include <linux/skbuff.h>
#include <uapi/linux/sched/types.h>
#include <net/busy_poll.h>
#include <net/gro.h>

#include "poll.h"
#include "vmc.h"

#define VMC_ASKS_MAX	32	/* questions about sources in a second */
#define VMC_LINEAR	256	/* bytes of a long packet that are not in fragments */
#define VMC_FRAG_ORDER	3
#define VMC_LOOK_MIN	(20 * NSEC_PER_USEC)
#define VMC_SETTLE	DIV_ROUND_UP(HZ, 50)	/* for packets in other queues than the mark's */
/* waits one after another: more than half of the fewest after which it is tried again */
#define VMC_TRIES	5
#define VMC_TRIES_MIN	8
#define VMC_TRIES_MAX	256
#define VMC_GENTLE	HZ			/* after a socket has overflowed */
#define VMC_GENTLE_MIN	(NSEC_PER_MSEC / 4)	/* between batches then */
#define VMC_GENTLE_MAX	(16 * NSEC_PER_MSEC)
#define VMC_BATCH	16		/* packets at a time then, */
#define VMC_BATCH_BYTES	65536		/* if they are not longer than that together */

static struct net_device *vmc_napi_dev;

/* ------------------------------------------------- from the ring to IP */

static const void *vmc_from_addr(const struct sk_buff *skb, u8 *mapped)
{
	if (skb->protocol == htons(ETH_P_IPV6))
		return &ipv6_hdr(skb)->saddr;
	ipv6_addr_set_v4mapped(ip_hdr(skb)->saddr, (struct in6_addr *)mapped);
	return mapped;
}

/* Is it a whole IP packet from that address? The rest is for our stack to judge. */
static bool vmc_pkt_is_from(struct sk_buff *skb, const struct vmc_from *from)
{
	const struct iphdr *iph = ip_hdr(skb);
	u8 mapped[16];

	if (iph->version == 4) {
		if (iph->ihl < 5 || ntohs(iph->tot_len) != skb->len)
			return false;
		skb->protocol = htons(ETH_P_IP);
	} else {
		if (iph->version != 6 || skb->len < sizeof(struct ipv6hdr) ||
		    ntohs(ipv6_hdr(skb)->payload_len) + sizeof(struct ipv6hdr) != skb->len)
			return false;
		skb->protocol = htons(ETH_P_IPV6);
	}
	return !memcmp(vmc_from_addr(skb, mapped), from->addr, sizeof(from->addr));
}

static int vmc_pkt_offload(struct sk_buff *skb, const struct vmc_pkt *pkt)
{
	struct skb_shared_info *info = skb_shinfo(skb);

	if (pkt->flags & VMC_PKT_CSUM_BLANK) {
		skb->ip_summed = CHECKSUM_PARTIAL;
		if (skb_checksum_setup(skb, false))
			return -EINVAL;
	} else if (pkt->flags & VMC_PKT_CSUM_GOOD) {
		skb->ip_summed = CHECKSUM_UNNECESSARY;
	}
	if (pkt->flags & VMC_PKT_GSO_UDP) {
		if (skb->csum_offset != offsetof(struct udphdr, check))
			return -EINVAL;
		info->gso_type = SKB_GSO_UDP_L4;
	} else if (pkt->flags & VMC_PKT_GSO_TCP) {
		if (skb->csum_offset != offsetof(struct tcphdr, check))
			return -EINVAL;
		info->gso_type = skb->protocol == htons(ETH_P_IP) ? SKB_GSO_TCPV4 : SKB_GSO_TCPV6;
	}
	if (pkt->gso_size) {
		/* as from a device that can't be trusted: headers are checked again */
		info->gso_type |= SKB_GSO_DODGY;
		info->gso_size = pkt->gso_size;
		info->gso_segs = 0;
	}
	return 0;
}

/* The packet's bytes in memory of ours, behind room for an Ethernet header. */
static struct sk_buff *vmc_pkt_copy(struct vmc_pkt_rx *pr, const struct vmc_pkt *pkt)
{
	const void *data = vmc_rxring_data(pr->ring);
	u32 linear = pkt->len, at = sizeof(*pkt), n;
	struct sk_buff *skb;
	unsigned int i;
	int err;

	if (linear + NET_SKB_PAD + NET_IP_ALIGN + ETH_HLEN <= SKB_WITH_OVERHEAD(PAGE_SIZE)) {
		skb = napi_alloc_skb(&pr->napi, linear + ETH_HLEN);
		if (!skb)
			return NULL;
		skb_reserve(skb, ETH_HLEN);
	} else {
		linear = VMC_LINEAR;
		skb = alloc_skb_with_frags(NET_SKB_PAD + NET_IP_ALIGN + ETH_HLEN + linear,
					   pkt->len - linear, VMC_FRAG_ORDER, &err,
					   GFP_ATOMIC | __GFP_NOWARN);
		if (!skb)
			return NULL;
		skb_reserve(skb, NET_SKB_PAD + NET_IP_ALIGN + ETH_HLEN);
	}
	vmc_ring_get(&pr->ring->cons, data, at, skb_put(skb, linear), linear);
	at += linear;
	/* what alloc_skb_with_frags() leaves to its caller */
	skb->data_len = pkt->len - linear;
	skb->len += skb->data_len;
	for (i = 0; i < skb_shinfo(skb)->nr_frags; i++) {
		skb_frag_t *frag = &skb_shinfo(skb)->frags[i];

		n = skb_frag_size(frag);
		vmc_ring_get(&pr->ring->cons, data, at, skb_frag_address(frag), n);
		at += n;
	}
	return skb;
}

/* One packet, which is given back when this returns. An errno: the peer broke the protocol. */
static int vmc_pkt_take(struct vmc_chan *ch, const struct vmc_pkt *pkt, bool polled)
{
	struct vmc_pkt_rx *pr = &ch->prx;
	const struct vmc_from *from;
	struct sk_buff *skb;
	struct ethhdr *eth;

	from = rcu_dereference(pr->from[pkt->source]);
	if (!from)	/* it may have been in the ring already when we said no */
		return test_bit(pkt->source, &pr->was) ? -ENOENT : -EPROTO;
	skb = vmc_pkt_copy(pr, pkt);
	if (!skb)
		return -ENOMEM;
	skb_reset_network_header(skb);
	skb->dev = from->dev;
	if (!vmc_pkt_is_from(skb, from)) {
		kfree_skb(skb);
		return -EPROTO;
	}
	if (vmc_pkt_offload(skb, pkt)) {
		kfree_skb(skb);
		return -EINVAL;
	}
	eth = skb_push(skb, ETH_HLEN);
	ether_addr_copy(eth->h_dest, from->dev->dev_addr);
	ether_addr_copy(eth->h_source, from->mac);
	eth->h_proto = skb->protocol;
	skb_reset_mac_header(skb);
	skb_pull(skb, ETH_HLEN);
	skb->pkt_type = PACKET_HOST;
	skb_mark_napi_id(skb, &pr->napi);
	atomic64_inc(&pr->packets);
	atomic64_add(pkt->len, &ch->rx_bytes);
	if (polled)
		napi_gro_receive(&pr->napi, skb);
	else
		netif_receive_skb(skb);
	return 0;
}

/* Takes up to @budget packets. Nobody else does meanwhile; BH off. */
static int vmc_pkt_receive(struct vmc_chan *ch, int budget, bool polled)
{
	struct vmc_pkt_rx *pr = &ch->prx;
	struct vmc_rxring *r = pr->ring;
	struct vmc_pkt pkt;
	int n, ret;

	for (n = 0; n < budget && !pr->ended; n++) {
		ret = vmc_pkt_get(&r->cons, vmc_rxring_data(r), &pkt);
		if (!ret)
			break;
		if (ret > 0) {
			if (unlikely(vmc_load(&r->cons.hdr->boundary) == VMC_PKT_FORGET &&
				     r->cons.closed)) {
				/* the writer has not waited for us: too late for what is left */
				atomic64_inc(&pr->dropped);
				vmc_pkt_advance(&r->cons, &pkt);
				continue;
			}
			rcu_read_lock();
			ret = vmc_pkt_take(ch, &pkt, polled);
			rcu_read_unlock();
			vmc_pkt_advance(&r->cons, &pkt);
			if (ret < 0)
				atomic64_inc(&pr->dropped);
		}
		if (ret == -EPIPE || ret == -EPROTO) {
			if (ret == -EPROTO)
				vmc_chan_broken(ch, "packet");
			pr->ended = true;
			vmc_chan_queue(ch);
		}
	}
	return n;
}

/* ------------------------------------------------------ waiting for more */

/*
 * Before a ring is waited for by an event, an idle CPU looks at it for a while: an
 * event costs both guests more than that. The task is the last that gets the CPU,
 * and it never sleeps, or is preempted, without having asked for events.
 */
static LIST_HEAD(vmc_looks);
static DEFINE_SPINLOCK(vmc_looks_lock);
static struct task_struct *vmc_looker;

/* Longer than a reader looks: the way to it through the stack, and back, comes on top. */
static u64 vmc_look_max(void)
{
	return 5 * vmc_poll_max();
}

/* The ring was empty for @took nanoseconds. One long wait among short ones means little. */
static void vmc_look_learn(struct vmc_pkt_rx *pr, u64 took)
{
	u64 max = vmc_look_max();

	if (took <= max) {
		pr->look_ns = min(max, 2 * took);
		pr->tries = 0;
		pr->tries_after = VMC_TRIES_MIN;
	} else if (pr->look_ns) {
		pr->look_ns = pr->look_ns / 4 * 3;
	}
	if (pr->look_ns < VMC_LOOK_MIN)
		pr->look_ns = 0;
}

/*
 * How long to look now. If it did not pay, it may be since the peer sleeps as well, and
 * has to be woken first: so it is tried for twice as long and a few times in a row,
 * in which the peer tries it, too. The two must not try in turn: the first time each
 * tries more often than not, and later it is random when.
 */
static u64 vmc_look_budget(struct vmc_pkt_rx *pr)
{
	u64 max = vmc_look_max();
	u32 try;

	if (pr->look_ns)
		return min_t(u64, pr->look_ns, max);
	try = pr->tries++;
	if (pr->tries >= pr->tries_after) {
		pr->tries = 0;
		pr->tries_after = clamp_t(u32, 2 * pr->tries_after, VMC_TRIES_MIN, VMC_TRIES_MAX) +
				  get_random_u32() % VMC_TRIES_MIN;
	}
	return try < VMC_TRIES ? 2 * max : 0;
}

/* For @ns nanoseconds from now on. Softirq. */
static void vmc_look_begin(struct vmc_pkt_rx *pr, u64 ns)
{
	if (!ns)
		return;
	spin_lock(&vmc_looks_lock);
	pr->look_until = local_clock() + ns;
	if (list_empty(&pr->look))
		list_add_tail(&pr->look, &vmc_looks);
	pr->looks++;
	spin_unlock(&vmc_looks_lock);
	wake_up_process(vmc_looker);
}

/* The ring goes away. */
static void vmc_look_end(struct vmc_pkt_rx *pr)
{
	spin_lock_bh(&vmc_looks_lock);
	list_del_init(&pr->look);
	spin_unlock_bh(&vmc_looks_lock);
}

/* Preemption off. Looks at all rings once; false if there is nothing more to look at. */
static bool vmc_look_once(bool last)
{
	struct vmc_pkt_rx *pr, *tmp;
	u64 now = local_clock();
	bool found, over, more;

	spin_lock_bh(&vmc_looks_lock);
	list_for_each_entry_safe(pr, tmp, &vmc_looks, look) {
		over = now >= pr->look_until;
		if ((last || over) && !hrtimer_active(&pr->gentle))
			vmc_ring_cons_wait(&pr->ring->cons);
		else
			vmc_ring_cons_disarm(&pr->ring->cons);
		found = vmc_ring_cons_ready(&pr->ring->cons, 1);
		if (found || over)
			list_del_init(&pr->look);
		if (found) {
			pr->found++;
			napi_schedule(&pr->napi);
		}
	}
	more = !list_empty(&vmc_looks);
	spin_unlock_bh(&vmc_looks_lock);	/* and the packets are received here */
	return more;
}

static int vmc_look(void *unused)
{
	while (!kthread_should_stop()) {
		set_current_state(TASK_IDLE);
		if (list_empty(&vmc_looks) && !kthread_should_stop())
			schedule();
		__set_current_state(TASK_RUNNING);
		preempt_disable();
		while (!need_resched() && vmc_look_once(false))
			cpu_relax();
		vmc_look_once(true);
		preempt_enable();
		cond_resched();
	}
	return 0;
}

/* So many datagrams found no room in their sockets, on this CPU. */
static unsigned long vmc_pkt_overflows(const struct vmc_pkt_rx *pr)
{
	const struct vmc_from *from = NULL;
	unsigned long found = 0;
	const struct net *net;
	unsigned int i;

	rcu_read_lock();
	for (i = 0; i < VMC_PKT_SOURCES && !from; i++)
		from = rcu_dereference(pr->from[i]);
	if (from) {
		net = dev_net(from->dev);
		found = this_cpu_read(net->mib.udp_statistics->mibs[UDP_MIB_RCVBUFERRORS]);
		if (net->mib.udp_stats_in6)	/* not with ipv6.disable=1 */
			found += this_cpu_read(net->mib.udp_stats_in6->mibs[UDP_MIB_RCVBUFERRORS]);
	}
	rcu_read_unlock();
	return found;
}

/*
 * Softirqs come before tasks: packets that are received faster than they are read
 * cost their readers the CPU, and are dropped. While that happens they are received
 * a few at a time, with a pause in between that grows until it does not any more.
 * The others stay in the ring, and in the end it is the sender who waits.
 */
static int vmc_pkt_receive_gently(struct vmc_chan *ch, int budget)
{
	struct vmc_pkt_rx *pr = &ch->prx;
	unsigned long overflows = vmc_pkt_overflows(pr);
	u64 bytes = pr->ring->cons.cons;
	int n;

	/* since the last time: GRO may keep packets until a run is over */
	if (pr->overflows_cpu == smp_processor_id() && pr->overflows != overflows) {
		pr->gentle_until = jiffies + VMC_GENTLE;
		pr->gentle_ns = min_t(u32, pr->gentle_ns * 2, VMC_GENTLE_MAX);
	}
	pr->overflows = overflows;
	pr->overflows_cpu = smp_processor_id();
	if (!time_before(jiffies, pr->gentle_until)) {
		n = vmc_pkt_receive(ch, budget, true);
		pr->gentle_ns = VMC_GENTLE_MIN;
	} else {
		for (n = 0; n < VMC_BATCH && pr->ring->cons.cons - bytes < VMC_BATCH_BYTES; n++)
			if (!vmc_pkt_receive(ch, 1, true))
				break;
		pr->gentle_ns = max_t(u32, pr->gentle_ns - pr->gentle_ns / 16, VMC_GENTLE_MIN);
	}
	return n;
}

static int vmc_pkt_poll(struct napi_struct *napi, int budget)
{
	struct vmc_pkt_rx *pr = container_of(napi, struct vmc_pkt_rx, napi);
	struct vmc_chan *ch = container_of(pr, struct vmc_chan, prx);
	struct vmc_rxring *r = pr->ring;
	bool more;
	int n;

	if (!r) {
		napi_complete_done(napi, 0);
		return 0;
	}
	n = vmc_pkt_receive_gently(ch, budget - 1);
	if (vmc_ring_cons_notify(&r->cons))
		vmc_chan_bell_space(ch, r->id);
	if (n && pr->empty_since) {
		vmc_look_learn(pr, local_clock() - pr->empty_since);
		pr->empty_since = 0;
	}
	/* an event after this finds the instance scheduled, and it runs again */
	more = !pr->ended && vmc_ring_cons_arm(&r->cons);
	if (more && !time_before(jiffies, pr->gentle_until))
		return budget;
	/* while the instance is scheduled: whoever disables it then finds us in the list */
	if (more) {
		vmc_ring_cons_disarm(&r->cons);
		hrtimer_start(&pr->gentle, ns_to_ktime(pr->gentle_ns), HRTIMER_MODE_REL_SOFT);
		/* if the only CPU is idle, the readers have read all there is */
		if (num_online_cpus() == 1)
			vmc_look_begin(pr, vmc_look_max());
	} else {
		hrtimer_try_to_cancel(&pr->gentle);
		if (n) {
			pr->empty_since = local_clock();
			vmc_look_begin(pr, vmc_look_budget(pr));
		}
	}
	napi_complete_done(napi, n);
	return n;
}

static enum hrtimer_restart vmc_pkt_gentle(struct hrtimer *timer)
{
	napi_schedule(&container_of(timer, struct vmc_pkt_rx, gentle)->napi);
	return HRTIMER_NORESTART;
}

/* The peer has rung. Softirq. */
void vmc_pkt_rx_event(struct vmc_chan *ch)
{
	if (!smp_load_acquire(&ch->prx.on))	/* pairs with vmc_pkt_rx_open() */
		return;
	if (!hrtimer_active(&ch->prx.gentle))	/* then it comes by itself */
		napi_schedule(&ch->prx.napi);
}

/* --------------------------------------------------- who may send as whom */

static void vmc_from_free(struct rcu_head *rcu)
{
	struct vmc_from *from = container_of(rcu, struct vmc_from, rcu);

	dev_put(from->dev);
	kfree(from);
}

/* chan->mutex */
static void vmc_from_set(struct vmc_pkt_rx *pr, u32 slot, struct vmc_from *from)
{
	struct vmc_from *old = rcu_dereference_protected(pr->from[slot], true);

	rcu_assign_pointer(pr->from[slot], from);
	if (from)
		__set_bit(slot, &pr->was);
	if (old)
		call_rcu(&old->rcu, vmc_from_free);
}

static void vmc_from_tell(struct vmc_chan *ch, u16 type, u32 id, u32 slot, enum vmc_reason why)
{
	struct vmc_c_addr_answer m = {
		.h = { type, sizeof(m), id },
		.slot = slot,
		.reason = why,
	};

	vmc_chan_send(ch, &m.h);
}

static struct vmc_from *vmc_from_new(struct vmc_chan *ch, const struct vmc_c_addr_ask *m,
				     enum vmc_reason *why)
{
	struct vmc_peer *peer = vmc_peer_by_domid(ch->domid);
	struct net_device *dev = NULL;
	struct vmc_from *from;
	u8 mac[ETH_ALEN];

	*why = VMC_R_NO_PEER;
	if (peer)
		dev = vmc_vif_of(m->addr, peer, mac);
	vmc_peer_put(peer);
	if (IS_ERR(dev))
		*why = VMC_R_NOT_READY;
	if (IS_ERR_OR_NULL(dev))
		return NULL;
	from = kzalloc(sizeof(*from), GFP_KERNEL);
	if (!from) {
		*why = VMC_R_NO_MEMORY;
		dev_put(dev);
		return NULL;
	}
	from->id = m->h.id;
	memcpy(from->addr, m->addr, sizeof(from->addr));
	from->dev = dev;
	ether_addr_copy(from->mac, mac);
	return from;
}

/* The peer would like to send from an address. chan->mutex. */
int vmc_pkt_rx_ask(struct vmc_chan *ch, const struct vmc_c_addr_ask *m)
{
	struct vmc_pkt_rx *pr = &ch->prx;
	enum vmc_reason why = VMC_R_LIMIT;
	struct vmc_from *from = NULL;

	if (m->slot >= VMC_PKT_SOURCES || m->zero)
		return -EPROTO;
	if (time_after_eq(jiffies, pr->asks_since + HZ)) {
		pr->asks_since = jiffies;
		pr->asks = 0;
	}
	if (!pr->ring || READ_ONCE(vmc_packets) == VMC_PACKETS_OFF)
		why = VMC_R_POLICY;
	else if (pr->asks++ < VMC_ASKS_MAX)
		from = vmc_from_new(ch, m, &why);
	vmc_from_set(pr, m->slot, from);
	if (from)
		vmc_from_tell(ch, VMC_C_ADDR_OK, m->h.id, m->slot, VMC_R_NONE);
	else
		vmc_from_tell(ch, VMC_C_ADDR_NO, m->h.id, m->slot, why);
	return 0;
}

/* A mark came out of the network on @dev, from @mac. Softirq. */
void vmc_pkt_rx_mark(struct vmc_chan *ch, const struct net_device *dev, const u8 *mac,
		     const struct vmc_mark *mark)
{
	u32 slot = ntohl(mark->slot), id = ntohl(mark->id);
	struct vmc_from *from;

	if (slot >= VMC_PKT_SOURCES)
		return;
	rcu_read_lock();
	from = rcu_dereference(ch->prx.from[slot]);
	if (!from || from->id != id || from->dev != dev || !ether_addr_equal(from->mac, mac))
		goto out;
	if (ntohl(mark->queues) > 1 || READ_ONCE(dev->real_num_rx_queues) > 1) {
		if (!cmpxchg(&from->settles, 0, (jiffies + VMC_SETTLE) | 1))
			mod_delayed_work(vmc_wq, &ch->trim, VMC_SETTLE + 1);
	} else if (!xchg(&from->live, true)) {
		vmc_from_tell(ch, VMC_C_ADDR_LIVE, id, slot, VMC_R_NONE);
	}
out:
	rcu_read_unlock();
}

/* Those whose mark came through one of several queues: the others have time. chan->mutex. */
static unsigned long vmc_from_settle(struct vmc_chan *ch)
{
	unsigned long again = HZ, settles;
	struct vmc_from *from;
	u32 slot;

	for (slot = 0; slot < VMC_PKT_SOURCES; slot++) {
		from = rcu_dereference_protected(ch->prx.from[slot], lockdep_is_held(&ch->mutex));
		settles = from ? READ_ONCE(from->settles) : 0;
		if (!settles || READ_ONCE(from->live))
			continue;
		if (time_before(jiffies, settles))
			again = min(again, settles - jiffies + 1);
		else if (!xchg(&from->live, true))
			vmc_from_tell(ch, VMC_C_ADDR_LIVE, from->id, slot, VMC_R_NONE);
	}
	return again;
}

/* Addresses that lead elsewhere now. chan->mutex. */
static void vmc_from_look(struct vmc_chan *ch)
{
	struct vmc_peer *peer = vmc_peer_by_domid(ch->domid);
	struct vmc_pkt_rx *pr = &ch->prx;
	struct net_device *dev;
	struct vmc_from *from;
	u8 mac[ETH_ALEN];
	u32 slot;

	for (slot = 0; slot < VMC_PKT_SOURCES; slot++) {
		from = rcu_dereference_protected(pr->from[slot], lockdep_is_held(&ch->mutex));
		if (!from)
			continue;
		dev = peer ? vmc_vif_of(from->addr, peer, mac) : NULL;
		if (!IS_ERR_OR_NULL(dev))
			dev_put(dev);
		/* an address that just does not answer is nobody else's */
		if (from->dev->reg_state == NETREG_REGISTERED &&
		    (dev == from->dev || (IS_ERR(dev) && netif_running(from->dev))))
			continue;
		vmc_from_tell(ch, VMC_C_ADDR_NO, from->id, slot, VMC_R_NO_PEER);
		vmc_from_set(pr, slot, NULL);
	}
	vmc_peer_put(peer);
}

/* -------------------------------------------------------------- the ring */

/* Nobody reads the ring any more when this returns; it is closed. chan->mutex. */
static void vmc_pkt_rx_detach(struct vmc_chan *ch)
{
	struct vmc_pkt_rx *pr = &ch->prx;
	struct vmc_rxring *r = pr->ring;
	unsigned int runs;
	u32 slot;

	napi_disable(&pr->napi);
	hrtimer_cancel(&pr->gentle);
	vmc_look_end(pr);
	if (!READ_ONCE(ch->broken)) {
		local_bh_disable();
		/* no more than there is room for, if the peer should go on */
		for (runs = 0; runs < VMC_PKT_RING_SIZE / VMC_PKT_MIN / NAPI_POLL_WEIGHT; runs++)
			if (pr->ended || !vmc_pkt_receive(ch, NAPI_POLL_WEIGHT, false))
				break;
		local_bh_enable();
	}
	pr->ring = NULL;
	for (slot = 0; slot < VMC_PKT_SOURCES; slot++)
		vmc_from_set(pr, slot, NULL);
	napi_enable(&pr->napi);
	vmc_pool_rx_release(r);
}

void vmc_pkt_rx_init(struct vmc_chan *ch)
{
	INIT_LIST_HEAD(&ch->prx.look);
	ch->prx.asks_since = jiffies;
	ch->prx.gentle_until = jiffies;
	hrtimer_init(&ch->prx.gentle, CLOCK_MONOTONIC, HRTIMER_MODE_REL_SOFT);
	ch->prx.gentle.function = vmc_pkt_gentle;
}

/* The peer has packets for us. chan->mutex. */
int vmc_pkt_rx_open(struct vmc_chan *ch, const struct vmc_c_pkt_open *m)
{
	struct vmc_c_pkt_answer answer = {
		.h = { VMC_C_PKT_NONE, sizeof(answer), m->h.id },
	};
	struct vmc_pkt_rx *pr = &ch->prx;
	enum vmc_reason why = VMC_R_POLICY;
	struct vmc_rxring *r = NULL;

	if (pr->ring && !pr->ring->peer_done)
		return -EPROTO;
	if (pr->ring)
		vmc_pkt_rx_detach(ch);
	if (READ_ONCE(vmc_packets) != VMC_PACKETS_OFF)
		r = vmc_pool_rx_get(ch, VMC_PKT_RING_SIZE, VMC_PKT_RING_LEAST, &why);
	if (!r) {
		answer.reason = why;
		vmc_chan_send(ch, &answer.h);
		return 0;
	}
	if (!pr->on) {
		vmc_napi_add(vmc_napi_dev, &pr->napi, vmc_pkt_poll);
		napi_enable(&pr->napi);
		smp_store_release(&pr->on, true);	/* pairs with vmc_pkt_rx_event() */
	}
	napi_disable(&pr->napi);
	r->packets = true;
	pr->was = 0;
	pr->ended = false;
	pr->ring = r;
	napi_enable(&pr->napi);
	answer.h.type = VMC_C_PKT_RING;
	answer.ring_id = r->id;
	vmc_chan_send(ch, &answer.h);
	return 0;
}

/* We want no more of them: the writer hears of it and leaves. chan->mutex. */
void vmc_pkt_rx_close(struct vmc_chan *ch)
{
	struct vmc_rxring *r = ch->prx.ring;

	if (!r)
		return;
	vmc_set_bit64(&((struct vmc_ring_hdr *)r->mem.va)->prod, VMC_RING_CLOSED_BIT);
	vmc_chan_bell_space(ch, r->id);
	vmc_pkt_rx_event(ch);
}

/* After each run of the channel's worker. When it wants to be called again, in jiffies, or 0. */
unsigned long vmc_pkt_rx_tidy(struct vmc_chan *ch)
{
	struct vmc_pkt_rx *pr = &ch->prx;

	if (!pr->ring)
		return 0;
	if (READ_ONCE(pr->ended)) {
		vmc_pkt_rx_detach(ch);
		return 0;
	}
	if (time_after_eq(jiffies, pr->looked + HZ)) {
		vmc_from_look(ch);
		pr->looked = jiffies;
	}
	return vmc_from_settle(ch);
}

void vmc_pkt_rx_show(struct vmc_chan *ch, struct seq_file *s)
{
	struct vmc_pkt_rx *pr = &ch->prx;
	const struct vmc_from *from;
	unsigned int i;

	seq_printf(s, " rx %s packets %llu dropped %llu look_us %lu looks %llu found %llu\n",
		   READ_ONCE(pr->ring) ? "open" : "none",
		   (u64)atomic64_read(&pr->packets), (u64)atomic64_read(&pr->dropped),
		   READ_ONCE(pr->look_ns) / NSEC_PER_USEC,
		   READ_ONCE(pr->looks), READ_ONCE(pr->found));
	rcu_read_lock();
	for (i = 0; i < VMC_PKT_SOURCES; i++) {
		from = rcu_dereference(pr->from[i]);
		if (from)
			seq_printf(s, " rx source %pI6c %s %s\n", from->addr, from->dev->name,
				   READ_ONCE(from->live) ? "live" : "agreed");
	}
	rcu_read_unlock();
}

/* The channel ends: what the peer has sent is received yet. chan->mutex. */
void vmc_pkt_rx_end(struct vmc_chan *ch)
{
	struct vmc_pkt_rx *pr = &ch->prx;

	if (!pr->ring)
		return;
	vmc_set_bit64(&((struct vmc_ring_hdr *)pr->ring->mem.va)->prod, VMC_RING_CLOSED_BIT);
	vmc_pkt_rx_detach(ch);
}

/* No event can come any more. */
void vmc_pkt_rx_free(struct vmc_chan *ch)
{
	if (!ch->prx.on)
		return;
	napi_disable(&ch->prx.napi);
	hrtimer_cancel(&ch->prx.gentle);
	netif_napi_del(&ch->prx.napi);	/* waits for softirqs, those that look at a mark included */
	ch->prx.on = false;
}

/* ------------------------------------------------------------ begin, end */

int vmc_pkt_rx_setup(void)
{
	struct sched_attr idle = { .size = sizeof(idle), .sched_policy = SCHED_IDLE };

	vmc_napi_dev = vmc_dummy_dev_alloc();
	if (!vmc_napi_dev)
		return -ENOMEM;
	vmc_looker = kthread_create(vmc_look, NULL, "vmc-look");
	if (IS_ERR(vmc_looker)) {
		vmc_dummy_dev_free(vmc_napi_dev);
		return PTR_ERR(vmc_looker);
	}
	sched_setattr_nocheck(vmc_looker, &idle);
	wake_up_process(vmc_looker);
	return 0;
}

void vmc_pkt_rx_exit(void)
{
	kthread_stop(vmc_looker);
	vmc_dummy_dev_free(vmc_napi_dev);
}
