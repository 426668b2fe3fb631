/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_ROUTER_REPEAT_H
#define IOTGW_ROUTER_REPEAT_H
/*
 * Requests of the last minute and their answers: the platform sends a request again when it has lost the session in between, and
 * it is not to be executed twice (platform-behaviour.md 8). Known by a hash of device, id, method and params.
 *
 * Bounded by 8 MiB: then the oldest answered ones are forgotten earlier. That begins at some 600 requests a second for a minute;
 * at 2000 a second 19 s are left, which is enough: what the platform has got the answer to it does not send again, and what it
 * has not got was answered at most 15 s before a dead session is noticed (platform-api.md 1).
 */
#include "base/list.h"
#include "base/map.h"

struct repeat {
    struct list node;
    uint64_t hash[2];
    uint64_t at_ms;
    bool is_answered;
    uint8_t qos;
    struct str answer; /* data, once it is_answered */
};

struct repeats {
    struct map map;
    struct list oldest;
    size_t n_bytes;
};

void repeats_init(struct repeats *repeats);
void repeats_fini(struct repeats *repeats);
/* The one that is there (is_new false), or a new one. It lives while it is not answered, then until it is forgotten. */
struct repeat *repeats_get(struct repeats *repeats, struct str device, struct str id, struct str method,
                           struct str params, uint64_t now_ms, bool *is_new);
void repeats_answered(struct repeats *repeats, struct repeat *repeat, struct str answer, uint8_t qos);
#endif
