/* SPDX-License-Identifier: Apache-2.0 */
/*
 *     two-way:  SUBSCRIBING ──SUBACK──► REQUESTING ──handed over──► (its turn at the topic) ──message──► replied
 *     one-way:                          REQUESTING ──handed over; QoS 1, 2: acknowledged──► replied
 *     each state ends by its timer, too
 */
#include "mqtt_rpc.h"

#include "connector/ctx.h"
#include "mqtt/mqtt.h"

enum { SUBACK_MS = 1000, ACK_MS = 5000, GRACE_MS = 250, STALE_MAX = 1000 };

enum rpc_state { RPC_SUBSCRIBING, RPC_REQUESTING };

struct response_topic {
    struct list stale; /* in rpcs.stale, when nobody waits any more */
    struct list rpcs;  /* of struct rpc.turn, in the order of their requests */
    struct str name;   /* in bytes */
    uint8_t qos;
    bool is_covered, is_subscribed;
    uint16_t packet_id; /* of a SUBSCRIBE that is not answered; 0: none */
    char bytes[];
};

struct rpc {
    struct list node, turn;
    struct rpcs *rpcs;
    struct command *command;
    enum rpc_state state;
    struct response_topic *topic; /* NULL: one-way */
    struct publication *request;  /* NULL: not made yet, or over */
    bool is_sent;                 /* handed over to the connection */
    uint64_t timeout_ms, deadline_ms;
    struct timer timer;
    struct down_message message; /* in bytes, until it is handed over */
    char bytes[];
};

static void reply(struct rpcs *rpcs, struct command *command, enum err err, struct str json)
{
    ctx_host_functions.reply(rpcs->ctx, command, err, json);
}

/* --- response topics -------------------------------------------------------------------------------------------------------- */

static enum err subscribe(struct rpcs *rpcs, struct response_topic *topic)
{
    /* A message that was there before the request is not its response. */
    const struct mqtt_filter filter = {.filter = topic->name, .qos = topic->qos, .retain_handling = 2};

    topic->is_subscribed = false;
    return mqtt_subscribe(rpcs->mqtt, &filter, 1, &topic->packet_id);
}

static void unsubscribe(struct rpcs *rpcs, struct response_topic *topic)
{
    enum err err = mqtt_unsubscribe(rpcs->mqtt, &topic->name, 1, &topic->packet_id);

    if (!err)
        return;
    topic->packet_id = 0;
    LOG_DEBUG(ctx_log(rpcs->ctx), "response topic could not be unsubscribed", KV_STR("topic", topic->name),
              KV_ERR(err));
}

/* Kept until the broker has confirmed it: it may keep the session over a lost connection, and with it the subscription. */
static void end_subscription(struct rpcs *rpcs, struct response_topic *topic)
{
    list_add_tail(&rpcs->stale, &topic->stale);
    rpcs->n_stale++;
    if (rpcs->is_up)
        unsubscribe(rpcs, topic);
}

static void free_stale(struct rpcs *rpcs, struct response_topic *topic)
{
    list_del(&topic->stale);
    rpcs->n_stale--;
    mem_free(topic);
}

static struct response_topic *make_topic(struct rpcs *rpcs, struct str name, uint8_t qos)
{
    struct response_topic *topic = mem_zero(sizeof *topic + name.n);

    memcpy(topic->bytes, name.p, name.n);
    topic->name = str_of(topic->bytes, name.n);
    topic->qos = qos;
    list_init(&topic->rpcs);
    topic->is_covered = rpcs->is_covered && rpcs->is_covered(rpcs->arg, name, qos);
    (void)map_put(&rpcs->topics, topic->name, topic);
    return topic;
}

static void leave_topic(struct rpcs *rpcs, struct rpc *rpc)
{
    struct response_topic *topic = rpc->topic;

    list_del(&rpc->turn);
    if (!topic || !list_is_empty(&topic->rpcs))
        return;
    (void)map_del(&rpcs->topics, topic->name);
    if (!topic->is_covered && (topic->is_subscribed || topic->packet_id))
        end_subscription(rpcs, topic);
    else
        mem_free(topic);
    if (rpcs->n_stale > STALE_MAX)
        free_stale(rpcs, CONTAINER_OF(list_first(&rpcs->stale), struct response_topic, stale));
}

