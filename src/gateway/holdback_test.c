/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/holdback.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* ---- connectors that only run ---- */

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

static void sample_ignore(void *arg)
{
    (void)arg;
}

static void sample_answer(void *arg, connector_done_fn *done, void *done_arg)
{
    (void)arg;
    done(done_arg);
}

static const struct connector_type sample_type = {.size = sizeof(struct connector_type),
                                                  .abi = IOTGW_CONNECTOR_ABI,
                                                  .name = "sample",
                                                  .title = "Sample",
                                                  .conf = &sample_conf_type,
                                                  .state_size = sizeof(struct sample_conf *),
                                                  .flags = CONNECTOR_NO_LINKS,
                                                  .open = sample_open,
                                                  .close = sample_ignore,
                                                  .start = sample_ignore,
                                                  .quiesce = sample_answer,
                                                  .stop = sample_answer,
                                                  .room = sample_ignore};

/* ---- the plant ---- */

static const int64_t now_s = 1795000000;
static struct runner runner;
static struct loops loops;
static struct fleet *fleet;
static struct holdback holdback;
static struct log test_log;
static char lines[4000];

static void keep_line(void *arg, enum log_level level, struct str line)
{
    size_t n = strlen(lines);

    (void)arg, (void)level;
    snprintf(lines + n, sizeof lines - n, STR_FMT "\n", STR_ARG(line));
}

static void advance(uint64_t ms)
{
    for (uint64_t past = 0;; past += 500) {
        for (unsigned round = 0; round < 20; round++) {
            loop_advance(runner.loop, 0);
            for (size_t i = 0; i < loops.n; i++)
                loop_advance(loops.all[i]->runner.loop, 0);
        }
        if (past >= ms)
            return;
        loop_advance(runner.loop, 500);
        for (size_t i = 0; i < loops.n; i++)
            loop_advance(loops.all[i]->runner.loop, 500);
    }
}

static struct conf *conf_of_nothing(void)
{
    struct problems problems;
    struct conf *conf;

    problems_init(&problems);
    conf = conf_load_text(&sample_conf_type, NULL, "sample.json", STR("{}"), &problems);
    assert_non_null(conf);
    problems_fini(&problems);
    return conf;
}

static void set_flag(void *arg)
{
    *(bool *)arg = true;
}

static int make(void **state)
{
    (void)state;
    *lines = 0;
    holdback = (struct holdback){0};
    log_set_sink(keep_line, NULL);
    log_init(&test_log, "service", LOG_LEVEL_INFO);
    ctx_setup();
    runner_init_fake(&runner);
    loop_set_wall(runner.loop, now_s * 1000);
    assert_int_equal(loops_init(&loops, &runner, 1, &(struct ctx_host){.config_dir = "/"}), ERR_OK);
    fleet = fleet_new(&loops);
    for (const char *name = "A\0B\0C\0"; *name; name += 2) {
        struct fleet_spec spec = {.name = name, .type = &sample_type, .conf = conf_of_nothing()};

        fleet_add(fleet, &spec, "sample", NULL);
        conf_unref(spec.conf);
    }
    return 0;
}

static int end(void **state)
{
    bool is_done = false;

    (void)state;
    holdback_stop(&holdback);
    fleet_quiesce_all(fleet, set_flag, &is_done);
    advance(2000);
    fleet_stop_all(fleet, set_flag, &is_done);
    advance(3000);
    fleet_close(fleet, set_flag, &is_done);
    advance(3000);
    fleet_free(fleet);
    loops_fini(&loops);
    runner_join(&runner);
    log_fini(&test_log);
    log_set_sink(NULL, NULL);
    return 0;
}

/* Faults so many seconds ago. */
static void note_fault(const char *connector, int64_t ago_s)
{
    struct crash_record *record = &holdback.book.records[holdback.book.n++];

    *record = (struct crash_record){.at_s = now_s - ago_s, .signal = 11};
    snprintf(record->where, sizeof record->where, "iotgw-sample.so+0x12");
    snprintf(record->connector, sizeof record->connector, "%s", connector);
    snprintf(record->type, sizeof record->type, "sample");
}

static void start(void)
{
    bool is_started = false;

    holdback_begin(&holdback, runner.loop, fleet, &test_log);
    fleet_start_all(fleet, set_flag, &is_started);
    advance(0);
    assert_true(is_started);
}

