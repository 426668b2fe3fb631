/* SPDX-License-Identifier: Apache-2.0 */
#include "store/file_impl.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- the directory ------------------------------------------------------------------------------------------------------ */

static int make_directories(const struct file_io *io, const char *path)
{
    autofree char *part = mem_dup(path);

    for (char *p = part + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = 0;
        if (io->mkdir(io, AT_FDCWD, part, 0750) && errno != EEXIST)
            return -1;
        *p = '/';
    }
    return io->mkdir(io, AT_FDCWD, part, 0750) && errno != EEXIST ? -1 : 0;
}

static NODISCARD enum err open_directory(struct file_store *s, struct why *why)
{
    s->dir = s->io->open(s->io, AT_FDCWD, s->path, O_RDONLY | O_DIRECTORY, 0);
    if (s->dir < 0 && errno == ENOENT && make_directories(s->io, s->path) == 0)
        s->dir = s->io->open(s->io, AT_FDCWD, s->path, O_RDONLY | O_DIRECTORY, 0);
    if (s->dir < 0) {
        enum err err = err_from_errno(errno);

        return why_set(why, err, "the storage directory %s cannot be opened: %s", s->path, err_text(err));
    }
    if (flock(s->dir, LOCK_EX | LOCK_NB))
        return why_set(why, ERR_BUSY, "the storage directory %s is in use by another process", s->path);
    return ERR_OK;
}

/* --- heads: all of them are looked at before anything is changed ------------------------------------------------------ */

static enum err read_head(struct file_store *s, const char *name, struct segment_head *head)
{
    int fd = s->io->open(s->io, s->dir, name, O_RDONLY, 0);

    memset(head, 0, sizeof *head);
    if (fd < 0)
        return err_from_errno(errno);
    (void)file_io_read_all(s->io, fd, head, sizeof *head, 0);
    s->io->close(s->io, fd);
    return segment_head_check(head);
}

static NODISCARD enum err check_formats(struct file_store *s, const struct found_segment *found, size_t n,
                                        struct state *state, struct why *why)
{
    enum err err;

    for (size_t i = 0; i < n; i++) {
        struct segment_head head;

        if (read_head(s, found[i].name, &head) == ERR_UNSUPPORTED)
            return why_set(why, ERR_UNSUPPORTED,
                           "%s/%s has format %u and was written by a newer version; this one knows formats up to %d: "
                           "install the newer version, or move the directory away",
                           s->path, found[i].name, head.version, SEGMENT_VERSION);
    }
    err = state_read(state, s->io, s->dir);
    if (err == ERR_UNSUPPORTED)
        return why_set(why, err, "%s/state was written by a newer version: install it, or move the directory away",
                       s->path);
    if (err && err != ERR_NOTFOUND)
        LOG_WARN(s->log, "the state file cannot be used: what waits is delivered from its beginning",
                 KV_Z("directory", s->path), KV_ERR(err));
    return ERR_OK;
}

/* --- one segment ----------------------------------------------------------------------------------------------------------- */

struct scan {
    struct walk walk;
    struct segment *segment;
    struct group_head head; /* of the group being passed */
    uint64_t group_end;     /* offset behind the records of the group being passed; 0: none, or its head was not seen */
    struct sum group;       /* found in it */
    bool is_damaged;        /* something in it could not be used */
    bool is_behind_group;   /* what comes next is a group's head */
    uint64_t last;          /* offset behind the last valid record */
    struct sum lost;
};

static void end_group(struct scan *scan, bool is_torn)
{
    const struct group_head *head = &scan->head;

    if (scan->group_end && scan->is_damaged && !is_torn) {
        if (head->n_events > scan->group.n_events)
            scan->lost.n_events += head->n_events - scan->group.n_events;
        if (head->n_values > scan->group.n_values)
            scan->lost.n_values += head->n_values - scan->group.n_values;
    }
    scan->group_end = 0;
    scan->group = (struct sum){0};
    scan->is_damaged = false;
}

