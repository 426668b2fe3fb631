/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and answers, byte by byte as the standard's examples have them. */
#include "modbus_pdu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct modbus_pdu pdu_of(const char *bytes, size_t n)
{
    struct modbus_pdu pdu = {.n = (uint8_t)n};

    memcpy(pdu.bytes, bytes, n);
    return pdu;
}
#define PDU(bytes) pdu_of(bytes, sizeof(bytes) - 1)

static void assert_pdu(const struct modbus_pdu *pdu, struct modbus_pdu expected)
{
    assert_int_equal(pdu->n, expected.n);
    assert_memory_equal(pdu->bytes, expected.bytes, expected.n);
}

static void test_requests_are_as_the_examples_of_the_standard(void **state)
{
    struct modbus_pdu ask;

    (void)state;
    assert_int_equal(modbus_ask_read(&ask, MODBUS_READ_COILS, 0x13, 0x13), ERR_OK); /* 6.1 */
    assert_pdu(&ask, PDU("\x01\x00\x13\x00\x13"));
    assert_int_equal(modbus_ask_read(&ask, MODBUS_READ_DISCRETE, 0xc4, 0x16), ERR_OK);
    assert_pdu(&ask, PDU("\x02\x00\xc4\x00\x16"));
    assert_int_equal(modbus_ask_read(&ask, MODBUS_READ_HOLDING, 0x6b, 3), ERR_OK);
    assert_pdu(&ask, PDU("\x03\x00\x6b\x00\x03"));
    assert_int_equal(modbus_ask_read(&ask, MODBUS_READ_INPUT, 8, 1), ERR_OK);
    assert_pdu(&ask, PDU("\x04\x00\x08\x00\x01"));
    modbus_ask_write_coil(&ask, 0xac, true);
    assert_pdu(&ask, PDU("\x05\x00\xac\xff\x00"));
    modbus_ask_write_register(&ask, 1, 3);
    assert_pdu(&ask, PDU("\x06\x00\x01\x00\x03"));
    assert_int_equal(modbus_ask_write_coils(&ask, 0x13, 10, (const uint8_t[]){0xcd, 0xfd}), ERR_OK);
    assert_pdu(&ask, PDU("\x0f\x00\x13\x00\x0a\x02\xcd\x01"));
    assert_int_equal(modbus_ask_write_registers(&ask, 1, 2, (const uint16_t[]){10, 0x102}), ERR_OK);
    assert_pdu(&ask, PDU("\x10\x00\x01\x00\x02\x04\x00\x0a\x01\x02"));
    modbus_ask_mask_write(&ask, 4, 0xf2, 0x25);
    assert_pdu(&ask, PDU("\x16\x00\x04\x00\xf2\x00\x25"));
    assert_int_equal(modbus_ask_read_write(&ask, 3, 6, 0xe, 3, (const uint16_t[]){0xff, 0xff, 0xff}), ERR_OK);
    assert_pdu(&ask, PDU("\x17\x00\x03\x00\x06\x00\x0e\x00\x03\x06\x00\xff\x00\xff\x00\xff"));
    modbus_ask_identity(&ask, 1, 0);
    assert_pdu(&ask, PDU("\x2b\x0e\x01\x00"));
}

static void test_what_does_not_fit_in_one_request_is_refused(void **state)
{
    static const uint8_t bits[256];
    static const uint16_t values[256];
    struct modbus_pdu ask;

    (void)state;
    assert_int_equal(modbus_ask_read(&ask, MODBUS_READ_COILS, 0, 2000), ERR_OK);
    assert_int_equal(modbus_ask_read(&ask, MODBUS_READ_COILS, 0, 2001), ERR_RANGE);
    assert_int_equal(modbus_ask_read(&ask, MODBUS_READ_HOLDING, 0, 126), ERR_RANGE);
    assert_int_equal(modbus_ask_read(&ask, MODBUS_READ_HOLDING, 0, 0), ERR_RANGE);
    assert_int_equal(modbus_ask_read(&ask, MODBUS_READ_HOLDING, 65535, 1), ERR_OK);
    assert_int_equal(modbus_ask_read(&ask, MODBUS_READ_HOLDING, 65535, 2), ERR_RANGE);
    assert_int_equal(modbus_ask_read(&ask, MODBUS_WRITE_COIL, 0, 1), ERR_RANGE);
    assert_int_equal(modbus_ask_write_coils(&ask, 0, 1968, bits), ERR_OK);
    assert_int_equal(ask.n, 252);
    assert_int_equal(modbus_ask_write_coils(&ask, 0, 1969, bits), ERR_RANGE);
    assert_int_equal(modbus_ask_write_registers(&ask, 0, 123, values), ERR_OK);
    assert_int_equal(modbus_ask_write_registers(&ask, 0, 124, values), ERR_RANGE);
    assert_int_equal(modbus_ask_read_write(&ask, 0, 125, 0, 121, values), ERR_OK);
    assert_int_equal(modbus_ask_read_write(&ask, 0, 125, 0, 122, values), ERR_RANGE);
}

