// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * libvmc's decoders: whatever JSON comes back as an answer's parameters, the
 * result is an error or complete. Input: the JSON text.
 */
#include "fuzz.h"
#include "decode.h"

static void check_strings(const char *const *list)
{
	FUZZ_CHECK(list);
	while (*list)
		FUZZ_CHECK(strlen(*list++) < SIZE_MAX);
}

static void check_guest(const struct vmc_guest *g)
{
	FUZZ_CHECK(g && g->name && g->uuid && g->state && g->driver && g->error);
	check_strings(g->macs);
	check_strings(g->bridges);
}

static void check_channels(const struct vmc_channel *const *list, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		FUZZ_CHECK(list[i]->mode && list[i]->a->name && list[i]->b->name);
}

static void check_details(const struct vmc_guest_details *x)
{
	size_t i;

	check_guest(x->guest);
	for (i = 0; i < x->stats->nr_fallbacks; i++)
		FUZZ_CHECK(x->stats->fallbacks[i]->reason);
	check_channels(x->channels, x->nr_channels);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *json = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
	struct vmc_guest_details *details = NULL;
	struct vmc_channel_list *channels = NULL;
	struct vmc_guest_list *guests = NULL;
	struct vmc_status *status = NULL;
	char where[VMC_DECODE_WHERE];
	size_t i;

	if (!json)
		return 0;
	FUZZ_CHECK(!vmc_decode_status(json, &status, where) == (status != NULL));
	FUZZ_CHECK(!vmc_decode_guests(json, &guests, where) == (guests != NULL));
	FUZZ_CHECK(!vmc_decode_channels(json, &channels, where) == (channels != NULL));
	FUZZ_CHECK(!vmc_decode_details(json, &details, where) == (details != NULL));
	json_decref(json);

	if (status)
		FUZZ_CHECK(status->version);
	for (i = 0; guests && i < guests->count; i++)
		check_guest(guests->guests[i]);
	if (channels)
		check_channels(channels->channels, channels->count);
	if (details)
		check_details(details);
	vmc_free(status);
	vmc_free(guests);
	vmc_free(channels);
	vmc_free(details);
	return 0;
}
