/* SPDX-License-Identifier: Apache-2.0 */
#include "request_job.h"

enum { PAUSE_MS = 200, GRACE_MS = 500, STATUS_SERVER_ERROR = 500 };

struct job {
    struct list node;
    struct jobs *jobs;
    struct command *command;
    struct arena arena;
    struct down_call *calls;
    size_t n, cap, i;
    unsigned attempt;
    uint64_t deadline_ms; /* of all attempts; 0: none */
    enum err err;         /* the first that failed */
    struct http_call http;
    struct timer retry;
};

void request_prepare(const struct request_file *file, const struct web_request *request, struct http_call *call)
{
    static const struct http_keys keys = {.verify = "SSLVerify",
                                          .ca = "REQUESTS_CA_BUNDLE",
                                          .timeout = "timeout",
                                          .max_body = "maxBodyBytes",
                                          .redirects = "allowRedirects",
                                          .host = "host"};

    static_assert(sizeof(struct http_header) == sizeof(struct web_field), "one is the other");
    *call = (struct http_call){.method = request->method,
                               .url = request->url,
                               .headers = (const struct http_header *)(const void *)request->headers,
                               .n_headers = request->n_headers,
                               .body = request->body,
                               .verify = file->verify,
                               .ca_file = file->ca_file,
                               .max_body = file->max_body,
                               .keys = &keys};
    if (request->with_credentials && file->username.p) {
        call->username = file->username;
        call->password = file->password;
    }
}

void request_tell_wire(struct ctx *ctx, bool is_out, struct str url, struct str body)
{
    struct arena arena;

    if (!ctx_is_tapped(CTX_TAP_WIRE))
        return;
    arena_init(&arena, 0);
    ctx_tell_wire(ctx, is_out, http_url_shown(&arena, url), body);
    arena_fini(&arena);
}

void jobs_init(struct jobs *jobs, struct ctx *ctx, const struct request_file *file)
{
    *jobs = (struct jobs){.ctx = ctx, .file = file};
    list_init(&jobs->open);
}

static void end(struct job *job, enum err err, struct str json)
{
    struct jobs *jobs = job->jobs;

    if (job->http.run)
        http_client_cancel(jobs->client, &job->http);
    timer_stop(&job->retry);
    list_del(&job->node);
    ctx_host_functions.reply(jobs->ctx, job->command, err, json);
    arena_fini(&job->arena);
    mem_free(job->calls);
    mem_free(job);
}

static uint64_t now_ms(const struct job *job)
{
    return loop_mono_ms(ctx_loop(job->jobs->ctx));
}

static void answered(struct http_call *http, enum err err, const struct http_reply *reply);

static void send_call(struct job *job)
{
    const struct down_call *call = &job->calls[job->i];
    uint64_t left = job->deadline_ms > now_ms(job) ? job->deadline_ms - now_ms(job) : 1;

    request_prepare(job->jobs->file, &call->request, &job->http);
    job->http.timeout_ms = job->deadline_ms && left < call->timeout_ms ? left : call->timeout_ms;
    job->http.allow_redirects = call->allow_redirects;
    job->http.done = answered;
    job->http.arg = job;
    job->attempt++;
    request_tell_wire(job->jobs->ctx, true, job->http.url, job->http.body);
    http_client_start(job->jobs->client, &job->http);
}

static void retry_due(void *arg)
{
    send_call(arg);
}

static bool try_again(struct job *job, enum err err, const struct http_reply *reply)
{
    const struct down_call *call = &job->calls[job->i];
    uint64_t pause = (uint64_t)PAUSE_MS << (job->attempt < 8 ? job->attempt - 1 : 7);

    if (job->attempt >= call->tries || (!err && reply->status < STATUS_SERVER_ERROR))
        return false;
    if (!(err && reply->is_unsent) && !down_may_repeat(call->request.method))
        return false;
    if (job->deadline_ms && now_ms(job) + pause >= job->deadline_ms)
        return false;
    timer_start(&job->retry, pause);
    return true;
}

static void log_answer(struct job *job, enum err err, const struct http_reply *reply)
{
    struct log *log = ctx_log(job->jobs->ctx);
    const struct down_call *call = &job->calls[job->i];
    struct str url = http_url_shown(&job->arena, call->request.url);
    bool is_refused = !err && (reply->status >= 400 || (reply->status >= 300 && !call->allow_redirects));

    if (err)
        LOG_ERROR(log, "request failed", KV_STR("method", call->request.method), KV_STR("url", url),
                  KV_WHY(reply->why));
    else if (is_refused)
        LOG_ERROR(log, "request refused", KV_STR("method", call->request.method), KV_STR("url", url),
                  KV_UINT("status", reply->status));
    else
        LOG_DEBUG(log, "request answered", KV_STR("method", call->request.method), KV_STR("url", url),
                  KV_UINT("status", reply->status));
    if (is_refused && !job->err)
        job->err = ERR_REFUSED;
    if (err && !job->err)
        job->err = err;
}

