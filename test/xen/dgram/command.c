// SPDX-License-Identifier: GPL-2.0-or-later
/* Small things all commands need. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dgram.h"

enum broken broken;

/* The text after " key=" in a command, NULL if it is not there. */
static const char *value_of(const char *line, const char *key)
{
	size_t n = strlen(key);

	for (const char *at = strchr(line, ' '); at; at = strchr(at + 1, ' '))
		if (!strncmp(at + 1, key, n) && at[n + 1] == '=')
			return at + n + 2;
	return NULL;
}

long arg(const char *line, const char *key, long otherwise)
{
	const char *value = value_of(line, key);

	return value ? strtol(value, NULL, 0) : otherwise;
}

const char *word(const char *line, const char *key, char *buf, size_t size)
{
	const char *value = value_of(line, key);

	snprintf(buf, size, "%.*s", value ? (int)strcspn(value, " \n") : 0, value ? value : "");
	return buf;
}

/* strerrorname_np is not in every library */
const char *errno_text(int error)
{
	static const struct { int error; const char *name; } names[] = {
		{ EAGAIN, "EAGAIN" }, { ECONNREFUSED, "ECONNREFUSED" }, { EMSGSIZE, "EMSGSIZE" },
		{ EACCES, "EACCES" }, { EPERM, "EPERM" }, { EINVAL, "EINVAL" },
		{ ENOBUFS, "ENOBUFS" }, { ENOTCONN, "ENOTCONN" }, { EPIPE, "EPIPE" },
		{ EDESTADDRREQ, "EDESTADDRREQ" }, { ENOPROTOOPT, "ENOPROTOOPT" },
		{ EPROTONOSUPPORT, "EPROTONOSUPPORT" }, { EOPNOTSUPP, "EOPNOTSUPP" },
		{ EHOSTUNREACH, "EHOSTUNREACH" }, { ENETUNREACH, "ENETUNREACH" },
		{ EADDRINUSE, "EADDRINUSE" }, { EADDRNOTAVAIL, "EADDRNOTAVAIL" },
		{ EIO, "EIO" }, { EBADF, "EBADF" }, { ENODEV, "ENODEV" }, { ENOMSG, "ENOMSG" },
		{ EFAULT, "EFAULT" }, { EISCONN, "EISCONN" }, { ENOMEM, "ENOMEM" },
		{ EAFNOSUPPORT, "EAFNOSUPPORT" }, { EINTR, "EINTR" }, { EIDRM, "EIDRM" },
	};
	static char number[32];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].error == error)
			return names[i].name;
	snprintf(number, sizeof(number), "errno-%d", error);
	return number;
}

int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static uint8_t byte_at(size_t off, unsigned long seed)
{
	return (uint8_t)(seed * 37 + off * 7 + (off >> 8) * 13 + (seed >> 8) + 1);
}

void fill(uint8_t *data, size_t n, size_t off, unsigned long seed)
{
	for (size_t i = 0; i < n; i++)
		data[i] = byte_at(off + i, seed);
}

bool filled(const uint8_t *data, size_t n, size_t off, unsigned long seed)
{
	for (size_t i = 0; i < n; i++)
		if (data[i] != byte_at(off + i, seed))
			return false;
	return true;
}

/* A datagram that tells its number: at least 4 bytes. */
void fill_numbered(uint8_t *data, size_t n, uint32_t number)
{
	memcpy(data, &number, sizeof(number));
	fill(data + sizeof(number), n - sizeof(number), 0, number);
}

bool filled_numbered(const uint8_t *data, size_t n, uint32_t *number)
{
	if (n < sizeof(*number))
		return false;
	memcpy(number, data, sizeof(*number));
	return filled(data + sizeof(*number), n - sizeof(*number), 0, *number);
}

static const void *host(const union address *a, size_t *n)
{
	if (a->any.sa_family == AF_INET || (a->any.sa_family == AF_INET6 &&
					    IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr))) {
		*n = 4;
		return a->any.sa_family == AF_INET ? (const void *)&a->v4.sin_addr :
						     (const void *)&a->v6.sin6_addr.s6_addr[12];
	}
	*n = 16;
	return &a->v6.sin6_addr;
}

bool same_host(const union address *a, const union address *b)
{
	size_t n, m;
	const void *p = host(a, &n), *q = host(b, &m);

	return n == m && !memcmp(p, q, n);
}

in_port_t port_of(const union address *a)
{
	return ntohs(a->any.sa_family == AF_INET ? a->v4.sin_port : a->v6.sin6_port);
}
