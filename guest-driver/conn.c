// SPDX-License-Identifier: GPL-2.0-only
/*
 * The sockets that we watch: found as they become ESTABLISHED, or by a scan for
 * those that were there before their peer; kept in two tables (by socket, by
 * tuple), let go at close or when the driver leaves.
 */
#include <crypto/algapi.h>
#include <linux/etherdevice.h>
#include <linux/fdtable.h>
#include <linux/fs.h>
#include <linux/hashtable.h>
#include <linux/inetdevice.h>
#include <linux/jhash.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/tracepoint.h>
#include <net/addrconf.h>
#include <net/dst.h>
#include <net/if_inet6.h>
#include <net/ipv6.h>
#include <net/mptcp.h>
#include <net/neighbour.h>
#include <net/net_namespace.h>
#include <net/netevent.h>
#include <net/transp_v6.h>

#include "vmc.h"

#define VMC_CONN_BITS	12
#define VMC_LOCK_PATIENCE (HZ / 20)
#define VMC_SETTLE_DELAY (HZ / 20)	/* most are settled by their first calls before */

static DEFINE_HASHTABLE(vmc_by_sk, VMC_CONN_BITS);
static DEFINE_HASHTABLE(vmc_by_tuple, VMC_CONN_BITS);
static DEFINE_SPINLOCK(vmc_conn_lock);
static struct tracepoint *vmc_state_tp;

atomic_t vmc_nr_conns;		/* in memory, detached ones too */
atomic64_t vmc_nr_hooked;

/*
 * Sockets on their way to someone else, who has not put his mark on them yet.
 * Meanwhile the scan takes none.
 */
static atomic_t vmc_nr_given;

static void vmc_conn_leave_work(struct work_struct *work);
static void vmc_settle_work(struct work_struct *work);

static DECLARE_DELAYED_WORK(vmc_settle, vmc_settle_work);

/* ------------------------------------------------------------- lifetime */

static void vmc_conn_free_rcu(struct rcu_head *head)
{
	struct vmc_conn *conn = container_of(head, struct vmc_conn, rcu);

	sock_put(conn->sk);
	vmc_peer_put(conn->peer);
	kfree(conn);
	atomic_dec(&vmc_nr_conns);
}

static void vmc_conn_release(struct kref *ref)
{
	struct vmc_conn *conn = container_of(ref, struct vmc_conn, ref);
	struct vmc_rxring *r = rcu_dereference_protected(conn->rx, 1);

	/* nobody reads any more: what is in the ring has lost its reader */
	if (r) {
		RCU_INIT_POINTER(conn->rx, NULL);
		vmc_rx_stream_ends(r->chan);
		atomic64_inc(&r->chan->ended);
		vmc_pool_rx_release(r);
	}
	call_rcu(&conn->rcu, vmc_conn_free_rcu);
}

void vmc_conn_put(struct vmc_conn *conn)
{
	kref_put(&conn->ref, vmc_conn_release);
}

/* Inside RCU; no reference is taken. */
struct vmc_conn *vmc_conn_peek(const struct sock *sk)
{
	struct vmc_conn *conn;

	hash_for_each_possible_rcu(vmc_by_sk, conn, by_sk, (unsigned long)sk)
		if (conn->sk == sk)
			return conn;
	return NULL;
}

struct vmc_conn *vmc_conn_get(const struct sock *sk)
{
	struct vmc_conn *conn;

	rcu_read_lock();
	conn = vmc_conn_peek(sk);
	if (conn && !kref_get_unless_zero(&conn->ref))
		conn = NULL;
	rcu_read_unlock();
	return conn;
}

static u32 vmc_tuple_hash(const struct vmc_tuple *t)
{
	return jhash(t, sizeof(*t), 0);
}

/* Does the offer prove the other end of a connection of which we are that end? */
static bool vmc_conn_proves(const struct vmc_conn *conn, const struct vmc_c_offer *m,
			    bool opener)
{
	u8 proof[VMC_PROOF_LEN], role = READ_ONCE(conn->role);

	if (role == (opener ? VMC_ROLE_PASSIVE : VMC_ROLE_OPENER))
		return false;
	vmc_proof(conn, 1, false, opener, m->h.id, 0, m->nonce, proof);
	return !crypto_memneq(proof, m->proof, sizeof(proof));
}

/*
 * The socket whose other end is the sender of an OFFER that proves it. The same
 * tuple can exist in several network namespaces; the proof tells them apart.
 * *opener: whether ours is the end that opened the connection.
 * Returns a counted reference, or an error pointer: -ENOENT, -EACCES.
 */
struct vmc_conn *vmc_conn_by_offer(const struct vmc_c_offer *m, bool *opener)
{
	struct vmc_conn *conn, *found = ERR_PTR(-ENOENT);
	struct vmc_tuple mine;

	memcpy(mine.saddr, m->tuple.daddr, sizeof(mine.saddr));
	memcpy(mine.daddr, m->tuple.saddr, sizeof(mine.daddr));
	mine.sport = m->tuple.dport;
	mine.dport = m->tuple.sport;

