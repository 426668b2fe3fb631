/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "data/json.h"
#include "modbus_value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static struct arena arena;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 4096);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

/* "!": it is refused. */
static const char *decoded(const struct modbus_shape *shape, const uint8_t *data, size_t first)
{
    struct modbus_decoder decoder;
    const char *key = NULL;
    struct why why = {0};
    struct str text;

    if (modbus_decoder_make(&decoder, shape, &arena, &key, &why) != ERR_OK) {
        assert_non_null(key);
        return "!";
    }
    if (modbus_decode(&decoder, data, first, &arena, &text, &why) != ERR_OK)
        return "?";
    return arena_text(&arena, text);
}

static void expect(const char *got, const char *want, const char *what)
{
    if (strcmp(got, want) != 0)
        fail_msg("%s: %s, expected %s", what, got, want);
}

static void test_each_type_and_order_reads_as_the_page_says(void **state)
{
    static const uint8_t abcd[] = {0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48};
    static const struct {
        const char *type;
        uint32_t count;
        bool byte_little, word_little;
        const char *want;
    } cases[] = {
        {"8int", 1, false, false, "65"},
        {"8uint", 1, true, true, "65"},
        {"16uint", 1, false, false, "16706"},
        {"16uint", 1, true, false, "16961"},
        {"16int", 1, false, true, "16706"},
        {"32uint", 2, false, false, "1094861636"},
        {"32uint", 2, true, false, "1111573571"},
        {"32uint", 2, false, true, "1128546626"},
        {"32uint", 2, true, true, "1145258561"},
        {"64uint", 4, false, false, "4702394921427289928"},
        {"64uint", 4, true, true, "5208208757389214273"},
        {"string", 2, true, true, "\"ABCD\""},
        {"bytes", 2, true, true, "\"41424344\""},
        {"32uint", 1, false, false, "1094861636"},
        {"uint", 2, false, false, "1094861636"},
        {"uint", 0, false, false, "16706"},
        {"int", 3, false, false, "!"},
        {"uint", 5, false, false, "!"},
        {"Unsigned Int", 1, false, false, "16706"},
        {"no such", 1, false, false, "!"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct modbus_shape shape = {.type = str_from(cases[i].type),
                                     .function_code = 3,
                                     .count = cases[i].count,
                                     .byte_little = cases[i].byte_little,
                                     .word_little = cases[i].word_little};

        expect(decoded(&shape, abcd, 0), cases[i].want, cases[i].type);
    }
}

static void test_text_keeps_what_is_utf8_and_shows_the_rest_as_hex(void **state)
{
    static const uint8_t padded[] = {'O', 'K', 0, 0}, inner[] = {'a', 0, 'b', 0}, wrong[] = {0xff, 'A', 'B', 0};
    struct modbus_shape shape = {.type = STR("string"), .function_code = 3, .count = 2};

    (void)state;
    expect(decoded(&shape, padded, 0), "\"OK\"", "padding");
    expect(decoded(&shape, inner, 0), "\"a\\u0000b\"", "NUL inside");
    expect(decoded(&shape, wrong, 0), "\"ff414200\"", "no UTF-8");
}

/* Every way of printing must agree with the exact one. */
static void test_the_quick_ways_of_numbers_agree_with_the_slow_one(void **state)
{
    struct modbus_shape shape = {.type = STR("32float"), .function_code = 3, .count = 2, .has_round = true};
    uint32_t random = 12345;

    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        uint8_t data[4];
        uint32_t bits;
        float single;
        char want[512], got[64];
        double value;

        random = random * 1664525 + 1013904223;
        bits = random;
        if (i % 2)
            bits = (bits & 0x80ffffff) | (0x3a + i % 16) << 24; /* of everyday size */
        memcpy(&single, &bits, sizeof single);
        if (!isfinite(single))
            continue;
        for (unsigned b = 0; b < 4; b++)
            data[b] = (uint8_t)(bits >> (24 - 8 * b));
        shape.round = i % 7;
        snprintf(want, sizeof want, "%.*f", (int)shape.round, (double)single);
        value = strtod(want, NULL);
        snprintf(got, sizeof got, "%s", decoded(&shape, data, 0));
        if (fabs(value) < 1e15 && strtod(got, NULL) != value)
            fail_msg("%.9g rounded to %d: %s, expected %s", (double)single, (int)shape.round, got, want);
        assert_true(strchr(got, '.') != NULL && !strchr(got, 'e'));
        arena_reset(&arena);
    }
}

static yyjson_doc *json(const char *text)
{
    struct why why = {0};
    yyjson_doc *doc = json_read(str_from(text), &why);

    if (!doc)
        fail_msg("%s: %s", text, why_text(&why));
    return doc;
}

