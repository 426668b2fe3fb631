/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"
#include "data/formula_tree.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* The functions of expressions.md 6.3. Each gets as many arguments as its table entry allows. */

static enum err wrong(struct formula_run *run, const char *function, const struct value *value)
{
    return formula_fail(run, ERR_TYPE, "%s() of %s is not possible", function, value_kind_name(value->kind));
}

static struct str trimmed(struct str s)
{
    while (s.n && (s.p[s.n - 1] == ' ' || (s.p[s.n - 1] >= '\t' && s.p[s.n - 1] <= '\r')))
        s.n--;
    while (s.n && (*s.p == ' ' || (*s.p >= '\t' && *s.p <= '\r')))
        s.p++, s.n--;
    return s;
}

static enum err call_abs(struct formula_run *run, const struct value *args, size_t n, struct value *out)
{
    (void)n;
    if (args->kind == VALUE_DOUBLE) {
        *out = value_of_double(fabs(args->d));
        return ERR_OK;
    }
    if (!value_is_integer(args))
        return wrong(run, "abs", args);
    *out = value_of_int(value_integer(args));
    if (out->i < 0 && __builtin_sub_overflow((__int128)0, out->i, &out->i))
        *out = value_of_double(0x1p127);
    return ERR_OK;
}

/* True if one element's truth is wanted. */
static enum err any_is(struct formula_run *run, const struct value *value, bool wanted, bool *found)
{
    struct value list;
    enum err err = formula_iterate(run, value, &list);

    *found = false;
    for (size_t i = 0; !err && i < list.list.n && !*found; i++) {
        *found = value_is_true(&list.list.items[i]) == wanted;
        err = formula_steps(run, 1);
    }
    return err;
}

static enum err call_all(struct formula_run *run, const struct value *args, size_t n, struct value *out)
{
    bool found;
    enum err err = any_is(run, args, false, &found);

    (void)n;
    *out = value_of_bool(!found);
    return err;
}

static enum err call_any(struct formula_run *run, const struct value *args, size_t n, struct value *out)
{
    bool found;
    enum err err = any_is(run, args, true, &found);

    (void)n;
    *out = value_of_bool(found);
    return err;
}

static enum err in_base(struct formula_run *run, const char *function, const struct value *value, unsigned n_bits,
                        char letter, struct value *out)
{
    char text[132], *p = text + sizeof text;
    unsigned __int128 rest;
    bool negative;

    if (!value_is_integer(value))
        return wrong(run, function, value);
    negative = value_integer(value) < 0;
    rest = negative ? -(unsigned __int128)value_integer(value) : (unsigned __int128)value_integer(value);
    do {
        *--p = "0123456789abcdef"[(unsigned)rest & ((1u << n_bits) - 1)];
        rest >>= n_bits;
    } while (rest);
    *--p = letter;
    *--p = '0';
    if (negative)
        *--p = '-';
    *out = value_of_text(arena_str(run->arena, (struct str){p, (size_t)(text + sizeof text - p)}));
    return ERR_OK;
}

static enum err call_bin(struct formula_run *run, const struct value *args, size_t n, struct value *out)
{
    (void)n;
    return in_base(run, "bin", args, 1, 'b', out);
}

static enum err call_hex(struct formula_run *run, const struct value *args, size_t n, struct value *out)
{
    (void)n;
    return in_base(run, "hex", args, 4, 'x', out);
}

static enum err call_bool(struct formula_run *run, const struct value *args, size_t n, struct value *out)
{
    (void)run;
    *out = value_of_bool(n && value_is_true(args));
    return ERR_OK;
}

static enum err call_chr(struct formula_run *run, const struct value *args, size_t n, struct value *out)
{
    char text[4];
    __int128 code;

    (void)n;
    if (!value_is_integer(args))
        return wrong(run, "chr", args);
    code = value_integer(args);
    if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return formula_fail(run, ERR_RANGE, "chr() of what is no character");
    *out = value_of_text(arena_str(run->arena, (struct str){text, utf8_put(text, (uint32_t)code)}));
    return ERR_OK;
}

static enum err call_ord(struct formula_run *run, const struct value *args, size_t n, struct value *out)
{
    size_t i = 0;
    uint32_t code;

    (void)n;
    if (args->kind == VALUE_BYTES && args->text.n == 1) {
        *out = value_of_int((uint8_t)args->text.p[0]);
        return ERR_OK;
    }
    if (args->kind != VALUE_TEXT)
        return wrong(run, "ord", args);
    code = args->text.n ? utf8_next(args->text, &i) : UINT32_MAX;
    if (code == UINT32_MAX || i != args->text.n)
        return formula_fail(run, ERR_RANGE, "ord() takes one character");
    *out = value_of_int(code);
    return ERR_OK;
}

