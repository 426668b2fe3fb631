/* SPDX-License-Identifier: Apache-2.0 */
#include "quota.h"

enum err quota_parse(struct quota *out, struct str text, uint64_t now_us)
{
    struct str part;

    *out = (struct quota){.filled_us = now_us};
    if (!str_trim(text).n)
        return ERR_OK;
    while (str_split(&text, ',', &part)) {
        struct str capacity;
        uint64_t n, seconds;

        if (!str_split(&part, ':', &capacity) || str_to_u64(str_trim(capacity), &n) ||
            str_to_u64(str_trim(part), &seconds) || !n || !seconds || out->n == QUOTA_BUCKETS)
            return ERR_SYNTAX;
        out->buckets[out->n].capacity = out->buckets[out->n].tokens = (double)n;
        out->buckets[out->n++].per_us = (double)n / ((double)seconds * 1e6);
    }
    return ERR_OK;
}

bool quota_take(struct quota *quota, uint64_t n, uint64_t now_us)
{
    double passed_us = now_us > quota->filled_us ? (double)(now_us - quota->filled_us) : 0;

    quota->filled_us = now_us;
    for (unsigned i = 0; i < quota->n; i++) {
        double tokens = quota->buckets[i].tokens + passed_us * quota->buckets[i].per_us;

        quota->buckets[i].tokens = tokens > quota->buckets[i].capacity ? quota->buckets[i].capacity : tokens;
    }
    for (unsigned i = 0; i < quota->n; i++) {
        if (quota->buckets[i].tokens < (double)n)
            return false;
        quota->buckets[i].tokens -= (double)n;
    }
    return true;
}
