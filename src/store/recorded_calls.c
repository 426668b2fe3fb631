/* SPDX-License-Identifier: Apache-2.0 */
/* The program's own definitions go before the C library's, also for the libraries that it uses. */
#undef _FILE_OFFSET_BITS /* both names of each call are here, as nobody knows which one a library uses */
#include "store/recorded_calls.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(off_t) == 8, "both names mean the same");

enum { PATH_SIZE = 4200 };
static char directory[PATH_SIZE];
static recorded_fn *told_fn;

void recorded_begin(const char *path, recorded_fn *told)
{
    snprintf(directory, sizeof directory, "%s", path ? path : "");
    told_fn = told;
}

/* What path is below the directory; NULL: it is not. */
static const char *below(const char *path)
{
    size_t n = strlen(directory);

    if (!n || strncmp(path, directory, n) != 0 || (path[n] && path[n] != '/'))
        return NULL;
    return path[n] ? path + n + 1 : "";
}

static const char *name_of(int fd, char path[PATH_SIZE])
{
    char link[32];
    int kept = errno;
    ssize_t n;

    if (!directory[0] || fd < 0)
        return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, PATH_SIZE - 1);
    errno = kept;
    if (n < 0)
        return NULL;
    path[n] = 0;
    return below(path);
}

static const char *name_at(int dir, const char *name, char path[PATH_SIZE])
{
    const char *of = name[0] == '/' || dir == AT_FDCWD ? NULL : name_of(dir, path);

    if (!of)
        return name[0] == '/' ? below(name) : NULL;
    return *of ? NULL : name; /* there is nothing to look at in directories below ours */
}

/* 0, or -1 and errno. */
static int tell(const struct recorded_call *call)
{
    int number = call->name && told_fn ? told_fn(call) : 0;

    if (number)
        errno = number;
    return number ? -1 : 0;
}

