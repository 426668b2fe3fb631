/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"
#include "data/formula_tree.h"

#include <limits.h>
#include <locale.h>
#include <pthread.h>
#include <wctype.h>

/* The methods of texts of expressions.md 6.3. Characters are code points; an invalid byte counts as one and stays itself. */

/* --- characters ----------------------------------------------------------------------------------------------------- */
static locale_t unicode; /* set once; stays 0 where there is no such locale: then only ASCII letters have a case */
static pthread_once_t unicode_once = PTHREAD_ONCE_INIT;

static void make_unicode(void)
{
    unicode = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
}

static uint32_t to_upper(uint32_t c)
{
    if (c < 0x80)
        return c >= 'a' && c <= 'z' ? c - 32 : c;
    return unicode && c != UINT32_MAX ? (uint32_t)towupper_l((wint_t)c, unicode) : c;
}

static uint32_t to_lower(uint32_t c)
{
    if (c < 0x80)
        return c >= 'A' && c <= 'Z' ? c + 32 : c;
    return unicode && c != UINT32_MAX ? (uint32_t)towlower_l((wint_t)c, unicode) : c;
}

static bool is_cased(uint32_t c)
{
    return to_upper(c) != c || to_lower(c) != c || c == 0xdf;
}

static bool is_space(uint32_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/* --- text being made ------------------------------------------------------------------------------------------------ */
struct maker {
    struct formula_run *run;
    char *p;
    size_t n, cap;
};

static enum err maker_room(struct maker *maker, size_t more)
{
    size_t cap = maker->cap ? maker->cap : 64;
    char *p;
    enum err err;

    if (maker->n + more > FORMULA_BYTES)
        return formula_fail(maker->run, ERR_LIMIT, "a text is larger than 64 KiB");
    if (maker->n + more <= maker->cap)
        return ERR_OK;
    while (cap < maker->n + more)
        cap *= 2;
    err = formula_work(maker->run, cap);
    if (err)
        return err;
    p = arena_chars(maker->run->arena, cap);
    if (maker->n)
        memcpy(p, maker->p, maker->n);
    maker->p = p;
    maker->cap = cap;
    return ERR_OK;
}

static NODISCARD enum err put(struct maker *maker, struct str s)
{
    enum err err = maker_room(maker, s.n);

    if (!err && s.n) {
        memcpy(maker->p + maker->n, s.p, s.n);
        maker->n += s.n;
    }
    return err;
}

static NODISCARD enum err put_char(struct maker *maker, uint32_t c)
{
    char text[4];

    return put(maker, (struct str){text, utf8_put(text, c)});
}

static enum err made(const struct maker *maker, struct value *out)
{
    *out = value_of_text(maker->n ? (struct str){maker->p, maker->n} : STR(""));
    return ERR_OK;
}

/* --- arguments ------------------------------------------------------------------------------------------------------ */
static enum err need_text(struct formula_run *run, const char *method, const struct value *value, struct str *out)
{
    if (value->kind != VALUE_TEXT)
        return formula_fail(run, ERR_TYPE, "%s() takes a text, not %s", method, value_kind_name(value->kind));
    *out = value->text;
    return ERR_OK;
}

static enum err need_int(struct formula_run *run, const char *method, const struct value *value, int64_t *out)
{
    __int128 i;

    if (!value_is_integer(value))
        return formula_fail(run, ERR_TYPE, "%s() takes an integer, not %s", method, value_kind_name(value->kind));
    i = value_integer(value);
    *out = i > INT32_MAX ? INT32_MAX : i < INT32_MIN ? INT32_MIN : (int64_t)i;
    return ERR_OK;
}

/* --- case ----------------------------------------------------------------------------------------------------------- */
enum fold { FOLD_UPPER, FOLD_LOWER, FOLD_TITLE, FOLD_CAPITALIZE };

static enum err put_folded(struct maker *maker, uint32_t c, bool upper, bool is_title)
{
    if (c == 0xdf && upper) /* ß has no capital of one character */
        return put(maker, is_title ? STR("Ss") : STR("SS"));
    return put_char(maker, upper ? to_upper(c) : to_lower(c));
}

static enum err fold(struct formula_run *run, struct str self, enum fold how, struct value *out)
{
    struct maker maker = {.run = run};
    bool after_letter = false;

    pthread_once(&unicode_once, make_unicode);
    for (size_t i = 0; i < self.n;) {
        size_t from = i;
        uint32_t c = utf8_next(self, &i);
        bool upper = how == FOLD_UPPER || (how == FOLD_TITLE && !after_letter) || (how == FOLD_CAPITALIZE && from == 0);
        enum err err = c == UINT32_MAX ? put(&maker, (struct str){self.p + from, 1})
                                       : put_folded(&maker, c, upper, how != FOLD_UPPER);

        if (err)
            return err;
        after_letter = c != UINT32_MAX && is_cased(c);
    }
    return made(&maker, out);
}

#define METHOD(name)                                                                                                   \
    static enum err name(struct formula_run *run, struct str self, const struct value *args, const struct str *names,  \
                         size_t n, struct value *out)
#define UNUSED_ARGS (void)args, (void)names, (void)n

METHOD(method_upper)
{
    UNUSED_ARGS;
    return fold(run, self, FOLD_UPPER, out);
}

METHOD(method_lower)
{
    UNUSED_ARGS;
    return fold(run, self, FOLD_LOWER, out);
}

METHOD(method_title)
{
    UNUSED_ARGS;
    return fold(run, self, FOLD_TITLE, out);
}

METHOD(method_capitalize)
{
    UNUSED_ARGS;
    return fold(run, self, FOLD_CAPITALIZE, out);
}

/* --- strip ---------------------------------------------------------------------------------------------------------- */
/* chars.p NULL: white space. */
static bool is_stripped(struct str chars, struct str one)
{
    size_t i = 0;
    uint32_t c = utf8_next(one, &i);

    if (!chars.p)
        return is_space(c);
    for (i = 0; i < chars.n;) {
        size_t from = i;

        (void)utf8_next(chars, &i);
        if (str_eq(one, (struct str){chars.p + from, i - from}))
            return true;
    }
    return false;
}

static struct str last_char(struct str s)
{
    size_t n = 1, i;

    while (n < 4 && n < s.n && ((unsigned char)s.p[s.n - n] & 0xc0) == 0x80)
        n++;
    i = s.n - n;
    if (utf8_next(s, &i) == UINT32_MAX || i != s.n) /* not the whole of a valid character: one byte */
        n = 1;
    return (struct str){s.p + s.n - n, n};
}

static enum err strip(struct formula_run *run, struct str self, const struct value *args, size_t n, bool left,
                      bool right, struct value *out)
{
    struct str chars = STR_NONE;
    enum err err = ERR_OK;

    if (n && args->kind != VALUE_NONE) {
        err = need_text(run, "strip", args, &chars);
        chars.p = chars.p ? chars.p : "";
    }
    if (!err)
        err = formula_steps(run, self.n * (chars.n + 1) / 256);
    if (err)
        return err;
    while (left && self.n) {
        size_t i = 0;

        (void)utf8_next(self, &i);
        if (!is_stripped(chars, str_cut(self, i)))
            break;
        self = str_skip(self, i);
    }
    while (right && self.n) {
        struct str c = last_char(self);

        if (!is_stripped(chars, c))
            break;
        self.n -= c.n;
    }
    *out = value_of_text(self);
    return ERR_OK;
}

METHOD(method_strip)
{
    (void)names;
    return strip(run, self, args, n, true, true, out);
}

METHOD(method_lstrip)
{
    (void)names;
    return strip(run, self, args, n, true, false, out);
}

METHOD(method_rstrip)
{
    (void)names;
    return strip(run, self, args, n, false, true, out);
}

/* --- replace, split, join ------------------------------------------------------------------------------------------- */
/* Between all characters, and at both ends. */
static enum err insert_everywhere(struct maker *maker, struct str self, struct str with, int64_t most)
{
    enum err err = most-- > 0 ? put(maker, with) : ERR_OK;

    for (size_t i = 0; i < self.n && !err;) {
        size_t from = i;

        (void)utf8_next(self, &i);
        err = put(maker, (struct str){self.p + from, i - from});
        if (!err && most-- > 0)
            err = put(maker, with);
    }
    return err;
}

METHOD(method_replace)
{
    struct maker maker = {.run = run};
    struct str what = STR_NONE, with = STR_NONE;
    int64_t most = INT64_MAX;
    size_t at = 0, hit;
    enum err err = need_text(run, "replace", &args[0], &what);

    (void)names;
    if (!err)
        err = need_text(run, "replace", &args[1], &with);
    if (!err && n > 2)
        err = need_int(run, "replace", &args[2], &most);
    if (err)
        return err;
    most = most < 0 ? INT64_MAX : most;
    if (what.n == 0) {
        err = insert_everywhere(&maker, self, with, most);
        return err ? err : made(&maker, out);
    }
    while (most-- > 0 && (hit = str_find(self, what, at)) != SIZE_MAX) {
        err = put(&maker, (struct str){self.p + at, hit - at});
        if (!err)
            err = put(&maker, with);
        if (err)
            return err;
        at = hit + what.n;
    }
    err = put(&maker, str_skip(self, at));
    return err ? err : made(&maker, out);
}

static struct str skip_space(struct str s)
{
    size_t i = 0, from = 0;

    while (i < s.n) {
        from = i;
        if (!is_space(utf8_next(s, &i)))
            return str_skip(s, from);
    }
    return str_skip(s, s.n);
}

/* Takes the next part off *rest, which starts with no space. */
static struct str take_word(struct str *rest)
{
    struct str whole = *rest;
    size_t i = 0, from = 0;

    while (i < whole.n) {
        from = i;
        if (is_space(utf8_next(whole, &i))) {
            *rest = skip_space(str_skip(whole, from));
            return str_cut(whole, from);
        }
    }
    *rest = str_skip(whole, whole.n);
    return whole;
}

/* With items NULL it only counts. */
static size_t split_space(struct str self, int64_t most, struct value *items)
{
    struct str rest = skip_space(self), part;
    size_t n = 0;

    while (rest.n) {
        if (most-- > 0) {
            part = take_word(&rest);
        } else { /* what is left stays as it is, white space at its end included */
            part = rest;
            rest.n = 0;
        }
        if (items)
            items[n] = value_of_text(part);
        n++;
    }
    return n;
}

static size_t split_by(struct str self, struct str by, int64_t most, struct value *items)
{
    size_t n = 0, at = 0, hit;

    for (;; n++) {
        hit = most-- > 0 ? str_find(self, by, at) : SIZE_MAX;
        if (items)
            items[n] = value_of_text((struct str){self.p + at, (hit == SIZE_MAX ? self.n : hit) - at});
        if (hit == SIZE_MAX)
            return n + 1;
        at = hit + by.n;
    }
}

METHOD(method_split)
{
    struct str by = STR_NONE;
    int64_t most = INT64_MAX;
    struct value *items;
    size_t count;
    enum err err = ERR_OK;

    (void)names;
    if (n && args[0].kind != VALUE_NONE) {
        err = need_text(run, "split", &args[0], &by);
        if (!err && by.n == 0)
            err = formula_fail(run, ERR_RANGE, "split() by an empty text");
    }
    if (!err && n > 1)
        err = need_int(run, "split", &args[1], &most);
    if (err)
        return err;
    most = most < 0 ? INT64_MAX : most;
    count = by.n ? split_by(self, by, most, NULL) : split_space(self, most, NULL);
    err = formula_steps(run, count);
    if (err)
        return err;
    items = arena_alloc(run->arena, (count + 1) * sizeof *items);
    if (by.n)
        split_by(self, by, most, items);
    else
        split_space(self, most, items);
    *out = value_of_list(items, count);
    return formula_made(run, out);
}

METHOD(method_join)
{
    struct maker maker = {.run = run};
    struct value list;
    enum err err = formula_iterate(run, args, &list);

    (void)names, (void)n;
    for (size_t i = 0; !err && i < list.list.n; i++) {
        struct str part = STR_NONE;

        err = formula_steps(run, 1);
        if (!err)
            err = need_text(run, "join", &list.list.items[i], &part);
        if (!err && i)
            err = put(&maker, self);
        if (!err)
            err = put(&maker, part);
    }
    return err ? err : made(&maker, out);
}

/* --- startswith, endswith, find ------------------------------------------------------------------------------------- */
/* The part of self that start and end (arguments 1 and 2) leave. *start: characters before it; false: start is behind the end. */
static enum err bounded(struct formula_run *run, struct str self, const struct value *args, size_t n, struct str *part,
                        int64_t *start, bool *is_inside)
{
    struct value none = value_none(), whole = value_of_text(self), cut;
    int64_t length = (int64_t)utf8_count(self);
    enum err err;

    *start = 0;
    *is_inside = true;
    *part = self;
    if (n < 2)
        return ERR_OK;
    if (args[1].kind != VALUE_NONE) {
        err = need_int(run, "start of the text", &args[1], start);
        if (err)
            return err;
        *start = *start < 0 ? *start + length : *start;
        *start = *start < 0 ? 0 : *start;
    }
    *is_inside = *start <= length;
    err = formula_slice(run, &whole, &args[1], n > 2 ? &args[2] : &none, &none, &cut);
    if (!err)
        *part = cut.text;
    if (!err && n > 2 && args[2].kind != VALUE_NONE) {
        int64_t end;

        err = need_int(run, "end of the text", &args[2], &end);
        *is_inside &= *start <= (end < 0 ? end + length : end);
    }
    return err;
}

static enum err has_affix(struct formula_run *run, const char *method, struct str self, const struct value *args,
                          size_t n, bool (*test)(struct str, struct str), struct value *out)
{
    struct value list = value_of_list((struct value *)args, 1);
    struct str part, affix = STR_NONE;
    bool is_inside, has = false;
    int64_t start;
    enum err err = bounded(run, self, args, n, &part, &start, &is_inside);

    if (args[0].kind == VALUE_LIST)
        list = args[0];
    for (size_t i = 0; !err && i < list.list.n && !has; i++) {
        err = formula_steps(run, 1);
        if (!err)
            err = need_text(run, method, &list.list.items[i], &affix);
        has = !err && is_inside && test(part, affix);
    }
    *out = value_of_bool(has);
    return err;
}

METHOD(method_startswith)
{
    (void)names;
    return has_affix(run, "startswith", self, args, n, str_starts, out);
}

METHOD(method_endswith)
{
    (void)names;
    return has_affix(run, "endswith", self, args, n, str_ends, out);
}

METHOD(method_find)
{
    struct str part, what = STR_NONE;
    bool is_inside;
    int64_t start;
    size_t hit;
    enum err err = need_text(run, "find", args, &what);

    (void)names;
    if (!err)
        err = bounded(run, self, args, n, &part, &start, &is_inside);
    if (err)
        return err;
    hit = is_inside ? str_find(part, what, 0) : SIZE_MAX;
    *out = value_of_int(hit == SIZE_MAX ? -1 : start + (int64_t)utf8_count(str_cut(part, hit)));
    return formula_work(run, self.n);
}

/* --- zfill, isdigit, format ----------------------------------------------------------------------------------------- */
METHOD(method_zfill)
{
    struct maker maker = {.run = run};
    bool has_sign = self.n && (*self.p == '-' || *self.p == '+');
    int64_t width, missing;
    enum err err = need_int(run, "zfill", args, &width);

    (void)names, (void)n;
    if (err)
        return err;
    missing = width - (int64_t)utf8_count(self);
    if (missing <= 0) {
        *out = value_of_text(self);
        return ERR_OK;
    }
    if (has_sign)
        err = put(&maker, str_cut(self, 1));
    if (!err)
        err = maker_room(&maker, (size_t)missing);
    if (err)
        return err;
    memset(maker.p + maker.n, '0', (size_t)missing);
    maker.n += (size_t)missing;
    err = put(&maker, str_skip(self, has_sign));
    return err ? err : made(&maker, out);
}

METHOD(method_isdigit)
{
    bool all = self.n > 0;

    UNUSED_ARGS;
    (void)run;
    for (size_t i = 0; i < self.n && all;) {
        uint32_t c = utf8_next(self, &i);

        all = (c >= '0' && c <= '9') || c == 0xb2 || c == 0xb3 || c == 0xb9 || (c >= 0x660 && c <= 0x669) ||
              (c >= 0x6f0 && c <= 0x6f9) || (c >= 0x966 && c <= 0x96f) || (c >= 0xff10 && c <= 0xff19);
    }
    *out = value_of_bool(all);
    return ERR_OK;
}

/* What stands in the braces of a format: nothing, an index, or a keyword. */
struct fields {
    const struct value *args;
    const struct str *names;
    size_t n, next;
    bool counted, numbered; /* {} and {0} do not go together */
};

static const struct value *field_value(struct fields *fields, struct str field)
{
    size_t position = 0;
    uint64_t number;

    if (field.n && str_to_u64(field, &number)) {
        for (size_t i = 0; i < fields->n; i++)
            if (fields->names[i].p && str_eq(fields->names[i], field))
                return &fields->args[i];
        return NULL;
    }
    fields->counted |= field.n == 0;
    fields->numbered |= field.n > 0;
    if (fields->counted && fields->numbered)
        return NULL;
    if (field.n == 0)
        number = fields->next++;
    for (size_t i = 0; i < fields->n; i++)
        if (!fields->names[i].p && position++ == number)
            return &fields->args[i];
    return NULL;
}

static enum err put_field(struct maker *maker, struct fields *fields, struct str field)
{
    const struct value *value;
    struct str text;
    enum err err;

    if (str_chr(field, ':') < field.n || str_chr(field, '!') < field.n)
        return formula_fail(maker->run, ERR_RANGE, "format(): a format within the braces is not supported");
    value = field_value(fields, field);
    if (!value)
        return formula_fail(maker->run, ERR_NOTFOUND, "format(): nothing for {" STR_FMT "}",
                            STR_ARG(str_cut(field, 80)));
    err = formula_text_of(maker->run, value, &text);
    return err ? err : put(maker, text);
}

METHOD(method_format)
{
    struct maker maker = {.run = run};
    struct fields fields = {.args = args, .names = names, .n = n};
    enum err err = ERR_OK;

    for (size_t i = 0; i < self.n && !err;) {
        char c = self.p[i];
        size_t end = i;

        if (c != '{' && c != '}') {
            while (end < self.n && self.p[end] != '{' && self.p[end] != '}')
                end++;
            err = put(&maker, (struct str){self.p + i, end - i});
            i = end;
        } else if (i + 1 < self.n && self.p[i + 1] == c) {
            err = put(&maker, (struct str){self.p + i, 1});
            i += 2;
        } else {
            end = i + 1 + str_chr(str_skip(self, i + 1), '}');
            if (c == '}' || end >= self.n)
                return formula_fail(run, ERR_RANGE, "format(): a single \"%c\"", c);
            err = formula_steps(run, 1);
            if (!err)
                err = put_field(&maker, &fields, (struct str){self.p + i + 1, end - i - 1});
            i = end + 1;
        }
    }
    return err ? err : made(&maker, out);
}

const struct formula_method *formula_method_find(struct str name)
{
    static const struct formula_method methods[] = {
        {"capitalize", 0, 0, method_capitalize, false},
        {"endswith", 1, 3, method_endswith, false},
        {"find", 1, 3, method_find, false},
        {"format", 0, UINT_MAX, method_format, true},
        {"isdigit", 0, 0, method_isdigit, false},
        {"join", 1, 1, method_join, false},
        {"lower", 0, 0, method_lower, false},
        {"lstrip", 0, 1, method_lstrip, false},
        {"replace", 2, 3, method_replace, false},
        {"rstrip", 0, 1, method_rstrip, false},
        {"split", 0, 2, method_split, false},
        {"startswith", 1, 3, method_startswith, false},
        {"strip", 0, 1, method_strip, false},
        {"title", 0, 0, method_title, false},
        {"upper", 0, 0, method_upper, false},
        {"zfill", 1, 1, method_zfill, false},
    };

    for (size_t i = 0; i < COUNT_OF(methods); i++)
        if (str_eq_z(name, methods[i].name))
            return &methods[i];
    return NULL;
}
