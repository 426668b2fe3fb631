/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "conf/conf.h"
#include "rest_down.h"
#include "rest_up.h"

#define CONVERTER                                                                                                      \
    "\"converter\":{\"deviceInfo\":{\"deviceNameExpression\":\"${n}\"},\"timeseries\":[{\"key\":\"t\",\"value\":\"${"  \
    "t}\"}]}"
#define ENDPOINT(path, methods) "{\"endpoint\":\"" path "\",\"HTTPMethods\":[" methods "]," CONVERTER "}"
#define FILE_OF(mappings, more) "{\"server\":{\"host\":\"127.0.0.1\"},\"mapping\":[" mappings "]" more "}"

struct test {
    struct conf *conf;
    const struct rest_file *file; /* NULL: refused */
    struct problems problems;
    struct arena arena;
};

static void load(struct test *t, const char *text)
{
    *t = (struct test){0};
    problems_init(&t->problems);
    arena_init(&t->arena, 4096);
    t->conf = conf_load_text(&rest_conf_type, ".", "rest.json", str_from(text), &t->problems);
    t->file = t->conf ? conf_root(t->conf) : NULL;
}

static void done(struct test *t)
{
    conf_unref(t->conf);
    problems_fini(&t->problems);
    arena_fini(&t->arena);
}

static bool has_problem(const struct test *t, const char *path, const char *text)
{
    for (const struct problem *p = t->problems.first; p; p = p->next)
        if (strcmp(p->path, path) == 0 && strstr(p->text, text))
            return true;
    return false;
}

/* --- routes --------------------------------------------------------------------------------------------------------------- */

static enum rest_found find(struct test *t, const char *method, const char *path, struct rest_match *match)
{
    *match = (struct rest_match){0};
    return rest_route_find(t->file, str_from(method), str_from(path), &t->arena, match);
}

static void paths_lead_to_the_first_endpoint_that_serves_the_method(void **state)
{
    struct rest_match match;
    struct test t;

    (void)state;
    load(&t, FILE_OF(ENDPOINT("/a/{x}/{y:\\\\d{1,2}}", "\"post\"") "," ENDPOINT("/a/b/7", "\"GET\"") "," ENDPOINT(
                         "/{all:.*}", "\"PUT\"") "," ENDPOINT("/u/\xc3\xbc b", "\"POST\""),
                     ""));
    assert_non_null(t.file);
    assert_int_equal(find(&t, "POST", "/a/b/7", &match), ROUTE_FOUND); /* the literal serves GET alone */
    assert_true(str_eq(match.vars[0], STR("b")) && str_eq(match.vars[1], STR("7")));
    assert_int_equal(find(&t, "GET", "/a/b/7", &match), ROUTE_FOUND);
    assert_null(match.endpoint->route->regex);
    assert_int_equal(find(&t, "POST", "/a/x%2Fy%20z/12", &match), ROUTE_FOUND);
    assert_true(str_eq(match.vars[0], STR("x/y z")));
    assert_int_equal(find(&t, "POST", "/a/x/123", &match), ROUTE_METHOD);
    assert_true(str_eq(match.allow, STR("PUT")));
    assert_int_equal(find(&t, "DELETE", "/a/b/7", &match), ROUTE_METHOD);
    assert_true(str_eq(match.allow, STR("GET, POST, PUT")));
    assert_int_equal(find(&t, "POST", "/u/%C3%BC%20b", &match), ROUTE_FOUND);
    assert_int_equal(find(&t, "POST", "/U/%C3%BC%20b", &match), ROUTE_METHOD);
    assert_int_equal(find(&t, "PUT", "/%ff", &match), ROUTE_NONE);
    done(&t);
}

