/* SPDX-License-Identifier: Apache-2.0 */
#include "mqtt_browse.h"

#include "base/map.h"
#include "base/utf8.h"
#include "data/event.h"
#include "data/json.h"
#include "data/path.h"
#include "mqtt/topic.h"

#include <sys/random.h>

enum { TOPICS_MAX = 10000, SAMPLE_MAX = 200, CLIENT_ID_N = 20, KEYS_MAX = 200, DEPTH_MAX = 4, KEY_MAX = 200 };

struct mqtt_browse {
    struct ctx *ctx;
    struct mqtt *mqtt;
    struct mqtt_conf conf;
    char client_id[CLIENT_ID_N];
    void *request;
    bool is_listening; /* else a probe */
    char *filter;
    struct map topics; /* seen → their own text */
    connector_done_fn *stop_done;
    void *stop_arg;
};

/* --- one message ---------------------------------------------------------------------------------------------------------- */

static const char *type_of(yyjson_val *val, struct str payload)
{
    if (!val)
        return !payload.n ? "empty" : utf8_is_valid(payload) ? "text" : "binary";
    if (yyjson_is_obj(val))
        return "object";
    if (yyjson_is_arr(val))
        return "array";
    return json_is_number(val) ? "number" : yyjson_is_str(val) ? "string" : yyjson_is_bool(val) ? "boolean" : "null";
}

/* It can be a key, and in the path of a value it is taken for this one name, and for nothing more. */
static bool is_plain_key(struct str key)
{
    struct path *path;
    struct arena arena;
    struct str wire;
    bool is_plain;

    for (size_t i = 0; i < key.n; i++)
        if (strchr(".[]{}$\"'\\|*@?()", key.p[i]))
            return false;
    arena_init(&arena, 0);
    is_plain = path_compile(&path, &arena, key, NULL) == ERR_OK && str_eq(path_single_member(path), key) &&
               event_key(&arena, key, &wire, NULL) == ERR_OK;
    arena_fini(&arena);
    return is_plain;
}

/* An entry of "timeseries" for each value in the object; path: of the object itself, with a dot behind it. */
static void add_keys(struct buf *out, yyjson_val *object, struct str path, unsigned depth, unsigned *n)
{
    yyjson_obj_iter iter = yyjson_obj_iter_with(object);
    yyjson_val *name;

    while ((name = yyjson_obj_iter_next(&iter)) && *n < KEYS_MAX) {
        yyjson_val *val = yyjson_obj_iter_get_val(name);
        autobuf struct buf key = {0};

        if (!is_plain_key(json_str(name)) || path.n + json_str(name).n > KEY_MAX)
            continue;
        buf_add_str(&key, path);
        buf_add_str(&key, json_str(name));
        if (yyjson_is_obj(val)) {
            buf_add_u8(&key, '.');
            if (depth < DEPTH_MAX)
                add_keys(out, val, buf_str(&key), depth + 1, n);
            continue;
        }
        if (yyjson_is_arr(val) || yyjson_is_null(val))
            continue;
        buf_printf(out, "%s{\"type\":\"%s\",\"key\":", (*n)++ ? "," : "", yyjson_is_str(val) ? "string" : "json");
        json_add_string(out, buf_str(&key));
        buf_add_z(out, ",\"value\":\"${");
        json_add_escaped(out, buf_str(&key));
        buf_add_z(out, "}\"}");
    }
}

/* The level in the place of the first "+". */
static void add_name_pattern(struct buf *out, struct str filter)
{
    size_t n = str_chr(filter, '+');

    if (!n) {
        buf_add_z(out, "^[^/]+");
        return;
    }
    buf_add_z(out, "(?<=^");
    for (size_t i = 0; i < n; i++) {
        char c = filter.p[i];

        if (strchr("\\.^$|()[]{}*+?", c))
            buf_add_u8(out, '\\');
        buf_add_u8(out, (uint8_t)c);
    }
    buf_add_z(out, ")[^/]+");
}

