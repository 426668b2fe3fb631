/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_NORTH_H
#define IOTGW_NORTH_H
/*
 * The main loop's way to the platform: messages of the platform come out of it parsed, replies, requests and data of the gateway
 * itself go in. Everything is copied and crosses to the uplink's loop by a mailbox; nothing waits.
 *
 * Owner thread: the main loop, but for the three functions under "uplink's loop". What an event hands over lives until it returns.
 * Bounds: messages of the platform that the main loop has not taken yet (16 MiB; more is dropped, with a warning), open
 * requests (4096), what waits to be sent (uplink_send).
 * Requests: ids count from 1 in each session (platform-api.md 2); a request belongs to the session it was made in and fails
 * with it.
 */
#include "data/device.h"
#include "data/json.h"
#include "uplink/uplink.h"

struct north;
struct north_events {                                                /* NULL: nobody is interested */
    void (*state)(void *arg, enum uplink_state state);               /* READY: a session is up; else it is not */
    void (*own_rpc)(void *arg, struct str number, yyjson_val *root); /* v1/devices/me/rpc/request/N; numbers raw */
    void (*device_rpc)(void *arg, yyjson_val *root);                 /* v1/gateway/rpc */
    void (*own_attributes)(void *arg, yyjson_val *root);    /* shared attributes of the gateway itself; an object */
    void (*device_attributes)(void *arg, yyjson_val *root); /* v1/gateway/attributes */
    void (*firmware)(void *arg, uint64_t request, uint64_t chunk, struct str bytes); /* v2/fw/response/R/chunk/I */
};
struct north_link { /* what north needs of the uplink; called on the uplink's loop */
    bool (*send)(void *arg, enum limit_kind limit, struct str topic, struct str payload, uint8_t qos);
    struct uplink_status (*status)(void *arg);
};

struct north *north_new(struct loop *main, struct loop *uplink_loop, struct log *log, const struct north_events *events,
                        void *arg);
void north_stop(struct north *north); /* fails what is open; main loop, or no loop runs any more */
void north_free(struct north *north); /* no loop runs any more; open requests are not answered. NULL allowed */

/* --- uplink's loop ------------------------------------------------------------------------------------------------------ */
void north_attach(struct north *north, struct uplink *uplink); /* once it is there, before it starts */
void north_attach_link(struct north *north, const struct north_link *link,
                       void *arg);                                     /* the same, for tests and dry runs */
void north_uplink_state(struct north *north, enum uplink_state state); /* uplink_events.state */
void north_uplink_message(struct north *north, struct str topic, struct str payload); /* uplink_events.message */

/* --- main loop ------------------------------------------------------------------------------------------------------------ */
void north_own_telemetry(struct north *north, struct str json); /* platform-api.md 2; dropped without a session */
/* An object. The latest value of each key is kept and sent again at the beginning of each session. */
void north_own_attributes(struct north *north, struct str json);
void north_forget_own_attribute(struct north *north, struct str key); /* it is not sent again */
/* An answer that is larger than the platform takes is replaced by an error that says so. */
void north_reply_own(struct north *north, struct str number, struct str json, uint8_t qos);
void north_reply_device(struct north *north, struct device *dev, struct str id_json, struct str data_json);
/* The same under a name as the platform gave it, a JSON string. dev: whose it is; NULL: unknown. */
void north_reply_name(struct north *north, struct device *dev, struct str name_json, struct str id_json,
                      struct str data_json);
/*
 * Exactly once, never before the request has returned. ERR_OK: root is what came; ERR_TIMEOUT after 20 s, ERR_CLOSED without
 * a session or when it ends, ERR_BUSY: too many are open; then root is NULL.
 */
typedef void north_answer_fn(void *arg, enum err err, yyjson_val *root);
/* root: {"client":{…},"shared":{…}}, each part may be missing. None and none: everything. */
void north_request_own_attributes(struct north *north, const struct str *client, size_t n_client,
                                  const struct str *shared, size_t n_shared, north_answer_fn *answer, void *arg);
/* One scope, at least one key. root: an object of those that are set. */
void north_request_attributes(struct north *north, struct device *dev, const struct str *keys, size_t n, bool is_client,
                              north_answer_fn *answer, void *arg);
/* A part of the firmware: dropped without a session, answered by .firmware or not at all. */
void north_firmware_request(struct north *north, uint64_t request, uint32_t chunk, uint32_t chunk_bytes);
struct uplink_status
north_status(struct north *north); /* latest known; asks for a newer one if it is older than a second */
bool north_is_ready(const struct north *north);
#endif
