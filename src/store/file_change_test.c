/* SPDX-License-Identifier: Apache-2.0 */
/* What a change of the storage while the gateway runs asks of the file store: other limits, an end of appending, a directory opened
 * beside a loop that runs. */
#include "store/file_plant.h"

#include <pthread.h>

static void settled(void *arg)
{
    ++*(unsigned *)arg;
}

static void acknowledge_all(void)
{
    unsigned n;

    acknowledge(read_up_to(64 * 1024, UINT64_MAX, &n));
}

/* --- the end of appending ------------------------------------------------------------------------------------------------ */

static void test_a_store_is_settled_when_every_batch_is_answered(void **state)
{
    unsigned n_settled = 0;

    (void)state;
    begin_test();
    open_store();
    append_from("settle", 3, 60, true); /* in the mailbox, and no more */
    store_settle(the_store, settled, &n_settled);
    assert_int_equal(n_settled, 0);
    loop_advance(the_loop, 0);
    assert_int_equal(n_ok, 1);
    assert_int_equal(n_settled, 1);
    loop_advance(the_loop, 60000);
    assert_int_equal(n_settled, 1);
    assert_int_equal(store_stats(the_store).n_events, 3);
    end_test();
}

static void test_a_batch_that_waits_for_room_is_waited_for(void **state)
{
    unsigned n_settled = 0;

    (void)state;
    begin_test();
    the_conf.max_events = 4;
    open_store();
    append(4);
    append(2);
    store_settle(the_store, settled, &n_settled);
    loop_advance(the_loop, 60000);
    assert_int_equal(n_settled, 0);
    acknowledge_all();
    loop_advance(the_loop, 1000);
    assert_int_equal(n_ok, 2);
    assert_int_equal(n_settled, 1);
    end_test();
}

static void test_on_a_failing_disk_a_store_settles_once_it_can_be_written(void **state)
{
    unsigned n_settled = 0;

    (void)state;
    begin_test();
    open_store();
    faults[CALL_WRITE] = (struct fault){.number = EIO};
    append(2);
    append(2);
    store_settle(the_store, settled, &n_settled);
    loop_advance(the_loop, 20000);
    assert_int_equal(n_settled, 0);
    faults[CALL_WRITE] = (struct fault){0};
    loop_advance(the_loop, 10000);
    assert_int_equal(n_ok, 2);
    assert_int_equal(n_settled, 1);
    end_test();
}

static void test_stopping_settles(void **state)
{
    unsigned n_settled = 0;

    (void)state;
    begin_test();
    the_conf.max_events = 4;
    open_store();
    append(4);
    append(2);
    store_settle(the_store, settled, &n_settled);
    stop_store();
    assert_int_equal(n_cancelled, 1);
    assert_int_equal(n_settled, 1);
    end_test();
}

/* After a failed sync the state alone says where the file ends: its name must be durable too. */
static void test_the_name_of_a_state_that_cuts_a_segment_is_synced(void **state)
{
    unsigned n_before;

    (void)state;
    begin_test();
    open_store();
    append(2);
    loop_advance(the_loop, 1000);
    n_before = n_calls[CALL_SYNC_DIR];
    append(2);
    loop_advance(the_loop, 1000);
    assert_int_equal(n_calls[CALL_SYNC_DIR], n_before); /* a state that can be lost is not waited for */
    faults[CALL_SYNC] = (struct fault){.number = EIO, .times = 1};
    append(2);
    loop_advance(the_loop, 5000);
    assert_int_equal(n_ok, 3);
    assert_true(n_calls[CALL_SYNC_DIR] >= n_before + 2); /* of the new segment, and of the state */
    end_test();
}

/* --- other limits ---------------------------------------------------------------------------------------------------------- */

static void tune(uint64_t max_events, enum overflow overflow)
{
    struct file_conf conf = the_conf;

    conf.max_events = max_events;
    conf.overflow = overflow;
    store_file_tune(the_store, &conf);
    loop_advance(the_loop, 0);
}

