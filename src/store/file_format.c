/* SPDX-License-Identifier: Apache-2.0 */
#include "store/file_format.h"

#include "base/crc.h"
#include "data/batch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WINDOW = 256 * 1024, STATE_MAX = 4 * 1024 * 1024, QUARANTINE_FILES = 100, COPY = 64 * 1024, READ_TRIES = 3 };
static const char segment_magic[8] = {'I', 'O', 'T', 'G', 'W', 'L', 'O', 'G'};

/* --- heads and names -------------------------------------------------------------------------------------------------- */

static uint32_t crc_from(const void *p, size_t from, size_t n)
{
    return crc32c(0, (const char *)p + from, n - from);
}

/* Of the version and of what follows the sum: the same in all versions. */
static uint32_t crc_of_head(const struct segment_head *head)
{
    uint32_t crc = crc32c(0, &head->version, sizeof head->version);
    size_t from = offsetof(struct segment_head, base);

    return crc32c(crc, (const char *)head + from, sizeof *head - from);
}

void segment_machine(uint8_t out[16])
{
    char text[40] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    unsigned n = 0;

    memset(out, 0, 16);
    if (fd < 0)
        return;
    if (read(fd, text, sizeof text - 1) > 0)
        for (const char *p = text; *p && n < 32; p++) {
            int digit = *p >= '0' && *p <= '9' ? *p - '0' : *p >= 'a' && *p <= 'f' ? *p - 'a' + 10 : -1;

            if (digit < 0)
                continue;
            out[n / 2] = (uint8_t)(out[n / 2] << 4 | digit);
            n++;
        }
    close(fd);
}

void segment_head_make(struct segment_head *head, uint64_t base, uint64_t boot, int64_t created_ms, uint64_t order)
{
    *head = (struct segment_head){
        .version = SEGMENT_VERSION, .base = base, .boot = boot, .created_ms = created_ms, .order = order};
    memcpy(head->magic, segment_magic, sizeof segment_magic);
    segment_machine(head->machine);
    head->crc = crc_of_head(head);
}

enum err segment_head_check(const struct segment_head *head)
{
    if (memcmp(head->magic, segment_magic, sizeof segment_magic) != 0)
        return ERR_CORRUPT;
    if (head->crc != crc_of_head(head)) /* so that a flipped bit does not pass for a newer version */
        return ERR_CORRUPT;
    return head->version > SEGMENT_VERSION ? ERR_UNSUPPORTED : ERR_OK;
}

void segment_name(char name[SEGMENT_NAME], uint64_t base)
{
    snprintf(name, SEGMENT_NAME, "events-%016" PRIx64 ".log", base);
}

bool segment_name_parse(const char *name, uint64_t *base)
{
    char again[SEGMENT_NAME];

    if (sscanf(name, "events-%16" SCNx64 ".log", base) != 1)
        return false;
    segment_name(again, *base);
    return strcmp(name, again) == 0;
}

void group_head_seal(struct group_head *head)
{
    head->magic = GROUP_MAGIC;
    head->crc = crc_from(head, offsetof(struct group_head, wall_ms), sizeof *head);
}

bool group_head_is_right(const void *p)
{
    const struct group_head *head = p;

    return head->magic == GROUP_MAGIC && head->n_bytes % 8 == 0 && head->n_bytes >= sizeof(struct record) &&
           head->crc == crc_from(head, offsetof(struct group_head, wall_ms), sizeof *head);
}

void cut_head_make(struct cut_head *cut, uint64_t base, uint64_t end)
{
    *cut = (struct cut_head){.magic = GROUP_MAGIC, .base = base, .end = end};
    cut->crc = crc_from(cut, offsetof(struct cut_head, base), sizeof *cut);
}

bool cut_head_is_right(const void *p)
{
    const struct cut_head *cut = p;

    return cut->magic == GROUP_MAGIC && !cut->zero && cut->end % 8 == 0 && cut->end >= sizeof(struct segment_head) &&
           cut->crc == crc_from(cut, offsetof(struct cut_head, base), sizeof *cut);
}

/* --- walking ----------------------------------------------------------------------------------------------------------- */

void walk_init(struct walk *walk, const struct file_io *io, int fd, uint64_t off, uint64_t end)
{
    *walk = (struct walk){.io = io, .fd = fd, .off = off, .end = end};
}

void walk_fini(struct walk *walk)
{
    mem_free(walk->window);
    walk->window = NULL;
    walk->window_n = walk->window_cap = 0;
}

void walk_again(struct walk *walk, uint64_t off)
{
    walk->off = off;
    walk->window_n = 0;
    walk->n_unread = 0;
}

