/* SPDX-License-Identifier: Apache-2.0 */
#include "io/backoff.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define IN_JITTER(pause_ms, want_ms) assert_in_range(pause_ms, (want_ms)*4 / 5, (want_ms)*6 / 5)

static void test_pauses_follow_the_rule(void **state)
{
    static const uint64_t first[] = {500, 1000, 2000, 2000, 2000}, later[] = {4000, 8000, 16000, 32000, 60000, 60000};
    struct backoff backoff;
    uint64_t now = 5000;

    (void)state;
    backoff_init(&backoff, 7);
    for (size_t i = 0; i < COUNT_OF(first); i++) {
        uint64_t pause_ms = backoff_next(&backoff, now);

        IN_JITTER(pause_ms, first[i]);
        now += pause_ms;
    }
    now = 5000 + 119999;
    IN_JITTER(backoff_next(&backoff, now), 2000);
    now++;
    for (size_t i = 0; i < COUNT_OF(later); i++) {
        uint64_t pause_ms = backoff_next(&backoff, now);

        IN_JITTER(pause_ms, later[i]);
        now += pause_ms;
    }
    assert_int_equal(backoff.n_attempts, COUNT_OF(first) + 1 + COUNT_OF(later));
}

static void test_a_stable_link_starts_anew_and_a_short_one_does_not(void **state)
{
    struct backoff backoff;

    (void)state;
    backoff_init(&backoff, 0);
    IN_JITTER(backoff_next(&backoff, 1000), 500);
    IN_JITTER(backoff_next(&backoff, 2000), 1000);
    backoff_up(&backoff, 3000);
    IN_JITTER(backoff_next(&backoff, 3000 + 29999), 2000);
    backoff_up(&backoff, 40000);
    IN_JITTER(backoff_next(&backoff, 40000 + 30000), 500);
    assert_int_equal(backoff.n_attempts, 1);
}

static void test_a_configured_period_replaces_the_rule(void **state)
{
    struct backoff backoff;

    (void)state;
    backoff_init(&backoff, 1);
    backoff.fixed_ms = 10000;
    for (uint64_t now = 1; now < 600000; now += 10000)
        IN_JITTER(backoff_next(&backoff, now), 10000);
    backoff.fixed_ms = 1;
    assert_int_equal(backoff_next(&backoff, 700000), 1);
}

static void test_a_floor_doubles_until_the_link_is_stable(void **state)
{
    static const uint64_t want[] = {5000, 10000, 20000, 40000, 80000, 120000, 120000};
    struct backoff backoff;
    uint64_t now = 1;

    (void)state;
    backoff_init(&backoff, 1);
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        uint64_t pause_ms;

        if (i == 2)
            backoff_up(&backoff, now); /* taken over again at once: the doubling goes on when it is said again */
        backoff.floor_ms = 5000;
        pause_ms = backoff_next(&backoff, now);
        assert_in_range(pause_ms, want[i], want[i] * 6 / 5);
        now += pause_ms;
    }
    backoff_up(&backoff, now);
    assert_true(backoff_next(&backoff, now + 1000) <= 72000);
    backoff_up(&backoff, now);
    backoff.floor_ms = 5000;
    assert_in_range(backoff_next(&backoff, now + 30000), 5000, 6000);
}

static void test_gateways_with_other_seeds_do_not_come_back_in_step(void **state)
{
    uint64_t sum[2] = {0, 0};
    unsigned n_equal = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct backoff a, b;
        uint64_t x, y;

        backoff_init(&a, seed);
        backoff_init(&b, seed + 1);
        a.fixed_ms = b.fixed_ms = 10000;
        x = backoff_next(&a, 1);
        y = backoff_next(&b, 1);
        n_equal += x == y;
        sum[x > 10000]++;
    }
    assert_true(n_equal < 10);
    assert_true(sum[0] > 50 && sum[1] > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pauses_follow_the_rule),
        cmocka_unit_test(test_a_stable_link_starts_anew_and_a_short_one_does_not),
        cmocka_unit_test(test_a_configured_period_replaces_the_rule),
        cmocka_unit_test(test_a_floor_doubles_until_the_link_is_stable),
        cmocka_unit_test(test_gateways_with_other_seeds_do_not_come_back_in_step),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
