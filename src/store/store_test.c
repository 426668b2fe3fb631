/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/slab.h"
#include "data/device.h"
#include "store/store.h"

#include <pthread.h>
#include <stdio.h>

enum { MAX_BATCHES = 4096 };

static struct loop *the_loop;
static struct store *the_store;
static struct batch *answered[MAX_BATCHES];
static unsigned n_answered, n_readable, n_dropped_calls;
static unsigned dropped_calls[16]; /* by the device's number less first_device */
static uint32_t first_device;

static void on_answer(struct batch *batch)
{
    answered[n_answered++] = batch;
}

static void on_readable(void *arg)
{
    (void)arg;
    n_readable++;
}

static void on_dropped(void *arg, struct device *dev)
{
    (void)arg;
    assert_non_null(dev);
    n_dropped_calls++;
    if (dev->number - first_device < COUNT_OF(dropped_calls))
        dropped_calls[dev->number - first_device]++;
}

static void open_store(uint64_t max_events, uint64_t max_bytes, enum overflow overflow)
{
    static const struct store_events events = {.readable = on_readable, .dropped = on_dropped};
    struct memory_conf conf = {.max_events = max_events, .max_bytes = max_bytes, .overflow = overflow};

    store_answer_fn = on_answer;
    n_answered = n_readable = n_dropped_calls = 0;
    the_loop = loop_new_fake(1700000000000);
    the_store = store_memory_new(the_loop, &conf, &events, NULL);
}

static void close_store(void)
{
    store_free(the_store);
    loop_free(the_loop);
    for (unsigned i = 0; i < n_answered; i++)
        mem_free(answered[i]);
    assert_int_equal(slab_in_use(), 0);
}

/* n events of one record with one value each; the time of the record says which it is. */
static struct batch *batch_of(struct device *dev, unsigned n, int64_t first, size_t body_n, struct ctx *ctx,
                              bool can_wait)
{
    struct batch *batch = mem_zero(sizeof *batch);
    size_t size = record_size(dev->name_n, 0, body_n);

    batch->bytes = slab_get();
    batch->cap = SLAB_SIZE;
    batch->ctx = ctx;
    batch->can_wait = can_wait;
    batch->n_events = batch->n_values = n;
    assert_true(size * n <= SLAB_SIZE);
    for (unsigned i = 0; i < n; i++) {
        struct record *record = (struct record *)(void *)(batch->bytes + batch->n_bytes);

        *record = (struct record){.ts = first + i,
                                  .dev = dev->number,
                                  .n_values = 1,
                                  .flags = RECORD_END,
                                  .kind = RECORD_TELEMETRY,
                                  .name_n = dev->name_n};
        memcpy(record + 1, dev->name, dev->name_n);
        memset((char *)(record + 1) + dev->name_n, 'x', body_n);
        record_seal(record, body_n);
        batch->n_bytes += (uint32_t)size;
    }
    return batch;
}

static struct device *device_named(const char *name)
{
    struct device *dev = device_get(str_from(name));

    atomic_store(&dev->n_appended, 0);
    atomic_store(&dev->n_overflowed, 0);
    return dev;
}

/* A batch with n events of each of the devices. */
static struct batch *batch_of_all(struct device *const *devs, size_t n_devs, unsigned n, bool can_wait)
{
    struct batch *all = batch_of(devs[0], n, 0, 10, NULL, can_wait);

    for (size_t i = 1; i < n_devs; i++) {
        struct batch *more = batch_of(devs[i], n, 0, 10, NULL, can_wait);

        memcpy(all->bytes + all->n_bytes, more->bytes, more->n_bytes);
        all->n_bytes += more->n_bytes;
        all->n_events += more->n_events;
        all->n_values += more->n_values;
        batch_drop_bytes(more);
        mem_free(more);
    }
    return all;
}

static int64_t first_ts(const struct chunk *chunk)
{
    return ((const struct record *)(const void *)chunk->bytes)->ts;
}

