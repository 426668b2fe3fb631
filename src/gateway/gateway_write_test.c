/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/gateway_write.h"
#include "base/file.h"
#include "gateway/gateway_conf.h"
#include "gateway/gateway_sketch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a directory with files ---- */

static char dir[64];

static const char *path_of(const char *name)
{
    static char path[2][400];
    static unsigned i;

    i = !i;
    snprintf(path[i], sizeof path[i], "%s/%s", dir, name);
    return path[i];
}

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/iotgw-write-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static unsigned n_files(void)
{
    DIR *list = opendir(dir);
    unsigned n = 0;

    assert_non_null(list);
    for (struct dirent *entry; (entry = readdir(list));)
        n += entry->d_name[0] != '.';
    closedir(list);
    return n;
}

static int remove_files(void **state)
{
    DIR *list = opendir(dir);

    (void)state;
    for (struct dirent *entry; list && (entry = readdir(list));)
        if (entry->d_name[0] != '.')
            unlink(path_of(entry->d_name));
    if (list)
        closedir(list);
    return 0;
}

static int remove_dir(void **state)
{
    remove_files(state);
    return rmdir(dir);
}

static void put(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static char *content_of(const char *name)
{
    struct buf content = {0};

    assert_int_equal(file_read(&content, path_of(name), 1 << 20, NULL), ERR_OK);
    buf_add_u8(&content, 0);
    return (char *)content.p;
}

static void assert_content(const char *name, const char *expected)
{
    autofree char *content = content_of(name);

    assert_string_equal(content, expected);
}

/* ---- connector types ---- */

struct toy {
    struct connector_common common;
    struct str topic;
    double scale;
};
static const struct field toy_fields[] = {F_STR(struct toy, topic, "topic", .need = true),
                                          F_DOUBLE(struct toy, scale, "scale"), F_END};
static const struct conf_type toy_type = {
    .name = "toy", .size = sizeof(struct toy), .fields = toy_fields, .base = &connector_common_type};

static const struct conf_type *toy_conf(const char *type, struct why *why)
{
    if (strcmp(type, "toy") == 0)
        return &toy_type;
    why_set(why, ERR_NOTFOUND, "there is no such connector type");
    return NULL;
}
static void toy_each(void (*fn)(void *arg, const char *type), void *arg)
{
    fn(arg, "toy");
}
static const struct gateway_types toys = {toy_conf, toy_each};

/* ---- loading, with the report in which the directory is D and the identity of the one connector is ID ---- */

static void replace(char **text, const char *what, const char *by)
{
    struct buf out = {0};
    struct str rest = str_from(*text);
    size_t at;

    while (*what && (at = str_find(rest, str_from(what), 0)) != SIZE_MAX) {
        buf_add_str(&out, str_cut(rest, at));
        buf_add_z(&out, by);
        rest = str_skip(rest, at + strlen(what));
    }
    buf_add_str(&out, rest);
    buf_add_u8(&out, 0);
    mem_free(*text);
    *text = (char *)out.p;
}

/* id: of the first connector, empty if it has none. Gives the report. */
static char *load(bool to_run, char id[64])
{
    struct problems problems;
    struct gateway_conf *conf;
    struct buf report = {0};
    char *text;

    problems_init(&problems);
    conf = to_run ? gateway_conf_load_to_run(dir, &toys, &problems) : gateway_conf_load(dir, &toys, &problems);
    for (const struct problem *problem = problems.first; problem; problem = problem->next) {
        problem_add_text(&report, problem);
        buf_add_z(&report, "\n");
    }
    buf_add_u8(&report, 0);
    text = (char *)report.p;
    *id = 0;
    if (conf && conf->n_connectors && conf->connectors[0].conf) {
        const struct toy *toy = conf_root(conf->connectors[0].conf);

        snprintf(id, 64, STR_FMT, STR_ARG(toy->common.id));
    }
    gateway_conf_free(conf);
    problems_fini(&problems);
    replace(&text, dir, "D");
    replace(&text, id, "ID");
    return text;
}

static void assert_report(bool to_run, char id[64], const char *expected)
{
    autofree char *report = load(to_run, id);

    assert_string_equal(report, expected);
}

#define MAIN_YAML                                                                                                      \
    "thingsboard:\n"                                                                                                   \
    "  host: h\n"                                                                                                      \
    "  security: {accessToken: '007'}\n"                                                                               \
    "storage:\n"                                                                                                       \
    "  type: memory\n"                                                                                                 \
    "connectors:\n"                                                                                                    \
    "  - name: A\n"                                                                                                    \
    "    type: toy\n"                                                                                                  \
    "    configuration: a.json\n"
#define MAIN_JSON                                                                                                      \
    "{\n"                                                                                                              \
    "  \"thingsboard\": {\n"                                                                                           \
    "    \"host\": \"h\",\n"                                                                                           \
    "    \"security\": {\n"                                                                                            \
    "      \"accessToken\": \"007\"\n"                                                                                 \
    "    }\n"                                                                                                          \
    "  },\n"                                                                                                           \
    "  \"storage\": {\n"                                                                                               \
    "    \"type\": \"memory\"\n"                                                                                       \
    "  },\n"                                                                                                           \
    "  \"connectors\": [\n"                                                                                            \
    "    {\n"                                                                                                          \
    "      \"name\": \"A\",\n"                                                                                         \
    "      \"type\": \"toy\",\n"                                                                                       \
    "      \"configuration\": \"a.json\"\n"                                                                            \
    "    }\n"                                                                                                          \
    "  ]\n"                                                                                                            \
    "}\n"
#define WILL_WRITE "warning: YAML is the form of former versions; when the gateway runs it writes this file as "
#define HAS_WRITTEN "warning: YAML is the form of former versions; what counts from now on is its copy in JSON, "

/* ---- YAML ---- */

static void test_yaml_is_read_where_json_is_not_there_and_only_a_run_writes_it(void **state)
{
    char id[64], again[64];
    struct stat st;

    (void)state;
    put("tb_gateway.yaml", MAIN_YAML);
    put("a.yaml", "topic: t\nscale: 1.50\nid: given\n");
    put("logs.yaml", "version: 2\n");
    assert_int_equal(chmod(path_of("tb_gateway.yaml"), 0640), 0);
    assert_report(false, id,
                  "D/tb_gateway.yaml:1:1: " WILL_WRITE "D/tb_gateway.json\n"
                  "D/logs.yaml:1:1: " WILL_WRITE "D/logs.json\n"
                  "D/logs.yaml:1:10: version: found 2; expected an integer from 1 to 1; the default 1 is used\n"
                  "D/a.yaml:1:1: " WILL_WRITE "D/a.json\n");
    assert_string_equal(id, "given");
    assert_int_equal(n_files(), 3);
    assert_report(true, id,
                  "D/tb_gateway.yaml:1:1: " HAS_WRITTEN "D/tb_gateway.json\n"
                  "D/logs.yaml:1:1: " HAS_WRITTEN "D/logs.json\n"
                  "D/logs.json:2:14: version: found 2; expected an integer from 1 to 1; the default 1 is used\n"
                  "D/a.yaml:1:1: " HAS_WRITTEN "D/a.json\n");
    assert_int_equal(n_files(), 6);
    assert_content("tb_gateway.json", MAIN_JSON);
    assert_content("a.json", "{\n  \"topic\": \"t\",\n  \"scale\": 1.50,\n  \"id\": \"given\"\n}\n");
    assert_content("tb_gateway.yaml", MAIN_YAML);
    assert_int_equal(stat(path_of("tb_gateway.json"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    /* The JSON is what counts from now on. */
    put("tb_gateway.yaml", "no: [yaml");
    put("a.yaml", "");
    assert_report(true, again,
                  "D/logs.json:2:14: version: found 2; expected an integer from 1 to 1; the default 1 is used\n");
    assert_string_equal(again, id);
}

static void test_a_json_file_that_came_meanwhile_is_not_replaced(void **state)
{
    char id[64];

    (void)state;
    put("tb_gateway.yaml", MAIN_YAML);
    put("a.yaml", "topic: t\n");
    /* As if another wrote it between looking and writing: a link to nothing is not found, but stands in the way. */
    assert_int_equal(symlink("nothing", path_of("tb_gateway.json")), 0);
    assert_int_equal(symlink("nothing", path_of("a.json")), 0);
    assert_report(
        true, id,
        "D/tb_gateway.yaml:1:1: warning: YAML is the form of former versions, and its copy in JSON cannot be made: "
        "D/tb_gateway.json: cannot be written: File exists\n"
        "D/a.yaml:1:1: warning: YAML is the form of former versions, and its copy in JSON cannot be made: "
        "D/a.json: cannot be written: File exists\n"
        "D/a.yaml:1:1: note: has no \"id\"; it is made of the connector's name, as none can be added: "
        "D/a.json: cannot be written: File exists\n");
    assert_int_equal(n_files(), 4);
}

static void test_problems_are_placed_in_the_yaml_text(void **state)
{
    char id[64];

    (void)state;
    put("tb_gateway.yaml", MAIN_YAML "    name: B\n");
    put("a.yaml", "# a toy\ntopic: t\nscale: &s 1\n");
    assert_report(false, id,
                  "D/tb_gateway.yaml:1:1: " WILL_WRITE "D/tb_gateway.json\n"
                  "D/tb_gateway.yaml:7:5: connectors[0].name: warning: found a second time in line 10; each key is "
                  "expected once; the last one counts\n"
                  "D/a.yaml:3:8: anchors (&name) are not supported; write the value where it is needed\n");
    put("a.yaml", "# a toy\nscale: much\n");
    assert_report(false, id,
                  "D/tb_gateway.yaml:1:1: " WILL_WRITE "D/tb_gateway.json\n"
                  "D/tb_gateway.yaml:7:5: connectors[0].name: warning: found a second time in line 10; each key is "
                  "expected once; the last one counts\n"
                  "D/a.yaml:2:1: " WILL_WRITE "D/a.json\n"
                  "D/a.yaml:2:8: scale: found \"much\"; expected a number; the default 0 is used\n"
                  "D/a.yaml:2:1: topic: missing; expected text; the file is not used\n");
}

static void test_a_file_named_as_yaml_stays_yaml_and_its_id_comes_from_the_name(void **state)
{
    char id[64], again[64];

    (void)state;
    put("tb_gateway.json", "{\"thingsboard\":{\"host\":\"h\",\"security\":{\"accessToken\":\"x\"}},"
                           "\"storage\":{\"type\":\"memory\"},"
                           "\"connectors\":[{\"name\":\"A\",\"type\":\"toy\",\"configuration\":\"a.yml\"}]}");
    put("a.yml", "topic: t\n");
    assert_report(true, id,
                  "D/a.yml:1:1: note: has no \"id\"; it is made of the connector's name, as none can be added: "
                  "D/a.yml: YAML is not written\n");
    assert_int_equal(n_files(), 2);
    assert_int_equal(id[14], '5');
    assert_report(true, again,
                  "D/a.yml:1:1: note: has no \"id\"; it is made of the connector's name, as none can be added: "
                  "D/a.yml: YAML is not written\n");
    assert_string_equal(again, id);
    assert_report(false, id, "");
    assert_string_equal(id, "");
}

/* ---- identities ---- */

static void test_a_connector_gets_an_id_once(void **state)
{
    char id[64], again[64], expected[200];
    struct stat st;

    (void)state;
    put("tb_gateway.json", MAIN_JSON);
    put("a.json", "{\"topic\":\"\u00fc/\\\"\",\"scale\":1.50,\n\"ts\":{\"z\":1,\"a\":[1e400,{}]}}");
    assert_int_equal(chmod(path_of("a.json"), 0600), 0);
    assert_report(false, id, "");
    assert_string_equal(id, "");
    assert_report(true, id, "D/a.json:1:1: note: had no \"id\"; it has a new one: ID\n");
    assert_int_equal(strlen(id), 36);
    assert_int_equal(id[14], '4');
    snprintf(expected, sizeof expected,
             "{\n  \"topic\": \"\u00fc/\\\"\",\n  \"scale\": 1.50,\n  \"ts\": {\n    \"z\": 1,\n    \"a\": [\n      "
             "1e400,\n      {}\n    ]\n  },\n  \"id\": \"%s\"\n}\n",
             id);
    assert_content("a.json", expected);
    assert_int_equal(stat(path_of("a.json"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(n_files(), 2);
    assert_report(true, again, "");
    assert_string_equal(again, id);
    assert_report(false, again, "");
    assert_string_equal(again, id);
}

static void test_an_id_without_content_counts_as_absent(void **state)
{
    static const char *const texts[] = {"{\"id\":null,\"topic\":\"t\"}", "{\"id\":\"\",\"topic\":\"t\",\"id\":\"\"}"};
    char id[64], expected[200];

    (void)state;
    put("tb_gateway.json", MAIN_JSON);
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        put("a.json", texts[i]);
        assert_report(true, id, "D/a.json:1:1: note: had no \"id\"; it has a new one: ID\n");
        snprintf(expected, sizeof expected, "{\n  \"topic\": \"t\",\n  \"id\": \"%s\"\n}\n", id);
        assert_content("a.json", expected);
    }
}

static void test_an_id_that_is_there_is_not_touched(void **state)
{
    char id[64];

    (void)state;
    put("tb_gateway.json", MAIN_JSON);
    put("a.json", "{\"topic\":\"t\", \"id\":\"x\"}");
    assert_report(true, id, "");
    assert_string_equal(id, "x");
    assert_content("a.json", "{\"topic\":\"t\", \"id\":\"x\"}");
}

static void test_an_id_that_is_no_text_is_reported_and_replaced_for_the_run(void **state)
{
    char id[64];

    (void)state;
    put("tb_gateway.json", MAIN_JSON);
    put("a.json", "{\"topic\":\"t\",\"id\":[]}");
    assert_report(true, id, "D/a.json:1:1: \"id\" is no text; one made of the connector's name is used\n");
    assert_int_equal(id[14], '5');
    assert_content("a.json", "{\"topic\":\"t\",\"id\":[]}");
    put("a.json", "{\"topic\":\"t\",\"id\":7}");
    assert_report(true, id, "");
    assert_string_equal(id, "7");
}

static void test_what_is_no_configuration_is_not_written(void **state)
{
    static const char *const cases[][2] = {
        {"", "D/a.json:1:1: it is empty; a JSON value is needed\n"},
        {"{\"topic\":\"t\" // why\n}", "D/a.json:1:14: comments are not allowed in JSON\n"},
        {"{\"topic\":\"t\"", "D/a.json:1:13: the text ends in the middle; a closing bracket or quote is missing\n"},
        {"[1]", "D/a.json:1:1: found a list; expected an object; the file is not used\n"},
        {"\n{\"logLevel\":\"INFO\",\"id\":\"7\",\"name\":\"x\"}",
         "D/a.json:2:1: warning: found \"logLevel\" and little else, which counts as no configuration; the connector "
         "is not started\n"},
    };
    char id[64];

    (void)state;
    put("tb_gateway.json", MAIN_JSON);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        put("a.json", cases[i][0]);
        assert_report(true, id, cases[i][1]);
        assert_content("a.json", cases[i][0]);
        assert_int_equal(n_files(), 2);
    }
    put("a.json", "{\"logLevel\":\"INFO\",\"topic\":\"t\",\"name\":\"x\",\"scale\":1}");
    assert_report(true, id, "D/a.json:1:1: note: had no \"id\"; it has a new one: ID\n");
}

/* ---- the shortened form of the documentation ---- */

static void test_the_shortened_form_is_recognised_and_its_real_form_shown(void **state)
{
    static const char sketch[] =
        "{\"modbus\": {\"type\": \"tcp\", \"host\": \"10.0.0.5\", \"port\": 502, \"devices\": "
        "[{\"deviceName\": \"P\", \"unitId\": 7, \"attributes\": [{\"tag\": \"s\", \"address\": "
        "1}], \"telemetry\": [{\"tag\": \"f\", \"address\": 2, \"type\": \"32float\"}]}, 5]}}";
    static const char real[] =
        "{\"master\":{\"slaves\":[{\"deviceName\":\"P\",\"unitId\":7,\"type\":\"tcp\",\"host\":\"10.0.0.5\",\"port\":"
        "502,\"method\":\"socket\",\"pollPeriod\":5000,\"attributes\":[{\"tag\":\"s\",\"address\":1,\"type\":\"16int\","
        "\"functionCode\":3,\"objectsCount\":1}],\"timeseries\":[{\"tag\":\"f\",\"address\":2,\"type\":\"32float\","
        "\"functionCode\":3,\"objectsCount\":1}]}]}}";
    static const char *const others[] = {"{\"modbus\":{}}", "{\"modbus\":[]}", "{\"devices\":[]}", "[]",
                                         "{\"modbus\":{\"devices\":[]},\"master\":{}}"};
    struct problems problems;
    autojson struct json_file *file = NULL, *shown = NULL;
    autobuf struct buf text = {0};
    char id[64];

    (void)state;
    problems_init(&problems);
    assert_int_equal(json_file_parse(&file, "m.json", str_from(sketch), NULL), ERR_OK);
    assert_true(gateway_report_sketch(file, &problems));
    assert_int_equal(problems.n_errors, 1);
    assert_int_equal(problems.first->column, 12);
    assert_int_equal(json_file_parse(&shown, "shown", str_from(problems.first->example), NULL), ERR_OK);
    json_add_value(&text, json_file_root(shown));
    assert_true(str_eq(buf_str(&text), str_from(real)));
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        autojson struct json_file *other = NULL;

        assert_int_equal(json_file_parse(&other, "m.json", str_from(others[i]), NULL), ERR_OK);
        assert_false(gateway_report_sketch(other, &problems));
    }
    problems_fini(&problems);
    put("tb_gateway.json", MAIN_JSON);
    put("a.json", sketch);
    autofree char *report = load(true, id);

    assert_true(
        str_starts(str_from(report), STR("D/a.json:1:12: modbus: a shortened form that only documentation has")));
    assert_content("a.json", sketch);
}

#define WRITE_TEST(f) cmocka_unit_test_teardown(f, remove_files)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WRITE_TEST(test_yaml_is_read_where_json_is_not_there_and_only_a_run_writes_it),
        WRITE_TEST(test_a_json_file_that_came_meanwhile_is_not_replaced),
        WRITE_TEST(test_problems_are_placed_in_the_yaml_text),
        WRITE_TEST(test_a_file_named_as_yaml_stays_yaml_and_its_id_comes_from_the_name),
        WRITE_TEST(test_a_connector_gets_an_id_once),
        WRITE_TEST(test_an_id_without_content_counts_as_absent),
        WRITE_TEST(test_an_id_that_is_there_is_not_touched),
        WRITE_TEST(test_an_id_that_is_no_text_is_reported_and_replaced_for_the_run),
        WRITE_TEST(test_what_is_no_configuration_is_not_written),
        WRITE_TEST(test_the_shortened_form_is_recognised_and_its_real_form_shown),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
