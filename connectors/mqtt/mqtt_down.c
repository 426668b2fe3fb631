/* SPDX-License-Identifier: Apache-2.0 */
#include "mqtt_down.h"

#include "base/utf8.h"
#include "mqtt/topic.h"

static enum err make_message(const struct template *topic, enum template_target topic_target,
                             const struct template *value, enum template_target target,
                             const struct template_names *names, struct arena *arena, struct down_message *out,
                             struct why *why)
{
    if (!template_downlink(topic, topic_target, names, arena, &out->topic, why)) {
        why_prefix(why, "topic");
        return ERR_NOTFOUND;
    }
    if (topic_name_check(out->topic, why) != ERR_OK)
        return ERR_SYNTAX;
    if (!template_downlink(value, target, names, arena, &out->payload, why)) {
        why_prefix(why, "value");
        return ERR_NOTFOUND;
    }
    return ERR_OK;
}

static bool matches(const struct regex *regex, struct str text)
{
    struct str found;

    return regex_topic(regex, text, false, &found);
}

static struct str joined(const struct str *names, size_t n, struct arena *arena)
{
    autobuf struct buf text = {0};

    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_add_u8(&text, ',');
        buf_add_str(&text, names[i]);
    }
    return arena_str(arena, buf_str(&text));
}

/* --- RPC: sections that come with the call ------------------------------------------------------------------------------- */

enum { RESERVED_TIMEOUT_MS = 5000, TIMEOUT_MAX_MS = 24 * 3600 * 1000 };

/* A section as the call's parameters give it. */
struct given {
    struct str topic, value, response_topic, response_qos, timeout, qos, retain; /* p NULL: not given */
};

static struct str *given_field(struct given *given, struct str key)
{
    const struct {
        const char *key;
        struct str *field;
    } fields[] = {{"requestTopicExpression", &given->topic},
                  {"value", &given->value},
                  {"valueExpression", &given->value},
                  {"responseTopicExpression", &given->response_topic},
                  {"responseTopicQoS", &given->response_qos},
                  {"responseTimeout", &given->timeout},
                  {"qos", &given->qos},
                  {"retain", &given->retain}};

    for (size_t i = 0; i < COUNT_OF(fields); i++)
        if (str_eq_z(key, fields[i].key))
            return fields[i].field;
    return NULL; /* as in a file: a key that is not known changes nothing */
}

/* core.md 8.5: key=value;key=value; each part splits at its first '='. */
static enum err read_pairs(struct str text, struct given *given, struct why *why)
{
    struct str part;

    while (str_split(&text, ';', &part)) {
        size_t at = str_chr(part, '=');
        struct str *field;

        if (str_trim(part).n == 0)
            continue;
        if (at == part.n)
            return why_set(why, ERR_SYNTAX, "\"" STR_FMT "\" in the parameters has no '='", STR_ARG(part));
        field = given_field(given, str_trim(str_cut(part, at)));
        if (field)
            *field = str_skip(part, at + 1);
    }
    return ERR_OK;
}

static void read_members(yyjson_val *object, struct given *given, struct arena *arena)
{
    yyjson_obj_iter iter = yyjson_obj_iter_with(object);
    yyjson_val *key;

    while ((key = yyjson_obj_iter_next(&iter))) {
        yyjson_val *val = yyjson_obj_iter_get_val(key);
        struct str *field = given_field(given, json_str(key));

        if (field && !yyjson_is_null(val))
            *field = yyjson_is_str(val) ? json_str(val) : json_text(arena, val);
    }
}

static enum err read_qos(struct str text, const char *key, uint8_t preset, uint8_t *out, struct why *why)
{
    text = str_trim(text);
    *out = preset;
    if (!text.p)
        return ERR_OK;
    if (text.n != 1 || *text.p < '0' || *text.p > '2')
        return why_set(why, ERR_RANGE, "%s \"" STR_FMT "\" is none of 0, 1, 2", key, STR_ARG(text));
    *out = (uint8_t)(*text.p - '0');
    return ERR_OK;
}

