/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/limits.h"

enum { QUIET_MS = 60 * 1000 }; /* after this long without a refusal the smallest window is to blame first again */

/* --- text ------------------------------------------------------------------------------------------------------------- */

static bool host_is_limited(struct str host)
{
    return str_has_nocase(host, STR("thingsboard.cloud")) || str_has_nocase(host, STR("demo.thingsboard.io")) ||
           (str_has_nocase(host, STR("tb")) && str_has_nocase(host, STR("cloud")));
}

/* Of DEFAULT_TELEMETRY_RATE_LIMIT, DEFAULT_TELEMETRY_DP_RATE_LIMIT, DEFAULT_MESSAGES_RATE_LIMIT. */
static struct str default_text(struct str name, struct str host)
{
    if (!host_is_limited(host))
        return STR("");
    return str_has_nocase(name, STR("_DP_")) ? STR("10:1,300:60") : STR("10:1,60:60");
}

static NODISCARD enum err window_parse(struct limiter *out, struct str part, unsigned percent, struct why *why)
{
    struct str limit, whole = part;
    uint64_t n, seconds;

    if (!str_split(&part, ':', &limit) || str_to_u64(str_trim(limit), &n) || str_to_u64(str_trim(part), &seconds) ||
        n > UINT32_MAX || seconds > UINT32_MAX)
        return why_set(why, ERR_CONFIG, "\"" STR_FMT "\" is not LIMIT:SECONDS", STR_ARG(whole));
    if (n == 0 || seconds == 0) /* "0:0" is how the peer writes "none" */
        return ERR_OK;
    if (out->n == LIMITER_WINDOWS)
        return why_set(why, ERR_CONFIG, "more than %d windows", LIMITER_WINDOWS);
    uint32_t capacity = (uint32_t)(n * percent / 100);
    unsigned i = out->n++;

    if (capacity == 0)
        capacity = 1;
    for (; i > 0 && out->windows[i - 1].capacity > capacity; i--)
        out->windows[i] = out->windows[i - 1];
    out->windows[i] = (struct limit_window){.capacity = capacity, .seconds = (uint32_t)seconds, .tokens = capacity};
    return ERR_OK;
}

/* --- exported --------------------------------------------------------------------------------------------------------- */

enum err limiter_parse(struct limiter *out, struct str text, struct str host, unsigned percent, struct why *why)
{
    struct str rest = str_trim(text);

    *out = (struct limiter){0};
    if (str_starts(rest, STR("DEFAULT_")))
        rest = default_text(rest, host);
    while (rest.n) {
        size_t comma = str_chr(rest, ','), semicolon = str_chr(rest, ';');
        size_t n = comma < semicolon ? comma : semicolon;
        struct str part = str_trim(str_cut(rest, n));

        rest = str_skip(rest, n + 1);
        if (part.n == 0)
            continue;
        enum err err = window_parse(out, part, percent, why);

        if (err) {
            *out = (struct limiter){0};
            return err;
        }
    }
    return ERR_OK;
}

uint32_t limiter_capacity(const struct limiter *limiter)
{
    return limiter->n ? limiter->windows[0].capacity : 0;
}

static void refill(struct limiter *limiter, uint64_t now_ms)
{
    uint64_t passed = limiter->at_ms && now_ms > limiter->at_ms ? now_ms - limiter->at_ms : 0;

    limiter->at_ms = now_ms;
    if (limiter->n_quotas && now_ms - limiter->quota_ms > QUIET_MS)
        limiter->n_quotas = 0;
    if (!passed)
        return;
    for (unsigned i = 0; i < limiter->n; i++) {
        struct limit_window *window = &limiter->windows[i];

        window->tokens += (double)window->capacity * (double)passed / (window->seconds * 1000.0);
        if (window->tokens > window->capacity)
            window->tokens = window->capacity;
    }
}

uint64_t limiter_peek(struct limiter *limiter, uint32_t n, uint64_t now_ms)
{
    uint64_t wait = 0;

    if (!limiter->n)
        return 0;
    refill(limiter, now_ms);
    for (unsigned i = 0; i < limiter->n; i++) {
        const struct limit_window *window = &limiter->windows[i];
        double lacks = (n < window->capacity ? n : window->capacity) - window->tokens;

        if (lacks > 1e-6) {
            uint64_t ms = (uint64_t)(lacks * window->seconds * 1000.0 / window->capacity) + 1;

            if (ms > wait)
                wait = ms;
        }
    }
    return wait;
}

uint64_t limiter_wait(struct limiter *limiter, uint32_t n, uint64_t now_ms)
{
    uint64_t wait = limiter_peek(limiter, n, now_ms);

    if (UNLIKELY(wait && !limiter->waiting_since_ms)) {
        limiter->waiting_since_ms = now_ms ? now_ms : 1;
        limiter->n_waits++;
    }
    return wait;
}

uint64_t limiter_waited_ms(const struct limiter *limiter, uint64_t now_ms)
{
    uint64_t since = limiter->waiting_since_ms;

    return limiter->waited_ms + (since && now_ms > since ? now_ms - since : 0);
}

void limiter_no_wait(struct limiter *limiter)
{
    limiter->waiting_since_ms = 0;
}

void limiter_spend(struct limiter *limiter, uint32_t n)
{
    if (UNLIKELY(limiter->waiting_since_ms != 0)) {
        limiter->waited_ms = limiter_waited_ms(limiter, limiter->at_ms);
        limiter->waiting_since_ms = 0;
    }
    for (unsigned i = 0; i < limiter->n; i++) {
        struct limit_window *window = &limiter->windows[i];

        window->tokens -= n < window->capacity ? n : window->capacity;
    }
}

void limiter_charge(struct limiter *limiter, uint32_t n, uint64_t now_ms)
{
    refill(limiter, now_ms);
    for (unsigned i = 0; i < limiter->n; i++) {
        struct limit_window *window = &limiter->windows[i];

        window->tokens = window->tokens > n ? window->tokens - n : 0;
    }
}

void limiter_quota(struct limiter *limiter, uint64_t now_ms)
{
    refill(limiter, now_ms);
    limiter->n_quotas++;
    limiter->quota_ms = now_ms;
    for (unsigned i = 0; i < limiter->n && i < limiter->n_quotas; i++)
        limiter->windows[i].tokens = 0;
}
