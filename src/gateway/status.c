/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/status.h"

#include "base/mem.h"
#include "base/slab.h"
#include "connector/endpoint.h"
#include "connector/report.h"
#include "gateway/metrics.h"

#include "build_id.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

_Static_assert(METRIC_CONNECTOR_EVENTS - METRIC_CONNECTOR_MESSAGES_IN == IOTGW_COUNTER_COUNT - 1,
               "the connectors' metrics begin with their counters, in that order");

_Static_assert(METRIC_ENDPOINT_CONTENT - METRIC_ENDPOINT_OK == ENDPOINT_RESULTS - 1,
               "the results of calls stand in the order of enum endpoint_result");

_Static_assert(METRIC_SERVER_FAILED - METRIC_SERVER_OK == SERVED_CLASSES - 1,
               "answers stand in the order of enum served_class");

enum { PATIENCE_MS = 1000, LINKS_MAX = 1000, ENDPOINTS_MAX = 20000, ROWS_A_TURN = 4096 };

struct link_view {
    struct str name, reason;
    enum link_state state;
    int64_t since_ms;
    unsigned n_attempts;
};

struct ctx_view { /* of one connector; filled on its loop */
    struct ctx *ctx;
    struct link_view *links;
    size_t n_links, in_flight_bytes;
    struct report_stats report;
    struct endpoint polls, *endpoints; /* sum; each, where they are asked for */
    size_t n_endpoints;
    struct served served;
    bool has_served;
};

struct place { /* one loop */
    struct call there, back;
    struct gathering *gathering;
    struct data_loop *loop;
    struct arena arena;
    struct ctx_view *views;
    size_t n_views;
    bool is_out, is_silent; /* asked and not back; not asked again: it still owes an answer */
};

struct gathering {
    struct list node;
    struct status *status;
    struct timer patience, adding;
    status_done_fn *done; /* NULL: told */
    void *arg;
    size_t n_out, n;
    bool is_adding;       /* no answer is waited for any more */
    bool wants_endpoints; /* instead of the status */
    struct status_core core;
    struct ledger_row total, *rows; /* by source */
    size_t n_rows;
    uint32_t n_added; /* devices */
    struct place places[];
};

struct status {
    struct status_conf conf;
    int64_t since_ms;
    struct list gatherings;
    struct status_core core; /* as last heard from loop 0 */
};

/* --- on a data loop ---------------------------------------------------------------------------------------------------- */

struct adding {
    struct place *place;
    struct ctx_view *view;
};

static void add_link(void *arg, const struct ctx_link *link)
{
    struct adding *adding = arg;
    struct ctx_view *view = adding->view;
    struct arena *arena = &adding->place->arena;

    if (view->n_links == LINKS_MAX)
        return;
    if (view->n_links % 16 == 0)
        view->links = mem_grow(view->links, (view->n_links + 16) * sizeof *view->links);
    view->links[view->n_links++] = (struct link_view){.name = arena_str(arena, link->name),
                                                      .reason = arena_str(arena, link->reason),
                                                      .state = link->state,
                                                      .since_ms = link->since_ms,
                                                      .n_attempts = link->n_attempts};
}

static void add_endpoint(void *arg, const struct endpoint *endpoint)
{
    struct adding *adding = arg;
    struct ctx_view *view = adding->view;
    struct endpoint_figure *figures;
    struct endpoint *copy;

    endpoint_add(&view->polls, endpoint);
    view->polls.size = sizeof view->polls; /* there are some */
    if (!adding->place->gathering->wants_endpoints || view->n_endpoints == ENDPOINTS_MAX)
        return;
    if (view->n_endpoints % 64 == 0)
        view->endpoints = mem_grow(view->endpoints, (view->n_endpoints + 64) * sizeof *view->endpoints);
    copy = &view->endpoints[view->n_endpoints++];
    *copy = *endpoint;
    copy->name = arena_str(&adding->place->arena, endpoint->name);
    if (!endpoint->n_figures)
        return;
    figures = arena_alloc(&adding->place->arena, endpoint->n_figures * sizeof *figures);
    memcpy(figures, endpoint->figures, endpoint->n_figures * sizeof *figures);
    copy->figures = figures;
}

