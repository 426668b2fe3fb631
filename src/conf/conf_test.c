/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/common.h"
#include "conf/conf.h"

#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* A configuration with one field of each kind. */
struct point {
    struct str key;
    double scale;
    bool is_star;
    struct conf_at at;
};
struct limits {
    uint32_t low, high;
};
struct thing {
    struct connector_common common;
    struct str host;
    uint32_t port;
    int64_t offset;
    double factor;
    bool is_on, has_port;
    struct secret password;
    int order;
    struct limits *limits, *spare;
    struct conf_list points;
    struct conf_strs tags;
    struct conf_map labels, zones;
    const struct yyjson_val *extra;
    uint32_t poll_ms, poll_s;
};

static const struct choice orders[] = {{"BIG", 1}, {"LITTLE", 2}, {"5", 5}, {NULL, 0}};
static const struct field point_fields[] = {F_STR(struct point, key, "key", .need = true, .min = 1),
                                            F_DOUBLE(struct point, scale, "scale", .def_double = 1.5, .strict = true),
                                            F_AT(struct point, at), F_END};
static enum err star(struct conf_load *load, void *object, const struct yyjson_val *val, const struct conf_at *at)
{
    struct point *point = object;

    (void)load;
    (void)at;
    if (!yyjson_is_str((yyjson_val *)(uintptr_t)val) || !str_eq(json_str((yyjson_val *)(uintptr_t)val), STR("*")))
        return ERR_TYPE;
    point->key = STR("*");
    point->is_star = true;
    return ERR_OK;
}
static const struct conf_type point_type = {
    .name = "thing.point", .size = sizeof(struct point), .fields = point_fields, .from_other = star};
static const struct field limit_fields[] = {F_UINT(struct limits, low, "low", .def = 3),
                                            F_UINT(struct limits, high, "high", .def = 9, .max = 100), F_END};
static enum err check_limits(struct conf_load *load, void *object, const struct conf_at *at)
{
    const struct limits *limits = object;

    if (limits->low <= limits->high)
        return ERR_OK;
    conf_error(load, at, "low", "found %u, above \"high\" (%u)", limits->low, limits->high);
    return ERR_RANGE;
}
static const struct conf_type limits_type = {
    .name = "thing.limits", .size = sizeof(struct limits), .fields = limit_fields, .check = check_limits};
static const struct field thing_fields[] = {
    F_STR(struct thing, host, "host", .need = true, .doc = "Where it is | or was."),
    F_UINT(struct thing, port, "port", .def = 502, .min = 1, .max = 65535,
           .has_offset = offsetof(struct thing, has_port)),
    F_INT(struct thing, offset, "offset", .def = -7, .min = -100, .max = 100),
    F_DOUBLE(struct thing, factor, "factor", .def_double = 0.5),
    F_BOOL(struct thing, is_on, "enabled", .def = true),
    F_SECRET(struct thing, password, "password"),
    F_ENUM(struct thing, order, "byteOrder", .of = orders, .def = 1),
    F_OBJECT(struct thing, limits, "limits", &limits_type, .always = true),
    F_OBJECT(struct thing, spare, "spare", &limits_type, .skip = true),
    F_LIST(struct thing, points, "points", &point_type, .no_duplicates = true, .unique = "key"),
    F_STRS(struct thing, tags, "tags"),
    F_MAP(struct thing, labels, "labels", NULL),
    F_MAP(struct thing, zones, "zones", &limits_type),
    F_JSON(struct thing, extra, "extra"),
    F_MS(struct thing, poll_ms, "pollPeriod", .def = 5000, .min = 10, .live = true),
    F_MS(struct thing, poll_ms, "period", .now = "pollPeriod"),
    F_UINT(struct thing, poll_s, "pollSeconds", .now = "pollPeriod", .unit = "s"),
    F_IGNORED("turbo", "it is always fast"),
    F_IGNORED("ts", NULL),
    F_END};
static const struct conf_type thing_type = {
    .name = "thing", .size = sizeof(struct thing), .fields = thing_fields, .base = &connector_common_type};

