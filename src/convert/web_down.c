/* SPDX-License-Identifier: Apache-2.0 */
#include "convert/web_down.h"

#include "base/base64.h"
#include "base/utf8.h"
#include "data/number.h"
#include "http/http_client.h"

#include <ctype.h>

static yyjson_val *members_of(const yyjson_val *headers, yyjson_doc **doc, struct why *why)
{
    yyjson_val *val = (yyjson_val *)(uintptr_t)headers;

    if (yyjson_is_str(val)) {
        *doc = json_read(json_str(val), why);
        val = yyjson_doc_get_root(*doc);
    }
    return yyjson_is_obj(val) ? val : NULL;
}

enum err web_headers(const yyjson_val *headers, struct arena *arena, struct web_field **out, size_t *n, struct why *why)
{
    yyjson_doc *doc = NULL;
    yyjson_val *object = headers ? members_of(headers, &doc, why) : NULL, *key;
    enum err err = ERR_OK;
    yyjson_obj_iter iter;

    *n = 0;
    *out = NULL;
    if (!headers || yyjson_is_null((yyjson_val *)(uintptr_t)headers))
        return ERR_OK;
    if (!object)
        err = why_set(why, ERR_TYPE, "headers are an object of texts, or a text that holds one");
    else
        *out = arena_alloc(arena, (yyjson_obj_size(object) + 2) * sizeof **out); /* room for what is added */
    iter = yyjson_obj_iter_with(object);
    while (!err && (key = yyjson_obj_iter_next(&iter))) {
        yyjson_val *val = yyjson_obj_iter_get_val(key);
        struct web_field *field = &(*out)[*n];

        if (yyjson_is_obj(val) || yyjson_is_arr(val) || yyjson_is_null(val)) {
            err = why_set(why, ERR_TYPE, "header \"" STR_FMT "\" is not a text", STR_ARG(json_str(key)));
            break;
        }
        field->name = arena_str(arena, json_str(key));
        field->value = yyjson_is_str(val) ? arena_str(arena, json_str(val)) : json_text(arena, val);
        if (!http_is_token(field->name) || !http_is_field_text(field->value))
            err =
                why_set(why, ERR_SYNTAX,
                        "\"" STR_FMT "\" cannot be a header: its name is of other characters than letters, digits and "
                        "hyphens, or its value has a line break",
                        STR_ARG(field->name));
        (*n)++;
    }
    yyjson_doc_free(doc);
    return err;
}

enum err web_method_check(struct str method, struct why *why)
{
    if (http_is_token(method))
        return ERR_OK;
    return why_set(why, ERR_SYNTAX, "\"" STR_FMT "\" is not a method: letters as in GET, POST, PUT", STR_ARG(method));
}

enum err web_scheme_check(struct str url, struct why *why)
{
    struct str scheme = str_cut(str_trim(url), str_find(str_trim(url), STR("://"), 0));

    if (scheme.n == str_trim(url).n || !http_is_token(scheme) || str_chr(scheme, '$') < scheme.n ||
        str_eq_nocase(scheme, STR("http")) || str_eq_nocase(scheme, STR("https")))
        return ERR_OK;
    return why_set(why, ERR_SYNTAX, "\"" STR_FMT "\" is of the scheme " STR_FMT "; expected http or https",
                   STR_ARG(url), STR_ARG(scheme));
}

struct str web_header(const struct web_field *headers, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (str_eq_nocase(headers[i].name, str_from(name)))
            return headers[i].value;
    return STR_NONE;
}

bool web_is_json_type(struct str content_type)
{
    return str_eq_nocase(str_trim(str_cut(content_type, str_chr(content_type, ';'))), STR("application/json"));
}

bool web_is_absolute(struct str url)
{
    return str_eq_nocase(str_cut(url, 7), STR("http://")) || str_eq_nocase(str_cut(url, 8), STR("https://"));
}

struct str web_join(struct arena *arena, struct str base, struct str rest)
{
    if (web_is_absolute(rest))
        return rest;
    while (base.n && base.p[base.n - 1] == '/')
        base.n--;
    if (rest.n && *rest.p == '/')
        rest = str_skip(rest, 1);
    return arena_str(arena, arena_printf(arena, "%.*s/%.*s", (int)base.n, base.p, (int)rest.n, rest.p ? rest.p : ""));
}

struct origin {
    bool is_tls;
    struct str host;
    unsigned long port;
};

static struct origin origin_of(struct str url)
{
    struct origin origin = {.is_tls = str_eq_nocase(str_cut(url, 8), STR("https://"))};
    struct str rest = str_skip(url, origin.is_tls ? 8 : 7);
    size_t n = 0, at, colon;

    while (n < rest.n && !strchr("/?#\\", rest.p[n]))
        n++;
    rest = str_cut(rest, n);
    for (at = rest.n; at > 0 && rest.p[at - 1] != '@'; at--)
        ;
    rest = str_skip(rest, at);
    for (colon = rest.n; colon > 0 && rest.p[colon - 1] != ':' && rest.p[colon - 1] != ']'; colon--)
        ;
    origin.host = rest;
    origin.port = origin.is_tls ? 443 : 80;
    if (colon > 0 && rest.p[colon - 1] == ':') {
        uint64_t port;

        origin.host = str_cut(rest, colon - 1);
        if (str_to_u64(str_skip(rest, colon), &port) == ERR_OK)
            origin.port = (unsigned long)port;
    }
    return origin;
}

bool web_is_same_host(struct str a, struct str b)
{
    struct origin one = origin_of(a), other = origin_of(b);

    return one.is_tls == other.is_tls && one.port == other.port && str_eq_nocase(one.host, other.host);
}

