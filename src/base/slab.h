/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SLAB_H
#define IOTGW_SLAB_H
/*
 * Blocks of 64 KiB for bytes on their way between threads. slab_get and slab_put from any thread, under one short mutex
 * (see slab.c). Free slabs beyond what the last ten seconds needed go back to the
 * system by slab_trim, which the main thread calls every few seconds.
 */
#include <stddef.h>
#include <stdint.h>

enum { SLAB_SIZE = 64 * 1024 };

void *slab_get(void) __attribute__((returns_nonnull));
void slab_put(void *slab); /* NULL: nothing */
void slab_trim(void);
size_t slab_in_use(void); /* slabs that somebody holds; for tests and status */
#endif
