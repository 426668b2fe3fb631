/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_RECORD_H
#define IOTGW_RECORD_H
/*
 * A record is one encoded entry of a device: made once, behind the report filter, and from there on only moved and
 * concatenated. The same in memory and on disk, little-endian, 8-aligned.
 *
 *     struct record | name | profile | body | zero bytes up to the next multiple of 8
 *
 * body is "key":value,"key":value — without braces, so that packing is concatenation; never empty for TELEMETRY and
 * ATTRIBUTES, always empty for CONNECT and DISCONNECT. Keys and values are strict JSON, numbers by core.md 6.3.
 * name and profile are plain UTF-8, not escaped. Records of one source message stand together; the last has RECORD_END.
 */
#include "base/str.h"

enum record_kind { RECORD_TELEMETRY = 1, RECORD_ATTRIBUTES, RECORD_CONNECT, RECORD_DISCONNECT };

enum {
    RECORD_END = 1,         /* last record of its event */
    RECORD_TIME_UNSURE = 2, /* ts is monotonic ms since boot: the clock was not believable */
    RECORD_HAS_META = 4,    /* latency mode: body is followed by a metadata object (length in spare) */
    RECORD_NO_TS = 8,       /* the platform is to stamp it: {key:value} instead of {"ts":…,"values":{…}} */
};

struct record {
    uint32_t size; /* of all, padding included; multiple of 8 */
    uint32_t crc;  /* CRC-32C of what follows, padding included */
    int64_t ts;    /* ms since the epoch; CONNECT, DISCONNECT: the device's state number */
    uint32_t dev;  /* device number, valid within one boot; otherwise the name counts */
    uint16_t n_values, flags;
    uint16_t kind, name_n, profile_n, spare;
};
_Static_assert(sizeof(struct record) == 32, "the record's head is part of the disk format");

enum { RECORD_NAME_MAX = 255, RECORD_PROFILE_MAX = 255 };
enum { RECORD_META_ROOM = 40 }; /* what packing adds to metadata: ,"metadata": and ,"publishedTs":1700000000000 */

static inline const char *record_bytes(const struct record *record)
{
    return (const char *)(record + 1);
}

static inline struct str record_name(const struct record *record)
{
    return (struct str){record_bytes(record), record->name_n};
}

static inline struct str record_profile(const struct record *record)
{
    return (struct str){record_bytes(record) + record->name_n, record->profile_n};
}

/* Length of the body: the size less head, names and padding. The last up to 7 bytes are zero, which JSON never is. */
struct str record_body(const struct record *record);
/* The metadata object behind the body; p NULL without RECORD_HAS_META. */
struct str record_meta(const struct record *record);

static inline const struct record *record_next(const struct record *record)
{
    return (const struct record *)(const void *)((const char *)record + record->size);
}

/* What a record with these parts will take. */
static inline size_t record_size(size_t name_n, size_t profile_n, size_t body_n)
{
    return (sizeof(struct record) + name_n + profile_n + body_n + 7) & ~(size_t)7;
}

/* Sets size and crc, zeroes the padding; the rest of head and bytes must be there. body_n: metadata included. */
void record_seal(struct record *record, size_t body_n);
/* For bytes read from a disk: everything that can be wrong is checked before anything else looks at it. n: bytes left.
 * ERR_OK: size (at most n), checksum, names, kind, flags and padding are right, and the body is not empty where it must
 * not be; that it is JSON is vouched for by the checksum. Else ERR_CORRUPT, also for less than a whole record. */
NODISCARD enum err record_check(const void *p, size_t n);
#endif
