/* SPDX-License-Identifier: Apache-2.0 */
#include "data/number.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const char *z(char *out, size_t n)
{
    out[n] = 0;
    return out;
}

static void test_doubles_go_out_positional_and_short(void **state)
{
    static const struct {
        double v;
        const char *text;
    } cases[] = {
        {21, "21.0"},
        {0.1 + 0.2, "0.3"},
        {1e22, "10000000000000000000000.0"},
        {0.00001, "0.00001"},
        {1e-20, "0.0"},
        {-1e-20, "0.0"},
        {0, "0.0"},
        {-0.0, "-0.0"},
        {-12.5, "-12.5"},
        {1234567890.125, "1234567890.125"},
        {1.5e21, "1500000000000000000000.0"},
        {1e-16, "0.0000000000000001"},
        {1.2345e-15, "0.0000000000000012"},
        {1 / 3.0, "0.3333333333333333"},
        {1 / 30.0, "0.0333333333333333"},
        {2 / 3.0, "0.6666666666666666"},
        {5e-324, "0.0"},
        {9007199254740993.0, "9007199254740992.0"},
        {INFINITY, "null"},
        {-INFINITY, "null"},
        {NAN, "null"},
    };
    char out[NUMBER_MAX + 1];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_string_equal(z(out, number_put_double(out, cases[i].v)), cases[i].text);
    assert_int_equal(number_put_double(out, 1.7976931348623157e308), 311);
    assert_int_equal(number_put_double(out, -1.7976931348623157e308), 312);
}

static void test_doubles_read_back_or_are_near(void **state)
{
    uint64_t seed = 88172645463325252ull;
    char out[NUMBER_MAX + 1];

    (void)state;
    for (int i = 0; i < 20000; i++) {
        double v, back;
        size_t n;

        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        v = i % 2 ? (double)(int64_t)seed / 1e6 : (double)(seed % 100000) / 1000;
        n = number_put_double(out, v);
        back = strtod(z(out, n), NULL);
        assert_true(back == v);
        assert_true(memchr(out, '.', n) && !memchr(out, 'e', n));
        n = number_put_python(out, v);
        assert_true(strtod(z(out, n), NULL) == v);
    }
}

static void test_texts_in_templates_look_as_in_the_peer(void **state)
{
    static const struct {
        double v;
        const char *text;
    } cases[] = {
        {21, "21.0"},
        {0.0001, "0.0001"},
        {123456789012.5, "123456789012.5"},
        {1e-05, "1e-05"},
        {1e16, "1e+16"},
        {1.5e21, "1.5e+21"},
        {-1.25e-7, "-1.25e-07"},
        {1e100, "1e+100"},
        {9999999999999998.0, "9999999999999998.0"},
        {0.1 + 0.2, "0.30000000000000004"},
        {5e-324, "5e-324"},
        {-0.0, "-0.0"},
    };
    char out[NUMBER_MAX + 1];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_string_equal(z(out, number_put_python(out, cases[i].v)), cases[i].text);
}

static void test_number_text_is_returned_itself_when_it_is_final(void **state)
{
    static const char *const same[] = {"5",
                                       "-5",
                                       "0",
                                       "18446744073709551615",
                                       "-9223372036854775808",
                                       "21.5",
                                       "-0.25",
                                       "0.1",
                                       "100000000000.0",
                                       "99.99",
                                       "0.00000000000001"};
    char out[NUMBER_MAX];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(same); i++) {
        struct str got = number_final(str_from(same[i]), out);

        assert_ptr_equal(got.p, same[i]);
        assert_int_equal(got.n, strlen(same[i]));
    }
}

static void test_other_number_texts_get_their_final_form(void **state)
{
    static const char *const cases[][2] = {
        {"-0", "0"},
        {"18446744073709551616", "18446744073709552000.0"},
        {"-9223372036854775809", "-9223372036854776000.0"},
        {"21.50", "21.5"},
        {"1e3", "1000.0"},
        {"1E-5", "0.00001"},
        {"0.30000000000000004", "0.3"},
        {"12345678901234567.5", "12345678901234568.0"},
        {"1e400", "null"},
        {"0.10000000000000000000000000000000000000001", "0.1"},
    };
    char out[NUMBER_MAX], text[1000];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct str got = number_final(str_from(cases[i][0]), out);

        assert_true(str_eq_z(got, cases[i][1]));
    }
    memset(text, '1', sizeof text);
    assert_true(str_eq_z(number_final((struct str){text, sizeof text}, out), "null"));
    text[1] = '.';
    assert_true(str_eq_z(number_final((struct str){text, sizeof text}, out), "1.1111111111111112"));
}

static void test_final_doubles_are_recognised(void **state)
{
    static const char *const no[] = {"",      "-",     "5",    "5.",   ".5",
                                     "1.50",  "1.00",  "00.5", "01.5", "1e5",
                                     "1.5e5", "1.2.3", " 1.5", "+1.5", "12345678.123456789",
                                     "-",     "1.5 ",  "-.5"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(no); i++)
        assert_false(number_is_final_double(str_from(no[i])));
    assert_true(number_is_final_double(STR("1.5")));
    assert_true(number_is_final_double(STR("-0.5")));
    assert_true(number_is_final_double(STR("1.0")));
    assert_true(number_is_final_double(STR("123456789012.345")));
    assert_true(number_is_integer(STR("-12")));
    assert_false(number_is_integer(STR("-")));
    assert_false(number_is_integer(STR("")));
    assert_false(number_is_integer(STR("1e3")));
}

static void test_raw_numbers_take_template_form(void **state)
{
    static const char *const cases[][2] = {{"5", "5"},
                                           {"123456789012345678901234567890", "123456789012345678901234567890"},
                                           {"21.50", "21.5"},
                                           {"0.00001", "1e-05"},
                                           {"-0.00001", "-1e-05"},
                                           {"0.0001", "0.0001"},
                                           {"1e3", "1000.0"},
                                           {"1e16", "1e+16"}};
    char out[NUMBER_MAX];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_true(str_eq_z(number_in_template(str_from(cases[i][0]), out), cases[i][1]));
}

static void test_integers_are_printed(void **state)
{
    char out[NUMBER_MAX + 1];

    (void)state;
    assert_string_equal(z(out, number_put_i64(out, INT64_MIN)), "-9223372036854775808");
    assert_string_equal(z(out, number_put_i64(out, -7)), "-7");
    assert_string_equal(z(out, number_put_i64(out, 0)), "0");
    assert_string_equal(z(out, number_put_u64(out, UINT64_MAX)), "18446744073709551615");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_doubles_go_out_positional_and_short),
        cmocka_unit_test(test_doubles_read_back_or_are_near),
        cmocka_unit_test(test_texts_in_templates_look_as_in_the_peer),
        cmocka_unit_test(test_number_text_is_returned_itself_when_it_is_final),
        cmocka_unit_test(test_other_number_texts_get_their_final_form),
        cmocka_unit_test(test_final_doubles_are_recognised),
        cmocka_unit_test(test_raw_numbers_take_template_form),
        cmocka_unit_test(test_integers_are_printed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
