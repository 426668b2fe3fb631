/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SIM_PLATFORM_H
#define IOTGW_SIM_PLATFORM_H
/*
 * A stand-in for a ThingsBoard-compatible platform: answers, closes and loses as its MQTT endpoint does with default settings
 * (the outcome classes below), keeps the latest values, verifies what arrives (tally.h), and can be told to misbehave. Its JSON
 * is strict on purpose: what a lenient parser would forgive is BAD_JSON here.
 *
 * platform.c: sessions, acknowledgement and what the outcomes mean; platform_topics.c: what is done with each topic; platform_journal.c: what outlives it;
 * platform_load.c: requests at a steady rate; platform_metrics.c: metadata of telemetry; platform_command.c: the lines that steer it; platform_view.c: the live picture. One thread.
 */
#include "access.h"
#include "quota.h"
#include "server.h"
#include "tally.h"

enum outcome { /* X(name): in the order of severity for parts of one message */
#define OUTCOMES                                                                                                       \
    X(OK) X(BAD_PART) X(REFUSED) X(NEVER) X(BAD_JSON) X(BAD_SHAPE) X(CRASH) X(UNKNOWN) X(QUOTA) X(OWN_QUOTA)
#define X(name) OUTCOME_##name,
               OUTCOMES
#undef X
                   OUTCOME_COUNT
};

enum { LIMIT_MESSAGES, LIMIT_TELEMETRY, LIMIT_POINTS, LIMIT_COUNT };

struct platform_conf {
    const char *token;      /* user name that is accepted; NULL: every one */
    const char *limits;     /* JSON, the answer to getSessionLimits; NULL: the default */
    uint64_t refused_ms;    /* time until a refused device is answered; 0: 10000 */
    uint64_t inactivity_ms; /* after so long without a packet a session is ended, a device's too; 0: 600000 */
    uint64_t device_ms;     /* the same of devices' sessions alone; 0: inactivity_ms */
    const char *provision;  /* KEY:SECRET of the device profile that makes devices; NULL: none */
};

struct withheld { /* an acknowledgement that waits */
    uint64_t due_ms;
    uint16_t packet_id;
    uint8_t code;
};

struct session {
    struct server_client *client;
    struct platform *platform;
    uint32_t number; /* from 1 */
    bool is_gateway, is_provisioning;
    bool wants_rpc, wants_attributes;
    char *username;
    char *device;           /* whose credentials let it in; NULL: none were needed */
    struct withheld *burst; /* acknowledgements of one read, where these leave out of order */
    size_t n_burst, cap_burst;
    struct timer idle;
    struct withheld *withheld; /* ring */
    size_t n_withheld, first_withheld, cap_withheld;
    struct timer timer;
};

struct former { /* name of a renamed device: data still go to it while the session lasts in which it was open */
    struct tally_device *device;
    uint32_t session;
    struct str name; /* owned */
};

struct load;
struct platform {
    struct loop *loop;
    struct platform_conf conf;
    struct server *server;
    struct tally tally;
    struct tally_values own_telemetry, own_attributes;
    struct access access;
    struct map shared;   /* device → struct tally_device: shared attributes set by command */
    struct buf replies;  /* to requests, as items of a JSON array, until they are asked for */
    struct buf firmware; /* assigned to the gateway; empty: none */
    struct map former;   /* former name → struct former */

    char *limits; /* answer to getSessionLimits */
    struct quota own[LIMIT_COUNT], gateway[LIMIT_COUNT];

    uint32_t n_sessions;
    unsigned n_requests; /* own-device requests made by commands */
    bool is_gateway;     /* the flag of the device that sessions are opened for */
    bool is_acking, is_shuffling;
    uint64_t delay_ms;
    uint8_t refusal;        /* CONNACK code, as of version 5; 0: none */
    uint8_t forced;         /* PUBACK code; 0: none */
    struct str forced_part; /* owned; of topic or payload; empty: any */

    uint64_t n_packets, n_bytes, n_telemetry, n_connects, n_disconnects, n_own_values, n_own_telemetry, n_refused,
        n_early, n_dup_flags, n_provisioned;
    uint64_t n_pubacks, n_downlinks;
    uint64_t outcomes[OUTCOME_COUNT];
    uint64_t connected_us; /* of the newest session */
    uint64_t ready_us;     /* first session since reset */
    uint64_t awaited;      /* tell when so many different seq are there; 0: no */

    struct map metrics; /* connector → what its metadata says */
    struct timer metrics_timer;

    struct load *load; /* of requests; NULL: there was none */
    uint64_t next_load_id;

    uint8_t *pool; /* of the JSON reader */
    size_t pool_n;
    uint64_t now_us; /* of the packet in hand */
    int journal;     /* descriptor; -1: none is kept */
};

NODISCARD enum err platform_init(struct platform *platform, struct loop *loop, const struct platform_conf *conf,
                                 const struct server_conf *server, struct why *why);
void platform_close(struct platform *platform, struct closer *closer); /* connections; then, after closer's done: */
void platform_fini(struct platform *platform);
void platform_reset(struct platform *platform); /* forgets values and counts; sessions stay */
NODISCARD enum err platform_set_limits(struct platform *platform, struct str json, struct why *why);
/* Sends to every session that may get it (its flag, its subscriptions); gives how many. */
unsigned platform_send(struct platform *platform, struct str topic, struct str payload);
void platform_release(struct platform *platform); /* acknowledges what is withheld */

/* platform_topics.c */
bool platform_is_over(const struct tally_device *device, uint64_t now_us, const struct platform *platform);
/* On the platform; the gateway is told by gateway_device_renamed, gateway_device_deleted. False: there is none, or one of the new name. */
bool platform_rename(struct platform *platform, struct str from, struct str to);
bool platform_delete(struct platform *platform, struct str name);
enum outcome platform_take(struct platform *platform, struct session *session, const struct mqtt_message *message);
bool platform_filter_is_known(struct str filter);

/* platform_access.c */
uint8_t platform_login(struct platform *platform, struct server_client *client,
                       const struct mqtt_connect_packet *connect);
enum outcome platform_provision(struct platform *platform, struct session *session, const struct mqtt_message *message);
NODISCARD enum err platform_credential(struct platform *platform, struct str rest, struct why *why);

/* platform_journal.c: platform->tally.is_shared must be set before */
NODISCARD enum err platform_journal_open(struct platform *platform, const char *path, struct why *why);
void platform_journal_add(struct platform *platform, const struct mqtt_message *message);

/* platform_command.c */
void platform_command(struct platform *platform, struct str word, struct str rest);
void platform_add_stats(struct platform *platform, struct buf *out);

/* platform_load.c: the latest load. Replied: true if it was one of its requests. */
NODISCARD enum err platform_load_start(struct platform *platform, struct str rest, struct why *why);
void platform_load_add(const struct platform *platform, struct buf *out);
bool platform_load_replied(struct platform *platform, yyjson_val *root);
void platform_load_free(struct platform *platform);

/* platform_metrics.c: each minute, or when asked, they become the gateway's telemetry gatewayMetrics. */
void platform_metrics_take(struct platform *platform, yyjson_val *metadata);
void platform_metrics_add(struct platform *platform, struct buf *out); /* writes them; and the last metadata of each */
void platform_metrics_reset(struct platform *platform);

/* platform_view.c */
struct view;
struct view *view_start(struct platform *platform);
void view_stop(struct view *view); /* NULL allowed */

#endif
