// SPDX-License-Identifier: GPL-2.0-or-later
/* vmc-claim: TCP's own means that want its queues for themselves. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/filter.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>

#include "claim.h"

#ifndef TCP_INQ
#define TCP_INQ		36
#endif

static void set(struct side *s, int option, int value)
{
	if (setsockopt(s->fd, IPPROTO_TCP, option, &value, sizeof(value))) {
		if (errno == EPERM)
			skip(s, "TCP option %d: %m", option);
		fail(s, "TCP option %d: %m", option);
	}
}

/* What a checkpoint saves of a connection: the unread bytes, all of them and nothing else. */
void test_repair(struct side *s)
{
	unsigned char buf[IN_FLIGHT + 1];
	uint32_t before, after;
	socklen_t len = sizeof(before);
	struct watched w;
	int unread = 0;

	ready(s, "foreign-user");
	set(s, TCP_REPAIR, 1);
	expect_gone(s, "foreign-user");
	meet(s, 0);
	set(s, TCP_REPAIR_QUEUE, 1);	/* TCP_RECV_QUEUE */
	if (getsockopt(s->fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &before, &len))
		fail(s, "TCP_QUEUE_SEQ: %m");
	if (ioctl(s->fd, SIOCINQ, &unread) || unread != IN_FLIGHT)
		fail(s, "SIOCINQ: %d", unread);
	if (recv(s->fd, buf, sizeof(buf), MSG_PEEK | MSG_DONTWAIT) != IN_FLIGHT)
		fail(s, "not all bytes are in the queue");
	if (content_check(s->rx_key, s->rx_pos, buf, IN_FLIGHT) < IN_FLIGHT)
		fail(s, "wrong bytes in the queue");
	set(s, TCP_REPAIR_QUEUE, 0);
	set(s, TCP_REPAIR, 0);
	recv_some(s, IN_FLIGHT);
	meet(s, 0);
	flow(s, 200000);
	meet(s, 0);
	/* the sequence number counts on from there */
	set(s, TCP_REPAIR, 1);
	set(s, TCP_REPAIR_QUEUE, 1);
	if (getsockopt(s->fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &after, &len))
		fail(s, "TCP_QUEUE_SEQ: %m");
	set(s, TCP_REPAIR_QUEUE, 0);
	set(s, TCP_REPAIR, 0);
	if (!watched(s, &w) && after - before != 200000)	/* the driver may have found it anew */
		fail(s, "%u bytes by the sequence numbers", after - before);
}

void test_inq(struct side *s)
{
	ready(s, "sockopt");
	set(s, TCP_INQ, 1);
	expect_gone(s, "sockopt");
	recv_some(s, IN_FLIGHT);
	flow(s, 200000);
}

void test_filter(struct side *s)
{
	struct sock_filter all = { BPF_RET | BPF_K, 0, 0, 0xffffffff };
	struct sock_fprog prog = { 1, &all };

	ready(s, "sockopt");
	if (setsockopt(s->fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)))
		fail(s, "SO_ATTACH_FILTER: %m");
	meet(s, 0);
	recv_some(s, IN_FLIGHT);
	flow(s, 300000);
	meet(s, 0);
	expect_remote(s, "sockopt");
}

/* As `ss -K` does it. */
static void destroy(struct side *s)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 r;
	} req = {
		.h = { sizeof(req), SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK, 1, 0 },
		.r = { .sdiag_protocol = IPPROTO_TCP, .idiag_states = ~0u },
	};
	struct {
		struct nlmsghdr h;
		struct nlmsgerr e;
		char more[200];
	} ack;
	struct sockaddr_storage near;
	socklen_t len = sizeof(near);
	int nl = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

	if (getsockname(s->fd, (struct sockaddr *)&near, &len))
		fail(s, "getsockname: %m");
	req.r.sdiag_family = (uint8_t)near.ss_family;
	req.r.id.idiag_cookie[0] = INET_DIAG_NOCOOKIE;
	req.r.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	if (near.ss_family == AF_INET6) {
		const struct sockaddr_in6 *a = (struct sockaddr_in6 *)&near, *b = (struct sockaddr_in6 *)&s->far;

		req.r.id.idiag_sport = a->sin6_port;
		req.r.id.idiag_dport = b->sin6_port;
		memcpy(req.r.id.idiag_src, &a->sin6_addr, 16);
		memcpy(req.r.id.idiag_dst, &b->sin6_addr, 16);
	} else {
		const struct sockaddr_in *a = (struct sockaddr_in *)&near, *b = (struct sockaddr_in *)&s->far;

		req.r.id.idiag_sport = a->sin_port;
		req.r.id.idiag_dport = b->sin_port;
		memcpy(req.r.id.idiag_src, &a->sin_addr, 4);
		memcpy(req.r.id.idiag_dst, &b->sin_addr, 4);
	}
	if (nl < 0 || send(nl, &req, sizeof(req), 0) != (ssize_t)sizeof(req) ||
	    recv(nl, &ack, sizeof(ack), 0) < (ssize_t)(sizeof(ack.h) + sizeof(ack.e)))
		skip(s, "SOCK_DESTROY: %m");
	close(nl);
	errno = -ack.e.error;
	if (errno == EPERM || errno == EOPNOTSUPP || errno == ENOENT)
		skip(s, "SOCK_DESTROY: %m");
	if (errno)
		fail(s, "SOCK_DESTROY: %m");
}

/* What the kernel tells of sockets tells of this one, too. */
static void shown(struct side *s)
{
	char command[100];
	struct sockaddr_in near;
	socklen_t len = sizeof(near);

	/* the port stands at the same place in IPv6's */
	getsockname(s->fd, (struct sockaddr *)&near, &len);
	snprintf(command, sizeof(command), "ss -Htinm sport = :%u | grep -q 'skmem:.* bytes_sent:'",
		 ntohs(near.sin_port));
	if (s->local && system(command))
		fail(s, "%s", command);
}

/* What had arrived can be read, then both ends see their error once, then the end. */
void test_destroy(struct side *s)
{
	struct pollfd p = { s->fd, POLLIN | POLLOUT, 0 };
	int want = s->opener ? ECONNABORTED : ECONNRESET;
	char byte;

	ready(s, "shutdown");
	shown(s);
	meet(s, 0);
	if (s->opener)
		destroy(s);
	meet(s, 0);
	p.events = 0;
	if (poll(&p, 1, 5000) != 1 || (p.revents & (POLLERR | POLLHUP)) != (POLLERR | POLLHUP))
		fail(s, "poll says %x", (unsigned int)p.revents);
	recv_some(s, IN_FLIGHT);
	if (recv(s->fd, &byte, 1, 0) != -1 || errno != want)
		fail(s, "recv: %m, not %s", strerror(want));
	if (recv(s->fd, &byte, 1, 0) != 0)
		fail(s, "recv: %m, not the end");
	if (send(s->fd, &byte, 1, MSG_NOSIGNAL) != -1 || errno != EPIPE)
		fail(s, "send: %m, not EPIPE");
}

/* Who opened it can't be told, so its proofs don't match: it stays with TCP. */
void test_crossed(struct side *s)
{
	unsigned int i;

	s->reason = driver_says(s, "reason proof");
	for (i = 0; i < 20; i++) {
		send_some(s, 1000);
		recv_some(s, 1000);
	}
	flow(s, 200000);
	meet(s, 0);
	expect_remote(s, "proof");
}
