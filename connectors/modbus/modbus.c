/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Life cycle of the Modbus connector: a link for each connection, on it a poll for each device, the platform's calls,
 * and the gateway's own server.
 *
 *     timer → modbus_poll.c → modbus_link.c → modbus_collect.c → ctx (batch) → store
 *     .command → modbus_command.c → modbus_link.c → reply
 *     masters → modbus_server.c → memory → ctx
 *
 * A device needs no acknowledgement: what could not be stored is read again with the next poll.
 */
#include "base/map.h"
#include "build_id.h"
#include "modbus_browse.h"
#include "modbus_command.h"
#include "modbus_dry.h"
#include "modbus_poll.h"
#include "modbus_probe.h"
#include "modbus_server.h"

#include <stdio.h>

/* First polls are spread over a second; up to GROUP of different connections share a wake-up, and what they bring a pack to
 * the platform: at a poll a second, waking up costs more than all else. */
enum { SPREAD_MS = 1000, STEPS_MIN = 5, GROUP = 32, QUIESCE_MS = 1900, UNITS = 256 };

struct carrier { /* one connection, and who is on it */
    struct connector *self;
    const struct modbus_slave *first;
    struct modbus_link *link;
    struct poll **polls;
    size_t n;
    bool is_up, was_up;
    bool is_silent[UNITS];
    unsigned n_silent;
};

struct connector {
    struct ctx *ctx;
    const struct modbus_file *file;
    struct carrier *carriers;
    struct poll *polls; /* as the devices stand in the file */
    struct modbus_device *devices;
    size_t n_carriers, n;
    struct modbus_jobs jobs;
    struct modbus_server *server;
    struct modbus_probe *probe;   /* test-connection */
    struct modbus_browse *browse; /* browse */
    uint64_t cookie;
    unsigned n_closing;
    bool is_started;
    connector_done_fn *quiet_done, *stop_done;
    void *quiet_arg, *stop_arg;
    struct timer quiet_timer, stop_timer;
};

/* --- links ------------------------------------------------------------------------------------------------------------------ */

static struct str link_name(const struct carrier *carrier)
{
    return carrier->self->n_carriers == 1 && !carrier->self->server ? STR_NONE : carrier->first->wire.link;
}

static void tell_state(struct carrier *carrier, enum link_state state, struct str reason)
{
    ctx_state(carrier->self->ctx, link_name(carrier), state, reason);
}

/* unit: one that may be silent, and whose turn it is to be named. */
static void tell_units(struct carrier *carrier, unsigned unit)
{
    char text[80];

    if (!carrier->n_silent) {
        tell_state(carrier, LINK_UP, STR_NONE);
        return;
    }
    if (!carrier->is_silent[unit])
        for (unit = 0; !carrier->is_silent[unit];)
            unit++;
    if (carrier->n_silent == 1)
        snprintf(text, sizeof text, "unit %u does not answer", unit);
    else
        snprintf(text, sizeof text, "unit %u does not answer, and %u more", unit, carrier->n_silent - 1);
    tell_state(carrier, LINK_DEGRADED, str_from(text));
}

/* A connection is a device's only where it proves that somebody is there; else it takes an answer. */
static void link_up(void *arg)
{
    struct carrier *carrier = arg;

    carrier->is_up = true;
    ctx_count(carrier->self->ctx, IOTGW_RECONNECTS, carrier->was_up);
    carrier->was_up = true;
    if (carrier->first->wire.medium == MODBUS_OVER_TCP)
        for (size_t i = 0; i < carrier->n; i++)
            if (!carrier->is_silent[carrier->polls[i]->slave->unit])
                poll_presence(carrier->polls[i], true);
    tell_units(carrier, 0);
}

static void link_down(void *arg, enum err err, const struct why *why)
{
    struct carrier *carrier = arg;

    (void)err;
    carrier->is_up = false;
    for (size_t i = 0; i < carrier->n; i++)
        poll_presence(carrier->polls[i], false);
    tell_state(carrier, LINK_DOWN, str_from(why_text(why)));
}

