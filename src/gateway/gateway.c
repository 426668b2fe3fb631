/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/cert_watch.h"
#include "gateway/credentials_remove.h"
#include "gateway/gateway.h"

#include "base/mem.h"
#include "base/slab.h"
#include "connector/module.h"
#include "gateway/anew.h"
#include "gateway/apply.h"
#include "gateway/connection.h"
#include "gateway/crash.h"
#include "gateway/console.h"
#include "gateway/filter.h"
#include "gateway/fleet.h"
#include "gateway/holdback.h"
#include "gateway/live.h"
#include "gateway/logging.h"
#include "gateway/north.h"
#include "gateway/notify.h"
#include "gateway/ota.h"
#include "gateway/registry.h"
#include "gateway/remote.h"
#include "gateway/router.h"
#include "gateway/signals.h"
#include "gateway/storage.h"
#include "gateway/storage_part.h"
#include "gateway/takeover.h"
#include "gateway/statistics.h"
#include "gateway/uplink_conf.h"
#include "gateway/watch.h"
#include "uplink/uplink.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    MAX_LOOPS = 4,
    HOUSEKEEPING_MS = 5000,
    MEMORY_DRAIN_MS = 5000,
    STOP_MS = 9500,      /* all of stopping: ten seconds with what rounding and the end of threads add */
    STOP_LAST_MS = 3000, /* of it, for the last PUBACKs and disconnects */
    STOP_HUNG_MS = 500   /* after it: a loop hangs, the process ends without it */
};

/*
 *   starting ──► running ──signal──► quiescing ──► stopping ──► draining ──► closing ──► gone
 *
 * All steps run on the main loop; what belongs to a data loop is done there by calls.
 */
enum phase { PHASE_STARTING, PHASE_RUNNING, PHASE_QUIESCING, PHASE_STOPPING, PHASE_DRAINING, PHASE_CLOSING };

struct gateway {
    const struct gateway_conf *conf; /* as it was at the start: what follows later is apply's */
    struct log *log, connection_log, storage_log;
    struct logging *logging;
    struct arena arena;
    struct runner main;
    struct loops loops;
    struct fleet *fleet;
    struct apply *apply;
    struct holdback holdback;
    struct live live;
    struct connection connection;
    struct watch *watch; /* NULL: not running yet */
    struct storage *storage;
    struct takeover *takeover;
    struct uplink *uplink;
    struct north *north;
    struct remote *remote;
    struct ota *ota; /* NULL: off */
    struct router *router;
    struct cert_watch cert_watch;
    struct uplink_conf uplink_conf;
    struct registry *registry;
    _Atomic(struct filter *) filter; /* NULL: none */
    struct console console;
    struct statistics *statistics;
    _Atomic(uint64_t) n_received; /* of the platform; one writer: loop 0 */
    enum phase phase;
    bool is_loop0_there;
    uint64_t stop_since_ms;
    uint32_t drain_ms;       /* for what memory holds */
    uint64_t drain_until_ms; /* loop 0 */
    enum err start_err;
    struct call to_loop0, to_main;
    struct timer housekeeping, watchdog, overdue;
    struct signals signals;
    enum { RESTART_NOT, RESTART_PROGRAM, RESTART_MACHINE } restart;
};

/* --- loop 0: store and uplink ---------------------------------------------------------------------------------------- */

struct new_limits {
    struct call call;
    struct gateway *gateway;
    struct event_limits limits;
};

static void set_limits(void *arg)
{
    struct new_limits *new = arg;

    loops_set_limits(&new->gateway->loops, &new->limits);
    mem_free(new);
}

/* Loop 0. Until the other loops have learned their records are split by the former limits, and the uplink splits such a record
 * once more. */
static void limits_changed(void *arg, size_t max_bytes, unsigned max_values)
{
    struct gateway *gateway = arg;
    struct new_limits *new = mem_new(sizeof *new);

    *new = (struct new_limits){.call = {.fn = set_limits, .arg = new},
                               .gateway = gateway,
                               .limits = {.max_bytes = max_bytes, .max_values = max_values}};
    gateway->loops.all[0]->host.limits = new->limits;
    runner_call(&gateway->main, &new->call);
}

static void uplink_state_changed(void *arg, enum uplink_state state)
{
    struct gateway *gateway = arg;

    north_uplink_state(gateway->north, state);
    if (state == UPLINK_READY)
        notify_send(STR("STATUS=platform session is up"));
    else if (state == UPLINK_DOWN || state == UPLINK_REFUSED)
        notify_send(STR("STATUS=no platform session, data are kept"));
}

static void message_came(void *arg, struct str topic, struct str payload)
{
    struct gateway *gateway = arg;

    atomic_fetch_add_explicit(&gateway->n_received, 1, memory_order_relaxed);
    north_uplink_message(gateway->north, topic, payload);
}

static void readable(void *arg)
{
    struct gateway *gateway = arg;

    if (gateway->uplink) /* else it looks by itself when it starts */
        uplink_readable(gateway->uplink);
}

static void attach_store(void *arg, struct store *store)
{
    struct gateway *gateway = arg;

    uplink_attach(gateway->uplink, store);
    uplink_readable(gateway->uplink);
}

static bool is_drained(void *arg)
{
    return uplink_is_drained(((struct gateway *)arg)->uplink);
}

