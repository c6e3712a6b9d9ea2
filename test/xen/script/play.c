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

#include "../tools/traffic.h"
#include "script.h"

#define UNREAD_MAX	24576u	/* what TCP takes for sure while nobody reads */
#define TOLD_MAX	65536
#define STEPS_MIN	4
#define STEPS_MAX	16

/* What an end has to know about itself and the other to expect the right thing. */
struct model {
	uint64_t sent, read;	/* by this end; read: of what the other sent */
	uint64_t news;		/* came since the edge was last looked at */
	uint32_t lowat;
	bool shut_wr, shut_rd;
	bool fin;		/* the other will send no more */
	bool gone;		/* closed */
	bool reset;		/* the other reset it */
};

struct result {
	uint64_t digest, expected;
	uint32_t steps, bad;
};

struct player {
	const struct play_options *opt;
	struct sockaddr_in sin;	/* of the agent */
	uint16_t data_port;
	int control;
	struct end near;
	struct model m[2];	/* near, far */
	struct rng rng;
	uint64_t seed;
	struct result *result;
	char *told;		/* what this script has done */
	size_t told_len;
};

static const char *const action_name[A_NR] = {
	"rest", "send", "corked", "zerocopy", "recv", "poll", "epoll", "queued", "error",
	"option", "shutdown", "close", "switch",
};

static int dial(const struct sockaddr_in *sin, uint16_t port)
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

static void order(struct player *p, const struct step *st, struct outcome *o)
{
	put_all(p->control, st, sizeof(*st));
	get_all(p->control, o, sizeof(*o));
}

static uint32_t unread(const struct player *p, unsigned int side)
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

static void note(struct player *p, unsigned int side, const struct step *st,
		 const struct outcome *o)
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
	tell(p, "%llu.%u %s %s n %u flags 0x%x style %u rest %u/0x%x = %d error %d extra 0x%x%s",
	     (unsigned long long)p->seed, r->steps, side ? "far" : "near",
	     action_name[st->action], st->n, st->flags, st->style, st->queued, st->until, o->ret,
	     o->error, o->extra, o->bad ? "" : "\n");
	if (o->bad == BAD_CONTENT)
		tell(p, " WRONG BYTE at %u\n", o->detail);
	else if (o->bad == BAD_REST)
		tell(p, " DOES NOT COME TO REST: %d bytes to read, events 0x%x\n",
		     (int32_t)o->detail, o->events);
	else if (o->bad == BAD_EDGE)
		tell(p, " NO EDGE for new bytes, events 0x%x\n", o->events);
}

/* Has a step done at one end, and tells the model. */
static struct outcome take(struct player *p, unsigned int side, struct step *st)
{
	struct model *me = &p->m[side], *other = &p->m[!side];
	struct outcome o;

	st->queued = unread(p, side);
	/* the error of a reset may have been told before; then only the end shows */
	st->until = me->reset ? POLLHUP : me->fin ? POLLRDHUP : 0;
	if (side)
		order(p, st, &o);
	else
		end_do(&p->near, st, &o);
	note(p, side, st, &o);
	if (o.ret > 0 && (st->action == A_SEND || st->action == A_CORKED ||
			  st->action == A_ZEROCOPY)) {
		if (other->gone) {
			me->reset = true;	/* nobody there any more */
		} else if (other->shut_rd && other->shut_wr) {
			/* RFC 1122, 4.2.2.13: it can't be delivered */
			me->reset = other->reset = true;
		} else {
			me->sent += (uint64_t)o.ret;
			other->news += (uint64_t)o.ret;
		}
	}
	if (o.ret > 0 && st->action == A_RECV && !(st->flags & MSG_PEEK))
		me->read += (uint64_t)o.ret;
	if (st->action == A_EPOLL)
		me->news = 0;
	return o;
}

static void rest(struct player *p, unsigned int side)
{
	struct step st = { .action = A_REST };

	if (!p->m[side].gone)
		take(p, side, &st);
}

static void choose_send(struct player *p, unsigned int side, struct step *st)
{
	uint32_t room = UNREAD_MAX - unread(p, !side);

	st->n = (uint32_t)rng_log(&p->rng, 1, MOST);
	if (rng_one_in(&p->rng, 30))
		st->n = 0;
	if (st->n > room)
		st->n = room;
	st->style = (uint32_t)rng_below(&p->rng, 6);
	st->flags = rng_one_in(&p->rng, 4) ? MSG_DONTWAIT : 0;
	/* answered by a reset, of which a second call would know or not */
	if (p->m[!side].gone || (p->m[!side].shut_rd && p->m[!side].shut_wr)) {
		st->style = 0;
		return;
	}
	if (st->n > 1 && rng_one_in(&p->rng, 10))
		st->action = A_CORKED;
	else if (st->n && rng_one_in(&p->rng, 16))
		st->action = A_ZEROCOPY;
}

