/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of the MQTT connector's file (mqtt.md 1, 2), and what is compiled of an entry when it is loaded. */
#include "mqtt_conf.h"

#include "conf/expression.h"
#include "data/event.h"
#include "mqtt/mqtt.h"
#include "mqtt/topic.h"

#include <unistd.h>

enum { QUEUE_MAX = 1000000000, N_WORKERS_MAX = 100 };

/* --- security and broker ---------------------------------------------------------------------------------------------- */

static const struct choice security_types[] = {
    {"anonymous", SECURITY_ANONYMOUS}, {"basic", SECURITY_BASIC}, {"certificates", SECURITY_CERTIFICATES}, {NULL, 0}};

static const struct field security_fields[] = {
    F_AT(struct mqtt_security, at),
    F_ENUM(struct mqtt_security, type, "type", .of = security_types, .def = SECURITY_ANONYMOUS, .strict = true,
           .doc = "certificates switches TLS on. A username is sent whenever there is one, whatever the type."),
    F_SECRET(struct mqtt_security, username, "username", .doc = "Name for the broker."),
    F_SECRET(struct mqtt_security, password, "password", .doc = "Password for the broker."),
    F_STR(struct mqtt_security, ca, "pathToCACert",
          .doc = "PEM file of the authority that the broker's certificate must come from; absent: the system's own."),
    F_STR(struct mqtt_security, cert, "pathToClientCert", .doc = "PEM file of the client's certificate."),
    F_STR(struct mqtt_security, key, "pathToPrivateKey", .doc = "PEM file of its private key."),
    F_BOOL(struct mqtt_security, insecure, "insecure",
           .doc = "With pathToCACert: the name in the broker's certificate is not checked; without: nothing is."),
    F_STR(struct mqtt_security, ca_old, "caCert",
          .doc = "Former key: switches TLS on, and is the path if pathToCACert is missing."),
    F_END};

/* An unreadable file keeps the connector disconnected, not out: it may come later. */
static const char *path_of(struct conf_load *load, const struct conf_at *at, const char *key, struct str name)
{
    const char *path = name.n ? conf_path(load, name) : NULL;

    if (path && access(path, R_OK) != 0)
        conf_error(load, at, key, "file %s cannot be read: there will be no connection until it can", path);
    return path;
}

static enum err check_security(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct mqtt_security *security = object;

    security->is_tls = security->type == SECURITY_CERTIFICATES || security->ca_old.p;
    if (security->type == SECURITY_BASIC && !security->username.value.p) {
        conf_error(load, at, "username", "is missing: type \"basic\" needs it");
        return ERR_CONFIG;
    }
    if (!security->cert.n != !security->key.n) {
        conf_error(load, at, security->cert.n ? "pathToPrivateKey" : "pathToClientCert",
                   "is missing: a client certificate and its key belong together");
        return ERR_CONFIG;
    }
    if (!security->is_tls && (security->ca.n || security->cert.n || security->insecure))
        conf_warning(load, at, NULL, "the keys for TLS have no effect: set \"type\" to \"certificates\"");
    if (security->is_tls && security->insecure)
        conf_warning(load, at, "insecure", "%s",
                     security->ca.n || security->ca_old.n ? "the broker's name is not verified"
                                                          : "the broker is not verified at all");
    security->ca_file =
        path_of(load, at, security->ca.n ? "pathToCACert" : "caCert", security->ca.n ? security->ca : security->ca_old);
    security->cert_file = path_of(load, at, "pathToClientCert", security->cert);
    security->key_file = path_of(load, at, "pathToPrivateKey", security->key);
    return ERR_OK;
}

static const struct conf_type security_type = {.name = "mqtt.broker.security",
                                               .size = sizeof(struct mqtt_security),
                                               .fields = security_fields,
                                               .check = check_security,
                                               .doc = "How the connector makes itself known, and TLS."};

static const struct choice versions[] = {{"5", MQTT_5},       {"4", MQTT_311},    {"3", MQTT_31},  {"3.1", MQTT_31},
                                         {"3.1.1", MQTT_311}, {"3.11", MQTT_311}, {"5.0", MQTT_5}, {NULL, 0}};

