/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"

#include "base/hex.h"

/* FIPS 180-4: the first 64 bits of the fractional parts of the cube roots of the first 80 primes; SHA-256 takes 32 of the first 64. */
static const uint64_t sha_k[80] = {
    0x428a2f98d728ae22ull, 0x7137449123ef65cdull, 0xb5c0fbcfec4d3b2full, 0xe9b5dba58189dbbcull, 0x3956c25bf348b538ull,
    0x59f111f1b605d019ull, 0x923f82a4af194f9bull, 0xab1c5ed5da6d8118ull, 0xd807aa98a3030242ull, 0x12835b0145706fbeull,
    0x243185be4ee4b28cull, 0x550c7dc3d5ffb4e2ull, 0x72be5d74f27b896full, 0x80deb1fe3b1696b1ull, 0x9bdc06a725c71235ull,
    0xc19bf174cf692694ull, 0xe49b69c19ef14ad2ull, 0xefbe4786384f25e3ull, 0x0fc19dc68b8cd5b5ull, 0x240ca1cc77ac9c65ull,
    0x2de92c6f592b0275ull, 0x4a7484aa6ea6e483ull, 0x5cb0a9dcbd41fbd4ull, 0x76f988da831153b5ull, 0x983e5152ee66dfabull,
    0xa831c66d2db43210ull, 0xb00327c898fb213full, 0xbf597fc7beef0ee4ull, 0xc6e00bf33da88fc2ull, 0xd5a79147930aa725ull,
    0x06ca6351e003826full, 0x142929670a0e6e70ull, 0x27b70a8546d22ffcull, 0x2e1b21385c26c926ull, 0x4d2c6dfc5ac42aedull,
    0x53380d139d95b3dfull, 0x650a73548baf63deull, 0x766a0abb3c77b2a8ull, 0x81c2c92e47edaee6ull, 0x92722c851482353bull,
    0xa2bfe8a14cf10364ull, 0xa81a664bbc423001ull, 0xc24b8b70d0f89791ull, 0xc76c51a30654be30ull, 0xd192e819d6ef5218ull,
    0xd69906245565a910ull, 0xf40e35855771202aull, 0x106aa07032bbd1b8ull, 0x19a4c116b8d2d0c8ull, 0x1e376c085141ab53ull,
    0x2748774cdf8eeb99ull, 0x34b0bcb5e19b48a8ull, 0x391c0cb3c5c95a63ull, 0x4ed8aa4ae3418acbull, 0x5b9cca4f7763e373ull,
    0x682e6ff3d6b2b8a3ull, 0x748f82ee5defb2fcull, 0x78a5636f43172f60ull, 0x84c87814a1f0ab72ull, 0x8cc702081a6439ecull,
    0x90befffa23631e28ull, 0xa4506cebde82bde9ull, 0xbef9a3f7b2c67915ull, 0xc67178f2e372532bull, 0xca273eceea26619cull,
    0xd186b8c721c0c207ull, 0xeada7dd6cde0eb1eull, 0xf57d4f7fee6ed178ull, 0x06f067aa72176fbaull, 0x0a637dc5a2c898a6ull,
    0x113f9804bef90daeull, 0x1b710b35131c471bull, 0x28db77f523047d84ull, 0x32caab7b40c72493ull, 0x3c9ebe0a15c9bebcull,
    0x431d67c49c100d4cull, 0x4cc5d4becb3e42b6ull, 0x597f299cfc657e2aull, 0x5fcb6fab3ad6faecull, 0x6c44198c4a475817ull};
static const uint64_t sha512_start[8] = {0x6a09e667f3bcc908ull, 0xbb67ae8584caa73bull, 0x3c6ef372fe94f82bull,
                                         0xa54ff53a5f1d36f1ull, 0x510e527fade682d1ull, 0x9b05688c2b3e6c1full,
                                         0x1f83d9abfb41bd6bull, 0x5be0cd19137e2179ull};
static const uint64_t sha384_start[8] = {0xcbbb9d5dc1059ed8ull, 0x629a292a367cd507ull, 0x9159015a3070dd17ull,
                                         0x152fecd8f70e5939ull, 0x67332667ffc00b31ull, 0x8eb44a8768581511ull,
                                         0xdb0c2e0d64f98fa7ull, 0x47b5481dbefa4fa4ull};
/* RFC 1321, 3.4: 2^32 × |sin(i + 1)|. */
static const uint32_t md5_k[64] = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391};

enum { STATE_MAX = 64, BLOCK_MAX = 128 };

static uint32_t rol32(uint32_t x, unsigned n)
{
    return x << n | x >> (32 - n);
}

