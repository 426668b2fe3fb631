/* SPDX-License-Identifier: Apache-2.0 */
#include "disk.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FIRST_FD = 100000, FDS = 256, NAMES = 256, NAME = 128 };

struct image {
    uint8_t *bytes;
    size_t n, cap;
    uint64_t size; /* with what is reserved and reads as zeroes */
};

enum change_kind { CHANGE_WRITE, CHANGE_RESERVE, CHANGE_TRUNCATE };
struct change {
    enum change_kind kind;
    uint64_t at;
    size_t n;
    uint8_t *bytes;
    bool is_doomed; /* a sync of it failed: no later one makes it durable */
};

struct inode {
    struct image now, durable;
    struct change *changes;
    size_t n_changes, cap_changes;
    unsigned n_users; /* names, durable names, changes of names, descriptors */
};

struct name {
    char text[NAME];
    struct inode *inode;
};
struct names {
    struct name at[NAMES];
    size_t n;
};

struct move {                  /* a change of names that no sync has covered */
    char from[NAME], to[NAME]; /* from empty: created; to empty: removed */
    struct inode *inode;
};

struct fault {
    int number;
    unsigned after, times, n_failed;
};

static struct names names, durable_names;
static struct move *moves;
static size_t n_moves, cap_moves;
static struct inode *fds[FDS];
static struct fault faults[DISK_CALLS];
static unsigned n_left;
static bool will_die, is_dead;
static uint64_t capacity;

/* --- images and inodes --------------------------------------------------------------------------------------------------- */

static void image_write(struct image *image, uint64_t at, const uint8_t *bytes, size_t n)
{
    size_t end = (size_t)at + n;

    if (!n)
        return;
    if (end > image->cap) {
        image->cap = 2 * end;
        image->bytes = mem_grow(image->bytes, image->cap);
    }
    if (end > image->n) {
        memset(image->bytes + image->n, 0, end - image->n);
        image->n = end;
    }
    memcpy(image->bytes + at, bytes, n);
    if (image->size < end)
        image->size = end;
}

static void image_resize(struct image *image, uint64_t size)
{
    image->size = size;
    if (image->n > size)
        image->n = (size_t)size;
}

static void apply(struct image *image, const struct change *change, size_t n)
{
    switch (change->kind) {
    case CHANGE_WRITE:
        image_write(image, change->at, change->bytes, n);
        break;
    case CHANGE_RESERVE:
        if (image->size < change->at)
            image->size = change->at;
        break;
    case CHANGE_TRUNCATE:
        image_resize(image, change->at);
        break;
    }
}

static void forget_changes(struct inode *inode)
{
    for (size_t i = 0; i < inode->n_changes; i++)
        mem_free(inode->changes[i].bytes);
    inode->n_changes = 0;
}

static struct inode *use(struct inode *inode)
{
    inode->n_users++;
    return inode;
}

static void drop(struct inode *inode)
{
    if (--inode->n_users)
        return;
    forget_changes(inode);
    mem_free(inode->changes);
    mem_free(inode->now.bytes);
    mem_free(inode->durable.bytes);
    mem_free(inode);
}

static void change(struct inode *inode, struct change what)
{
    apply(&inode->now, &what, what.n);
    if (inode->n_changes == inode->cap_changes) {
        inode->cap_changes = inode->cap_changes ? 2 * inode->cap_changes : 8;
        inode->changes = mem_grow(inode->changes, inode->cap_changes * sizeof *inode->changes);
    }
    inode->changes[inode->n_changes++] = what;
}

/* --- names ------------------------------------------------------------------------------------------------------------------ */

static struct name *find(struct names *in, const char *text)
{
    for (size_t i = 0; i < in->n; i++)
        if (strcmp(in->at[i].text, text) == 0)
            return &in->at[i];
    return NULL;
}

static void name_remove(struct names *in, const char *text)
{
    struct name *name = find(in, text);

    if (!name)
        return;
    drop(name->inode);
    *name = in->at[--in->n];
}

static void name_set(struct names *in, const char *text, struct inode *inode)
{
    use(inode);
    name_remove(in, text);
    if (in->n == NAMES)
        mem_die(NAMES);
    snprintf(in->at[in->n].text, NAME, "%s", text);
    in->at[in->n++].inode = inode;
}

static void move_apply(struct names *in, const struct move *move)
{
    if (move->to[0])
        name_set(in, move->to, move->inode);
    if (move->from[0])
        name_remove(in, move->from);
}

static void move_note(const char *from, const char *to, struct inode *inode)
{
    if (n_moves == cap_moves) {
        cap_moves = cap_moves ? 2 * cap_moves : 16;
        moves = mem_grow(moves, cap_moves * sizeof *moves);
    }
    struct move *move = &moves[n_moves++];

    *move = (struct move){.inode = use(inode)};
    snprintf(move->from, NAME, "%s", from);
    snprintf(move->to, NAME, "%s", to);
    move_apply(&names, move);
}

