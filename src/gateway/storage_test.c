/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/storage.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/slab.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a gateway of two loops, without connectors; the test is the uplink ---- */

#define MEMORY "{\"type\":\"memory\",\"max_records_count\":4}"

static const struct conf_type *type_of(const char *type, struct why *why)
{
    (void)type;
    why_set(why, ERR_NOTFOUND, "there is no such connector type");
    return NULL;
}

static void each_type(void (*fn)(void *arg, const char *type), void *arg)
{
    (void)fn;
    (void)arg;
}

static const struct gateway_types types = {type_of, each_type};

struct plant {
    struct runner main;
    struct loops loops;
    struct fleet *fleet;
    struct log log;
    struct apply *apply;
    struct storage *storage;
    struct store *reading; /* as the uplink knows it */
    bool is_down;
    bool is_under_way; /* the uplink has something of it */
    unsigned n_changed;
    char books[200];
    unsigned n_outcomes;
    enum err outcome;
    char reason[300];
};

static char dir[64];
static _Atomic(unsigned) n_answers, n_ok, n_cancelled; /* a store on its own thread counts beside the loop */
static int64_t next_ts;

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
    snprintf(dir, sizeof dir, "/tmp/iotgw-storage-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    char command[100];

    (void)state;
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command);
}

static void on_answer(struct batch *batch)
{
    n_answers++;
    n_ok += batch->result == ERR_OK;
    n_cancelled += batch->result == ERR_CANCELLED;
    mem_free(batch);
}

static void attach(void *arg, struct store *store)
{
    ((struct plant *)arg)->reading = store;
}

static bool is_drained(void *arg)
{
    return !((struct plant *)arg)->is_under_way;
}

static bool is_up(void *arg)
{
    return !((struct plant *)arg)->is_down;
}

static bool is_taking_over(void *arg)
{
    (void)arg;
    return false;
}

