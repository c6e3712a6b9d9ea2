// SPDX-License-Identifier: LGPL-2.1-or-later
#include "arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct vmc_arena {
	struct vmc_arena *next;
	alignas(max_align_t) unsigned char data[];
};

static struct vmc_arena *new_part(size_t count, size_t size)
{
	if (size && count > (SIZE_MAX - sizeof(struct vmc_arena)) / size)
		return NULL;
	return calloc(1, sizeof(struct vmc_arena) + count * size);
}

void *vmc_arena_new(size_t size, struct vmc_arena **arena)
{
	*arena = new_part(1, size);
	return *arena ? (*arena)->data : NULL;
}

void *vmc_arena_alloc(struct vmc_arena *arena, size_t count, size_t size)
{
	struct vmc_arena *part = new_part(count, size);

	if (!part)
		return NULL;
	part->next = arena->next;
	arena->next = part;
	return part->data;
}

const char *vmc_arena_strdup(struct vmc_arena *arena, const char *text)
{
	size_t len = strlen(text) + 1;
	char *copy = vmc_arena_alloc(arena, len, 1);

	if (copy)
		memcpy(copy, text, len);
	return copy;
}

void vmc_arena_free(const void *first)
{
	struct vmc_arena *part, *next;

	if (!first)
		return;
	part = (struct vmc_arena *)((char *)(void *)first - offsetof(struct vmc_arena, data));
	for (; part; part = next) {
		next = part->next;
		free(part);
	}
}
