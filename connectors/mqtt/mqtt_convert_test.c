/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "conf/conf.h"
#include "mqtt_convert.h"
#include "mqtt_dry.h"

#include <stdio.h>

/* The dry run is the running connector's converter with another place for the results: so it is what the tests read. */

#define FILE_OF(members) "{\"broker\":{\"host\":\"h\"}," members "}"
#define ENTRY(filter, converter) "{\"topicFilter\":\"" filter "\",\"converter\":{" converter "}}"
#define MAPPING(filter, converter) FILE_OF("\"mapping\":[" ENTRY(filter, converter) "]")
#define CONSTANT(name)                                                                                                 \
    "\"deviceInfo\":{\"deviceNameExpressionSource\":\"constant\",\"deviceNameExpression\":\"" name "\"}"
#define FROM_MESSAGE(name, profile)                                                                                    \
    "\"deviceInfo\":{\"deviceNameExpressionSource\":\"message\",\"deviceNameExpression\":\"" name                      \
    "\",\"deviceProfileExpressionSource\":\"message\",\"deviceProfileExpression\":\"" profile "\"}"
#define FROM_TOPIC(name)                                                                                               \
    "\"deviceInfo\":{\"deviceNameExpressionSource\":\"topic\",\"deviceNameExpression\":\"" name "\"}"
#define JSON "\"type\":\"json\","
#define BYTES "\"type\":\"bytes\","

static struct conf *load(const char *text, struct problems *problems)
{
    problems_init(problems);
    return conf_load_text(&mqtt_conf_type, ".", "mqtt.json", str_from(text), problems);
}

static char *dry_run(const char *file, const char *topic, const char *kind, const char *payload)
{
    struct problems problems;
    struct conf *conf = load(file, &problems);
    struct buf input = {0};
    struct json_file *json;
    struct arena arena;
    struct why why = {0};
    struct str output = STR_NONE;
    struct convert_io io = {.size = sizeof io, .direction = STR("uplink"), .output = &output, .arena = &arena};
    char *text;

    assert_non_null(conf);
    buf_printf(&input, "{\"topic\":\"%s\",\"%s\":", topic, kind);
    if (strcmp(kind, "payload") == 0)
        buf_add_z(&input, payload);
    else
        json_add_string(&input, str_from(payload));
    buf_add_u8(&input, '}');
    assert_int_equal(json_file_parse(&json, "input", buf_str(&input), &why), ERR_OK);
    io.input = json_file_root(json);
    arena_init(&arena, 0);
    if (mqtt_dry_run(conf_root(conf), &io, &why) != ERR_OK)
        output = str_from(why_text(&why));
    text = mem_zero(output.n + 1);
    memcpy(text, output.p, output.n);
    arena_fini(&arena);
    json_file_free(json);
    buf_fini(&input);
    conf_unref(conf);
    problems_fini(&problems);
    return text;
}

struct row {
    const char *file, *topic, *kind, *payload, *output;
};

static void check_rows(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        autofree char *got = dry_run(rows[i].file, rows[i].topic, rows[i].kind, rows[i].payload);

        if (strcmp(got, rows[i].output) != 0)
            fail_msg("row %zu: payload %s\ngot      %s\nexpected %s", i, rows[i].payload, got, rows[i].output);
    }
}

