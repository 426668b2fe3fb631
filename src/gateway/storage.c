/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/storage_part.h"

#include "base/file.h"
#include "base/mem.h"

#include <unistd.h>

/*
 * A change:   worker pool: open ──► main: noted on the disk, with the former ones ──► every loop appends to the new one
 *             ──► uplink's loop: it is the last of the chain, and the former one settles
 * Drained:    uplink's loop: settled, empty, nothing under way ──► the next of the chain is read, the former stopped
 *             ──► main: counted, the note without it ──► uplink's loop: freed
 */
enum { PARTS_MAX = 4, LOOK_MS = 100, LOOK_SELDOM_MS = 1000, DRAIN_LOOK_MS = 10, NOTE_LIMIT = 1024 * 1024 };
enum step { STEP_NONE, STEP_OPENING, STEP_NOTING, STEP_SWITCHING, STEP_TUNING };

struct storage {
    struct storage_conf_of of;
    const char *note; /* path of former_storage.json */
    struct arena arena;
    struct storage_part *parts[PARTS_MAX]; /* main: oldest first; the last is written */
    size_t n;
    struct buf left; /* sections of those that could not be opened, or were not closed empty: for the next start */
    struct work note_work;
    struct buf note_text;
    enum err note_err;
    struct why note_why;
    bool is_noting, wants_note, is_ended;
    struct storage_part *dead; /* after the end: to be freed */

    /* a change */
    enum step step;
    struct storage_part *coming;
    struct apply_step *apply_step;
    const struct storage_conf *after;
    enum err err;
    struct why why;
    struct work open_work;
    struct call to_main, to_uplink;

    /* uplink's loop */
    struct storage_part *reading, *going; /* going: no more in the chain, is being stopped */
    struct store_stats gone;              /* counters of those that have stopped */
    struct timer look;
    closed_fn *drained, *stopped;
    void *drained_arg, *stopped_arg;
    uint64_t drain_until_ms;
    struct storage_part *stopping;
};

/* --- former_storage.json: a list of sections -------------------------------------------------------------------------------- */

static void put_note(void *arg)
{
    struct storage *storage = arg;
    struct str text = buf_str(&storage->note_text);

    storage->note_why = (struct why){0};
    storage->note_err = ERR_OK;
    if (text.n > 2)
        storage->note_err = file_put(storage->note, text, FILE_REPLACE, NULL, &storage->note_why);
    else
        unlink(storage->note);
}

static void add_section(struct buf *text, struct str section)
{
    buf_add_z(text, text->n > 1 ? "," : "");
    buf_add_str(text, section);
}

/* All of them while there are several: which of them the configuration names after a crash is not known. */
static void make_note(struct storage *storage)
{
    struct buf *text = &storage->note_text;

    text->n = 0;
    buf_add_z(text, "[");
    if (storage->left.n)
        add_section(text, buf_str(&storage->left));
    for (size_t i = 0; i < storage->n && (storage->n > 1 || storage->coming); i++)
        if (storage->parts[i]->path)
            add_section(text, storage->parts[i]->section);
    if (storage->coming && storage->coming->path)
        add_section(text, storage->coming->section);
    buf_add_z(text, "]");
}

static void leave_for_later(struct storage *storage, struct str section)
{
    if (storage->left.n)
        buf_add_z(&storage->left, ",");
    buf_add_str(&storage->left, section);
}

