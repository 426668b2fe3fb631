/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hex.h"

void hex_add(struct buf *out, const void *data, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = data;
    uint8_t *to = buf_room(out, n * 2);

    for (size_t i = 0; i < n; i++) {
        *to++ = (uint8_t)digits[p[i] >> 4];
        *to++ = (uint8_t)digits[p[i] & 15];
    }
    out->n += n * 2;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

enum err hex_decode(struct buf *out, struct str text)
{
    if (text.n % 2)
        return ERR_SYNTAX;
    for (size_t i = 0; i < text.n; i += 2) {
        int hi = digit(text.p[i]), lo = digit(text.p[i + 1]);

        if (hi < 0 || lo < 0)
            return ERR_SYNTAX;
        buf_add_u8(out, (uint8_t)(hi << 4 | lo));
    }
    return ERR_OK;
}
