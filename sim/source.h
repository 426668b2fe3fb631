/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SIM_SOURCE_H
#define IOTGW_SIM_SOURCE_H
/*
 * A broker that is its own fleet: the gateway under test connects to it and subscribes; message i goes to sensors/devNNNNN/data,
 * N = i mod devices, with QoS 1 and at most window of them unacknowledged. A PUBACK makes message i accepted. Nothing is made
 * while nobody is subscribed. What was unacknowledged when a connection ended is sent again with DUP if the client keeps its
 * session, and else not accepted and not sent again. A request to a device is answered with its own payload. One thread.
 */
#include "program.h"
#include "server.h"

enum { SOURCE_IDS = 65535, SOURCE_TAILS = 64 };

struct source_conf {
    uint64_t devices, window, rate; /* rate: messages/s, 0: as fast as the window allows */
};

struct source_topic {
    char text[32];
    uint8_t n;
};

struct source {
    struct program program;
    struct source_conf conf;
    struct server *server;
    struct server_client *client; /* who is subscribed; NULL: nobody */
    struct timer tick;
    struct source_topic *topics;
    struct str tails[SOURCE_TAILS]; /* the constant part of the payload */
    int64_t t0_ms;
    struct buf out;

    uint64_t next, end; /* number of the next message, and of the first that is not wanted yet */
    bool is_endless;
    /* Sends of this session, counted by k; packet identifier 1 + k mod 65535. */
    uint64_t head, tail; /* oldest that is unacknowledged (or tail), next */
    uint64_t n_inflight;
    uint64_t numbers[SOURCE_IDS]; /* message number; UINT64_MAX: acknowledged */
    bool is_kept;                 /* the session survives its connection */
    char *client_id;
    struct server_filter *filters; /* of the kept session */
    size_t n_filters;

    uint64_t n_accepted, n_resent, n_connects, n_bad_acks, n_requests;
    uint64_t start_us, end_us, run_from; /* of the run: first message made, last one accepted */
    uint64_t rate_us, n_rated;           /* since when, and how many messages, the rate counts */
    struct buf unaccepted;               /* their numbers, JSON list without brackets, at most 64 KiB */
    uint64_t n_unaccepted;
    bool was_told;
};

NODISCARD enum err source_init(struct source *source, const struct source_conf *conf, const struct server_conf *server,
                               struct why *why);
void source_fini(struct source *source);
/* n more messages (0: without end) at rate. {"event":"done",…} is said when all are accepted or given up. */
void source_run(struct source *source, uint64_t n, uint64_t rate);
/* The payload of message i into out (at least 512 bytes); gives its length. */
size_t source_payload(const struct source *source, uint64_t i, uint64_t now_us, char *out);
#endif
