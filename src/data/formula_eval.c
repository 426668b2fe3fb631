/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"
#include "data/formula_tree.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

static NODISCARD enum err eval(struct formula_run *run, const struct expr *expr, struct value *out);

/* --- the run -------------------------------------------------------------------------------------------------------- */
enum err formula_fail(struct formula_run *run, enum err err, const char *fmt, ...)
{
    char text[400];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return why_set(run->why, err, "%s at offset %u", text, run->offset);
}

enum err formula_steps(struct formula_run *run, size_t n)
{
    if (n > FORMULA_STEPS - run->n_steps)
        return formula_fail(run, ERR_LIMIT, "the formula takes more than %d steps", FORMULA_STEPS);
    run->n_steps += (unsigned)n;
    return ERR_OK;
}

enum err formula_work(struct formula_run *run, size_t n_bytes)
{
    return formula_steps(run, 1 + n_bytes / FORMULA_BYTES_A_STEP);
}

enum err formula_made(struct formula_run *run, const struct value *value)
{
    size_t n = value_measure(value, FORMULA_BYTES);

    if (n > FORMULA_BYTES)
        return formula_fail(run, ERR_LIMIT, "a %s is larger than 64 KiB", value_kind_name(value->kind));
    return formula_work(run, n);
}

/* --- comparison ----------------------------------------------------------------------------------------------------- */
static int sign_of(int c)
{
    return (c > 0) - (c < 0);
}

static int compare_numbers(const struct value *a, const struct value *b, bool *unordered)
{
    if ((a->kind == VALUE_DOUBLE && isnan(a->d)) || (b->kind == VALUE_DOUBLE && isnan(b->d))) {
        *unordered = true;
        return 1;
    }
    if (a->kind == VALUE_DOUBLE && b->kind == VALUE_DOUBLE)
        return (a->d > b->d) - (a->d < b->d);
    if (a->kind == VALUE_DOUBLE)
        return -value_compare_mixed(value_integer(b), a->d);
    if (b->kind == VALUE_DOUBLE)
        return value_compare_mixed(value_integer(a), b->d);
    return (value_integer(a) > value_integer(b)) - (value_integer(a) < value_integer(b));
}

static enum err equal_objects(struct formula_run *run, const struct value *a, const struct value *b, bool *out)
{
    *out = a->object.n == b->object.n;
    for (size_t i = 0; *out && i < a->object.n; i++) {
        const struct value *other = value_member(b, a->object.keys[i]);
        enum err err = formula_steps(run, 1 + b->object.n / 16);

        if (err)
            return err;
        *out = other != NULL;
        if (other)
            err = formula_equal(run, &a->object.items[i], other, out);
        if (err)
            return err;
    }
    return ERR_OK;
}

enum err formula_equal(struct formula_run *run, const struct value *a, const struct value *b, bool *out)
{
    bool unordered = false;
    enum err err = formula_steps(run, 1);

    if (err)
        return err;
    if (value_is_number(a) && value_is_number(b)) {
        *out = compare_numbers(a, b, &unordered) == 0;
        return ERR_OK;
    }
    *out = a->kind == b->kind;
    if (!*out)
        return ERR_OK;
    if (a->kind == VALUE_TEXT || a->kind == VALUE_BYTES) {
        *out = str_eq(a->text, b->text);
        return *out ? formula_work(run, a->text.n) : ERR_OK;
    }
    if (a->kind == VALUE_OBJECT)
        return equal_objects(run, a, b, out);
    if (a->kind == VALUE_LIST) {
        *out = a->list.n == b->list.n;
        for (size_t i = 0; *out && i < a->list.n; i++) {
            err = formula_equal(run, &a->list.items[i], &b->list.items[i], out);
            if (err)
                return err;
        }
    }
    return ERR_OK;
}

