/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON → structs, by descriptor. Members are taken in the order of the file, so that problems come in that order too; what
 * is missing is reported behind them. An object is disabled by returning NULL up to the nearest list item, map entry or
 * field that may be skipped; everything in it is looked at all the same, so that one run finds all problems.
 */
#include "conf/load.h"

#include "base/map.h"
#include "data/number.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { MAX_DEPTH = 64 };

static void *load_object(struct conf_load *load, const struct conf_type *type, yyjson_val *val,
                         const struct conf_at *at);

/* ---- problems of one value ---- */

static bool is_strict(const struct field *field)
{
    return field->need || field->strict;
}

static void add_consequence(struct conf_load *load, struct buf *text, const struct field *field)
{
    if (is_strict(field)) {
        if (load->part)
            buf_printf(text, "; %s is not used", load->part);
        else
            buf_add_z(text, "; the file is not used");
        return;
    }
    size_t before = text->n;

    buf_add_z(text, "; the default ");
    if (field->type == FIELD_OBJECT && field->always) {
        text->n = before;
        buf_add_z(text, "; the defaults are used");
    } else if (diag_default(text, field)) {
        buf_add_z(text, " is used");
    } else {
        text->n = before;
        buf_add_z(text, "; the key counts as absent");
    }
}

/* Reports "found X; expected Y; consequence[; did you mean Z?]". Gives false if what holds the field is disabled by it. */
static bool wrong(struct conf_load *load, const struct field *field, const struct where *where, const char *reason,
                  const char *nearest)
{
    autobuf struct buf text = {0};

    if (reason) {
        buf_add_z(&text, reason);
    } else {
        buf_add_z(&text, "found ");
        if (field->type == FIELD_SECRET && !yyjson_is_ctn(where->val))
            buf_add_z(&text, "a value that is not shown");
        else
            diag_found(&text, where->val);
        buf_add_z(&text, "; expected ");
        diag_expected(&text, field);
    }
    add_consequence(load, &text, field);
    if (nearest)
        buf_printf(&text, "; did you mean \"%s\"?", nearest);
    conf_report(load, CONF_ERROR, where_at(load, where), buf_str(&text));
    return !is_strict(field);
}

/* ---- values ---- */

/* Digits as text count as a number. */
static bool read_integer(yyjson_val *val, int64_t *out)
{
    if (yyjson_is_str(val))
        return str_to_i64(str_trim(json_str(val)), out) == ERR_OK;
    if (!json_is_number(val))
        return false;
    if (json_to_i64(val, out) == ERR_OK)
        return true;
    double d;

    if (json_to_double(val, &d) != ERR_OK || !(d >= -9e15 && d <= 9e15) || d != (double)(int64_t)d)
        return false;
    *out = (int64_t)d;
    return true;
}

static bool load_bool(struct conf_load *load, bool *out, const struct field *field, const struct where *where)
{
    yyjson_val *val = where->val;
    int64_t number;

    if (yyjson_is_bool(val))
        *out = yyjson_get_bool(val);
    else if (yyjson_is_str(val) && str_eq_nocase(json_str(val), STR("true")))
        *out = true;
    else if (!yyjson_is_str(val) && read_integer(val, &number) && (number == 0 || number == 1))
        *out = number == 1;
    else
        return wrong(load, field, where, NULL, NULL);
    return true;
}

static bool load_integer(struct conf_load *load, void *out, const struct field *field, const struct where *where)
{
    int64_t number, min, max;

    field_range(field, &min, &max);
    if (!read_integer(where->val, &number) || number < min || number > max)
        return wrong(load, field, where, NULL, NULL);
    if (field->type == FIELD_INT)
        *(int64_t *)out = number;
    else
        *(uint32_t *)out = (uint32_t)number;
    return true;
}

