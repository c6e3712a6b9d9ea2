// SPDX-License-Identifier: GPL-2.0-only
/*
 * The derived protocol tables: what a watched socket's calls go through. Where
 * the driver has nothing to say the call is TCP's own, as a tail call: no
 * sleeping task has a frame of ours on its stack then.
 */
#include <linux/bvec.h>
#include <linux/skmsg.h>
#include <linux/sockios.h>
#include <linux/splice.h>
#include <linux/uio.h>
#include <net/inet_common.h>
#include <net/transp_v6.h>
#include <asm/ioctls.h>

#include "vmc.h"

/* IPv4, IPv6. Of watched connections: those that may be local, and those that are not yet. */
struct proto vmc_prots[2];
struct proto vmc_rest_prots[2];

/* Derived from whatever table the first socket of each family brings. */
static struct proto_ops vmc_ops[2];
static const struct proto_ops *vmc_ops_orig[2];
static DEFINE_SPINLOCK(vmc_ops_lock);

/* ------------------------------------------------------------ messages */

static int vmc_tcp_sendmsg(struct sock *sk, struct msghdr *msg, size_t size)
{
	struct vmc_conn *conn = vmc_conn_get(sk);
	enum vmc_reason why = VMC_R_NONE;
	int ret;

	if (unlikely(!conn))
		return vmc_base(sk)->sendmsg(sk, msg, size);

	vmc_jitter();
	lock_sock(sk);
	if (unlikely(READ_ONCE(conn->settle) != VMC_SETTLED))
		vmc_conn_settle(conn);
	if (unlikely(msg->msg_flags & MSG_OOB))
		why = VMC_R_OOB;
	else if (unlikely(msg->msg_controllen || msg->msg_flags & MSG_FASTOPEN ||
			  READ_ONCE(sk->sk_tsflags) & SOF_TIMESTAMPING_TX_RECORD_MASK ||
			  (msg->msg_flags & MSG_ZEROCOPY && sock_flag(sk, SOCK_ZEROCOPY))))
		why = VMC_R_SOCKOPT;
	if (why == VMC_R_OOB)
		conn->tx_never = true;	/* no boundary behind urgent data */
	if (unlikely(READ_ONCE(sk->sk_user_data)))
		vmc_conn_let_go_now(conn, VMC_R_FOREIGN_USER);
	else if (unlikely(why))
		vmc_tx_end(conn, why);
	else if (conn->tx_state < VMC_TX_READY)
		vmc_tx_earn(conn, size);
	if (conn->tx_state >= VMC_TX_READY)
		ret = vmc_tx_send(conn, msg, size);
	else
		ret = tcp_sendmsg_locked(sk, msg, size);
	release_sock(sk);
	if (unlikely(conn->broken))
		tcp_abort(sk, ECONNRESET);
	vmc_conn_put(conn);
	return ret;
}

static int vmc_tcp_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, int flags,
			   int *addr_len)
{
	struct vmc_conn *conn;
	int ret;

	vmc_jitter();
	if (flags & (MSG_OOB | MSG_ERRQUEUE))
		return vmc_base(sk)->recvmsg(sk, msg, len, flags, addr_len);
	conn = vmc_conn_get(sk);
	if (unlikely(!conn))
		return vmc_base(sk)->recvmsg(sk, msg, len, flags, addr_len);
	ret = vmc_rx_recv(conn, msg, len, flags, addr_len);
	vmc_conn_put(conn);
	if (unlikely(ret == VMC_NATIVE))
		return vmc_base(sk)->recvmsg(sk, msg, len, flags, addr_len);
	return ret;
}

#ifdef VMC_HAVE_SENDPAGE
static noinline int vmc_tcp_send_one(struct sock *sk, struct page *page, int offset,
				     size_t size, int flags)
{
	struct bio_vec bvec = { .bv_page = page, .bv_len = size, .bv_offset = offset };
	struct msghdr msg = { .msg_flags = flags };

	iov_iter_bvec(&msg.msg_iter, ITER_SOURCE, &bvec, 1, size);
	return vmc_tcp_sendmsg(sk, &msg, size);
}

