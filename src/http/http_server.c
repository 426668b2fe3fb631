/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection:
 *
 *     HANDSHAKE → IDLE → HEAD → (BODY →) PENDING → IDLE …        any → CLOSING
 *                                └→ PASSING (a body that nobody wants) ┘
 *
 * A request that is there as a whole in one read, which is nearly every one, is shown where it stands in the stream's
 * buffer. Of one that comes in pieces the head is copied and the body gathered.
 */
#include "http/http_server.h"

#include "base/log.h"
#include "http/http_chunks.h"
#include "http/http_client.h"
#include "io/stream.h"

#include <stdio.h>
#include <time.h>

enum {
    SWEEP_MS = 1000,
    CLOSE_MS = 1500,
    HANDSHAKE_MS = 10 * 1000,
    HEAD_MS = 10 * 1000,
    IDLE_MS = 30 * 1000,
    BYTES_A_SECOND = 1024,
    MAX_BODY = 1024 * 1024,
    MAX_GATHERED = 64 * 1024 * 1024,   /* bodies of all connections */
    MAX_PASSED_OVER = 4 * 1024 * 1024, /* of one body that nobody wants */
    MAX_UNSENT = 256 * 1024,
    KEEP_CAP = 16 * 1024,
    MAX_CONNECTIONS = 10000,
};

enum state { HANDSHAKE, IDLE, HEAD, BODY, PENDING, PASSING, CLOSING };

struct conn {
    struct http_request request; /* first */
    struct list node;
    struct http_server *server;
    struct stream *stream; /* NULL: closed, but its request is not answered yet */
    enum state state;
    int64_t deadline_ms, began_ms; /* deadline: 0: none */
    struct buf head, body;         /* of a request that comes in pieces */
    uint64_t left;                 /* of a body with a length */
    uint64_t n_passed;
    size_t n_rest; /* bytes that were left because nobody has asked for them yet */
    size_t n_seen; /* of a head that comes in pieces: looked at already */
    struct http_chunks chunks;
    bool is_reading; /* inside .read */
    bool is_shown, is_answered, is_unsent_large;
    bool is_kept_alive, is_head_method, is_old, waits_for_leave;
};

struct http_server {
    struct loop *loop;
    struct log *log;
    struct listener *listener;
    struct http_server_events events;
    void *arg;
    size_t max_body, n_gathered, n_rest; /* the latter two: of all connections */
    unsigned max_connections;
    struct list conns;
    unsigned n_alive; /* those whose answer is still to come although they are closed included */
    struct timer sweep;
    struct http_server_stats stats;
    int64_t date_s;
    char date[40];
    bool is_quiet, is_closing, is_listener_closing;
    struct closer closer, listener_closer;
    closed_fn *done;
    void *done_arg;
};

static int64_t now_of(const struct conn *conn)
{
    return (int64_t)loop_mono_ms(conn->server->loop);
}

static void drop_gathered(struct conn *conn)
{
    conn->server->n_gathered -= conn->body.n;
    conn->body.n = conn->head.n = 0;
    if (conn->body.cap > KEEP_CAP)
        buf_fini(&conn->body);
    if (conn->head.cap > KEEP_CAP)
        buf_fini(&conn->head);
}

static void conn_free(struct conn *conn)
{
    struct http_server *server = conn->server;

    drop_gathered(conn);
    buf_fini(&conn->body);
    buf_fini(&conn->head);
    mem_free(conn);
    server->n_alive--;
    if (server->is_closing)
        closer_release(&server->closer);
}

static void enter(struct conn *conn, enum state state, int64_t limit_ms)
{
    conn->state = state;
    conn->began_ms = now_of(conn);
    conn->deadline_ms = limit_ms ? conn->began_ms + limit_ms : 0;
}

static void conn_close(struct conn *conn, bool now)
{
    conn->state = CLOSING;
    conn->deadline_ms = 0;
    stream_close(conn->stream, now);
}

/* --- answers ---------------------------------------------------------------------------------------------------------- */

static const char *date_of(struct http_server *server)
{
    int64_t s = loop_wall_ms(server->loop) / 1000;
    time_t at = (time_t)s;
    struct tm tm;

    if (s != server->date_s) {
        server->date_s = s;
        if (!gmtime_r(&at, &tm) || !strftime(server->date, sizeof server->date, "%a, %d %b %Y %H:%M:%S GMT", &tm))
            server->date[0] = 0;
    }
    return server->date;
}

