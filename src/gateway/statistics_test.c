/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "data/json.h"
#include "gateway/statistics.h"

#include <stdio.h>

/*
 * Connectors do nothing; their counters, and those of storage and uplink, are set by the test. What is published stands in a
 * list. Loops are fake.
 */
enum { SENT_MAX = 32 };

struct sample_conf {
    struct connector_common common;
};
static const struct field sample_fields[] = {F_END};
static const struct conf_type sample_conf_type = {
    .name = "sample", .size = sizeof(struct sample_conf), .fields = sample_fields, .base = &connector_common_type};

static enum err sample_open(void *arg, struct ctx *ctx, const void *conf, struct why *why)
{
    (void)arg, (void)ctx, (void)conf, (void)why;
    return ERR_OK;
}

static void sample_nothing(void *arg)
{
    (void)arg;
}

static void sample_done(void *arg, connector_done_fn *done, void *done_arg)
{
    (void)arg;
    done(done_arg);
}

static const struct connector_type sample_type = {.size = sizeof(struct connector_type),
                                                  .abi = IOTGW_CONNECTOR_ABI,
                                                  .name = "sample",
                                                  .title = "Sample",
                                                  .conf = &sample_conf_type,
                                                  .state_size = 1,
                                                  .open = sample_open,
                                                  .close = sample_nothing,
                                                  .start = sample_nothing,
                                                  .quiesce = sample_done,
                                                  .stop = sample_done,
                                                  .room = sample_nothing};

static struct runner main_runner;
static struct loops loops;
static struct fleet *fleet;
static struct north *north;
static struct log test_log;
static struct statistics *statistics;
static struct statistics_sample now;
static struct statistics_conf of_statistics;
static struct platform_conf platform;
static struct main_conf main_conf;
static struct gateway_conf conf;
static char sent[SENT_MAX][16384];
static unsigned n_sent;

static bool on_send(void *arg, enum limit_kind limit, struct str topic, struct str payload, uint8_t qos)
{
    (void)arg, (void)limit, (void)topic, (void)qos;
    assert_true(n_sent < SENT_MAX && payload.n < sizeof sent[0]);
    memcpy(sent[n_sent], payload.p, payload.n);
    sent[n_sent++][payload.n] = 0;
    return true;
}

static struct uplink_status on_status(void *arg)
{
    (void)arg;
    return now.uplink;
}

static void take_sample(void *arg, struct statistics_sample *out)
{
    (void)arg;
    *out = now;
}

static void run(void)
{
    for (int i = 0; i < 30; i++) {
        loop_advance(main_runner.loop, 0);
        loop_advance(loops.all[0]->runner.loop, 0);
    }
}

static void pass(uint64_t ms)
{
    loop_advance(main_runner.loop, ms);
    loop_advance(loops.all[0]->runner.loop, ms);
    run();
}

static void set_flag(void *arg)
{
    *(bool *)arg = true;
}

static void add_connector(const char *name)
{
    struct problems problems;
    struct fleet_spec spec = {.name = name, .type = &sample_type};
    bool is_started = false;

    problems_init(&problems);
    spec.conf = conf_load_text(&sample_conf_type, NULL, "sample.json", STR("{}"), &problems);
    assert_non_null(spec.conf);
    problems_fini(&problems);
    fleet_add(fleet, &spec, "sample", NULL);
    conf_unref(spec.conf);
    fleet_start_all(fleet, set_flag, &is_started);
    run();
    assert_true(is_started);
}

static void session(bool is_up)
{
    north_uplink_state(north, is_up ? UPLINK_READY : UPLINK_DOWN);
    run();
    statistics_session(statistics, is_up);
}

static int setup(void **state)
{
    static const struct north_link link = {.send = on_send, .status = on_status};
    static const struct north_events events = {0};
    const struct ctx_host host = {.config_dir = "/"};

    (void)state;
    ctx_setup();
    runner_init_fake(&main_runner);
    assert_int_equal(loops_init(&loops, &main_runner, 1, &host), ERR_OK);
    fleet = fleet_new(&loops);
    log_init(&test_log, "test", LOG_LEVEL_OFF);
    north = north_new(main_runner.loop, main_runner.loop, &test_log, &events, NULL);
    now = (struct statistics_sample){.uplink = {.payload_limit = 8192}};
    north_attach_link(north, &link, NULL);
    n_sent = 0;
    of_statistics =
        (struct statistics_conf){.enable = true, .enable_custom = true, .period_s = 60, .custom_period_s = 300};
    platform = (struct platform_conf){.statistics = &of_statistics};
    main_conf = (struct main_conf){.platform = &platform};
    conf = (struct gateway_conf){.main = &main_conf};
    const struct statistics_conf_of made = {.main = &main_runner,
                                            .loop0 = &loops.all[0]->runner,
                                            .fleet = fleet,
                                            .north = north,
                                            .log = &test_log,
                                            .sample = take_sample};

    statistics = statistics_new(&made);
    session(true);
    return 0;
}

