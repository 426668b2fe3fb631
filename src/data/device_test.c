/* SPDX-License-Identifier: Apache-2.0 */
#include "data/device.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static struct str name_of(char *out, size_t size, unsigned i)
{
    return (struct str){out, (size_t)snprintf(out, size, "storm %u", i)};
}

static void test_a_device_is_the_same_at_every_sight(void **state)
{
    struct device *dev;

    (void)state;
    assert_null(device_find(STR("Dev \"1\"\\ü")));
    dev = device_get(STR("Dev \"1\"\\ü"));
    assert_non_null(dev);
    assert_ptr_equal(device_get(STR("Dev \"1\"\\ü")), dev);
    assert_ptr_equal(device_find(STR("Dev \"1\"\\ü")), dev);
    assert_ptr_not_equal(device_get(STR("Dev \"1\"")), dev);
    assert_ptr_equal(device_at(dev->number), dev);
    assert_true(str_eq((struct str){dev->json, dev->json_n}, STR("\"Dev \\\"1\\\"\\\\ü\"")));
    assert_true(sizeof *dev + 102 + 3 * sizeof(void *) + 16 <= 400);
}

static void test_names_the_platform_refuses_make_no_device(void **state)
{
    static const struct {
        struct str name;
        const char *says;
    } cases[] = {{STR(""), "empty"},
                 {STR("a\tb"), "control character"},
                 {STR("a\0b"), "control character"},
                 {STR("\x7f"), "control character"},
                 {STR("a\xff"), "UTF-8"},
                 {STR("<b>"), "HTML"}};
    char longest[256];
    uint32_t n = device_count();

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct why why = {0};

        assert_int_equal(device_name_check(cases[i].name, &why), ERR_RANGE);
        assert_non_null(strstr(why_text(&why), cases[i].says));
        assert_null(device_get(cases[i].name));
    }
    memset(longest, 'x', sizeof longest);
    assert_null(device_get((struct str){longest, 256}));
    assert_int_equal(device_count(), n);
    assert_non_null(device_get((struct str){longest, 255}));
    assert_non_null(device_get(STR("a<1 <")));
}

enum { STORM = 20000, N_THREADS = 4 };

static void *storm(void *arg)
{
    struct device **seen = arg;
    char text[32];

    for (unsigned i = 0; i < STORM; i++) {
        seen[i] = device_get(name_of(text, sizeof text, i));
        if (device_find(name_of(text, sizeof text, i)) != seen[i] || device_at(seen[i]->number) != seen[i])
            return NULL;
    }
    return arg;
}

static void test_threads_that_meet_new_names_at_once_agree_on_the_devices(void **state)
{
    static struct device *seen[N_THREADS][STORM];
    pthread_t threads[N_THREADS];
    uint32_t before = device_count();

    (void)state;
    for (size_t i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, storm, seen[i]), 0);
    for (size_t i = 0; i < N_THREADS; i++) {
        void *result;

        pthread_join(threads[i], &result);
        assert_non_null(result);
        assert_memory_equal(seen[i], seen[0], sizeof seen[0]);
    }
    assert_int_equal(device_count(), before + STORM);
    for (uint32_t i = 0; i < device_count(); i++)
        assert_int_equal(device_at(i)->number, i);
}

static void test_a_profile_is_interned(void **state)
{
    const char *profile = device_profile_intern(STR("thermostat"));

    (void)state;
    assert_string_equal(profile, "thermostat");
    assert_ptr_equal(device_profile_intern(STR("thermostat")), profile);
    assert_ptr_not_equal(device_profile_intern(STR("thermo")), profile);
    assert_null(device_profile_intern(STR("")));
    assert_null(device_profile_intern(STR("a\nb")));
}

static void test_assigned_times_never_repeat_and_follow_only_a_long_step_back(void **state)
{
    struct device *dev = device_get(STR("clocked"));

    (void)state;
    assert_int_equal(device_assign_ts(dev, 100000), 100000);
    assert_int_equal(device_assign_ts(dev, 100000), 100001);
    assert_int_equal(device_assign_ts(dev, 100001), 100002);
    assert_int_equal(device_assign_ts(dev, 100010), 100010);
    assert_int_equal(device_assign_ts(dev, 99500), 100011);
    assert_int_equal(device_assign_ts(dev, 99010), 100012);
    assert_int_equal(device_assign_ts(dev, 99009), 99009);
    assert_int_equal(device_assign_ts(dev, 99009), 99010);
    /* Far ahead of the clock after a burst in one ms, which is no step of the clock. */
    for (int i = 0; i < 5000; i++)
        assert_int_equal(device_assign_ts(dev, 200000), 200000 + i);
    assert_int_equal(device_assign_ts(dev, 200001), 205000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_device_is_the_same_at_every_sight),
        cmocka_unit_test(test_names_the_platform_refuses_make_no_device),
        cmocka_unit_test(test_threads_that_meet_new_names_at_once_agree_on_the_devices),
        cmocka_unit_test(test_a_profile_is_interned),
        cmocka_unit_test(test_assigned_times_never_repeat_and_follow_only_a_long_step_back),
    };
    return cmocka_run_group_tests_name("device", tests, NULL, NULL);
}
