/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_MEM_H
#define IOTGW_MEM_H
/*
 * Allocation. Small sizes that the program itself chooses cannot fail: mem_new and its like end the process with a
 * clear message (the service manager restarts it; the store loses nothing). Sizes that come from outside go through
 * mem_try, which answers NULL, and have a limit from the configuration. Any thread.
 */
#include "base/err.h"

void *mem_new(size_t size) __attribute__((malloc, alloc_size(1), returns_nonnull));
void *mem_zero(size_t size) __attribute__((malloc, alloc_size(1), returns_nonnull));
void *mem_grow(void *p, size_t size) __attribute__((alloc_size(2), returns_nonnull));
NODISCARD void *mem_try(size_t size) __attribute__((malloc, alloc_size(1)));
NODISCARD void *mem_try_grow(void *p, size_t size) __attribute__((alloc_size(2)));
char *mem_dup(const char *text) __attribute__((malloc, returns_nonnull));
void mem_free(void *p);
_Noreturn void mem_die(size_t size);

/* Gives pages inside the heap that have been free since the last call back to the system. Called every few seconds by the main
 * thread. */
void mem_trim(void);
size_t mem_resident(void); /* bytes of the process in memory; 0: not known */

/* For tests: from now on the n-th mem_try fails once (0: off). */
void mem_fail_after(unsigned n);

static inline void mem_autofree(void *p)
{
    mem_free(*(void **)p);
}
#define autofree __attribute__((cleanup(mem_autofree)))
#endif
