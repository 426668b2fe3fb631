/* SPDX-License-Identifier: Apache-2.0 */
#include "data/convert.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const char *const results[] = {
    [CONVERT_OK] = "ok", [CONVERT_SKIPPED] = "skip", [CONVERT_FALLBACK] = "fallback", [CONVERT_FAILED] = "failed"};

struct eval {
    const char *type, *expression, *data;
    enum convert_mode mode;
    bool use_eval;
};

static void check(struct eval e, enum convert_result want_result, const char *want)
{
    yyjson_doc *doc = json_read(str_from(e.data), NULL);
    struct datapoint_value value;
    enum convert_result got_result;
    struct str got = STR_NONE, single;
    struct why why = {0};
    struct arena arena;

    arena_init(&arena, 0);
    if (datapoint_compile(&value, &arena, str_from(e.expression), str_from(e.type), e.mode, e.use_eval, &why))
        fail_msg("%s: %s", e.expression, why.text);
    got_result = datapoint_eval(&value, yyjson_doc_get_root(doc), NULL, &arena, &got, &why);
    if (got_result != want_result || (want && !str_eq_z(got, want)))
        fail_msg("%s %s of %s: want %s %s, got %s " STR_FMT " %s", e.type, e.expression, e.data, results[want_result],
                 want ? want : "", results[got_result], STR_ARG(got), why.text);
    single = template_single_member(value.template);
    if (single.p && !value.use_eval) { /* looked up by the caller: the same */
        yyjson_val *found = json_get(yyjson_doc_get_root(doc), single);

        if (found)
            assert_int_equal(datapoint_eval(&value, yyjson_doc_get_root(doc), found, &arena, &got, &why), want_result);
        if (found && want)
            assert_true(str_eq_z(got, want));
    }
    yyjson_doc_free(doc);
    arena_fini(&arena);
}

