// SPDX-License-Identifier: GPL-2.0-or-later
/* The far end: a process for each run. */
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "flow.h"

#define QUIET_MS	1000	/* after the last, the network may still have some */
#define BATCH		32

struct seen {
	uint8_t *bits;		/* by sequence number */
	size_t size;
	uint32_t next;		/* above the highest so far */
};

static int udp_socket(unsigned int kind, uint32_t *port)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6 };
	socklen_t len = sizeof(a);
	int s = socket(AF_INET6, SOCK_DGRAM, 0), zero = 0, size = 4 << 20;

	if (s < 0 || setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero)) ||
	    bind(s, (struct sockaddr *)&a, len) || getsockname(s, (struct sockaddr *)&a, &len))
		err(1, "a UDP socket");
	/* what is lost in a flow is to be lost on the way */
	if (kind == KIND_FLOW)
		setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	*port = ntohs(a.sin6_port);
	return s;
}

static void count(struct seen *flows, const unsigned char *buf, size_t len, uint32_t run,
		  struct report *r)
{
	struct seen *f;
	struct head h;

	if (!is_right(buf, len)) {
		r->corrupt++;
		return;
	}
	memcpy(&h, buf, sizeof(h));
	if (h.run != run)	/* of a run before */
		return;
	f = &flows[h.flow];
	if (h.seq / 8 >= f->size) {
		size_t size = (h.seq / 8 + 4096) * 2;

		f->bits = realloc(f->bits, size);
		if (!f->bits)
			err(1, "memory");
		memset(f->bits + f->size, 0, size - f->size);
		f->size = size;
	}
	r->received++;
	r->bytes += len;
	if (f->bits[h.seq / 8] & 1 << h.seq % 8) {
		r->duplicated++;
		return;
	}
	f->bits[h.seq / 8] |= (uint8_t)(1 << h.seq % 8);
	if (h.seq < f->next)
		r->reordered++;
	else
		f->next = h.seq + 1;
}

static int receive(int s, unsigned char (*buf)[DATAGRAM_MAX + 1], size_t *len)
{
	struct mmsghdr m[BATCH] = { 0 };
	struct iovec iov[BATCH];
	int n, i;

	for (i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){ buf[i], sizeof(buf[i]) };
		m[i].msg_hdr.msg_iov = &iov[i];
		m[i].msg_hdr.msg_iovlen = 1;
	}
	n = recvmmsg(s, m, BATCH, MSG_DONTWAIT, NULL);
	for (i = 0; i < n; i++)
		len[i] = m[i].msg_len;
	return n;
}

/* The far end's faults, so that it can be seen that they are found. */
static void spoil(const char *how, unsigned char (*buf)[DATAGRAM_MAX + 1], size_t *len, int *n)
{
	static unsigned int nth;

	if (!how || ++nth % 20 || *n < 1 || *n == BATCH)
		return;
	if (!strcmp(how, "corrupt")) {
		buf[0][len[0] - 1] ^= 1;
	} else if (!strcmp(how, "duplicate")) {
		memcpy(buf[*n], buf[0], len[0]);
		len[*n] = len[0];
		++*n;
	} else if (!strcmp(how, "lose")) {
		--*n;
	} else if (!strcmp(how, "reorder")) {
		static unsigned char held[DATAGRAM_MAX + 1];
		static size_t held_len;

		if (held_len) {
			memcpy(buf[*n], held, held_len);
			len[(*n)++] = held_len;
			held_len = 0;
		} else {
			memcpy(held, buf[*n - 1], len[*n - 1]);
			held_len = len[--*n];
		}
	}
}

static void count_all(int control, int s, const struct ask *a, const char *broken)
{
	static unsigned char buf[BATCH][DATAGRAM_MAX + 1];
	static struct seen flows[FLOWS_MAX];
	struct pollfd p[2] = { { .fd = s, .events = POLLIN }, { .fd = control, .events = POLLIN } };
	uint64_t first = 0, last = 0;
	struct report r = { 0 };
	size_t len[BATCH];
	bool over = false;
	struct end end;
	int n, i;

	for (;;) {
		n = poll(p, over ? 1 : 2, over ? QUIET_MS : -1);
		if (n < 0)
			err(1, "poll");
		if (!n)
			break;
		if (p[0].revents) {
			n = receive(s, buf, len);
			last = now_ns();
			if (!first)
				first = last;
			spoil(broken, buf, len, &n);
			for (i = 0; i < n; i++) {
				if (a->kind == KIND_FLOW) {
					count(flows, buf[i], len[i], a->run, &r);
				} else {
					/* content would cost what is to be measured */
					struct head h;

					memcpy(&h, buf[i], sizeof(h));
					r.received++;
					r.bytes += len[i];
					if (h.flow < FLOWS_MAX && h.seq < flows[h.flow].next)
						r.reordered++;
					else if (h.flow < FLOWS_MAX)
						flows[h.flow].next = h.seq + 1;
				}
			}
			continue;
		}
		if (!over && p[1].revents) {
			read_all(control, &end, sizeof(end));
			over = true;
		}
	}
	r.ns = last - first;
	write_all(control, &r, sizeof(r));
}

static void echo(int control, int s)
{
	static unsigned char buf[DATAGRAM_MAX + 1];
	struct sockaddr_in6 from;
	socklen_t len;
	ssize_t n;

	/* it waits in recvfrom(), as servers do: a signal ends it when the near end has gone */
	signal(SIGIO, SIG_DFL);
	if (fcntl(control, F_SETOWN, getpid()) || fcntl(control, F_SETFL, O_ASYNC))
		err(1, "fcntl");
	for (;;) {
		len = sizeof(from);
		n = recvfrom(s, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len);
		if (n >= 0)
			sendto(s, buf, (size_t)n, 0, (struct sockaddr *)&from, len);
	}
}

static void serve_one(int control, const struct options *o)
{
	struct answer answer;
	struct ask a;
	int s;

	read_all(control, &a, sizeof(a));
	s = udp_socket(a.kind, &answer.port);
	write_all(control, &answer, sizeof(answer));
	if (a.kind == KIND_ECHO)
		echo(control, s);
	else
		count_all(control, s, &a, o->broken);
}

int far_serve(const struct options *o)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)o->port) };
	int s = socket(AF_INET6, SOCK_STREAM, 0), one = 1, zero = 0, c;

	if (s < 0 || setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero)) ||
	    bind(s, (struct sockaddr *)&a, sizeof(a)) || listen(s, 64))
		err(1, "listening on port %u", o->port);
	if (o->background && daemon(1, 0))
		err(1, "going to the background");
	signal(SIGCHLD, SIG_IGN);
	while ((c = accept(s, NULL, NULL)) >= 0) {
		switch (fork()) {
		case -1:
			err(1, "fork");
		case 0:
			close(s);
			serve_one(c, o);
			_exit(0);
		default:
			close(c);
		}
	}
	err(1, "accept");
}