static void gather_there(void *arg)
{
    struct place *place = arg;
    struct gathering *gathering = place->gathering;
    const struct status_conf *conf = &gathering->status->conf;

    for (size_t i = 0; i < place->n_views; i++) {
        struct ctx_view *view = &place->views[i];

        view->in_flight_bytes = ctx_in_flight_bytes(view->ctx);
        view->report = ctx_report_stats(view->ctx);
        ctx_each_link(view->ctx, add_link, &(struct adding){place, view});
        ctx_each_endpoint(view->ctx, add_endpoint, &(struct adding){place, view});
        view->has_served = ctx_served(view->ctx, &view->served);
    }
    if (place == &gathering->places[0])
        conf->core(conf->arg, &gathering->core);
    runner_call(conf->main, &place->back);
}

/* --- the document --------------------------------------------------------------------------------------------------------- */

static void add_text(struct buf *out, const char *member, struct str text)
{
    buf_printf(out, ",\"%s\":", member);
    if (text.n)
        json_add_string(out, text);
    else
        buf_add_z(out, "null");
}

static void add_ms(struct buf *out, const char *member, int64_t ms)
{
    if (ms)
        buf_printf(out, ",\"%s\":%" PRId64, member, ms);
    else
        buf_printf(out, ",\"%s\":null", member);
}

static void add_gateway(struct buf *out, const struct status *s)
{
    const struct gateway_conf *running = apply_running(s->conf.apply);

    buf_printf(out, "{\"version\":\"%s\",\"pid\":%d", IOTGW_VERSION, (int)getpid());
    add_text(out, "state", str_from(s->conf.phase(s->conf.arg)));
    add_text(out, "configuration", str_from(running->path));
    buf_printf(out, ",\"applying\":%s", apply_is_busy(s->conf.apply) ? "true" : "false");
    add_ms(out, "since", s->since_ms);
    add_ms(out, "now", loop_wall_ms(s->conf.main->loop));
    buf_add_u8(out, '}');
}

static const char *uplink_state_name(enum uplink_state state)
{
    static const char *const names[] = {[UPLINK_DOWN] = "down",
                                        [UPLINK_CONNECTING] = "connecting",
                                        [UPLINK_NEGOTIATING] = "negotiating",
                                        [UPLINK_READY] = "up",
                                        [UPLINK_REFUSED] = "refused"};

    return names[state];
}

static void add_platform(struct buf *out, const struct status *s)
{
    static const char *const limits[] = {[LIMIT_OWN] = "rateLimits",
                                         [LIMIT_OWN_VALUES] = "dpRateLimits",
                                         [LIMIT_OWN_MESSAGES] = "messagesRateLimits",
                                         [LIMIT_DEVICE] = "deviceRateLimits",
                                         [LIMIT_DEVICE_VALUES] = "deviceDpRateLimits",
                                         [LIMIT_DEVICE_MESSAGES] = "deviceMessagesRateLimits"};
    const struct uplink_status *uplink = &s->core.uplink;
    const struct platform_conf *platform = apply_running(s->conf.apply)->main->platform;
    struct metrics m = {0};

    buf_printf(out, "{\"state\":\"%s\"", uplink_state_name(uplink->state));
    add_ms(out, "since", uplink->since_ms);
    add_text(out, "reason", str_from(uplink->reason));
    add_text(out, "host", platform->host);
    buf_printf(out, ",\"port\":%u,", platform->port);
    m.v[METRIC_PLATFORM_ATTEMPTS] = uplink->n_attempts;
    m.v[METRIC_PLATFORM_RECONNECTS] = uplink->n_reconnects;
    m.v[METRIC_PLATFORM_PACKS] = uplink->n_packs;
    m.v[METRIC_PLATFORM_VALUES] = uplink->n_values;
    m.v[METRIC_PLATFORM_BYTES] = uplink->n_bytes;
    m.v[METRIC_PLATFORM_RESENT] = uplink->n_resent;
    m.v[METRIC_PLATFORM_REJECTED] = uplink->n_rejected_values;
    m.v[METRIC_PLATFORM_IN_FLIGHT] = uplink->in_flight;
    m.v[METRIC_PLATFORM_WINDOW] = uplink->window;
    m.v[METRIC_PLATFORM_PAYLOAD_LIMIT] = uplink->payload_limit;
    metrics_add_json(out, METRICS_PLATFORM, &m);
    buf_add_z(out, ",\"waits\":{");
    for (unsigned i = 0; i < LIMIT_KINDS; i++) {
        m.v[METRIC_WAIT_TIMES] = uplink->waits[i].n;
        m.v[METRIC_WAIT_MS] = uplink->waits[i].ms;
        buf_printf(out, "%s\"%s\":{", i ? "," : "", limits[i]);
        metrics_add_json(out, METRICS_WAIT, &m);
        buf_add_u8(out, '}');
    }
    buf_add_z(out, "}}");
}

