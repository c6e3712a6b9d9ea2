// SPDX-License-Identifier: GPL-2.0-or-later
/* vmc-claim: the two ends, how they stay together, and what they tell of the driver. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/filter.h>

#include "claim.h"

#define PATIENCE	20	/* seconds for anything */
#define PIECE		8192u

enum { DONE = 0, FAILED = 1, SKIPPED = 2 };

/* What is said over the control connection. */
struct word {
	int32_t end;		/* DONE: go on */
	int32_t told;
	char text[240];
};

/* What the player wants. */
struct hello {
	char test[24];
};

/* ------------------------------------------------------------- together */

static void say(const struct side *s, const struct word *w, const char *who)
{
	printf("%s %s: %s%s\n", w->end == SKIPPED ? "SKIP" : "FAIL", s->test->name, who, w->text);
}

/* What the other end told, unless it has given up: then so do we. INT32_MIN if it says nothing. */
static int32_t heard(const struct side *s, int flags)
{
	struct word w;

	while (recv(s->control, &w, sizeof(w), MSG_WAITALL | flags) == (ssize_t)sizeof(w)) {
		if (w.end) {
			if (s->opener)
				say(s, &w, "the other end: ");
			exit(w.end);
		}
		if (!flags)
			return w.told;
	}
	return INT32_MIN;
}

static void tell(struct side *s, int how, const char *format, va_list args)
	__attribute__((format(printf, 3, 0)));
static void tell(struct side *s, int how, const char *format, va_list args)
{
	struct word w = { .end = how };

	vsnprintf(w.text, sizeof(w.text), format, args);
	send(s->control, &w, sizeof(w), MSG_NOSIGNAL);
	/* it may have been for the other end's reason */
	if (how == FAILED)
		heard(s, MSG_DONTWAIT);
	if (s->opener)
		say(s, &w, "");
}

void fail(struct side *s, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	tell(s, FAILED, format, args);
	va_end(args);
	exit(FAILED);
}

void skip(struct side *s, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	tell(s, SKIPPED, format, args);
	va_end(args);
	exit(SKIPPED);
}

int meet(struct side *s, int told)
{
	struct word w = { .told = told };
	int32_t other;

	send(s->control, &w, sizeof(w), MSG_NOSIGNAL);
	other = heard(s, 0);
	if (other == INT32_MIN)
		fail(s, "the other end is gone");
	return other;
}

/* -------------------------------------------------------------- traffic */

void send_some(struct side *s, size_t n)
{
	unsigned char buf[PIECE];

	while (n) {
		size_t part = n < sizeof(buf) ? n : sizeof(buf);
		ssize_t done;

		content_fill(s->tx_key, s->tx_pos, buf, part);
		done = send(s->fd, buf, part, MSG_NOSIGNAL);
		if (done <= 0)
			fail(s, "send: %m");
		s->tx_pos += (uint64_t)done;
		n -= (size_t)done;
	}
}

static void check(struct side *s, const void *buf, size_t n)
{
	size_t good = content_check(s->rx_key, s->rx_pos, buf, n);

	if (good < n)
		fail(s, "wrong byte at %" PRIu64, s->rx_pos + good);
	s->rx_pos += n;
}

void recv_some(struct side *s, size_t n)
{
	unsigned char buf[PIECE];

	while (n) {
		ssize_t done = recv(s->fd, buf, n < sizeof(buf) ? n : sizeof(buf), 0);

		if (done <= 0)
			fail(s, "recv, with %zu to come: %s", n, done ? strerror(errno) : "the end");
		check(s, buf, (size_t)done);
		n -= (size_t)done;
	}
}

void flow(struct side *s, size_t n)
{
	size_t out = n, in = n;
	unsigned char buf[PIECE];

	while (out || in) {
		struct pollfd p = { s->fd, (short)((out ? POLLOUT : 0) | (in ? POLLIN : 0)), 0 };
		ssize_t done;

		if (poll(&p, 1, PATIENCE * 1000) <= 0)
			fail(s, "nothing moves with %zu to send and %zu to come", out, in);
		if (p.revents & (POLLOUT | POLLERR) && out) {
			size_t part = 1 + rng_below(&s->rng, out < sizeof(buf) ? out : sizeof(buf));

			content_fill(s->tx_key, s->tx_pos, buf, part);
			done = send(s->fd, buf, part, MSG_NOSIGNAL | MSG_DONTWAIT);
			if (done < 0 && errno != EAGAIN)
				fail(s, "send: %m");
			if (done > 0) {
				s->tx_pos += (uint64_t)done;
				out -= (size_t)done;
			}
		}
		if (p.revents & ~POLLOUT && in) {
			done = recv(s->fd, buf, in < sizeof(buf) ? in : sizeof(buf), MSG_DONTWAIT);
			if (!done || (done < 0 && errno != EAGAIN))
				fail(s, "recv, with %zu to come: %s", in, done ? strerror(errno) : "the end");
			if (done > 0) {
				check(s, buf, (size_t)done);
				in -= (size_t)done;
			}
		}
	}
}

