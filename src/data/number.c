/* SPDX-License-Identifier: Apache-2.0 */
#include "data/number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <yyjson.h>

/* value = 0.DIGITS × 10^point; zero is one digit "0" with point 1. The digits have no superfluous zero at either end. */
struct decimal {
    bool negative;
    int n, point;
    char digits[40];
};

enum { MAX_DECIMALS = 16, MAX_EXACT_DIGITS = 15 };

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* From text of the forms 12.50, 1.25e-7, 1e+16 (as C and yyjson print doubles). */
static void decimal_read(struct decimal *d, const char *text, size_t n)
{
    size_t i = 0;
    int exponent = 0, n_before = -1, n_digits = 0, leading = 0;

    d->negative = n && text[0] == '-';
    for (i = d->negative; i < n && (is_digit(text[i]) || text[i] == '.'); i++) {
        if (text[i] == '.') {
            n_before = n_digits + leading;
        } else if (n_digits == 0 && text[i] == '0') {
            leading++;
        } else if (n_digits < (int)sizeof d->digits) {
            d->digits[n_digits++] = text[i];
        }
    }
    if (n_before < 0)
        n_before = n_digits + leading;
    if (i < n && (text[i] == 'e' || text[i] == 'E')) {
        bool negative = ++i < n && text[i] == '-';

        for (i += i < n && !is_digit(text[i]); i < n && is_digit(text[i]); i++)
            exponent = exponent * 10 + (text[i] - '0');
        exponent = negative ? -exponent : exponent;
    }
    d->point = n_before - leading + exponent;
    while (n_digits > 1 && d->digits[n_digits - 1] == '0')
        n_digits--;
    if (n_digits == 0) {
        d->digits[n_digits++] = '0';
        d->point = 1;
    }
    d->n = n_digits;
}

/* The shortest digits that read back to v, which is finite; of several the nearest. */
static void decimal_shortest(struct decimal *d, double v)
{
    char pool[512], *text;
    yyjson_alc alc;
    yyjson_val val;
    size_t n = 0;

    val.tag = YYJSON_TYPE_NUM | YYJSON_SUBTYPE_REAL;
    val.uni.f64 = v;
    yyjson_alc_pool_init(&alc, pool, sizeof pool);
    text = yyjson_val_write_opts(&val, 0, &alc, &n, NULL);
    if (LIKELY(text)) {
        decimal_read(d, text, n);
    } else { /* no pool of that size for this version of the library */
        int len = snprintf(pool, sizeof pool, "%.17g", v);

        decimal_read(d, pool, (size_t)len);
    }
}

static void decimal_rounded(struct decimal *d, double v, int significant)
{
    char text[64];
    int n = snprintf(text, sizeof text, "%.*e", significant - 1, v);

    decimal_read(d, text, (size_t)n);
}

static size_t put_positional(char *out, const struct decimal *d)
{
    char *p = out;

    if (d->negative)
        *p++ = '-';
    if (d->point <= 0) {
        *p++ = '0';
        *p++ = '.';
        memset(p, '0', (size_t)-d->point);
        p += -d->point;
        memcpy(p, d->digits, (size_t)d->n);
        return (size_t)(p + d->n - out);
    }
    if (d->n <= d->point) {
        memcpy(p, d->digits, (size_t)d->n);
        memset(p + d->n, '0', (size_t)(d->point - d->n));
        p += d->point;
        *p++ = '.';
        *p++ = '0';
        return (size_t)(p - out);
    }
    memcpy(p, d->digits, (size_t)d->point);
    p += d->point;
    *p++ = '.';
    memcpy(p, d->digits + d->point, (size_t)(d->n - d->point));
    return (size_t)(p + (d->n - d->point) - out);
}

