/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "gateway/crash_book.h"

enum { NOW = 1795000000 };

static struct crash_book book_of(const char *text)
{
    struct crash_book book;

    crash_book_read(&book, str_from(text), NOW);
    return book;
}

static struct crash_verdict after(const int *seconds_ago, size_t n)
{
    struct crash_book book;
    autobuf struct buf text = {0};

    for (size_t i = 0; i < n; i++)
        buf_printf(&text, "{\"at\":%d,\"signal\":11,\"where\":\"0x1\",\"connector\":\"Plant\",\"type\":\"x\"}\n",
                   NOW - seconds_ago[i]);
    crash_book_read(&book, buf_str(&text), NOW);
    return crash_book_judge(&book, STR("Plant"));
}
#define AFTER(...) after((const int[]){__VA_ARGS__}, sizeof((const int[]){__VA_ARGS__}) / sizeof(int))

static void test_twice_within_ten_minutes_holds_back_and_once_does_not(void **state)
{
    (void)state;
    assert_int_equal(after(NULL, 0).n, 0);
    assert_int_equal(AFTER(5).until_s, 0);
    assert_int_equal(AFTER(605, 4).until_s, 0);
    assert_int_equal(AFTER(604, 4).until_s, NOW - 4 + 60);
    assert_int_equal(AFTER(4, 604).until_s, NOW - 4 + 60); /* in any order */
}

static void test_the_pause_grows_to_an_hour(void **state)
{
    static const int pauses[] = {60, 120, 240, 480, 960, 1920, 3600, 3600};
    int ago[COUNT_OF(pauses) + 1];

    (void)state;
    for (size_t n = 2; n < COUNT_OF(ago); n++) {
        for (size_t i = 0; i < n; i++)
            ago[i] = (int)(n - i);
        assert_int_equal(after(ago, n).until_s, NOW - 1 + pauses[n - 2]);
    }
}

static void test_a_fault_after_the_pause_goes_on_with_the_row(void **state)
{
    struct crash_verdict verdict;

    (void)state;
    verdict = AFTER(1000, 999, 999 - 60 - 600); /* held back for a minute, then it ran for ten */
    assert_int_equal(verdict.n, 3);
    verdict = AFTER(1000, 999, 999 - 60 - 601);
    assert_int_equal(verdict.n, 1);
    assert_int_equal(verdict.until_s, 0);
}

static void test_only_what_names_it_counts(void **state)
{
    struct crash_book book = book_of("{\"at\":1794999990,\"signal\":11,\"connector\":\"A\"}\n"
                                     "{\"at\":1794999991,\"signal\":6,\"connector\":\"B\"}\n"
                                     "{\"at\":1794999992,\"signal\":6}\n"
                                     "{\"at\":1794999993,\"signal\":6,\"connector\":\"A\"}\n");

    (void)state;
    assert_int_equal(book.n, 4);
    assert_int_equal(crash_book_judge(&book, STR("A")).n, 2);
    assert_int_equal(crash_book_judge(&book, STR("A")).last->signal, 6);
    assert_int_equal(crash_book_judge(&book, STR("B")).n, 1);
    assert_int_equal(crash_book_judge(&book, STR("")).n, 0);
}

static void test_what_is_no_record_is_left_out(void **state)
{
    static const char *const wrong[] = {"",
                                        "\n\n   \n",
                                        "{",
                                        "[]",
                                        "5",
                                        "{\"at\":\"x\",\"signal\":11}",
                                        "{\"at\":1794999990}",
                                        "{\"at\":1794999990,\"signal\":0}",
                                        "{\"at\":1794999990,\"signal\":999999999999999999999}",
                                        "{\"at\":1795000001,\"signal\":11}", /* to come */
                                        "{\"at\":1794913600,\"signal\":11}"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        assert_int_equal(book_of(wrong[i]).n, 0);
}

static void test_what_is_printed_is_read_again_and_has_room(void **state)
{
    struct crash_book book = book_of("{\"at\":1794999990,\"signal\":11,\"where\":\"module+0x12\",\"connector\":\"Pl "
                                     "\\\"1\\\"\",\"type\":\"x\"}"),
                      again;
    autobuf struct buf text = {0};

    (void)state;
    crash_book_print(&text, &book);
    assert_int_equal(text.n, CRASH_LINE * CRASH_LINES);
    crash_book_read(&again, buf_str(&text), NOW);
    assert_int_equal(again.n, 1);
    assert_string_equal(again.records[0].connector, "Pl \"1\"");
    assert_string_equal(again.records[0].where, "module+0x12");
}

static void test_the_newest_stay(void **state)
{
    struct crash_book book;
    autobuf struct buf text = {0};

    (void)state;
    for (int i = 0; i < 3 * CRASH_KEPT; i++)
        buf_printf(&text, "{\"at\":%d,\"signal\":11,\"connector\":\"c%d\"}\n", NOW - (i * 7) % (3 * CRASH_KEPT), i);
    crash_book_read(&book, buf_str(&text), NOW);
    assert_int_equal(book.n, CRASH_KEPT);
    for (size_t i = 0; i < book.n; i++)
        assert_int_equal(book.records[i].at_s, NOW - (int64_t)(CRASH_KEPT - 1 - i));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_twice_within_ten_minutes_holds_back_and_once_does_not),
        cmocka_unit_test(test_the_pause_grows_to_an_hour),
        cmocka_unit_test(test_a_fault_after_the_pause_goes_on_with_the_row),
        cmocka_unit_test(test_only_what_names_it_counts),
        cmocka_unit_test(test_what_is_no_record_is_left_out),
        cmocka_unit_test(test_what_is_printed_is_read_again_and_has_room),
        cmocka_unit_test(test_the_newest_stay),
    };

    return cmocka_run_group_tests_name("gateway: book of faults", tests, NULL, NULL);
}
