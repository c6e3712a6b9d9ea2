// SPDX-License-Identifier: GPL-2.0-or-later
#include "varlink_server.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CALL_MAX	4096

struct varlink_server {
	pthread_t thread;
	const struct reply *replies;
	size_t count, at;
	int listener, stop;
	char dir[32], path[64];
	char call[CALL_MAX];
};

static void answer(struct varlink_server *s, int fd, bool *end)
{
	const struct reply *r = &s->replies[s->at];
	size_t len, i;

	if (s->at + 1 < s->count)
		s->at++;
	*end = r->close;
	if (!r->data)
		return;
	len = r->len ? r->len : strlen(r->data) + 1;
	for (i = 0; i < len;) {
		ssize_t n = send(fd, r->data + i, r->slow ? 1 : len - i, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		i += (size_t)n;
		if (r->slow)
			usleep(50);
	}
}

/* Waits for the client, or for the end of the test. */
static bool ready(const struct varlink_server *s, int fd)
{
	struct pollfd p[] = { { .fd = fd, .events = POLLIN }, { .fd = s->stop, .events = POLLIN } };

	return poll(p, 2, -1) > 0 && !p[1].revents;
}

static void serve(struct varlink_server *s, int fd)
{
	size_t len = 0;
	bool end = false;

	while (!end && ready(s, fd)) {
		ssize_t n = recv(fd, s->call + len, sizeof(s->call) - len, 0);

		if (n <= 0)
			break;
		len += (size_t)n;
		if (s->call[len - 1])
			continue;
		len = 0;
		answer(s, fd, &end);
	}
	close(fd);
}

static void *run(void *arg)
{
	struct varlink_server *s = arg;

	while (ready(s, s->listener)) {
		int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0)
			serve(s, fd);
	}
	return NULL;
}

struct varlink_server *varlink_server_start(const struct reply *replies, size_t count)
{
	struct varlink_server *s = calloc(1, sizeof(*s));
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	if (!s)
		abort();
	s->replies = replies;
	s->count = count;
	strcpy(s->dir, "/tmp/vmc-test-XXXXXX");
	if (!mkdtemp(s->dir))
		abort();
	snprintf(s->path, sizeof(s->path), "%s/sock", s->dir);
	strcpy(addr.sun_path, s->path);
	s->stop = eventfd(0, EFD_CLOEXEC);
	s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->stop < 0 || bind(s->listener, (struct sockaddr *)&addr, sizeof(addr)) ||
	    listen(s->listener, 4) || pthread_create(&s->thread, NULL, run, s))
		abort();
	return s;
}

const char *varlink_server_path(const struct varlink_server *s)
{
	return s->path;
}

const char *varlink_server_call(const struct varlink_server *s)
{
	return s->call;
}

void varlink_server_stop(struct varlink_server *s)
{
	eventfd_write(s->stop, 1);
	pthread_join(s->thread, NULL);
	close(s->listener);
	close(s->stop);
	unlink(s->path);
	rmdir(s->dir);
	free(s);
}