/* What an earlier program has left: null when there was nothing. */
static void add_takeover(struct buf *out, const struct status *s)
{
    const struct status_conf *conf = &s->conf;
    struct takeover_status t = conf->takeover ? conf->takeover(conf->arg) : (struct takeover_status){0};

    buf_add_z(out, ",\"takeover\":");
    if (!t.is_running && !t.n_events && !t.n_corrupt && !t.n_superseded && !t.n_left_out) {
        buf_add_z(out, "null");
        return;
    }
    buf_printf(out, "{\"running\":%s", t.is_running ? "true" : "false");
    add_text(out, "what", str_from(t.what));
    buf_printf(out,
               ",\"events\":%" PRIu64 ",\"corrupt\":%" PRIu64 ",\"superseded\":%" PRIu64 ",\"leftOut\":%" PRIu64 "}",
               t.n_events, t.n_corrupt, t.n_superseded, t.n_left_out);
}

static void add_storage(struct buf *out, const struct status *s)
{
    static const char *const types[] = {
        [STORAGE_MEMORY] = "memory", [STORAGE_FILE] = "file", [STORAGE_SQLITE] = "sqlite"};
    const struct store_stats *stats = &s->core.store;
    int64_t age_ms = stats->oldest_ms ? loop_wall_ms(s->conf.main->loop) - stats->oldest_ms : 0;
    struct metrics m = {0};

    buf_printf(out, "{\"type\":\"%s\",\"split\":%s", types[apply_running(s->conf.apply)->main->storage->type],
               stats->is_split ? "true" : "false");
    add_text(out, "rejectedFile", str_from(s->conf.rejected_path));
    add_text(out, "trouble", str_from(s->core.trouble));
    add_ms(out, "troubleSince", stats->trouble_since_ms);
    add_ms(out, "blockedSince", stats->blocked_since_ms);
    add_ms(out, "oldest", stats->oldest_ms);
    add_takeover(out, s);
    buf_add_u8(out, ',');
    m.v[METRIC_STORAGE_EVENTS] = stats->n_events;
    m.v[METRIC_STORAGE_VALUES] = stats->n_values;
    m.v[METRIC_STORAGE_BYTES] = stats->n_bytes;
    m.v[METRIC_STORAGE_BACKLOG_EVENTS] = stats->n_backlog_events;
    m.v[METRIC_STORAGE_BACKLOG_VALUES] = stats->n_backlog_values;
    m.v[METRIC_STORAGE_APPENDED] = stats->n_appended_values;
    m.v[METRIC_STORAGE_ACKED] = stats->n_acked_values;
    m.v[METRIC_STORAGE_DROPPED_EVENTS] = stats->n_dropped_events;
    m.v[METRIC_STORAGE_DROPPED_VALUES] = stats->n_dropped_values;
    m.v[METRIC_STORAGE_OLDEST_S] = age_ms > 0 ? (uint64_t)age_ms / 1000 : 0;
    m.v[METRIC_STORAGE_BLOCKED] = stats->is_blocked;
    metrics_add_json(out, METRICS_STORAGE, &m);
    buf_add_u8(out, '}');
}

static void add_row(struct buf *out, const struct ledger_row *row)
{
    struct metrics m = {0};

    m.v[METRIC_LEDGER_READ] = ledger_read(row);
    m.v[METRIC_LEDGER_UNCHANGED] = row->unchanged;
    m.v[METRIC_LEDGER_FAILED] = row->failed;
    m.v[METRIC_LEDGER_COLLECTED] = row->collected;
    m.v[METRIC_LEDGER_REPEATED] = row->repeated;
    m.v[METRIC_LEDGER_DELIVERED] = row->delivered;
    m.v[METRIC_LEDGER_WAITING] = row->waiting;
    m.v[METRIC_LEDGER_OVERFLOW] = row->overflow;
    m.v[METRIC_LEDGER_AGE] = row->age;
    m.v[METRIC_LEDGER_REJECTED] = row->rejected;
    m.v[METRIC_LEDGER_DAMAGED] = row->damaged;
    buf_add_u8(out, '{');
    metrics_add_json(out, METRICS_LEDGER, &m);
    buf_add_u8(out, '}');
}

