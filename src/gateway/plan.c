/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/plan.h"

#include "base/mem.h"
#include "gateway/remote_form.h"

#include <stdio.h>

enum { PATHS_SHOWN = 4 };

struct making {
    struct plan *plan;
    size_t cap;
    plan_live_fn *is_live;
    void *arg;
    const char *file; /* being compared */
};

static struct plan_item *add(struct making *making, enum plan_kind kind, const char *name)
{
    struct plan *plan = making->plan;

    if (plan->n == making->cap) {
        making->cap = making->cap ? making->cap * 2 : 16;
        plan->items = mem_grow(plan->items, making->cap * sizeof *plan->items);
    }
    plan->items[plan->n] =
        (struct plan_item){.kind = kind, .name = arena_text(&plan->arena, str_from(name)), .paths = ""};
    return &plan->items[plan->n++];
}

/* --- general files ---------------------------------------------------------------------------------------------------- */

static void add_general(void *arg, const char *path, bool live)
{
    struct making *making = arg;
    struct str whole = str_from(path);
    struct plan_item *item;

    (void)live;
    if (str_starts(whole, STR("connectors")) && (whole.n == 10 || path[10] == '[' || path[10] == '.'))
        return; /* these are compared one by one */
    item = add(making, PLAN_GENERAL, making->file);
    item->paths = arena_text(&making->plan->arena, whole);
    item->n_paths = 1;
    item->is_live = making->is_live && making->is_live(making->arg, making->file, path);
}

static void refuse_general(struct making *making, unsigned n_errors)
{
    struct plan_item *item = add(making, PLAN_GENERAL_REFUSED, making->file);

    item->error = arena_printf(&making->plan->arena, "%u error%s", n_errors, n_errors == 1 ? "" : "s").p;
}

static void compare_file(struct making *making, const char *file, const struct conf *before, const struct conf *after,
                         unsigned n_errors)
{
    making->file = file;
    if (n_errors) {
        if (!before || !after || conf_diff(before, after, NULL, NULL))
            refuse_general(making, n_errors);
    } else if (before && after) {
        conf_diff(before, after, add_general, making);
    } else if (before || after) {
        add_general(making, "", false);
    }
}

static bool is_same_but_connectors(const struct gateway_conf *before, const struct gateway_conf *after)
{
    autoform struct form a = form_copy(json_file_root(conf_source(before->main_file)));
    autoform struct form b = form_copy(json_file_root(conf_source(after->main_file)));

    if (!a.root || !b.root)
        return false;
    yyjson_mut_obj_remove_key(a.root, "connectors");
    yyjson_mut_obj_remove_key(b.root, "connectors");
    return form_equal(a.root, b.root);
}

/* What was wrong before, and is as it was, stands in nobody's way. */
static unsigned new_errors_of_main(const struct gateway_conf *before, const struct gateway_conf *after)
{
    return after->n_errors.main && !is_same_but_connectors(before, after) ? after->n_errors.main : 0;
}

static void compare_general(struct making *making, const struct gateway_conf *before, const struct gateway_conf *after)
{
    unsigned n_errors = new_errors_of_main(before, after);

    making->plan->is_main_refused = n_errors > 0;
    compare_file(making, "tb_gateway.json", before->main_file, after->main_file, n_errors);
    compare_file(making, "logs.json", before->logs_file, after->logs_file, after->n_errors.logs);
    compare_file(making, "list.json", before->filter_file, after->filter_file, after->n_errors.filter);
    compare_file(making, "statistics.json", before->commands_file, after->commands_file, after->n_errors.commands);
}

/* --- connectors ----------------------------------------------------------------------------------------------------------- */

static const struct gateway_connector *by_name(const struct gateway_conf *conf, const char *name)
{
    for (size_t i = 0; i < conf->n_connectors; i++)
        if (strcmp(conf->connectors[i].name, name) == 0)
            return &conf->connectors[i];
    return NULL;
}

static struct str id_of(const struct gateway_connector *connector)
{
    return connector_common_of(connector->conf)->id;
}

/* The same one: by its name, or one whose name is no more there, by its id. */
static const struct gateway_connector *former_of(const struct gateway_conf *before, const struct gateway_conf *after,
                                                 const struct gateway_connector *connector)
{
    const struct gateway_connector *same = by_name(before, connector->name);
    struct str id = id_of(connector);

    for (size_t i = 0; i < before->n_connectors && !same && id.n; i++)
        if (str_eq(id_of(&before->connectors[i]), id) && !by_name(after, before->connectors[i].name))
            same = &before->connectors[i];
    return same;
}

struct changes {
    struct buf paths;
    unsigned n;
    bool is_live, concerns_connector;
};

