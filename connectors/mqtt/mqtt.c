/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Life cycle of the MQTT connector: one supervised connection to the broker, its subscriptions, and the way of a message:
 *
 *     .message → ring entry → converters → ctx (batch) → store → .done → acknowledged prefix of the ring → PUBACK/PUBREC
 *
 *     IDLE ──start──► CONNECTING ──CONNACK──► SUBSCRIBING ──SUBACK──► UP
 *                       ▲   │                     │                    │
 *                       │   └──────── closed ─────┴────── closed ──────┤  (CLOSING: by our will, after a failed store)
 *                       └── pause ── WAITING ◄─────────────────────────┘      any ──stop──► STOPPED
 *
 * The way down: .command → mqtt_down.c → outbox or RPC → the broker; questions of devices: .message → ask → .attributes → outbox.
 *
 * What is received while there is no credit, or more than maxMessageQueue messages are unacknowledged, stays in the
 * socket: the broker queues or drops it by its own limits.
 */
#include "base/map.h"
#include "build_id.h"
#include "connector/ackring.h"
#include "connector/ctx.h"
#include "io/backoff.h"
#include "io/retry.h"
#include "mqtt/mqtt.h"
#include "mqtt/topic.h"
#include "mqtt_ask.h"
#include "mqtt_browse.h"
#include "mqtt_convert.h"
#include "mqtt_dry.h"
#include "mqtt_rpc.h"

#include <sys/random.h>

enum {
    RECEIVE_MAXIMUM = 1000,
    TOPIC_ALIAS_MAXIMUM = 100,
    ACK_TIMEOUT_MS = 10000,
    QUIESCE_MS = 1900,
    REFUSED_PAUSE_MS = 60000, /* a wrong password or certificate does not mend by itself (core.md 5.4) */
    CLIENT_ID_N = 23,         /* what MQTT 3.1 allows */
    FILTERS_PER_PACKET = 65535,
    NOT_GRANTED = 0x80
};

enum link { IDLE, WAITING, CONNECTING, SUBSCRIBING, UP, CLOSING, STOPPED };

/* A SUBSCRIBE that is not answered yet: which filters. */
struct asked {
    uint16_t packet_id;
    unsigned first, n;
};

struct connector {
    struct ctx *ctx;
    const struct mqtt_file *file;
    struct mqtt *mqtt;
    struct mqtt_conf conf;
    char client_id[CLIENT_ID_N];
    char host[256];

    enum link link;
    struct backoff backoff;
    struct retry retry;  /* next attempt; when stopping: leaves the call stack */
    bool has_subscribed; /* since the program started: a resumed session may hold another file's filters */
    struct mqtt_filter *filters;
    struct asked *asked;
    unsigned n_asked, n_refused;
    uint8_t *granted; /* by filter: quality of service; NOT_GRANTED: refused, or not answered yet */

    struct outbox outbox;
    struct rpcs rpcs;
    struct asks asks;
    struct arena arena; /* of one attribute update */

    struct convert_out out; /* of the converter */
    struct mqtt_converter *converter;
    struct ackring ring;
    uint64_t max_unacknowledged;
    bool has_finished; /* since the last acknowledgements */
    bool is_without_room, is_full, is_quiet;
    bool is_paused;
    uint64_t n_messages, n_bytes; /* of the burst */
    struct convert_counts counted;

    struct mqtt_browse *browse; /* NULL: nobody has asked for one */
    connector_done_fn *quiet_done, *stop_done;
    void *quiet_arg, *stop_arg;
    struct timer quiet_timer;
};

static struct connector *connector_of(struct convert_out *out)
{
    return CONTAINER_OF(out, struct connector, out);
}

/* --- back-pressure ------------------------------------------------------------------------------------------------------ */

static void set_pause(struct connector *self)
{
    bool pause = self->is_without_room || self->is_full || self->is_quiet;

    if (pause == self->is_paused)
        return;
    self->is_paused = pause;
    if (pause)
        mqtt_pause(self->mqtt);
    else
        mqtt_resume(self->mqtt);
}

static uint64_t n_unacknowledged(const struct connector *self)
{
    return self->ring.next - self->ring.first;
}

/* --- acknowledgement ---------------------------------------------------------------------------------------------------- */

static void acknowledge(struct connector *self)
{
    struct ack_entry entry;

    self->has_finished = false;
    while (ackring_take(&self->ring, &entry))
        mqtt_ack(self->mqtt, entry.qos, entry.packet_id, 0);
    if (self->is_full && n_unacknowledged(self) <= self->max_unacknowledged / 2) {
        self->is_full = false;
        set_pause(self);
    }
}

