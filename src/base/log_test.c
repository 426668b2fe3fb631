/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/log.h"

#include <pthread.h>
#include <semaphore.h>

/* An output that stands still at its first line until it is let go, as a terminal whose reader does not read. */
static sem_t came, may_go;
static struct buf written; /* the writer's until it has ended */
static unsigned n_written;
static bool has_stood;

static void stand_still(void *arg, const struct log_line *line)
{
    (void)arg;
    if (!has_stood) {
        has_stood = true;
        sem_post(&came);
        sem_wait(&may_go);
    }
    n_written++;
    buf_add_str(&written, line->logger);
    buf_add_u8(&written, ' ');
    buf_add_str(&written, line->message);
    buf_add_u8(&written, '\n');
}

static void begin(struct log *log)
{
    sem_init(&came, 0, 0);
    sem_init(&may_go, 0, 0);
    has_stood = false;
    n_written = 0;
    log_init(log, "plant", LOG_LEVEL_DEBUG);
    log_set_output(stand_still, NULL, NULL);
    assert_int_equal(log_start_writer(), ERR_OK);
    LOG_DEBUG(log, "first");
    sem_wait(&came);
}

static void end(struct log *log)
{
    log_set_output(NULL, NULL, NULL);
    log_fini(log);
    buf_fini(&written);
    written = (struct buf){0};
    sem_destroy(&came);
    sem_destroy(&may_go);
}

static bool is_written(const char *text)
{
    return str_find(buf_str(&written), str_from(text), 0) != SIZE_MAX;
}

static void test_whoever_logs_does_not_wait_for_a_slow_output_and_what_is_dropped_is_told(void **state)
{
    struct log log;
    uint64_t before = log_n_dropped();

    (void)state;
    begin(&log);
    for (unsigned i = 0; i < 5000; i++)
        LOG_DEBUG(&log, "line", KV_UINT("i", i));
    assert_int_equal(log_n_dropped() - before, 5000 - 4096);
    sem_post(&may_go);
    assert_true(log_stop_writer());
    assert_int_equal(n_written, 1 + 4096 + 1);
    assert_true(is_written("plant line i=4095\n") && !is_written("plant line i=4096\n"));
    assert_true(is_written("service log lines dropped: they came faster than they could be written lines=904\n"));
    end(&log);
}

static void test_the_queue_is_bounded_in_bytes_too(void **state)
{
    char text[512];
    struct log log;
    uint64_t before = log_n_dropped(), n;

    (void)state;
    begin(&log);
    memset(text, 'x', sizeof text);
    for (unsigned i = 0; i < 4000; i++)
        LOG_DEBUG(&log, "line", KV_STR("a", str_of(text, 512)), KV_STR("b", str_of(text, 512)));
    n = log_n_dropped() - before;
    assert_in_range(n, 4000 - 2 * 1024 * 1024 / 1024, 4000 - 1024);
    sem_post(&may_go);
    assert_true(log_stop_writer());
    assert_int_equal(n_written, 1 + 4000 - n + 1);
    end(&log);
}

static void note_call(void *arg)
{
    *(unsigned *)arg = n_written;
}

static void test_what_runs_on_the_writer_keeps_its_place_between_lines_and_is_never_dropped(void **state)
{
    struct log log;
    unsigned n_before = 0, n_at_end = 0;

    (void)state;
    begin(&log);
    LOG_DEBUG(&log, "second");
    log_on_writer(note_call, &n_before);
    for (unsigned i = 0; i < 5000; i++)
        LOG_DEBUG(&log, "line", KV_UINT("i", i));
    log_on_writer(note_call, &n_at_end);
    sem_post(&may_go);
    assert_true(log_stop_writer());
    assert_int_equal(n_before, 2);
    assert_int_equal(n_at_end, n_written - 1); /* but for what tells of the dropped ones */
    log_on_writer(note_call, &n_before);       /* no writer: at once */
    assert_int_equal(n_before, n_written);
    end(&log);
}

enum { THREADS = 4, LINES = 500 };

static void *log_much(void *arg)
{
    struct log *log = arg;

    for (unsigned i = 0; i < LINES; i++) {
        LOG_DEBUG(log, "line", KV_UINT("i", i));
        if (i % 100 == 0)
            log_set_level(log, LOG_LEVEL_DEBUG);
    }
    return NULL;
}

static void test_lines_of_several_threads_are_each_written_once_and_whole(void **state)
{
    pthread_t threads[THREADS];
    struct log log;
    unsigned n_whole = 0;
    struct str rest, line;

    (void)state;
    begin(&log);
    sem_post(&may_go);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_much, &log), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(log_stop_writer());
    assert_int_equal(n_written, 1 + THREADS * LINES);
    rest = buf_str(&written);
    while (str_split(&rest, '\n', &line) && line.n)
        n_whole += str_starts(line, STR("plant line i=")) && line.n <= 16;
    assert_int_equal(n_whole, THREADS * LINES);
    end(&log);
}

static void test_levels_of_this_machine_and_of_the_platform_do_not_change_each_other(void **state)
{
    struct log log;

    (void)state;
    log_init(&log, "plant", LOG_LEVEL_WARN);
    assert_int_equal(atomic_load(&log.level), LOG_LEVEL_WARN);
    log_set_remote_level(&log, LOG_LEVEL_DEBUG);
    assert_int_equal(atomic_load(&log.level), LOG_LEVEL_DEBUG);
    assert_int_equal(log_own_level(&log), LOG_LEVEL_WARN);
    log_set_level(&log, LOG_LEVEL_TRACE);
    assert_int_equal(atomic_load(&log.level), LOG_LEVEL_TRACE);
    log_set_level(&log, LOG_LEVEL_OFF);
    assert_int_equal(atomic_load(&log.level), LOG_LEVEL_DEBUG);
    log_set_remote_level(&log, LOG_LEVEL_OFF);
    assert_int_equal(atomic_load(&log.level), LOG_LEVEL_OFF);
    log_fini(&log);
}

static void read_count(void *arg, const char *name, uint64_t n)
{
    if (!strcmp(name, "counted by name"))
        *(uint64_t *)arg += n;
}

static void drop_line(void *arg, enum log_level level, struct str line)
{
    (void)arg, (void)level, (void)line;
}

static void test_errors_are_counted_by_name_over_several_lives_folded_ones_too(void **state)
{
    uint64_t n = 0;

    (void)state;
    log_set_sink(drop_line, NULL);
    for (int life = 0; life < 3; life++) {
        char name[] = "counted by name"; /* does not outlive its log */
        struct log log;

        log_init(&log, name, LOG_LEVEL_INFO);
        for (int i = 0; i < 5; i++)
            LOG_ERROR(&log, "the same");
        LOG_WARN(&log, "no error");
        log_fini(&log);
    }
    log_set_sink(NULL, NULL);
    log_each_error_count(read_count, &n);
    assert_int_equal(n, 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whoever_logs_does_not_wait_for_a_slow_output_and_what_is_dropped_is_told),
        cmocka_unit_test(test_the_queue_is_bounded_in_bytes_too),
        cmocka_unit_test(test_what_runs_on_the_writer_keeps_its_place_between_lines_and_is_never_dropped),
        cmocka_unit_test(test_lines_of_several_threads_are_each_written_once_and_whole),
        cmocka_unit_test(test_levels_of_this_machine_and_of_the_platform_do_not_change_each_other),
        cmocka_unit_test(test_errors_are_counted_by_name_over_several_lives_folded_ones_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
