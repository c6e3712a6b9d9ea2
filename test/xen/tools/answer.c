// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Request and response, from one thread for all connections: what it costs that
 * connections are watched, and very many that are idle. Only lengths are
 * checked; contents are what the rest of the program is for.
 */
#include <errno.h>
#include <linux/tcp.h>
#include <math.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "traffic.h"

#define BUFFER	(256u << 10)

static unsigned char buffer[BUFFER];

/* ---------------------------------------------------------------- server */

struct asker {
	int fd;
	uint32_t got;		/* bytes of the request that is being received */
	struct request r;
};

static int send_all(int fd, uint32_t n)
{
	while (n) {
		ssize_t sent = send(fd, buffer, n < BUFFER ? n : BUFFER, MSG_NOSIGNAL);

		if (sent < 0)
			return -errno;
		n -= (uint32_t)sent;
	}
	return 0;
}

/* Takes @n received bytes. A client sends its next request after the answer. */
static int answer_take(struct asker *a, const unsigned char *p, uint32_t n)
{
	uint32_t part;

	if (a->got < sizeof(a->r)) {
		part = (uint32_t)sizeof(a->r) - a->got;
		part = n < part ? n : part;
		memcpy((unsigned char *)&a->r + a->got, p, part);
		a->got += part;
		n -= part;
		if (a->got < sizeof(a->r))
			return 0;
	}
	if (a->r.length < sizeof(a->r) || n > a->r.length - a->got)
		return -EPROTO;
	a->got += n;
	if (a->got < a->r.length)
		return 0;
	a->got = 0;
	return send_all(a->fd, a->r.answer);
}

static void answer_one(struct asker *a)
{
	ssize_t n = recv(a->fd, buffer, BUFFER, MSG_DONTWAIT);
	int err = n < 0 ? -errno : 0;

	if (n > 0)
		err = answer_take(a, buffer, (uint32_t)n);
	if (n > 0 ? !err : err == -EAGAIN || err == -EINTR)
		return;
	if (err && err != -ECONNRESET && err != -EPIPE)
		fprintf(stderr, "vmc-traffic: a request: %s\n", strerror(-err));
	close(a->fd);
	free(a);
}

static int answer_accept(int epfd, int listener)
{
	struct asker *a = calloc(1, sizeof(*a));
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = a };

	if (!a)
		return -ENOMEM;
	a->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (a->fd >= 0 && !epoll_ctl(epfd, EPOLL_CTL_ADD, a->fd, &e))
		return 0;
	if (a->fd >= 0)
		close(a->fd);
	free(a);
	return errno == ECONNABORTED || errno == EINTR ? 0 : -errno;
}

int answer_serve(int listener)
{
	struct epoll_event e = { .events = EPOLLIN };
	int epfd = epoll_create1(EPOLL_CLOEXEC), err = 0;

	if (epfd < 0 || epoll_ctl(epfd, EPOLL_CTL_ADD, listener, &e)) {
		perror("vmc-traffic: epoll");
		return 1;
	}
	while (!err) {
		if (epoll_wait(epfd, &e, 1, -1) < 1)
			err = errno == EINTR ? 0 : -errno;
		else if (e.data.ptr)
			answer_one(e.data.ptr);
		else
			err = answer_accept(epfd, listener);
	}
	fprintf(stderr, "vmc-traffic: answering: %s\n", strerror(-err));
	return 1;
}

/* --------------------------------------------------------------- clients */

static uint64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int answer_ask(int fd, uint32_t length, uint32_t answer, uint32_t chunk)
{
	struct request r = { length, answer };
	ssize_t got;
	int err;

	memcpy(buffer, &r, sizeof(r));
	for (; length; length -= chunk) {
		chunk = length < chunk ? length : chunk;
		err = send_all(fd, chunk);
		if (err)
			return err;
	}
	for (; answer; answer -= (uint32_t)got) {
		got = recv(fd, buffer, answer < BUFFER ? answer : BUFFER, MSG_WAITALL);
		if (got <= 0)
			return got ? -errno : -ECONNRESET;
	}
	return 0;
}

