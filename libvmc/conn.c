// SPDX-License-Identifier: LGPL-2.1-or-later
#include "conn.h"
#include "vmc/vmc.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define FIRST_SIZE	4096u

int vmc_fail(struct vmc *vmc, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(vmc->detail, sizeof(vmc->detail), format, args);
	va_end(args);
	return error;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void start_clock(struct vmc *vmc)
{
	vmc->deadline_ms = vmc->timeout_ms ? now_ms() + vmc->timeout_ms : 0;
}

void vmc_conn_shut(struct vmc *vmc)
{
	if (vmc->fd >= 0)
		close(vmc->fd);
	vmc->fd = -1;
	free(vmc->buf);
	vmc->buf = NULL;
	vmc->len = vmc->size = vmc->taken = 0;
}

/* Waits until the socket is ready for @events, or has failed. */
static int wait_for(struct vmc *vmc, short events)
{
	struct pollfd pfd = { .fd = vmc->fd, .events = events };
	int ret, wait = -1;

	do {
		if (vmc->deadline_ms) {
			uint64_t now = now_ms();
			uint64_t left = now < vmc->deadline_ms ? vmc->deadline_ms - now : 0;

			wait = left > INT_MAX ? INT_MAX : (int)left;
		}
		ret = poll(&pfd, 1, wait);
	} while (ret < 0 && errno == EINTR);
	if (ret < 0)
		return vmc_fail(vmc, VMC_ERR_SYSTEM, "poll: %s", strerror(errno));
	if (!ret)
		return vmc_fail(vmc, VMC_ERR_TIMEOUT, "no answer from vmcd within %u ms",
				vmc->timeout_ms);
	return 0;
}

/* A full queue of connections makes a non-blocking connect() fail with EAGAIN at once. */
static int connect_by_deadline(struct vmc *vmc, const struct sockaddr_un *addr)
{
	while (connect(vmc->fd, (const struct sockaddr *)addr, sizeof(*addr))) {
		struct timespec pause = { .tv_nsec = 10000000 };

		if (errno != EINTR && errno != EAGAIN)
			return -errno;
		if (vmc->deadline_ms && now_ms() >= vmc->deadline_ms)
			return -ETIMEDOUT;
		if (errno == EAGAIN)
			nanosleep(&pause, NULL);
	}
	return 0;
}

int vmc_conn_open(struct vmc *vmc, const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t len = strlen(path);
	int ret;

	if (!len || len >= sizeof(addr.sun_path))
		return vmc_fail(vmc, VMC_ERR_INVALID, "socket path of %zu bytes", len);
	memcpy(addr.sun_path, path, len);
	vmc->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (vmc->fd < 0)
		return vmc_fail(vmc, VMC_ERR_SYSTEM, "socket: %s", strerror(errno));

	start_clock(vmc);
	ret = connect_by_deadline(vmc, &addr);
	if (!ret)
		return VMC_OK;
	vmc_conn_shut(vmc);
	vmc_fail(vmc, 0, "%s: %s", path, strerror(-ret));
	switch (-ret) {
	case ENOENT:
	case ECONNREFUSED:
		return VMC_ERR_NOT_RUNNING;
	case EACCES:
	case EPERM:
		return VMC_ERR_DENIED;
	case ETIMEDOUT:
		return VMC_ERR_TIMEOUT;
	default:
		return VMC_ERR_SYSTEM;
	}
}

static int lost(struct vmc *vmc, int err)
{
	if (err == 0 || err == EPIPE || err == ECONNRESET)
		return vmc_fail(vmc, VMC_ERR_CLOSED, "vmcd closed the connection");
	return vmc_fail(vmc, VMC_ERR_SYSTEM, "vmcd's socket: %s", strerror(err));
}

static int send_all(struct vmc *vmc, const char *data, size_t len)
{
	int ret;

	while (len) {
		ssize_t n = send(vmc->fd, data, len, MSG_NOSIGNAL);

		if (n >= 0) {
			data += n;
			len -= (size_t)n;
		} else if (errno == EAGAIN) {
			ret = wait_for(vmc, POLLOUT);
			if (ret)
				return ret;
		} else if (errno != EINTR) {
			return lost(vmc, errno);
		}
	}
	return 0;
}

static int grow(struct vmc *vmc)
{
	size_t size = vmc->size ? vmc->size * 2 : FIRST_SIZE;
	char *buf;

	if (size > VMC_CONN_MESSAGE_MAX)
		return vmc_fail(vmc, VMC_ERR_PROTOCOL, "answer of more than %u bytes",
				VMC_CONN_MESSAGE_MAX);
	buf = realloc(vmc->buf, size);
	if (!buf)
		return vmc_fail(vmc, VMC_ERR_NO_MEMORY, "answer of %zu bytes", vmc->len);
	vmc->buf = buf;
	vmc->size = size;
	return 0;
}

/* The next message to the beginning of the buffer; what came after it stays behind it. */
static int receive_message(struct vmc *vmc)
{
	size_t seen = 0;
	ssize_t n;
	int ret;

	if (vmc->taken)
		memmove(vmc->buf, vmc->buf + vmc->taken, vmc->len - vmc->taken);
	vmc->len -= vmc->taken;
	vmc->taken = 0;
	for (;;) {
		const char *end = seen < vmc->len ?
				  memchr(vmc->buf + seen, 0, vmc->len - seen) : NULL;

		if (end) {
			vmc->taken = (size_t)(end - vmc->buf) + 1;
			return 0;
		}
		seen = vmc->len;
		if (vmc->len == vmc->size) {
			ret = grow(vmc);
			if (ret)
				return ret;
		}
		do {
			n = recv(vmc->fd, vmc->buf + vmc->len, vmc->size - vmc->len, 0);
		} while (n < 0 && errno == EINTR);
		if (n < 0 && errno == EAGAIN) {
			ret = wait_for(vmc, POLLIN);
			if (ret)
				return ret;
			continue;
		}
		if (n <= 0)
			return lost(vmc, n ? errno : 0);
		vmc->len += (size_t)n;
	}
}

int vmc_conn_exchange(struct vmc *vmc, const char *text)
{
	int ret;

	if (vmc->fd < 0)
		return vmc_fail(vmc, VMC_ERR_CLOSED, "not connected to vmcd");
	start_clock(vmc);
	ret = send_all(vmc, text, strlen(text) + 1);
	if (!ret)
		ret = receive_message(vmc);
	/* one call, one answer: nobody asked for what follows it */
	if (!ret && vmc->taken != vmc->len && !vmc->monitors)
		ret = vmc_fail(vmc, VMC_ERR_PROTOCOL, "vmcd sent more than one answer");
	if (ret)	/* an answer may be on its way: what comes next can't be told apart */
		vmc_conn_shut(vmc);
	return ret;
}

int vmc_conn_next(struct vmc *vmc, int timeout_ms)
{
	int ret;

	if (vmc->fd < 0)
		return vmc_fail(vmc, VMC_ERR_CLOSED, "not connected to vmcd");
	vmc->deadline_ms = timeout_ms < 0 ? 0 : now_ms() + (unsigned int)timeout_ms;
	ret = receive_message(vmc);
	if (ret == VMC_ERR_TIMEOUT)
		return vmc_fail(vmc, VMC_ERR_AGAIN, "no event");
	if (ret)
		vmc_conn_shut(vmc);
	return ret;
}