static bool is_up(void *arg)
{
    return uplink_status(((struct gateway *)arg)->uplink).state == UPLINK_READY;
}

static bool is_taking_over(void *arg)
{
    const struct gateway *gateway = arg;

    return gateway->takeover && takeover_status(gateway->takeover).is_running;
}

/* The books are kept where the data are. */
static void storage_changed(void *arg, const char *path)
{
    struct gateway *gateway = arg;

    if (gateway->console.ledger)
        ledger_move(gateway->console.ledger, path);
}

/* Report filters see what is lost in the device; the uplink looks at its link. */
static void dropped(void *arg, struct device *dev)
{
    struct gateway *gateway = arg;

    if (gateway->uplink)
        uplink_dropped(gateway->uplink, dev);
}

static NODISCARD enum err open_store(struct gateway *gateway, struct why *why)
{
    static const struct store_events events = {.readable = readable, .dropped = dropped};
    const struct storage_conf_of of = {.main = &gateway->main,
                                       .uplink_runner = &gateway->loops.all[0]->runner,
                                       .loops = &gateway->loops,
                                       .log = &gateway->storage_log,
                                       .events = &events,
                                       .attach = attach_store,
                                       .is_drained = is_drained,
                                       .is_up = is_up,
                                       .is_taking_over = is_taking_over,
                                       .changed = storage_changed,
                                       .arg = gateway};
    enum err err = storage_new(&gateway->storage, &of, gateway->conf, why);

    if (!err)
        storage_add_owner(gateway->storage, gateway->apply);
    return err;
}

/* What the Python gateway, or this one with another type of storage, has left. */
static void make_takeover(struct gateway *gateway)
{
    const struct storage_conf *storage = gateway->conf->main->storage;
    struct takeover_conf conf = {.legacy = {.folder = arena_text(&gateway->arena, storage->folder),
                                            .db_path = arena_text(&gateway->arena, storage->db_path),
                                            .keeps_files = storage_has(gateway->storage, storage, STORAGE_FILE),
                                            .keeps_databases = storage_has(gateway->storage, storage, STORAGE_SQLITE),
                                            .log = &gateway->storage_log},
                                 .store = storage_writing(gateway->storage),
                                 .max_events = storage->type == STORAGE_FILE
                                                   ? (uint64_t)storage->max_files * storage->records_per_file
                                               : storage->type == STORAGE_MEMORY ? storage->memory_capacity
                                                                                 : 0,
                                 .max_bytes = storage->max_total_bytes > 0 ? (uint64_t)storage->max_total_bytes : 0};

    if (storage->type == STORAGE_MEMORY)
        conf.max_bytes = storage_memory_bound(storage);
    if (storage->type == STORAGE_SQLITE && !conf.max_bytes)
        conf.max_bytes = (uint64_t)storage->size_limit_mb * 1000000 * storage->max_dbs;
    gateway->takeover = takeover_new(&gateway->main, gateway->loops.all[0], &conf);
}

static void start_loop0(void *arg)
{
    static const struct uplink_events uplink_events = {
        .state = uplink_state_changed, .limits = limits_changed, .message = message_came};
    struct gateway *gateway = arg;
    struct loop *loop = gateway->loops.all[0]->runner.loop;

    gateway->uplink = uplink_new(loop, &gateway->connection_log, &gateway->uplink_conf, &uplink_events, gateway);
    uplink_attach(gateway->uplink, storage_reading(gateway->storage));
    north_attach(gateway->north, gateway->uplink);
    uplink_start(gateway->uplink);
    runner_call(&gateway->main, &gateway->to_main);
}

static void back_to_main(void *arg)
{
    struct gateway *gateway = arg;

    runner_call(&gateway->main, &gateway->to_main);
}

static void stop_store(void *arg)
{
    struct gateway *gateway = arg;

    storage_stop(gateway->storage, back_to_main, gateway);
}

static void formers_are_drained(void *arg)
{
    struct gateway *gateway = arg;
    uint64_t now_ms = loop_mono_ms(gateway->loops.all[0]->runner.loop);
    uint32_t left_ms = now_ms < gateway->drain_until_ms ? (uint32_t)(gateway->drain_until_ms - now_ms) : 0;

    uplink_stop(gateway->uplink, left_ms, stop_store, gateway);
}

/* Memory may stand behind a former storage. */
static void stop_loop0(void *arg)
{
    struct gateway *gateway = arg;

    gateway->drain_until_ms = loop_mono_ms(gateway->loops.all[0]->runner.loop) + gateway->drain_ms;
    storage_drain(gateway->storage, gateway->drain_ms, formers_are_drained, gateway);
}

static void end_loop0(void *arg)
{
    struct gateway *gateway = arg;

    north_attach_link(gateway->north, NULL, NULL);
    uplink_free(gateway->uplink);
}

/* --- devices -------------------------------------------------------------------------------------------------------- */

struct device_call { /* main loop → loop 0 */
    struct call call;
    struct gateway *gateway;
    enum uplink_device_op op;
    size_t n;
    const char **wires;
    struct device *devs[];
};

static void tell_uplink(void *arg)
{
    struct device_call *call = arg;

    uplink_devices(call->gateway->uplink, call->op, call->devs, call->wires, call->n);
    mem_free(call->wires);
    mem_free(call);
}

