/* SPDX-License-Identifier: Apache-2.0 */
#include "convert/web_convert.h"
#include "convert/web_down.h"

#include <stdarg.h>

#include <setjmp.h>

#include <cmocka.h>

static void test_urls_are_joined_with_one_slash(void **state)
{
    static const char *const cases[][3] = {{"http://a", "b", "http://a/b"},
                                           {"http://a/", "/b", "http://a/b"},
                                           {"http://a", "", "http://a/"},
                                           {"http://a", "HTTPS://b/c", "HTTPS://b/c"}};
    struct arena arena;

    (void)state;
    arena_init(&arena, 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_true(str_eq_z(web_join(&arena, str_from(cases[i][0]), str_from(cases[i][1])), cases[i][2]));
    arena_fini(&arena);
}

static void test_hosts_are_compared_with_scheme_and_port(void **state)
{
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {{"http://a/x", "http://A:80/y", true},
                 {"https://a", "https://a:443/", true},
                 {"http://a", "https://a", false},
                 {"http://a:1", "http://a:2", false},
                 {"http://a", "http://a@b", false},
                 {"http://a", "http://a.b", false},
                 {"http://[::1]:5/x", "http://[::1]:5", true},
                 {"http://a", "http://b\\@a", false},
                 {"http://a", "http://b?@a", false}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(web_is_same_host(str_from(cases[i].a), str_from(cases[i].b)), cases[i].same);
}

static void test_headers_come_from_an_object_or_text_that_holds_one(void **state)
{
    static const struct {
        const char *json;
        enum err err;
        size_t n;
    } cases[] = {{"{\"A\":\"1\",\"B\":2,\"C\":true}", ERR_OK, 3},
                 {"\"{\\\"A\\\":\\\"1\\\"}\"", ERR_OK, 1},
                 {"null", ERR_OK, 0},
                 {"[1]", ERR_TYPE, 0},
                 {"{\"A\":[1]}", ERR_TYPE, 0},
                 {"\"{\"", ERR_TYPE, 0}};
    struct arena arena;

    (void)state;
    arena_init(&arena, 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        yyjson_doc *doc = json_read(str_from(cases[i].json), NULL);
        struct web_field *headers;
        enum err err;
        size_t n;

        err = web_headers(yyjson_doc_get_root(doc), &arena, &headers, &n, NULL);
        assert_int_equal(err != ERR_OK, cases[i].err != ERR_OK);
        assert_int_equal(n, cases[i].n);
        if (n)
            assert_true(str_eq_z(web_header(headers, n, "a"), "1"));
        yyjson_doc_free(doc);
    }
    arena_fini(&arena);
}

static void test_a_form_is_encoded(void **state)
{
    yyjson_doc *doc = json_read(STR("{\"a\":1,\"b c\":\"x y&=\\u00fc\"}"), NULL);
    struct arena arena;

    (void)state;
    arena_init(&arena, 0);
    assert_true(str_eq_z(web_form(&arena, yyjson_doc_get_root(doc)), "a=1&b+c=x+y%26%3D%C3%BC"));
    arena_fini(&arena);
    yyjson_doc_free(doc);
}

static void take(void *arg, struct str key, struct str value)
{
    struct buf *all = arg;

    buf_printf(all, "<" STR_FMT "|" STR_FMT ">", STR_ARG(key), STR_ARG(value));
}

static void test_pairs_split_at_their_first_equals_sign(void **state)
{
    struct buf all = {0};

    (void)state;
    assert_int_equal(web_pairs(STR("a=1;; b =x=y;c="), take, &all, NULL), ERR_OK);
    assert_true(str_eq_z(buf_str(&all), "<a|1><b|x=y><c|>"));
    assert_int_equal(web_pairs(STR("a"), take, &all, NULL), ERR_SYNTAX);
    buf_fini(&all);
}

static void test_what_is_not_json_becomes_text(void **state)
{
    struct arena arena;

    (void)state;
    arena_init(&arena, 0);
    assert_true(str_eq_z(web_value(STR("{\"a\": 1}"), &arena), "{\"a\":1}"));
    assert_true(str_eq_z(web_value(STR("on\n"), &arena), "\"on\\n\""));
    assert_true(str_eq_z(web_value(STR(""), &arena), "\"\""));
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls_are_joined_with_one_slash),
        cmocka_unit_test(test_hosts_are_compared_with_scheme_and_port),
        cmocka_unit_test(test_headers_come_from_an_object_or_text_that_holds_one),
        cmocka_unit_test(test_a_form_is_encoded),
        cmocka_unit_test(test_pairs_split_at_their_first_equals_sign),
        cmocka_unit_test(test_what_is_not_json_becomes_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
