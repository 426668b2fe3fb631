/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into the gateway by tests: makes the system's calls on one directory fail, wait, be short or be the last thing the process
 * does, and moves the wall clock. What is wrong stands in a file that the test maps and changes while the gateway runs.
 *
 * IOTGW_FAULTS: that file (struct faults); IOTGW_FAULTS_DIR: the directory, a path without symbolic links and without "/" at its end.
 * Only calls that change files below it are touched. tests/faulty.py knows the struct.
 */
#undef _FILE_OFFSET_BITS /* both names of each call are here, as nobody knows which one a library uses */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct faults {               /* all of 8 bytes, so that the test can write them one by one */
    _Atomic(int64_t) wall_ms; /* added to the wall clock */
    _Atomic(int64_t) write_errno, sync_errno,
        make_errno;        /* write, allocate; fsync, fdatasync; open to create, rename, unlink, mkdir; 0: none */
    _Atomic(int64_t) room; /* bytes that may still be written, then ENOSPC; -1: any */
    _Atomic(int64_t) short_bytes;      /* most that one write takes; 0: all */
    _Atomic(int64_t) is_hung, sync_ms; /* fsync, fdatasync: wait while set; take so long */
    _Atomic(int64_t) kill_at;          /* SIGKILL before this many-th call from now; 0: never */
    _Atomic(int64_t) n_writes, n_syncs, n_makes, n_failed, n_hung; /* counted here; n_hung: waiting now */
};

_Static_assert(sizeof(off_t) == 8, "both names mean the same");

static struct faults nothing = {.room = -1};
static struct faults *faults = &nothing;
static const char *directory;
static size_t directory_n;

/* Looked up at the first call: others' constructors may run before ours. */
#define DEFINE_REAL(type, name, parameters)                                                                            \
    static type(*find_##name(void)) parameters                                                                         \
    {                                                                                                                  \
        static void *_Atomic found;                                                                                    \
        type(*real) parameters;                                                                                        \
                                                                                                                       \
        if (!found)                                                                                                    \
            found = dlsym(RTLD_NEXT, #name);                                                                           \
        *(void **)&real = found;                                                                                       \
        return real;                                                                                                   \
    }

static bool is_below(const char *path)
{
    return directory_n && strncmp(path, directory, directory_n) == 0 &&
           (path[directory_n] == '/' || path[directory_n] == 0);
}

static bool is_ours(int fd)
{
    char link[32], path[4096];
    int kept = errno;
    ssize_t n;

    if (!directory_n || fd < 0)
        return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof path - 1);
    errno = kept;
    if (n < 0)
        return false;
    path[n] = 0;
    return is_below(path);
}

static bool is_ours_at(int dir, const char *path)
{
    return path[0] == '/' ? is_below(path) : dir == AT_FDCWD ? false : is_ours(dir);
}

/* One call on our directory begins: perhaps it is the last. */
static void step(_Atomic(int64_t) *counter)
{
    (*counter)++;
    if (atomic_load(&faults->kill_at) && atomic_fetch_sub(&faults->kill_at, 1) == 1)
        kill(getpid(), SIGKILL);
}

static int failing(int64_t number)
{
    faults->n_failed++;
    errno = (int)number;
    return -1;
}

/* How many of n bytes this write takes; -1: it fails. */
static ssize_t allowance(size_t n)
{
    int64_t number, short_bytes, room;

    step(&faults->n_writes);
    number = faults->write_errno;
    short_bytes = faults->short_bytes;
    room = faults->room;
    if (number)
        return failing(number);
    if (short_bytes && n > (size_t)short_bytes)
        n = (size_t)short_bytes;
    if (room >= 0) {
        if (room == 0 && n)
            return failing(ENOSPC);
        if (n > (size_t)room)
            n = (size_t)room;
        faults->room -= (int64_t)n;
    }
    return (ssize_t)n;
}

static int begin_sync(void)
{
    int64_t ms, number;

    step(&faults->n_syncs);
    faults->n_hung++;
    for (ms = 0; faults->is_hung || ms < faults->sync_ms; ms++)
        usleep(1000);
    faults->n_hung--;
    number = faults->sync_errno;
    return number ? failing(number) : 0;
}

static int begin_make(void)
{
    int64_t number;

    step(&faults->n_makes);
    number = faults->make_errno;
    return number ? failing(number) : 0;
}

/* Reserving takes room only when it is written; what does not fit is refused. */
static int begin_allocate(int fd, off_t size)
{
    struct stat info;
    int64_t room = faults->room, number = faults->write_errno;

    step(&faults->n_writes);
    if (number)
        return failing(number);
    if (room >= 0 && fstat(fd, &info) == 0 && size - info.st_size > room)
        return failing(ENOSPC);
    return 0;
}

/* The parts that hold the first n bytes; gives how many. */
static int cut(const struct iovec *from, int n_parts, size_t n, struct iovec *to)
{
    int i = 0;

    for (; i < n_parts && n; i++) {
        to[i] = from[i];
        if (to[i].iov_len > n)
            to[i].iov_len = n;
        n -= to[i].iov_len;
    }
    return i;
}

static size_t sum(const struct iovec *parts, int n_parts)
{
    size_t n = 0;

    for (int i = 0; i < n_parts; i++)
        n += parts[i].iov_len;
    return n;
}

/* --- the calls, each under both of its names --------------------------------------------------------------------------------- */
#define WRITE(name, parameters, arguments)                                                                             \
    ssize_t name parameters;                                                                                           \
    DEFINE_REAL(ssize_t, name, parameters)                                                                             \
    ssize_t name parameters                                                                                            \
    {                                                                                                                  \
        if (is_ours(fd)) {                                                                                             \
            ssize_t allowed = allowance(n);                                                                            \
                                                                                                                       \
            if (allowed < 0)                                                                                           \
                return -1;                                                                                             \
            n = (size_t)allowed;                                                                                       \
        }                                                                                                              \
        return find_##name() arguments;                                                                                \
    }
#define WRITE_PARTS(name)                                                                                              \
    ssize_t name(int fd, const struct iovec *parts, int n_parts, off_t at);                                            \
    DEFINE_REAL(ssize_t, name, (int fd, const struct iovec *parts, int n_parts, off_t at))                             \
    ssize_t name(int fd, const struct iovec *parts, int n_parts, off_t at)                                             \
    {                                                                                                                  \
        struct iovec fewer[1024];                                                                                      \
        ssize_t allowed;                                                                                               \
                                                                                                                       \
        if (!is_ours(fd))                                                                                              \
            return find_##name()(fd, parts, n_parts, at);                                                              \
        allowed = allowance(sum(parts, n_parts));                                                                      \
        if (allowed < 0)                                                                                               \
            return -1;                                                                                                 \
        n_parts = cut(parts, n_parts, (size_t)allowed, fewer);                                                         \
        return find_##name()(fd, fewer, n_parts, at);                                                                  \
    }
#define SIMPLE(name, parameters, arguments, is_mine, begin)                                                            \
    int name parameters;                                                                                               \
    DEFINE_REAL(int, name, parameters)                                                                                 \
    int name parameters                                                                                                \
    {                                                                                                                  \
        if (is_mine && begin)                                                                                          \
            return -1;                                                                                                 \
        return find_##name() arguments;                                                                                \
    }
/* first: the parameters before the flags, with a comma behind each. */
#define OPEN(name, first, arguments, is_mine)                                                                          \
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
            if (is_mine && begin_make())                                                                               \
                return -1;                                                                                             \
        }                                                                                                              \
        return find_##name() arguments;                                                                                \
    }
