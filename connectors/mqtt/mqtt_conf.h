/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MQTT_CONF_H
#define IOTGW_CONNECTOR_MQTT_CONF_H
/*
 * The MQTT connector's file as structs: what the keys say, and beside it what is compiled from them when the file is
 * loaded. Immutable afterwards, in the configuration's arena. Old forms are brought into the present one while loading
 * (mqtt_legacy.c), so that nothing else knows of them.
 */
#include "conf/common.h"
#include "data/convert.h"
#include "data/timestamp.h"

enum mqtt_security_type { SECURITY_ANONYMOUS, SECURITY_BASIC, SECURITY_CERTIFICATES };
struct mqtt_security {
    struct conf_at at;
    int type;
    struct secret username, password;
    struct str ca, ca_old, cert, key;
    bool insecure;
    /* compiled */
    bool is_tls;
    const char *ca_file, *cert_file, *key_file; /* NULL: none */
};

struct mqtt_broker {
    struct conf_at at;
    struct str host, client_id, name; /* client_id.p NULL: random at each start */
    uint32_t port;
    int version; /* enum mqtt_version */
    uint32_t keep_alive_s, session_expiry_s;
    bool clean_session, clean_start;
    uint32_t max_workers, max_queue, max_processing;
    bool only_on_change;
    struct mqtt_security *security;
};

/* How a device name, profile, key or attribute name comes about. */
enum text_rule_kind { RULE_NONE, RULE_CONSTANT, RULE_TEMPLATE, RULE_TOPIC, RULE_BYTES };
struct text_rule {
    enum text_rule_kind kind;
    struct str text; /* CONSTANT */
    struct template *template;
    struct regex *regex;
    struct byte_template *bytes;
};

enum text_source { SOURCE_MISSING, SOURCE_MESSAGE, SOURCE_CONSTANT, SOURCE_TOPIC };
struct device_info {
    struct conf_at at;
    int name_source, profile_source;
    struct str name, profile;
    /* compiled */
    struct text_rule name_rule, profile_rule; /* profile RULE_NONE: "default" */
};

/* The keys that said this before there was deviceInfo. */
struct old_names {
    struct str name_json, type_json, name_topic, type_topic, name, type;
};

struct datapoint {
    struct conf_at at;
    struct str type, key, expression, ts_expression;
    int key_source;
    bool dayfirst, yearfirst, hex;
    bool is_all; /* the text "*" */
    const struct report_strategy *report;
    /* compiled */
    struct text_rule key_rule;
    struct str prepared;          /* CONSTANT key: as event_key made it */
    struct datapoint_value value; /* JSON */
    struct byte_template *bytes;  /* bytes */
    bool has_ts;
    struct ts_field ts;
    int slot;           /* of its value among the members that are matched in one pass; -1: none */
    unsigned key_index; /* among the keys that depend on the topic alone */
};

struct converter {
    struct conf_at at;
    struct str type, extension, shared_id;
    const struct yyjson_val *extension_conf, *extension_conf_old;
    bool shared_global, use_eval, use_received_ts, only_on_change;
    struct device_info *info;
    struct conf_list attributes, timeseries; /* of struct datapoint */
    const struct report_strategy *report;
    struct old_names old;
    /* compiled */
    bool is_bytes, is_custom;
    struct member_table *members;
    bool keys_unique; /* no two datapoints of a kind can have the same key */
    unsigned n_topic_keys;
};

struct mapping {
    struct conf_at at;
    struct str filter;
    uint32_t qos;
    struct converter *converter;
    const struct report_strategy *report;
};

struct device_request { /* connectRequests, disconnectRequests */
    struct conf_at at;
    struct str filter;
    uint32_t qos;
    struct device_info *info;
    struct old_names old;
};

struct attribute_request {
    struct conf_at at;
    struct str filter;
    uint32_t subscription_qos, qos;
    bool retain, answer_missing;
    struct device_info *info;
    int name_source;
    struct str names, scope, topic, value, names_json, names_topic;
    struct old_names old;
    /* compiled */
    struct text_rule names_rule;
    struct template *scope_template, *topic_template, *value_template;
};

struct attribute_update {
    struct conf_at at;
    struct str device_filter, attribute_filter, topic, value;
    uint32_t qos;
    bool retain;
    /* compiled */
    struct regex *device_regex, *attribute_regex;
    struct template *topic_template, *value_template;
};

struct rpc_section {
    struct conf_at at;
    struct str type, device_filter, method_filter, topic, value, response_topic;
    uint32_t response_qos, response_timeout_ms, qos;
    bool retain;
    /* compiled */
    struct regex *device_regex, *method_regex;
    struct template *topic_template, *value_template, *response_template; /* response NULL: one-way */
};

struct request_lists {
    struct conf_list connects, disconnects, attribute_requests, attribute_updates, rpcs;
};
struct requests_mapping {
    struct conf_at at;
    struct request_lists lists;
};

struct mqtt_file {
    struct connector_common common; /* first: the keys every connector has */
    struct mqtt_broker *broker;
    struct conf_list mapping, mapping_old;
    struct requests_mapping *requests;
    struct request_lists old_requests; /* at top level */
    const struct yyjson_val *brokers;
    /* in force */
    struct conf_list mappings; /* of struct mapping */
    struct request_lists sections;
    struct mqtt_plan *plan;
};

extern const struct conf_type mqtt_conf_type;

/* mqtt_legacy.c: the former keys of an entry as deviceInfo; new ones win. One note an entry. */
void legacy_device_info(struct conf_load *load, const struct conf_at *at, const struct old_names *old, bool is_bytes,
                        struct device_info **info);
void legacy_attribute_names(struct conf_load *load, struct attribute_request *request);
/* dataMapping, and the request sections at top level. */
void legacy_file(struct conf_load *load, struct mqtt_file *file);

/* mqtt_plan.c: what depends on all entries, once they are loaded. */
NODISCARD enum err plan_compile(struct conf_load *load, struct mqtt_file *file);
void plan_converter(struct conf_load *load, struct converter *converter);
#endif
