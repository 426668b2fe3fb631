/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/gateway.h"

#include "base/mem.h"
#include "base/slab.h"
#include "connector/module.h"
#include "gateway/instance.h"
#include "gateway/notify.h"
#include "gateway/uplink_conf.h"
#include "uplink/uplink.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
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

struct gateway;
struct data_loop {
    struct gateway *gateway;
    char name[32];
    struct runner runner;
    struct ctx_host host; /* read by the connectors of this loop only */
    struct call watchdog, end;
};

struct gateway {
    const struct gateway_conf *conf;
    struct log *log, connection_log, storage_log;
    struct arena arena;
    struct runner main;
    struct data_loop *loops; /* shared ones first, then one for each connector that has its own */
    size_t n_loops, n_shared;
    struct instance **instances;
    size_t n_instances, n_waiting; /* waiting: instances that have not answered the present step */
    struct store *store;
    struct uplink *uplink;
    struct uplink_conf uplink_conf;
    enum phase phase;
    uint64_t stop_since_ms;
    uint32_t drain_ms; /* for what memory holds */
    enum err start_err;
    struct call to_loop0, to_main, watchdog_back;
    struct timer housekeeping, watchdog, overdue;
    bool watchdog_is_out; /* a round through the loops has not come back */
    bool is_left_behind;  /* a connector did not stop: its loop cannot end */
    uv_signal_t signals[2];
};

/* --- loop 0: store and uplink ---------------------------------------------------------------------------------------- */

struct new_limits {
    struct call call;
    struct data_loop *loop;
    struct event_limits limits;
};

static void set_limits(void *arg)
{
    struct new_limits *new = arg;

    new->loop->host.limits = new->limits;
    mem_free(new);
}

/* Loop 0. The other loops learn by a call, each its own: the former one may still be on its way. Until it has run their
 * records are split by the former limits, and the uplink splits such a record once more. */
static void limits_changed(void *arg, size_t max_bytes, unsigned max_values)
{
    struct gateway *gateway = arg;
    const struct event_limits limits = {.max_bytes = max_bytes, .max_values = max_values};

    gateway->loops[0].host.limits = limits;
    for (size_t i = 1; i < gateway->n_loops; i++) {
        struct new_limits *new = mem_new(sizeof *new);

        *new =
            (struct new_limits){.call = {.fn = set_limits, .arg = new}, .loop = &gateway->loops[i], .limits = limits};
        runner_call(&gateway->loops[i].runner, &new->call);
    }
}

static void uplink_state_changed(void *arg, enum uplink_state state)
{
    (void)arg;
    if (state == UPLINK_READY)
        notify_send(STR("STATUS=platform session is up"));
    else if (state == UPLINK_DOWN || state == UPLINK_REFUSED)
        notify_send(STR("STATUS=no platform session, data are kept"));
}

static void readable(void *arg)
{
    struct gateway *gateway = arg;

    if (gateway->uplink) /* else it looks by itself when it starts */
        uplink_readable(gateway->uplink);
}

static void dropped(void *arg, struct device *dev)
{
    (void)arg;
    (void)dev; /* its counters are kept by the store; report filters that remember values are not in this version */
}

static enum overflow overflow_of(int configured)
{
    return configured == STORAGE_DROP_NEWEST   ? OVERFLOW_DROP_NEWEST
           : configured == STORAGE_DROP_OLDEST ? OVERFLOW_DROP_OLDEST
                                               : OVERFLOW_BLOCK;
}

/* Events have no size of their own: without this bound as many as the operator allows could be more than the machine has. */
static uint64_t memory_bound(const struct storage_conf *storage)
{
    uint64_t total = uv_get_total_memory(), here = uv_get_constrained_memory();

    if (storage->max_total_bytes > 0)
        return (uint64_t)storage->max_total_bytes;
    return (here && here < total ? here : total) / 4;
}

/* Before loop 0 runs: what a durable store finds on the disk is looked through first. */
static NODISCARD enum err open_store(struct gateway *gateway, struct why *why)
{
    static const struct store_events events = {.readable = readable, .dropped = dropped};
    struct loop *loop = gateway->loops[0].runner.loop;
    const struct storage_conf *storage = gateway->conf->main->storage;
    const struct memory_conf memory = {.max_events = storage->memory_capacity,
                                       .max_bytes = memory_bound(storage),
                                       .overflow = overflow_of(storage->overflow)};
    const struct file_conf file = {.path = arena_text(&gateway->arena, storage->folder),
                                   .max_events = (uint64_t)storage->max_files * storage->records_per_file,
                                   .segment_events = storage->records_per_file,
                                   .max_bytes = storage->max_total_bytes > 0 ? (uint64_t)storage->max_total_bytes : 0,
                                   .overflow = overflow_of(storage->overflow),
                                   .log = &gateway->storage_log};

    if (storage->type == STORAGE_FILE)
        return store_file_new(&gateway->store, loop, &file, &events, gateway, why);
    gateway->store = store_memory_new(loop, &memory, &events, gateway);
    return ERR_OK;
}

