/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_HOLDBACK_H
#define IOTGW_HOLDBACK_H
/*
 * A connector that has ended the program twice within ten minutes is not started with the others, but after a pause that grows
 * (crash_book.h), so that it cannot keep the others from running. It is in the log and in its status. Starting it by hand, or
 * changing its configuration, starts it at once.
 *
 * Owner thread: main. Embedded; zeroed: nothing is held back.
 */
#include "gateway/crash_book.h"
#include "gateway/fleet.h"

struct holdback {
    struct fleet *fleet;
    struct log *log;
    struct crash_book book;
    struct timer timer;
    uint64_t begun_ms; /* monotonic clock, at begun_s */
    int64_t begun_s;
};
/* Before the fleet starts; book as crash_begin has read it. */
void holdback_begin(struct holdback *holdback, struct loop *main, struct fleet *fleet, struct log *log);
void holdback_stop(struct holdback *holdback);
#endif
