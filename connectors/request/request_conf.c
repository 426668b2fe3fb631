/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of the Request connector's file (request.md 1, 2), and what is compiled of an entry when it is loaded. */
#include "request_conf.h"

#include "conf/expression.h"

#include <stdlib.h>

#define MAX_BODY (16 * 1024 * 1024)

/* --- security -------------------------------------------------------------------------------------------------------- */

static const struct field security_fields[] = {
    F_AT(struct request_security, at), F_STR(struct request_security, type, "type", .doc = "anonymous, or basic."),
    F_SECRET(struct request_security, username, "username",
             .doc = "Name. REQUEST_BASIC_USERNAME and REQUEST_BASIC_PASSWORD in the environment go before."),
    F_SECRET(struct request_security, password, "password", .doc = "Password."), F_END};

static enum err check_security(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct request_security *security = object;

    if (!security->type.n || str_eq_nocase(security->type, STR("anonymous")) ||
        str_eq_nocase(security->type, STR("basic")))
        return ERR_OK;
    conf_error(load, at, "type", "\"" STR_FMT "\" is not a kind of security; allowed: anonymous, basic",
               STR_ARG(security->type));
    return ERR_CONFIG;
}

static const struct conf_type security_type = {.name = "request.security",
                                               .size = sizeof(struct request_security),
                                               .fields = security_fields,
                                               .check = check_security,
                                               .doc = "How the connector makes itself known to the server."};

static void find_credentials(struct conf_load *load, struct request_file *file)
{
    const char *username = getenv("REQUEST_BASIC_USERNAME"), *password = getenv("REQUEST_BASIC_PASSWORD");
    const struct request_security *security = file->security;

    if (!security || !str_eq_nocase(security->type, STR("basic")))
        return;
    if (username && *username && password && *password) {
        file->username = arena_str(conf_arena(load), str_from(username));
        file->password = arena_str(conf_arena(load), str_from(password));
    } else if (security->username.value.n && security->password.value.n) {
        file->username = security->username.value;
        file->password = security->password.value;
    } else {
        conf_warning(load, &security->at, security->username.value.n ? "password" : "username",
                     "is missing: requests go without credentials");
    }
}

