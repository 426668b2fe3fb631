/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/anew.h"

#include <errno.h>
#include <stdio.h>

static struct log test_log;
static char called[4096];
static unsigned n_lines;

static int note(const char *program, char *const argv[])
{
    int n = snprintf(called, sizeof called, "%s:", program);

    for (size_t i = 0; argv[i]; i++)
        n += snprintf(called + n, sizeof called - (size_t)n, " %s", argv[i]);
    errno = ENOENT;
    return -1;
}

static void count_line(void *arg, enum log_level level, struct str line)
{
    (void)arg;
    assert_int_equal(level, LOG_LEVEL_ERROR);
    assert_true(str_find(line, STR("cannot start anew"), 0) != SIZE_MAX);
    n_lines++;
}

static const char *program;

static void test_the_machine_is_rebooted_by_the_service_manager(void **state)
{
    (void)state;
    anew_begin(true, &test_log, note);
    assert_string_equal(called, "systemctl: systemctl reboot");
    assert_int_equal(n_lines, 1); /* it has come back */
}

static void test_the_program_is_begun_with_its_own_arguments(void **state)
{
    char text[4096];

    (void)state;
    anew_begin(false, &test_log, note);
    snprintf(text, sizeof text, "/proc/self/exe: %s", program);
    assert_string_equal(called, text);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_machine_is_rebooted_by_the_service_manager),
        cmocka_unit_test(test_the_program_is_begun_with_its_own_arguments),
    };

    (void)argc;
    program = argv[0];
    log_init(&test_log, "test", LOG_LEVEL_ERROR);
    log_set_sink(count_line, NULL);
    return cmocka_run_group_tests_name("gateway: anew", tests, NULL, NULL);
}