	rcu_read_lock();
	hash_for_each_possible_rcu(vmc_by_tuple, conn, by_tuple, vmc_tuple_hash(&mine)) {
		if (memcmp(&conn->tuple, &mine, sizeof(mine)))
			continue;
		*opener = vmc_conn_proves(conn, m, true);
		if (!*opener && !vmc_conn_proves(conn, m, false)) {
			found = ERR_PTR(-EACCES);
			continue;
		}
		if (!kref_get_unless_zero(&conn->ref))
			continue;
		WRITE_ONCE(conn->role, *opener ? VMC_ROLE_OPENER : VMC_ROLE_PASSIVE);
		found = conn;
		break;
	}
	rcu_read_unlock();
	return found;
}

void vmc_conn_for_each(void (*fn)(struct vmc_conn *conn, void *arg), void *arg)
{
	struct vmc_conn *conn;
	unsigned int bucket;

	rcu_read_lock();
	hash_for_each_rcu(vmc_by_sk, bucket, conn, by_sk)
		fn(conn, arg);
	rcu_read_unlock();
}

/* --------------------------------------------------------------- hooking */

struct proto *vmc_base(const struct sock *sk)
{
	return sk->sk_family == AF_INET6 ? &tcpv6_prot : &tcp_prot;
}

/* Does the socket have that table of ours, vmc_prots or vmc_rest_prots? */
static bool vmc_conn_has(const struct vmc_conn *conn, const struct proto *tables)
{
	return READ_ONCE(conn->sk->sk_prot) == &tables[conn->sk->sk_family == AF_INET6];
}

static void vmc_conn_use(const struct vmc_conn *conn, struct proto *tables)
{
	WRITE_ONCE(conn->sk->sk_prot, &tables[conn->sk->sk_family == AF_INET6]);
}

/* Someone else has, or is about to have, a claim on this socket. */
static bool vmc_sk_is_taken(const struct sock *sk)
{
	if (READ_ONCE(sk->sk_prot) != vmc_base(sk) || sk->sk_kern_sock ||
	    READ_ONCE(sk->sk_user_data) || inet_csk(sk)->icsk_ulp_ops ||
	    sk_is_mptcp(sk) || unlikely(tcp_sk(sk)->repair))
		return true;
#if IS_ENABLED(CONFIG_SMC)
	if (tcp_sk(sk)->syn_smc)
		return true;
#endif
	return false;
}

/* IPv6 on the wire, too: not an IPv4 connection of a socket that listens on ::. */
static bool vmc_sk_is_v6(const struct sock *sk)
{
	return sk->sk_family == AF_INET6 && !ipv6_addr_v4mapped(&sk->sk_v6_daddr);
}

static void vmc_tuple_of(const struct sock *sk, struct vmc_tuple *t)
{
	const struct inet_sock *inet = inet_sk(sk);

	memset(t, 0, sizeof(*t));
	if (vmc_sk_is_v6(sk)) {
		memcpy(t->saddr, &sk->sk_v6_rcv_saddr, 16);
		memcpy(t->daddr, &sk->sk_v6_daddr, 16);
	} else {
		t->saddr[10] = 0xff;
		t->saddr[11] = 0xff;
		t->daddr[10] = 0xff;
		t->daddr[11] = 0xff;
		memcpy(t->saddr + 12, &inet->inet_rcv_saddr, 4);
		memcpy(t->daddr + 12, &inet->inet_daddr, 4);
	}
	t->sport = inet->inet_sport;
	t->dport = inet->inet_dport;
}

/* The MAC that this connection's packets go to, if its next hop is on a link of ours. */
static bool vmc_next_hop(const struct sock *sk, u8 *mac, int *ifindex)
{
	struct neighbour *n;
	struct dst_entry *dst;
	const void *daddr;
	bool ok = false;

	if (vmc_sk_is_v6(sk))
		daddr = &sk->sk_v6_daddr;
	else
		daddr = &inet_sk(sk)->inet_daddr;
	rcu_read_lock();
	dst = rcu_dereference(sk->sk_dst_cache);
	if (!dst || !dst->dev || dst->dev->type != ARPHRD_ETHER ||
	    dst->dev->flags & IFF_LOOPBACK)
		goto out;
	n = dst_neigh_lookup(dst, daddr);
	if (!n)
		goto out;
	if (READ_ONCE(n->nud_state) & NUD_VALID) {
		neigh_ha_snapshot(mac, n, n->dev);
		*ifindex = dst->dev->ifindex;
		ok = true;
	}
	neigh_release(n);
out:
	rcu_read_unlock();
	return ok;
}

