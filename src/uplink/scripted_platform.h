/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SCRIPTED_PLATFORM_H
#define IOTGW_SCRIPTED_PLATFORM_H
/* For deliver_test.c alone, after cmocka.h: the platform as a list of unanswered publications, a real store, a fake loop. */
#include "base/mem.h"
#include "base/slab.h"
#include "data/device.h"
#include "data/json.h"
#include "uplink/deliver.h"

#include <stdio.h>
#include <stdlib.h>

/*
 * The test is the platform: publications stand in a list until the test answers them. Every one is checked when it
 * arrives: a device's connect comes before its data in each session, values of a device come in order.
 */
enum { MAX_DEVICES = 64, ID_MAX = 65535 };

struct message {
    struct list node; /* unanswered */
    uint16_t id;
    bool is_resent, is_data;
    struct str topic;   /* constant */
    struct str payload; /* delivery's own bytes: they must not change */
    char *copy;
};

struct platform {
    struct list open;
    unsigned window, n_open, n_messages, n_data, n_connects, n_disconnects, n_own, n_closes, n_quotas, n_rejected,
        n_not_gateway, n_provoked;
    uint16_t next_id;
    bool is_up, is_v5, is_lax; /* lax: order is not checked */
    bool holds_rejects;        /* the test says when lines are durable */
    uint8_t qos;
    uint64_t queued, sent, last_in_ms;
    size_t max_packet;
    char connected[MAX_DEVICES];        /* in this session */
    int64_t last_seen[MAX_DEVICES];     /* newest value sent first */
    int64_t n_stored[MAX_DEVICES];      /* values acknowledged */
    unsigned char *stored[MAX_DEVICES]; /* how often value n was acknowledged */
    struct buf rejected, history;       /* history: payloads of data messages, a line each */
};

static struct platform pf;
static struct loop *loop;
static struct store *store;
static struct deliver *deliver;
static struct log test_log;
static struct limiter limiters[LIMIT_KINDS];
static struct device *devices[MAX_DEVICES];
static int64_t next_value[MAX_DEVICES];
static struct device *dropped_device;

enum { VALUES_MAX = 40000 };

static unsigned device_index(struct str name)
{
    for (unsigned i = 0; i < MAX_DEVICES; i++)
        if (devices[i] && str_eq(device_name(devices[i]), name))
            return i;
    fail_msg("unknown device " STR_FMT, STR_ARG(name));
    return 0;
}

static int64_t integer(yyjson_val *val)
{
    int64_t n = -1;

    assert_int_equal(json_to_i64(val, &n), ERR_OK);
    return n;
}

/* Calls fn for each value "n" of each device in a payload. */
static void each_value(struct str payload, bool is_list, void (*fn)(unsigned index, int64_t n, bool is_resent),
                       bool is_resent)
{
    yyjson_doc *doc = yyjson_read(payload.p, payload.n, 0);
    yyjson_obj_iter iter;
    yyjson_val *key;

    assert_non_null(doc);
    assert_true(yyjson_obj_size(yyjson_doc_get_root(doc)) > 0);
    yyjson_obj_iter_init(yyjson_doc_get_root(doc), &iter);
    while ((key = yyjson_obj_iter_next(&iter))) {
        yyjson_val *val = yyjson_obj_iter_get_val(key), *entry;
        unsigned index = device_index(json_str(key));
        yyjson_arr_iter entries;

        if (!is_list) {
            fn(index, -1, is_resent);
            continue;
        }
        assert_true(yyjson_arr_size(val) > 0);
        yyjson_arr_iter_init(val, &entries);
        while ((entry = yyjson_arr_iter_next(&entries)))
            fn(index, integer(yyjson_obj_get(yyjson_obj_get(entry, "values"), "n")), is_resent);
    }
    yyjson_doc_free(doc);
}

static void check_value(unsigned index, int64_t n, bool is_resent)
{
    assert_true(pf.connected[index]);
    if (n < 0 || pf.is_lax)
        return;
    if (!is_resent) {
        assert_true(n > pf.last_seen[index]);
        pf.last_seen[index] = n;
    }
}