static void test_values_keep_their_order_and_every_bad_one_stays_alone(void **state)
{
    static const char file[] =
        MAPPING("d", JSON CONSTANT("cv 1") ",\"attributes\":[{\"key\":\"fw\",\"value\":\"${fw}\"}],"
                                           "\"timeseries\":[{\"type\":\"int\",\"key\":\"a\",\"value\":\"${a}\"},"
                                           "{\"key\":\"${k}\",\"value\":\"${b}\"},"
                                           "{\"type\":\"double\",\"key\":\"c\",\"value\":\"${c.d[1]}\"}]");
    static const struct row rows[] = {
        {file, "d", "payload", "{\"c\":{\"d\":[1,2]},\"b\":true,\"k\":\"key\",\"a\":5,\"fw\":\"1\"}",
         "{\"messages\":[{\"device\":\"cv 1\",\"profile\":\"default\",\"telemetry\":[{\"values\":{\"a\":5,\"key\":true,"
         "\"c\":2.0}}],\"attributes\":{\"fw\":\"1\"}}]}"},
        {file, "d", "payload", "{\"a\":5,\"b\":1,\"fw\":null}",
         "{\"messages\":[{\"device\":\"cv "
         "1\",\"profile\":\"default\",\"telemetry\":[{\"values\":{\"a\":5}}]}],\"left_out\":"
         "[\"d: a datapoint has no usable key: what its key names is not in the payload\"]}"},
        {file, "d", "payload", "{\"a\":7,\"b\":1,\"k\":\"<b>\"}",
         "{\"messages\":[{\"device\":\"cv "
         "1\",\"profile\":\"default\",\"telemetry\":[{\"values\":{\"a\":7}}]}],\"left_out\":"
         "[\"d: a datapoint has no usable key: the key \\\"<b>\\\" looks like HTML (\\\"<\\\" before a "
         "letter), which "
         "the platform drops\"]}"},
        {file, "d", "payload", "{\"a\":1,\"a\":2}",
         "{\"messages\":[{\"device\":\"cv 1\",\"profile\":\"default\",\"telemetry\":[{\"values\":{\"a\":2}}]}]}"},
        {file, "d", "payload", "{\"x\":1}",
         "{\"messages\":[],\"left_out\":[\"d: there is no value for any datapoint\"]}"},
    };

    (void)state;
    check_rows(rows, COUNT_OF(rows));
}

static void test_payloads_that_are_not_objects(void **state)
{
    static const char file[] =
        MAPPING("d", JSON CONSTANT("cv 1") ",\"timeseries\":[{\"key\":\"all\",\"value\":\"${$}\"},"
                                           "{\"key\":\"c\",\"value\":\"const\"}]");
    static const char not_json[] = "{\"messages\":[],\"left_out\":[\"d: the payload is not JSON\"]}";
    static const struct row rows[] = {
        {file, "d", "payload_text", "23.5",
         "{\"messages\":[{\"device\":\"cv 1\",\"profile\":\"default\",\"telemetry\":[{\"values\":{\"all\":23.5,\"c\":"
         "\"const\"}}]}]}"},
        {file, "d", "payload_text", "null",
         "{\"messages\":[{\"device\":\"cv "
         "1\",\"profile\":\"default\",\"telemetry\":[{\"values\":{\"c\":\"const\"}}]}]}"},
        {file, "d", "payload_text", "", not_json},
        {file, "d", "payload_text", "hello", not_json},
        {file, "d", "payload_text", "{\"a\":1", not_json},
        {file, "d", "payload_hex", "22ff6122", /* "?a" with a byte that is not UTF-8 */
         "{\"messages\":[{\"device\":\"cv 1\",\"profile\":\"default\",\"telemetry\":[{\"values\":{\"all\":\"a\",\"c\":"
         "\"const\"}}]}]}"},
        {file, "d", "payload_hex", "ff", not_json},
        {file, "d", "payload", "[]", "{\"messages\":[]}"},
    };

    (void)state;
    check_rows(rows, COUNT_OF(rows));
}

static void test_items_of_an_array_are_merged_by_device_in_the_order_of_first_appearance(void **state)
{
    static const char file[] =
        MAPPING("d", JSON FROM_MESSAGE("${n}", "${p}") ",\"timeseries\":[{\"key\":\"t\",\"value\":\"${t}\"}]");
    static const struct row rows[] = {
        {file, "d", "payload",
         "[{\"n\":\"cv B\",\"t\":1,\"ts\":5},{\"n\":\"cv A\",\"t\":2,\"p\":\"x\"},{\"n\":\"cv "
         "B\",\"t\":3,\"ts\":5,\"p\":\"y\"},"
         "{\"t\":9},{\"n\":\"cv B\",\"t\":4,\"ts\":6},{\"n\":\"cv C\"},7]",
         "{\"messages\":[{\"device\":\"cv B\",\"profile\":\"default\",\"telemetry\":[{\"ts\":5,\"values\":{\"t\":3}},"
         "{\"ts\":6,\"values\":{\"t\":4}}]},{\"device\":\"cv "
         "A\",\"profile\":\"x\",\"telemetry\":[{\"values\":{\"t\":2}}]}],"
         "\"left_out\":[\"d: there is no device name\",\"d: there is no value for any datapoint\","
         "\"d: there is no device name\"]}"},
    };

    (void)state;
    check_rows(rows, COUNT_OF(rows));
}

