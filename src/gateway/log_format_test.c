/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/log_format.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static const struct log_place place = {"../src/gateway/statistics.c", "ask", 57};
/* 2026-01-02 03:04:05.067 in Berlin. */
static const struct log_line line = {.level = LOG_LEVEL_WARN,
                                     .logger = {"Plant \"MQTT\"", 12},
                                     .message = {"no reply unit=3 100%", 20},
                                     .place = &place,
                                     .wall_ms = 1767319445067,
                                     .thread = "loop1"};

static int setup(void **state)
{
    (void)state;
    setenv("TZ", "Europe/Berlin", 1);
    tzset();
    return 0;
}

static void assert_format(const char *format, const char *datefmt, const struct log_line *of, const char *want)
{
    struct arena arena;
    autobuf struct buf out = {0};

    arena_init(&arena, 256);
    log_format_put(log_format_new(&arena, str_from(format), str_from(datefmt)), of, &out);
    buf_add_u8(&out, 0);
    assert_string_equal((char *)out.p, want);
    arena_fini(&arena);
}

static void test_each_field_is_what_python_calls_it(void **state)
{
    static const struct {
        const char *format, *want;
    } cases[] = {{"%(asctime)s", "2026-01-02 03:04:05,067"},
                 {"%(msecs)03d", "067"},
                 {"%(msecs)d", "67"},
                 {"%(levelname)s", "WARNING"},
                 {"%(levelno)s", "30"},
                 {"%(name)s", "Plant \"MQTT\""},
                 {"%(filename)s", "statistics.c"},
                 {"%(module)s", "statistics"},
                 {"%(funcName)s", "ask"},
                 {"%(lineno)d", "57"},
                 {"%(threadName)s", "loop1"},
                 {"%(thread)d", "loop1"},
                 {"%(pathname)s", "../src/gateway/statistics.c"},
                 {"%(processName)s", "iotgw"},
                 {"%(created)f", "1767319445.067"},
                 {"%(message)s", "no reply unit=3 100%"}};
    char pid[24];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_format(cases[i].format, "", &line, cases[i].want);
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    assert_format("%(process)d", "", &line, pid);
}

static void test_a_whole_format_of_the_peer(void **state)
{
    (void)state;
    assert_format(
        "%(asctime)s.%(msecs)03d - |%(levelname)s| - [%(filename)s] - %(module)s - %(funcName)s - %(lineno)d - "
        "%(message)s",
        "%Y-%m-%d %H:%M:%S", &line,
        "2026-01-02 03:04:05.067 - |WARNING| - [statistics.c] - statistics - ask - 57 - no reply unit=3 100%");
}

static void test_widths_and_precisions_pad_and_cut(void **state)
{
    (void)state;
    assert_format("[%(levelname)-9s][%(levelname)9s][%(levelname).4s][%(lineno)05d][%(lineno)-5d]|", "", &line,
                  "[WARNING  ][  WARNING][WARN][00057][57   ]|");
    assert_format("[%(levelname)-9.4s]", "", &line, "[WARN     ]");
}

static void test_percent_signs_and_what_is_no_field_stay(void **state)
{
    static const struct {
        const char *format, *want, *unknown;
    } cases[] = {{"100%% %(name)s", "100% Plant \"MQTT\"", ""},
                 {"%%(name)s", "%(name)s", ""},
                 {"%(nome)s", "%(nome)s", "%(nome)"},
                 {"%(name", "%(name", "%(name"},
                 {"%(name)", "%(name)", "%(name)"},
                 {"%(name)x", "%(name)x", "%(name)"},
                 {"% %(lineno)d%", "% 57%", ""},
                 {"%", "%", ""},
                 {"", "", ""}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct str unknown = log_format_unknown(str_from(cases[i].format));

        assert_format(cases[i].format, "", &line, cases[i].want);
        assert_true(str_eq_z(unknown, cases[i].unknown));
    }
}

static void test_dates_of_any_length_fit_or_are_left_out(void **state)
{
    char datefmt[400] = "";

    (void)state;
    for (size_t i = 0; i + 4 < sizeof datefmt; i += 2)
        memcpy(datefmt + i, "%Y", 2);
    assert_format("[%(asctime)s]", datefmt, &line, "[]"); /* longer than any date: nothing rather than half of it */
    assert_format("%(asctime)s", "%d.%m.%y %H Uhr %%", &line, "02.01.26 03 Uhr %");
}

static void test_levels_have_the_names_and_numbers_of_python(void **state)
{
    static const char *const want[] = {"TRACE 5", "DEBUG 10", "INFO 20", "WARNING 30", "ERROR 40"};
    struct log_line of = line;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        of.level = (enum log_level)i;
        assert_format("%(levelname)s %(levelno)s", "", &of, want[i]);
    }
}

static void test_widths_out_of_all_measure_are_bounded(void **state)
{
    struct arena arena;
    autobuf struct buf out = {0};

    (void)state;
    arena_init(&arena, 256);
    log_format_put(log_format_new(&arena, STR("%(name)999999999s%(lineno)0999999999d"), STR_NONE), &line, &out);
    assert_in_range(out.n, 1, 10000);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_field_is_what_python_calls_it),
        cmocka_unit_test(test_a_whole_format_of_the_peer),
        cmocka_unit_test(test_widths_and_precisions_pad_and_cut),
        cmocka_unit_test(test_percent_signs_and_what_is_no_field_stay),
        cmocka_unit_test(test_dates_of_any_length_fit_or_are_left_out),
        cmocka_unit_test(test_levels_have_the_names_and_numbers_of_python),
        cmocka_unit_test(test_widths_out_of_all_measure_are_bounded),
    };

    setup(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