static void store_value(unsigned index, int64_t n, bool is_resent)
{
    (void)is_resent;
    pf.n_stored[index]++;
    if (n >= 0)
        pf.stored[index][n]++;
}

static enum err on_publish(void *arg, struct str topic, struct str payload, uint8_t qos, bool is_resent, uint16_t *id)
{
    struct message *message;

    assert_ptr_equal(arg, &pf);
    if (!pf.is_up)
        return ERR_CLOSED;
    if (pf.n_open >= pf.window)
        return ERR_BUSY;
    if (pf.max_packet && payload.n > pf.max_packet)
        return ERR_LIMIT;
    pf.n_messages++;
    message = mem_zero(sizeof *message);
    message->id = qos ? (pf.next_id = (uint16_t)(pf.next_id % ID_MAX + 1)) : 0;
    message->is_resent = is_resent;
    message->payload = payload;
    message->copy = mem_new(payload.n + 1);
    memcpy(message->copy, payload.p, payload.n);
    message->copy[payload.n] = 0;
    *id = message->id;
    pf.queued += payload.n + 20;
    if (str_eq(topic, STR("v1/gateway/telemetry")) || str_eq(topic, STR("v1/gateway/attributes"))) {
        bool is_list = str_ends(topic, STR("telemetry"));

        message->is_data = true;
        message->topic = is_list ? STR("v1/gateway/telemetry") : STR("v1/gateway/attributes");
        pf.n_data++;
        each_value(payload, is_list, check_value, is_resent);
        buf_add_str(&pf.history, payload);
        buf_add_u8(&pf.history, '\n');
    } else {
        yyjson_doc *doc = yyjson_read(payload.p, payload.n, 0);
        yyjson_val *device = yyjson_obj_get(yyjson_doc_get_root(doc), "device");

        if (str_eq(topic, STR("v1/gateway/connect"))) {
            message->topic = STR("v1/gateway/connect");
            pf.connected[device_index(json_str(device))] = 1;
            pf.n_connects++;
        } else if (str_eq(topic, STR("v1/gateway/disconnect"))) {
            pf.connected[device_index(json_str(device))] = 0;
            pf.n_disconnects++;
        } else {
            pf.n_own++;
        }
        yyjson_doc_free(doc);
    }
    list_add_tail(&pf.open, &message->node);
    pf.n_open++;
    return ERR_OK;
}

static unsigned on_window(void *arg)
{
    (void)arg;
    return pf.is_up && pf.n_open < pf.window ? pf.window - pf.n_open : 0;
}

static uint64_t on_queued(void *arg)
{
    (void)arg;
    return pf.queued;
}

static uint64_t on_sent(void *arg)
{
    (void)arg;
    return pf.sent;
}

static uint64_t on_last_in(void *arg)
{
    (void)arg;
    return pf.last_in_ms;
}

static void on_provoke(void *arg)
{
    (void)arg;
    pf.n_provoked++;
}

static void on_close(void *arg, const char *reason)
{
    (void)arg;
    assert_non_null(reason);
    pf.n_closes++;
}

static void on_quota(void *arg)
{
    (void)arg;
    pf.n_quotas++;
}

static void on_not_gateway(void *arg)
{
    (void)arg;
    pf.n_not_gateway++;
}

static uint64_t on_rejected(void *arg, struct str line)
{
    yyjson_doc *doc = yyjson_read(line.p, line.n, 0);

    (void)arg;
    assert_non_null(doc);
    yyjson_doc_free(doc);
    pf.n_rejected++;
    buf_add_str(&pf.rejected, line);
    return pf.holds_rejects ? pf.n_rejected : 0;
}

static const struct deliver_link link_ops = {
    .publish = on_publish,
    .window = on_window,
    .queued = on_queued,
    .sent = on_sent,
    .last_in_ms = on_last_in,
    .provoke = on_provoke,
    .close = on_close,
    .quota = on_quota,
    .not_gateway = on_not_gateway,
    .rejected = on_rejected,
};

/* --- the platform's hand ---------------------------------------------------------------------------------------------- */

