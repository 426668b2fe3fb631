/* SPDX-License-Identifier: Apache-2.0 */
#include "store/file_plant.h"

#include <pthread.h>
#include <stdatomic.h>

static void burst(unsigned n_batches)
{
    for (unsigned i = 0; i < n_batches; i++) {
        append_from(i % 2 ? "drop/a" : "drop/b", 100, 60, i % 3 != 0);
        if (i % 5 == 0)
            loop_advance(the_loop, 0);
    }
    loop_advance(the_loop, 0);
}

static void begin_dropping(uint64_t max_events, uint64_t segment_events)
{
    begin_test();
    the_conf.max_events = max_events;
    the_conf.segment_events = segment_events;
    the_conf.overflow = OVERFLOW_DROP_OLDEST;
    open_store();
}

static uint64_t first_read(uint64_t from)
{
    while (from < n_made && !was_read[from])
        from++;
    return from;
}

static void test_what_only_stands_ready_is_dropped_like_the_rest_and_the_newest_stays(void **state)
{
    unsigned n;

    (void)state;
    begin_dropping(1000, 100);
    burst(50);
    struct store_stats stats = store_stats(the_store);

    assert_int_equal(n_ok, 50);
    assert_int_equal(n_full, 0);
    assert_in_range(stats.n_events, 800, 1000);
    assert_int_equal(stats.n_dropped_events, 5000 - stats.n_events);
    assert_true(stats.oldest_ms > 0);
    assert_balanced();
    acknowledge(read_up_to(64 * 1024, UINT64_MAX, &n));
    assert_int_equal(n, stats.n_events);
    for (uint64_t i = 0; i < 5000; i++)
        assert_int_equal(was_read[i], i >= 5000 - stats.n_events);
    append(3); /* the reader is told of what is new */
    assert_int_equal(read_all(), 3);
    end_test();
}

static void test_what_was_read_stays_with_its_segment_and_of_the_rest_the_newest(void **state)
{
    struct store_stats stats;
    uint64_t pos;
    unsigned n;

    (void)state;
    begin_dropping(1000, 100);
    burst(3);
    pos = read_up_to(5000, 150, &n);
    assert_in_range(n, 150, 200);
    burst(50);
    stats = store_stats(the_store);
    assert_int_equal(n_full, 0);
    assert_in_range(stats.n_events, 800, 1000);
    assert_balanced();
    acknowledge(pos);
    assert_int_equal(store_stats(the_store).n_acked_values, 2 * n);
    acknowledge(read_up_to(5000, UINT64_MAX, &n));
    assert_int_equal(store_stats(the_store).n_events, 0);
    assert_balanced();
    for (uint64_t i = 0; i < n_made; i++)
        assert_true(was_read[i] <= 1);
    assert_int_equal(was_read[n_made - 1], 1);
    assert_in_range(first_read(200), 5300 - 1000, 5300 - 700);
    end_test();
}

static void test_a_store_that_gave_back_what_stood_ready_holds_the_rest_after_a_kill(void **state)
{
    uint64_t n_events;

    (void)state;
    begin_dropping(1000, 100);
    burst(50);
    n_events = store_stats(the_store).n_events;
    kill_store();
    open_store();
    assert_int_equal(store_stats(the_store).n_events, n_events);
    assert_int_equal(read_all(), n_events);
    assert_int_equal(first_read(0), 5000 - n_events);
    end_test();
}

static void test_on_a_full_disk_too_what_only_stands_ready_makes_room(void **state)
{
    (void)state;
    begin_test();
    the_conf.overflow = OVERFLOW_DROP_OLDEST;
    the_conf.segment_bytes = 64 * 1024;
    disk_room = 250 * 1000;
    open_store();
    for (unsigned i = 0; i < 50; i++) {
        append_from("drop/a", 20, 1000, true);
        loop_advance(the_loop, 100);
    }
    loop_advance(the_loop, 20000);
    assert_null(store_stats(the_store).trouble);
    assert_int_equal(n_ok, 50);
    assert_in_range(store_stats(the_store).n_events, 100, 240);
    assert_int_equal(read_all(), store_stats(the_store).n_events);
    assert_int_equal(was_read[n_made - 1], 1);
    end_test();
}

/* --- any order of things ------------------------------------------------------------------------------------------------ */

static uint64_t random_at;

static unsigned chance(unsigned n)
{
    random_at = random_at * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(random_at >> 33) % n;
}