static const struct field broker_fields[] = {
    F_AT(struct mqtt_broker, at),
    F_STR(struct mqtt_broker, host, "host", .need = true, .min = 1, .max = 255,
          .doc = "Name or address of the broker."),
    F_UINT(struct mqtt_broker, port, "port", .def = 1883, .min = 1, .max = 65535, .strict = true, .doc = "TCP port."),
    F_ENUM(struct mqtt_broker, version, "version", .of = versions, .def = MQTT_5,
           .doc = "MQTT 3.1 (3), 3.1.1 (4) or 5.0 (5)."),
    F_STR(struct mqtt_broker, client_id, "clientId", .max = 65535,
          .doc = "Absent: 23 random letters, new at each start. Empty: the broker assigns one, where the version "
                 "allows it."),
    F_UINT(struct mqtt_broker, keep_alive_s, "keepAlive", .def = 60, .max = 65535, .unit = "s", .doc = "0: off."),
    F_BOOL(struct mqtt_broker, clean_session, "cleanSession", .def = true,
           .doc = "Versions 3 and 4: the broker keeps nothing for the time without connection."),
    F_BOOL(struct mqtt_broker, clean_start, "cleanStart", .def = true,
           .doc = "Version 5: the broker forgets what it kept from the connection before."),
    F_UINT(struct mqtt_broker, session_expiry_s, "sessionExpiryInterval", .unit = "s",
           .doc = "Version 5: how long the broker keeps the session without connection."),
    F_UINT(struct mqtt_broker, max_workers, "maxNumberOfWorkers", .def = N_WORKERS_MAX, .min = 1, .max = INT32_MAX,
           .doc = "Upper bound of the conversion workers. One converts several 100,000 messages a second."),
    F_IGNORED("maxMessageNumberPerWorker", "workers are not chosen by the length of a queue"),
    F_UINT(struct mqtt_broker, max_queue, "maxMessageQueue", .def = QUEUE_MAX, .min = 1, .max = UINT32_MAX,
           .doc = "Messages of QoS 1 and 2 that may wait for their acknowledgement before reading stops."),
    F_UINT(struct mqtt_broker, max_processing, "maxProcessingMessageQueue", .def = QUEUE_MAX, .min = 1,
           .max = UINT32_MAX, .doc = "As maxMessageQueue; the smaller one counts."),
    F_BOOL(struct mqtt_broker, only_on_change, "sendDataOnlyOnChange",
           .doc = "Former key: true is report strategy ON_CHANGE where none is set."),
    F_STR(struct mqtt_broker, name, "name", .doc = "Former place of the connector's name, used if it has none."),
    F_OBJECT(struct mqtt_broker, security, "security", &security_type, .always = true,
             .doc = "Absent: anonymous, without TLS."),
    F_END};

static enum err check_broker(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct mqtt_broker *broker = object;

    if (broker->client_id.p && !broker->client_id.n && broker->version != MQTT_5 && !broker->clean_session) {
        conf_error(load, at, "clientId",
                   "is empty: with \"cleanSession\": false versions 3 and 4 need a name to find the "
                   "session again");
        return ERR_CONFIG;
    }
    if (!broker->client_id.p && !(broker->version == MQTT_5 ? broker->clean_start : broker->clean_session))
        conf_warning(load, at, "clientId", "is missing: a session that is to be resumed needs a fixed one");
    return ERR_OK;
}

static const struct conf_type broker_type = {.name = "mqtt.broker",
                                             .size = sizeof(struct mqtt_broker),
                                             .fields = broker_fields,
                                             .check = check_broker,
                                             .doc = "The broker that devices publish to."};

/* --- texts ---------------------------------------------------------------------------------------------------------------- */

static enum err compile_message_rule(struct conf_load *load, const struct conf_at *at, const char *key, struct str text,
                                     struct text_rule *out)
{
    if (conf_template(load, at, key, text, &out->template) != ERR_OK)
        return ERR_CONFIG;
    out->kind = template_kind(out->template) == TEMPLATE_CONSTANT ? RULE_CONSTANT : RULE_TEMPLATE;
    out->text = text;
    return ERR_OK;
}

static enum err compile_bytes_rule(struct conf_load *load, const struct conf_at *at, const char *key, struct str text,
                                   struct text_rule *out)
{
    if (byte_template_compile(&out->bytes, conf_arena(load), text) != ERR_OK) {
        conf_error(load, at, key, "\"" STR_FMT "\" is not a byte expression", STR_ARG(text));
        return ERR_CONFIG;
    }
    out->kind = byte_template_is_constant(out->bytes) ? RULE_CONSTANT : RULE_BYTES;
    out->text = text;
    return ERR_OK;
}

static enum err compile_topic_rule(struct conf_load *load, const struct conf_at *at, const char *key, struct str text,
                                   struct text_rule *out)
{
    out->kind = RULE_TOPIC;
    return conf_regex(load, at, key, text, REGEX_SEARCH, &out->regex);
}

/* --- deviceInfo ----------------------------------------------------------------------------------------------------------- */