/* Where the peer's library looks for trusted certificates. */
static void find_ca(struct conf_load *load, struct request_file *file)
{
    static const char *const names[] = {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"};

    for (size_t i = 0; i < COUNT_OF(names) && !file->ca_file; i++) {
        const char *path = getenv(names[i]);

        if (path && *path)
            file->ca_file = arena_str(conf_arena(load), str_of(path, strlen(path) + 1)).p;
    }
}

/* --- texts ----------------------------------------------------------------------------------------------------------- */

static enum err compile_headers(struct conf_load *load, const struct conf_at *at, const struct yyjson_val *headers,
                                struct web_field **out, size_t *n)
{
    struct why why = {0};

    if (web_headers(headers, conf_arena(load), out, n, &why) == ERR_OK)
        return ERR_OK;
    conf_error(load, at, "httpHeaders", "%s", why_text(&why));
    return ERR_CONFIG;
}

static enum err check_method(struct conf_load *load, const struct conf_at *at, struct str method)
{
    struct why why = {0};

    if (web_method_check(method, &why) == ERR_OK)
        return ERR_OK;
    conf_error(load, at, "httpMethod", "%s", why_text(&why));
    return ERR_CONFIG;
}

static enum err check_scheme(struct conf_load *load, const struct conf_at *at, const char *key, struct str url)
{
    struct why why = {0};

    if (web_scheme_check(url, &why) == ERR_OK)
        return ERR_OK;
    conf_error(load, at, key, "%s", why_text(&why));
    return ERR_CONFIG;
}

static uint64_t ms_of(double s)
{
    return (uint64_t)(s * 1000 + 0.5);
}

#define F_METHOD(T, m) F_STR(T, m, "httpMethod", .def_str = "GET", .min = 1, .doc = "Any method.")
#define F_HEADERS(T, m) F_JSON(T, m, "httpHeaders", .doc = "Object of headers, or a text that holds one.")
#define F_SECONDS(T, m, k, preset, text)                                                                               \
    F_DOUBLE(T, m, k, .def_double = preset, .min_double = 0.001, .max_double = REQUEST_TIMEOUT_MAX_S, .unit = "s",     \
             .doc = text)
#define F_REDIRECTS(T, m)                                                                                              \
    F_BOOL(T, m, "allowRedirects", .doc = "Redirects are followed, 10 at most; else they count as errors.")

/* --- mapping --------------------------------------------------------------------------------------------------------- */

static const struct field sub_fields[] = {
    F_AT(struct sub_request, at),
    F_STR(struct sub_request, url, "url", .need = true, .min = 1,
          .doc = "Appended to the URL of the poll unless it is absolute; ${tags} come from the item."),
    F_STR(struct sub_request, function, "processingFunction",
          .doc = "Python source of process_data(data, key): needs the extension host, see value."),
    F_STR(struct sub_request, value, "value", .doc = "What of the answer is merged into the item under the name."),
    F_STR(struct sub_request, type, "type", .doc = "With value: as a datapoint's type."),
    F_END};

static enum err check_sub(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct sub_request *sub = object;
    struct why why = {0};

    sub->has_value = sub->value.n > 0;
    if (conf_template(load, at, "url", sub->url, &sub->url_template) != ERR_OK)
        return ERR_CONFIG;
    if (sub->has_value && datapoint_compile(&sub->point, conf_arena(load), sub->value, sub->type, CONVERT_LOSSLESS,
                                            false, &why) != ERR_OK) {
        conf_error(load, at, "value", "\"" STR_FMT "\" is not an expression: %s", STR_ARG(sub->value), why_text(&why));
        return ERR_CONFIG;
    }
    return ERR_OK;
}

static const struct conf_type sub_type = {.name = "request.mapping.subRequest",
                                          .size = sizeof(struct sub_request),
                                          .fields = sub_fields,
                                          .check = check_sub,
                                          .doc = "A request for each item, whose answer is merged into the item."};

static const struct field converter_fields[] = {
    F_WEB_CONVERTER,
    F_STR(struct web_converter, name_old, "deviceNameJsonExpression",
          .doc = "Name of the device; ${tags} are allowed."),
    F_STR(struct web_converter, profile_old, "deviceTypeJsonExpression", .doc = "Its profile; absent: default."),
    F_END};

static enum err check_converter(struct conf_load *load, void *object, const struct conf_at *at)
{
    return web_converter_check(load, object, at);
}

static const struct conf_type converter_type = {.name = "request.mapping.converter",
                                                .size = sizeof(struct web_converter),
                                                .fields = converter_fields,
                                                .check = check_converter,
                                                .doc = "How an answer becomes values of devices."};

static const struct field mapping_fields[] = {
    F_AT(struct request_mapping, at),
    F_STR(struct request_mapping, url, "url", .need = true, .doc = "Joined to host, unless it is absolute."),
    F_METHOD(struct request_mapping, method),
    F_HEADERS(struct request_mapping, headers),
    F_JSON(struct request_mapping, data, "data", .doc = "Body: a text as it is, an object as a form."),
    F_JSON(struct request_mapping, content, "content", .doc = "No effect: did you mean data?"),
    F_DOUBLE(struct request_mapping, scan_s, "scanPeriod", .def_double = 10, .min_double = 0.1,
             .max_double = 31 * 86400.0, .unit = "s", .doc = "From the start of a poll to the start of the next."),
    F_SECONDS(struct request_mapping, timeout_s, "timeout", 1, "For connecting and for the whole answer."),
    F_REDIRECTS(struct request_mapping, allow_redirects),
    F_STR(struct request_mapping, unpack, "dataUnpackExpression",
          .doc = "A tag or path: its value takes the place of the answer."),
    F_MAP(struct request_mapping, subs, "subRequests", &sub_type,
          .doc = "Further requests, by the key of the datapoint that needs them."),
    F_BOOL(struct request_mapping, with_credentials, "sendCredentials",
           .doc = "Credentials go to other hosts than that of host, too."),
    F_OBJECT(struct request_mapping, converter, "converter", &converter_type, .need = true,
             .doc = "How an answer becomes values of devices."),
    F_REPORT_STRATEGY(struct request_mapping, report),
    F_END};

static void add_uses(struct request_mapping *mapping, const struct conf_list *points)
{
    for (size_t i = 0; i < points->n; i++) {
        const struct web_point *point = points->items[i];
        bool is_there = false;

        for (size_t k = 0; k < mapping->n_uses; k++)
            is_there |= str_eq(mapping->uses[k].name, point->key);
        for (size_t k = 0; k < mapping->subs.n && !is_there; k++) {
            if (str_eq(mapping->subs.items[k].key, point->key)) {
                mapping->uses[mapping->n_uses++] = (struct sub_use){point->key, mapping->subs.items[k].value};
                break;
            }
        }
    }
}

static enum err check_subs(struct conf_load *load, struct request_mapping *mapping, const struct conf_at *at)
{
    enum err err = ERR_OK;

    for (size_t i = 0; i < mapping->subs.n; i++) {
        const struct sub_request *sub = mapping->subs.items[i].value;

        if (!sub || !sub->function.n)
            continue;
        conf_error(load, &sub->at, "processingFunction",
                   "needs the extension host, which is not there: this entry of \"mapping\" is left out. "
                   "\"value\": \"${path}\" takes one value of the answer without it");
        err = ERR_CONFIG;
    }
    if (err)
        return err;
    mapping->uses = arena_zero(conf_arena(load), (mapping->subs.n + 1) * sizeof *mapping->uses);
    add_uses(mapping, &mapping->converter->attributes);
    add_uses(mapping, &mapping->converter->timeseries);
    add_uses(mapping, &mapping->converter->telemetry);
    for (size_t i = 0; i < mapping->subs.n; i++) {
        bool is_used = false;

        for (size_t k = 0; k < mapping->n_uses; k++)
            is_used |= str_eq(mapping->uses[k].name, mapping->subs.items[i].key);
        if (!is_used)
            conf_warning(load, at, "subRequests", "\"" STR_FMT "\" is the key of no datapoint: it is not requested",
                         STR_ARG(mapping->subs.items[i].key));
    }
    return ERR_OK;
}

/* An object goes as a form, whose content type is set unless there is one. */
static enum err compile_data(struct conf_load *load, struct request_mapping *mapping, struct web_field *fields)
{
    struct web_request *request = &mapping->request;
    yyjson_val *data = (yyjson_val *)(uintptr_t)mapping->data;

    if (!data || yyjson_is_null(data))
        return ERR_OK;
    if (yyjson_is_str(data)) {
        request->body = json_str(data);
        return ERR_OK;
    }
    if (!yyjson_is_obj(data)) {
        conf_error(load, &mapping->at, "data", "is neither an object nor a text");
        return ERR_CONFIG;
    }
    request->body = web_form(conf_arena(load), data);
    if (request->body.n && !web_header(fields, request->n_headers, "content-type").p) {
        if (!fields)
            request->headers = fields = arena_zero(conf_arena(load), 2 * sizeof *fields);
        fields[request->n_headers++] =
            (struct web_field){STR("Content-Type"), STR("application/x-www-form-urlencoded")};
    }
    return ERR_OK;
}

static enum err compile_unpack(struct conf_load *load, struct request_mapping *mapping)
{
    struct str text = str_trim(mapping->unpack);

    if (!text.n)
        return ERR_OK;
    if (str_find(text, STR("${"), 0) == SIZE_MAX)
        text = arena_printf(conf_arena(load), "${" STR_FMT "}", STR_ARG(text));
    if (conf_template(load, &mapping->at, "dataUnpackExpression", text, &mapping->unpack_template) != ERR_OK)
        return ERR_CONFIG;
    if (template_kind(mapping->unpack_template) == TEMPLATE_PURE)
        return ERR_OK;
    conf_error(load, &mapping->at, "dataUnpackExpression", "\"" STR_FMT "\" is not one tag or path", STR_ARG(text));
    return ERR_CONFIG;
}

static enum err check_mapping(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct request_mapping *mapping = object;
    struct web_field *fields;

    if (mapping->converter->is_custom)
        conf_warning(
            load, at, NULL,
            "names a class of an extension, Python code that this version does not run: this entry is left out, the "
            "others "
            "work. Where \"type\": \"json\" with expressions does the same, use that; try it with `iotgw convert`");
    if (mapping->converter->is_custom)
        return ERR_OK;
    if (mapping->content)
        conf_warning(load, at, "content", "has no effect; did you mean \"data\"?");
    mapping->request.method = mapping->method;
    if (check_method(load, at, mapping->method) != ERR_OK || check_scheme(load, at, "url", mapping->url) != ERR_OK)
        return ERR_CONFIG;
    if (compile_headers(load, at, mapping->headers, &fields, &mapping->request.n_headers) != ERR_OK)
        return ERR_CONFIG;
    mapping->request.headers = fields;
    mapping->period_ms = ms_of(mapping->scan_s);
    mapping->timeout_ms = ms_of(mapping->timeout_s);
    if (compile_data(load, mapping, fields) != ERR_OK || compile_unpack(load, mapping) != ERR_OK)
        return ERR_CONFIG;
    return check_subs(load, mapping, at);
}

static const struct conf_type mapping_type = {.name = "request.mapping",
                                              .size = sizeof(struct request_mapping),
                                              .fields = mapping_fields,
                                              .check = check_mapping,
                                              .doc = "One URL that is asked again and again."};

/* --- downward -------------------------------------------------------------------------------------------------------- */

#define SECTION_FIELDS                                                                                                 \
    F_AT(struct request_section, at),                                                                                  \
        F_STR(struct request_section, device_filter, "deviceNameFilter", .need = true,                                 \
              .doc = "Regular expression of the whole device name."),                                                  \
        F_STR(struct request_section, url, "requestUrlExpression", .need = true, .min = 1,                             \
              .doc = "URL, joined to host unless it is absolute; ${tags} are allowed."),                               \
        F_STR(struct request_section, value, "requestValueExpression", .doc = "Body; ${tags} are allowed."),           \
        F_STR(struct request_section, value_other, "valueExpression", .doc = "Other name of requestValueExpression."), \
        F_METHOD(struct request_section, method), F_HEADERS(struct request_section, headers),                          \
        F_SECONDS(struct request_section, timeout_s, "timeout", 1, "For connecting and for the whole answer."),        \
        F_REDIRECTS(struct request_section, allow_redirects),                                                          \
        F_UINT(struct request_section, tries, "tries", .def = 1, .min = 1, .max = 100,                                 \
               .doc = "Attempts: after a failed connection or 5xx, where the method may be repeated."),                \
        F_BOOL(struct request_section, with_credentials, "sendCredentials",                                            \
               .doc = "Credentials go to other hosts than that of host, too."),                                        \
        F_STR(struct request_section, extension, "converter",                                                          \
              .doc = "Class of an extension, which makes the request.")

static const struct field update_fields[] = {SECTION_FIELDS,
                                             F_STR(struct request_section, name_filter, "attributeFilter", .need = true,
                                                   .doc = "Regular expression of the whole attribute name."),
                                             F_END};
static const struct field rpc_fields[] = {
    SECTION_FIELDS,
    F_STR(struct request_section, name_filter, "methodFilter", .need = true,
          .doc = "Regular expression of the whole method name."),
    F_STR(struct request_section, response, "responseValueExpression", .doc = "What of the answer is the result."),
    F_SECONDS(struct request_section, response_timeout_s, "responseTimeout", 5, "How long the call may take in all."),
    F_END};

static enum err check_section(struct conf_load *load, struct request_section *section, const char *filter_key,
                              struct str preset)
{
    const struct conf_at *at = &section->at;
    struct str value = section->value.p ? section->value : section->value_other.p ? section->value_other : preset;

    if (section->extension.n) {
        conf_error(load, at, "converter",
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
        check_method(load, at, section->method) != ERR_OK ||
        check_scheme(load, at, "requestUrlExpression", section->url) != ERR_OK ||
        conf_template(load, at, "requestUrlExpression", section->url, &section->url_template) != ERR_OK ||
        conf_template(load, at, "requestValueExpression", value, &section->value_template) != ERR_OK ||
        compile_headers(load, at, section->headers, &section->fields, &section->n_fields) != ERR_OK)
        return ERR_CONFIG;
    return section->response.n
               ? conf_template(load, at, "responseValueExpression", section->response, &section->response_template)
               : ERR_OK;
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

static const struct conf_type update_type = {.name = "request.attributeUpdates",
                                             .size = sizeof(struct request_section),
                                             .fields = update_fields,
                                             .check = check_update,
                                             .doc = "What is sent when the platform changes an attribute."};
static const struct conf_type rpc_type = {.name = "request.serverSideRpc",
                                          .size = sizeof(struct request_section),
                                          .fields = rpc_fields,
                                          .check = check_rpc,
                                          .doc = "What is sent when the platform calls a device."};

/* --- file ------------------------------------------------------------------------------------------------------------ */

static const struct field file_fields[] = {
    F_STR(struct request_file, host, "host", .need = true, .min = 1,
          .doc = "Address of the server; http:// is assumed where no scheme is given."),
    F_BOOL(struct request_file, verify, "SSLVerify",
           .doc = "https: the server's certificate and its name are checked."),
    F_OBJECT(struct request_file, security, "security", &security_type, .doc = "Absent: anonymous."),
    F_LIST(struct request_file, mappings, "mapping", &mapping_type, .need = true, .doc = "What is polled."),
    F_LIST(struct request_file, updates, "attributeUpdates", &update_type,
           .doc = "What is sent when the platform changes an attribute."),
    F_LIST(struct request_file, rpcs, "serverSideRpc", &rpc_type,
           .doc = "What is sent when the platform calls a device."),
    F_BOOL(struct request_file, with_credentials, "sendCredentials", .doc = "As in each entry of mapping."),
    F_UINT(struct request_file, max_body, "maxBodyBytes", .def = MAX_BODY, .min = 1, .max = 1 << 30, .unit = "bytes",
           .doc = "Largest answer; a larger one is an error."),
    F_END};

static void finish_mapping(const struct request_file *file, struct request_mapping *mapping, struct arena *arena)
{
    struct web_request *request = &mapping->request;
    autobuf struct buf url = {0};

    request->url = web_join(arena, file->base, mapping->url);
    for (size_t i = 0; i < request->url.n; i++) {
        if (request->url.p[i] == ' ')
            buf_add_z(&url, "%20");
        else
            buf_add_u8(&url, (uint8_t)request->url.p[i]);
    }
    request->url = arena_str(arena, buf_str(&url));
    mapping->with_credentials |= file->with_credentials;
    request->with_credentials = mapping->with_credentials || web_is_same_host(file->base, request->url);
}

static enum err check_file(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct request_file *file = object;
    struct arena *arena = conf_arena(load);
    bool is_secure;
    size_t n = 0;

    if (check_scheme(load, at, "host", file->host) != ERR_OK)
        return ERR_CONFIG;
    file->base = str_trim(file->host);
    if (!web_is_absolute(file->base))
        file->base = arena_printf(arena, "http://" STR_FMT, STR_ARG(file->base));
    while (file->base.n && file->base.p[file->base.n - 1] == '/')
        file->base.n--;
    is_secure = str_eq_nocase(str_cut(file->base, 8), STR("https://"));
    find_credentials(load, file);
    find_ca(load, file);
    for (size_t i = 0; i < file->mappings.n; i++) {
        struct request_mapping *mapping = file->mappings.items[i];

        if (mapping->converter->is_custom)
            continue;
        finish_mapping(file, mapping, arena);
        is_secure |= str_eq_nocase(str_cut(mapping->request.url, 8), STR("https://"));
        file->mappings.items[n++] = mapping;
    }
    file->mappings.n = n;
    if (is_secure && !file->verify)
        conf_warning(load, at, "SSLVerify", "is false: anybody may pretend to be the server");
    return ERR_OK;
}

const struct conf_type request_conf_type = {
    .name = "request",
    .size = sizeof(struct request_file),
    .fields = file_fields,
    .check = check_file,
    .base = &connector_common_type,
    .doc = "A client of HTTP servers: answers to polls become values, requests of the platform become HTTP requests."};
