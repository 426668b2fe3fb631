/* SPDX-License-Identifier: Apache-2.0 */
#include "data/timestamp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

enum { D = 1, Y = 2 };
#define NOW_MS 1718447400000ll /* 2024-06-15 10:30:00 UTC */
#define NONE INT64_MIN

static int in_zone(const char *zone)
{
    setenv("TZ", zone, 1);
    tzset();
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    return in_zone("UTC");
}

static void check(const char *text, int flags, int64_t want)
{
    struct timestamp_format format = {flags & D, flags & Y};
    int64_t got = NONE;
    enum err err = timestamp_parse(str_from(text), format, NOW_MS, &got, NULL);

    if (err)
        got = NONE;
    if (got != want)
        fail_msg("%s: want %lld, got %lld", text, (long long)want, (long long)got);
}

static void test_numbers_are_seconds_or_milliseconds_by_their_size(void **state)
{
    (void)state;
    check("1700000000", 0, 1700000000000);
    check("1700000000123", 0, 1700000000123);
    check("99999999999", 0, 99999999999000);
    check("100000000000", 0, 100000000000);
    check("1700000000.5", 0, 1700000000500);
    check("1700000000123.9", 0, 1700000000123);
    check("1.7e9", 0, 1700000000000);
    check(" 1700000000 ", 0, 1700000000000);
    check("-5", 0, -5000);
    check("0", 0, 0);
    check("1e400", 0, NONE);
    check("99999999999999999999", 0, NONE);
}

static void test_iso_forms_are_read(void **state)
{
    static const int64_t day = 1704153600000; /* 2024-01-02 */

    (void)state;
    check("2024-01-02", 0, day);
    check("2024-01-02", D, day);
    check("2024/01/02", D, day);
    check("2024.01.02", D, day);
    check("2024-01-02T03:04:05", 0, day + 11045000);
    check("2024-01-02 03:04:05.678", 0, day + 11045678);
    check("2024-01-02T03:04:05,6789", 0, day + 11045678);
    check("2024-01-02T03:04", 0, day + 11040000);
    check("2024-01-02T03:04:05Z", 0, day + 11045000);
    check("2024-01-02 03:04:05.678+02:00", 0, day + 11045678 - 7200000);
    check("2024-01-02T03:04:05-0530", 0, day + 11045000 + 19800000);
    check("2024-01-02T03:04:05 +02", 0, day + 11045000 - 7200000);
    check("20240102T030405", 0, day + 11045000);
    check("20240102T0304", 0, day + 11040000);
    check("20240102T030405.5Z", 0, day + 11045500);
    check("20240102T03", 0, day + 10800000);
    check("2024-02-29", 0, 1709164800000);
    check("0001-01-01", 0, -62135596800000);
    check("9999-12-31T23:59:59.999Z", 0, 253402300799999);
    check("1969-12-31T23:59:59.999Z", 0, -1);
    check("2023-02-29", 0, NONE);
    check("2024-13-01", 0, NONE);
    check("2024-25-04", D, NONE);
    check("2024-01-02T24:00", 0, NONE);
    check("2024-01-02T03:60", 0, NONE);
    check("2024-01-02T03:04:60", 0, NONE);
    check("2024-01-02T", 0, NONE);
    check("2024-01-02X03:04", 0, NONE);
    check("2024-01-02T03:04:05+2", 0, NONE);
    check("2024-01-02T03:04:05+25:00", 0, NONE);
    check("2024-01-02T03:04:05 Z x", 0, NONE);
    check("2024-01-02T03:04:05.", 0, NONE);
    check("2024-1", 0, NONE);
}

static void test_numeric_dates_follow_their_flags(void **state)
{
    static const int64_t apr_5 = 1712275200000, may_4 = 1714780800000, apr_25 = 1714003200000;
    static const int64_t y2012_10_11 = 1349913600000, y2012_11_10 = 1352505600000, y2010_11_12 = 1289520000000,
                         y2010_12_11 = 1292025600000;

    (void)state;
    check("05/04/2024", 0, may_4);
    check("05/04/2024", D, apr_5);
    check("5-4-2024", 0, may_4);
    check("5.4.2024", D, apr_5);
    check("25/04/2024", 0, apr_25);
    check("04/25/2024", D, apr_25);
    check("05/04/2024 01:02:03", D, apr_5 + 3723000);
    check("05/04/2024, 1:02 PM", D, apr_5 + 46920000);
    check("10-11-12", 0, y2012_10_11);
    check("10-11-12", D, y2012_11_10);
    check("10-11-12", Y, y2010_11_12);
    check("10-11-12", D | Y, y2010_12_11);
    check("10-11-2012", Y, y2012_10_11);
    check("99-01-02", 0, 915235200000);
    check("05/04-2024", 0, NONE);
    check("25/25/2024", 0, NONE);
    check("5/4", 0, NONE);
    check("5/4/024", 0, NONE);
    check("0/4/2024", 0, NONE);
}

