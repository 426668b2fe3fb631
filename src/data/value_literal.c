/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"
#include "data/formula_tree.h"

#include <math.h>

/*
 * Literals of Python, and JSON's words for true, false and null, because substituted values come in JSON's form. Lists are
 * gathered in the arena as chains first: their length is known only at their end.
 */
enum { MAX_DEPTH = 64 };

struct reader {
    struct str text;
    size_t at;
    struct arena *arena;
    unsigned depth;
};

struct member {
    struct member *next;
    struct str key;
    struct value value;
};

static enum err read_value(struct reader *r, struct value *out);

static char peek(const struct reader *r)
{
    return r->at < r->text.n ? r->text.p[r->at] : 0;
}

static void skip_blanks(struct reader *r)
{
    while (r->at < r->text.n && (r->text.p[r->at] == ' ' || (r->text.p[r->at] >= '\t' && r->text.p[r->at] <= '\r')))
        r->at++;
}

static bool take(struct reader *r, char c)
{
    skip_blanks(r);
    if (peek(r) != c || r->at >= r->text.n)
        return false;
    r->at++;
    return true;
}

/* n hex digits at an offset; UINT32_MAX: they are not there. */
static uint32_t hex_at(const struct reader *r, size_t at, size_t n)
{
    uint32_t code = 0;

    if (at + n > r->text.n)
        return UINT32_MAX;
    for (size_t i = at; i < at + n; i++) {
        char c = r->text.p[i];
        unsigned digit = c >= '0' && c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 32) - 'a') + 10;

        if (digit > 15)
            return UINT32_MAX;
        code = code << 4 | digit;
    }
    return code;
}

/* At the backslash. An escape Python does not know stands for itself. */
static bool read_escape(struct reader *r, char **to)
{
    static const char plain[][2] = {{'\\', '\\'}, {'\'', '\''}, {'"', '"'},  {'n', '\n'}, {'r', '\r'},
                                    {'t', '\t'},  {'b', '\b'},  {'f', '\f'}, {'v', '\v'}, {'a', '\a'}};
    char c = r->at + 1 < r->text.n ? r->text.p[r->at + 1] : 0;
    size_t n_digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    uint32_t code, low;

    for (size_t i = 0; i < COUNT_OF(plain); i++)
        if (c == plain[i][0]) {
            *(*to)++ = plain[i][1];
            r->at += 2;
            return true;
        }
    if (n_digits == 0) {
        *(*to)++ = '\\';
        r->at++;
        return true;
    }
    code = hex_at(r, r->at + 2, n_digits);
    r->at += 2 + n_digits;
    if (code >= 0xd800 && code < 0xdc00 && r->at + 1 < r->text.n && memcmp(r->text.p + r->at, "\\u", 2) == 0) {
        low = hex_at(r, r->at + 2, 4);
        if (low >= 0xdc00 && low < 0xe000) {
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            r->at += 6;
        }
    }
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return false;
    *to += utf8_put(*to, code);
    return true;
}

static enum err read_text(struct reader *r, struct str *out)
{
    char quote = r->text.p[r->at++], *to, *begin;
    size_t end = r->at;

    while (end < r->text.n && r->text.p[end] != quote && r->text.p[end] != '\n')
        end += r->text.p[end] == '\\' ? 2 : 1;
    if (end >= r->text.n || r->text.p[end] != quote)
        return ERR_SYNTAX;
    begin = to = arena_chars(r->arena, end - r->at + 1);
    while (r->at < end) {
        if (peek(r) != '\\')
            *to++ = r->text.p[r->at++];
        else if (!read_escape(r, &to))
            return ERR_SYNTAX;
    }
    if (r->at != end)
        return ERR_SYNTAX;
    r->at = end + 1;
    *out = (struct str){begin, (size_t)(to - begin)};
    return ERR_OK;
}

static enum err read_number(struct reader *r, struct value *out)
{
    bool negative = false, overflow;
    size_t start;
    struct str text;
    __int128 i;
    double d;