/* Of a topic alone: the level before the last, which usually names the thing. */
static struct str name_level(struct str topic)
{
    struct str rest = topic, level, before = STR_NONE, last = STR_NONE;

    while (str_split(&rest, '/', &level)) {
        if (level.n) {
            before = last;
            last = level;
        }
    }
    return before.n ? before : last.n ? last : topic;
}

static void add_configuration(struct buf *out, struct str filter, struct str topic, yyjson_val *object)
{
    bool is_pattern = str_chr(filter, '+') < filter.n && str_chr(filter, '#') == filter.n;
    autobuf struct buf name = {0};
    unsigned n = 0;

    if (is_pattern)
        add_name_pattern(&name, filter);
    else
        buf_add_str(&name, name_level(topic));
    buf_add_z(out, ",\"configuration\":{\"topicFilter\":");
    json_add_string(out, is_pattern ? filter : topic);
    buf_printf(out,
               ",\"converter\":{\"type\":\"json\",\"deviceInfo\":{\"deviceNameExpressionSource\":\"%s\","
               "\"deviceNameExpression\":",
               is_pattern ? "topic" : "constant");
    json_add_string(out, buf_str(&name));
    buf_add_z(out, ",\"deviceProfileExpressionSource\":\"constant\",\"deviceProfileExpression\":\"default\"},"
                   "\"timeseries\":[");
    add_keys(out, object, STR_NONE, 0, &n);
    buf_add_z(out, "]}}");
}

void mqtt_browse_item(struct buf *out, struct str filter, struct str topic, struct str payload, bool is_retained)
{
    yyjson_doc *doc = json_read(payload, NULL);
    yyjson_val *root = yyjson_doc_get_root(doc);
    autobuf struct buf sample = {0};

    buf_add_z(out, "{\"name\":");
    json_add_string(out, topic);
    buf_printf(out, ",\"type\":\"%s\",\"bytes\":%zu,\"retained\":%s,\"sample\":", type_of(root, payload), payload.n,
               is_retained ? "true" : "false");
    utf8_add_valid(&sample, str_cut(payload, SAMPLE_MAX));
    if (payload.n > SAMPLE_MAX)
        buf_add_z(&sample, "…");
    json_add_string(out, buf_str(&sample));
    /* As a filter, or as a name, that would mean something else. */
    if (yyjson_is_obj(root) && !str_starts(topic, STR("$share/")) && str_find(topic, STR("${"), 0) == SIZE_MAX)
        add_configuration(out, filter, topic, root);
    buf_add_u8(out, '}');
    yyjson_doc_free(doc);
}

/* --- the connection --------------------------------------------------------------------------------------------------------- */

static void end_listening(struct mqtt_browse *self, enum err err, struct str reason)
{
    if (!self->is_listening)
        return;
    self->is_listening = false;
    ctx_host_functions.browse_end(self->ctx, self->request, err, reason);
}

static void on_connected(void *arg, const struct mqtt_connack *connack)
{
    struct mqtt_browse *self = arg;
    const struct mqtt_filter filter = {.filter = str_from(self->filter ? self->filter : "")};
    uint16_t packet_id;
    enum err err;

    (void)connack;
    if (!self->is_listening) {
        ctx_state(self->ctx, STR_NONE, LINK_UP, STR_NONE);
        return;
    }
    err = mqtt_subscribe(self->mqtt, &filter, 1, &packet_id);
    if (err)
        end_listening(self, err, str_from(err_text(err)));
}

static void on_subscribed(void *arg, uint16_t packet_id, const uint8_t *codes, size_t n)
{
    struct mqtt_browse *self = arg;

    (void)packet_id;
    if (n && codes[0] >= 0x80)
        end_listening(self, ERR_REFUSED, str_from(mqtt_reason_text(self->conf.version, false, codes[0])));
}

