/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"

#include "base/mem.h"

void map_fini(struct map *map)
{
    mem_free(map->slots);
    *map = (struct map){0};
}

static struct map_slot *find(const struct map *map, struct str key, uint64_t hash)
{
    size_t i = hash & (map->cap - 1);

    while (map->slots[i].value && !(map->slots[i].hash == hash && str_eq(map->slots[i].key, key)))
        i = (i + 1) & (map->cap - 1);
    return &map->slots[i];
}

void *map_get_hashed(const struct map *map, struct str key, uint64_t hash)
{
    return map->n ? find(map, key, hash)->value : NULL;
}

static void grow(struct map *map)
{
    struct map old = *map;

    map->cap = old.cap ? old.cap * 2 : 16;
    map->slots = mem_zero(map->cap * sizeof *map->slots);
    for (size_t i = 0; i < old.cap; i++)
        if (old.slots[i].value)
            *find(map, old.slots[i].key, old.slots[i].hash) = old.slots[i];
    mem_free(old.slots);
}

void *map_put(struct map *map, struct str key, void *value)
{
    uint64_t hash = hash_str(key);
    struct map_slot *slot;
    void *before;

    if (map->n + 1 > map->cap / 4 * 3)
        grow(map);
    slot = find(map, key, hash);
    before = slot->value;
    *slot = (struct map_slot){key, hash, value};
    map->n += before == NULL;
    return before;
}

void *map_del(struct map *map, struct str key)
{
    struct map_slot *slot;
    size_t hole, i;
    void *before;

    if (!map->n)
        return NULL;
    slot = find(map, key, hash_str(key));
    before = slot->value;
    if (!before)
        return NULL;
    map->n--;
    /* Close the gap: whoever follows and would have liked to stand at or before the hole moves into it. */
    hole = (size_t)(slot - map->slots);
    for (i = (hole + 1) & (map->cap - 1); map->slots[i].value; i = (i + 1) & (map->cap - 1)) {
        size_t home = map->slots[i].hash & (map->cap - 1);

        if (((i - home) & (map->cap - 1)) >= ((i - hole) & (map->cap - 1))) {
            map->slots[hole] = map->slots[i];
            hole = i;
        }
    }
    map->slots[hole] = (struct map_slot){0};
    return before;
}

struct map_slot *map_next(const struct map *map, struct map_slot *slot)
{
    if (map->n == 0)
        return NULL;
    for (slot = slot ? slot + 1 : map->slots; slot < map->slots + map->cap; slot++)
        if (slot->value)
            return slot;
    return NULL;
}
