/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>

struct arena_block {
    struct arena_block *next;
    size_t size;
    uint8_t bytes[];
};

void arena_init(struct arena *arena, size_t block_size)
{
    *arena = (struct arena){.block_size = block_size};
}

void arena_fini(struct arena *arena)
{
    for (struct arena_block *block = arena->first, *next; block; block = next) {
        next = block->next;
        mem_free(block);
    }
    *arena = (struct arena){.block_size = arena->block_size};
}

void arena_reset(struct arena *arena)
{
    struct arena_block *first = arena->first;

    if (!first)
        return;
    for (struct arena_block *block = first->next, *next; block; block = next) {
        next = block->next;
        mem_free(block);
    }
    first->next = NULL;
    arena->n_bytes = first->size;
    arena->block = first;
    arena->at = first->bytes;
    arena->end = first->bytes + first->size;
}

void *arena_slow(struct arena *arena, size_t size, size_t align)
{
    size_t want = arena->block_size ? arena->block_size : 4096;
    struct arena_block *block;
    uintptr_t at;

    if (size > SIZE_MAX / 2)
        mem_die(size);
    if (want < size + align)
        want = size + align;
    block = mem_new(sizeof *block + want);
    *block = (struct arena_block){.size = want};
    arena->n_bytes += want;
    if (arena->block)
        arena->block->next = block;
    else
        arena->first = block;
    arena->block = block;
    arena->end = block->bytes + want;
    at = ((uintptr_t)block->bytes + align - 1) & ~(uintptr_t)(align - 1);
    arena->at = (uint8_t *)at + size;
    return (void *)at;
}

void *arena_zero(struct arena *arena, size_t size)
{
    return memset(arena_alloc(arena, size), 0, size);
}

char *arena_text(struct arena *arena, struct str s)
{
    char *p = arena_chars(arena, s.n + 1);

    if (s.n)
        memcpy(p, s.p, s.n);
    p[s.n] = 0;
    return p;
}

struct str arena_str(struct arena *arena, struct str s)
{
    return (struct str){arena_text(arena, s), s.n};
}

struct str arena_printf(struct arena *arena, const char *fmt, ...)
{
    va_list args, again;
    char *p;
    int n;

    va_start(args, fmt);
    va_copy(again, args);
    n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0)
        n = 0;
    p = arena_chars(arena, (size_t)n + 1);
    vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return (struct str){p, (size_t)n};
}
