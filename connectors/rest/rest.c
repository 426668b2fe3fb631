/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Life cycle of the REST connector: one HTTP server, the requests under way, and the requests of the platform.
 *
 *     head → route, login, room → body → rest_data.c → web_convert → ctx (batch) → store → .done → answer
 *                                                    → attribute request → the platform → .attributes → answer
 *     .command → rest_wait.c (who awaits an attribute) → rest_down.c → rest_job.c → HTTP client → reply
 *
 * A client is answered when what it sent is durable; it sends again what was not answered with 200.
 */
#include "build_id.h"
#include "io/backoff.h"
#include "io/retry.h"
#include "rest_cert.h"
#include "rest_dry.h"
#include "rest_job.h"
#include "rest_probe.h"
#include "rest_up.h"
#include "rest_wait.h"

#include <stdio.h>

enum { QUIESCE_MS = 1900, REPORT_EVERY_MS = 60000 };

struct drop_report {
    uint64_t n, next_ms;
};

struct connector {
    struct ctx *ctx;
    const struct rest_file *file;
    struct http_server *server; /* NULL: not listening */
    struct rest_jobs jobs;
    struct waits waits;
    struct arena arena; /* of the request at hand */
    struct rest_sink sink;
    struct device *first; /* device of its first event */
    struct web_out counted;
    struct drop_report drops[WEB_DROPS];
    uint64_t cookie, question;
    struct backoff backoff;
    struct retry retry;
    bool is_quiet;
    connector_done_fn *quiet_done, *stop_done;
    void *quiet_arg, *stop_arg;
    struct timer quiet_timer, stop_timer;
    unsigned n_closing;
    struct rest_probe probe;
    struct rest_cert cert; /* zeroed: the operator has one, or there is no TLS */
};

/* --- answers ---------------------------------------------------------------------------------------------------------- */

/* What lets a web page of that origin read the answer; NULL: it may not, or it is no web page. */
static const char *origin_of(const struct connector *self, const struct http_request *request)
{
    const struct conf_strs *allowed = &self->file->server->origins;
    struct str origin;

    if (!allowed->n)
        return NULL;
    origin = http_head_get(&request->head, STR("Origin"));
    for (size_t i = 0; origin.n && i < allowed->n; i++)
        if (str_eq(allowed->items[i], STR("*")) || str_eq(allowed->items[i], origin))
            return allowed->items[i].p; /* terminated, as every text of a configuration */
    return NULL;
}

static void answer(struct http_request *request, const char *origin, unsigned status, struct str type, struct str body,
                   const char *fields)
{
    autobuf struct buf text = {0};

    buf_add_z(&text, fields);
    if (origin) {
        buf_add_z(&text, "Access-Control-Allow-Origin: ");
        buf_add_z(&text, origin);
        buf_add_z(&text, "\r\nVary: Origin\r\n");
    }
    http_answer(request, &(struct http_answer){.status = status, .type = type, .body = body, .fields = buf_str(&text)});
}

#define TEXT_TYPE STR("text/plain; charset=utf-8")

/* endpoint NULL: there is none. */
static void refuse(struct connector *self, struct http_request *request, const struct rest_endpoint *endpoint,
                   const char *origin, unsigned status, struct str cause, const char *fields)
{
    struct str text = endpoint ? rest_failure_text(endpoint, status) : STR_NONE;
    autobuf struct buf body = {0};

    LOG_DEBUG(ctx_log(self->ctx), "request refused", KV_UINT("status", status), KV_STR("cause", cause));
    if (text.p) {
        answer(request, origin, status, TEXT_TYPE, text, fields);
        return;
    }
    buf_add_z(&body, "{\"error\":");
    json_add_string(&body, cause);
    buf_add_u8(&body, '}');
    answer(request, origin, status, STR("application/json"), buf_str(&body), fields);
}

static void refuse_busy(struct connector *self, struct http_request *request, const char *origin, const char *cause)
{
    ctx_count(self->ctx, IOTGW_SKIPPED, 1);
    refuse(self, request, NULL, origin, 503, str_from(cause), "Retry-After: 1\r\n");
}

/* All that a waiting request is answered, once. */
static void answer_wait(void *arg, struct wait *wait, unsigned status, struct str text)
{
    struct connector *self = arg;

    if (status == 200)
        answer(wait->request, wait->origin, 200, TEXT_TYPE, text, "");
    else if (status == 503)
        refuse_busy(self, wait->request, wait->origin, text.p);
    else
        refuse(self, wait->request, wait->endpoint, wait->origin, status, text, "");
}

