// SPDX-License-Identifier: GPL-2.0-or-later
/* vmc-claim: sockmap, programs on sockets, by bpf(2) itself. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/bpf.h>

#include "claim.h"

struct map {
	int fd;
	enum bpf_map_type type;
};

static int bpf(enum bpf_cmd cmd, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

static struct map new_map(struct side *s, enum bpf_map_type type)
{
	union bpf_attr attr = {
		.map_type = type,
		.key_size = 4,
		.value_size = 4,
		.max_entries = 4,
	};
	struct map m = { .type = type };

	m.fd = bpf(BPF_MAP_CREATE, &attr);
	if (m.fd < 0)
		skip(s, "BPF_MAP_CREATE: %m");
	return m;
}

static int load(struct side *s, enum bpf_prog_type type, const struct bpf_insn *insn, size_t n)
{
	union bpf_attr attr = {
		.prog_type = type,
		.insns = (uintptr_t)insn,
		.insn_cnt = (uint32_t)n,
		.license = (uintptr_t)"GPL",
	};
	int fd = bpf(BPF_PROG_LOAD, &attr);

	if (fd < 0 && (errno == EPERM || errno == ENOSYS))
		skip(s, "BPF_PROG_LOAD: %m");
	if (fd < 0)
		fail(s, "BPF_PROG_LOAD: %m");
	return fd;
}

#define INSN(op, d, r, o, i)	{ .code = (op), .dst_reg = (d), .src_reg = (r), .off = (o), .imm = (i) }
#define MOV(d, i)		INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define COPY(d, r)		INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, r, 0, 0)
#define ADD(d, i)		INSN(BPF_ALU64 | BPF_ADD | BPF_K, d, 0, 0, i)
#define CALL(i)			INSN(BPF_JMP | BPF_CALL, 0, 0, 0, i)
#define EXIT			INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

static int load_returning(struct side *s, enum bpf_prog_type type, int value)
{
	struct bpf_insn insn[] = { MOV(0, value), EXIT };

	return load(s, type, insn, 2);
}

int load_parser(struct side *s, int length)
{
	return load_returning(s, BPF_PROG_TYPE_SOCKET_FILTER, length);
}

static void attach(struct side *s, int target, int prog, enum bpf_attach_type type)
{
	union bpf_attr attr = { 0 };

	attr.target_fd = (uint32_t)target;
	attr.attach_bpf_fd = (uint32_t)prog;
	attr.attach_type = type;
	if (bpf(BPF_PROG_ATTACH, &attr))
		fail(s, "BPF_PROG_ATTACH: %m");
}

static void put(struct side *s, const struct map *m)
{
	uint32_t key = 1, value = (uint32_t)s->fd;
	union bpf_attr attr = { 0 };

	attr.map_fd = (uint32_t)m->fd;
	attr.key = (uintptr_t)&key;
	attr.value = (uintptr_t)&value;
	attr.flags = BPF_ANY;
	/*
	 * What comes before the bytes in a ring may still be on its way, and the call
	 * must not wait for it: then it says so, and the socket is let go soon.
	 */
	for (int tries = 0; bpf(BPF_MAP_UPDATE_ELEM, &attr); tries++) {
		if (errno != EBUSY || tries == 100)
			fail(s, "BPF_MAP_UPDATE_ELEM: %m");
		usleep(10000);
	}
}

static void take(struct side *s, const struct map *m, uint32_t key)
{
	union bpf_attr attr = { 0 };

	attr.map_fd = (uint32_t)m->fd;
	attr.key = (uintptr_t)&key;
	if (bpf(BPF_MAP_DELETE_ELEM, &attr))
		fail(s, "BPF_MAP_DELETE_ELEM: %m");
}

/* With bytes unread, in the map, and out again. */
static void in_and_out(struct side *s, const struct map *m)
{
	ready(s, "foreign-user");
	put(s, m);
	expect_gone(s, "foreign-user");
	meet(s, 0);
	recv_some(s, IN_FLIGHT);
	flow(s, 200000);
	meet(s, 0);
	take(s, m, 1);
	meet(s, 0);
	flow(s, 200000);
}

void test_sockmap(struct side *s)
{
	struct map m = new_map(s, BPF_MAP_TYPE_SOCKMAP);

	in_and_out(s, &m);
}

void test_sockhash(struct side *s)
{
	struct map m = new_map(s, BPF_MAP_TYPE_SOCKHASH);

	in_and_out(s, &m);
}

