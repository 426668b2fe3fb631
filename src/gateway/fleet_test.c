/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/fleet.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* ---- a connector that does as its configuration says ---- */

enum behaviour { GOOD, FAILS_TO_OPEN, NEVER_QUIET, NEVER_STOPS };
struct sample_conf {
    struct connector_common common;
    int behaviour;
    uint32_t value;
};

static const struct choice behaviours[] = {{"good", GOOD},
                                           {"failsToOpen", FAILS_TO_OPEN},
                                           {"neverQuiet", NEVER_QUIET},
                                           {"neverStops", NEVER_STOPS},
                                           {NULL, 0}};
static const struct field sample_fields[] = {F_ENUM(struct sample_conf, behaviour, "behaviour", .of = behaviours),
                                             F_UINT(struct sample_conf, value, "value", .live = true), F_END};
static const struct conf_type sample_conf_type = {
    .name = "sample", .size = sizeof(struct sample_conf), .fields = sample_fields, .base = &connector_common_type};

struct sample {
    const struct sample_conf *conf;
    connector_done_fn *late; /* an answer that is due when the test wants it */
    void *late_arg;
};

static char trace[1000];
static struct sample *late; /* the last one that owes an answer */

static void note(const struct sample *sample, const char *what)
{
    size_t n = strlen(trace);

    snprintf(trace + n, sizeof trace - n, "%s%u ", what, sample->conf->value);
}

static enum err sample_open(void *arg, struct ctx *ctx, const void *conf, struct why *why)
{
    struct sample *sample = arg;

    (void)ctx;
    sample->conf = conf;
    note(sample, "open");
    if (sample->conf->behaviour == FAILS_TO_OPEN)
        return why_set(why, ERR_RANGE, "it cannot be opened");
    return ERR_OK;
}

static void sample_close(void *arg)
{
    note(arg, "close");
}

static void sample_start(void *arg)
{
    note(arg, "start");
}

static void sample_quiesce(void *arg, connector_done_fn *done, void *done_arg)
{
    struct sample *sample = arg;

    note(sample, "quiet");
    if (sample->conf->behaviour == NEVER_QUIET) {
        sample->late = done;
        sample->late_arg = done_arg;
        late = sample;
    } else {
        done(done_arg);
    }
}

static void sample_stop(void *arg, connector_done_fn *done, void *done_arg)
{
    struct sample *sample = arg;

    note(sample, "stop");
    if (sample->conf->behaviour == NEVER_STOPS) {
        sample->late = done;
        sample->late_arg = done_arg;
        late = sample;
    } else {
        done(done_arg);
    }
}

static void sample_room(void *arg)
{
    (void)arg;
}

static bool sample_apply(void *arg, const void *conf)
{
    struct sample *sample = arg;

    if (((const struct sample_conf *)conf)->value >= 100)
        return false;
    sample->conf = conf;
    note(sample, "apply");
    return true;
}

static const struct connector_type sample_type = {.size = sizeof(struct connector_type),
                                                  .abi = IOTGW_CONNECTOR_ABI,
                                                  .name = "sample",
                                                  .title = "Sample",
                                                  .conf = &sample_conf_type,
                                                  .state_size = sizeof(struct sample),
                                                  .flags = CONNECTOR_NO_LINKS,
                                                  .open = sample_open,
                                                  .close = sample_close,
                                                  .start = sample_start,
                                                  .quiesce = sample_quiesce,
                                                  .stop = sample_stop,
                                                  .room = sample_room,
                                                  .apply = sample_apply};

/* ---- the plant ---- */

struct plant {
    struct runner main;
    struct loops loops;
    struct fleet *fleet;
};

struct answer {
    bool is_there;
    enum err err;
    char text[200];
};

static void take_answer(void *arg, enum err err, const struct why *why)
{
    struct answer *answer = arg;

    assert_false(answer->is_there);
    answer->is_there = true;
    answer->err = err;
    snprintf(answer->text, sizeof answer->text, "%.150s", why ? why_text(why) : "");
}

static void advance(struct plant *plant, uint64_t ms)
{
    for (uint64_t past = 0;; past += 100) {
        for (unsigned round = 0; round < 30; round++) {
            loop_advance(plant->main.loop, 0);
            for (size_t i = 0; i < plant->loops.n; i++)
                loop_advance(plant->loops.all[i]->runner.loop, 0);
        }
        if (past >= ms)
            return;
        loop_advance(plant->main.loop, 100);
        for (size_t i = 0; i < plant->loops.n; i++)
            loop_advance(plant->loops.all[i]->runner.loop, 100);
    }
}

static struct conf *conf_of(const char *text)
{
    struct problems problems;
    struct conf *conf;

    problems_init(&problems);
    conf = conf_load_text(&sample_conf_type, NULL, "sample.json", str_from(text), &problems);
    assert_non_null(conf);
    assert_int_equal(problems.n_errors, 0);
    problems_fini(&problems);
    return conf;
}

static void add(struct plant *plant, const char *name, const char *text)
{
    struct fleet_spec spec = {.name = name, .type = &sample_type, .conf = conf_of(text)};

    fleet_add(plant->fleet, &spec, "sample", NULL);
    conf_unref(spec.conf);
}