static enum served_class class_of(unsigned status)
{
    switch (status) {
    case 401:
    case 403:
        return SERVED_LOGIN;
    case 404:
        return SERVED_PATH;
    case 405:
        return SERVED_METHOD;
    case 408:
        return SERVED_LATE;
    case 413:
        return SERVED_LARGE;
    case 429:
        return SERVED_OFTEN;
    case 503:
        return SERVED_BUSY;
    default:
        return status < 400 ? SERVED_OK : status < 500 ? SERVED_WRONG : SERVED_FAILED;
    }
}

static void write_answer(struct conn *conn, const struct http_answer *answer)
{
    bool has_body = answer->status != 204 && answer->status != 304 && answer->status >= 200;
    char head[512];
    int n = snprintf(head, sizeof head, "HTTP/1.1 %u %s\r\nDate: %s\r\n", answer->status, http_reason(answer->status),
                     date_of(conn->server));

    if (has_body)
        n += snprintf(head + n, sizeof head - (size_t)n, "Content-Length: %zu\r\n", answer->body.n);
    if (answer->type.n)
        n += snprintf(head + n, sizeof head - (size_t)n, "Content-Type: %.*s\r\n", (int)str_cut(answer->type, 100).n,
                      answer->type.p);
    if (!conn->is_kept_alive)
        n += snprintf(head + n, sizeof head - (size_t)n, "Connection: close\r\n");
    else if (conn->is_old)
        n += snprintf(head + n, sizeof head - (size_t)n, "Connection: keep-alive\r\n");
    stream_write(conn->stream, head, (size_t)n, true);
    if (answer->fields.n)
        stream_write(conn->stream, answer->fields.p, answer->fields.n, true);
    stream_write(conn->stream, "\r\n", 2, true);
    if (has_body && !conn->is_head_method && answer->body.n)
        stream_write(conn->stream, answer->body.p, answer->body.n, true);
    conn->server->stats.n_answers[class_of(answer->status)]++;
    conn->server->stats.n_bytes_out += (size_t)n + answer->fields.n + 2 + (has_body ? answer->body.n : 0);
}

/* After the answer, and after the body: on to the next request. */
static void next_request(struct conn *conn)
{
    if (!conn->is_kept_alive || conn->server->is_quiet) {
        conn_close(conn, false);
        return;
    }
    enter(conn, IDLE, IDLE_MS);
    conn->is_unsent_large = stream_queued(conn->stream) - stream_sent(conn->stream) > MAX_UNSENT;
    if (!conn->is_reading && !conn->is_unsent_large && (conn->n_rest || stream_is_paused(conn->stream))) {
        stream_resume(conn->stream);
    }
}

void http_answer(struct http_request *request, const struct http_answer *answer)
{
    struct conn *conn = CONTAINER_OF(request, struct conn, request);

    assert(!conn->is_answered);
    conn->is_answered = true;
    if (!conn->stream) { /* the client has gone */
        conn->server->stats.n_gone++;
        conn_free(conn);
        return;
    }
    if (conn->state == CLOSING) {
        conn->server->stats.n_gone++;
        return;
    }
    conn->is_kept_alive &= !answer->is_last && !conn->server->is_quiet;
    if (conn->state == HEAD && (conn->waits_for_leave || conn->left > MAX_PASSED_OVER))
        conn->is_kept_alive = false; /* it waits for leave to send its body, or sends without end */
    write_answer(conn, answer);
    if (conn->state == PENDING)
        next_request(conn);
    /* HEAD, BODY: who called .head goes on with what is left of the body */
}

static void add_quoted(struct buf *out, const char *text)
{
    buf_add_z(out, "{\"error\":\"");
    for (const char *c = text; *c; c++) {
        if (*c == '"' || *c == '\\')
            buf_add_u8(out, '\\');
        buf_add_u8(out, (unsigned char)*c < ' ' || *c == 127 ? ' ' : (uint8_t)*c);
    }
    buf_add_z(out, "\"}");
}

static void answer_error(struct conn *conn, unsigned status, const char *text, bool is_last, struct str fields)
{
    autobuf struct buf body = {0};

    add_quoted(&body, text);
    http_answer(&conn->request, &(struct http_answer){.status = status,
                                                      .type = STR("application/json"),
                                                      .body = buf_str(&body),
                                                      .fields = fields,
                                                      .is_last = is_last});
}