static void test_times_follow_the_five_steps(void **state)
{
#define POINTS(first)                                                                                                  \
    JSON CONSTANT("cv 1") first ",\"timeseries\":[{\"key\":\"a\",\"value\":\"1\",\"type\":\"int\"},"                   \
                                "{\"key\":\"b\",\"value\":\"2\",\"type\":\"int\",\"tsField\":\"${at}\"},"              \
                                "{\"key\":\"c\",\"value\":\"3\",\"type\":\"int\"}]"
    static const char file[] = MAPPING("d", POINTS("")), received[] = MAPPING("d", POINTS(",\"useReceivedTs\":true"));
#define SENT(telemetry) "{\"messages\":[{\"device\":\"cv 1\",\"profile\":\"default\",\"telemetry\":[" telemetry "]}]}"
    static const struct row rows[] = {
        {file, "d", "payload", "{\"at\":1700000000,\"ts\":7}",
         SENT("{\"ts\":7,\"values\":{\"a\":1}},{\"ts\":1700000000000,\"values\":{\"b\":2,\"c\":3}}")},
        {file, "d", "payload", "{\"at\":\"never\",\"ts\":7}", SENT("{\"ts\":7,\"values\":{\"a\":1,\"b\":2,\"c\":3}}")},
        {file, "d", "payload", "{\"ts\":\"x\",\"timestamp\":1700000000456.9}",
         SENT("{\"ts\":1700000000456,\"values\":{\"a\":1,\"b\":2,\"c\":3}}")},
        {file, "d", "payload", "{}", SENT("{\"values\":{\"a\":1,\"b\":2,\"c\":3}}")},
        {received, "d", "payload", "{\"at\":1700000000,\"ts\":7}", SENT("{\"values\":{\"a\":1,\"b\":2,\"c\":3}}")},
    };

    (void)state;
    check_rows(rows, COUNT_OF(rows));
}

static void test_all_entries_that_match_run_in_the_order_of_the_file(void **state)
{
    static const char file[] =
        FILE_OF(
            "\"mapping\":[" ENTRY("a/#", JSON CONSTANT("cv 3") ",\"timeseries\":[\"*\"]") "," ENTRY(
                "a/+/c",
                JSON FROM_TOPIC(
                    "a/(.*)/c") ",\"attributes\":[{\"key\":\"a/(.*)/c\",\"keySource\":\"topic\",\"value\":"
                                "\"${v}\"}]") "," ENTRY("other",
                                                        JSON CONSTANT(
                                                            "cv 4") ",\"timeseries\":["
                                                                    "\"*\"]") "],"
                                                                              "\"requestsMapping\":{"
                                                                              "\"connectRequests\":[{\"topicFilter\":"
                                                                              "\"a/b/+\"," FROM_MESSAGE("${n}", "pump") "},{\"topicFilter\":\"a/b/+\"," CONSTANT(
                                                                                  "cv 6") "}],\"disconnectRequests\":["
                                                                                          "{\"topicFilter\":\"a/b/"
                                                                                          "c\"," FROM_MESSAGE("${nope}", "x") "},{\"topicFilter\":\"a/b/c\"," CONSTANT(
                                                                                              "cv 7") "},{"
                                                                                                      "\"topicFilter\":"
                                                                                                      "\"a/b/"
                                                                                                      "c\"," CONSTANT(
                                                                                                          "cv 8") "}]"
                                                                                                                  "}");
    static const struct row rows[] = {
        {file, "a/b/c", "payload", "{\"v\":1,\"n\":\"cv 5\"}",
         "{\"messages\":[{\"device\":\"cv 3\",\"profile\":\"default\",\"telemetry\":[{\"values\":{\"v\":1,\"n\":\"cv "
         "5\"}}]},"
         "{\"device\":\"b\",\"profile\":\"default\",\"attributes\":{\"b\":1}}],\"connects\":[{\"device\":\"cv "
         "5\",\"profile\":"
         "\"pump\"},{\"device\":\"cv 6\",\"profile\":\"default\"}],\"disconnects\":[\"cv "
         "7\"],\"left_out\":[\"a/b/c: "
         "there is no device name\"]}"},
        {file, "other", "payload_text", "x", "{\"messages\":[],\"left_out\":[\"other: the payload is not JSON\"]}"},
        {file, "a/b/x", "payload_text", "",
         "{\"messages\":[],\"connects\":[{\"device\":\"cv 6\",\"profile\":\"default\"}],\"left_out\":[\"a/#: "
         "the "
         "payload is not JSON\",\"a/b/+: there is no device name\"]}"},
        {file, "nothing", "payload", "{}", "{\"messages\":[]}"},
    };

    (void)state;
    check_rows(rows, COUNT_OF(rows));
}

