/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_LEDGER_H
#define IOTGW_LEDGER_H
/*
 * The books of the gateway, in values, for each device and in total (invariant 2):
 *
 *   collected = delivered + waiting + dropped by overflow, by age, and as rejected
 *   read      = collected - repeated + unchanged + failed
 *
 * It balances whenever it is read, on any thread: each counter has one writer and only grows, a value is counted on its way
 * (collected, then stored, then delivered or dropped) before it goes on, and the counters are read against the stream.
 * Waiting is what is left: in a batch, in the storage, in flight.
 *
 * With a durable storage the books go on after a restart: the file ledger.json in its directory, which is written when something
 * has changed, seldom enough for flash, and at the end. After a crash it is behind; then what the storage holds counts, see
 * ledger_open.
 *
 * Owner thread: main, but for ledger_row and ledger_total.
 */
#include "base/log.h"
#include "data/device.h"
#include "io/loop.h"

struct ledger_row {
    uint64_t collected, delivered, waiting, overflow, age, rejected;
    uint64_t unchanged, repeated, failed;
};
static inline uint64_t ledger_read(const struct ledger_row *row)
{
    return row->collected - row->repeated + row->unchanged + row->failed;
}
void ledger_add(struct ledger_row *to, const struct ledger_row *row);

struct ledger;
struct ledger *ledger_new(struct loop *loop, struct log *log);
void ledger_free(struct ledger *ledger); /* NULL allowed */
struct ledger_row ledger_row(const struct ledger *ledger, const struct device *dev);
struct ledger_row ledger_total(const struct ledger *ledger);
#endif
