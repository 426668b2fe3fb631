/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "conf/conf.h"
#include "request_down.h"

static const char file_text[] =
    "{\"host\":\"h\",\"mapping\":[],\"attributeUpdates\":["
    "{\"deviceNameFilter\":\"M.*\",\"attributeFilter\":\"a|b\",\"requestUrlExpression\":\"u/"
    "${attributeKey}\",\"httpMethod\":"
    "\"PUT\"},"
    "{\"deviceNameFilter\":\"M1\",\"attributeFilter\":\".*\",\"requestUrlExpression\":\"http://o/${deviceName}\","
    "\"requestValueExpression\":\"{\\\"${attributeKey}\\\":${attributeValue}}\"}],"
    "\"serverSideRpc\":["
    "{\"deviceNameFilter\":\"M.*\",\"methodFilter\":\"echo\",\"requestUrlExpression\":\"e/${deviceName}/${requestId}\","
    "\"httpMethod\":\"POST\",\"responseTimeout\":2,\"timeout\":0.7,\"tries\":3},"
    "{\"deviceNameFilter\":\"M.*\",\"methodFilter\":\"ec.*\",\"requestUrlExpression\":\"second\"},"
    "{\"deviceNameFilter\":\"M.*\",\"methodFilter\":\"path\",\"requestUrlExpression\":\"p/${params.id}\","
    "\"requestValueExpression\":\"x\",\"responseValueExpression\":\"${a.b}\"},"
    "{\"deviceNameFilter\":\"M.*\",\"methodFilter\":\"mixed\",\"requestUrlExpression\":\"p\","
    "\"responseValueExpression\":\"${a}:${b}\"}]}";

struct rig {
    struct conf *conf;
    struct problems problems;
    const struct request_file *file;
    struct arena arena;
    struct buf calls;
};

static void rig_open(struct rig *rig)
{
    *rig = (struct rig){0};
    problems_init(&rig->problems);
    rig->conf = conf_load_text(&request_conf_type, ".", "t", str_from(file_text), &rig->problems);
    assert_non_null(rig->conf);
    rig->file = conf_root(rig->conf);
    assert_int_equal(rig->file->rpcs.n + rig->file->updates.n, 6);
    arena_init(&rig->arena, 0);
}

static void rig_close(struct rig *rig)
{
    buf_fini(&rig->calls);
    arena_fini(&rig->arena);
    conf_unref(rig->conf);
    problems_fini(&rig->problems);
}

static void note(void *arg, const struct down_call *call)
{
    struct rig *rig = arg;
    const struct web_request *request = &call->request;

    buf_printf(&rig->calls, STR_FMT " " STR_FMT " <" STR_FMT ">%s", STR_ARG(request->method), STR_ARG(request->url),
               STR_ARG(request->body), request->with_credentials ? "" : " plain");
    for (size_t i = 0; i < request->n_headers; i++)
        buf_printf(&rig->calls, " " STR_FMT "=" STR_FMT, STR_ARG(request->headers[i].name),
                   STR_ARG(request->headers[i].value));
    buf_add_z(&rig->calls, "\n");
}

static void note_failed(void *arg, struct str key, const struct why *why)
{
    (void)why;
    buf_printf(&((struct rig *)arg)->calls, "failed " STR_FMT "\n", STR_ARG(key));
}

static struct str text_of(const char *text)
{
    return text ? str_from(text) : STR_NONE;
}

static void same(struct str found, const char *wanted, size_t i)
{
    if (!str_eq_z(found, wanted))
        fail_msg("case %zu: %.*s, not %s", i, (int)found.n, found.p, wanted);
}