static bool load_double(struct conf_load *load, double *out, const struct field *field, const struct where *where)
{
    bool has_range = field->min_double != 0 || field->max_double != 0;
    double number;
    enum err err = yyjson_is_str(where->val) ? str_to_double(str_trim(json_str(where->val)), &number)
                                             : json_to_double(where->val, &number);

    if (err || (has_range &&
                (number < field->min_double || (field->max_double >= field->min_double && number > field->max_double))))
        return wrong(load, field, where, NULL, NULL);
    *out = number;
    return true;
}

/* Text, or a number's digits; memory of the arena or the document. */
static bool read_text(struct conf_load *load, yyjson_val *val, struct str *out)
{
    char digits[NUMBER_MAX];

    if (yyjson_is_str(val)) {
        *out = json_str(val);
        return true;
    }
    if (!json_is_number(val))
        return false;
    *out = arena_str(&load->conf->arena, json_number_text(val, digits));
    return true;
}

static bool load_text(struct conf_load *load, struct str *out, const struct field *field, const struct where *where)
{
    struct why why = {0};
    struct str text;

    if (!read_text(load, where->val, &text))
        return wrong(load, field, where, NULL, NULL);
    if (field->type == FIELD_SECRET && secret_resolve(load, text, &text, &why) != ERR_OK)
        return wrong(load, field, where, why_text(&why), NULL);
    if (text.n < (size_t)field->min || (field->max && text.n > (size_t)field->max))
        return wrong(load, field, where, NULL, NULL);
    *out = text;
    return true;
}

static bool load_enum(struct conf_load *load, int *out, const struct field *field, const struct where *where)
{
    struct str text;

    if (!read_text(load, where->val, &text))
        return wrong(load, field, where, NULL, NULL);
    for (const struct choice *choice = field->of; choice->name; choice++) {
        struct str name = str_from(choice->name);

        if (field->exact_case ? str_eq(text, name) : str_eq_nocase(text, name)) {
            *out = choice->value;
            return true;
        }
    }
    return wrong(load, field, where, NULL, diag_nearest_choice(field->of, text));
}

static bool load_field_object(struct conf_load *load, void **out, const struct field *field, const struct where *where)
{
    const struct conf_at *at = where_at(load, where);
    const char *part = load->part;
    bool ok;

    if (field->skip)
        load->part = at->path;
    if (!yyjson_is_obj(where->val) && !field->object->from_other) {
        ok = wrong(load, field, where, NULL, NULL);
    } else {
        *out = load_object(load, field->object, where->val, at);
        ok = *out || field->skip;
    }
    load->part = part;
    if (ok && !*out && field->always)
        *out = load_object(load, field->object, NULL, at);
    return ok && (*out || !field->always);
}

/* Drops each item whose text member .unique has been seen before. */
static void drop_repeated(struct conf_load *load, struct conf_list *list, const struct field *field,
                          const struct conf_at **places)
{
    const struct field *member = field_find(field->object, str_from(field->unique));
    struct map seen = {0};
    size_t n = 0;

    if (!member || member->type != FIELD_STR)
        return;
    for (size_t i = 0; i < list->n; i++) {
        const struct str *name = (const struct str *)((char *)list->items[i] + member->offset);
        const struct conf_at *first = name->n ? map_get(&seen, *name) : NULL;

        if (first) {
            autobuf struct buf quoted = {0};

            json_add_string(&quoted, *name);
            conf_error(load, places[i], field->unique,
                       "found " STR_FMT ", which is the %s of %s already; expected another; "
                       "%s is not used",
                       STR_ARG(buf_str(&quoted)), field->unique, first->path, places[i]->path);
            continue;
        }
        if (name->n)
            map_put(&seen, *name, (void *)(uintptr_t)places[i]);
        places[n] = places[i];
        list->items[n++] = list->items[i];
    }
    list->n = n;
    map_fini(&seen);
}

/* ---- members ---- */

/* The last member of each name, for objects that are too large to look for it each time. */
static struct map last_members(yyjson_val *object)
{
    struct map last = {0};
    yyjson_obj_iter iter;

