/* SPDX-License-Identifier: Apache-2.0 */
#include "data/json.h"
#include "uplink/messages.h"
#include "uplink/session.h"
#include "uplink/topics.h"

/*
 * What the platform sends. No connector can be reached by commands: so each request is answered, truthfully, at once, and attribute
 * updates are only logged.
 */

enum { REPLIES_MAX = 256, NO_ROOM_MS = 100 };

struct reply {
    struct list node;
    enum limit_kind limit;
    struct buf topic, payload;
};

static void reply_free(struct uplink *uplink, struct reply *reply)
{
    list_del(&reply->node);
    uplink->n_replies--;
    buf_fini(&reply->topic);
    buf_fini(&reply->payload);
    mem_free(reply);
}

/* Gives 0 when it is sent, else ms until it may be. */
static uint64_t reply_send(struct uplink *uplink, const struct reply *reply)
{
    struct limiter *limiter = &uplink->limiters[reply->limit];
    uint64_t wait = limiter_wait(limiter, 1, loop_mono_ms(uplink->loop));

    if (wait)
        return wait;
    if (!deliver_own(uplink->deliver, buf_str(&reply->topic), buf_str(&reply->payload), uplink->max_qos ? 1 : 0))
        return NO_ROOM_MS;
    limiter_spend(limiter, 1);
    return 0;
}

static void replies_due(void *arg)
{
    struct uplink *uplink = arg;
    struct list *node;

    while ((node = list_first(&uplink->replies))) {
        struct reply *reply = CONTAINER_OF(node, struct reply, node);
        uint64_t wait = reply_send(uplink, reply);

        if (wait) {
            timer_start(&uplink->reply_timer, wait);
            return;
        }
        reply_free(uplink, reply);
    }
}

static void reply(struct uplink *uplink, enum limit_kind limit, struct str topic, struct str payload)
{
    struct reply *reply;

    if (uplink->n_replies == REPLIES_MAX) {
        LOG_WARN(uplink->log, "reply dropped: too many wait for the platform's rate limit", KV_STR("topic", topic));
        return;
    }
    reply = mem_zero(sizeof *reply);
    reply->limit = limit;
    buf_add_str(&reply->topic, topic);
    buf_add_str(&reply->payload, payload);
    list_add_tail(&uplink->replies, &reply->node);
    uplink->n_replies++;
    if (!timer_is_running(&uplink->reply_timer))
        replies_due(uplink);
}

void downlink_init(struct uplink *uplink)
{
    list_init(&uplink->replies);
    timer_init(&uplink->reply_timer, uplink->loop, replies_due, uplink);
}

void downlink_forget(struct uplink *uplink)
{
    struct list *node;

    timer_stop(&uplink->reply_timer);
    while ((node = list_first(&uplink->replies)))
        reply_free(uplink, CONTAINER_OF(node, struct reply, node));
}

/* v1/devices/me/rpc/request/N */
static void own_rpc(struct uplink *uplink, struct str number, yyjson_val *root)
{
    autobuf struct buf topic = {0};
    struct str method = json_str(json_get(root, STR("method")));

    LOG_DEBUG(uplink->log, "request of the platform", KV_STR("method", method));
    buf_add_str(&topic, TOPIC_OWN_RPC_RESPONSE);
    buf_add_str(&topic, number);
    reply(uplink, LIMIT_OWN_MESSAGES, buf_str(&topic),
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
    reply(uplink, LIMIT_DEVICE_MESSAGES, TOPIC_RPC, buf_str(&out));
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
