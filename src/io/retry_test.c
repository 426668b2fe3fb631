/* SPDX-License-Identifier: Apache-2.0 */
#include "io/retry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sched.h>
#include <unistd.h>

struct wait {
    struct loop *loop;
    struct retry retry;
    struct timer limit, news;
    unsigned n_due;
    bool is_late;
};

static void due(void *arg)
{
    struct wait *wait = arg;

    wait->n_due++;
    timer_stop(&wait->limit);
    if (!loop_is_fake(wait->loop))
        loop_stop(wait->loop);
}

static void too_late(void *arg)
{
    struct wait *wait = arg;

    wait->is_late = true;
    retry_stop(&wait->retry);
    loop_stop(wait->loop);
}

static void test_the_pause_alone_counts_without_news(void **state)
{
    struct wait wait = {.loop = loop_new_fake(0)};

    (void)state;
    timer_init(&wait.limit, wait.loop, too_late, &wait);
    retry_init(&wait.retry, wait.loop, due, &wait);
    retry_start(&wait.retry, 5000);
    assert_true(retry_is_waiting(&wait.retry));
    loop_advance(wait.loop, 4999);
    assert_int_equal(wait.n_due, 0);
    loop_advance(wait.loop, 1);
    assert_int_equal(wait.n_due, 1);
    retry_start_deaf(&wait.retry, 10);
    retry_stop(&wait.retry);
    loop_advance(wait.loop, 100);
    assert_int_equal(wait.n_due, 1);
    loop_free(wait.loop);
}

static void bring_the_network_back(void *arg)
{
    (void)arg;
    assert_int_equal(system("ip link set lo up"), 0);
}

/* In a network name space of its own, whose only interface comes up while the retry waits for a minute. */
static void test_the_network_coming_back_ends_the_pause(void **state)
{
    struct wait wait = {0};

    (void)state;
    if (unshare(CLONE_NEWNET) != 0 || system("ip link show lo >/dev/null 2>&1") != 0)
        skip();
    assert_int_equal(loop_new(&wait.loop, "test"), ERR_OK);
    timer_init(&wait.limit, wait.loop, too_late, &wait);
    timer_init(&wait.news, wait.loop, bring_the_network_back, &wait);
    retry_init(&wait.retry, wait.loop, due, &wait);
    retry_start(&wait.retry, 60000);
    timer_start(&wait.limit, 30000);
    timer_start(&wait.news, 1);
    loop_run(wait.loop);
    assert_false(wait.is_late);
    assert_int_equal(wait.n_due, 1);
    assert_null(wait.retry.watch);
    loop_free(wait.loop);
}

static void test_stopping_while_it_listens_leaves_nothing_open(void **state)
{
    struct wait wait = {0};

    (void)state;
    assert_int_equal(loop_new(&wait.loop, "test"), ERR_OK);
    timer_init(&wait.limit, wait.loop, too_late, &wait);
    retry_init(&wait.retry, wait.loop, due, &wait);
    for (int i = 0; i < 3; i++)
        retry_start(&wait.retry, 60000);
    timer_start(&wait.limit, 1);
    loop_run(wait.loop); /* returns only when every handle is closed */
    assert_true(wait.is_late);
    assert_int_equal(wait.n_due, 0);
    loop_free(wait.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_pause_alone_counts_without_news),
        cmocka_unit_test(test_stopping_while_it_listens_leaves_nothing_open),
        cmocka_unit_test(test_the_network_coming_back_ends_the_pause),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
