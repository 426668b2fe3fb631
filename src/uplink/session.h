/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SESSION_H
#define IOTGW_SESSION_H
/*
 * The uplink's inside: the supervised connection (session.c), what arrives on it (downlink.c), and the glue to delivery
 * (uplink.c). Private to the room; owner thread: the uplink's loop.
 */
#include "io/backoff.h"
#include "io/retry.h"
#include "uplink/deliver.h"
#include "uplink/limits.h"
#include "uplink/reject.h"
#include "uplink/uplink.h"

enum { SESSION_LIMIT_TEXT = 160, SESSION_FILTERS = 8, SESSION_ECHOES = 64 };

struct uplink {
    struct loop *loop;
    struct log *log;
    struct uplink_conf conf;
    struct uplink_events events;
    void *arg;
    struct deliver *deliver;
    struct reject_file rejected;

    /* connection */
    struct mqtt *mqtt;
    struct mqtt_conf attempt;    /* the one running */
    char client_id[32];          /* generated for 3.1.1 */
    struct provision *provision; /* NULL: there are credentials */
    bool is_provisioned;
    struct backoff backoff, refused;
    struct retry retry;
    struct timer ready, ask, resubscribe;
    enum uplink_state state;
    int64_t since_ms;
    unsigned n_attempts;
    uint64_t n_reconnects;
    char reason[300];
    bool is_v3, is_version_known; /* what this server speaks */
    unsigned n_silent_closes;     /* in a row, before CONNACK */
    bool is_busy;                 /* between mqtt_connect and .closed */
    bool is_up;                   /* between CONNACK and .closed */
    bool is_own_close;            /* the close that follows is ours */
    bool is_not_gateway;
    uint64_t taken_over_ms[2]; /* the two before the latest */
    bool is_refused[SESSION_FILTERS], is_provoking;
    /* 3.1.1 has no No Local: what we published on a topic that we have subscribed to may come back. */
    struct session_echo {
        uint64_t hash, ms;
    } echoes[SESSION_ECHOES];
    unsigned n_echoes;
    uint16_t subscribe_id, provoke_id;
    uint8_t subscribe_order[SESSION_FILTERS]; /* filters of the packet that is waiting for its SUBACK */

    /* what the platform says */
    uint32_t n_requests, limits_request; /* RPCs to the server, counted from 1 in each session; 0: none is open */
    struct limiter limiters[LIMIT_KINDS];
    char limit_text[LIMIT_KINDS][SESSION_LIMIT_TEXT]; /* negotiated; as parsed */
    bool is_negotiated[LIMIT_KINDS];
    uint64_t max_payload, max_inflight; /* 0: not told */
    uint32_t connack_max_packet;
    uint16_t connack_receive_max;
    uint8_t max_qos,
        qos; /* the server's, and of this session's publications: the configured one, or less if the server takes less */
    uint32_t payload_limit;
    size_t told_bytes;
    unsigned told_values, window;

    /* what waits for tokens or room: own data, own messages, messages of devices; oldest first */
    struct list waiting[3];
    unsigned n_waiting;
    size_t waiting_bytes;
    struct timer waiting_timer;

    char *rate_texts[LIMIT_KINDS]; /* of uplink_tune, for conf.rate; NULL: as at the start */
    struct session_change {        /* change.c; done NULL: none is under way */
        uplink_changed_fn *done;
        void *arg;
        struct mqtt_conf before;
        uint8_t before_qos;
        const char *before_no_login;
        const struct provision_conf *before_provisioning;
        struct provision *before_provision, *unused; /* unused: freed before the next attempt */
        bool before_is_provisioned;
        struct timer timer;
        bool is_fresh; /* the close, or the end of provisioning, that follows makes room for it */
        bool is_extended, is_late;
    } change;

    /* stopping */
    bool is_stopping, is_closed;
    unsigned stop_phase;
    uint64_t stop_until_ms;
    struct timer stop_timer;
    struct closer closer;
};

void session_init(struct uplink *uplink);
void session_fini(struct uplink *uplink);
void session_start(struct uplink *uplink);
void session_stop(
    struct uplink *uplink); /* DISCONNECT and no new attempt; session_closed_for_good follows, at once or later */
void session_closed_for_good(struct uplink *uplink); /* uplink.c */
extern const struct deliver_link session_link;       /* its arg: the uplink */
/* Payload, hard limit and window from what is known now; tells delivery and the gateway. */
void session_apply_limits(struct uplink *uplink);
/* conf.rate or conf.rate_percent has changed for this limit: what is spent of the former one is spent of the new one. */
void session_rate_changed(struct uplink *uplink, unsigned i_rate, bool is_percent);

/* change.c: other settings while the program runs. */
void change_init(struct uplink *u);
void change_fini(struct uplink *u);
struct provision *change_busy_provision(const struct uplink *u); /* NULL: none asks for credentials */
void change_attempt(struct uplink *u);                           /* nothing is under way */
/* An attempt to get credentials has ended. True: what follows is the change's business. */
bool change_provisioned(struct uplink *u, enum err err, const struct credentials *credentials);
/* session.c */
struct provision *session_provision_new(struct uplink *u, const struct provision_conf *conf);
void session_log_in_with(struct mqtt_conf *mqtt, const struct credentials *credentials,
                         const struct provision_conf *provision);
void change_ready(struct uplink *u);
uint64_t change_closed(struct uplink *u, uint64_t pause_ms);      /* gives the pause before the next attempt */
uint64_t change_pause(const struct uplink *u, uint64_t pause_ms); /* the same, after provisioning */
void change_stop(struct uplink *u);

/* downlink.c: a message of the platform, already acknowledged. */
void downlink_message(struct uplink *uplink, struct str topic, struct str payload);
void downlink_init(struct uplink *uplink);
void downlink_wake(struct uplink *uplink);   /* there may be room */
void downlink_forget(struct uplink *uplink); /* what waits is of a session that is over */
#endif
