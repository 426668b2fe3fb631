/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "connector/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { T0 = 1000000 };

struct fixture {
    struct report *report;
    struct event event;
    struct device *dev;
    char names[64];
};

static const struct report_strategy on_received = {.type = REPORT_ON_RECEIVED, .period_ms = 10000, .ttl_ms = 86400000};

static struct report_strategy strategy(int type, uint32_t period_ms, uint64_t ttl_ms)
{
    return (struct report_strategy){.type = type, .period_ms = period_ms, .ttl_ms = ttl_ms};
}

static void begin(struct fixture *f, struct report_strategy main)
{
    struct report_outer outer = report_outer(&main, NULL);

    report_free(f->report);
    f->report = report_new(&outer);
}

static int setup(void **state)
{
    static unsigned n;
    struct fixture *f = mem_zero(sizeof *f);

    snprintf(f->names, sizeof f->names, "report %u", n++);
    f->dev = device_get(str_from(f->names));
    event_init(&f->event);
    begin(f, report_on_change);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    report_free(f->report);
    event_fini(&f->event);
    mem_free(f);
    return 0;
}

static struct str key_of(char *out, size_t size, const char *key)
{
    return str_of(out, (size_t)snprintf(out, size, "\"%s\":", key));
}

/* One value; true: it is sent. */
static bool give_kind(struct fixture *f, enum record_kind kind, const char *key, const char *text, uint64_t at_ms,
                      const struct report_strategy *point)
{
    char prepared[300];

    event_begin(&f->event, f->dev, STR_NONE);
    event_add_reported(&f->event, kind, key_of(prepared, sizeof prepared, key), str_from(text), EVENT_NO_TS, point);
    return report_filter(f->report, &f->event, T0 + at_ms) == 0;
}

static bool give(struct fixture *f, const char *key, const char *text, uint64_t at_ms)
{
    return give_kind(f, RECORD_TELEMETRY, key, text, at_ms, NULL);
}

/* "at key=text key=text; at …" of all periodic reports until then. */
static void reports(struct fixture *f, uint64_t until_ms, const char *expected)
{
    autobuf struct buf out = {0};
    uint64_t due_ms;

    while ((due_ms = report_due(f->report)) <= T0 + until_ms)
        while (report_take(f->report, &f->event, due_ms)) {
            buf_printf(&out, "%s%d", out.n ? "; " : "", (int)(due_ms - T0));
            for (size_t i = 0; i < f->event.n; i++) {
                struct str key = f->event.items[i].key;

                buf_printf(&out, " " STR_FMT "=" STR_FMT, (int)key.n - 3, key.p + 1, STR_ARG(f->event.items[i].text));
            }
        }
    buf_add_u8(&out, 0);
    assert_string_equal((char *)out.p, expected);
}

