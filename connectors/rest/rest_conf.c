/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of the REST connector's file (rest.md 1, 2), and what is compiled of an entry when it is loaded. */
#include "rest_conf.h"

#include "base/base64.h"
#include "conf/expression.h"

#include <stdlib.h>

enum { MAX_BODY_LARGEST = 64 * 1024 * 1024 };

/* --- security -------------------------------------------------------------------------------------------------------- */

static const struct choice logins[] = {
    {"anonymous", LOGIN_NONE}, {"basic", LOGIN_BASIC}, {"token", LOGIN_TOKEN}, {"cert", LOGIN_CERT}, {NULL, 0}};

static bool find_login(struct rest_security *security)
{
    struct str type = str_trim(security->type);

    if (!type.n)
        return true;
    for (const struct choice *choice = logins; choice->name; choice++)
        if (str_eq_nocase(type, str_from(choice->name))) {
            security->login = (enum rest_login)choice->value;
            return true;
        }
    return false;
}

/* "~/x": in the home directory of who runs the gateway. */
static const char *file_of(struct conf_load *load, struct str path)
{
    const char *home = getenv("HOME");

    if (home && path.n >= 2 && path.p[0] == '~' && path.p[1] == '/')
        return arena_text(conf_arena(load),
                          arena_printf(conf_arena(load), "%s" STR_FMT, home, STR_ARG(str_skip(path, 1))));
    return conf_path(load, path);
}

static enum err check_login(struct conf_load *load, struct rest_security *security, const struct conf_at *at)
{
    autobuf struct buf text = {0};
    const char *missing = NULL;

    switch (security->login) {
    case LOGIN_NONE:
        break;
    case LOGIN_BASIC:
        missing = !security->username.value.n ? "username" : !security->password.value.p ? "password" : NULL;
        buf_add_str(&text, security->username.value);
        buf_add_u8(&text, ':');
        buf_add_str(&text, security->password.value);
        {
            autobuf struct buf encoded = {0};

            base64_encode(&encoded, buf_str(&text));
            security->expected = arena_str(conf_arena(load), buf_str(&encoded));
        }
        break;
    case LOGIN_TOKEN:
        missing = !security->token.value.n ? "token" : NULL;
        security->expected = security->token.value;
        break;
    case LOGIN_CERT:
        missing = !security->cert.n ? "cert" : NULL;
        if (security->cert.n)
            security->cert_file = file_of(load, security->cert);
        if (security->key.n)
            security->key_file = file_of(load, security->key);
        break;
    }
    if (!missing)
        return ERR_OK;
    conf_error(load, at, missing, "is missing: \"" STR_FMT "\" needs it", STR_ARG(security->type));
    return ERR_CONFIG;
}

static enum err check_security(struct conf_load *load, struct rest_security *security, const struct conf_at *at,
                               enum rest_login not_here, const char *allowed)
{
    if (find_login(security) && security->login != not_here)
        return check_login(load, security, at);
    conf_error(load, at, "type", "\"" STR_FMT "\" is not a kind of security; allowed: %s", STR_ARG(security->type),
               allowed);
    return ERR_CONFIG;
}

static enum err check_security_in(struct conf_load *load, void *object, const struct conf_at *at)
{
    return check_security(load, object, at, LOGIN_CERT, "anonymous, basic, token");
}

static enum err check_security_out(struct conf_load *load, void *object, const struct conf_at *at)
{
    return check_security(load, object, at, LOGIN_TOKEN, "anonymous, basic, cert");
}

static const struct field security_in_fields[] = {
    F_AT(struct rest_security, at),
    F_STR(struct rest_security, type, "type",
          .doc = "anonymous; basic: name and password; token: \"Authorization: Bearer …\"."),
    F_SECRET(struct rest_security, username, "username", .doc = "With basic."),
    F_SECRET(struct rest_security, password, "password", .doc = "With basic."),
    F_SECRET(struct rest_security, token, "token", .doc = "With token."),
    F_END};