static void test_values_are_scaled_and_named_as_the_page_says(void **state)
{
    static const struct {
        const char *type, *keys;
        uint8_t data[4];
        const char *want;
    } cases[] = {
        {"16int", "{\"divider\":10}", {0, 235}, "23.5"},
        {"16int", "{\"divider\":10}", {0xff, 0xfe}, "-0.2"},
        {"16int", "{\"divider\":1000}", {0, 7}, "0.007"},
        {"16int", "{\"divider\":10}", {0, 0}, "0.0"},
        {"16int", "{\"divider\":1}", {0, 235}, "235.0"},
        {"16int", "{\"divider\":0}", {0, 235}, "235"},
        {"16int", "{\"divider\":null,\"multiplier\":2}", {0, 3}, "6"},
        {"16int", "{\"divider\":\"x\"}", {0, 3}, "!"},
        {"16int", "{\"multiplier\":2.0}", {0, 3}, "6.0"},
        {"16int", "{\"multiplier\":-3}", {0, 3}, "-9"},
        {"64uint", "{\"multiplier\":1}", {0, 3}, "844424930131968"},
        {"16uint", "{\"divider\":10,\"variants\":{\"0.3\":\"x\"}}", {0, 3}, "\"x\""},
        {"16uint", "{\"variants\":{\"3\":{\"a\":[1.50]}}}", {0, 3}, "{\"a\":[1.5]}"},
        {"string", "{\"variants\":{\"A\":true}}", {'A', 0}, "true"},
        {"string", "{\"divider\":4}", {'1', '0'}, "2.5"},
        {"string", "{\"divider\":4}", {'A', '0'}, "?"},
        {"string", "{\"multiplier\":4}", {'1', '0'}, "\"10\""},
        {"32float", "{}", {0x7f, 0x80, 0, 0}, "?"},
        {"32float",
         "{\"divider\":1e-30}",
         {0x7f, 0x7f, 0, 0},
         "338953138925153566684902140543300000000000000000000000000000000000000.0"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        yyjson_doc *doc = json(cases[i].keys);
        yyjson_val *keys = yyjson_doc_get_root(doc);
        struct modbus_shape shape = {.type = str_from(cases[i].type),
                                     .function_code = 3,
                                     .divider = json_get(keys, STR("divider")),
                                     .multiplier = json_get(keys, STR("multiplier")),
                                     .variants = json_get(keys, STR("variants"))};
        uint8_t data[8] = {0};

        memcpy(data, cases[i].data, 4);
        if (strcmp(cases[i].type, "32float") != 0 || i + 1 < COUNT_OF(cases))
            expect(decoded(&shape, data, 0), cases[i].want, cases[i].keys);
        else
            assert_true(strtod(decoded(&shape, data, 0), NULL) > 3e68);
        yyjson_doc_free(doc);
    }
}

static void test_coils_are_taken_from_any_bit_of_an_answer(void **state)
{
    static const uint8_t data[] = {0xb2, 0x01}; /* 0 1 0 0 1 1 0 1  1 */
    struct modbus_shape shape = {.type = STR("bits"), .function_code = 1, .count = 4};

    (void)state;
    expect(decoded(&shape, data, 5), "[true,false,true,true]", "five on");
    shape.bits_as_numbers = true;
    expect(decoded(&shape, data, 1), "[1,0,0,1]", "numbers");
    shape.has_bit = true;
    shape.bit = 9;
    expect(decoded(&shape, data, 5), "1", "clipped");
    shape = (struct modbus_shape){.type = STR("8uint"), .function_code = 2, .count = 8};
    expect(decoded(&shape, data, 1), "155", "first is the most significant");
    shape.count = 5;
    expect(decoded(&shape, data, 0), "72", "padded at the low end");
    shape.type = STR("16uint");
    expect(decoded(&shape, data, 0), "!", "too few");
    shape.count = 2001;
    expect(decoded(&shape, data, 0), "!", "too many");
}

static const char *encoded(const struct modbus_shape *shape, const char *value)
{
    yyjson_doc *doc = json(value);
    autobuf struct buf out = {0};
    struct modbus_write write;
    struct why why = {0};

    if (modbus_encode(shape, yyjson_doc_get_root(doc), &write, &why) != ERR_OK) {
        yyjson_doc_free(doc);
        assert_true(*why_text(&why) != 0);
        return "!";
    }
    yyjson_doc_free(doc);
    buf_printf(&out, "%u:", write.function_code);
    for (unsigned i = 0; i < write.count; i++)
        buf_printf(&out, "%s%x", i ? "," : "",
                   write.function_code == 5 || write.function_code == 15 ? write.coils[i] : write.registers[i]);
    return arena_text(&arena, buf_str(&out));
}

static void test_values_are_written_exactly_or_not_at_all(void **state)
{
    static const struct {
        const char *type;
        unsigned function_code;
        uint32_t count;
        const char *value, *want;
    } cases[] = {
        {"16int", 6, 1, "-32768", "6:8000"},
        {"16int", 6, 1, "-32769", "!"},
        {"16int", 6, 1, "32768", "!"},
        {"16uint", 6, 1, "65535", "6:ffff"},
        {"16uint", 6, 1, "65536", "!"},
        {"16uint", 6, 1, "-1", "!"},
        {"16uint", 6, 1, "-0.5", "6:0"},
        {"16uint", 6, 1, "1e3", "6:3e8"},
        {"16uint", 6, 1, "true", "6:1"},
        {"16uint", 6, 1, "\"true\"", "6:1"},
        {"16uint", 6, 1, "\" 12 \"", "6:c"},
        {"16uint", 6, 1, "\"x\"", "!"},
        {"16uint", 6, 1, "\"\"", "!"},
        {"16uint", 6, 1, "null", "!"},
        {"16uint", 6, 1, "[1]", "!"},
        {"8int", 6, 1, "-1", "6:ff00"},
        {"8uint", 6, 1, "256", "!"},
        {"64uint", 16, 4, "18446744073709551615", "16:ffff,ffff,ffff,ffff"},
        {"64uint", 16, 4, "18446744073709551616", "!"},
        {"64int", 16, 4, "-9223372036854775808", "16:8000,0,0,0"},
        {"64int", 16, 4, "9223372036854775808", "!"},
        {"32int", 6, 2, "1", "16:0,1"},
        {"32int", 16, 1, "1", "16:0,1"},
        {"16float", 6, 1, "1", "6:3c00"},
        {"16float", 6, 1, "65504", "6:7bff"},
        {"16float", 6, 1, "65520", "!"},
        {"16float", 6, 1, "5.9604644775390625e-08", "6:1"},
        {"16float", 6, 1, "0.00006103515625", "6:400"},
        {"16float", 6, 1, "2047.9", "6:6800"},
        {"32float", 16, 2, "1e39", "!"},
        {"32float", 16, 2, "\"1.5\"", "16:3fc0,0"},
        {"string", 16, 2, "\"ABC\"", "16:4142,4300"},
        {"string", 16, 1, "\"ABC\"", "!"},
        {"string", 6, 2, "12", "16:3132,0"},
        {"bytes", 16, 2, "\"00fF01\"", "16:ff,100"},
        {"bytes", 16, 2, "\"0\"", "!"},
        {"bits", 5, 1, "\"FALSE\"", "5:0"},
        {"bits", 5, 1, "\"maybe\"", "!"},
        {"bits", 5, 3, "[1,0,true]", "15:1,0,1"},
        {"bits", 15, 3, "[1,0]", "!"},
        {"bits", 15, 3, "4", "15:1,0,0"},
        {"bits", 15, 3, "8", "!"},
        {"bits", 15, 3, "true", "15:1,1,1"},
        {"bits", 15, 3, "\"[1,1,0]\"", "15:1,1,0"},
        {"bits", 15, 1969, "true", "!"},
        {"bits", 6, 1, "true", "6:1"},
        {"bits", 16, 16, "[1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1]", "16:180"},
        {"32uint", 5, 1, "0", "5:0"},
        {"string", 16, 124, "\"A\"", "!"},
        {"16int", 3, 1, "1", "!"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct modbus_shape shape = {
            .type = str_from(cases[i].type), .function_code = cases[i].function_code, .count = cases[i].count};
        char what[120];

        snprintf(what, sizeof what, "%s %s", cases[i].type, cases[i].value);
        expect(encoded(&shape, cases[i].value), cases[i].want, what);
    }
}

static void test_what_is_written_is_read_back_in_every_order(void **state)
{
    static const char *const types[] = {"16int", "32int", "64int", "32float", "64float"};

    (void)state;
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        for (unsigned orders = 0; orders < 4; orders++) {
            struct modbus_shape shape = {
                .type = str_from(types[t]), .function_code = 16, .byte_little = orders & 1, .word_little = orders >> 1};
            yyjson_doc *doc = json("-12345");
            struct modbus_write write;
            uint8_t data[16];
            struct why why = {0};

            assert_int_equal(modbus_encode(&shape, yyjson_doc_get_root(doc), &write, &why), ERR_OK);
            yyjson_doc_free(doc);
            for (unsigned i = 0; i < write.count; i++)
                modbus_put_be16(data + 2 * i, write.registers[i]);
            shape.function_code = 3;
            expect(decoded(&shape, data, 0), strstr(types[t], "float") ? "-12345.0" : "-12345", types[t]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_type_and_order_reads_as_the_page_says, setup, teardown),
        cmocka_unit_test_setup_teardown(test_text_keeps_what_is_utf8_and_shows_the_rest_as_hex, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_quick_ways_of_numbers_agree_with_the_slow_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_values_are_scaled_and_named_as_the_page_says, setup, teardown),
        cmocka_unit_test_setup_teardown(test_coils_are_taken_from_any_bit_of_an_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_values_are_written_exactly_or_not_at_all, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_written_is_read_back_in_every_order, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