static void test_bytes_give_text_and_a_bad_slice_stays_alone(void **state)
{
    static const char file[] = MAPPING(
        "d", BYTES "\"deviceInfo\":{\"deviceNameExpression\":\"[0:3]\",\"deviceNameExpressionSource\":\"message\"},"
                   "\"timeseries\":[{\"key\":\"k[3]\",\"value\":\"[4:6]\",\"hexMode\":true},{\"key\":\"last\","
                   "\"value\":\"[9]\"},{\"key\":\"t\",\"value\":\"[4:]\"}]");
    static const struct row rows[] = {
        {file, "d", "payload_hex", "6376203141ff",
         "{\"messages\":[{\"device\":\"cv "
         "\",\"profile\":\"default\",\"telemetry\":[{\"values\":{\"k1\":\"41ff\"}}]}]}"},
        {file, "d", "payload_hex", "fffefd", "{\"messages\":[],\"left_out\":[\"d: there is no device name\"]}"},
    };

    (void)state;
    check_rows(rows, COUNT_OF(rows));
}

static void test_former_keys_give_the_same_entry_by_entry(void **state)
{
    static const char file[] = FILE_OF("\"dataMapping\":[" ENTRY(
        "a", JSON
        "\"deviceNameJsonExpression\":\"${n}\",\"deviceTypeTopicExpression\":\"(.*)\","
        "\"timeseries\":[\"*\"]") "," ENTRY("b",
                                            JSON CONSTANT(
                                                "cv 9") ",\"deviceNameJsonExpression\":\"${n}\",\"timeseries\":[\"*"
                                                        "\"]") "," ENTRY("c", BYTES
                                                                         "\"deviceNameExpression\":\"[0:4]\","
                                                                         "\"deviceTypeExpression\":\"t\","
                                                                         "\"timeseries\":[{\"key\":\"k\",\"value\":"
                                                                         "\"[:]\"}]") "],"
                                                                                      "\"disconnectRequests\":[{"
                                                                                      "\"topicFilter\":\"off\","
                                                                                      "\"deviceNameTopicExpression"
                                                                                      "\":\"off\"}]");
    static const struct row rows[] = {
        {file, "a", "payload", "{\"n\":\"cv 8\"}",
         "{\"messages\":[{\"device\":\"cv 8\",\"profile\":\"a\",\"telemetry\":[{\"values\":{\"n\":\"cv 8\"}}]}]}"},
        {file, "b", "payload", "{\"n\":\"cv 8\"}",
         "{\"messages\":[{\"device\":\"cv 9\",\"profile\":\"default\",\"telemetry\":[{\"values\":{\"n\":\"cv "
         "8\"}}]}]}"},
        {file, "c", "payload_text", "cv 1!",
         "{\"messages\":[{\"device\":\"cv 1\",\"profile\":\"t\",\"telemetry\":[{\"values\":{\"k\":\"cv 1!\"}}]}]}"},
        {file, "off", "payload_text", "", "{\"messages\":[],\"disconnects\":[\"off\"]}"},
    };

    (void)state;
    check_rows(rows, COUNT_OF(rows));
}