static void endpoints_that_cannot_be_served_are_named(void **state)
{
    struct rest_match match;
    struct test t;

    (void)state;
    load(
        &t,
        FILE_OF(
            ENDPOINT("/a", "\"POST\",\"PUT\"") "," ENDPOINT("/a", "\"PUT\"") "," ENDPOINT("/b{", "\"PUT\"") "," ENDPOINT(
                "c",
                "\"PUT\"") "," ENDPOINT("/d",
                                        "") "," ENDPOINT("/e/{x:(}",
                                                         "\"PUT\"") "," ENDPOINT("/f",
                                                                                 "\"GET\",\"HEAD\"") "," ENDPOINT("/g",
                                                                                                                  "\"GE"
                                                                                                                  "T"
                                                                                                                  "\""),
            ""));
    assert_non_null(t.file);
    assert_true(has_problem(&t, "mapping[1].endpoint", "stands twice"));
    assert_true(has_problem(&t, "mapping[2].endpoint", "a brace is not closed"));
    assert_true(has_problem(&t, "mapping[3].endpoint", "does not begin with /"));
    assert_true(has_problem(&t, "mapping[4].HTTPMethods", "is missing"));
    assert_true(has_problem(&t, "mapping[5].endpoint", "is not a path"));
    assert_true(has_problem(&t, "mapping[6].HTTPMethods", "HEAD"));
    assert_int_equal(find(&t, "GET", "/g", &match), ROUTE_FOUND);
    assert_int_equal(find(&t, "PUT", "/d", &match), ROUTE_NONE);
    done(&t);
}

static void security_that_is_incomplete_rejects_its_entry(void **state)
{
    struct test t;

    (void)state;
    load(&t,
         FILE_OF("{\"endpoint\":\"/"
                 "a\",\"HTTPMethods\":[\"GET\"],\"security\":{\"type\":\"BASIC\",\"username\":\"u\"}," CONVERTER
                 "},{\"endpoint\":\"/b\",\"HTTPMethods\":[\"GET\"],\"security\":{\"type\":\"magic\"}," CONVERTER "}",
                 ""));
    assert_true(has_problem(&t, "mapping[0].security.password", "is missing"));
    assert_true(has_problem(&t, "mapping[1].security.type", "allowed: anonymous, basic, token"));
    assert_int_equal(t.file->mapping.n, 0);
    done(&t);
}

static void a_login_is_right_or_wrong(void **state)
{
    const struct rest_security basic = {.login = LOGIN_BASIC, .expected = STR("dTpw")};
    const struct rest_security token = {.login = LOGIN_TOKEN, .expected = STR("abc")};

    (void)state;
    assert_true(rest_is_allowed(NULL, STR_NONE));
    assert_true(rest_is_allowed(&basic, STR("Basic dTpw")) && rest_is_allowed(&basic, STR("basic  dTpw")));
    assert_false(rest_is_allowed(&basic, STR("Basic dTpx")) || rest_is_allowed(&basic, STR("Basic dTp")));
    assert_false(rest_is_allowed(&basic, STR("Basic dTpwdTpw")) || rest_is_allowed(&basic, STR("Basic ")));
    assert_false(rest_is_allowed(&basic, STR("Bearer dTpw")) || rest_is_allowed(&basic, STR_NONE));
    assert_true(rest_is_allowed(&token, STR("Bearer abc")));
    assert_false(rest_is_allowed(&token, STR("Bearer abcabc")) || rest_is_allowed(&token, STR("abc")));
}

/* --- data ----------------------------------------------------------------------------------------------------------------- */

/* The items as JSON texts, or the status. */
static void expect(struct test *t, const char *path, const char *query, const char *type, const char *body,
                   const char *wanted)
{
    struct rest_match match;
    struct rest_input input = {.method = STR("POST"),
                               .query = str_from(query),
                               .content_type = str_from(type),
                               .body = str_from(body),
                               .match = &match};
    autobuf struct buf got = {0};
    struct rest_data data;
    struct why why = {0};
    unsigned status;

    assert_int_equal(find(t, "POST", path, &match), ROUTE_FOUND);
    status = rest_data_open(&data, &input, &t->arena, &why);
    for (size_t i = 0; i < data.n && !status; i++)
        json_add_value(&got, data.items[i]);
    if (status)
        buf_printf(&got, "%u %s", status, why_text(&why));
    rest_data_close(&data);
    if (strncmp(wanted, "4", 1) == 0 ? !str_starts(buf_str(&got), str_from(wanted))
                                     : !str_eq(buf_str(&got), str_from(wanted)))
        fail_msg("%s?%s %s: got %.*s, not %s", path, query ? query : "", body ? body : "", (int)got.n, (char *)got.p,
                 wanted);
}

