/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite_db.h"
#include "store/sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_SIZE = 4200, NUMBER_MAX = 999999, SEGMENT_GUESS = 48 * 1024 * 1024 };

static const char *const texts[DB_STATEMENTS] = {
    [DB_BEGIN] = "BEGIN IMMEDIATE",
    [DB_COMMIT] = "COMMIT",
    [DB_ROLLBACK] = "ROLLBACK",
    [DB_PUT] = "INSERT OR REPLACE INTO events(position, bytes) VALUES(?1, ?2)",
    [DB_PUT_SEGMENT] = "INSERT OR REPLACE INTO segments(base) VALUES(?1)",
    [DB_GET] = ("SELECT position, bytes FROM events WHERE position >= "
                "coalesce((SELECT max(position) FROM events WHERE position <= ?1), ?1) AND position < ?2 "
                "ORDER BY position"),
    [DB_NEXT] = "SELECT position FROM events WHERE position >= ?1 AND position < ?2 ORDER BY position LIMIT 1",
    [DB_LAST] = ("SELECT position + length(bytes) FROM events WHERE position >= ?1 AND position < ?2 "
                 "ORDER BY position DESC LIMIT 1"),
    [DB_DELETE] = "DELETE FROM events WHERE position >= ?1 AND position < ?2",
    [DB_DELETE_SEGMENT] = "DELETE FROM segments WHERE base = ?1",
    [DB_SEGMENTS] = "SELECT base FROM segments ORDER BY base",
    [DB_HEADS] =
        "SELECT position, length(bytes), substr(bytes, 1, 8) FROM events WHERE position >= ?1 ORDER BY position",
    [DB_PAGES] = "PRAGMA page_count",
    [DB_FREE_PAGES] = "PRAGMA freelist_count",
};

/* --- names ------------------------------------------------------------------------------------------------------------ */

void db_name(char name[DB_NAME], unsigned number)
{
    snprintf(name, DB_NAME, "events-%06u.db", number);
}

bool db_name_parse(const char *name, unsigned *number)
{
    char again[DB_NAME];

    if (sscanf(name, "events-%6u.db", number) != 1)
        return false;
    db_name(again, *number);
    return strcmp(name, again) == 0;
}

static void path_of(const struct db *db, const char *suffix, char path[PATH_SIZE])
{
    snprintf(path, PATH_SIZE, "%s/%s%s", db->path, db->name, suffix);
}

/* --- what SQLite says ----------------------------------------------------------------------------------------------------- */

static int number_of(int code)
{
    switch (code & 0xff) {
    case SQLITE_FULL:
        return ENOSPC;
    case SQLITE_READONLY:
        return EROFS;
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return EACCES;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return EBUSY;
    case SQLITE_NOMEM:
        return ENOMEM;
    default:
        return EIO;
    }
}

/* The disk is well, but takes nothing. */
static bool is_refusal(int number)
{
    return number == ENOSPC || number == EDQUOT || number == EROFS;
}

