/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/apply.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "connector/module.h"
#include "gateway/gateway_write.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/*
 *   IDLE ──► LOADING ──► STAGING ──► GENERAL ──► REMOVING ──► CONNECTORS ──► WRITING ──► IDLE
 *               │           │           │ refused                  │ failed, all or nothing
 *               │           │           └─────────► BACK ◄─────────┘
 *               └─ errors ──┴─► IDLE                 └──► CONNECTORS (from files: the main file is left out), or IDLE
 *
 * STAGING: what was given is on the disk before any of it runs, so that WRITING needs no room. WRITING: it takes the place of
 * what it replaces; of files, identities.
 */
enum phase { IDLE, LOADING, STAGING, GENERAL, REMOVING, CONNECTORS, BACK, WRITING };

enum change_kind { FROM_FILES, FROM_TEXTS, PREVIEW };

struct asker {
    apply_done_fn *done;
    void *arg;
};

struct change {
    struct list node;
    enum change_kind kind;
    struct conf_text *texts;
    size_t n_texts;
    struct asker *askers; /* reloads that wait are one */
    size_t n_askers;
};

struct apply_step {
    struct apply *apply;
    struct call call; /* leaves the owner's call stack */
    const char *key;  /* apply_blame */
    enum err err;
    struct why why;
};

struct item_run {
    struct apply *apply;
    struct plan_item *item;
};

struct owner {
    struct apply_owner owner;
    bool has_taken;
};

struct apply {
    struct apply_conf conf;
    struct gateway_conf *first, *running; /* first: as the program started; others keep views of it */
    struct owner *owners;
    size_t n_owners;
    apply_changed_fn *changed;
    void *changed_arg;
    struct list waiting;
    struct call begin;
    uint64_t *seen; /* problems of the last load, hashed */
    size_t n_seen;
    bool is_ended;

    enum phase phase; /* of the change that runs */
    struct change *change;
    struct file_staged *staged; /* of each text of the change */
    struct work work;
    struct problems problems;
    struct gateway_conf *next;
    struct plan *plan;
    struct item_run *runs;
    size_t n_open;  /* connectors that have not answered */
    size_t i_owner; /* GENERAL, BACK: the next one to ask */
    bool is_main_taken, has_failed;
    struct apply_step step;
    struct apply_result result;
};

static void begin_next(void *arg);
static void finish(struct apply *apply);

/* --- the log ---------------------------------------------------------------------------------------------------------------- */

static void log_problem(struct log *log, const struct problem *problem)
{
    autobuf struct buf text = {0};

    problem_add_text(&text, problem);
    switch (problem->severity) {
    case CONF_ERROR:
        LOG_ERROR(log, "configuration", KV_STR("problem", buf_str(&text)));
        break;
    case CONF_WARNING:
        LOG_WARN(log, "configuration", KV_STR("problem", buf_str(&text)));
        break;
    case CONF_NOTE:
        LOG_DEBUG(log, "configuration", KV_STR("note", buf_str(&text)));
        break;
    }
    log_flush(true); /* every problem is told, however many there are */
}

void apply_log_problems(struct log *log, const struct problems *problems)
{
    for (const struct problem *problem = problems->first; problem; problem = problem->next)
        log_problem(log, problem);
}

/* Wherever it stands in its file by now. */
static uint64_t hash_of(const struct problem *problem)
{
    autobuf struct buf text = {0};

    buf_printf(&text, "%d %s %s %s", problem->severity, problem->file ? problem->file : "",
               problem->path ? problem->path : "", problem->text);
    return hash_bytes(text.p, text.n);
}

static bool was_seen(const struct apply *apply, const struct problem *problem)
{
    uint64_t hash = hash_of(problem);

    for (size_t i = 0; i < apply->n_seen; i++)
        if (apply->seen[i] == hash)
            return true;
    return false;
}

static void remember(struct apply *apply, const struct problems *problems)
{
    size_t n = 0;

    for (const struct problem *problem = problems->first; problem; problem = problem->next)
        n++;
    apply->seen = mem_grow(apply->seen, (n + 1) * sizeof *apply->seen);
    apply->n_seen = 0;
    for (const struct problem *problem = problems->first; problem; problem = problem->next)
        apply->seen[apply->n_seen++] = hash_of(problem);
}

/* Warnings are told once, not at each reload. */
static void log_new_problems(struct apply *apply)
{
    for (const struct problem *problem = apply->problems.first; problem; problem = problem->next)
        if (!was_seen(apply, problem))
            log_problem(apply->conf.log, problem);
    remember(apply, &apply->problems);
}

static bool is_in(const struct change *change, const struct problem *problem)
{
    for (size_t i = 0; i < change->n_texts && problem->file; i++)
        if (strcmp(problem->file, change->texts[i].path) == 0)
            return true;
    return false;
}

