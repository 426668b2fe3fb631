/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "modbus_collect.h"

#include <stdio.h>

enum { MAX = 400 };

struct rig {
    struct modbus_slave limits;
    struct modbus_read reads[MAX];
    size_t n;
    struct modbus_plan plan;
    char text[4096];
};

static void begin(struct rig *rig)
{
    *rig = (struct rig){.limits = {.max_gap = 8, .max_registers = 125, .max_bits = 2000, .merges = true}};
}

static void add(struct rig *rig, uint8_t function_code, uint16_t address, uint16_t span)
{
    rig->reads[rig->n++] = (struct modbus_read){.function_code = function_code, .address = address, .span = span};
}

/* "3@0+4 1@8+1": function code, address, count; "/125": in pieces; "!": a probe. */
static const char *built(struct rig *rig, uint64_t now_ms)
{
    size_t at = 0;

    if (!rig->plan.order)
        modbus_plan_init(&rig->plan, &rig->limits, rig->reads, rig->n);
    modbus_plan_build(&rig->plan, now_ms);
    rig->text[0] = 0;
    for (size_t i = 0; i < rig->plan.n_blocks; i++) {
        const struct modbus_block *block = &rig->plan.blocks[i];

        at += (size_t)snprintf(rig->text + at, sizeof rig->text - at, "%s%u@%u+%u", at ? " " : "", block->function_code,
                               block->address, block->count);
        if (block->piece != block->count)
            at += (size_t)snprintf(rig->text + at, sizeof rig->text - at, "/%u", block->piece);
        if (block->is_probe)
            at += (size_t)snprintf(rig->text + at, sizeof rig->text - at, "!");
    }
    return rig->text;
}

static void test_neighbours_share_a_request_and_small_gaps_are_read_through(void **state)
{
    struct rig rig;

    (void)state;
    begin(&rig);
    add(&rig, 3, 20, 1);
    add(&rig, 3, 0, 2);
    add(&rig, 3, 1, 4);  /* overlaps */
    add(&rig, 3, 13, 1); /* a gap of 8 */
    add(&rig, 3, 23, 1);
    add(&rig, 4, 14, 1);
    add(&rig, 1, 0, 1);
    add(&rig, 1, 17, 1); /* a gap of 16 */
    add(&rig, 1, 35, 1); /* of 17 */
    assert_string_equal(built(&rig, 0), "1@0+18 1@35+1 3@0+24 4@14+1");
    modbus_plan_fini(&rig.plan);
    rig.limits.max_gap = 0;
    assert_string_equal(built(&rig, 0), "1@0+1 1@17+1 1@35+1 3@0+5 3@13+1 3@20+1 3@23+1 4@14+1");
    modbus_plan_fini(&rig.plan);
    rig.limits.merges = false;
    assert_string_equal(built(&rig, 0), "1@0+1 1@17+1 1@35+1 3@0+2 3@1+4 3@13+1 3@20+1 3@23+1 4@14+1");
    modbus_plan_fini(&rig.plan);
}

static void test_no_request_is_larger_than_a_limit_and_no_value_is_cut(void **state)
{
    struct rig rig;

    (void)state;
    begin(&rig);
    for (uint16_t i = 0; i < 100; i++)
        add(&rig, 3, (uint16_t)(2 * i), 2);
    assert_string_equal(built(&rig, 0), "3@0+124 3@124+76");
    modbus_plan_fini(&rig.plan);
    rig.limits.max_registers = 5;
    rig.n = 4;
    assert_string_equal(built(&rig, 0), "3@0+4 3@4+4");
    modbus_plan_fini(&rig.plan);
    rig.limits.max_registers = 125;
    rig.reads[0].span = 300;
    rig.n = 2;
    assert_string_equal(built(&rig, 0), "3@0+300/125 3@2+2");
    modbus_plan_fini(&rig.plan);
}

static void test_values_of_a_range_keep_its_own_limit(void **state)
{
    struct rig rig;

    (void)state;
    begin(&rig);
    for (uint16_t i = 0; i < 6; i++) {
        add(&rig, 3, i, 1);
        rig.reads[i].limit = 2;
    }
    assert_string_equal(built(&rig, 0), "3@0+2 3@2+2 3@4+2");
    modbus_plan_fini(&rig.plan);
}

static void test_a_refused_block_is_cut_at_gaps_first_and_whole_again_later(void **state)
{
    static const bool none[3];
    struct rig rig;

    (void)state;
    begin(&rig);
    add(&rig, 3, 0, 1);
    add(&rig, 3, 1, 1);
    add(&rig, 3, 5, 1);
    assert_string_equal(built(&rig, 1000), "3@0+6");
    modbus_plan_learn(&rig.plan, &rig.plan.blocks[0], none, 1000, 1000);
    assert_string_equal(built(&rig, 1000), "3@0+2 3@5+1");
    modbus_plan_learn(&rig.plan, &rig.plan.blocks[0], none, 2000, 1000);
    assert_string_equal(built(&rig, 2000), "3@0+1 3@1+1 3@5+1");
    assert_false(modbus_plan_is_due(&rig.plan, 2000 + MODBUS_CUT_MS - 1));
    assert_true(modbus_plan_is_due(&rig.plan, 2000 + MODBUS_CUT_MS));
    assert_string_equal(built(&rig, 2000 + MODBUS_CUT_MS), "3@0+6");
    modbus_plan_fini(&rig.plan);
}