static void test_values_are_compared_as_the_page_says(void **state)
{
    static const struct {
        const char *before, *now;
        bool is_equal;
    } cases[] = {
        {"1", "1", true},
        {"1", "1.0", true},
        {"1.0", "1", true},
        {"1", "2", false},
        {"0", "-0", true},
        {"20", "20.0004", false},
        {"20.0004", "20", false},
        {"20.0", "20.0004", true},
        {"1.0", "1.0009", true},
        {"1.0", "1.0015", false},
        {"-1.0", "-1.0009", true},
        {"-1.0", "1.0", false},
        {"9007199254740993", "9007199254740992.0", false},
        {"9007199254740992", "9007199254740992.0", true},
        {"18446744073709551615", "18446744073709551615", true},
        {"18446744073709551615", "18446744073709551616.0", false},
        {"9223372036854775807", "9223372036854775806", false},
        {"123456789012345.5", "123456789012345.50001", true},
        {"10000000000000000000000.0", "10000000000000000000001.0", true},
        {"true", "1", false},
        {"false", "0", false},
        {"true", "true", true},
        {"true", "false", false},
        {"null", "null", true},
        {"null", "0", false},
        {"null", "\"\"", false},
        {"\"1\"", "1", false},
        {"\"a\"", "\"A\"", false},
        {"\"\\u0041\"", "\"A\"", true},
        {"\"a\\n\"", "\"a\\n \"", false},
        {"{\"k\":[1,2]}", "{\"k\":[1.0,2]}", true},
        {"{\"k\":[1,2]}", "{\"k\":[2,1]}", false},
        {"{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}", true},
        {"{\"a\":1}", "[1]", false},
        {"[true]", "[1]", false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        if (report_equal(str_from(cases[i].before), str_from(cases[i].now), NULL) != cases[i].is_equal)
            fail_msg("%s and %s", cases[i].before, cases[i].now);
}

/* In another order, so that members are looked up by name. */
static void test_large_objects_are_compared_whatever_their_order(void **state)
{
    enum { N = 500 };
    autobuf struct buf one = {0}, other = {0}, third = {0};

    (void)state;
    for (unsigned i = 0; i < N; i++) {
        buf_printf(&one, "%c\"m%u\":%u", i ? ',' : '{', i, i);
        buf_printf(&other, "%c\"m%u\":%u.0", i ? ',' : '{', N - 1 - i, N - 1 - i);
        buf_printf(&third, "%c\"m%u\":%u", i ? ',' : '{', N - 1 - i, i == 250 ? 0 : N - 1 - i);
    }
    buf_add_u8(&one, '}');
    buf_add_u8(&other, '}');
    buf_add_u8(&third, '}');
    assert_true(report_equal(buf_str(&one), buf_str(&other), NULL));
    assert_false(report_equal(buf_str(&one), buf_str(&third), NULL));
}

static void test_a_deadband_is_of_numbers_and_the_wider_one_counts(void **state)
{
    static const struct {
        const char *before, *now;
        double deadband, percent;
        bool is_equal;
    } cases[] = {
        {"20", "21", 2, 0, true},
        {"20", "22", 2, 0, false},
        {"20", "21.9", 2, 0, true},
        {"20.0", "18.5", 2, 0, true},
        {"200", "201", 0, 1, true},
        {"200", "202", 0, 1, false},
        {"-200", "-201.5", 0, 1, true},
        {"0", "0.5", 0, 10, false},
        {"0", "0.5", 1, 10, true},
        {"100", "105", 1, 10, true},
        {"20.0", "20.0005", 0.0001, 0, true},
        {"true", "1", 5, 0, false},
        {"\"20\"", "\"21\"", 5, 0, false},
        {"[20]", "[21]", 5, 0, false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct report_strategy band = {.deadband = cases[i].deadband, .deadband_percent = cases[i].percent};

        if (report_equal(str_from(cases[i].before), str_from(cases[i].now), &band) != cases[i].is_equal)
            fail_msg("%s and %s", cases[i].before, cases[i].now);
    }
}

/* The comparison is with the value remembered, so that slow drift is reported once it has added up. */
static void test_drift_adds_up_to_a_report(void **state)
{
    struct fixture *f = *state;
    struct report_strategy band = report_on_change;

    assert_true(give(f, "x", "1.0", 0));
    assert_false(give(f, "x", "1.0005", 1));
    assert_false(give(f, "x", "1.0009", 2));
    assert_true(give(f, "x", "1.0015", 3));
    assert_false(give(f, "x", "1.0016", 4));
    band.deadband = 5;
    begin(f, band);
    assert_true(give(f, "x", "20", 0));
    assert_false(give(f, "x", "24", 1));
    assert_false(give(f, "x", "16", 2));
    assert_true(give(f, "x", "25", 3));
    assert_false(give(f, "x", "29.5", 4));
    assert_true(give(f, "x", "30", 5));
}

static void test_kinds_of_one_name_do_not_suppress_each_other(void **state)
{
    struct fixture *f = *state;

    assert_true(give(f, "t", "20", 0));
    assert_true(give_kind(f, RECORD_ATTRIBUTES, "t", "20", 0, NULL));
    assert_false(give_kind(f, RECORD_ATTRIBUTES, "t", "20", 1, NULL));
    assert_true(give(f, "t", "21", 2));
    assert_false(give_kind(f, RECORD_ATTRIBUTES, "t", "20", 3, NULL));
}

static void test_levels_are_taken_from_the_inside_and_only_a_missing_type_from_outside(void **state)
{
    static const struct {
        int main, connector, device, point, effective; /* -1: level absent */
    } cases[] = {
        {-1, -1, -1, -1, REPORT_ON_RECEIVED},
        {REPORT_ON_CHANGE, -1, -1, -1, REPORT_ON_CHANGE},
        {REPORT_ON_RECEIVED, REPORT_ON_CHANGE, -1, -1, REPORT_ON_CHANGE},
        {REPORT_ON_CHANGE, REPORT_INHERIT, -1, -1, REPORT_ON_CHANGE},
        {REPORT_INHERIT, REPORT_INHERIT, REPORT_INHERIT, REPORT_INHERIT, REPORT_ON_RECEIVED},
        {REPORT_ON_CHANGE, REPORT_DISABLED, -1, -1, REPORT_DISABLED},
        {REPORT_ON_CHANGE, -1, REPORT_ON_RECEIVED, -1, REPORT_ON_RECEIVED},
        {-1, -1, REPORT_ON_CHANGE, REPORT_ON_RECEIVED, REPORT_ON_RECEIVED},
        {-1, -1, REPORT_ON_CHANGE, REPORT_INHERIT, REPORT_ON_CHANGE},
        {REPORT_ON_CHANGE, -1, REPORT_INHERIT, REPORT_INHERIT, REPORT_ON_CHANGE},
        {REPORT_ON_CHANGE, -1, -1, REPORT_INHERIT, REPORT_ON_CHANGE},
        {REPORT_DISABLED, REPORT_ON_CHANGE, REPORT_ON_CHANGE, REPORT_ON_CHANGE, REPORT_DISABLED},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct report_strategy levels[4];
        const struct report_strategy *at[4];
        const int types[] = {cases[i].main, cases[i].connector, cases[i].device, cases[i].point};
        struct report_outer outer;
        bool is_sent;

        for (unsigned l = 0; l < 4; l++) {
            levels[l] = strategy(types[l], 10000, 1000);
            at[l] = types[l] < 0 ? NULL : &levels[l];
        }
        outer = report_outer(at[0], at[1]);
        report_free(f->report);
        f->report = report_new(&outer);
        for (unsigned k = 0; k < 2; k++) {
            event_begin(&f->event, f->dev, STR_NONE);
            event_set_report(&f->event, at[2]);
            event_add_reported(&f->event, RECORD_TELEMETRY, STR("\"x\":"), STR("1"), 1, at[3]);
            is_sent = report_filter(f->report, &f->event, T0) == 0;
        }
        if (is_sent != (cases[i].effective != REPORT_ON_CHANGE))
            fail_msg("case %zu", i);
        assert_int_equal(report_stats(f->report).n_values, is_sent ? 0 : 1);
    }
}

static void test_a_change_renews_the_time_to_live_and_an_equal_value_does_not(void **state)
{
    struct fixture *f = *state;

    begin(f, strategy(REPORT_ON_CHANGE, 10000, 4000));
    assert_true(give(f, "a", "1", 0));
    assert_false(give(f, "a", "1", 3999));
    assert_true(give(f, "a", "1", 4000));
    assert_true(give(f, "a", "2", 6000));
    assert_false(give(f, "a", "2", 9999));
    assert_true(give(f, "a", "2", 10000));
    begin(f, strategy(REPORT_ON_CHANGE, 10000, 0));
    assert_true(give(f, "a", "1", 0));
    assert_false(give(f, "a", "1", 1000000000));
}

static void test_what_is_left_of_an_event_keeps_its_order(void **state)
{
    struct fixture *f = *state;

    assert_true(give(f, "b", "2", 0));
    event_begin(&f->event, f->dev, STR_NONE);
    event_add(&f->event, RECORD_TELEMETRY, STR("\"a\":"), STR("1"), 10);
    event_add(&f->event, RECORD_TELEMETRY, STR("\"b\":"), STR("2"), 10);
    event_add(&f->event, RECORD_TELEMETRY, STR("\"a\":"), STR("1"), 20);
    event_add(&f->event, RECORD_TELEMETRY, STR("\"a\":"), STR("2"), 30);
    assert_int_equal(report_filter(f->report, &f->event, T0), 2);
    assert_int_equal(f->event.n, 2);
    assert_int_equal(f->event.items[0].ts, 10);
    assert_int_equal(f->event.items[1].ts, 30);
}

static void test_periods_do_not_drift_and_a_change_does_not_restart_them(void **state)
{
    struct fixture *f = *state;

    begin(f, strategy(REPORT_ON_CHANGE_OR_REPORT_PERIOD, 3000, 86400000));
    assert_true(give(f, "a", "1", 0));
    assert_true(give(f, "a", "2", 1000));
    assert_true(give(f, "a", "3", 2000));
    reports(f, 3999, "3000 a=3");
    assert_true(give(f, "a", "4", 4000));
    assert_false(give(f, "a", "4", 4001));
    reports(f, 9000, "6000 a=4; 9000 a=4");
    /* The loop was late: the next one is at its own time again. */
    assert_true(report_take(f->report, &f->event, T0 + 12040));
    reports(f, 15000, "15000 a=4");
    assert_true(report_take(f->report, &f->event, T0 + 24500));
    assert_false(report_take(f->report, &f->event, T0 + 24500));
    reports(f, 27000, "27000 a=4");
}

static void test_keys_due_at_one_instant_go_in_one_item(void **state)
{
    struct fixture *f = *state;
    struct report_strategy fast = strategy(REPORT_ON_REPORT_PERIOD, 1000, 0),
                           slow = strategy(REPORT_ON_REPORT_PERIOD, 3000, 0);

    begin(f, on_received);
    assert_true(give_kind(f, RECORD_TELEMETRY, "fast", "1", 0, &fast));
    assert_true(give_kind(f, RECORD_TELEMETRY, "slow", "1", 4, &slow));
    assert_true(give_kind(f, RECORD_ATTRIBUTES, "near", "1", 9, &fast));
    assert_true(give_kind(f, RECORD_TELEMETRY, "apart", "1", 500, &slow));
    assert_false(give_kind(f, RECORD_TELEMETRY, "fast", "2", 600, &fast));
    reports(f, 3600, "1009 fast=2 near=1; 2009 fast=2 near=1; 3009 fast=2 slow=1 near=1; 3500 apart=1");
}

static void test_a_silent_point_is_repeated_until_it_expires(void **state)
{
    struct fixture *f = *state;

    begin(f, strategy(REPORT_ON_REPORT_PERIOD, 2000, 4500));
    assert_true(give(f, "a", "1", 0));
    reports(f, 20000, "2000 a=1; 4000 a=1");
    assert_true(report_due(f->report) == REPORT_NEVER);
    assert_true(give(f, "a", "1", 20001));
    reports(f, 23000, "22001 a=1");
}

static void test_reports_pause_while_the_device_is_away_and_keep_their_beat(void **state)
{
    struct fixture *f = *state;

    begin(f, strategy(REPORT_ON_REPORT_PERIOD, 1000, 0));
    assert_true(give(f, "a", "1", 0));
    reports(f, 1000, "1000 a=1");
    atomic_store(&f->dev->link, DEVICE_LINK_DOWN);
    reports(f, 3000, "");
    assert_true(report_due(f->report) == REPORT_NEVER);
    assert_false(give(f, "a", "2", 3200)); /* learnt meanwhile, still away */
    assert_true(report_due(f->report) == REPORT_NEVER);
    atomic_store(&f->dev->link, DEVICE_LINK_UP);
    report_resume(f->report, f->dev, T0 + 5500);
    reports(f, 7000, "6000 a=2; 7000 a=2");
    /* All of them, as when the connector's own link is lost. */
    report_resume(f->report, NULL, T0 + 9400);
    reports(f, 10000, "10000 a=2");
}

/* Invariant 9. */
static void test_what_was_dropped_or_rejected_does_not_hold_back_the_next_value(void **state)
{
    struct fixture *f = *state;

    assert_true(give(f, "a", "1", 0));
    assert_true(give(f, "b", "1", 0));
    assert_false(give(f, "a", "1", 1));
    atomic_fetch_add(&f->dev->n_overflowed, 1);
    assert_true(give(f, "a", "1", 2));
    assert_true(give(f, "b", "1", 2));
    assert_false(give(f, "a", "1", 3));
    atomic_fetch_add(&f->dev->n_rejected, 1);
    assert_true(give(f, "a", "1", 4));
    assert_false(give(f, "a", "1", 5));
    report_forget(f->report, f->dev);
    assert_true(give(f, "a", "1", 6));
    report_forget(f->report, NULL);
    assert_true(give(f, "a", "1", 7));
    assert_false(give(f, "a", "1", 8));
    begin(f, strategy(REPORT_ON_REPORT_PERIOD, 1000, 0)); /* the beat goes on */
    assert_true(give(f, "a", "1", 0));
    report_forget(f->report, f->dev);
    assert_true(give(f, "a", "2", 100));
    assert_false(give(f, "a", "3", 200));
    reports(f, 2000, "1000 a=3; 2000 a=3");
}

static void test_long_texts_and_many_keys_are_remembered_and_given_back(void **state)
{
    enum { N = 1000 };
    struct fixture *f = *state;
    char key[32], text[64];

    begin(f, strategy(REPORT_ON_CHANGE, 10000, 1000));
    for (unsigned round = 0; round < 3; round++)
        for (unsigned i = 0; i < N; i++) {
            snprintf(key, sizeof key, "key %u", (i * 7) % N);
            snprintf(text, sizeof text, "\"%0*u\"", 1 + (int)(i % 50), (i + 1) * (round > 1));
            assert_int_equal(give(f, key, text, round), round != 1);
        }
    assert_int_equal(report_stats(f->report).n_values, N);
    assert_int_equal(report_stats(f->report).n_devices, 1);
    assert_true(give(f, "stays", "1", 900));
    while (!report_cleanup(f->report, T0 + 1500, 100))
        ;
    assert_int_equal(report_stats(f->report).n_values, 1);
    assert_false(give(f, "stays", "1", 1600));
    while (!report_cleanup(f->report, T0 + 2000, 100))
        ;
    assert_int_equal(report_stats(f->report).n_values, 0);
    assert_int_equal(report_stats(f->report).n_devices, 0);
    assert_int_equal(report_stats(f->report).n_bytes, 0);
}

static void test_a_hundred_devices_are_found_and_cleaned_up(void **state)
{
    struct fixture *f = *state;
    char name[100];

    begin(f, strategy(REPORT_ON_CHANGE_OR_REPORT_PERIOD, 1000, 5000));
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < 100; i++) {
            snprintf(name, sizeof name, "%s %u", f->names, i);
            f->dev = device_get(str_from(name));
            assert_int_equal(give(f, "a", "1", i % 2 ? 3000 : 0), round == 0);
        }
    assert_int_equal(report_stats(f->report).n_periodic, 100);
    while (!report_cleanup(f->report, T0 + 6000, 10))
        ;
    assert_int_equal(report_stats(f->report).n_devices, 50);
    assert_int_equal(report_stats(f->report).n_periodic, 50);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "%s %u", f->names, i);
        f->dev = device_get(str_from(name));
        assert_int_equal(give(f, "a", "1", 7000), i % 2 == 0);
    }
}