/* What has no errors may have keys without effect; what lies in other files is told when they are looked at. */
static void log_warnings_of_texts(struct apply *apply)
{
    for (const struct problem *problem = apply->problems.first; problem; problem = problem->next) {
        if (problem->severity != CONF_WARNING || !is_in(apply->change, problem) || was_seen(apply, problem))
            continue;
        log_problem(apply->conf.log, problem);
        apply->seen = mem_grow(apply->seen, (apply->n_seen + 1) * sizeof *apply->seen);
        apply->seen[apply->n_seen++] = hash_of(problem);
    }
}

static void fail(struct apply *apply, enum err err, const char *reason)
{
    apply->has_failed = true;
    if (apply->result.err)
        return;
    apply->result.err = err;
    why_set(&apply->result.why, err, "%s", reason);
}

/* --- general keys ------------------------------------------------------------------------------------------------------ */

static bool is_below(struct str path, struct str key)
{
    return str_starts(path, key) && (path.n == key.n || path.p[key.n] == '.' || path.p[key.n] == '[');
}

static bool owns(const struct apply_owner *owner, const char *file, const char *path)
{
    bool is_main = strcmp(file, "tb_gateway.json") == 0;

    for (const char *const *key = owner->keys; *key; key++)
        if (is_main ? is_below(str_from(path), str_from(*key)) : strcmp(file, *key) == 0)
            return true;
    return false;
}

static bool is_live(void *arg, const char *file, const char *path)
{
    const struct apply *apply = arg;

    for (size_t i = 0; i < apply->n_owners; i++)
        if (owns(&apply->owners[i].owner, file, path))
            return true;
    return false;
}

static bool is_concerned(const struct apply *apply, const struct owner *owner)
{
    for (size_t i = 0; i < apply->plan->n; i++) {
        const struct plan_item *item = &apply->plan->items[i];

        if (item->kind == PLAN_GENERAL && owns(&owner->owner, item->name, item->paths))
            return true;
    }
    return false;
}

static void mark_general(struct apply *apply, enum plan_outcome outcome, const char *error)
{
    for (size_t i = 0; i < apply->plan->n; i++) {
        struct plan_item *item = &apply->plan->items[i];

        if (item->kind != PLAN_GENERAL)
            continue;
        item->outcome = outcome;
        item->error = error;
    }
}

static void connectors_begin(struct apply *apply);
static void write_begin(struct apply *apply);
static void ids_begin(struct apply *apply);

/* What owners have taken is given back, the last one first. */
static void back(struct apply *apply)
{
    apply->phase = BACK;
    while (apply->i_owner-- > 0) {
        struct owner *owner = &apply->owners[apply->i_owner];
        struct why why = {0};
        enum err err;

        if (!owner->has_taken)
            continue;
        owner->has_taken = false;
        err = owner->owner.take(owner->owner.arg, apply->next, apply->running, &apply->step, &why);
        if (err == ERR_BUSY)
            return;
        if (err)
            LOG_ERROR(apply->conf.log, "a change cannot be taken back, it needs a restart",
                      KV_Z("key", owner->owner.keys[0]), KV_WHY(&why));
    }
    apply->is_main_taken = false;
    if (apply->change->kind == FROM_TEXTS)
        finish(apply);
    else
        connectors_begin(apply);
}

/* The change that the owner blames, or the first one of his. */
static const char *changed_path(const struct apply *apply, const struct owner *owner)
{
    const char *first = NULL;

    for (size_t i = 0; i < apply->plan->n; i++) {
        const struct plan_item *item = &apply->plan->items[i];

        if (item->kind != PLAN_GENERAL || !owns(&owner->owner, item->name, item->paths))
            continue;
        if (apply->step.key && strcmp(item->paths, apply->step.key) == 0)
            return item->paths;
        first = first ? first : item->paths;
    }
    return first ? first : owner->owner.keys[0];
}

static void refused(struct apply *apply, const struct owner *owner, enum err err, const struct why *why)
{
    const char *path = changed_path(apply, owner);
    const char *reason = why->err ? why_text(why) : err_text(err);
    const char *text = arena_printf(&apply->plan->arena, "%s: %s", path, reason).p;

    if (!apply->has_failed)
        apply->result.path = path;

    LOG_ERROR(apply->conf.log, "a change of the main configuration is not taken, what was before goes on",
              KV_Z("error", text));
    if (apply->change->kind == FROM_FILES)
        LOG_WARN(apply->conf.log, "the file still says otherwise, and a restart would do what it says",
                 KV_Z("file", apply->running->path), KV_Z("path", path));
    mark_general(apply, PLAN_FAILED, text);
    fail(apply, err, text);
    back(apply);
}

