/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "conf/conf.h"
#include "mqtt/mqtt.h"
#include "mqtt_plan.h"

struct loaded {
    struct conf *conf;
    const struct mqtt_file *file; /* NULL: refused */
    struct problems problems;
};

static struct loaded load(const char *text)
{
    struct loaded loaded = {0};

    problems_init(&loaded.problems);
    loaded.conf = conf_load_text(&mqtt_conf_type, ".", "mqtt.json", str_from(text), &loaded.problems);
    loaded.file = loaded.conf ? conf_root(loaded.conf) : NULL;
    return loaded;
}

static void done(struct loaded *loaded)
{
    conf_unref(loaded->conf);
    problems_fini(&loaded->problems);
}

/* The only problem (severity and up), as text; fails if there are others. */
static void only_problem(struct loaded *loaded, enum severity severity, const char *path, const char *text)
{
    const struct problem *found = NULL;

    for (const struct problem *p = loaded->problems.first; p; p = p->next) {
        if (p->severity < severity)
            continue;
        if (found)
            fail_msg("also: %s: %s", p->path, p->text);
        found = p;
    }
    assert_non_null(found);
    assert_string_equal(found->path, path);
    if (!strstr(found->text, text))
        fail_msg("\"%s\" is not in: %s", text, found->text);
}

#define BROKER(members) "{\"broker\":{\"host\":\"h\"" members "}}"