static int teardown(void **state)
{
    bool is_quiet = false, is_stopped = false, is_closed = false, is_ended = false;

    (void)state;
    statistics_stop(statistics, set_flag, &is_ended);
    assert_true(is_ended);
    fleet_quiesce_all(fleet, set_flag, &is_quiet);
    pass(100);
    fleet_stop_all(fleet, set_flag, &is_stopped);
    pass(100);
    fleet_close(fleet, set_flag, &is_closed);
    pass(100);
    assert_true(is_quiet && is_stopped && is_closed);
    north_stop(north);
    run();
    statistics_free(statistics);
    fleet_free(fleet);
    north_free(north);
    loops_fini(&loops);
    runner_join(&main_runner);
    log_fini(&test_log);
    return 0;
}

/* A number in message i (of those sent, from 0): its group, perhaps a part of that, its key. */
static int64_t number(unsigned i, const char *group, const char *part, const char *key)
{
    yyjson_doc *doc;
    yyjson_val *val;
    int64_t out;

    assert_true(i < n_sent);
    doc = json_read(str_from(sent[i]), NULL);
    assert_non_null(doc);
    val = json_get(yyjson_arr_get_first(yyjson_doc_get_root(doc)), str_from(group));
    if (part)
        val = json_get(val, str_from(part));
    val = json_get(val, str_from(key));
    if (!val)
        fail_msg("no %s %s %s in %s", group, part ? part : "", key, sent[i]);
    assert_int_equal(json_to_i64(val, &out), ERR_OK);
    yyjson_doc_free(doc);
    return out;
}

static bool has(unsigned i, const char *text)
{
    assert_true(i < n_sent);
    return strstr(sent[i], text) != NULL;
}

static void test_counters_are_those_since_the_message_before(void **state)
{
    struct ctx *ctx;

    (void)state;
    add_connector("Plant");
    ctx = fleet_ctx(fleet, STR("Plant"));
    statistics_apply(statistics, &conf);
    run();
    assert_int_equal(n_sent, 1);
    assert_true(has(0, "\"totalMemory\":\"") && has(0, "\"totalDisk\":\"") && has(0, "\"cpuCount\":"));
    for (unsigned round = 1; round <= 2; round++) {
        now.store.n_events = 7;
        now.store.n_dropped_events = 3;
        now.uplink.n_packs += 4 * round;
        now.uplink.n_read_events += 20 * round;
        now.uplink.n_events += 19 * round;
        now.uplink.n_attribute_values += 5 * round;
        now.uplink.n_telemetry_values += 100 * round;
        now.n_received += 2 * round;
        ctx_count(ctx, IOTGW_MESSAGES_IN, 10 * round);
        ctx_count(ctx, IOTGW_BYTES_IN, 1000 * round);
        ctx_count(ctx, IOTGW_EVENTS, 9 * round);
        ctx_count(ctx, IOTGW_CONVERTED, 8 * round);
        ctx_count(ctx, IOTGW_DROPPED, 2 * round);
        ctx_count(ctx, IOTGW_ATTR_VALUES, 11 * round);
        ctx_count(ctx, IOTGW_TS_VALUES, 12 * round);
        ctx_count(ctx, IOTGW_CONVERSION_ERRORS, 1 * round);
        atomic_fetch_add(&ctx_log(ctx)->n_errors, 6 * round);
        pass(59999);
        assert_int_equal(n_sent, round);
        pass(1);
        assert_int_equal(n_sent, round + 1);
        assert_int_equal(number(round, "machineStats", NULL, "msgsSentToPlatform"), 4 * round);
        assert_int_equal(number(round, "machineStats", NULL, "msgsReceivedFromPlatform"), 2 * round);
        assert_int_equal(number(round, "serviceStats", NULL, "storageMsgPulled"), 20 * round);
        assert_int_equal(number(round, "serviceStats", NULL, "storageMsgCount"), 7);
        assert_int_equal(number(round, "serviceStats", NULL, "storageMsgDropped"), 3);
        assert_int_equal(number(round, "serviceStats", NULL, "platformMsgPushed"), 19 * round);
        assert_int_equal(number(round, "serviceStats", NULL, "platformAttrProduced"), 5 * round);
        assert_int_equal(number(round, "serviceStats", NULL, "platformTsProduced"), 100 * round);
        assert_int_equal(number(round, "connectorsStats", "Plant", "connectorMsgsReceived"), 10 * round);
        assert_int_equal(number(round, "connectorsStats", "Plant", "connectorBytesReceived"), 1000 * round);
        assert_int_equal(number(round, "connectorsStats", "Plant", "storageMsgPushed"), 9 * round);
        assert_int_equal(number(round, "connectorsStats", "Plant", "connectorsErrors"), 6 * round);
        assert_int_equal(number(round, "connectorsStats", "Plant_converter", "convertersMsgProcessed"), 8 * round);
        assert_int_equal(number(round, "connectorsStats", "Plant_converter", "convertersMsgDropped"), 2 * round);
        assert_int_equal(number(round, "connectorsStats", "Plant_converter", "convertersAttrProduced"), 11 * round);
        assert_int_equal(number(round, "connectorsStats", "Plant_converter", "convertersTsProduced"), 12 * round);
        assert_int_equal(number(round, "connectorsStats", "Plant_converter", "convertersErrors"), 1 * round);
    }
}