static enum err call_len(struct formula_run *run, const struct value *args, size_t n, struct value *out)
{
    (void)n;
    switch (args->kind) {
    case VALUE_TEXT:
        *out = value_of_int((__int128)utf8_count(args->text));
        return formula_work(run, args->text.n);
    case VALUE_BYTES:
        *out = value_of_int((__int128)args->text.n);
        return ERR_OK;
    case VALUE_LIST:
        *out = value_of_int((__int128)args->list.n);
        return ERR_OK;
    case VALUE_OBJECT:
        *out = value_of_int((__int128)args->object.n);
        return ERR_OK;
    case VALUE_NONE:
    case VALUE_BOOL:
    case VALUE_INT:
    case VALUE_DOUBLE:
        break;
    }
    return wrong(run, "len", args);
}

/* --- float and int -------------------------------------------------------------------------------------------------- */
static bool read_special(struct str s, double *out)
{
    bool negative = s.n && *s.p == '-';

    if (s.n && (*s.p == '-' || *s.p == '+'))
        s = str_skip(s, 1);
    if (str_eq_nocase(s, STR("inf")) || str_eq_nocase(s, STR("infinity")))
        *out = negative ? -INFINITY : INFINITY;
    else if (str_eq_nocase(s, STR("nan")))
        *out = NAN;
    else
        return false;
    return true;
}

static enum err call_float(struct formula_run *run, const struct value *args, size_t n, struct value *out)
{
    struct str text;
    double d = 0;

    if (n == 0 || value_is_number(args)) {
        *out = value_of_double(n ? value_double(args) : 0);
        return ERR_OK;
    }
    if (args->kind != VALUE_TEXT && args->kind != VALUE_BYTES)
        return wrong(run, "float", args);
    text = trimmed(args->text);
    if (!value_read_double(text, &d) && !read_special(text, &d))
        return formula_fail(run, ERR_RANGE, "float() of a text that is no number: \"" STR_FMT "\"",
                            STR_ARG(str_cut(text, 80)));
    *out = value_of_double(d);
    return ERR_OK;
}

static unsigned prefix_base(struct str s)
{
    char c = s.n > 2 && s.p[0] == '0' ? (char)(s.p[1] | 32) : 0;

    return c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
}

static bool read_int(struct str text, unsigned base, struct value *out)
{
    struct str digits = trimmed(text);
    bool negative = digits.n && *digits.p == '-', overflow, zero_base = base == 0;
    unsigned prefix;
    __int128 i;
    double d;

    if (digits.n && (*digits.p == '-' || *digits.p == '+'))
        digits = str_skip(digits, 1);
    prefix = prefix_base(digits);
    if (prefix && (base == 0 || base == prefix)) {
        base = prefix;
        digits = str_skip(digits, 2);
        if (digits.n && *digits.p == '_')
            digits = str_skip(digits, 1);
        zero_base = false;
    }
    if (!value_read_digits(digits, base ? base : 10, &i, &overflow, &d))
        return false;
    if (zero_base && *digits.p == '0' && (i != 0 || overflow))
        return false;
    *out = overflow ? value_of_double(negative ? -d : d) : value_of_int(negative ? -i : i);
    return true;
}

static enum err call_int(struct formula_run *run, const struct value *args, size_t n, struct value *out)
{
    __int128 base = 10;

    if (n == 0) {
        *out = value_of_int(0);
        return ERR_OK;
    }
    if (n == 1 && value_is_integer(args)) {
        *out = value_of_int(value_integer(args));
        return ERR_OK;
    }
    if (n == 1 && args->kind == VALUE_DOUBLE) {
        if (!isfinite(args->d))
            return formula_fail(run, ERR_RANGE, "int() of what is not finite");
        *out = fabs(args->d) < 0x1p127 ? value_of_int((__int128)args->d) : value_of_double(args->d);
        return ERR_OK;
    }
    if (args->kind != VALUE_TEXT && args->kind != VALUE_BYTES)
        return wrong(run, "int", args);
    if (n == 2) {
        if (!value_is_integer(&args[1]))
            return wrong(run, "base of int", &args[1]);
        base = value_integer(&args[1]);
        if (base != 0 && (base < 2 || base > 36))
            return formula_fail(run, ERR_RANGE, "the base of int() is 0 or 2 to 36");
    }
    if (!read_int(args->text, (unsigned)base, out))
        return formula_fail(run, ERR_RANGE, "int() of a text that is no integer: \"" STR_FMT "\"",
                            STR_ARG(str_cut(args->text, 80)));
    if (out->kind == VALUE_DOUBLE && !isfinite(out->d))
        return formula_fail(run, ERR_RANGE, "the number is too large");
    return formula_work(run, args->text.n);
}