static struct fleet_connector connector(const char *name)
{
    struct fleet_connector found;

    assert_true(fleet_find(fleet, str_from(name), &found));
    return found;
}

static bool runs(const char *name)
{
    return connector(name).ctx != NULL;
}

/* ---- tests ---- */

static void test_without_faults_all_start(void **state)
{
    (void)state;
    start();
    assert_true(runs("A") && runs("B") && runs("C"));
    assert_null(strstr(lines, "fault"));
}

static void test_one_fault_holds_nobody_back_but_is_told(void **state)
{
    (void)state;
    note_fault("A", 3);
    start();
    assert_true(runs("A") && runs("B"));
    assert_non_null(strstr(lines, "a fault has ended the program"));
    assert_non_null(strstr(lines, "iotgw-sample.so+0x12"));
}

static void test_an_older_fault_is_not_told_again(void **state)
{
    (void)state;
    note_fault("A", 300);
    note_fault("", 200); /* the gateway's own */
    start();
    assert_true(runs("A"));
    assert_null(strstr(lines, "fault"));
}

static void test_two_faults_hold_back_that_one_until_its_pause_is_over(void **state)
{
    (void)state;
    note_fault("A", 40);
    note_fault("A", 10);
    start();
    assert_false(runs("A"));
    assert_true(runs("B") && runs("C"));
    assert_true(connector("A").is_held);
    assert_int_equal(connector("A").state, INSTANCE_FAILED);
    assert_non_null(strstr(connector("A").error, "it has ended the program 2 times in a row, last by signal 11"));
    assert_non_null(strstr(connector("A").error, "held back until 20"));
    advance(49000); /* a minute after the last */
    assert_false(runs("A"));
    advance(2000);
    assert_true(runs("A"));
    assert_false(connector("A").is_held);
    assert_string_equal(connector("A").error, "");
}

static void test_each_has_a_pause_of_its_own(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) /* 240 s */
        note_fault("C", 40 - i * 10);
    note_fault("B", 6);
    note_fault("B", 5);
    start();
    assert_true(runs("A"));
    assert_false(runs("B") || runs("C"));
    advance(56000);
    assert_true(runs("B"));
    assert_false(runs("C"));
    advance(170000);
    assert_false(runs("C"));
    advance(5000);
    assert_true(runs("C"));
}

static void test_what_is_started_by_hand_is_left_alone_afterwards(void **state)
{
    (void)state;
    note_fault("A", 10);
    note_fault("A", 1);
    start();
    assert_false(runs("A"));
    fleet_start(fleet, STR("A"), NULL, NULL);
    advance(0);
    assert_true(runs("A"));
    fleet_stop(fleet, STR("A"), NULL, NULL);
    advance(120000);
    assert_false(runs("A")); /* the pause is over, but somebody has stopped it */
    assert_int_equal(connector("A").state, INSTANCE_STOPPED);
}

static void test_faults_of_what_is_not_there_any_more_concern_nobody(void **state)
{
    (void)state;
    note_fault("gone", 10);
    note_fault("gone", 1);
    note_fault("", 10);
    note_fault("", 1);
    start();
    assert_true(runs("A") && runs("B") && runs("C"));
}

static void test_stopping_within_the_pause_starts_nothing_later(void **state)
{
    (void)state;
    note_fault("A", 10);
    note_fault("A", 1);
    start();
    holdback_stop(&holdback);
    advance(120000);
    assert_false(runs("A"));
    holdback_stop(&(struct holdback){0}); /* never begun */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, end)
    const struct CMUnitTest tests[] = {
        TEST(test_without_faults_all_start),
        TEST(test_one_fault_holds_nobody_back_but_is_told),
        TEST(test_an_older_fault_is_not_told_again),
        TEST(test_two_faults_hold_back_that_one_until_its_pause_is_over),
        TEST(test_each_has_a_pause_of_its_own),
        TEST(test_what_is_started_by_hand_is_left_alone_afterwards),
        TEST(test_faults_of_what_is_not_there_any_more_concern_nobody),
        TEST(test_stopping_within_the_pause_starts_nothing_later),
    };

    return cmocka_run_group_tests_name("gateway: what is held back", tests, NULL, NULL);
}
