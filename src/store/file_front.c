/* SPDX-License-Identifier: Apache-2.0 */
/* Of the file store: what the reader's loop and the appending ones see of it; its thread, its beginning and its end. */
#include "store/file_impl.h"
#include "store/sqlite.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <unistd.h>

enum { STACK_SIZE = 256 * 1024, SEGMENTS_IN_FULL = 16, SEGMENT_LEAST = 64 * 1024 };

static struct file_store *of(struct store *base)
{
    return (struct file_store *)(void *)base;
}

/* --- stopping ---------------------------------------------------------------------------------------------------------- */

static void stop_is_over(struct file_store *s)
{
    if (!s->is_stopping)
        return;
    s->is_stopping = false;
    timer_stop(&s->stop_timer);
    closer_end(&s->closer);
}

static void stopped(void *arg, UNUSED struct node *nodes)
{
    stop_is_over(arg);
}

static void stop_hangs(void *arg)
{
    struct file_store *s = arg;

    s->is_abandoned = true;
    LOG_ERROR(s->log, "the disk does not answer: its thread is left behind", KV_Z("directory", s->path));
    stop_is_over(s);
}

/* --- the interface ---------------------------------------------------------------------------------------------------------------------- */

static void file_append(struct store *base, struct batch *batch)
{
    batch->result = ERR_OK;
    mailbox_post(&of(base)->inbox, &batch->node);
}

static struct store_stats file_stats(const struct store *base)
{
    static _Thread_local char hung[48];
    const struct file_store *s = (const struct file_store *)(const void *)base;
    struct sum waiting = file_waiting(s), backlog = {0};
    uint64_t since = get(&s->commit_since_ms), now = since ? clock_mono_ms() : 0;
    int64_t ready_ms = atomic_load_explicit(&s->oldest_ms, memory_order_relaxed);
    int64_t oldest_ms = ready_ms ? ready_ms : atomic_load_explicit(&s->unread_ms, memory_order_relaxed);
    struct store_stats stats = {
        .n_events = waiting.n_events,
        .n_values = waiting.n_values,
        .n_bytes = waiting.n_bytes,
        .n_dropped_events = get(&s->n_door_events) + get(&s->lost.n_events),
        .n_dropped_values = get(&s->n_door_values) + get(&s->lost.n_values),
        .n_damaged_values = get(&s->n_damaged_values),
        .n_acked_values = get(&s->out.n_values),
        .oldest_ms = waiting.n_bytes ? oldest_ms : 0,
        .is_blocked = atomic_load(&s->is_blocked),
        .blocked_since_ms = atomic_load(&s->is_blocked) ? atomic_load(&s->blocked_since_ms) : 0,
        .is_split = atomic_load(&s->is_split),
        .trouble = atomic_load(&s->trouble),
        .trouble_since_ms = atomic_load(&s->trouble) ? atomic_load(&s->trouble_since_ms) : 0,
    };

    if (stats.is_split)
        backlog = file_backlog(s);
    stats.n_backlog_events = backlog.n_events;
    stats.n_backlog_values = backlog.n_values;

    stats.n_appended_values = stats.n_acked_values + stats.n_values + stats.n_dropped_values;
    if (since && now > since + HUNG_MS) {
        snprintf(hung, sizeof hung, "commit has run %u s", (unsigned)((now - since) / 1000));
        if (!stats.trouble)
            stats.trouble_since_ms = clock_wall_ms() - (int64_t)(now - since);
        stats.trouble = hung;
    }
    if (!stats.trouble) {
        stats.trouble = atomic_load(&s->save_trouble);
        stats.trouble_since_ms = stats.trouble ? atomic_load(&s->save_trouble_since_ms) : 0;
    }
    return stats;
}

static void settled(void *arg, UNUSED struct node *nodes)
{
    struct file_store *s = arg;

    s->settle_done(s->settle_arg);
}

static void file_settle(struct store *base, closed_fn *done, void *arg)
{
    struct file_store *s = of(base);

    loop_assert(base->loop);
    s->settle_done = done;
    s->settle_arg = arg;
    mailbox_post(&s->settles, &s->settle_node);
}