static const struct ctx_view *view_of(const struct gathering *g, const struct ctx *ctx, bool *is_there)
{
    for (size_t i = 0; i < g->n; i++)
        for (size_t j = 0; j < g->places[i].n_views; j++)
            if (g->places[i].views[j].ctx == ctx) {
                *is_there = !g->places[i].is_out && !g->places[i].is_silent;
                return &g->places[i].views[j];
            }
    *is_there = false;
    return NULL;
}

static void add_links(struct buf *out, const struct ctx_view *view)
{
    buf_add_z(out, ",\"links\":[");
    for (size_t i = 0; i < view->n_links; i++) {
        const struct link_view *link = &view->links[i];

        buf_printf(out, "%s{\"state\":\"%s\"", i ? "," : "", link_state_name(link->state));
        add_text(out, "name", link->name);
        add_ms(out, "since", link->since_ms);
        buf_printf(out, ",\"attempts\":%u", link->n_attempts);
        add_text(out, "reason", link->reason);
        buf_add_u8(out, '}');
    }
    buf_add_u8(out, ']');
}

static void add_polls(struct buf *out, const struct endpoint *endpoint)
{
    struct metrics m = {0};

    m.v[METRIC_ENDPOINT_CALLS] = endpoint->n_calls;
    m.v[METRIC_ENDPOINT_OVERDUE] = endpoint->n_overdue;
    m.v[METRIC_ENDPOINT_NO_ROOM] = endpoint->n_no_room;
    m.v[METRIC_ENDPOINT_BYTES_IN] = endpoint->bytes_in;
    m.v[METRIC_ENDPOINT_BYTES_OUT] = endpoint->bytes_out;
    m.v[METRIC_ENDPOINT_US] = endpoint->total_us;
    m.v[METRIC_ENDPOINT_LONGEST_US] = endpoint->longest_us;
    for (unsigned i = 0; i < ENDPOINT_RESULTS; i++)
        m.v[METRIC_ENDPOINT_OK + i] = endpoint->results[i];
    metrics_add_json(out, METRICS_ENDPOINT, &m);
    buf_add_z(out, ",\"durations\":{");
    for (unsigned i = 0; i < ENDPOINT_DURATIONS - 1; i++)
        buf_printf(out, "\"%ums\":%" PRIu64 ",", endpoint_durations_ms[i], endpoint->durations[i]);
    buf_printf(out, "\"more\":%" PRIu64 "}", endpoint->durations[ENDPOINT_DURATIONS - 1]);
}

/* The protocol's own, where it has some. */
static void add_figures(struct buf *out, const struct endpoint *endpoint)
{
    if (!endpoint->n_figures)
        return;
    buf_add_z(out, ",\"figures\":{");
    for (size_t i = 0; i < endpoint->n_figures; i++)
        buf_printf(out, "%s\"%s\":%" PRIu64, i ? "," : "", endpoint->figures[i].name, endpoint->figures[i].n);
    buf_add_u8(out, '}');
}

static void add_served(struct buf *out, const struct served *served)
{
    struct metrics m = {0};

    m.v[METRIC_SERVER_CONNECTIONS] = served->n_connections;
    m.v[METRIC_SERVER_OPEN] = served->n_open;
    m.v[METRIC_SERVER_TOO_MANY] = served->n_too_many;
    m.v[METRIC_SERVER_SLOW] = served->n_slow;
    m.v[METRIC_SERVER_GONE] = served->n_gone;
    m.v[METRIC_SERVER_BYTES_IN] = served->bytes_in;
    m.v[METRIC_SERVER_BYTES_OUT] = served->bytes_out;
    m.v[METRIC_SERVER_REQUESTS] = served->n_requests;
    for (unsigned i = 0; i < SERVED_CLASSES; i++)
        m.v[METRIC_SERVER_OK + i] = served->answers[i];
    buf_add_z(out, ",\"server\":{");
    metrics_add_json(out, METRICS_SERVER, &m);
    buf_add_u8(out, '}');
}

