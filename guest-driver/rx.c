// SPDX-License-Identifier: GPL-2.0-only
/*
 * The reader's side of a connection: giving out a ring, reading TCP and the
 * ring in the order in which they were written, going back to TCP. All of it
 * under conn->rx_mutex.
 */
#include <linux/delay.h>

#include "poll.h"
#include "vmc.h"

#define VMC_RX_CHUNK	(32u << 10)	/* given back to the writer at once */
#define VMC_RX_MOVE	(64u << 10)	/* moved to TCP's queue, for a new ring */

/* -------------------------------------------------------------- offers */

static void vmc_rx_reject(struct vmc_chan *ch, u32 offer_id, const struct vmc_conn *conn,
			  enum vmc_reason why)
{
	struct vmc_c_reject m = {
		.h = { VMC_C_REJECT, sizeof(m), offer_id },
		.reason = why,
	};

	vmc_fallback(conn, why);
	vmc_chan_send(ch, &m.h);
}

/*
 * How our own sleepers are woken: as TCP's are, but by a function of our own,
 * so that the two can be told apart on the socket's queue.
 */
int vmc_woken(struct wait_queue_entry *wait, unsigned int mode, int sync, void *key)
{
	return woken_wake_function(wait, mode, sync, key);
}

/*
 * Does a task sleep in TCP's own recvmsg() or splice_read(), which it called
 * before our tables were there? It would never see the ring. Socket lock.
 */
static bool vmc_rx_native_sleeper(struct sock *sk)
{
	wait_queue_head_t *wq = sk_sleep(sk);
	struct wait_queue_entry *e;
	unsigned long flags;
	int n = 0;

	spin_lock_irqsave(&wq->lock, flags);
	list_for_each_entry(e, &wq->head, entry)
		n += e->func == woken_wake_function;
	spin_unlock_irqrestore(&wq->lock, flags);
	return n > sk->sk_write_pending;	/* those are TCP's writers */
}

/*
 * Options about packets, or about TCP's own queue: SO_TIMESTAMP and the like,
 * SO_PEEK_OFF, SO_ATTACH_FILTER.
 */
static bool vmc_rx_wants_tcp(const struct sock *sk)
{
	return sock_flag(sk, SOCK_RCVTSTAMP) || READ_ONCE(sk->sk_peek_off) >= 0 ||
	       rcu_access_pointer(sk->sk_filter) ||
	       READ_ONCE(sk->sk_tsflags) & (SOF_TIMESTAMPING_RX_SOFTWARE |
					    SOF_TIMESTAMPING_RX_HARDWARE);
}

/* Why this socket's reader stays with TCP, now or for good. rx_mutex and socket lock. */
static enum vmc_reason vmc_rx_obstacle(struct vmc_conn *conn)
{
	struct sock *sk = conn->sk;

	if (conn->detached || READ_ONCE(vmc_leaving))
		return VMC_R_UNLOAD;
	if (rcu_access_pointer(conn->rx))
		return VMC_R_NOT_READY;
	if (READ_ONCE(sk->sk_user_data) || inet_csk(sk)->icsk_ulp_ops || tcp_sk(sk)->repair)
		return VMC_R_FOREIGN_USER;
	if (sk->sk_shutdown & RCV_SHUTDOWN)
		return VMC_R_SHUTDOWN;
	if (sk->sk_rcvlowat > 1 || tcp_sk(sk)->recvmsg_inq || vmc_rx_wants_tcp(sk))
		return VMC_R_SOCKOPT;
	if (vmc_conn_wake(conn) || !vmc_conn_ops(conn) || !conn->rx_seen ||
	    !vmc_conn_is_quiet(conn) || vmc_rx_native_sleeper(sk))
		return VMC_R_NOT_READY;
	return VMC_R_NONE;
}

/*
 * A writer that has closed its ring may want another, larger one: what is left
 * in the old one goes into TCP's queue, unless that is much. rx_mutex and socket lock.
 */
static void vmc_rx_make_way(struct vmc_conn *conn)
{
	struct vmc_rxring *r = rcu_dereference_protected(conn->rx, 1);
	u32 left = vmc_rx_pending(conn);
	struct sock *sk = conn->sk;

	if (!r || !(vmc_load(&r->cons.hdr->prod) & VMC_RING_CLOSED) || left > VMC_RX_MOVE)
		return;
	/* nor more than the application allows TCP, which would drop what comes next */
	if (sk->sk_userlocks & SOCK_RCVBUF_LOCK &&
	    atomic_read(&sk->sk_rmem_alloc) + left > sk->sk_rcvbuf)
		return;
	if (!vmc_rx_to_tcp(conn, GFP_KERNEL))
		vmc_conn_look(conn);
}

