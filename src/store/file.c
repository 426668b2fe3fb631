/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file store: a log of segments in one directory.
 *
 *     DIR/events-0000000000000000.log     segments; the name is the position of the first byte, in hex
 *     DIR/events-0000000001000000.log
 *     DIR/state                           how far each is acknowledged, and totals
 *     DIR/quarantine/                     copies of what could not be read, named segment-from-to
 *
 * A segment, all numbers little-endian, everything a multiple of 8 bytes:
 *
 *     segment head   64   magic "IOTGWLOG", version, CRC, position of its first byte, boot number, wall time, machine's boot,
 *                         order of reading
 *     group          32   magic, CRC, wall time, bytes, events and values of the records of one commit
 *                         and tenths of a second since the machine's boot
 *       record       32+  struct record of data/record.h with name, profile, body; length and CRC-32C are its first words
 *       record …
 *     group …
 *                         in front of the first group: a cut, where the segment repeats what was not durable in another
 *     zeroes              reserved, up to the size of the file
 *
 * A position is the segment's position plus the offset in it. It only grows; ranges are never given twice. A process
 * writes to segments of its own only, so that a device's number in a record is valid if the segment's boot number is ours.
 * Whoever reads accepts groups and records one by one, at any multiple of 8, so a damaged head costs nothing but itself.
 * A head of a newer version is refused, and nothing in the directory is touched then.
 *
 * state is text: "next HEX", "acked VALUES", "dropped EVENTS VALUES", a line for each segment of which something is to be
 * known, and a CRC of all that. It is written to state.new, synced, renamed. Without it everything is delivered again.
 *
 * There are two lanes after an outage (lanes.h), each with segments of its own. After a restart they are one again: segments are
 * read by their order (twice the number of splits, one more for the live lane), then by position. So the backlog of a split comes
 * before what was live beside it, and no device's newer value before its older one. Format 1 had no order: it is 0.
 *
 * Durable means: written, fdatasync'ed, and the file's name synced in its directory. After a failed sync nobody knows what
 * is on the disk: the segment ends where the last good sync left it, and the rest goes to a new one.
 *
 * The directory is locked (flock) by the process that has it open.
 */
#include "store/file_impl.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* --- trouble ------------------------------------------------------------------------------------------------------------------ */

static const char *trouble_of(int number)
{
    switch (number) {
    case ENOSPC:
    case EDQUOT:
        return "disk full";
    case EROFS:
        return "the file system is read-only";
    case EACCES:
    case EPERM:
        return "no permission to write";
    case EIO:
        return "disk error";
    case EMFILE:
    case ENFILE:
        return "too many open files";
    default:
        return "the disk cannot be written";
    }
}

/* number 0: it is over. */
void file_set_trouble(struct file_store *s, const char *trouble, int number)
{
    const char *before = atomic_load(&s->trouble);

    if (number)
        trouble = trouble_of(number);
    if (trouble && trouble != before)
        LOG_ERROR(s->log, "nothing can be stored: sources wait, delivery goes on", KV_Z("reason", trouble),
                  KV_Z("directory", s->path), KV_ERR(err_from_errno(number)));
    else if (!trouble && before)
        LOG_INFO(s->log, "storing works again", KV_Z("directory", s->path));
    if (trouble && !before)
        atomic_store(&s->trouble_since_ms, loop_wall_ms(s->own));
    atomic_store(&s->trouble, trouble);
}

void file_set_save_trouble(struct file_store *s, const char *trouble)
{
    if (trouble && !atomic_load(&s->save_trouble))
        atomic_store(&s->save_trouble_since_ms, loop_wall_ms(s->own));
    atomic_store(&s->save_trouble, trouble);
}

/* --- commit --------------------------------------------------------------------------------------------------------------------- */

static void add_node(struct node ***end, struct node *node)
{
    node->next = NULL;
    **end = node;
    *end = &node->next;
}

static void look_if_settled(struct file_store *s)
{
    if (LIKELY(!s->is_settling) || s->group || s->pending)
        return;
    s->is_settling = false;
    mailbox_post(&s->settled, &s->settle_node);
}