static enum err order_lists(struct formula_run *run, const struct value *a, const struct value *b, int *out,
                            bool *unordered)
{
    size_t n = a->list.n < b->list.n ? a->list.n : b->list.n;

    for (size_t i = 0; i < n; i++) {
        bool equal;
        enum err err = formula_equal(run, &a->list.items[i], &b->list.items[i], &equal);

        if (err)
            return err;
        if (!equal)
            return formula_order(run, &a->list.items[i], &b->list.items[i], out, unordered);
    }
    *out = (a->list.n > b->list.n) - (a->list.n < b->list.n);
    return ERR_OK;
}

enum err formula_order(struct formula_run *run, const struct value *a, const struct value *b, int *out, bool *unordered)
{
    enum err err;

    *unordered = false;
    if (value_is_number(a) && value_is_number(b)) {
        *out = compare_numbers(a, b, unordered);
        return ERR_OK;
    }
    if (a->kind == b->kind && (a->kind == VALUE_TEXT || a->kind == VALUE_BYTES)) {
        *out = sign_of(str_cmp(a->text, b->text));
        return formula_work(run, a->text.n < b->text.n ? a->text.n : b->text.n);
    }
    if (a->kind == VALUE_LIST && b->kind == VALUE_LIST) {
        err = formula_steps(run, 1);
        return err ? err : order_lists(run, a, b, out, unordered);
    }
    return formula_fail(run, ERR_TYPE, "%s and %s have no order", value_kind_name(a->kind), value_kind_name(b->kind));
}

static enum err contains(struct formula_run *run, const struct value *a, const struct value *in, bool *out)
{
    struct str key;
    enum err err;

    *out = false;
    switch (in->kind) {
    case VALUE_TEXT:
        if (a->kind != VALUE_TEXT)
            break;
        *out = str_find(in->text, a->text, 0) != SIZE_MAX;
        return formula_work(run, in->text.n);
    case VALUE_BYTES:
        if (a->kind == VALUE_BYTES)
            *out = str_find(in->text, a->text, 0) != SIZE_MAX;
        else if (!value_is_integer(a))
            break;
        else if (value_integer(a) < 0 || value_integer(a) > 255)
            return formula_fail(run, ERR_RANGE, "a byte is 0 to 255");
        else
            *out = str_chr(in->text, (char)value_integer(a)) < in->text.n;
        return formula_work(run, in->text.n);
    case VALUE_LIST:
        for (size_t i = 0; i < in->list.n && !*out; i++) {
            err = formula_equal(run, a, &in->list.items[i], out);
            if (err)
                return err;
        }
        return ERR_OK;
    case VALUE_OBJECT:
        if (!value_key(a, run->arena, &key))
            break;
        *out = value_member(in, key) != NULL;
        return formula_steps(run, 1 + in->object.n / 16);
    case VALUE_NONE:
    case VALUE_BOOL:
    case VALUE_INT:
    case VALUE_DOUBLE:
        break;
    }
    return formula_fail(run, ERR_TYPE, "%s cannot be looked for in %s", value_kind_name(a->kind),
                        value_kind_name(in->kind));
}

static enum err compare(struct formula_run *run, enum formula_token op, const struct value *a, const struct value *b,
                        bool *out)
{
    bool unordered = false;
    int order = 0;
    enum err err;

    switch ((int)op) {
    case TOKEN_EQ:
    case TOKEN_NE:
        err = formula_equal(run, a, b, out);
        *out ^= op == TOKEN_NE;
        return err;
    case TOKEN_IS:
    case TOKEN_IS_NOT:
        err = formula_equal(run, a, b, out);
        *out = (*out && a->kind == b->kind) ^ (op == TOKEN_IS_NOT);
        return err;
    case TOKEN_IN:
    case TOKEN_NOT_IN:
        err = contains(run, a, b, out);
        *out ^= op == TOKEN_NOT_IN;
        return err;
    }
    err = formula_order(run, a, b, &order, &unordered);
    *out = !unordered && (op == TOKEN_LT   ? order < 0
                          : op == TOKEN_LE ? order <= 0
                          : op == TOKEN_GT ? order > 0
                                           : order >= 0);
    return err;
}

