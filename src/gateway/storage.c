/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/storage.h"

#include "base/file.h"
#include "base/mem.h"

#include <unistd.h>

/*
 * A change:   uplink's loop: open ──► main: former ones noted on the disk ──► every loop appends to the new one
 *             ──► uplink's loop: it is the last of the chain
 * Drained:    uplink's loop: the next of the chain is read, the former stopped ──► main: counted for the last time, noted
 *             ──► uplink's loop: freed
 */
enum { PARTS_MAX = 4, LOOK_MS = 100, NOTE_LIMIT = 1024 * 1024 };

struct storage_part {
    struct storage_part *next; /* uplink's loop: towards the one that is written */
    struct storage *storage;
    struct arena arena;
    struct store *store;
    const char *path;   /* NULL: memory */
    struct str section; /* as configured, JSON */
    struct call call;
};

struct storage {
    struct storage_conf_of of;
    const char *note; /* path of former_storage.json */
    struct arena arena;
    struct storage_part *parts[PARTS_MAX]; /* main: oldest first; the last is written */
    size_t n;
    struct store_stats gone; /* counters of those that are freed */

    /* a change */
    struct storage_part *coming;
    struct apply_step *step;
    const struct gateway_conf *after;
    enum err err;
    struct why why;
    struct call to_main;
    struct work work;
    struct buf note_text;
    bool is_noting, wants_note;

    /* uplink's loop */
    struct storage_part *reading;
    struct timer look;
    bool was_empty;
    closed_fn *stopped;
    void *stopped_arg;
    struct storage_part *stopping;
};

/* --- opening --------------------------------------------------------------------------------------------------------------------- */

static enum overflow overflow_of(int configured)
{
    return configured == STORAGE_DROP_NEWEST   ? OVERFLOW_DROP_NEWEST
           : configured == STORAGE_DROP_OLDEST ? OVERFLOW_DROP_OLDEST
                                               : OVERFLOW_BLOCK;
}

/* Events have no size of their own: without this bound as many as the operator allows could be more than the machine has. */
static uint64_t memory_bound(const struct storage_conf *storage)
{
    uint64_t total = uv_get_total_memory(), here = uv_get_constrained_memory();

    if (storage->max_total_bytes > 0)
        return (uint64_t)storage->max_total_bytes;
    return (here && here < total ? here : total) / 4;
}

static struct str path_of(const struct storage_conf *conf)
{
    return conf->type == STORAGE_FILE ? conf->folder : conf->type == STORAGE_SQLITE ? conf->db_path : STR_NONE;
}

static NODISCARD enum err open_part(struct storage_part *part, const struct storage_conf *conf, struct why *why)
{
    const struct storage_conf_of *of = &part->storage->of;
    struct loop *loop = of->uplink_runner->loop;
    const struct memory_conf memory = {
        .max_events = conf->memory_capacity, .max_bytes = memory_bound(conf), .overflow = overflow_of(conf->overflow)};
    const uint64_t day_ms = 24 * 3600 * 1000, check_ms = (uint64_t)conf->ttl_check_hours * 3600 * 1000;
    struct file_conf file = {.max_events = (uint64_t)conf->max_files * conf->records_per_file,
                             .segment_events = conf->records_per_file,
                             .max_bytes = conf->max_total_bytes > 0 ? (uint64_t)conf->max_total_bytes : 0,
                             .overflow = overflow_of(conf->overflow),
                             .log = of->log};

    if (conf->type == STORAGE_MEMORY) {
        part->store = store_memory_new(loop, &memory, of->events, of->arg);
        return ERR_OK;
    }
    file.path = part->path = arena_text(&part->arena, path_of(conf));
    if (conf->type == STORAGE_FILE)
        return store_file_new(&part->store, loop, &file, of->events, of->arg, why);
    file.max_events = file.segment_events = 0;
    file.commit_events = conf->transaction_rows;
    file.max_age_ms = conf->ttl_days * day_ms;
    file.age_check_ms = check_ms ? check_ms : 60 * 1000;
    const struct sqlite_conf sqlite = {
        .file = file, .db_bytes = conf->size_limit_mb * (uint64_t)1000000, .max_dbs = conf->max_dbs};

    return store_sqlite_new(&part->store, loop, &sqlite, of->events, of->arg, why);
}

static struct storage_part *part_new(struct storage *storage, yyjson_val *section)
{
    struct storage_part *part = mem_zero(sizeof *part);

    part->storage = storage;
    arena_init(&part->arena, 512);
    part->section = json_text(&part->arena, section);
    return part;
}

