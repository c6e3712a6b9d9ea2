/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the driver's parts know of each other.
 *
 * Locks, outermost first:
 *   chan->mutex          rings of a channel: its worker, or its end
 *   conn->rx_mutex       reader's side of one socket
 *   socket lock          writer's side of one socket (conn->tx*)
 *   conn->tx_lock        use of the ring that it writes (BH)
 *   link->lock           list of channels and their states (BH)
 *   chan->ptx.lock       writer's side of a packet ring (BH)
 *   chan->out_lock       outgoing half of a control ring (BH)
 *   vmc_conn_lock        hash tables (BH)
 *
 * A task may hold a socket's lock for as long as it likes: TCP copies from and to
 * memory that only userspace can bring (userfaultfd, FUSE). So nothing that
 * concerns a whole channel waits for one without a limit.
 */
#ifndef VMC_H
#define VMC_H

#include <linux/atomic.h>
#include <linux/interrupt.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/llist.h>
#include <linux/mutex.h>
#include <linux/net.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/workqueue.h>
#include <net/sock.h>
#include <net/tcp.h>
#include <xen/grant_table.h>
#include <xen/xenbus.h>

#include "compat.h"
#include "packet.h"
#include "vmc_ring.h"
#include "vmc_wire.h"
#include "vmc_xenstore.h"

static_assert(PAGE_SIZE == VMC_PAGE_SIZE, "rings are made of 4 KiB pages");

/* ------------------------------------------------------------ main.c */

extern unsigned int vmc_ring_kb;
extern unsigned int vmc_first_ring_kb;
extern unsigned int vmc_idle_s;
extern unsigned int vmc_min_calls;
extern unsigned int vmc_min_bytes;
extern unsigned int vmc_poll_us;
extern unsigned int vmc_max_grants;
extern unsigned int vmc_max_mb;
extern bool vmc_leaving;		/* the module is being unloaded */

/* What the host allows at most, all ones where it sets no limit. */
struct vmc_host_limits {
	u64 bytes;
	u32 grants;
	u32 streams;			/* that are received */
	u32 ring_bytes;
	u32 poll_us;
	u32 packets;
};

#define VMC_HOST_NO_LIMITS { U64_MAX, U32_MAX, U32_MAX, U32_MAX, U32_MAX, U32_MAX }
extern struct vmc_host_limits vmc_host;
void vmc_host_allows(const struct vmc_host_limits *limits);

/* What counts is the guest's own parameter, or the host's word if that is less. */
static inline u32 vmc_grants_most(void)
{
	return min(READ_ONCE(vmc_max_grants), READ_ONCE(vmc_host.grants));
}

static inline u32 vmc_ring_most(void)
{
	return min(READ_ONCE(vmc_ring_kb) << 10, READ_ONCE(vmc_host.ring_bytes));
}

extern struct workqueue_struct *vmc_wq;

/* Every fallback goes through here. */
extern atomic64_t vmc_reasons[VMC_R_MAX];

static inline void vmc_count(enum vmc_reason why)
{
	atomic64_inc(&vmc_reasons[why]);
}

/*
 * Where what others do meanwhile matters, a driver built for tests is held up now
 * and then, as if it had been preempted. May be preempted; does not sleep. The
 * other one is for atomic context, where a hypervisor preempts all the same.
 */
#ifdef VMC_JITTER
void vmc_jitter(void);
void vmc_jitter_atomic(void);
#else
static inline void vmc_jitter(void) {}
static inline void vmc_jitter_atomic(void) {}
#endif

/* A driver built for tests can lie to its peer, in the way that its parameter says. */
#ifdef VMC_HOSTILE
bool vmc_hostile_keeps(void);
void vmc_hostile_header(struct vmc_pkt *pkt);
void vmc_hostile_packet(struct vmc_chan *ch);
#else
static inline bool vmc_hostile_keeps(void) { return false; }
static inline void vmc_hostile_header(struct vmc_pkt *pkt) {}
static inline void vmc_hostile_packet(struct vmc_chan *ch) {}
#endif

struct vmc_conn;
void vmc_fallback(const struct vmc_conn *conn, enum vmc_reason why);
extern const char *const vmc_reason_name[VMC_R_MAX];

/* ------------------------------------------------------------- mem.c */

/* Memory of ours that one other domain may write. */
struct vmc_shared {
	void *va;		/* contiguous, zeroed, vmalloc'ed */
	unsigned int pages;
	unsigned int granted;	/* leading pages with a live grant */
	unsigned int stuck;	/* pages that the other domain did not let go */
	u32 domid;
	grant_ref_t ref[VMC_RING_PAGES_MAX];
};

