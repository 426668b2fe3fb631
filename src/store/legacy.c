/* SPDX-License-Identifier: Apache-2.0 */
#include "store/legacy.h"
#include "store/sqlite.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* --- chunks ----------------------------------------------------------------------------------------------------------------- */

void legacy_chunk_begin(struct legacy_chunk *chunk, const char *file)
{
    chunk->bytes.n = 0;
    chunk->n_items = 0;
    chunk->is_records = false;
    chunk->number = 0;
    snprintf(chunk->file, sizeof chunk->file, "%s", file);
}

bool legacy_chunk_is_full(const struct legacy_chunk *chunk)
{
    return chunk->n_items == LEGACY_ITEMS || chunk->bytes.n >= LEGACY_CHUNK;
}

void legacy_chunk_add(struct legacy_chunk *chunk, size_t at, uint64_t line, int64_t ts)
{
    chunk->items[chunk->n_items++] = (struct legacy_item){(uint32_t)at, (uint32_t)(chunk->bytes.n - at), line, ts};
}

void legacy_ends_add(struct legacy_ends *ends, struct legacy_chunk *chunk, size_t file, uint64_t place)
{
    assert(ends->n < LEGACY_AHEAD);
    chunk->number = ++ends->n_ever;
    ends->all[(ends->from + ends->n++) % LEGACY_AHEAD] = (struct legacy_end){chunk->number, place, file};
}

bool legacy_ends_find(const struct legacy_ends *ends, uint64_t number, struct legacy_end *end)
{
    bool is_found = false;

    for (size_t i = 0; i < ends->n; i++) {
        const struct legacy_end *here = &ends->all[(ends->from + i) % LEGACY_AHEAD];

        if (here->number > number)
            break;
        *end = *here;
        is_found = true;
    }
    return is_found;
}

void legacy_ends_drop(struct legacy_ends *ends, uint64_t number)
{
    while (ends->n && ends->all[ends->from].number <= number) {
        ends->from = (ends->from + 1) % LEGACY_AHEAD;
        ends->n--;
    }
}

/* --- names and directories -------------------------------------------------------------------------------------------------- */

bool legacy_name_parse(const char *name, const char *prefix, const char *suffix, uint64_t *ms)
{
    struct str s = str_from(name), before = str_from(prefix), after = str_from(suffix);

    if (!str_starts(s, before))
        return false;
    s = str_skip(s, before.n);
    if (!str_starts(s, STR("data_")) || !str_ends(s, after) || s.n <= 5 + after.n)
        return false;
    s = str_cut(str_skip(s, 5), s.n - 5 - after.n);
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return str_to_u64(s, ms) == ERR_OK;
}

enum err legacy_check_writable(const char *dir, struct why *why)
{
    if (faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) == 0)
        return ERR_OK;
    return why_set(why, err_from_errno(errno), "%s cannot be written, so nothing can be taken out of it: %s", dir,
                   err_text(err_from_errno(errno)));
}

/* --- all there is ------------------------------------------------------------------------------------------------------------ */

struct search {
    struct log *log;
    struct legacy *first, **end;
};

static void found(struct search *search, enum err err, struct legacy *legacy, const struct why *why)
{
    if (err)
        LOG_ERROR(search->log, "data that waits cannot be taken over, it stays as it is", KV_WHY(why));
    if (err || !legacy)
        return;
    LOG_INFO(search->log, "data that waits is taken over", KV_Z("what", legacy->title), KV_Z("directory", legacy->path),
             KV_UINT("bytes", legacy->n_bytes));
    legacy->next = NULL;
    *search->end = legacy;
    search->end = &legacy->next;
}

static void find_files(struct search *search, const char *dir, const char *prefix)
{
    struct legacy *legacy = NULL;
    struct why why = {0};
    enum err err = legacy_files_open(&legacy, dir, prefix, search->log, &why);

    found(search, err, legacy, &why);
}

static void find_store(struct search *search, const char *dir, bool is_sqlite)
{
    struct legacy *legacy = NULL;
    struct why why = {0};
    enum err err = legacy_store_open(&legacy, dir, is_sqlite, search->log, &why);

    found(search, err, legacy, &why);
}

static void find_databases(struct search *search, const char *dir)
{
    struct legacy *legacy = NULL;
    struct why why = {0};
    enum err err = legacy_databases_open(&legacy, dir, search->log, &why);

    found(search, err, legacy, &why);
}

/* Up to the last slash: "./" if there is none; the text behind it goes to *name. */
static char *directory_of(const char *path, const char **name)
{
    const char *slash = strrchr(path, '/');
    char *dir;

    *name = slash ? slash + 1 : path;
    if (!slash)
        return mem_dup("./");
    dir = mem_dup(path);
    dir[slash + 1 - path] = 0;
    return dir;
}

struct legacy *legacy_find(const struct legacy_conf *conf)
{
    struct search search = {.log = conf->log};
    const char *prefix, *file;
    autofree char *beside = directory_of(conf->folder, &prefix), *databases = directory_of(conf->db_path, &file);

    search.end = &search.first;
    find_files(&search, conf->folder, "");
    if (*prefix)
        find_files(&search, beside, prefix);
    find_databases(&search, databases);
    if (!conf->keeps_files)
        find_store(&search, conf->folder, false);
    if (!conf->keeps_databases)
        find_store(&search, databases, true);
    return search.first;
}

enum err legacy_databases_open(struct legacy **out, const char *dir, struct log *log, struct why *why)
{
    autofree char *path = mem_dup(dir);
    const struct sqlite_api *api;

    *out = NULL;
    if (!sqlite_has_peer(dir))
        return ERR_OK;
    api = sqlite_load(why);
    return api ? api->legacy(out, path, log, why) : why->err;
}
