/* SPDX-License-Identifier: Apache-2.0 */
#include "mqtt_plan.h"

#include "base/map.h"
#include "mqtt/topic.h"

enum { MEMBERS_MAX = 4096 }; /* further datapoints are looked up one by one */

/* --- members ------------------------------------------------------------------------------------------------------------ */

static unsigned bucket_of(const struct member_table *table, struct str name)
{
    unsigned i = (unsigned)hash_str(name) & table->mask;

    while (table->buckets[i] && !str_eq(table->names[table->buckets[i] - 1], name))
        i = (i + 1) & table->mask;
    return i;
}

int member_slot(const struct member_table *table, struct str name)
{
    return table->lengths >> (name.n % 64) & 1 ? table->buckets[bucket_of(table, name)] - 1 : -1;
}

static unsigned add_member(struct member_table *table, struct str name)
{
    unsigned bucket = bucket_of(table, name);

    if (!table->buckets[bucket]) {
        table->names[table->n++] = name;
        table->lengths |= (uint64_t)1 << (name.n % 64);
        table->buckets[bucket] = (uint16_t)table->n;
    }
    return table->buckets[bucket] - 1u;
}

static void add_members(struct member_table *table, const struct conf_list *points)
{
    for (size_t i = 0; i < points->n; i++) {
        struct datapoint *point = points->items[i];
        struct str member = STR_NONE;

        if (!point->is_all && !point->value.use_eval)
            member = template_single_member(point->value.template);
        if (member.p && table->n < MEMBERS_MAX)
            point->slot = (int)add_member(table, member);
    }
}

static bool keys_are_unique(const struct conf_list *points)
{
    struct map seen = {0};
    bool unique = true;

    for (size_t i = 0; i < points->n && unique; i++) {
        struct datapoint *point = points->items[i];

        unique = !point->is_all && point->key_rule.kind == RULE_CONSTANT && !map_put(&seen, point->key, point);
    }
    map_fini(&seen);
    return unique;
}

void plan_converter(struct conf_load *load, struct converter *converter)
{
    struct arena *arena = conf_arena(load);
    size_t n = converter->attributes.n + converter->timeseries.n + 2, cap = 8;
    struct member_table *table;

    converter->keys_unique = keys_are_unique(&converter->attributes) && keys_are_unique(&converter->timeseries);
    if (converter->is_bytes)
        return;
    table = arena_zero(arena, sizeof *table);
    if (n > MEMBERS_MAX + 2)
        n = MEMBERS_MAX + 2;
    while (cap < 2 * n)
        cap *= 2;
    table->names = arena_alloc(arena, n * sizeof *table->names);
    table->buckets = arena_zero(arena, cap * sizeof *table->buckets);
    table->mask = (unsigned)cap - 1;
    table->ts_slot = add_member(table, STR("ts"));
    table->timestamp_slot = add_member(table, STR("timestamp"));
    add_members(table, &converter->attributes);
    add_members(table, &converter->timeseries);
    converter->members = table;
}

/* --- entries -------------------------------------------------------------------------------------------------------------- */

static void trie_fini(void *trie)
{
    topic_trie_free(trie);
}

static unsigned add_filter(struct mqtt_plan *plan, struct map *seen, struct str filter, uint32_t qos)
{
    struct plan_filter *at = map_get(seen, filter);

    if (!at) {
        at = &plan->filters[plan->n_filters++];
        *at = (struct plan_filter){filter, (uint8_t)qos};
        (void)map_put(seen, filter, at);
    } else if (qos > at->qos) {
        at->qos = (uint8_t)qos;
    }
    return (unsigned)(at - plan->filters);
}

static void add_entry(struct mqtt_plan *plan, struct map *seen, uint32_t qos, struct entry entry)
{
    struct entry *at = &plan->entries[plan->n_entries];

    *at = entry;
    at->index = plan->n_entries++;
    at->filter_index = add_filter(plan, seen, entry.filter, qos);
    topic_trie_add(plan->trie, entry.filter, at);
}

static void add_requests(struct mqtt_plan *plan, struct map *seen, enum entry_kind kind, const struct conf_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct device_request *request = list->items[i];

        if (!request->info) /* reported when it was loaded */
            continue;
        add_entry(plan, seen, request->qos,
                  (struct entry){.kind = kind, .filter = request->filter, .request = request});
    }
}

enum err plan_compile(struct conf_load *load, struct mqtt_file *file)
{
    struct arena *arena = conf_arena(load);
    const struct request_lists *sections = &file->sections;
    struct mqtt_plan *plan = arena_zero(arena, sizeof *plan);
    size_t n = file->mappings.n + sections->connects.n + sections->disconnects.n + sections->attribute_requests.n;
    struct map seen = {0};

    plan->entries = arena_zero(arena, (n + 1) * sizeof *plan->entries);
    plan->filters = arena_zero(arena, (n + 1) * sizeof *plan->filters);
    plan->trie = topic_trie_new();
    conf_own(load, trie_fini, plan->trie);
    for (size_t i = 0; i < file->mappings.n; i++) {
        const struct mapping *mapping = file->mappings.items[i];

        if (mapping->converter->is_custom)
            continue;
        add_entry(plan, &seen, mapping->qos,
                  (struct entry){.kind = ENTRY_MAPPING, .filter = mapping->filter, .mapping = mapping});
    }
    add_requests(plan, &seen, ENTRY_CONNECT, &sections->connects);
    add_requests(plan, &seen, ENTRY_DISCONNECT, &sections->disconnects);
    for (size_t i = 0; i < sections->attribute_requests.n; i++) {
        const struct attribute_request *request = sections->attribute_requests.items[i];

        add_entry(
            plan, &seen, request->subscription_qos,
            (struct entry){.kind = ENTRY_ATTRIBUTE_REQUEST, .filter = request->filter, .attribute_request = request});
    }
    map_fini(&seen);
    file->plan = plan;
    return ERR_OK;
}