static void general(struct apply *apply)
{
    while (apply->i_owner < apply->n_owners) {
        struct owner *owner = &apply->owners[apply->i_owner];
        struct why why = {0};
        enum err err;

        if (!is_concerned(apply, owner)) {
            apply->i_owner++;
            continue;
        }
        apply->step.key = NULL;
        err = owner->owner.take(owner->owner.arg, apply->running, apply->next, &apply->step, &why);
        if (err == ERR_BUSY)
            return;
        if (err) {
            refused(apply, owner, err, &why);
            return;
        }
        owner->has_taken = true;
        apply->i_owner++;
    }
    mark_general(apply, PLAN_DONE, NULL);
    connectors_begin(apply);
}

static void answered(void *arg)
{
    struct apply *apply = arg;
    struct owner *owner = &apply->owners[apply->i_owner];

    if (apply->phase == BACK) {
        if (apply->step.err)
            LOG_ERROR(apply->conf.log, "a change cannot be taken back, it needs a restart",
                      KV_Z("key", owner->owner.keys[0]), KV_WHY(&apply->step.why));
        back(apply);
    } else if (apply->step.err) {
        refused(apply, owner, apply->step.err, &apply->step.why);
    } else {
        owner->has_taken = true;
        apply->i_owner++;
        general(apply);
    }
}

void apply_answer(struct apply_step *step, enum err err, const struct why *why)
{
    step->err = err;
    step->why = why ? *why : (struct why){0};
    step->call = (struct call){.fn = answered, .arg = step->apply};
    runner_call(step->apply->conf.main, &step->call);
}

void apply_blame(struct apply_step *step, const char *key)
{
    step->key = key;
}

static void general_begin(struct apply *apply)
{
    for (size_t i = 0; i < apply->plan->n; i++) {
        const struct plan_item *item = &apply->plan->items[i];

        /* Of texts that are given none has errors; what else lies on the disk is not their fault. */
        if ((item->kind == PLAN_GENERAL_REFUSED || item->kind == PLAN_REFUSED) && apply->change->kind == FROM_FILES)
            fail(apply, ERR_CONFIG, item->error);
        if (item->kind == PLAN_GENERAL && !item->is_live)
            LOG_WARN(apply->conf.log, "a change takes effect at the next start", KV_Z("file", item->name),
                     KV_Z("path", item->paths));
    }
    apply->is_main_taken = !apply->plan->is_main_refused;
    apply->phase = GENERAL;
    apply->i_owner = 0;
    for (size_t i = 0; i < apply->n_owners; i++)
        apply->owners[i].has_taken = false;
    if (apply->is_main_taken)
        general(apply);
    else
        connectors_begin(apply);
}

/* --- connectors ---------------------------------------------------------------------------------------------------------- */

static void connectors_end(struct apply *apply);
static void connectors_go(struct apply *apply);

static void item_done(void *arg, enum err err, const struct why *why)
{
    struct item_run *run = arg;
    struct apply *apply = run->apply;
    struct plan_item *item = run->item;

    item->outcome = err ? PLAN_FAILED : PLAN_DONE;
    if (err) {
        item->error = arena_printf(&apply->plan->arena, "%s", why && why->err ? why_text(why) : err_text(err)).p;
        fail(apply, err == ERR_CANCELLED ? err : ERR_CONFIG,
             arena_printf(&apply->plan->arena, "%s: %s", item->name, item->error).p);
    }
    if (--apply->n_open > 0)
        return;
    if (apply->phase == REMOVING)
        connectors_go(apply);
    else
        connectors_end(apply);
}

static void add_connector(struct apply *apply, struct item_run *run)
{
    const struct gateway_connector *connector = run->item->after;
    struct str name = str_from(connector->name);

    fleet_add_configured(apply->conf.fleet, connector);
    fleet_start(apply->conf.fleet, name, item_done, run);
}

static void replace_connector(struct apply *apply, struct item_run *run)
{
    const struct gateway_connector *after = run->item->after;
    struct why why = {0};
    const struct fleet_spec spec = {.name = after->name, .type = module_load(after->type, &why), .conf = after->conf};
    enum fleet_change change = run->item->kind == PLAN_LIVE              ? FLEET_LIVE
                               : run->item->kind == PLAN_LIVE_BY_GATEWAY ? FLEET_LIVE_BY_GATEWAY
                                                                         : FLEET_RESTART;

    assert(spec.type); /* its descriptor came from there */
    fleet_replace(apply->conf.fleet, str_from(run->item->name), &spec, change, item_done, run);
}

static void start_item(struct apply *apply, struct item_run *run)
{
    struct plan_item *item = run->item;

    switch (item->kind) {
    case PLAN_REMOVE:
        fleet_remove(apply->conf.fleet, str_from(item->name), item_done, run);
        break;
    case PLAN_ADD:
        add_connector(apply, run);
        break;
    case PLAN_RESTART:
    case PLAN_LIVE:
    case PLAN_LIVE_BY_GATEWAY:
        replace_connector(apply, run);
        break;
    case PLAN_REFUSED:
    case PLAN_GENERAL:
    case PLAN_GENERAL_REFUSED:
        break;
    }
}