static void test_calls_become_requests(void **state)
{
    static const struct {
        const char *device, *method, *params, *request;
        uint64_t timeout_ms, response_timeout_ms;
        unsigned tries;
        bool is_array;
    } cases[] = {
        {"M 1", "echo", "{\"a\": 1}", "POST http://h/e/M%201/7 <{\"a\":1}>\n", 700, 2000, 3, false},
        {"M 1", "echo", "\"text\"", "POST http://h/e/M%201/7 <text>\n", 700, 2000, 3, false},
        {"M 1", "echoes", "1", "GET http://h/second <1>\n", 1000, 5000, 1, false},
        {"M1", "path", "{\"id\":5}", "GET http://h/p/5 <x>\n", 1000, 5000, 1, false},
        {"M1", "get", "\"requestUrlExpression=s;\"", "GET http://h/s <> Content-Type=application/json\n", 500, 1000, 1,
         false},
        {"M1", "get", "\"requestUrlExpression=s;value=5;\"", "GET http://h/s <> Content-Type=application/json\n", 500,
         1000, 1, false},
        {"M1", "GET", "\"requestUrlExpression=s;requestValueExpression=b;httpMethod=POST;\"",
         "POST http://h/s <b> Content-Type=application/json\n", 500, 1000, 1, false},
        {"M1", "set", "\"requestUrlExpression=http://o/s;value=5;timeout=2;responseTimeout=3;tries=2;\"",
         "GET http://o/s <5> plain Content-Type=application/json\n", 2000, 3000, 2, false},
        {"M1", "set", "\"requestUrlExpression=s;httpHeaders={\\\"X\\\":\\\"y\\\"};\"", "GET http://h/s <> X=y\n", 500,
         1000, 1, false},
        {NULL, "request_any", "{\"requestUrlExpression\":\"c\",\"httpMethod\":\"PUT\",\"value\":\"v\"}",
         "PUT http://h/c <v>\n", 1000, 5000, 1, true},
    };
    struct rig rig;

    (void)state;
    rig_open(&rig);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct down_rpc rpc = {text_of(cases[i].device), text_of(cases[i].method), STR("7"),
                                     text_of(cases[i].params)};
        struct down_call call;
        struct str answer;

        if (down_rpc(rig.file, &rpc, &rig.arena, &call, &answer) != ERR_OK)
            fail_msg("case %zu: %.*s", i, (int)answer.n, answer.p);
        rig.calls.n = 0;
        note(&rig, &call);
        same(buf_str(&rig.calls), cases[i].request, i);
        assert_int_equal(call.timeout_ms, cases[i].timeout_ms);
        assert_int_equal(call.response_timeout_ms, cases[i].response_timeout_ms);
        assert_int_equal(call.tries, cases[i].tries);
        assert_int_equal(call.is_connector_rpc, cases[i].is_array);
    }
    rig_close(&rig);
}

#define NO_URL                                                                                                         \
    "{\"result\":{\"error\":\"Please check your RPC params. requestUrlExpression parameter is required for reserved "  \
    "RPCs. Please check your RPC params.\"}}"

static void test_calls_that_cannot_be_made_are_answered_with_the_cause(void **state)
{
    static const struct {
        const char *device, *method, *params;
        enum err err;
        const char *answer; /* its beginning */
    } cases[] = {
        {"M1", "nothing", "1", ERR_NOTFOUND,
         "{\"error\":\"Method nothing is not configured for device M1\",\"success\":false}"},
        {"X", "echo", "1", ERR_NOTFOUND,
         "{\"error\":\"Method echo is not configured for device X\",\"success\":false}"},
        {"M1", "get", "\"httpMethod=GET;\"", ERR_USAGE, NO_URL},
        {"M1", "set", "\"value=1;\"", ERR_USAGE, NO_URL},
        {"M1", "get", "{\"requestUrlExpression\":\"u\"}", ERR_USAGE,
         "{\"error\":\"the parameters of get and set are text"},
        {"M1", "get", "\"requestUrlExpression=u;timeout=soon;\"", ERR_USAGE, "{\"error\":\"timeout \\\"soon\\\""},
        {"M1", "set", "\"requestUrlExpression=u;tries=0;\"", ERR_USAGE, "{\"error\":\"tries \\\"0\\\""},
        {"M1", "path", "{\"no\":5}", ERR_NOTFOUND, "{\"result\":{\"error\":\"URL"},
        {NULL, "request_a_b", "{\"requestUrlExpression\":\"u\"}", ERR_NOTFOUND,
         "{\"error\":\"Method request_a_b is not one of the connector\""},
        {NULL, "request_a", "{}", ERR_USAGE, "[{\"success\":false,\"error\":\"requestUrlExpression is missing"},
        {NULL, "request_a", "[1]", ERR_USAGE, "[{\"success\":false,\"error\":\"the parameters of a call"},
        {NULL, "request_a", "{\"requestUrlExpression\":\"u\",\"httpHeaders\":[1]}", ERR_USAGE,
         "[{\"success\":false,\"error\":"},
    };
    struct rig rig;

    (void)state;
    rig_open(&rig);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct down_rpc rpc = {text_of(cases[i].device), text_of(cases[i].method), STR("7"),
                                     text_of(cases[i].params)};
        struct down_call call;
        struct str answer = STR_NONE;

        assert_int_not_equal(down_rpc(rig.file, &rpc, &rig.arena, &call, &answer), ERR_OK);
        if (!str_starts(answer, str_from(cases[i].answer)))
            fail_msg("case %zu: %.*s", i, (int)answer.n, answer.p);
    }
    rig_close(&rig);
}

