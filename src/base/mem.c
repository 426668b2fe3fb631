/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TRIM_BYTES = 1024 * 1024 }; /* less is not worth the search */

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

size_t mem_resident(void)
{
    char text[96];
    unsigned long size, pages = 0;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    return sscanf(text, "%lu %lu", &size, &pages) == 2 ? pages * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

void mem_trim(void)
{
    static size_t was_free, trimmed; /* at the last call; resident after the last trim */
    size_t is_free = mallinfo2().fordblks, now = mem_resident();
    bool is_other = now > trimmed + TRIM_BYTES / 4 || now + TRIM_BYTES / 4 < trimmed;

    if (is_other && is_free > TRIM_BYTES && was_free > TRIM_BYTES) {
        malloc_trim(0);
        trimmed = mem_resident();
    }
    was_free = is_free;
}

void mem_fail_after(unsigned n)
{
    atomic_store(&fail_countdown, n);
}