    yyjson_obj_iter_init(object, &iter);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter));)
        map_put(&last, json_str(key), key);
    return last;
}

static bool is_last_of_its_name(struct map *last, yyjson_val *key)
{
    return map_get(last, json_str(key)) == key;
}

/* A member that a later one of the same name replaces. */
static void report_repeated(struct conf_load *load, struct map *last, yyjson_val *key, const struct conf_at *at)
{
    yyjson_val *later = map_get(last, json_str(key));
    const struct conf_at *place = where_at(load, &(struct where){.parent = at, .key = json_str(key), .val = key});

    conf_warning(load, place, NULL,
                 "found a second time in line %" PRIu32 "; each key is expected once; the last one counts",
                 json_file_pos(load->conf->file, later).line);
}

/* The old form of a list: an object of name → item. */
static bool load_named(struct conf_load *load, struct conf_list *out, const struct field *field,
                       const struct where *where)
{
    const struct conf_at *at = where_at(load, where);
    const struct field *member = field_find(field->object, str_from(field->named));
    const char *part = load->part;
    yyjson_obj_iter iter;
    struct map last = last_members(where->val);

    assert(member && member->type == FIELD_STR);
    out->items = arena_alloc(&load->conf->arena, (last.n + 1) * sizeof *out->items);
    if (last.n)
        conf_note(load, at, NULL, "an object of \"%s\" and entry; a list of entries is the present form", field->named);
    yyjson_obj_iter_init(where->val, &iter);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter));) {
        yyjson_val *val = yyjson_obj_iter_get_val(key);
        const struct conf_at *item_at;
        void *item;

        if (!is_last_of_its_name(&last, key)) {
            report_repeated(load, &last, key, at);
            continue;
        }
        if (yyjson_is_null(val))
            continue;
        item_at = where_at(load, &(struct where){.parent = at, .key = json_str(key), .val = val});
        load->part = item_at->path;
        item = load_object(load, field->object, val, item_at);
        if (!item)
            continue;
        *(struct str *)((char *)item + member->offset) = json_str(key);
        out->items[out->n++] = item;
    }
    load->part = part;
    map_fini(&last);
    return true;
}

static bool load_list(struct conf_load *load, struct conf_list *out, const struct field *field,
                      const struct where *where)
{
    const struct conf_at *at = where_at(load, where), **places;
    const char *part = load->part;
    yyjson_arr_iter iter;
    size_t n = yyjson_arr_size(where->val), index = 0;

    if (field->named && yyjson_is_obj(where->val))
        return load_named(load, out, field, where);
    if (!yyjson_is_arr(where->val))
        return wrong(load, field, where, NULL, NULL);
    if (!n)
        return true;
    out->items = arena_alloc(&load->conf->arena, n * sizeof *out->items);
    places = arena_alloc(&load->conf->arena, n * sizeof *places);
    yyjson_arr_iter_init(where->val, &iter);
    for (yyjson_val *val; (val = yyjson_arr_iter_next(&iter)); index++) {
        const struct conf_at *item_at;
        void *item;

        if (yyjson_is_null(val))
            continue;
        item_at = where_at(load, &(struct where){.parent = at, .index = index, .val = val});
        load->part = item_at->path;
        item = load_object(load, field->object, val, item_at);
        if (item) {
            places[out->n] = item_at;
            out->items[out->n++] = item;
        }
    }
    load->part = part;
    if (field->no_duplicates || field->unique)
        drop_repeated(load, out, field, places);
    return true;
}

