/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/credentials_remove.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[40];

static const char *path_of(const char *name)
{
    static char path[80];

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

static void check(const char *answer)
{
    struct buf out = {0};

    credentials_remove(dir, &out);
    buf_add_u8(&out, 0);
    if (!strstr((char *)out.p, answer))
        fail_msg("%s", (char *)out.p);
    buf_fini(&out);
}

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/iotgw-remove-XXXXXX");
    assert_non_null(mkdtemp(dir));
    strncat(dir, "/", sizeof dir - strlen(dir) - 1);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    unlink(path_of("cert.pem"));
    unlink(path_of("cert.pem.removed"));
    unlink(path_of("key.pem.removed"));
    return rmdir(dir);
}

static void test_a_token_is_removed_and_files_of_others_stay(void **state)
{
    (void)state;
    put(".credentials", "{\"credentialsType\":\"ACCESS_TOKEN\",\"credentialsValue\":\"t\"}");
    put("cert.pem", "mine");
    check("\"code\":200,\"resp\":");
    assert_int_not_equal(access(path_of(".credentials"), F_OK), 0);
    assert_int_equal(access(path_of("cert.pem"), F_OK), 0);
    check("{\"code\":404,\"message\":");
}

static void test_a_certificate_that_belongs_to_them_is_set_aside(void **state)
{
    (void)state;
    put(".credentials", "{\"credentialsType\":\"X509_CERTIFICATE\",\"credentialsValue\":\"c\"}");
    put("cert.pem", "made");
    put("key.pem", "made");
    check("\"code\":200");
    assert_int_not_equal(access(path_of("cert.pem"), F_OK), 0);
    assert_int_not_equal(access(path_of("key.pem"), F_OK), 0);
    assert_int_equal(access(path_of("key.pem.removed"), F_OK), 0);
}

static void test_what_cannot_be_removed_is_named(void **state)
{
    (void)state;
    assert_int_equal(mkdir(path_of(".credentials"), 0700), 0);
    check("{\"code\":500,\"error\":\".credentials: ");
    assert_int_equal(rmdir(path_of(".credentials")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_token_is_removed_and_files_of_others_stay),
        cmocka_unit_test(test_a_certificate_that_belongs_to_them_is_set_aside),
        cmocka_unit_test(test_what_cannot_be_removed_is_named),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
