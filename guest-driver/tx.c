// SPDX-License-Identifier: GPL-2.0-only
/*
 * The writer's side of a connection: earning a ring, offering, writing into
 * it, going back to TCP. All of it under the socket lock, except that the channel
 * takes a ring away without (vmc_tx_drop).
 */
#include <linux/random.h>
#include <linux/xarray.h>
#include <crypto/algapi.h>

#include "poll.h"
#include "trace.h"
#include "vmc.h"

#define VMC_TX_CHUNK	(64u << 10)	/* published at once, so that the reader can start */
#define VMC_TX_REFUSALS	8		/* temporary ones, before we stop asking */

/* Offers that wait for an answer: id to connection (counted). */
static DEFINE_XARRAY_FLAGS(vmc_offers, XA_FLAGS_ALLOC1 | XA_FLAGS_LOCK_BH);
static u32 vmc_offers_next;		/* ids are reused late: an answer may be, too */

struct vmc_offer {
	struct vmc_conn *conn;
	struct vmc_chan *chan;
};

/* ------------------------------------------------------------- offering */

/* The channel for this connection's peer; asks for one if there is none. Inside RCU. */
static struct vmc_chan *vmc_tx_channel(struct vmc_conn *conn)
{
	struct vmc_peer *peer = conn->peer;

	if (unlikely(READ_ONCE(peer->gone))) {
		peer = vmc_peer_by_mac(conn->mac);
		if (!peer)
			return NULL;
		vmc_peer_put(conn->peer);
		conn->peer = peer;
	}
	return vmc_peer_chan(peer);
}

static void vmc_offer_free(struct vmc_offer *offer)
{
	vmc_conn_put(offer->conn);
	vmc_chan_put(offer->chan);
	kfree(offer);
}

/* The offer is open no more; an answer to it will find nobody. Socket lock; any context. */
static void vmc_tx_withdraw(struct vmc_conn *conn)
{
	struct vmc_offer *offer;

	xa_lock_bh(&vmc_offers);
	offer = xa_load(&vmc_offers, conn->offer_id);
	if (offer && offer->conn == conn)
		__xa_erase(&vmc_offers, conn->offer_id);
	else
		offer = NULL;
	xa_unlock_bh(&vmc_offers);
	conn->offer_id = 0;
	WRITE_ONCE(conn->tx_state, VMC_TX_TCP);
	if (offer)
		vmc_offer_free(offer);
}

/* The ring that suits what the connection has sent so far. */
static u32 vmc_tx_want(const struct vmc_conn *conn)
{
	u32 most = vmc_ring_most();

	return conn->bulk ? most : min(most, READ_ONCE(vmc_first_ring_kb) << 10);
}

static void vmc_tx_start_over(struct vmc_conn *conn)
{
	WRITE_ONCE(conn->tx_state, VMC_TX_TCP);
	conn->tx_calls = 0;
	conn->tx_tcp_bytes = 0;
}

static void vmc_tx_offer(struct vmc_conn *conn)
{
	struct vmc_c_offer m = {
		.h = { VMC_C_OFFER, sizeof(m), 0 },
		.tuple = conn->tuple,
		.want_bytes = vmc_tx_want(conn),
	};
	u8 role = READ_ONCE(conn->role);
	struct vmc_offer *offer;
	struct vmc_chan *ch;

	rcu_read_lock();
	ch = vmc_tx_channel(conn);
	if (ch && !kref_get_unless_zero(&ch->ref))
		ch = NULL;
	rcu_read_unlock();
	if (!ch) {
		vmc_fallback(conn, VMC_R_NO_CHANNEL);
		vmc_tx_start_over(conn);
		vmc_conn_rest(conn);
		return;
	}
	if (vmc_conn_wake(conn))
		vmc_conn_settle(conn);
	offer = kmalloc(sizeof(*offer), GFP_KERNEL);
	if (!offer)
		goto no_memory;
	offer->conn = conn;
	offer->chan = ch;
	if (xa_alloc_cyclic_bh(&vmc_offers, &conn->offer_id, offer, xa_limit_31b,
			       &vmc_offers_next, GFP_KERNEL) < 0) {
		kfree(offer);
		goto no_memory;
	}
	kref_get(&conn->ref);
	conn->tx_asked = m.want_bytes;
	get_random_bytes(conn->nonce, sizeof(conn->nonce));
	memcpy(m.nonce, conn->nonce, sizeof(m.nonce));
	m.h.id = conn->offer_id;
	if (role != VMC_ROLE_UNKNOWN)
		conn->offer_opener = role == VMC_ROLE_OPENER;
	vmc_proof(conn, 1, true, conn->offer_opener, m.h.id, 0, m.nonce, m.proof);
	WRITE_ONCE(conn->tx_state, VMC_TX_OFFERED);
	smp_mb();	/* pairs with the end of a channel: dead, then it forgets its offers */
	if (READ_ONCE(ch->dead))
		vmc_tx_withdraw(conn);
	else
		vmc_chan_send(ch, &m.h);
	return;

no_memory:
	vmc_fallback(conn, VMC_R_NO_MEMORY);
	vmc_chan_put(ch);
}

