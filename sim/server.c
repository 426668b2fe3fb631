/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include "mqtt/topic.h"

enum { CODE_MALFORMED = 0x81, CODE_PROTOCOL = 0x82 };

struct server {
    struct loop *loop;
    struct server_conf conf;
    const struct server_events *events;
    void *arg;
    struct listener *listener;
    uint16_t port;
    struct list clients;
    bool is_stalled;
    struct closer *closer; /* set: being closed */
    unsigned n_downs;      /* listeners that are being closed by server_down */
    struct buf scratch;
};

static void flush(struct server_client *client)
{
    struct buf *scratch = &client->server->scratch;

    if (!client->is_closing)
        stream_write(client->stream, scratch->p, scratch->n, true);
    scratch->n = 0;
}

void server_puback(struct server_client *client, uint16_t packet_id, uint8_t code)
{
    mqtt_put_ack(&client->server->scratch, client->version, MQTT_PUBACK, packet_id, code);
    flush(client);
}

uint16_t server_publish(struct server_client *client, struct str topic, struct str payload, uint8_t qos)
{
    struct buf *scratch = &client->server->scratch;
    uint16_t id = 0;

    if (qos) {
        id = client->next_id++;
        if (client->next_id == 0 && !client->server->conf.ids_through_0)
            client->next_id = 1;
    }
    mqtt_put_publish_head(scratch, client->version, topic, payload.n, qos, 0, id);
    buf_add_str(scratch, payload);
    flush(client);
    return id;
}

void server_write(struct server_client *client, const void *packets, size_t n)
{
    if (!client->is_closing)
        stream_write(client->stream, packets, n, true);
}

void server_kick(struct server_client *client, uint8_t code)
{
    if (client->is_closing)
        return;
    if (client->version == MQTT_5 && code) {
        mqtt_put_disconnect(&client->server->scratch, client->version, code);
        flush(client);
    }
    client->is_closing = true;
    stream_close(client->stream, false);
}

void server_drop(struct server_client *client)
{
    client->is_closing = true;
    stream_close(client->stream, true);
}

int server_granted(const struct server_client *client, struct str topic)
{
    int granted = -1;

    for (size_t i = 0; i < client->n_filters; i++) {
        if (client->filters[i].qos > granted && topic_matches(str_from(client->filters[i].text), topic))
            granted = client->filters[i].qos;
    }
    return granted;
}

/* --- packets ---------------------------------------------------------------------------------------------------- */
static void remember_filter(struct server_client *client, struct str filter, uint8_t qos)
{
    for (size_t i = 0; i < client->n_filters; i++) {
        if (str_eq_z(filter, client->filters[i].text)) {
            client->filters[i].qos = qos;
            return;
        }
    }
    client->filters = mem_grow(client->filters, (client->n_filters + 1) * sizeof *client->filters);
    client->filters[client->n_filters].text = memcpy(mem_zero(filter.n + 1), filter.p, filter.n);
    client->filters[client->n_filters++].qos = qos;
}

static bool forget_filter(struct server_client *client, struct str filter)
{
    for (size_t i = 0; i < client->n_filters; i++) {
        if (str_eq_z(filter, client->filters[i].text)) {
            mem_free(client->filters[i].text);
            client->filters[i] = client->filters[--client->n_filters];
            return true;
        }
    }
    return false;
}

static enum err take_connect(struct server_client *client, struct str body)
{
    struct server *server = client->server;
    struct mqtt_connect_packet connect;
    bool session_present = false;
    enum err err = mqtt_read_connect(&connect, body, NULL);
    uint8_t code;

    if (err)
        return err;
    client->version = connect.version;
    code = server->events->connect(server->arg, client, &connect, &session_present);
    if (client->is_closing)
        return ERR_OK;
    mqtt_put_connack(&server->scratch, client->version, session_present, code, 0, 0, STR_NONE);
    flush(client);
    if (code)
        server_kick(client, code == 0x9f ? 0x96 : code);
    else
        client->is_connected = true;
    return ERR_OK;
}

