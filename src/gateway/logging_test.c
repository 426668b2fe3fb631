/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "data/json.h"
#include "gateway/logging.h"
#include "gateway/north.h"
#include "gateway/runner.h"

#include <stdio.h>

/*
 * Lines go through the log's real writer; log_flush waits for it. What it hands on comes to a fake loop, and what is published
 * stands in a list.
 */
enum { SENT_MAX = 400 };

static struct runner main_runner;
static struct north *north;
static struct logging *logging;
static struct log service, storage, other, test_log;
static struct logs_conf nowhere; /* no handler: nothing is written */
static struct main_conf main_conf;
static struct gateway_conf conf;
static uint32_t limit;
static char *sent[SENT_MAX];
static unsigned n_sent;

static bool on_send(void *arg, enum limit_kind kind, struct str topic, struct str payload, uint8_t qos)
{
    (void)arg, (void)kind, (void)topic, (void)qos;
    assert_true(n_sent < SENT_MAX);
    sent[n_sent] = mem_zero(payload.n + 1);
    memcpy(sent[n_sent++], payload.p, payload.n);
    return true;
}

static struct uplink_status on_status(void *arg)
{
    (void)arg;
    return (struct uplink_status){.payload_limit = limit};
}

static void forget_sent(void)
{
    for (unsigned i = 0; i < n_sent; i++)
        mem_free(sent[i]);
    n_sent = 0;
}

/* The writer has handed on what was logged, and this much time has passed. */
static void pass(uint64_t ms)
{
    log_flush(true);
    loop_advance(main_runner.loop, ms);
}

static void session(bool is_up)
{
    north_uplink_state(north, is_up ? UPLINK_READY : UPLINK_DOWN);
    loop_advance(main_runner.loop, 0);
    logging_session(logging, is_up);
}

static int setup(void **state)
{
    static const struct north_link link = {.send = on_send, .status = on_status};
    static const struct north_events events = {0};

    (void)state;
    limit = 100000;
    runner_init_fake(&main_runner);
    log_init(&test_log, "test", LOG_LEVEL_OFF);
    log_init(&service, "service", LOG_LEVEL_INFO);
    log_init(&storage, "storage", LOG_LEVEL_INFO);
    log_init_of(&other, LOG_OF_CONNECTOR, "Plant \"1\"", LOG_LEVEL_INFO);
    north = north_new(main_runner.loop, main_runner.loop, &test_log, &events, NULL);
    north_attach_link(north, &link, NULL);
    conf = (struct gateway_conf){.main = &main_conf, .logs = &nowhere};
    logging = logging_new(&conf, NULL);
    logging_add(logging, &service);
    logging_add(logging, &storage);
    logging_attach(logging, &main_runner, NULL, north);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    logging_stop(logging);
    logging_detach(logging);
    log_fini(&service);
    log_fini(&storage);
    log_fini(&other);
    logging_free(logging);
    north_stop(north);
    loop_advance(main_runner.loop, 0);
    north_free(north);
    runner_join(&main_runner);
    forget_sent();
    return 0;
}

/* How often text stands in what was sent. */
static unsigned count(const char *text)
{
    unsigned n = 0;

    for (unsigned i = 0; i < n_sent; i++)
        for (const char *p = sent[i]; (p = strstr(p, text)); p += strlen(text))
            n++;
    return n;
}

static size_t n_entries(unsigned i)
{
    yyjson_doc *doc = json_read(str_from(sent[i]), NULL);
    size_t n = yyjson_arr_size(yyjson_doc_get_root(doc));

    assert_non_null(doc);
    yyjson_doc_free(doc);
    return n;
}

static void test_lines_of_the_remote_level_go_to_the_platform_and_no_others(void **state)
{
    (void)state;
    session(true);
    LOG_ERROR(&service, "before it was asked for");
    pass(2000);
    assert_int_equal(n_sent, 0);
    logging_set_remote_level(logging, LOG_LEVEL_DEBUG);
    LOG_DEBUG(&service, "a \"quoted\" line", KV_UINT("n", 3));
    LOG_TRACE(&service, "too fine");
    LOG_INFO(&storage, "another");
    LOG_INFO(&other, "of nobody's interest");
    pass(1000);
    assert_int_equal(n_sent, 1);
    assert_int_equal(n_entries(0), 2);
    assert_non_null(strstr(sent[0], "\"SERVICE_LOGS\":\"|DEBUG| - [logging_test.c] - "
                                    "test_lines_of_the_remote_level_go_to_the_platform_and_no_others - "));
    assert_non_null(strstr(sent[0], "a \\\"quoted\\\" line n=3\",\"LOGS\":\"|DEBUG|"));
    assert_int_equal(count("\"STORAGE_LOGS\":"), 1);
    assert_int_equal(count("\"LOGS\":"), 2);
    logging_set_remote_level(logging, LOG_LEVEL_OFF);
    LOG_ERROR(&service, "after it");
    pass(1000);
    assert_int_equal(count("_LOGS"), 2);
}

