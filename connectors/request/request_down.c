/* SPDX-License-Identifier: Apache-2.0 */
#include "request_down.h"

#include <stdlib.h>

enum { RESERVED_TIMEOUT_MS = 500, RESERVED_RESPONSE_MS = 1000, TIMEOUT_MS = 1000, RESPONSE_MS = 5000 };

/* The peer's words, kept: programs look for them. */
#define NO_URL                                                                                                         \
    "Please check your RPC params. requestUrlExpression parameter is required for reserved RPCs. Please check your "   \
    "RPC params."

/* --- words to the platform --------------------------------------------------------------------------------------------- */

static struct str wrapped(const char *before, struct str json, const char *after, struct arena *arena)
{
    autobuf struct buf text = {0};

    buf_add_z(&text, before);
    buf_add_str(&text, json);
    buf_add_z(&text, after);
    return arena_str(arena, buf_str(&text));
}

struct str down_error(struct str text, struct arena *arena)
{
    return wrapped("{\"result\":{\"error\":", json_quote(arena, text), "}}", arena);
}

static struct str not_served(struct str text, struct arena *arena)
{
    return wrapped("{\"error\":", json_quote(arena, text), ",\"success\":false}", arena);
}

static struct str array_error(struct str text, unsigned status, struct arena *arena)
{
    struct str error = wrapped("[{\"success\":false,\"error\":", json_quote(arena, text), "", arena);

    return status ? arena_printf(arena, "%.*s,\"status\":%u}]", (int)error.n, error.p, status)
                  : wrapped("", error, ",\"status\":null}]", arena);
}

/* --- sections that come with the call ---------------------------------------------------------------------------------- */

struct given {
    struct str url, method, value, response, timeout, response_timeout, tries, redirects; /* p NULL: not given */
    const yyjson_val *headers;
    struct arena *arena;
    yyjson_doc *headers_doc; /* of text */
    bool is_get;             /* "value" is what set sets */
};

static struct str *given_field(struct given *given, struct str key)
{
    const struct {
        const char *key;
        struct str *field;
    } fields[] = {{"requestUrlExpression", &given->url},
                  {"httpMethod", &given->method},
                  {"HTTPMethod", &given->method},
                  {"value", &given->value},
                  {"requestValueExpression", &given->value},
                  {"valueExpression", &given->value},
                  {"responseValueExpression", &given->response},
                  {"timeout", &given->timeout},
                  {"responseTimeout", &given->response_timeout},
                  {"tries", &given->tries},
                  {"allowRedirects", &given->redirects}};

    for (size_t i = 0; i < COUNT_OF(fields); i++)
        if (str_eq_z(key, fields[i].key))
            return given->is_get && str_eq_z(key, "value") ? NULL : fields[i].field;
    return NULL; /* as in a file: a key that is not known changes nothing */
}

static void take_pair(void *arg, struct str key, struct str value)
{
    struct given *given = arg;
    struct str *field = given_field(given, key);

    if (field) {
        *field = arena_str(given->arena, value); /* outlives the call */
    } else if (str_eq_z(key, "httpHeaders")) {
        yyjson_doc_free(given->headers_doc);
        given->headers_doc = json_read(value, NULL);
        given->headers = given->headers_doc ? yyjson_doc_get_root(given->headers_doc) : NULL;
    }
}

static void take_members(struct given *given, yyjson_val *object)
{
    yyjson_obj_iter iter = yyjson_obj_iter_with(object);
    yyjson_val *key;

    while ((key = yyjson_obj_iter_next(&iter))) {
        yyjson_val *val = yyjson_obj_iter_get_val(key);
        struct str *field = given_field(given, json_str(key));

        if (str_eq_z(json_str(key), "httpHeaders"))
            given->headers = val;
        else if (field && !yyjson_is_null(val))
            *field = yyjson_is_str(val) ? arena_str(given->arena, json_str(val)) : json_text(given->arena, val);
    }
}

