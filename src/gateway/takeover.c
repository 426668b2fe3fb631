/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/takeover.h"

#include "store/legacy_event.h"

enum {
    PATIENCE_MS = 10 * 1000, /* connectors wait for it no longer */
    SAY_MS = 200,            /* what is done is said that often */
    RETRY_MS = 5000,
    ROOM_MS = 20, /* looked for room again, and ever more seldom */
    ROOM_MAX_MS = 500,
    STOP_MS = 2000,
    REPORT_MS = 10 * 1000,
};

/*
 * One job at a time is in the helper thread:
 *
 *     find ──► read ──► (convert, on the loop) ──► read … ──► nothing more: done ──► read: nothing again ──► finish ──► next
 *                              done, when something has become durable
 */
enum job { JOB_NONE, JOB_FIND, JOB_READ, JOB_DONE, JOB_FINISH, JOB_CLOSE };

struct stamp { /* the last one that a device was given */
    int64_t assigned_ms, latest_ms;
};

struct takeover {
    struct takeover_conf conf;
    struct runner *main;
    struct data_loop *loop;
    struct call to_loop, to_main, to_stop, stopped;

    /* main */
    void (*go_on)(void *arg);
    void *go_on_arg;
    void (*done)(void *arg);
    void *done_arg;
    bool is_started, has_gone_on, is_stopped;

    /* the loop */
    struct ctx_host host;
    struct ctx *ctx;
    struct helper *helper;
    enum job job;
    bool is_stopping, is_asked, is_ended, wants_credit, has_failed, is_let_go;
    struct timer patience, again, say, report, stop;
    uint64_t room_ms;
    size_t at;                    /* next item of the chunk */
    bool is_loaded;               /* the chunk has items that are not handed over */
    bool is_empty, was_clear;     /* the last reading gave nothing; and nothing was under way when it began */
    uint64_t cookie, cookie_done; /* events that were handed over, and that are durable */
    struct {
        uint64_t number, cookie;
    } chunks[LEGACY_AHEAD]; /* behind whose last event a cookie stands; oldest first */
    size_t chunks_from, n_chunks;
    uint64_t read, durable, said; /* chunks */
    struct stamp *stamps;         /* by the device's number */
    uint32_t n_stamps;
    struct legacy_event event;
    uint64_t n_began, n_began_corrupt; /* of this source */

    /* the job's, while there is one */
    struct legacy *sources;
    struct legacy_chunk chunk;
    uint64_t saying; /* chunks up to it */
    enum err result;
    struct why why;

    _Atomic(uint64_t) n_events, n_corrupt, n_superseded, n_left_out;
    _Atomic(const char *) what;
    atomic_bool is_running;
};

static void step(struct takeover *t);