/* --- sequences ------------------------------------------------------------------------------------------------------ */
static enum err text_items(struct formula_run *run, struct str text, struct value *list)
{
    size_t n = utf8_count(text), i = 0;
    struct value *items;
    enum err err = formula_steps(run, n);

    if (err)
        return err;
    items = arena_alloc(run->arena, n * sizeof *items);
    for (size_t k = 0; k < n; k++) {
        size_t from = i;

        (void)utf8_next(text, &i);
        items[k] = value_of_text((struct str){text.p + from, i - from});
    }
    *list = value_of_list(items, n);
    return ERR_OK;
}

enum err formula_iterate(struct formula_run *run, const struct value *value, struct value *list)
{
    struct value *items;
    size_t n;
    enum err err;

    if (value->kind == VALUE_LIST) {
        *list = *value;
        return ERR_OK;
    }
    if (value->kind == VALUE_TEXT)
        return text_items(run, value->text, list);
    if (value->kind != VALUE_BYTES && value->kind != VALUE_OBJECT)
        return formula_fail(run, ERR_TYPE, "%s has no elements", value_kind_name(value->kind));
    n = value->kind == VALUE_BYTES ? value->text.n : value->object.n;
    err = formula_steps(run, n);
    if (err)
        return err;
    items = arena_alloc(run->arena, n * sizeof *items);
    for (size_t i = 0; i < n; i++)
        items[i] =
            value->kind == VALUE_BYTES ? value_of_int((uint8_t)value->text.p[i]) : value_of_text(value->object.keys[i]);
    *list = value_of_list(items, n);
    return ERR_OK;
}

static enum err as_index(struct formula_run *run, const struct value *value, int64_t *out)
{
    __int128 i;

    if (!value_is_integer(value))
        return formula_fail(run, ERR_TYPE, "an index is an integer, not %s", value_kind_name(value->kind));
    i = value_integer(value);
    *out = i > INT32_MAX ? INT32_MAX : i < -INT32_MAX ? -INT32_MAX : (int64_t)i; /* farther out than anything is long */
    return ERR_OK;
}

static enum err length_of(struct formula_run *run, const struct value *value, size_t *n)
{
    switch (value->kind) {
    case VALUE_TEXT:
        *n = utf8_count(value->text);
        return formula_work(run, value->text.n);
    case VALUE_BYTES:
        *n = value->text.n;
        return ERR_OK;
    case VALUE_LIST:
        *n = value->list.n;
        return ERR_OK;
    case VALUE_NONE:
    case VALUE_BOOL:
    case VALUE_INT:
    case VALUE_DOUBLE:
    case VALUE_OBJECT:
        break;
    }
    return formula_fail(run, ERR_TYPE, "%s has no [index]", value_kind_name(value->kind));
}

static enum err at_index(struct formula_run *run, const struct value *value, const struct value *index,
                         struct value *out)
{
    int64_t i;
    size_t n = 0, from;
    enum err err = as_index(run, index, &i);

    if (!err)
        err = length_of(run, value, &n);
    if (err)
        return err;
    if (i < 0)
        i += (int64_t)n;
    if (i < 0 || i >= (int64_t)n)
        return formula_fail(run, ERR_RANGE, "the index is out of range");
    if (value->kind == VALUE_LIST) {
        *out = value->list.items[i];
    } else if (value->kind == VALUE_BYTES) {
        *out = value_of_int((uint8_t)value->text.p[i]);
    } else {
        size_t to = from = utf8_offset(value->text, (size_t)i);

        (void)utf8_next(value->text, &to);
        *out = value_of_text((struct str){value->text.p + from, to - from});
    }
    return ERR_OK;
}

/* Which elements a slice takes: as Python's slice.indices(). */
struct range {
    int64_t from, step;
    size_t n;
};

static enum err slice_range(struct formula_run *run, const struct value *const parts[3], size_t length,
                            struct range *out)
{
    int64_t n = (int64_t)length, bounds[2], step = 1;
    enum err err;

