/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base64.h"

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

enum err base64_decode(struct buf *out, struct str text)
{
    size_t n_pad = 0, n = text.n;
    uint8_t *to = buf_room(out, text.n / 4 * 3 + 3);

    while (n && n_pad < 2 && text.p[n - 1] == '=')
        n--, n_pad++;
    if (text.n % 4)
        return ERR_SYNTAX;
    for (size_t i = 0; i < n; i += 4) {
        size_t n_here = n - i < 4 ? n - i : 4;
        uint32_t bits = 0;

        for (size_t j = 0; j < 4; j++) {
            int value = j < n_here ? value_of(text.p[i + j]) : 0;

            if (value < 0)
                return ERR_SYNTAX;
            bits = bits << 6 | (uint32_t)value;
        }
        for (size_t j = 0; j + 1 < n_here; j++)
            *to++ = (uint8_t)(bits >> (16 - 8 * j));
    }
    out->n = (size_t)(to - out->p);
    return ERR_OK;
}