static void choose_recv(struct player *p, unsigned int side, struct step *st)
{
	static const uint32_t flags[] = {
		0, 0, 0, MSG_DONTWAIT, MSG_DONTWAIT, MSG_PEEK, MSG_PEEK, MSG_TRUNC, MSG_WAITALL,
		MSG_PEEK | MSG_TRUNC, MSG_PEEK | MSG_WAITALL, MSG_PEEK | MSG_DONTWAIT,
		MSG_WAITALL | MSG_DONTWAIT,
	};
	const struct model *me = &p->m[side];
	uint32_t there = unread(p, side);
	bool ends = me->fin || me->reset || me->shut_rd;

	st->n = (uint32_t)(rng_one_in(&p->rng, 3) ? rng_log(&p->rng, 1, 2 * MOST) :
			   rng_below(&p->rng, there + 1));
	if (st->n > 2 * MOST)
		st->n = 2 * MOST;
	st->flags = flags[rng_below(&p->rng, sizeof(flags) / sizeof(flags[0]))];
	st->style = (uint32_t)rng_below(&p->rng, 5);
	/* nothing that would wait for ever */
	if (!ends && (there < me->lowat || !there || (st->flags & MSG_WAITALL && st->n > there)))
		st->flags |= MSG_DONTWAIT;
}

static void choose(struct player *p, unsigned int side, struct step *st)
{
	uint64_t dice = rng_below(&p->rng, 100);
	struct model *me = &p->m[side];

	memset(st, 0, sizeof(*st));
	st->style = (uint32_t)rng_below(&p->rng, 64);
	if (dice < 34) {
		st->action = A_SEND;
		choose_send(p, side, st);
	} else if (dice < 64) {
		st->action = A_RECV;
		choose_recv(p, side, st);
	} else if (dice < 76) {
		st->action = A_POLL;
	} else if (dice < 81) {
		st->action = A_EPOLL;
		st->flags = me->news && unread(p, side) && me->lowat <= 1;
	} else if (dice < 86) {
		st->action = A_QUEUED;
	} else if (dice < 88) {
		st->action = A_ERROR;
	} else if (dice < 93) {
		st->action = A_OPTION;
		st->n = (uint32_t)rng_log(&p->rng, 1, 2000);
	} else if (dice < 96) {
		st->action = A_SHUTDOWN;
		st->flags = (uint32_t)rng_below(&p->rng, 3);
	} else if (dice < 97) {
		st->action = A_CLOSE;
		st->style = (uint32_t)rng_below(&p->rng, 3);
	} else {
		st->action = A_SWITCH;
	}
}

static void do_close(struct player *p, unsigned int side, struct step *st)
{
	struct model *me = &p->m[side], *other = &p->m[!side];
	bool resets;

	/* what is under way arrives first, so that it is clear what is lost */
	rest(p, !side);
	resets = !me->reset && (st->style || unread(p, side));
	/* both ends have sent all: nobody is there to be reset */
	if (me->shut_wr && me->fin)
		resets = false;
	take(p, side, st);
	me->gone = true;
	if (resets)
		other->reset = true;
	else
		other->fin = true;
}

static void one_step(struct player *p, unsigned int side)
{
	struct model *me = &p->m[side], *other = &p->m[!side];
	struct outcome o;
	struct step st;

	choose(p, side, &st);
	switch (st.action) {
	case A_CLOSE:
		do_close(p, side, &st);
		return;
	case A_SHUTDOWN:
		/* closed, or about to be: when the last ACK comes is not ours to say */
		if (me->reset || (me->shut_wr && me->fin))
			return;
		take(p, side, &st);
		if (st.flags != SHUT_RD && !me->shut_wr) {
			me->shut_wr = true;
			other->fin = true;
		}
		if (st.flags != SHUT_WR)
			me->shut_rd = true;
		return;
	case A_OPTION:
		o = take(p, side, &st);
		if (!o.ret && sets_lowat(&st))
			me->lowat = st.n;
		return;
	}
	take(p, side, &st);
}

/* All that was sent has to be there; then both ends go, in either order. */
static void finish(struct player *p)
{
	unsigned int side, first = (unsigned int)rng_below(&p->rng, 2), i;
	struct step st;

	for (side = 0; side < 2; side++)
		while (!p->m[side].gone && unread(p, side)) {
			struct outcome o;

			st = (struct step){ .action = A_RECV, .n = 2 * MOST, .flags = MSG_DONTWAIT };
			o = take(p, side, &st);
			if (o.ret <= 0)
				break;
		}
	for (i = 0; i < 2; i++) {
		side = first ^ i;
		if (p->m[side].gone)
			continue;
		st = (struct step){ .action = A_CLOSE };
		do_close(p, side, &st);
	}
}

static void one_script(struct player *p)
{
	struct step st = { .action = A_ACCEPT, .seed = p->seed };
	unsigned int steps, side;
	struct outcome o;
	int fd, on = 1;

	memset(p->m, 0, sizeof(p->m));
	p->rng.state = mix64(p->seed);
	p->result->digest = p->seed;
	fd = dial(&p->sin, p->data_port);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	end_open(&p->near, fd, p->seed, 0);
	order(p, &st, &o);
	if (o.ret) {
		fprintf(stderr, "vmc-script: far accept: %s\n", strerror(-o.ret));
		exit(1);
	}
	steps = STEPS_MIN + (unsigned int)rng_below(&p->rng, STEPS_MAX - STEPS_MIN + 1);
	while (steps-- && !p->result->bad) {
		side = (unsigned int)rng_below(&p->rng, 2);
		if (p->m[side].gone)
			side = !side;
		if (p->m[side].gone)
			break;
		one_step(p, side);
	}
	if (p->result->bad) {	/* nothing after it means anything */
		for (side = 0; side < 2; side++)
			if (!p->m[side].gone) {
				p->m[side] = (struct model){ 0 };
				st = (struct step){ .action = A_END };
				if (side)
					order(p, &st, &o);
				else
					end_do(&p->near, &st, &o);
			}
		return;
	}
	finish(p);
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
