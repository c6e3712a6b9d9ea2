// SPDX-License-Identifier: GPL-2.0-or-later
/* Every function of vmc_ring.h, with one thread playing both sides. */
#include "test.h"

#include "vmc_ring.h"

#define SIZE	VMC_RING_MIN_SIZE
#define MAXPOS	(UINT64_MAX >> 1)

struct pair {
	struct vmc_ring_hdr hdr;
	struct vmc_ring_prod p;
	struct vmc_ring_cons c;
	uint8_t data[SIZE];
	uint8_t buf[SIZE];
};

static int setup(void **state)
{
	struct pair *r = NULL;

	if (posix_memalign((void **)&r, 4096, sizeof(*r)))
		return -1;
	memset(r, 0xa5, sizeof(*r));
	memset(&r->hdr, 0, sizeof(r->hdr));
	vmc_ring_prod_init(&r->p, &r->hdr, SIZE);
	vmc_ring_cons_init(&r->c, &r->hdr, SIZE);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static uint8_t byte_at(uint64_t pos)
{
	return (uint8_t)(pos * 131 + (pos >> 8) * 17);
}

/* Writes bytes whose values follow from their positions. */
static int produce(struct pair *r, uint32_t len)
{
	uint32_t i;

	for (i = 0; i < len; i++)
		r->buf[i] = byte_at(r->p.pos + i);
	vmc_ring_put(&r->p, r->data, 0, r->buf, len);
	return vmc_ring_prod_commit(&r->p, len);
}

static void consume(struct pair *r, uint32_t len)
{
	uint32_t i;

	vmc_ring_get(&r->c, r->data, 0, r->buf, len);
	for (i = 0; i < len; i++)
		assert_int_equal(r->buf[i], byte_at(r->c.cons + i));
	vmc_ring_cons_advance(&r->c, len);
}

/* Brings an empty ring to a position without looking at the bytes. */
static void move_to(struct pair *r, uint64_t pos)
{
	r->hdr.prod = pos << 1;
	r->hdr.cons = pos;
	r->p.pos = r->p.cons = pos;
	r->c.pos = r->c.cons = pos;
}

static void test_sizes(void **state)
{
	uint32_t size;

	(void)state;
	for (size = VMC_RING_MIN_SIZE; size <= VMC_RING_MAX_SIZE; size *= 2) {
		assert_true(vmc_ring_size_ok(size));
		assert_false(vmc_ring_size_ok(size + 1));
		assert_false(vmc_ring_size_ok(size - 1));
		assert_false(vmc_ring_size_ok(size + size / 2));
	}
	assert_false(vmc_ring_size_ok(0));
	assert_false(vmc_ring_size_ok(1));
	assert_false(vmc_ring_size_ok(VMC_RING_MIN_SIZE / 2));
	assert_false(vmc_ring_size_ok(VMC_RING_MAX_SIZE * 2));
	assert_false(vmc_ring_size_ok(1u << 31));
	assert_false(vmc_ring_size_ok(UINT32_MAX));
}

static void test_empty(void **state)
{
	struct pair *r = *state;

	assert_int_equal(vmc_ring_prod_space(&r->p, 1), SIZE);
	assert_int_equal(vmc_ring_prod_space(&r->p, SIZE), SIZE);
	assert_int_equal(vmc_ring_cons_avail(&r->c), 0);
	assert_false(vmc_ring_prod_closed(&r->p));
	assert_false(r->c.closed);
}

static void test_full(void **state)
{
	struct pair *r = *state;

	assert_int_equal(produce(r, SIZE), 0);
	assert_int_equal(vmc_ring_prod_space(&r->p, 1), 0);
	assert_int_equal(vmc_ring_cons_avail(&r->c), SIZE);
	consume(r, 1);
	assert_int_equal(vmc_ring_prod_space(&r->p, 1), 1);
	assert_int_equal(produce(r, 1), 0);
	assert_int_equal(vmc_ring_prod_space(&r->p, 1), 0);
	assert_int_equal(vmc_ring_cons_avail(&r->c), SIZE);
	consume(r, SIZE);
	assert_int_equal(vmc_ring_cons_avail(&r->c), 0);
	assert_int_equal(vmc_ring_prod_space(&r->p, SIZE), SIZE);
}

/* The consumer's line is asked only when the cached space does not suffice. */
static void test_space_is_cached(void **state)
{
	struct pair *r = *state;

	assert_int_equal(produce(r, SIZE / 2), 0);
	consume(r, SIZE / 2);
	assert_int_equal(vmc_ring_prod_space(&r->p, SIZE / 2), SIZE / 2);
	assert_int_equal(r->p.cons, 0);
	assert_int_equal(vmc_ring_prod_space(&r->p, SIZE / 2 + 1), SIZE);
	assert_int_equal(r->p.cons, SIZE / 2);
}

static void test_spans(void **state)
{
	struct pair *r = *state;
	uint32_t off;

	assert_int_equal(vmc_ring_prod_span(&r->p, 0, 100, &off), 100);
	assert_int_equal(off, 0);
	assert_int_equal(vmc_ring_prod_span(&r->p, SIZE - 10, 100, &off), 10);
	assert_int_equal(off, SIZE - 10);
	assert_int_equal(vmc_ring_prod_span(&r->p, SIZE, 100, &off), 100);
	assert_int_equal(off, 0);
	assert_int_equal(vmc_ring_prod_span(&r->p, 3, 0, &off), 0);

	move_to(r, 7 * (uint64_t)SIZE + 4000);
	assert_int_equal(vmc_ring_prod_span(&r->p, 0, SIZE, &off), 96);
	assert_int_equal(off, 4000);
	assert_int_equal(vmc_ring_prod_span(&r->p, 96, SIZE - 96, &off), SIZE - 96);
	assert_int_equal(off, 0);
	assert_int_equal(vmc_ring_cons_span(&r->c, 0, SIZE, &off), 96);
	assert_int_equal(off, 4000);
	assert_int_equal(vmc_ring_cons_span(&r->c, 100, 10, &off), 10);
	assert_int_equal(off, 4);
}

/* Every length from every offset keeps every byte, around the wrap too. */
static void test_wrap(void **state)
{
	struct pair *r = *state;
	uint32_t len;

	for (len = 1; len < SIZE; len += 7) {
		assert_true(vmc_ring_prod_space(&r->p, len) >= (int)len);
		assert_int_equal(produce(r, len), 0);
		assert_int_equal(vmc_ring_cons_avail(&r->c), len);
		consume(r, len / 2);
		consume(r, len - len / 2);
	}
	assert_true(r->c.cons > 100 * SIZE);
	assert_int_equal(r->c.cons, r->p.pos);
}

/* Positions beyond 32 bits, and up to the last that the word can hold. */
static void test_large_positions(void **state)
{
	static const uint64_t at[] = { UINT32_MAX - 5, 1ull << 32, (1ull << 33) - 1, 1ull << 62,
				       MAXPOS - SIZE };
	struct pair *r = *state;
	size_t i;

	for (i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		move_to(r, at[i]);
		assert_int_equal(vmc_ring_prod_space(&r->p, SIZE), SIZE);
		assert_int_equal(vmc_ring_cons_avail(&r->c), 0);
		assert_int_equal(produce(r, SIZE), 0);
		assert_int_equal(vmc_ring_prod_space(&r->p, 1), 0);
		assert_int_equal(vmc_ring_cons_avail(&r->c), SIZE);
		consume(r, SIZE);
		assert_int_equal(vmc_ring_prod_space(&r->p, SIZE), SIZE);
		assert_int_equal(r->hdr.cons, at[i] + SIZE);
	}
}

static void test_producer_closes(void **state)
{
	struct pair *r = *state;

	assert_int_equal(produce(r, 10), 0);
	vmc_ring_prod_close(&r->p);
	vmc_ring_prod_close(&r->p);
	assert_true(vmc_ring_prod_closed(&r->p));
	assert_int_equal(r->hdr.prod, 10 << 1 | VMC_RING_CLOSED);
	assert_int_equal(vmc_ring_prod_space(&r->p, 1), -EPIPE);
	assert_int_equal(produce(r, 1), -EPIPE);
	assert_int_equal(r->p.pos, 10);

	assert_int_equal(vmc_ring_cons_avail(&r->c), 10);
	assert_true(r->c.closed);
	consume(r, 10);
	assert_int_equal(vmc_ring_cons_avail(&r->c), -EPIPE);
	assert_int_equal(vmc_ring_cons_close(&r->c), 0);
	assert_int_equal(vmc_ring_cons_avail(&r->c), -EPIPE);
}

static void test_producer_closes_empty(void **state)
{
	struct pair *r = *state;

	vmc_ring_prod_close(&r->p);
	assert_int_equal(vmc_ring_cons_avail(&r->c), -EPIPE);
	assert_int_equal(r->c.pos, 0);
}

static void test_consumer_closes(void **state)
{
	struct pair *r = *state;

	assert_int_equal(produce(r, 10), 0);
	assert_int_equal(vmc_ring_cons_close(&r->c), 0);
	assert_true(r->c.closed);
	assert_int_equal(r->c.pos, 10);

	/* the producer does not know yet: its commit tells it, and moves nothing */
	assert_false(r->p.closed);
	assert_int_equal(vmc_ring_prod_space(&r->p, 1), SIZE - 10);
	assert_int_equal(produce(r, 20), -EPIPE);
	assert_int_equal(r->p.pos, 10);
	assert_true(r->p.closed);
	assert_int_equal(vmc_ring_prod_space(&r->p, 1), -EPIPE);
	vmc_ring_prod_close(&r->p);

	assert_int_equal(vmc_ring_cons_avail(&r->c), 10);
	vmc_ring_cons_advance(&r->c, 10);
	assert_int_equal(vmc_ring_cons_avail(&r->c), -EPIPE);
	assert_int_equal(vmc_ring_cons_close(&r->c), 0);
}

static void test_consumer_closes_full(void **state)
{
	struct pair *r = *state;

	assert_int_equal(produce(r, SIZE), 0);
	assert_false(vmc_ring_prod_arm(&r->p, 1));
	assert_int_equal(vmc_ring_cons_close(&r->c), 0);
	/* the sleeping producer must hear of it although nothing was read */
	assert_true(vmc_ring_cons_notify(&r->c));
	assert_false(vmc_ring_cons_notify(&r->c));
	assert_true(vmc_ring_prod_arm(&r->p, 1));
	assert_true(vmc_ring_prod_closed(&r->p));
	consume(r, SIZE);
	assert_int_equal(vmc_ring_cons_avail(&r->c), -EPIPE);
}

static void test_producer_sees_close_without_commit(void **state)
{
	struct pair *r = *state;

	assert_int_equal(vmc_ring_cons_close(&r->c), 0);
	assert_true(vmc_ring_prod_closed(&r->p));
	assert_int_equal(vmc_ring_prod_space(&r->p, 1), -EPIPE);
}

/* After a close the position is final, whatever a hostile producer writes. */
static void test_closed_is_final(void **state)
{
	struct pair *r = *state;

	assert_int_equal(produce(r, 10), 0);
	assert_int_equal(vmc_ring_cons_close(&r->c), 0);
	r->hdr.prod = 50 << 1;
	assert_int_equal(vmc_ring_cons_avail(&r->c), 10);
	r->hdr.prod = UINT64_MAX;
	assert_int_equal(vmc_ring_cons_avail(&r->c), 10);
	consume(r, 10);
	assert_int_equal(vmc_ring_cons_avail(&r->c), -EPIPE);
	assert_int_equal(vmc_ring_cons_close(&r->c), 0);
}

static void test_commit_of_nothing(void **state)
{
	struct pair *r = *state;

	assert_int_equal(vmc_ring_prod_commit(&r->p, 0), 0);
	assert_int_equal(r->p.pos, 0);
	assert_int_equal(vmc_ring_cons_close(&r->c), 0);
	assert_int_equal(vmc_ring_prod_commit(&r->p, 0), -EPIPE);
}

static void test_commit_finds_foreign_word(void **state)
{
	static const uint64_t words[] = { 0, 9 << 1, 11 << 1, 11 << 1 | 1, 9 << 1 | 1, 1,
					  UINT64_MAX };
	struct pair *r = *state;
	size_t i;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		vmc_ring_reset(&r->hdr);
		vmc_ring_prod_init(&r->p, &r->hdr, SIZE);
		assert_int_equal(produce(r, 10), 0);
		r->hdr.prod = words[i];
		assert_int_equal(produce(r, 1), -EPROTO);
		assert_int_equal(r->p.pos, 10);
		assert_int_equal(r->hdr.prod, words[i]);
		assert_int_equal(vmc_ring_prod_space(&r->p, 1), -EPIPE);
	}
}

