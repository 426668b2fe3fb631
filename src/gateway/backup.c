/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/backup.h"

#include "base/file.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KEPT = 10, FILE_LIMIT = 64 * 1024 * 1024 };

/* --- names -------------------------------------------------------------------------------------------------------------- */

static struct str base_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return str_from(slash ? slash + 1 : path);
}

static struct str stem_of(struct str name)
{
    for (size_t i = name.n; i > 1; i--)
        if (name.p[i - 1] == '.')
            return str_cut(name, i - 1);
    return name;
}

/* The seconds in STEM.backup.SECONDS.json; -1: it is not that. */
static int64_t seconds_of(struct str name, struct str stem)
{
    uint64_t seconds;

    if (!str_starts(name, stem))
        return -1;
    name = str_skip(name, stem.n);
    if (!str_starts(name, STR(".backup.")) || !str_ends(name, STR(".json")))
        return -1;
    name = str_skip(name, 8);
    if (name.n <= 5 || str_to_u64(str_cut(name, name.n - 5), &seconds) != ERR_OK || seconds > INT64_MAX)
        return -1;
    return (int64_t)seconds;
}

static int newest_first(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

    return left < right ? 1 : left > right ? -1 : 0;
}

static void remove_old(const char *folder, struct str stem)
{
    DIR *dir = opendir(folder);
    int64_t *seconds = NULL;
    size_t n = 0;

    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        int64_t at = seconds_of(str_from(entry->d_name), stem);

        if (at < 0)
            continue;
        seconds = mem_grow(seconds, (n + 1) * sizeof *seconds);
        seconds[n++] = at;
    }
    if (dir)
        closedir(dir);
    if (n > KEPT)
        qsort(seconds, n, sizeof *seconds, newest_first);
    for (size_t i = KEPT; i < n; i++) {
        autobuf struct buf path = {0};

        buf_printf(&path, "%s" STR_FMT ".backup.%" PRId64 ".json", folder, STR_ARG(stem), seconds[i]);
        buf_add_u8(&path, 0);
        unlink((const char *)path.p);
    }
    mem_free(seconds);
}

/* --- copies ------------------------------------------------------------------------------------------------------------- */

enum err backup_copy(const char *dir, const char *path, int64_t now_s, struct why *why)
{
    struct str stem = stem_of(base_of(path));
    autobuf struct buf content = {0}, folder = {0}, copy = {0};
    enum err err;

    if (access(path, F_OK) != 0)
        return ERR_OK;
    buf_printf(&folder, "%sbackup/", dir);
    buf_add_u8(&folder, 0);
    if (mkdir((const char *)folder.p, 0700) != 0 && errno != EEXIST) {
        int number = errno;

        return why_set(why, err_from_errno(number), "%s: cannot be made: %s", (const char *)folder.p, strerror(number));
    }
    err = file_read(&content, path, FILE_LIMIT, why);
    if (err)
        return err;
    buf_printf(&copy, "%s" STR_FMT ".backup.%" PRId64 ".json", (const char *)folder.p, STR_ARG(stem), now_s);
    buf_add_u8(&copy, 0);
    err = file_put((const char *)copy.p, buf_str(&content), FILE_REPLACE, path, why);
    if (!err)
        remove_old((const char *)folder.p, stem);
    return err;
}

enum err backup_move(const char *dir, const char *path, int64_t now_s, struct why *why)
{
    enum err err = backup_copy(dir, path, now_s, why);

    if (!err && unlink(path) != 0 && errno != ENOENT) {
        int number = errno;

        return why_set(why, err_from_errno(number), "%s: cannot be removed: %s", path, strerror(number));
    }
    return err;
}

enum err backup_all(const struct gateway_conf *conf, int64_t now_s, struct why *why)
{
    enum err first = backup_copy(conf->dir, conf->path, now_s, why);

    for (size_t i = 0; i < conf->n_connectors; i++) {
        enum err err = conf->connectors[i].path ? backup_copy(conf->dir, conf->connectors[i].path, now_s, why) : ERR_OK;

        first = first ? first : err;
    }
    return first;
}

bool backup_is_free_name(const struct gateway_conf *conf, struct str name)
{
    static const struct str own[] = {{"tb_gateway.json", 15},
                                     {"logs.json", 9},
                                     {"list.json", 9},
                                     {"statistics.json", 15},
                                     {"connected_devices.json", 22},
                                     {"former_storage.json", 19},
                                     {"persistent_keys.json", 20}};
    const struct platform_conf *platform = conf->main->platform;

    if (!str_ends(name, STR(".json")) || name.n <= 5 || name.n > 200 || name.p[0] == '.' ||
        memchr(name.p, '/', name.n) || memchr(name.p, 0, name.n))
        return false;
    for (size_t i = 0; i < COUNT_OF(own); i++)
        if (str_eq(name, own[i]))
            return false;
    if ((platform->filtering && str_eq(name, platform->filtering->file)) ||
        (platform->statistics && str_eq(name, platform->statistics->file)))
        return false;
    return !str_eq(name, base_of(conf->path));
}