static void end_quiesce(struct connector *self)
{
    connector_done_fn *done = self->quiet_done;

    self->quiet_done = NULL;
    timer_stop(&self->quiet_timer);
    done(self->quiet_arg);
}

static void quiet_timer_fired(void *arg)
{
    end_quiesce(arg);
}

static void connector_done(void *arg, uint64_t cookie, enum err result)
{
    struct connector *self = arg;

    if (result == ERR_OK || result == ERR_FULL) { /* FULL: dropped by the operator's choice, and counted */
        ackring_finish_to(&self->ring, cookie);
        acknowledge(self);
    } else if (self->link == UP || self->link == SUBSCRIBING) {
        /* What is not stored is not acknowledged; the broker gives it again to a new connection. */
        LOG_ERROR(ctx_log(self->ctx), "messages were not stored, connection is made anew", KV_ERR(result));
        self->link = CLOSING;
        mqtt_disconnect(self->mqtt, 0);
    }
    if (self->quiet_done && ctx_is_idle(self->ctx))
        timer_start(&self->quiet_timer, 0);
}

static void connector_room(void *arg)
{
    struct connector *self = arg;

    self->is_without_room = false;
    set_pause(self);
}

/* --- messages ------------------------------------------------------------------------------------------------------------- */

static struct event *begin_event(struct convert_out *out, struct device *dev, struct str profile)
{
    return ctx_event(connector_of(out)->ctx, dev, profile);
}

static enum err end_event(struct convert_out *out)
{
    return ctx_put(connector_of(out)->ctx);
}

static void connect_device(struct convert_out *out, struct device *dev, struct str profile)
{
    ctx_connect(connector_of(out)->ctx, dev, profile);
}

static void disconnect_device(struct convert_out *out, struct device *dev)
{
    struct connector *self = connector_of(out);

    if (atomic_load_explicit(&dev->owner, memory_order_relaxed) == self->ctx)
        ctx_disconnect(self->ctx, dev);
    else
        LOG_INFO(ctx_log(self->ctx), "disconnect of a device that is not known here",
                 KV_STR("device", device_name(dev)));
}

static void log_dropped(struct convert_out *out, const struct entry *entry, enum drop_cause cause, struct str topic,
                        struct str detail, uint64_t count)
{
    static const struct log_place place = {__FILE__, __func__, __LINE__};
    struct log *log = ctx_converter_log(connector_of(out)->ctx);
    const struct kv kvs[] = {KV_Z("cause", drop_cause_text(cause)), KV_STR("topicFilter", entry->filter),
                             KV_STR("topic", topic), KV_UINT("count", count), KV_STR("reason", detail)};

    if (LOG_LEVEL_WARN >= atomic_load_explicit(&log->level, memory_order_relaxed))
        log_write_at(log, LOG_LEVEL_WARN, "left out of a message", kvs, COUNT_OF(kvs) - (detail.n == 0), &place);
}

static void ask_attributes(struct convert_out *out, const struct attribute_request *section, struct device *dev,
                           const struct attribute_question *question)
{
    asks_begin(&connector_of(out)->asks, section, dev, question);
}

static void on_message(void *arg, const struct mqtt_message *message)
{
    struct connector *self = arg;
    uint64_t seq = message->qos ? ackring_add(&self->ring, message->packet_id, message->qos) : 0;
    unsigned n, matched;

    /* A response is offered to the mappings too, but they need not understand it. */
    self->out.is_silent = UNLIKELY(rpcs_are_listening(&self->rpcs)) && rpcs_take(&self->rpcs, message);
    self->n_messages++;
    self->n_bytes += message->topic.n + message->payload_n;
    ctx_wire(self->ctx, false, message->topic, str_of(message->payload, message->payload_n));
    n = mqtt_convert(self->converter, &self->out, message->topic, str_of(message->payload, message->payload_n),
                     ctx_today_ms(self->ctx), loop_mono_ms(ctx_loop(self->ctx)), &matched);
    if (UNLIKELY(!matched && !self->out.is_silent))
        LOG_DEBUG(ctx_log(self->ctx), "no entry for this topic", KV_STR("topic", message->topic));
    if (n) {
        /* A QoS 0 message has no entry: it rides on the one before it. */
        if (UNLIKELY(!ctx_mark(self->ctx, self->ring.next - 1)))
            self->is_without_room = true;
    } else if (seq) {
        ackring_finish(&self->ring, seq);
        self->has_finished = true;
    }
    if (UNLIKELY(n_unacknowledged(self) >= self->max_unacknowledged))
        self->is_full = true;
    if (UNLIKELY(self->is_without_room || self->is_full))
        set_pause(self);
}

