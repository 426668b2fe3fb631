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

void base64_encode(struct buf *out, struct str bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < bytes.n; i += 3) {
        size_t n = bytes.n - i < 3 ? bytes.n - i : 3;
        uint32_t bits = (uint32_t)(uint8_t)bytes.p[i] << 16;

        bits |= n > 1 ? (uint32_t)(uint8_t)bytes.p[i + 1] << 8 : 0;
        bits |= n > 2 ? (uint8_t)bytes.p[i + 2] : 0;
        for (size_t k = 0; k < 4; k++)
            buf_add_u8(out, (uint8_t)(k <= n ? digits[bits >> (18 - 6 * k) & 63] : '='));
    }
}
