// SPDX-License-Identifier: GPL-2.0-or-later
#include "ring_stress.h"

#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LOST_AFTER_S	20	/* asleep that long: a wake-up was lost */

uint32_t stress_random(uint32_t *state)
{
	uint32_t x = *state ? *state : 1;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	*state = x;
	return x;
}

/* The byte at @pos follows from its position, so a byte that is lost, repeated or moved shows. */
static uint8_t byte_at(uint32_t seed, uint64_t pos)
{
	uint64_t x = (pos >> 3) + seed;

	x *= 0x9e3779b97f4a7c15ull;
	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9ull;
	return (uint8_t)(x >> ((pos & 7) * 8));
}

static void fill(uint8_t *buf, uint32_t seed, uint64_t pos, uint32_t len)
{
	uint32_t i;

	for (i = 0; i < len; i++)
		buf[i] = byte_at(seed, pos + i);
}

static bool right(const uint8_t *buf, uint32_t seed, uint64_t pos, uint32_t len)
{
	uint32_t i;

	for (i = 0; i < len; i++)
		if (buf[i] != byte_at(seed, pos + i))
			return false;
	return true;
}

static void make_msg(union vmc_any_msg *m, uint32_t seed, uint32_t n)
{
	static const struct vmc_msg kinds[] = {
		{ .type = VMC_C_DONE, .len = sizeof(struct vmc_msg) },
		{ .type = VMC_C_RING_ADD, .len = sizeof(struct vmc_c_ring_add) },
		{ .type = VMC_C_OFFER, .len = sizeof(struct vmc_c_offer) },
		{ .type = VMC_L_STATS_END, .len = sizeof(struct vmc_l_stats_end) },
		{ .type = VMC_L_HELLO, .len = sizeof(struct vmc_l_hello) },
	};

	m->h = kinds[byte_at(seed, n) % (sizeof(kinds) / sizeof(kinds[0]))];
	m->h.id = n;
	fill(m->raw + sizeof(m->h), seed, n, m->h.len - (uint32_t)sizeof(m->h));
}

/*
 * A doorbell keeps one ring, like a pending event channel. The accesses are
 * relaxed on purpose: all ordering has to come from the ring's own barriers.
 */
