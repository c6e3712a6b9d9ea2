// SPDX-License-Identifier: GPL-2.0-or-later
/* Two threads on one ring; ThreadSanitizer watches. */
#include "test.h"

#include <pthread.h>

#include "ring_stress.h"

static struct stress_shared *shared;

struct job {
	const struct stress_round *round;
	struct stress_result result;
};

static void *producer(void *arg)
{
	struct job *job = arg;

	stress_produce(shared, job->round, &job->result);
	return NULL;
}

static void *consumer(void *arg)
{
	struct job *job = arg;

	stress_consume(shared, job->round, &job->result);
	return NULL;
}

struct totals {
	uint64_t bytes, sleeps, notifies;
	unsigned int lost_races, closed_by_consumer;
};

static void run_round(const struct stress_round *round, struct totals *t)
{
	struct job p = { .round = round }, c = { .round = round };
	pthread_t pt, ct;

	stress_reset(shared);
	assert_int_equal(pthread_create(&pt, NULL, producer, &p), 0);
	assert_int_equal(pthread_create(&ct, NULL, consumer, &c), 0);
	pthread_join(pt, NULL);
	pthread_join(ct, NULL);

	if (p.result.error || c.result.error)
		fail_msg("seed %#x: %s", round->seed,
			 p.result.error ? p.result.error : c.result.error);
	/* both sides and the shared word agree on where the stream ended */
	assert_int_equal(p.result.pos, c.result.pos);
	assert_int_equal(VMC_RING_POS(shared->hdr.prod), p.result.pos);
	assert_int_equal(shared->hdr.prod & VMC_RING_CLOSED, VMC_RING_CLOSED);
	assert_int_equal(shared->hdr.cons, c.result.pos);
	if (!p.result.lost_race && !round->messages)
		assert_int_equal(p.result.pos, round->producer_stops);
	t->bytes += p.result.pos;
	t->sleeps += p.result.sleeps + c.result.sleeps;
	t->notifies += p.result.notifies + c.result.notifies;
	t->lost_races += p.result.lost_race;
	t->closed_by_consumer += round->consumer_stops != STRESS_NEVER;
}

static void report(const struct totals *t)
{
	print_message("           %llu bytes, %llu sleeps, %llu notifications, %u commits lost to a close\n",
		      (unsigned long long)t->bytes, (unsigned long long)t->sleeps,
		      (unsigned long long)t->notifies, t->lost_races);
	/* never more than one notification for each time that somebody may have slept */
	assert_true(t->notifies > 0);
	assert_true(t->sleeps > 0);
}

/* Long streams, closed by the producer at the end. */
static void test_long(void **state)
{
	struct stress_round round = { .consumer_stops = STRESS_NEVER,
				      .producer_stops = 8u << 20 };
	struct totals t = { 0 };

	(void)state;
	for (round.size = VMC_RING_MIN_SIZE; round.size <= STRESS_MAX_SIZE; round.size *= 4) {
		for (round.chunk = 1500; round.chunk; round.chunk = round.chunk == 1500 ? 16 : 0) {
			round.seed++;
			round.producer_stops = round.chunk == 16 ? 1u << 20 : 8u << 20;
			run_round(&round, &t);
		}
		round.chunk = round.size;
		run_round(&round, &t);
	}
	report(&t);
}

/* Many short lives, closed from either side at any moment. */
static void test_close_races(void **state)
{
	struct totals t = { 0 };
	uint32_t seed = 20240601;
	int i;

	(void)state;
	for (i = 0; i < 3000; i++) {
		struct stress_round round = stress_random_round(&seed, i % 3 ? 2000 : 60000);

		run_round(&round, &t);
	}
	report(&t);
	assert_true(t.lost_races > 0);
}

static void test_messages(void **state)
{
	struct totals t = { 0 };
	uint32_t seed = 4711;
	int i;

	(void)state;
	for (i = 0; i < 200; i++) {
		struct stress_round round = stress_random_round(&seed, 200000);

		round.size = VMC_MSG_RING_SIZE;
		round.messages = true;
		run_round(&round, &t);
	}
	report(&t);
}

/* The consumer arms its wait word just as the producer publishes: no wake-up is lost. */
static void test_arm_races(void **state)
{
	struct stress_round round = { .size = VMC_RING_MIN_SIZE, .chunk = 1, .seed = 5,
				      .producer_stops = 300000,
				      .consumer_stops = STRESS_NEVER, .lockstep = true };
	struct totals t = { 0 };

	(void)state;
	run_round(&round, &t);
	report(&t);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_close_races),
		cmocka_unit_test(test_arm_races),
		cmocka_unit_test(test_messages),
	};

	if (posix_memalign((void **)&shared, 4096, sizeof(*shared)))
		return 1;
	return cmocka_run_group_tests_name("ring, two threads", tests, NULL, NULL);
}
