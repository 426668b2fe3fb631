/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_REQUEST_CONF_H
#define IOTGW_CONNECTOR_REQUEST_CONF_H
/*
 * The Request connector's file as structs: what the keys say, and beside it what is compiled from them when the file is
 * loaded. Immutable afterwards, in the configuration's arena.
 */
#include "convert/web_convert.h"
#include "convert/web_down.h"

struct request_security {
    struct conf_at at;
    struct str type;
    struct secret username, password;
};

struct sub_request {
    struct conf_at at;
    struct str url, function, value, type;
    /* compiled */
    struct template *url_template;
    bool has_value;
    struct datapoint_value point;
};
struct sub_use { /* in the order in which datapoints name them */
    struct str name;
    const struct sub_request *sub;
};

struct request_mapping {
    struct conf_at at;
    struct str url, method, unpack;
    const struct yyjson_val *headers, *data, *content;
    double scan_s, timeout_s;
    bool allow_redirects, with_credentials;
    struct conf_map subs;
    struct web_converter *converter;
    const struct report_strategy *report;
    /* compiled */
    struct web_request request;
    uint64_t period_ms, timeout_ms;
    struct template *unpack_template; /* NULL: the body itself */
    struct sub_use *uses;
    size_t n_uses;
};

struct request_section { /* attributeUpdates, serverSideRpc */
    struct conf_at at;
    struct str device_filter, name_filter, url, value, value_other, response, method, extension;
    const struct yyjson_val *headers;
    double timeout_s, response_timeout_s;
    uint32_t tries;
    bool allow_redirects, with_credentials;
    /* compiled */
    struct regex *device_regex, *name_regex;
    struct template *url_template, *value_template, *response_template; /* value NULL: no body */
    struct web_field *fields;
    size_t n_fields;
    uint64_t timeout_ms, response_timeout_ms;
};

struct request_file {
    struct connector_common common; /* first */
    struct str host;
    bool verify;
    uint32_t max_body;
    struct request_security *security;
    struct conf_list mappings, updates, rpcs;
    bool with_credentials; /* sendCredentials: to every host */
    /* compiled */
    struct str base;               /* with its scheme, without a slash at the end */
    struct str username, password; /* username p NULL: anonymous */
    const char *ca_file;           /* NULL: the system's trust store */
};

extern const struct conf_type request_conf_type;
enum { REQUEST_TIMEOUT_MAX_S = 86400 };
#endif