/* n bytes at off, or NULL: there are not so many. */
static const uint8_t *look(struct walk *walk, uint64_t off, size_t n)
{
    size_t want = n > WINDOW ? n : WINDOW, n_unread = 0;

    if (walk->end < off || walk->end - off < n)
        return NULL;
    if (off >= walk->window_at && off + n <= walk->window_at + walk->window_n)
        return walk->window + (off - walk->window_at);
    if (want > walk->window_cap || walk->window_cap > 4 * want) {
        mem_free(walk->window);
        walk->window = mem_new(want); /* at most BATCH_MAX_BYTES; a record is not lost because memory is short */
        walk->window_cap = want;
    }
    if (want > walk->end - off)
        want = (size_t)(walk->end - off);
    for (int i = 0; i < READ_TRIES && (!i || n_unread); i++) /* a disk that stumbles gives it at the second time */
        n_unread = file_io_read_all(walk->io, walk->fd, walk->window, want, (off_t)off);
    walk->n_unread += n_unread;
    walk->window_at = off;
    walk->window_n = want;
    return walk->window;
}

/* What can be said without the bytes behind the head, so that garbage does not make us read megabytes. */
static bool is_plausible(const struct record *record, uint64_t left)
{
    return record->size % 8 == 0 && record->size >= sizeof *record && record->size <= left &&
           record->size <= BATCH_MAX_BYTES && record->name_n > 0 && record->name_n <= RECORD_NAME_MAX &&
           record->profile_n <= RECORD_PROFILE_MAX && record->kind >= RECORD_TELEMETRY &&
           record->kind <= RECORD_DISCONNECT;
}

static enum walk_step what_is_at(struct walk *walk, uint64_t off)
{
    const uint8_t *p = look(walk, off, sizeof(struct record));
    uint32_t size;

    if (!p)
        return WALK_END;
    if (group_head_is_right(p)) {
        memcpy(&walk->group, p, sizeof walk->group);
        walk->off = off + sizeof walk->group;
        return WALK_GROUP;
    }
    if (!is_plausible((const struct record *)(const void *)p, walk->end - off))
        return WALK_BAD;
    size = ((const struct record *)(const void *)p)->size;
    p = look(walk, off, size);
    if (!p || record_check(p, size))
        return WALK_BAD;
    walk->record = (const struct record *)(const void *)p;
    walk->off = off + size;
    return WALK_RECORD;
}

/* Nothing begins with a zero: what is reserved and not written is passed at the speed of memory. */
static uint64_t behind_zeroes(const struct walk *walk, uint64_t off)
{
    uint64_t end = walk->window_at + walk->window_n;

    end = end < walk->end ? end : walk->end;
    while (off + sizeof(uint64_t) <= end &&
           *(const uint64_t *)(const void *)(walk->window + (off - walk->window_at)) == 0)
        off += sizeof(uint64_t);
    return off;
}

enum walk_step walk_next(struct walk *walk)
{
    enum walk_step step;
    uint64_t off = walk->off;

    for (const uint8_t *p; (p = look(walk, off, sizeof(struct cut_head))) && cut_head_is_right(p);)
        walk->off = off += sizeof(struct cut_head);
    walk->from = off;
    step = what_is_at(walk, off);
    if (step == WALK_GROUP || step == WALK_RECORD || off >= walk->end)
        return step;
    walk->is_zero = true;
    while (step == WALK_BAD) {
        const uint64_t *word = (const uint64_t *)(const void *)look(walk, off, sizeof *word);

        if (word && *word == 0)
            off = behind_zeroes(walk, off);
        else
            off += sizeof *word, walk->is_zero = false;
        step = what_is_at(walk, off);
    }
    if (step == WALK_END) {
        for (; off < walk->end; off++) {
            const uint8_t *byte = look(walk, off, 1);

            walk->is_zero &= byte && *byte == 0;
        }
    }
    walk->off = off;
    return WALK_BAD;
}

/* --- the state file ------------------------------------------------------------------------------------------------------ */

static const char state_title[] = "iotgw store state ";

void state_print(const struct state *state, struct buf *out)
{
    size_t from = out->n;

    buf_printf(out, "%s%d\nnext %" PRIx64 "\nacked %" PRIu64 "\ndropped %" PRIu64 " %" PRIu64 "\n", state_title,
               STATE_VERSION, state->next, state->n_acked_values, state->n_dropped_events, state->n_dropped_values);
    for (size_t i = 0; i < state->n_segments; i++) {
        const struct state_segment *segment = &state->segments[i];

        buf_printf(out,
                   "segment %016" PRIx64 " boot %016" PRIx64 " acked %" PRIu64 " end %" PRIu64 " lost %" PRIu64
                   " %" PRIu64 "\n",
                   segment->base, segment->boot, segment->acked, segment->end, segment->n_lost_events,
                   segment->n_lost_values);
    }
    buf_printf(out, "crc %08" PRIx32 "\n", crc32c(0, out->p + from, out->n - from));
}

