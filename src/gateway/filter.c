/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/filter.h"

#include "base/mem.h"
#include "data/template.h"

struct rules {
    struct str connector; /* owned */
    struct regex **patterns;
    size_t n;
};

struct filter {
    struct rules *deny, *allow;
    size_t n_deny, n_allow;
    bool denies_by_default;
    uint32_t generation; /* of the verdicts; never 0 */
};

/* A verdict: generation << 16 | number of the source << 1 | allowed. */
enum { GENERATION_SHIFT = 16, SOURCE_SHIFT = 1 };

static struct rules *compile(const struct conf_map *map)
{
    struct rules *rules = mem_zero((map->n + 1) * sizeof *rules);

    for (size_t i = 0; i < map->n; i++) {
        const struct filter_rules *from = map->items[i].value;
        struct str name = map->items[i].key;

        rules[i].connector = str_of(mem_new(name.n + 1), name.n);
        memcpy((char *)(uintptr_t)rules[i].connector.p, name.n ? name.p : "", name.n);
        if (!from)
            continue;
        rules[i].patterns = mem_zero((from->patterns.n + 1) * sizeof(struct regex *));
        for (size_t j = 0; j < from->patterns.n; j++)
            if (!regex_compile(&rules[i].patterns[rules[i].n], from->patterns.items[j], REGEX_FULL, NULL))
                rules[i].n++; /* the loader has refused what does not compile */
    }
    return rules;
}

static void rules_free(struct rules *rules, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < rules[i].n; j++)
            regex_free(rules[i].patterns[j]);
        mem_free(rules[i].patterns);
        mem_free((char *)(uintptr_t)rules[i].connector.p);
    }
    mem_free(rules);
}

static bool has_match(const struct rules *rules, size_t n, struct str connector, struct str name)
{
    struct str found;

    for (size_t i = 0; i < n; i++) {
        if (!str_eq(rules[i].connector, connector))
            continue;
        for (size_t j = 0; j < rules[i].n; j++)
            if (regex_topic(rules[i].patterns[j], name, false, &found))
                return true;
    }
    return false;
}

static bool decide(const struct filter *filter, struct str connector, struct str name)
{
    if (has_match(filter->allow, filter->n_allow, connector, name))
        return true;
    return !filter->denies_by_default && !has_match(filter->deny, filter->n_deny, connector, name);
}

struct filter *filter_new(const struct filter_conf *conf)
{
    static uint32_t last_generation; /* main loop */
    struct filter *filter = mem_zero(sizeof *filter);

    last_generation = last_generation % 0xffff + 1;
    filter->generation = last_generation;
    filter->deny = compile(&conf->deny);
    filter->n_deny = conf->deny.n;
    filter->allow = compile(&conf->allow);
    filter->n_allow = conf->allow.n;
    filter->denies_by_default = conf->by_default == FILTER_DENY;
    return filter;
}

void filter_free(struct filter *filter)
{
    if (!filter)
        return;
    rules_free(filter->deny, filter->n_deny);
    rules_free(filter->allow, filter->n_allow);
    mem_free(filter);
}

bool filter_allows(const struct filter *filter, const struct device_source *source, struct device *dev, bool *is_first)
{
    uint32_t number = source ? source->number : 0,
             key = filter->generation << GENERATION_SHIFT | number << SOURCE_SHIFT,
             verdict = atomic_load_explicit(&dev->verdict, memory_order_relaxed);
    bool is_allowed;

    *is_first = false;
    if (LIKELY((verdict & ~1u) == key))
        return verdict & 1;
    is_allowed = decide(filter, source ? str_from(source->name) : STR_NONE, device_name(dev));
    atomic_store_explicit(&dev->verdict, key | (is_allowed ? 1 : 0), memory_order_relaxed);
    *is_first = true;
    return is_allowed;
}