static void test_answers_become_results(void **state)
{
    static const struct {
        const char *device, *method, *params;
        unsigned status;
        const char *reason, *body, *result;
    } cases[] = {
        {"M1", "echo", "1", 200, "OK", "{\"a\": 1}", "{\"result\":{\"value\":{\"a\":1}}}"},
        {"M1", "echo", "1", 201, "", "plain", "{\"result\":{\"value\":\"plain\"}}"},
        {"M1", "echo", "1", 204, "", "", "{\"result\":{\"value\":\"\"}}"},
        {"M1", "echo", "1", 404, "Not Found", "{}", "{\"result\":{\"error\":\"HTTP 404 Not Found\"}}"},
        {"M1", "echo", "1", 302, "Found", "", "{\"result\":{\"error\":\"HTTP 302 Found\"}}"},
        {"M1", "echo", "1", 599, "", "", "{\"result\":{\"error\":\"HTTP 599\"}}"},
        {"M1", "path", "{\"id\":1}", 200, "OK", "{\"a\":{\"b\":2.50}}", "{\"result\":{\"value\":2.50}}"},
        {"M1", "path", "{\"id\":1}", 200, "OK", "{\"a\":1}",
         "{\"result\":{\"error\":\"No values found for responseValueExpression ${a.b}\"}}"},
        {"M1", "path", "{\"id\":1}", 200, "OK", "none",
         "{\"result\":{\"error\":\"No values found for responseValueExpression ${a.b}\"}}"},
        {"M1", "mixed", "1", 200, "OK", "{\"a\":1}", "{\"result\":{\"value\":\"1:null\"}}"},
        {"M1", "mixed", "1", 200, "OK", "{}",
         "{\"result\":{\"error\":\"No values found for responseValueExpression ${a}:${b}\"}}"},
        {NULL, "request_c", "{\"requestUrlExpression\":\"c\"}", 200, "OK", "[1]",
         "[{\"success\":true,\"result\":[1],\"status\":200}]"},
        {NULL, "request_c", "{\"requestUrlExpression\":\"c\"}", 500, "No", "x",
         "[{\"success\":false,\"error\":\"HTTP 500 No\",\"status\":500}]"},
    };
    struct rig rig;

    (void)state;
    rig_open(&rig);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct down_rpc rpc = {text_of(cases[i].device), text_of(cases[i].method), STR("7"),
                                     text_of(cases[i].params)};
        struct down_call call;
        struct str answer;

        assert_int_equal(down_rpc(rig.file, &rpc, &rig.arena, &call, &answer), ERR_OK);
        answer = down_result(&call, cases[i].status, str_from(cases[i].reason), str_from(cases[i].body), &rig.arena);
        same(answer, cases[i].result, i);
    }
    rig_close(&rig);
}

static void test_a_missing_answer_says_time_out_or_no_response(void **state)
{
    struct down_call call = {0};
    struct arena arena;

    (void)state;
    arena_init(&arena, 0);
    same(down_failure(&call, ERR_TIMEOUT, STR("t"), &arena), "{\"result\":{\"error\":\"Rpc timeout\"}}", 0);
    same(down_failure(&call, ERR_REFUSED, STR("t"), &arena),
         "{\"result\":{\"error\":\"No response received from RPC execution\"}}", 1);
    call.is_connector_rpc = true;
    same(down_failure(&call, ERR_REFUSED, STR("t"), &arena), "[{\"success\":false,\"error\":\"t\",\"status\":null}]",
         2);
    arena_fini(&arena);
}

static void test_every_section_and_attribute_that_match_make_a_request(void **state)
{
    static const struct {
        const char *device, *values, *calls;
    } cases[] = {
        {"M2", "{\"b\":1,\"x\":2,\"a\":\"t\"}", "PUT http://h/u/b <1>\nPUT http://h/u/a <t>\n"},
        {"M1", "{\"a\":1,\"z\":[true]}",
         "PUT http://h/u/a <1>\nGET http://o/M1 <{\"a\":1}> plain\nGET http://o/M1 <{\"z\":[true]}> plain\n"},
        {"N", "{\"a\":1}", ""},
        {"XM1", "{\"a\":1}", ""},
        {"M2", "{}", ""},
    };
    struct rig rig;

    (void)state;
    rig_open(&rig);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        yyjson_doc *doc = json_read(str_from(cases[i].values), NULL);

        rig.calls.n = 0;
        down_attributes(rig.file, str_from(cases[i].device), yyjson_doc_get_root(doc), &rig.arena, note, note_failed,
                        &rig);
        same(buf_str(&rig.calls), cases[i].calls, i);
        yyjson_doc_free(doc);
    }
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls_become_requests),
        cmocka_unit_test(test_calls_that_cannot_be_made_are_answered_with_the_cause),
        cmocka_unit_test(test_answers_become_results),
        cmocka_unit_test(test_a_missing_answer_says_time_out_or_no_response),
        cmocka_unit_test(test_every_section_and_attribute_that_match_make_a_request),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
