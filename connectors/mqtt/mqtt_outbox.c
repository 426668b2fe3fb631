/* SPDX-License-Identifier: Apache-2.0 */
/*
 *     waiting ──mqtt_publish──► sent ──acknowledged, or QoS 0 and its bytes have left──► (gone)
 *        ▲                       │
 *        └── connection lost ────┘  updates only; others end here
 */
#include "mqtt_outbox.h"

#include "connector/ctx.h"
#include "mqtt/mqtt.h"

enum { IN_FLIGHT_MAX = 256, BACKLOG_MAX = 1024 * 1024 };

struct publication {
    struct list node;
    publication_done_fn *done; /* NULL: nobody waits */
    void *arg;
    struct str topic, payload; /* in bytes */
    uint64_t end;              /* QoS 0: position in the stream behind it */
    uint16_t packet_id;        /* of its first transmission */
    uint8_t qos;
    bool retain, is_posted, survives, is_sent, was_sent; /* was: on a connection that is lost */
    char bytes[];
};

static struct publication *publication_of(struct list *node)
{
    return CONTAINER_OF(node, struct publication, node);
}

static size_t bytes_of(const struct publication *publication)
{
    return publication->topic.n + publication->payload.n;
}

static struct publication *make(const struct down_message *message)
{
    struct publication *made = mem_new(sizeof *made + message->topic.n + message->payload.n);

    *made = (struct publication){.qos = message->qos, .retain = message->retain};
    memcpy(made->bytes, message->topic.p, message->topic.n);
    if (message->payload.n)
        memcpy(made->bytes + message->topic.n, message->payload.p, message->payload.n);
    made->topic = str_of(made->bytes, message->topic.n);
    made->payload = str_of(made->bytes + message->topic.n, message->payload.n);
    return made;
}

static void wait_in_line(struct outbox *outbox, struct list *after, struct publication *publication)
{
    publication->is_sent = false;
    list_add_after(after, &publication->node);
    if (publication->is_posted) {
        outbox->n_posted++;
        outbox->posted_bytes += bytes_of(publication);
    }
}

static void leave_line(struct outbox *outbox, struct publication *publication)
{
    if (publication->is_sent) {
        outbox->n_in_flight -= publication->qos > 0;
    } else if (publication->is_posted) {
        outbox->n_posted--;
        outbox->posted_bytes -= bytes_of(publication);
    }
    list_del(&publication->node);
}

/* Out of its list already. */
static void finish(struct outbox *outbox, struct publication *publication, enum err err, const char *text)
{
    if (publication->done)
        publication->done(publication->arg, err, text);
    else if (err && publication->is_posted)
        LOG_WARN(ctx_log(outbox->ctx), "publication dropped", KV_STR("topic", publication->topic),
                 KV_Z("reason", text));
    mem_free(publication);
}

/* --- sending --------------------------------------------------------------------------------------------------------------- */

/* Bytes of QoS 0 that have left are not needed any more. */
static void release(struct outbox *outbox)
{
    uint64_t sent = mqtt_sent(outbox->mqtt);

    LIST_EACH_SAFE(node, &outbox->sent) {
        struct publication *publication = publication_of(node);

        if (publication->qos == 0 && publication->end > sent)
            break;
        if (publication->qos == 0) {
            leave_line(outbox, publication);
            mem_free(publication);
        }
    }
}

static bool is_crowded(const struct outbox *outbox, uint8_t qos)
{
    return (qos && outbox->n_in_flight >= IN_FLIGHT_MAX) ||
           mqtt_queued(outbox->mqtt) - mqtt_sent(outbox->mqtt) > BACKLOG_MAX;
}

static enum err publish(struct outbox *outbox, struct publication *publication, unsigned flags)
{
    struct iovec payload = {(void *)(uintptr_t)publication->payload.p, publication->payload.n};

    return mqtt_publish(outbox->mqtt, publication->topic, &payload, publication->payload.n ? 1 : 0, publication->qos,
                        flags, &publication->packet_id);
}

/* ERR_OK: it stands at the end of sent. ERR_BUSY: it has to wait. */
static NODISCARD enum err hand_over(struct outbox *outbox, struct publication *publication)
{
    unsigned flags = publication->retain ? MQTT_RETAIN : 0;
    enum err err;

    if (is_crowded(outbox, publication->qos))
        return ERR_BUSY;
    err = ERR_EXISTS;
    if (publication->was_sent && publication->qos && outbox->is_resumed)
        err = publish(outbox, publication, flags | MQTT_DUP | MQTT_SAME_ID);
    if (err == ERR_EXISTS)
        err = publish(outbox, publication, flags);
    if (err)
        return err;
    ctx_count(outbox->ctx, IOTGW_MESSAGES_OUT, 1);
    ctx_count(outbox->ctx, IOTGW_BYTES_OUT, bytes_of(publication));
    ctx_wire(outbox->ctx, true, publication->topic, str_of(publication->payload.p, publication->payload.n));
    if (list_is_linked(&publication->node))
        leave_line(outbox, publication);
    publication->is_sent = true;
    publication->end = mqtt_queued(outbox->mqtt);
    outbox->n_in_flight += publication->qos > 0;
    list_add_tail(&outbox->sent, &publication->node);
    return ERR_OK;
}

/* Of QoS 0: its bytes are kept, but nobody waits for it. */
static void forget_waiter(struct publication *publication)
{
    publication->done = NULL;
}