static const struct choice sources[] = {
    {"message", SOURCE_MESSAGE}, {"constant", SOURCE_CONSTANT}, {"topic", SOURCE_TOPIC}, {NULL, 0}};

static const struct field device_info_fields[] = {
    F_AT(struct device_info, at),
    F_ENUM(struct device_info, name_source, "deviceNameExpressionSource", .of = sources, .def = SOURCE_MISSING,
           .doc = "Where the name comes from: the payload, a constant, or the topic by a regular expression."),
    F_STR(struct device_info, name, "deviceNameExpression", .doc = "Expression of the device's name."),
    F_ENUM(struct device_info, profile_source, "deviceProfileExpressionSource", .of = sources, .def = SOURCE_MISSING,
           .doc = "As deviceNameExpressionSource."),
    F_STR(struct device_info, profile, "deviceProfileExpression", .doc = "Expression of its profile; absent: default."),
    F_END};

static const struct conf_type device_info_type = {.name = "mqtt.deviceInfo",
                                                  .size = sizeof(struct device_info),
                                                  .fields = device_info_fields,
                                                  .doc = "Which device a message belongs to."};

static enum err compile_device_text(struct conf_load *load, const struct device_info *info, const char *key,
                                    enum text_source source, struct str text, bool is_bytes, struct text_rule *out)
{
    if (source == SOURCE_TOPIC)
        return compile_topic_rule(load, &info->at, key, text, out);
    return is_bytes ? compile_bytes_rule(load, &info->at, key, text, out)
                    : compile_message_rule(load, &info->at, key, text, out);
}

static enum err compile_device_info(struct conf_load *load, struct device_info *info, bool is_bytes)
{
    if (!info->name.n) {
        conf_error(load, &info->at, "deviceNameExpression", "is missing: without it no message has a device");
        return ERR_CONFIG;
    }
    if (info->name_source == SOURCE_MISSING && !is_bytes) {
        conf_error(load, &info->at, "deviceNameExpressionSource", "is missing: \"message\", \"constant\" or \"topic\"");
        return ERR_CONFIG;
    }
    if (compile_device_text(load, info, "deviceNameExpression", (enum text_source)info->name_source, info->name,
                            is_bytes, &info->name_rule) != ERR_OK)
        return ERR_CONFIG;
    if (!info->profile.n)
        return ERR_OK;
    if (info->profile_source == SOURCE_MISSING && !is_bytes)
        conf_warning(load, &info->at, "deviceProfileExpressionSource", "is missing: \"message\" is assumed");
    return compile_device_text(load, info, "deviceProfileExpression", (enum text_source)info->profile_source,
                               info->profile, is_bytes, &info->profile_rule);
}

/* --- datapoints ------------------------------------------------------------------------------------------------------------- */

static const struct choice key_sources[] = {{"message", SOURCE_MESSAGE}, {"topic", SOURCE_TOPIC}, {NULL, 0}};

static const struct field datapoint_fields[] = {
    F_AT(struct datapoint, at),
    F_STR(struct datapoint, type, "type", .doc = "int, long, float, double, bool, json, else text; absent: json."),
    F_STR(struct datapoint, key, "key", .need = true, .min = 1, .doc = "Name on the platform; ${tags} are allowed."),
    F_STR(struct datapoint, expression, "value", .need = true, .doc = "Expression of the value; bytes: [from:to]."),
    F_ENUM(struct datapoint, key_source, "keySource", .of = key_sources, .def = SOURCE_MESSAGE,
           .doc = "topic: key is a regular expression on the topic."),
    F_STR(struct datapoint, ts_expression, "tsField", .doc = "Member of the payload that holds the value's time."),
    F_BOOL(struct datapoint, dayfirst, "dayfirst", .doc = "In 3/2/2024 the first number is the day."),
    F_BOOL(struct datapoint, yearfirst, "yearfirst", .doc = "In 10-11-12 the first number is the year."),
    F_BOOL(struct datapoint, hex, "hexMode", .doc = "bytes: hexadecimal digits instead of text."),
    F_REPORT_STRATEGY(struct datapoint, report),
    F_END};

static enum err all_members(struct conf_load *load, void *object, const struct yyjson_val *val,
                            const struct conf_at *at)
{
    struct datapoint *point = object;

    (void)load;
    if (!yyjson_is_str((yyjson_val *)val) || !str_eq_z(json_str((yyjson_val *)val), "*"))
        return ERR_TYPE;
    point->is_all = true;
    point->at = *at;
    return ERR_OK;
}

static const struct conf_type datapoint_type = {
    .name = "mqtt.mapping.converter.datapoint",
    .size = sizeof(struct datapoint),
    .fields = datapoint_fields,
    .from_other = all_members,
    .doc = "One value; or the text \"*\": every member of the payload under its own name."};