static void test_what_was_appended_is_read_in_order_and_each_record_once(void **state)
{
    struct device *dev = device_named("order");
    int64_t next = 0;
    struct chunk *chunks[512];
    unsigned n_chunks = 0;

    (void)state;
    open_store(1000000, 0, OVERFLOW_BLOCK);
    for (unsigned i = 0; i < 50; i++)
        store_append(the_store, batch_of(dev, 100, i * 100, 200 + i, NULL, true));
    assert_int_equal(n_answered, 50);
    uint64_t pos = 0, first = 0;

    for (struct chunk *chunk; (chunk = store_read(the_store, 0, 10000)); chunks[n_chunks++] = chunk) {
        first = n_chunks ? first : chunk->from;
        pos = n_chunks ? pos : first;
        assert_true(chunk->n <= 10000 && chunk->from == pos && chunk->to == pos + chunk->n);
        pos = chunk->to;
        for (const uint8_t *p = chunk->bytes; p < chunk->bytes + chunk->n;) {
            const struct record *record = (const struct record *)(const void *)p;

            assert_int_equal(record->ts, next++);
            p += record->size;
        }
    }
    assert_int_equal(next, 5000);
    struct store_stats stats = store_stats(the_store);

    assert_int_equal(stats.n_events, 5000);
    assert_int_equal(stats.n_bytes, pos - first);
    for (unsigned i = 0; i < n_chunks; i++) {
        store_ack(the_store, 0, chunks[i]->to);
        chunk_release(chunks[i]);
    }
    stats = store_stats(the_store);
    assert_true(stats.n_events == 0 && stats.n_values == 0 && stats.n_bytes == 0 && stats.oldest_ms == 0);
    assert_int_equal(stats.n_acked_values, 5000);
    assert_int_equal(atomic_load(&dev->n_appended), 5000);
    close_store();
}

static void test_a_chunk_holds_at_least_one_record_and_outlives_its_acknowledgement(void **state)
{
    struct device *dev = device_named("one");

    (void)state;
    open_store(1000, 0, OVERFLOW_BLOCK);
    store_append(the_store, batch_of(dev, 3, 0, 1000, NULL, true));
    struct chunk *first = store_read(the_store, 0, 1), *second = store_read(the_store, 0, 1);

    assert_int_equal(first_ts(first), 0);
    assert_int_equal(first->n, record_size(dev->name_n, 0, 1000));
    store_ack(the_store, 0, second->to); /* the reader still looks at both */
    store_append(the_store, batch_of(dev, 50, 100, 1000, NULL, true));
    assert_int_equal(first_ts(first), 0);
    assert_int_equal(first_ts(second), 1);
    chunk_release(first);
    chunk_release(second);
    assert_int_equal(store_stats(the_store).n_events, 51);
    close_store();
}

static void test_readable_is_told_once_after_a_read_that_found_nothing(void **state)
{
    struct device *dev = device_named("told");

    (void)state;
    open_store(1000, 0, OVERFLOW_BLOCK);
    store_append(the_store, batch_of(dev, 1, 0, 10, NULL, true));
    store_append(the_store, batch_of(dev, 1, 1, 10, NULL, true));
    assert_int_equal(n_readable, 0); /* never inside append */
    loop_advance(the_loop, 0);
    assert_int_equal(n_readable, 1);
    chunk_release(store_read(the_store, 0, 1 << 20));
    assert_null(store_read(the_store, 0, 1 << 20));
    store_append(the_store, batch_of(dev, 1, 2, 10, NULL, true));
    chunk_release(store_read(the_store, 0, 1 << 20)); /* read before the message about it arrives */
    assert_null(store_read(the_store, 0, 1 << 20));
    store_append(the_store, batch_of(dev, 1, 3, 10, NULL, true));
    loop_advance(the_loop, 0);
    assert_int_equal(n_readable, 2);
    chunk_release(store_read(the_store, 0, 1 << 20));
    close_store();
}

