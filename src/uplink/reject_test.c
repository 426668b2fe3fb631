/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "uplink/reject.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
    char top[64], dir[80], path[100];
    struct loop *loop;
    struct log log;
    struct reject_file file;
    uint64_t synced;
    unsigned n_synced;
};

static void on_synced(void *arg, uint64_t to)
{
    struct fixture *f = arg;

    assert_true(to > f->synced);
    f->synced = to;
    f->n_synced++;
}

static int setup(void **state)
{
    struct fixture *f = mem_zero(sizeof *f);

    snprintf(f->top, sizeof f->top, "/tmp/iotgw-reject-XXXXXX");
    assert_non_null(mkdtemp(f->top));
    snprintf(f->dir, sizeof f->dir, "%s/data", f->top);
    snprintf(f->path, sizeof f->path, "%s/rejected.jsonl", f->dir);
    assert_int_equal(mkdir(f->dir, 0700), 0);
    f->loop = loop_new_fake(1700000000000);
    log_init(&f->log, "test", LOG_LEVEL_OFF);
    reject_init(&f->file, f->loop, &f->log, f->path);
    reject_tell(&f->file, on_synced, f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char old[104];

    reject_fini(&f->file);
    loop_free(f->loop);
    log_fini(&f->log);
    snprintf(old, sizeof old, "%s.1", f->path);
    unlink(f->path);
    unlink(old);
    rmdir(f->dir);
    rmdir(f->top);
    mem_free(f);
    return 0;
}

static const char *content(struct fixture *f)
{
    static char text[4096];
    int fd = open(f->path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    assert_true(n >= 0);
    text[n] = 0;
    close(fd);
    return text;
}

static void test_lines_are_told_durable_in_order_and_many_at_once(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(reject_add(&f->file, STR("a\n")), 1);
    assert_int_equal(reject_add(&f->file, STR("b\n")), 2); /* while the first is being written */
    assert_int_equal(reject_add(&f->file, STR("c\n")), 3);
    assert_int_equal(f->synced, 0); /* never from within */
    loop_advance(f->loop, 0);
    assert_int_equal(f->synced, 3);
    assert_int_equal(f->n_synced, 2);
    assert_int_equal(reject_waiting_bytes(&f->file), 0);
    assert_string_equal(content(f), "a\nb\nc\n");
}

static void test_what_cannot_be_written_is_kept_and_written_once_it_can(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(rmdir(f->dir), 0);
    reject_add(&f->file, STR("a\n"));
    loop_advance(f->loop, 0);
    reject_add(&f->file, STR("b\n"));
    loop_advance(f->loop, 10 * 1000);
    assert_int_equal(f->synced, 0);
    assert_true(f->file.is_failing);
    assert_int_equal(reject_waiting_bytes(&f->file), 4);
    assert_int_equal(mkdir(f->dir, 0700), 0);
    loop_advance(f->loop, 5 * 1000);
    assert_int_equal(f->synced, 2);
    assert_false(f->file.is_failing);
    assert_string_equal(content(f), "a\nb\n");
}

static void test_a_line_that_was_written_in_part_is_not_there_twice(void **state)
{
    struct fixture *f = *state;
    struct rlimit all, few = {.rlim_cur = 6};

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &all), 0);
    few.rlim_max = all.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    reject_add(&f->file, STR("abc\n"));
    loop_advance(f->loop, 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &few), 0);
    reject_add(&f->file, STR("defg\n"));
    loop_advance(f->loop, 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &all), 0);
    assert_int_equal(f->synced, 1);
    assert_string_equal(content(f), "abc\n");
    loop_advance(f->loop, 5 * 1000);
    assert_int_equal(f->synced, 2);
    assert_string_equal(content(f), "abc\ndefg\n");
}

static void test_behind_a_line_that_a_crash_has_torn_begins_a_new_one(void **state)
{
    struct fixture *f = *state;
    int fd = open(f->path, O_WRONLY | O_CREAT, 0600);

    assert_int_equal(write(fd, "to", 2), 2);
    close(fd);
    reject_add(&f->file, STR("a\n"));
    loop_advance(f->loop, 0);
    assert_string_equal(content(f), "to\na\n");
}

static void on_closed(void *arg)
{
    *(bool *)arg = true;
}

static void test_closing_ends_also_when_nothing_can_be_written(void **state)
{
    struct fixture *f = *state;
    struct closer closer;
    bool is_closed = false;

    assert_int_equal(rmdir(f->dir), 0);
    reject_add(&f->file, STR("a\n"));
    loop_advance(f->loop, 0);
    closer_begin(&closer, f->loop, on_closed, &is_closed);
    reject_close(&f->file, &closer);
    closer_end(&closer);
    loop_advance(f->loop, 10);
    assert_true(is_closed);
    assert_int_equal(f->synced, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_lines_are_told_durable_in_order_and_many_at_once),
        TEST(test_what_cannot_be_written_is_kept_and_written_once_it_can),
        TEST(test_a_line_that_was_written_in_part_is_not_there_twice),
        TEST(test_behind_a_line_that_a_crash_has_torn_begins_a_new_one),
        TEST(test_closing_ends_also_when_nothing_can_be_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
