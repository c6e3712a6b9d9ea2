/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmc-script: random but repeatable scripts of socket calls on one connection,
 * and what each call returned. Run twice, over TCP and over VMC, the two have to
 * have the same to tell.
 *
 * One process plays: it chooses each step from the seed and from what went
 * before, has it done at one end or the other, and writes down the outcome. The
 * far end is an agent that is told its steps over a connection of its own. One
 * step happens at a time, and it begins when all that was sent before has come
 * to rest, so that there is one right outcome. A call that has to wait is three
 * steps: it begins, the other end does what it waits for, it returns.
 */
#ifndef VMC_SCRIPT_H
#define VMC_SCRIPT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define MOST		8192u	/* bytes in a call */

enum action {
	A_REST,		/* only wait for what was sent before */
	A_SEND,
	A_CORKED,	/* two sends, the first of which may be held back */
	A_ZEROCOPY,	/* and its completion */
	A_CROWD,	/* threads send, each n bytes */
	A_URGENT,	/* MSG_OOB */
	A_FLOOD,	/* as much as goes, then SO_SNDTIMEO */
	A_ROOM,		/* after it, when the other has read: there is space again */
	A_RECV,
	A_DRAIN,	/* n bytes, waiting for them */
	A_INLINE,	/* SO_OOBINLINE */
	A_MARK,		/* reads up to the urgent byte, it, and past it */
	A_PEEK_OFF,	/* SO_PEEK_OFF */
	A_TIMEOUT,	/* a call that waits for nothing */
	A_WAIT,		/* begins a call that waits */
	A_SIGNAL,	/* interrupts it */
	A_WOKEN,	/* its result */
	A_POLL,
	A_EPOLL,	/* edge-triggered */
	A_QUEUED,	/* FIONREAD */
	A_UNSENT,	/* SIOCOUTQ and SIOCOUTQNSD come to 0 */
	A_ERROR,	/* SO_ERROR */
	A_OPTION,
	A_STATE,	/* TCP_INFO, getsockname(), getpeername() */
	A_SHUTDOWN,
	A_CLOSE,
	A_DISCONNECT,	/* connect(AF_UNSPEC), to use the socket again */
	A_SWITCH,	/* all streams of the guest back to TCP, if this is about VMC */
	A_OPEN,		/* only to be told of: how the connection began */
	A_NR,
	/* what an agent is asked besides */
	A_LISTEN = 100,	/* ret: the port; extra: has it io_uring? */
	A_ACCEPT,
	A_END,		/* closes, whatever the state */
};

/* The calls that can wait: those for bytes, those for an event, and others. */
enum wait {
	W_RECV, W_READ, W_RECVMSG, W_SPLICE, W_WAITALL,
	W_POLL, W_SELECT, W_EPOLL, W_EDGE, W_ONESHOT, W_EXCLUSIVE,
	W_BY_SIGNAL,	/* those before it: a signal can interrupt, a timeout end */
	W_URING_RECV = W_BY_SIGNAL, W_URING_POLL,
	W_CROWD,	/* threads, each of which wants n bytes */
	W_SEND,		/* n bytes, more than there is space for */
	W_NR
};

#define CROWD		3u

/* By which descriptor, and in which process. */
enum via {
	VIA_ITSELF,
	VIA_DUP,
	VIA_PASSED,	/* SCM_RIGHTS */
	VIA_MOVED,	/* and the first one is closed */
	VIA_NONBLOCK,	/* O_NONBLOCK meanwhile */
	VIA_CHILD,	/* fork() */
};

struct step {
	uint32_t action;
	uint32_t n;		/* bytes, or a value */
	uint32_t flags;		/* MSG_*, SHUT_* */
	uint32_t style;
	uint32_t via;
	uint32_t queued;	/* first wait until so many bytes can be read */
	uint32_t until;		/* and until poll() shows these; POLLHUP: and TCP is closed */
	uint64_t seed;		/* A_ACCEPT */
};

enum { BAD_NONE, BAD_CONTENT, BAD_REST, BAD_EDGE, BAD_EARLY, BAD_ASLEEP };

struct outcome {
	int32_t ret;
	int32_t error;		/* errno, if ret is -1 */
	uint32_t extra;		/* poll's events, msg_flags, an option's value, SIGPIPEs */
	uint32_t bad;		/* wrong by itself, whatever TCP would have done */
	/* what is not compared */
	uint32_t detail;	/* of what is bad: a position, or bytes to read, */
	uint32_t events;	/* and what poll() shows */
	uint32_t sent, read;	/* bytes of the stream, for the model */
};