static void test_dates_with_names_are_read(void **state)
{
    static const int64_t day = 1704153600000;

    (void)state;
    check("Tue, 02 Jan 2024 03:04:05 GMT", 0, day + 11045000);
    check("02 Jan 2024 03:04:05 +0100", 0, day + 11045000 - 3600000);
    check("Tuesday, 2 January 2024", 0, day);
    check("2 Jan 2024", 0, day);
    check("2-Jan-2024 03:04", 0, day + 11040000);
    check("2 Jan. 24", 0, day);
    check("Jan 2, 2024", 0, day);
    check("January 2 2024", 0, day);
    check("jan 2, 2024 3:04 PM", 0, day + 54240000);
    check("Jan 2, 2024 12:00 am", 0, day);
    check("Jan 2, 2024 12:00PM", 0, day + 43200000);
    check("Sept 5, 2024", 0, 1725494400000);
    check("Jan 2, 2024 13:00 PM", 0, NONE);
    check("Jan 2, 2024 0:30 AM", 0, NONE);
    check("Foo 2, 2024", 0, NONE);
    check("2 Foo 2024", 0, NONE);
    check("Ja 2, 2024", 0, NONE);
    check("Jan 2024", 0, NONE);
    check("32 Jan 2024", 0, NONE);
}

static void test_time_alone_is_today(void **state)
{
    static const int64_t today = 1718409600000;

    (void)state;
    check("03:04", 0, today + 11040000);
    check("3:04:05.5 PM", 0, today + 54245500);
    check("3 PM", 0, today + 54000000);
    check("03:04Z", 0, today + 11040000);
    check("3", 0, 3000); /* a number */
    check("3:4", 0, NONE);
}

static void
test_while_nobody_knows_the_day_a_time_alone_is_none_and_years_of_two_digits_are_near_the_program(void **state)
{
    int64_t ms = 0;

    (void)state;
    assert_int_equal(timestamp_parse(STR("03:04"), (struct timestamp_format){0}, TIMESTAMP_NO_NOW, &ms, NULL),
                     ERR_RANGE);
    assert_int_equal(timestamp_parse(STR("3 PM"), (struct timestamp_format){0}, TIMESTAMP_NO_NOW, &ms, NULL),
                     ERR_RANGE);
    assert_int_equal(ms, 0);
    assert_int_equal(
        timestamp_parse(STR("2024-06-15 03:04Z"), (struct timestamp_format){0}, TIMESTAMP_NO_NOW, &ms, NULL), ERR_OK);
    assert_int_equal(ms, INT64_C(1718420640000));
    assert_int_equal(timestamp_parse(STR("06/15/24 03:04Z"), (struct timestamp_format){0}, TIMESTAMP_NO_NOW, &ms, NULL),
                     ERR_OK);
    assert_int_equal(ms, INT64_C(1718420640000));
    assert_int_equal(timestamp_parse(STR("3"), (struct timestamp_format){0}, TIMESTAMP_NO_NOW, &ms, NULL), ERR_OK);
    assert_int_equal(ms, 3000);
}