static char *report_of(const struct problems *problems)
{
    struct buf out = {0};

    for (const struct problem *problem = problems->first; problem; problem = problem->next) {
        problem_add_text(&out, problem);
        buf_add_z(&out, "\n");
    }
    buf_add_u8(&out, 0);
    return (char *)out.p;
}

static struct conf *load(const char *text, char **report)
{
    struct problems problems;
    struct conf *conf;

    problems_init(&problems);
    conf = conf_load_text(&thing_type, NULL, "t.json", str_from(text), &problems);
    *report = report_of(&problems);
    problems_fini(&problems);
    return conf;
}

static void test_each_wrong_value_is_reported_with_place_and_remedy(void **state)
{
    static const struct {
        const char *text, *report;
        bool is_used;
    } cases[] = {
        {"{\"host\":\"a\"}", "", true},
        {"{\"host\":\"a\",\"port\":\"1502\",\"password\":5,\"ts\":1}", "", true},
        {"{\"host\":12,\"port\":1502.0,\"enabled\":0,\"byteOrder\":5}", "", true},
        {"{\"host\":null}", "t.json:1:1: host: missing; expected text; the file is not used\n", false},
        {"{}", "t.json:1:1: host: missing; expected text; the file is not used\n", false},
        {"[]", "t.json:1:1: found a list; expected an object; the file is not used\n", false},
        {"{\"host\":true}", "t.json:1:9: host: found true; expected text; the file is not used\n", false},
        {"{\"host\":\"a\",\n  \"port\":70000}",
         "t.json:2:10: port: found 70000; expected an integer from 1 to 65535; the default 502 is used\n", true},
        {"{\"host\":\"a\",\"port\":\"x\"}",
         "t.json:1:20: port: found \"x\"; expected an integer from 1 to 65535; the default 502 is used\n", true},
        {"{\"host\":\"a\",\"port\":1.5}",
         "t.json:1:20: port: found 1.5; expected an integer from 1 to 65535; the default 502 is used\n", true},
        {"{\"host\":\"a\",\"pollPeriod\":5}",
         "t.json:1:26: pollPeriod: found 5; expected an integer of 10 or more (ms); the default 5000 is used\n", true},
        {"{\"host\":\"a\",\"offset\":-101}",
         "t.json:1:22: offset: found -101; expected an integer from -100 to 100; the default -7 is used\n", true},
        {"{\"host\":\"a\",\"enabled\":\"false\"}",
         "t.json:1:23: enabled: found \"false\"; expected true or false; the default true is used\n", true},
        {"{\"host\":\"a\",\"byteOrder\":\"LITLE\"}",
         "t.json:1:25: byteOrder: found \"LITLE\"; expected one of \"BIG\", \"LITTLE\" or \"5\"; the default \"BIG\" "
         "is used; "
         "did you mean \"LITTLE\"?\n",
         true},
        {"{\"host\":\"a\",\"prot\":1}",
         "t.json:1:13: prot: warning: unknown key, which has no effect; did you mean \"port\"?\n", true},
        {"{\"host\":\"a\",\"my key\":1}", "t.json:1:13: [\"my key\"]: warning: unknown key, which has no effect\n",
         true},
        {"{\"host\":\"a\",\"turbo\":1}", "t.json:1:21: turbo: note: has no effect; it is always fast\n", true},
        {"{\"host\":\"a\",\"port\":1,\n\"port\":2}",
         "t.json:1:13: port: warning: found a second time in line 2; each key is expected once; the last one counts\n",
         true},
        {"{\"host\":\"a\",\"period\":20}", "t.json:1:22: period: note: old name of \"pollPeriod\"\n", true},
        {"{\"host\":\"a\",\"period\":20,\"pollPeriod\":30}",
         "t.json:1:22: period: warning: has no effect, as \"pollPeriod\", its present name, is there too\n", true},
        {"{\"host\":\"a\",\"limits\":{\"low\":10}}", "t.json:1:29: limits.low: found 10, above \"high\" (9)\n", false},
        {"{\"host\":\"a\",\"limits\":7}", "t.json:1:22: limits: found 7; expected an object; the defaults are used\n",
         true},
        {"{\"host\":\"a\",\"spare\":{\"high\":1}}", "t.json:1:21: spare.low: found 3, above \"high\" (1)\n", true},
        {"{\"host\":\"a\",\"points\":{}}",
         "t.json:1:22: points: found an object; expected a list; the key counts as absent\n", true},
        {"{\"host\":\"a\",\"points\":[{\"key\":\"a\"},\n{\"key\":\"\"},{\"kei\":1},{\"key\":\"b\",\"scale\":\"x\"},7]}",
         "t.json:2:8: points[1].key: found \"\"; expected text that is not empty; points[1] is not used\n"
         "t.json:2:13: points[2].kei: warning: unknown key, which has no effect; did you mean \"key\"?\n"
         "t.json:2:12: points[2].key: missing; expected text that is not empty; points[2] is not used\n"
         "t.json:2:41: points[3].scale: found \"x\"; expected a number; points[3] is not used\n"
         "t.json:2:46: points[4]: found 7; expected an object or its short form; points[4] is not used\n",
         true},
        {"{\"host\":\"a\",\"points\":[{\"key\":\"a\"},{\"key\":\"a\"}]}",
         "t.json:1:42: points[1].key: found \"a\", which is the key of points[0] already; expected another; points[1] "
         "is not "
         "used\n",
         true},
        {"{\"host\":\"a\",\"tags\":[\"x\",5,[]]}",
         "t.json:1:27: tags[2]: found a list; expected text; the key counts as absent\n", true},
        {"{\"host\":\"a\",\"zones\":{\"Z 1\":{\"high\":1},\"b\":{\"hihg\":1}}}",
         "t.json:1:28: zones[\"Z 1\"].low: found 3, above \"high\" (1)\n"
         "t.json:1:44: zones.b.hihg: warning: unknown key, which has no effect; did you mean \"high\"?\n",
         true},
        {"{\"host\":\"a\",\"password\":{}}",
         "t.json:1:24: password: found an object; expected text; the key counts as absent\n", true},
        {"{\"host\":\"a\",\"password\":true}",
         "t.json:1:24: password: found a value that is not shown; expected text; the key counts as absent\n", true},
        {"{\"host\":\"a\",\"password\":\"${env:IOTGW_TEST_NO_SUCH}\"}",
         "t.json:1:24: password: environment variable IOTGW_TEST_NO_SUCH is not set; the key counts as absent\n", true},
        {"{\"host\":\"a\",\"password\":\"${file:/nowhere/x}\"}",
         "t.json:1:24: password: secret's file /nowhere/x: No such file or directory; the key counts as absent\n",
         true},
        {"{\"host\":\"a\",\"logLevel\":\"DEBUGG\"}",
         "t.json:1:24: logLevel: found \"DEBUGG\"; expected one of \"INFO\", \"NONE\", \"NOTSET\", \"CRITICAL\", "
         "\"ERROR\", "
         "\"WARNING\", \"DEBUG\" or \"TRACE\"; the default \"INFO\" is used; did you mean \"DEBUG\"?\n",
         true},
        {"{\"host\":\"a\",\"reportStrategy\":{\"type\":\"ON_CHANG\"}}",
         "t.json:1:38: reportStrategy.type: found \"ON_CHANG\"; expected one of \"ON_RECEIVED\", \"ON_CHANGE\", "
         "\"ON_REPORT_PERIOD\", \"ON_CHANGE_OR_REPORT_PERIOD\" or \"DISABLED\"; reportStrategy is not used; "
         "did you mean \"ON_CHANGE\"?\n",
         true},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *report;
        struct conf *conf = load(cases[i].text, &report);

        assert_string_equal(report, cases[i].report);
        assert_int_equal(conf != NULL, cases[i].is_used);
        conf_unref(conf);
        mem_free(report);
    }
}

