/* SPDX-License-Identifier: Apache-2.0 */
#include "data/template.h"
#include "base/utf8.h"
#include "data/convert.h"
#include "fuzz.h"

/* Type, template, then the data. */
static void eval_value(struct str type, struct str expression, yyjson_val *data, struct arena *arena, bool use_eval)
{
    struct datapoint_value value;
    struct why why = {0};
    yyjson_doc *doc;
    struct str text;

    for (int mode = CONVERT_STRICT; mode <= CONVERT_LOSSLESS; mode++) {
        enum convert_result result;

        if (datapoint_compile(&value, arena, expression, type, mode, use_eval, &why)) {
            FUZZ_CHECK(why.text[0]);
            return;
        }
        result = datapoint_eval(&value, data, NULL, arena, &text, NULL);
        if (result != CONVERT_OK && result != CONVERT_FALLBACK)
            continue;
        doc = json_read(text, NULL);
        FUZZ_CHECK(doc != NULL);
        yyjson_doc_free(doc);
    }
}

static void eval_downlink(const struct template *template, yyjson_val *data, struct arena *arena)
{
    struct template_names names = {.device_name = STR("D \"1\""),
                                   .method = STR("m"),
                                   .request_id = STR("1"),
                                   .request = data,
                                   .attribute_key = STR("k"),
                                   .attribute_value = data};
    struct str text;

    for (int target = TARGET_MQTT_TOPIC; target <= TARGET_BODY; target++) {
        struct why why = {0};

        if (!template_downlink(template, target, &names, arena, &text, &why))
            FUZZ_CHECK(why.text[0]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = {(const char *)data, size}, type = fuzz_part(&rest), expression = fuzz_part(&rest), text;
    yyjson_doc *doc = json_read(rest, NULL);
    struct byte_template *bytes;
    struct template *template;
    struct arena arena;

    arena_init(&arena, 0);
    if (byte_template_compile(&bytes, &arena, expression) == ERR_OK) {
        byte_template_text(bytes, rest, false, &arena, &text);
        FUZZ_CHECK(byte_template_text(bytes, rest, true, &arena, &text) || !byte_template_is_constant(bytes));
    }
    if (doc && template_compile(&template, &arena, expression, NULL) == ERR_OK) {
        yyjson_val *root = yyjson_doc_get_root(doc);

        if (template_text(template, root, TEMPLATE_SKIP, &arena, &text))
            FUZZ_CHECK(template_text(template, root, TEMPLATE_NULL, &arena, &text) || template_n_tags(template) == 0);
        eval_downlink(template, root, &arena);
        eval_value(type, expression, root, &arena, false);
        eval_value(type, expression, root, &arena, true);
    }
    yyjson_doc_free(doc);
    arena_fini(&arena);
    return 0;
}
