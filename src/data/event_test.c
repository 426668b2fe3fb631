/* SPDX-License-Identifier: Apache-2.0 */
#include "base/slab.h"
#include "data/event.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

/* Batches that were handed out, in order. */
struct taken {
    struct batch *batches[64];
    size_t n;
};

static void on_full(void *arg, struct batch *batch)
{
    struct taken *taken = arg;

    assert_true(taken->n < COUNT_OF(taken->batches));
    taken->batches[taken->n++] = batch;
}

struct fixture {
    struct event event;
    struct batch_sink sink;
    struct taken taken;
    struct event_limits limits;
};

static int setup(void **state)
{
    struct fixture *f = mem_zero(sizeof *f);

    event_init(&f->event);
    batch_sink_init(&f->sink, NULL, on_full, &f->taken);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < f->taken.n; i++)
        batch_sink_reuse(&f->sink, f->taken.batches[i]);
    batch_sink_fini(&f->sink);
    event_fini(&f->event);
    mem_free(f);
    return slab_in_use() == 0 ? 0 : -1;
}

static void begin(struct fixture *f, const char *device)
{
    event_begin(&f->event, device_get(str_from(device)), STR("p"));
}

static void add(struct fixture *f, enum record_kind kind, const char *key, const char *text, int64_t ts)
{
    struct str prepared;

    assert_int_equal(event_key(&f->event.arena, str_from(key), &prepared, NULL), ERR_OK);
    event_add(&f->event, kind, prepared, str_from(text), ts);
}

/* Compact view of what is in a batch: kind ts n [E] body; one a line. */
static const char *shown(const struct batch *batch)
{
    static char text[8192];
    size_t n = 0;
    const struct record *record = batch_first(batch);

    text[0] = 0;
    for (size_t at = 0; at < batch->n_bytes; at += record->size, record = record_next(record)) {
        struct str body = record_body(record);

        assert_int_equal(record_check(record, batch->n_bytes - at), ERR_OK);
        n += (size_t)snprintf(text + n, sizeof text - n, "%c %lld %d%s%s " STR_FMT "\n", "?TACD"[record->kind],
                              (long long)record -> ts, record -> n_values, record -> flags &RECORD_END ? " E" : "",
                              record->flags &RECORD_NO_TS ? " N" : "", STR_ARG(body));
        assert_true(n < sizeof text);
    }
    return text;
}

static unsigned encode(struct fixture *f, int64_t ts)
{
    unsigned n;

    assert_int_equal(event_encode(&f->event, ts, &f->limits, &f->sink.sink, &n), ERR_OK);
    return n;
}

static void assert_shown(struct fixture *f, const char *want)
{
    struct batch *batch = batch_sink_take(&f->sink);

    assert_non_null(batch);
    on_full(&f->taken, batch);
    assert_string_equal(shown(batch), want);
}

static void test_attributes_and_telemetry_of_one_time_are_two_records(void **state)
{
    struct fixture *f = *state;

    for (int unique = 0; unique < 2; unique++) {
        begin(f, "d1");
        add(f, RECORD_TELEMETRY, "t", "21.5", EVENT_NO_TS);
        add(f, RECORD_ATTRIBUTES, "a\"b", "\"x\"", EVENT_NO_TS);
        add(f, RECORD_TELEMETRY, "h", "40", EVENT_NO_TS);
        f->event.keys_unique = unique;
        assert_int_equal(encode(f, 1000), 3);
        assert_shown(f, "A 1000 1 \"a\\\"b\":\"x\"\nT 1000 2 E \"t\":21.5,\"h\":40\n");
        assert_int_equal(f->taken.batches[unique]->n_events, 1);
        assert_int_equal(f->taken.batches[unique]->n_values, 3);
    }
    begin(f, "d1");
    add(f, RECORD_ATTRIBUTES, "a", "1", 77);
    f->event.keys_unique = true;
    assert_int_equal(encode(f, 1000), 1);
    assert_shown(f, "A 1000 1 E \"a\":1\n");
}

