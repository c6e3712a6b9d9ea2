// SPDX-License-Identifier: GPL-2.0-or-later
/* vmc-traffic: the command line. */
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "traffic.h"

static const char usage[] =
"Usage: vmc-traffic serve [--port P] [--family 4|6|mapped] [--background [--log FILE]]\n"
"                         [--accept-delay MS] [--fault flip|drop|repeat]\n"
"       vmc-traffic run ADDRESS   [--connections N] [--parallel K] [--min-bytes B] [--max-bytes B]\n"
"                         [--chunk B] [--style LIST] [--pattern LIST] [--ops LIST] [--signals MS]\n"
"       vmc-traffic hold ADDRESS  [--connections N] [--seconds S] [--pace MS] [--peer-dies]\n"
"                         [--user-timeout MS] [--chunk B] [--style LIST] [--ops LIST] [--requests]\n"
"       vmc-traffic sha ADDRESS   [--bytes B]\n"
"       vmc-traffic answer [--port P] [--family 4|6|mapped] [--background [--log FILE]]\n"
"       vmc-traffic pair|crr ADDRESS  [--bytes B] [--seconds S]\n"
"       vmc-traffic idle ADDRESS  [--connections N] [--parallel K] [--bytes B] [--seconds S]\n"
"       vmc-traffic stuck ADDRESS [--seconds S]\n"
"\n"
"Sends and receives TCP streams of which every byte is known from the seed, checks each of them and\n"
"what the calls say about them, and exits 1 with the place of the first difference.\n"
"\n"
"run:   connections that end. --parallel of them are open, all before any begins. To see one of a run\n"
"       again: --from ITS-NUMBER --connections 1, and the rest as it was.\n"
"hold:  connections that stay, with a little traffic, for --seconds or until SIGTERM. It tells when\n"
"       all are open. --requests: requests and answers in turn. --peer-dies: each has to end in an error,\n"
"       with all before it right.\n"
"sha:   one connection, --bytes in both directions at once, SHA-256 of both at both ends.\n"
"answer: answers requests of the four below; one thread for all connections.\n"
"pair:  requests of --bytes on two connections in turn, one of which is kept from the driver.\n"
"crr:   connect, request, response, close, again and again.\n"
"idle:  connections that send and receive --bytes twice and then are silent until SIGTERM or --seconds.\n"
"stuck: calls whose page faults wait until SIGTERM or --seconds, and then have to go on.\n"
"\n"
"Common: --port P (7700), --seed S (1), --timeout S (300), --quiet S (20; longest time without\n"
"progress), --family mapped (an IPv4 address by an IPv6 socket), --moves (the guest is suspended meanwhile:\n"
"calls on sockets with a timeout end with EINTR then, whatever they run over). VMC_SLOW=N in the environment makes\n"
"both times N times as long.\n"
"Styles: blocking nonblocking poll select epoll-lt epoll-et. Patterns: stream pingpong both half-close\n"
"rst threads stall. Ops: iov sendfile splice peek waitall dontwait lowat timeo fionread trunc oob fault\n"
"more sockopt reuse; -NAME leaves one out. All default to a mix of all.\n";

static unsigned int timeout_s = 300;

static void *watchdog(void *unused)
{
	sigset_t all;

	(void)unused;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	sleep(timeout_s);
	fprintf(stderr, "vmc-traffic: not done after %u s\n", timeout_s);
	session_report_all();
	fflush(NULL);
	_exit(1);
}

static int number(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	char *end;
	uint64_t v = strtoull(text, &end, 0);

	if (end != text && (*end == 'k' || *end == 'M' || *end == 'G'))
		v <<= *end == 'k' ? 10 : *end == 'M' ? 20 : 30, end++;
	if (end == text || *end || v < min || v > max) {
		fprintf(stderr, "vmc-traffic: %s: a number from %llu to %llu\n", text,
			(unsigned long long)min, (unsigned long long)max);
		return -1;
	}
	*value = v;
	return 0;
}

