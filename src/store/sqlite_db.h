/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SQLITE_DB_H
#define IOTGW_SQLITE_DB_H
/*
 * One database of the medium in sqlite.h: made, opened when it is needed, written and read by position. Inside the module
 * only. Functions that give an int: 0, or errno; the reason has been noted in the database's fields then.
 */
#include "base/buf.h"

#include <sqlite3.h>
#include <sys/uio.h>

enum {
    DB_NAME = 32,
    DB_APPLICATION = 0x494f5447, /* "IOTG" */
    DB_PAGE = 4096,
    DB_CACHE_KIB = 512,
    DB_CHUNK = 256 * 1024,         /* it grows by so much, so that there is room for what stands in the WAL */
    DB_CHECKPOINT_PAGES = 1000,    /* as many in the WAL are brought home, right after a commit */
    DB_WAL_KEPT = 8 * 1024 * 1024, /* a longer one is cut */
};

enum db_statement {
    DB_BEGIN,
    DB_COMMIT,
    DB_ROLLBACK,
    DB_PUT,
    DB_PUT_SEGMENT,
    DB_GET,
    DB_NEXT,
    DB_LAST,
    DB_DELETE,
    DB_DELETE_SEGMENT,
    DB_SEGMENTS,
    DB_HEADS,
    DB_PAGES,
    DB_FREE_PAGES,
    DB_STATEMENTS
};

struct db {
    unsigned number;
    char name[DB_NAME];
    const char *path; /* of the directory */
    sqlite3 *handle;  /* NULL: not open */
    sqlite3_stmt *statements[DB_STATEMENTS];
    int wal_pages;
    unsigned n_segments;
    uint64_t n_reserved; /* the file is at least so large; 0: not known */
    uint64_t n_used;     /* bytes of its pages that are not free, as of the last commit */
    uint64_t n_bytes;    /* of the file */
    bool may_write;      /* false: only looked at */
    bool is_corrupt, is_foreign, is_unread;
    int step_errno;   /* of the last statement */
    bool is_given_up; /* gets nothing more */
};

void db_name(char name[DB_NAME], unsigned number);
bool db_name_parse(const char *name, unsigned *number);

/* What the first page says, read without SQLite. ERR_EXISTS: another program's database; ERR_UNSUPPORTED: a newer format;
 * ERR_CORRUPT: no database at all. */
NODISCARD enum err db_check(int dir, const char *name);
int db_make(struct db *db, int dir);
int db_open(struct db *db);
void db_close(struct db *db);
void db_measure(struct db *db); /* n_used, n_bytes; it is open */
/* The file with what belongs to it; to NULL: removed. */
int db_move(struct db *db, int dir, const char *to);

typedef void db_segment_fn(void *arg, uint64_t base, uint64_t n);
int db_segments(struct db *db, db_segment_fn *each, void *arg);
/* One transaction, durable when it returns. base: a segment begins here; UINT64_MAX: none does. */
int db_put(struct db *db, uint64_t base, uint64_t position, const struct iovec *parts, int n_parts, size_t *n);
/* Bytes from position on, up to n; 0: there are none up to there. -1 and errno. What no row has is zero. */
ssize_t db_get(struct db *db, uint64_t position, uint64_t end, void *to, size_t n);
/* Rows from one position up to the other, and the segment if is_segment. */
int db_delete(struct db *db, uint64_t from, uint64_t to, bool is_segment);
#endif