/* --- min, max, sorted, sum ------------------------------------------------------------------------------------------ */
static enum err extreme(struct formula_run *run, const char *function, const struct value *args, size_t n, int wanted,
                        struct value *out)
{
    struct value list = value_of_list((struct value *)args, n);
    enum err err = n == 1 ? formula_iterate(run, args, &list) : ERR_OK;

    if (err)
        return err;
    if (list.list.n == 0)
        return formula_fail(run, ERR_RANGE, "%s() of nothing", function);
    *out = list.list.items[0];
    for (size_t i = 1; i < list.list.n; i++) {
        bool unordered = false;
        int order = 0;

        err = formula_steps(run, 1);
        if (!err)
            err = formula_order(run, &list.list.items[i], out, &order, &unordered);
        if (err)
            return err;
        if (!unordered && order == wanted)
            *out = list.list.items[i];
    }
    return ERR_OK;
}

static enum err call_min(struct formula_run *run, const struct value *args, size_t n, struct value *out)
{
    return extreme(run, "min", args, n, -1, out);
}

static enum err call_max(struct formula_run *run, const struct value *args, size_t n, struct value *out)
{
    return extreme(run, "max", args, n, 1, out);
}

/* One pass of a merge sort, stable: runs of width in from become runs of twice that in to. */
static enum err merge(struct formula_run *run, const struct value *from, struct value *to, size_t n, size_t width)
{
    for (size_t start = 0; start < n; start += 2 * width) {
        size_t i = start, i_end = start + width < n ? start + width : n;
        size_t j = i_end, j_end = start + 2 * width < n ? start + 2 * width : n;

        for (size_t k = start; k < j_end; k++) {
            bool unordered = false, second = i == i_end;

            if (i < i_end && j < j_end) {
                int order = 0;
                enum err err = formula_order(run, &from[j], &from[i], &order, &unordered);

                if (err)
                    return err;
                second = !unordered && order < 0;
            }
            to[k] = from[second ? j++ : i++];
        }
    }
    return formula_steps(run, n);
}

static enum err call_sorted(struct formula_run *run, const struct value *args, size_t n, struct value *out)
{
    struct value list, *from, *to;
    enum err err = formula_iterate(run, args, &list);

    if (err)
        return err;
    n = list.list.n;
    err = formula_steps(run, n);
    if (err)
        return err;
    from = arena_alloc(run->arena, (n + 1) * sizeof *from);
    to = arena_alloc(run->arena, (n + 1) * sizeof *to);
    if (n)
        memcpy(from, list.list.items, n * sizeof *from);
    for (size_t width = 1; width < n; width *= 2) {
        struct value *other = from;

        err = merge(run, from, to, n, width);
        if (err)
            return err;
        from = to;
        to = other;
    }
    *out = value_of_list(from, n);
    return formula_made(run, out);
}

static enum err call_sum(struct formula_run *run, const struct value *args, size_t n, struct value *out)
{
    struct value list, total = n == 2 ? args[1] : value_of_int(0);
    enum err err = formula_iterate(run, args, &list);

    if (!err && (total.kind == VALUE_TEXT || total.kind == VALUE_BYTES))
        return formula_fail(run, ERR_TYPE, "sum() of texts: use ''.join()");
    for (size_t i = 0; !err && i < list.list.n; i++) {
        struct value next;

        err = formula_steps(run, 1);
        if (!err)
            err = formula_binary(run, TOKEN_PLUS, &total, &list.list.items[i], &next);
        if (!err)
            total = next;
    }
    *out = total;
    return err;
}

/* --- pow, round, str ------------------------------------------------------------------------------------------------ */
static enum err call_pow(struct formula_run *run, const struct value *args, size_t n, struct value *out)
{
    __int128 modulus, base, result = 1;

    if (n == 2)
        return formula_binary(run, TOKEN_POWER, &args[0], &args[1], out);
    if (!value_is_integer(&args[0]) || !value_is_integer(&args[1]) || !value_is_integer(&args[2]))
        return formula_fail(run, ERR_TYPE, "pow() with a modulus takes integers");
    modulus = value_integer(&args[2]);
    if (modulus == 0)
        return formula_fail(run, ERR_RANGE, "division by zero");
    if (value_integer(&args[1]) < 0 || modulus > INT64_MAX || modulus < -INT64_MAX)
        return formula_fail(run, ERR_RANGE, "pow() with a modulus takes an exponent from 0 and a modulus of 64 bits");
    base = value_integer(&args[0]) % modulus;
    for (__int128 left = value_integer(&args[1]); left; left >>= 1) {
        if (left & 1)
            result = result * base % modulus;
        base = base * base % modulus;
    }
    result %= modulus;
    *out = value_of_int(result && (result < 0) != (modulus < 0) ? result + modulus : result);
    return ERR_OK;
}