/* One end of the connection. */
struct end {
	int fd, level, edge, room;	/* the socket and epolls on it */
	int pipe[2], spare[2], memfd;
	uint64_t tx_key, rx_key, tx_pos, rx_pos;
	struct sockaddr_in local, peer;
	struct waiter *waiter;
	bool switches;		/* A_SWITCH means something here */
	unsigned char buf[2 * MOST];
};

typedef void action_fn(struct end *e, const struct step *st, struct outcome *o);

/* -------------------------------------------------------------- end.c */

void end_init(struct end *e);
void end_open(struct end *e, int fd, uint64_t seed, unsigned int side);
/* For another connection of the same socket. */
void end_reopen(struct end *e, uint64_t seed, unsigned int side);
void end_do(struct end *e, const struct step *st, struct outcome *o);

uint64_t clock_ms(void);
/* A moment, and whether a timeout of @ms that began there ends too early now. */
struct clocks {
	uint64_t real, ticks;
};
struct clocks clocks_now(void);
bool too_early(struct clocks begin, uint64_t ms);
void nap_us(unsigned int us);
/* Writes down what a call returned. */
void returned(struct outcome *o, long ret);

/* ------------------------------------------------------------- send.c */

extern volatile int sigpipes;	/* so many have come */
action_fn do_send, do_corked, do_zerocopy, do_crowd, do_urgent, do_flood, do_room;
/* Sends n bytes of the stream, going on after signals. */
long send_all(struct end *e, size_t n);

/* ------------------------------------------------------------- recv.c */

action_fn do_recv, do_drain, do_inline, do_mark, do_peek_off;
/* The parts of a buffer that calls with an iovec get, one of them empty. */
int cut(unsigned char *buf, size_t n, struct iovec *iov);
/* The next bytes of the stream, in their order or (threads took them) in any. */
void check(const struct end *e, const unsigned char *buf, size_t n, bool in_order,
	   struct outcome *o);

/* ------------------------------------------------------------- wait.c */

action_fn do_timeout, do_wait, do_signal, do_woken;
void wait_init(void);

/* ------------------------------------------------------------ ready.c */

#define EVENTS		(POLLIN | POLLPRI | POLLOUT | POLLRDHUP)

action_fn do_poll, do_epoll;
/* A new epoll on the socket. */
int epoll_on(int fd, uint32_t events);
/* select() for input, with poll()'s events for an answer. */
int select_in(int fd, int ms, bool out, uint32_t *events);

/* ----------------------------------------------------------- option.c */

action_fn do_queued, do_unsent, do_error, do_option, do_state;
/* Is this A_OPTION about SO_RCVLOWAT, with n for its value? */
bool sets_lowat(const struct step *st);
/* TCP_INFO's, or -1. */
int tcp_state(int fd);
void set_int(int fd, int level, int name, int value);
void set_timeo(int fd, int name, unsigned int ms);

/* ------------------------------------------------------------ uring.c */

/*
 * One operation at a time on a ring of the process's own; -errno, or what the
 * operation returned. Where the kernel forbids io_uring uring_works() says so,
 * and its steps are done by plain calls.
 */
bool uring_works(void);
int uring_call(uint8_t op, int fd, const void *addr, uint32_t len, uint32_t flags);
int uring_begin(uint8_t op, int fd, const void *addr, uint32_t len, uint32_t flags);
/* -ETIME if it is not done after so many milliseconds; then it is given up. */
int uring_end(unsigned int ms);

/* ------------------------------------------------------------ agent.c */

struct agent_options {
	uint16_t port;
	bool background, switches;
};

int agent(const struct agent_options *opt);
/* All of it, or the process ends. */
void put_all(int fd, const void *data, size_t n);
void get_all(int fd, void *data, size_t n);

/* ------------------------------------------------------------- play.c */

struct play_options {
	const char *host;
	uint16_t port;
	uint64_t seed;		/* of the first */
	unsigned int scripts, parallel;
	bool switches, verbose;
	const char *out;	/* a line for each script */
	const char *expect;	/* such a file, of another run */
};

int play(const struct play_options *opt);

#endif
