/* SPDX-License-Identifier: Apache-2.0 */
/* What a custom command of the statistics says: it becomes one JSON value, or nothing. */
#include "fuzz.h"
#include "data/json.h"
#include "gateway/statistics.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    autobuf struct buf out = {0};
    struct str text = str_of(data, size);
    yyjson_doc *doc;

    if (!statistics_add_result(&out, text)) {
        FUZZ_CHECK(out.n == 0 && str_trim(text).n == 0);
        return 0;
    }
    doc = json_read(buf_str(&out), NULL);
    FUZZ_CHECK(doc && (yyjson_is_str(yyjson_doc_get_root(doc)) || json_is_number(yyjson_doc_get_root(doc))));
    yyjson_doc_free(doc);
    return 0;
}