static void part_free(struct storage_part *part)
{
    if (!part)
        return;
    store_free(part->store);
    arena_fini(&part->arena);
    mem_free(part);
}

static yyjson_val *section_of(const struct gateway_conf *conf)
{
    return json_get(json_file_root(conf_source(conf->main_file)), STR("storage"));
}

/* --- former_storage.json: a list of sections -------------------------------------------------------------------------------- */

static void note(void *arg)
{
    struct storage *storage = arg;
    struct str text = buf_str(&storage->note_text);

    storage->why = (struct why){0};
    storage->err = ERR_OK;
    if (text.n > 2)
        storage->err = file_put(storage->note, text, FILE_REPLACE, NULL, &storage->why);
    else
        unlink(storage->note);
}

/* All but the one that is written, and that one too while another is coming. */
static void make_note(struct storage *storage)
{
    size_t n = storage->coming ? storage->n : storage->n - 1;
    struct buf *text = &storage->note_text;

    text->n = 0;
    buf_add_z(text, "[");
    for (size_t i = 0; i < n; i++) {
        if (!storage->parts[i]->path)
            continue;
        buf_add_z(text, text->n > 1 ? "," : "");
        buf_add_str(text, storage->parts[i]->section);
    }
    buf_add_z(text, "]");
}

static void open_former(struct storage *storage, yyjson_val *section)
{
    autobuf struct buf text = {0};
    struct storage_part *part = part_new(storage, section);
    struct problems problems;
    struct conf *conf;
    struct why why = {0};

    buf_add_z(&text, "{\"thingsboard\":{\"host\":\"-\"},\"storage\":");
    json_add_value(&text, section);
    buf_add_z(&text, "}");
    problems_init(&problems);
    conf = conf_load_text(&main_conf_type, "./", storage->note, buf_str(&text), &problems);
    if (!conf || open_part(part, ((const struct main_conf *)conf_root(conf))->storage, &why)) {
        LOG_ERROR(storage->of.log, "a former storage cannot be opened, what waits there stays there",
                  KV_Z("path", part->path ? part->path : "?"), KV_WHY(&why));
        part_free(part);
    } else {
        storage->parts[storage->n++] = part;
    }
    conf_unref(conf);
    problems_fini(&problems);
}

static void open_formers(struct storage *storage, struct str present)
{
    autobuf struct buf text = {0};
    yyjson_doc *doc;
    yyjson_val *section, *path;
    size_t i, n;

    if (access(storage->note, F_OK) != 0 || file_read(&text, storage->note, NOTE_LIMIT, NULL))
        return;
    doc = yyjson_read((const char *)text.p, text.n, YYJSON_READ_NUMBER_AS_RAW);
    yyjson_arr_foreach(yyjson_doc_get_root(doc), i, n, section)
    {
        path = json_get(section, str_eq(json_str(json_get(section, STR("type"))), STR("sqlite"))
                                     ? STR("data_file_path")
                                     : STR("data_folder_path"));
        if (storage->n < PARTS_MAX - 1 && yyjson_is_obj(section) && !str_eq(json_str(path), present))
            open_former(storage, section);
    }
    yyjson_doc_free(doc);
}

/* --- drained -------------------------------------------------------------------------------------------------------------------- */

static void free_part(void *arg)
{
    part_free(arg);
}

static void add_counters(struct store_stats *to, const struct store_stats *from)
{
    to->n_events += from->n_events;
    to->n_values += from->n_values;
    to->n_bytes += from->n_bytes;
    to->n_appended_values += from->n_appended_values;
    to->n_acked_values += from->n_acked_values;
    to->n_dropped_events += from->n_dropped_events;
    to->n_dropped_values += from->n_dropped_values;
    to->n_backlog_events += from->n_backlog_events;
    to->n_backlog_values += from->n_backlog_values;
    to->is_split |= from->is_split;
    if (from->oldest_ms && (!to->oldest_ms || from->oldest_ms < to->oldest_ms))
        to->oldest_ms = from->oldest_ms;
}

static void noted(void *arg);

static void begin_note(struct storage *storage)
{
    storage->wants_note = storage->is_noting;
    if (storage->is_noting)
        return;
    storage->is_noting = true;
    make_note(storage);
    work_start(&storage->work, storage->of.main->loop, note, noted, storage);
}

