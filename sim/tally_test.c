/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tally.h"

static void take(struct tally *tally, const char *device, const char *values, int64_t ts_ms, uint64_t now_us)
{
    yyjson_doc *doc = yyjson_read(values, strlen(values), TALLY_READ);

    assert_non_null(doc);
    tally_entry(tally, tally_device(tally, str_from(device)), ts_ms, yyjson_doc_get_root(doc), now_us);
    yyjson_doc_free(doc);
}

static void test_seq_tells_duplicates_and_disorder_per_device(void **state UNUSED)
{
    struct tally tally = {0};

    take(&tally, "A", "{\"seq\":0}", 1, 1);
    take(&tally, "B", "{\"seq\":0}", 1, 1); /* B counts for itself */
    take(&tally, "A", "{\"seq\":2}", 2, 1);
    take(&tally, "A", "{\"seq\":1}", 3, 1);
    take(&tally, "A", "{\"seq\":2}", 4, 1);
    assert_int_equal(tally.n_unique, 4);
    assert_int_equal(tally.n_duplicates, 1);
    assert_int_equal(tally.n_disordered, 1);
    tally_fini(&tally);
}

static void test_shared_seq_is_one_set_but_order_is_per_device(void **state UNUSED)
{
    struct tally tally = {.is_shared = true};
    autobuf struct buf missing = {0};

    take(&tally, "A", "{\"seq\":5}", 1, 1);
    take(&tally, "B", "{\"seq\":1}", 1, 1);
    take(&tally, "B", "{\"seq\":5}", 2, 1);
    assert_int_equal(tally.n_unique, 2);
    assert_int_equal(tally.n_duplicates, 1);
    assert_int_equal(tally.n_disordered, 0);
    assert_int_equal(tally_missing(&tally.seen, 0, 8, &missing), 6);
    assert_true(str_eq(buf_str(&missing), STR("[[0,0],[2,4],[6,7]]")));
    tally_fini(&tally);
}

static void test_seq_that_is_no_whole_number_is_counted_as_bad(void **state UNUSED)
{
    static const char *const bad[] = {"{\"seq\":1.5}", "{\"seq\":-1}", "{\"seq\":\"1\"}", "{\"seq\":true}",
                                      "{\"seq\":99999999999}"};
    struct tally tally = {0};

    for (size_t i = 0; i < COUNT_OF(bad); i++)
        take(&tally, "A", bad[i], (int64_t)i, 1);
    assert_int_equal(tally.n_bad_seq, COUNT_OF(bad));
    assert_int_equal(tally.n_unique, 0);
    assert_int_equal(tally.n_values, COUNT_OF(bad));
    tally_fini(&tally);
}

static void test_latest_values_are_kept_as_they_were_sent(void **state UNUSED)
{
    struct tally tally = {0};
    autobuf struct buf out = {0};

    take(&tally, "A", "{\"a\":1.50,\"b\":\"x\\n\",\"c\":null,\"d\":[1,{\"e\":2}]}", 10, 1);
    take(&tally, "A", "{\"b\":true,\"f\":-0}", 11, 1);
    tally_add_values(&out, &tally_find(&tally, STR("A"))->telemetry);
    assert_string_equal(
        (buf_add_u8(&out, 0), (const char *)out.p),
        "{\"a\":{\"ts\":10,\"value\":1.50},\"b\":{\"ts\":11,\"value\":true},\"d\":{\"ts\":10,\"value\":[1,{\"e\":2}]},"
        "\"f\":{\"ts\":11,\"value\":-0}}");
    assert_int_equal(tally.n_values, 5); /* null counts for nothing */
    tally_fini(&tally);
}

static void test_equal_stamps_of_neighbours_are_counted(void **state UNUSED)
{
    struct tally tally = {0};

    take(&tally, "A", "{\"a\":1}", 10, 1);
    take(&tally, "B", "{\"a\":1}", 10, 1);
    take(&tally, "A", "{\"a\":2}", 10, 1);
    take(&tally, "A", "{\"a\":3}", 11, 1);
    assert_int_equal(tally.n_same_ts, 1);
    tally_fini(&tally);
}

static void test_latency_comes_from_sent(void **state UNUSED)
{
    struct tally tally = {0};

    for (unsigned i = 0; i < 100; i++)
        take(&tally, "A", i < 98 ? "{\"sent\":1000}" : "{\"sent\":500}", i, i < 98 ? 2000 : 50500);
    take(&tally, "A", "{\"sent\":9999999}", 1000, 5000); /* from the future: not a latency */
    assert_int_equal(tally.latency.n, 100);
    assert_in_range(histogram_at(&tally.latency, 0.5), 968, 1032);
    assert_in_range(histogram_at(&tally.latency, 0.99), 48000, 52000);
    assert_int_equal(tally.latency.max, 50000);
    tally_fini(&tally);
}

static void test_histogram_is_exact_to_three_percent_everywhere(void **state UNUSED)
{
    for (uint64_t value = 1; value < (uint64_t)1 << 40; value = value * 5 / 4 + 1) {
        struct histogram histogram = {0};
        uint64_t at;

        histogram_add(&histogram, value);
        at = histogram_at(&histogram, 0.5);
        assert_true(at <= value && (double)at >= (double)value * 0.968);
    }
}

static void test_reset_forgets_counts_but_not_that_a_device_is_open(void **state UNUSED)
{
    struct tally tally = {.is_shared = true};

    take(&tally, "A", "{\"seq\":3}", 10, 1);
    tally_find(&tally, STR("A"))->session = 9;
    tally_reset(&tally);
    assert_true(tally.is_shared);
    assert_int_equal(tally.n_values, 0);
    assert_int_equal(tally_find(&tally, STR("A"))->session, 9);
    assert_int_equal(tally_find(&tally, STR("A"))->telemetry.n, 0);
    take(&tally, "A", "{\"seq\":3}", 10, 1);
    assert_int_equal(tally.n_unique, 1);
    assert_int_equal(tally.n_disordered, 0);
    tally_fini(&tally);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seq_tells_duplicates_and_disorder_per_device),
        cmocka_unit_test(test_shared_seq_is_one_set_but_order_is_per_device),
        cmocka_unit_test(test_seq_that_is_no_whole_number_is_counted_as_bad),
        cmocka_unit_test(test_latest_values_are_kept_as_they_were_sent),
        cmocka_unit_test(test_equal_stamps_of_neighbours_are_counted),
        cmocka_unit_test(test_latency_comes_from_sent),
        cmocka_unit_test(test_histogram_is_exact_to_three_percent_everywhere),
        cmocka_unit_test(test_reset_forgets_counts_but_not_that_a_device_is_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
