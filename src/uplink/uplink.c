/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/uplink.h"

#include "uplink/session.h"

/*
 * Stopping: what waits is delivered while drain_ms last (DRAIN), answers to what is in flight are awaited (ANSWERS), devices are
 * disconnected (GOODBYE), then the connection. Each phase ends early when there is nothing left, or the connection is gone.
 */
enum { DRAIN, ANSWERS, GOODBYE, CLOSING };
enum { ANSWERS_MS = 2000, GOODBYE_MS = 1000, STOP_STEP_MS = 10 };

static void stop_step(void *arg)
{
    struct uplink *u = arg;
    uint64_t now = loop_mono_ms(u->loop);
    bool is_over = now >= u->stop_until_ms || u->state != UPLINK_READY;

    if (u->stop_phase == DRAIN && (is_over || deliver_is_idle(u->deliver))) {
        deliver_finish(u->deliver, false);
        u->stop_phase = ANSWERS;
        u->stop_until_ms = now + ANSWERS_MS;
        is_over = u->state != UPLINK_READY;
    }
    if (u->stop_phase == ANSWERS && (is_over || deliver_is_idle(u->deliver))) {
        u->stop_phase = GOODBYE;
        u->stop_until_ms = now + GOODBYE_MS;
        is_over = u->state != UPLINK_READY;
    }
    if (u->stop_phase == GOODBYE && (is_over || (deliver_goodbye(u->deliver) && deliver_is_idle(u->deliver)))) {
        u->stop_phase = CLOSING;
        session_stop(u);
        return;
    }
    timer_start(&u->stop_timer, STOP_STEP_MS);
}

static struct deliver_conf deliver_conf_of(const struct uplink_conf *conf)
{
    return (struct deliver_conf){
        .qos = conf->qos,
        .min_pack_delay_ms = conf->min_pack_delay_ms,
        .min_pack_values = conf->min_pack_values,
        .max_pack_events = conf->max_pack_events,
        .batch_devices = conf->batch_devices,
        .backlog_rate = conf->backlog_rate,
        .keep_alive_s = conf->device_keep_alive_s,
    };
}

static void rejected_to(void *arg, uint64_t number)
{
    struct uplink *u = arg;

    deliver_rejected_to(u->deliver, number);
}

struct uplink *uplink_new(struct loop *loop, struct log *log, const struct uplink_conf *conf,
                          const struct uplink_events *events, void *arg)
{
    struct uplink *u = mem_zero(sizeof *u);
    const struct deliver_conf deliver = deliver_conf_of(conf);

    u->loop = loop;
    u->log = log;
    u->conf = *conf;
    u->events = *events;
    u->arg = arg;
    reject_init(&u->rejected, loop, log, conf->rejected_path ? conf->rejected_path : "rejected.jsonl");
    u->deliver = deliver_new(loop, log, &deliver, u->limiters, &session_link, u);
    reject_tell(&u->rejected, rejected_to, u);
    session_init(u);
    timer_init(&u->stop_timer, loop, stop_step, u);
    if (conf->qos == 0)
        LOG_WARN(log, "QoS 0 to the platform can lose data");
    return u;
}

void uplink_attach(struct uplink *u, struct store *store)
{
    deliver_attach(u->deliver, store);
}

bool uplink_is_drained(const struct uplink *u)
{
    return deliver_is_drained(u->deliver);
}

void uplink_start(struct uplink *u)
{
    loop_assert(u->loop);
    session_start(u);
}

void uplink_readable(struct uplink *u)
{
    deliver_wake(u->deliver);
}

void uplink_devices(struct uplink *u, enum uplink_device_op op, struct device *const *devs, const char *const *wires,
                    size_t n)
{
    loop_assert(u->loop);
    for (size_t i = 0; i < n; i++)
        switch (op) {
        case UPLINK_DEVICE_OPEN:
            deliver_device_open(u->deliver, devs[i]);
            break;
        case UPLINK_DEVICE_CLOSE:
            deliver_device_close(u->deliver, devs[i]);
            break;
        case UPLINK_DEVICE_FORGET:
            deliver_device_forget(u->deliver, devs[i]);
            break;
        case UPLINK_DEVICE_RENAME:
            deliver_device_rename(u->deliver, devs[i], wires[i]);
            break;
        }
}