static const struct conf_type security_in_type = {.name = "rest.mapping.security",
                                                  .size = sizeof(struct rest_security),
                                                  .fields = security_in_fields,
                                                  .check = check_security_in,
                                                  .doc = "Who may use the endpoint."};
static const struct field security_out_fields[] = {
    F_AT(struct rest_security, at),
    F_STR(struct rest_security, type, "type", .doc = "anonymous, basic, or cert: a certificate of the gateway."),
    F_SECRET(struct rest_security, username, "username", .doc = "With basic."),
    F_SECRET(struct rest_security, password, "password", .doc = "With basic."),
    F_STR(struct rest_security, cert, "cert", .doc = "With cert: PEM file."),
    F_STR(struct rest_security, key, "key", .doc = "With cert: PEM file of the key, if it is not in cert."),
    F_END};
static const struct conf_type security_out_type = {.name = "rest.request.security",
                                                   .size = sizeof(struct rest_security),
                                                   .fields = security_out_fields,
                                                   .check = check_security_out,
                                                   .doc = "How the gateway makes itself known."};

/* --- texts ----------------------------------------------------------------------------------------------------------- */

static uint64_t ms_of(double s)
{
    return (uint64_t)(s * 1000 + 0.5);
}

#define F_SECONDS(T, m, k, preset, text)                                                                               \
    F_DOUBLE(T, m, k, .def_double = preset, .min_double = 0.001, .max_double = REST_TIMEOUT_MAX_S, .unit = "s",        \
             .doc = text)

/* --- endpoints ------------------------------------------------------------------------------------------------------- */

static const struct field response_fields[] = {
    F_AT(struct rest_response, at),
    F_BOOL(struct rest_response, is_expected, "responseExpected",
           .doc = "The answer waits for an attribute update of the device, and is its value."),
    F_SECONDS(struct rest_response, timeout_s, "timeout", 120, "How long it waits; then 408."),
    F_STR(struct rest_response, attribute, "responseAttribute", .doc = "Key of that attribute; absent: any."),
    F_STR(struct rest_response, success, "successResponse", .doc = "Text of the answer with status 200."),
    F_STR(struct rest_response, failure, "unsuccessfulResponse",
          .doc = "Text of the answer with status 401, 405, 408, 415 or 500."),
    F_END};

static enum err check_response(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct rest_response *response = object;

    response->timeout_ms = ms_of(response->timeout_s);
    if (response->is_expected && !response->attribute.n)
        conf_warning(load, at, NULL,
                     "has no \"responseAttribute\": any attribute update of the device answers the request");
    return ERR_OK;
}

static const struct conf_type response_type = {.name = "rest.mapping.response",
                                               .size = sizeof(struct rest_response),
                                               .fields = response_fields,
                                               .check = check_response,
                                               .doc = "What a client is answered."};

static const struct field converter_fields[] = {
    F_WEB_CONVERTER,
    F_STR(struct web_converter, name_old, "deviceNameExpression", .doc = "Name of the device; ${tags} are allowed."),
    F_STR(struct web_converter, profile_old, "deviceTypeExpression", .doc = "Its profile; absent: default."), F_END};

static enum err check_converter(struct conf_load *load, void *object, const struct conf_at *at)
{
    return web_converter_check(load, object, at);
}

static const struct conf_type converter_type = {.name = "rest.mapping.converter",
                                                .size = sizeof(struct web_converter),
                                                .fields = converter_fields,
                                                .check = check_converter,
                                                .doc = "How a request becomes values of devices."};

#define ENDPOINT_FIELDS                                                                                                \
    F_AT(struct rest_endpoint, at),                                                                                    \
        F_STR(struct rest_endpoint, path, "endpoint", .need = true, .min = 1,                                          \
              .doc = "Path, begins with /. {name} stands for a part of it, {name:regex} for what matches."),           \
        F_STRS(struct rest_endpoint, methods, "HTTPMethods", .doc = "Methods that are served."),                       \
        F_STRS(struct rest_endpoint, methods_old, "HTTPMethod", .doc = "Former name of HTTPMethods."),                 \
        F_OBJECT(struct rest_endpoint, security, "security", &security_in_type, .doc = "Absent: anonymous.")

