/* SPDX-License-Identifier: Apache-2.0 */
/* Splitting into lanes, with both kinds of store: what the reader gets, device by device. */
#include "store/file_plant.h"

enum { DEVICES = 6, CHUNKS = 4096 };

static bool is_memory;
static struct chunk *held[LANES][CHUNKS]; /* given, not acknowledged; oldest first */
static unsigned n_held[LANES];
static int64_t newest[DEVICES]; /* number of the newest record read of each device */
static uint64_t n_read;

static const char *device_text(unsigned i)
{
    static char name[32];

    snprintf(name, sizeof name, "lanes/%u", i);
    return name;
}

static void open_either(void)
{
    static const struct store_events events = {.readable = on_readable, .dropped = on_dropped};

    memset(newest, -1, sizeof newest);
    n_read = 0;
    if (!is_memory) {
        open_store();
        return;
    }
    store_answer_fn = on_answer;
    the_loop = loop_new_fake(1700000000000);
    the_store = store_memory_new(the_loop, &(struct memory_conf){.overflow = the_conf.overflow}, &events, NULL);
}

static void put(unsigned device, unsigned n)
{
    append_from(device_text(device), n, 60, true);
}

/* Reads a chunk of the lane and keeps it. Each device's records come in order, whatever lane they come from. False: there is none. */
static bool take_chunk(int lane, size_t max)
{
    struct chunk *chunk = store_read(the_store, lane, max);

    if (!chunk)
        return false;
    assert_int_equal(chunk->lane, lane);
    for (const uint8_t *p = chunk->bytes; p < chunk->bytes + chunk->n;) {
        const struct record *record = (const struct record *)(const void *)p;
        unsigned device = (unsigned)(record_bytes(record)[record->name_n - 1] - '0');

        assert_true(device < DEVICES);
        assert_true(record->ts > newest[device]);
        newest[device] = record->ts;
        was_read[record->ts]++;
        n_read++;
        p += record->size;
    }
    assert_true(n_held[lane] < CHUNKS);
    assert_true(!n_held[lane] || chunk->from >= held[lane][n_held[lane] - 1]->to);
    held[lane][n_held[lane]++] = chunk;
    return true;
}

/* The oldest n of the lane. */
static void ack(int lane, unsigned n)
{
    if (!n)
        return;
    store_ack(the_store, lane, held[lane][n - 1]->to);
    for (unsigned i = 0; i < n; i++)
        chunk_release(held[lane][i]);
    n_held[lane] -= n;
    memmove(held[lane], held[lane] + n, n_held[lane] * sizeof held[lane][0]);
}

static void split(void)
{
    bool was_split = store_stats(the_store).is_split;

    store_split(the_store);
    if (was_split || !store_stats(the_store).is_split)
        return;
    assert_int_equal(n_held[LANE_BACKLOG], 0);
    memcpy(held[LANE_BACKLOG], held[LANE_LIVE], n_held[LANE_LIVE] * sizeof held[0][0]);
    n_held[LANE_BACKLOG] = n_held[LANE_LIVE];
    n_held[LANE_LIVE] = 0;
    for (unsigned i = 0; i < n_held[LANE_BACKLOG]; i++)
        held[LANE_BACKLOG][i]->lane = LANE_BACKLOG;
}

static void drain(void)
{
    for (int i = 0; i < 3; i++) {
        for (int lane = 0; lane < LANES; lane++) {
            while (take_chunk(lane, 64 * 1024) || (loop_advance(the_loop, 1), take_chunk(lane, 64 * 1024)))
                if (n_held[lane] > CHUNKS / 2)
                    ack(lane, n_held[lane]);
            ack(lane, n_held[lane]);
        }
        loop_advance(the_loop, 300);
    }
}

static void forget_chunks(void)
{
    for (int lane = 0; lane < LANES; lane++)
        while (n_held[lane])
            chunk_release(held[lane][--n_held[lane]]);
}

static void test_a_device_without_backlog_is_read_beside_it(void)
{
    open_either();
    put(0, 500);
    loop_advance(the_loop, 1);
    assert_true(take_chunk(LANE_LIVE, 4000));
    split();
    loop_advance(the_loop, 1);
    assert_true(store_stats(the_store).is_split);
    assert_int_equal(store_stats(the_store).n_backlog_events, 500);
    put(1, 3);
    put(0, 1);
    loop_advance(the_loop, 1);
    assert_int_equal(store_stats(the_store).n_backlog_events, 501);
    assert_true(take_chunk(LANE_LIVE, 64 * 1024));
    assert_int_equal(newest[1], 502);
    assert_false(take_chunk(LANE_LIVE, 64 * 1024));
    while (take_chunk(LANE_BACKLOG, 64 * 1024) || (loop_advance(the_loop, 1), take_chunk(LANE_BACKLOG, 64 * 1024)))
        ;
    assert_int_equal(newest[0], 503);
    ack(LANE_BACKLOG, n_held[LANE_BACKLOG] - 1);
    put(0, 1); /* the last chunk is not acknowledged: it follows its elder ones */
    loop_advance(the_loop, 1);
    assert_false(take_chunk(LANE_LIVE, 64 * 1024));
    assert_true(take_chunk(LANE_BACKLOG, 64 * 1024));
    ack(LANE_BACKLOG, n_held[LANE_BACKLOG]);
    put(0, 1);
    loop_advance(the_loop, 300);
    assert_true(take_chunk(LANE_LIVE, 64 * 1024));
    assert_int_equal(newest[0], 505);
    assert_false(store_stats(the_store).is_split);
    assert_int_equal(store_stats(the_store).n_backlog_events, 0);
    drain();
    assert_balanced();
    assert_int_equal(store_stats(the_store).n_events, 0);
}

