/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/remote.h"

#include "base/file.h"
#include "base/mem.h"
#include "uplink/topics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/*
 * The platform is scripted: what is published stands in a list, requests of attributes are answered by the test. General keys are
 * applied for real, to files in a directory of their own; the one connector has a file that cannot be used, so that nothing runs.
 */
enum { SENT_MAX = 400 };

struct sample_conf {
    struct connector_common common;
    uint32_t port;
};
static const struct field sample_fields[] = {F_UINT(struct sample_conf, port, "port", .max = 65535), F_END};
static const struct conf_type sample_type = {
    .name = "sample", .size = sizeof(struct sample_conf), .fields = sample_fields, .base = &connector_common_type};

static const struct conf_type *type_of(const char *type, struct why *why)
{
    if (strcmp(type, "sample") == 0)
        return &sample_type;
    why_set(why, ERR_NOTFOUND, "there is no such connector type");
    return NULL;
}

static void each_type(void (*fn)(void *arg, const char *type), void *arg)
{
    (void)fn, (void)arg;
}

static const struct gateway_types types = {type_of, each_type};
static char dir[64], main_path[100];
static struct runner runner;
static struct loops loops;
static struct fleet *fleet;
static struct apply *apply;
static struct north *north;
static struct remote *remote;
static struct logging *logging;
static struct log test_log, service_log;
static char *sent[SENT_MAX];
static unsigned n_sent, n_asked;
static char asked[400];
static enum err owner_answer;
static unsigned n_taken;

static bool on_send(void *arg, enum limit_kind limit, struct str topic, struct str payload, uint8_t qos)
{
    autobuf struct buf text = {0};

    (void)arg, (void)limit, (void)qos;
    assert_true(n_sent < SENT_MAX);
    if (str_starts(topic, TOPIC_OWN_ATTRIBUTES_REQUEST)) {
        n_asked++;
        snprintf(asked, sizeof asked, STR_FMT " " STR_FMT, STR_ARG(str_skip(topic, TOPIC_OWN_ATTRIBUTES_REQUEST.n)),
                 STR_ARG(payload));
        return true;
    }
    buf_add_str(&text, payload);
    buf_add_u8(&text, 0);
    sent[n_sent++] = mem_dup((const char *)text.p);
    return true;
}

static struct uplink_status on_status(void *arg)
{
    (void)arg;
    return (struct uplink_status){.payload_limit = 60000};
}

static void to_remote(void *arg, enum uplink_state state)
{
    (void)arg;
    remote_state(remote, state);
}

static void attributes(void *arg, yyjson_val *root)
{
    (void)arg;
    remote_attributes(remote, root);
}

static enum err take(void *arg, const struct gateway_conf *before, const struct gateway_conf *after,
                     struct apply_step *step, struct why *why)
{
    (void)arg, (void)before, (void)after;
    n_taken++;
    apply_blame(step, "storage.data_folder_path");
    return owner_answer ? why_set(why, owner_answer, "not like this") : ERR_OK;
}

static void changed(void *arg, const struct gateway_conf *before, const struct gateway_conf *after)
{
    (void)arg, (void)before, (void)after;
    remote_changed(remote);
}

