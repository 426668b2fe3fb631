/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "conf/conf.h"
#include "request_item.h"

struct rig {
    struct conf *conf;
    struct problems problems;
    const struct request_file *file;
    const struct request_mapping *mapping;
    struct arena arena;
};

/* members: of the one mapping, whose datapoints are the attribute a and the telemetry b and c. */
static void rig_open(struct rig *rig, const char *members)
{
    autobuf struct buf text = {0};

    buf_printf(&text,
               "{\"host\":\"h\",\"mapping\":[{\"url\":\"list\",\"converter\":{\"deviceNameJsonExpression\":\"D\","
               "\"attributes\":[{\"key\":\"a\",\"value\":\"${a}\"}],\"telemetry\":[{\"key\":\"b\",\"value\":\"${b}\"},"
               "{\"key\":\"c\",\"value\":\"${c}\"},{\"key\":\"b\",\"value\":\"${b2}\"}]}%s}]}%c",
               members, 0);
    problems_init(&rig->problems);
    rig->conf = conf_load_text(&request_conf_type, ".", "t", str_from((const char *)text.p), &rig->problems);
    assert_non_null(rig->conf);
    rig->file = conf_root(rig->conf);
    assert_int_equal(rig->file->mappings.n, 1);
    rig->mapping = rig->file->mappings.items[0];
    arena_init(&rig->arena, 0);
}

static void rig_close(struct rig *rig)
{
    arena_fini(&rig->arena);
    conf_unref(rig->conf);
    problems_fini(&rig->problems);
}

static void test_an_answer_becomes_its_items(void **state)
{
    static const struct {
        const char *members, *body;
        enum err err;
        size_t n;
        const char *first;
    } cases[] = {
        {"", "{\"a\":1}", ERR_OK, 1, "{\"a\":1}"},
        {"", "[{\"a\":1},2,\"x\"]", ERR_OK, 3, "{\"a\":1}"},
        {"", "[]", ERR_OK, 0, NULL},
        {"", "7", ERR_OK, 1, "7"},
        {"", "", ERR_SYNTAX, 0, NULL},
        {"", "<html>", ERR_SYNTAX, 0, NULL},
        {"", "{\"a\":1", ERR_SYNTAX, 0, NULL},
        {",\"dataUnpackExpression\":\"d.items\"", "{\"d\":{\"items\":[1,2]}}", ERR_OK, 2, "1"},
        {",\"dataUnpackExpression\":\"${d}\"", "{\"d\":{\"items\":[1,2]}}", ERR_OK, 1, "{\"items\":[1,2]}"},
        {",\"dataUnpackExpression\":\"${d}\"", "{\"e\":1}", ERR_NOTFOUND, 0, NULL},
        {",\"dataUnpackExpression\":\"${d}\"", "[1]", ERR_NOTFOUND, 0, NULL},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct answer answer;
        struct why why = {0};
        struct rig rig;
        yyjson_val *item;
        size_t n = 0;

        rig_open(&rig, cases[i].members);
        assert_int_equal(answer_open(&answer, rig.mapping, str_from(cases[i].body), STR_NONE, &rig.arena, &why),
                         cases[i].err);
        while (!cases[i].err && (item = answer_next(&answer)))
            if (!n++)
                assert_true(str_eq_z(json_text(&rig.arena, item), cases[i].first));
        assert_int_equal(n, cases[i].n);
        if (cases[i].err)
            assert_true(strlen(why_text(&why)) > 0);
        else
            answer_close(&answer);
        rig_close(&rig);
    }
}

