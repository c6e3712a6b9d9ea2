/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Packets through a channel: what the parts of it know of each other. PROTOCOL.md,
 * "Packets", has the states.
 */
#ifndef VMC_DRIVER_PACKET_H
#define VMC_DRIVER_PACKET_H

#include <linux/list.h>
#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/spinlock.h>

#include "vmc_packet.h"
#include "vmc_wire.h"

struct seq_file;
struct vmc_chan;
struct vmc_peer;
struct vmc_rxring;
struct vmc_txring;

extern unsigned int vmc_packets;	/* what goes through packet rings: enum vmc_packets */

#define VMC_PKT_RING_SIZE	(256u << 10)	/* of a packet ring, wanted */
#define VMC_PKT_RING_LEAST	(128u << 10)	/* room for the longest packet, and some */

/* ------------------------------------------------------------- vif.c */

/* Where a packet goes: a netfront of ours, and the MAC of its next hop. */
struct vmc_hop {
	struct net_device *dev;
	u8 mac[ETH_ALEN];
};

void vmc_vif_update(void);
bool vmc_vif_is_ours(const struct net_device *dev);
bool vmc_vif_sends_plainly(struct net_device *dev);
bool vmc_vif_is_empty(struct net_device *dev);
bool vmc_vif_hooks_behind(struct sk_buff *skb, const struct nf_hook_state *state,
			  unsigned int *verdict);
void vmc_vif_mark(struct net_device *dev, const u8 *mac, const struct vmc_mark *mark);
struct net_device *vmc_vif_of(const u8 *addr, const struct vmc_peer *peer, u8 *mac);

/* ---------------------------------------------------------- pkt_tx.c */

enum vmc_src_state {
	VMC_SRC_FREE = 0,
	VMC_SRC_ASKED,		/* ADDR_ASK sent */
	VMC_SRC_NO,		/* until retry */
	VMC_SRC_OK,		/* ADDR_OK came; the next packet sends the mark */
	VMC_SRC_MARKING,	/* packets wait; the mark, until the vif's queue is empty */
	VMC_SRC_MARKED,		/* packets wait for ADDR_LIVE */
	VMC_SRC_LOCAL,
};

/* One source address that we send from, to one peer. */
struct vmc_src {
	u8 addr[16];		/* IPv4: v4-mapped */
	u8 state;		/* enum vmc_src_state */
	u8 refusals;		/* in a row */
	bool flushing;		/* the queue is being sent over the network, without the lock */
	u32 id;			/* of the ADDR_ASK */
	unsigned long since;	/* jiffies: of the state; of NO: when to ask again */
	unsigned long used;	/* jiffies */
	struct net_device *dev;	/* held from MARKING on */
	u8 mac[ETH_ALEN];
	struct list_head queue;	/* struct vmc_pkt_wait */
	unsigned int queued;
};

enum vmc_pkt_tx_state {
	VMC_PKT_TX_NONE = 0,
	VMC_PKT_TX_ASKED,	/* PKT_OPEN sent */
	VMC_PKT_TX_OPEN,
	VMC_PKT_TX_LEAVING,	/* the ring is drained; nothing new goes in */
	VMC_PKT_TX_DEAD,	/* the channel ends */
};

struct vmc_pkt_tx {
	spinlock_t lock;	/* all of it; BH */
	u8 state;		/* enum vmc_pkt_tx_state */
	u8 leave_why;		/* enum vmc_reason: somebody wants the ring to be left */
	u32 open_id;
	u32 earned;		/* packets while there is no ring, */
	unsigned long earn_since;	/* since then: jiffies */
	unsigned long ask_after;	/* jiffies */
	bool flushing;		/* sources are being sent over the network, without the lock */
	struct vmc_txring *ring;	/* OPEN and LEAVING */
	unsigned int queued;		/* of all sources */
	bool full;		/* of them, some wait for room */
	u64 seen_cons;		/* where the reader was at the last look, */
	unsigned long moved;	/* and when it was last seen to move, or had nothing to do */
	u64 seen_pos;
	unsigned long used;	/* when the writer was last seen to move */
	struct vmc_src src[VMC_PKT_SOURCES];
	atomic64_t packets;
	atomic64_t dropped;
};

