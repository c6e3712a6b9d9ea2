// SPDX-License-Identifier: GPL-2.0-or-later
/* Chooses the steps, keeps a model of the connection, writes down the outcomes. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "play.h"

#define TOLD_MAX	65536

static const char *const action_name[A_NR] = {
	[A_REST] = "rest", [A_SEND] = "send", [A_CORKED] = "corked", [A_ZEROCOPY] = "zerocopy",
	[A_CROWD] = "crowd", [A_URGENT] = "urgent", [A_FLOOD] = "flood", [A_ROOM] = "room",
	[A_RECV] = "recv", [A_DRAIN] = "drain", [A_INLINE] = "inline", [A_MARK] = "mark",
	[A_PEEK_OFF] = "peek-off", [A_TIMEOUT] = "timeout", [A_WAIT] = "wait",
	[A_SIGNAL] = "signal", [A_WOKEN] = "woken", [A_POLL] = "poll", [A_EPOLL] = "epoll",
	[A_QUEUED] = "queued", [A_UNSENT] = "unsent", [A_ERROR] = "error",
	[A_OPTION] = "option", [A_STATE] = "state", [A_SHUTDOWN] = "shutdown",
	[A_CLOSE] = "close", [A_DISCONNECT] = "disconnect", [A_SWITCH] = "switch",
	[A_OPEN] = "open",
};

int dial(const struct sockaddr_in *sin, uint16_t port)
{
	struct sockaddr_in to = *sin;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	to.sin_port = htons(port);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to))) {
		fprintf(stderr, "vmc-script: port %u: %m\n", port);
		exit(1);
	}
	return fd;
}

void order(struct player *p, const struct step *st, struct outcome *o)
{
	put_all(p->control, st, sizeof(*st));
	get_all(p->control, o, sizeof(*o));
}

uint32_t unread(const struct player *p, unsigned int side)
{
	return (uint32_t)(p->m[!side].sent - p->m[side].read);
}

static void __attribute__((format(printf, 2, 3))) tell(struct player *p, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(p->told + p->told_len, TOLD_MAX - p->told_len, format, args);
	va_end(args);
	if (n > 0 && p->told_len + (size_t)n < TOLD_MAX)
		p->told_len += (size_t)n;
}

void note(struct player *p, unsigned int side, const struct step *st, const struct outcome *o)
{
	struct result *r = p->result;
	const int32_t said[] = {
		(int32_t)side, (int32_t)st->action, o->ret, o->error, (int32_t)o->extra,
		(int32_t)o->bad,
	};
	size_t i;

	r->steps++;
	if (st->action != A_SWITCH)
		for (i = 0; i < sizeof(said) / sizeof(said[0]); i++)
			r->digest = mix64(r->digest ^ (uint32_t)said[i]);
	if (o->bad)
		r->bad++;
	tell(p, "%llu.%u %s %s n %u flags 0x%x style %u via %u rest %u/0x%x = %d error %d extra 0x%x%s",
	     (unsigned long long)p->seed, r->steps, side ? "far" : "near",
	     action_name[st->action], st->n, st->flags, st->style, st->via, st->queued,
	     st->until, o->ret, o->error, o->extra, o->bad ? "" : "\n");
	if (o->bad == BAD_CONTENT)
		tell(p, " WRONG BYTE at %u\n", o->detail);
	else if (o->bad == BAD_REST)
		tell(p, " DOES NOT COME TO REST: %d bytes to read, events 0x%x\n",
		     (int32_t)o->detail, o->events);
	else if (o->bad == BAD_EDGE)
		tell(p, " NO EDGE for new bytes, events 0x%x\n", o->events);
	else if (o->bad == BAD_EARLY)
		tell(p, " TOO EARLY\n");
	else if (o->bad == BAD_ASLEEP)
		tell(p, " NOT WOKEN, or not by all\n");
}

struct outcome take(struct player *p, unsigned int side, struct step *st)
{
	struct model *me = &p->m[side], *other = &p->m[!side];
	struct outcome o = { 0 };

	if (p->result->bad)	/* nothing after it means anything */
		return o;
	st->queued = unread(p, side);
	/* the error of a reset may have been told before; then only the end shows */
	st->until = me->reset ? POLLHUP : me->fin ? POLLRDHUP : 0;
	if (st->action == A_MARK)
		st->until |= POLLPRI;
	if (side)
		order(p, st, &o);
	else
		end_do(&p->near, st, &o);
	note(p, side, st, &o);
	if (o.sent && other->gone) {
		me->reset = true;	/* nobody there any more */
	} else if (o.sent && other->shut_rd && other->shut_wr) {
		/* RFC 1122, 4.2.2.13: it can't be delivered */
		me->reset = other->reset = true;
	} else {
		me->sent += o.sent;
		other->news += o.sent;
	}
	me->read += o.read;
	if (st->action == A_EPOLL)
		me->news = 0;
	return o;
}

