// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Either end: sockets in numbered slots, and the commands that use them. A command is
 * a line `NAME SLOT key=value...`, answered by a line: a number or the name of an error,
 * then what there is to say.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bulk.h"

static struct slot slots[SLOTS];
static union address self, other;

/* A v4-mapped address as the IPv4 address it stands for. */
static void unmap(union address *a)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = a->v6.sin6_port };

	if (a->any.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr))
		return;
	memcpy(&v4.sin_addr, &a->v6.sin6_addr.s6_addr[12], 4);
	a->v4 = v4;
}

void end_init(int control)
{
	socklen_t n = sizeof(self);

	if (getsockname(control, &self.any, &n))
		memset(&self, 0, sizeof(self));
	n = sizeof(other);
	if (getpeername(control, &other.any, &n))
		memset(&other, 0, sizeof(other));
	unmap(&self);
	unmap(&other);
	for (int i = 0; i < SLOTS; i++)
		slots[i].fd = slots[i].epoll = -1;
}

bool end_is_loopback(void)
{
	return self.any.sa_family == AF_INET ? ntohl(self.v4.sin_addr.s_addr) >> 24 == 127 :
					       IN6_IS_ADDR_LOOPBACK(&self.v6.sin6_addr);
}

bool end_is_v6(void)
{
	return self.any.sa_family == AF_INET6;
}

/* The address with a port, as a socket of this family has it; returns its size. */
static socklen_t address_for(char family, const union address *a, in_port_t port,
			     union address *out)
{
	*out = *a;
	if (family == 'm' && a->any.sa_family == AF_INET) {
		struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };

		v6.sin6_addr.s6_addr[10] = v6.sin6_addr.s6_addr[11] = 0xff;
		memcpy(&v6.sin6_addr.s6_addr[12], &a->v4.sin_addr, 4);
		out->v6 = v6;
	}
	if (out->any.sa_family == AF_INET) {
		out->v4.sin_port = htons(port);
		return sizeof(out->v4);
	}
	out->v6.sin6_port = htons(port);
	return sizeof(out->v6);
}

static void answer(char *reply, long result)
{
	if (result < 0)
		snprintf(reply, REPLY_SIZE, "%s", errno_text(errno));
	else
		snprintf(reply, REPLY_SIZE, "%ld", result);
}

static void do_close(struct slot *s, const char *line, char *reply)
{
	(void)line;
	if (s->epoll >= 0)
		close(s->epoll);
	answer(reply, s->fd < 0 ? 0 : close(s->fd));
	s->fd = s->epoll = -1;
}

/* family=4|6|m type= protocol=; whatever it waits for, it waits no longer than WAIT_MS */
static void do_open(struct slot *s, const char *line, char *reply)
{
	struct timeval t = { .tv_sec = WAIT_MS / 1000 };
	char family[8];

	do_close(s, line, reply);
	word(line, "family", family, sizeof(family));
	s->family = family[0];
	memset(&s->peer, 0, sizeof(s->peer));
	s->fd = socket(s->family == '4' ? AF_INET : AF_INET6,
		       (int)arg(line, "type", SOCK_DGRAM) | SOCK_CLOEXEC,
		       (int)arg(line, "protocol", 0));
	if (s->fd >= 0) {
		setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
		setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
	}
	answer(reply, s->fd < 0 ? -1 : 0);
}

static void do_port(struct slot *s, const char *line, char *reply)
{
	union address a;
	socklen_t n = sizeof(a);

	(void)line;
	answer(reply, getsockname(s->fd, &a.any, &n) ? -1 : port_of(&a));
}

/* any=1 port=; answers the port */
static void do_bind(struct slot *s, const char *line, char *reply)
{
	union address any = { 0 }, a;
	socklen_t n;

	any.any.sa_family = s->family == '4' ? AF_INET : AF_INET6;
	n = address_for(s->family, arg(line, "any", 0) ? &any : &self,
			(in_port_t)arg(line, "port", 0), &a);
	if (bind(s->fd, &a.any, n))
		answer(reply, -1);
	else
		do_port(s, line, reply);
}

/* The interface that has our address; its broadcast address goes to *broadcast. */
static unsigned int interface(union address *broadcast)
{
	struct ifaddrs *all, *i;
	unsigned int index = 0;

	if (getifaddrs(&all))
		return 0;
	for (i = all; i; i = i->ifa_next) {
		if (!i->ifa_addr || i->ifa_addr->sa_family != self.any.sa_family ||
		    !same_host((const void *)i->ifa_addr, &self))
			continue;
		index = if_nametoindex(i->ifa_name);
		if (broadcast && i->ifa_flags & IFF_BROADCAST && i->ifa_broadaddr)
			memcpy(broadcast, i->ifa_broadaddr, sizeof(struct sockaddr_in));
	}
	freeifaddrs(all);
	return index;
}

static void group_address(union address *group)
{
	memset(group, 0, sizeof(*group));
	group->any.sa_family = self.any.sa_family;
	if (self.any.sa_family == AF_INET) {
		inet_pton(AF_INET, "239.192.77.7", &group->v4.sin_addr);
	} else {
		inet_pton(AF_INET6, "ff12::7707", &group->v6.sin6_addr);
		group->v6.sin6_scope_id = interface(NULL);
	}
}

/* port= to=host|group|all|subnet: whom the slot sends to, and hears from */
static void do_peer(struct slot *s, const char *line, char *reply)
{
	union address to = other;
	char name[16];

	word(line, "to", name, sizeof(name));
	if (!strcmp(name, "group")) {
		group_address(&to);
	} else if (!strcmp(name, "all")) {
		to.v4.sin_addr.s_addr = INADDR_BROADCAST;
	} else if (!strcmp(name, "subnet") && !interface(&to)) {
		strcpy(reply, "no interface");
		return;
	}
	s->peer_size = address_for(s->family, &to, (in_port_t)arg(line, "port", 0), &s->peer);
	strcpy(reply, "0");
}

