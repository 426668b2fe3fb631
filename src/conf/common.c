/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/common.h"
#include "conf/load.h"

#include "base/log.h"

static const struct choice report_types[] = {{"ON_RECEIVED", REPORT_ON_RECEIVED},
                                             {"ON_CHANGE", REPORT_ON_CHANGE},
                                             {"ON_REPORT_PERIOD", REPORT_ON_REPORT_PERIOD},
                                             {"ON_CHANGE_OR_REPORT_PERIOD", REPORT_ON_CHANGE_OR_REPORT_PERIOD},
                                             {"DISABLED", REPORT_DISABLED},
                                             {NULL, 0}};

static const struct field report_fields[] = {
    F_ENUM(
        struct report_strategy, type, "type", .of = report_types, .def = REPORT_INHERIT, .strict = true,
        .doc =
            "ON_RECEIVED sends every value, ON_CHANGE those that differ from the last one, ON_REPORT_PERIOD the latest "
            "one each period, ON_CHANGE_OR_REPORT_PERIOD both; DISABLED switches the filter off. Absent: as the next "
            "outer level."),
    F_DOUBLE(struct report_strategy, period, "reportPeriod", .def_double = 10000, .max_double = 4e9, .unit = "ms",
             .strict = true,
             .doc = "Time between two periodic reports of a value, counted from its first one; at least 10."),
    F_DOUBLE(struct report_strategy, ttl_s, "ttl", .def_double = 86400, .max_double = 4e9, .unit = "s", .strict = true,
             .doc =
                 "Time after which an unchanged value is forgotten, so that the next one is sent and periodic reports "
                 "end; 0: never."),
    F_DOUBLE(struct report_strategy, deadband, "deadband", .max_double = 1e300, .strict = true,
             .doc =
                 "With a type that sends changes: numbers that differ by less than this from the last one remembered "
                 "count as unchanged; 0: none. Not in the peer."),
    F_DOUBLE(struct report_strategy, deadband_percent, "deadbandPercent", .max_double = 1e6, .unit = "%",
             .strict = true,
             .doc = "The same in percent of the last number remembered. Of both, the wider one counts."),
    F_JSON(struct report_strategy, aggregation, "aggregationFunction", .doc = "Declared, but never had an effect."),
    F_END};

const struct report_strategy report_on_change = {
    .type = REPORT_ON_CHANGE, .period = 10000, .ttl_s = 86400, .period_ms = 10000, .ttl_ms = 86400000};

enum { PERIOD_MIN_MS = 10 };

static enum err check_report(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct report_strategy *report = object;
    bool is_periodic = report->type == REPORT_ON_REPORT_PERIOD || report->type == REPORT_ON_CHANGE_OR_REPORT_PERIOD;

    if (report->aggregation)
        conf_warning(load, at, "aggregationFunction", "has no effect: values are not aggregated");
    if (is_periodic && report->period < PERIOD_MIN_MS)
        conf_warning(load, at, "reportPeriod", "found %g, expected at least %d ms; %d is used", report->period,
                     PERIOD_MIN_MS, PERIOD_MIN_MS);
    if (report->type == REPORT_ON_RECEIVED && (report->deadband > 0 || report->deadband_percent > 0))
        conf_warning(load, at, report->deadband > 0 ? "deadband" : "deadbandPercent",
                     "has no effect with type ON_RECEIVED, which sends every value");
    report->period_ms = report->period < PERIOD_MIN_MS ? PERIOD_MIN_MS : (uint32_t)report->period;
    report->ttl_ms = (uint64_t)(report->ttl_s * 1000);
    return ERR_OK;
}

const struct conf_type report_strategy_type = {
    .name = "reportStrategy",
    .size = sizeof(struct report_strategy),
    .fields = report_fields,
    .check = check_report,
    .doc = "Which values are sent. The innermost level that has a "
           "reportStrategy (point, device, connector, thingsboard) decides alone; a missing type is that of the next "
           "outer level."};

const struct choice log_level_choices[] = {
    {"INFO", LOG_LEVEL_INFO},      {"NONE", LOG_LEVEL_OFF},    {"NOTSET", LOG_LEVEL_OFF},
    {"CRITICAL", LOG_LEVEL_ERROR}, {"ERROR", LOG_LEVEL_ERROR}, {"WARNING", LOG_LEVEL_WARN},
    {"DEBUG", LOG_LEVEL_DEBUG},    {"TRACE", LOG_LEVEL_TRACE}, {NULL, 0}};

static const struct field common_fields[] = {
    F_AT(struct connector_common, at),
    F_STR(struct connector_common, id, "id", .doc = "Identity of the connector over restarts; made when absent."),
    F_STR(struct connector_common, name, "name", .doc = "The name of the connector's entry in the main file counts."),
    F_ENUM(struct connector_common, log_level, "logLevel", .of = log_level_choices, .def = LOG_LEVEL_INFO, .live = true,
           .doc = "Least level that this connector logs."),
    F_BOOL(struct connector_common, remote_logging, "enableRemoteLogging", .live = true,
           .doc = "Log lines of this connector also go to the platform."),
    F_REPORT_STRATEGY(struct connector_common, report_strategy),
    F_STR(struct connector_common, config_version, "configVersion", .live = true,
          .doc = "Free text, sent back with remote configuration."),
    F_BOOL(struct connector_common, own_loop, "ownLoop", .has_offset = offsetof(struct connector_common, has_own_loop),
           .doc = "This connector gets a thread of its own. Absent: as its type wants it."),
    F_IGNORED("ts", NULL),
    F_END};

const struct conf_type connector_common_type = {
    .name = "connector", .size = sizeof(struct connector_common), .fields = common_fields};

const struct connector_common *connector_common_of(const struct conf *conf)
{
    static const struct connector_common empty = {.at = {.file = "", .path = ""}, .log_level = LOG_LEVEL_INFO};

    return conf && conf->type->base == &connector_common_type ? conf->root : &empty;
}