static void open_former(struct storage *storage, yyjson_val *section, const struct storage_part *present)
{
    autobuf struct buf text = {0}, own = {0};
    struct storage_part *part;
    struct problems problems;
    const struct storage_conf *storage_conf;
    struct conf *conf;
    struct why why = {0};
    bool is_full = storage->n == PARTS_MAX - 1;

    json_add_value(&own, section);
    buf_add_z(&text, "{\"thingsboard\":{\"host\":\"-\"},\"storage\":");
    buf_add_str(&text, buf_str(&own));
    buf_add_z(&text, "}");
    problems_init(&problems);
    conf = conf_load_text(&main_conf_type, "./", storage->note, buf_str(&text), &problems);
    storage_conf = conf ? ((const struct main_conf *)conf_root(conf))->storage : NULL;
    part = storage_part_new(storage, buf_str(&own));
    part->slot = !present->slot;
    atomic_store(&part->is_settled, true);
    if (storage_conf && storage_part_is_at(present, storage_conf)) {
        storage_part_free(part); /* it is the configured one again */
    } else if (!storage_conf || is_full || storage_part_open(part, storage_conf, &storage->of, &why)) {
        LOG_ERROR(storage->of.log, "a former storage cannot be opened, what waits there stays there",
                  KV_Z("path", part->path ? part->path : "?"), KV_Z("note", storage->note),
                  KV_Z("error", is_full        ? "there are too many"
                                : storage_conf ? why_text(&why)
                                               : "no such storage"));
        leave_for_later(storage, buf_str(&own));
        storage_part_free(part);
    } else {
        storage->parts[storage->n++] = part;
    }
    conf_unref(conf);
    problems_fini(&problems);
}

static void open_formers(struct storage *storage, const struct storage_part *present)
{
    autobuf struct buf text = {0};
    yyjson_doc *doc;
    yyjson_val *section;
    struct why why = {0};
    size_t i, n;

    if (access(storage->note, F_OK) != 0)
        return;
    if (file_read(&text, storage->note, NOTE_LIMIT, &why)) {
        LOG_ERROR(storage->of.log, "the list of former storages cannot be read, they are not delivered", KV_WHY(&why));
        return;
    }
    doc = yyjson_read((const char *)text.p, text.n, YYJSON_READ_NUMBER_AS_RAW);
    if (!yyjson_is_arr(yyjson_doc_get_root(doc)))
        LOG_ERROR(storage->of.log, "the list of former storages is damaged, what they hold is not delivered",
                  KV_Z("file", storage->note));
    yyjson_arr_foreach(yyjson_doc_get_root(doc), i, n, section) open_former(storage, section, present);
    yyjson_doc_free(doc);
}

static void noted(void *arg);

static void begin_note(struct storage *storage)
{
    storage->wants_note = storage->is_noting;
    if (storage->is_noting)
        return;
    storage->is_noting = true;
    make_note(storage);
    work_start(&storage->note_work, storage->of.main->loop, put_note, noted, storage);
}

/* --- drained -------------------------------------------------------------------------------------------------------------------- */

static void free_part(void *arg)
{
    storage_part_free(arg);
}

/* On the uplink's loop, while that runs. */
static void free_there(struct storage *storage, struct storage_part *part)
{
    if (storage->is_ended) {
        part->next = storage->dead;
        storage->dead = part;
        return;
    }
    part->call = (struct call){.fn = free_part, .arg = part};
    runner_call(storage->of.uplink_runner, &part->call);
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
    to->n_damaged_values += from->n_damaged_values;
    to->n_backlog_events += from->n_backlog_events;
    to->n_backlog_values += from->n_backlog_values;
    to->is_split |= from->is_split;
    if (from->oldest_ms && (!to->oldest_ms || from->oldest_ms < to->oldest_ms))
        to->oldest_ms = from->oldest_ms;
}

static const char *name_of(const struct storage_part *part)
{
    return part->path ? part->path : "memory";
}

static void tell_changed(struct storage *storage)
{
    if (storage->of.changed)
        storage->of.changed(storage->of.arg, storage->parts[storage->n - 1]->path);
}

/* Main loop: the oldest part has stopped. */
static void part_is_gone(void *arg)
{
    struct storage_part *part = arg;
    struct storage *storage = part->storage;

    assert(part == storage->parts[0] && storage->n > 1);
    if (part->is_clean) {
        LOG_INFO(storage->of.log, "a former storage is delivered and closed", KV_Z("path", name_of(part)));
    } else if (part->path) {
        LOG_WARN(storage->of.log, "a former storage is not closed empty, the next start looks into it again",
                 KV_Z("path", part->path));
        leave_for_later(storage, part->section);
    }
    storage->n--;
    memmove(storage->parts, storage->parts + 1, storage->n * sizeof(struct storage_part *));
    begin_note(storage);
    tell_changed(storage);
    free_there(storage, part);
}