static void devices_changed(void *arg, enum uplink_device_op op, struct device *const *devs, const char *const *wires,
                            size_t n)
{
    struct gateway *gateway = arg;
    struct device_call *call;

    if (gateway->phase >= PHASE_QUIESCING) /* all are disconnected now */
        return;
    call = mem_zero(sizeof *call + n * sizeof *devs);

    if (n)
        memcpy(call->devs, devs, n * sizeof *devs);
    if (wires && n) {
        call->wires = mem_new(n * sizeof *wires);
        memcpy(call->wires, wires, n * sizeof *wires);
    }
    call->call = (struct call){.fn = tell_uplink, .arg = call};
    call->gateway = gateway;
    call->op = op;
    call->n = n;
    runner_call(&gateway->loops.all[0]->runner, &call->call);
}

/* A connector's loop. */
static bool device_allowed(void *arg, struct ctx *ctx, struct device *dev)
{
    const struct gateway *gateway = arg;
    bool is_first, is_allowed = filter_allows(atomic_load_explicit(&gateway->filter, memory_order_acquire),
                                              ctx_source(ctx), dev, &is_first);

    if (UNLIKELY(is_first && !is_allowed))
        LOG_WARN(ctx_log(ctx), "the device filter denies this device, its data are dropped",
                 KV_STR("device", device_name(dev)));
    return is_allowed;
}

static void device_seen(void *arg, struct ctx *ctx, struct device *dev)
{
    registry_seen(((struct gateway *)arg)->registry, ctx, dev);
}

static void attached(void *arg, struct ctx *ctx)
{
    registry_attached(((struct gateway *)arg)->registry, ctx);
}

static void name_connectors(struct gateway *gateway, const struct gateway_conf *conf)
{
    for (size_t i = 0; i < conf->n_connectors; i++) {
        const struct gateway_connector *connector = &conf->connectors[i];

        registry_add_connector(gateway->registry, connector->type, connector->name,
                               connector_common_of(connector->conf)->id);
    }
}

static bool names_connector(const struct gateway_conf *conf, const struct gateway_connector *connector)
{
    for (size_t i = 0; i < conf->n_connectors; i++)
        if (strcmp(conf->connectors[i].name, connector->name) == 0 &&
            strcmp(conf->connectors[i].type, connector->type) == 0)
            return true;
    return false;
}

static void forget_connectors(struct gateway *gateway, const struct gateway_conf *before,
                              const struct gateway_conf *after)
{
    for (size_t i = 0; i < before->n_connectors; i++)
        if (!names_connector(after, &before->connectors[i]))
            registry_remove_connector(gateway->registry, before->connectors[i].type, before->connectors[i].name);
}

static void make_registry(struct gateway *gateway)
{
    const struct gateway_conf *conf = gateway->conf;
    struct registry_conf registry = {.loop = gateway->main.loop,
                                     .log = gateway->log,
                                     .dir = conf->dir,
                                     .like = conf->path,
                                     .link = {.devices = devices_changed, .arg = gateway}};

    live_registry_conf(&registry, conf);
    gateway->registry = gateway->live.registry = registry_new(&registry);
    if (conf->filter)
        gateway->filter = filter_new(conf->filter);
}

/* --- the way down --------------------------------------------------------------------------------------------------- */

/* Threads that hang cannot be ended, only left, and with them what they may still touch. */
static _Noreturn void leave(int code)
{
    log_flush(true);
    _exit(code);
}

static void overdue(void *arg)
{
    struct gateway *gateway = arg;

    LOG_ERROR(gateway->log, "stopping takes too long, what is not delivered is lost");
    leave(1);
}

static void console_is_closed(void *arg)
{
    struct gateway *gateway = arg;

    loops_end(&gateway->loops, end_loop0, gateway);
    timer_stop(&gateway->housekeeping);
    logging_stop(gateway->logging);
    cert_watch_stop(&gateway->cert_watch);
    timer_stop(&gateway->watchdog);
    timer_stop(&gateway->overdue);
    signals_stop(&gateway->signals);
    loop_stop(gateway->main.loop);
}

static void fleet_is_closed(void *arg)
{
    struct gateway *gateway = arg;

    console_stop(&gateway->console, console_is_closed, gateway);
}

static void loop0_is_stopped(void *arg)
{
    struct gateway *gateway = arg;

    gateway->phase = PHASE_CLOSING;
    fleet_close(gateway->fleet, fleet_is_closed, gateway);
}

static void drain(void *arg)
{
    struct gateway *gateway = arg;
    uint64_t past_ms = loop_mono_ms(gateway->main.loop) - gateway->stop_since_ms, left_ms = STOP_MS - STOP_LAST_MS;

    left_ms -= past_ms < left_ms ? past_ms : left_ms;
    gateway->drain_ms = left_ms < MEMORY_DRAIN_MS ? (uint32_t)left_ms : MEMORY_DRAIN_MS;
    if (!storage_is_volatile(gateway->storage))
        gateway->drain_ms = 0; /* it is there after the next start */
    gateway->phase = PHASE_DRAINING;
    router_stop(gateway->router);
    gateway->to_loop0 = (struct call){.fn = stop_loop0, .arg = gateway};
    gateway->to_main = (struct call){.fn = loop0_is_stopped, .arg = gateway};
    runner_call(&gateway->loops.all[0]->runner, &gateway->to_loop0);
}

static void takeover_is_stopped(void *arg)
{
    struct gateway *gateway = arg;

    gateway->phase = PHASE_STOPPING;
    fleet_stop_all(gateway->fleet, drain, gateway);
}

