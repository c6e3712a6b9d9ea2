// SPDX-License-Identifier: GPL-2.0-or-later
/* Multicast and broadcast, and ICMP of our own. */
#include <stdio.h>
#include <string.h>

#include "dgram.h"

/* rx hears on all addresses of its own port what tx sends from its bound socket. */
static int hear_all(void)
{
	int port;

	pair(false);
	at(play.rx, "open 0 family=%s", play.family);
	port = port_from(at(play.rx, "bind 0 any=1"));
	at(play.rx, "peer 0 port=%d", port_from(at(play.tx, "port 0")));
	return port;
}

static void multicast(void)
{
	int port;
	const char *a, *b;

	if (*play.family == 'm')
		return;
	if (play.loopback) {
		say("multicast", NULL, "skipped on loopback");
		return;
	}
	port = hear_all();
	at(play.tx, "peer 0 port=%d to=group", port);
	a = at(play.tx, "group 0");
	at(play.rx, "set 0 level=%d name=%d", play.v4 ? SOL_IP : SOL_IPV6,
	   play.v4 ? IP_PKTINFO : IPV6_RECVPKTINFO);
	b = at(play.rx, "group 0 member=1");
	say("multicast", NULL, "%s %s, %s", a, b, pass(200, "to=1", ""));
	say("multicast", NULL, "%s", pass(1472 - (play.v4 ? 0 : 20), "to=1", ""));
	say("multicast in fragments", NULL, "%s", pass(4000, "to=1", ""));
	say("multicast once", NULL, "%s", at(play.rx, "recv 0 wait=200"));
}

static void broadcast(void)
{
	int port;
	const char *a;

	if (*play.family != '4')
		return;
	port = hear_all();
	at(play.tx, "peer 0 port=%d to=all", port);
	say("broadcast without SO_BROADCAST", "sent EACCES", "%s", pass(100, "to=1", ""));
	if (play.loopback) {
		say("broadcast", NULL, "skipped on loopback");
		return;
	}
	a = at(play.tx, "set 0 name=%d", SO_BROADCAST);
	say("broadcast to all", NULL, "%s, %s", a, pass(100, "to=1", "wait=3000"));
	at(play.tx, "peer 0 port=%d to=subnet", port);
	say("broadcast to the subnet", NULL, "%s", pass(100, "to=1", "wait=3000"));
	say("broadcast once", NULL, "%s", at(play.rx, "recv 0 wait=200"));
}

static void ping(void)
{
	static const int sizes[] = { 0, 56, 1472, 4000, 20000 };
	const char *reply;

	if (*play.family == 'm')
		return;
	reply = at(play.tx, "open 0 family=%s type=%d protocol=%d", play.family, SOCK_RAW,
		   play.v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	if (!strcmp(reply, "EPERM")) {
		say("ping", NULL, "not permitted");
		return;
	}
	at(play.tx, "peer 0 port=0");
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char name[32], wanted[32];

		snprintf(name, sizeof(name), "ping %d", sizes[i]);
		snprintf(wanted, sizeof(wanted), "%d content=ok", sizes[i]);
		say(name, wanted, "%s",
		    at(play.tx, "ping 0 size=%d seed=%lu", sizes[i], next_seed()));
	}
	at(play.tx, "close 0");
}

void checks_group(void)
{
	multicast();
	broadcast();
	ping();
}
