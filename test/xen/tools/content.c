// SPDX-License-Identifier: GPL-2.0-or-later
/* What stands where in a stream, and random numbers that can be repeated. */
#include <string.h>

#include "traffic.h"

#define GOLDEN	0x9e3779b97f4a7c15ull

/* The end of splitmix64. */
uint64_t mix64(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

uint64_t rng_next(struct rng *r)
{
	r->state += GOLDEN;
	return mix64(r->state);
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
	return n ? rng_next(r) % n : 0;
}

bool rng_one_in(struct rng *r, unsigned int n)
{
	return rng_below(r, n) == 0;
}

static unsigned int log2_of(uint64_t v)
{
	return 63u - (unsigned int)__builtin_clzll(v | 1);
}

uint64_t rng_log(struct rng *r, uint64_t lo, uint64_t hi)
{
	unsigned int from, to, bits;
	uint64_t v;

	if (hi <= lo)
		return hi;
	from = log2_of(lo ? lo : 1);
	to = log2_of(hi);
	bits = from + (unsigned int)rng_below(r, to - from + 1);
	v = (1ull << bits) + rng_below(r, 1ull << bits);
	return v < lo ? lo : v > hi ? hi : v;
}

uint64_t content_key(uint64_t seed, uint32_t conn, unsigned int direction)
{
	return mix64(seed + mix64(2ull * conn + direction + 1));
}

/* The eight bytes of a stream that begin at 8 * @index. */
static uint64_t word_at(uint64_t key, uint64_t index)
{
	return mix64(key + index * GOLDEN);
}

void content_fill(uint64_t key, uint64_t pos, void *buf, size_t n)
{
	unsigned char *p = buf;

	while (n) {
		uint64_t word = word_at(key, pos / 8);
		size_t skip = pos % 8, part = 8 - skip < n ? 8 - skip : n;

		if (part == 8) {
			memcpy(p, &word, 8);
		} else {
			word >>= 8 * skip;
			memcpy(p, &word, part);
		}
		p += part;
		pos += part;
		n -= part;
	}
}

size_t content_check(uint64_t key, uint64_t pos, const void *buf, size_t n)
{
	const unsigned char *p = buf;
	size_t done = 0;

	while (done < n) {
		uint64_t word = word_at(key, pos / 8), is;
		size_t skip = pos % 8, part = 8 - skip < n - done ? 8 - skip : n - done;

		if (part == 8) {
			memcpy(&is, p + done, 8);
			if (is != word)
				break;
		} else {
			word >>= 8 * skip;
			if (memcmp(p + done, &word, part))
				break;
		}
		pos += part;
		done += part;
	}
	while (done < n && p[done] == (unsigned char)(word_at(key, pos / 8) >> (8 * (pos % 8)))) {
		pos++;
		done++;
	}
	return done;
}

bool content_find(uint64_t key, uint64_t total, const void *buf, uint64_t *where)
{
	unsigned char words[24];
	uint64_t index;
	unsigned int skip;

	for (index = 0; 8 * index < total; index++) {
		content_fill(key, 8 * index, words, sizeof(words));
		for (skip = 0; skip < 8; skip++)
			if (!memcmp(words + skip, buf, 16)) {
				*where = 8 * index + skip;
				return true;
			}
	}
	return false;
}