static int vmc_tcp_sendpage(struct sock *sk, struct page *page, int offset, size_t size,
			    int flags)
{
	struct vmc_conn *conn = vmc_conn_get(sk);
	int ret;

	if (unlikely(!conn))
		return vmc_base(sk)->sendpage(sk, page, offset, size, flags);
	ret = vmc_tcp_send_one(sk, page, offset, size, flags);
	vmc_conn_put(conn);
	return ret;
}

static int vmc_rest_sendpage(struct sock *sk, struct page *page, int offset, size_t size,
			     int flags)
{
	if (unlikely(vmc_tx_rouses(sk, flags, size)))
		return vmc_tcp_sendpage(sk, page, offset, size, flags);
	return vmc_base(sk)->sendpage(sk, page, offset, size, flags);
}
#endif

/* A connection that has not earned anything: TCP's own call, which is only counted. */
static int vmc_rest_sendmsg(struct sock *sk, struct msghdr *msg, size_t size)
{
	if (unlikely(vmc_tx_rouses(sk, msg->msg_flags, size)))
		return vmc_tcp_sendmsg(sk, msg, size);
	vmc_jitter();
	return tcp_sendmsg(sk, msg, size);
}

static bool vmc_tcp_stream_memory_free(const struct sock *sk, int wake)
{
	bool local, ready = vmc_tx_writable(sk, &local);

	return local ? ready : vmc_base(sk)->stream_memory_free(sk, wake);
}

static bool vmc_tcp_sock_is_readable(struct sock *sk)
{
	return vmc_rx_readable(sk, sock_rcvlowat(sk, 0, INT_MAX));
}

static int vmc_tcp_ioctl(struct sock *sk, int cmd, vmc_ioctl_arg_t arg)
{
	struct vmc_conn *conn = NULL;
	int answer = -ENOENT;

	if (cmd == SIOCINQ || cmd == SIOCATMARK)
		conn = vmc_conn_get(sk);
	if (conn) {
		lock_sock(sk);
		if (cmd == SIOCINQ)
			answer = vmc_rx_inq(conn);
		else if (vmc_rx_pending(conn))
			answer = 0;	/* the mark comes after what the ring holds */
		release_sock(sk);
		vmc_conn_put(conn);
	}
	if (answer < 0)
		return vmc_base(sk)->ioctl(sk, cmd, arg);
	return vmc_ioctl_answer(arg, answer);
}

/* ------------------------------------------------------------- the end */

static void vmc_tcp_shutdown(struct sock *sk, int how)
{
	struct vmc_conn *conn = vmc_conn_get(sk);

	if (conn) {
		if (how & SEND_SHUTDOWN) {
			conn->tx_never = true;
			vmc_tx_end(conn, VMC_R_SHUTDOWN);
		}
		/* TCP has its own mind about what comes after this */
		if (how & RCV_SHUTDOWN)
			vmc_rx_close(conn);
		vmc_conn_put(conn);
	}
	vmc_base(sk)->shutdown(sk, how);
}

/* Nobody else uses the socket, or its lock is held: both directions end here. */
static u32 vmc_tcp_drop(struct sock *sk)
{
	struct vmc_conn *conn = vmc_conn_get(sk);
	u32 unread;

	if (!conn)
		return 0;
	conn->tx_never = true;
	vmc_tx_end(conn, VMC_R_SHUTDOWN);
	vmc_rx_close(conn);
	unread = vmc_rx_pending(conn);
	vmc_conn_detach(conn);
	vmc_conn_put(conn);
	return unread;
}

static void vmc_tcp_close(struct sock *sk, long timeout)
{
	lock_sock(sk);
	if (vmc_tcp_drop(sk)) {
		/* bytes that nobody will read: reset, as TCP does (RFC 2525, 2.17) */
		sock_set_flag(sk, SOCK_LINGER);
		sk->sk_lingertime = 0;
	}
	release_sock(sk);
	vmc_jitter();
	vmc_base(sk)->close(sk, timeout);
}

static int vmc_tcp_disconnect(struct sock *sk, int flags)
{
	vmc_tcp_drop(sk);
	return vmc_base(sk)->disconnect(sk, flags);
}

static void vmc_tcp_destroy(struct sock *sk)
{
	vmc_tcp_drop(sk);
	vmc_base(sk)->destroy(sk);
}

/* ------------------------------------------- others who want the socket */

