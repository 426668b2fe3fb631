/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/remote_change.h"

#include "base/uuid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a gateway's directory ---- */

struct plain_conf {
    struct connector_common common;
    const struct yyjson_val *master;
    struct secret password;
    uint32_t port;
};
static const struct field plain_fields[] = {F_JSON(struct plain_conf, master, "master"),
                                            F_SECRET(struct plain_conf, password, "password"),
                                            F_UINT(struct plain_conf, port, "port", .max = 65535), F_END};
static const struct conf_type plain_type = {
    .name = "modbus", .size = sizeof(struct plain_conf), .fields = plain_fields, .base = &connector_common_type};

static const struct conf_type *type_of(const char *type, struct why *why)
{
    if (strcmp(type, "modbus") == 0)
        return &plain_type;
    why_set(why, ERR_NOTFOUND, "there is no such connector type");
    return NULL;
}

static void each_type(void (*fn)(void *arg, const char *type), void *arg)
{
    fn(arg, "modbus");
}

static const struct gateway_types types = {type_of, each_type};
static const char main_text[] =
    "{\"thingsboard\":{\"host\":\"h\",\"port\":1883,\"security\":{\"accessToken\":\"secret\"},\"statistics\":{"
    "\"enable\":true,"
    "\"enableCustom\":true,\"configuration\":\"statistics.json\"}},\"storage\":{\"type\":\"memory\"},\"keptKey\":1,"
    "\"connectors\":[{\"type\":\"modbus\",\"name\":\"One\",\"configuration\":\"one.json\",\"useGRPCForce\":true},"
    "{\"type\":\"modbus\",\"name\":\"Two\",\"configuration\":\"two.json\"}]}";
static char dir[64];
static struct gateway_conf *running;
static struct remote_files files;
static const char *const names[] = {"tb_gateway.json", "one.json", "two.json", "logs.json",
                                    "statistics.json", "ca.pem",   "ca_2.pem"};