static void answer_group(struct file_store *s)
{
    struct node *node = s->group;

    s->group = NULL;
    s->group_end = &s->group;
    while (node) {
        struct node *next = node->next;

        store_answer(CONTAINER_OF(node, struct batch, node));
        node = next;
    }
    look_if_settled(s);
}

static void note_committed(struct lane *lane)
{
    struct file_store *s = lane->store;

    for (struct block *block = lane->tail_first; block; block = block->next) {
        size_t from = block->off == 0 && block->n_committed < HEAD ? HEAD : block->n_committed;

        file_count_committed(lane, block->bytes + from, block->bytes + block->n, lane->active->pos + block->off + from);
        block->n_committed = block->n;
    }
    lane->active->end = lane->tail->off + lane->tail->n;
    lane->active->newest_ms = (int64_t)loop_mono_ms(s->own);
    if (!lane->active->has_age)
        lane->active->oldest_ms = lane->active->newest_ms;
    lane->active->has_age = true;
    sum_add(&lane->active->all, lane->open);
    counters_add(&s->in, lane->open);
    if (lane->which == LANE_BACKLOG)
        counters_add(&s->backlog_in, lane->open);
    lane->open = (struct sum){0};
}

static void close_groups(struct lane *lane)
{
    for (struct block *block = lane->tail_first; block; block = block->next) {
        if (block->group != SIZE_MAX)
            group_head_seal((struct group_head *)(void *)(block->bytes + block->group));
        block->group = SIZE_MAX;
    }
}

static bool is_no_space(int number)
{
    return number == ENOSPC || number == EDQUOT;
}

static bool is_moved(struct file_store *s)
{
    return get(&s->lanes[LANE_LIVE].acked) != s->lanes[LANE_LIVE].saved_acked ||
           get(&s->lanes[LANE_BACKLOG].acked) != s->lanes[LANE_BACKLOG].saved_acked;
}

/* Soon; at once when much has been acknowledged, but not so often that saving is what the thread does. */
static void keep_saved(struct file_store *s)
{
    uint64_t ms = atomic_load(&s->save_trouble) ? RETRY_MAX_MS : SAVE_MS;

    if (get(&s->out.n_events) - s->saved_events >= SAVE_EVENTS && ms == SAVE_MS &&
        loop_mono_ms(s->own) >= s->saved_ms + s->save_gap_ms)
        file_save(s);
    if ((s->is_unsaved || is_moved(s)) && !atomic_exchange(&s->is_saving, true))
        timer_start(&s->save, ms);
}

/* One write and one fdatasync for all that waits in a lane; 0, or errno. */
static int commit_lane(struct lane *lane)
{
    struct file_store *s = lane->store;
    int number;

    close_groups(lane);
    do {
        if (lane->must_restart)
            file_restart(lane);
        number = file_write(lane);
    } while (is_no_space(number) && (file_remove_delivered(s) || file_reserve_less(lane) ||
                                     (s->conf.overflow == OVERFLOW_DROP_OLDEST && file_drop_oldest(s))));
    if (!number)
        note_committed(lane);
    return number;
}

/* Appended and not committed. */
static struct sum open_sum(const struct file_store *s)
{
    struct sum open = s->lanes[LANE_LIVE].open;

    sum_add(&open, s->lanes[LANE_BACKLOG].open);
    return open;
}

static void commit(struct file_store *s)
{
    int number = 0;

    if (!open_sum(s).n_bytes) {
        answer_group(s);
        return;
    }
    for (int i = 0; i < LANES && !number; i++)
        if (s->lanes[i].open.n_bytes)
            number = commit_lane(&s->lanes[i]);
    file_set_trouble(s, NULL, number);
    if (number) {
        s->retry_ms = s->retry_ms ? s->retry_ms * 2 : RETRY_MS;
        s->retry_ms = s->retry_ms < RETRY_MAX_MS ? s->retry_ms : RETRY_MAX_MS;
        timer_start(&s->retry, s->retry_ms);
        if (is_no_space(number) && s->conf.overflow == OVERFLOW_DROP_OLDEST)
            (void)file_recall(s);
        return;
    }
    s->retry_ms = 0;
    loop_hold_wakes(); /* answers and what there is to read go to the same loop, mostly */
    answer_group(s);
    file_feed_from_memory(s);
    loop_let_wakes();
    file_feed(s);
    keep_saved(s);
    if (!timer_is_running(&s->idle))
        timer_start_coarse(&s->idle, IDLE_MS);
}