static void answered(struct http_call *http, enum err err, const struct http_reply *reply)
{
    struct job *job = http->arg;
    struct ctx *ctx = job->jobs->ctx;
    const struct down_call *call = &job->calls[job->i];
    struct str json;

    ctx_count(ctx, IOTGW_MESSAGES_OUT, 1);
    ctx_count(ctx, IOTGW_BYTES_OUT, reply->n_bytes_out);
    ctx_count(ctx, IOTGW_BYTES_IN, reply->n_bytes_in);
    if (!err)
        request_tell_wire(ctx, false, call->request.url, reply->body);
    if (try_again(job, err, reply))
        return;
    log_answer(job, err, reply);
    if (job->command->kind == COMMAND_RPC) {
        json = err ? down_failure(call, err, str_from(why_text(reply->why)), &job->arena)
                   : down_result(call, reply->status, reply->reason, reply->body, &job->arena);
        end(job, ERR_OK, json);
        return;
    }
    job->attempt = 0;
    if (++job->i < job->n)
        send_call(job);
    else
        end(job, job->err, STR_NONE);
}

static void add_call(void *arg, const struct down_call *call)
{
    struct job *job = arg;

    if (job->n == job->cap) {
        job->cap = job->cap ? job->cap * 2 : 1;
        job->calls = mem_grow(job->calls, job->cap * sizeof *job->calls);
    }
    job->calls[job->n++] = *call;
}

static void log_failed(void *arg, struct str key, const struct why *why)
{
    struct job *job = arg;

    LOG_ERROR(ctx_log(job->jobs->ctx), "attribute update cannot be sent",
              KV_STR("device", device_name(job->command->dev)), KV_STR("key", key), KV_WHY(why));
    job->err = ERR_USAGE;
}

static void begin_rpc(struct job *job)
{
    const struct command *command = job->command;
    const struct down_rpc rpc = {.device = command->dev ? device_name(command->dev) : STR_NONE,
                                 .method = command->method,
                                 .id = command->id,
                                 .params = command->params};
    struct down_call call;
    struct str answer;
    enum err err = down_rpc(job->jobs->file, &rpc, &job->arena, &call, &answer);

    if (err) {
        end(job, err == ERR_NOTFOUND ? ERR_NOTFOUND : ERR_USAGE, answer);
        return;
    }
    add_call(job, &call);
    job->deadline_ms = now_ms(job) + call.response_timeout_ms;
    (void)ctx_deadline(job->jobs->ctx, job->command, call.response_timeout_ms + GRACE_MS);
    send_call(job);
}

static void begin_attributes(struct job *job)
{
    struct why why = {0};
    yyjson_doc *doc = json_read(job->command->params, &why);

    if (doc && job->command->dev)
        down_attributes(job->jobs->file, device_name(job->command->dev), yyjson_doc_get_root(doc), &job->arena,
                        add_call, log_failed, job);
    else
        LOG_WARN(ctx_log(job->jobs->ctx), "attribute update is not understood", KV_WHY(&why));
    yyjson_doc_free(doc);
    if (job->n)
        send_call(job);
    else
        end(job, job->err, STR_NONE);
}

void jobs_command(struct jobs *jobs, struct command *command)
{
    struct job *job = mem_zero(sizeof *job);

    job->jobs = jobs;
    job->command = command;
    arena_init(&job->arena, 2048);
    timer_init(&job->retry, ctx_loop(jobs->ctx), retry_due, job);
    list_add_tail(&jobs->open, &job->node);
    if (!jobs->client)
        end(job, ERR_CLOSED, STR("{\"result\":{\"error\":\"the connector is not running\"}}"));
    else if (command->kind == COMMAND_RPC)
        begin_rpc(job);
    else
        begin_attributes(job);
}

void jobs_stop(struct jobs *jobs)
{
    struct list *node;

    while ((node = list_first(&jobs->open)))
        end(CONTAINER_OF(node, struct job, node), ERR_CLOSED,
            STR("{\"result\":{\"error\":\"the connector was stopped\"}}"));
    jobs->client = NULL;
}