void http_answer_error(struct http_request *request, unsigned status, const char *text)
{
    answer_error(CONTAINER_OF(request, struct conn, request), status, text, false, STR_NONE);
}

/* What the owner never sees. The connection ends with it, as nobody knows where the next request begins. */
static void refuse(struct conn *conn, unsigned status, const char *text)
{
    conn->server->stats.n_bad_requests++;
    LOG_DEBUG(conn->server->log, "a request was refused", KV_Z("peer", stream_peer(conn->stream)),
              KV_UINT("status", status), KV_Z("cause", text));
    if (!conn->is_answered)
        answer_error(conn, status, text, true, status == 503 ? STR("Retry-After: 1\r\n") : STR_NONE);
    if (conn->state != CLOSING)
        conn_close(conn, false);
}

/* --- requests ----------------------------------------------------------------------------------------------------------- */

static void begin_request(struct conn *conn, const struct http_head *head)
{
    conn->request = (struct http_request){.head = *head, .max_body = conn->server->max_body};
    conn->is_answered = conn->is_shown = false;
    conn->is_kept_alive = head->is_kept_alive;
    conn->is_old = head->minor == 0;
    conn->is_head_method = str_eq(head->method, STR("HEAD"));
    conn->chunks = (struct http_chunks){0};
    conn->left = head->length;
    conn->n_passed = 0;
    conn->waits_for_leave = false;
    conn->server->stats.n_bytes_in += head->n_bytes;
}

static void show_request(struct conn *conn)
{
    struct http_server *server = conn->server;

    server->stats.n_requests++;
    server->stats.n_bytes_in += conn->request.body.n;
    enter(conn, PENDING, 0);
    conn->is_shown = true;
    server->events.request(server->arg, &conn->request);
    drop_gathered(conn);
}

static void too_long(struct conn *conn)
{
    char text[80];

    snprintf(text, sizeof text, "the body is longer than %zu bytes", conn->request.max_body);
    conn->server->stats.n_bad_requests++;
    answer_error(conn, 413, text, false, STR_NONE);
}

/* The answer is written, its body still comes: a client that is cut off while it sends may never see the answer. */
static void pass_over(struct conn *conn)
{
    drop_gathered(conn);
    if (conn->waits_for_leave || (!conn->request.head.is_chunked && !conn->left))
        next_request(conn);
    else
        enter(conn, PASSING, IDLE_MS);
}

/* The head is at text; gives what was used: the head, and with a body that is there as a whole also that. */
static size_t take_head(struct conn *conn, const struct http_head *head, struct str text)
{
    struct http_server *server = conn->server;
    struct str rest = str_skip(text, head->n_bytes);

    begin_request(conn, head);
    conn->waits_for_leave = head->wants_continue && !rest.n;
    enter(conn, HEAD, 0);
    if (server->events.head)
        server->events.head(server->arg, &conn->request);
    if (conn->state == CLOSING)
        return head->n_bytes;
    if (!conn->is_answered && !head->is_chunked && head->length > conn->request.max_body)
        too_long(conn);
    if (conn->is_answered) {
        pass_over(conn);
        return head->n_bytes;
    }
    if (!head->is_chunked && head->length <= rest.n) {
        conn->request.body = str_cut(rest, (size_t)head->length);
        show_request(conn);
        return head->n_bytes + (size_t)head->length;
    }
    buf_add(&conn->head, text.p, head->n_bytes);
    if (conn->waits_for_leave)
        stream_write(conn->stream, "HTTP/1.1 100 Continue\r\n\r\n", 25, true);
    conn->waits_for_leave = false;
    enter(conn, BODY, IDLE_MS);
    return head->n_bytes;
}

static size_t read_head(struct conn *conn, struct str text)
{
    struct http_head head = {.n_seen = conn->n_seen};
    struct why why = {0};
    size_t n_blank = conn->n_seen ? 0 : http_head_blank(text);

    if (n_blank)
        return n_blank;
    switch (http_head_read(&head, text, &why)) {
    case HTTP_HEAD_MORE:
        conn->n_seen = head.n_seen;
        if (conn->state == IDLE)
            enter(conn, HEAD, HEAD_MS);
        return 0;
    case HTTP_HEAD_REFUSED:
        conn->n_seen = 0;
        begin_request(conn, &head);
        conn->is_old = false;
        refuse(conn, head.status, why_text(&why));
        return text.n;
    case HTTP_HEAD_WHOLE:
        conn->n_seen = 0;
        break;
    }
    return take_head(conn, &head, text);
}

