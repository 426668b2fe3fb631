/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/reject.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 10 * 1000 * 1000, PENDING_MAX = 4 * 1024 * 1024 };

static NODISCARD enum err failed(struct reject_file *file, const char *what)
{
    int number = errno;

    return why_set(&file->why, err_from_errno(number), "%s: %s: %s", file->path, what,
                   err_text(err_from_errno(number)));
}

static NODISCARD enum err write_all(struct reject_file *file, int fd)
{
    const uint8_t *p = file->writing.p, *end = p + file->writing.n;

    while (p < end) {
        ssize_t n = write(fd, p, (size_t)(end - p));

        if (n < 0 && errno != EINTR)
            return failed(file, "write");
        p += n > 0 ? n : 0;
    }
    return ERR_OK;
}

static NODISCARD enum err append(struct reject_file *file)
{
    autofree char *old = NULL;
    struct stat st;

    if (stat(file->path, &st) == 0 && st.st_size > 0 && (size_t)st.st_size + file->writing.n > FILE_MAX) {
        size_t n = strlen(file->path) + 3;

        old = mem_new(n);
        snprintf(old, n, "%s.1", file->path);
        if (rename(file->path, old))
            return failed(file, "rename");
    }
    int fd = open(file->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);

    if (fd < 0)
        return failed(file, "open");
    enum err err = write_all(file, fd);

    close(fd);
    return err;
}

static void run(void *arg)
{
    struct reject_file *file = arg;

    file->why = (struct why){0};
    (void)!append(file);
}

static void write_pending(struct reject_file *file);

static void done(void *arg)
{
    struct reject_file *file = arg;

    file->is_busy = false;
    file->writing.n = 0;
    if (file->why.err)
        LOG_ERROR(file->log, "rejected data could not be written", KV_WHY(&file->why));
    write_pending(file);
    if (!file->is_busy && file->closer) {
        closer_release(file->closer);
        file->closer = NULL;
    }
}

static void write_pending(struct reject_file *file)
{
    if (file->is_busy || !file->pending.n)
        return;
    struct buf filled = file->pending;

    file->pending = file->writing;
    file->writing = filled;
    file->is_busy = true;
    work_start(&file->work, file->loop, run, done, file);
}

void reject_init(struct reject_file *file, struct loop *loop, struct log *log, const char *path)
{
    *file = (struct reject_file){.loop = loop, .log = log, .path = mem_dup(path)};
}

void reject_add(struct reject_file *file, struct str line)
{
    if (file->pending.n + line.n > PENDING_MAX) {
        if (file->n_lost++ == 0)
            LOG_ERROR(file->log, "more data rejected than can be written to the file", KV_Z("file", file->path));
        return;
    }
    buf_add_str(&file->pending, line);
    write_pending(file);
}

void reject_close(struct reject_file *file, struct closer *closer)
{
    if (!file->is_busy)
        return;
    closer_hold(closer);
    file->closer = closer;
}

void reject_fini(struct reject_file *file)
{
    buf_fini(&file->pending);
    buf_fini(&file->writing);
    mem_free(file->path);
    *file = (struct reject_file){0};
}
