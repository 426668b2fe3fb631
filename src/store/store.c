/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

void (*store_answer_fn)(struct batch *batch);

void store_answer(struct batch *batch)
{
    assert(store_answer_fn);
    store_answer_fn(batch);
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
