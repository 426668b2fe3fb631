/* SPDX-License-Identifier: Apache-2.0 */
#include "data/path.h"
#include "base/utf8.h"

/*
 * A path is a list of steps. Evaluation walks until the first success; only *, slices and .. have several candidates and
 * go back. MEMBER after MEMBER, which is nearly every path in use, has its own loop.
 */
enum step_kind { STEP_MEMBER, STEP_INDEX, STEP_SLICE, STEP_ANY, STEP_DESCENDANTS };

struct step {
    enum step_kind kind;
    struct str name;  /* MEMBER */
    int64_t from, to; /* INDEX: from. SLICE: from ≤ i < to, negative from the end */
    bool has_from, has_to;
};

struct path {
    size_t n;
    bool members_only;
    struct step steps[];
};

/* A path with several ".." visits nodes again and again; what takes longer than this is no match. */
enum { MAX_STEPS = 512, MAX_VISITS = 1 << 21 };

/* --- compiling ---------------------------------------------------------------------------------------------------- */

struct parser {
    struct str text;
    size_t at;
    struct arena *arena;
    struct step *steps;
    size_t n;
    struct why *why;
};

static enum err fail(struct parser *p, enum err err, size_t at, const char *what)
{
    return why_set(p->why, err, "at offset %zu: %s", at, what);
}

static bool at_end(const struct parser *p)
{
    return p->at == p->text.n;
}

static char peek(const struct parser *p)
{
    return at_end(p) ? 0 : p->text.p[p->at];
}

static void skip_blanks(struct parser *p)
{
    while (peek(p) == ' ' || peek(p) == '\t')
        p->at++;
}

static NODISCARD enum err add_step(struct parser *p, struct step step)
{
    if (p->n == MAX_STEPS)
        return fail(p, ERR_LIMIT, p->at, "the path has too many steps");
    p->steps[p->n++] = step;
    return ERR_OK;
}

static NODISCARD enum err parse_quoted(struct parser *p, struct str *out)
{
    size_t start = p->at, n = 0;
    char quote = peek(p), *name = arena_chars(p->arena, p->text.n - p->at);

    for (p->at++; !at_end(p) && peek(p) != quote; p->at++) {
        if (peek(p) == '\\' && p->at + 1 < p->text.n)
            p->at++;
        name[n++] = peek(p);
    }
    if (at_end(p))
        return fail(p, ERR_SYNTAX, start, "the quote is not closed");
    p->at++;
    *out = (struct str){name, n};
    return ERR_OK;
}

/* What other dialects of JSONPath have and this one has not; NULL: nothing of it. */
static const char *foreign_syntax(struct str name)
{
    if (name.n > 1 && name.p[0] == '`')
        return "`parent` and its like are not supported";
    if (str_find(name, STR(" where "), 0) != SIZE_MAX)
        return "\"where\" is not supported";
    for (size_t i = 0; i + 1 < name.n; i++)
        if ((name.p[i] == '|' || name.p[i] == '&') && (name.p[i + 1] == '$' || (i && name.p[i - 1] == ' ')))
            return "unions of paths are not supported";
    return NULL;
}

/* A bare name: up to the next . [ ] " ' without blanks at its ends. */
static NODISCARD enum err parse_name(struct parser *p)
{
    size_t start = p->at;
    struct str name;
    const char *foreign;

    while (!at_end(p) && !strchr(".[]\"'", peek(p)))
        p->at++;
    name = str_trim((struct str){p->text.p + start, p->at - start});
    foreign = foreign_syntax(name);
    if (foreign)
        return fail(p, ERR_UNSUPPORTED, start, foreign);
    if (name.n == 0)
        return fail(p, ERR_SYNTAX, start, "a name is missing");
    if (!at_end(p) && peek(p) != '.' && peek(p) != '[')
        return fail(p, ERR_SYNTAX, p->at, "a name with brackets or quotes must stand in quotes itself: [\"name\"]");
    if (str_eq(name, STR("*")))
        return add_step(p, (struct step){STEP_ANY});
    return add_step(p, (struct step){STEP_MEMBER, .name = name});
}

static bool read_int(struct str s, int64_t *out)
{
    s = str_trim(s);
    return s.n && *s.p != '+' && str_to_i64(s, out) == ERR_OK;
}

/* [from:to], either may be left out. */
static bool read_slice(struct str inside, struct step *step)
{
    size_t colon = str_chr(inside, ':');
    struct str from = str_trim(str_cut(inside, colon)), to = str_trim(str_skip(inside, colon + 1));

    *step = (struct step){STEP_SLICE, .has_from = from.n != 0, .has_to = to.n != 0};
    return (!step->has_from || read_int(from, &step->from)) && (!step->has_to || read_int(to, &step->to));
}

