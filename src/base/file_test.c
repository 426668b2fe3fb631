/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/uuid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64], path[96], other[96], link_path[96];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/iotgw-file-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/a.json", dir);
    snprintf(other, sizeof other, "%s/a.yaml", dir);
    snprintf(link_path, sizeof link_path, "%s/link", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    unlink(path);
    unlink(other);
    unlink(link_path);
    return rmdir(dir);
}

static void put(const char *name, const char *text, mode_t mode)
{
    FILE *file = fopen(name, "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(name, mode), 0);
}

static void assert_file(const char *name, const char *text, mode_t mode)
{
    autobuf struct buf content = {0};
    struct stat st;

    assert_int_equal(file_read(&content, name, 1000, NULL), ERR_OK);
    assert_true(str_eq_z(buf_str(&content), text));
    assert_int_equal(stat(name, &st), 0);
    assert_int_equal(st.st_mode & 0777, mode);
}

static unsigned n_files(void)
{
    DIR *list = opendir(dir);
    unsigned n = 0;

    assert_non_null(list);
    for (struct dirent *entry; (entry = readdir(list));)
        n += entry->d_name[0] != '.';
    closedir(list);
    return n;
}

static void test_a_file_is_read_within_its_limit(void **state)
{
    autobuf struct buf content = {0};
    struct why why = {0};
    char expected[160];

    (void)state;
    put(path, "12345", 0644);
    assert_int_equal(file_read(&content, path, 5, NULL), ERR_OK);
    assert_int_equal(file_read(&content, path, 5, NULL), ERR_OK);
    assert_true(str_eq(buf_str(&content), STR("1234512345")));
    assert_int_equal(file_read(&content, path, 4, &why), ERR_LIMIT);
    snprintf(expected, sizeof expected, "%s: larger than the limit of 4 bytes", path);
    assert_string_equal(why_text(&why), expected);
    assert_int_equal(file_read(&content, dir, 4, NULL), ERR_TYPE);
    assert_int_equal(file_read(&content, "/dev/zero", 4, NULL), ERR_TYPE);
    assert_int_equal(mkfifo(other, 0600), 0); /* nobody writes to it */
    assert_int_equal(file_read(&content, other, 4, NULL), ERR_TYPE);
    unlink(other);
    unlink(path);
    assert_int_equal(file_read(&content, path, 4, NULL), ERR_NOTFOUND);
}

static void test_a_new_file_has_the_mode_of_its_model_and_replaces_nothing(void **state)
{
    struct why why = {0};

    (void)state;
    put(other, "a: 1", 0640);
    assert_int_equal(file_put(path, STR("{}"), FILE_NEW, other, &why), ERR_OK);
    assert_file(path, "{}", 0640);
    assert_int_equal(file_put(path, STR("[]"), FILE_NEW, other, &why), ERR_EXISTS);
    assert_file(path, "{}", 0640);
    assert_int_equal(n_files(), 2);
}

static void test_a_replaced_file_keeps_its_mode_and_a_link_stays_a_link(void **state)
{
    struct stat st;

    (void)state;
    put(path, "old", 0600);
    assert_int_equal(symlink(path, link_path), 0);
    assert_int_equal(file_put(link_path, STR("new"), FILE_REPLACE, link_path, NULL), ERR_OK);
    assert_file(path, "new", 0600);
    assert_int_equal(lstat(link_path, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    unlink(link_path);
}

static void test_what_is_staged_takes_the_files_place_or_leaves_no_trace(void **state)
{
    struct file_staged one, two;
    unsigned n;

    (void)state;
    put(path, "old", 0640);
    n = n_files();
    assert_int_equal(file_stage(&one, path, STR("new"), path, NULL), ERR_OK);
    assert_int_equal(file_stage(&two, path, STR("other"), path, NULL), ERR_OK);
    assert_file(path, "old", 0640);
    assert_int_equal(file_staged_put(&one, NULL), ERR_OK);
    file_staged_drop(&one); /* nothing is staged any more */
    assert_file(path, "new", 0640);
    file_staged_drop(&two);
    assert_file(path, "new", 0640);
    assert_int_equal(n_files(), n);
}

static void test_what_cannot_be_written_leaves_nothing_behind(void **state)
{
    struct why why = {0};
    unsigned n = n_files();

    (void)state;
    assert_int_equal(file_put("/nonexistent/a.json", STR("x"), FILE_NEW, path, &why), ERR_NOTFOUND);
    assert_string_equal(why_text(&why), "/nonexistent/a.json: cannot be written: No such file or directory");
    snprintf(link_path, sizeof link_path, "%s/none", dir);
    assert_int_equal(file_put(path, STR("x"), FILE_REPLACE, link_path, NULL), ERR_NOTFOUND); /* no model */
    assert_int_equal(n_files(), n);
}

static void test_identities_have_their_form(void **state)
{
    static const struct {
        size_t n; /* of 'a' */
        const char *id;
    } cases[] = {
        {0, "ddc6062f-be63-5582-9bd3-6ca08ddf4d17"},
        {40, "3792b1c8-255c-5a5e-a22b-a15c7f6e2799"},
        {48, "baed6aaf-6daf-5a49-83aa-6bd2641ae9fc"},
        {55, "f63cf73a-0fd7-5ebb-960f-22a40ef973f0"},
    };
    char text[64], id[UUID_SIZE], again[UUID_SIZE];

    (void)state;
    memset(text, 'a', sizeof text);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uuid_from_name(id, str_of(text, cases[i].n));
        assert_string_equal(id, cases[i].id);
    }
    uuid_random(id);
    uuid_random(again);
    assert_string_not_equal(id, again);
    assert_int_equal(strlen(id), UUID_SIZE - 1);
    assert_int_equal(strspn(id, "0123456789abcdef-"), UUID_SIZE - 1);
    assert_true(id[8] == '-' && id[13] == '-' && id[14] == '4' && id[18] == '-' && id[23] == '-');
    assert_non_null(strchr("89ab", id[19]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_is_read_within_its_limit),
        cmocka_unit_test(test_a_new_file_has_the_mode_of_its_model_and_replaces_nothing),
        cmocka_unit_test(test_a_replaced_file_keeps_its_mode_and_a_link_stays_a_link),
        cmocka_unit_test(test_what_is_staged_takes_the_files_place_or_leaves_no_trace),
        cmocka_unit_test(test_what_cannot_be_written_leaves_nothing_behind),
        cmocka_unit_test(test_identities_have_their_form),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