static void fleet_is_quiet(void *arg)
{
    struct gateway *gateway = arg;

    if (gateway->takeover)
        takeover_stop(gateway->takeover, takeover_is_stopped, gateway);
    else
        takeover_is_stopped(gateway);
}

static void stop_parts(struct gateway *gateway)
{
    registry_stop(gateway->registry);
    statistics_stop(gateway->statistics, NULL, NULL);
    watch_stop(gateway->watch);
    remote_stop(gateway->remote);
    ota_stop(gateway->ota);
    apply_end(gateway->apply);
    holdback_stop(&gateway->holdback);
    storage_end(gateway->storage);
    fleet_quiesce_all(gateway->fleet, fleet_is_quiet, gateway);
}

static void begin_stop(struct gateway *gateway, const char *why)
{
    if (gateway->phase >= PHASE_QUIESCING)
        return;
    gateway->phase = PHASE_QUIESCING;
    gateway->stop_since_ms = loop_mono_ms(gateway->main.loop);
    timer_start(&gateway->overdue, STOP_MS + STOP_HUNG_MS);
    if (!gateway->restart)
        crash_stay_down();
    notify_send(STR("STOPPING=1"));
    LOG_INFO(gateway->log, "stopping", KV_Z("reason", why));
    if (gateway->is_loop0_there)
        stop_parts(gateway);
}

/* --- the way up ------------------------------------------------------------------------------------------------------ */

static void fleet_is_started(void *arg)
{
    struct gateway *gateway = arg;
    size_t n = fleet_count(gateway->fleet), n_failed = 0, n_held = 0;

    if (gateway->phase != PHASE_STARTING)
        return;
    gateway->phase = PHASE_RUNNING;
    for (size_t i = 0; i < n; i++) {
        n_failed += fleet_at(gateway->fleet, i).state != INSTANCE_RUNNING;
        n_held += fleet_at(gateway->fleet, i).is_held;
    }
    LOG_INFO(gateway->log, "gateway is running", KV_UINT("connectors", n - n_failed), KV_UINT("failed", n_failed));
    notify_send(STR("READY=1"));
    if (n_failed > 0 && n_failed == n && !n_held &&
        !remote_is_on(gateway->remote)) { /* else the platform can mend it */
        gateway->start_err = ERR_CONFIG;
        begin_stop(gateway, "no connector could be started");
        return;
    }
    gateway->watch = watch_new(&gateway->main, gateway->apply, gateway->log);
    remote_start(gateway->remote);
}

static void start_connectors(void *arg)
{
    struct gateway *gateway = arg;

    if (gateway->phase != PHASE_STARTING)
        return;
    holdback_begin(&gateway->holdback, gateway->main.loop, gateway->fleet, gateway->log);
    fleet_start_all(gateway->fleet, fleet_is_started, gateway);
}

static void loop0_is_there(void *arg)
{
    struct gateway *gateway = arg;

    gateway->is_loop0_there = true;
    loops_set_store(&gateway->loops, storage_writing(gateway->storage));
    if (gateway->phase != PHASE_STARTING) { /* told to stop meanwhile: to_loop0 and to_main were on their way */
        stop_parts(gateway);
        return;
    }
    make_takeover(gateway);
    takeover_start(gateway->takeover, start_connectors, gateway);
}

static void signalled(void *arg, int number)
{
    struct gateway *gateway = arg;

    if (number != SIGHUP) {
        if (gateway->restart == RESTART_PROGRAM) {
            LOG_INFO(gateway->log, "no restart: it was told to stop");
            gateway->restart = RESTART_NOT;
        }
        begin_stop(gateway, number == SIGINT ? "SIGINT" : "SIGTERM");
        return;
    }
    logging_reopen(gateway->logging);
    if (gateway->phase == PHASE_RUNNING)
        apply_reload(gateway->apply, NULL, NULL);
}

static void keep_house(void *arg)
{
    (void)arg;
    log_flush(false);
    slab_trim();
    mem_trim();
}

/* Only after a round through all loops: one that hangs lets the service manager restart the program. */
static void watchdog_went_round(void *arg)
{
    (void)arg;
    notify_send(STR("WATCHDOG=1"));
}

static void feed_watchdog(void *arg)
{
    struct gateway *gateway = arg;

    loops_feed_watchdog(&gateway->loops, watchdog_went_round, gateway);
}

static bool has_own_loop(const struct gateway_connector *connector)
{
    const struct connector_common *common = connector_common_of(connector->conf);
    const struct connector_type *type = connector->conf ? module_load(connector->type, NULL) : NULL;

    if (!type)
        return false;
    return common->has_own_loop ? common->own_loop : (type->flags & CONNECTOR_LONG_TURNS) != 0;
}

/* --- local control ------------------------------------------------------------------------------------------------------- */

/* Loop 0. */
static void tell_core(void *arg, struct status_core *out)
{
    struct gateway *gateway = arg;

    out->uplink = uplink_status(gateway->uplink);
    out->store = storage_stats(gateway->storage);
    snprintf(out->trouble, sizeof out->trouble, "%s",
             out->store.trouble    ? out->store.trouble
             : out->uplink.trouble ? out->uplink.trouble
                                   : "");
    out->store.trouble = NULL; /* it is of this thread */
}

