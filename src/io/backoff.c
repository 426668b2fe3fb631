/* SPDX-License-Identifier: Apache-2.0 */
#include "io/backoff.h"

enum {
    STABLE_MS = 30000,
    QUICK_MS = 2000,     /* the pause while an outage is young */
    YOUNG_MS = 120000,   /* how long it is */
    SLOW_MAX_MS = 60000, /* then doubling, up to this */
    FLOOR_MAX_MS = 120000,
};

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* xorshift64: the gateways of a plant must not come back in step, nothing more is asked of it. */
static uint64_t below(struct backoff *backoff, uint64_t n)
{
    backoff->random ^= backoff->random << 13;
    backoff->random ^= backoff->random >> 7;
    backoff->random ^= backoff->random << 17;
    return n ? backoff->random % n : 0;
}

static uint64_t by_rule(struct backoff *backoff, uint64_t down_ms)
{
    static const uint64_t first_ms[] = {500, 1000};

    if (backoff->n_attempts <= COUNT_OF(first_ms))
        return first_ms[backoff->n_attempts - 1];
    if (down_ms < YOUNG_MS)
        return QUICK_MS;
    backoff->slow_ms = min_u64(backoff->slow_ms ? backoff->slow_ms * 2 : 2 * QUICK_MS, SLOW_MAX_MS);
    return backoff->slow_ms;
}

void backoff_init(struct backoff *backoff, uint64_t seed)
{
    *backoff = (struct backoff){.random = seed ^ UINT64_C(0x9e3779b97f4a7c15)};
    if (!backoff->random)
        backoff->random = 1;    /* zero would stay zero */
    for (int i = 0; i < 8; i++) /* seeds that are alike (addresses, times) part here */
        below(backoff, 1);
}

uint64_t backoff_next(struct backoff *backoff, uint64_t now_mono_ms)
{
    uint64_t pause_ms;

    if (backoff->up_since_ms && now_mono_ms - backoff->up_since_ms >= STABLE_MS) {
        backoff->n_attempts = 0;
        backoff->down_since_ms = backoff->slow_ms = backoff->floored_ms = 0;
    }
    backoff->up_since_ms = 0;
    if (!backoff->down_since_ms)
        backoff->down_since_ms = max_u64(now_mono_ms, 1);
    backoff->n_attempts++;
    pause_ms = backoff->fixed_ms ? backoff->fixed_ms : by_rule(backoff, now_mono_ms - backoff->down_since_ms);
    pause_ms = pause_ms - pause_ms / 5 + below(backoff, pause_ms / 5 * 2 + 1);
    if (!backoff->floor_ms)
        return pause_ms;
    backoff->floored_ms = min_u64(max_u64(backoff->floor_ms, backoff->floored_ms * 2), FLOOR_MAX_MS);
    return max_u64(pause_ms, backoff->floored_ms + below(backoff, backoff->floored_ms / 5 + 1));
}

void backoff_up(struct backoff *backoff, uint64_t now_mono_ms)
{
    backoff->up_since_ms = max_u64(now_mono_ms, 1);
    backoff->floor_ms = 0;
}
