/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_FILE_PLANT_H
#define IOTGW_FILE_PLANT_H
/*
 * What the tests of the file store are made of: a temporary directory, system calls that fail on demand and are recorded,
 * batches, and a reader. Store and reader share one fake loop, so that every run is the same. For test files only.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/slab.h"
#include "data/device.h"
#include "store/file_format.h"
#include "store/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum call {
    CALL_OPEN,
    CALL_WRITE,
    CALL_SYNC,
    CALL_SYNC_DIR,
    CALL_ALLOCATE,
    CALL_TRUNCATE,
    CALL_RENAME,
    CALL_UNLINK,
    CALL_MKDIR,
    CALL_LOOK, /* to open for reading */
    CALL_READ,
    CALLS
};
enum { MADE_ANSWER = CALLS, MADE_ACK };

/* --- faults ---------------------------------------------------------------------------------------------------------- */

static struct fault {
    int number;     /* errno; 0: none */
    unsigned after; /* calls that still work */
    unsigned times; /* that fail then; 0: all */
    unsigned n_failed;
} faults[CALLS];
static size_t short_write; /* at most so many bytes a write; 0: all */
static unsigned n_calls[CALLS];

static bool fails(enum call call)
{
    struct fault *fault = &faults[call];

    n_calls[call]++;
    if (!fault->number || (fault->times && fault->n_failed >= fault->times))
        return false;
    if (fault->after) {
        fault->after--;
        return false;
    }
    fault->n_failed++;
    errno = fault->number;
    return true;
}

/* --- the record of what was done ----------------------------------------------------------------------------------------- */

struct deed {
    int what; /* enum call, MADE_… */
    char name[QUARANTINE_NAME], to[QUARANTINE_NAME];
    uint64_t at, n; /* answer: first and behind the last number; ack: behind the last number */
    uint8_t *bytes;
};
static struct deed *deeds;
static size_t n_deeds, cap_deeds;
static bool is_recording;
static char fd_names[256][QUARANTINE_NAME];

static struct deed *note(int what, const char *name)
{
    static struct deed nothing;

    if (!is_recording)
        return &nothing;
    if (n_deeds == cap_deeds) {
        cap_deeds = cap_deeds ? 2 * cap_deeds : 256;
        deeds = mem_grow(deeds, cap_deeds * sizeof *deeds);
    }
    deeds[n_deeds] = (struct deed){.what = what};
    snprintf(deeds[n_deeds].name, sizeof deeds->name, "%s", name);
    return &deeds[n_deeds++];
}

UNUSED static void forget_deeds(void)
{
    for (size_t i = 0; i < n_deeds; i++)
        mem_free(deeds[i].bytes);
    mem_free(deeds);
    deeds = NULL;
    n_deeds = cap_deeds = 0;
}

static int test_open(UNUSED const struct file_io *io, int dir, const char *name, int flags, mode_t mode)
{
    int fd;

    if (fails(flags & (O_WRONLY | O_RDWR) ? CALL_OPEN : CALL_LOOK))
        return -1;
    fd = file_io_system.open(&file_io_system, dir, name, flags, mode);
    if (fd >= 0 && fd < 256)
        snprintf(fd_names[fd], sizeof fd_names[fd], "%s", name);
    if (fd >= 0 && flags & O_CREAT)
        note(CALL_OPEN, name);
    return fd;
}

static ssize_t test_pwritev(UNUSED const struct file_io *io, int fd, const struct iovec *parts, int n_parts, off_t at)
{
    size_t n = 0;
    uint8_t *bytes;

    if (fails(CALL_WRITE))
        return -1;
    for (int i = 0; i < n_parts; i++)
        n += parts[i].iov_len;
    bytes = mem_new(n);
    n = 0;
    for (int i = 0; i < n_parts; i++) {
        memcpy(bytes + n, parts[i].iov_base, parts[i].iov_len);
        n += parts[i].iov_len;
    }
    if (short_write && n > short_write)
        n = short_write;
    assert_int_equal(pwrite(fd, bytes, n, at), n);
    struct deed *deed = note(CALL_WRITE, fd_names[fd]);

    deed->at = (uint64_t)at;
    deed->n = n;
    deed->bytes = bytes;
    if (!is_recording) {
        mem_free(bytes);
        deed->bytes = NULL;
    }
    return (ssize_t)n;
}