static void test_the_character_that_the_platform_loses_is_replaced_and_nothing_else(void **state)
{
    static const char *const cases[][2] = {
        {"\"a\\u0000b\\u0000\"", "\"a\\ufffdb\\ufffd\""},
        {"\"a\\\\u0000\"", NULL}, /* a backslash, then text */
        {"\"a\\\\\\u0000\"", "\"a\\\\\\ufffd\""},
        {"{\"k\":[\"\\u0000\"]}", "{\"k\":[\"\\ufffd\"]}"},
        {"\"\\u00001\"", "\"\\ufffd1\""},
        {"\"\\n\\u0001\"", NULL},
        {"\"\\u000\"", NULL},
        {"12", NULL},
        {"", NULL},
    };
    struct event event;

    (void)state;
    event_init(&event);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *expected = cases[i][1] ? cases[i][1] : cases[i][0];

        event_begin(&event, device_get(STR("nul")), STR("p"));
        event_add(&event, RECORD_TELEMETRY, STR("\"k\":"), str_from(cases[i][0]), 1);
        assert_int_equal(event_replace_nul(&event), cases[i][1] ? 1 : 0);
        assert_true(str_eq_z(event.items[0].text, expected));
    }
    event_fini(&event);
}

static void test_equal_times_are_merged_where_the_first_stood_and_the_later_value_wins(void **state)
{
    struct fixture *f = *state;

    begin(f, "d1");
    add(f, RECORD_TELEMETRY, "a", "1", 50);
    add(f, RECORD_TELEMETRY, "b", "2", 40);
    add(f, RECORD_TELEMETRY, "b", "3", 50);
    add(f, RECORD_TELEMETRY, "c", "4", EVENT_NO_TS);
    add(f, RECORD_TELEMETRY, "a", "555", 50);
    add(f, RECORD_ATTRIBUTES, "a", "6", EVENT_NO_TS);
    add(f, RECORD_ATTRIBUTES, "a", "7", 40);
    add(f, RECORD_TELEMETRY, "c", "8", 60);
    assert_int_equal(encode(f, 60), 5);
    assert_shown(f, "A 60 1 \"a\":7\nT 50 2 \"a\":555,\"b\":3\nT 40 1 \"b\":2\nT 60 1 E \"c\":8\n");
    assert_int_equal(encode(f, 60), 5); /* again: the same */
    assert_shown(f, "A 60 1 \"a\":7\nT 50 2 \"a\":555,\"b\":3\nT 40 1 \"b\":2\nT 60 1 E \"c\":8\n");
}

static void test_values_without_time_are_left_to_the_platform_when_asked_for(void **state)
{
    struct fixture *f = *state;

    begin(f, "d1");
    add(f, RECORD_TELEMETRY, "a", "1", EVENT_NO_TS);
    add(f, RECORD_TELEMETRY, "b", "2", 40);
    add(f, RECORD_TELEMETRY, "c", "3", EVENT_NO_TS);
    f->event.keys_unique = true;
    assert_int_equal(encode(f, EVENT_NO_TS), 3);
    assert_shown(f, "T 0 2 N \"a\":1,\"c\":3\nT 40 1 E \"b\":2\n");
}

static void test_records_are_split_by_values_and_by_bytes_and_repeat_their_time(void **state)
{
    struct fixture *f = *state;

    for (int unique = 0; unique < 2; unique++) {
        begin(f, "d1");
        add(f, RECORD_TELEMETRY, "a", "1", 9);
        add(f, RECORD_TELEMETRY, "b", "\"longer than the limit alone\"", 9);
        add(f, RECORD_TELEMETRY, "c", "2", 9);
        add(f, RECORD_TELEMETRY, "d", "3", 9);
        add(f, RECORD_TELEMETRY, "e", "4", 9);
        f->event.keys_unique = unique;
        f->limits = (struct event_limits){.max_bytes = 11};
        assert_int_equal(encode(f, 1), 5);
        assert_shown(
            f, "T 9 1 \"a\":1\nT 9 1 \"b\":\"longer than the limit alone\"\nT 9 2 \"c\":2,\"d\":3\nT 9 1 E \"e\":4\n");
        assert_int_equal(f->taken.batches[f->taken.n - 1]->n_events, 1);
        assert_int_equal(f->taken.batches[f->taken.n - 1]->n_values, 5);
        f->limits = (struct event_limits){.max_values = 2};
        assert_int_equal(encode(f, 1), 5);
        assert_shown(f,
                     "T 9 2 \"a\":1,\"b\":\"longer than the limit alone\"\nT 9 2 \"c\":2,\"d\":3\nT 9 1 E \"e\":4\n");
        f->limits = (struct event_limits){0};
    }
}

