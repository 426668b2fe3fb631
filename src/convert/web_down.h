/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_WEB_DOWN_H
#define IOTGW_WEB_DOWN_H
/*
 * What the connectors of the web share on the way down: requests as templates give them (expressions.md 9), headers of the
 * configuration, URLs, parameters of reserved calls. Pure; results live in the arena given.
 */
#include "base/arena.h"
#include "data/json.h"
#include "data/template.h"

struct web_field {
    struct str name, value; /* laid out as struct http_header */
};
struct web_request {
    struct str method, url, body; /* body empty: none */
    const struct web_field *headers;
    size_t n_headers;
    bool with_credentials;
};

/* An object of texts (numbers and booleans are taken as their text), or text that holds one; NULL: none. */
NODISCARD enum err web_headers(const yyjson_val *headers, struct arena *arena, struct web_field **out, size_t *n,
                               struct why *why);
NODISCARD enum err web_method_check(struct str method, struct why *why); /* a token (RFC 9110 9.1) */
/* Where a URL, or the beginning of its template, names a scheme, it is http or https. */
NODISCARD enum err web_scheme_check(struct str url, struct why *why);
/* The value of a header; p NULL: none. */
struct str web_header(const struct web_field *headers, size_t n, const char *name);
bool web_is_json_type(struct str content_type); /* application/json, whatever follows */
bool web_is_absolute(struct str url);           /* http://…, https://…; any case */
/* base/rest with one slash between them. rest that is absolute stands for itself. */
struct str web_join(struct arena *arena, struct str base, struct str rest);
bool web_is_same_host(struct str a, struct str b); /* scheme, host and port of two absolute URLs */
/* A URL template against data: every tag is a path, its text percent-encoded. False: one has no value. */
bool web_url(const struct template *template, yyjson_val *data, struct arena *arena, struct str *out, struct why *why);
/* a=1&b=x+y */
struct str web_form(struct arena *arena, yyjson_val *object);
/* {"id":…,"method":…,"params":…} for ${params.path}. */
yyjson_doc *web_rpc_object(struct str id, struct str method, struct str params, struct why *why);
/* core.md 8.5: key=value;key=value;. False: a part has no '='. */
NODISCARD enum err web_pairs(struct str text, void (*add)(void *arg, struct str key, struct str value), void *arg,
                             struct why *why);
bool web_matches(const struct regex *regex, struct str text);
/* Body of an answer as JSON: what parses goes as it is, else as text. */
struct str web_value(struct str body, struct arena *arena);
/* {"method":…,"url":…,"headers":…,"body":…} for `iotgw convert`. authorization: p NULL: none. */
void web_describe(struct buf *out, const struct web_request *request, struct str username, struct str password);
#endif
