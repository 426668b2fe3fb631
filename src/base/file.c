/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- reading ---- */

static NODISCARD enum err read_all(int fd, struct buf *out, size_t limit)
{
    size_t start = out->n;

    for (;;) {
        enum err err = buf_try_grow(out, 65536, start + limit + 65536 + 1);
        ssize_t n;

        if (err)
            return err;
        n = read(fd, out->p + out->n, out->cap - out->n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_from_errno(errno);
        if (n == 0)
            return ERR_OK;
        out->n += (size_t)n;
        if (out->n - start > limit)
            return ERR_LIMIT;
    }
}

enum err file_read(struct buf *out, const char *path, size_t limit_bytes, struct why *why)
{
    bool may_wait = str_starts(str_from(path), STR("/dev/fd/")) || str_eq(str_from(path), STR("/dev/stdin"));
    int fd = open(path, O_RDONLY | O_CLOEXEC | (may_wait ? 0 : O_NONBLOCK));
    struct stat st;
    enum err err;

    if (fd < 0) {
        int number = errno;

        return why_set(why, err_from_errno(number), "%s: cannot be opened: %s", path, strerror(number));
    }
    if (!may_wait && fstat(fd, &st) == 0 && !S_ISREG(st.st_mode)) { /* a pipe or a device might never end */
        close(fd);
        return why_set(why, ERR_TYPE, "%s: is no regular file", path);
    }
    err = read_all(fd, out, limit_bytes);
    if (err == ERR_LIMIT)
        why_set(why, err, "%s: larger than the limit of %zu bytes", path, limit_bytes);
    else if (err)
        why_set(why, err, "%s: cannot be read: %s", path, err_text(err));
    close(fd);
    return err;
}

/* ---- writing ---- */

static NODISCARD enum err refused(struct why *why, const char *path)
{
    int number = errno;

    return why_set(why, err_from_errno(number), "%s: cannot be written: %s", path, strerror(number));
}

static bool write_all(int fd, struct str content)
{
    while (content.n) {
        ssize_t n = write(fd, content.p, content.n);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        content = str_skip(content, (size_t)n);
    }
    return true;
}

/* Owner and group only where that is allowed. Another group gets no more than everybody. */
static bool take_attributes(int fd, const char *like)
{
    struct stat st;
    mode_t mode;

    if (!like)
        return true;
    if (stat(like, &st))
        return false;
    mode = st.st_mode & 0777;
    if (fchown(fd, st.st_uid, st.st_gid) && fchown(fd, (uid_t)-1, st.st_gid))
        mode &= 0707u | (mode & 07u) << 3;
    return fchmod(fd, mode) == 0;
}

/* Without replacing: as one step where the file system knows it, else by a second name. */
static bool move_to_new(const char *from, const char *to)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return true;
    if (errno != EINVAL && errno != ENOSYS)
        return false;
    if (link(from, to))
        return false;
    unlink(from);
    return true;
}

/* The new name is durable when the directory is. One that cannot be synchronised (some network file systems) is as good as
 * it gets. */
static void sync_dir_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    autofree char *dir = mem_dup(slash ? path : ".");
    int fd;

    if (slash)
        dir[slash == path ? 1 : slash - path] = 0;
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)fsync(fd);
    close(fd);
}

static void forget(struct file_staged *staged)
{
    mem_free(staged->temp);
    mem_free(staged->to);
    *staged = (struct file_staged){0};
}

/* The content is durable under a name of its own, beside where it is meant to be. */
static NODISCARD enum err stage(struct file_staged *out, const char *path, const char *to, struct str content,
                                const char *like, struct why *why)
{
    autobuf struct buf temp = {0};
    enum err err = ERR_OK;
    int fd;

    *out = (struct file_staged){0};
    buf_printf(&temp, "%s.XXXXXX", to);
    buf_add_u8(&temp, 0);
    fd = mkostemp((char *)temp.p, O_CLOEXEC); /* mode 0600 until it has its own */
    if (fd < 0)
        return refused(why, path);
    if (!take_attributes(fd, like) || !write_all(fd, content) || fsync(fd))
        err = refused(why, path);
    if (close(fd) && !err)
        err = refused(why, path);
    if (err)
        unlink((char *)temp.p);
    else
        *out = (struct file_staged){.temp = mem_dup((char *)temp.p), .to = mem_dup(to)};
    return err;
}

enum err file_stage(struct file_staged *out, const char *path, struct str content, const char *like, struct why *why)
{
    char *target = realpath(path, NULL); /* from malloc; NULL: there is none yet */
    enum err err = stage(out, path, target ? target : path, content, like, why);

    free(target);
    return err;
}

enum err file_staged_put(struct file_staged *staged, struct why *why)
{
    if (rename(staged->temp, staged->to) != 0)
        return refused(why, staged->to);
    sync_dir_of(staged->to);
    forget(staged);
    return ERR_OK;
}

void file_staged_drop(struct file_staged *staged)
{
    if (staged->temp)
        unlink(staged->temp);
    forget(staged);
}

static NODISCARD enum err put_new(const char *path, struct str content, const char *like, struct why *why)
{
    struct file_staged staged;
    enum err err = stage(&staged, path, path, content, like, why);

    if (err)
        return err;
    if (!move_to_new(staged.temp, path)) {
        err = refused(why, path);
        file_staged_drop(&staged);
        return err;
    }
    sync_dir_of(path);
    forget(&staged);
    return ERR_OK;
}

enum err file_put(const char *path, struct str content, enum file_put how, const char *like, struct why *why)
{
    struct file_staged staged;
    enum err err;

    if (how == FILE_NEW)
        return put_new(path, content, like, why);
    err = file_stage(&staged, path, content, like, why);
    if (!err && (err = file_staged_put(&staged, why)))
        file_staged_drop(&staged);
    return err;
}
