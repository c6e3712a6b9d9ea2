// SPDX-License-Identifier: GPL-2.0-or-later
/* The server: a thread for each connection, and a tally for each run. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "traffic.h"

#define VERDICT_SECONDS	40
#define TALLIES		64

struct tally {
	uint64_t run;
	struct verdict v;
};

static struct tally tallies[TALLIES];	/* of the latest runs */
static unsigned int next_tally;
static pthread_mutex_t tally_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t tally_changed;
static enum fault serve_fault;

static struct tally *tally_of(uint64_t run)
{
	struct tally *t;

	for (t = tallies; t < tallies + TALLIES; t++)
		if (t->run == run)
			return t;
	t = &tallies[next_tally++ % TALLIES];
	memset(t, 0, sizeof(*t));
	t->run = run;
	return t;
}

static void account(const struct session *s, bool good)
{
	struct tally *t;

	pthread_mutex_lock(&tally_lock);
	t = tally_of(s->h.run);
	if (good)
		t->v.ok++;
	else if (!t->v.failed++)
		memcpy(t->v.message, s->message, sizeof(t->v.message));
	/* what gets through before a reset is not certain, so the client doesn't count it either */
	if (s->h.pattern != P_RST && s->h.pattern != P_ABANDON) {
		t->v.rx += s->rx.pos;
		t->v.tx += s->tx.pos;
	}
	pthread_cond_broadcast(&tally_changed);
	pthread_mutex_unlock(&tally_lock);
}

/* Answers when h->conn connections of the run are done, or not in time. */
static void tell_verdict(int fd, const struct header *h)
{
	struct timespec deadline;
	struct verdict v;

	clock_gettime(CLOCK_MONOTONIC, &deadline);
	deadline.tv_sec += VERDICT_SECONDS;
	pthread_mutex_lock(&tally_lock);
	for (;;) {
		const struct tally *t = tally_of(h->run);

		v = t->v;
		if (v.ok + v.failed >= h->conn)
			break;
		if (pthread_cond_timedwait(&tally_changed, &tally_lock, &deadline))
			break;
	}
	pthread_mutex_unlock(&tally_lock);
	v.magic = MAGIC;
	if (send(fd, &v, sizeof(v), MSG_NOSIGNAL) != sizeof(v))
		fprintf(stderr, "vmc-traffic: nobody waits for the verdict: %m\n");
	close(fd);
}

static void *connection_thread(void *arg)
{
	int fd = *(int *)arg;
	struct session *s;
	struct header h;
	ssize_t got;
	int err;

	free(arg);
	set_timeo(fd, SO_RCVTIMEO, 120000);
	got = recv(fd, &h, sizeof(h), MSG_WAITALL);
	if (got != sizeof(h) || h.magic != MAGIC || h.pattern >= P_NR || h.style[1] >= S_NR ||
	    !h.chunk || h.chunk > 16 << 20) {
		/* a port scan, or a client that failed before it began */
		if (got)
			fprintf(stderr, "vmc-traffic: no header on a connection (%zd bytes)\n", got);
		close(fd);
		return NULL;
	}
	if (h.pattern == P_VERDICT) {
		tell_verdict(fd, &h);
		return NULL;
	}
	s = malloc(sizeof(*s));
	if (!s || session_open(s, &h, fd, 1)) {
		fprintf(stderr, "vmc-traffic: no memory for a connection\n");
		free(s);
		close(fd);
		return NULL;
	}
	if (serve_fault != FAULT_NONE && h.bytes[1] > 1) {
		s->fault = serve_fault;
		s->fault_pos = h.bytes[1] / 2;
	}
	err = session_run(s);
	session_close(s);
	account(s, !err && !s->failed);
	free(s);
	return NULL;
}

static int listen_on(const struct serve_options *opt)
{
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6, .sin6_port = htons(opt->port) };
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(opt->port) };
	int fd, on = 1, only = !opt->mapped, err;

	fd = socket(opt->family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	/* inherited, so that no urgent byte comes before it is set */
	setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	if (opt->family == AF_INET6) {
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
		err = bind(fd, (struct sockaddr *)&sin6, sizeof(sin6));
	} else {
		err = bind(fd, (struct sockaddr *)&sin, sizeof(sin));
	}
	if (err || listen(fd, 4096)) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

static int go_to_background(const struct serve_options *opt)
{
	int fd = open(opt->log ? opt->log : "/dev/null", O_WRONLY | O_CREAT | O_APPEND, 0644);
	pid_t pid;

	if (fd < 0) {
		fprintf(stderr, "vmc-traffic: %s: %m\n", opt->log);
		return 1;
	}
	pid = fork();
	if (pid < 0) {
		perror("vmc-traffic: fork");
		return 1;
	}
	if (pid) {
		printf("%d\n", pid);
		exit(0);
	}
	setsid();
	dup2(open("/dev/null", O_RDONLY), 0);
	dup2(fd, 1);
	dup2(fd, 2);
	return 0;
}

int serve(const struct serve_options *opt)
{
	pthread_condattr_t attr;
	int listener, fd, err, *arg;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&tally_changed, &attr);
	serve_fault = opt->fault;
	listener = listen_on(opt);
	if (listener < 0) {
		fprintf(stderr, "vmc-traffic: port %u: %s\n", opt->port, strerror(-listener));
		return 1;
	}
	if (opt->background && go_to_background(opt))
		return 1;
	if (opt->answer)
		return answer_serve(listener);
	for (;;) {
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno != ECONNABORTED && errno != EINTR) {
				fprintf(stderr, "vmc-traffic: accept: %m\n");
				sleep(1);
			}
			continue;
		}
		arg = malloc(sizeof(*arg));
		if (arg)
			*arg = fd;
		err = arg ? thread_start(connection_thread, arg, NULL) : -ENOMEM;
		if (err) {
			fprintf(stderr, "vmc-traffic: no thread: %s\n", strerror(-err));
			free(arg);
			close(fd);
		}
		/* lets bytes come in before the next accept() */
		if (opt->accept_delay_ms)
			usleep(opt->accept_delay_ms * 1000);
	}
}