#define FORM "multipart/form-data; boundary=\"X Y\""
#define PART(head, text) "--X Y\r\nContent-Disposition: form-data; " head "\r\n\r\n" text "\r\n"

static void data_comes_from_path_query_and_body(void **state)
{
    struct test t;

    (void)state;
    load(&t, FILE_OF(ENDPOINT("/d", "\"POST\"") "," ENDPOINT("/v/{a}", "\"POST\""), ""));
    expect(&t, "/d", NULL, NULL, "{\"a\":1.50,\"a\":2}", "{\"a\":1.50,\"a\":2}");
    expect(&t, "/d", "a=x&b=1+2&b=3&=4&c", NULL, "{\"a\":1,\"z\":[1]}",
           "{\"z\":[1],\"a\":\"x\",\"b\":\"1 2\",\"\":\"4\",\"c\":\"\"}");
    expect(&t, "/v/P%201", "q=%22", NULL, "{\"a\":1}", "{\"a\":1,\"q\":\"\\\"\"}");
    expect(&t, "/v/P%201", NULL, NULL, NULL, "{\"a\":\"P 1\"}");
    expect(&t, "/v/P", "q=1", "application/json", "[{\"b\":1},{}]",
           "{\"a\":\"P\",\"b\":1,\"q\":\"1\"}{\"a\":\"P\",\"q\":\"1\"}");
    expect(&t, "/d", NULL, "application/x-www-form-urlencoded; charset=x", "a=1&b=%C3%BC",
           "{\"a\":\"1\",\"b\":\"\xc3\xbc\"}");
    expect(&t, "/d", NULL, "text/plain", "hello \xff 5", "{\"text\":\"hello  5\"}");
    expect(&t, "/d", NULL, FORM,
           PART("name=\"t\"", "9") PART("name=j\r\nContent-Type: application/json", "{\"x\":4}")
               PART("name=\"f\"; filename=\"a;b\"", "zz") "--X Y--\r\n",
           "{\"t\":\"9\",\"j\":{\"x\":4}}");
    expect(&t, "/d", NULL, FORM, PART("name=\"t\"", "9"), "400 the form");
    expect(&t, "/d", NULL, "multipart/form-data", "x", "400 the form");
    expect(&t, "/d", NULL, "application/json", "{\"a\":", "400 the body is not JSON");
    expect(&t, "/d", NULL, NULL, "{\"a\":1", "400 the body is not JSON");
    expect(&t, "/v/P", NULL, "application/x-www-form-urlencoded", " [{\"a\":1}", "400 the body is not JSON");
    expect(&t, "/d", NULL, "text/plain", "[info] x", "{\"text\":\"[info] x\"}");
    expect(&t, "/d", NULL, NULL, " 5 ", "400 the body is JSON, but");
    expect(&t, "/d", NULL, NULL, "[{\"a\":1},2]", "400 item 1");
    expect(&t, "/d", NULL, NULL, "{}", "415");
    expect(&t, "/d", NULL, NULL, "[]", "415");
    expect(&t, "/d", NULL, NULL, NULL, "415");
    expect(&t, "/d", "a=1", NULL, "  ", "{\"a\":\"1\"}");
    done(&t);
}