static void test_what_is_not_verified_or_not_done_is_said(void **state)
{
    static const struct {
        const char *text, *path, *found;
    } cases[] = {
        {BROKER(",\"security\":{\"type\":\"certificates\",\"insecure\":true}"), "broker.security.insecure",
         "the broker is not verified at all"},
        {BROKER(",\"security\":{\"type\":\"certificates\",\"insecure\":true,\"pathToCACert\":\"/dev/null\"}"),
         "broker.security.insecure", "the broker's name is not verified"},
        {BROKER(",\"security\":{\"type\":\"certificates\",\"pathToCACert\":\"/nowhere/ca.pem\"}"),
         "broker.security.pathToCACert", "file /nowhere/ca.pem cannot be read"},
        {BROKER(",\"sendDataOnlyOnChange\":true"), "broker.sendDataOnlyOnChange", "is a former key"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct loaded loaded = load(cases[i].text);

        only_problem(&loaded, CONF_WARNING, cases[i].path, cases[i].found);
        done(&loaded);
    }
}

static void test_spellings_of_version_and_port_are_understood(void **state)
{
    static const struct {
        const char *text;
        int version;
        unsigned port;
    } cases[] = {
        {BROKER(""), MQTT_5, 1883},
        {BROKER(",\"version\":3,\"port\":\"1884\""), MQTT_31, 1884},
        {BROKER(",\"version\":\"3\""), MQTT_31, 1883},
        {BROKER(",\"version\":3.1"), MQTT_31, 1883},
        {BROKER(",\"version\":\"3.1\""), MQTT_31, 1883},
        {BROKER(",\"version\":3.11"), MQTT_311, 1883},
        {BROKER(",\"version\":\"3.1.1\""), MQTT_311, 1883},
        {BROKER(",\"version\":4"), MQTT_311, 1883},
        {BROKER(",\"version\":\"4\""), MQTT_311, 1883},
        {BROKER(",\"version\":5"), MQTT_5, 1883},
        {BROKER(",\"version\":\"5.0\",\"port\":65535"), MQTT_5, 65535},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct loaded loaded = load(cases[i].text);

        assert_non_null(loaded.file);
        assert_int_equal(loaded.file->broker->version, cases[i].version);
        assert_int_equal(loaded.file->broker->port, cases[i].port);
        assert_int_equal(loaded.problems.n_errors, 0);
        done(&loaded);
    }
}

static void test_defaults_are_the_peers(void **state)
{
    struct loaded loaded = load(BROKER(""));
    const struct mqtt_broker *broker = loaded.file->broker;

    (void)state;
    assert_null(broker->client_id.p);
    assert_int_equal(broker->keep_alive_s, 60);
    assert_true(broker->clean_session);
    assert_true(broker->clean_start);
    assert_int_equal(broker->session_expiry_s, 0);
    assert_int_equal(broker->max_workers, 100);
    assert_int_equal(broker->max_queue, 1000000000);
    assert_non_null(broker->security);
    assert_false(broker->security->is_tls);
    assert_int_equal(loaded.problems.n_errors + loaded.problems.n_warnings, 0);
    done(&loaded);
}

static void test_wrong_values_are_told_and_have_the_effect_the_page_names(void **state)
{
    static const struct {
        const char *text, *path, *problem;
        bool is_refused;
    } cases[] = {
        {"{}", "broker", "missing", true},
        {"{\"broker\":{}}", "broker.host", "missing", true},
        {BROKER(",\"port\":0"), "broker.port", "0", true},
        {BROKER(",\"port\":\"abc\""), "broker.port", "abc", true},
        {BROKER(",\"version\":6"), "broker.version", "6", false},
        {BROKER(",\"maxNumberOfWorkers\":0"), "broker.maxNumberOfWorkers", "0", false},
        {BROKER(",\"security\":{\"type\":\"cert\"}"), "broker.security.type", "certificates", true},
        {BROKER(",\"security\":{\"type\":\"Basic\"}"), "broker.security.username", "missing", true},
        {BROKER(",\"security\":{\"type\":\"certificates\",\"pathToClientCert\":\"a\"}"),
         "broker.security.pathToPrivateKey", "missing", true},
        {"{\"brokers\":[],\"broker\":{\"host\":\"h\"}}", "brokers", "Java", true},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct loaded loaded = load(cases[i].text);

        only_problem(&loaded, CONF_ERROR, cases[i].path, cases[i].problem);
        assert_int_equal(loaded.file == NULL, cases[i].is_refused);
        if (loaded.file) {
            assert_int_equal(loaded.file->broker->version, MQTT_5);
            assert_int_equal(loaded.file->broker->max_workers, 100);
        }
        done(&loaded);
    }
}

#define INFO "\"deviceInfo\":{\"deviceNameExpressionSource\":\"constant\",\"deviceNameExpression\":\"D\"}"
#define GOOD "{\"topicFilter\":\"good\",\"converter\":{\"type\":\"json\"," INFO ",\"timeseries\":[\"*\"]}}"

static void test_a_wrong_entry_is_left_out_alone(void **state)
{
    static const struct {
        const char *entry, *path, *problem;
        enum severity severity;
    } cases[] = {
        {"{\"converter\":{\"type\":\"json\"," INFO ",\"timeseries\":[\"*\"]}}", "mapping[0].topicFilter", "missing",
         CONF_ERROR},
        {"{\"topicFilter\":\"a\"}", "mapping[0].converter", "missing", CONF_ERROR},
        {"{\"topicFilter\":\"a/#/b\",\"converter\":{\"type\":\"json\"," INFO ",\"timeseries\":[\"*\"]}}",
         "mapping[0].topicFilter", "a/#/b", CONF_ERROR},
        {"{\"topicFilter\":\"a\",\"converter\":{" INFO ",\"timeseries\":[\"*\"]}}", "mapping[0].converter.type",
         "missing", CONF_ERROR},
        {"{\"topicFilter\":\"a\",\"converter\":{\"type\":\"xml\"," INFO ",\"timeseries\":[\"*\"]}}",
         "mapping[0].converter.type", "xml", CONF_ERROR},
        {"{\"topicFilter\":\"a\",\"converter\":{\"type\":\"json\",\"timeseries\":[\"*\"]}}",
         "mapping[0].converter.deviceInfo", "missing", CONF_ERROR},
        {"{\"topicFilter\":\"a\",\"converter\":{\"type\":\"json\",\"deviceInfo\":{\"deviceNameExpression\":\"D\"},"
         "\"timeseries\":[\"*\"]}}",
         "mapping[0].converter.deviceInfo.deviceNameExpressionSource", "missing", CONF_ERROR},
        {"{\"topicFilter\":\"a\",\"converter\":{\"type\":\"json\",\"deviceInfo\":{\"deviceNameExpressionSource\":"
         "\"topic\","
         "\"deviceNameExpression\":\"(\"},\"timeseries\":[\"*\"]}}",
         "mapping[0].converter.deviceInfo.deviceNameExpression", "regular expression", CONF_ERROR},
        {"{\"topicFilter\":\"a\",\"converter\":{\"type\":\"custom\",\"extension\":\"X\",\"extensionConfig\":{\"a\":2}}"
         "}",
         "mapping[0]", "a class of an extension", CONF_WARNING},
        {"{\"topicFilter\":\"a\",\"converter\":{\"extension\":\"X\",\"sharedGlobal\":true,\"sharedId\":\"s\"}}",
         "mapping[0]", "a class of an extension", CONF_WARNING},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        autobuf struct buf text = {0};
        struct loaded loaded;

        buf_printf(&text, "{\"broker\":{\"host\":\"h\"},\"mapping\":[%s," GOOD "]}%c", cases[i].entry, 0);
        loaded = load((const char *)text.p);
        assert_non_null(loaded.file);
        only_problem(&loaded, CONF_WARNING, cases[i].path, cases[i].problem);
        assert_int_equal(loaded.problems.first->severity, cases[i].severity);
        assert_int_equal(loaded.file->plan->n_entries, 1);
        assert_true(str_eq_z(loaded.file->plan->entries[0].filter, "good"));
        done(&loaded);
    }
}

static void test_a_wrong_datapoint_is_left_out_alone(void **state)
{
    struct loaded loaded =
        load("{\"broker\":{\"host\":\"h\"},\"mapping\":[{\"topicFilter\":\"a\",\"converter\":{\"type\":\"json\"," INFO
             ",\"timeseries\":[{\"key\":\"a\",\"value\":\"${a[?(@.x)]}\"},{\"key\":\"b\",\"value\":\"${b}\"},{\"key\":"
             "\"c\"},"
             "{\"key\":\"(\",\"keySource\":\"topic\",\"value\":\"1\"},\"**\",5]}}]}");
    static const char *const paths[] = {"mapping[0].converter.timeseries[2].value",
                                        "mapping[0].converter.timeseries[4]", "mapping[0].converter.timeseries[5]",
                                        "mapping[0].converter.timeseries[0].value",
                                        "mapping[0].converter.timeseries[3].key"};
    size_t n = 0;

    (void)state;
    assert_non_null(loaded.file);
    for (const struct problem *p = loaded.problems.first; p; p = p->next, n++) {
        assert_true(n < COUNT_OF(paths));
        assert_string_equal(p->path, paths[n]);
    }
    assert_int_equal(n, COUNT_OF(paths));
    assert_int_equal(loaded.file->plan->entries[0].mapping->converter->timeseries.n, 1);
    done(&loaded);
}

static void test_tls_is_on_by_type_or_by_the_former_key(void **state)
{
    static const struct {
        const char *security, *ca;
        bool is_tls;
        unsigned n_warnings;
    } cases[] = {
        {"{\"type\":\"anonymous\"}", NULL, false, 0},
        {"{\"type\":\"CERTIFICATES\"}", NULL, true, 0},
        {"{\"type\":\"certificates\",\"pathToCACert\":\"/dev/null\"}", "/dev/null", true, 0},
        {"{\"caCert\":\"/dev/zero\"}", "/dev/zero", true, 0},
        {"{\"caCert\":\"/dev/zero\",\"pathToCACert\":\"/dev/null\"}", "/dev/null", true, 0},
        {"{\"type\":\"basic\",\"username\":\"u\",\"pathToCACert\":\"/dev/null\"}", "/dev/null", false, 1},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        autobuf struct buf text = {0};
        struct loaded loaded;

        buf_printf(&text, "{\"broker\":{\"host\":\"h\",\"security\":%s}}%c", cases[i].security, 0);
        loaded = load((const char *)text.p);
        assert_non_null(loaded.file);
        assert_int_equal(loaded.file->broker->security->is_tls, cases[i].is_tls);
        assert_int_equal(loaded.problems.n_warnings, cases[i].n_warnings);
        assert_int_equal(loaded.problems.n_errors, 0);
        if (cases[i].ca)
            assert_string_equal(loaded.file->broker->security->ca_file, cases[i].ca);
        else
            assert_null(loaded.file->broker->security->ca_file);
        done(&loaded);
    }
}

static void test_equal_filters_are_one_subscription_with_the_highest_quality(void **state)
{
    struct loaded loaded = load("{\"broker\":{\"host\":\"h\"},\"mapping\":[" GOOD
                                ",{\"topicFilter\":\"x\",\"subscriptionQos\":0,\"converter\":{\"type\":\"json\"," INFO
                                ",\"timeseries\":[\"*\"]}},"
                                "{\"topicFilter\":\"good\",\"subscriptionQos\":2,\"converter\":{\"type\":\"json\"," INFO
                                ",\"timeseries\":[\"*\"]}}],"
                                "\"requestsMapping\":{\"connectRequests\":[{\"topicFilter\":\"x\"," INFO
                                "},{\"topicFilter\":\"useless\"}]}}");
    const struct mqtt_plan *plan = loaded.file->plan;

    (void)state;
    assert_int_equal(plan->n_entries, 4);
    assert_int_equal(plan->n_filters, 2);
    assert_true(str_eq_z(plan->filters[0].filter, "good"));
    assert_int_equal(plan->filters[0].qos, 2);
    assert_true(str_eq_z(plan->filters[1].filter, "x"));
    assert_int_equal(plan->filters[1].qos, 1);
    only_problem(&loaded, CONF_WARNING, "requestsMapping.connectRequests[1].deviceInfo", "missing");
    done(&loaded);
}

static void test_request_sections_at_top_level_win(void **state)
{
    struct loaded loaded = load("{\"broker\":{\"host\":\"h\",\"name\":\"N\"},\"mapping\":[" GOOD
                                "],\"connectRequests\":[{\"topicFilter\":\"top\"," INFO
                                "}],\"requestsMapping\":{\"connectRequests\":[{\"topicFilter\":\"in\"," INFO
                                "}],\"disconnectRequests\":[{\"topicFilter\":\"off\"," INFO "}]}}");
    const struct request_lists *sections = &loaded.file->sections;

    (void)state;
    assert_int_equal(sections->connects.n, 1);
    assert_true(str_eq_z(((struct device_request *)sections->connects.items[0])->filter, "top"));
    assert_int_equal(sections->disconnects.n, 1);
    only_problem(&loaded, CONF_WARNING, "connectRequests", "top level");
    assert_true(str_eq_z(loaded.file->common.name, "N"));
    done(&loaded);
}

static void test_a_wrong_section_of_requests_is_left_out_alone(void **state)
{
    struct loaded loaded =
        load("{\"broker\":{\"host\":\"h\"},\"requestsMapping\":{\"attributeRequests\":[{\"topicFilter\":\"a\"," INFO
             ",\"attributeNameExpression\":\"${k}\",\"topicExpression\":\"t/"
             "${deviceName}\",\"valueExpression\":\"${attributeValue}\","
             "\"scope\":\"client\",\"qos\":1,\"retain\":true,\"answerMissing\":true}],\"attributeUpdates\":[{"
             "\"deviceNameFilter\":"
             "\".*\",\"attributeFilter\":\"r.*\",\"topicExpression\":\"t\",\"valueExpression\":\"${attributeValue}\"}],"
             "\"serverSideRpc\":[{\"type\":\"twoWay\",\"deviceNameFilter\":\"(\",\"methodFilter\":\"m\","
             "\"requestTopicExpression\":"
             "\"t\",\"valueExpression\":\"${params}\"},{\"deviceNameFilter\":\".*\",\"methodFilter\":\"m\","
             "\"requestTopicExpression\":\"t\",\"valueExpression\":\"${params}\",\"responseTopicExpression\":\"r\","
             "\"responseTimeout\":10,\"responseTopicQoS\":2}]}}");

    (void)state;
    only_problem(&loaded, CONF_ERROR, "requestsMapping.serverSideRpc[0].deviceNameFilter", "regular expression");
    assert_int_equal(loaded.file->sections.rpcs.n, 1);
    assert_non_null(((struct rpc_section *)loaded.file->sections.rpcs.items[0])->response_template);
    assert_int_equal(loaded.file->sections.attribute_requests.n, 1);
    assert_int_equal(loaded.file->sections.attribute_updates.n, 1);
    assert_int_equal(loaded.file->plan->n_filters, 1);
    assert_true(str_eq_z(loaded.file->plan->filters[0].filter, "a"));
    done(&loaded);
}

static void test_an_unknown_key_is_told_with_the_nearest_known_one(void **state)
{
    struct loaded loaded = load("{\"broker\":{\"host\":\"h\",\"keepalive\":5},\"mapping\":[" GOOD "]}");

    (void)state;
    only_problem(&loaded, CONF_WARNING, "broker.keepalive", "keepAlive");
    done(&loaded);
}

static void test_send_only_on_change_is_the_report_strategy(void **state)
{
    struct loaded loaded = load("{\"broker\":{\"host\":\"h\",\"sendDataOnlyOnChange\":true},\"mapping\":[" GOOD "]}");

    (void)state;
    assert_non_null(loaded.file->common.report_strategy);
    assert_int_equal(loaded.file->common.report_strategy->type, REPORT_ON_CHANGE);
    only_problem(&loaded, CONF_WARNING, "broker.sendDataOnlyOnChange", "reportStrategy");
    done(&loaded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_not_verified_or_not_done_is_said),
        cmocka_unit_test(test_spellings_of_version_and_port_are_understood),
        cmocka_unit_test(test_defaults_are_the_peers),
        cmocka_unit_test(test_wrong_values_are_told_and_have_the_effect_the_page_names),
        cmocka_unit_test(test_a_wrong_entry_is_left_out_alone),
        cmocka_unit_test(test_a_wrong_datapoint_is_left_out_alone),
        cmocka_unit_test(test_tls_is_on_by_type_or_by_the_former_key),
        cmocka_unit_test(test_equal_filters_are_one_subscription_with_the_highest_quality),
        cmocka_unit_test(test_request_sections_at_top_level_win),
        cmocka_unit_test(test_a_wrong_section_of_requests_is_left_out_alone),
        cmocka_unit_test(test_an_unknown_key_is_told_with_the_nearest_known_one),
        cmocka_unit_test(test_send_only_on_change_is_the_report_strategy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
