/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/reject.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 10 * 1000 * 1000, KEEP_BYTES = 64 * 1024, AGAIN_MS = 2000 };

static NODISCARD enum err failed(struct reject_file *file, const char *what)
{
    int number = errno;

    return why_set(&file->why, err_from_errno(number), "%s: %s: %s", file->path, what,
                   err_text(err_from_errno(number)));
}

/* --- the job ------------------------------------------------------------------------------------------------------------------ */

static NODISCARD enum err write_all(struct reject_file *file, int fd)
{
    const uint8_t *p = file->writing.p, *end = p + file->writing.n;

    while (p < end) {
        ssize_t n = write(fd, p, (size_t)(end - p));

        if (n < 0 && errno != EINTR)
            return failed(file, "write");
        p += n > 0 ? n : 0;
    }
    if (fdatasync(fd))
        return failed(file, "fdatasync");
    return ERR_OK;
}

/* A line that a crash has torn was never called written: it came again, or will. What follows begins on a line of its own. */
static NODISCARD enum err end_line(struct reject_file *file, int fd, off_t size)
{
    char last = '\n';

    if (size > 0 && pread(fd, &last, 1, size - 1) == 1 && last != '\n' && write(fd, "\n", 1) != 1)
        return failed(file, "write");
    return ERR_OK;
}

static NODISCARD enum err sync_name(struct reject_file *file)
{
    const char *slash = strrchr(file->path, '/');
    autofree char *directory = slash ? mem_dup(file->path) : mem_dup(".");

    if (slash)
        directory[slash == file->path ? 1 : slash - file->path] = 0;
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || fsync(fd)) {
        enum err err = failed(file, "fsync of its directory");

        if (fd >= 0)
            close(fd);
        return err;
    }
    close(fd);
    file->is_named = true;
    return ERR_OK;
}

static NODISCARD enum err append(struct reject_file *file)
{
    autofree char *old = NULL;
    struct stat st = {0};
    enum err err;

    if (stat(file->path, &st) == 0 && st.st_size > 0 && (size_t)st.st_size + file->writing.n > FILE_MAX) {
        size_t n = strlen(file->path) + 3;

        old = mem_new(n);
        snprintf(old, n, "%s.1", file->path);
        if (rename(file->path, old))
            return failed(file, "rename");
        st.st_size = 0;
        file->is_named = false;
    }
    int fd = open(file->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0640);

    if (fd < 0)
        return failed(file, "open");
    err = end_line(file, fd, st.st_size);
    if (!err)
        err = write_all(file, fd);
    if (err)
        (void)!ftruncate(fd, st.st_size); /* it is all written again */
    close(fd);
    return !err && !file->is_named ? sync_name(file) : err;
}

static void run(void *arg)
{
    struct reject_file *file = arg;

    file->why = (struct why){0};
    (void)!append(file);
}

/* --- the loop ----------------------------------------------------------------------------------------------------------------- */

static void write_pending(struct reject_file *file);

static void note_outcome(struct reject_file *file)
{
    if (file->why.err) {
        if (!file->is_failing)
            LOG_ERROR(file->log, "rejected data cannot be written down, it stays in the storage until it can",
                      KV_WHY(&file->why));
        file->is_failing = true;
        return;
    }
    if (file->is_failing)
        LOG_INFO(file->log, "rejected data can be written down again", KV_Z("file", file->path));
    file->is_failing = false;
    file->writing.n = 0;
    if (file->writing.cap > KEEP_BYTES)
        buf_fini(&file->writing);
    file->n_synced = file->n_writing;
    if (file->synced && !file->closer)
        file->synced(file->arg, file->n_synced);
}

static void done(void *arg)
{
    struct reject_file *file = arg;

    file->is_busy = false;
    note_outcome(file);
    if (!file->why.err)
        write_pending(file);
    else if (!file->closer)
        timer_start(&file->again, AGAIN_MS);
    if (!file->is_busy && file->closer) {
        closer_release(file->closer);
        file->closer = NULL;
    }
}

static void begin(struct reject_file *file)
{
    timer_stop(&file->again);
    if (file->next_path) { /* what could not be written so far goes there too */
        mem_free(file->path);
        file->path = file->next_path;
        file->next_path = NULL;
        file->is_named = false;
    }
    file->is_busy = true;
    work_start(&file->work, file->loop, run, done, file);
}

static void write_again(void *arg)
{
    begin(arg);
}

static void write_pending(struct reject_file *file)
{
    if (file->is_busy || file->writing.n || !file->pending.n)
        return;
    struct buf filled = file->pending;

    file->pending = file->writing;
    file->writing = filled;
    file->n_writing = file->n_added;
    begin(file);
}

void reject_init(struct reject_file *file, struct loop *loop, struct log *log, const char *path)
{
    *file = (struct reject_file){.loop = loop, .log = log, .path = mem_dup(path)};
    timer_init(&file->again, loop, write_again, file);
}

void reject_tell(struct reject_file *file, void (*synced)(void *arg, uint64_t to), void *arg)
{
    file->synced = synced;
    file->arg = arg;
}

uint64_t reject_add(struct reject_file *file, struct str line)
{
    buf_add_str(&file->pending, line);
    file->n_added++;
    write_pending(file);
    return file->n_added;
}

void reject_move(struct reject_file *file, const char *path)
{
    mem_free(file->next_path);
    file->next_path = str_eq_z(str_from(path), file->path) ? NULL : mem_dup(path);
}

void reject_close(struct reject_file *file, struct closer *closer)
{
    if (!file->is_busy && file->writing.n) /* once more, now */
        begin(file);
    if (!file->is_busy)
        return;
    closer_hold(closer);
    file->closer = closer;
}

void reject_fini(struct reject_file *file)
{
    if (file->loop)
        timer_stop(&file->again);
    buf_fini(&file->pending);
    buf_fini(&file->writing);
    mem_free(file->path);
    mem_free(file->next_path);
    *file = (struct reject_file){0};
}