static void count_burst(struct connector *self)
{
    const struct convert_counts *now = mqtt_converter_counts(self->converter);

    ctx_count(self->ctx, IOTGW_MESSAGES_IN, self->n_messages);
    ctx_count(self->ctx, IOTGW_BYTES_IN, self->n_bytes);
    ctx_count(self->ctx, IOTGW_CONVERTED, now->n_converted - self->counted.n_converted);
    ctx_count(self->ctx, IOTGW_DROPPED, now->n_dropped - self->counted.n_dropped);
    ctx_count(self->ctx, IOTGW_CONVERSION_ERRORS, now->n_errors - self->counted.n_errors);
    ctx_count(self->ctx, IOTGW_FALLBACKS, now->n_fallbacks - self->counted.n_fallbacks);
    self->counted = *now;
    self->n_messages = self->n_bytes = 0;
}

/* --- the way down --------------------------------------------------------------------------------------------------------- */

static void on_acked(void *arg, uint16_t packet_id, uint8_t code)
{
    struct connector *self = arg;

    outbox_acked(&self->outbox, packet_id, code);
}

static void on_writable(void *arg)
{
    struct connector *self = arg;

    outbox_pump(&self->outbox);
}

struct cover {
    const struct connector *self;
    struct str topic;
    uint8_t qos;
    bool found;
};

static void look_for_cover(void *arg, void *value)
{
    struct cover *cover = arg;
    const struct entry *entry = value;
    uint8_t granted = cover->self->granted[entry->filter_index];

    if (granted != NOT_GRANTED && !str_starts(entry->filter, STR("$share/")))
        cover->found |= granted >= cover->qos || str_eq(entry->filter, cover->topic);
}

/* Subscribed once more, a broker may give each message twice; and unsubscribed, the connector's own filter would be gone. */
static bool is_covered(void *arg, struct str topic, uint8_t qos)
{
    const struct connector *self = arg;
    struct cover cover = {self, topic, qos, false};

    topic_trie_match(self->file->plan->trie, topic, look_for_cover, &cover);
    return cover.found;
}

struct update {
    struct down_out out;
    struct connector *self;
    struct str device;
};

static void post_update(struct down_out *out, const struct down_message *message)
{
    outbox_post(&CONTAINER_OF(out, struct update, out)->self->outbox, message, true);
}

static void log_update(struct down_out *out, struct str key, const struct why *why)
{
    struct update *update = CONTAINER_OF(out, struct update, out);

    LOG_ERROR(ctx_log(update->self->ctx), "attribute update cannot be published", KV_STR("device", update->device),
              KV_STR("key", key), KV_WHY(why));
}

static void update_attributes(struct connector *self, struct command *command)
{
    struct update update = {.out = {.publish = post_update, .failed = log_update},
                            .self = self,
                            .device = command->dev ? device_name(command->dev) : STR_NONE};
    struct why why = {0};
    yyjson_doc *doc = json_read(command->params, &why);
    enum err err = doc ? ERR_OK : ERR_SYNTAX;

    arena_reset(&self->arena);
    if (!doc)
        LOG_WARN(ctx_log(self->ctx), "attribute update is not understood", KV_STR("device", update.device),
                 KV_WHY(&why));
    else if (!down_attributes(self->file, update.device, yyjson_doc_get_root(doc), &self->arena, &update.out))
        LOG_DEBUG(ctx_log(self->ctx), "no entry for attribute updates of this device", KV_STR("device", update.device));
    yyjson_doc_free(doc);
    ctx_host_functions.reply(self->ctx, command, err, STR_NONE);
}

static void connector_command(void *arg, struct command *command)
{
    struct connector *self = arg;

    switch (command->kind) {
    case COMMAND_RPC:
        rpcs_command(&self->rpcs, command, self->is_paused);
        break;
    case COMMAND_ATTRIBUTES:
        update_attributes(self, command);
        break;
    }
}

static void connector_attributes(void *arg, uint64_t cookie, enum err result, struct str json)
{
    struct connector *self = arg;

    asks_answer(&self->asks, cookie, result, json);
}