    if (parts[2]->kind != VALUE_NONE) {
        err = as_index(run, parts[2], &step);
        if (err)
            return err;
        if (step == 0)
            return formula_fail(run, ERR_RANGE, "the step of a slice is not 0");
    }
    bounds[0] = step > 0 ? 0 : n - 1;
    bounds[1] = step > 0 ? n : -1;
    for (int k = 0; k < 2; k++) {
        int64_t low = step > 0 ? 0 : -1, high = step > 0 ? n : n - 1, i;

        if (parts[k]->kind == VALUE_NONE)
            continue;
        err = as_index(run, parts[k], &i);
        if (err)
            return err;
        i = i < 0 ? i + n : i;
        bounds[k] = i < low ? low : i > high ? high : i;
    }
    *out = (struct range){.from = bounds[0], .step = step};
    if (step > 0 && bounds[1] > bounds[0])
        out->n = (size_t)((bounds[1] - bounds[0] + step - 1) / step);
    else if (step < 0 && bounds[0] > bounds[1])
        out->n = (size_t)((bounds[0] - bounds[1] - step - 1) / -step);
    return ERR_OK;
}

static enum err slice_text(struct formula_run *run, struct str text, const struct range *range, struct value *out)
{
    struct value chars;
    size_t from, n = 0;
    char *p;
    enum err err;

    if (range->step == 1) {
        from = utf8_offset(text, (size_t)range->from);
        n = utf8_offset(str_skip(text, from), range->n);
        *out = value_of_text((struct str){text.p + from, n});
        return formula_work(run, text.n);
    }
    err = text_items(run, text, &chars);
    if (err)
        return err;
    p = arena_chars(run->arena, text.n + 1);
    for (size_t k = 0; k < range->n; k++) {
        struct str c = chars.list.items[range->from + (int64_t)k * range->step].text;

        memcpy(p + n, c.p, c.n);
        n += c.n;
    }
    *out = value_of_text((struct str){p, n});
    return ERR_OK;
}

enum err formula_slice(struct formula_run *run, const struct value *value, const struct value *from,
                       const struct value *to, const struct value *step, struct value *out)
{
    size_t n = 0;
    struct range range = {0};
    enum err err = length_of(run, value, &n);

    if (!err)
        err = slice_range(run, (const struct value *const[]){from, to, step}, n, &range);
    if (err)
        return err;
    if (value->kind == VALUE_TEXT)
        return range.n ? slice_text(run, value->text, &range, out) : (*out = value_of_text(STR("")), ERR_OK);
    err = value->kind == VALUE_LIST ? formula_steps(run, range.n) : formula_work(run, range.n);
    if (err)
        return err;
    if (value->kind == VALUE_BYTES) {
        char *p = arena_chars(run->arena, range.n + 1);

        for (size_t k = 0; k < range.n; k++)
            p[k] = value->text.p[range.from + (int64_t)k * range.step];
        *out = (struct value){.kind = VALUE_BYTES, .text = {p, range.n}};
    } else {
        struct value *items = arena_alloc(run->arena, range.n * sizeof *items);

        for (size_t k = 0; k < range.n; k++)
            items[k] = value->list.items[range.from + (int64_t)k * range.step];
        *out = value_of_list(items, range.n);
    }
    return ERR_OK;
}

/* --- nodes ---------------------------------------------------------------------------------------------------------- */
static enum err eval_name(struct formula_run *run, const struct expr *expr, struct value *out)
{
    for (const struct formula_scope *scope = run->scope; scope; scope = scope->outer)
        if (str_eq(scope->name, expr->name)) {
            *out = *scope->value;
            return ERR_OK;
        }
    if (!run->lookup || !run->lookup(run->arg, expr->name, out))
        return formula_fail(run, ERR_NOTFOUND, "unknown name \"" STR_FMT "\"", STR_ARG(str_cut(expr->name, 80)));
    return out->kind >= VALUE_TEXT ? formula_made(run, out) : ERR_OK;
}

