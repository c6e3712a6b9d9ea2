// SPDX-License-Identifier: GPL-2.0-or-later
/* Many datagrams, segments, and how they are handed over. */
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dgram.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT	103
#define UDP_GRO		104
#endif
#ifndef SO_ZEROCOPY
#define SO_ZEROCOPY	60
#define MSG_ZEROCOPY	0x4000000
#endif
#define UDPLITE		136
#define UDPLITE_SEND	10
#define UDPLITE_RECV	11
#define AT_ONCE		16	/* no socket buffer is too small for those, whatever the path */

/*
 * So many numbered datagrams by a command that sends some of them at once. With more
 * than one receiving slot they are to arrive in one of them, always the same.
 */
static void numbered(const char *name, int total, const char *command, int slots, bool in_order)
{
	int first_by = -1;

	for (int base = 0; base < total; base += AT_ONCE) {
		int n = total - base < AT_ONCE ? total - base : AT_ONCE, got, distinct, bad, by;
		int sent = atoi(at(play.tx, "%s n=%d base=%d", command, n, base));
		const char *reply = at(play.rx, "collect 0 slots=%d n=%d base=%d quiet=%d", slots, n,
				       base, base + n < total ? 0 : 100);
		bool order = strstr(reply, "order=yes");

		if (sscanf(reply, "got=%d distinct=%d bad=%d", &got, &distinct, &bad) != 3)
			got = distinct = bad = -1;
		by = atoi(strstr(reply, "by=") ? strstr(reply, "by=") + 3 : "-1");
		if (first_by < 0)
			first_by = by;
		if (sent == n && got == n && distinct == n && !bad &&
		    by == first_by && (order || !in_order))
			continue;
		say(name, "", "after %d: sent %d, got %d, distinct %d, bad %d%s%s", base, sent, got,
		    distinct, bad, order || !in_order ? "" : ", not in order",
		    by == first_by ? "" : ", by another socket");
		return;
	}
	say(name, NULL, "%d arrive, each once%s%s", total, in_order ? ", in order" : "",
	    slots > 1 ? ", by one socket" : "");
}

static void order(void)
{
	pair(true);
	numbered("numbered", 300, "burst 0", 1, true);
	numbered("numbered big", 96, "burst 0 size=1472", 1, true);
	numbered("8 threads", 400, "crowd 0 threads=8", 1, false);
}

static void reuseport(void)
{
	int port = 0;

	pair(false);
	for (int i = 0; i < 4; i++) {
		at(play.rx, "open %d family=%s", i, play.family);
		at(play.rx, "set %d name=%d", i, SO_REUSEPORT);
		if (!i) {
			port = port_from(at(play.rx, "bind 0"));
			continue;
		}
		if (port_from(at(play.rx, "bind %d port=%d", i, port)) != port)
			say("SO_REUSEPORT", "", "cannot bind");
	}
	at(play.tx, "peer 0 port=%d", port);
	numbered("SO_REUSEPORT of 4", 200, "burst 0 to=1", 4, true);
	for (int i = 1; i < 4; i++)
		at(play.rx, "close %d", i);
}

static void buffers(void)
{
	bool some, later = false;
	const char *asked, *result;
	int got;

	pair(true);
	asked = at(play.rx, "set 0 name=%d value=1", SO_RCVBUF);
	at(play.tx, "burst 0 n=200 size=1000");
	at(play.rx, "poll 0 events=%d", POLLIN);
	some = sscanf(at(play.rx, "collect 0 n=200 wait=300"), "got=%d", &got) == 1 && got > 0;
	for (int i = 0; i < 10 && !later; i++) {
		at(play.tx, "burst 0 base=1000");
		later = strstr(at(play.rx, "collect 0 n=1 base=1000 wait=1000"), "distinct=1");
	}
	say("tiny SO_RCVBUF", "0, of a burst some, later one yes", "%s, of a burst %s, later one %s",
	    asked, some ? "some" : "none", later ? "yes" : "no");

	pair(true);
	asked = at(play.tx, "set 0 name=%d value=1", SO_SNDBUF);
	say("tiny SO_SNDBUF", NULL, "%s, %s", asked, pass(1000, "", ""));
	pair(true);
	at(play.tx, "set 0 name=%d value=1", SO_SNDBUF);
	result = pass(60000, "", "wait=3000");
	say("tiny SO_SNDBUF, big datagram", NULL, "%s", result);
	pair(true);
	at(play.tx, "set 0 name=%d value=1", SO_SNDBUF);
	for (int i = 0; i < 20; i++)
		result = pass(1400, "", "");
	say("tiny SO_SNDBUF, 20th datagram", NULL, "%s", result);
}

