/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include <stdlib.h>

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool str_eq_nocase(struct str a, struct str b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    return true;
}

int str_cmp(struct str a, struct str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;

    return c ? c : (a.n > b.n) - (a.n < b.n);
}

size_t str_chr(struct str s, char c)
{
    const char *hit = s.n ? memchr(s.p, c, s.n) : NULL;

    return hit ? (size_t)(hit - s.p) : s.n;
}

size_t str_find(struct str s, struct str needle, size_t from)
{
    const char *hit;

    if (from > s.n)
        return SIZE_MAX;
    if (needle.n == 0)
        return from;
    hit = memmem(s.p + from, s.n - from, needle.p, needle.n);
    return hit ? (size_t)(hit - s.p) : SIZE_MAX;
}

bool str_has_nocase(struct str s, struct str needle)
{
    for (size_t i = 0; i + needle.n <= s.n; i++)
        if (str_eq_nocase((struct str){s.p + i, needle.n}, needle))
            return true;
    return false;
}

struct str str_trim(struct str s)
{
    while (s.n && is_space(s.p[s.n - 1]))
        s.n--;
    while (s.n && is_space(*s.p))
        s.p++, s.n--;
    return s;
}

bool str_split(struct str *rest, char c, struct str *part)
{
    size_t i;

    if (!rest->p)
        return false;
    i = str_chr(*rest, c);
    *part = str_cut(*rest, i);
    *rest = i < rest->n ? str_skip(*rest, i + 1) : STR_NONE;
    return true;
}

enum err str_to_u64(struct str s, uint64_t *out)
{
    uint64_t v = 0;

    if (s.n == 0)
        return ERR_SYNTAX;
    for (size_t i = 0; i < s.n; i++) {
        if (!is_digit(s.p[i]))
            return ERR_SYNTAX;
        if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (unsigned)(s.p[i] - '0'), &v))
            return ERR_RANGE;
    }
    *out = v;
    return ERR_OK;
}

enum err str_to_i64(struct str s, int64_t *out)
{
    bool negative = s.n && *s.p == '-';
    uint64_t v;
    enum err err = str_to_u64(s.n && (*s.p == '-' || *s.p == '+') ? str_skip(s, 1) : s, &v);

    if (err)
        return err;
    if (v > (uint64_t)INT64_MAX + negative)
        return ERR_RANGE;
    *out = negative ? (int64_t)(~v + 1) : (int64_t)v;
    return ERR_OK;
}

enum err str_to_double(struct str s, double *out)
{
    char text[512], *end;
    size_t i = 0, n_digits = 0;

    if (s.n == 0 || s.n >= sizeof text)
        return s.n ? ERR_LIMIT : ERR_SYNTAX;
    if (s.p[i] == '-' || s.p[i] == '+')
        i++;
    for (; i < s.n && is_digit(s.p[i]); i++)
        n_digits++;
    if (i < s.n && s.p[i] == '.')
        for (i++; i < s.n && is_digit(s.p[i]); i++)
            n_digits++;
    if (n_digits == 0)
        return ERR_SYNTAX;
    if (i < s.n && (s.p[i] == 'e' || s.p[i] == 'E')) {
        i++;
        if (i < s.n && (s.p[i] == '-' || s.p[i] == '+'))
            i++;
        if (i == s.n || !is_digit(s.p[i]))
            return ERR_SYNTAX;
        while (i < s.n && is_digit(s.p[i]))
            i++;
    }
    if (i != s.n)
        return ERR_SYNTAX;
    memcpy(text, s.p, s.n);
    text[s.n] = 0;
    *out = strtod(text, &end);
    return *end ? ERR_SYNTAX : ERR_OK;
}

/* Optimal string alignment over three rolling rows; words longer than the rows are never near anything. */
unsigned str_distance(struct str a, struct str b, unsigned limit)
{
    enum { MAX = 64 };
    unsigned row[3][MAX + 1];

    if (a.n > MAX || b.n > MAX)
        return limit + 1;
    for (unsigned j = 0; j <= b.n; j++)
        row[0][j] = j;
    for (unsigned i = 1; i <= a.n; i++) {
        unsigned *now = row[i % 3], *before = row[(i + 2) % 3], *first = row[(i + 1) % 3];

        now[0] = i;
        for (unsigned j = 1; j <= b.n; j++) {
            bool same = lower(a.p[i - 1]) == lower(b.p[j - 1]);
            unsigned best = before[j - 1] + !same;

            if (before[j] + 1 < best)
                best = before[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && lower(a.p[i - 1]) == lower(b.p[j - 2]) && lower(a.p[i - 2]) == lower(b.p[j - 1]) &&
                first[j - 2] + 1 < best)
                best = first[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[a.n % 3][b.n] > limit ? limit + 1 : row[a.n % 3][b.n];
}
