/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_DIGEST_H
#define IOTGW_DIGEST_H
/*
 * Checksums of whole files, by the names and in the text form that the platform gives them in. Pure functions, any thread; for
 * what is compared, not for secrets.
 */
#include "base/buf.h"

enum digest {
    DIGEST_CRC32,
    DIGEST_MD5,
    DIGEST_MURMUR3_32,
    DIGEST_MURMUR3_128,
    DIGEST_SHA256,
    DIGEST_SHA384,
    DIGEST_SHA512
};

bool digest_by_name(enum digest *out, struct str name); /* "SHA256" …, any case */
size_t digest_size(enum digest digest);                 /* bytes */
/* Appends lower-case hex: CRC32 and MURMUR3 with the least significant byte first, as the platform does. */
void digest_hex(struct buf *out, enum digest digest, const void *p, size_t n);
#endif
