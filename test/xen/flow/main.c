// SPDX-License-Identifier: GPL-2.0-or-later
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "flow.h"

static const char usage[] =
"usage: vmc-flow serve [--port N] [--background]\n"
"       vmc-flow flow|flood|pingpong ADDRESS [--port N] [--seconds S] [--flows N]\n"
"                [--size MIN[:MAX]] [--rate N] [--ready FILE]\n"
"\n"
"Sends numbered datagrams with known content and says what became of them.\n"
"\n"
"  serve       the far end; with --background it listens when this returns\n"
"  flow        --flows flows of --rate datagrams a second together, of random sizes;\n"
"              status 1 if one came twice, before an earlier one, or changed\n"
"  flood       as fast as the sockets take them\n"
"  pingpong    one there, one back; prints round trips\n"
"\n"
"  --port N    of the far end, TCP (7730)\n"
"  --seconds S how long (5)\n"
"  --ready FILE  made when the first datagram has been sent\n";

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* What belongs into word @i of a datagram. */
static uint64_t word(const struct head *h, size_t i)
{
	return mix(((uint64_t)h->run << 32 ^ (uint64_t)h->flow << 48 ^ h->seq) + i * h->len);
}

void fill(unsigned char *buf, uint32_t run, uint32_t flow, uint32_t seq, uint32_t len)
{
	struct head h = { run, flow, seq, len };
	size_t at = sizeof(h), n;
	uint64_t w;

	memcpy(buf, &h, sizeof(h));
	for (; at < len; at += n) {
		n = len - at < sizeof(w) ? len - at : sizeof(w);
		w = word(&h, at);
		memcpy(buf + at, &w, n);
	}
}

bool is_right(const unsigned char *buf, size_t len)
{
	struct head h;
	size_t at = sizeof(h), n;
	uint64_t w;

	if (len < sizeof(h))
		return false;
	memcpy(&h, buf, sizeof(h));
	if (h.len != len || h.flow >= FLOWS_MAX)
		return false;
	for (; at < len; at += n) {
		n = len - at < sizeof(w) ? len - at : sizeof(w);
		w = word(&h, at);
		if (memcmp(buf + at, &w, n))
			return false;
	}
	return true;
}

void read_all(int fd, void *buf, size_t len)
{
	ssize_t n;

	for (char *p = buf; len; p += n, len -= (size_t)n) {
		n = read(fd, p, len);
		if (n < 0)
			err(1, "reading from the other end");
		if (!n)
			exit(1);
	}
}

void write_all(int fd, const void *buf, size_t len)
{
	ssize_t n;

	for (const char *p = buf; len; p += n, len -= (size_t)n) {
		n = write(fd, p, len);
		if (n < 0)
			err(1, "writing to the other end");
	}
}

static unsigned int number(const char *text, unsigned int min, unsigned int max, const char *what)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno || end == text || *end || n < min || n > max)
		errx(2, "%s: '%s' is not a number from %u to %u", what, text, min, max);
	return (unsigned int)n;
}

static double decimal(const char *text, const char *what)
{
	char *end;
	double d = strtod(text, &end);

	if (end == text || *end || !(d > 0))
		errx(2, "%s: '%s' is not a number above 0", what, text);
	return d;
}

static void sizes(struct options *o, char *text)
{
	char *colon = strchr(text, ':');

	if (colon)
		*colon = 0;
	o->size_min = number(text, DATAGRAM_MIN, DATAGRAM_MAX, "--size");
	o->size_max = colon ? number(colon + 1, o->size_min, DATAGRAM_MAX, "--size") : o->size_min;
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "port", required_argument, NULL, 'p' },
		{ "seconds", required_argument, NULL, 's' },
		{ "flows", required_argument, NULL, 'f' },
		{ "size", required_argument, NULL, 'z' },
		{ "rate", required_argument, NULL, 'r' },
		{ "ready", required_argument, NULL, 'y' },
		{ "background", no_argument, NULL, 'b' },
		{ "break", required_argument, NULL, 'x' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct options o = {
		.port = 7730, .flows = 8, .size_min = 64, .size_max = 1400,
		.seconds = 5, .rate = 1000,
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", long_options, NULL)) != -1)
		switch (c) {
		case 'p': o.port = number(optarg, 1, 65535, "--port"); break;
		case 's': o.seconds = decimal(optarg, "--seconds"); break;
		case 'f': o.flows = number(optarg, 1, FLOWS_MAX, "--flows"); break;
		case 'z': sizes(&o, optarg); break;
		case 'r': o.rate = decimal(optarg, "--rate"); break;
		case 'y': o.ready = optarg; break;
		case 'b': o.background = true; break;
		case 'x': o.broken = optarg; break;
		case 'h': fputs(usage, stdout); return 0;
		default: fputs(usage, stderr); return 2;
		}
	if (optind < argc)
		o.command = argv[optind++];
	if (optind < argc)
		o.address = argv[optind++];
	if (o.command && optind == argc && !strcmp(o.command, "serve") && !o.address)
		return far_serve(&o);
	if (o.address && optind == argc &&
	    (!strcmp(o.command, "flow") || !strcmp(o.command, "flood") ||
	     !strcmp(o.command, "pingpong")))
		return near_run(&o);
	fputs(usage, stderr);
	return 2;
}
