/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "uplink/scripted_platform.h"

enum { MINUTE_MS = 60 * 1000 };
static const int64_t earliest_ms = 1800000000000, unset_ms = 200000000000, set_ms = 1800000900000;

/* A gateway that starts with its clock in 1976. */
static void open_unset(void)
{
    open_all(&usual, 8000, 100, true);
    loop_set_earliest(loop, earliest_ms);
    loop_set_wall(loop, unset_ms);
}

static void push_unsure(unsigned index, int64_t since_boot_ms)
{
    struct batch *batch = new_batch();
    char body[32];
    struct record *record;

    snprintf(body, sizeof body, "\"n\":%lld", (long long)next_value[index]++);
    record = add_record(batch, index, RECORD_TELEMETRY, body, 1);
    record->ts = since_boot_ms;
    record->flags |= RECORD_TIME_UNSURE;
    record_seal(record, strlen(body));
    store_append(store, batch);
    loop_advance(loop, 0);
}

static void assert_sent(const char *expected)
{
    buf_add_u8(&pf.history, 0);
    assert_non_null(strstr((const char *)pf.history.p, expected));
    pf.history.n--;
}

static void test_what_came_before_the_clock_was_set_waits_and_gets_its_time(void **state)
{
    int64_t now_ms;
    char expected[80];

    (void)state;
    open_unset();
    now_ms = (int64_t)loop_mono_ms(loop);
    push_unsure(0, now_ms - 5000);
    push_unsure(0, now_ms);
    loop_advance(loop, MINUTE_MS);
    answer_all();
    assert_int_equal(pf.n_data, 0);
    loop_set_wall(loop, set_ms);
    loop_advance(loop, 1000);
    answer_all();
    check_stored(0, 2, 1);
    /* The clock was set one minute after the second value, which it is told so late that it is looked at. */
    snprintf(expected, sizeof expected, "{\"ts\":%lld,\"values\":{\"n\":0}},{\"ts\":%lld,\"values\":{\"n\":1}}",
             (long long)(set_ms - MINUTE_MS - 5000), (long long)(set_ms - MINUTE_MS));
    assert_sent(expected);
    check_ledger();
    close_all();
}

static void test_what_has_a_time_of_its_own_goes_at_once_and_unchanged(void **state)
{
    (void)state;
    open_unset();
    push(0, 1, "");
    loop_advance(loop, 0);
    answer_all();
    check_stored(0, 1, 1);
    assert_sent("{\"ts\":1700000000000,\"values\":{\"n\":0}}");
    close_all();
}

/* Invariant 15: no stamp before the build. */
static void test_a_clock_that_is_never_set_holds_nothing_for_ever_and_stamps_nothing_before_the_program(void **state)
{
    char expected[40];

    (void)state;
    open_unset();
    push_unsure(0, -700); /* of an earlier boot */
    push_unsure(0, 1000);
    loop_advance(loop, 9 * MINUTE_MS);
    assert_int_equal(pf.n_data, 0);
    loop_advance(loop, MINUTE_MS + 2000);
    answer_all();
    check_stored(0, 2, 1);
    snprintf(expected, sizeof expected, "{\"ts\":%lld,", (long long)earliest_ms);
    assert_sent(expected);
    snprintf(expected, sizeof expected, "{\"ts\":%lld,", (long long)(earliest_ms + 1700));
    assert_sent(expected);
    push_unsure(0, 2000); /* and those that come later do not wait again */
    answer_all();
    check_stored(0, 3, 1);
    loop_set_wall(loop, set_ms); /* until it is set after all */
    push_unsure(0, (int64_t)loop_mono_ms(loop));
    answer_all();
    snprintf(expected, sizeof expected, "{\"ts\":%lld,", (long long)set_ms);
    assert_sent(expected);
    close_all();
}

static void test_waiting_for_the_clock_ends_when_what_is_in_memory_would_be_lost(void **state)
{
    (void)state;
    open_unset();
    push_unsure(0, 1000);
    assert_int_equal(pf.n_data, 0);
    deliver_finish(deliver, true);
    loop_advance(loop, 0);
    answer_all();
    check_stored(0, 1, 1);
    close_all();
}

/* The packers are prepared when the pack before is built: the times of the next one are not those of then. */
static void test_a_clock_that_is_set_between_two_packs_counts_for_the_second(void **state)
{
    char expected[80];

    (void)state;
    open_all(&usual, 8000, 100, true);
    push(0, 1, "");
    loop_advance(loop, 0);
    answer_all();
    loop_advance(loop, 10 * MINUTE_MS);
    loop_set_wall(loop, set_ms);
    push_unsure(0, (int64_t)loop_mono_ms(loop) - 250);
    answer_all();
    snprintf(expected, sizeof expected, "{\"ts\":%lld,\"values\":{\"n\":1}}", (long long)(set_ms - 250));
    assert_sent(expected);
    close_all();
}

static void test_a_rejected_value_stands_in_the_file_with_its_time(void **state)
{
    char expected[80];

    (void)state;
    open_unset();
    loop_set_wall(loop, set_ms);
    push_unsure(0, (int64_t)loop_mono_ms(loop) - 250);
    answer_others();
    answer(oldest_data(), 0x99);
    loop_advance(loop, 0);
    assert_int_equal(pf.n_rejected, 1);
    snprintf(expected, sizeof expected, "{\"ts\":%lld,", (long long)(set_ms - 250));
    buf_add_u8(&pf.rejected, 0);
    assert_non_null(strstr((const char *)pf.rejected.p, expected));
    close_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_came_before_the_clock_was_set_waits_and_gets_its_time),
        cmocka_unit_test(test_what_has_a_time_of_its_own_goes_at_once_and_unchanged),
        cmocka_unit_test(test_a_clock_that_is_never_set_holds_nothing_for_ever_and_stamps_nothing_before_the_program),
        cmocka_unit_test(test_waiting_for_the_clock_ends_when_what_is_in_memory_would_be_lost),
        cmocka_unit_test(test_a_clock_that_is_set_between_two_packs_counts_for_the_second),
        cmocka_unit_test(test_a_rejected_value_stands_in_the_file_with_its_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