static enum err read_retain(struct str text, bool *out, struct why *why)
{
    text = str_trim(text);
    *out = str_eq_nocase(text, STR("true")) || str_eq_z(text, "1");
    if (!text.p || *out || str_eq_nocase(text, STR("false")) || str_eq_z(text, "0"))
        return ERR_OK;
    return why_set(why, ERR_TYPE, "retain \"" STR_FMT "\" is neither true nor false", STR_ARG(text));
}

static enum err read_timeout(const struct given *given, uint64_t preset, uint64_t *out, struct why *why)
{
    struct str text = str_trim(given->timeout);
    double ms;

    *out = preset;
    if (!text.p)
        return ERR_OK;
    if (str_to_double(text, &ms) != ERR_OK || !(ms >= 0))
        return why_set(why, ERR_TYPE, "responseTimeout \"" STR_FMT "\" is not a number of milliseconds", STR_ARG(text));
    *out = ms < TIMEOUT_MAX_MS ? (uint64_t)ms : TIMEOUT_MAX_MS;
    return ERR_OK;
}

static enum err compile_given(const struct given *given, uint64_t timeout_preset, struct arena *arena,
                              struct rpc_section *out, struct why *why)
{
    uint64_t timeout_ms;
    uint8_t qos, response_qos;

    if (!given->topic.n)
        return why_set(why, ERR_USAGE, "requestTopicExpression is missing in the parameters");
    if (!given->value.p)
        return why_set(why, ERR_USAGE, "value is missing in the parameters");
    if (read_qos(given->qos, "qos", 0, &qos, why) != ERR_OK ||
        read_qos(given->response_qos, "responseTopicQoS", 1, &response_qos, why) != ERR_OK ||
        read_retain(given->retain, &out->retain, why) != ERR_OK ||
        read_timeout(given, given->response_topic.n ? timeout_preset : 0, &timeout_ms, why) != ERR_OK ||
        template_compile(&out->topic_template, arena, given->topic, why) != ERR_OK ||
        template_compile(&out->value_template, arena, given->value, why) != ERR_OK)
        return ERR_USAGE;
    out->qos = qos;
    out->response_qos = response_qos;
    out->response_timeout_ms = (uint32_t)timeout_ms;
    if (given->response_topic.n && timeout_ms &&
        template_compile(&out->response_template, arena, given->response_topic, why) != ERR_OK)
        return ERR_USAGE;
    return ERR_OK;
}

static enum err reserved_section(yyjson_val *params, struct arena *arena, struct rpc_section *out, struct why *why)
{
    struct given given = {.topic = STR_NONE};
    enum err err;

    if (!yyjson_is_str(params))
        return why_set(why, ERR_USAGE, "the parameters of get and set are text: key=value;key=value;");
    err = read_pairs(json_str(params), &given, why);
    return err ? err : compile_given(&given, RESERVED_TIMEOUT_MS, arena, out, why);
}

static enum err connector_section(yyjson_val *params, struct arena *arena, struct rpc_section *out, struct why *why)
{
    struct given given = {.topic = STR_NONE};
    enum err err = ERR_OK;

    if (yyjson_is_str(params))
        err = read_pairs(json_str(params), &given, why);
    else if (yyjson_is_obj(params))
        read_members(params, &given, arena);
    else
        err = why_set(why, ERR_USAGE, "the parameters of a call to the connector are an object with the section");
    return err ? err : compile_given(&given, 0, arena, out, why);
}

/* --- RPC ------------------------------------------------------------------------------------------------------------------ */

/* mqtt_NAME, with this one underscore, means NAME. */
static struct str plain_method(struct str method)
{
    const struct str prefix = STR("mqtt_");
    struct str rest = str_skip(method, prefix.n);

    return str_starts(method, prefix) && str_chr(rest, '_') == rest.n ? rest : method;
}

