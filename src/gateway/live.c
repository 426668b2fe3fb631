/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/live.h"

#include "base/mem.h"
#include "gateway/logging.h"
#include "gateway/statistics.h"
#include "gateway/uplink_conf.h"

/* --- report strategy ------------------------------------------------------------------------------------------------------ */

struct new_report {
    struct report_strategy strategy;
    uint32_t cleanup_s;
    struct live *live;
    struct apply_step *step;
};

static void set_report(void *arg, struct ctx_host *host)
{
    const struct new_report *new = arg;

    host->report = new->strategy;
    host->report_cleanup_s = new->cleanup_s;
}

struct reset {
    struct call call;
    struct ctx *ctx;
};

static void reset_report(void *arg)
{
    struct reset *reset = arg;

    ctx_reset_report(reset->ctx);
    ctx_unref(reset->ctx);
    mem_free(reset);
}

static void report_is_set(void *arg)
{
    struct new_report *new = arg;
    const struct fleet *fleet = new->live->fleet;

    for (size_t i = 0; i < fleet_count(fleet); i++) {
        struct fleet_connector connector = fleet_at(fleet, i);
        struct reset *reset;

        if (!connector.ctx)
            continue;
        reset = mem_new(sizeof *reset);
        *reset = (struct reset){.call = {.fn = reset_report, .arg = reset}, .ctx = ctx_ref(connector.ctx)};
        runner_call(&connector.loop->runner, &reset->call);
    }
    apply_answer(new->step, ERR_OK, NULL);
    mem_free(new);
}

static enum err take_report(void *arg, const struct gateway_conf *before, const struct gateway_conf *after,
                            struct apply_step *step, struct why *why)
{
    const struct platform_conf *platform = after->main->platform;
    struct new_report *new = mem_new(sizeof *new);

    (void)before;
    (void)why;
    *new = (struct new_report){.strategy =
                                   platform->report_strategy ? *platform->report_strategy : (struct report_strategy){0},
                               .cleanup_s = platform->report_cleanup_s,
                               .live = arg,
                               .step = step};
    loops_update(new->live->loops, set_report, report_is_set, new);
    return ERR_BUSY;
}

/* --- latency mode ------------------------------------------------------------------------------------------------------- */

struct new_latency {
    bool adds_meta;
    struct apply_step *step;
};

static void set_latency(void *arg, struct ctx_host *host)
{
    host->adds_meta = ((const struct new_latency *)arg)->adds_meta;
}

static void latency_is_set(void *arg)
{
    struct new_latency *new = arg;

    apply_answer(new->step, ERR_OK, NULL);
    mem_free(new);
}

static enum err take_latency(void *arg, const struct gateway_conf *before, const struct gateway_conf *after,
                             struct apply_step *step, struct why *why)
{
    struct live *live = arg;
    struct new_latency *new = mem_new(sizeof *new);

    (void)before;
    (void)why;
    *new = (struct new_latency){.adds_meta = after->main->platform->latency_debug, .step = step};
    loops_update(live->loops, set_latency, latency_is_set, new);
    return ERR_BUSY;
}

/* --- loggers ------------------------------------------------------------------------------------------------------------ */

static enum err take_logs(void *arg, const struct gateway_conf *before, const struct gateway_conf *after,
                          struct apply_step *step, struct why *why)
{
    struct live *live = arg;

    (void)before;
    (void)step;
    (void)why;
    logging_apply(live->logging, after);
    return ERR_OK;
}

/* --- statistics ----------------------------------------------------------------------------------------------------------- */

static enum err take_statistics(void *arg, const struct gateway_conf *before, const struct gateway_conf *after,
                                struct apply_step *step, struct why *why)
{
    struct live *live = arg;

    (void)before;
    (void)step;
    (void)why;
    statistics_apply(live->statistics, after);
    return ERR_OK;
}

/* --- device filter ---------------------------------------------------------------------------------------------------------- */

struct new_filter {
    struct live *live;
    struct filter *filter, *former; /* NULL: none */
    struct apply_step *step;
};

static void set_device_allowed(void *arg, struct ctx_host *host)
{
    const struct new_filter *new = arg;

    host->device_allowed = new->filter ? new->live->device_allowed : NULL;
}

/* Every loop has been between two turns: the former one is out of use. */
static void filter_is_set(void *arg)
{
    struct new_filter *new = arg;

    if (!new->filter)
        atomic_store_explicit(new->live->filter, NULL, memory_order_release);
    filter_free(new->former);
    apply_answer(new->step, ERR_OK, NULL);
    mem_free(new);
}

static enum err take_filter(void *arg, const struct gateway_conf *before, const struct gateway_conf *after,
                            struct apply_step *step, struct why *why)
{
    struct live *live = arg;
    struct new_filter *new = mem_new(sizeof *new);

