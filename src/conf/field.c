/* SPDX-License-Identifier: Apache-2.0 */
/* What a table of fields says: the walk over it and its bases, names, ranges, choices. */
#include "conf/load.h"

const struct field *field_next(struct field_walk *walk, const struct conf_type *type)
{
    if (!walk->type) {
        walk->type = type;
        walk->field = type->fields;
    } else {
        walk->field++;
    }
    for (;;) {
        if (walk->field->type == FIELD_END) {
            walk->type = walk->type->base;
            if (!walk->type)
                return NULL;
            walk->field = walk->type->fields;
        } else if (walk->type == type || walk->field->type == FIELD_AT ||
                   field_find(type, str_from(walk->field->key)) == walk->field) {
            return walk->field;
        } else {
            walk->field++;
        }
    }
}

const struct field *field_find(const struct conf_type *type, struct str key)
{
    for (; type; type = type->base)
        for (const struct field *field = type->fields; field->type != FIELD_END; field++)
            if (field->type != FIELD_AT && str_eq_z(key, field->key))
                return field;
    return NULL;
}

const struct field *field_present(const struct conf_type *type, const struct field *old)
{
    const struct field *present = old->now ? field_find(type, str_from(old->now)) : NULL;

    return present && present->offset == old->offset && present->type == old->type ? present : NULL;
}

const char *choice_name(const struct choice *of, int64_t value)
{
    for (; of->name; of++)
        if (of->value == value)
            return of->name;
    return NULL;
}

void field_range(const struct field *field, int64_t *min, int64_t *max)
{
    *min = field->min;
    *max = field->max;
    if (field->type == FIELD_UINT) {
        if (!field->max)
            *max = UINT32_MAX;
    } else if (field->min == 0 && field->max == 0) {
        *min = INT64_MIN;
        *max = INT64_MAX;
    } else if (field->max < field->min) {
        *max = INT64_MAX;
    }
}
