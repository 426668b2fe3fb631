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
