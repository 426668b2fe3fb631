/* SPDX-License-Identifier: Apache-2.0 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "base/buf.h"
#include "data/template.h"

#include <pcre2.h>
#include <stdio.h>

/*
 * Python's re by PCRE2. Which group "closed last" is a property of the pattern: the rank of a group is the place of its
 * closing parenthesis among all closing parentheses.
 */
struct regex {
    pcre2_code *code;
    pcre2_match_context *context; /* limits; only read while matching */
    struct str pattern;
    bool is_literal; /* no character in it means anything but itself */
    uint32_t n_groups;
    uint32_t *ranks; /* of groups 1 … n_groups at [1] … [n_groups]; NULL: by number */
};

enum { MATCH_LIMIT = 100000, MAX_PATTERN = 4096, MAX_OPEN = 250 };

/* --- compiling ---------------------------------------------------------------------------------------------------- */

/* Python's \Z is the very end, which PCRE2 calls \z. Same length, so that offsets in error messages stay right. */
static void translate(char *pattern, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++) {
        if (pattern[i] != '\\')
            continue;
        i++;
        if (pattern[i] == 'Z')
            pattern[i] = 'z';
    }
}

/* Behind the "]" of the class that begins at i ("["). */
static size_t skip_class(struct str s, size_t i)
{
    i++;
    if (i < s.n && s.p[i] == '^')
        i++;
    if (i < s.n && s.p[i] == ']')
        i++;
    for (; i < s.n && s.p[i] != ']'; i++)
        i += s.p[i] == '\\';
    return i < s.n ? i + 1 : s.n;
}

/* A "(" that counts: not (?: (?= (?! (?<= (?<! (?# (?i) and so on, but (?P<n> (?<n> (?'n'. */
static bool captures(struct str s, size_t i)
{
    char c = i + 2 < s.n ? s.p[i + 2] : 0, d = i + 3 < s.n ? s.p[i + 3] : 0;

    if (i + 1 >= s.n || (s.p[i + 1] != '?' && s.p[i + 1] != '*'))
        return true;
    return s.p[i + 1] == '?' && ((c == 'P' && d == '<') || (c == '<' && d != '=' && d != '!') || c == '\'');
}

static void rank_groups(struct regex *regex)
{
    struct str s = regex->pattern;
    uint32_t open[MAX_OPEN], depth = 0, n = 0, rank = 0;

    regex->ranks = mem_zero((regex->n_groups + 1) * sizeof *regex->ranks);
    for (size_t i = 0; i < s.n;) {
        if (s.p[i] == '\\') {
            i += 2;
            continue;
        }
        if (s.p[i] == '[') {
            i = skip_class(s, i);
            continue;
        }
        if (s.p[i] == '(' && depth < MAX_OPEN) {
            bool counts = captures(s, i);

            n += counts;
            open[depth++] = counts ? n : 0;
        } else if (s.p[i] == ')' && depth && open[--depth] && open[depth] <= regex->n_groups) {
            regex->ranks[open[depth]] = ++rank;
        }
        i++;
    }
    if (rank != regex->n_groups) { /* comments, \Q…\E: a pattern this scan does not follow */
        mem_free(regex->ranks);
        regex->ranks = NULL;
    }
}

static bool has_no_special(struct str pattern)
{
    for (size_t i = 0; i < pattern.n; i++)
        if (pattern.p[i] == 0 || strchr("\\^$.|?*+()[]{}", pattern.p[i]))
            return false;
    return true;
}

enum err regex_compile(struct regex **out, struct str pattern, enum regex_use use, struct why *why)
{
    static const uint32_t options[] = {
        [REGEX_SEARCH] = 0, [REGEX_MATCH] = PCRE2_ANCHORED, [REGEX_FULL] = PCRE2_ANCHORED | PCRE2_ENDANCHORED};
    struct regex *regex;
    PCRE2_SIZE offset = 0;
    char *copy;
    int number;

