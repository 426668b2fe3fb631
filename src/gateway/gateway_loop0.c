/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/gateway_impl.h"

#include "gateway/notify.h"
#include "gateway/storage.h"

/* Store and uplink, which live on loop 0: made, fed with what other loops hand over, and stopped. */

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

NODISCARD enum err gateway_open_store(struct gateway *gateway, struct why *why)
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
void gateway_make_takeover(struct gateway *gateway)
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

void gateway_start_loop0(void *arg)
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
void gateway_stop_loop0(void *arg)
{
    struct gateway *gateway = arg;

    gateway->drain_until_ms = loop_mono_ms(gateway->loops.all[0]->runner.loop) + gateway->drain_ms;
    storage_drain(gateway->storage, gateway->drain_ms, formers_are_drained, gateway);
}

void gateway_end_loop0(void *arg)
{
    struct gateway *gateway = arg;

    north_attach_link(gateway->north, NULL, NULL);
    uplink_free(gateway->uplink);
}
