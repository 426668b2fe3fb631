/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File storage of the Python gateway (storage.md 3):
 *
 *     data_<ms>.txt     a line an event: base64 of its JSON text; the last one, without line feed, was being written
 *     state_file.txt    {"position":N,"file":"data_<ms>.txt"}: N lines of it, and all older files, are delivered
 *
 * What is done is said there, so that the Python gateway could go on as well. When its folder has no slash at the end, it
 * writes beside the folder and reads in it: after each of its starts the files of the one before are forgotten, though nothing
 * of them was delivered. So older files count there, too.
 */
#include "store/legacy.h"

#include "base/base64.h"
#include "base/file.h"
#include "data/json.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WINDOW = 256 * 1024, LINE_MAX_BYTES = LEGACY_ENTRY_MAX / 3 * 4 + 4, STATE_MAX = 64 * 1024 };

struct data_file {
    uint64_t ms;
    uint64_t n_done; /* lines of it that need not be read (again) */
    char *name;
};

struct files {
    struct legacy legacy;
    int dir;
    char *prefix;
    struct data_file *all;
    size_t n, first, at; /* first: the oldest that still is there; at: being read */
    int fd;              /* -1: not open */
    uint64_t off, line;  /* behind what is in the window; lines passed */
    struct buf window;
    size_t window_at;
    bool is_in_giant; /* a line that is too long is being passed */
    struct legacy_ends ends;
};

static struct files *files_of(struct legacy *legacy)
{
    return CONTAINER_OF(legacy, struct files, legacy);
}

/* --- state_file.txt ----------------------------------------------------------------------------------------------------- */

static void state_path(const struct files *f, struct buf *path)
{
    buf_add_z(path, f->legacy.path);
    buf_add_z(path, "/");
    buf_add_z(path, f->prefix);
    buf_add_z(path, "state_file.txt");
    buf_add_u8(path, 0);
}

/* A state that cannot be read is as none: the first file from its beginning, as the Python gateway does it. */
static void read_state(struct files *f)
{
    autobuf struct buf path = {0}, text = {0};
    yyjson_doc *doc = NULL;
    yyjson_val *root;
    int64_t position = -1;
    enum err err;

    state_path(f, &path);
    err = file_read(&text, (const char *)path.p, STATE_MAX, NULL);
    if (!err)
        doc = json_read(buf_str(&text), NULL);
    root = doc ? yyjson_doc_get_root(doc) : NULL;
    if (!json_get(root, STR("position")) || json_to_i64(json_get(root, STR("position")), &position) || position < 0)
        position = -1;
    if (!err && (position < 0 || !yyjson_is_str(json_get(root, STR("file")))))
        LOG_WARN(f->legacy.log, "the position cannot be read, so all that is there is taken over",
                 KV_Z("file", (const char *)path.p));
    for (size_t i = 0; i < f->n; i++)
        if (str_eq_z(json_str(json_get(root, STR("file"))), f->all[i].name) && position >= 0) {
            f->all[i].n_done = (uint64_t)position;
            f->at = *f->prefix ? 0 : i;
        }
    yyjson_doc_free(doc);
}

static enum err write_state(struct files *f, const struct legacy_end *end, struct why *why)
{
    autobuf struct buf path = {0}, text = {0}, temporary = {0};
    int fd, number = 0;

    state_path(f, &path);
    buf_printf(&temporary, "%s.new", (const char *)path.p);
    buf_add_u8(&temporary, 0);
    buf_printf(&text, "{\"position\": %" PRIu64 ", \"file\": \"%s\"}", end->place, f->all[end->file].name);
    fd = open((const char *)temporary.p, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0 || write(fd, text.p, text.n) != (ssize_t)text.n || fdatasync(fd))
        number = errno ? errno : ENOSPC;
    if (fd >= 0)
        close(fd);
    if (!number && rename((const char *)temporary.p, (const char *)path.p))
        number = errno;
    return number ? why_set(why, err_from_errno(number), "%s cannot be written: %s", (const char *)path.p,
                            err_text(err_from_errno(number)))
                  : ERR_OK;
}

/* --- lines ------------------------------------------------------------------------------------------------------------------ */

static void close_file(struct files *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
    f->window.n = f->window_at = 0;
    f->off = 0;
    f->is_in_giant = false;
}

/* More bytes behind what is in the window; *is_end: there are none. */
static enum err fill(struct files *f, bool *is_end, struct why *why)
{
    ssize_t n;