/* The socket is locked (or a child that nobody else knows); any context. */
static void vmc_conn_hook(struct sock *sk, enum vmc_role role)
{
	const struct tcp_sock *tp = tcp_sk(sk);
	struct vmc_conn *conn;
	struct vmc_peer *peer;
	u8 mac[MAX_ADDR_LEN];
	int ifindex;

	if (!atomic_read(&vmc_nr_peers) || vmc_sk_is_taken(sk))
		return;
	if (!vmc_next_hop(sk, mac, &ifindex))
		return;
	peer = vmc_peer_by_mac(mac);
	if (!peer) {
		vmc_count(VMC_R_NO_PEER);
		return;
	}
	conn = kzalloc(sizeof(*conn), GFP_ATOMIC | __GFP_NOWARN);
	if (!conn) {
		vmc_peer_put(peer);
		vmc_count(VMC_R_NO_MEMORY);
		return;
	}
	kref_init(&conn->ref);
	mutex_init(&conn->rx_mutex);
	spin_lock_init(&conn->tx_lock);
	INIT_DELAYED_WORK(&conn->leave, vmc_conn_leave_work);
	conn->peer = peer;
	ether_addr_copy(conn->mac, mac);
	conn->ifindex = ifindex;
	conn->sk = sk;
	sock_hold(sk);
	vmc_tuple_of(sk, &conn->tuple);
	conn->iss = tp->snd_una - (u32)tp->bytes_acked;
	conn->irs = tp->rcv_nxt - (u32)tp->bytes_received;
	conn->role = role;
	conn->settle = role == VMC_ROLE_UNKNOWN ? VMC_UNSETTLED : VMC_SETTLED;
	/* a guess: whoever opens has an ephemeral port, and they are high ones */
	conn->offer_opener = role == VMC_ROLE_UNKNOWN ?
			     ntohs(conn->tuple.sport) > ntohs(conn->tuple.dport) :
			     role == VMC_ROLE_OPENER;
	atomic_inc(&vmc_nr_conns);
	atomic64_inc(&vmc_nr_hooked);
	spin_lock_bh(&vmc_conn_lock);
	hash_add_rcu(vmc_by_sk, &conn->by_sk, (unsigned long)sk);
	hash_add_rcu(vmc_by_tuple, &conn->by_tuple, vmc_tuple_hash(&conn->tuple));
	spin_unlock_bh(&vmc_conn_lock);
	vmc_conn_use(conn, vmc_rest_prots);
	/* after a grace period: did a call that began before hand it over? */
	if (role == VMC_ROLE_UNKNOWN)
		queue_delayed_work(vmc_wq, &vmc_settle, VMC_SETTLE_DELAY);
}

static void vmc_probe_state(void *unused, const struct sock *sk, const int from,
			    const int to)
{
	if (to != TCP_ESTABLISHED || (from != TCP_SYN_SENT && from != TCP_SYN_RECV) ||
	    sk->sk_protocol != IPPROTO_TCP || READ_ONCE(vmc_leaving))
		return;
	/* the tracepoint's const is a promise of its own, not of the caller's */
	vmc_conn_hook((struct sock *)sk,
		      from == TCP_SYN_SENT ? VMC_ROLE_OPENER : VMC_ROLE_PASSIVE);
}

/*
 * A connection that rests goes through the driver from now on. True if it did rest:
 * calls that began before are TCP's own, see vmc_conn_is_quiet(). Socket lock.
 */
bool vmc_conn_wake(struct vmc_conn *conn)
{
	if (likely(!vmc_conn_has(conn, vmc_rest_prots)) || conn->detached)
		return false;
	conn->rx_seen = false;
	conn->quiet = false;
	vmc_conn_ops(conn);
	vmc_conn_use(conn, vmc_prots);
	/* a grace period that begins before does not count, nor does who looks for other calls */
	smp_mb();
	WRITE_ONCE(conn->settle, VMC_UNSETTLED);
	return true;
}

/*
 * TCP's own calls again, as long as there is nothing to do for us. Not soon after
 * the peer has offered: it will ask again. Socket lock.
 */
void vmc_conn_rest(struct vmc_conn *conn)
{
	if (vmc_conn_has(conn, vmc_prots) && !conn->detached && !rcu_access_pointer(conn->rx) &&
	    (!conn->rx_offered || time_after(jiffies, conn->rx_offered + HZ)))
		vmc_conn_use(conn, vmc_rest_prots);
}

/*
 * May a file be used without a reference on it, by a task that does more than one
 * thing at a time? io_uring's fixed files are.
 */
static bool vmc_task_has_more_hands(void)
{
#ifdef CONFIG_IO_URING
	if (current->io_uring)
		return true;
#endif
	return current->flags & (PF_KTHREAD | PF_IO_WORKER);
}

/*
 * In a call on a connection that was woken. If the call finds itself alone on the
 * socket, none is left that began before; else a grace period has to pass. Where
 * tasks share descriptors a call holds a reference on the file; else there is one
 * task, which makes one call at a time. Socket lock.
 */
void vmc_conn_settle(struct vmc_conn *conn)
{
	bool shared = current->files && atomic_read(&current->files->count) > 1;
	const struct socket *sock = conn->sk->sk_socket;

	/* the grace period looks for ULPs, too */
	if (!vmc_task_has_more_hands() && !inet_csk(conn->sk)->icsk_ulp_ops && sock &&
	    sock->file && file_count(sock->file) == 1 + shared)
		WRITE_ONCE(conn->settle, VMC_SETTLED);
	else
		queue_delayed_work(vmc_wq, &vmc_settle, VMC_SETTLE_DELAY);
}

