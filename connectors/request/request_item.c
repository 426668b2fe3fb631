/* SPDX-License-Identifier: Apache-2.0 */
#include "request_item.h"

#include "convert/web_text.h"

enum err answer_open(struct answer *answer, const struct request_mapping *mapping, struct str body,
                     struct str content_type, struct arena *arena, struct why *why)
{
    struct str character = STR_NONE, text;
    enum err err;

    *answer = (struct answer){0};
    if (!body.n)
        return why_set(why, ERR_SYNTAX, "the answer has no body");
    err = web_utf8(body, content_type, arena, &text, why);
    if (err)
        return err;
    answer->doc = json_read(text, why);
    if (!answer->doc)
        return ERR_SYNTAX;
    answer->root = yyjson_doc_get_root(answer->doc);
    if (mapping->unpack_template) {
        answer->root = template_resolve(mapping->unpack_template, 0, answer->root, arena, &character);
        if (!answer->root) {
            answer_close(answer);
            return why_set(why, ERR_NOTFOUND, "dataUnpackExpression finds nothing in the answer");
        }
    }
    answer_rewind(answer);
    return ERR_OK;
}

void answer_rewind(struct answer *answer)
{
    answer->is_array = yyjson_is_arr(answer->root);
    answer->n = answer->is_array ? yyjson_arr_size(answer->root) : 1;
    answer->i = 0;
    if (answer->is_array)
        answer->iter = yyjson_arr_iter_with(answer->root);
}

yyjson_val *answer_next(struct answer *answer)
{
    if (answer->i == answer->n)
        return NULL;
    answer->i++;
    return answer->is_array ? yyjson_arr_iter_next(&answer->iter) : answer->root;
}

void answer_close(struct answer *answer)
{
    yyjson_doc_free(answer->doc);
    *answer = (struct answer){0};
}

enum err item_request(const struct request_file *file, const struct request_mapping *mapping,
                      const struct sub_request *sub, yyjson_val *item, struct arena *arena, struct web_request *out,
                      struct why *why)
{
    struct str url;

    if (!web_url(sub->url_template, item, arena, &url, why))
        return ERR_NOTFOUND;
    *out = mapping->request;
    out->url = web_join(arena, mapping->request.url, url);
    out->with_credentials = mapping->with_credentials || web_is_same_host(file->base, out->url);
    return ERR_OK;
}

/* --- merging --------------------------------------------------------------------------------------------------------- */

static void add_member(struct buf *out, struct str name)
{
    if (out->n > 1)
        buf_add_u8(out, ',');
    json_add_string(out, name);
    buf_add_u8(out, ':');
}

/* What one answer brings: its members, or the one value that is wanted of it. */
static void add_answer(struct buf *out, const struct sub_use *use, yyjson_val *answer, struct arena *arena)
{
    yyjson_obj_iter iter;
    yyjson_val *key;
    struct str text;

    if (use->sub->has_value) {
        enum convert_result result = datapoint_eval(&use->sub->point, answer, NULL, arena, &text, NULL);

        if (result == CONVERT_OK || result == CONVERT_FALLBACK) {
            add_member(out, use->name);
            buf_add_str(out, text);
        }
        return;
    }
    iter = yyjson_obj_iter_with(answer); /* nothing of what is no object */
    while ((key = yyjson_obj_iter_next(&iter))) {
        add_member(out, json_str(key));
        json_add_value(out, yyjson_obj_iter_get_val(key));
    }
}

yyjson_doc *item_merge(const struct request_mapping *mapping, yyjson_val *item, const struct str *answers,
                       struct arena *arena)
{
    autobuf struct buf brought = {0};
    autobuf struct buf all = {0};
    yyjson_doc *doc, *merged;
    yyjson_obj_iter iter;
    yyjson_val *key;

    if (!yyjson_is_obj(item))
        return NULL;
    buf_add_u8(&brought, '{');
    for (size_t i = 0; i < mapping->n_uses; i++) {
        doc = answers[i].n ? json_read(answers[i], NULL) : NULL;
        if (doc)
            add_answer(&brought, &mapping->uses[i], yyjson_doc_get_root(doc), arena);
        yyjson_doc_free(doc);
    }
    if (brought.n == 1)
        return NULL;
    buf_add_u8(&brought, '}');
    doc = json_read(buf_str(&brought), NULL);
    buf_add_u8(&all, '{');
    iter = yyjson_obj_iter_with(item);
    while ((key = yyjson_obj_iter_next(&iter))) {
        if (json_get(yyjson_doc_get_root(doc), json_str(key)))
            continue;
        add_member(&all, json_str(key));
        json_add_value(&all, yyjson_obj_iter_get_val(key));
    }
    yyjson_doc_free(doc);
    if (all.n > 1)
        buf_add_u8(&all, ',');
    buf_add(&all, brought.p + 1, brought.n - 1);
    merged = json_read(buf_str(&all), NULL);
    return merged;
}
