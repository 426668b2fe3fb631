/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_WEB_CONVERT_H
#define IOTGW_WEB_CONVERT_H
/*
 * What the connectors of the web share on the way up (rest.md 2, request.md 2): a converter's keys and what is compiled of
 * them, and data (one JSON object) → event of a device. Values are lossless (expressions.md 5). Conversion is pure and
 * allocates in the arena given; a converter is immutable and may be used by any thread.
 */
#include "conf/common.h"
#include "data/convert.h"
#include "data/event.h"
#include "data/timestamp.h"

struct web_point {
    struct conf_at at;
    struct str type, key, expression, ts_expression;
    bool dayfirst, yearfirst;
    const struct report_strategy *report;
    /* compiled */
    struct template *key_template;
    struct str prepared; /* of a constant key */
    struct datapoint_value value;
    bool has_ts;
    struct ts_field ts;
};
extern const struct conf_type web_point_type;

enum web_source { WEB_REQUEST, WEB_CONSTANT };
struct web_device_info {
    struct conf_at at;
    int name_source, profile_source;
    struct str name, profile;
};
extern const struct conf_type web_device_info_type;

struct web_text { /* a name or profile */
    bool is_constant;
    struct str text;
    struct template *template;
};

struct web_converter {
    struct conf_at at;
    struct str type, extension;
    const struct yyjson_val *extension_conf, *extension_conf_old;
    struct web_device_info *info;
    struct str name_old, profile_old; /* before there was deviceInfo */
    struct conf_list attributes, timeseries, telemetry;
    /* compiled */
    bool is_custom;
    struct web_text name, profile;
};
/* For the descriptor of a struct web_converter; keys that only one connector has come beside them. */
#define F_WEB_CONVERTER                                                                                                \
    F_AT(struct web_converter, at),                                                                                    \
        F_STR(struct web_converter, type, "type", .doc = "json, or custom: an extension takes its place."),            \
        F_STR(struct web_converter, extension, "extension", .doc = "Class of the extension."),                         \
        F_JSON(struct web_converter, extension_conf, "extensionConfig", .doc = "Handed to the extension unchanged."),  \
        F_JSON(struct web_converter, extension_conf_old, "extension-config", .doc = "Other name of extensionConfig."), \
        F_OBJECT(struct web_converter, info, "deviceInfo", &web_device_info_type,                                      \
                 .doc = "Which device the data belong to."),                                                           \
        F_LIST(struct web_converter, attributes, "attributes", &web_point_type, .doc = "Values without time."),        \
        F_LIST(struct web_converter, timeseries, "timeseries", &web_point_type, .doc = "Values with time."),           \
        F_LIST(struct web_converter, telemetry, "telemetry", &web_point_type, .doc = "Other name of timeseries.")
/* For .check: name and profile, datapoints (one that does not compile is left out). ERR_CONFIG: there is no device name. */
NODISCARD enum err web_converter_check(struct conf_load *load, struct web_converter *converter,
                                       const struct conf_at *at);

enum web_drop { WEB_NO_NAME, WEB_BAD_NAME, WEB_NO_VALUE, WEB_REFUSED, WEB_KEY, WEB_VALUE, WEB_TIME, WEB_DROPS };
const char *web_drop_text(enum web_drop drop);

struct web_out {
    struct event *(*begin)(struct web_out *out, struct device *dev, struct str profile);
    enum err (*end)(struct web_out *out); /* not called for an event without values */
    void (*dropped)(struct web_out *out, enum web_drop drop, struct str detail);
    uint64_t n_converted, n_dropped, n_errors, n_fallbacks;
};
/* report: of the mapping, NULL allowed. ERR_OK, ERR_NOTFOUND (WEB_NO_VALUE), ERR_USAGE (WEB_NO_NAME, WEB_BAD_NAME), else what
 * .end gave. Texts of the event live in data, converter and arena. */
enum err web_convert(const struct web_converter *converter, const struct report_strategy *report, struct web_out *out,
                     yyjson_val *data, int64_t wall_ms, struct arena *arena);

/* The device's name as web_convert would find it; false: there is none. */
bool web_device_name(const struct web_converter *converter, yyjson_val *data, struct arena *arena, struct str *out);
/* {"device":…,"profile":…,"telemetry":[…],"attributes":{…}} for `iotgw convert`. */
void web_describe_event(struct buf *out, const struct event *event);
#endif