static void test_a_full_store_keeps_batches_that_can_wait_and_refuses_the_others(void **state)
{
    struct device *dev = device_named("block");
    struct ctx *one = (struct ctx *)16, *two = (struct ctx *)32;

    (void)state;
    open_store(100, 0, OVERFLOW_BLOCK);
    store_append(the_store, batch_of(dev, 60, 0, 10, one, true));
    store_append(the_store, batch_of(dev, 60, 60, 10, one, true));
    assert_int_equal(n_answered, 1);
    assert_true(store_stats(the_store).is_blocked);
    store_append(the_store, batch_of(dev, 5, 200, 10, two, false)); /* cannot wait, and would overtake */
    assert_int_equal(n_answered, 2);
    assert_int_equal(answered[1]->result, ERR_FULL);
    assert_int_equal(n_dropped_calls, 1);
    store_append(the_store, batch_of(dev, 5, 300, 10, one, false)); /* its answer follows that of the waiting one */
    assert_int_equal(n_answered, 2);
    assert_int_equal(store_stats(the_store).n_dropped_events, 10);
    struct chunk *chunk = store_read(the_store, 0, 1 << 20);

    store_ack(the_store, 0, chunk->to);
    chunk_release(chunk);
    assert_int_equal(n_answered, 4);
    assert_int_equal(answered[2]->result, ERR_OK);
    assert_int_equal(answered[2]->n_events, 60);
    assert_int_equal(answered[3]->result, ERR_FULL);
    assert_false(store_stats(the_store).is_blocked);
    struct store_stats stats = store_stats(the_store);

    assert_int_equal(stats.n_appended_values, stats.n_acked_values + stats.n_values + stats.n_dropped_values);
    assert_int_equal(atomic_load(&dev->n_appended), 130);
    assert_int_equal(atomic_load(&dev->n_overflowed), 10);
    close_store();
}

static void test_drop_newest_refuses_at_the_door(void **state)
{
    struct device *dev = device_named("newest");

    (void)state;
    open_store(0, 10000, OVERFLOW_DROP_NEWEST);
    for (int i = 0; i < 10; i++)
        store_append(the_store, batch_of(dev, 10, i * 10, 150, NULL, true));
    assert_int_equal(n_answered, 10);
    struct store_stats stats = store_stats(the_store);

    assert_true(stats.n_bytes <= 10000 && stats.n_events == 50);
    assert_int_equal(stats.n_dropped_events, 50);
    assert_int_equal(answered[4]->result, ERR_OK);
    assert_int_equal(answered[5]->result, ERR_FULL);
    close_store();
}

static void test_a_batch_larger_than_the_store_passes_when_it_is_empty(void **state)
{
    struct device *dev = device_named("large");

    (void)state;
    open_store(10, 0, OVERFLOW_DROP_NEWEST);
    store_append(the_store, batch_of(dev, 50, 0, 10, NULL, true));
    store_append(the_store, batch_of(dev, 50, 0, 10, NULL, true));
    assert_int_equal(answered[0]->result, ERR_OK);
    assert_int_equal(answered[1]->result, ERR_FULL);
    close_store();
}

