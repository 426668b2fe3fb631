/* SPDX-License-Identifier: Apache-2.0 */
#include "data/json.h"
#include "uplink/messages.h"
#include "uplink/session.h"
#include "uplink/topics.h"

/*
 * What the platform sends. No connector can be reached by commands: so each request is answered, truthfully, at once, and attribute
 * updates are only logged.
 */

static void reply(struct uplink *uplink, struct str topic, struct str payload)
{
    if (!deliver_own(uplink->deliver, topic, payload, 1))
        LOG_DEBUG(uplink->log, "reply not sent: no room in the window", KV_STR("topic", topic));
}

/* v1/devices/me/rpc/request/N */
static void own_rpc(struct uplink *uplink, struct str number, yyjson_val *root)
{
    autobuf struct buf topic = {0};
    struct str method = json_str(json_get(root, STR("method")));

    LOG_DEBUG(uplink->log, "request of the platform", KV_STR("method", method));
    buf_add_str(&topic, TOPIC_OWN_RPC_RESPONSE);
    buf_add_str(&topic, number);
    reply(uplink, buf_str(&topic),
          str_eq_z(method, "gateway_ping") ? STR("{\"code\":200,\"resp\":\"pong\"}")
                                           : STR("{\"error\":\"Method not found\",\"code\":404}"));
}

/* {"device":D,"data":{"id":N,"method":M,"params":P}} */
static void device_rpc(struct uplink *uplink, yyjson_val *root)
{
    autobuf struct buf name = {0}, id = {0}, out = {0};
    yyjson_val *data = json_get(root, STR("data")), *number = json_get(data, STR("id"));
    struct str device = json_str(json_get(root, STR("device")));

    if (!device.n || !number) {
        LOG_WARN(uplink->log, "request for a device has no device or id");
        return;
    }
    LOG_DEBUG(uplink->log, "request for a device", KV_STR("device", device),
              KV_STR("method", json_str(json_get(data, STR("method")))));
    json_add_string(&name, device);
    json_add_value(&id, number);
    message_rpc_reply(&out, buf_str(&name), buf_str(&id),
                      STR("{\"error\":\"Commands are not available\",\"success\":false}"));
    reply(uplink, TOPIC_RPC, buf_str(&out));
}

void downlink_message(struct uplink *uplink, struct str topic, struct str payload)
{
    yyjson_doc *doc = yyjson_read(payload.p, payload.n, YYJSON_READ_NUMBER_AS_RAW);
    yyjson_val *root = yyjson_doc_get_root(doc);

    if (!doc)
        LOG_WARN(uplink->log, "message of the platform is not JSON", KV_STR("topic", topic),
                 KV_STR("payload", payload));
    else if (str_starts(topic, TOPIC_OWN_RPC_REQUEST))
        own_rpc(uplink, str_skip(topic, TOPIC_OWN_RPC_REQUEST.n), root);
    else if (str_eq(topic, TOPIC_RPC))
        device_rpc(uplink, root);
    else
        LOG_DEBUG(uplink->log, "message of the platform", KV_STR("topic", topic), KV_STR("payload", payload));
    yyjson_doc_free(doc);
}
