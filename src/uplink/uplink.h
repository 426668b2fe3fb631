/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_UPLINK_H
#define IOTGW_UPLINK_H
/*
 * The platform side: one supervised MQTT session, and the delivery of what the store holds.
 *
 * Owner thread: loop 0. Reads the store in chunks, packs records of several devices into PUBLISH payloads, keeps a window of packs
 * in flight, resends the same packs in the same order after a reconnect, acknowledges to the store what the platform
 * has acknowledged (PUBACK < 0x80), announces devices, negotiates limits, obeys rate limits.
 *
 * Files: uplink.c life cycle · session.c connection, subscriptions, limits · pack.c records → payloads (pure) ·
 * deliver.c window, acknowledgement, resending, bisection · limits.c token buckets (pure) · topics.h names.
 */
#include "base/log.h"
#include "mqtt/mqtt.h"
#include "store/store.h"
#include "uplink/limits.h"
#include "uplink/provision.h"

/* The platform ends what is silent for longer than twice that (platform-behaviour.md 1). */
enum { UPLINK_KEEP_ALIVE_MAX_S = 300 };

struct uplink_conf {
    struct mqtt_conf mqtt;                  /* version 5 is tried first unless mqtt.version says 3.1.1 */
    const struct provision_conf *provision; /* the credentials are asked for first; NULL: mqtt has them */
    uint8_t qos;
    uint32_t max_payload_bytes; /* upper bound; 8196 until limits are negotiated */
    bool has_max_payload;       /* the key is in the file: then it also bounds the negotiated limit */
    uint32_t min_pack_delay_ms;
    uint32_t min_pack_values;
    uint32_t max_pack_events; /* storage: events per batch */
    uint32_t backlog_rate;    /* values a second of what waited during an outage; 0: no bound */
    bool batch_devices;
    bool has_firmware;            /* chunks of firmware are subscribed to */
    uint32_t device_keep_alive_s; /* silent devices are kept open (platform-api.md 3); 0: not */
    const char *rate[6]; /* rateLimits dpRateLimits messagesRateLimits deviceRateLimits deviceDp… deviceMessages… */
    unsigned rate_percent;     /* share of each limit that is used */
    const char *rejected_path; /* rejected.jsonl */
    const char *no_login;      /* nothing is attempted, for this reason; NULL: there is a way to log in */
};

enum uplink_state { UPLINK_DOWN, UPLINK_CONNECTING, UPLINK_NEGOTIATING, UPLINK_READY, UPLINK_REFUSED };
struct uplink_status {
    enum uplink_state state;
    int64_t since_ms;
    unsigned n_attempts;
    char reason[300];
    uint64_t n_packs, n_values, n_bytes; /* acknowledged by the platform */
    uint64_t n_events, n_telemetry_values, n_attribute_values;
    uint64_t n_read_events; /* taken from the store and packed */
    uint64_t n_resent, n_rejected_values, n_reconnects;
    unsigned in_flight, window;
    uint32_t payload_limit; /* in force */
    const char *trouble;    /* with the rejected file, or the clock; NULL: none */
    struct uplink_wait {    /* for tokens of the rate limits; the wait that goes on included */
        uint64_t n, ms;
    } waits[LIMIT_KINDS];
};

struct uplink_events {
    void (*state)(void *arg, enum uplink_state state);
    void (*limits)(void *arg, size_t max_record_bytes,
                   unsigned max_record_values); /* records are split to these when encoded */
    /* What the platform sends, already acknowledged; anything. NULL: dropped. */
    void (*message)(void *arg, struct str topic, struct str payload);
};

enum uplink_device_op {
    UPLINK_DEVICE_OPEN,   /* is announced, in this session and in each that follows */
    UPLINK_DEVICE_CLOSE,  /* is disconnected, until its next data */
    UPLINK_DEVICE_FORGET, /* does not exist any more: as close, but nobody is told */
    UPLINK_DEVICE_RENAME, /* is disconnected under its former name, if that is open, and opened under the new one */
};

struct uplink;
struct uplink *uplink_new(struct loop *loop, struct log *log, const struct uplink_conf *conf,
                          const struct uplink_events *events, void *arg);
void uplink_attach(struct uplink *uplink,
                   struct store *store); /* before start; whose .readable calls uplink_readable */
bool uplink_is_drained(
    const struct uplink *uplink); /* nothing of the store is under way: then attach may give another one */
void uplink_start(struct uplink *uplink);
void uplink_readable(struct uplink *uplink);
void uplink_dropped(struct uplink *uplink, struct device *dev); /* the store's .dropped */
/* wires: of each device the new name as device_wire_name gives it, NULL: its own. Only with UPLINK_DEVICE_RENAME. */
void uplink_devices(struct uplink *uplink, enum uplink_device_op op, struct device *const *devs,
                    const char *const *wires, size_t n);
/* The settings of mqtt, qos and provision are those of conf from now on, if a session with them is up within 30 s; else the former ones are used
 * again. Others of conf are not looked at; what it points at stays until the next change. done: exactly once, on this loop, also
 * from within this call. reason: with an error. */
typedef void uplink_changed_fn(void *arg, enum err err, const char *reason);
void uplink_change(struct uplink *uplink, const struct uplink_conf *conf, uplink_changed_fn *done, void *arg);
/* Limits, packing, quiet devices and the rejected file (max_payload_bytes, min_pack_…, max_pack_events, backlog_rate, batch_devices,
 * device_keep_alive_s, rate…, rejected_path) are those of conf from now on, within the session that is up; others of conf are not looked at. Texts are copied. */
void uplink_tune(struct uplink *uplink, const struct uplink_conf *conf);
/* drain_ms: how long waiting records may still be delivered; then in-flight PUBACKs (2 s), disconnects, DISCONNECT. */
void uplink_stop(struct uplink *uplink, uint32_t drain_ms, closed_fn *done, void *arg);
void uplink_free(struct uplink *uplink);
struct uplink_status uplink_status(struct uplink *uplink);
/*
 * A reply, a request or data of the gateway itself: sent before stored data, under the limit it is charged to (LIMIT_OWN: its
 * values too, and not before READY); kept (bounded) while tokens or room lack, dropped with the session. False: dropped at
 * once, there is no session or too much waits.
 */
bool uplink_send(struct uplink *uplink, enum limit_kind limit, struct str topic, struct str payload, uint8_t qos);
#endif
