// SPDX-License-Identifier: GPL-2.0-or-later
/* The near end: tells both ends what to do, and tells what came of it. */
#include <arpa/inet.h>
#include <getopt.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "dgram.h"

#define REPLIES		16

struct play play;
static FILE *control;
static int failures;
static bool verbose;

static void far_command(const char *line, char *reply)
{
	size_t n = strlen(line);

	if (send(fileno(control), line, n, MSG_NOSIGNAL) != (ssize_t)n ||
	    send(fileno(control), "\n", 1, MSG_NOSIGNAL) != 1 ||
	    !fgets(reply, REPLY_SIZE, control)) {
		fprintf(stderr, "vmc-dgram: the agent does not answer: %s\n", line);
		fflush(stdout);
		exit(2);
	}
	reply[strcspn(reply, "\n")] = 0;
}

const char *at(enum end end, const char *format, ...)
{
	static char replies[REPLIES][REPLY_SIZE];
	static unsigned int next;
	char *reply = replies[next++ % REPLIES], line[REPLY_SIZE - 2];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (end == NEAR)
		end_command(line, reply);
	else
		far_command(line, reply);
	if (verbose)
		fprintf(stderr, "%s: %s -> %s\n", end == NEAR ? "near" : "far", line, reply);
	return reply;
}

void say(const char *name, const char *wanted, const char *format, ...)
{
	char result[2 * REPLY_SIZE];
	va_list args;

	va_start(args, format);
	vsnprintf(result, sizeof(result), format, args);
	va_end(args);
	printf("%s %s: %s\n", play.name, name, result);
	fflush(stdout);
	if (wanted && strcmp(wanted, result)) {
		fprintf(stderr, "%s %s: %s, not %s\n", play.name, name, result, wanted);
		failures++;
	}
}

int port_from(const char *reply)
{
	int port = atoi(reply);

	if (port <= 0) {
		fprintf(stderr, "vmc-dgram: no port: %s\n", reply);
		fflush(stdout);
		exit(2);
	}
	return port;
}

unsigned long next_seed(void)
{
	static unsigned long seed;

	return ++seed;
}

int pair(bool connected)
{
	int ports[2];

	for (enum end e = NEAR; e <= FAR; e++) {
		at(e, "open 0 family=%s", play.family);
		ports[e] = port_from(at(e, "bind 0"));
	}
	for (enum end e = NEAR; e <= FAR; e++) {
		at(e, "peer 0 port=%d", ports[!e]);
		if (connected)
			at(e, "connect 0");
	}
	return ports[play.rx];
}

const char *pass(int size, const char *send_args, const char *recv_args)
{
	static char results[2][2 * REPLY_SIZE];
	static int which;
	char *result = results[which ^= 1];
	unsigned long seed = next_seed();
	const char *sent = at(play.tx, "send 0 size=%d seed=%lu %s", size, seed, send_args);

	if (*sent >= '0' && *sent <= '9')
		snprintf(result, sizeof(results[0]), "sent %s, received %s", sent,
			 at(play.rx, "recv 0 seed=%lu %s", seed, recv_args));
	else
		snprintf(result, sizeof(results[0]), "sent %s", sent);
	return result;
}

const char *provoke(int slot, int size, unsigned long seed)
{
	for (int i = 0; i < 10; i++) {
		const char *sent = at(play.tx, "send %d size=%d seed=%lu", slot, size, seed);

		if (*sent > '9')
			return sent;
		if (strstr(at(play.tx, "poll %d wait=3000", slot), "error"))
			return "error";
	}
	return "no error";
}

/* ADDRESS or ADDRESS%INTERFACE; no names, for a static program cannot look them up */
static socklen_t parse(const char *text, uint16_t port, union address *a)
{
	char host[64] = "";
	size_t n = strcspn(text, "%");

	memset(a, 0, sizeof(*a));
	if (inet_pton(AF_INET, text, &a->v4.sin_addr) == 1) {
		a->v4.sin_family = AF_INET;
		a->v4.sin_port = htons(port);
		return sizeof(a->v4);
	}
	if (n < sizeof(host))
		memcpy(host, text, n);
	if (inet_pton(AF_INET6, host, &a->v6.sin6_addr) != 1) {
		fprintf(stderr, "vmc-dgram: not an address: %s\n", text);
		exit(2);
	}
	a->v6.sin6_family = AF_INET6;
	a->v6.sin6_port = htons(port);
	if (strchr(text, '%'))
		a->v6.sin6_scope_id = if_nametoindex(strchr(text, '%') + 1);
	return sizeof(a->v6);
}

static FILE *reach(const char *host, uint16_t port)
{
	struct timeval patience = { .tv_sec = 60 };
	union address to;
	socklen_t size = parse(host, port, &to);
	int fd = -1, on = 1;
	FILE *file;

	for (int i = 0; i < 50; i++) {	/* the agent may just be starting */
		fd = socket(to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && !connect(fd, &to.any, size))
			break;
		if (fd >= 0)
			close(fd);
		fd = -1;
		usleep(100000);
	}
	file = fd < 0 ? NULL : fdopen(fd, "r");
	if (!file) {
		perror("vmc-dgram: connect to the agent");
		exit(2);
	}
	setsockopt(fd, SOL_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	end_init(fd);
	return file;
}

static void play_all(const char *family, const char *out, const char *in)
{
	play.family = family;
	play.v4 = *family != '6';
	for (enum end tx = NEAR; tx <= FAR; tx++) {
		play.tx = tx;
		play.rx = !tx;
		play.name = tx == NEAR ? out : in;
		checks_basic();
		checks_info();
		checks_error();
		checks_bulk();
		checks_group();
	}
}

static int check(const char *host, uint16_t port)
{
	control = reach(host, port);
	play.loopback = end_is_loopback();
	if (end_is_v6()) {
		play_all("6", "v6 out", "v6 in");
	} else {
		play_all("4", "v4 out", "v4 in");
		play_all("m", "mapped out", "mapped in");
	}
	if (failures)
		fprintf(stderr, "vmc-dgram: %d wrong\n", failures);
	return failures ? 1 : 0;
}

static int usage(void)
{
	fputs("usage: vmc-dgram agent [--port N] [--background]\n"
	      "       vmc-dgram check ADDRESS [--port N] [--verbose]\n", stderr);
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "port", required_argument, NULL, 'p' },
		{ "background", no_argument, NULL, 'b' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "break", required_argument, NULL, 'B' },	/* for self-test */
		{ 0 },
	};
	static const char *const ways[] = { "", "duplicate", "corrupt", "drop-cmsg" };
	uint16_t port = DEFAULT_PORT;
	bool background = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'p':
			port = (uint16_t)atoi(optarg);
			break;
		case 'b':
			background = true;
			break;
		case 'v':
			verbose = true;
			break;
		case 'B':
			for (enum broken b = DUPLICATE; b <= DROP_CMSG; b++)
				if (!strcmp(optarg, ways[b]))
					broken = b;
			if (!broken)
				return usage();
			break;
		default:
			return usage();
		}
	}
	if (argc - optind == 1 && !strcmp(argv[optind], "agent"))
		return agent(port, background);
	if (argc - optind == 2 && !strcmp(argv[optind], "check"))
		return check(argv[optind + 1], port);
	return usage();
}
