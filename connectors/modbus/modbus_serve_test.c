/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/hex.h"
#include "conf/conf.h"
#include "modbus_server.h"

static struct conf *conf;
static struct modbus_image image;
static struct modbus_diary diary;

static void not_encoded(void *arg, const struct modbus_point *point, const struct why *why)
{
    (void)arg;
    fail_msg("%.*s: %s", (int)point->tag.n, point->tag.p, why_text(why));
}

static void begin(const char *members)
{
    autobuf struct buf text = {0};
    struct problems problems;

    buf_printf(&text,
               "{\"slave\":{\"host\":\"h\",\"unitId\":7,\"sendDataToThingsBoard\":true,\"byteOrder\":"
               "\"BIG\",\"wordOrder\":\"BIG\",\"identity\":{\"vendorName\":\"ACME\",\"ModelName\":\"M\"}%s,\"values\":{"
               "\"holding_registers\":{\"timeseries\":[{\"tag\":\"a\",\"type\":\"64uint\",\"address\":10,\"value\":"
               "1311768467463790320}]},\"coils_initializer\":{\"timeseries\":[{\"tag\":\"c\",\"type\":\"bits\","
               "\"address\":3,\"objectsCount\":4,\"value\":[1,0,1,1]}]}}}}",
               members);
    problems_init(&problems);
    conf = conf_load_text(&modbus_conf_type, ".", "test", buf_str(&text), &problems);
    assert_non_null(conf);
    problems_fini(&problems);
    modbus_image_init(&image);
    diary = (struct modbus_diary){0};
    modbus_image_fill(&image, ((const struct modbus_file *)conf_root(conf))->own, not_encoded, NULL);
}

static void end(void)
{
    modbus_image_fini(&image);
    conf_unref(conf);
}

/* Hexadecimal both; "": there is no answer. */
static const char *asked(uint8_t unit, const char *ask_hex, struct modbus_change *change)
{
    static struct buf text;
    autobuf struct buf bytes = {0};
    struct modbus_pdu ask = {0}, answer;

    assert_int_equal(hex_decode(&bytes, str_from(ask_hex)), ERR_OK);
    ask.n = (uint8_t)bytes.n;
    memcpy(ask.bytes, bytes.p, bytes.n);
    text.n = 0;
    if (modbus_serve(&image, &diary, ((const struct modbus_file *)conf_root(conf))->own, unit, &ask, &answer, change))
        hex_add(&text, answer.bytes, answer.n);
    buf_add_u8(&text, 0);
    return (const char *)text.p;
}

static void test_each_function_does_what_the_standard_says(void **state)
{
    static const struct {
        const char *ask, *answer;
    } cases[] = {
        {"0100030004", "01010d"}, /* coils 1 0 1 1 */
        {"01000300"
         "05",
         "8102"},                               /* one beyond */
        {"0200000009", "02020000"},             /* an area that nothing is said about */
        {"03000a0004", "0308123456789abcdef0"}, /* as many as there are */
        {"03000b0004", "8302"},
        {"0300000000", "8303"}, /* none */
        {"04ffff0001", "04020000"},
        {"04ffff0002", "8402"},
        {"050004ff00", "050004ff00"},
        {"0500041234", "8503"}, /* neither on nor off */
        {"0100030004", "01010f"},
        {"06000a0001", "06000a0001"},
        {"0600090001", "8602"},
        {"0f000300040102", "0f00030004"},
        {"0100030004", "010102"},
        {"10000a000204aaaabbbb", "10000a0002"},
        {"03000a0002", "0304aaaabbbb"},
        {"10000d000204aaaabbbb", "9002"}, /* half of it: nothing is written */
        {"03000d0001", "0302def0"},
        {"16000a00f20025", "16000a00f20025"}, /* (aaaa and 00f2) or (0025 and not 00f2) = 00a7 */
        {"03000a0001", "030200a7"},
        {"17000a0002000b0001021111", "170400a71111"}, /* the write comes first */
        {"17000a000200090001021111", "9702"},
        {"08000012"
         "34",
         "0800001234"},
        {"08000112"
         "34",
         "8803"},
        {"0800020000", "8801"},
        {"11", "110207ff"},
        {"63", "e301"},
        {"41", "c101"},
        {"03", "8303"}, /* too short */
    };
    struct modbus_change change;

    (void)state;
    begin("");
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *got = asked(1, cases[i].ask, &change);

        if (strcmp(got, cases[i].answer) != 0)
            fail_msg("%s: %s, expected %s", cases[i].ask, got, cases[i].answer);
    }
    end();
}

