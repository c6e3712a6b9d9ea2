// SPDX-License-Identifier: GPL-2.0-or-later
/* The far end: does what it is told, one process for each who tells. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "script.h"

void put_all(int fd, const void *data, size_t n)
{
	if (send(fd, data, n, MSG_NOSIGNAL) != (ssize_t)n) {
		perror("vmc-script: control connection");
		exit(1);
	}
}

void get_all(int fd, void *data, size_t n)
{
	ssize_t got = recv(fd, data, n, MSG_WAITALL);

	if (got == (ssize_t)n)
		return;
	if (got)
		perror("vmc-script: control connection");
	exit(got ? 1 : 0);	/* the player is gone */
}

static int listen_any(uint16_t *port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(*port) };
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (fd < 0 || bind(fd, (struct sockaddr *)&sin, sizeof(sin)) || listen(fd, 64) ||
	    getsockname(fd, (struct sockaddr *)&sin, &len)) {
		fprintf(stderr, "vmc-script: port %u: %m\n", *port);
		exit(1);
	}
	*port = ntohs(sin.sin_port);
	return fd;
}

static void obey(int control, bool switches)
{
	struct outcome o;
	struct step st;
	struct end e;
	uint16_t port = 0;
	int listener = listen_any(&port), waiting = 64, fd;

	/* where net.ipv4.tcp_fastopen says so, a socket is accepted before it is established */
	setsockopt(listener, IPPROTO_TCP, TCP_FASTOPEN, &waiting, sizeof(waiting));
	end_init(&e);
	e.switches = switches;
	for (;;) {
		get_all(control, &st, sizeof(st));
		memset(&o, 0, sizeof(o));
		switch (st.action) {
		case A_LISTEN:
			o.ret = port;
			o.extra = uring_works();
			break;
		case A_ACCEPT:
			fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
			o.ret = fd < 0 ? -errno : 0;
			if (fd >= 0)
				end_open(&e, fd, st.seed, 1);
			break;
		default:
			end_do(&e, &st, &o);
		}
		put_all(control, &o, sizeof(o));
	}
}

int agent(const struct agent_options *opt)
{
	uint16_t port = opt->port;
	int listener = listen_any(&port), control, on = 1;

	signal(SIGCHLD, SIG_IGN);
	if (opt->background && daemon(0, 0))
		return 1;
	for (;;) {
		control = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (control < 0)
			continue;
		setsockopt(control, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (!fork()) {
			close(listener);
			signal(SIGCHLD, SIG_DFL);
			obey(control, opt->switches);
		}
		close(control);
	}
}