static void test_consumer_checks_position(void **state)
{
	struct pair *r = *state;

	move_to(r, 10000);
	assert_int_equal(produce(r, 100), 0);
	assert_int_equal(vmc_ring_cons_avail(&r->c), 100);

	r->hdr.prod = 10099 << 1;	/* went back */
	assert_int_equal(vmc_ring_cons_avail(&r->c), -EPROTO);
	assert_int_equal(vmc_ring_cons_close(&r->c), -EPROTO);
	r->hdr.prod = 0;
	assert_int_equal(vmc_ring_cons_avail(&r->c), -EPROTO);
	assert_true(vmc_ring_cons_arm(&r->c));
	r->hdr.prod = (10000 + SIZE + 1) << 1;	/* more than a ring ahead */
	assert_int_equal(vmc_ring_cons_avail(&r->c), -EPROTO);
	r->hdr.prod = (10000 + SIZE + 1) << 1 | VMC_RING_CLOSED;
	assert_int_equal(vmc_ring_cons_avail(&r->c), -EPROTO);
	r->hdr.prod = UINT64_MAX;
	assert_int_equal(vmc_ring_cons_avail(&r->c), -EPROTO);
	assert_int_equal(r->c.pos, 10100);
	assert_false(r->c.closed);

	r->hdr.prod = (10000 + SIZE) << 1;	/* exactly full is legal */
	assert_int_equal(vmc_ring_cons_avail(&r->c), SIZE);
}

