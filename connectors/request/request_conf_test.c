/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "conf/conf.h"
#include "request_conf.h"

#include <stdlib.h>

struct loaded {
    struct conf *conf;
    const struct request_file *file; /* NULL: refused */
    struct problems problems;
};

static struct loaded load(const char *text)
{
    struct loaded loaded = {0};

    problems_init(&loaded.problems);
    loaded.conf = conf_load_text(&request_conf_type, ".", "request.json", str_from(text), &loaded.problems);
    loaded.file = loaded.conf ? conf_root(loaded.conf) : NULL;
    return loaded;
}

static void done(struct loaded *loaded)
{
    conf_unref(loaded->conf);
    problems_fini(&loaded->problems);
}

static bool says(const struct loaded *loaded, enum severity severity, const char *path, const char *text)
{
    for (const struct problem *p = loaded->problems.first; p; p = p->next)
        if (p->severity == severity && strcmp(p->path, path) == 0 && strstr(p->text, text))
            return true;
    for (const struct problem *p = loaded->problems.first; p; p = p->next)
        print_message("%d %s: %s\n", (int)p->severity, p->path, p->text);
    return false;
}

static unsigned n_of(const struct loaded *loaded, enum severity severity)
{
    unsigned n = 0;

    for (const struct problem *p = loaded->problems.first; p; p = p->next)
        n += p->severity >= severity;
    return n;
}

#define CONVERTER                                                                                                      \
    "\"converter\":{\"deviceNameJsonExpression\":\"D\",\"telemetry\":[{\"key\":\"t\",\"value\":\"${t}\"}]}"
#define MAPPING(members) "{\"host\":\"h\",\"mapping\":[{\"url\":\"/a\"," CONVERTER members "}]}"
#define SECTION(kind, members)                                                                                         \
    "{\"host\":\"h\",\"mapping\":[],\"" kind "\":[{\"deviceNameFilter\":\".*\",\"requestUrlExpression\":\"u\"" members \
    "}]}"

static const struct request_mapping *mapping_of(const struct loaded *loaded, size_t i)
{
    assert_non_null(loaded->file);
    assert_true(i < loaded->file->mappings.n);
    return loaded->file->mappings.items[i];
}

static void test_a_mapping_has_the_presets_of_the_page(void **state)
{
    struct loaded loaded = load(MAPPING(""));
    const struct request_mapping *mapping = mapping_of(&loaded, 0);

    (void)state;
    assert_int_equal(n_of(&loaded, CONF_WARNING), 0);
    assert_int_equal(mapping->period_ms, 10000);
    assert_int_equal(mapping->timeout_ms, 1000);
    assert_false(mapping->allow_redirects);
    assert_false(loaded.file->verify);
    assert_int_equal(loaded.file->max_body, 16 * 1024 * 1024);
    assert_true(str_eq_z(mapping->request.method, "GET"));
    assert_true(str_eq_z(mapping->request.url, "http://h/a"));
    assert_int_equal(mapping->request.body.n, 0);
    assert_int_equal(mapping->request.n_headers, 0);
    done(&loaded);
}

static void test_host_and_url_are_joined_with_one_slash(void **state)
{
    static const struct {
        const char *host, *url, *whole;
    } cases[] = {{"h", "a", "http://h/a"},
                 {"h:80/", "/a", "http://h:80/a"},
                 {"HTTPS://h/base/", "a b", "HTTPS://h/base/a%20b"},
                 {"h", "https://other/x", "https://other/x"},
                 {"h", "", "http://h/"}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        autobuf struct buf text = {0};
        struct loaded loaded;
        struct str url;

        buf_printf(&text, "{\"host\":\"%s\",\"mapping\":[{\"url\":\"%s\"," CONVERTER "}]}%c", cases[i].host,
                   cases[i].url, 0);
        loaded = load((const char *)text.p);
        url = mapping_of(&loaded, 0)->request.url;
        if (!str_eq_z(url, cases[i].whole))
            fail_msg("%s + %s: %.*s", cases[i].host, cases[i].url, (int)url.n, url.p);
        done(&loaded);
    }
}