static const struct field mapping_fields[] = {ENDPOINT_FIELDS,
                                              F_OBJECT(struct rest_endpoint, converter, "converter", &converter_type,
                                                       .need = true, .doc = "How a request becomes values of devices."),
                                              F_OBJECT(struct rest_endpoint, response, "response", &response_type,
                                                       .always = true, .doc = "What a client is answered."),
                                              F_REPORT_STRATEGY(struct rest_endpoint, report), F_END};

static const struct choice scopes[] = {{"shared", SCOPE_SHARED}, {"client", SCOPE_CLIENT}, {NULL, 0}};
static const struct field attribute_request_fields[] = {
    ENDPOINT_FIELDS,
    F_ENUM(struct rest_endpoint, scope, "type", .of = scopes, .def = SCOPE_SHARED, .doc = "Which attributes."),
    F_STR(struct rest_endpoint, device, "deviceNameExpression", .need = true, .min = 1,
          .doc = "Name of the device; ${tags} are allowed."),
    F_STR(struct rest_endpoint, names, "attributeNameExpression", .need = true, .min = 1,
          .doc = "Each ${tag} gives a name, or names; a text without tags is one."),
    F_SECONDS(struct rest_endpoint, timeout_s, "timeout", 10, "How long the platform may take; then 408."),
    F_END};

static enum err check_methods(struct conf_load *load, struct rest_endpoint *endpoint, const struct conf_at *at)
{
    bool has_get = false;
    size_t n = 0;

    if (!endpoint->methods.n && endpoint->methods_old.n) {
        conf_note(load, at, "HTTPMethod", "is called \"HTTPMethods\" now; it works by this name too");
        endpoint->methods = endpoint->methods_old;
    }
    if (!endpoint->methods.n) {
        conf_error(load, at, "HTTPMethods", "is missing: without it no method is served");
        return ERR_CONFIG;
    }
    for (size_t i = 0; i < endpoint->methods.n; i++) {
        char *text = arena_text(conf_arena(load), str_trim(endpoint->methods.items[i]));

        for (char *c = text; *c; c++)
            if (*c >= 'a' && *c <= 'z')
                *c = (char)(*c - 'a' + 'A');
        endpoint->methods.items[i] = str_from(text);
        has_get |= strcmp(text, "GET") == 0;
    }
    for (size_t i = 0; i < endpoint->methods.n; i++) {
        if (has_get && str_eq(endpoint->methods.items[i], STR("HEAD")))
            conf_warning(load, at, "HTTPMethods", "HEAD beside GET is left out");
        else
            endpoint->methods.items[n++] = endpoint->methods.items[i];
    }
    endpoint->methods.n = n;
    return ERR_OK;
}

static enum err check_endpoint(struct conf_load *load, struct rest_endpoint *endpoint, const struct conf_at *at)
{
    if (endpoint->path.p[0] != '/') {
        conf_error(load, at, "endpoint", "\"" STR_FMT "\" does not begin with /", STR_ARG(endpoint->path));
        return ERR_CONFIG;
    }
    return check_methods(load, endpoint, at);
}

static enum err check_mapping(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct rest_endpoint *endpoint = object;

    if (endpoint->converter->is_custom)
        conf_warning(
            load, at, NULL,
            "names a class of an extension, Python code that this version does not run: this entry is left out, the "
            "others "
            "work. Where \"type\": \"json\" with expressions does the same, use that; try it with `iotgw convert`");
    return check_endpoint(load, endpoint, at);
}

static enum err check_attribute_request(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct rest_endpoint *endpoint = object;

    endpoint->timeout_ms = ms_of(endpoint->timeout_s);
    if (conf_template(load, at, "deviceNameExpression", endpoint->device, &endpoint->device_template) != ERR_OK ||
        conf_template(load, at, "attributeNameExpression", endpoint->names, &endpoint->names_template) != ERR_OK)
        return ERR_CONFIG;
    return check_endpoint(load, endpoint, at);
}

