/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/live.h"

#include "base/mem.h"
#include "gateway/logging.h"
#include "gateway/statistics.h"

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

void live_add_owners(struct apply *apply, struct live *live)
{
    static const char *const report_keys[] = {"thingsboard.reportStrategy",
                                              "thingsboard.reportStrategyDataCacheCleanupInterval", NULL};
    static const char *const log_keys[] = {"logs.json", NULL};
    static const char *const statistics_keys[] = {"thingsboard.statistics", "statistics.json", NULL};

    apply_add_owner(apply, &(struct apply_owner){.keys = report_keys, .take = take_report, .arg = live});
    apply_add_owner(apply, &(struct apply_owner){.keys = log_keys, .take = take_logs, .arg = live});
    apply_add_owner(apply, &(struct apply_owner){.keys = statistics_keys, .take = take_statistics, .arg = live});
}