/*
 * rx_mutex and the socket's lock, if they can be had soon: a busy reader lets go
 * between two calls; one that is stuck does not.
 */
static bool vmc_rx_lock_soon(struct vmc_conn *conn)
{
	unsigned int tries;

	for (tries = 0; !mutex_trylock(&conn->rx_mutex); tries++) {
		if (tries == 100)
			return false;
		usleep_range(20, 100);
	}
	if (vmc_conn_lock_soon(conn))
		return true;
	mutex_unlock(&conn->rx_mutex);
	return false;
}

static atomic_t vmc_rx_streams;	/* of all channels */

void vmc_rx_stream_ends(struct vmc_chan *ch)
{
	atomic_dec(&ch->rx_streams);
	atomic_dec(&vmc_rx_streams);
}

/* False if the host allows no more. */
static bool vmc_rx_stream_begins(struct vmc_chan *ch)
{
	atomic_inc(&ch->rx_streams);
	if ((u32)atomic_inc_return(&vmc_rx_streams) <= READ_ONCE(vmc_host.streams))
		return true;
	vmc_rx_stream_ends(ch);
	return false;
}

/* chan->mutex held */
void vmc_rx_offer(struct vmc_chan *ch, const struct vmc_c_offer *m)
{
	struct vmc_c_accept answer = {
		.h = { VMC_C_ACCEPT, sizeof(answer), m->h.id },
	};
	enum vmc_reason why = VMC_R_NONE;
	struct vmc_rxring *r = NULL;
	struct vmc_conn *conn;
	bool opener;

	conn = vmc_conn_by_offer(m, &opener);
	if (IS_ERR(conn)) {
		vmc_rx_reject(ch, m->h.id, NULL, PTR_ERR(conn) == -EACCES ? VMC_R_PROOF :
									   VMC_R_NO_SOCKET);
		return;
	}
	/*
	 * Not accepted yet: the listener's end takes such a socket without asking
	 * who owns its lock. A reader that is copying: it may be stuck in a page
	 * fault, and the channel must not be.
	 */
	if (!READ_ONCE(conn->sk->sk_socket) || !vmc_rx_lock_soon(conn)) {
		vmc_rx_reject(ch, m->h.id, conn, VMC_R_NOT_READY);
		vmc_conn_put(conn);
		return;
	}
	conn->rx_offered = jiffies | 1;
	vmc_rx_make_way(conn);
	why = vmc_rx_obstacle(conn);
	if (!why && !vmc_peer_is(ch->domid, conn->mac))
		why = VMC_R_NO_PEER;
	if (!why && !vmc_rx_stream_begins(ch))
		why = VMC_R_LIMIT;
	if (!why) {
		r = vmc_pool_rx_get(ch, m->want_bytes, 0, &why);
		if (!r)
			vmc_rx_stream_ends(ch);
	}
	if (r) {
		rcu_assign_pointer(r->conn, conn);
		rcu_assign_pointer(conn->rx, r);
		WRITE_ONCE(conn->rx_state, VMC_RX_OPEN);
	}
	release_sock(conn->sk);
	mutex_unlock(&conn->rx_mutex);

	vmc_jitter();
	if (r) {
		answer.ring_id = r->id;
		vmc_proof(conn, 2, true, opener, m->h.id, r->id, m->nonce, answer.proof);
		vmc_chan_send(ch, &answer.h);
	} else {
		vmc_rx_reject(ch, m->h.id, conn, why);
	}
	vmc_conn_put(conn);
}

/* -------------------------------------------------------------- ending */

/* The ring is closed and read to its end (or given up). rx_mutex, or the last reference. */
void vmc_rx_end(struct vmc_conn *conn)
{
	struct vmc_rxring *r = rcu_dereference_protected(conn->rx, 1);

	WRITE_ONCE(conn->rx_state, VMC_RX_TCP);
	RCU_INIT_POINTER(conn->rx, NULL);
	vmc_rx_stream_ends(r->chan);
	atomic64_inc(&r->chan->ended);
	vmc_pool_rx_release(r);
}

/* One-sided: the writer will find it out. Any context. */
void vmc_rx_close(struct vmc_conn *conn)
{
	struct vmc_rxring *r;

	rcu_read_lock();
	r = rcu_dereference(conn->rx);
	if (r) {
		vmc_set_bit64(&r->cons.hdr->prod, VMC_RING_CLOSED_BIT);
		vmc_chan_bell_space(r->chan, r->id);
	}
	rcu_read_unlock();
}