static void values_pass(void *arg, struct ctx *ctx, const struct event *event)
{
    tail_values(((struct gateway *)arg)->console.tail, ctx, event);
}

static void wire_passes(void *arg, struct ctx *ctx, bool is_out, struct str subject, struct str bytes)
{
    tail_wire(((struct gateway *)arg)->console.tail, ctx, is_out, subject, bytes);
}

static const char *phase_name(void *arg)
{
    static const char *const names[] = {
        [PHASE_STARTING] = "starting", [PHASE_RUNNING] = "running",     [PHASE_QUIESCING] = "stopping",
        [PHASE_STOPPING] = "stopping", [PHASE_DRAINING] = "delivering", [PHASE_CLOSING] = "closing"};

    return names[((struct gateway *)arg)->phase];
}

static struct takeover_status tell_takeover(void *arg)
{
    return takeover_status(((struct gateway *)arg)->takeover);
}

/* For programs that run elsewhere. */
static const char *absolute(struct arena *arena, const char *path)
{
    char dir[4096];

    if (*path == '/' || !getcwd(dir, sizeof dir))
        return path;
    return arena_printf(arena, "%s/%s", dir, path).p;
}

static struct store_stats stats_of_store(void *arg)
{
    return storage_kept(((struct gateway *)arg)->storage);
}

static void make_console(struct gateway *gateway)
{
    const struct storage_conf *storage = gateway->conf->main->storage;
    const char *dir = storage->type == STORAGE_FILE     ? arena_text(&gateway->arena, storage->folder)
                      : storage->type == STORAGE_SQLITE ? arena_text(&gateway->arena, storage->db_path)
                                                        : NULL;
    const struct console_conf conf = {
        .status = {.main = &gateway->main,
                   .loops = &gateway->loops,
                   .fleet = gateway->fleet,
                   .apply = gateway->apply,
                   .north = gateway->north,
                   .router = gateway->router,
                   .rejected_path = absolute(&gateway->arena, gateway->uplink_conf.rejected_path),
                   .core = tell_core,
                   .phase = phase_name,
                   .takeover = tell_takeover,
                   .arg = gateway},
        .ledger = {.loop = gateway->main.loop,
                   .log = &gateway->storage_log,
                   .dir = dir,
                   .stats = stats_of_store,
                   .arg = gateway},
        .logging = gateway->logging,
        .registry = gateway->registry,
        .log = gateway->log};

    console_start(&gateway->console, &conf, gateway->conf->dir);
}

/* --- commands ---------------------------------------------------------------------------------------------------------- */

static void north_state(void *arg, enum uplink_state state)
{
    struct gateway *gateway = arg;

    router_state(gateway->router, state);
    remote_state(gateway->remote, state);
    ota_state(gateway->ota, state);
    logging_session(gateway->logging, state == UPLINK_READY);
    statistics_session(gateway->statistics, state == UPLINK_READY);
    if (state == UPLINK_READY &&
        apply_running(gateway->apply)->login == LOGIN_PROVISION) /* there may be a certificate now */
        cert_watch_look(&gateway->cert_watch);
}

static void tell_expiry(void *arg, struct str attributes)
{
    north_own_attributes(((struct gateway *)arg)->north, attributes);
}

static struct cert_watch_conf certificates_of(const struct gateway_conf *conf, const struct uplink_conf *uplink)
{
    const struct tls_conf *tls = &uplink->mqtt.stream.tls;
    const struct provision_conf *provision = uplink->provision;
    const struct security_conf *security = conf->main->platform->security;

    if (!tls->is_on)
        return (struct cert_watch_conf){0};
    return (struct cert_watch_conf){
        .cert_file = provision && provision->type == CREDENTIALS_CERTIFICATE ? provision->cert_path : tls->cert_file,
        .ca_file = tls->ca_file,
        .period_ms = (uint64_t)security->check_cert_period_s * 1000,
        .days_left = security->certificate_days_left};
}

static void watch_certificates(struct gateway *gateway)
{
    const struct cert_watch_conf conf = certificates_of(gateway->conf, &gateway->uplink_conf);

    cert_watch_start(&gateway->cert_watch, gateway->main.loop, &gateway->connection_log, &conf, tell_expiry, gateway);
}

/* A change of the connection may have brought others. */
static void watch_other_certificates(struct gateway *gateway, const struct gateway_conf *after)
{
    struct uplink_conf uplink;
    struct cert_watch_conf conf;
    struct arena arena;

    arena_init(&arena, 1024);
    uplink_conf_from(&uplink, after, &arena);
    conf = certificates_of(after, &uplink);
    cert_watch_change(&gateway->cert_watch, &conf);
    arena_fini(&arena);
}

static void remove_credentials(void *arg, struct router_request *request, yyjson_val *params)
{
    struct gateway *gateway = arg;
    autobuf struct buf answer = {0};

    (void)params;
    credentials_remove(gateway->conf->dir, &answer);
    LOG_WARN(gateway->log, "the platform has the provisioned credentials removed", KV_STR("answer", buf_str(&answer)));
    router_builtin_reply(gateway->router, request, buf_str(&answer));
}

static void own_rpc(void *arg, struct str number, yyjson_val *root)
{
    struct gateway *gateway = arg;

    router_own_rpc(gateway->router, number, root);
}

static void device_rpc(void *arg, yyjson_val *root)
{
    struct gateway *gateway = arg;

    router_device_rpc(gateway->router, root);
}