static void unit_changed(void *arg, uint8_t unit, bool is_answering)
{
    struct carrier *carrier = arg;

    if (carrier->is_silent[unit] != !is_answering) {
        carrier->is_silent[unit] = !is_answering;
        carrier->n_silent += is_answering ? -1u : 1u;
    }
    for (size_t i = 0; i < carrier->n; i++)
        if (carrier->polls[i]->slave->unit == unit)
            poll_presence(carrier->polls[i], is_answering);
    if (carrier->is_up)
        tell_units(carrier, unit);
}

static struct carrier *carrier_of(const struct connector *self, const struct modbus_slave *slave)
{
    for (size_t i = 0; i < self->n_carriers; i++)
        if (self->carriers[i].first == slave->carrier)
            return &self->carriers[i];
    return NULL;
}

static struct modbus_link *link_of(void *arg, const struct modbus_slave *slave)
{
    struct carrier *carrier = carrier_of(arg, slave);

    return carrier ? carrier->link : NULL;
}

static struct modbus_link *link_at(void *arg, struct str place)
{
    struct connector *self = arg;

    for (size_t i = 0; i < self->n_carriers; i++)
        if (str_eq(self->carriers[i].first->wire.link, place))
            return self->carriers[i].link;
    return NULL;
}

static struct str own_memory(void *arg, const struct modbus_call *call, struct arena *arena)
{
    struct connector *self = arg;

    return modbus_server_execute(self->server, call, arena);
}

/* --- opening ---------------------------------------------------------------------------------------------------------------- */

static void open_devices(struct connector *self)
{
    struct map seen = {0};
    size_t n = 0;

    for (size_t i = 0; i < self->file->slaves.n; i++) {
        const struct modbus_slave *slave = self->file->slaves.items[i];
        struct modbus_device *device = map_get(&seen, slave->device_name);

        if (!device) {
            device = &self->devices[i];
            *device = (struct modbus_device){.dev = device_get(slave->device_name), .profile = slave->device_type};
            map_put(&seen, slave->device_name, device);
        }
        for (size_t b = 0; b < slave->n_beats; b++)
            poll_init(&self->polls[n++], self->ctx, slave, &slave->beats[b], device, &self->cookie);
    }
    map_fini(&seen);
}

static size_t n_beats_of(const struct conf_list *slaves)
{
    size_t n = 0;

    for (size_t i = 0; i < slaves->n; i++)
        n += ((const struct modbus_slave *)slaves->items[i])->n_beats;
    return n;
}

static void open_carriers(struct connector *self)
{
    struct map places = {0};

    for (size_t i = 0; i < self->n; i++) {
        const struct modbus_slave *slave = self->polls[i].slave;
        struct carrier *carrier = map_get(&places, slave->wire.link);

        if (!carrier) {
            carrier = &self->carriers[self->n_carriers++];
            carrier->self = self;
            carrier->first = slave->carrier;
            carrier->polls = mem_zero(n_beats_of(&slave->carrier->carried) * sizeof(struct poll *));
            map_put(&places, slave->wire.link, carrier);
        }
        carrier->polls[carrier->n++] = &self->polls[i];
    }
    map_fini(&places);
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

/* One of what had to close has. */
static void part_closed(void *arg)
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
    self->n = n_beats_of(&self->file->slaves);
    self->polls = mem_zero((self->n + 1) * sizeof *self->polls);
    self->devices = mem_zero((self->n + 1) * sizeof *self->devices);
    self->carriers = mem_zero((self->n + 1) * sizeof *self->carriers);
    open_devices(self);
    open_carriers(self);
    if (self->file->own && self->file->own->is_served)
        self->server = modbus_server_new(ctx, self->file->own, &self->cookie);
    modbus_jobs_init(&self->jobs, ctx, self->file);
    self->jobs.link_of = link_of;
    self->jobs.link_at = link_at;
    self->jobs.own = own_memory;
    self->jobs.quiet = part_closed;
    self->jobs.arg = self;
    timer_init(&self->quiet_timer, ctx_loop(ctx), quiet_timer_fired, self);
    timer_init(&self->stop_timer, ctx_loop(ctx), part_closed, self);
    return ERR_OK;
}

