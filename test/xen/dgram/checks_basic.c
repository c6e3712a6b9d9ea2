// SPDX-License-Identifier: GPL-2.0-or-later
/* Datagrams of all sizes, and how they are sent and received. */
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "dgram.h"

static void sizes(bool connected)
{
	static const int all[] = { 0, 1, 2, 511, 512, 1399, 1400, 1452, 1453, 1471, 1472, 1473,
				   2000, 4096, 8192, 16384, 32768, 60000, 65487 };
	int biggest = play.v4 ? 65507 : 65527;
	const char *args = connected ? "" : "to=1";
	char name[64], wanted[128];

	pair(connected);
	for (size_t i = 0; i <= sizeof(all) / sizeof(all[0]); i++) {
		int size = i < sizeof(all) / sizeof(all[0]) ? all[i] : biggest;

		snprintf(name, sizeof(name), "%sconnected %d", connected ? "" : "un", size);
		snprintf(wanted, sizeof(wanted), "sent %d, received %d from=peer content=ok", size,
			 size);
		say(name, wanted, "%s", pass(size, args, ""));
	}
	snprintf(name, sizeof(name), "%sconnected too big", connected ? "" : "un");
	say(name, "sent EMSGSIZE", "%s", pass(biggest + 1, args, ""));
}

/* A socket that is not bound takes its address and port from the way to the other. */
static void unbound(void)
{
	int port = pair(false);
	unsigned long seed = next_seed();
	const char *sent;

	at(play.tx, "open 0 family=%s", play.family);
	at(play.tx, "peer 0 port=%d", port);
	sent = at(play.tx, "send 0 to=1 size=100 seed=%lu", seed);
	at(play.rx, "peer 0 port=%d", port_from(at(play.tx, "port 0")));
	say("unbound sender", "sent 100, 100 from=peer content=ok", "sent %s, %s", sent,
	    at(play.rx, "recv 0 seed=%lu", seed));

	/* and a receiver on all addresses */
	at(play.rx, "open 0 family=%s", play.family);
	port = port_from(at(play.rx, "bind 0 any=1"));
	at(play.tx, "peer 0 port=%d", port);
	at(play.rx, "peer 0 port=%d", port_from(at(play.tx, "port 0")));
	say("receiver of any address", "sent 100, received 100 from=peer content=ok", "%s",
	    pass(100, "to=1", ""));
	at(play.tx, "open 0 family=%s", play.family);
	say("send to nobody", "EDESTADDRREQ", "%s", at(play.tx, "send 0"));
}

static void receiving(void)
{
	const char *first, *second;
	char args[64];
	unsigned long seed;

	pair(true);
	say("small buffer", "sent 1000, received 10 from=peer content=ok truncated", "%s",
	    pass(1000, "", "buf=10"));
	snprintf(args, sizeof(args), "buf=10 flags=%d", MSG_TRUNC);
	say("small buffer MSG_TRUNC", "sent 5000, received 5000 from=peer content=ok truncated",
	    "%s", pass(5000, "", args));
	say("rest is gone", "sent 20, received 20 from=peer content=ok", "%s", pass(20, "", ""));

	seed = next_seed();
	at(play.tx, "send 0 size=3000 seed=%lu", seed);
	say("MSG_PEEK", "100 from=peer content=ok truncated", "%s",
	    at(play.rx, "recv 0 buf=100 flags=%d seed=%lu", MSG_PEEK, seed));
	say("FIONREAD", "3000", "%s", at(play.rx, "next 0"));
	say("after MSG_PEEK", "3000 from=peer content=ok", "%s",
	    at(play.rx, "recv 0 seed=%lu", seed));
	say("FIONREAD empty", "0", "%s", at(play.rx, "next 0"));
	say("MSG_DONTWAIT empty", "EAGAIN", "%s",
	    at(play.rx, "recv 0 wait=0 flags=%d", MSG_DONTWAIT));
	at(play.rx, "patience 0 ms=150");
	say("SO_RCVTIMEO", "EAGAIN", "%s", at(play.rx, "recv 0 wait=0"));
	at(play.rx, "patience 0");

	at(play.rx, "set 0 name=%d value=10", SO_PEEK_OFF);
	seed = next_seed();
	at(play.tx, "send 0 size=500 seed=%lu", seed);
	first = at(play.rx, "recv 0 buf=20 off=10 flags=%d seed=%lu", MSG_PEEK, seed);
	second = at(play.rx, "recv 0 buf=20 off=30 flags=%d seed=%lu", MSG_PEEK, seed);
	say("SO_PEEK_OFF", NULL, "%s, %s, %s", first, second, at(play.rx, "recv 0 seed=%lu", seed));
}