/* All of a body that came in pieces. */
static void body_is_whole(struct conn *conn)
{
    struct http_head head = {0};

    (void)http_head_read(&head, buf_str(&conn->head), NULL); /* the same bytes as before, at a place of their own */
    conn->request.head = head;
    conn->request.body = buf_str(&conn->body);
    show_request(conn);
}

static size_t gather_length(struct conn *conn, struct str text)
{
    struct str part = str_cut(text, (size_t)conn->left);

    buf_add_str(&conn->body, part);
    conn->left -= part.n;
    conn->server->n_gathered += part.n;
    if (!conn->left)
        body_is_whole(conn);
    return part.n;
}

static size_t gather_chunks(struct conn *conn, struct str text)
{
    size_t n_before = conn->body.n, n_used;
    struct why why = {0};
    enum http_chunks_state state =
        http_chunks_read(&conn->chunks, text, &n_used, &conn->body, conn->request.max_body, &why);

    conn->server->n_gathered += conn->body.n - n_before;
    if (state == HTTP_CHUNKS_WHOLE) {
        body_is_whole(conn);
    } else if (state == HTTP_CHUNKS_REFUSED) {
        refuse(conn, 400, why_text(&why));
    } else if (state == HTTP_CHUNKS_LIMIT) {
        too_long(conn);
        if (conn->state != CLOSING)
            pass_over(conn);
    }
    return n_used;
}

static size_t gather(struct conn *conn, struct str text)
{
    if (conn->server->n_gathered + text.n > MAX_GATHERED) {
        refuse(conn, 503, "there is no room for the body");
        return text.n;
    }
    return conn->request.head.is_chunked ? gather_chunks(conn, text) : gather_length(conn, text);
}

static size_t pass(struct conn *conn, struct str text)
{
    enum http_chunks_state state = HTTP_CHUNKS_MORE;
    size_t n_used;

    if (conn->request.head.is_chunked) {
        state = http_chunks_read(&conn->chunks, text, &n_used, NULL, 0, NULL);
    } else {
        n_used = str_cut(text, (size_t)conn->left).n;
        conn->left -= n_used;
        state = conn->left ? HTTP_CHUNKS_MORE : HTTP_CHUNKS_WHOLE;
    }
    conn->n_passed += n_used;
    if (state == HTTP_CHUNKS_WHOLE)
        next_request(conn);
    else if (state != HTTP_CHUNKS_MORE || conn->n_passed > MAX_PASSED_OVER)
        conn_close(conn, false);
    return n_used;
}

/* --- the stream's events ------------------------------------------------------------------------------------------------ */

static void on_open(void *arg)
{
    enter(arg, IDLE, IDLE_MS);
}

static size_t read_one(struct conn *conn, struct str text)
{
    switch (conn->state) {
    case IDLE:
    case HEAD:
        return read_head(conn, text);
    case BODY:
        return gather(conn, text);
    case PASSING:
        return pass(conn, text);
    case HANDSHAKE:
    case PENDING:
    case CLOSING:
        break;
    }
    return 0;
}

static void set_rest(struct conn *conn, size_t n)
{
    conn->server->n_rest += n - conn->n_rest;
    conn->n_rest = n;
}

static size_t on_read(void *arg, uint8_t *p, size_t n)
{
    struct conn *conn = arg;
    size_t n_used = 0, n_now = 1;

    conn->is_reading = true;
    while (n_used < n && n_now && conn->state != PENDING && conn->state != CLOSING && !conn->is_unsent_large) {
        n_now = read_one(conn, str_of(p + n_used, n - n_used));
        n_used += n_now;
    }
    conn->is_reading = false;
    set_rest(conn, n - n_used);
    if (conn->n_rest > HTTP_HEAD_MAX_BYTES && conn->server->n_rest > MAX_GATHERED)
        conn_close(conn, true); /* many send on and on without waiting for their answers */
    else if (conn->n_rest && (n_used == 0 || conn->n_rest > HTTP_HEAD_MAX_BYTES) &&
             (conn->state == PENDING || conn->is_unsent_large))
        stream_pause(conn->stream); /* it sends on before it has its answer */
    return n_used;
}

