/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP clients of a server under test: so many connections that are kept, each with one request under way: POST of one line
 * of ten values, as the other load generators send. The next one goes out when the answer is there; an answer that is not
 * 200 is counted, and its request is sent again. It reads what servers send, not what HTTP allows.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "io/stream.h"
#include "lines.h"
#include "main.h"
#include "opts.h"
#include "program.h"
#include "tally.h"

#include <stdio.h>

struct clients;
struct client {
    struct clients *clients;
    struct stream *stream; /* NULL: closed */
    uint64_t number, sent_us;
    bool is_waiting, is_open;
};
struct clients {
    struct program program;
    struct client *all;
    uint64_t n, devices, port;
    char host[40], path[100];
    uint64_t next, end, n_answered, n_refused, n_lost; /* of the run */
    uint64_t start_us, end_us, n_open;
    struct histogram latency;
};

static void say(const struct clients *clients, const char *event)
{
    uint64_t us = (clients->end_us ? clients->end_us : clock_mono_us()) - clients->start_us;
    autobuf struct buf line = {0};

    buf_add_u8(&line, '{');
    if (event)
        buf_printf(&line, "\"event\":\"%s\",", event);
    buf_printf(&line,
               "\"answered\":%llu,\"refused\":%llu,\"lost\":%llu,\"open\":%llu,\"seconds\":%.4f,"
               "\"lat_p50_ms\":%.3f,\"lat_p99_ms\":%.3f,\"lat_max_ms\":%.3f}",
               (unsigned long long)clients->n_answered, (unsigned long long)clients->n_refused,
               (unsigned long long)clients->n_lost, (unsigned long long)clients->n_open, (double)us / 1e6,
               (double)histogram_at(&clients->latency, 0.5) / 1e3, (double)histogram_at(&clients->latency, 0.99) / 1e3,
               (double)clients->latency.max / 1e3);
    line_say(&line);
}

static void send_request(struct client *client)
{
    struct clients *clients = client->clients;
    uint64_t i = client->number;
    char body[512], head[300];
    int n_body, n_head;

    client->sent_us = clock_mono_us();
    client->is_waiting = true;
    n_body =
        snprintf(body, sizeof body,
                 "{\"device\":\"dev%05llu\",\"seq\":%llu,\"sent\":%llu,\"temperature\":%u.%02u,\"humidity\":%u.%u,"
                 "\"pressure\":10%02u.%02u,\"voltage\":%u.%u,\"current\":%u.%03u,\"rpm\":%u,\"running\":%s,"
                 "\"state\":\"%s\"}",
                 (unsigned long long)(i % clients->devices), (unsigned long long)i, (unsigned long long)client->sent_us,
                 (unsigned)(18 + i % 7), (unsigned)(1 + i * 37 % 99), (unsigned)(40 + i % 20), (unsigned)(1 + i % 9),
                 (unsigned)(i % 30), (unsigned)(1 + i * 53 % 99), (unsigned)(225 + i % 8), (unsigned)(1 + i % 9),
                 (unsigned)(5 + i % 4), (unsigned)(1 + i * 127 % 999), (unsigned)(1400 + i % 64 * 3),
                 i % 8 ? "true" : "false", i % 8 ? "RUN" : "STOP");
    n_head = snprintf(head, sizeof head,
                      "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
                      clients->path, clients->host, n_body);
    stream_write(client->stream, head, (size_t)n_head, true);
    stream_write(client->stream, body, (size_t)n_body, true);
}

static void send_next(struct client *client)
{
    struct clients *clients = client->clients;

    if (!client->is_open || client->is_waiting || clients->next == clients->end)
        return;
    client->number = clients->next++;
    send_request(client);
}

static void answered(struct client *client, bool is_ok)
{
    struct clients *clients = client->clients;
    uint64_t now_us = clock_mono_us();

    client->is_waiting = false;
    if (!is_ok) {
        clients->n_refused++;
        send_request(client);
        return;
    }
    histogram_add(&clients->latency, now_us - client->sent_us);
    if (++clients->n_answered + clients->n_lost == clients->end && !clients->end_us) {
        clients->end_us = now_us;
        say(clients, "done");
    }
    send_next(client);
}