static void add_running(struct buf *out, const struct gathering *g, const struct fleet_connector *connector)
{
    struct ctx_status link = ctx_status(connector->ctx);
    struct metrics m = {0};
    bool is_there;
    const struct ctx_view *view = view_of(g, connector->ctx, &is_there);

    for (unsigned i = 0; i < IOTGW_COUNTER_COUNT; i++)
        m.v[METRIC_CONNECTOR_MESSAGES_IN + i] = ctx_counter(connector->ctx, (enum iotgw_counter)i);
    m.v[METRIC_CONNECTOR_ERRORS] = atomic_load(&ctx_log(connector->ctx)->n_errors);
    if (is_there)
        m.v[METRIC_CONNECTOR_IN_FLIGHT] = view->in_flight_bytes;
    buf_printf(out, ",\"link\":{\"state\":\"%s\"", link.since_ms ? link_state_name(link.state) : "none");
    add_ms(out, "since", link.since_ms);
    buf_printf(out, ",\"attempts\":%u", link.n_attempts);
    add_text(out, "reason", str_from(link.reason));
    buf_printf(out, "},\"loop\":\"%s\",\"answers\":%s", connector->loop->name, is_there ? "true" : "false");
    if (is_there) {
        add_links(out, view);
        if (view->polls.size) {
            buf_add_z(out, ",\"polls\":{");
            add_polls(out, &view->polls);
            buf_add_u8(out, '}');
        }
        if (view->has_served)
            add_served(out, &view->served);
        buf_printf(
            out,
            ",\"report\":{\"devices\":%zu,\"values\":%zu,\"bytes\":%zu,\"periodic\":%zu,\"unremembered\":%" PRIu64 "}",
            view->report.n_devices, view->report.n_values, view->report.n_bytes, view->report.n_periodic,
            view->report.n_unremembered);
    }
    buf_add_z(out, ",\"counters\":{");
    metrics_add_json(out, METRICS_CONNECTOR, &m);
    buf_add_u8(out, '}');
}

/* By the source of each device: what a device sent by another connector before counts where it is served now. */
static void begin_rows(struct gathering *g)
{
    g->n_rows = 1;
    while (g->n_rows <= UINT16_MAX && device_source_at((uint16_t)g->n_rows))
        g->n_rows++;
    g->rows = mem_zero(g->n_rows * sizeof *g->rows);
    g->total = ledger_unattributed(g->status->conf.ledger);
}

/* Some of them: each row balances by itself, so their sums do. False: that was all. */
static bool add_rows(struct gathering *g)
{
    uint32_t n = device_count(), end = n - g->n_added > ROWS_A_TURN ? g->n_added + ROWS_A_TURN : n;

    for (; g->n_added < end; g->n_added++) {
        const struct device *dev = device_at(g->n_added);
        struct ledger_row row = ledger_row(g->status->conf.ledger, dev);
        uint16_t source = atomic_load_explicit(&dev->source, memory_order_relaxed);

        ledger_add(&g->rows[source < g->n_rows ? source : 0], &row);
        ledger_add(&g->total, &row);
    }
    return end < n;
}

static void add_connector(struct buf *out, const struct gathering *g, const struct fleet_connector *connector)
{
    const struct device_source *source = connector->ctx ? ctx_source(connector->ctx) : NULL;

    buf_printf(out, "{\"state\":\"%s\"", instance_state_name(connector->state));
    add_text(out, "name", str_from(connector->name));
    add_text(out, "type", str_from(connector->type));
    add_ms(out, "since", connector->since_ms);
    add_text(out, "error", str_from(connector->error));
    buf_printf(out, ",\"changing\":%s", connector->is_busy ? "true" : "false");
    if (connector->ctx)
        add_running(out, g, connector);
    if (source && source->number < g->n_rows) {
        buf_add_z(out, ",\"ledger\":");
        add_row(out, &g->rows[source->number]);
    }
    buf_add_u8(out, '}');
}

static void add_loop(struct buf *out, const char *name, const struct loop *loop, bool answers)
{
    struct loop_stats stats = loop_stats(loop);
    struct metrics m = {0};

    m.v[METRIC_LOOP_TURNS] = stats.n_turns;
    m.v[METRIC_LOOP_WAKEUPS] = stats.n_wakeups;
    m.v[METRIC_LOOP_LONG_TURNS] = stats.n_long_turns;
    m.v[METRIC_LOOP_BUSY_MS] = stats.busy_us / 1000;
    buf_printf(out, "{\"name\":\"%s\",\"answers\":%s,", name, answers ? "true" : "false");
    metrics_add_json(out, METRICS_LOOP, &m);
    buf_add_u8(out, '}');
}