/* Pages of another domain, mapped here one by one. */
struct vmc_foreign {
	unsigned int pages;
	struct page *page[VMC_RING_PAGES_MAX];
	grant_handle_t handle[VMC_RING_PAGES_MAX];
};

extern atomic_t vmc_grants;
extern atomic_t vmc_mapped;
extern atomic64_t vmc_bytes;

int vmc_shared_alloc(struct vmc_shared *s, unsigned int pages, u32 domid,
		     enum vmc_reason *why);
void vmc_shared_end(struct vmc_shared *s);
void vmc_shared_free(struct vmc_shared *s);
unsigned int vmc_shared_stuck(u32 domid);
void vmc_mem_exit(void);
int vmc_foreign_map(struct vmc_foreign *f, u32 domid, const u32 *ref,
		    unsigned int pages);
void vmc_foreign_unmap(struct vmc_foreign *f);

static inline void *vmc_foreign_va(const struct vmc_foreign *f, unsigned int page)
{
	return page_address(f->page[page]);
}

/* ------------------------------------------------------------ peer.c */

struct vmc_chan;

/* A co-resident guest, as vmcd described it. */
struct vmc_peer {
	struct list_head node;
	struct kref ref;
	struct rcu_head rcu;
	u32 domid;
	u32 nr_macs;
	u8 mac[VMC_MACS_MAX][ETH_ALEN];
	bool gone;
	bool asked;			/* CHAN_REQ sent, no answer yet */
	bool never;			/* refused for good, until it is named again */
	unsigned long ask_after;	/* jiffies */
	struct vmc_chan __rcu *chan;	/* once it is up */
};

extern atomic_t vmc_nr_peers;

int vmc_peer_add(const struct vmc_l_peer_add *m);
void vmc_peer_del(u32 domid);
void vmc_peers_clear(void);
bool vmc_peer_has_mac(const struct vmc_peer *peer, const u8 *mac);
bool vmc_peer_is(u32 domid, const u8 *mac);
struct vmc_peer *vmc_peer_find(const u8 *mac);
struct vmc_chan *vmc_peer_chan(struct vmc_peer *peer);
struct vmc_peer *vmc_peer_by_mac(const u8 *mac);
struct vmc_peer *vmc_peer_by_domid(u32 domid);
void vmc_peer_put(struct vmc_peer *peer);
void vmc_peer_use_chan(struct vmc_chan *ch);
void vmc_peer_forget_chan(const struct vmc_chan *ch);
void vmc_peer_refused(struct vmc_peer *peer, enum vmc_reason why);

/* ------------------------------------------------------------ pool.c */

/* A ring of ours, written by the peer. */
struct vmc_rxring {
	struct vmc_chan *chan;
	u32 id;
	struct vmc_shared mem;
	struct vmc_ring_cons cons;
	struct vmc_conn __rcu *conn;	/* for the event handler only */
	struct llist_node released;	/* the reader has let go */
	struct list_head node;		/* chan->rx_free or chan->rx_gone */
	unsigned long idle_since;
	/* chan->mutex */
	bool in_use;			/* a reader has it */
	bool packets;			/* a packet ring; in this life */
	bool peer_done;			/* DONE received, or never needed */
	bool retiring;			/* DEL sent */
};

/* A ring of the peer's, written by us. */
struct vmc_txring {
	struct vmc_chan *chan;
	u32 id;
	u32 pages;
	u32 known;			/* references received */
	u32 ref[VMC_RING_PAGES_MAX];
	struct vmc_foreign map;
	struct vmc_ring_prod prod;	/* socket lock of the writer */
	struct vmc_conn __rcu *conn;	/* for the event handler only */
	struct list_head node;		/* chan->tx_gone */
	bool mapped;			/* chan->mutex */
	bool busy;			/* given to a writer; cleared by the writer */
	bool packets;			/* the writer is the channel's packet path */
	u64 idle_pos;			/* chan->mutex: positions when last looked at, */
	u64 idle_cons;
	unsigned long idle_since;	/* unchanged since */
};

/* all but release and tx_done: chan->mutex held */
struct vmc_rxring *vmc_pool_rx_get(struct vmc_chan *ch, u32 want, u32 least,
				   enum vmc_reason *why);
