/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "data/json.h"
#include "gateway/metrics.h"

static void test_names_are_unique_say_what_they_count_and_each_has_its_text(void **state)
{
    (void)state;
    for (unsigned i = 0; i < METRIC_COUNT; i++) {
        const struct metric_info *info = &metric_infos[i];
        struct str name = str_from(info->name);

        assert_true(str_starts(name, STR("iotgw_")));
        assert_int_equal(str_ends(name, STR("_total")), info->type == METRIC_COUNTER);
        assert_true(*info->help && *info->action && *info->member);
        assert_null(strchr(info->help, '|'));
        assert_null(strchr(info->action, '|'));
        for (size_t k = 0; k < name.n; k++)
            assert_true((name.p[k] >= 'a' && name.p[k] <= 'z') || name.p[k] == '_');
        for (unsigned j = 0; j < i; j++) {
            assert_string_not_equal(info->name, metric_infos[j].name);
            if (info->section == metric_infos[j].section)
                assert_string_not_equal(info->member, metric_infos[j].member);
        }
        assert_true(i == 0 || info->section >= metric_infos[i - 1].section);
    }
}

static void test_each_section_is_an_object_of_its_values(void **state)
{
    struct metrics values;
    unsigned n = 0;

    (void)state;
    for (unsigned i = 0; i < METRIC_COUNT; i++)
        values.v[i] = 1000 + i;
    for (unsigned section = 0; section < METRICS_SECTIONS; section++) {
        autobuf struct buf out = {0};
        yyjson_doc *doc;

        assert_true(*metric_section_name((enum metric_section)section));
        buf_add_u8(&out, '{');
        metrics_add_json(&out, (enum metric_section)section, &values);
        buf_add_u8(&out, '}');
        doc = json_read(buf_str(&out), NULL);
        assert_non_null(doc);
        for (unsigned i = 0; i < METRIC_COUNT; i++) {
            int64_t value;

            if (metric_infos[i].section != section)
                continue;
            assert_int_equal(json_to_i64(json_get(yyjson_doc_get_root(doc), str_from(metric_infos[i].member)), &value),
                             ERR_OK);
            assert_int_equal(value, 1000 + i);
            n++;
        }
        yyjson_doc_free(doc);
    }
    assert_int_equal(n, METRIC_COUNT);
}

static void test_the_reference_names_all(void **state)
{
    autobuf struct buf out = {0};

    (void)state;
    metrics_add_reference(&out);
    for (unsigned i = 0; i < METRIC_COUNT; i++)
        assert_true(str_find(buf_str(&out), str_from(metric_infos[i].name), 0) != SIZE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_unique_say_what_they_count_and_each_has_its_text),
        cmocka_unit_test(test_each_section_is_an_object_of_its_values),
        cmocka_unit_test(test_the_reference_names_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
