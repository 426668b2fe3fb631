/* SPDX-License-Identifier: Apache-2.0 */
/* Which file, and in which form. */
#include "conf/conf.h"
#include "data/yaml_file.h"

#include <unistd.h>

static _Thread_local const struct conf_text *instead;
static _Thread_local size_t n_instead;

void conf_read_instead(const struct conf_text *texts, size_t n)
{
    instead = n ? texts : NULL;
    n_instead = n;
}

static const struct conf_text *find_instead(const char *path)
{
    for (size_t i = 0; i < n_instead; i++)
        if (strcmp(instead[i].path, path) == 0)
            return &instead[i];
    return NULL;
}

static struct json_file *parse_instead(const struct conf_text *text, struct problems *problems)
{
    struct json_file *file;
    struct why why = {0};

    if (text->text.p && json_file_parse(&file, text->path, text->text, &why) == ERR_OK)
        return file;
    if (!text->text.p)
        why_set(&why, ERR_NOTFOUND, "%s: is not there", text->path);
    problem_add_reason(problems, text->path, why_text(&why));
    return NULL;
}

/* The path with ".yaml" in place of ".json"; empty if it ends otherwise. */
static void add_yaml_path(struct buf *out, struct str path)
{
    if (str_ends(path, STR(".json"))) {
        buf_add_str(out, str_cut(path, path.n - 5));
        buf_add_z(out, ".yaml");
    }
    buf_add_u8(out, 0);
}

static struct json_file *read_as(bool is_yaml, const char *path, struct problems *problems)
{
    struct json_file *file;
    struct why why = {0};

    if ((is_yaml ? yaml_file_read(&file, path, &why) : json_file_read(&file, path, 0, &why)) == ERR_OK)
        return file;
    problem_add_reason(problems, path, why_text(&why));
    return NULL;
}

struct json_file *conf_read_file(const char *path, struct problems *problems)
{
    struct str name = str_from(path);
    const struct conf_text *text = find_instead(path);
    autobuf struct buf yaml = {0};

    if (text)
        return parse_instead(text, problems);
    add_yaml_path(&yaml, name);
    if (*yaml.p && access(path, F_OK) != 0 && access((const char *)yaml.p, F_OK) == 0)
        return read_as(true, (const char *)yaml.p, problems);
    return read_as(str_ends(name, STR(".yaml")) || str_ends(name, STR(".yml")), path, problems);
}

bool conf_file_exists(const char *path)
{
    const struct conf_text *text = find_instead(path);
    autobuf struct buf yaml = {0};

    if (text)
        return text->text.p != NULL;
    add_yaml_path(&yaml, str_from(path));
    return access(path, F_OK) == 0 || (*yaml.p && access((const char *)yaml.p, F_OK) == 0);
}
