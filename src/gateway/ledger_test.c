/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "connector/ctx.h"
#include "gateway/ledger.h"
#include "store/file_io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct log quiet;

static void set(_Atomic(uint64_t) *counter, uint64_t n)
{
    atomic_store(counter, n);
}

static void clear(struct device *dev)
{
    set(&dev->n_collected, 0);
    set(&dev->n_adjusted, 0);
    set(&dev->n_unchanged, 0);
    set(&dev->n_repeated, 0);
    set(&dev->n_failed, 0);
    set(&dev->n_appended, 0);
    set(&dev->n_overflowed, 0);
    set(&dev->n_aged, 0);
    set(&dev->n_delivered, 0);
    set(&dev->n_rejected, 0);
}

static void assert_balances(const struct ledger_row *row)
{
    assert_true(row->collected < UINT64_C(1) << 62);
    assert_true(row->waiting <= row->collected);
    assert_true(row->overflow <= row->collected);
    assert_int_equal(row->collected,
                     row->delivered + row->waiting + row->overflow + row->age + row->rejected + row->damaged);
    assert_true(row->repeated <= row->collected);
}

static struct ledger_row total(const struct ledger *ledger)
{
    struct ledger_row sum = ledger_unattributed(ledger);

    for (uint32_t i = 0; i < device_count(); i++) {
        struct ledger_row row = ledger_row(ledger, device_at(i));

        assert_balances(&row);
        ledger_add(&sum, &row);
    }
    assert_balances(&sum);
    return sum;
}

/* --- a connector, the store in memory and an uplink that takes what it likes, in any order --------------------------------- */

enum { N_DEVICES = 7 };
static uint64_t seed;

static unsigned chance(unsigned n)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}

struct plant {
    struct loop *loop;
    struct store *store;
    struct ctx_host host;
    struct ctx *ctx;
    struct ledger *ledger;
    uint64_t cookie;
};

static const struct connector_type plant_type = {.size = sizeof plant_type, .abi = IOTGW_CONNECTOR_ABI, .name = "test"};

static struct store_stats stats_of(void *arg)
{
    return store_stats(((struct plant *)arg)->store);
}

static struct ctx *connector(struct plant *p)
{
    static int instance;
    struct ctx *ctx = ctx_new(&plant_type, "test", p->loop, &p->host, NULL);

    ctx_attach(ctx, &instance);
    return ctx;
}

static void nothing(void *arg)
{
    (void)arg;
}

static void end_connector(struct plant *p)
{
    ctx_attach(p->ctx, NULL);
    ctx_unref(p->ctx);
    loop_advance(p->loop, 0);
}

static void begin_plant(struct plant *p, const struct memory_conf *conf)
{
    static const struct store_events events = {0};

    *p = (struct plant){.loop = loop_new_fake(1700000000000)};
    for (uint32_t i = 0; i < device_count(); i++)
        clear(device_at(i));
    p->store = store_memory_new(p->loop, conf, &events, p);
    p->host.store = p->store;
    p->ledger = ledger_new(&(struct ledger_conf){.loop = p->loop, .log = &quiet, .stats = stats_of, .arg = p});
    p->ctx = connector(p);
}

static void end_plant(struct plant *p)
{
    end_connector(p);
    ledger_free(p->ledger);
    store_free(p->store);
    loop_free(p->loop);
}

static void put_some(struct plant *p)
{
    char name[16];
    int n = snprintf(name, sizeof name, "dev%u", chance(N_DEVICES));
    struct event *event = ctx_event(p->ctx, device_get(str_of(name, (size_t)n)), STR(""));

    for (unsigned i = chance(5) + 1; i; i--)
        event_add(event, chance(2) ? RECORD_TELEMETRY : RECORD_ATTRIBUTES,
                  i == 1   ? STR("\"a\":")
                  : i == 2 ? STR("\"b\":")
                           : STR("\"c\":"),
                  STR("1"), EVENT_NO_TS);
    if (chance(20) == 0)
        assert_int_equal(ctx_put_past(p->ctx, 1), ERR_OK);
    else
        assert_int_equal(ctx_put(p->ctx), ERR_OK);
}

