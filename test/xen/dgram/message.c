// SPDX-License-Identifier: GPL-2.0-or-later
/* Receiving a message, and telling it in words that do not vary from path to path. */
#include <errno.h>
#include <time.h>	/* the next one needs it */
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dgram.h"

#ifndef UDP_GRO
#define UDP_GRO		104
#endif
#define MAX_ERRORS	16

static void add(char *reply, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(char *reply, const char *format, ...)
{
	size_t n = strlen(reply);
	va_list args;

	va_start(args, format);
	vsnprintf(reply + n, REPLY_SIZE - n, format, args);
	va_end(args);
}

static bool is_now(time_t seconds)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return seconds > now.tv_sec - 60 && seconds < now.tv_sec + 60;
}

static const char *who(const union address *from, socklen_t n, const union address *other,
		       const union address *peer)
{
	if (!n)
		return "none";
	if (!same_host(from, other))
		return "wrong-host";
	return port_of(from) == port_of(peer) ? "peer" : "wrong-port";
}

/* "self:ifname", with the name of the interface, or what is wrong with it */
static void add_pktinfo(char *reply, const union address *to, unsigned int ifindex,
			const union address *self)
{
	char name[IF_NAMESIZE];
	bool group = to->any.sa_family == AF_INET ?
		     IN_MULTICAST(ntohl(to->v4.sin_addr.s_addr)) :
		     IN6_IS_ADDR_MULTICAST(&to->v6.sin6_addr);

	add(reply, " to=%s:%s", same_host(to, self) ? "self" : group ? "group" : "wrong",
	    if_indextoname(ifindex, name) ? name : "?");
}

static void add_cmsg(char *reply, const struct cmsghdr *c, const union address *self)
{
	const void *data = CMSG_DATA(c);
	int value;

	if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_PKTINFO) {
		const struct in_pktinfo *info = data;
		union address to = { .v4 = { .sin_family = AF_INET, .sin_addr = info->ipi_addr } };

		add_pktinfo(reply, &to, (unsigned int)info->ipi_ifindex, self);
		return;
	}
	if (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
		const struct in6_pktinfo *info = data;
		union address to = { .v6 = { .sin6_family = AF_INET6,
					     .sin6_addr = info->ipi6_addr } };

		add_pktinfo(reply, &to, info->ipi6_ifindex, self);
		return;
	}
	if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMP) {
		const struct timeval *t = data;

		add(reply, " timestamp=%s", is_now(t->tv_sec) ? "now" : "wrong");
		return;
	}
	if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
		const struct timespec *t = data;

		add(reply, " timestampns=%s", is_now(t->tv_sec) ? "now" : "wrong");
		return;
	}
	if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPING) {
		const struct scm_timestamping *t = data;

		add(reply, " timestamping=%s", is_now(t->ts[0].tv_sec) ? "now" : "wrong");
		return;
	}
	if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_TOS) {
		add(reply, " tos=%d", *(const uint8_t *)data);
		return;
	}
	memcpy(&value, data, sizeof(value));
	if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_TTL)
		add(reply, " ttl=%d", value);
	else if (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_HOPLIMIT)
		add(reply, " hoplimit=%d", value);
	else if (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_TCLASS)
		add(reply, " tclass=%d", value);
	else if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO)
		add(reply, " gro=%d", value);
	else
		add(reply, " cmsg=%d/%d", c->cmsg_level, c->cmsg_type);
}