/* --- the end of one ----------------------------------------------------------------------------------------------------------- */

static void end(struct rpc *rpc, enum err err, struct str json)
{
    struct rpcs *rpcs = rpc->rpcs;

    timer_stop(&rpc->timer);
    outbox_cancel(rpcs->outbox, rpc->request);
    list_del(&rpc->node);
    leave_topic(rpcs, rpc);
    reply(rpcs, rpc->command, err, json);
    mem_free(rpc);
}

static void fail(struct rpc *rpc, enum err err, const char *text)
{
    struct arena *arena = &rpc->rpcs->arena;

    arena_reset(arena);
    end(rpc, err, down_error(str_from(text), arena));
}

static const struct str without_reply = {"{\"success\":false}", 17};

static void timer_fired(void *arg)
{
    struct rpc *rpc = arg;

    if (rpc->state == RPC_SUBSCRIBING)
        fail(rpc, ERR_TIMEOUT, "the broker did not confirm the subscription of the response topic within 1 s");
    else if (!rpc->topic)
        fail(rpc, ERR_TIMEOUT, "the broker did not acknowledge the request within 5 s");
    else
        end(rpc, ERR_TIMEOUT, without_reply);
}

/* --- the request --------------------------------------------------------------------------------------------------------------- */

static void request_done(void *arg, enum err err, const char *text)
{
    struct rpc *rpc = arg;

    rpc->request = NULL;
    rpc->is_sent |= err != ERR_CANCELLED;
    if (!rpc->topic && !err)
        end(rpc, ERR_OK, STR("{\"success\":true}"));
    else if (!rpc->topic || (err && err != ERR_CLOSED))
        fail(rpc, err, text);
    /* Two-way: the response counts, over a lost connection too. */
}

static const char *failure_text(enum err err)
{
    switch ((int)err) {
    case ERR_CLOSED:
        return "not connected to the broker";
    case ERR_UNSUPPORTED:
        return "the broker does not offer this quality of service, or no retained messages";
    case ERR_LIMIT:
        return "the request is larger than the broker allows";
    default:
        return err_text(err);
    }
}

/* Nobody waits any more behind the command's deadline. */
static void start_timer(struct rpc *rpc, uint64_t delay_ms)
{
    uint64_t due_ms = loop_mono_ms(ctx_loop(rpc->rpcs->ctx)) + delay_ms;

    timer_start_at(&rpc->timer, due_ms < rpc->deadline_ms ? due_ms : rpc->deadline_ms);
}

static void request(struct rpc *rpc)
{
    enum err err;

    rpc->state = RPC_REQUESTING;
    start_timer(rpc, rpc->topic ? rpc->timeout_ms : ACK_MS);
    err = outbox_send(rpc->rpcs->outbox, &rpc->message, request_done, rpc, &rpc->request);
    if (err)
        fail(rpc, err, failure_text(err));
    else if (!rpc->request && !rpc->topic)
        end(rpc, ERR_OK, STR("{\"success\":true}"));
    else if (!rpc->request)
        rpc->is_sent = true;
}

static struct rpc *make_rpc(struct rpcs *rpcs, struct command *command, const struct down_rpc *down)
{
    const struct down_message *message = &down->request;
    struct rpc *rpc = mem_zero(sizeof *rpc + message->topic.n + message->payload.n);

    rpc->rpcs = rpcs;
    rpc->command = command;
    rpc->timeout_ms = down->timeout_ms;
    rpc->deadline_ms =
        ctx_deadline(rpcs->ctx, command, GRACE_MS + (down->response_topic.p ? SUBACK_MS + down->timeout_ms : ACK_MS));
    rpc->message = *message;
    memcpy(rpc->bytes, message->topic.p, message->topic.n);
    if (message->payload.n)
        memcpy(rpc->bytes + message->topic.n, message->payload.p, message->payload.n);
    rpc->message.topic.p = rpc->bytes;
    rpc->message.payload.p = rpc->bytes + message->topic.n;
    timer_init(&rpc->timer, ctx_loop(rpcs->ctx), timer_fired, rpc);
    list_add_tail(&rpcs->open, &rpc->node);
    return rpc;
}

