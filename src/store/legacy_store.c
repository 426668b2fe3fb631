/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory of type file or sqlite after the configuration names another type: its segments are read in the order of
 * delivery, its state file says how far. What it says about devices' links is out of date and left out.
 */
#include "store/legacy.h"

#include "base/clock.h"
#include "data/device.h"
#include "store/file_boots.h"
#include "store/file_format.h"
#include "store/sqlite.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { READ_TRIES = 10 }; /* of what the disk does not give, before it is skipped */

struct former {
    struct legacy legacy;
    const struct file_io *io;
    int dir;
    struct found_segment *all;
    size_t n, first, at; /* first: the oldest that still is there; at: being read */
    struct state state;
    struct walk walk;
    int fd; /* of walk; -1: not open */
    uint64_t boot, passed;
    struct boots boots; /* of the machine; looked at when a time is unsure */
    bool has_boots;
    uint8_t machine[16]; /* of the segment being read */
    unsigned n_tries;
    bool must_wait;
    struct legacy_ends ends; /* place: offset */
};

static struct former *former_of(struct legacy *legacy)
{
    return CONTAINER_OF(legacy, struct former, legacy);
}

/* --- reading ------------------------------------------------------------------------------------------------------------------ */

static void close_segment(struct former *f)
{
    if (f->fd < 0)
        return;
    walk_fini(&f->walk);
    f->io->close(f->io, f->fd);
    f->fd = -1;
}

static enum err open_segment(struct former *f, struct why *why)
{
    const struct found_segment *segment = &f->all[f->at];
    const struct state_segment *known;
    struct segment_head head = {0};
    uint64_t from = sizeof head, end = segment->size;

    if (f->fd >= 0)
        return ERR_OK;
    f->fd = f->io->open(f->io, f->dir, segment->name, O_RDONLY, 0);
    if (f->fd < 0)
        return why_set(why, err_from_errno(errno), "%s/%s cannot be opened: %s", f->legacy.path, segment->name,
                       err_text(err_from_errno(errno)));
    (void)file_io_read_all(f->io, f->fd, &head, sizeof head, 0);
    f->boot = segment_head_check(&head) ? 0 : head.boot;
    memcpy(f->machine, f->boot ? head.machine : (const uint8_t[16]){0}, sizeof f->machine);
    known = f->boot ? state_find(&f->state, segment->base, f->boot) : NULL;
    if (known && known->end >= from && known->end < end)
        end = known->end;
    if (segment->end < end)
        end = segment->end;
    if (known && known->acked > from && known->acked % 8 == 0)
        from = known->acked < end ? known->acked : end;
    walk_init(&f->walk, f->io, f->fd, from, end);
    f->passed = from;
    return ERR_OK;
}

static void report_bad(struct former *f)
{
    const struct walk *walk = &f->walk;
    char name[QUARANTINE_NAME];
    enum err err;

    if (walk->is_zero && walk->off >= walk->end)
        return;
    f->legacy.n_corrupt++;
    err = quarantine(f->io, f->dir, f->fd, f->all[f->at].base, walk->from, walk->off, name);
    LOG_ERROR(f->legacy.log, "a corrupt stretch of the storage is skipped", KV_Z("directory", f->legacy.path),
              KV_Z("file", f->all[f->at].name), KV_UINT("offset", walk->from), KV_UINT("bytes", walk->off - walk->from),
              KV_Z("copy", err && err != ERR_EXISTS ? err_text(err) : name));
}

/* All of it is read once more, which is rare: only when it was stored before the clock was set. */
static void look_at_boots(struct former *f)
{
    if (f->has_boots)
        return;
    f->has_boots = true;
    boots_init(&f->boots);
    for (size_t i = f->at; i < f->n; i++) {
        struct segment_head head = {0};
        struct walk walk;
        int fd = f->io->open(f->io, f->dir, f->all[i].name, O_RDONLY, 0);

        if (fd < 0)
            continue;
        (void)file_io_read_all(f->io, fd, &head, sizeof head, 0);
        size_t number = boots_add(&f->boots, segment_head_check(&head) ? (const uint8_t[16]){0} : head.machine);

        walk_init(&walk, f->io, fd, sizeof head, f->all[i].size);
        for (enum walk_step step; (step = walk_next(&walk)) != WALK_END;) {
            if (step == WALK_GROUP)
                boots_note_group(&f->boots, number, &walk.group, clock_build_ms);
            else if (step == WALK_RECORD)
                boots_note_record(&f->boots, number, walk.record);
        }
        walk_fini(&walk);
        f->io->close(f->io, fd);
    }
    boots_settle(&f->boots);
}