static void answer(struct message *message, uint8_t code)
{
    uint16_t id = message->id;

    assert_memory_equal(message->payload.p, message->copy, message->payload.n);
    if (code < 0x80 && message->is_data)
        each_value(message->payload, str_ends(message->topic, STR("telemetry")), store_value, false);
    list_del(&message->node);
    pf.n_open--;
    mem_free(message->copy);
    mem_free(message);
    pf.last_in_ms = loop_mono_ms(loop);
    if (id)
        deliver_acked(deliver, id, code);
}

static struct message *oldest(void)
{
    return list_is_empty(&pf.open) ? NULL : CONTAINER_OF(pf.open.next, struct message, node);
}

UNUSED static struct message *oldest_data(void)
{
    LIST_EACH(node, &pf.open) {
        struct message *message = CONTAINER_OF(node, struct message, node);

        if (message->is_data)
            return message;
    }
    return NULL;
}

static void answer_others(void)
{
    LIST_EACH_SAFE(node, &pf.open) {
        struct message *message = CONTAINER_OF(node, struct message, node);

        if (!message->is_data)
            answer(message, 0);
    }
    loop_advance(loop, 0);
}

static void forget_open(void)
{
    while (oldest()) {
        struct message *message = oldest();

        list_del(&message->node);
        mem_free(message->copy);
        mem_free(message);
    }
    pf.n_open = 0;
}

UNUSED static void disconnect(bool by_peer)
{
    pf.is_up = false;
    deliver_closed(deliver, by_peer);
    forget_open();
    memset(pf.connected, 0, sizeof pf.connected);
    loop_advance(loop, 0);
}

static void connect_again(void)
{
    pf.is_up = true;
    pf.next_id = 0;
    deliver_open(deliver, pf.is_v5, pf.qos);
    loop_advance(loop, 0);
}

/* Answers everything, in order, until nothing more comes. */
static void answer_all(void)
{
    for (unsigned i = 0; oldest(); i++) {
        answer(oldest(), 0);
        loop_advance(loop, 0);
        assert_true(i < 100000);
    }
}

/* --- set-up --------------------------------------------------------------------------------------------------------------- */

static void on_answer(struct batch *batch)
{
    assert_int_equal(batch->result, ERR_OK);
    mem_free(batch);
}

static void on_readable(void *arg)
{
    (void)arg;
    if (deliver)
        deliver_wake(deliver);
}

static void on_dropped(void *arg, struct device *dev)
{
    (void)arg;
    dropped_device = dev;
}

static const struct deliver_conf usual = {
    .qos = 1, .min_pack_delay_ms = 50, .min_pack_values = 1000000, .batch_devices = true};
static unsigned n_tests;

static void open_all(const struct deliver_conf *conf, size_t payload_bytes, unsigned window, bool is_v5)
{
    static const struct store_events events = {.readable = on_readable, .dropped = on_dropped};
    struct memory_conf memory = {.max_events = 1000000};
    struct deliver_limits limits = {.payload_bytes = payload_bytes, .window = window};

    store_answer_fn = on_answer;
    log_init(&test_log, "test", LOG_LEVEL_OFF);
    memset(&pf, 0, sizeof pf);
    memset(limiters, 0, sizeof limiters);
    memset(next_value, 0, sizeof next_value);
    list_init(&pf.open);
    pf.window = 1000;
    pf.is_v5 = is_v5;
    pf.qos = conf->qos;
    n_tests++;
    for (uint32_t i = 0; i < device_count(); i++) /* what former tests have announced */
        device_at(i)->announced = 0;
    for (unsigned i = 0; i < MAX_DEVICES; i++) {
        char name[32];

        snprintf(name, sizeof name, "t%u device %u", n_tests, i);
        devices[i] = device_get(str_from(name));
        pf.last_seen[i] = -1;
        pf.stored[i] = mem_zero(VALUES_MAX);
    }
    loop = loop_new_fake(1700000000000);
    store = store_memory_new(loop, &memory, &events, NULL);
    deliver = deliver_new(loop, &test_log, conf, limiters, &link_ops, &pf);
    deliver_attach(deliver, store);
    deliver_set_limits(deliver, &limits);
    connect_again();
}