static bool is_in_trouble(struct file_store *s)
{
    return atomic_load_explicit(&s->trouble, memory_order_relaxed) != NULL;
}

/* --- appending -------------------------------------------------------------------------------------------------------------------- */

static bool has_room(const struct file_store *s, const struct batch *batch)
{
    struct sum waiting = file_waiting(s);

    sum_add(&waiting, s->lanes[LANE_LIVE].open);
    sum_add(&waiting, s->lanes[LANE_BACKLOG].open);
    if (waiting.n_bytes == 0)
        return true;
    return (!s->conf.max_events || waiting.n_events + batch->n_events <= s->conf.max_events) &&
           file_has_files_room(s, batch->n_bytes);
}

/* Room in the lane's active segment. False: the disk is in trouble. */
static bool make_place(struct lane *lane, size_t n)
{
    struct file_store *s = lane->store;

    if (is_in_trouble(s))
        return false;
    if (lane->active && file_must_rotate(lane, n)) {
        commit(s);
        if (is_in_trouble(s))
            return false;
        file_segment_seal(lane);
    }
    if (!lane->active)
        file_segment_begin(lane, n);
    return true;
}

/* A block with an open group and room for n bytes in one piece. */
static struct block *open_block(struct lane *lane, size_t n)
{
    struct block *block = lane->tail;

    if (!block || block->group == SIZE_MAX || block->cap - block->n < n)
        block = file_block_for(lane, n + sizeof(struct group_head));
    if (block->group == SIZE_MAX) {
        block->group = block->n;
        block->n += sizeof(struct group_head);
        *(struct group_head *)(void *)(block->bytes + block->group) =
            (struct group_head){.magic = GROUP_MAGIC,
                                .wall_ms = loop_wall_ms(lane->store->own),
                                .up_tenths = (uint32_t)(loop_mono_ms(lane->store->own) / 100)};
    }
    return block;
}

static void put(struct lane *lane, struct block *block, const uint8_t *bytes, struct sum sum)
{
    struct group_head *head = (struct group_head *)(void *)(block->bytes + block->group);

    memcpy(block->bytes + block->n, bytes, sum.n_bytes);
    block->n += sum.n_bytes;
    head->n_bytes += (uint32_t)sum.n_bytes;
    head->n_events += (uint32_t)sum.n_events;
    head->n_values += (uint32_t)sum.n_values;
    sum_add(&lane->open, sum);
    lane->active->n_ever += sum.n_events;
}

static void put_by_lane(struct file_store *s, const struct batch *batch, uint64_t acked, const size_t n[LANES])
{
    const uint8_t *p = batch->bytes, *end = p + batch->n_bytes;
    struct block *blocks[LANES];

    for (int i = 0; i < LANES; i++)
        blocks[i] = n[i] ? open_block(&s->lanes[i], n[i]) : NULL;
    while (p < end) {
        struct sum sum = {0};
        int which;
        const uint8_t *to = file_stretch(s, p, end, acked, &which);
        struct lane *lane = &s->lanes[which];
        uint64_t pos = lane->active->pos + blocks[which]->off + blocks[which]->n;

        for (const uint8_t *at = p; at < to; at += record_at(at)->size)
            sum_record(&sum, record_at(at));
        put(lane, blocks[which], p, sum);
        file_mark(lane, p, to, pos);
        p = to;
    }
}