static void on_sent(void *arg)
{
    struct conn *conn = arg;

    if (!conn->is_unsent_large)
        return;
    conn->is_unsent_large = false;
    if (conn->state == IDLE)
        stream_resume(conn->stream);
}

/* Of what it has asked for it may still want the answers. */
static void on_half_closed(void *arg)
{
    struct conn *conn = arg;

    if (conn->state != PENDING)
        conn_close(conn, false);
    else if (!conn->n_rest)
        conn->is_kept_alive = false;
}

static void on_closed(void *arg, enum err err, const struct why *why)
{
    struct conn *conn = arg;
    struct http_server *server = conn->server;

    if (conn->state == HANDSHAKE && err != ERR_OK && err != ERR_CLOSED)
        LOG_WARN(server->log, "a connection failed", KV_Z("peer", stream_peer(conn->stream)), KV_WHY(why));
    set_rest(conn, 0);
    list_del(&conn->node);
    server->stats.n_open--;
    stream_free(conn->stream);
    conn->stream = NULL;
    if (conn->is_answered || !conn->is_shown)
        conn_free(conn);
    else
        drop_gathered(conn); /* its owner still has the request */
}

static const struct stream_events conn_events = {
    .open = on_open, .read = on_read, .sent = on_sent, .closed = on_closed, .half_closed = on_half_closed};

static void on_accepted(void *arg, struct stream *stream)
{
    struct http_server *server = arg;
    struct conn *conn;

    server->stats.n_connections++;
    if (server->stats.n_open >= server->max_connections) {
        server->stats.n_too_many++;
        LOG_WARN(server->log, "there are too many connections: new ones are closed",
                 KV_UINT("limit", server->max_connections));
        return; /* the listener closes it */
    }
    conn = mem_zero(sizeof *conn);
    conn->server = server;
    conn->stream = stream;
    conn->is_answered = true;
    list_add_tail(&server->conns, &conn->node);
    server->stats.n_open++;
    server->n_alive++;
    enter(conn, HANDSHAKE, HANDSHAKE_MS);
    stream_accept(stream, &conn_events, conn);
    if (!timer_is_running(&server->sweep))
        timer_start_coarse(&server->sweep, SWEEP_MS);
}

/* --- clocks --------------------------------------------------------------------------------------------------------------- */

/* False: a byte every 30 s, and 1 KiB/s after the first 30 s, is not what comes. */
static bool body_goes_on(struct conn *conn)
{
    int64_t now = now_of(conn), passed_ms = now - conn->began_ms;
    uint64_t n = conn->state == PASSING ? conn->n_passed : conn->body.n;

    if (now - (int64_t)stream_last_in_ms(conn->stream) >= IDLE_MS ||
        (uint64_t)passed_ms / 1000 * BYTES_A_SECOND > n + (uint64_t)IDLE_MS / 1000 * BYTES_A_SECOND)
        return false;
    conn->deadline_ms = now + SWEEP_MS;
    return true;
}

static void deadline_passed(struct conn *conn)
{
    conn->server->stats.n_slow += conn->state == HEAD || conn->state == HANDSHAKE;
    switch (conn->state) {
    case HEAD:
        conn->request = (struct http_request){0};
        conn->is_answered = conn->is_shown = false;
        conn->is_old = conn->is_head_method = false;
        refuse(conn, 408, "the head of the request did not come within 10 s");
        break;
    case BODY:
        if (body_goes_on(conn))
            break;
        conn->server->stats.n_slow++;
        refuse(conn, 408, "the body of the request comes too slowly");
        break;
    case PASSING:
        if (body_goes_on(conn))
            break;
        conn->server->stats.n_slow++;
        conn_close(conn, true);
        break;
    default:
        conn_close(conn, conn->state == HANDSHAKE || stream_queued(conn->stream) > stream_sent(conn->stream));
        break;
    }
}

static void sweep(void *arg)
{
    struct http_server *server = arg;
    int64_t now = (int64_t)loop_mono_ms(server->loop);

    LIST_EACH_SAFE(node, &server->conns) {
        struct conn *conn = CONTAINER_OF(node, struct conn, node);

        if (server->is_closing)
            stream_close(conn->stream, true);
        else if (conn->deadline_ms && conn->deadline_ms <= now)
            deadline_passed(conn);
    }
    if (!list_is_empty(&server->conns) && !server->is_closing)
        timer_start_coarse(&server->sweep, SWEEP_MS);
}