static bool load_texts(struct conf_load *load, struct conf_strs *out, const struct field *field,
                       const struct where *where)
{
    const struct conf_at *at = where_at(load, where);
    struct conf_strs texts = {0};
    yyjson_arr_iter iter;
    size_t index = 0;

    if (!yyjson_is_arr(where->val))
        return wrong(load, field, where, NULL, NULL);
    texts.items = arena_alloc(&load->conf->arena, (yyjson_arr_size(where->val) + 1) * sizeof *texts.items);
    yyjson_arr_iter_init(where->val, &iter);
    for (yyjson_val *val; (val = yyjson_arr_iter_next(&iter)); index++) {
        static const struct field item = {.type = FIELD_STR};

        if (yyjson_is_null(val))
            continue;
        if (read_text(load, val, &texts.items[texts.n]))
            texts.n++;
        else if (!wrong(load, is_strict(field) ? field : &item,
                        &(struct where){.parent = at, .index = index, .val = val}, NULL, NULL))
            return false;
    }
    *out = texts;
    return true;
}

static bool load_map(struct conf_load *load, struct conf_map *out, const struct field *field, const struct where *where)
{
    const struct conf_at *at = where_at(load, where);
    const char *part = load->part;
    yyjson_obj_iter iter;
    struct map last;

    if (!yyjson_is_obj(where->val))
        return wrong(load, field, where, NULL, NULL);
    last = last_members(where->val);
    out->items = arena_alloc(&load->conf->arena, (last.n + 1) * sizeof *out->items);
    yyjson_obj_iter_init(where->val, &iter);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter));) {
        yyjson_val *val = yyjson_obj_iter_get_val(key);
        struct conf_map_entry *entry = &out->items[out->n];

        if (!is_last_of_its_name(&last, key)) {
            report_repeated(load, &last, key, at);
            continue;
        }
        if (yyjson_is_null(val))
            continue;
        const struct conf_at *entry_at =
            where_at(load, &(struct where){.parent = at, .key = json_str(key), .val = val});

        *entry = (struct conf_map_entry){.key = json_str(key), .value = val, .at = *entry_at};
        load->part = entry_at->path;
        if (field->object)
            entry->value = load_object(load, field->object, val, entry_at);
        if (entry->value)
            out->n++;
    }
    load->part = part;
    map_fini(&last);
    return true;
}

static bool load_value(struct conf_load *load, void *object, const struct field *field, const struct where *where)
{
    void *out = (char *)object + field->offset;

    switch (field->type) {
    case FIELD_BOOL:
        return load_bool(load, out, field, where);
    case FIELD_INT:
    case FIELD_UINT:
        return load_integer(load, out, field, where);
    case FIELD_DOUBLE:
        return load_double(load, out, field, where);
    case FIELD_STR:
    case FIELD_SECRET:
        return load_text(load, out, field, where);
    case FIELD_ENUM:
        return load_enum(load, out, field, where);
    case FIELD_OBJECT:
        return load_field_object(load, out, field, where);
    case FIELD_LIST:
        return load_list(load, out, field, where);
    case FIELD_STRS:
        return load_texts(load, out, field, where);
    case FIELD_MAP:
        return load_map(load, out, field, where);
    case FIELD_JSON:
        *(const yyjson_val **)out = where->val;
        return true;
    case FIELD_IGNORED:
        if (field->note)
            conf_note(load, where_at(load, where), NULL, "has no effect; %s", field->note);
        return true;
    case FIELD_AT:
    case FIELD_END:
        break;
    }
    return true;
}

static void set_default(void *object, const struct field *field)
{
    void *out = (char *)object + field->offset;

    switch (field->type) {
    case FIELD_BOOL:
        *(bool *)out = field->def != 0;
        break;
    case FIELD_INT:
        *(int64_t *)out = field->def;
        break;
    case FIELD_UINT:
        *(uint32_t *)out = (uint32_t)field->def;
        break;
    case FIELD_DOUBLE:
        *(double *)out = field->def_double;
        break;
    case FIELD_STR:
    case FIELD_SECRET:
        *(struct str *)out = str_from(field->def_str);
        break;
    case FIELD_ENUM:
        *(int *)out = (int)field->def;
        break;
    case FIELD_OBJECT:
    case FIELD_LIST:
    case FIELD_STRS:
    case FIELD_MAP:
    case FIELD_JSON:
    case FIELD_AT:
    case FIELD_IGNORED:
    case FIELD_END:
        break;
    }
}