static void add_commands(struct buf *out, const struct status *s)
{
    struct router_stats stats = router_stats(s->conf.router);
    struct metrics m = {0};

    m.v[METRIC_COMMAND_REQUESTS] = stats.n_requests;
    m.v[METRIC_COMMAND_REPEATS] = stats.n_repeats;
    m.v[METRIC_COMMAND_LATE] = stats.n_late;
    m.v[METRIC_COMMAND_TIMEOUTS] = stats.n_timeouts;
    m.v[METRIC_COMMAND_BUSY] = stats.n_busy;
    m.v[METRIC_COMMAND_UPDATES] = stats.n_updates;
    m.v[METRIC_COMMAND_OPEN] = stats.n_open;
    m.v[METRIC_COMMAND_WAITING] = stats.n_waiting;
    buf_add_u8(out, '{');
    metrics_add_json(out, METRICS_COMMANDS, &m);
    buf_add_u8(out, '}');
}

/* {"endpoints":[…]} of one connector. */
static void add_endpoints(struct buf *out, const struct gathering *g)
{
    bool is_first = true;

    buf_add_z(out, "{\"endpoints\":[");
    for (size_t i = 0; i < g->n; i++) {
        const struct place *place = &g->places[i];

        for (size_t k = 0; k < place->n_views && !place->is_out && !place->is_silent; k++) {
            const struct ctx_view *view = &place->views[k];

            for (size_t j = 0; j < view->n_endpoints; j++) {
                buf_add_z(out, is_first ? "{\"name\":" : ",{\"name\":");
                is_first = false;
                json_add_string(out, view->endpoints[j].name);
                buf_add_z(out, ",\"connector\":");
                json_add_string(out, str_from(ctx_name(view->ctx)));
                buf_add_u8(out, ',');
                add_polls(out, &view->endpoints[j]);
                add_figures(out, &view->endpoints[j]);
                buf_add_u8(out, '}');
            }
        }
    }
    buf_add_z(out, "]}");
}

static void add_memory(struct buf *out)
{
    struct metrics m = {0};

    m.v[METRIC_MEMORY_RESIDENT] = mem_resident();
    m.v[METRIC_MEMORY_SLABS] = slab_in_use();
    buf_add_u8(out, '{');
    metrics_add_json(out, METRICS_MEMORY, &m);
    buf_add_u8(out, '}');
}

static void add_document(struct buf *out, const struct gathering *g)
{
    const struct status *s = g->status;
    size_t n = fleet_count(s->conf.fleet);

    buf_add_z(out, "{\"gateway\":");
    add_gateway(out, s);
    buf_add_z(out, ",\"platform\":");
    add_platform(out, s);
    buf_add_z(out, ",\"storage\":");
    add_storage(out, s);
    buf_add_z(out, ",\"connectors\":[");
    for (size_t i = 0; i < n; i++) {
        struct fleet_connector connector = fleet_at(s->conf.fleet, i);

        buf_add_z(out, i ? "," : "");
        add_connector(out, g, &connector);
    }
    buf_printf(out, "],\"leftBehind\":%zu,\"devices\":%u,\"ledger\":", fleet_n_left_behind(s->conf.fleet),
               device_count());
    add_row(out, &g->total);
    struct ledger_row unattributed = ledger_unattributed(s->conf.ledger);

    buf_add_z(out, ",\"unattributed\":");
    add_row(out, &unattributed);
    buf_add_z(out, ",\"loops\":[");
    add_loop(out, "main", s->conf.main->loop, true);
    for (size_t i = 0; i < g->n; i++) {
        buf_add_u8(out, ',');
        add_loop(out, g->places[i].loop->name, g->places[i].loop->runner.loop,
                 !g->places[i].is_out && !g->places[i].is_silent);
    }
    buf_add_z(out, "],\"commands\":");
    add_commands(out, s);
    buf_add_z(out, ",\"memory\":");
    add_memory(out);
    buf_add_u8(out, '}');
}

/* --- asking the loops ------------------------------------------------------------------------------------------------------ */

static void gathering_free(struct gathering *g)
{
    timer_stop(&g->patience);
    timer_stop(&g->adding);
    mem_free(g->rows);
    list_del(&g->node);
    for (size_t i = 0; i < g->n; i++) {
        for (size_t j = 0; j < g->places[i].n_views; j++) {
            ctx_unref(g->places[i].views[j].ctx);
            mem_free(g->places[i].views[j].links);
            mem_free(g->places[i].views[j].endpoints);
        }
        mem_free(g->places[i].views);
        arena_fini(&g->places[i].arena);
    }
    mem_free(g);
}

static void note_core(struct status *s, const struct status_core *core)
{
    s->core = *core;
}