static void changed(void *arg, const char *path)
{
    struct plant *plant = arg;

    plant->n_changed++;
    snprintf(plant->books, sizeof plant->books, "%s", path ? path : "memory");
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

/* storage: its section; %s in it: the directory of the test. */
static void write_main(const char *storage)
{
    autobuf struct buf text = {0};

    buf_add_z(&text, "{\"thingsboard\":{\"host\":\"h\",\"security\":{\"accessToken\":\"t\"}},\"storage\":");
    for (const char *at = storage; *at; at++) {
        if (at[0] == '%') {
            buf_add_z(&text, dir);
            at++;
        } else {
            buf_add_u8(&text, (uint8_t)*at);
        }
    }
    buf_add_z(&text, ",\"connectors\":[]}");
    buf_add_u8(&text, 0);
    put("tb_gateway.json", (const char *)text.p);
}

static void begin(struct plant *plant, const char *storage)
{
    static const struct store_events events;
    struct apply_conf conf = {.main = &plant->main, .types = &types, .log = &plant->log};
    struct storage_conf_of of = {.main = &plant->main,
                                 .loops = &plant->loops,
                                 .log = &plant->log,
                                 .events = &events,
                                 .attach = attach,
                                 .is_drained = is_drained,
                                 .is_up = is_up,
                                 .is_taking_over = is_taking_over,
                                 .changed = changed,
                                 .arg = plant};
    struct why why = {0};

    n_answers = n_ok = n_cancelled = 0;
    next_ts = 0;
    write_main(storage);
    ctx_setup();
    store_answer_fn = on_answer;
    *plant = (struct plant){0};
    runner_init_fake(&plant->main);
    assert_int_equal(loops_init(&plant->loops, &plant->main, 2, &(struct ctx_host){0}), ERR_OK);
    plant->fleet = fleet_new(&plant->loops);
    log_init(&plant->log, "service", LOG_LEVEL_OFF);
    conf.fleet = plant->fleet;
    conf.running = load();
    plant->apply = apply_new(&conf);
    of.uplink_runner = &plant->loops.all[0]->runner;
    if (storage_new(&plant->storage, &of, conf.running, &why))
        fail_msg("%s", why_text(&why));
    storage_add_owner(plant->storage, plant->apply);
    loops_set_store(&plant->loops, storage_writing(plant->storage));
    plant->reading = storage_reading(plant->storage);
}

static void pass(struct plant *plant, uint64_t ms)
{
    for (unsigned i = 0; i < 5; i++, ms = 0) {
        loop_advance(plant->main.loop, ms);
        for (size_t j = 0; j < plant->loops.n; j++)
            loop_advance(plant->loops.all[j]->runner.loop, ms);
    }
}

/* A durable store has a thread of its own. */
#define WAIT(plant, condition)                                                                                         \
    do {                                                                                                               \
        for (unsigned i_ = 0; !(condition) && i_ < 5000; i_++) {                                                       \
            pass(plant, 1);                                                                                            \
            usleep(1000);                                                                                              \
        }                                                                                                              \
        assert_true(condition);                                                                                        \
    } while (0)

static void is_stopped(void *arg)
{
    *(bool *)arg = true;
}

static void end(struct plant *plant)
{
    bool has_stopped = false;

    apply_end(plant->apply);
    storage_end(plant->storage);
    storage_stop(plant->storage, is_stopped, &has_stopped);
    WAIT(plant, has_stopped);
    pass(plant, 0);
    storage_free(plant->storage);
    apply_free(plant->apply);
    fleet_free(plant->fleet);
    log_fini(&plant->log);
    loops_fini(&plant->loops);
    runner_join(&plant->main);
    assert_int_equal(slab_in_use(), 0);
}

static void take_outcome(void *arg, const struct apply_result *result)
{
    struct plant *plant = arg;

    plant->n_outcomes++;
    plant->outcome = result->err;
    snprintf(plant->reason, sizeof plant->reason, "%s", result->err ? why_text(&result->why) : "");
}

static enum err change(struct plant *plant, const char *storage)
{
    unsigned n = plant->n_outcomes;

    write_main(storage);
    apply_reload(plant->apply, take_outcome, plant);
    WAIT(plant, plant->n_outcomes > n);
    return plant->outcome;
}

/* n events of one value, appended by the loop's connectors. */
static void emit(struct plant *plant, size_t i_loop, unsigned n)
{
    struct device *dev = device_get(STR("d"));
    struct batch *batch = mem_zero(sizeof *batch);
    size_t size = record_size(dev->name_n, 0, 8);

    batch->bytes = slab_get();
    batch->cap = SLAB_SIZE;
    batch->can_wait = true;
    batch->n_events = batch->n_values = n;
    for (unsigned i = 0; i < n; i++) {
        struct record *record = (struct record *)(void *)(batch->bytes + batch->n_bytes);

        *record = (struct record){.ts = next_ts++,
                                  .dev = dev->number,
                                  .n_values = 1,
                                  .flags = RECORD_END,
                                  .kind = RECORD_TELEMETRY,
                                  .name_n = dev->name_n};
        memcpy(record + 1, dev->name, dev->name_n);
        memcpy((char *)(record + 1) + dev->name_n, "\"v\":1234", 8);
        record_seal(record, 8);
        batch->n_bytes += (uint32_t)size;
    }
    store_append(plant->loops.all[i_loop]->host.store, batch);
}

/* What the platform takes now, at most max; each record must be the next one. */
static unsigned deliver_up_to(struct plant *plant, int64_t *expected, unsigned max)
{
    struct chunk *chunk;
    unsigned n = 0;

    while (n < max && (chunk = store_read(plant->reading, LANE_LIVE, 64 * 1024))) {
        for (const uint8_t *p = chunk->bytes; p < chunk->bytes + chunk->n;) {
            const struct record *record = (const struct record *)(const void *)p;

            assert_int_equal(record->ts, (*expected)++);
            p += record->size;
            n++;
        }
        store_ack(plant->reading, LANE_LIVE, chunk->to);
        chunk_release(chunk);
    }
    return n;
}

static unsigned deliver(struct plant *plant, int64_t *expected)
{
    return deliver_up_to(plant, expected, UINT_MAX);
}

static bool has_note(void)
{
    return access(path_of("former_storage.json"), F_OK) == 0;
}

#define FILES(name)                                                                                                    \
    "{\"type\":\"file\",\"data_folder_path\":\"%d/" name "/\",\"max_file_count\":10,\"max_records_per_file\":1000}"

/* ---- the barrier ---- */

static void test_a_former_storage_stays_until_what_was_on_its_way_there_is_delivered(void **state)
{
    struct plant plant;
    int64_t expected = 0;

    (void)state;
    begin(&plant, MEMORY);
    emit(&plant, 0, 4);
    emit(&plant, 1, 2); /* there is no room for it */
    assert_int_equal(change(&plant, FILES("a")), ERR_OK);
    struct store *former = plant.reading;

    assert_ptr_not_equal(plant.loops.all[0]->host.store, former);
    assert_ptr_not_equal(plant.loops.all[1]->host.store, former);
    emit(&plant, 1, 3);
    WAIT(&plant, n_ok == 2);
    assert_int_equal(storage_stats(plant.storage).n_events, 7);
    pass(&plant, 1000);
    assert_ptr_equal(plant.reading, former);
    assert_int_equal(deliver_up_to(&plant, &expected, 4), 4); /* now there is room for the rest */
    WAIT(&plant, n_ok == 3);
    pass(&plant, 1000);
    assert_ptr_equal(plant.reading, former);
    assert_int_equal(deliver(&plant, &expected), 2);
    WAIT(&plant, plant.reading != former);
    WAIT(&plant, expected == 9 || deliver(&plant, &expected));
    assert_int_equal(expected, 9);
    assert_int_equal(n_cancelled, 0);
    end(&plant);
}

static void test_a_former_storage_stays_while_the_uplink_has_something_of_it(void **state)
{
    struct plant plant;
    int64_t expected = 0;

    (void)state;
    begin(&plant, MEMORY);
    emit(&plant, 0, 4);
    assert_int_equal(change(&plant, FILES("a")), ERR_OK);
    struct store *former = plant.reading;

    plant.is_under_way = true;
    assert_int_equal(deliver(&plant, &expected), 4);
    pass(&plant, 2000);
    assert_ptr_equal(plant.reading, former);
    plant.is_under_way = false;
    WAIT(&plant, plant.reading != former);
    end(&plant);
}

static void test_no_further_change_is_taken_while_batches_are_on_their_way_to_a_former_storage(void **state)
{
    struct plant plant;
    int64_t expected = 0;

    (void)state;
    begin(&plant, MEMORY);
    emit(&plant, 0, 4);
    emit(&plant, 0, 2);
    assert_int_equal(change(&plant, FILES("a")), ERR_OK);
    assert_int_equal(change(&plant, FILES("b")), ERR_REFUSED);
    assert_non_null(strstr(plant.reason, "memory, the former storage, is full"));
    deliver(&plant, &expected);
    WAIT(&plant, n_ok == 2);
    pass(&plant, 0);
    assert_int_equal(change(&plant, FILES("b")), ERR_OK);
    end(&plant);
}

/* ---- the note and the books ---- */

static void test_the_note_goes_when_the_former_storage_was_closed_empty(void **state)
{
    struct plant plant;
    int64_t expected = 0;

    (void)state;
    begin(&plant, FILES("a"));
    emit(&plant, 0, 5);
    WAIT(&plant, n_ok == 1);
    assert_int_equal(change(&plant, FILES("b")), ERR_OK);
    assert_true(has_note());
    assert_string_equal(plant.books, path_of("b/"));
    emit(&plant, 0, 5);
    WAIT(&plant, n_ok == 2);
    pass(&plant, 5000);
    assert_true(has_note());
    WAIT(&plant, expected == 10 || (deliver(&plant, &expected), expected == 10));
    WAIT(&plant, !has_note());
    assert_int_equal(plant.n_changed, 2); /* the books are of one storage again */
    assert_int_equal(storage_kept(plant.storage).n_acked_values, 5);
    assert_int_equal(storage_stats(plant.storage).n_acked_values, 10);
    end(&plant);
    assert_int_equal(access(path_of("a/state"), F_OK), 0);
}

static void test_after_a_restart_former_storages_are_delivered_first(void **state)
{
    struct plant plant;
    int64_t expected = 0;

    (void)state;
    begin(&plant, FILES("a"));
    emit(&plant, 0, 5);
    WAIT(&plant, n_ok == 1);
    assert_int_equal(change(&plant, FILES("b")), ERR_OK);
    emit(&plant, 0, 5);
    WAIT(&plant, n_ok == 2);
    end(&plant);
    begin(&plant, FILES("b"));
    assert_int_equal(storage_stats(plant.storage).n_events, 10);
    assert_true(has_note());
    WAIT(&plant, (deliver(&plant, &expected), expected == 10));
    WAIT(&plant, !has_note());
    end(&plant);
}

/* The program died between the change and the writing of the configuration. */
static void test_a_new_storage_that_the_configuration_does_not_name_yet_is_found_again(void **state)
{
    struct plant plant;
    int64_t expected = 0;

    (void)state;
    begin(&plant, FILES("a"));
    emit(&plant, 0, 5);
    WAIT(&plant, n_ok == 1);
    assert_int_equal(change(&plant, FILES("b")), ERR_OK);
    emit(&plant, 0, 5);
    WAIT(&plant, n_ok == 2);
    end(&plant);
    begin(&plant, FILES("a"));
    assert_int_equal(storage_stats(plant.storage).n_events, 10);
    expected = 5;
    WAIT(&plant, (deliver(&plant, &expected), expected == 10));
    expected = 0;
    WAIT(&plant, (deliver(&plant, &expected), expected == 5));
    WAIT(&plant, !has_note());
    end(&plant);
}

static void test_a_former_storage_that_cannot_be_opened_stays_in_the_note(void **state)
{
    struct plant plant;
    autobuf struct buf text = {0};

    (void)state;
    put("no", "a file is no directory");
    put("former_storage.json", "[{\"type\":\"file\",\"data_folder_path\":\"/proc/nowhere\"},"
                               "{\"type\":\"unheard\"}]");
    begin(&plant, MEMORY);
    assert_int_equal(change(&plant, FILES("a")), ERR_OK);
    WAIT(&plant, plant.n_changed == 2);
    pass(&plant, 0);
    assert_int_equal(file_read(&text, path_of("former_storage.json"), 10000, NULL), ERR_OK);
    buf_add_u8(&text, 0);
    assert_string_equal((const char *)text.p,
                        "[{\"type\":\"file\",\"data_folder_path\":\"/proc/nowhere\"},{\"type\":\"unheard\"}]");
    end(&plant);
}

/* ---- what is taken, and what not ---- */

static void test_a_storage_that_cannot_be_opened_changes_nothing(void **state)
{
    struct plant plant;

    (void)state;
    put("no", "a file is no directory");
    begin(&plant, MEMORY);
    struct store *before = storage_writing(plant.storage);

    assert_int_not_equal(change(&plant, FILES("no/x")), ERR_OK);
    pass(&plant, 0);
    assert_ptr_equal(storage_writing(plant.storage), before);
    assert_ptr_equal(plant.loops.all[1]->host.store, before);
    assert_false(has_note());
    assert_int_equal(plant.n_changed, 0);
    assert_int_equal(change(&plant, FILES("a")), ERR_OK);
    end(&plant);
}

static void test_other_limits_of_the_same_storage_hold_at_once(void **state)
{
    struct plant plant;

    (void)state;
    begin(&plant, MEMORY);
    struct store *before = storage_writing(plant.storage);

    emit(&plant, 0, 4);
    emit(&plant, 0, 4);
    assert_int_equal(n_ok, 1);
    assert_int_equal(change(&plant, "{\"type\":\"memory\",\"max_records_count\":8}"), ERR_OK);
    assert_int_equal(n_ok, 2);
    assert_ptr_equal(storage_writing(plant.storage), before);
    assert_int_equal(change(&plant, FILES("a")), ERR_OK);
    before = storage_writing(plant.storage);
    emit(&plant, 0, 4);
    WAIT(&plant, n_ok == 3);
    assert_int_equal(
        change(&plant,
               "{\"type\":\"file\",\"data_folder_path\":\"%d/./a\",\"max_file_count\":1,\"max_records_per_file\":4,"
               "\"overflow\":\"drop_newest\"}"),
        ERR_OK);
    assert_ptr_equal(storage_writing(plant.storage), before);
    emit(&plant, 0, 4);
    WAIT(&plant, n_answers == 4);
    assert_int_equal(n_ok, 3);
    end(&plant);
}

static void test_a_directory_in_use_is_not_given_to_another_type(void **state)
{
    struct plant plant;

    (void)state;
    begin(&plant, FILES("a"));
    assert_int_equal(change(&plant, "{\"type\":\"sqlite\",\"data_file_path\":\"%d/a/\"}"), ERR_REFUSED);
    assert_non_null(strstr(plant.reason, "is in use by a storage of another type"));
    end(&plant);
}

static void test_a_storage_that_still_holds_data_does_not_become_the_newest_again(void **state)
{
    struct plant plant;
    int64_t expected = 0;

    (void)state;
    begin(&plant, FILES("a"));
    emit(&plant, 0, 5);
    WAIT(&plant, n_ok == 1);
    assert_int_equal(change(&plant, FILES("b")), ERR_OK);
    assert_int_equal(change(&plant, FILES("a")), ERR_REFUSED);
    assert_non_null(strstr(plant.reason, "has to be delivered first"));
    WAIT(&plant, (deliver(&plant, &expected), expected == 5));
    WAIT(&plant, plant.n_changed == 2);
    pass(&plant, 0);
    assert_int_equal(change(&plant, FILES("a")), ERR_OK);
    end(&plant);
}

/* ---- the end ---- */

static void test_memory_behind_a_former_storage_is_reached_at_the_end_if_time_allows(void **state)
{
    struct plant plant;
    int64_t expected = 0;
    bool is_over = false;

    (void)state;
    begin(&plant, FILES("a"));
    emit(&plant, 0, 5);
    WAIT(&plant, n_ok == 1);
    assert_int_equal(change(&plant, "{\"type\":\"memory\"}"), ERR_OK);
    assert_true(storage_is_volatile(plant.storage));
    emit(&plant, 0, 5);
    storage_drain(plant.storage, 5000, is_stopped, &is_over);
    assert_false(is_over);
    WAIT(&plant, (deliver(&plant, &expected), expected == 10));
    WAIT(&plant, is_over);
    end(&plant);
}

static void test_the_wait_for_former_storages_has_an_end(void **state)
{
    struct plant plant;
    bool is_over = false;

    (void)state;
    begin(&plant, FILES("a"));
    emit(&plant, 0, 5);
    WAIT(&plant, n_ok == 1);
    assert_int_equal(change(&plant, "{\"type\":\"memory\"}"), ERR_OK);
    storage_drain(plant.storage, 5000, is_stopped, &is_over);
    pass(&plant, 4000);
    assert_false(is_over);
    pass(&plant, 2000);
    assert_true(is_over);
    is_over = false;
    plant.is_down = true; /* without a session nothing is to be waited for */
    storage_drain(plant.storage, 5000, is_stopped, &is_over);
    assert_false(is_over);
    pass(&plant, 1);
    assert_true(is_over);
    end(&plant);
    assert_true(has_note());
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(test_a_former_storage_stays_until_what_was_on_its_way_there_is_delivered),
        TEST(test_a_former_storage_stays_while_the_uplink_has_something_of_it),
        TEST(test_no_further_change_is_taken_while_batches_are_on_their_way_to_a_former_storage),
        TEST(test_the_note_goes_when_the_former_storage_was_closed_empty),
        TEST(test_after_a_restart_former_storages_are_delivered_first),
        TEST(test_a_new_storage_that_the_configuration_does_not_name_yet_is_found_again),
        TEST(test_a_former_storage_that_cannot_be_opened_stays_in_the_note),
        TEST(test_a_storage_that_cannot_be_opened_changes_nothing),
        TEST(test_other_limits_of_the_same_storage_hold_at_once),
        TEST(test_a_directory_in_use_is_not_given_to_another_type),
        TEST(test_a_storage_that_still_holds_data_does_not_become_the_newest_again),
        TEST(test_memory_behind_a_former_storage_is_reached_at_the_end_if_time_allows),
        TEST(test_the_wait_for_former_storages_has_an_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