/*
 * As far as the reader has read what TCP carries. A FIN that comes with, or is
 * merged into, a segment of the last bytes is taken with them.
 */
static u32 vmc_rx_copied(const struct sock *sk)
{
	u32 copied = tcp_sk(sk)->copied_seq;
	bool fin = sock_flag(sk, SOCK_DONE);

	smp_rmb();	/* rcv_nxt counts a FIN before the flag says so */
	return copied - (fin && copied == READ_ONCE(tcp_sk(sk)->rcv_nxt));
}

/*
 * The ring has shown bytes for the first time: where do they begin? False if that
 * can't be. An urgent byte there that nobody reads is skipped by TCP itself when
 * another one comes. rx_mutex.
 */
static bool vmc_rx_begin(struct vmc_conn *conn, struct vmc_rxring *r)
{
	u32 copied = vmc_rx_copied(conn->sk), boundary = vmc_load(&r->cons.hdr->boundary);

	if (before(boundary, copied)) {
		if (copied != boundary + 1 || !READ_ONCE(tcp_sk(conn->sk)->urg_data))
			return false;
		boundary = copied;
	}
	WRITE_ONCE(conn->boundary, boundary);
	WRITE_ONCE(conn->rx_state, VMC_RX_SEGMENT);
	return true;
}

/* Bytes in the ring that nobody has read, by private and published positions. */
u32 vmc_rx_pending(struct vmc_conn *conn)
{
	struct vmc_rxring *r;
	u32 n = 0;

	rcu_read_lock();
	r = rcu_dereference(conn->rx);
	if (r)
		n = min_t(u64, r->cons.size,
			  VMC_RING_POS(vmc_load(&r->cons.hdr->prod)) -
			  READ_ONCE(r->cons.cons));
	rcu_read_unlock();
	return n;
}

/* The writer published something impossible: this stream can't be trusted any more. */
static int vmc_rx_broken(struct vmc_conn *conn, struct vmc_rxring *r)
{
	struct sock *sk = conn->sk;

	vmc_chan_broken(r->chan, "ring read by us");
	vmc_rx_close(conn);
	vmc_rx_end(conn);
	lock_sock(sk);
	conn->tx_never = true;
	vmc_tx_end(conn, VMC_R_PROTOCOL);
	release_sock(sk);
	tcp_abort(sk, ECONNRESET);
	return sock_error(sk) ? : -ECONNRESET;
}

/* ------------------------------------------------- leftovers into TCP */

/* A segment of the socket's, with room for its @len bytes; NULL without memory. */
static struct sk_buff *vmc_rx_skb_new(struct sock *sk, u32 seq, u32 len, u8 flags, gfp_t gfp)
{
	struct sk_buff *skb;
	int err;

	/* in pages, which can be had without waiting */
	skb = alloc_skb_with_frags(0, len, PAGE_ALLOC_COSTLY_ORDER, &err, gfp);
	if (!skb)
		return NULL;
	skb->len = len;
	skb->data_len = len;
	if (!sk_rmem_schedule(sk, skb, skb->truesize)) {
		kfree_skb(skb);
		return NULL;
	}
	TCP_SKB_CB(skb)->seq = seq;
	TCP_SKB_CB(skb)->end_seq = seq + len + !!(flags & TCPHDR_FIN);
	TCP_SKB_CB(skb)->tcp_flags = TCPHDR_ACK | flags;
	skb_set_owner_r(skb, sk);
	return skb;
}

static int vmc_rx_skb_add(struct sock *sk, struct sk_buff *before, struct vmc_rxring *r,
			  u32 done, u32 len, u32 seq, gfp_t gfp)
{
	struct sk_buff *skb = vmc_rx_skb_new(sk, seq, len, 0, gfp);
	u32 put = 0;

	if (!skb)
		return -ENOMEM;
	while (put < len) {
		u32 off, n = vmc_ring_cons_span(&r->cons, done + put, len - put, &off);

		skb_store_bits(skb, put, (u8 *)vmc_rxring_data(r) + off, n);
		put += n;
	}
	if (before)
		__skb_queue_before(&sk->sk_receive_queue, before, skb);
	else
		__skb_queue_tail(&sk->sk_receive_queue, skb);
	return 0;
}

/*
 * The first queued segment behind @boundary, or NULL; one that straddles it
 * is split there. -ENOMEM as an error pointer.
 */
