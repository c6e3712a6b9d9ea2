/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vmc-dgram: what UDP sockets do between two machines, told in lines that never vary. */
#ifndef DGRAM_H
#define DGRAM_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define DEFAULT_PORT	5077
#define WAIT_MS		10000
#define REPLY_SIZE	2048
#define MAX_DGRAM	70000

/* One of the two ends: the near one is this process, the far one the agent. */
enum end { NEAR, FAR };

/* Ways the agent can be wrong on purpose, to see that it is noticed. */
enum broken { SOUND, DUPLICATE, CORRUPT, DROP_CMSG };
extern enum broken broken;

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* end.c: carries out one command at this end; see there for the commands. */
void end_init(int control);
bool end_is_loopback(void);
bool end_is_v6(void);
void end_command(const char *line, char *reply);

/* command.c, for end.c: what a command needs */
long arg(const char *line, const char *key, long otherwise);
const char *word(const char *line, const char *key, char *buf, size_t size);
const char *errno_text(int error);
int64_t now_ms(void);
void fill(uint8_t *data, size_t n, size_t off, unsigned long seed);
bool filled(const uint8_t *data, size_t n, size_t off, unsigned long seed);
void fill_numbered(uint8_t *data, size_t n, uint32_t number);
bool filled_numbered(const uint8_t *data, size_t n, uint32_t *number);
bool same_host(const union address *a, const union address *b);
in_port_t port_of(const union address *a);

/* message.c: receiving, and telling what was received */
void recv_one(int fd, const char *line, const union address *self, const union address *other,
	      const union address *peer, char *reply);
void recv_errors(int fd, const char *line, const union address *self, const union address *other,
		 char *reply);

/* agent.c */
int agent(uint16_t port, bool background);

/* main.c, for the checks. A reply stays valid for 15 further commands. */
struct play {
	const char *family;	/* "4", "6" or "m" as `open` has it */
	const char *name;	/* "v4 out" and so on, before each line */
	enum end tx, rx;	/* most checks send from tx to rx */
	bool v4;		/* IPv4 packets */
	bool loopback;
};
extern struct play play;

const char *at(enum end end, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* prints a line; a result other than the wanted one (unless NULL) makes the exit status 1 */
void say(const char *name, const char *wanted, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* opens slot 0 at both ends, bound and knowing each other; returns rx's port */
int pair(bool connected);
int port_from(const char *reply);
unsigned long next_seed(void);
/* sends at tx from slot 0, receives at rx in slot 0, with further arguments */
const char *pass(int size, const char *send_args, const char *recv_args);
/* sends until an error comes back: ICMP is rate limited */
const char *provoke(int slot, int size, unsigned long seed);

void checks_basic(void);
void checks_info(void);
void checks_error(void);
void checks_bulk(void);
void checks_group(void);

#endif