/*
 * Is nobody on the way into TCP's own calls, past our tables? Such a task would
 * send behind a boundary, or read what comes after a segment. Before it sleeps it
 * may be between reading the socket's table and asking for the lock (settle),
 * or wait for the lock. Whoever sleeps in TCP is counted there. Socket lock.
 */
bool vmc_conn_is_quiet(struct vmc_conn *conn)
{
	if (likely(conn->quiet))
		return true;
	if (READ_ONCE(conn->settle) != VMC_SETTLED)
		return false;
	/* no barrier: the lock's own spinlock orders its waiters */
	conn->quiet = !waitqueue_active(&conn->sk->sk_lock.wq);
	return conn->quiet;
}

/*
 * The socket's lock for those who can do without: true if it was had in time.
 * lock_sock() with a limit; release_sock() as usual.
 */
bool vmc_conn_lock_soon(struct vmc_conn *conn)
{
	struct sock *sk = conn->sk;
	long left = VMC_LOCK_PATIENCE;
	DEFINE_WAIT(wait);
	bool ours;

	might_sleep();
	spin_lock_bh(&sk->sk_lock.slock);
	while (sock_owned_by_user_nocheck(sk) && left) {
		prepare_to_wait_exclusive(&sk->sk_lock.wq, &wait, TASK_UNINTERRUPTIBLE);
		spin_unlock_bh(&sk->sk_lock.slock);
		left = schedule_timeout(left);
		spin_lock_bh(&sk->sk_lock.slock);
	}
	finish_wait(&sk->sk_lock.wq, &wait);
	ours = !sock_owned_by_user_nocheck(sk);
	if (ours)
		sk->sk_lock.owned = 1;
	spin_unlock_bh(&sk->sk_lock.slock);
	if (ours)
		mutex_acquire(&sk->sk_lock.dep_map, 0, 1, _RET_IP_);
	return ours;
}

/*
 * A ULP came by a call that had begun before the scan took the socket, so the
 * socket was not let go first. Its tables are derived from ours: they have to stay.
 */
static void vmc_conn_check_ulp(const struct vmc_conn *conn)
{
	static atomic_t staying;

	if (likely(!READ_ONCE(inet_csk(conn->sk)->icsk_ulp_ops)))
		return;
	smp_rmb();	/* in its proper turn it comes when we have let go */
	if (!READ_ONCE(conn->detached) && !atomic_xchg(&staying, 1)) {
		pr_warn("vmc: kTLS was built on the driver's tables; it can't be unloaded any more\n");
		__module_get(THIS_MODULE);
	}
}

/* ------------------------------------- connections that were there before */

#define VMC_SCAN_DELAY	(HZ / 20)	/* so that peers named together need one scan */
#define VMC_SCAN_AGAIN	HZ
#define VMC_SCAN_BATCH	64
#define VMC_SCAN_STATES	(TCPF_ESTABLISHED | TCPF_FIN_WAIT1 | TCPF_FIN_WAIT2 | TCPF_CLOSE_WAIT)

static bool vmc_scan_wants(const struct sock *sk)
{
	return sk_fullsock(sk) && (1 << inet_sk_state_load(sk)) & VMC_SCAN_STATES &&
	       sk->sk_protocol == IPPROTO_TCP && !sock_flag(sk, SOCK_DEAD) &&
	       !vmc_sk_is_taken(sk);
}

/* False if a task holds the socket's lock, or may be about to take the socket away. */
static bool vmc_scan_hook(struct sock *sk)
{
	bool done;

	local_bh_disable();
	bh_lock_sock(sk);
	/* the lock orders this after vmc_conn_give() */
	done = !sock_owned_by_user(sk) && !atomic_read(&vmc_nr_given);
	if (done && vmc_scan_wants(sk))
		vmc_conn_hook(sk, VMC_ROLE_UNKNOWN);
	bh_unlock_sock(sk);
	local_bh_enable();
	return done;
}

/* Those of one bucket, up to a batch of them, the first @skip left out; counted. */
static unsigned int vmc_scan_bucket(struct inet_ehash_bucket *bucket, unsigned int skip,
				    struct sock **batch)
{
	struct hlist_nulls_node *node;
	unsigned int n = 0;
	struct sock *sk;

	rcu_read_lock();
	sk_nulls_for_each_rcu(sk, node, &bucket->chain) {
		if (!vmc_scan_wants(sk) || (skip && skip--))
			continue;
		if (!refcount_inc_not_zero(&sk->sk_refcnt))
			continue;
		batch[n++] = sk;
		if (n == VMC_SCAN_BATCH)
			break;
	}
	rcu_read_unlock();
	return n;
}

/* Returns how many could not be looked at because they are busy. */
static unsigned int vmc_scan_table(struct inet_hashinfo *table)
{
	struct sock *batch[VMC_SCAN_BATCH];
	unsigned int slot, n, i, skip, busy = 0;

	for (slot = 0; slot <= table->ehash_mask; slot++) {
		skip = 0;
		do {
			n = vmc_scan_bucket(&table->ehash[slot], skip, batch);
			for (i = 0; i < n; i++) {
				busy += !vmc_scan_hook(batch[i]);
				/* what was not taken is met again */
				skip += READ_ONCE(batch[i]->sk_prot) == vmc_base(batch[i]);
				sock_put(batch[i]);
			}
		} while (n == VMC_SCAN_BATCH);
		cond_resched();
	}
	return busy;
}