static void forget_moves(void)
{
    for (size_t i = 0; i < n_moves; i++)
        drop(moves[i].inode);
    n_moves = 0;
}

/* --- calls --------------------------------------------------------------------------------------------------------------------- */

static bool fails(enum disk_call call)
{
    struct fault *fault = &faults[call];

    if (is_dead) {
        errno = EIO;
        return true;
    }
    if (call != DISK_LOOK && will_die && n_left-- == 0) {
        is_dead = true;
        errno = EIO;
        return true;
    }
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

static bool is_ours(int fd)
{
    return fd >= FIRST_FD;
}

static struct inode *inode_of(int fd)
{
    return fds[fd - FIRST_FD];
}

uint64_t disk_bytes(void)
{
    uint64_t n = 0;

    for (size_t i = 0; i < names.n; i++)
        n += names.at[i].inode->now.size;
    return n;
}

static bool is_full(uint64_t more)
{
    if (!capacity || disk_bytes() + more <= capacity)
        return false;
    errno = ENOSPC;
    return true;
}

/* The reader of the state file asks the system for its size. */
static int open_copy(const struct inode *inode)
{
    int fd = memfd_create("state", MFD_CLOEXEC);

    if (fd >= 0 && write(fd, inode->now.bytes, inode->now.n) != (ssize_t)inode->now.n)
        mem_die(inode->now.n);
    return fd;
}

static int disk_open(UNUSED const struct file_io *io, int dir, const char *text, int flags, mode_t mode)
{
    bool writes = flags & (O_WRONLY | O_RDWR);
    struct name *name = find(&names, text);
    int at = 0;

    if (dir == AT_FDCWD)
        return file_io_system.open(&file_io_system, dir, text, flags, mode);
    if (fails(writes ? DISK_OPEN : DISK_LOOK))
        return -1;
    if (name ? (flags & O_CREAT && flags & O_EXCL) : !(flags & O_CREAT)) {
        errno = name ? EEXIST : ENOENT;
        return -1;
    }
    if (!writes && strcmp(text, "state") == 0)
        return open_copy(name->inode);
    while (at < FDS && fds[at])
        at++;
    if (at == FDS) {
        errno = EMFILE;
        return -1;
    }
    if (!name)
        move_note("", text, mem_zero(sizeof(struct inode)));
    else if (flags & O_TRUNC)
        change(name->inode, (struct change){.kind = CHANGE_TRUNCATE});
    fds[at] = use(find(&names, text)->inode);
    return FIRST_FD + at;
}

static ssize_t disk_pread(UNUSED const struct file_io *io, int fd, void *to, size_t n, off_t at)
{
    const struct image *image;
    size_t left, there;

    if (!is_ours(fd))
        return pread(fd, to, n, at);
    image = &inode_of(fd)->now;
    if ((uint64_t)at >= image->size)
        return 0;
    left = (size_t)(image->size - (uint64_t)at);
    n = n < left ? n : left;
    there = (size_t)at < image->n ? image->n - (size_t)at : 0;
    there = there < n ? there : n;
    if (there)
        memcpy(to, image->bytes + at, there);
    memset((uint8_t *)to + there, 0, n - there);
    return (ssize_t)n;
}

static ssize_t disk_pwritev(UNUSED const struct file_io *io, int fd, const struct iovec *parts, int n_parts, off_t at)
{
    struct inode *inode = inode_of(fd);
    size_t n = 0;
    uint8_t *bytes;

    if (fails(DISK_WRITE))
        return -1;
    for (int i = 0; i < n_parts; i++)
        n += parts[i].iov_len;
    if ((uint64_t)at + n > inode->now.size && is_full((uint64_t)at + n - inode->now.size))
        return -1;
    bytes = mem_new(n);
    n = 0;
    for (int i = 0; i < n_parts; i++) {
        memcpy(bytes + n, parts[i].iov_base, parts[i].iov_len);
        n += parts[i].iov_len;
    }
    change(inode, (struct change){.kind = CHANGE_WRITE, .at = (uint64_t)at, .n = n, .bytes = bytes});
    return (ssize_t)n;
}

static int disk_fdatasync(UNUSED const struct file_io *io, int fd)
{
    struct inode *inode = inode_of(fd);

    if (fails(DISK_SYNC)) {
        for (size_t i = 0; !is_dead && i < inode->n_changes; i++)
            inode->changes[i].is_doomed |= inode->changes[i].kind == CHANGE_WRITE;
        return -1;
    }
    for (size_t i = 0; i < inode->n_changes; i++)
        if (!inode->changes[i].is_doomed)
            apply(&inode->durable, &inode->changes[i], inode->changes[i].n);
    forget_changes(inode);
    return 0;
}

static int disk_fsync(UNUSED const struct file_io *io, UNUSED int fd)
{
    if (fails(DISK_SYNC_DIR))
        return -1;
    for (size_t i = 0; i < n_moves; i++)
        move_apply(&durable_names, &moves[i]);
    forget_moves();
    return 0;
}

static int disk_allocate(UNUSED const struct file_io *io, int fd, off_t size)
{
    struct inode *inode = inode_of(fd);

    if (fails(DISK_ALLOCATE))
        return -1;
    if ((uint64_t)size > inode->now.size && is_full((uint64_t)size - inode->now.size))
        return -1;
    change(inode, (struct change){.kind = CHANGE_RESERVE, .at = (uint64_t)size});
    return 0;
}

static int disk_truncate(UNUSED const struct file_io *io, int fd, off_t size)
{
    if (fails(DISK_ALLOCATE))
        return -1;
    change(inode_of(fd), (struct change){.kind = CHANGE_TRUNCATE, .at = (uint64_t)size});
    return 0;
}

static int disk_rename(UNUSED const struct file_io *io, UNUSED int dir, const char *from, const char *to)
{
    struct name *name = find(&names, from);

    if (fails(DISK_RENAME))
        return -1;
    if (!name) {
        errno = ENOENT;
        return -1;
    }
    move_note(from, to, name->inode);
    return 0;
}

static int disk_unlink(UNUSED const struct file_io *io, UNUSED int dir, const char *text)
{
    struct name *name = find(&names, text);

    if (fails(DISK_UNLINK))
        return -1;
    if (!name) {
        errno = ENOENT;
        return -1;
    }
    move_note(text, "", name->inode);
    return 0;
}

static int disk_mkdir(UNUSED const struct file_io *io, UNUSED int dir, UNUSED const char *name, UNUSED mode_t mode)
{
    return fails(DISK_OPEN) ? -1 : 0;
}

static int disk_close(UNUSED const struct file_io *io, int fd)
{
    if (!is_ours(fd))
        return close(fd);
    drop(inode_of(fd));
    fds[fd - FIRST_FD] = NULL;
    return 0;
}

static int disk_list(UNUSED const struct file_io *io, UNUSED int dir, file_io_name_fn *each, void *arg)
{
    for (size_t i = 0; i < names.n; i++)
        if (!strchr(names.at[i].text, '/'))
            each(arg, names.at[i].text, names.at[i].inode->now.size);
    return 0;
}

const struct file_io disk_io = {
    .open = disk_open,
    .pread = disk_pread,
    .pwritev = disk_pwritev,
    .fdatasync = disk_fdatasync,
    .fsync = disk_fsync,
    .allocate = disk_allocate,
    .truncate = disk_truncate,
    .rename = disk_rename,
    .unlink = disk_unlink,
    .mkdir = disk_mkdir,
    .close = disk_close,
    .list = disk_list,
};

/* --- the test's hand ------------------------------------------------------------------------------------------------------------ */

void disk_fail(enum disk_call call, int number, unsigned after, unsigned times)
{
    faults[call] = (struct fault){.number = number, .after = after, .times = times};
}

void disk_mend(void)
{
    memset(faults, 0, sizeof faults);
    capacity = 0;
    will_die = false;
}

void disk_die_after(unsigned n)
{
    n_left = n;
    will_die = true;
}

bool disk_is_dead(void)
{
    return is_dead;
}

void disk_is_full_at(uint64_t bytes)
{
    capacity = bytes;
}

void disk_close_all(void)
{
    for (int i = 0; i < FDS; i++) {
        if (fds[i])
            drop(fds[i]);
        fds[i] = NULL;
    }
    will_die = is_dead = false;
}

/* What the machine finds when it is switched on again is both what is seen and what is durable. */
static void settle(struct inode *inode, unsigned chance, uint32_t (*roll)(uint32_t n))
{
    for (size_t i = 0; i < inode->n_changes; i++) {
        const struct change *what = &inode->changes[i];
        bool is_lost = roll(100) < chance;

        if (is_lost && what->kind != CHANGE_WRITE)
            continue;
        apply(&inode->durable, what, is_lost ? (chance < 100 ? roll((uint32_t)what->n + 1) : 0) : what->n);
    }
    forget_changes(inode);
    inode->now.n = 0;
    inode->now.size = 0;
    image_write(&inode->now, 0, inode->durable.bytes, inode->durable.n);
    inode->now.size = inode->durable.size;
}

void disk_lose_power(unsigned chance, uint32_t (*roll)(uint32_t n))
{
    disk_close_all();
    for (size_t i = 0; i < n_moves; i++)
        if (roll(100) >= chance)
            move_apply(&durable_names, &moves[i]);
    forget_moves();
    while (names.n)
        name_remove(&names, names.at[0].text);
    for (size_t i = 0; i < durable_names.n; i++) {
        settle(durable_names.at[i].inode, chance, roll);
        name_set(&names, durable_names.at[i].text, durable_names.at[i].inode);
    }
}

void disk_clear(void)
{
    disk_close_all();
    forget_moves();
    while (names.n)
        name_remove(&names, names.at[0].text);
    while (durable_names.n)
        name_remove(&durable_names, durable_names.at[0].text);
    disk_mend();
}
