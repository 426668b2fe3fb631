/* SPDX-License-Identifier: Apache-2.0 */
#include "modbus_link_impl.h"

static void on_line_open(void *arg)
{
    struct modbus_link *link = arg;

    if (link->state != MODBUS_LINK_CONNECTING)
        return;
    link->state = MODBUS_LINK_UP;
    link->since_ms = loop_mono_ms(link->loop);
    link->n_connects++;
    link->n_attempts = 0;
    link->is_failing = link->was_told = false;
    link->why = (struct why){0};
    backoff_up(&link->backoff, link->since_ms);
    LOG_DEBUG(link->log, "connected", KV_Z("link", link->conf.name));
    if (link->events.up)
        link->events.up(link->arg);
    if (link->state == MODBUS_LINK_UP)
        modbus_exchange_up(link);
}

static void on_line_read(void *arg, const uint8_t *p, size_t n)
{
    struct modbus_link *link = arg;

    if (link->state == MODBUS_LINK_UP)
        modbus_exchange_bytes(link, p, n);
}

/* --- the way back ---------------------------------------------------------------------------------------------------- */
static void on_line_closed(void *arg, enum err err, const struct why *why);

static void try_connect(void *arg)
{
    static const struct modbus_line_events events = {
        .open = on_line_open, .read = on_line_read, .closed = on_line_closed};
    struct modbus_link *link = arg;

    retry_stop(&link->retry);
    serial_watch_free(link->watch);
    link->watch = NULL;
    link->state = MODBUS_LINK_CONNECTING;
    link->line = modbus_line_new(link->loop, &link->conf.line, &events, link);
}

/* A file's own numbers, if it has any: so many attempts in quick succession, then a longer pause. */
static uint64_t pause_ms(struct modbus_link *link)
{
    if (link->conf.attempts)
        link->backoff.fixed_ms = link->n_attempts % link->conf.attempts || link->n_attempts == 0
                                     ? link->conf.attempt_pause_ms
                                     : link->conf.failed_pause_ms;
    return backoff_next(&link->backoff, loop_mono_ms(link->loop));
}

static void tell_down(struct modbus_link *link, bool was_up)
{
    if (!was_up)
        LOG_DEBUG(link->log, "connecting has failed", KV_Z("link", link->conf.name),
                  KV_UINT("attempt", link->n_attempts), KV_WHY(&link->why));
    if (link->was_told)
        return;
    link->was_told = true;
    LOG_DEBUG(link->log, "not connected", KV_Z("link", link->conf.name), KV_WHY(&link->why));
    if (link->events.down)
        link->events.down(link->arg, link->why.err, &link->why);
}

static void on_line_closed(void *arg, enum err err, const struct why *why)
{
    struct modbus_link *link = arg;
    bool was_up = link->state == MODBUS_LINK_UP || link->state == MODBUS_LINK_LOSING;

    if (link->state != MODBUS_LINK_LOSING) { /* else the reason is known better */
        link->why = why ? *why : (struct why){0};
        link->why.err = err;
    }
    modbus_line_free(link->line); /* and why with it */
    link->line = NULL;
    if (link->state == MODBUS_LINK_ENDED) {
        closer_release(&link->closer);
        return;
    }
    link->state = MODBUS_LINK_WAITING;
    if (was_up) {
        link->since_ms = loop_mono_ms(link->loop);
    } else {
        link->n_attempts++;
        link->is_failing = true;
    }
    modbus_exchange_down(link, link->is_failing);
    tell_down(link, was_up);
    if (link->state != MODBUS_LINK_ENDED)
        modbus_exchange_pump(link);
    if (link->state == MODBUS_LINK_WAITING) {
        if (link->conf.line.kind == MODBUS_LINE_SERIAL)
            link->watch = serial_watch_new(link->loop, link->conf.line.serial.path, try_connect, link);
        retry_start(&link->retry, pause_ms(link));
    }
}

