/* SPDX-License-Identifier: Apache-2.0 */
#include "store/file_io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PARTS_MAX = 64, PAGE = 4096 };

static int sys_open(UNUSED const struct file_io *io, int dir, const char *name, int flags, mode_t mode)
{
    return openat(dir, name, flags | O_CLOEXEC, mode);
}

/* A file system that cannot reserve is no reason not to write. */
static int sys_allocate(UNUSED const struct file_io *io, int fd, off_t size)
{
    if (fallocate(fd, 0, 0, size) == 0 || errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL)
        return 0;
    return -1;
}

/* Some file systems cannot do this with a directory, and need it not. */
static int sys_fsync(UNUSED const struct file_io *io, int fd)
{
    return fsync(fd) == 0 || errno == EINVAL ? 0 : -1;
}

static int sys_rename(UNUSED const struct file_io *io, int dir, const char *from, const char *to)
{
    return renameat(dir, from, dir, to);
}

static int sys_unlink(UNUSED const struct file_io *io, int dir, const char *name)
{
    return unlinkat(dir, name, 0);
}

static ssize_t sys_pread(UNUSED const struct file_io *io, int fd, void *to, size_t n, off_t at)
{
    return pread(fd, to, n, at);
}

static ssize_t sys_pwritev(UNUSED const struct file_io *io, int fd, const struct iovec *parts, int n_parts, off_t at)
{
    return pwritev(fd, parts, n_parts, at);
}

static int sys_fdatasync(UNUSED const struct file_io *io, int fd)
{
    return fdatasync(fd);
}

static int sys_truncate(UNUSED const struct file_io *io, int fd, off_t size)
{
    return ftruncate(fd, size);
}

static int sys_mkdir(UNUSED const struct file_io *io, int dir, const char *name, mode_t mode)
{
    return mkdirat(dir, name, mode);
}

static int sys_close(UNUSED const struct file_io *io, int fd)
{
    return close(fd);
}

static int sys_list(UNUSED const struct file_io *io, int dir, file_io_name_fn *each, void *arg)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);

    if (!list) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    for (const struct dirent *entry; (entry = readdir(list));) {
        struct stat info;

        if (fstatat(dir, entry->d_name, &info, 0) == 0 && S_ISREG(info.st_mode))
            each(arg, entry->d_name, (uint64_t)info.st_size);
    }
    closedir(list);
    return 0;
}

const struct file_io file_io_system = {
    .open = sys_open,
    .pread = sys_pread,
    .pwritev = sys_pwritev,
    .fdatasync = sys_fdatasync,
    .fsync = sys_fsync,
    .allocate = sys_allocate,
    .truncate = sys_truncate,
    .rename = sys_rename,
    .unlink = sys_unlink,
    .mkdir = sys_mkdir,
    .close = sys_close,
    .list = sys_list,
};

int file_io_write_all(const struct file_io *io, int fd, struct iovec *parts, int n_parts, off_t at)
{
    while (n_parts) {
        ssize_t n = io->pwritev(io, fd, parts, n_parts < PARTS_MAX ? n_parts : PARTS_MAX, at);

        if (n < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        if (n == 0) { /* nothing was wrong, and nothing was written: do not go round for ever */
            errno = EIO;
            return -1;
        }
        at += n;
        while (n_parts && (size_t)n >= parts->iov_len) {
            n -= (ssize_t)parts->iov_len;
            parts++;
            n_parts--;
        }
        if (n_parts) {
            parts->iov_base = (char *)parts->iov_base + n;
            parts->iov_len -= (size_t)n;
        }
    }
    return 0;
}

size_t file_io_read_all(const struct file_io *io, int fd, void *to, size_t n, off_t at)
{
    char *p = to;
    size_t n_bad = 0;

    while (n) {
        ssize_t got = io->pread(io, fd, p, n, at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) { /* find the page that cannot be read */
            size_t page = PAGE - (size_t)at % PAGE;

            page = page < n ? page : n;
            got = io->pread(io, fd, p, page, at);
            if (got <= 0) {
                memset(p, 0, page);
                n_bad += page;
                got = (ssize_t)page;
            }
        }
        if (got == 0) {
            memset(p, 0, n);
            break;
        }
        p += got;
        n -= (size_t)got;
        at += got;
    }
    return n_bad;
}