static enum err eval_compare(struct formula_run *run, const struct expr *expr, struct value *out)
{
    struct value left, right;
    bool holds = true;
    const struct expr *child = expr->children;
    enum err err = eval(run, child, &left);

    for (child = child->next; child && !err && holds; child = child->next) {
        err = eval(run, child, &right);
        if (err)
            return err;
        run->offset = child->link_offset;
        err = compare(run, child->link, &left, &right, &holds);
        left = right;
    }
    *out = value_of_bool(holds);
    return err;
}

static enum err eval_binary(struct formula_run *run, const struct expr *expr, struct value *out)
{
    struct value left, right;
    const struct expr *child = expr->children;
    enum err err = eval(run, child, &left);

    for (child = child->next; child && !err; child = child->next) {
        err = eval(run, child, &right);
        if (err)
            return err;
        run->offset = child->link_offset;
        err = formula_binary(run, child->link, &left, &right, out);
        left = *out;
    }
    return err;
}

static enum err eval_logic(struct formula_run *run, const struct expr *expr, struct value *out)
{
    bool stop_at = expr->kind == EXPR_OR;

    for (const struct expr *child = expr->children; child; child = child->next) {
        enum err err = eval(run, child, out);

        if (err || value_is_true(out) == stop_at)
            return err;
    }
    return ERR_OK;
}

static enum err eval_unary(struct formula_run *run, const struct expr *expr, struct value *out)
{
    struct value value;
    enum err err = eval(run, expr->a, &value);

    if (err)
        return err;
    run->offset = expr->offset;
    if (value.kind == VALUE_DOUBLE && expr->op != TOKEN_TILDE) {
        *out = value_of_double(expr->op == TOKEN_MINUS ? -value.d : value.d);
        return ERR_OK;
    }
    if (!value_is_integer(&value))
        return formula_fail(run, ERR_TYPE, "%s has no sign or bits", value_kind_name(value.kind));
    *out = value_of_int(value_integer(&value));
    if (expr->op == TOKEN_TILDE)
        out->i = ~out->i;
    else if (expr->op == TOKEN_MINUS && __builtin_sub_overflow((__int128)0, out->i, &out->i))
        *out = value_of_double(0x1p127);
    return ERR_OK;
}

static enum err eval_index(struct formula_run *run, const struct expr *expr, struct value *out)
{
    struct value value, index;
    const struct value *member;
    struct str key;
    enum err err = eval(run, expr->a, &value);

    if (!err)
        err = eval(run, expr->b, &index);
    if (err)
        return err;
    run->offset = expr->offset;
    if (value.kind != VALUE_OBJECT)
        return at_index(run, &value, &index, out);
    if (!value_key(&index, run->arena, &key))
        return formula_fail(run, ERR_TYPE, "%s cannot be a key", value_kind_name(index.kind));
    member = value_member(&value, key);
    if (!member)
        return formula_fail(run, ERR_NOTFOUND, "the object has no member \"" STR_FMT "\"", STR_ARG(str_cut(key, 80)));
    *out = *member;
    return formula_steps(run, 1 + value.object.n / 16);
}

static enum err eval_slice(struct formula_run *run, const struct expr *expr, struct value *out)
{
    const struct expr *parts[3] = {expr->b, expr->c, expr->d};
    struct value value, bounds[3];
    enum err err = eval(run, expr->a, &value);

    for (int i = 0; i < 3 && !err; i++) {
        bounds[i] = value_none();
        if (parts[i])
            err = eval(run, parts[i], &bounds[i]);
    }
    if (err)
        return err;
    run->offset = expr->offset;
    return formula_slice(run, &value, &bounds[0], &bounds[1], &bounds[2], out);
}

/* All children, one after the other. */
static enum err eval_children(struct formula_run *run, const struct expr *expr, struct value **out)
{
    struct value *items = arena_alloc(run->arena, (expr->n ? expr->n : 1) * sizeof *items), *item = items;