static void test_more_room_lets_in_what_waits(void **state)
{
    (void)state;
    begin_test();
    the_conf.max_events = 4;
    open_store();
    append(4);
    append(2);
    append(2);
    assert_true(store_stats(the_store).is_blocked);
    tune(6, OVERFLOW_BLOCK);
    assert_int_equal(n_ok, 2);
    assert_true(store_stats(the_store).is_blocked);
    tune(100, OVERFLOW_BLOCK);
    assert_int_equal(n_ok, 3);
    assert_false(store_stats(the_store).is_blocked);
    assert_int_equal(read_all(), 8);
    end_test();
}

static void test_less_room_loses_nothing_and_holds_back_what_comes(void **state)
{
    (void)state;
    begin_test();
    the_conf.max_events = 100;
    open_store();
    append(20);
    tune(10, OVERFLOW_BLOCK);
    append(5);
    assert_int_equal(n_ok, 1);
    assert_int_equal(store_stats(the_store).n_events, 20);
    acknowledge_all();
    loop_advance(the_loop, 1000);
    assert_int_equal(n_ok, 2);
    assert_int_equal(store_stats(the_store).n_dropped_events, 0);
    end_test();
}

static void test_what_waits_is_treated_by_the_new_overflow_rule(void **state)
{
    (void)state;
    begin_test();
    the_conf.max_events = 32;
    the_conf.segment_events = 2;
    open_store();
    for (unsigned i = 0; i < 16; i++)
        append(2);
    append(2);
    assert_true(store_stats(the_store).is_blocked);
    tune(32, OVERFLOW_DROP_NEWEST);
    assert_int_equal(n_full, 1);
    assert_false(store_stats(the_store).is_blocked);
    assert_balanced();
    end_test();
}

static void test_an_age_limit_can_come_and_go(void **state)
{
    struct file_conf conf;

    (void)state;
    begin_test();
    open_store();
    append(4);
    conf = the_conf;
    conf.max_age_ms = 10 * 60 * 1000;
    conf.age_check_ms = 1000;
    store_file_tune(the_store, &conf);
    loop_advance(the_loop, 5 * 60 * 1000);
    assert_int_equal(store_stats(the_store).n_events, 4);
    conf.max_age_ms = 0;
    store_file_tune(the_store, &conf);
    loop_advance(the_loop, 60 * 60 * 1000);
    assert_int_equal(store_stats(the_store).n_events, 4);
    end_test();
}

/* --- beside loops that run ---------------------------------------------------------------------------------------------------- */

struct opener {
    pthread_t thread;
    struct loop *loop; /* the reader's; runs */
    struct store *store;
    enum err err;
    struct why why;
};

static void *open_there(void *arg)
{
    static const struct store_events no_events;
    struct opener *o = arg;
    struct file_conf conf = {.path = dir_path, .log = &quiet};

    o->err = store_file_new(&o->store, o->loop, &conf, &no_events, NULL, &o->why);
    return NULL;
}

static void *run_loop(void *arg)
{
    loop_run(arg);
    return NULL;
}

struct reading { /* on the reader's loop */
    struct mailbox box;
    struct node node;
    struct store *store;
    struct timer again;
    unsigned n;
};

static void read_on(void *arg)
{
    struct reading *r = arg;
    struct chunk *chunk;

    while ((chunk = store_read(r->store, 0, 64 * 1024))) {
        for (const uint8_t *p = chunk->bytes; p < chunk->bytes + chunk->n;
             p += ((const struct record *)(const void *)p)->size)
            r->n++;
        store_ack(r->store, 0, chunk->to);
        chunk_release(chunk);
    }
    if (r->n < 500)
        timer_start(&r->again, 1);
    else
        loop_stop(r->box.loop);
}

static void begin_reading(void *arg, UNUSED struct node *nodes)
{
    read_on(arg);
}