/* Without the main file it is as if these were not in the plan. */
static bool is_for_now(const struct apply *apply, const struct plan_item *item)
{
    switch (item->kind) {
    case PLAN_REMOVE:
        return apply->is_main_taken && apply->phase == REMOVING;
    case PLAN_ADD:
        return apply->is_main_taken && apply->phase == CONNECTORS;
    case PLAN_RESTART:
    case PLAN_LIVE:
    case PLAN_LIVE_BY_GATEWAY:
        return (apply->is_main_taken || !item->new_name) && apply->phase == CONNECTORS;
    case PLAN_REFUSED:
    case PLAN_GENERAL:
    case PLAN_GENERAL_REFUSED:
        break;
    }
    return false;
}

/* Those of this phase, all at once: each waits for nobody. What is removed goes first: its port may be wanted. */
static bool start_items(struct apply *apply)
{
    size_t n = 0;

    for (size_t i = 0; i < apply->plan->n; i++)
        n += is_for_now(apply, &apply->plan->items[i]);
    apply->n_open = n;
    for (size_t i = 0; i < apply->plan->n && n; i++) {
        struct item_run *run = &apply->runs[i];

        *run = (struct item_run){.apply = apply, .item = &apply->plan->items[i]};
        if (is_for_now(apply, run->item))
            start_item(apply, run);
    }
    return n > 0;
}

static void connectors_go(struct apply *apply)
{
    apply->phase = CONNECTORS;
    if (!start_items(apply))
        connectors_end(apply);
}

static void connectors_begin(struct apply *apply)
{
    apply->phase = REMOVING;
    apply->runs = mem_zero((apply->plan->n + 1) * sizeof *apply->runs);
    if (!start_items(apply))
        connectors_go(apply);
}

static void log_items(struct apply *apply)
{
    for (size_t i = 0; i < apply->plan->n; i++) {
        autobuf struct buf text = {0};

        plan_add_item_text(&text, &apply->plan->items[i]);
        if (apply->plan->items[i].kind == PLAN_REFUSED || apply->plan->items[i].kind == PLAN_GENERAL_REFUSED)
            LOG_ERROR(apply->conf.log, "configuration is not changed", KV_STR("plan", buf_str(&text)));
        else
            LOG_INFO(apply->conf.log, "configuration changes", KV_STR("plan", buf_str(&text)));
        log_flush(true);
    }
}

/* All or nothing: what was added for it goes again. */
static void connectors_end(struct apply *apply)
{
    if (apply->change->kind != FROM_TEXTS) {
        ids_begin(apply);
        return;
    }
    if (!apply->has_failed) {
        write_begin(apply);
        return;
    }
    for (size_t i = 0; i < apply->plan->n; i++)
        if (apply->plan->items[i].kind == PLAN_ADD)
            fleet_remove(apply->conf.fleet, str_from(apply->plan->items[i].name), NULL, NULL);
    back(apply);
}

/* --- files ------------------------------------------------------------------------------------------------------------------ */

static void start_step(struct apply *apply, enum phase phase, void (*there)(void *arg), void (*back_here)(void *arg))
{
    apply->phase = phase;
    apply->step.err = ERR_OK;
    apply->step.why = (struct why){0};
    work_start(&apply->work, apply->conf.main->loop, there, back_here, apply);
}

static void stage_texts(void *arg)
{
    struct apply *apply = arg;

    for (size_t i = 0; i < apply->change->n_texts && !apply->step.err; i++) {
        const struct conf_text *text = &apply->change->texts[i];
        bool exists = access(text->path, F_OK) == 0;

        if (text->text.p)
            apply->step.err = file_stage(&apply->staged[i], text->path, text->text,
                                         exists ? text->path : apply->running->path, &apply->step.why);
    }
}

static void staged(void *arg)
{
    struct apply *apply = arg;

    if (apply->is_ended)
        fail(apply, ERR_CANCELLED, "the gateway stops");
    else if (apply->step.err)
        fail(apply, apply->step.err, why_text(&apply->step.why));
    if (apply->has_failed) {
        finish(apply);
        return;
    }
    log_items(apply);
    general_begin(apply);
}

static void stage_begin(struct apply *apply)
{
    apply->staged = mem_zero((apply->change->n_texts + 1) * sizeof *apply->staged);
    start_step(apply, STAGING, stage_texts, staged);
}

static void drop_staged(struct apply *apply)
{
    for (size_t i = 0; i < apply->change->n_texts && apply->staged; i++)
        file_staged_drop(&apply->staged[i]);
    mem_free(apply->staged);
    apply->staged = NULL;
}

