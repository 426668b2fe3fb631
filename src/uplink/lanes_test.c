/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "uplink/scripted_platform.h"

enum { BACKLOG = 20000 };

/* An outage in which device 0 has collected far more than one window takes. */
static void have_an_outage(const struct deliver_conf *conf, unsigned window)
{
    open_all(conf, 4000, window, true);
    disconnect(false);
    for (unsigned i = 0; i < BACKLOG / 1000; i++)
        push(0, 1000, "");
    loop_advance(loop, 10);
    connect_again();
    assert_true(store_stats(store).is_split);
    assert_int_equal(store_stats(store).n_backlog_values, BACKLOG);
}

static void test_a_device_without_backlog_is_current_while_the_backlog_drains(void **state)
{
    (void)state;
    have_an_outage(&usual, 4);
    for (unsigned i = 0; i < 10; i++) {
        push(1, 1, "");
        loop_advance(loop, 0);
        for (unsigned j = 0; j < 2; j++) { /* one of them is its connect, the first time */
            answer(oldest(), 0);
            loop_advance(loop, 0);
        }
        assert_int_equal(pf.last_seen[1], i);
        answer_others();
    }
    assert_true(pf.last_seen[0] < BACKLOG / 2);
    answer_all();
    check_stored(0, BACKLOG, 1);
    check_stored(1, 10, 1);
    assert_false(store_stats(store).is_split);
    assert_true(deliver_is_idle(deliver));
    check_ledger();
    close_all();
}

static void test_a_device_with_backlog_never_overtakes_itself(void **state)
{
    (void)state;
    have_an_outage(&usual, 4);
    for (unsigned i = 0; oldest(); i++) { /* the platform checks the order within each device */
        if (i % 3 == 0 && next_value[0] < BACKLOG + 500)
            push(0, 1, "");
        if (i % 2 == 0 && next_value[1] < 1000)
            push(1, 2, "");
        answer(oldest(), 0);
        loop_advance(loop, 0);
    }
    loop_advance(loop, 100);
    answer_all();
    check_stored(0, next_value[0], 1);
    check_stored(1, next_value[1], 1);
    assert_true(next_value[0] > BACKLOG);
    check_ledger();
    close_all();
}

static void test_the_backlog_gets_a_quarter_of_the_values_beside_a_greedy_live_lane(void **state)
{
    int64_t live, backlog;

    (void)state;
    have_an_outage(&usual, 1);
    for (unsigned i = 0; i < 15; i++)
        push(1, 1000, "");
    loop_advance(loop, 0);
    while (pf.last_seen[1] < 12000) {
        assert_non_null(oldest());
        answer(oldest(), 0);
        loop_advance(loop, 0);
    }
    live = pf.last_seen[1];
    backlog = pf.last_seen[0];
    assert_true(backlog * 5 > live && backlog * 2 < live); /* a third, give or take some messages */
    answer_all();
    check_stored(0, BACKLOG, 1);
    check_stored(1, 15000, 1);
    close_all();
}

static void test_the_backlog_gets_a_quarter_of_a_rate_limit(void **state)
{
    struct why why;

    (void)state;
    open_all(&usual, 4000, 10, true);
    assert_int_equal(limiter_parse(&limiters[LIMIT_DEVICE_VALUES], STR("1000:1"), STR(""), 100, &why), ERR_OK);
    disconnect(false);
    for (unsigned i = 0; i < 5; i++)
        push(0, 1000, "");
    connect_again();
    assert_true(store_stats(store).is_split);
    for (unsigned s = 0; s < 8; s++) {
        push(1, 1000, "");
        for (unsigned i = 0; i < 100; i++) {
            loop_advance(loop, 10);
            answer_all();
        }
    }
    assert_true(pf.last_seen[0] > 1200 && pf.last_seen[0] < 3500);
    assert_true(pf.last_seen[1] > 4000);
    close_all();
}

static void test_backlog_rate_bounds_the_backlog_and_nothing_else(void **state)
{
    struct deliver_conf conf = usual;
    int64_t before;

    (void)state;
    conf.backlog_rate = 500;
    have_an_outage(&conf, 10);
    for (unsigned s = 1; s <= 10; s++) {
        before = next_value[1];
        push(1, 2000, "");
        for (unsigned i = 0; i < 100; i++) {
            loop_advance(loop, 10);
            answer_all();
        }
        assert_int_equal(pf.last_seen[1], before + 1999);
        assert_true(pf.last_seen[0] < 500 * s + 100);
        assert_true(pf.last_seen[0] > 500 * (s - 1));
    }
    for (unsigned i = 0; i < 5000 && !deliver_is_idle(deliver); i++) {
        loop_advance(loop, 10);
        answer_all();
    }
    check_stored(0, BACKLOG, 1);
    check_ledger();
    close_all();
}

