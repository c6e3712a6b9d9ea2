// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Calls that are stuck in a page fault, inside the kernel and with the socket's
 * lock held: userfaultfd leaves it to us when the memory comes.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "traffic.h"

#define AREA	(64u << 10)

enum way {
	W_SEND_LOCAL,	/* sends on a connection that has had much traffic */
	W_RECV,		/* receives on one that has sent much and received little */
	W_SEND_NEW,	/* sends on one that has just begun */
	W_NR
};

struct stuck {
	enum way way;
	int fd, err;
	unsigned char *area;	/* AREA bytes that are not there */
	atomic_bool done;
	pthread_t thread;
};

static atomic_bool stuck_stop;

static void stuck_signal(int number)
{
	(void)number;
	atomic_store(&stuck_stop, true);
}

/* All of @n bytes, in as many calls as it takes. */
static int transfer(const struct stuck *s, unsigned char *p, size_t n)
{
	while (n) {
		ssize_t got = s->way == W_RECV ? recv(s->fd, p, n, MSG_WAITALL) :
						 send(s->fd, p, n, MSG_NOSIGNAL);

		if (got <= 0)
			return got ? -errno : -ECONNRESET;
		p += got;
		n -= (size_t)got;
	}
	return 0;
}

static void *stuck_thread(void *arg)
{
	struct stuck *s = arg;
	struct request r = { 64, AREA };
	unsigned char small[64] = { 0 };
	ssize_t n = sizeof(small);

	if (s->way != W_RECV) {
		r = (struct request){ sizeof(r) + AREA, sizeof(small) };
		n = sizeof(r);
	}
	memcpy(small, &r, sizeof(r));
	if (send(s->fd, small, (size_t)n, MSG_NOSIGNAL) != n)
		s->err = -errno;
	if (s->way == W_RECV)
		nap(300);	/* the bytes are there when it comes to copy them */
	if (!s->err)
		s->err = transfer(s, s->area, AREA);
	if (!s->err && s->way != W_RECV && recv(s->fd, small, sizeof(small), MSG_WAITALL) != sizeof(small))
		s->err = -EPROTO;
	atomic_store(&s->done, true);
	return NULL;
}

static int stuck_start(struct stuck *s, const struct client_options *opt)
{
	int err = 0, i;

	s->fd = client_dial(opt);
	if (s->fd < 0)
		return s->fd;
	/* the answers are few and small: they don't earn a ring by themselves */
	for (i = 0; i < 2 && !err && s->way == W_RECV; i++)
		err = answer_ask(s->fd, 200 << 10, 64, AREA);
	for (i = 0; i < 4 && !err && s->way == W_SEND_LOCAL; i++)
		err = answer_ask(s->fd, 200 << 10, AREA, AREA);
	for (i = 0; i < 1 && !err && s->way == W_SEND_NEW; i++)
		err = answer_ask(s->fd, 20 << 10, 64, 4096);
	return err ? err : thread_start(stuck_thread, s, &s->thread);
}

/* Memory that is there when we say so. */
static int absent_memory(size_t size, unsigned char **area)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		return -errno;
	*area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (*area == MAP_FAILED)
		return -errno;
	reg.range.start = (uintptr_t)*area;
	reg.range.len = size;
	return ioctl(fd, UFFDIO_REGISTER, &reg) ? -errno : fd;
}

static int complain(const char *what, int err)
{
	fprintf(stderr, "vmc-traffic: %s: %s\n", what, strerror(-err));
	return 1;
}

int client_stuck(const struct client_options *opt)
{
	struct uffdio_zeropage zero = { .range.len = W_NR * AREA };
	struct stuck s[W_NR] = { 0 };
	unsigned char *area = NULL;
	unsigned int i;
	int fd = absent_memory(W_NR * AREA, &area), err;

	if (fd < 0)
		return complain("userfaultfd", fd);
	signal(SIGTERM, stuck_signal);
	for (i = 0; i < W_NR; i++) {
		s[i].way = (enum way)i;
		s[i].area = area + (size_t)i * AREA;
		err = stuck_start(&s[i], opt);
		if (err)
			return complain("connection", err);
	}
	nap(1000);
	for (i = 0; i < W_NR; i++)
		if (atomic_load(&s[i].done))
			return complain("a call that should be stuck", s[i].err);
	printf("%d calls are stuck\n", W_NR);
	fflush(stdout);
	for (i = 0; i < 10 * opt->seconds && !atomic_load(&stuck_stop); i++)
		nap(100);
	zero.range.start = (uintptr_t)area;
	if (ioctl(fd, UFFDIO_ZEROPAGE, &zero))
		return complain("UFFDIO_ZEROPAGE", -errno);
	for (i = 0; i < W_NR; i++) {
		pthread_join(s[i].thread, NULL);
		err = s[i].err ? s[i].err : answer_ask(s[i].fd, 64 << 10, AREA, AREA);
		if (err)
			return complain("a call that was stuck", err);
		close(s[i].fd);
	}
	printf("%d calls went on\n", W_NR);
	return 0;
}