/* --- life ------------------------------------------------------------------------------------------------------------------- */

enum err http_server_new(struct http_server **out, struct loop *loop, struct log *log,
                         const struct http_server_conf *conf, const struct http_server_events *events, void *arg,
                         struct why *why)
{
    const struct listener_conf listens = {.host = conf->host,
                                          .port = conf->port,
                                          .tls = conf->tls,
                                          .cert_file = conf->cert_file,
                                          .key_file = conf->key_file};
    struct http_server *server = mem_zero(sizeof *server);
    enum err err;

    server->loop = loop;
    server->log = log;
    server->events = *events;
    server->arg = arg;
    server->max_body = conf->max_body ? conf->max_body : (size_t)MAX_BODY;
    server->max_connections = conf->max_connections ? conf->max_connections : (unsigned)MAX_CONNECTIONS;
    list_init(&server->conns);
    timer_init(&server->sweep, loop, sweep, server);
    err = listener_new(&server->listener, loop, &listens, on_accepted, server, why);
    if (err) {
        mem_free(server);
        return err;
    }
    *out = server;
    return ERR_OK;
}

enum err http_server_renew(struct http_server *server, const char *cert_file, const char *key_file, struct why *why)
{
    const struct listener_conf conf = {.tls = true, .cert_file = cert_file, .key_file = key_file};

    return server->listener ? listener_renew(server->listener, &conf, why) : ERR_OK;
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->listener ? listener_port(server->listener) : 0;
}

const char *http_request_peer(const struct http_request *request)
{
    const struct conn *conn = CONTAINER_OF((struct http_request *)(uintptr_t)request, struct conn, request);

    return conn->stream ? stream_peer(conn->stream) : "";
}

struct http_server_stats http_server_stats(const struct http_server *server)
{
    return server->stats;
}

void http_server_served(const struct http_server *server, struct served *out)
{
    const struct http_server_stats *stats = &server->stats;

    *out = (struct served){.size = sizeof *out,
                           .n_connections = stats->n_connections,
                           .n_too_many = stats->n_too_many,
                           .n_slow = stats->n_slow,
                           .n_open = stats->n_open,
                           .n_gone = stats->n_gone,
                           .bytes_in = stats->n_bytes_in,
                           .bytes_out = stats->n_bytes_out};
    for (unsigned i = 0; i < SERVED_CLASSES; i++) {
        out->answers[i] = stats->n_answers[i];
        out->n_requests += stats->n_answers[i];
    }
}

static void listener_gone(void *arg)
{
    struct http_server *server = arg;

    server->is_listener_closing = false;
    if (server->is_closing)
        closer_release(&server->closer);
}

void http_server_quiesce(struct http_server *server)
{
    if (server->is_quiet)
        return;
    server->is_quiet = true;
    server->is_listener_closing = true;
    closer_begin(&server->listener_closer, server->loop, listener_gone, server);
    listener_close(server->listener, &server->listener_closer);
    closer_end(&server->listener_closer);
    server->listener = NULL;
    LIST_EACH_SAFE(node, &server->conns) {
        struct conn *conn = CONTAINER_OF(node, struct conn, node);

        if (conn->state == IDLE || conn->state == HANDSHAKE)
            conn_close(conn, conn->state == HANDSHAKE);
    }
}

static void server_gone(void *arg)
{
    struct http_server *server = arg;
    closed_fn *done = server->done;
    void *done_arg = server->done_arg;

    timer_stop(&server->sweep);
    mem_free(server);
    done(done_arg);
}

void http_server_close(struct http_server *server, closed_fn *done, void *arg)
{
    loop_assert(server->loop);
    http_server_quiesce(server);
    server->done = done;
    server->done_arg = arg;
    server->is_closing = true;
    closer_begin(&server->closer, server->loop, server_gone, server);
    if (server->is_listener_closing)
        closer_hold(&server->closer);
    for (unsigned i = 0; i < server->n_alive; i++)
        closer_hold(&server->closer);
    LIST_EACH_SAFE(node, &server->conns) {
        struct conn *conn = CONTAINER_OF(node, struct conn, node);

        if (conn->state != CLOSING)
            conn_close(conn, false);
    }
    timer_start(&server->sweep, CLOSE_MS); /* whoever does not take his last answer by then goes without it */
    closer_end(&server->closer);
}
