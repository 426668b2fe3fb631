/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a plain scalar means, by the expressions of yaml.org/type/{null,bool,int,float} with the two restrictions of the
 * Python gateway's reader: y and n are text, and an exponent needs its sign and a point before it (1e5 is text). That
 * reader takes -.5 for text, though; here it is the number that the specification says.
 */
#include "data/yaml_scalar.h"

#define DIGITS "0123456789"
#define DIGITS_AND_LINE DIGITS "_" /* 1_000 */

static bool is_one_of(struct str s, const char *const words[])
{
    for (; *words; words++)
        if (str_eq_z(s, *words))
            return true;
    return false;
}

/* Length of the run of characters of set at the start. */
static size_t run_of(struct str s, const char *set)
{
    size_t n = 0;

    while (n < s.n && s.p[n] && strchr(set, s.p[n]))
        n++;
    return n;
}

static bool is_run(struct str s, const char *set)
{
    return s.n && run_of(s, set) == s.n;
}

static bool is_digit(struct str s, size_t i)
{
    return i < s.n && s.p[i] >= '0' && s.p[i] <= '9';
}

/* ---- integers ---- */

/* Appends to what is there already: *value · base + digit for each. */
static NODISCARD enum err add_digits(uint64_t *value, struct str digits, unsigned base)
{
    for (size_t i = 0; i < digits.n; i++) {
        char c = digits.p[i];
        unsigned digit = c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a') + 10;

        if (c == '_')
            continue;
        if (__builtin_mul_overflow(*value, base, value) || __builtin_add_overflow(*value, digit, value))
            return ERR_RANGE;
    }
    return ERR_OK;
}

static NODISCARD enum err add_in_base(struct buf *out, bool negative, struct str digits, unsigned base)
{
    uint64_t value = 0;

    if (run_of(digits, "_") == digits.n)
        return ERR_TYPE;
    if (add_digits(&value, digits, base))
        return ERR_RANGE;
    buf_printf(out, "%s%llu", negative && value ? "-" : "", (unsigned long long)value);
    return ERR_OK;
}

/* Decimal digits as they are, but for underscores and zeros in front. */
static void add_decimal(struct buf *out, bool negative, struct str digits)
{
    bool has_digit = false;

    digits = str_skip(digits, run_of(digits, "0_"));
    if (negative && digits.n)
        buf_add_u8(out, '-');
    for (size_t i = 0; i < digits.n; i++) {
        if (digits.p[i] == '_')
            continue;
        buf_add_u8(out, (uint8_t)digits.p[i]);
        has_digit = true;
    }
    if (!has_digit)
        buf_add_u8(out, '0');
}

/* ---- floats ---- */

/* The fraction behind the point and an exponent; false if it is none. */
static bool is_fraction(struct str s, struct str *digits, struct str *exponent)
{
    size_t n = run_of(s, DIGITS_AND_LINE);

    *digits = str_cut(s, n);
    *exponent = str_skip(s, n);
    if (!exponent->n)
        return true;
    if ((exponent->p[0] | 0x20) != 'e' || exponent->n < 3 || (exponent->p[1] != '+' && exponent->p[1] != '-'))
        return false;
    return is_run(str_skip(*exponent, 2), DIGITS);
}

static void add_fraction(struct buf *out, struct str digits, struct str exponent)
{
    size_t start;

    buf_add_u8(out, '.');
    start = out->n;
    for (size_t i = 0; i < digits.n; i++)
        if (digits.p[i] != '_')
            buf_add_u8(out, (uint8_t)digits.p[i]);
    if (out->n == start)
        buf_add_u8(out, '0');
    buf_add_str(out, exponent);
}

static NODISCARD enum err add_float(struct buf *out, bool negative, struct str s)
{
    size_t n = run_of(s, DIGITS_AND_LINE);
    struct str fraction, exponent;

    if (n == s.n || s.p[n] != '.' || (n ? !is_digit(s, 0) : !is_digit(s, 1)))
        return ERR_TYPE;
    if (!is_fraction(str_skip(s, n + 1), &fraction, &exponent))
        return ERR_TYPE;
    if (negative)
        buf_add_u8(out, '-'); /* also before 0.0, which is another double then */
    add_decimal(out, false, str_cut(s, n));
    add_fraction(out, fraction, exponent);
    return ERR_OK;
}