static size_t on_read(void *arg, uint8_t *p, size_t n)
{
    struct client *client = arg;
    struct str all = str_of(p, n);
    size_t used = 0, end;

    while ((end = str_find(all, STR("\r\n\r\n"), used)) != SIZE_MAX) {
        struct str head = str_of(all.p + used, end - used);
        size_t at = str_find(head, STR("Content-Length: "), 0);
        uint64_t length = 0;

        if (at != SIZE_MAX) {
            struct str rest = str_skip(head, at + 16);

            (void)!str_to_u64(str_cut(rest, str_chr(rest, '\r')), &length);
        }
        if (n - end - 4 < length)
            break;
        used = end + 4 + (size_t)length;
        answered(client, str_starts(str_skip(head, 8), STR(" 200")));
    }
    return used;
}

static void on_open(void *arg)
{
    struct client *client = arg;

    client->is_open = true;
    client->clients->n_open++;
    send_next(client);
}

static void on_closed(void *arg, enum err err, const struct why *why)
{
    struct client *client = arg;
    struct clients *clients = client->clients;

    (void)err;
    (void)why;
    clients->n_open -= client->is_open;
    clients->n_lost += client->is_waiting;
    client->is_open = client->is_waiting = false;
    stream_free(client->stream);
    client->stream = NULL;
}

static void run(struct clients *clients, uint64_t n)
{
    clients->next = 0;
    clients->end = n;
    clients->n_answered = clients->n_refused = clients->n_lost = clients->end_us = 0;
    clients->latency = (struct histogram){0};
    clients->start_us = clock_mono_us();
    for (uint64_t i = 0; i < clients->n; i++)
        send_next(&clients->all[i]);
}

static void on_line(void *arg, struct str word, struct str rest)
{
    struct clients *clients = arg;
    uint64_t n;

    if (str_eq(word, STR("run")) && str_to_u64(rest, &n) == ERR_OK && n &&
        clients->n_answered + clients->n_lost == clients->end) {
        run(clients, n);
        say(clients, NULL);
    } else if (str_eq(word, STR("stats"))) {
        say(clients, NULL);
    } else {
        line_say_error(word, "commands: run N (when the one before is done), stats, quit");
    }
}

static void on_end(void *arg, struct closer *closer)
{
    struct clients *clients = arg;

    (void)closer;
    for (uint64_t i = 0; i < clients->n; i++)
        stream_close(clients->all[i].stream, true);
}

static enum err connect_all(struct clients *clients)
{
    static const struct stream_events events = {.open = on_open, .read = on_read, .closed = on_closed};
    const struct stream_conf conf = {.host = clients->host, .port = (uint16_t)clients->port};

    for (uint64_t i = 0; i < clients->n; i++) {
        struct client *client = &clients->all[i];
        enum err err;

        client->clients = clients;
        err = stream_new(&client->stream, clients->program.loop, &events, client);
        if (err)
            return err;
        stream_connect(client->stream, &conf);
    }
    return ERR_OK;
}

int web_clients_main(int argc, char **argv)
{
    static const char usage[] = "iotgw-sim web-clients [OPTIONS]\n\nHTTP clients that keep their connections and POST "
                                "lines of ten values. Prints "
                                "{\"port\":N}, then answers\nthe commands run N, stats, quit on standard input.";
    static struct clients clients = {.n = 64, .devices = 10, .host = "127.0.0.1"};
    const char *path = "/data";
    const struct opt opts[] = {
        {"--port", OPT_UINT, &clients.port, "N", "port of the server on loopback", 65535},
        {"--path", OPT_TEXT, &path, "PATH", "what is asked (/data)", 0},
        {"--connections", OPT_UINT, &clients.n, "N", "connections, each with one request under way (64)", 10000},
        {"--devices", OPT_UINT, &clients.devices, "N", "names of devices (10)", 100000},
    };
    struct why why = {0};
    autobuf struct buf line = {0};
    enum err err = opts_parse(opts, COUNT_OF(opts), usage, argc - 1, argv + 1, &why);

    if (!err && (!clients.n || !clients.devices || !clients.port))
        err = why_set(&why, ERR_USAGE, "--port, --connections and --devices must be at least 1");
    snprintf(clients.path, sizeof clients.path, "%s", path);
    clients.all = mem_zero((clients.n + 1) * sizeof *clients.all);
    if (!err)
        err = program_init(&clients.program, "web-clients", on_line, on_end, &clients);
    if (!err)
        err = connect_all(&clients);
    if (err) {
        fprintf(stderr, "iotgw-sim web-clients: %s\n", why_text(&why));
        return err == ERR_USAGE ? 64 : 1;
    }
    buf_printf(&line, "{\"port\":%u}", (unsigned)clients.port);
    line_say(&line);
    program_run(&clients.program);
    mem_free(clients.all);
    return 0;
}