/* --- data ---------------------------------------------------------------------------------------------------------------- */

static struct connector *connector_of(struct rest_sink *sink)
{
    return CONTAINER_OF(sink, struct connector, sink);
}

static struct event *begin_event(struct rest_sink *sink, struct device *dev, struct str profile)
{
    struct connector *self = connector_of(sink);

    if (!self->first)
        self->first = dev;
    return ctx_event(self->ctx, dev, profile);
}

static enum err end_event(struct rest_sink *sink)
{
    return ctx_put(connector_of(sink)->ctx);
}

static void dropped(struct rest_sink *sink, enum web_drop cause, struct str detail)
{
    struct connector *self = connector_of(sink);
    struct drop_report *at = &self->drops[cause];
    uint64_t now_ms = loop_mono_ms(ctx_loop(self->ctx));

    at->n++;
    if (now_ms < at->next_ms)
        return;
    at->next_ms = now_ms + REPORT_EVERY_MS;
    LOG_WARN(ctx_converter_log(self->ctx), "left out of a request", KV_Z("cause", web_drop_text(cause)),
             KV_UINT("count", at->n), KV_STR("reason", detail));
    at->n = 0;
}

static void count(struct connector *self)
{
    ctx_count(self->ctx, IOTGW_CONVERTED, self->counted.n_converted);
    if (UNLIKELY(self->counted.n_dropped + self->counted.n_errors + self->counted.n_fallbacks)) {
        ctx_count(self->ctx, IOTGW_DROPPED, self->counted.n_dropped);
        ctx_count(self->ctx, IOTGW_CONVERSION_ERRORS, self->counted.n_errors);
        ctx_count(self->ctx, IOTGW_FALLBACKS, self->counted.n_fallbacks);
    }
    self->counted = (struct web_out){0};
}

static void take_data(struct connector *self, struct http_request *request, const struct rest_endpoint *endpoint,
                      const struct rest_data *data)
{
    const char *origin = origin_of(self, request);
    struct rest_result result;
    struct wait *wait;

    self->first = NULL;
    rest_convert(endpoint, data, &self->sink, ctx_today_ms(self->ctx), &self->arena, &self->counted, &result);
    count(self);
    if (!result.n_events) {
        if (result.status == 200)
            answer(request, origin, 200, TEXT_TYPE, endpoint->response->success, "");
        else if (result.status == 503)
            refuse_busy(self, request, origin, "there is no room for the data");
        else
            refuse(self, request, endpoint, origin, result.status, result.text, "");
        return;
    }
    wait = waits_add(&self->waits, request, endpoint, origin);
    if (result.status != 200)
        wait_set_failure(wait, result.status, result.text);
    else if (endpoint->response->is_expected)
        wait_for_attribute(&self->waits, wait, self->first);
    waits_until_durable(&self->waits, wait, ++self->cookie);
    (void)ctx_mark(self->ctx, self->cookie); /* no room: the next request is told so */
}

static void ask(struct connector *self, struct http_request *request, const struct rest_endpoint *endpoint,
                const struct rest_data *data)
{
    bool is_client = endpoint->scope == SCOPE_CLIENT;
    const char *origin = origin_of(self, request);
    struct rest_question *questions;
    uint64_t first = self->question + 1;
    struct str why;
    unsigned status = rest_questions(endpoint, data, &self->arena, &questions, &why);

    for (size_t i = 0; i < data->n && !status; i++) {
        if (device_get(questions[i].device))
            continue;
        status = 422;
        why = arena_printf(&self->arena, "item %zu: the device's name cannot be used", i + 1);
    }
    if (status) {
        ctx_count(self->ctx, IOTGW_CONVERSION_ERRORS, 1);
        refuse(self, request, endpoint, origin, status, why, "");
        return;
    }
    if (self->waits.n_questions + data->n > REST_QUESTIONS_MAX) {
        refuse_busy(self, request, origin, "too many attribute requests wait for the platform");
        return;
    }
    waits_until_answered(&self->waits, waits_add(&self->waits, request, endpoint, origin), questions, data->n, first);
    self->question += data->n;
    for (size_t i = 0; i < data->n; i++) /* the first failure may answer the request, and end its wait */
        ctx_host_functions.request_attributes(self->ctx, device_get(questions[i].device),
                                              is_client ? STR_NONE : questions[i].names,
                                              is_client ? questions[i].names : STR_NONE, first + i);
}

