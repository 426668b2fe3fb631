/* SPDX-License-Identifier: Apache-2.0 */
#include "data/record.h"

#include "base/crc.h"
#include "base/utf8.h"

static const size_t head_unchecked = offsetof(struct record, ts); /* size and crc itself */

/* Bytes behind the names, the zeroes of the padding cut off. */
static struct str payload(const struct record *record)
{
    const char *begin = record_bytes(record) + record->name_n + record->profile_n;
    const char *end = (const char *)record + record->size;

    while (end > begin && end[-1] == 0)
        end--;
    return (struct str){begin, (size_t)(end - begin)};
}

struct str record_body(const struct record *record)
{
    struct str body = payload(record);

    if (record->flags & RECORD_HAS_META)
        body.n -= record->spare;
    return body;
}

struct str record_meta(const struct record *record)
{
    struct str all = payload(record);

    return record->flags & RECORD_HAS_META ? str_skip(all, all.n - record->spare) : STR_NONE;
}

void record_seal(struct record *record, size_t body_n)
{
    size_t used = sizeof *record + record->name_n + record->profile_n + body_n;
    size_t size = record_size(record->name_n, record->profile_n, body_n);

    memset((char *)record + used, 0, size - used);
    record->size = (uint32_t)size;
    record->crc = crc32c(0, (const char *)record + head_unchecked, size - head_unchecked);
}

static bool is_plain_text(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return false;
    return utf8_is_valid(s);
}

static bool body_is_right(const struct record *record)
{
    enum { KNOWN = RECORD_END | RECORD_TIME_UNSURE | RECORD_HAS_META | RECORD_NO_TS };
    struct str all = payload(record);
    bool has_meta = record->flags & RECORD_HAS_META;

    if (record->flags & ~(unsigned)KNOWN || (has_meta ? record->spare < 2 : record->spare != 0))
        return false;
    if (memchr(all.p, 0, all.n))
        return false;
    switch ((enum record_kind)record->kind) {
    case RECORD_TELEMETRY:
    case RECORD_ATTRIBUTES:
        /* The shortest body is "":0; it begins with the quote of a key. */
        return record->n_values > 0 && all.n >= (size_t)record->spare + 4 && all.p[0] == '"' &&
               (!has_meta || all.p[all.n - record->spare] == '{');
    case RECORD_CONNECT:
    case RECORD_DISCONNECT:
        return record->n_values == 0 && all.n == 0 && !has_meta;
    }
    return false;
}

enum err record_check(const void *p, size_t n)
{
    const struct record *record = p;
    size_t used;

    if (((uintptr_t)p & 7) != 0 || n < sizeof *record)
        return ERR_CORRUPT;
    if (record->size % 8 != 0 || record->size < sizeof *record || record->size > n)
        return ERR_CORRUPT;
    if (record->name_n == 0 || record->name_n > RECORD_NAME_MAX || record->profile_n > RECORD_PROFILE_MAX)
        return ERR_CORRUPT;
    if (record->size < sizeof *record + record->name_n + record->profile_n)
        return ERR_CORRUPT;
    if (record->crc != crc32c(0, (const char *)p + head_unchecked, record->size - head_unchecked))
        return ERR_CORRUPT;
    if (!is_plain_text(record_name(record)) || !is_plain_text(record_profile(record)) || !body_is_right(record))
        return ERR_CORRUPT;
    used = sizeof *record + record->name_n + record->profile_n + payload(record).n;
    return record->size - used < 8 ? ERR_OK : ERR_CORRUPT;
}
