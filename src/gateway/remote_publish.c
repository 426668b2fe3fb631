/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/remote_publish.h"

#include "base/mem.h"

#include "build_id.h"

#include <inttypes.h>

enum {
    SIZE_SURE = 60000, /* of a value: the platform takes 64 KiB unless it says otherwise */
    ERRORS_MAX = 20,   /* of an attribute */
    MESSAGE_MAX = 500,
    ERRORS_BYTES_MAX = 32000 /* of all */
};

struct entry { /* of both maps */
    struct str key, text;
    char bytes[];
};

static void put(struct map *map, struct str key, struct str text)
{
    struct entry *entry = mem_new(sizeof *entry + key.n + text.n);

    entry->key = str_of(memcpy(entry->bytes, key.n ? key.p : "", key.n), key.n);
    entry->text = str_of(memcpy(entry->bytes + key.n, text.n ? text.p : "", text.n), text.n);
    mem_free(map_put(map, entry->key, entry));
}

static void empty(struct map *map)
{
    for (struct map_slot *slot = NULL; (slot = map_next(map, slot));)
        mem_free(slot->value);
    map_fini(map);
}

void published_init(struct published *published, struct north *north, const struct gateway_types *types,
                    const char *dir)
{
    *published = (struct published){.north = north, .types = types, .dir = dir};
}

void published_fini(struct published *published)
{
    empty(&published->last);
    empty(&published->errors);
    buf_fini(&published->error);
}

/* --- sending -------------------------------------------------------------------------------------------------------------------- */

static void add_member(struct buf *message, struct str key, struct str json)
{
    buf_add_z(message, message->n ? "," : "{");
    json_add_string(message, key);
    buf_add_z(message, ":");
    buf_add_str(message, json);
}

static void flush(struct published *published, struct buf *message)
{
    if (!message->n)
        return;
    buf_add_z(message, "}");
    north_own_attributes(published->north, buf_str(message));
    message->n = 0;
}

static bool is_too_large(struct published *published, struct str key, struct str json)
{
    uint32_t limit = north_status(published->north).payload_limit;

    if (json.n <= (limit > SIZE_SURE ? limit : SIZE_SURE) || str_eq(key, STR("configuration_errors")))
        return false; /* errors are bounded by themselves */
    published_error_begin(published, key);
    published_error_add(published, STR(""),
                        STR("it runs, but is larger than the platform takes: it cannot be shown there"));
    published_error_end(published);
    return true;
}

/* json has no "ts"; ts_ms 0: it gets none. */
static void tell(struct published *published, struct buf *message, struct str key, struct str json, int64_t ts_ms,
                 bool is_forced)
{
    const struct entry *last = map_get(&published->last, key);
    autobuf struct buf value = {0};

    if (!json.n || (!is_forced && last && str_eq(last->text, json)))
        return;
    if (is_too_large(published, key, json))
        return;
    put(&published->last, key, json);
    buf_add_str(&value, json);
    if (ts_ms && value.p[0] == '{') {
        value.n--;
        buf_printf(&value, "%s\"ts\":%" PRId64 "}", json.n > 2 ? "," : "", ts_ms);
    }
    add_member(message, key, buf_str(&value));
}

/* --- what runs ------------------------------------------------------------------------------------------------------------------ */

static yyjson_val *root_of(const struct conf *conf)
{
    return conf ? json_file_root(conf_source(conf)) : NULL;
}

static bool hides(const struct gateway_conf *running)
{
    return !running->main->platform->publish_secrets;
}