static int note(struct db *db, int code)
{
    int number = number_of(code), system = db->handle ? sqlite3_system_errno(db->handle) : 0;

    if ((code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB)
        db->is_corrupt = db->is_given_up = true;
    else if ((code & 0xff) == SQLITE_CANTOPEN && system)
        number = system;
    else if ((code & 0xff) == SQLITE_IOERR && is_refusal(system ? system : db->step_errno))
        number = system ? system : db->step_errno;
    return number;
}

static sqlite3_stmt *statement(struct db *db, enum db_statement which)
{
    if (!db->statements[which])
        sqlite3_prepare_v3(db->handle, texts[which], -1, SQLITE_PREPARE_PERSISTENT, &db->statements[which], NULL);
    return db->statements[which];
}

/* A statement that gives no rows, bound already. SQLite's code. */
static int step(struct db *db, sqlite3_stmt *stmt)
{
    int code;

    errno = 0;
    code = sqlite3_step(stmt);
    db->step_errno = errno; /* the library notes only what the opening of files failed with */
    code = code == SQLITE_DONE || code == SQLITE_ROW ? SQLITE_OK : sqlite3_extended_errcode(db->handle);
    sqlite3_reset(stmt);
    return code;
}

static int run(struct db *db, enum db_statement which, uint64_t a, uint64_t b)
{
    sqlite3_stmt *stmt = statement(db, which);

    if (!stmt)
        return sqlite3_errcode(db->handle);
    if (sqlite3_bind_parameter_count(stmt) > 0)
        sqlite3_bind_int64(stmt, 1, (sqlite3_int64)a);
    if (sqlite3_bind_parameter_count(stmt) > 1)
        sqlite3_bind_int64(stmt, 2, (sqlite3_int64)b);
    return step(db, stmt);
}

/* The one number a statement gives. SQLite's code; SQLITE_DONE: it gave none. */
static int ask(struct db *db, enum db_statement which, uint64_t a, uint64_t b, uint64_t *out)
{
    sqlite3_stmt *stmt = statement(db, which);
    int code;

    if (!stmt)
        return sqlite3_errcode(db->handle);
    if (sqlite3_bind_parameter_count(stmt) == 2) {
        sqlite3_bind_int64(stmt, 1, (sqlite3_int64)a);
        sqlite3_bind_int64(stmt, 2, (sqlite3_int64)b);
    }
    code = sqlite3_step(stmt);
    if (code == SQLITE_ROW) {
        *out = (uint64_t)sqlite3_column_int64(stmt, 0);
        code = SQLITE_OK;
    }
    sqlite3_reset(stmt);
    return code;
}

void db_measure(struct db *db)
{
    uint64_t n_pages, n_free;

    if (ask(db, DB_PAGES, 0, 0, &n_pages) || ask(db, DB_FREE_PAGES, 0, 0, &n_free))
        return;
    db->n_bytes = n_pages * DB_PAGE;
    db->n_used = (n_pages - (n_free < n_pages ? n_free : n_pages)) * DB_PAGE;
}

/* --- making and opening ------------------------------------------------------------------------------------------------------ */

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

enum err db_check(int dir, const char *name)
{
    uint8_t head[100]; /* SQLite's file format, 1.3: user_version at 60, application_id at 68 */
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return err_from_errno(errno);
    n = pread(fd, head, sizeof head, 0);
    close(fd);
    if (n < 0)
        return err_from_errno(errno);
    if (n < (ssize_t)sizeof head || memcmp(head, "SQLite format 3", 16) != 0)
        return ERR_CORRUPT;
    if (be32(head + 68) != DB_APPLICATION)
        return ERR_EXISTS;
    return be32(head + 60) > SQLITE_MEDIUM_VERSION ? ERR_UNSUPPORTED : ERR_OK;
}

static int sync_file(int dir, const char *name)
{
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC), failed;

    if (fd < 0)
        return errno;
    failed = fsync(fd) && errno != EINVAL ? errno : 0;
    close(fd);
    return failed;
}