/* Digits behind the 16th decimal would make the platform keep a text: 15 significant digits first, then 16 decimals. */
static size_t put_rounded(char *out, double v)
{
    struct decimal d;
    size_t n;

    decimal_rounded(&d, v, MAX_EXACT_DIGITS);
    if (d.n - d.point <= MAX_DECIMALS)
        return put_positional(out, &d);
    n = (size_t)snprintf(out, NUMBER_MAX, "%.*f", MAX_DECIMALS, v);
    while (out[n - 1] == '0' && out[n - 2] != '.')
        n--;
    if (n == 4 && memcmp(out, "-0.0", 4) == 0) {
        memcpy(out, "0.0", 3);
        n = 3;
    }
    return n;
}

size_t number_put_double(char *out, double v)
{
    struct decimal d;

    if (UNLIKELY(!isfinite(v))) {
        memcpy(out, "null", 4);
        return 4;
    }
    decimal_shortest(&d, v);
    return UNLIKELY(d.n - d.point > MAX_DECIMALS) ? put_rounded(out, v) : put_positional(out, &d);
}

size_t number_put_python(char *out, double v)
{
    struct decimal d;
    char *p = out;
    int e;

    if (UNLIKELY(!isfinite(v)))
        return (size_t)snprintf(out, NUMBER_MAX, "%s", isnan(v) ? "nan" : v < 0 ? "-inf" : "inf");
    decimal_shortest(&d, v);
    e = d.point - 1;
    if (e >= -4 && e < 16)
        return put_positional(out, &d);
    if (d.negative)
        *p++ = '-';
    *p++ = d.digits[0];
    if (d.n > 1) {
        *p++ = '.';
        memcpy(p, d.digits + 1, (size_t)d.n - 1);
        p += d.n - 1;
    }
    return (size_t)(p - out) + (size_t)snprintf(p, 8, "e%c%02d", e < 0 ? '-' : '+', e < 0 ? -e : e);
}

