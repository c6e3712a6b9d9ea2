// SPDX-License-Identifier: GPL-2.0-or-later
/* The client: runs of many connections, held connections, hashes. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "traffic.h"

#define FAILURES_MAX	10	/* then no more connections are begun */

struct client {
	const struct client_options *opt;
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} addr;
	socklen_t addr_len;
	uint64_t run;
	uint64_t start;
	atomic_uint next, failed, connected, died;
	atomic_uint_fast64_t up, down;
};

static int resolve(struct client *c)
{
	const struct client_options *opt = c->opt;
	char text[64];

	if (!opt->mapped && inet_pton(AF_INET, opt->host, &c->addr.v4.sin_addr) == 1) {
		c->addr.v4.sin_family = AF_INET;
		c->addr.v4.sin_port = htons(opt->port);
		c->addr_len = sizeof(c->addr.v4);
		return 0;
	}
	snprintf(text, sizeof(text), "%s%s", opt->mapped ? "::ffff:" : "", opt->host);
	if (inet_pton(AF_INET6, text, &c->addr.v6.sin6_addr) != 1) {
		fprintf(stderr, "vmc-traffic: %s: not an address\n", opt->host);
		return -EINVAL;
	}
	c->addr.v6.sin6_family = AF_INET6;
	c->addr.v6.sin6_port = htons(opt->port);
	c->addr_len = sizeof(c->addr.v6);
	return 0;
}

static int client_init(struct client *c, const struct client_options *opt)
{
	struct timespec t;

	memset(c, 0, sizeof(*c));
	c->opt = opt;
	clock_gettime(CLOCK_REALTIME, &t);
	c->run = mix64((uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec + (uint64_t)getpid());
	c->start = now_ms();
	return resolve(c);
}

/* Connects, without waiting in connect() itself if @later. */
static int dial(const struct client *c, int fd, bool later)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int flags = fcntl(fd, F_GETFL), err = 0;
	socklen_t len = sizeof(err);

	if (!later)
		return connect(fd, &c->addr.any, c->addr_len) ? -errno : 0;
	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	if (connect(fd, &c->addr.any, c->addr_len) && errno != EINPROGRESS)
		return -errno;
	if (poll(&p, 1, 60000) != 1)
		return -ETIMEDOUT;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
	fcntl(fd, F_SETFL, flags);
	return -err;
}

static int new_socket(const struct client *c)
{
	int fd = socket(c->addr.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	/* before the first urgent byte can come */
	setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	if (fd >= 0 && c->opt->user_timeout_ms)
		setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &c->opt->user_timeout_ms,
			   sizeof(c->opt->user_timeout_ms));
	return fd < 0 ? -errno : fd;
}

int client_dial(const struct client_options *opt)
{
	struct client c;
	int fd, err = client_init(&c, opt);

	fd = err ? err : new_socket(&c);
	if (fd < 0)
		return fd;
	err = dial(&c, fd, false);
	if (!err)
		return fd;
	close(fd);
	return err;
}

static int send_header(int fd, const struct header *h)
{
	return send(fd, h, sizeof(*h), MSG_NOSIGNAL) == sizeof(*h) ? 0 : -errno;
}

/* A socket that was used, abandoned, and is to be used again. */
static int used_socket(const struct client *c, int fd, const struct header *h)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	struct header first = *h;
	struct session s;
	int err;

	first.pattern = P_ABANDON;
	first.style[0] = first.style[1] = S_BLOCKING;
	first.bytes[0] = 60000;
	first.bytes[1] = 0;
	first.ops &= OP_IOV;
	err = dial(c, fd, false);
	if (!err)
		err = send_header(fd, &first);
	if (!err)
		err = session_open(&s, &first, fd, 0);
	if (err)
		return err;
	err = session_run(&s);
	if (!err && connect(fd, &none, sizeof(none)))
		err = -errno;
	s.fd = -1;		/* stays open */
	session_close(&s);
	return err;
}

/* The first connections of a run wait until all are open. */
static void wait_for_others(struct client *c)
{
	struct timespec t = { .tv_nsec = 5000000 };
	uint64_t deadline = now_ms() + 60000;

	atomic_fetch_add(&c->connected, 1);
	while (c->connected < c->opt->parallel && now_ms() < deadline)
		nanosleep(&t, NULL);
}

/* One connection up to its header. The descriptor or -errno. */
static int client_connect(struct client *c, const struct header *h, bool together)
{
	sigset_t alarm, old;
	int fd, err = 0;

	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarm, &old);
	fd = new_socket(c);
	if (fd >= 0) {
		if (h->ops & OP_REUSE)
			err = used_socket(c, fd, h);
		if (!err)
			err = dial(c, fd, h->style[0] != S_BLOCKING);
		if (together)
			wait_for_others(c);
		if (!err)
			err = send_header(fd, h);
		if (err) {
			close(fd);
			fd = err;
		}
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return fd;
}

