/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Life cycle of the Request connector: one HTTP client, a poll for each mapping, and the requests of the platform.
 *
 *     timer → request_poll.c → HTTP client → request_item.c → web_convert → ctx (batch) → store
 *     .command → request_down.c → request_job.c → HTTP client → reply
 *
 * A server needs no acknowledgement: what could not be stored is asked for again with the next poll.
 */
#include "build_id.h"
#include "request_dry.h"
#include "request_job.h"
#include "request_poll.h"
#include "request_probe.h"

/* Polls begin in groups: as many as one turn bears share a wake-up, and what they bring shares a pack to the platform. */
enum { SPREAD_MS = 1000, STEP_MS = 20, GROUP = 16, QUIESCE_MS = 1900 };

struct connector {
    struct ctx *ctx;
    const struct request_file *file;
    struct http_client *client;
    struct poll *polls;
    size_t n, n_known, n_ok; /* polls; those whose result is known; those whose last one has succeeded */
    struct jobs jobs;
    uint64_t cookie;
    enum link_state told;
    connector_done_fn *quiet_done, *stop_done;
    void *quiet_arg, *stop_arg;
    struct timer quiet_timer, stop_timer;
    struct request_probe probe;
};

/* Connected is whoever's last poll of some mapping has succeeded (request.md 6). */
static void poll_ended(void *arg, struct poll *poll, bool is_ok)
{
    struct connector *self = arg;
    enum link_state state;

    self->n_known += !poll->has_result;
    self->n_ok += (size_t)is_ok - (size_t)(poll->has_result && poll->is_ok);
    poll->has_result = true;
    poll->is_ok = is_ok;
    state = self->n_ok == 0 ? LINK_DOWN : self->n_ok == self->n_known ? LINK_UP : LINK_DEGRADED;
    if (state != self->told || (state == LINK_DOWN && self->n == 1))
        ctx_state(self->ctx, STR_NONE, state, is_ok ? STR_NONE : str_from(poll->reason));
    self->told = state;
}

static void end_quiesce(struct connector *self)
{
    connector_done_fn *done = self->quiet_done;

    self->quiet_done = NULL;
    timer_stop(&self->quiet_timer);
    done(self->quiet_arg);
}

static void quiet_timer_fired(void *arg)
{
    end_quiesce(arg);
}

static void end_stop(void *arg)
{
    struct connector *self = arg;

    self->stop_done(self->stop_arg);
}

static enum err connector_open(void *arg, struct ctx *ctx, const void *conf, struct why *why)
{
    struct connector *self = arg;

    (void)why;
    self->ctx = ctx;
    self->file = conf;
    self->n = self->file->mappings.n;
    self->polls = mem_zero((self->n + 1) * sizeof *self->polls);
    for (size_t i = 0; i < self->n; i++) {
        poll_init(&self->polls[i], ctx, self->file, self->file->mappings.items[i]);
        self->polls[i].cookie = &self->cookie;
        self->polls[i].ended = poll_ended;
        self->polls[i].arg = self;
    }
    jobs_init(&self->jobs, ctx, self->file);
    timer_init(&self->quiet_timer, ctx_loop(ctx), quiet_timer_fired, self);
    timer_init(&self->stop_timer, ctx_loop(ctx), end_stop, self);
    return ERR_OK;
}

static void connector_close(void *arg)
{
    struct connector *self = arg;

    if (!self->ctx)
        return;
    timer_stop(&self->quiet_timer);
    timer_stop(&self->stop_timer);
    for (size_t i = 0; i < self->n; i++)
        poll_fini(&self->polls[i]);
    mem_free(self->polls);
    request_probe_fini(&self->probe);
}

/* First polls are spread over a second, or over the period where it is shorter. */
static uint64_t first_delay(const struct connector *self, size_t i)
{
    uint64_t spread = self->polls[i].mapping->period_ms, step = (uint64_t)SPREAD_MS * GROUP / self->n;

    if (spread > SPREAD_MS)
        spread = SPREAD_MS;
    if (step > STEP_MS)
        step = STEP_MS;
    if (step < 1)
        step = 1;
    return spread * i / self->n / step * step;
}

static bool open_client(struct connector *self)
{
    struct why why = {0};

    self->client = http_client_new(ctx_loop(self->ctx), ctx_log(self->ctx), &why);
    if (self->client)
        return true;
    LOG_ERROR(ctx_log(self->ctx), "nothing can be polled", KV_WHY(&why));
    ctx_state(self->ctx, STR_NONE, LINK_FAILED, str_from(why_text(&why)));
    return false;
}

static void connector_start(void *arg)
{
    struct connector *self = arg;

    if (!open_client(self))
        return;
    self->jobs.client = self->client;
    self->told = LINK_CONNECTING;
    ctx_state(self->ctx, STR_NONE, LINK_CONNECTING, STR_NONE);
    for (size_t i = 0; i < self->n; i++)
        poll_start(&self->polls[i], self->client, first_delay(self, i));
}

static void connector_probe(void *arg)
{
    struct connector *self = arg;

    if (open_client(self))
        request_probe_start(&self->probe, self->ctx, self->file, self->client);
}

static void stop_polls(struct connector *self)
{
    for (size_t i = 0; i < self->n; i++)
        poll_stop(&self->polls[i]);
}

static void connector_quiesce(void *arg, connector_done_fn *done, void *done_arg)
{
    struct connector *self = arg;

    stop_polls(self);
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
    self->stop_done = done;
    self->stop_arg = done_arg;
    stop_polls(self);
    jobs_stop(&self->jobs);
    if (self->client)
        http_client_close(self->client, end_stop, self);
    else
        timer_start(&self->stop_timer, 0);
    self->client = NULL;
}

static void connector_room(void *arg)
{
    struct connector *self = arg;

    for (size_t i = 0; i < self->n; i++)
        poll_room(&self->polls[i]);
}

static void connector_done(void *arg, uint64_t cookie, enum err result)
{
    struct connector *self = arg;

    (void)cookie;
    if (result != ERR_OK && result != ERR_FULL)
        LOG_ERROR(ctx_log(self->ctx), "values were not stored", KV_ERR(result));
    if (self->quiet_done && ctx_is_idle(self->ctx))
        timer_start(&self->quiet_timer, 0);
}

static void connector_command(void *arg, struct command *command)
{
    struct connector *self = arg;

    jobs_command(&self->jobs, command);
}

static void connector_endpoints(void *arg, void (*add)(void *arg, const struct endpoint *endpoint), void *add_arg)
{
    struct connector *self = arg;
    struct arena arena;

    arena_init(&arena, 1024);
    for (size_t i = 0; i < self->n; i++) {
        struct poll *poll = &self->polls[i];

        poll->figures.name = http_url_shown(&arena, poll->mapping->request.url);
        add(add_arg, &poll->figures);
        if (poll->mapping->n_uses) {
            poll->sub_figures.name = arena_printf(&arena, "sub requests of " STR_FMT, STR_ARG(poll->figures.name));
            add(add_arg, &poll->sub_figures);
        }
        poll->figures.name = poll->sub_figures.name = STR_NONE;
        arena_reset(&arena);
    }
    arena_fini(&arena);
}

const struct connector_type iotgw_module = {
    .size = sizeof(struct connector_type),
    .abi = IOTGW_CONNECTOR_ABI,
    .name = "request",
    .title = "HTTP client",
    .build_id = IOTGW_BUILD_ID,
    .conf = &request_conf_type,
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
    .convert = request_dry_run,
    .endpoints = connector_endpoints,
    .probe = connector_probe,
};
