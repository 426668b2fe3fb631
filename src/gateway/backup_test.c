/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/backup.h"

#include "base/file.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/iotgw-backup-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    strncat(dir, "/", 2);
    return 0;
}

static const char *path_of(const char *name)
{
    static char path[400];

    snprintf(path, sizeof path, "%s%s", dir, name);
    return path;
}

static void put(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static unsigned n_backups(const char *start)
{
    DIR *backups = opendir(path_of("backup"));
    unsigned n = 0;

    for (struct dirent *entry; backups && (entry = readdir(backups));)
        n += strncmp(entry->d_name, start, strlen(start)) == 0;
    if (backups)
        closedir(backups);
    return n;
}

static int remove_dir(void **state)
{
    DIR *backups = opendir(path_of("backup"));

    (void)state;
    for (struct dirent *entry; backups && (entry = readdir(backups));) {
        char name[300];

        snprintf(name, sizeof name, "backup/%s", entry->d_name);
        unlink(path_of(name));
    }
    if (backups)
        closedir(backups);
    rmdir(path_of("backup"));
    unlink(path_of("mqtt.json"));
    unlink(path_of("mqtt_2.json"));
    return rmdir(dir);
}

static void test_ten_copies_of_each_stem_stay(void **state)
{
    (void)state;
    put("mqtt.json", "{}");
    put("mqtt_2.json", "{}");
    for (int64_t s = 1000; s < 1015; s++)
        assert_int_equal(backup_copy(dir, path_of("mqtt.json"), s, NULL), ERR_OK);
    assert_int_equal(backup_copy(dir, path_of("mqtt_2.json"), 5, NULL), ERR_OK);
    assert_int_equal(n_backups("mqtt.backup."), 10);
    assert_int_equal(n_backups("mqtt_2.backup."), 1);
    assert_int_equal(access(path_of("backup/mqtt.backup.1014.json"), F_OK), 0);
    assert_int_not_equal(access(path_of("backup/mqtt.backup.1004.json"), F_OK), 0);
}

static void test_a_moved_file_is_in_the_backups_only(void **state)
{
    (void)state;
    put("mqtt.json", "{\"a\":1}");
    assert_int_equal(backup_move(dir, path_of("mqtt.json"), 7, NULL), ERR_OK);
    assert_int_not_equal(access(path_of("mqtt.json"), F_OK), 0);
    assert_int_equal(access(path_of("backup/mqtt.backup.7.json"), F_OK), 0);
    assert_int_equal(backup_move(dir, path_of("mqtt.json"), 8, NULL), ERR_OK); /* not there: nothing to do */
}

static void test_other_members_stay_as_they_are(void **state)
{
    static const struct {
        const char *text, *key, *json, *expected;
    } cases[] = {
        {"{\"a\":1.50,\"b\":2}", "a", "[1]", "{\n  \"a\": [\n    1\n  ],\n  \"b\": 2\n}\n"},
        {"{\"a\":1.50}", "b", "{}", "{\n  \"a\": 1.50,\n  \"b\": {}\n}\n"},
        {"{\"a\":1,\"b\":2}", "a", NULL, "{\n  \"b\": 2\n}\n"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        autobuf struct buf out = {0};

        assert_int_equal(edit_member(&out, str_from(cases[i].text), str_from(cases[i].key),
                                     cases[i].json ? str_from(cases[i].json) : STR_NONE, NULL),
                         ERR_OK);
        buf_add_u8(&out, 0);
        assert_string_equal((const char *)out.p, cases[i].expected);
    }
}

static void test_an_entry_keeps_the_members_that_are_not_given(void **state)
{
    static const char text[] = "{\"connectors\":[{\"name\":\"A\",\"key\":\"k\"},{\"name\":\"B\"}],\"x\":1}";
    autobuf struct buf changed = {0}, added = {0}, removed = {0}, compact = {0};
    struct json_file *file;

    (void)state;
    assert_int_equal(
        edit_connector(&changed, str_from(text), STR("A"), STR("{\"name\":\"C\",\"type\":\"mqtt\"}"), NULL), ERR_OK);
    assert_int_equal(edit_connector(&added, buf_str(&changed), STR("D"), STR("{\"name\":\"D\"}"), NULL), ERR_OK);
    assert_int_equal(edit_connector(&removed, buf_str(&added), STR("B"), STR_NONE, NULL), ERR_OK);
    assert_int_equal(json_file_parse(&file, "result", buf_str(&removed), NULL), ERR_OK);
    json_add_value(&compact, json_file_root(file));
    buf_add_u8(&compact, 0);
    assert_string_equal((const char *)compact.p, "{\"connectors\":[{\"name\":\"C\",\"key\":\"k\",\"type\":\"mqtt\"},"
                                                 "{\"name\":\"D\"}],\"x\":1}");
    json_file_free(file);
}

static void test_what_is_no_object_is_refused(void **state)
{
    autobuf struct buf out = {0};
    struct why why = {0};

    (void)state;
    assert_int_equal(edit_member(&out, STR("[1]"), STR("a"), STR("1"), &why), ERR_TYPE);
    assert_int_not_equal(edit_member(&out, STR("{\"a\":"), STR("a"), STR("1"), NULL), ERR_OK);
    assert_int_not_equal(edit_member(&out, STR("{}"), STR("a"), STR("{"), NULL), ERR_OK);
    assert_int_equal(out.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ten_copies_of_each_stem_stay, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_a_moved_file_is_in_the_backups_only, make_dir, remove_dir),
        cmocka_unit_test(test_other_members_stay_as_they_are),
        cmocka_unit_test(test_an_entry_keeps_the_members_that_are_not_given),
        cmocka_unit_test(test_what_is_no_object_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