static void test_data_goes_as_a_form_or_as_it_is(void **state)
{
    static const struct {
        const char *members, *body, *type;
    } cases[] = {{",\"data\":{\"a\":1,\"b\":\"x y\"}", "a=1&b=x+y", "application/x-www-form-urlencoded"},
                 {",\"data\":{\"a\":1},\"httpHeaders\":{\"content-type\":\"x/y\"}", "a=1", "x/y"},
                 {",\"data\":\"raw\"", "raw", NULL},
                 {",\"data\":{}", "", NULL},
                 {",\"data\":\"\"", "", NULL},
                 {",\"data\":null", "", NULL}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        autobuf struct buf text = {0};
        const struct web_request *request;
        struct loaded loaded;
        struct str type;

        buf_printf(&text, "{\"host\":\"h\",\"mapping\":[{\"url\":\"a\"," CONVERTER "%s}]}%c", cases[i].members, 0);
        loaded = load((const char *)text.p);
        request = &mapping_of(&loaded, 0)->request;
        type = web_header(request->headers, request->n_headers, "Content-Type");
        assert_true(str_eq_z(request->body, cases[i].body));
        assert_true(cases[i].type ? str_eq_z(type, cases[i].type) : !type.p);
        done(&loaded);
    }
}

static void test_what_is_wrong_is_named_with_its_place(void **state)
{
    static const struct {
        const char *text;
        enum severity severity;
        const char *path, *found;
        int n_mappings; /* -1: the file is refused */
    } cases[] = {
        {"{\"mapping\":[]}", CONF_ERROR, "host", "missing", -1},
        {"{\"host\":\"h\"}", CONF_ERROR, "mapping", "missing", -1},
        {"{\"host\":\"h\",\"mapping\":[{" CONVERTER "}]}", CONF_ERROR, "mapping[0].url", "missing", 0},
        {"{\"host\":\"h\",\"mapping\":[{\"url\":\"a\"}]}", CONF_ERROR, "mapping[0].converter", "missing", 0},
        {MAPPING(",\"scanPeriod\":0"), CONF_ERROR, "mapping[0].scanPeriod", "0.1", 1},
        {MAPPING(",\"scanPeriod\":-5"), CONF_ERROR, "mapping[0].scanPeriod", "0.1", 1},
        {MAPPING(",\"content\":{\"a\":1}"), CONF_WARNING, "mapping[0].content", "did you mean \"data\"", 1},
        {MAPPING(",\"data\":5"), CONF_ERROR, "mapping[0].data", "neither an object nor a text", 0},
        {MAPPING(",\"httpHeaders\":[1]"), CONF_ERROR, "mapping[0].httpHeaders", "", 0},
        {MAPPING(",\"dataUnpackExpression\":\"${a} ${b}\""), CONF_ERROR, "mapping[0].dataUnpackExpression",
         "not one tag or path", 0},
        {MAPPING(",\"subRequests\":{\"t\":{\"url\":\"x\",\"processingFunction\":\"def f(): pass\"}}"), CONF_ERROR,
         "mapping[0].subRequests.t.processingFunction", "extension host", 0},
        {MAPPING(",\"subRequests\":{\"nobody\":{\"url\":\"x\"}}"), CONF_WARNING, "mapping[0].subRequests",
         "is the key of no datapoint", 1},
        {MAPPING(",\"timeOut\":3"), CONF_WARNING, "mapping[0].timeOut", "did you mean \"timeout\"", 1},
        {"{\"host\":\"https://h\",\"mapping\":[]}", CONF_WARNING, "SSLVerify", "anybody may pretend", 0},
        {"{\"host\":\"h\",\"mapping\":[],\"security\":{\"type\":\"basic\",\"username\":\"x\"}}", CONF_WARNING,
         "security.password", "without credentials", 0},
        {"{\"host\":\"h\",\"mapping\":[],\"security\":{\"type\":\"digest\"}}", CONF_ERROR, "security.type",
         "allowed: anonymous, basic", -1},
        {MAPPING(",\"httpMethod\":\"GE T\""), CONF_ERROR, "mapping[0].httpMethod", "is not a method", 0},
        {MAPPING(",\"httpHeaders\":{\"A b\":\"1\"}"), CONF_ERROR, "mapping[0].httpHeaders", "cannot be a header", 0},
        {MAPPING(",\"httpHeaders\":{\"a\":\"1\\r\\nb: 2\"}"), CONF_ERROR, "mapping[0].httpHeaders", "line break", 0},
        {"{\"host\":\"h\",\"mapping\":[],\"serverSideRpc\":[{\"deviceNameFilter\":\".*\",\"requestUrlExpression\":"
         "\"ftp://x\",\"methodFilter\":\"m\"}]}",
         CONF_ERROR, "serverSideRpc[0].requestUrlExpression", "expected http or https", 0},
        {"{\"host\":\"ftp://h\",\"mapping\":[]}", CONF_ERROR, "host", "expected http or https", -1},
        {SECTION("serverSideRpc", ",\"methodFilter\":\"m\",\"httpMethod\":\"a:b\""), CONF_ERROR,
         "serverSideRpc[0].httpMethod", "is not a method", 0},
        {"{\"host\":\"h\",\"mapping\":[{\"url\":\"https://o\"," CONVERTER "}]}", CONF_WARNING, "SSLVerify",
         "anybody may pretend", 1},
        {SECTION("attributeUpdates", ""), CONF_ERROR, "attributeUpdates[0].attributeFilter", "missing", 0},
        {SECTION("serverSideRpc", ",\"methodFilter\":\"(\""), CONF_ERROR, "serverSideRpc[0].methodFilter",
         "is not a regular expression", 0},
        {SECTION("serverSideRpc", ",\"methodFilter\":\"m\",\"converter\":\"MyConverter\""), CONF_ERROR,
         "serverSideRpc[0].converter", "a class of an extension", 0},
        {SECTION("serverSideRpc", ",\"methodFilter\":\"m\",\"responseTimeout\":0"), CONF_ERROR,
         "serverSideRpc[0].responseTimeout", "0.001", 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct loaded loaded = load(cases[i].text);

        if (!says(&loaded, cases[i].severity, cases[i].path, cases[i].found))
            fail_msg("case %zu: %s: %s is not said", i, cases[i].path, cases[i].found);
        if ((loaded.file ? (int)loaded.file->mappings.n : -1) != cases[i].n_mappings)
            fail_msg("case %zu: %s", i, cases[i].text);
        done(&loaded);
    }
}

static void test_a_wrong_entry_leaves_the_others_alone(void **state)
{
    struct loaded loaded = load("{\"host\":\"h\",\"mapping\":[{\"url\":\"a\"},{\"url\":\"b\"," CONVERTER "}]}");

    (void)state;
    assert_true(str_eq_z(mapping_of(&loaded, 0)->request.url, "http://h/b"));
    assert_int_equal(loaded.file->mappings.n, 1);
    done(&loaded);
}

static void test_a_period_out_of_range_becomes_the_preset(void **state)
{
    struct loaded loaded = load(MAPPING(",\"scanPeriod\":0"));

    (void)state;
    assert_int_equal(mapping_of(&loaded, 0)->period_ms, 10000);
    done(&loaded);
}

static void test_the_environment_goes_before_the_file_for_basic_logins(void **state)
{
    static const char text[] = "{\"host\":\"h\",\"mapping\":[],\"security\":{\"type\":\"basic\",\"username\":\"f\","
                               "\"password\":\"p\"}}";
    struct loaded loaded;

    (void)state;
    setenv("REQUEST_BASIC_USERNAME", "e", 1);
    loaded = load(text); /* one alone says nothing */
    assert_true(str_eq_z(loaded.file->username, "f"));
    done(&loaded);
    setenv("REQUEST_BASIC_PASSWORD", "q", 1);
    loaded = load(text);
    assert_true(str_eq_z(loaded.file->username, "e"));
    assert_true(str_eq_z(loaded.file->password, "q"));
    done(&loaded);
    loaded = load("{\"host\":\"h\",\"mapping\":[]}"); /* nobody wants to log in */
    assert_null(loaded.file->username.p);
    done(&loaded);
    unsetenv("REQUEST_BASIC_USERNAME");
    unsetenv("REQUEST_BASIC_PASSWORD");
}

static void test_credentials_go_to_the_own_host_unless_it_is_said(void **state)
{
    struct loaded loaded = load("{\"host\":\"h\",\"mapping\":[{\"url\":\"a\"," CONVERTER
                                "},{\"url\":\"http://o/a\"," CONVERTER "},{\"url\":\"http://h:8/a\"," CONVERTER "}]}");

    (void)state;
    assert_true(mapping_of(&loaded, 0)->request.with_credentials);
    assert_false(mapping_of(&loaded, 1)->request.with_credentials);
    assert_false(mapping_of(&loaded, 2)->request.with_credentials);
    done(&loaded);
    loaded = load("{\"host\":\"h\",\"sendCredentials\":true,\"mapping\":[{\"url\":\"http://o/a\"," CONVERTER "}]}");
    assert_true(mapping_of(&loaded, 0)->request.with_credentials);
    done(&loaded);
    loaded = load("{\"host\":\"h\",\"mapping\":[{\"url\":\"http://o/a\",\"sendCredentials\":true," CONVERTER
                  "},{\"url\":\"http://o/b\"," CONVERTER "}]}");
    assert_true(mapping_of(&loaded, 0)->request.with_credentials);
    assert_false(mapping_of(&loaded, 1)->request.with_credentials);
    done(&loaded);
}

static void test_former_and_other_names_of_keys_are_understood(void **state)
{
    struct loaded loaded = load(
        "{\"host\":\"h\",\"mapping\":[{\"url\":\"a\",\"converter\":{\"deviceInfo\":{\"deviceNameExpressionSource\":"
        "\"request\",\"deviceNameExpression\":\"${n}\"},\"timeseries\":[{\"key\":\"t\",\"value\":\"${t}\"}],"
        "\"telemetry\":[{\"key\":\"u\",\"value\":\"${u}\"}]}}],\"serverSideRpc\":[{\"deviceNameFilter\":\".*\","
        "\"methodFilter\":\"m\",\"requestUrlExpression\":\"u\",\"valueExpression\":\"v${params}\"}]}");
    const struct request_mapping *mapping = mapping_of(&loaded, 0);
    const struct request_section *section;

    (void)state;
    assert_int_equal(n_of(&loaded, CONF_WARNING), 0);
    assert_int_equal(mapping->converter->timeseries.n, 1);
    assert_int_equal(mapping->converter->telemetry.n, 1);
    assert_false(mapping->converter->name.is_constant);
    assert_int_equal(loaded.file->rpcs.n, 1);
    section = loaded.file->rpcs.items[0];
    assert_true(str_eq_z(template_source(section->value_template), "v${params}"));
    assert_int_equal(section->response_timeout_ms, 5000);
    done(&loaded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_mapping_has_the_presets_of_the_page),
        cmocka_unit_test(test_host_and_url_are_joined_with_one_slash),
        cmocka_unit_test(test_data_goes_as_a_form_or_as_it_is),
        cmocka_unit_test(test_what_is_wrong_is_named_with_its_place),
        cmocka_unit_test(test_a_wrong_entry_leaves_the_others_alone),
        cmocka_unit_test(test_a_period_out_of_range_becomes_the_preset),
        cmocka_unit_test(test_the_environment_goes_before_the_file_for_basic_logins),
        cmocka_unit_test(test_credentials_go_to_the_own_host_unless_it_is_said),
        cmocka_unit_test(test_former_and_other_names_of_keys_are_understood),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