static void own_attributes(void *arg, yyjson_val *root)
{
    struct gateway *gateway = arg;

    remote_attributes(gateway->remote, root);
    ota_attributes(gateway->ota, root);
}

static void firmware(void *arg, uint64_t request, uint64_t chunk, struct str bytes)
{
    ota_chunk(((struct gateway *)arg)->ota, request, chunk, bytes);
}

static void device_attributes(void *arg, yyjson_val *root)
{
    struct gateway *gateway = arg;

    router_device_attributes(gateway->router, root);
}

static void command_replied(void *arg, struct ctx *ctx, struct command *command, enum err err, struct str json)
{
    struct gateway *gateway = arg;

    router_reply(gateway->router, ctx, command, err, json);
}

static void attributes_requested(void *arg, struct ctx *ctx, struct device *dev, struct str shared, struct str client,
                                 uint64_t cookie)
{
    struct gateway *gateway = arg;

    router_request_attributes(gateway->router, ctx, dev, shared, client, cookie);
}

static void serving(void *arg, struct ctx *ctx, bool is_there)
{
    struct gateway *gateway = arg;

    router_serving(gateway->router, ctx, is_there);
}

static void released(void *arg, struct ctx *ctx)
{
    struct gateway *gateway = arg;

    router_released(gateway->router, ctx);
}

static void device_connected(void *arg, struct ctx *ctx, struct device *dev, struct str keys, bool is_all,
                             bool is_again)
{
    struct gateway *gateway = arg;

    router_device_connected(gateway->router, ctx, dev, keys, is_all, is_again);
}

static struct device *device_of_name(void *arg, struct str name)
{
    struct gateway *gateway = arg;

    return registry_by_platform_name(gateway->registry, name);
}

static struct str name_of_device(void *arg, const struct device *dev)
{
    (void)arg;
    return registry_platform_name(dev);
}

static void device_was_renamed(void *arg, struct router_request *request, yyjson_val *params)
{
    struct gateway *gateway = arg;
    autobuf struct buf reply = {0};

    registry_renamed(gateway->registry, params, &reply);
    router_names_changed(gateway->router);
    router_builtin_reply(gateway->router, request, buf_str(&reply));
}

static void device_was_deleted(void *arg, struct router_request *request, yyjson_val *params)
{
    struct gateway *gateway = arg;
    autobuf struct buf reply = {0};

    registry_deleted(gateway->registry, params, &reply);
    router_builtin_reply(gateway->router, request, buf_str(&reply));
}

static void restart_asked(void *arg, bool is_machine)
{
    struct gateway *gateway = arg;

    if (gateway->phase >= PHASE_QUIESCING)
        return;
    gateway->restart = is_machine ? RESTART_MACHINE : RESTART_PROGRAM;
    begin_stop(gateway, is_machine ? "reboot by the platform" : "restart by the platform");
}

/* Loop 0. */
static void sample(void *arg, struct statistics_sample *out)
{
    struct gateway *gateway = arg;

    *out = (struct statistics_sample){.store = storage_stats(gateway->storage),
                                      .uplink = uplink_status(gateway->uplink),
                                      .n_received = atomic_load_explicit(&gateway->n_received, memory_order_relaxed)};
}

static void make_statistics(struct gateway *gateway)
{
    const struct statistics_conf_of conf = {.main = &gateway->main,
                                            .loop0 = &gateway->loops.all[0]->runner,
                                            .fleet = gateway->fleet,
                                            .north = gateway->north,
                                            .log = gateway->log,
                                            .sample = sample,
                                            .arg = gateway};

    gateway->statistics = gateway->live.statistics = statistics_new(&conf);
    statistics_apply(gateway->statistics, gateway->conf);
}

static void make_ota(struct gateway *gateway)
{
    struct str hook = gateway->conf->main->platform->ota_hook;
    const struct ota_conf conf = {.loop = gateway->main.loop,
                                  .log = gateway->log,
                                  .dir = gateway->conf->dir,
                                  .hook = arena_text(&gateway->arena, hook)};

    if (!hook.n)
        return;
    gateway->ota = ota_new(&conf);
    ota_attach(gateway->ota, gateway->north);
}

static void make_router(struct gateway *gateway)
{
    static const struct north_events north_events = {.state = north_state,
                                                     .own_rpc = own_rpc,
                                                     .device_rpc = device_rpc,
                                                     .own_attributes = own_attributes,
                                                     .device_attributes = device_attributes,
                                                     .firmware = firmware};
    static const struct router_events router_events = {
        .find = device_of_name, .platform_name = name_of_device, .restart = restart_asked};
    const struct platform_conf *platform = gateway->conf->main->platform;
    const struct router_conf conf = {.has_remote_shell = platform->remote_shell,
                                     .syncs_attributes = platform->sync_shared_attributes,
                                     .config_dir = gateway->conf->dir};

    gateway->router = gateway->live.router =
        router_new(gateway->main.loop, gateway->log, &conf, &router_events, gateway);
    gateway->north = north_new(gateway->main.loop, gateway->loops.all[0]->runner.loop, &gateway->connection_log,
                               &north_events, gateway);
    router_attach(gateway->router, gateway->north);
    make_ota(gateway);
    make_statistics(gateway);
    logging_attach(gateway->logging, &gateway->main, gateway->fleet, gateway->north);
    router_add_builtin(gateway->router, "device_renamed", device_was_renamed, gateway);
    router_add_builtin(gateway->router, "device_deleted", device_was_deleted, gateway);
    router_add_builtin(gateway->router, "remove_provisioned_credentials", remove_credentials, gateway);
}