static uint32_t ror32(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

static uint64_t ror64(uint64_t x, unsigned n)
{
    return x >> n | x << (64 - n);
}

static uint64_t rol64(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

static uint32_t le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t le64(const uint8_t *p)
{
    return (uint64_t)le32(p) | (uint64_t)le32(p + 4) << 32;
}

static uint64_t be(const uint8_t *p, unsigned n)
{
    uint64_t x = 0;

    for (unsigned i = 0; i < n; i++)
        x = x << 8 | p[i];
    return x;
}

static void put_le(uint8_t *out, uint64_t x, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        out[i] = (uint8_t)(x >> (8 * i));
}

static void put_be(uint8_t *out, uint64_t x, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        out[n - 1 - i] = (uint8_t)(x >> (8 * i));
}

/* --- Merkle-Damgård: MD5, SHA-2 ----------------------------------------------------------------------------------------- */

static void md5_block(uint64_t *state, const uint8_t *p)
{
    static const uint8_t turns[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
    uint32_t a = (uint32_t)state[0], b = (uint32_t)state[1], c = (uint32_t)state[2], d = (uint32_t)state[3], f, next;
    unsigned g;

    for (unsigned i = 0; i < 64; i++) {
        if (i < 16) {
            f = (b & c) | (~b & d);
            g = i;
        } else if (i < 32) {
            f = (d & b) | (~d & c);
            g = (5 * i + 1) % 16;
        } else if (i < 48) {
            f = b ^ c ^ d;
            g = (3 * i + 5) % 16;
        } else {
            f = c ^ (b | ~d);
            g = 7 * i % 16;
        }
        next = b + rol32(a + f + md5_k[i] + le32(p + 4 * g), turns[i / 16][i % 4]);
        a = d;
        d = c;
        c = b;
        b = next;
    }
    state[0] = (uint32_t)(state[0] + a);
    state[1] = (uint32_t)(state[1] + b);
    state[2] = (uint32_t)(state[2] + c);
    state[3] = (uint32_t)(state[3] + d);
}

static void sha256_block(uint64_t *state, const uint8_t *p)
{
    uint32_t w[64], v[8];

    for (unsigned i = 0; i < 64; i++)
        w[i] = i < 16 ? (uint32_t)be(p + 4 * i, 4)
                      : w[i - 16] + w[i - 7] + (ror32(w[i - 15], 7) ^ ror32(w[i - 15], 18) ^ w[i - 15] >> 3) +
                            (ror32(w[i - 2], 17) ^ ror32(w[i - 2], 19) ^ w[i - 2] >> 10);
    for (unsigned i = 0; i < 8; i++)
        v[i] = (uint32_t)state[i];
    for (unsigned i = 0; i < 64; i++) {
        uint32_t a = v[7] + (ror32(v[4], 6) ^ ror32(v[4], 11) ^ ror32(v[4], 25)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) +
                     (uint32_t)(sha_k[i] >> 32) + w[i];
        uint32_t b =
            (ror32(v[0], 2) ^ ror32(v[0], 13) ^ ror32(v[0], 22)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));

        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += a;
        v[0] = a + b;
    }
    for (unsigned i = 0; i < 8; i++)
        state[i] = (uint32_t)(state[i] + v[i]);
}

static void sha512_block(uint64_t *state, const uint8_t *p)
{
    uint64_t w[80], v[8];

    for (unsigned i = 0; i < 80; i++)
        w[i] = i < 16 ? be(p + 8 * i, 8)
                      : w[i - 16] + w[i - 7] + (ror64(w[i - 15], 1) ^ ror64(w[i - 15], 8) ^ w[i - 15] >> 7) +
                            (ror64(w[i - 2], 19) ^ ror64(w[i - 2], 61) ^ w[i - 2] >> 6);
    memcpy(v, state, sizeof v);
    for (unsigned i = 0; i < 80; i++) {
        uint64_t a = v[7] + (ror64(v[4], 14) ^ ror64(v[4], 18) ^ ror64(v[4], 41)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) +
                     sha_k[i] + w[i];
        uint64_t b =
            (ror64(v[0], 28) ^ ror64(v[0], 34) ^ ror64(v[0], 39)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));

        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += a;
        v[0] = a + b;
    }
    for (unsigned i = 0; i < 8; i++)
        state[i] += v[i];
}

static const struct chained {
    void (*block)(uint64_t *state, const uint8_t *p);
    unsigned block_n, word_n;
    bool is_little;
} md5 = {md5_block, 64, 4, true}, sha256 = {sha256_block, 64, 4, false}, sha512 = {sha512_block, 128, 8, false};

static void chain(const struct chained *kind, uint64_t *state, uint8_t *out, size_t size, const uint8_t *p, size_t n)
{
    uint8_t last[2 * BLOCK_MAX] = {0};
    size_t whole = n - n % kind->block_n, rest = n - whole, end;

    for (size_t i = 0; i < whole; i += kind->block_n)
        kind->block(state, p + i);
    if (rest)
        memcpy(last, p + whole, rest);
    last[rest] = 0x80;
    end = rest + 1 + 2 * kind->word_n > kind->block_n ? 2 * kind->block_n : kind->block_n;
    if (kind->is_little)
        put_le(last + end - 8, (uint64_t)n * 8, 8);
    else
        put_be(last + end - 8, (uint64_t)n * 8, 8);
    for (size_t i = 0; i < end; i += kind->block_n)
        kind->block(state, last + i);
    for (size_t i = 0; i * kind->word_n < size; i++) {
        if (kind->is_little)
            put_le(out + i * kind->word_n, state[i], kind->word_n);
        else
            put_be(out + i * kind->word_n, state[i], kind->word_n);
    }
}

static void get_sha256(uint8_t *out, const uint8_t *p, size_t n)
{
    uint64_t state[8];

    for (unsigned i = 0; i < 8; i++)
        state[i] = sha512_start[i] >> 32;
    chain(&sha256, state, out, 32, p, n);
}

/* --- the others ------------------------------------------------------------------------------------------------------------ */

static uint32_t crc32(const uint8_t *p, size_t n)
{
    uint32_t table[256], crc = 0xffffffff;

    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (unsigned bit = 0; bit < 8; bit++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320 : 0);
    }
    for (size_t i = 0; i < n; i++)
        crc = crc >> 8 ^ table[(crc ^ p[i]) & 0xff];
    return ~crc;
}