/* Whole or not at all: under another name first. */
int db_make(struct db *db, int dir)
{
    char path[PATH_SIZE], temporary[DB_NAME + 8], sql[400];
    sqlite3 *handle = NULL;
    int code, number;

    snprintf(temporary, sizeof temporary, "%s.new", db->name);
    path_of(db, ".new", path);
    unlinkat(dir, temporary, 0);
    snprintf(sql, sizeof sql,
             "PRAGMA page_size=%d; PRAGMA synchronous=FULL; BEGIN; PRAGMA application_id=%d; PRAGMA user_version=%d;"
             "CREATE TABLE segments(base INTEGER PRIMARY KEY);"
             "CREATE TABLE events(position INTEGER PRIMARY KEY, bytes BLOB NOT NULL); COMMIT;"
             "PRAGMA journal_mode=WAL",
             DB_PAGE, DB_APPLICATION, SQLITE_MEDIUM_VERSION);
    code = sqlite3_open_v2(path, &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (!code)
        code = sqlite3_exec(handle, sql, NULL, NULL, NULL);
    number = code ? number_of(code) : 0;
    if (code && handle && sqlite3_system_errno(handle))
        number = sqlite3_system_errno(handle);
    sqlite3_close_v2(handle);
    if (!number)
        number = sync_file(dir, temporary);
    if (!number && renameat(dir, temporary, dir, db->name))
        number = errno;
    if (!number)
        number = sync_file(dir, ".");
    if (number)
        unlinkat(dir, temporary, 0);
    return number;
}

static int wal_written(void *arg, sqlite3 *handle, const char *name, int n_pages)
{
    struct db *db = arg;

    (void)handle;
    (void)name;
    db->wal_pages = n_pages;
    return SQLITE_OK;
}

static int open_handle(struct db *db, const char *path, int flags, const char *vfs, const char *sql)
{
    int code = sqlite3_open_v2(path, &db->handle, flags | SQLITE_OPEN_NOMUTEX, vfs);

    if (!code) {
        sqlite3_extended_result_codes(db->handle, 1);
        code = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
    }
    if (code) {
        code = code == SQLITE_ERROR ? sqlite3_extended_errcode(db->handle) : code;
        note(db, code);
        sqlite3_close_v2(db->handle);
        db->handle = NULL;
    }
    return code;
}

/* What no WAL lies beside, in a directory in which none can be made: read as a file that nobody changes. */
static int open_unchanging(struct db *db, const char *path, const char *sql)
{
    autobuf struct buf uri = {0};

    buf_add_z(&uri, "file:");
    for (const char *p = path; *p; p++)
        if (*p == '%' || *p == '?' || *p == '#')
            buf_printf(&uri, "%%%02X", (unsigned)(unsigned char)*p);
        else
            buf_add_u8(&uri, (uint8_t)*p);
    buf_add_z(&uri, "?immutable=1");
    buf_add_u8(&uri, 0);
    return open_handle(db, (const char *)uri.p, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL, sql);
}

int db_open(struct db *db)
{
    /* The last statement reads the first page, and so says whether this is a database that can be read. */
    static const char rw[] = "PRAGMA busy_timeout=1000; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0;"
                             "PRAGMA journal_size_limit=8388608; PRAGMA cache_size=-512; PRAGMA mmap_size=0;"
                             "PRAGMA trusted_schema=0; SELECT count(*) FROM sqlite_master";
    static const char ro[] = "PRAGMA busy_timeout=1000; PRAGMA cache_size=-512; PRAGMA trusted_schema=0;"
                             "SELECT count(*) FROM sqlite_master";
    static const char alone[] = "PRAGMA locking_mode=EXCLUSIVE; PRAGMA trusted_schema=0;"
                                "SELECT count(*) FROM sqlite_master";
    char path[PATH_SIZE];
    int code = SQLITE_READONLY, chunk = DB_CHUNK;

    if (db->handle)
        return 0;
    path_of(db, "-shm", path);
    bool is_shared = access(path, F_OK) == 0;

    path_of(db, "", path);
    if (db->may_write)
        code = open_handle(db, path, SQLITE_OPEN_READWRITE, NULL, rw);
    if (code && !db->is_corrupt && (db->may_write || is_shared))
        code = open_handle(db, path, SQLITE_OPEN_READONLY, NULL, ro);
    if (code && !db->is_corrupt) /* without the shared index of the WAL: nothing needs to be written */
        code = open_handle(db, path, SQLITE_OPEN_READONLY, "unix-none", alone);
    if (code && !db->is_corrupt) {
        char wal[PATH_SIZE];

        path_of(db, "-wal", wal);
        if (access(wal, F_OK) && errno == ENOENT)
            code = open_unchanging(db, path, ro);
    }
    if (code)
        return number_of(code);
    sqlite3_wal_hook(db->handle, wal_written, db);
    sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_CHUNK_SIZE, &chunk);
    db_measure(db);
    return 0;
}

void db_close(struct db *db)
{
    for (size_t i = 0; i < DB_STATEMENTS; i++) {
        sqlite3_finalize(db->statements[i]);
        db->statements[i] = NULL;
    }
    sqlite3_close_v2(db->handle);
    db->handle = NULL;
    db->wal_pages = 0;
}

