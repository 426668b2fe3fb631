/* SPDX-License-Identifier: Apache-2.0 */
/* YAML becomes JSON of the same values, each with a place that is in the text; or it is refused with a reason. */
#include "data/yaml_file.h"
#include "fuzz.h"

static void check_places(const struct json_file *file, struct str text)
{
    const yyjson_val *val = json_file_root(file);
    uint32_t n_lines = 1;

    for (size_t i = 0; i < text.n; i++)
        n_lines += text.p[i] == '\n' || text.p[i] == '\r' || (uint8_t)text.p[i] >= 0x80; /* NEL, LS, PS; UTF-16 */
    for (struct json_pos pos; (pos = json_file_pos(file, val)).line; val++)
        FUZZ_CHECK(pos.line <= n_lines + 1 && pos.column >= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    autojson struct json_file *file = NULL, *again = NULL;
    struct str text = str_of(data, size);
    struct why why = {0};

    if (yaml_file_parse(&file, "f", text, &why) != ERR_OK) {
        FUZZ_CHECK(why.err != ERR_OK && str_starts(str_from(why_text(&why)), STR("f:")));
        return 0;
    }
    check_places(file, text);
    FUZZ_CHECK(json_file_parse(&again, "g", json_file_text(file), NULL) == ERR_OK);
    FUZZ_CHECK(json_equal(json_file_root(file), json_file_root(again)));
    return 0;
}