static void test_type_names_have_their_class(void **state)
{
    static const struct {
        const char *type;
        enum value_class class;
    } cases[] = {{"", CLASS_JSON},        {"json", CLASS_JSON},       {"JSON", CLASS_JSON},
                 {"int", CLASS_INTEGER},  {"Integer", CLASS_INTEGER}, {"int64", CLASS_INTEGER},
                 {"long", CLASS_INTEGER}, {"float", CLASS_DOUBLE},    {"Double", CLASS_DOUBLE},
                 {"bool", CLASS_BOOLEAN}, {"boolean", CLASS_BOOLEAN}, {"string", CLASS_TEXT},
                 {"raw", CLASS_TEXT},     {"text", CLASS_TEXT},       {"str", CLASS_TEXT}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(value_class_of(str_from(cases[i].type)), cases[i].class);
}

/* Type, member v, strict, lossless; "~" in front: fallback, "!": failed, "-": skipped. */
static const char *const table[][4] = {
    {"int", "5", "5", "5"},
    {"int", "-5", "-5", "-5"},
    {"int", "-0", "0", "0"},
    {"int", "12.9", "12", "12.9"},
    {"int", "-12.9", "-12", "-12.9"},
    {"int", "-0.5", "0", "-0.5"},
    {"int", "1e3", "1000", "1000.0"},
    {"int", "1.5e3", "1500", "1500.0"},
    {"int", "1e-3", "0", "0.001"},
    {"int", "9007199254740993", "9007199254740993", "9007199254740993"},
    {"int", "9007199254740993.7", "9007199254740993", "9007199254740994.0"},
    {"int", "9223372036854775807", "9223372036854775807", "9223372036854775807"},
    {"int", "-9223372036854775808", "-9223372036854775808", "-9223372036854775808"},
    {"int", "9223372036854775808", "9223372036854776000.0", "9223372036854775808"},
    {"int", "1e30", "1000000000000000000000000000000.0", "1000000000000000000000000000000.0"},
    {"int", "1e999", "!", "!"},
    {"int", "true", "1", "1"},
    {"int", "false", "0", "0"},
    {"int", "null", "-", "-"},
    {"int", "\"12\"", "12", "12"},
    {"int", "\" 7 \"", "7", "7"},
    {"int", "\"+7\"", "7", "7"},
    {"int", "\"007\"", "7", "7"},
    {"int", "\"12.9\"", "12", "12.9"},
    {"int", "\"12.0\"", "12", "12"},
    {"int", "\"1e2\"", "100", "100"},
    {"int", "\".9\"", "0", "0.9"},
    {"int", "\"abc\"", "~\"abc\"", "~\"abc\""},
    {"int", "\"\"", "~\"\"", "~\"\""},
    {"int", "\"0x10\"", "~\"0x10\"", "~\"0x10\""},
    {"int", "\"1,5\"", "~\"1,5\"", "~\"1,5\""},
    {"int", "\"nan\"", "~\"nan\"", "~\"nan\""},
    {"int", "\"1e999\"", "~\"1e999\"", "~\"1e999\""},
    {"int", "[1, 2]", "~\"[1,2]\"", "[1,2]"},
    {"int", "{\"a\":1.50}", "~\"{\\\"a\\\":1.50}\"", "{\"a\":1.5}"},
    {"double", "5", "5.0", "5"},
    {"double", "-5", "-5.0", "-5"},
    {"double", "0", "0.0", "0"},
    {"double", "-0", "-0.0", "0"},
    {"double", "5.5", "5.5", "5.5"},
    {"double", "5.50", "5.5", "5.5"},
    {"double", "1e3", "1000.0", "1000.0"},
    {"double", "9007199254740993", "9007199254740992.0", "9007199254740993"},
    {"double", "1e999", "!", "!"},
    {"double", "true", "1.0", "1.0"},
    {"double", "\"5\"", "5.0", "5.0"},
    {"double", "\" 5.25 \"", "5.25", "5.25"},
    {"double", "\"1,5\"", "~\"1,5\"", "~\"1,5\""},
    {"double", "\"inf\"", "~\"inf\"", "~\"inf\""},
    {"double", "[1]", "~\"[1]\"", "[1]"},
    {"bool", "true", "true", "true"},
    {"bool", "1", "true", "true"},
    {"bool", "0", "false", "false"},
    {"bool", "1.0", "true", "true"},
    {"bool", "-0.0", "false", "false"},
    {"bool", "2", "~\"2\"", "~\"2\""},
    {"bool", "0.50", "~\"0.5\"", "~\"0.5\""},
    {"bool", "\"YES\"", "true", "true"},
    {"bool", "\" on \"", "true", "true"},
    {"bool", "\"T\"", "true", "true"},
    {"bool", "\"y\"", "true", "true"},
    {"bool", "\"1\"", "true", "true"},
    {"bool", "\"off\"", "false", "false"},
    {"bool", "\"No\"", "false", "false"},
    {"bool", "\"n\"", "false", "false"},
    {"bool", "\"F\"", "false", "false"},
    {"bool", "\"0\"", "false", "false"},
    {"bool", "\"nein\"", "~\"nein\"", "~\"nein\""},
    {"bool", "[1]", "~\"[1]\"", "[1]"},
    {"string", "5", "\"5\"", "\"5\""},
    {"string", "5.50", "\"5.5\"", "\"5.5\""},
    {"string", "1e21", "\"1e+21\"", "\"1e+21\""},
    {"string", "true", "\"True\"", "\"True\""},
    {"string", "\"a\\\"b\"", "\"a\\\"b\"", "\"a\\\"b\""},
    {"string", "{\"a\": [1]}", "\"{\\\"a\\\":[1]}\"", "\"{\\\"a\\\":[1]}\""},
    {"string", "null", "-", "-"},
    {"json", "5.50", "5.5", "5.5"},
    {"json", "1e5", "100000.0", "100000.0"},
    {"json", "true", "true", "true"},
    {"json", "\"x\"", "\"x\"", "\"x\""},
    {"json", "{\"a\": [1e2, null]}", "{\"a\":[100.0,null]}", "{\"a\":[100.0,null]}"},
    {"json", "null", "-", "-"},
    {"json", "1e999", "!", "!"},
};

static void test_each_kind_of_value_converts_to_each_class(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        char data[256];

        snprintf(data, sizeof data, "{\"v\":%s}", table[i][1]);
        for (int mode = 0; mode < 2; mode++) {
            const char *want = table[i][2 + mode];
            enum convert_result result = *want == '~'               ? CONVERT_FALLBACK
                                         : *want == '!'             ? CONVERT_FAILED
                                         : *want == '-' && !want[1] ? CONVERT_SKIPPED
                                                                    : CONVERT_OK;

            check((struct eval){table[i][0], "${v}", data, mode ? CONVERT_LOSSLESS : CONVERT_STRICT}, result,
                  result == CONVERT_OK         ? want
                  : result == CONVERT_FALLBACK ? want + 1
                                               : NULL);
        }
    }
}

