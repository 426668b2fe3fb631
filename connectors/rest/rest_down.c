/* SPDX-License-Identifier: Apache-2.0 */
#include "rest_down.h"

#include "base/digest.h"

enum { TIMEOUT_MS = 10000 };

/* --- words to the platform --------------------------------------------------------------------------------------------- */

static struct str wrapped(const char *before, struct str json, const char *after, struct arena *arena)
{
    autobuf struct buf text = {0};

    buf_add_z(&text, before);
    buf_add_str(&text, json);
    buf_add_z(&text, after);
    return arena_str(arena, buf_str(&text));
}

struct str rest_not_served(struct str text, struct arena *arena)
{
    return wrapped("{\"error\":", json_quote(arena, text), ",\"success\":false}", arena);
}

struct str rest_failure(enum err err, struct str text, struct arena *arena)
{
    if (err == ERR_TIMEOUT)
        return STR("{\"result\":{\"error\":\"Timeout\",\"code\":408}}");
    return wrapped("{\"result\":{\"error\":", json_quote(arena, text), "}}", arena);
}

struct str rest_result_text(unsigned status, struct str reason, struct str body, struct arena *arena)
{
    if (status >= 400) {
        struct str error = wrapped("{\"result\":{\"error\":", json_quote(arena, reason), ",\"code\":", arena);

        return arena_printf(arena, "%.*s%u}}", (int)error.n, error.p, status);
    }
    return wrapped("{\"result\":", web_value(body, arena), "}", arena);
}

/* --- sections that come with the call ---------------------------------------------------------------------------------- */

struct given {
    struct str url, method, value, timeout, response_timeout, tries, redirects, verify; /* p NULL: not given */
    yyjson_doc *headers;
    struct arena *arena;
};