/* False: the disk is in trouble, and nothing of it was taken. */
static bool take(struct file_store *s, struct batch *batch)
{
    struct lane *live = &s->lanes[LANE_LIVE];

    if (UNLIKELY(s->rule.is_split)) {
        uint64_t acked = get(&s->lanes[LANE_BACKLOG].acked);
        size_t n[LANES];

        file_choose(s, batch, acked, n);
        for (int i = 0; i < LANES; i++)
            if (n[i] && !make_place(&s->lanes[i], n[i]))
                return false;
        if (is_in_trouble(s))
            return false;
        put_by_lane(s, batch, acked, n);
    } else {
        if (!make_place(live, batch->n_bytes))
            return false;
        if (batch->n_bytes)
            put(live, open_block(live, batch->n_bytes), batch->bytes,
                (struct sum){batch->n_events, batch->n_values, batch->n_bytes});
    }
    batch_drop_bytes(batch);
    batch->result = ERR_OK;
    add_node(&s->group_end, &batch->node);
    struct sum open = open_sum(s);

    if (open.n_bytes >= COMMIT_BYTES || (s->conf.commit_events && open.n_events >= s->conf.commit_events))
        commit(s);
    return true;
}

/* Its bytes are still there, unless they were copied (then take_back_open counts). */
static void cancel(struct batch *batch)
{
    if (batch->bytes)
        batch_take_back(batch->bytes, batch->bytes + batch->n_bytes);
    batch_drop_bytes(batch);
    batch->result = ERR_CANCELLED;
    store_answer(batch);
}

static void wait_for_room(struct file_store *s, struct batch *batch)
{
    add_node(&s->pending_end, &batch->node);
    if (!atomic_load_explicit(&s->is_blocked, memory_order_relaxed))
        atomic_store(&s->blocked_since_ms, loop_wall_ms(s->own));
    atomic_store(&s->is_blocked, true);
}

static bool is_waiting(const struct file_store *s, const struct ctx *ctx)
{
    for (const struct node *node = s->pending; node; node = node->next)
        if (CONTAINER_OF(node, const struct batch, node)->ctx == ctx)
            return true;
    return false;
}

/* Dropped at the door. Its answer keeps its place; but on a failing disk, where the ones before it may wait for hours,
 * a source that cannot wait, and so acknowledges nothing, gets it at once. */
static void refuse(struct file_store *s, struct batch *batch)
{
    struct losers *losers = mem_zero(sizeof *losers);

    file_count_devices(batch->bytes, batch->bytes + batch->n_bytes, true, losers);
    file_tell_losers(s, losers);
    add(&s->n_door_events, batch->n_events);
    add(&s->n_door_values, batch->n_values);
    drop_log_note(&s->drop_log, batch->n_events, batch->n_values);
    s->is_unsaved = true;
    keep_saved(s);
    batch_drop_bytes(batch);
    batch->result = ERR_FULL;
    if (!batch->can_wait && is_in_trouble(s))
        store_answer(batch);
    else if (is_waiting(s, batch->ctx))
        wait_for_room(s, batch);
    else
        add_node(&s->group_end, &batch->node);
}

/* What is committed can be dropped once its segment is closed. */
static bool drop_active(struct file_store *s)
{
    for (int i = LANES - 1; i >= 0; i--) {
        struct lane *lane = &s->lanes[i];

        if (!file_may_drop_active(lane) || is_in_trouble(s))
            continue;
        commit(s);
        if (is_in_trouble(s) || !file_may_drop_active(lane))
            continue;
        file_segment_seal(lane);
        if (file_drop_oldest(s))
            return true;
    }
    return false;
}

/* True: what stands ready for the reader comes first, and is on its way back. */
static bool drop_for(struct file_store *s, const struct batch *batch)
{
    if (file_recall(s))
        return true;
    while (!has_room(s, batch) && (file_drop_oldest(s) || drop_active(s)))
        ;
    return false;
}

