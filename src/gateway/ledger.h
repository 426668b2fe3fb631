/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_LEDGER_H
#define IOTGW_LEDGER_H
/*
 * The books of the gateway, in values, for each device and in total (invariant 2):
 *
 *   collected = delivered + waiting + dropped by overflow, by age, as rejected, and as damaged
 *   read      = collected - repeated + unchanged + failed
 *
 * It balances whenever it is read, on any thread: a value is counted on its way (collected, then stored, then delivered or dropped)
 * before it goes on, each counting is a release and each hand-over between threads orders the two sides, and the counters are
 * read against the stream with acquire: so what is seen to have ended is seen to have begun, and waiting, which is what is left
 * (in a batch, in the storage, in flight), is never less than none. What ends between two of the readings counts as waiting.
 *
 * Collected goes back only for what its source learns was not stored (it gives it again), or for a message of which a source that
 * has gone, or was left behind, left no more than a part; while such a one blocks its loop, what is in its batch waits. Failed
 * are values that could not be converted or encoded, where their device is known. Damaged are values that the storage could not
 * read when it was opened; nobody knows of which device.
 *
 * With a durable storage the books go on after a restart: the file ledger.json in its directory, which is written when something
 * has changed, seldom enough for flash, and at the end. After a crash it is behind; then what the storage holds counts, see
 * ledger_open.
 *
 * Owner thread: main, but for ledger_row.
 */
#include "base/log.h"
#include "data/device.h"
#include "store/store.h"

struct ledger_row {
    uint64_t collected, delivered, waiting, overflow, age, rejected, damaged;
    uint64_t unchanged, repeated, failed;
};
static inline uint64_t ledger_read(const struct ledger_row *row)
{
    return row->collected - row->repeated + row->unchanged + row->failed;
}
void ledger_add(struct ledger_row *to, const struct ledger_row *row);

struct ledger;
struct ledger_conf {
    struct loop *loop;
    struct log *log;
    const char *dir;                        /* of a durable storage; NULL: the books end with the process */
    struct store_stats (*stats)(void *arg); /* of the storage; on the main loop, before and while loops run */
    void *arg;
};
/*
 * The storage has been opened, and no loop runs: reads ledger.json and takes the books from there. For each device what the
 * storage holds is what waits, so collected follows: what was collected, but never durable, was never acknowledged to its source
 * either, and counts when it comes again. What the storage acknowledged or dropped after the file was written, as its own state
 * says, is known in total only: ledger_unattributed. Without a file, or with a broken one (which is put aside), the books begin
 * with what the storage holds.
 */
struct ledger *ledger_new(const struct ledger_conf *conf);
/* The storage is another one from now on, or stats are of fewer ones, and its books go on from these; dir as above. Written at once. */
void ledger_move(struct ledger *ledger, const char *dir);
/* The last writing, in the worker pool; nothing is written while the disk is in trouble. A disk that hangs is waited for no longer
 * than two seconds: then the writing is left behind, and the program must end without waiting for its threads. */
void ledger_stop(struct ledger *ledger, closed_fn *done, void *arg);
bool ledger_is_left_behind(const struct ledger *ledger);
void ledger_free(struct ledger *ledger); /* NULL allowed */
struct ledger_row ledger_row(const struct ledger *ledger, const struct device *dev);
struct ledger_row ledger_unattributed(const struct ledger *ledger); /* of no known device; part of the total */
#endif