static int test_fdatasync(UNUSED const struct file_io *io, int fd)
{
    if (fails(CALL_SYNC))
        return -1;
    note(CALL_SYNC, fd_names[fd]);
    return 0; /* the machine does not lose its power */
}

static int test_fsync(UNUSED const struct file_io *io, int fd)
{
    (void)fd;
    if (fails(CALL_SYNC_DIR))
        return -1;
    note(CALL_SYNC_DIR, "");
    return 0;
}

static uint64_t disk_room; /* for the files of the directory together; 0: no bound */
static bool has_disk_room(uint64_t n);

static int test_allocate(UNUSED const struct file_io *io, int fd, off_t size)
{
    if (fails(CALL_ALLOCATE))
        return -1;
    if (!has_disk_room((uint64_t)size)) {
        errno = ENOSPC;
        return -1;
    }
    note(CALL_ALLOCATE, fd_names[fd])->n = (uint64_t)size;
    return ftruncate(fd, size);
}

static int test_truncate(UNUSED const struct file_io *io, int fd, off_t size)
{
    if (fails(CALL_TRUNCATE))
        return -1;
    note(CALL_TRUNCATE, fd_names[fd])->n = (uint64_t)size;
    return ftruncate(fd, size);
}

static int test_rename(UNUSED const struct file_io *io, int dir, const char *from, const char *to)
{
    if (fails(CALL_RENAME))
        return -1;
    struct deed *deed = note(CALL_RENAME, from);

    snprintf(deed->to, sizeof deed->to, "%s", to);
    return file_io_system.rename(&file_io_system, dir, from, to);
}

static int test_unlink(UNUSED const struct file_io *io, int dir, const char *name)
{
    if (fails(CALL_UNLINK))
        return -1;
    note(CALL_UNLINK, name);
    return file_io_system.unlink(&file_io_system, dir, name);
}

static int test_mkdir(UNUSED const struct file_io *io, int dir, const char *name, mode_t mode)
{
    if (fails(CALL_MKDIR))
        return -1;
    return file_io_system.mkdir(&file_io_system, dir, name, mode);
}

static ssize_t test_pread(UNUSED const struct file_io *io, int fd, void *to, size_t n, off_t at)
{
    if (fails(CALL_READ))
        return -1;
    return pread(fd, to, n, at);
}

static int test_close(UNUSED const struct file_io *io, int fd)
{
    return close(fd);
}

static int test_list(UNUSED const struct file_io *io, int dir, file_io_name_fn *each, void *arg)
{
    return file_io_system.list(&file_io_system, dir, each, arg);
}

static const struct file_io test_io = {
    .open = test_open,
    .pread = test_pread,
    .pwritev = test_pwritev,
    .fdatasync = test_fdatasync,
    .fsync = test_fsync,
    .allocate = test_allocate,
    .truncate = test_truncate,
    .rename = test_rename,
    .unlink = test_unlink,
    .mkdir = test_mkdir,
    .close = test_close,
    .list = test_list,
};

/* --- directories -------------------------------------------------------------------------------------------------------------- */

static char dir_path[96];
static const char *dir_root = "/tmp"; /* a test that makes thousands of directories says where they cost nothing */

/* A disk that others keep busy makes such a test ten times slower. */
UNUSED static void work_in_memory(bool yes)
{
    static const char in_memory[] = "/dev/shm";

    dir_root = yes && access(in_memory, R_OK | W_OK | X_OK) == 0 ? in_memory : "/tmp";
}

static void make_dir(void)
{
    snprintf(dir_path, sizeof dir_path, "%s/iotgw-store-XXXXXX", dir_root);
    assert_non_null(mkdtemp(dir_path));
}

static void add_size(void *arg, const char *name, uint64_t size)
{
    (void)name;
    *(uint64_t *)arg += size;
}

static bool has_disk_room(uint64_t n)
{
    int dir = open(dir_path, O_RDONLY | O_DIRECTORY);

    assert_int_equal(file_io_system.list(&file_io_system, dir, add_size, &n), 0);
    close(dir);
    return !disk_room || n <= disk_room;
}

static void remove_all(const char *path)
{
    DIR *list = opendir(path);

    if (!list)
        return;
    for (const struct dirent *entry; (entry = readdir(list));) {
        char at[8192];

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (snprintf(at, sizeof at, "%s/%s", path, entry->d_name) >= (int)sizeof at)
            continue;
        if (unlink(at))
            remove_all(at);
    }
    closedir(list);
    rmdir(path);
}

