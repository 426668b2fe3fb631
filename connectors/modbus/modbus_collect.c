/* SPDX-License-Identifier: Apache-2.0 */
#include "modbus_collect.h"

void modbus_block_store(struct modbus_block *block, size_t at, size_t n, const uint8_t *answer)
{
    if (!modbus_reads_coils(block->function_code)) {
        memcpy(block->data + 2 * at, answer, 2 * n);
        return;
    }
    if (at % 8 == 0 && (n % 8 == 0 || at + n == block->count)) {
        memcpy(block->data + at / 8, answer, (n + 7) / 8);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t *byte = &block->data[(at + i) / 8], mask = (uint8_t)(1u << ((at + i) % 8));

        *byte = (uint8_t)(answer[i / 8] >> (i % 8) & 1 ? *byte | mask : *byte & ~mask);
    }
}

void modbus_collect_block(const struct modbus_plan *plan, const struct modbus_block *block, size_t first, size_t n,
                          struct modbus_sample *samples)
{
    for (size_t i = first; i < first + n; i++) {
        size_t read = modbus_plan_read_at(plan, block, i);

        samples[read] = (struct modbus_sample){block->data, modbus_plan_offset(plan, block, read)};
    }
}

size_t modbus_collect(const struct modbus_read *reads, struct modbus_sample *samples, size_t n, struct event *event,
                      void (*failed)(void *arg, const struct modbus_read *read, const struct why *why), void *arg)
{
    size_t n_failed = 0;

    for (size_t i = 0; i < n; i++) {
        struct why why = {0};
        struct str text;

        if (!samples[i].data)
            continue;
        if (modbus_decode(reads[i].decoder, samples[i].data, samples[i].first, &event->arena, &text, &why) == ERR_OK) {
            event_add_reported(event, reads[i].kind, reads[i].key, text, EVENT_NO_TS, reads[i].report);
        } else {
            failed(arg, &reads[i], &why);
            n_failed++;
        }
        samples[i].data = NULL;
    }
    return n_failed;
}