enum {
	O_PORT = 1, O_FAMILY, O_BACKGROUND, O_LOG, O_DELAY, O_FAULT, O_SEED, O_CONNECTIONS,
	O_PARALLEL, O_MIN, O_MAX, O_CHUNK, O_STYLE, O_PATTERN, O_OPS, O_SIGNALS, O_SECONDS,
	O_PACE, O_REQUESTS, O_DIES, O_USER_TIMEOUT, O_BYTES, O_TIMEOUT, O_QUIET, O_FROM, O_MOVES,
	O_HELP,
};

static const struct option options[] = {
	{ "port", required_argument, NULL, O_PORT },
	{ "family", required_argument, NULL, O_FAMILY },
	{ "background", no_argument, NULL, O_BACKGROUND },
	{ "log", required_argument, NULL, O_LOG },
	{ "accept-delay", required_argument, NULL, O_DELAY },
	{ "fault", required_argument, NULL, O_FAULT },
	{ "seed", required_argument, NULL, O_SEED },
	{ "connections", required_argument, NULL, O_CONNECTIONS },
	{ "parallel", required_argument, NULL, O_PARALLEL },
	{ "min-bytes", required_argument, NULL, O_MIN },
	{ "max-bytes", required_argument, NULL, O_MAX },
	{ "chunk", required_argument, NULL, O_CHUNK },
	{ "style", required_argument, NULL, O_STYLE },
	{ "pattern", required_argument, NULL, O_PATTERN },
	{ "ops", required_argument, NULL, O_OPS },
	{ "signals", required_argument, NULL, O_SIGNALS },
	{ "seconds", required_argument, NULL, O_SECONDS },
	{ "pace", required_argument, NULL, O_PACE },
	{ "peer-dies", no_argument, NULL, O_DIES },
	{ "user-timeout", required_argument, NULL, O_USER_TIMEOUT },
	{ "bytes", required_argument, NULL, O_BYTES },
	{ "timeout", required_argument, NULL, O_TIMEOUT },
	{ "quiet", required_argument, NULL, O_QUIET },
	{ "from", required_argument, NULL, O_FROM },
	{ "moves", no_argument, NULL, O_MOVES },
	{ "requests", no_argument, NULL, O_REQUESTS },
	{ "help", no_argument, NULL, O_HELP },
	{ NULL, 0, NULL, 0 },
};

struct arguments {
	struct serve_options serve;
	struct client_options client;
	uint64_t pace;
};

static int parse_word(int option, const char *text, struct arguments *a)
{
	static const char *const fault_name[] = { "none", "flip", "drop", "repeat" };
	struct mix *mix = &a->client.mix;
	uint32_t mask;

	switch (option) {
	case O_FAMILY:
		a->client.mapped = a->serve.mapped = !strcmp(text, "mapped");
		a->serve.family = !strcmp(text, "4") ? AF_INET : AF_INET6;
		return a->serve.mapped || !strcmp(text, "4") || !strcmp(text, "6") ? 0 : -1;
	case O_FAULT:
		if (mask_parse(text, fault_name, 4, &mask))
			return -1;
		a->serve.fault = (enum fault)__builtin_ctz(mask);
		return 0;
	case O_STYLE:
		return mask_parse(text, style_name, S_NR, &mix->styles);
	case O_PATTERN:
		return mask_parse(text, pattern_name, P_NR_RUN, &mix->patterns);
	default:
		return ops_parse(text, &mix->ops);
	}
}

static bool zero_ok(int option)
{
	return option == O_SEED || option == O_SIGNALS || option == O_DELAY || option == O_FROM;
}

