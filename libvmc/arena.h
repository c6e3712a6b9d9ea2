/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A result: one block of memory for each part, all released together. The
 * first part is the struct that the caller of the library gets; vmc_free()
 * finds the rest from it.
 */
#ifndef VMC_ARENA_H
#define VMC_ARENA_H

#include <stddef.h>

struct vmc_arena;

/* Makes a result whose first part has @size zeroed bytes; NULL without memory. */
void *vmc_arena_new(size_t size, struct vmc_arena **arena);
/* One more zeroed part. */
void *vmc_arena_alloc(struct vmc_arena *arena, size_t count, size_t size);
const char *vmc_arena_strdup(struct vmc_arena *arena, const char *text);
void vmc_arena_free(const void *first);

#endif
