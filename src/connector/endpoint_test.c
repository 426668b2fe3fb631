/* SPDX-License-Identifier: Apache-2.0 */
#include "connector/endpoint.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_a_call_counts_in_one_class_of_results_and_of_durations(void **state)
{
    static const struct {
        uint64_t us;
        unsigned class;
    } cases[] = {{0, 0},      {1000, 0},   {1001, 1},      {2000, 1},      {5001, 3},
                 {500000, 8}, {500001, 9}, {10000000, 12}, {10000001, 13}, {UINT64_MAX / 2, 13}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct endpoint endpoint = {.size = sizeof endpoint};

        endpoint_count(&endpoint, ENDPOINT_TIMEOUT, cases[i].us, 3, 4);
        assert_int_equal(endpoint.n_calls, 1);
        assert_int_equal(endpoint.results[ENDPOINT_TIMEOUT], 1);
        assert_int_equal(endpoint.durations[cases[i].class], 1);
        assert_int_equal(endpoint.longest_us, cases[i].us);
        assert_int_equal(endpoint.bytes_in * 10 + endpoint.bytes_out, 34);
    }
}

static void test_every_end_of_a_call_has_its_class(void **state)
{
    static const struct {
        enum err err;
        unsigned status;
        enum endpoint_result result;
    } cases[] = {{ERR_OK, 200, ENDPOINT_OK},
                 {ERR_OK, 204, ENDPOINT_OK},
                 {ERR_OK, 302, ENDPOINT_MOVED},
                 {ERR_OK, 404, ENDPOINT_REFUSED},
                 {ERR_OK, 503, ENDPOINT_FAILED},
                 {ERR_TIMEOUT, 0, ENDPOINT_TIMEOUT},
                 {ERR_RESOLVE, 0, ENDPOINT_UNREACHABLE},
                 {ERR_REFUSED, 0, ENDPOINT_UNREACHABLE},
                 {ERR_UNREACHABLE, 0, ENDPOINT_UNREACHABLE},
                 {ERR_TLS, 0, ENDPOINT_TLS},
                 {ERR_PROTO, 0, ENDPOINT_PROTOCOL},
                 {ERR_CLOSED, 0, ENDPOINT_CLOSED},
                 {ERR_LIMIT, 0, ENDPOINT_LIMIT}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(endpoint_result_of(cases[i].err, cases[i].status), cases[i].result);
}

static void test_a_sum_has_all_calls_of_both(void **state)
{
    struct endpoint a = {.size = sizeof a, .n_overdue = 1}, b = {.size = sizeof b, .n_no_room = 2};

    (void)state;
    endpoint_count(&a, ENDPOINT_OK, 1500, 10, 1);
    endpoint_count(&b, ENDPOINT_OK, 1600, 20, 2);
    endpoint_count(&b, ENDPOINT_TLS, 9000, 0, 3);
    endpoint_add(&a, &b);
    assert_int_equal(a.n_calls, 3);
    assert_int_equal(a.results[ENDPOINT_OK], 2);
    assert_int_equal(a.results[ENDPOINT_TLS], 1);
    assert_int_equal(a.durations[1], 2);
    assert_int_equal(a.durations[3], 1);
    assert_int_equal(a.total_us, 12100);
    assert_int_equal(a.longest_us, 9000);
    assert_int_equal(a.bytes_in, 30);
    assert_int_equal(a.bytes_out, 6);
    assert_int_equal(a.n_overdue, 1);
    assert_int_equal(a.n_no_room, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_call_counts_in_one_class_of_results_and_of_durations),
        cmocka_unit_test(test_every_end_of_a_call_has_its_class),
        cmocka_unit_test(test_a_sum_has_all_calls_of_both),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
