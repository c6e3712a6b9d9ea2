// SPDX-License-Identifier: GPL-2.0-or-later
/* Commands that send, and those that send or receive many at once. */
#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bulk.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT	103
#endif
#define MANY		64
#define MANY_SIZE	2048
#define NUMBERS		4096

static ssize_t send_to(const struct slot *s, uint8_t *data, size_t size, int flags, bool to,
		       uint16_t gso)
{
	char control[CMSG_SPACE(sizeof(gso))] __attribute__((aligned(16))) = { 0 };
	union address peer = s->peer;
	struct iovec iov = { data, size };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (to) {
		m.msg_name = &peer;
		m.msg_namelen = s->peer_size;
	}
	if (gso) {
		struct cmsghdr *c = (void *)control;

		m.msg_control = control;
		m.msg_controllen = sizeof(control);
		c->cmsg_level = SOL_UDP;
		c->cmsg_type = UDP_SEGMENT;
		c->cmsg_len = CMSG_LEN(sizeof(gso));
		memcpy(CMSG_DATA(c), &gso, sizeof(gso));
	}
	if (broken == CORRUPT && size)
		data[size / 2] ^= 4;
	if (broken == DUPLICATE)
		sendmsg(s->fd, &m, flags);
	return sendmsg(s->fd, &m, flags);
}

static void tell(char *reply, ssize_t result)
{
	if (result < 0)
		strcpy(reply, errno_text(errno));
	else
		snprintf(reply, REPLY_SIZE, "%zd", result);
}

/* size= off= seed= flags= to=1 (the peer, not connected) gso= */
void do_send(struct slot *s, const char *line, char *reply)
{
	static uint8_t data[MAX_DGRAM];
	size_t size = (size_t)arg(line, "size", 100);

	fill(data, size, (size_t)arg(line, "off", 0), (unsigned long)arg(line, "seed", 0));
	tell(reply, send_to(s, data, size, (int)arg(line, "flags", 0), arg(line, "to", 0),
			    (uint16_t)arg(line, "gso", 0)));
}

static uint8_t many_data[MANY][MANY_SIZE];

static unsigned int prepare(const char *line, struct mmsghdr *m, struct iovec *iov)
{
	unsigned int n = (unsigned int)arg(line, "n", 1);

	if (n > MANY)
		n = MANY;
	memset(m, 0, n * sizeof(*m));
	for (unsigned int i = 0; i < n; i++) {
		iov[i].iov_base = many_data[i];
		iov[i].iov_len = MANY_SIZE;
		m[i].msg_hdr.msg_iov = &iov[i];
		m[i].msg_hdr.msg_iovlen = 1;
	}
	return n;
}

/* n= size= seed= step=: sendmmsg of n, each step bytes bigger and of the next seed */
void do_sendmm(struct slot *s, const char *line, char *reply)
{
	struct mmsghdr m[MANY];
	struct iovec iov[MANY];
	unsigned int n = prepare(line, m, iov);

	for (unsigned int i = 0; i < n; i++) {
		iov[i].iov_len = (size_t)(arg(line, "size", 100) + (long)i * arg(line, "step", 1));
		fill(many_data[i], iov[i].iov_len, 0, (unsigned long)arg(line, "seed", 0) + i);
		if (broken == CORRUPT)
			many_data[i][0] ^= 4;
	}
	tell(reply, sendmmsg(s->fd, m, n, (int)arg(line, "flags", 0)));
}

void do_recvmm(struct slot *s, const char *line, char *reply)
{
	struct mmsghdr m[MANY];
	struct iovec iov[MANY];
	unsigned int n = prepare(line, m, iov);
	int got = recvmmsg(s->fd, m, n, (int)arg(line, "flags", 0), NULL);
	bool right = true;

	if (got < 0) {
		tell(reply, -1);
		return;
	}
	for (unsigned int i = 0; i < (unsigned int)got; i++) {
		size_t size = (size_t)(arg(line, "size", 100) + (long)i * arg(line, "step", 1));

		if (m[i].msg_len != size ||
		    !filled(many_data[i], size, 0, (unsigned long)arg(line, "seed", 0) + i))
			right = false;
	}
	snprintf(reply, REPLY_SIZE, "%d content=%s", got, right ? "ok" : "wrong");
}

static ssize_t send_numbered(const struct slot *s, uint32_t number, size_t size, bool to)
{
	uint8_t data[MANY_SIZE];

	if (size > sizeof(data))
		size = sizeof(data);
	fill_numbered(data, size, number);
	return send_to(s, data, size, 0, to, 0);
}

/* n= base= size= to=1: numbered datagrams; answers how many were taken */
void do_burst(struct slot *s, const char *line, char *reply)
{
	long n = arg(line, "n", 1), sent = 0, base = arg(line, "base", 0);

	for (long i = 0; i < n; i++)
		sent += send_numbered(s, (uint32_t)(base + i), (size_t)arg(line, "size", 100),
				      arg(line, "to", 0)) >= 0;
	snprintf(reply, REPLY_SIZE, "%ld", sent);
}

