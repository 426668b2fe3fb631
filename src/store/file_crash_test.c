/* SPDX-License-Identifier: Apache-2.0 */
#include "store/crash_plant.h"

static void test_invariant_1_holds_at_every_cut_of_a_run(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= n_seeds(); i++)
        run(i, 60, false);
}

static void test_invariant_1_holds_at_every_cut_of_a_run_on_a_failing_disk(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= n_seeds(); i++)
        run(1000 + i, 60, true);
}

static void test_invariants_1_and_3_hold_at_every_cut_of_a_run_with_lanes(void **state)
{
    (void)state;
    has_lanes = true;
    for (uint64_t i = 1; i <= (n_seeds() + 2) / 3; i++) {
        run(2000 + i, 60, false);
        run(3000 + i, 60, true);
    }
    has_lanes = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_invariant_1_holds_at_every_cut_of_a_run),
        cmocka_unit_test(test_invariant_1_holds_at_every_cut_of_a_run_on_a_failing_disk),
        cmocka_unit_test(test_invariants_1_and_3_hold_at_every_cut_of_a_run_with_lanes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
