/* SPDX-License-Identifier: Apache-2.0 */
#include "data/json.h"
#include "data/number.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void test_every_value_knows_its_line_and_column(void **state)
{
    const char *text =
        "\xef\xbb\xbf{\n  \"a\": [1, true, \"x\\\"y\"],\n\t\"\u00fc\u4e2d\": {\"b\": null}, \"c\":-1.5e3\n}";
    autojson struct json_file *file = NULL;
    yyjson_val *root, *a, *u;
    struct json_pos pos;

    (void)state;
    assert_int_equal(json_file_parse(&file, "x.json", str_from(text), NULL), ERR_OK);
    root = json_file_root(file);
    pos = json_file_pos(file, root);
    assert_true(pos.line == 1 && pos.column == 1);
    a = json_get(root, STR("a"));
    pos = json_file_pos(file, a);
    assert_true(pos.line == 2 && pos.column == 8);
    pos = json_file_pos(file, a - 1); /* the member's name */
    assert_true(pos.line == 2 && pos.column == 3);
    pos = json_file_pos(file, yyjson_arr_get(a, 0));
    assert_true(pos.line == 2 && pos.column == 9);
    pos = json_file_pos(file, yyjson_arr_get(a, 2));
    assert_true(pos.line == 2 && pos.column == 18);
    u = json_get(root, STR("\u00fc\u4e2d"));
    pos = json_file_pos(file, u);
    assert_true(pos.line == 3 && pos.column == 8);
    pos = json_file_pos(file, json_get(u, STR("b")));
    assert_true(pos.line == 3 && pos.column == 14);
    pos = json_file_pos(file, json_get(root, STR("c")));
    assert_true(pos.line == 3 && pos.column == 25);
    assert_string_equal(json_file_name(file), "x.json");
    assert_int_equal(json_file_text(file).p[0], '{');
}