void vmc_pkt_tx_init(struct vmc_chan *ch);
unsigned int vmc_pkt_out(struct vmc_chan *ch, const struct vmc_hop *hop, struct sk_buff *skb,
			 const struct nf_hook_state *state);
int vmc_pkt_tx_answer(struct vmc_chan *ch, const struct vmc_c_pkt_answer *m);
int vmc_pkt_tx_addr(struct vmc_chan *ch, const struct vmc_c_addr_answer *m);
void vmc_pkt_tx_space(struct vmc_chan *ch);
void vmc_pkt_tx_leave(struct vmc_chan *ch, enum vmc_reason why);
unsigned long vmc_pkt_tx_tidy(struct vmc_chan *ch);
void vmc_pkt_tx_stop(struct vmc_chan *ch, enum vmc_reason why);
void vmc_pkt_tx_show(struct vmc_chan *ch, struct seq_file *s);
void vmc_pkt_tx_end(struct vmc_chan *ch, enum vmc_reason why);

/* ---------------------------------------------------------- pkt_rx.c */

/* One source address that the peer may send from. */
struct vmc_from {
	struct rcu_head rcu;
	u32 id;			/* of the ADDR_ASK */
	u8 addr[16];
	struct net_device *dev;	/* held: where its packets would come in */
	u8 mac[ETH_ALEN];
	unsigned long settles;	/* jiffies when it is live, its mark has come; 0: it has not */
	bool live;
};

struct vmc_pkt_rx {
	struct napi_struct napi;
	bool on;		/* the NAPI instance is there; set once */
	bool ended;		/* the ring was read to its end, or is broken */
	struct vmc_rxring *ring;	/* changes with the NAPI instance disabled */
	struct list_head look;		/* in the list of rings to look at */
	u64 look_until;			/* local_clock() */
	u64 empty_since;		/* local_clock(); 0: packets wait, or none has come yet */
	u32 look_ns;			/* how long it pays to look, 0 if it does not */
	u32 tries;			/* waits since it did, or since it was last tried */
	u32 tries_after;		/* it is tried again after so many */
	u64 looks;			/* how often it was looked, */
	u64 found;			/* and something came */
	/* only the NAPI instance */
	unsigned long gentle_until;	/* jiffies: sockets have overflowed shortly before, */
	u32 gentle_ns;			/* so there is this time between batches */
	unsigned long overflows;	/* so many had, on this CPU, */
	int overflows_cpu;		/* when it was last looked */
	struct hrtimer gentle;		/* that begins the next one */
	/* changed under chan->mutex */
	struct vmc_from __rcu *from[VMC_PKT_SOURCES];
	unsigned long was;		/* slots that had an owner since the ring was given out */
	unsigned long asks_since;	/* jiffies */
	unsigned int asks;
	unsigned long looked;		/* jiffies: at the sources */
	atomic64_t packets;
	atomic64_t dropped;
};

int vmc_pkt_rx_setup(void);
void vmc_pkt_rx_exit(void);
void vmc_pkt_rx_init(struct vmc_chan *ch);
int vmc_pkt_rx_open(struct vmc_chan *ch, const struct vmc_c_pkt_open *m);
int vmc_pkt_rx_ask(struct vmc_chan *ch, const struct vmc_c_addr_ask *m);
void vmc_pkt_rx_event(struct vmc_chan *ch);
void vmc_pkt_rx_mark(struct vmc_chan *ch, const struct net_device *dev, const u8 *mac,
		     const struct vmc_mark *mark);
void vmc_pkt_rx_close(struct vmc_chan *ch);
unsigned long vmc_pkt_rx_tidy(struct vmc_chan *ch);
void vmc_pkt_rx_show(struct vmc_chan *ch, struct seq_file *s);
void vmc_pkt_rx_end(struct vmc_chan *ch);
void vmc_pkt_rx_free(struct vmc_chan *ch);

#endif /* VMC_DRIVER_PACKET_H */