void abandon(struct player *p)
{
	struct step st = { .action = A_END };
	struct outcome o;
	unsigned int side;

	for (side = 0; side < 2; side++)
		if (!p->m[side].gone && side)
			order(p, &st, &o);
		else if (!p->m[side].gone)
			end_do(&p->near, &st, &o);
}

static bool differs(const struct result *r)
{
	return r->expected && r->digest != r->expected;
}

static void worker(struct player *p, unsigned int from, struct result *results)
{
	struct step st = { .action = A_LISTEN };
	struct outcome o;
	unsigned int i;
	int on = 1;

	p->control = dial(&p->sin, p->opt->port);
	setsockopt(p->control, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	order(p, &st, &o);
	p->data_port = (uint16_t)o.ret;
	if (!from && !(o.extra && uring_works()))
		fprintf(stderr, "vmc-script: no io_uring at the %s end: plain calls instead\n",
			o.extra ? "near" : "far");
	end_init(&p->near);
	p->told = malloc(TOLD_MAX);
	if (!p->told)
		exit(1);
	p->near.switches = p->opt->switches;
	for (i = from; i < p->opt->scripts; i += p->opt->parallel) {
		p->seed = p->opt->seed + i;
		p->result = &results[i];
		p->told_len = 0;
		one_script(p);
		if (p->opt->verbose || p->result->bad || differs(p->result)) {
			fwrite(p->told, 1, p->told_len, stdout);
			fflush(stdout);
		}
	}
	exit(0);
}

static int report(const struct play_options *opt, const struct result *results)
{
	FILE *out = opt->out ? fopen(opt->out, "w") : NULL;
	unsigned int i, bad = 0, other = 0;
	uint64_t steps = 0;

	if (opt->out && !out) {
		perror(opt->out);
		return 1;
	}
	for (i = 0; i < opt->scripts; i++) {
		if (out)
			fprintf(out, "%llu %016llx\n", (unsigned long long)(opt->seed + i),
				(unsigned long long)results[i].digest);
		steps += results[i].steps;
		/* a script whose player died has taken no step */
		bad += results[i].bad || !results[i].steps;
		other += differs(&results[i]);
	}
	if (out && fclose(out)) {
		perror(opt->out);
		return 1;
	}
	printf("scripts %u steps %llu bad %u", opt->scripts, (unsigned long long)steps, bad);
	if (opt->expect)
		printf(" different %u", other);
	printf("\n");
	return bad || other;
}

/* The digests of another run, by seed. */
static int expect(const struct play_options *opt, struct result *results)
{
	FILE *in = fopen(opt->expect, "r");
	unsigned long long seed, digest;
	unsigned int found = 0;

	if (!in) {
		perror(opt->expect);
		return -1;
	}
	while (fscanf(in, "%llu %llx", &seed, &digest) == 2)
		if (seed >= opt->seed && seed - opt->seed < opt->scripts) {
			results[seed - opt->seed].expected = digest;
			found++;
		}
	fclose(in);
	if (found == opt->scripts)
		return 0;
	fprintf(stderr, "vmc-script: %s: tells of %u of %u scripts\n", opt->expect, found,
		opt->scripts);
	return -1;
}

int play(const struct play_options *opt)
{
	struct player p = {
		.opt = opt,
		.sin = { .sin_family = AF_INET },
	};
	struct result *results;
	unsigned int i;
	int status, failed = 0;

	if (!inet_aton(opt->host, &p.sin.sin_addr)) {
		fprintf(stderr, "vmc-script: %s: no address\n", opt->host);
		return 2;
	}
	results = mmap(NULL, opt->scripts * sizeof(*results), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (results == MAP_FAILED) {
		perror("vmc-script");
		return 1;
	}
	if (opt->expect && expect(opt, results))
		return 2;
	fflush(stdout);
	for (i = 0; i < opt->parallel; i++)
		if (!fork())
			worker(&p, i, results);
	while (wait(&status) > 0)
		if (status) {
			fprintf(stderr, "vmc-script: a player ended with status 0x%x\n",
				(unsigned int)status);
			failed = 1;
		}
	return report(opt, results) || failed;
}