static void add_section(struct published *published, struct buf *message, const struct gateway_conf *running,
                        const struct remote_files *files, enum remote_kind kind, int64_t ts_ms, bool is_forced)
{
    yyjson_val *main = root_of(running->main_file);
    const char *name;
    struct form form = kind == REMOTE_GENERAL
                           ? form_general(form_platform_section(main, &name), remote_commands(files, running))
                       : kind == REMOTE_STORAGE ? form_copy(json_get(main, STR("storage")))
                       : kind == REMOTE_GRPC    ? form_copy(json_get(main, STR("grpc")))
                                                : form_copy(root_of(running->logs_file));
    autobuf struct buf json = {0};

    if (form.root) {
        yyjson_mut_obj_remove_key(form.root, "ts");
        if (hides(running))
            form_mask(form.root, kind == REMOTE_GENERAL ? &platform_conf_type : NULL);
        form_text(&json, form.root);
    } else {
        buf_add_z(&json, "{}");
    }
    tell(published, message, str_from(remote_names[kind]), buf_str(&json), ts_ms, is_forced);
    form_free(&form);
}

static yyjson_val *entry_of(const struct gateway_conf *running, const char *name)
{
    yyjson_val *list = json_get(root_of(running->main_file), STR("connectors")), *entry;
    size_t i, n;

    yyjson_arr_foreach(list, i, n, entry) if (str_eq_z(json_str(json_get(entry, STR("name"))), name)) return entry;
    return NULL;
}

static void add_connector(struct published *published, struct buf *message, const struct gateway_conf *running,
                          const struct gateway_connector *connector, int64_t ts_ms, bool is_forced)
{
    const struct connector_common *common = connector->conf ? connector_common_of(connector->conf) : NULL;
    autobuf struct buf json = {0};
    autoform struct form form = {0};

    if (!common)
        return; /* its file cannot be used: nothing of it runs */
    form = form_connector(root_of(connector->conf), entry_of(running, connector->name), common->id);
    if (!form.root)
        return;
    if (hides(running)) {
        yyjson_mut_val *key = yyjson_mut_obj_get(form.root, "key");

        if (yyjson_mut_is_str(key))
            yyjson_mut_set_str(key, "***");
        form_mask(yyjson_mut_obj_get(form.root, "configurationJson"), published->types->conf(connector->type, NULL));
    }
    form_text(&json, form.root);
    tell(published, message, str_from(connector->name), buf_str(&json), ts_ms, is_forced);
}

static void add_active(struct published *published, struct buf *message, const struct gateway_conf *running,
                       bool is_forced)
{
    autobuf struct buf json = {0};

    buf_add_z(&json, "[");
    for (size_t i = 0; i < running->n_connectors; i++) {
        buf_add_z(&json, i ? "," : "");
        json_add_string(&json, str_from(running->connectors[i].name));
    }
    buf_add_z(&json, "]");
    tell(published, message, str_from(remote_names[REMOTE_ACTIVE]), buf_str(&json), 0, is_forced);
}

static void tell_errors(struct published *published)
{
    autobuf struct buf message = {0}, json = {0};

    for (struct map_slot *slot = NULL; (slot = map_next(&published->errors, slot));) {
        const struct entry *entry = slot->value;

        if (json.n + slot->key.n * 2 + entry->text.n > ERRORS_BYTES_MAX) { /* they are in the log */
            add_member(&json, STR(""), STR("[{\"path\":\"\",\"message\":\"there are more\"}]"));
            break;
        }
        add_member(&json, slot->key, entry->text);
    }
    buf_add_z(&json, json.n ? "}" : "{}");
    tell(published, &message, STR("configuration_errors"), buf_str(&json), 0, false);
    flush(published, &message);
}

void published_all(struct published *published, const struct gateway_conf *running, const struct remote_files *files,
                   int64_t ts_ms)
{
    autobuf struct buf message = {0};

    for (int kind = REMOTE_GENERAL; kind <= REMOTE_LOGS; kind++)
        add_section(published, &message, running, files, (enum remote_kind)kind, ts_ms, true);
    add_active(published, &message, running, true);
    tell(published, &message, STR("Version"), STR("\"" IOTGW_VERSION "\""), 0, true);
    flush(published, &message);
    for (size_t i = 0; i < running->n_connectors; i++) {
        add_connector(published, &message, running, &running->connectors[i], ts_ms, true);
        flush(published, &message);
    }
    tell_errors(published); /* at first: those of a former run are gone */
}