static enum err compile_key(struct conf_load *load, struct datapoint *point, struct converter *converter)
{
    struct why why = {0};
    enum err err;

    if (point->key_source == SOURCE_TOPIC) {
        point->key_index = converter->n_topic_keys++;
        return compile_topic_rule(load, &point->at, "key", point->key, &point->key_rule);
    }
    err = converter->is_bytes ? compile_bytes_rule(load, &point->at, "key", point->key, &point->key_rule)
                              : compile_message_rule(load, &point->at, "key", point->key, &point->key_rule);
    if (err || point->key_rule.kind != RULE_CONSTANT)
        return err;
    if (event_key(conf_arena(load), point->key, &point->prepared, &why) != ERR_OK) {
        conf_error(load, &point->at, "key", "\"" STR_FMT "\": %s", STR_ARG(point->key), why_text(&why));
        return ERR_CONFIG;
    }
    return ERR_OK;
}

static enum err compile_datapoint(struct conf_load *load, struct datapoint *point, struct converter *converter)
{
    struct why why = {0};

    point->slot = -1;
    if (point->is_all) {
        if (!converter->is_bytes)
            return ERR_OK;
        conf_error(load, &point->at, NULL, "\"*\" needs members, which a payload of bytes does not have");
        return ERR_CONFIG;
    }
    if (compile_key(load, point, converter) != ERR_OK)
        return ERR_CONFIG;
    if (converter->is_bytes) {
        if (point->ts_expression.n)
            conf_warning(load, &point->at, "tsField",
                         "has no effect: bytes have no members; the time of reception counts");
        if (byte_template_compile(&point->bytes, conf_arena(load), point->expression) == ERR_OK)
            return ERR_OK;
        conf_error(load, &point->at, "value", "\"" STR_FMT "\" is not a byte expression", STR_ARG(point->expression));
        return ERR_CONFIG;
    }
    if (datapoint_compile(&point->value, conf_arena(load), point->expression, point->type, CONVERT_STRICT,
                          converter->use_eval, &why) != ERR_OK) {
        conf_error(load, &point->at, "value", "\"" STR_FMT "\" is not an expression: %s", STR_ARG(point->expression),
                   why_text(&why));
        return ERR_CONFIG;
    }
    if (!datapoint_may_work(&point->value, conf_arena(load), &why))
        conf_warning(load, &point->at, "value",
                     "\"" STR_FMT "\" cannot be translated with numbers, lists or operators in place of its tags: %s",
                     STR_ARG(point->expression), why_text(&why));
    point->has_ts = point->ts_expression.n > 0;
    if (point->has_ts && ts_field_compile(&point->ts, conf_arena(load), point->ts_expression, point->dayfirst,
                                          point->yearfirst, &why) != ERR_OK) {
        conf_error(load, &point->at, "tsField", "\"" STR_FMT "\" is not an expression: %s",
                   STR_ARG(point->ts_expression), why_text(&why));
        return ERR_CONFIG;
    }
    return ERR_OK;
}

/* A datapoint that does not compile is left out, the others work. */
static void compile_datapoints(struct conf_load *load, struct conf_list *list, struct converter *converter)
{
    size_t n = 0;

    for (size_t i = 0; i < list->n; i++) {
        if (compile_datapoint(load, list->items[i], converter) == ERR_OK)
            list->items[n++] = list->items[i];
    }
    list->n = n;
}

/* --- converter and mapping -------------------------------------------------------------------------------------------------- */

