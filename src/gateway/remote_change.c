/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/remote_change.h"

#include "base/file.h"
#include "base/uuid.h"
#include "gateway/backup.h"

#include <stdio.h>
#include <sys/stat.h>

enum { FILE_LIMIT = 64 * 1024 * 1024, NAME_MAX_BYTES = 255 };

const char *const remote_names[] = {
    [REMOTE_GENERAL] = "general_configuration", [REMOTE_STORAGE] = "storage_configuration",
    [REMOTE_GRPC] = "grpc_configuration",       [REMOTE_LOGS] = "logs_configuration",
    [REMOTE_ACTIVE] = "active_connectors",
};

/* --- what lies on the disk --------------------------------------------------------------------------------------------------- */

static const char *beside(struct arena *arena, const struct gateway_conf *conf, struct str name)
{
    bool is_absolute = name.n && name.p[0] == '/';

    return arena_printf(arena, "%s" STR_FMT, is_absolute ? "" : conf->dir, STR_ARG(name)).p;
}

static struct str commands_name(const struct gateway_conf *conf)
{
    const struct statistics_conf *statistics = conf->main->platform->statistics;

    return statistics && statistics->file.n ? statistics->file : STR("statistics.json");
}

/* The certificates in use, and the two names that those of the platform may get: a new one never replaces what is in use. */
enum { COMMANDS, CA_IN_USE, CA_FIRST, CA_SECOND, LOGS, FIXED_FILES };
static const char *const ca_names[] = {"ca.pem", "ca_2.pem"};

void remote_files_init(struct remote_files *files, const struct gateway_conf *running)
{
    const char *in_use = running->main->platform->security->ca_cert_path;

    *files = (struct remote_files){0};
    arena_init(&files->arena, 1024);
    files->items = arena_zero(&files->arena, (FIXED_FILES + running->n_connectors) * sizeof *files->items);
    files->items[COMMANDS].path = beside(&files->arena, running, commands_name(running));
    files->items[CA_IN_USE].path = arena_text(&files->arena, str_from(in_use ? in_use : ""));
    files->items[CA_FIRST].path = beside(&files->arena, running, str_from(ca_names[0]));
    files->items[CA_SECOND].path = beside(&files->arena, running, str_from(ca_names[1]));
    files->items[LOGS].path = beside(&files->arena, running, STR("logs.json"));
    files->n = FIXED_FILES;
    for (size_t i = 0; i < running->n_connectors; i++)
        if (running->connectors[i].path)
            files->items[files->n++].path = arena_text(&files->arena, str_from(running->connectors[i].path));
}

void remote_files_look(struct remote_files *files)
{
    for (size_t i = 0; i < files->n; i++) {
        struct remote_file *file = &files->items[i];
        struct stat st;

        file->is_there = stat(file->path, &st) == 0;
        if (!file->is_there)
            continue;
        file->mtime_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
        if (i < LOGS && file_read(&file->text, file->path, FILE_LIMIT, NULL))
            file->text.n = 0;
    }
}

void remote_files_fini(struct remote_files *files)
{
    for (size_t i = 0; i < files->n; i++)
        buf_fini(&files->items[i].text);
    arena_fini(&files->arena);
    *files = (struct remote_files){0};
}

const struct remote_file *remote_file_of(const struct remote_files *files, const char *path)
{
    for (size_t i = 0; i < files->n; i++)
        if (strcmp(files->items[i].path, path) == 0)
            return &files->items[i];
    return NULL;
}

struct str remote_commands(const struct remote_files *files, const struct gateway_conf *running)
{
    if (running->commands_file)
        return json_file_text(conf_source(running->commands_file));
    return buf_str(&files->items[COMMANDS].text);
}

/* --- a change ------------------------------------------------------------------------------------------------------------------ */

static void add_text(struct remote_change *change, const char *path, struct str text)
{
    change->texts[change->n++] = (struct conf_text){.path = arena_text(&change->arena, str_from(path)),
                                                    .text = text.p ? arena_str(&change->arena, text) : STR_NONE};
}

static void add_backup(struct remote_change *change, const char *path)
{
    change->backups[change->n_backups++] = arena_text(&change->arena, str_from(path));
}

static NODISCARD enum err wrong(struct remote_change *change, struct why *why, const char *path, const char *text)
{
    snprintf(change->path, sizeof change->path, "%s", path);
    return why_set(why, ERR_CONFIG, "%s", text);
}

