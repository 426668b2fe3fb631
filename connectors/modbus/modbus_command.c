/* SPDX-License-Identifier: Apache-2.0 */
#include "modbus_command.h"

#include "modbus_poll.h"

/*
 *     command → modbus_rpc, modbus_updates → request → link → answer ─┬─ next one ─┐
 *                    └── none, or refused ──► reply ◄── after the last ┴────────────┘
 * A job whose reply is given before its request ends (a stop) lives until it does.
 */
struct job {
    struct list node;
    struct modbus_jobs *jobs;
    struct command *command; /* NULL: replied */
    struct arena arena;
    struct modbus_calls calls;
    struct modbus_call *updates; /* COMMAND_ATTRIBUTES */
    size_t n, cap, i;
    struct buf list; /* of a call to the connector */
    enum err err;    /* the first that failed */
    struct modbus_request request;
    bool is_asking;
    struct conf *ad_hoc; /* with a connection of its own */
    struct modbus_call ad_hoc_call;
    struct modbus_link *own_link;
};

void modbus_jobs_init(struct modbus_jobs *jobs, struct ctx *ctx, const struct modbus_file *file)
{
    *jobs = (struct modbus_jobs){.ctx = ctx, .file = file};
    list_init(&jobs->open);
}

struct modbus_link_conf modbus_link_conf_of(const struct modbus_wire *wire)
{
    static const enum modbus_line_kind kinds[] = {[MODBUS_OVER_TCP] = MODBUS_LINE_STREAM,
                                                  [MODBUS_OVER_UDP] = MODBUS_LINE_DATAGRAM,
                                                  [MODBUS_OVER_SERIAL] = MODBUS_LINE_SERIAL};
    const struct modbus_tls *tls = wire->tls;
    struct modbus_link_conf conf = {
        .name = wire->link.p,
        .framing = wire->framing == MODBUS_FRAMED_RTU     ? MODBUS_RTU
                   : wire->framing == MODBUS_FRAMED_ASCII ? MODBUS_ASCII
                                                          : MODBUS_SOCKET,
        .line = {.kind = kinds[wire->medium],
                 .host = wire->host.p,
                 .port = wire->port_number,
                 .timeout_ms = wire->timeout_ms,
                 .serial = {.path = wire->link.p,
                            .baudrate = wire->baudrate,
                            .bytesize = (uint8_t)wire->bytesize,
                            .half_stopbits = wire->half_stopbits,
                            .parity = wire->parity_char,
                            .rs485 = wire->rs485}},
        .max_in_flight = (uint8_t)wire->max_in_flight,
        .delay_ms = wire->delay_ms,
        .attempts = wire->attempts,
        .attempt_pause_ms = wire->attempt_pause_ms,
        .failed_pause_ms = wire->failed_pause_ms,
        .local_echo = wire->local_echo,
    };

    if (wire->framing != MODBUS_FRAMED_TLS)
        return conf;
    conf.line.tls = (struct tls_conf){.is_on = true, .insecure = true};
    if (tls) {
        conf.line.tls.insecure = !tls->verify;
        conf.line.tls.ca_file = tls->verify && tls->ca.n ? tls->ca.p : NULL;
        conf.line.tls.cert_file = tls->cert.n ? tls->cert.p : NULL;
        conf.line.tls.key_file = tls->key.n ? tls->key.p : NULL;
        conf.line.tls.key_password = tls->password.value.n ? tls->password.value.p : NULL;
        conf.line.tls.server_name = tls->server_name.n ? tls->server_name.p : NULL;
    }
    return conf;
}

/* --- the end of a job ------------------------------------------------------------------------------------------------------ */

static void job_free(struct job *job)
{
    list_del(&job->node);
    modbus_calls_fini(&job->calls);
    conf_unref(job->ad_hoc);
    buf_fini(&job->list);
    arena_fini(&job->arena);
    mem_free(job->updates);
    mem_free(job);
}