struct one_of_crowd {
	const struct slot *s;
	pthread_t thread;
	uint32_t base, n, sent;
};

static void *crowd_thread(void *data)
{
	struct one_of_crowd *me = data;

	for (uint32_t i = 0; i < me->n; i++)
		me->sent += send_numbered(me->s, me->base + i, 64 + me->base % 1000, false) >= 0;
	return NULL;
}

/* threads= n= base=: n numbered datagrams, by so many threads at once */
void do_crowd(struct slot *s, const char *line, char *reply)
{
	struct one_of_crowd crowd[16];
	long threads = arg(line, "threads", 8);
	uint32_t n = (uint32_t)(arg(line, "n", 16) / threads), sent = 0;
	long started = 0;

	for (; started < threads && started < 16; started++) {
		crowd[started].s = s;
		crowd[started].base = (uint32_t)arg(line, "base", 0) + (uint32_t)started * n;
		crowd[started].n = n;
		crowd[started].sent = 0;
		if (pthread_create(&crowd[started].thread, NULL, crowd_thread, &crowd[started]))
			break;
	}
	for (long i = 0; i < started; i++) {
		pthread_join(crowd[i].thread, NULL);
		sent += crowd[i].sent;
	}
	snprintf(reply, REPLY_SIZE, "%u", sent);
}

/*
 * slots= n= base= wait= quiet=: receives numbered datagrams by this slot and the next
 * ones until it has n and it was quiet for quiet= ms, or none came for wait= ms.
 */
void collect(struct slot *s, const char *line, char *reply)
{
	static uint8_t data[MAX_DGRAM], seen[NUMBERS];
	long slots = arg(line, "slots", 1), n = arg(line, "n", 1), got = 0, distinct = 0, bad = 0;
	long base = arg(line, "base", 0), wait = arg(line, "wait", WAIT_MS), next = base;
	long by = -1, quiet = arg(line, "quiet", 0);
	struct pollfd p[SLOTS];
	bool order = true;

	memset(seen, 0, sizeof(seen));
	for (long i = 0; i < slots; i++)
		p[i] = (struct pollfd){ .fd = s[i].fd, .events = POLLIN };
	while (got < n || quiet) {
		if (poll(p, (nfds_t)slots, (int)(got < n ? wait : quiet)) <= 0)
			break;
		for (long i = 0; i < slots; i++) {
			uint32_t number;
			ssize_t size;

			if (!p[i].revents)
				continue;
			size = recv(p[i].fd, data, sizeof(data), MSG_DONTWAIT);
			if (size < 0)
				continue;
			got++;
			by = by == -1 || by == i ? i : -2;
			if (!filled_numbered(data, (size_t)size, &number) || number < base ||
			    number - base >= NUMBERS) {
				bad++;
				continue;
			}
			distinct += !seen[number - base];
			seen[number - base] = 1;
			order = order && number == next;
			next = (long)number + 1;
		}
	}
	snprintf(reply, REPLY_SIZE, "got=%ld distinct=%ld bad=%ld order=%s by=%ld", got, distinct,
		 bad, order ? "yes" : "no", by);
}

static uint16_t checksum(const uint8_t *data, size_t n)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < n; i += 2)
		sum += (uint32_t)data[i] << 8 | (i + 1 < n ? data[i + 1] : 0);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

/* size= seed=: echo request, and its answer, by a raw socket */
void do_ping(struct slot *s, const char *line, char *reply)
{
	static uint8_t data[MAX_DGRAM];
	size_t size = 8 + (size_t)arg(line, "size", 56), skip;
	unsigned long seed = (unsigned long)arg(line, "seed", 0);
	struct icmphdr h = { .type = s->family == '4' ? ICMP_ECHO : ICMP6_ECHO_REQUEST };
	uint8_t answer = s->family == '4' ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY;
	int64_t end = now_ms() + WAIT_MS, left;
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	ssize_t got;

	h.un.echo.id = htons((uint16_t)getpid());
	h.un.echo.sequence = htons((uint16_t)seed);
	memcpy(data, &h, 8);
	fill(data + 8, size - 8, 0, seed);
	h.checksum = checksum(data, size);
	if (s->family == '4')
		memcpy(data, &h, 8);
	if (send_to(s, data, size, 0, true, 0) < 0) {
		tell(reply, -1);
		return;
	}
	while ((left = end - now_ms()) > 0 && poll(&p, 1, (int)left) > 0) {
		got = recv(s->fd, data, sizeof(data), MSG_DONTWAIT);
		skip = s->family == '4' ? (data[0] & 15u) * 4 : 0;
		if (got < (ssize_t)(skip + 8) || data[skip] != answer ||
		    memcmp(data + skip + 4, &h.un.echo, 4))
			continue;
		snprintf(reply, REPLY_SIZE, "%zd content=%s", got - (ssize_t)skip - 8,
			 filled(data + skip + 8, (size_t)got - skip - 8, 0, seed) ? "ok" : "wrong");
		return;
	}
	strcpy(reply, "no answer");
}