/* ---- base 60: 190:20:30, 1:30.5 ---- */

/* ":20" or ":5"; the length, 0 if none. */
static size_t sixtieth(struct str s)
{
    if (!s.n || s.p[0] != ':' || !is_digit(s, 1))
        return 0;
    if (!is_digit(s, 2))
        return 2;
    return s.p[1] <= '5' ? 3 : 0;
}

static NODISCARD enum err add_sixty(struct buf *out, bool negative, struct str s)
{
    size_t n = run_of(s, DIGITS_AND_LINE), part;
    uint64_t value = 0;
    struct str rest = str_skip(s, n), fraction, exponent;
    enum err err = ERR_OK;

    if (!is_digit(s, 0) || !sixtieth(rest))
        return ERR_TYPE;
    err = add_digits(&value, str_cut(s, n), 10);
    for (; (part = sixtieth(rest)); rest = str_skip(rest, part)) {
        uint64_t sixty = 0;

        if (add_digits(&sixty, str_of(rest.p + 1, part - 1), 10) || __builtin_mul_overflow(value, 60, &value) ||
            __builtin_add_overflow(value, sixty, &value))
            err = ERR_RANGE;
    }
    if (rest.n ? rest.p[0] != '.' : s.p[0] == '0')
        return ERR_TYPE;
    if (rest.n && (!is_fraction(str_skip(rest, 1), &fraction, &exponent) || exponent.n))
        return ERR_TYPE;
    if (err)
        return err;
    buf_printf(out, "%s%llu", negative && (value || rest.n) ? "-" : "", (unsigned long long)value);
    if (rest.n)
        add_fraction(out, fraction, STR_NONE);
    return ERR_OK;
}

/* ---- any ---- */

static NODISCARD enum err add_number(struct buf *out, struct str s)
{
    static const char *const infinities[] = {".inf", ".Inf", ".INF", NULL};
    bool has_sign = s.n && (s.p[0] == '-' || s.p[0] == '+');
    bool negative = has_sign && s.p[0] == '-';
    enum err err;

    s = str_skip(s, has_sign);
    if (is_one_of(s, infinities))
        return ERR_UNSUPPORTED;
    if (!is_digit(s, 0) && !is_digit(s, 1))
        return ERR_TYPE;
    if (str_starts(s, STR("0b")) && is_run(str_skip(s, 2), "01_"))
        return add_in_base(out, negative, str_skip(s, 2), 2);
    if (str_starts(s, STR("0x")) && is_run(str_skip(s, 2), DIGITS_AND_LINE "abcdefABCDEF"))
        return add_in_base(out, negative, str_skip(s, 2), 16);
    if (s.p[0] == '0' && is_run(str_skip(s, 1), "01234567_"))
        return add_in_base(out, negative, s, 8);
    if (str_eq(s, STR("0")) || (s.p[0] >= '1' && s.p[0] <= '9' && is_run(s, DIGITS_AND_LINE))) {
        add_decimal(out, negative, s);
        return ERR_OK;
    }
    err = add_sixty(out, negative, s);
    return err == ERR_TYPE ? add_float(out, negative, s) : err;
}

enum err yaml_scalar_add(struct buf *out, struct str plain)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const yes[] = {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", NULL};
    static const char *const no[] = {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", NULL};
    static const char *const nans[] = {".nan", ".NaN", ".NAN", NULL};

    if (is_one_of(plain, nulls))
        buf_add_z(out, "null");
    else if (is_one_of(plain, yes))
        buf_add_z(out, "true");
    else if (is_one_of(plain, no))
        buf_add_z(out, "false");
    else if (is_one_of(plain, nans))
        return ERR_UNSUPPORTED;
    else
        return add_number(out, plain);
    return ERR_OK;
}
