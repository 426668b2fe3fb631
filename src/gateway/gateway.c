/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/gateway_impl.h"

#include "base/slab.h"
#include "gateway/anew.h"
#include "gateway/crash.h"
#include "gateway/notify.h"
#include "gateway/ota.h"
#include "gateway/remote.h"
#include "gateway/storage.h"
#include "gateway/statistics.h"
#include "gateway/watch.h"

#include <malloc.h>
#include <sys/resource.h>

enum { HOUSEKEEPING_MS = 5000 };

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
        gateway_begin_stop(gateway, "no connector could be started");
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
        gateway_stop_parts(gateway);
        return;
    }
    gateway_make_takeover(gateway);
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
        gateway_begin_stop(gateway, number == SIGINT ? "SIGINT" : "SIGTERM");
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

static void make_fleet(struct gateway *gateway)
{
    gateway->fleet = fleet_new(&gateway->loops);
    for (size_t i = 0; i < gateway->conf->n_connectors; i++)
        fleet_add_configured(gateway->fleet, &gateway->conf->connectors[i]);
}

/* Beside the data, where these have a directory. */
static void begin_to_record_faults(struct gateway *gateway)
{
    struct str dir = gateway_data_dir(gateway);
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
    gateway_watch_certificates(gateway);
    timer_init(&gateway->housekeeping, gateway->main.loop, keep_house, gateway);
    timer_start_periodic(&gateway->housekeeping, HOUSEKEEPING_MS, HOUSEKEEPING_MS);
    timer_init(&gateway->watchdog, gateway->main.loop, feed_watchdog, gateway);
    timer_init(&gateway->overdue, gateway->main.loop, gateway_overdue, gateway);
    if (watchdog_ms)
        timer_start_periodic(&gateway->watchdog, watchdog_ms, watchdog_ms);
    err = loops_start(&gateway->loops);
    if (err)
        return err;
    gateway->to_loop0 = (struct call){.fn = gateway_start_loop0, .arg = gateway};
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
    err = gateway_make_loops(&gateway);
    if (err) {
        LOG_ERROR(log, "cannot start", KV_ERR(err));
        return 1;
    }
    make_fleet(&gateway);
    gateway_make_apply(&gateway, conf, types, known);
    err = gateway_open_store(&gateway, &why);
    if (err) {
        LOG_ERROR(log, "the storage cannot be opened", KV_WHY(&why));
        fini(&gateway);
        return 1;
    }
    begin_to_record_faults(&gateway);
    gateway_make_registry(&gateway);
    gateway_make_router(&gateway);
    gateway_make_remote(&gateway, types);
    connection_add_owner(gateway.apply, &gateway.connection); /* the last one: what it has taken is kept by a session */
    gateway_name_connectors(&gateway, conf);
    registry_load(gateway.registry);
    gateway_make_console(&gateway);
    err = start(&gateway);
    if (err) {
        LOG_ERROR(log, "cannot start", KV_ERR(err));
        return 1; /* loops may run: the process ends with them */
    }
    loop_run(gateway.main.loop);
    if (fleet_n_left_behind(gateway.fleet)) {
        LOG_ERROR(log, "stopped without the connectors that are left behind");
        gateway_leave(gateway.start_err ? 78 : 0);
    }
    if (ledger_is_left_behind(gateway.console.ledger))
        gateway_leave(gateway.start_err ? 78 : 0);
    fini(&gateway);
    log_flush(true);
    if (gateway.restart)
        anew_begin(gateway.restart == RESTART_MACHINE, log, NULL);
    return gateway.start_err ? 78 : 0;
}