static int complain(const char *what, int err)
{
	fprintf(stderr, "vmc-traffic: %s: %s\n", what, strerror(err < 0 ? -err : err));
	return 1;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The median, and where it is with 95 % confidence whatever the distribution. Sorts. */
static double median(double *v, size_t n, double *low, double *high)
{
	double half = 0.98 * sqrt((double)n);
	size_t from = (double)n / 2 > half ? (size_t)((double)n / 2 - half) : 0;

	qsort(v, n, sizeof(*v), by_value);
	*low = v[from];
	*high = v[n - 1 - from];
	return v[n / 2];
}

#define PAIR_ROUNDS	32	/* of one leg */
#define PAIR_WARM	8
#define PAIR_LEGS	(1u << 14)

struct leg {
	int fd[2];			/* 0: watched, 1: plain */
	double us[2][PAIR_ROUNDS];	/* from the request to the answer */
	double cpu[2][PAIR_ROUNDS];	/* of it, our own CPU time */
};

/* Two new connections, one of which is given back to TCP for good since it asks for TCP_INQ. */
static int leg_dial(struct leg *l, const struct client_options *opt, bool swap)
{
	int i;

	/* whoever comes first may have it better */
	for (i = 0; i < 2; i++) {
		l->fd[i ^ swap] = client_dial(opt);
		if (l->fd[i ^ swap] < 0)
			return l->fd[i ^ swap];
		set_int(l->fd[i ^ swap], IPPROTO_TCP, TCP_NODELAY, 1);
	}
	set_int(l->fd[1], IPPROTO_TCP, TCP_INQ, 0);
	return 0;
}

/* Requests on either in turn. */
static int leg_run(struct leg *l, uint32_t bytes, struct rng *rng)
{
	int err, i, round, order;

	for (round = 0; round < PAIR_WARM + PAIR_ROUNDS; round++) {
		order = (int)rng_below(rng, 2);		/* a regular one favours one of them */
		for (i = 0; i < 2; i++) {
			int which = i ^ order;
			uint64_t begin = now_ns(CLOCK_MONOTONIC);
			uint64_t cpu = now_ns(CLOCK_THREAD_CPUTIME_ID);

			err = answer_ask(l->fd[which], bytes, 64, BUFFER);
			if (err)
				return err;
			if (round < PAIR_WARM)
				continue;
			cpu = now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
			l->cpu[which][round - PAIR_WARM] = (double)cpu / 1000;
			l->us[which][round - PAIR_WARM] = (double)(now_ns(CLOCK_MONOTONIC) - begin) / 1000;
		}
	}
	close(l->fd[0]);
	close(l->fd[1]);
	return 0;
}

/* What is told of all legs: medians, with 95 % confidence that they lie between the other two. */
struct estimate {
	double sample[PAIR_LEGS], mid, low, high;
};

static void estimate(struct estimate *e, size_t n)
{
	e->mid = median(e->sample, n, &e->low, &e->high);
}

/*
 * Connections that take turns, one watched and one not: what the one takes
 * longer is what watching costs. Two of the same kind differ, too, and keep to
 * it, so a leg is one sample, not its rounds. Time passes in the peer and on the way
 * there, which makes it noisy; watching costs time in our own calls alone.
 */
int client_pair(const struct client_options *opt)
{
	uint64_t until = now_ms() + opt->seconds * 1000ull;
	struct estimate *ratio = calloc(4, sizeof(*ratio)), *tax = ratio + 1, *us = ratio + 2, *cpu = ratio + 3;
	struct rng rng = { mix64(opt->seed) };
	double watched, plain, unused;
	struct leg l;
	size_t n;
	int err = ratio ? 0 : -ENOMEM;

	for (n = 0; !err && n < PAIR_LEGS && (!n || now_ms() < until); n++) {
		err = leg_dial(&l, opt, n % 2);
		if (!err)
			err = leg_run(&l, (uint32_t)opt->bytes, &rng);
		watched = median(l.us[0], PAIR_ROUNDS, &unused, &unused);
		plain = median(l.us[1], PAIR_ROUNDS, &unused, &unused);
		us->sample[n] = plain;
		ratio->sample[n] = watched / plain;
		watched = median(l.cpu[0], PAIR_ROUNDS, &unused, &unused);
		cpu->sample[n] = median(l.cpu[1], PAIR_ROUNDS, &unused, &unused);
		tax->sample[n] = 100 * (watched - cpu->sample[n]) / plain;
	}
	if (err)
		return complain("pair", err);
	estimate(ratio, n);
	estimate(tax, n);
	estimate(us, n);
	estimate(cpu, n);
	printf("%zu pairs, %llu bytes: %.1f us, of which CPU %.1f us; watched takes %.4f of it (95 %% confidence: %.4f to %.4f); "
	       "its calls cost %.3f %% of it more (%.3f to %.3f)\n",
	       n, (unsigned long long)opt->bytes, us->mid, cpu->mid, ratio->mid, ratio->low, ratio->high,
	       tax->mid, tax->low, tax->high);
	free(ratio);
	return 0;
}

/* Connect, request, response, close, again and again. */
int client_crr(const struct client_options *opt)
{
	uint64_t begin = now_ns(CLOCK_MONOTONIC), until = begin + opt->seconds * 1000000000ull;
	unsigned long n = 0;
	int fd, err;

	while (now_ns(CLOCK_MONOTONIC) < until) {
		fd = client_dial(opt);
		if (fd < 0)
			return complain("connect", fd);
		err = answer_ask(fd, 64, 64, BUFFER);
		if (err)
			return complain("request", err);
		close(fd);
		n++;
	}
	printf("%lu connections, %.3f per second\n", n, (double)n * 1e9 / (double)(now_ns(CLOCK_MONOTONIC) - begin));
	return 0;
}

static atomic_bool idle_stop;

static void idle_signal(int number)
{
	(void)number;
	atomic_store(&idle_stop, true);
}

/* Twice, so that what the first has earned is used by the second. */
static int idle_ask_all(const int *fd, unsigned int n, uint32_t bytes)
{
	unsigned int i;
	int err;

	for (i = 0; i < 2 * n; i++) {
		err = answer_ask(fd[i % n], bytes, bytes, 4096);
		if (err)
			return err;
	}
	return 0;
}

/* Connections that all have had their share of traffic, and then are silent until SIGTERM. */
int client_idle(const struct client_options *opt)
{
	unsigned int i, n = 0, at_once = opt->parallel;
	int *fd = calloc(opt->connections, sizeof(*fd)), err = 0;

	if (!fd)
		return complain("idle", ENOMEM);
	signal(SIGTERM, idle_signal);
	while (n < opt->connections && !err) {
		for (i = n; i < n + at_once && i < opt->connections; i++) {
			fd[i] = client_dial(opt);
			if (fd[i] < 0)
				return complain("connect", fd[i]);
		}
		err = idle_ask_all(fd + n, i - n, (uint32_t)opt->bytes);
		n = i;
	}
	if (err)
		return complain("request", err);
	printf("%u connections are idle\n", n);
	fflush(stdout);
	for (i = 0; i < 10 * opt->seconds && !atomic_load(&idle_stop); i++)
		nap(100);
	for (i = 0; i < n; i++) {
		err = answer_ask(fd[i], 64, 64, BUFFER);
		if (err)
			return complain("request after the silence", err);
		close(fd[i]);
	}
	printf("%u connections were there all the time\n", n);
	free(fd);
	return 0;
}