/* ----------------------------------------------------------- the driver */

static FILE *driver_file(struct side *s, const char *name)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/kernel/debug/vmc/%s", name);
	f = fopen(path, "re");
	if (!f)
		fail(s, "%s: %m", path);
	return f;
}

static uint16_t port_of(const struct sockaddr_storage *a)
{
	/* at the same place in both families */
	return ntohs(((const struct sockaddr_in *)a)->sin_port);
}

/* The port behind the last colon. */
static unsigned int port_in(const char *address)
{
	const char *colon = strrchr(address, ':');

	return colon ? (unsigned int)strtoul(colon + 1, NULL, 10) : 0;
}

bool watched(struct side *s, struct watched *w)
{
	char line[400], from[80], to[80];
	struct sockaddr_storage near;
	socklen_t len = sizeof(near);
	unsigned long long pos, word;
	bool found = false;
	FILE *f;

	if (!s->local)
		return false;
	if (getsockname(s->fd, (struct sockaddr *)&near, &len))
		fail(s, "getsockname: %m");
	f = driver_file(s, "sockets");
	while (!found && fgets(line, sizeof(line), f)) {
		const char *rx = strstr(line, " rx ");

		found = rx && sscanf(line, "%79s %79s tx %u", from, to, &w->tx) == 3 &&
			sscanf(rx, " rx %u ring %*d read %llu word %llx", &w->rx, &pos, &word) == 3 &&
			port_in(from) == port_of(&near) && port_in(to) == port_of(&s->far);
		if (found)
			w->unread = (word >> 1) - pos;	/* the lowest bit: closed */
	}
	fclose(f);
	return found;
}

unsigned long driver_says(struct side *s, const char *what)
{
	size_t len = strlen(what);
	unsigned long value = 0;
	char line[400];
	FILE *f;

	if (!s->local)
		return 0;
	f = driver_file(s, "status");
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, what, len) && line[len] == ' ')
			value = strtoul(line + len, NULL, 10);
	fclose(f);
	return value;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

bool is_local(struct side *s)
{
	struct watched w;

	return !s->local || (watched(s, &w) && w.tx == 3 && w.rx >= 1);
}

void make_local(struct side *s)
{
	double end = now() + PATIENCE;
	int both;

	do {
		send_some(s, 1000);
		recv_some(s, 1000);
		both = is_local(s);
		both &= meet(s, both);
		if (!both && now() > end)
			fail(s, "it does not become local");
	} while (!both);
}

void put_in_flight(struct side *s)
{
	struct watched w = { 0 };

	send_some(s, IN_FLIGHT);
	meet(s, 0);
	if (s->local && (!watched(s, &w) || w.unread != IN_FLIGHT))
		fail(s, "%llu bytes in the ring, not %u", w.unread, IN_FLIGHT);
	meet(s, 0);
}

void ready(struct side *s, const char *reason)
{
	char what[40];

	make_local(s);
	put_in_flight(s);
	snprintf(what, sizeof(what), "reason %s", reason);
	s->reason = driver_says(s, what);
}

void expect_gone(struct side *s, const char *reason)
{
	double end = now() + PATIENCE;
	struct watched w;
	char what[40];

	if (!s->local)
		return;
	while (watched(s, &w)) {
		if (now() > end)
			fail(s, "the driver still has the socket: tx %u rx %u", w.tx, w.rx);
		usleep(10000);
	}
	snprintf(what, sizeof(what), "reason %s", reason);
	if (driver_says(s, what) <= s->reason)
		fail(s, "%s was not counted", reason);
}

void expect_remote(struct side *s, const char *reason)
{
	struct watched w;
	char what[40];

	if (!s->local)
		return;
	if (watched(s, &w) && (w.tx >= 2 || w.rx))
		fail(s, "still local: tx %u rx %u", w.tx, w.rx);
	snprintf(what, sizeof(what), "reason %s", reason);
	if (driver_says(s, what) <= s->reason)
		fail(s, "%s was not counted", reason);
}