static struct sk_buff *vmc_rx_split(struct sock *sk, u32 boundary, gfp_t gfp)
{
	struct sk_buff *skb, *tail;
	u32 keep, more;

	skb_queue_walk(&sk->sk_receive_queue, skb) {
		if (!before(TCP_SKB_CB(skb)->seq, boundary))
			return skb;
		keep = boundary - TCP_SKB_CB(skb)->seq;
		if (keep > skb->len ||
		    (keep == skb->len && !(TCP_SKB_CB(skb)->tcp_flags & TCPHDR_FIN)))
			continue;
		/* copied, not split: received buffers may be cloned, chained or recycled */
		more = skb->len - keep;		/* 0: a FIN alone */
		tail = alloc_skb(more, gfp);
		if (!tail)
			return ERR_PTR(-ENOMEM);
		if (skb_copy_bits(skb, keep, skb_put(tail, more), more) ||
		    pskb_trim(skb, keep)) {
			kfree_skb(tail);
			return ERR_PTR(-ENOMEM);
		}
		if (!sk_rmem_schedule(sk, tail, tail->truesize))
			pr_debug("vmc: over the receive budget by %u\n", tail->truesize);
		TCP_SKB_CB(tail)->seq = boundary;
		TCP_SKB_CB(tail)->end_seq = TCP_SKB_CB(skb)->end_seq;
		TCP_SKB_CB(tail)->tcp_flags = TCP_SKB_CB(skb)->tcp_flags;
		TCP_SKB_CB(skb)->end_seq = boundary;
		TCP_SKB_CB(skb)->tcp_flags &= ~TCPHDR_FIN;
		skb_set_owner_r(tail, sk);
		__skb_queue_after(&sk->sk_receive_queue, skb, tail);
		if (!before(tcp_sk(sk)->copied_seq, boundary))
			sk_eat_skb(sk, skb);	/* the part that is left was read */
		return tail;
	}
	return NULL;
}

/*
 * A FIN that came with the last bytes before the boundary was taken with them.
 * Bytes that come before it are about to be queued: it has to be there again.
 */
static int vmc_rx_fin_back(struct sock *sk, gfp_t gfp)
{
	struct tcp_sock *tp = tcp_sk(sk);
	struct sk_buff *skb = vmc_rx_skb_new(sk, tp->copied_seq - 1, 0, TCPHDR_FIN, gfp);

	if (!skb)
		return -ENOMEM;
	__skb_queue_tail(&sk->sk_receive_queue, skb);
	WRITE_ONCE(tp->copied_seq, tp->copied_seq - 1);
	tp->rcvq_space.seq--;
	return 0;
}

/*
 * Closes the ring and puts its unread bytes where they belong in the socket's
 * receive queue: at the boundary, what lies before it moved back by as much.
 * rx_mutex and socket lock. 0, -EAGAIN while TCP has not delivered up to the
 * boundary, -ENOMEM.
 */
int vmc_rx_to_tcp(struct vmc_conn *conn, gfp_t gfp)
{
	struct sock *sk = conn->sk;
	struct tcp_sock *tp = tcp_sk(sk);
	struct vmc_rxring *r = rcu_dereference_protected(conn->rx, 1);
	struct sk_buff *behind, *skb;
	u32 left, done, n, start;
	int err;

	if (!r || conn->detached)
		return 0;
	err = vmc_ring_cons_close(&r->cons);
	vmc_chan_bell_space(r->chan, r->id);
	left = r->cons.pos - r->cons.cons;
	if (err || !left)
		goto end;
	if (conn->rx_state == VMC_RX_OPEN && !vmc_rx_begin(conn, r))
		goto end;		/* a lie: nothing is owed */
	if (tp->copied_seq == conn->boundary + 1 && vmc_rx_copied(sk) == conn->boundary) {
		err = vmc_rx_fin_back(sk, gfp);
		if (err)
			return err;
	}
	if (before(conn->boundary, tp->copied_seq))
		conn->boundary = tp->copied_seq;	/* as in vmc_rx_begin() */
	if (after(conn->boundary, tp->rcv_nxt)) {
		if (sk->sk_state != TCP_CLOSE)
			return -EAGAIN;
		goto end;		/* what lies before it will never come */
	}

	behind = vmc_rx_split(sk, conn->boundary, gfp);
	if (IS_ERR(behind))
		return PTR_ERR(behind);
	/*
	 * Positions in the queue that lie before the boundary move back by the
	 * bytes inserted. In parts, so that lack of memory leaves a valid queue.
	 */
	for (done = 0; done < left; done += n) {
		n = min(left - done, VMC_RX_CHUNK);
		start = conn->boundary - n;
		err = vmc_rx_skb_add(sk, behind, r, done, n, start, gfp);
		if (err)
			break;
		skb_queue_walk(&sk->sk_receive_queue, skb) {
			if (behind ? skb->next == behind :
				     skb_queue_is_last(&sk->sk_receive_queue, skb))
				break;	/* the new one */
			TCP_SKB_CB(skb)->seq -= n;
			TCP_SKB_CB(skb)->end_seq -= n;
		}
		WRITE_ONCE(tp->copied_seq, tp->copied_seq - n);
		tp->rcvq_space.seq -= n;
		if (tp->urg_data && before(tp->urg_seq, conn->boundary))
			tp->urg_seq -= n;
	}
	vmc_ring_cons_advance(&r->cons, done);
	atomic64_add(done, &r->chan->rx_bytes);
	if (err)
		return err;
end:
	vmc_rx_end(conn);
	return 0;
}

