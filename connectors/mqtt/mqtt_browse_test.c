/* SPDX-License-Identifier: Apache-2.0 */
/* What one message shows to `iotgw browse`, and the configuration that is made of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "conf/conf.h"
#include "mqtt_browse.h"
#include "mqtt_conf.h"

#include <stdlib.h>

static struct str item(struct buf *out, const char *filter, const char *topic, const char *payload)
{
    out->n = 0;
    mqtt_browse_item(out, str_from(filter), str_from(topic), str_from(payload), true);
    return buf_str(out);
}

static void expect_type(const char *payload, const char *type)
{
    autobuf struct buf out = {0};
    yyjson_doc *doc = json_read(item(&out, "#", "a/b", payload), NULL);
    yyjson_val *root = yyjson_doc_get_root(doc);

    assert_true(str_eq_z(json_str(json_get(root, STR("type"))), type));
    assert_true(str_eq(json_str(json_get(root, STR("name"))), STR("a/b")));
    assert_true((json_get(root, STR("configuration")) != NULL) == (strcmp(type, "object") == 0));
    assert_true(json_get(root, STR("retained")) && json_get(root, STR("bytes")));
    yyjson_doc_free(doc);
}

static void each_kind_of_payload_is_named(void **state)
{
    (void)state;
    expect_type("{\"a\":1}", "object");
    expect_type("[1]", "array");
    expect_type("21.5", "number");
    expect_type("\"x\"", "string");
    expect_type("true", "boolean");
    expect_type("null", "null");
    expect_type("on", "text");
    expect_type("\xff\xfe", "binary");
    expect_type("", "empty");
}

static void a_topic_that_cannot_be_a_filter_has_no_configuration(void **state)
{
    autobuf struct buf out = {0};

    (void)state;
    assert_int_equal(str_find(item(&out, "#", "$share/a", "{\"t\":1}"), STR("configuration"), 0), SIZE_MAX);
    assert_int_equal(str_find(item(&out, "#", "a/${b}", "{\"t\":1}"), STR("configuration"), 0), SIZE_MAX);
    assert_true(str_find(item(&out, "#", "a/b", "{\"a where s\":1,\"d\\u007f\":1,\"t\":1}"),
                         STR("\"timeseries\":[{\"type\":\"json\",\"key\":\"t\",\"value\":\"${t}\"}]"), 0) != SIZE_MAX);
}

static void a_sample_is_cut_and_is_text_whatever_came(void **state)
{
    autobuf struct buf out = {0};
    char payload[1001];
    yyjson_doc *doc;
    struct str sample;

    (void)state;
    memset(payload, 'x', sizeof payload - 1);
    payload[1000] = 0;
    payload[3] = '\xff';
    doc = json_read(item(&out, "#", "a", payload), NULL);
    assert_non_null(doc);
    sample = json_str(json_get(yyjson_doc_get_root(doc), STR("sample")));
    assert_true(sample.n < 250 && str_ends(sample, STR("…")));
    yyjson_doc_free(doc);
}

/* The entry as the connector's file would have it, loaded without a complaint. */
static void expect_entry(const char *filter, const char *topic, const char *payload, const char *topic_filter,
                         const char *name_source, const char *name)
{
    autobuf struct buf out = {0};
    autobuf struct buf file = {0};
    yyjson_doc *doc = json_read(item(&out, filter, topic, payload), NULL);
    yyjson_val *entry = json_get(yyjson_doc_get_root(doc), STR("configuration"));
    yyjson_val *info = json_get(json_get(entry, STR("converter")), STR("deviceInfo"));
    struct problems problems;
    struct conf *conf;

    assert_true(str_eq_z(json_str(json_get(entry, STR("topicFilter"))), topic_filter));
    assert_true(str_eq_z(json_str(json_get(info, STR("deviceNameExpressionSource"))), name_source));
    if (!str_eq_z(json_str(json_get(info, STR("deviceNameExpression"))), name))
        fail_msg("%.*s", (int)out.n, (const char *)out.p);
    buf_add_z(&file, "{\"broker\":{\"host\":\"h\"},\"mapping\":[");
    json_add_value(&file, entry);
    buf_add_z(&file, "]}");
    problems_init(&problems);
    conf = conf_load_text(&mqtt_conf_type, ".", "test", buf_str(&file), &problems);
    if (!conf || problems.n_errors || problems.n_warnings)
        fail_msg("%s: %s", problems.first ? problems.first->path : "", problems.first ? problems.first->text : "");
    conf_unref(conf);
    problems_fini(&problems);
    yyjson_doc_free(doc);
}