static void test_syntax_errors_name_file_line_column_and_the_usual_mistake(void **state)
{
    static const char *const cases[][2] = {
        {"", "x.json:1:1: it is empty; a JSON value is needed"},
        {" \n", "x.json:1:1: it is empty; a JSON value is needed"},
        {"{\n \"a\": 1,\n}", "x.json:2:8: superfluous comma; JSON allows none here"},
        {"[1,]", "x.json:1:3: superfluous comma; JSON allows none here"},
        {"{ // c\n}", "x.json:1:3: comments are not allowed in JSON"},
        {"{\n# c\n}", "x.json:2:1: comments are not allowed in JSON"},
        {"{'a': 1}", "x.json:1:2: texts and names stand in double quotes in JSON"},
        {"{\"a\": 1", "x.json:1:8: the text ends in the middle; a closing bracket or quote is missing"},
        {"{\"a\": 1 \"b\": 2}", "x.json:1:9: a comma or colon is missing before this"},
        {"{} x", "x.json:1:4: there is more text after the end of the JSON value"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct json_file *file = NULL;
        struct why why = {0};

        assert_int_equal(json_file_parse(&file, "x.json", str_from(cases[i][0]), &why), ERR_SYNTAX);
        assert_string_equal(why.text, cases[i][1]);
    }
    for (size_t i = 0; i < 4; i++) {
        static const char *const bad[] = {"[1,NaN]", "\"\xff\"", "[01]", "[\"\\x\"]"};
        struct json_file *file = NULL;
        struct why why = {0};

        assert_int_equal(json_file_parse(&file, "f", str_from(bad[i]), &why), ERR_SYNTAX);
        assert_true(str_starts(str_from(why.text), STR("f:1:")));
    }
}

static void test_files_are_read_within_their_limit(void **state)
{
    char path[] = "/tmp/iotgw-json-XXXXXX";
    int fd = mkstemp(path);
    struct json_file *file = NULL;
    struct why why = {0};

    (void)state;
    assert_int_equal(write(fd, "{\"a\": 12}", 9), 9);
    close(fd);
    assert_int_equal(json_file_read(&file, path, 9, NULL), ERR_OK);
    assert_true(str_eq(json_file_text(file), STR("{\"a\": 12}")));
    json_file_free(file);
    file = NULL;
    assert_int_equal(json_file_read(&file, path, 8, &why), ERR_LIMIT);
    assert_true(str_find(str_from(why.text), STR("limit of 8 bytes"), 0) != SIZE_MAX);
    unlink(path);
    why = (struct why){0};
    assert_int_equal(json_file_read(&file, path, 0, &why), ERR_NOTFOUND);
    assert_true(str_find(str_from(why.text), STR("cannot be opened"), 0) != SIZE_MAX);
    why = (struct why){0};
    assert_int_not_equal(json_file_read(&file, "/", 0, &why), ERR_OK);
    assert_null(file);
}

static void test_deep_nesting_is_refused(void **state)
{
    char text[2 * (JSON_MAX_DEPTH + 1)];
    struct why why = {0};
    yyjson_doc *doc;

    (void)state;
    memset(text, '[', JSON_MAX_DEPTH + 1);
    memset(text + JSON_MAX_DEPTH + 1, ']', JSON_MAX_DEPTH + 1);
    assert_null(json_read((struct str){text, sizeof text}, &why));
    assert_int_equal(why.err, ERR_LIMIT);
    doc = json_read((struct str){text + 1, sizeof text - 2}, NULL);
    assert_non_null(doc);
    yyjson_doc_free(doc);
}

static void test_last_of_equal_members_counts(void **state)
{
    yyjson_doc *doc = json_read(STR("{\"a\":1,\"b\":{\"a\":7},\"a\":2,\"\":3}"), NULL);
    char out[NUMBER_MAX];

    (void)state;
    assert_true(str_eq(json_number_text(json_get(doc->root, STR("a")), out), STR("2")));
    assert_true(str_eq(json_number_text(json_get(doc->root, STR("")), out), STR("3")));
    assert_null(json_get(doc->root, STR("c")));
    assert_null(json_get(NULL, STR("c")));
    assert_null(json_get(json_get(doc->root, STR("a")), STR("c")));
    yyjson_doc_free(doc);
}

static void test_numbers_are_taken_exactly_or_refused(void **state)
{
    static const struct {
        const char *text;
        enum err err;
        int64_t v;
    } cases[] = {
        {"5", ERR_OK, 5},
        {"-9223372036854775808", ERR_OK, INT64_MIN},
        {"9223372036854775808", ERR_RANGE, 0},
        {"5.0", ERR_OK, 5},
        {"1e3", ERR_OK, 1000},
        {"5.5", ERR_TYPE, 0},
        {"1e30", ERR_RANGE, 0},
        {"\"5\"", ERR_TYPE, 0},
        {"true", ERR_TYPE, 0},
        {"1e999", ERR_RANGE, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        yyjson_doc *raw = json_read(str_from(cases[i].text), NULL);
        yyjson_doc *plain = yyjson_read(cases[i].text, strlen(cases[i].text), 0);
        int64_t v = 0;

        assert_int_equal(json_to_i64(raw->root, &v), cases[i].err);
        if (cases[i].err == ERR_OK)
            assert_int_equal(v, cases[i].v);
        if (plain) {
            assert_int_equal(json_to_i64(plain->root, &v), cases[i].err);
            assert_int_equal(json_is_number(raw->root), json_is_number(plain->root));
        }
        yyjson_doc_free(raw);
        yyjson_doc_free(plain);
    }
}

static void check_text(const char *in, const char *as_is, const char *final)
{
    yyjson_doc *doc = json_read(str_from(in), NULL);
    struct arena arena;
    struct str got;
    void *before;

    arena_init(&arena, 65536);
    assert_true(str_eq_z(json_text(&arena, doc->root), as_is));
    got = json_final_text(&arena, doc->root);
    assert_true(str_eq_z(got, final));
    before = arena.at; /* what was reserved too much was given back */
    assert_ptr_equal(before, got.p + got.n);
    arena_fini(&arena);
    yyjson_doc_free(doc);
}

static void test_values_are_written_compact(void **state)
{
    (void)state;
    check_text(" { \"a\" : [ 1 , 2.50, true , false, null ] , \"b\" : { } , \"c\": [ ] } ",
               "{\"a\":[1,2.50,true,false,null],\"b\":{},\"c\":[]}",
               "{\"a\":[1,2.5,true,false,null],\"b\":{},\"c\":[]}");
    check_text("\"q\\\"b\\\\ \\u0001\\n\\u00fc\\/\"", "\"q\\\"b\\\\ \\u0001\\n\u00fc/\"",
               "\"q\\\"b\\\\ \\u0001\\n\u00fc/\"");
    check_text("[1e5]", "[1e5]", "[100000.0]");
    check_text("null", "null", "null");
}

static void test_strings_are_escaped_and_made_valid(void **state)
{
    static const struct {
        struct str in;
        const char *out;
    } cases[] = {
        {STR(""), "\"\""},
        {STR("abcdefghijklmnop"), "\"abcdefghijklmnop\""},
        {STR("abcdefg\"hijklmnop\\"), "\"abcdefg\\\"hijklmnop\\\\\""},
        {STR("\x00\x1f\x7f\b\f\r\t"), "\"\\u0000\\u001f\x7f\\b\\f\\r\\t\""},
        {STR("a\xff\xe4\xb8"), "\"a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {STR("12345678\xc3\xbc"), "\"12345678\xc3\xbc\""},
    };
    struct arena arena;

    (void)state;
    arena_init(&arena, 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_true(str_eq_z(json_quote(&arena, cases[i].in), cases[i].out));
    arena_fini(&arena);
}

static void test_equality_is_by_value(void **state)
{
    static const struct {
        const char *a, *b;
        bool equal;
    } cases[] = {
        {"1", "1.0", true},
        {"{\"a\":1,\"b\":[2]}", "{\"b\":[2],\"a\":1.0}", true},
        {"{\"a\":1}", "{\"a\":1,\"b\":2}", false},
        {"[1,2]", "[2,1]", false},
        {"[1]", "[1,2]", false},
        {"\"1\"", "1", false},
        {"true", "false", false},
        {"null", "null", true},
        {"null", "false", false},
        {"9007199254740993", "9007199254740992", false},
        {"\"a\\u0062\"", "\"ab\"", true},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        yyjson_doc *a = json_read(str_from(cases[i].a), NULL), *b = json_read(str_from(cases[i].b), NULL);

        assert_int_equal(json_equal(a->root, b->root), cases[i].equal);
        assert_int_equal(json_equal(b->root, a->root), cases[i].equal);
        yyjson_doc_free(a);
        yyjson_doc_free(b);
    }
}

static void test_pretty_text_has_a_line_for_each_item(void **state)
{
    yyjson_doc *doc = json_read(STR("{\"a\":[1.50,[],{}],\"b\":{\"c\":[true,[\"\u00fc\"]]},\"d\":null}"), NULL);
    autobuf struct buf out = {0};

    (void)state;
    json_add_pretty(&out, yyjson_doc_get_root(doc));
    assert_true(str_eq(buf_str(&out), STR("{\n"
                                          "  \"a\": [\n"
                                          "    1.50,\n"
                                          "    [],\n"
                                          "    {}\n"
                                          "  ],\n"
                                          "  \"b\": {\n"
                                          "    \"c\": [\n"
                                          "      true,\n"
                                          "      [\n"
                                          "        \"\u00fc\"\n"
                                          "      ]\n"
                                          "    ]\n"
                                          "  },\n"
                                          "  \"d\": null\n"
                                          "}")));
    yyjson_doc_free(doc);
}

static void test_what_is_no_text_has_no_bytes(void **state)
{
    static const char *const texts[] = {"{\"a\":1}", "[1,2]", "123", "true", "null"};

    (void)state;
    assert_true(json_str(NULL).n == 0);
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        yyjson_doc *doc = json_read(str_from(texts[i]), NULL);
        struct str text = json_str(doc->root);

        assert_true(text.n == 0 && text.p == NULL);
        yyjson_doc_free(doc);
    }
}

static void test_nul_is_replaced_where_it_is_an_escape_and_nowhere_else(void **state)
{
    char text[] = "{\"a\":\"\\u0000x\\\\u0000\\u0000\",\"b\":\"u0000\\\\\\u0000\"}";

    (void)state;
    assert_int_equal(json_replace_nul(text, sizeof text - 1), 3);
    assert_string_equal(text, "{\"a\":\"\\ufffdx\\\\u0000\\ufffd\",\"b\":\"u0000\\\\\\ufffd\"}");
    assert_int_equal(json_find_nul(STR("\\u000"), 0), 5);
    assert_int_equal(json_replace_nul(text, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pretty_text_has_a_line_for_each_item),
        cmocka_unit_test(test_every_value_knows_its_line_and_column),
        cmocka_unit_test(test_syntax_errors_name_file_line_column_and_the_usual_mistake),
        cmocka_unit_test(test_files_are_read_within_their_limit),
        cmocka_unit_test(test_deep_nesting_is_refused),
        cmocka_unit_test(test_last_of_equal_members_counts),
        cmocka_unit_test(test_numbers_are_taken_exactly_or_refused),
        cmocka_unit_test(test_values_are_written_compact),
        cmocka_unit_test(test_strings_are_escaped_and_made_valid),
        cmocka_unit_test(test_equality_is_by_value),
        cmocka_unit_test(test_what_is_no_text_has_no_bytes),
        cmocka_unit_test(test_nul_is_replaced_where_it_is_an_escape_and_nowhere_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
