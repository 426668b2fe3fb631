/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_DROP_LOG_H
#define IOTGW_DROP_LOG_H
/*
 * What the log says of events that a storage drops because it takes no more, however many there are: a line at the first one, then at most one a
 * minute, of all since the line before.
 *
 * Owner thread: the loop's.
 */
#include "io/loop.h"

struct log;
struct drop_log {
    struct loop *loop;
    struct log *log;
    struct timer timer; /* runs for a minute behind each line */
    uint64_t n_events, n_values;
    int64_t first_ms, last_ms; /* wall */
};
void drop_log_init(struct drop_log *drops, struct loop *loop, struct log *log); /* log NULL: nothing is said */
void drop_log_note(struct drop_log *drops, uint64_t n_events, uint64_t n_values);
void drop_log_fini(struct drop_log *drops); /* says what has not been said */
#endif