static enum err take_filters(struct server_client *client, struct str body, bool is_unsubscribe)
{
    struct server *server = client->server;
    struct mqtt_subscribe_reader reader;
    struct mqtt_filter filter;
    autobuf struct buf codes = {0};
    enum err err = mqtt_read_subscribe(&reader, client->version, is_unsubscribe, body);

    if (err)
        return err;
    while (mqtt_next_filter(&reader, &filter)) {
        uint8_t code;

        if (is_unsubscribe) {
            code = forget_filter(client, filter.filter) ? 0 : 0x11;
        } else {
            code = server->events->subscribe(server->arg, client, &filter);
            if (code < 0x80)
                remember_filter(client, filter.filter, code);
        }
        buf_add_u8(&codes, code);
    }
    if (reader.err)
        return reader.err;
    mqtt_put_suback(&server->scratch, client->version, is_unsubscribe, reader.packet_id, codes.p, codes.n);
    flush(client);
    if (server->events->filters_changed)
        server->events->filters_changed(server->arg, client);
    return ERR_OK;
}

static enum err take_packet(struct server_client *client, uint8_t first, struct str body, bool *was_asked)
{
    struct server *server = client->server;
    struct mqtt_publish_packet publish;
    struct mqtt_ack_packet ack;
    enum err err;

    if (!client->is_connected && first >> 4 != MQTT_CONNECT)
        return ERR_PROTO;
    if (first >> 4 == MQTT_PUBLISH || first >> 4 == MQTT_SUBSCRIBE || first >> 4 == MQTT_PINGREQ)
        client->active_ms = loop_mono_ms(server->loop);
    switch (first >> 4) {
    case MQTT_CONNECT:
        return take_connect(client, body);
    case MQTT_PUBLISH:
        err = mqtt_read_publish(&publish, client->version, first, body, NULL);
        if (!err && publish.message.qos && !publish.message.packet_id)
            err = ERR_PROTO;
        if (!err)
            server->events->publish(server->arg, client, &publish.message);
        return err;
    case MQTT_PUBACK:
        err = mqtt_read_ack(&ack, client->version, body, NULL);
        if (!err && server->events->acked)
            server->events->acked(server->arg, client, ack.packet_id, ack.code);
        return err;
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP:
        return ERR_OK;
    case MQTT_SUBSCRIBE:
    case MQTT_UNSUBSCRIBE:
        return take_filters(client, body, first >> 4 == MQTT_UNSUBSCRIBE);
    case MQTT_PINGREQ:
        mqtt_put_simple(&server->scratch, MQTT_PINGRESP);
        flush(client);
        return ERR_OK;
    case MQTT_DISCONNECT:
        *was_asked = true;
        if (client->version == MQTT_5 && server->conf.answers_disconnect) {
            mqtt_put_disconnect(&server->scratch, client->version, 0);
            flush(client);
        }
        server_kick(client, 0);
        return ERR_OK;
    default:
        return ERR_PROTO;
    }
}

/* --- connections ------------------------------------------------------------------------------------------------ */
struct connection { /* what only the server needs to know of a client */
    struct server_client client;
    bool was_asked;
};

/* Frees the server when it is being closed and nothing of it is open. */
static void finish(struct server *server)
{
    struct closer *closer = server->closer;

    if (!closer || server->n_downs || !list_is_empty(&server->clients))
        return;
    buf_fini(&server->scratch);
    mem_free(server);
    closer_release(closer);
}

static void on_open(void *arg UNUSED)
{
}

static size_t on_read(void *arg, uint8_t *p, size_t n)
{
    struct connection *connection = arg;
    struct server_client *client = &connection->client;
    struct server *server = client->server;
    size_t used = 0;

    while (!client->is_closing && used < n) {
        size_t header_n = 0, length = mqtt_packet_length(p + used, n - used, &header_n);

        if (length == 0)
            break;
        if (length == SIZE_MAX || (server->conf.max_remaining && length - header_n > server->conf.max_remaining)) {
            server_kick(client, client->is_connected ? CODE_MALFORMED : 0);
            break;
        }
        if (length > n - used) {
            stream_need(client->stream, length);
            break;
        }
        if (mqtt_check_header(client->version, p + used, header_n, NULL) ||
            take_packet(client, p[used], str_of(p + used + header_n, length - header_n), &connection->was_asked))
            server_kick(client, client->is_connected ? CODE_MALFORMED : 0);
        used += length;
        stream_need(client->stream, 0);
    }
    if (client->is_closing)
        return n;
    if (used && server->events->burst)
        server->events->burst(server->arg, client);
    return used;
}

