// SPDX-License-Identifier: GPL-2.0-or-later
/* What cannot be delivered, and what is told of it; path MTU. */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "dgram.h"

#define PMTU_DO		2	/* the same of IP_PMTUDISC_ and IPV6_PMTUDISC_ */
#define PMTU_PROBE	3

static void ask_for_errors(void)
{
	if (play.v4)
		at(play.tx, "set 0 level=%d name=%d", SOL_IP, IP_RECVERR);
	if (*play.family != '4')
		at(play.tx, "set 0 level=%d name=%d", SOL_IPV6, IPV6_RECVERR);
}

static void refused(void)
{
	unsigned long seed = next_seed();
	const char *what, *told;

	/* connected: the next call says so, once */
	pair(true);
	at(play.rx, "close 0");
	what = provoke(0, 100, seed);
	told = at(play.tx, "recv 0 wait=0");
	say("port closed, recv", "error, ECONNREFUSED, then EAGAIN", "%s, %s, then %s", what, told,
	    at(play.tx, "recv 0 wait=0 flags=%d", MSG_DONTWAIT));
	what = provoke(0, 0, seed);
	say("port closed, send", "error, ECONNREFUSED", "%s, %s", what,
	    at(play.tx, "send 0 size=1"));

	/* SO_ERROR, and the port open again */
	int port = pair(true);

	at(play.rx, "close 0");
	what = provoke(0, 3000, seed);
	told = at(play.tx, "get 0 name=%d error=1", SO_ERROR);
	say("port closed, SO_ERROR", "error, ECONNREFUSED, then 0", "%s, %s, then %s", what, told,
	    at(play.tx, "get 0 name=%d error=1", SO_ERROR));
	at(play.rx, "open 0 family=%s", play.family);
	told = at(play.rx, "bind 0 port=%d", port);
	at(play.rx, "peer 0 port=%d", port_from(at(play.tx, "port 0")));
	say("port open again", "same port, sent 100, received 100 from=peer content=ok", "%s, %s",
	    port_from(told) == port ? "same port" : told, pass(100, "", ""));

	/* not connected: nobody is told */
	pair(false);
	at(play.rx, "close 0");
	told = at(play.tx, "send 0 size=100 to=1 seed=%lu", seed);
	say("port closed, not connected", "100, none", "%s, %s", told,
	    at(play.tx, "poll 0 events=%d wait=200", POLLIN));
}

static void error_queue(void)
{
	unsigned long seed = next_seed();
	const char *what, *told;

	pair(true);
	ask_for_errors();
	at(play.rx, "close 0");
	what = provoke(0, 100, seed);
	told = at(play.tx, "errors 0 seed=%lu", seed);
	say("RECVERR", play.v4 ? "error, origin=2 type=3 code=3 ECONNREFUSED offender=other content=ok"
			       : "error, origin=3 type=1 code=4 ECONNREFUSED offender=other content=ok",
	    "%s, %s", what, told);
	/* a message read takes its error along */
	say("RECVERR read", NULL, "%s", at(play.tx, "get 0 name=%d error=1", SO_ERROR));
}

static void unfragmented(const char *name, int mode)
{
	const char *asked, *result, *told;
	int level = play.v4 ? SOL_IP : SOL_IPV6;

	pair(true);
	ask_for_errors();
	asked = at(play.tx, "set 0 level=%d name=%d value=%d", level,
		   play.v4 ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER, mode);
	say(name, NULL, "%s, %s", asked, pass(1000, "", ""));
	result = pass(3000, "", "");
	told = at(play.tx, "errors 0 wait=100");
	say(name, NULL, "%s, error %s", result, told);
	say(name, NULL, "then %s", pass(100, "", ""));
}

static void path_mtu(void)
{
	int level = play.v4 ? SOL_IP : SOL_IPV6, name = play.v4 ? IP_MTU : IPV6_MTU;
	const char *before;

	unfragmented("MTU_DISCOVER DO", PMTU_DO);
	unfragmented("MTU_DISCOVER PROBE", PMTU_PROBE);
	pair(false);
	before = at(play.tx, "get 0 level=%d name=%d", level, name);
	at(play.tx, "connect 0");
	say("MTU", NULL, "not connected %s, connected %s", before,
	    at(play.tx, "get 0 level=%d name=%d", level, name));
}

static void connection(void)
{
	unsigned long seed = next_seed();
	int port = pair(true);
	const char *what;

	/* slot 1 is a stranger to rx's socket */
	at(play.tx, "open 1 family=%s", play.family);
	at(play.tx, "bind 1");
	at(play.tx, "peer 1 port=%d", port);
	at(play.tx, "connect 1");
	what = provoke(1, 50, seed);
	say("stranger to a connected receiver", "error, ECONNREFUSED", "%s, %s", what,
	    at(play.tx, "get 1 name=%d error=1", SO_ERROR));
	say("friend of a connected receiver", "sent 60, received 60 from=peer content=ok", "%s",
	    pass(60, "", ""));
	say("nothing of the stranger", "EAGAIN", "%s",
	    at(play.rx, "recv 0 wait=0 flags=%d", MSG_DONTWAIT));

	what = at(play.tx, "connect 0 no=1");
	say("connect AF_UNSPEC", "0, then EDESTADDRREQ", "%s, then %s", what,
	    at(play.tx, "send 0 size=1"));

	/* the receiver, once it is not connected any more, hears everybody on its own port */
	port = pair(true);
	at(play.rx, "open 0 family=%s", play.family);
	at(play.rx, "bind 0 port=%d", port);
	at(play.rx, "peer 0 port=%d", port_from(at(play.tx, "port 0")));
	at(play.rx, "connect 0");
	what = at(play.rx, "connect 0 no=1");
	at(play.rx, "bind 0 port=%d", port);	/* refused, or the address again: either way */
	at(play.tx, "peer 1 port=%d", port);
	at(play.rx, "peer 0 port=%d", port_from(at(play.tx, "port 1")));
	at(play.tx, "connect 1 no=1");
	at(play.tx, "send 1 to=1 size=70 seed=%lu", seed);
	at(play.rx, "peer 0 port=%d", port_from(at(play.tx, "port 1")));
	say("receiver after AF_UNSPEC", NULL, "%s, %s", what,
	    at(play.rx, "recv 0 wait=3000 seed=%lu", seed));
	at(play.tx, "close 1");

	pair(true);
	what = at(play.tx, "send 0 size=5000 seed=%lu", seed);
	at(play.tx, "close 0");
	say("sender closed", "5000, 5000 from=peer content=ok", "%s, %s", what,
	    at(play.rx, "recv 0 seed=%lu", seed));
}

void checks_error(void)
{
	refused();
	error_queue();
	path_mtu();
	connection();
}