static enum err read_seconds(struct str text, const char *key, uint64_t preset, uint64_t *out, struct why *why)
{
    double s;

    *out = preset;
    if (!str_trim(text).n)
        return ERR_OK;
    if (str_to_double(str_trim(text), &s) != ERR_OK || !(s > 0))
        return why_set(why, ERR_TYPE, "%s \"" STR_FMT "\" is not a number of seconds", key, STR_ARG(text));
    *out = s < REQUEST_TIMEOUT_MAX_S ? (uint64_t)(s * 1000 + 0.5) : (uint64_t)REQUEST_TIMEOUT_MAX_S * 1000;
    if (!*out)
        *out = 1;
    return ERR_OK;
}

static enum err compile_given(struct given *given, bool is_reserved, struct request_section *out, struct why *why)
{
    static const struct web_field json_type = {STR("Content-Type"), STR("application/json")};
    struct arena *arena = given->arena;
    struct str tries = str_trim(given->tries), redirects = str_trim(given->redirects);
    uint64_t n_tries = 1;

    out->method = str_trim(given->method).n ? str_trim(given->method) : STR("GET");
    if (read_seconds(given->timeout, "timeout", is_reserved ? RESERVED_TIMEOUT_MS : TIMEOUT_MS, &out->timeout_ms, why))
        return ERR_USAGE;
    if (read_seconds(given->response_timeout, "responseTimeout", is_reserved ? RESERVED_RESPONSE_MS : RESPONSE_MS,
                     &out->response_timeout_ms, why))
        return ERR_USAGE;
    if (tries.n && (str_to_u64(tries, &n_tries) != ERR_OK || !n_tries || n_tries > 100))
        return why_set(why, ERR_RANGE, "tries \"" STR_FMT "\" is not a number from 1 to 100", STR_ARG(tries));
    out->tries = (uint32_t)n_tries;
    out->allow_redirects = str_eq_nocase(redirects, STR("true")) || str_eq_z(redirects, "1");
    if (web_headers(given->headers, arena, &out->fields, &out->n_fields, why) != ERR_OK)
        return ERR_USAGE;
    if (!given->headers && is_reserved) {
        out->fields = arena_alloc(arena, sizeof json_type);
        *out->fields = json_type;
        out->n_fields = 1;
    }
    if (template_compile(&out->url_template, arena, str_trim(given->url), why) != ERR_OK ||
        (given->value.p && template_compile(&out->value_template, arena, given->value, why) != ERR_OK) ||
        (given->response.n && template_compile(&out->response_template, arena, given->response, why) != ERR_OK))
        return ERR_USAGE;
    return ERR_OK;
}

/* The parameters of a reserved call or of one to the connector; *answer is set if it cannot be. */
static enum err given_section(yyjson_val *params, bool is_reserved, bool is_get, struct request_section *out,
                              struct arena *arena, struct str *answer)
{
    struct given given = {.arena = arena, .is_get = is_get};
    struct why why = {0};
    enum err err = ERR_OK;

    if (yyjson_is_str(params))
        err = web_pairs(json_str(params), take_pair, &given, &why);
    else if (yyjson_is_obj(params) && !is_reserved)
        take_members(&given, params);
    else if (is_reserved)
        err = why_set(&why, ERR_USAGE, "the parameters of get and set are text: key=value;key=value;");
    else
        err = why_set(&why, ERR_USAGE, "the parameters of a call to the connector are an object with the section");
    if (!err && !str_trim(given.url).n) {
        err = ERR_USAGE;
        *answer = is_reserved ? down_error(STR(NO_URL), arena)
                              : array_error(STR("requestUrlExpression is missing in the parameters"), 0, arena);
    } else if (!err) {
        err = compile_given(&given, is_reserved, out, &why);
    }
    if (err && !answer->p)
        *answer =
            is_reserved ? not_served(str_from(why_text(&why)), arena) : array_error(str_from(why_text(&why)), 0, arena);
    yyjson_doc_free(given.headers_doc);
    return err;
}