/*
 * The channel could not wait for the socket's lock, so the connection has to
 * find out by itself that its offer is open no more. Any context.
 */
static void vmc_tx_lose(struct vmc_offer *offer, u32 id, enum vmc_reason why)
{
	WRITE_ONCE(offer->conn->offer_lost, id);
	vmc_fallback(offer->conn, why);
	vmc_offer_free(offer);
}

/* Counts what TCP carries. True if that has earned a ring. Without a lock. */
static bool vmc_tx_earned(struct vmc_conn *conn, size_t size)
{
	WRITE_ONCE(conn->tx_calls, conn->tx_calls + 1);
	WRITE_ONCE(conn->tx_tcp_bytes, conn->tx_tcp_bytes + size);
	if (size >= READ_ONCE(vmc_first_ring_kb) << 9)	/* half of it */
		WRITE_ONCE(conn->bulk, true);
	return conn->tx_calls >= vmc_min_calls || conn->tx_tcp_bytes >= vmc_min_bytes;
}

/*
 * A send on a connection that rests: has it to come through the driver? Without
 * a lock.
 */
bool vmc_tx_rouses(const struct sock *sk, int flags, size_t size)
{
	struct vmc_conn *conn;
	bool rouses;

	rcu_read_lock();
	conn = vmc_conn_peek(sk);
	rouses = conn && !READ_ONCE(conn->tx_never) && vmc_tx_earned(conn, size);
	rcu_read_unlock();
	return rouses || unlikely(flags & MSG_OOB || READ_ONCE(sk->sk_user_data));
}

/* Offers when what TCP carries has earned a ring. Socket lock, in a call of a sender's. */
void vmc_tx_earn(struct vmc_conn *conn, size_t size)
{
	bool earned = vmc_tx_earned(conn, size);

	if (conn->tx_state == VMC_TX_OFFERED &&
	    unlikely(READ_ONCE(conn->offer_lost) == conn->offer_id))
		vmc_tx_start_over(conn);
	if (conn->tx_state != VMC_TX_TCP)
		return;
	if (conn->tx_never)
		vmc_conn_rest(conn);
	else if (earned && !inet_csk(conn->sk)->icsk_ulp_ops &&
		 (conn->sk->sk_state == TCP_ESTABLISHED || conn->sk->sk_state == TCP_CLOSE_WAIT))
		vmc_tx_offer(conn);
}

/* Takes an open offer out, if it is one of this channel's. */
static struct vmc_offer *vmc_offer_take(struct vmc_chan *ch, u32 id)
{
	struct vmc_offer *offer;

	xa_lock_bh(&vmc_offers);
	offer = xa_load(&vmc_offers, id);
	if (offer && offer->chan == ch)
		__xa_erase(&vmc_offers, id);
	else
		offer = NULL;
	xa_unlock_bh(&vmc_offers);
	return offer;
}

