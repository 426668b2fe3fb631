/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/apply.h"

#include "base/file.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a configuration in a directory of its own ---- */

struct sample_conf {
    struct connector_common common;
    uint32_t period_ms, port;
};
static const struct field sample_fields[] = {F_MS(struct sample_conf, period_ms, "period", .live = true),
                                             F_UINT(struct sample_conf, port, "port", .max = 65535), F_END};
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
    fn(arg, "sample");
}

static const struct gateway_types types = {type_of, each_type};

#define MAIN(general, connectors)                                                                                      \
    "{\"thingsboard\":{\"host\":\"h\",\"security\":{\"accessToken\":\"t\"}" general                                    \
    "},\"storage\":{\"type\":\"memory\"},\"connectors\":[" connectors "]}"
#define ENTRY(name) "{\"type\":\"sample\",\"name\":\"" name "\",\"configuration\":\"" name ".json\"}"

static char dir[64];

static const char *path_of(const char *name)
{
    static char paths[4][200];
    static unsigned next;
    char *path = paths[next++ % 4];

    snprintf(path, 200, "%s/%s", dir, name);
    return path;
}

static void put(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/iotgw-apply-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    put("tb_gateway.json", MAIN("", ENTRY("A") "," ENTRY("B")));
    put("A.json", "{\"id\":\"ida\",\"period\":1,\"port\":1}");
    put("B.json", "{\"id\":\"idb\",\"period\":1,\"port\":1}");
    return 0;
}