    buf_drop(&f->window, f->window_at);
    f->window_at = 0;
    n = pread(f->fd, buf_room(&f->window, WINDOW), WINDOW, (off_t)f->off);
    if (n < 0)
        return why_set(why, err_from_errno(errno), "%s/%s cannot be read: %s", f->legacy.path, f->all[f->at].name,
                       err_text(err_from_errno(errno)));
    f->window.n += (size_t)n;
    f->off += (uint64_t)n;
    *is_end = n == 0;
    return ERR_OK;
}

static void corrupt(struct files *f, uint64_t line, const char *reason)
{
    f->legacy.n_corrupt++;
    LOG_ERROR(f->legacy.log, "an event that waited cannot be read, it is skipped", KV_Z("directory", f->legacy.path),
              KV_Z("file", f->all[f->at].name), KV_UINT("line", line), KV_Z("reason", reason));
}

/* The next line without its feed. ERR_NOTFOUND: the file is at its end. p NULL: the line is too long. */
static enum err next_line(struct files *f, struct str *line, struct why *why)
{
    for (;;) {
        struct str rest = f->window.n ? str_skip(buf_str(&f->window), f->window_at) : STR_NONE;
        size_t n = str_chr(rest, '\n');
        bool is_end = false;
        enum err err;

        if (n < rest.n) {
            *line = f->is_in_giant ? STR_NONE : str_cut(rest, n);
            f->is_in_giant = false;
            f->window_at += n + 1;
            f->line++;
            return ERR_OK;
        }
        if (rest.n > LINE_MAX_BYTES)
            f->is_in_giant = true;
        if (f->is_in_giant)
            f->window_at = f->window.n;
        err = fill(f, &is_end, why);
        if (err)
            return err;
        if (is_end) {
            if (f->window.n || f->is_in_giant)
                corrupt(f, f->line + 1, "the last line has no end: it was still being written");
            f->window.n = 0;
            f->is_in_giant = false;
            return ERR_NOTFOUND;
        }
    }
}

/* Opens the file that is read and goes to the line in it. */
static enum err open_file(struct files *f, struct why *why)
{
    struct str line;
    enum err err = ERR_OK;

    if (f->fd >= 0)
        return ERR_OK;
    f->fd = openat(f->dir, f->all[f->at].name, O_RDONLY | O_CLOEXEC);
    if (f->fd < 0)
        return why_set(why, err_from_errno(errno), "%s/%s cannot be opened: %s", f->legacy.path, f->all[f->at].name,
                       err_text(err_from_errno(errno)));
    f->line = 0;
    while (!err && f->line < f->all[f->at].n_done)
        err = next_line(f, &line, why);
    return err == ERR_NOTFOUND ? ERR_OK : err;
}

static void take_line(struct files *f, struct str line, struct legacy_chunk *chunk)
{
    size_t at = chunk->bytes.n;

    if (str_ends(line, STR("\r"))) /* written on another system */
        line.n--;
    if (!line.p)
        corrupt(f, f->line, "the line is too long");
    else if (!line.n)
        corrupt(f, f->line, "the line is empty");
    else if (base64_decode(&chunk->bytes, line))
        corrupt(f, f->line, "it is not base64");
    else
        legacy_chunk_add(chunk, at, f->line, 0);
}

/* To the end of the chunk, of the file, or of as much garbage as a turn should last. */
static enum err read_lines(struct files *f, struct legacy_chunk *chunk, struct why *why)
{
    uint64_t n_bytes = 0;
    struct str line;
    enum err err = open_file(f, why);

    legacy_chunk_begin(chunk, f->all[f->at].name);
    while (!err && !legacy_chunk_is_full(chunk) && n_bytes < 4 * LEGACY_CHUNK) {
        err = next_line(f, &line, why);
        if (!err)
            take_line(f, line, chunk);
        n_bytes += err ? 0 : line.n;
    }
    if (!err || err == ERR_NOTFOUND)
        f->all[f->at].n_done = f->line;
    return err;
}

static enum err files_read(struct legacy *legacy, struct legacy_chunk *chunk, struct why *why)
{
    struct files *f = files_of(legacy);

    while (f->at < f->n) {
        enum err err = read_lines(f, chunk, why);

        if (err && err != ERR_NOTFOUND) {
            close_file(f); /* what this chunk holds was not given: it is read again */
            return err;
        }
        if (chunk->n_items) {
            legacy_ends_add(&f->ends, chunk, f->at, f->line);
            return ERR_OK;
        }
        if (err == ERR_NOTFOUND) {
            close_file(f);
            f->at++;
        }
    }
    chunk->n_items = 0;
    return ERR_OK;
}