    if (pattern.n > MAX_PATTERN)
        return why_set(why, ERR_LIMIT, "a pattern has at most %d bytes; this one has %zu", MAX_PATTERN, pattern.n);
    regex = mem_zero(sizeof *regex);
    copy = mem_new(pattern.n + 1);
    memcpy(copy, pattern.n ? pattern.p : "", pattern.n);
    copy[pattern.n] = 0;
    regex->pattern = (struct str){copy, pattern.n};
    regex->is_literal = has_no_special(pattern);
    translate(copy, pattern.n);
    regex->code = pcre2_compile((PCRE2_SPTR)copy, pattern.n,
                                PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | options[use], &number, &offset, NULL);
    if (!regex->code) {
        PCRE2_UCHAR message[200] = "";

        pcre2_get_error_message(number, message, sizeof message);
        regex_free(regex);
        return why_set(why, ERR_SYNTAX, "at offset %zu: %s", (size_t)offset, (const char *)message);
    }
    (void)pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE); /* without it the same result, slower */
    regex->context = pcre2_match_context_create(NULL);
    if (!regex->context)
        mem_die(sizeof *regex);
    pcre2_set_match_limit(regex->context, MATCH_LIMIT);
    pcre2_pattern_info(regex->code, PCRE2_INFO_CAPTURECOUNT, &regex->n_groups);
    rank_groups(regex);
    *out = regex;
    return ERR_OK;
}

void regex_free(struct regex *regex)
{
    if (!regex)
        return;
    pcre2_code_free(regex->code);
    pcre2_match_context_free(regex->context);
    mem_free((void *)(uintptr_t)regex->pattern.p);
    mem_free(regex->ranks);
    mem_free(regex);
}

/* --- matching: the library's working memory stands on the stack --------------------------------------------------- */

struct pool {
    size_t used;
    _Alignas(16) uint8_t bytes[4096];
};

static void *pool_alloc(size_t size, void *data)
{
    struct pool *pool = data;
    size_t at = (pool->used + 15) & ~(size_t)15;

    if (at > sizeof pool->bytes || size > sizeof pool->bytes - at)
        return mem_try(size);
    pool->used = at + size;
    return pool->bytes + at;
}

static void pool_free(void *p, void *data)
{
    struct pool *pool = data;

    if ((uint8_t *)p < pool->bytes || (uint8_t *)p >= pool->bytes + sizeof pool->bytes)
        mem_free(p);
}

/* The group that closed last, else the whole. */
static struct str result_of(const struct regex *regex, const PCRE2_SIZE *ovector, struct str text)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i <= regex->n_groups; i++) {
        if (ovector[2 * i] == PCRE2_UNSET || ovector[2 * i] > ovector[2 * i + 1])
            continue;
        if (best == 0 || !regex->ranks || regex->ranks[i] > regex->ranks[best])
            best = i;
    }
    if (ovector[2 * best] > ovector[2 * best + 1]) /* \K in a look-behind: the match ends before it begins */
        return (struct str){text.p, 0};
    return (struct str){text.p + ovector[2 * best], ovector[2 * best + 1] - ovector[2 * best]};
}

static void groups_of(const struct regex *regex, const PCRE2_SIZE *ovector, struct str text, struct str *out,
                      unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        char name[16];
        int number;

        snprintf(name, sizeof name, "v%u", i);
        number = pcre2_substring_number_from_name(regex->code, (PCRE2_SPTR)name);
        out[i] = STR_NONE;
        if (number > 0 && ovector[2 * number] != PCRE2_UNSET && ovector[2 * number] <= ovector[2 * number + 1])
            out[i] = str_of(text.p + ovector[2 * number], ovector[2 * number + 1] - ovector[2 * number]);
    }
}

/* n 0: out is the result, else the groups. */
static bool match(const struct regex *regex, struct str text, struct str *out, unsigned n)
{
    struct pool pool;
    pcre2_general_context *general;
    pcre2_match_data *data;
    bool matched = false;

    pool.used = 0;
    general = pcre2_general_context_create(pool_alloc, pool_free, &pool);
    data = general ? pcre2_match_data_create_from_pattern(regex->code, general) : NULL;
    if (data) {
        matched = pcre2_match(regex->code, (PCRE2_SPTR)(text.p ? text.p : ""), text.n, 0, 0, data, regex->context) > 0;
        if (matched && n)
            groups_of(regex, pcre2_get_ovector_pointer(data), text, out, n);
        else if (matched)
            *out = result_of(regex, pcre2_get_ovector_pointer(data), text);
    }
    pcre2_match_data_free(data);
    pcre2_general_context_free(general);
    return matched;
}

bool regex_topic(const struct regex *regex, struct str topic, bool literal_ok, struct str *out)
{
    if (match(regex, topic, out, 0))
        return true;
    if (!literal_ok || !regex->is_literal)
        return false;
    *out = regex->pattern;
    return true;
}

bool regex_groups(const struct regex *regex, struct str text, struct str *out, unsigned n)
{
    return match(regex, text, out, n);
}