#define COMMA ,

WRITE(write, (int fd, const void *p, size_t n), (fd, p, n))
WRITE(pwrite, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at))
WRITE(pwrite64, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at))
WRITE_PARTS(pwritev)
WRITE_PARTS(pwritev64)
SIMPLE(fsync, (int fd), (fd), is_ours(fd), begin_sync())
SIMPLE(fdatasync, (int fd), (fd), is_ours(fd), begin_sync())
SIMPLE(fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n), is_ours(fd), begin_allocate(fd, at + n))
SIMPLE(fallocate64, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n), is_ours(fd), begin_allocate(fd, at + n))
SIMPLE(ftruncate, (int fd, off_t n), (fd, n), is_ours(fd), begin_make())
SIMPLE(ftruncate64, (int fd, off_t n), (fd, n), is_ours(fd), begin_make())
SIMPLE(renameat, (int from, const char *a, int to, const char *b), (from, a, to, b), is_ours_at(from, a), begin_make())
SIMPLE(unlinkat, (int dir, const char *name, int flags), (dir, name, flags), is_ours_at(dir, name), begin_make())
SIMPLE(unlink, (const char *name), (name), is_ours_at(AT_FDCWD, name), begin_make())
SIMPLE(mkdirat, (int dir, const char *name, mode_t mode), (dir, name, mode), is_ours_at(dir, name), begin_make())
OPEN(open, const char *path COMMA, (path, flags, mode), is_ours_at(AT_FDCWD, path))
OPEN(open64, const char *path COMMA, (path, flags, mode), is_ours_at(AT_FDCWD, path))
OPEN(openat, int dir COMMA const char *path COMMA, (dir, path, flags, mode), is_ours_at(dir, path))
OPEN(openat64, int dir COMMA const char *path COMMA, (dir, path, flags, mode), is_ours_at(dir, path))

/* --- the wall clock ------------------------------------------------------------------------------------------------------------ */
DEFINE_REAL(int, clock_gettime, (clockid_t clock, struct timespec *ts))
int clock_gettime(clockid_t clock, struct timespec *ts)
{
    int result = find_clock_gettime()(clock, ts);
    int64_t by_ms = faults->wall_ms;

    if (result || !by_ms || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return result;
    ts->tv_sec += by_ms / 1000;
    ts->tv_nsec += by_ms % 1000 * 1000000;
    if (ts->tv_nsec >= 1000000000 || ts->tv_nsec < 0) {
        int64_t by = ts->tv_nsec < 0 ? -1 : 1;

        ts->tv_sec += by;
        ts->tv_nsec -= by * 1000000000;
    }
    return 0;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    struct timespec now;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *tv = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *out)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("IOTGW_FAULTS");
    int fd = path ? find_open()(path, O_RDWR | O_CLOEXEC) : -1;
    void *p = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (fd >= 0)
        close(fd);
    if (p == MAP_FAILED)
        abort(); /* a test that runs without its faults would prove nothing */
    faults = p;
    directory = getenv("IOTGW_FAULTS_DIR");
    directory_n = directory ? strlen(directory) : 0;
}