/* Near the end of the number range a position cannot wrap past the check. */
static void test_consumer_checks_position_at_end(void **state)
{
	struct pair *r = *state;

	move_to(r, MAXPOS);
	r->hdr.prod = 0;
	assert_int_equal(vmc_ring_cons_avail(&r->c), -EPROTO);
	r->hdr.prod = UINT64_MAX;
	assert_int_equal(vmc_ring_cons_avail(&r->c), -EPIPE);
}

static void test_producer_checks_position(void **state)
{
	struct pair *r = *state;

	move_to(r, 10000);
	assert_int_equal(produce(r, SIZE), 0);
	r->hdr.cons = 10000 + SIZE + 1;	/* passed the producer */
	assert_int_equal(vmc_ring_prod_space(&r->p, 1), -EPROTO);
	r->hdr.cons = 9999;		/* went back */
	assert_int_equal(vmc_ring_prod_space(&r->p, 1), -EPROTO);
	r->hdr.cons = 0;
	assert_int_equal(vmc_ring_prod_space(&r->p, 1), -EPROTO);
	r->hdr.cons = UINT64_MAX;
	assert_int_equal(vmc_ring_prod_space(&r->p, 1), -EPROTO);
	assert_true(vmc_ring_prod_arm(&r->p, 1));
	assert_int_equal(r->p.cons, 10000);

	r->hdr.cons = 10000 + SIZE;	/* exactly empty is legal */
	assert_int_equal(vmc_ring_prod_space(&r->p, 1), SIZE);
	r->hdr.cons = 10000 + SIZE - 1;	/* legal once, not any more */
	assert_int_equal(vmc_ring_prod_space(&r->p, SIZE + 1), -EPROTO);
}