void expect_local(struct side *s)
{
	if (!is_local(s))
		fail(s, "not local any more");
}

void reload(struct side *s, const char *command)
{
	if (s->local && s->opener && system(command))
		fail(s, "%s", command);
	meet(s, 0);
}

/* --------------------------------------------------------------- opening */

static void set(int fd, int level, int option, int value)
{
	setsockopt(fd, level, option, &value, sizeof(value));
}

static void bounded(int fd)
{
	struct timeval tv = { .tv_sec = PATIENCE };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

static void set_port(struct sockaddr_storage *a, uint16_t port)
{
	((struct sockaddr_in *)a)->sin_port = htons(port);
}

static int new_socket(struct side *s, int family)
{
	int protocol = s->opener && s->test->open_protocol ? s->test->open_protocol : s->test->protocol;
	int fd;

	if (s->test->family) {	/* AF_SMC: the protocol says which IP */
		protocol = family == AF_INET6;
		family = s->test->family;
	}
	fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, protocol);
	if (fd < 0)
		skip(s, "socket: %m");
	return fd;
}

/* The control connection's address here or there, without its port: of IPv4's own family, if it is that. */
static void address(struct side *s, bool here, struct sockaddr_storage *a, socklen_t *len)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)a;

	*len = sizeof(*a);
	if ((here ? getsockname : getpeername)(s->control, (struct sockaddr *)a, len))
		fail(s, "the control connection's address: %m");
	if (v6->sin6_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
		memcpy(&v4.sin_addr, &v6->sin6_addr.s6_addr[12], 4);
		memcpy(a, &v4, sizeof(v4));
		*len = sizeof(v4);
	}
	set_port(a, 0);
}

/* The side that was asked. */
static void accept_one(struct side *s)
{
	struct sockaddr_storage a;
	socklen_t len;
	int listener;

	address(s, true, &a, &len);
	listener = new_socket(s, a.ss_family);
	bounded(listener);
	if (bind(listener, (struct sockaddr *)&a, len) || listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&a, &len))
		fail(s, "a listener: %m");
	meet(s, port_of(&a));
	s->far_len = sizeof(s->far);
	s->fd = accept4(listener, (struct sockaddr *)&s->far, &s->far_len, SOCK_CLOEXEC);
	if (s->fd < 0)
		fail(s, "accept: %m");
	/* in one connection's life nothing else comes here */
	close(listener);
}

static void connect_one(struct side *s)
{
	set_port(&s->far, (uint16_t)meet(s, 0));
	s->fd = new_socket(s, s->far.ss_family);
	bounded(s->fd);
	if (connect(s->fd, (struct sockaddr *)&s->far, s->far_len))
		fail(s, "connect: %m");
}

void cross(struct side *s)
{
	/* of a TCP header the flags, RST among them */
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 4, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	struct sock_fprog no_reset = { .len = sizeof(code) / sizeof(*code), .filter = code };
	struct sockaddr_storage a;
	struct pollfd p = { .events = POLLOUT };
	socklen_t len;
	int none = 0;

	address(s, true, &a, &len);
	s->fd = p.fd = new_socket(s, a.ss_family);
	bounded(s->fd);
	if (bind(s->fd, (struct sockaddr *)&a, len) || getsockname(s->fd, (struct sockaddr *)&a, &len))
		fail(s, "bind: %m");
	address(s, false, &s->far, &s->far_len);
	set_port(&s->far, (uint16_t)meet(s, port_of(&a)));
	if (s->opener) {
		if (setsockopt(s->fd, SOL_SOCKET, SO_ATTACH_FILTER, &no_reset, sizeof(no_reset)))
			fail(s, "SO_ATTACH_FILTER: %m");
		fcntl(s->fd, F_SETFL, O_NONBLOCK);
		if (!connect(s->fd, (struct sockaddr *)&s->far, s->far_len) || errno != EINPROGRESS)
			fail(s, "connect to nobody: %m");
		meet(s, 0);
		if (poll(&p, 1, PATIENCE * 1000) != 1 || p.revents != POLLOUT)
			fail(s, "no connection, events %x", p.revents);
		fcntl(s->fd, F_SETFL, 0);
		if (setsockopt(s->fd, SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof(none)))
			fail(s, "SO_DETACH_FILTER: %m");
	} else {
		meet(s, 0);
		if (connect(s->fd, (struct sockaddr *)&s->far, s->far_len))
			fail(s, "connect: %m");
	}
	meet(s, 0);
}