/* member=1: receives what is sent to the group; else: sends to it by the right interface */
static void do_group(struct slot *s, const char *line, char *reply)
{
	bool member = arg(line, "member", 0);
	unsigned int index = interface(NULL);
	union address group;
	int result;

	group_address(&group);
	if (s->family == '4') {
		struct ip_mreqn r = { .imr_multiaddr = group.v4.sin_addr,
				      .imr_address = self.v4.sin_addr };

		if (!member)
			r.imr_multiaddr.s_addr = 0;
		result = setsockopt(s->fd, SOL_IP, member ? IP_ADD_MEMBERSHIP : IP_MULTICAST_IF,
				    &r, sizeof(r));
	} else if (member) {
		struct ipv6_mreq r = { group.v6.sin6_addr, index };

		result = setsockopt(s->fd, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &r, sizeof(r));
	} else {
		result = setsockopt(s->fd, SOL_IPV6, IPV6_MULTICAST_IF, &index, sizeof(index));
	}
	answer(reply, result);
}

/* no=1: dissolves the connection */
static void do_connect(struct slot *s, const char *line, char *reply)
{
	struct sockaddr nobody = { .sa_family = AF_UNSPEC };

	answer(reply, arg(line, "no", 0) ? connect(s->fd, &nobody, sizeof(nobody)) :
					   connect(s->fd, &s->peer.any, s->peer_size));
}

/* level= name= value= */
static void do_set(struct slot *s, const char *line, char *reply)
{
	int value = (int)arg(line, "value", 1);

	answer(reply, setsockopt(s->fd, (int)arg(line, "level", SOL_SOCKET),
				 (int)arg(line, "name", 0), &value, sizeof(value)));
}

static void do_get(struct slot *s, const char *line, char *reply)
{
	int value = 0;
	socklen_t n = sizeof(value);

	if (getsockopt(s->fd, (int)arg(line, "level", SOL_SOCKET), (int)arg(line, "name", 0),
		       &value, &n))
		answer(reply, -1);
	else if (arg(line, "error", 0))
		strcpy(reply, value ? errno_text(value) : "0");
	else
		answer(reply, value);
}

/* ms=: how long it waits to receive */
static void do_patience(struct slot *s, const char *line, char *reply)
{
	long ms = arg(line, "ms", WAIT_MS);
	struct timeval t = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	answer(reply, setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)));
}

static void do_recv(struct slot *s, const char *line, char *reply)
{
	recv_one(s->fd, line, &self, &other, &s->peer, reply);
}

static void do_errors(struct slot *s, const char *line, char *reply)
{
	recv_errors(s->fd, line, &self, &other, reply);
}

static void do_next(struct slot *s, const char *line, char *reply)
{
	int n = -1;

	(void)line;
	answer(reply, ioctl(s->fd, FIONREAD, &n) ? -1 : n);
}

static void do_shutdown(struct slot *s, const char *line, char *reply)
{
	answer(reply, shutdown(s->fd, (int)arg(line, "how", SHUT_RDWR)));
}

/* events= wait=: which of the events, and errors, there are */
static void do_poll(struct slot *s, const char *line, char *reply)
{
	struct pollfd p = { .fd = s->fd, .events = (short)arg(line, "events", 0) };
	int n = poll(&p, 1, (int)arg(line, "wait", WAIT_MS));

	if (n < 0)
		answer(reply, -1);
	else
		snprintf(reply, REPLY_SIZE, "%s%s%s%s", n ? "" : " none",
			 p.revents & POLLIN ? " in" : "", p.revents & POLLOUT ? " out" : "",
			 p.revents & POLLERR ? " error" : "");
	memmove(reply, reply + (*reply == ' '), strlen(reply + (*reply == ' ')) + 1);
}

/* wait=: edge-triggered; one more edge or none */
static void do_epoll(struct slot *s, const char *line, char *reply)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLET };

	if (s->epoll < 0) {
		s->epoll = epoll_create1(EPOLL_CLOEXEC);
		if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->fd, &e)) {
			answer(reply, -1);
			return;
		}
	}
	answer(reply, epoll_wait(s->epoll, &e, 1, (int)arg(line, "wait", WAIT_MS)));
}

static void do_collect(struct slot *s, const char *line, char *reply)
{
	collect(s, line, reply);
}

void end_command(const char *line, char *reply)
{
	static const struct {
		const char *name;
		void (*run)(struct slot *s, const char *line, char *reply);
	} commands[] = {
		{ "open", do_open }, { "close", do_close }, { "port", do_port },
		{ "bind", do_bind }, { "peer", do_peer }, { "group", do_group },
		{ "connect", do_connect }, { "set", do_set }, { "get", do_get },
		{ "patience", do_patience }, { "recv", do_recv }, { "errors", do_errors },
		{ "next", do_next }, { "shutdown", do_shutdown }, { "poll", do_poll },
		{ "epoll", do_epoll }, { "collect", do_collect }, { "send", do_send },
		{ "sendmm", do_sendmm }, { "recvmm", do_recvmm }, { "burst", do_burst },
		{ "crowd", do_crowd }, { "ping", do_ping },
	};
	const char *space = strchr(line, ' ');
	long slot = space ? strtol(space, NULL, 10) : -1;

	strcpy(reply, "no such command");
	if (slot < 0 || slot >= SLOTS)
		return;
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strncmp(line, commands[i].name, (size_t)(space - line)) &&
		    !commands[i].name[space - line])
			commands[i].run(&slots[slot], line, reply);
}