void modbus_link_lose(struct modbus_link *link, enum err err, const char *text)
{
    if (link->state != MODBUS_LINK_UP)
        return;
    link->state = MODBUS_LINK_LOSING;
    link->why = (struct why){0};
    (void)why_set(&link->why, err, "%s", text);
    modbus_line_close(link->line);
}

/* --- life ------------------------------------------------------------------------------------------------------------ */
struct modbus_link *modbus_link_new(struct loop *loop, struct log *log, const struct modbus_link_conf *conf,
                                    const struct modbus_link_events *events, void *arg)
{
    struct modbus_link *link = mem_zero(sizeof *link);

    loop_assert(loop);
    link->loop = loop;
    link->log = log;
    link->conf = *conf;
    if (events)
        link->events = *events;
    link->arg = arg;
    link->state = MODBUS_LINK_WAITING;
    link->since_ms = loop_mono_ms(loop);
    backoff_init(&link->backoff, (uint64_t)(uintptr_t)link ^ link->since_ms);
    link->next_tid = (uint16_t)link->backoff.random;
    retry_init(&link->retry, loop, try_connect, link);
    modbus_exchange_init(link);
    retry_start_deaf(&link->retry, 0);
    return link;
}

static void on_ended(void *arg)
{
    struct modbus_link *link = arg;
    closed_fn *closed = link->closed;
    void *closed_arg = link->closed_arg;

    while (link->n_finished)
        modbus_exchange_tell(link);
    modbus_exchange_fini(link);
    mem_free(link);
    closed(closed_arg);
}

void modbus_link_close(struct modbus_link *link, closed_fn *closed, void *arg)
{
    loop_assert(link->loop);
    assert(link->state != MODBUS_LINK_ENDED);
    link->state = MODBUS_LINK_ENDED;
    link->closed = closed;
    link->closed_arg = arg;
    retry_stop(&link->retry);
    serial_watch_free(link->watch);
    link->watch = NULL;
    modbus_exchange_end(link);
    closer_begin(&link->closer, link->loop, on_ended, link);
    if (link->line) {
        closer_hold(&link->closer);
        modbus_line_close(link->line);
    }
    closer_end(&link->closer);
}

/* --- what is known of it --------------------------------------------------------------------------------------------- */
struct modbus_link_status modbus_link_status(const struct modbus_link *link)
{
    return (struct modbus_link_status){.is_up = link->state == MODBUS_LINK_UP,
                                       .since_ms = link->since_ms,
                                       .n_attempts = link->n_attempts,
                                       .n_connects = link->n_connects,
                                       .n_bad_checks = link->framer.n_bad_checks,
                                       .n_garbage = link->framer.n_garbage,
                                       .n_queued = link->n_queued,
                                       .n_in_flight = link->n_in_flight,
                                       .error = link->why.err ? why_text(&link->why) : ""};
}

const struct modbus_counts *modbus_link_unit_counts(const struct modbus_link *link, uint8_t unit)
{
    return link->units[unit] ? &link->units[unit]->counts : NULL;
}

struct modbus_counts modbus_link_counts(const struct modbus_link *link)
{
    struct modbus_counts sum = {.n_foreign = link->n_foreign};

    for (unsigned i = 0; i < COUNT_OF(link->units); i++) {
        const struct modbus_counts *one = modbus_link_unit_counts(link, (uint8_t)i);

        if (!one)
            continue;
        sum.n_requests += one->n_requests;
        sum.n_answers += one->n_answers;
        sum.n_exceptions += one->n_exceptions;
        sum.n_timeouts += one->n_timeouts;
        sum.n_retries += one->n_retries;
        sum.n_bad += one->n_bad;
        sum.n_foreign += one->n_foreign;
        for (unsigned code = 0; code < COUNT_OF(sum.by_exception); code++)
            sum.by_exception[code] += one->by_exception[code];
    }
    return sum;
}

bool modbus_link_is_answering(const struct modbus_link *link, uint8_t unit)
{
    return !link->units[unit] || link->units[unit]->is_answering;
}