static void test_a_split_of_an_empty_store_is_none(void)
{
    open_either();
    split();
    assert_false(store_stats(the_store).is_split);
    put(0, 1);
    loop_advance(the_loop, 1);
    drain();
    split();
    assert_false(store_stats(the_store).is_split);
}

static void test_a_batch_of_several_devices_goes_to_both_lanes(void)
{
    open_either();
    put(0, 10);
    loop_advance(the_loop, 1);
    split();
    loop_advance(the_loop, 1);
    for (unsigned i = 0; i < 5; i++) {
        put(0, 1);
        put(1, 1);
    }
    loop_advance(the_loop, 1);
    assert_int_equal(store_stats(the_store).n_backlog_events, 15);
    assert_int_equal(store_stats(the_store).n_events, 20);
    drain();
    assert_int_equal(n_read, 20);
}

static void test_splits_at_random_keep_each_devices_order_and_lose_nothing(void)
{
    for (unsigned seed = 1; seed <= 60; seed++) {
        srand(seed);
        the_conf.segment_events = 100;
        open_either();
        n_made = 0;
        memset(was_read, 0, sizeof was_read);
        for (unsigned i = 0; i < 400; i++) {
            int what = rand() % 100, lane = rand() % LANES;

            if (what < 40)
                put((unsigned)rand() % DEVICES, 1 + (unsigned)rand() % 60);
            else if (what < 45)
                split();
            else if (what < 70 && n_held[lane] < CHUNKS / 2)
                take_chunk(lane, (size_t)(500 + rand() % 20000));
            else if (n_held[lane])
                ack(lane, 1 + (unsigned)rand() % n_held[lane]);
            if (rand() % 3)
                loop_advance(the_loop, (uint64_t)(rand() % 100));
            assert_balanced();
            assert_true(store_stats(the_store).n_backlog_values <= store_stats(the_store).n_values);
        }
        loop_advance(the_loop, 1);
        drain();
        assert_int_equal(n_read, n_made);
        for (uint64_t i = 0; i < n_made; i++)
            assert_int_equal(was_read[i], 1);
        assert_int_equal(store_stats(the_store).n_events, 0);
        assert_int_equal(store_stats(the_store).n_bytes, 0);
        assert_false(store_stats(the_store).is_split);
        if (seed < 60)
            kill_store();
    }
}

/* In the order of reading after a restart nothing of a device comes before what is older, though its number may be lower in the log. */
static void test_after_a_restart_the_backlog_comes_first(void)
{
    open_either();
    put(0, 2000);
    put(1, 2000);
    loop_advance(the_loop, 1);
    split();
    loop_advance(the_loop, 1);
    put(2, 500); /* live */
    put(0, 500); /* backlog, in a segment behind the live one's */
    loop_advance(the_loop, 1);
    while (take_chunk(LANE_BACKLOG, 64 * 1024) || (loop_advance(the_loop, 1), take_chunk(LANE_BACKLOG, 64 * 1024)))
        ;
    ack(LANE_BACKLOG, n_held[LANE_BACKLOG]);
    put(0, 10); /* live now, and behind its elder ones although those are not yet saved as acknowledged */
    loop_advance(the_loop, 1);
    assert_true(take_chunk(LANE_LIVE, 64 * 1024));
    forget_chunks();
    kill_store();
    open_either();
    drain();
    assert_true(n_read >= 510);
    assert_int_equal(newest[0], 5009);
    assert_int_equal(store_stats(the_store).n_events, 0);
}

static void test_after_a_restart_a_split_knows_whose_records_wait(void)
{
    open_either();
    put(0, 2000);
    loop_advance(the_loop, 1);
    kill_store();
    open_either();
    split();
    put(0, 1);
    put(1, 1);
    loop_advance(the_loop, 1);
    assert_int_equal(store_stats(the_store).n_backlog_events, 2001);
    assert_true(take_chunk(LANE_LIVE, 64 * 1024));
    assert_int_equal(newest[1], 2001);
    drain();
    assert_int_equal(n_read, 2002);
}