int db_move(struct db *db, int dir, const char *to)
{
    static const char *const suffixes[] = {"-wal", "-shm", ""};
    int number = 0;

    db_close(db);
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        char from[DB_NAME + 8], target[DB_NAME + 64];

        snprintf(from, sizeof from, "%s%s", db->name, suffixes[i]);
        snprintf(target, sizeof target, "%s/%s%s", to ? to : "", db->name, suffixes[i]);
        if ((to ? renameat(dir, from, dir, target) : unlinkat(dir, from, 0)) && errno != ENOENT)
            number = errno;
    }
    return number;
}

/* --- segments --------------------------------------------------------------------------------------------------------------- */

/* Where its last row ends. Where that cannot be read: as far as it may reach. */
static uint64_t end_of(struct db *db, uint64_t base, uint64_t next)
{
    uint64_t end = base;
    int code = ask(db, DB_LAST, base, next, &end);

    if (code == SQLITE_DONE)
        return base;
    if (code) {
        note(db, code);
        end = next - base < SEGMENT_GUESS ? next : base + SEGMENT_GUESS;
    }
    return end > base ? end : base;
}

/* The list of segments cannot be read: their heads stand in rows of their own. */
static int find_heads(struct db *db, db_segment_fn *each, void *arg)
{
    sqlite3_stmt *stmt = statement(db, DB_HEADS);
    uint64_t base = UINT64_MAX, end = 0;
    int code = SQLITE_ERROR;

    if (!stmt)
        return note(db, sqlite3_errcode(db->handle));
    sqlite3_bind_int64(stmt, 1, 0);
    while ((code = sqlite3_step(stmt)) == SQLITE_ROW) {
        uint64_t position = (uint64_t)sqlite3_column_int64(stmt, 0), n = (uint64_t)sqlite3_column_int64(stmt, 1);
        const void *magic = sqlite3_column_blob(stmt, 2);

        if (magic && sqlite3_column_bytes(stmt, 2) == 8 && memcmp(magic, "IOTGWLOG", 8) == 0) {
            if (base != UINT64_MAX)
                each(arg, base, end - base);
            base = position;
        }
        end = position + n;
    }
    sqlite3_reset(stmt);
    if (base != UINT64_MAX)
        each(arg, base, code == SQLITE_DONE ? end - base : SEGMENT_GUESS);
    return base == UINT64_MAX && code != SQLITE_DONE ? note(db, code) : 0;
}

int db_segments(struct db *db, db_segment_fn *each, void *arg)
{
    sqlite3_stmt *stmt = statement(db, DB_SEGMENTS);
    uint64_t *bases = NULL;
    size_t n = 0, cap = 0;
    int code = stmt ? SQLITE_OK : sqlite3_errcode(db->handle);

    while (stmt && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (sqlite3_column_int64(stmt, 0) < 0)
            continue;
        if (n == cap) {
            cap = cap ? 2 * cap : 64;
            bases = mem_grow(bases, cap * sizeof *bases);
        }
        bases[n++] = (uint64_t)sqlite3_column_int64(stmt, 0);
    }
    if (stmt)
        sqlite3_reset(stmt);
    if (code != SQLITE_DONE) {
        note(db, code);
        db->is_corrupt |= code == SQLITE_ERROR; /* there is no such table */
        mem_free(bases);
        return find_heads(db, each, arg);
    }
    for (size_t i = 0; i < n; i++)
        each(arg, bases[i], end_of(db, bases[i], i + 1 < n ? bases[i + 1] : INT64_MAX) - bases[i]);
    mem_free(bases);
    return 0;
}

/* --- rows ---------------------------------------------------------------------------------------------------------------------- */

/* Whatever went wrong: nothing of the transaction stays. A connection that cannot even do this is closed; so is one that was
 * opened while nothing could be written, as it never would: the next use opens it anew. */
static int undo(struct db *db, int code)
{
    int number = note(db, code);

    /* After a failed fsync nobody knows what is on the disk, whatever the reason. */
    if (number == EIO || number == ENOMEM || code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_DIR_FSYNC)
        db->is_given_up = true;
    if (!sqlite3_get_autocommit(db->handle) && run(db, DB_ROLLBACK, 0, 0) && !sqlite3_get_autocommit(db->handle))
        db_close(db);
    else if (db->may_write && (code & 0xff) == SQLITE_READONLY) /* the file, or the index of its WAL */
        db_close(db);
    return number;
}

