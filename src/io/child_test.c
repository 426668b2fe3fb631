/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/buf.h"
#include "io/child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Each test runs a loop until its program has ended, or the test says so. */
struct probe {
    struct loop *loop;
    struct child *child;
    struct buf output;
    size_t pause_at; /* output at which reading stops; 0: never */
    unsigned n_ended;
    int64_t status;
    int signal;
    struct timer timer;
};

static void on_output(void *arg, struct str bytes)
{
    struct probe *probe = arg;

    buf_add_str(&probe->output, bytes);
    if (probe->pause_at && probe->output.n >= probe->pause_at)
        child_pause(probe->child, true);
}

static void on_ended(void *arg, int64_t status, int signal)
{
    struct probe *probe = arg;

    probe->n_ended++;
    probe->status = status;
    probe->signal = signal;
    loop_stop(probe->loop);
}

static enum err start(struct probe *probe, const char *program, const char *script, struct str input)
{
    const char *const argv[] = {program, "-c", script, NULL};
    const struct child_conf conf = {.argv = argv,
                                    .directory = "/",
                                    .input = input,
                                    .has_errors_in_output = true,
                                    .output = on_output,
                                    .ended = on_ended,
                                    .arg = probe};
    struct why why = {0};

    assert_int_equal(loop_new(&probe->loop, "test"), ERR_OK);
    return child_start(&probe->child, probe->loop, &conf, &why);
}

static void finish(struct probe *probe)
{
    timer_stop(&probe->timer);
    loop_free(probe->loop);
    buf_fini(&probe->output);
}

static void assert_output(const struct probe *probe, const char *text)
{
    assert_int_equal(probe->output.n, strlen(text));
    assert_memory_equal(probe->output.p, text, probe->output.n);
}

static void test_a_program_gets_its_input_and_gives_output_errors_and_status(void **state)
{
    struct probe probe = {0};

    (void)state;
    assert_int_equal(start(&probe, "/bin/sh", "pwd; cat; echo oops >&2; exit 7", STR("text\n")), ERR_OK);
    loop_run(probe.loop);
    assert_int_equal(probe.n_ended, 1);
    assert_int_equal(probe.status, 7);
    assert_output(&probe, "/\ntext\noops\n");
    finish(&probe);
}

static void test_a_program_that_is_not_there_is_an_error_with_its_path(void **state)
{
    struct probe probe = {0};

    (void)state;
    assert_int_equal(start(&probe, "/nonexistent/program", "", STR_NONE), ERR_NOTFOUND);
    loop_stop(probe.loop);
    loop_run(probe.loop);
    assert_int_equal(probe.n_ended, 0);
    finish(&probe);
}

static void resume(void *arg)
{
    struct probe *probe = arg;

    assert_int_equal(probe->n_ended, 0);
    assert_true(probe->output.n < 100000); /* what is not read waits in the pipe */
    probe->pause_at = 0;
    child_pause(probe->child, false);
}

static void test_output_that_is_not_read_holds_the_program_and_is_not_lost(void **state)
{
    struct probe probe = {.pause_at = 1};

    (void)state;
    assert_int_equal(start(&probe, "/bin/sh", "head -c 1000000 /dev/zero", STR_NONE), ERR_OK);
    timer_init(&probe.timer, probe.loop, resume, &probe);
    timer_start(&probe.timer, 100);
    loop_run(probe.loop);
    assert_int_equal(probe.output.n, 1000000);
    assert_int_equal(probe.n_ended, 1);
    finish(&probe);
}

static void terminate(void *arg)
{
    struct probe *probe = arg;

    if (!probe->output.n) /* it has not got so far */
        timer_start(&probe->timer, 10);
    else
        child_signal(probe->child, SIGTERM);
}

static bool is_gone(const struct buf *output)
{
    char digits[24];
    long pid;

    snprintf(digits, sizeof digits, STR_FMT, STR_ARG(buf_str(output)));
    pid = strtol(digits, NULL, 10);
    for (unsigned i = 0; i < 500; i++) { /* whoever adopts it takes its time to bury it */
        char path[64], state[256] = "";
        FILE *file;

        assert_true(pid > 0);
        snprintf(path, sizeof path, "/proc/%ld/stat", pid);
        file = fopen(path, "r");
        if (!file)
            return true;
        (void)!fgets(state, sizeof state, file);
        fclose(file);
        if (strstr(state, ") Z ") || !*state)
            return true;
        usleep(10000);
    }
    return false;
}

static void test_a_signal_reaches_all_of_the_programs_group(void **state)
{
    struct probe probe = {0};

    (void)state;
    assert_int_equal(start(&probe, "/bin/sh", "sleep 1000 & echo $!; wait", STR_NONE), ERR_OK);
    timer_init(&probe.timer, probe.loop, terminate, &probe);
    timer_start(&probe.timer, 10);
    loop_run(probe.loop);
    assert_int_equal(probe.n_ended, 1);
    assert_int_equal(probe.signal, SIGTERM);
    assert_true(is_gone(&probe.output));
    finish(&probe);
}

static void test_what_a_program_leaves_behind_ends_with_it(void **state)
{
    struct probe probe = {0};

    (void)state;
    assert_int_equal(start(&probe, "/bin/sh", "sleep 1000 & echo $!", STR_NONE), ERR_OK);
    loop_run(probe.loop);
    assert_int_equal(probe.status, 0);
    assert_true(is_gone(&probe.output));
    finish(&probe);
}

static void abandon(void *arg)
{
    struct probe *probe = arg;

    if (!probe->output.n) {
        timer_start(&probe->timer, 10);
        return;
    }
    child_abandon(probe->child);
    loop_stop(probe->loop);
}

static void test_an_abandoned_program_is_killed_and_says_nothing_more(void **state)
{
    struct probe probe = {0};

    (void)state;
    assert_int_equal(start(&probe, "/bin/sh", "trap '' TERM; echo $$; while :; do sleep 1000; done", STR_NONE), ERR_OK);
    timer_init(&probe.timer, probe.loop, abandon, &probe);
    timer_start(&probe.timer, 10);
    loop_run(probe.loop); /* and nothing is left open */
    assert_int_equal(probe.n_ended, 0);
    assert_true(is_gone(&probe.output));
    finish(&probe);
}

static void test_a_program_that_reads_nothing_ends_all_the_same(void **state)
{
    struct probe probe = {0};
    char *text = mem_zero(1000000);

    (void)state;
    assert_int_equal(start(&probe, "/bin/sh", "exit 3", str_of(text, 1000000)), ERR_OK);
    loop_run(probe.loop);
    assert_int_equal(probe.status, 3);
    mem_free(text);
    finish(&probe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_program_gets_its_input_and_gives_output_errors_and_status),
        cmocka_unit_test(test_a_program_that_is_not_there_is_an_error_with_its_path),
        cmocka_unit_test(test_output_that_is_not_read_holds_the_program_and_is_not_lost),
        cmocka_unit_test(test_a_signal_reaches_all_of_the_programs_group),
        cmocka_unit_test(test_what_a_program_leaves_behind_ends_with_it),
        cmocka_unit_test(test_an_abandoned_program_is_killed_and_says_nothing_more),
        cmocka_unit_test(test_a_program_that_reads_nothing_ends_all_the_same),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("io: child", tests, NULL, NULL);
}