static void test_more_values_than_a_record_counts_make_several_records(void **state)
{
    struct fixture *f = *state;
    const struct record *record;
    struct batch *batch;

    begin(f, "d1");
    for (int i = 0; i < 70000; i++) {
        char key[16];

        snprintf(key, sizeof key, "k%d", i);
        add(f, RECORD_TELEMETRY, key, "1", EVENT_NO_TS);
    }
    f->event.keys_unique = true;
    assert_int_equal(encode(f, 1), 70000);
    batch = batch_sink_take(&f->sink);
    on_full(&f->taken, batch);
    assert_true(batch->cap > SLAB_SIZE);
    assert_int_equal(batch->n_values, 70000);
    record = batch_first(batch);
    assert_int_equal(record->n_values, 65535);
    assert_int_equal(record->flags, 0);
    record = record_next(record);
    assert_int_equal(record->n_values, 70000 - 65535);
    assert_int_equal(record->flags, RECORD_END);
    assert_int_equal(record_check(record, batch->n_bytes - batch_first(batch)->size), ERR_OK);
}

static void test_profile_is_the_given_the_known_or_default(void **state)
{
    struct fixture *f = *state;
    struct device *dev = device_get(STR("profiled"));
    static const char *const want[] = {"default", "known", "p", "known"};
    const struct str given[] = {STR_NONE, STR_NONE, STR("p"), STR("a\nb")};

    for (size_t i = 0; i < COUNT_OF(want); i++) {
        struct batch *batch;

        if (i == 1)
            atomic_store(&dev->profile, device_profile_intern(STR("known")));
        event_begin(&f->event, dev, given[i]);
        add(f, RECORD_TELEMETRY, "a", "1", EVENT_NO_TS);
        assert_int_equal(encode(f, 1), 1);
        batch = batch_sink_take(&f->sink);
        on_full(&f->taken, batch);
        assert_true(str_eq_z(record_profile(batch_first(batch)), want[i]));
        assert_true(str_eq_z(record_name(batch_first(batch)), "profiled"));
        assert_int_equal(batch_first(batch)->dev, dev->number);
    }
}

static void test_metadata_stands_behind_telemetry_with_a_time_and_limits_leave_room_for_it(void **state)
{
    struct fixture *f = *state;
    const struct str meta = STR("{\"connector\":\"m\"}");

    for (int unique = 0; unique < 2; unique++) {
        struct batch *batch;
        const struct record *record;

        begin(f, "d1");
        add(f, RECORD_ATTRIBUTES, "u", "1", EVENT_NO_TS);
        add(f, RECORD_TELEMETRY, "a", "1", 5);
        add(f, RECORD_TELEMETRY, "b", "2", 5);
        add(f, RECORD_TELEMETRY, "c", "3", 5);
        f->event.keys_unique = unique;
        f->event.meta = meta;
        f->limits.max_bytes = 11 + meta.n + RECORD_META_ROOM; /* of "a":1,"b":2 and what stands around it */
        assert_int_equal(encode(f, 9), 4);
        batch = batch_sink_take(&f->sink);
        on_full(&f->taken, batch);
        assert_string_equal(shown(batch), "A 9 1 \"u\":1\nT 5 2 \"a\":1,\"b\":2\nT 5 1 E \"c\":3\n");
        record = batch_first(batch);
        assert_null(record_meta(record).p);
        record = record_next(record);
        assert_true(str_eq(record_meta(record), meta));
        assert_true(str_eq(record_meta(record_next(record)), meta));
        f->limits.max_bytes = 20; /* less than the metadata alone: each value by itself */
        begin(f, "d1");
        add(f, RECORD_TELEMETRY, "a", "1", 5);
        add(f, RECORD_TELEMETRY, "b", "2", 5);
        f->event.meta = meta;
        assert_int_equal(encode(f, 9), 2);
        assert_shown(f, "T 5 1 \"a\":1\nT 5 1 E \"b\":2\n");
    }
    begin(f, "d1");
    add(f, RECORD_TELEMETRY, "a", "1", EVENT_NO_TS);
    f->event.meta = meta;
    f->limits.max_bytes = 0;
    assert_int_equal(encode(f, EVENT_NO_TS), 1);
    assert_shown(f, "T 0 1 E N \"a\":1\n"); /* the platform stamps it */
}

