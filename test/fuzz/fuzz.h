/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A fuzzer's input, taken piece by piece; past its end there are zeros. */
#ifndef VMC_FUZZ_H
#define VMC_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_input {
	const uint8_t *at;
	size_t left;
};

static inline void fuzz_take(struct fuzz_input *in, void *buf, size_t len)
{
	size_t n = len < in->left ? len : in->left;

	memset(buf, 0, len);
	if (n)
		memcpy(buf, in->at, n);
	in->at += n;
	in->left -= n;
}

static inline uint8_t fuzz_u8(struct fuzz_input *in)
{
	uint8_t v;

	fuzz_take(in, &v, sizeof(v));
	return v;
}

static inline uint16_t fuzz_u16(struct fuzz_input *in)
{
	uint16_t v;

	fuzz_take(in, &v, sizeof(v));
	return v;
}

static inline uint64_t fuzz_u64(struct fuzz_input *in)
{
	uint64_t v;

	fuzz_take(in, &v, sizeof(v));
	return v;
}

/* What must hold whatever the input is. */
#define FUZZ_CHECK(expr)							\
	do {									\
		if (!(expr)) {							\
			fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #expr); \
			abort();						\
		}								\
	} while (0)

#endif
