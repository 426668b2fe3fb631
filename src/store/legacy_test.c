/* SPDX-License-Identifier: Apache-2.0 */
#include "store/legacy.h"
#include "store/legacy_event.h"

#include "base/base64.h"
#include "base/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];
static struct log test_log;
static struct legacy_chunk chunk;

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/legacy-XXXXXX");
    assert_non_null(mkdtemp(folder));
    log_init(&test_log, "storage", LOG_LEVEL_OFF);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    buf_fini(&chunk.bytes);
    log_fini(&test_log);
    return rmdir(folder); /* fails where something was left */
}

static void path_of(const char *name, char path[160])
{
    snprintf(path, 160, "%s/%s", folder, name);
}

static void put_file(const char *name, const char *text)
{
    char path[160];

    path_of(name, path);
    assert_int_equal(file_put(path, str_from(text), FILE_REPLACE, NULL, NULL), ERR_OK);
}

static bool is_there(const char *name)
{
    char path[160];

    path_of(name, path);
    return access(path, F_OK) == 0;
}

static struct legacy *open_files(const char *prefix)
{
    struct legacy *legacy;

    assert_int_equal(legacy_files_open(&legacy, folder, prefix, &test_log, NULL), ERR_OK);
    return legacy;
}

static struct str item(size_t i)
{
    return str_of(chunk.bytes.p + chunk.items[i].at, chunk.items[i].n);
}

static void assert_read(struct legacy *legacy, const char *const *expected, size_t n)
{
    assert_int_equal(legacy_read(legacy, &chunk, NULL), ERR_OK);
    assert_int_equal(chunk.n_items, n);
    for (size_t i = 0; i < n; i++)
        assert_true(str_eq_z(item(i), expected[i]));
}

static void finish(struct legacy *legacy, uint64_t number)
{
    assert_int_equal(legacy_done(legacy, number, NULL), ERR_OK);
    assert_int_equal(legacy_read(legacy, &chunk, NULL), ERR_OK);
    assert_int_equal(chunk.n_items, 0);
    assert_int_equal(legacy_finish(legacy, NULL), ERR_OK);
    legacy_free(legacy);
}

/* YQ==, Yg==, Yw==, ZA==: a, b, c, d */

static void test_a_directory_without_its_files_has_nothing(void **state)
{
    (void)state;
    assert_null(open_files(""));
    put_file("data_1x.txt", "YQ==\n");
    assert_null(open_files(""));
    char path[160];

    path_of("data_1x.txt", path);
    unlink(path);
}

static void test_files_are_read_from_the_position_in_the_order_of_their_times(void **state)
{
    struct legacy *legacy;

    (void)state;
    put_file("data_9.txt", "YQ==\n"); /* older than the position says: delivered */
    put_file("data_10.txt", "YQ==\nYg==\n");
    put_file("data_100.txt", "Yw==\r\nZA==\nYQ="); /* the last is not an event */
    put_file("state_file.txt", "{\"position\": 1, \"file\": \"data_10.txt\"}");
    legacy = open_files("");
    assert_read(legacy, (const char *[]){"b"}, 1);
    assert_string_equal(chunk.file, "data_10.txt");
    assert_int_equal(chunk.items[0].line, 2);
    assert_read(legacy, (const char *[]){"c", "d"}, 2);
    assert_int_equal(legacy->n_corrupt, 1);
    finish(legacy, chunk.number);
    assert_false(is_there("state_file.txt"));
}

static void test_what_is_done_is_not_read_again_after_a_kill(void **state)
{
    struct legacy *legacy;

    (void)state;
    put_file("data_1.txt", "YQ==\n");
    put_file("data_2.txt", "Yg==\n");
    put_file("data_3.txt", "Yw==\n");
    legacy = open_files("");
    assert_read(legacy, (const char *[]){"a"}, 1);
    assert_read(legacy, (const char *[]){"b"}, 1);
    assert_int_equal(legacy_done(legacy, chunk.number - 1, NULL), ERR_OK);
    assert_true(is_there("data_1.txt"));
    assert_int_equal(legacy_done(legacy, chunk.number, NULL), ERR_OK);
    assert_false(is_there("data_1.txt"));
    assert_read(legacy, (const char *[]){"c"}, 1);
    legacy_free(legacy); /* c was not done */
    legacy = open_files("");
    assert_read(legacy, (const char *[]){"c"}, 1);
    finish(legacy, chunk.number);
}

static void test_an_unreadable_position_means_the_first_file_from_its_beginning(void **state)
{
    static const char *const states[] = {"",
                                         "{",
                                         "[]",
                                         "{\"file\":\"data_2.txt\"}",
                                         "{\"file\":\"data_2.txt\",\"position\":-1}",
                                         "{\"file\":\"data_7.txt\",\"position\":1}",
                                         "{\"file\":7,\"position\":1}"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(states); i++) {
        struct legacy *legacy;

        put_file("data_1.txt", "YQ==\n");
        put_file("data_2.txt", "Yg==\n");
        put_file("state_file.txt", states[i]);
        legacy = open_files("");
        assert_read(legacy, (const char *[]){"a"}, 1);
        while (chunk.n_items) {
            uint64_t number = chunk.number;

            assert_int_equal(legacy_done(legacy, number, NULL), ERR_OK);
            assert_int_equal(legacy_read(legacy, &chunk, NULL), ERR_OK);
        }
        assert_int_equal(legacy_finish(legacy, NULL), ERR_OK);
        legacy_free(legacy);
    }
}

