/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_REPORT_H
#define IOTGW_REPORT_H
/*
 * The report filter of one connector (core.md 7): which values go on to the encoder, and which are sent again each period.
 * It remembers, for each (device, kind, key) that a strategy filters, the last different value as JSON text.
 *
 * Owner thread: the connector's loop. No clock, no timer and no I/O: times are the caller's monotonic ms, so that the same
 * code serves the running gateway, `iotgw convert` and the tests. Who owns it (ctx.c) keeps one timer at report_due().
 * Memory: about 40 bytes a value and 100 a device, texts above 16 bytes extra; nothing for what is not filtered. Beyond
 * REPORT_MAX_BYTES a value that is not known yet passes without being remembered.
 * Guarantee (invariant 9): what the store dropped or the platform rejected is not held against the next value of its device.
 */
#include "conf/common.h"
#include "data/event.h"

enum { REPORT_MAX_BYTES = 256 * 1024 * 1024 };
#define REPORT_NEVER UINT64_MAX

/* Levels main and connector put together; a copy, without pointers to the configuration. */
struct report_outer {
    struct report_strategy strategy; /* type: never REPORT_INHERIT */
    bool is_off;                     /* main says DISABLED: inner levels are not looked at */
    bool filters;                    /* values without a strategy of their own are filtered too */
};
struct report_outer report_outer(const struct report_strategy *main, const struct report_strategy *connector);

struct report;
struct report *report_new(const struct report_outer *outer);
void report_free(struct report *report); /* NULL allowed */

/* Takes out of the event what is held back; gives how many values that are. To be called before the event's times are
 * assigned; for events with has_report, or all if outer.filters. */
unsigned report_filter(struct report *report, struct event *event, uint64_t now_ms);
/* What passed was not sent after all: the next value of each key of dev (NULL: of every device) is sent. */
void report_forget(struct report *report, const struct device *dev);

/* When the next periodic report is due; REPORT_NEVER: none. */
uint64_t report_due(const struct report *report);
/* Fills event with what is due of one device: all its keys due by now in one item without times. False: nothing is due.
 * Its texts live until the next call of anything here. A device that is reported not connected is passed over; its reports
 * go on with report_resume. */
bool report_take(struct report *report, struct event *event, uint64_t now_ms);
/* The device (NULL: all) is there again: what was due meanwhile is left out, the beat is kept. */
void report_resume(struct report *report, const struct device *dev, uint64_t now_ms);

/* Gives back the memory of expired values, of about max_values at a time. True: once through. */
bool report_cleanup(struct report *report, uint64_t now_ms, size_t max_values);

struct report_stats {
    size_t n_devices, n_values, n_bytes; /* remembered; texts of up to 16 bytes are part of their value */
    size_t n_periodic;                   /* devices with periodic reports that are not passed over */
    uint64_t n_unremembered;             /* values that passed because the memory is full */
};
struct report_stats report_stats(const struct report *report);

/* Comparison of two values in their final JSON text (core.md 7.3); strategy: its deadband, or NULL. */
bool report_equal(struct str before, struct str now, const struct report_strategy *strategy);
#endif