static void file_stop(struct store *base, closed_fn *done, void *arg)
{
    struct file_store *s = of(base);

    loop_assert(base->loop);
    s->is_stopping = true;
    closer_begin(&s->closer, base->loop, done, arg);
    timer_start(&s->stop_timer, STOP_MS);
    mailbox_post(&s->control, &s->stop_node);
}

static void free_blocks(struct file_store *s)
{
    for (int i = 0; i < LANES; i++) {
        struct lane *lane = &s->lanes[i];

        while (lane->tail_first) {
            struct block *block = lane->tail_first;

            lane->tail_first = block->next;
            file_block_unref(s, block);
        }
        lane->tail = NULL;
    }
    file_blocks_free(s);
}

static void file_free(struct store *base)
{
    struct file_store *s = of(base);
    struct node *nodes;

    if (s->is_abandoned)
        return; /* its thread may still use everything */
    assert(!s->n_chunks);
    if (s->has_thread) {
        loop_stop(s->own);
        uv_thread_join(&s->thread);
    }
    file_cancel_all(s);
    file_cancel_inbox(s);
    (void)mailbox_fini(&s->pokes);
    (void)mailbox_fini(&s->control);
    (void)mailbox_fini(&s->splits);
    (void)mailbox_fini(&s->settles);
    (void)mailbox_fini(&s->stopped);
    (void)mailbox_fini(&s->settled);
    (void)mailbox_fini(&s->recalls);
    (void)mailbox_fini(&s->recalled);
    mem_free(s->recall.backs);
    for (nodes = mailbox_fini(&s->limits); nodes;) {
        struct new_limits *new = CONTAINER_OF(nodes, struct new_limits, node);

        nodes = nodes->next;
        mem_free(new);
    }
    for (nodes = mailbox_fini(&s->slices); nodes;) {
        struct slice *slice = CONTAINER_OF(nodes, struct slice, node);

        nodes = nodes->next;
        queue_push(&s->returned, &slice->node);
    }
    s->store.events = (struct store_events){0};
    file_drops_arrived(s, mailbox_fini(&s->drops));
    timer_stop(&s->retry);
    timer_stop(&s->save);
    timer_stop(&s->idle);
    timer_stop(&s->again);
    timer_stop(&s->age);
    drop_log_fini(&s->drop_log);
    timer_stop(&s->stop_timer);
    late_cancel(&s->commit_late);
    file_read_fini(s);
    free_blocks(s);
    for (int i = 0; i < LANES; i++)
        file_lane_fini(&s->lanes[i]);
    if (s->owns_loop)
        loop_free(s->own);
    if (s->dir >= 0)
        close(s->dir);
    if (s->io->free)
        s->io->free(s->io);
    boots_fini(&s->boots);
    mem_free(s->path);
    mem_free(s);
}

static const struct store_ops file_ops = {
    .free = file_free,
    .append = file_append,
    .read = file_store_read,
    .ack = file_store_ack,
    .split = file_split,
    .stats = file_stats,
    .settle = file_settle,
    .stop = file_stop,
};

/* A segment is at most a sixteenth of what there is room for, so that dropping the oldest drops little. */
static void size_segments(struct file_store *s)
{
    const struct file_conf *conf = &s->conf;
    uint64_t n = conf->segment_events < EVENTS_MIN && conf->segment_events ? EVENTS_MIN : conf->segment_events;

    if (conf->overflow == OVERFLOW_DROP_OLDEST && conf->max_events) {
        uint64_t share = conf->max_events / SEGMENTS_IN_FULL;

        share = share ? share : 1;
        n = n && n < share ? n : share;
    }
    s->segment_events = n;
    s->segment_bytes = SEGMENT_BYTES;
    if (n && n < SEGMENT_BYTES / EVENT_BYTES)
        s->segment_bytes = n * EVENT_BYTES < SEGMENT_BYTES_MIN ? SEGMENT_BYTES_MIN : n * EVENT_BYTES;
    if (conf->max_bytes && conf->max_bytes / SEGMENTS_IN_FULL < s->segment_bytes)
        s->segment_bytes = conf->max_bytes / SEGMENTS_IN_FULL & ~(uint64_t)(BLOCK_MIN - 1);
    if (conf->segment_bytes && conf->segment_bytes < s->segment_bytes)
        s->segment_bytes = conf->segment_bytes & ~(uint64_t)(BLOCK_MIN - 1);
    if (s->segment_bytes < SEGMENT_LEAST)
        s->segment_bytes = SEGMENT_LEAST;
}