static void connector_close(void *arg)
{
    struct connector *self = arg;

    if (!self->ctx)
        return;
    timer_stop(&self->quiet_timer);
    timer_stop(&self->stop_timer);
    modbus_server_free(self->server);
    for (size_t i = 0; i < self->n; i++)
        poll_fini(&self->polls[i]);
    for (size_t i = 0; i < self->n_carriers; i++)
        mem_free(self->carriers[i].polls);
    mem_free(self->polls);
    mem_free(self->devices);
    mem_free(self->carriers);
}

/* --- running ---------------------------------------------------------------------------------------------------------------- */

/* Those of one connection are spread over the time, and between them those of the others. */
static uint64_t first_delay(const struct connector *self, size_t carrier, size_t i)
{
    const struct poll *poll = self->carriers[carrier].polls[i];
    uint64_t spread = poll->beat->period_ms < SPREAD_MS ? poll->beat->period_ms : SPREAD_MS;
    uint64_t of_all = self->n / GROUP, of_carrier = self->carriers[carrier].n;
    uint64_t n_steps = MAX(MAX(of_all, of_carrier), STEPS_MIN), step = MAX(spread / n_steps, 1);
    double place = ((double)i + (double)carrier / (double)self->n_carriers) / (double)of_carrier;

    return (uint64_t)((double)spread * place) / step * step;
}

static void open_links(struct connector *self)
{
    static const struct modbus_link_events events = {.up = link_up, .down = link_down, .unit = unit_changed};

    self->is_started = true;
    for (size_t i = 0; i < self->n_carriers; i++) {
        struct carrier *carrier = &self->carriers[i];
        struct modbus_link_conf conf = modbus_link_conf_of(&carrier->first->wire);

        tell_state(carrier, LINK_CONNECTING, STR_NONE);
        carrier->link = modbus_link_new(ctx_loop(self->ctx), ctx_log(self->ctx), &conf, &events, carrier);
    }
}

static void connector_probe(void *arg)
{
    struct connector *self = arg;

    self->probe = modbus_probe_start(self->ctx, self->file);
}

static enum err connector_browse(void *arg, struct str path, void *request, struct why *why)
{
    struct connector *self = arg;

    return modbus_browse_start(&self->browse, self->ctx, self->file, path, request, why);
}

static void connector_start(void *arg)
{
    struct connector *self = arg;

    open_links(self);
    for (size_t c = 0; c < self->n_carriers; c++)
        for (size_t i = 0; i < self->carriers[c].n; i++)
            poll_start(self->carriers[c].polls[i], self->carriers[c].link, first_delay(self, c, i));
    if (self->server)
        modbus_server_start(self->server);
}

static void stop_polls(struct connector *self)
{
    for (size_t i = 0; i < self->n; i++)
        poll_stop(&self->polls[i]);
    if (self->server)
        modbus_server_quiet(self->server);
}

static void connector_quiesce(void *arg, connector_done_fn *done, void *done_arg)
{
    struct connector *self = arg;

    if (self->browse)
        modbus_browse_end(self->browse);
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
    self->n_closing = 1; /* so that done comes in a later turn */
    self->n_closing += modbus_jobs_stop(&self->jobs);
    for (size_t i = 0; i < self->n_carriers; i++) {
        if (!self->carriers[i].link)
            continue;
        self->n_closing++;
        modbus_link_close(self->carriers[i].link, part_closed, self);
        self->carriers[i].link = NULL;
    }
    if (self->server) {
        self->n_closing++;
        modbus_server_close(self->server, part_closed, self);
        self->server = NULL;
    }
    if (self->probe) {
        self->n_closing++;
        modbus_probe_close(self->probe, part_closed, self);
        self->probe = NULL;
    }
    if (self->browse) {
        self->n_closing++;
        modbus_browse_close(self->browse, part_closed, self);
        self->browse = NULL;
    }
    timer_start(&self->stop_timer, 0);
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

    modbus_jobs_command(&self->jobs, command);
}

static void add_keys(const struct conf_list *updates, void (*add)(void *arg, struct str key), void *arg)
{
    for (size_t i = 0; i < updates->n; i++)
        add(arg, ((const struct modbus_point *)updates->items[i])->tag);
}