static void vmc_settle_begin(struct vmc_conn *conn, void *any)
{
	if (cmpxchg(&conn->settle, VMC_UNSETTLED, VMC_SETTLING) != VMC_SETTLED)
		*(bool *)any = true;
}

static void vmc_settle_end(struct vmc_conn *conn, void *unused)
{
	if (READ_ONCE(conn->settle) == VMC_SETTLED)
		return;
	vmc_conn_check_ulp(conn);
	/* not if it rested and was woken again meanwhile */
	cmpxchg(&conn->settle, VMC_SETTLING, VMC_SETTLED);
}

/* Waits for tasks between loading TCP's own pointer and asking for the lock. */
static void vmc_settle_work(struct work_struct *work)
{
	bool any = false;

	vmc_conn_for_each(vmc_settle_begin, &any);
	if (any) {
		synchronize_rcu_tasks();
		vmc_conn_for_each(vmc_settle_end, NULL);
	}
}

static void vmc_scan_work(struct work_struct *work)
{
	struct inet_hashinfo *table, *common;
	unsigned int busy;
	struct net *net;

	if (!atomic_read(&vmc_nr_peers) || READ_ONCE(vmc_leaving))
		return;
	common = init_net.ipv4.tcp_death_row.hashinfo;
	busy = vmc_scan_table(common);
	down_read(&net_rwsem);
	for_each_net(net) {
		table = net->ipv4.tcp_death_row.hashinfo;
		if (table != common)
			busy += vmc_scan_table(table);
	}
	up_read(&net_rwsem);
	if (busy && !READ_ONCE(vmc_leaving))
		queue_delayed_work(vmc_wq, to_delayed_work(work), VMC_SCAN_AGAIN);
}

static DECLARE_DELAYED_WORK(vmc_scan, vmc_scan_work);

/* Looks for connections to peers that are not watched yet. Any context. */
void vmc_conn_scan(void)
{
	if (!READ_ONCE(vmc_leaving))
		queue_delayed_work(vmc_wq, &vmc_scan, VMC_SCAN_DELAY);
}

static u32 vmc_hurry_rto(const struct tcp_sock *tp)
{
	return tp->srtt_us ? clamp_t(u32, __tcp_set_rto(tp), TCP_RTO_MIN, TCP_RTO_MAX) :
			     TCP_TIMEOUT_INIT;
}

/* Bottom halves are off. */
static void vmc_hurry_one(struct vmc_conn *conn, void *again)
{
	struct inet_connection_sock *icsk = inet_csk(conn->sk);
	struct sock *sk = conn->sk;
	struct vmc_peer *peer;
	bool here;

	if (!READ_ONCE(icsk->icsk_backoff))
		return;
	peer = vmc_peer_by_mac(conn->mac);
	here = peer && rcu_access_pointer(peer->chan);
	vmc_peer_put(peer);
	if (!here)
		return;
	*(bool *)again = true;
	bh_lock_sock(sk);
	if (!sock_owned_by_user(sk) && icsk->icsk_backoff &&
	    (icsk->icsk_pending == ICSK_TIME_RETRANS || icsk->icsk_pending == ICSK_TIME_PROBE0) &&
	    time_after(icsk->icsk_timeout, jiffies + HZ / 5)) {
		/* TCP gives up after so many probes, not after a time: these are extra. */
		if (icsk->icsk_probes_out)
			icsk->icsk_probes_out--;
		/* nor does it wait the longer after them, as with RFC 6069's proof of a way */
		icsk->icsk_backoff = 0;
		icsk->icsk_rto = vmc_hurry_rto(tcp_sk(sk));
		inet_csk_reset_xmit_timer(sk, icsk->icsk_pending, 1, TCP_RTO_MAX);
	}
	bh_unlock_sock(sk);
}

/*
 * TCP may have backed off to minutes while one of the two was away. With a new
 * channel both are here: until somebody acknowledges, TCP sends again every second,
 * a few times; after that it is something else that keeps them apart.
 */
#define VMC_HURRIES	10

static void vmc_hurry_work(struct work_struct *work);
static DECLARE_DELAYED_WORK(vmc_hurry, vmc_hurry_work);
static atomic_t vmc_hurries;

static void vmc_hurry_work(struct work_struct *work)
{
	bool again = false;

	local_bh_disable();
	vmc_conn_for_each(vmc_hurry_one, &again);
	local_bh_enable();
	if (again && atomic_dec_if_positive(&vmc_hurries) > 0 && !READ_ONCE(vmc_leaving))
		queue_delayed_work(vmc_wq, &vmc_hurry, HZ);
}

/* There is a channel. Any context. */
void vmc_conn_hurry(void)
{
	atomic_set(&vmc_hurries, VMC_HURRIES);
	if (!READ_ONCE(vmc_leaving))
		queue_delayed_work(vmc_wq, &vmc_hurry, HZ / 10);
}