enum { HELD = 64 };
struct reader {
    struct chunk *held[HELD];
    uint64_t to[HELD];
    unsigned n_held, n_to;
};

static unsigned read_some(struct reader *reader, int lane)
{
    struct chunk *chunk =
        reader->n_held < HELD && reader->n_to < HELD ? store_read(the_store, lane, 500 + chance(30000)) : NULL;
    unsigned n = 0;

    if (!chunk)
        return 0;
    for (const uint8_t *p = chunk->bytes; p < chunk->bytes + chunk->n; n++) {
        const struct record *record = (const struct record *)(const void *)p;

        assert_int_equal(record_check(p, record->size), ERR_OK);
        if (was_read[record->ts]++)
            fail_msg("record %" PRId64 " is read twice", record->ts);
        p += record->size;
    }
    reader->to[reader->n_to++] = chunk->to;
    reader->held[reader->n_held++] = chunk;
    return n;
}

static void acknowledge_some(struct reader *reader, int lane, unsigned n)
{
    if (!n)
        return;
    store_ack(the_store, lane, reader->to[n - 1]);
    memmove(reader->to, reader->to + n, (reader->n_to - n) * sizeof *reader->to);
    reader->n_to -= n;
}

static void release_some(struct reader *reader, unsigned n)
{
    while (n--)
        chunk_release(reader->held[--reader->n_held]);
}

static void run_history(uint64_t seed)
{
    struct reader readers[LANES] = {0};

    random_at = seed;
    begin_dropping(200 + 100 * chance(10), 20 + chance(200));
    for (unsigned i = 0; i < 150; i++) {
        int lane = (int)chance(LANES);
        struct reader *reader = &readers[lane];

        switch (chance(10)) {
        case 0 ... 3:
            append_from(chance(2) ? "drop/a" : "drop/b", 1 + chance(120), chance(400), chance(2));
            break;
        case 4 ... 5:
            read_some(reader, lane);
            break;
        case 6:
            acknowledge_some(reader, lane, chance(reader->n_to + 1));
            break;
        case 7:
            release_some(reader, chance(reader->n_held + 1));
            break;
        case 8:
            loop_advance(the_loop, chance(3) ? 0 : chance(300));
            break;
        case 9:
            if (store_stats(the_store).is_split || chance(4) || readers[LANE_BACKLOG].n_to ||
                readers[LANE_LIVE].n_held || readers[LANE_BACKLOG].n_held)
                break;
            store_split(the_store);
            if (store_stats(the_store).is_split) {
                readers[LANE_BACKLOG] = readers[LANE_LIVE];
                readers[LANE_LIVE] = (struct reader){0};
            }
            break;
        }
    }
    for (unsigned idle = 0; idle < 5;) {
        bool has_read = false;

        for (int lane = 0; lane < LANES; lane++) {
            has_read |= read_some(&readers[lane], lane) > 0;
            acknowledge_some(&readers[lane], lane, readers[lane].n_to);
            release_some(&readers[lane], readers[lane].n_held);
        }
        loop_advance(the_loop, 0);
        idle = has_read ? 0 : idle + 1;
    }
    struct store_stats stats = store_stats(the_store);

    if (stats.n_events)
        fail_msg("seed %" PRIu64 ": %" PRIu64 " events are never given", seed, stats.n_events);
    assert_int_equal(stats.n_bytes, 0);
    assert_int_equal(stats.n_acked_values + stats.n_dropped_values, 2 * n_made);
    assert_int_equal(stats.n_appended_values, 2 * n_made);
    end_test();
}

static void test_in_whatever_order_things_happen_each_event_is_given_once_or_dropped(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++)
        run_history(seed);
}

/* --- threads ------------------------------------------------------------------------------------------------------------- */

enum { THREAD_BATCHES = 1500, THREAD_RECORDS = 20, PRODUCERS = 2 };
static atomic_uint n_thread_answers;
static int64_t newest[PRODUCERS];
static uint64_t n_thread_read;
static unsigned n_looks;
static struct timer look;

static void thread_answer(struct batch *batch)
{
    assert_true(batch->result == ERR_OK || batch->result == ERR_FULL);
    atomic_fetch_add(&n_thread_answers, 1);
    mem_free(batch);
}

static void read_one(void)
{
    struct chunk *chunk = store_read(the_store, 0, 2000);

    if (!chunk)
        return;
    for (const uint8_t *p = chunk->bytes; p < chunk->bytes + chunk->n; n_thread_read++) {
        const struct record *record = (const struct record *)(const void *)p;
        int which = str_ends(record_name(record), STR("b"));

        assert_true(record->ts > newest[which]);
        newest[which] = record->ts;
        p += record->size;
    }
    store_ack(the_store, 0, chunk->to);
    chunk_release(chunk);
}

