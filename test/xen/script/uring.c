// SPDX-License-Identifier: GPL-2.0-or-later
/* As little of io_uring as one operation at a time needs, by its system calls. */
#include <errno.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "script.h"

#define CALL_MS		10000u

static struct {
	pid_t owner;		/* a child has none */
	int fd;
	struct io_uring_params p;
	unsigned char *rings;
	struct io_uring_sqe *sqes;
	uint64_t begun;
} ring;

static unsigned int *at(uint32_t offset)
{
	return (unsigned int *)(ring.rings + offset);
}

static bool set_up(void)
{
	size_t sq, cq;

	ring.owner = getpid();
	ring.fd = (int)syscall(__NR_io_uring_setup, 4, &ring.p);
	if (ring.fd < 0)
		return false;
	sq = ring.p.sq_off.array + ring.p.sq_entries * sizeof(unsigned int);
	cq = ring.p.cq_off.cqes + ring.p.cq_entries * sizeof(struct io_uring_cqe);
	if (ring.p.features & IORING_FEAT_SINGLE_MMAP) {
		ring.rings = mmap(NULL, sq > cq ? sq : cq, PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQ_RING);
		ring.sqes = mmap(NULL, ring.p.sq_entries * sizeof(*ring.sqes),
				 PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd,
				 IORING_OFF_SQES);
		if ((void *)ring.rings != MAP_FAILED && (void *)ring.sqes != MAP_FAILED)
			return true;
	}
	close(ring.fd);
	ring.fd = -1;
	return false;
}

bool uring_works(void)
{
	if (!ring.owner)
		set_up();
	return ring.owner == getpid() && ring.fd >= 0;
}

static int submit(const struct io_uring_sqe *sqe)
{
	unsigned int tail = *at(ring.p.sq_off.tail);
	unsigned int i = tail & *at(ring.p.sq_off.ring_mask);

	ring.sqes[i] = *sqe;
	ring.sqes[i].user_data = ++ring.begun;
	at(ring.p.sq_off.array)[i] = i;
	/* the kernel sees the entry before the tail */
	__atomic_store_n(at(ring.p.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
	return syscall(__NR_io_uring_enter, ring.fd, 1, 0, 0, NULL, 0) == 1 ? 0 : -errno;
}

int uring_begin(uint8_t op, int fd, const void *addr, uint32_t len, uint32_t flags)
{
	struct io_uring_sqe sqe = {
		.opcode = op, .fd = fd, .addr = (uintptr_t)addr, .len = len,
		.msg_flags = flags,	/* where poll has its events, too */
	};

	return submit(&sqe);
}

/* Takes the next completion; true if it is that of @which. */
static bool completed(uint64_t which, int *ret)
{
	struct io_uring_cqe *cqes = (struct io_uring_cqe *)(ring.rings + ring.p.cq_off.cqes);
	unsigned int head = *at(ring.p.cq_off.head);
	const struct io_uring_cqe *cqe;
	bool right;

	/* the entry is there when the tail says so */
	if (head == __atomic_load_n(at(ring.p.cq_off.tail), __ATOMIC_ACQUIRE))
		return false;
	cqe = &cqes[head & *at(ring.p.cq_off.ring_mask)];
	right = cqe->user_data == which;
	if (right)
		*ret = cqe->res;
	__atomic_store_n(at(ring.p.cq_off.head), head + 1, __ATOMIC_RELEASE);
	return right;
}

static bool wait_for(uint64_t which, unsigned int ms, int *ret)
{
	struct pollfd p = { .fd = ring.fd, .events = POLLIN };
	uint64_t deadline = clock_ms() + ms;

	while (!completed(which, ret)) {
		if (clock_ms() >= deadline)
			return false;
		poll(&p, 1, (int)ms);
	}
	return true;
}

int uring_end(unsigned int ms)
{
	uint64_t which = ring.begun;
	struct io_uring_sqe give_up = { .opcode = IORING_OP_ASYNC_CANCEL, .addr = which };
	int ret;

	if (wait_for(which, ms, &ret))
		return ret;
	submit(&give_up);
	/* it may have been done just now; either way it says so */
	return wait_for(which, CALL_MS, &ret) && ret != -ECANCELED ? ret : -ETIME;
}

int uring_call(uint8_t op, int fd, const void *addr, uint32_t len, uint32_t flags)
{
	int ret = uring_begin(op, fd, addr, len, flags);

	if (!ret)
		ret = uring_end(CALL_MS);
	if (ret >= 0)
		return ret;
	errno = -ret;
	return -1;
}
