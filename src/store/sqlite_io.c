/* SPDX-License-Identifier: Apache-2.0 */
/* The module iotgw-sqlite: the file store's calls (file_io.h) on segments in databases, as sqlite.h describes. */
#include "store/sqlite.h"
#include "build_id.h"
#include "store/file_format.h"
#include "store/sqlite_db.h"
#include "store/sqlite_legacy.h"

#include "base/log.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HANDLES = 16,           /* open segments: one written, one read, one dropped or looked at */
    FIRST_HANDLE = 1 << 30, /* numbers that are no descriptors of the system's */
    BLOATED =
        64 * 1024 * 1024, /* a file of more, three quarters of it free, is not used again, so that it gets removed */
};

struct place { /* where a segment is */
    uint64_t base, n;
    struct db *db; /* NULL: not chosen yet */
    bool is_written;
    unsigned n_handles;
};

struct medium {
    struct file_io io;
    struct log *log;
    char *path;
    uint64_t db_bytes;
    unsigned max_dbs;
    bool is_looking, is_draining, is_listed;
    int dir;
    struct db **dbs;
    size_t n_dbs;
    struct db *writing, *last; /* last: the one used last beside it */
    struct place **places;
    size_t n_places;
    struct place *handles[HANDLES];
};

static struct medium *of(const struct file_io *io)
{
    return (struct medium *)(void *)(uintptr_t)io;
}

/* --- databases ------------------------------------------------------------------------------------------------------------ */

static struct db *db_add(struct medium *m, unsigned number)
{
    struct db *db = mem_zero(sizeof *db);

    db->number = number;
    db->path = m->path;
    db->may_write = !m->is_looking;
    db_name(db->name, number);
    m->dbs = mem_grow(m->dbs, (m->n_dbs + 1) * sizeof *m->dbs);
    m->dbs[m->n_dbs++] = db;
    return db;
}

static void db_forget(struct medium *m, struct db *db)
{
    db_close(db);
    for (size_t i = 0; i < m->n_dbs; i++)
        if (m->dbs[i] == db)
            m->dbs[i--] = m->dbs[--m->n_dbs];
    if (m->writing == db)
        m->writing = NULL;
    if (m->last == db)
        m->last = NULL;
    mem_free(db);
}

/* The one that is written stays open, and one beside it. */
static void use(struct medium *m, struct db *db)
{
    if (db == m->writing || db == m->last)
        return;
    if (m->last && m->last != m->writing)
        db_close(m->last);
    m->last = db;
}

/* False: it stays. */
static bool quarantine_db(struct medium *m, struct db *db, const char *reason)
{
    int number = mkdirat(m->dir, "quarantine", 0750) && errno != EEXIST ? errno : db_move(db, m->dir, "quarantine");

    LOG_ERROR(m->log, "a damaged database is moved to quarantine", KV_Z("file", db->name), KV_Z("reason", reason),
              KV_Z("moved", number ? err_text(err_from_errno(number)) : "yes"));
    return number == 0;
}

/* Of the file that nothing is in any more: removed; a damaged one is kept, for whoever wants to look. */
static void drop_empty(struct medium *m, struct db *db)
{
    if (db->n_segments || m->is_looking || db->is_foreign || db->is_unread || (db == m->writing && !db->is_given_up))
        return;
    if (db->is_corrupt ? quarantine_db(m, db, "nothing more can be read of it") : db_move(db, m->dir, NULL) == 0) {
        db_forget(m, db);
        return;
    }
    db->is_given_up = true; /* its number is taken */
    LOG_WARN(m->log, "an emptied database cannot be removed", KV_Z("file", db->name));
}

static void given_up(struct medium *m, struct db *db, bool was)
{
    if (!was && db->is_given_up)
        LOG_ERROR(m->log, "a database gets nothing more: what is in it is delivered, a new one is begun",
                  KV_Z("file", db->name), KV_Z("reason", db->is_corrupt ? "it is corrupt" : "it could not be written"));
}

/* --- which database takes the next segment ---------------------------------------------------------------------------------- */

static bool fits(const struct medium *m, const struct db *db, uint64_t n)
{
    return !db->is_given_up && (db->n_used + n <= m->db_bytes || db->n_segments == 0);
}

static bool is_bloated(const struct db *db)
{
    return db->n_bytes > BLOATED && db->n_used < db->n_bytes / 4;
}

static void measure(struct medium *m, struct db *db)
{
    if (db == m->writing && db->handle)
        db_measure(db);
}

static unsigned n_usable(const struct medium *m)
{
    unsigned n = 0;

    for (size_t i = 0; i < m->n_dbs; i++)
        n += m->dbs[i]->is_corrupt || m->dbs[i]->is_foreign ? 0 : 1;
    return n;
}

