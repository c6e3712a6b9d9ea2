// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's vifs, as far as packets for peers are concerned: which ones are ours,
 * the netfilter hook behind routing, marks, and the way back to an address.
 */
#include <linux/etherdevice.h>
#include <linux/ipv6.h>
#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6.h>
#include <net/arp.h>
#include <net/ip6_route.h>
#include <net/ndisc.h>
#include <net/net_namespace.h>
#include <net/pkt_sched.h>
#include <net/route.h>
#include <net/sch_generic.h>

#include "vmc.h"

/* --------------------------------------------------------- which and how */

/* A netfront, by itself: a VLAN or a bridge above one is another network. */
bool vmc_vif_is_ours(const struct net_device *dev)
{
	struct device *parent = dev->dev.parent;

	return parent && parent->bus && parent->bus == vmc_link_bus() &&
	       !strcmp(to_xenbus_device(parent)->devicetype, "vif");
}

/* Is nothing between routing and the vif that would treat packets in its own way? */
bool vmc_vif_sends_plainly(struct net_device *dev)
{
	static const char *const plain[] = { "noqueue", "pfifo_fast", "fq_codel", "fq", "mq" };
	const struct Qdisc *q;
	bool ok;

	rcu_read_lock();
	q = rcu_dereference(dev->qdisc);
	ok = !vmc_dev_has_egress(dev) && q &&
	     match_string(plain, ARRAY_SIZE(plain), q->ops->id) >= 0;
	rcu_read_unlock();
	return ok;
}

/* Does no packet wait between routing and the vif's own ring? */
bool vmc_vif_is_empty(struct net_device *dev)
{
	const struct Qdisc *q;
	unsigned int i;
	bool empty = true;

	rcu_read_lock();
	for (i = 0; i < READ_ONCE(dev->real_num_tx_queues) && empty; i++) {
		q = rcu_dereference(netdev_get_tx_queue(dev, i)->qdisc);
		empty = !q || !qdisc_qlen_sum(q);
	}
	rcu_read_unlock();
	return empty;
}

/* ----------------------------------------------------------- the way out */

static struct vmc_peer *vmc_hop_v4(const struct sk_buff *skb, struct vmc_hop *hop)
{
	const struct rtable *rt = skb_rtable(skb);
	struct neighbour *n;

	if (!rt || rt->rt_type != RTN_UNICAST || rt->rt_gw_family == AF_INET6 ||
	    rt->dst.xfrm || rt->dst.lwtstate)
		return NULL;
	n = __ipv4_neigh_lookup_noref(hop->dev, (__force u32)rt_nexthop(rt, ip_hdr(skb)->daddr));
	if (!n || !(READ_ONCE(n->nud_state) & NUD_VALID))
		return NULL;
	neigh_ha_snapshot(hop->mac, n, hop->dev);
	return vmc_peer_find(hop->mac);
}

static struct vmc_peer *vmc_hop_v6(struct sk_buff *skb, struct vmc_hop *hop)
{
	const struct dst_entry *dst = skb_dst(skb);
	const struct in6_addr *daddr = &ipv6_hdr(skb)->daddr;
	struct neighbour *n;

	if (!dst || ipv6_addr_is_multicast(daddr) || dst->xfrm || dst->lwtstate)
		return NULL;
	n = __ipv6_neigh_lookup_noref(hop->dev, rt6_nexthop((const struct rt6_info *)dst, daddr));
	if (!n || !(READ_ONCE(n->nud_state) & NUD_VALID))
		return NULL;
	neigh_ha_snapshot(hop->mac, n, hop->dev);
	return vmc_peer_find(hop->mac);
}

/*
 * The last to see a packet before it would be fragmented. Takes it, or leaves it
 * as it is. The rules that are registered behind us, conntrack's among them, have
 * to see a packet that we take, too.
 */
static unsigned int vmc_vif_out(struct sk_buff *skb, const struct nf_hook_state *state,
				struct vmc_peer *peer, const struct vmc_hop *hop)
{
	struct vmc_chan *ch = vmc_peer_chan(peer);

	return ch ? vmc_pkt_out(ch, hop, skb, state) : NF_ACCEPT;
}

static unsigned int vmc_vif_out_v4(void *priv, struct sk_buff *skb,
				   const struct nf_hook_state *state)
{
	struct vmc_hop hop = { .dev = state->out };
	const struct iphdr *iph = ip_hdr(skb);
	struct vmc_peer *peer;

	/* first what costs TCP least */
	if ((READ_ONCE(vmc_packets) == VMC_PACKETS_UDP && iph->protocol != IPPROTO_UDP) ||
	    ip_is_fragment(iph) || !vmc_vif_is_ours(hop.dev))
		return NF_ACCEPT;
	peer = vmc_hop_v4(skb, &hop);
	return peer ? vmc_vif_out(skb, state, peer, &hop) : NF_ACCEPT;
}