static int remove_dir(void **state)
{
    static const char *const names[] = {"tb_gateway.json", "A.json", "B.json", "C.json", "list.json", "logs.json"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        unlink(path_of(names[i]));
    return rmdir(dir);
}

static struct gateway_conf *load(void)
{
    struct problems problems;
    struct gateway_conf *conf;

    problems_init(&problems);
    conf = gateway_conf_load(dir, &types, &problems);
    assert_non_null(conf);
    assert_int_equal(problems.n_errors, 0);
    problems_fini(&problems);
    return conf;
}

/* ---- the plan ---- */

static bool is_report(void *arg, const char *file, const char *path)
{
    (void)arg;
    (void)file;
    return strncmp(path, "thingsboard.reportStrategy", 26) == 0;
}

static void assert_plan(const struct conf_text *texts, size_t n, const char *expected)
{
    struct problems problems;
    struct gateway_conf *before = load(), *after;
    struct plan *plan;
    autobuf struct buf text = {0};

    problems_init(&problems);
    after = gateway_conf_load_again(before, texts, n, &types, &problems);
    assert_non_null(after);
    plan = plan_new(before, after, is_report, NULL);
    plan_add_text(&text, plan);
    buf_add_u8(&text, 0);
    assert_string_equal((const char *)text.p, expected);
    plan_free(plan);
    gateway_conf_free(after);
    gateway_conf_free(before);
    problems_fini(&problems);
}

static void assert_plan_of(const char *name, const char *content, const char *expected)
{
    struct conf_text text = {path_of(name), content ? str_from(content) : STR_NONE};

    assert_plan(&text, 1, expected);
}

static void test_the_plan_is_the_least_that_does_it(void **state)
{
    (void)state;
    assert_plan(NULL, 0, "nothing changes\n");
    assert_plan_of("A.json", "{\"ts\":9,\"port\":1,\"id\":\"ida\",\"period\":1}", "nothing changes\n");
    assert_plan_of("A.json", "{\"port\":1,\"period\":1,\"name\":\"A\"}", "A: change while it runs: name\n");
    assert_plan_of("A.json", "{\"id\":\"ida\",\"port\":1,\"period\":2}", "A: change while it runs: period\n");
    assert_plan_of("A.json", "{\"id\":\"ida\",\"port\":2,\"period\":2}", "A: restart: period, port\n");
    assert_plan_of("tb_gateway.json", MAIN("", ENTRY("A")), "B: remove\n");
    assert_plan_of("tb_gateway.json",
                   MAIN(",\"loops\":2,\"reportStrategy\":{\"type\":\"ON_CHANGE\"}", ENTRY("B") "," ENTRY("A")),
                   "tb_gateway.json: takes effect at the next start: thingsboard.loops\n"
                   "tb_gateway.json: change while the gateway runs: thingsboard.reportStrategy\n");
}

static void test_a_connector_is_known_by_its_id_when_its_name_changes(void **state)
{
    struct conf_text texts[2];

    (void)state;
    texts[0] = (struct conf_text){path_of("tb_gateway.json"), STR(MAIN("", ENTRY("A") "," ENTRY("C")))};
    texts[1] = (struct conf_text){path_of("C.json"), STR("{\"id\":\"idb\",\"period\":1,\"port\":1}")};
    assert_plan(texts, 2, "B: restart as C\n");
    texts[1].text = STR("{\"period\":1,\"port\":1}");
    assert_plan(texts, 2, "B: remove\nC: add\n");
}

static void test_what_has_errors_is_left_as_it_is(void **state)
{
    (void)state;
    assert_plan_of("A.json", "{\"id\":\"ida\",\"port\":70000,\"period\":3}",
                   "A: leave as it is, its file has errors: period, port: 1 error in its file\n");
    assert_plan_of("tb_gateway.json", MAIN(",\"port\":\"x\"", ENTRY("A")),
                   "tb_gateway.json: leave as it is, the file has errors: 1 error\n");
}

static void test_an_entry_with_errors_concerns_no_other(void **state)
{
    struct conf_text texts[2];

    (void)state;
    texts[1] = (struct conf_text){path_of("C.json"), STR("{\"id\":\"idc\"}")};
    texts[0] = (struct conf_text){path_of("tb_gateway.json"),
                                  STR(MAIN("", ENTRY("A") "," ENTRY("missing") ",5,{}," ENTRY("C")))};
    assert_plan(texts, 2, "B: remove\nmissing: add\nC: add\n");
    /* It may be the one that runs. */
    texts[0].text = STR(MAIN("", "{\"name\":\"A\",\"type\":3},{\"configuration\":\"B.json\"}," ENTRY("C")));
    assert_plan(texts, 2,
                "A: leave as it is: its entry in the main file has errors\n"
                "B: leave as it is: its entry in the main file has errors\nC: add\n");
}

/* ---- changes ---- */

struct plant {
    struct runner main;
    struct loops loops;
    struct fleet *fleet;
    struct log log;
    struct apply *apply;
};

struct outcome {
    unsigned n;
    enum err err;
    char path[64];
    size_t n_items;
};

struct taker {
    enum err answer;
    unsigned n_taken, n_back;
    struct apply_step *step;
    const struct gateway_conf *first;
    const struct filter_conf *filter; /* of the last one */
};

static void take_outcome(void *arg, const struct apply_result *result)
{
    struct outcome *outcome = arg;

    outcome->n++;
    outcome->err = result->err;
    snprintf(outcome->path, sizeof outcome->path, "%s", result->path ? result->path : "");
    outcome->n_items = result->plan ? result->plan->n : 0;
}

static enum err take(void *arg, const struct gateway_conf *before, const struct gateway_conf *after,
                     struct apply_step *step, struct why *why)
{
    struct taker *taker = arg;

    if (taker->first && taker->first == after)
        taker->n_back++;
    else
        taker->n_taken++;
    taker->first = taker->first ? taker->first : before;
    taker->step = step;
    taker->filter = after->filter;
    return taker->answer == ERR_REFUSED ? why_set(why, ERR_REFUSED, "not like this") : taker->answer;
}

static void begin(struct plant *plant)
{
    struct apply_conf conf = {.main = &plant->main, .types = &types, .log = &plant->log};

    ctx_setup();
    *plant = (struct plant){0};
    runner_init_fake(&plant->main);
    assert_int_equal(loops_init(&plant->loops, &plant->main, 1, &(struct ctx_host){0}), ERR_OK);
    plant->fleet = fleet_new(&plant->loops);
    log_init(&plant->log, "service", LOG_LEVEL_OFF);
    conf.fleet = plant->fleet;
    conf.running = load();
    plant->apply = apply_new(&conf);
}

static void run(struct plant *plant)
{
    for (unsigned i = 0; i < 20; i++)
        loop_advance(plant->main.loop, 0);
}

static void end(struct plant *plant)
{
    apply_end(plant->apply);
    apply_free(plant->apply);
    fleet_free(plant->fleet);
    log_fini(&plant->log);
    loops_fini(&plant->loops);
    runner_join(&plant->main);
}

static bool file_has(const char *name, const char *text)
{
    autobuf struct buf content = {0};

    assert_int_equal(file_read(&content, path_of(name), 100000, NULL), ERR_OK);
    buf_add_u8(&content, 0);
    return strstr((const char *)content.p, text) != NULL;
}

static const char *const report_keys[] = {"thingsboard.reportStrategy", NULL};
static const char *const loops_keys[] = {"thingsboard.loops", NULL};
static const char changed[] =
    MAIN(",\"loops\":2,\"reportStrategy\":{\"type\":\"ON_CHANGE\"}", ENTRY("A") "," ENTRY("B"));

static void test_content_that_runs_is_written(void **state)
{
    struct plant plant;
    struct outcome outcome = {0};
    struct taker report = {.answer = ERR_BUSY}, loops = {.answer = ERR_OK};
    struct conf_text text = {path_of("tb_gateway.json"), STR_NONE};

    (void)state;
    text.text = str_from(changed);
    begin(&plant);
    apply_add_owner(plant.apply, &(struct apply_owner){.keys = report_keys, .take = take, .arg = &report});
    apply_add_owner(plant.apply, &(struct apply_owner){.keys = loops_keys, .take = take, .arg = &loops});
    apply_change(plant.apply, &text, 1, take_outcome, &outcome);
    assert_int_equal(outcome.n, 0);
    run(&plant);
    assert_int_equal(outcome.n, 0); /* an owner has not answered */
    assert_false(file_has("tb_gateway.json", "ON_CHANGE"));
    apply_answer(report.step, ERR_OK, NULL);
    run(&plant);
    assert_int_equal(outcome.n, 1);
    assert_int_equal(outcome.err, ERR_OK);
    assert_true(file_has("tb_gateway.json", "ON_CHANGE"));
    assert_int_equal(apply_running(plant.apply)->main->platform->loops, 2);
    apply_reload(plant.apply, take_outcome, &outcome); /* its own writing changes nothing */
    run(&plant);
    assert_int_equal(outcome.n, 2);
    assert_int_equal(outcome.n_items, 0);
    end(&plant);
}

static void test_what_one_owner_refuses_the_others_give_back_and_nothing_is_written(void **state)
{
    struct plant plant;
    struct outcome outcome = {0};
    struct taker report = {.answer = ERR_OK}, loops = {.answer = ERR_REFUSED};
    struct conf_text text = {path_of("tb_gateway.json"), STR_NONE};

    (void)state;
    text.text = str_from(changed);
    begin(&plant);
    apply_add_owner(plant.apply, &(struct apply_owner){.keys = report_keys, .take = take, .arg = &report});
    apply_add_owner(plant.apply, &(struct apply_owner){.keys = loops_keys, .take = take, .arg = &loops});
    apply_change(plant.apply, &text, 1, take_outcome, &outcome);
    run(&plant);
    assert_int_equal(outcome.n, 1);
    assert_int_equal(outcome.err, ERR_REFUSED);
    assert_string_equal(outcome.path, "thingsboard.loops");
    assert_int_equal(report.n_taken, 1);
    assert_int_equal(report.n_back, 1);
    assert_false(file_has("tb_gateway.json", "ON_CHANGE"));
    assert_int_equal(apply_running(plant.apply)->main->platform->loops, 0);
    end(&plant);
}

static void test_content_with_errors_changes_nothing(void **state)
{
    static const char *const wrong[] = {"{", "[]", "{\"id\":\"ida\",\"port\":70000}"};
    struct plant plant;

    (void)state;
    begin(&plant);
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        struct outcome outcome = {0};
        struct conf_text text = {path_of("A.json"), str_from(wrong[i])};

        apply_change(plant.apply, &text, 1, take_outcome, &outcome);
        run(&plant);
        assert_int_equal(outcome.n, 1);
        assert_int_equal(outcome.err, ERR_CONFIG);
        assert_true(file_has("A.json", "\"period\":1"));
    }
    end(&plant);
}

