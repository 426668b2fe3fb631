/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "uplink/scripted_platform.h"

static const struct deliver_conf kept_open = {
    .qos = 1, .min_pack_values = 500, .max_pack_events = 10000, .batch_devices = true, .keep_alive_s = 100};

/* How often the platform has been told of a device without anything about it. */
static unsigned n_touched(unsigned index)
{
    autobuf struct buf part = {0}, history = {0};
    unsigned n = 0;

    buf_printf(&part, STR_FMT ":{}", STR_ARG(str_of(devices[index]->json, devices[index]->json_n)));
    buf_add_u8(&part, 0);
    buf_add(&history, pf.history.p, pf.history.n);
    buf_add_u8(&history, 0);
    for (const char *at = (char *)history.p; (at = strstr(at, (char *)part.p)); at++)
        n++;
    return n;
}

/* Deliveries are answered at once. */
static void live(unsigned seconds)
{
    for (unsigned i = 0; i < seconds; i++) {
        loop_advance(loop, 1000);
        answer_others();
        answer_all();
    }
}

static void open_two(const struct deliver_conf *conf)
{
    open_all(conf, 8000, 100, true);
    for (unsigned i = 0; i < 2; i++) {
        atomic_store(&devices[i]->link, i == 0 ? DEVICE_LINK_UP : DEVICE_LINK_DOWN);
        push(i, 1, "");
    }
    loop_advance(loop, 0);
    answer_all();
}

static void close_two(void)
{
    for (unsigned i = 0; i < 2; i++)
        atomic_store(&devices[i]->link, DEVICE_LINK_UNKNOWN);
    check_stored(1, 1, 1);
    check_ledger();
    close_all();
}

static void test_a_silent_device_with_a_link_is_named_once_a_period_and_one_without_is_not(void **state)
{
    (void)state;
    open_two(&kept_open);
    live(95);
    assert_int_equal(n_touched(0), 0);
    live(20);
    assert_int_equal(n_touched(0), 1);
    live(300);
    assert_in_range(n_touched(0), 3, 4);
    assert_int_equal(n_touched(1), 0);
    assert_int_equal(pf.n_connects, 2);
    unsigned n = n_touched(0);
    disconnect(true);
    live(300);
    assert_int_equal(n_touched(0), n); /* without a session nothing is said */
    connect_again();
    close_two();
}

static void test_whatever_is_sent_for_a_device_counts_as_activity(void **state)
{
    (void)state;
    open_two(&kept_open);
    for (unsigned i = 0; i < 10; i++) { /* data */
        live(50);
        push(0, 1, "");
    }
    for (unsigned i = 0; i < 10; i++) { /* a reply, a request: who sends it says so */
        live(50);
        devices[0]->active_s = (uint32_t)(loop_mono_ms(loop) / 1000);
    }
    assert_int_equal(n_touched(0), 0);
    live(120);
    assert_int_equal(n_touched(0), 1);
    close_two();
}

static void test_a_device_of_unknown_link_is_opened_again_once_the_platform_has_ended_it(void **state)
{
    (void)state;
    open_all(&kept_open, 8000, 100, true);
    push(0, 1, "");
    loop_advance(loop, 0);
    answer_all();
    assert_int_equal(pf.n_connects, 1);
    live(200);
    assert_int_equal(pf.n_connects, 1);
    live(40);
    assert_int_equal(pf.n_connects, 2);
    assert_int_equal(n_touched(0), 0);
    close_all();
}

static void test_it_begins_and_ends_when_the_setting_changes_within_a_session(void **state)
{
    struct deliver_conf conf = kept_open;

    (void)state;
    conf.keep_alive_s = 0;
    open_two(&conf);
    live(300);
    assert_int_equal(n_touched(0), 0);
    conf.keep_alive_s = 10;
    deliver_tune(deliver, &conf);
    live(25);
    assert_in_range(n_touched(0), 2, 3);
    conf.keep_alive_s = 0;
    deliver_tune(deliver, &conf);
    live(2);
    unsigned n = n_touched(0);
    live(300);
    assert_int_equal(n_touched(0), n);
    close_two();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_silent_device_with_a_link_is_named_once_a_period_and_one_without_is_not),
        cmocka_unit_test(test_whatever_is_sent_for_a_device_counts_as_activity),
        cmocka_unit_test(test_a_device_of_unknown_link_is_opened_again_once_the_platform_has_ended_it),
        cmocka_unit_test(test_it_begins_and_ends_when_the_setting_changes_within_a_session),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