/* ------------------------------------------------------------- reading */

/* What a socket with a ring holds for its reader. */
struct vmc_rx_view {
	bool ring;		/* there is one, and something was written to it */
	bool ring_next;		/* all that TCP owes from before it was read */
	u32 bytes;		/* readable without waiting, wherever they are */
};

/*
 * Without a lock, inside RCU; nothing private is changed. Bytes in the ring
 * count only if TCP has delivered all that comes before them.
 */
static void vmc_rx_look(struct vmc_conn *conn, struct vmc_rx_view *v)
{
	struct tcp_sock *tp = tcp_sk(conn->sk);
	struct vmc_rxring *r = rcu_dereference(conn->rx);
	u32 copied = READ_ONCE(tp->copied_seq);
	u32 tcp = READ_ONCE(tp->rcv_nxt) - copied;
	u64 word;
	s32 left;

	if (tcp && sock_flag(conn->sk, SOCK_DONE))
		tcp--;			/* the FIN */
	/* as tcp_inq(): an urgent byte beside the stream, and what follows it, don't count */
	if (unlikely(READ_ONCE(tp->urg_data)) && !sock_flag(conn->sk, SOCK_URGINLINE))
		tcp = min(tcp, READ_ONCE(tp->urg_seq) - copied);
	*v = (struct vmc_rx_view){ .bytes = tcp };
	if (!r)
		return;
	virt_rmb();			/* as in vmc_rx_step(): TCP, then the ring */
	word = vmc_load(&r->cons.hdr->prod);
	if (!VMC_RING_POS(word))
		return;
	v->ring = true;
	left = (READ_ONCE(conn->rx_state) == VMC_RX_SEGMENT ?
		READ_ONCE(conn->boundary) : vmc_load(&r->cons.hdr->boundary)) - copied;
	v->ring_next = left <= 0;
	if (left > 0 && tcp < left)
		return;
	v->bytes = min_t(u64, r->cons.size, VMC_RING_POS(word) - READ_ONCE(r->cons.cons));
	v->bytes += word & VMC_RING_CLOSED ? tcp : max(left, 0);
}

/* For SIOCINQ: bytes that can be read without waiting, or -ENOENT if there is no ring. */
int vmc_rx_inq(struct vmc_conn *conn)
{
	struct vmc_rx_view v;

	rcu_read_lock();
	vmc_rx_look(conn, &v);
	rcu_read_unlock();
	return v.ring ? (int)v.bytes : -ENOENT;
}

/* Is there enough in the ring (and before it) to wake a reader for? */
bool vmc_rx_has(struct vmc_conn *conn)
{
	struct vmc_rx_view v;

	rcu_read_lock();
	vmc_rx_look(conn, &v);
	rcu_read_unlock();
	return v.ring && v.bytes >= sock_rcvlowat(conn->sk, 0, INT_MAX);
}

/*
 * For tcp_poll(), without a lock: can @want bytes be read, counting the ring's?
 * Asks to be woken if not.
 */
bool vmc_rx_readable(const struct sock *sk, u32 want)
{
	struct vmc_rxring *r;
	struct vmc_conn *conn;
	struct vmc_rx_view v = {};

	rcu_read_lock();
	conn = vmc_conn_peek(sk);
	r = conn ? rcu_dereference(conn->rx) : NULL;
	if (r) {
		vmc_ring_cons_wait(&r->cons);
		vmc_rx_look(conn, &v);
	}
	rcu_read_unlock();
	return v.ring && v.bytes >= want;
}

