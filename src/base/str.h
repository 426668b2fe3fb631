/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_STR_H
#define IOTGW_STR_H
/*
 * A string is a borrowed view: pointer and length, not terminated, any bytes. Who owns the bytes is said where the
 * view is stored. Comparison is by bytes; "nocase" folds ASCII letters only.
 */
#include "base/err.h"

#include <string.h>

#define STR(literal) ((struct str){"" literal, sizeof(literal) - 1})
#define STR_NONE ((struct str){0})
/* For printf: "%.*s". Cut at 1024 bytes, which is what a log line or message can use. */
#define STR_FMT "%.*s"
#define STR_ARG(s) (int)((s).n > 1024 ? 1024 : (s).n), (s).p ? (s).p : ""

static inline struct str str_from(const char *text)
{
    return (struct str){text, text ? strlen(text) : 0};
}

static inline struct str str_of(const void *p, size_t n)
{
    return (struct str){p, n};
}

static inline bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool str_eq_z(struct str a, const char *b)
{
    return str_eq(a, str_from(b));
}

static inline bool str_starts(struct str s, struct str prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

static inline bool str_ends(struct str s, struct str end)
{
    return s.n >= end.n && (end.n == 0 || memcmp(s.p + s.n - end.n, end.p, end.n) == 0);
}

static inline struct str str_skip(struct str s, size_t n)
{
    return n >= s.n ? (struct str){s.p + s.n, 0} : (struct str){s.p + n, s.n - n};
}

static inline struct str str_cut(struct str s, size_t n)
{
    return (struct str){s.p, n < s.n ? n : s.n};
}

bool str_eq_nocase(struct str a, struct str b);
int str_cmp(struct str a, struct str b);
/* Index of the first c, or s.n. */
size_t str_chr(struct str s, char c);
/* Index of the first needle at or after from, or SIZE_MAX. An empty needle is found at from. */
size_t str_find(struct str s, struct str needle, size_t from);
bool str_has_nocase(struct str s, struct str needle);
/* Without ASCII white space at both ends. */
struct str str_trim(struct str s);
/* Takes what stands before the first c off *rest (with the c) and gives it; false when *rest was exhausted (p NULL). */
bool str_split(struct str *rest, char c, struct str *part);

/* Whole text must be the number: optional sign, decimal digits. */
NODISCARD enum err str_to_i64(struct str s, int64_t *out);
NODISCARD enum err str_to_u64(struct str s, uint64_t *out);
/* Decimal with optional fraction and exponent, as JSON but also ".5", "1." and a sign "+"; no inf, nan or hex. */
NODISCARD enum err str_to_double(struct str s, double *out);

/* Number of edits between two words (insert, delete, replace, swap of neighbours), at most limit + 1. Case counts half: 0. */
unsigned str_distance(struct str a, struct str b, unsigned limit);
#endif
