/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/storage_part.h"

#include "base/mem.h"

#include <sys/stat.h>

static enum overflow overflow_of(int configured)
{
    return configured == STORAGE_DROP_NEWEST   ? OVERFLOW_DROP_NEWEST
           : configured == STORAGE_DROP_OLDEST ? OVERFLOW_DROP_OLDEST
                                               : OVERFLOW_BLOCK;
}

uint64_t storage_memory_bound(const struct storage_conf *conf)
{
    uint64_t total = uv_get_total_memory(), here = uv_get_constrained_memory();

    if (conf->max_total_bytes > 0)
        return (uint64_t)conf->max_total_bytes;
    return (here && here < total ? here : total) / 4;
}

struct str storage_path_of(const struct storage_conf *conf)
{
    return conf->type == STORAGE_FILE ? conf->folder : conf->type == STORAGE_SQLITE ? conf->db_path : STR_NONE;
}

static struct memory_conf memory_conf_of(const struct storage_conf *conf)
{
    return (struct memory_conf){.max_events = conf->memory_capacity,
                                .max_bytes = storage_memory_bound(conf),
                                .overflow = overflow_of(conf->overflow)};
}

static struct file_conf file_conf_of(const struct storage_conf *conf)
{
    return (struct file_conf){.max_events = (uint64_t)conf->max_files * conf->records_per_file,
                              .segment_events = conf->records_per_file,
                              .max_bytes = conf->max_total_bytes > 0 ? (uint64_t)conf->max_total_bytes : 0,
                              .overflow = overflow_of(conf->overflow)};
}

static struct sqlite_conf sqlite_conf_of(const struct storage_conf *conf)
{
    const uint64_t day_ms = 24 * 3600 * 1000, check_ms = (uint64_t)conf->ttl_check_hours * 3600 * 1000;
    struct sqlite_conf sqlite = {
        .file = file_conf_of(conf), .db_bytes = conf->size_limit_mb * (uint64_t)1000000, .max_dbs = conf->max_dbs};

    sqlite.file.max_events = sqlite.file.segment_events = 0;
    sqlite.file.commit_events = conf->transaction_rows;
    sqlite.file.max_age_ms = conf->ttl_days * day_ms;
    sqlite.file.age_check_ms = check_ms ? check_ms : 60 * 1000;
    return sqlite;
}

struct storage_part *storage_part_new(struct storage *storage, struct str section)
{
    struct storage_part *part = mem_zero(sizeof *part);

    part->storage = storage;
    arena_init(&part->arena, 512);
    part->section = arena_str(&part->arena, section);
    return part;
}

enum err storage_part_open(struct storage_part *part, const struct storage_conf *conf, const struct storage_conf_of *of,
                           struct why *why)
{
    struct loop *loop = of->uplink_runner->loop;
    struct memory_conf memory = memory_conf_of(conf);
    struct file_conf file = file_conf_of(conf);
    struct sqlite_conf sqlite = sqlite_conf_of(conf);

    part->type = conf->type;
    memory.slot = file.slot = sqlite.file.slot = part->slot;
    memory.log = file.log = sqlite.file.log = of->log;
    if (conf->type == STORAGE_MEMORY) {
        part->store = store_memory_new(loop, &memory, of->events, of->arg);
        return ERR_OK;
    }
    file.path = sqlite.file.path = part->path = arena_text(&part->arena, storage_path_of(conf));
    if (conf->type == STORAGE_FILE)
        return store_file_new(&part->store, loop, &file, of->events, of->arg, why);
    return store_sqlite_new(&part->store, loop, &sqlite, of->events, of->arg, why);
}

void storage_part_tune(struct storage_part *part, const struct storage_conf *conf)
{
    struct memory_conf memory = memory_conf_of(conf);
    struct file_conf file = file_conf_of(conf);
    struct sqlite_conf sqlite = sqlite_conf_of(conf);

    if (part->type == STORAGE_MEMORY)
        store_memory_tune(part->store, &memory);
    else if (part->type == STORAGE_FILE)
        store_file_tune(part->store, &file);
    else
        store_sqlite_tune(part->store, &sqlite);
}

void storage_part_free(struct storage_part *part)
{
    if (!part)
        return;
    store_free(part->store);
    arena_fini(&part->arena);
    mem_free(part);
}

bool storage_part_is_at(const struct storage_part *part, const struct storage_conf *conf)
{
    autobuf struct buf path = {0};
    struct stat a, b;

    if (!part->path || conf->type == STORAGE_MEMORY)
        return !part->path && conf->type == STORAGE_MEMORY;
    if (str_eq_z(storage_path_of(conf), part->path))
        return true;
    buf_add_str(&path, storage_path_of(conf));
    buf_add_u8(&path, 0);
    return stat(part->path, &a) == 0 && stat((const char *)path.p, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}