/* What the file names by a filter that is not a plain name can only be had by asking for all. */
static bool connector_shared_keys(void *arg, struct device *dev, void (*add)(void *add_arg, struct str key),
                                  void *add_arg)
{
    struct connector *self = arg;

    return down_shared_keys(self->file, device_name(dev), add, add_arg);
}

static void on_burst(void *arg)
{
    struct connector *self = arg;

    count_burst(self);
    if (self->has_finished)
        acknowledge(self);
    outbox_pump(&self->outbox);
}

/* --- connection ----------------------------------------------------------------------------------------------------------- */

static void tell(struct connector *self, enum link_state state, const char *reason)
{
    ctx_state(self->ctx, STR_NONE, state, str_from(reason));
}

static void attempt(struct connector *self)
{
    self->link = CONNECTING;
    tell(self, LINK_CONNECTING, "");
    mqtt_connect(self->mqtt, &self->conf);
}

static void end_stop(struct connector *self)
{
    self->link = STOPPED;
    self->stop_done(self->stop_arg);
}

static void retry_due(void *arg)
{
    struct connector *self = arg;

    if (self->stop_done)
        end_stop(self);
    else
        attempt(self);
}

static void all_subscribed(struct connector *self)
{
    char reason[80];

    self->link = UP;
    self->has_subscribed = true;
    if (!self->n_refused) {
        tell(self, LINK_UP, "");
        return;
    }
    snprintf(reason, sizeof reason, "the broker refuses %u of %u subscriptions", self->n_refused,
             self->file->plan->n_filters);
    tell(self, LINK_DEGRADED, reason);
}

/* One packet for all filters; several only where the broker does not take one so large. */
static enum err subscribe(struct connector *self, unsigned first, unsigned n)
{
    uint16_t packet_id;
    enum err err =
        n <= FILTERS_PER_PACKET ? mqtt_subscribe(self->mqtt, self->filters + first, n, &packet_id) : ERR_LIMIT;

    if (err == ERR_LIMIT && n > 1) {
        err = subscribe(self, first, n / 2);
        return err ? err : subscribe(self, first + n / 2, n - n / 2);
    }
    if (!err)
        self->asked[self->n_asked++] = (struct asked){packet_id, first, n};
    return err;
}

static void come_up(struct connector *self, bool session_present)
{
    rpcs_up(&self->rpcs, session_present);
    outbox_up(&self->outbox, session_present);
}

static void on_connected(void *arg, const struct mqtt_connack *connack)
{
    struct connector *self = arg;
    const struct mqtt_plan *plan = self->file->plan;
    enum err err = ERR_OK;

    backoff_up(&self->backoff, loop_mono_ms(ctx_loop(self->ctx)));
    self->link = SUBSCRIBING;
    self->n_asked = 0;
    if (connack->session_present &&
        self->has_subscribed) { /* the broker kept the subscriptions, and what it said of them */
        all_subscribed(self);
        come_up(self, true);
        return;
    }
    self->n_refused = 0;
    memset(self->granted, NOT_GRANTED, plan->n_filters);
    if (plan->n_filters)
        err = subscribe(self, 0, plan->n_filters);
    if (err) {
        LOG_ERROR(ctx_log(self->ctx), "subscriptions could not be sent", KV_ERR(err));
        self->link = CLOSING;
        mqtt_disconnect(self->mqtt, 0);
        return;
    }
    if (!self->n_asked)
        all_subscribed(self);
    come_up(self, connack->session_present);
}

static void take_code(struct connector *self, unsigned i, uint8_t code)
{
    const struct mqtt_filter *filter = &self->filters[i];

    self->granted[i] = code < 0x80 ? code : NOT_GRANTED;
    if (code >= 0x80) {
        self->n_refused++;
        LOG_ERROR(ctx_log(self->ctx), "subscription refused by the broker", KV_STR("topicFilter", filter->filter),
                  KV_Z("reason", mqtt_reason_text(self->conf.version, false, code)));
    } else if (code < filter->qos) {
        LOG_WARN(ctx_log(self->ctx), "subscription granted with a lower quality of service",
                 KV_STR("topicFilter", filter->filter), KV_UINT("asked", filter->qos), KV_UINT("granted", code));
    }
}