static const char *refusal_text(enum err err)
{
    switch ((int)err) {
    case ERR_UNSUPPORTED:
        return "the broker does not offer this quality of service, or no retained messages";
    case ERR_LIMIT:
        return "it is larger than the broker allows";
    default:
        return err_text(err);
    }
}

void outbox_pump(struct outbox *outbox)
{
    struct list *node;

    release(outbox);
    while (outbox->is_up && (node = list_first(&outbox->waiting))) {
        struct publication *publication = publication_of(node);
        publication_done_fn *done = publication->done;
        void *arg = publication->arg;
        enum err err = hand_over(outbox, publication);

        if (err == ERR_BUSY || err == ERR_CLOSED)
            break;
        if (err) {
            leave_line(outbox, publication);
            finish(outbox, publication, err, refusal_text(err));
        } else if (publication->qos == 0 && done) {
            forget_waiter(publication);
            done(arg, ERR_OK, "");
        }
    }
}

/* --- what comes in ----------------------------------------------------------------------------------------------------------- */

enum err outbox_send(struct outbox *outbox, const struct down_message *message, publication_done_fn *done, void *arg,
                     struct publication **out)
{
    struct publication *publication;
    enum err err = ERR_BUSY;

    *out = NULL;
    if (!outbox->is_up)
        return ERR_CLOSED;
    release(outbox);
    publication = make(message);
    if (list_is_empty(&outbox->waiting))
        err = hand_over(outbox, publication);
    if (err && err != ERR_BUSY) {
        mem_free(publication);
        return err;
    }
    if (!err && message->qos == 0)
        return ERR_OK;
    publication->done = done;
    publication->arg = arg;
    if (err)
        wait_in_line(outbox, outbox->waiting.prev, publication);
    *out = publication;
    return ERR_OK;
}

bool publication_is_sent(const struct publication *publication)
{
    return publication->is_sent;
}

void outbox_cancel(struct outbox *outbox, struct publication *publication)
{
    if (!publication)
        return;
    forget_waiter(publication);
    if (publication->is_sent)
        return; /* the broker's answer is still to come */
    leave_line(outbox, publication);
    mem_free(publication);
}

static void trim(struct outbox *outbox)
{
    LIST_EACH_SAFE(node, &outbox->waiting) {
        struct publication *publication = publication_of(node);

        if (outbox->n_posted <= OUTBOX_MAX && outbox->posted_bytes <= OUTBOX_BYTES_MAX)
            return;
        if (!publication->is_posted)
            continue;
        leave_line(outbox, publication);
        finish(outbox, publication, ERR_FULL, "too many wait for the broker");
    }
}

void outbox_post(struct outbox *outbox, const struct down_message *message, bool survives)
{
    struct publication *publication = make(message);

    publication->is_posted = true;
    publication->survives = survives;
    if (!outbox->is_up && !survives) {
        finish(outbox, publication, ERR_CLOSED, "not connected to the broker");
        return;
    }
    wait_in_line(outbox, outbox->waiting.prev, publication);
    outbox_pump(outbox);
    trim(outbox);
}

/* --- the connection ---------------------------------------------------------------------------------------------------------- */

void outbox_acked(struct outbox *outbox, uint16_t packet_id, uint8_t code)
{
    LIST_EACH_SAFE(node, &outbox->sent) {
        struct publication *publication = publication_of(node);

        if (publication->qos == 0 || publication->packet_id != packet_id)
            continue;
        leave_line(outbox, publication);
        finish(outbox, publication, code < 0x80 ? ERR_OK : ERR_REFUSED,
               code < 0x80 ? "" : mqtt_reason_text((enum mqtt_version)outbox->version, false, code));
        return;
    }
}

void outbox_up(struct outbox *outbox, bool session_present)
{
    outbox->is_up = true;
    outbox->is_resumed = session_present;
    outbox_pump(outbox);
}

/* Those that survive go back to the head of the line in their order; the others end. */
void outbox_down(struct outbox *outbox)
{
    struct list ended;
    struct list *after = &outbox->waiting, *node;

    list_init(&ended);
    outbox->is_up = false;
    LIST_EACH_SAFE(waiting, &outbox->waiting) {
        if (!publication_of(waiting)->survives) {
            leave_line(outbox, publication_of(waiting));
            list_add_tail(&ended, waiting);
        }
    }
    while ((node = list_first(&outbox->sent))) {
        struct publication *publication = publication_of(node);

        leave_line(outbox, publication);
        publication->was_sent = true;
        if (publication->survives) {
            wait_in_line(outbox, after, publication);
            after = node;
        } else if (publication->qos == 0) {
            mem_free(publication); /* it has had its answer when it was handed over */
        } else {
            list_add_tail(&ended, node);
        }
    }
    while ((node = list_take_first(&ended))) {
        struct publication *publication = publication_of(node);

        finish(outbox, publication, publication->was_sent ? ERR_CLOSED : ERR_CANCELLED,
               "the connection to the broker was lost");
    }
    trim(outbox);
}

void outbox_init(struct outbox *outbox, struct ctx *ctx, struct mqtt *mqtt, int version)
{
    *outbox = (struct outbox){.ctx = ctx, .mqtt = mqtt, .version = version};
    list_init(&outbox->waiting);
    list_init(&outbox->sent);
}

void outbox_fini(struct outbox *outbox)
{
    struct list *node;

    if (!outbox->ctx)
        return;
    while ((node = list_take_first(&outbox->waiting)) || (node = list_take_first(&outbox->sent)))
        mem_free(publication_of(node));
}
