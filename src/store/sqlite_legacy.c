/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SQLite storage of the Python gateway (storage.md 3): data.db, then data_<ms>.db, each with
 *
 *     messages(id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp INTEGER, message TEXT)
 *
 * An older one has no id, or no timestamp; so rows are told apart by their row number, which is the id where there is one.
 * messages_old is what a migration that was cut off has left: it goes first. A database with other columns is none of the Python
 * gateway's, and is not touched. What is done is deleted, a database with nothing in it is removed.
 */
#include "store/sqlite_legacy.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_SIZE = 4200, TABLES = 2 };
static const char *const tables[TABLES] = {"messages_old", "messages"};

struct database {
    uint64_t ms; /* 0: data.db */
    char *name;
};

struct databases {
    struct legacy legacy;
    struct database *all;
    size_t n, at;
    sqlite3 *handle; /* of the one that is read; NULL: not open */
    sqlite3_stmt *select, *delete;
    bool has_table[TABLES], has_time[TABLES];
    size_t table;
    sqlite3_int64 passed; /* row number up to which the table has been read */
    bool is_foreign, is_damaged;
    struct legacy_ends ends; /* file: table; place: row number. All of one table: the next begins when they are done */
};

static struct databases *databases_of(struct legacy *legacy)
{
    return CONTAINER_OF(legacy, struct databases, legacy);
}

static void path_of(const struct databases *d, const char *suffix, char path[PATH_SIZE])
{
    snprintf(path, PATH_SIZE, "%s/%s%s", d->legacy.path, d->all[d->at].name, suffix);
}

static enum err failed(const struct databases *d, const char *doing, struct why *why)
{
    int code = sqlite3_errcode(d->handle) & 0xff;
    enum err err = code == SQLITE_BUSY || code == SQLITE_LOCKED ? ERR_BUSY
                   : code == SQLITE_FULL                        ? ERR_NOSPACE
                   : code == SQLITE_NOTADB                      ? ERR_UNSUPPORTED
                   : code == SQLITE_CORRUPT                     ? ERR_CORRUPT
                                                                : ERR_IO;

    return why_set(why, err, "%s/%s cannot be %s: %s", d->legacy.path, d->all[d->at].name, doing,
                   sqlite3_errmsg(d->handle));
}

/* --- one database ----------------------------------------------------------------------------------------------------------- */

static void end_table(struct databases *d)
{
    sqlite3_finalize(d->select);
    sqlite3_finalize(d->delete);
    d->select = d->delete = NULL;
    d->passed = INT64_MIN;
}

static void close_database(struct databases *d)
{
    end_table(d);
    sqlite3_close_v2(d->handle);
    d->handle = NULL;
    d->table = 0;
    d->is_foreign = d->is_damaged = false;
}

/* The columns it knows are id, timestamp and message. */
static enum err look_at_table(struct databases *d, size_t i, struct why *why)
{
    sqlite3_stmt *columns = NULL;
    bool has_message = false, has_other = false;
    int code;

    d->has_table[i] = d->has_time[i] = false;
    code = sqlite3_prepare_v2(d->handle, "SELECT name FROM pragma_table_info(?1)", -1, &columns, NULL);
    if (code)
        return failed(d, "read", why);
    sqlite3_bind_text(columns, 1, tables[i], -1, SQLITE_STATIC);
    while ((code = sqlite3_step(columns)) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(columns, 0);

        if (name && strcmp(name, "message") == 0)
            has_message = true;
        else if (name && strcmp(name, "timestamp") == 0)
            d->has_time[i] = true;
        else if (!name || strcmp(name, "id") != 0)
            has_other = true;
    }
    sqlite3_finalize(columns);
    if (code != SQLITE_DONE)
        return failed(d, "read", why);
    d->has_table[i] = has_message && !has_other;
    d->is_foreign |= has_other;
    return ERR_OK;
}

static enum err look(struct databases *d, struct why *why)
{
    enum err err = ERR_OK;

    for (size_t i = 0; i < TABLES && !err; i++)
        err = look_at_table(d, i, why);
    if (!err && !d->has_table[0] && !d->has_table[1])
        d->is_foreign = true;
    return err;
}

static enum err open_database(struct databases *d, struct why *why)
{
    char path[PATH_SIZE];
    enum err err;

    path_of(d, "", path);
    if (sqlite3_open_v2(path, &d->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) ||
        sqlite3_exec(d->handle,
                     "PRAGMA busy_timeout=1000; PRAGMA synchronous=FULL; PRAGMA cache_size=-512; PRAGMA mmap_size=0;"
                     "PRAGMA journal_size_limit=8388608; PRAGMA trusted_schema=0",
                     NULL, NULL, NULL))
        err = failed(d, "opened", why);
    else
        err = look(d, why);
    if (err)
        close_database(d);
    return err;
}

static enum err begin_table(struct databases *d, struct why *why)
{
    char sql[400];

