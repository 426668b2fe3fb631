/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/crash.h"

#include "base/file.h"
#include "gateway/signals.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/*
 * Each fault has a process of its own: this program, with the part that it plays and the file of records as its arguments. Begun anew
 * it is the same program with the same arguments, and finds a record in its book.
 */
enum { ANEW = 42, ANEW_WITH_A_STOP = 43 };

static char records[64];
static volatile int *volatile nowhere;

/* --- the parts ---------------------------------------------------------------------------------------------------------------- */

static struct crash_book begin(void)
{
    struct crash_book book = {0};

    signals_hold();
    if (crash_begin(records, (int64_t)time(NULL) + 1, &book, NULL))
        _exit(1);
    return book;
}

static _Noreturn void fall(void)
{
    *nowhere = 1;
    _exit(2);
}

static volatile int zero;

static int overflow(volatile char *above)
{
    volatile char here[4096];

    here[0] = above[0];
    return zero ? 0 : overflow(here) + here[0] + 1;
}

/* Once the fault is recorded its handler waits for the one who takes a signal. */
static void *take_a_stop(void *arg)
{
    sem_t *has_begun = arg;
    struct crash_book book = {0};

    crash_taking_begins();
    sem_post(has_begun);
    while (!book.n) {
        autobuf struct buf text = {0};

        if (!file_read(&text, records, 1024 * 1024, NULL))
            crash_book_read(&book, buf_str(&text), (int64_t)time(NULL) + 1);
    }
    crash_taking_ends(true);
    return NULL;
}

static _Noreturn void play(const char *part)
{
    struct crash_book book = begin();
    bool is_anew = book.n > 0;
    struct crash_owner owner = {0};
    sigset_t pending;

    if (strcmp(part, "often") == 0)
        fall();
    if (is_anew) {
        sigpending(&pending);
        _exit(sigismember(&pending, SIGTERM) ? ANEW_WITH_A_STOP : ANEW);
    }
    if (strcmp(part, "stop") == 0)
        kill(getpid(), SIGTERM);
    if (strcmp(part, "taken") == 0) {
        pthread_t thread;
        sem_t has_begun;

        sem_init(&has_begun, 0, 0);
        if (pthread_create(&thread, NULL, take_a_stop, &has_begun))
            _exit(1);
        sem_wait(&has_begun);
    }
    if (strcmp(part, "stay down") == 0)
        crash_stay_down();
    if (strcmp(part, "outside") == 0)
        kill(getpid(), SIGABRT);
    if (strcmp(part, "stack") == 0) {
        setrlimit(RLIMIT_STACK, &(struct rlimit){1 << 20, 1 << 20}); /* where there is none it would take all memory */
        zero = overflow(&(volatile char){1});
    }
    if (strcmp(part, "module") == 0) { /* abort is in the C library, which plays the module */
        crash_add(&owner, STR("Plant \"1\""), STR("x"), (const void *)(uintptr_t)abort, &book, sizeof book, NULL, NULL);
        abort();
    }
    if (strcmp(part, "removed") == 0) {
        crash_add(&owner, STR("Plant"), STR("x"), (const void *)(uintptr_t)abort, &book, sizeof book, NULL, NULL);
        crash_remove(&owner);
        abort();
    }
    fall();
}

/* --- what becomes of them ---------------------------------------------------------------------------------------------------- */

/* As waitpid gives it. */
static int outcome_of(const char *part)
{
    char *argv[] = {(char *)(uintptr_t) "crash_test", (char *)(uintptr_t)part, records, NULL};
    int status;
    pid_t pid;

    unlink(records);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        execv("/proc/self/exe", argv);
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static struct crash_book book_of_it(void)
{
    autobuf struct buf text = {0};
    struct crash_book book;

    assert_int_equal(file_read(&text, records, 1024 * 1024, NULL), ERR_OK);
    crash_book_read(&book, buf_str(&text), (int64_t)time(NULL) + 1);
    return book;
}

static void test_after_a_fault_it_begins_anew_and_knows(void **state)
{
    int status = outcome_of("fall");
    struct crash_book book = book_of_it();

    (void)state;
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), ANEW);
    assert_int_equal(book.n, 1);
    assert_int_equal(book.records[0].signal, SIGSEGV);
    assert_string_equal(book.records[0].connector, "");
}

static void test_a_full_stack_is_a_fault_like_others(void **state)
{
    int status = outcome_of("stack");

    (void)state;
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), ANEW);
}

static void test_the_one_whose_code_it_was_is_named(void **state)
{
    (void)state;
    assert_int_equal(WEXITSTATUS(outcome_of("module")), ANEW);
    assert_string_equal(book_of_it().records[0].connector, "Plant \"1\"");
    assert_string_equal(book_of_it().records[0].type, "x");
    assert_int_equal(book_of_it().records[0].signal, SIGABRT);
    assert_true(str_starts(str_from(book_of_it().records[0].where), STR("module+0x")));
    assert_int_equal(WEXITSTATUS(outcome_of("removed")), ANEW);
    assert_string_equal(book_of_it().records[0].connector, "");
}

static void test_after_the_fifth_it_ends_with_the_signal(void **state)
{
    int status = outcome_of("often");

    (void)state;
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    assert_int_equal(book_of_it().n, 6);
}

static void test_a_stop_that_nobody_has_taken_goes_on_to_the_next_program(void **state)
{
    int status = outcome_of("stop");

    (void)state;
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), ANEW_WITH_A_STOP);
}

static void test_a_stop_that_is_being_taken_is_waited_for_and_holds(void **state)
{
    int status = outcome_of("taken");

    (void)state;
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    assert_int_equal(book_of_it().n, 1);
}

static void test_it_does_not_begin_anew_when_it_is_to_stay_down(void **state)
{
    int status = outcome_of("stay down");

    (void)state;
    assert_true(WIFSIGNALED(status));
    assert_int_equal(book_of_it().n, 1);
    setenv("IOTGW_ON_CRASH", "end", 1);
    status = outcome_of("fall");
    unsetenv("IOTGW_ON_CRASH");
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    assert_int_equal(book_of_it().n, 1);
}

static void test_a_signal_from_outside_ends_it_without_a_record(void **state)
{
    int status = outcome_of("outside");

    (void)state;
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_int_equal(book_of_it().n, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_after_a_fault_it_begins_anew_and_knows),
        cmocka_unit_test(test_a_full_stack_is_a_fault_like_others),
        cmocka_unit_test(test_the_one_whose_code_it_was_is_named),
        cmocka_unit_test(test_after_the_fifth_it_ends_with_the_signal),
        cmocka_unit_test(test_a_stop_that_nobody_has_taken_goes_on_to_the_next_program),
        cmocka_unit_test(test_a_stop_that_is_being_taken_is_waited_for_and_holds),
        cmocka_unit_test(test_it_does_not_begin_anew_when_it_is_to_stay_down),
        cmocka_unit_test(test_a_signal_from_outside_ends_it_without_a_record),
    };
    int code;

    if (argc > 2) {
        snprintf(records, sizeof records, "%s", argv[2]);
        play(argv[1]);
    }
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    (void)tests, (void)code;
    return 77; /* a sanitizer has handlers of its own: skipped */
#endif
    snprintf(records, sizeof records, "/tmp/iotgw-crash-%d", (int)getpid());
    code = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(records);
    return code;
}
