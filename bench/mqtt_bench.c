/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one message costs the MQTT client: CPU time of the client's thread alone, against a server on another thread that
 * only moves bytes. Prints µs a message, in user mode and in the kernel; then the pure functions by themselves.
 */
#include "mqtt/packet.h"
#include "mqtt/topic.h"

#include "base/clock.h"
#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PAYLOAD = 245, TOPIC_COUNT = 1000 };

static struct bench {
    struct loop *loop;
    struct log log;
    struct mqtt *mqtt;
    struct mqtt_conf conf;
    int listening;
    unsigned n_messages, n_publications;
    uint32_t payload_n, window;
    /* the client */
    unsigned n_received, n_sent, n_acked;
    uint8_t payload[65536];
    struct rusage before;
} bench;

static void must(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(70);
    }
}

/* --- the server: a thread --------------------------------------------------------------------------------------------------- */

static void answer(struct buf *in, struct buf *out)
{
    size_t header_n, at = 0, length;

    while ((length = mqtt_packet_length(in->p + at, in->n - at, &header_n)) != 0 && length <= in->n - at) {
        const uint8_t *p = in->p + at;

        if (p[0] >> 4 == MQTT_CONNECT) {
            mqtt_put_connack(out, MQTT_5, false, 0, 0, 0, STR_NONE);
            for (unsigned i = 0; i < bench.n_messages; i++) {
                char topic[32];

                snprintf(topic, sizeof topic, "plant/device%04u/telemetry", i % TOPIC_COUNT);
                mqtt_put_publish_head(out, MQTT_5, str_from(topic), bench.payload_n, 1, 0, (uint16_t)(i % 65535 + 1));
                buf_add(out, bench.payload, bench.payload_n);
            }
        } else if (p[0] >> 4 == MQTT_PUBLISH) {
            size_t topic_n = (size_t)p[header_n] << 8 | p[header_n + 1];

            mqtt_put_ack(out, MQTT_5, MQTT_PUBACK,
                         (uint16_t)(p[header_n + 2 + topic_n] << 8 | p[header_n + 3 + topic_n]), 0);
        }
        at += length;
    }
    buf_drop(in, at);
}

static void *serve(void *arg)
{
    struct buf in = {0}, out = {0};
    size_t sent = 0;
    int fd = accept(bench.listening, NULL, NULL);

    (void)arg;
    must(fd >= 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0, "accept");
    for (;;) {
        struct pollfd poll_fd = {.fd = fd, .events = (short)(POLLIN | (sent < out.n ? POLLOUT : 0))};
        ssize_t n;

        must(poll(&poll_fd, 1, -1) >= 0, "poll");
        if (poll_fd.revents & (POLLIN | POLLHUP)) {
            n = read(fd, buf_room(&in, 262144), 262144);
            if (n == 0 || (n < 0 && errno != EAGAIN))
                break;
            in.n += n > 0 ? (size_t)n : 0;
            answer(&in, &out);
        }
        if (sent < out.n) {
            n = write(fd, out.p + sent, out.n - sent);
            sent += n > 0 ? (size_t)n : 0;
            if (sent == out.n)
                sent = out.n = 0;
        }
    }
    close(fd);
    buf_fini(&in);
    buf_fini(&out);
    return NULL;
}

/* --- the client ------------------------------------------------------------------------------------------------------------- */

static void publish_more(void)
{
    struct iovec iov = {bench.payload, bench.payload_n};
    uint16_t id;

    while (bench.n_sent < bench.n_publications && bench.n_sent - bench.n_acked < bench.window) {
        if (mqtt_publish(bench.mqtt, STR("v1/gateway/telemetry"), &iov, 1, 1, 0, &id))
            abort();
        bench.n_sent++;
    }
}

static void on_connected(void *arg, const struct mqtt_connack *connack)
{
    (void)arg;
    (void)connack;
    getrusage(RUSAGE_THREAD, &bench.before);
    publish_more();
}

static void on_message(void *arg, const struct mqtt_message *message)
{
    (void)arg;
    mqtt_ack(bench.mqtt, message->qos, message->packet_id, 0);
    if (++bench.n_received == bench.n_messages)
        mqtt_disconnect(bench.mqtt, 0);
}

static void on_acked(void *arg, uint16_t id, uint8_t code)
{
    (void)arg;
    (void)id;
    (void)code;
    if (++bench.n_acked == bench.n_publications)
        mqtt_disconnect(bench.mqtt, 0);
}

static void on_burst(void *arg)
{
    (void)arg;
    if (bench.n_publications)
        publish_more();
}

static void on_closed(void *arg, enum err err, const struct why *why)
{
    (void)arg;
    if (err) {
        fprintf(stderr, "closed: %s\n", why_text(why));
        exit(70);
    }
    loop_stop(bench.loop);
}