static yyjson_val *main_root(const struct gateway_conf *running)
{
    return json_file_root(conf_source(running->main_file));
}

static struct str main_text(const struct gateway_conf *running)
{
    return json_file_text(conf_source(running->main_file));
}

static int64_t time_of(yyjson_val *value)
{
    int64_t ts_ms;

    return json_to_i64(json_get(value, STR("ts")), &ts_ms) == ERR_OK ? ts_ms : 0;
}

static bool is_older(const struct remote_files *files, const char *path, yyjson_val *value, bool is_pushed)
{
    const struct remote_file *file = remote_file_of(files, path);

    return !is_pushed && file && file->is_there && time_of(value) <= file->mtime_ms;
}

static NODISCARD enum err unmask(struct remote_change *change, struct form *in, yyjson_mut_val *known, struct why *why)
{
    autobuf struct buf path = {0};

    if (form_unmask(in, known, &path))
        return ERR_OK;
    buf_add_u8(&path, 0);
    return wrong(change, why, (const char *)path.p,
                 "found \"***\", but there is no value so far that it could stand for");
}

/* The main file with a member of another value. */
static NODISCARD enum err set_main(struct remote_change *change, const struct gateway_conf *running, const char *key,
                                   yyjson_mut_val *value, struct why *why)
{
    autobuf struct buf json = {0}, text = {0};
    enum err err;

    form_text(&json, value);
    err = edit_member(&text, main_text(running), str_from(key), buf_str(&json), why);
    if (!err) {
        add_text(change, running->path, buf_str(&text));
        add_backup(change, running->path);
    }
    return err;
}

static void keep_time(struct form *form, yyjson_val *value)
{
    yyjson_val *ts = json_get(value, STR("ts"));
    yyjson_mut_val *copy = ts ? yyjson_val_mut_copy(form->doc, ts) : NULL;

    if (copy)
        form_set(form, form->root, "ts", copy);
}

/* --- general ------------------------------------------------------------------------------------------------------------------ */

/* What another way to log in would use is not saved (remote-config.md 3.2). */
static void strip_security(yyjson_mut_val *root)
{
    static const char *const of_user[] = {"clientId", "username", "password"};
    yyjson_mut_val *security = yyjson_mut_obj_get(root, "security"), *type = yyjson_mut_obj_get(security, "type");

    if (!yyjson_mut_is_str(type))
        return;
    for (size_t i = 0; i < COUNT_OF(of_user) && yyjson_mut_equals_str(type, "accessToken"); i++)
        yyjson_mut_obj_remove_key(security, of_user[i]);
    if (yyjson_mut_equals_str(type, "usernamePassword"))
        yyjson_mut_obj_remove_key(security, "accessToken");
}

/* caCert may be the certificate itself: then it goes to a file, other than the one in use. */
static void take_pem(struct remote_change *change, struct form *in, const struct gateway_conf *running,
                     const struct remote_files *files)
{
    yyjson_mut_val *security = yyjson_mut_obj_get(in->root, "security"), *ca = yyjson_mut_obj_get(security, "caCert");
    struct str pem = yyjson_mut_is_str(ca) ? str_of(yyjson_mut_get_str(ca), yyjson_mut_get_len(ca)) : STR_NONE;
    const struct remote_file *in_use = &files->items[CA_IN_USE];
    bool is_second = strcmp(files->items[CA_FIRST].path, in_use->path) == 0;
    const struct remote_file *file = &files->items[is_second ? CA_SECOND : CA_FIRST];

    if (!str_starts(str_trim(pem), STR("-----BEGIN")))
        return;
    if (in_use->is_there && str_eq(buf_str(&in_use->text), pem)) {
        struct str name = running->main->platform->security->ca_cert;

        form_set(in, security, "caCert", form_take_str(in, name));
        return;
    }
    change->pem_path = arena_text(&change->arena, str_from(file->path));
    change->pem = arena_str(&change->arena, pem);
    change->former_pem = file->is_there ? arena_str(&change->arena, buf_str(&file->text)) : STR_NONE;
    form_set(in, security, "caCert", yyjson_mut_str(in->doc, ca_names[is_second]));
}