static int parse(int argc, char **argv, struct arguments *a)
{
	struct client_options *c = &a->client;
	uint64_t v = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		int err = 0;

		switch (option) {
		case O_BACKGROUND:
			a->serve.background = true;
			continue;
		case O_DIES:
			c->peer_dies = true;
			continue;
		case O_REQUESTS:
			c->requests = true;
			continue;
		case O_MOVES:
			atomic_store(&signals_on, true);
			continue;
		case O_LOG:
			a->serve.log = optarg;
			continue;
		case O_HELP:
			fputs(usage, stdout);
			exit(0);
		case O_FAMILY:
		case O_FAULT:
		case O_STYLE:
		case O_PATTERN:
		case O_OPS:
			if (parse_word(option, optarg, a)) {
				fprintf(stderr, "vmc-traffic: %s: no such choice\n", optarg);
				return -1;
			}
			continue;
		case '?':
			return -1;
		}
		err = number(optarg, zero_ok(option) ? 0 : 1,
			     option == O_SEED ? UINT64_MAX : option == O_CHUNK ? 4 << 20 :
			     option == O_PORT ? 65535 : 1ull << 40, &v);
		if (err)
			return err;
		switch (option) {
		case O_PORT:
			a->serve.port = c->port = (uint16_t)v;
			break;
		case O_DELAY:
			a->serve.accept_delay_ms = (unsigned int)v;
			break;
		case O_SEED:
			c->seed = v;
			break;
		case O_CONNECTIONS:
			c->connections = (unsigned int)v;
			break;
		case O_PARALLEL:
			c->parallel = (unsigned int)v;
			break;
		case O_MIN:
			c->mix.min_bytes = v;
			break;
		case O_MAX:
			c->mix.max_bytes = v;
			break;
		case O_CHUNK:
			c->mix.chunk = (uint32_t)v;
			break;
		case O_SIGNALS:
			c->mix.signal_ms = (uint32_t)v;
			break;
		case O_SECONDS:
			c->seconds = (unsigned int)v;
			break;
		case O_PACE:
			a->pace = v;
			break;
		case O_USER_TIMEOUT:
			c->user_timeout_ms = (unsigned int)v;
			break;
		case O_BYTES:
			c->bytes = v;
			break;
		case O_TIMEOUT:
			timeout_s = (unsigned int)v;
			break;
		case O_FROM:
			c->from = (unsigned int)v;
			break;
		case O_QUIET:
			c->mix.quiet_ms = (uint32_t)v * 1000;
			break;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct arguments a = {
		.serve = { .family = AF_INET, .port = 7700 },
		.client = {
			.port = 7700, .seed = 1, .connections = 20, .parallel = 1, .seconds = 10,
			.bytes = 16 << 20,
			.mix = {
				.min_bytes = 1, .max_bytes = 1 << 20, .chunk = 256 << 10,
				.ops = OP_ALL, .patterns = (1u << P_NR_RUN) - 1,
				.styles = (1u << S_NR) - 1, .quiet_ms = 20000,
			},
		},
		.pace = 50,
	};
	struct client_options *c = &a.client;
	uint64_t factor = 1;
	struct rlimit files;
	const char *slow;
	pthread_t thread;

	if (parse(argc, argv, &a))
		return 2;
	argv += optind;
	argc -= optind;
	slow = getenv("VMC_SLOW");
	if (slow) {
		if (number(slow, 1, 1000, &factor))
			return 2;
		timeout_s *= (unsigned int)factor;
		c->mix.quiet_ms *= (uint32_t)factor;
	}
	signal(SIGPIPE, SIG_IGN);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max = files.rlim_max < 65536 && !geteuid() ? 65536 : files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	if (argc == 1 && !strcmp(argv[0], "serve"))
		return serve(&a.serve);
	if (argc == 1 && !strcmp(argv[0], "answer")) {
		a.serve.answer = true;
		return serve(&a.serve);
	}
	if (argc != 2) {
		fputs(usage, stderr);
		return 2;
	}
	c->host = argv[1];
	if (c->mix.min_bytes > c->mix.max_bytes)
		c->mix.max_bytes = c->mix.min_bytes;
	if (c->parallel > c->connections)
		c->parallel = c->connections;
	thread_start(watchdog, NULL, &thread);
	if (!strcmp(argv[0], "run"))
		return client_run(c);
	if (!strcmp(argv[0], "sha"))
		return client_sha(c);
	if (!strcmp(argv[0], "pair"))
		return client_pair(c);
	if (!strcmp(argv[0], "crr"))
		return client_crr(c);
	if (!strcmp(argv[0], "idle"))
		return client_idle(c);
	if (!strcmp(argv[0], "stuck"))
		return client_stuck(c);
	if (!strcmp(argv[0], "hold")) {
		c->bytes = a.pace;
		/* the longest pause of its own, see hold_pause(), is no silence */
		c->mix.quiet_ms += (uint32_t)(2 * HOLD_SLEEPER * a.pace);
		return client_hold(c);
	}
	fputs(usage, stderr);
	return 2;
}