static void test_right_answers_are_taken(void **state)
{
    static const struct {
        const char *ask, *answer;
        size_t n_ask, n_answer;
    } cases[] = {
#define CASE(a, b) {a, b, sizeof(a) - 1, sizeof(b) - 1}
        CASE("\x01\x00\x13\x00\x13", "\x01\x03\xcd\x6b\x05"),
        CASE("\x02\x00\xc4\x00\x16", "\x02\x03\xac\xdb\x35"),
        CASE("\x03\x00\x6b\x00\x03", "\x03\x06\x02\x2b\x00\x00\x00\x64"),
        CASE("\x04\x00\x08\x00\x01", "\x04\x02\x00\x0a"),
        CASE("\x05\x00\xac\xff\x00", "\x05\x00\xac\xff\x00"),
        CASE("\x06\x00\x01\x00\x03", "\x06\x00\x01\x00\x03"),
        CASE("\x0f\x00\x13\x00\x0a\x02\xcd\x01", "\x0f\x00\x13\x00\x0a"),
        CASE("\x10\x00\x01\x00\x02\x04\x00\x0a\x01\x02", "\x10\x00\x01\x00\x02"),
        CASE("\x16\x00\x04\x00\xf2\x00\x25", "\x16\x00\x04\x00\xf2\x00\x25"),
        CASE("\x17\x00\x03\x00\x01\x00\x0e\x00\x01\x02\x00\xff", "\x17\x02\x00\xfe"),
        CASE("\x2b\x0e\x01\x00", "\x2b\x0e\x01\x01\x00\x00\x01\x00\x03"
                                 "Acm"),
        CASE("\x03\x00\x6b\x00\x03", "\x83\x02"),
        CASE("\x11", "\x11\x02\x01\xff"),
#undef CASE
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct modbus_pdu ask = pdu_of(cases[i].ask, cases[i].n_ask),
                          answer = pdu_of(cases[i].answer, cases[i].n_answer);
        struct why why = {0};

        assert_int_equal(modbus_check_answer(&ask, &answer, &why), ERR_OK);
        assert_int_equal(
            modbus_answer_size(&ask) == 0 || modbus_exception_of(&answer) || modbus_answer_size(&ask) == answer.n, 1);
    }
}