/* To 10^digits, half to even; digits is negative. */
static struct value round_int(__int128 i, __int128 digits)
{
    __int128 unit = 1, rest, half, down;

    for (; digits < 0; digits++)
        if (__builtin_mul_overflow(unit, (__int128)10, &unit))
            return value_of_int(0);
    rest = i % unit;
    rest = rest < 0 ? rest + unit : rest;
    half = unit / 2;
    if (__builtin_sub_overflow(i, rest, &down))
        return value_of_double((double)i);
    if (rest > half || (rest == half && unit > 1 && (down / unit) % 2 != 0))
        if (__builtin_add_overflow(down, unit, &down))
            return value_of_double((double)i);
    return value_of_int(down);
}

/* The decimal expansion of a double is exact in C's library and rounded half to even there. */
static double round_double(double d, int digits)
{
    char text[800];
    int exponent, keep;

    if (d == 0 || digits > 323)
        return d;
    if (digits < -308)
        return copysign(0, d);
    if (digits >= 0) {
        snprintf(text, sizeof text, "%.*f", digits, d);
        return strtod(text, NULL);
    }
    snprintf(text, sizeof text, "%.20e", d);
    exponent =
        (int)strtol(strchr(text, 'e') + 1, NULL, 10); /* 20 digits tell every double from the next power of ten */
    keep = exponent + 1 + digits;
    if (keep > 0) {
        snprintf(text, sizeof text, "%.*e", keep - 1, d);
        return strtod(text, NULL);
    }
    if (keep < 0)
        return copysign(0, d);
    snprintf(text, sizeof text, "5e%d", exponent);
    if (fabs(d) <= strtod(text, NULL))
        return copysign(0, d);
    snprintf(text, sizeof text, "1e%d", exponent + 1);
    return copysign(strtod(text, NULL), d);
}

static enum err call_round(struct formula_run *run, const struct value *args, size_t n, struct value *out)
{
    bool has_digits = n == 2 && args[1].kind != VALUE_NONE;
    __int128 digits = 0;

    if (!value_is_number(args))
        return wrong(run, "round", args);
    if (has_digits) {
        if (!value_is_integer(&args[1]))
            return wrong(run, "digits of round", &args[1]);
        digits = value_integer(&args[1]);
        digits = digits > 1000 ? 1000 : digits < -1000 ? -1000 : digits;
    }
    if (value_is_integer(args)) {
        *out = digits < 0 ? round_int(value_integer(args), digits) : value_of_int(value_integer(args));
        return ERR_OK;
    }
    if (has_digits) {
        double d = isfinite(args->d) ? round_double(args->d, (int)digits) : args->d;

        if (isinf(d) && !isinf(args->d))
            return formula_fail(run, ERR_RANGE, "the number is too large");
        *out = value_of_double(d);
        return formula_steps(run, 10);
    }
    if (!isfinite(args->d))
        return formula_fail(run, ERR_RANGE, "round() of what is not finite");
    *out = fabs(args->d) < 0x1p126 ? value_of_int((__int128)nearbyint(args->d)) : value_of_double(args->d);
    return ERR_OK;
}

static enum err call_str(struct formula_run *run, const struct value *args, size_t n, struct value *out)
{
    *out = value_of_text(STR(""));
    return n ? formula_text_of(run, args, &out->text) : ERR_OK;
}

const struct formula_function *formula_function_find(struct str name)
{
    static const struct formula_function functions[] = {
        {"abs", 1, 1, call_abs},       {"all", 1, 1, call_all},        {"any", 1, 1, call_any},
        {"bin", 1, 1, call_bin},       {"bool", 0, 1, call_bool},      {"chr", 1, 1, call_chr},
        {"float", 0, 1, call_float},   {"hex", 1, 1, call_hex},        {"int", 0, 2, call_int},
        {"len", 1, 1, call_len},       {"max", 1, UINT_MAX, call_max}, {"min", 1, UINT_MAX, call_min},
        {"ord", 1, 1, call_ord},       {"pow", 2, 3, call_pow},        {"round", 1, 2, call_round},
        {"sorted", 1, 1, call_sorted}, {"str", 0, 1, call_str},        {"sum", 1, 2, call_sum},
    };

    for (size_t i = 0; i < COUNT_OF(functions); i++)
        if (str_eq_z(name, functions[i].name))
            return &functions[i];
    return NULL;
}
