// SPDX-License-Identifier: GPL-2.0-or-later
/* Two processes on one ring, as two guests share it; one of them may die at any instruction. */
#include "test.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ring_stress.h"

static struct {
	struct stress_shared ring;
	struct stress_result result;	/* the child's */
} *shared;

/* Starts the producer in a child. */
static pid_t start_producer(const struct stress_round *round)
{
	pid_t pid;

	stress_reset(&shared->ring);
	memset(&shared->result, 0, sizeof(shared->result));
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		stress_produce(&shared->ring, round, &shared->result);
		_exit(shared->result.error ? 1 : 0);
	}
	return pid;
}

static void run_round(const struct stress_round *round)
{
	struct stress_result res;
	pid_t pid = start_producer(round);
	int status;

	stress_consume(&shared->ring, round, &res);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (res.error || status)
		fail_msg("seed %#x: %s, child %#x", round->seed, res.error, status);
	assert_int_equal(res.pos, shared->result.pos);
	assert_int_equal(VMC_RING_POS(shared->ring.hdr.prod), res.pos);
	if (!shared->result.lost_race && !round->messages)
		assert_int_equal(res.pos, round->producer_stops);
}

static void test_long(void **state)
{
	struct stress_round round = { .size = 16384, .chunk = 5000, .seed = 99,
				      .producer_stops = 16u << 20,
				      .consumer_stops = STRESS_NEVER };

	(void)state;
	run_round(&round);
	round.size = 4096;
	round.chunk = 4096;
	run_round(&round);
	round.messages = true;
	run_round(&round);
}

static void test_close_races(void **state)
{
	uint32_t seed = 31337;
	int i;

	(void)state;
	for (i = 0; i < 300; i++) {
		struct stress_round round = stress_random_round(&seed, 60000);

		run_round(&round);
	}
}

/*
 * The producer is killed. The consumer closes one-sided and has every byte
 * that was committed, and nothing after it.
 */
static void test_producer_killed(void **state)
{
	uint32_t seed = 271828;
	uint64_t total = 0;
	int i;

	(void)state;
	for (i = 0; i < 100; i++) {
		struct stress_round round = { .size = 8192, .chunk = 900, .seed = (uint32_t)i + 1,
					      .producer_stops = STRESS_NEVER / 4,
					      .consumer_stops = STRESS_NEVER };
		struct timespec pause = { .tv_nsec = stress_random(&seed) % 1000000 };
		struct stress_result res;
		struct vmc_ring_cons c;
		pid_t pid = start_producer(&round);

		if (i % 2) {
			/* a reader was at work until then */
			round.consumer_stops = stress_random(&seed) % 100000;
			stress_consume(&shared->ring, &round, &res);
			assert_null(res.error);
			kill(pid, SIGKILL);
			assert_int_equal(waitpid(pid, NULL, 0), pid);
			assert_int_equal(VMC_RING_POS(shared->ring.hdr.prod), res.pos);
		} else {
			/* nobody had read a byte */
			nanosleep(&pause, NULL);
			kill(pid, SIGKILL);
			assert_int_equal(waitpid(pid, NULL, 0), pid);
			vmc_ring_cons_init(&c, &shared->ring.hdr, round.size);
			assert_int_equal(vmc_ring_cons_close(&c), 0);
			round.consumer_stops = 0;
			stress_consume(&shared->ring, &round, &res);
			assert_null(res.error);
			assert_int_equal(res.pos, c.pos);
			assert_true(res.pos <= round.size);
		}
		total += res.pos;
	}
	assert_true(total > 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_close_races),
		cmocka_unit_test(test_producer_killed),
	};

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests_name("ring, two processes", tests, NULL, NULL);
}