/* --- requests ------------------------------------------------------------------------------------------------------------ */

/* A browser asks before it sends what another site's page wants it to. */
static bool is_preflight(struct connector *self, struct http_request *request)
{
    struct str method = http_head_get(&request->head, STR("Access-Control-Request-Method"));
    const char *origin = origin_of(self, request);
    struct rest_match match = {0};
    char fields[500];

    if (!origin || !method.p || !str_eq(request->head.method, STR("OPTIONS")) ||
        rest_route_find(self->file, method, request->head.path, &self->arena, &match) != ROUTE_FOUND)
        return false;
    snprintf(fields, sizeof fields,
             "Access-Control-Allow-Methods: %.100s\r\nAccess-Control-Allow-Headers: Authorization, Content-Type\r\n"
             "Access-Control-Max-Age: 600\r\n",
             arena_text(&self->arena, method));
    answer(request, origin, 204, STR_NONE, STR_NONE, fields);
    return true;
}

static void on_head(void *arg, struct http_request *request)
{
    struct connector *self = arg;
    const struct http_head *head = &request->head;
    const char *origin = origin_of(self, request);
    struct rest_match match = {0};
    char allow[500];

    arena_reset(&self->arena);
    if (self->is_quiet) {
        refuse_busy(self, request, origin, "the connector is being stopped");
        return;
    }
    if (UNLIKELY(origin != NULL) && is_preflight(self, request))
        return;
    switch (rest_route_find(self->file, head->method, head->path, &self->arena, &match)) {
    case ROUTE_NONE:
        refuse(self, request, NULL, origin, 404, STR("there is nothing at this path"), "");
        return;
    case ROUTE_METHOD:
        snprintf(allow, sizeof allow, "Allow: %.*s\r\n", (int)str_cut(match.allow, 400).n, match.allow.p);
        refuse(self, request, match.endpoint, origin, 405, STR("the method is not served at this path"), allow);
        return;
    case ROUTE_FOUND:
        break;
    }
    if (!rest_is_allowed(match.endpoint->security, http_head_get(head, STR("Authorization")))) {
        bool is_token = match.endpoint->security->login == LOGIN_TOKEN;

        refuse(self, request, match.endpoint, origin, 401,
               is_token ? STR("the token is missing or wrong") : STR("name or password is missing or wrong"),
               is_token ? "WWW-Authenticate: Bearer\r\n" : "WWW-Authenticate: Basic realm=\"iotgw\"\r\n");
        return;
    }
    if (match.endpoint->converter && (self->waits.is_stuck || !ctx_has_room(self->ctx))) {
        refuse_busy(self, request, origin, "the event storage takes no more at the moment");
        return;
    }
    request->user = (void *)(uintptr_t)match.endpoint;
}

static void on_request(void *arg, struct http_request *request)
{
    struct connector *self = arg;
    const struct http_head *head = &request->head;
    const struct rest_endpoint *endpoint = request->user;
    struct rest_match match = {.endpoint = endpoint};
    struct rest_input input = {.method = head->method,
                               .query = head->query,
                               .content_type = http_head_get(head, STR("Content-Type")),
                               .body = request->body,
                               .match = &match};
    struct rest_data data = {0};
    struct why why = {0};
    unsigned status;

    arena_reset(&self->arena);
    ctx_count(self->ctx, IOTGW_MESSAGES_IN, 1);
    ctx_count(self->ctx, IOTGW_BYTES_IN, head->n_bytes + request->body.n);
    ctx_wire(self->ctx, false, head->path, request->body);
    if (endpoint->route->regex)
        (void)rest_route_find(self->file, head->method, head->path, &self->arena, &match);
    status = rest_data_open(&data, &input, &self->arena, &why);
    if (status) {
        ctx_count(self->ctx, IOTGW_CONVERSION_ERRORS, 1);
        refuse(self, request, endpoint, origin_of(self, request), status, str_from(why_text(&why)), "");
    } else if (endpoint->converter) {
        take_data(self, request, endpoint, &data);
    } else {
        ask(self, request, endpoint, &data);
    }
    rest_data_close(&data);
}