static const struct rpc_section *find_section(const struct mqtt_file *file, struct str device, struct str method)
{
    for (size_t i = 0; i < file->sections.rpcs.n; i++) {
        const struct rpc_section *section = file->sections.rpcs.items[i];

        if (matches(section->device_regex, device) && matches(section->method_regex, method))
            return section;
    }
    return NULL;
}

static yyjson_doc *request_object(const struct rpc_call *call, struct why *why)
{
    autobuf struct buf text = {0};

    buf_add_z(&text, "{\"method\":");
    json_add_string(&text, call->method);
    if (call->id.n) {
        buf_add_z(&text, ",\"id\":");
        buf_add_str(&text, call->id);
    }
    if (call->params.n) {
        buf_add_z(&text, ",\"params\":");
        buf_add_str(&text, call->params);
    }
    buf_add_u8(&text, '}');
    return json_read(buf_str(&text), why);
}

static enum err fill_rpc(const struct rpc_section *section, const struct template_names *names, struct arena *arena,
                         struct down_rpc *out, struct why *why)
{
    enum err err = make_message(section->topic_template, TARGET_MQTT_TOPIC, section->value_template, TARGET_MQTT_RPC,
                                names, arena, &out->request, why);

    if (err)
        return err;
    out->request.qos = (uint8_t)section->qos;
    out->request.retain = section->retain;
    if (!section->response_template)
        return ERR_OK;
    if (!template_downlink(section->response_template, TARGET_MQTT_TOPIC, names, arena, &out->response_topic, why)) {
        why_prefix(why, "response topic");
        return ERR_NOTFOUND;
    }
    if (topic_name_check(out->response_topic, why) != ERR_OK) {
        why_prefix(why, "response");
        return ERR_SYNTAX;
    }
    if (str_starts(out->response_topic, STR("$share/")))
        return why_set(why, ERR_SYNTAX, "response topic: $share/ begins a filter, not a topic");
    out->response_qos = (uint8_t)section->response_qos;
    out->timeout_ms = section->response_timeout_ms;
    return ERR_OK;
}

enum err down_rpc(const struct mqtt_file *file, const struct rpc_call *call, struct arena *arena, struct down_rpc *out,
                  struct why *why)
{
    struct str method = plain_method(call->method);
    const struct rpc_section *section;
    struct rpc_section made = {.retain = false};
    yyjson_doc *doc = request_object(call, why);
    yyjson_val *root = yyjson_doc_get_root(doc);
    struct template_names names = {
        .device_name = call->device, .method = call->method, .request_id = call->id, .request = root};
    enum err err = doc ? ERR_OK : ERR_SYNTAX;

    *out = (struct down_rpc){.timeout_ms = 0};
    section = &made;
    if (err) {
        why_prefix(why, "parameters");
    } else if (!call->device.p) {
        err = connector_section(json_get(root, STR("params")), arena, &made, why);
    } else if (str_eq_z(method, "get") || str_eq_z(method, "set")) {
        err = reserved_section(json_get(root, STR("params")), arena, &made, why);
    } else {
        section = find_section(file, call->device, method);
        if (!section)
            err = why_set(why, ERR_NOTFOUND, "Method " STR_FMT " is not configured for device " STR_FMT,
                          STR_ARG(call->method), STR_ARG(call->device));
    }
    if (!err)
        err = fill_rpc(section, &names, arena, out, why);
    yyjson_doc_free(doc);
    return err;
}

struct str down_response(struct str payload, struct arena *arena)
{
    yyjson_doc *doc = payload.n ? json_read(payload, NULL) : NULL;
    autobuf struct buf text = {0};

    if (doc) {
        yyjson_doc_free(doc);
        return payload;
    }
    if (utf8_is_valid(payload))
        return json_quote(arena, payload);
    utf8_add_valid(&text, payload);
    return json_quote(arena, buf_str(&text));
}

struct str down_error(struct str text, struct arena *arena)
{
    autobuf struct buf json = {0};