static void test_files_beside_the_folder_are_read_whole_but_for_the_position(void **state)
{
    struct legacy *legacy;

    (void)state;
    put_file("datadata_1.txt", "YQ==\n"); /* forgotten at a restart, and never delivered */
    put_file("datadata_2.txt", "Yg==\nYw==\n");
    put_file("datastate_file.txt", "{\"position\": 1, \"file\": \"datadata_2.txt\"}");
    assert_null(open_files(""));
    legacy = open_files("data");
    assert_read(legacy, (const char *[]){"a"}, 1);
    assert_read(legacy, (const char *[]){"c"}, 1);
    finish(legacy, chunk.number);
    assert_false(is_there("datastate_file.txt"));
}

static void test_base64_is_strict(void **state)
{
    static const char *const wrong[] = {"A", "AA", "AAA", "A===", "====", "AA=A", "AA==AA==", "A AA", "AAA\n", "AA-_"};
    struct buf out = {0};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        assert_int_equal(base64_decode(&out, str_from(wrong[i])), ERR_SYNTAX);
        assert_int_equal(out.n, 0);
    }
    assert_int_equal(base64_decode(&out, STR("Zm9vYmFyIQ==")), ERR_OK);
    assert_true(str_eq_z(buf_str(&out), "foobar!"));
    assert_int_equal(base64_decode(&out, STR("+/+/")), ERR_OK);
    assert_memory_equal(out.p + 7, "\xfb\xff\xbf", 3);
    buf_fini(&out);
}

/* --- events ------------------------------------------------------------------------------------------------------------------- */

static bool never(const struct device *dev)
{
    (void)dev;
    return true;
}

static void test_both_forms_of_events_are_understood(void **state)
{
    static const struct {
        const char *json;
        size_t n;
        int64_t ts;
    } cases[] = {
        {"{\"deviceName\":\"a\",\"telemetry\":[{\"ts\":5,\"values\":{\"x\":1,\"y\":2}}],\"attributes\":{\"z\":3}}", 3,
         5},
        {"{\"deviceName\":\"a\",\"telemetry\":{\"ts\":5,\"values\":{\"x\":1}},\"attributes\":[{\"z\":3},{\"u\":4}]}", 3,
         5},
        {"{\"deviceName\":\"a\",\"telemetry\":[{\"x\":1},{\"y\":1}]}", 2, EVENT_NO_TS},
        {"{\"deviceName\":\"a\",\"telemetry\":[{\"ts\":\"5\",\"values\":{\"x\":1}}]}", 1, EVENT_NO_TS},
        {"{\"deviceName\":\"a\",\"telemetry\":null,\"attributes\":null}", 0, 0},
    };
    struct legacy_event in = {0};
    struct event event;

    (void)state;
    event_init(&event);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(legacy_event_read(&in, str_from(cases[i].json), &event, NULL), ERR_OK);
        assert_int_equal(event.n, cases[i].n);
        assert_int_equal(in.n_left_out, 0);
        if (event.n)
            assert_true(event.items[0].ts == cases[i].ts);
    }
    event_fini(&event);
}

static void test_what_is_no_event_is_refused_with_a_reason(void **state)
{
    static const char *const wrong[] = {"",
                                        "{",
                                        "[]",
                                        "7",
                                        "{}",
                                        "{\"deviceName\":7}",
                                        "{\"deviceName\":\"\"}",
                                        "{\"deviceName\":\"a\\u0001\"}",
                                        "{\"deviceName\":\"a\"} x"};
    struct legacy_event in = {0};
    struct event event;

    (void)state;
    event_init(&event);
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        struct why why = {0};

        assert_int_not_equal(legacy_event_read(&in, str_from(wrong[i]), &event, &why), ERR_OK);
        assert_true(why.text[0] != 0);
    }
    event_fini(&event);
}

static void test_older_attributes_and_bad_keys_are_left_out_and_counted(void **state)
{
    struct legacy_event in = {.no_attributes = never};
    struct event event;

    (void)state;
    event_init(&event);
    assert_int_equal(
        legacy_event_read(&in,
                          STR("{\"deviceName\":\"a\",\"telemetry\":[{\"ts\":1,\"values\":{\"\":1,\"x\":1}},7],"
                              "\"attributes\":[{\"u\":1},{\"v\":2,\"w\":3}]}"),
                          &event, NULL),
        ERR_OK);
    assert_int_equal(event.n, 1);
    assert_int_equal(in.n_left_out, 2);
    assert_int_equal(in.n_superseded, 3);
    event_fini(&event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_directory_without_its_files_has_nothing, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_files_are_read_from_the_position_in_the_order_of_their_times, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(test_what_is_done_is_not_read_again_after_a_kill, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_an_unreadable_position_means_the_first_file_from_its_beginning,
                                        make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_files_beside_the_folder_are_read_whole_but_for_the_position, make_folder,
                                        remove_folder),
        cmocka_unit_test(test_base64_is_strict),
        cmocka_unit_test(test_both_forms_of_events_are_understood),
        cmocka_unit_test(test_what_is_no_event_is_refused_with_a_reason),
        cmocka_unit_test(test_older_attributes_and_bad_keys_are_left_out_and_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
