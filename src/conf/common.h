/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONF_COMMON_H
#define IOTGW_CONF_COMMON_H
/*
 * What every connector's configuration has in common (core.md 2.2, 7): use connector_common_type as .base, with struct
 * connector_common as the first member of the file's struct; and F_REPORT_STRATEGY wherever a device or point takes one.
 */
#include "iotgw/conf.h"

enum report_type {
    REPORT_INHERIT, /* no type given: that of the next outer level */
    REPORT_ON_RECEIVED,
    REPORT_ON_CHANGE,
    REPORT_ON_REPORT_PERIOD,
    REPORT_ON_CHANGE_OR_REPORT_PERIOD,
    REPORT_DISABLED
};
struct report_strategy {
    int type;                /* enum report_type */
    double period, ttl_s;    /* as written */
    double deadband;         /* numbers that differ by less count as equal; 0: none */
    double deadband_percent; /* the same, in percent of the value remembered */
    const struct yyjson_val *aggregation;
    /* compiled */
    uint32_t period_ms; /* at least 10; 10000 when absent */
    uint64_t ttl_ms;    /* 0: for ever; 86400000 when absent */
};
extern const struct report_strategy report_on_change; /* what sendDataOnlyOnChange, the former key, stands for */
extern const struct conf_type report_strategy_type;
/* A pointer, NULL when absent or wrong: then that level does not count. */
#define F_REPORT_STRATEGY(T, m)                                                                                        \
    F_OBJECT(T, m, "reportStrategy", &report_strategy_type, .skip = true, .doc = "When values of this level are sent.")

struct connector_common {
    struct conf_at at;
    struct str id, name, config_version; /* p NULL when absent */
    int log_level;                       /* enum log_level */
    bool remote_logging;
    bool own_loop, has_own_loop; /* absent: as its type wants it */
    const struct report_strategy *report_strategy;
};
extern const struct conf_type connector_common_type;
struct conf;
/* Of a connector's file. Where there is none, or its type is not based on connector_common_type (a module of somebody else), what an
 * empty file says. */
const struct connector_common *connector_common_of(const struct conf *conf);

extern const struct choice log_level_choices[];
#endif