    buf_add_z(&json, "{\"error\":");
    json_add_string(&json, text);
    buf_add_z(&json, ",\"success\":false}");
    return arena_str(arena, buf_str(&json));
}

/* --- attribute updates ------------------------------------------------------------------------------------------------------ */

static void update(const struct attribute_update *section, struct str device, yyjson_val *values, struct arena *arena,
                   struct down_out *out)
{
    yyjson_obj_iter iter = yyjson_obj_iter_with(values);
    yyjson_val *key;

    while ((key = yyjson_obj_iter_next(&iter))) {
        const struct template_names names = {
            .device_name = device, .attribute_key = json_str(key), .attribute_value = yyjson_obj_iter_get_val(key)};
        struct down_message message = {.qos = (uint8_t)section->qos, .retain = section->retain};
        struct why why = {0};

        if (!matches(section->attribute_regex, names.attribute_key))
            continue;
        if (make_message(section->topic_template, TARGET_MQTT_ATTRIBUTE, section->value_template, TARGET_MQTT_ATTRIBUTE,
                         &names, arena, &message, &why) == ERR_OK)
            out->publish(out, &message);
        else
            out->failed(out, names.attribute_key, &why);
    }
}

unsigned down_attributes(const struct mqtt_file *file, struct str device, yyjson_val *values, struct arena *arena,
                         struct down_out *out)
{
    unsigned n = 0;

    if (!yyjson_is_obj(values))
        return 0;
    for (size_t i = 0; i < file->sections.attribute_updates.n; i++) {
        const struct attribute_update *section = file->sections.attribute_updates.items[i];

        if (!matches(section->device_regex, device))
            continue;
        n++;
        update(section, device, values, arena, out);
    }
    return n;
}

static bool is_plain_name(struct str pattern)
{
    for (size_t i = 0; i < pattern.n; i++)
        if (!pattern.p[i] || strchr("\\^$.|?*+()[]{}", pattern.p[i]))
            return false;
    return pattern.n > 0;
}

/* Filters match at the beginning: a plain name stands for itself, and for longer ones that only an update can bring. */
bool down_shared_keys(const struct mqtt_file *file, struct str device, void (*add)(void *arg, struct str key),
                      void *arg)
{
    bool wants_all = false;

    for (size_t i = 0; i < file->sections.attribute_updates.n; i++) {
        const struct attribute_update *section = file->sections.attribute_updates.items[i];
        struct str name = section->attribute_filter;

        if (!matches(section->device_regex, device))
            continue;
        if (is_plain_name(name))
            add(arg, name);
        else
            wants_all = true;
    }
    return wants_all;
}

/* --- attribute requests ----------------------------------------------------------------------------------------------------- */

struct names {
    struct str at[DOWN_NAMES_MAX];
    size_t n;
};

static void add_name(struct names *names, struct str name)
{
    if (!name.n || name.n > DOWN_NAME_BYTES_MAX || names->n == DOWN_NAMES_MAX || !utf8_is_valid(name))
        return;
    for (size_t i = 0; i < names->n; i++)
        if (str_eq(names->at[i], name))
            return;
    names->at[names->n++] = name;
}

static void add_names_of(struct names *names, yyjson_val *val, struct arena *arena)
{
    yyjson_arr_iter iter;
    yyjson_val *item;
    size_t n = 0;

    if (yyjson_is_str(val)) {
        add_name(names, json_str(val));
    } else if (yyjson_is_arr(val)) {
        iter = yyjson_arr_iter_with(val);
        while (n++ < 2 * DOWN_NAMES_MAX && (item = yyjson_arr_iter_next(&iter)))
            if (yyjson_is_str(item) || json_is_number(item))
                add_names_of(names, item, arena);
    } else if (json_is_number(val) || yyjson_is_bool(val)) {
        add_name(names, json_text(arena, val));
    }
}

