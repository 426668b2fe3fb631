/* SPDX-License-Identifier: Apache-2.0 */
#include "data/template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct arena arena;

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

static struct template *compiled(const char *text)
{
    struct template *template = NULL;
    struct why why = {0};

    if (template_compile(&template, &arena, str_from(text), &why))
        fail_msg("%s: %s", text, why.text);
    return template;
}

/* A member of that name is what the template's first tag stands for. */
static void expect_tag(const struct template *template, const char *name)
{
    yyjson_mut_doc *made = yyjson_mut_doc_new(NULL);
    yyjson_doc *doc;
    struct str text;

    yyjson_mut_doc_set_root(made, yyjson_mut_obj(made));
    yyjson_mut_obj_add_bool(made, yyjson_mut_doc_get_root(made), name, true);
    doc = yyjson_mut_doc_imut_copy(made, NULL);
    assert_true(yyjson_is_true(template_resolve(template, 0, yyjson_doc_get_root(doc), &arena, &text)));
    yyjson_doc_free(doc);
    yyjson_mut_doc_free(made);
}

static void test_tags_are_cut_out_of_the_text(void **state)
{
    static const struct {
        const char *text;
        enum template_kind kind;
        size_t n;
        const char *first;
    } cases[] = {
        {"", TEMPLATE_CONSTANT, 0, NULL},
        {"plain", TEMPLATE_CONSTANT, 0, NULL},
        {"$a $", TEMPLATE_CONSTANT, 0, NULL},
        {"${a", TEMPLATE_CONSTANT, 0, NULL},
        {"${a}", TEMPLATE_PURE, 1, "a"},
        {"${ a }", TEMPLATE_PURE, 1, "a"},
        {"${}", TEMPLATE_PURE, 1, ""},
        {"${a} ", TEMPLATE_MIXED, 1, "a"},
        {"${a}${b}", TEMPLATE_MIXED, 2, "a"},
        {"${a[\"}\"]}", TEMPLATE_PURE, 1, "a[\"}\"]"},
        {"${a['}']}", TEMPLATE_PURE, 1, "a['}']"},
        {"${a ${b}", TEMPLATE_PURE, 1, "a ${b"},
        {"$${a}}", TEMPLATE_MIXED, 1, "a"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct template *template = compiled(cases[i].text);

        assert_int_equal(template_kind(template), cases[i].kind);
        assert_int_equal(template_n_tags(template), cases[i].n);
        if (cases[i].n && !*cases[i].first)
            assert_null(template_path(template, 0));
        else if (cases[i].n)
            expect_tag(template, cases[i].first);
        assert_true(str_eq_z(template_source(template), cases[i].text));
    }
}

static void test_errors_name_the_tag_and_the_offset_in_it(void **state)
{
    struct template *template;
    struct why why = {0};

    (void)state;
    assert_int_equal(template_compile(&template, &arena, STR("x ${a[?(@.b)]}"), &why), ERR_UNSUPPORTED);
    assert_string_equal(why.text, "${a[?(@.b)]}: at offset 2: filter expressions are not supported");
}

static void check_text(const char *data, const char *text, enum template_missing missing, const char *want)
{
    yyjson_doc *doc = json_read(str_from(data), NULL);
    struct str got = STR_NONE;
    bool found = template_text(compiled(text), yyjson_doc_get_root(doc), missing, &arena, &got);

    if (found != (want != NULL) || (found && !str_eq_z(got, want)))
        fail_msg("%s: want %s, got " STR_FMT, text, want ? want : "none", STR_ARG(got));
    yyjson_doc_free(doc);
}

static void test_values_become_text(void **state)
{
    static const char data[] =
        "{\"i\":12345678901234567890123,\"f\":21.50,\"e\":1e-5,\"b\":1e21,\"t\":true,\"n\":null,"
        "\"s\":\"x\\\"y\",\"o\":{\"a\": [1, 2.50]},\"a.b\":1,\"a\":{\"b\":2,\"c\":3},\"em\":\"\"}";
    static const char *const cases[][2] = {
        {"${i}", "12345678901234567890123"},
        {"<${f}>", "<21.5>"},
        {"<${e}|${b}>", "<1e-05|1e+21>"},
        {"<${t}>", "<True>"},
        {"<${s}>", "<x\"y>"},
        {"<${o}>", "<{\"a\":[1,2.50]}>"},
        {"${a.b}${a.c}", "13"}, /* the member of that very name comes before the path */
        {"${s[0]}!", "x!"},
        {"${em}", ""},
        {"<${em}>", "<>"},
        {"const", "const"},
        {"", ""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        check_text(data, cases[i][0], TEMPLATE_SKIP, cases[i][1]);
        check_text(data, cases[i][0], TEMPLATE_NULL, cases[i][1]);
    }
}

static void test_unresolved_tags_skip_or_say_null(void **state)
{
    (void)state;
    check_text("{\"a\":1}", "${x}", TEMPLATE_NULL, NULL);
    check_text("{\"a\":1}", "${}", TEMPLATE_NULL, NULL);
    check_text("{\"a\":null}", "${a}", TEMPLATE_NULL, NULL);
    check_text("{\"a\":1}", "${a}-${x}", TEMPLATE_NULL, "1-null");
    check_text("{\"a\":1}", "${a}-${x}", TEMPLATE_SKIP, NULL);
    check_text("{\"a\":1}", "${y}-${x}", TEMPLATE_NULL, NULL);
    check_text("5", "${a}", TEMPLATE_NULL, NULL);
    check_text("5", "${$}", TEMPLATE_NULL, "5");
}

static void test_single_member_is_told_only_where_look_up_by_name_is_the_whole_rule(void **state)
{
    (void)state;
    assert_true(str_eq(template_single_member(compiled("${ a }")), STR("a")));
    assert_null(template_single_member(compiled("${$.a}")).p);
    assert_null(template_single_member(compiled("${a.b}")).p);
    assert_null(template_single_member(compiled("x${a}")).p);
    assert_null(template_single_member(compiled("a")).p);
    assert_null(template_single_member(compiled("${}")).p);
}

/* --- byte templates ----------------------------------------------------------------------------------------------- */

static void check_bytes(const char *text, struct str payload, bool hex, const char *want)
{
    struct byte_template *template;
    struct str got = STR_NONE;
    bool found;

    assert_int_equal(byte_template_compile(&template, &arena, str_from(text)), ERR_OK);
    found = byte_template_text(template, payload, hex, &arena, &got);
    if (found != (want != NULL) || (found && !str_eq_z(got, want)))
        fail_msg("%s: want %s, got " STR_FMT, text, want ? want : "none", STR_ARG(got));
}

static void test_byte_templates_cut_as_python_does(void **state)
{
    static const char *const cases[][2] = {
        {"[:]", "ABCDE"},
        {"[1:3]", "BC"},
        {"[3:]", "DE"},
        {"[:2]", "AB"},
        {"[-2:]", "DE"},
        {"[:-4]", "A"},
        {"[2]", "C"},
        {"[-1]", "E"},
        {"[5]", NULL},
        {"[-6]", NULL},
        {"[9:]", ""},
        {"[3:1]", ""},
        {"[0:99]", "ABCDE"},
        {"x[0]y[1]", "xAyB"},
        {"[a]", "[a]"},
        {"[]", "[]"},
        {"[-]", "[-]"},
        {"[0", "[0"},
        {"[[0]]", "[A]"},
        {"const", "const"},
        {"", ""},
        {"[99999999999999999999:]", ""},
        {"[0:-99999999999999999999]", ""},
        {"[1.5]", "[1.5]"},
        {"[ 1]", "[ 1]"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        check_bytes(cases[i][0], STR("ABCDE"), false, cases[i][1]);
    check_bytes("[0:2]-[2]", STR("\x0a\xff\x10"), true, "0aff-10");
    check_bytes("[0:2]", STR("\x0a\xff"), false, NULL);
    check_bytes("[0:2]", STR("\xc3\xa9"), false, "\xc3\xa9");
    check_bytes("[0][1]", STR("\xc3\xa9"), false, NULL);
    check_bytes("[0]", STR("["), false, "["); /* what is put in is not read again */
    check_bytes("[0][1:]", STR("[0]"), false, "[0]");
    check_bytes("[:]", STR(""), false, "");
}

static void test_constant_byte_templates_are_known(void **state)
{
    struct byte_template *template;

    (void)state;
    assert_int_equal(byte_template_compile(&template, &arena, STR("a[b]c")), ERR_OK);
    assert_true(byte_template_is_constant(template));
    assert_int_equal(byte_template_compile(&template, &arena, STR("a[0]c")), ERR_OK);
    assert_false(byte_template_is_constant(template));
}

/* --- regular expressions ------------------------------------------------------------------------------------------ */

static void check_topic(const char *pattern, const char *topic, bool literal_ok, const char *want)
{
    struct regex *regex = NULL;
    struct str got = STR_NONE;
    struct why why = {0};
    bool found;

    if (regex_compile(&regex, str_from(pattern), REGEX_SEARCH, &why))
        fail_msg("%s: %s", pattern, why.text);
    found = regex_topic(regex, str_from(topic), literal_ok, &got);
    if (found != (want != NULL) || (found && !str_eq_z(got, want)))
        fail_msg("%s on %s: want %s, got " STR_FMT, pattern, topic, want ? want : "none", STR_ARG(got));
    regex_free(regex);
}

static void test_group_that_closed_last_is_the_result(void **state)
{
    static const char *const cases[][3] = {
        {"^([^/]+)/([^/]+)", "a/b/c", "b"},
        {"((a)(b))", "abc", "ab"},
        {"(x)|(b)", "abc", "b"},
        {"\\d+", "dev12/34", "12"},
        {"(?<=sensor/)(.*?)(?=/data)", "sensor/B/data", "B"},
        {"(?P<n>\\w+)/end$", "q/rr/end", "rr"},
        {"(?P<n>a)(?P=n)", "aa", "a"},
        {"(?i)DEV\\d", "my/dev7", "dev7"},
        {"(?:a)(b)[)](c)?", "ab)", "b"},
        {"(a)\\)(b)", "a)b", "b"},
        {"[(](a)", "(a", "a"},
        {"[]()](a)|([^]])", "x", "x"},
        {"(b)\\Z", "a/b", "b"},
        {"\\\\(Z)", "\\Z", "Z"},
        {"()a", "a", ""},
        {"\u00fc(.)", "\u00fc\u00e4", "\u00e4"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        check_topic(cases[i][0], cases[i][1], false, cases[i][2]);
}

static void test_pattern_without_match_may_be_the_constant(void **state)
{
    (void)state;
    check_topic("Boiler 1", "a/b", true, "Boiler 1");
    check_topic("Boiler 1", "a/b", false, NULL);
    check_topic("Boiler.1", "a/b", true, NULL);
    check_topic("a", "x/a", true, "a");
}

static void test_invalid_topics_and_runaway_patterns_do_not_match(void **state)
{
    (void)state;
    check_topic("a", "a\xff", false, NULL);
    check_topic("(a+)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", false, NULL);
}

static void test_anchoring_is_that_of_the_use(void **state)
{
    static const struct {
        enum regex_use use;
        const char *text;
        bool matches;
    } cases[] = {{REGEX_SEARCH, "xab1", true}, {REGEX_SEARCH, "abx", true}, {REGEX_MATCH, "abx", true},
                 {REGEX_MATCH, "xab", false},  {REGEX_FULL, "ab", true},    {REGEX_FULL, "abx", false},
                 {REGEX_FULL, "xab", false}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct regex *regex = NULL;
        struct str found;

        assert_int_equal(regex_compile(&regex, STR("a|ab"), cases[i].use, NULL), ERR_OK);
        assert_int_equal(regex_topic(regex, str_from(cases[i].text), false, &found), cases[i].matches);
        regex_free(regex);
    }
}

static void test_bad_patterns_are_refused_with_their_offset(void **state)
{
    struct regex *regex = NULL;
    struct why why = {0};

    (void)state;
    assert_int_equal(regex_compile(&regex, STR("ab(c"), REGEX_SEARCH, &why), ERR_SYNTAX);
    assert_true(str_starts(str_from(why.text), STR("at offset 4: ")));
    assert_null(regex);
    regex_free(NULL);
}

static void test_many_groups_need_no_more_than_the_heap_gives(void **state)
{
    autobuf struct buf pattern = {0};
    struct regex *regex = NULL;
    struct str got;

    (void)state;
    for (int i = 0; i < 1000; i++)
        buf_add_z(&pattern, "(a)");
    assert_int_equal(regex_compile(&regex, buf_str(&pattern), REGEX_SEARCH, NULL), ERR_OK);
    assert_false(regex_topic(regex, STR("aaa"), false, &got));
    regex_free(regex);
}

/* --- downlink ----------------------------------------------------------------------------------------------------- */

static void check_downlink(const char *text, enum template_target target, const struct template_names *names,
                           const char *want)
{
    struct str got = STR_NONE;
    struct why why = {0};
    bool found = template_downlink(compiled(text), target, names, &arena, &got, &why);

    if (found != (want != NULL) || (found && !str_eq_z(got, want)))
        fail_msg("%s: want %s, got " STR_FMT, text, want ? want : "none", STR_ARG(got));
    if (!found)
        assert_int_not_equal(why.text[0], 0);
}

static yyjson_doc *rpc_names(struct template_names *names)
{
    yyjson_doc *doc =
        json_read(STR("{\"id\":7,\"method\":\"setX\",\"params\":{\"a\":1,\"f\":1.50,\"s\":\"x \\\"y\\\"\",\"t\":true,"
                      "\"n\":null,\"o\":{\"k\": [1]}}}"),
                  NULL);

    *names = (struct template_names){.device_name = STR("Dev 1/\u00fc"),
                                     .method = STR("setX"),
                                     .request_id = STR("7"),
                                     .request = yyjson_doc_get_root(doc)};
    return doc;
}

static void test_downlink_values_take_the_form_of_their_target(void **state)
{
    static const struct {
        enum template_target target;
        const char *text, *want;
    } cases[] = {
        {TARGET_MQTT_TOPIC, "a/${deviceName}/${methodName}/${requestId}/${id}", "a/Dev 1/\u00fc/setX/7/7"},
        {TARGET_MQTT_TOPIC, "${params.s}|${params.f}|${params.t}|${params.o}|${method}",
         "x \"y\"|1.5|True|{\"k\":[1]}|setX"},
        {TARGET_MQTT_TOPIC, "a/${params.n}", NULL},
        {TARGET_MQTT_TOPIC, "a/${params.x}", NULL},
        {TARGET_MQTT_TOPIC, "a/${attributeKey}", NULL},
        {TARGET_MQTT_RPC, "${params.s}", "\"x \\\"y\\\"\""},
        {TARGET_MQTT_RPC, "{\"v\":${params.f},\"t\":${params.t},\"n\":${params.n},\"x\":${params.x},\"o\":${params.o}}",
         "{\"v\":1.50,\"t\":true,\"n\":null,\"x\":null,\"o\":{\"k\":[1]}}"},
        {TARGET_MQTT_RPC, "${deviceName} ${methodName} ${method} ${requestId}", "Dev 1/\u00fc setX \"setX\" 7"},
        {TARGET_MQTT_RPC, "ON", "ON"},
        {TARGET_URL, "http://h/${deviceName}?q=a b&x=${params.s}", "http://h/Dev%201/%C3%BC?q=a%20b&x=x%20%22y%22"},
        {TARGET_URL, "${params.t}-${params.f}-${params.o}-${restId}", "True-1.5-%7B%22k%22%3A%5B1%5D%7D-7"},
        {TARGET_URL, "/${params.n}", NULL},
        {TARGET_BODY, "${params.o}", "{\"k\":[1]}"},
        {TARGET_BODY, "${params.s}", "x \"y\""},
        {TARGET_BODY, "${params.t}", "true"},
        {TARGET_BODY, "${params.x}", "null"},
        {TARGET_BODY,
         "{\"s\":\"<${params.s}>\",\"t\":\"${params.t}\",\"n\":\"${params.n}\",\"o\":\"${params.o}\",\"f\":\"${params."
         "f}\"}",
         "{\"s\":\"<x \\\"y\\\">\",\"t\":\"True\",\"n\":\"null\",\"o\":\"{\\\"k\\\":[1]}\",\"f\":\"1.5\"}"},
        {TARGET_BODY, "{\"f\":${params.f},\"t\":${params.t},\"n\":${params.n},\"o\":${params.o}}",
         "{\"f\":1.50,\"t\":true,\"n\":null,\"o\":{\"k\":[1]}}"},
        {TARGET_BODY, "{\"e\\\"q\":\"${params.s}\"}", "{\"e\\\"q\":\"x \\\"y\\\"\"}"},
        {TARGET_BODY, "set ${params.s}", "set x \"y\""},
        {TARGET_BODY, "two words", "two words"},
        {TARGET_BODY, "{'a': ${params.a}, 'b': ${params.t},}", "{\"a\":1,\"b\":true}"},
        {TARGET_BODY, "(1, 'x', None)", "[1,\"x\",null]"},
        {TARGET_BODY, "${params.a}", "1"},
        {TARGET_BODY, "", ""},
        {TARGET_BODY, "'a", "'a"},
    };
    struct template_names names;
    yyjson_doc *doc = rpc_names(&names);

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        check_downlink(cases[i].text, cases[i].target, &names, cases[i].want);
    yyjson_doc_free(doc);
}

static void test_json_bodies_quote_text_and_wrap_what_is_not_json(void **state)
{
    struct template_names names;
    yyjson_doc *doc = rpc_names(&names);

    (void)state;
    names.body_is_json = names.body_wraps_text = true;
    check_downlink("${params.s}", TARGET_BODY, &names, "\"x \\\"y\\\"\"");
    check_downlink("${deviceName}", TARGET_BODY, &names, "\"Dev 1/\u00fc\"");
    check_downlink("two words", TARGET_BODY, &names, "\"two words\"");
    check_downlink("{\"a\":1}", TARGET_BODY, &names, "{\"a\":1}");
    yyjson_doc_free(doc);
}

static void test_attribute_values_are_raw_in_updates_and_json_in_responses(void **state)
{
    static const char *const cases[][3] = {{"\"on\"", "on", "\"on\""},
                                           {"1.50", "1.5", "1.50"},
                                           {"true", "true", "true"},
                                           {"{\"a\": 1}", "{\"a\":1}", "{\"a\":1}"},
                                           {"null", "null", NULL}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        yyjson_doc *doc = json_read(str_from(cases[i][0]), NULL);
        struct template_names names = {
            .device_name = STR("D"), .attribute_key = STR("k"), .attribute_value = yyjson_doc_get_root(doc)};

        check_downlink("${attributeValue}", TARGET_MQTT_ATTRIBUTE, &names, cases[i][1]);
        check_downlink("${attributeValue}", TARGET_MQTT_RESPONSE, &names, cases[i][2]);
        check_downlink("${deviceName}/${attributeKey}", TARGET_MQTT_ATTRIBUTE, &names, "D/k");
        check_downlink("${other}", TARGET_MQTT_ATTRIBUTE, &names, NULL);
        yyjson_doc_free(doc);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tags_are_cut_out_of_the_text),
        cmocka_unit_test(test_errors_name_the_tag_and_the_offset_in_it),
        cmocka_unit_test(test_values_become_text),
        cmocka_unit_test(test_unresolved_tags_skip_or_say_null),
        cmocka_unit_test(test_single_member_is_told_only_where_look_up_by_name_is_the_whole_rule),
        cmocka_unit_test(test_byte_templates_cut_as_python_does),
        cmocka_unit_test(test_constant_byte_templates_are_known),
        cmocka_unit_test(test_group_that_closed_last_is_the_result),
        cmocka_unit_test(test_pattern_without_match_may_be_the_constant),
        cmocka_unit_test(test_invalid_topics_and_runaway_patterns_do_not_match),
        cmocka_unit_test(test_anchoring_is_that_of_the_use),
        cmocka_unit_test(test_bad_patterns_are_refused_with_their_offset),
        cmocka_unit_test(test_many_groups_need_no_more_than_the_heap_gives),
        cmocka_unit_test(test_downlink_values_take_the_form_of_their_target),
        cmocka_unit_test(test_json_bodies_quote_text_and_wrap_what_is_not_json),
        cmocka_unit_test(test_attribute_values_are_raw_in_updates_and_json_in_responses),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
