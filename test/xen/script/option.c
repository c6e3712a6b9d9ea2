// SPDX-License-Identifier: GPL-2.0-or-later
/* What is set and asked by setsockopt(), getsockopt() and ioctl(). */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "script.h"

#define UNSENT_MS	10000

/* What is read back is not determined. */
#define UNREAD		1u
#define GET_ONLY	2u

/*
 * Not here: SO_TIMESTAMP (when the kernel begins to stamp packets is not determined), TCP_MAXSEG
 * and TCP_CONGESTION (differ from path to path and kernel to kernel), and what
 * of TCP_INFO counts packets.
 */
static const struct {
	int level, name, value;
	unsigned int flags;
} settings[] = {
	{ IPPROTO_TCP, TCP_NODELAY, 1, 0 },
	{ IPPROTO_TCP, TCP_NODELAY, 0, 0 },
	{ IPPROTO_TCP, TCP_QUICKACK, 1, UNREAD },
	{ IPPROTO_TCP, TCP_USER_TIMEOUT, 30000, 0 },
	{ IPPROTO_TCP, TCP_INQ, 1, 0 },
	{ IPPROTO_TCP, TCP_KEEPIDLE, 100, 0 },
	{ IPPROTO_TCP, TCP_KEEPINTVL, 20, 0 },
	{ IPPROTO_TCP, TCP_KEEPCNT, 4, 0 },
	{ IPPROTO_TCP, TCP_LINGER2, 5, 0 },
	{ IPPROTO_TCP, TCP_NOTSENT_LOWAT, 64 << 10, 0 },
	{ IPPROTO_TCP, TCP_SYNCNT, 3, 0 },
	{ IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 0, GET_ONLY },
	{ SOL_SOCKET, SO_KEEPALIVE, 1, 0 },
	{ SOL_SOCKET, SO_KEEPALIVE, 0, 0 },
	{ SOL_SOCKET, SO_RCVLOWAT, 1, 0 },
	{ SOL_SOCKET, SO_RCVLOWAT, 1000, 0 },
	{ SOL_SOCKET, SO_SNDBUF, 100 << 10, 0 },
	{ SOL_SOCKET, SO_RCVBUF, 100 << 10, 0 },
	{ SOL_SOCKET, SO_PRIORITY, 3, 0 },
	{ SOL_SOCKET, SO_REUSEADDR, 1, 0 },
	{ SOL_SOCKET, SO_LINGER, 0, GET_ONLY },
	{ SOL_SOCKET, SO_TYPE, 0, GET_ONLY },
	{ SOL_SOCKET, SO_PROTOCOL, 0, GET_ONLY },
	{ SOL_SOCKET, SO_DOMAIN, 0, GET_ONLY },
	{ SOL_SOCKET, SO_ACCEPTCONN, 0, GET_ONLY },
	{ SOL_SOCKET, SO_RCVTIMEO, 0, GET_ONLY },
	{ IPPROTO_IP, IP_TOS, 0x10, 0 },
};

#define NR_SETTINGS (sizeof(settings) / sizeof(settings[0]))

bool sets_lowat(const struct step *st)
{
	unsigned int i = st->style % NR_SETTINGS;

	return settings[i].name == SO_RCVLOWAT && settings[i].value > 1;
}

void set_int(int fd, int level, int name, int value)
{
	setsockopt(fd, level, name, &value, sizeof(value));
}

void set_timeo(int fd, int name, unsigned int ms)
{
	struct timeval t = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000L };

	setsockopt(fd, SOL_SOCKET, name, &t, sizeof(t));
}

/* And reads it back. */
void do_option(struct end *e, const struct step *st, struct outcome *o)
{
	unsigned int i = st->style % NR_SETTINGS, k;
	int value = sets_lowat(st) ? (int)st->n : settings[i].value;
	uint32_t words[4] = { 0 };
	socklen_t len = sizeof(words);

	if (!(settings[i].flags & GET_ONLY))
		returned(o, setsockopt(e->fd, settings[i].level, settings[i].name, &value,
				       sizeof(value)));
	if (o->ret || settings[i].flags & UNREAD)
		return;
	returned(o, getsockopt(e->fd, settings[i].level, settings[i].name, words, &len));
	for (k = 0; k < 4; k++)
		o->extra += words[k];
}

void do_queued(struct end *e, const struct step *st, struct outcome *o)
{
	(void)st;
	returned(o, ioctl(e->fd, FIONREAD, &o->extra));
}

/* How soon a byte is acknowledged is not determined, only that it is. */
void do_unsent(struct end *e, const struct step *st, struct outcome *o)
{
	uint64_t deadline = clock_ms() + UNSENT_MS;
	int unacked, unsent;

	(void)st;
	for (;;) {
		unacked = unsent = -1;
		returned(o, ioctl(e->fd, SIOCOUTQ, &unacked));
		if (!o->ret)
			returned(o, ioctl(e->fd, SIOCOUTQNSD, &unsent));
		if (o->ret || (!unacked && !unsent) || clock_ms() > deadline)
			break;
		nap_us(1000);
	}
	o->extra = (uint32_t)(unacked | unsent);
}

void do_error(struct end *e, const struct step *st, struct outcome *o)
{
	socklen_t len = sizeof(o->extra);

	(void)st;
	returned(o, getsockopt(e->fd, SOL_SOCKET, SO_ERROR, &o->extra, &len));
}

int tcp_state(int fd)
{
	struct tcp_info ti = { 0 };
	socklen_t len = sizeof(ti);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) ? -1 : ti.tcpi_state;
}

static bool same(const struct sockaddr_in *a, const struct sockaddr_in *b)
{
	return a->sin_family == b->sin_family && a->sin_port == b->sin_port &&
	       a->sin_addr.s_addr == b->sin_addr.s_addr;
}

void do_state(struct end *e, const struct step *st, struct outcome *o)
{
	struct sockaddr_in sin = { 0 };
	socklen_t len = sizeof(sin);
	int state = tcp_state(e->fd);

	(void)st;
	/* when the other's acknowledgement comes is not determined */
	if (state == TCP_FIN_WAIT2)
		state = TCP_FIN_WAIT1;
	o->extra = (uint32_t)state << 8;
	if (state != TCP_CLOSE && !getsockname(e->fd, (struct sockaddr *)&sin, &len))
		o->extra |= same(&sin, &e->local);
	len = sizeof(sin);
	returned(o, getpeername(e->fd, (struct sockaddr *)&sin, &len));
	if (!o->ret)
		o->extra |= (uint32_t)same(&sin, &e->peer) << 1;
}