/* What is removed goes last: until then the main file may name it. */
static void write_texts(void *arg)
{
    struct apply *apply = arg;
    const struct change *change = apply->change;

    for (size_t i = 0; i < change->n_texts && !apply->step.err; i++)
        if (change->texts[i].text.p)
            apply->step.err = file_staged_put(&apply->staged[i], &apply->step.why);
    for (size_t i = 0; i < change->n_texts && !apply->step.err; i++) {
        const char *path = change->texts[i].path;

        if (!change->texts[i].text.p && unlink(path) != 0 && errno != ENOENT)
            apply->step.err = why_set(&apply->step.why, err_from_errno(errno), "%s: cannot be removed", path);
    }
}

static void written(void *arg)
{
    struct apply *apply = arg;

    if (apply->step.err) {
        LOG_ERROR(apply->conf.log, "the configuration runs, but is not saved", KV_WHY(&apply->step.why));
        fail(apply, apply->step.err, why_text(&apply->step.why));
        apply->has_failed = false; /* it runs */
    }
    finish(apply);
}

static void write_begin(struct apply *apply)
{
    start_step(apply, WRITING, write_texts, written);
}

/* A connector that has come without an identity, or lost it. */
static bool needs_id(const struct plan_item *item)
{
    const struct gateway_connector *after = item->after;

    return item->outcome == PLAN_DONE && after && after->conf && after->path &&
           connector_common_of(after->conf)->id.n && gateway_lacks_id(conf_source(after->conf), after->path);
}

static void write_ids(void *arg)
{
    struct apply *apply = arg;

    for (size_t i = 0; i < apply->plan->n; i++) {
        const struct gateway_connector *after = apply->plan->items[i].after;
        const struct connector_common *common;
        struct why why = {0};

        if (!needs_id(&apply->plan->items[i]))
            continue;
        common = connector_common_of(after->conf);
        if (gateway_write_id(conf_source(after->conf), after->path, arena_text(&apply->plan->arena, common->id), &why))
            LOG_WARN(apply->conf.log, "a connector's new id is not written into its file",
                     KV_Z("connector", after->name), KV_WHY(&why));
        else
            LOG_INFO(apply->conf.log, "a connector's file had no id, it has one now", KV_Z("connector", after->name));
    }
}

static void ids_written(void *arg)
{
    finish(arg);
}

static void ids_begin(struct apply *apply)
{
    bool is_needed = false;

    for (size_t i = 0; i < apply->plan->n; i++)
        is_needed |= needs_id(&apply->plan->items[i]);
    if (!is_needed) {
        finish(apply);
        return;
    }
    apply->phase = WRITING;
    work_start(&apply->work, apply->conf.main->loop, write_ids, ids_written, apply);
}

/* --- what runs now ----------------------------------------------------------------------------------------------------- */

static void swap_connectors(struct gateway_conf *to, struct gateway_connector *a, struct gateway_connector *b)
{
    struct gateway_connector kept = *a;

    a->conf = b->conf;
    a->n_errors = b->n_errors;
    a->reason = b->reason ? arena_text(&to->arena, str_from(b->reason)) : NULL;
    b->conf = kept.conf;
}

static struct gateway_connector *same_in(struct gateway_conf *conf, const char *name)
{
    for (size_t i = 0; i < conf->n_connectors; i++)
        if (strcmp(conf->connectors[i].name, name) == 0)
            return &conf->connectors[i];
    return NULL;
}

static const struct plan_item *item_of(const struct apply *apply, const struct gateway_connector *after)
{
    for (size_t i = 0; i < apply->plan->n; i++)
        if (apply->plan->items[i].after == after)
            return &apply->plan->items[i];
    return NULL;
}

/* A connector whose entry has errors runs on with what it was; of the former configuration nothing is left then. */
static void keep_connector(struct gateway_conf *next, struct gateway_connector *former)
{
    struct gateway_connector *kept = &next->connectors[next->n_connectors++];
    struct connector_entry *entry = arena_zero(&next->arena, sizeof *entry);
    const struct connector_entry *from = former->entry;

    *kept = *former;
    former->conf = NULL;
    *entry = (struct connector_entry){.type = arena_str(&next->arena, from->type),
                                      .name = arena_str(&next->arena, from->name),
                                      .configuration = arena_str(&next->arena, from->configuration),
                                      .class_name = arena_str(&next->arena, from->class_name),
                                      .key.value = arena_str(&next->arena, from->key.value),
                                      .grpc_force = from->grpc_force};
    entry->at = entry->type_at = entry->configuration_at = (struct conf_at){.file = next->path, .path = ""};
    kept->entry = entry;
    kept->type = arena_text(&next->arena, str_from(former->type));
    kept->name = arena_text(&next->arena, str_from(former->name));
    kept->path = former->path ? arena_text(&next->arena, str_from(former->path)) : NULL;
    kept->reason = former->reason ? arena_text(&next->arena, str_from(former->reason)) : NULL;
    entry->path = kept->path;
}