#define FILTERED(file) ",\"deviceFiltering\":{\"enable\":true,\"filterFile\":\"" file "\"}"

/* Rules that cannot be used are refused where a change names them; whatever becomes of a file, what was read from it counts. */
static void test_a_filter_stays_until_there_is_another_that_can_be_used(void **state)
{
    static const char *const keys[] = {"thingsboard.deviceFiltering", "list.json", NULL};
    struct plant plant;
    struct outcome outcome = {0};
    struct taker filter = {.answer = ERR_OK};
    struct conf_text text = {path_of("tb_gateway.json"), STR(MAIN(FILTERED("C.json"), ENTRY("A") "," ENTRY("B")))};
    const struct filter_conf *rules;

    (void)state;
    put("tb_gateway.json", MAIN(FILTERED("list.json"), ENTRY("A") "," ENTRY("B")));
    put("list.json", "{\"deny\":{\"A\":[\"bad.*\"]}}");
    begin(&plant);
    rules = apply_running(plant.apply)->filter;
    assert_non_null(rules);
    apply_add_owner(plant.apply, &(struct apply_owner){.keys = keys, .take = take, .arg = &filter});
    apply_change(plant.apply, &text, 1, take_outcome, &outcome); /* C.json is not there */
    run(&plant);
    put("C.json", "{\"deny\":{\"A\":[\"[\"]}}");
    apply_change(plant.apply, &text, 1, take_outcome, &outcome);
    run(&plant);
    assert_int_equal(outcome.n, 2);
    assert_int_equal(outcome.err, ERR_CONFIG);
    assert_string_equal(outcome.path, "thingsboard.deviceFiltering.filterFile");
    assert_int_equal(filter.n_taken, 0);
    assert_ptr_equal(apply_running(plant.apply)->filter, rules);
    put("tb_gateway.json", MAIN(FILTERED("D.json") ",\"loops\":2", ENTRY("A") "," ENTRY("B")));
    apply_reload(plant.apply, take_outcome, &outcome); /* edited by hand: the rest is taken */
    run(&plant);
    assert_int_equal(outcome.n, 3);
    assert_int_equal(apply_running(plant.apply)->main->platform->loops, 2);
    assert_ptr_equal(filter.filter, rules);
    assert_ptr_equal(apply_running(plant.apply)->filter, rules);
    end(&plant);
}