static void test_absent_keys_have_their_defaults(void **state)
{
    char *report;
    struct conf *conf = load("{\"host\":\"a\",\"byteOrder\":null}", &report);
    const struct thing *thing = conf_root(conf);

    (void)state;
    assert_int_equal(thing->port, 502);
    assert_false(thing->has_port);
    assert_int_equal(thing->offset, -7);
    assert_true(thing->factor == 0.5);
    assert_true(thing->is_on);
    assert_null(thing->password.value.p);
    assert_int_equal(thing->order, 1);
    assert_int_equal(thing->limits->high, 9);
    assert_null(thing->spare);
    assert_int_equal(thing->points.n, 0);
    assert_int_equal(thing->poll_ms, 5000);
    assert_int_equal(thing->common.log_level, LOG_LEVEL_INFO);
    assert_null(thing->common.report_strategy);
    assert_string_equal(thing->common.at.file, "t.json");
    conf_unref(conf);
    mem_free(report);
}

static void test_values_arrive_in_their_fields(void **state)
{
    char *report;
    struct conf *conf = load("{\"host\":\"h\",\"port\":\"99\",\"points\":[\"*\",{\"key\":7,\"scale\":\"2.5\"}],"
                             "\"tags\":[\"x\",1.50],\"labels\":"
                             "{\"b\":[1],\"a\":{}},\"extra\":1.50,\"period\":70,\"reportStrategy\":{\"ttl\":5}}",
                             &report);
    const struct thing *thing = conf_root(conf);
    const struct point *second = thing->points.items[1];

    (void)state;
    assert_string_equal(report, "t.json:1:130: period: note: old name of \"pollPeriod\"\n");
    assert_int_equal(thing->port, 99);
    assert_true(thing->has_port);
    assert_int_equal(thing->points.n, 2);
    assert_true(((const struct point *)thing->points.items[0])->is_star);
    assert_true(str_eq(second->key, STR("7")));
    assert_true(second->scale == 2.5);
    assert_string_equal(second->at.path, "points[1]");
    assert_int_equal(second->at.column, 39);
    assert_true(str_eq(thing->tags.items[1], STR("1.5")));
    assert_int_equal(thing->labels.n, 2);
    assert_true(str_eq(thing->labels.items[0].key, STR("b")));
    assert_true(yyjson_is_raw((yyjson_val *)(uintptr_t)thing->extra));
    assert_int_equal(thing->poll_ms, 70);
    assert_int_equal(thing->common.report_strategy->type, REPORT_INHERIT);
    assert_int_equal(thing->common.report_strategy->period_ms, 10000);
    assert_int_equal(thing->common.report_strategy->ttl_s, 5);
    conf_unref(conf);
    mem_free(report);
}