static void test_lines_of_a_connector_that_wants_it_have_its_name(void **state)
{
    (void)state;
    session(true);
    log_set_remote_level(&other, LOG_LEVEL_WARN);
    LOG_WARN(&other, "a line");
    LOG_INFO(&other, "below its level");
    pass(1000);
    assert_int_equal(n_sent, 1);
    assert_int_equal(n_entries(0), 1);
    assert_int_equal(count("\"Plant \\\"1\\\"_LOGS\":\"|WARNING|"), 1);
    assert_int_equal(count("\"LOGS\":"), 0);
    log_set_remote_level(&other, LOG_LEVEL_OFF);
}

static void test_lines_of_one_millisecond_get_times_of_their_own(void **state)
{
    int64_t before = 0;
    yyjson_doc *doc;
    yyjson_val *entry;
    size_t i, max;

    (void)state;
    session(true);
    logging_set_remote_level(logging, LOG_LEVEL_DEBUG);
    for (unsigned k = 0; k < 20; k++)
        LOG_DEBUG(&service, "line", KV_UINT("k", k));
    pass(1000);
    assert_int_equal(n_sent, 1);
    doc = json_read(str_from(sent[0]), NULL);
    yyjson_arr_foreach(yyjson_doc_get_root(doc), i, max, entry)
    {
        int64_t ts;

        assert_int_equal(json_to_i64(json_get(entry, STR("ts")), &ts), ERR_OK);
        assert_true(ts > before);
        before = ts;
    }
    assert_int_equal(max, 20);
    yyjson_doc_free(doc);
}

static void test_the_queue_is_bounded_and_what_does_not_fit_is_told_once(void **state)
{
    unsigned n_lines = 0;

    (void)state;
    logging_set_remote_level(logging, LOG_LEVEL_DEBUG);
    for (unsigned i = 0; i < 1234; i++) /* no session: they wait */
        LOG_DEBUG(&service, "line", KV_UINT("i", i));
    pass(0);
    assert_int_equal(n_sent, 0);
    session(true);
    loop_advance(main_runner.loop, 1000);
    assert_int_equal(n_sent, 5); /* a second */
    for (unsigned i = 0; i < n_sent; i++)
        assert_in_range(n_entries(i), 20, 21);
    loop_advance(main_runner.loop, 60000);
    for (unsigned i = 0; i < n_sent; i++)
        n_lines += strstr(sent[i], "_ERRORS_COUNT") ? 0 : (unsigned)n_entries(i);
    assert_int_equal(n_lines, 1001);
    assert_int_equal(count("\"SERVICE_LOGS\":\"|WARNING| - 234 log lines were not sent"), 1);
    assert_non_null(strstr(sent[0], " line i=0\""));
    assert_int_equal(count(" line i=999\""), 2); /* SERVICE_LOGS and LOGS */
    forget_sent();
    LOG_DEBUG(&service, "there is room again");
    pass(1000);
    assert_int_equal(count("there is room again"), 2);
}

static void test_messages_stay_within_the_payload_limit(void **state)
{
    char text[400];

    (void)state;
    limit = 1024;
    logging_set_remote_level(logging, LOG_LEVEL_DEBUG);
    memset(text, 'x', sizeof text);
    for (unsigned i = 0; i < 10; i++)
        LOG_DEBUG(&storage, "long", KV_UINT("i", i), KV_STR("text", str_of(text, 300)));
    pass(0);
    session(true);
    pass(10000);
    assert_int_equal(count("STORAGE_LOGS"), 10);
    for (unsigned i = 0; i < n_sent; i++)
        assert_in_range(strlen(sent[i]), 1, 1024);
}

static void test_a_line_longer_than_a_message_is_cut_to_fit(void **state)
{
    char text[500];

    (void)state;
    limit = 1024;
    logging_set_remote_level(logging, LOG_LEVEL_DEBUG);
    memset(text, '"', sizeof text); /* escaped twice: in the line, and as JSON */
    LOG_DEBUG(&storage, "long", KV_STR("a", str_of(text, 500)), KV_STR("b", str_of(text, 500)));
    pass(0);
    session(true);
    pass(1000);
    assert_int_equal(n_sent, 1);
    assert_int_equal(n_entries(0), 1);
    assert_in_range(strlen(sent[0]), 500, 1024);
}