static void on_subscribed(void *arg, uint16_t packet_id, const uint8_t *codes, size_t n)
{
    struct connector *self = arg;
    unsigned i = 0;

    while (i < self->n_asked && self->asked[i].packet_id != packet_id)
        i++;
    if (i == self->n_asked) {
        rpcs_subscribed(&self->rpcs, packet_id, codes, n);
        return;
    }
    if (n != self->asked[i].n) {
        LOG_ERROR(ctx_log(self->ctx), "the broker answers to another number of subscriptions", KV_UINT("answers", n),
                  KV_UINT("asked", self->asked[i].n));
        self->n_refused++;
    }
    for (size_t k = 0; k < n && k < self->asked[i].n; k++)
        take_code(self, self->asked[i].first + (unsigned)k, codes[k]);
    self->asked[i] = self->asked[--self->n_asked];
    if (!self->n_asked)
        all_subscribed(self);
}

static void on_closed(void *arg, enum err err, const struct why *why)
{
    struct connector *self = arg;
    uint64_t pause_ms;
    bool is_hopeless = err == ERR_AUTH || err == ERR_TLS;

    count_burst(self);
    ackring_reset(&self->ring); /* the broker gives them again, or they were QoS 0 */
    self->has_finished = false;
    self->is_full = false;
    set_pause(self);
    outbox_down(&self->outbox);
    rpcs_down(&self->rpcs);
    if (self->stop_done) {
        retry_start_deaf(&self->retry, 0);
        return;
    }
    if (self->link != CONNECTING)
        ctx_count(self->ctx, IOTGW_RECONNECTS, 1);
    self->link = WAITING;
    tell(self, is_hopeless ? LINK_FAILED : LINK_DOWN, err == ERR_OK ? "closed to connect anew" : why_text(why));
    pause_ms = backoff_next(&self->backoff, loop_mono_ms(ctx_loop(self->ctx)));
    if (is_hopeless)
        retry_start_deaf(&self->retry, pause_ms < REFUSED_PAUSE_MS ? REFUSED_PAUSE_MS : pause_ms);
    else
        retry_start(&self->retry, pause_ms);
}

/* --- the contract ----------------------------------------------------------------------------------------------------------- */

static void make_conf(struct connector *self)
{
    const struct mqtt_broker *broker = self->file->broker;
    const struct mqtt_security *security = broker->security;
    uint32_t bound = broker->max_queue < broker->max_processing ? broker->max_queue : broker->max_processing;

    memcpy(self->host, broker->host.p, broker->host.n);
    self->max_unacknowledged = bound;
    self->conf = (struct mqtt_conf){
        .stream = {.host = self->host,
                   .port = (uint16_t)broker->port,
                   .tls = {.is_on = security->is_tls,
                           .insecure = security->insecure,
                           .ca_file = security->ca_file,
                           .cert_file = security->cert_file,
                           .key_file = security->key_file}},
        .version = (enum mqtt_version)broker->version,
        .client_id = broker->client_id,
        .username = security->username.value,
        .password = security->username.value.p ? security->password.value : STR_NONE,
        .keep_alive_s = (uint16_t)broker->keep_alive_s,
        .clean_start = broker->version == MQTT_5 ? broker->clean_start : broker->clean_session,
        .session_expiry_s = broker->session_expiry_s,
        .receive_maximum = (uint16_t)(bound < RECEIVE_MAXIMUM ? bound : RECEIVE_MAXIMUM),
        .topic_alias_maximum = TOPIC_ALIAS_MAXIMUM,
        .ack_timeout_ms = ACK_TIMEOUT_MS,
    };
    if (!broker->client_id.p) {
        uint8_t random[CLIENT_ID_N];

        if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
            memset(random, 0, sizeof random); /* cannot happen for so few bytes once the system is up */
        for (unsigned i = 0; i < CLIENT_ID_N; i++)
            self->client_id[i] = (char)('a' + random[i] % 26);
        self->conf.client_id = str_of(self->client_id, CLIENT_ID_N);
    }
}

static enum err connector_open(void *arg, struct ctx *ctx, const void *conf, struct why *why)
{
    static const struct mqtt_events events = {.connected = on_connected,
                                              .closed = on_closed,
                                              .message = on_message,
                                              .burst = on_burst,
                                              .acked = on_acked,
                                              .subscribed = on_subscribed,
                                              .writable = on_writable};
    struct connector *self = arg;
    const struct mqtt_plan *plan;

