/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "uplink/limits.h"

static struct limiter parsed(const char *text, const char *host, unsigned percent)
{
    struct limiter limiter;
    struct why why = {0};

    assert_int_equal(limiter_parse(&limiter, str_from(text), str_from(host), percent, &why), ERR_OK);
    return limiter;
}

static void test_windows_are_parsed_and_reduced_to_the_share(void **state)
{
    struct limiter limiter = parsed("100:1;10:60 ,", "h", 80);

    (void)state;
    assert_int_equal(limiter.n, 2);
    assert_int_equal(limiter.windows[0].capacity, 8);
    assert_int_equal(limiter.windows[0].seconds, 60);
    assert_int_equal(limiter.windows[1].capacity, 80);
    assert_int_equal(limiter_capacity(&limiter), 8);
    limiter = parsed("1:1", "h", 80);
    assert_int_equal(limiter_capacity(&limiter), 1);
}

static void test_no_limit_has_several_spellings(void **state)
{
    static const char *const texts[] = {"", "0:0,", "0:0", "  ", ",;", "DEFAULT_TELEMETRY_RATE_LIMIT"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct limiter limiter = parsed(texts[i], "plant.example", 80);

        assert_true(limiter_is_none(&limiter));
        assert_int_equal(limiter_wait(&limiter, 1000, 5), 0);
    }
}

static void test_a_malformed_part_is_named(void **state)
{
    static const char *const texts[] = {"10", "a:1", "10:1,x", "-1:5", "10:1:5"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct limiter limiter;
        struct why why = {0};

        assert_int_equal(limiter_parse(&limiter, str_from(texts[i]), STR("h"), 80, &why), ERR_CONFIG);
        assert_non_null(strstr(why_text(&why), "LIMIT:SECONDS"));
        assert_true(limiter_is_none(&limiter));
    }
}

static void test_defaults_depend_on_the_host(void **state)
{
    static const char *const limited[] = {"eu.thingsboard.cloud", "demo.thingsboard.io", "my-tb.cloud.example"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(limited); i++) {
        struct limiter messages = parsed("DEFAULT_MESSAGES_RATE_LIMIT", limited[i], 100);
        struct limiter values = parsed("DEFAULT_TELEMETRY_DP_RATE_LIMIT", limited[i], 100);

        assert_int_equal(messages.windows[1].capacity, 60);
        assert_int_equal(values.windows[1].capacity, 300);
    }
}

static void test_a_take_needs_every_window_and_refills_continuously(void **state)
{
    struct limiter limiter = parsed("10:1,15:60", "h", 100);
    uint64_t now = 1000;

    (void)state;
    assert_int_equal(limiter_wait(&limiter, 10, now), 0);
    limiter_spend(&limiter, 10);
    uint64_t wait = limiter_wait(&limiter, 5, now);

    assert_in_range(wait, 499, 502);
    assert_int_equal(limiter_wait(&limiter, 5, now + wait), 0);
    limiter_spend(&limiter, 5);
    wait = limiter_wait(&limiter, 5, now + 1000); /* now the slow window is empty */
    assert_in_range(wait, 15000, 20001);
    assert_int_equal(limiter_wait(&limiter, 5, now + 1000 + wait), 0);
}

static void test_more_than_the_capacity_passes_when_the_bucket_is_full(void **state)
{
    struct limiter limiter = parsed("10:1", "h", 100);

    (void)state;
    assert_int_equal(limiter_wait(&limiter, 50, 1000), 0);
    limiter_spend(&limiter, 50);
    assert_in_range(limiter_wait(&limiter, 50, 1000), 1000, 1001);
}

static void test_quota_empties_the_smallest_window_then_the_next(void **state)
{
    struct limiter limiter = parsed("10:1,100:60", "h", 100);

    (void)state;
    limiter_quota(&limiter, 1000);
    assert_true(limiter.windows[0].tokens == 0 && limiter.windows[1].tokens == 100);
    limiter_quota(&limiter, 2000);
    assert_true(limiter.windows[0].tokens == 0 && limiter.windows[1].tokens == 0);
    assert_int_equal(limiter_wait(&limiter, 1, 200000), 0); /* a quiet minute later the first one is to blame again */
    limiter_quota(&limiter, 200000);
    assert_true(limiter.windows[1].tokens == 100);
}

static void test_what_is_counted_already_takes_what_there_is(void **state)
{
    struct limiter limiter = parsed("10:1,100:60", "h", 100);

    (void)state;
    limiter_charge(&limiter, 4, 1000);
    assert_int_equal(limiter_wait(&limiter, 6, 1000), 0);
    assert_in_range(limiter_wait(&limiter, 7, 1000), 90, 110);
    limiter_charge(&limiter, 50, 1000); /* no debt */
    assert_in_range(limiter_wait(&limiter, 1, 1000), 90, 110);
    limiter = (struct limiter){0};
    limiter_charge(&limiter, 5, 1000);
    assert_int_equal(limiter_wait(&limiter, 1000, 1000), 0);
}

static void test_what_waits_for_tokens_is_counted_until_it_has_them(void **state)
{
    struct limiter limiter = parsed("10:1", "h", 100);

    (void)state;
    assert_int_equal(limiter_wait(&limiter, 10, 1000), 0);
    limiter_spend(&limiter, 10);
    assert_true(limiter_wait(&limiter, 5, 1000) > 0);
    assert_true(limiter_wait(&limiter, 5, 1200) > 0);
    assert_int_equal(limiter_waited_ms(&limiter, 1300), 300);
    assert_int_equal(limiter_wait(&limiter, 5, 1600), 0);
    limiter_spend(&limiter, 5);
    assert_int_equal(limiter_waited_ms(&limiter, 9000), 600);
    assert_int_equal(limiter.n_waits, 1);
    assert_true(limiter_peek(&limiter, 10, 1600) > 0); /* nobody waits for that */
    assert_int_equal(limiter_waited_ms(&limiter, 9000), 600);
    assert_true(limiter_wait(&limiter, 10, 1600) > 0);
    limiter_no_wait(&limiter);
    assert_int_equal(limiter_waited_ms(&limiter, 9000), 600);
    assert_int_equal(limiter.n_waits, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_waits_for_tokens_is_counted_until_it_has_them),
        cmocka_unit_test(test_what_is_counted_already_takes_what_there_is),
        cmocka_unit_test(test_windows_are_parsed_and_reduced_to_the_share),
        cmocka_unit_test(test_no_limit_has_several_spellings),
        cmocka_unit_test(test_a_malformed_part_is_named),
        cmocka_unit_test(test_defaults_depend_on_the_host),
        cmocka_unit_test(test_a_take_needs_every_window_and_refills_continuously),
        cmocka_unit_test(test_more_than_the_capacity_passes_when_the_bucket_is_full),
        cmocka_unit_test(test_quota_empties_the_smallest_window_then_the_next),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