/* The proof failed: was it made in a role that we are not, or may not be, in? */
static bool vmc_tx_other_role(struct vmc_conn *conn)
{
	u8 role = READ_ONCE(conn->role);

	if (role != VMC_ROLE_UNKNOWN)	/* the peer's own offer may have told us meanwhile */
		return conn->offer_opener != (role == VMC_ROLE_OPENER);
	if (conn->offer_guessed)
		return false;
	conn->offer_guessed = true;
	conn->offer_opener = !conn->offer_opener;
	return true;
}

/* Back to TCP without having been local; asks again later unless @why is final. */
static void vmc_tx_refused(struct vmc_conn *conn, u32 offer_id, enum vmc_reason why)
{
	vmc_fallback(conn, why);
	if (conn->tx_state != VMC_TX_OFFERED || conn->offer_id != offer_id)
		return;
	vmc_tx_start_over(conn);
	if (why == VMC_R_NOT_READY) {
		/* a reader that rested is ready after its next call; else less and less often */
		u32 calls = 1u << conn->tx_not_ready, most = READ_ONCE(vmc_min_calls);

		if (calls < most) {
			conn->tx_calls = most - calls;
			conn->tx_not_ready = min(conn->tx_not_ready + 1, 30);
		}
		return;
	}
	if (why == VMC_R_PROOF && vmc_tx_other_role(conn))
		return;
	if (why == VMC_R_PROOF || why == VMC_R_FOREIGN_USER || why == VMC_R_SOCKOPT ||
	    ++conn->tx_refusals >= VMC_TX_REFUSALS)
		conn->tx_never = true;
}

void vmc_tx_reject(struct vmc_chan *ch, const struct vmc_c_reject *m)
{
	struct vmc_offer *offer = vmc_offer_take(ch, m->h.id);

	if (!offer)
		return;		/* withdrawn meanwhile */
	if (!vmc_conn_lock_soon(offer->conn)) {
		vmc_tx_lose(offer, m->h.id, VMC_R_NOT_READY);
		return;
	}
	vmc_tx_refused(offer->conn, m->h.id, m->reason < VMC_R_MAX ? m->reason : VMC_R_PROTOCOL);
	release_sock(offer->conn->sk);
	vmc_offer_free(offer);
}

/* A ring that was given to us goes back as it came. */
static void vmc_tx_return(struct vmc_txring *t)
{
	if (t->mapped)
		vmc_ring_prod_close(&t->prod);
	vmc_pool_tx_done(t);
}

/* chan->mutex held */
void vmc_tx_accept(struct vmc_chan *ch, const struct vmc_c_accept *m)
{
	struct vmc_offer *offer = vmc_offer_take(ch, m->h.id);
	enum vmc_reason why = VMC_R_NONE;
	struct vmc_txring *t;
	struct vmc_conn *conn;
	u8 proof[VMC_PROOF_LEN];

	t = vmc_pool_tx_free(ch, m->ring_id);
	if (!t) {
		vmc_chan_broken(ch, "ACCEPT with an unusable ring");
		if (offer)
			vmc_offer_free(offer);
		return;
	}
	if (!offer) {		/* withdrawn meanwhile: the ring goes back unused */
		vmc_pool_tx_done(t);
		return;
	}
	conn = offer->conn;
	if (vmc_pool_tx_map(t))
		why = VMC_R_MAP;
	vmc_jitter();

	if (!vmc_conn_lock_soon(conn)) {
		vmc_tx_return(t);
		vmc_tx_lose(offer, m->h.id, VMC_R_NOT_READY);
		return;
	}
	vmc_proof(conn, 2, false, conn->offer_opener, m->h.id, m->ring_id, conn->nonce, proof);
	if (!why && crypto_memneq(proof, m->proof, sizeof(proof)))
		why = VMC_R_PROOF;
	if (!why && (conn->detached || conn->tx_never || conn->tx_state != VMC_TX_OFFERED ||
		     conn->offer_id != m->h.id))
		why = VMC_R_SHUTDOWN;
	if (why) {
		vmc_tx_refused(conn, m->h.id, why);
		vmc_tx_return(t);
	} else {
		WRITE_ONCE(conn->role, conn->offer_opener ? VMC_ROLE_OPENER : VMC_ROLE_PASSIVE);
		conn->tx_not_ready = 0;
		vmc_pool_tx_start(t, conn);
		conn->tx_less = t->prod.size < conn->tx_asked;
		spin_lock_bh(&conn->tx_lock);
		rcu_assign_pointer(conn->tx, t);
		WRITE_ONCE(conn->tx_state, VMC_TX_READY);
		spin_unlock_bh(&conn->tx_lock);
	}
	release_sock(conn->sk);
	vmc_offer_free(offer);
}