/* Consumer sleeps: no order of the four steps leaves it asleep with data. */
static void test_consumer_sleep(void **state)
{
	struct pair *r = *state;

	/* awake: the producer stays silent */
	assert_int_equal(produce(r, 1), 0);
	assert_false(vmc_ring_prod_notify(&r->p));
	consume(r, 1);			/* the cached position is stale on purpose */

	/* armed on an empty ring, then data: notified once */
	assert_int_equal(vmc_ring_cons_avail(&r->c), 0);
	assert_false(vmc_ring_cons_arm(&r->c));
	assert_int_equal(produce(r, 1), 0);
	assert_true(vmc_ring_prod_notify(&r->p));
	assert_int_equal(produce(r, 1), 0);
	assert_false(vmc_ring_prod_notify(&r->p));

	/* data first, then armed: must not sleep; the stale word costs one notification */
	assert_true(vmc_ring_cons_arm(&r->c));
	assert_true(vmc_ring_prod_notify(&r->p));
	assert_true(vmc_ring_cons_arm(&r->c));
	vmc_ring_cons_disarm(&r->c);
	vmc_ring_cons_disarm(&r->c);
	assert_false(vmc_ring_prod_notify(&r->p));
	consume(r, 2);

	/* the end mark wakes, too */
	assert_false(vmc_ring_cons_arm(&r->c));
	vmc_ring_prod_close(&r->p);
	assert_true(vmc_ring_prod_notify(&r->p));
	assert_true(vmc_ring_cons_arm(&r->c));
}

