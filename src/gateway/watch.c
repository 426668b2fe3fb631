/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/watch.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"

enum { SETTLE_MS = 200, SETTLE_MOST_MS = 1000, FILE_LIMIT = 64 * 1024 * 1024 };

struct watched {
    char *path;
    uint64_t hash; /* 0: not there */
};

struct files {
    struct watched *items;
    size_t n;
};

struct watch {
    struct runner *main;
    struct apply *apply;
    struct log *log;
    char *dir;
    struct files files;
    struct files looking; /* the helper thread's while is_looking */
    struct work work;
    bool is_looking, look_again, has_looked, is_stopped;
    uv_fs_event_t event;
    bool has_event;
    struct timer settle, period;
    uint64_t first_ms; /* of the writes that settle; 0: none */
    uint32_t period_s;
};

static void look(void *arg);

/* --- which files ------------------------------------------------------------------------------------------------------- */

static void files_fini(struct files *files)
{
    for (size_t i = 0; i < files->n; i++)
        mem_free(files->items[i].path);
    mem_free(files->items);
    *files = (struct files){0};
}

static void add_path(struct files *files, struct str dir, struct str name)
{
    autobuf struct buf path = {0};

    if (!name.n)
        return;
    if (name.p[0] != '/')
        buf_add_str(&path, dir);
    buf_add_str(&path, name);
    buf_add_u8(&path, 0);
    files->items = mem_grow(files->items, (files->n + 2) * sizeof *files->items);
    files->items[files->n++] = (struct watched){.path = mem_dup((const char *)path.p)};
    if (str_ends(name, STR(".json"))) { /* the older form is read where this is not there */
        memcpy(path.p + path.n - 6, ".yaml", 5);
        files->items[files->n++] = (struct watched){.path = mem_dup((const char *)path.p)};
    }
}

