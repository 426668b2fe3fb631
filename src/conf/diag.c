/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a person reads about a configuration. One form everywhere: FILE:LINE:COLUMN: PATH: what was found; what is expected;
 * what happens now; did you mean.
 */
#include "conf/load.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

void problems_init(struct problems *problems)
{
    *problems = (struct problems){0};
    arena_init(&problems->arena, 4096);
    problems->last = &problems->first;
}

void problems_fini(struct problems *problems)
{
    arena_fini(&problems->arena);
    *problems = (struct problems){0};
}

/* Bytes from outside may be quoted in the text: none of them reaches a terminal as a control character. */
static const char *readable(struct arena *arena, struct str text)
{
    char *copy = arena_text(arena, text);

    for (char *p = copy; p < copy + text.n; p++)
        if ((uint8_t)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    return copy;
}

static void add(struct problems *problems, enum severity severity, const struct conf_at *at, struct str text)
{
    struct problem *problem = arena_zero(&problems->arena, sizeof *problem);

    problem->severity = severity;
    if (at) {
        problem->file = at->file ? arena_text(&problems->arena, str_from(at->file)) : NULL;
        problem->path = at->path ? arena_text(&problems->arena, str_from(at->path)) : NULL;
        problem->line = at->line;
        problem->column = at->column;
    }
    problem->text = readable(&problems->arena, text);
    *problems->last = problem;
    problems->last = &problem->next;
    if (severity == CONF_ERROR)
        problems->n_errors++;
    else if (severity == CONF_WARNING)
        problems->n_warnings++;
}

static PRINTF_LIKE(2, 0) void format(struct buf *out, const char *fmt, va_list args)
{
    va_list again;
    int n;

    va_copy(again, args);
    n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (n <= 0)
        return;
    vsnprintf((char *)buf_room(out, (size_t)n + 1), (size_t)n + 1, fmt, args);
    out->n += (size_t)n;
}

void problem_add(struct problems *problems, enum severity severity, const struct conf_at *at, const char *fmt, ...)
{
    autobuf struct buf text = {0};
    va_list args;

    va_start(args, fmt);
    format(&text, fmt, args);
    va_end(args);
    add(problems, severity, at, buf_str(&text));
}

void problem_set_example(struct problems *problems, const char *example)
{
    struct problem *problem = CONTAINER_OF(problems->last, struct problem, next);

    assert(problems->first);
    problem->example = arena_text(&problems->arena, str_from(example));
}

/* Takes "NUMBER:" off *text. */
static bool take_number(struct str *text, uint32_t *out)
{
    struct str part;
    uint64_t number;
    size_t colon = str_chr(*text, ':');

    part = str_cut(*text, colon);
    if (colon == text->n || str_to_u64(part, &number) || number > UINT32_MAX)
        return false;
    *out = (uint32_t)number;
    *text = str_skip(*text, colon + 1);
    return true;
}

void problem_add_reason(struct problems *problems, const char *file, const char *reason)
{
    struct conf_at at = {.file = file};
    struct str text = str_from(reason), name = str_from(file);

    if (str_starts(text, name) && text.n > name.n && text.p[name.n] == ':') {
        struct str rest = str_skip(text, name.n + 1);

        text = str_trim(rest);
        if (take_number(&rest, &at.line) && take_number(&rest, &at.column))
            text = str_trim(rest);
        else
            at.line = 0;
    }
    add(problems, CONF_ERROR, &at, text);
}

static const char *const severity_names[] = {[CONF_NOTE] = "note", [CONF_WARNING] = "warning", [CONF_ERROR] = "error"};

void problem_add_text(struct buf *out, const struct problem *problem)
{
    if (problem->file)
        buf_add_z(out, problem->file);
    if (problem->line)
        buf_printf(out, ":%" PRIu32 ":%" PRIu32, problem->line, problem->column);
    if (problem->file)
        buf_add_z(out, ": ");
    if (problem->path && *problem->path)
        buf_printf(out, "%s: ", problem->path);
    if (problem->severity != CONF_ERROR)
        buf_printf(out, "%s: ", severity_names[problem->severity]);
    buf_add_z(out, problem->text);
}

void problem_add_json(struct buf *out, const struct problem *problem)
{
    buf_printf(out, "{\"severity\":\"%s\",\"file\":", severity_names[problem->severity]);
    if (problem->file)
        json_add_string(out, str_from(problem->file));
    else
        buf_add_z(out, "null");
    if (problem->line)
        buf_printf(out, ",\"line\":%" PRIu32 ",\"column\":%" PRIu32, problem->line, problem->column);
    buf_add_z(out, ",\"path\":");
    json_add_string(out, str_from(problem->path ? problem->path : ""));
    buf_add_z(out, ",\"message\":");
    json_add_string(out, str_from(problem->text));
    if (problem->example) {
        buf_add_z(out, ",\"example\":");
        json_add_string(out, str_from(problem->example));
    }
    buf_add_z(out, "}");
}

void diag_found(struct buf *out, yyjson_val *val)
{
    if (yyjson_is_obj(val)) {
        buf_add_z(out, "an object");
    } else if (yyjson_is_arr(val)) {
        buf_add_z(out, "a list");
    } else if (yyjson_is_str(val) && yyjson_get_len(val) > 80) {
        struct str text = json_str(val);
        size_t n = 77;

        while (n && ((uint8_t)text.p[n] & 0xc0) == 0x80)
            n--;
        json_add_string(out, str_cut(text, n));
        out->n--; /* the quote goes behind the dots */
        buf_add_z(out, "…\"");
    } else {
        json_add_value(out, val);
    }
}

static void add_integer_range(struct buf *out, const struct field *field)
{
    int64_t min, max;
    bool has_max;

    field_range(field, &min, &max);
    has_max = max != INT64_MAX && !(field->type == FIELD_UINT && max == UINT32_MAX);
    buf_add_z(out, "an integer");
    if (has_max)
        buf_printf(out, " from %" PRId64 " to %" PRId64, min, max);
    else if (min != INT64_MIN)
        buf_printf(out, " of %" PRId64 " or more", min);
    if (field->unit)
        buf_printf(out, " (%s)", field->unit);
}

static void add_choices(struct buf *out, const struct choice *of)
{
    size_t n = 0;

    while (of[n].name)
        n++;
    if (n > 1)
        buf_add_z(out, "one of ");
    for (size_t i = 0; i < n; i++)
        buf_printf(out, "%s\"%s\"", i == 0 ? "" : i + 1 < n ? ", " : " or ", of[i].name);
}

void diag_expected(struct buf *out, const struct field *field)
{
    switch (field->type) {
    case FIELD_BOOL:
        buf_add_z(out, "true or false");
        return;
    case FIELD_INT:
    case FIELD_UINT:
        add_integer_range(out, field);
        return;
    case FIELD_DOUBLE:
        buf_add_z(out, "a number");
        if (field->max_double > field->min_double)
            buf_printf(out, " from %g to %g", field->min_double, field->max_double);
        if (field->unit)
            buf_printf(out, " (%s)", field->unit);
        return;
    case FIELD_STR:
    case FIELD_SECRET:
        buf_add_z(out, "text");
        if (field->max)
            buf_printf(out, " of %" PRId64 " to %" PRId64 " bytes", field->min, field->max);
        else if (field->min == 1)
            buf_add_z(out, " that is not empty");
        else if (field->min)
            buf_printf(out, " of at least %" PRId64 " bytes", field->min);
        return;
    case FIELD_ENUM:
        add_choices(out, field->of);
        return;
    case FIELD_OBJECT:
    case FIELD_MAP:
        buf_add_z(out, "an object");
        return;
    case FIELD_LIST:
        buf_add_z(out, "a list");
        return;
    case FIELD_STRS:
        buf_add_z(out, "a list of texts");
        return;
    case FIELD_JSON:
    case FIELD_AT:
    case FIELD_IGNORED:
    case FIELD_END:
        buf_add_z(out, "any value");
        return;
    }
}

bool diag_default(struct buf *out, const struct field *field)
{
    switch (field->type) {
    case FIELD_BOOL:
        buf_add_z(out, field->def ? "true" : "false");
        return true;
    case FIELD_INT:
    case FIELD_UINT:
        buf_printf(out, "%" PRId64, field->def);
        return true;
    case FIELD_DOUBLE:
        buf_printf(out, "%g", field->def_double);
        return true;
    case FIELD_STR:
        if (field->def_str)
            json_add_string(out, str_from(field->def_str));
        return field->def_str != NULL;
    case FIELD_ENUM: {
        const char *name = field->def_str ? field->def_str : choice_name(field->of, field->def);

        if (name)
            buf_printf(out, "\"%s\"", name);
        return name != NULL;
    }
    case FIELD_SECRET:
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
    return false;
}

/* How many edits still count as a slip. */
static unsigned tolerance(struct str word)
{
    return word.n <= 2 ? 0 : word.n <= 4 ? 1 : word.n <= 7 ? 2 : 3;
}

static bool is_nearer(struct str word, const char *candidate, unsigned *best)
{
    unsigned limit = tolerance(word), distance = str_distance(word, str_from(candidate), limit);

    if (distance > limit || distance >= *best)
        return false;
    *best = distance;
    return true;
}

const char *diag_nearest_key(const struct conf_type *type, struct str key)
{
    const char *nearest = NULL;
    unsigned best = UINT32_MAX;
    struct field_walk walk = {0};

    for (const struct field *field; (field = field_next(&walk, type));) {
        if (field->type == FIELD_AT || (field->type == FIELD_IGNORED && !field->note) || field->now)
            continue;
        if (is_nearer(key, field->key, &best))
            nearest = field->key;
    }
    return nearest;
}

const char *diag_nearest_choice(const struct choice *of, struct str name)
{
    const char *nearest = NULL;
    unsigned best = UINT32_MAX;

    for (; of->name; of++)
        if (is_nearer(name, of->name, &best))
            nearest = of->name;
    return nearest;
}

void conf_report(struct conf_load *load, enum severity severity, const struct conf_at *at, struct str text)
{
    add(load->problems, severity, at, text);
}

static PRINTF_LIKE(5, 0) void report(struct conf_load *load, enum severity severity, const struct conf_at *at,
                                     const char *key, const char *fmt, va_list args)
{
    autobuf struct buf text = {0};
    struct conf_at place = conf_place(load, at, key);

    format(&text, fmt, args);
    add(load->problems, severity, &place, buf_str(&text));
}

void conf_error(struct conf_load *load, const struct conf_at *at, const char *key, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    report(load, CONF_ERROR, at, key, fmt, args);
    va_end(args);
}

void conf_warning(struct conf_load *load, const struct conf_at *at, const char *key, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    report(load, CONF_WARNING, at, key, fmt, args);
    va_end(args);
}

void conf_note(struct conf_load *load, const struct conf_at *at, const char *key, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    report(load, CONF_NOTE, at, key, fmt, args);
    va_end(args);
}
