/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONF_H
#define IOTGW_CONF_H
/*
 * Configuration as a table: a descriptor lists the keys of one kind of JSON object, and from it come parsing, defaults,
 * checks, `iotgw check`, the JSON Schema, the reference page, masking of secrets, and the difference of two
 * configurations. A key that is read anywhere else than through its descriptor does not exist.
 *
 * The parsed object is a C struct in the configuration's arena, immutable once loaded. Every pointer in it lives as long
 * as the configuration.
 *
 * A wrong value is reported with file:line:column, path, what was found and what is allowed. Then: a field with .need, or
 * one that sets .strict, disables the smallest part that holds it (the nearest enclosing list item, or the whole file);
 * any other falls back to its default, which the report names. null counts as absent. Digits as text are taken for a
 * number, and a number for a text, where that is unambiguous. Unknown keys: one warning each, with the nearest known key.
 */
#include "iotgw/types.h"

struct yyjson_val;
struct conf_load; /* one loading in progress: file, arena, collected problems */

enum field_type {
    FIELD_END,
    FIELD_BOOL,   /* bool */
    FIELD_INT,    /* int64_t */
    FIELD_UINT,   /* uint32_t */
    FIELD_DOUBLE, /* double */
    FIELD_STR,    /* struct str; p NULL when absent without default */
    FIELD_SECRET, /* struct secret; ${env:NAME} and ${file:PATH} are resolved */
    FIELD_ENUM,   /* int: the value of the chosen name */
    FIELD_OBJECT, /* pointer to the struct of .type; NULL when absent (unless .always: defaults are filled in) */
    FIELD_LIST,   /* struct conf_list of pointers to structs of .type */
    FIELD_STRS,   /* struct conf_strs: list of text */
    FIELD_MAP,    /* struct conf_map: any member name → struct of .type (or JSON when .type is NULL) */
    FIELD_JSON,   /* const struct yyjson_val *: any value, raw numbers */
    FIELD_AT,     /* struct conf_at: where this object stands; has no key */
    FIELD_IGNORED /* accepted and without effect; .note says why, and check prints it */
};

struct conf_at {
    const char *file;
    const char *path;      /* "mapping[2].converter" */
    uint32_t line, column; /* from 1; 0: not in a file */
};
struct secret {
    struct str value; /* never printed: logs and status show *** */
};
struct conf_list {
    void **items;
    size_t n;
};
struct conf_strs {
    struct str *items;
    size_t n;
};
struct conf_map {
    struct conf_map_entry {
        struct str key;
        void *value;
        struct conf_at at;
    } * items;
    size_t n;
};

struct choice {
    const char *name; /* compared without case unless the field says .exact_case */
    int value;
};

struct field {
    const char *key;
    enum field_type type;
    size_t offset;
    const struct conf_type *object; /* OBJECT, LIST, MAP */
    const struct choice *of;        /* ENUM; ends with name NULL. Several names may share a value: the first is shown */
    const char *doc;                /* one or two sentences, for the reference and the schema */
    const char *unit;               /* "ms", "s", "bytes" … */
    int64_t def;                    /* BOOL, INT, UINT, ENUM */
    double def_double;
    const char *def_str;           /* STR, SECRET, ENUM by name in the docs */
    int64_t min, max;              /* INT, UINT; both 0: the type's own range. STR: length */
    double min_double, max_double; /* both 0: none */
    bool need;                     /* must be there */
    bool strict;                   /* a wrong value disables the object that holds it instead of falling back */
    bool live;                     /* a change can be applied without restarting the connector */
    bool always;                   /* OBJECT: when absent, an object of defaults */
    bool exact_case;               /* ENUM */
    bool no_duplicates;            /* LIST: .unique names the member text that must differ */
    const char *unique;
    const char *now;   /* deprecated name: the present key; check says so. Same offset: plain alias */
    const char *note;  /* IGNORED and deprecated: what to tell */
    size_t has_offset; /* of a bool that is set when the key is there; 0: none (so never the first member) */
    bool equal_name;   /* with .now: another name for the same, as good: nothing is said */
    bool skip;         /* OBJECT: a wrong one counts as absent, instead of disabling what holds it */
    const char *named; /* LIST: an old form is taken too, an object of name → item: its text member for the name */
};

