/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Time, rate limits and the checks that untrusted text and numbers go through. */
#ifndef VMC_UTIL_H
#define VMC_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>

uint64_t vmc_now_ms(void);	/* CLOCK_MONOTONIC */

static inline struct timeval vmc_timeval(unsigned int ms)
{
	return (struct timeval){ .tv_sec = ms / 1000,
				 .tv_usec = (suseconds_t)(ms % 1000) * 1000 };
}

/* A token bucket: @burst at once, then one every @period_ms. */
struct vmc_ratelimit {
	uint32_t burst;
	uint32_t period_ms;
	uint32_t tokens;
	uint32_t refused;	/* since the last one that passed */
	uint64_t stamp;
};

void vmc_ratelimit_init(struct vmc_ratelimit *rl, uint32_t burst, uint32_t period_ms);
bool vmc_ratelimit_ok(struct vmc_ratelimit *rl);

/*
 * Decimal digits only, no sign, no blanks. Returns 0, -EINVAL, or -ERANGE above
 * @max; @value is untouched on failure.
 */
int vmc_parse_u32(const char *untrusted_text, uint32_t max, uint32_t *value);

/* "aa:bb:cc:dd:ee:ff", unicast and not all zero. Returns 0 or -EINVAL. */
int vmc_parse_mac(const char *untrusted_text, uint8_t mac[6]);

/*
 * Copies printable ASCII, puts '?' for anything else, ends at a NUL or after
 * @len bytes and always terminates. @size > 0.
 */
void vmc_sanitize(char *dst, size_t size, const char *untrusted_src, size_t len);

/* "no-peer"; "unknown" for what is none of enum vmc_reason. */
const char *vmc_reason_name(uint32_t untrusted_reason);

#define VMC_UUID_TEXT	37u
void vmc_uuid_text(const uint8_t uuid[16], char text[VMC_UUID_TEXT]);

#endif /* VMC_UTIL_H */
