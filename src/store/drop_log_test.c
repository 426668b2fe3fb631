/* SPDX-License-Identifier: Apache-2.0 */
#include "store/drop_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static char lines[8][512];
static unsigned n_lines;

static void catch (void *arg, enum log_level level, struct str line)
{
    (void)arg;
    assert_int_equal(level, LOG_LEVEL_ERROR);
    assert_true(n_lines < COUNT_OF(lines));
    snprintf(lines[n_lines++], sizeof lines[0], "%.*s", (int)line.n, line.p);
}

static void expect(unsigned i, const char *text)
{
    assert_true(i < n_lines);
    if (!strstr(lines[i], text))
        fail_msg("%s: not in %s", text, lines[i]);
}

static void test_the_first_drop_is_told_at_once_and_then_at_most_once_a_minute_with_first_and_last_time(void **state)
{
    struct loop *loop = loop_new_fake(INT64_C(1767323045000)); /* 2026-01-02 03:04:05 */
    struct drop_log drops;
    struct log log;

    (void)state;
    setenv("TZ", "UTC", 1);
    tzset();
    n_lines = 0;
    log_init(&log, "storage", LOG_LEVEL_INFO);
    log_set_sink(catch, NULL);
    drop_log_init(&drops, loop, &log);
    loop_advance(loop, 100000);
    assert_int_equal(n_lines, 0);
    drop_log_note(&drops, 2, 20);
    assert_int_equal(n_lines, 1);
    expect(0, "events are dropped: the storage takes no more");
    expect(0, "events=2");
    expect(0, "values=20");
    expect(0, "first=\"2026-01-02 03:05:45\"");
    expect(0, "last=\"2026-01-02 03:05:45\"");
    for (unsigned i = 0; i < 50; i++) { /* one a second, from the next second on */
        loop_advance(loop, 1000);
        drop_log_note(&drops, 1, 3);
    }
    assert_int_equal(n_lines, 1);
    loop_advance(loop, 10000);
    assert_int_equal(n_lines, 2);
    expect(1, "events=50");
    expect(1, "values=150");
    expect(1, "first=\"2026-01-02 03:05:46\"");
    expect(1, "last=\"2026-01-02 03:06:35\"");
    loop_advance(loop, 600000); /* nothing more is dropped, nothing more is said */
    assert_int_equal(n_lines, 2);
    drop_log_note(&drops, 1, 1);
    assert_int_equal(n_lines, 3);
    drop_log_note(&drops, 7, 9);
    assert_int_equal(n_lines, 3);
    drop_log_fini(&drops); /* the rest is not kept back */
    assert_int_equal(n_lines, 4);
    expect(3, "events=7");
    log_set_sink(NULL, NULL);
    log_fini(&log);
    loop_free(loop);
}

static void test_without_a_log_nothing_is_said(void **state)
{
    struct loop *loop = loop_new_fake(0);
    struct drop_log drops;

    (void)state;
    n_lines = 0;
    log_set_sink(catch, NULL);
    drop_log_init(&drops, loop, NULL);
    drop_log_note(&drops, 1, 1);
    loop_advance(loop, 100000);
    drop_log_fini(&drops);
    log_set_sink(NULL, NULL);
    assert_int_equal(n_lines, 0);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_drop_is_told_at_once_and_then_at_most_once_a_minute_with_first_and_last_time),
        cmocka_unit_test(test_without_a_log_nothing_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
