// SPDX-License-Identifier: GPL-2.0-or-later
/* The far end: does what it is told, one process for each who tells. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dgram.h"

static int listen_any(uint16_t port)
{
	union address any = { .v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) } };
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1, off = 0;
	socklen_t n = sizeof(any.v6);

	if (fd < 0) {	/* a kernel without IPv6 */
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		any.v4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port) };
		n = sizeof(any.v4);
	} else {
		setsockopt(fd, SOL_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (fd < 0 || bind(fd, &any.any, n) || listen(fd, 8)) {
		perror("vmc-dgram: listen");
		exit(1);
	}
	return fd;
}

static void serve(int fd)
{
	char line[REPLY_SIZE], reply[REPLY_SIZE + 1];
	FILE *in = fdopen(fd, "r");

	if (!in)
		return;
	end_init(fd);
	while (fgets(line, sizeof(line), in)) {
		size_t n;

		end_command(line, reply);
		n = strlen(reply);
		reply[n++] = '\n';
		if (send(fd, reply, n, MSG_NOSIGNAL) != (ssize_t)n)
			break;
	}
}

int agent(uint16_t port, bool background)
{
	int listener = listen_any(port);

	signal(SIGCHLD, SIG_IGN);
	if (background) {
		int null = open("/dev/null", O_RDWR);
		pid_t pid = fork();

		if (null < 0 || pid < 0) {
			perror("vmc-dgram: background");
			return 1;
		}
		if (pid)
			return 0;
		setsid();
		for (int fd = 0; fd < 3; fd++)
			dup2(null, fd);
		if (null > 2)
			close(null);
	}
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			continue;
		if (!fork()) {
			close(listener);
			serve(fd);
			_exit(0);
		}
		close(fd);
	}
}