/* --- what was in a stretch that no group head tells of ------------------------------------------------------------------ */

enum { STRETCH_MAX = 1024 * 1024, RECORD_LEAST = sizeof(struct record) + 8 };

/* By the lengths that its records give; false: they do not lead to its end. */
static bool follow_records(const uint8_t *p, size_t n, struct sum *sum)
{
    *sum = (struct sum){0};
    while (n) {
        struct record record;

        if (n < RECORD_LEAST)
            return false;
        memcpy(&record, p, sizeof record);
        if (record.size < RECORD_LEAST || record.size > n || record.size % 8)
            return false;
        sum_record(sum, &record);
        p += record.size;
        n -= record.size;
    }
    return true;
}

/* What the damage has left of heads is good enough to count with: one bit is wrong, mostly, and seldom there. */
static struct sum guess_stretch(const uint8_t *p, size_t n, bool may_be_head)
{
    struct sum sum = {0};
    struct record record;

    if (n < RECORD_LEAST || follow_records(p, n, &sum))
        return sum;
    if (may_be_head && n >= sizeof(struct group_head)) {
        p += sizeof(struct group_head);
        n -= sizeof(struct group_head);
        if (n < RECORD_LEAST || follow_records(p, n, &sum))
            return n < RECORD_LEAST ? (struct sum){0} : sum;
    }
    memcpy(&record, p, sizeof record); /* its length is what is wrong */
    return (struct sum){.n_events = 1, .n_values = record.n_values <= n / 4 ? record.n_values : 1};
}

static void count_stretch(struct scan *scan, uint64_t from, uint64_t to)
{
    const struct walk *walk = &scan->walk;
    size_t n = to - from < STRETCH_MAX ? (size_t)(to - from) : STRETCH_MAX;
    autofree uint8_t *bytes = mem_new(n);

    (void)file_io_read_all(walk->io, walk->fd, bytes, n, (off_t)from);
    struct sum sum = guess_stretch(bytes, n, scan->is_behind_group);

    scan->lost.n_events += sum.n_events;
    scan->lost.n_values += sum.n_values;
}

/* A stretch that cannot be used. What is behind the end of a group is not among what its head counts. */
static void note_bad(struct scan *scan, bool is_tail)
{
    const struct walk *walk = &scan->walk;
    uint64_t from = walk->from;

    scan->is_damaged = true;
    if (scan->group_end && from < scan->group_end)
        from = scan->group_end;
    scan->is_behind_group |= scan->group_end && walk->off > scan->group_end;
    if (!walk->is_zero && !is_tail && walk->off > from)
        count_stretch(scan, from, walk->off);
    scan->is_behind_group = false; /* the head of what follows was in it, if there was one */
}

static void keep_bad(struct file_store *s, struct scan *scan, bool is_tail)
{
    const struct walk *walk = &scan->walk;
    char name[QUARANTINE_NAME];
    enum err err = quarantine(s->io, s->dir, walk->fd, scan->segment->base, walk->from, walk->off, name);

    LOG_WARN(s->log, "a part of the storage cannot be used",
             KV_Z("why", is_tail ? "torn end: cut off" : "corrupt: skipped"), KV_Z("file", scan->segment->name),
             KV_UINT("offset", walk->from), KV_UINT("bytes", walk->off - walk->from),
             KV_Z("copy", err && err != ERR_EXISTS ? err_text(err) : name));
}