static void test_secrets_come_from_environment_and_file_and_are_not_printed(void **state)
{
    char name[] = "/tmp/iotgw-secret-XXXXXX", text[200], *report;
    int fd = mkstemp(name);
    struct conf *conf;
    const struct thing *thing;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "s3cret\n", 7), 7);
    close(fd);
    setenv("IOTGW_TEST_SECRET", "hidden", 1);
    snprintf(text, sizeof text, "{\"host\":\"a\",\"password\":\"x${env:IOTGW_TEST_SECRET}-${file:%s}$\"}", name);
    conf = load(text, &report);
    thing = conf_root(conf);
    assert_true(str_eq(thing->password.value, STR("xhidden-s3cret$")));
    assert_string_equal(report, "");
    mem_free(report);
    conf_unref(conf);
    conf = load("{\"host\":\"a\",\"password\":\"${env:X\",\"passwort\":\"hidden\",\"password\":[\"hidden\"]}", &report);
    assert_null(strstr(report, "hidden"));
    mem_free(report);
    conf_unref(conf);
    unlink(name);
}

static void test_text_that_is_no_json_is_reported_where_it_breaks(void **state)
{
    static const char *const bad[] = {"", "{", "{\"host\":}", "{\"a\":1,}", "// x\n{}", "\xff", "nul"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct problems problems;

        problems_init(&problems);
        assert_null(conf_load_text(&thing_type, NULL, "t.json", str_from(bad[i]), &problems));
        assert_int_equal(problems.n_errors, 1);
        assert_string_equal(problems.first->file, "t.json");
        assert_int_not_equal(problems.first->line, 0);
        assert_null(strstr(problems.first->text, "t.json"));
        problems_fini(&problems);
    }
}