static void deliver_some(struct plant *p)
{
    struct chunk *chunk = store_read(p->store, LANE_LIVE, 1 + chance(2000));

    if (!chunk)
        return;
    for (size_t at = 0; at < chunk->n;) {
        const struct record *record = (const struct record *)(const void *)(chunk->bytes + at);
        struct device *dev = device_at(record->dev);

        device_count_values(chance(10) ? &dev->n_delivered : &dev->n_rejected, record->n_values);
        at += record->size;
    }
    store_ack(p->store, LANE_LIVE, chunk->to);
    chunk_release(chunk);
}

/* Invariant 2. */
static void test_it_balances_after_each_step_whatever_happens(void **state)
{
    static const struct memory_conf confs[] = {
        {.max_events = 20, .overflow = OVERFLOW_DROP_OLDEST},
        {.max_events = 20, .overflow = OVERFLOW_DROP_NEWEST},
        {.max_events = 20, .overflow = OVERFLOW_BLOCK},
    };

    (void)state;
    for (unsigned round = 0; round < 30; round++) {
        struct plant p;
        struct ctx *left[64]; /* behind, until the end */
        size_t n_left = 0;

        seed = round;
        begin_plant(&p, &confs[round % COUNT_OF(confs)]);
        for (unsigned step = 0; step < 500; step++) {
            switch (chance(8)) {
            case 0:
                ctx_mark(p.ctx, ++p.cookie);
                break;
            case 1:
                loop_advance(p.loop, 1);
                break;
            case 2:
                deliver_some(&p);
                break;
            case 3:
                if (chance(20) == 0 && n_left < COUNT_OF(left)) {
                    ctx_bar(p.ctx);
                    left[n_left++] = p.ctx;
                    p.ctx = connector(&p);
                }
                if (chance(20) == 0) { /* in the middle of a message, perhaps */
                    end_connector(&p);
                    p.ctx = connector(&p);
                }
                break;
            default:
                put_some(&p);
            }
            (void)total(p.ledger);
        }
        end_connector(&p);
        loop_advance(p.loop, 0);
        if (!store_stats(p.store).is_blocked) /* nothing is left between connector and store */
            assert_int_equal(total(p.ledger).waiting, store_stats(p.store).n_values);
        store_stop(p.store, nothing, NULL); /* what waited for room is given back */
        loop_advance(p.loop, 0);
        assert_int_equal(total(p.ledger).waiting, store_stats(p.store).n_values);
        while (n_left) {
            p.ctx = left[--n_left];
            end_connector(&p);
        }
        ledger_free(p.ledger);
        store_free(p.store);
        loop_free(p.loop);
    }
}

/* --- what ends without being stored --------------------------------------------------------------------------------------- */

static void put_one(struct ctx *ctx)
{
    event_add(ctx_event(ctx, device_get(STR("dev0")), STR("")), RECORD_TELEMETRY, STR("\"a\":"), STR("1"), 1);
    assert_int_equal(ctx_put(ctx), ERR_OK);
}

static void test_invariant_2_a_connector_that_is_left_behind_keeps_nothing_waiting(void **state)
{
    struct plant p;

    (void)state;
    begin_plant(&p, &(struct memory_conf){.max_events = 100});
    put_one(p.ctx);
    assert_true(ctx_mark(p.ctx, 1));
    put_one(p.ctx); /* and it hangs in the middle of this message */
    assert_int_equal(total(p.ledger).waiting, 2);
    ctx_bar(p.ctx);
    loop_advance(p.loop, 0);
    assert_int_equal(store_stats(p.store).n_values, 1); /* the whole one is stored */
    assert_int_equal(total(p.ledger).collected, 1);
    assert_int_equal(total(p.ledger).waiting, 1);
    event_add(ctx_event(p.ctx, device_get(STR("dev0")), STR("")), RECORD_TELEMETRY, STR("\"a\":"), STR("2"), 1);
    assert_int_equal(ctx_put(p.ctx), ERR_CLOSED); /* it goes on after all */
    assert_false(ctx_mark(p.ctx, 2));
    loop_advance(p.loop, 0);
    assert_int_equal(total(p.ledger).waiting, store_stats(p.store).n_values);
    end_plant(&p);
}

static void remove_store(const char *path)
{
    DIR *list = opendir(path);

    assert_non_null(list);
    for (const struct dirent *entry; (entry = readdir(list));)
        (void)unlinkat(dirfd(list), entry->d_name, 0);
    closedir(list);
    assert_int_equal(rmdir(path), 0);
}

static ssize_t no_write(const struct file_io *io, int fd, const struct iovec *parts, int n_parts, off_t at)
{
    (void)io, (void)fd, (void)parts, (void)n_parts, (void)at;
    errno = EIO;
    return -1;
}

