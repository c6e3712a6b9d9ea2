// SPDX-License-Identifier: GPL-2.0-or-later
/* The near end: sends, and prints what the far end has counted. */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "flow.h"

#define ROUNDS_MAX	1000000u

static volatile sig_atomic_t stopped;

static void stop(int number)
{
	(void)number;
	stopped = 1;
}

static struct sockaddr_storage to;
static socklen_t to_len;

static int begin(const struct options *o, enum kind kind, uint32_t run)
{
	struct ask a = { kind, run, o->flows };
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&to;
	struct sockaddr_in *v4 = (struct sockaddr_in *)&to;
	struct answer answer;
	int c;

	/* the port is at the same place in both kinds of address */
	if (inet_pton(AF_INET, o->address, &v4->sin_addr) == 1) {
		to.ss_family = AF_INET;
		to_len = sizeof(*v4);
	} else if (inet_pton(AF_INET6, o->address, &v6->sin6_addr) == 1) {
		to.ss_family = AF_INET6;
		to_len = sizeof(*v6);
	} else {
		errx(2, "'%s' is no address", o->address);
	}
	v4->sin_port = htons((uint16_t)o->port);
	c = socket(to.ss_family, SOCK_STREAM, 0);
	if (c < 0 || connect(c, (struct sockaddr *)&to, to_len))
		err(1, "%s port %u", o->address, o->port);
	write_all(c, &a, sizeof(a));
	read_all(c, &answer, sizeof(answer));
	v4->sin_port = htons((uint16_t)answer.port);
	return c;
}

static int sender(bool connected)
{
	int s = socket(to.ss_family, SOCK_DGRAM, 0);

	if (s < 0 || (connected && connect(s, (struct sockaddr *)&to, to_len)))
		err(1, "a UDP socket");
	return s;
}

static void transmit(int s, bool connected, const void *buf, size_t len)
{
	ssize_t n;

	do {
		n = connected ? send(s, buf, len, 0) :
				sendto(s, buf, len, 0, (struct sockaddr *)&to, to_len);
	} while (n < 0 && (errno == EINTR || errno == ENOBUFS));
	/* a peer that is away for a while: this one is lost */
	if (n < 0 && errno != EHOSTUNREACH)
		err(1, "sending %zu bytes", len);
}

/* Small ones as often as large ones. */
static unsigned int random_size(const struct options *o)
{
	unsigned int span = o->size_max - o->size_min + 1, most = 1u << random() % 17;

	return o->size_min + (unsigned int)random() % (most < span ? most : span);
}

static void ready(const struct options *o)
{
	int fd;

	if (!o->ready)
		return;
	fd = open(o->ready, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	if (fd < 0)
		err(1, "%s", o->ready);
	close(fd);
}

static uint64_t send_flows(const struct options *o, uint32_t run)
{
	static unsigned char buf[DATAGRAM_MAX];
	uint64_t end = now_ns() + (uint64_t)(o->seconds * 1e9), due = now_ns(), now, sent = 0;
	uint32_t seq[FLOWS_MAX] = { 0 };
	int s[FLOWS_MAX];
	unsigned int i;

	signal(SIGTERM, stop);
	for (i = 0; i < o->flows; i++)
		s[i] = sender(i % 2);
	while (!stopped && now_ns() < end) {
		i = (unsigned int)random() % o->flows;
		unsigned int len = random_size(o);

		fill(buf, run, i, seq[i]++, len);
		transmit(s[i], i % 2, buf, len);
		if (!sent++)
			ready(o);
		due += (uint64_t)(1e9 / o->rate);
		now = now_ns();
		/* one that stood still for long does not make up for it */
		if (due + 1000000000u < now)
			due = now;
		if (due > now) {
			struct timespec t = {
				(time_t)((due - now) / 1000000000u),
				(long)((due - now) % 1000000000u),
			};

			nanosleep(&t, NULL);
		}
	}
	return sent;
}

static uint64_t send_flood(const struct options *o, uint32_t run, uint64_t *ns)
{
	static unsigned char buf[DATAGRAM_MAX];
	uint64_t start, sent = 0;
	int s = sender(true);

	fill(buf, run, 0, 0, o->size_max);
	start = now_ns();
	for (;;) {
		struct head h = { run, 0, (uint32_t)sent, o->size_max };

		memcpy(buf, &h, sizeof(h));
		transmit(s, true, buf, o->size_max);
		if (!sent++)
			ready(o);
		if (sent % 16 == 0 && (double)(now_ns() - start) >= o->seconds * 1e9)
			break;
	}
	*ns = now_ns() - start;
	return sent;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int pingpong(const struct options *o)
{
	static unsigned char buf[DATAGRAM_MAX];
	static double took[ROUNDS_MAX];
	struct timeval second = { 2, 0 };
	uint64_t end, before;
	unsigned int n = 0, lost = 0;
	int s;

	begin(o, KIND_ECHO, 0);
	s = sender(true);
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof(second));
	end = now_ns() + (uint64_t)(o->seconds * 1e9);
	while (n < ROUNDS_MAX && now_ns() < end) {
		before = now_ns();
		transmit(s, true, buf, o->size_max);
		if (recv(s, buf, sizeof(buf), 0) != (ssize_t)o->size_max)
			lost++;
		else
			took[n++] = (double)(now_ns() - before) / 1000;
		if (n == 1)
			ready(o);
	}
	if (!n)
		errx(1, "nothing came back");
	qsort(took, n, sizeof(took[0]), compare);
	printf("pingpong round_trips %u lost %u median_us %.0f p10_us %.0f p99_us %.0f\n", n, lost,
	       took[n / 2], took[n / 10], took[(size_t)n * 99 / 100]);
	return 0;
}

int near_run(const struct options *o)
{
	bool flood = !strcmp(o->command, "flood");
	uint64_t ns = 1;
	struct report r;
	struct end end;
	uint32_t run;
	int c;

	if (getrandom(&run, sizeof(run), 0) != sizeof(run))
		err(1, "getrandom");
	srandom(run);
	if (!strcmp(o->command, "pingpong"))
		return pingpong(o);
	c = begin(o, flood ? KIND_FLOOD : KIND_FLOW, run);
	end.sent = flood ? send_flood(o, run, &ns) : send_flows(o, run);
	write_all(c, &end, sizeof(end));
	read_all(c, &r, sizeof(r));
	if (flood) {
		printf("flood sent %" PRIu64 " received %" PRIu64 " reordered %" PRIu64
		       " sent_mbit %.1f received_mbit %.1f\n", end.sent, r.received, r.reordered,
		       (double)end.sent * o->size_max * 8e3 / (double)ns,
		       r.ns ? (double)r.bytes * 8e3 / (double)r.ns : 0);
		return r.reordered != 0;
	}
	printf("flows %u sent %" PRIu64 " received %" PRIu64 " lost %" PRIu64 " duplicated %" PRIu64
	       " reordered %" PRIu64 " corrupt %" PRIu64 "\n", o->flows, end.sent, r.received,
	       end.sent - (r.received - r.duplicated), r.duplicated, r.reordered, r.corrupt);
	return r.duplicated || r.reordered || r.corrupt;
}