/* Every answer of a table is right; one byte less, one more, another function code, byte count or echo is not. */
static void test_answers_of_another_form_are_not_believed(void **state)
{
    struct modbus_pdu read = PDU("\x03\x00\x6b\x00\x03"), write = PDU("\x10\x00\x01\x00\x02\x04\x00\x0a\x01\x02");
    struct modbus_pdu identity = PDU("\x2b\x0e\x01\x00");
    const struct modbus_pdu wrong_reads[] = {
        PDU("\x03\x06\x02\x2b\x00\x00\x00"),
        PDU("\x03\x06\x02\x2b\x00\x00\x00\x64\x00"),
        PDU("\x04\x06\x02\x2b\x00\x00\x00\x64"),
        PDU("\x03\x05\x02\x2b\x00\x00\x00\x64"),
        PDU("\x03\x04\x02\x2b\x00\x00"),
        PDU("\x03"),
        PDU("\x83"),
        PDU("\x83\x02\x00"),
        PDU("\x83\x00"),
        PDU(""),
        PDU("\x84\x02"),
    };
    const struct modbus_pdu wrong_writes[] = {PDU("\x10\x00\x01\x00\x01"), PDU("\x10\x00\x02\x00\x02"),
                                              PDU("\x10\x00\x01\x00"), PDU("\x10\x00\x01\x00\x02\x04"),
                                              PDU("\x06\x00\x01\x00\x02")};
    const struct modbus_pdu wrong_identities[] = {PDU("\x2b\x0e\x01\x01\x00\x00"),
                                                  PDU("\x2b\x0d\x01\x01\x00\x00\x00"),
                                                  PDU("\x2b\x0e\x02\x01\x00\x00\x00"),
                                                  PDU("\x2b\x0e\x01\x01\x00\x00\x01"),
                                                  PDU("\x2b\x0e\x01\x01\x00\x00\x01\x00\x04"
                                                      "Acm"),
                                                  PDU("\x2b\x0e\x01\x01\x00\x00\x01\x00\x02"
                                                      "Acm")};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(wrong_reads); i++)
        assert_int_equal(modbus_check_answer(&read, &wrong_reads[i], NULL), ERR_PROTO);
    for (size_t i = 0; i < COUNT_OF(wrong_writes); i++)
        assert_int_equal(modbus_check_answer(&write, &wrong_writes[i], NULL), ERR_PROTO);
    for (size_t i = 0; i < COUNT_OF(wrong_identities); i++)
        assert_int_equal(modbus_check_answer(&identity, &wrong_identities[i], NULL), ERR_PROTO);
}

static void test_values_are_read_out_of_answers(void **state)
{
    struct modbus_pdu registers = PDU("\x03\x06\x02\x2b\x00\x00\x00\x64"), bits = PDU("\x01\x03\xcd\x6b\x05");
    struct modbus_pdu identity = PDU("\x2b\x0e\x01\x01\xff\x02\x02\x00\x03"
                                     "Acm"
                                     "\x01\x00");
    struct str value;
    uint8_t id, next;
    size_t at = 0;

    (void)state;
    assert_int_equal(modbus_answer_register(&registers, 0), 0x22b);
    assert_int_equal(modbus_answer_register(&registers, 2), 100);
    assert_true(modbus_answer_bit(&bits, 0));
    assert_false(modbus_answer_bit(&bits, 1));
    assert_true(modbus_answer_bit(&bits, 18));
    assert_true(modbus_answer_object(&identity, &at, &id, &value));
    assert_int_equal(id, 0);
    assert_true(str_eq_z(value, "Acm"));
    assert_true(modbus_answer_object(&identity, &at, &id, &value));
    assert_int_equal(value.n, 0);
    assert_false(modbus_answer_object(&identity, &at, &id, &value));
    assert_true(modbus_answer_has_more(&identity, &next));
    assert_int_equal(next, 2);
}

static void test_a_server_understands_what_a_client_asks(void **state)
{
    struct modbus_asked asked;
    struct modbus_pdu ask, answer;

    (void)state;
    assert_int_equal(modbus_ask_read_write(&ask, 3, 6, 0xe, 2, (const uint16_t[]){0xff, 0x1234}), ERR_OK);
    assert_int_equal(modbus_read_request(&asked, &ask), 0);
    assert_int_equal(asked.n, 6);
    assert_int_equal(asked.n_write, 2);
    assert_int_equal(modbus_be16(asked.data + 2), 0x1234);
    memset(modbus_answer_values(&answer, &asked), 1, 12);
    assert_int_equal(modbus_check_answer(&ask, &answer, NULL), ERR_OK);
    modbus_ask_mask_write(&ask, 4, 0xf2, 0x25);
    assert_int_equal(modbus_read_request(&asked, &ask), 0);
    assert_int_equal(asked.and_mask, 0xf2);
    assert_int_equal(asked.or_mask, 0x25);
    modbus_confirm(&answer, &ask);
    assert_int_equal(modbus_check_answer(&ask, &answer, NULL), ERR_OK);
    modbus_ask_write_coil(&ask, 7, true);
    assert_int_equal(modbus_read_request(&asked, &ask), 0);
    assert_true(asked.is_on);
    modbus_refuse(&answer, MODBUS_WRITE_COIL, MODBUS_ILLEGAL_ADDRESS);
    assert_int_equal(modbus_check_answer(&ask, &answer, NULL), ERR_OK);
    assert_int_equal(modbus_exception_of(&answer), 2);
    assert_string_equal(modbus_exception_name(2), "illegal data address");
}

