/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "gateway/log_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Files stand in a directory of their own; time is what each call is given. */
static char directory[64], path[96];

static int setup(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/iotgw-log-XXXXXX");
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/service.log", directory);
    setenv("TZ", "Europe/Berlin", 1);
    tzset();
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names of all that is in the directory, sorted, each with a space behind it. */
static const char *listed(void)
{
    static char text[2048];
    char *names[64];
    size_t n = 0, at = 0;
    DIR *dir = opendir(directory);

    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.') {
            assert_true(n < COUNT_OF(names));
            names[n++] = mem_dup(entry->d_name);
        }
    closedir(dir);
    if (n)
        qsort(names, n, sizeof names[0], by_name);
    text[0] = 0;
    for (size_t i = 0; i < n; i++) {
        at += (size_t)snprintf(text + at, sizeof text - at, "%s ", names[i]);
        mem_free(names[i]);
    }
    return text;
}

static void in_directory(const char *name, char *out, size_t n)
{
    snprintf(out, n, "%s/%s", directory, name);
}

static void make(const char *name, const char *text)
{
    char full[512];
    FILE *f;

    in_directory(name, full, sizeof full);
    f = fopen(full, "we");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void assert_holds(const char *name, const char *want)
{
    char full[512];
    autobuf struct buf text = {0};

    in_directory(name, full, sizeof full);
    assert_int_equal(file_read(&text, full, 65536, NULL), ERR_OK);
    buf_add_u8(&text, 0);
    assert_string_equal((char *)text.p, want);
}

static int teardown(void **state)
{
    char *names = mem_dup(listed()), full[512];

    (void)state;
    for (char *name = names, *end; *name; name = end + 1) {
        end = strchr(name, ' ');
        *end = 0;
        in_directory(name, full, sizeof full);
        (void)chmod(full, 0700);
        if (unlink(full))
            (void)rmdir(full);
    }
    mem_free(names);
    unsetenv("TZ");
    tzset();
    return rmdir(directory);
}

/* "2026-03-29 12:00:00" where the machine is said to be. */
static int64_t at(const char *text)
{
    struct tm tm = {.tm_isdst = -1};
    char *end = strptime(text, "%Y-%m-%d %H:%M:%S", &tm);

    assert_true(end && !*end);
    return (int64_t)mktime(&tm) * 1000;
}

static const char *local(int64_t s)
{
    static char text[64];
    time_t t = (time_t)s;
    struct tm tm;

    localtime_r(&t, &tm);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
    return text;
}

static void put(struct log_file *file, const char *line, const char *when)
{
    struct why why = {0};

    if (log_file_write(file, str_from(line), at(when), &why))
        fail_msg("%s", why_text(&why));
}

static void test_each_unit_says_when_the_file_is_put_aside_and_what_the_old_one_is_called(void **state)
{
    static const struct {
        enum log_when when;
        uint32_t interval;
        bool is_utc;
        const char *begin, *due, *archive;
    } cases[] = {
        {LOG_S, 1, false, "2026-01-02 03:04:05", "2026-01-02 03:04:06", "2026-01-02_03-04-05"},
        {LOG_S, 10, false, "2026-01-02 03:04:05", "2026-01-02 03:04:15", "2026-01-02_03-04-05"},
        {LOG_M, 1, false, "2026-01-02 03:04:05", "2026-01-02 03:05:05", "2026-01-02_03-04"},
        {LOG_H, 1, false, "2026-01-02 03:04:05", "2026-01-02 04:04:05", "2026-01-02_03"},
        {LOG_H, 6, true, "2026-01-02 03:04:05", "2026-01-02 09:04:05", "2026-01-02_02"},
        {LOG_D, 1, false, "2026-01-02 03:04:05", "2026-01-03 03:04:05", "2026-01-02"},
        {LOG_D, 3, false, "2026-01-02 03:04:05", "2026-01-05 03:04:05", "2026-01-02"},
        {LOG_MIDNIGHT, 1, false, "2026-01-02 03:04:05", "2026-01-03 00:00:00", "2026-01-02"},
        {LOG_MIDNIGHT, 1, false, "2026-01-02 00:00:00", "2026-01-03 00:00:00", "2026-01-02"},
        {LOG_MIDNIGHT, 1, true, "2026-01-02 00:30:00", "2026-01-02 01:00:00", "2026-01-01"}, /* UTC is an hour behind */
        {LOG_MIDNIGHT, 7, false, "2026-01-02 03:04:05", "2026-01-09 00:00:00", "2026-01-02"},
        /* The day ends, on which the week does: 2026-01-02 is a Friday. */
        {LOG_W0, 1, false, "2026-01-02 03:04:05", "2026-01-06 00:00:00", "2025-12-30"},
        {LOG_W0 + 1, 1, false, "2026-01-02 03:04:05", "2026-01-07 00:00:00", "2025-12-31"},
        {LOG_W0 + 2, 1, false, "2026-01-02 03:04:05", "2026-01-08 00:00:00", "2026-01-01"},
        {LOG_W0 + 3, 1, false, "2026-01-02 03:04:05", "2026-01-09 00:00:00", "2026-01-02"},
        {LOG_W0 + 4, 1, false, "2026-01-02 03:04:05", "2026-01-03 00:00:00", "2025-12-27"},
        {LOG_W0 + 5, 1, false, "2026-01-02 03:04:05", "2026-01-04 00:00:00", "2025-12-28"},
        {LOG_W6, 1, false, "2026-01-02 03:04:05", "2026-01-05 00:00:00", "2025-12-29"},
        {LOG_W6, 1, true, "2026-01-05 00:30:00", "2026-01-05 01:00:00", "2025-12-29"},
        {LOG_W0, 2, false, "2026-01-02 03:04:05", "2026-01-13 00:00:00", "2025-12-30"},
        /* Summer time begins on 2026-03-29 (23 hours) and ends on 2026-10-25 (25 hours). */
        {LOG_MIDNIGHT, 1, false, "2026-03-29 12:00:00", "2026-03-30 00:00:00", "2026-03-29"},
        {LOG_MIDNIGHT, 1, false, "2026-10-25 12:00:00", "2026-10-26 00:00:00", "2026-10-25"},
        {LOG_MIDNIGHT, 3, false, "2026-03-28 12:00:00", "2026-03-31 00:00:00", "2026-03-28"},
        {LOG_W6, 1, false, "2026-03-27 12:00:00", "2026-03-30 00:00:00", "2026-03-23"},
        {LOG_W6, 1, false, "2026-10-23 12:00:00", "2026-10-26 00:00:00", "2026-10-19"},
        {LOG_D, 1, false, "2026-03-28 12:00:00", "2026-03-29 13:00:00", "2026-03-28"},
        {LOG_H, 1, false, "2026-10-25 01:30:00", "2026-10-25 02:30:00", "2026-10-25_01"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct log_file *file = log_file_new(&(struct log_file_conf){
            .path = path, .when = cases[i].when, .interval = cases[i].interval, .is_utc = cases[i].is_utc});
        char archive[64], want[256];

        put(file, "old\n", cases[i].begin);
        assert_string_equal(local(log_file_due_s(file)), cases[i].due);
        snprintf(archive, sizeof archive, "service.log.%s", cases[i].archive);
        snprintf(want, sizeof want, "service.log %s ", archive);
        assert_int_equal(log_file_write(file, STR("last\n"), log_file_due_s(file) * 1000 - 1, NULL), ERR_OK);
        assert_string_equal(listed(), "service.log ");
        assert_int_equal(log_file_write(file, STR("new\n"), log_file_due_s(file) * 1000, NULL), ERR_OK);
        assert_string_equal(listed(), want);
        assert_holds(archive, "old\nlast\n");
        assert_holds("service.log", "new\n");
        log_file_free(file);
        in_directory(archive, want, sizeof want);
        assert_int_equal(unlink(want), 0);
        assert_int_equal(unlink(path), 0);
    }
}

static void test_periods_without_a_line_are_passed_over_and_the_beat_is_kept(void **state)
{
    struct log_file *file = log_file_new(&(struct log_file_conf){.path = path, .when = LOG_H, .interval = 2});

    (void)state;
    put(file, "a\n", "2026-01-02 03:00:00");
    put(file, "b\n", "2026-01-02 10:30:00");
    assert_string_equal(listed(), "service.log service.log.2026-01-02_03 ");
    assert_string_equal(local(log_file_due_s(file)), "2026-01-02 11:00:00");
    put(file, "c\n", "2026-01-02 11:00:00");
    assert_string_equal(listed(), "service.log service.log.2026-01-02_03 service.log.2026-01-02_09 ");
    log_file_free(file);
    file = log_file_new(&(struct log_file_conf){.path = path, .when = LOG_MIDNIGHT, .interval = 1});
    put(file, "d\n", "2026-01-02 12:00:00");
    put(file, "e\n", "2029-06-01 12:00:00");
    assert_string_equal(local(log_file_due_s(file)), "2029-06-02 00:00:00");
    log_file_free(file);
}

static void test_periods_of_any_length_are_reckoned(void **state)
{
    static const uint32_t intervals[] = {0, 100000, UINT32_MAX};

    (void)state;
    for (enum log_when when = LOG_S; when <= LOG_BY_SIZE; when++)
        for (size_t i = 0; i < COUNT_OF(intervals); i++) {
            struct log_file *file =
                log_file_new(&(struct log_file_conf){.path = path, .when = when, .interval = intervals[i]});

            put(file, "a\n", "2026-01-02 03:04:05");
            put(file, "b\n", "2026-01-02 03:04:06");
            assert_true(log_file_due_s(file) > at("2026-01-02 03:04:06") / 1000);
            log_file_free(file);
            assert_int_equal(unlink(path), 0);
            if (when == LOG_S && i == 0) {
                char archive[128];

                in_directory("service.log.2026-01-02_03-04-05", archive, sizeof archive);
                assert_int_equal(unlink(archive), 0);
            }
        }
}

static void set_mtime(int64_t ms)
{
    const struct timespec times[] = {{.tv_sec = ms / 1000}, {.tv_sec = ms / 1000}};

    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void test_a_file_of_before_the_start_is_put_aside_when_its_period_is_over(void **state)
{
    const struct log_file_conf conf = {.path = path, .when = LOG_MIDNIGHT, .interval = 1};
    struct log_file *file = log_file_new(&conf);

    (void)state;
    make("service.log", "yesterday\n");
    set_mtime(at("2026-01-01 23:00:00"));
    put(file, "today\n", "2026-01-02 08:00:00");
    assert_string_equal(listed(), "service.log service.log.2026-01-01 ");
    assert_holds("service.log.2026-01-01", "yesterday\n");
    log_file_free(file);

    file = log_file_new(&conf); /* a second start on the same day */
    set_mtime(at("2026-01-02 08:00:00"));
    put(file, "later\n", "2026-01-02 09:00:00");
    assert_string_equal(listed(), "service.log service.log.2026-01-01 ");
    assert_holds("service.log", "today\nlater\n");
    log_file_free(file);
}

static void test_the_oldest_are_deleted_by_time_and_number_and_other_files_left_alone(void **state)
{
    static const char *const others[] = {"service.log.2026-01-01.txt", "service.log.backup",
                                         "service.log.2026-1-1",       "service.log2.2026-01-01",
                                         "other.log.2026-01-01",       "service.log.2026-01-01.",
                                         "service.log.2026-01-01.1x",  "service.log.2026-01-01_00-00-00"};
    struct log_file *file =
        log_file_new(&(struct log_file_conf){.path = path, .when = LOG_MIDNIGHT, .interval = 1, .n_kept = 4});

    (void)state;
    for (size_t i = 0; i < COUNT_OF(others); i++)
        make(others[i], "");
    make("service.log.2026-01-02.10", "");
    make("service.log.2026-01-02.9", "");
    make("service.log.2026-01-02", "");
    make("service.log.2025-12-31", "");
    make("service.log.2026-01-03", "");
    put(file, "a\n", "2026-01-05 12:00:00");
    put(file, "b\n", "2026-01-06 12:00:00");
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        char full[512];

        in_directory(others[i], full, sizeof full);
        assert_int_equal(unlink(full), 0);
    }
    assert_string_equal(listed(), "service.log service.log.2026-01-02.10 service.log.2026-01-02.9 "
                                  "service.log.2026-01-03 service.log.2026-01-05 ");
    log_file_free(file);
}

static void test_no_number_keeps_all_of_them(void **state)
{
    struct log_file *file = log_file_new(&(struct log_file_conf){.path = path, .when = LOG_M, .interval = 1});
    unsigned n = 0;

    (void)state;
    for (int64_t i = 0; i < 30; i++)
        assert_int_equal(log_file_write(file, STR("a\n"), at("2026-01-05 12:00:00") + i * 60000, NULL), ERR_OK);
    for (const char *p = listed(); *p; p++)
        n += *p == ' ';
    assert_int_equal(n, 30);
    log_file_free(file);
}

static void test_a_second_archive_of_one_time_gets_a_number_that_was_never_used(void **state)
{
    const struct log_file_conf conf = {.path = path, .when = LOG_BY_SIZE, .interval = 1, .n_kept = 2, .max_bytes = 10};
    struct log_file *file = log_file_new(&conf);

    (void)state;
    for (int i = 0; i < 4; i++)
        put(file, "12345678\n", "2026-01-05 12:00:00");
    assert_string_equal(listed(), "service.log service.log.2026-01-05_12-00-00.1 service.log.2026-01-05_12-00-00.2 ");
    log_file_free(file);
    file = log_file_new(&conf); /* also after a restart */
    put(file, "12345678\n", "2026-01-05 12:00:00");
    assert_string_equal(listed(), "service.log service.log.2026-01-05_12-00-00.2 service.log.2026-01-05_12-00-00.3 ");
    put(file, "12345678\n", "2026-01-05 12:00:01");
    assert_string_equal(listed(), "service.log service.log.2026-01-05_12-00-00.3 service.log.2026-01-05_12-00-01 ");
    log_file_free(file);
}

static void test_a_file_with_a_bound_is_put_aside_by_time_too(void **state)
{
    struct log_file *file =
        log_file_new(&(struct log_file_conf){.path = path, .when = LOG_MIDNIGHT, .interval = 1, .max_bytes = 1000});

    (void)state;
    put(file, "a\n", "2026-01-05 12:00:00");
    put(file, "b\n", "2026-01-06 00:00:03");
    assert_string_equal(listed(), "service.log service.log.2026-01-06_00-00-03 "); /* of when it was put aside */
    log_file_free(file);
}

static void test_a_line_longer_than_the_bound_has_a_file_of_its_own(void **state)
{
    struct log_file *file =
        log_file_new(&(struct log_file_conf){.path = path, .when = LOG_BY_SIZE, .interval = 1, .max_bytes = 4});

    (void)state;
    put(file, "long line\n", "2026-01-05 12:00:00");
    assert_string_equal(listed(), "service.log ");
    put(file, "ab\n", "2026-01-05 12:00:00");
    assert_holds("service.log", "ab\n");
    log_file_free(file);
}

static void test_a_file_that_somebody_moved_away_is_made_anew(void **state)
{
    struct log_file *file = log_file_new(&(struct log_file_conf){.path = path, .when = LOG_D, .interval = 1});
    char moved[128];

    (void)state;
    in_directory("moved", moved, sizeof moved);
    put(file, "a\n", "2026-01-05 12:00:00");
    assert_int_equal(rename(path, moved), 0);
    put(file, "b\n", "2026-01-05 12:00:00"); /* it is looked for once a second */
    put(file, "c\n", "2026-01-05 12:00:01");
    assert_holds("moved", "a\nb\n");
    assert_holds("service.log", "c\n");
    assert_int_equal(rename(path, moved), 0);
    log_file_reopen(file);
    put(file, "d\n", "2026-01-05 12:00:01");
    assert_holds("service.log", "d\n");
    assert_int_equal(unlink(path), 0);
    put(file, "e\n", "2026-01-05 11:00:00"); /* the clock was set back */
    assert_holds("service.log", "e\n");
    log_file_free(file);
}

static void test_a_full_disk_is_told_with_the_file_and_passes(void **state)
{
    struct log_file *file =
        log_file_new(&(struct log_file_conf){.path = "/dev/full", .when = LOG_BY_SIZE, .max_bytes = 100});
    struct why why = {0};

    (void)state;
    for (int i = 0; i < 3; i++) {
        why = (struct why){0};
        assert_int_equal(log_file_write(file, STR("a\n"), at("2026-01-05 12:00:00"), &why), err_from_errno(ENOSPC));
        assert_string_equal(why_text(&why), "/dev/full: No space left on device");
    }
    log_file_free(file);
}

static void test_a_place_that_cannot_be_written_is_told_and_tried_again(void **state)
{
    char place[160], full[200];
    struct log_file *file;
    struct why why = {0};

    (void)state;
    in_directory("sub", place, sizeof place);
    make("sub", "");
    snprintf(full, sizeof full, "%s/deep/service.log", place);
    file = log_file_new(&(struct log_file_conf){.path = full, .when = LOG_D, .interval = 1});
    assert_int_not_equal(log_file_write(file, STR("a\n"), at("2026-01-05 12:00:00"), &why), ERR_OK);
    assert_non_null(strstr(why_text(&why), full));
    assert_int_equal(unlink(place), 0);
    put(file, "b\n", "2026-01-05 12:00:00"); /* directories are made */
    assert_holds("sub/deep/service.log", "b\n");
    log_file_free(file);
    assert_int_equal(unlink(full), 0);
    *strrchr(full, '/') = 0;
    assert_int_equal(rmdir(full), 0);
}

static void test_where_no_archive_can_be_made_the_file_goes_on(void **state)
{
    struct log_file *file = log_file_new(
        &(struct log_file_conf){.path = path, .when = LOG_BY_SIZE, .interval = 1, .n_kept = 1, .max_bytes = 4});

    (void)state;
    make("service.log.2026-01-05_11-00-00", "kept");
    make("service.log.2026-01-05_12-00-00", "");
    put(file, "abc\n", "2026-01-05 13:00:00");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0); /* what cannot be opened for writing */
    log_file_reopen(file);
    assert_int_not_equal(log_file_write(file, STR("d\n"), at("2026-01-05 13:00:00"), NULL), ERR_OK);
    assert_string_equal(listed(), "service.log service.log.2026-01-05_11-00-00 service.log.2026-01-05_12-00-00 ");
    log_file_free(file);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_each_unit_says_when_the_file_is_put_aside_and_what_the_old_one_is_called),
        TEST(test_periods_without_a_line_are_passed_over_and_the_beat_is_kept),
        TEST(test_periods_of_any_length_are_reckoned),
        TEST(test_a_file_of_before_the_start_is_put_aside_when_its_period_is_over),
        TEST(test_the_oldest_are_deleted_by_time_and_number_and_other_files_left_alone),
        TEST(test_no_number_keeps_all_of_them),
        TEST(test_a_second_archive_of_one_time_gets_a_number_that_was_never_used),
        TEST(test_a_file_with_a_bound_is_put_aside_by_time_too),
        TEST(test_a_line_longer_than_the_bound_has_a_file_of_its_own),
        TEST(test_a_file_that_somebody_moved_away_is_made_anew),
        TEST(test_a_full_disk_is_told_with_the_file_and_passes),
        TEST(test_a_place_that_cannot_be_written_is_told_and_tried_again),
        TEST(test_where_no_archive_can_be_made_the_file_goes_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