/* The way to a peer became known: of an idle connection it may not have been. */
static int vmc_neigh_event(struct notifier_block *nb, unsigned long event, void *arg)
{
	struct neighbour *n = arg;
	struct vmc_peer *peer;
	u8 mac[MAX_ADDR_LEN];

	if (event != NETEVENT_NEIGH_UPDATE || !atomic_read(&vmc_nr_peers) ||
	    !(READ_ONCE(n->nud_state) & NUD_VALID) || n->dev->type != ARPHRD_ETHER)
		return NOTIFY_DONE;
	neigh_ha_snapshot(mac, n, n->dev);
	peer = vmc_peer_by_mac(mac);
	if (peer) {
		vmc_conn_scan();
		vmc_peer_put(peer);
	}
	return NOTIFY_DONE;
}

static struct notifier_block vmc_neigh_nb = { .notifier_call = vmc_neigh_event };

/*
 * Our operations table on the socket too (splice reads it without asking
 * sk_prot). False while the socket has not been accepted. Socket lock.
 */
bool vmc_conn_ops(struct vmc_conn *conn)
{
	struct socket *sock = conn->sk->sk_socket;
	const struct proto_ops *ops;

	if (!sock || conn->detached)
		return false;
	ops = vmc_ops_for(sock->ops);
	if (!ops)
		return false;
	WRITE_ONCE(sock->ops, ops);
	return true;
}

/*
 * Whoever waits has to look again, but there may be nothing to read: without a
 * word of what there is, since io_uring's poll takes the waker's word for it.
 */
void vmc_conn_look(const struct vmc_conn *conn)
{
	struct socket_wq *wq;

	rcu_read_lock();
	wq = rcu_dereference(conn->sk->sk_wq);
	if (skwq_has_sleeper(wq))
		wake_up_interruptible_poll(&wq->wait, 0);
	rcu_read_unlock();
}

/*
 * The socket becomes an ordinary one again. The writer's side has ended, the
 * reader's ring (if any) is closed. Socket lock, or nobody else has the socket;
 * any context.
 */
void vmc_conn_detach(struct vmc_conn *conn)
{
	struct sock *sk = conn->sk;

	vmc_conn_check_ulp(conn);
	spin_lock_bh(&vmc_conn_lock);
	if (conn->detached) {
		spin_unlock_bh(&vmc_conn_lock);
		return;
	}
	WRITE_ONCE(conn->detached, true);
	hash_del_rcu(&conn->by_sk);
	hash_del_rcu(&conn->by_tuple);
	spin_unlock_bh(&vmc_conn_lock);

	if (vmc_conn_has(conn, vmc_prots) || vmc_conn_has(conn, vmc_rest_prots))
		WRITE_ONCE(sk->sk_prot, vmc_base(sk));
	if (sk->sk_socket)
		WRITE_ONCE(sk->sk_socket->ops, vmc_ops_base(sk->sk_socket->ops));
	/* whoever waits in our code goes on in TCP's */
	if (tcp_sk(sk)->rcv_nxt != tcp_sk(sk)->copied_seq)
		sk->sk_data_ready(sk);
	else
		vmc_conn_look(conn);
	sk->sk_write_space(sk);
	vmc_conn_put(conn);
}

/* ------------------------------------------------------------ letting go */

/* The writer's side ends for good; the reason is counted once. Socket lock. */
static void vmc_conn_stop_tx(struct vmc_conn *conn, enum vmc_reason why)
{
	if (!conn->leaving && !rcu_access_pointer(conn->tx) && why != VMC_R_UNLOAD)
		vmc_fallback(conn, why);	/* or the end of the ring counts it */
	conn->leaving = true;
	conn->tx_never = true;
	vmc_tx_end(conn, why);
}

/*
 * Both directions back to TCP, unread bytes into TCP's own queue, the socket
 * ours no more. Process context, no locks held. -EAGAIN: bytes that TCP
 * carries from before the ring are still on their way; -ENOMEM.
 */
int vmc_conn_let_go(struct vmc_conn *conn, enum vmc_reason why)
{
	struct sock *sk = conn->sk;
	int err = 0;

	if (!READ_ONCE(sk->sk_socket)) {
		/* not accepted yet (or closed): no ring, and its lock is the listener's */
		local_bh_disable();
		bh_lock_sock(sk);
		if (sock_owned_by_user(sk))
			err = -EAGAIN;
		else
			vmc_conn_detach(conn);
		bh_unlock_sock(sk);
		local_bh_enable();
		return err;
	}
	mutex_lock(&conn->rx_mutex);
	lock_sock(sk);
	if (!conn->detached) {
		vmc_conn_stop_tx(conn, why);
		err = vmc_rx_to_tcp(conn, GFP_KERNEL);
		if (!err)
			vmc_conn_detach(conn);
	}
	release_sock(sk);
	mutex_unlock(&conn->rx_mutex);
	return err;
}

/*
 * As vmc_conn_let_go(), with the socket locked and without sleeping. -EAGAIN if
 * that can't be done here; it is done soon then.
 */