/* The channel ends: its open offers will not be answered. */
void vmc_tx_forget_offers(struct vmc_chan *ch)
{
	struct vmc_offer *offer;
	unsigned long id;

	xa_for_each(&vmc_offers, id, offer) {
		/* another channel's may be gone by now */
		offer = vmc_offer_take(ch, id);
		if (offer)
			vmc_tx_lose(offer, id, VMC_R_PEER_GONE);
	}
}

/* --------------------------------------------------------------- writing */

/* The ring that the connection writes, if any. tx_lock. */
static struct vmc_txring *vmc_tx_ring(struct vmc_conn *conn)
{
	return rcu_dereference_protected(conn->tx, lockdep_is_held(&conn->tx_lock));
}

/*
 * Opens the segment if nobody is inside TCP's own send path: such a writer
 * (asleep there, it would hold the socket lock otherwise) would go on behind
 * the boundary.
 */
static bool vmc_tx_open(struct vmc_conn *conn)
{
	struct sock *sk = conn->sk;
	struct tcp_sock *tp = tcp_sk(sk);
	struct vmc_txring *t;

	if (sk->sk_write_pending || !vmc_conn_is_quiet(conn) || unlikely(tp->repair))
		return false;
	/*
	 * A corked tail (TCP_CORK, MSG_MORE) would reach the reader only when the
	 * cork is pulled or a timer fires. This send goes over TCP and pushes it.
	 */
	if (tp->write_seq != tp->snd_nxt &&
	    (tp->nonagle & TCP_NAGLE_CORK || !tp->packets_out))
		return false;
	spin_lock_bh(&conn->tx_lock);
	t = vmc_tx_ring(conn);
	if (t) {
		WRITE_ONCE(conn->tx_boundary, tp->write_seq);
		vmc_store(&t->prod.hdr->boundary, tp->write_seq);
		WRITE_ONCE(conn->tx_state, VMC_TX_LOCAL);
		trace_vmc_local(&conn->tuple, t->chan->domid, t->id, t->prod.size);
		atomic_inc(&t->chan->tx_streams);
		atomic64_inc(&t->chan->takeovers);
	}
	spin_unlock_bh(&conn->tx_lock);
	return t;
}

/*
 * The ring goes back: @only that one, or whichever there is if NULL. The writer
 * goes on in TCP, also one that is in the middle of a call. Any context.
 */
void vmc_tx_drop(struct vmc_conn *conn, const struct vmc_txring *only, enum vmc_reason why)
{
	struct vmc_txring *t;

	rcu_read_lock();	/* vmc_pool_reap() waits until we have done with the ring */
	spin_lock_bh(&conn->tx_lock);
	t = vmc_tx_ring(conn);
	if (!t || (only && t != only)) {
		spin_unlock_bh(&conn->tx_lock);
		rcu_read_unlock();
		return;
	}
	vmc_ring_prod_close(&t->prod);
	if (conn->tx_state == VMC_TX_LOCAL) {
		atomic_dec(&t->chan->tx_streams);
		atomic64_inc(&t->chan->ended);
	}
	/* a call that a sender counts at this moment may be lost: no harm */
	vmc_tx_start_over(conn);
	if (why == VMC_R_IDLE)
		conn->bulk = false;
	RCU_INIT_POINTER(conn->tx, NULL);
	spin_unlock_bh(&conn->tx_lock);

	vmc_fallback(conn, why);
	vmc_pool_tx_done(t);
	if (READ_ONCE(conn->sk->sk_socket))
		vmc_conn_write_space(conn);
	rcu_read_unlock();
}

