/* SPDX-License-Identifier: Apache-2.0 */
#include "data/json.h"
#include "base/utf8.h"
#include "fuzz.h"

/* Positions are those of the text: the byte there begins the value. */
static void check_positions(const struct json_file *file)
{
    static const char first[] = {[YYJSON_TYPE_OBJ] = '{', [YYJSON_TYPE_ARR] = '[', [YYJSON_TYPE_STR] = '"'};
    struct str text = json_file_text(file);
    const yyjson_val *val = json_file_root(file);
    size_t i = 0;

    for (; json_file_pos(file, val).line; val++) {
        struct json_pos pos = json_file_pos(file, val), at = {1, 1};
        uint8_t type = unsafe_yyjson_get_type((void *)(uintptr_t)val);

        for (i = 0; at.line < pos.line; i++)
            at.line += text.p[i] == '\n';
        for (; at.column < pos.column; at.column++)
            for (i++; i < text.n && (text.p[i] & 0xc0) == 0x80;)
                i++;
        FUZZ_CHECK(i < text.n && (type >= sizeof first || !first[type] || text.p[i] == first[type]));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    autojson struct json_file *file = NULL;
    struct why why = {0};
    struct arena arena;
    struct str written;
    yyjson_doc *again;

    arena_init(&arena, 0);
    written = json_quote(&arena, text);
    FUZZ_CHECK(utf8_is_valid(written));
    if (json_file_parse(&file, "f", text, &why) == ERR_OK) {
        check_positions(file);
        written = json_text(&arena, json_file_root(file));
        again = json_read(written, NULL);
        FUZZ_CHECK(again && json_equal(yyjson_doc_get_root(again), yyjson_doc_get_root(again)));
        FUZZ_CHECK(str_eq(written, json_text(&arena, yyjson_doc_get_root(again))));
        yyjson_doc_free(again);
        again = json_read(json_final_text(&arena, json_file_root(file)), NULL);
        FUZZ_CHECK(again != NULL);
        yyjson_doc_free(again);
    } else {
        FUZZ_CHECK(why.text[0]);
    }
    arena_fini(&arena);
    return 0;
}