static void test_words_are_no_time(void **state)
{
    static const char *const cases[] = {"",
                                        " ",
                                        "x",
                                        "true",
                                        "T",
                                        "Z",
                                        "-",
                                        "2024-",
                                        "2024-01-",
                                        "::",
                                        "Tue",
                                        "Tue,",
                                        "12:34:56:78",
                                        "2024-01-02 03:04:05 2024-01-02 03:04:05 2024-01-02 03:04:05 2024-01-02"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        check(cases[i], 0, NONE);
}

static void test_zone_of_the_machine_is_used_where_none_is_given(void **state)
{
    bool foreign = false;
    int64_t ms;

    (void)state;
    in_zone("CET-1CEST,M3.5.0,M10.5.0/3");
    check("2025-01-02 03:00:00", 0, 1735783200000);
    check("2025-07-02 03:00:00", 0, 1751418000000);
    check("2025-07-02 03:00:00Z", 0, 1751425200000);
    assert_int_equal(timestamp_parse(STR("2025-07-03 03:00 PST"), (struct timestamp_format){0}, NOW_MS, &ms, &foreign),
                     ERR_OK);
    assert_true(foreign);
    assert_int_equal(ms, 1751504400000);
    assert_int_equal(
        timestamp_parse(STR("2025-07-03 03:00 Europe/Berlin"), (struct timestamp_format){0}, NOW_MS, &ms, &foreign),
        ERR_OK);
    assert_true(foreign);
    assert_int_equal(timestamp_parse(STR("2025-07-03 03:00 utc"), (struct timestamp_format){0}, NOW_MS, &ms, &foreign),
                     ERR_OK);
    assert_false(foreign);
    in_zone("UTC");
}

static void check_field(const char *field_text, const char *data, int64_t want)
{
    yyjson_doc *doc = json_read(str_from(data), NULL);
    struct ts_field field;
    struct arena arena;
    int64_t got = NONE;

    arena_init(&arena, 0);
    assert_int_equal(ts_field_compile(&field, &arena, str_from(field_text), false, false, NULL), ERR_OK);
    if (!ts_field_eval(&field, yyjson_doc_get_root(doc), NOW_MS, &arena, &got))
        got = NONE;
    if (got != want)
        fail_msg("%s in %s: want %lld, got %lld", field_text, data, (long long)want, (long long)got);
    arena_fini(&arena);
    yyjson_doc_free(doc);
}

static void test_fields_are_looked_up_and_then_searched_by_their_last_name(void **state)
{
    (void)state;
    check_field("${at}", "{\"at\":1700000000}", 1700000000000);
    check_field("at", "{\"at\":\"2024-01-02\"}", 1704153600000);
    check_field("x.at", "{\"x\":{\"at\":1700000000123}}", 1700000000123);
    check_field("${q.at}", "{\"r\":[{\"at\":1700000000}]}", 1700000000000);
    check_field("${at}", "{\"r\":{\"at\":1},\"s\":{\"at\":2}}", 1000);
    check_field("${q.at}", "{\"at\":\"x\"}", NONE);
    check_field("${at[0]}", "{\"r\":{\"at\":[5]}}", NONE);
    check_field("${at}", "{\"at\":null}", NONE);
    check_field("${at}", "{\"at\":true}", NONE);
    check_field("${at}", "{\"at\":{\"a\":1}}", NONE);
    check_field("${d}T03:00Z", "{\"d\":\"2024-01-02\"}", 1704164400000);
}

static void test_bad_time_expressions_are_refused(void **state)
{
    static const char *const cases[] = {"", " ", "${a}${b}", "${}", "${a[?(x)]}"};
    struct arena arena;

    (void)state;
    arena_init(&arena, 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct ts_field field;
        struct why why = {0};

        assert_int_not_equal(ts_field_compile(&field, &arena, str_from(cases[i]), false, false, &why), ERR_OK);
        assert_int_not_equal(why.text[0], 0);
    }
    arena_fini(&arena);
}

static void test_time_of_the_data_is_ts_or_timestamp(void **state)
{
    static const struct {
        const char *data;
        int64_t want;
    } cases[] = {
        {"{\"ts\":5}", 5},
        {"{\"ts\":5.9,\"timestamp\":6}", 5},
        {"{\"ts\":\"17\"}", 17},
        {"{\"timestamp\":6}", 6},
        {"{\"ts\":\"2024-01-02\"}", 1704153600000},
        {"{\"ts\":\"x\",\"timestamp\":6}", 6},
        {"{\"ts\":true}", NONE},
        {"{\"ts\":1e30}", NONE},
        {"{}", NONE},
        {"[1]", NONE},
        {"5", NONE},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        yyjson_doc *doc = json_read(str_from(cases[i].data), NULL);
        int64_t ms = NONE;
        bool found = timestamp_of_data(yyjson_doc_get_root(doc), NOW_MS, &ms);

        assert_int_equal(found, cases[i].want != NONE);
        if (found)
            assert_int_equal(ms, cases[i].want);
        yyjson_doc_free(doc);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_are_seconds_or_milliseconds_by_their_size),
        cmocka_unit_test(test_iso_forms_are_read),
        cmocka_unit_test(test_numeric_dates_follow_their_flags),
        cmocka_unit_test(test_dates_with_names_are_read),
        cmocka_unit_test(test_time_alone_is_today),
        cmocka_unit_test(
            test_while_nobody_knows_the_day_a_time_alone_is_none_and_years_of_two_digits_are_near_the_program),
        cmocka_unit_test(test_words_are_no_time),
        cmocka_unit_test(test_zone_of_the_machine_is_used_where_none_is_given),
        cmocka_unit_test(test_fields_are_looked_up_and_then_searched_by_their_last_name),
        cmocka_unit_test(test_bad_time_expressions_are_refused),
        cmocka_unit_test(test_time_of_the_data_is_ts_or_timestamp),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
