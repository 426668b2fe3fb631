/* SPDX-License-Identifier: Apache-2.0 */
#include "store/legacy_event.h"
#include "base/base64.h"
#include "base/mem.h"
#include "data/record.h"
#include "fuzz.h"

static _Alignas(8) uint8_t space[1 << 20];

static uint8_t *room(struct record_sink *sink, size_t size)
{
    (void)sink;
    return size <= sizeof space ? space : NULL;
}

static bool never(const struct device *dev)
{
    return dev->number % 2;
}

/* What is made of any text can be stored. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct legacy_event in = {.no_attributes = never};
    struct record_sink sink = {room};
    const struct event_limits limits = {.max_bytes = 64, .max_values = 3};
    struct str text = {(const char *)data, size};
    autobuf struct buf decoded = {0};
    struct why why = {0};
    struct event event;
    unsigned n_values;

    if (base64_decode(&decoded, text) == ERR_OK)
        text = buf_str(&decoded);
    event_init(&event);
    if (legacy_event_read(&in, text, &event, &why)) {
        FUZZ_CHECK(why.text[0]);
    } else if (event.n && event_encode(&event, 7, &limits, &sink, &n_values) == ERR_OK) {
        const struct record *record = (const struct record *)(const void *)space;

        for (;; record = record_next(record)) {
            size_t n_left = sizeof space - (size_t)((const uint8_t *)record - space);

            FUZZ_CHECK(record_check(record, n_left) == ERR_OK);
            if (record->flags & RECORD_END)
                break;
        }
    }
    event_fini(&event);
    return 0;
}