    for (const struct expr *child = expr->children; child; child = child->next) {
        enum err err = eval(run, child, item++);

        if (err)
            return err;
    }
    run->offset = expr->offset;
    *out = items;
    return ERR_OK;
}

static enum err eval_object(struct formula_run *run, const struct expr *expr, struct value *out)
{
    struct value *items = NULL;
    struct str key;
    size_t n = 0;
    enum err err = eval_children(run, expr, &items);

    if (err)
        return err;
    *out = (struct value){.kind = VALUE_OBJECT};
    out->object.keys = arena_alloc(run->arena, (expr->n / 2 + 1) * sizeof *out->object.keys);
    out->object.items = arena_alloc(run->arena, (expr->n / 2 + 1) * sizeof *out->object.items);
    for (size_t i = 0; i < expr->n; i += 2) {
        const struct value *before;

        if (!value_key(&items[i], run->arena, &key))
            return formula_fail(run, ERR_TYPE, "%s cannot be a key", value_kind_name(items[i].kind));
        before = value_member(out, key);
        if (before) { /* place of the first, value of the last */
            out->object.items[before - out->object.items] = items[i + 1];
            continue;
        }
        out->object.keys[n] = key;
        out->object.items[n] = items[i + 1];
        out->object.n = ++n;
    }
    err = formula_steps(run, n * n / 64);
    return err ? err : formula_made(run, out);
}

static enum err eval_comprehension(struct formula_run *run, const struct expr *expr, struct value *out)
{
    struct value source, list, *items;
    struct formula_scope scope = {.outer = run->scope, .name = expr->name};
    size_t n = 0;
    enum err err = eval(run, expr->b, &source);

    if (err)
        return err;
    run->offset = expr->offset;
    err = formula_iterate(run, &source, &list);
    if (!err)
        err = formula_steps(run, list.list.n);
    if (err)
        return err;
    items = arena_alloc(run->arena, (list.list.n + 1) * sizeof *items);
    run->scope = &scope;
    for (size_t i = 0; i < list.list.n && !err; i++) {
        struct value keep = value_of_bool(true);

        scope.value = &list.list.items[i];
        if (expr->c)
            err = eval(run, expr->c, &keep);
        if (!err && value_is_true(&keep))
            err = eval(run, expr->a, &items[n++]);
    }
    run->scope = scope.outer;
    if (err)
        return err;
    run->offset = expr->offset;
    *out = value_of_list(items, n);
    return formula_made(run, out);
}

enum err formula_text_of(struct formula_run *run, const struct value *value, struct str *out)
{
    struct value text;

    *out = value_text(value, run->arena);
    text = value_of_text(*out);
    return formula_made(run, &text);
}

static enum err eval_ftext(struct formula_run *run, const struct expr *expr, struct value *out)
{
    struct value *parts = NULL;
    struct str *texts;
    size_t n = 0;
    char *p;
    enum err err = eval_children(run, expr, &parts);

    if (err)
        return err;
    texts = arena_alloc(run->arena, (expr->n + 1) * sizeof *texts);
    for (size_t i = 0; i < expr->n; i++) {
        err = formula_text_of(run, &parts[i], &texts[i]);
        if (err)
            return err;
        n += texts[i].n;
    }
    if (n > FORMULA_BYTES)
        return formula_fail(run, ERR_LIMIT, "a text is larger than 64 KiB");
    p = arena_chars(run->arena, n + 1);
    *out = value_of_text((struct str){p, n});
    for (size_t i = 0; i < expr->n; i++) {
        memcpy(p, texts[i].p, texts[i].n);
        p += texts[i].n;
    }
    return ERR_OK;
}

static enum err eval_call(struct formula_run *run, const struct expr *expr, struct value *out)
{
    struct value *args = NULL;
    enum err err = eval_children(run, expr, &args);

    return err ? err : expr->function->call(run, args, expr->n, out);
}