static void the_device_is_named_by_the_filters_plus_or_by_the_topic(void **state)
{
    (void)state;
    expect_entry("sensors/+/data", "sensors/a/data", "{\"t\":1}", "sensors/+/data", "topic", "(?<=^sensors/)[^/]+");
    expect_entry("+/data", "a/data", "{\"t\":1}", "+/data", "topic", "^[^/]+");
    expect_entry("h-1.x(2)/+", "h-1.x(2)/a", "{\"t\":1}", "h-1.x(2)/+", "topic", "(?<=^h-1\\.x\\(2\\)/)[^/]+");
    expect_entry("#", "plant/boiler/data", "{\"t\":1}", "plant/boiler/data", "constant", "boiler");
    expect_entry("plant/+/#", "plant/boiler/data/", "{\"t\":1}", "plant/boiler/data/", "constant", "boiler");
    expect_entry("#", "alone", "{\"t\":1}", "alone", "constant", "alone");
    expect_entry("#", "/", "{\"t\":1}", "/", "constant", "/");
}

static struct str entries(struct buf *out, const char *payload, struct buf *timeseries)
{
    yyjson_doc *doc = json_read(item(out, "#", "a", payload), NULL);

    timeseries->n = 0;
    json_add_value(timeseries,
                   json_get(json_get(json_get(yyjson_doc_get_root(doc), STR("configuration")), STR("converter")),
                            STR("timeseries")));
    yyjson_doc_free(doc);
    return buf_str(timeseries);
}

static void values_of_objects_become_time_series_within_bounds(void **state)
{
    autobuf struct buf out = {0};
    autobuf struct buf list = {0};
    autobuf struct buf large = {0};
    autobuf struct buf deep = {0};
    yyjson_doc *doc;

    (void)state;
    assert_true(str_eq(entries(&out, "{\"t\":21,\"s\":\"x\",\"b\":true}", &list),
                       STR("[{\"type\":\"json\",\"key\":\"t\",\"value\":\"${t}\"},{\"type\":\"string\",\"key\":\"s\","
                           "\"value\":\"${s}\"},{\"type\":\"json\",\"key\":\"b\",\"value\":\"${b}\"}]")));
    assert_true(str_eq(entries(&out, "{\"p\":{\"on\":1,\"q\":{\"r\":2}}}", &list),
                       STR("[{\"type\":\"json\",\"key\":\"p.on\",\"value\":\"${p.on}\"},"
                           "{\"type\":\"json\",\"key\":\"p.q.r\",\"value\":\"${p.q.r}\"}]")));
    /* Lists, null, and what would mean something else in a path. */
    assert_true(str_eq(
        entries(&out, "{\"l\":[1],\"n\":null,\"a.b\":1,\"\":1,\"${x}\":1,\"a[0]\":1,\"a\\\"b\":1}", &list), STR("[]")));
    buf_add_z(&large, "{\"k0\":1");
    for (unsigned i = 1; i < 1000; i++)
        buf_printf(&large, ",\"k%u\":1", i);
    buf_add(&large, "}", 2);
    doc = json_read(entries(&out, (const char *)large.p, &list), NULL);
    assert_int_equal(yyjson_arr_size(yyjson_doc_get_root(doc)), 200);
    yyjson_doc_free(doc);
    for (unsigned i = 0; i < 50; i++)
        buf_add_z(&deep, "{\"d\":");
    buf_add_z(&deep, "1");
    for (unsigned i = 0; i < 50; i++)
        buf_add_u8(&deep, '}');
    buf_add_u8(&deep, 0);
    assert_true(str_eq(entries(&out, (const char *)deep.p, &list), STR("[]")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_of_payload_is_named),
        cmocka_unit_test(a_topic_that_cannot_be_a_filter_has_no_configuration),
        cmocka_unit_test(a_sample_is_cut_and_is_text_whatever_came),
        cmocka_unit_test(the_device_is_named_by_the_filters_plus_or_by_the_topic),
        cmocka_unit_test(values_of_objects_become_time_series_within_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