static enum err replace(struct plant *plant, const char *name, const char *text, enum fleet_change change,
                        struct answer *answer)
{
    struct fleet_spec spec = {.name = name, .type = &sample_type, .conf = conf_of(text)};

    *answer = (struct answer){0};
    fleet_replace(plant->fleet, str_from(name), &spec, change, take_answer, answer);
    assert_false(answer->is_there);
    conf_unref(spec.conf);
    advance(plant, 0);
    return answer->is_there ? answer->err : ERR_BUSY;
}

static void set_flag(void *arg)
{
    bool *flag = arg;

    assert_false(*flag);
    *flag = true;
}

static void begin(struct plant *plant, const char *a, const char *b)
{
    const struct ctx_host host = {.config_dir = "/"};
    bool is_started = false;

    log_set_sink(NULL, NULL);
    ctx_setup();
    *plant = (struct plant){0};
    runner_init_fake(&plant->main);
    assert_int_equal(loops_init(&plant->loops, &plant->main, 2, &host), ERR_OK);
    plant->fleet = fleet_new(&plant->loops);
    add(plant, "A", a);
    add(plant, "B", b);
    fleet_start_all(plant->fleet, set_flag, &is_started);
    assert_false(is_started);
    advance(plant, 0);
    assert_true(is_started);
    trace[0] = 0;
}

static void end(struct plant *plant)
{
    bool is_quiet = false, is_stopped = false, is_closed = false;

    fleet_quiesce_all(plant->fleet, set_flag, &is_quiet);
    advance(plant, 2000);
    assert_true(is_quiet);
    fleet_stop_all(plant->fleet, set_flag, &is_stopped);
    advance(plant, 3000);
    assert_true(is_stopped);
    fleet_close(plant->fleet, set_flag, &is_closed);
    advance(plant, 3000);
    assert_true(is_closed);
    while (late) { /* what was left behind ends, so that nothing is leaked */
        struct sample *sample = late;

        late = NULL;
        sample->late(sample->late_arg);
        advance(plant, 0);
    }
    fleet_free(plant->fleet);
    loops_fini(&plant->loops);
    runner_join(&plant->main);
}

static enum instance_state state_of(const struct plant *plant, const char *name)
{
    struct fleet_connector connector;

    assert_true(fleet_find(plant->fleet, str_from(name), &connector));
    return connector.state;
}

/* ---- tests ---- */

static void test_replacing_opens_the_new_one_before_the_old_one_stops(void **state)
{
    struct plant plant;
    struct answer answer;

    (void)state;
    begin(&plant, "{\"value\":1}", "{\"value\":7}");
    assert_int_equal(replace(&plant, "A", "{\"value\":2}", FLEET_RESTART, &answer), ERR_OK);
    assert_string_equal(trace, "open2 quiet1 stop1 start2 close1 ");
    assert_int_equal(state_of(&plant, "A"), INSTANCE_RUNNING);
    end(&plant);
}

static void test_one_that_cannot_be_opened_leaves_the_old_one_untouched(void **state)
{
    struct plant plant;
    struct answer answer;
    struct fleet_connector connector;

    (void)state;
    begin(&plant, "{\"value\":1}", "{\"value\":7}");
    assert_int_equal(replace(&plant, "A", "{\"value\":2,\"behaviour\":\"failsToOpen\"}", FLEET_RESTART, &answer),
                     ERR_RANGE);
    assert_string_equal(trace, "open2 close2 ");
    assert_string_equal(answer.text, "it cannot be opened");
    assert_true(fleet_find(plant.fleet, STR("A"), &connector));
    assert_int_equal(connector.state, INSTANCE_RUNNING);
    assert_string_equal(connector.error, "it cannot be opened");
    assert_int_equal(((const struct sample_conf *)conf_root(connector.conf))->value, 1);
    end(&plant);
}

static void test_one_that_fails_at_start_does_not_stop_the_others(void **state)
{
    struct plant plant;
    struct answer answer;

    (void)state;
    begin(&plant, "{\"value\":1,\"behaviour\":\"failsToOpen\"}", "{\"value\":7}");
    assert_int_equal(state_of(&plant, "A"), INSTANCE_FAILED);
    assert_int_equal(state_of(&plant, "B"), INSTANCE_RUNNING);
    assert_int_equal(replace(&plant, "A", "{\"value\":3}", FLEET_RESTART, &answer), ERR_OK);
    assert_int_equal(state_of(&plant, "A"), INSTANCE_RUNNING);
    end(&plant);
}

