/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc.h"
#include "data/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* A telemetry record of device "dev", profile "p", in 8-aligned memory. */
static struct record *make(uint64_t *memory, const char *body)
{
    struct record *record = (struct record *)memory;

    memset(memory, 0xee, 256);
    *record = (struct record){.ts = 5, .n_values = 1, .kind = RECORD_TELEMETRY, .name_n = 3, .profile_n = 1};
    memcpy(record + 1, "devp", 4);
    memcpy((char *)(record + 1) + 4, body, strlen(body));
    record_seal(record, strlen(body));
    return record;
}

static void reseal(struct record *record)
{
    record->crc = crc32c(0, &record->ts, record->size - 8);
}

static void test_body_is_what_was_sealed_whatever_the_padding(void **state)
{
    static const char *const bodies[] = {"\"k\":1",     "\"k\":12",     "\"k\":123",     "\"k\":1234",
                                         "\"k\":12345", "\"k\":123456", "\"k\":1234567", "\"k\":12345678"};
    uint64_t memory[32];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(bodies); i++) {
        struct record *record = make(memory, bodies[i]);

        assert_true(str_eq_z(record_body(record), bodies[i]));
        assert_true(str_eq_z(record_name(record), "dev"));
        assert_true(str_eq_z(record_profile(record), "p"));
        assert_int_equal(record->size % 8, 0);
        assert_int_equal(record_check(memory, record->size), ERR_OK);
        assert_ptr_equal(record_next(record), (char *)memory + record->size);
    }
}

static void test_every_changed_byte_and_every_cut_is_found(void **state)
{
    uint64_t memory[32];
    struct record *record = make(memory, "\"key\":21.5");
    size_t size = record->size;

    (void)state;
    for (size_t i = 0; i < size; i++) {
        ((uint8_t *)memory)[i] ^= 0x10;
        assert_int_equal(record_check(memory, size), ERR_CORRUPT);
        ((uint8_t *)memory)[i] ^= 0x10;
        assert_int_equal(record_check(memory, i), ERR_CORRUPT);
    }
    assert_int_equal(record_check(memory, size), ERR_OK);
    assert_int_equal(record_check((char *)memory + 4, size), ERR_CORRUPT);
}

static void test_fields_that_make_no_sense_are_corrupt_even_with_a_right_checksum(void **state)
{
    uint64_t memory[32];
    struct record *record;

    (void)state;
#define WRONG(change)                                                                                                  \
    do {                                                                                                               \
        record = make(memory, "\"key\":21.5");                                                                         \
        change;                                                                                                        \
        reseal(record);                                                                                                \
        assert_int_equal(record_check(memory, sizeof memory), ERR_CORRUPT);                                            \
    } while (0)
    WRONG(record->kind = 0);
    WRONG(record->kind = 5);
    WRONG(record->flags = 0x10);
    WRONG(record->name_n = 0);
    WRONG(record->name_n = 256);
    WRONG(record->profile_n = 256);
    WRONG(record->profile_n = 200);
    WRONG(record->n_values = 0);
    WRONG(record->spare = 1);
    WRONG(record->flags = RECORD_HAS_META; record->spare = 60);
    WRONG(record->kind = RECORD_CONNECT);
    WRONG(((char *)(record + 1))[0] = '\n');
    WRONG(((char *)(record + 1))[1] = (char)0xff);
    WRONG(((char *)(record + 1))[4] = '{');
    WRONG(((char *)(record + 1))[6] = 0);
    WRONG(record->size += 8; memset((char *)record + record->size - 8, 0, 8));
#undef WRONG
    record = make(memory, "");
    assert_int_equal(record_check(memory, record->size), ERR_CORRUPT);
    record->kind = RECORD_DISCONNECT;
    record->n_values = 0;
    reseal(record);
    assert_int_equal(record_check(memory, record->size), ERR_OK);
}

static void test_metadata_stands_behind_the_body(void **state)
{
    uint64_t memory[32];
    struct record *record = make(memory, "\"key\":21.5{\"connector\":\"m\"}");

    (void)state;
    record->flags = RECORD_HAS_META;
    record->spare = (uint16_t)strlen("{\"connector\":\"m\"}");
    reseal(record);
    assert_int_equal(record_check(memory, record->size), ERR_OK);
    assert_true(str_eq_z(record_body(record), "\"key\":21.5"));
    assert_true(str_eq_z(record_meta(record), "{\"connector\":\"m\"}"));
    record->flags = 0;
    assert_null(record_meta(record).p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_body_is_what_was_sealed_whatever_the_padding),
        cmocka_unit_test(test_every_changed_byte_and_every_cut_is_found),
        cmocka_unit_test(test_fields_that_make_no_sense_are_corrupt_even_with_a_right_checksum),
        cmocka_unit_test(test_metadata_stands_behind_the_body),
    };
    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
