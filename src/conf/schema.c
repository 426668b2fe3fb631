/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON Schema (2020-12) of a descriptor, for editors. It describes the present form strictly; what is also accepted
 * (digits as text, other case of a choice) is left out, so that an editor proposes the one right spelling.
 */
#include "conf/describe.h"

#include <inttypes.h>

void type_set_fill(struct type_set *set, const struct conf_type *root)
{
    set->types[0] = root;
    set->n = 1;
    for (size_t i = 0; i < set->n; i++) {
        struct field_walk walk = {0};

        for (const struct field *field; (field = field_next(&walk, set->types[i]));) {
            bool is_known = !field->object;

            for (size_t j = 0; j < set->n && !is_known; j++)
                is_known = set->types[j] == field->object;
            if (!is_known && set->n < TYPES_MAX)
                set->types[set->n++] = field->object;
        }
    }
}

static void add_text_member(struct buf *out, const char *key, const char *text)
{
    buf_printf(out, ",\"%s\":", key);
    json_add_string(out, str_from(text));
}

static void add_reference(struct buf *out, const struct conf_type *type)
{
    buf_add_z(out, "\"$ref\":\"#/$defs/");
    buf_add_z(out, type->name);
    buf_add_z(out, "\"");
}

static void add_range(struct buf *out, const struct field *field)
{
    int64_t min, max;

    field_range(field, &min, &max);
    if (min != INT64_MIN)
        buf_printf(out, ",\"minimum\":%" PRId64, min);
    if (max != INT64_MAX)
        buf_printf(out, ",\"maximum\":%" PRId64, max);
}

static bool is_digits(const char *text)
{
    int64_t number;

    return str_to_i64(str_from(text), &number) == ERR_OK;
}

static void add_enum(struct buf *out, const struct choice *of)
{
    buf_add_z(out, "\"enum\":[");
    for (const struct choice *choice = of; choice->name; choice++) {
        if (choice != of)
            buf_add_z(out, ",");
        json_add_string(out, str_from(choice->name));
        if (is_digits(choice->name))
            buf_printf(out, ",%s", choice->name);
    }
    buf_add_z(out, "]");
}

/* The members of a field's own schema that say which values it takes. */
static void add_values(struct buf *out, const struct field *field)
{
    switch (field->type) {
    case FIELD_BOOL:
        buf_add_z(out, "\"type\":\"boolean\"");
        return;
    case FIELD_INT:
    case FIELD_UINT:
        buf_add_z(out, "\"type\":\"integer\"");
        add_range(out, field);
        return;
    case FIELD_DOUBLE:
        buf_add_z(out, "\"type\":\"number\"");
        if (field->max_double > field->min_double)
            buf_printf(out, ",\"minimum\":%g,\"maximum\":%g", field->min_double, field->max_double);
        return;
    case FIELD_STR:
    case FIELD_SECRET:
        buf_add_z(out, "\"type\":\"string\"");
        if (field->min && field->type == FIELD_STR)
            buf_printf(out, ",\"minLength\":%" PRId64, field->min);
        if (field->max && field->type == FIELD_STR)
            buf_printf(out, ",\"maxLength\":%" PRId64, field->max);
        return;
    case FIELD_ENUM:
        add_enum(out, field->of);
        return;
    case FIELD_OBJECT:
        add_reference(out, field->object);
        return;
    case FIELD_LIST:
        buf_add_z(out, "\"type\":\"array\",\"items\":{");
        add_reference(out, field->object);
        buf_add_z(out, "}");
        return;
    case FIELD_STRS:
        buf_add_z(out, "\"type\":\"array\",\"items\":{\"type\":\"string\"}");
        return;
    case FIELD_MAP:
        buf_add_z(out, "\"type\":\"object\"");
        if (field->object) {
            buf_add_z(out, ",\"additionalProperties\":{");
            add_reference(out, field->object);
            buf_add_z(out, "}");
        }
        return;
    case FIELD_JSON:
    case FIELD_IGNORED:
    case FIELD_AT:
    case FIELD_END:
        buf_add_z(out, "\"$comment\":\"any value\"");
        return;
    }
}

