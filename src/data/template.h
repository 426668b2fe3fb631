/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_TEMPLATE_H
#define IOTGW_TEMPLATE_H
/*
 * Texts with ${tags} (expressions.md 2–4, 9), byte templates (8) and topic expressions (7), compiled when the
 * configuration is loaded; immutable afterwards, in the configuration's arena. Evaluation writes to the arena given,
 * one per message, and allocates nothing else.
 */
#include "data/path.h"

enum template_kind { TEMPLATE_CONSTANT, TEMPLATE_PURE, TEMPLATE_MIXED };

struct template;
NODISCARD enum err template_compile(struct template **out, struct arena *arena, struct str text, struct why *why);
enum template_kind template_kind(const struct template *template);
struct str template_source(const struct template *template);
size_t template_n_tags(const struct template *template);
struct str template_literal(const struct template *template, size_t i); /* before tag i; i = n_tags: behind the last */
const struct path *template_path(const struct template *template, size_t i); /* NULL: an empty tag */

/* One tag against data: exact member, then path. NULL: unresolved, or a single character in *text_out (path.h). */
yyjson_val *template_resolve(const struct template *template, size_t tag, yyjson_val *data, struct arena *arena,
                             struct str *text_out);
/* The single member a pure template names, for one-pass matching; p NULL if it is anything else. */
struct str template_single_member(const struct template *template);

/* What an unresolved tag does: skip the whole, or stand as null (skip only if all are unresolved). */
enum template_missing { TEMPLATE_SKIP, TEMPLATE_NULL };
/* Text of constant, pure or mixed by the rules of section 4. false: unresolved. An empty text is true here. */
bool template_text(const struct template *template, yyjson_val *data, enum template_missing missing,
                   struct arena *arena, struct str *out);

/* --- downlink (section 9) ----------------------------------------------------------------------------------------- */
enum template_target {
    TARGET_MQTT_TOPIC,
    TARGET_MQTT_RPC,
    TARGET_MQTT_ATTRIBUTE,
    TARGET_MQTT_RESPONSE,
    TARGET_URL,
    TARGET_BODY
};
struct template_names {                                        /* p NULL: not in scope */
    struct str device_name, attribute_key, method, request_id; /* request_id: JSON text of the id */
    yyjson_val *attribute_value;                               /* NULL: none */
    yyjson_val *request;  /* the object {"id","method","params"} for ${params.path} */
    bool body_is_json;    /* TARGET_BODY: the Content-Type is application/json */
    bool body_wraps_text; /* TARGET_BODY rule 4: REST with JSON content type */
};
/* false: a tag is unresolved (topic, URL): the request must not be sent; why says which. */
bool template_downlink(const struct template *template, enum template_target target, const struct template_names *names,
                       struct arena *arena, struct str *out, struct why *why);

/* --- byte templates (section 8) ----------------------------------------------------------------------------------- */
struct byte_template;
NODISCARD enum err byte_template_compile(struct byte_template **out, struct arena *arena, struct str text);
bool byte_template_text(const struct byte_template *template, struct str payload, bool hex, struct arena *arena,
                        struct str *out); /* false: invalid UTF-8 or an index that does not exist */
bool byte_template_is_constant(const struct byte_template *template);

/* --- regular expressions (section 7) ------------------------------------------------------------------------------ */
struct regex; /* PCRE2 with JIT; immutable and usable from any thread; freed by regex_free (arena-independent) */
enum regex_use { REGEX_SEARCH, REGEX_MATCH, REGEX_FULL };
NODISCARD enum err regex_compile(struct regex **out, struct str pattern, enum regex_use use, struct why *why);
void regex_free(struct regex *regex);
/* Topic expression: the group that closed last, else the whole match. literal_ok: a pattern without special characters
 * that does not match is the result itself (device name and profile). false: unresolved. *out points into topic or pattern. */
bool regex_topic(const struct regex *regex, struct str topic, bool literal_ok, struct str *out);
/* A match, and the groups called v0, v1 … of it (p NULL: took no part), n of them. They point into text. */
bool regex_groups(const struct regex *regex, struct str text, struct str *out, unsigned n);
#endif
