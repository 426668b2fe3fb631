/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static atomic_uint fail_countdown;

_Noreturn void mem_die(size_t size)
{
    fprintf(stderr, "iotgw: out of memory (%zu bytes wanted)\n", size);
    abort();
}

static int must_fail(void)
{
    unsigned n = atomic_load_explicit(&fail_countdown, memory_order_relaxed);

    return UNLIKELY(n) && atomic_fetch_sub(&fail_countdown, 1) == 1;
}

void *mem_new(size_t size)
{
    void *p = malloc(size ? size : 1);

    if (!p)
        mem_die(size);
    return p;
}

void *mem_zero(size_t size)
{
    void *p = calloc(1, size ? size : 1);

    if (!p)
        mem_die(size);
    return p;
}

void *mem_grow(void *p, size_t size)
{
    p = realloc(p, size ? size : 1);
    if (!p)
        mem_die(size);
    return p;
}

void *mem_try(size_t size)
{
    return must_fail() ? NULL : malloc(size ? size : 1);
}

void *mem_try_grow(void *p, size_t size)
{
    return must_fail() ? NULL : realloc(p, size ? size : 1);
}

char *mem_dup(const char *text)
{
    size_t n = strlen(text) + 1;

    return memcpy(mem_new(n), text, n);
}

void mem_free(void *p)
{
    free(p);
}

void mem_fail_after(unsigned n)
{
    atomic_store(&fail_countdown, n);
}
