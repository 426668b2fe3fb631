/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SIM_QUOTA_H
#define IOTGW_SIM_QUOTA_H
/*
 * Rate limits as the platform counts them: "100:1,5000:60" are token buckets of capacity L refilled continuously at L/S; a take
 * needs all of them, nothing is taken from the one that lacks, but those before it stay charged. One thread.
 */
#include "base/str.h"

enum { QUOTA_BUCKETS = 8 };
struct quota {
    struct {
        double capacity, per_us, tokens;
    } buckets[QUOTA_BUCKETS];
    unsigned n; /* 0: no limit */
    uint64_t filled_us;
};

NODISCARD enum err quota_parse(struct quota *out, struct str text, uint64_t now_us); /* empty text: no limit */
bool quota_take(struct quota *quota, uint64_t n, uint64_t now_us);
#endif
