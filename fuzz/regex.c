/* SPDX-License-Identifier: Apache-2.0 */
#include "data/template.h"
#include "fuzz.h"

/* Pattern, then the topic. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = {(const char *)data, size}, pattern = fuzz_part(&rest), got;
    struct regex *regex;

    if (regex_compile(&regex, pattern, size % 3, NULL))
        return 0;
    if (regex_topic(regex, rest, false, &got))
        FUZZ_CHECK(got.p >= rest.p && got.p + got.n <= rest.p + rest.n);
    regex_free(regex);
    return 0;
}