static void test_what_is_said_of_sending_is_not_sent(void **state)
{
    static const struct log_place places[] = {{"../src/gateway/north.c", "f", 1},
                                              {"../src/uplink/downlink.c", "f", 1},
                                              {"../src/gateway/logging.c", "f", 1},
                                              {"../src/uplink/limits.c", "f", 1}};

    (void)state;
    session(true);
    logging_set_remote_level(logging, LOG_LEVEL_DEBUG);
    for (size_t i = 0; i < COUNT_OF(places); i++)
        log_write_at(&service, LOG_LEVEL_DEBUG, "cannot be sent", NULL, 0, &places[i]);
    pass(2000);
    assert_int_equal(n_sent, 0);
}

static void test_errors_are_told_every_five_seconds_if_they_change_and_begin_anew_each_minute(void **state)
{
    (void)state;
    session(true);
    pass(5000); /* those of other tests */
    forget_sent();
    pass(55000); /* the minute is over: zero, if there were some */
    forget_sent();
    pass(30000);
    assert_int_equal(n_sent, 0);

    for (unsigned i = 0; i < 3; i++)
        LOG_ERROR(&storage, "an error", KV_UINT("i", i));
    LOG_ERROR(&other, "another");
    pass(4999);
    assert_int_equal(n_sent, 0);
    pass(1);
    assert_int_equal(n_sent, 1);
    assert_non_null(strstr(sent[0], "\"storage_ERRORS_COUNT\":3,"));
    assert_non_null(strstr(sent[0], "\"Plant \\\"1\\\"_ERRORS_COUNT\":1,"));
    assert_non_null(strstr(sent[0], "\"ALL_ERRORS_COUNT\":4}"));
    assert_null(strstr(sent[0], "service_ERRORS_COUNT"));
    pass(10000);
    assert_int_equal(n_sent, 1); /* nothing has changed */
    LOG_ERROR(&storage, "one more");
    pass(5000);
    assert_int_equal(n_sent, 2);
    assert_non_null(strstr(sent[1], "[{\"storage_ERRORS_COUNT\":4,\"ALL_ERRORS_COUNT\":5}]"));
    pass(10000); /* 60 s since the last time */
    assert_int_equal(n_sent, 3);
    assert_non_null(strstr(sent[2], "\"storage_ERRORS_COUNT\":0"));
    assert_non_null(strstr(sent[2], "\"ALL_ERRORS_COUNT\":0}"));
    pass(120000);
    assert_int_equal(n_sent, 3);
}

static void test_errors_of_an_outage_are_told_after_it(void **state)
{
    (void)state;
    session(true);
    pass(5000);
    pass(60000);
    session(false);
    forget_sent();
    LOG_ERROR(&storage, "during the outage");
    pass(50000);
    assert_int_equal(n_sent, 0);
    session(true);
    pass(5000);
    assert_int_equal(count("\"storage_ERRORS_COUNT\":1"), 1);
}

static void test_what_is_wrong_with_the_file_is_told_once(void **state)
{
    struct problems problems;
    struct conf *bad;

    teardown(NULL);
    problems_init(&problems);
    bad = conf_load_text(&logs_conf_type, NULL, "D/logs.json", STR("{\"version\":1,"), &problems);
    assert_null(bad);
    setup(state);
    logging_stop(logging);
    logging_detach(logging);
    logging_free(logging);
    conf.logs = NULL;
    conf.n_errors.logs = 1;
    logging = logging_new(&conf, &problems);
    logging_attach(logging, &main_runner, NULL, north);
    problems_fini(&problems);
    pass(0);
    assert_int_equal(n_sent, 0);
    session(true);
    loop_advance(main_runner.loop, 0);
    assert_int_equal(count("\"LOGS\":\"logs.json: D/logs.json:1:"), 1);
    session(false);
    session(true);
    pass(60000);
    assert_int_equal(count("\"LOGS\":"), 1);
}

static void test_a_file_that_cannot_be_written_is_told_once(void **state)
{
    struct handler_conf handler = {.class_name = STR("logging.handlers.RotatingFileHandler"),
                                   .filename = STR("/dev/full"),
                                   .level = LOG_LEVEL_TRACE};
    struct logger_conf logger = {.propagate = false};
    struct str handler_name = STR("h");
    struct conf_map_entry handlers = {.key = handler_name, .value = &handler},
                          loggers = {.key = STR("service"), .value = &logger};
    struct logs_conf logs = {.handlers = {.items = &handlers, .n = 1}, .loggers = {.items = &loggers, .n = 1}};

    (void)state;
    logger.handlers = (struct conf_strs){.items = &handler_name, .n = 1};
    conf.logs = &logs;
    logging_apply(logging, &conf);
    for (unsigned i = 0; i < 3; i++)
        LOG_INFO(&service, "a line", KV_UINT("i", i));
    pass(0);
    session(true);
    pass(1000);
    assert_int_equal(
        count("\"LOGS\":\"log file cannot be written, its lines go to standard error: /dev/full: No space"), 1);
    conf.logs = &nowhere;
    logging_apply(logging, &conf);
    pass(0);
}