static void test_numbers_of_parsed_documents_convert_too(void **state)
{
    static const struct {
        const char *json;
        enum value_class class;
        const char *want;
    } cases[] = {{"5", CLASS_DOUBLE, "5.0"},
                 {"2.5", CLASS_INTEGER, "2"},
                 {"-3", CLASS_JSON, "-3"},
                 {"1e21", CLASS_TEXT, "\"1e+21\""}};
    struct arena arena;

    (void)state;
    arena_init(&arena, 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        yyjson_doc *doc = yyjson_read(cases[i].json, strlen(cases[i].json), 0);
        struct str got;

        assert_int_equal(
            convert_value(cases[i].class, CONVERT_STRICT, yyjson_doc_get_root(doc), STR_NONE, &arena, &got),
            CONVERT_OK);
        assert_true(str_eq_z(got, cases[i].want));
        yyjson_doc_free(doc);
    }
    arena_fini(&arena);
}

static void test_constants_and_mixed_templates_are_text(void **state)
{
    (void)state;
    check((struct eval){"int", "42", "{}"}, CONVERT_OK, "42");
    check((struct eval){"json", "42", "{}"}, CONVERT_OK, "\"42\"");
    check((struct eval){"", "x", "{}"}, CONVERT_OK, "\"x\"");
    check((struct eval){"int", "", "{}"}, CONVERT_FALLBACK, "\"\"");
    check((struct eval){"double", "1${a}", "{\"a\":2}"}, CONVERT_OK, "12.0");
    check((struct eval){"json", "<${a}>", "{\"a\":{\"b\":1}}"}, CONVERT_OK, "\"<{\\\"b\\\":1}>\"");
    check((struct eval){"string", "${a}-${b}", "{\"a\":1}"}, CONVERT_OK, "\"1-null\"");
    check((struct eval){"string", "${a}-${b}", "{}"}, CONVERT_SKIPPED, NULL);
    check((struct eval){"string", "${s[1]}", "{\"s\":\"xyz\"}"}, CONVERT_OK, "\"y\"");
    check((struct eval){"int", "${s[1]}", "{\"s\":\"678\"}"}, CONVERT_OK, "7");
    check((struct eval){"int", "${}", "{}"}, CONVERT_SKIPPED, NULL);
}

static void test_final_numbers_are_not_copied(void **state)
{
    yyjson_doc *doc = json_read(STR("{\"v\":21.5}"), NULL);
    yyjson_val *val = json_get(doc->root, STR("v"));
    struct arena arena;
    struct str got;

    (void)state;
    arena_init(&arena, 0);
    assert_int_equal(convert_value(CLASS_DOUBLE, CONVERT_STRICT, val, STR_NONE, &arena, &got), CONVERT_OK);
    assert_ptr_equal(got.p, yyjson_get_raw(val));
    assert_int_equal(convert_value(CLASS_JSON, CONVERT_STRICT, val, STR_NONE, &arena, &got), CONVERT_OK);
    assert_ptr_equal(got.p, yyjson_get_raw(val));
    yyjson_doc_free(doc);
    arena_fini(&arena);
}

static void check_formula(const char *type, const char *formula, const char *data, enum convert_result result,
                          const char *want)
{
    check((struct eval){type, formula, data, CONVERT_STRICT, true}, result, want);
}

static void test_formulas_that_no_likely_value_of_their_tags_makes_sense_of_are_found(void **state)
{
    static const struct {
        const char *text, *why; /* NULL: may work */
    } cases[] = {{"${a}+1", NULL},
                 {"5 ${op} 3", NULL},
                 {"'${a}'.upper()", NULL},
                 {"len(${a})+${a}[0]", NULL},
                 {"${a}${b}", NULL},
                 {"2${a}", NULL},
                 {"${a}", NULL},
                 {"no formula", "offset"},
                 {"${a} +* 2", "offset 6"},
                 {"(${a} + 2", "offset"},
                 {"open(${a}).read()", "unknown function \"open\""},
                 {"lambda x: ${a}", "offset"}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct datapoint_value value;
        struct arena arena;
        struct why why = {0};
        bool works;

        arena_init(&arena, 0);
        works = datapoint_compile(&value, &arena, str_from(cases[i].text), STR("int"), CONVERT_STRICT, true, &why) ==
                    ERR_OK &&
                datapoint_may_work(&value, &arena, &why);
        if (works != !cases[i].why)
            fail_msg("%s: %s", cases[i].text, works ? "may work" : why_text(&why));
        if (cases[i].why && !strstr(why_text(&why), cases[i].why))
            fail_msg("%s: %s", cases[i].text, why_text(&why));
        arena_fini(&arena);
    }
}