static const struct field converter_fields[] = {
    F_AT(struct converter, at),
    F_STR(struct converter, type, "type", .doc = "json, bytes or custom."),
    F_OBJECT(struct converter, info, "deviceInfo", &device_info_type, .doc = "Which device the message belongs to."),
    F_LIST(struct converter, attributes, "attributes", &datapoint_type, .doc = "Values without time."),
    F_LIST(struct converter, timeseries, "timeseries", &datapoint_type, .doc = "Values with time."),
    F_BOOL(struct converter, use_eval, "useEval", .doc = "The values are formulas, once their tags are filled in."),
    F_BOOL(struct converter, use_received_ts, "useReceivedTs",
           .doc = "The time of reception counts, whatever the data say."),
    F_REPORT_STRATEGY(struct converter, report),
    F_BOOL(struct converter, only_on_change, "sendDataOnlyOnChange",
           .doc = "Former key: true is report strategy ON_CHANGE where none is set."),
    F_STR(struct converter, extension, "extension", .doc = "Class of an extension, which takes the converter's place."),
    F_JSON(struct converter, extension_conf, "extensionConfig", .doc = "Handed to the extension unchanged."),
    F_JSON(struct converter, extension_conf_old, "extension-config", .doc = "Former name of extensionConfig."),
    F_BOOL(struct converter, shared_global, "sharedGlobal",
           .doc = "One object of the extension for all entries of its class."),
    F_STR(struct converter, shared_id, "sharedId", .doc = "One object of the extension for all entries of this name."),
    F_IGNORED("timeout", "a conversion takes microseconds"),
    F_IGNORED("cached", "everything is compiled when the file is loaded"),
    F_IGNORED("filterExpression", "filters of this kind belonged to the gateway before 2020"),
    F_STR(struct converter, old.name_json, "deviceNameJsonExpression", .doc = "Former key: see deviceInfo."),
    F_STR(struct converter, old.type_json, "deviceTypeJsonExpression", .doc = "Former key: see deviceInfo."),
    F_STR(struct converter, old.name_topic, "deviceNameTopicExpression", .doc = "Former key: see deviceInfo."),
    F_STR(struct converter, old.type_topic, "deviceTypeTopicExpression", .doc = "Former key: see deviceInfo."),
    F_STR(struct converter, old.name, "deviceNameExpression",
          .doc = "Former key of the bytes converter: see deviceInfo."),
    F_STR(struct converter, old.type, "deviceTypeExpression",
          .doc = "Former key of the bytes converter: see deviceInfo."),
    F_END};

/* Where sendDataOnlyOnChange is true. */
static void only_on_change(struct conf_load *load, const struct conf_at *at, const struct report_strategy **report)
{
    conf_warning(load, at, "sendDataOnlyOnChange", "is a former key of \"reportStrategy\": {\"type\": \"ON_CHANGE\"}%s",
                 *report ? ", which is there; it has no effect" : "");
    if (!*report)
        *report = &report_on_change;
}

static enum err check_converter(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct converter *converter = object;

    if (converter->extension.n || str_eq_nocase(converter->type, STR("custom"))) {
        converter->is_custom = true; /* whose entry says so */
        return ERR_OK;
    }
    if (!str_eq_nocase(converter->type, STR("json")) && !str_eq_nocase(converter->type, STR("bytes"))) {
        if (converter->type.p)
            conf_error(load, at, "type", "\"" STR_FMT "\" is not a converter; allowed: json, bytes, custom",
                       STR_ARG(converter->type));
        else
            conf_error(load, at, "type", "is missing; allowed: json, bytes, custom");
        return ERR_CONFIG;
    }
    converter->is_bytes = str_eq_nocase(converter->type, STR("bytes"));
    legacy_device_info(load, at, &converter->old, converter->is_bytes, &converter->info);
    if (!converter->info) {
        conf_error(load, at, "deviceInfo", "is missing: it says which device a message belongs to");
        return ERR_CONFIG;
    }
    if (compile_device_info(load, converter->info, converter->is_bytes) != ERR_OK)
        return ERR_CONFIG;
    compile_datapoints(load, &converter->attributes, converter);
    compile_datapoints(load, &converter->timeseries, converter);
    if (!converter->attributes.n && !converter->timeseries.n)
        conf_warning(load, at, NULL, "has neither \"attributes\" nor \"timeseries\": its messages give nothing");
    if (converter->only_on_change)
        only_on_change(load, at, &converter->report);
    plan_converter(load, converter);
    return ERR_OK;
}

static const struct conf_type converter_type = {.name = "mqtt.mapping.converter",
                                                .size = sizeof(struct converter),
                                                .fields = converter_fields,
                                                .check = check_converter,
                                                .doc = "How a payload becomes values of a device."};

#define F_FILTER(T, m)                                                                                                 \
    F_STR(T, m, "topicFilter", .need = true, .min = 1, .max = 65535,                                                   \
          .doc = "Topics, with + and #; $share/GROUP/FILTER is allowed.")
#define F_SUBSCRIPTION_QOS(T, m)                                                                                       \
    F_UINT(T, m, "subscriptionQos", .def = 1, .max = 2, .doc = "Highest quality of service of the subscription.")
#define F_QOS(T, m) F_UINT(T, m, "qos", .max = 2, .doc = "Quality of service of the publication.")
#define F_RETAIN(T, m) F_BOOL(T, m, "retain", .doc = "The broker keeps the publication for later subscribers.")

static enum err check_filter(struct conf_load *load, const struct conf_at *at, struct str filter)
{
    struct why why = {0};