void published_section(struct published *published, const struct gateway_conf *running,
                       const struct remote_files *files, enum remote_kind kind, int64_t ts_ms, bool is_forced)
{
    autobuf struct buf message = {0};

    add_section(published, &message, running, files, kind, ts_ms, is_forced);
    flush(published, &message);
}

void published_connector(struct published *published, const struct gateway_conf *running, struct str name,
                         int64_t ts_ms, bool is_forced)
{
    autobuf struct buf message = {0};

    for (size_t i = 0; i < running->n_connectors; i++)
        if (str_eq_z(name, running->connectors[i].name))
            add_connector(published, &message, running, &running->connectors[i], ts_ms, is_forced);
    flush(published, &message);
}

void published_active(struct published *published, const struct gateway_conf *running, bool is_forced)
{
    autobuf struct buf message = {0};

    add_active(published, &message, running, is_forced);
    flush(published, &message);
}

void published_text(struct published *published, struct str key, struct str json)
{
    autobuf struct buf message = {0};

    tell(published, &message, key, json, 0, false);
    flush(published, &message);
}

/* --- errors --------------------------------------------------------------------------------------------------------------------- */

void published_error_begin(struct published *published, struct str key)
{
    published->error_key = key;
    published->error.n = 0;
}

void published_error_add(struct published *published, struct str path, struct str message)
{
    struct buf *error = &published->error;

    if (error->n > (size_t)ERRORS_MAX * MESSAGE_MAX)
        return;
    buf_add_z(error, error->n ? ",{\"path\":" : "[{\"path\":");
    json_add_string(error, str_cut(path, MESSAGE_MAX));
    buf_add_z(error, ",\"message\":");
    json_add_string(error, str_cut(message, MESSAGE_MAX));
    buf_add_z(error, "}");
}

void published_error_end(struct published *published)
{
    buf_add_z(&published->error, published->error.n ? "]" : "[]");
    put(&published->errors, published->error_key, buf_str(&published->error));
    tell_errors(published);
}

bool published_has_error(const struct published *published, struct str key)
{
    return map_get(&published->errors, key) != NULL;
}

void published_error_clear(struct published *published, struct str key)
{
    struct entry *entry = map_del(&published->errors, key);

    mem_free(entry);
    if (entry)
        tell_errors(published);
}

void published_errors_keep(struct published *published, bool (*is_kept)(void *arg, struct str key), void *arg)
{
    size_t before = published->errors.n;

    for (bool is_found = true; is_found;) {
        is_found = false;
        for (struct map_slot *slot = NULL; !is_found && (slot = map_next(&published->errors, slot));)
            if (!is_kept(arg, slot->key)) {
                mem_free(map_del(&published->errors, slot->key));
                is_found = true;
            }
    }
    if (published->errors.n != before)
        tell_errors(published);
}

void published_names(struct published *published, const struct gateway_conf *running)
{
    for (bool is_found = true; is_found;) {
        is_found = false;
        for (struct map_slot *slot = NULL; !is_found && (slot = map_next(&published->last, slot));) {
            struct str key = slot->key;
            bool is_there = false;

            for (int kind = 0; kind < REMOTE_CONNECTOR; kind++)
                is_there = is_there || str_eq_z(key, remote_names[kind]);
            for (size_t i = 0; i < running->n_connectors; i++)
                is_there = is_there || str_eq_z(key, running->connectors[i].name);
            if (is_there || str_eq(key, STR("Version")) || str_eq(key, STR("RemoteLoggingLevel")) ||
                str_eq(key, STR("configuration_errors")))
                continue;
            north_forget_own_attribute(published->north, key);
            published_error_clear(published, key);
            mem_free(map_del(&published->last, key));
            is_found = true;
        }
    }
}