int vmc_conn_let_go_now(struct vmc_conn *conn, enum vmc_reason why)
{
	bool ring = rcu_access_pointer(conn->rx);
	int err = 0;

	if (conn->detached)
		return 0;
	/* a softirq must not try a mutex; and a task may hold the lock all the same */
	if (in_softirq() && (ring || sock_owned_by_user_nocheck(conn->sk)))
		goto later;
	if (ring && !mutex_trylock(&conn->rx_mutex))
		goto later;
	vmc_conn_stop_tx(conn, why);
	if (ring) {
		err = vmc_rx_to_tcp(conn, GFP_ATOMIC);
		mutex_unlock(&conn->rx_mutex);
	}
	if (err)
		goto later;
	vmc_conn_detach(conn);
	return 0;

later:
	vmc_conn_leave(conn, why);
	return -EAGAIN;
}

static void vmc_conn_leave_work(struct work_struct *work)
{
	struct vmc_conn *conn = container_of(to_delayed_work(work), struct vmc_conn, leave);

	if (READ_ONCE(conn->detached) || !vmc_conn_let_go(conn, READ_ONCE(conn->leave_why)) ||
	    !queue_delayed_work(vmc_wq, &conn->leave, HZ / 50))
		vmc_conn_put(conn);
}

/* The socket is let go by a task, soon. Any context; inside RCU or with a reference. */
void vmc_conn_leave(struct vmc_conn *conn, enum vmc_reason why)
{
	if (READ_ONCE(conn->detached) || !kref_get_unless_zero(&conn->ref))
		return;
	WRITE_ONCE(conn->leave_why, why);
	if (!queue_delayed_work(vmc_wq, &conn->leave, 0))
		vmc_conn_put(conn);
}

/*
 * Someone else wants the socket: lets it go, and waits for that. It is not taken
 * again before vmc_conn_given(). Process context, no locks held.
 */
int vmc_conn_give(struct vmc_conn *conn, enum vmc_reason why)
{
	int err;

	atomic_inc(&vmc_nr_given);
	while ((err = vmc_conn_let_go(conn, why)) == -EAGAIN) {
		if (signal_pending(current))
			return -ERESTARTNOINTR;	/* nothing was done yet that could be seen */
		schedule_timeout_interruptible(1);
	}
	return err;
}

void vmc_conn_given(struct vmc_conn *conn)
{
	atomic_dec(&vmc_nr_given);
	vmc_conn_put(conn);
}

/*
 * News from the peer for this socket. Someone in the kernel may have made himself
 * its user meanwhile; his functions count on the socket's lock, and on TCP's queue.
 * Any context; inside RCU or with a reference.
 */
void vmc_conn_data_ready(struct vmc_conn *conn)
{
	void (*data_ready)(struct sock *sk) = READ_ONCE(conn->sk->sk_data_ready);

	smp_rmb();	/* sk_user_data is set before the function is replaced */
	if (unlikely(READ_ONCE(conn->sk->sk_user_data))) {
		vmc_conn_leave(conn, VMC_R_FOREIGN_USER);
		return;
	}
	if (unlikely(rcu_access_pointer(conn->sk->sk_filter)))
		vmc_rx_close(conn);	/* what comes from now on, it has to see */
	if (vmc_rx_has(conn))
		data_ready(conn->sk);
	else
		vmc_conn_look(conn);
}

void vmc_conn_write_space(struct vmc_conn *conn)
{
	void (*write_space)(struct sock *sk) = READ_ONCE(conn->sk->sk_write_space);

	smp_rmb();	/* as above */
	if (unlikely(READ_ONCE(conn->sk->sk_user_data)))
		vmc_conn_leave(conn, VMC_R_FOREIGN_USER);
	else
		write_space(conn->sk);
}

/* ------------------------------------------------------- the way is gone */

/*
 * Without us a connection would find out now that nothing goes this way any more:
 * it is let go, and finds out. Once it may be local again a scan takes it again.
 */
struct vmc_way {
	const struct net *net;
	const u8 *addr;
	int ifindex;
};

static void vmc_way_from(struct vmc_conn *conn, void *arg)
{
	const struct vmc_way *way = arg;

	if (net_eq(sock_net(conn->sk), way->net) &&
	    !memcmp(conn->tuple.saddr, way->addr, sizeof(conn->tuple.saddr)))
		vmc_conn_leave(conn, VMC_R_NO_PEER);
}

static void vmc_way_through(struct vmc_conn *conn, void *arg)
{
	const struct vmc_way *way = arg;

	if (net_eq(sock_net(conn->sk), way->net) && conn->ifindex == way->ifindex)
		vmc_conn_leave(conn, VMC_R_NO_PEER);
}

static void vmc_way_to(struct vmc_conn *conn, void *arg)
{
	if (vmc_peer_has_mac(arg, conn->mac) && !vmc_peer_find(conn->mac))
		vmc_conn_leave(conn, VMC_R_NO_PEER);
}

/* The peer was named anew, perhaps with fewer MACs. */
void vmc_conn_part(struct vmc_peer *old)
{
	vmc_conn_for_each(vmc_way_to, old);
}