/* The direction goes back to TCP, whatever state it was in. Socket lock; any context. */
void vmc_tx_end(struct vmc_conn *conn, enum vmc_reason why)
{
	if (conn->tx_state == VMC_TX_OFFERED)
		vmc_tx_withdraw(conn);
	vmc_tx_drop(conn, NULL, why);
}

/* Copies from the caller, as far as its memory is there, into the peer's pages. Bytes taken. */
static u32 vmc_tx_copy(struct vmc_txring *t, struct iov_iter *from, u32 len)
{
	u32 done = 0;

	pagefault_disable();
	while (done < len) {
		u32 off, n, part;

		n = vmc_ring_prod_span(&t->prod, done, len - done, &off);
		n = min_t(u32, n, PAGE_SIZE - offset_in_page(off));
		part = copy_from_iter((u8 *)vmc_foreign_va(&t->map, 1 + off / PAGE_SIZE) +
				      offset_in_page(off), n, from);
		done += part;
		if (part < n)
			break;
	}
	pagefault_enable();
	return done;
}

/* A ring may be smaller than what TCP would take without waiting. */
static bool vmc_tx_is_small(const struct vmc_txring *t)
{
	return t->prod.size < vmc_ring_most();
}

/*
 * For tcp_poll() and sk_stream_write_space(), without a lock: is there space?
 * Asks to be woken if not. *local: whether it is the ring that decides.
 */
bool vmc_tx_writable(const struct sock *sk, bool *local)
{
	struct vmc_txring *t;
	struct vmc_conn *conn;
	bool ready = true;

	*local = false;
	rcu_read_lock();
	conn = vmc_conn_peek(sk);
	t = conn ? rcu_dereference(conn->tx) : NULL;
	if (t && READ_ONCE(conn->tx_state) == VMC_TX_LOCAL) {
		*local = true;
		ready = vmc_tx_is_small(t) || vmc_ring_prod_ready(&t->prod, t->prod.size / 2);
		if (!ready) {
			vmc_store(&t->prod.hdr->prod_wait, 1);
			vmc_mb();
			ready = vmc_ring_prod_ready(&t->prod, t->prod.size / 2);
			if (!ready)
				vmc_chan_tx_waits(t->chan);
		}
	}
	rcu_read_unlock();
	return ready;
}

/* The ring has that much space, is closed, or is ours no more. Without a lock. */
static bool vmc_tx_may_go_on(struct vmc_conn *conn, u32 want)
{
	struct vmc_txring *t;
	bool ready;

	rcu_read_lock();
	t = rcu_dereference(conn->tx);
	ready = !t || vmc_ring_prod_ready(&t->prod, want);
	rcu_read_unlock();
	return ready;
}

/* Looks for space for @budget nanoseconds before sleeping. No lock is held. */
static bool vmc_tx_poll(struct vmc_conn *conn, u32 want, u64 start, u64 budget)
{
	while (local_clock() - start < budget && !vmc_poll_give_way()) {
		if (vmc_tx_may_go_on(conn, want))
			return true;
		cpu_relax();
	}
	return false;
}

/*
 * Waits for @want bytes of space; the socket lock is dropped meanwhile, so the
 * caller has to look at everything again. Results as of sk_stream_wait_memory().
 */
static int vmc_tx_wait(struct vmc_conn *conn, u32 want, long *timeo)
{
	DEFINE_WAIT_FUNC(wait, vmc_woken);
	struct sock *sk = conn->sk;
	struct vmc_txring *t;
	u64 budget = vmc_poll_budget(&conn->tx_poll), start = local_clock();
	bool full;
	int err = 0;

	if (*timeo && budget) {
		bool found;

		release_sock(sk);
		found = vmc_tx_poll(conn, want, start, budget);
		lock_sock(sk);
		if (found)
			goto learn;
	}

	add_wait_queue(sk_sleep(sk), &wait);
	sk_set_bit(SOCKWQ_ASYNC_NOSPACE, sk);
	set_bit(SOCK_NOSPACE, &sk->sk_socket->flags);
	spin_lock_bh(&conn->tx_lock);
	t = vmc_tx_ring(conn);
	full = t && !vmc_ring_prod_arm(&t->prod, want);
	if (full)
		vmc_chan_tx_waits(t->chan);
	spin_unlock_bh(&conn->tx_lock);
	if (full) {
		if (!*timeo)
			err = -EAGAIN;
		else if (signal_pending(current))
			err = sock_intr_errno(*timeo);
		else if (sk_wait_event(sk, timeo, READ_ONCE(sk->sk_err) ||
				       READ_ONCE(sk->sk_shutdown) & SEND_SHUTDOWN ||
				       vmc_tx_may_go_on(conn, want), &wait) < 0)
			err = -EPIPE;
	}
	if (!err)
		sk_clear_bit(SOCKWQ_ASYNC_NOSPACE, sk);
	remove_wait_queue(sk_sleep(sk), &wait);
learn:
	vmc_poll_learn(&conn->tx_poll, local_clock() - start);
	return err;
}

