/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"

uint32_t utf8_next(struct str s, size_t *i)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    const uint8_t *p = (const uint8_t *)s.p + *i;
    size_t left = s.n - *i, n;
    uint32_t code;

    if (p[0] < 0x80) {
        *i += 1;
        return p[0];
    }
    n = p[0] >= 0xf0 && p[0] < 0xf8 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc0 ? 2 : 0;
    if (n == 0 || p[0] >= 0xf8 || left < n)
        goto invalid;
    code = p[0] & (0xffu >> (n + 1));
    for (size_t k = 1; k < n; k++) {
        if ((p[k] & 0xc0) != 0x80)
            goto invalid;
        code = code << 6 | (p[k] & 0x3f);
    }
    if (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        goto invalid;
    *i += n;
    return code;

invalid:
    *i += 1;
    return UINT32_MAX;
}

bool utf8_is_valid(struct str s)
{
    for (size_t i = 0; i < s.n;) {
        uint64_t v;

        if (s.n - i >= 8 && (memcpy(&v, s.p + i, 8), (v & 0x8080808080808080ull) == 0))
            i += 8;
        else if (utf8_next(s, &i) == UINT32_MAX)
            return false;
    }
    return true;
}

size_t utf8_put(char *out, uint32_t code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

size_t utf8_count(struct str s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.n; n++)
        (void)utf8_next(s, &i);
    return n;
}

size_t utf8_offset(struct str s, size_t n)
{
    size_t i = 0;

    for (; n > 0; n--) {
        if (i >= s.n)
            return SIZE_MAX;
        (void)utf8_next(s, &i);
    }
    return i;
}

void utf8_add_valid(struct buf *out, struct str s)
{
    for (size_t i = 0; i < s.n;) {
        size_t from = i;

        if (utf8_next(s, &i) != UINT32_MAX)
            buf_add(out, s.p + from, i - from);
    }
}
