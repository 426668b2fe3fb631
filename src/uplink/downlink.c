/* SPDX-License-Identifier: Apache-2.0 */
#include "data/json.h"
#include "uplink/messages.h"
#include "uplink/session.h"
#include "uplink/topics.h"

/*
 * What goes to the platform beside stored data: replies, requests, data of the gateway itself. It is sent before data, under the
 * limiter it is charged to, or waits in a bounded queue of that limiter for tokens and room; a session that ends takes it along.
 */

enum { WAITING_MAX = 1024, WAITING_BYTES_MAX = 4 * 1024 * 1024, NO_ROOM_MS = 100 };

struct waiting {
    struct list node;
    struct str topic, payload; /* behind it */
    uint32_t n_values;
    uint8_t qos;
    char bytes[];
};

static struct list *queue_of(struct uplink *u, enum limit_kind limit)
{
    return &u->waiting[limit == LIMIT_OWN ? 0 : limit == LIMIT_OWN_MESSAGES ? 1 : 2];
}

static void waiting_free(struct uplink *u, struct waiting *waiting)
{
    list_del(&waiting->node);
    u->n_waiting--;
    u->waiting_bytes -= waiting->topic.n + waiting->payload.n;
    mem_free(waiting);
}

/* Gives 0 when it is sent, else ms until it may be. */
static uint64_t send_now(struct uplink *u, enum limit_kind limit, struct str topic, struct str payload, uint8_t qos,
                         uint32_t n_values)
{
    struct limiter *limiter = &u->limiters[limit], *values = &u->limiters[LIMIT_OWN_VALUES];
    uint64_t now = loop_mono_ms(u->loop), wait = limiter_wait(limiter, 1, now);

    if (limit == LIMIT_OWN) {
        uint64_t more = limiter_wait(values, n_values, now);

        wait = more > wait ? more : wait;
    }
    if (wait)
        return wait;
    if (!deliver_own(u->deliver, topic, payload, qos < u->max_qos ? qos : u->max_qos))
        return NO_ROOM_MS; /* or earlier: at the next acknowledgement */
    limiter_spend(limiter, 1);
    if (limit == LIMIT_OWN)
        limiter_spend(values, n_values);
    return 0;
}

void downlink_wake(struct uplink *u)
{
    static const enum limit_kind kinds[] = {LIMIT_OWN_MESSAGES, LIMIT_DEVICE_MESSAGES, LIMIT_OWN};
    uint64_t next = 0;

    if (LIKELY(!u->n_waiting))
        return;
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        struct list *queue = queue_of(u, kinds[i]), *node;
        uint64_t wait = 0;

        while (!wait && (node = list_first(queue))) {
            struct waiting *waiting = CONTAINER_OF(node, struct waiting, node);

            wait = send_now(u, kinds[i], waiting->topic, waiting->payload, waiting->qos, waiting->n_values);
            if (!wait)
                waiting_free(u, waiting);
        }
        if (wait && (!next || wait < next))
            next = wait;
    }
    if (next)
        timer_start(&u->waiting_timer, next);
    else
        timer_stop(&u->waiting_timer);
}

static void waiting_due(void *arg)
{
    downlink_wake(arg);
}

static void keep(struct uplink *u, struct list *queue, struct str topic, struct str payload, uint8_t qos,
                 uint32_t n_values)
{
    struct waiting *waiting = mem_new(sizeof *waiting + topic.n + payload.n);

    *waiting = (struct waiting){.n_values = n_values, .qos = qos};
    waiting->topic = str_of(memcpy(waiting->bytes, topic.p, topic.n), topic.n);
    waiting->payload = str_of(waiting->bytes + topic.n, payload.n);
    if (payload.n)
        memcpy(waiting->bytes + topic.n, payload.p, payload.n);
    list_add_tail(queue, &waiting->node);
    u->n_waiting++;
    u->waiting_bytes += topic.n + payload.n;
}

bool uplink_send(struct uplink *u, enum limit_kind limit, struct str topic, struct str payload, uint8_t qos)
{
    struct list *queue = queue_of(u, limit);
    uint32_t n_values = limit == LIMIT_OWN ? message_count_values(payload) : 0;
    uint64_t wait;

    loop_assert(u->loop);
    if (!u->is_up || (limit == LIMIT_OWN && u->state != UPLINK_READY)) {
        LOG_DEBUG(u->log, "message dropped: there is no session", KV_STR("topic", topic));
        return false;
    }
    wait = list_is_empty(queue) ? send_now(u, limit, topic, payload, qos, n_values) : NO_ROOM_MS;
    if (!wait)
        return true;
    if (u->n_waiting == WAITING_MAX || u->waiting_bytes + payload.n > WAITING_BYTES_MAX) {
        LOG_WARN(u->log, "message dropped: too many wait for the platform's rate limit", KV_STR("topic", topic));
        return false;
    }
    keep(u, queue, topic, payload, qos, n_values);
    if (!timer_is_running(&u->waiting_timer))
        timer_start(&u->waiting_timer, wait);
    return true;
}

void downlink_init(struct uplink *u)
{
    for (size_t i = 0; i < COUNT_OF(u->waiting); i++)
        list_init(&u->waiting[i]);
    timer_init(&u->waiting_timer, u->loop, waiting_due, u);
}

void downlink_forget(struct uplink *u)
{
    timer_stop(&u->waiting_timer);
    for (size_t i = 0; i < COUNT_OF(u->waiting); i++)
        LIST_EACH_SAFE(node, &u->waiting[i])
            waiting_free(u, CONTAINER_OF(node, struct waiting, node));
}

/* The platform ended a device's session (platform-api.md 3.2). One exceeded limit ends many: it counts once. */
static void device_was_closed(struct uplink *u, struct str payload)
{
    enum { REASON_RATE_LIMIT = 150, SAME_MS = 1000 };
    static const enum limit_kind kinds[] = {LIMIT_DEVICE, LIMIT_DEVICE_VALUES, LIMIT_DEVICE_MESSAGES};
    const struct limiter *first = &u->limiters[kinds[0]];
    uint64_t now = loop_mono_ms(u->loop);
    yyjson_doc *doc = json_read(payload, NULL);
    int64_t reason;

    LOG_DEBUG(u->log, "the platform ended a device's session", KV_STR("payload", payload));
    if (json_to_i64(json_get(yyjson_doc_get_root(doc), STR("reason")), &reason) == ERR_OK &&
        reason == REASON_RATE_LIMIT && (!first->n_quotas || now - first->quota_ms >= SAME_MS))
        for (size_t i = 0; i < COUNT_OF(kinds); i++)
            limiter_quota(&u->limiters[kinds[i]], now);
    yyjson_doc_free(doc);
}

void downlink_message(struct uplink *u, struct str topic, struct str payload)
{
    if (str_eq(topic, TOPIC_DISCONNECT)) {
        device_was_closed(u, payload);
        return;
    }
    if (u->events.message)
        u->events.message(u->arg, topic, payload);
}
