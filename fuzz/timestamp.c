/* SPDX-License-Identifier: Apache-2.0 */
#include "data/timestamp.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    int64_t ms;

    for (int flags = 0; flags < 4; flags++)
        (void)!timestamp_parse(text, (struct timestamp_format){flags & 1, flags & 2}, 1718447400000, &ms, NULL);
    return 0;
}