/* Does the test, in this process. */
static void take_part(struct side *s) __attribute__((noreturn));
static void take_part(struct side *s)
{
	alarm(4 * PATIENCE);
	s->rng.state = s->opener;
	s->tx_key = content_key(1, 1, s->opener);
	s->rx_key = content_key(1, 1, !s->opener);
	if (s->test->prepare)
		s->test->prepare(s);
	s->hooked = driver_says(s, "hooked");
	if (s->test->open)
		s->test->open(s);
	else if (s->opener)
		connect_one(s);
	else
		accept_one(s);
	bounded(s->fd);
	set(s->fd, IPPROTO_TCP, TCP_NODELAY, 1);
	s->test->run(s);
	meet(s, 0);
	close(s->fd);
	exit(DONE);
}

/* ----------------------------------------------------------------- agent */

static const struct test *find(const char *name)
{
	const struct test *t;

	for (t = tests; t->name; t++)
		if (!strcmp(t->name, name))
			return t;
	return NULL;
}

static void obey(int control, bool local) __attribute__((noreturn));
static void obey(int control, bool local)
{
	struct side s = { .control = control, .fd = -1, .local = local };
	struct hello h;

	if (recv(control, &h, sizeof(h), MSG_WAITALL) != (ssize_t)sizeof(h))
		exit(FAILED);
	h.test[sizeof(h.test) - 1] = 0;
	s.test = find(h.test);
	if (!s.test)
		exit(FAILED);
	take_part(&s);
}

int agent(uint16_t port, bool background, bool local)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), control;

	set(listener, SOL_SOCKET, SO_REUSEADDR, 1);
	if (listener < 0 || bind(listener, (struct sockaddr *)&any, sizeof(any)) || listen(listener, 16)) {
		fprintf(stderr, "vmc-claim: port %u: %m\n", port);
		return 1;
	}
	if (background && daemon(0, 0))
		return 1;
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		control = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (control < 0)
			continue;
		set(control, IPPROTO_TCP, TCP_NODELAY, 1);
		bounded(control);
		if (!fork()) {
			close(listener);
			signal(SIGCHLD, SIG_DFL);
			obey(control, local);
		}
		close(control);
	}
}

/* ------------------------------------------------------------------ play */

static int resolve(const struct play_options *opt, struct side *s)
{
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&s->far;
	struct sockaddr_in *v4 = (struct sockaddr_in *)&s->far;

	if (inet_pton(AF_INET, opt->host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		s->far_len = sizeof(*v4);
	} else if (inet_pton(AF_INET6, opt->host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		s->far_len = sizeof(*v6);
	} else {
		fprintf(stderr, "vmc-claim: %s is no address\n", opt->host);
		return -1;
	}
	set_port(&s->far, opt->port);
	return 0;
}

static int play_one(const struct play_options *opt, const struct test *t)
{
	struct side s = { .test = t, .fd = -1, .opener = true, .local = opt->local };
	struct hello h = { .test = "" };
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		return FAILED;
	if (pid) {
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (WIFSIGNALED(status))
			printf("FAIL %s: signal %d\n", t->name, WTERMSIG(status));
		return WIFEXITED(status) ? WEXITSTATUS(status) : FAILED;
	}
	if (resolve(opt, &s))
		exit(FAILED);
	s.control = socket(s.far.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bounded(s.control);
	if (connect(s.control, (struct sockaddr *)&s.far, s.far_len)) {
		printf("FAIL %s: the agent: %m\n", t->name);
		exit(FAILED);
	}
	set(s.control, IPPROTO_TCP, TCP_NODELAY, 1);
	snprintf(h.test, sizeof(h.test), "%s", t->name);
	send(s.control, &h, sizeof(h), MSG_NOSIGNAL);
	take_part(&s);
}

int play(const struct play_options *opt)
{
	unsigned int count[3] = { 0 };
	const struct test *t;
	char **name;

	for (name = opt->names; *name; name++)
		if (!find(*name)) {
			fprintf(stderr, "vmc-claim: no test %s\n", *name);
			return 2;
		}
	for (t = tests; t->name; t++) {
		double begin = now();
		int end;

		for (name = opt->names; *name && strcmp(*name, t->name); name++)
			;
		if (*opt->names && !*name)
			continue;
		end = play_one(opt, t);
		if (end < DONE || end > SKIPPED)
			end = FAILED;
		count[end]++;
		if (end == DONE)
			printf("ok   %s (%.1f s)\n", t->name, now() - begin);
	}
	printf("done %u failed %u skipped %u\n", count[DONE], count[FAILED], count[SKIPPED]);
	return count[FAILED] != 0;
}
