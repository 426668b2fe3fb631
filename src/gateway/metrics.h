/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_METRICS_H
#define IOTGW_METRICS_H
/*
 * What is counted, as one table (metrics.def): name, type, unit, help, what to do when it moves. Who prints metrics takes a
 * snapshot of values, an array by id, and walks the table. Any thread; the table is constant.
 */
#include "base/buf.h"

enum metric_section {
    METRICS_PLATFORM,
    METRICS_WAIT, /* one set a kind of rate limit */
    METRICS_STORAGE,
    METRICS_LEDGER,
    METRICS_CONNECTOR, /* one set a connector */
    METRICS_ENDPOINT,  /* one set a connector that polls, and one for each URL or station */
    METRICS_SERVER,    /* one set a connector that has a server */
    METRICS_LOOP,      /* one set a loop */
    METRICS_COMMANDS,
    METRICS_MEMORY,
    METRICS_SECTIONS
};
enum metric_type { METRIC_COUNTER, METRIC_GAUGE };
enum metric {
#define X(id, section, member, name, type, unit, help, action) METRIC_##id,
#include "gateway/metrics.def"
#undef X
    METRIC_COUNT
};
struct metric_info {
    enum metric_section section;
    enum metric_type type;
    const char *member, *name, *unit, *help, *action;
};
extern const struct metric_info metric_infos[METRIC_COUNT];
const char *metric_section_name(enum metric_section section); /* as in status: "platform" */

struct metrics {
    uint64_t v[METRIC_COUNT];
};
/* "member":value,… of the section, without braces. */
void metrics_add_json(struct buf *out, enum metric_section section, const struct metrics *values);
/* The reference page. */
void metrics_add_reference(struct buf *out);
#endif