/* --- listening ------------------------------------------------------------------------------------------------------------ */

static enum err open_server(struct connector *self, struct why *why)
{
    static const struct http_server_events events = {.head = on_head, .request = on_request};
    const struct rest_server *server = self->file->server;
    struct http_server_conf conf = {.host = server->host_text,
                                    .port = (uint16_t)server->port,
                                    .tls = server->tls,
                                    .cert_file = server->cert_file,
                                    .key_file = server->key_file,
                                    .max_body = server->max_body,
                                    .max_connections = server->max_connections};

    if (self->cert.ctx) {
        conf.cert_file = self->cert.cert_file;
        conf.key_file = self->cert.key_file;
    }
    return http_server_new(&self->server, ctx_loop(self->ctx), ctx_log(self->ctx), &conf, &events, self, why);
}

static void not_listening(struct connector *self, const struct why *why)
{
    LOG_ERROR(ctx_log(self->ctx), "no requests can be taken", KV_WHY(why));
    ctx_state(self->ctx, STR_NONE, LINK_FAILED, str_from(why_text(why)));
    retry_start(&self->retry, backoff_next(&self->backoff, loop_mono_ms(ctx_loop(self->ctx))));
}

static void listen_now(struct connector *self)
{
    struct why why = {0};
    uint64_t now_ms = loop_mono_ms(ctx_loop(self->ctx));

    if (open_server(self, &why) != ERR_OK) {
        not_listening(self, &why);
        return;
    }
    backoff_up(&self->backoff, now_ms);
    LOG_INFO(ctx_log(self->ctx), "listening", KV_Z("host", self->file->server->host_text),
             KV_UINT("port", http_server_port(self->server)));
    ctx_state(self->ctx, STR_NONE, LINK_UP, STR_NONE);
}

/* The own certificate is there: at the start, and now and then while the server runs. */
static void cert_ready(void *arg, enum err err, bool is_new, const struct why *why)
{
    struct connector *self = arg;
    struct why cause = {0};

    if (is_new)
        LOG_INFO(ctx_log(self->ctx), "a self-signed certificate was made", KV_Z("file", self->cert.cert_file));
    if (!self->server && !self->is_quiet) {
        if (err)
            not_listening(self, why);
        else
            listen_now(self);
    } else if (self->server && err) {
        LOG_ERROR(ctx_log(self->ctx), "the server's certificate ends soon, and no other one can be made", KV_WHY(why));
        retry_start(&self->retry, backoff_next(&self->backoff, loop_mono_ms(ctx_loop(self->ctx))));
    } else if (self->server && is_new &&
               http_server_renew(self->server, self->cert.cert_file, self->cert.key_file, &cause) != ERR_OK) {
        LOG_ERROR(ctx_log(self->ctx), "the new certificate is not used", KV_WHY(&cause));
    }
}

static void start_listening(void *arg)
{
    struct connector *self = arg;

    if (self->cert.ctx)
        rest_cert_ask(&self->cert);
    else
        listen_now(self);
}

/* --- life ------------------------------------------------------------------------------------------------------------------- */

static void end_quiesce(void *arg)
{
    struct connector *self = arg;
    connector_done_fn *done = self->quiet_done;

    self->quiet_done = NULL;
    timer_stop(&self->quiet_timer);
    done(self->quiet_arg);
}

static void end_stop(void *arg)
{
    struct connector *self = arg;

    if (--self->n_closing == 0)
        self->stop_done(self->stop_arg);
}

static enum err connector_open(void *arg, struct ctx *ctx, const void *conf, struct why *why)
{
    struct connector *self = arg;

    (void)why;
    self->ctx = ctx;
    self->file = conf;
    self->sink = (struct rest_sink){.begin = begin_event, .end = end_event, .dropped = dropped};
    arena_init(&self->arena, 16 * 1024);
    if (self->file->server->tls && !self->file->server->cert_file) {
        self->cert.ready = cert_ready;
        self->cert.arg = self;
        rest_cert_init(&self->cert, ctx, ctx_host_functions.data_dir(ctx), self->file->server->host_text);
    }
    rest_jobs_init(&self->jobs, ctx, self->file);
    waits_init(&self->waits, ctx_loop(ctx), answer_wait, self);
    backoff_init(&self->backoff, (uint64_t)(uintptr_t)self ^ (uint64_t)loop_wall_ms(ctx_loop(ctx)));
    retry_init(&self->retry, ctx_loop(ctx), start_listening, self);
    timer_init(&self->quiet_timer, ctx_loop(ctx), end_quiesce, self);
    timer_init(&self->stop_timer, ctx_loop(ctx), end_stop, self);
    return ERR_OK;
}