static void test_drop_oldest_spares_what_is_in_flight_and_goes_by_sixteenths(void **state)
{
    struct device *dev = device_named("oldest");
    int64_t last = -1;
    unsigned n = 0;

    (void)state;
    open_store(1600, 0, OVERFLOW_DROP_OLDEST);
    store_append(the_store, batch_of(dev, 100, 0, 10, NULL, true));
    struct chunk *chunk = store_read(the_store, 0, 1);

    for (int i = 1; i < 40; i++)
        store_append(the_store, batch_of(dev, 100, i * 100, 10, NULL, true));
    assert_int_equal(n_answered, 40);
    struct store_stats stats = store_stats(the_store);

    assert_in_range(stats.n_events, 1500, 1600);
    assert_int_equal(stats.n_dropped_events + stats.n_events, 4000);
    assert_int_equal(first_ts(chunk), 0);
    chunk_release(chunk);
    uint64_t pos = 0;

    for (struct chunk *next; (next = store_read(the_store, 0, 1000));) {
        for (const uint8_t *p = next->bytes; p < next->bytes + next->n; n++) {
            const struct record *record = (const struct record *)(const void *)p;

            assert_true(record->ts > last);
            last = record->ts;
            p += record->size;
        }
        pos = next->to;
        store_ack(the_store, 0, pos);
        chunk_release(next);
    }
    assert_int_equal(last, 3999);
    assert_int_equal(n, stats.n_events - 1);
    stats = store_stats(the_store);
    assert_int_equal(stats.n_events, 0);
    assert_int_equal(stats.n_appended_values, stats.n_acked_values + stats.n_dropped_values);
    assert_int_equal(atomic_load(&dev->n_overflowed), stats.n_dropped_values);
    close_store();
}

static void test_dropping_the_tail_leaves_a_store_that_works(void **state)
{
    struct device *dev = device_named("tail");

    (void)state;
    open_store(4, 0, OVERFLOW_DROP_OLDEST);
    store_append(the_store, batch_of(dev, 2, 0, 10, NULL, true));
    struct chunk *chunk = store_read(the_store, 0, 1 << 20); /* the first block is in flight, the second is dropped */

    for (int i = 1; i < 6; i++)
        store_append(the_store, batch_of(dev, 2, i * 10, 10, NULL, true));
    store_ack(the_store, 0, chunk->to);
    chunk_release(chunk);
    chunk = store_read(the_store, 0, 1 << 20);
    assert_int_equal(first_ts(chunk), 50);
    store_ack(the_store, 0, chunk->to);
    chunk_release(chunk);
    assert_null(store_read(the_store, 0, 1));
    assert_int_equal(store_stats(the_store).n_bytes, 0);
    close_store();
}

static void test_the_age_of_the_oldest_waiting_one_is_known(void **state)
{
    struct device *dev = device_named("age");

    (void)state;
    open_store(100000, 0, OVERFLOW_BLOCK);
    for (int i = 0; i < 100; i++) {
        store_append(the_store, batch_of(dev, 1, i, 10, NULL, true));
        loop_advance(the_loop, 2000);
    }
    assert_int_equal(store_stats(the_store).oldest_ms, 1700000000000);
    for (int i = 0; i < 50; i++) {
        struct chunk *chunk = store_read(the_store, 0, 1);

        store_ack(the_store, 0, chunk->to);
        chunk_release(chunk);
    }
    assert_in_range(store_stats(the_store).oldest_ms - 1700000000000, 90000, 100000);
    close_store();
}

static size_t resident_kib(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    size_t total = 0, resident = 0;

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%zu %zu", &total, &resident), 2);
    fclose(file);
    return resident * 4;
}

/* Invariant 7, the store's half; close_store counts the slabs. */
static void test_memory_goes_back_to_the_system_when_drained(void **state)
{
    struct device *dev = device_named("memory");

    (void)state;
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    skip(); /* resident memory is the sanitizer's */
#endif
    open_store(0, 0, OVERFLOW_BLOCK);
    size_t before = resident_kib();

    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 400; i++)
            store_append(the_store, batch_of(dev, 200, 0, 200, NULL, true));
        for (struct chunk *chunk; (chunk = store_read(the_store, 0, 1 << 18));) {
            store_ack(the_store, 0, chunk->to);
            chunk_release(chunk);
        }
        loop_advance(the_loop, 30000);
    }
    assert_true(resident_kib() < before + 2048); /* 18 MB went through */
    close_store();
}

static void *append_from_elsewhere(void *arg)
{
    struct device *dev = arg;

    for (int i = 0; i < 1000; i++)
        store_append(the_store, batch_of(dev, 1, i, 10, NULL, true));
    return NULL;
}

