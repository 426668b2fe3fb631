/* SPDX-License-Identifier: Apache-2.0 */
/* Two configurations of one type, field by field: what decides at a reload whether a change is applied live. */
#include "conf/load.h"

struct diff {
    conf_diff_fn *fn;
    void *arg;
    struct buf path;
    unsigned n;
};

static void diff_object(struct diff *diff, const struct conf_type *type, const void *a, const void *b, bool live);

static void report(struct diff *diff, bool live)
{
    diff->n++;
    if (!diff->fn)
        return;
    buf_add_u8(&diff->path, 0);
    diff->path.n--;
    diff->fn(diff->arg, (const char *)diff->path.p, live);
}

static size_t enter(struct diff *diff, const char *key)
{
    size_t before = diff->path.n;

    buf_printf(&diff->path, before ? ".%s" : "%s", key);
    return before;
}

static bool json_same(yyjson_val *a, yyjson_val *b)
{
    return a == b || (a && b && json_equal(a, b));
}

static void diff_lists(struct diff *diff, const struct field *field, const struct conf_list *a,
                       const struct conf_list *b, bool live)
{
    if (a->n != b->n) {
        report(diff, live);
        return;
    }
    for (size_t i = 0; i < a->n; i++) {
        size_t before = diff->path.n;

        buf_printf(&diff->path, "[%zu]", i);
        diff_object(diff, field->object, a->items[i], b->items[i], live);
        diff->path.n = before;
    }
}

static const struct conf_map_entry *map_find(const struct conf_map *map, struct str key)
{
    for (size_t i = 0; i < map->n; i++)
        if (str_eq(map->items[i].key, key))
            return &map->items[i];
    return NULL;
}

static void diff_maps(struct diff *diff, const struct field *field, const struct conf_map *a, const struct conf_map *b,
                      bool live)
{
    if (a->n != b->n) {
        report(diff, live);
        return;
    }
    for (size_t i = 0; i < a->n; i++) {
        const struct conf_map_entry *other = map_find(b, a->items[i].key);
        size_t before = diff->path.n;

        buf_printf(&diff->path, ".%.*s", (int)a->items[i].key.n, a->items[i].key.p);
        if (!other)
            report(diff, live);
        else if (field->object)
            diff_object(diff, field->object, a->items[i].value, other->value, live);
        else if (!json_same(a->items[i].value, other->value))
            report(diff, live);
        diff->path.n = before;
    }
}

static bool texts_same(const struct conf_strs *a, const struct conf_strs *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (!str_eq(a->items[i], b->items[i]))
            return false;
    return true;
}

static bool value_same(const struct field *field, const void *a, const void *b)
{
    switch (field->type) {
    case FIELD_BOOL:
        return *(const bool *)a == *(const bool *)b;
    case FIELD_INT:
        return *(const int64_t *)a == *(const int64_t *)b;
    case FIELD_UINT:
        return *(const uint32_t *)a == *(const uint32_t *)b;
    case FIELD_DOUBLE:
        return memcmp(a, b, sizeof(double)) == 0;
    case FIELD_STR:
    case FIELD_SECRET:
        return (((const struct str *)a)->p == NULL) == (((const struct str *)b)->p == NULL) &&
               str_eq(*(const struct str *)a, *(const struct str *)b);
    case FIELD_ENUM:
        return *(const int *)a == *(const int *)b;
    case FIELD_STRS:
        return texts_same(a, b);
    case FIELD_JSON:
        return json_same(*(yyjson_val *const *)a, *(yyjson_val *const *)b);
    case FIELD_OBJECT:
    case FIELD_LIST:
    case FIELD_MAP:
    case FIELD_AT:
    case FIELD_IGNORED:
    case FIELD_END:
        break;
    }
    return true;
}

static bool given_same(const struct field *field, const void *a, const void *b)
{
    return !field->has_offset || *((const bool *)a + field->has_offset) == *((const bool *)b + field->has_offset);
}

static void diff_field(struct diff *diff, const struct field *field, const void *a, const void *b, bool live)
{
    const void *left = (const char *)a + field->offset, *right = (const char *)b + field->offset;
    size_t before = enter(diff, field->key);

    live = live || field->live;
    if (field->type == FIELD_OBJECT)
        diff_object(diff, field->object, *(void *const *)left, *(void *const *)right, live);
    else if (field->type == FIELD_LIST)
        diff_lists(diff, field, left, right, live);
    else if (field->type == FIELD_MAP)
        diff_maps(diff, field, left, right, live);
    else if (!value_same(field, left, right) || !given_same(field, a, b))
        report(diff, live);
    diff->path.n = before;
}

static void diff_object(struct diff *diff, const struct conf_type *type, const void *a, const void *b, bool live)
{
    struct field_walk walk = {0};

    if (!a || !b) {
        if (a != b)
            report(diff, live);
        return;
    }
    /* A short form is compared as it stands: what from_other makes of it need not be in fields. */
    yyjson_val *left = head_of(a)->val, *right = head_of(b)->val;

    if ((left && !yyjson_is_obj(left)) || (right && !yyjson_is_obj(right))) {
        if (!json_same(left, right))
            report(diff, live);
        return;
    }
    for (const struct field *field; (field = field_next(&walk, type));)
        if (field->type != FIELD_AT && field->type != FIELD_IGNORED && !field_present(type, field))
            diff_field(diff, field, a, b, live);
}

unsigned conf_diff(const struct conf *before, const struct conf *after, conf_diff_fn *fn, void *arg)
{
    struct diff diff = {.fn = fn, .arg = arg};

    diff_object(&diff, before->type, before->root, after->root, false);
    buf_fini(&diff.path);
    return diff.n;
}