static bool is_gateways_own(const char *path)
{
    static const char *const own[] = {"logLevel", "enableRemoteLogging", "configVersion", "id", "name"};

    for (size_t i = 0; i < COUNT_OF(own); i++)
        if (strcmp(path, own[i]) == 0)
            return true;
    return false;
}

static void note_change(void *arg, const char *path, bool live)
{
    struct changes *changes = arg;

    if (changes->n < PATHS_SHOWN)
        buf_printf(&changes->paths, "%s%s", changes->n ? ", " : "", path);
    changes->n++;
    if (!is_gateways_own(path)) {
        changes->concerns_connector = true;
        changes->is_live &= live;
    }
}

static void compare_entries(struct changes *changes, const struct gateway_connector *before,
                            const struct gateway_connector *after)
{
    if (strcmp(before->type, after->type) != 0)
        note_change(changes, "type", false);
    if (!str_eq(before->entry->class_name, after->entry->class_name))
        note_change(changes, "class", false);
    if (!str_eq(before->entry->key.value, after->entry->key.value))
        note_change(changes, "key", false);
}

static void take_changes(struct making *making, struct plan_item *item, struct changes *changes)
{
    if (changes->n > PATHS_SHOWN)
        buf_printf(&changes->paths, " and %u more", changes->n - PATHS_SHOWN);
    item->paths = arena_text(&making->plan->arena, buf_str(&changes->paths));
    item->n_paths = changes->n;
}

static void compare_connector(struct making *making, const struct gateway_connector *before,
                              const struct gateway_connector *after)
{
    struct changes changes = {.is_live = true};
    bool is_renamed = strcmp(before->name, after->name) != 0, has_errors = !after->conf || after->n_errors;
    struct plan_item *item;

    if (!before->conf && !after->conf)
        return; /* as unusable as before */
    compare_entries(&changes, before, after);
    if (before->conf && after->conf && strcmp(before->type, after->type) == 0)
        conf_diff(before->conf, after->conf, note_change, &changes);
    if (after->conf && before->conf && !changes.n && !is_renamed) {
        buf_fini(&changes.paths);
        return;
    }
    if (has_errors && before->conf)
        item = add(making, PLAN_REFUSED, before->name);
    else if (!before->conf || is_renamed || !changes.is_live)
        item = add(making, PLAN_RESTART, before->name);
    else
        item = add(making, changes.concerns_connector ? PLAN_LIVE : PLAN_LIVE_BY_GATEWAY, before->name);
    item->before = before;
    item->after = after;
    item->new_name = is_renamed ? after->name : NULL;
    if (item->kind == PLAN_REFUSED)
        item->error = after->reason ? after->reason
                                    : arena_printf(&making->plan->arena, "%u error%s in its file", after->n_errors,
                                                   after->n_errors == 1 ? "" : "s")
                                          .p;
    take_changes(making, item, &changes);
    buf_fini(&changes.paths);
}

static bool is_kept(const struct gateway_conf *before, const struct gateway_conf *after,
                    const struct gateway_connector *connector)
{
    for (size_t i = 0; i < after->n_connectors; i++)
        if (former_of(before, after, &after->connectors[i]) == connector)
            return true;
    return false;
}

/* Entries that cannot be used are not in the configuration: the running connector that one may be stays. */
static bool is_entry_loaded(const struct gateway_conf *conf, size_t index)
{
    char path[40];

    snprintf(path, sizeof path, "connectors[%zu]", index);
    for (size_t i = 0; i < conf->n_connectors; i++)
        if (strcmp(conf->connectors[i].entry->at.path, path) == 0)
            return true;
    return false;
}

static bool is_in_broken_entry(const struct gateway_conf *after, const struct gateway_connector *connector)
{
    yyjson_val *list = json_get(json_file_root(conf_source(after->main_file)), STR("connectors")), *entry;
    size_t i, n;

    yyjson_arr_foreach(list, i, n, entry)
    {
        if (is_entry_loaded(after, i))
            continue;
        if (str_eq_z(json_str(json_get(entry, STR("name"))), connector->name) ||
            str_eq(json_str(json_get(entry, STR("configuration"))), connector->entry->configuration))
            return true;
    }
    return false;
}

static void compare_missing(struct making *making, const struct gateway_conf *after,
                            const struct gateway_connector *connector)
{
    bool is_broken = is_in_broken_entry(after, connector);
    struct plan_item *item = add(making, is_broken ? PLAN_REFUSED : PLAN_REMOVE, connector->name);

    item->before = connector;
    if (is_broken)
        item->error = "its entry in the main file has errors";
}

