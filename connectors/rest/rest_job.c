/* SPDX-License-Identifier: Apache-2.0 */
#include "rest_job.h"

enum { PAUSE_MS = 200, GRACE_MS = 500, STATUS_SERVER_ERROR = 500 };

struct job {
    struct list node;
    struct rest_jobs *jobs;
    struct command *command;
    struct arena arena;
    struct rest_call *calls;
    struct web_request request; /* of the call at hand */
    size_t n, cap, i;
    unsigned attempt;
    uint64_t deadline_ms; /* of all attempts; 0: none */
    enum err err;         /* the first that failed */
    struct http_call http;
    struct timer timer; /* next attempt, or a reply that leaves the call stack */
    bool waits;         /* for another update of its device */
};

static void send_call(struct job *job);

/* The next update of the device whose turn it is now. */
static void wake_next(struct rest_jobs *jobs, const struct device *dev)
{
    LIST_EACH(node, &jobs->open) {
        struct job *job = CONTAINER_OF(node, struct job, node);

        if (job->waits && job->command->dev == dev) {
            job->waits = false;
            send_call(job);
            return;
        }
    }
}

static void end(struct job *job, enum err err, struct str json)
{
    struct rest_jobs *jobs = job->jobs;
    const struct device *dev = job->command->kind == COMMAND_ATTRIBUTES && !job->waits ? job->command->dev : NULL;

    if (job->http.run)
        http_client_cancel(jobs->client, &job->http);
    timer_stop(&job->timer);
    list_del(&job->node);
    ctx_host_functions.reply(jobs->ctx, job->command, err, json);
    arena_fini(&job->arena);
    mem_free(job->calls);
    mem_free(job);
    if (dev && !jobs->is_stopped)
        wake_next(jobs, dev);
}

static uint64_t now_ms(const struct job *job)
{
    return loop_mono_ms(ctx_loop(job->jobs->ctx));
}

static void answered(struct http_call *http, enum err err, const struct http_reply *reply);

static void prepare(struct job *job, const struct rest_call *call)
{
    static const struct http_keys keys = {
        .verify = "SSLVerify", .timeout = "timeout", .redirects = "allowRedirects", .host = "requestUrlExpression"};
    const struct rest_security *security = call->security;

    static_assert(sizeof(struct http_header) == sizeof(struct web_field), "one is the other");
    job->request = call->request;
    if (call->form.p && !rest_form(call, &job->arena, &job->request))
        LOG_ERROR(ctx_log(job->jobs->ctx), "a form has no fields: valueExpression does not give a JSON object",
                  KV_STR("url", http_url_shown(&job->arena, call->request.url)));
    job->http = (struct http_call){.method = job->request.method,
                                   .url = job->request.url,
                                   .headers = (const struct http_header *)(const void *)job->request.headers,
                                   .n_headers = job->request.n_headers,
                                   .body = job->request.body,
                                   .verify = call->verify,
                                   .allow_redirects = call->allow_redirects,
                                   .keys = &keys,
                                   .done = answered,
                                   .arg = job};
    if (security && security->login == LOGIN_BASIC) {
        job->http.username = security->username.value;
        job->http.password = security->password.value;
    } else if (security && security->login == LOGIN_CERT) {
        job->http.cert_file = security->cert_file;
        job->http.key_file = security->key_file ? security->key_file : security->cert_file;
    }
}

static void send_call(struct job *job)
{
    const struct rest_call *call = &job->calls[job->i];
    uint64_t left = job->deadline_ms > now_ms(job) ? job->deadline_ms - now_ms(job) : 1;

    prepare(job, call);
    job->http.timeout_ms = job->deadline_ms && left < call->timeout_ms ? left : call->timeout_ms;
    job->attempt++;
    ctx_wire(job->jobs->ctx, true, job->http.url, job->http.body);
    http_client_start(job->jobs->client, &job->http);
}

static void timer_fired(void *arg)
{
    send_call(arg);
}

static bool try_again(struct job *job, enum err err, const struct http_reply *reply)
{
    const struct rest_call *call = &job->calls[job->i];
    uint64_t pause = (uint64_t)PAUSE_MS << (job->attempt < 8 ? job->attempt - 1 : 7);

    if (job->attempt >= call->tries || (!err && reply->status < STATUS_SERVER_ERROR))
        return false;
    if (!(err && reply->is_unsent) && !rest_may_repeat(call->request.method))
        return false;
    if (job->deadline_ms && now_ms(job) + pause >= job->deadline_ms)
        return false;
    timer_start(&job->timer, pause);
    return true;
}

static void log_answer(struct job *job, enum err err, const struct http_reply *reply)
{
    struct log *log = ctx_log(job->jobs->ctx);
    struct str url = http_url_shown(&job->arena, job->http.url);

    if (err)
        LOG_ERROR(log, "request failed", KV_STR("method", job->http.method), KV_STR("url", url), KV_WHY(reply->why));
    else if (reply->status >= 400)
        LOG_ERROR(log, "request refused", KV_STR("method", job->http.method), KV_STR("url", url),
                  KV_UINT("status", reply->status));
    else
        LOG_DEBUG(log, "request answered", KV_STR("method", job->http.method), KV_STR("url", url),
                  KV_UINT("status", reply->status));
    if (!err && reply->status >= 400 && !job->err)
        job->err = ERR_REFUSED;
    if (err && !job->err)
        job->err = err;
}