static int ask_verdict(struct client *c, uint32_t expected, struct verdict *v)
{
	struct header h = { .magic = MAGIC, .run = c->run, .conn = expected, .pattern = P_VERDICT,
			    .chunk = 1 };
	int fd = client_connect(c, &h, false);
	ssize_t got;

	if (fd < 0) {
		fprintf(stderr, "vmc-traffic: asking for the verdict: %s\n", strerror(-fd));
		return fd;
	}
	set_timeo(fd, SO_RCVTIMEO, 60000);
	got = recv(fd, v, sizeof(*v), MSG_WAITALL);
	close(fd);
	if (got != sizeof(*v) || v->magic != MAGIC) {
		fprintf(stderr, "vmc-traffic: no verdict from the server\n");
		return -EPROTO;
	}
	return 0;
}

/* Whether the server saw @expected connections end well, too. */
static int compare_verdict(struct client *c, uint32_t expected)
{
	uint64_t up = c->up, down = c->down;
	struct verdict v;

	if (ask_verdict(c, expected, &v))
		return 1;
	if (v.failed)
		fprintf(stderr, "vmc-traffic: the server saw %u failures; the first: %s\n", v.failed,
			v.message);
	else if (v.ok != expected)
		fprintf(stderr, "vmc-traffic: the server finished %u of %u connections\n", v.ok,
			expected);
	else if (!c->failed && (v.rx != up || v.tx != down))
		fprintf(stderr, "vmc-traffic: client sent %llu and received %llu bytes, "
			"server received %llu and sent %llu\n", (unsigned long long)up,
			(unsigned long long)down, (unsigned long long)v.rx,
			(unsigned long long)v.tx);
	else
		return 0;
	return 1;
}

static int print_result(struct client *c, const char *what, unsigned int connections)
{
	double seconds = (double)(now_ms() - c->start) / 1000;

	printf("%s: %u %s, %u failed, %llu bytes up, %llu down, %.1f s, seed %llu\n",
	       c->failed ? "FAILED" : "ok", connections, what, c->failed,
	       (unsigned long long)c->up, (unsigned long long)c->down, seconds,
	       (unsigned long long)c->opt->seed);
	return c->failed ? 1 : 0;
}

/* ------------------------------------------------------------------ run */

static void run_connection(struct client *c, const struct header *h, bool together)
{
	struct session s;
	int fd, err;

	fd = client_connect(c, h, together);
	if (fd < 0) {
		fprintf(stderr, "vmc-traffic: connection %u: connect: %s\n", h->conn, strerror(-fd));
		atomic_fetch_add(&c->failed, 1);
		return;
	}
	err = session_open(&s, h, fd, 0);
	if (err) {
		fprintf(stderr, "vmc-traffic: connection %u: no memory\n", h->conn);
		close(fd);
		atomic_fetch_add(&c->failed, 1);
		return;
	}
	err = session_run(&s);
	session_close(&s);
	/* what gets through before a reset is not certain */
	if (h->pattern != P_RST) {
		atomic_fetch_add(&c->up, s.tx.pos);
		atomic_fetch_add(&c->down, s.rx.pos);
	}
	if (err || s.failed)
		atomic_fetch_add(&c->failed, 1);
}

static void *run_thread(void *arg)
{
	struct client *c = arg;
	const struct client_options *opt = c->opt;
	bool first = true;
	struct header h;

	while (c->failed < FAILURES_MAX) {
		unsigned int conn = atomic_fetch_add(&c->next, 1);

		if (conn >= opt->connections)
			break;
		conn += opt->from;
		plan_connection(&h, opt->seed, c->run, conn, &opt->mix);
		run_connection(c, &h, first);
		first = false;
	}
	/* nobody waits for who stops early */
	atomic_fetch_add(&c->connected, opt->parallel);
	return NULL;
}

static void on_signal(int number)
{
	(void)number;
}

static void start_signals(unsigned int ms)
{
	struct itimerval every = { .it_interval.tv_usec = 1000 * (ms % 1000),
				   .it_interval.tv_sec = ms / 1000 };
	struct sigaction sa = { .sa_handler = on_signal };

	every.it_value = every.it_interval;
	atomic_store(&signals_on, true);
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
}

static void block_signals(void)
{
	sigset_t alarm;

	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarm, NULL);
}

static int join_all(pthread_t *threads, unsigned int n)
{
	while (n)
		pthread_join(threads[--n], NULL);
	free(threads);
	return 0;
}

static int start_threads(struct client *c, unsigned int n, void *(*fn)(void *), pthread_t **threads)
{
	unsigned int i;

	*threads = calloc(n, sizeof(**threads));
	for (i = 0; *threads && i < n; i++) {
		int err = thread_start(fn, c, &(*threads)[i]);

		if (err) {
			fprintf(stderr, "vmc-traffic: thread %u: %s\n", i, strerror(-err));
			_exit(1);
		}
	}
	return *threads ? 0 : -ENOMEM;
}