static void keep_connectors(struct apply *apply, struct gateway_conf *next, struct gateway_conf *running)
{
    struct gateway_connector *all =
        arena_zero(&next->arena, (next->n_connectors + running->n_connectors + 1) * sizeof *all);

    memcpy(all, next->connectors, next->n_connectors * sizeof *all);
    next->connectors = all;
    for (size_t i = 0; i < apply->plan->n; i++) {
        const struct plan_item *item = &apply->plan->items[i];

        if (item->kind == PLAN_REFUSED && !item->after)
            keep_connector(next, same_in(running, item->before->name));
    }
}

/* next becomes what runs: connectors that were left as they are keep their former configuration, also where it is equal, since
 * they run with it. */
static void keep_what_runs(struct apply *apply, struct gateway_conf *next, struct gateway_conf *running)
{
    for (size_t i = 0; i < next->n_connectors; i++) {
        struct gateway_connector *connector = &next->connectors[i], *former;
        const struct plan_item *item = item_of(apply, connector);

        if (item && item->outcome == PLAN_DONE)
            continue;
        former = same_in(running, item && item->before ? item->before->name : connector->name);
        if (!former)
            continue;
        if (item && item->new_name) /* it still has its former name */
            connector->name = arena_text(&next->arena, str_from(former->name));
        swap_connectors(next, connector, former);
    }
    keep_connectors(apply, next, running);
}

static void take_what_runs(struct apply *apply, struct gateway_conf *next, struct gateway_conf *running)
{
    for (size_t i = 0; i < next->n_connectors; i++) {
        const struct plan_item *item = item_of(apply, &next->connectors[i]);
        struct gateway_connector *former;

        if (!item || item->outcome != PLAN_DONE || item->new_name || !item->before)
            continue;
        former = same_in(running, item->before->name);
        if (former)
            swap_connectors(running, former, &next->connectors[i]);
    }
}

/* Gives the configuration that nobody needs any more. */
static struct gateway_conf *adopt(struct apply *apply)
{
    struct gateway_conf *before = apply->running;

    if (!apply->is_main_taken) {
        take_what_runs(apply, apply->next, before);
        return apply->next;
    }
    keep_what_runs(apply, apply->next, before);
    apply->running = apply->next;
    return before;
}

/* --- a change from its begin to its end ------------------------------------------------------------------------------- */

static void change_free(struct change *change)
{
    for (size_t i = 0; i < change->n_texts; i++) {
        mem_free((void *)(uintptr_t)change->texts[i].path);
        mem_free((void *)(uintptr_t)change->texts[i].text.p);
    }
    mem_free(change->texts);
    mem_free(change->askers);
    mem_free(change);
}

static void tell(struct change *change, const struct apply_result *result)
{
    for (size_t i = 0; i < change->n_askers; i++)
        if (change->askers[i].done)
            change->askers[i].done(change->askers[i].arg, result);
}

static void cancel(struct change *change, const char *reason)
{
    struct apply_result result = {.err = ERR_CANCELLED};

    why_set(&result.why, ERR_CANCELLED, "%s", reason);
    list_del(&change->node);
    tell(change, &result);
    change_free(change);
}

static void log_end(struct apply *apply)
{
    size_t n_done = 0, n_failed = 0;

    for (size_t i = 0; apply->plan && i < apply->plan->n; i++) {
        n_done += apply->plan->items[i].outcome == PLAN_DONE;
        n_failed += apply->plan->items[i].outcome == PLAN_FAILED || apply->plan->items[i].error != NULL;
    }
    if (apply->result.err)
        LOG_ERROR(apply->conf.log, "configuration is not, or not wholly, applied", KV_UINT("applied", n_done),
                  KV_UINT("refused", n_failed), KV_WHY(&apply->result.why));
    else if (apply->plan && apply->plan->n)
        LOG_INFO(apply->conf.log, "configuration applied", KV_UINT("changes", n_done));
    else
        LOG_DEBUG(apply->conf.log, "configuration is unchanged");
}

static void finish(struct apply *apply)
{
    struct change *change = apply->change;
    struct gateway_conf *unused = apply->next, *before = apply->running;
    bool is_taken = apply->plan && change->kind != PREVIEW && !(change->kind == FROM_TEXTS && apply->has_failed);

    if (change->kind != PREVIEW)
        log_end(apply);
    drop_staged(apply);
    if (is_taken)
        unused = adopt(apply);
    apply->result.plan = apply->plan;
    apply->result.problems = &apply->problems;
    if (is_taken && apply->plan->n && apply->changed)
        apply->changed(apply->changed_arg, before, apply->running);
    apply->phase = IDLE;
    apply->change = NULL;
    tell(change, &apply->result);
    plan_free(apply->plan);
    apply->plan = NULL;
    mem_free(apply->runs);
    apply->runs = NULL;
    if (unused != apply->first)
        gateway_conf_free(unused);
    apply->next = NULL;
    problems_fini(&apply->problems);
    change_free(change);
    if (!list_is_empty(&apply->waiting) && !apply->begin.is_posted)
        runner_call(apply->conf.main, &apply->begin);
}