static void take_pair(void *arg, struct str key, struct str value)
{
    struct given *given = arg;
    const struct {
        const char *key;
        struct str *field;
    } fields[] = {{"requestUrlExpression", &given->url},
                  {"HTTPMethod", &given->method},
                  {"httpMethod", &given->method},
                  {"value", &given->value},
                  {"valueExpression", &given->value},
                  {"timeout", &given->timeout},
                  {"responseTimeout", &given->response_timeout},
                  {"tries", &given->tries},
                  {"allowRedirects", &given->redirects},
                  {"SSLVerify", &given->verify}};

    for (size_t i = 0; i < COUNT_OF(fields); i++)
        if (str_eq_z(key, fields[i].key))
            *fields[i].field = arena_str(given->arena, value); /* outlives the call */
    if (str_eq_z(key, "httpHeaders")) {
        yyjson_doc_free(given->headers);
        given->headers = json_read(value, NULL);
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
    *out = s < REST_TIMEOUT_MAX_S ? (uint64_t)(s * 1000 + 0.5) : (uint64_t)REST_TIMEOUT_MAX_S * 1000;
    if (!*out)
        *out = 1;
    return ERR_OK;
}

static bool is_true(struct str text)
{
    return str_eq_nocase(str_trim(text), STR("true")) || str_eq(str_trim(text), STR("1"));
}

static enum err compile_given(struct given *given, struct rest_section *out, struct why *why)
{
    struct str tries = str_trim(given->tries), type;
    struct arena *arena = given->arena;
    uint64_t n_tries = 1;

    out->method = str_trim(given->method).n ? str_trim(given->method) : STR("GET");
    if (read_seconds(given->timeout, "timeout", TIMEOUT_MS, &out->timeout_ms, why) ||
        read_seconds(given->response_timeout, "responseTimeout", 0, &out->response_timeout_ms, why))
        return ERR_USAGE;
    if (tries.n && (str_to_u64(tries, &n_tries) != ERR_OK || !n_tries || n_tries > 100))
        return why_set(why, ERR_RANGE, "tries \"" STR_FMT "\" is not a number from 1 to 100", STR_ARG(tries));
    out->tries = (uint32_t)n_tries;
    out->allow_redirects = is_true(given->redirects);
    out->verify = !str_trim(given->verify).n || is_true(given->verify);
    if (web_headers(given->headers ? yyjson_doc_get_root(given->headers) : NULL, arena, &out->fields, &out->n_fields,
                    why) != ERR_OK)
        return ERR_USAGE;
    type = web_header(out->fields, out->n_fields, "content-type");
    out->is_multipart = str_eq_nocase(str_trim(str_cut(type, str_chr(type, ';'))), STR("multipart/form-data"));
    if (template_compile(&out->url_template, arena, str_trim(given->url), why) != ERR_OK ||
        (given->value.p && template_compile(&out->value_template, arena, given->value, why) != ERR_OK))
        return ERR_USAGE;
    return ERR_OK;
}

/* device: of a call to the connector, which stands as the first word of the parameters (P=Dev 1 …). */
static enum err given_section(yyjson_val *params, bool is_connector_call, struct str *device, struct rest_section *out,
                              struct arena *arena, struct str *answer)
{
    struct given given = {.arena = arena};
    struct str text = json_str(params), word;
    struct why why = {0};
    enum err err = ERR_OK;

    if (!yyjson_is_str(params))
        err = why_set(&why, ERR_USAGE, "the parameters of get and set are text: key=value;key=value;");
    if (!err && is_connector_call) {
        text = str_trim(text);
        word = str_cut(text, str_chr(text, ' '));
        word = str_cut(word, str_chr(word, ';'));
        text = str_skip(text, word.n);
        *device = arena_str(arena, str_skip(word, str_chr(word, '=') + 1));
        if (!device->n)
            err = why_set(&why, ERR_USAGE, "the parameters do not begin with the device: device=NAME key=value;…");
    }
    if (!err)
        err = web_pairs(text, take_pair, &given, &why);
    if (!err && !str_trim(given.url).n)
        err = why_set(&why, ERR_USAGE, "requestUrlExpression is missing in the parameters");
    if (!err)
        err = compile_given(&given, out, &why);
    if (err)
        *answer = rest_not_served(str_from(why_text(&why)), arena);
    yyjson_doc_free(given.headers);
    return err;
}

/* --- requests ---------------------------------------------------------------------------------------------------------- */

static enum err fill(const struct rest_section *section, struct template_names *names, struct arena *arena,
                     struct rest_call *out, struct why *why)
{
    struct str url, body = STR_NONE;

    if (!template_downlink(section->url_template, TARGET_URL, names, arena, &url, why)) {
        why_prefix(why, "URL");
        return ERR_NOTFOUND;
    }
    if (!web_is_absolute(url))
        url = arena_printf(arena, "http://%.*s", (int)url.n, url.p);
    names->body_is_json = web_is_json_type(web_header(section->fields, section->n_fields, "content-type"));
    names->body_wraps_text = names->body_is_json;
    *out = (struct rest_call){.request = {.method = section->method,
                                          .url = url,
                                          .headers = section->fields,
                                          .n_headers = section->n_fields,
                                          .with_credentials = true},
                              .security = section->security,
                              .timeout_ms = section->timeout_ms,
                              .response_timeout_ms = section->response_timeout_ms,
                              .tries = section->tries,
                              .allow_redirects = section->allow_redirects,
                              .verify = section->verify};
    if (section->value_template && !template_downlink(section->value_template, TARGET_BODY, names, arena, &body, why)) {
        why_prefix(why, "value");
        return ERR_NOTFOUND;
    }
    if (section->is_multipart)
        out->form = body.p ? body : STR("");
    else
        out->request.body = body;
    return ERR_OK;
}

static const struct rest_section *find_section(const struct rest_file *file, struct str device, struct str method)
{
    for (size_t i = 0; i < file->rpcs.n; i++) {
        const struct rest_section *section = file->rpcs.items[i];

        if (web_matches(section->device_regex, device) && web_matches(section->name_regex, method))
            return section;
    }
    return NULL;
}

static bool is_reserved(struct str method, bool is_connector_call)
{
    if (str_eq_nocase(method, STR("rest_get")) || str_eq_nocase(method, STR("rest_set")))
        return true;
    return !is_connector_call && (str_eq_nocase(method, STR("get")) || str_eq_nocase(method, STR("set")));
}

static enum err choose(const struct rest_file *file, struct rest_rpc *rpc, yyjson_val *params,
                       const struct rest_section **section, struct rest_section *made, struct arena *arena,
                       struct str *answer)
{
    bool is_connector_call = !rpc->device.p;

    *section = made;
    if (is_reserved(rpc->method, is_connector_call))
        return given_section(params, is_connector_call, &rpc->device, made, arena, answer);
    *section = is_connector_call ? NULL : find_section(file, rpc->device, rpc->method);
    if (*section)
        return ERR_OK;
    *answer = rest_not_served(
        is_connector_call ? arena_printf(arena, "Method " STR_FMT " is not one of the connector", STR_ARG(rpc->method))
                          : arena_printf(arena, "Method " STR_FMT " is not configured for device " STR_FMT,
                                         STR_ARG(rpc->method), STR_ARG(rpc->device)),
        arena);
    return ERR_NOTFOUND;
}

enum err rest_rpc(const struct rest_file *file, const struct rest_rpc *asked, struct arena *arena,
                  struct rest_call *out, struct str *answer)
{
    struct rest_rpc rpc = *asked;
    const struct rest_section *section;
    struct rest_section made = {.tries = 1};
    struct why why = {0};
    yyjson_doc *doc = web_rpc_object(rpc.id, rpc.method, rpc.params, &why);
    yyjson_val *root = yyjson_doc_get_root(doc);
    struct template_names names = {.method = rpc.method, .request_id = rpc.id, .request = root};
    enum err err;

    *answer = STR_NONE;
    if (!doc) {
        *answer = rest_not_served(str_from(why_text(&why)), arena);
        return ERR_SYNTAX;
    }
    err = choose(file, &rpc, json_get(root, STR("params")), &section, &made, arena, answer);
    names.device_name = rpc.device;
    if (!err)
        err = fill(section, &names, arena, out, &why);
    if (err && !answer->p)
        *answer = rest_not_served(str_from(why_text(&why)), arena);
    yyjson_doc_free(doc);
    return err;
}

void rest_attributes(const struct rest_file *file, struct str device, yyjson_val *values, struct arena *arena,
                     void (*call)(void *arg, const struct rest_call *call),
                     void (*failed)(void *arg, struct str key, const struct why *why), void *arg)
{
    for (size_t i = 0; i < file->updates.n; i++) {
        const struct rest_section *section = file->updates.items[i];
        yyjson_obj_iter iter = yyjson_obj_iter_with(values);
        yyjson_val *key;

        if (!web_matches(section->device_regex, device))
            continue;
        while ((key = yyjson_obj_iter_next(&iter))) {
            struct template_names names = {
                .device_name = device, .attribute_key = json_str(key), .attribute_value = yyjson_obj_iter_get_val(key)};
            struct rest_call made;
            struct why why = {0};

            if (!web_matches(section->name_regex, names.attribute_key))
                continue;
            if (fill(section, &names, arena, &made, &why) == ERR_OK)
                call(arg, &made);
            else
                failed(arg, names.attribute_key, &why);
        }
    }
}

bool rest_may_repeat(struct str method)
{
    static const char *const methods[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"};

    for (size_t i = 0; i < COUNT_OF(methods); i++)
        if (str_eq_z(method, methods[i]))
            return true;
    return false;
}

/* --- forms -------------------------------------------------------------------------------------------------------------- */

static void add_quoted(struct buf *out, struct str name)
{
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] == '"')
            buf_add_z(out, "%22");
        else if (name.p[i] == '\r')
            buf_add_z(out, "%0D");
        else if (name.p[i] == '\n')
            buf_add_z(out, "%0A");
        else
            buf_add_u8(out, (uint8_t)name.p[i]);
    }
}