static enum err eval_method(struct formula_run *run, const struct expr *expr, struct value *out)
{
    struct value self, *args = NULL;
    struct str *names = NULL;
    size_t i = 0;
    enum err err = eval(run, expr->a, &self);

    if (!err)
        err = eval_children(run, expr, &args);
    if (err)
        return err;
    if (self.kind != VALUE_TEXT)
        return formula_fail(run, ERR_TYPE, "%s() is a method of texts, not of %s", expr->method->name,
                            value_kind_name(self.kind));
    err = formula_work(run, self.text.n);
    if (err)
        return err;
    if (expr->method->takes_names) {
        names = arena_alloc(run->arena, (expr->n + 1) * sizeof *names);
        for (const struct expr *child = expr->children; child; child = child->next)
            names[i++] = child->keyword;
    }
    return expr->method->call(run, self.text, args, names, expr->n, out);
}

static enum err eval_if(struct formula_run *run, const struct expr *expr, struct value *out)
{
    struct value condition;
    enum err err = eval(run, expr->b, &condition);

    return err ? err : eval(run, value_is_true(&condition) ? expr->a : expr->c, out);
}

static enum err eval_not(struct formula_run *run, const struct expr *expr, struct value *out)
{
    struct value value;
    enum err err = eval(run, expr->a, &value);

    if (!err)
        *out = value_of_bool(!value_is_true(&value));
    return err;
}

static enum err eval_power(struct formula_run *run, const struct expr *expr, struct value *out)
{
    struct value base, exponent;
    enum err err = eval(run, expr->a, &base);

    if (!err)
        err = eval(run, expr->b, &exponent);
    if (err)
        return err;
    run->offset = expr->offset;
    return formula_binary(run, TOKEN_POWER, &base, &exponent, out);
}

static enum err eval_list(struct formula_run *run, const struct expr *expr, struct value *out)
{
    struct value *items = NULL;
    enum err err = eval_children(run, expr, &items);

    if (err)
        return err;
    *out = value_of_list(items, expr->n);
    return formula_made(run, out);
}

static enum err eval(struct formula_run *run, const struct expr *expr, struct value *out)
{
    enum err err;

    run->offset = expr->offset;
    err = formula_steps(run, 1);
    if (err)
        return err;
    switch (expr->kind) {
    case EXPR_CONST:
        *out = expr->constant;
        return ERR_OK;
    case EXPR_NAME:
        return eval_name(run, expr, out);
    case EXPR_IF:
        return eval_if(run, expr, out);
    case EXPR_OR:
    case EXPR_AND:
        return eval_logic(run, expr, out);
    case EXPR_NOT:
        return eval_not(run, expr, out);
    case EXPR_COMPARE:
        return eval_compare(run, expr, out);
    case EXPR_BINARY:
        return eval_binary(run, expr, out);
    case EXPR_UNARY:
        return eval_unary(run, expr, out);
    case EXPR_POWER:
        return eval_power(run, expr, out);
    case EXPR_INDEX:
        return eval_index(run, expr, out);
    case EXPR_SLICE:
        return eval_slice(run, expr, out);
    case EXPR_CALL:
        return eval_call(run, expr, out);
    case EXPR_METHOD:
        return eval_method(run, expr, out);
    case EXPR_LIST:
        return eval_list(run, expr, out);
    case EXPR_COMPREHENSION:
        return eval_comprehension(run, expr, out);
    case EXPR_OBJECT:
        return eval_object(run, expr, out);
    case EXPR_FTEXT:
        return eval_ftext(run, expr, out);
    }
    return formula_fail(run, ERR_SYNTAX, "unknown node");
}

enum err formula_eval(const struct formula *formula, formula_lookup_fn *lookup, void *arg, struct arena *arena,
                      struct value *out, struct why *why)
{
    struct formula_run run = {.lookup = lookup, .arg = arg, .arena = arena, .why = why};

    return eval(&run, formula->root, out);
}