/* What a sleeping reader waits for. @arm: ask to be woken. Without a lock. */
static bool vmc_rx_may_go_on(struct vmc_conn *conn, u32 copied, u32 peeked, bool arm)
{
	struct sock *sk = conn->sk;
	struct vmc_rxring *r;
	struct vmc_rx_view v;
	bool closed = false;

	if (READ_ONCE(sk->sk_err) || READ_ONCE(sk->sk_shutdown) & RCV_SHUTDOWN ||
	    (READ_ONCE(conn->detached) && !copied) || inet_sk_state_load(sk) == TCP_CLOSE)
		return true;
	rcu_read_lock();
	r = rcu_dereference(conn->rx);
	if (r && arm)
		vmc_ring_cons_wait(&r->cons);
	vmc_rx_look(conn, &v);
	/* a closed ring that is read to its end wants to be given back */
	if (r)
		closed = vmc_load(&r->cons.hdr->prod) & VMC_RING_CLOSED &&
			 (!v.ring || v.ring_next);
	rcu_read_unlock();
	if (peeked || v.ring)
		return v.bytes > peeked || (closed && !peeked);
	return closed || !skb_queue_empty_lockless(&sk->sk_receive_queue);
}

/* Looks for @budget nanoseconds before sleeping. */
static bool vmc_rx_poll(struct vmc_conn *conn, u32 copied, u32 peeked, u64 start, u64 budget)
{
	while (local_clock() - start < budget && !vmc_poll_give_way()) {
		if (vmc_rx_may_go_on(conn, copied, peeked, false))
			return true;
		cpu_relax();
	}
	return false;
}

static void vmc_rx_wait(struct vmc_conn *conn, long *timeo, u32 copied, u32 peeked)
{
	DEFINE_WAIT_FUNC(wait, vmc_woken);
	bool local = rcu_access_pointer(conn->rx);
	struct sock *sk = conn->sk;
	u64 start = local_clock();

	if (!local ||
	    !vmc_rx_poll(conn, copied, peeked, start, vmc_poll_budget(&conn->rx_poll))) {
		add_wait_queue(sk_sleep(sk), &wait);
		sk_set_bit(SOCKWQ_ASYNC_WAITDATA, sk);
		smp_mb();	/* pairs with skwq_has_sleeper() */
		if (!vmc_rx_may_go_on(conn, copied, peeked, true))
			*timeo = wait_woken(&wait, TASK_INTERRUPTIBLE, *timeo);
		sk_clear_bit(SOCKWQ_ASYNC_WAITDATA, sk);
		remove_wait_queue(sk_sleep(sk), &wait);
	}
	if (local)
		vmc_poll_learn(&conn->rx_poll, local_clock() - start);
}

/* Copies from the ring to the caller. Bytes, or -EFAULT. */
static int vmc_rx_copy(struct vmc_conn *conn, struct vmc_rxring *r, struct msghdr *msg,
		       u32 len, int flags)
{
	u32 done = 0;

	while (done < len) {
		u32 off, part, n = vmc_ring_cons_span(&r->cons, done, len - done, &off);

		if (flags & MSG_TRUNC)
			part = n;	/* TCP: discard without copying */
		else
			part = copy_to_iter((u8 *)vmc_rxring_data(r) + off, n, &msg->msg_iter);
		done += part;
		if (part < n)
			break;
	}
	if (flags & MSG_PEEK)
		return done ? done : -EFAULT;
	vmc_ring_cons_advance(&r->cons, done);
	atomic64_add(done, &r->chan->rx_bytes);
	if (vmc_ring_cons_notify(&r->cons))
		vmc_chan_bell_space(r->chan, r->id);
	return done ? done : -EFAULT;
}

/* MSG_PEEK over the boundary: @left bytes of TCP's, then the ring's. */
static int vmc_rx_peek_both(struct vmc_conn *conn, struct vmc_rxring *r, struct msghdr *msg,
			    size_t len, u32 left, u32 avail, int flags)
{
	struct sock *sk = conn->sk;
	int ret, more, unused;

	ret = vmc_base(sk)->recvmsg(sk, msg, left, (flags & ~MSG_WAITALL) | MSG_DONTWAIT,
				    &unused);
	if (ret < 0 || ret < left)
		return ret;
	more = vmc_rx_copy(conn, r, msg, min_t(size_t, len - left, avail), flags);
	return more < 0 ? ret : ret + more;
}