/* Members that are given replace those there are. */
static void merge(struct form *form, yyjson_mut_val *in)
{
    yyjson_mut_val *key, *member;
    size_t i, n;

    yyjson_mut_obj_foreach(in, i, n, key, member)
    {
        yyjson_mut_val *copy = yyjson_mut_val_mut_copy(form->doc, member);

        if (copy)
            form_set(form, form->root, yyjson_mut_get_str(key), copy);
    }
    if (yyjson_mut_obj_get(in, "security") && !yyjson_mut_obj_get(in, "provisioning"))
        yyjson_mut_obj_remove_key(form->root, "provisioning");
    else if (yyjson_mut_obj_get(in, "provisioning") && !yyjson_mut_obj_get(in, "security"))
        yyjson_mut_obj_remove_key(form->root, "security");
    strip_security(form->root);
}

static bool is_connectors_file(const struct gateway_conf *conf, const char *path)
{
    for (size_t i = 0; i < conf->n_connectors; i++)
        if (conf->connectors[i].path && strcmp(conf->connectors[i].path, path) == 0)
            return true;
    return false;
}

/* Commands go from the section to their file. */
static NODISCARD enum err move_commands(struct remote_change *change, struct form *form, bool has_commands,
                                        const struct gateway_conf *running, const struct remote_files *files,
                                        struct why *why)
{
    yyjson_mut_val *statistics = yyjson_mut_obj_get(form->root, "statistics"), *file, *commands;
    const struct remote_file *known;
    struct str name;
    autobuf struct buf text = {0};
    const char *path;

    if (!yyjson_mut_is_obj(statistics))
        return ERR_OK;
    commands = yyjson_mut_obj_remove_key(statistics, "commands");
    file = yyjson_mut_obj_get(statistics, "configuration");
    name = yyjson_mut_is_str(file) ? str_of(yyjson_mut_get_str(file), yyjson_mut_get_len(file)) : STR_NONE;
    if (!name.n) {
        name = commands_name(running);
        if (has_commands)
            form_set(form, statistics, "configuration", form_take_str(form, name));
    }
    path = beside(&change->arena, running, name);
    if (!str_eq(name, STR("statistics.json")) && !str_eq(name, commands_name(running)) &&
        (!backup_is_free_name(running, name) || is_connectors_file(running, path)))
        return wrong(change, why, "statistics.configuration",
                     "expected the plain name of a .json file that nothing else uses");
    known = remote_file_of(files, path);
    if (!has_commands) {
        if (file && known && !known->is_there) /* the section names it */
            add_text(change, path, STR("[]\n"));
        return ERR_OK;
    }
    if (!yyjson_mut_is_arr(commands))
        return wrong(change, why, "statistics.commands", "expected a list");
    form_pretty(&text, commands);
    if (!known || !str_eq(buf_str(&known->text), buf_str(&text)))
        add_text(change, path, buf_str(&text));
    return ERR_OK;
}

/* The filter's file may be its own, list.json, or another one that nothing else uses. */
static NODISCARD enum err check_filter(struct remote_change *change, yyjson_mut_val *root,
                                       const struct gateway_conf *running, struct why *why)
{
    const struct filtering_conf *filtering = running->main->platform->filtering;
    yyjson_mut_val *file = yyjson_mut_obj_get(yyjson_mut_obj_get(root, "deviceFiltering"), "filterFile");
    struct str name = yyjson_mut_is_str(file) ? str_of(yyjson_mut_get_str(file), yyjson_mut_get_len(file)) : STR_NONE;
    const char *path = beside(&change->arena, running, name);

    if (!name.n || str_eq(name, STR("list.json")) || (filtering && str_eq(name, filtering->file)) ||
        (backup_is_free_name(running, name) && !is_connectors_file(running, path)))
        return ERR_OK;
    return wrong(change, why, "deviceFiltering.filterFile",
                 "expected the plain name of a .json file that nothing else uses");
}

static void keep_statistics(struct form *form, yyjson_val *section)
{
    yyjson_val *statistics = json_get(section, STR("statistics"));

    if (statistics)
        form_set(form, form->root, "statistics", yyjson_val_mut_copy(form->doc, statistics));
}

