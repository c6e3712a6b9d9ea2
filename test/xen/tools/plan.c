// SPDX-License-Identifier: GPL-2.0-or-later
/* What a connection will do, from the seed; and the words for it on the command line. */
#include <errno.h>
#include <string.h>

#include "traffic.h"

const char *const pattern_name[P_NR] = {
	"stream", "pingpong", "both", "half-close", "rst", "threads", "stall",
	"hold", "sha", "abandon", "verdict",
};

const char *const style_name[S_NR] = {
	"blocking", "nonblocking", "poll", "select", "epoll-lt", "epoll-et",
};

static const char *const op_name[] = {
	"iov", "sendfile", "splice", "peek", "waitall", "dontwait", "lowat", "timeo",
	"fionread", "trunc", "oob", "fault", "more", "sockopt", "reuse",
};

static unsigned int pick(struct rng *r, uint32_t mask)
{
	unsigned int n = (unsigned int)rng_below(r, (unsigned int)__builtin_popcount(mask));

	while (n--)
		mask &= mask - 1;
	return (unsigned int)__builtin_ctz(mask);
}

/* What not every connection should do, because it costs or relaxes checks. */
static uint32_t thin(struct rng *r, uint32_t ops)
{
	static const struct {
		uint32_t op;
		unsigned int one_in;
	} rare[] = {
		{ OP_OOB, 8 }, { OP_REUSE, 16 }, { OP_TRUNC, 4 }, { OP_FAULT, 4 },
		{ OP_SPLICE, 2 }, { OP_SENDFILE, 2 }, { OP_MORE, 3 }, { OP_SOCKOPT, 2 },
	};
	unsigned int i;

	for (i = 0; i < sizeof(rare) / sizeof(*rare); i++)
		if (!rng_one_in(r, rare[i].one_in))
			ops &= ~rare[i].op;
	/* splice() does not pass urgent data */
	return ops & OP_OOB ? ops & ~(uint32_t)OP_SPLICE : ops;
}

void plan_round(struct rng *r, uint32_t chunk, uint64_t n[2])
{
	n[0] = rng_log(r, 1, chunk);
	n[1] = rng_log(r, 1, chunk);
}

/* As many round trips as come to the bytes planned in either direction. */
static void plan_rounds(struct header *h)
{
	struct rng r = { mix64(h->seed ^ mix64(h->conn)) };
	uint64_t sum[2] = { 0 }, n[2];

	h->chunk = h->chunk > 4096 ? 4096 : h->chunk;
	while (h->rounds < 100 && sum[0] < h->bytes[0] && sum[1] < h->bytes[1]) {
		plan_round(&r, h->chunk, n);
		sum[0] += n[0];
		sum[1] += n[1];
		h->rounds++;
	}
	h->bytes[0] = sum[0];
	h->bytes[1] = sum[1];
}

void plan_connection(struct header *h, uint64_t seed, uint64_t run, uint32_t conn,
		     const struct mix *m)
{
	struct rng r = { mix64(seed ^ mix64(conn + 0x706c616eull)) };

	memset(h, 0, sizeof(*h));
	h->magic = MAGIC;
	h->seed = seed;
	h->run = run;
	h->conn = conn;
	h->pattern = (uint8_t)pick(&r, m->patterns);
	h->style[0] = (uint8_t)pick(&r, m->styles);
	h->style[1] = (uint8_t)pick(&r, m->styles);
	h->ending = (uint8_t)rng_below(&r, E_NR);
	h->bytes[0] = rng_log(&r, m->min_bytes, m->max_bytes);
	h->bytes[1] = rng_log(&r, m->min_bytes, m->max_bytes);
	h->chunk = m->chunk;
	/* a few with one size, as applications do it */
	if (rng_one_in(&r, 4))
		h->chunk = (uint32_t)rng_log(&r, m->chunk / 64 ? m->chunk / 64 : 1, m->chunk);
	h->ops = thin(&r, m->ops);
	h->rst = (uint32_t)rng_below(&r, R_NR);
	h->closer = (uint32_t)rng_below(&r, 2);
	h->quiet_ms = m->quiet_ms;
	h->signal_ms = m->signal_ms;

	switch (h->pattern) {
	case P_STREAM:
		h->bytes[rng_below(&r, 2)] = 0;
		break;
	case P_PINGPONG:
		plan_rounds(h);
		break;
	case P_THREADS:
		/* one byte for each call */
		h->bytes[0] = h->bytes[0] > 3000 ? 3000 : h->bytes[0];
		break;
	case P_STALL:
		h->bytes[0] = 2 << 20;
		h->bytes[1] = 0;
		h->stall_ms = 700;
		break;
	}
}

int mask_parse(const char *text, const char *const *names, unsigned int nr, uint32_t *mask)
{
	uint32_t found = 0;
	unsigned int i;

	if (!strcmp(text, "mix")) {
		*mask = (1u << nr) - 1;
		return 0;
	}
	while (*text) {
		size_t n = strcspn(text, ",");

		for (i = 0; i < nr; i++)
			if (strlen(names[i]) == n && !strncmp(text, names[i], n))
				break;
		if (i == nr)
			return -EINVAL;
		found |= 1u << i;
		text += n + (text[n] == ',');
	}
	if (!found)
		return -EINVAL;
	*mask = found;
	return 0;
}

/* "all", "none", or names; "-name" takes one away from all. */
int ops_parse(const char *text, uint32_t *ops)
{
	uint32_t result, one;
	char name[16];

	result = *text == '-' || !strncmp(text, "all", 3) ? OP_ALL : 0;
	while (*text) {
		bool minus = *text == '-';
		size_t n = strcspn(text += minus, ",");

		if (n >= sizeof(name))
			return -EINVAL;
		memcpy(name, text, n);
		name[n] = '\0';
		text += n + (text[n] == ',');
		if (!strcmp(name, "all") || !strcmp(name, "none"))
			continue;
		if (mask_parse(name, op_name, sizeof(op_name) / sizeof(*op_name), &one))
			return -EINVAL;
		result = minus ? result & ~one : result | one;
	}
	*ops = result;
	return 0;
}