void uplink_dropped(struct uplink *u, struct device *dev)
{
    deliver_dropped(u->deliver, dev);
}

static void tune_rates(struct uplink *u, const struct uplink_conf *conf)
{
    bool is_percent = conf->rate_percent != u->conf.rate_percent;

    u->conf.rate_percent = conf->rate_percent;
    for (unsigned i = 0; i < COUNT_OF(conf->rate); i++) {
        bool is_text = strcmp(conf->rate[i], u->conf.rate[i]) != 0;

        if (is_text) {
            mem_free(u->rate_texts[i]);
            u->conf.rate[i] = u->rate_texts[i] = mem_dup(conf->rate[i]);
        }
        if (is_text || is_percent)
            session_rate_changed(u, i, is_percent);
    }
}

void uplink_tune(struct uplink *u, const struct uplink_conf *conf)
{
    const struct deliver_conf deliver = deliver_conf_of(conf);

    loop_assert(u->loop);
    u->conf.max_payload_bytes = conf->max_payload_bytes;
    u->conf.has_max_payload = conf->has_max_payload;
    reject_move(&u->rejected, conf->rejected_path ? conf->rejected_path : "rejected.jsonl");
    tune_rates(u, conf);
    deliver_tune(u->deliver, &deliver);
    session_apply_limits(u);
}

void session_closed_for_good(struct uplink *u)
{
    if (u->is_closed)
        return;
    u->is_closed = true;
    reject_close(&u->rejected, &u->closer);
    closer_end(&u->closer);
}

void uplink_stop(struct uplink *u, uint32_t drain_ms, closed_fn *done, void *arg)
{
    loop_assert(u->loop);
    closer_begin(&u->closer, u->loop, done, arg);
    u->stop_phase = DRAIN;
    u->stop_until_ms = loop_mono_ms(u->loop) + drain_ms;
    deliver_finish(u->deliver, drain_ms > 0);
    timer_start(&u->stop_timer, 0);
}

void uplink_free(struct uplink *u)
{
    if (!u)
        return;
    timer_stop(&u->stop_timer);
    session_fini(u);
    deliver_free(u->deliver);
    reject_fini(&u->rejected);
    for (unsigned i = 0; i < COUNT_OF(u->rate_texts); i++)
        mem_free(u->rate_texts[i]);
    mem_free(u);
}

struct uplink_status uplink_status(struct uplink *u)
{
    struct deliver_stats stats = deliver_stats(u->deliver);
    struct uplink_status status = {
        .state = u->state,
        .since_ms = u->since_ms,
        .n_attempts = u->n_attempts,
        .n_packs = stats.n_packs,
        .n_values = stats.n_values,
        .n_bytes = stats.n_bytes,
        .n_events = stats.n_events,
        .n_telemetry_values = stats.n_telemetry_values,
        .n_attribute_values = stats.n_attribute_values,
        .n_read_events = stats.n_read_events,
        .n_resent = stats.n_resent,
        .n_rejected_values = stats.n_rejected_values,
        .n_reconnects = u->n_reconnects,
        .in_flight = stats.in_flight,
        .window = u->window,
        .payload_limit = u->payload_limit,
        .trouble = u->rejected.is_failing             ? "rejected data cannot be written down"
                   : deliver_awaits_clock(u->deliver) ? "the clock is not set: values wait for it"
                                                      : NULL,
    };

    for (unsigned kind = 0; kind < LIMIT_KINDS; kind++) {
        const struct limiter *limiter = &u->limiters[kind];

        status.waits[kind] = (struct uplink_wait){limiter->n_waits, limiter_waited_ms(limiter, loop_mono_ms(u->loop))};
    }
    memcpy(status.reason, u->reason, sizeof status.reason);
    return status;
}
