// SPDX-License-Identifier: GPL-2.0-or-later
/* One connection, both directions at once, SHA-256 at both ends. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "traffic.h"

struct sha_send {
	struct session *s;
	unsigned char digest[SHA256_LEN];
	int result;
};

static int send_all(struct session *s, const void *buf, size_t n)
{
	const char *p = buf;

	while (n) {
		ssize_t got = send(s->fd, p, n, MSG_NOSIGNAL);

		if (got <= 0)
			return session_fail(s, "send: %m");
		p += got;
		n -= (size_t)got;
	}
	return 0;
}

static int recv_all(struct session *s, void *buf, size_t n)
{
	ssize_t got = recv(s->fd, buf, n, MSG_WAITALL);

	return got == (ssize_t)n ? 0 :
	       session_fail(s, "recv: %s", got < 0 ? strerror(errno) : "the end");
}

static void *sha_send_thread(void *arg)
{
	struct sha_send *t = arg;
	struct session *s = t->s;
	struct sha256 sha;

	sha256_init(&sha);
	while (s->tx.pos < s->tx.total && !t->result) {
		uint64_t left = s->tx.total - s->tx.pos;
		size_t n = left < s->h.chunk ? (size_t)left : s->h.chunk;

		content_fill(s->tx.key, s->tx.pos, s->tx.buf, n);
		sha256_add(&sha, s->tx.buf, n);
		t->result = send_all(s, s->tx.buf, n);
		s->tx.pos += n;
	}
	sha256_end(&sha, t->digest);
	return NULL;
}

static void print_digest(const char *what, const unsigned char *digest)
{
	int i;

	printf("%s ", what);
	for (i = 0; i < SHA256_LEN; i++)
		printf("%02x", digest[i]);
	printf("\n");
}

int pattern_sha(struct session *s)
{
	struct sha_send t = { .s = s };
	unsigned char got[SHA256_LEN], peer[2][SHA256_LEN];
	struct sha256 sha;
	pthread_t thread;
	int err;

	err = thread_start(sha_send_thread, &t, &thread);
	if (err)
		return session_fail(s, "no thread: %s", strerror(-err));
	sha256_init(&sha);
	while (s->rx.pos < s->rx.total) {
		uint64_t left = s->rx.total - s->rx.pos;
		ssize_t n = recv(s->fd, s->rx.buf, left < s->h.chunk ? (size_t)left : s->h.chunk, 0);

		if (n <= 0) {
			err = session_fail(s, "recv: %s", n ? strerror(errno) : "the end");
			shutdown(s->fd, SHUT_RDWR);
			break;
		}
		sha256_add(&sha, s->rx.buf, (size_t)n);
		s->rx.pos += (uint64_t)n;
	}
	pthread_join(thread, NULL);
	sha256_end(&sha, got);
	if (!err)
		err = t.result;
	if (!err && s->side) {
		err = send_all(s, t.digest, SHA256_LEN);
		return err ? err : send_all(s, got, SHA256_LEN);
	}
	if (!err)
		err = recv_all(s, peer, sizeof(peer));
	if (err)
		return err;
	print_digest("sent by the client    ", t.digest);
	print_digest("received by the server", peer[1]);
	print_digest("sent by the server    ", peer[0]);
	print_digest("received by the client", got);
	if (memcmp(t.digest, peer[1], SHA256_LEN) || memcmp(got, peer[0], SHA256_LEN))
		return session_fail(s, "WRONG DATA: the hashes differ");
	return 0;
}