static void many(void)
{
	unsigned long seed = next_seed();
	const char *sent;

	for (int i = 0; i < 8; i++)
		next_seed();
	pair(true);
	sent = at(play.tx, "sendmm 0 n=8 size=50 step=190 seed=%lu", seed);
	say("sendmmsg, recvmmsg", "8, 8 content=ok", "%s, %s", sent,
	    at(play.rx, "recvmm 0 n=8 size=50 step=190 seed=%lu", seed));
	sent = at(play.tx, "sendmm 0 n=1 size=77 seed=%lu", seed);
	say("recvmmsg MSG_WAITFORONE", "1, 1 content=ok", "%s, %s", sent,
	    at(play.rx, "recvmm 0 n=4 size=77 seed=%lu flags=%d", seed, MSG_WAITFORONE));
	say("recvmmsg empty", "EAGAIN", "%s", at(play.rx, "recvmm 0 n=4 flags=%d", MSG_DONTWAIT));
}

static void joined(void)
{
	unsigned long seed = next_seed();
	const char *a, *b, *c;

	pair(true);
	a = at(play.tx, "send 0 size=700 seed=%lu flags=%d", seed, MSG_MORE);
	b = at(play.tx, "send 0 size=600 off=700 seed=%lu flags=%d", seed, MSG_MORE);
	c = at(play.tx, "send 0 size=50 off=1300 seed=%lu", seed);
	say("MSG_MORE", "700 600 50, 1350 from=peer content=ok", "%s %s %s, %s", a, b, c,
	    at(play.rx, "recv 0 seed=%lu", seed));

	seed = next_seed();
	at(play.tx, "set 0 level=%d name=%d value=1", SOL_UDP, UDP_CORK);
	a = at(play.tx, "send 0 size=2000 seed=%lu", seed);
	b = at(play.tx, "send 0 size=3000 off=2000 seed=%lu", seed);
	say("corked", "nothing", "%s", at(play.rx, "recv 0 wait=100"));
	c = at(play.tx, "set 0 level=%d name=%d value=0", SOL_UDP, UDP_CORK);
	say("UDP_CORK", "2000 3000 0, 5000 from=peer content=ok", "%s %s %s, %s", a, b, c,
	    at(play.rx, "recv 0 seed=%lu", seed));
}

static void waiting(void)
{
	unsigned long seed = next_seed();

	pair(true);
	say("new socket", "out", "%s", at(play.rx, "poll 0 events=%d", POLLIN | POLLOUT));
	at(play.tx, "send 0 size=10 seed=%lu", seed);
	say("poll for input", "in", "%s", at(play.rx, "poll 0 events=%d", POLLIN));
	say("poll for both", "in out", "%s", at(play.rx, "poll 0 events=%d", POLLIN | POLLOUT));
	say("sender's POLLOUT", "out", "%s", at(play.tx, "poll 0 events=%d", POLLOUT));
	say("polled", "10 from=peer content=ok", "%s", at(play.rx, "recv 0 seed=%lu", seed));

	say("no edge", "0", "%s", at(play.rx, "epoll 0 wait=0"));
	for (int i = 0; i < 3; i++) {
		at(play.tx, "send 0 size=%d seed=%lu", 20 + i, seed);
		say("edge", "1", "%s", at(play.rx, "epoll 0"));
		say("no second edge", "0", "%s", at(play.rx, "epoll 0 wait=0"));
	}
	for (int i = 0; i < 3; i++)
		say("after edges", NULL, "%s", at(play.rx, "recv 0 seed=%lu", seed));

	say("shutdown to write", "0", "%s", at(play.tx, "shutdown 0 how=%d", SHUT_WR));
	say("send after shutdown", "EPIPE", "%s", at(play.tx, "send 0 flags=%d", MSG_NOSIGNAL));
}

void checks_basic(void)
{
	sizes(false);
	sizes(true);
	unbound();
	receiving();
	many();
	joined();
	waiting();
}
