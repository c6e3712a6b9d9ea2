/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmc-claim: a connection is in use, and then another part of the kernel takes
 * the socket. Both ends do the same, step by step, each in a process of its own;
 * a second connection keeps them together. What arrives is checked byte for
 * byte, and with --local also that it went through shared memory before, and
 * that the driver let the socket go.
 */
#ifndef VMC_CLAIM_H
#define VMC_CLAIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "../tools/traffic.h"

#define IN_FLIGHT	6000u	/* bytes that nobody has read when the claim comes */

struct test;

/* One end. */
struct side {
	const struct test *test;
	int control, fd;
	bool opener;		/* which end we are */
	bool local;		/* there is a driver, and it is to be seen at work */
	bool ended;		/* the test's own: nothing more comes on fd */
	struct sockaddr_storage far;
	socklen_t far_len;
	uint64_t tx_key, rx_key, tx_pos, rx_pos;
	struct rng rng;
	unsigned long hooked, reason;	/* what the driver said before */
};

struct test {
	const char *name;
	int family, protocol;	/* of the connection, if not ordinary TCP; as in socket() */
	int open_protocol;	/* of the opener's end, if another */
	void (*prepare)(struct side *s);	/* before there are sockets */
	void (*open)(struct side *s);	/* instead of a listener here and a connect() there */
	void (*run)(struct side *s);
};

/* What the driver's debugfs says of a connection. */
struct watched {
	unsigned int tx, rx;	/* states */
	unsigned long long unread;
};

extern const struct test tests[];

/* ------------------------------------------------------------- pair.c */

/* The test ends here: wrongly, or because the kernel does not have what it is about. */
void fail(struct side *s, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));
void skip(struct side *s, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));
/* Waits for the other end; tells a number, and returns the other's. */
int meet(struct side *s, int told);

void send_some(struct side *s, size_t n);
void recv_some(struct side *s, size_t n);
/* Much, both ways at once. */
void flow(struct side *s, size_t n);

bool watched(struct side *s, struct watched *w);
unsigned long driver_says(struct side *s, const char *line);
/* Traffic until both directions are in shared memory. */
void make_local(struct side *s);
/* Both ends have sent what neither has read. */
void put_in_flight(struct side *s);
/* make_local() and put_in_flight(), and remembers how often @reason was counted. */
void ready(struct side *s, const char *reason);
/* The driver has let the socket go, for that reason. */
void expect_gone(struct side *s, const char *reason);
/* It watches the socket, but both directions stay with TCP, for that reason. */
void expect_remote(struct side *s, const char *reason);
bool is_local(struct side *s);
void expect_local(struct side *s);
/* Both ends connect to each other (simultaneous open): the opener overhears that nobody listens. */
void cross(struct side *s);
/* rmmod or modprobe of the driver, in the opener's guest. */
void reload(struct side *s, const char *command);

int agent(uint16_t port, bool background, bool local);
struct play_options {
	const char *host;
	uint16_t port;
	bool local;
	char **names;		/* of tests, up to a NULL; none: all */
};
int play(const struct play_options *opt);

/* ------------------------------------------- tls.c, bpf.c, kernel.c, tcp.c */

void test_tls12(struct side *s);
void test_tls13(struct side *s);
void test_tls_late(struct side *s);
void test_tls_first(struct side *s);
void test_tls_reload(struct side *s);

void test_sockmap(struct side *s);
void test_sockhash(struct side *s);
void test_verdict(struct side *s);
void test_sockmap_reload(struct side *s);
void prepare_sockops(struct side *s);
void test_sockops(struct side *s);
void test_bpf_filter(struct side *s);
/* A program for KCM: every message is as long. */
int load_parser(struct side *s, int length);

void test_nbd(struct side *s);
void test_kcm(struct side *s);
void test_untouched(struct side *s);
void test_mptcp(struct side *s);
void test_served(struct side *s);

void test_repair(struct side *s);
void test_filter(struct side *s);
void test_destroy(struct side *s);
void test_inq(struct side *s);
void test_crossed(struct side *s);

#endif
