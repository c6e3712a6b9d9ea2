// SPDX-License-Identifier: GPL-2.0-or-later
/* vmc-claim: the command line, and the list of tests. */
#include <getopt.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "claim.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP	262
#endif
#ifndef AF_SMC
#define AF_SMC		43
#endif

const struct test tests[] = {
	{ .name = "tls12", .run = test_tls12 },
	{ .name = "tls13", .run = test_tls13 },
	{ .name = "tls-late", .run = test_tls_late },
	{ .name = "tls-first", .run = test_tls_first },
	{ .name = "sockmap", .run = test_sockmap },
	{ .name = "sockhash", .run = test_sockhash },
	{ .name = "verdict", .run = test_verdict },
	{ .name = "sockops", .prepare = prepare_sockops, .run = test_sockops },
	{ .name = "filter", .run = test_filter },
	{ .name = "bpf-filter", .run = test_bpf_filter },
	{ .name = "kcm", .run = test_kcm },
	{ .name = "nbd", .run = test_nbd },
	{ .name = "repair", .run = test_repair },
	{ .name = "inq", .run = test_inq },
	{ .name = "destroy", .run = test_destroy },
	{ .name = "crossed", .open = cross, .run = test_crossed },
	{ .name = "mptcp", .protocol = IPPROTO_MPTCP, .run = test_mptcp },
	{ .name = "mptcp-to-tcp", .open_protocol = IPPROTO_MPTCP, .run = test_served },
	{ .name = "tcp-to-mptcp", .protocol = IPPROTO_MPTCP, .open_protocol = IPPROTO_TCP,
	  .run = test_served },
	{ .name = "smc", .family = AF_SMC, .run = test_untouched },
	{ .name = "tls-reload", .run = test_tls_reload },
	{ .name = "sockmap-reload", .run = test_sockmap_reload },
	{ .name = NULL },
};

static const char usage[] =
"Usage: vmc-claim agent [--port P] [--background] [--local]\n"
"       vmc-claim play ADDRESS [--port P] [--local] [TEST...]\n"
"       vmc-claim list\n"
"\n"
"Connections between here and an agent that another part of the kernel takes while they are in\n"
"use: kTLS, sockmap, KCM, nbd, TCP_REPAIR and others, and those that were never TCP's alone. Says for each\n"
"test `ok`, `FAIL`, or `SKIP` if this kernel or user may not. Exits 1 if one failed.\n"
"\n"
"--local: both ends are guests with the driver. The connection has to be in shared memory first, with\n"
"bytes that nobody has read, and the driver has to let it go.\n"
"Default: port 7720, all tests.\n";

enum { O_PORT = 1, O_BACKGROUND, O_LOCAL, O_HELP };

static const struct option options[] = {
	{ "port", required_argument, NULL, O_PORT },
	{ "background", no_argument, NULL, O_BACKGROUND },
	{ "local", no_argument, NULL, O_LOCAL },
	{ "help", no_argument, NULL, O_HELP },
	{ NULL, 0, NULL, 0 },
};

static int list(void)
{
	const struct test *t;

	for (t = tests; t->name; t++)
		puts(t->name);
	return 0;
}

int main(int argc, char **argv)
{
	struct play_options p = { .port = 7720 };
	bool background = false;
	unsigned long port;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (option) {
		case O_PORT:
			port = strtoul(optarg, NULL, 10);
			if (!port || port > 65535) {
				fprintf(stderr, "vmc-claim: %s is no port\n", optarg);
				return 2;
			}
			p.port = (uint16_t)port;
			break;
		case O_BACKGROUND:
			background = true;
			break;
		case O_LOCAL:
			p.local = true;
			break;
		case O_HELP:
			fputs(usage, stdout);
			return 0;
		default:
			return 2;
		}
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	argv += optind;
	argc -= optind;
	if (argc == 1 && !strcmp(argv[0], "list"))
		return list();
	if (argc == 1 && !strcmp(argv[0], "agent"))
		return agent(p.port, background, p.local);
	if (argc < 2 || strcmp(argv[0], "play")) {
		fputs(usage, stderr);
		return 2;
	}
	p.host = argv[1];
	p.names = argv + 2;
	return play(&p);
}