static void a_merge_that_would_be_huge_is_refused(void **state)
{
    enum { ITEMS = 100000 };
    autobuf struct buf body = {0};
    struct test t;

    (void)state;
    load(&t, FILE_OF(ENDPOINT("/d", "\"POST\""), ""));
    buf_add_z(&body, "[{}");
    for (unsigned i = 0; i < ITEMS; i++)
        buf_add_z(&body, ",{}");
    buf_add(&body, "]", 2);
    expect(&t, "/d", "a=1", NULL, (char *)body.p, "413");
    done(&t);
}

struct noted {
    struct rest_sink sink; /* first */
    struct event event;
    struct buf text;
};

static struct event *note_begin(struct rest_sink *sink, struct device *dev, struct str profile)
{
    struct noted *noted = CONTAINER_OF(sink, struct noted, sink);

    event_begin(&noted->event, dev, profile);
    return &noted->event;
}

static enum err note_end(struct rest_sink *sink)
{
    struct noted *noted = CONTAINER_OF(sink, struct noted, sink);

    web_describe_event(&noted->text, &noted->event);
    return str_eq(device_name(noted->event.dev), STR("denied")) ? ERR_DENIED : ERR_OK;
}

static void note_dropped(struct rest_sink *sink, enum web_drop drop, struct str detail)
{
    (void)sink;
    (void)drop;
    (void)detail;
}

static void items_of_a_device_become_one_event(void **state)
{
    struct noted noted = {.sink = {note_begin, note_end, note_dropped}};
    struct rest_match match;
    struct rest_input input = {.method = STR("POST"),
                               .body = STR("[{\"n\":\"A\",\"t\":1,\"ts\":5},{\"n\":\"denied\",\"t\":2},{\"t\":3},"
                                           "{\"n\":\"A\",\"t\":4,\"ts\":6},{\"n\":\"B\"}]"),
                               .match = &match};
    struct web_out counted = {0};
    struct rest_result result;
    struct rest_data data;
    struct test t;

    (void)state;
    load(&t, FILE_OF(ENDPOINT("/d", "\"POST\""), ""));
    event_init(&noted.event);
    assert_int_equal(find(&t, "POST", "/d", &match), ROUTE_FOUND);
    assert_int_equal(rest_data_open(&data, &input, &t.arena, NULL), 0);
    rest_convert(match.endpoint, &data, &noted.sink, 1, &t.arena, &counted, &result);
    assert_true(
        str_eq(buf_str(&noted.text),
               STR("{\"device\":\"A\",\"profile\":\"default\",\"telemetry\":[{\"ts\":5,\"values\":{\"t\":1}},{\"ts\":6,"
                   "\"values\":{\"t\":4}}]}{\"device\":\"denied\",\"profile\":\"default\",\"telemetry\":[{\"values\":{"
                   "\"t\":2}}]}")));
    assert_int_equal(result.n_events, 1);
    assert_int_equal(result.status, 422); /* the first cause that is known counts */
    assert_true(str_eq(result.text, STR("item 3: there is no device name")));
    rest_data_close(&data);
    event_fini(&noted.event);
    buf_fini(&noted.text);
    done(&t);
}

/* --- downward -------------------------------------------------------------------------------------------------------------- */

static void calls_to_the_connector_name_their_device_first(void **state)
{
    const struct rest_rpc rpc = {
        .method = STR("rest_set"),
        .id = STR("5"),
        .params = STR("\"device=P1;requestUrlExpression=h/${deviceName};value=${params};timeout=2;\"")};
    const struct rest_rpc bad = {.method = STR("rest_get"), .id = STR("5"), .params = STR("{}")};
    const struct rest_rpc other = {.method = STR("reboot"), .id = STR("5")};
    struct rest_call call;
    struct str answer;
    struct test t;

    (void)state;
    load(&t, FILE_OF(ENDPOINT("/d", "\"POST\""), ""));
    assert_int_equal(rest_rpc(t.file, &rpc, &t.arena, &call, &answer), ERR_OK);
    assert_true(str_eq(call.request.url, STR("http://h/P1")));
    assert_true(call.timeout_ms == 2000 && call.verify && call.tries == 1);
    assert_int_not_equal(rest_rpc(t.file, &bad, &t.arena, &call, &answer), ERR_OK);
    assert_int_not_equal(str_find(answer, STR("\"success\":false"), 0), SIZE_MAX);
    assert_int_equal(rest_rpc(t.file, &other, &t.arena, &call, &answer), ERR_NOTFOUND);
    done(&t);
}

