/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/err.h"
#include "connector/module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The samples stand beside this program, where modules are looked for first. */

static void test_a_third_partys_module_is_loaded_and_knows_the_host(void **state)
{
    struct why why = {0};
    const struct connector_type *type = module_load("sample", &why);

    (void)state;
    assert_string_equal(why.text, "");
    assert_non_null(type);
    assert_string_equal(type->title, "Sample");
    assert_int_equal(type->open(NULL, NULL, NULL, NULL), ERR_OK);
    assert_non_null(type->room);
    assert_ptr_equal(module_load("sample", &why), type);
}

/* Invariant 14. */
static void test_a_module_of_an_older_header_has_null_where_it_knows_nothing(void **state)
{
    struct why why = {0};
    const struct connector_type *type = module_load("sample_old", &why);

    (void)state;
    assert_string_equal(why.text, "");
    assert_non_null(type);
    assert_non_null(type->start);
    assert_null(type->room);
    assert_null(type->convert);
    assert_ptr_equal(module_load("sample_old", &why), type);
}

/* Invariant 14. */
static void test_what_does_not_fit_is_refused_with_a_reason(void **state)
{
    static const struct {
        const char *type, *reason[2];
        enum err err;
    } cases[] = {
        {"sample_abi", {"version 77", "version 1"}, ERR_UNSUPPORTED},
        {"sample_build", {"another build", "feedc0de"}, ERR_UNSUPPORTED},
        {"sample_name", {"holds the connector \"other\"", "sample_name"}, ERR_CORRUPT},
        {"sample_empty", {"iotgw_module", "no connector"}, ERR_CORRUPT},
        {"absent", {"iotgw-absent.so", "no connector type"}, ERR_NOTFOUND},
        {"../sample", {"not a connector type", "../sample"}, ERR_NOTFOUND},
        {"", {"not a connector type", "\"\""}, ERR_NOTFOUND},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct why why = {0};

        assert_null(module_load(cases[i].type, &why));
        assert_int_equal(why.err, cases[i].err);
        for (unsigned k = 0; k < 2; k++) {
            if (!strstr(why.text, cases[i].reason[k]))
                fail_msg("\"%s\" is not in: %s", cases[i].reason[k], why.text);
        }
    }
}

struct seen {
    char last[64];
    unsigned n, n_samples;
};

static void see(void *arg, const char *type)
{
    struct seen *seen = arg;

    assert_true(strcmp(seen->last, type) < 0);
    snprintf(seen->last, sizeof seen->last, "%s", type);
    seen->n++;
    seen->n_samples += strncmp(type, "sample", 6) == 0;
}

static void test_all_that_can_be_found_are_listed_sorted_and_once(void **state)
{
    struct seen seen = {0};

    (void)state;
    module_each(see, &seen);
    assert_int_equal(seen.n_samples, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_third_partys_module_is_loaded_and_knows_the_host),
        cmocka_unit_test(test_a_module_of_an_older_header_has_null_where_it_knows_nothing),
        cmocka_unit_test(test_what_does_not_fit_is_refused_with_a_reason),
        cmocka_unit_test(test_all_that_can_be_found_are_listed_sorted_and_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