/* --- one part changed ------------------------------------------------------------------------------------------------------ */

struct editing {
    yyjson_mut_doc *doc;
    struct json_file *file, *value;
};

static void editing_fini(struct editing *editing)
{
    yyjson_mut_doc_free(editing->doc);
    json_file_free(editing->file);
    json_file_free(editing->value);
}

/* The root, changeable; *value: a copy of what json holds, NULL for none. NULL with the reason if either cannot be read. */
static yyjson_mut_val *editing_begin(struct editing *editing, struct str text, struct str json, yyjson_mut_val **value,
                                     struct why *why)
{
    yyjson_mut_val *root;

    *editing = (struct editing){.doc = yyjson_mut_doc_new(NULL)};
    *value = NULL;
    if (json_file_parse(&editing->file, "present content", text, why) != ERR_OK)
        return NULL;
    if (json.p && json_file_parse(&editing->value, "new content", json, why) != ERR_OK)
        return NULL;
    root = editing->doc ? yyjson_val_mut_copy(editing->doc, json_file_root(editing->file)) : NULL;
    if (root && json.p)
        *value = yyjson_val_mut_copy(editing->doc, json_file_root(editing->value));
    if (!root || (json.p && !*value))
        why_set(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    else if (!yyjson_mut_is_obj(root))
        why_set(why, ERR_TYPE, "the present content is no object");
    else
        return root;
    return NULL;
}

static NODISCARD enum err editing_end(struct editing *editing, struct buf *out, yyjson_mut_val *root, struct why *why)
{
    yyjson_doc *changed = root ? yyjson_mut_val_imut_copy(root, NULL) : NULL;
    enum err err = ERR_OK;

    if (changed) {
        json_add_pretty(out, yyjson_doc_get_root(changed));
        buf_add_z(out, "\n");
    } else {
        err = why && why->err ? why->err : ERR_NOMEM;
    }
    yyjson_doc_free(changed);
    editing_fini(editing);
    return err;
}

/* In its place if it is there, else at the end; NULL: it goes. */
static bool set_member(yyjson_mut_doc *doc, yyjson_mut_val *object, struct str key, yyjson_mut_val *value)
{
    yyjson_mut_val *name = yyjson_mut_strncpy(doc, key.p, key.n);

    if (!value) {
        yyjson_mut_obj_remove_keyn(object, key.p, key.n);
        return true;
    }
    if (yyjson_mut_obj_getn(object, key.p, key.n))
        return name && yyjson_mut_obj_replace(object, name, value);
    return name && yyjson_mut_obj_add(object, name, value);
}

enum err edit_member(struct buf *out, struct str text, struct str key, struct str json, struct why *why)
{
    struct why none = {0};
    struct editing editing;
    yyjson_mut_val *value, *root = editing_begin(&editing, text, json, &value, why ? why : &none);

    if (root && !set_member(editing.doc, root, key, value))
        root = NULL;
    return editing_end(&editing, out, root, why ? why : &none);
}

static bool set_entry(yyjson_mut_doc *doc, yyjson_mut_val *list, struct str former, yyjson_mut_val *value)
{
    size_t i, n, at = SIZE_MAX;
    yyjson_mut_val *entry, *name, *member;
    yyjson_mut_obj_iter iter;

    yyjson_mut_arr_foreach(list, i, n, entry)
    {
        name = yyjson_mut_obj_get(entry, "name");
        if (name && yyjson_mut_equals_strn(name, former.p, former.n))
            at = i;
    }
    if (at == SIZE_MAX)
        return !value || yyjson_mut_arr_append(list, value);
    if (!value)
        return yyjson_mut_arr_remove(list, at) != NULL;
    entry = yyjson_mut_arr_get(list, at);
    yyjson_mut_obj_iter_init(value, &iter);
    while ((name = yyjson_mut_obj_iter_next(&iter))) {
        member = yyjson_mut_val_mut_copy(doc, yyjson_mut_obj_iter_get_val(name));
        if (!member || !set_member(doc, entry, str_of(yyjson_mut_get_str(name), yyjson_mut_get_len(name)), member))
            return false;
    }
    return true;
}

enum err edit_connector(struct buf *out, struct str text, struct str former, struct str json, struct why *why)
{
    struct why none = {0};
    struct editing editing;
    yyjson_mut_val *value, *list = NULL, *root = editing_begin(&editing, text, json, &value, why ? why : &none);

    if (root) {
        list = yyjson_mut_obj_get(root, "connectors");
        if (!yyjson_mut_is_arr(list)) {
            list = yyjson_mut_arr(editing.doc);
            if (!list || !set_member(editing.doc, root, STR("connectors"), list))
                root = NULL;
        }
    }
    if (root && !set_entry(editing.doc, list, former, value))
        root = NULL;
    return editing_end(&editing, out, root, why ? why : &none);
}