static void test_an_event_without_items_writes_nothing(void **state)
{
    struct fixture *f = *state;

    begin(f, "d1");
    assert_int_equal(encode(f, 1), 0);
    assert_null(batch_sink_take(&f->sink));
}

static void test_keys_the_platform_would_lose_are_refused_with_the_reason(void **state)
{
    struct fixture *f = *state;
    char longest[256 * 2];
    static const struct {
        struct str key;
        const char *says;
    } cases[] = {{STR(""), "empty"},      {STR("  "), "blank"},   {STR(" \xe3\x80\x80"), "blank"},
                 {STR("a\nb"), "U+000A"}, {STR("a\0"), "U+0000"}, {STR("x<script"), "HTML"},
                 {STR("a\x80"), "UTF-8"}, {STR("\x7f"), "U+007F"}};
    struct str out;
    struct why why;

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        why = (struct why){0};
        assert_int_equal(event_key(&f->event.arena, cases[i].key, &out, &why), ERR_RANGE);
        assert_non_null(strstr(why_text(&why), cases[i].says));
    }
    for (size_t i = 0; i < sizeof longest; i += 2)
        memcpy(longest + i, "ü", 2);
    assert_int_equal(event_key(&f->event.arena, (struct str){longest, 510}, &out, NULL), ERR_OK);
    why = (struct why){0};
    assert_int_equal(event_key(&f->event.arena, (struct str){longest, 512}, &out, &why), ERR_RANGE);
    assert_non_null(strstr(why_text(&why), "256 characters"));
    assert_int_equal(event_key(&f->event.arena, STR("a<1\\\"ü"), &out, NULL), ERR_OK);
    assert_true(str_eq(out, STR("\"a<1\\\\\\\"ü\":")));
}

/* --- the sink ----------------------------------------------------------------------------------------------------- */
/* Writes one event with a text of n bytes. */
static enum err write_event(struct fixture *f, size_t n)
{
    char *text = mem_new(n);
    unsigned n_values;
    enum err err;

    begin(f, "d1");
    memset(text, '1', n);
    add(f, RECORD_TELEMETRY, "k", "1", EVENT_NO_TS);
    f->event.items[0].text = (struct str){text, n};
    f->event.keys_unique = true;
    err = event_encode(&f->event, 1, &f->limits, &f->sink.sink, &n_values);
    mem_free(text);
    return err;
}

static void assert_whole(const struct batch *batch, uint32_t n_events)
{
    const struct record *record = batch_first(batch);
    uint32_t n = 0;

    for (size_t at = 0; at < batch->n_bytes; at += record->size, record = record_next(record), n++)
        assert_int_equal(record_check(record, batch->n_bytes - at), ERR_OK);
    assert_int_equal(n, n_events);
    assert_int_equal(batch->n_events, n_events);
    assert_int_equal(batch->n_values, n_events);
}

