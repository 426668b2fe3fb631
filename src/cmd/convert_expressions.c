/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hex.h"
#include "cmd/convert_vectors.h"
#include "data/convert.h"
#include "data/timestamp.h"
#include "mqtt/topic.h"

#include <time.h>

/* One vector. A mode gives the JSON text of the value; false: there is none ("skip"). */
struct vector {
    yyjson_val *input, *data;
    struct str expression;
    struct arena *arena;
};
typedef bool mode_fn(const struct vector *v, struct str *json);

static bool eval_datapoint(const struct vector *v, enum convert_mode mode, struct str *json)
{
    struct datapoint_value value;
    enum convert_result result;

    if (datapoint_compile(&value, v->arena, v->expression, json_str(json_get(v->input, STR("type"))), mode,
                          yyjson_get_bool(json_get(v->input, STR("useEval"))), NULL))
        return false;
    result = datapoint_eval(&value, v->data, NULL, v->arena, json, NULL);
    return result == CONVERT_OK || result == CONVERT_FALLBACK;
}

static bool eval_strict(const struct vector *v, struct str *json)
{
    return eval_datapoint(v, CONVERT_STRICT, json);
}

static bool eval_lossless(const struct vector *v, struct str *json)
{
    return eval_datapoint(v, CONVERT_LOSSLESS, json);
}

static bool quoted(const struct vector *v, struct str text, struct str *json)
{
    *json = json_quote(v->arena, text);
    return true;
}

static bool eval_name(const struct vector *v, struct str *json)
{
    struct template *template;
    struct str text;

    return template_compile(&template, v->arena, v->expression, NULL) == ERR_OK &&
           template_text(template, v->data, TEMPLATE_SKIP, v->arena, &text) && text.n && quoted(v, text, json);
}

static bool eval_topic(const struct vector *v, struct str *json)
{
    struct regex *regex;
    struct str text;
    bool found;

    if (regex_compile(&regex, v->expression, REGEX_SEARCH, NULL))
        return false;
    found = regex_topic(regex, json_str(v->data), true, &text) && quoted(v, text, json);
    regex_free(regex);
    return found;
}

static bool eval_bytes_as(const struct vector *v, bool hex, struct str *json)
{
    autobuf struct buf payload = {0};
    struct byte_template *template;
    struct str text;

    return hex_decode(&payload, json_str(v->data)) == ERR_OK &&
           byte_template_compile(&template, v->arena, v->expression) == ERR_OK &&
           byte_template_text(template, buf_str(&payload), hex, v->arena, &text) && quoted(v, text, json);
}

static bool eval_bytes(const struct vector *v, struct str *json)
{
    return eval_bytes_as(v, false, json);
}

static bool eval_bytes_hex(const struct vector *v, struct str *json)
{
    return eval_bytes_as(v, true, json);
}

/* The object that tags of RPC templates are looked up in. */
static yyjson_doc *request_of(const struct vector *v)
{
    static const char *const names[] = {"id", "method", "params"};
    autobuf struct buf text = {0};
    bool any = false;

    buf_add_u8(&text, '{');
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        yyjson_val *val = json_get(v->data, str_from(names[i]));

        if (!val)
            continue;
        if (any)
            buf_add_u8(&text, ',');
        any = true;
        json_add_string(&text, str_from(names[i]));
        buf_add_u8(&text, ':');
        json_add_value(&text, val);
    }
    buf_add_u8(&text, '}');
    return json_read(buf_str(&text), NULL);
}

static bool eval_downlink(const struct vector *v, enum template_target target, struct str *json)
{
    yyjson_val *id = json_get(v->data, STR("id"));
    struct template_names names = {.device_name = json_str(json_get(v->data, STR("device"))),
                                   .method = json_str(json_get(v->data, STR("method"))),
                                   .request_id = id ? json_text(v->arena, id) : STR_NONE};
    struct template *template;
    yyjson_doc *request = request_of(v);
    struct str text;
    bool found;

    names.request = yyjson_doc_get_root(request);
    found = template_compile(&template, v->arena, v->expression, NULL) == ERR_OK &&
            template_downlink(template, target, &names, v->arena, &text, NULL) && quoted(v, text, json);
    yyjson_doc_free(request);
    return found;
}

static bool eval_rpc_json(const struct vector *v, struct str *json)
{
    return eval_downlink(v, TARGET_MQTT_RPC, json);
}

static bool eval_rpc_topic(const struct vector *v, struct str *json)
{
    return eval_downlink(v, TARGET_MQTT_TOPIC, json);
}

static bool eval_url(const struct vector *v, struct str *json)
{
    return eval_downlink(v, TARGET_URL, json);
}

static bool eval_body(const struct vector *v, struct str *json)
{
    return eval_downlink(v, TARGET_BODY, json);
}

static bool eval_ts(const struct vector *v, struct str *json)
{
    yyjson_val *options = json_get(v->input, STR("options"));
    int64_t now_ms = (int64_t)time(NULL) * 1000, ms;
    struct ts_field field;

    if (ts_field_compile(&field, v->arena, v->expression, yyjson_get_bool(json_get(options, STR("dayfirst"))),
                         yyjson_get_bool(json_get(options, STR("yearfirst"))), NULL) ||
        (!ts_field_eval(&field, v->data, now_ms, v->arena, &ms) && !timestamp_of_data(v->data, now_ms, &ms)))
        return false;
    *json = arena_printf(v->arena, "%lld", (long long)ms);
    return true;
}

static bool eval_topic_filter(const struct vector *v, struct str *json)
{
    *json = topic_matches(v->expression, json_str(v->data)) ? STR("true") : STR("false");
    return true;
}

static mode_fn *find_mode(struct str name)
{
    static const struct {
        const char *name;
        mode_fn *fn;
    } modes[] = {{"value", eval_strict},
                 {"value-lossless", eval_lossless},
                 {"name", eval_name},
                 {"topic", eval_topic},
                 {"bytes", eval_bytes},
                 {"bytes-hex", eval_bytes_hex},
                 {"rpc-json", eval_rpc_json},
                 {"rpc-topic", eval_rpc_topic},
                 {"url", eval_url},
                 {"body", eval_body},
                 {"ts", eval_ts},
                 {"topic-filter", eval_topic_filter}};

    for (size_t i = 0; i < COUNT_OF(modes); i++)
        if (str_eq_z(name, modes[i].name))
            return modes[i].fn;
    return NULL;
}

void convert_expressions(yyjson_val *input, struct arena *arena, struct buf *members)
{
    struct vector v = {.input = input, .data = json_get(input, STR("data")), .arena = arena};
    yyjson_val *expression = json_get(input, STR("expression"));
    mode_fn *fn = find_mode(json_str(json_get(input, STR("mode"))));
    struct str json;

    if (!fn || !yyjson_is_str(expression) || !v.data) {
        convert_add_unsupported(members, fn ? STR("expression and data are needed") : STR("no such mode"));
        return;
    }
    v.expression = json_str(expression);
    if (fn(&v, &json)) {
        buf_add_z(members, "\"value\":");
        buf_add_str(members, json);
    } else {
        buf_add_z(members, "\"skip\":true");
    }
}