/* --- requests ---------------------------------------------------------------------------------------------------------- */

static enum err fill(const struct request_file *file, const struct request_section *section,
                     struct template_names *names, struct arena *arena, struct down_call *out, struct why *why)
{
    struct str url;

    if (!template_downlink(section->url_template, TARGET_URL, names, arena, &url, why)) {
        why_prefix(why, "URL");
        return ERR_NOTFOUND;
    }
    names->body_is_json = web_is_json_type(web_header(section->fields, section->n_fields, "content-type"));
    *out = (struct down_call){.request = {.method = section->method,
                                          .headers = section->fields,
                                          .n_headers = section->n_fields,
                                          .url = web_join(arena, file->base, url)},
                              .timeout_ms = section->timeout_ms,
                              .response_timeout_ms = section->response_timeout_ms,
                              .tries = section->tries,
                              .allow_redirects = section->allow_redirects,
                              .response = section->response_template};
    out->request.with_credentials = section->with_credentials || web_is_same_host(file->base, out->request.url);
    if (section->value_template &&
        !template_downlink(section->value_template, TARGET_BODY, names, arena, &out->request.body, why)) {
        why_prefix(why, "value");
        return ERR_NOTFOUND;
    }
    return ERR_OK;
}

static const struct request_section *find_section(const struct request_file *file, struct str device, struct str method)
{
    for (size_t i = 0; i < file->rpcs.n; i++) {
        const struct request_section *section = file->rpcs.items[i];

        if (web_matches(section->device_regex, device) && web_matches(section->name_regex, method))
            return section;
    }
    return NULL;
}

static bool is_connector_method(struct str method)
{
    const struct str prefix = STR("request_");
    struct str rest = str_skip(method, prefix.n);

    return str_starts(method, prefix) && rest.n && str_chr(rest, '_') == rest.n;
}

static enum err choose(const struct request_file *file, const struct down_rpc *rpc, yyjson_val *params,
                       const struct request_section **section, struct request_section *made, struct arena *arena,
                       struct str *answer)
{
    bool is_get = str_eq_nocase(rpc->method, STR("get"));
    bool is_reserved = is_get || str_eq_nocase(rpc->method, STR("set"));

    *section = made;
    if (!rpc->device.p && is_connector_method(rpc->method))
        return given_section(params, false, false, made, arena, answer);
    if (rpc->device.p && is_reserved)
        return given_section(params, true, is_get, made, arena, answer);
    *section = rpc->device.p ? find_section(file, rpc->device, rpc->method) : NULL;
    if (*section)
        return ERR_OK;
    *answer = not_served(
        rpc->device.p ? arena_printf(arena, "Method " STR_FMT " is not configured for device " STR_FMT,
                                     STR_ARG(rpc->method), STR_ARG(rpc->device))
                      : arena_printf(arena, "Method " STR_FMT " is not one of the connector", STR_ARG(rpc->method)),
        arena);
    return ERR_NOTFOUND;
}

enum err down_rpc(const struct request_file *file, const struct down_rpc *rpc, struct arena *arena,
                  struct down_call *out, struct str *answer)
{
    const struct request_section *section;
    struct request_section made = {.tries = 1};
    struct why why = {0};
    yyjson_doc *doc = web_rpc_object(rpc->id, rpc->method, rpc->params, &why);
    yyjson_val *root = yyjson_doc_get_root(doc);
    struct template_names names = {
        .device_name = rpc->device, .method = rpc->method, .request_id = rpc->id, .request = root};
    enum err err;

