/* SPDX-License-Identifier: Apache-2.0 */
#include "mqtt_rig.h"

#include "base/slab.h"
#include "mqtt_convert.h"

#include <stdio.h>

enum { TICK_MS = 1, LIMIT_MS = 20000 };

/* --- broker ------------------------------------------------------------------------------------------------------------- */

static void send_buf(struct peer *peer, struct buf *buf)
{
    stream_write(peer->stream, buf->p, buf->n, true);
    buf_fini(buf);
}

static void note(char *out, size_t size, struct str s)
{
    snprintf(out, size, STR_FMT, STR_ARG(s));
}

static void answer_connect(struct peer *peer, struct str body)
{
    struct buf buf = {0};

    assert_int_equal(mqtt_read_connect(&peer->connect, body, NULL), ERR_OK);
    snprintf(peer->client_id, sizeof peer->client_id, "%.*s", STR_ARG(peer->connect.client_id));
    snprintf(peer->username, sizeof peer->username, "%.*s", STR_ARG(peer->connect.username));
    peer->n_connects++;
    mqtt_put_connack(&buf, MQTT_5, peer->session_present, peer->connack, 0, 0, STR_NONE);
    send_buf(peer, &buf);
}

static void answer_subscribe(struct peer *peer, struct str body)
{
    struct mqtt_subscribe_reader reader;
    struct mqtt_filter filter;
    struct buf buf = {0};
    uint8_t codes[16];
    unsigned n = 0;

    assert_int_equal(mqtt_read_subscribe(&reader, MQTT_5, false, body), ERR_OK);
    while (mqtt_next_filter(&reader, &filter)) {
        peer->subscribed_qos = filter.qos;
        codes[n++] = peer->suback ? peer->suback : filter.qos;
        note(peer->subscribed, sizeof peer->subscribed, filter.filter);
    }
    peer->n_subscribes++;
    peer->n_filters = n;
    peer->subscribe_id = reader.packet_id;
    if (peer->keeps_subacks)
        return;
    mqtt_put_suback(&buf, MQTT_5, false, reader.packet_id, codes, n);
    send_buf(peer, &buf);
}

static void answer_unsubscribe(struct peer *peer, struct str body)
{
    struct mqtt_subscribe_reader reader;
    struct mqtt_filter filter;
    struct buf buf = {0};
    const uint8_t code = 0;

    assert_int_equal(mqtt_read_subscribe(&reader, MQTT_5, true, body), ERR_OK);
    while (mqtt_next_filter(&reader, &filter))
        note(peer->unsubscribed, sizeof peer->unsubscribed, filter.filter);
    peer->n_unsubscribed++;
    mqtt_put_suback(&buf, MQTT_5, true, reader.packet_id, &code, 1);
    send_buf(peer, &buf);
}

static void send_puback(struct peer *peer, uint16_t packet_id, uint8_t code)
{
    struct buf buf = {0};

    mqtt_put_ack(&buf, MQTT_5, MQTT_PUBACK, packet_id, code);
    send_buf(peer, &buf);
}

static void take_publish(struct peer *peer, uint8_t first, struct str body)
{
    struct mqtt_publish_packet packet;
    struct published *published = &peer->published[peer->n_published];

    assert_int_equal(mqtt_read_publish(&packet, MQTT_5, first, body, NULL), ERR_OK);
    assert_true(peer->n_published < MAX_NOTES);
    *published = (struct published){.qos = packet.message.qos,
                                    .retain = packet.message.retain,
                                    .dup = packet.message.dup,
                                    .packet_id = packet.message.packet_id};
    note(published->topic, sizeof published->topic, packet.message.topic);
    note(published->payload, sizeof published->payload, str_of(packet.message.payload, packet.message.payload_n));
    peer->n_published++;
    if (packet.message.qos && !peer->keeps_pubacks)
        send_puback(peer, packet.message.packet_id, peer->puback);
}

