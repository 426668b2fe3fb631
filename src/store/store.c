/* SPDX-License-Identifier: Apache-2.0 */
#include "store/lanes.h"

void (*store_answer_fn)(struct batch *batch);

void store_answer(struct batch *batch)
{
    assert(store_answer_fn);
    store_answer_fn(batch);
}

uint64_t lanes_first_position(void)
{
    static _Atomic(uint64_t) n_stores;

    return (atomic_fetch_add(&n_stores, 1) + 1) << 44; /* 16 TiB each, for a million of them */
}

void store_free(struct store *store)
{
    if (store)
        store->ops->free(store);
}

void chunk_release(struct chunk *chunk)
{
    if (chunk)
        chunk->release(chunk);
}
