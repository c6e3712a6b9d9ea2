/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmc-traffic: TCP traffic of which every byte at every position is known.
 *
 * A connection begins with a header from the client that says what both ends
 * will do. The value of each later byte follows from (seed, connection, direction,
 * position), so that the receiver checks all of them without being told any.
 * Which calls are made, and how large they are, follows from the seed too.
 */
#ifndef VMC_TRAFFIC_H
#define VMC_TRAFFIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* ---------------------------------------------------------- content.c */

struct rng {
	uint64_t state;
};

uint64_t mix64(uint64_t z);
uint64_t rng_next(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t n);
bool rng_one_in(struct rng *r, unsigned int n);
/* From lo to hi, every power of two as likely as the next. */
uint64_t rng_log(struct rng *r, uint64_t lo, uint64_t hi);

uint64_t content_key(uint64_t seed, uint32_t conn, unsigned int direction);
void content_fill(uint64_t key, uint64_t pos, void *buf, size_t n);
/* Index of the first byte that is wrong; n if none is. */
size_t content_check(uint64_t key, uint64_t pos, const void *buf, size_t n);
/* Where the 16 bytes at @buf stand in the first @total bytes of a stream. */
bool content_find(uint64_t key, uint64_t total, const void *buf, uint64_t *where);

/* ----------------------------------------------------------- sha256.c */

#define SHA256_LEN	32

struct sha256 {
	uint32_t h[8];
	uint64_t length;
	unsigned char block[64];
};

void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, size_t n);
void sha256_end(struct sha256 *s, unsigned char out[SHA256_LEN]);

/* ------------------------------------------------------------- plan.c */

enum pattern {
	P_STREAM,	/* one direction */
	P_PINGPONG,	/* request, response */
	P_BOTH,		/* both directions at once */
	P_HALF_CLOSE,	/* all of it, shutdown(), then the answer */
	P_RST,		/* ends in a reset */
	P_THREADS,	/* several threads on one socket */
	P_STALL,	/* the reader does not read for a while */
	P_NR_RUN,	/* those above are what `run` mixes */
	P_HOLD = P_NR_RUN,
	P_SHA,
	P_ABANDON,	/* the client leaves by connect(AF_UNSPEC) */
	P_VERDICT,	/* asks the server how its side of a run went */
	P_NR
};

enum style {
	S_BLOCKING,
	S_NONBLOCKING,	/* tries again and again */
	S_POLL,
	S_SELECT,
	S_EPOLL_LT,
	S_EPOLL_ET,
	S_NR
};

enum op {
	OP_IOV = 1u << 0,	/* readv, writev, sendmsg, recvmsg */
	OP_SENDFILE = 1u << 1,
	OP_SPLICE = 1u << 2,
	OP_PEEK = 1u << 3,
	OP_WAITALL = 1u << 4,
	OP_DONTWAIT = 1u << 5,
	OP_LOWAT = 1u << 6,
	OP_TIMEO = 1u << 7,
	OP_FIONREAD = 1u << 8,
	OP_TRUNC = 1u << 9,
	OP_OOB = 1u << 10,	/* urgent data, inline */
	OP_FAULT = 1u << 11,	/* a bad address in the middle of an iovec */
	OP_MORE = 1u << 12,	/* MSG_MORE, TCP_CORK */
	OP_SOCKOPT = 1u << 13,	/* buffer sizes and so on, also changed mid-stream */
	OP_REUSE = 1u << 14,	/* connect(AF_UNSPEC) and again with the same socket */
	OP_ALL = (1u << 15) - 1,
};

enum ending {
	E_SHUTDOWN,	/* both shut down after their last byte and read to the end */
	E_CLIENT,	/* the client closes when all is done, the server sees the end */
	E_SERVER,
	E_NR
};

enum rst_kind {
	R_UNREAD,	/* closed with unread data */
	R_LINGER,	/* closed with SO_LINGER and no time */
	R_LATE,		/* closed properly, then written to */
	R_NR
};

#define MAGIC	0x3163697466617274ull

/* First on each connection, in the client's byte order: both ends are alike. */
struct header {
	uint64_t magic;
	uint64_t seed;
	uint64_t run;		/* whose connection this is */
	uint32_t conn;
	uint8_t pattern;
	uint8_t style[2];	/* client, server */
	uint8_t ending;
	uint64_t bytes[2];	/* from the client, from the server */
	uint32_t chunk;		/* largest single call */
	uint32_t ops;
	uint32_t rst;		/* enum rst_kind */
	uint32_t closer;	/* side that resets */
	uint32_t stall_ms;	/* P_STALL: the reader sleeps; P_HOLD: pace */
	uint32_t signal_ms;	/* the client is interrupted that often */
	uint32_t quiet_ms;	/* no progress for that long is a failure */
	uint32_t rounds;	/* P_PINGPONG; P_HOLD: not 0 if in turn */
};

struct mix {
	uint64_t min_bytes, max_bytes;
	uint32_t chunk;
	uint32_t ops;
	uint32_t patterns;	/* bit masks */
	uint32_t styles;
	uint32_t quiet_ms;
	uint32_t signal_ms;
};

/* The sizes of the next request and response. */
void plan_round(struct rng *r, uint32_t chunk, uint64_t n[2]);
void plan_connection(struct header *h, uint64_t seed, uint64_t run, uint32_t conn,
		     const struct mix *m);

extern const char *const pattern_name[P_NR];
extern const char *const style_name[S_NR];
int mask_parse(const char *text, const char *const *names, unsigned int nr, uint32_t *mask);
int ops_parse(const char *text, uint32_t *ops);

