/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_FUZZ_H
#define IOTGW_FUZZ_H
/* What the fuzzer's library calls, and the cutting of its bytes into parts: each ends with a line feed. */
#include "base/arena.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The next part; the last is all that is left. */
static inline struct str fuzz_part(struct str *rest)
{
    struct str part = str_cut(*rest, str_chr(*rest, '\n'));

    *rest = str_skip(*rest, part.n + 1);
    return part;
}

/* A property that must hold whatever the input is. */
#define FUZZ_CHECK(condition)                                                                                          \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            __builtin_trap();                                                                                          \
    } while (0)
#endif
