/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MQTT_CONVERT_H
#define IOTGW_CONNECTOR_MQTT_CONVERT_H
/*
 * A received message → events of devices. No I/O and no clock: the same code serves the running connector,
 * `iotgw convert` and the fuzzer. One converter belongs to one thread; it keeps what the topic alone decides (device,
 * profile, keys) in a bounded cache, so that no regular expression runs twice for a topic, and in steady state
 * allocates nothing. Where to put results is the caller's: struct convert_out.
 */
#include "data/event.h"
#include "mqtt_down.h"

/* Why a message, a device or a datapoint was left out. */
enum drop_cause {
    DROP_NOT_JSON,
    DROP_NO_NAME,
    DROP_BAD_NAME,
    DROP_NO_VALUE,
    DROP_KEY,          /* a datapoint: its key is not there, or not one that the platform takes */
    DROP_FORMULA,      /* a datapoint */
    DROP_TIME,         /* a time whose zone is not known: taken as local, nothing is left out */
    DROP_REFUSED,      /* by the caller: device filter, too large */
    DROP_NO_ATTRIBUTE, /* an attribute request */
    DROP_SCOPE,
    DROP_CAUSES
};
const char *drop_cause_text(enum drop_cause cause);

struct convert_out {
    struct event *(*begin)(struct convert_out *out, struct device *dev, struct str profile);
    enum err (*end)(struct convert_out *out); /* of the event begun last; not called for one without values */
    void (*connect)(struct convert_out *out, struct device *dev, struct str profile);
    void (*disconnect)(struct convert_out *out, struct device *dev);
    /* At most once a minute for an entry and cause (count: since the last time), or always if is_verbose. detail: more of
     * the reason, or empty. */
    void (*dropped)(struct convert_out *out, const struct entry *entry, enum drop_cause cause, struct str topic,
                    struct str detail, uint64_t count);
    /* A device wants to know attributes; the question lives until this returns. NULL: they are left out. */
    void (*ask)(struct convert_out *out, const struct attribute_request *section, struct device *dev,
                const struct attribute_question *question);
    bool is_verbose;
    bool is_silent; /* nothing is expected of this message: what it does not give is neither reported nor counted */
};

struct convert_counts {   /* since the converter was made */
    uint64_t n_converted; /* events given to .end */
    uint64_t n_dropped;   /* messages (items of an array) that gave none for a mapping */
    uint64_t n_errors;    /* datapoints left out by an error */
    uint64_t n_fallbacks; /* texts that did not parse and were sent as text */
};

struct mqtt_converter;
struct mqtt_converter *mqtt_converter_new(const struct mqtt_plan *plan);
void mqtt_converter_free(struct mqtt_converter *converter); /* NULL allowed */
/* Gives the number of events, connects and disconnects that went out (not of questions); *matched (NULL allowed): entries that the topic
 * concerns. wall_ms stands for the present where a time needs one; mono_ms paces the reports. */
unsigned mqtt_convert(struct mqtt_converter *converter, struct convert_out *out, struct str topic, struct str payload,
                      int64_t wall_ms, uint64_t mono_ms, unsigned *matched);
const struct convert_counts *mqtt_converter_counts(const struct mqtt_converter *converter);
#endif