static bool connector_shared_keys(void *arg, struct device *dev, void (*add)(void *arg, struct str key), void *add_arg)
{
    struct connector *self = arg;
    const struct modbus_own *own = self->file->own;

    for (size_t i = 0; i < self->n; i++)
        if (self->polls[i].device->dev == dev && self->polls[i].beat == self->polls[i].slave->beats)
            add_keys(&self->polls[i].slave->updates, add, add_arg);
    for (size_t area = 0; self->server && str_eq(own->device_name, device_name(dev)) && area < MODBUS_AREAS; area++)
        if (own->values->areas[area])
            add_keys(&own->values->areas[area]->updates, add, add_arg);
    return false;
}

enum { FIGURES_MAX = 24 };

/* Of the unit, and, where it cannot be told whose they are, of the connection. */
static size_t figures_of(const struct poll *poll, struct endpoint_figure *out)
{
    static const char *const exceptions[] = {"otherException", "exception1", "exception2",  "exception3",
                                             "exception4",     "exception5", "exception6",  "exception7",
                                             "exception8",     "exception9", "exception10", "exception11"};
    const struct modbus_counts *counts =
        poll->link ? modbus_link_unit_counts(poll->link, (uint8_t)poll->slave->unit) : NULL;
    struct modbus_link_status link = poll->link ? modbus_link_status(poll->link) : (struct modbus_link_status){0};
    size_t n = 0;

    static_assert(COUNT_OF(exceptions) == COUNT_OF(counts->by_exception), "each code has a name");
    static_assert(COUNT_OF(exceptions) + 7 <= FIGURES_MAX, "all have room");
    out[n++] = (struct endpoint_figure){"requestsPerPoll", poll->plan.n_blocks};
    out[n++] = (struct endpoint_figure){"retries", counts ? counts->n_retries : 0};
    for (size_t i = 0; counts && i < COUNT_OF(exceptions); i++)
        if (counts->by_exception[i])
            out[n++] = (struct endpoint_figure){exceptions[i], counts->by_exception[i]};
    out[n++] = (struct endpoint_figure){"badAnswers", counts ? counts->n_bad : 0};
    out[n++] = (struct endpoint_figure){"foreignAnswers", counts ? counts->n_foreign : 0};
    out[n++] = (struct endpoint_figure){"badChecksumsOfConnection", link.n_bad_checks};
    out[n++] = (struct endpoint_figure){"garbageBytesOfConnection", link.n_garbage};
    out[n++] = (struct endpoint_figure){"timesConnected", link.n_connects};
    return n;
}

static void connector_endpoints(void *arg, void (*add)(void *arg, const struct endpoint *endpoint), void *add_arg)
{
    struct connector *self = arg;
    struct arena arena;

    arena_init(&arena, 1024);
    for (size_t i = 0; i < self->n; i++) {
        struct endpoint_figure figures[FIGURES_MAX];
        struct poll *poll = &self->polls[i];

        poll->figures.figures = figures;
        poll->figures.n_figures = figures_of(poll, figures);
        poll->figures.name = arena_printf(&arena, STR_FMT ", unit %u at " STR_FMT, STR_ARG(poll->slave->device_name),
                                          poll->slave->unit, STR_ARG(poll->slave->wire.link));
        if (poll->slave->n_beats > 1)
            poll->figures.name =
                arena_printf(&arena, STR_FMT " each %u ms", STR_ARG(poll->figures.name), poll->beat->period_ms);
        add(add_arg, &poll->figures);
        poll->figures.name = STR_NONE;
        poll->figures.figures = NULL;
        poll->figures.n_figures = 0;
        arena_reset(&arena);
    }
    arena_fini(&arena);
}

const struct connector_type iotgw_module = {
    .size = sizeof(struct connector_type),
    .abi = IOTGW_CONNECTOR_ABI,
    .name = "modbus",
    .title = "Modbus",
    .build_id = IOTGW_BUILD_ID,
    .conf = &modbus_conf_type,
    .state_size = sizeof(struct connector),
    .open = connector_open,
    .close = connector_close,
    .start = connector_start,
    .quiesce = connector_quiesce,
    .stop = connector_stop,
    .done = connector_done,
    .command = connector_command,
    .shared_keys = connector_shared_keys,
    .convert = modbus_dry_run,
    .endpoints = connector_endpoints,
    .browse = connector_browse,
    .probe = connector_probe,
};