static void test_a_missing_file_is_one_error_with_its_name(void **state)
{
    struct problems problems;

    (void)state;
    problems_init(&problems);
    assert_null(conf_load_file(&thing_type, NULL, "/nowhere/t.json", &problems));
    assert_int_equal(problems.n_errors, 1);
    assert_string_equal(problems.first->file, "/nowhere/t.json");
    problems_fini(&problems);
}

static void test_overrides_go_before_the_file_and_are_named(void **state)
{
    static const struct conf_override overrides[] = {
        {&thing_type, "port", {"77777", 5}, "environment variable P"},
        {&limits_type, "high", {"50", 2}, "environment variable H"},
        {&thing_type, "host", {"over", 4}, "environment variable N"},
    };
    struct json_file *file;
    struct problems problems;
    struct conf *conf;
    const struct thing *thing;
    char *report;

    (void)state;
    problems_init(&problems);
    assert_int_equal(json_file_parse(&file, "t.json", STR("{\"port\":5}"), NULL), ERR_OK);
    conf = conf_load_json(&thing_type, NULL, file, overrides, COUNT_OF(overrides), &problems);
    report = report_of(&problems);
    assert_string_equal(report,
                        "environment variable P: port: found \"77777\"; expected an integer from 1 to 65535; the "
                        "default 502 is used\n");
    thing = conf_root(conf);
    assert_true(str_eq(thing->host, STR("over")));
    assert_int_equal(thing->spare->high, 50);
    mem_free(report);
    conf_unref(conf);
    problems_fini(&problems);
}

struct changes {
    struct buf text;
};
static void note_change(void *arg, const char *path, bool live)
{
    buf_printf(arg, "%s%s ", path, live ? "(live)" : "");
}

static void test_difference_names_the_changed_fields(void **state)
{
    static const char base[] = "{\"host\":\"a\",\"points\":[{\"key\":\"p\"},\"*\"],\"labels\":{\"x\":[1,{\"a\":1}]}}";
    static const struct {
        const char *after, *changes;
    } cases[] = {
        {base, ""},
        {"{\"labels\":{\"x\":[1.0,{\"a\":1}]},\"points\":[{\"key\":\"p\",\"scale\":1.5},\"*\"],\"host\":\"a\"}", ""},
        {"{\"host\":\"b\",\"points\":[{\"key\":\"p\"},\"*\"],\"labels\":{\"x\":[1,{\"a\":1}]},\"period\":50}",
         "host pollPeriod(live) "},
        {"{\"host\":\"a\",\"points\":[{\"key\":\"q\"},{\"key\":\"*\"}],\"labels\":{\"x\":[1,{\"a\":2}]}}",
         "points[0].key points[1] labels.x "},
        {"{\"host\":\"a\",\"port\":502,\"points\":[],\"labels\":{\"y\":1},\"spare\":{},\"logLevel\":\"DEBUG\"}",
         "port spare points labels.x logLevel(live) "},
    };
    char *report;
    struct conf *before = load(base, &report);

    (void)state;
    mem_free(report);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct conf *after = load(cases[i].after, &report);
        struct buf changes = {0};

        conf_diff(before, after, note_change, &changes);
        assert_true(str_eq_z(buf_str(&changes), cases[i].changes));
        buf_fini(&changes);
        conf_unref(after);
        mem_free(report);
    }
    conf_unref(before);
}