struct conf_type {
    const char *name; /* "mqtt.mapping": section of the reference */
    size_t size;
    const struct field *fields; /* ends with FIELD_END */
    const char *doc;
    /* After the fields (or from_other, or the base's check): what depends on several of them, old forms, compiled
     * expressions. Not called if the object is disabled already. Anything but ERR_OK disables the object (and must have
     * been reported by conf_error). NULL allowed. */
    enum err (*check)(struct conf_load *load, void *object, const struct conf_at *at);
    /* For an item that may be something else than an object (the text "*"): fills object, which holds the defaults;
     * ERR_TYPE: not that either. */
    enum err (*from_other)(struct conf_load *load, void *object, const struct yyjson_val *val,
                           const struct conf_at *at);
    bool any_keys; /* unknown members are not warned about */
    const struct conf_type
        *base; /* further fields at the same offsets (keys common to every connector file), and its check */
};

#define FIELD_(T, m, k, t, ...)                                                                                        \
    {                                                                                                                  \
        .key = (k), .type = (t), .offset = offsetof(T, m), ##__VA_ARGS__                                               \
    }
#define F_BOOL(T, m, k, ...) FIELD_(T, m, k, FIELD_BOOL, ##__VA_ARGS__)
#define F_INT(T, m, k, ...) FIELD_(T, m, k, FIELD_INT, ##__VA_ARGS__)
#define F_UINT(T, m, k, ...) FIELD_(T, m, k, FIELD_UINT, ##__VA_ARGS__)
#define F_MS(T, m, k, ...) FIELD_(T, m, k, FIELD_UINT, .unit = "ms", ##__VA_ARGS__)
#define F_DOUBLE(T, m, k, ...) FIELD_(T, m, k, FIELD_DOUBLE, ##__VA_ARGS__)
#define F_STR(T, m, k, ...) FIELD_(T, m, k, FIELD_STR, ##__VA_ARGS__)
#define F_SECRET(T, m, k, ...) FIELD_(T, m, k, FIELD_SECRET, ##__VA_ARGS__)
#define F_ENUM(T, m, k, ...) FIELD_(T, m, k, FIELD_ENUM, ##__VA_ARGS__)
#define F_OBJECT(T, m, k, t, ...) FIELD_(T, m, k, FIELD_OBJECT, .object = (t), ##__VA_ARGS__)
#define F_LIST(T, m, k, t, ...) FIELD_(T, m, k, FIELD_LIST, .object = (t), ##__VA_ARGS__)
#define F_STRS(T, m, k, ...) FIELD_(T, m, k, FIELD_STRS, ##__VA_ARGS__)
#define F_MAP(T, m, k, t, ...) FIELD_(T, m, k, FIELD_MAP, .object = (t), ##__VA_ARGS__)
#define F_JSON(T, m, k, ...) FIELD_(T, m, k, FIELD_JSON, ##__VA_ARGS__)
#define F_AT(T, m)                                                                                                     \
    {                                                                                                                  \
        .key = "", .type = FIELD_AT, .offset = offsetof(T, m)                                                          \
    }
#define F_IGNORED(k, why)                                                                                              \
    {                                                                                                                  \
        .key = (k), .type = FIELD_IGNORED, .note = (why)                                                               \
    }
#define F_END                                                                                                          \
    {                                                                                                                  \
        .type = FIELD_END                                                                                              \
    }

/* For check and from_other. key: the member the report points at (NULL: the object). Formats as printf. */
void conf_error(struct conf_load *load, const struct conf_at *at, const char *key, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
void conf_warning(struct conf_load *load, const struct conf_at *at, const char *key, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* Something worth knowing that is nothing wrong: an old form, a key without effect. */
void conf_note(struct conf_load *load, const struct conf_at *at, const char *key, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* For old forms: loads val, which stands in the same file, by another descriptor. Gives NULL if it is disabled (and reported)
 * or, as nothing is to be reported then, absent. at: of val, as member_at gives it. */
void *conf_load_val(struct conf_load *load, const struct conf_type *type, const struct yyjson_val *val,
                    const struct conf_at *at);
/* Where member key of the object at stands, as the reports name it; key NULL: the object. */
struct conf_at conf_place(struct conf_load *load, const struct conf_at *at, const char *key);
/* Where a member (key) or item (key NULL) of the object or list at stands. */
const struct conf_at *conf_at_member(struct conf_load *load, const struct conf_at *at, const char *key, size_t index,
                                     const struct yyjson_val *val);
/* The configuration's arena: what check compiles lives there. */
struct arena *conf_arena(struct conf_load *load);
/* Something compiled that is not memory of the arena (a regex): freed with the configuration. */
void conf_own(struct conf_load *load, void (*fini)(void *), void *thing);
/* Resolves a path of the configuration: relative to the configuration's directory if it exists there, else as given. */
const char *conf_path(struct conf_load *load, struct str path);
#endif