/* TCP has nothing more to say: an error, the end, or a dead connection. */
static bool vmc_rx_finished(const struct sock *sk)
{
	return READ_ONCE(sk->sk_err) || READ_ONCE(sk->sk_shutdown) & RCV_SHUTDOWN ||
	       inet_sk_state_load(sk) == TCP_CLOSE || sock_flag(sk, SOCK_DONE);
}

/*
 * As tcp_recvmsg(), with nothing to read now: an error that does not end the
 * connection, or our own shutdown(). TCP is not asked, as it may have got bytes
 * meanwhile that come after others in the ring.
 */
static int vmc_rx_why_finished(struct sock *sk, bool have)
{
	int err = have ? -EAGAIN : sock_error(sk);

	if (!err && !(READ_ONCE(sk->sk_shutdown) & RCV_SHUTDOWN))
		err = -EAGAIN;
	return err;
}

/*
 * TCP reads up to the urgent mark and no further in one call; is it @ahead bytes
 * from here? A writer opens no ring behind one: what is in the ring comes before it.
 */
static bool vmc_rx_at_mark(struct vmc_conn *conn, u32 ahead)
{
	const struct tcp_sock *tp = tcp_sk(conn->sk);

	return unlikely(READ_ONCE(tp->urg_data)) &&
	       tp->urg_seq - tp->copied_seq + vmc_rx_pending(conn) == ahead;
}

/*
 * One step without sleeping, of at most @len bytes. Bytes; 0 at the end of the
 * stream; -EAGAIN if there is nothing now; an error. @have: bytes were already
 * returned to this caller, so errors and the end have to wait for the next call.
 */
static int vmc_rx_step(struct vmc_conn *conn, struct msghdr *msg, size_t len, int flags,
		       int *addr_len, bool have)
{
	struct sock *sk = conn->sk;
	struct tcp_sock *tp = tcp_sk(sk);
	struct vmc_rxring *r;
	bool finished, final;
	u32 rcv_nxt = READ_ONCE(tp->rcv_nxt);
	s32 left;
	int avail;

	smp_rmb();	/* an urgent mark is set before its bytes count */
	r = rcu_dereference_protected(conn->rx, lockdep_is_held(&conn->rx_mutex));
	if (!r)
		goto tcp;
	/*
	 * TCP first, then the ring: what TCP brings from behind a segment, its end
	 * among it, comes after the ring has shown the segment.
	 */
	finished = vmc_rx_finished(sk);
	final = sock_flag(sk, SOCK_DONE) || inet_sk_state_load(sk) == TCP_CLOSE;
	vmc_jitter();
	virt_rmb();	/* pairs with the writer, which closes the ring before it uses TCP */
	avail = vmc_ring_cons_avail(&r->cons);
	vmc_jitter();
	if (avail == -EPROTO)
		return vmc_rx_broken(conn, r);
	if (flags & MSG_PEEK && r->cons.closed && avail > 0) {
		/* what follows the ring can only be peeked at if it is all in one queue */
		lock_sock(sk);
		vmc_rx_to_tcp(conn, GFP_KERNEL);
		release_sock(sk);
		if (!rcu_access_pointer(conn->rx))
			goto tcp;
		avail = vmc_ring_cons_avail(&r->cons);
	}
	if (!r->cons.pos) {
		if (avail == -EPIPE) {
			vmc_rx_end(conn);
			goto tcp;
		}
		left = rcv_nxt - tp->copied_seq;
		if (left > 0)
			len = min_t(size_t, len, left);
		else if (!final)
			return finished ? vmc_rx_why_finished(sk, have) : -EAGAIN;
		goto tcp;
	}
	if (conn->rx_state == VMC_RX_OPEN && !vmc_rx_begin(conn, r))
		return vmc_rx_broken(conn, r);
	left = conn->boundary - tp->copied_seq;
	if (left > 0) {
		if (flags & MSG_PEEK && avail > 0 && len > left)
			return vmc_rx_peek_both(conn, r, msg, len, left, avail, flags);
		len = min_t(size_t, len, left);
		goto tcp;
	}
	if (avail > 0 && !len)
		return 0;
	if (avail > 0 && flags & MSG_PEEK)
		return vmc_rx_copy(conn, r, msg, min_t(size_t, len, avail), flags);
	if (avail > 0)
		return vmc_rx_copy(conn, r, msg, min3(len, (size_t)avail, (size_t)VMC_RX_CHUNK),
				   flags);
	if (avail == -EPIPE) {
		vmc_rx_end(conn);
		goto tcp;
	}
	if (!final)
		return finished ? vmc_rx_why_finished(sk, have) : -EAGAIN;
tcp:
	if (have) {
		/*
		 * Nor does one call go past an urgent mark that came meanwhile: it
		 * is there before its bytes are, or it lies behind them.
		 */
		if (vmc_rx_at_mark(conn, 0))
			return 0;
		left = rcv_nxt - tp->copied_seq;
		if (left <= 0)
			return -EAGAIN;
		len = min_t(size_t, len, left);
	}
	return vmc_base(sk)->recvmsg(sk, msg, len, (flags & ~MSG_WAITALL) | MSG_DONTWAIT,
				     addr_len);
}