static void stop_next(void *arg);

static void part_is_stopped(void *arg)
{
    struct storage_part *part = arg;
    struct storage *storage = part->storage;
    struct store_stats stats = store_stats(part->store);

    part->is_clean = !stats.n_bytes && !stats.trouble;
    stats.is_split = false;
    add_counters(&storage->gone, &stats);
    storage->going = NULL;
    part->call = (struct call){.fn = part_is_gone, .arg = part};
    runner_call(storage->of.main, &part->call);
    if (storage->stopped)
        stop_next(storage);
}

static void look(void *arg);

static void look_again(struct storage *storage)
{
    if (storage->drained)
        timer_start(&storage->look, DRAIN_LOOK_MS);
    else if (storage->of.is_up(storage->of.arg))
        timer_start(&storage->look, LOOK_MS);
    else
        timer_start_coarse(&storage->look, LOOK_SELDOM_MS);
}

static void end_drain(struct storage *storage)
{
    closed_fn *drained = storage->drained;

    storage->drained = NULL;
    if (drained)
        drained(storage->drained_arg);
}

/* Uplink's loop: is the oldest at its end? */
static void look(void *arg)
{
    struct storage *storage = arg;
    struct storage_part *part = storage->reading;

    if (part->next && !storage->going && atomic_load(&part->is_settled) && !store_stats(part->store).n_bytes &&
        storage->of.is_drained(storage->of.arg)) {
        storage->reading = part->next;
        storage->going = part;
        storage->of.attach(storage->of.arg, storage->reading->store);
        store_stop(part->store, part_is_stopped, part);
    }
    if (storage->drained && (!storage->reading->next || !storage->of.is_up(storage->of.arg) ||
                             loop_mono_ms(storage->of.uplink_runner->loop) >= storage->drain_until_ms))
        end_drain(storage);
    if (storage->reading->next)
        look_again(storage);
}

static void part_is_settled(void *arg)
{
    struct storage_part *part = arg;

    atomic_store(&part->is_settled, true);
    if (!part->storage->stopped)
        look(part->storage);
}

/* --- a change ------------------------------------------------------------------------------------------------------------------- */

static void finish(struct storage *storage, enum err err)
{
    struct storage_part *coming = storage->coming;

    storage->coming = NULL;
    storage->step = STEP_NONE;
    if (err && coming) {
        free_there(storage, coming);
        begin_note(storage);
    }
    apply_answer(storage->apply_step, err, &storage->why);
}

static void is_linked(void *arg)
{
    struct storage *storage = arg;
    struct storage_part *part = storage->coming;

    LOG_INFO(storage->of.log, "the storage has changed", KV_Z("path", name_of(part)));
    storage->parts[storage->n++] = part;
    tell_changed(storage);
    finish(storage, ERR_OK);
}

/* Uplink's loop. No other appends to the former one any more. */
static void link_coming(void *arg)
{
    struct storage *storage = arg;
    struct storage_part *last = storage->reading;

    while (last->next)
        last = last->next;
    last->next = storage->coming;
    store_settle(last->store, part_is_settled, last);
    timer_start(&storage->look, LOOK_MS);
    storage->to_main = (struct call){.fn = is_linked, .arg = storage};
    runner_call(storage->of.main, &storage->to_main);
}

static void all_have_switched(void *arg)
{
    struct storage *storage = arg;

    storage->to_uplink = (struct call){.fn = link_coming, .arg = storage};
    runner_call(storage->of.uplink_runner, &storage->to_uplink);
}

static void set_store(void *arg, struct ctx_host *host)
{
    host->store = ((struct storage *)arg)->coming->store;
}

