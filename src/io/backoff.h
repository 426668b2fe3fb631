/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_BACKOFF_H
#define IOTGW_BACKOFF_H
/*
 * Pauses between attempts of a link, one rule for all (core.md 5.4): 0.5, 1, 2 s, then 2 s until the link has been down
 * for 2 min, then doubling to 60 s; ±20 % jitter; back to the start after 30 s of stable link. One thread.
 */
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct backoff {
    uint64_t fixed_ms; /* a page's own key (reconnectPeriod …): this instead; 0: the rule above */
    uint64_t floor_ms; /* at least, doubling up to 120 s: quota, taken over; 0: none. Set before backoff_next, as
                             * often as it happens; backoff_up clears it, 30 s of stable link end the doubling */
    uint64_t down_since_ms, up_since_ms; /* monotonic; 0: not */
    unsigned n_attempts;                 /* failed since the link was last stable */
    uint64_t slow_ms, floored_ms;        /* private: what the two doublings have reached */
    uint64_t random;                     /* private: state of the jitter */
};

void backoff_init(struct backoff *backoff, uint64_t seed);
/* A failed attempt or a lost link; gives the pause before the next one, in ms. */
uint64_t backoff_next(struct backoff *backoff, uint64_t now_mono_ms);
void backoff_up(struct backoff *backoff, uint64_t now_mono_ms); /* the link is there */
#endif