void vmc_pool_rx_release(struct vmc_rxring *r);
int vmc_pool_rx_done(struct vmc_chan *ch, u32 id);
int vmc_pool_rx_gone(struct vmc_chan *ch, u32 id);
int vmc_pool_tx_add(struct vmc_chan *ch, const struct vmc_c_ring_add *m);
int vmc_pool_tx_del(struct vmc_chan *ch, u32 id);
struct vmc_txring *vmc_pool_tx_free(struct vmc_chan *ch, u32 id);
int vmc_pool_tx_map(struct vmc_txring *t);
void vmc_pool_tx_start(struct vmc_txring *t, struct vmc_conn *conn);
void vmc_pool_tx_done(struct vmc_txring *t);
unsigned long vmc_pool_tidy(struct vmc_chan *ch);
void vmc_pool_end(struct vmc_chan *ch, enum vmc_reason why);

/* A writer waits so long for a reader that does nothing; if others of the peer's do something, */
#define VMC_STALL	(HZ / 10)
#define VMC_STALL_BUSY	HZ		/* so long */

static inline void *vmc_rxring_data(const struct vmc_rxring *r)
{
	return (u8 *)r->mem.va + PAGE_SIZE;
}

/* ------------------------------------------------------------ chan.c */

/* A message that waits for room. */
struct vmc_outmsg {
	struct list_head node;
	union {
		struct vmc_msg h;
		DECLARE_FLEX_ARRAY(u8, raw);	/* h.len bytes */
	};
};

struct vmc_outmsg *vmc_outmsg_new(const struct vmc_msg *m);

struct vmc_chan {
	struct list_head node;		/* link->chans */
	struct kref ref;
	struct rcu_head rcu;
	u32 id;
	u32 domid;
	struct vmc_peer *peer;
	enum vmc_chan_state state;	/* link->lock */
	bool broken;			/* the peer broke the protocol */
	bool dead;			/* chan->mutex: nothing more for the peer */
	struct mutex mutex;

	struct vmc_shared in;		/* control ring that we read */
	struct vmc_chan_page *in_page;
	struct vmc_ring_cons in_cons;	/* worker only */

	struct vmc_foreign out;		/* control ring that the peer reads */
	bool out_mapped;
	struct vmc_chan_page *out_page;
	spinlock_t out_lock;		/* the four below */
	struct vmc_ring_prod out_prod;
	struct list_head outq;
	unsigned int outq_len;
	bool out_ok;

	evtchn_port_t port;
	int irq;			/* 0: none */
	struct tasklet_struct tasklet;
	unsigned int empty_events;	/* in a row; tasklet only */
	struct work_struct work;
	struct delayed_work trim;
	struct work_struct close_work;
	enum vmc_reason close_reason;

	struct llist_head released;
	/* chan->mutex */
	struct list_head rx_free;
	struct list_head rx_gone;	/* to be freed after a grace period */
	struct list_head tx_gone;	/* to be unmapped after a grace period */
	struct vmc_rxring __rcu *rx[VMC_RINGS_MAX];
	struct vmc_txring __rcu *tx[VMC_RINGS_MAX];
	unsigned int rx_rings;
	unsigned long idle_scan;	/* when to look for idle streams again */
	unsigned long tx_moved;		/* when some reader was last seen to have read */
	unsigned int rx_pages;
	bool streams;			/* we may have some: look for idle ones */
	bool tx_waiting;		/* a writer waits for space */
	bool tx_closed;			/* a reader closed a ring that we write */
	bool tx_end_all;		/* an operator wants it */
	bool tx_end_packets;		/* the packet ring is to be left */
	bool rx_end_packets;		/* we want no packets through the ring now */

	struct vmc_pkt_tx ptx;
	struct vmc_pkt_rx prx;

	atomic_t tx_streams;
	atomic_t rx_streams;
	atomic64_t tx_bytes;
	atomic64_t rx_bytes;
	atomic64_t events_tx;
	atomic64_t events_rx;
	atomic64_t takeovers;
	atomic64_t ended;
};

struct vmc_chan *vmc_chan_new(u32 id, struct vmc_peer *peer);
void vmc_chan_put(struct vmc_chan *ch);
int vmc_chan_prepare(struct vmc_chan *ch, struct vmc_l_chan_half *half,
		     enum vmc_reason *why);
int vmc_chan_connect(struct vmc_chan *ch, const struct vmc_l_chan_half *theirs,
		     struct vmc_l_chan_half *half, enum vmc_reason *why);
int vmc_chan_complete(struct vmc_chan *ch, const struct vmc_l_chan_half *theirs,
		      enum vmc_reason *why);