static const struct conf_type mapping_type = {.name = "rest.mapping",
                                              .size = sizeof(struct rest_endpoint),
                                              .fields = mapping_fields,
                                              .check = check_mapping,
                                              .doc = "An endpoint that takes data."};
static const struct conf_type attribute_request_type = {.name = "rest.attributeRequests",
                                                        .size = sizeof(struct rest_endpoint),
                                                        .fields = attribute_request_fields,
                                                        .check = check_attribute_request,
                                                        .doc = "An endpoint that answers with attributes."};

/* --- downward -------------------------------------------------------------------------------------------------------- */

#define SECTION_FIELDS                                                                                                 \
    F_AT(struct rest_section, at),                                                                                     \
        F_STR(struct rest_section, device_filter, "deviceNameFilter", .need = true,                                    \
              .doc = "Regular expression of the whole device name."),                                                  \
        F_STR(struct rest_section, url, "requestUrlExpression", .need = true, .min = 1,                                \
              .doc = "URL; ${tags} are allowed. http:// is assumed where no scheme is given."),                        \
        F_STR(struct rest_section, value, "valueExpression", .doc = "Body; ${tags} are allowed."),                     \
        F_STR(struct rest_section, method, "HTTPMethod", .def_str = "GET", .min = 1, .doc = "Any method."),            \
        F_JSON(struct rest_section, headers, "httpHeaders", .doc = "Object of headers, or a text that holds one."),    \
        F_BOOL(struct rest_section, verify, "SSLVerify", .def = true,                                                  \
               .doc = "https: the server's certificate and its name are checked."),                                    \
        F_OBJECT(struct rest_section, security, "security", &security_out_type, .doc = "Absent: anonymous."),          \
        F_SECONDS(struct rest_section, timeout_s, "timeout", 10, "For connecting and for the whole answer."),          \
        F_UINT(struct rest_section, tries, "tries", .def = 1, .min = 1, .max = 100,                                    \
               .doc = "Attempts: after a failed connection or 5xx, where the method may be repeated."),                \
        F_BOOL(struct rest_section, allow_redirects, "allowRedirects",                                                 \
               .doc = "Redirects are followed, 10 at most; else they are answers."),                                   \
        F_STR(struct rest_section, extension, "extension", .doc = "Class of an extension, which makes the request.")

static const struct field update_fields[] = {SECTION_FIELDS,
                                             F_STR(struct rest_section, name_filter, "attributeFilter", .need = true,
                                                   .doc = "Regular expression of the whole attribute name."),
                                             F_END};
static const struct field rpc_fields[] = {SECTION_FIELDS,
                                          F_STR(struct rest_section, name_filter, "methodFilter", .need = true,
                                                .doc = "Regular expression of the whole method name."),
                                          F_DOUBLE(struct rest_section, response_timeout_s, "responseTimeout",
                                                   .min_double = 0.0, .max_double = REST_TIMEOUT_MAX_S, .unit = "s",
                                                   .doc = "How long the call may take in all; 0: no limit."),
                                          F_END};

static enum err check_section(struct conf_load *load, struct rest_section *section, const char *filter_key,
                              struct str preset)
{
    const struct conf_at *at = &section->at;
    struct str value = section->value.p ? section->value : preset, type;
    struct why why = {0};

