/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MQTT_OUTBOX_H
#define IOTGW_CONNECTOR_MQTT_OUTBOX_H
/*
 * Publications to the broker, in the order given. They leave at once where the broker takes them; what it does not take
 * yet (its receive maximum, a socket that is full) waits here. Owner thread: the connector's loop.
 *
 * Sent: for an RPC, with a connection only; its end is told. Posted: attribute updates and answers, of which nobody waits
 * for the end. Updates survive the connection: what was not acknowledged, or came meanwhile, goes out when there is one
 * again. At most OUTBOX_MAX of the posted wait, and OUTBOX_BYTES_MAX: beyond that the oldest are dropped, which is logged.
 */
#include "base/list.h"
#include "mqtt_down.h"

struct ctx;
struct mqtt;
enum { OUTBOX_MAX = 1000, OUTBOX_BYTES_MAX = 4 * 1024 * 1024 };

struct publication;
/* ERR_OK: acknowledged, or handed over if QoS 0. ERR_CLOSED: the connection went, it may have arrived; ERR_CANCELLED: it has
 * not been sent. text: of the broker, or of err. The publication is gone then. */
typedef void publication_done_fn(void *arg, enum err err, const char *text);

struct outbox {
    struct ctx *ctx;
    struct mqtt *mqtt;
    int version; /* of MQTT, for the texts of reasons */
    bool is_up, is_resumed;
    struct list waiting, sent; /* of struct publication, oldest first */
    unsigned n_posted, n_in_flight;
    size_t posted_bytes; /* of those that wait */
};

void outbox_init(struct outbox *outbox, struct ctx *ctx, struct mqtt *mqtt, int version);
void outbox_fini(struct outbox *outbox); /* tells nobody */
void outbox_up(struct outbox *outbox, bool session_present);
void outbox_down(struct outbox *outbox);
void outbox_acked(struct outbox *outbox, uint16_t packet_id, uint8_t code);
void outbox_pump(struct outbox *outbox); /* something may have room, or have left */

/* *out: until done or outbox_cancel; NULL: it has gone out already, done is not called. */
NODISCARD enum err outbox_send(struct outbox *outbox, const struct down_message *message, publication_done_fn *done,
                               void *arg, struct publication **out);
bool publication_is_sent(const struct publication *publication);
void outbox_cancel(struct outbox *outbox,
                   struct publication *publication); /* done is not called any more; NULL allowed */
void outbox_post(struct outbox *outbox, const struct down_message *message, bool survives);
#endif
