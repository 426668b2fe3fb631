/* SPDX-License-Identifier: Apache-2.0 */
#include "base/uuid.h"
#include "base/hash.h"

#include <stdio.h>
#include <sys/random.h>
#include <time.h>

/* ---- SHA-1 (FIPS 180-4, 6.1), which version 5 demands; it protects nothing here ---- */

struct sha1 {
    uint32_t h[5];
    uint8_t block[64];
    uint64_t n; /* bytes so far */
};

static uint32_t rotate(uint32_t x, unsigned n)
{
    return x << n | x >> (32 - n);
}

static void sha1_block(struct sha1 *sha)
{
    uint32_t w[80], a = sha->h[0], b = sha->h[1], c = sha->h[2], d = sha->h[3], e = sha->h[4];

    for (unsigned i = 0; i < 16; i++)
        w[i] = (uint32_t)sha->block[4 * i] << 24 | (uint32_t)sha->block[4 * i + 1] << 16 |
               (uint32_t)sha->block[4 * i + 2] << 8 | sha->block[4 * i + 3];
    for (unsigned i = 16; i < 80; i++)
        w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (unsigned i = 0; i < 80; i++) {
        uint32_t f = i < 20 ? (b & c) | (~b & d) : i >= 40 && i < 60 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
        uint32_t k = i < 20 ? 0x5a827999 : i < 40 ? 0x6ed9eba1 : i < 60 ? 0x8f1bbcdc : 0xca62c1d6;
        uint32_t next = rotate(a, 5) + f + e + k + w[i];

        e = d;
        d = c;
        c = rotate(b, 30);
        b = a;
        a = next;
    }
    sha->h[0] += a;
    sha->h[1] += b;
    sha->h[2] += c;
    sha->h[3] += d;
    sha->h[4] += e;
}

static void sha1_add(struct sha1 *sha, const void *data, size_t n)
{
    const uint8_t *p = data;

    for (size_t i = 0; i < n; i++) {
        sha->block[sha->n++ % 64] = p[i];
        if (sha->n % 64 == 0)
            sha1_block(sha);
    }
}

static void sha1_end(struct sha1 *sha, uint8_t out[20])
{
    static const uint8_t mark = 0x80, zero = 0;
    uint64_t n_bits = sha->n * 8;

    sha1_add(sha, &mark, 1);
    while (sha->n % 64 != 56)
        sha1_add(sha, &zero, 1);
    for (unsigned i = 0; i < 8; i++)
        sha1_add(sha, &(uint8_t){(uint8_t)(n_bits >> (56 - 8 * i))}, 1);
    for (unsigned i = 0; i < 20; i++)
        out[i] = (uint8_t)(sha->h[i / 4] >> (24 - 8 * (i % 4)));
}

/* ---- identities ---- */

static void put_text(char out[UUID_SIZE], uint8_t id[16], unsigned version)
{
    id[6] = (uint8_t)((id[6] & 0x0f) | version << 4);
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    snprintf(out, UUID_SIZE, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", id[0], id[1],
             id[2], id[3], id[4], id[5], id[6], id[7], id[8], id[9], id[10], id[11], id[12], id[13], id[14], id[15]);
}

void uuid_random(char out[UUID_SIZE])
{
    uint8_t id[16];

    if (getrandom(id, sizeof id, GRND_NONBLOCK) != (ssize_t)sizeof id) { /* early in the boot of a device */
        struct timespec now = {0};
        uint64_t halves[2];

        clock_gettime(CLOCK_REALTIME, &now);
        halves[0] = hash_bytes(&now, sizeof now);
        halves[1] = hash_bytes(halves, sizeof *halves);
        memcpy(id, halves, sizeof id);
    }
    put_text(out, id, 4);
}

void uuid_from_name(char out[UUID_SIZE], struct str name)
{
    /* Made once, for connectors' names. */
    static const uint8_t namespace[16] = {0x5b, 0x0e, 0x7c, 0x1d, 0x83, 0x4a, 0x4f, 0x26,
                                          0x9d, 0x61, 0xe2, 0x38, 0xa7, 0xc4, 0x90, 0x5f};
    struct sha1 sha = {.h = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}};
    uint8_t digest[20];

    sha1_add(&sha, namespace, sizeof namespace);
    sha1_add(&sha, name.p, name.n);
    sha1_end(&sha, digest);
    put_text(out, digest, 5);
}
