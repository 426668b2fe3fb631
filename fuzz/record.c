/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc.h"
#include "data/record.h"
#include "fuzz.h"

/* What passes the check can be looked at without a further one. */
static void look_at(const struct record *record, size_t n)
{
    struct str name = record_name(record), profile = record_profile(record), body = record_body(record);
    struct str meta = record_meta(record);

    FUZZ_CHECK(record->size <= n && record->size % 8 == 0);
    FUZZ_CHECK(name.n > 0 && profile.p == name.p + name.n && body.p == profile.p + profile.n);
    FUZZ_CHECK(body.p + body.n + meta.n <= (const char *)record_next(record));
    FUZZ_CHECK(!meta.p || meta.p == body.p + body.n);
    FUZZ_CHECK((body.n > 0) == (record->n_values > 0));
}

/* The first byte says whether checksum and size are made right, so that the other checks are reached. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t n = size ? size - 1 : 0;
    uint8_t *copy = mem_new(n + 8);
    struct record *record = (struct record *)(void *)copy;

    if (n)
        memcpy(copy, data + 1, n);
    if (n >= sizeof *record && data[0] & 1) {
        if (data[0] & 2)
            record->size = (uint32_t)n & ~7u;
        if (record->size >= sizeof *record && record->size <= n)
            record->crc = crc32c(0, &record->ts, record->size - offsetof(struct record, ts));
    }
    if (record_check(copy, n) == ERR_OK)
        look_at(record, n);
    mem_free(copy);
    return 0;
}
