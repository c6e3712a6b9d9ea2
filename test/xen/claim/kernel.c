// SPDX-License-Identifier: GPL-2.0-or-later
/* vmc-claim: users of the socket inside the kernel, and sockets that are theirs from the beginning. */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/fs.h>
#include <linux/kcm.h>
#include <linux/mptcp.h>
#include <linux/nbd.h>

#include "claim.h"

#ifndef AF_KCM
#define AF_KCM		41
#endif
#ifndef SOL_MPTCP
#define SOL_MPTCP	284
#endif

/* ------------------------------------------------------------------- KCM */

#define MESSAGE		700u

static void send_messages(struct side *s, int fd, unsigned int n)
{
	unsigned char buf[MESSAGE];

	while (n--) {
		content_fill(s->tx_key, s->tx_pos, buf, MESSAGE);
		if (send(fd, buf, MESSAGE, MSG_NOSIGNAL) != MESSAGE)
			fail(s, "sending a message: %m");
		s->tx_pos += MESSAGE;
	}
}

static void recv_messages(struct side *s, int fd, unsigned int n)
{
	unsigned char buf[MESSAGE + 1];

	while (n--) {
		ssize_t got = recv(fd, buf, sizeof(buf), 0);

		if (got != MESSAGE)
			fail(s, "a message, and %u to come: %zd %m", n, got);
		if (content_check(s->rx_key, s->rx_pos, buf, MESSAGE) < MESSAGE)
			fail(s, "a wrong message");
		s->rx_pos += MESSAGE;
	}
}