static void on_message(void *arg, const struct mqtt_message *message)
{
    struct mqtt_browse *self = arg;
    autobuf struct buf item = {0};
    char *topic;

    mqtt_ack(self->mqtt, message->qos, message->packet_id, 0);
    if (!self->is_listening || map_get(&self->topics, message->topic))
        return;
    if (self->topics.n >= TOPICS_MAX) {
        end_listening(self, ERR_LIMIT, STR("there are more topics than are listed"));
        return;
    }
    topic = mem_zero(message->topic.n + 1);
    memcpy(topic, message->topic.p, message->topic.n);
    map_put(&self->topics, str_of(topic, message->topic.n), topic);
    mqtt_browse_item(&item, str_from(self->filter), message->topic, str_of(message->payload, message->payload_n),
                     message->retain);
    ctx_host_functions.browse_item(self->ctx, self->request, buf_str(&item));
}

static void on_closed(void *arg, enum err err, const struct why *why)
{
    struct mqtt_browse *self = arg;
    bool is_hopeless = err == ERR_AUTH || err == ERR_TLS;
    const char *reason = err == ERR_OK ? "closed by the broker" : why_text(why);

    if (self->stop_done) {
        self->stop_done(self->stop_arg);
        return;
    }
    if (self->is_listening)
        end_listening(self, err ? err : ERR_CLOSED, str_from(reason));
    else
        ctx_state(self->ctx, STR_NONE, is_hopeless ? LINK_FAILED : LINK_DOWN, str_from(reason));
}

struct mqtt_browse *mqtt_browse_new(struct ctx *ctx, const struct mqtt_conf *conf)
{
    static const struct mqtt_events events = {
        .connected = on_connected, .closed = on_closed, .message = on_message, .subscribed = on_subscribed};
    struct mqtt_browse *self = mem_zero(sizeof *self);

    self->ctx = ctx;
    self->conf = *conf;
    self->conf.clean_start = true;
    self->conf.session_expiry_s = 0;
    memcpy(self->client_id, "iotgwtest", 9);
    if (getrandom(self->client_id + 9, CLIENT_ID_N - 9, 0) != CLIENT_ID_N - 9)
        memset(self->client_id + 9, 0, CLIENT_ID_N - 9); /* cannot happen for so few bytes once the system is up */
    for (unsigned i = 9; i < CLIENT_ID_N; i++)
        self->client_id[i] = (char)('a' + (unsigned char)self->client_id[i] % 26);
    self->conf.client_id = str_of(self->client_id, CLIENT_ID_N);
    self->mqtt = mqtt_new(ctx_loop(ctx), ctx_log(ctx), &events, self);
    return self;
}

void mqtt_browse_free(struct mqtt_browse *self)
{
    if (!self)
        return;
    mqtt_free(self->mqtt);
    for (struct map_slot *slot = NULL; (slot = map_next(&self->topics, slot));)
        mem_free(slot->value);
    map_fini(&self->topics);
    mem_free(self->filter);
    mem_free(self);
}

void mqtt_browse_probe(struct mqtt_browse *self)
{
    ctx_state(self->ctx, STR_NONE, LINK_CONNECTING, STR_NONE);
    mqtt_connect(self->mqtt, &self->conf);
}

enum err mqtt_browse_listen(struct mqtt_browse *self, struct str filter, void *request, struct why *why)
{
    enum err err;

    if (!filter.n)
        filter = STR("#");
    err = topic_filter_check(filter, why);
    if (err)
        return err;
    self->filter = mem_zero(filter.n + 1);
    memcpy(self->filter, filter.p, filter.n);
    self->request = request;
    self->is_listening = true;
    mqtt_connect(self->mqtt, &self->conf);
    return ERR_OK;
}

void mqtt_browse_stop(struct mqtt_browse *self, connector_done_fn *done, void *arg)
{
    self->is_listening = false;
    self->stop_done = done;
    self->stop_arg = arg;
    mqtt_disconnect(self->mqtt, 0);
}