static void test_nothing_is_sent_without_a_session_and_the_counters_go_on(void **state)
{
    (void)state;
    add_connector("Plant");
    statistics_apply(statistics, &conf);
    run();
    session(false);
    n_sent = 0;
    for (int i = 0; i < 3; i++) {
        ctx_count(fleet_ctx(fleet, STR("Plant")), IOTGW_MESSAGES_IN, 5);
        pass(60000);
    }
    assert_int_equal(n_sent, 0);
    session(true);
    n_sent = 0; /* own attributes, sent again */
    pass(60000);
    assert_int_equal(n_sent, 1);
    assert_int_equal(number(0, "connectorsStats", "Plant", "connectorMsgsReceived"), 15);
}

static void test_counters_of_a_connector_that_begins_anew_are_not_negative(void **state)
{
    struct ctx *ctx;

    (void)state;
    add_connector("Plant");
    ctx = fleet_ctx(fleet, STR("Plant"));
    statistics_apply(statistics, &conf);
    ctx_count(ctx, IOTGW_MESSAGES_IN, 100);
    pass(60000);
    atomic_store(&ctx_counters(ctx)->n[IOTGW_MESSAGES_IN], 3);
    pass(60000);
    assert_int_equal(number(n_sent - 1, "connectorsStats", "Plant", "connectorMsgsReceived"), 3);
}

static void test_more_connectors_than_a_message_holds_are_split_over_several(void **state)
{
    char name[64], key[80];
    unsigned n = 0, n_first;

    (void)state;
    now.uplink.payload_limit = 1024;
    for (unsigned i = 0; i < 12; i++) {
        snprintf(name, sizeof name, "a connector \"%02u\" with a name", i);
        add_connector(name);
        ctx_count(fleet_ctx(fleet, str_from(name)), IOTGW_MESSAGES_IN, i + 1);
    }
    statistics_apply(statistics, &conf);
    run();
    n_first = n_sent;
    pass(60000);
    assert_true(has(n_first, "machineStats") && has(n_first, "serviceStats"));
    for (unsigned i = n_first; i < n_sent; i++) {
        assert_in_range(strlen(sent[i]), 1, 1024);
        assert_int_equal(has(i, "machineStats"), i == n_first);
        for (unsigned k = 0; k < 12; k++) {
            snprintf(key, sizeof key, "a connector \\\"%02u\\\" with a name\":{", k);
            if (!has(i, key))
                continue;
            snprintf(name, sizeof name, "a connector \"%02u\" with a name", k);
            assert_int_equal(number(i, "connectorsStats", name, "connectorMsgsReceived"), k + 1);
            n++;
        }
    }
    assert_int_equal(n, 12); /* each once */
    assert_true(n_sent - n_first > 4);
}