/* Main loop: the oldest part has stopped. */
static void part_is_gone(void *arg)
{
    struct storage_part *part = arg;
    struct storage *storage = part->storage;
    struct store_stats stats = store_stats(part->store);

    if (stats.n_events)
        LOG_ERROR(storage->of.log, "a former storage was closed with data in it", KV_UINT("events", stats.n_events));
    else
        LOG_INFO(storage->of.log, "a former storage is delivered and closed",
                 KV_Z("path", part->path ? part->path : "memory"));
    add_counters(&storage->gone, &stats);
    storage->n--;
    memmove(storage->parts, storage->parts + 1, storage->n * sizeof *storage->parts);
    begin_note(storage);
    part->call = (struct call){.fn = free_part, .arg = part};
    runner_call(storage->of.uplink_runner, &part->call);
}

static void part_is_stopped(void *arg)
{
    struct storage_part *part = arg;

    part->call = (struct call){.fn = part_is_gone, .arg = part};
    runner_call(part->storage->of.main, &part->call);
}

/* Uplink's loop. Empty twice in a row: nothing was on its way to it any more. */
static void look(void *arg)
{
    struct storage *storage = arg;
    struct storage_part *part = storage->reading;
    struct store_stats stats = store_stats(part->store);
    bool is_empty = !stats.n_events && !stats.is_blocked && uplink_is_drained(*storage->of.uplink);

    if (!part->next)
        return;
    timer_start(&storage->look, LOOK_MS);
    if (is_empty && storage->was_empty) {
        storage->was_empty = false;
        storage->reading = part->next;
        uplink_attach(*storage->of.uplink, storage->reading->store);
        uplink_readable(*storage->of.uplink);
        store_stop(part->store, part_is_stopped, part);
        return;
    }
    storage->was_empty = is_empty;
}

/* --- a change ------------------------------------------------------------------------------------------------------------------- */

static void finish(struct storage *storage, enum err err)
{
    if (err) {
        storage->coming->call = (struct call){.fn = free_part, .arg = storage->coming};
        runner_call(storage->of.uplink_runner, &storage->coming->call);
    }
    storage->coming = NULL;
    apply_answer(storage->step, err, &storage->why);
}

static void is_linked(void *arg)
{
    struct storage *storage = arg;

    LOG_INFO(storage->of.log, "the storage has changed",
             KV_Z("path", storage->coming->path ? storage->coming->path : "memory"));
    storage->parts[storage->n++] = storage->coming;
    finish(storage, ERR_OK);
}

static void link_coming(void *arg)
{
    struct storage *storage = arg;
    struct storage_part *last = storage->reading;

    while (last->next)
        last = last->next;
    last->next = storage->coming;
    storage->was_empty = false;
    timer_start(&storage->look, LOOK_MS);
    storage->to_main = (struct call){.fn = is_linked, .arg = storage};
    runner_call(storage->of.main, &storage->to_main);
}

static void is_updated(void *arg)
{
    struct storage *storage = arg;

    storage->coming->call = (struct call){.fn = link_coming, .arg = storage};
    runner_call(storage->of.uplink_runner, &storage->coming->call);
}

static void set_store(void *arg, struct ctx_host *host)
{
    host->store = ((struct storage *)arg)->coming->store;
}

static void noted(void *arg)
{
    struct storage *storage = arg;

    storage->is_noting = false;
    if (storage->err && !storage->coming)
        LOG_WARN(storage->of.log, "former storages cannot be noted", KV_WHY(&storage->why));
    if (storage->wants_note) {
        begin_note(storage);
        return;
    }
    if (!storage->coming || !storage->step)
        return;
    if (storage->err) {
        finish(storage, storage->err);
        return;
    }
    loops_update(storage->of.loops, set_store, is_updated, storage);
}

static void is_open(void *arg)
{
    struct storage *storage = arg;

    if (storage->err)
        finish(storage, storage->err);
    else
        begin_note(storage);
}

static void open_coming(void *arg)
{
    struct storage *storage = arg;

    storage->err = open_part(storage->coming, storage->after->main->storage, &storage->why);
    storage->to_main = (struct call){.fn = is_open, .arg = storage};
    runner_call(storage->of.main, &storage->to_main);
}

static bool is_same_memory(const struct storage_conf *a, const struct storage_conf *b)
{
    return a->type == STORAGE_MEMORY && b->type == STORAGE_MEMORY && a->memory_capacity == b->memory_capacity &&
           a->max_total_bytes == b->max_total_bytes && a->overflow == b->overflow;
}

static enum err take(void *arg, const struct gateway_conf *before, const struct gateway_conf *after,
                     struct apply_step *step, struct why *why)
{
    struct storage *storage = arg;
    const struct storage_conf *conf = after->main->storage;
    struct str path = path_of(conf);