static void add_percent(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = (uint8_t)text.p[i];

        if (isalnum(c) || (c && strchr("_.-~/", c)))
            buf_add_u8(out, c);
        else
            buf_printf(out, "%%%02X", c);
    }
}

static struct str url_text(yyjson_val *val, struct arena *arena, char number[NUMBER_MAX])
{
    if (yyjson_is_str(val))
        return json_str(val);
    if (json_is_number(val))
        return json_number_in_template(val, number);
    if (yyjson_is_bool(val))
        return yyjson_get_bool(val) ? STR("True") : STR("False");
    return json_text(arena, val);
}

bool web_url(const struct template *template, yyjson_val *data, struct arena *arena, struct str *out, struct why *why)
{
    autobuf struct buf url = {0};
    size_t n = template_n_tags(template);

    for (size_t i = 0; i <= n; i++) {
        struct str literal = template_literal(template, i), character = STR_NONE;
        char number[NUMBER_MAX];
        yyjson_val *val;

        for (size_t k = 0; k < literal.n; k++) {
            if (literal.p[k] == ' ')
                buf_add_z(&url, "%20");
            else
                buf_add_u8(&url, (uint8_t)literal.p[k]);
        }
        if (i == n)
            break;
        val = template_resolve(template, i, data, arena, &character);
        if (!val && !character.p) {
            why_set(why, ERR_NOTFOUND, "a tag of \"" STR_FMT "\" has no value", STR_ARG(template_source(template)));
            return false;
        }
        add_percent(&url, character.p ? character : url_text(val, arena, number));
    }
    *out = arena_str(arena, buf_str(&url));
    return true;
}

static void add_form_text(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = (uint8_t)text.p[i];

        if (isalnum(c) || (c && strchr("-._~", c)))
            buf_add_u8(out, c);
        else if (c == ' ')
            buf_add_u8(out, '+');
        else
            buf_printf(out, "%%%02X", c);
    }
}

struct str web_form(struct arena *arena, yyjson_val *object)
{
    autobuf struct buf text = {0};
    yyjson_obj_iter iter = yyjson_obj_iter_with(object);
    yyjson_val *key;

    while ((key = yyjson_obj_iter_next(&iter))) {
        yyjson_val *val = yyjson_obj_iter_get_val(key);

        if (text.n)
            buf_add_u8(&text, '&');
        add_form_text(&text, json_str(key));
        buf_add_u8(&text, '=');
        add_form_text(&text, yyjson_is_str(val) ? json_str(val) : json_text(arena, val));
    }
    return arena_str(arena, buf_str(&text));
}

yyjson_doc *web_rpc_object(struct str id, struct str method, struct str params, struct why *why)
{
    autobuf struct buf text = {0};

    buf_add_z(&text, "{\"method\":");
    json_add_string(&text, method);
    if (id.n) {
        buf_add_z(&text, ",\"id\":");
        buf_add_str(&text, id);
    }
    if (params.n) {
        buf_add_z(&text, ",\"params\":");
        buf_add_str(&text, params);
    }
    buf_add_u8(&text, '}');
    return json_read(buf_str(&text), why);
}

enum err web_pairs(struct str text, void (*add)(void *arg, struct str key, struct str value), void *arg,
                   struct why *why)
{
    struct str part;

    while (str_split(&text, ';', &part)) {
        size_t at = str_chr(part, '=');

        if (str_trim(part).n == 0)
            continue;
        if (at == part.n)
            return why_set(why, ERR_SYNTAX, "\"" STR_FMT "\" in the parameters has no '='", STR_ARG(part));
        add(arg, str_trim(str_cut(part, at)), str_skip(part, at + 1));
    }
    return ERR_OK;
}

bool web_matches(const struct regex *regex, struct str text)
{
    struct str found;

    return regex_topic(regex, text, false, &found);
}

struct str web_value(struct str body, struct arena *arena)
{
    yyjson_doc *doc = body.n ? json_read(body, NULL) : NULL;
    autobuf struct buf text = {0};
    struct str json;

    if (doc) {
        json = json_text(arena, yyjson_doc_get_root(doc));
        yyjson_doc_free(doc);
        return json;
    }
    utf8_add_valid(&text, body);
    return json_quote(arena, buf_str(&text));
}

void web_describe(struct buf *out, const struct web_request *request, struct str username, struct str password)
{
    bool with_login = username.p && request->with_credentials;

    buf_add_z(out, "{\"method\":");
    json_add_string(out, request->method);
    buf_add_z(out, ",\"url\":");
    json_add_string(out, request->url);
    if (request->n_headers || with_login) {
        buf_add_z(out, ",\"headers\":{");
        for (size_t i = 0; i < request->n_headers; i++) {
            if (i)
                buf_add_u8(out, ',');
            json_add_string(out, request->headers[i].name);
            buf_add_u8(out, ':');
            json_add_string(out, request->headers[i].value);
        }
        if (with_login) {
            autobuf struct buf login = {0};

            buf_add_str(&login, username);
            buf_add_u8(&login, ':');
            buf_add_str(&login, password);
            buf_add_z(out, request->n_headers ? ",\"Authorization\":\"Basic " : "\"Authorization\":\"Basic ");
            base64_encode(out, buf_str(&login));
            buf_add_u8(out, '"');
        }
        buf_add_u8(out, '}');
    }
    if (request->body.n) {
        buf_add_z(out, ",\"body\":");
        json_add_string(out, request->body);
    }
    buf_add_u8(out, '}');
}