    (void)why;
    self->ctx = ctx;
    self->file = conf;
    plan = self->file->plan;
    make_conf(self);
    self->filters = mem_zero((plan->n_filters + 1) * sizeof *self->filters);
    self->asked = mem_zero((plan->n_filters + 1) * sizeof *self->asked);
    self->granted = mem_zero(plan->n_filters + 1);
    memset(self->granted, NOT_GRANTED, plan->n_filters);
    for (unsigned i = 0; i < plan->n_filters; i++)
        self->filters[i] = (struct mqtt_filter){.filter = plan->filters[i].filter, .qos = plan->filters[i].qos};
    self->out = (struct convert_out){.begin = begin_event,
                                     .end = end_event,
                                     .connect = connect_device,
                                     .disconnect = disconnect_device,
                                     .dropped = log_dropped,
                                     .ask = ask_attributes};
    self->converter = mqtt_converter_new(plan);
    ackring_init(&self->ring);
    retry_init(&self->retry, ctx_loop(ctx), retry_due, self);
    timer_init(&self->quiet_timer, ctx_loop(ctx), quiet_timer_fired, self);
    backoff_init(&self->backoff, (uint64_t)(uintptr_t)self ^ loop_mono_ms(ctx_loop(ctx)));
    self->mqtt = mqtt_new(ctx_loop(ctx), ctx_log(ctx), &events, self);
    arena_init(&self->arena, 4096);
    outbox_init(&self->outbox, ctx, self->mqtt, self->file->broker->version);
    rpcs_init(&self->rpcs, ctx, self->mqtt, &self->outbox, self->file);
    self->rpcs.is_covered = is_covered;
    self->rpcs.arg = self;
    asks_init(&self->asks, ctx, &self->outbox);
    return ERR_OK;
}

static void connector_close(void *arg)
{
    struct connector *self = arg;

    if (!self->ctx)
        return;
    mqtt_browse_free(self->browse);
    retry_stop(&self->retry);
    timer_stop(&self->quiet_timer);
    asks_fini(&self->asks);
    rpcs_fini(&self->rpcs);
    outbox_fini(&self->outbox);
    arena_fini(&self->arena);
    mqtt_free(self->mqtt);
    mqtt_converter_free(self->converter);
    ackring_fini(&self->ring);
    mem_free(self->filters);
    mem_free(self->asked);
    mem_free(self->granted);
}

static void connector_start(void *arg)
{
    struct connector *self = arg;

    attempt(self);
}

static void connector_probe(void *arg)
{
    struct connector *self = arg;

    self->browse = mqtt_browse_new(self->ctx, &self->conf);
    mqtt_browse_probe(self->browse);
}

static enum err connector_browse(void *arg, struct str path, void *request, struct why *why)
{
    struct connector *self = arg;

    if (self->browse)
        return why_set(why, ERR_BUSY, "another look at the broker goes on");
    self->browse = mqtt_browse_new(self->ctx, &self->conf);
    return mqtt_browse_listen(self->browse, path, request, why);
}

static void connector_quiesce(void *arg, connector_done_fn *done, void *done_arg)
{
    struct connector *self = arg;

    self->is_quiet = true;
    set_pause(self);
    ctx_flush(self->ctx);
    self->quiet_done = done;
    self->quiet_arg = done_arg;
    timer_start(&self->quiet_timer, ctx_is_idle(self->ctx) ? 0 : QUIESCE_MS);
}

static void stop_connection(void *arg)
{
    struct connector *self = arg;
    enum link before = self->link;

    if (before == CONNECTING || before == SUBSCRIBING || before == UP || before == CLOSING)
        mqtt_disconnect(self->mqtt, 0);
    else
        retry_start_deaf(&self->retry, 0);
}

static void connector_stop(void *arg, connector_done_fn *done, void *done_arg)
{
    struct connector *self = arg;

    if (self->quiet_done)
        end_quiesce(self);
    self->stop_done = done;
    self->stop_arg = done_arg;
    rpcs_stop(&self->rpcs);
    if (self->browse)
        mqtt_browse_stop(self->browse, stop_connection, self);
    else
        stop_connection(self);
}

const struct connector_type iotgw_module = {
    .size = sizeof(struct connector_type),
    .abi = IOTGW_CONNECTOR_ABI,
    .name = "mqtt",
    .title = "MQTT broker",
    .build_id = IOTGW_BUILD_ID,
    .conf = &mqtt_conf_type,
    .state_size = sizeof(struct connector),
    .flags = CONNECTOR_NO_LINKS,
    .open = connector_open,
    .close = connector_close,
    .start = connector_start,
    .quiesce = connector_quiesce,
    .stop = connector_stop,
    .room = connector_room,
    .done = connector_done,
    .command = connector_command,
    .attributes = connector_attributes,
    .shared_keys = connector_shared_keys,
    .convert = mqtt_dry_run,
    .browse = connector_browse,
    .probe = connector_probe,
};