static struct db *find_room(struct medium *m, uint64_t n)
{
    bool may_grow = n_usable(m) < m->max_dbs;

    if (m->writing) {
        measure(m, m->writing);
        if (fits(m, m->writing, n) && !(may_grow && is_bloated(m->writing)))
            return m->writing;
    }
    if (may_grow)
        return NULL;
    for (size_t i = 0; i < m->n_dbs; i++)
        if (fits(m, m->dbs[i], n))
            return m->dbs[i];
    return NULL;
}

static bool medium_has_room(const struct file_io *io, uint64_t n)
{
    struct medium *m = of(io);

    return n_usable(m) < m->max_dbs || find_room(m, n) != NULL;
}

static void medium_set_limits(const struct file_io *io, uint64_t file_bytes, unsigned n_files)
{
    struct medium *m = of(io);

    m->db_bytes = file_bytes;
    m->max_dbs = n_files;
}

/* Not more than the limit, unless the store has decided that this one must be taken. */
static int choose(struct medium *m, struct place *place, uint64_t n)
{
    struct db *db = find_room(m, n), *before = m->writing;
    unsigned number = 0;
    int failed;

    if (!db) {
        for (size_t i = 0; i < m->n_dbs; i++)
            number = m->dbs[i]->number > number ? m->dbs[i]->number : number;
        db = db_add(m, number + 1);
        failed = db_make(db, m->dir);
        if (failed) {
            db_forget(m, db);
            return failed;
        }
    }
    if (db == m->last)
        m->last = NULL;
    m->writing = db;
    place->db = db;
    db->n_segments++;
    if (before && before != db) {
        if (!m->last)
            m->last = before;
        else
            db_close(before);
        drop_empty(m, before);
    }
    return 0;
}

/* --- segments ------------------------------------------------------------------------------------------------------------------ */

static struct place *place_of(const struct medium *m, uint64_t base)
{
    for (size_t i = 0; i < m->n_places; i++)
        if (m->places[i]->base == base)
            return m->places[i];
    return NULL;
}

static struct place *place_add(struct medium *m, uint64_t base)
{
    struct place *place = mem_zero(sizeof *place);

    place->base = base;
    m->places = mem_grow(m->places, (m->n_places + 1) * sizeof *m->places);
    m->places[m->n_places++] = place;
    return place;
}

/* Once nobody has it open and nothing of it is in a database. */
static void place_release(struct medium *m, struct place *place)
{
    if (place->n_handles || place->db)
        return;
    for (size_t i = 0; i < m->n_places; i++)
        if (m->places[i] == place)
            m->places[i] = m->places[--m->n_places];
    mem_free(place);
}

static struct place *place_at(const struct file_io *io, int fd)
{
    int i = fd - FIRST_HANDLE;

    return i >= 0 && i < HANDLES ? of(io)->handles[i] : NULL;
}

struct taken {
    struct medium *m;
    struct db *db;
};

static void found_segment(void *arg, uint64_t base, uint64_t n)
{
    struct taken *found = arg;
    struct place *place = place_of(found->m, base);

    if (place) /* twice: a copy of a file lies beside it */
        return;
    place = place_add(found->m, base);
    place->n = n;
    place->db = found->db;
    place->is_written = true;
    found->db->n_segments++;
}