static const struct mqtt_events events = {
    .connected = on_connected,
    .closed = on_closed,
    .message = on_message,
    .burst = on_burst,
    .acked = on_acked,
};

static double us_between(struct timeval a, struct timeval b)
{
    return (double)(b.tv_sec - a.tv_sec) * 1e6 + (double)(b.tv_usec - a.tv_usec);
}

static void run(const char *what, unsigned n_messages, unsigned n_publications, uint32_t payload_n, uint32_t window)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t address_n = sizeof address;
    double n = n_messages + n_publications;
    struct rusage after;
    pthread_t thread;

    bench.n_messages = n_messages;
    bench.n_publications = n_publications;
    bench.payload_n = payload_n;
    bench.window = window;
    bench.n_received = bench.n_sent = bench.n_acked = 0;
    bench.listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(bind(bench.listening, (struct sockaddr *)&address, sizeof address) == 0 && listen(bench.listening, 1) == 0 &&
             getsockname(bench.listening, (struct sockaddr *)&address, &address_n) == 0,
         "listen");
    must(pthread_create(&thread, NULL, serve, NULL) == 0, "thread");
    bench.conf = (struct mqtt_conf){.stream = {.host = "127.0.0.1", .port = ntohs(address.sin_port)},
                                    .version = MQTT_5,
                                    .client_id = STR("bench"),
                                    .clean_start = true,
                                    .ack_timeout_ms = 10000};
    must(loop_new(&bench.loop, "bench") == ERR_OK, "loop");
    bench.mqtt = mqtt_new(bench.loop, &bench.log, &events, NULL);
    mqtt_connect(bench.mqtt, &bench.conf);
    loop_run(bench.loop);
    getrusage(RUSAGE_THREAD, &after);
    pthread_join(thread, NULL);
    close(bench.listening);
    mqtt_free(bench.mqtt);
    loop_free(bench.loop);
    printf("%-44s %7.3f user %7.3f kernel\n", what, us_between(bench.before.ru_utime, after.ru_utime) / n,
           us_between(bench.before.ru_stime, after.ru_stime) / n);
}

/* --- pure functions ------------------------------------------------------------------------------------------------------------ */

static volatile size_t sink;

static void count(void *arg, void *value)
{
    (void)value;
    (*(size_t *)arg)++;
}

static void pure(void)
{
    enum { N = 5000000 };
    struct topic_trie *trie = topic_trie_new();
    struct mqtt_publish_packet packet;
    autobuf struct buf out = {0};
    size_t header_n, length, found = 0;
    uint64_t from;

    mqtt_put_publish_head(&out, MQTT_5, STR("plant/device0001/telemetry"), PAYLOAD, 1, 0, 7);
    buf_add(&out, bench.payload, PAYLOAD);
    from = clock_mono_us();
    for (int i = 0; i < N; i++) {
        length = mqtt_packet_length(out.p, out.n, &header_n);
        if (mqtt_read_publish(&packet, MQTT_5, out.p[0], str_of(out.p + header_n, length - header_n), NULL))
            abort();
        sink = packet.message.payload_n;
    }
    printf("%-44s %7.3f\n", "read PUBLISH", (double)(clock_mono_us() - from) / N);
    from = clock_mono_us();
    for (int i = 0; i < N; i++) {
        out.n = 0;
        mqtt_put_publish_head(&out, MQTT_5, STR("v1/gateway/telemetry"), PAYLOAD, 1, 0, (uint16_t)i);
        sink = out.n;
    }
    printf("%-44s %7.3f\n", "write PUBLISH head", (double)(clock_mono_us() - from) / N);
    for (int i = 0; i < TOPIC_COUNT; i++) {
        char filter[64];

        if (i % 2)
            snprintf(filter, sizeof filter, "plant/device%04d/+", i);
        else
            snprintf(filter, sizeof filter, "plant/+/telemetry%d", i);
        topic_trie_add(trie, str_from(filter), trie);
    }
    from = clock_mono_us();
    for (int i = 0; i < N; i++)
        topic_trie_match(trie, STR("plant/device0001/telemetry"), count, &found);
    if (found != N)
        abort();
    printf("%-44s %7.3f\n", "match among 1000 filters", (double)(clock_mono_us() - from) / N);
    topic_trie_free(trie);
}

int main(void)
{
    log_init(&bench.log, "bench", LOG_LEVEL_WARN);
    memset(bench.payload, '7', sizeof bench.payload);
    printf("µs of CPU a message\n");
    run("receive QoS 1, 245 bytes, acknowledged", 1000000, 0, PAYLOAD, 0);
    run("publish QoS 1, 245 bytes, window 1000", 0, 1000000, PAYLOAD, 1000);
    run("publish QoS 1, 1000 bytes, window 1000", 0, 500000, 1000, 1000);
    run("publish QoS 1, 60000 bytes, window 60", 0, 50000, 60000, 60);
    pure();
    log_fini(&bench.log);
    return 0;
}