    if (section->extension.n) {
        conf_error(load, at, "extension",
                   "names a class of an extension, Python code that this version does not run: this entry is left out. "
                   "Where URL and "
                   "value expressions do the same, use those, and remove this key");
        return ERR_CONFIG;
    }
    section->timeout_ms = ms_of(section->timeout_s);
    section->response_timeout_ms = ms_of(section->response_timeout_s);
    if (conf_regex(load, at, "deviceNameFilter", section->device_filter, REGEX_FULL, &section->device_regex) !=
            ERR_OK ||
        conf_regex(load, at, filter_key, section->name_filter, REGEX_FULL, &section->name_regex) != ERR_OK ||
        conf_template(load, at, "requestUrlExpression", section->url, &section->url_template) != ERR_OK ||
        conf_template(load, at, "valueExpression", value, &section->value_template) != ERR_OK)
        return ERR_CONFIG;
    if (web_method_check(section->method, &why) != ERR_OK) {
        conf_error(load, at, "HTTPMethod", "%s", why_text(&why));
        return ERR_CONFIG;
    }
    if (web_scheme_check(section->url, &why) != ERR_OK) {
        conf_error(load, at, "requestUrlExpression", "%s", why_text(&why));
        return ERR_CONFIG;
    }
    if (web_headers(section->headers, conf_arena(load), &section->fields, &section->n_fields, &why) != ERR_OK) {
        conf_error(load, at, "httpHeaders", "%s", why_text(&why));
        return ERR_CONFIG;
    }
    type = web_header(section->fields, section->n_fields, "content-type");
    section->is_multipart = str_eq_nocase(str_trim(str_cut(type, str_chr(type, ';'))), STR("multipart/form-data"));
    if (!section->verify && str_eq_nocase(str_cut(str_trim(section->url), 8), STR("https://")))
        conf_warning(load, at, "SSLVerify", "is false: anybody may pretend to be the server");
    return ERR_OK;
}

static enum err check_update(struct conf_load *load, void *object, const struct conf_at *at)
{
    (void)at;
    return check_section(load, object, "attributeFilter", STR("${attributeValue}"));
}

static enum err check_rpc(struct conf_load *load, void *object, const struct conf_at *at)
{
    (void)at;
    return check_section(load, object, "methodFilter", STR("${params}"));
}

static const struct conf_type update_type = {.name = "rest.attributeUpdates",
                                             .size = sizeof(struct rest_section),
                                             .fields = update_fields,
                                             .check = check_update,
                                             .doc = "What is sent when the platform changes an attribute."};
static const struct conf_type rpc_type = {.name = "rest.serverSideRpc",
                                          .size = sizeof(struct rest_section),
                                          .fields = rpc_fields,
                                          .check = check_rpc,
                                          .doc = "What is sent when the platform calls a device."};

#define REQUEST_LISTS(T, m)                                                                                            \
    F_LIST(T, m.attribute_requests, "attributeRequests", &attribute_request_type,                                      \
           .doc = "Endpoints that answer with attributes."),                                                           \
        F_LIST(T, m.updates, "attributeUpdates", &update_type,                                                         \
               .doc = "What is sent when the platform changes an attribute."),                                         \
        F_LIST(T, m.rpcs, "serverSideRpc", &rpc_type, .doc = "What is sent when the platform calls a device.")

struct requests_holder { /* so that the same fields serve at both places */
    struct rest_requests lists;
};
static const struct field requests_fields[] = {REQUEST_LISTS(struct requests_holder, lists), F_END};
static const struct conf_type requests_type = {.name = "rest.requestsMapping",
                                               .size = sizeof(struct requests_holder),
                                               .fields = requests_fields,
                                               .doc = "Attribute requests, attribute updates and calls."};

/* --- server ---------------------------------------------------------------------------------------------------------- */

static const struct field files_fields[] = {
    F_AT(struct rest_tls_files, at), F_STR(struct rest_tls_files, cert, "cert", .doc = "PEM file of the certificate."),
    F_STR(struct rest_tls_files, key, "key", .doc = "PEM file of its key."), F_END};
static const struct conf_type files_type = {.name = "rest.server.security",
                                            .size = sizeof(struct rest_tls_files),
                                            .fields = files_fields,
                                            .doc = "Certificate of the server, with SSL."};