void vmc_chan_start_close(struct vmc_chan *ch, enum vmc_reason why);
void vmc_chan_broken(struct vmc_chan *ch, const char *what);
int vmc_chan_send(struct vmc_chan *ch, const struct vmc_msg *m);
void vmc_chan_bell_data(struct vmc_chan *ch, u32 ring);
void vmc_chan_bell_space(struct vmc_chan *ch, u32 ring);
void vmc_chan_queue(struct vmc_chan *ch);
void vmc_chan_tx_waits(struct vmc_chan *ch);

/* ------------------------------------------------------------ link.c */

int vmc_link_init(void);
void vmc_link_exit(void);
void vmc_link_close_channels(void);
struct bus_type;
const struct bus_type *vmc_link_bus(void);
struct vmc_chan *vmc_link_chan(u32 id);
void vmc_link_ask_channel(struct vmc_peer *peer);
void vmc_link_chan_closed(struct vmc_chan *ch, enum vmc_reason why);
void vmc_link_for_each_chan(void (*fn)(struct vmc_chan *ch, void *arg), void *arg);

/* ------------------------------------------------------------ conn.c */

enum vmc_tx_state {
	VMC_TX_TCP = 0,
	VMC_TX_OFFERED,
	VMC_TX_READY,
	VMC_TX_LOCAL,
};

enum vmc_rx_state {
	VMC_RX_TCP = 0,
	VMC_RX_OPEN,		/* ring given out, nothing seen in it */
	VMC_RX_SEGMENT,		/* boundary known */
};

/*
 * Which end of the connection we are. The socket does not tell; a connection that
 * was there before the driver finds it out by its first proof.
 */
enum vmc_role {
	VMC_ROLE_UNKNOWN = 0,
	VMC_ROLE_OPENER,
	VMC_ROLE_PASSIVE,
};

/*
 * Since a connection's calls come through the driver: a task may have loaded TCP's
 * own function before and not yet have asked for the socket's lock.
 */
enum vmc_settle {
	VMC_UNSETTLED = 0,
	VMC_SETTLING,		/* until the end of this grace period */
	VMC_SETTLED,		/* there is none */
};

/* What one side has learned about its waits; see poll.h. */
struct vmc_poll {
	u32 ns;
	u32 waits;
};

/* One TCP socket that we watch. Holds a reference on it. */
struct vmc_conn {
	struct hlist_node by_sk;
	struct hlist_node by_tuple;
	struct kref ref;
	struct rcu_head rcu;
	struct sock *sk;
	struct vmc_tuple tuple;		/* saddr: ours */
	u32 iss;			/* ours and theirs, as this end derives them */
	u32 irs;
	u8 role;			/* enum vmc_role */
	u8 mac[ETH_ALEN];		/* the next hop, and the device to it */
	int ifindex;
	u32 settle;			/* enum vmc_settle: is anyone about to enter TCP past us, */
	bool quiet;			/* or waiting for the lock there? socket lock */
	bool detached;			/* out of the tables, sk_prot restored */
	bool leaving;			/* someone else wants the socket; socket lock */
	enum vmc_reason leave_why;
	struct delayed_work leave;	/* lets it go; holds a reference */
	struct vmc_peer *peer;		/* socket lock */

	/* writer: socket lock */
	u8 tx_state;
	u8 tx_refusals;
	u8 tx_not_ready;		/* refusals of that kind since it was last local */
	bool tx_never;
	bool broken;			/* the peer broke the ring: to be reset */
	u32 tx_calls;			/* no lock: some may be lost */
	u64 tx_tcp_bytes;
	bool bulk;			/* a small ring would be, or was, full */
	u32 tx_asked;			/* bytes of the ring that was asked for last, */
	bool tx_less;			/* and the peer gave less */
	u32 tx_boundary;		/* write_seq while it is local */
	u32 offer_id;
	u32 offer_lost;			/* id of one whose answer did not get the lock */
	bool offer_opener;		/* the role that offers are made in */
	bool offer_guessed;		/* both roles were tried */
	u8 nonce[VMC_NONCE_LEN];
	struct vmc_poll tx_poll;

	/* this, and tx_state from VMC_TX_READY on, change with it held */
	spinlock_t tx_lock;
	struct vmc_txring __rcu *tx;

	/* reader: rx_mutex */
	struct mutex rx_mutex;
	unsigned long rx_offered;	/* jiffies; 0: never. Socket lock */
	bool rx_seen;			/* a reader came through our table; socket lock, too */
	u8 rx_state;
	u32 boundary;
	struct vmc_rxring __rcu *rx;
	struct vmc_poll rx_poll;
};