static NODISCARD enum err make_general(struct remote_change *change, const struct gateway_conf *running,
                                       const struct remote_files *files, yyjson_val *value, struct why *why)
{
    const char *name;
    yyjson_val *section = form_platform_section(main_root(running), &name);
    struct str commands = remote_commands(files, running);
    autoform struct form now = form_general(section, commands), in = form_general(value, commands);
    autoform struct form next = form_general(section, commands);
    bool has_commands = json_get(json_get(value, STR("statistics")), STR("commands")) != NULL;
    enum err err;

    if (!yyjson_is_obj(value))
        return wrong(change, why, "", "expected an object");
    if (!now.root || !in.root || !next.root)
        return why_set(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    err = unmask(change, &in, now.root, why);
    if (err)
        return err;
    take_pem(change, &in, running, files);
    merge(&next, in.root);
    strip_security(now.root);
    if (form_equal(now.root, next.root) && !change->pem_path)
        return ERR_OK;
    if (form_equal(yyjson_mut_obj_get(now.root, "statistics"), yyjson_mut_obj_get(next.root, "statistics")))
        keep_statistics(&next, section); /* not in the remote form, where nothing of it changes */
    else
        err = move_commands(change, &next, has_commands, running, files, why);
    if (!err)
        err = check_filter(change, next.root, running, why);
    if (err)
        return err;
    keep_time(&next, value);
    return set_main(change, running, name, next.root, why);
}

/* --- whole sections --------------------------------------------------------------------------------------------------------- */

static NODISCARD enum err make_section(struct remote_change *change, const struct gateway_conf *running,
                                       const char *key, yyjson_val *value, struct why *why)
{
    yyjson_val *section = json_get(main_root(running), str_from(key));
    autoform struct form now = form_copy(section), in = form_copy(value);
    enum err err;

    if (!yyjson_is_obj(value))
        return wrong(change, why, "", "expected an object");
    if (!in.root)
        return why_set(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    err = unmask(change, &in, now.root, why);
    if (err)
        return err;
    yyjson_mut_obj_remove_key(in.root, "ts");
    if (now.root)
        yyjson_mut_obj_remove_key(now.root, "ts");
    if (now.root ? form_equal(now.root, in.root) : yyjson_mut_obj_size(in.root) == 0)
        return ERR_OK;
    keep_time(&in, value);
    return set_main(change, running, key, in.root, why);
}

/* --- logs --------------------------------------------------------------------------------------------------------------------- */

static struct str directory_of(struct str path)
{
    while (path.n && path.p[path.n - 1] != '/')
        path.n--;
    return path;
}

static bool is_inside(struct str path, struct str directory)
{
    struct str rest = path, part;

    while (str_split(&rest, '/', &part))
        if (str_eq(part, STR("..")))
            return false;
    if (path.n && path.p[path.n - 1] == '/')
        return false;
    return str_starts(path, directory) || str_starts(path, STR("./logs/")) || str_starts(path, STR("logs/")) ||
           str_chr(path, '/') == path.n;
}

/* The directory that handlers write to so far; "./logs/" if none does. */
static struct str log_directory(const struct gateway_conf *running)
{
    const struct conf_map *handlers = running->logs ? &running->logs->handlers : NULL;

    for (size_t i = 0; handlers && i < handlers->n; i++) {
        const struct handler_conf *handler = handlers->items[i].value;

        if (handler->filename.n && directory_of(handler->filename).n)
            return directory_of(handler->filename);
    }
    return STR("./logs/");
}

static void confine_handlers(struct remote_change *change, struct form *in, const struct gateway_conf *running)
{
    struct str directory = log_directory(running);
    yyjson_mut_val *handlers = yyjson_mut_obj_get(in->root, "handlers"), *key, *handler;
    size_t i, n;

    if (!yyjson_mut_is_obj(handlers))
        return;
    yyjson_mut_obj_foreach(handlers, i, n, key, handler)
    {
        yyjson_mut_val *file = yyjson_mut_is_obj(handler) ? yyjson_mut_obj_get(handler, "filename") : NULL;
        struct str path =
            yyjson_mut_is_str(file) ? str_of(yyjson_mut_get_str(file), yyjson_mut_get_len(file)) : STR_NONE;
        struct str name = str_skip(path, directory_of(path).n), inside;

        if (!path.n || is_inside(path, directory))
            continue;
        if (!name.n || str_eq(name, STR("..")) || str_eq(name, STR(".")))
            name = STR("gateway.log");
        inside = arena_printf(&change->arena, STR_FMT STR_FMT, STR_ARG(directory), STR_ARG(name));
        form_set(in, handler, "filename", form_take_str(in, inside));
        change->warning =
            arena_printf(&change->arena, "log file " STR_FMT " is outside of the log directory, " STR_FMT " is used",
                         STR_ARG(path), STR_ARG(inside))
                .p;
    }
}

static NODISCARD enum err make_logs(struct remote_change *change, const struct gateway_conf *running,
                                    const struct remote_files *files, yyjson_val *value, bool is_pushed,
                                    struct why *why)
{
    yyjson_val *root = running->logs_file ? json_file_root(conf_source(running->logs_file)) : NULL;
    autoform struct form now = form_copy(root), in = form_copy(value);
    autobuf struct buf text = {0};
    const char *path = files->items[LOGS].path;

    if (!yyjson_is_obj(value))
        return wrong(change, why, "", "expected an object");
    if (!in.root)
        return why_set(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    yyjson_mut_obj_remove_key(in.root, "ts");
    confine_handlers(change, &in, running);
    if (now.root)
        yyjson_mut_obj_remove_key(now.root, "ts");
    if (now.root ? form_equal(now.root, in.root) : yyjson_mut_obj_size(in.root) == 0)
        return ERR_OK;
    change->is_older = is_older(files, path, value, is_pushed);
    if (change->is_older)
        return ERR_OK;
    keep_time(&in, value);
    form_pretty(&text, in.root);
    add_backup(change, path);
    add_text(change, path, buf_str(&text));
    return ERR_OK;
}

/* --- active connectors ------------------------------------------------------------------------------------------------------ */

static bool is_listed(yyjson_val *list, const char *name)
{
    yyjson_val *item;
    size_t i, n;

    yyjson_arr_foreach(list, i, n, item) if (str_eq_z(json_str(item), name)) return true;
    return false;
}

static const struct gateway_connector *by_name(const struct gateway_conf *conf, struct str name)
{
    for (size_t i = 0; i < conf->n_connectors; i++)
        if (str_eq_z(name, conf->connectors[i].name))
            return &conf->connectors[i];
    return NULL;
}

static NODISCARD enum err remove_unlisted(struct remote_change *change, const struct gateway_conf *running,
                                          yyjson_val *list, struct why *why)
{
    autobuf struct buf text = {0};
    enum err err = ERR_OK;

    buf_add_str(&text, main_text(running));
    for (size_t i = 0; i < running->n_connectors && !err; i++) {
        const struct gateway_connector *connector = &running->connectors[i];
        autobuf struct buf next = {0};
        bool is_shared = false;

        if (is_listed(list, connector->name))
            continue;
        for (size_t k = 0; k < running->n_connectors && connector->path; k++)
            is_shared |= running->connectors[k].path && is_listed(list, running->connectors[k].name) &&
                         strcmp(running->connectors[k].path, connector->path) == 0;
        err = edit_connector(&next, buf_str(&text), str_from(connector->name), STR_NONE, why);
        text.n = 0;
        buf_add_str(&text, buf_str(&next));
        if (!connector->path || is_shared)
            continue;
        add_backup(change, connector->path);
        add_text(change, connector->path, STR_NONE);
    }
    if (!err && !str_eq(buf_str(&text), main_text(running))) {
        add_backup(change, running->path);
        add_text(change, running->path, buf_str(&text));
    }
    return err;
}

static NODISCARD enum err make_active(struct remote_change *change, const struct gateway_conf *running,
                                      yyjson_val *value, struct why *why)
{
    yyjson_val *item;
    size_t i, n;

    if (!yyjson_is_arr(value))
        return wrong(change, why, "", "expected a list of connectors' names");
    change->unknown = arena_alloc(&change->arena, (yyjson_arr_size(value) + 1) * sizeof *change->unknown);
    yyjson_arr_foreach(value, i, n, item)
    {
        if (!yyjson_is_str(item) || yyjson_get_len(item) > NAME_MAX_BYTES) {
            snprintf(change->path, sizeof change->path, "[%zu]", i);
            return why_set(why, ERR_CONFIG, "expected a connector's name, of at most %d bytes", NAME_MAX_BYTES);
        }
        if (!by_name(running, json_str(item)))
            change->unknown[change->n_unknown++] = arena_str(&change->arena, json_str(item));
    }
    return remove_unlisted(change, running, value, why);
}

/* --- a connector -------------------------------------------------------------------------------------------------------------- */

struct incoming { /* of a connector */
    yyjson_val *value, *json;
    struct str name, type, id, configuration;
    const struct gateway_connector *known; /* NULL: a new one */
    const char *path;
    char new_id[UUID_SIZE];
};

static yyjson_val *given(yyjson_val *object, const char *key)
{
    yyjson_val *val = json_get(object, str_from(key));

    return yyjson_is_null(val) ? NULL : val;
}

static struct str id_of(const struct gateway_connector *connector)
{
    return connector_common_of(connector->conf)->id;
}

static const struct gateway_connector *find(const struct gateway_conf *running, const struct incoming *in)
{
    struct str ids[] = {json_str(given(in->json, "id")), json_str(given(in->value, "id"))};

    for (size_t k = 0; k < COUNT_OF(ids); k++)
        for (size_t i = 0; i < running->n_connectors && ids[k].n; i++)
            if (str_eq(id_of(&running->connectors[i]), ids[k]))
                return &running->connectors[i];
    return by_name(running, in->name);
}

static NODISCARD enum err check_texts(struct remote_change *change, const struct incoming *in, struct why *why)
{
    static const char *const texts[] = {"id", "logLevel", "configuration", "class", "key", "configVersion"};

    if (!yyjson_is_obj(in->value))
        return wrong(change, why, "", "expected an object");
    if (!in->name.n || in->name.n > NAME_MAX_BYTES)
        return wrong(change, why, "name", "missing; expected text of at most 255 bytes");
    for (size_t i = 0; i < COUNT_OF(remote_names); i++)
        if (str_eq_z(in->name, remote_names[i]))
            return wrong(change, why, "name", "is the name of another attribute");
    if (!in->type.n)
        return wrong(change, why, "type", "missing; expected text");
    if (!yyjson_is_obj(in->json))
        return wrong(change, why, "configurationJson", "missing; expected an object");
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (given(in->value, texts[i]) && !yyjson_is_str(given(in->value, texts[i])))
            return wrong(change, why, texts[i], "expected text");
    if (given(in->value, "enableRemoteLogging") && !yyjson_is_bool(given(in->value, "enableRemoteLogging")))
        return wrong(change, why, "enableRemoteLogging", "expected true or false");
    if (given(in->json, "id") && !yyjson_is_str(given(in->json, "id")))
        return wrong(change, why, "configurationJson.id", "expected text");
    return ERR_OK;
}

/* "Line 2" → "line_2.json"; what cannot stand in a file's name becomes "_". */
static struct str file_name_for(struct arena *arena, struct str name)
{
    struct str file = arena_printf(arena, STR_FMT ".json", STR_ARG(str_cut(name, 180)));
    char *p = (char *)(uintptr_t)file.p;

    for (size_t i = 0; i + 5 < file.n; i++) {
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] = (char)(p[i] - 'A' + 'a');
        if (p[i] == ' ' || p[i] == '/' || (unsigned char)p[i] < ' ' || (i == 0 && p[i] == '.'))
            p[i] = '_';
    }
    return file;
}

static bool is_taken(const struct gateway_conf *running, const struct gateway_connector *but, const char *path)
{
    for (size_t i = 0; i < running->n_connectors; i++)
        if (&running->connectors[i] != but && running->connectors[i].path &&
            strcmp(running->connectors[i].path, path) == 0)
            return true;
    return false;
}

static NODISCARD enum err find_file(struct remote_change *change, struct incoming *in,
                                    const struct gateway_conf *running, struct why *why)
{
    struct str asked = json_str(given(in->value, "configuration"));
    struct str present = in->known ? in->known->entry->configuration : STR_NONE;

    if (present.n && str_ends(present, STR(".json")) && (!asked.n || str_eq(asked, present))) {
        in->configuration = present;
        in->path = in->known->path ? in->known->path : beside(&change->arena, running, present);
        return ERR_OK;
    }
    in->configuration = asked.n ? asked : file_name_for(&change->arena, in->name);
    if (!asked.n && !backup_is_free_name(running, in->configuration))
        in->configuration = arena_printf(&change->arena, "connector_" STR_FMT, STR_ARG(in->configuration));
    in->path = beside(&change->arena, running, in->configuration);
    for (unsigned i = 2; !asked.n && is_taken(running, in->known, in->path) && i < 100; i++) {
        struct str stem = str_cut(in->configuration, in->configuration.n - 5);

        in->path = beside(&change->arena, running, arena_printf(&change->arena, STR_FMT "_%u.json", STR_ARG(stem), i));
        if (!is_taken(running, in->known, in->path))
            in->configuration = arena_printf(&change->arena, STR_FMT "_%u.json", STR_ARG(stem), i);
    }
    if (!backup_is_free_name(running, in->configuration))
        return wrong(change, why, "configuration",
                     "expected the plain name of a file, ending with .json, that is none of the gateway's own");
    if (is_taken(running, in->known, in->path))
        return wrong(change, why, "configuration", "is the file of another connector");
    return ERR_OK;
}

/* Of what is beside configurationJson; without it what is inside stays. */
static void put_in(struct form *file, const struct incoming *in, const char *key, yyjson_mut_val *otherwise)
{
    yyjson_val *val = given(in->value, key);

    if (val)
        form_set(file, file->root, key, yyjson_val_mut_copy(file->doc, val));
    else if (!given(in->json, key))
        form_set(file, file->root, key, otherwise);
}

static struct form make_file(const struct incoming *in)
{
    struct form file = form_copy(in->json);

    if (!file.root)
        return file;
    yyjson_mut_obj_remove_key(file.root, "ts");
    put_in(&file, in, "logLevel", yyjson_mut_str(file.doc, "INFO"));
    form_set(&file, file.root, "name", form_take_str(&file, in->name));
    put_in(&file, in, "enableRemoteLogging", yyjson_mut_bool(file.doc, false));
    form_set(&file, file.root, "id", form_take_str(&file, in->id));
    put_in(&file, in, "reportStrategy", NULL);
    put_in(&file, in, "configVersion", NULL);
    return file;
}

static struct form make_entry(const struct incoming *in)
{
    static const char *const optional[] = {"class", "key"};
    struct form entry = {.doc = yyjson_mut_doc_new(NULL)};

    entry.root = entry.doc ? yyjson_mut_obj(entry.doc) : NULL;
    if (!entry.root)
        return entry;
    form_set(&entry, entry.root, "type", form_take_str(&entry, in->type));
    form_set(&entry, entry.root, "name", form_take_str(&entry, in->name));
    form_set(&entry, entry.root, "configuration", form_take_str(&entry, in->configuration));
    for (size_t i = 0; i < COUNT_OF(optional); i++)
        if (given(in->value, optional[i]))
            form_set(&entry, entry.root, optional[i], yyjson_val_mut_copy(entry.doc, given(in->value, optional[i])));
    return entry;
}

static yyjson_val *entry_of(const struct gateway_conf *running, const char *name)
{
    yyjson_val *list = json_get(main_root(running), STR("connectors")), *entry;
    size_t i, n;

    yyjson_arr_foreach(list, i, n, entry) if (str_eq_z(json_str(json_get(entry, STR("name"))), name)) return entry;
    return NULL;
}

/* "***" is filled in from the running connector: inside of the file, and beside it. */
static NODISCARD enum err unmask_connector(struct remote_change *change, const struct gateway_conf *running,
                                           const struct incoming *in, struct form *file, struct form *entry,
                                           struct why *why)
{
    yyjson_val *source = in->known && in->known->conf ? json_file_root(conf_source(in->known->conf)) : NULL;
    yyjson_val *known_entry = in->known ? entry_of(running, in->known->name) : NULL;
    autoform struct form known = form_copy(source), known_of_entry = form_copy(known_entry);
    enum err err = unmask(change, file, known.root, why);
    char path[sizeof change->path];

    if (!err)
        return unmask(change, entry, known_of_entry.root, why);
    snprintf(path, sizeof path, "%s", change->path);
    snprintf(change->path, sizeof change->path, "configurationJson.%.*s", (int)sizeof path - 20, path);
    return err;
}

static bool is_same(const struct gateway_conf *running, const struct incoming *in, struct form *file,
                    struct form *entry)
{
    yyjson_doc *file_doc = yyjson_mut_val_imut_copy(file->root, NULL),
               *entry_doc = yyjson_mut_val_imut_copy(entry->root, NULL);
    yyjson_val *known_entry = entry_of(running, in->known->name), *key, *val;
    autoform struct form now =
        form_connector(json_file_root(conf_source(in->known->conf)), known_entry, id_of(in->known));
    autoform struct form next = form_connector(yyjson_doc_get_root(file_doc), yyjson_doc_get_root(entry_doc), in->id);
    static const char *const kept[] = {"class", "key"}; /* not given: as they are */
    bool is_equal;

    for (size_t i = 0; i < COUNT_OF(kept); i++) {
        key = json_get(yyjson_doc_get_root(entry_doc), str_from(kept[i]));
        val = json_get(known_entry, str_from(kept[i]));
        if (!key && val)
            form_set(&next, next.root, kept[i], yyjson_val_mut_copy(next.doc, val));
    }
    is_equal = now.root && next.root && form_equal(now.root, next.root);
    yyjson_doc_free(file_doc);
    yyjson_doc_free(entry_doc);
    return is_equal;
}

static NODISCARD enum err save_connector(struct remote_change *change, const struct gateway_conf *running,
                                         const struct incoming *in, struct form *file, struct form *entry,
                                         struct why *why)
{
    autobuf struct buf text = {0}, main = {0}, json = {0};
    struct str former = in->known ? str_from(in->known->name) : in->name;
    enum err err;

    form_pretty(&text, file->root);
    form_text(&json, entry->root);
    err = edit_connector(&main, main_text(running), former, buf_str(&json), why);
    if (err)
        return err;
    add_backup(change, in->path);
    add_text(change, in->path, buf_str(&text));
    if (in->known && in->known->path && strcmp(in->known->path, in->path) != 0) {
        add_backup(change, in->known->path);
        if (!is_taken(running, in->known, in->known->path))
            add_text(change, in->known->path, STR_NONE);
    }
    json.n = 0;
    if (!edit_connector(&json, main_text(running), former, STR("{}"), why) && str_eq(buf_str(&json), buf_str(&main)) &&
        in->known)
        return ERR_OK; /* the entry stays as it is */
    add_backup(change, running->path);
    add_text(change, running->path, buf_str(&main));
    return ERR_OK;
}

static NODISCARD enum err make_connector(struct remote_change *change, const struct gateway_conf *running,
                                         const struct remote_files *files, yyjson_val *value, bool is_pushed,
                                         struct why *why)
{
    struct incoming in = {.value = value,
                          .json = given(value, "configurationJson"),
                          .name = json_str(given(value, "name")),
                          .type = json_str(given(value, "type"))};
    autoform struct form file = {0}, entry = {0};
    enum err err = check_texts(change, &in, why);

    if (err)
        return err;
    in.known = find(running, &in);
    change->connector = arena_text(&change->arena, in.name);
    if (in.known && by_name(running, in.name) && by_name(running, in.name) != in.known)
        return wrong(change, why, "name", "is the name of another connector");
    if (in.known && str_eq_nocase(in.type, str_from(in.known->type)))
        in.type = json_str(json_get(entry_of(running, in.known->name), STR("type")));
    in.id = json_str(given(in.json, "id"));
    if (!in.id.n)
        in.id = json_str(given(value, "id"));
    if (!in.id.n && in.known)
        in.id = id_of(in.known);
    if (!in.id.n) {
        uuid_random(in.new_id);
        in.id = str_from(in.new_id);
    }
    err = find_file(change, &in, running, why);
    if (err)
        return err;
    file = make_file(&in);
    entry = make_entry(&in);
    if (!file.root || !entry.root)
        return why_set(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    err = unmask_connector(change, running, &in, &file, &entry, why);
    if (err)
        return err;
    if (in.known && in.known->conf && is_same(running, &in, &file, &entry))
        return ERR_OK;
    change->is_older = in.known && in.known->conf && is_older(files, in.known->path, value, is_pushed);
    if (change->is_older) {
        change->connector = arena_text(&change->arena, str_from(in.known->name));
        return ERR_OK;
    }
    return save_connector(change, running, &in, &file, &entry, why);
}

/* --- exported ------------------------------------------------------------------------------------------------------------------ */

enum err remote_change_make(struct remote_change *change, const struct gateway_conf *running,
                            const struct remote_files *files, enum remote_kind kind, yyjson_val *value, bool is_pushed,
                            struct why *why)
{
    *change = (struct remote_change){0};
    arena_init(&change->arena, 1024);
    change->texts = arena_zero(&change->arena, (running->n_connectors + 4) * sizeof *change->texts);
    change->backups = arena_zero(&change->arena, (running->n_connectors + 4) * sizeof *change->backups);
    switch (kind) {
    case REMOTE_GENERAL:
        return make_general(change, running, files, value, why);
    case REMOTE_STORAGE:
        return make_section(change, running, "storage", value, why);
    case REMOTE_GRPC:
        return make_section(change, running, "grpc", value, why);
    case REMOTE_LOGS:
        return make_logs(change, running, files, value, is_pushed, why);
    case REMOTE_ACTIVE:
        return make_active(change, running, value, why);
    case REMOTE_CONNECTOR:
        return make_connector(change, running, files, value, is_pushed, why);
    }
    return ERR_OK;
}

void remote_change_fini(struct remote_change *change)
{
    arena_fini(&change->arena);
    *change = (struct remote_change){0};
}