static void test_producer_sleep(void **state)
{
	struct pair *r = *state;

	/* space: must not sleep */
	assert_true(vmc_ring_prod_arm(&r->p, 1));
	assert_true(vmc_ring_prod_arm(&r->p, SIZE));
	r->hdr.prod_wait = 0;
	assert_int_equal(produce(r, SIZE), 0);

	/* awake: the consumer stays silent */
	assert_int_equal(vmc_ring_cons_avail(&r->c), SIZE);
	consume(r, 1);
	assert_false(vmc_ring_cons_notify(&r->c));

	/* armed: woken when half is free, not earlier, and once */
	assert_true(vmc_ring_prod_arm(&r->p, 1));
	assert_int_equal(produce(r, 1), 0);
	assert_false(vmc_ring_prod_arm(&r->p, 1));
	assert_int_equal(vmc_ring_cons_avail(&r->c), SIZE);
	consume(r, SIZE / 2 - 1);
	assert_false(vmc_ring_cons_notify(&r->c));
	consume(r, 1);
	assert_true(vmc_ring_cons_notify(&r->c));
	assert_false(vmc_ring_cons_notify(&r->c));

	/* wants more than there is: sleeps, and the last byte read wakes it */
	assert_false(vmc_ring_prod_arm(&r->p, SIZE));
	consume(r, SIZE / 2 - 1);
	assert_true(vmc_ring_cons_notify(&r->c));
	assert_false(vmc_ring_prod_arm(&r->p, SIZE));
	consume(r, 1);
	assert_true(vmc_ring_cons_notify(&r->c));
	assert_true(vmc_ring_prod_arm(&r->p, SIZE));
}

static void test_reset(void **state)
{
	struct pair *r = *state;

	assert_int_equal(produce(r, 100), 0);
	assert_int_equal(vmc_ring_cons_avail(&r->c), 100);
	consume(r, 50);
	r->hdr.boundary = 77;
	assert_false(vmc_ring_prod_arm(&r->p, SIZE));
	assert_true(vmc_ring_cons_arm(&r->c));
	assert_int_equal(vmc_ring_cons_close(&r->c), 0);

	vmc_ring_reset(&r->hdr);
	assert_int_equal(r->hdr.prod, 0);
	assert_int_equal(r->hdr.boundary, 0);
	assert_int_equal(r->hdr.prod_wait, 0);
	assert_int_equal(r->hdr.cons, 0);
	assert_int_equal(r->hdr.cons_wait, 0);
	vmc_ring_prod_init(&r->p, &r->hdr, SIZE);
	vmc_ring_cons_init(&r->c, &r->hdr, SIZE);
	test_full(state);
}

/* put and get at an offset behind bytes that are not yet committed or read. */
static void test_put_get_done(void **state)
{
	struct pair *r = *state;
	char out[16] = "";

	move_to(r, SIZE - 5);
	vmc_ring_put(&r->p, r->data, 0, "abc", 3);
	vmc_ring_put(&r->p, r->data, 3, "defg", 4);
	vmc_ring_put(&r->p, r->data, 7, "hij", 3);
	assert_memory_equal(r->data + SIZE - 5, "abcde", 5);
	assert_memory_equal(r->data, "fghij", 5);
	assert_int_equal(vmc_ring_cons_avail(&r->c), 0);
	assert_int_equal(vmc_ring_prod_commit(&r->p, 10), 0);
	assert_int_equal(vmc_ring_cons_avail(&r->c), 10);
	vmc_ring_get(&r->c, r->data, 3, out, 7);
	assert_string_equal(out, "defghij");
	vmc_ring_get(&r->c, r->data, 8, out, 2);
	assert_memory_equal(out, "ij", 2);
	assert_int_equal(vmc_ring_cons_avail(&r->c), 10);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_sizes),
		T(test_empty),
		T(test_full),
		T(test_space_is_cached),
		T(test_spans),
		T(test_wrap),
		T(test_large_positions),
		T(test_producer_closes),
		T(test_producer_closes_empty),
		T(test_consumer_closes),
		T(test_consumer_closes_full),
		T(test_producer_sees_close_without_commit),
		T(test_closed_is_final),
		T(test_commit_of_nothing),
		T(test_commit_finds_foreign_word),
		T(test_consumer_checks_position),
		T(test_consumer_checks_position_at_end),
		T(test_producer_checks_position),
		T(test_consumer_sleep),
		T(test_producer_sleep),
		T(test_reset),
		T(test_put_get_done),
	};

	return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
