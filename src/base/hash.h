/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_HASH_H
#define IOTGW_HASH_H
/*
 * Hash of bytes for tables in memory. Seeded anew in each process, so that nobody outside can prepare collisions;
 * therefore never stored and never compared between processes. Any thread.
 */
#include "base/str.h"

extern uint64_t hash_seed; /* set before main() runs, constant from then on */

static inline uint64_t hash_mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t hash_bytes(const void *data, size_t n)
{
    const uint8_t *p = data;
    uint64_t h = hash_seed ^ (n * 0x9e3779b97f4a7c15ull), a = 0, b = 0;

    for (; n > 16; p += 16, n -= 16) {
        memcpy(&a, p, 8);
        memcpy(&b, p + 8, 8);
        h = hash_mix(a ^ 0xa0761d6478bd642full, b ^ h);
    }
    a = b = 0;
    if (n >= 8) {
        memcpy(&a, p, 8);
        memcpy(&b, p + n - 8, 8);
    } else if (n >= 4) {
        uint32_t lo, hi;

        memcpy(&lo, p, 4);
        memcpy(&hi, p + n - 4, 4);
        a = lo;
        b = hi;
    } else if (n) {
        a = (uint64_t)p[0] << 16 | (uint64_t)p[n / 2] << 8 | p[n - 1];
    }
    return hash_mix(0xe7037ed1a0b428dbull ^ a, hash_mix(b ^ 0x8ebc6af09c88c6e3ull, h));
}

static inline uint64_t hash_str(struct str s)
{
    return hash_bytes(s.p, s.n);
}
#endif