static const struct field server_fields[] = {
    F_AT(struct rest_server, at),
    F_STR(struct rest_server, host, "host", .need = true, .min = 1,
          .doc = "Address to listen on; 0.0.0.0 or :: for all."),
    F_UINT(struct rest_server, port, "port", .def = 5000, .min = 1, .max = 65535, .doc = "Port to listen on."),
    F_BOOL(struct rest_server, tls, "SSL", .strict = true, .doc = "HTTPS, with TLS 1.2 or 1.3."),
    F_OBJECT(struct rest_server, files, "security", &files_type,
             .doc = "Certificate of the server, with SSL; absent: a self-signed one is made."),
    F_UINT(struct rest_server, max_body, "maxBodyBytes", .def = REST_MAX_BODY, .min = 1, .max = MAX_BODY_LARGEST,
           .unit = "bytes", .doc = "Largest body of a request; a larger one is answered with 413."),
    F_UINT(struct rest_server, max_connections, "maxConnections", .def = REST_MAX_CONNECTIONS, .min = 1, .max = 100000,
           .doc = "Clients at a time; further ones are turned away."),
    F_STRS(struct rest_server, origins, "allowedOrigins",
           .doc = "Origins of web pages that may use the endpoints (CORS), as https://example.org; * for all."),
    F_END};
static const struct conf_type server_type = {.name = "rest.server",
                                             .size = sizeof(struct rest_server),
                                             .fields = server_fields,
                                             .doc = "Where the connector listens."};

static enum err check_server(struct conf_load *load, struct rest_server *server)
{
    const struct rest_tls_files *files = server->files;

    server->host_text = arena_text(conf_arena(load), str_trim(server->host));
    if (!server->tls || !files)
        return ERR_OK;
    if (!files->cert.n || !files->key.n) {
        conf_error(load, &files->at, files->cert.n ? "key" : "cert",
                   "is missing: \"SSL\" needs both files, or neither");
        return ERR_CONFIG;
    }
    server->cert_file = file_of(load, files->cert);
    server->key_file = file_of(load, files->key);
    return ERR_OK;
}

/* --- file ------------------------------------------------------------------------------------------------------------ */

static const struct field file_fields[] = {
    F_OBJECT(struct rest_file, server, "server", &server_type, .doc = "Where the connector listens."),
    F_LIST(struct rest_file, mapping, "mapping", &mapping_type, .need = true, .doc = "Endpoints that take data."),
    F_OBJECT(struct rest_file, requests, "requestsMapping", &requests_type,
             .doc = "Attribute requests, attribute updates and calls."),
    REQUEST_LISTS(struct rest_file, old_requests),
    F_STR(struct rest_file, old_host, "host", .doc = "Former place of server.host."),
    F_UINT(struct rest_file, old_port, "port", .def = 5000, .min = 1, .max = 65535,
           .doc = "Former place of server.port."),
    F_BOOL(struct rest_file, old_tls, "SSL", .strict = true, .doc = "Former place of server.SSL."),
    F_OBJECT(struct rest_file, old_files, "security", &files_type, .doc = "Former place of server.security."),
    F_IGNORED("debugMode", "it is of the peer's HTTP library"),
    F_END};

static struct conf_list without_custom(struct conf_list list)
{
    size_t n = 0;

    for (size_t i = 0; i < list.n; i++) {
        const struct rest_endpoint *endpoint = list.items[i];

        if (!endpoint->converter->is_custom)
            list.items[n++] = list.items[i];
    }
    list.n = n;
    return list;
}

static enum err check_file(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct rest_file *file = object;
    struct rest_requests requests;

    rest_legacy(load, file, &requests);
    if (!file->server) {
        conf_error(load, at, "server", "is missing: it says where to listen");
        return ERR_CONFIG;
    }
    if (check_server(load, file->server) != ERR_OK)
        return ERR_CONFIG;
    file->mapping = without_custom(file->mapping);
    file->updates = requests.updates;
    file->rpcs = requests.rpcs;
    rest_routes_build(load, file, &file->mapping, &requests.attribute_requests);
    return ERR_OK;
}

const struct conf_type rest_conf_type = {
    .name = "rest",
    .size = sizeof(struct rest_file),
    .fields = file_fields,
    .check = check_file,
    .base = &connector_common_type,
    .doc = "A server for devices that send HTTP requests, and a client of servers that devices have."};