static void test_periods_and_switch_change_and_own_attributes_are_told_once(void **state)
{
    (void)state;
    of_statistics.enable = false;
    statistics_apply(statistics, &conf);
    pass(600000);
    assert_int_equal(n_sent, 0);
    of_statistics.enable = true;
    of_statistics.period_s = 10;
    statistics_apply(statistics, &conf);
    run();
    assert_int_equal(n_sent, 1);
    pass(10000);
    assert_int_equal(n_sent, 2);
    of_statistics.period_s = 3600;
    statistics_apply(statistics, &conf);
    pass(3599999);
    assert_int_equal(n_sent, 2);
    pass(1);
    assert_int_equal(n_sent, 3);
    platform.statistics = NULL; /* the section is gone: its defaults */
    statistics_apply(statistics, &conf);
    pass(60000);
    assert_int_equal(n_sent, 4);
}

static void test_sizes_have_one_decimal_and_binary_units(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *want;
    } cases[] = {{0, "0.0B"},
                 {1023, "1023.0B"},
                 {1024, "1.0K"},
                 {1536, "1.5K"},
                 {25232932864, "23.5G"},
                 {1048576, "1.0M"},
                 {270582939648, "252.0G"},
                 {UINT64_C(1) << 40, "1.0T"},
                 {UINT64_C(1) << 52, "4096.0T"}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        autobuf struct buf out = {0};

        statistics_size(&out, cases[i].bytes);
        assert_true(str_eq_z(buf_str(&out), cases[i].want));
    }
}

static void test_results_of_commands_are_numbers_where_they_are_or_text_without_the_line_feed(void **state)
{
    static const struct {
        const char *output, *want; /* NULL: left out */
    } cases[] = {{"42\n", "42"},       {" 0.25 \n", "0.25"},    {"-1e3", "-1000.0"},  {"007\n", "7.0"},
                 {"a b\n", "\"a b\""}, {"a\nb\n", "\"a\\nb\""}, {"", NULL},           {"\n \n", NULL},
                 {"nan", "\"nan\""},   {"inf\n", "\"inf\""},    {"0x10", "\"0x10\""}, {"1 2", "\"1 2\""},
                 {"\"", "\"\\\"\""},   {"true", "\"true\""}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        autobuf struct buf out = {0};
        bool is_there = statistics_add_result(&out, str_from(cases[i].output));

        assert_int_equal(is_there, cases[i].want != NULL);
        buf_add_u8(&out, 0);
        assert_string_equal((char *)out.p, cases[i].want ? cases[i].want : "");
    }
}

static void test_what_the_machine_says_is_plausible(void **state)
{
    struct machine_clock since = {0};
    autobuf struct buf out = {0};
    yyjson_doc *doc;
    yyjson_val *root, *memory;
    int64_t rss, vms;

    (void)state;
    buf_add_u8(&out, '{');
    statistics_machine(&out, &since);
    buf_add_u8(&out, '}');
    doc = json_read(buf_str(&out), NULL);
    assert_non_null(doc);
    root = yyjson_doc_get_root(doc);
    for (size_t i = 0; i < 6; i++) {
        static const char *const keys[] = {"totalCpuUsage", "diskUsage",         "freeMemory",
                                           "freeDisk",      "gwProcessCpuUsage", "gwMemory"};

        assert_non_null(json_get(root, str_from(keys[i])));
    }
    memory = json_get(root, STR("gwProcessMemoryFullInfo"));
    assert_int_equal(yyjson_obj_size(memory), 10);
    assert_int_equal(json_to_i64(json_get(memory, STR("rss")), &rss), ERR_OK);
    assert_int_equal(json_to_i64(json_get(memory, STR("vms")), &vms), ERR_OK);
    assert_true(rss > 100000 && vms >= rss);
    yyjson_doc_free(doc);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_counters_are_those_since_the_message_before),
        TEST(test_nothing_is_sent_without_a_session_and_the_counters_go_on),
        TEST(test_counters_of_a_connector_that_begins_anew_are_not_negative),
        TEST(test_more_connectors_than_a_message_holds_are_split_over_several),
        TEST(test_periods_and_switch_change_and_own_attributes_are_told_once),
        cmocka_unit_test(test_sizes_have_one_decimal_and_binary_units),
        cmocka_unit_test(test_results_of_commands_are_numbers_where_they_are_or_text_without_the_line_feed),
        cmocka_unit_test(test_what_the_machine_says_is_plausible),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