/* Not taken away from running: others keep views of the first one's. */
static void keep_file(struct conf **next, struct conf *running)
{
    conf_unref(*next);
    *next = running ? conf_ref(running) : NULL;
}

static void set_views(struct gateway_conf *conf)
{
    conf->logs = conf->logs_file ? conf_root(conf->logs_file) : NULL;
    conf->filter = conf->filter_file ? conf_root(conf->filter_file) : NULL;
}

/* A file with errors leaves what was read from it before, for the owners too. */
static void keep_good_files(struct gateway_conf *next, struct gateway_conf *running)
{
    if (next->n_errors.logs)
        keep_file(&next->logs_file, running->logs_file);
    if (next->n_errors.filter)
        keep_file(&next->filter_file, running->filter_file);
    if (next->n_errors.commands)
        keep_file(&next->commands_file, running->commands_file);
    set_views(next);
}

/* The change names another file of filter rules, and that is the one that cannot be used. */
static bool is_of_new_filter(const struct apply *apply, const struct problem *problem)
{
    const char *path = apply->next ? apply->next->filter_path : NULL, *former = apply->running->filter_path;

    return path && apply->change->kind == FROM_TEXTS && problem->file && strcmp(problem->file, path) == 0 &&
           !(former && strcmp(former, path) == 0);
}

/* What was wrong already is not the change's fault. */
static const struct problem *error_in(const struct apply *apply)
{
    for (const struct problem *problem = apply->problems.first; problem; problem = problem->next)
        if (problem->severity == CONF_ERROR &&
            (is_of_new_filter(apply, problem) ||
             (is_in(apply->change, problem) &&
              !(apply->next && plan_is_old_problem(apply->running, apply->next, problem)))))
            return problem;
    return NULL;
}

static void loaded(void *arg)
{
    struct apply *apply = arg;
    const struct problem *wrong = error_in(apply);

    if (apply->is_ended) {
        fail(apply, ERR_CANCELLED, "the gateway stops");
        finish(apply);
        return;
    }
    if (apply->change->kind == FROM_FILES)
        log_new_problems(apply);
    if (wrong && is_of_new_filter(apply, wrong)) {
        autobuf struct buf text = {0};

        problem_add_text(&text, wrong);
        buf_add_u8(&text, 0);
        apply->result.path = "thingsboard.deviceFiltering.filterFile";
        fail(apply, ERR_CONFIG, (const char *)text.p);
    } else if (!apply->next || wrong) {
        fail(apply, ERR_CONFIG, wrong ? wrong->text : "the main configuration file cannot be used");
    }
    if (apply->has_failed) {
        finish(apply);
        return;
    }
    apply->plan = plan_new(apply->running, apply->next, is_live, apply);
    if (apply->change->kind == PREVIEW) {
        finish(apply);
        return;
    }
    keep_good_files(apply->next, apply->running);
    if (apply->change->kind == FROM_TEXTS) {
        log_warnings_of_texts(apply);
        stage_begin(apply);
        return;
    }
    log_items(apply);
    general_begin(apply);
}

static bool has_text(const struct conf_text *texts, size_t n, const char *path)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(texts[i].path, path) == 0)
            return true;
    return false;
}

static size_t add_running(struct conf_text *texts, size_t n, const struct conf *conf)
{
    const char *path = conf ? json_file_name(conf_source(conf)) : "";

    if (!str_ends(str_from(path), STR(".json")) || has_text(texts, n, path))
        return n;
    texts[n] = (struct conf_text){.path = path, .text = json_file_text(conf_source(conf))};
    return n + 1;
}

/* What is given, and of all other files what runs: an edit that is refused, or not looked at yet, is no part of the change. */
static void load_given(struct apply *apply)
{
    const struct gateway_conf *running = apply->running;
    const struct change *change = apply->change;
    struct conf_text *texts = mem_zero((change->n_texts + running->n_connectors + 4) * sizeof *texts);
    size_t n = change->n_texts;

    memcpy(texts, change->texts, n * sizeof *texts);
    n = add_running(texts, n, running->main_file);
    n = add_running(texts, n, running->logs_file);
    n = add_running(texts, n, running->filter_file);
    n = add_running(texts, n, running->commands_file);
    for (size_t i = 0; i < running->n_connectors; i++)
        n = add_running(texts, n, running->connectors[i].conf);
    apply->next = gateway_conf_load_again(running, texts, n, apply->conf.types, &apply->problems);
    mem_free(texts);
}

static void load(void *arg)
{
    struct apply *apply = arg;

    if (apply->change->kind == FROM_TEXTS)
        load_given(apply);
    else
        apply->next = gateway_conf_load_again(apply->running, NULL, 0, apply->conf.types, &apply->problems);
}