static int vmc_addr_event(struct notifier_block *nb, unsigned long event, void *arg)
{
	const struct in_ifaddr *ifa = arg;
	u8 addr[16] = { [10] = 0xff, [11] = 0xff };
	struct vmc_way way = { .net = dev_net(ifa->ifa_dev->dev), .addr = addr };

	if (event == NETDEV_DOWN) {
		memcpy(addr + 12, &ifa->ifa_local, sizeof(ifa->ifa_local));
		vmc_conn_for_each(vmc_way_from, &way);
	}
	return NOTIFY_DONE;
}

static int vmc_addr6_event(struct notifier_block *nb, unsigned long event, void *arg)
{
	const struct inet6_ifaddr *ifa = arg;
	struct vmc_way way = { .net = dev_net(ifa->idev->dev), .addr = ifa->addr.s6_addr };

	if (event == NETDEV_DOWN)
		vmc_conn_for_each(vmc_way_from, &way);
	return NOTIFY_DONE;
}

static int vmc_dev_event(struct notifier_block *nb, unsigned long event, void *arg)
{
	const struct net_device *dev = netdev_notifier_info_to_dev(arg);
	struct vmc_way way = { .net = dev_net(dev), .ifindex = dev->ifindex };

	/* it also comes, for every device, when we unregister */
	if (event == NETDEV_DOWN && !READ_ONCE(vmc_leaving))
		vmc_conn_for_each(vmc_way_through, &way);
	return NOTIFY_DONE;
}

static struct notifier_block vmc_addr_nb = { .notifier_call = vmc_addr_event };
static struct notifier_block vmc_addr6_nb = { .notifier_call = vmc_addr6_event };
static struct notifier_block vmc_dev_nb = { .notifier_call = vmc_dev_event };

/* ------------------------------------------------------ init and exit */

static void vmc_find_tp(struct tracepoint *tp, void *unused)
{
	if (!strcmp(tp->name, "inet_sock_set_state"))
		vmc_state_tp = tp;
}

int vmc_conn_init(void)
{
	int err;

	for_each_kernel_tracepoint(vmc_find_tp, NULL);
	if (!vmc_state_tp) {
		pr_err("vmc: this kernel has no tracepoint inet_sock_set_state\n");
		return -ENOENT;
	}
	err = register_netdevice_notifier(&vmc_dev_nb);
	if (err)
		return err;
	err = tracepoint_probe_register(vmc_state_tp, vmc_probe_state, NULL);
	if (err) {
		unregister_netdevice_notifier(&vmc_dev_nb);
		return err;
	}
	register_inetaddr_notifier(&vmc_addr_nb);
	register_inet6addr_notifier(&vmc_addr6_nb);
	register_netevent_notifier(&vmc_neigh_nb);
	return 0;
}

/* For good: the driver is leaving. */
void vmc_conn_stop_scan(void)
{
	cancel_delayed_work_sync(&vmc_scan);
	cancel_delayed_work_sync(&vmc_hurry);
	cancel_delayed_work_sync(&vmc_settle);
}

/* Any watched socket but the first @skip. */
static struct vmc_conn *vmc_conn_any(unsigned int skip)
{
	struct vmc_conn *conn;
	unsigned int bucket;

	rcu_read_lock();
	hash_for_each_rcu(vmc_by_sk, bucket, conn, by_sk)
		if (skip) {
			skip--;
		} else if (kref_get_unless_zero(&conn->ref)) {
			rcu_read_unlock();
			return conn;
		}
	rcu_read_unlock();
	return NULL;
}

/*
 * Lets go of every socket. Afterwards no new one is taken, no call is inside
 * our code, none is about to enter it, and nothing of ours is allocated for
 * sockets.
 */
void vmc_conn_exit(void)
{
	unsigned long told = jiffies, patience = jiffies + 10 * HZ;
	struct vmc_conn *conn;
	unsigned int stuck = 0;

	unregister_netevent_notifier(&vmc_neigh_nb);
	unregister_inet6addr_notifier(&vmc_addr6_nb);
	unregister_inetaddr_notifier(&vmc_addr_nb);
	unregister_netdevice_notifier(&vmc_dev_nb);
	tracepoint_probe_unregister(vmc_state_tp, vmc_probe_state, NULL);
	tracepoint_synchronize_unregister();
	vmc_conn_stop_scan();
	while ((conn = vmc_conn_any(stuck)) || stuck) {
		if (!conn) {
			schedule_timeout_uninterruptible(HZ / 50);
			stuck = 0;
			continue;
		}
		if (vmc_conn_let_go(conn, VMC_R_UNLOAD)) {
			stuck++;
			/* what comes before the ring's bytes never arrived: as if TCP timed out */
			if (time_after(jiffies, patience))
				tcp_abort(conn->sk, ETIMEDOUT);
		}
		vmc_conn_put(conn);
	}
	while (atomic_read(&vmc_nr_conns)) {
		if (time_after(jiffies, told + 10 * HZ)) {
			pr_info("vmc: waiting for %d calls on sockets to finish\n",
				atomic_read(&vmc_nr_conns));
			told = jiffies;
		}
		rcu_barrier();
		schedule_timeout_uninterruptible(HZ / 50);
	}
	/* tasks between loading one of our pointers and entering, or before leaving */
	synchronize_rcu_tasks();
	rcu_barrier();
}
