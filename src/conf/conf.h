/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONF_LOAD_H
#define IOTGW_CONF_LOAD_H
/*
 * Loading, comparing and describing configurations by their descriptors (include/iotgw/conf.h).
 *
 * A struct conf is immutable and counted; it owns its arena, the JSON text and everything compiled in it. Loading does
 * no I/O but reading the file (and secrets' files), may run on any thread, and reports all problems at once.
 */
#include "base/arena.h"
#include "data/json.h"
#include "iotgw/conf.h"

enum severity { CONF_NOTE, CONF_WARNING, CONF_ERROR };
struct problem {
    enum severity severity;
    const char *file, *path;
    uint32_t line, column;
    const char *text;    /* what was found, what is allowed, did you mean … */
    const char *example; /* what would be right, several lines; NULL: none */
    struct problem *next;
};
struct problems { /* in the order found; memory in the arena */
    struct arena arena;
    struct problem *first, **last;
    unsigned n_errors, n_warnings;
};
void problems_init(struct problems *problems);
void problems_fini(struct problems *problems);
/* What is not found by loading a file but belongs to the same report. at NULL: nowhere in particular. */
void problem_add(struct problems *problems, enum severity severity, const struct conf_at *at, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* Gives the problem added last an example. */
void problem_set_example(struct problems *problems, const char *example);
/* A reason that begins with "FILE:LINE:COLUMN: ", as json_file_read gives it. */
void problem_add_reason(struct problems *problems, const char *file, const char *reason);
/* "FILE:LINE:COLUMN: PATH: text", as `check` prints it; a warning's or note's text begins with that word. Without
 * the example. */
void problem_add_text(struct buf *out, const struct problem *problem);
/* The same as a JSON object: severity, file, line, column, path, message, and example if there is one. */
void problem_add_json(struct buf *out, const struct problem *problem);

/* A configuration file: JSON, or YAML where the path ends with ".yaml" or ".yml". Where a path with ".json" at its end is not
 * there, the same with ".yaml" is read; json_file_name says which it was. NULL with problems. */
struct json_file *conf_read_file(const char *path, struct problems *problems);
bool conf_file_exists(const char *path); /* either form */
/* Content that counts instead of what the file of that path holds, for all that the calling thread reads until n is 0. text.p NULL:
 * there is no such file. So a change is looked at as a whole before anything is written. */
struct conf_text {
    const char *path; /* as the configuration makes it: directory and name */
    struct str text;
};
void conf_read_instead(const struct conf_text *texts, size_t n);

struct conf;
/* The object of type, from a file (path) or from text (name stands in the reports). dir: the configuration's directory. NULL with
 * problems if nothing of it can be used. */
struct conf *conf_load_file(const struct conf_type *type, const char *dir, const char *path, struct problems *problems);
struct conf *conf_load_text(const struct conf_type *type, const char *dir, const char *name, struct str text,
                            struct problems *problems);
/* A value from elsewhere that goes before the file's: for member key of every object of that type (which is made if the
 * key of an OBJECT field is absent). origin stands in the reports ("environment variable TB_GW_PORT"). */
struct conf_override {
    const struct conf_type *type;
    const char *key;
    struct str text;
    const char *origin;
};
struct conf *conf_load_file_with(const struct conf_type *type, const char *dir, const char *path,
                                 const struct conf_override *overrides, size_t n_overrides, struct problems *problems);
/* An already parsed file, which it takes over also if it fails. */
struct conf *conf_load_json(const struct conf_type *type, const char *dir, struct json_file *file,
                            const struct conf_override *overrides, size_t n_overrides, struct problems *problems);
const void *conf_root(const struct conf *conf);
const struct json_file *conf_source(const struct conf *conf); /* what it was loaded from */
struct conf *conf_ref(struct conf *conf);
void conf_unref(struct conf *conf); /* NULL allowed */

/* Differences of two of the same type, field by field: calls fn with the path and whether that field may change live. */
typedef void conf_diff_fn(void *arg, const char *path, bool live);
unsigned conf_diff(const struct conf *before, const struct conf *after, conf_diff_fn *fn, void *arg);

void conf_schema(struct buf *out, const struct conf_type *type, const char *title);    /* JSON Schema 2020-12 */
void conf_reference(struct buf *out, const struct conf_type *type, const char *title); /* Markdown page */
#endif