static enum err parse_line(struct state *state, const char *line)
{
    struct state_segment segment;

    if (sscanf(line, "next %" SCNx64, &state->next) == 1 || sscanf(line, "acked %" SCNu64, &state->n_acked_values) == 1)
        return ERR_OK;
    if (sscanf(line, "dropped %" SCNu64 " %" SCNu64, &state->n_dropped_events, &state->n_dropped_values) == 2)
        return ERR_OK;
    if (sscanf(line, "segment %" SCNx64 " boot %" SCNx64 " acked %" SCNu64 " end %" SCNu64 " lost %" SCNu64 " %" SCNu64,
               &segment.base, &segment.boot, &segment.acked, &segment.end, &segment.n_lost_events,
               &segment.n_lost_values) != 6)
        return ERR_CORRUPT;
    state->segments = mem_grow(state->segments, (state->n_segments + 1) * sizeof *state->segments);
    state->segments[state->n_segments++] = segment;
    return ERR_OK;
}

static enum err parse_state(struct state *state, char *text, size_t n)
{
    char *end = text + n, *crc = NULL;
    uint32_t sum;
    int version;

    text[n] = 0;
    if (sscanf(text, "iotgw store state %d", &version) != 1)
        return ERR_CORRUPT;
    if (version > STATE_VERSION)
        return ERR_UNSUPPORTED;
    for (char *p = text; p < end; p++)
        if (*p == '\n' && strncmp(p + 1, "crc ", 4) == 0)
            crc = p + 1;
    if (!crc || sscanf(crc, "crc %8" SCNx32, &sum) != 1 || sum != crc32c(0, text, (size_t)(crc - text)))
        return ERR_CORRUPT;
    *crc = 0;
    for (char *line = strchr(text, '\n'); line && line[1]; line = strchr(line + 1, '\n'))
        if (parse_line(state, line + 1))
            return ERR_CORRUPT;
    return ERR_OK;
}

enum err state_read(struct state *state, const struct file_io *io, int dir)
{
    int fd = io->open(io, dir, "state", O_RDONLY, 0);
    struct stat info;
    enum err err = ERR_CORRUPT;

    *state = (struct state){0};
    if (fd < 0)
        return errno == ENOENT ? ERR_NOTFOUND : err_from_errno(errno);
    if (fstat(fd, &info) == 0 && info.st_size > 0 && info.st_size < STATE_MAX) {
        size_t n = (size_t)info.st_size;
        autofree char *text = mem_new(n + 1);

        if (file_io_read_all(io, fd, text, n, 0) == 0)
            err = parse_state(state, text, n);
    }
    io->close(io, fd);
    if (err)
        state_fini(state);
    return err;
}

void state_fini(struct state *state)
{
    mem_free(state->segments);
    *state = (struct state){0};
}

const struct state_segment *state_find(const struct state *state, uint64_t base, uint64_t boot)
{
    for (size_t i = 0; i < state->n_segments; i++)
        if (state->segments[i].base == base && state->segments[i].boot == boot)
            return &state->segments[i];
    return NULL;
}

/* --- the directory --------------------------------------------------------------------------------------------------------- */

static int by_base(const void *a, const void *b)
{
    const struct found_segment *x = a, *y = b;

    return x->base < y->base ? -1 : x->base > y->base;
}

static DIR *open_dir(int dir, const char *name)
{
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);

    if (fd >= 0 && !list)
        close(fd);
    return list;
}

struct finding {
    struct found_segment *segments;
    size_t n;
};

static void found(void *arg, const char *name, uint64_t size)
{
    struct finding *finding = arg;
    struct found_segment segment = {.size = size, .end = UINT64_MAX};

    if (!segment_name_parse(name, &segment.base))
        return;
    segment_name(segment.name, segment.base);
    finding->segments = mem_grow(finding->segments, (finding->n + 1) * sizeof *finding->segments);
    finding->segments[finding->n++] = segment;
}

enum err segments_find(const struct file_io *io, int dir, struct found_segment **out, size_t *n)
{
    struct finding finding = {0};
    enum err err = io->list(io, dir, found, &finding) ? err_from_errno(errno) : ERR_OK;