/* A hundred thousand devices are not gone through in one turn. */
static void add_on(void *arg)
{
    struct gathering *g = arg;
    autobuf struct buf out = {0};
    status_done_fn *done = g->done;

    if (!g->wants_endpoints && add_rows(g)) {
        timer_start(&g->adding, 0);
        return;
    }
    if (!g->places[0].is_out && !g->places[0].is_silent)
        note_core(g->status, &g->core);
    g->done = NULL;
    if (g->wants_endpoints)
        add_endpoints(&out, g);
    else
        add_document(&out, g);
    done(g->arg, buf_str(&out));
    if (!g->n_out)
        gathering_free(g);
}

static void tell(struct gathering *g)
{
    g->is_adding = true;
    timer_stop(&g->patience);
    begin_rows(g);
    timer_start(&g->adding, 0);
}

static void out_of_patience(void *arg)
{
    tell(arg);
}

static void gather_back(void *arg)
{
    struct place *place = arg;
    struct gathering *g = place->gathering;

    place->is_out = false;
    if (--g->n_out)
        return;
    if (!g->is_adding)
        tell(g);
    else if (!g->done)
        gathering_free(g);
}

/* A loop that has not answered an earlier question is not asked once more. */
static bool owes_answer(const struct status *s, const struct data_loop *loop)
{
    LIST_EACH(node, &s->gatherings) {
        const struct gathering *g = CONTAINER_OF(node, struct gathering, node);

        for (size_t i = 0; i < g->n; i++)
            if (g->places[i].loop == loop && g->places[i].is_out && g->is_adding)
                return true;
    }
    return false;
}

/* only: of this connector; empty: of all. */
static void fill_place(struct place *place, const struct fleet *fleet, struct str only)
{
    size_t n = fleet_count(fleet);

    for (size_t i = 0; i < n; i++) {
        struct fleet_connector connector = fleet_at(fleet, i);

        if (!connector.ctx || connector.loop != place->loop)
            continue;
        if (only.n && !str_eq_z(only, connector.name))
            continue;
        place->views = mem_grow(place->views, (place->n_views + 1) * sizeof *place->views);
        place->views[place->n_views++] = (struct ctx_view){.ctx = ctx_ref(connector.ctx)};
    }
}

static void ask(struct status *s, bool wants_endpoints, struct str only, status_done_fn *done, void *arg)
{
    size_t n = s->conf.loops->n;
    struct gathering *g = mem_zero(sizeof *g + n * sizeof g->places[0]);

    loop_assert(s->conf.main->loop);
    *g = (struct gathering){.status = s, .done = done, .arg = arg, .n = n, .wants_endpoints = wants_endpoints};
    for (size_t i = 0; i < n; i++) {
        struct place *place = &g->places[i];

        *place = (struct place){.gathering = g, .loop = s->conf.loops->all[i]};
        place->there = (struct call){.fn = gather_there, .arg = place};
        place->back = (struct call){.fn = gather_back, .arg = place};
        arena_init(&place->arena, 0);
        place->is_silent = owes_answer(s, place->loop);
        fill_place(place, s->conf.fleet, only);
        place->is_out = !place->is_silent;
        g->n_out += place->is_out;
    }
    list_add_tail(&s->gatherings, &g->node);
    timer_init(&g->adding, s->conf.main->loop, add_on, g);
    timer_init(&g->patience, s->conf.main->loop, out_of_patience, g);
    timer_start(&g->patience, g->n_out ? PATIENCE_MS : 0);
    for (size_t i = 0; i < n; i++)
        if (g->places[i].is_out)
            runner_call(&g->places[i].loop->runner, &g->places[i].there);
}

void status_ask(struct status *s, status_done_fn *done, void *arg)
{
    ask(s, false, STR_NONE, done, arg);
}

/* --- methods -------------------------------------------------------------------------------------------------------------- */

static void answer(void *arg, struct str json)
{
    control_answer(arg, json);
}

static void method_status(void *arg, struct control_request *request, yyjson_val *params)
{
    (void)params;
    status_ask(arg, answer, request);
}

/* {"connector":name}: of that one; else of all. */
static void method_endpoints(void *arg, struct control_request *request, yyjson_val *params)
{
    struct status *s = arg;
    struct str name = json_str(json_get(params, STR("connector")));

    for (size_t i = 0; name.n; i++) {
        if (i == fleet_count(s->conf.fleet)) {
            control_fail(request, ERR_NOTFOUND, "there is no connector \"" STR_FMT "\"", STR_ARG(name));
            return;
        }
        if (str_eq_z(name, fleet_at(s->conf.fleet, i).name))
            break;
    }
    ask(s, true, name, answer, request);
}