    (void)before;
    (void)why;
    *new = (struct new_filter){.live = live,
                               .filter = after->filter ? filter_new(after->filter) : NULL,
                               .former = atomic_load_explicit(live->filter, memory_order_relaxed),
                               .step = step};
    if (new->filter) /* without one it is asked until all loops know */
        atomic_store_explicit(live->filter, new->filter, memory_order_release);
    loops_update(live->loops, set_device_allowed, filter_is_set, new);
    return ERR_BUSY;
}

/* --- devices and their attributes --------------------------------------------------------------------------------------------- */

void live_registry_conf(struct registry_conf *out, const struct gateway_conf *conf)
{
    const struct activity_conf *activity = conf->main->platform->activity;
    bool has_check = activity && activity->enable;

    out->handle_renaming = conf->main->platform->handle_renaming;
    out->inactive_s = has_check ? activity->timeout_s : 0;
    out->check_s = has_check ? activity->period_s : 0;
}

static enum err take_devices(void *arg, const struct gateway_conf *before, const struct gateway_conf *after,
                             struct apply_step *step, struct why *why)
{
    struct live *live = arg;
    struct registry_conf conf = {0};

    (void)before;
    (void)step;
    (void)why;
    live_registry_conf(&conf, after);
    registry_tune(live->registry, &conf);
    router_set_syncs_attributes(live->router, after->main->platform->sync_shared_attributes);
    return ERR_OK;
}

/* --- the uplink ----------------------------------------------------------------------------------------------------------------- */

struct tuning {
    struct live *live;
    struct call there, back;
    struct arena arena;
    struct uplink_conf conf;
    struct apply_step *step;
};

static void tune(void *arg)
{
    struct tuning *tuning = arg;

    if (*tuning->live->uplink)
        uplink_tune(*tuning->live->uplink, &tuning->conf);
    runner_call(tuning->live->loops->main, &tuning->back);
}

static void tuned(void *arg)
{
    struct tuning *tuning = arg;

    apply_answer(tuning->step, ERR_OK, NULL);
    arena_fini(&tuning->arena);
    mem_free(tuning);
}

static enum err take_tuning(void *arg, const struct gateway_conf *before, const struct gateway_conf *after,
                            struct apply_step *step, struct why *why)
{
    struct live *live = arg;
    struct tuning *tuning = mem_zero(sizeof *tuning);

    (void)before;
    (void)why;
    tuning->live = live;
    tuning->step = step;
    tuning->there = (struct call){.fn = tune, .arg = tuning};
    tuning->back = (struct call){.fn = tuned, .arg = tuning};
    arena_init(&tuning->arena, 1024);
    uplink_conf_from(&tuning->conf, after, &tuning->arena);
    runner_call(live->uplink_runner, &tuning->there);
    return ERR_BUSY;
}

void live_add_owners(struct apply *apply, struct live *live)
{
    static const char *const filter_keys[] = {"thingsboard.deviceFiltering", "list.json", NULL};
    static const char *const device_keys[] = {"thingsboard.checkingDeviceActivity", "thingsboard.handleDeviceRenaming",
                                              "handleDeviceRenaming",
                                              "thingsboard.syncDevicesSharedAttributesOnConnect", NULL};
    static const char *const uplink_keys[] = {"thingsboard.maxPayloadSizeBytes",
                                              "thingsboard.minPackSendDelayMS",
                                              "thingsboard.minPackSizeToSend",
                                              "thingsboard.batchDevices",
                                              "thingsboard.deviceKeepAlive",
                                              "thingsboard.deviceKeepAliveSeconds",
                                              "thingsboard.rateLimits",
                                              "thingsboard.dpRateLimits",
                                              "thingsboard.messagesRateLimits",
                                              "thingsboard.deviceRateLimits",
                                              "thingsboard.deviceDpRateLimits",
                                              "thingsboard.deviceMessagesRateLimits",
                                              "storage", /* batches, backlogRate, where the rejected file is */
                                              NULL};
    static const char *const report_keys[] = {"thingsboard.reportStrategy",
                                              "thingsboard.reportStrategyDataCacheCleanupInterval", NULL};
    static const char *const latency_keys[] = {"thingsboard.latencyDebugMode", NULL};
    static const char *const log_keys[] = {"logs.json", NULL};
    static const char *const statistics_keys[] = {"thingsboard.statistics", "statistics.json", NULL};

    apply_add_owner(apply, &(struct apply_owner){.keys = report_keys, .take = take_report, .arg = live});
    apply_add_owner(apply, &(struct apply_owner){.keys = latency_keys, .take = take_latency, .arg = live});
    apply_add_owner(apply, &(struct apply_owner){.keys = log_keys, .take = take_logs, .arg = live});
    apply_add_owner(apply, &(struct apply_owner){.keys = statistics_keys, .take = take_statistics, .arg = live});
    apply_add_owner(apply, &(struct apply_owner){.keys = filter_keys, .take = take_filter, .arg = live});
    apply_add_owner(apply, &(struct apply_owner){.keys = device_keys, .take = take_devices, .arg = live});
    apply_add_owner(apply, &(struct apply_owner){.keys = uplink_keys, .take = take_tuning, .arg = live});
}