    *out = finding.segments;
    *n = finding.n;
    if (*n)
        qsort(*out, *n, sizeof **out, by_base);
    return err;
}

static int by_order(const void *a, const void *b)
{
    const struct found_segment *x = a, *y = b;

    return x->order != y->order ? (x->order < y->order ? -1 : 1) : by_base(a, b);
}

struct beginning { /* of a segment */
    struct segment_head head;
    struct cut_head cut;
    bool is_right, has_cut;
};

static void read_beginning(const struct file_io *io, int dir, const char *name, struct beginning *out)
{
    uint8_t bytes[sizeof out->head + sizeof out->cut] = {0};
    int fd = io->open(io, dir, name, O_RDONLY, 0);

    if (fd >= 0) {
        (void)file_io_read_all(io, fd, bytes, sizeof bytes, 0);
        io->close(io, fd);
    }
    memcpy(&out->head, bytes, sizeof out->head);
    memcpy(&out->cut, bytes + sizeof out->head, sizeof out->cut);
    out->is_right = segment_head_check(&out->head) == ERR_OK;
    out->has_cut = out->is_right && cut_head_is_right(&out->cut);
}

/* By what segment i says: the one it names ends there, and those between that say the same hold nothing. */
static void cut_others(struct found_segment *found, const struct beginning *of, size_t i)
{
    for (size_t k = 0; of[i].has_cut && k < i; k++) {
        if (!of[k].is_right || of[k].head.boot != of[i].head.boot)
            continue;
        if (found[k].base == of[i].cut.base && of[i].cut.end < found[k].end)
            found[k].end = of[i].cut.end;
        if (of[k].has_cut && of[k].cut.base == of[i].cut.base && of[k].cut.end == of[i].cut.end)
            found[k].end = sizeof(struct segment_head);
    }
}

void segments_order(const struct file_io *io, int dir, struct found_segment *found, size_t n)
{
    autofree struct beginning *of = mem_zero((n + 1) * sizeof *of);

    for (size_t i = 0; i < n; i++) {
        read_beginning(io, dir, found[i].name, &of[i]);
        found[i].order = of[i].is_right ? of[i].head.order : i ? found[i - 1].order : 0;
        cut_others(found, of, i);
    }
    if (n)
        qsort(found, n, sizeof *found, by_order);
}

static bool is_crowded(int dir)
{
    DIR *list = open_dir(dir, "quarantine");
    unsigned n = 0;

    if (!list)
        return false;
    while (readdir(list))
        n++;
    closedir(list);
    return n >= QUARANTINE_FILES + 2; /* "." and ".." */
}

enum err quarantine(const struct file_io *io, int dir, int fd, uint64_t base, uint64_t from, uint64_t to,
                    char name[QUARANTINE_NAME])
{
    autofree char *bytes = mem_new(COPY);
    int out, failed = 0;

    snprintf(name, QUARANTINE_NAME, "quarantine/events-%016" PRIx64 "-%" PRIu64 "-%" PRIu64 ".bin", base, from, to);
    if (io->mkdir(io, dir, "quarantine", 0750) && errno != EEXIST)
        return err_from_errno(errno);
    if (is_crowded(dir))
        return ERR_LIMIT;
    out = io->open(io, dir, name, O_WRONLY | O_CREAT | O_EXCL, 0640);
    if (out < 0)
        return errno == EEXIST ? ERR_EXISTS : err_from_errno(errno);
    for (uint64_t at = from; at < to && !failed;) {
        size_t n = to - at < COPY ? (size_t)(to - at) : COPY;

        file_io_read_all(io, fd, bytes, n, (off_t)at);
        failed = file_io_write_all(io, out, &(struct iovec){bytes, n}, 1, (off_t)(at - from)) ? errno : 0;
        at += n;
    }
    if (!failed && io->fdatasync(io, out))
        failed = errno;
    io->close(io, out);
    if (failed)
        io->unlink(io, dir, name);
    return failed ? err_from_errno(failed) : ERR_OK;
}

enum err quarantine_segment(const struct file_io *io, int dir, const char *segment)
{
    char name[QUARANTINE_NAME];

    if (io->is_elastic)
        return ERR_UNSUPPORTED;
    snprintf(name, sizeof name, "quarantine/%s", segment);
    if (io->mkdir(io, dir, "quarantine", 0750) && errno != EEXIST)
        return err_from_errno(errno);
    if (is_crowded(dir))
        return ERR_LIMIT;
    return io->rename(io, dir, segment, name) ? err_from_errno(errno) : ERR_OK;
}