/*
 * Whoever polls this socket has to hear of what comes next, even if it read
 * only a part. Nobody polls: nobody has to be told.
 */
static void vmc_rx_rearm(struct vmc_conn *conn)
{
	struct sock *sk = conn->sk;
	struct vmc_rxring *r;
	u64 seen;

	r = rcu_dereference_protected(conn->rx, lockdep_is_held(&conn->rx_mutex));
	if (!r)
		return;
	/* a poller that comes after this looks for itself (vmc_rx_readable) */
	if (!waitqueue_active(sk_sleep(sk)) && !sock_flag(sk, SOCK_FASYNC))
		return;
	seen = r->cons.pos;
	vmc_ring_cons_wait(&r->cons);
	if (VMC_RING_POS(vmc_load(&r->cons.hdr->prod)) != seen)
		vmc_conn_data_ready(conn);
}

/*
 * recvmsg() for a watched socket: TCP's results, whichever way the bytes came.
 * VMC_NATIVE if the driver let go before anything was read: the caller then
 * calls TCP itself.
 */
int vmc_rx_recv(struct vmc_conn *conn, struct msghdr *msg, size_t len, int flags,
		int *addr_len)
{
	struct sock *sk = conn->sk;
	long timeo = sock_rcvtimeo(sk, flags & MSG_DONTWAIT);
	int target = sock_rcvlowat(sk, flags & MSG_WAITALL, len);
	int copied = 0, peeked = 0, ret;
	bool finished;

	mutex_lock(&conn->rx_mutex);
	if (unlikely(!READ_ONCE(conn->rx_seen) || READ_ONCE(conn->settle) != VMC_SETTLED)) {
		/*
		 * A ring is given out only after this: a task that is still in TCP's
		 * own call, made before our table was there, would take what TCP
		 * carries behind a segment for what comes next.
		 */
		lock_sock(sk);
		conn->rx_seen = vmc_conn_ops(conn);
		vmc_conn_settle(conn);
		release_sock(sk);
	}
	if (unlikely(vmc_rx_wants_tcp(sk)) && rcu_access_pointer(conn->rx)) {
		lock_sock(sk);
		vmc_rx_to_tcp(conn, GFP_KERNEL);
		release_sock(sk);
	}
	for (;;) {
		if (unlikely(conn->detached) && !copied) {
			copied = VMC_NATIVE;
			break;
		}
		finished = vmc_rx_finished(sk);
		virt_rmb();	/* before the ring is looked at */
		ret = vmc_rx_step(conn, msg, len - copied, flags, addr_len, copied);
		if (ret > 0 && flags & MSG_PEEK) {
			peeked = ret;
			if (ret >= target || vmc_rx_at_mark(conn, ret))
				goto peek_done;
			iov_iter_revert(&msg->msg_iter, flags & MSG_TRUNC ? 0 : ret);
		} else if (ret > 0) {
			copied += ret;
			if (copied == len || vmc_rx_at_mark(conn, 0))
				break;
			continue;
		} else if (ret != -EAGAIN) {
			if (!copied)
				copied = ret;
			break;
		}
		if (copied >= target && copied)
			break;
		if (copied && finished)
			break;
		if (!timeo || signal_pending(current)) {
			if (peeked)
				goto peek_again;
			if (!copied)
				copied = timeo ? sock_intr_errno(timeo) : -EAGAIN;
			break;
		}
		if (peeked && vmc_rx_finished(sk))
			goto peek_again;
		mutex_unlock(&conn->rx_mutex);
		vmc_rx_wait(conn, &timeo, copied, peeked);
		mutex_lock(&conn->rx_mutex);
	}
	if (copied != VMC_NATIVE)
		vmc_rx_rearm(conn);
	mutex_unlock(&conn->rx_mutex);
	return copied;

peek_again:
	ret = vmc_rx_step(conn, msg, len, flags, addr_len, false);
peek_done:
	vmc_rx_rearm(conn);
	mutex_unlock(&conn->rx_mutex);
	return ret;
}
