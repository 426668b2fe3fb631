/* SPDX-License-Identifier: Apache-2.0 */
#include "connector/report.h"
#include "data/json.h"

#include <math.h>
#include <string.h>

/*
 * Values are compared as the texts that are sent (core.md 6.3): an integer has digits only, a double always a point. Equal texts,
 * the usual case, are equal values; everything below runs only for texts that differ.
 */
enum { DIGITS_EXACT = 15, DECIMALS_EXACT = 22 };

static bool is_number(struct str text)
{
    return text.n && (text.p[0] == '-' || (text.p[0] >= '0' && text.p[0] <= '9'));
}

static bool is_integer(struct str text)
{
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] == '.' || text.p[i] == 'e' || text.p[i] == 'E')
            return false;
    return true;
}

/* Few digits over a power of ten that a double holds exactly: one division, rounded once, is the nearest double. */
static bool short_number(struct str text, double *out)
{
    static const double powers[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    bool is_negative = text.p[0] == '-';
    unsigned n_digits = 0, n_decimals = 0;
    bool is_behind_point = false;
    uint64_t n = 0;

    if (text.n > DIGITS_EXACT + 1)
        return false;
    for (size_t i = is_negative; i < text.n; i++) {
        unsigned digit = (unsigned char)text.p[i] - (unsigned)'0';

        if (text.p[i] == '.' && !is_behind_point) {
            is_behind_point = true;
            continue;
        }
        if (digit > 9)
            return false;
        n = n * 10 + digit;
        n_digits++;
        n_decimals += is_behind_point;
    }
    if (n_digits == 0 || n_digits > DIGITS_EXACT)
        return false;
    *out = (double)n / powers[n_decimals];
    if (is_negative)
        *out = -*out;
    return true;
}

static bool number_of(struct str text, double *out)
{
    return short_number(text, out) || str_to_double(text, out) == ERR_OK;
}

/* Integers of up to 64 bits and a sign, as the final form has them. */
static bool integer_of(struct str text, __int128 *out)
{
    bool is_negative = text.p[0] == '-';

    *out = 0;
    if (text.n > 24)
        return false;
    for (size_t i = is_negative; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        *out = *out * 10 + (text.p[i] - '0');
    }
    if (is_negative)
        *out = -*out;
    return true;
}

static bool is_same_integer_and_fraction(struct str integer, struct str fraction)
{
    __int128 i;
    double d;

    if (!integer_of(integer, &i) || !number_of(fraction, &d) || fabs(d) >= 0x1p100 || d != floor(d))
        return false;
    return (__int128)d == i;
}

static bool is_within_deadband(double before, double now, const struct report_strategy *strategy)
{
    double band = fabs(before) * strategy->deadband_percent / 100;

    if (strategy->deadband > band)
        band = strategy->deadband;
    return fabs(now - before) < band;
}

static bool numbers_are_equal(struct str before, struct str now, const struct report_strategy *strategy)
{
    static const double STEP = 0.001; /* of two fractions: core.md 7.3 */
    bool has_band = strategy && (strategy->deadband > 0 || strategy->deadband_percent > 0);
    bool is_integer_before = is_integer(before), is_integer_now = is_integer(now);
    __int128 i, j;
    double a, b;

    if (is_integer_before && is_integer_now) {
        if (integer_of(before, &i) && integer_of(now, &j) && i == j) /* 0 and -0 */
            return true;
    } else if (is_integer_before || is_integer_now) {
        if (is_integer_before ? is_same_integer_and_fraction(before, now) : is_same_integer_and_fraction(now, before))
            return true;
    } else if (number_of(before, &a) && number_of(now, &b) && fabs(a - b) < STEP) {
        return true;
    }
    return has_band && number_of(before, &a) && number_of(now, &b) && is_within_deadband(a, b, strategy);
}

/* One of them has escapes, or they are lists or objects. */
static bool documents_are_equal(struct str before, struct str now)
{
    yyjson_doc *a = json_read(before, NULL), *b = a ? json_read(now, NULL) : NULL;
    bool is_equal = b && json_equal(yyjson_doc_get_root(a), yyjson_doc_get_root(b));

    yyjson_doc_free(a);
    yyjson_doc_free(b);
    return is_equal;
}

static bool has_escape(struct str text)
{
    return text.n && memchr(text.p, '\\', text.n);
}

bool report_equal(struct str before, struct str now, const struct report_strategy *strategy)
{
    if (LIKELY(before.n == now.n && memcmp(before.p, now.p, now.n) == 0))
        return true;
    if (before.n == 0 || now.n == 0)
        return false;
    if (is_number(before))
        return is_number(now) && numbers_are_equal(before, now, strategy);
    if (before.p[0] != now.p[0])
        return false;
    switch (before.p[0]) {
    case '"':
        return (has_escape(before) || has_escape(now)) && documents_are_equal(before, now);
    case '[':
    case '{':
        return documents_are_equal(before, now);
    default: /* true, false, null: by their text */
        return false;
    }
}