static void test_invariant_2_what_a_failing_disk_never_stored_does_not_wait_when_its_store_has_ended(void **state)
{
    static const struct store_events events = {0};
    char path[64] = "/tmp/iotgw-ledger-XXXXXX";
    struct file_io io = file_io_system;
    struct log log;
    struct why why;
    struct plant p = {.loop = loop_new_fake(1700000000000)};
    struct file_conf conf = {.path = path, .log = &log, .io = &io, .own = p.loop};

    (void)state;
    assert_non_null(mkdtemp(path));
    log_init(&log, "storage", LOG_LEVEL_OFF);
    for (uint32_t i = 0; i < device_count(); i++)
        clear(device_at(i));
    assert_int_equal(store_file_new(&p.store, p.loop, &conf, &events, &p, &why), ERR_OK);
    p.host.store = p.store;
    p.ledger = ledger_new(&(struct ledger_conf){.loop = p.loop, .log = &quiet, .stats = stats_of, .arg = &p});
    p.ctx = connector(&p);
    put_one(p.ctx);
    ctx_mark(p.ctx, 1);
    loop_advance(p.loop, 0);
    io.pwritev = no_write;
    for (unsigned i = 2; i < 5; i++) {
        put_one(p.ctx);
        ctx_mark(p.ctx, i);
        loop_advance(p.loop, 0);
    }
    assert_int_equal(total(p.ledger).waiting, 4); /* one is stored, and three are with the store */
    store_stop(p.store, nothing, NULL);
    loop_advance(p.loop, 10);
    put_one(p.ctx);
    ctx_mark(p.ctx, 5);
    loop_advance(p.loop, 0);
    assert_int_equal(total(p.ledger).waiting, 1);
    assert_int_equal(total(p.ledger).collected, 1);
    assert_int_equal(store_stats(p.store).n_values, 1);
    end_plant(&p);
    log_fini(&log);
    remove_store(path);
}

/* --- read while three threads count ----------------------------------------------------------------------------------------- */

enum { N_STREAM = 200 * 1000 };
struct stream {
    struct device *dev;
    atomic_uint n_given, n_stored;
};

static void *give(void *arg)
{
    struct stream *s = arg;

    for (unsigned i = 1; i <= N_STREAM; i++) {
        device_count_values(&s->dev->n_collected, 3);
        if (i % 5 == 0)
            device_count_values(&s->dev->n_repeated, 3);
        atomic_store_explicit(&s->n_given, i, memory_order_release);
    }
    return NULL;
}

static void *keep(void *arg)
{
    struct stream *s = arg;

    for (unsigned i = 1; i <= N_STREAM; i++) {
        while (atomic_load_explicit(&s->n_given, memory_order_acquire) < i)
            sched_yield();
        device_count_values(&s->dev->n_appended, 3);
        if (i % 7 == 0) {
            device_add_values(&s->dev->n_overflowed, 3);
            if (i % 14 == 0)
                device_add_values(&s->dev->n_aged, 3);
        } else if (i % 11 == 0) {
            device_add_values(&s->dev->n_adjusted, -UINT64_C(3));
        }
        atomic_store_explicit(&s->n_stored, i, memory_order_release);
    }
    return NULL;
}

static void *deliver(void *arg)
{
    struct stream *s = arg;

    for (unsigned i = 1; i <= N_STREAM; i++) {
        while (atomic_load_explicit(&s->n_stored, memory_order_acquire) < i)
            sched_yield();
        if (i % 7 && i % 11)
            device_count_values(i % 13 ? &s->dev->n_delivered : &s->dev->n_rejected, 3);
    }
    return NULL;
}

/* Invariant 2. */
static void test_it_balances_at_every_instant_while_threads_count(void **state)
{
    struct ledger *ledger = ledger_new(&(struct ledger_conf){.log = &quiet});
    struct stream s = {.dev = device_get(STR("streaming"))};
    void *(*const fns[])(void *) = {give, keep, deliver};
    pthread_t threads[COUNT_OF(fns)];
    struct ledger_row row;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(fns); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, fns[i], &s), 0);
    do {
        row = ledger_row(ledger, s.dev);
        assert_balances(&row);
    } while (atomic_load(&s.n_stored) < N_STREAM);
    for (size_t i = 0; i < COUNT_OF(fns); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    row = ledger_row(ledger, s.dev);
    assert_balances(&row);
    assert_int_equal(row.waiting, 0);
    assert_int_equal(row.overflow, row.age + (N_STREAM / 7 % 2 ? 3 : 0));
    clear(s.dev);
    ledger_free(ledger);
}