size_t number_put_u64(char *out, uint64_t v)
{
    char text[20], *p = text + sizeof text;
    size_t n;

    do {
        *--p = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    n = (size_t)(text + sizeof text - p);
    memcpy(out, p, n);
    return n;
}

size_t number_put_i64(char *out, int64_t v)
{
    if (v >= 0)
        return number_put_u64(out, (uint64_t)v);
    *out = '-';
    return 1 + number_put_u64(out + 1, ~(uint64_t)v + 1);
}

bool number_is_integer(struct str text)
{
    size_t i = text.n && text.p[0] == '-';

    if (i == text.n)
        return false;
    for (; i < text.n; i++)
        if (!is_digit(text.p[i]))
            return false;
    return true;
}

bool number_is_final_double(struct str text)
{
    size_t i = text.n && text.p[0] == '-', first = i, point;

    if (text.n - i > MAX_EXACT_DIGITS + 1)
        return false;
    while (i < text.n && is_digit(text.p[i]))
        i++;
    point = i;
    if (point == first || point == text.n || text.p[i++] != '.' || i == text.n)
        return false;
    while (i < text.n && is_digit(text.p[i]))
        i++;
    if (i != text.n || (text.p[first] == '0' && point != first + 1))
        return false;
    return text.p[i - 1] != '0' || i - point == 2;
}

/* −2⁶³ … 2⁶⁴−1, by length and digits; no superfluous zero in front. */
static bool fits_64_bit(struct str text)
{
    bool negative = text.p[0] == '-';
    struct str most = negative ? STR("9223372036854775808") : STR("18446744073709551615");
    struct str digits = str_skip(text, negative);

    return digits.n < most.n || (digits.n == most.n && memcmp(digits.p, most.p, most.n) <= 0);
}

/* JSON number text of any length: a hostile one may be long. */
static double to_double(struct str text)
{
    char small[512], *copy = text.n < sizeof small ? small : mem_new(text.n + 1);
    double v;

    memcpy(copy, text.p, text.n);
    copy[text.n] = 0;
    v = strtod(copy, NULL);
    if (copy != small)
        mem_free(copy);
    return v;
}

struct str number_final(struct str text, char out[NUMBER_MAX])
{
    if (number_is_integer(text)) {
        if (UNLIKELY(text.n == 2 && text.p[0] == '-' && text.p[1] == '0'))
            return str_skip(text, 1);
        if (LIKELY(fits_64_bit(text)))
            return text;
    } else if (LIKELY(number_is_final_double(text))) {
        return text;
    }
    return (struct str){out, number_put_double(out, to_double(text))};
}

struct str number_in_template(struct str text, char out[NUMBER_MAX])
{
    if (number_is_integer(text))
        return text;
    /* Final for the platform is final here, unless it is smaller than 0.0001, which is printed with an exponent. */
    if (LIKELY(number_is_final_double(text)) && (!str_starts(str_skip(text, text.p[0] == '-'), STR("0.0000"))))
        return text;
    return (struct str){out, number_put_python(out, to_double(text))};
}

/* Sign, digits, point, digits, exponent. */
struct parts {
    bool negative;
    struct str whole, fraction;
    int64_t exponent;
};

static struct str take_digits(struct str *rest)
{
    size_t n = 0;
    struct str digits;

    while (n < rest->n && is_digit(rest->p[n]))
        n++;
    digits = str_cut(*rest, n);
    *rest = str_skip(*rest, n);
    return digits;
}

static bool take_char(struct str *rest, const char *of)
{
    if (rest->n == 0 || *rest->p == 0 || !strchr(of, *rest->p))
        return false;
    *rest = str_skip(*rest, 1);
    return true;
}

static NODISCARD enum err split_number(struct str rest, struct parts *parts)
{
    bool negative;
    struct str digits;

    *parts = (struct parts){.negative = rest.n && *rest.p == '-'};
    (void)take_char(&rest, "+-");
    parts->whole = take_digits(&rest);
    if (take_char(&rest, "."))
        parts->fraction = take_digits(&rest);
    if (parts->whole.n + parts->fraction.n == 0)
        return ERR_SYNTAX;
    if (take_char(&rest, "eE")) {
        negative = rest.n && *rest.p == '-';
        (void)take_char(&rest, "+-");
        digits = take_digits(&rest);
        if (digits.n == 0)
            return ERR_SYNTAX;
        for (size_t i = 0; i < digits.n && parts->exponent < INT32_MAX; i++)
            parts->exponent = parts->exponent * 10 + (digits.p[i] - '0');
        parts->exponent = negative ? -parts->exponent : parts->exponent;
    }
    return rest.n ? ERR_SYNTAX : ERR_OK;
}

enum err number_read(struct str text, double *out)
{
    struct parts parts;
    enum err err = split_number(text, &parts);

    if (err)
        return err;
    *out = to_double(text);
    return isfinite(*out) ? ERR_OK : ERR_RANGE;
}

enum err number_truncate(struct str text, int64_t *out, bool *integral)
{
    struct parts parts;
    uint64_t v = 0;
    int64_t n_whole;
    enum err err = split_number(text, &parts);
    bool too_large = false;

    if (err)
        return err;
    *integral = true;
    n_whole = (int64_t)parts.whole.n + parts.exponent; /* digits before the moved point */
    for (size_t i = 0; i < parts.whole.n + parts.fraction.n; i++) {
        char c = i < parts.whole.n ? parts.whole.p[i] : parts.fraction.p[i - parts.whole.n];

        if ((int64_t)i < n_whole)
            too_large |= __builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (unsigned)(c - '0'), &v);
        else
            *integral &= c == '0';
    }
    for (int64_t i = (int64_t)(parts.whole.n + parts.fraction.n); i < n_whole && v && !too_large; i++)
        too_large = __builtin_mul_overflow(v, 10u, &v);
    if (too_large || v > (uint64_t)INT64_MAX + parts.negative)
        return ERR_RANGE;
    *out = parts.negative ? (int64_t)(~v + 1) : (int64_t)v;
    return ERR_OK;
}
