/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/remote_error.h"

#include <stdio.h>

static bool is_main(const struct remote_error *error, const char *file)
{
    return file && strcmp(file, error->running->path) == 0;
}

/* "storage" and what is below it, but not "storages". */
static bool is_below(struct str path, struct str section)
{
    return section.n && str_starts(path, section) &&
           (path.n == section.n || path.p[section.n] == '.' || path.p[section.n] == '[');
}

static void find_entry(struct remote_error *error)
{
    const struct remote_change *change = error->change;
    struct str text = STR_NONE;
    yyjson_val *entry;
    yyjson_doc *doc;
    size_t i, n;

    for (i = 0; i < change->n; i++)
        if (is_main(error, change->texts[i].path))
            text = change->texts[i].text;
    doc = text.n ? yyjson_read(text.p, text.n, YYJSON_READ_NUMBER_AS_RAW) : NULL;
    yyjson_arr_foreach(json_get(yyjson_doc_get_root(doc), STR("connectors")), i, n, entry)
    {
        if (change->connector && str_eq_z(json_str(json_get(entry, STR("name"))), change->connector))
            snprintf(error->at, sizeof error->at, "connectors[%zu]", i);
    }
    yyjson_doc_free(doc);
}

void remote_error_init(struct remote_error *error, const struct gateway_conf *running,
                       const struct remote_change *change, enum remote_kind kind, yyjson_val *value)
{
    const char *name = "";

    *error = (struct remote_error){.running = running, .change = change, .kind = kind, .value = value};
    switch (kind) {
    case REMOTE_GENERAL:
        (void)form_platform_section(json_file_root(conf_source(running->main_file)), &name);
        break;
    case REMOTE_STORAGE:
        name = "storage";
        break;
    case REMOTE_GRPC:
        name = "grpc";
        break;
    case REMOTE_LOGS:
    case REMOTE_ACTIVE:
        break;
    case REMOTE_CONNECTOR:
        find_entry(error);
        return;
    }
    snprintf(error->at, sizeof error->at, "%s", name);
}

bool remote_error_is_own(const struct remote_error *error, const struct problem *problem)
{
    const struct remote_change *change = error->change;

    if (is_main(error, problem->file) && !is_below(str_from(problem->path ? problem->path : ""), str_from(error->at)))
        return false;
    for (size_t i = 0; i < change->n && problem->file; i++)
        if (strcmp(change->texts[i].path, problem->file) == 0)
            return true;
    return false;
}

static struct str first_key(struct str path)
{
    return str_cut(path, str_chr(str_cut(path, str_chr(path, '.')), '['));
}

/* Of what is in a connector's file these may stand beside configurationJson. */
static bool is_beside(const struct remote_error *error, struct str path)
{
    static const char *const beside[] = {"logLevel", "enableRemoteLogging", "reportStrategy", "configVersion"};
    struct str key = first_key(path);
    yyjson_val *value = json_get(error->value, key);

    for (size_t i = 0; i < COUNT_OF(beside); i++)
        if (str_eq_z(key, beside[i]))
            return value && !yyjson_is_null(value);
    return str_eq(key, STR("name"));
}

static void add_below(struct buf *out, const char *parent, struct str path)
{
    buf_add_z(out, parent);
    buf_add_z(out, path.n && path.p[0] != '[' ? "." : "");
    buf_add_str(out, path);
}

void remote_error_add_path(struct buf *out, const struct remote_error *error, const char *file, const char *path)
{
    struct str section = str_from(error->at), rest = str_from(path ? path : "");

    if (is_main(error, file)) {
        if (error->kind == REMOTE_GENERAL && !is_below(rest, section))
            section = STR("thingsboard"); /* its first name, which a plan uses */
        if (is_below(rest, section))
            rest = str_skip(rest, rest.n > section.n ? section.n + (rest.p[section.n] == '.') : section.n);
        buf_add_str(out, rest);
    } else if (error->kind == REMOTE_GENERAL) {
        add_below(out, "statistics.commands", rest);
    } else if (error->kind == REMOTE_CONNECTOR && !is_beside(error, rest)) {
        add_below(out, "configurationJson", rest);
    } else {
        buf_add_str(out, rest);
    }
}