/* 7000 bytes as 5 datagrams, or as many bytes to one who takes them together */
static void segments(const char *name, const char *args, bool option)
{
	char told[512] = "", wanted[] = "7000, 1400 ok, 1400 ok, 1400 ok, 1400 ok, 1400 ok";
	unsigned long seed = next_seed();
	const char *sent, *asked;
	int bytes = 0, got;

	pair(true);
	if (option)
		at(play.tx, "set 0 level=%d name=%d value=1400", SOL_UDP, UDP_SEGMENT);
	sent = at(play.tx, "send 0 size=7000 seed=%lu %s", seed, args);
	for (int i = 0; i < 5 && *sent == '7'; i++) {
		const char *reply = at(play.rx, "recv 0 seed=%lu off=%d", seed, i * 1400);

		sprintf(strchr(told, 0), ", %d %s", atoi(reply),
			strstr(reply, "from=peer content=ok") ? "ok" : "wrong");
	}
	say(name, wanted, "%s%s", sent, told);
	/* a last one that is shorter */
	sent = at(play.tx, "send 0 size=1500 seed=%lu %s", seed, args);
	asked = at(play.rx, "recv 0 seed=%lu", seed);
	say(name, "1500, 1400 from=peer content=ok, 100 from=peer content=ok", "%s, %s, %s", sent,
	    asked, at(play.rx, "recv 0 seed=%lu off=1400", seed));

	pair(true);
	asked = at(play.rx, "set 0 level=%d name=%d value=1", SOL_UDP, UDP_GRO);
	if (option)
		at(play.tx, "set 0 level=%d name=%d value=1400", SOL_UDP, UDP_SEGMENT);
	sent = at(play.tx, "send 0 size=7000 seed=%lu %s", seed, args);
	while (bytes < 7000) {
		const char *reply = at(play.rx, "recv 0 seed=%lu off=%d", seed, bytes);

		got = atoi(reply);
		if (got <= 0 || !strstr(reply, "from=peer content=ok"))
			break;
		bytes += got;
	}
	snprintf(told, sizeof(told), "%s to UDP_GRO", name);
	say(told, "0, 7000, 7000 bytes right", "%s, %s, %d bytes right", asked, sent, bytes);
}

static void zerocopy(void)
{
	static const int sizes[] = { 1400, 100, 8192, 60000 };
	char args[32];
	const char *asked;

	pair(true);
	asked = at(play.tx, "set 0 name=%d", SO_ZEROCOPY);
	snprintf(args, sizeof(args), "flags=%d", MSG_ZEROCOPY);
	for (int i = 0; i < 4; i++) {
		const char *result = pass(sizes[i], args, "");

		say("MSG_ZEROCOPY", NULL, "%s, %s, %s", asked, result, at(play.tx, "errors 0"));
	}
}

/* UDP-Lite has the same calls, and left the kernel at some time. */
static void udplite(void)
{
	static const char *const text[2] = { "UDP-Lite", "UDP-Lite whose checksum covers 8 bytes" };
	int ports[2];

	for (int partial = 0; partial < 2; partial++) {
		for (enum end e = NEAR; e <= FAR; e++) {
			const char *reply = at(e, "open 0 family=%s protocol=%d", play.family, UDPLITE);

			if (*reply != '0') {
				say(text[partial], NULL, "not available");
				return;
			}
			ports[e] = port_from(at(e, "bind 0"));
		}
		at(NEAR, "peer 0 port=%d", ports[FAR]);
		at(FAR, "peer 0 port=%d", ports[NEAR]);
		if (partial) {
			at(play.tx, "set 0 level=%d name=%d value=8", UDPLITE, UDPLITE_SEND);
			at(play.rx, "set 0 level=%d name=%d value=8", UDPLITE, UDPLITE_RECV);
		}
		say(text[partial], NULL, "%s", pass(100, "to=1", ""));
		say(text[partial], NULL, "%s", pass(3000, "to=1", ""));
	}
}

void checks_bulk(void)
{
	const char *asked;

	order();
	reuseport();
	buffers();
	segments("UDP_SEGMENT option", "", true);
	segments("UDP_SEGMENT cmsg", "gso=1400", false);
	zerocopy();
	if (play.v4) {
		pair(true);
		asked = at(play.tx, "set 0 name=%d", SO_NO_CHECK);
		say("SO_NO_CHECK", NULL, "%s, %s", asked, pass(100, "", ""));
		say("SO_NO_CHECK", NULL, "%s, %s", asked, pass(5000, "", ""));
	}
	udplite();
}
