/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/convert_vectors.h"
#include "conf/conf.h"
#include "connector/module.h"

#include <stdlib.h>

#pragma weak module_load

void convert_add_unsupported(struct buf *members, struct str reason)
{
    buf_add_z(members, "\"unsupported\":");
    json_add_string(members, reason);
}

/* A connector's vector: a fresh configuration, then the module's convert. */
static void convert_connector(struct str type, yyjson_val *vector, struct arena *arena, struct buf *members)
{
    yyjson_val *config = json_get(vector, STR("config"));
    struct str direction = json_str(json_get(vector, STR("direction"))), output = STR_NONE;
    const struct connector_type *connector;
    struct problems problems;
    struct why why = {0};
    struct conf *conf = NULL;
    enum err err;

    connector = module_load ? module_load(arena_text(arena, type), &why) : NULL;
    if (!connector) {
        convert_add_unsupported(members, str_from(why_text(&why)));
        return;
    }
    if (!connector->convert) {
        convert_add_unsupported(members, STR("this connector has no conversion without a device"));
        return;
    }
    problems_init(&problems);
    if (config)
        conf = conf_load_text(connector->conf, ".", "config", json_text(arena, config), &problems);
    if (conf) {
        struct convert_io io = {.size = sizeof io,
                                .direction = direction.p ? direction : STR("uplink"),
                                .input = json_get(vector, STR("input")),
                                .output = &output,
                                .arena = arena};

        err = connector->convert(conf_root(conf), &io, &why);
        if (err == ERR_OK)
            buf_add_str(members, output);
        else
            convert_add_unsupported(members, str_from(why_text(&why)));
    } else {
        convert_add_unsupported(members, STR("nothing of the configuration can be used"));
    }
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
        if (doc && yyjson_is_obj(yyjson_doc_get_root(doc)))
            convert_line(yyjson_doc_get_root(doc), &arena, &answer);
        else
            answer_bad_line(&answer, doc ? &(struct why){.err = ERR_TYPE, .text = "a vector is a JSON object"} : &why);
        fwrite(answer.p, 1, answer.n, out);
        fflush(out);
        yyjson_doc_free(doc);
        arena_reset(&arena);
    }
    free(line);
    arena_fini(&arena);
    return 0;
}