static void test_drop_oldest_takes_the_backlog_first_and_spares_what_is_in_flight(void)
{
    the_conf.overflow = OVERFLOW_DROP_OLDEST;
    the_conf.max_events = 1600;
    open_either();
    if (is_memory) {
        static const struct store_events events = {.readable = on_readable, .dropped = on_dropped};

        kill_store();
        the_loop = loop_new_fake(1700000000000);
        the_store = store_memory_new(
            the_loop, &(struct memory_conf){.overflow = OVERFLOW_DROP_OLDEST, .max_events = 1600}, &events, NULL);
    }
    for (unsigned i = 0; i < 16; i++) {
        put(0, 50);
        loop_advance(the_loop, 1);
    }
    split();
    for (unsigned i = 0; i < 60; i++) {
        put(1, 50);
        loop_advance(the_loop, 1);
    }
    assert_true(store_stats(the_store).n_dropped_events > 0);
    assert_true(store_stats(the_store).n_events <= 1600);
    assert_true(!is_memory ||
                store_stats(the_store).n_backlog_events < 800); /* a file store gives its reader much ahead */
    assert_balanced();
    drain();
    assert_true(!is_memory || newest[1] == (int64_t)n_made - 1);
    assert_int_equal(n_read + store_stats(the_store).n_dropped_events, n_made);
    assert_false(store_stats(the_store).is_split);
    assert_balanced();
}

/* The ledger's totals are saved with the positions (invariant 2). */
static void test_totals_survive_a_restart_in_the_midst_of_a_split(void)
{
    struct store_stats before, after;

    open_either();
    put(0, 3000);
    loop_advance(the_loop, 1);
    split();
    loop_advance(the_loop, 1);
    put(1, 100);
    loop_advance(the_loop, 1);
    assert_true(take_chunk(LANE_BACKLOG, 64 * 1024));
    assert_true(take_chunk(LANE_LIVE, 64 * 1024));
    ack(LANE_BACKLOG, 1);
    ack(LANE_LIVE, 1);
    loop_advance(the_loop, 300);
    before = store_stats(the_store);
    forget_chunks();
    kill_store();
    open_either();
    after = store_stats(the_store);
    assert_int_equal(after.n_appended_values, before.n_appended_values);
    assert_int_equal(after.n_acked_values, before.n_acked_values);
    assert_int_equal(after.n_values, before.n_values);
    assert_int_equal(after.n_events, before.n_events);
    assert_false(after.is_split);
    drain();
    assert_balanced();
}

/* Not only by time: much that is acknowledged at once is saved soon. */
static void test_a_thousand_acknowledged_records_are_saved_before_the_time_is_up(void)
{
    open_either();
    put(0, 3000);
    loop_advance(the_loop, 50);
    while (n_read < 2000)
        assert_true(take_chunk(LANE_LIVE, 16 * 1024) || (loop_advance(the_loop, 1), true));
    ack(LANE_LIVE, n_held[LANE_LIVE]);
    loop_advance(the_loop, 1);
    uint64_t n = n_read;

    kill_store();
    open_either();
    assert_int_equal(store_stats(the_store).n_events, 3000 - n);
    drain();
}

static void run(void (*test)(void), bool memory)
{
    is_memory = memory;
    begin_test();
    test();
    forget_chunks();
    end_test();
}

#define EACH(X)                                                                                                        \
    X(test_a_device_without_backlog_is_read_beside_it)                                                                 \
    X(test_a_split_of_an_empty_store_is_none)                                                                          \
    X(test_a_batch_of_several_devices_goes_to_both_lanes)                                                              \
    X(test_splits_at_random_keep_each_devices_order_and_lose_nothing)                                                  \
    X(test_drop_oldest_takes_the_backlog_first_and_spares_what_is_in_flight)
#define DURABLE(X)                                                                                                     \
    X(test_after_a_restart_the_backlog_comes_first)                                                                    \
    X(test_after_a_restart_a_split_knows_whose_records_wait)                                                           \
    X(test_totals_survive_a_restart_in_the_midst_of_a_split)                                                           \
    X(test_a_thousand_acknowledged_records_are_saved_before_the_time_is_up)
#define MEMORY(name)                                                                                                   \
    static void memory_##name(void **state)                                                                            \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        run(name, true);                                                                                               \
    }
#define FILE_KIND(name)                                                                                                \
    static void file_##name(void **state)                                                                              \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        run(name, false);                                                                                              \
    }
EACH(MEMORY)
EACH(FILE_KIND)
DURABLE(FILE_KIND)

int main(void)
{
#define MEMORY_UNIT(name) cmocka_unit_test(memory_##name),
#define FILE_UNIT(name) cmocka_unit_test(file_##name),
    const struct CMUnitTest tests[] = {EACH(MEMORY_UNIT) EACH(FILE_UNIT) DURABLE(FILE_UNIT)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