/* Each of the files is on the disk before any of it runs. */
static void test_what_cannot_be_saved_does_not_run(void **state)
{
    struct plant plant;
    struct outcome outcome = {0};
    struct taker report = {.answer = ERR_OK};
    struct conf_text texts[] = {{path_of("tb_gateway.json"), STR_NONE}, {path_of("none/A.json"), STR("{}")}};

    (void)state;
    texts[0].text = str_from(changed);
    begin(&plant);
    apply_add_owner(plant.apply, &(struct apply_owner){.keys = report_keys, .take = take, .arg = &report});
    apply_change(plant.apply, texts, 2, take_outcome, &outcome);
    run(&plant);
    assert_int_equal(outcome.n, 1);
    assert_int_equal(outcome.err, ERR_NOTFOUND);
    assert_int_equal(report.n_taken, 0);
    assert_false(file_has("tb_gateway.json", "ON_CHANGE"));
    assert_int_equal(apply_running(plant.apply)->main->platform->loops, 0);
    end(&plant); /* no other file is left: the directory can be removed */
}

/* An edited file that is refused, or was not looked at, is nothing that a change of another file waits for or brings in. */
static void test_a_change_is_of_what_it_names_alone(void **state)
{
    struct plant plant;
    struct outcome outcome = {0};
    struct taker loops = {.answer = ERR_REFUSED};
    struct conf_text text = {path_of("logs.json"), STR("{\"version\":1}")};

    (void)state;
    begin(&plant);
    apply_add_owner(plant.apply, &(struct apply_owner){.keys = loops_keys, .take = take, .arg = &loops});
    put("tb_gateway.json", changed);
    put("A.json", "{\"id\":\"ida\",\"port\":70000}");
    apply_reload(plant.apply, take_outcome, &outcome);
    run(&plant);
    assert_int_equal(loops.n_taken, 1);
    apply_change(plant.apply, &text, 1, take_outcome, &outcome);
    run(&plant);
    assert_int_equal(outcome.n, 2);
    assert_int_equal(outcome.err, ERR_OK);
    assert_int_equal(outcome.n_items, 1);
    assert_int_equal(loops.n_taken, 1);
    assert_true(file_has("logs.json", "version"));
    assert_true(file_has("tb_gateway.json", "loops")); /* somebody's edit stays */
    end(&plant);
}