static void test_lines_that_nobody_takes_any_more_are_given_back(void **state)
{
    (void)state;
    session(true);
    logging_set_remote_level(logging, LOG_LEVEL_DEBUG);
    for (unsigned i = 0; i < 50; i++)
        LOG_DEBUG(&service, "waits in a list", KV_UINT("i", i));
    pass(0);
    for (unsigned i = 0; i < 50; i++)
        LOG_DEBUG(&service, "is still in the mailbox", KV_UINT("i", i));
    log_flush(true);
    logging_stop(logging);
    logging_detach(logging);
    for (unsigned i = 0; i < 50; i++)
        LOG_DEBUG(&service, "comes too late", KV_UINT("i", i));
    log_flush(true);
    logging_attach(logging, &main_runner, NULL, north); /* the queue has its whole room again */
    for (unsigned i = 0; i < 1000; i++)
        LOG_DEBUG(&service, "later", KV_UINT("i", i));
    pass(0);
    session(true);
    pass(60000);
    assert_int_equal(count("were not sent"), 0);
    assert_int_equal(count("later i=999\""), 2);
}

static void test_levels_are_set_by_name_of_a_logger_and_known_by_name_and_number(void **state)
{
    static const struct {
        const char *text;
        enum log_level level;
    } cases[] = {{"debug", LOG_LEVEL_DEBUG}, {"WARNING", LOG_LEVEL_WARN}, {"Critical", LOG_LEVEL_ERROR},
                 {"NONE", LOG_LEVEL_OFF},    {"0", LOG_LEVEL_TRACE},      {"5", LOG_LEVEL_TRACE},
                 {"20", LOG_LEVEL_INFO},     {"100", LOG_LEVEL_OFF}};
    enum log_level level;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(logging_level_of(str_from(cases[i].text), &level), ERR_OK);
        assert_int_equal(level, cases[i].level);
    }
    assert_int_equal(logging_level_of(STR("loud"), &level), ERR_RANGE);
    assert_int_equal(logging_level_of(STR(""), &level), ERR_RANGE);
    assert_int_equal(logging_set_level(logging, STR("storage"), LOG_LEVEL_DEBUG), ERR_OK);
    assert_int_equal(log_own_level(&storage), LOG_LEVEL_DEBUG);
    assert_int_equal(log_own_level(&service), LOG_LEVEL_INFO);
    assert_int_equal(logging_set_level(logging, STR("nobody"), LOG_LEVEL_DEBUG), ERR_NOTFOUND);
    logging_apply(logging, &conf); /* what the file says */
    assert_int_equal(log_own_level(&storage), LOG_LEVEL_INFO);
}

static void test_names_of_files_are_snake_case_without_special_characters(void **state)
{
    static const char *const cases[][2] = {{"Plant MQTT", "plant_mqtt"},
                                           {"../../etc/passwd", "etcpasswd"},
                                           {"a/b\\c:d*e", "abcde"},
                                           {"Halle-1_Süd", "halle-1_süd"},
                                           {"", "unnamed"},
                                           {"...", "unnamed"}};
    char longest[400];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        autobuf struct buf out = {0};

        logging_file_name(&out, str_from(cases[i][0]));
        assert_true(str_eq_z(buf_str(&out), cases[i][1]));
    }
    memset(longest, 'x', sizeof longest);
    autobuf struct buf out = {0};

    logging_file_name(&out, str_of(longest, sizeof longest));
    assert_in_range(out.n, 100, 200);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_lines_of_the_remote_level_go_to_the_platform_and_no_others),
        TEST(test_lines_of_a_connector_that_wants_it_have_its_name),
        TEST(test_lines_of_one_millisecond_get_times_of_their_own),
        TEST(test_the_queue_is_bounded_and_what_does_not_fit_is_told_once),
        TEST(test_messages_stay_within_the_payload_limit),
        TEST(test_a_line_longer_than_a_message_is_cut_to_fit),
        TEST(test_what_is_said_of_sending_is_not_sent),
        TEST(test_errors_are_told_every_five_seconds_if_they_change_and_begin_anew_each_minute),
        TEST(test_errors_of_an_outage_are_told_after_it),
        TEST(test_what_is_wrong_with_the_file_is_told_once),
        TEST(test_a_file_that_cannot_be_written_is_told_once),
        TEST(test_lines_that_nobody_takes_any_more_are_given_back),
        TEST(test_levels_are_set_by_name_of_a_logger_and_known_by_name_and_number),
        cmocka_unit_test(test_names_of_files_are_snake_case_without_special_characters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