/* The WAL is brought home when it is long. What fails here is done again with the next; nothing is lost by it. */
static void checkpoint(struct db *db, bool is_needed)
{
    int n_log, n_done;

    if (!is_needed && db->wal_pages < DB_CHECKPOINT_PAGES)
        return;
    if (sqlite3_wal_checkpoint_v2(db->handle, NULL, SQLITE_CHECKPOINT_PASSIVE, &n_log, &n_done) == SQLITE_OK &&
        n_log == n_done) {
        db->wal_pages = 0;
        db->n_reserved = 0; /* it has been cut to what is used */
    }
}

/* Room in the file for what will stand in the WAL, so that it can be brought home on a full disk: then the WAL is written
 * from its beginning again, and what was delivered can be deleted. */
static int reserve(struct db *db, size_t n)
{
    enum { MARGIN = 16 };
    uint64_t n_pages, n_free, n_new = n / DB_PAGE + n / DB_PAGE / 64 + MARGIN;
    int code = ask(db, DB_PAGES, 0, 0, &n_pages);
    sqlite3_int64 want;

    if (!code)
        code = ask(db, DB_FREE_PAGES, 0, 0, &n_free);
    if (code)
        return code;
    want = (sqlite3_int64)((n_pages + (n_new > n_free ? n_new - n_free : 0)) * DB_PAGE);
    if ((uint64_t)want <= db->n_reserved)
        return SQLITE_OK;
    want = (want + DB_CHUNK - 1) / DB_CHUNK * DB_CHUNK;
    code = sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_SIZE_HINT, &want);
    if (code)
        return sqlite3_system_errno(db->handle) == ENOSPC || code == SQLITE_IOERR_WRITE ? SQLITE_FULL : code;
    db->n_reserved = (uint64_t)want;
    return SQLITE_OK;
}

static int put_rows(struct db *db, uint64_t position, const struct iovec *parts, int n_parts)
{
    for (int i = 0; i < n_parts; i++) {
        sqlite3_stmt *stmt = statement(db, DB_PUT);
        int code;

        if (!stmt)
            return sqlite3_errcode(db->handle);
        sqlite3_bind_int64(stmt, 1, (sqlite3_int64)position);
        sqlite3_bind_blob64(stmt, 2, parts[i].iov_base, parts[i].iov_len, SQLITE_STATIC);
        code = step(db, stmt);
        if (code)
            return code;
        position += parts[i].iov_len;
    }
    return SQLITE_OK;
}

static int put(struct db *db, uint64_t base, uint64_t position, const struct iovec *parts, int n_parts, size_t n)
{
    int code = run(db, DB_BEGIN, 0, 0);

    if (!code)
        code = reserve(db, n);
    if (!code && base != UINT64_MAX)
        code = run(db, DB_PUT_SEGMENT, base, 0);
    if (!code)
        code = put_rows(db, position, parts, n_parts);
    if (!code)
        code = run(db, DB_COMMIT, 0, 0);
    return code ? undo(db, code) : 0;
}

int db_put(struct db *db, uint64_t base, uint64_t position, const struct iovec *parts, int n_parts, size_t *n)
{
    int number = db_open(db);

    *n = 0;
    for (int i = 0; i < n_parts; i++)
        *n += parts[i].iov_len;
    if (number)
        return number;
    number = put(db, base, position, parts, n_parts, *n);
    if (number == ENOSPC && db->wal_pages && db->handle) { /* a WAL that has been brought home begins anew */
        checkpoint(db, true);
        number = put(db, base, position, parts, n_parts, *n);
    }
    if (!number)
        checkpoint(db, false);
    return number;
}

/* A row of which a part cannot be read has its other part. */
static void salvage(struct db *db, sqlite3_int64 row, size_t off, uint8_t *to, size_t n, size_t *n_read)
{
    sqlite3_blob *blob = NULL;
    enum { STEP = 32 };

    *n_read = 0;
    if (sqlite3_blob_open(db->handle, "main", "events", "bytes", row, 0, &blob) == SQLITE_OK)
        while (*n_read < n) {
            size_t part = n - *n_read < STEP ? n - *n_read : STEP;

            if (sqlite3_blob_read(blob, to + *n_read, (int)part, (int)(off + *n_read)))
                break;
            *n_read += part;
        }
    sqlite3_blob_close(blob);
}