static NODISCARD enum err parse_bracket(struct parser *p)
{
    size_t open = p->at++, start;
    struct step step = {STEP_MEMBER};
    struct str inside;
    enum err err;

    skip_blanks(p);
    start = p->at;
    if (peek(p) == '"' || peek(p) == '\'') {
        err = parse_quoted(p, &step.name);
        if (err)
            return err;
        skip_blanks(p);
        if (peek(p) == ',')
            return fail(p, ERR_UNSUPPORTED, p->at, "unions are not supported; one name or index stands in brackets");
        if (peek(p) != ']')
            return fail(p, ERR_SYNTAX, p->at, "\"]\" is missing behind the quoted name");
        p->at++;
        return add_step(p, step);
    }
    if (peek(p) == '?' || peek(p) == '(')
        return fail(p, ERR_UNSUPPORTED, start, "filter expressions are not supported");
    while (!at_end(p) && !strchr("[]\"'", peek(p)))
        p->at++;
    if (peek(p) != ']')
        return fail(p, ERR_SYNTAX, open, "the bracket is not closed");
    inside = str_trim((struct str){p->text.p + start, p->at - start});
    p->at++;
    if (inside.n == 0)
        return fail(p, ERR_SYNTAX, open, "nothing stands in the brackets");
    if (str_chr(inside, ',') < inside.n)
        return fail(p, ERR_UNSUPPORTED, start, "unions are not supported; one name or index stands in brackets");
    if (str_eq(inside, STR("*")))
        return add_step(p, (struct step){STEP_SLICE});
    if (read_int(inside, &step.from)) {
        step.kind = STEP_INDEX;
        return add_step(p, step);
    }
    if (str_chr(inside, ':') < inside.n) {
        if (!read_slice(inside, &step))
            return fail(p, ERR_UNSUPPORTED, start, "a slice is [from:to] with whole numbers; steps are not supported");
        return add_step(p, step);
    }
    step.name = inside;
    return add_step(p, step);
}

/* What follows a dot or begins a path. */
static NODISCARD enum err parse_step(struct parser *p)
{
    struct step step = {STEP_MEMBER};
    enum err err;

    skip_blanks(p);
    if (peek(p) == '[')
        return parse_bracket(p);
    if (peek(p) != '"' && peek(p) != '\'')
        return parse_name(p);
    err = parse_quoted(p, &step.name);
    return err ? err : add_step(p, step);
}

static NODISCARD enum err parse_rest(struct parser *p)
{
    enum err err = ERR_OK;

    while (!err) {
        skip_blanks(p);
        if (at_end(p))
            return ERR_OK;
        if (peek(p) == '[') {
            err = parse_bracket(p);
        } else if (peek(p) == '.') {
            p->at++;
            if (peek(p) == '.') {
                p->at++;
                err = add_step(p, (struct step){STEP_DESCENDANTS});
            }
            if (!err)
                err = parse_step(p);
        } else {
            err = fail(p, foreign_syntax(str_skip(p->text, p->at - 1)) ? ERR_UNSUPPORTED : ERR_SYNTAX, p->at,
                       "\".\" or \"[\" is expected here");
        }
    }
    return err;
}

enum err path_compile(struct path **out, struct arena *arena, struct str text, struct why *why)
{
    struct str trimmed = str_trim(text);
    struct step steps[MAX_STEPS];
    struct parser p = {.text = trimmed, .arena = arena, .steps = steps, .why = why};
    struct path *path;
    enum err err = ERR_OK;

    if (trimmed.n == 0)
        return why_set(why, ERR_SYNTAX, "the path is empty");
    if (*trimmed.p == '$' && (trimmed.n == 1 || strchr(".[ ", trimmed.p[1])))
        p.at = 1;
    else if (*trimmed.p != '.')
        err = parse_step(&p);
    if (!err)
        err = parse_rest(&p);
    if (err)
        return err;
    path = arena_alloc(arena, sizeof *path + p.n * sizeof *path->steps);
    *path = (struct path){.n = p.n, .members_only = true};
    for (size_t i = 0; i < p.n; i++) {
        path->steps[i] = steps[i];
        path->steps[i].name = arena_str(arena, steps[i].name);
        path->members_only &= steps[i].kind == STEP_MEMBER;
    }
    *out = path;
    return ERR_OK;
}

/* --- evaluating --------------------------------------------------------------------------------------------------- */

struct walk {
    const struct path *path;
    struct arena *chars;
    yyjson_val *found;
    struct str text; /* a character of a text */
    unsigned visits;
};

static bool walk_from(struct walk *w, size_t i, yyjson_val *val);