static void set_given(void *object, const struct field *field)
{
    if (field->has_offset)
        *(bool *)((char *)object + field->has_offset) = true;
}

static void report_unknown(struct conf_load *load, const struct conf_type *type, yyjson_val *key,
                           const struct conf_at *at)
{
    const struct conf_at *place = where_at(load, &(struct where){.parent = at, .key = json_str(key), .val = key});
    const char *nearest = diag_nearest_key(type, json_str(key));

    if (nearest)
        conf_warning(load, place, NULL, "unknown key, which has no effect; did you mean \"%s\"?", nearest);
    else
        conf_warning(load, place, NULL, "unknown key, which has no effect");
}

/* An old name: says so, and gives false if its value does not count because the present name is there too. */
static bool accept_old_name(struct conf_load *load, const void *object, const struct field *field,
                            const struct where *where)
{
    yyjson_val *now = json_get(head_of(object)->val, str_from(field->now));

    if (now && !yyjson_is_null(now)) {
        conf_warning(load, where_at(load, where), NULL, "has no effect, as \"%s\", its present name, is there too",
                     field->now);
        return false;
    }
    conf_note(load, where_at(load, where), NULL, "old name of \"%s\"%s%s", field->now, field->note ? "; " : "",
              field->note ? field->note : "");
    return true;
}

static bool load_member(struct conf_load *load, const struct conf_type *type, void *object, const struct field *field,
                        const struct where *where)
{
    if (yyjson_is_null(where->val))
        return true;
    if (field->now) {
        const struct field *present = field->equal_name ? NULL : field_present(type, field);

        if (!field->equal_name && !accept_old_name(load, object, field, where))
            return true;
        if (present)
            set_given(object, present);
    }
    set_given(object, field);
    return load_value(load, object, field, where);
}

/* What the file does not have: needed fields, objects of defaults, and what overrides give. */
static bool load_absent(struct conf_load *load, const struct conf_type *type, void *object, yyjson_val *val,
                        const struct conf_at *at)
{
    struct field_walk walk = {0};
    bool ok = true;

    for (const struct field *field; (field = field_next(&walk, type));) {
        struct where where = {.parent = at, .key = str_from(field->key)};
        yyjson_val *member = field->type == FIELD_AT ? NULL : json_get(val, where.key);
        bool is_there = member && !yyjson_is_null(member);

        if (field->type == FIELD_AT) {
            *(struct conf_at *)((char *)object + field->offset) = *at;
        } else if (conf_override_find(load, type, where.key, &where)) {
            ok &= load_member(load, type, object, field, &where);
        } else if (is_there || field->now) {
            continue;
        } else if (field->type == FIELD_OBJECT && (field->always || conf_has_overrides(load, field->object))) {
            const struct conf_at *place = where_at(load, &where);
            void *made = load_object(load, field->object, NULL, place);

            *(void **)((char *)object + field->offset) = made;
            ok &= made || field->skip;
        } else if (field->need) {
            bool has_old = false;

            for (const struct field *old = type->fields; old->type != FIELD_END; old++)
                if (old->now && strcmp(old->now, field->key) == 0 && json_get(val, str_from(old->key)))
                    has_old = true;
            if (!has_old) {
                autobuf struct buf text = {0};

                buf_add_z(&text, "missing; expected ");
                diag_expected(&text, field);
                add_consequence(load, &text, field);
                conf_report(load, CONF_ERROR, where_at(load, &where), buf_str(&text));
                ok = false;
            }
        }
    }
    return ok;
}

static bool load_members(struct conf_load *load, const struct conf_type *type, void *object, yyjson_val *val,
                         const struct conf_at *at)
{
    struct map last = last_members(val);
    yyjson_obj_iter iter;
    bool ok = true;

    yyjson_obj_iter_init(val, &iter);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter));) {
        const struct field *field = field_find(type, json_str(key));
        struct where where = {.parent = at, .key = json_str(key), .val = yyjson_obj_iter_get_val(key)};

        if (!is_last_of_its_name(&last, key)) {
            report_repeated(load, &last, key, at);
        } else if (!field) {
            if (!type->any_keys)
                report_unknown(load, type, key, at);
        } else if (!conf_override_find(load, type, where.key, &where)) {
            ok &= load_member(load, type, object, field, &where);
        }
    }
    map_fini(&last);
    return ok;
}