/* --- the directory ------------------------------------------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
    const struct db *const *x = a, *const *y = b;

    return (*x)->number < (*y)->number ? -1 : (*x)->number > (*y)->number;
}

static void take_in(struct medium *m, struct db *db)
{
    struct taken taken = {m, db};
    int number;

    use(m, db);
    number = db_open(db);
    if (!number)
        number = db_segments(db, found_segment, &taken);
    if (number)
        db->is_given_up = true;
    if (db->is_corrupt)
        LOG_ERROR(m->log, "a database is damaged: what can be read of it is delivered", KV_Z("file", db->name));
    else if (number)
        LOG_ERROR(m->log, "a database cannot be read: it is left for the next start", KV_Z("file", db->name),
                  KV_ERR(err_from_errno(number)));
    db->is_unread = number && !db->is_corrupt;
}

/* All of them are looked at before any is opened, since opening brings home what its WAL holds. */
static int find_databases(struct medium *m)
{
    int fd = openat(m->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    bool is_newer = false;

    if (!list) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    for (const struct dirent *entry; (entry = readdir(list));) {
        unsigned number;
        enum err err;

        if (!db_name_parse(entry->d_name, &number))
            continue;
        err = db_check(m->dir, entry->d_name);
        is_newer |= err == ERR_UNSUPPORTED;
        if (err == ERR_UNSUPPORTED || err == ERR_EXISTS)
            LOG_ERROR(m->log, "a database is left alone",
                      KV_Z("why", err == ERR_EXISTS ? "another program's" : "a newer version wrote it"),
                      KV_Z("file", entry->d_name));
        struct db *db = db_add(m, number);

        db->is_foreign = db->is_given_up = err == ERR_EXISTS; /* its number is taken */
    }
    closedir(list);
    if (!is_newer)
        return 0;
    errno = EOPNOTSUPP;
    return -1;
}

static int scan(struct medium *m)
{
    if (find_databases(m))
        return -1;
    m->is_listed = true;
    if (m->n_dbs)
        qsort(m->dbs, m->n_dbs, sizeof *m->dbs, by_number);
    for (size_t i = 0; i < m->n_dbs; i++)
        if (!m->dbs[i]->is_foreign)
            take_in(m, m->dbs[i]);
    if (m->is_looking)
        return 0;
    for (size_t i = m->n_dbs; i-- > 0 && !m->writing && !m->is_draining;)
        if (!m->dbs[i]->is_given_up)
            m->writing = m->dbs[i];
    if (m->last == m->writing)
        m->last = NULL;
    for (size_t i = m->n_dbs; i-- > 0;)
        drop_empty(m, m->dbs[i]);
    return 0;
}

static int medium_list(const struct file_io *io, int dir, file_io_name_fn *each, void *arg)
{
    struct medium *m = of(io);

    m->dir = dir;
    if (!m->is_listed && scan(m))
        return -1;
    for (size_t i = 0; i < m->n_places; i++) {
        char name[SEGMENT_NAME];

        if (!m->places[i]->is_written)
            continue;
        segment_name(name, m->places[i]->base);
        each(arg, name, m->places[i]->n);
    }
    return 0;
}

/* --- the calls ------------------------------------------------------------------------------------------------------------------ */

/* The state has a name of its own, so that a file store may lie in the same directory. */
static const char *own_name(const char *name)
{
    if (strcmp(name, "state") == 0)
        return "events.state";
    return strcmp(name, "state.new") == 0 ? "events.state.new" : name;
}

static int open_segment(struct medium *m, uint64_t base, int flags)
{
    struct place *place = place_of(m, base);
    int i = 0;

    if (!place && !(flags & O_CREAT)) {
        errno = ENOENT;
        return -1;
    }
    while (i < HANDLES && m->handles[i])
        i++;
    if (i == HANDLES) {
        errno = EMFILE;
        return -1;
    }
    if (!place)
        place = place_add(m, base);
    place->n_handles++;
    m->handles[i] = place;
    return FIRST_HANDLE + i;
}

static int medium_open(const struct file_io *io, int dir, const char *name, int flags, mode_t mode)
{
    uint64_t base;

    if (segment_name_parse(name, &base))
        return open_segment(of(io), base, flags);
    return file_io_system.open(&file_io_system, dir, own_name(name), flags, mode);
}

static int medium_close(const struct file_io *io, int fd)
{
    struct place *place = place_at(io, fd);

    if (!place)
        return close(fd);
    of(io)->handles[fd - FIRST_HANDLE] = NULL;
    place->n_handles--;
    place_release(of(io), place);
    return 0;
}

static int result(int number)
{
    errno = number;
    return number ? -1 : 0;
}

/* Where the segment will stand. Nothing is reserved: the database grows by larger pieces than it needs. */
static int medium_allocate(const struct file_io *io, int fd, off_t size)
{
    struct place *place = place_at(io, fd);

    if (!place)
        return file_io_system.allocate(&file_io_system, fd, size);
    return place->db ? 0 : result(choose(of(io), place, (uint64_t)size));
}

static ssize_t medium_pread(const struct file_io *io, int fd, void *to, size_t n, off_t at)
{
    struct place *place = place_at(io, fd);
    struct medium *m = of(io);
    bool was_given_up;
    ssize_t got;

    if (!place)
        return pread(fd, to, n, at);
    if ((uint64_t)at >= place->n || !place->db)
        return 0;
    use(m, place->db);
    was_given_up = place->db->is_given_up;
    got = db_get(place->db, place->base + (uint64_t)at, place->base + place->n, to, n);
    given_up(m, place->db, was_given_up);
    return got;
}

static ssize_t medium_pwritev(const struct file_io *io, int fd, const struct iovec *parts, int n_parts, off_t at)
{
    struct place *place = place_at(io, fd);
    struct medium *m = of(io);
    bool was_given_up;
    size_t n;
    int number;

    if (!place)
        return pwritev(fd, parts, n_parts, at);
    was_given_up = place->db->is_given_up;
    number = db_put(place->db, at == 0 ? place->base : UINT64_MAX, place->base + (uint64_t)at, parts, n_parts, &n);
    given_up(m, place->db, was_given_up);
    if (number) {
        errno = number;
        return -1;
    }
    place->is_written = true;
    if ((uint64_t)at + n > place->n)
        place->n = (uint64_t)at + n;
    return (ssize_t)n;
}

/* A write is durable when it returns. */
static int medium_fdatasync(const struct file_io *io, int fd)
{
    return place_at(io, fd) ? 0 : fdatasync(fd);
}

static int medium_fsync(const struct file_io *io, int fd)
{
    (void)io;
    (void)fd; /* of the directory: synced when a database was made */
    return 0;
}

static int medium_truncate(const struct file_io *io, int fd, off_t size)
{
    struct place *place = place_at(io, fd);
    int number = 0;

    if (!place)
        return ftruncate(fd, size);
    if (!place->db || place->n <= (uint64_t)size)
        return 0;
    if (!place->db->is_corrupt) {
        use(of(io), place->db);
        number = db_delete(place->db, place->base + (uint64_t)size, place->base + place->n, false);
    }
    if (!number)
        place->n = (uint64_t)size;
    return result(number);
}

static int medium_rename(const struct file_io *io, int dir, const char *from, const char *to)
{
    (void)io;
    return renameat(dir, own_name(from), dir, own_name(to));
}

static int unlink_segment(struct medium *m, struct place *place)
{
    struct db *db = place->db;
    int number = 0;

    if (db && place->is_written && !db->is_corrupt) {
        use(m, db);
        number = db_delete(db, place->base, place->base + (place->n ? place->n : 1), true);
    }
    if (number && !db->is_corrupt)
        return number;
    place->db = NULL;
    place_release(m, place);
    if (db && --db->n_segments == 0)
        drop_empty(m, db);
    return 0;
}

static int medium_unlink(const struct file_io *io, int dir, const char *name)
{
    uint64_t base;
    struct place *place;

    if (!segment_name_parse(name, &base))
        return unlinkat(dir, own_name(name), 0);
    place = place_of(of(io), base);
    return result(place ? unlink_segment(of(io), place) : ENOENT);
}

static int medium_mkdir(const struct file_io *io, int dir, const char *name, mode_t mode)
{
    (void)io;
    return mkdirat(dir, name, mode);
}

static void medium_free(const struct file_io *io)
{
    struct medium *m = of(io);

    for (size_t i = 0; i < m->n_dbs; i++) {
        db_close(m->dbs[i]);
        mem_free(m->dbs[i]);
    }
    for (size_t i = 0; i < m->n_places; i++)
        mem_free(m->places[i]);
    mem_free(m->dbs);
    mem_free(m->places);
    mem_free(m->path);
    mem_free(m);
}

static const struct file_io calls = {
    .open = medium_open,
    .pread = medium_pread,
    .pwritev = medium_pwritev,
    .fdatasync = medium_fdatasync,
    .fsync = medium_fsync,
    .allocate = medium_allocate,
    .truncate = medium_truncate,
    .rename = medium_rename,
    .unlink = medium_unlink,
    .mkdir = medium_mkdir,
    .close = medium_close,
    .list = medium_list,
    .has_room = medium_has_room,
    .set_limits = medium_set_limits,
    .is_elastic = true,
    .free = medium_free,
};

static struct medium *medium_new(const char *path, struct log *log)
{
    struct medium *m = mem_zero(sizeof *m);

    m->io = calls;
    m->path = mem_dup(path);
    m->log = log;
    m->dir = -1;
    m->max_dbs = 1;
    m->db_bytes = UINT64_MAX / 2;
    return m;
}

static const struct file_io *medium_for_store(const struct sqlite_conf *conf)
{
    struct medium *m = medium_new(conf->file.path, conf->file.log);

    m->db_bytes = conf->db_bytes;
    m->max_dbs = conf->max_dbs;
    return &m->io;
}

static const struct file_io *medium_to_look(const char *path, struct log *log)
{
    struct medium *m = medium_new(path, log);

    m->is_looking = true;
    return &m->io;
}

static const struct file_io *medium_to_drain(const char *path, struct log *log)
{
    struct medium *m = medium_new(path, log);

    m->is_draining = true;
    return &m->io;
}

const struct sqlite_api iotgw_sqlite = {
    .own = {.size = sizeof(struct sqlite_api), .build_id = IOTGW_BUILD_ID},
    .open = medium_for_store,
    .look = medium_to_look,
    .drain = medium_to_drain,
    .legacy = sqlite_legacy_open,
};