bool plan_is_old_problem(const struct gateway_conf *before, const struct gateway_conf *after,
                         const struct problem *problem)
{
    yyjson_val *list = json_get(json_file_root(conf_source(before->main_file)), STR("connectors")), *item, *entry;
    struct str path = str_from(problem->path ? problem->path : "");
    uint64_t index;
    size_t i, n;

    if (!problem->file || strcmp(problem->file, json_file_name(conf_source(after->main_file))) != 0)
        return false;
    if (!gateway_conf_is_of_entry(after, problem))
        return is_same_but_connectors(before, after);
    path = str_skip(path, 11); /* connectors[ */
    if (str_to_u64(str_cut(path, str_chr(path, ']')), &index))
        return false;
    entry = yyjson_arr_get(json_get(json_file_root(conf_source(after->main_file)), STR("connectors")), index);
    yyjson_arr_foreach(list, i, n, item) if (entry && json_equal(item, entry)) return true;
    return false;
}

struct plan *plan_new(const struct gateway_conf *before, const struct gateway_conf *after, plan_live_fn *is_live,
                      void *arg)
{
    struct plan *plan = mem_zero(sizeof *plan);
    struct making making = {.plan = plan, .is_live = is_live, .arg = arg};

    arena_init(&plan->arena, 1024);
    compare_general(&making, before, after);
    for (size_t i = 0; i < before->n_connectors && !plan->is_main_refused; i++)
        if (!is_kept(before, after, &before->connectors[i]))
            compare_missing(&making, after, &before->connectors[i]);
    for (size_t i = 0; i < after->n_connectors; i++) {
        const struct gateway_connector *connector = &after->connectors[i];
        const struct gateway_connector *former = former_of(before, after, connector);

        if (former && plan->is_main_refused && strcmp(former->name, connector->name) != 0)
            continue; /* a new name is the main file's */
        if (former)
            compare_connector(&making, former, connector);
        else if (!plan->is_main_refused)
            add(&making, PLAN_ADD, connector->name)->after = connector;
    }
    return plan;
}

void plan_free(struct plan *plan)
{
    if (!plan)
        return;
    arena_fini(&plan->arena);
    mem_free(plan->items);
    mem_free(plan);
}

/* --- shown ----------------------------------------------------------------------------------------------------------------- */

static const char *action_of(const struct plan_item *item)
{
    static const char *const names[] = {[PLAN_REMOVE] = "remove",
                                        [PLAN_ADD] = "add",
                                        [PLAN_RESTART] = "restart",
                                        [PLAN_LIVE] = "change while it runs",
                                        [PLAN_LIVE_BY_GATEWAY] = "change while it runs",
                                        [PLAN_REFUSED] = "leave as it is, its file has errors",
                                        [PLAN_GENERAL] = "change while the gateway runs",
                                        [PLAN_GENERAL_REFUSED] = "leave as it is, the file has errors"};

    if (item->kind == PLAN_GENERAL && !item->is_live)
        return "takes effect at the next start";
    if (item->kind == PLAN_RESTART && !item->before->conf)
        return "start";
    if (item->kind == PLAN_REFUSED && !item->after)
        return "leave as it is";
    return names[item->kind];
}

void plan_add_item_text(struct buf *out, const struct plan_item *item)
{
    buf_printf(out, "%s: %s", item->name, action_of(item));
    if (item->new_name)
        buf_printf(out, " as %s", item->new_name);
    if (item->n_paths && *item->paths)
        buf_printf(out, ": %s", item->paths);
    if (item->error)
        buf_printf(out, ": %s", item->error);
}

void plan_add_text(struct buf *out, const struct plan *plan)
{
    for (size_t i = 0; i < plan->n; i++) {
        plan_add_item_text(out, &plan->items[i]);
        buf_add_z(out, "\n");
    }
    if (!plan->n)
        buf_add_z(out, "nothing changes\n");
}

static void add_member(struct buf *out, const char *key, const char *text)
{
    buf_printf(out, ",\"%s\":", key);
    json_add_string(out, str_from(text));
}

void plan_add_json(struct buf *out, const struct plan *plan)
{
    static const char *const words[] = {"remove", "add", "restart", "live", "live", "refuse", "live", "refuse"};

    buf_add_z(out, "[");
    for (size_t i = 0; i < plan->n; i++) {
        const struct plan_item *item = &plan->items[i];
        bool is_general = item->kind == PLAN_GENERAL || item->kind == PLAN_GENERAL_REFUSED;

        buf_printf(out, "%s{\"action\":\"%s\"", i ? "," : "",
                   item->kind == PLAN_GENERAL && !item->is_live ? "next start" : words[item->kind]);
        add_member(out, is_general ? "file" : "connector", item->name);
        if (item->new_name)
            add_member(out, "newName", item->new_name);
        if (item->n_paths && *item->paths)
            add_member(out, "changed", item->paths);
        if (item->error)
            add_member(out, "error", item->error);
        buf_add_z(out, "}");
    }
    buf_add_z(out, "]");
}