/* --- against a plain model ------------------------------------------------------------------------------------------- */

struct model_value {
    bool is_there;
    double number; /* texts are numbers with one decimal: no tolerance plays a part */
    uint64_t expiry_ms, t0_ms, next_ms;
    const struct report_strategy *strategy;
};

static bool model_gives(struct model_value *value, double number, const struct report_strategy *strategy,
                        uint64_t now_ms)
{
    bool is_first = !value->is_there || (strategy->ttl_ms && now_ms >= value->expiry_ms);
    bool differs = is_first || fabs(value->number - number) >= (strategy->deadband > 0 ? strategy->deadband : 0.001);

    if (strategy->type == REPORT_ON_REPORT_PERIOD && !is_first)
        differs = fabs(value->number - number) >= 0.001;
    if (differs) {
        value->number = number;
        value->expiry_ms = now_ms + strategy->ttl_ms;
    }
    if (is_first) {
        value->is_there = true;
        value->next_ms = now_ms + strategy->period_ms;
    }
    return is_first || (differs && strategy->type != REPORT_ON_REPORT_PERIOD);
}

static bool model_is_periodic(const struct report_strategy *strategy)
{
    return strategy->type == REPORT_ON_REPORT_PERIOD || strategy->type == REPORT_ON_CHANGE_OR_REPORT_PERIOD;
}