/* As a record of this process: devices have other numbers now. */
static bool take_record(struct former *f, struct legacy_chunk *chunk)
{
    const struct record *record = f->walk.record;
    struct device *dev = device_get(record_name(record));
    size_t at = chunk->bytes.n;
    struct record *copy;

    if (!dev || (record->kind != RECORD_TELEMETRY && record->kind != RECORD_ATTRIBUTES))
        return false;
    buf_add(&chunk->bytes, record, record->size);
    copy = (struct record *)(void *)(chunk->bytes.p + at);
    copy->dev = dev->number;
    if (UNLIKELY(copy->flags & RECORD_TIME_UNSURE)) {
        look_at_boots(f);
        boots_adopt(&f->boots, boots_add(&f->boots, f->machine), copy);
    }
    record_seal(copy, record_body(copy).n + record_meta(copy).n);
    return true;
}

/* At the end of an event, where a chunk may end. */
static void end_event(struct former *f, struct legacy_chunk *chunk, size_t *begin)
{
    if (chunk->bytes.n > *begin)
        legacy_chunk_add(chunk, *begin, f->walk.from, f->walk.group.wall_ms);
    *begin = chunk->bytes.n;
    f->passed = f->walk.off;
}

/* True: what the disk did not give is asked for again, later; false: that was in vain, and its file is kept. */
static bool waits_for_disk(struct former *f)
{
    if (!f->walk.n_unread)
        return false;
    if (f->n_tries++ == READ_TRIES) {
        f->n_tries = 0;
        f->all[f->at].is_unread = true;
        return false;
    }
    walk_again(&f->walk, f->walk.from);
    f->must_wait = true;
    return true;
}

static bool read_segment(struct former *f, struct legacy_chunk *chunk)
{
    size_t begin = 0;

    while (!legacy_chunk_is_full(chunk) || begin < chunk->bytes.n) {
        switch (walk_next(&f->walk)) {
        case WALK_END:
            end_event(f, chunk, &begin);
            return false;
        case WALK_BAD:
            if (waits_for_disk(f)) {
                end_event(f, chunk, &begin);
                return true;
            }
            report_bad(f);
            end_event(f, chunk, &begin);
            break;
        case WALK_GROUP:
            break;
        case WALK_RECORD:
            (void)take_record(f, chunk);
            if (f->walk.record->flags & RECORD_END)
                end_event(f, chunk, &begin);
            break;
        }
        if (chunk->n_items == LEGACY_ITEMS)
            break;
    }
    return true;
}

static enum err former_read(struct legacy *legacy, struct legacy_chunk *chunk, struct why *why)
{
    struct former *f = former_of(legacy);

    while (f->at < f->n) {
        enum err err = open_segment(f, why);
        bool has_more;

        if (err)
            return err;
        legacy_chunk_begin(chunk, f->all[f->at].name);
        chunk->is_records = true;
        has_more = read_segment(f, chunk);
        if (chunk->n_items)
            legacy_ends_add(&f->ends, chunk, f->at, f->passed);
        if (!has_more) {
            close_segment(f);
            f->at++;
        }
        if (chunk->n_items)
            return ERR_OK;
        if (f->must_wait) {
            f->must_wait = false;
            return why_set(why, ERR_IO, "%s/%s cannot be read", f->legacy.path, f->all[f->at].name);
        }
    }
    chunk->n_items = 0;
    return ERR_OK;
}

/* --- what is done ---------------------------------------------------------------------------------------------------------- */

static enum err write_state(struct former *f, struct why *why)
{
    autobuf struct buf text = {0};
    int number = 0, fd = f->io->open(f->io, f->dir, "state.new", O_WRONLY | O_CREAT | O_TRUNC, 0640);

    state_print(&f->state, &text);
    if (fd < 0)
        number = errno;
    else if (file_io_write_all(f->io, fd, &(struct iovec){text.p, text.n}, 1, 0) || f->io->fdatasync(f->io, fd))
        number = errno;
    if (fd >= 0)
        f->io->close(f->io, fd);
    if (!number && f->io->rename(f->io, f->dir, "state.new", "state"))
        number = errno;
    return number ? why_set(why, err_from_errno(number), "%s/state cannot be written: %s", f->legacy.path,
                            err_text(err_from_errno(number)))
                  : ERR_OK;
}

static void note(struct former *f, const struct legacy_end *end, uint64_t boot)
{
    const struct state_segment *known = state_find(&f->state, f->all[end->file].base, boot);

    if (known) {
        f->state.segments[known - f->state.segments].acked = end->place;
        return;
    }
    f->state.segments = mem_grow(f->state.segments, (f->state.n_segments + 1) * sizeof *f->state.segments);
    f->state.segments[f->state.n_segments++] =
        (struct state_segment){.base = f->all[end->file].base, .boot = boot, .acked = end->place};
}

static uint64_t boot_of(struct former *f, size_t i)
{
    struct segment_head head = {0};
    int fd = f->io->open(f->io, f->dir, f->all[i].name, O_RDONLY, 0);

    if (fd < 0)
        return 0;
    (void)file_io_read_all(f->io, fd, &head, sizeof head, 0);
    f->io->close(f->io, fd);
    return segment_head_check(&head) ? 0 : head.boot;
}