/* The main file is wrong in places that nobody has touched since the start. */
static void test_what_was_wrong_before_stands_in_nobodys_way(void **state)
{
    static const char wrong[] = MAIN(",\"port\":\"x\"", ENTRY("A") "," ENTRY("missing") ",{\"name\":7}," ENTRY("B"));
    static const char added[] =
        MAIN(",\"port\":\"x\"", ENTRY("A") "," ENTRY("missing") ",{\"name\":7}," ENTRY("B") "," ENTRY("D"));
    static const char worse[] = MAIN(",\"port\":\"y\"", ENTRY("A") "," ENTRY("missing") ",{\"name\":7}," ENTRY("B"));
    struct conf_text texts[] = {{path_of("tb_gateway.json"), str_from(added)},
                                {path_of("D.json"), STR("{\"period\":0}")}};
    struct problems problems;
    struct gateway_conf *before, *after;
    struct plan *plan;
    autobuf struct buf text = {0};

    (void)state;
    put("tb_gateway.json", wrong);
    problems_init(&problems);
    before = gateway_conf_load(dir, &types, &problems);
    after = gateway_conf_load_again(before, texts, 2, &types, &problems);
    plan = plan_new(before, after, NULL, NULL);
    plan_add_text(&text, plan);
    assert_true(str_eq(buf_str(&text), STR("D: add\n")));
    for (const struct problem *problem = problems.first; problem; problem = problem->next)
        assert_true(problem->severity != CONF_ERROR || plan_is_old_problem(before, after, problem));
    plan_free(plan);
    gateway_conf_free(after);
    texts[0].text = str_from(worse);
    problems_fini(&problems);
    problems_init(&problems);
    after = gateway_conf_load_again(before, texts, 1, &types, &problems);
    for (const struct problem *problem = problems.first; problem; problem = problem->next)
        assert_true(problem->severity != CONF_ERROR ||
                    plan_is_old_problem(before, after, problem) == !strstr(problem->path, "port"));
    gateway_conf_free(after);
    gateway_conf_free(before);
    problems_fini(&problems);
}

static void test_a_waiting_change_gives_way_to_a_newer_one_and_reloads_are_one(void **state)
{
    struct plant plant;
    struct outcome first = {0}, second = {0}, third = {0}, reloads = {0}, preview = {0};
    struct conf_text text = {path_of("tb_gateway.json"), STR_NONE};

    (void)state;
    text.text = str_from(changed);
    begin(&plant);
    apply_change(plant.apply, &text, 1, take_outcome, &first);
    apply_change(plant.apply, &text, 1, take_outcome, &second);
    apply_change(plant.apply, &text, 1, take_outcome, &third);
    apply_reload(plant.apply, take_outcome, &reloads);
    apply_reload(plant.apply, take_outcome, &reloads);
    apply_preview(plant.apply, take_outcome, &preview);
    run(&plant);
    assert_int_equal(first.n + second.n + third.n, 3);
    assert_int_equal(second.err, ERR_CANCELLED);
    assert_int_equal(third.err, ERR_OK);
    assert_int_equal(reloads.n, 2);
    assert_int_equal(preview.n, 1);
    assert_int_equal(preview.n_items, 0);
    end(&plant);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_plan_is_the_least_that_does_it, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_a_connector_is_known_by_its_id_when_its_name_changes, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(test_what_has_errors_is_left_as_it_is, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_an_entry_with_errors_concerns_no_other, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_what_was_wrong_before_stands_in_nobodys_way, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_content_that_runs_is_written, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_what_one_owner_refuses_the_others_give_back_and_nothing_is_written,
                                        make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_a_filter_stays_until_there_is_another_that_can_be_used, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_saved_does_not_run, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_a_change_is_of_what_it_names_alone, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_content_with_errors_changes_nothing, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_a_waiting_change_gives_way_to_a_newer_one_and_reloads_are_one, make_dir,
                                        remove_dir),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