static void take_packet(struct peer *peer, uint8_t first, struct str body)
{
    struct mqtt_ack_packet ack;

    switch ((enum mqtt_type)(first >> 4)) {
    case MQTT_CONNECT:
        answer_connect(peer, body);
        break;
    case MQTT_SUBSCRIBE:
        answer_subscribe(peer, body);
        break;
    case MQTT_UNSUBSCRIBE:
        answer_unsubscribe(peer, body);
        break;
    case MQTT_PUBLISH:
        take_publish(peer, first, body);
        break;
    case MQTT_PUBACK:
    case MQTT_PUBREC:
        assert_int_equal(mqtt_read_ack(&ack, MQTT_5, body, NULL), ERR_OK);
        assert_true(peer->n_acks < MAX_ACKS);
        peer->acks[peer->n_acks++] = ack.packet_id;
        break;
    case MQTT_DISCONNECT:
        peer->n_disconnects++;
        break;
    default:
        fail_msg("packet of type %u", first >> 4);
    }
}

static size_t peer_read(void *arg, uint8_t *p, size_t n)
{
    size_t used = 0, header_n, length;

    while ((length = mqtt_packet_length(p + used, n - used, &header_n)) != 0) {
        assert_true(length != SIZE_MAX);
        if (length > n - used)
            break;
        take_packet(arg, p[used], str_of(p + used + header_n, length - header_n));
        used += length;
    }
    return used;
}

static void peer_closed(void *arg, enum err err, const struct why *why)
{
    struct peer *peer = arg;

    (void)err;
    (void)why;
    stream_free(peer->stream);
    peer->stream = NULL;
}

static void peer_open(void *arg)
{
    (void)arg;
}

static void accepted(void *arg, struct stream *stream)
{
    static const struct stream_events events = {.open = peer_open, .read = peer_read, .closed = peer_closed};
    struct peer *peer = arg;

    assert_null(peer->stream);
    peer->stream = stream;
    stream_accept(stream, &events, peer);
}

void rig_publish(struct test *t, const char *topic, const char *payload, uint8_t qos, uint16_t packet_id)
{
    struct buf buf = {0};

    mqtt_put_publish_head(&buf, MQTT_5, str_from(topic), strlen(payload), qos, 0, packet_id);
    buf_add_z(&buf, payload);
    send_buf(&t->peer, &buf);
}

void rig_publish_retained(struct test *t, const char *topic, const char *payload)
{
    struct buf buf = {0};

    mqtt_put_publish_head(&buf, MQTT_5, str_from(topic), strlen(payload), 0, MQTT_RETAIN, 0);
    buf_add_z(&buf, payload);
    send_buf(&t->peer, &buf);
}

void rig_suback(struct test *t, uint8_t code)
{
    struct buf buf = {0};

    mqtt_put_suback(&buf, MQTT_5, false, t->peer.subscribe_id, &code, 1);
    send_buf(&t->peer, &buf);
}

void rig_puback(struct test *t, uint16_t packet_id, uint8_t code)
{
    send_puback(&t->peer, packet_id, code);
}

/* --- store -------------------------------------------------------------------------------------------------------------- */

static void fake_append(struct store *store, struct batch *batch)
{
    struct test *t = CONTAINER_OF(store, struct test, store);

    buf_add(&t->bytes, batch->bytes, batch->n_bytes);
    t->n_events += batch->n_events;
    batch_drop_bytes(batch);
    batch->node.next = NULL;
    *t->last = &batch->node;
    t->last = &batch->node.next;
    t->n_batches++;
}

void rig_answer(struct test *t, enum err result)
{
    while (t->first) {
        struct batch *batch = CONTAINER_OF(t->first, struct batch, node);

        t->first = batch->node.next;
        batch->result = result;
        store_answer(batch);
    }
    t->last = &t->first;
    t->n_batches = 0;
}

/* --- gateway ------------------------------------------------------------------------------------------------------------- */

static void take_reply(void *arg, struct ctx *ctx, struct command *command, enum err err, struct str json)
{
    struct test *t = arg;
    struct replied *replied = &t->replies[t->n_replies];

    assert_ptr_equal(ctx, t->ctx);
    assert_true(t->n_replies++ < MAX_NOTES);
    for (struct replied *before = t->replies; before < replied; before++)
        assert_ptr_not_equal(before->command, command);
    replied->command = command;
    replied->err = err;
    note(replied->json, sizeof replied->json, json);
}