static bool run_checks(struct conf_load *load, const struct conf_type *type, void *object, const struct conf_at *at)
{
    if (type->base && !run_checks(load, type->base, object, at))
        return false;
    return !type->check || type->check(load, object, at) == ERR_OK;
}

static bool load_other(struct conf_load *load, const struct conf_type *type, void *object, yyjson_val *val,
                       const struct conf_at *at)
{
    enum err err = type->from_other ? type->from_other(load, object, val, at) : ERR_TYPE;

    if (err == ERR_TYPE) {
        autobuf struct buf text = {0};

        buf_add_z(&text, "found ");
        diag_found(&text, val);
        buf_printf(&text, "; expected an object%s; %s is not used", type->from_other ? " or its short form" : "",
                   load->part ? load->part : "the file");
        conf_report(load, CONF_ERROR, at, buf_str(&text));
    }
    return err == ERR_OK;
}

static void *load_object(struct conf_load *load, const struct conf_type *type, yyjson_val *val,
                         const struct conf_at *at)
{
    struct head *head = arena_zero(&load->conf->arena, sizeof *head + type->size);
    void *object = head + 1;
    struct field_walk walk = {0};
    bool ok;

    *head = (struct head){val, type};
    if (load->depth >= MAX_DEPTH) {
        conf_error(load, at, NULL, "found more than %d levels; it is not used", MAX_DEPTH);
        return NULL;
    }
    load->depth++;
    place_remember(load, type, val, at);
    for (const struct field *field; (field = field_next(&walk, type));)
        if (!field_present(type, field))
            set_default(object, field);
    if (val && !yyjson_is_obj(val)) {
        ok = load_other(load, type, object, val, at);
    } else {
        ok = load_members(load, type, object, val, at);
        ok = load_absent(load, type, object, val, at) && ok;
    }
    ok = ok && run_checks(load, type, object, at);
    load->depth--;
    return ok ? object : NULL;
}

/* ---- for check and from_other ---- */

void *conf_load_val(struct conf_load *load, const struct conf_type *type, const struct yyjson_val *val,
                    const struct conf_at *at)
{
    const char *part = load->part;
    void *object;

    if (!val || yyjson_is_null((yyjson_val *)(uintptr_t)val))
        return NULL;
    load->part = at->path;
    object = load_object(load, type, (yyjson_val *)(uintptr_t)val, at);
    load->part = part;
    return object;
}

const struct conf_at *conf_at_member(struct conf_load *load, const struct conf_at *at, const char *key, size_t index,
                                     const struct yyjson_val *val)
{
    return where_at(
        load, &(struct where){.parent = at, .key = str_from(key), .index = index, .val = (yyjson_val *)(uintptr_t)val});
}

struct arena *conf_arena(struct conf_load *load)
{
    return &load->conf->arena;
}

void conf_own(struct conf_load *load, void (*fini)(void *), void *thing)
{
    struct owned *owned = arena_alloc(&load->conf->arena, sizeof *owned);

    *owned = (struct owned){load->conf->owned, fini, thing};
    load->conf->owned = owned;
}

const char *conf_path(struct conf_load *load, struct str path)
{
    if (load->dir && path.n && path.p[0] != '/') {
        struct str beside = arena_printf(&load->conf->arena, "%s%s" STR_FMT, load->dir,
                                         str_ends(str_from(load->dir), STR("/")) ? "" : "/", STR_ARG(path));

        if (conf_file_exists(beside.p))
            return beside.p;
    }
    return arena_text(&load->conf->arena, path);
}

/* ---- loading ---- */

