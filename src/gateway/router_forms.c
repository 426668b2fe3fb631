/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/router_forms.h"

/* Where text stands in an error; %s is the JSON string. */
#define PLAIN "{\"error\":%s}"
#define MARKED "{\"error\":%s,\"success\":false}"
#define IN_RESULT "{\"result\":{\"error\":%s}}"
#define NO_SUCCESS "{\"success\":false}"

static const struct {
    const char *type, *failed, *timeout, *unknown;
} forms[] = {
    {"mqtt", "{\"success\":false,\"error\":%s}", NO_SUCCESS, MARKED},
    {"rest", IN_RESULT, "{\"result\":{\"error\":\"Timeout\",\"code\":408}}", MARKED},
    {"request", IN_RESULT, "{\"result\":{\"error\":\"Rpc timeout\"}}", MARKED},
    {"modbus", IN_RESULT, IN_RESULT, IN_RESULT},
    {"opcua", IN_RESULT, IN_RESULT, IN_RESULT},
    {"bacnet", PLAIN, PLAIN, PLAIN},
    {"knx", PLAIN, PLAIN, PLAIN},
    {"can", NO_SUCCESS, NO_SUCCESS, MARKED},
    {"socket", IN_RESULT, IN_RESULT, IN_RESULT},
    {"s7", IN_RESULT, IN_RESULT, IN_RESULT},
    {NULL, MARKED, MARKED, MARKED}, /* all others */
};

void form_error(struct buf *out, struct str type, enum form form, struct str text)
{
    size_t i = 0;
    const char *shape, *at;

    while (forms[i].type && !str_eq_z(type, forms[i].type))
        i++;
    shape = form == FORM_FAILED ? forms[i].failed : form == FORM_TIMEOUT ? forms[i].timeout : forms[i].unknown;
    at = strstr(shape, "%s");
    if (!at) {
        buf_add_z(out, shape);
        return;
    }
    buf_add(out, shape, (size_t)(at - shape));
    json_add_string(out, text);
    buf_add_z(out, at + 2);
}

/* The object with success put behind its members, in the place of one that is there. */
static void add_with_success(struct buf *out, yyjson_val *object, bool success)
{
    yyjson_obj_iter iter = yyjson_obj_iter_with(object);
    yyjson_val *key;

    buf_add_u8(out, '{');
    while ((key = yyjson_obj_iter_next(&iter))) {
        if (str_eq_z(json_str(key), "success"))
            continue;
        json_add_string(out, json_str(key));
        buf_add_u8(out, ':');
        json_add_final(out, yyjson_obj_iter_get_val(key));
        buf_add_u8(out, ',');
    }
    buf_add_z(out, success ? "\"success\":true}" : "\"success\":false}");
}

static void add_reply(struct buf *out, yyjson_val *content, int success)
{
    bool is_object = yyjson_is_obj(content), is_answer;

    if (!content) {
        buf_add_z(out, success == 0 ? NO_SUCCESS : "{\"success\":true}");
        return;
    }
    is_answer = is_object && (json_get(content, STR("success")) || json_get(content, STR("error")) ||
                              json_get(content, STR("response")) || json_get(content, STR("result")));
    if (success < 0 || !is_answer)
        json_add_final(out, content);
    else if (json_get(content, STR("result")))
        json_add_final(out, json_get(content, STR("result")));
    else
        add_with_success(out, content, success != 0);
}

void form_reply(struct buf *out, yyjson_val *content, int success)
{
    struct str text = json_str(content);
    yyjson_doc *doc = text.n ? json_read(text, NULL) : NULL;

    add_reply(out, doc ? yyjson_doc_get_root(doc) : content, success);
    yyjson_doc_free(doc);
}

void form_result(struct buf *out, yyjson_val *result)
{
    if (yyjson_is_obj(result) && json_get(result, STR("error")))
        add_with_success(out, result, false);
    else
        json_add_final(out, result);
}

void form_checked(struct buf *out, struct str json)
{
    yyjson_doc *doc = json_read(json, NULL);

    if (doc)
        buf_add_str(out, json);
    else
        json_add_string(out, json);
    yyjson_doc_free(doc);
}