/* Every segment goes through a program, which lets it pass. */
void test_verdict(struct side *s)
{
	struct map m = new_map(s, BPF_MAP_TYPE_SOCKMAP);

	attach(s, m.fd, load_returning(s, BPF_PROG_TYPE_SK_SKB, SK_PASS), BPF_SK_SKB_STREAM_VERDICT);
	in_and_out(s, &m);
}

/* The driver leaves and comes back while the socket is in a map, which then gives it back. */
void test_sockmap_reload(struct side *s)
{
	struct map m = new_map(s, BPF_MAP_TYPE_SOCKMAP);

	ready(s, "foreign-user");
	put(s, &m);
	meet(s, 0);
	recv_some(s, IN_FLIGHT);
	reload(s, "rmmod vmc");
	flow(s, 100000);
	meet(s, 0);
	take(s, &m, 1);
	meet(s, 0);
	flow(s, 100000);
	put(s, &m);
	meet(s, 0);
	flow(s, 100000);
	reload(s, "modprobe vmc");
	flow(s, 100000);
	meet(s, 0);
	take(s, &m, 1);
	meet(s, 0);
	flow(s, 100000);
}

/* ------------------------------------------- as soon as it is established */

static struct map early;
static char mounted[40], cgroup[60];	/* where, and the one in it that is ours */

static bool put_word(const char *path, const char *word)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, word, strlen(word)) == (ssize_t)strlen(word);

	if (fd >= 0)
		close(fd);
	return ok;
}

static void leave_cgroup(void)
{
	char procs[100];

	snprintf(procs, sizeof(procs), "%s/cgroup.procs", mounted);
	put_word(procs, "0");
	rmdir(cgroup);
	umount2(mounted, MNT_DETACH);
	rmdir(mounted);
}

/* A process whose sockets a program puts into a map when they are connected. */
void prepare_sockops(struct side *s)
{
	struct bpf_insn insn[] = {
		INSN(BPF_LDX | BPF_MEM | BPF_W, 2, 1, offsetof(struct bpf_sock_ops, op), 0),
		INSN(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 2, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB),
		INSN(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 1, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB),
		INSN(BPF_JMP | BPF_JA, 0, 0, 7, 0),
		INSN(BPF_ST | BPF_MEM | BPF_W, 10, 0, -4, 0),
		INSN(BPF_LD | BPF_IMM | BPF_DW, 2, BPF_PSEUDO_MAP_FD, 0, 0),
		{ 0 },
		COPY(3, 10),
		ADD(3, -4),
		MOV(4, BPF_ANY),
		CALL(BPF_FUNC_sock_map_update),
		MOV(0, 1),
		EXIT,
	};
	char procs[100];
	int dir;

	early = new_map(s, BPF_MAP_TYPE_SOCKMAP);
	insn[5].imm = early.fd;
	snprintf(mounted, sizeof(mounted), "/tmp/vmc-claim.%d", getpid());
	snprintf(cgroup, sizeof(cgroup), "%s/vmc-claim.%d", mounted, getpid());
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", cgroup);
	mkdir(mounted, 0700);
	atexit(leave_cgroup);
	if (mount("none", mounted, "cgroup2", 0, NULL))
		skip(s, "cgroup2: %m");
	if (mkdir(cgroup, 0700) || !put_word(procs, "0"))
		skip(s, "%s: %m", procs);
	dir = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	attach(s, dir, load(s, BPF_PROG_TYPE_SOCK_OPS, insn, sizeof(insn) / sizeof(insn[0])),
	       BPF_CGROUP_SOCK_OPS);
}

void test_sockops(struct side *s)
{
	struct watched w;

	flow(s, 300000);
	if (watched(s, &w))
		fail(s, "the driver took it all the same");
	meet(s, 0);
	take(s, &early, 0);	/* it is there */
	meet(s, 0);
	flow(s, 100000);
}

/* ---------------------------------------------------------------- filters */

void test_bpf_filter(struct side *s)
{
	int prog = load_returning(s, BPF_PROG_TYPE_SOCKET_FILTER, -1);

	ready(s, "sockopt");
	if (setsockopt(s->fd, SOL_SOCKET, SO_ATTACH_BPF, &prog, sizeof(prog)))
		fail(s, "SO_ATTACH_BPF: %m");
	meet(s, 0);
	recv_some(s, IN_FLIGHT);
	flow(s, 300000);
	meet(s, 0);
	expect_remote(s, "sockopt");
}