/* The n-th character of a text ends a path: what stands behind it never matches. */
static bool take_character(struct walk *w, size_t i, yyjson_val *val, int64_t n)
{
    struct str text = json_str(val);
    size_t start, end;

    if (n < 0)
        n += (int64_t)utf8_count(text);
    if (n < 0 || i + 1 != w->path->n)
        return false;
    start = utf8_offset(text, (size_t)n);
    if (start >= text.n)
        return false;
    end = start;
    (void)utf8_next(text, &end);
    w->text = arena_str(w->chars, (struct str){text.p + start, end - start});
    return true;
}

static bool walk_index(struct walk *w, size_t i, yyjson_val *val)
{
    int64_t n = w->path->steps[i].from, count;

    if (yyjson_is_str(val))
        return take_character(w, i, val, n);
    if (!yyjson_is_arr(val))
        return false;
    count = (int64_t)yyjson_arr_size(val);
    if (n < 0)
        n += count;
    return n >= 0 && n < count && walk_from(w, i + 1, yyjson_arr_get(val, (size_t)n));
}

static int64_t clip(int64_t n, int64_t count)
{
    if (n < 0)
        n += count;
    return n < 0 ? 0 : n > count ? count : n;
}

static bool walk_slice(struct walk *w, size_t i, yyjson_val *val)
{
    const struct step *step = &w->path->steps[i];
    int64_t count = yyjson_is_arr(val) ? (int64_t)yyjson_arr_size(val) : 1;
    int64_t from = step->has_from ? clip(step->from, count) : 0, to = step->has_to ? clip(step->to, count) : count;
    yyjson_val *item;

    if (from >= to)
        return false;
    if (!yyjson_is_arr(val))
        return walk_from(w, i + 1, val);
    item = yyjson_arr_get(val, (size_t)from);
    for (; from < to; from++, item = unsafe_yyjson_get_next(item))
        if (walk_from(w, i + 1, item))
            return true;
    return false;
}

static bool walk_members(struct walk *w, size_t i, yyjson_val *val)
{
    size_t n = yyjson_obj_size(val);
    yyjson_val *name = n ? unsafe_yyjson_get_first(val) : NULL;

    for (; n; n--, name = unsafe_yyjson_get_next(name + 1))
        if (walk_from(w, i + 1, name + 1))
            return true;
    return false;
}

/* The node itself before what is in it. Documents are at most JSON_MAX_DEPTH deep (json_read). */
static bool walk_descendants(struct walk *w, size_t i, yyjson_val *val, unsigned depth)
{
    yyjson_val *item;
    size_t n;

    if (walk_from(w, i + 1, val))
        return true;
    if (!yyjson_is_ctn(val) || depth == JSON_MAX_DEPTH)
        return false;
    n = unsafe_yyjson_get_len(val);
    item = unsafe_yyjson_get_first(val);
    for (; n; n--, item = unsafe_yyjson_get_next(item)) {
        if (yyjson_is_obj(val))
            item++;
        if (walk_descendants(w, i, item, depth + 1))
            return true;
    }
    return false;
}

static bool walk_from(struct walk *w, size_t i, yyjson_val *val)
{
    yyjson_val *member;

    if (i == w->path->n) {
        w->found = val;
        return true;
    }
    if (w->visits++ >= MAX_VISITS)
        return false;
    switch (w->path->steps[i].kind) {
    case STEP_MEMBER:
        member = json_get(val, w->path->steps[i].name);
        return member && walk_from(w, i + 1, member);
    case STEP_INDEX:
        return walk_index(w, i, val);
    case STEP_SLICE:
        return walk_slice(w, i, val);
    case STEP_ANY:
        return walk_members(w, i, val);
    case STEP_DESCENDANTS:
        return walk_descendants(w, i, val, 0);
    }
    return false;
}

yyjson_val *path_first(const struct path *path, yyjson_val *root, struct arena *chars, struct str *text_out)
{
    yyjson_val *val = root;

    *text_out = STR_NONE;
    if (LIKELY(path->members_only)) {
        for (size_t i = 0; i < path->n && val; i++)
            val = json_get(val, path->steps[i].name);
    } else {
        struct walk w = {.path = path, .chars = chars};

        val = root && walk_from(&w, 0, root) ? w.found : NULL;
        *text_out = w.text;
    }
    return yyjson_is_null(val) ? NULL : val;
}

struct str path_single_member(const struct path *path)
{
    return path->n == 1 && path->members_only ? path->steps[0].name : STR_NONE;
}

struct str path_last_name(const struct path *path)
{
    return path->n && path->steps[path->n - 1].kind == STEP_MEMBER ? path->steps[path->n - 1].name : STR_NONE;
}