void recv_one(int fd, const char *line, const union address *self, const union address *other,
	      const union address *peer, char *reply)
{
	static uint8_t data[MAX_DGRAM];
	size_t size = (size_t)arg(line, "buf", MAX_DGRAM);
	long seed = arg(line, "seed", -1), flags = arg(line, "flags", 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char control[1024] __attribute__((aligned(16)));
	union address from;
	struct iovec iov = { data, size };
	struct msghdr m = { .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov,
			    .msg_iovlen = 1, .msg_control = control,
			    .msg_controllen = broken == DROP_CMSG ? 0 : sizeof(control) };
	int wait = (int)arg(line, "wait", WAIT_MS);
	size_t n;
	ssize_t got;

	if (wait && poll(&p, 1, wait) <= 0) {
		strcpy(reply, "nothing");
		return;
	}
	got = recvmsg(fd, &m, (int)flags);
	if (got < 0) {
		strcpy(reply, errno_text(errno));
		return;
	}
	n = (size_t)got < size ? (size_t)got : size;
	snprintf(reply, REPLY_SIZE, "%zd from=%s", got, who(&from, m.msg_namelen, other, peer));
	if (seed >= 0)
		add(reply, " content=%s", filled(data, n, (size_t)arg(line, "off", 0),
						 (unsigned long)seed) ? "ok" : "wrong");
	if (m.msg_flags & MSG_TRUNC)
		add(reply, " truncated");
	if (m.msg_flags & MSG_CTRUNC && broken != DROP_CMSG)
		add(reply, " control-truncated");
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		add_cmsg(reply, c, self);
}

static void tell_error(const struct msghdr *m, const struct sock_extended_err *e, int64_t stamp,
		       const union address *self, const union address *other, char *text)
{
	const union address *offender = (const void *)SO_EE_OFFENDER(e);
	const char *by = "none";

	switch (e->ee_origin) {
	case SO_EE_ORIGIN_TIMESTAMPING:
		snprintf(text, 128, "%s id=%u %s", e->ee_info == SCM_TSTAMP_SCHED ? "scheduled" :
			 e->ee_info == SCM_TSTAMP_SND ? "sent" : "stamped", e->ee_data,
			 is_now((time_t)stamp) ? "now" : "wrong");
		return;
	case SO_EE_ORIGIN_ZEROCOPY:
		/* whether it was copied after all is up to the path */
		snprintf(text, 128, "zerocopy %u-%u errno=%u", e->ee_info, e->ee_data, e->ee_errno);
		return;
	case SO_EE_ORIGIN_LOCAL:
		snprintf(text, 128, "local %s info=%u", errno_text((int)e->ee_errno), e->ee_info);
		return;
	}
	if (offender->any.sa_family == AF_INET || offender->any.sa_family == AF_INET6)
		by = same_host(offender, other) ? "other" :
		     same_host(offender, self) ? "self" : "stranger";
	snprintf(text, 128, "origin=%u type=%u code=%u %s offender=%s%s", e->ee_origin, e->ee_type,
		 e->ee_code, errno_text((int)e->ee_errno), by,
		 m->msg_flags & MSG_ERRQUEUE ? "" : " no-flag");
}

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* n=: so many messages of the error queue, or fewer after wait= ms; told in order of text */
void recv_errors(int fd, const char *line, const union address *self, const union address *other,
		 char *reply)
{
	static char texts[MAX_ERRORS][192];
	static uint8_t data[MAX_DGRAM];
	long n = arg(line, "n", 1), seed = arg(line, "seed", -1), count = 0;
	int64_t end = now_ms() + arg(line, "wait", WAIT_MS);

	while (count < n && count < MAX_ERRORS) {
		struct pollfd p = { .fd = fd };
		char control[1024] __attribute__((aligned(16)));
		union address from;
		struct iovec iov = { data, sizeof(data) };
		struct msghdr m = { .msg_name = &from, .msg_namelen = sizeof(from),
				    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
				    .msg_controllen = sizeof(control) };
		const struct sock_extended_err *e = NULL;
		int64_t left = end - now_ms(), stamp = 0;
		ssize_t got;

		if (poll(&p, 1, left > 0 ? (int)left : 0) <= 0)
			break;
		got = recvmsg(fd, &m, MSG_ERRQUEUE);
		if (got < 0) {
			if (left <= 0)
				break;
			/* an error of the socket, but no message yet: SO_ERROR is left to say */
			poll(NULL, 0, 10);
			continue;
		}
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
			if ((c->cmsg_level == SOL_IP && c->cmsg_type == IP_RECVERR) ||
			    (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_RECVERR))
				e = (const void *)CMSG_DATA(c);
			else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPING)
				stamp = ((const struct scm_timestamping *)(const void *)
					 CMSG_DATA(c))->ts[0].tv_sec;
		}
		if (!e) {
			strcpy(texts[count++], "no-error");
			continue;
		}
		tell_error(&m, e, stamp, self, other, texts[count]);
		if (seed >= 0)
			strcat(texts[count], filled(data, (size_t)got, 0, (unsigned long)seed) ?
			       " content=ok" : " content=wrong");
		if (got && arg(line, "bytes", 0))
			sprintf(strchr(texts[count], 0), " bytes=%zd", got);
		count++;
	}
	qsort(texts, (size_t)count, sizeof(texts[0]), by_text);
	strcpy(reply, count ? "" : "nothing");
	for (long i = 0; i < count; i++)
		add(reply, "%s%s", i ? ", " : "", texts[i]);
}
