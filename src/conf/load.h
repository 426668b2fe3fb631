/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONF_PRIVATE_H
#define IOTGW_CONF_PRIVATE_H
/* What the files of this room share: the configuration itself, one loading in progress, and the walk over fields. */
#include "conf/conf.h"

#include <stdatomic.h>

/* Stands before each loaded object. */
struct head {
    yyjson_val *val; /* NULL: made of defaults */
    const struct conf_type *type;
};
static inline struct head *head_of(const void *object)
{
    return (struct head *)(uintptr_t)object - 1;
}

struct owned {
    struct owned *next;
    void (*fini)(void *);
    void *thing;
};

struct conf {
    _Atomic(unsigned) refs;
    struct arena arena;
    struct json_file *file;
    yyjson_doc *overrides; /* the texts of the overrides as JSON values */
    const struct conf_type *type;
    void *root;
    struct owned *owned; /* newest first */
};

struct conf_load {
    struct conf *conf;
    struct problems *problems;
    const char *dir; /* the configuration's directory; NULL: the working directory */
    const struct conf_override *overrides;
    size_t n_overrides;
    yyjson_val **override_vals;
    /* What a wrong value that cannot be replaced disables, for the reports: "mapping[2]"; NULL: the whole file. */
    const char *part;
    unsigned depth;
    /* Objects loaded so far: conf_error finds the position of their members by it. */
    struct place {
        const char *path;
        yyjson_val *val;
        const struct conf_type *type;
    } * places;
    size_t n_places, cap_places;
};

/* A value about to be loaded: a member or an item of what stands at. */
struct where {
    const struct conf_at *parent;
    struct str key; /* p NULL: item number index */
    size_t index;
    yyjson_val *val;    /* its position is the place; NULL: the parent's */
    const char *origin; /* NULL: the file */
};
/* In the arena, with the path. */
const struct conf_at *where_at(struct conf_load *load, const struct where *where);

/* Puts value and origin of an override of that member into where; false if there is none. */
bool conf_override_find(const struct conf_load *load, const struct conf_type *type, struct str key,
                        struct where *where);

bool conf_has_overrides(const struct conf_load *load, const struct conf_type *type);
/* An object is being loaded: from now on its members can be found by its path. */
void place_remember(struct conf_load *load, const struct conf_type *type, yyjson_val *val, const struct conf_at *at);

void conf_report(struct conf_load *load, enum severity severity, const struct conf_at *at, struct str text);
/* "12", "\"abc\"", "an object": for the reports; long text is cut. */
void diag_found(struct buf *out, yyjson_val *val);
/* "an integer from 1 to 65535", "one of \"a\" or \"b\"". */
void diag_expected(struct buf *out, const struct field *field);
/* The default in words; false if the field has none worth naming. */
bool diag_default(struct buf *out, const struct field *field);
/* The nearest known key of type, or NULL. */
const char *diag_nearest_key(const struct conf_type *type, struct str key);
const char *diag_nearest_choice(const struct choice *of, struct str name);

/* ${env:NAME} and ${file:PATH} put in; memory of the arena. */
NODISCARD enum err secret_resolve(struct conf_load *load, struct str text, struct str *out, struct why *why);

/* Range of an integer field, the type's own filled in. */
void field_range(const struct field *field, int64_t *min, int64_t *max);
/* The present field that key stands for as an old name at the same place; NULL: it has a place of its own. */
const struct field *field_present(const struct conf_type *type, const struct field *old);
const struct field *field_find(const struct conf_type *type, struct str key);
const char *choice_name(const struct choice *of, int64_t value); /* the first of that value; NULL */
/* The type's fields, then its bases': struct field_walk walk = {0}; while ((field = field_next(&walk, type))) … */
struct field_walk {
    const struct conf_type *type;
    const struct field *field;
};
/* NULL at the end. A base's field whose key the type has itself is left out. */
const struct field *field_next(struct field_walk *walk, const struct conf_type *type);
#endif
