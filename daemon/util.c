// SPDX-License-Identifier: GPL-2.0-or-later
#include "util.h"
#include "vmc_wire.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

uint64_t vmc_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void vmc_ratelimit_init(struct vmc_ratelimit *rl, uint32_t burst, uint32_t period_ms)
{
	*rl = (struct vmc_ratelimit){
		.burst = burst, .period_ms = period_ms, .tokens = burst,
		.stamp = vmc_now_ms(),
	};
}

bool vmc_ratelimit_ok(struct vmc_ratelimit *rl)
{
	uint64_t now = vmc_now_ms(), earned = (now - rl->stamp) / rl->period_ms;

	if (earned >= rl->burst - rl->tokens) {
		rl->tokens = rl->burst;
		rl->stamp = now;
	} else {
		rl->tokens += (uint32_t)earned;
		rl->stamp += earned * rl->period_ms;
	}
	if (!rl->tokens) {
		rl->refused++;
		return false;
	}
	rl->tokens--;
	return true;
}

int vmc_parse_u32(const char *untrusted_text, uint32_t max, uint32_t *value)
{
	uint64_t v = 0;
	size_t i;

	for (i = 0; untrusted_text[i]; i++) {
		if (untrusted_text[i] < '0' || untrusted_text[i] > '9')
			return -EINVAL;
		if (i == 10)
			return -ERANGE;
		v = v * 10 + (uint64_t)(untrusted_text[i] - '0');
	}
	if (!i)
		return -EINVAL;
	if (v > max)
		return -ERANGE;
	*value = (uint32_t)v;
	return 0;
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int vmc_parse_mac(const char *untrusted_text, uint8_t mac[6])
{
	static const uint8_t none[6];
	uint8_t m[6];

	if (strlen(untrusted_text) != 17)
		return -EINVAL;
	for (int i = 0; i < 6; i++) {
		int hi = hex(untrusted_text[3 * i]), lo = hex(untrusted_text[3 * i + 1]);

		if (hi < 0 || lo < 0 || (i < 5 && untrusted_text[3 * i + 2] != ':'))
			return -EINVAL;
		m[i] = (uint8_t)(hi << 4 | lo);
	}
	if ((m[0] & 1) || !memcmp(m, none, sizeof(m)))
		return -EINVAL;
	memcpy(mac, m, sizeof(m));
	return 0;
}

void vmc_sanitize(char *dst, size_t size, const char *untrusted_src, size_t len)
{
	size_t i;

	for (i = 0; i + 1 < size && i < len && untrusted_src[i]; i++) {
		char c = untrusted_src[i];

		dst[i] = c >= 0x20 && c < 0x7f ? c : '?';
	}
	dst[i] = '\0';
}

void vmc_uuid_text(const uint8_t uuid[16], char text[VMC_UUID_TEXT])
{
	size_t at = 0;

	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			text[at++] = '-';
		at += (size_t)snprintf(text + at, VMC_UUID_TEXT - at, "%02x", uuid[i]);
	}
}

const char *vmc_reason_name(uint32_t untrusted_reason)
{
	static const char *const names[] = VMC_REASON_NAMES;

	return untrusted_reason < VMC_R_MAX ? names[untrusted_reason] : "unknown";
}