static void test_answers_in_other_encodings_are_read(void **state)
{
    static const struct {
        struct str body;
        const char *type, *value;
    } cases[] = {
        {STR("\xEF\xBB\xBF\"\xC3\xBC\""), NULL, "\"\xC3\xBC\""},
        {STR("\xFF\xFE\"\0\xFC\0\"\0"), NULL, "\"\xC3\xBC\""},
        {STR("\0\"\0\xFC\0\""), "application/json", "\"\xC3\xBC\""},
        {STR("\"\0\xFC\0\"\0"), "application/json; charset=UTF-16", "\"\xC3\xBC\""},
        {STR("\"\0\0\0\xFC\0\0\0\"\0\0\0"), NULL, "\"\xC3\xBC\""},
        {STR("\"\xFC\""), "text/json; charset=\"iso-8859-1\"", "\"\xC3\xBC\""},
        {STR("\"\xC3\xBC\""), "application/json; charset=UTF-8", "\"\xC3\xBC\""},
        {STR("7"), "application/json; charset=none-of-this-name", NULL},
        {STR("\"\xFC\""), NULL, NULL},
        {STR("[1]"), "application/json; charset=utf-16//IGNORE", "[1]"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct answer answer;
        struct why why = {0};
        struct rig rig;
        enum err err;

        rig_open(&rig, "");
        err = answer_open(&answer, rig.mapping, cases[i].body, cases[i].type ? str_from(cases[i].type) : STR_NONE,
                          &rig.arena, &why);
        if (cases[i].value && err)
            fail_msg("case %zu: %s", i, why_text(&why));
        if (cases[i].value)
            assert_true(str_eq_z(json_text(&rig.arena, answer.root), cases[i].value));
        else
            assert_true(err != ERR_OK);
        answer_close(&answer);
        rig_close(&rig);
    }
}

static void test_sub_requests_follow_the_datapoints_and_each_name_is_asked_once(void **state)
{
    struct rig rig;

    (void)state;
    rig_open(&rig, ",\"subRequests\":{\"c\":{\"url\":\"c\"},\"b\":{\"url\":\"b\"},\"a\":{\"url\":\"a\"}}");
    assert_int_equal(rig.mapping->n_uses, 3);
    assert_true(str_eq_z(rig.mapping->uses[0].name, "a"));
    assert_true(str_eq_z(rig.mapping->uses[1].name, "b"));
    assert_true(str_eq_z(rig.mapping->uses[2].name, "c"));
    rig_close(&rig);
}

static void test_the_url_of_a_sub_request_stands_behind_that_of_the_poll(void **state)
{
    static const struct {
        const char *url, *item, *whole; /* NULL: it cannot be made */
    } cases[] = {{"/${id}/avg", "{\"id\":\"A\"}", "http://h/list/A/avg"},
                 {"${id}", "{\"id\":\"a b/c\"}", "http://h/list/a%20b/c"},
                 {"https://o/${n}", "{\"n\":5}", "https://o/5"},
                 {"x", "3", "http://h/list/x"},
                 {"${id}", "{}", NULL},
                 {"${id}", "[1]", NULL}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        autobuf struct buf members = {0};
        struct web_request request;
        struct why why = {0};
        yyjson_doc *doc = json_read(str_from(cases[i].item), NULL);
        struct rig rig;
        enum err err;

        buf_printf(&members, ",\"httpMethod\":\"PUT\",\"data\":\"d\",\"subRequests\":{\"a\":{\"url\":\"%s\"}}%c",
                   cases[i].url, 0);
        rig_open(&rig, (const char *)members.p);
        err = item_request(rig.file, rig.mapping, rig.mapping->uses[0].sub, yyjson_doc_get_root(doc), &rig.arena,
                           &request, &why);
        assert_int_equal(err, cases[i].whole ? ERR_OK : ERR_NOTFOUND);
        if (!err) {
            if (!str_eq_z(request.url, cases[i].whole))
                fail_msg("case %zu: %.*s", i, (int)request.url.n, request.url.p);
            assert_true(str_eq_z(request.method, "PUT"));
            assert_true(str_eq_z(request.body, "d"));
            assert_int_equal(request.with_credentials, !strstr(cases[i].whole, "//o/"));
        }
        yyjson_doc_free(doc);
        rig_close(&rig);
    }
}

static void test_answers_to_sub_requests_are_merged_in_their_order(void **state)
{
    static const struct {
        const char *subs, *item, *answers[2], *merged; /* NULL: nothing is brought */
    } cases[] = {
        {"\"a\":{\"url\":\"a\"},\"b\":{\"url\":\"b\"}",
         "{\"id\":1,\"a\":0}",
         {"{\"a\":1}", "{\"b\":2}"},
         "{\"id\":1,\"a\":1,\"b\":2}"},
        {"\"a\":{\"url\":\"a\"},\"b\":{\"url\":\"b\"}", "{}", {"{\"x\":1}", "{\"x\":2}"}, "{\"x\":1,\"x\":2}"},
        {"\"a\":{\"url\":\"a\"},\"b\":{\"url\":\"b\"}", "{\"id\":1}", {"", "{\"b\":2}"}, "{\"id\":1,\"b\":2}"},
        {"\"a\":{\"url\":\"a\"}", "{\"id\":1}", {"[1]"}, NULL},
        {"\"a\":{\"url\":\"a\"}", "{\"id\":1}", {"no json"}, NULL},
        {"\"a\":{\"url\":\"a\"}", "{\"id\":1}", {""}, NULL},
        {"\"a\":{\"url\":\"a\"}", "5", {"{\"a\":1}"}, NULL},
        {"\"a\":{\"url\":\"a\",\"value\":\"${v.x}\"}", "{\"id\":1}", {"{\"v\":{\"x\":2.50}}"}, "{\"id\":1,\"a\":2.5}"},
        {"\"a\":{\"url\":\"a\",\"value\":\"${v}\",\"type\":\"string\"}", "{}", {"{\"v\":3}"}, "{\"a\":\"3\"}"},
        {"\"a\":{\"url\":\"a\",\"value\":\"${v}\"}", "{\"a\":9}", {"{\"w\":3}"}, NULL},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        autobuf struct buf members = {0};
        struct str answers[2] = {str_from(cases[i].answers[0]),
                                 str_from(cases[i].answers[1] ? cases[i].answers[1] : "")};
        yyjson_doc *doc = json_read(str_from(cases[i].item), NULL), *merged;
        struct rig rig;

        buf_printf(&members, ",\"subRequests\":{%s}%c", cases[i].subs, 0);
        rig_open(&rig, (const char *)members.p);
        merged = item_merge(rig.mapping, yyjson_doc_get_root(doc), answers, &rig.arena);
        assert_int_equal(!merged, !cases[i].merged);
        if (merged) {
            struct str text = json_text(&rig.arena, yyjson_doc_get_root(merged));

            if (!str_eq_z(text, cases[i].merged))
                fail_msg("case %zu: %.*s", i, (int)text.n, text.p);
        }
        yyjson_doc_free(merged);
        yyjson_doc_free(doc);
        rig_close(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_answer_becomes_its_items),
        cmocka_unit_test(test_answers_in_other_encodings_are_read),
        cmocka_unit_test(test_sub_requests_follow_the_datapoints_and_each_name_is_asked_once),
        cmocka_unit_test(test_the_url_of_a_sub_request_stands_behind_that_of_the_poll),
        cmocka_unit_test(test_answers_to_sub_requests_are_merged_in_their_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