static void noted(void *arg)
{
    struct storage *storage = arg;

    storage->is_noting = false;
    if (storage->wants_note) {
        begin_note(storage);
        return;
    }
    if (storage->note_err && storage->step != STEP_NOTING)
        LOG_WARN(storage->of.log, "former storages cannot be noted", KV_WHY(&storage->note_why));
    if (storage->step != STEP_NOTING)
        return;
    if (storage->note_err || storage->is_ended) {
        storage->why = storage->note_why;
        finish(storage, storage->note_err ? storage->note_err : ERR_CANCELLED);
        return;
    }
    storage->step = STEP_SWITCHING;
    loops_update(storage->of.loops, set_store, all_have_switched, storage);
}

static void is_open(void *arg)
{
    struct storage *storage = arg;

    if (storage->err)
        apply_blame(storage->apply_step,
                    storage->after->type == STORAGE_SQLITE ? "storage.data_file_path" : "storage.data_folder_path");
    if (storage->err || storage->is_ended) {
        finish(storage, storage->err ? storage->err : ERR_CANCELLED);
        return;
    }
    storage->step = STEP_NOTING;
    begin_note(storage);
}

static void open_coming(void *arg) /* worker pool */
{
    struct storage *storage = arg;

    storage->err = storage_part_open(storage->coming, storage->after, &storage->of, &storage->why);
}

static void is_tuned(void *arg)
{
    struct storage *storage = arg;

    LOG_INFO(storage->of.log, "the storage has other limits", KV_Z("path", name_of(storage->parts[storage->n - 1])));
    finish(storage, ERR_OK);
}

static void tune(void *arg)
{
    struct storage *storage = arg;
    struct storage_part *last = storage->reading;

    while (last->next)
        last = last->next;
    storage_part_tune(last, storage->after);
    storage->to_main = (struct call){.fn = is_tuned, .arg = storage};
    runner_call(storage->of.main, &storage->to_main);
}

static NODISCARD enum err refuse_busy(const struct storage *storage, struct why *why)
{
    if (storage->of.is_taking_over(storage->of.arg))
        return why_set(why, ERR_REFUSED, "what an earlier program has left is still being taken over");
    if (storage->n == PARTS_MAX)
        return why_set(why, ERR_REFUSED, "what waits in former storages has to be delivered first");
    if (storage->n > 1 && !atomic_load(&storage->parts[storage->n - 2]->is_settled))
        return why_set(why, ERR_REFUSED, "%s, the former storage, is full, and what was on its way there still waits",
                       name_of(storage->parts[storage->n - 2]));
    return ERR_OK;
}

static enum err take(void *arg, UNUSED const struct gateway_conf *before, const struct gateway_conf *after,
                     struct apply_step *step, struct why *why)
{
    struct storage *storage = arg;
    const struct storage_conf *conf = after->main->storage;
    struct storage_part *written = storage->parts[storage->n - 1];
    enum err err;

    storage->apply_step = step;
    storage->after = conf;
    storage->why = (struct why){0};
    for (size_t i = 0; i < storage->n; i++) {
        const struct storage_part *part = storage->parts[i];

        if (!storage_part_is_at(part, conf) || (!part->path && part != written))
            continue;
        if (part != written)
            return why_set(why, ERR_REFUSED, "what waits in %s has to be delivered first", part->path);
        if ((int)conf->type != part->type)
            return why_set(
                why, ERR_REFUSED,
                "%s is in use by a storage of another type: name another directory, or restart with this one",
                part->path);
        storage->step = STEP_TUNING;
        storage->to_uplink = (struct call){.fn = tune, .arg = storage};
        runner_call(storage->of.uplink_runner, &storage->to_uplink);
        return ERR_BUSY;
    }
    err = refuse_busy(storage, why);
    if (err)
        return err;
    autobuf struct buf section = {0};

    json_add_value(&section, json_get(json_file_root(conf_source(after->main_file)), STR("storage")));
    storage->coming = storage_part_new(storage, buf_str(&section));
    storage->coming->slot = !written->slot;
    storage->step = STEP_OPENING;
    work_start(&storage->open_work, storage->of.main->loop, open_coming, is_open, storage);
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
    autobuf struct buf section = {0};
    struct storage_part *part;
    enum err err;