/*
 * A peer that breaks its ring costs this connection, which is reset when the
 * socket lock is dropped; the rest of the channel ends in TCP.
 */
static void vmc_tx_broken(struct vmc_conn *conn)
{
	conn->tx_never = true;
	conn->broken = true;
	vmc_tx_end(conn, VMC_R_PROTOCOL);
}

/*
 * A small ring that is full is no reason to wait: the stream goes over TCP until
 * the peer has given it a large one. If it has none, the next small one has to be
 * earned like the first, and a stream that fills those, too, stays with TCP.
 */
static void vmc_tx_grow(struct vmc_conn *conn)
{
	conn->bulk = true;
	vmc_tx_end(conn, VMC_R_GROW);
	if (!conn->tx_less)
		vmc_tx_offer(conn);
	else if (++conn->tx_refusals >= VMC_TX_REFUSALS)
		conn->tx_never = true;
}

/* What came of an attempt to write into the ring; @VMC_PUT_SOME: look again. */
enum vmc_put {
	VMC_PUT_SOME,
	VMC_PUT_TCP,		/* there is no ring any more */
	VMC_PUT_BEHIND,		/* TCP has taken bytes behind the boundary */
	VMC_PUT_CLOSED,		/* the reader has closed it */
	VMC_PUT_FULL,		/* *want bytes of space have to be waited for */
	VMC_PUT_SMALL,		/* full, and smaller than what TCP takes */
	VMC_PUT_FAULT,		/* the caller's memory is not there: up to *want bytes of it */
	VMC_PUT_BROKEN,
};

/*
 * Has a call that began before all others came through the driver appended to TCP?
 * vmc_tx_open() excludes those that it can see, not one that waited for the lock
 * and was woken, but has not come to run. What it sent comes after the ring.
 */
bool vmc_tx_overtaken(const struct vmc_conn *conn)
{
	return READ_ONCE(conn->tx_state) == VMC_TX_LOCAL &&
	       READ_ONCE(tcp_sk(conn->sk)->write_seq) != READ_ONCE(conn->tx_boundary);
}

/* One attempt, of at most a chunk. Adds what was taken to *copied. tx_lock. */
static enum vmc_put vmc_tx_put_locked(struct vmc_conn *conn, struct msghdr *msg, int *copied,
				      u32 *want)
{
	struct vmc_txring *t = vmc_tx_ring(conn);
	int space, err;
	u32 n;

	if (!t || conn->tx_state != VMC_TX_LOCAL)
		return VMC_PUT_TCP;
	if (unlikely(vmc_tx_overtaken(conn)))
		return VMC_PUT_BEHIND;
	n = min_t(size_t, msg_data_left(msg), VMC_TX_CHUNK);
	/* not in crumbs as the reader leaves them: each costs the writer a call */
	*want = min(n, t->prod.size / 4);
	space = vmc_ring_prod_space(&t->prod, n);
	if (space >= 0 && space < *want && !vmc_ring_prod_closed(&t->prod))
		return !conn->tx_never && vmc_tx_is_small(t) ? VMC_PUT_SMALL : VMC_PUT_FULL;
	err = space < 0 ? space : -EPIPE;
	if (space > 0) {
		*want = min_t(u32, n, space);
		n = vmc_tx_copy(t, &msg->msg_iter, *want);
		if (!n)
			return VMC_PUT_FAULT;
		err = vmc_ring_prod_commit(&t->prod, n);
		if (!err) {
			*copied += n;
			atomic64_add(n, &t->chan->tx_bytes);
			if (vmc_ring_prod_notify(&t->prod))
				vmc_chan_bell_data(t->chan, t->id);
			return VMC_PUT_SOME;
		}
		iov_iter_revert(&msg->msg_iter, n);
	}
	if (err != -EPROTO)
		return VMC_PUT_CLOSED;
	vmc_chan_broken(t->chan, "ring written by us");
	return VMC_PUT_BROKEN;
}

