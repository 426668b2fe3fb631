/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_LEGACY_H
#define IOTGW_LEGACY_H
/*
 * What an earlier program has left to be delivered: the files and databases of the Python gateway, and stores of our own
 * of a type that is not the configured one. Read from its beginning, or from where it says that it was read; what has
 * become durable elsewhere is taken out, so that a kill at any moment loses nothing, and repeats what was not yet said to
 * be done. When all of it is done, nothing of it is left in its directory.
 *
 * Threads: one at a time; everything blocks in system calls (a helper thread's).
 * Memory:  a chunk holds about LEGACY_CHUNK bytes, or one entry that is larger; nothing else grows with what waits.
 */
#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/record.h"

enum {
    LEGACY_NAME = 256,
    LEGACY_CHUNK = 64 * 1024,
    LEGACY_ITEMS = 512,                 /* of a chunk */
    LEGACY_ENTRY_MAX = 8 * 1024 * 1024, /* an event of the Python gateway is at most so long; more is damage */
    LEGACY_AHEAD = 256,                 /* chunks that were read and are not done */
};

/* One source message: JSON text of an event, or (is_records) sealed records, numbered as devices of this process. */
struct legacy_item {
    uint32_t at, n; /* in bytes */
    uint64_t line;  /* of a file, or a row's number, or an offset: for messages */
    int64_t ts;     /* ms, when it was stored; 0: not known */
};

struct legacy_chunk {
    struct buf bytes;
    struct legacy_item items[LEGACY_ITEMS];
    size_t n_items;
    bool is_records;
    char file[LEGACY_NAME]; /* all of it is from there */
    uint64_t number;        /* from 1: for legacy_done */
};

struct legacy;
struct legacy_ops {
    enum err (*read)(struct legacy *, struct legacy_chunk *, struct why *);
    enum err (*done)(struct legacy *, uint64_t number, struct why *);
    enum err (*finish)(struct legacy *, struct why *);
    void (*free)(struct legacy *);
};

struct legacy { /* embedded first in each kind */
    const struct legacy_ops *ops;
    const char *title; /* "files of the Python gateway" */
    char *path;
    struct log *log;
    uint64_t n_bytes;   /* in its files when it was opened */
    uint64_t n_corrupt; /* entries, or stretches, that could not be read: named in the log */
    struct legacy *next;
};

/*
 * The next entries. No items: there are no more until all that were read are done; and if they are, none at all. An
 * error is of the directory, not of an entry: another try may go well. At most LEGACY_AHEAD chunks may be read and not done.
 */
NODISCARD static inline enum err legacy_read(struct legacy *legacy, struct legacy_chunk *chunk, struct why *why)
{
    return legacy->ops->read(legacy, chunk, why);
}
/* All chunks up to this one are durable elsewhere. After an error: to be called again. */
NODISCARD static inline enum err legacy_done(struct legacy *legacy, uint64_t number, struct why *why)
{
    return legacy->ops->done(legacy, number, why);
}
/* All of it is done, and there is no more: what is left of it is removed. */
NODISCARD static inline enum err legacy_finish(struct legacy *legacy, struct why *why)
{
    return legacy->ops->finish(legacy, why);
}
static inline void legacy_free(struct legacy *legacy)
{
    if (legacy)
        legacy->ops->free(legacy);
}

struct legacy_conf {
    const char *folder;  /* data_folder_path, as it stands in the configuration */
    const char *db_path; /* data_file_path, likewise */
    bool keeps_files,
        keeps_databases; /* own stores of type file or sqlite that are in use, and so nothing to be drained */
    struct log *log;
};
/* All there is, in the order in which it is to be drained; NULL: nothing. What cannot be taken over (a directory that
 * cannot be written, a missing module) is named in the log, and stays as it is. */
struct legacy *legacy_find(const struct legacy_conf *conf);

/* --- the kinds ------------------------------------------------------------------------------------------------------------ */

/*
 * data_<ms>.txt and state_file.txt. The Python gateway puts the folder's text before each name, so that without a slash at
 * its end the files stand beside the folder; prefix: what stands before their names then, else "". *out NULL: none.
 */
NODISCARD enum err legacy_files_open(struct legacy **out, const char *dir, const char *prefix, struct log *log,
                                     struct why *why);
/* data.db, data_<ms>.db. Needs the module iotgw-sqlite (sqlite.h). */
NODISCARD enum err legacy_databases_open(struct legacy **out, const char *dir, struct log *log, struct why *why);
/* A directory of type file or sqlite that no longer is the configured one. */
NODISCARD enum err legacy_store_open(struct legacy **out, const char *dir, bool is_sqlite, struct log *log,
                                     struct why *why);

/* --- shared by the kinds ---------------------------------------------------------------------------------------------------- */

/* Where chunks end, from the oldest that is not done. */
struct legacy_ends {
    struct legacy_end {
        uint64_t number, place; /* place: the kind's own, with file */
        size_t file;
    } all[LEGACY_AHEAD];
    size_t from, n;
    uint64_t n_ever;
};
void legacy_ends_add(struct legacy_ends *ends, struct legacy_chunk *chunk, size_t file, uint64_t place);
/* The last end up to number; false: none. legacy_ends_drop forgets up to it: once it was said on the disk. */
bool legacy_ends_find(const struct legacy_ends *ends, uint64_t number, struct legacy_end *end);
void legacy_ends_drop(struct legacy_ends *ends, uint64_t number);

void legacy_chunk_begin(struct legacy_chunk *chunk, const char *file);
bool legacy_chunk_is_full(const struct legacy_chunk *chunk);
/* What was appended to chunk->bytes from at on is an item. */
void legacy_chunk_add(struct legacy_chunk *chunk, size_t at, uint64_t line, int64_t ts);
/* data_<digits><suffix> behind the prefix; *ms gets the digits. */
bool legacy_name_parse(const char *name, const char *prefix, const char *suffix, uint64_t *ms);
/* ERR_OK, or why nothing can be changed in the directory. */
NODISCARD enum err legacy_check_writable(const char *dir, struct why *why);
#endif
