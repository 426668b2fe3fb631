/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_MAP_H
#define IOTGW_MAP_H
/*
 * Text → pointer, open addressing with linear probing, grows at 3/4. The key's bytes are borrowed: they must live as
 * long as the entry (usually they are part of the value). Values are not NULL. One thread.
 */
#include "base/hash.h"

struct map_slot {
    struct str key;
    uint64_t hash;
    void *value; /* NULL: free */
};

struct map {
    struct map_slot *slots;
    size_t n, cap; /* cap: 0 or a power of two */
};

void map_fini(struct map *map);
void *map_get_hashed(const struct map *map, struct str key, uint64_t hash);
/* Gives the value that was there before, or NULL. Replaces key and value. */
void *map_put(struct map *map, struct str key, void *value);
void *map_del(struct map *map, struct str key);

static inline void *map_get(const struct map *map, struct str key)
{
    return map->n ? map_get_hashed(map, key, hash_str(key)) : NULL;
}

/* for (struct map_slot *slot = NULL; (slot = map_next(map, slot));) … ; do not put or delete in the body. */
struct map_slot *map_next(const struct map *map, struct map_slot *slot);
#endif