static void count(_Atomic(uint64_t) *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

static uint64_t get(const _Atomic(uint64_t) *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static struct log *log_of(const struct takeover *t)
{
    return t->conf.legacy.log;
}

/* --- the helper thread --------------------------------------------------------------------------------------------------- */

static void close_all(struct takeover *t)
{
    while (t->sources) {
        struct legacy *legacy = t->sources;

        t->sources = legacy->next;
        legacy_free(legacy);
    }
}

static void run_job(void *arg)
{
    struct takeover *t = arg;

    t->result = ERR_OK;
    t->why = (struct why){0};
    switch (t->job) {
    case JOB_NONE:
        break;
    case JOB_FIND:
        t->sources = legacy_find(&t->conf.legacy);
        break;
    case JOB_READ:
        t->result = legacy_read(t->sources, &t->chunk, &t->why);
        break;
    case JOB_DONE:
        t->result = legacy_done(t->sources, t->saying, &t->why);
        break;
    case JOB_FINISH:
        t->result = legacy_finish(t->sources, &t->why);
        break;
    case JOB_CLOSE:
        close_all(t);
        break;
    }
}

/* --- going on without it, and the end ------------------------------------------------------------------------------------- */

static void tell_main(void *arg)
{
    struct takeover *t = arg;

    if (t->has_gone_on || t->is_stopped)
        return;
    t->has_gone_on = true;
    t->go_on(t->go_on_arg);
}

static void let_go(struct takeover *t)
{
    if (t->is_let_go)
        return;
    t->is_let_go = true;
    timer_stop(&t->patience);
    runner_call(t->main, &t->to_main);
}

static void patience_is_over(void *arg)
{
    struct takeover *t = arg;

    LOG_INFO(log_of(t), "connectors start beside the take-over of data that waits",
             KV_UINT("events", get(&t->n_events)));
    let_go(t);
}

static void tell_stopped(void *arg)
{
    struct takeover *t = arg;

    t->is_stopped = true;
    t->done(t->done_arg);
}

static void stop_timers(struct takeover *t)
{
    struct timer *all[] = {&t->again, &t->say, &t->report, &t->stop};

    for (size_t i = 0; i < COUNT_OF(all); i++)
        timer_stop(all[i]);
}

static void helper_has_ended(void *arg)
{
    struct takeover *t = arg;

    stop_timers(t);
    t->helper = NULL;
    t->is_ended = true;
    ctx_attach(t->ctx, NULL);
    ctx_unref(t->ctx);
    t->ctx = NULL;
    atomic_store(&t->what, NULL);
    atomic_store(&t->is_running, false);
    if (t->is_asked)
        runner_call(t->main, &t->stopped);
    let_go(t);
}

/* --- jobs that came back ------------------------------------------------------------------------------------------------------ */

static void begin_source(struct takeover *t)
{
    atomic_store(&t->what, t->sources ? t->sources->title : NULL);
    t->n_began = get(&t->n_events);
    t->n_began_corrupt = get(&t->n_corrupt);
    t->read = t->durable = t->said = 0;
    t->is_empty = t->is_loaded = false;
}

static void end_source(struct takeover *t)
{
    struct legacy *legacy = t->sources;

    LOG_INFO(log_of(t), "all that waited is taken over", KV_Z("what", legacy->title), KV_Z("directory", legacy->path),
             KV_UINT("events", get(&t->n_events) - t->n_began),
             KV_UINT("corrupt", get(&t->n_corrupt) - t->n_began_corrupt), KV_UINT("superseded", get(&t->n_superseded)),
             KV_UINT("left_out", get(&t->n_left_out)));
    t->sources = legacy->next;
    legacy_free(legacy); /* its files are removed: nothing is written */
    begin_source(t);
}

static void note_chunk(struct takeover *t)
{
    t->is_loaded = t->chunk.n_items > 0;
    t->is_empty = !t->is_loaded;
    if (t->is_loaded)
        t->read = t->chunk.number;
    t->at = 0;
}

static void job_is_back(void *arg, bool ran)
{
    struct takeover *t = arg;
    enum job job = t->job;

    t->job = JOB_NONE;
    if (!ran)
        return;
    if (t->sources && job != JOB_CLOSE) {
        count(&t->n_corrupt, t->sources->n_corrupt);
        t->sources->n_corrupt = 0;
    }
    t->has_failed = t->result != ERR_OK;
    if (t->has_failed) {
        LOG_ERROR(log_of(t), "the take-over of data that waits cannot go on for now", KV_WHY(&t->why));
        if (!t->is_stopping)
            timer_start(&t->again, RETRY_MS);
    } else if (job == JOB_FIND) {
        begin_source(t);
    } else if (job == JOB_READ) {
        note_chunk(t);
    } else if (job == JOB_DONE) {
        t->said = t->saying;
    } else if (job == JOB_FINISH) {
        end_source(t);
    } else if (job == JOB_CLOSE) {
        t->job = JOB_CLOSE; /* it was the last: a stop that is asked for until the thread has ended begins no other */
        helper_stop(t->helper, helper_has_ended, t);
        return;
    }
    step(t);
}

static void post(struct takeover *t, enum job job)
{
    t->job = job;
    t->was_clear = t->n_chunks == 0 && t->said == t->durable;
    t->saying = t->durable; /* more may become durable while it runs */
    if (job == JOB_READ)
        t->is_empty = false;
    if (job == JOB_DONE)
        timer_start(&t->say, SAY_MS);
    helper_post(t->helper, run_job, job_is_back, t);
}

/* --- handing over ------------------------------------------------------------------------------------------------------------- */

static bool has_newer(const struct device *dev)
{
    return atomic_load_explicit(&dev->has_attributes, memory_order_relaxed) != 0;
}

static void corrupt(struct takeover *t, const struct legacy_item *item, const struct why *why)
{
    count(&t->n_corrupt, 1);
    LOG_ERROR(log_of(t), "an event that waited cannot be read, it is skipped", KV_Z("directory", t->sources->path),
              KV_Z("file", t->chunk.file), KV_UINT("line", item->line), KV_WHY(why));
}

static struct stamp *stamp_of(struct takeover *t, const struct device *dev)
{
    if (dev->number >= t->n_stamps) {
        uint32_t n = device_count();

        t->stamps = mem_grow(t->stamps, n * sizeof *t->stamps);
        for (; t->n_stamps < n; t->n_stamps++)
            t->stamps[t->n_stamps] = (struct stamp){INT64_MIN, INT64_MIN};
    }
    return &t->stamps[dev->number];
}

/* Values that were stored without a time get that of their storing, or of now; of a device no two the same. */
static int64_t time_of(struct takeover *t, struct event *event, const struct legacy_item *item)
{
    struct stamp *stamp = stamp_of(t, event->dev);
    int64_t ts = item->ts;

    if (ts <= 0)
        event->time_unsure = !loop_stamp(t->loop->runner.loop, &ts);
    return device_assign_past(&stamp->assigned_ms, &stamp->latest_ms, ts);
}

static bool lacks_time(const struct event *event)
{
    for (size_t i = 0; i < event->n; i++)
        if (event->items[i].kind == RECORD_TELEMETRY && event->items[i].ts == EVENT_NO_TS)
            return true;
    return false;
}

static void put_event(struct takeover *t, const struct legacy_item *item, struct str json)
{
    struct event *event = ctx_event(t->ctx, NULL, STR_NONE);
    struct why why = {0};
    enum err err = legacy_event_read(&t->event, json, event, &why);

    if (err) {
        corrupt(t, item, &why);
        return;
    }
    if (UNLIKELY(t->event.n_left_out))
        LOG_WARN(log_of(t), "values that waited are left out: the platform would not take their keys",
                 KV_Z("directory", t->sources->path), KV_Z("file", t->chunk.file), KV_UINT("line", item->line),
                 KV_STR("device", device_name(event->dev)), KV_UINT("values", t->event.n_left_out));
    count(&t->n_left_out, t->event.n_left_out);
    count(&t->n_superseded, t->event.n_superseded);
    if (event->n == 0) {
        if (!t->event.n_left_out && !t->event.n_superseded) {
            why_set(&why, ERR_NOTFOUND, "it has neither telemetry nor attributes");
            corrupt(t, item, &why);
        }
        return;
    }
    err = ctx_put_past(t->ctx, lacks_time(event) ? time_of(t, event, item) : 0);
    if (err) {
        why_set(&why, err, "%s", err_text(err));
        corrupt(t, item, &why);
    }
}

static void put_records(struct takeover *t, const struct legacy_item *item, const uint8_t *bytes)
{
    const struct record *record, *end = (const struct record *)(const void *)(bytes + item->n);
    enum err err = ERR_OK;

    for (record = (const struct record *)(const void *)bytes; record < end && !err; record = record_next(record)) {
        if (record->kind == RECORD_ATTRIBUTES && has_newer(device_at(record->dev)))
            count(&t->n_superseded, record->n_values);
        else
            err = ctx_put_records(t->ctx, record, record->size);
    }
    if (err) {
        struct why why = {0};

        why_set(&why, err, "%s", err_text(err));
        corrupt(t, item, &why);
    }
}

/* True: the store is filled to half of its limits, or what is under way would do that. */
static bool is_half_full(const struct takeover *t)
{
    const struct takeover_conf *conf = &t->conf;
    struct store_stats stats = store_stats(conf->store);
    uint64_t n_events = stats.n_events + (t->cookie - t->cookie_done);

    return (conf->max_events && n_events >= (conf->max_events + 1) / 2) ||
           (conf->max_bytes && stats.n_bytes + ctx_in_flight_bytes(t->ctx) >= conf->max_bytes / 2);
}

static void await_room(struct takeover *t)
{
    t->room_ms = t->room_ms * 2 < ROOM_MAX_MS ? t->room_ms * 2 : ROOM_MAX_MS;
    timer_start(&t->again, t->room_ms);
    if (t->room_ms == ROOM_MAX_MS) /* the platform takes nothing, or hardly anything */
        let_go(t);
}

static void end_chunk(struct takeover *t)
{
    size_t i = (t->chunks_from + t->n_chunks++) % LEGACY_AHEAD;

    t->chunks[i].number = t->chunk.number;
    t->chunks[i].cookie = t->cookie;
    t->is_loaded = false;
}

/* As much of the chunk as there is room for. */
static void convert(struct takeover *t)
{
    t->host.limits = t->loop->host.limits;
    while (t->at < t->chunk.n_items) {
        const struct legacy_item *item = &t->chunk.items[t->at];
        const uint8_t *bytes = t->chunk.bytes.p + item->at;

        if (is_half_full(t)) {
            await_room(t);
            return;
        }
        t->room_ms = ROOM_MS / 2;
        if (t->chunk.is_records)
            put_records(t, item, bytes);
        else
            put_event(t, item, str_of(bytes, item->n));
        t->at++;
        if (!ctx_mark(t->ctx, ++t->cookie)) {
            t->wants_credit = true;
            break;
        }
    }
    if (t->at == t->chunk.n_items)
        end_chunk(t);
}

/* --- steps -------------------------------------------------------------------------------------------------------------------- */

static void step_to_stop(struct takeover *t)
{
    if (t->n_chunks && timer_is_running(&t->stop))
        return; /* what is under way becomes durable first */
    post(t, t->said < t->durable && !t->has_failed ? JOB_DONE : JOB_CLOSE);
}

static void step(struct takeover *t)
{
    bool must_say = t->said < t->durable;

    if (t->job != JOB_NONE || t->is_ended || timer_is_running(&t->again))
        return;
    if (t->is_stopping) {
        step_to_stop(t);
        return;
    }
    if (!t->sources) {
        post(t, JOB_CLOSE);
        return;
    }
    if (must_say && (t->is_empty || t->n_chunks > LEGACY_AHEAD / 2 || !timer_is_running(&t->say))) {
        post(t, JOB_DONE);
        return;
    }
    if (t->is_loaded && !t->wants_credit)
        convert(t);
    if (t->is_loaded || t->wants_credit || (t->is_empty && t->n_chunks) || t->read - t->said >= LEGACY_AHEAD - 1)
        return;
    post(t, t->is_empty && t->was_clear ? JOB_FINISH : JOB_READ);
}

static void step_again(void *arg)
{
    step(arg);
}

static void stop_is_overdue(void *arg)
{
    struct takeover *t = arg;

    timer_stop(&t->again);
    step(t);
}

static void report(void *arg)
{
    struct takeover *t = arg;

    LOG_INFO(log_of(t), "data that waits is being taken over", KV_Z("what", atomic_load(&t->what)),
             KV_UINT("events", get(&t->n_events)), KV_UINT("corrupt", get(&t->n_corrupt)),
             KV_Z("waits_for", timer_is_running(&t->again) ? "room"
                               : t->wants_credit           ? "the storage"
                                                           : "nothing"));
}

/* --- what the connector's side calls ----------------------------------------------------------------------------------------- */

static void has_room(void *self)
{
    struct takeover *t = self;

    t->wants_credit = false;
    step(t);
}

static void are_durable(void *self, uint64_t cookie, enum err result)
{
    struct takeover *t = self;

    if (result) { /* at the end, or dropped by the operator's choice: it stays where it is, for the next start */
        if (!t->is_stopping)
            LOG_ERROR(log_of(t), "the storage does not take what waited: it is taken over at the next start",
                      KV_ERR(result));
        t->is_stopping = true;
        t->n_chunks = 0;
        step(t);
        return;
    }
    count(&t->n_events, cookie - t->cookie_done);
    t->cookie_done = cookie;
    while (t->n_chunks && t->chunks[t->chunks_from].cookie <= cookie) {
        t->durable = t->chunks[t->chunks_from].number;
        t->chunks_from = (t->chunks_from + 1) % LEGACY_AHEAD;
        t->n_chunks--;
    }
    step(t);
}

/* --- exported ------------------------------------------------------------------------------------------------------------------ */

static void start(void *arg)
{
    static const struct connector_type type = {.size = sizeof type,
                                               .abi = IOTGW_CONNECTOR_ABI,
                                               .name = "takeover",
                                               .title = "Data of an earlier program",
                                               .room = has_room,
                                               .done = are_durable};
    struct takeover *t = arg;
    struct loop *loop = t->loop->runner.loop;

    t->ctx = ctx_new(&type, "takeover", loop, &t->host, NULL);
    ctx_attach(t->ctx, t);
    timer_init(&t->patience, loop, patience_is_over, t);
    timer_init(&t->again, loop, step_again, t);
    timer_init(&t->say, loop, step_again, t);
    timer_init(&t->report, loop, report, t);
    timer_init(&t->stop, loop, stop_is_overdue, t);
    t->helper = helper_start(t->ctx, "takeover");
    if (!t->helper) {
        helper_has_ended(t);
        return;
    }
    timer_start(&t->patience, PATIENCE_MS);
    timer_start_periodic(&t->report, REPORT_MS, REPORT_MS);
    post(t, JOB_FIND);
}

static void stop(void *arg)
{
    struct takeover *t = arg;

    t->is_stopping = t->is_asked = true;
    if (t->is_ended) {
        runner_call(t->main, &t->stopped);
        return;
    }
    timer_stop(&t->again);
    timer_stop(&t->patience);
    timer_start(&t->stop, STOP_MS);
    ctx_flush(t->ctx);
    if (t->is_loaded) /* what of the chunk is handed over counts only as a whole: it comes again */
        t->is_loaded = false;
    step(t);
}

struct takeover *takeover_new(struct runner *main, struct data_loop *loop, const struct takeover_conf *conf)
{
    struct takeover *t = mem_zero(sizeof *t);

    t->conf = *conf;
    t->main = main;
    t->loop = loop;
    t->host = (struct ctx_host){.store = conf->store, .config_dir = loop->host.config_dir};
    t->event.no_attributes = has_newer;
    t->room_ms = ROOM_MS / 2;
    t->to_loop = (struct call){.fn = start, .arg = t};
    t->to_main = (struct call){.fn = tell_main, .arg = t};
    t->to_stop = (struct call){.fn = stop, .arg = t};
    t->stopped = (struct call){.fn = tell_stopped, .arg = t};
    return t;
}

void takeover_start(struct takeover *t, void (*go_on)(void *arg), void *arg)
{
    t->go_on = go_on;
    t->go_on_arg = arg;
    t->is_started = true;
    atomic_store(&t->is_running, true);
    runner_call(&t->loop->runner, &t->to_loop);
}

void takeover_stop(struct takeover *t, void (*done)(void *arg), void *arg)
{
    t->done = done;
    t->done_arg = arg;
    t->has_gone_on = true;
    if (t->is_started)
        runner_call(&t->loop->runner, &t->to_stop);
    else
        runner_call(t->main, &t->stopped);
}

void takeover_free(struct takeover *t)
{
    if (!t)
        return;
    buf_fini(&t->chunk.bytes);
    mem_free(t->stamps);
    mem_free(t);
}

struct takeover_status takeover_status(const struct takeover *t)
{
    if (!t)
        return (struct takeover_status){0};
    return (struct takeover_status){.is_running = atomic_load(&t->is_running),
                                    .what = atomic_load(&t->what),
                                    .n_events = get(&t->n_events),
                                    .n_corrupt = get(&t->n_corrupt),
                                    .n_superseded = get(&t->n_superseded),
                                    .n_left_out = get(&t->n_left_out)};
}
