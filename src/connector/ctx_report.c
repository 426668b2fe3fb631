/* SPDX-License-Identifier: Apache-2.0 */
#include "connector/ctx_impl.h"

/* The connector's side of the report filter: its timers, its credit, and the batches that periodic reports travel in. */
enum {
    REPORTS_A_TURN = 1024,    /* values of periodic reports */
    REPORTS_FEW = 64,         /* devices with periodic reports that are each served to the millisecond */
    REPORTS_TOGETHER_MS = 16, /* beyond: so many ms share a wake-up */
    CLEANUP_A_TURN = 8192,    /* values looked at */
    CLEANUP_PAUSE_MS = 20     /* until the next turn of the same clean-up */
};

/* Links are all lost: what the connector knows is no longer known to be true. One that tells of no links is not asked. */
bool ctx_is_cut_off(const struct ctx *ctx)
{
    return ctx->links && !ctx->is_working;
}

void ctx_await_reports(struct ctx *ctx)
{
    uint64_t due_ms = ctx->report && !ctx->is_quiet && !ctx->reports_wait && !ctx_is_cut_off(ctx)
                          ? report_due(ctx->report)
                          : REPORT_NEVER;

    if (due_ms == REPORT_NEVER) {
        timer_stop(&ctx->report_timer);
        return;
    }
    if (report_stats(ctx->report).n_periodic > REPORTS_FEW)
        due_ms += REPORTS_TOGETHER_MS - 1 - (due_ms + REPORTS_TOGETHER_MS - 1) % REPORTS_TOGETHER_MS;
    if (!timer_is_running(&ctx->report_timer) || ctx->report_timer.due_ms != due_ms)
        timer_start_at(&ctx->report_timer, due_ms);
}

void ctx_hold_back(struct ctx *ctx)
{
    struct event *event = &ctx->event;
    unsigned n;

    if (ctx->outer.is_off)
        return;
    if (UNLIKELY(!ctx->report)) {
        if (ctx->is_quiet) /* it ends: nothing is begun that would have to be ended */
            return;
        ctx->report = report_new(&ctx->outer);
        if (ctx->host->report_cleanup_s)
            timer_start_coarse(&ctx->cleanup_timer, ctx->host->report_cleanup_s * 1000ull);
    }
    n = report_filter(ctx->report, event, loop_mono_ms(ctx->loop));
    ctx_count(ctx, IOTGW_UNCHANGED, n);
    device_count_values(&event->dev->n_unchanged, n);
    ctx_await_reports(ctx);
}

static void repeat(struct ctx *ctx)
{
    unsigned n_values = 0;

    if (ctx_encode(ctx, &ctx->repeated, &n_values)) /* only one of megabytes: it is left out */
        return;
    ctx_count(ctx, IOTGW_REPEATED, n_values);
    device_count_values(&ctx->repeated.dev->n_repeated, n_values);
}

static void wait_for_room(struct ctx *ctx)
{
    ctx->reports_wait = ctx->wants_room = true;
    ctx_count(ctx, IOTGW_REPORTS_WAITED, 1);
}

/*
 * They travel in batches of their own, which no source waits for. If a source's message is unfinished at this moment, they
 * go with it instead.
 */
void ctx_send_reports(void *arg)
{
    struct ctx *ctx = arg;
    uint64_t now_ms = loop_mono_ms(ctx->loop);
    bool is_alone = !ctx->sink.batch || ctx->sink.begin == ctx->sink.batch->n_bytes;
    size_t n = 0;

    if (is_barred(ctx))
        return;
    if (is_alone)
        ctx_flush(ctx);
    ctx->is_repeating = is_alone;
    while (n < REPORTS_A_TURN && report_due(ctx->report) <= now_ms) {
        if (!ctx_has_room(ctx)) {
            wait_for_room(ctx);
            break;
        }
        if (!report_take(ctx->report, &ctx->repeated, now_ms))
            break;
        n += ctx->repeated.n;
        repeat(ctx);
        if (is_alone)
            batch_sink_begin(&ctx->sink);
    }
    if (is_alone && ctx->sink.batch)
        ctx_give(ctx, batch_sink_take(&ctx->sink));
    ctx->is_repeating = false;
    ctx_await_reports(ctx);
}

void ctx_resume_reports(struct ctx *ctx, struct device *dev)
{
    if (LIKELY(!ctx->report))
        return;
    report_resume(ctx->report, dev, loop_mono_ms(ctx->loop));
    ctx_await_reports(ctx);
}

void ctx_clean_up_reports(void *arg)
{
    struct ctx *ctx = arg;

    if (!report_cleanup(ctx->report, loop_mono_ms(ctx->loop), CLEANUP_A_TURN))
        timer_start(&ctx->cleanup_timer, CLEANUP_PAUSE_MS);
    else
        timer_start_coarse(&ctx->cleanup_timer, ctx->host->report_cleanup_s * 1000ull);
    ctx_await_reports(ctx);
}

void ctx_discard_reports(struct ctx *ctx)
{
    timer_stop(&ctx->report_timer);
    timer_stop(&ctx->cleanup_timer);
    report_free(ctx->report);
    ctx->report = NULL;
    ctx->reports_wait = false;
}

void ctx_read_report_levels(struct ctx *ctx)
{
    ctx->outer = report_outer(&ctx->host->report, connector_common_of(ctx->conf)->report_strategy);
    ctx->filters_all = ctx->outer.filters;
}

void ctx_reset_report(struct ctx *ctx)
{
    loop_assert(ctx->loop);
    ctx_discard_reports(ctx);
    ctx_read_report_levels(ctx);
}

void ctx_quiesce(struct ctx *ctx)
{
    loop_assert(ctx->loop);
    ctx->is_quiet = true;
    ctx_await_reports(ctx);
}

struct report_stats ctx_report_stats(const struct ctx *ctx)
{
    return ctx->report ? report_stats(ctx->report) : (struct report_stats){0};
}

/* --- what the connector itself counts --- */

void ctx_each_endpoint(const struct ctx *ctx, void (*fn)(void *arg, const struct endpoint *endpoint), void *arg)
{
    loop_assert(ctx->loop);
    if (ctx->instance && ctx->type->endpoints)
        ctx->type->endpoints(ctx->instance, fn, arg);
}

bool ctx_served(const struct ctx *ctx, struct served *out)
{
    loop_assert(ctx->loop);
    *out = (struct served){.size = sizeof *out};
    return ctx->instance && ctx->type->served && ctx->type->served(ctx->instance, out);
}
