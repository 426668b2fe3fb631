/* SPDX-License-Identifier: Apache-2.0 */
#include "convert/web_text.h"

#include <errno.h>
#include <iconv.h>
#include <stdio.h>

enum { CHARSET_MAX = 40, GROWTH_MAX = 4 };

/* The encoding that the first bytes show (as RFC 4627 3 had it): JSON begins with two ASCII characters, or a byte order mark. */
static const char *shown_by(struct str body)
{
    const uint8_t *p = (const uint8_t *)body.p;

    if (body.n < 4)
        return NULL;
    if ((!p[0] && !p[1] && p[2] == 0xFE && p[3] == 0xFF) || (!p[0] && !p[1] && !p[2]))
        return "UTF-32BE";
    if ((p[0] == 0xFF && p[1] == 0xFE && !p[2] && !p[3]) || (!p[1] && !p[2] && !p[3]))
        return "UTF-32LE";
    if ((p[0] == 0xFE && p[1] == 0xFF) || (!p[0] && !p[2]))
        return "UTF-16BE";
    if ((p[0] == 0xFF && p[1] == 0xFE) || (!p[1] && !p[3]))
        return "UTF-16LE";
    return NULL;
}

/* charset=… of a content type, unless it is UTF-8 or ASCII; "": none. */
static void charset_of(struct str content_type, char charset[CHARSET_MAX])
{
    struct str rest = content_type, part;

    charset[0] = 0;
    while (str_split(&rest, ';', &part)) {
        struct str value = str_trim(part);

        if (!str_eq_nocase(str_cut(value, 8), STR("charset=")))
            continue;
        value = str_trim(str_skip(value, 8));
        if (value.n >= 2 && value.p[0] == '"')
            value = str_cut(str_skip(value, 1), value.n - 2);
        if (str_eq_nocase(value, STR("utf-8")) || str_eq_nocase(value, STR("us-ascii")) || value.n >= CHARSET_MAX)
            return;
        for (size_t i = 0; i < value.n; i++) /* "//TRANSLIT" and its like are not for others to ask for */
            if (value.p[i] == '/' || !value.p[i])
                return;
        snprintf(charset, CHARSET_MAX, STR_FMT, STR_ARG(value));
        return;
    }
}

static enum err recode(struct str body, const char *charset, struct arena *arena, struct str *out, struct why *why)
{
    iconv_t cd = iconv_open("UTF-8", charset);
    char *from = (char *)(uintptr_t)body.p, *to;
    size_t n_from = body.n, n_to = body.n * GROWTH_MAX;
    struct str whole;
    size_t n;

    if (cd == (iconv_t)-1)
        return why_set(why, ERR_UNSUPPORTED, "the text is in the character set %s, which is not known here", charset);
    to = arena_alloc(arena, n_to + 1);
    whole.p = to;
    n = iconv(cd, &from, &n_from, &to, &n_to);
    iconv_close(cd);
    if (n == (size_t)-1)
        return why_set(why, ERR_SYNTAX, "the text is not in the character set %s from byte %zu on", charset,
                       body.n - n_from);
    whole.n = (size_t)(to - whole.p);
    *out = whole;
    return ERR_OK;
}

enum err web_utf8(struct str body, struct str content_type, struct arena *arena, struct str *out, struct why *why)
{
    const char *shown = shown_by(body);
    char charset[CHARSET_MAX];
    enum err err = ERR_OK;

    *out = body;
    charset_of(content_type, charset);
    if (shown || charset[0])
        err = recode(body, shown ? shown : charset, arena, out, why);
    if (str_starts(*out, STR("\xEF\xBB\xBF")))
        *out = str_skip(*out, 3);
    return err;
}