/* Whether an option wants the socket, or TCP's queues, for itself. */
static enum vmc_reason vmc_tcp_claim(int level, int optname)
{
	if (level == SOL_TCP && (optname == TCP_ULP || optname == TCP_REPAIR))
		return VMC_R_FOREIGN_USER;
	if ((level == SOL_TCP && optname == TCP_INQ) ||
	    (level == SOL_IPV6 && optname == IPV6_ADDRFORM))
		return VMC_R_SOCKOPT;
	return VMC_R_NONE;
}

/* Not a tail call: the reference keeps the driver, and the socket from being taken again. */
static noinline int vmc_tcp_give(struct vmc_conn *conn, enum vmc_reason why, int level,
				 int optname, sockptr_t optval, unsigned int optlen)
{
	struct sock *sk = conn->sk;
	int err = vmc_conn_give(conn, why);

	if (!err)
		err = vmc_base(sk)->setsockopt(sk, level, optname, optval, optlen);
	vmc_conn_given(conn);
	return err;
}

static int vmc_tcp_setsockopt(struct sock *sk, int level, int optname, sockptr_t optval,
			      unsigned int optlen)
{
	enum vmc_reason why = vmc_tcp_claim(level, optname);
	struct vmc_conn *conn = why ? vmc_conn_get(sk) : NULL;

	if (conn)
		return vmc_tcp_give(conn, why, level, optname, optval, optlen);
	return vmc_base(sk)->setsockopt(sk, level, optname, optval, optlen);
}

static noinline int vmc_tcp_give_queue(struct vmc_conn *conn, int level, int optname,
				       char __user *optval, int __user *optlen)
{
	struct sock *sk = conn->sk;
	int err = vmc_conn_give(conn, VMC_R_SOCKOPT);

	if (!err)
		err = vmc_base(sk)->getsockopt(sk, level, optname, optval, optlen);
	vmc_conn_given(conn);
	return err;
}

static int vmc_tcp_getsockopt(struct sock *sk, int level, int optname,
			      char __user *optval, int __user *optlen)
{
	/* reads TCP's queue by itself */
	bool queue = level == SOL_TCP && optname == TCP_ZEROCOPY_RECEIVE;
	struct vmc_conn *conn = queue ? vmc_conn_get(sk) : NULL;

	if (conn)
		return vmc_tcp_give_queue(conn, level, optname, optval, optlen);
	return vmc_base(sk)->getsockopt(sk, level, optname, optval, optlen);
}

#ifdef CONFIG_BPF_SYSCALL
/*
 * sockmap wants the socket, which is locked, inside RCU: no sleeping. What it
 * remembers of the socket has to be TCP's own. After an error it comes to undo
 * (@restore) what was not done.
 */
static int vmc_tcp_psock_update(struct sock *sk, struct sk_psock *psock, bool restore)
{
	struct vmc_conn *conn;
	int err = 0;

	if (restore)
		return 0;
	conn = vmc_conn_get(sk);
	if (conn) {
		err = vmc_conn_let_go_now(conn, VMC_R_FOREIGN_USER);
		vmc_conn_put(conn);
	}
	if (err)
		return -EBUSY;
	psock->sk_proto = vmc_base(sk);
	psock->psock_update_sk_prot = vmc_base(sk)->psock_update_sk_prot;
	psock->saved_close = vmc_base(sk)->close;
	psock->saved_destroy = vmc_base(sk)->destroy;
	psock->saved_unhash = vmc_base(sk)->unhash;
	return vmc_base(sk)->psock_update_sk_prot(sk, psock, false);
}
#endif

/* ------------------------------------------------------ socket operations */

/* Reads through recvmsg, which knows both ways. */
static ssize_t vmc_splice_read(struct socket *sock, loff_t *ppos,
			       struct pipe_inode_info *pipe, size_t len, unsigned int flags)
{
	struct file *file = sock->file;

	if (unlikely(*ppos))
		return -ESPIPE;
	return vmc_splice_read_by_copy(file, ppos, pipe, len, flags);
}

/*
 * SO_RCVLOWAT, with the socket locked, maybe by a BPF program: TCP wakes nobody
 * for bytes that are too few by themselves, so the two queues become one.
 */