static void test_a_full_directory_is_opened_by_another_thread_while_the_readers_loop_runs(void **state)
{
    struct opener o = {0};
    struct reading r = {0};
    pthread_t thread;

    (void)state;
    begin_test();
    open_store();
    for (unsigned i = 0; i < 50; i++)
        append(10);
    stop_store();
    assert_int_equal(loop_new(&o.loop, "reader"), ERR_OK);
    mailbox_init(&r.box, o.loop, begin_reading, &r);
    timer_init(&r.again, o.loop, read_on, &r);
    assert_int_equal(pthread_create(&thread, NULL, run_loop, o.loop), 0);
    assert_int_equal(pthread_create(&o.thread, NULL, open_there, &o), 0);
    pthread_join(o.thread, NULL);
    assert_int_equal(o.err, ERR_OK);
    assert_int_equal(store_stats(o.store).n_events, 500);
    r.store = o.store;
    mailbox_post(&r.box, &r.node);
    pthread_join(thread, NULL);
    assert_int_equal(r.n, 500);
    store_free(o.store);
    loop_free(o.loop);
    end_test();
}

static void test_a_directory_that_is_in_use_is_refused_beside_a_running_loop(void **state)
{
    struct opener o = {0};
    pthread_t thread;

    (void)state;
    begin_test();
    open_store();
    assert_int_equal(loop_new(&o.loop, "reader"), ERR_OK);
    assert_int_equal(pthread_create(&thread, NULL, run_loop, o.loop), 0);
    assert_int_equal(pthread_create(&o.thread, NULL, open_there, &o), 0);
    pthread_join(o.thread, NULL);
    assert_int_equal(o.err, ERR_BUSY);
    loop_stop(o.loop);
    pthread_join(thread, NULL);
    loop_free(o.loop);
    end_test();
}

/* Both know where the device's newest record of theirs is, so neither lets newer data overtake older. */
static void test_two_stores_in_turn_do_not_disturb_each_others_lanes(void **state)
{
    struct store *former;
    struct file_conf conf;
    static const struct store_events no_events;
    char other[120];
    struct why why = {0};
    struct chunk *chunk;
    unsigned n;

    (void)state;
    begin_test();
    open_store();
    append_from("lanes", 10, 60, true);
    loop_advance(the_loop, 0);
    store_split(the_store);
    loop_advance(the_loop, 0);
    former = the_store;
    snprintf(other, sizeof other, "%s/other", dir_path);
    conf = the_conf;
    conf.path = other;
    conf.slot = 1;
    assert_int_equal(store_file_new(&the_store, the_loop, &conf, &no_events, NULL, &why), ERR_OK);
    append_from("lanes", 1, 60, true); /* to the new one, while the former still appends */
    loop_advance(the_loop, 0);
    struct store *newer = the_store;

    the_store = former;
    append_from("lanes", 1, 60, true);
    loop_advance(the_loop, 0);
    assert_null(store_read(former, LANE_LIVE, 64 * 1024));
    for (n = 0; (chunk = store_read(former, LANE_BACKLOG, 64 * 1024)); chunk_release(chunk), loop_advance(the_loop, 0))
        for (const uint8_t *p = chunk->bytes; p < chunk->bytes + chunk->n;
             p += ((const struct record *)(const void *)p)->size)
            n++;
    assert_int_equal(n, 11);
    store_free(newer);
    end_test();
}

int main(void)
{
#define TEST(name) cmocka_unit_test(name)
    const struct CMUnitTest tests[] = {
        TEST(test_a_store_is_settled_when_every_batch_is_answered),
        TEST(test_a_batch_that_waits_for_room_is_waited_for),
        TEST(test_on_a_failing_disk_a_store_settles_once_it_can_be_written),
        TEST(test_stopping_settles),
        TEST(test_the_name_of_a_state_that_cuts_a_segment_is_synced),
        TEST(test_more_room_lets_in_what_waits),
        TEST(test_less_room_loses_nothing_and_holds_back_what_comes),
        TEST(test_what_waits_is_treated_by_the_new_overflow_rule),
        TEST(test_an_age_limit_can_come_and_go),
        TEST(test_a_full_directory_is_opened_by_another_thread_while_the_readers_loop_runs),
        TEST(test_a_directory_that_is_in_use_is_refused_beside_a_running_loop),
        TEST(test_two_stores_in_turn_do_not_disturb_each_others_lanes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