static void test_a_message_moves_whole_to_the_next_batch_when_the_slab_is_full(void **state)
{
    struct fixture *f = *state;
    struct batch *last;

    for (int message = 0; message < 3; message++) { /* 30 kB each: two fit */
        batch_sink_begin(&f->sink);
        for (int i = 0; i < 3; i++)
            assert_int_equal(write_event(f, 10000), ERR_OK);
    }
    assert_int_equal(f->taken.n, 1);
    assert_whole(f->taken.batches[0], 6);
    last = batch_sink_take(&f->sink);
    on_full(&f->taken, last);
    assert_whole(last, 3);
    assert_null(batch_sink_take(&f->sink));
}

static void test_a_message_larger_than_a_slab_has_a_block_of_its_own(void **state)
{
    struct fixture *f = *state;

    batch_sink_begin(&f->sink);
    assert_int_equal(write_event(f, 100), ERR_OK);
    batch_sink_begin(&f->sink);
    for (int i = 0; i < 20; i++)
        assert_int_equal(write_event(f, 20000), ERR_OK);
    assert_int_equal(f->taken.n, 1);
    assert_whole(f->taken.batches[0], 1);
    batch_sink_begin(&f->sink);
    on_full(&f->taken, batch_sink_take(&f->sink));
    assert_true(f->taken.batches[1]->cap > SLAB_SIZE);
    assert_whole(f->taken.batches[1], 20);
}

static void test_what_finds_no_room_changes_nothing(void **state)
{
    struct fixture *f = *state;

    batch_sink_begin(&f->sink);
    assert_int_equal(write_event(f, 100), ERR_OK);
    batch_sink_begin(&f->sink);
    assert_int_equal(write_event(f, 200), ERR_OK);
    mem_fail_after(1);
    assert_int_equal(write_event(f, 100000), ERR_NOMEM);
    mem_fail_after(0);
    assert_int_equal(write_event(f, BATCH_MAX_BYTES), ERR_LIMIT);
    assert_int_equal(f->taken.n, 0);
    assert_int_equal(write_event(f, 300), ERR_OK);
    on_full(&f->taken, batch_sink_take(&f->sink));
    assert_whole(f->taken.batches[0], 3);
}

static void test_descriptors_that_came_back_are_used_again(void **state)
{
    struct fixture *f = *state;
    struct batch *batch;

    assert_int_equal(write_event(f, 10), ERR_OK);
    batch = batch_sink_take(&f->sink);
    batch_drop_bytes(batch);
    assert_true(batch->n_bytes > 0);
    batch->cookie = 7;
    batch->result = ERR_FULL;
    batch_sink_reuse(&f->sink, batch);
    assert_int_equal(write_event(f, 10), ERR_OK);
    assert_ptr_equal(f->sink.batch, batch);
    assert_int_equal(batch->cookie, 0);
    assert_int_equal(batch->result, ERR_OK);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_attributes_and_telemetry_of_one_time_are_two_records),
        T(test_the_character_that_the_platform_loses_is_replaced_and_nothing_else),
        T(test_equal_times_are_merged_where_the_first_stood_and_the_later_value_wins),
        T(test_values_without_time_are_left_to_the_platform_when_asked_for),
        T(test_records_are_split_by_values_and_by_bytes_and_repeat_their_time),
        T(test_more_values_than_a_record_counts_make_several_records),
        T(test_profile_is_the_given_the_known_or_default),
        T(test_metadata_stands_behind_telemetry_with_a_time_and_limits_leave_room_for_it),
        T(test_an_event_without_items_writes_nothing),
        T(test_keys_the_platform_would_lose_are_refused_with_the_reason),
        T(test_a_message_moves_whole_to_the_next_batch_when_the_slab_is_full),
        T(test_a_message_larger_than_a_slab_has_a_block_of_its_own),
        T(test_what_finds_no_room_changes_nothing),
        T(test_descriptors_that_came_back_are_used_again),
    };
    return cmocka_run_group_tests_name("event", tests, NULL, NULL);
}