static void own_link_closed(void *arg)
{
    struct job *job = arg;
    struct modbus_jobs *jobs = job->jobs;

    job_free(job);
    if (--jobs->n_closing == 0 && jobs->is_stopped)
        jobs->quiet(jobs->arg);
}

static void job_end(struct job *job, enum err err, struct str json)
{
    if (job->command)
        ctx_host_functions.reply(job->jobs->ctx, job->command, err, json);
    job->command = NULL;
    if (job->own_link) {
        job->jobs->n_closing++;
        modbus_link_close(job->own_link, own_link_closed, job);
        job->own_link = NULL;
    } else if (!job->is_asking) {
        job_free(job);
    }
}

/* --- requests -------------------------------------------------------------------------------------------------------------- */

static enum err write_pdu(struct modbus_pdu *pdu, const struct modbus_call *call)
{
    const struct modbus_write *write = call->write;
    uint8_t bits[MODBUS_WRITE_COILS_MAX / 8] = {0};

    switch (call->function_code) {
    case MODBUS_WRITE_COIL:
        modbus_ask_write_coil(pdu, call->address, write->coils[0]);
        return ERR_OK;
    case MODBUS_WRITE_REGISTER:
        modbus_ask_write_register(pdu, call->address, write->registers[0]);
        return ERR_OK;
    case MODBUS_WRITE_COILS:
        for (unsigned i = 0; i < call->count; i++)
            bits[i / 8] = (uint8_t)(bits[i / 8] | write->coils[i] << (i % 8));
        return modbus_ask_write_coils(pdu, call->address, call->count, bits);
    default:
        return modbus_ask_write_registers(pdu, call->address, call->count, write->registers);
    }
}

static const struct modbus_call *current(const struct job *job)
{
    if (job->ad_hoc)
        return &job->ad_hoc_call;
    return job->updates ? &job->updates[job->i] : &job->calls.items[job->i];
}

/* All attempts of all that is still to be asked end a little before the command's deadline. */
static void fit_deadline(const struct job *job, const struct modbus_wire *wire, struct modbus_request *request)
{
    enum { MARGIN_MS = 100 };
    uint64_t now = loop_mono_ms(ctx_loop(job->jobs->ctx)), deadline = job->command->deadline_ms;
    uint64_t left = deadline > now + 2 * MARGIN_MS ? deadline - now - MARGIN_MS : MARGIN_MS, n;

    left = left / (job->n - job->i);
    if (left < 1)
        left = 1;
    request->timeout_ms = wire->timeout_ms < left ? wire->timeout_ms : (uint32_t)left;
    n = left / request->timeout_ms;
    request->retries = (uint8_t)(n <= 1 ? 0 : n - 1 < wire->n_retries ? n - 1 : wire->n_retries);
}

static void answered(struct modbus_request *request, enum err err, const struct modbus_pdu *reply);

static bool ask(struct job *job, const struct modbus_call *call, struct modbus_link *link)
{
    struct modbus_request *request = &job->request;
    enum err err;

    err = call->is_write
              ? write_pdu(&request->pdu, call)
              : modbus_ask_read(&request->pdu, (enum modbus_fc)call->function_code, call->address, call->count);
    if (err)
        return false;
    request->unit = (uint8_t)call->slave->unit;
    request->is_command = true;
    request->done = answered;
    request->arg = job;
    fit_deadline(job, &call->slave->wire, request);
    job->is_asking = true;
    modbus_tell_wire(job->jobs->ctx, true, call->slave->device_name, &request->pdu);
    modbus_link_send(link, request);
    return true;
}

/* The answer of one call is there; failed: it says why not. */
static void add_answer(struct job *job, const struct modbus_call *call, struct str answer, bool failed, enum err err)
{
    if (failed && !job->err)
        job->err = err ? err : ERR_REFUSED;
    if (job->command && job->command->kind == COMMAND_ATTRIBUTES)
        return;
    if (job->calls.of_connector && job->list.n)
        buf_add_u8(&job->list, ',');
    buf_add_str(&job->list, answer);
    (void)call;
}