    snprintf(sql, sizeof sql,
             "SELECT rowid, CASE WHEN length(CAST(message AS BLOB)) <= %d THEN message END, %s FROM %s "
             "WHERE rowid > ?1 ORDER BY rowid",
             LEGACY_ENTRY_MAX, d->has_time[d->table] ? "timestamp" : "0", tables[d->table]);
    if (sqlite3_prepare_v3(d->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &d->select, NULL))
        return failed(d, "read", why);
    snprintf(sql, sizeof sql, "DELETE FROM %s WHERE rowid <= ?1", tables[d->table]);
    if (sqlite3_prepare_v3(d->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &d->delete, NULL))
        return failed(d, "written", why);
    return ERR_OK;
}

static enum err delete_up_to(struct databases *d, sqlite3_int64 row, struct why *why)
{
    int code;

    sqlite3_bind_int64(d->delete, 1, row);
    code = sqlite3_step(d->delete);
    sqlite3_reset(d->delete);
    return code == SQLITE_DONE ? ERR_OK : failed(d, "written", why);
}

/* With its write-ahead log. to: NULL: removed. */
static enum err move_database(struct databases *d, const char *to, struct why *why)
{
    static const char *const suffixes[] = {"-wal", "-shm", ""};
    char from[PATH_SIZE], target[PATH_SIZE + 16];

    close_database(d);
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        path_of(d, suffixes[i], from);
        snprintf(target, sizeof target, "%s/%s/%s%s", d->legacy.path, to ? to : "", d->all[d->at].name, suffixes[i]);
        if ((to ? rename(from, target) : unlink(from)) && errno != ENOENT)
            return why_set(why, err_from_errno(errno), "%s cannot be %s: %s", from, to ? "moved" : "removed",
                           err_text(err_from_errno(errno)));
    }
    return ERR_OK;
}

static enum err put_aside(struct databases *d, const struct why *reason)
{
    char folder[PATH_SIZE];
    struct why why = {0};
    enum err err;

    snprintf(folder, sizeof folder, "%s/quarantine", d->legacy.path);
    err = mkdir(folder, 0750) && errno != EEXIST ? err_from_errno(errno) : move_database(d, "quarantine", &why);
    d->legacy.n_corrupt++;
    LOG_ERROR(d->legacy.log, "a damaged database of the Python gateway is moved to quarantine, its other rows are lost",
              KV_Z("directory", d->legacy.path), KV_Z("file", d->all[d->at].name), KV_WHY(reason),
              KV_Z("moved", err ? err_text(err) : "yes"));
    close_database(d);
    return ERR_OK;
}

/* --- rows -------------------------------------------------------------------------------------------------------------------- */

static void take_row(struct databases *d, struct legacy_chunk *chunk)
{
    int type = sqlite3_column_type(d->select, 1);
    const void *text = type == SQLITE_TEXT || type == SQLITE_BLOB ? sqlite3_column_blob(d->select, 1) : NULL;
    size_t at = chunk->bytes.n, n = text ? (size_t)sqlite3_column_bytes(d->select, 1) : 0;

    d->passed = sqlite3_column_int64(d->select, 0);
    if (!n) {
        d->legacy.n_corrupt++;
        LOG_ERROR(d->legacy.log, "an event that waited cannot be read, it is skipped",
                  KV_Z("directory", d->legacy.path), KV_Z("file", d->all[d->at].name), KV_INT("row", d->passed),
                  KV_Z("reason", "the row holds no text, or too much"));
        return;
    }
    buf_add(&chunk->bytes, text, n);
    legacy_chunk_add(chunk, at, (uint64_t)d->passed, sqlite3_column_int64(d->select, 2));
}

/* The next rows of the table. No items: there are no more. */
static enum err read_rows(struct databases *d, struct legacy_chunk *chunk, struct why *why)
{
    int code;
    enum err err = d->select ? ERR_OK : begin_table(d, why);

    if (err)
        return err;
    sqlite3_bind_int64(d->select, 1, d->passed);
    while ((code = sqlite3_step(d->select)) == SQLITE_ROW) {
        take_row(d, chunk);
        if (legacy_chunk_is_full(chunk))
            break;
    }
    err = code == SQLITE_ROW || code == SQLITE_DONE || chunk->n_items ? ERR_OK : failed(d, "read", why);
    sqlite3_reset(d->select);
    if (!err && chunk->n_items)
        legacy_ends_add(&d->ends, chunk, d->table, (uint64_t)d->passed);
    return err;
}

static enum err next_table(struct databases *d, struct why *why)
{
    enum err err = d->passed == INT64_MIN ? ERR_OK : delete_up_to(d, d->passed, why); /* unreadable ones at its end */

    if (err)
        return err;
    end_table(d);
    d->table++;
    return ERR_OK;
}

/* All its rows are done: of the open database. */
static enum err next_database(struct databases *d, struct why *why)
{
    enum err err = ERR_OK;