    for (; peek(r) == '-' || peek(r) == '+'; r->at++)
        negative ^= peek(r) == '-';
    start = r->at;
    while (r->at < r->text.n && memchr("0123456789abcdefxoABCDEFXO._+-", peek(r), 30)) {
        if ((peek(r) == '+' || peek(r) == '-') && (r->text.p[r->at - 1] | 32) != 'e')
            break;
        r->at++;
    }
    text = (struct str){r->text.p + start, r->at - start};
    if (text.n > 2 && text.p[0] == '0' && memchr("xXoObB", text.p[1], 6)) {
        unsigned base = (text.p[1] | 32) == 'x' ? 16 : (text.p[1] | 32) == 'o' ? 8 : 2;

        if (!value_read_digits(str_skip(text, 2), base, &i, &overflow, &d))
            return ERR_SYNTAX;
    } else if (value_read_digits(text, 10, &i, &overflow, &d)) {
        if (text.p[0] == '0' && (i != 0 || overflow))
            return ERR_SYNTAX;
    } else {
        if (!value_read_double(text, &d))
            return ERR_SYNTAX;
        overflow = true;
    }
    *out = overflow ? value_of_double(negative ? -d : d) : value_of_int(negative ? -i : i);
    return ERR_OK;
}

static void set_list(struct reader *r, const struct member *members, size_t n, bool is_object, struct value *out)
{
    *out = (struct value){.kind = is_object ? VALUE_OBJECT : VALUE_LIST};
    if (is_object) {
        out->object.keys = arena_alloc(r->arena, n * sizeof *out->object.keys);
        out->object.items = arena_alloc(r->arena, n * sizeof *out->object.items);
        for (out->object.n = 0; members; members = members->next) {
            out->object.keys[out->object.n] = members->key;
            out->object.items[out->object.n++] = members->value;
        }
        return;
    }
    out->list.items = arena_alloc(r->arena, n * sizeof *out->list.items);
    for (out->list.n = 0; members; members = members->next)
        out->list.items[out->list.n++] = members->value;
}

/* Behind an opening bracket. A single value in parentheses without a comma is itself. */
static enum err read_members(struct reader *r, char close, struct value *out)
{
    struct member *first = NULL, **tail = &first;
    bool is_object = close == '}', has_comma = false;
    size_t n = 0;
    enum err err;

    while (!take(r, close)) {
        struct member *member = arena_zero(r->arena, sizeof *member);
        struct value key;

        if (n && !has_comma)
            return ERR_SYNTAX;
        if (is_object) {
            err = read_value(r, &key);
            if (!err && (!value_key(&key, r->arena, &member->key) || !take(r, ':')))
                err = ERR_SYNTAX;
            if (err)
                return err;
        }
        err = read_value(r, &member->value);
        if (err)
            return err;
        *tail = member;
        tail = &member->next;
        n++;
        has_comma = take(r, ',');
    }
    if (close == ')' && n == 1 && !has_comma)
        *out = first->value;
    else
        set_list(r, first, n, is_object, out);
    return ERR_OK;
}

static enum err read_word(struct reader *r, struct value *out)
{
    static const struct {
        struct str word;
        struct value value;
    } words[] = {{STR("True"), {VALUE_BOOL, .b = true}},
                 {STR("true"), {VALUE_BOOL, .b = true}},
                 {STR("False"), {VALUE_BOOL, .b = false}},
                 {STR("false"), {VALUE_BOOL, .b = false}},
                 {STR("None"), {VALUE_NONE}},
                 {STR("null"), {VALUE_NONE}}};
    size_t start = r->at;
    struct str word;

    while ((peek(r) | 32) >= 'a' && (peek(r) | 32) <= 'z')
        r->at++;
    word = str_cut(str_skip(r->text, start), r->at - start);
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (str_eq(word, words[i].word)) {
            *out = words[i].value;
            return ERR_OK;
        }
    return ERR_SYNTAX;
}

static enum err read_value(struct reader *r, struct value *out)
{
    enum err err;
    char c;

    skip_blanks(r);
    c = peek(r);
    if (c == '[' || c == '(' || c == '{') {
        if (++r->depth > MAX_DEPTH)
            return ERR_LIMIT;
        r->at++;
        err = read_members(r, c == '[' ? ']' : c == '(' ? ')' : '}', out);
        r->depth--;
        return err;
    }
    if (c == '\'' || c == '"') {
        *out = value_of_text(STR_NONE);
        return read_text(r, &out->text);
    }
    if ((c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.')
        return read_number(r, out);
    return read_word(r, out);
}

enum err value_from_literal(struct str text, struct arena *arena, struct value *out)
{
    struct reader reader = {.text = text, .arena = arena};
    enum err err;

    if (!utf8_is_valid(text))
        return ERR_SYNTAX;
    err = read_value(&reader, out);
    skip_blanks(&reader);
    return err ? err : reader.at < text.n ? ERR_SYNTAX : ERR_OK;
}
