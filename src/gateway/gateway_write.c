/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/gateway_write.h"
#include "base/file.h"

#include <errno.h>
#include <unistd.h>

enum { FILE_MAX = 64 * 1024 * 1024 };

bool gateway_is_converted(const struct json_file *file, const char *path)
{
    return strcmp(json_file_name(file), path) != 0;
}

static void report(struct problems *problems, enum severity severity, const struct json_file *file, const char *text,
                   const char *detail)
{
    struct json_pos pos = json_file_pos(file, json_file_root(file));
    struct conf_at at = {.file = json_file_name(file), .path = "", .line = pos.line, .column = pos.column};

    problem_add(problems, severity, &at, "%s%s", text, detail);
}

void gateway_report_yaml(const struct json_file *file, const char *path, struct problems *problems)
{
    if (gateway_is_converted(file, path))
        report(problems, CONF_WARNING, file,
               "YAML is the form of former versions; when the gateway runs it writes this file as ", path);
}

/* Indented by 2, members in their order, numbers as they were read; with id as the last member unless that is NULL. */
static NODISCARD enum err add_content(struct buf *out, const struct json_file *file, const char *id)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = doc ? yyjson_val_mut_copy(doc, json_file_root(file)) : NULL;
    yyjson_doc *changed = NULL;

    if (root && id) {
        yyjson_mut_obj_remove_key(root, "id");
        if (!yyjson_mut_obj_add_str(doc, root, "id", id))
            root = NULL;
    }
    if (root)
        changed = yyjson_mut_val_imut_copy(root, NULL);
    if (changed) {
        json_add_pretty(out, yyjson_doc_get_root(changed));
        buf_add_z(out, "\n");
    }
    yyjson_doc_free(changed);
    yyjson_mut_doc_free(doc);
    return changed ? ERR_OK : ERR_NOMEM;
}

/* What was written, read as it will be next time; NULL with the reason if it was not. */
static struct json_file *rewrite(const struct json_file *file, const char *path, const char *id, struct why *why)
{
    bool is_new = gateway_is_converted(file, path);
    struct json_file *written = NULL;
    autobuf struct buf text = {0};

    if (!is_new && access(path, W_OK) != 0) {
        int number = errno;

        why_set(why, err_from_errno(number), "%s: cannot be written: %s", path, strerror(number));
        return NULL;
    }
    if (add_content(&text, file, id) != ERR_OK) {
        why_set(why, ERR_NOMEM, "%s: cannot be written: %s", path, err_text(ERR_NOMEM));
        return NULL;
    }
    if (file_put(path, buf_str(&text), is_new ? FILE_NEW : FILE_REPLACE, json_file_name(file), why) == ERR_OK &&
        json_file_parse(&written, path, buf_str(&text), why) != ERR_OK)
        written = NULL;
    return written;
}

struct json_file *gateway_write_json(struct json_file *file, const char *path, struct problems *problems)
{
    struct json_file *written;
    struct why why = {0};

    if (!gateway_is_converted(file, path))
        return file;
    written = rewrite(file, path, NULL, &why);
    if (written)
        report(problems, CONF_WARNING, file,
               "YAML is the form of former versions; what counts from now on is its copy in JSON, ", path);
    else
        report(problems, CONF_WARNING, file,
               "YAML is the form of former versions, and its copy in JSON cannot be made: ", why_text(&why));
    if (!written)
        return file;
    json_file_free(file);
    return written;
}

/* null and empty text count as absent. */
static bool is_absent(yyjson_val *id)
{
    return !id || yyjson_is_null(id) || (yyjson_is_str(id) && yyjson_get_len(id) == 0);
}

static bool is_yaml(struct str path)
{
    return str_ends(path, STR(".yaml")) || str_ends(path, STR(".yml"));
}

struct json_file *gateway_write_connector(struct json_file *file, const char *path, const char *name,
                                          char id[UUID_SIZE], struct problems *problems)
{
    struct json_file *written = NULL;
    yyjson_val *root = json_file_root(file), *old = json_get(root, STR("id"));
    struct why why = {0};

    *id = 0;
    if (!yyjson_is_obj(root) || !is_absent(old)) {
        if (old && !yyjson_is_str(old) && !json_is_number(old)) {
            report(problems, CONF_ERROR, file, "\"id\" is no text; one made of the connector's name is used", "");
            uuid_from_name(id, str_from(name));
        }
        return gateway_write_json(file, path, problems);
    }
    uuid_random(id);
    if (is_yaml(str_from(path))) /* named so by its entry: a copy in JSON would not be read */
        why_set(&why, ERR_UNSUPPORTED, "%s: YAML is not written", path);
    else
        written = rewrite(file, path, id, &why);
    if (written) {
        if (gateway_is_converted(file, path))
            report(problems, CONF_WARNING, file,
                   "YAML is the form of former versions; what counts from now on is its copy in JSON, ", path);
        report(problems, CONF_NOTE, written, "had no \"id\"; it has a new one: ", id);
        *id = 0;
        json_file_free(file);
        return written;
    }
    uuid_from_name(id, str_from(name));
    if (gateway_is_converted(file, path))
        report(problems, CONF_WARNING, file,
               "YAML is the form of former versions, and its copy in JSON cannot be made: ", why_text(&why));
    report(problems, CONF_NOTE, file,
           "has no \"id\"; it is made of the connector's name, as none can be added: ", why_text(&why));
    return file;
}

bool gateway_lacks_id(const struct json_file *file, const char *path)
{
    yyjson_val *root = json_file_root(file);

    return yyjson_is_obj(root) && is_absent(json_get(root, STR("id"))) && !is_yaml(str_from(path)) &&
           !gateway_is_converted(file, path);
}

enum err gateway_write_id(const struct json_file *file, const char *path, const char *id, struct why *why)
{
    struct json_file *written;
    autobuf struct buf now = {0};
    enum err err = file_read(&now, path, FILE_MAX, why);

    if (err)
        return err;
    if (!str_eq(buf_str(&now), json_file_text(file)))
        return why_set(why, ERR_BUSY, "%s: has changed", path);
    written = rewrite(file, path, id, why);
    if (!written)
        return why->err;
    json_file_free(written);
    return ERR_OK;
}