/* --- the file --------------------------------------------------------------------------------------------------------------- */

static struct store_stats held;
static char dir[64];

static struct store_stats stats_held(void *arg)
{
    (void)arg;
    return held;
}

static void end_loop(void *arg)
{
    loop_stop(arg);
}

static struct ledger *open_ledger(struct loop *loop)
{
    return ledger_new(&(struct ledger_conf){.loop = loop, .log = &quiet, .dir = dir, .stats = stats_held});
}

static void close_ledger(struct ledger *ledger, struct loop *loop)
{
    ledger_stop(ledger, end_loop, loop);
    loop_run(loop);
    ledger_free(ledger);
}

static void begin_process(struct device *dev, uint64_t n_held)
{
    clear(dev);
    set(&dev->n_appended, n_held);
}

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/iotgw-ledger-XXXXXX");
    for (uint32_t i = 0; i < device_count(); i++)
        clear(device_at(i));
    held = (struct store_stats){0};
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    char path[96];

    (void)state;
    snprintf(path, sizeof path, "%s/ledger.json", dir);
    (void)unlink(path);
    snprintf(path, sizeof path, "%s/ledger.json.broken", dir);
    (void)unlink(path);
    return rmdir(dir);
}

/* Invariant 2, after a restart. */
static void test_it_goes_on_after_a_restart_and_takes_what_the_storage_holds_after_a_crash(void **state)
{
    struct device *dev = device_get(STR("a \"quoted\" one"));
    struct loop *loop;
    struct ledger *ledger;
    struct ledger_row row;

    (void)state;
    assert_int_equal(loop_new(&loop, "test"), ERR_OK);
    begin_process(dev, 0);
    ledger = open_ledger(loop);
    device_count_values(&dev->n_collected, 100);
    device_count_values(&dev->n_appended, 100);
    device_count_values(&dev->n_delivered, 60);
    device_count_values(&dev->n_rejected, 5);
    device_add_values(&dev->n_overflowed, 10);
    device_add_values(&dev->n_aged, 4);
    device_add_values(&dev->n_failed, 2);
    held = (struct store_stats){.n_values = 25, .n_acked_values = 65, .n_dropped_values = 10};
    close_ledger(ledger, loop);

    begin_process(dev, 25);
    ledger = open_ledger(loop);
    row = ledger_row(ledger, dev);
    assert_balances(&row);
    assert_int_equal(row.collected, 100);
    assert_int_equal(row.delivered, 60);
    assert_int_equal(row.overflow, 6);
    assert_int_equal(row.age, 4);
    assert_int_equal(row.waiting, 25);
    assert_int_equal(row.failed, 2);
    ledger_free(ledger);

    held =
        (struct store_stats){.n_values = 15, .n_acked_values = 75, .n_dropped_values = 10}; /* ten more, then a crash */
    begin_process(dev, 15);
    ledger = open_ledger(loop);
    row = total(ledger);
    assert_int_equal(row.waiting, 15);
    assert_int_equal(row.collected, 100);
    assert_int_equal(ledger_unattributed(ledger).delivered, 10);
    clear(dev);
    ledger_free(ledger);
    loop_free(loop);
}

/* Invariant 2, after a start that found damage. */
static void test_what_the_storage_found_damaged_is_in_the_books_once(void **state)
{
    struct device *dev = device_get(STR("damaged"));
    struct loop *loop;
    struct ledger *ledger;
    struct ledger_row row;

    (void)state;
    assert_int_equal(loop_new(&loop, "test"), ERR_OK);
    held = (struct store_stats){.n_values = 20, .n_dropped_values = 6, .n_damaged_values = 6};
    begin_process(dev, 20); /* without a file */
    ledger = open_ledger(loop);
    row = total(ledger);
    assert_balances(&row);
    assert_int_equal(row.damaged, 6);
    assert_int_equal(row.collected, 26);
    assert_int_equal(row.overflow, 0);
    device_count_values(&dev->n_collected, 1);
    close_ledger(ledger, loop);

    held.n_damaged_values = 0; /* as its state says, they were counted */
    begin_process(dev, 20);
    ledger = open_ledger(loop);
    row = total(ledger);
    assert_balances(&row);
    assert_int_equal(row.damaged, 6);
    assert_int_equal(row.collected, 26);
    ledger_free(ledger);

    held.n_dropped_values = 15; /* more damage, and what was dropped before a crash */
    held.n_damaged_values = 5;
    begin_process(dev, 20);
    ledger = open_ledger(loop);
    row = total(ledger);
    assert_balances(&row);
    assert_int_equal(row.damaged, 11);
    assert_int_equal(row.overflow, 4);
    clear(dev);
    ledger_free(ledger);
    loop_free(loop);
}