static void scan_segment(struct file_store *s, struct scan *scan, bool is_newest)
{
    struct walk *walk = &scan->walk;
    struct segment *segment = scan->segment;

    for (;;) {
        switch (walk_next(walk)) {
        case WALK_GROUP:
            end_group(scan, false);
            scan->head = walk->group;
            boots_note_group(&s->boots, segment->machine_boot, &walk->group, loop_earliest_ms(s->own));
            if (walk->group.wall_ms > segment->newest_wall_ms)
                segment->newest_wall_ms = walk->group.wall_ms;
            scan->group_end = walk->off + scan->head.n_bytes;
            scan->is_behind_group = false;
            continue;
        case WALK_RECORD:
            sum_record(&segment->all, walk->record);
            boots_note_record(&s->boots, segment->machine_boot, walk->record);
            if (walk->off <= scan->group_end)
                sum_record(&scan->group, walk->record);
            file_count_found_device(s, walk->record, segment->pos + walk->off);
            scan->last = walk->off;
            scan->is_behind_group = walk->off == scan->group_end;
            continue;
        case WALK_BAD:
            note_bad(scan, is_newest && walk->off >= walk->end);
            if (walk->off < walk->end || !walk->is_zero)
                keep_bad(s, scan, is_newest && walk->off >= walk->end);
            if (walk->off < walk->end)
                continue;
            break;
        case WALK_END:
            break;
        }
        end_group(scan, is_newest && !walk->n_unread && scan->last < scan->group_end);
        return;
    }
}

static void note_lost(struct file_store *s, struct segment *segment, struct sum lost, const struct state_segment *known)
{
    uint64_t n_events = known ? known->n_lost_events : 0, n_values = known ? known->n_lost_values : 0;

    if (lost.n_events > n_events)
        add(&s->n_door_events, lost.n_events - n_events);
    if (lost.n_values > n_values) {
        add(&s->n_door_values, lost.n_values - n_values);
        add(&s->n_damaged_values, lost.n_values - n_values);
    }
    segment->lost.n_events = lost.n_events > n_events ? lost.n_events : n_events;
    segment->lost.n_values = lost.n_values > n_values ? lost.n_values : n_values;
    s->is_unsaved |= lost.n_events > n_events || lost.n_values > n_values;
}

static void cut(struct file_store *s, struct segment *segment)
{
    int fd;

    if (segment->n_file <= segment->end)
        return;
    fd = s->io->open(s->io, s->dir, segment->name, O_RDWR, 0);
    if (fd < 0)
        return;
    if (s->io->truncate(s->io, fd, (off_t)segment->end) == 0) {
        s->files_bytes -= segment->n_file - segment->end;
        segment->n_file = segment->end;
    }
    s->io->close(s->io, fd);
}

/* Adds it to the list, unless nothing in it waits. */
static void recover_segment(struct file_store *s, const struct found_segment *found, const struct state *state,
                            bool is_newest)
{
    struct segment_head head;
    enum err err = read_head(s, found->name, &head);
    struct segment *segment = file_segment_new(found->base, err ? 0 : head.boot);
    const struct state_segment *known = err ? NULL : state_find(state, found->base, head.boot);
    struct scan scan = {.segment = segment, .last = HEAD, .is_behind_group = true};
    uint64_t end = found->size;
    int fd = s->io->open(s->io, s->dir, found->name, O_RDONLY, 0);

    if (fd < 0) { /* it stays as it is, for the next start */
        LOG_ERROR(s->log, "a segment cannot be read", KV_Z("file", found->name), KV_ERR(err_from_errno(errno)));
        mem_free(segment);
        return;
    }
    segment->has_file = segment->is_synced = true;
    segment->n_file = found->size;
    segment->order = found->order;
    segment->pos = s->pos;
    s->pos += (found->size + 7) & ~(uint64_t)7;
    segment->created_ms = err ? 0 : head.created_ms;
    segment->machine_boot = boots_add(&s->boots, err ? (const uint8_t[16]){0} : head.machine);
    if (known && known->end >= HEAD && known->end < end) {
        end = known->end;
        segment->is_cut = true;
    }
    if (found->end < end) {
        end = found->end;
        segment->is_cut = true;
    }
    if (known && known->acked > HEAD && known->acked % 8 == 0)
        segment->start = scan.last = known->acked < end ? known->acked : end;
    if (segment->start < end) {
        walk_init(&scan.walk, s->io, fd, segment->start, end);
        scan_segment(s, &scan, is_newest);
        walk_fini(&scan.walk);
    }
    s->io->close(s->io, fd);
    segment->is_unread = scan.walk.n_unread > 0;
    if (segment->is_unread) {
        LOG_ERROR(s->log, "a segment cannot be read in full, its file is kept", KV_Z("file", found->name),
                  KV_UINT("bytes", scan.walk.n_unread));
        if (segment->all.n_bytes == 0) { /* for the next start */
            mem_free(segment);
            return;
        }
    }
    segment->end = scan.last;
    note_lost(s, segment, scan.lost, known);
    counters_add(&s->in, segment->all);
    s->files_bytes += segment->n_file;
    list_add_tail(&s->lanes[LANE_LIVE].segments, &segment->node);
    if (segment->all.n_bytes == 0)
        file_segment_remove(&s->lanes[LANE_LIVE], segment);
    else if (!segment->is_unread)
        cut(s, segment);
}

