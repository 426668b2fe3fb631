/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "uplink/limits.h"

/* Rate limits as a platform or a file may give them: text, then host. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = {(const char *)data, size}, text = fuzz_part(&rest);
    struct limiter limiter;
    struct why why = {0};
    uint64_t now = 1000;

    if (limiter_parse(&limiter, text, rest, 80, &why)) {
        FUZZ_CHECK(limiter_is_none(&limiter) && why.err);
        return 0;
    }
    for (uint32_t n = 1; n < 1000000; n *= 10) {
        now += limiter_wait(&limiter, n, now);
        FUZZ_CHECK(limiter_wait(&limiter, n, now) <= 1);
        limiter_spend(&limiter, n);
    }
    limiter_quota(&limiter, now);
    FUZZ_CHECK(limiter_is_none(&limiter) || limiter_wait(&limiter, 1, now) > 0);
    return 0;
}