static void test_a_record_of_more_values_than_the_rate_passes_and_is_paid_for(void **state)
{
    struct deliver_conf conf = usual;

    (void)state;
    conf.backlog_rate = 1;
    open_all(&conf, 100, 1, true);
    disconnect(false);
    for (unsigned i = 0; i < 10; i++)
        push(0, 1, ",\"a\":1,\"b\":2"); /* counts as two values */
    connect_again();
    assert_true(store_stats(store).is_split);
    for (unsigned i = 0; i < 100; i++) {
        loop_advance(loop, 100);
        answer_all();
    }
    assert_true(pf.last_seen[0] >= 3 && pf.last_seen[0] <= 5);
    close_all();
}

static void test_what_fits_into_one_window_makes_no_backlog(void **state)
{
    (void)state;
    open_all(&usual, 4000, 10, true);
    disconnect(false);
    push(0, 100, "");
    connect_again();
    assert_false(store_stats(store).is_split);
    answer_all();
    check_stored(0, 100, 1);
    close_all();
}

static void test_what_was_in_flight_at_the_outage_is_resent_before_all_else(void **state)
{
    (void)state;
    open_all(&usual, 4000, 4, true);
    push(0, 1000, "");
    loop_advance(loop, 0);
    answer_others();
    assert_true(pf.last_seen[0] > 0);
    disconnect(false);
    for (unsigned i = 0; i < 5; i++)
        push(0, 1000, "");
    connect_again();
    assert_true(store_stats(store).is_split);
    push(1, 1, "");
    loop_advance(loop, 0);
    LIST_EACH(node, &pf.open) {
        const struct message *message = CONTAINER_OF(node, struct message, node);

        assert_true(!message->is_data || message->is_resent ||
                    message != CONTAINER_OF(pf.open.next, struct message, node));
    }
    assert_true(deliver_stats(deliver).n_resent > 0);
    answer_all();
    check_stored(0, 6000, 1);
    check_stored(1, 1, 1);
    check_ledger();
    close_all();
}

/* Invariants 2, 3 and 4 by chance: outages of any length, in the midst of a backlog, with answers lost or not. */
static void test_order_and_ledger_hold_over_outages_in_the_midst_of_a_backlog(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 30; seed++) {
        struct deliver_conf conf = usual;

        srand(seed);
        conf.backlog_rate = seed % 3 == 0 ? 20000 : 0;
        open_all(&conf, (size_t)(300 + rand() % 4000), 1 + (unsigned)rand() % 12, seed % 5 != 0);
        for (unsigned i = 0; i < 1500; i++) {
            unsigned device = (unsigned)rand() % 8;
            int what = rand() % 100;

            if (what < 30 && next_value[device] < VALUES_MAX - 500)
                push(device, 1 + (unsigned)rand() % (pf.is_up ? 20 : 400), "");
            else if (what < 31 && pf.is_up)
                disconnect(false);
            else if (what < 36 && !pf.is_up)
                connect_again();
            else if (what < 90 && oldest())
                answer(oldest(), 0);
            loop_advance(loop, (uint64_t)(rand() % 20));
            if (i % 50 == 0)
                check_ledger();
        }
        if (!pf.is_up)
            connect_again();
        for (unsigned i = 0; i < 20000 && !deliver_is_idle(deliver); i++) {
            answer_all();
            loop_advance(loop, 20);
        }
        if (!deliver_is_idle(deliver))
            fail_msg("seed %u: something stays", seed);
        for (unsigned i = 0; i < 8; i++)
            for (int64_t n = 0; n < next_value[i]; n++)
                assert_true(pf.stored[i][n] >= 1);
        assert_false(store_stats(store).is_split);
        check_ledger();
        close_all();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_device_without_backlog_is_current_while_the_backlog_drains),
        cmocka_unit_test(test_a_device_with_backlog_never_overtakes_itself),
        cmocka_unit_test(test_the_backlog_gets_a_quarter_of_the_values_beside_a_greedy_live_lane),
        cmocka_unit_test(test_the_backlog_gets_a_quarter_of_a_rate_limit),
        cmocka_unit_test(test_backlog_rate_bounds_the_backlog_and_nothing_else),
        cmocka_unit_test(test_a_record_of_more_values_than_the_rate_passes_and_is_paid_for),
        cmocka_unit_test(test_what_fits_into_one_window_makes_no_backlog),
        cmocka_unit_test(test_what_was_in_flight_at_the_outage_is_resent_before_all_else),
        cmocka_unit_test(test_order_and_ledger_hold_over_outages_in_the_midst_of_a_backlog),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