static void make_remote(struct gateway *gateway, const struct gateway_types *types)
{
    const struct remote_conf conf = {.main = &gateway->main,
                                     .apply = gateway->apply,
                                     .north = gateway->north,
                                     .types = types,
                                     .logging = gateway->logging,
                                     .log = gateway->log};

    gateway->remote = remote_new(&conf);
}

/* Where the data is, if it has a directory. */
static struct str data_dir(const struct gateway *gateway)
{
    struct str dir = storage_path_of(gateway->conf->main->storage);

    return dir.n ? dir : str_from(gateway->conf->dir);
}

static NODISCARD enum err make_loops(struct gateway *gateway)
{
    const struct gateway_conf *conf = gateway->conf;
    const struct report_strategy *report = conf->main->platform->report_strategy;
    const struct ctx_host host = {.config_dir = conf->dir,
                                  .data_dir = arena_text(&gateway->arena, data_dir(gateway)),
                                  .values_pass = values_pass,
                                  .wire_passes = wire_passes,
                                  .report = report ? *report : (struct report_strategy){0},
                                  .report_cleanup_s = conf->main->platform->report_cleanup_s,
                                  .adds_meta = conf->main->platform->latency_debug,
                                  .device_allowed = conf->filter ? device_allowed : NULL,
                                  .device_seen = device_seen,
                                  .attached = attached,
                                  .reply = command_replied,
                                  .request_attributes = attributes_requested,
                                  .serving = serving,
                                  .released = released,
                                  .device_connected = device_connected,
                                  .arg = gateway};
    size_t n_own = 0, cores = uv_available_parallelism(), n = conf->main->platform->loops, n_sharing;
    enum err err = runner_init(&gateway->main, "main");

    for (size_t i = 0; i < conf->n_connectors; i++)
        n_own += has_own_loop(&conf->connectors[i]);
    n_sharing = conf->n_connectors - n_own;
    if (n == 0) {
        n = n_sharing < cores ? n_sharing : cores;
        n = n < MAX_LOOPS ? n : MAX_LOOPS;
    }
    return err ? err : loops_init(&gateway->loops, &gateway->main, n ? n : 1, &host);
}

static void make_fleet(struct gateway *gateway)
{
    gateway->fleet = fleet_new(&gateway->loops);
    for (size_t i = 0; i < gateway->conf->n_connectors; i++)
        fleet_add_configured(gateway->fleet, &gateway->conf->connectors[i]);
}

/* The rejected file is where the storage is. */
static void name_rejected_file(struct gateway *gateway, const struct gateway_conf *conf)
{
    struct uplink_conf uplink;
    struct arena arena;

    arena_init(&arena, 1024);
    uplink_conf_from(&uplink, conf, &arena);
    status_set_rejected_path(gateway->console.status, absolute(&arena, uplink.rejected_path));
    arena_fini(&arena);
}

static void configuration_changed(void *arg, const struct gateway_conf *before, const struct gateway_conf *after)
{
    struct gateway *gateway = arg;

    name_connectors(gateway, after);
    name_rejected_file(gateway, after);
    forget_connectors(gateway, before, after);
    watch_other_certificates(gateway, after);
    remote_changed(gateway->remote);
}

static enum err take_remote_shell(void *arg, const struct gateway_conf *before UNUSED, const struct gateway_conf *after,
                                  struct apply_step *step UNUSED, struct why *why UNUSED)
{
    struct gateway *gateway = arg;

    router_set_remote_shell(gateway->router, after->main->platform->remote_shell);
    return ERR_OK;
}

static void make_apply(struct gateway *gateway, struct gateway_conf *conf, const struct gateway_types *types,
                       const struct problems *known)
{
    static const char *const remote_shell_keys[] = {"thingsboard.remoteShell", NULL};
    const struct apply_conf apply = {.main = &gateway->main,
                                     .fleet = gateway->fleet,
                                     .types = types,
                                     .running = conf,
                                     .known = known,
                                     .log = gateway->log};

    gateway->apply = apply_new(&apply);
    apply_on_change(gateway->apply, configuration_changed, gateway);
    gateway->live = (struct live){.loops = &gateway->loops,
                                  .fleet = gateway->fleet,
                                  .logging = gateway->logging,
                                  .uplink_runner = &gateway->loops.all[0]->runner,
                                  .uplink = &gateway->uplink,
                                  .filter = &gateway->filter,
                                  .device_allowed = device_allowed};
    live_add_owners(gateway->apply, &gateway->live);
    gateway->connection = (struct connection){
        .main = &gateway->main, .uplink_runner = &gateway->loops.all[0]->runner, .uplink = &gateway->uplink};
    apply_add_owner(gateway->apply,
                    &(struct apply_owner){.keys = remote_shell_keys, .take = take_remote_shell, .arg = gateway});
}

/* Beside the data, where these have a directory. */
static void begin_to_record_faults(struct gateway *gateway)
{
    struct str dir = data_dir(gateway);
    struct str path =
        arena_printf(&gateway->arena, STR_FMT "%scrashes.jsonl", STR_ARG(dir), str_ends(dir, STR("/")) ? "" : "/");
    struct why why = {0};

    if (crash_begin(path.p, loop_wall_ms(gateway->main.loop) / 1000, &gateway->holdback.book, &why))
        LOG_WARN(gateway->log, "which connector a fault belongs to cannot be remembered", KV_WHY(&why));
}