static int vmc_set_rcvlowat(struct sock *sk, int val)
{
	struct vmc_conn *conn = val > 1 ? vmc_conn_get(sk) : NULL;
	int err = -EAGAIN;

	if (conn) {
		vmc_rx_close(conn);
		if (!in_softirq() && mutex_trylock(&conn->rx_mutex)) {
			err = vmc_rx_to_tcp(conn, GFP_ATOMIC);
			mutex_unlock(&conn->rx_mutex);
		}
		if (err && rcu_access_pointer(conn->rx))
			vmc_conn_leave(conn, VMC_R_SOCKOPT);
		vmc_conn_put(conn);
	}
	return inet_stream_ops.set_rcvlowat(sk, val);
}

/*
 * Someone in the kernel reads TCP's queue, with the socket locked: what is in the
 * ring goes there first. If that takes a moment he is told when it is done.
 */
static int vmc_read_sock(struct sock *sk, read_descriptor_t *desc, sk_read_actor_t actor)
{
	struct vmc_conn *conn = vmc_conn_get(sk);
	int err = 0;

	if (conn) {
		err = vmc_conn_let_go_now(conn, VMC_R_FOREIGN_USER);
		vmc_conn_put(conn);
	}
	return err ? 0 : inet_stream_ops.read_sock(sk, desc, actor);
}

/* The derived table for @base; NULL if it is none that we know. */
const struct proto_ops *vmc_ops_for(const struct proto_ops *base)
{
	bool v6 = base->family == AF_INET6;

	if (base == &vmc_ops[v6])
		return base;
	if (!vmc_ops_orig[v6]) {
		spin_lock_bh(&vmc_ops_lock);
		if (!vmc_ops_orig[v6] && base->poll == inet_stream_ops.poll &&
		    base->splice_read == inet_stream_ops.splice_read) {
			vmc_ops[v6] = *base;
			vmc_ops[v6].splice_read = vmc_splice_read;
			vmc_ops[v6].set_rcvlowat = vmc_set_rcvlowat;
			vmc_ops[v6].read_sock = vmc_read_sock;
			/* pairs with the acquire below: the copy is complete */
			smp_store_release(&vmc_ops_orig[v6], base);
		}
		spin_unlock_bh(&vmc_ops_lock);
	}
	/* pairs with the release above */
	return base == smp_load_acquire(&vmc_ops_orig[v6]) ? &vmc_ops[v6] : NULL;
}

const struct proto_ops *vmc_ops_base(const struct proto_ops *ops)
{
	if (ops == &vmc_ops[0] || ops == &vmc_ops[1])
		return vmc_ops_orig[ops == &vmc_ops[1]];
	return ops;
}

static void vmc_derive_rest(struct proto *p, const struct proto *base)
{
	*p = *base;
	p->sendmsg = vmc_rest_sendmsg;
#ifdef VMC_HAVE_SENDPAGE
	p->sendpage = vmc_rest_sendpage;
#endif
	p->close = vmc_tcp_close;
	p->disconnect = vmc_tcp_disconnect;
	p->destroy = vmc_tcp_destroy;
	p->setsockopt = vmc_tcp_setsockopt;
	p->getsockopt = vmc_tcp_getsockopt;
#ifdef CONFIG_BPF_SYSCALL
	p->psock_update_sk_prot = vmc_tcp_psock_update;
#endif
}

static void vmc_derive(struct proto *p, const struct proto *rest)
{
	*p = *rest;
	p->sendmsg = vmc_tcp_sendmsg;
	p->recvmsg = vmc_tcp_recvmsg;
#ifdef VMC_HAVE_SENDPAGE
	p->sendpage = vmc_tcp_sendpage;
#endif
	p->stream_memory_free = vmc_tcp_stream_memory_free;
	p->sock_is_readable = vmc_tcp_sock_is_readable;
	p->ioctl = vmc_tcp_ioctl;
	p->shutdown = vmc_tcp_shutdown;
}

void vmc_tcp_init(void)
{
	vmc_derive_rest(&vmc_rest_prots[0], &tcp_prot);
	vmc_derive_rest(&vmc_rest_prots[1], &tcpv6_prot);
	vmc_derive(&vmc_prots[0], &vmc_rest_prots[0]);
	vmc_derive(&vmc_prots[1], &vmc_rest_prots[1]);
}