    if (topic_filter_check(filter, &why) == ERR_OK)
        return ERR_OK;
    conf_error(load, at, "topicFilter", "\"" STR_FMT "\" is not a topic filter: %s", STR_ARG(filter), why_text(&why));
    return ERR_CONFIG;
}

static const struct field mapping_fields[] = {F_AT(struct mapping, at),
                                              F_FILTER(struct mapping, filter),
                                              F_SUBSCRIPTION_QOS(struct mapping, qos),
                                              F_OBJECT(struct mapping, converter, "converter", &converter_type,
                                                       .need = true,
                                                       .doc = "How a payload becomes values of a device."),
                                              F_REPORT_STRATEGY(struct mapping, report),
                                              F_END};

static enum err check_mapping(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct mapping *mapping = object;

    if (check_filter(load, at, mapping->filter) != ERR_OK)
        return ERR_CONFIG;
    if (!mapping->report)
        mapping->report = mapping->converter->report;
    if (mapping->converter->is_custom)
        conf_warning(
            load, at, NULL,
            "names a class of an extension, Python code that this version does not run: this entry is left out, the "
            "others "
            "work. Where \"type\": \"json\" with expressions does the same, use that; try it with `iotgw convert`");
    return ERR_OK;
}

static const struct conf_type mapping_type = {.name = "mqtt.mapping",
                                              .size = sizeof(struct mapping),
                                              .fields = mapping_fields,
                                              .check = check_mapping,
                                              .doc = "What becomes of the messages of a topic filter."};

/* --- requests --------------------------------------------------------------------------------------------------------------- */

#define F_OLD_NAMES(T)                                                                                                 \
    F_STR(T, old.name_json, "deviceNameJsonExpression", .doc = "Former key: see deviceInfo."),                         \
        F_STR(T, old.type_json, "deviceTypeJsonExpression", .doc = "Former key: see deviceInfo."),                     \
        F_STR(T, old.name_topic, "deviceNameTopicExpression", .doc = "Former key: see deviceInfo."),                   \
        F_STR(T, old.type_topic, "deviceTypeTopicExpression", .doc = "Former key: see deviceInfo.")

static const struct field device_request_fields[] = {
    F_AT(struct device_request, at),
    F_FILTER(struct device_request, filter),
    F_SUBSCRIPTION_QOS(struct device_request, qos),
    F_OBJECT(struct device_request, info, "deviceInfo", &device_info_type, .doc = "Which device is meant."),
    F_OLD_NAMES(struct device_request),
    F_END};

static enum err check_device_request(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct device_request *request = object;

    legacy_device_info(load, at, &request->old, false, &request->info);
    if (check_filter(load, at, request->filter) != ERR_OK)
        return ERR_CONFIG;
    if (!request->info) {
        conf_warning(load, at, "deviceInfo", "is missing: no device is known by this request, it does nothing");
        return ERR_OK;
    }
    return compile_device_info(load, request->info, false);
}

static const struct conf_type connect_type = {.name = "mqtt.connectRequests",
                                              .size = sizeof(struct device_request),
                                              .fields = device_request_fields,
                                              .check = check_device_request,
                                              .doc = "Topics on which devices say that they are there."};
static const struct conf_type disconnect_type = {.name = "mqtt.disconnectRequests",
                                                 .size = sizeof(struct device_request),
                                                 .fields = device_request_fields,
                                                 .check = check_device_request,
                                                 .doc = "Topics on which devices say that they leave."};

static const struct field attribute_request_fields[] = {
    F_AT(struct attribute_request, at),
    F_FILTER(struct attribute_request, filter),
    F_SUBSCRIPTION_QOS(struct attribute_request, subscription_qos),
    F_OBJECT(struct attribute_request, info, "deviceInfo", &device_info_type, .doc = "Which device asks."),
    F_ENUM(struct attribute_request, name_source, "attributeNameExpressionSource", .of = sources, .def = SOURCE_MESSAGE,
           .doc = "Where the names of the attributes come from."),
    F_STR(struct attribute_request, names, "attributeNameExpression", .doc = "Each tag gives one name."),
    F_STR(struct attribute_request, scope, "scope", .def_str = "shared", .doc = "shared or client; a tag is allowed."),
    F_STR(struct attribute_request, topic, "topicExpression", .need = true, .min = 1, .doc = "Topic of the answer."),
    F_STR(struct attribute_request, value, "valueExpression", .need = true,
          .doc = "Payload of the answer to a single name; several names are answered with an object."),
    F_QOS(struct attribute_request, qos),
    F_RETAIN(struct attribute_request, retain),
    F_BOOL(struct attribute_request, answer_missing, "answerMissing",
           .doc = "An attribute that is not set is answered with null instead of not at all."),
    F_OLD_NAMES(struct attribute_request),
    F_STR(struct attribute_request, names_json, "attributeNameJsonExpression",
          .doc = "Former key of attributeNameExpression."),
    F_STR(struct attribute_request, names_topic, "attributeNameTopicExpression",
          .doc = "Former key of attributeNameExpression."),
    F_END};