static NODISCARD enum err start(struct gateway *gateway)
{
    enum err err = signals_start(&gateway->signals, gateway->main.loop, signalled, gateway);
    uint64_t watchdog_ms = notify_watchdog_ms();

    if (err)
        return err;
    watch_certificates(gateway);
    timer_init(&gateway->housekeeping, gateway->main.loop, keep_house, gateway);
    timer_start_periodic(&gateway->housekeeping, HOUSEKEEPING_MS, HOUSEKEEPING_MS);
    timer_init(&gateway->watchdog, gateway->main.loop, feed_watchdog, gateway);
    timer_init(&gateway->overdue, gateway->main.loop, overdue, gateway);
    if (watchdog_ms)
        timer_start_periodic(&gateway->watchdog, watchdog_ms, watchdog_ms);
    err = loops_start(&gateway->loops);
    if (err)
        return err;
    gateway->to_loop0 = (struct call){.fn = start_loop0, .arg = gateway};
    gateway->to_main = (struct call){.fn = loop0_is_there, .arg = gateway};
    runner_call(&gateway->loops.all[0]->runner, &gateway->to_loop0);
    return ERR_OK;
}

/* Once no loop runs any more. */
static void fini(struct gateway *gateway)
{
    loops_wait(&gateway->loops);
    crash_end();
    storage_free(gateway->storage);
    logging_detach(gateway->logging);
    console_fini(&gateway->console);
    remote_stop(gateway->remote);
    router_free(gateway->router);
    statistics_free(gateway->statistics);
    north_free(gateway->north);
    remote_free(gateway->remote);
    ota_free(gateway->ota);
    connection_fini(&gateway->connection);
    loops_fini(&gateway->loops);
    fleet_free(gateway->fleet);
    watch_free(gateway->watch);
    apply_free(gateway->apply);
    registry_free(gateway->registry);
    runner_join(&gateway->main);
    cert_watch_fini(&gateway->cert_watch);
    filter_free(gateway->filter);
    takeover_free(gateway->takeover);
    log_flush(true);
    log_fini(&gateway->connection_log);
    log_fini(&gateway->storage_log);
    arena_fini(&gateway->arena);
}

/* Each link costs one; the soft limit of 1024 is for programs that use select(2). */
static void raise_descriptors(struct log *log)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit))
        LOG_WARN(log, "the number of open files cannot be raised", KV_UINT("to", limit.rlim_max),
                 KV_Z("error", strerror(errno)));
}

int gateway_run(struct gateway_conf *conf, const struct gateway_types *types, const struct problems *known,
                struct logging *logging, struct log *log)
{
    struct gateway gateway = {.conf = conf, .log = log, .logging = logging};
    struct why why = {0};
    int lock;
    enum err err = control_lock(&lock, conf->dir, &why);

    if (err) {
        LOG_ERROR(log, "cannot start", KV_WHY(&why));
        gateway_conf_free(conf);
        return 1;
    }
    /* Few arenas and small stacks: a thread costs some 20 KiB resident. */
    mallopt(M_ARENA_MAX, 2);
    raise_descriptors(log);
    signal(SIGPIPE, SIG_IGN);
    arena_init(&gateway.arena, 1024);
    log_init(&gateway.connection_log, "tb_connection", logger_level(conf, STR("tb_connection")));
    log_init(&gateway.storage_log, "storage", logger_level(conf, STR("storage")));
    logging_add(logging, log);
    logging_add(logging, &gateway.connection_log);
    logging_add(logging, &gateway.storage_log);
    uplink_conf_from(&gateway.uplink_conf, conf, &gateway.arena);
    ctx_setup();
    err = make_loops(&gateway);
    if (err) {
        LOG_ERROR(log, "cannot start", KV_ERR(err));
        return 1;
    }
    make_fleet(&gateway);
    make_apply(&gateway, conf, types, known);
    err = open_store(&gateway, &why);
    if (err) {
        LOG_ERROR(log, "the storage cannot be opened", KV_WHY(&why));
        fini(&gateway);
        return 1;
    }
    begin_to_record_faults(&gateway);
    make_registry(&gateway);
    make_router(&gateway);
    make_remote(&gateway, types);
    connection_add_owner(gateway.apply, &gateway.connection); /* the last one: what it has taken is kept by a session */
    name_connectors(&gateway, conf);
    registry_load(gateway.registry);
    make_console(&gateway);
    err = start(&gateway);
    if (err) {
        LOG_ERROR(log, "cannot start", KV_ERR(err));
        return 1; /* loops may run: the process ends with them */
    }
    loop_run(gateway.main.loop);
    if (fleet_n_left_behind(gateway.fleet)) {
        LOG_ERROR(log, "stopped without the connectors that are left behind");
        leave(gateway.start_err ? 78 : 0);
    }
    if (ledger_is_left_behind(gateway.console.ledger))
        leave(gateway.start_err ? 78 : 0);
    fini(&gateway);
    log_flush(true);
    if (gateway.restart)
        anew_begin(gateway.restart == RESTART_MACHINE, log, NULL);
    return gateway.start_err ? 78 : 0;
}
