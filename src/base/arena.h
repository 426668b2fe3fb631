/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_ARENA_H
#define IOTGW_ARENA_H
/*
 * Memory that belongs to a place (a message, a configuration), given back as a whole. One thread at a time.
 * arena_reset keeps the first block, so that an arena used for one message after the other allocates nothing.
 * What is allocated is 16-byte aligned (text: unaligned) and never fails; sizes from outside have their limit before.
 */
#include "base/mem.h"
#include "base/str.h"

struct arena_block;
struct arena {
    struct arena_block *first, *block; /* block: the one in use */
    uint8_t *at, *end;
    size_t block_size; /* of the next block; 0: 4096 */
    size_t n_bytes;    /* of all blocks */
};

void arena_init(struct arena *arena, size_t block_size);
void arena_fini(struct arena *arena);
void arena_reset(struct arena *arena);
void *arena_slow(struct arena *arena, size_t size, size_t align) __attribute__((returns_nonnull));

static inline size_t arena_bytes(const struct arena *arena)
{
    return arena->n_bytes;
}

static inline void *arena_alloc(struct arena *arena, size_t size)
{
    uintptr_t at = ((uintptr_t)arena->at + 15) & ~(uintptr_t)15;

    if (UNLIKELY(!arena->at || at > (uintptr_t)arena->end || size > (uintptr_t)arena->end - at))
        return arena_slow(arena, size, 16);
    arena->at = (uint8_t *)at + size;
    return (void *)at;
}

static inline char *arena_chars(struct arena *arena, size_t n)
{
    char *p = (char *)arena->at;

    if (UNLIKELY(n > (size_t)(arena->end - arena->at) || !p))
        return arena_slow(arena, n, 1);
    arena->at += n;
    return p;
}

void *arena_zero(struct arena *arena, size_t size) __attribute__((returns_nonnull));
/* A copy, terminated with 0 behind its end. */
struct str arena_str(struct arena *arena, struct str s);
char *arena_text(struct arena *arena, struct str s) __attribute__((returns_nonnull));
struct str arena_printf(struct arena *arena, const char *fmt, ...) PRINTF_LIKE(2, 3);
#endif