static void test_requests_of_a_wrong_form_are_answered_with_an_exception(void **state)
{
    static const struct {
        const char *ask;
        size_t n;
        uint8_t exception;
    } cases[] = {
#define CASE(a, e) {a, sizeof(a) - 1, e}
        CASE("", 1),
        CASE("\x09", 1),
        CASE("\x03\x00\x00\x00", 3),
        CASE("\x03\x00\x00\x00\x00", 3),
        CASE("\x03\x00\x00\x00\x7e", 3),
        CASE("\x01\x00\x00\x07\xd1", 3),
        CASE("\x03\xff\xff\x00\x02", 2),
        CASE("\x05\x00\x00\x12\x34", 3),
        CASE("\x10\x00\x00\x00\x01\x02\x00", 3),
        CASE("\x10\x00\x00\x00\x02\x02\x00\x01", 3),
        CASE("\x0f\x00\x00\x00\x09\x01\x00", 3),
        CASE("\x17\x00\x00\x00\x01\x00\x00\x00\x01\x02\x00", 3),
        CASE("\x2b\x0d\x01\x00", 1),
        CASE("\x2b\x0e\x05\x00", 3),
        CASE("\x16\x00\x00", 3),
#undef CASE
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct modbus_pdu ask = pdu_of(cases[i].ask, cases[i].n);
        struct modbus_asked asked;

        assert_int_equal(modbus_read_request(&asked, &ask), cases[i].exception);
    }
}

static void test_an_identification_that_is_too_long_goes_on_in_a_second_answer(void **state)
{
    static char longs[2][200];
    struct str objects[3];
    struct modbus_pdu ask, answer;
    struct modbus_asked asked;
    struct str value;
    size_t at = 0;
    uint8_t id, next = 0;

    (void)state;
    memset(longs, 'x', sizeof longs);
    objects[0] = str_of(longs[0], 200);
    objects[1] = str_of(longs[1], 200);
    objects[2] = STR("1.0");
    modbus_ask_identity(&ask, 1, 0);
    assert_int_equal(modbus_read_request(&asked, &ask), 0);
    modbus_answer_identity(&answer, &asked, objects, 3);
    assert_int_equal(modbus_check_answer(&ask, &answer, NULL), ERR_OK);
    assert_true(modbus_answer_has_more(&answer, &next));
    assert_int_equal(next, 1);
    modbus_ask_identity(&ask, 1, next);
    assert_int_equal(modbus_read_request(&asked, &ask), 0);
    modbus_answer_identity(&answer, &asked, objects, 3);
    assert_int_equal(modbus_check_answer(&ask, &answer, NULL), ERR_OK);
    assert_false(modbus_answer_has_more(&answer, &next));
    assert_true(modbus_answer_object(&answer, &at, &id, &value));
    assert_int_equal(id, 1);
    assert_true(modbus_answer_object(&answer, &at, &id, &value));
    assert_true(str_eq_z(value, "1.0"));
    modbus_ask_identity(&ask, 4, 9);
    assert_int_equal(modbus_read_request(&asked, &ask), 0);
    modbus_answer_identity(&answer, &asked, objects, 3);
    assert_int_equal(modbus_exception_of(&answer), MODBUS_ILLEGAL_ADDRESS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_are_as_the_examples_of_the_standard),
        cmocka_unit_test(test_what_does_not_fit_in_one_request_is_refused),
        cmocka_unit_test(test_right_answers_are_taken),
        cmocka_unit_test(test_answers_of_another_form_are_not_believed),
        cmocka_unit_test(test_values_are_read_out_of_answers),
        cmocka_unit_test(test_a_server_understands_what_a_client_asks),
        cmocka_unit_test(test_requests_of_a_wrong_form_are_answered_with_an_exception),
        cmocka_unit_test(test_an_identification_that_is_too_long_goes_on_in_a_second_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