static void loop_ends(void *arg)
{
    loop_stop(arg);
}

/* A slow reader, until nobody appends any more. */
static void look_around(void *arg)
{
    bool is_over = atomic_load(&n_thread_answers) == PRODUCERS * THREAD_BATCHES;

    for (unsigned i = 0; i < (is_over ? 20 : n_looks % 8 == 0); i++)
        read_one();
    n_looks++;
    timer_start(&look, 1);
    if (!is_over || store_stats(the_store).n_events)
        return;
    timer_stop(&look);
    store_stop(the_store, loop_ends, arg);
}

static void *producer(void *arg)
{
    static const char *const names[] = {"thread/a", "thread/b"};
    const char *name = names[*(int *)arg];

    for (unsigned i = 0; i < THREAD_BATCHES; i++) {
        struct device *dev = device_get(str_from(name));
        struct batch *batch = mem_zero(sizeof *batch);

        batch->bytes = slab_get();
        batch->cap = SLAB_SIZE;
        batch->can_wait = i % 2;
        batch->n_events = batch->n_values = THREAD_RECORDS;
        for (unsigned k = 0; k < THREAD_RECORDS; k++) {
            struct record *record = (struct record *)(void *)(batch->bytes + batch->n_bytes);

            *record = (struct record){.ts = i * THREAD_RECORDS + k + 1,
                                      .dev = dev->number,
                                      .n_values = 1,
                                      .flags = RECORD_END,
                                      .kind = RECORD_TELEMETRY,
                                      .name_n = dev->name_n};
            memcpy(record + 1, dev->name, dev->name_n);
            memcpy((char *)(record + 1) + dev->name_n, "\"v\":1", 5);
            record_seal(record, 5);
            batch->n_bytes += record->size;
        }
        store_append(the_store, batch);
        while (atomic_load(&n_thread_answers) + 200 < i)
            sched_yield();
    }
    return NULL;
}

static void test_producers_and_a_slow_reader_on_threads_of_their_own_lose_nothing_uncounted(void **state)
{
    static const struct store_events events = {0};
    struct file_conf conf = {
        .max_events = 500, .segment_events = 100, .overflow = OVERFLOW_DROP_OLDEST, .log = &quiet, .path = dir_path};
    struct why why = {0};
    struct loop *loop;
    pthread_t threads[PRODUCERS];
    int which[PRODUCERS] = {0, 1};

    (void)state;
    begin_test();
    store_answer_fn = thread_answer;
    log_init(&quiet, "storage", LOG_LEVEL_OFF);
    assert_int_equal(loop_new(&loop, "reader"), ERR_OK);
    if (store_file_new(&the_store, loop, &conf, &events, NULL, &why))
        fail_msg("%s", why_text(&why));
    timer_init(&look, loop, look_around, loop);
    timer_start(&look, 1);
    for (int i = 0; i < PRODUCERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, producer, &which[i]), 0);
    loop_run(loop);
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
    struct store_stats stats = store_stats(the_store);

    assert_int_equal(stats.n_appended_values, PRODUCERS * THREAD_BATCHES * THREAD_RECORDS);
    assert_int_equal(stats.n_acked_values, n_thread_read);
    assert_int_equal(stats.n_acked_values + stats.n_dropped_values, stats.n_appended_values);
    assert_true(stats.n_dropped_values > 0);
    store_free(the_store);
    the_store = NULL;
    loop_free(loop);
    end_test();
}

int main(void)
{
#define TEST(name) cmocka_unit_test(name)
    const struct CMUnitTest tests[] = {
        TEST(test_what_only_stands_ready_is_dropped_like_the_rest_and_the_newest_stays),
        TEST(test_what_was_read_stays_with_its_segment_and_of_the_rest_the_newest),
        TEST(test_a_store_that_gave_back_what_stood_ready_holds_the_rest_after_a_kill),
        TEST(test_on_a_full_disk_too_what_only_stands_ready_makes_room),
        TEST(test_in_whatever_order_things_happen_each_event_is_given_once_or_dropped),
        TEST(test_producers_and_a_slow_reader_on_threads_of_their_own_lose_nothing_uncounted),
    };

    dir_root = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm"; /* thousands of commits */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