static void answered(struct http_call *http, enum err err, const struct http_reply *reply)
{
    struct job *job = http->arg;
    struct ctx *ctx = job->jobs->ctx;
    struct str json;

    ctx_count(ctx, IOTGW_MESSAGES_OUT, 1);
    ctx_count(ctx, IOTGW_BYTES_OUT, reply->n_bytes_out);
    ctx_count(ctx, IOTGW_BYTES_IN, reply->n_bytes_in);
    if (try_again(job, err, reply))
        return;
    log_answer(job, err, reply);
    if (job->command->kind == COMMAND_RPC) {
        json = err ? rest_failure(err, str_from(why_text(reply->why)), &job->arena)
                   : rest_result_text(reply->status, reply->reason, reply->body, &job->arena);
        end(job, ERR_OK, json);
        return;
    }
    job->attempt = 0;
    if (++job->i < job->n)
        send_call(job);
    else
        end(job, job->err, STR_NONE);
}

static void add_call(void *arg, const struct rest_call *call)
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

/* The client, which costs megabytes, comes with the first request. */
static bool has_client(struct job *job, struct str *answer)
{
    struct rest_jobs *jobs = job->jobs;
    struct why why = {0};

    if (!jobs->client && !jobs->is_stopped)
        jobs->client = http_client_new(ctx_loop(jobs->ctx), ctx_log(jobs->ctx), &why);
    if (jobs->client)
        return true;
    LOG_ERROR(ctx_log(jobs->ctx), "nothing can be sent to devices", KV_WHY(&why));
    *answer = rest_failure(ERR_CLOSED, str_from(why_text(&why)), &job->arena);
    return false;
}

static void begin_rpc(struct job *job)
{
    const struct command *command = job->command;
    const struct rest_rpc rpc = {.device = command->dev ? device_name(command->dev) : STR_NONE,
                                 .method = command->method,
                                 .id = command->id,
                                 .params = command->params};
    struct rest_call call;
    struct str answer;
    uint64_t whole_ms;
    enum err err = rest_rpc(job->jobs->file, &rpc, &job->arena, &call, &answer);

    if (err) {
        end(job, err == ERR_NOTFOUND ? ERR_NOTFOUND : ERR_USAGE, answer);
        return;
    }
    if (!has_client(job, &answer)) {
        end(job, ERR_OK, answer);
        return;
    }
    add_call(job, &call);
    whole_ms = call.response_timeout_ms;
    if (whole_ms)
        job->deadline_ms = now_ms(job) + whole_ms;
    else
        whole_ms = call.tries * (call.timeout_ms + ((uint64_t)PAUSE_MS << (call.tries < 8 ? call.tries : 8)));
    (void)ctx_deadline(job->jobs->ctx, job->command, whole_ms + GRACE_MS);
    send_call(job);
}

static bool is_busy(const struct job *job)
{
    LIST_EACH(node, &job->jobs->open) {
        const struct job *other = CONTAINER_OF(node, struct job, node);

        if (other != job && other->command->kind == COMMAND_ATTRIBUTES && other->command->dev == job->command->dev)
            return true;
    }
    return false;
}

static void begin_attributes(struct job *job, yyjson_val *values)
{
    struct str answer;

    if (job->command->dev)
        rest_attributes(job->jobs->file, device_name(job->command->dev), values, &job->arena, add_call, log_failed,
                        job);
    if (!job->n)
        end(job, job->err, STR_NONE);
    else if (!has_client(job, &answer))
        end(job, ERR_CLOSED, STR_NONE);
    else if (is_busy(job))
        job->waits = true;
    else
        send_call(job);
}

void rest_jobs_init(struct rest_jobs *jobs, struct ctx *ctx, const struct rest_file *file)
{
    *jobs = (struct rest_jobs){.ctx = ctx, .file = file};
    list_init(&jobs->open);
}

void rest_jobs_command(struct rest_jobs *jobs, struct command *command, yyjson_val *values)
{
    struct job *job = mem_zero(sizeof *job);

    job->jobs = jobs;
    job->command = command;
    arena_init(&job->arena, 2048);
    timer_init(&job->timer, ctx_loop(jobs->ctx), timer_fired, job);
    list_add_tail(&jobs->open, &job->node);
    if (command->kind == COMMAND_RPC)
        begin_rpc(job);
    else
        begin_attributes(job, values);
}

void rest_jobs_stop(struct rest_jobs *jobs)
{
    struct list *node;

    jobs->is_stopped = true;
    while ((node = list_first(&jobs->open)))
        end(CONTAINER_OF(node, struct job, node), ERR_CLOSED,
            STR("{\"result\":{\"error\":\"the connector was stopped\"}}"));
}