static void close_all(void)
{
    forget_open();
    deliver_free(deliver);
    deliver = NULL;
    store_free(store);
    loop_free(loop);
    for (unsigned i = 0; i < MAX_DEVICES; i++)
        mem_free(pf.stored[i]);
    buf_fini(&pf.rejected);
    buf_fini(&pf.history);
    log_fini(&test_log);
    assert_int_equal(slab_in_use(), 0);
}

static struct batch *new_batch(void)
{
    struct batch *batch = mem_zero(sizeof *batch);

    batch->bytes = slab_get();
    batch->cap = SLAB_SIZE;
    batch->can_wait = true;
    return batch;
}

static struct record *add_record(struct batch *batch, unsigned index, enum record_kind kind, const char *body,
                                 unsigned n_values)
{
    struct device *dev = devices[index];
    size_t n = strlen(body);
    struct record *record = (struct record *)(void *)(batch->bytes + batch->n_bytes);

    assert_true(batch->n_bytes + record_size(dev->name_n, 0, n) <= batch->cap);
    *record = (struct record){.ts = 1700000000000 + batch->n_events,
                              .dev = dev->number,
                              .n_values = (uint16_t)n_values,
                              .flags = RECORD_END,
                              .kind = (uint16_t)kind,
                              .name_n = dev->name_n};
    memcpy(record + 1, dev->name, dev->name_n);
    memcpy((char *)(record + 1) + dev->name_n, body, n);
    record_seal(record, n);
    batch->n_bytes += record->size;
    batch->n_events++;
    batch->n_values += n_values;
    return record;
}

/* n events of one value each; those with poison: a text the platform does not like. */
static void push(unsigned index, unsigned n, const char *extra)
{
    struct batch *batch = new_batch();
    char body[600];

    for (unsigned i = 0; i < n; i++) {
        snprintf(body, sizeof body, "\"n\":%lld%s", (long long)next_value[index]++, extra);
        if (batch->n_bytes + 700 > batch->cap) {
            store_append(store, batch);
            batch = new_batch();
        }
        add_record(batch, index, RECORD_TELEMETRY, body, extra[0] ? 2 : 1);
    }
    store_append(store, batch);
}

UNUSED static void push_state(unsigned index, bool is_connect)
{
    struct batch *batch = new_batch();
    uint32_t number = atomic_load(&devices[index]->state_number) + 1;

    atomic_store(&devices[index]->state_number, number);
    atomic_store(&devices[index]->link, is_connect ? DEVICE_LINK_UP : DEVICE_LINK_DOWN);
    struct record *record = add_record(batch, index, is_connect ? RECORD_CONNECT : RECORD_DISCONNECT, "", 0);

    record->ts = number;
    record_seal(record, 0);
    store_append(store, batch);
}

/* appended = delivered + waiting + dropped + rejected, in total and per device. */
static void check_ledger(void)
{
    struct store_stats stats = store_stats(store);
    uint64_t delivered = 0, rejected = 0, appended = 0;

    for (unsigned i = 0; i < MAX_DEVICES; i++) {
        const struct device *dev = devices[i];

        appended += atomic_load(&dev->n_appended);
        delivered += atomic_load(&dev->n_delivered);
        rejected += atomic_load(&dev->n_rejected);
        assert_true(atomic_load(&dev->n_appended) >=
                    atomic_load(&dev->n_delivered) + atomic_load(&dev->n_rejected) + atomic_load(&dev->n_overflowed));
    }
    assert_int_equal(appended, stats.n_appended_values);
    assert_int_equal(deliver_stats(deliver).n_values, delivered);
    assert_int_equal(deliver_stats(deliver).n_rejected_values, rejected);
    assert_true(stats.n_values >= appended - delivered - rejected - stats.n_dropped_values);
    if (deliver_is_idle(deliver))
        assert_int_equal(appended, delivered + rejected + stats.n_dropped_values);
}

static void check_stored(unsigned index, int64_t n, unsigned times)
{
    for (int64_t i = 0; i < n; i++)
        assert_int_equal(pf.stored[index][i], times);
}
#endif
