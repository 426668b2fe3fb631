/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "quota.h"

static void test_empty_text_is_no_limit(void **state UNUSED)
{
    struct quota quota;

    assert_int_equal(quota_parse(&quota, STR(" "), 0), ERR_OK);
    assert_true(quota_take(&quota, UINT32_MAX, 0));
}

static void test_text_of_another_form_is_refused(void **state UNUSED)
{
    static const char *const bad[] = {"10",  "10:",  ":1",    "a:1",
                                      "0:1", "10:0", "10:1,", "1:1,1:1,1:1,1:1,1:1,1:1,1:1,1:1,1:1"};
    struct quota quota;

    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(quota_parse(&quota, str_from(bad[i]), 0), ERR_SYNTAX);
}

static void test_bucket_empties_and_refills_continuously(void **state UNUSED)
{
    struct quota quota;

    assert_int_equal(quota_parse(&quota, STR("10:1"), 0), ERR_OK);
    assert_true(quota_take(&quota, 10, 0));
    assert_false(quota_take(&quota, 1, 50000));
    assert_true(quota_take(&quota, 1, 100001));
    assert_false(quota_take(&quota, 11, 100000000)); /* never holds more than its capacity */
    assert_true(quota_take(&quota, 10, 100000000));
}

static void test_refused_take_still_charges_the_buckets_before(void **state UNUSED)
{
    struct quota quota;

    assert_int_equal(quota_parse(&quota, STR("5:1000,2:1000"), 0), ERR_OK);
    assert_false(quota_take(&quota, 3, 0));
    assert_true(quota_take(&quota, 2, 0));
    assert_false(quota_take(&quota, 1, 0)); /* the first bucket is empty: 3 went with the refused one */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_text_is_no_limit),
        cmocka_unit_test(test_text_of_another_form_is_refused),
        cmocka_unit_test(test_bucket_empties_and_refills_continuously),
        cmocka_unit_test(test_refused_take_still_charges_the_buckets_before),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
