/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_LIMITS_H
#define IOTGW_LIMITS_H
/*
 * The platform's rate limits as token buckets (platform-api.md 5; platform-behaviour.md 9, rate accounting). Pure: time is
 * given. "10:1,60:60" is two windows; a take needs all of them. Each has a share (percent) of what the platform allows.
 */
#include "base/err.h"
#include "base/str.h"

enum limit_kind {
    LIMIT_OWN,             /* rateLimits: own telemetry and attributes, messages */
    LIMIT_OWN_VALUES,      /* dpRateLimits */
    LIMIT_OWN_MESSAGES,    /* messagesRateLimits: other own topics */
    LIMIT_DEVICE,          /* deviceRateLimits: a device's share of a message */
    LIMIT_DEVICE_VALUES,   /* deviceDpRateLimits */
    LIMIT_DEVICE_MESSAGES, /* deviceMessagesRateLimits: connect and other device topics */
    LIMIT_KINDS
};

enum { LIMITER_WINDOWS = 8 };

struct limiter {
    struct limit_window {
        uint32_t capacity; /* at least 1 */
        uint32_t seconds;
        double tokens;
    } windows[LIMITER_WINDOWS];  /* smallest capacity first */
    unsigned n;                  /* 0: no limit */
    unsigned n_quotas;           /* refusals since the last quiet minute */
    uint64_t at_ms, quota_ms;    /* monotonic: last refill, last refusal */
    uint64_t waiting_since_ms;   /* 0: nobody waits for tokens */
    uint64_t n_waits, waited_ms; /* since the start; of waits that are over */
};

/* DEFAULT_* is looked up by host. A malformed part is ERR_CONFIG with a reason; out is then without limit. */
NODISCARD enum err limiter_parse(struct limiter *out, struct str text, struct str host, unsigned percent,
                                 struct why *why);
static inline bool limiter_is_none(const struct limiter *limiter)
{
    return limiter->n == 0;
}
/* Smallest capacity: what asks for more at once never passes (it is taken for that many). 0: no limit. */
uint32_t limiter_capacity(const struct limiter *limiter);
/* 0: there are n tokens in every window; else ms until there may be: then a wait begins, which the next limiter_spend ends.
 * Takes nothing. */
uint64_t limiter_wait(struct limiter *limiter, uint32_t n, uint64_t now_ms);
uint64_t limiter_peek(struct limiter *limiter, uint32_t n, uint64_t now_ms); /* the same, and no wait begins */
void limiter_spend(struct limiter *limiter, uint32_t n);                     /* after limiter_wait answered 0 */
void limiter_no_wait(struct limiter *limiter); /* nobody waits any more: what was to be sent is given up */
uint64_t limiter_waited_ms(const struct limiter *limiter, uint64_t now_ms); /* with the wait that goes on */
/* What the platform has counted already, whether there were tokens or not. */
void limiter_charge(struct limiter *limiter, uint32_t n, uint64_t now_ms);
/* The platform says the limit is exceeded: the smallest window is emptied, at the next time the next larger one too. */
void limiter_quota(struct limiter *limiter, uint64_t now_ms);
#endif