static void test_schema_is_json_and_has_every_key(void **state)
{
    struct buf out = {0};
    struct json_file *file;
    yyjson_val *defs, *thing, *property;

    (void)state;
    conf_schema(&out, &thing_type, "A \"thing\"");
    assert_int_equal(json_file_parse(&file, "schema", buf_str(&out), NULL), ERR_OK);
    defs = json_get(json_file_root(file), STR("$defs"));
    thing = json_get(defs, STR("thing"));
    assert_non_null(json_get(defs, STR("thing.point")));
    assert_non_null(json_get(defs, STR("reportStrategy")));
    for (const struct field *field = thing_fields; field->type != FIELD_END; field++)
        assert_non_null(json_get(json_get(thing, STR("properties")), str_from(field->key)));
    property = json_get(json_get(thing, STR("properties")), STR("port"));
    assert_true(str_eq(json_str(json_get(property, STR("type"))), STR("integer")));
    assert_non_null(json_get(property, STR("maximum")));
    assert_true(str_eq(json_str(yyjson_arr_get_first(json_get(thing, STR("required")))), STR("host")));
    json_file_free(file);
    buf_fini(&out);
}

static void test_reference_lists_every_key(void **state)
{
    struct buf out = {0};

    (void)state;
    conf_reference(&out, &thing_type, "Things");
    for (const struct field *field = thing_fields; field->type != FIELD_END; field++) {
        char cell[80];

        snprintf(cell, sizeof cell, "| `%s` |", field->key);
        assert_int_not_equal(str_find(buf_str(&out), str_from(cell), 0), SIZE_MAX);
    }
    assert_int_not_equal(str_find(buf_str(&out), STR("Where it is \\| or was."), 0), SIZE_MAX);
    assert_int_not_equal(str_find(buf_str(&out), STR("`5000`"), 0), SIZE_MAX);
    assert_int_not_equal(str_find(buf_str(&out), STR("[thing.limits](#thinglimits)"), 0), SIZE_MAX);
    buf_fini(&out);
}

static void test_problems_as_json_can_be_read_back(void **state)
{
    static const struct conf_at at = {.file = "a\"b.json", .path = "x[1]", .line = 3, .column = 4};
    struct problems problems;
    struct buf out = {0};

    (void)state;
    problems_init(&problems);
    problem_add(&problems, CONF_WARNING, &at, "found \x1b[31m \"%s\"", "y");
    problem_add_json(&out, problems.first);
    assert_true(str_eq(buf_str(&out), STR("{\"severity\":\"warning\",\"file\":\"a\\\"b.json\",\"line\":3,\"column\":4,"
                                          "\"path\":\"x[1]\",\"message\":\"found  [31m \\\"y\\\"\"}")));
    assert_int_equal(problems.n_warnings, 1);
    buf_fini(&out);
    problems_fini(&problems);
}

static void test_a_type_without_the_common_keys_is_not_taken_for_one_that_has_them(void **state)
{
    static const struct conf_type bare = {.name = "bare", .size = sizeof(struct limits), .fields = limit_fields};
    struct problems problems;
    struct conf *conf;

    (void)state;
    problems_init(&problems);
    conf = conf_load_text(&bare, NULL, "t.json", STR("{\"low\":1234567,\"id\":\"x\"}"), &problems);
    assert_non_null(conf);
    assert_int_equal(connector_common_of(conf)->log_level, LOG_LEVEL_INFO);
    assert_int_equal(connector_common_of(conf)->id.n, 0);
    assert_null(connector_common_of(conf)->report_strategy);
    assert_ptr_equal(connector_common_of(NULL), connector_common_of(conf));
    conf_unref(conf);
    problems_fini(&problems);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_wrong_value_is_reported_with_place_and_remedy),
        cmocka_unit_test(test_absent_keys_have_their_defaults),
        cmocka_unit_test(test_values_arrive_in_their_fields),
        cmocka_unit_test(test_secrets_come_from_environment_and_file_and_are_not_printed),
        cmocka_unit_test(test_text_that_is_no_json_is_reported_where_it_breaks),
        cmocka_unit_test(test_a_missing_file_is_one_error_with_its_name),
        cmocka_unit_test(test_overrides_go_before_the_file_and_are_named),
        cmocka_unit_test(test_difference_names_the_changed_fields),
        cmocka_unit_test(test_schema_is_json_and_has_every_key),
        cmocka_unit_test(test_reference_lists_every_key),
        cmocka_unit_test(test_problems_as_json_can_be_read_back),
        cmocka_unit_test(test_a_type_without_the_common_keys_is_not_taken_for_one_that_has_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