static void test_a_dry_run_says_what_its_input_lacks(void **state)
{
    static const char file[] = FILE_OF("\"mapping\":[]");
    static const struct row rows[] = {
        {file, "a/+", "payload", "1", ""},
        {file, "a", "data", "1", ""},
        {file, "a", "payload_hex", "1", ""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        autofree char *got = dry_run(rows[i].file, rows[i].topic, rows[i].kind, rows[i].payload);

        assert_null(strchr(got, '{'));
        assert_true(strlen(got) > 10);
    }
}

/* --- the converter as the connector uses it --------------------------------------------------------------------------- */

struct sink {
    struct convert_out out;
    struct event event;
    struct device *dev;
    unsigned n_events, n_dropped;
    uint64_t n_told;
    struct str key;
};

static struct event *sink_begin(struct convert_out *out, struct device *dev, struct str profile)
{
    struct sink *sink = CONTAINER_OF(out, struct sink, out);

    (void)profile;
    event_begin(&sink->event, dev, STR("p"));
    return &sink->event;
}

static enum err sink_end(struct convert_out *out)
{
    struct sink *sink = CONTAINER_OF(out, struct sink, out);

    sink->dev = sink->event.dev;
    sink->key = sink->event.items[0].key;
    sink->n_events++;
    return ERR_OK;
}

static void sink_dropped(struct convert_out *out, const struct entry *entry, enum drop_cause cause, struct str topic,
                         struct str detail, uint64_t count)
{
    struct sink *sink = CONTAINER_OF(out, struct sink, out);

    (void)entry;
    (void)cause;
    (void)topic;
    (void)detail;
    sink->n_dropped++;
    sink->n_told += count;
}

static void test_reports_of_one_entry_and_cause_come_once_a_minute_with_their_count(void **state)
{
    struct problems problems;
    struct conf *conf = load(MAPPING("d", JSON CONSTANT("cv 1") ",\"timeseries\":[\"*\"]"), &problems);
    struct sink sink = {.out = {.begin = sink_begin, .end = sink_end, .dropped = sink_dropped}};
    struct mqtt_converter *converter = mqtt_converter_new(((const struct mqtt_file *)conf_root(conf))->plan);

    (void)state;
    event_init(&sink.event);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(mqtt_convert(converter, &sink.out, STR("d"), STR("?"), 0, 1000 + i, NULL), 0);
    assert_int_equal(sink.n_dropped, 1);
    (void)mqtt_convert(converter, &sink.out, STR("d"), STR("{}"), 0, 2000, NULL); /* another cause */
    assert_int_equal(sink.n_dropped, 2);
    (void)mqtt_convert(converter, &sink.out, STR("d"), STR("?"), 0, 61001, NULL);
    assert_int_equal(sink.n_dropped, 3);
    assert_int_equal(sink.n_told, 1002);
    assert_int_equal(mqtt_converter_counts(converter)->n_dropped, 1002);
    event_fini(&sink.event);
    mqtt_converter_free(converter);
    conf_unref(conf);
    problems_fini(&problems);
}

static void test_topics_without_end_do_not_fill_the_memory_and_stay_right(void **state)
{
    struct problems problems;
    struct conf *conf = load(
        MAPPING("t/+",
                JSON CONSTANT("cv 1") ",\"timeseries\":[{\"key\":\"t/(.*)\",\"keySource\":\"topic\",\"value\":\"1\"}]"),
        &problems);
    struct sink sink = {.out = {.begin = sink_begin, .end = sink_end, .dropped = sink_dropped}};
    struct mqtt_converter *converter = mqtt_converter_new(((const struct mqtt_file *)conf_root(conf))->plan);
    char topic[40], key[40];

    (void)state;
    event_init(&sink.event);
    for (unsigned i = 0; i < 150000; i++) {
        snprintf(topic, sizeof topic, "t/%u", i);
        snprintf(key, sizeof key, "\"%u\":", i);
        assert_int_equal(mqtt_convert(converter, &sink.out, str_from(topic), STR("{}"), 0, 0, NULL), 1);
        assert_true(str_eq_z(sink.key, key));
    }
    event_fini(&sink.event);
    mqtt_converter_free(converter);
    conf_unref(conf);
    problems_fini(&problems);
}

static void test_an_array_that_would_multiply_is_cut(void **state)
{
    struct problems problems;
    struct conf *conf =
        load(MAPPING("d", JSON CONSTANT("cv 1") ",\"timeseries\":[{\"key\":\"a\",\"value\":\"x\"},{\"key\":"
                                                "\"b\",\"value\":\"y\"}]"),
             &problems);
    struct sink sink = {.out = {.begin = sink_begin, .end = sink_end, .dropped = sink_dropped}};
    struct mqtt_converter *converter = mqtt_converter_new(((const struct mqtt_file *)conf_root(conf))->plan);
    autobuf struct buf payload = {0};

    (void)state;
    event_init(&sink.event);
    buf_add_z(&payload, "[1");
    for (unsigned i = 0; i < 600000; i++)
        buf_add_z(&payload, ",1");
    buf_add_z(&payload, "]");
    assert_int_equal(mqtt_convert(converter, &sink.out, STR("d"), buf_str(&payload), 0, 0, NULL), 1);
    assert_int_equal(sink.event.n, 512 * 1024);
    assert_int_equal(sink.n_dropped, 1);
    event_fini(&sink.event);
    mqtt_converter_free(converter);
    conf_unref(conf);
    problems_fini(&problems);
}

static void test_members_in_another_order_or_number_are_found(void **state)
{
    struct problems problems;
    struct conf *conf = load(MAPPING("d", JSON CONSTANT("cv 1") ",\"timeseries\":[{\"key\":\"a\",\"value\":\"${a}\"},"
                                                                "{\"key\":\"b\",\"value\":\"${bb}\"},"
                                                                "{\"key\":\"c\",\"value\":\"${ccc}\"}]"),
                             &problems);
    static const struct {
        const char *payload;
        const char *values[3];
    } cases[] = {
        {"{\"a\":1,\"bb\":2,\"ccc\":3}", {"1", "2", "3"}},
        {"{\"ccc\":3,\"a\":1,\"bb\":2}", {"1", "2", "3"}},
        {"{\"x\":0,\"ccc\":3,\"y\":1}", {"3"}},
        {"{\"a\":1,\"bb\":2,\"ccc\":3}", {"1", "2", "3"}},
        {"{\"bb\":null,\"a\":7}", {"7"}},
        {"{\"aa\":0,\"b\":1,\"cc\":2,\"bb\":5}", {"5"}},
    };
    struct sink sink = {.out = {.begin = sink_begin, .end = sink_end, .dropped = sink_dropped}};
    struct mqtt_converter *converter = mqtt_converter_new(((const struct mqtt_file *)conf_root(conf))->plan);

    (void)state;
    event_init(&sink.event);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        size_t n = 0;

        (void)mqtt_convert(converter, &sink.out, STR("d"), str_from(cases[i].payload), 0, 0, NULL);
        for (; n < 3 && cases[i].values[n]; n++)
            assert_true(str_eq_z(sink.event.items[n].text, cases[i].values[n]));
        assert_int_equal(sink.event.n, n);
    }
    event_fini(&sink.event);
    mqtt_converter_free(converter);
    conf_unref(conf);
    problems_fini(&problems);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_keep_their_order_and_every_bad_one_stays_alone),
        cmocka_unit_test(test_payloads_that_are_not_objects),
        cmocka_unit_test(test_items_of_an_array_are_merged_by_device_in_the_order_of_first_appearance),
        cmocka_unit_test(test_times_follow_the_five_steps),
        cmocka_unit_test(test_all_entries_that_match_run_in_the_order_of_the_file),
        cmocka_unit_test(test_bytes_give_text_and_a_bad_slice_stays_alone),
        cmocka_unit_test(test_former_keys_give_the_same_entry_by_entry),
        cmocka_unit_test(test_a_dry_run_says_what_its_input_lacks),
        cmocka_unit_test(test_reports_of_one_entry_and_cause_come_once_a_minute_with_their_count),
        cmocka_unit_test(test_topics_without_end_do_not_fill_the_memory_and_stay_right),
        cmocka_unit_test(test_an_array_that_would_multiply_is_cut),
        cmocka_unit_test(test_members_in_another_order_or_number_are_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
