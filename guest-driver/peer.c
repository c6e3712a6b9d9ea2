// SPDX-License-Identifier: GPL-2.0-only
/* The co-resident guests that vmcd named, found by the MAC that Dom0 gave them. */
#include <linux/etherdevice.h>
#include <linux/jiffies.h>
#include <linux/rculist.h>
#include <linux/slab.h>

#include "vmc.h"

static LIST_HEAD(vmc_peers);
static DEFINE_SPINLOCK(vmc_peers_lock);
atomic_t vmc_nr_peers;

static void vmc_peer_free(struct kref *ref)
{
	struct vmc_peer *peer = container_of(ref, struct vmc_peer, ref);

	kfree_rcu(peer, rcu);
}

void vmc_peer_put(struct vmc_peer *peer)
{
	if (peer)
		kref_put(&peer->ref, vmc_peer_free);
}

/* Lock held. True if it was in the list, whose reference is then the caller's. */
static bool vmc_peer_unlink(struct vmc_peer *peer)
{
	if (peer->gone)
		return false;
	list_del_rcu(&peer->node);
	WRITE_ONCE(peer->gone, true);
	atomic_dec(&vmc_nr_peers);
	return true;
}

/* A peer that is named again replaces the former entry. */
int vmc_peer_add(const struct vmc_l_peer_add *m)
{
	struct vmc_peer *peer, *old;
	bool unlinked = false;

	if (!m->nr_macs || m->nr_macs > VMC_MACS_MAX || m->domid >= DOMID_FIRST_RESERVED)
		return -EPROTO;
	peer = kzalloc(sizeof(*peer), GFP_KERNEL);
	if (!peer)
		return -ENOMEM;
	kref_init(&peer->ref);
	peer->ask_after = jiffies;
	peer->domid = m->domid;
	peer->nr_macs = m->nr_macs;
	memcpy(peer->mac, m->mac, sizeof(peer->mac));

	old = vmc_peer_by_domid(m->domid);
	spin_lock_bh(&vmc_peers_lock);
	if (old)
		unlinked = vmc_peer_unlink(old);
	list_add_tail_rcu(&peer->node, &vmc_peers);
	atomic_inc(&vmc_nr_peers);
	spin_unlock_bh(&vmc_peers_lock);
	if (old)
		vmc_conn_part(old);
	vmc_peer_put(old);
	if (unlinked)
		vmc_peer_put(old);
	vmc_conn_scan();
	return 0;
}

void vmc_peer_del(u32 domid)
{
	struct vmc_peer *peer = vmc_peer_by_domid(domid);
	bool unlinked;

	if (!peer)
		return;
	spin_lock_bh(&vmc_peers_lock);
	unlinked = vmc_peer_unlink(peer);
	spin_unlock_bh(&vmc_peers_lock);
	vmc_peer_put(peer);
	if (unlinked)
		vmc_peer_put(peer);
}

void vmc_peers_clear(void)
{
	struct vmc_peer *peer, *tmp;

	spin_lock_bh(&vmc_peers_lock);
	list_for_each_entry_safe(peer, tmp, &vmc_peers, node) {
		vmc_peer_unlink(peer);
		vmc_peer_put(peer);
	}
	spin_unlock_bh(&vmc_peers_lock);
}

bool vmc_peer_has_mac(const struct vmc_peer *peer, const u8 *mac)
{
	u32 i;

	for (i = 0; i < peer->nr_macs; i++)
		if (ether_addr_equal_unaligned(peer->mac[i], mac))
			return true;
	return false;
}

/* Inside RCU; not counted. */
struct vmc_peer *vmc_peer_find(const u8 *mac)
{
	struct vmc_peer *peer;

	list_for_each_entry_rcu(peer, &vmc_peers, node)
		if (vmc_peer_has_mac(peer, mac))
			return peer;
	return NULL;
}

/* Is this MAC a guest's that we know by this domid? */
bool vmc_peer_is(u32 domid, const u8 *mac)
{
	const struct vmc_peer *peer;
	bool is;

	rcu_read_lock();
	peer = vmc_peer_find(mac);
	is = peer && peer->domid == domid;
	rcu_read_unlock();
	return is;
}

/* The channel to the peer; asks for one if there is none. Inside RCU. */
struct vmc_chan *vmc_peer_chan(struct vmc_peer *peer)
{
	struct vmc_chan *ch = rcu_dereference(peer->chan);

	if (!ch && !READ_ONCE(peer->asked) && !READ_ONCE(peer->never) &&
	    time_after_eq(jiffies, READ_ONCE(peer->ask_after)))
		vmc_link_ask_channel(peer);
	return ch;
}

/* Both return a counted reference or NULL. Any context. */
struct vmc_peer *vmc_peer_by_mac(const u8 *mac)
{
	struct vmc_peer *peer;

	rcu_read_lock();
	peer = vmc_peer_find(mac);
	if (peer && !kref_get_unless_zero(&peer->ref))
		peer = NULL;
	rcu_read_unlock();
	return peer;
}

struct vmc_peer *vmc_peer_by_domid(u32 domid)
{
	struct vmc_peer *peer;

	rcu_read_lock();
	list_for_each_entry_rcu(peer, &vmc_peers, node)
		if (peer->domid == domid && kref_get_unless_zero(&peer->ref)) {
			rcu_read_unlock();
			return peer;
		}
	rcu_read_unlock();
	return NULL;
}

/* New streams to the peer use this channel, unless it is ending. */
void vmc_peer_use_chan(struct vmc_chan *ch)
{
	struct vmc_peer *peer;

	spin_lock_bh(&vmc_peers_lock);
	list_for_each_entry(peer, &vmc_peers, node)
		if (peer->domid == ch->domid && !READ_ONCE(ch->dead)) {
			WRITE_ONCE(peer->asked, true);
			rcu_assign_pointer(peer->chan, ch);
		}
	spin_unlock_bh(&vmc_peers_lock);
	vmc_conn_hurry();
}

/* No new stream finds the channel any more. */
void vmc_peer_forget_chan(const struct vmc_chan *ch)
{
	struct vmc_peer *peer;

	spin_lock_bh(&vmc_peers_lock);
	list_for_each_entry(peer, &vmc_peers, node)
		if (rcu_access_pointer(peer->chan) == ch)
			RCU_INIT_POINTER(peer->chan, NULL);
	if (rcu_access_pointer(ch->peer->chan) == ch)
		RCU_INIT_POINTER(ch->peer->chan, NULL);
	spin_unlock_bh(&vmc_peers_lock);
}

/* A channel was refused, or ended: when may we ask again? */
void vmc_peer_refused(struct vmc_peer *peer, enum vmc_reason why)
{
	switch (why) {
	case VMC_R_NONE:
	case VMC_R_PREPARE:
	case VMC_R_UNLOAD:
	case VMC_R_NO_MEMORY:
	case VMC_R_NO_GRANTS:
	case VMC_R_NO_PORT:
	case VMC_R_TIMEOUT:
	case VMC_R_PEER_GONE:
		WRITE_ONCE(peer->ask_after, jiffies + HZ);
		break;
	case VMC_R_LIMIT:
		WRITE_ONCE(peer->ask_after, jiffies + 10 * HZ);
		break;
	default:
		WRITE_ONCE(peer->never, true);
	}
	WRITE_ONCE(peer->asked, false);
}
