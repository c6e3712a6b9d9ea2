// SPDX-License-Identifier: GPL-2.0-or-later
/* vmc-script: the command line. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script.h"

static const char usage[] =
"Usage: vmc-script agent [--port P] [--background] [--switch]\n"
"       vmc-script play ADDRESS [--port P] [--seed S] [--scripts N] [--parallel K] [--switch]\n"
"                       [--out FILE] [--expect FILE] [--verbose]\n"
"\n"
"Plays random scripts of socket calls on connections between here and an agent, and writes a line\n"
"for each to FILE: its seed, and a digest of what every call returned. Over TCP and over VMC the\n"
"lines have to be the same. --expect FILE, with the lines of another run, shows all calls of a script that\n"
"returned something else; to see the right ones, --seed ITS-SEED --scripts 1 --verbose where they were made.\n"
"Exits 1 then, and if an outcome is wrong by itself: a wrong byte, one that never comes, a lost edge,\n"
"a timeout that ends early, a call that nothing wakes.\n"
"\n"
"--switch: scripts send all streams of a guest back to TCP at random points (/sys/kernel/debug/vmc).\n"
"Defaults: port 7710, seed 1, 100 scripts, 8 of them at once.\n";

enum { O_PORT = 1, O_BACKGROUND, O_SWITCH, O_SEED, O_SCRIPTS, O_PARALLEL, O_OUT, O_EXPECT,
	O_VERBOSE, O_HELP };

static const struct option options[] = {
	{ "port", required_argument, NULL, O_PORT },
	{ "background", no_argument, NULL, O_BACKGROUND },
	{ "switch", no_argument, NULL, O_SWITCH },
	{ "seed", required_argument, NULL, O_SEED },
	{ "scripts", required_argument, NULL, O_SCRIPTS },
	{ "parallel", required_argument, NULL, O_PARALLEL },
	{ "out", required_argument, NULL, O_OUT },
	{ "expect", required_argument, NULL, O_EXPECT },
	{ "verbose", no_argument, NULL, O_VERBOSE },
	{ "help", no_argument, NULL, O_HELP },
	{ NULL, 0, NULL, 0 },
};

static unsigned long number(const char *text, unsigned long most)
{
	char *end;
	unsigned long v = strtoul(text, &end, 0);

	if (end == text || *end || v > most) {
		fprintf(stderr, "vmc-script: %s: a number up to %lu\n", text, most);
		exit(2);
	}
	return v;
}

static void count_sigpipe(int sig)
{
	(void)sig;
	sigpipes++;
}

int main(int argc, char **argv)
{
	struct play_options p = { .port = 7710, .seed = 1, .scripts = 100, .parallel = 8 };
	struct agent_options a = { 0 };
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (option) {
		case O_PORT:
			p.port = (uint16_t)number(optarg, 65535);
			break;
		case O_BACKGROUND:
			a.background = true;
			break;
		case O_SWITCH:
			a.switches = p.switches = true;
			break;
		case O_SEED:
			p.seed = number(optarg, -1ul);
			break;
		case O_SCRIPTS:
			p.scripts = (unsigned int)number(optarg, 100000000);
			break;
		case O_PARALLEL:
			p.parallel = (unsigned int)number(optarg, 1000);
			break;
		case O_OUT:
			p.out = optarg;
			break;
		case O_EXPECT:
			p.expect = optarg;
			break;
		case O_VERBOSE:
			p.verbose = true;
			break;
		case O_HELP:
			fputs(usage, stdout);
			return 0;
		default:
			return 2;
		}
	signal(SIGPIPE, count_sigpipe);
	wait_init();
	a.port = p.port;
	argv += optind;
	argc -= optind;
	if (argc == 1 && !strcmp(argv[0], "agent"))
		return agent(&a);
	if (argc != 2 || strcmp(argv[0], "play") || !p.parallel || !p.scripts) {
		fputs(usage, stderr);
		return 2;
	}
	if (p.parallel > p.scripts)
		p.parallel = p.scripts;
	p.host = argv[1];
	return play(&p);
}