bool rest_form(const struct rest_call *call, struct arena *arena, struct web_request *out)
{
    yyjson_doc *doc = json_read(call->form, NULL);
    yyjson_val *object = yyjson_doc_get_root(doc), *key;
    yyjson_obj_iter iter = yyjson_obj_iter_with(object);
    struct web_field *fields = arena_alloc(arena, (call->request.n_headers + 1) * sizeof *fields);
    autobuf struct buf mark = {0};
    autobuf struct buf body = {0};
    bool is_object;

    buf_add_z(&mark, "----iotgw");
    digest_hex(&mark, DIGEST_MURMUR3_128, call->form.p,
               call->form.n); /* no text holds its own checksum but by design */
    while ((key = yyjson_obj_iter_next(&iter))) {
        yyjson_val *val = yyjson_obj_iter_get_val(key);

        buf_printf(&body, "--%.*s\r\nContent-Disposition: form-data; name=\"", (int)mark.n, (char *)mark.p);
        add_quoted(&body, json_str(key));
        buf_add_z(&body, "\"\r\n\r\n");
        buf_add_str(&body, yyjson_is_str(val) ? json_str(val) : json_text(arena, val));
        buf_add_z(&body, "\r\n");
    }
    buf_printf(&body, "--%.*s--\r\n", (int)mark.n, (char *)mark.p);
    *out = call->request;
    out->body = arena_str(arena, buf_str(&body));
    for (size_t i = 0; i < out->n_headers; i++) {
        fields[i] = out->headers[i];
        if (str_eq_nocase(fields[i].name, STR("Content-Type")))
            fields[i].value =
                arena_printf(arena, "multipart/form-data; boundary=%.*s", (int)mark.n, (const char *)mark.p);
    }
    out->headers = fields;
    is_object = yyjson_is_obj(object);
    yyjson_doc_free(doc);
    return is_object;
}