static enum err check_attribute_request(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct attribute_request *request = object;

    legacy_device_info(load, at, &request->old, false, &request->info);
    legacy_attribute_names(load, request);
    if (check_filter(load, at, request->filter) != ERR_OK)
        return ERR_CONFIG;
    if (!request->info || !request->names.n) {
        conf_error(load, at, request->info ? "attributeNameExpression" : "deviceInfo",
                   "is missing: without it nothing can be asked for");
        return ERR_CONFIG;
    }
    if (compile_device_info(load, request->info, false) != ERR_OK ||
        conf_template(load, at, "scope", request->scope, &request->scope_template) != ERR_OK ||
        conf_template(load, at, "topicExpression", request->topic, &request->topic_template) != ERR_OK ||
        conf_template(load, at, "valueExpression", request->value, &request->value_template) != ERR_OK)
        return ERR_CONFIG;
    if (template_kind(request->scope_template) == TEMPLATE_CONSTANT && !str_eq_z(request->scope, "shared") &&
        !str_eq_z(request->scope, "client")) {
        conf_error(load, at, "scope", "\"" STR_FMT "\" is not a scope; allowed: shared, client",
                   STR_ARG(request->scope));
        return ERR_CONFIG;
    }
    return request->name_source == SOURCE_TOPIC
               ? compile_topic_rule(load, at, "attributeNameExpression", request->names, &request->names_rule)
               : compile_message_rule(load, at, "attributeNameExpression", request->names, &request->names_rule);
}

static const struct conf_type attribute_request_type = {.name = "mqtt.attributeRequests",
                                                        .size = sizeof(struct attribute_request),
                                                        .fields = attribute_request_fields,
                                                        .check = check_attribute_request,
                                                        .doc = "Topics on which devices ask for attributes."};

static const struct field attribute_update_fields[] = {
    F_AT(struct attribute_update, at),
    F_STR(struct attribute_update, device_filter, "deviceNameFilter", .need = true,
          .doc = "Regular expression that the beginning of the device's name must match."),
    F_STR(struct attribute_update, attribute_filter, "attributeFilter", .need = true,
          .doc = "Regular expression that the beginning of the attribute's name must match."),
    F_STR(struct attribute_update, topic, "topicExpression", .need = true, .min = 1, .doc = "Topic to publish to."),
    F_STR(struct attribute_update, value, "valueExpression", .need = true, .doc = "Payload."),
    F_QOS(struct attribute_update, qos),
    F_RETAIN(struct attribute_update, retain),
    F_END};

static enum err check_attribute_update(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct attribute_update *update = object;

    if (conf_regex(load, at, "deviceNameFilter", update->device_filter, REGEX_MATCH, &update->device_regex) != ERR_OK ||
        conf_regex(load, at, "attributeFilter", update->attribute_filter, REGEX_MATCH, &update->attribute_regex) !=
            ERR_OK ||
        conf_template(load, at, "topicExpression", update->topic, &update->topic_template) != ERR_OK ||
        conf_template(load, at, "valueExpression", update->value, &update->value_template) != ERR_OK)
        return ERR_CONFIG;
    return ERR_OK;
}

static const struct conf_type attribute_update_type = {.name = "mqtt.attributeUpdates",
                                                       .size = sizeof(struct attribute_update),
                                                       .fields = attribute_update_fields,
                                                       .check = check_attribute_update,
                                                       .doc =
                                                           "What is published when the platform changes an attribute."};

static const struct field rpc_fields[] = {
    F_AT(struct rpc_section, at),
    F_STR(struct rpc_section, type, "type",
          .doc = "oneWay or twoWay, for the reader: responseTopicExpression decides."),
    F_STR(struct rpc_section, device_filter, "deviceNameFilter", .need = true,
          .doc = "Regular expression that must be found in the device's name."),
    F_STR(struct rpc_section, method_filter, "methodFilter", .need = true,
          .doc = "Regular expression that must be found in the method."),
    F_STR(struct rpc_section, topic, "requestTopicExpression", .need = true, .min = 1, .doc = "Topic of the request."),
    F_STR(struct rpc_section, value, "valueExpression", .need = true, .doc = "Payload of the request."),
    F_STR(struct rpc_section, response_topic, "responseTopicExpression", .doc = "Topic of the device's answer."),
    F_UINT(struct rpc_section, response_qos, "responseTopicQoS", .def = 1, .max = 2,
           .doc = "Quality of service of the answer's subscription."),
    F_MS(struct rpc_section, response_timeout_ms, "responseTimeout", .doc = "How long the answer is waited for."),
    F_QOS(struct rpc_section, qos),
    F_RETAIN(struct rpc_section, retain),
    F_END};