static void go_on(struct job *job)
{
    struct modbus_jobs *jobs = job->jobs;
    struct str json;

    while (job->i < job->n && job->command) {
        const struct modbus_call *call = current(job);
        struct modbus_link *link =
            call->slave ? job->own_link ? job->own_link : jobs->link_of(jobs->arg, call->slave) : NULL;

        if (!call->slave)
            add_answer(job, call, jobs->own(jobs->arg, call, &job->arena), false, ERR_OK);
        else if (link && ask(job, call, link))
            return;
        else
            add_answer(job, call, modbus_answer_failure(call, STR("there is no connection to the device"), &job->arena),
                       true, ERR_CLOSED);
        job->i++;
    }
    if (job->command && job->command->kind == COMMAND_ATTRIBUTES) {
        job_end(job, job->err, STR_NONE);
        return;
    }
    if (!job->calls.of_connector) {
        job_end(job, ERR_OK, buf_str(&job->list));
        return;
    }
    json = arena_printf(&job->arena, "[%.*s]", (int)job->list.n, (const char *)job->list.p);
    job_end(job, ERR_OK, json);
}

static struct str failure_text(struct job *job, enum err err, const struct modbus_pdu *reply)
{
    uint8_t code = reply ? modbus_exception_of(reply) : 0;

    if (code)
        return arena_printf(&job->arena, "%s (exception %u)", modbus_exception_name(code), code);
    if (err == ERR_TIMEOUT)
        return STR("timed out: the device does not answer");
    if (err == ERR_UNREACHABLE)
        return STR("the device does not answer");
    if (err == ERR_CLOSED)
        return STR("the device is not connected");
    return str_from(err_text(err));
}

static void log_update(const struct job *job, const struct modbus_call *call, struct str reason)
{
    LOG_ERROR(ctx_log(job->jobs->ctx), "an attribute could not be written",
              KV_STR("device", call->slave ? call->slave->device_name : STR_NONE), KV_STR("attribute", call->tag),
              KV_STR("reason", reason));
}

static void answered(struct modbus_request *request, enum err err, const struct modbus_pdu *reply)
{
    struct job *job = request->arg;
    const struct modbus_call *call = current(job);
    struct modbus_jobs *jobs = job->jobs;
    bool failed = err || (reply && modbus_exception_of(reply));
    struct str answer = STR_NONE, text;
    struct why why = {0};

    job->is_asking = false;
    modbus_count(jobs->ctx, NULL, request, err, reply);
    if (!job->command) {
        if (!job->ad_hoc)
            job_free(job);
        return; /* one with a connection of its own ends with it */
    }
    if (reply)
        modbus_tell_wire(jobs->ctx, false, call->slave->device_name, reply);
    if (!failed && call->is_write)
        answer = modbus_answer_value(call, call->echo.n ? call->echo : STR("null"), &job->arena);
    else if (!failed && reply && modbus_decode(&call->decoder, reply->bytes + 2, 0, &job->arena, &text, &why) == ERR_OK)
        answer = modbus_answer_value(call, text, &job->arena);
    else
        failed = true;
    if (failed) {
        text = why.err          ? str_from(why_text(&why))
               : !err && !reply ? STR("a broadcast has no answer")
                                : failure_text(job, err, reply);
        if (job->command->kind == COMMAND_ATTRIBUTES)
            log_update(job, call, text);
        answer = job->ad_hoc && err ? modbus_answer_refused(text, &job->arena)
                                    : modbus_answer_failure(call, text, &job->arena);
    }
    add_answer(job, call, answer, failed, err);
    job->i++;
    go_on(job);
}

/* --- beginnings ------------------------------------------------------------------------------------------------------------ */

static void add_update(void *arg, const struct modbus_call *call)
{
    struct job *job = arg;

    if (job->n == job->cap) {
        job->cap = job->cap ? job->cap * 2 : 2;
        job->updates = mem_grow(job->updates, job->cap * sizeof *job->updates);
    }
    job->updates[job->n++] = *call;
}

