/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "payload.h"

static void test_places_are_filled_in(void **state UNUSED)
{
    struct payload payload;
    struct payload_state device;
    autobuf struct buf out = {0};

    assert_int_equal(payload_init(&payload, STR("{${device} ${number} ${seq} ${ts} ${sent}}"), NULL), ERR_OK);
    payload_state_init(&device, &payload, 7, STR("dev7"));
    payload_add(&out, &payload, &device, 123, 456);
    payload_add(&out, &payload, &device, 124, 457);
    assert_true(str_eq(buf_str(&out), STR("{dev7 7 0 123 456}{dev7 7 1 124 457}")));
    payload_state_fini(&device);
    payload_fini(&payload);
}

static void test_drifting_values_stay_within_their_bounds(void **state UNUSED)
{
    struct payload payload;
    struct payload_state device;

    assert_int_equal(payload_init(&payload, STR("${walk:18:26:2} ${int:-3:4}"), NULL), ERR_OK);
    payload_state_init(&device, &payload, 0, STR("d"));
    for (unsigned i = 0; i < 10000; i++) {
        autobuf struct buf out = {0};
        struct str rest, first;
        double drift;
        int64_t whole;

        payload_add(&out, &payload, &device, 0, 0);
        rest = buf_str(&out);
        assert_true(str_split(&rest, ' ', &first));
        assert_int_equal(str_to_double(first, &drift), ERR_OK);
        assert_int_equal(str_to_i64(rest, &whole), ERR_OK);
        assert_true(drift >= 18 && drift <= 26);
        assert_true(whole >= -3 && whole <= 4);
    }
    payload_state_fini(&device);
    payload_fini(&payload);
}

static void test_choices_are_all_made(void **state UNUSED)
{
    struct payload payload;
    struct payload_state device;
    unsigned n[3] = {0};

    assert_int_equal(payload_init(&payload, STR("${pick:RUN|IDLE|STOP}"), NULL), ERR_OK);
    payload_state_init(&device, &payload, 0, STR("d"));
    for (unsigned i = 0; i < 3000; i++) {
        autobuf struct buf out = {0};

        payload_add(&out, &payload, &device, 0, 0);
        n[0] += str_eq(buf_str(&out), STR("RUN"));
        n[1] += str_eq(buf_str(&out), STR("IDLE"));
        n[2] += str_eq(buf_str(&out), STR("STOP"));
    }
    assert_int_equal(n[0] + n[1] + n[2], 3000);
    assert_true(n[0] > 2000 && n[1] > 100 && n[2] > 100);
    payload_state_fini(&device);
    payload_fini(&payload);
}

static void test_wrong_template_names_what_is_wrong(void **state UNUSED)
{
    static const char *const bad[] = {"${",         "${nothing}", "${walk:1}",     "${walk:2:1:0}",
                                      "${int:a:b}", "${pick:}",   "a${walk:1:2:x}"};

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct payload payload;
        struct why why = {0};

        assert_int_equal(payload_init(&payload, str_from(bad[i]), &why), ERR_SYNTAX);
        assert_true(why.text[0] != 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places_are_filled_in),
        cmocka_unit_test(test_drifting_values_stay_within_their_bounds),
        cmocka_unit_test(test_choices_are_all_made),
        cmocka_unit_test(test_wrong_template_names_what_is_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