static void start_loop0(void *arg)
{
    static const struct uplink_events uplink_events = {.state = uplink_state_changed, .limits = limits_changed};
    struct gateway *gateway = arg;
    struct loop *loop = gateway->loops[0].runner.loop;

    gateway->uplink = uplink_new(loop, &gateway->connection_log, &gateway->uplink_conf, &uplink_events, gateway);
    uplink_attach(gateway->uplink, gateway->store);
    for (size_t i = 0; i < gateway->n_loops; i++)
        gateway->loops[i].host.store = gateway->store;
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

    gateway->store->ops->stop(gateway->store, back_to_main, gateway);
}

static void stop_loop0(void *arg)
{
    struct gateway *gateway = arg;

    uplink_stop(gateway->uplink, gateway->drain_ms, stop_store, gateway);
}

static void end_loop(void *arg)
{
    struct data_loop *loop = arg;

    loop_stop(loop->runner.loop);
}

static void end_loop0(void *arg)
{
    struct data_loop *loop = arg;
    struct gateway *gateway = loop->gateway;

    uplink_free(gateway->uplink);
    store_free(gateway->store);
    end_loop(arg);
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

static void loops_may_end(struct gateway *gateway)
{
    for (size_t i = 0; i < gateway->n_loops; i++) {
        struct data_loop *loop = &gateway->loops[i];

        loop->end = (struct call){.fn = i == 0 ? end_loop0 : end_loop, .arg = loop};
        runner_call(&loop->runner, &loop->end);
    }
    timer_stop(&gateway->housekeeping);
    timer_stop(&gateway->watchdog);
    timer_stop(&gateway->overdue);
    for (size_t i = 0; i < COUNT_OF(gateway->signals); i++)
        uv_close((uv_handle_t *)&gateway->signals[i], NULL);
    loop_stop(gateway->main.loop);
}

static void instance_closed(void *arg, struct instance *instance, enum err err)
{
    struct gateway *gateway = arg;

    (void)instance;
    gateway->is_left_behind |= err == ERR_TIMEOUT;
    if (--gateway->n_waiting == 0)
        loops_may_end(gateway);
}

static void loop0_is_stopped(void *arg)
{
    struct gateway *gateway = arg;

    gateway->phase = PHASE_CLOSING;
    gateway->n_waiting = gateway->n_instances;
    if (gateway->n_waiting == 0)
        loops_may_end(gateway);
    else
        for (size_t i = 0, n = gateway->n_instances; i < n; i++)
            instance_free(gateway->instances[i], instance_closed, gateway);
}

static void drain(struct gateway *gateway)
{
    uint64_t past_ms = loop_mono_ms(gateway->main.loop) - gateway->stop_since_ms, left_ms = STOP_MS - STOP_LAST_MS;

    left_ms -= past_ms < left_ms ? past_ms : left_ms;
    gateway->drain_ms = left_ms < MEMORY_DRAIN_MS ? (uint32_t)left_ms : MEMORY_DRAIN_MS;
    if (gateway->conf->main->storage->type != STORAGE_MEMORY)
        gateway->drain_ms = 0; /* it is there after the next start */
    gateway->phase = PHASE_DRAINING;
    gateway->to_loop0 = (struct call){.fn = stop_loop0, .arg = gateway};
    gateway->to_main = (struct call){.fn = loop0_is_stopped, .arg = gateway};
    runner_call(&gateway->loops[0].runner, &gateway->to_loop0);
}

static void instance_stopped(void *arg, struct instance *instance, enum err err)
{
    struct gateway *gateway = arg;

    (void)instance;
    (void)err;
    if (--gateway->n_waiting == 0)
        drain(gateway);
}

static void instance_quiet(void *arg, struct instance *instance, enum err err)
{
    struct gateway *gateway = arg;

    (void)instance;
    (void)err;
    if (--gateway->n_waiting > 0)
        return;
    gateway->phase = PHASE_STOPPING;
    gateway->n_waiting = gateway->n_instances;
    for (size_t i = 0, n = gateway->n_instances; i < n; i++)
        instance_stop(gateway->instances[i], instance_stopped, gateway);
}

static void begin_stop(struct gateway *gateway, const char *why)
{
    if (gateway->phase >= PHASE_QUIESCING)
        return;
    gateway->phase = PHASE_QUIESCING;
    gateway->stop_since_ms = loop_mono_ms(gateway->main.loop);
    timer_start(&gateway->overdue, STOP_MS + STOP_HUNG_MS);
    notify_send(STR("STOPPING=1"));
    LOG_INFO(gateway->log, "stopping", KV_Z("reason", why));
    gateway->n_waiting = gateway->n_instances;
    if (gateway->n_waiting == 0)
        drain(gateway);
    else
        for (size_t i = 0, n = gateway->n_instances; i < n; i++)
            instance_quiesce(gateway->instances[i], instance_quiet, gateway);
}

/* --- the way up ------------------------------------------------------------------------------------------------------ */

static void instance_started(void *arg, struct instance *instance, enum err err)
{
    struct gateway *gateway = arg;
    size_t n_failed = gateway->conf->n_connectors - gateway->n_instances; /* those whose file cannot be used */

    (void)instance;
    (void)err;
    if (--gateway->n_waiting > 0 || gateway->phase != PHASE_STARTING)
        return;
    gateway->phase = PHASE_RUNNING;
    for (size_t i = 0; i < gateway->n_instances; i++)
        n_failed += instance_state(gateway->instances[i]) == INSTANCE_FAILED;
    LOG_INFO(gateway->log, "gateway is running", KV_UINT("connectors", gateway->conf->n_connectors - n_failed),
             KV_UINT("failed", n_failed));
    notify_send(STR("READY=1"));
    if (n_failed > 0 && n_failed == gateway->conf->n_connectors) {
        gateway->start_err = ERR_CONFIG;
        begin_stop(gateway, "no connector could be started");
    }
}

static void loop0_is_there(void *arg)
{
    struct gateway *gateway = arg;

    gateway->n_waiting = gateway->n_instances + 1;
    for (size_t i = 0; i < gateway->n_instances; i++)
        instance_start(gateway->instances[i], instance_started, gateway);
    instance_started(gateway, NULL, ERR_OK); /* the one more: also when there is no connector at all */
}

static void signalled(uv_signal_t *handle, int number)
{
    begin_stop(handle->data, number == SIGINT ? "SIGINT" : "SIGTERM");
}

static void keep_house(void *arg)
{
    (void)arg;
    log_flush(false);
    slab_trim();
}

/* The watchdog is fed only after a round through all loops: one that hangs lets the service manager restart the program. */
static void watchdog_came_back(void *arg)
{
    struct gateway *gateway = arg;

    gateway->watchdog_is_out = false;
    notify_send(STR("WATCHDOG=1"));
}

static void watchdog_at_loop(void *arg)
{
    struct data_loop *loop = arg;
    struct gateway *gateway = loop->gateway;

    if (loop + 1 < gateway->loops + gateway->n_loops)
        runner_call(&loop[1].runner, &loop[1].watchdog);
    else
        runner_call(&gateway->main, &gateway->watchdog_back);
}

static void feed_watchdog(void *arg)
{
    struct gateway *gateway = arg;

    if (gateway->watchdog_is_out)
        return;
    gateway->watchdog_is_out = true;
    runner_call(&gateway->loops[0].runner, &gateway->loops[0].watchdog);
}

static bool has_own_loop(const struct gateway_connector *connector)
{
    const struct connector_common *common = connector->conf ? conf_root(connector->conf) : NULL;
    const struct connector_type *type = common ? module_load(connector->type, NULL) : NULL;

    if (!type)
        return false;
    return common->has_own_loop ? common->own_loop : (type->flags & CONNECTOR_LONG_TURNS) != 0;
}

static NODISCARD enum err make_loops(struct gateway *gateway)
{
    const struct gateway_conf *conf = gateway->conf;
    size_t n_own = 0, cores = uv_available_parallelism(), n = conf->main->platform->loops, n_sharing;
    enum err err = runner_init(&gateway->main, "main");

    for (size_t i = 0; i < conf->n_connectors; i++)
        n_own += has_own_loop(&conf->connectors[i]);
    n_sharing = conf->n_connectors - n_own;
    if (n == 0) {
        n = n_sharing < cores ? n_sharing : cores;
        n = n < MAX_LOOPS ? n : MAX_LOOPS;
    }
    gateway->n_shared = n ? n : 1;
    gateway->loops = mem_zero((gateway->n_shared + n_own) * sizeof *gateway->loops);
    for (; !err && gateway->n_loops < gateway->n_shared + n_own; gateway->n_loops++) {
        struct data_loop *loop = &gateway->loops[gateway->n_loops];

        loop->gateway = gateway;
        snprintf(loop->name, sizeof loop->name, "loop%zu", gateway->n_loops);
        err = runner_init(&loop->runner, loop->name);
        loop->watchdog = (struct call){.fn = watchdog_at_loop, .arg = loop};
        loop->host.config_dir = conf->dir;
    }
    return err;
}

/* Connectors in turn on the shared loops; one that has its own gets the next of those. */
static void make_instances(struct gateway *gateway)
{
    const struct gateway_conf *conf = gateway->conf;
    size_t next_shared = 0, next_own = gateway->n_shared;

    gateway->instances = mem_zero((conf->n_connectors + 1) * sizeof(struct instance *));
    for (size_t i = 0; i < conf->n_connectors; i++) {
        const struct gateway_connector *connector = &conf->connectors[i];
        struct why why = {0};
        const struct connector_type *type = connector->conf ? module_load(connector->type, &why) : NULL;
        struct data_loop *loop;
        struct instance_conf instance;

        if (!type) {
            LOG_ERROR(gateway->log, "connector failed", KV_Z("connector", connector->name),
                      KV_Z("error", connector->conf ? why_text(&why) : connector->reason));
            continue;
        }
        loop = &gateway->loops[has_own_loop(connector) ? next_own++ : next_shared++ % gateway->n_shared];
        instance = (struct instance_conf){
            .name = connector->name,
            .type = type,
            .conf = connector->conf,
            .main = &gateway->main,
            .runner = &loop->runner,
            .host = &loop->host,
            .log_level = (enum log_level)((const struct connector_common *)conf_root(connector->conf))->log_level};
        gateway->instances[gateway->n_instances++] = instance_new(&instance);
    }
}

static NODISCARD enum err start(struct gateway *gateway)
{
    static const int numbers[] = {SIGINT, SIGTERM};
    enum err err = ERR_OK;
    uint64_t watchdog_ms = notify_watchdog_ms();

    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        uv_signal_init(loop_uv(gateway->main.loop), &gateway->signals[i]);
        gateway->signals[i].data = gateway;
        uv_signal_start(&gateway->signals[i], signalled, numbers[i]);
    }
    timer_init(&gateway->housekeeping, gateway->main.loop, keep_house, gateway);
    timer_start_periodic(&gateway->housekeeping, HOUSEKEEPING_MS, HOUSEKEEPING_MS);
    timer_init(&gateway->watchdog, gateway->main.loop, feed_watchdog, gateway);
    timer_init(&gateway->overdue, gateway->main.loop, overdue, gateway);
    gateway->watchdog_back = (struct call){.fn = watchdog_came_back, .arg = gateway};
    if (watchdog_ms)
        timer_start_periodic(&gateway->watchdog, watchdog_ms, watchdog_ms);
    for (size_t i = 0; i < gateway->n_loops && !err; i++)
        err = runner_start(&gateway->loops[i].runner);
    if (err)
        return err;
    gateway->to_loop0 = (struct call){.fn = start_loop0, .arg = gateway};
    gateway->to_main = (struct call){.fn = loop0_is_there, .arg = gateway};
    runner_call(&gateway->loops[0].runner, &gateway->to_loop0);
    return ERR_OK;
}