extern atomic_t vmc_nr_conns;
extern atomic64_t vmc_nr_hooked;

int vmc_conn_init(void);
void vmc_conn_exit(void);
struct vmc_conn *vmc_conn_get(const struct sock *sk);
struct vmc_conn *vmc_conn_peek(const struct sock *sk);
struct vmc_conn *vmc_conn_by_offer(const struct vmc_c_offer *m, bool *opener);
bool vmc_conn_wake(struct vmc_conn *conn);
void vmc_conn_rest(struct vmc_conn *conn);
void vmc_conn_settle(struct vmc_conn *conn);
bool vmc_conn_is_quiet(struct vmc_conn *conn);
bool vmc_conn_lock_soon(struct vmc_conn *conn);
void vmc_conn_hurry(void);
void vmc_conn_part(struct vmc_peer *old);
void vmc_conn_scan(void);
void vmc_conn_stop_scan(void);
void vmc_conn_put(struct vmc_conn *conn);
void vmc_conn_detach(struct vmc_conn *conn);
bool vmc_conn_ops(struct vmc_conn *conn);
int vmc_conn_let_go(struct vmc_conn *conn, enum vmc_reason why);
int vmc_conn_let_go_now(struct vmc_conn *conn, enum vmc_reason why);
int vmc_conn_give(struct vmc_conn *conn, enum vmc_reason why);
void vmc_conn_given(struct vmc_conn *conn);
void vmc_conn_leave(struct vmc_conn *conn, enum vmc_reason why);
void vmc_conn_look(const struct vmc_conn *conn);
void vmc_conn_data_ready(struct vmc_conn *conn);
void vmc_conn_write_space(struct vmc_conn *conn);
void vmc_conn_for_each(void (*fn)(struct vmc_conn *conn, void *arg), void *arg);
struct proto *vmc_base(const struct sock *sk);

/* ----------------------------------------------------------- proof.c */

void vmc_proof(const struct vmc_conn *conn, u8 kind, bool by_us, bool opener, u32 offer_id,
	       u32 ring_id, const u8 *nonce, u8 *out);

/* -------------------------------------------------- tx.c, rx.c, tcp.c */

int vmc_tx_send(struct vmc_conn *conn, struct msghdr *msg, size_t size);
void vmc_tx_earn(struct vmc_conn *conn, size_t size);
bool vmc_tx_rouses(const struct sock *sk, int flags, size_t size);
void vmc_tx_end(struct vmc_conn *conn, enum vmc_reason why);
void vmc_tx_drop(struct vmc_conn *conn, const struct vmc_txring *only, enum vmc_reason why);
void vmc_tx_accept(struct vmc_chan *ch, const struct vmc_c_accept *m);
void vmc_tx_reject(struct vmc_chan *ch, const struct vmc_c_reject *m);
bool vmc_tx_overtaken(const struct vmc_conn *conn);
bool vmc_tx_writable(const struct sock *sk, bool *local);
void vmc_tx_exit(void);
void vmc_tx_forget_offers(struct vmc_chan *ch);

#define VMC_NATIVE	(-MAX_ERRNO - 1)	/* no errno: call TCP instead */
int vmc_rx_recv(struct vmc_conn *conn, struct msghdr *msg, size_t len, int flags,
		int *addr_len);
void vmc_rx_offer(struct vmc_chan *ch, const struct vmc_c_offer *m);
void vmc_rx_stream_ends(struct vmc_chan *ch);
bool vmc_rx_readable(const struct sock *sk, u32 want);
bool vmc_rx_has(struct vmc_conn *conn);
u32 vmc_rx_pending(struct vmc_conn *conn);
int vmc_rx_inq(struct vmc_conn *conn);
int vmc_woken(struct wait_queue_entry *wait, unsigned int mode, int sync, void *key);
void vmc_rx_close(struct vmc_conn *conn);
void vmc_rx_end(struct vmc_conn *conn);
int vmc_rx_to_tcp(struct vmc_conn *conn, gfp_t gfp);

void vmc_tcp_init(void);
extern struct proto vmc_prots[2];
extern struct proto vmc_rest_prots[2];
const struct proto_ops *vmc_ops_for(const struct proto_ops *base);
const struct proto_ops *vmc_ops_base(const struct proto_ops *ops);

/* ---------------------------------------------------------- status.c */

void vmc_status_init(void);
void vmc_status_exit(void);
void vmc_status_fill_end(struct vmc_l_stats_end *m);
void vmc_status_fill_chan(struct vmc_l_stats_chan *m, struct vmc_chan *ch);

#endif /* VMC_H */