static void on_closed(void *arg, enum err err UNUSED, const struct why *why UNUSED)
{
    struct connection *connection = arg;
    struct server_client *client = &connection->client;
    struct server *server = client->server;

    client->is_closing = true;
    list_del(&client->node);
    if (client->is_connected)
        server->events->closed(server->arg, client, connection->was_asked);
    stream_free(client->stream);
    for (size_t i = 0; i < client->n_filters; i++)
        mem_free(client->filters[i].text);
    mem_free(client->filters);
    mem_free(connection);
    finish(server);
}

static void on_accepted(void *arg, struct stream *stream)
{
    static const struct stream_events events = {.open = on_open, .read = on_read, .closed = on_closed};
    struct server *server = arg;
    struct connection *connection = mem_zero(sizeof *connection);

    connection->client = (struct server_client){.server = server, .stream = stream, .version = MQTT_311, .next_id = 1};
    list_add_tail(&server->clients, &connection->client.node);
    stream_accept(stream, &events, connection);
    if (server->is_stalled)
        stream_pause(stream);
}

void server_drop_all(struct server *server)
{
    LIST_EACH_SAFE(node, &server->clients)
        server_drop(CONTAINER_OF(node, struct server_client, node));
}

void server_stall(struct server *server, bool is_stalled)
{
    server->is_stalled = is_stalled;
    LIST_EACH_SAFE(node, &server->clients) {
        struct server_client *client = CONTAINER_OF(node, struct server_client, node);

        if (is_stalled)
            stream_pause(client->stream);
        else
            stream_resume(client->stream);
    }
}

struct down {
    struct server *server;
    struct closer closer;
};

static void on_down(void *arg)
{
    struct down *down = arg;
    struct server *server = down->server;

    mem_free(down);
    server->n_downs--;
    finish(server);
}

void server_down(struct server *server)
{
    if (server->listener) {
        struct down *down = mem_zero(sizeof *down);

        down->server = server;
        server->n_downs++;
        closer_begin(&down->closer, server->loop, on_down, down);
        listener_close(server->listener, &down->closer);
        server->listener = NULL;
        closer_end(&down->closer);
    }
    server_drop_all(server);
}

enum err server_up(struct server *server, struct why *why)
{
    struct listener_conf conf = {.host = server->conf.host,
                                 .port = server->port,
                                 .tls = server->conf.cert_file != NULL,
                                 .cert_file = server->conf.cert_file,
                                 .key_file = server->conf.key_file,
                                 .asks_client = true};
    enum err err;

    if (server->listener)
        return ERR_OK;
    err = listener_new(&server->listener, server->loop, &conf, on_accepted, server, why);
    if (!err)
        server->port = listener_port(server->listener);
    return err;
}

enum err server_new(struct server **out, struct loop *loop, const struct server_conf *conf,
                    const struct server_events *events, void *arg, struct why *why)
{
    struct server *server = mem_zero(sizeof *server);
    enum err err;

    server->loop = loop;
    server->conf = *conf;
    server->port = conf->port;
    server->events = events;
    server->arg = arg;
    list_init(&server->clients);
    err = server_up(server, why);
    if (err) {
        mem_free(server);
        return err;
    }
    *out = server;
    return ERR_OK;
}

uint16_t server_port(const struct server *server)
{
    return server->port;
}

struct list *server_clients(struct server *server)
{
    return &server->clients;
}

void server_close(struct server *server, struct closer *closer)
{
    if (!server)
        return;
    if (server->listener)
        listener_close(server->listener, closer);
    server->listener = NULL;
    closer_hold(closer);
    server->closer = closer;
    server_drop_all(server);
    finish(server);
}