/* Once no loop runs any more. */
static void fini(struct gateway *gateway)
{
    for (size_t i = 0; i < gateway->n_loops; i++)
        runner_join(&gateway->loops[i].runner);
    runner_join(&gateway->main);
    mem_free(gateway->instances);
    mem_free(gateway->loops);
    log_flush(true);
    log_fini(&gateway->connection_log);
    log_fini(&gateway->storage_log);
    arena_fini(&gateway->arena);
}

int gateway_run(const struct gateway_conf *conf, struct log *log)
{
    struct gateway gateway = {.conf = conf, .log = log};
    struct why why = {0};
    enum err err;

    /* Few arenas and small stacks: a thread costs some 20 KiB resident. */
    mallopt(M_ARENA_MAX, 2);
    signal(SIGPIPE, SIG_IGN);
    arena_init(&gateway.arena, 1024);
    log_init(&gateway.connection_log, "tb_connection", logger_level(conf, STR("tb_connection")));
    log_init(&gateway.storage_log, "storage", logger_level(conf, STR("storage")));
    uplink_conf_from(&gateway.uplink_conf, conf, &gateway.arena);
    ctx_setup();
    err = make_loops(&gateway);
    if (!err && (err = open_store(&gateway, &why))) {
        LOG_ERROR(log, "the storage cannot be opened", KV_WHY(&why));
        fini(&gateway);
        return 1;
    }
    if (!err) {
        make_instances(&gateway);
        err = start(&gateway);
    }
    if (err) {
        LOG_ERROR(log, "cannot start", KV_ERR(err));
        return 1; /* loops may run: the process ends with them */
    }
    loop_run(gateway.main.loop);
    if (gateway.is_left_behind) {
        LOG_ERROR(log, "stopped without the connectors that are left behind");
        leave(gateway.start_err ? 78 : 0);
    }
    fini(&gateway);
    return gateway.start_err ? 78 : 0;
}
