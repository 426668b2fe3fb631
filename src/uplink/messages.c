/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/messages.h"

#include "data/json.h"

void message_session_limits(struct buf *out)
{
    buf_add_str(out, STR("{\"method\":\"getSessionLimits\",\"params\":{\"timeout\":5000}}"));
}

bool message_own_telemetry(struct buf *out, struct str json)
{
    struct str text = str_trim(json);

    if (text.n < 2 || (text.p[0] != '{' && text.p[0] != '[') || str_trim(str_of(text.p + 1, text.n - 2)).n == 0)
        return false;
    if (text.p[0] == '[') {
        buf_add_str(out, text);
        return true;
    }
    buf_add_u8(out, '[');
    buf_add_str(out, text);
    buf_add_u8(out, ']');
    return true;
}

uint32_t message_count_values(struct str json)
{
    yyjson_doc *doc = yyjson_read(json.p, json.n, YYJSON_READ_NUMBER_AS_RAW);
    yyjson_val *root = yyjson_doc_get_root(doc), *entry;
    yyjson_arr_iter iter;
    size_t n = yyjson_is_obj(root) ? yyjson_obj_size(root) : 0;

    if (yyjson_is_arr(root) && yyjson_arr_iter_init(root, &iter))
        while ((entry = yyjson_arr_iter_next(&iter))) {
            yyjson_val *values = yyjson_obj_get(entry, "ts") ? yyjson_obj_get(entry, "values") : NULL;

            n += yyjson_obj_size(values ? values : entry);
        }
    yyjson_doc_free(doc);
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

void message_attributes_request(struct buf *out, struct str name_json, const struct str *keys, size_t n_keys,
                                bool is_client, uint32_t id)
{
    buf_add_str(out, STR("{\"keys\":["));
    for (size_t i = 0; i < n_keys; i++) {
        if (i)
            buf_add_u8(out, ',');
        json_add_string(out, keys[i]);
    }
    buf_add_str(out, STR("],\"device\":"));
    buf_add_str(out, name_json);
    buf_printf(out, ",\"client\":%s,\"id\":%u}", is_client ? "true" : "false", id);
}

static void add_keys(struct buf *out, const char *member, const struct str *keys, size_t n)
{
    autobuf struct buf joined = {0};

    if (!n)
        return;
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_add_u8(&joined, ',');
        buf_add_str(&joined, keys[i]);
    }
    if (out->p[out->n - 1] != '{')
        buf_add_u8(out, ',');
    json_add_string(out, str_from(member));
    buf_add_u8(out, ':');
    json_add_string(out, buf_str(&joined));
}

void message_own_attributes_request(struct buf *out, const struct str *client_keys, size_t n_client,
                                    const struct str *shared_keys, size_t n_shared)
{
    buf_add_u8(out, '{');
    add_keys(out, "clientKeys", client_keys, n_client);
    add_keys(out, "sharedKeys", shared_keys, n_shared);
    buf_add_u8(out, '}');
}

void message_rpc_reply(struct buf *out, struct str name_json, struct str id, struct str data)
{
    buf_add_str(out, STR("{\"device\":"));
    buf_add_str(out, name_json);
    buf_add_str(out, STR(",\"id\":"));
    buf_add_str(out, id);
    buf_add_str(out, STR(",\"data\":"));
    buf_add_str(out, data);
    buf_add_u8(out, '}');
}

void message_claim(struct buf *out, struct str name_json, struct str secret, int64_t duration_ms)
{
    if (name_json.n) {
        buf_add_u8(out, '{');
        buf_add_str(out, name_json);
        buf_add_u8(out, ':');
    }
    buf_add_str(out, STR("{\"secretKey\":"));
    json_add_string(out, secret);
    buf_printf(out, ",\"durationMs\":%lld}", (long long)duration_ms);
    if (name_json.n)
        buf_add_u8(out, '}');
}