UNUSED static const char *path_in(const char *name)
{
    static char path[512];

    if (snprintf(path, sizeof path, "%s/%s", dir_path, name) >= (int)sizeof path)
        fail_msg("%s: too long", name);
    return path;
}

UNUSED static void put_file(const char *name, const void *bytes, size_t n)
{
    int fd = open(path_in(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    close(fd);
}

UNUSED static uint8_t *get_file(const char *name, size_t *n)
{
    int fd = open(path_in(name), O_RDONLY);
    struct stat info;
    uint8_t *bytes;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &info), 0);
    *n = (size_t)info.st_size;
    bytes = mem_new(*n + 1);
    assert_int_equal(read(fd, bytes, *n), *n);
    close(fd);
    return bytes;
}

/* Names of the segments, in order; gives how many. */
UNUSED static size_t list_segments(struct found_segment *out, size_t max)
{
    struct found_segment *found;
    size_t n;
    int dir = open(dir_path, O_RDONLY | O_DIRECTORY);

    assert_int_equal(segments_find(&test_io, dir, &found, &n), ERR_OK);
    close(dir);
    for (size_t i = 0; i < n && i < max; i++)
        out[i] = found[i];
    mem_free(found);
    return n;
}

/* --- the store ------------------------------------------------------------------------------------------------------------------ */

enum { MAX_RECORDS = 20000 };
static struct loop *the_loop;
static struct store *the_store;
static struct log quiet;
static struct file_conf the_conf;
static unsigned n_answers, n_ok, n_full, n_cancelled, n_readable, n_drops;
static uint64_t n_made; /* records; each has its number as time stamp */
static uint64_t n_answered_ok;
static uint8_t was_ok[MAX_RECORDS], was_read[MAX_RECORDS];

static void on_answer(struct batch *batch)
{
    uint64_t first = batch->cookie, n = batch->n_events;

    n_answers++;
    assert_null(batch->bytes);
    if (batch->result == ERR_OK) {
        struct deed *deed = note(MADE_ANSWER, "");

        deed->at = first;
        deed->n = first + n;
        n_ok++;
        n_answered_ok += n;
        for (uint64_t i = first; i < first + n; i++)
            was_ok[i] = 1;
    } else if (batch->result == ERR_FULL) {
        n_full++;
    } else {
        assert_int_equal(batch->result, ERR_CANCELLED);
        n_cancelled++;
    }
    mem_free(batch);
}

static void on_readable(void *arg)
{
    (void)arg;
    n_readable++;
}

static void on_dropped(void *arg, struct device *dev)
{
    (void)arg;
    assert_non_null(dev);
    n_drops++;
}

/* The kind under test; the file store unless a test file says otherwise. */
static enum err (*open_kind)(struct store **out, struct loop *loop, const struct file_conf *conf,
                             const struct store_events *events, void *arg, struct why *why) = store_file_new;

static enum err try_open_store(struct why *why)
{
    static const struct store_events events = {.readable = on_readable, .dropped = on_dropped};
    enum err err;

    store_answer_fn = on_answer;
    log_init(&quiet, "storage", LOG_LEVEL_OFF);
    the_loop = loop_new_fake(1700000000000);
    the_conf.path = dir_path;
    the_conf.log = &quiet;
    the_conf.io = &test_io;
    the_conf.own = the_loop;
    err = open_kind(&the_store, the_loop, &the_conf, &events, NULL, why);
    if (err) {
        loop_free(the_loop);
        the_store = NULL;
    }
    return err;
}

static void open_store(void)
{
    struct why why = {0};

    if (try_open_store(&why))
        fail_msg("%s", why_text(&why));
    loop_advance(the_loop, 0);
}

/* As a kill does: nothing is written any more. */
static void kill_store(void)
{
    store_free(the_store);
    loop_free(the_loop);
    the_store = NULL;
}

static void on_stopped(void *arg)
{
    *(bool *)arg = true;
}

UNUSED static void stop_store(void)
{
    bool is_stopped = false;

    store_stop(the_store, on_stopped, &is_stopped);
    loop_advance(the_loop, 10);
    assert_true(is_stopped);
    kill_store();
}

