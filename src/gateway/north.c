/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/north.h"

#include "base/map.h"
#include "uplink/messages.h"
#include "uplink/topics.h"

#include <inttypes.h>

enum {
    INBOUND_BYTES_MAX = 16 * 1024 * 1024,
    REQUESTS_MAX = 4096,
    REQUEST_MS = 20 * 1000, /* platform-api.md 2 */
    STATUS_MS = 1000,
    AROUND = 64, /* topic and its length, spared when a payload is compared with the limit */
};

/* What comes from the uplink's loop: a message, or a state with a status. */
struct inbound {
    struct node node;
    enum { INBOUND_MESSAGE, INBOUND_STATE, INBOUND_STATUS } kind;
    enum uplink_state state;
    struct uplink_status *status; /* STATE, STATUS */
    struct str topic, payload;    /* MESSAGE; behind it */
    char bytes[];
};

/* What goes to it. */
struct outbound {
    struct node node;
    uint64_t session; /* it belongs to; 0: any */
    enum limit_kind limit;
    bool wants_status;  /* nothing is sent */
    struct device *dev; /* the platform hears of it with this; NULL: of none */
    uint8_t qos;
    struct str topic, payload; /* behind it */
    char bytes[];
};

struct request {
    struct list node;
    uint32_t id;
    uint64_t due_ms;
    enum err err; /* of one that failed at once */
    bool is_own;
    char *only_key; /* exactly one was asked for */
    north_answer_fn *answer;
    void *arg;
};

struct attribute {
    char *key, *json;
};

struct north {
    struct log *log;

    /* main loop */
    struct loop *main;
    struct north_events events;
    void *arg;
    struct mailbox in;
    enum uplink_state state;
    uint64_t session; /* counts READY */
    uint32_t last_id;
    struct list requests; /* oldest first: all have the same limit */
    struct list failed;   /* to be told so in a moment */
    size_t n_requests;
    struct timer timeout, fail;
    struct map attributes; /* of the gateway itself, as sent last */
    struct uplink_status status;
    uint64_t status_ms;
    bool is_status_asked;

    /* uplink's loop */
    struct loop *uplink_loop;
    const struct north_link *link;
    void *link_arg;
    struct mailbox out;
    uint64_t link_session;
    bool is_link_ready;
    _Atomic(size_t) inbound_bytes;
};

/* --- uplink's loop ------------------------------------------------------------------------------------------------------ */

static bool send_of_uplink(void *arg, enum limit_kind limit, struct str topic, struct str payload, uint8_t qos)
{
    return uplink_send(arg, limit, topic, payload, qos);
}

static struct uplink_status status_of_uplink(void *arg)
{
    return uplink_status(arg);
}

void north_attach(struct north *north, struct uplink *uplink)
{
    static const struct north_link link = {.send = send_of_uplink, .status = status_of_uplink};

    north_attach_link(north, &link, uplink);
}

static void tell_status(struct north *north, enum uplink_state state, int kind)
{
    struct inbound *in = mem_zero(sizeof *in);

    in->kind = kind;
    in->state = state;
    in->status = mem_new(sizeof *in->status);
    *in->status = north->link->status(north->link_arg);
    mailbox_post(&north->in, &in->node);
}

void north_uplink_state(struct north *north, enum uplink_state state)
{
    if (!north->link)
        return;
    north->is_link_ready = state == UPLINK_READY;
    north->link_session += north->is_link_ready ? 1 : 0;
    tell_status(north, state, INBOUND_STATE);
}

void north_uplink_message(struct north *north, struct str topic, struct str payload)
{
    struct inbound *in;
    size_t size = topic.n + payload.n;

    if (atomic_load_explicit(&north->inbound_bytes, memory_order_relaxed) + size + sizeof *in > INBOUND_BYTES_MAX) {
        LOG_WARN(north->log, "message of the platform dropped: more come than can be handled", KV_STR("topic", topic));
        return;
    }
    in = mem_new(sizeof *in + size);
    *in = (struct inbound){.kind = INBOUND_MESSAGE};
    in->topic = str_of(memcpy(in->bytes, topic.p, topic.n), topic.n);
    in->payload = str_of(in->bytes + topic.n, payload.n);
    if (payload.n)
        memcpy(in->bytes + topic.n, payload.p, payload.n);
    atomic_fetch_add_explicit(&north->inbound_bytes, size + sizeof *in, memory_order_relaxed);
    mailbox_post(&north->in, &in->node);
}

