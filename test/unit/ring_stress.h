/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One ring under load: a producer and a consumer that sleep by the wait words
 * and wake each other through a doorbell, like guests through an event
 * channel. They may be threads of one process or processes that share memory.
 */
#ifndef VMC_RING_STRESS_H
#define VMC_RING_STRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmc_wire.h"

#define STRESS_MAX_SIZE		65536u
#define STRESS_NEVER		UINT64_MAX

/* Only the doorbells are shared apart from the ring; they order nothing. */
struct stress_shared {
	struct vmc_ring_hdr hdr;
	uint32_t wake_producer;
	uint32_t wake_consumer;
	uint8_t data[STRESS_MAX_SIZE];
};

struct stress_round {
	uint32_t size;		/* of the ring */
	uint32_t chunk;		/* largest write and read */
	uint64_t producer_stops;	/* position at which the producer closes */
	uint64_t consumer_stops;	/* position from which on the consumer closes */
	uint32_t seed;
	bool messages;		/* vmc_msg_put() and _get() instead of bytes */
	bool lockstep;		/* each write meets a consumer that is about to sleep */
};

struct stress_result {
	const char *error;	/* NULL if all went well */
	uint64_t pos;		/* where this side says that the stream ended */
	uint64_t sleeps;
	uint64_t notifies;
	bool lost_race;		/* a commit failed because the consumer had closed */
};

/* Makes the ring ready; before either side starts. */
void stress_reset(struct stress_shared *s);
void stress_produce(struct stress_shared *s, const struct stress_round *round,
		    struct stress_result *res);
void stress_consume(struct stress_shared *s, const struct stress_round *round,
		    struct stress_result *res);
/* A random round that closes from a random side. */
struct stress_round stress_random_round(uint32_t *seed, uint64_t length);
uint32_t stress_random(uint32_t *state);

#endif