static uint32_t murmur3_32(const uint8_t *p, size_t n)
{
    uint32_t h = 0, k = 0;

    for (size_t i = 0; i + 4 <= n; i += 4)
        h = rol32(h ^ rol32(le32(p + i) * 0xcc9e2d51, 15) * 0x1b873593, 13) * 5 + 0xe6546b64;
    for (size_t i = n; i-- > n - n % 4;)
        k = k << 8 | p[i];
    h ^= rol32(k * 0xcc9e2d51, 15) * 0x1b873593;
    h ^= (uint32_t)n;
    h = (h ^ h >> 16) * 0x85ebca6b;
    h = (h ^ h >> 13) * 0xc2b2ae35;
    return h ^ h >> 16;
}

static uint64_t murmur_mix(uint64_t h)
{
    h = (h ^ h >> 33) * 0xff51afd7ed558ccdull;
    h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53ull;
    return h ^ h >> 33;
}

/* The variant for 64-bit machines. */
static void murmur3_128(uint8_t *out, const uint8_t *p, size_t n)
{
    const uint64_t c1 = 0x87c37b91114253d5ull, c2 = 0x4cf5ad432745937full;
    uint64_t h1 = 0, h2 = 0;
    uint8_t tail[16] = {0};

    for (size_t i = 0; i + 16 <= n; i += 16) {
        h1 = rol64(h1 ^ rol64(le64(p + i) * c1, 31) * c2, 27) + h2;
        h1 = h1 * 5 + 0x52dce729;
        h2 = rol64(h2 ^ rol64(le64(p + i + 8) * c2, 33) * c1, 31) + h1;
        h2 = h2 * 5 + 0x38495ab5;
    }
    if (n % 16)
        memcpy(tail, p + n - n % 16, n % 16);
    h2 ^= rol64(le64(tail + 8) * c2, 33) * c1;
    h1 ^= rol64(le64(tail) * c1, 31) * c2;
    h1 ^= n;
    h2 ^= n;
    h1 += h2;
    h2 += h1;
    h1 = murmur_mix(h1);
    h2 = murmur_mix(h2);
    h1 += h2;
    h2 += h1;
    put_le(out, h1, 8);
    put_le(out + 8, h2, 8);
}

/* --- exported ------------------------------------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    size_t size;
} digests[] = {[DIGEST_CRC32] = {"CRC32", 4},           [DIGEST_MD5] = {"MD5", 16},
               [DIGEST_MURMUR3_32] = {"MURMUR3_32", 4}, [DIGEST_MURMUR3_128] = {"MURMUR3_128", 16},
               [DIGEST_SHA256] = {"SHA256", 32},        [DIGEST_SHA384] = {"SHA384", 48},
               [DIGEST_SHA512] = {"SHA512", 64}};

bool digest_by_name(enum digest *out, struct str name)
{
    for (size_t i = 0; i < COUNT_OF(digests); i++)
        if (str_eq_nocase(name, str_from(digests[i].name))) {
            *out = (enum digest)i;
            return true;
        }
    return false;
}

size_t digest_size(enum digest digest)
{
    return digests[digest].size;
}

void digest_hex(struct buf *out, enum digest digest, const void *data, size_t n)
{
    const uint8_t *p = data;
    uint64_t state[8] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}; /* of MD5 */
    uint8_t bytes[STATE_MAX];

    switch (digest) {
    case DIGEST_CRC32:
        put_le(bytes, crc32(p, n), 4);
        break;
    case DIGEST_MD5:
        chain(&md5, state, bytes, 16, p, n);
        break;
    case DIGEST_MURMUR3_32:
        put_le(bytes, murmur3_32(p, n), 4);
        break;
    case DIGEST_MURMUR3_128:
        murmur3_128(bytes, p, n);
        break;
    case DIGEST_SHA256:
        get_sha256(bytes, p, n);
        break;
    case DIGEST_SHA384:
        memcpy(state, sha384_start, sizeof state);
        chain(&sha512, state, bytes, 48, p, n);
        break;
    case DIGEST_SHA512:
        memcpy(state, sha512_start, sizeof state);
        chain(&sha512, state, bytes, 64, p, n);
        break;
    }
    hex_add(out, bytes, digests[digest].size);
}