void file_set_limits(struct file_store *s, const struct file_conf *conf)
{
    s->conf.max_events = conf->max_events;
    s->conf.segment_events = conf->segment_events;
    s->conf.max_bytes = conf->max_bytes;
    s->conf.segment_bytes = conf->segment_bytes;
    s->conf.commit_events = conf->commit_events;
    s->conf.max_age_ms = conf->max_age_ms;
    s->conf.age_check_ms = conf->age_check_ms;
    s->conf.overflow = conf->overflow;
    size_segments(s);
}

static void thread_main(void *arg)
{
    loop_run(((struct file_store *)arg)->own);
}

static NODISCARD enum err start_thread(struct file_store *s)
{
    const uv_thread_options_t options = {.flags = UV_THREAD_HAS_STACK_SIZE, .stack_size = STACK_SIZE};
    int code;

    if (!s->owns_loop)
        return ERR_OK;
    code = uv_thread_create_ex(&s->thread, &options, thread_main, s);
    s->has_thread = code == 0;
    return err_from_uv(code);
}

static void init(struct file_store *s, struct loop *loop)
{
    s->pos = lanes_first_position();
    s->rule.slot = s->conf.slot;
    for (int i = 0; i < LANES; i++)
        file_lane_init(&s->lanes[i], s, i);
    file_init_own(s);
    mailbox_init(&s->slices, loop, file_slices_arrived, s);
    mailbox_init(&s->drops, loop, file_drops_arrived, s);
    mailbox_init(&s->stopped, loop, stopped, s);
    mailbox_init(&s->settled, loop, settled, s);
    mailbox_init(&s->recalls, loop, file_recall_arrived, s);
    timer_init(&s->stop_timer, loop, stop_hangs, s);
}

enum err store_file_new(struct store **out, struct loop *loop, const struct file_conf *conf,
                        const struct store_events *events, void *arg, struct why *why)
{
    struct file_store *s = mem_zero(sizeof *s);
    enum err err = ERR_OK;

    s->store = (struct store){.ops = &file_ops, .loop = loop, .events = *events, .arg = arg, .is_durable = true};
    s->conf = *conf;
    s->path = mem_dup(conf->path);
    s->log = conf->log;
    s->io = conf->io ? conf->io : &file_io_system;
    s->dir = -1;
    s->own = conf->own;
    s->owns_loop = !conf->own;
    if (s->owns_loop)
        err = loop_new(&s->own, "store");
    if (err) {
        if (s->io->free)
            s->io->free(s->io);
        boots_fini(&s->boots);
        mem_free(s->path);
        mem_free(s);
        return err;
    }
    size_segments(s);
    init(s, loop);
    err = file_recover(s, why);
    if (!err)
        file_age_start(s);
    if (!err)
        err = start_thread(s);
    if (err) {
        file_free(&s->store);
        return err;
    }
    file_poke(s); /* there may be something to read: only from here on the reader's loop knows of this store */
    *out = &s->store;
    return ERR_OK;
}

static void tune(struct store *base, const struct file_conf *limits, uint64_t db_bytes, unsigned max_dbs)
{
    struct file_store *s = of(base);
    struct new_limits *new = mem_new(sizeof *new);

    loop_assert(base->loop);
    assert(base->ops == &file_ops);
    *new = (struct new_limits){.limits = *limits, .db_bytes = db_bytes, .max_dbs = max_dbs};
    mailbox_post(&s->limits, &new->node);
}

void store_file_tune(struct store *store, const struct file_conf *conf)
{
    tune(store, conf, 0, 0);
}

void store_sqlite_tune(struct store *store, const struct sqlite_conf *conf)
{
    struct file_conf file;

    sqlite_limits(&file, conf);
    tune(store, &file, conf->db_bytes, conf->max_dbs);
}