static void await_response(struct rpc *rpc, const struct down_rpc *down)
{
    struct rpcs *rpcs = rpc->rpcs;
    struct response_topic *topic = map_get(&rpcs->topics, down->response_topic);
    enum err err = ERR_OK;

    if (!topic)
        topic = make_topic(rpcs, down->response_topic, down->response_qos);
    rpc->topic = topic;
    list_add_tail(&topic->rpcs, &rpc->turn);
    if (topic->is_covered || topic->is_subscribed) {
        request(rpc);
        return;
    }
    rpc->state = RPC_SUBSCRIBING;
    start_timer(rpc, SUBACK_MS);
    if (!topic->packet_id)
        err = subscribe(rpcs, topic);
    if (err)
        fail(rpc, err, failure_text(err));
}

void rpcs_command(struct rpcs *rpcs, struct command *command, bool deaf)
{
    const struct rpc_call call = {.device = command->dev ? device_name(command->dev) : STR_NONE,
                                  .method = command->method,
                                  .id = command->id,
                                  .params = command->params};
    struct down_rpc down;
    struct why why = {0};
    const char *text = NULL;
    struct rpc *rpc;
    enum err err;

    arena_reset(&rpcs->arena);
    err = down_rpc(rpcs->file, &call, &rpcs->arena, &down, &why);
    if (err)
        text = why_text(&why);
    else if (!rpcs->is_up)
        text = failure_text(err = ERR_CLOSED);
    else if (deaf && (down.response_topic.p || down.request.qos))
        text = (err = ERR_BUSY, "busy: nothing is read from the broker while storage has no room");
    if (text) {
        reply(rpcs, command, err, down_error(str_from(text), &rpcs->arena));
        return;
    }
    rpc = make_rpc(rpcs, command, &down);
    if (down.response_topic.p)
        await_response(rpc, &down);
    else
        request(rpc);
}

/* --- what the broker sends ------------------------------------------------------------------------------------------------------ */

bool rpcs_take(struct rpcs *rpcs, const struct mqtt_message *message)
{
    struct response_topic *topic = map_get(&rpcs->topics, message->topic);

    if (!topic || message->retain) /* retained: from before the request */
        return false;
    LIST_EACH(node, &topic->rpcs) {
        struct rpc *rpc = CONTAINER_OF(node, struct rpc, turn);

        if (rpc->state == RPC_REQUESTING && (rpc->is_sent || (rpc->request && publication_is_sent(rpc->request)))) {
            arena_reset(&rpcs->arena);
            end(rpc, ERR_OK, down_response(str_of(message->payload, message->payload_n), &rpcs->arena));
            return true;
        }
    }
    return false;
}

static struct response_topic *topic_asked(struct rpcs *rpcs, uint16_t packet_id)
{
    for (struct map_slot *slot = NULL; (slot = map_next(&rpcs->topics, slot));) {
        struct response_topic *topic = slot->value;

        if (topic->packet_id == packet_id)
            return topic;
    }
    return NULL;
}

/* Not the topic itself: it goes with its last request. */
static void go_on(struct rpcs *rpcs, struct response_topic *topic, const char *refusal)
{
    struct list mine, *node;

    list_init(&mine);
    LIST_EACH_SAFE(open, &rpcs->open) {
        struct rpc *rpc = CONTAINER_OF(open, struct rpc, node);

        if (rpc->topic == topic && (refusal || rpc->state == RPC_SUBSCRIBING)) {
            list_del(&rpc->node);
            list_add_tail(&mine, &rpc->node);
        }
    }
    while ((node = list_take_first(&mine))) {
        struct rpc *rpc = CONTAINER_OF(node, struct rpc, node);

        list_add_tail(&rpcs->open, node);
        if (refusal)
            fail(rpc, ERR_REFUSED, refusal);
        else
            request(rpc);
    }
}