    storage->of = *of;
    arena_init(&storage->arena, 512);
    storage->note = arena_printf(&storage->arena, "%sformer_storage.json", conf->dir).p;
    timer_init(&storage->look, of->uplink_runner->loop, look, storage);
    json_add_value(&section, json_get(json_file_root(conf_source(conf->main_file)), STR("storage")));
    part = storage_part_new(storage, buf_str(&section));
    err = storage_part_open(part, conf->main->storage, of, why);
    if (err) {
        storage_part_free(part);
        arena_fini(&storage->arena);
        mem_free(storage);
        return err;
    }
    open_formers(storage, part);
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

struct store_stats storage_kept(const struct storage *storage)
{
    const struct storage_part *written = storage->parts[storage->n - 1];
    struct store_stats sum = {0};

    if (written->path)
        sum = store_stats(written->store);
    for (size_t i = 0; i + 1 < storage->n; i++) {
        if (!storage->parts[i]->path)
            continue;
        struct store_stats stats = store_stats(storage->parts[i]->store);

        add_counters(&sum, &stats);
    }
    return sum;
}

bool storage_has(const struct storage *storage, const struct storage_conf *conf, enum storage_type type)
{
    struct storage_conf there = *conf;

    there.type = type;
    for (size_t i = 0; i < storage->n; i++)
        if (storage->parts[i]->type == (int)type && storage_part_is_at(storage->parts[i], &there))
            return true;
    return false;
}

bool storage_is_volatile(const struct storage *storage)
{
    for (size_t i = 0; i < storage->n; i++)
        if (!storage->parts[i]->path)
            return true;
    return false;
}

void storage_end(struct storage *storage)
{
    storage->is_ended = true;
}

void storage_free(struct storage *storage)
{
    struct storage_part *next;

    if (!storage)
        return;
    timer_stop(&storage->look);
    for (struct storage_part *part = storage->reading; part; part = next) {
        next = part->next;
        if (part == storage->coming)
            storage->coming = NULL;
        storage_part_free(part);
    }
    storage_part_free(storage->coming);
    for (struct storage_part *part = storage->dead; part; part = next) {
        next = part->next;
        storage_part_free(part);
    }
    buf_fini(&storage->note_text);
    buf_fini(&storage->left);
    arena_fini(&storage->arena);
    mem_free(storage);
}

struct store *storage_reading(const struct storage *storage)
{
    return storage->reading->store;
}

struct store_stats storage_stats(const struct storage *storage)
{
    struct store_stats sum = storage->gone;

    if (storage->going) {
        struct store_stats stats = store_stats(storage->going->store);

        add_counters(&sum, &stats);
    }
    for (const struct storage_part *part = storage->reading; part; part = part->next) {
        struct store_stats stats = store_stats(part->store);

        add_counters(&stats, &sum);
        sum = stats;
    }
    return sum;
}

void storage_drain(struct storage *storage, uint32_t ms, closed_fn *done, void *arg)
{
    storage->drained = done;
    storage->drained_arg = arg;
    storage->drain_until_ms = loop_mono_ms(storage->of.uplink_runner->loop) + ms;
    timer_start(&storage->look, 0);
}

static void is_stopped(void *arg)
{
    struct storage *storage = arg;
    struct storage_part *part = storage->stopping;
    struct store_stats stats = store_stats(part->store);

    if (!part->path && stats.n_events)
        LOG_WARN(storage->of.log, "what memory holds ends with the program: the platform has not taken it",
                 KV_UINT("events", stats.n_events), KV_UINT("values", stats.n_values));
    storage->stopping = part->next;
    stop_next(storage);
}

static void stop_next(void *arg)
{
    struct storage *storage = arg;

    if (storage->going)
        return;
    if (storage->stopping)
        store_stop(storage->stopping->store, is_stopped, storage);
    else
        storage->stopped(storage->stopped_arg);
}

void storage_stop(struct storage *storage, closed_fn *done, void *arg)
{
    timer_stop(&storage->look);
    storage->stopped = done;
    storage->stopped_arg = arg;
    storage->stopping = storage->reading;
    stop_next(storage);
}
