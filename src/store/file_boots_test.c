/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/crc.h"
#include "store/file_boots.h"
#include "store/file_plant.h"

static const uint8_t first[16] = {1}, second[16] = {2}, third[16] = {3};

static void note_unsure(struct boots *boots, const uint8_t *machine, int64_t ts)
{
    struct record record = {.ts = ts, .flags = RECORD_TIME_UNSURE};

    boots_note_record(boots, boots_add(boots, machine), &record);
}

static void note_clock(struct boots *boots, const uint8_t *machine, int64_t wall_ms, int64_t up_ms)
{
    struct group_head group = {.wall_ms = wall_ms, .up_tenths = (uint32_t)(up_ms / 100)};

    boots_note_group(boots, boots_add(boots, machine), &group, 1000000);
}

static int64_t adopted(struct boots *boots, const uint8_t *machine, int64_t ts, bool *is_unsure)
{
    struct record record = {.ts = ts, .flags = RECORD_TIME_UNSURE};

    boots_adopt(boots, boots_add(boots, machine), &record);
    *is_unsure = record.flags & RECORD_TIME_UNSURE;
    return record.ts;
}

static void test_boots_without_a_clock_end_when_the_next_one_begins(void **state)
{
    struct boots boots;
    bool is_unsure;

    (void)state;
    boots_init(&boots);
    note_unsure(&boots, first, 100);
    note_unsure(&boots, first, 4000);
    note_unsure(&boots, second, 300);
    note_unsure(&boots, second, 9000);
    note_unsure(&boots, boots.ours, 50);
    note_clock(&boots, second, 999999, 9000); /* not set then either */
    boots_settle(&boots);
    assert_int_equal(adopted(&boots, boots.ours, 50, &is_unsure), 50);
    assert_true(is_unsure);
    assert_int_equal(adopted(&boots, second, 9000, &is_unsure), -1);
    assert_int_equal(adopted(&boots, second, 300, &is_unsure), -8701);
    assert_int_equal(adopted(&boots, first, 4000, &is_unsure), -9002);
    assert_true(is_unsure);
    boots_fini(&boots);
}

static void test_a_clock_that_was_set_later_tells_when_its_boot_was_and_bounds_those_before(void **state)
{
    struct boots boots;
    bool is_unsure;

    (void)state;
    boots_init(&boots);
    note_unsure(&boots, first, 4000);
    note_unsure(&boots, second, 300);
    note_clock(&boots, second, 5000000, 60000);
    note_clock(&boots, second, 5001000, 60000); /* set again: the latest counts */
    note_unsure(&boots, third, 700);
    boots_settle(&boots);
    assert_int_equal(adopted(&boots, second, 300, &is_unsure), 4941300);
    assert_false(is_unsure);
    assert_int_equal(adopted(&boots, first, 4000, &is_unsure), 4940999);
    assert_false(is_unsure);
    assert_int_equal(adopted(&boots, third, 700, &is_unsure), -1);
    assert_true(is_unsure);
    boots_fini(&boots);
}

/* As another boot of the machine left it. */
static void change_machine(void)
{
    struct found_segment found[4];
    size_t n;

    assert_int_equal(list_segments(found, 4), 1);
    autofree uint8_t *bytes = get_file(found[0].name, &n);
    struct segment_head *head = (struct segment_head *)(void *)bytes;

    head->machine[0] ^= 1;
    head->crc =
        crc32c(0, bytes + offsetof(struct segment_head, base), sizeof *head - offsetof(struct segment_head, base));
    put_file(found[0].name, bytes, n);
}

static void append_unsure(int64_t ts)
{
    struct device *dev = device_get(STR("unsure"));
    struct batch *batch = mem_zero(sizeof *batch);
    struct record *record;

    batch->bytes = slab_get();
    batch->cap = SLAB_SIZE;
    record = (struct record *)(void *)batch->bytes;
    *record = (struct record){.ts = ts,
                              .dev = dev->number,
                              .n_values = 1,
                              .flags = RECORD_END | RECORD_TIME_UNSURE,
                              .kind = RECORD_TELEMETRY,
                              .name_n = dev->name_n};
    memcpy(record + 1, dev->name, dev->name_n);
    memcpy((char *)(record + 1) + dev->name_n, "\"n\":1", 5);
    record_seal(record, 5);
    batch->n_bytes = record->size;
    batch->n_events = batch->n_values = 1;
    store_append(the_store, batch);
    loop_advance(the_loop, 0);
}

static const struct record *read_one(struct chunk **chunk)
{
    *chunk = store_read(the_store, 0, 1000);
    assert_non_null(*chunk);
    assert_int_equal(record_check((*chunk)->bytes, (*chunk)->n), ERR_OK);
    return (const struct record *)(const void *)(*chunk)->bytes;
}

static void test_times_since_boot_stay_within_one_boot_of_the_machine(void **state)
{
    struct chunk *chunk;
    const struct record *record;

    (void)state;
    begin_test();
    open_store();
    append_unsure(5000);
    kill_store();
    open_store();
    record = read_one(&chunk);
    assert_int_equal(record->ts, 5000);
    assert_true(record->flags & RECORD_TIME_UNSURE);
    chunk_release(chunk);
    end_test();
}

static void test_times_of_an_earlier_boot_are_found_by_what_its_clock_showed_later(void **state)
{
    struct chunk *chunk;
    const struct record *record;

    (void)state;
    begin_test();
    open_store(); /* its clock is set: 1000 s after boot it is 1700000000000 */
    append_unsure(995000);
    kill_store();
    change_machine();
    open_store();
    record = read_one(&chunk);
    assert_int_equal(record->ts, 1700000000000 - 5000);
    assert_false(record->flags & RECORD_TIME_UNSURE);
    chunk_release(chunk);
    end_test();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_boots_without_a_clock_end_when_the_next_one_begins),
        cmocka_unit_test(test_a_clock_that_was_set_later_tells_when_its_boot_was_and_bounds_those_before),
        cmocka_unit_test(test_times_since_boot_stay_within_one_boot_of_the_machine),
        cmocka_unit_test(test_times_of_an_earlier_boot_are_found_by_what_its_clock_showed_later),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