static void append(struct file_store *s, struct batch *batch)
{
    bool waits = batch->can_wait && (s->conf.overflow == OVERFLOW_BLOCK || is_in_trouble(s));

    if (s->is_stopped) {
        cancel(batch);
        return;
    }
    if (UNLIKELY(!has_room(s, batch))) {
        (void)file_remove_delivered(s);
        if (s->conf.overflow == OVERFLOW_DROP_OLDEST && !has_room(s, batch) && drop_for(s, batch)) {
            wait_for_room(s, batch);
            return;
        }
    }
    if (!s->pending && has_room(s, batch)) {
        if (take(s, batch))
            return;
        waits = batch->can_wait;
    }
    if (waits || s->is_recalling || (s->pending && batch->can_wait && s->conf.overflow != OVERFLOW_DROP_NEWEST))
        wait_for_room(s, batch);
    else
        refuse(s, batch);
}

static void take_pending(struct file_store *s)
{
    for (;;) {
        while (s->pending) {
            struct batch *batch = CONTAINER_OF(s->pending, struct batch, node);
            struct node *next = batch->node.next;
            bool is_refused = batch->result == ERR_FULL;

            if (!is_refused && (!has_room(s, batch) || !take(s, batch)))
                break;
            s->pending = next;
            if (!next)
                s->pending_end = &s->pending;
            if (is_refused)
                add_node(&s->group_end, &batch->node);
        }
        if (!s->pending) {
            atomic_store(&s->is_blocked, false);
            break;
        }
        if (is_in_trouble(s) || !has_room(s, CONTAINER_OF(s->pending, struct batch, node)))
            break;
    }
    look_if_settled(s);
    if (s->group)
        late_arm(s->own, &s->commit_late);
}

/* With other limits, in the same order. */
void file_append_again(struct file_store *s)
{
    struct node *node = s->pending;

    s->pending = NULL;
    s->pending_end = &s->pending;
    while (node) {
        struct batch *batch = CONTAINER_OF(node, struct batch, node);

        node = node->next;
        if (batch->result != ERR_FULL)
            append(s, batch);
        else if (is_waiting(s, batch->ctx))
            wait_for_room(s, batch);
        else
            add_node(&s->group_end, &batch->node);
    }
    take_pending(s);
}

/* --- the store's thread: what arrives ------------------------------------------------------------------------------------------------ */

static void batches_arrived(void *arg, struct node *nodes)
{
    struct file_store *s = arg;

    while (nodes) {
        struct node *next = nodes->next;

        append(s, CONTAINER_OF(nodes, struct batch, node));
        nodes = next;
    }
    if (s->group)
        late_arm(s->own, &s->commit_late);
}

static void commit_now(void *arg)
{
    struct file_store *s = arg;

    if (!is_in_trouble(s))
        commit(s);
}

static void poked(void *arg, UNUSED struct node *nodes)
{
    struct file_store *s = arg;

    atomic_store(&s->poke_is_out, false);
    file_feed(s);
    file_merge(s);
    keep_saved(s);
    if (s->pending)
        take_pending(s);
}

static void save_due(void *arg)
{
    struct file_store *s = arg;

    atomic_store(&s->is_saving, false); /* from here on an acknowledgement pokes again */
    file_merge(s);
    file_save(s);
    file_feed(s);
    keep_saved(s);
    if (s->pending)
        take_pending(s);
}

static void retry(void *arg)
{
    struct file_store *s = arg;

    if (s->io->is_elastic)
        file_save(s); /* what is delivered and could not be removed makes room */
    commit(s);
    if (!is_in_trouble(s)) {
        commit(s); /* answers of what was refused meanwhile */
        take_pending(s);
    }
}

void file_after_drop(struct file_store *s)
{
    file_feed(s);
    keep_saved(s);
    if (s->pending)
        take_pending(s);
}

static void read_again(void *arg)
{
    file_feed(arg);
}

static void idle(void *arg)
{
    struct file_store *s = arg;
    uint64_t n = get(&s->in.n_bytes);

    file_feed(s);
    if (n != s->idle_appended || open_sum(s).n_bytes) {
        s->idle_appended = n;
        timer_start_coarse(&s->idle, IDLE_MS);
        return;
    }
    file_blocks_free(s);
}

/* --- stopping ---------------------------------------------------------------------------------------------------------------------------- */