static void test_a_bad_value_is_left_alone_for_growing_times_and_asked_for_alone(void **state)
{
    static const bool second[3] = {false, true, false};
    struct rig rig;
    uint64_t now = 10000;

    (void)state;
    begin(&rig);
    add(&rig, 3, 0, 1);
    add(&rig, 3, 1, 1);
    add(&rig, 3, 2, 1);
    (void)built(&rig, now);
    modbus_plan_learn(&rig.plan, &rig.plan.blocks[0], second, now, 5000);
    assert_int_equal(modbus_plan_bad_count(&rig.plan), 1);
    assert_string_equal(built(&rig, now), "3@0+1 3@2+1"); /* its address is not read through */
    assert_true(modbus_plan_is_due(&rig.plan, now + 5000));
    assert_string_equal(built(&rig, now + 5000), "3@0+1 3@1+1! 3@2+1");
    assert_false(modbus_plan_bad(&rig.plan, 1, now + 5000, 5000));
    assert_string_equal(built(&rig, now + 14999), "3@0+1 3@2+1");
    assert_string_equal(built(&rig, now + 15000), "3@0+1 3@1+1! 3@2+1");
    assert_true(modbus_plan_well(&rig.plan, 1));
    assert_string_equal(built(&rig, now + 15001), "3@0+3");
    for (unsigned i = 0; i < 40; i++)
        (void)modbus_plan_bad(&rig.plan, 1, now, 5000);
    assert_true(rig.plan.states[1].bad_until_ms <= now + MODBUS_BAD_MAX_MS);
    modbus_plan_fini(&rig.plan);
}

static void test_parts_of_a_block_are_stored_where_they_belong(void **state)
{
    struct rig rig;
    struct modbus_block *block;
    static const uint8_t bits[] = {0x05}, more[] = {0xff, 0x03};

    (void)state;
    begin(&rig);
    add(&rig, 1, 10, 3);
    add(&rig, 1, 13, 10);
    assert_string_equal(built(&rig, 0), "1@10+13");
    block = &rig.plan.blocks[0];
    memset(block->data, 0xff, 2);
    modbus_block_store(block, 0, 3, bits);
    assert_int_equal(block->data[0], 0xfd);
    memset(block->data, 0, 2);
    modbus_block_store(block, 3, 10, more);
    assert_int_equal(block->data[0], 0xf8);
    assert_int_equal(block->data[1], 0x1f);
    modbus_plan_fini(&rig.plan);
}

/* Whatever the values: each is in one block, whole, and no block is beyond a limit. */
static void test_every_value_is_read_once_by_a_block_that_may_be_asked(void **state)
{
    uint32_t random = 4711;

    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        struct rig rig;
        unsigned n_seen = 0;

        begin(&rig);
        for (unsigned i = 0; i < 40; i++) {
            random = random * 1664525 + 1013904223;
            add(&rig, (uint8_t)(1 + random / 65536 % 4), (uint16_t)(random >> 8 & 511), (uint16_t)(1 + random % 9));
        }
        rig.limits.max_registers = 9 + round % 117;
        rig.limits.max_bits = 9 + round;
        rig.limits.max_gap = round % 20;
        (void)built(&rig, 0);
        for (size_t b = 0; b < rig.plan.n_blocks; b++) {
            const struct modbus_block *block = &rig.plan.blocks[b];

            assert_true(block->count <= (block->function_code < 3 ? rig.limits.max_bits : rig.limits.max_registers));
            for (size_t i = 0; i < block->n; i++, n_seen++) {
                const struct modbus_read *read = &rig.reads[modbus_plan_read_at(&rig.plan, block, i)];

                assert_int_equal(read->function_code, block->function_code);
                assert_true(read->address >= block->address &&
                            read->address + read->span <= block->address + block->count);
            }
        }
        assert_int_equal(n_seen, rig.n);
        modbus_plan_fini(&rig.plan);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_neighbours_share_a_request_and_small_gaps_are_read_through),
        cmocka_unit_test(test_no_request_is_larger_than_a_limit_and_no_value_is_cut),
        cmocka_unit_test(test_values_of_a_range_keep_its_own_limit),
        cmocka_unit_test(test_a_refused_block_is_cut_at_gaps_first_and_whole_again_later),
        cmocka_unit_test(test_a_bad_value_is_left_alone_for_growing_times_and_asked_for_alone),
        cmocka_unit_test(test_parts_of_a_block_are_stored_where_they_belong),
        cmocka_unit_test(test_every_value_is_read_once_by_a_block_that_may_be_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