static enum vmc_put vmc_tx_put(struct vmc_conn *conn, struct msghdr *msg, int *copied, u32 *want)
{
	enum vmc_put result;

	spin_lock_bh(&conn->tx_lock);
	result = vmc_tx_put_locked(conn, msg, copied, want);
	spin_unlock_bh(&conn->tx_lock);
	return result;
}

/*
 * What the ring no longer takes. After bytes that were taken, an error is for the
 * next call, whoever makes it: TCP gave us the socket's, which it has only once.
 */
static int vmc_tx_send_rest(struct sock *sk, struct msghdr *msg, int copied)
{
	int ret;

	if (copied)
		msg->msg_flags |= MSG_NOSIGNAL;
	ret = tcp_sendmsg_locked(sk, msg, msg_data_left(msg));
	if (!copied || ret >= 0)
		return copied + ret;
	switch (ret) {
	case -EAGAIN:
	case -EINTR:
	case -ERESTARTSYS:
	case -EFAULT:
	case -EPIPE:
		break;
	default:
		WRITE_ONCE(sk->sk_err, -ret);
	}
	return copied;
}

/*
 * Sends through the ring, and through TCP what the ring no longer takes. Same
 * results as tcp_sendmsg_locked(). Socket lock.
 */
int vmc_tx_send(struct vmc_conn *conn, struct msghdr *msg, size_t size)
{
	struct sock *sk = conn->sk;
	int copied = 0, err;
	long timeo = sock_sndtimeo(sk, msg->msg_flags & MSG_DONTWAIT);
	u32 want;

	if (!size || (conn->tx_state == VMC_TX_READY && !vmc_tx_open(conn)))
		return tcp_sendmsg_locked(sk, msg, size);
	sk_clear_bit(SOCKWQ_ASYNC_NOSPACE, sk);

	while (msg_data_left(msg)) {
		err = -EPIPE;
		if (sk->sk_err || sk->sk_shutdown & SEND_SHUTDOWN)
			goto error;
		vmc_jitter();
		switch (vmc_tx_put(conn, msg, &copied, &want)) {
		case VMC_PUT_SOME:
			break;
		case VMC_PUT_TCP:
			goto tcp;
		case VMC_PUT_BEHIND:
			vmc_tx_end(conn, VMC_R_NOT_READY);
			break;
		case VMC_PUT_CLOSED:
			vmc_tx_end(conn, VMC_R_PEER_CLOSED);
			break;
		case VMC_PUT_SMALL:
			vmc_tx_grow(conn);
			break;
		case VMC_PUT_FULL:
			err = vmc_tx_wait(conn, want, &timeo);
			if (err)
				goto error;
			break;
		case VMC_PUT_FAULT:
			/* under the socket's lock, as in TCP: nobody else writes in between */
			err = -EFAULT;
			if (fault_in_iov_iter_readable(&msg->msg_iter, want) == want ||
			    fatal_signal_pending(current))
				goto error;
			break;
		case VMC_PUT_BROKEN:
			vmc_tx_broken(conn);
			return copied ? copied : -ECONNRESET;
		}
	}
	return copied;

tcp:
	return vmc_tx_send_rest(sk, msg, copied);

error:
	return copied ? copied : sk_stream_error(sk, msg->msg_flags, err);
}

void vmc_tx_exit(void)
{
	WARN_ON(!xa_empty(&vmc_offers));
	xa_destroy(&vmc_offers);
}