static const char *path_of(const char *name)
{
    static char path[200];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void put(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void load(void)
{
    struct problems problems;

    if (running) {
        remote_files_fini(&files);
        gateway_conf_free(running);
    }
    problems_init(&problems);
    running = gateway_conf_load(dir, &types, &problems);
    assert_non_null(running);
    problems_fini(&problems);
    remote_files_init(&files, running);
    remote_files_look(&files);
}

static int begin(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/iotgw-remote-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    put("tb_gateway.json", main_text);
    put("one.json", "{\"id\":\"id1\",\"name\":\"One\",\"port\":1,\"password\":\"deep\"}");
    put("two.json", "{\"id\":\"id2\",\"name\":\"Two\",\"port\":2}");
    put("statistics.json", "[{\"attributeOnGateway\":\"a\",\"command\":\"true\",\"timeout\":1}]");
    load();
    return 0;
}

static int end(void **state)
{
    (void)state;
    remote_files_fini(&files);
    gateway_conf_free(running);
    running = NULL;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        unlink(path_of(names[i]));
    return rmdir(dir);
}

/* ---- one change ---- */

static struct remote_change change;
static struct why why;

static enum err make_from(enum remote_kind kind, const char *json, bool is_pushed)
{
    yyjson_doc *doc = yyjson_read(json, strlen(json), YYJSON_READ_NUMBER_AS_RAW);
    enum err err;

    assert_non_null(doc);
    remote_change_fini(&change);
    why = (struct why){0};
    err = remote_change_make(&change, running, &files, kind, yyjson_doc_get_root(doc), is_pushed, &why);
    yyjson_doc_free(doc);
    return err;
}

static enum err make(enum remote_kind kind, const char *json)
{
    return make_from(kind, json, true);
}

static int change_end(void **state)
{
    remote_change_fini(&change);
    return end(state);
}

static struct str text_of(const char *name)
{
    for (size_t i = 0; i < change.n; i++)
        if (strcmp(change.texts[i].path, path_of(name)) == 0)
            return change.texts[i].text;
    fail_msg("%s is not written", name);
    return STR_NONE;
}

static bool is_written(const char *name)
{
    for (size_t i = 0; i < change.n; i++)
        if (strcmp(change.texts[i].path, path_of(name)) == 0)
            return true;
    return false;
}

static void assert_json(struct str text, const char *expected)
{
    yyjson_doc *a = yyjson_read(text.p, text.n, YYJSON_READ_NUMBER_AS_RAW);
    yyjson_doc *b = yyjson_read(expected, strlen(expected), YYJSON_READ_NUMBER_AS_RAW);

    assert_non_null(b);
    if (!a || !json_equal(yyjson_doc_get_root(a), yyjson_doc_get_root(b)))
        fail_msg("have " STR_FMT ", want %s", STR_ARG(text), expected);
    yyjson_doc_free(a);
    yyjson_doc_free(b);
}

/* ---- the page's example ---- */

static void test_the_example_of_the_page_makes_file_and_entry(void **state)
{
    autobuf struct buf expected = {0}, main = {0};
    yyjson_doc *doc;
    struct str id;

    (void)state;
    assert_int_equal(make(REMOTE_CONNECTOR,
                          "{\"name\":\"Line 2\",\"type\":\"modbus\",\"logLevel\":\"INFO\",\"ts\":1795353530000,"
                          "\"configurationJson\":{\"master\":{\"slaves\":[]}}}"),
                     ERR_OK);
    assert_int_equal(change.n, 2);
    doc = yyjson_read(text_of("line_2.json").p, text_of("line_2.json").n, 0);
    id = json_str(json_get(yyjson_doc_get_root(doc), STR("id")));
    assert_int_equal(id.n, UUID_SIZE - 1);
    buf_printf(&expected,
               "{\"master\":{\"slaves\":[]},\"logLevel\":\"INFO\",\"name\":\"Line "
               "2\",\"enableRemoteLogging\":false,\"id\":\"" STR_FMT "\"}",
               STR_ARG(id));
    buf_add_u8(&expected, 0);
    assert_json(text_of("line_2.json"), (const char *)expected.p);
    yyjson_doc_free(doc);
    buf_printf(&main, "%.*s,{\"type\":\"modbus\",\"name\":\"Line 2\",\"configuration\":\"line_2.json\"}]}",
               (int)sizeof main_text - 3, main_text);
    buf_add_u8(&main, 0);
    assert_json(text_of("tb_gateway.json"), (const char *)main.p);
    assert_string_equal(change.connector, "Line 2");
}

/* ---- what is equal touches nothing ---- */

static void test_what_is_equal_changes_nothing(void **state)
{
    static const struct {
        enum remote_kind kind;
        const char *json;
    } same[] = {
        {REMOTE_GENERAL, "{}"},
        {REMOTE_GENERAL, "{\"ts\":5,\"port\":1883,\"host\":\"h\"}"},
        {REMOTE_GENERAL,
         "{\"statistics\":{\"enableCustom\":true,\"enable\":true,\"configuration\":\"statistics.json\",\"commands\":"
         "[{\"timeout\":1,\"attributeOnGateway\":\"a\",\"command\":\"true\"}]}}"},
        {REMOTE_STORAGE, "{\"type\":\"memory\",\"ts\":1}"},
        {REMOTE_GRPC, "{\"ts\":7}"},
        {REMOTE_LOGS, "{\"ts\":7}"},
        {REMOTE_ACTIVE, "[\"Two\",\"One\"]"},
        {REMOTE_CONNECTOR, "{\"name\":\"Two\",\"type\":\"modbus\",\"configurationJson\":{\"port\":2}}"},
        {REMOTE_CONNECTOR,
         "{\"name\":\"Two\",\"type\":\"MODBUS\",\"logLevel\":\"INFO\",\"enableRemoteLogging\":false,\"id\":\"id2\","
         "\"reportStrategy\":null,\"ts\":1,\"configurationJson\":{\"port\":2,\"name\":\"Two\",\"id\":\"id2\"}}"},
        {REMOTE_CONNECTOR,
         "{\"name\":\"One\",\"type\":\"modbus\",\"configurationJson\":{\"port\":1,\"password\":\"***\"}}"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(same); i++) {
        assert_int_equal(make(same[i].kind, same[i].json), ERR_OK);
        if (change.n || change.pem_path)
            fail_msg("%s changes " STR_FMT, same[i].json, STR_ARG(change.texts[0].text));
    }
}

/* ---- what has no place in the files ---- */

static void assert_refused(enum remote_kind kind, const char *json, const char *path, const char *text)
{
    if (make(kind, json) != ERR_CONFIG || strcmp(change.path, path) != 0 || !strstr(why_text(&why), text))
        fail_msg("%s: have %s: %s, want %s: %s", json, change.path, why_text(&why), path, text);
    assert_int_equal(change.n, 0);
}

static void test_values_of_every_wrong_type_are_refused_with_a_text(void **state)
{
    static const char *const wrong[] = {"null", "true", "5", "-1.5e300", "\"x\"", "[]", "[{}]"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        for (int kind = REMOTE_GENERAL; kind <= REMOTE_CONNECTOR; kind++)
            if (kind != REMOTE_ACTIVE)
                assert_refused((enum remote_kind)kind, wrong[i], "", "expected an object");
    for (size_t i = 0; i < COUNT_OF(wrong) - 2; i++)
        assert_refused(REMOTE_ACTIVE, wrong[i], "", "expected a list");
    assert_refused(REMOTE_ACTIVE, "{}", "", "expected a list");
    assert_refused(REMOTE_ACTIVE, "[\"One\",7]", "[1]", "expected a connector's name");
    assert_refused(REMOTE_ACTIVE, "[null]", "[0]", "expected a connector's name");
}

static void test_each_member_of_a_connector_is_looked_at(void **state)
{
    static const struct {
        const char *json, *path;
    } wrong[] = {
        {"{}", "name"},
        {"{\"name\":5,\"type\":\"modbus\",\"configurationJson\":{}}", "name"},
        {"{\"name\":\"\",\"type\":\"modbus\",\"configurationJson\":{}}", "name"},
        {"{\"name\":\"active_connectors\",\"type\":\"modbus\",\"configurationJson\":{}}", "name"},
        {"{\"name\":\"X\",\"configurationJson\":{}}", "type"},
        {"{\"name\":\"X\",\"type\":[],\"configurationJson\":{}}", "type"},
        {"{\"name\":\"X\",\"type\":\"modbus\"}", "configurationJson"},
        {"{\"name\":\"X\",\"type\":\"modbus\",\"configurationJson\":\"{}\"}", "configurationJson"},
        {"{\"name\":\"X\",\"type\":\"modbus\",\"configurationJson\":{},\"logLevel\":5}", "logLevel"},
        {"{\"name\":\"X\",\"type\":\"modbus\",\"configurationJson\":{},\"id\":{}}", "id"},
        {"{\"name\":\"X\",\"type\":\"modbus\",\"configurationJson\":{},\"class\":true}", "class"},
        {"{\"name\":\"X\",\"type\":\"modbus\",\"configurationJson\":{},\"enableRemoteLogging\":\"yes\"}",
         "enableRemoteLogging"},
        {"{\"name\":\"X\",\"type\":\"modbus\",\"configurationJson\":{\"id\":5}}", "configurationJson.id"},
        {"{\"name\":\"X\",\"type\":\"modbus\",\"configurationJson\":{},\"configuration\":\"../x.json\"}",
         "configuration"},
        {"{\"name\":\"X\",\"type\":\"modbus\",\"configurationJson\":{},\"configuration\":\"/etc/x.json\"}",
         "configuration"},
        {"{\"name\":\"X\",\"type\":\"modbus\",\"configurationJson\":{},\"configuration\":\"logs.json\"}",
         "configuration"},
        {"{\"name\":\"X\",\"type\":\"modbus\",\"configurationJson\":{},\"configuration\":\"tb_gateway.json\"}",
         "configuration"},
        {"{\"name\":\"X\",\"type\":\"modbus\",\"configurationJson\":{},\"configuration\":\"connected_devices.json\"}",
         "configuration"},
        {"{\"name\":\"X\",\"type\":\"modbus\",\"configurationJson\":{},\"configuration\":\"x.txt\"}", "configuration"},
        {"{\"name\":\"X\",\"type\":\"modbus\",\"configurationJson\":{},\"configuration\":\"one.json\"}",
         "configuration"},
        {"{\"name\":\"Two\",\"type\":\"modbus\",\"configurationJson\":{\"id\":\"id1\"}}", "name"},
        {"{\"name\":\"Two\",\"type\":\"modbus\",\"configurationJson\":{\"password\":\"***\"}}",
         "configurationJson.password"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        assert_refused(REMOTE_CONNECTOR, wrong[i].json, wrong[i].path, "");
}

/* ---- files ---- */

static void test_a_name_makes_a_file_name_of_its_own(void **state)
{
    static const struct {
        const char *name, *file;
    } pairs[] = {{"Plant 7", "plant_7.json"},     {"A/B", "a_b.json"},   {"..", "_..json"},
                 {"logs", "connector_logs.json"}, {"ONE", "one_2.json"}, {"tb_gateway", "connector_tb_gateway.json"}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        autobuf struct buf json = {0};

        buf_printf(&json, "{\"name\":\"%s\",\"type\":\"modbus\",\"configurationJson\":{}}%c", pairs[i].name, 0);
        assert_int_equal(make(REMOTE_CONNECTOR, (const char *)json.p), ERR_OK);
        assert_true(is_written(pairs[i].file));
    }
}

static void test_a_new_name_with_the_same_id_renames_the_entry_and_keeps_what_it_does_not_name(void **state)
{
    (void)state;
    assert_int_equal(make(REMOTE_CONNECTOR,
                          "{\"name\":\"First\",\"type\":\"modbus\",\"configurationJson\":{\"id\":\"id1\",\"port\":1}}"),
                     ERR_OK);
    assert_true(str_find(text_of("tb_gateway.json"), STR("\"name\": \"First\""), 0) != SIZE_MAX);
    assert_true(str_find(text_of("tb_gateway.json"), STR("\"useGRPCForce\": true"), 0) != SIZE_MAX);
    assert_true(str_find(text_of("tb_gateway.json"), STR("\"keptKey\": 1"), 0) != SIZE_MAX);
    assert_true(str_find(text_of("tb_gateway.json"), STR("\"One\""), 0) == SIZE_MAX);
    assert_json(text_of("one.json"),
                "{\"id\":\"id1\",\"port\":1,\"logLevel\":\"INFO\",\"name\":\"First\",\"enableRemoteLogging\":false}");
    assert_int_equal(change.n_backups, 2);
}

static void test_removed_connectors_leave_with_their_files(void **state)
{
    (void)state;
    assert_int_equal(make(REMOTE_ACTIVE, "[\"Two\",\"Three\",\"Four\"]"), ERR_OK);
    assert_true(is_written("one.json") && !text_of("one.json").p);
    assert_true(str_find(text_of("tb_gateway.json"), STR("\"One\""), 0) == SIZE_MAX);
    assert_int_equal(change.n_unknown, 2);
    assert_true(str_eq(change.unknown[1], STR("Four")));
    assert_int_equal(make(REMOTE_ACTIVE, "[]"), ERR_OK);
    assert_int_equal(change.n, 3);
}

static void test_what_was_edited_later_wins_over_what_was_asked_for(void **state)
{
    const char *old = "{\"name\":\"Two\",\"type\":\"modbus\",\"ts\":1000,\"configurationJson\":{\"port\":3}}";

    (void)state;
    assert_int_equal(make_from(REMOTE_CONNECTOR, old, false), ERR_OK);
    assert_true(change.is_older && change.n == 0);
    assert_int_equal(make_from(REMOTE_CONNECTOR, old, true), ERR_OK);
    assert_true(!change.is_older && change.n == 1);
    assert_int_equal(
        make_from(REMOTE_CONNECTOR,
                  "{\"name\":\"Two\",\"type\":\"modbus\",\"ts\":99999999999999,\"configurationJson\":{\"port\":3}}",
                  false),
        ERR_OK);
    assert_int_equal(change.n, 1);
}

/* ---- the general part ---- */

static void test_commands_go_to_their_file_and_only_what_is_given_changes(void **state)
{
    static const char named[] =
        "{\"statistics\":{\"enable\":true,\"statsSendPeriodInSeconds\":77,\"configuration\":\"statistics.json\"}}";

    (void)state;
    assert_int_equal(make(REMOTE_GENERAL,
                          "{\"ts\":9,\"statistics\":{\"enable\":true,\"enableCustom\":true,\"configuration\":"
                          "\"statistics.json\",\"commands\":[]}}"),
                     ERR_OK);
    assert_json(text_of("statistics.json"), "[]");
    assert_true(str_find(text_of("tb_gateway.json"), STR("commands"), 0) == SIZE_MAX);
    assert_true(str_find(text_of("tb_gateway.json"), STR("\"accessToken\": \"secret\""), 0) != SIZE_MAX);
    assert_true(str_find(text_of("tb_gateway.json"), STR("\"ts\": 9"), 0) != SIZE_MAX);
    assert_refused(REMOTE_GENERAL, "{\"statistics\":{\"enable\":true,\"configuration\":\"../x.json\",\"commands\":[]}}",
                   "statistics.configuration", "plain name");
    assert_refused(REMOTE_GENERAL, "{\"statistics\":{\"enable\":true,\"configuration\":\"one.json\",\"commands\":[]}}",
                   "statistics.configuration", "plain name");
    assert_refused(REMOTE_GENERAL, "{\"statistics\":{\"enable\":true,\"commands\":{}}}", "statistics.commands", "list");
    assert_refused(REMOTE_GENERAL, "{\"security\":{\"password\":\"***\"}}", "security.password", "\"***\"");
    assert_int_equal(make(REMOTE_GENERAL, named), ERR_OK);
    assert_false(is_written("statistics.json"));
    ((struct remote_file *)(uintptr_t)remote_file_of(&files, path_of("statistics.json")))->is_there = false;
    assert_int_equal(make(REMOTE_GENERAL, named), ERR_OK);
    assert_json(text_of("statistics.json"), "[]");
}

static void test_the_filters_file_is_one_that_nothing_else_uses(void **state)
{
    static const char *const others[] = {"../../etc/passwd", "/etc/passwd", "one.json",
                                         "tb_gateway.json",  "logs.json",   ".x.json"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        autobuf struct buf text = {0};

        buf_printf(&text, "{\"deviceFiltering\":{\"enable\":true,\"filterFile\":\"%s\"}}", others[i]);
        buf_add_u8(&text, 0);
        assert_refused(REMOTE_GENERAL, (const char *)text.p, "deviceFiltering.filterFile", "plain name");
    }
    assert_int_equal(make(REMOTE_GENERAL, "{\"deviceFiltering\":{\"enable\":true,\"filterFile\":\"list.json\"}}"),
                     ERR_OK);
}

static void test_provisioning_and_security_take_each_others_place(void **state)
{
    (void)state;
    assert_int_equal(
        make(REMOTE_GENERAL, "{\"provisioning\":{\"type\":\"ACCESS_TOKEN\",\"provisionDeviceKey\":\"k\"}}"), ERR_OK);
    assert_true(str_find(text_of("tb_gateway.json"), STR("\"security\""), 0) == SIZE_MAX);
    assert_int_equal(
        make(REMOTE_GENERAL, "{\"security\":{\"type\":\"usernamePassword\",\"accessToken\":\"t\",\"username\":\"u\"}}"),
        ERR_OK);
    assert_true(str_find(text_of("tb_gateway.json"), STR("\"accessToken\""), 0) == SIZE_MAX);
}

static void test_a_certificate_goes_to_a_file_that_is_not_in_use(void **state)
{
    static const char pushed[] = "{\"security\":{\"type\":\"tlsAccessToken\",\"accessToken\":\"t\",\"caCert\":\"-----"
                                 "BEGIN CERTIFICATE-----\\nA\\n\"}}";

    (void)state;
    assert_int_equal(make(REMOTE_GENERAL, pushed), ERR_OK);
    assert_string_equal(change.pem_path, path_of("ca.pem"));
    assert_true(str_eq(change.pem, STR("-----BEGIN CERTIFICATE-----\nA\n")));
    assert_true(str_find(text_of("tb_gateway.json"), STR("\"caCert\": \"ca.pem\""), 0) != SIZE_MAX);

    put("ca.pem", "-----BEGIN CERTIFICATE-----\nB\n");
    put("tb_gateway.json",
        "{\"thingsboard\":{\"host\":\"h\",\"security\":{\"type\":\"tlsAccessToken\",\"accessToken\":\"t\",\"caCert\":"
        "\"ca.pem\"}},\"storage\":{\"type\":\"memory\"},\"connectors\":[]}");
    load();
    assert_int_equal(make(REMOTE_GENERAL, pushed), ERR_OK);
    assert_string_equal(change.pem_path, path_of("ca_2.pem"));
    put("ca.pem", "-----BEGIN CERTIFICATE-----\nA\n");
    load();
    assert_int_equal(make(REMOTE_GENERAL, pushed), ERR_OK);
    assert_true(!change.pem_path && change.n == 0); /* the one in use */
}

static void test_log_files_stay_in_their_directory(void **state)
{
    static const struct {
        const char *given, *used;
    } files_of[] = {{"./logs/a.log", "./logs/a.log"}, {"a.log", "a.log"},          {"/etc/passwd", "./logs/passwd"},
                    {"./logs/../x", "./logs/x"},      {"/", "./logs/gateway.log"}, {"../..", "./logs/gateway.log"}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(files_of); i++) {
        autobuf struct buf json = {0}, expected = {0};

        buf_printf(&json, "{\"version\":1,\"handlers\":{\"h\":{\"filename\":\"%s\"},\"x\":5}}%c", files_of[i].given, 0);
        buf_printf(&expected, "{\"version\":1,\"handlers\":{\"h\":{\"filename\":\"%s\"},\"x\":5}}%c", files_of[i].used,
                   0);
        assert_int_equal(make(REMOTE_LOGS, (const char *)json.p), ERR_OK);
        assert_json(text_of("logs.json"), (const char *)expected.p);
        assert_int_equal(change.warning != NULL, strcmp(files_of[i].given, files_of[i].used) != 0);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, change_end)
    const struct CMUnitTest tests[] = {
        TEST(test_the_example_of_the_page_makes_file_and_entry),
        TEST(test_what_is_equal_changes_nothing),
        TEST(test_values_of_every_wrong_type_are_refused_with_a_text),
        TEST(test_each_member_of_a_connector_is_looked_at),
        TEST(test_a_name_makes_a_file_name_of_its_own),
        TEST(test_a_new_name_with_the_same_id_renames_the_entry_and_keeps_what_it_does_not_name),
        TEST(test_removed_connectors_leave_with_their_files),
        TEST(test_what_was_edited_later_wins_over_what_was_asked_for),
        TEST(test_commands_go_to_their_file_and_only_what_is_given_changes),
        TEST(test_the_filters_file_is_one_that_nothing_else_uses),
        TEST(test_provisioning_and_security_take_each_others_place),
        TEST(test_a_certificate_goes_to_a_file_that_is_not_in_use),
        TEST(test_log_files_stay_in_their_directory),
    };

    return cmocka_run_group_tests_name("gateway: changes of the platform", tests, NULL, NULL);
}
