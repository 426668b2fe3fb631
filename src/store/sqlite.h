/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SQLITE_H
#define IOTGW_SQLITE_H
/*
 * The medium of storage type sqlite: segments of the file store (file.c), kept in SQLite databases instead of files of
 * their own. SQLite costs memory, so this is a module, iotgw-sqlite.so, which exports one table, iotgw_sqlite.
 *
 *     DIR/events-000001.db      databases, in WAL mode; application_id "IOTG", user_version the format
 *     DIR/events-000002.db      the next one, when the first is full
 *     DIR/events.state          as the file store's state
 *     DIR/quarantine/           databases that cannot be read, and copies of corrupt stretches
 *
 *     segments(base)            the position of each segment's first byte
 *     events(position, bytes)   one row: a stretch of a segment, made by one commit: the head of a segment, and a group of
 *                               records (file.c)
 *
 * The Python gateway's databases (data.db, data_*.db, table messages) may lie in the same directory: their names are never
 * used here, and a database with another application_id is not touched.
 *
 * One write of the store is one transaction, durable when it returns (synchronous=FULL). A database that could not be
 * written or synced, or that is found corrupt, gets no new segment: what is in it is delivered, and a new one is begun.
 * Threads: one at a time, as for the store that stands on it.
 */
#include "io/own_module.h"
#include "store/file_io.h"
#include "store/store.h"

enum { SQLITE_MEDIUM_VERSION = 1 };

struct legacy;

struct sqlite_api {
    struct own_table own;
    /* The table for store_file_new, which frees it with the store. */
    const struct file_io *(*open)(const struct sqlite_conf *conf);
    /* For looking into a directory: nothing is changed. dir: a name, as for open. */
    const struct file_io *(*look)(const char *path, struct log *log);
    /* For taking segments out: nothing is written, and a database that is empty goes. */
    const struct file_io *(*drain)(const char *path, struct log *log);
    /* The databases of the Python gateway in a directory (legacy.h). *out NULL: none. */
    enum err (*legacy)(struct legacy **out, const char *dir, struct log *log, struct why *why);
};

/* NULL: why. */
const struct sqlite_api *sqlite_load(struct why *why);
/* store_sqlite_new with a module that is loaded already. */
NODISCARD enum err store_sqlite_with(const struct sqlite_api *api, struct store **out, struct loop *loop,
                                     const struct sqlite_conf *conf, const struct store_events *events, void *arg,
                                     struct why *why);
/* The limits of the file store that stands on it. */
void sqlite_limits(struct file_conf *out, const struct sqlite_conf *conf);
/* True: databases of ours lie in the directory. */
bool sqlite_is_there(int dir);
/* True: there are files with the names of the Python gateway's databases. */
bool sqlite_has_peer(const char *dir);
#endif