static void answers_become_results(void **state)
{
    struct arena arena;

    (void)state;
    arena_init(&arena, 1024);
    assert_true(str_eq(rest_result_text(200, STR("OK"), STR("{\"a\": 1}"), &arena), STR("{\"result\":{\"a\":1}}")));
    assert_true(str_eq(rest_result_text(302, STR("Found"), STR("x\xff"), &arena), STR("{\"result\":\"x\"}")));
    assert_true(str_eq(rest_result_text(204, STR(""), STR(""), &arena), STR("{\"result\":\"\"}")));
    assert_true(str_eq(rest_result_text(404, STR("No\"t"), STR("x"), &arena),
                       STR("{\"result\":{\"error\":\"No\\\"t\",\"code\":404}}")));
    assert_true(
        str_eq(rest_failure(ERR_TIMEOUT, STR("x"), &arena), STR("{\"result\":{\"error\":\"Timeout\",\"code\":408}}")));
    assert_true(str_eq(rest_failure(ERR_REFUSED, STR("x"), &arena), STR("{\"result\":{\"error\":\"x\"}}")));
    arena_fini(&arena);
}

/* --- old forms -------------------------------------------------------------------------------------------------------------- */

static void old_forms_are_taken_part_by_part(void **state)
{
    struct rest_match match;
    struct test t;

    (void)state;
    load(&t,
         "{\"host\":\"127.0.0.1\",\"port\":\"5001\",\"mapping\":[{\"endpoint\":\"/a\",\"HTTPMethod\":[\"post\"],"
         "\"converter\":{\"deviceNameExpression\":\"${s_n}\",\"timeseries\":[]}}],"
         "\"attributeRequests\":[{\"endpoint\":\"/q\",\"HTTPMethods\":[\"POST\"],\"deviceNameExpression\":\"${d}\","
         "\"attributeNameExpression\":\"${k}\"}],\"requestsMapping\":{\"serverSideRpc\":[{\"deviceNameFilter\":\".*\","
         "\"methodFilter\":\".*\",\"requestUrlExpression\":\"h\"}]}}");
    assert_non_null(t.file);
    assert_int_equal(t.file->server->port, 5001);
    assert_int_equal(t.file->server->max_body, REST_MAX_BODY);
    assert_int_equal(t.file->rpcs.n, 1);
    assert_int_equal(find(&t, "POST", "/a", &match), ROUTE_FOUND);
    assert_int_equal(find(&t, "POST", "/q", &match), ROUTE_FOUND);
    assert_int_equal(match.endpoint->timeout_ms, 10000);
    done(&t);
    load(&t, "{\"mapping\":[]}");
    assert_null(t.file);
    done(&t);
    load(&t, "{\"server\":{\"host\":\"h\",\"SSL\":true,\"security\":{\"cert\":\"/x\"}},\"mapping\":[]}");
    assert_null(t.file);
    assert_true(has_problem(&t, "server.security.key", "is missing"));
    done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_lead_to_the_first_endpoint_that_serves_the_method),
        cmocka_unit_test(endpoints_that_cannot_be_served_are_named),
        cmocka_unit_test(security_that_is_incomplete_rejects_its_entry),
        cmocka_unit_test(a_login_is_right_or_wrong),
        cmocka_unit_test(data_comes_from_path_query_and_body),
        cmocka_unit_test(a_merge_that_would_be_huge_is_refused),
        cmocka_unit_test(items_of_a_device_become_one_event),
        cmocka_unit_test(calls_to_the_connector_name_their_device_first),
        cmocka_unit_test(answers_become_results),
        cmocka_unit_test(old_forms_are_taken_part_by_part),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