static void test_formulas_are_evaluated_and_then_converted(void **state)
{
    static const char data[] =
        "{\"a\":1,\"f\":2.50,\"m\":-3,\"s\":\"txt\",\"n\":\"4\",\"t\":true,\"l\":[1,2],\"z\":null,"
        "\"o\":{\"k\":5},\"op\":\"+\"}";

    (void)state;
    check_formula("double", "${a}+${f}", data, CONVERT_OK, "3.5");
    check_formula("int", "${a}+${f}", data, CONVERT_OK, "3");
    check_formula("", "${a}+1", data, CONVERT_OK, "2");
    check_formula("raw", "${f}*2", data, CONVERT_OK, "\"5.0\"");
    check_formula("bool", "${a}>0", data, CONVERT_OK, "true");
    check_formula("int", "${t}+1", data, CONVERT_OK, "2");
    check_formula("int", "${o.k}*2", data, CONVERT_OK, "10");
    check_formula("json", "[${a}, 'x', None]", data, CONVERT_OK, "[1,\"x\",null]");
    check_formula("int", "None", data, CONVERT_SKIPPED, NULL);
    check_formula("string", "${a}+1", data, CONVERT_OK, "\"1+1\"");
    check_formula("int", "'abc'", data, CONVERT_FALLBACK, "\"abc\"");
    check_formula("double", "1e308*10", data, CONVERT_FAILED, NULL);
    check_formula("double", "1/0", data, CONVERT_FAILED, NULL);
    check_formula("double", "${nope}+1", data, CONVERT_SKIPPED, NULL);
    check_formula("double", "${z}+1", data, CONVERT_SKIPPED, NULL);
}

static void test_tags_of_formulas_are_put_in_as_text(void **state)
{
    static const char data[] =
        "{\"a\":1,\"f\":2.50,\"m\":-3,\"s\":\"txt\",\"n\":\"4\",\"l\":[1,2],\"op\":\"+\",\"e\":1e-7}";

    (void)state;
    check_formula("int", "${m}**2", data, CONVERT_OK, "-9"); /* -3**2 */
    check_formula("int", "(${m})**2", data, CONVERT_OK, "9");
    check_formula("int", "5-${m}", data, CONVERT_OK, "8");
    check_formula("int", "2${a}", data, CONVERT_OK, "21");
    check_formula("int", "${a}${a}", data, CONVERT_OK, "11");
    check_formula("double", "${a}.5", data, CONVERT_OK, "1.5");
    check_formula("int", "${a} ${op} ${a}", data, CONVERT_OK, "2");
    check_formula("int", "${n}+1", data, CONVERT_OK, "5");
    check_formula("int", "5 if '${s}'=='txt' else 6", data, CONVERT_OK, "5");
    check_formula("int", "len('${f}')", data, CONVERT_OK, "3"); /* 2.5 */
    check_formula("int", "sum(${l})", data, CONVERT_OK, "3");
    check_formula("double", "${e}*1e7", data, CONVERT_OK, "1.0");
    check_formula("int", "${s}+1", data, CONVERT_FAILED, NULL);
    check_formula("int", "${a}+", data, CONVERT_FAILED, NULL);
}

static void test_formula_without_tags_that_does_not_compile_is_an_error_of_the_configuration(void **state)
{
    struct datapoint_value value;
    struct why why = {0};
    struct arena arena;

    (void)state;
    arena_init(&arena, 0);
    assert_int_not_equal(datapoint_compile(&value, &arena, STR("1 + foo"), STR("int"), CONVERT_STRICT, true, &why),
                         ERR_OK);
    assert_true(str_find(str_from(why.text), STR("foo"), 0) != SIZE_MAX);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_type_names_have_their_class),
        cmocka_unit_test(test_each_kind_of_value_converts_to_each_class),
        cmocka_unit_test(test_numbers_of_parsed_documents_convert_too),
        cmocka_unit_test(test_constants_and_mixed_templates_are_text),
        cmocka_unit_test(test_final_numbers_are_not_copied),
        cmocka_unit_test(test_formulas_that_no_likely_value_of_their_tags_makes_sense_of_are_found),
        cmocka_unit_test(test_formulas_are_evaluated_and_then_converted),
        cmocka_unit_test(test_tags_of_formulas_are_put_in_as_text),
        cmocka_unit_test(test_formula_without_tags_that_does_not_compile_is_an_error_of_the_configuration),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