/* --- exported ---------------------------------------------------------------------------------------------------------------- */

/* What no store reaches; a name above it is not one of ours, and what follows it could be given twice. */
static const uint64_t highest = UINT64_C(1) << 62;

static void raise_to(uint64_t *next, uint64_t base, uint64_t n)
{
    if (base < highest && n < highest && base + n > *next)
        *next = base + n;
}

static uint64_t after(const struct found_segment *found, size_t n, const struct state *state)
{
    uint64_t next = 0;

    raise_to(&next, state->next, 0);

    for (size_t i = 0; i < n; i++)
        raise_to(&next, found[i].base, found[i].size > HEAD ? found[i].size : HEAD); /* its name is not given again */
    for (size_t i = 0; i < state->n_segments; i++)
        raise_to(&next, state->segments[i].base, state->segments[i].acked);
    return (next + 7) & ~(uint64_t)7;
}

/* The end of a lane, where a torn record is no wonder. */
static bool is_newest(const struct found_segment *found, size_t i, size_t n)
{
    return i + 1 == n || (found[i].order != found[i + 1].order && found[i].order / 2 == found[n - 1].order / 2);
}

enum err file_recover(struct file_store *s, struct why *why)
{
    autofree struct found_segment *found = NULL;
    struct state state = {0};
    struct lane *live = &s->lanes[LANE_LIVE];
    struct sum waiting;
    size_t n = 0;
    enum err err = open_directory(s, why);

    if (!err)
        err = segments_find(s->io, s->dir, &found, &n);
    if (err)
        why_set(why, err, "what lies in the storage directory %s cannot be read: %s", s->path, err_text(err));
    if (!err)
        err = check_formats(s, found, n, &state, why);
    if (err)
        return err;
    while (getrandom(&s->boot, sizeof s->boot, 0) != sizeof s->boot || !s->boot)
        ;
    atomic_store(&s->out.n_values, state.n_acked_values);
    atomic_store(&s->in.n_values, state.n_acked_values);
    atomic_store(&s->n_door_events, state.n_dropped_events);
    atomic_store(&s->n_door_values, state.n_dropped_values);
    s->next = after(found, n, &state);
    segments_order(s->io, s->dir, found, n);
    s->n_orders = n ? found[n - 1].order / 2 : 0;
    boots_init(&s->boots);
    for (size_t i = 0; i < n; i++)
        recover_segment(s, &found[i], &state, is_newest(found, i, n));
    boots_settle(&s->boots);
    state_fini(&state);
    waiting = file_waiting(s);
    if (waiting.n_events)
        LOG_INFO(s->log, "records wait for delivery", KV_UINT("events", waiting.n_events),
                 KV_UINT("values", waiting.n_values), KV_UINT("bytes", waiting.n_bytes));
    if (!list_is_empty(&live->segments)) {
        live->reading = segment_of(live->segments.next);
        live->read_off = live->reading->start;
    }
    if (s->is_unsaved)
        timer_start(&s->save, SAVE_MS), atomic_store(&s->is_saving, true);
    return ERR_OK;
}