static void put(const char *name, const char *text)
{
    char path[200];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void run(void)
{
    for (unsigned i = 0; i < 200; i++)
        loop_advance(runner.loop, 0);
}

static bool has_file; /* the connector's; which cannot be used for its type alone */

static int begin_with(const char *main)
{
    static const struct north_link link = {.send = on_send, .status = on_status};
    static const struct north_events north_events = {.state = to_remote, .own_attributes = attributes};
    static const char *const keys[] = {"thingsboard.remoteShell", "thingsboard.host", "storage", NULL};
    struct apply_conf conf = {.main = &runner, .types = &types, .log = &test_log};
    struct remote_conf of = {.main = &runner, .types = &types, .log = &test_log};
    struct problems problems;

    snprintf(dir, sizeof dir, "/tmp/iotgw-remote-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(main_path, sizeof main_path, "%s/tb_gateway.json", dir);
    put("tb_gateway.json", main);
    if (has_file)
        put("plant.json", "{}");
    n_sent = n_asked = n_taken = 0;
    owner_answer = ERR_OK;
    *asked = 0;
    ctx_setup();
    runner_init_fake(&runner);
    loop_set_wall(runner.loop, 1795000000000);
    assert_int_equal(loops_init(&loops, &runner, 1, &(struct ctx_host){0}), ERR_OK);
    fleet = fleet_new(&loops);
    log_init(&test_log, "service", LOG_LEVEL_OFF);
    log_init(&service_log, "service", LOG_LEVEL_OFF);
    problems_init(&problems);
    conf.fleet = fleet;
    conf.running = gateway_conf_load(dir, &types, &problems);
    assert_non_null(conf.running);
    logging = logging_new(conf.running, &problems);
    logging_add(logging, &service_log);
    problems_fini(&problems);
    apply = apply_new(&conf);
    north = north_new(runner.loop, runner.loop, &test_log, &north_events, NULL);
    north_attach_link(north, &link, NULL);
    of.apply = apply;
    of.north = north;
    of.logging = logging;
    remote = remote_new(&of);
    apply_on_change(apply, changed, NULL);
    apply_add_owner(apply, &(struct apply_owner){.keys = keys, .take = take});
    north_uplink_state(north, UPLINK_READY);
    run();
    return 0;
}

#define MAIN(more)                                                                                                     \
    "{\"thingsboard\":{\"host\":\"h\",\"remoteConfiguration\":true,\"security\":{\"accessToken\":\"token\"}" more      \
    "},\"storage\":{\"type\":\"memory\"},\"connectors\":[{\"type\":\"x\",\"name\":\"Plant\",\"configuration\":"        \
    "\"plant.json\"}]}"

static int begin(void **state)
{
    (void)state;
    return begin_with(MAIN(""));
}

static int begin_with_file(void **state)
{
    int result;

    has_file = true;
    result = begin(state);
    has_file = false;
    return result;
}

static int begin_off(void **state)
{
    (void)state;
    return begin_with(
        "{\"thingsboard\":{\"host\":\"h\",\"security\":{\"accessToken\":\"token\"}},\"storage\":{\"type\":\"memory\"},"
        "\"connectors\":[{\"type\":\"x\",\"name\":\"Plant\",\"configuration\":\"plant.json\"}]}");
}

static int begin_renamed(void **state)
{
    (void)state;
    return begin_with("{\"industryos\":{\"host\":\"h\",\"remoteConfiguration\":true,\"security\":{\"accessToken\":"
                      "\"token\"}},\"storage\":{\"type\":\"memory\"},\"connectors\":[]}");
}

static int begin_hidden(void **state)
{
    (void)state;
    return begin_with(MAIN(",\"publishSecrets\":false"));
}

static int end(void **state)
{
    char command[200];

    (void)state;
    remote_stop(remote);
    apply_end(apply);
    north_stop(north);
    run();
    remote_free(remote);
    north_free(north);
    apply_free(apply);
    fleet_free(fleet);
    logging_free(logging);
    loops_fini(&loops);
    runner_join(&runner);
    log_fini(&test_log);
    log_fini(&service_log);
    while (n_sent)
        mem_free(sent[--n_sent]);
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command);
}

/* ---- what has been published ---- */

static void push(const char *json)
{
    north_uplink_message(north, TOPIC_OWN_ATTRIBUTES, str_from(json));
    run();
}

static void answer(const char *json)
{
    autobuf struct buf topic = {0};

    buf_add_str(&topic, TOPIC_OWN_ATTRIBUTES_RESPONSE);
    buf_add_str(&topic, str_cut(str_from(asked), str_chr(str_from(asked), ' ')));
    north_uplink_message(north, buf_str(&topic), str_from(json));
    run();
}

/* The value told last under the key; given back by the next call. */
static yyjson_val *told(const char *key)
{
    static yyjson_doc *doc;

    for (unsigned i = n_sent; i-- > 0;) {
        yyjson_val *value;

        yyjson_doc_free(doc);
        doc = yyjson_read(sent[i], strlen(sent[i]), YYJSON_READ_NUMBER_AS_RAW);
        assert_non_null(doc);
        value = json_get(yyjson_doc_get_root(doc), str_from(key));
        if (value)
            return value;
    }
    yyjson_doc_free(doc);
    doc = NULL;
    return NULL;
}

static void forget_sent(void)
{
    (void)told("no such key"); /* frees what it keeps */
    while (n_sent)
        mem_free(sent[--n_sent]);
}

static bool has_error(const char *key, const char *text)
{
    yyjson_val *list = json_get(told("configuration_errors"), str_from(key)), *item;
    size_t i, n;

    yyjson_arr_foreach(list, i, n, item) if (str_find(json_str(json_get(item, STR("message"))), str_from(text), 0) !=
                                             SIZE_MAX) return true;
    return false;
}

static bool file_has(const char *text)
{
    autobuf struct buf content = {0};

    assert_int_equal(file_read(&content, main_path, 100000, NULL), ERR_OK);
    return str_find(buf_str(&content), str_from(text), 0) != SIZE_MAX;
}

static const char *path_in_dir(const char *name)
{
    static char path[200];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

/* Of this part alone. */
static void restart(void)
{
    struct remote_conf of = {
        .main = &runner, .types = &types, .log = &test_log, .apply = apply, .north = north, .logging = logging};

    remote_stop(remote);
    run();
    remote_free(remote);
    forget_sent();
    remote = remote_new(&of);
    north_uplink_state(north, UPLINK_DOWN);
    north_uplink_state(north, UPLINK_READY);
    run();
}

/* ---- tests ---- */

static void test_the_first_session_asks_for_everything_and_tells_everything(void **state)
{
    (void)state;
    assert_string_equal(asked, "1 {}");
    assert_true(str_eq(json_str(json_get(told("general_configuration"), STR("host"))), STR("h")));
    assert_true(str_eq(json_str(json_get(told("storage_configuration"), STR("type"))), STR("memory")));
    assert_non_null(json_get(told("grpc_configuration"), STR("ts")));
    assert_non_null(json_get(told("logs_configuration"), STR("ts")));
    assert_true(yyjson_is_str(told("Version")));
    assert_int_equal(yyjson_arr_size(told("active_connectors")), 1);
    assert_null(told("Plant"));                               /* its file cannot be used */
    assert_true(yyjson_is_obj(told("configuration_errors"))); /* a former run may have left some there */
    assert_int_equal(yyjson_obj_size(told("configuration_errors")), 0);
    forget_sent();
}

static void test_a_later_session_asks_for_the_named_ones_only(void **state)
{
    (void)state;
    answer("{\"shared\":{}}");
    north_uplink_state(north, UPLINK_DOWN);
    north_uplink_state(north, UPLINK_READY);
    run();
    assert_non_null(strstr(asked, "RemoteLoggingLevel,general_configuration,storage_configuration,grpc_configuration,"
                                  "logs_configuration,active_connectors"));
    forget_sent();
}

static void test_a_pushed_value_is_applied_saved_and_told(void **state)
{
    (void)state;
    forget_sent();
    push("{\"general_configuration\":{\"host\":\"h2\",\"ts\":1795353530000}}");
    assert_int_equal(n_taken, 1);
    assert_true(file_has("\"host\": \"h2\""));
    assert_true(str_eq(json_str(json_get(told("general_configuration"), STR("host"))), STR("h2")));
    forget_sent();
    push("{\"general_configuration\":{\"host\":\"h2\"}}"); /* a plain broker's echo */
    push("{\"general_configuration\":{\"ts\":1,\"host\":\"h2\",\"remoteConfiguration\":true}}");
    assert_int_equal(n_taken, 1);
    assert_int_equal(n_sent, 0);
}

static void test_what_has_errors_changes_nothing_and_is_told_until_it_is_mended(void **state)
{
    (void)state;
    push("{\"general_configuration\":{\"port\":70000},\"storage_configuration\":{\"type\":\"paper\"}}");
    assert_int_equal(n_taken, 0);
    assert_true(has_error("general_configuration", "70000"));
    assert_true(has_error("storage_configuration", "paper"));
    assert_false(file_has("paper"));
    push("{\"storage_configuration\":{\"type\":\"memory\"}}");
    assert_false(has_error("storage_configuration", "paper"));
    push("{\"general_configuration\":{}}");
    assert_int_equal(yyjson_obj_size(told("configuration_errors")), 0);
    forget_sent();
}

static void test_every_attribute_says_what_is_wrong_with_every_type(void **state)
{
    static const char *const names[] = {"general_configuration",
                                        "storage_configuration",
                                        "grpc_configuration",
                                        "logs_configuration",
                                        "active_connectors",
                                        "RemoteLoggingLevel",
                                        "Plant"};
    static const char *const values[] = {"null", "true", "0", "-1.5e300", "\"x\"", "[1,{}]", "{\"ts\":[]}"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        for (size_t k = 0; k < COUNT_OF(values); k++) {
            autobuf struct buf json = {0};
            bool is_nothing = k == 6 && (i == 0 || i == 2 || i == 3); /* an object without anything but ts */

            buf_printf(&json, "{\"%s\":%s}%c", names[i], values[k], 0);
            push((const char *)json.p);
            if (has_error(names[i], "") == is_nothing)
                fail_msg("%s: has an error: %d", (const char *)json.p, !is_nothing);
        }
    assert_false(file_has("ts"));
    for (size_t k = 0; k < COUNT_OF(values); k++) { /* these are nobody's */
        autobuf struct buf json = {0};

        forget_sent();
        buf_printf(&json, "{\"Version\":%s,\"deleted\":%s,\"configuration_errors\":%s,\"Other\":%s}%c", values[k],
                   values[k], values[k], values[k], 0);
        push((const char *)json.p);
        push(values[k]);
        assert_int_equal(n_sent, 0);
    }
    forget_sent();
}

static void test_general_goes_first_and_of_those_that_wait_the_newest_counts(void **state)
{
    (void)state;
    forget_sent();
    north_uplink_message(north, TOPIC_OWN_ATTRIBUTES,
                         STR("{\"storage_configuration\":{\"type\":\"memory\",\"read_records_count\":7},"
                             "\"general_configuration\":{\"host\":\"first\"}}"));
    for (int i = 0; i < 100; i++) {
        autobuf struct buf json = {0};

        buf_printf(&json, "{\"storage_configuration\":{\"type\":\"memory\",\"read_records_count\":%d}}", 100 + i);
        north_uplink_message(north, TOPIC_OWN_ATTRIBUTES, buf_str(&json));
    }
    run();
    assert_true(file_has("first") && file_has("199"));
    assert_true(n_taken <= 3); /* host, the storage that was begun with, the last one */
    assert_non_null(strstr(sent[0], "general_configuration"));
    forget_sent();
}

static void test_what_could_not_be_applied_is_not_tried_again_unless_it_is_sent_again(void **state)
{
    const char *wrong = "{\"shared\":{\"general_configuration\":{\"host\":\"away\",\"ts\":5}}}";

    (void)state;
    owner_answer = ERR_REFUSED;
    answer(wrong);
    assert_int_equal(n_taken, 1);
    assert_true(has_error("general_configuration", "not like this"));
    assert_true(str_eq(json_str(json_get(told("general_configuration"), STR("host"))), STR("h")));
    for (int i = 0; i < 3; i++) {
        north_uplink_state(north, UPLINK_DOWN);
        north_uplink_state(north, UPLINK_READY);
        run();
        answer(wrong);
    }
    assert_int_equal(n_taken, 1);
    assert_false(file_has("away"));
    restart();
    answer(wrong);
    assert_int_equal(n_taken, 1);
    assert_true(has_error("general_configuration", "could not be applied before the gateway's restart"));
    owner_answer = ERR_OK;
    push("{\"general_configuration\":{\"host\":\"away\",\"ts\":5}}");
    assert_int_equal(n_taken, 2);
    assert_true(file_has("away"));
    assert_int_equal(access(path_in_dir(".refused"), F_OK), -1); /* it is right now */
    forget_sent();
}

static void test_the_level_of_lines_is_set_and_told_as_it_came(void **state)
{
    (void)state;
    push("{\"RemoteLoggingLevel\":\"warning\"}");
    assert_true(str_eq(json_str(told("RemoteLoggingLevel")), STR("warning")));
    assert_int_equal(atomic_load(&service_log.remote_level), LOG_LEVEL_WARN + 1);
    push("{\"RemoteLoggingLevel\":\"shout\"}");
    assert_true(has_error("RemoteLoggingLevel", "TRACE"));
    assert_int_equal(atomic_load(&service_log.remote_level), LOG_LEVEL_WARN + 1);
    push("{\"RemoteLoggingLevel\":\"NONE\"}");
    assert_int_equal(atomic_load(&service_log.remote_level), 0);
    forget_sent();
}

static void test_when_it_is_off_only_the_level_counts(void **state)
{
    (void)state;
    assert_string_equal(asked, "1 {\"sharedKeys\":\"RemoteLoggingLevel\"}");
    answer("{\"shared\":{\"RemoteLoggingLevel\":\"INFO\",\"general_configuration\":{\"host\":\"h2\"}}}");
    push("{\"general_configuration\":{\"host\":\"h2\"},\"active_connectors\":[]}");
    assert_int_equal(n_taken, 0);
    assert_int_equal(n_sent, 1);
    assert_int_equal(atomic_load(&service_log.remote_level), LOG_LEVEL_INFO + 1);
    forget_sent();
}

static void test_secrets_are_hidden_and_stars_mean_unchanged(void **state)
{
    (void)state;
    assert_true(str_eq(json_str(json_get(json_get(told("general_configuration"), STR("security")), STR("accessToken"))),
                       STR("***")));
    forget_sent();
    push("{\"general_configuration\":{\"host\":\"h3\",\"security\":{\"accessToken\":\"***\"}}}");
    assert_true(file_has("\"accessToken\": \"token\"") && file_has("h3"));
    push("{\"general_configuration\":{\"security\":{\"accessToken\":\"***\",\"password\":\"***\"}}}");
    assert_true(has_error("general_configuration", "no value so far"));
    for (unsigned i = 0; i < n_sent; i++)
        assert_null(strstr(sent[i], "token\""));
    forget_sent();
}

static void test_connectors_that_are_not_known_are_asked_for(void **state)
{
    (void)state;
    push("{\"active_connectors\":[\"Plant\",\"Hall\",\"a,b\",\"\"]}");
    assert_non_null(strstr(asked, "{\"sharedKeys\":\"Hall\"}"));
    answer("{\"shared\":{\"Hall\":{\"name\":\"Hall\"}}}");
    assert_true(has_error("Hall", "missing"));
    forget_sent();
}

static bool has_error_at(const char *key, const char *path)
{
    yyjson_val *first = yyjson_arr_get_first(json_get(told("configuration_errors"), str_from(key)));

    return str_eq_z(json_str(json_get(first, STR("path"))), path);
}

static char warnings[4000];

static void keep_warning(void *arg, enum log_level level, struct str line)
{
    size_t n = strlen(warnings);

    (void)arg;
    if (level == LOG_LEVEL_WARN)
        snprintf(warnings + n, sizeof warnings - n, STR_FMT "\n", STR_ARG(line));
}

static void test_keys_without_effect_are_named_once_with_what_may_be_meant(void **state)
{
    (void)state;
    *warnings = 0;
    assert_true(log_stop_writer()); /* lines are looked at as they are made */
    log_set_output(NULL, NULL, NULL);
    log_set_sink(keep_warning, NULL);
    log_set_level(&test_log, LOG_LEVEL_WARN);
    push("{\"general_configuration\":{\"hots\":\"x\",\"configurationJson\":{\"a\":1}}}");
    assert_non_null(
        strstr(warnings, "thingsboard.hots: warning: unknown key, which has no effect; did you mean \\\"host\\\"?"));
    assert_non_null(strstr(warnings, "thingsboard.configurationJson: warning: unknown key"));
    assert_true(file_has("hots")); /* what another program wants stays */
    assert_false(has_error("general_configuration", ""));
    *warnings = 0;
    push("{\"general_configuration\":{\"remoteShell\":true},\"storage_configuration\":{\"type\":\"memory\",\"tpye\":1}"
         "}");
    assert_null(strstr(warnings, "thingsboard.hots"));
    assert_non_null(strstr(warnings, "thingsboard.remoteShell: warning: is on"));
    assert_non_null(strstr(warnings, "did you mean \\\"type\\\"?"));
    *warnings = 0;
    apply_reload(apply, NULL, NULL);
    run();
    assert_string_equal(warnings, "");
    log_set_sink(NULL, NULL);
    forget_sent();
}

/* Whatever refuses it: the loader, or the owner of the key. */
static void test_an_error_has_the_path_of_what_was_changed(void **state)
{
    static const struct {
        const char *attribute, *value, *path;
    } cases[] = {
        {"general_configuration", "{\"port\":70000}", "port"},
        {"general_configuration", "{\"host\":\"away\"}", "host"},
        {"general_configuration", "{\"security\":{\"password\":\"***\"}}", "security.password"},
        {"general_configuration", "5", ""},
        {"storage_configuration", "{\"type\":\"memory\",\"max_records_count\":5}", "max_records_count"},
        {"storage_configuration", "{\"type\":\"file\",\"data_folder_path\":\"/none\"}", "data_folder_path"},
        {"storage_configuration", "{\"type\":\"paper\"}", "type"},
        {"general_configuration",
         "{\"statistics\":{\"enable\":true,\"configuration\":\"statistics.json\",\"commands\":[{\"timeout\":\"x\"}]}}",
         "statistics.commands[0].timeout"},
        {"Hall", "{\"name\":\"Hall\",\"type\":\"sample\",\"configurationJson\":{\"port\":70000}}",
         "configurationJson.port"},
        {"Hall", "{\"name\":\"Hall\",\"type\":\"paper\",\"configurationJson\":{\"port\":70}}", "type"},
        {"Hall", "{\"name\":\"Hall\",\"type\":\"sample\",\"logLevel\":\"LOUD\",\"configurationJson\":{}}", "logLevel"},
        {"Hall", "{\"name\":\"Hall\",\"type\":\"sample\",\"configurationJson\":{\"logLevel\":\"LOUD\"}}",
         "configurationJson.logLevel"},
        {"Hall", "{\"name\":\"Hall\",\"type\":\"sample\",\"configurationJson\":{\"password\":\"***\"}}",
         "configurationJson.password"},
        {"logs_configuration", "{\"loggers\":5}", "loggers"},
    };

    (void)state;
    owner_answer = ERR_REFUSED;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        autobuf struct buf json = {0};

        buf_printf(&json, "{\"%s\":%s}%c", cases[i].attribute, cases[i].value, 0);
        push((const char *)json.p);
        if (!has_error_at(cases[i].attribute, cases[i].path))
            fail_msg("%s: %s", (const char *)json.p, sent[n_sent - 1]);
    }
    forget_sent();
}

static void test_so_it_has_where_the_section_has_another_name(void **state)
{
    (void)state;
    owner_answer = ERR_REFUSED;
    push("{\"general_configuration\":{\"host\":\"away\"}}");
    assert_true(has_error_at("general_configuration", "host"));
    push("{\"general_configuration\":{\"port\":70000}}");
    assert_true(has_error_at("general_configuration", "port"));
    forget_sent();
}

#define BAD "\"Bad\":{\"name\":\"Bad\",\"type\":\"nothing\",\"logLevel\":\"INFO\",\"configurationJson\":{}}"

static void test_what_was_wrong_is_not_told_once_the_attribute_is_gone_or_no_more_active(void **state)
{
    static const char *const ends[] = {"{\"deleted\":[\"Bad\",7]}", "{\"active_connectors\":[\"Plant\"]}"};

    (void)state;
    push("{\"storage_configuration\":{\"type\":\"paper\"}}");
    for (size_t i = 0; i < COUNT_OF(ends); i++) {
        push("{" BAD "}");
        assert_true(has_error("Bad", "nothing"));
        push("{\"deleted\":[\"Other\"],\"active_connectors\":[\"Plant\",\"Bad\"]}");
        assert_true(has_error("Bad", "nothing"));
        push(ends[i]);
        assert_false(has_error("Bad", ""));
        assert_true(has_error("storage_configuration", "paper"));
    }
    push("{\"deleted\":[\"storage_configuration\"]}");
    assert_int_equal(yyjson_obj_size(told("configuration_errors")), 0);
    assert_true(str_eq(json_str(json_get(told("storage_configuration"), STR("type"))), STR("memory")));
    forget_sent();
}

/* The platform removes, and writes anew, before the gateway has come to it. */
static void test_a_value_that_comes_after_its_deletion_counts(void **state)
{
    (void)state;
    north_uplink_message(north, TOPIC_OWN_ATTRIBUTES, STR("{" BAD "}"));
    north_uplink_message(north, TOPIC_OWN_ATTRIBUTES, STR("{\"deleted\":[\"Bad\"]}"));
    push("{" BAD "}");
    assert_true(has_error("Bad", "nothing"));
    north_uplink_message(north, TOPIC_OWN_ATTRIBUTES, STR("{" BAD "}"));
    push("{\"deleted\":[\"Bad\",\"Bad\"]}");
    assert_false(has_error("Bad", ""));
    forget_sent();
}

static void test_connectors_may_have_changed_while_there_was_no_session(void **state)
{
    (void)state;
    answer("{\"shared\":{\"active_connectors\":[\"Plant\"]}}"); /* with all that there is */
    assert_string_equal(asked, "1 {}");
    north_uplink_state(north, UPLINK_DOWN);
    north_uplink_state(north, UPLINK_READY);
    run();
    answer("{\"shared\":{\"active_connectors\":[\"Plant\"]}}");
    assert_non_null(strstr(asked, "{\"sharedKeys\":\"Plant\"}"));
    assert_int_equal(n_asked, 3);
    answer("{\"shared\":{\"Plant\":{\"name\":\"Plant\",\"type\":5,\"configurationJson\":{}}}}");
    assert_true(has_error("Plant", "missing"));
    push("{\"active_connectors\":[\"Plant\"]}");
    assert_int_equal(n_asked, 3);
    forget_sent();
}

static void test_no_file_is_removed_without_a_copy(void **state)
{
    (void)state;
    fleet_add_configured(fleet, &apply_running(apply)->connectors[0]);
    put("backup", "no directory");
    push("{\"active_connectors\":[]}");
    assert_true(has_error("active_connectors", "backup"));
    assert_int_equal(access(path_in_dir("plant.json"), F_OK), 0);
    assert_true(file_has("Plant"));
    unlink(path_in_dir("backup"));
    push("{\"active_connectors\":[]}");
    assert_false(has_error("active_connectors", ""));
    assert_int_equal(access(path_in_dir("plant.json"), F_OK), -1);
    assert_false(file_has("Plant"));
    forget_sent();
}

static void test_errors_of_many_and_of_huge_names_are_bounded(void **state)
{
    size_t n_told = 0;

    (void)state;
    for (int i = 0; i < 600; i++) { /* some 350 fit */
        autobuf struct buf json = {0};

        buf_printf(&json, "{\"n%d\":{\"name\":%d,\"configurationJson\":{}},\"x%0300d\":{\"configurationJson\":{}}}%c",
                   i, i, i, 0);
        if (i <= 300)
            forget_sent();
        push((const char *)json.p);
        n_told = n_sent > n_told ? n_sent : n_told;
    }
    assert_true(n_told >= 40 && n_sent > 0);
    assert_true(strlen(sent[n_sent - 1]) < 40000);
    assert_non_null(strstr(sent[n_sent - 1], "there are more"));
    assert_null(strstr(sent[n_sent - 1], "x0000"));
    forget_sent();
}

static void test_late_answers_and_those_nobody_asked_for_change_nothing(void **state)
{
    char before[sizeof asked];

    (void)state;
    memcpy(before, asked, sizeof before);
    loop_advance(runner.loop, 25000); /* it is given up */
    answer("{\"shared\":{\"general_configuration\":{\"host\":\"late\"}}}");
    north_uplink_message(north, STR("v1/devices/me/attributes/response/999"),
                         STR("{\"shared\":{\"general_configuration\":{\"host\":\"x\"}}}"));
    north_uplink_message(north, STR("v1/devices/me/attributes/response/"), STR("{}"));
    north_uplink_message(north, STR("v1/devices/me/attributes/response/1"), STR("[]"));
    north_uplink_message(north, TOPIC_OWN_ATTRIBUTES, STR("{\"general_configuration\":{\"host\":\"x\"}"));
    north_uplink_message(north, TOPIC_OWN_ATTRIBUTES, STR(""));
    run();
    assert_int_equal(n_taken, 0);
    forget_sent();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(test_the_first_session_asks_for_everything_and_tells_everything),
        TEST(test_a_later_session_asks_for_the_named_ones_only),
        TEST(test_a_pushed_value_is_applied_saved_and_told),
        TEST(test_what_has_errors_changes_nothing_and_is_told_until_it_is_mended),
        TEST(test_every_attribute_says_what_is_wrong_with_every_type),
        TEST(test_general_goes_first_and_of_those_that_wait_the_newest_counts),
        TEST(test_what_could_not_be_applied_is_not_tried_again_unless_it_is_sent_again),
        TEST(test_the_level_of_lines_is_set_and_told_as_it_came),
        cmocka_unit_test_setup_teardown(test_when_it_is_off_only_the_level_counts, begin_off, end),
        cmocka_unit_test_setup_teardown(test_secrets_are_hidden_and_stars_mean_unchanged, begin_hidden, end),
        TEST(test_connectors_that_are_not_known_are_asked_for),
        TEST(test_an_error_has_the_path_of_what_was_changed),
        TEST(test_keys_without_effect_are_named_once_with_what_may_be_meant),
        cmocka_unit_test_setup_teardown(test_so_it_has_where_the_section_has_another_name, begin_renamed, end),
        TEST(test_what_was_wrong_is_not_told_once_the_attribute_is_gone_or_no_more_active),
        TEST(test_a_value_that_comes_after_its_deletion_counts),
        TEST(test_connectors_may_have_changed_while_there_was_no_session),
        cmocka_unit_test_setup_teardown(test_no_file_is_removed_without_a_copy, begin_with_file, end),
        TEST(test_errors_of_many_and_of_huge_names_are_bounded),
        TEST(test_late_answers_and_those_nobody_asked_for_change_nothing),
    };

    return cmocka_run_group_tests_name("gateway: remote configuration", tests, NULL, NULL);
}
