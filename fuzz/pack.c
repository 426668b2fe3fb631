/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "uplink/pack.h"

#include <stdlib.h>

/* Bodies of records as a disk might give them: attributes that are merged, and a record that is split. */
enum { MAX_RECORDS = 8 };

static struct record *record_of(const struct device *dev, enum record_kind kind, struct str body)
{
    struct record *record = mem_zero(record_size(dev->name_n, 0, body.n));

    *record = (struct record){
        .ts = 1, .dev = dev->number, .n_values = 3, .kind = (uint16_t)kind, .flags = RECORD_END, .name_n = dev->name_n};
    memcpy(record + 1, dev->name, dev->name_n);
    memcpy((char *)(record + 1) + dev->name_n, body.p, body.n);
    record_seal(record, body.n);
    return record;
}

static void check_split(const struct device *dev, struct str body)
{
    struct pack_limits limits = {.max_bytes = 60, .max_values = 2};
    struct record *record = record_of(dev, RECORD_TELEMETRY, body);
    autobuf struct buf out = {0};
    size_t n = pack_split(&out, str_of(dev->json, dev->json_n), record, &limits), bytes = 0;
    const struct record *part = (const struct record *)(const void *)out.p;

    for (size_t i = 0; i < n; i++, part = record_next(part)) {
        FUZZ_CHECK(record_check(part, (size_t)(out.p + out.n - (const uint8_t *)part)) == ERR_OK);
        FUZZ_CHECK(part->n_values >= 1 && part->n_values <= 2);
        bytes += record_body(part).n + 1;
    }
    FUZZ_CHECK(n == 0 || bytes <= body.n + 1);
    mem_free(record);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pack_limits limits = {.batch_devices = true};
    struct str rest = {(const char *)data, size};
    struct device *dev = device_get(STR("D"));
    struct record *records[MAX_RECORDS];
    struct packer *packer = packer_new();
    const struct pack_part *parts;
    size_t n = 0, n_parts;
    autobuf struct buf out = {0};

    packer_begin(packer, PACK_ATTRIBUTES, &limits);
    while (rest.n && n < MAX_RECORDS) {
        struct str body = fuzz_part(&rest);

        if (!body.n || memchr(body.p, 0, body.n)) /* never what record_check lets through */
            continue;
        check_split(dev, body);
        records[n] = record_of(dev, RECORD_ATTRIBUTES, body);
        FUZZ_CHECK(packer_add(packer, dev, str_of(dev->json, dev->json_n), records[n++]));
    }
    if (n) {
        packer_finish(packer, &out, &parts, &n_parts);
        FUZZ_CHECK(n_parts == 1 && parts[0].n_records == n && out.n <= packer_bytes(packer));
    }
    packer_free(packer);
    while (n)
        mem_free(records[--n]);
    return 0;
}