static void begin_test(void)
{
    make_dir();
    memset(faults, 0, sizeof faults);
    memset(n_calls, 0, sizeof n_calls);
    memset(was_ok, 0, sizeof was_ok);
    memset(was_read, 0, sizeof was_read);
    short_write = 0;
    disk_room = 0;
    n_answers = n_ok = n_full = n_cancelled = n_readable = n_drops = 0;
    n_made = n_answered_ok = 0;
    the_conf = (struct file_conf){0};
}

static void end_test(void)
{
    if (the_store)
        kill_store();
    remove_all(dir_path);
    assert_int_equal(slab_in_use(), 0);
}

/* n events of one record with two values each, at least body_n bytes long; their numbers go on. */
static void append_from(const char *device, unsigned n, size_t body_n, bool can_wait)
{
    struct device *dev = device_get(str_from(device));
    struct batch *batch = mem_zero(sizeof *batch);
    char head[48];

    body_n = body_n < sizeof head ? sizeof head : body_n;
    size_t size = record_size(dev->name_n, 0, body_n);

    batch->cap = (uint32_t)(size * n > SLAB_SIZE ? size * n : SLAB_SIZE);
    batch->bytes = batch->cap > SLAB_SIZE ? mem_new(batch->cap) : slab_get();
    batch->can_wait = can_wait;
    batch->ctx = (struct ctx *)(void *)dev; /* a source for each device; nobody looks into it */
    batch->cookie = n_made;
    batch->n_events = n;
    batch->n_values = 2 * n;
    for (unsigned i = 0; i < n; i++) {
        struct record *record = (struct record *)(void *)(batch->bytes + batch->n_bytes);
        int head_n = snprintf(head, sizeof head, "\"n\":%" PRIu64 ",\"v\":", n_made);

        *record = (struct record){.ts = (int64_t)n_made++,
                                  .dev = dev->number,
                                  .n_values = 2,
                                  .flags = RECORD_END,
                                  .kind = RECORD_TELEMETRY,
                                  .name_n = dev->name_n};
        memcpy(record + 1, dev->name, dev->name_n);
        memset((char *)(record + 1) + dev->name_n, '7', body_n);
        memcpy((char *)(record + 1) + dev->name_n, head, (size_t)head_n);
        record_seal(record, body_n);
        batch->n_bytes += (uint32_t)size;
    }
    assert_true(n_made < MAX_RECORDS);
    store_append(the_store, batch);
}

UNUSED static void append(unsigned n)
{
    append_from("plant/one", n, 60, true);
    loop_advance(the_loop, 0);
}

/* Reads all there is, in chunks of at most max; each record must be one of ours and is marked. Gives the position behind it. */
static uint64_t read_up_to(size_t max, uint64_t n_records, unsigned *n_read)
{
    uint64_t pos = 0;
    int64_t last = -1;

    *n_read = 0;
    while (*n_read < n_records) {
        struct chunk *chunk = store_read(the_store, 0, max);

        if (!chunk) {
            loop_advance(the_loop, 0);
            chunk = store_read(the_store, 0, max);
            if (!chunk)
                break;
        }
        assert_true(chunk->from >= pos && chunk->to > chunk->from);
        pos = chunk->to;
        for (const uint8_t *p = chunk->bytes; p < chunk->bytes + chunk->n;) {
            const struct record *record = (const struct record *)(const void *)p;
            char expected[48];
            int n = snprintf(expected, sizeof expected, "\"n\":%" PRId64 ",\"v\":7", record->ts);

            assert_int_equal(record_check(p, record->size), ERR_OK);
            assert_true(record->ts > last);
            assert_true(str_eq(device_name(device_at(record->dev)), record_name(record)));
            assert_true(str_starts(record_body(record), str_of(expected, (size_t)n)));
            last = record->ts;
            was_read[record->ts]++;
            ++*n_read;
            p += record->size;
        }
        chunk_release(chunk);
    }
    return pos;
}

UNUSED static unsigned read_all(void)
{
    unsigned n;

    read_up_to(64 * 1024, UINT64_MAX, &n);
    return n;
}

UNUSED static void acknowledge(uint64_t pos)
{
    store_ack(the_store, 0, pos);
    loop_advance(the_loop, 0);
}

UNUSED static void assert_balanced(void)
{
    struct store_stats stats = store_stats(the_store);

    assert_int_equal(stats.n_appended_values, stats.n_acked_values + stats.n_values + stats.n_dropped_values);
}
#endif