/* Sum over what is reported at this ms, so that order within an item does not matter. */
static double model_reports(struct model_value *values, const struct report_strategy *const *strategies, size_t n,
                            uint64_t now_ms)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        struct model_value *value = &values[i];

        if (!value->is_there || !model_is_periodic(strategies[i]) || value->next_ms != now_ms)
            continue;
        if (strategies[i]->ttl_ms && now_ms >= value->expiry_ms) {
            value->is_there = false;
            continue;
        }
        sum += value->number * (double)(i + 1);
        value->next_ms += strategies[i]->period_ms;
    }
    return sum;
}

static double real_reports(struct fixture *f, uint64_t now_ms)
{
    double sum = 0;

    while (report_take(f->report, &f->event, T0 + now_ms))
        for (size_t i = 0; i < f->event.n; i++) {
            struct str key = f->event.items[i].key;
            double number, weight;

            assert_int_equal(str_to_double(f->event.items[i].text, &number), ERR_OK);
            assert_int_equal(str_to_double(str_of(key.p + 1, key.n - 3), &weight), ERR_OK);
            sum += number * (weight + 1);
        }
    return sum;
}

static void test_the_filter_does_as_a_plain_model(void **state)
{
    enum { KEYS = 40, STEPS = 20000, STEP_MS = 10 };
    struct fixture *f = *state;
    struct report_strategy strategies[] = {
        strategy(REPORT_ON_CHANGE, 10000, 5000),
        strategy(REPORT_ON_CHANGE, 10000, 0),
        strategy(REPORT_ON_REPORT_PERIOD, 500, 3000),
        strategy(REPORT_ON_REPORT_PERIOD, 70, 0),
        strategy(REPORT_ON_CHANGE_OR_REPORT_PERIOD, 1000, 2000),
        strategy(REPORT_ON_CHANGE_OR_REPORT_PERIOD, 300, 0),
    };
    const struct report_strategy *of[KEYS];
    struct model_value values[KEYS] = {0};

    srand(12345);
    strategies[1].deadband = 2;
    begin(f, on_received);
    for (unsigned i = 0; i < KEYS; i++)
        of[i] = &strategies[(unsigned)rand() % COUNT_OF(strategies)];
    for (unsigned step = 0; step < STEPS; step++) {
        uint64_t now_ms = (uint64_t)step * STEP_MS;
        double expected = model_reports(values, of, KEYS, now_ms);

        /* Instants are 10 ms apart here, so that none is put together with the next one. */
        if (fabs(expected - real_reports(f, now_ms)) > 1e-6)
            fail_msg("reports at %d", (int)now_ms);
        for (int n = rand() % 4; n > 0; n--) {
            unsigned i = (unsigned)rand() % KEYS;
            int tenths = rand() % 60;
            char key[16], text[16];

            snprintf(key, sizeof key, "%u", i);
            snprintf(text, sizeof text, "%d.%d", tenths / 10, tenths % 10);
            if (give_kind(f, RECORD_TELEMETRY, key, text, now_ms, of[i]) !=
                model_gives(&values[i], tenths / 10.0, of[i], now_ms))
                fail_msg("key %u at %d: %s", i, (int)now_ms, text);
        }
        if (step % 1000 == 0)
            (void)report_cleanup(f->report, T0 + now_ms, 10);
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_values_are_compared_as_the_page_says),
        TEST(test_large_objects_are_compared_whatever_their_order),
        TEST(test_a_deadband_is_of_numbers_and_the_wider_one_counts),
        TEST(test_drift_adds_up_to_a_report),
        TEST(test_kinds_of_one_name_do_not_suppress_each_other),
        TEST(test_levels_are_taken_from_the_inside_and_only_a_missing_type_from_outside),
        TEST(test_a_change_renews_the_time_to_live_and_an_equal_value_does_not),
        TEST(test_what_is_left_of_an_event_keeps_its_order),
        TEST(test_periods_do_not_drift_and_a_change_does_not_restart_them),
        TEST(test_keys_due_at_one_instant_go_in_one_item),
        TEST(test_a_silent_point_is_repeated_until_it_expires),
        TEST(test_reports_pause_while_the_device_is_away_and_keep_their_beat),
        TEST(test_what_was_dropped_or_rejected_does_not_hold_back_the_next_value),
        TEST(test_long_texts_and_many_keys_are_remembered_and_given_back),
        TEST(test_a_hundred_devices_are_found_and_cleaned_up),
        TEST(test_the_filter_does_as_a_plain_model),
    };

    return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