static void test_it_follows_the_storage_to_another_directory(void **state)
{
    struct device *dev = device_get(STR("mover"));
    struct loop *loop;
    struct ledger *ledger;

    (void)state;
    assert_int_equal(loop_new(&loop, "test"), ERR_OK);
    ledger = ledger_new(&(struct ledger_conf){.loop = loop, .log = &quiet, .stats = stats_held});
    device_count_values(&dev->n_collected, 10);
    device_count_values(&dev->n_delivered, 4);
    ledger_move(ledger, dir);
    close_ledger(ledger, loop);
    begin_process(dev, 6);
    ledger = open_ledger(loop);
    assert_int_equal(ledger_row(ledger, dev).collected, 10);
    assert_int_equal(ledger_row(ledger, dev).delivered, 4);
    clear(dev);
    ledger_free(ledger);
    loop_free(loop);
}

static void test_what_is_no_ledger_is_put_aside(void **state)
{
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "{\"version\":2,\"acknowledged\":0,\"dropped\":0,\"unattributed\":[0,0,0,0,0,0,0,0],\"devices\":[]}",
        "{\"version\":1,\"acknowledged\":-1,\"dropped\":0,\"unattributed\":[0,0,0,0,0,0,0,0],\"devices\":[]}",
        "{\"version\":1,\"acknowledged\":0,\"dropped\":0,\"unattributed\":[0,0,0,0,0,0,0],\"devices\":[]}",
        "{\"version\":1,\"acknowledged\":0,\"dropped\":0,\"unattributed\":[0,0,0,0,0,0,0,0],\"devices\":[[]]}",
        "{\"version\":1,\"acknowledged\":0,\"dropped\":0,\"unattributed\":[0,0,0,0,0,0,0,0],\"devices\":[[\"\",0,0,0,0,"
        "0,0,0,0]]}",
        "{\"version\":1,\"acknowledged\":0,\"dropped\":0,\"unattributed\":[0,0,0,0,0,0,0,0],\"devices\":[[\"x\",1e300,"
        "0,0,0,0,0,0,0]]}",
    };
    struct device *dev = device_get(STR("holder"));
    struct loop *loop;
    char path[96];

    (void)state;
    assert_int_equal(loop_new(&loop, "test"), ERR_OK);
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct ledger *ledger;

        snprintf(path, sizeof path, "%s/ledger.json", dir);
        assert_int_equal(file_put(path, str_from(texts[i]), FILE_REPLACE, NULL, NULL), ERR_OK);
        begin_process(dev, 7);
        held = (struct store_stats){.n_values = 7};
        ledger = open_ledger(loop);
        assert_int_equal(total(ledger).waiting, 7);
        assert_int_equal(total(ledger).collected, 7);
        ledger_free(ledger);
        assert_int_not_equal(access(path, F_OK), 0);
        snprintf(path, sizeof path, "%s/ledger.json.broken", dir);
        assert_int_equal(access(path, F_OK), 0);
    }
    clear(dev);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_balances_after_each_step_whatever_happens),
        cmocka_unit_test(test_invariant_2_a_connector_that_is_left_behind_keeps_nothing_waiting),
        cmocka_unit_test(test_invariant_2_what_a_failing_disk_never_stored_does_not_wait_when_its_store_has_ended),
        cmocka_unit_test(test_it_balances_at_every_instant_while_threads_count),
        cmocka_unit_test_setup_teardown(test_it_goes_on_after_a_restart_and_takes_what_the_storage_holds_after_a_crash,
                                        make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_what_the_storage_found_damaged_is_in_the_books_once, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_it_follows_the_storage_to_another_directory, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_what_is_no_ledger_is_put_aside, make_dir, remove_dir),
    };

    log_init(&quiet, "test", LOG_LEVEL_OFF);
    log_set_sink(NULL, NULL);
    ctx_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