    if (is_same_memory(before->main->storage, conf))
        return ERR_OK;
    for (size_t i = 0; i < storage->n && path.n; i++) {
        if (!storage->parts[i]->path || !str_eq_z(path, storage->parts[i]->path))
            continue;
        if (i + 1 < storage->n)
            return why_set(why, ERR_REFUSED, "what waits in " STR_FMT " has to be delivered first", STR_ARG(path));
        LOG_WARN(storage->of.log, "other limits of the same storage take effect at the next start",
                 KV_STR("path", path));
        return ERR_OK;
    }
    if (*storage->of.takeover && takeover_status(*storage->of.takeover).is_running)
        return why_set(why, ERR_REFUSED, "what an earlier program has left is still being taken over");
    if (storage->n == PARTS_MAX)
        return why_set(why, ERR_REFUSED, "what waits in former storages has to be delivered first");
    storage->coming = part_new(storage, section_of(after));
    storage->step = step;
    storage->after = after;
    storage->why = (struct why){0};
    storage->coming->call = (struct call){.fn = open_coming, .arg = storage};
    runner_call(storage->of.uplink_runner, &storage->coming->call);
    return ERR_BUSY;
}

void storage_add_owner(struct storage *storage, struct apply *apply)
{
    static const char *const keys[] = {"storage", NULL};

    apply_add_owner(apply, &(struct apply_owner){.keys = keys, .take = take, .arg = storage});
}

/* --- life ----------------------------------------------------------------------------------------------------------------------- */

enum err storage_new(struct storage **out, const struct storage_conf_of *of, const struct gateway_conf *conf,
                     struct why *why)
{
    struct storage *storage = mem_zero(sizeof *storage);
    struct storage_part *part;
    enum err err;

    storage->of = *of;
    arena_init(&storage->arena, 512);
    storage->note = arena_printf(&storage->arena, "%sformer_storage.json", conf->dir).p;
    timer_init(&storage->look, of->uplink_runner->loop, look, storage);
    part = part_new(storage, section_of(conf));
    err = open_part(part, conf->main->storage, why);
    if (err) {
        part_free(part);
        arena_fini(&storage->arena);
        mem_free(storage);
        return err;
    }
    open_formers(storage, path_of(conf->main->storage));
    storage->parts[storage->n++] = part;
    for (size_t i = 0; i + 1 < storage->n; i++)
        storage->parts[i]->next = storage->parts[i + 1];
    storage->reading = storage->parts[0];
    if (storage->n > 1)
        timer_start(&storage->look, LOOK_MS);
    *out = storage;
    return ERR_OK;
}

struct store *storage_writing(const struct storage *storage)
{
    return storage->parts[storage->n - 1]->store;
}

struct store_stats storage_stats(const struct storage *storage)
{
    struct store_stats sum = store_stats(storage_writing(storage));

    add_counters(&sum, &storage->gone);
    for (size_t i = 0; i + 1 < storage->n; i++) {
        struct store_stats stats = store_stats(storage->parts[i]->store);

        add_counters(&sum, &stats);
    }
    return sum;
}

bool storage_is_volatile(const struct storage *storage)
{
    for (size_t i = 0; i < storage->n; i++)
        if (!storage->parts[i]->path)
            return true;
    return false;
}

void storage_free(struct storage *storage)
{
    if (!storage)
        return;
    timer_stop(&storage->look);
    for (struct storage_part *part = storage->reading, *next; part; part = next) {
        next = part->next;
        part_free(part);
    }
    buf_fini(&storage->note_text);
    arena_fini(&storage->arena);
    mem_free(storage);
}

struct store *storage_reading(const struct storage *storage)
{
    return storage->reading->store;
}

struct store_stats storage_stats_there(const struct storage *storage)
{
    struct store_stats sum = {0};

    for (const struct storage_part *part = storage->reading; part; part = part->next) {
        struct store_stats stats = store_stats(part->store);

        add_counters(&stats, &sum);
        sum = stats;
    }
    return sum;
}

static void stop_next(void *arg)
{
    struct storage *storage = arg;
    struct storage_part *part = storage->stopping;

    if (!part) {
        storage->stopped(storage->stopped_arg);
        return;
    }
    storage->stopping = part->next;
    store_stop(part->store, stop_next, storage);
}

void storage_stop(struct storage *storage, closed_fn *done, void *arg)
{
    timer_stop(&storage->look);
    storage->stopped = done;
    storage->stopped_arg = arg;
    storage->stopping = storage->reading;
    stop_next(storage);
}