/* The overrides' texts as JSON values, so that they go the way of all others. */
static void make_overrides(struct conf_load *load)
{
    yyjson_mut_doc *doc;
    yyjson_mut_val *list;
    yyjson_arr_iter iter;
    size_t i = 0;

    if (!load->n_overrides)
        return;
    doc = yyjson_mut_doc_new(NULL);
    list = yyjson_mut_arr(doc);
    for (; i < load->n_overrides; i++)
        yyjson_mut_arr_add_strncpy(doc, list, load->overrides[i].text.p, load->overrides[i].text.n);
    yyjson_mut_doc_set_root(doc, list);
    load->conf->overrides = yyjson_mut_doc_imut_copy(doc, NULL);
    yyjson_mut_doc_free(doc);
    if (!load->conf->overrides)
        mem_die(load->n_overrides * sizeof(yyjson_val));
    load->override_vals = arena_alloc(&load->conf->arena, load->n_overrides * sizeof(yyjson_val *));
    yyjson_arr_iter_init(yyjson_doc_get_root(load->conf->overrides), &iter);
    for (i = 0; i < load->n_overrides; i++)
        load->override_vals[i] = yyjson_arr_iter_next(&iter);
}

struct conf *conf_load_json(const struct conf_type *type, const char *dir, struct json_file *file,
                            const struct conf_override *overrides, size_t n_overrides, struct problems *problems)
{
    struct conf *conf = mem_zero(sizeof *conf);
    struct conf_load load = {
        .conf = conf, .problems = problems, .dir = dir, .overrides = overrides, .n_overrides = n_overrides};
    yyjson_val *root = json_file_root(file);
    struct json_pos pos = json_file_pos(file, root);
    struct conf_at *at;

    atomic_init(&conf->refs, 1);
    arena_init(&conf->arena, 4096);
    conf->file = file;
    conf->type = type;
    at = arena_zero(&conf->arena, sizeof *at);
    *at = (struct conf_at){.file = arena_text(&conf->arena, str_from(json_file_name(file))),
                           .path = arena_text(&conf->arena, STR("")),
                           .line = pos.line,
                           .column = pos.column};
    make_overrides(&load);
    conf->root = load_object(&load, type, root, at);
    mem_free(load.places);
    if (conf->root)
        return conf;
    conf_unref(conf);
    return NULL;
}

struct conf *conf_load_file_with(const struct conf_type *type, const char *dir, const char *path,
                                 const struct conf_override *overrides, size_t n_overrides, struct problems *problems)
{
    struct json_file *file = conf_read_file(path, problems);

    return file ? conf_load_json(type, dir, file, overrides, n_overrides, problems) : NULL;
}

struct conf *conf_load_file(const struct conf_type *type, const char *dir, const char *path, struct problems *problems)
{
    return conf_load_file_with(type, dir, path, NULL, 0, problems);
}

struct conf *conf_load_text(const struct conf_type *type, const char *dir, const char *name, struct str text,
                            struct problems *problems)
{
    struct json_file *file;
    struct why why = {0};

    if (json_file_parse(&file, name, text, &why) != ERR_OK) {
        problem_add_reason(problems, name, why_text(&why));
        return NULL;
    }
    return conf_load_json(type, dir, file, NULL, 0, problems);
}

const struct json_file *conf_source(const struct conf *conf)
{
    return conf->file;
}

const void *conf_root(const struct conf *conf)
{
    return conf->root;
}

struct conf *conf_ref(struct conf *conf)
{
    atomic_fetch_add_explicit(&conf->refs, 1, memory_order_relaxed);
    return conf;
}

void conf_unref(struct conf *conf)
{
    if (!conf || atomic_fetch_sub_explicit(&conf->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (struct owned *owned = conf->owned; owned; owned = owned->next)
        owned->fini(owned->thing);
    json_file_free(conf->file);
    yyjson_doc_free(conf->overrides);
    arena_fini(&conf->arena);
    mem_free(conf);
}
