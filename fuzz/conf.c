/* SPDX-License-Identifier: Apache-2.0 */
/* Configurations of every kind. The first byte chooses the kind, the rest is the file. */
#include "fuzz.h"
#include "gateway/gateway_conf.h"

static const struct conf_type *const types[] = {&main_conf_type, &logs_conf_type, &filter_conf_type,
                                                &command_file_type};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct problems problems;
    struct conf *conf;

    if (!size)
        return 0;
    problems_init(&problems);
    conf = conf_load_text(types[data[0] % COUNT_OF(types)], "/nonexistent", "fuzz.json", str_of(data + 1, size - 1),
                          &problems);
    FUZZ_CHECK(conf || problems.n_errors); /* whoever is refused is told why */
    FUZZ_CHECK(!conf || conf_diff(conf, conf, NULL, NULL) == 0);
    for (const struct problem *problem = problems.first; problem; problem = problem->next) {
        autobuf struct buf text = {0};
        struct json_file *file;

        problem_add_json(&text, problem);
        FUZZ_CHECK(json_file_parse(&file, "problem", buf_str(&text), NULL) == ERR_OK);
        json_file_free(file);
    }
    conf_unref(conf);
    problems_fini(&problems);
    return 0;
}
