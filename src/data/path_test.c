/* SPDX-License-Identifier: Apache-2.0 */
#include "data/path.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* Result as JSON text; "none" for no match; a character of a text as 'c'. */
static void check(const char *data, const char *path_text, const char *want)
{
    yyjson_doc *doc = json_read(str_from(data), NULL);
    struct arena arena;
    struct path *path;
    struct str character, got = STR("none");
    struct why why = {0};
    yyjson_val *val;

    arena_init(&arena, 0);
    if (path_compile(&path, &arena, str_from(path_text), &why))
        fail_msg("%s: %s", path_text, why.text);
    val = path_first(path, yyjson_doc_get_root(doc), &arena, &character);
    if (val)
        got = json_text(&arena, val);
    else if (character.p)
        got = arena_printf(&arena, "'" STR_FMT "'", STR_ARG(character));
    if (!str_eq_z(got, want))
        fail_msg("%s of %s: want %s, got " STR_FMT, path_text, data, want, STR_ARG(got));
    arena_fini(&arena);
    yyjson_doc_free(doc);
}

static void test_each_kind_of_step_finds_its_value(void **state)
{
    static const char data[] =
        "{\"a\":{\"b\":[{\"n\":1},{\"n\":2}],\"k 1\":5},\"l\":[10,20,30],\"s\":\"x\u00fcz\",\"z\":null,"
        "\"q.x\":7,\"o\":{\"p\":{\"n\":9}},\"e\":[],\"t\":true,\"0\":\"zero\"}";
    static const char *const cases[][2] = {
        {"a.b[0].n", "1"},
        {"$.a.b[0].n", "1"},
        {"$.l", "[10,20,30]"},
        {"l[1]", "20"},
        {"l.[1]", "20"},
        {"l[-1]", "30"},
        {"l[-3]", "10"},
        {"l[3]", "none"},
        {"l[-4]", "none"},
        {"l[1:]", "20"},
        {"l[-2:]", "20"},
        {"l[:2]", "10"},
        {"l[:]", "10"},
        {"l[*]", "10"},
        {"l[5:]", "none"},
        {"l[2:1]", "none"},
        {"l[ 1 ]", "20"},
        {"l[-100:1]", "10"},
        {"a[\"b\"][1].n", "2"},
        {"a['b'][1]['n']", "2"},
        {"a[b][0][n]", "1"},
        {"\"a\".\"b\"[0].n", "1"},
        {"a.\"k 1\"", "5"},
        {"a.k 1", "5"},
        {" a . k 1 ", "5"},
        {"a.*", "[{\"n\":1},{\"n\":2}]"},
        {"$..n", "1"},
        {"a..n", "1"},
        {"o..n", "9"},
        {"$..[1]", "{\"n\":2}"},
        {"a.b[*].n", "1"},
        {"*.b[1].n", "2"},
        {"*.p.n", "9"},
        {"s[1]", "'\u00fc'"},
        {"s[-1]", "'z'"},
        {"s[3]", "none"},
        {"s[-4]", "none"},
        {"s[*]", "\"x\u00fcz\""},
        {"s[0:]", "\"x\u00fcz\""},
        {"s[1:]", "none"},
        {"s[0].x", "none"},
        {"a[0]", "none"},
        {"t[0]", "none"},
        {"o[0:]", "{\"p\":{\"n\":9}}"},
        {"z", "none"},
        {"z.x", "none"},
        {"nope", "none"},
        {"a.nope.x", "none"},
        {"l.n", "none"},
        {"e[0]", "none"},
        {"e[*]", "none"},
        {"[\"q.x\"]", "7"},
        {"0", "\"zero\""},
        {"..n", "1"},
        {"l.*", "none"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        check(data, cases[i][0], cases[i][1]);
}

static void test_first_match_is_looked_for_behind_failures(void **state)
{
    (void)state;
    check("{\"l\":[{\"x\":1},{\"n\":2}]}", "l[*].n", "2");
    check("{\"a\":{\"x\":1},\"b\":{\"y\":{\"n\":3}}}", "*.y.n", "3");
    check("[[1],[2,3]]", "$[*][1]", "3");
    check("{\"a\":[{\"b\":{\"c\":1}}],\"c\":2}", "$..c", "2"); /* the node itself before its children */
}

static void test_null_is_no_match_and_ends_the_search(void **state)
{
    (void)state;
    check("[{\"n\":null},{\"n\":2}]", "$[*].n", "none");
}

static void test_root_may_be_a_scalar(void **state)
{
    (void)state;
    check("23.5", "$", "23.5");
    check("23.5", "a", "none");
    check("\"abc\"", "$[0]", "'a'");
    check("{\"$x\":1}", "$x", "1");
}

static void test_last_of_equal_members_counts(void **state)
{
    (void)state;
    check("{\"a\":1,\"a\":{\"b\":2},\"a\":{\"b\":3}}", "a.b", "3");
}

static void test_quoted_names_hold_any_character(void **state)
{
    (void)state;
    check("{\"a.[x]\":1}", "[\"a.[x]\"]", "1");
    check("{\"it's\":1}", "[\"it's\"]", "1");
    check("{\"q\\\"q\":1}", "[\"q\\\"q\"]", "1");
    check("{\"R&D\":1,\"a|b\":2,\"\u0442\u0435\u043c\u043f\":3,\"a/b\":4}", "R&D", "1");
    check("{\"a|b\":2}", "a|b", "2");
    check("{\"\u0442\u0435\u043c\u043f\":3}", "\u0442\u0435\u043c\u043f", "3");
    check("{\"a/b\":4}", "a/b", "4");
    check("{\"\":4}", "[\"\"]", "4");
}

static void test_what_is_not_supported_is_named_with_its_offset(void **state)
{
    static const struct {
        const char *path;
        enum err err;
        const char *text;
    } cases[] = {
        {"", ERR_SYNTAX, "empty"},
        {"  ", ERR_SYNTAX, "empty"},
        {"a[?(@.x>1)]", ERR_UNSUPPORTED, "at offset 2: filter expressions are not supported"},
        {"a[(x)]", ERR_UNSUPPORTED, "filter expressions"},
        {"a[0,1]", ERR_UNSUPPORTED, "at offset 2: unions"},
        {"a[\"x\",\"y\"]", ERR_UNSUPPORTED, "unions"},
        {"a[0:4:2]", ERR_UNSUPPORTED, "steps are not supported"},
        {"$.a | $.b", ERR_UNSUPPORTED, "unions of paths"},
        {"a.`parent`", ERR_UNSUPPORTED, "at offset 2: `parent`"},
        {"a where b", ERR_UNSUPPORTED, "where"},
        {"a[", ERR_SYNTAX, "at offset 1: the bracket is not closed"},
        {"a[]", ERR_SYNTAX, "nothing stands in the brackets"},
        {"a.", ERR_SYNTAX, "a name is missing"},
        {"a...b", ERR_SYNTAX, "a name is missing"},
        {"a]", ERR_SYNTAX, "quotes itself"},
        {"it's", ERR_SYNTAX, "quotes itself"},
        {"a[\"x]", ERR_SYNTAX, "the quote is not closed"},
        {"a[\"x\"", ERR_SYNTAX, "\"]\" is missing"},
        {"a[0]b", ERR_SYNTAX, "at offset 4: \".\" or \"[\" is expected"},
        {"\"a\"b", ERR_SYNTAX, "is expected"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct why why = {0};
        struct arena arena;
        struct path *path;

        arena_init(&arena, 0);
        assert_int_equal(path_compile(&path, &arena, str_from(cases[i].path), &why), cases[i].err);
        if (str_find(str_from(why.text), str_from(cases[i].text), 0) == SIZE_MAX)
            fail_msg("%s: %s", cases[i].path, why.text);
        arena_fini(&arena);
    }
}

static void test_single_members_and_last_names_are_told(void **state)
{
    static const struct {
        const char *path, *single, *last;
    } cases[] = {{"a", "a", "a"},    {"$.a", "a", "a"}, {"a.b", NULL, "b"},
                 {"a[0]", NULL, ""}, {"*", NULL, ""},   {"$", NULL, ""}};
    struct arena arena;

    (void)state;
    arena_init(&arena, 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct path *path;

        assert_int_equal(path_compile(&path, &arena, str_from(cases[i].path), NULL), ERR_OK);
        if (cases[i].single)
            assert_true(str_eq_z(path_single_member(path), cases[i].single));
        else
            assert_null(path_single_member(path).p);
        assert_true(str_eq_z(path_last_name(path), cases[i].last));
    }
    arena_fini(&arena);
}

static void test_search_below_search_ends(void **state)
{
    autobuf struct buf text = {0};
    struct arena arena;
    struct path *path;
    struct str character;
    yyjson_doc *doc;

    (void)state;
    for (int i = 0; i < 200; i++)
        buf_add_z(&text, "[0,0,0,0,0,");
    buf_add_z(&text, "0");
    for (int i = 0; i < 200; i++)
        buf_add_u8(&text, ']');
    arena_init(&arena, 0);
    doc = json_read(buf_str(&text), NULL);
    assert_int_equal(path_compile(&path, &arena, STR("$..[*]..[*]..[*]..[*]..[*].x"), NULL), ERR_OK);
    assert_null(path_first(path, doc->root, &arena, &character));
    yyjson_doc_free(doc);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_kind_of_step_finds_its_value),
        cmocka_unit_test(test_first_match_is_looked_for_behind_failures),
        cmocka_unit_test(test_null_is_no_match_and_ends_the_search),
        cmocka_unit_test(test_root_may_be_a_scalar),
        cmocka_unit_test(test_last_of_equal_members_counts),
        cmocka_unit_test(test_quoted_names_hold_any_character),
        cmocka_unit_test(test_what_is_not_supported_is_named_with_its_offset),
        cmocka_unit_test(test_single_members_and_last_names_are_told),
        cmocka_unit_test(test_search_below_search_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