static void unsubscribed(struct rpcs *rpcs, uint16_t packet_id)
{
    LIST_EACH(node, &rpcs->stale) {
        struct response_topic *topic = CONTAINER_OF(node, struct response_topic, stale);

        if (topic->packet_id == packet_id) {
            free_stale(rpcs, topic);
            return;
        }
    }
}

void rpcs_subscribed(struct rpcs *rpcs, uint16_t packet_id, const uint8_t *codes, size_t n)
{
    struct response_topic *topic = topic_asked(rpcs, packet_id);
    char text[160];

    if (!topic) { /* of an UNSUBSCRIBE, or of a request that is over */
        unsubscribed(rpcs, packet_id);
        return;
    }
    topic->packet_id = 0;
    topic->is_subscribed = n == 1 && codes[0] < 0x80;
    snprintf(text, sizeof text, "the broker refuses the subscription of the response topic: %s",
             n == 1 ? mqtt_reason_text((enum mqtt_version)rpcs->outbox->version, false, codes[0]) : "malformed answer");
    go_on(rpcs, topic, topic->is_subscribed ? NULL : text);
}

/* --- the connection -------------------------------------------------------------------------------------------------------------- */

/* A session that was kept may have them still; those that are in use again are none of these. */
static void tidy_stale(struct rpcs *rpcs, bool session_present)
{
    LIST_EACH_SAFE(node, &rpcs->stale) {
        struct response_topic *topic = CONTAINER_OF(node, struct response_topic, stale);

        if (session_present && !map_get(&rpcs->topics, topic->name))
            unsubscribe(rpcs, topic);
        else
            free_stale(rpcs, topic);
    }
}

void rpcs_up(struct rpcs *rpcs, bool session_present)
{
    struct list *node, again;

    rpcs->is_up = true;
    tidy_stale(rpcs, session_present);
    if (session_present)
        return;
    list_init(&again);
    for (struct map_slot *slot = NULL; (slot = map_next(&rpcs->topics, slot));) {
        struct response_topic *topic = slot->value;

        if (!topic->is_covered)
            list_add_tail(&again, &topic->stale);
    }
    while ((node = list_take_first(&again))) {
        struct response_topic *topic = CONTAINER_OF(node, struct response_topic, stale);
        enum err err = subscribe(rpcs, topic);

        if (err)
            go_on(rpcs, topic, failure_text(err));
    }
}

void rpcs_down(struct rpcs *rpcs)
{
    struct list *node, subscribing;

    rpcs->is_up = false;
    list_init(&subscribing);
    LIST_EACH_SAFE(open, &rpcs->open) {
        struct rpc *rpc = CONTAINER_OF(open, struct rpc, node);

        if (rpc->topic)
            rpc->topic->packet_id = 0;
        if (rpc->state == RPC_SUBSCRIBING) {
            list_del(open);
            list_add_tail(&subscribing, open);
        }
    }
    while ((node = list_first(&subscribing)))
        fail(CONTAINER_OF(node, struct rpc, node), ERR_CLOSED, "the connection to the broker was lost");
}

void rpcs_stop(struct rpcs *rpcs)
{
    struct list *node;

    while ((node = list_first(&rpcs->open)))
        end(CONTAINER_OF(node, struct rpc, node), ERR_CLOSED, without_reply);
}

void rpcs_init(struct rpcs *rpcs, struct ctx *ctx, struct mqtt *mqtt, struct outbox *outbox,
               const struct mqtt_file *file)
{
    *rpcs = (struct rpcs){.ctx = ctx, .mqtt = mqtt, .outbox = outbox, .file = file};
    list_init(&rpcs->open);
    list_init(&rpcs->stale);
    arena_init(&rpcs->arena, 4096);
}

void rpcs_fini(struct rpcs *rpcs)
{
    if (!rpcs->ctx)
        return;
    rpcs->is_up = false;
    tidy_stale(rpcs, false);
    map_fini(&rpcs->topics);
    arena_fini(&rpcs->arena);
}