/* Looked up at the first call: others' constructors may run before ours. */
#define DEFINE_REAL(type, name, parameters)                                                                            \
    static type(*find_##name(void)) parameters                                                                         \
    {                                                                                                                  \
        static void *found;                                                                                            \
        type(*real) parameters;                                                                                        \
                                                                                                                       \
        if (!found)                                                                                                    \
            found = dlsym(RTLD_NEXT, #name);                                                                           \
        *(void **)&real = found;                                                                                       \
        return real;                                                                                                   \
    }

static int tell_write(int fd, const void *bytes, size_t n, off_t at)
{
    char path[PATH_SIZE];

    return tell(&(struct recorded_call){
        .what = RECORDED_WRITE, .name = name_of(fd, path), .at = (uint64_t)at, .n = n, .bytes = bytes});
}

static int tell_parts(int fd, const struct iovec *parts, int n_parts, off_t at)
{
    char path[PATH_SIZE];
    char *bytes;
    size_t n = 0, to = 0;
    int failed;

    if (!name_of(fd, path))
        return 0;
    for (int i = 0; i < n_parts; i++)
        n += parts[i].iov_len;
    bytes = malloc(n + 1);
    for (int i = 0; i < n_parts; to += parts[i++].iov_len)
        memcpy(bytes + to, parts[i].iov_base, parts[i].iov_len);
    failed = tell_write(fd, bytes, n, at);
    free(bytes);
    return failed;
}

static int tell_size(int fd, off_t n, bool may_shrink)
{
    char path[PATH_SIZE];
    const char *name = name_of(fd, path);
    struct stat info;

    if (!name || (!may_shrink && fstat(fd, &info) == 0 && info.st_size >= n))
        return 0;
    return tell(&(struct recorded_call){.what = RECORDED_SIZE, .name = name, .n = (uint64_t)n});
}

/* True: it is ours, and *result says how it ended. */
static bool tell_sync(int fd, int *result)
{
    char path[PATH_SIZE];
    const char *name = name_of(fd, path);

    if (!name)
        return false;
    *result = tell(&(struct recorded_call){.what = *name ? RECORDED_SYNC : RECORDED_SYNC_DIRECTORY, .name = name});
    return true;
}

static int tell_open(int dir, const char *path, int flags)
{
    char of[PATH_SIZE];
    const char *name = name_at(dir, path, of);
    int kept = errno;
    bool is_there = name && faccessat(dir, path, F_OK, 0) == 0;

    errno = kept;
    if (!name || !(is_there ? flags & O_TRUNC : flags & O_CREAT))
        return 0;
    return tell(&(struct recorded_call){.what = RECORDED_MAKE, .name = name});
}

static int tell_rename(int from_dir, const char *from, int to_dir, const char *to)
{
    char path[PATH_SIZE], other[PATH_SIZE];

    return tell(&(struct recorded_call){
        .what = RECORDED_RENAME, .name = name_at(from_dir, from, path), .to = name_at(to_dir, to, other)});
}

static int tell_unlink(int dir, const char *name)
{
    char path[PATH_SIZE];

    if (faccessat(dir, name, F_OK, 0))
        return 0;
    return tell(&(struct recorded_call){.what = RECORDED_UNLINK, .name = name_at(dir, name, path)});
}

/* --- the calls, each under both of its names --------------------------------------------------------------------------------- */
#define CALL(type, name, parameters, arguments, told)                                                                  \
    type name parameters;                                                                                              \
    DEFINE_REAL(type, name, parameters)                                                                                \
    type name parameters                                                                                               \
    {                                                                                                                  \
        if (directory[0] && told)                                                                                      \
            return -1;                                                                                                 \
        return find_##name() arguments;                                                                                \
    }
#define SYNC(name)                                                                                                     \
    int name(int fd);                                                                                                  \
    DEFINE_REAL(int, name, (int fd))                                                                                   \
    int name(int fd)                                                                                                   \
    {                                                                                                                  \
        int result;                                                                                                    \
                                                                                                                       \
        return directory[0] && tell_sync(fd, &result) ? result : find_##name()(fd);                                    \
    }
#define ALLOCATE(name)                                                                                                 \
    int name(int fd, off_t at, off_t n);                                                                               \
    DEFINE_REAL(int, name, (int fd, off_t at, off_t n))                                                                \
    int name(int fd, off_t at, off_t n)                                                                                \
    {                                                                                                                  \
        return directory[0] && tell_size(fd, at + n, false) ? errno : find_##name()(fd, at, n);                        \
    }
/* first: the parameters before the flags, with a comma behind each. */
#define OPEN(name, first, arguments, told)                                                                             \
    int name(first int flags, ...);                                                                                    \
    DEFINE_REAL(int, name, (first int flags, ...))                                                                     \
    int name(first int flags, ...)                                                                                     \
    {                                                                                                                  \
        mode_t mode = 0;                                                                                               \
                                                                                                                       \
        if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) {                                                     \
            va_list rest;                                                                                              \
                                                                                                                       \
            va_start(rest, flags);                                                                                     \
            mode = va_arg(rest, mode_t);                                                                               \
            va_end(rest);                                                                                              \
        }                                                                                                              \
        if (directory[0] && told)                                                                                      \
            return -1;                                                                                                 \
        return find_##name() arguments;                                                                                \
    }
#define COMMA ,

CALL(ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n), tell_write(fd, p, n, lseek(fd, 0, SEEK_CUR)))
CALL(ssize_t, pwrite, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at), tell_write(fd, p, n, at))
CALL(ssize_t, pwrite64, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at), tell_write(fd, p, n, at))
CALL(ssize_t, pwritev, (int fd, const struct iovec *parts, int n, off_t at), (fd, parts, n, at),
     tell_parts(fd, parts, n, at))
CALL(ssize_t, pwritev64, (int fd, const struct iovec *parts, int n, off_t at), (fd, parts, n, at),
     tell_parts(fd, parts, n, at))
CALL(int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n), tell_size(fd, at + n, false))
CALL(int, fallocate64, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n), tell_size(fd, at + n, false))
ALLOCATE(posix_fallocate)
ALLOCATE(posix_fallocate64)
CALL(int, ftruncate, (int fd, off_t n), (fd, n), tell_size(fd, n, true))
CALL(int, ftruncate64, (int fd, off_t n), (fd, n), tell_size(fd, n, true))
CALL(int, renameat, (int from, const char *a, int to, const char *b), (from, a, to, b), tell_rename(from, a, to, b))
CALL(int, unlinkat, (int dir, const char *name, int flags), (dir, name, flags), tell_unlink(dir, name))
CALL(int, unlink, (const char *name), (name), tell_unlink(AT_FDCWD, name))
SYNC(fsync)
SYNC(fdatasync)
OPEN(open, const char *path COMMA, (path, flags, mode), tell_open(AT_FDCWD, path, flags))
OPEN(open64, const char *path COMMA, (path, flags, mode), tell_open(AT_FDCWD, path, flags))
OPEN(openat, int dir COMMA const char *path COMMA, (dir, path, flags, mode), tell_open(dir, path, flags))
OPEN(openat64, int dir COMMA const char *path COMMA, (dir, path, flags, mode), tell_open(dir, path, flags))