static void stop_loop(void *arg)
{
    struct timer *timer = arg;

    if (n_answered == 2000)
        loop_stop(timer->loop);
    else
        timer_start(timer, 1);
}

struct appenders {
    struct device *devs[2];
    pthread_t threads[2];
};

/* On the loop: before it runs, every thread would count as its owner. */
static void start_appenders(void *arg)
{
    struct appenders *appenders = arg;

    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&appenders->threads[i], NULL, append_from_elsewhere, appenders->devs[i]), 0);
}

static void test_batches_of_other_threads_arrive_in_their_order(void **state)
{
    static const struct store_events events = {.readable = on_readable};
    struct memory_conf conf = {.max_events = 100000};
    struct appenders appenders = {.devs = {device_named("t1"), device_named("t2")}};
    int64_t next[2] = {0};
    struct timer timer, start;

    (void)state;
    store_answer_fn = on_answer;
    n_answered = n_readable = 0;
    assert_int_equal(loop_new(&the_loop, "test"), ERR_OK);
    the_store = store_memory_new(the_loop, &conf, &events, NULL);
    timer_init(&timer, the_loop, stop_loop, &timer);
    timer_start(&timer, 1);
    timer_init(&start, the_loop, start_appenders, &appenders);
    timer_start(&start, 0);
    loop_run(the_loop);
    for (int i = 0; i < 2; i++)
        pthread_join(appenders.threads[i], NULL);
    for (struct chunk *chunk; (chunk = store_read(the_store, 0, 1 << 20)); chunk_release(chunk))
        for (const uint8_t *p = chunk->bytes; p < chunk->bytes + chunk->n;) {
            const struct record *record = (const struct record *)(const void *)p;

            assert_int_equal(record->ts, next[record->dev == appenders.devs[1]->number]++);
            p += record->size;
        }
    assert_true(next[0] == 1000 && next[1] == 1000 && n_readable >= 1);
    close_store();
}

static void note_stopped(void *arg)
{
    *(bool *)arg = true;
}

/* Invariant 8, for batches: taken at once, after waiting, refused at the door, cancelled by the end, or come after it. */
static void test_every_batch_is_answered_exactly_once_in_the_order_of_its_connector(void **state)
{
    enum { BATCHES = 24 };
    static const enum overflow overflows[] = {OVERFLOW_BLOCK, OVERFLOW_DROP_NEWEST, OVERFLOW_DROP_OLDEST};
    struct device *dev = device_named("once");

    (void)state;
    for (size_t k = 0; k < COUNT_OF(overflows); k++) {
        struct batch *appended[BATCHES];
        uint64_t last[2] = {0, 0};
        bool is_stopped = false;

        open_store(50, 0, overflows[k]);
        for (unsigned i = 0; i < BATCHES; i++) {
            if (i == BATCHES - 4)
                store_stop(the_store, note_stopped, &is_stopped);
            appended[i] = batch_of(dev, 10, i * 10, 10, i % 2 ? (struct ctx *)16 : (struct ctx *)32, i % 5 != 4);
            appended[i]->cookie = i + 1;
            store_append(the_store, appended[i]);
            if (i == 12) {
                struct chunk *chunk = store_read(the_store, 0, 1);

                store_ack(the_store, 0, chunk->to);
                chunk_release(chunk);
            }
        }
        loop_advance(the_loop, 0);
        assert_true(is_stopped);
        assert_int_equal(n_answered, BATCHES);
        for (unsigned i = 0; i < n_answered; i++) {
            uint64_t *of = &last[answered[i]->ctx == (struct ctx *)16];

            assert_ptr_equal(answered[i], appended[answered[i]->cookie - 1]);
            assert_true(answered[i]->cookie > *of); /* so none twice */
            *of = answered[i]->cookie;
        }
        close_store();
    }
}

