// SPDX-License-Identifier: GPL-2.0-or-later
/* What is told beside the data: addresses, TTL, TOS, times. */
#include <time.h>
#include <linux/net_tstamp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dgram.h"

static const char *set(enum end end, int level, int name, int value)
{
	return at(end, "set 0 level=%d name=%d value=%d", level, name, value);
}

/* An IPv6 socket that receives IPv4 tells of it in both ways. */
static void packet_info(void)
{
	pair(true);
	if (*play.family != '6')
		set(play.rx, SOL_IP, IP_PKTINFO, 1);
	if (*play.family != '4')
		set(play.rx, SOL_IPV6, IPV6_RECVPKTINFO, 1);
	say("PKTINFO", NULL, "%s", pass(100, "", ""));
	say("PKTINFO in fragments", NULL, "%s", pass(5000, "", ""));
	say("PKTINFO with MSG_TRUNC", NULL, "%s", pass(100, "", "buf=1"));
}

static void ttl_and_tos(void)
{
	const char *a, *b;

	pair(true);
	if (play.v4) {
		a = set(play.tx, SOL_IP, IP_TTL, 7);
		b = set(play.rx, SOL_IP, IP_RECVTTL, 1);
		say("IP_TTL", "0 0, sent 100, received 100 from=peer content=ok ttl=7",
		    "%s %s, %s", a, b, pass(100, "", ""));
		a = set(play.tx, SOL_IP, IP_TOS, 0x48);
		b = set(play.rx, SOL_IP, IP_RECVTOS, 1);
		say("IP_TOS", NULL, "%s %s, %s", a, b, pass(100, "", ""));
		say("IP_TOS in fragments", NULL, "%s", pass(4000, "", ""));
		set(play.tx, SOL_IP, IP_TOS, 2);	/* ECN-capable */
		say("IP_TOS ECT", NULL, "%s", pass(100, "", ""));
		set(play.tx, SOL_IP, IP_TTL, 1);
		say("TTL 1", NULL, "%s", pass(100, "", ""));
		return;
	}
	a = set(play.tx, SOL_IPV6, IPV6_UNICAST_HOPS, 7);
	b = set(play.rx, SOL_IPV6, IPV6_RECVHOPLIMIT, 1);
	say("IPV6_UNICAST_HOPS", "0 0, sent 100, received 100 from=peer content=ok hoplimit=7",
	    "%s %s, %s", a, b, pass(100, "", ""));
	a = set(play.tx, SOL_IPV6, IPV6_TCLASS, 0x48);
	b = set(play.rx, SOL_IPV6, IPV6_RECVTCLASS, 1);
	say("IPV6_TCLASS", NULL, "%s %s, %s", a, b, pass(100, "", ""));
	say("IPV6_TCLASS in fragments", NULL, "%s", pass(4000, "", ""));
	set(play.tx, SOL_IPV6, IPV6_TCLASS, 2);
	say("IPV6_TCLASS ECT", NULL, "%s", pass(100, "", ""));
	set(play.tx, SOL_IPV6, IPV6_UNICAST_HOPS, 1);
	say("hop limit 1", NULL, "%s", pass(100, "", ""));
}

/*
 * The kernel begins to stamp what arrives a little after the first socket asked for it:
 * the first datagrams may come without.
 */
static void stamped(const char *name, int option, int value, const char *what)
{
	char args[64], wanted[128];
	const char *asked, *result = "";

	pair(true);
	asked = at(play.rx, "set 0 name=%d value=%d", option, value);
	snprintf(args, sizeof(args), " %s=", what);
	snprintf(wanted, sizeof(wanted), "0, sent 100, received 100 from=peer content=ok %s=now",
		 what);
	for (int i = 0; i < 20; i++) {
		result = pass(100, "", "");
		if (strstr(result, args) || *asked != '0')
			break;
		usleep(100000);
	}
	say(name, wanted, "%s, %s", asked, result);
	result = pass(3000, "", "");
	say(name, NULL, "%s", result);
}

static void sent_times(void)
{
	int flags = SOF_TIMESTAMPING_TX_SCHED | SOF_TIMESTAMPING_TX_SOFTWARE |
		    SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY;
	const char *asked;

	pair(true);
	asked = at(play.tx, "set 0 name=%d value=%d", SO_TIMESTAMPING, flags);
	for (int i = 0; i < 3; i++) {
		const char *result = pass(i == 2 ? 3000 : 100, "", "");

		say("SO_TIMESTAMPING of sending", NULL, "%s, %s, %s", asked, result,
		    at(play.tx, "errors 0 n=2 wait=3000"));
	}

	/* with the datagram, and without numbers */
	flags = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
	pair(true);
	asked = at(play.tx, "set 0 name=%d value=%d", SO_TIMESTAMPING, flags);
	for (int i = 0; i < 2; i++) {
		const char *result = pass(100, "", "");

		say("SO_TIMESTAMPING TX_SOFTWARE", NULL, "%s, %s, %s", asked, result,
		    at(play.tx, "errors 0 n=1 wait=3000"));
	}
}

void checks_info(void)
{
	packet_info();
	ttl_and_tos();
	stamped("SO_TIMESTAMP", SO_TIMESTAMP, 1, "timestamp");
	stamped("SO_TIMESTAMPNS", SO_TIMESTAMPNS, 1, "timestampns");
	stamped("SO_TIMESTAMPING", SO_TIMESTAMPING,
		SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE, "timestamping");
	sent_times();
}