static enum err check_rpc(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct rpc_section *rpc = object;

    if (conf_regex(load, at, "deviceNameFilter", rpc->device_filter, REGEX_SEARCH, &rpc->device_regex) != ERR_OK ||
        conf_regex(load, at, "methodFilter", rpc->method_filter, REGEX_SEARCH, &rpc->method_regex) != ERR_OK ||
        conf_template(load, at, "requestTopicExpression", rpc->topic, &rpc->topic_template) != ERR_OK ||
        conf_template(load, at, "valueExpression", rpc->value, &rpc->value_template) != ERR_OK)
        return ERR_CONFIG;
    if (!rpc->response_topic.n)
        return ERR_OK;
    if (!rpc->response_timeout_ms) {
        conf_warning(load, at, "responseTimeout", "is missing: an answer is not waited for, the request is one-way");
        return ERR_OK;
    }
    return conf_template(load, at, "responseTopicExpression", rpc->response_topic, &rpc->response_template);
}

static const struct conf_type rpc_type = {.name = "mqtt.serverSideRpc",
                                          .size = sizeof(struct rpc_section),
                                          .fields = rpc_fields,
                                          .check = check_rpc,
                                          .doc = "What is published when the platform calls a device."};

#define F_SECTIONS(T, m, of_doc)                                                                                       \
    F_LIST(T, m.connects, "connectRequests", &connect_type,                                                            \
           .doc = "Topics on which devices say that they are there." of_doc),                                          \
        F_LIST(T, m.disconnects, "disconnectRequests", &disconnect_type,                                               \
               .doc = "Topics on which devices say that they leave." of_doc),                                          \
        F_LIST(T, m.attribute_requests, "attributeRequests", &attribute_request_type,                                  \
               .doc = "Topics on which devices ask for attributes." of_doc),                                           \
        F_LIST(T, m.attribute_updates, "attributeUpdates", &attribute_update_type,                                     \
               .doc = "What is published when the platform changes an attribute." of_doc),                             \
        F_LIST(T, m.rpcs, "serverSideRpc", &rpc_type,                                                                  \
               .doc = "What is published when the platform calls a device." of_doc)

static const struct field requests_fields[] = {F_AT(struct requests_mapping, at),
                                               F_SECTIONS(struct requests_mapping, lists, ""), F_END};
static const struct conf_type requests_type = {.name = "mqtt.requestsMapping",
                                               .size = sizeof(struct requests_mapping),
                                               .fields = requests_fields,
                                               .doc = "Requests of devices, and of the platform to them."};

/* --- file ---------------------------------------------------------------------------------------------------------------------- */

static const struct field file_fields[] = {
    F_OBJECT(struct mqtt_file, broker, "broker", &broker_type, .need = true,
             .doc = "The broker that devices publish to."),
    F_LIST(struct mqtt_file, mapping, "mapping", &mapping_type, .doc = "What becomes of received messages."),
    F_LIST(struct mqtt_file, mapping_old, "dataMapping", &mapping_type, .doc = "Former name of mapping."),
    F_OBJECT(struct mqtt_file, requests, "requestsMapping", &requests_type, .skip = true,
             .doc = "Requests of devices, and of the platform to them."),
    F_SECTIONS(struct mqtt_file, old_requests, " Former place of the section in requestsMapping."),
    F_JSON(struct mqtt_file, brokers, "brokers",
           .doc = "Form of the Java gateway, which is refused: one connector is one broker."),
    F_END};

static enum err check_file(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct mqtt_file *file = object;

    if (file->brokers) {
        conf_error(load, at, "brokers",
                   "is the form of the Java gateway: make one connector, with a file of its own, of each broker");
        return ERR_CONFIG;
    }
    legacy_file(load, file);
    if (!file->common.name.p)
        file->common.name = file->broker->name;
    if (file->broker->only_on_change)
        only_on_change(load, &file->broker->at, &file->common.report_strategy);
    return plan_compile(load, file);
}

const struct conf_type mqtt_conf_type = {
    .name = "mqtt",
    .size = sizeof(struct mqtt_file),
    .fields = file_fields,
    .check = check_file,
    .base = &connector_common_type,
    .doc =
        "A client of an MQTT broker: messages of devices become values, requests of the platform become publications."};