/* Invariant 9, the store's half: who filters reports is told each device of which something was dropped. */
static void test_each_device_of_dropped_data_is_named(void **state)
{
    static const enum overflow overflows[] = {OVERFLOW_BLOCK, OVERFLOW_DROP_NEWEST, OVERFLOW_DROP_OLDEST};
    struct device *devs[5];
    struct device *kept = device_named("kept");

    (void)state;
    for (size_t i = 0; i < COUNT_OF(devs); i++) {
        char name[16];

        snprintf(name, sizeof name, "forget %zu", i);
        devs[i] = device_named(name);
    }
    first_device = devs[0]->number;
    for (size_t k = 0; k < COUNT_OF(overflows); k++) {
        bool by_oldest = overflows[k] == OVERFLOW_DROP_OLDEST;

        memset(dropped_calls, 0, sizeof dropped_calls);
        open_store(160, 0, overflows[k]);
        if (!by_oldest)
            store_append(the_store, batch_of(kept, 160, 0, 10, NULL, true));
        store_append(the_store, batch_of_all(devs, COUNT_OF(devs), 2, false));
        for (int i = 0; by_oldest && i < 16; i++)
            store_append(the_store, batch_of(kept, 10, i * 10, 10, NULL, true));
        assert_int_equal(store_stats(the_store).n_dropped_events, 2 * COUNT_OF(devs));
        for (size_t i = 0; i < COUNT_OF(devs); i++) {
            assert_true(dropped_calls[i] >= 1);
            assert_int_equal(atomic_load(&devs[i]->n_overflowed), 2 * (k + 1));
        }
        assert_int_equal(atomic_load(&kept->n_overflowed), 0);
        close_store();
    }
}

static void test_stopping_answers_what_waits_and_what_comes_later(void **state)
{
    struct device *dev = device_named("stop");
    bool is_stopped = false;

    (void)state;
    open_store(10, 0, OVERFLOW_BLOCK);
    store_append(the_store, batch_of(dev, 10, 0, 10, NULL, true));
    store_append(the_store, batch_of(dev, 10, 10, 10, NULL, true));
    store_stop(the_store, note_stopped, &is_stopped);
    assert_false(is_stopped);
    store_append(the_store, batch_of(dev, 1, 20, 10, NULL, true));
    loop_advance(the_loop, 0);
    assert_true(is_stopped);
    assert_int_equal(n_answered, 3);
    assert_int_equal(answered[1]->result, ERR_CANCELLED);
    assert_int_equal(answered[2]->result, ERR_CANCELLED);
    close_store();
}

static void test_a_store_that_is_freed_without_a_stop_answers_what_waits(void **state)
{
    struct device *dev = device_named("free");

    (void)state;
    open_store(10, 0, OVERFLOW_BLOCK);
    store_append(the_store, batch_of(dev, 10, 0, 10, NULL, true));
    store_append(the_store, batch_of(dev, 10, 10, 10, NULL, true));
    loop_advance(the_loop, 0);
    assert_int_equal(n_answered, 1);
    close_store();
    assert_int_equal(n_answered, 2);
}

static void count_settled(void *arg)
{
    ++*(unsigned *)arg;
}

static void test_a_store_is_settled_when_every_batch_is_answered(void **state)
{
    struct device *dev = device_named("settle");
    unsigned n_settled = 0;
    struct chunk *chunk;

    (void)state;
    open_store(4, 0, OVERFLOW_BLOCK);
    store_append(the_store, batch_of(dev, 4, 0, 50, NULL, true));
    store_append(the_store, batch_of(dev, 2, 4, 50, NULL, true));
    store_settle(the_store, count_settled, &n_settled);
    loop_advance(the_loop, 60000);
    assert_int_equal(n_settled, 0);
    chunk = store_read(the_store, 0, 64 * 1024);
    store_ack(the_store, 0, chunk->to);
    chunk_release(chunk);
    assert_int_equal(n_answered, 2);
    loop_advance(the_loop, 0);
    assert_int_equal(n_settled, 1);
    close_store();
}

