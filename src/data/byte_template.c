/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hex.h"
#include "base/utf8.h"
#include "data/template.h"

/* Literal text and slices of the payload by Python's rules: negative from the end, a slice is clipped, an index must exist. */
struct part {
    enum { PART_LITERAL, PART_SLICE, PART_INDEX } kind;
    struct str literal;
    int64_t from, to; /* INDEX: from */
    bool has_from, has_to;
};

struct byte_template {
    bool is_constant;
    size_t n;
    struct part *parts;
};

/* [-]digits?, saturated: whatever is that large lies beyond any payload. Gives whether there was a number. */
static bool read_bound(struct str *rest, int64_t *out)
{
    bool negative = rest->n && *rest->p == '-', any = false;
    int64_t v = 0;

    if (negative)
        *rest = str_skip(*rest, 1);
    while (rest->n && *rest->p >= '0' && *rest->p <= '9') {
        v = v > INT32_MAX ? v : v * 10 + (*rest->p - '0');
        *rest = str_skip(*rest, 1);
        any = true;
    }
    *out = negative ? -v : v;
    return any;
}

/* Reads "[a:b]" and its like at the front of text; gives its length, 0: it is none. */
static size_t read_part(struct str text, struct part *part)
{
    struct str rest = str_skip(text, 1);
    struct part got = {PART_INDEX};

    if (text.n < 3 || *text.p != '[')
        return 0;
    got.has_from = read_bound(&rest, &got.from);
    if (rest.n && *rest.p == ':') {
        got.kind = PART_SLICE;
        rest = str_skip(rest, 1);
        got.has_to = read_bound(&rest, &got.to);
    } else if (!got.has_from) {
        return 0;
    }
    if (rest.n == 0 || *rest.p != ']')
        return 0;
    *part = got;
    return text.n - rest.n + 1;
}

static size_t count_parts(struct str text)
{
    struct part part;
    size_t n = 1, length;

    for (size_t i = 0; i < text.n; i += length ? length : 1) {
        length = read_part(str_skip(text, i), &part);
        n += length ? 2 : 0;
    }
    return n;
}

enum err byte_template_compile(struct byte_template **out, struct arena *arena, struct str text)
{
    struct byte_template *template = arena_zero(arena, sizeof *template);
    size_t from = 0, i = 0;

    text = arena_str(arena, text);
    template->parts = arena_zero(arena, count_parts(text) * sizeof *template->parts);
    template->is_constant = true;
    while (i < text.n) {
        struct part part;
        size_t length = read_part(str_skip(text, i), &part);

        if (length == 0) {
            i++;
            continue;
        }
        if (i > from)
            template->parts[template->n++] = (struct part){PART_LITERAL, .literal = {text.p + from, i - from}};
        template->parts[template->n++] = part;
        template->is_constant = false;
        i += length;
        from = i;
    }
    if (i > from)
        template->parts[template->n++] = (struct part){PART_LITERAL, .literal = {text.p + from, i - from}};
    *out = template;
    return ERR_OK;
}

bool byte_template_is_constant(const struct byte_template *template)
{
    return template->is_constant;
}

static int64_t clip(int64_t i, int64_t n)
{
    if (i < 0)
        i += n;
    return i < 0 ? 0 : i > n ? n : i;
}

/* The bytes a part stands for; false: an index that does not exist. */
static bool part_bytes(const struct part *part, struct str payload, struct str *out)
{
    int64_t n = (int64_t)payload.n, from, to;

    if (part->kind == PART_LITERAL) {
        *out = part->literal;
        return true;
    }
    if (part->kind == PART_INDEX) {
        from = part->from < 0 ? part->from + n : part->from;
        if (from < 0 || from >= n)
            return false;
        *out = (struct str){payload.p + from, 1};
        return true;
    }
    from = part->has_from ? clip(part->from, n) : 0;
    to = part->has_to ? clip(part->to, n) : n;
    *out = from < to ? (struct str){payload.p + from, (size_t)(to - from)} : STR("");
    return true;
}

bool byte_template_text(const struct byte_template *template, struct str payload, bool hex, struct arena *arena,
                        struct str *out)
{
    struct buf text = {0};
    size_t n = 0;

    for (size_t i = 0; i < template->n; i++) {
        bool is_slice = template->parts[i].kind != PART_LITERAL;
        struct str bytes;

        if (!part_bytes(&template->parts[i], payload, &bytes) || (is_slice && !hex && !utf8_is_valid(bytes)))
            return false;
        n += is_slice && hex ? 2 * bytes.n : bytes.n;
    }
    text = (struct buf){(uint8_t *)arena_chars(arena, n), 0, n};
    for (size_t i = 0; i < template->n; i++) {
        struct str bytes = STR_NONE;

        (void)part_bytes(&template->parts[i], payload, &bytes);
        if (template->parts[i].kind != PART_LITERAL && hex)
            hex_add(&text, bytes.p, bytes.n);
        else
            buf_add_str(&text, bytes);
    }
    *out = buf_str(&text);
    return true;
}