    if (d->is_foreign) {
        LOG_WARN(d->legacy.log, "a database is none of the Python gateway's, it stays as it is",
                 KV_Z("directory", d->legacy.path), KV_Z("file", d->all[d->at].name));
        close_database(d);
    } else {
        err = move_database(d, NULL, why);
    }
    if (!err)
        d->at++;
    return err;
}

static enum err read_on(struct databases *d, struct legacy_chunk *chunk, struct why *why)
{
    enum err err = d->handle ? ERR_OK : open_database(d, why);

    while (!err && !d->is_foreign && d->table < TABLES) {
        if (d->has_table[d->table])
            err = read_rows(d, chunk, why);
        if (err || chunk->n_items || d->ends.n)
            return err;
        err = next_table(d, why);
    }
    return err ? err : next_database(d, why);
}

static enum err databases_read(struct legacy *legacy, struct legacy_chunk *chunk, struct why *why)
{
    struct databases *d = databases_of(legacy);

    while (d->at < d->n) {
        enum err err = ERR_CORRUPT;
        struct why reason = {0};

        legacy_chunk_begin(chunk, d->all[d->at].name);
        if (d->is_damaged)
            why_set(&reason, err, "%s", err_text(err));
        else
            err = read_on(d, chunk, &reason);
        if (err == ERR_UNSUPPORTED) {
            LOG_ERROR(d->legacy.log, "a file is no database, it stays as it is", KV_WHY(&reason));
            d->at++;
            continue;
        }
        if (err == ERR_CORRUPT) {
            d->is_damaged = true;
            if (d->ends.n) /* what was read of it is done first */
                return ERR_OK;
            err = put_aside(d, &reason);
            d->at++;
        }
        if (err)
            return why_set(why, err, "%s", why_text(&reason));
        if (chunk->n_items || d->ends.n)
            return ERR_OK;
    }
    chunk->n_items = 0;
    return ERR_OK;
}

static enum err databases_done(struct legacy *legacy, uint64_t number, struct why *why)
{
    struct databases *d = databases_of(legacy);
    struct legacy_end end;
    enum err err;

    if (!legacy_ends_find(&d->ends, number, &end))
        return ERR_OK;
    err = delete_up_to(d, (sqlite3_int64)end.place, why);
    if (err == ERR_CORRUPT) /* it is put aside when it is read next: some of it comes twice then */
        d->is_damaged = true;
    if (!err || err == ERR_CORRUPT)
        legacy_ends_drop(&d->ends, number);
    return err == ERR_CORRUPT ? ERR_OK : err;
}

static enum err databases_finish(struct legacy *legacy, struct why *why)
{
    const struct databases *d = databases_of(legacy);

    (void)why;
    assert(d->at == d->n && !d->ends.n); /* each was removed when nothing more was in it */
    return ERR_OK;
}

/* --- life ---------------------------------------------------------------------------------------------------------------------- */

static void databases_free(struct legacy *legacy)
{
    struct databases *d = databases_of(legacy);

    close_database(d);
    for (size_t i = 0; i < d->n; i++)
        mem_free(d->all[i].name);
    mem_free(d->all);
    mem_free(d->legacy.path);
    mem_free(d);
}

static int by_time(const void *a, const void *b)
{
    const struct database *x = a, *y = b;

    return x->ms != y->ms ? (x->ms < y->ms ? -1 : 1) : strcmp(x->name, y->name);
}

static void add_database(struct databases *d, int dir, const char *name)
{
    uint64_t ms = 0;
    struct stat stat;

    if ((strcmp(name, "data.db") != 0 && !legacy_name_parse(name, "", ".db", &ms)) ||
        fstatat(dir, name, &stat, AT_SYMLINK_NOFOLLOW) || !S_ISREG(stat.st_mode))
        return;
    d->all = mem_grow(d->all, (d->n + 1) * sizeof *d->all);
    d->all[d->n++] = (struct database){ms, mem_dup(name)};
    d->legacy.n_bytes += (uint64_t)stat.st_size;
}

enum err sqlite_legacy_open(struct legacy **out, const char *dir, struct log *log, struct why *why)
{
    static const struct legacy_ops ops = {databases_read, databases_done, databases_finish, databases_free};
    struct databases *d = mem_zero(sizeof *d);
    DIR *list = opendir(dir);
    enum err err;

    *out = NULL;
    d->passed = INT64_MIN;
    d->legacy =
        (struct legacy){.ops = &ops, .title = "databases of the Python gateway", .path = mem_dup(dir), .log = log};
    for (const struct dirent *entry; list && (entry = readdir(list));)
        add_database(d, dirfd(list), entry->d_name);
    if (list)
        closedir(list);
    err = d->n ? legacy_check_writable(dir, why) : ERR_OK;
    if (err || !d->n) {
        databases_free(&d->legacy);
        return err;
    }
    qsort(d->all, d->n, sizeof *d->all, by_time);
    *out = &d->legacy;
    return ERR_OK;
}
