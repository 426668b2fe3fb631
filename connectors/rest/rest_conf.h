/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_REST_CONF_H
#define IOTGW_CONNECTOR_REST_CONF_H
/*
 * The REST connector's file as structs: what the keys say, and beside it what is compiled from them when the file is
 * loaded. Immutable afterwards, in the configuration's arena.
 */
#include "base/map.h"
#include "convert/web_convert.h"
#include "convert/web_down.h"

enum rest_login { LOGIN_NONE, LOGIN_BASIC, LOGIN_TOKEN, LOGIN_CERT };
struct rest_security { /* of an endpoint: who may come; of a section: how the connector makes itself known */
    struct conf_at at;
    struct str type;
    struct secret username, password, token;
    struct str cert, key;
    /* compiled */
    enum rest_login login;
    struct str expected;              /* what stands behind "Basic " or "Bearer " */
    const char *cert_file, *key_file; /* key_file NULL: in the same file */
};

struct rest_tls_files {
    struct conf_at at;
    struct str cert, key;
};
struct rest_server {
    struct conf_at at;
    struct str host;
    uint32_t port, max_body, max_connections;
    bool tls;
    struct rest_tls_files *files;
    struct conf_strs origins;
    /* compiled */
    const char *host_text, *cert_file, *key_file; /* cert_file NULL: self-signed */
};

struct rest_response {
    struct conf_at at;
    bool is_expected;
    double timeout_s;
    struct str attribute, success, failure;
    uint64_t timeout_ms; /* compiled */
};

enum rest_scope { SCOPE_SHARED, SCOPE_CLIENT };
/* What stands behind a path and some methods: a mapping, or an attribute request. */
struct rest_endpoint {
    struct conf_at at;
    struct str path;
    struct conf_strs methods, methods_old;
    struct rest_security *security;
    /* of a mapping */
    struct web_converter *converter; /* NULL: an attribute request */
    struct rest_response *response;
    const struct report_strategy *report;
    /* of an attribute request */
    int scope;
    struct str device, names;
    double timeout_s;
    /* compiled */
    struct template *device_template, *names_template;
    uint64_t timeout_ms;
    const struct rest_route *route;
};

enum { REST_VARS_MAX = 16 };
/* One path; which of its endpoints it is, the method says. */
struct rest_route {
    struct str path, literal;       /* as configured; decoded, if it has no variable */
    struct regex *regex;            /* NULL: a literal */
    struct str vars[REST_VARS_MAX]; /* names of the variables, in order */
    size_t n_vars;
    const struct rest_endpoint **endpoints;
    size_t n;
};

struct rest_section { /* attributeUpdates, serverSideRpc */
    struct conf_at at;
    struct str device_filter, name_filter, url, value, method, extension;
    const struct yyjson_val *headers;
    double timeout_s, response_timeout_s; /* response: 0: absent */
    uint32_t tries;
    bool allow_redirects, verify;
    struct rest_security *security;
    /* compiled */
    struct regex *device_regex, *name_regex;
    struct template *url_template, *value_template;
    struct web_field *fields;
    size_t n_fields;
    bool is_multipart;
    uint64_t timeout_ms, response_timeout_ms;
};

struct rest_requests {
    struct conf_list attribute_requests, updates, rpcs;
};

struct rest_file {
    struct connector_common common; /* first */
    struct rest_server *server;
    struct conf_list mapping;
    struct rest_requests *requests, old_requests;
    struct str old_host;
    uint32_t old_port;
    bool old_tls;
    struct rest_tls_files *old_files;
    /* compiled */
    struct conf_list updates, rpcs;
    struct rest_route *routes; /* literals and patterns, each in the order of the file */
    size_t n_routes;
    struct map literals; /* decoded path → route */
};

extern const struct conf_type rest_conf_type;
enum { REST_TIMEOUT_MAX_S = 86400, REST_MAX_BODY = 1024 * 1024, REST_MAX_CONNECTIONS = 10000 };

/* For the file's check: routes of all endpoints. */
void rest_routes_build(struct conf_load *load, struct rest_file *file, const struct conf_list *mappings,
                       const struct conf_list *requests);
/* Takes what stands at top level in older files (rest.md 7). */
void rest_legacy(struct conf_load *load, struct rest_file *file, struct rest_requests *out);
#endif