/* What is sent for a device is activity of it, as its data are: it needs not be kept open by other means (uplink/tend.c). */
static void send_one(struct north *north, const struct outbound *out)
{
    if (north->link->send(north->link_arg, out->limit, out->topic, out->payload, out->qos) &&
        out->dev) /* else it says so */
        out->dev->active_s = (uint32_t)(loop_mono_ms(north->uplink_loop) / 1000);
}

static void send_down(void *arg, struct node *nodes)
{
    struct north *north = arg;

    while (nodes) {
        struct outbound *out = CONTAINER_OF(nodes, struct outbound, node);

        nodes = nodes->next;
        if (!north->link)
            ; /* the uplink is not there yet, or no more */
        else if (out->wants_status)
            tell_status(north, UPLINK_DOWN, INBOUND_STATUS);
        else if (!out->session || (out->session == north->link_session && north->is_link_ready))
            send_one(north, out);
        mem_free(out);
    }
}

/* --- out of the main loop ------------------------------------------------------------------------------------------------- */

static void post_for(struct north *north, struct device *dev, enum limit_kind limit, struct str topic,
                     struct str payload, uint8_t qos, uint64_t session)
{
    struct outbound *out = mem_new(sizeof *out + topic.n + payload.n);

    *out = (struct outbound){.session = session, .limit = limit, .qos = qos, .dev = dev};
    out->topic = str_of(memcpy(out->bytes, topic.p, topic.n), topic.n);
    out->payload = str_of(out->bytes + topic.n, payload.n);
    if (payload.n)
        memcpy(out->bytes + topic.n, payload.p, payload.n);
    mailbox_post(&north->out, &out->node);
}

static void post(struct north *north, enum limit_kind limit, struct str topic, struct str payload, uint8_t qos,
                 uint64_t session)
{
    post_for(north, NULL, limit, topic, payload, qos, session);
}

void north_firmware_request(struct north *north, uint64_t request, uint32_t chunk, uint32_t chunk_bytes)
{
    autobuf struct buf topic = {0}, size = {0};

    buf_add_str(&topic, TOPIC_FIRMWARE_REQUEST);
    buf_printf(&topic, "%" PRIu64 "/chunk/%" PRIu32, request, chunk);
    buf_printf(&size, "%" PRIu32, chunk_bytes);
    post(north, LIMIT_OWN_MESSAGES, buf_str(&topic), buf_str(&size), 1, north->session);
}

/* The platform would lose the value: as of devices. */
static void replace_nul(struct north *north, struct buf *payload)
{
    unsigned n = json_replace_nul((char *)payload->p, payload->n);

    if (n)
        LOG_WARN(north->log, "U+0000 in a text of the gateway's own is replaced, the platform would lose the value",
                 KV_UINT("characters", n));
}

void north_own_telemetry(struct north *north, struct str json)
{
    autobuf struct buf payload = {0};

    if (north->state == UPLINK_READY && message_own_telemetry(&payload, json)) {
        replace_nul(north, &payload);
        post(north, LIMIT_OWN, TOPIC_OWN_TELEMETRY, buf_str(&payload), 1, 0);
    }
}

static void attribute_free(struct attribute *attribute)
{
    mem_free(attribute->key);
    mem_free(attribute->json);
    mem_free(attribute);
}

static void keep_attribute(struct north *north, struct str key, yyjson_val *val)
{
    struct attribute *attribute = map_get(&north->attributes, key);
    autobuf struct buf text = {0};

    json_add_final(&text, val);
    buf_add_u8(&text, 0);
    if (!attribute) {
        attribute = mem_zero(sizeof *attribute);
        attribute->key = memcpy(mem_zero(key.n + 1), key.n ? key.p : "", key.n);
        map_put(&north->attributes, str_of(attribute->key, key.n), attribute);
    }
    mem_free(attribute->json);
    attribute->json = mem_dup((const char *)text.p);
}