static void connector_close(void *arg)
{
    struct connector *self = arg;

    if (!self->ctx)
        return;
    retry_stop(&self->retry);
    timer_stop(&self->quiet_timer);
    timer_stop(&self->stop_timer);
    waits_fini(&self->waits);
    rest_probe_fini(&self->probe);
    rest_cert_fini(&self->cert);
    arena_fini(&self->arena);
}

static void connector_start(void *arg)
{
    struct connector *self = arg;

    ctx_state(self->ctx, STR_NONE, LINK_CONNECTING, STR_NONE);
    start_listening(self);
}

static void connector_probe(void *arg)
{
    struct connector *self = arg;

    self->jobs.client = rest_probe_start(&self->probe, self->ctx, self->file); /* closed as that of jobs is */
}

static void connector_quiesce(void *arg, connector_done_fn *done, void *done_arg)
{
    struct connector *self = arg;

    self->is_quiet = true;
    retry_stop(&self->retry);
    if (self->server)
        http_server_quiesce(self->server);
    ctx_flush(self->ctx);
    self->quiet_done = done;
    self->quiet_arg = done_arg;
    timer_start(&self->quiet_timer, ctx_is_idle(self->ctx) ? 0 : QUIESCE_MS);
}

static void connector_stop(void *arg, connector_done_fn *done, void *done_arg)
{
    struct connector *self = arg;

    if (self->quiet_done)
        end_quiesce(self);
    self->is_quiet = true;
    self->stop_done = done;
    self->stop_arg = done_arg;
    self->n_closing = 1;
    timer_start(&self->stop_timer, 0);
    retry_stop(&self->retry);
    self->n_closing += rest_cert_close(&self->cert, end_stop, self);
    rest_jobs_stop(&self->jobs);
    waits_end(&self->waits);
    if (self->jobs.client) {
        self->n_closing++;
        http_client_close(self->jobs.client, end_stop, self);
        self->jobs.client = NULL;
    }
    if (self->server) {
        self->n_closing++;
        http_server_close(self->server, end_stop, self);
        self->server = NULL;
    }
}

static void connector_room(void *arg)
{
    (void)arg; /* whoever comes next is taken; nobody was kept waiting */
}

static void connector_done(void *arg, uint64_t cookie, enum err result)
{
    struct connector *self = arg;

    if (result != ERR_OK && result != ERR_FULL)
        LOG_ERROR(ctx_log(self->ctx), "data was not stored; its clients are told to send it again", KV_ERR(result));
    waits_durable(&self->waits, cookie, result);
    if (self->quiet_done && ctx_is_idle(self->ctx))
        timer_start(&self->quiet_timer, 0);
}

static void connector_attributes(void *arg, uint64_t cookie, enum err result, struct str json)
{
    struct connector *self = arg;

    arena_reset(&self->arena);
    waits_answered(&self->waits, cookie, result, json, &self->arena);
}

static void connector_command(void *arg, struct command *command)
{
    struct connector *self = arg;
    struct why why = {0};
    yyjson_doc *doc = NULL;

    if (command->kind == COMMAND_ATTRIBUTES) {
        doc = json_read(command->params, &why);
        if (!doc)
            LOG_WARN(ctx_log(self->ctx), "attribute update is not understood", KV_WHY(&why));
        arena_reset(&self->arena);
        if (doc && command->dev)
            waits_attribute(&self->waits, command->dev, yyjson_doc_get_root(doc), &self->arena);
    }
    rest_jobs_command(&self->jobs, command, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
}

static bool connector_served(void *arg, struct served *out)
{
    struct connector *self = arg;

    if (self->server)
        http_server_served(self->server, out);
    return self->server != NULL;
}

const struct connector_type iotgw_module = {
    .size = sizeof(struct connector_type),
    .abi = IOTGW_CONNECTOR_ABI,
    .name = "rest",
    .title = "HTTP server",
    .build_id = IOTGW_BUILD_ID,
    .conf = &rest_conf_type,
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
    .convert = rest_dry_run,
    .probe = connector_probe,
    .served = connector_served,
};