static void begin_next(void *arg)
{
    struct apply *apply = arg;
    struct list *first = list_first(&apply->waiting);

    if (!first || apply->change || apply->is_ended)
        return;
    list_del(first);
    apply->change = CONTAINER_OF(first, struct change, node);
    apply->phase = LOADING;
    apply->has_failed = apply->is_main_taken = false;
    apply->result = (struct apply_result){0};
    apply->i_owner = 0;
    problems_init(&apply->problems);
    work_start(&apply->work, apply->conf.main->loop, load, loaded, apply);
}

/* --- what is asked ------------------------------------------------------------------------------------------------------ */

static void add_asker(struct change *change, apply_done_fn *done, void *arg)
{
    change->askers = mem_grow(change->askers, (change->n_askers + 1) * sizeof *change->askers);
    change->askers[change->n_askers++] = (struct asker){done, arg};
}

static void ask(struct apply *apply, struct change *change, apply_done_fn *done, void *arg)
{
    loop_assert(apply->conf.main->loop);
    add_asker(change, done, arg);
    list_add_tail(&apply->waiting, &change->node);
    if (!apply->begin.is_posted)
        runner_call(apply->conf.main, &apply->begin);
}

static void ask_files(struct apply *apply, enum change_kind kind, apply_done_fn *done, void *arg)
{
    struct change *change;

    LIST_EACH(node, &apply->waiting) {
        change = CONTAINER_OF(node, struct change, node);
        if (change->kind == kind) {
            add_asker(change, done, arg);
            return;
        }
    }
    change = mem_zero(sizeof *change);
    change->kind = kind;
    ask(apply, change, done, arg);
}

void apply_reload(struct apply *apply, apply_done_fn *done, void *arg)
{
    ask_files(apply, FROM_FILES, done, arg);
}

void apply_preview(struct apply *apply, apply_done_fn *done, void *arg)
{
    ask_files(apply, PREVIEW, done, arg);
}

static bool covers(const struct conf_text *texts, size_t n, const struct change *change)
{
    size_t n_covered = 0;

    for (size_t i = 0; i < change->n_texts; i++)
        for (size_t k = 0; k < n; k++)
            n_covered += strcmp(change->texts[i].path, texts[k].path) == 0;
    return change->kind == FROM_TEXTS && n_covered == change->n_texts;
}

void apply_change(struct apply *apply, const struct conf_text *texts, size_t n, apply_done_fn *done, void *arg)
{
    struct change *change = mem_zero(sizeof *change);

    LIST_EACH_SAFE(node, &apply->waiting) {
        struct change *older = CONTAINER_OF(node, struct change, node);

        if (covers(texts, n, older))
            cancel(older, "a newer change takes its place");
    }
    change->kind = FROM_TEXTS;
    change->texts = mem_zero((n + 1) * sizeof *change->texts);
    change->n_texts = n;
    for (size_t i = 0; i < n; i++) {
        struct str text = texts[i].text;
        char *copy = text.p ? mem_new(text.n + 1) : NULL;

        if (copy)
            memcpy(copy, text.p, text.n);
        change->texts[i] = (struct conf_text){.path = mem_dup(texts[i].path), .text = str_of(copy, text.n)};
    }
    ask(apply, change, done, arg);
}

/* --- making and freeing ------------------------------------------------------------------------------------------------- */

struct apply *apply_new(const struct apply_conf *conf)
{
    struct apply *apply = mem_zero(sizeof *apply);

    apply->conf = *conf;
    apply->first = apply->running = conf->running;
    apply->step.apply = apply;
    apply->begin = (struct call){.fn = begin_next, .arg = apply};
    list_init(&apply->waiting);
    if (conf->known)
        remember(apply, conf->known);
    return apply;
}

void apply_add_owner(struct apply *apply, const struct apply_owner *owner)
{
    assert(apply->phase == IDLE);
    apply->owners = mem_grow(apply->owners, (apply->n_owners + 1) * sizeof *apply->owners);
    apply->owners[apply->n_owners++] = (struct owner){.owner = *owner};
}

void apply_on_change(struct apply *apply, apply_changed_fn *changed, void *arg)
{
    apply->changed = changed;
    apply->changed_arg = arg;
}

void apply_end(struct apply *apply)
{
    apply->is_ended = true;
    LIST_EACH_SAFE(node, &apply->waiting)
        cancel(CONTAINER_OF(node, struct change, node), "the gateway stops");
}

void apply_free(struct apply *apply)
{
    if (!apply)
        return;
    if (apply->running != apply->first)
        gateway_conf_free(apply->running);
    gateway_conf_free(apply->first);
    mem_free(apply->owners);
    mem_free(apply->seen);
    mem_free(apply);
}

const struct gateway_conf *apply_running(const struct apply *apply)
{
    return apply->running;
}

bool apply_is_busy(const struct apply *apply)
{
    return apply->change != NULL;
}
