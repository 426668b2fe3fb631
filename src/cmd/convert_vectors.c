/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/convert_vectors.h"
#include "conf/conf.h"
#include "connector/module.h"

#include <stdlib.h>

static void add_member(struct buf *members, const char *name, struct str text)
{
    buf_printf(members, "\"%s\":", name);
    json_add_string(members, text);
}

void convert_add_unsupported(struct buf *members, struct str reason)
{
    add_member(members, "unsupported", reason);
}

yyjson_doc *convert_one(const struct connector_type *connector, const void *conf, struct str direction,
                        yyjson_val *input, struct arena *arena, struct why *why)
{
    struct str output = STR_NONE;
    struct convert_io io = {
        .size = sizeof io, .direction = direction, .input = input, .output = &output, .arena = arena};
    yyjson_doc *doc;
    enum err err;

    if (!connector->convert) {
        why_set(why, ERR_UNSUPPORTED, "this connector has no conversion without a device");
        return NULL;
    }
    err = connector->convert(conf, &io, why);
    if (err) {
        why_set(why, err, "%s", err_text(err));
        return NULL;
    }
    doc = json_read(output, why);
    if (!doc || yyjson_is_obj(yyjson_doc_get_root(doc)))
        return doc;
    yyjson_doc_free(doc);
    why_set(why, ERR_TYPE, "the connector's answer is not a JSON object");
    return NULL;
}

static void add_members_of(struct buf *members, yyjson_val *obj)
{
    yyjson_obj_iter iter = yyjson_obj_iter_with(obj);
    yyjson_val *name;
    bool is_first = true;

    while ((name = yyjson_obj_iter_next(&iter))) {
        if (!is_first)
            buf_add_u8(members, ',');
        is_first = false;
        json_add_string(members, json_str(name));
        buf_add_u8(members, ':');
        json_add_value(members, yyjson_obj_iter_get_val(name));
    }
}

/* A fresh configuration for each vector. One that cannot be used at all converts nothing. */
static void convert_connector(struct str type, yyjson_val *vector, struct arena *arena, struct buf *members)
{
    yyjson_val *config = json_get(vector, STR("config"));
    struct str direction = json_str(json_get(vector, STR("direction")));
    const struct connector_type *connector;
    struct problems problems;
    struct why why = {0};
    struct conf *conf;
    yyjson_doc *answer;

    connector = module_load(arena_text(arena, type), &why);
    if (!connector) {
        convert_add_unsupported(members, str_from(why_text(&why)));
        return;
    }
    problems_init(&problems);
    conf = conf_load_text(connector->conf, ".", "config", config ? json_text(arena, config) : STR(""), &problems);
    if (!conf) {
        add_member(members, "error", STR("nothing of the configuration can be used"));
        problems_fini(&problems);
        return;
    }
    answer = convert_one(connector, conf_root(conf), direction.p ? direction : STR("uplink"),
                         json_get(vector, STR("input")), arena, &why);
    if (answer)
        add_members_of(members, yyjson_doc_get_root(answer));
    else
        add_member(members, why.err == ERR_UNSUPPORTED ? "unsupported" : "error", str_from(why_text(&why)));
    yyjson_doc_free(answer);
    conf_unref(conf);
    problems_fini(&problems);
}

static void convert_line(yyjson_val *vector, struct arena *arena, struct buf *answer)
{
    struct str type = json_str(json_get(vector, STR("connector")));
    yyjson_val *id = json_get(vector, STR("id"));
    size_t before;

    buf_add_z(answer, "{\"id\":");
    json_add_value(answer, id);
    buf_add_u8(answer, ',');
    before = answer->n;
    if (!type.p)
        convert_add_unsupported(answer, STR("the vector names no connector"));
    else if (str_eq(type, STR("expressions")))
        convert_expressions(json_get(vector, STR("input")), arena, answer);
    else if (str_eq(type, STR("core")))
        convert_core(vector, arena, answer);
    else
        convert_connector(type, vector, arena, answer);
    if (answer->n == before)
        answer->n--; /* no members: no comma */
    buf_add_z(answer, "}\n");
}

static void answer_bad_line(struct buf *answer, const struct why *why)
{
    buf_add_z(answer, "{\"id\":null,");
    convert_add_unsupported(answer, str_from(why_text(why)));
    buf_add_z(answer, "}\n");
}

int cmd_convert_vectors(FILE *in, FILE *out)
{
    autobuf struct buf answer = {0};
    struct arena arena;
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;

    arena_init(&arena, 65536);
    while ((n = getline(&line, &cap, in)) >= 0) {
        struct str text = str_trim((struct str){line, (size_t)n});
        struct why why = {0};
        yyjson_doc *doc;

        if (text.n == 0)
            continue;
        doc = json_read(text, &why);
        answer.n = 0;
        if (doc && !yyjson_is_obj(yyjson_doc_get_root(doc)))
            why_set(&why, ERR_TYPE, "a vector is a JSON object");
        if (why.err)
            answer_bad_line(&answer, &why);
        else
            convert_line(yyjson_doc_get_root(doc), &arena, &answer);
        fwrite(answer.p, 1, answer.n, out);
        fflush(out);
        yyjson_doc_free(doc);
        arena_reset(&arena);
    }
    free(line);
    arena_fini(&arena);
    return ferror(out) ? 1 : 0;
}
