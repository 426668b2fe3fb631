/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/ledger.h"

#include "base/mem.h"

struct ledger {
    struct loop *loop;
    struct log *log;
};

static uint64_t get(const _Atomic(uint64_t) *counter)
{
    return atomic_load_explicit(counter, memory_order_acquire);
}

void ledger_add(struct ledger_row *to, const struct ledger_row *row)
{
    to->collected += row->collected;
    to->delivered += row->delivered;
    to->waiting += row->waiting;
    to->overflow += row->overflow;
    to->age += row->age;
    to->rejected += row->rejected;
    to->unchanged += row->unchanged;
    to->repeated += row->repeated;
    to->failed += row->failed;
}

struct ledger_row ledger_row(const struct ledger *ledger, const struct device *dev)
{
    struct ledger_row row = {0};
    uint64_t dropped;

    (void)ledger;
    /* Against the stream: what is seen to have arrived is also seen to have set out. */
    row.delivered = get(&dev->n_delivered);
    row.rejected = get(&dev->n_rejected);
    row.age = get(&dev->n_aged);
    dropped = get(&dev->n_overflowed);
    row.overflow = dropped - row.age;
    row.failed = get(&dev->n_failed);
    row.unchanged = get(&dev->n_unchanged);
    row.repeated = get(&dev->n_repeated);
    row.collected = get(&dev->n_collected);
    row.waiting = row.collected - row.delivered - row.rejected - dropped;
    return row;
}

struct ledger_row ledger_total(const struct ledger *ledger)
{
    uint32_t n = device_count();
    struct ledger_row total = {0};

    for (uint32_t i = 0; i < n; i++) {
        struct ledger_row row = ledger_row(ledger, device_at(i));

        ledger_add(&total, &row);
    }
    return total;
}

struct ledger *ledger_new(struct loop *loop, struct log *log)
{
    struct ledger *ledger = mem_zero(sizeof *ledger);

    ledger->loop = loop;
    ledger->log = log;
    return ledger;
}

void ledger_free(struct ledger *ledger)
{
    mem_free(ledger);
}