/* KCM reads the connection by itself and makes messages of it. */
void test_kcm(struct side *s)
{
	struct timeval tv = { .tv_sec = 10 };
	struct kcm_attach a = { .fd = s->fd };
	struct kcm_unattach u = { .fd = s->fd };
	unsigned int round;
	int kcm;

	kcm = socket(AF_KCM, SOCK_DGRAM | SOCK_CLOEXEC, KCMPROTO_CONNECTED);
	if (kcm < 0)
		skip(s, "AF_KCM: %m");
	setsockopt(kcm, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	a.bpf_fd = load_parser(s, MESSAGE);
	make_local(s);
	s->reason = driver_says(s, "reason foreign-user");
	send_messages(s, s->fd, 4);	/* unread */
	meet(s, 0);
	expect_local(s);
	meet(s, 0);
	if (ioctl(kcm, SIOCKCMATTACH, &a))
		fail(s, "SIOCKCMATTACH: %m");
	recv_messages(s, kcm, 4);
	expect_gone(s, "foreign-user");
	for (round = 0; round < 20; round++) {
		send_messages(s, kcm, 8);
		recv_messages(s, kcm, 8);
	}
	meet(s, 0);
	if (ioctl(kcm, SIOCKCMUNATTACH, &u))
		fail(s, "SIOCKCMUNATTACH: %m");
	meet(s, 0);
	close(kcm);
	flow(s, 100000);
}

/* ------------------------------------------------------------------- nbd */

#define DISK		(256u << 10)
#define BLOCK		4096u
#define AT_ONCE		(32u << 10)

static void get(struct side *s, void *data, size_t n)
{
	if (recv(s->fd, data, n, MSG_WAITALL) != (ssize_t)n)
		fail(s, "nbd: a request: %m");
}

static void answer(struct side *s, const void *data, size_t n)
{
	if (send(s->fd, data, n, MSG_NOSIGNAL) != (ssize_t)n)
		fail(s, "nbd: an answer: %m");
}

static void serve_disk(struct side *s)
{
	unsigned char *disk = calloc(1, DISK);
	struct nbd_request r;

	while (disk) {
		struct nbd_reply reply = { .magic = htonl(NBD_REPLY_MAGIC) };
		uint64_t from;
		uint32_t len;

		get(s, &r, sizeof(r));
		from = be64toh(r.from);
		len = ntohl(r.len);
		if (r.magic != htonl(NBD_REQUEST_MAGIC))
			fail(s, "nbd: no request");
		if (ntohl(r.type) == NBD_CMD_DISC)
			break;
		if (from > DISK || len > DISK - from)
			fail(s, "nbd: %u bytes at %llu", len, (unsigned long long)from);
		memcpy(&reply.handle, &r.handle, sizeof(reply.handle));
		if (ntohl(r.type) == NBD_CMD_WRITE)
			get(s, disk + from, len);
		answer(s, &reply, sizeof(reply));
		if (ntohl(r.type) == NBD_CMD_READ)
			answer(s, disk + from, len);
	}
	free(disk);
}

static void use_disk(struct side *s, int nbd)
{
	unsigned char *buf = aligned_alloc(BLOCK, AT_ONCE);
	unsigned int pos, round, tries;

	for (round = 0; buf && round < 3; round++) {
		for (pos = 0; pos < DISK; pos += AT_ONCE) {
			content_fill(round, pos, buf, AT_ONCE);
			if (pwrite(nbd, buf, AT_ONCE, pos) != AT_ONCE)
				fail(s, "nbd: write: %m");
		}
		for (pos = 0; pos < DISK; pos += AT_ONCE) {
			memset(buf, 0, AT_ONCE);
			if (pread(nbd, buf, AT_ONCE, pos) != AT_ONCE)
				fail(s, "nbd: read: %m");
			if (content_check(round, pos, buf, AT_ONCE) < AT_ONCE)
				fail(s, "nbd: other bytes at %u", pos);
		}
	}
	/* it may have changed to larger rings just now */
	for (tries = 0; buf && tries < 200 && !is_local(s); tries++)
		if (pread(nbd, buf, BLOCK, 0) != BLOCK)
			fail(s, "nbd: read: %m");
	free(buf);
}

/* Another process is in the kernel for it, until it ends. */
static pid_t begin_disk(struct side *s, int nbd)
{
	uint64_t size = 0;
	unsigned int tries;
	pid_t pid;

	if (ioctl(nbd, NBD_SET_BLKSIZE, (unsigned long)BLOCK) ||
	    ioctl(nbd, NBD_SET_SIZE_BLOCKS, (unsigned long)(DISK / BLOCK)) ||
	    ioctl(nbd, NBD_SET_SOCK, s->fd))
		fail(s, "nbd: %m");
	pid = fork();
	if (!pid) {
		ioctl(nbd, NBD_DO_IT);
		_exit(0);
	}
	for (tries = 0; size != DISK && tries < 500; tries++) {
		usleep(10000);
		if (ioctl(nbd, BLKGETSIZE64, &size))
			break;
	}
	return pid;
}

/* A block device over the connection: the kernel calls the socket as a program does. */
void test_nbd(struct side *s)
{
	int nbd = -1, status;
	pid_t pid;

	if (s->opener) {
		nbd = open("/dev/nbd0", O_RDWR | O_CLOEXEC | O_DIRECT);
		if (nbd < 0)
			skip(s, "/dev/nbd0: %m");
	}
	make_local(s);
	if (!s->opener) {
		serve_disk(s);
		return;
	}
	pid = begin_disk(s, nbd);
	use_disk(s, nbd);
	expect_local(s);
	if (ioctl(nbd, NBD_DISCONNECT))
		fail(s, "NBD_DISCONNECT: %m");
	waitpid(pid, &status, 0);
	ioctl(nbd, NBD_CLEAR_SOCK);
	close(nbd);
}

/* --------------------------------------------- never a connection of ours */

void test_untouched(struct side *s)
{
	flow(s, 300000);
	if (driver_says(s, "hooked") != s->hooked)
		fail(s, "the driver took a socket");
}

void test_mptcp(struct side *s)
{
	struct mptcp_info info = { 0 };
	socklen_t len = sizeof(info);

	if (getsockopt(s->fd, SOL_MPTCP, MPTCP_INFO, &info, &len))
		skip(s, "MPTCP_INFO: %m");
	if (info.mptcpi_flags & MPTCP_INFO_FLAG_FALLBACK)
		fail(s, "it is plain TCP");
	test_untouched(s);
}

/* Whatever the driver makes of it. */
void test_served(struct side *s)
{
	flow(s, 300000);
	meet(s, 0);
	flow(s, 300000);
}