/* What was copied from batches and not committed never will be. */
static void take_back_open(struct file_store *s)
{
    for (int i = 0; i < LANES; i++) {
        struct lane *lane = &s->lanes[i];

        if (!lane->open.n_bytes)
            continue;
        for (struct block *block = lane->tail_first; block; block = block->next) {
            const uint8_t *p =
                block->bytes + (block->off == 0 && block->n_committed < HEAD ? HEAD : block->n_committed);

            while (p < block->bytes + block->n) {
                size_t n = record_at(p)->size == GROUP_MAGIC ? sizeof(struct group_head) : record_at(p)->size;

                if (record_at(p)->size != GROUP_MAGIC)
                    batch_take_back(p, p + n);
                p += n;
            }
        }
    }
}

void file_cancel_all(struct file_store *s)
{
    struct node *node;

    *s->group_end = s->pending;
    node = s->group;
    s->group = s->pending = NULL;
    s->group_end = &s->group;
    s->pending_end = &s->pending;
    atomic_store(&s->is_blocked, false);
    while (node) {
        struct batch *batch = CONTAINER_OF(node, struct batch, node);

        node = node->next;
        if (batch->result == ERR_FULL)
            store_answer(batch);
        else
            cancel(batch);
    }
    look_if_settled(s);
}

/* Nobody posts any more. */
void file_cancel_inbox(struct file_store *s)
{
    for (struct node *node = mailbox_fini(&s->inbox); node;) {
        struct batch *batch = CONTAINER_OF(node, struct batch, node);

        node = node->next;
        cancel(batch);
    }
}

static void stop_now(void *arg, UNUSED struct node *nodes)
{
    struct file_store *s = arg;

    commit(s);
    s->is_stopped = true;
    take_back_open(s);
    file_cancel_all(s);
    timer_stop(&s->retry);
    timer_stop(&s->save);
    timer_stop(&s->idle);
    timer_stop(&s->again);
    timer_stop(&s->age);
    drop_log_fini(&s->drop_log);
    for (int i = 0; i < LANES; i++)
        if (!s->lanes[i].open.n_bytes)
            file_segment_seal(&s->lanes[i]);
    file_feed(s); /* what is lost of it is counted before the totals are saved */
    file_save(s);
    mailbox_post(&s->stopped, &s->stop_node);
}

/* What was appended before it is in its group, waits for room or is answered: its mailbox was full before this one. */
static void settle_arrived(void *arg, UNUSED struct node *nodes)
{
    struct file_store *s = arg;

    s->is_settling = true;
    look_if_settled(s);
}

static void limits_arrived(void *arg, struct node *nodes)
{
    struct file_store *s = arg;

    while (nodes) {
        struct new_limits *new = CONTAINER_OF(nodes, struct new_limits, node);

        nodes = nodes->next;
        file_set_limits(s, &new->limits);
        if (s->io->set_limits)
            s->io->set_limits(s->io, new->db_bytes, new->max_dbs);
        mem_free(new);
    }
    if (s->is_stopped)
        return;
    timer_stop(&s->age);
    file_age_start(s);
    file_append_again(s);
}

void file_init_own(struct file_store *s)
{
    s->group_end = &s->group;
    s->pending_end = &s->pending;
    mailbox_init(&s->inbox, s->own, batches_arrived, s);
    mailbox_init(&s->pokes, s->own, poked, s);
    mailbox_init(&s->control, s->own, stop_now, s);
    mailbox_init(&s->splits, s->own, file_split_arrived, s);
    mailbox_init(&s->settles, s->own, settle_arrived, s);
    mailbox_init(&s->limits, s->own, limits_arrived, s);
    mailbox_init(&s->recalled, s->own, file_recall_answered, s);
    late_init(&s->commit_late, LATE_FLUSH, commit_now, s);
    timer_init(&s->retry, s->own, retry, s);
    timer_init(&s->save, s->own, save_due, s);
    timer_init(&s->idle, s->own, idle, s);
    timer_init(&s->again, s->own, read_again, s);
    timer_init(&s->age, s->own, file_check_ages, s);
    drop_log_init(&s->drop_log, s->own, s->log);
}
