/* SPDX-License-Identifier: Apache-2.0 */
#include "mqtt/topic.h"

#include "base/utf8.h"

static const struct str share_prefix = {"$share/", 7};

#define EACH_BYTE(c) (0x0101010101010101ull * (uint8_t)(c))

/* Not 0 if one of the eight bytes is 0. */
static uint64_t has_zero(uint64_t v)
{
    return (v - EACH_BYTE(1)) & ~v & EACH_BYTE(0x80);
}

/* Topic names consist of ASCII without '+', '#' and NUL nearly always: told eight bytes at a time. */
static bool is_plain(struct str topic)
{
    uint64_t v, bad = 0;
    size_t i = 0;

    for (; topic.n - i >= 8; i += 8) {
        memcpy(&v, topic.p + i, 8);
        bad |= (v & EACH_BYTE(0x80)) | has_zero(v) | has_zero(v ^ EACH_BYTE('+')) | has_zero(v ^ EACH_BYTE('#'));
    }
    v = EACH_BYTE('a');
    if (topic.n > i)
        memcpy(&v, topic.p + i, topic.n - i);
    bad |= (v & EACH_BYTE(0x80)) | has_zero(v) | has_zero(v ^ EACH_BYTE('+')) | has_zero(v ^ EACH_BYTE('#'));
    return bad == 0;
}

static NODISCARD enum err text_check(struct str text, const char *what, struct why *why)
{
    if (text.n == 0)
        return why_set(why, ERR_SYNTAX, "%s is empty", what);
    if (text.n > 65535)
        return why_set(why, ERR_LIMIT, "%s has %zu bytes, MQTT allows 65535", what, text.n);
    if (memchr(text.p, 0, text.n))
        return why_set(why, ERR_SYNTAX, "%s contains the character U+0000", what);
    if (!utf8_is_valid(text))
        return why_set(why, ERR_SYNTAX, "%s is not valid UTF-8", what);
    return ERR_OK;
}

enum err topic_name_check(struct str topic, struct why *why)
{
    enum err err;

    if (LIKELY(topic.n - 1 < 65535 && is_plain(topic)))
        return ERR_OK;
    err = text_check(topic, "topic", why);
    if (err)
        return err;
    if (str_chr(topic, '+') < topic.n || str_chr(topic, '#') < topic.n)
        return why_set(why, ERR_SYNTAX, "topic \"" STR_FMT "\" contains a wildcard", STR_ARG(topic));
    return ERR_OK;
}

/* MQTT 5, 4.8.2: $share/<name without / + #>/<filter>. Gives the filter behind it. */
static NODISCARD enum err skip_share(struct str *filter, struct why *why)
{
    struct str rest = str_skip(*filter, share_prefix.n);
    size_t name_n = str_chr(rest, '/');

    if (name_n == 0 || name_n + 1 >= rest.n)
        return why_set(why, ERR_SYNTAX, "filter \"" STR_FMT "\": a shared subscription is $share/<group>/<filter>",
                       STR_ARG(*filter));
    if (str_chr(str_cut(rest, name_n), '+') < name_n || str_chr(str_cut(rest, name_n), '#') < name_n)
        return why_set(why, ERR_SYNTAX, "filter \"" STR_FMT "\": the group has a wildcard", STR_ARG(*filter));
    *filter = str_skip(rest, name_n + 1);
    return ERR_OK;
}

/* The filter without $share/<group>/. */
static struct str plain_filter(struct str filter)
{
    if (str_starts(filter, share_prefix))
        (void)(skip_share(&filter, NULL) == ERR_OK);
    return filter;
}

enum err topic_filter_check(struct str filter, struct why *why)
{
    struct str rest = filter, level;
    enum err err = text_check(filter, "filter", why);

    if (!err && str_starts(filter, share_prefix))
        err = skip_share(&rest, why);
    if (err)
        return err;
    while (str_split(&rest, '/', &level)) {
        if (str_chr(level, '#') < level.n && (level.n > 1 || rest.p))
            return why_set(why, ERR_SYNTAX, "filter \"" STR_FMT "\": # must stand alone as the last level",
                           STR_ARG(filter));
        if (str_chr(level, '+') < level.n && level.n > 1)
            return why_set(why, ERR_SYNTAX, "filter \"" STR_FMT "\": + must stand alone as a level", STR_ARG(filter));
    }
    return ERR_OK;
}

bool topic_matches(struct str filter, struct str topic)
{
    const char *f, *f_end, *t = topic.p, *t_end = topic.p + topic.n;

    filter = plain_filter(filter);
    if (filter.n == 0 || topic.n == 0)
        return false;
    f = filter.p;
    f_end = f + filter.n;
    if (*t == '$' && (*f == '+' || *f == '#')) /* 4.7.2 */
        return false;
    for (;;) { /* at the start of a level in both */
        if (f < f_end && *f == '#')
            return true;
        if (f < f_end && *f == '+') {
            f++;
            while (t < t_end && *t != '/')
                t++;
        } else {
            while (f < f_end && *f != '/' && t < t_end && *t == *f)
                f++, t++;
            if (f < f_end && *f != '/')
                return false;
        }
        if (t < t_end && *t != '/')
            return false;
        if (t == t_end) /* "a/#" matches "a" too (4.7.1.2) */
            return f == f_end || (f_end - f == 2 && f[1] == '#');
        if (f == f_end)
            return false;
        f++;
        t++;
    }
}