/* --- what is done --------------------------------------------------------------------------------------------------------- */

static enum err remove_before(struct files *f, size_t before, struct why *why)
{
    for (; f->first < before; f->first++)
        if (unlinkat(f->dir, f->all[f->first].name, 0) && errno != ENOENT)
            return why_set(why, err_from_errno(errno), "%s/%s cannot be removed: %s", f->legacy.path,
                           f->all[f->first].name, err_text(err_from_errno(errno)));
    return ERR_OK;
}

static enum err files_done(struct legacy *legacy, uint64_t number, struct why *why)
{
    struct files *f = files_of(legacy);
    struct legacy_end end;
    enum err err;

    if (!legacy_ends_find(&f->ends, number, &end))
        return ERR_OK;
    err = write_state(f, &end, why);
    if (!err)
        err = remove_before(f, end.file, why);
    if (!err)
        legacy_ends_drop(&f->ends, number);
    return err;
}

/* The data first: files without a state are read from the beginning. */
static enum err files_finish(struct legacy *legacy, struct why *why)
{
    struct files *f = files_of(legacy);
    autobuf struct buf path = {0}, temporary = {0};
    enum err err;

    assert(f->at == f->n && !f->ends.n);
    err = remove_before(f, f->n, why);

    if (err)
        return err;
    state_path(f, &path);
    buf_printf(&temporary, "%s.new", (const char *)path.p);
    buf_add_u8(&temporary, 0);
    unlink((const char *)temporary.p); /* of a killed process, if at all */
    if (fsync(f->dir) || (unlink((const char *)path.p) && errno != ENOENT))
        return why_set(why, err_from_errno(errno), "%s cannot be removed: %s", (const char *)path.p,
                       err_text(err_from_errno(errno)));
    return ERR_OK;
}

/* --- life ------------------------------------------------------------------------------------------------------------------ */

static void files_free(struct legacy *legacy)
{
    struct files *f = files_of(legacy);

    close_file(f);
    if (f->dir >= 0)
        close(f->dir);
    for (size_t i = 0; i < f->n; i++)
        mem_free(f->all[i].name);
    mem_free(f->all);
    mem_free(f->prefix);
    mem_free(f->legacy.path);
    buf_fini(&f->window);
    mem_free(f);
}

/* The names have the time in ms, of as many digits for centuries; equal ones cannot be. */
static int by_time(const void *a, const void *b)
{
    const struct data_file *x = a, *y = b;

    return x->ms != y->ms ? (x->ms < y->ms ? -1 : 1) : strcmp(x->name, y->name);
}

static void add_file(struct files *f, const char *name)
{
    struct stat stat;
    uint64_t ms;

    if (!legacy_name_parse(name, f->prefix, ".txt", &ms) || fstatat(f->dir, name, &stat, AT_SYMLINK_NOFOLLOW) ||
        !S_ISREG(stat.st_mode))
        return;
    f->all = mem_grow(f->all, (f->n + 1) * sizeof *f->all);
    f->all[f->n++] = (struct data_file){.ms = ms, .name = mem_dup(name)};
    f->legacy.n_bytes += (uint64_t)stat.st_size;
}

enum err legacy_files_open(struct legacy **out, const char *dir, const char *prefix, struct log *log, struct why *why)
{
    static const struct legacy_ops ops = {files_read, files_done, files_finish, files_free};
    struct files *f;
    DIR *list = opendir(dir);
    enum err err;

    *out = NULL;
    if (!list)
        return errno == ENOENT || errno == ENOTDIR
                   ? ERR_OK
                   : why_set(why, err_from_errno(errno), "%s cannot be read: %s", dir, err_text(err_from_errno(errno)));
    f = mem_zero(sizeof *f);
    f->legacy = (struct legacy){.ops = &ops, .title = "files of the Python gateway", .path = mem_dup(dir), .log = log};
    f->fd = -1;
    f->prefix = mem_dup(prefix);
    f->dir = fcntl(dirfd(list), F_DUPFD_CLOEXEC, 0);
    for (const struct dirent *entry; (entry = readdir(list));)
        add_file(f, entry->d_name);
    closedir(list);
    err = f->n ? legacy_check_writable(dir, why) : ERR_OK;
    if (err || !f->n) {
        files_free(&f->legacy);
        return err;
    }
    qsort(f->all, f->n, sizeof *f->all, by_time);
    read_state(f);
    *out = &f->legacy;
    return ERR_OK;
}