static unsigned int vmc_vif_out_v6(void *priv, struct sk_buff *skb,
				   const struct nf_hook_state *state)
{
	struct vmc_hop hop = { .dev = state->out };
	u8 proto = ipv6_hdr(skb)->nexthdr;
	struct vmc_peer *peer;

	if ((READ_ONCE(vmc_packets) == VMC_PACKETS_UDP && proto != IPPROTO_UDP) ||
	    proto == NEXTHDR_FRAGMENT || !vmc_vif_is_ours(hop.dev))
		return NF_ACCEPT;
	peer = vmc_hop_v6(skb, &hop);
	return peer ? vmc_vif_out(skb, state, peer, &hop) : NF_ACCEPT;
}

static const struct nf_hook_ops vmc_vif_hooks[] = {
	{
		.hook = vmc_vif_out_v4,
		.pf = NFPROTO_IPV4,
		.hooknum = NF_INET_POST_ROUTING,
		.priority = INT_MAX,
	},
	{
		.hook = vmc_vif_out_v6,
		.pf = NFPROTO_IPV6,
		.hooknum = NF_INET_POST_ROUTING,
		.priority = INT_MAX,
	},
};

static int __net_init vmc_vif_net_init(struct net *net)
{
	return nf_register_net_hooks(net, vmc_vif_hooks, ARRAY_SIZE(vmc_vif_hooks));
}

static void __net_exit vmc_vif_net_exit(struct net *net)
{
	nf_unregister_net_hooks(net, vmc_vif_hooks, ARRAY_SIZE(vmc_vif_hooks));
}

static struct pernet_operations vmc_vif_net_ops = {
	.init = vmc_vif_net_init,
	.exit = vmc_vif_net_exit,
};

/*
 * The hooks that come after ours at the same point. True if the packet is still
 * there; otherwise it is gone, and *verdict is what netfilter is to be told.
 */
bool vmc_vif_hooks_behind(struct sk_buff *skb, const struct nf_hook_state *state,
			  unsigned int *verdict)
{
	bool v6 = state->pf == NFPROTO_IPV6;
	const struct nf_hook_entries *e;
	struct nf_hook_state copy = *state;
	unsigned int i;
	int ret;

	if (v6)
		e = rcu_dereference(state->net->nf.hooks_ipv6[NF_INET_POST_ROUTING]);
	else
		e = rcu_dereference(state->net->nf.hooks_ipv4[NF_INET_POST_ROUTING]);
	for (i = 0; e && i < e->num_hook_entries; i++)
		if (e->hooks[i].hook == vmc_vif_hooks[v6].hook)
			break;
	if (!e || i + 1 >= e->num_hook_entries)
		return true;
	ret = nf_hook_slow(skb, &copy, e, i + 1);
	if (ret == 1)
		return true;
	*verdict = NF_STOLEN | (-ret << NF_VERDICT_QBITS);
	return false;
}

/* ----------------------------------------------------------------- marks */

/* Sends one behind all that was sent before. */
void vmc_vif_mark(struct net_device *dev, const u8 *mac, const struct vmc_mark *mark)
{
	struct sk_buff *skb = alloc_skb(LL_RESERVED_SPACE(dev) + ETH_ZLEN + dev->needed_tailroom,
					GFP_ATOMIC);

	if (!skb)
		return;		/* as good as lost */
	skb_reserve(skb, LL_RESERVED_SPACE(dev));
	skb_reset_network_header(skb);
	skb_put_zero(skb, ETH_ZLEN - ETH_HLEN);
	memcpy(skb->data, mark, sizeof(*mark));
	skb->dev = dev;
	skb->protocol = htons(VMC_MARK_ETHERTYPE);
	skb->priority = TC_PRIO_FILLER;		/* overtakes nobody */
	if (dev_hard_header(skb, dev, VMC_MARK_ETHERTYPE, mac, dev->dev_addr, skb->len) < 0)
		kfree_skb(skb);
	else
		dev_queue_xmit(skb);
}

static int vmc_vif_mark_came(struct sk_buff *skb, struct net_device *dev, struct packet_type *pt,
			     struct net_device *orig_dev)
{
	const struct vmc_mark *mark;
	struct vmc_mark copy;
	struct vmc_chan *ch;

	if (skb->pkt_type != PACKET_HOST || !vmc_vif_is_ours(dev))
		goto out;
	mark = skb_header_pointer(skb, 0, sizeof(copy), &copy);
	if (!mark || memcmp(mark->magic, VMC_MARK_MAGIC, sizeof(mark->magic)))
		goto out;
	ch = vmc_link_chan(ntohl(mark->chan));
	if (ch) {
		vmc_pkt_rx_mark(ch, dev, eth_hdr(skb)->h_source, mark);
		vmc_chan_put(ch);
	}
out:
	consume_skb(skb);
	return NET_RX_SUCCESS;
}