static void add_attribute(struct buf *payload, struct str key, const char *json)
{
    buf_add_u8(payload, payload->n ? ',' : '{');
    json_add_string(payload, key);
    buf_add_u8(payload, ':');
    buf_add_z(payload, json);
}

static void post_attributes(struct north *north, struct buf *payload)
{
    if (!payload->n)
        return;
    buf_add_u8(payload, '}');
    replace_nul(north, payload);
    post(north, LIMIT_OWN, TOPIC_OWN_ATTRIBUTES, buf_str(payload), 1, 0);
    payload->n = 0;
}

/* Those of keys (an object), or all; in as many messages as the platform's limit makes of them. */
static void send_attributes(struct north *north, yyjson_val *keys)
{
    autobuf struct buf payload = {0};
    size_t limit = north->status.payload_limit ? north->status.payload_limit : SIZE_MAX;

    for (struct map_slot *slot = NULL; (slot = map_next(&north->attributes, slot));) {
        const struct attribute *attribute = slot->value;

        if (keys && !json_get(keys, slot->key))
            continue;
        if (payload.n + slot->key.n * 2 + strlen(attribute->json) + 8 > limit)
            post_attributes(north, &payload);
        add_attribute(&payload, slot->key, attribute->json);
    }
    post_attributes(north, &payload);
}

void north_own_attributes(struct north *north, struct str json)
{
    yyjson_doc *doc = yyjson_read(json.p, json.n, YYJSON_READ_NUMBER_AS_RAW);
    yyjson_val *root = yyjson_doc_get_root(doc), *key;
    yyjson_obj_iter iter = yyjson_obj_iter_with(root);

    assert(yyjson_is_obj(root)); /* the gateway's own */
    while ((key = yyjson_obj_iter_next(&iter)))
        keep_attribute(north, json_str(key), yyjson_obj_iter_get_val(key));
    if (north->state == UPLINK_READY)
        send_attributes(north, root);
    yyjson_doc_free(doc);
}

void north_forget_own_attribute(struct north *north, struct str key)
{
    struct attribute *attribute = map_del(&north->attributes, key);

    if (attribute)
        attribute_free(attribute);
}

static struct str fitting(const struct north *north, struct str json)
{
    if (!north->status.payload_limit || json.n + AROUND <= north->status.payload_limit)
        return json;
    LOG_WARN(north->log, "reply is larger than the platform takes", KV_UINT("bytes", json.n),
             KV_UINT("limit", north->status.payload_limit));
    return STR("{\"error\":\"The answer is larger than the platform takes\",\"code\":413}");
}

void north_reply_own(struct north *north, struct str number, struct str json, uint8_t qos)
{
    autobuf struct buf topic = {0};

    buf_add_str(&topic, TOPIC_OWN_RPC_RESPONSE);
    buf_add_str(&topic, number);
    post(north, LIMIT_OWN_MESSAGES, buf_str(&topic), fitting(north, json), qos, 0);
}

void north_reply_name(struct north *north, struct device *dev, struct str name_json, struct str id_json,
                      struct str data_json)
{
    autobuf struct buf payload = {0};

    message_rpc_reply(&payload, name_json, id_json, data_json);
    if (fitting(north, buf_str(&payload)).n != payload.n) {
        payload.n = 0;
        message_rpc_reply(&payload, name_json, id_json, fitting(north, data_json));
    }
    post_for(north, dev, LIMIT_DEVICE_MESSAGES, TOPIC_RPC, buf_str(&payload), 1, 0);
}

void north_reply_device(struct north *north, struct device *dev, struct str id_json, struct str data_json)
{
    north_reply_name(north, dev, device_wire_json(dev), id_json, data_json);
}

/* --- requests ---------------------------------------------------------------------------------------------------------------- */

static void answer(struct north *north, struct request *request, enum err err, yyjson_val *root)
{
    list_del(&request->node);
    north->n_requests--;
    request->answer(request->arg, err, err ? NULL : root);
    mem_free(request->only_key);
    mem_free(request);
}

