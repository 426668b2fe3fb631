/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One node a level of a filter. Matching walks down by the literal level first, then, coming back, by '+'; it needs no
 * stack, because a node knows its parent and the place in the topic is found again by looking back for '/'. Each node is
 * visited at most once, whatever the topic.
 */
#include "mqtt/topic.h"

#include "base/map.h"
#include "base/mem.h"

struct values {
    void **p;
    size_t n, cap;
};

struct topic_node {
    struct topic_node *parent;
    struct topic_node *plus; /* child for '+' */
    struct map children;     /* by literal level */
    struct values here;      /* filters that end with this level */
    struct values rest;      /* filters that go on with '#' only */
    struct str level;        /* points behind the node; p NULL: reached by '+' */
};

struct topic_trie {
    struct topic_node root;
};

static void values_add(struct values *values, void *value)
{
    if (values->n == values->cap) {
        values->cap = values->cap ? values->cap * 2 : 1;
        values->p = mem_grow(values->p, values->cap * sizeof *values->p);
    }
    values->p[values->n++] = value;
}

static struct topic_node *node_new(struct topic_node *parent, struct str level, bool is_plus)
{
    struct topic_node *node = mem_zero(sizeof *node + level.n);

    node->parent = parent;
    if (is_plus) {
        parent->plus = node;
        return node;
    }
    node->level = str_of(node + 1, level.n);
    memcpy(node + 1, level.p, level.n);
    (void)map_put(&parent->children, node->level, node);
    return node;
}

static void node_fini(struct topic_node *node)
{
    map_fini(&node->children);
    mem_free(node->here.p);
    mem_free(node->rest.p);
}

static struct str filter_of(struct str filter)
{
    size_t name_n;

    if (!str_starts(filter, STR("$share/")))
        return filter;
    name_n = str_chr(str_skip(filter, 7), '/');
    return 7 + name_n < filter.n ? str_skip(filter, 7 + name_n + 1) : filter;
}

/* Where the values of a filter stand; what is missing of the way is added. */
static struct values *place_of(struct topic_trie *trie, struct str filter)
{
    struct topic_node *node = &trie->root, *child;
    struct str rest = filter_of(filter), level;

    while (str_split(&rest, '/', &level)) {
        bool is_plus = str_eq(level, STR("+"));

        if (str_eq(level, STR("#")))
            return &node->rest;
        child = is_plus ? node->plus : map_get(&node->children, level);
        node = child ? child : node_new(node, level, is_plus);
    }
    return &node->here;
}

/* --- matching ---------------------------------------------------------------------------------------------------------- */

static void give(const struct values *values, topic_match_fn *fn, void *arg)
{
    for (size_t i = 0; i < values->n; i++)
        fn(arg, values->p[i]);
}

/* The child of node for the level that starts at from; *end is set behind the level. */
static const struct topic_node *descend(const struct topic_node *node, struct str topic, size_t from, size_t *end)
{
    const char *slash = memchr(topic.p + from, '/', topic.n - from);
    const struct topic_node *child;

    *end = slash ? (size_t)(slash - topic.p) : topic.n;
    child = map_get(&node->children, str_of(topic.p + from, *end - from));
    if (!child && !(from == 0 && topic.p[0] == '$')) /* 4.7.2: no wildcard at the start matches $ */
        child = node->plus;
    return child;
}

/* The next '+' not yet tried: sibling of a literal node on the way up. *end is set behind its level. */
static const struct topic_node *go_back(const struct topic_node *node, struct str topic, size_t *end)
{
    while (node->parent) {
        size_t from = *end;

        while (from > 0 && topic.p[from - 1] != '/')
            from--;
        if (node->level.p && node->parent->plus && !(from == 0 && topic.p[0] == '$'))
            return node->parent->plus;
        *end = from ? from - 1 : 0;
        node = node->parent;
    }
    return NULL;
}

void topic_trie_match(const struct topic_trie *trie, struct str topic, topic_match_fn *fn, void *arg)
{
    const struct topic_node *node = &trie->root, *next;
    size_t end = 0, next_end; /* end: behind the level that led to node */

    if (topic.n == 0)
        return;
    if (topic.p[0] != '$')
        give(&node->rest, fn, arg);
    next = descend(node, topic, 0, &next_end);
    for (;;) {
        if (next) {
            node = next;
            end = next_end;
        } else {
            node = go_back(node, topic, &end);
            if (!node)
                return;
        }
        give(&node->rest, fn, arg);
        next = NULL;
        if (end == topic.n)
            give(&node->here, fn, arg);
        else
            next = descend(node, topic, end + 1, &next_end);
    }
}

/* --- the trie ---------------------------------------------------------------------------------------------------------- */

struct topic_trie *topic_trie_new(void)
{
    return mem_zero(sizeof(struct topic_trie));
}

void topic_trie_free(struct topic_trie *trie)
{
    struct topic_node *list, *node;

    if (!trie)
        return;
    /* Filters may have thousands of levels: a list, linked by parent, instead of recursion. */
    trie->root.parent = NULL;
    list = &trie->root;
    while ((node = list)) {
        list = node->parent;
        for (struct map_slot *slot = NULL; (slot = map_next(&node->children, slot));) {
            struct topic_node *child = slot->value;

            child->parent = list;
            list = child;
        }
        if (node->plus) {
            node->plus->parent = list;
            list = node->plus;
        }
        node_fini(node);
        if (node != &trie->root)
            mem_free(node);
    }
    mem_free(trie);
}

void topic_trie_add(struct topic_trie *trie, struct str filter, void *value)
{
    values_add(place_of(trie, filter), value);
}