static struct packet_type vmc_vif_marks = {
	.type = cpu_to_be16(VMC_MARK_ETHERTYPE),
	.func = vmc_vif_mark_came,
};

/* ----------------------------------------------------------- the way back */

static struct dst_entry *vmc_vif_route(struct net_device *dev, const u8 *addr)
{
	const struct in6_addr *a = (const struct in6_addr *)addr;
	struct flowi4 fl4 = { .daddr = (__force __be32)a->s6_addr32[3] };
	struct flowi6 fl6 = { .daddr = *a };
	struct dst_entry *dst;
	struct rtable *rt;

	if (ipv6_addr_v4mapped(a)) {
		rt = ip_route_output_key(dev_net(dev), &fl4);
		return IS_ERR(rt) ? NULL : &rt->dst;
	}
	if (ipv6_addr_type(a) & IPV6_ADDR_LINKLOCAL)
		fl6.flowi6_oif = dev->ifindex;
	dst = ip6_route_output(dev_net(dev), NULL, &fl6);
	if (!dst->error)
		return dst;
	dst_release(dst);
	return NULL;
}

/*
 * Does what we would send to @addr go out of @dev to a MAC of @peer's? 1, 0, or
 * -EAGAIN if that is not known now.
 */
static int vmc_vif_leads_to(struct net_device *dev, const u8 *addr, const struct vmc_peer *peer,
			    u8 *mac)
{
	bool v4 = ipv6_addr_v4mapped((const struct in6_addr *)addr);
	u8 found[MAX_ADDR_LEN];
	struct dst_entry *dst;
	struct neighbour *n;
	int leads = 0;

	dst = vmc_vif_route(dev, addr);
	if (!dst)
		return 0;
	n = dst->dev == dev ? dst_neigh_lookup(dst, v4 ? addr + 12 : addr) : NULL;
	if (n) {
		if (READ_ONCE(n->nud_state) & NUD_VALID) {
			neigh_ha_snapshot(found, n, dev);
			leads = vmc_peer_has_mac(peer, found);
			ether_addr_copy(mac, found);
		} else {
			neigh_event_send(n, NULL);	/* for the next time */
			leads = -EAGAIN;
		}
		neigh_release(n);
	}
	dst_release(dst);
	return leads;
}

/*
 * The vif that packets from @addr come in on, with a reference, if the address is
 * @peer's by route and neighbour. NULL if it is not, -EAGAIN if that is not known now.
 */
struct net_device *vmc_vif_of(const u8 *addr, const struct vmc_peer *peer, u8 *mac)
{
	struct net_device *dev, *found = NULL;
	struct net *net;
	int leads;

	if (ipv6_addr_is_multicast((const struct in6_addr *)addr) ||
	    ipv6_addr_any((const struct in6_addr *)addr))
		return NULL;
	rcu_read_lock();
	for_each_net_rcu(net)
		for_each_netdev_rcu(net, dev) {
			if (!IS_ERR_OR_NULL(found))
				break;
			/* a program that wants to see frames sees none of ours */
			if (!vmc_vif_is_ours(dev) || !netif_running(dev) ||
			    dev_xdp_prog_count(dev))
				continue;
			leads = vmc_vif_leads_to(dev, addr, peer, mac);
			if (leads > 0) {
				dev_hold(dev);
				found = dev;
			} else if (leads < 0) {
				found = ERR_PTR(leads);
			}
		}
	rcu_read_unlock();
	return found;
}

/* ------------------------------------------------------------ begin, end */

static bool vmc_vif_used;
static DEFINE_MUTEX(vmc_vif_mutex);

/* Hooks are there only while somebody may gain by them. Process context. */
void vmc_vif_update(void)
{
	bool want;
	int err;

	mutex_lock(&vmc_vif_mutex);
	want = !READ_ONCE(vmc_leaving) && atomic_read(&vmc_nr_peers) &&
	       READ_ONCE(vmc_packets) != VMC_PACKETS_OFF;
	if (want && !vmc_vif_used) {
		err = register_pernet_subsys(&vmc_vif_net_ops);
		if (err) {
			pr_warn("vmc: no packets through shared memory: %d\n", err);
		} else {
			dev_add_pack(&vmc_vif_marks);
			vmc_vif_used = true;
		}
	} else if (!want && vmc_vif_used) {
		vmc_vif_used = false;
		unregister_pernet_subsys(&vmc_vif_net_ops);
		dev_remove_pack(&vmc_vif_marks);
		synchronize_net();
	}
	mutex_unlock(&vmc_vif_mutex);
}