static enum err remove_before(struct former *f, size_t before, struct why *why)
{
    for (; f->first < before; f->first++) {
        if (f->all[f->first].is_unread && quarantine_segment(f->io, f->dir, f->all[f->first].name) == ERR_OK)
            continue;
        if (f->io->unlink(f->io, f->dir, f->all[f->first].name) && errno != ENOENT)
            return why_set(why, err_from_errno(errno), "%s/%s cannot be removed: %s", f->legacy.path,
                           f->all[f->first].name, err_text(err_from_errno(errno)));
    }
    return ERR_OK;
}

static enum err former_done(struct legacy *legacy, uint64_t number, struct why *why)
{
    struct former *f = former_of(legacy);
    struct legacy_end end;
    uint64_t boot;
    enum err err = ERR_OK;

    if (!legacy_ends_find(&f->ends, number, &end))
        return ERR_OK;
    boot = boot_of(f, end.file);
    if (boot) { /* else its head is damaged, and it is read from its beginning */
        note(f, &end, boot);
        err = write_state(f, why);
    }
    if (!err)
        err = remove_before(f, end.file, why);
    if (!err)
        legacy_ends_drop(&f->ends, number);
    return err;
}

static enum err former_finish(struct legacy *legacy, struct why *why)
{
    struct former *f = former_of(legacy);
    enum err err;

    assert(f->at == f->n && !f->ends.n);
    close_segment(f);
    err = remove_before(f, f->n, why);
    if (!err && (f->io->fsync(f->io, f->dir) || (f->io->unlink(f->io, f->dir, "state") && errno != ENOENT)))
        err = why_set(why, err_from_errno(errno), "%s/state cannot be removed: %s", f->legacy.path,
                      err_text(err_from_errno(errno)));
    return err;
}

/* --- life --------------------------------------------------------------------------------------------------------------------- */

static void former_free(struct legacy *legacy)
{
    struct former *f = former_of(legacy);

    close_segment(f);
    boots_fini(&f->boots);
    if (f->dir >= 0)
        f->io->close(f->io, f->dir);
    if (f->io->free)
        f->io->free(f->io);
    mem_free(f->all);
    state_fini(&f->state);
    mem_free(f->legacy.path);
    mem_free(f);
}

/* Nothing is changed in what a newer version wrote. */
static enum err check_formats(struct former *f, struct why *why)
{
    enum err err = state_read(&f->state, f->io, f->dir);

    for (size_t i = 0; i < f->n && err != ERR_UNSUPPORTED; i++) {
        struct segment_head head = {0};
        int fd = f->io->open(f->io, f->dir, f->all[i].name, O_RDONLY, 0);

        if (fd < 0)
            continue;
        (void)file_io_read_all(f->io, fd, &head, sizeof head, 0);
        f->io->close(f->io, fd);
        if (segment_head_check(&head) == ERR_UNSUPPORTED)
            err = ERR_UNSUPPORTED;
    }
    return err == ERR_UNSUPPORTED ? why_set(why, err, "%s was written by a newer version", f->legacy.path) : ERR_OK;
}

static enum err open_former(struct former *f, struct why *why)
{
    enum err err = segments_find(f->io, f->dir, &f->all, &f->n);

    if (err)
        return why_set(why, err, "%s cannot be read: %s", f->legacy.path, err_text(err));
    if (!f->n)
        return ERR_OK;
    segments_order(f->io, f->dir, f->all, f->n);
    for (size_t i = 0; i < f->n; i++)
        f->legacy.n_bytes += f->all[i].size;
    err = check_formats(f, why);
    return err ? err : legacy_check_writable(f->legacy.path, why);
}

static const struct file_io *medium(const char *dir, bool is_sqlite, struct log *log, struct why *why)
{
    const struct sqlite_api *api = is_sqlite ? sqlite_load(why) : NULL;

    return !is_sqlite ? &file_io_system : api ? api->drain(dir, log) : NULL;
}

enum err legacy_store_open(struct legacy **out, const char *dir, bool is_sqlite, struct log *log, struct why *why)
{
    static const struct legacy_ops ops = {former_read, former_done, former_finish, former_free};
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct former *f;
    enum err err;

    *out = NULL;
    if (fd < 0 || (is_sqlite && !sqlite_is_there(fd))) {
        if (fd >= 0)
            close(fd);
        return ERR_OK;
    }
    f = mem_zero(sizeof *f);
    f->legacy =
        (struct legacy){.ops = &ops,
                        .title = is_sqlite ? "a former storage of type sqlite" : "a former storage of type file",
                        .path = mem_dup(dir),
                        .log = log};
    f->fd = -1;
    f->dir = fd;
    f->io = medium(dir, is_sqlite, log, why);
    if (!f->io) {
        close(fd);
        mem_free(f->legacy.path);
        mem_free(f);
        return ERR_NOTFOUND;
    }
    err = open_former(f, why);
    if (!err && f->n)
        *out = &f->legacy;
    else
        former_free(&f->legacy);
    return err;
}