static void collect_names(struct names *names, const struct text_rule *rule, struct str topic, yyjson_val *data,
                          struct arena *arena)
{
    struct str text;

    switch (rule->kind) {
    case RULE_NONE:
    case RULE_BYTES:
        break;
    case RULE_CONSTANT:
        add_name(names, rule->text);
        break;
    case RULE_TOPIC:
        if (regex_topic(rule->regex, topic, false, &text))
            add_name(names, text);
        break;
    case RULE_TEMPLATE:
        for (size_t i = 0; data && i < template_n_tags(rule->template); i++) {
            struct str character = STR_NONE;
            yyjson_val *val = template_resolve(rule->template, i, data, arena, &character);

            if (character.p)
                add_name(names, character);
            else if (val)
                add_names_of(names, val, arena);
        }
        break;
    }
}

enum err down_question(const struct attribute_request *section, struct str topic, yyjson_val *data, struct arena *arena,
                       struct attribute_question *out)
{
    struct names names;
    struct str scope = section->scope, *copy;

    names.n = 0;
    collect_names(&names, &section->names_rule, topic, data, arena);
    if (!names.n)
        return ERR_NOTFOUND;
    if (template_kind(section->scope_template) != TEMPLATE_CONSTANT &&
        (!data || !template_text(section->scope_template, data, TEMPLATE_SKIP, arena, &scope)))
        return ERR_RANGE;
    out->is_client = str_eq_z(scope, "client");
    if (!out->is_client && !str_eq_z(scope, "shared"))
        return ERR_RANGE;
    copy = arena_alloc(arena, names.n * sizeof *copy);
    memcpy(copy, names.at, names.n * sizeof *copy);
    out->names = copy;
    out->n = names.n;
    return ERR_OK;
}

/* All values of several names, in the order in which they were asked for. */
static bool answer_object(const struct attribute_question *question, yyjson_val *values, bool with_missing,
                          struct arena *arena, struct str *out)
{
    autobuf struct buf text = {0};

    for (size_t i = 0; i < question->n; i++) {
        yyjson_val *val = json_get(values, question->names[i]);

        if (!val && !with_missing)
            continue;
        buf_add_u8(&text, text.n ? ',' : '{');
        json_add_string(&text, question->names[i]);
        buf_add_u8(&text, ':');
        if (val)
            json_add_value(&text, val);
        else
            buf_add_z(&text, "null");
    }
    if (!text.n)
        return false;
    buf_add_u8(&text, '}');
    *out = arena_str(arena, buf_str(&text));
    return true;
}

enum err down_answer(const struct attribute_request *section, struct str device,
                     const struct attribute_question *question, yyjson_val *values, struct arena *arena,
                     struct down_message *out, struct why *why)
{
    yyjson_val *val = question->n == 1 ? json_get(values, question->names[0]) : NULL;
    struct template_names names = {.device_name = device,
                                   .attribute_key = question->names[0],
                                   .attribute_value = yyjson_is_null(val) ? NULL : val};
    enum err err;

    *out = (struct down_message){.qos = (uint8_t)section->qos, .retain = section->retain};
    if (question->n == 1) {
        if (!names.attribute_value && !section->answer_missing)
            return ERR_NOTFOUND;
        /* What is missing is null in the payload, as in a payload of a request. */
        return make_message(section->topic_template, TARGET_MQTT_TOPIC, section->value_template,
                            names.attribute_value ? TARGET_MQTT_RESPONSE : TARGET_MQTT_RPC, &names, arena, out, why);
    }
    if (!answer_object(question, values, section->answer_missing, arena, &out->payload))
        return ERR_NOTFOUND;
    names.attribute_key = joined(question->names, question->n, arena);
    if (!template_downlink(section->topic_template, TARGET_MQTT_TOPIC, &names, arena, &out->topic, why)) {
        why_prefix(why, "topic");
        return ERR_NOTFOUND;
    }
    err = topic_name_check(out->topic, why);
    return err;
}