static void take_question(void *arg, struct ctx *ctx, struct device *dev, struct str shared, struct str client,
                          uint64_t cookie)
{
    struct test *t = arg;
    struct question *question = &t->questions[t->n_questions % COUNT_OF(t->questions)];

    assert_ptr_equal(ctx, t->ctx);
    t->n_questions++;
    question->cookie = cookie;
    note(question->device, sizeof question->device, device_name(dev));
    note(question->shared, sizeof question->shared, shared);
    note(question->client, sizeof question->client, client);
}

/* --- scripts ------------------------------------------------------------------------------------------------------------ */

static void stopped(void *arg)
{
    ((struct test *)arg)->is_stopped = true;
}

static void quiet(void *arg)
{
    ((struct test *)arg)->is_quiet = true;
}

void rig_quiesce(struct test *t)
{
    iotgw_module.quiesce(t->self, quiet, t);
}

static void listener_gone(void *arg)
{
    (void)arg;
}

static void tick(void *arg)
{
    static struct closer closer;
    struct test *t = arg;

    if (t->n_ticks++ > LIMIT_MS / TICK_MS)
        fail_msg("still waiting for: %s", t->step->what ? t->step->what : "stop");
    if (t->step->what) {
        if (t->step->ready && !t->step->ready(t))
            return;
        if (t->step->act)
            t->step->act(t);
        t->step++;
        t->n_waited = 0;
        if (!t->step->what && !t->is_stopped)
            iotgw_module.stop(t->self, stopped, t);
        return;
    }
    if (!t->is_stopped)
        return;
    timer_stop(&t->tick);
    iotgw_module.close(t->self);
    ctx_attach(t->ctx, NULL);
    ctx_unref(t->ctx);
    rig_answer(t, ERR_OK);
    stream_close(t->peer.stream, true);
    closer_begin(&closer, t->loop, listener_gone, t);
    listener_close(t->peer.listener, &closer);
    closer_end(&closer);
    loop_stop(t->loop);
}

static const struct store_ops ops = {.append = fake_append};

void rig_run(const char *broker, const char *file, void (*prepare)(struct test *t), const struct step *steps)
{
    struct test t = {.last = NULL, .step = steps};
    const struct listener_conf listener_conf = {.host = "127.0.0.1"};
    autobuf struct buf text = {0};
    struct why why = {0};

    t.last = &t.first;
    ctx_setup();
    t.store.ops = &ops;
    t.host = (struct ctx_host){.store = &t.store, .reply = take_reply, .request_attributes = take_question, .arg = &t};
    assert_int_equal(loop_new(&t.loop, "test"), ERR_OK);
    if (prepare)
        prepare(&t);
    assert_int_equal(listener_new(&t.peer.listener, t.loop, &listener_conf, accepted, &t.peer, &why), ERR_OK);
    buf_printf(&text, "{\"broker\":{\"host\":\"127.0.0.1\",\"port\":%u%s},%s%c", listener_port(t.peer.listener), broker,
               file, 0);
    problems_init(&t.problems);
    t.conf = conf_load_text(&mqtt_conf_type, ".", "test", str_from((const char *)text.p), &t.problems);
    assert_non_null(t.conf);
    t.ctx = ctx_new(&iotgw_module, "test", t.loop, &t.host, t.conf);
    atomic_store(&ctx_log(t.ctx)->level, LOG_LEVEL_OFF);
    t.self = mem_zero(iotgw_module.state_size);
    assert_int_equal(iotgw_module.open(t.self, t.ctx, conf_root(t.conf), &why), ERR_OK);
    ctx_attach(t.ctx, t.self);
    iotgw_module.start(t.self);
    timer_init(&t.tick, t.loop, tick, &t);
    timer_start_periodic(&t.tick, TICK_MS, TICK_MS);
    loop_run(t.loop);
    assert_true(t.is_stopped);
    assert_int_equal(slab_in_use(), 0);
    loop_free(t.loop);
    mem_free(t.self);
    buf_fini(&t.bytes);
    conf_unref(t.conf);
    problems_fini(&t.problems);
}