    *answer = STR_NONE;
    if (!doc) {
        *answer = not_served(str_from(why_text(&why)), arena);
        return ERR_SYNTAX;
    }
    err = choose(file, rpc, json_get(root, STR("params")), &section, &made, arena, answer);
    if (!err)
        err = fill(file, section, &names, arena, out, &why);
    if (!err)
        out->is_connector_rpc = !rpc->device.p;
    if (err && !answer->p)
        *answer = rpc->device.p ? down_error(str_from(why_text(&why)), arena)
                                : array_error(str_from(why_text(&why)), 0, arena);
    yyjson_doc_free(doc);
    return err;
}

void down_attributes(const struct request_file *file, struct str device, yyjson_val *values, struct arena *arena,
                     void (*call)(void *arg, const struct down_call *call),
                     void (*failed)(void *arg, struct str key, const struct why *why), void *arg)
{
    for (size_t i = 0; i < file->updates.n; i++) {
        const struct request_section *section = file->updates.items[i];
        yyjson_obj_iter iter = yyjson_obj_iter_with(values);
        yyjson_val *key;

        if (!web_matches(section->device_regex, device))
            continue;
        while ((key = yyjson_obj_iter_next(&iter))) {
            struct template_names names = {
                .device_name = device, .attribute_key = json_str(key), .attribute_value = yyjson_obj_iter_get_val(key)};
            struct down_call made;
            struct why why = {0};

            if (!web_matches(section->name_regex, names.attribute_key))
                continue;
            if (fill(file, section, &names, arena, &made, &why) == ERR_OK)
                call(arg, &made);
            else
                failed(arg, names.attribute_key, &why);
        }
    }
}

bool down_may_repeat(struct str method)
{
    static const char *const methods[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"};

    for (size_t i = 0; i < COUNT_OF(methods); i++)
        if (str_eq_z(method, methods[i]))
            return true;
    return false;
}

/* --- answers ----------------------------------------------------------------------------------------------------------- */

/* The value that responseValueExpression takes of the answer; p NULL: nothing resolved. */
static struct str taken(const struct template *template, struct str value, struct arena *arena)
{
    yyjson_doc *doc = json_read(value, NULL);
    yyjson_val *root = yyjson_doc_get_root(doc), *found;
    struct str text = STR_NONE, json = STR_NONE;

    if (template_kind(template) == TEMPLATE_PURE) {
        found = root ? template_resolve(template, 0, root, arena, &text) : NULL;
        if (found)
            json = json_text(arena, found);
        else if (text.p)
            json = json_quote(arena, text);
    } else if (root && template_text(template, root, TEMPLATE_NULL, arena, &text)) {
        json = json_quote(arena, text);
    }
    yyjson_doc_free(doc);
    return json;
}

struct str down_result(const struct down_call *call, unsigned status, struct str reason, struct str body,
                       struct arena *arena)
{
    struct str value = web_value(body, arena);
    bool is_refused = status >= 400 || (status >= 300 && !call->allow_redirects);

    if (is_refused) {
        struct str text = arena_printf(arena, "HTTP %u%s" STR_FMT, status, reason.n ? " " : "", STR_ARG(reason));

        return call->is_connector_rpc ? array_error(text, status, arena) : down_error(text, arena);
    }
    if (call->response) {
        value = taken(call->response, value, arena);
        if (!value.p) {
            struct str text = arena_printf(arena, "No values found for responseValueExpression %.*s",
                                           (int)template_source(call->response).n, template_source(call->response).p);

            return call->is_connector_rpc ? array_error(text, status, arena) : down_error(text, arena);
        }
    }
    if (!call->is_connector_rpc)
        return wrapped("{\"result\":{\"value\":", value, "}}", arena);
    value = wrapped("[{\"success\":true,\"result\":", value, ",\"status\":", arena);
    return arena_printf(arena, "%.*s%u}]", (int)value.n, value.p, status);
}

struct str down_failure(const struct down_call *call, enum err err, struct str text, struct arena *arena)
{
    if (call->is_connector_rpc)
        return array_error(text, 0, arena);
    return down_error(err == ERR_TIMEOUT ? STR("Rpc timeout") : STR("No response received from RPC execution"), arena);
}
