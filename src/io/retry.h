/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_RETRY_H
#define IOTGW_RETRY_H
/*
 * The wait before a link's next attempt: a timer that ends early when the network comes back (core.md 5.4). While it
 * waits a second or longer it listens to the kernel (rtnetlink(7)): a link that is up again, a new address, a new route.
 * After such news it lets a moment pass, so that one attempt follows a burst of them. Where the kernel's news cannot be had
 * the timer alone counts. Owner: the loop's thread. Needs no closing: retry_stop is enough.
 */
#include "io/loop.h"

struct retry {
    struct timer timer;
    struct retry_watch *watch; /* NULL: not listening */
    void (*fn)(void *arg);
    void *arg;
};

void retry_init(struct retry *retry, struct loop *loop, void (*fn)(void *arg), void *arg);
void retry_start(struct retry *retry, uint64_t pause_ms); /* fn once, after the pause or when the network is back */
void retry_start_deaf(struct retry *retry,
                      uint64_t pause_ms); /* the network has nothing to do with it: refused logins */
void retry_stop(struct retry *retry);     /* accepts a zeroed one */
static inline bool retry_is_waiting(const struct retry *retry)
{
    return timer_is_running(&retry->timer);
}
#endif