static void test_one_that_is_never_quiet_is_left_behind_and_its_successor_lives_elsewhere(void **state)
{
    struct plant plant;
    struct answer answer;
    struct data_loop *before;

    (void)state;
    begin(&plant, "{\"value\":1,\"behaviour\":\"neverQuiet\"}", "{\"value\":7}");
    before = fleet_at(plant.fleet, 0).loop;
    assert_int_equal(replace(&plant, "A", "{\"value\":2}", FLEET_RESTART, &answer), ERR_BUSY);
    advance(&plant, 2100);
    assert_true(answer.is_there);
    assert_int_equal(answer.err, ERR_OK);
    assert_int_equal(fleet_n_left_behind(plant.fleet), 1);
    assert_ptr_not_equal(fleet_at(plant.fleet, 0).loop, before);
    late->late(late->late_arg); /* the answer comes after all: it goes to its end by itself */
    late = NULL;
    advance(&plant, 0);
    assert_int_equal(fleet_n_left_behind(plant.fleet), 0);
    assert_non_null(strstr(trace, "stop1 close1"));
    end(&plant);
}

static void test_one_that_never_stops_does_not_keep_its_successor_from_running(void **state)
{
    struct plant plant;
    struct answer answer;

    (void)state;
    begin(&plant, "{\"value\":1,\"behaviour\":\"neverStops\"}", "{\"value\":7}");
    assert_int_equal(replace(&plant, "A", "{\"value\":2}", FLEET_RESTART, &answer), ERR_BUSY);
    advance(&plant, 3100);
    assert_int_equal(answer.err, ERR_OK);
    assert_true(answer.is_there);
    assert_int_equal(state_of(&plant, "A"), INSTANCE_RUNNING);
    assert_int_equal(fleet_n_left_behind(plant.fleet), 1);
    end(&plant);
}

static void test_what_may_change_live_is_taken_without_a_restart_unless_the_connector_refuses(void **state)
{
    struct plant plant;
    struct answer answer;

    (void)state;
    begin(&plant, "{\"value\":1}", "{\"value\":7}");
    assert_int_equal(replace(&plant, "A", "{\"value\":2}", FLEET_LIVE, &answer), ERR_OK);
    assert_string_equal(trace, "apply2 ");
    trace[0] = 0;
    assert_int_equal(replace(&plant, "A", "{\"value\":100}", FLEET_LIVE, &answer), ERR_OK);
    assert_string_equal(trace, "open100 quiet2 stop2 start100 close2 ");
    trace[0] = 0;
    assert_int_equal(replace(&plant, "A", "{\"value\":100,\"logLevel\":\"DEBUG\"}", FLEET_LIVE_BY_GATEWAY, &answer),
                     ERR_OK);
    assert_string_equal(trace, "");
    assert_int_equal(atomic_load(&ctx_log(fleet_ctx(plant.fleet, STR("A")))->level), LOG_LEVEL_DEBUG);
    end(&plant);
}

static void test_what_is_asked_of_one_runs_in_order_and_the_last_counts(void **state)
{
    struct plant plant;
    struct answer stop = {0}, start = {0}, restart = {0}, removed = {0}, nobody = {0};

    (void)state;
    begin(&plant, "{\"value\":1}", "{\"value\":7}");
    fleet_stop(plant.fleet, STR("A"), take_answer, &stop);
    fleet_start(plant.fleet, STR("A"), take_answer, &start);
    fleet_restart(plant.fleet, STR("A"), take_answer, &restart);
    fleet_remove(plant.fleet, STR("B"), take_answer, &removed);
    fleet_start(plant.fleet, STR("C"), take_answer, &nobody);
    advance(&plant, 0);
    assert_true(stop.is_there && start.is_there && restart.is_there && removed.is_there && nobody.is_there);
    assert_int_equal(stop.err | start.err | restart.err | removed.err, ERR_OK);
    assert_int_equal(nobody.err, ERR_NOTFOUND);
    assert_int_equal(fleet_count(plant.fleet), 1);
    assert_int_equal(state_of(&plant, "A"), INSTANCE_RUNNING);
    assert_null(fleet_ctx(plant.fleet, STR("B")));
    end(&plant);
}

static void test_the_end_cancels_what_waits_and_what_is_half_done(void **state)
{
    struct plant plant;
    struct answer answer, waiting = {0};

    (void)state;
    begin(&plant, "{\"value\":1,\"behaviour\":\"neverQuiet\"}", "{\"value\":7}");
    assert_int_equal(replace(&plant, "A", "{\"value\":2}", FLEET_RESTART, &answer), ERR_BUSY);
    fleet_restart(plant.fleet, STR("A"), take_answer, &waiting);
    end(&plant);
    assert_true(answer.is_there && waiting.is_there);
    assert_int_equal(answer.err, ERR_CANCELLED);
    assert_int_equal(waiting.err, ERR_CANCELLED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replacing_opens_the_new_one_before_the_old_one_stops),
        cmocka_unit_test(test_one_that_cannot_be_opened_leaves_the_old_one_untouched),
        cmocka_unit_test(test_one_that_fails_at_start_does_not_stop_the_others),
        cmocka_unit_test(test_one_that_is_never_quiet_is_left_behind_and_its_successor_lives_elsewhere),
        cmocka_unit_test(test_one_that_never_stops_does_not_keep_its_successor_from_running),
        cmocka_unit_test(test_what_may_change_live_is_taken_without_a_restart_unless_the_connector_refuses),
        cmocka_unit_test(test_what_is_asked_of_one_runs_in_order_and_the_last_counts),
        cmocka_unit_test(test_the_end_cancels_what_waits_and_what_is_half_done),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
