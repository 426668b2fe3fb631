/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "connector/ackring.h"

static void takes(struct ackring *ring, uint16_t packet_id)
{
    struct ack_entry entry;

    assert_true(ackring_take(ring, &entry));
    assert_int_equal(entry.packet_id, packet_id);
}

static void takes_nothing(struct ackring *ring)
{
    struct ack_entry entry;

    assert_false(ackring_take(ring, &entry));
}

static void test_messages_are_acknowledged_in_the_order_received(void **state)
{
    struct ackring ring;
    uint64_t a, b, c;

    (void)state;
    ackring_init(&ring);
    a = ackring_add(&ring, 10, 1);
    b = ackring_add(&ring, 11, 2);
    c = ackring_add(&ring, 12, 1);
    assert_int_equal(a, 1);
    ackring_finish(&ring, c);
    takes_nothing(&ring);
    ackring_finish(&ring, a);
    takes(&ring, 10);
    takes_nothing(&ring);
    ackring_finish(&ring, b);
    takes(&ring, 11);
    takes(&ring, 12);
    takes_nothing(&ring);
    ackring_fini(&ring);
}

static void test_a_completion_finishes_all_up_to_its_number(void **state)
{
    struct ackring ring;

    (void)state;
    ackring_init(&ring);
    for (uint16_t i = 1; i <= 5; i++)
        (void)ackring_add(&ring, i, 1);
    ackring_finish_to(&ring, 3);
    takes(&ring, 1);
    takes(&ring, 2);
    takes(&ring, 3);
    takes_nothing(&ring);
    ackring_finish_to(&ring, UINT64_MAX);
    takes(&ring, 4);
    takes(&ring, 5);
    takes_nothing(&ring);
    ackring_fini(&ring);
}

static void test_completions_of_a_lost_connection_touch_nothing_of_the_next(void **state)
{
    struct ackring ring;
    uint64_t old, new;

    (void)state;
    ackring_init(&ring);
    old = ackring_add(&ring, 1, 1);
    ackring_reset(&ring);
    new = ackring_add(&ring, 1, 1);
    assert_true(new > old);
    ackring_finish(&ring, old);
    ackring_finish_to(&ring, old);
    takes_nothing(&ring);
    ackring_finish_to(&ring, new);
    takes(&ring, 1);
    ackring_fini(&ring);
}

static void test_the_ring_grows_with_what_is_unacknowledged_and_shrinks_again(void **state)
{
    struct ackring ring;

    (void)state;
    ackring_init(&ring);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 40000; i++)
            assert_int_equal(ackring_add(&ring, (uint16_t)i, 1), round * 40000 + i + 1);
        ackring_finish_to(&ring, (round + 1) * 40000);
        for (unsigned i = 0; i < 40000; i++)
            takes(&ring, (uint16_t)i);
        takes_nothing(&ring);
    }
    for (unsigned i = 0; i < 10; i++)
        takes_nothing(&ring);
    assert_in_range(ring.cap, 64, 1024);
    ackring_fini(&ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_are_acknowledged_in_the_order_received),
        cmocka_unit_test(test_a_completion_finishes_all_up_to_its_number),
        cmocka_unit_test(test_completions_of_a_lost_connection_touch_nothing_of_the_next),
        cmocka_unit_test(test_the_ring_grows_with_what_is_unacknowledged_and_shrinks_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
