/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into the gateway by a test: counts allocations, system calls, and what may wait, in a file that the test maps
 * (IOTGW_COUNTS; struct counts). Lives in its own shared object, so that the program is the real one.
 */
#undef _FILE_OFFSET_BITS /* both names of each call are here, as nobody knows which one a library uses */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* glibc's own entry points: dlsym itself allocates. */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);

struct counts { /* tests/scenario/test_hot_path.py knows it */
    _Atomic(uint64_t) allocations, locks, clocks;
    _Atomic(uint64_t) writes, reads, waits,
        others;               /* system calls; waits: epoll; others: on files, and of epoll's lists */
    _Atomic(uint64_t) wakes;  /* of the writes: to an eventfd, which wakes another thread than the main one */
    _Atomic(uint64_t) looks;  /* epoll without waiting: what libuv does before a wait to know how long it is idle */
    _Atomic(uint64_t) pieces; /* reads of a socket that brought much: a burst, or a part of one */
    _Atomic(uint64_t) groups; /* writes to a segment of the file store: commits */
};
static struct counts nobodys, *counts = &nobodys;

void *malloc(size_t n)
{
    counts->allocations++;
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    counts->allocations++;
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    counts->allocations++;
    return __libc_realloc(p, n);
}

static bool is_named(int fd, const char *part)
{
    char link[32], name[4096];
    ssize_t n;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, name, sizeof name - 1);
    name[n < 0 ? 0 : n] = '\0';
    return strstr(name, part) != NULL;
}

static bool is_main_thread(void)
{
    return gettid() == getpid();
}

/* What wakes the main thread's loop: it reads from there. A burst does not pass it. */
static _Atomic(int) main_wake = -1;

static void look_for_main(int fd)
{
    if (is_main_thread() && is_named(fd, "anon_inode:[eventfd]"))
        main_wake = fd;
}

/* What wakes another thread's loop, between threads that a burst passes. */
static void look_for_wake(int fd, size_t n)
{
    counts->wakes +=
        n == sizeof(uint64_t) && !is_main_thread() && fd != main_wake && is_named(fd, "anon_inode:[eventfd]");
}

static ssize_t look_for_piece(ssize_t n)
{
    enum { MUCH = 16 * 1024 };

    counts->pieces += n >= MUCH;
    return n;
}

_Static_assert(sizeof(off_t) == 8, "both names mean the same");

#define COUNTED(counter, type, name, parameters, arguments, before)                                                    \
    COUNTED_WITH(counter, type, name, parameters, arguments, before, )
#define COUNTED_WITH(counter, type, name, parameters, arguments, before, after)                                        \
    type name parameters;                                                                                              \
    type name parameters                                                                                               \
    {                                                                                                                  \
        static type(*real) parameters;                                                                                 \
                                                                                                                       \
        if (!real)                                                                                                     \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                                                 \
        counts->counter++;                                                                                             \
        before;                                                                                                        \
        return after(real arguments);                                                                                  \
    }
#define NOTHING (void)0
COUNTED(locks, int, pthread_mutex_lock, (pthread_mutex_t * mutex), (mutex), NOTHING)
COUNTED(clocks, int, clock_gettime, (clockid_t clock, struct timespec *ts), (clock, ts), NOTHING)
COUNTED(writes, ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n), look_for_wake(fd, n))
COUNTED(writes, ssize_t, writev, (int fd, const struct iovec *iov, int n), (fd, iov, n), NOTHING)
COUNTED(writes, ssize_t, send, (int fd, const void *p, size_t n, int flags), (fd, p, n, flags), NOTHING)
COUNTED(writes, ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags), NOTHING)
COUNTED(reads, ssize_t, read, (int fd, void *p, size_t n), (fd, p, n), look_for_main(fd))
COUNTED(reads, ssize_t, readv, (int fd, const struct iovec *iov, int n), (fd, iov, n), NOTHING)
COUNTED_WITH(reads, ssize_t, recv, (int fd, void *p, size_t n, int flags), (fd, p, n, flags), NOTHING, look_for_piece)
COUNTED(reads, ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags), NOTHING)
COUNTED(reads, ssize_t, __read_chk, (int fd, void *p, size_t n, size_t of), (fd, p, n, of), look_for_main(fd))
COUNTED_WITH(reads, ssize_t, __recv_chk, (int fd, void *p, size_t n, size_t of, int flags), (fd, p, n, of, flags),
             NOTHING, look_for_piece)
COUNTED(others, ssize_t, __pread_chk, (int fd, void *p, size_t n, off_t at, size_t of), (fd, p, n, at, of), NOTHING)
COUNTED(others, ssize_t, __pread64_chk, (int fd, void *p, size_t n, off_t at, size_t of), (fd, p, n, at, of), NOTHING)
/* What a signal of the test's interrupts is not counted. */
static int count_wait(int result, int ms)
{
    counts->looks += ms == 0;
    counts->waits += ms != 0 && (result >= 0 || errno != EINTR);
    return result;
}

#define WAIT(name, parameters, arguments)                                                                              \
    int name parameters;                                                                                               \
    int name parameters                                                                                                \
    {                                                                                                                  \
        static int(*real) parameters;                                                                                  \
                                                                                                                       \
        if (!real)                                                                                                     \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                                                 \
        return count_wait(real arguments, ms);                                                                         \
    }
WAIT(epoll_wait, (int fd, struct epoll_event *events, int n, int ms), (fd, events, n, ms))
WAIT(epoll_pwait, (int fd, struct epoll_event *events, int n, int ms, const sigset_t *signals),
     (fd, events, n, ms, signals))
COUNTED(others, int, epoll_ctl, (int fd, int op, int of, struct epoll_event *event), (fd, op, of, event), NOTHING)
COUNTED(others, ssize_t, pwritev, (int fd, const struct iovec *iov, int n, off_t at), (fd, iov, n, at),
        counts->groups += is_named(fd, "/events-"))
COUNTED(others, ssize_t, pwritev64, (int fd, const struct iovec *iov, int n, off_t at), (fd, iov, n, at),
        counts->groups += is_named(fd, "/events-"))
COUNTED(others, ssize_t, pread, (int fd, void *p, size_t n, off_t at), (fd, p, n, at), NOTHING)
COUNTED(others, ssize_t, pread64, (int fd, void *p, size_t n, off_t at), (fd, p, n, at), NOTHING)
COUNTED(others, int, fdatasync, (int fd), (fd), NOTHING)
COUNTED(others, int, fsync, (int fd), (fd), NOTHING)
COUNTED(others, int, posix_fallocate, (int fd, off_t at, off_t n), (fd, at, n), NOTHING)
COUNTED(others, int, posix_fallocate64, (int fd, off_t at, off_t n), (fd, at, n), NOTHING)
COUNTED(others, int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n), NOTHING)
COUNTED(others, int, fallocate64, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n), NOTHING)
COUNTED(others, int, ftruncate, (int fd, off_t n), (fd, n), NOTHING)
COUNTED(others, int, ftruncate64, (int fd, off_t n), (fd, n), NOTHING)
COUNTED(others, int, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to), NOTHING)
COUNTED(others, int, unlinkat, (int dir, const char *name, int flags), (dir, name, flags), NOTHING)

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("IOTGW_COUNTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *p = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (fd >= 0)
        close(fd);
    if (p == MAP_FAILED)
        abort(); /* a test that counts nothing would prove nothing */
    counts = p;
}