/* Where the next row begins that can be found; end: there is none before it. Behind a damaged page the search begins where
 * the index of the table leads to another one. */
static uint64_t next_row(struct db *db, uint64_t at, uint64_t end)
{
    uint64_t low = at, high = end, found = end;

    while (low < high) {
        uint64_t middle = low + (high - low) / 2, row = end;
        int code = ask(db, DB_NEXT, middle, end, &row);

        if (code == SQLITE_OK && row < found)
            found = row;
        if (code == SQLITE_OK || code == SQLITE_DONE)
            high = middle;
        else
            low = middle + 1;
    }
    return found;
}

ssize_t db_get(struct db *db, uint64_t position, uint64_t end, void *to, size_t n)
{
    uint64_t upto = end - position < n ? end : position + n, at = position;
    sqlite3_stmt *stmt;
    int number, code;

    if (position >= end)
        return 0;
    number = db_open(db);
    stmt = number ? NULL : statement(db, DB_GET);
    if (!stmt) {
        errno = number ? number : note(db, sqlite3_errcode(db->handle));
        return -1;
    }
    sqlite3_bind_int64(stmt, 1, (sqlite3_int64)position);
    sqlite3_bind_int64(stmt, 2, (sqlite3_int64)upto);
    while ((code = sqlite3_step(stmt)) == SQLITE_ROW) {
        uint64_t row = (uint64_t)sqlite3_column_int64(stmt, 0);
        const uint8_t *bytes = sqlite3_column_blob(stmt, 1);
        size_t row_n = (size_t)sqlite3_column_bytes(stmt, 1), off, part;

        if (!bytes && sqlite3_errcode(db->handle) != SQLITE_ROW) {
            size_t n_read;

            off = row < at ? (size_t)(at - row) : 0;
            if (row > at)
                memset((uint8_t *)to + (at - position), 0, (size_t)(row - at)), at = row;
            salvage(db, (sqlite3_int64)row, off, (uint8_t *)to + (at - position), (size_t)(upto - at), &n_read);
            at += n_read;
            code = n_read ? SQLITE_DONE : sqlite3_errcode(db->handle);
            note(db, SQLITE_CORRUPT);
            upto = n_read ? at : upto;
            break;
        }
        if (row + row_n <= at)
            continue;
        if (row > at) {
            memset((uint8_t *)to + (at - position), 0, (size_t)(row - at));
            at = row;
        }
        off = (size_t)(at - row);
        part = row_n - off < upto - at ? row_n - off : (size_t)(upto - at);
        memcpy((uint8_t *)to + (at - position), bytes + off, part);
        at += part;
    }
    sqlite3_reset(stmt);
    if (code != SQLITE_DONE && at == position) {
        note(db, code);
        if (!db->is_corrupt) {
            errno = number_of(code);
            return -1;
        }
        upto = next_row(db, position + 1, upto);
        code = SQLITE_DONE;
    }
    if (code == SQLITE_DONE && at < upto) { /* a hole up to the next row, or to the end */
        memset((uint8_t *)to + (at - position), 0, (size_t)(upto - at));
        at = upto;
    }
    return (ssize_t)(at - position);
}

static int remove_rows(struct db *db, uint64_t from, uint64_t to, bool is_segment)
{
    int code = run(db, DB_BEGIN, 0, 0);

    if (!code)
        code = run(db, DB_DELETE, from, to);
    if (!code && is_segment)
        code = run(db, DB_DELETE_SEGMENT, from, 0);
    if (!code)
        code = run(db, DB_COMMIT, 0, 0);
    return code ? undo(db, code) : 0;
}

int db_delete(struct db *db, uint64_t from, uint64_t to, bool is_segment)
{
    int number = db_open(db);

    if (!number)
        number = remove_rows(db, from, to, is_segment);
    if (number == ENOSPC && db->handle) {
        checkpoint(db, true);
        number = remove_rows(db, from, to, is_segment);
    }
    if (number)
        return number;
    db_measure(db);
    checkpoint(db, false);
    return 0;
}