static void test_the_diary_counts_what_was_asked(void **state)
{
    struct modbus_change change;

    (void)state;
    begin("");
    assert_string_equal(asked(1, "08000a0000", &change), "08000a0000"); /* anew; is itself the first event */
    assert_string_equal(asked(1, "0b", &change), "0b00000001");
    assert_string_equal(asked(1, "03ffff0002", &change), "8302");
    assert_string_equal(asked(1, "06000a0001", &change), "06000a0001");
    assert_string_equal(asked(1, "0b", &change), "0b00000002"); /* neither what was refused, nor this question */
    assert_string_equal(asked(1, "08000b0000", &change), "08000b0005");
    assert_string_equal(asked(1, "08000d0000", &change), "08000d0001");
    assert_string_equal(asked(1, "0c", &change), "0c140000000400074080408040804080418040804080");
    for (unsigned i = 0; i < 100; i++)
        (void)asked(1, "0b", &change);
    assert_int_equal(strlen(asked(1, "0c", &change)), 2 * (2 + 6 + 64)); /* the log is full */
    end();
}

static void test_what_was_written_is_told(void **state)
{
    struct modbus_change change;

    (void)state;
    begin("");
    (void)asked(1, "10000b000204aaaabbbb", &change);
    assert_true(change.area == MODBUS_HOLDING && change.address == 11 && change.n == 2);
    (void)asked(1, "050004ff00", &change);
    assert_true(change.area == MODBUS_COILS && change.address == 4 && change.n == 1);
    (void)asked(1, "10000d000204aaaabbbb", &change); /* refused */
    assert_int_equal(change.n, 0);
    (void)asked(1, "03000a0002", &change);
    assert_int_equal(change.n, 0);
    end();
}

static void test_who_is_meant_answers(void **state)
{
    struct modbus_change change;

    (void)state;
    begin("");
    assert_string_equal(asked(99, "11", &change), "110207ff"); /* any unit */
    end();
    begin(",\"strictUnitId\":true");
    assert_string_equal(asked(99, "11", &change), "");
    assert_string_equal(asked(7, "11", &change), "110207ff");
    end();
    begin(",\"type\":\"serial\",\"port\":\"/dev/x\"");
    assert_string_equal(asked(0, "06000a0001", &change), ""); /* a broadcast is obeyed, and not answered */
    assert_int_equal(modbus_image_get(&image, MODBUS_HOLDING, 10), 1);
    end();
}

static void test_the_server_says_who_it_is(void **state)
{
    struct modbus_change change;
    const char *got;

    (void)state;
    begin("");
    got = asked(1, "2b0e0100", &change);
    assert_true(strncmp(got, "2b0e01", 6) == 0 && strstr(got, "000441434d45")); /* object 0, 4 bytes, ACME */
    got = asked(1, "2b0e0405", &change);
    assert_non_null(strstr(got, "05014d")); /* the one object: the model's name, by its other spelling */
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_function_does_what_the_standard_says),
        cmocka_unit_test(test_the_diary_counts_what_was_asked),
        cmocka_unit_test(test_what_was_written_is_told),
        cmocka_unit_test(test_who_is_meant_answers),
        cmocka_unit_test(test_the_server_says_who_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