static void fail_due(void *arg)
{
    struct north *north = arg;
    struct list now, *node;

    list_init(&now);
    while ((node = list_take_first(&north->failed)))
        list_add_tail(&now, node);
    while ((node = list_first(&now))) {
        struct request *request = CONTAINER_OF(node, struct request, node);

        answer(north, request, request->err, NULL);
    }
}

static void timeout_due(void *arg)
{
    struct north *north = arg;
    uint64_t now = loop_mono_ms(north->main);
    struct list *node;

    while ((node = list_first(&north->requests))) {
        struct request *request = CONTAINER_OF(node, struct request, node);

        if (request->due_ms > now) {
            timer_start_at(&north->timeout, request->due_ms);
            return;
        }
        answer(north, request, ERR_TIMEOUT, NULL);
    }
}

/* NULL: it failed, and will be told so. */
static struct request *request_new(struct north *north, bool is_own, north_answer_fn *fn, void *arg)
{
    struct request *request = mem_zero(sizeof *request);

    request->is_own = is_own;
    request->answer = fn;
    request->arg = arg;
    request->err = north->state != UPLINK_READY ? ERR_CLOSED : north->n_requests >= REQUESTS_MAX ? ERR_BUSY : ERR_OK;
    north->n_requests++;
    if (request->err) {
        list_add_tail(&north->failed, &request->node);
        timer_start(&north->fail, 0);
        return NULL;
    }
    request->id = ++north->last_id;
    request->due_ms = loop_mono_ms(north->main) + REQUEST_MS;
    list_add_tail(&north->requests, &request->node);
    if (!timer_is_running(&north->timeout))
        timer_start_at(&north->timeout, request->due_ms);
    return request;
}

void north_request_own_attributes(struct north *north, const struct str *client, size_t n_client,
                                  const struct str *shared, size_t n_shared, north_answer_fn *fn, void *arg)
{
    struct request *request = request_new(north, true, fn, arg);
    autobuf struct buf topic = {0}, payload = {0};

    if (!request)
        return;
    buf_printf(&topic, "%s%u", TOPIC_OWN_ATTRIBUTES_REQUEST.p, request->id);
    message_own_attributes_request(&payload, client, n_client, shared, n_shared);
    post(north, LIMIT_OWN_MESSAGES, buf_str(&topic), buf_str(&payload), 1, north->session);
}

void north_request_attributes(struct north *north, struct device *dev, const struct str *keys, size_t n, bool is_client,
                              north_answer_fn *fn, void *arg)
{
    struct request *request = request_new(north, false, fn, arg);
    autobuf struct buf payload = {0};

    assert(n > 0); /* the platform answers an empty list with both scopes mixed */
    if (!request)
        return;
    if (n == 1) {
        request->only_key = mem_zero(keys->n + 1);
        memcpy(request->only_key, keys->n ? keys->p : "", keys->n);
    }
    message_attributes_request(&payload, device_wire_json(dev), keys, n, is_client, request->id);
    post_for(north, dev, LIMIT_DEVICE_MESSAGES, TOPIC_ATTRIBUTES_REQUEST, buf_str(&payload), 1, north->session);
}

static struct request *request_of(struct north *north, uint64_t id, bool is_own)
{
    LIST_EACH(node, &north->requests) {
        struct request *request = CONTAINER_OF(node, struct request, node);

        if (request->id == id && request->is_own == is_own)
            return request;
    }
    LOG_DEBUG(north->log, "answer of the platform that nobody waits for", KV_UINT("id", id));
    return NULL;
}

/* --- into the main loop ---------------------------------------------------------------------------------------------------- */

static void malformed(struct north *north, struct str topic, const char *what)
{
    LOG_WARN(north->log, "message of the platform is not understood", KV_STR("topic", topic), KV_Z("because", what));
}

static bool is_object(struct north *north, struct str topic, yyjson_val *root)
{
    if (!yyjson_is_obj(root))
        malformed(north, topic, "it is not an object");
    return yyjson_is_obj(root);
}

