/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

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

enum err file_put(const char *path, struct str content, enum file_put how, const char *like, struct why *why)
{
    char *target = how == FILE_REPLACE ? realpath(path, NULL) : NULL; /* from malloc; NULL: there is none yet */
    const char *to = target ? target : path;
    autobuf struct buf temp = {0};
    enum err err = ERR_OK;
    int fd;

    buf_printf(&temp, "%s.XXXXXX", to);
    buf_add_u8(&temp, 0);
    fd = mkostemp((char *)temp.p, O_CLOEXEC); /* mode 0600 until it has its own */
    if (fd < 0) {
        err = refused(why, path);
        free(target);
        return err;
    }
    if (!take_attributes(fd, like) || !write_all(fd, content) || fsync(fd))
        err = refused(why, path);
    if (close(fd) && !err)
        err = refused(why, path);
    if (!err && (how == FILE_NEW ? !move_to_new((char *)temp.p, to) : rename((char *)temp.p, to) != 0))
        err = refused(why, path);
    if (err)
        unlink((char *)temp.p);
    else
        sync_dir_of(to);
    free(target);
    return err;
}