int client_run(const struct client_options *opt)
{
	unsigned int connections = opt->connections, abandoned = 0, conn;
	pthread_t *threads;
	struct client c;
	struct header h;

	if (client_init(&c, opt))
		return 1;
	if (opt->mix.signal_ms)
		start_signals(opt->mix.signal_ms);
	if (start_threads(&c, opt->parallel, run_thread, &threads))
		return 1;
	block_signals();	/* they are for the connections' threads */
	join_all(threads, opt->parallel);
	signal(SIGALRM, SIG_IGN);
	if (!c.failed) {
		/* connections of which the server sees what we don't count */
		for (conn = 0; conn < connections; conn++) {
			plan_connection(&h, opt->seed, c.run, opt->from + conn, &opt->mix);
			abandoned += !!(h.ops & OP_REUSE);
		}
		if (compare_verdict(&c, connections + abandoned))
			c.failed++;
	}
	return print_result(&c, "connections", connections);
}

/* ----------------------------------------------------------------- hold */

static bool has_died(int err)
{
	return err == -ECONNRESET || err == -EPIPE || err == -ETIMEDOUT || err == -EHOSTUNREACH;
}

static void *hold_thread(void *arg)
{
	struct client *c = arg;
	const struct client_options *opt = c->opt;
	unsigned int conn = atomic_fetch_add(&c->next, 1);
	struct session s;
	struct header h;
	int fd, err;

	plan_connection(&h, opt->seed, c->run, conn, &opt->mix);
	h.pattern = P_HOLD;
	h.stall_ms = (uint32_t)opt->bytes;
	h.rounds = opt->requests;
	h.ops &= ~(uint32_t)(OP_TRUNC | OP_REUSE);
	fd = client_connect(c, &h, false);
	if (fd < 0 || session_open(&s, &h, fd, 0)) {
		fprintf(stderr, "vmc-traffic: connection %u: %s\n", conn,
			fd < 0 ? strerror(-fd) : "no memory");
		atomic_fetch_add(&c->failed, 1);
		return NULL;
	}
	s.may_reset = opt->peer_dies;
	atomic_fetch_add(&c->connected, 1);
	err = session_run(&s);
	session_close(&s);
	atomic_fetch_add(&c->up, s.tx.pos);
	atomic_fetch_add(&c->down, s.rx.pos);
	if (opt->peer_dies && has_died(err) && !s.failed) {
		atomic_fetch_add(&c->died, 1);
		return NULL;
	}
	if (opt->peer_dies && !err && !s.failed)
		fprintf(stderr, "vmc-traffic: connection %u ended properly, which it should not\n",
			conn);
	if (err || s.failed || opt->peer_dies)
		atomic_fetch_add(&c->failed, 1);
	return NULL;
}

static void stop_holding(int number)
{
	(void)number;
	atomic_store(&hold_stop, true);
}

int client_hold(const struct client_options *opt)
{
	struct timespec t = { .tv_nsec = 50000000 };
	struct sigaction sa = { .sa_handler = stop_holding, .sa_flags = SA_RESTART };
	bool told = false;
	pthread_t *threads;
	struct client c;

	if (client_init(&c, opt))
		return 1;
	prctl(PR_SET_NAME, "vmc-hold");	/* for pkill, beside servers */
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	if (start_threads(&c, opt->connections, hold_thread, &threads))
		return 1;
	while (!atomic_load(&hold_stop) && !c.failed && c.died < opt->connections &&
	       now_ms() - c.start < 1000ull * opt->seconds) {
		if (!told && c.connected == opt->connections) {
			printf("holding %u connections\n", opt->connections);
			fflush(stdout);
			told = true;
		}
		nanosleep(&t, NULL);
	}
	atomic_store(&hold_stop, true);
	join_all(threads, opt->connections);
	if (opt->peer_dies)
		printf("died: %u\n", c.died);
	else if (compare_verdict(&c, opt->connections))
		c.failed++;
	return print_result(&c, "connections held", opt->connections);
}

/* ------------------------------------------------------------------ sha */

int client_sha(const struct client_options *opt)
{
	struct header h = {
		.magic = MAGIC, .seed = opt->seed, .pattern = P_SHA,
		.bytes = { opt->bytes, opt->bytes }, .chunk = 65536,
		.quiet_ms = opt->mix.quiet_ms,
	};
	struct session s;
	struct client c;
	int fd, err;

	if (client_init(&c, opt))
		return 1;
	h.run = c.run;
	fd = client_connect(&c, &h, false);
	if (fd < 0 || session_open(&s, &h, fd, 0)) {
		fprintf(stderr, "vmc-traffic: %s: %s\n", opt->host, fd < 0 ? strerror(-fd) : "no memory");
		return 1;
	}
	err = session_run(&s);
	session_close(&s);
	c.up = s.tx.pos;
	c.down = s.rx.pos;
	c.failed = err || s.failed;
	return print_result(&c, "connection hashed", 1);
}