static void own_attributes_answer(struct north *north, struct str topic, yyjson_val *root)
{
    uint64_t id;
    struct request *request;

    if (str_to_u64(str_skip(topic, TOPIC_OWN_ATTRIBUTES_RESPONSE.n), &id))
        malformed(north, topic, "the topic does not end in a number");
    else if (is_object(north, topic, root) && (request = request_of(north, id, true)))
        answer(north, request, ERR_OK, root);
}

/* {"id":N,"device":D,"value":V} or "values":{…}, or neither; both forms are taken for what was asked under N. */
static void device_attributes_answer(struct north *north, struct str topic, yyjson_val *root)
{
    yyjson_val *value = json_get(root, STR("value")), *values = json_get(root, STR("values"));
    autobuf struct buf text = {0};
    struct request *request;
    yyjson_doc *doc;
    int64_t id;

    if (!is_object(north, topic, root))
        return;
    if (json_to_i64(json_get(root, STR("id")), &id) || id < 0) {
        malformed(north, topic, "it has no id");
        return;
    }
    request = request_of(north, (uint64_t)id, false);
    if (!request)
        return;
    if (yyjson_is_obj(values) && !(request->only_key && value)) {
        answer(north, request, ERR_OK, values);
        return;
    }
    if (value && request->only_key) {
        add_attribute(&text, str_from(request->only_key), "");
        json_add_value(&text, value);
        buf_add_u8(&text, '}');
    } else {
        buf_add_z(&text, "{}");
    }
    doc = yyjson_read((const char *)text.p, text.n, YYJSON_READ_NUMBER_AS_RAW);
    answer(north, request, ERR_OK, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
}

static void own_rpc(struct north *north, struct str topic, yyjson_val *root)
{
    struct str number = str_skip(topic, TOPIC_OWN_RPC_REQUEST.n);
    uint64_t id;

    if (str_to_u64(number, &id) || number.p[0] == '+' || number.n > 20)
        malformed(north, topic, "the topic does not end in a number");
    else if (north->events.own_rpc)
        north->events.own_rpc(north->arg, number, root);
}

static void firmware(struct north *north, struct str topic, struct str bytes)
{
    struct str rest = str_skip(topic, TOPIC_FIRMWARE_RESPONSE.n), number;
    uint64_t request, chunk;

    if (!str_split(&rest, '/', &number) || str_to_u64(number, &request) || !str_starts(rest, STR("chunk/")) ||
        str_to_u64(str_skip(rest, 6), &chunk))
        malformed(north, topic, "the topic does not name request and chunk");
    else if (north->events.firmware)
        north->events.firmware(north->arg, request, chunk, bytes);
}

static void message(struct north *north, struct str topic, yyjson_val *root)
{
    const struct north_events *events = &north->events;

    if (str_eq(topic, TOPIC_RPC)) {
        if (is_object(north, topic, root) && events->device_rpc)
            events->device_rpc(north->arg, root);
    } else if (str_starts(topic, TOPIC_OWN_RPC_REQUEST)) {
        own_rpc(north, topic, root);
    } else if (str_eq(topic, TOPIC_ATTRIBUTES)) {
        if (is_object(north, topic, root) && events->device_attributes)
            events->device_attributes(north->arg, root);
    } else if (str_eq(topic, TOPIC_ATTRIBUTES_RESPONSE)) {
        device_attributes_answer(north, topic, root);
    } else if (str_eq(topic, TOPIC_OWN_ATTRIBUTES)) {
        if (is_object(north, topic, root) && events->own_attributes)
            events->own_attributes(north->arg, root);
    } else if (str_starts(topic, TOPIC_OWN_ATTRIBUTES_RESPONSE)) {
        own_attributes_answer(north, topic, root);
    } else {
        LOG_DEBUG(north->log, "message of the platform that nobody waits for", KV_STR("topic", topic));
    }
}

static void take_message(struct north *north, const struct inbound *in)
{
    struct why why = {0};
    yyjson_doc *doc;

    if (str_starts(in->topic, TOPIC_FIRMWARE_RESPONSE)) { /* not JSON */
        firmware(north, in->topic, in->payload);
        return;
    }
    doc = json_read(in->payload, &why);
    if (!doc)
        malformed(north, in->topic, why_text(&why));
    if (doc || str_starts(in->topic, TOPIC_OWN_RPC_REQUEST)) /* its number is in the topic: who asked is told */
        message(north, in->topic, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
}

static void session_is_over(struct north *north)
{
    struct list *node;

    timer_stop(&north->timeout);
    while ((node = list_first(&north->requests)))
        answer(north, CONTAINER_OF(node, struct request, node), ERR_CLOSED, NULL);
}

static void take_state(struct north *north, enum uplink_state state)
{
    bool was_ready = north->state == UPLINK_READY;

    north->state = state;
    if (state == UPLINK_READY) {
        north->session++;
        north->last_id = 0;
        send_attributes(north, NULL);
    }
    if (was_ready)
        session_is_over(north);
    if (north->events.state)
        north->events.state(north->arg, state);
}

static void take(void *arg, struct node *nodes)
{
    struct north *north = arg;

    while (nodes) {
        struct inbound *in = CONTAINER_OF(nodes, struct inbound, node);

        nodes = nodes->next;
        if (in->status) {
            north->status = *in->status;
            north->status_ms = loop_mono_ms(north->main);
            mem_free(in->status);
        }
        switch (in->kind) {
        case INBOUND_MESSAGE:
            take_message(north, in);
            atomic_fetch_sub_explicit(&north->inbound_bytes, in->topic.n + in->payload.n + sizeof *in,
                                      memory_order_relaxed);
            break;
        case INBOUND_STATE:
            take_state(north, in->state);
            break;
        case INBOUND_STATUS:
            north->is_status_asked = false;
            break;
        }
        mem_free(in);
    }
}

struct uplink_status north_status(struct north *north)
{
    if (!north->is_status_asked && loop_mono_ms(north->main) - north->status_ms >= STATUS_MS) {
        struct outbound *out = mem_zero(sizeof *out);

        north->is_status_asked = true;
        out->wants_status = true;
        mailbox_post(&north->out, &out->node);
    }
    return north->status;
}

bool north_is_ready(const struct north *north)
{
    return north->state == UPLINK_READY;
}

/* --- life ---------------------------------------------------------------------------------------------------------------------- */

void north_attach_link(struct north *north, const struct north_link *link, void *arg)
{
    north->link = link;
    north->link_arg = arg;
}

struct north *north_new(struct loop *main, struct loop *uplink_loop, struct log *log, const struct north_events *events,
                        void *arg)
{
    struct north *north = mem_zero(sizeof *north);

    north->log = log;
    north->main = main;
    north->uplink_loop = uplink_loop;
    north->events = *events;
    north->arg = arg;
    mailbox_init(&north->in, main, take, north);
    mailbox_init(&north->out, uplink_loop, send_down, north);
    list_init(&north->requests);
    list_init(&north->failed);
    timer_init(&north->timeout, main, timeout_due, north);
    timer_init(&north->fail, main, fail_due, north);
    return north;
}

void north_stop(struct north *north)
{
    north->state = UPLINK_DOWN;
    session_is_over(north);
    while (!list_is_empty(&north->failed))
        fail_due(north);
}

static void requests_free(struct list *requests)
{
    struct list *node;

    while ((node = list_take_first(requests))) {
        struct request *request = CONTAINER_OF(node, struct request, node);

        mem_free(request->only_key);
        mem_free(request);
    }
}

void north_free(struct north *north)
{
    if (!north)
        return;
    for (struct node *node = queue_take(&north->in.queue), *next; node; node = next) {
        struct inbound *in = CONTAINER_OF(node, struct inbound, node);

        next = node->next;
        mem_free(in->status);
        mem_free(in);
    }
    for (struct node *node = queue_take(&north->out.queue), *next; node; node = next) {
        next = node->next;
        mem_free(CONTAINER_OF(node, struct outbound, node));
    }
    for (struct map_slot *slot = NULL; (slot = map_next(&north->attributes, slot));)
        attribute_free(slot->value);
    map_fini(&north->attributes);
    timer_stop(&north->timeout);
    timer_stop(&north->fail);
    requests_free(&north->requests);
    requests_free(&north->failed);
    mem_free(north);
}