static void test_other_limits_hold_at_once_also_for_what_waits(void **state)
{
    struct device *dev = device_named("tune");
    struct memory_conf conf = {.max_events = 6};

    (void)state;
    open_store(4, 0, OVERFLOW_BLOCK);
    store_append(the_store, batch_of(dev, 4, 0, 50, NULL, true));
    store_append(the_store, batch_of(dev, 2, 4, 50, NULL, true));
    store_append(the_store, batch_of(dev, 2, 6, 50, NULL, true));
    assert_int_equal(n_answered, 1);
    store_memory_tune(the_store, &conf);
    assert_int_equal(n_answered, 2);
    assert_true(store_stats(the_store).is_blocked);
    conf.overflow = OVERFLOW_DROP_NEWEST;
    store_memory_tune(the_store, &conf);
    assert_int_equal(n_answered, 3);
    assert_int_equal(answered[2]->result, ERR_FULL);
    assert_false(store_stats(the_store).is_blocked);
    conf.overflow = OVERFLOW_DROP_OLDEST;
    conf.max_bytes = 64 * 1024; /* and so smaller blocks */
    store_memory_tune(the_store, &conf);
    for (unsigned i = 0; i < 100; i++)
        store_append(the_store, batch_of(dev, 2, 6 + 2 * i, 300, NULL, true));
    assert_int_equal(n_answered, 103);
    assert_int_equal(answered[102]->result, ERR_OK);
    assert_true(store_stats(the_store).n_events <= 6);
    close_store();
}

static void test_a_store_that_goes_leaves_nothing_of_it_in_a_loop_that_runs_on(void **state)
{
    struct device *dev = device_named("gone");

    (void)state;
    open_store(1000, 0, OVERFLOW_BLOCK);
    assert_null(store_read(the_store, 0, 1000));
    store_append(the_store, batch_of(dev, 1, 0, 50, NULL, true)); /* its bell waits to be rung */
    store_free(the_store);
    loop_advance(the_loop, 60000);
    assert_int_equal(n_readable, 0);
    the_store = NULL;
    close_store();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_appended_is_read_in_order_and_each_record_once),
        cmocka_unit_test(test_a_chunk_holds_at_least_one_record_and_outlives_its_acknowledgement),
        cmocka_unit_test(test_readable_is_told_once_after_a_read_that_found_nothing),
        cmocka_unit_test(test_a_full_store_keeps_batches_that_can_wait_and_refuses_the_others),
        cmocka_unit_test(test_drop_newest_refuses_at_the_door),
        cmocka_unit_test(test_a_batch_larger_than_the_store_passes_when_it_is_empty),
        cmocka_unit_test(test_drop_oldest_spares_what_is_in_flight_and_goes_by_sixteenths),
        cmocka_unit_test(test_dropping_the_tail_leaves_a_store_that_works),
        cmocka_unit_test(test_the_age_of_the_oldest_waiting_one_is_known),
        cmocka_unit_test(test_memory_goes_back_to_the_system_when_drained),
        cmocka_unit_test(test_batches_of_other_threads_arrive_in_their_order),
        cmocka_unit_test(test_stopping_answers_what_waits_and_what_comes_later),
        cmocka_unit_test(test_a_store_that_is_freed_without_a_stop_answers_what_waits),
        cmocka_unit_test(test_every_batch_is_answered_exactly_once_in_the_order_of_its_connector),
        cmocka_unit_test(test_each_device_of_dropped_data_is_named),
        cmocka_unit_test(test_a_store_that_goes_leaves_nothing_of_it_in_a_loop_that_runs_on),
        cmocka_unit_test(test_a_store_is_settled_when_every_batch_is_answered),
        cmocka_unit_test(test_other_limits_hold_at_once_also_for_what_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