/* ---------------------------------------------------------- session.c */

enum fault {		/* what the server does wrong, to see the client find it */
	FAULT_NONE,
	FAULT_FLIP,
	FAULT_DROP,
	FAULT_REPEAT,
};

struct stream {
	uint64_t key;
	_Atomic uint64_t pos;	/* read by reports, too */
	uint64_t total;		/* UINT64_MAX: not known beforehand */
	struct rng rng;		/* chooses the calls */
	unsigned char *buf;	/* chunk bytes */
	bool blocking;		/* calls may wait: a thread has this direction to itself */
	unsigned int spurious;	/* readiness that was none, in a row */
	const char *_Atomic doing;	/* for reports */
};

/* One end of one connection. */
struct session {
	struct header h;
	int fd;
	unsigned int side;	/* 0: client, 1: server */
	enum style style;
	struct stream tx, rx;
	int memfd, pipe[2], epfd;
	uint32_t epoll_events;
	bool edge_in, edge_out;	/* epoll-et: not yet found to be EAGAIN */
	atomic_bool tries;		/* S_NONBLOCKING: the last try found nothing */
	bool small_buffers;
	bool may_reset;
	atomic_bool wr_shut;
	bool duplex;		/* one thread does both directions */
	bool exact;		/* the peer may send more than is to be read */
	enum fault fault;
	uint64_t fault_pos;
	atomic_bool failed;
	char message[680];
	struct session *next, **prev;
};

enum { IO_IN = 1, IO_OUT = 2 };

/* Prints and keeps the message; returns -EIO. */
int session_fail(struct session *s, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
int session_open(struct session *s, const struct header *h, int fd, unsigned int side);
void session_close(struct session *s);
int session_run(struct session *s);
/* Sends and receives until both positions are reached. */
int session_pump(struct session *s, uint64_t rx_until, uint64_t tx_until);
int session_expect_eof(struct session *s);
int session_shutdown(struct session *s);
/* Lists the connections that are open, for a run out of time. */
void session_report_all(void);
extern atomic_bool signals_on;

/* --------------------------------------------------------------- io.c */

#define IOV_PARTS	5

/* Waits in the session's style: a set of IO_*; 0 after @ms; or -EIO. */
int io_wait(struct session *s, bool in, bool out, int ms);
/* Fails, and tells what state the connection is in. */
int io_stalled(struct session *s, const char *what);
/* FIONREAD, or -errno. */
int io_queued(const struct session *s);
/* What a failed call comes to: -EAGAIN, -EINTR, another -errno, or -EIO if it should not be. */
ssize_t io_error(struct session *s, struct stream *t, int error, bool wanted_to_wait);
/* Cuts a buffer into up to IOV_PARTS parts, some of them empty. */
int io_cut(struct rng *r, void *buf, size_t n, struct iovec *iov);
void *bad_page(void);
uint64_t now_ms(void);
void set_timeo(int fd, int option, uint32_t ms);
void set_int(int fd, int level, int option, int value);

/* -------------------------------------------------------- tx.c and rx.c */

/*
 * One call, chosen by the stream's rng. Bytes; -EAGAIN; another -errno from
 * the socket; -EIO after session_fail(). rx_once() returns 0 at the end.
 */
ssize_t tx_once(struct session *s, uint64_t want);
ssize_t rx_once(struct session *s, uint64_t until);

/* ------------------- patterns.c, threads.c, hold.c, sha.c */

#define HOLD_SLEEPER	40	/* some held connections pause so many times longer */

int pattern_pingpong(struct session *s);
int pattern_rst(struct session *s);
int pattern_threads(struct session *s);
int pattern_stall(struct session *s);
int pattern_hold(struct session *s);
int pattern_sha(struct session *s);
int pattern_abandon(struct session *s);
extern atomic_bool hold_stop;
void nap(unsigned int ms);
int thread_start(void *(*fn)(void *), void *arg, void *thread);

/* ------------------------------------------------ serve.c and client.c */

struct verdict {
	uint64_t magic;
	uint32_t ok, failed;
	uint64_t rx, tx;
	char message[680];
};

struct serve_options {
	int family;
	bool mapped;
	uint16_t port;
	bool background;
	const char *log;
	unsigned int accept_delay_ms;
	enum fault fault;
	bool answer;		/* requests, instead of streams */
};

struct client_options {
	const char *host;
	bool mapped;
	uint16_t port;
	uint64_t seed;
	unsigned int from, connections, parallel, seconds, user_timeout_ms;
	bool peer_dies;
	bool requests;		/* hold: requests and answers in turn */
	uint64_t bytes;
	struct mix mix;
};

int serve(const struct serve_options *opt);
int client_run(const struct client_options *opt);
int client_hold(const struct client_options *opt);
int client_sha(const struct client_options *opt);
/* A connected blocking socket, or -errno. */
int client_dial(const struct client_options *opt);

/* ----------------------------------------------------------- answer.c */

/* Does not return but with an exit status. */
int answer_serve(int listener);
int client_pair(const struct client_options *opt);
int client_crr(const struct client_options *opt);
int client_idle(const struct client_options *opt);
int client_stuck(const struct client_options *opt);
/* A request, sent in calls of at most @chunk bytes, and all of its answer. 0 or -errno. */
int answer_ask(int fd, uint32_t length, uint32_t answer, uint32_t chunk);

/* The first bytes of each request. */
struct request {
	uint32_t length;	/* of the request, this included */
	uint32_t answer;	/* of the response */
};

#endif
