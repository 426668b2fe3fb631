/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP servers to be polled, each on a port of its own: every request gets the same JSON object with a number that counts up.
 * The last ones are hung: they take requests and never answer. How far the time between two requests to a server is off the
 * period is measured. It reads what clients send, not what HTTP allows.
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

enum { WEB_BODY_MAX = 65536 };

struct web;
struct web_server {
    struct web *web;
    struct listener *listener;
    uint64_t n_requests, last_us; /* last_us: of the last request, monotonic; 0: none */
    bool is_hung;
};
struct web_client {
    struct list node;
    struct web_server *server;
    struct stream *stream;
};
struct web {
    struct program program;
    struct web_server *servers;
    uint64_t n_servers, n_hung, n_connections, period_ms, n_more;
    char more[WEB_BODY_MAX]; /* a text of n_more bytes in each answer */
    struct list clients;
    struct histogram off; /* µs, of all that answer */
};

static void count(struct web_server *server)
{
    uint64_t now_us = clock_mono_us(), period_us = server->web->period_ms * 1000, took_us = now_us - server->last_us;

    if (server->last_us && !server->is_hung)
        histogram_add(&server->web->off, took_us > period_us ? took_us - period_us : period_us - took_us);
    server->last_us = now_us;
    server->n_requests++;
}

static size_t on_read(void *arg, uint8_t *p, size_t n)
{
    struct web_client *client = arg;
    struct web_server *server = client->server;
    struct str all = str_of(p, n);
    size_t used = 0, end;

    while ((end = str_find(all, STR("\r\n\r\n"), used)) != SIZE_MAX) {
        char body[WEB_BODY_MAX + 200], head[200];
        int n_body, n_head;

        used = end + 4;
        count(server);
        if (server->is_hung)
            continue;
        n_body = snprintf(body, sizeof body, "{\"seq\":%llu,\"temperature\":21.5,\"running\":true%s%.*s%s}",
                          (unsigned long long)server->n_requests, server->web->n_more ? ",\"more\":\"" : "",
                          (int)server->web->n_more, server->web->more, server->web->n_more ? "\"" : "");
        n_head = snprintf(head, sizeof head,
                          "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", n_body);
        stream_write(client->stream, head, (size_t)n_head, true);
        stream_write(client->stream, body, (size_t)n_body, true);
    }
    return used;
}

static void on_closed(void *arg, enum err err, const struct why *why)
{
    struct web_client *client = arg;

    (void)err;
    (void)why;
    list_del(&client->node);
    stream_free(client->stream);
    mem_free(client);
}

static void on_accepted(void *arg, struct stream *stream)
{
    static const struct stream_events events = {.read = on_read, .closed = on_closed};
    struct web_server *server = arg;
    struct web_client *client = mem_zero(sizeof *client);

    client->server = server;
    client->stream = stream;
    server->web->n_connections++;
    list_add_tail(&server->web->clients, &client->node);
    stream_accept(stream, &events, client);
}

static void say_stats(const struct web *web)
{
    autobuf struct buf line = {0};
    uint64_t n = 0, n_hung = 0, least = UINT64_MAX, most = 0;

    for (uint64_t i = 0; i < web->n_servers; i++) {
        uint64_t of = web->servers[i].n_requests;

        if (web->servers[i].is_hung) {
            n_hung += of;
            continue;
        }
        n += of;
        least = of < least ? of : least;
        most = of > most ? of : most;
    }
    buf_printf(&line,
               "{\"requests\":%llu,\"least\":%llu,\"most\":%llu,\"hung_requests\":%llu,\"connections\":%llu,"
               "\"off_p50_ms\":%.3f,\"off_p99_ms\":%.3f,\"off_max_ms\":%.3f}",
               (unsigned long long)n, (unsigned long long)(least == UINT64_MAX ? 0 : least), (unsigned long long)most,
               (unsigned long long)n_hung, (unsigned long long)web->n_connections,
               (double)histogram_at(&web->off, 0.5) / 1e3, (double)histogram_at(&web->off, 0.99) / 1e3,
               (double)web->off.max / 1e3);
    line_say(&line);
}

static void on_line(void *arg, struct str word, struct str rest)
{
    struct web *web = arg;

    (void)rest;
    if (str_eq(word, STR("reset")))
        web->off = (struct histogram){0};
    if (str_eq(word, STR("stats")) || str_eq(word, STR("reset")))
        say_stats(arg);
    else
        line_say_error(word, "commands: stats, reset (of the times), quit");
}

static void on_end(void *arg, struct closer *closer)
{
    struct web *web = arg;

    for (uint64_t i = 0; i < web->n_servers; i++)
        listener_close(web->servers[i].listener, closer);
    LIST_EACH_SAFE(node, &web->clients)
        stream_close(CONTAINER_OF(node, struct web_client, node)->stream, true);
}

static enum err listen_all(struct web *web, struct why *why)
{
    static const struct listener_conf conf = {.host = "127.0.0.1"};

    for (uint64_t i = 0; i < web->n_servers; i++) {
        struct web_server *server = &web->servers[i];
        enum err err;

        server->web = web;
        server->is_hung = i >= web->n_servers - web->n_hung;
        err = listener_new(&server->listener, web->program.loop, &conf, on_accepted, server, why);
        if (err)
            return err;
    }
    return ERR_OK;
}

int web_main(int argc, char **argv)
{
    static const char usage[] =
        "iotgw-sim web-servers [OPTIONS]\n\nHTTP servers on loopback that answer every request with a JSON object. "
        "Prints {\"port\":N,\"ports\":[…]}, then answers\nthe commands stats, reset, quit on standard input.";
    static struct web web = {.n_servers = 1, .period_ms = 1000};
    const struct opt opts[] = {
        {"--servers", OPT_UINT, &web.n_servers, "N", "number of servers, each with a port (1)", 10000},
        {"--hung", OPT_UINT, &web.n_hung, "N", "how many of them never answer (0)", 10000},
        {"--more", OPT_UINT, &web.n_more, "BYTES", "text that each answer has besides (0)", WEB_BODY_MAX},
        {"--period", OPT_UINT, &web.period_ms, "MS", "time expected between two requests to a server (1000)", 86400000},
    };
    struct why why = {0};
    autobuf struct buf line = {0};
    enum err err = opts_parse(opts, COUNT_OF(opts), usage, argc - 1, argv + 1, &why);

    if (!err && (!web.n_servers || web.n_hung > web.n_servers))
        err = why_set(&why, ERR_USAGE, "--servers must be at least 1, and --hung no more");
    list_init(&web.clients);
    memset(web.more, 'x', sizeof web.more);
    web.servers = mem_zero((web.n_servers + 1) * sizeof *web.servers);
    if (!err)
        err = program_init(&web.program, "web", on_line, on_end, &web);
    if (!err)
        err = listen_all(&web, &why);
    if (err) {
        fprintf(stderr, "iotgw-sim web-servers: %s\n", why_text(&why));
        return err == ERR_USAGE ? 64 : 1;
    }
    for (uint64_t i = 0; i < web.n_servers; i++)
        buf_printf(&line, "%s%u", i ? "," : "", listener_port(web.servers[i].listener));
    {
        autobuf struct buf all = {0};

        buf_printf(&all, "{\"port\":%u,\"ports\":[", listener_port(web.servers[0].listener));
        buf_add_str(&all, buf_str(&line));
        buf_add_z(&all, "]}");
        line_say(&all);
    }
    program_run(&web.program);
    mem_free(web.servers);
    return 0;
}