static void list_files(struct files *files, const struct gateway_conf *conf)
{
    struct str dir = str_from(conf->dir);
    const struct platform_conf *platform = conf->main->platform;

    add_path(files, STR_NONE, str_from(conf->path));
    add_path(files, dir, STR("logs.json"));
    if (platform->filtering)
        add_path(files, dir, platform->filtering->file);
    if (platform->statistics)
        add_path(files, dir, platform->statistics->file);
    for (size_t i = 0; i < conf->n_connectors; i++)
        add_path(files, dir, conf->connectors[i].entry->configuration);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* A name that begins with two dots: how mounted configurations are exchanged as a whole. */
static bool is_watched(const struct watch *watch, const char *name)
{
    if (!name || (name[0] == '.' && name[1] == '.'))
        return true;
    for (size_t i = 0; i < watch->files.n; i++)
        if (strcmp(base_name(watch->files.items[i].path), name) == 0)
            return true;
    return false;
}

/* --- looking ------------------------------------------------------------------------------------------------------------- */

static void look_there(void *arg)
{
    struct watch *watch = arg;
    autobuf struct buf content = {0};

    for (size_t i = 0; i < watch->looking.n; i++) {
        struct watched *file = &watch->looking.items[i];

        content.n = 0;
        if (file_read(&content, file->path, FILE_LIMIT, NULL) == ERR_OK)
            file->hash = hash_bytes(content.p, content.n) | 1;
    }
}

static bool differ(const struct files *before, const struct files *now)
{
    if (before->n != now->n)
        return true;
    for (size_t i = 0; i < now->n; i++)
        if (before->items[i].hash != now->items[i].hash || strcmp(before->items[i].path, now->items[i].path) != 0)
            return true;
    return false;
}

static void reloaded(void *arg, const struct apply_result *result)
{
    struct watch *watch = arg;

    (void)result; /* what it says is in the log */
    if (!watch->is_stopped)
        look(watch); /* other files may be named now */
}

static bool has_other_content(const struct files *now, const struct conf *conf)
{
    const struct json_file *source = conf ? conf_source(conf) : NULL;
    struct str text = source ? json_file_text(source) : STR_NONE;

    for (size_t i = 0; i < now->n && source; i++)
        if (strcmp(now->items[i].path, json_file_name(source)) == 0)
            return now->items[i].hash != (hash_bytes(text.p, text.n) | 1);
    return false;
}

/* At the first look: what runs was read a while ago. */
static bool differ_from_what_runs(const struct files *now, const struct gateway_conf *conf)
{
    bool is_other = has_other_content(now, conf->main_file) || has_other_content(now, conf->logs_file) ||
                    has_other_content(now, conf->filter_file) || has_other_content(now, conf->commands_file);

    for (size_t i = 0; i < conf->n_connectors && !is_other; i++)
        is_other = has_other_content(now, conf->connectors[i].conf);
    return is_other;
}

static void looked(void *arg)
{
    struct watch *watch = arg;
    bool is_changed = watch->has_looked ? differ(&watch->files, &watch->looking)
                                        : differ_from_what_runs(&watch->looking, apply_running(watch->apply));

    files_fini(&watch->files);
    watch->files = watch->looking;
    watch->looking = (struct files){0};
    watch->is_looking = false;
    watch->has_looked = true;
    if (watch->is_stopped)
        return;
    if (is_changed) {
        LOG_INFO(watch->log, "the configuration's files have changed");
        apply_reload(watch->apply, reloaded, watch);
    }
    if (watch->look_again)
        look(watch);
}

static void look(void *arg)
{
    struct watch *watch = arg;

    watch->first_ms = 0;
    watch->look_again = watch->is_looking;
    if (watch->is_looking)
        return;
    watch->is_looking = true;
    list_files(&watch->looking, apply_running(watch->apply));
    work_start(&watch->work, watch->main->loop, look_there, looked, watch);
}

/* --- being told ------------------------------------------------------------------------------------------------------------ */

static void something_happened(uv_fs_event_t *event, const char *name, int events, int status)
{
    struct watch *watch = event->data;
    uint64_t now_ms = loop_mono_ms(watch->main->loop), left_ms;

    (void)events;
    if (status == 0 && !is_watched(watch, name))
        return;
    if (!watch->first_ms)
        watch->first_ms = now_ms;
    left_ms = watch->first_ms + SETTLE_MOST_MS > now_ms ? watch->first_ms + SETTLE_MOST_MS - now_ms : 0;
    timer_start(&watch->settle, left_ms < SETTLE_MS ? left_ms : SETTLE_MS);
}

static void start_events(struct watch *watch)
{
    int code;

    if (uv_fs_event_init(loop_uv(watch->main->loop), &watch->event) != 0)
        return;
    watch->has_event = true;
    watch->event.data = watch;
    code = uv_fs_event_start(&watch->event, something_happened, watch->dir, 0);
    if (code)
        LOG_WARN(watch->log, "changes of the configuration's files are only seen by looking every few seconds",
                 KV_UINT("seconds", watch->period_s), KV_ERR(err_from_uv(code)));
}

static void start_period(struct watch *watch, const struct gateway_conf *conf)
{
    watch->period_s = conf->main->platform->check_files_period_s;
    if (watch->period_s)
        timer_start_periodic(&watch->period, (uint64_t)watch->period_s * 1000, (uint64_t)watch->period_s * 1000);
    else
        timer_stop(&watch->period);
}

static enum err take_period(void *arg, const struct gateway_conf *before, const struct gateway_conf *after,
                            struct apply_step *step, struct why *why)
{
    (void)before;
    (void)step;
    (void)why;
    start_period(arg, after);
    return ERR_OK;
}

struct watch *watch_new(struct runner *main, struct apply *apply, struct log *log)
{
    static const char *const keys[] = {"thingsboard.checkConnectorsConfigurationInSeconds", NULL};
    struct watch *watch = mem_zero(sizeof *watch);

    watch->main = main;
    watch->apply = apply;
    watch->log = log;
    watch->dir = mem_dup(apply_running(apply)->dir);
    timer_init(&watch->settle, main->loop, look, watch);
    timer_init(&watch->period, main->loop, look, watch);
    start_period(watch, apply_running(apply));
    apply_add_owner(apply, &(struct apply_owner){.keys = keys, .take = take_period, .arg = watch});
    start_events(watch);
    look(watch);
    return watch;
}

void watch_stop(struct watch *watch)
{
    if (!watch || watch->is_stopped)
        return;
    watch->is_stopped = true;
    timer_stop(&watch->settle);
    timer_stop(&watch->period);
    if (watch->has_event)
        uv_close((uv_handle_t *)&watch->event, NULL);
}

void watch_free(struct watch *watch)
{
    if (!watch)
        return;
    files_fini(&watch->files);
    files_fini(&watch->looking);
    mem_free(watch->dir);
    mem_free(watch);
}