static void doorbell_ring(uint32_t *bell, struct stress_result *res)
{
	res->notifies++;
	__atomic_store_n(bell, 1, __ATOMIC_RELAXED);
	syscall(SYS_futex, bell, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static bool doorbell_wait(uint32_t *bell, struct stress_result *res)
{
	struct timespec start, now, limit = { .tv_sec = LOST_AFTER_S };

	res->sleeps++;
	clock_gettime(CLOCK_MONOTONIC, &start);
	while (!__atomic_exchange_n(bell, 0, __ATOMIC_RELAXED)) {
		syscall(SYS_futex, bell, FUTEX_WAIT, 0, &limit, NULL, 0);
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec - start.tv_sec >= LOST_AFTER_S)
			return false;
	}
	return true;
}

/* Sometimes a pause between two steps, so that they meet the other side's in many orders. */
static void dawdle(uint32_t *rnd)
{
	uint32_t n = stress_random(rnd);

	if (n % 64 == 0)
		sched_yield();
	else if (n % 16 == 0)
		for (n = (n >> 8) % 200; n; n--)
			__asm__ __volatile__("" ::: "memory");
}

/* Waits for the consumer to have read everything, then a moment that varies. */
static void await_empty(const struct stress_shared *s, const struct vmc_ring_prod *p,
			uint32_t *rnd)
{
	uint32_t n;

	for (n = 1; __atomic_load_n(&s->hdr.cons, __ATOMIC_RELAXED) != p->pos &&
		    !(__atomic_load_n(&s->hdr.prod, __ATOMIC_RELAXED) & VMC_RING_CLOSED); n++)
		if (n % 256 == 0)
			sched_yield();
	for (n = stress_random(rnd) % 512; n; n--)
		__asm__ __volatile__("" ::: "memory");
}

void stress_reset(struct stress_shared *s)
{
	vmc_ring_reset(&s->hdr);
	__atomic_store_n(&s->wake_producer, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&s->wake_consumer, 0, __ATOMIC_RELAXED);
}

struct stress_round stress_random_round(uint32_t *seed, uint64_t length)
{
	struct stress_round round = { .consumer_stops = STRESS_NEVER };

	round.size = VMC_RING_MIN_SIZE << stress_random(seed) % 5;
	round.chunk = stress_random(seed) % 4 ? 1 + stress_random(seed) % 600 : round.size;
	round.producer_stops = stress_random(seed) % length;
	if (stress_random(seed) % 3)
		round.consumer_stops = stress_random(seed) % length;
	round.seed = stress_random(seed);
	return round;
}

/* One write in up to two parts and one commit. Returns 1 if written, 0 if full, or -errno. */
static int write_some(struct stress_shared *s, struct vmc_ring_prod *p,
		      const struct stress_round *round, uint32_t *want, uint32_t *rnd)
{
	static __thread uint8_t buf[STRESS_MAX_SIZE];
	uint64_t left = round->producer_stops - p->pos;
	uint32_t part;
	int space;

	*want = 1 + stress_random(rnd) % round->chunk;
	if (*want > left)
		*want = (uint32_t)left;
	space = vmc_ring_prod_space(p, *want);
	if (space < 0)
		return space;
	if ((uint32_t)space < *want)
		return 0;
	fill(buf, round->seed, p->pos, *want);
	part = stress_random(rnd) % (*want + 1);
	vmc_ring_put(p, s->data, 0, buf, part);
	vmc_ring_put(p, s->data, part, buf + part, *want - part);
	dawdle(rnd);
	space = vmc_ring_prod_commit(p, *want);
	return space ? space : 1;
}

static int write_message(struct stress_shared *s, struct vmc_ring_prod *p,
			 const struct stress_round *round, uint32_t *n, uint32_t *want)
{
	union vmc_any_msg m;
	int ret;

	make_msg(&m, round->seed, *n);
	*want = m.h.len;
	ret = vmc_msg_put(p, s->data, &m.h);
	if (ret == -EAGAIN)
		return 0;
	if (ret)
		return ret;
	++*n;
	return 1;
}

void stress_produce(struct stress_shared *s, const struct stress_round *round,
		    struct stress_result *res)
{
	uint32_t rnd = round->seed ^ 0x50524f44, want, n = 0;
	struct vmc_ring_prod p;
	int ret;

	memset(res, 0, sizeof(*res));
	vmc_ring_prod_init(&p, &s->hdr, round->size);
	while (p.pos < round->producer_stops) {
		if (round->lockstep)
			await_empty(s, &p, &rnd);
		ret = round->messages ? write_message(s, &p, round, &n, &want) :
					write_some(s, &p, round, &want, &rnd);
		if (ret == 1) {
			if (vmc_ring_prod_notify(&p))
				doorbell_ring(&s->wake_consumer, res);
		} else if (ret == 0) {
			if (!vmc_ring_prod_arm(&p, want) && !doorbell_wait(&s->wake_producer, res)) {
				res->error = "the producer was not woken";
				break;
			}
		} else if (ret == -EPIPE) {
			res->lost_race = true;
			break;
		} else {
			res->error = "the producer saw a violation";
			break;
		}
		if (!round->lockstep)
			dawdle(&rnd);
	}
	vmc_ring_prod_close(&p);
	if (vmc_ring_prod_notify(&p))
		doorbell_ring(&s->wake_consumer, res);
	res->pos = p.pos;
}

/* Reads once. Returns what was read, 0 if there was nothing, or -errno. */
static int read_some(struct stress_shared *s, struct vmc_ring_cons *c,
		     const struct stress_round *round, uint32_t *n, uint32_t *rnd,
		     struct stress_result *res)
{
	static __thread uint8_t buf[STRESS_MAX_SIZE];
	int avail;

	if (round->messages) {
		union vmc_any_msg m, want;

		avail = vmc_msg_get(c, s->data, &m);
		if (avail > 0) {
			make_msg(&want, round->seed, (*n)++);
			if (memcmp(&m, &want, (size_t)avail))
				res->error = "the consumer read a wrong message";
		}
		return avail;
	}
	avail = vmc_ring_cons_avail(c);
	if (avail > 0) {
		uint32_t len = 1 + stress_random(rnd) % round->chunk;

		if (len > (uint32_t)avail)
			len = (uint32_t)avail;
		vmc_ring_get(c, s->data, 0, buf, len);
		if (!round->lockstep)
			dawdle(rnd);
		if (!right(buf, round->seed, c->cons, len))
			res->error = "the consumer read a wrong byte";
		vmc_ring_cons_advance(c, len);
	}
	return avail;
}

void stress_consume(struct stress_shared *s, const struct stress_round *round,
		    struct stress_result *res)
{
	uint32_t rnd = round->seed ^ 0x434f4e53, n = 0;
	struct vmc_ring_cons c;
	bool closed = false;
	int ret;

	memset(res, 0, sizeof(*res));
	vmc_ring_cons_init(&c, &s->hdr, round->size);
	while (!res->error) {
		if (!closed && c.cons >= round->consumer_stops) {
			closed = true;
			if (vmc_ring_cons_close(&c))
				res->error = "the consumer's close saw a violation";
			if (vmc_ring_cons_notify(&c))
				doorbell_ring(&s->wake_producer, res);
		}
		ret = read_some(s, &c, round, &n, &rnd, res);
		if (ret == -EPIPE)
			break;
		if (ret < 0) {
			res->error = "the consumer saw a violation";
		} else if (ret > 0) {
			vmc_ring_cons_disarm(&c);
			if (vmc_ring_cons_notify(&c))
				doorbell_ring(&s->wake_producer, res);
		} else if (!vmc_ring_cons_arm(&c) && !doorbell_wait(&s->wake_consumer, res)) {
			res->error = "the consumer was not woken";
		}
		if (!round->lockstep)
			dawdle(&rnd);
	}
	if (res->error)
		vmc_ring_cons_close(&c);	/* lets the other side end, too */
	else if (!c.closed || c.cons != c.pos)
		res->error = "the consumer stopped before the end";
	res->pos = c.cons;
}
