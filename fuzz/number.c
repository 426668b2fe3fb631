/* SPDX-License-Identifier: Apache-2.0 */
#include "data/number.h"
#include "fuzz.h"

#include <stdlib.h>
#include <yyjson.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    char out[NUMBER_MAX], again[NUMBER_MAX];
    yyjson_doc *doc;
    struct str got;
    int64_t i;
    double v;
    bool integral;

    if (number_read(text, &v) == ERR_OK && number_truncate(text, &i, &integral) == ERR_OK)
        FUZZ_CHECK(!integral || size > 17 || (double)i == v);
    if (size == 8) {
        memcpy(&v, data, 8);
        FUZZ_CHECK(number_put_double(out, v) <= NUMBER_MAX && number_put_python(out, v) <= NUMBER_MAX);
    }
    doc = yyjson_read_opts((char *)(uintptr_t)data, size, YYJSON_READ_NUMBER_AS_RAW, NULL, NULL);
    if (doc && yyjson_is_raw(yyjson_doc_get_root(doc))) {
        text = (struct str){yyjson_get_raw(yyjson_doc_get_root(doc)), yyjson_get_len(yyjson_doc_get_root(doc))};
        got = number_final(text, out);
        FUZZ_CHECK(got.n && (got.p[0] == 'n' || str_eq(number_final(got, again), got)));
        got = number_in_template(text, out);
        FUZZ_CHECK(got.n != 0);
    }
    yyjson_doc_free(doc);
    return 0;
}