static void add_description(struct buf *out, const struct field *field)
{
    autobuf struct buf text = {0};

    if (field->doc)
        buf_add_z(&text, field->doc);
    if (field->unit)
        buf_printf(&text, "%sUnit: %s.", text.n ? " " : "", field->unit);
    if (field->now)
        buf_printf(&text, "%s%s name of %s.", text.n ? " " : "", field->equal_name ? "Another" : "Old", field->now);
    if (field->note)
        buf_printf(&text, "%s%s%s", text.n ? " " : "", field->type == FIELD_IGNORED ? "No effect: " : "", field->note);
    if (field->type == FIELD_SECRET)
        buf_printf(&text, "%sSecret: ${env:NAME} and ${file:PATH} are put in.", text.n ? " " : "");
    if (text.n) {
        buf_add_z(out, ",\"description\":");
        json_add_string(out, buf_str(&text));
    }
    if ((field->now && !field->equal_name) || field->type == FIELD_IGNORED)
        buf_add_z(out, ",\"deprecated\":true");
    if (field->type == FIELD_SECRET)
        buf_add_z(out, ",\"writeOnly\":true");
}

static void add_property(struct buf *out, const struct field *field)
{
    size_t before;

    json_add_string(out, str_from(field->key));
    buf_add_z(out, ":{");
    add_values(out, field);
    add_description(out, field);
    before = out->n;
    buf_add_z(out, ",\"default\":");
    if (field->need || field->now || !diag_default(out, field))
        out->n = before;
    buf_add_z(out, "}");
}

static void add_required(struct buf *out, const struct conf_type *type)
{
    struct field_walk walk = {0};
    bool is_first = true;

    for (const struct field *field; (field = field_next(&walk, type));) {
        bool has_old = false;
        struct field_walk others = {0};

        for (const struct field *old; (old = field_next(&others, type));)
            has_old = has_old || (old->now && strcmp(old->now, field->key) == 0);
        if (!field->need || has_old)
            continue;
        buf_add_z(out, is_first ? ",\"required\":[" : ",");
        json_add_string(out, str_from(field->key));
        is_first = false;
    }
    if (!is_first)
        buf_add_z(out, "]");
}

static void add_object(struct buf *out, const struct conf_type *type)
{
    struct field_walk walk = {0};
    bool is_first = true;

    buf_add_z(out, "\"type\":\"object\"");
    if (type->doc)
        add_text_member(out, "description", type->doc);
    buf_add_z(out, ",\"properties\":{");
    for (const struct field *field; (field = field_next(&walk, type));) {
        if (field->type == FIELD_AT)
            continue;
        if (!is_first)
            buf_add_z(out, ",");
        is_first = false;
        add_property(out, field);
    }
    buf_add_z(out, "}");
    add_required(out, type);
    if (!type->any_keys)
        buf_add_z(out, ",\"additionalProperties\":false");
}

void conf_schema(struct buf *out, const struct conf_type *type, const char *title)
{
    struct type_set set;

    type_set_fill(&set, type);
    buf_add_z(out, "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\"");
    add_text_member(out, "title", title);
    buf_add_z(out, ",");
    add_reference(out, type);
    buf_add_z(out, ",\"$defs\":{");
    for (size_t i = 0; i < set.n; i++) {
        if (i)
            buf_add_z(out, ",");
        json_add_string(out, str_from(set.types[i]->name));
        buf_add_z(out, ":{");
        if (set.types[i]->from_other) { /* the short form may be anything that is no object */
            buf_add_z(out, "\"anyOf\":[{\"type\":[\"string\",\"number\",\"boolean\",\"array\"]},{");
            add_object(out, set.types[i]);
            buf_add_z(out, "}]");
        } else {
            add_object(out, set.types[i]);
        }
        buf_add_z(out, "}");
    }
    buf_add_z(out, "}}\n");
}
