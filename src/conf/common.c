/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/common.h"

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
    F_MS(struct report_strategy, period_ms, "reportPeriod", .def = 10000, .strict = true,
         .doc = "Time between two periodic reports."),
    F_UINT(struct report_strategy, ttl_s, "ttl", .def = 86400, .unit = "s", .strict = true,
           .doc = "Time after which an unchanged value is forgotten, so that the next one is sent; 0: never."),
    F_JSON(struct report_strategy, aggregation, "aggregationFunction", .doc = "Declared, but never had an effect."),
    F_END};

static enum err check_report(struct conf_load *load, void *object, const struct conf_at *at)
{
    const struct report_strategy *report = object;

    if (report->aggregation)
        conf_warning(load, at, "aggregationFunction", "has no effect: values are not aggregated");
    if (report->type != REPORT_INHERIT && report->type != REPORT_ON_RECEIVED && report->type != REPORT_DISABLED)
        conf_warning(load, at, "type", "has no effect in this version: every value is sent");
    return ERR_OK;
}

const struct conf_type report_strategy_type = {
    .name = "reportStrategy",
    .size = sizeof(struct report_strategy),
    .fields = report_fields,
    .check = check_report,
    .doc = "Which values are sent. The innermost level that has a "
           "reportStrategy (point, device, connector, thingsboard) decides alone."};

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

static enum err check_common(struct conf_load *load, void *object, const struct conf_at *at)
{
    const struct connector_common *common = object;

    if (common->remote_logging)
        conf_warning(load, at, "enableRemoteLogging", "has no effect in this version: log lines stay on this machine");
    return ERR_OK;
}

const struct conf_type connector_common_type = {
    .name = "connector", .size = sizeof(struct connector_common), .fields = common_fields, .check = check_common};