static void update_failed(void *arg, struct str tag, const struct why *why)
{
    struct job *job = arg;

    LOG_ERROR(ctx_log(job->jobs->ctx), "an attribute cannot be written", KV_STR("attribute", tag), KV_WHY(why));
    if (!job->err)
        job->err = ERR_USAGE;
}

static void begin_attributes(struct job *job)
{
    struct why why = {0};
    yyjson_doc *doc = json_read(job->command->params, &why);

    if (doc && job->command->dev)
        modbus_updates(job->jobs->file, device_name(job->command->dev), yyjson_doc_get_root(doc), &job->arena,
                       add_update, update_failed, job);
    else
        LOG_WARN(ctx_log(job->jobs->ctx), "an attribute update is not understood", KV_WHY(&why));
    yyjson_doc_free(doc);
    go_on(job);
}

/* One request over a connection that is made for it, unless there is one to that place. */
static void begin_ad_hoc(struct job *job)
{
    struct modbus_jobs *jobs = job->jobs;
    const struct modbus_slave *slave;
    struct modbus_link_conf conf;
    struct modbus_link *link;
    struct why why = {0};

    job->ad_hoc = modbus_ad_hoc_load(job->calls.ad_hoc, &why);
    slave = job->ad_hoc ? conf_root(job->ad_hoc) : NULL;
    if (!slave ||
        modbus_call_of_params(&job->ad_hoc_call, slave, job->calls.ad_hoc_params, &job->arena, &why) != ERR_OK) {
        job_end(job, ERR_USAGE, modbus_answer_refused(str_from(why_text(&why)), &job->arena));
        return;
    }
    job->n = 1;
    link = jobs->link_at(jobs->arg, slave->wire.link);
    if (!link) {
        conf = modbus_link_conf_of(&slave->wire);
        conf.attempts = 1;
        link = job->own_link =
            modbus_link_new(ctx_loop(jobs->ctx), ctx_log(jobs->ctx), &conf, &(struct modbus_link_events){0}, job);
    }
    if (!ask(job, &job->ad_hoc_call, link))
        job_end(job, ERR_USAGE, modbus_answer_refused(STR("this cannot be asked"), &job->arena));
}

static void begin_rpc(struct job *job)
{
    const struct command *command = job->command;
    const struct modbus_asked_for asked = {.device = command->dev ? device_name(command->dev) : STR_NONE,
                                           .method = command->method,
                                           .params = command->params};
    struct str answer;
    enum err err = modbus_rpc(job->jobs->file, &asked, &job->arena, &job->calls, &answer);

    if (err) {
        job_end(job, err == ERR_NOTFOUND ? ERR_NOTFOUND : ERR_USAGE, answer);
        return;
    }
    job->n = job->calls.n;
    if (job->calls.ad_hoc.p)
        begin_ad_hoc(job);
    else
        go_on(job);
}

void modbus_jobs_command(struct modbus_jobs *jobs, struct command *command)
{
    struct job *job = mem_zero(sizeof *job);

    job->jobs = jobs;
    job->command = command;
    arena_init(&job->arena, 2048);
    list_add_tail(&jobs->open, &job->node);
    if (jobs->is_stopped)
        job_end(job, ERR_CLOSED, STR("{\"result\":{\"error\":\"the connector is not running\"}}"));
    else if (command->kind == COMMAND_RPC)
        begin_rpc(job);
    else
        begin_attributes(job);
}

bool modbus_jobs_stop(struct modbus_jobs *jobs)
{
    jobs->is_stopped = true;
    LIST_EACH_SAFE(node, &jobs->open) {
        struct job *job = CONTAINER_OF(node, struct job, node);

        if (job->command)
            job_end(job, ERR_CLOSED, STR("{\"result\":{\"error\":\"the connector was stopped\"}}"));
    }
    return jobs->n_closing > 0;
}