static void add_device(struct buf *out, const struct status *s, const struct device *dev)
{
    static const char *const links[] = {
        [DEVICE_LINK_UNKNOWN] = "unknown", [DEVICE_LINK_UP] = "up", [DEVICE_LINK_DOWN] = "down"};
    struct ledger_row row = ledger_row(s->conf.ledger, dev);
    const char *profile = atomic_load_explicit(&dev->profile, memory_order_acquire);
    const struct device_source *source = device_source_at(atomic_load_explicit(&dev->source, memory_order_acquire));
    uint64_t last_ms = atomic_load_explicit(&dev->last_ms, memory_order_relaxed),
             now_ms = loop_mono_ms(s->conf.main->loop);
    const char *wire = atomic_load_explicit(&dev->platform_json, memory_order_acquire);

    buf_printf(out, "{\"name\":" STR_FMT, dev->json_n, dev->json);
    if (wire)
        add_text(out, "platformName", device_wire_plain(wire));
    add_text(out, "profile", str_from(profile));
    add_text(out, "connector", str_from(source ? source->name : NULL));
    buf_printf(out, ",\"link\":\"%s\",\"served\":%s", links[atomic_load_explicit(&dev->link, memory_order_relaxed)],
               atomic_load_explicit(&dev->owner, memory_order_relaxed) ? "true" : "false");
    if (last_ms)
        buf_printf(out, ",\"silentSeconds\":%" PRIu64, now_ms > last_ms ? (now_ms - last_ms) / 1000 : 0);
    buf_add_z(out, ",\"ledger\":");
    add_row(out, &row);
    buf_add_u8(out, '}');
}

/* {"name":…}: that one; else all, by {"from":number} in parts: {"devices":[…],"next":number or null}. */
static void method_devices(void *arg, struct control_request *request, yyjson_val *params)
{
    enum { A_PART = 2000 };
    const struct status *s = arg;
    struct str name = json_str(json_get(params, STR("name")));
    int64_t from = 0;
    uint32_t n = device_count(), i;
    autobuf struct buf out = {0};

    if (name.p) {
        const struct device *dev = device_find(name);

        if (!dev) {
            control_fail(request, ERR_NOTFOUND, "no device \"" STR_FMT "\" has been seen", STR_ARG(name));
            return;
        }
        buf_add_z(&out, "{\"devices\":[");
        add_device(&out, s, dev);
        buf_add_z(&out, "],\"next\":null}");
        control_answer(request, buf_str(&out));
        return;
    }
    if (json_get(params, STR("from")) && (json_to_i64(json_get(params, STR("from")), &from) || from < 0)) {
        control_fail(request, ERR_RANGE, "\"from\" is not a number of a device");
        return;
    }
    buf_add_z(&out, "{\"devices\":[");
    for (i = from < n ? (uint32_t)from : n; i < n && i - from < A_PART; i++) {
        buf_add_z(&out, i > from ? "," : "");
        add_device(&out, s, device_at(i));
    }
    if (i < n)
        buf_printf(&out, "],\"next\":%u}", i);
    else
        buf_add_z(&out, "],\"next\":null}");
    control_answer(request, buf_str(&out));
}

void status_add_methods(struct status *status, struct control *control)
{
    control_add(control, "status", method_status, status);
    control_add(control, "devices", method_devices, status);
    control_add(control, "endpoints", method_endpoints, status);
}

struct status *status_new(const struct status_conf *conf)
{
    struct status *s = mem_zero(sizeof *s);

    s->conf = *conf;
    s->conf.rejected_path = conf->rejected_path ? mem_dup(conf->rejected_path) : NULL;
    s->since_ms = loop_wall_ms(conf->main->loop);
    list_init(&s->gatherings);
    return s;
}

void status_set_rejected_path(struct status *s, const char *path)
{
    mem_free((char *)(uintptr_t)s->conf.rejected_path);
    s->conf.rejected_path = mem_dup(path);
}

void status_free(struct status *s)
{
    if (!s)
        return;
    mem_free((char *)(uintptr_t)s->conf.rejected_path);
    LIST_EACH_SAFE(node, &s->gatherings)
        gathering_free(CONTAINER_OF(node, struct gathering, node));
    mem_free(s);
}
