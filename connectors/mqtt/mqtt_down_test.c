/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "conf/conf.h"
#include "mqtt_down.h"

#include <stdio.h>

#define BROKER "{\"broker\":{\"host\":\"h\"},"
#define RPC(members) BROKER "\"serverSideRpc\":[{\"deviceNameFilter\":\".*\",\"methodFilter\":\".*\"," members "}]}"

struct loaded {
    struct problems problems;
    struct conf *conf;
    const struct mqtt_file *file;
    struct arena arena;
};

static struct loaded load(const char *text)
{
    struct loaded loaded = {.conf = NULL};

    problems_init(&loaded.problems);
    loaded.conf = conf_load_text(&mqtt_conf_type, ".", "test", str_from(text), &loaded.problems);
    assert_non_null(loaded.conf);
    loaded.file = conf_root(loaded.conf);
    arena_init(&loaded.arena, 4096);
    return loaded;
}

static void done(struct loaded *loaded)
{
    arena_fini(&loaded->arena);
    conf_unref(loaded->conf);
    problems_fini(&loaded->problems);
}

/* --- RPC ------------------------------------------------------------------------------------------------------------------ */

struct rpc_case {
    const char *file;
    const char *device, *method, *params; /* device NULL: a call to the connector */
    const char *topic, *payload;          /* topic NULL: an error */
    const char *response;                 /* topic of the response; or what the error says */
    unsigned qos, retain, response_qos, timeout_ms;
};

static void check_rpc(const struct rpc_case *c)
{
    struct loaded loaded = load(c->file);
    const struct rpc_call call = {
        .device = str_from(c->device), .method = str_from(c->method), .id = STR("7"), .params = str_from(c->params)};
    struct down_rpc down;
    struct why why = {0};
    enum err err = down_rpc(loaded.file, &call, &loaded.arena, &down, &why);

    if (!c->topic) {
        assert_int_not_equal(err, ERR_OK);
        if (!strstr(why_text(&why), c->response))
            fail_msg("%s %s: \"%s\" is not in: %s", c->method, c->params, c->response, why_text(&why));
    } else {
        if (err)
            fail_msg("%s %s: %s", c->method, c->params, why_text(&why));
        assert_true(str_eq_z(down.request.topic, c->topic));
        assert_true(str_eq_z(down.request.payload, c->payload));
        assert_int_equal(down.request.qos, c->qos);
        assert_int_equal(down.request.retain, c->retain);
        assert_true(str_eq(down.response_topic, str_from(c->response)));
        assert_int_equal(down.response_qos, c->response_qos);
        assert_int_equal(down.timeout_ms, c->timeout_ms);
    }
    done(&loaded);
}

#define PLAIN RPC("\"requestTopicExpression\":\"t/${deviceName}\",\"valueExpression\":\"${params}\"")
#define TWO_WAY                                                                                                        \
    RPC("\"requestTopicExpression\":\"t\",\"valueExpression\":\"${id}\",\"responseTopicExpression\":\"r/${params.x}\"" \
        ",\"responseTimeout\":300,\"responseTopicQoS\":2")

static void test_a_section_serves_devices_and_methods_its_filters_find(void **state)
{
    static const struct rpc_case cases[] = {
        {PLAIN, "D", "m", "{\"a\":1}", "t/D", "{\"a\":1}", NULL, 0, 0, 0, 0},
        {PLAIN, "D", "m", "", "t/D", "null", NULL, 0, 0, 0, 0},
        {TWO_WAY, "D", "m", "{\"x\":\"y\"}", "t", "7", "r/y", 0, 0, 2, 300},
        {BROKER "\"serverSideRpc\":[{\"deviceNameFilter\":\"^A\",\"methodFilter\":\"^go$\",\"requestTopicExpression\":"
                "\"t/${methodName}\",\"valueExpression\":\"${method}\",\"qos\":2,\"retain\":true}]}",
         "A1", "mqtt_go", "1", "t/mqtt_go", "\"mqtt_go\"", NULL, 2, 1, 0, 0},
        {BROKER "\"serverSideRpc\":[{\"deviceNameFilter\":\"^A\",\"methodFilter\":\"^go$\",\"requestTopicExpression\":"
                "\"t\",\"valueExpression\":\"1\"}]}",
         "A1", "mqtt_go_on", "1", NULL, NULL, "Method mqtt_go_on is not configured for device A1", 0, 0, 0, 0},
        {BROKER "\"mapping\":[]}", "D", "m", "1", NULL, NULL, "Method m is not configured for device D", 0, 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        check_rpc(&cases[i]);
}

static void test_get_and_set_bring_their_section_along(void **state)
{
    static const struct rpc_case cases[] = {
        {PLAIN, "D", "get", "\"requestTopicExpression=a/${deviceName};responseTopicExpression=b;value=${params}\"",
         "a/D", "\"requestTopicExpression=a/${deviceName};responseTopicExpression=b;value=${params}\"", "b", 0, 0, 1,
         5000},
        {PLAIN, "D", "mqtt_set", "\"requestTopicExpression=a; qos = 2 ;retain=true;value=x=y;;\"", "a", "x=y", NULL, 2,
         1, 0, 0},
        {PLAIN, "D", "set",
         "\"requestTopicExpression=a;value=1;responseTopicExpression=b;responseTimeout=70;responseTopicQoS=0\"", "a",
         "1", "b", 0, 0, 0, 70},
        {PLAIN, "D", "set", "\"requestTopicExpression=a;value=1;responseTopicExpression=b;responseTimeout=0\"", "a",
         "1", NULL, 0, 0, 0, 0},
        {PLAIN, "D", "set", "\"value=1\"", NULL, NULL, "requestTopicExpression is missing", 0, 0, 0, 0},
        {PLAIN, "D", "set", "\"requestTopicExpression=a\"", NULL, NULL, "value is missing", 0, 0, 0, 0},
        {PLAIN, "D", "set", "\"requestTopicExpression=a;nonsense;value=1\"", NULL, NULL, "no '='", 0, 0, 0, 0},
        {PLAIN, "D", "set", "\"requestTopicExpression=a;value=1;qos=3\"", NULL, NULL, "qos \"3\"", 0, 0, 0, 0},
        {PLAIN, "D", "set", "\"requestTopicExpression=a;value=1;retain=x\"", NULL, NULL, "retain \"x\"", 0, 0, 0, 0},
        {PLAIN, "D", "set", "\"requestTopicExpression=a;value=1;responseTopicExpression=b;responseTimeout=soon\"", NULL,
         NULL, "milliseconds", 0, 0, 0, 0},
        {PLAIN, "D", "get", "{\"a\":1}", NULL, NULL, "text: key=value;", 0, 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        check_rpc(&cases[i]);
}

static void test_a_call_to_the_connector_is_its_own_section(void **state)
{
    static const struct rpc_case cases[] = {
        {PLAIN, NULL, "mqtt_x",
         "{\"requestTopicExpression\":\"a/${params.qos}\",\"valueExpression\":\"${params.n}\",\"n\":5,\"qos\":1,"
         "\"retain\":true,\"responseTopicExpression\":\"b\",\"responseTimeout\":20}",
         "a/1", "5", "b", 1, 1, 1, 20},
        {PLAIN, NULL, "x", "{\"requestTopicExpression\":\"a\",\"value\":7,\"responseTopicExpression\":\"b\"}", "a", "7",
         NULL, 0, 0, 1, 0},
        {PLAIN, NULL, "get", "\"requestTopicExpression=a;value=1\"", "a", "1", NULL, 0, 0, 0, 0},
        {PLAIN, NULL, "x", "[1]", NULL, NULL, "an object", 0, 0, 0, 0},
        {PLAIN, NULL, "x", "{\"requestTopicExpression\":\"${deviceName}\",\"value\":1}", NULL, NULL,
         "${deviceName} has no value", 0, 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct rpc_case c = cases[i];

        if (c.topic && !c.response)
            c.response_qos = 0;
        check_rpc(&c);
    }
}

static void test_a_topic_that_nobody_may_publish_to_is_an_error(void **state)
{
#define IN_TOPIC RPC("\"requestTopicExpression\":\"t/${params}\",\"valueExpression\":\"1\"")
#define AS_TOPIC RPC("\"requestTopicExpression\":\"${params}\",\"valueExpression\":\"1\"")
    static const struct rpc_case cases[] = {
        {IN_TOPIC, "D", "m", "\"a+b\"", NULL, NULL, "contains a wildcard", 0, 0, 0, 0},
        {IN_TOPIC, "D", "m", "\"#\"", NULL, NULL, "contains a wildcard", 0, 0, 0, 0},
        {IN_TOPIC, "D", "m", "\"a\\u0000b\"", NULL, NULL, "U+0000", 0, 0, 0, 0},
        {AS_TOPIC, "D", "m", "\"\"", NULL, NULL, "empty", 0, 0, 0, 0},
        {IN_TOPIC, "D", "m", "null", NULL, NULL, "${params} has no value", 0, 0, 0, 0},
        {IN_TOPIC, "D", "m", "", NULL, NULL, "${params} has no value", 0, 0, 0, 0},
        {IN_TOPIC, "D+", "m", "\"ok\"", "t/ok", "1", NULL, 0, 0, 0, 0},
        {PLAIN, "D+", "m", "1", NULL, NULL, "contains a wildcard", 0, 0, 0, 0},
        {TWO_WAY, "D", "m", "{\"x\":\"#\"}", NULL, NULL, "response", 0, 0, 0, 0},
        {TWO_WAY, "D", "m", "{}", NULL, NULL, "response topic: ${params.x} has no value", 0, 0, 0, 0},
        {RPC("\"requestTopicExpression\":\"t\",\"valueExpression\":\"1\",\"responseTopicExpression\":\"${params}\","
             "\"responseTimeout\":5"),
         "D", "m", "\"$share/g/t\"", NULL, NULL, "$share/", 0, 0, 0, 0},
        {PLAIN, "D", "m", "{\"a\":", NULL, NULL, "parameters", 0, 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        check_rpc(&cases[i]);
}

static void test_a_response_is_json_or_text(void **state)
{
    static const struct {
        struct str payload;
        const char *json;
    } cases[] = {{{"{\"a\": 1e5}", 10}, "{\"a\": 1e5}"},
                 {{"it's", 4}, "\"it's\""},
                 {{"", 0}, "\"\""},
                 {{"5", 1}, "5"},
                 {{"a\377b", 3}, "\"ab\""},
                 {{"{'a':1}", 7}, "\"{'a':1}\""}};
    struct arena arena;

    (void)state;
    arena_init(&arena, 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_true(str_eq_z(down_response(cases[i].payload, &arena), cases[i].json));
    assert_true(str_eq_z(down_error(STR("no \"x\""), &arena), "{\"error\":\"no \\\"x\\\"\",\"success\":false}"));
    arena_fini(&arena);
}

/* --- attributes -------------------------------------------------------------------------------------------------------------- */

struct heard {
    struct down_out out;
    char text[512];
    size_t n;
};

static void hear(struct down_out *out, const struct down_message *message)
{
    struct heard *heard = CONTAINER_OF(out, struct heard, out);

    heard->n += (size_t)snprintf(heard->text + heard->n, sizeof heard->text - heard->n, STR_FMT "=" STR_FMT " ",
                                 STR_ARG(message->topic), STR_ARG(message->payload));
}

static void hear_failure(struct down_out *out, struct str key, const struct why *why)
{
    struct heard *heard = CONTAINER_OF(out, struct heard, out);

    heard->n += (size_t)snprintf(heard->text + heard->n, sizeof heard->text - heard->n, "!" STR_FMT " ", STR_ARG(key));
    assert_true(strlen(why_text(why)) > 0);
}

static void test_every_section_publishes_each_attribute_it_matches(void **state)
{
    struct loaded loaded =
        load(BROKER "\"attributeUpdates\":["
                    "{\"deviceNameFilter\":\"P\",\"attributeFilter\":\"set\",\"topicExpression\":\"a/${attributeKey}\","
                    "\"valueExpression\":\"${attributeValue}\"},"
                    "{\"deviceNameFilter\":\".*1\",\"attributeFilter\":\"setB|deleted\",\"topicExpression\":\"b\","
                    "\"valueExpression\":\"${attributeValue}\"},"
                    "{\"deviceNameFilter\":\"X\",\"attributeFilter\":\".*\",\"topicExpression\":\"c\","
                    "\"valueExpression\":\"1\"}]}");
    struct heard heard = {.out = {hear, hear_failure}};
    yyjson_doc *doc = json_read(STR("{\"setB\":true,\"other\":1,\"setA\":\"x\",\"set+\":2,\"deleted\":[\"q\"]}"), NULL);

    (void)state;
    assert_int_equal(down_attributes(loaded.file, STR("P1"), yyjson_doc_get_root(doc), &loaded.arena, &heard.out), 2);
    assert_string_equal(heard.text, "a/setB=true a/setA=x !set+ b=true b=[\"q\"] ");
    assert_int_equal(down_attributes(loaded.file, STR("Z"), yyjson_doc_get_root(doc), &loaded.arena, &heard.out), 0);
    yyjson_doc_free(doc);
    done(&loaded);
}

static void add_key(void *arg, struct str key)
{
    buf_add_str(arg, key);
    buf_add_u8(arg, ' ');
}

static void test_plain_filters_are_the_shared_attributes_to_be_fetched(void **state)
{
#define UPDATE(device, attribute)                                                                                      \
    "{\"deviceNameFilter\":\"" device "\",\"attributeFilter\":\"" attribute                                            \
    "\",\"topicExpression\":\"t\",\"valueExpression\":\"1\"}"
    struct loaded loaded =
        load(BROKER "\"attributeUpdates\":[" UPDATE("P", "limit") "," UPDATE(".*", "mode") "," UPDATE("Q", "x.*") "]}");
    autobuf struct buf keys = {0};

    (void)state;
    assert_false(down_shared_keys(loaded.file, STR("P1"), add_key, &keys));
    assert_true(str_eq_z(buf_str(&keys), "limit mode "));
    keys.n = 0;
    assert_true(down_shared_keys(loaded.file, STR("Q"), add_key, &keys));
    assert_true(str_eq_z(buf_str(&keys), "mode "));
    done(&loaded);
}

#define ASK(members)                                                                                                   \
    BROKER "\"attributeRequests\":[{\"topicFilter\":\"ask/+\",\"deviceInfo\":{\"deviceNameExpressionSource\":"         \
           "\"constant\",\"deviceNameExpression\":\"D\"},\"topicExpression\":\"t/${deviceName}/${attributeKey}\","     \
           "\"valueExpression\":\"${attributeKey}=${attributeValue}\"," members "}]}"

static void test_names_come_from_the_message_a_constant_or_the_topic(void **state)
{
    static const struct {
        const char *file, *payload, *names; /* names NULL: none */
        bool is_client;
    } cases[] = {
        {ASK("\"attributeNameExpression\":\"${k}, ${l}\""), "{\"k\":\"a\",\"l\":\"b\"}", "a,b", false},
        {ASK("\"attributeNameExpression\":\"${k}, ${l}\""), "{\"l\":\"b\"}", "b", false},
        {ASK("\"attributeNameExpression\":\"${k}\""), "{\"k\":[\"a\",\"\",5,null,\"a\",\"b\"]}", "a,5,b", false},
        {ASK("\"attributeNameExpression\":\"${k}\""), "{\"x\":1}", NULL, false},
        {ASK("\"attributeNameExpression\":\"${k}\""), NULL, NULL, false},
        {ASK("\"attributeNameExpression\":\"a b\",\"attributeNameExpressionSource\":\"constant\""), NULL, "a b", false},
        {ASK("\"attributeNameExpression\":\"[^/]+$\",\"attributeNameExpressionSource\":\"topic\",\"scope\":"
             "\"client\""),
         NULL, "limit", true},
        {ASK("\"attributeNameExpression\":\"${k}\",\"scope\":\"${s}\""), "{\"k\":\"a\",\"s\":\"client\"}", "a", true},
        {ASK("\"attributeNameExpression\":\"${k}\",\"scope\":\"${s}\""), "{\"k\":\"a\",\"s\":\"both\"}", NULL, true},
        {ASK("\"attributeNameExpression\":\"${k}\",\"scope\":\"${s}\""), "{\"k\":\"a\"}", NULL, true},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct loaded loaded = load(cases[i].file);
        const struct attribute_request *section = loaded.file->sections.attribute_requests.items[0];
        yyjson_doc *doc = cases[i].payload ? json_read(str_from(cases[i].payload), NULL) : NULL;
        struct attribute_question question;
        autobuf struct buf names = {0};
        enum err err = down_question(section, STR("ask/limit"), yyjson_doc_get_root(doc), &loaded.arena, &question);

        assert_int_equal(err == ERR_OK, cases[i].names != NULL);
        for (size_t k = 0; !err && k < question.n; k++) {
            if (k)
                buf_add_u8(&names, ',');
            buf_add_str(&names, question.names[k]);
        }
        if (!err) {
            assert_true(str_eq_z(buf_str(&names), cases[i].names));
            assert_int_equal(question.is_client, cases[i].is_client);
        }
        yyjson_doc_free(doc);
        done(&loaded);
    }
}

static void test_names_of_a_hostile_message_are_bounded(void **state)
{
    struct loaded loaded = load(ASK("\"attributeNameExpression\":\"${k}\""));
    autobuf struct buf text = {0};
    struct attribute_question question;
    yyjson_doc *doc;

    (void)state;
    buf_add_z(&text, "{\"k\":[\"");
    for (unsigned i = 0; i < 300; i++)
        buf_add_u8(&text, 'x'); /* too long for a name */
    buf_add_z(&text, "\"");
    for (unsigned i = 0; i < 100000; i++)
        buf_printf(&text, ",%u", i);
    buf_add_z(&text, "]}");
    doc = json_read(buf_str(&text), NULL);
    assert_int_equal(down_question(loaded.file->sections.attribute_requests.items[0], STR("ask/x"),
                                   yyjson_doc_get_root(doc), &loaded.arena, &question),
                     ERR_OK);
    assert_int_equal(question.n, DOWN_NAMES_MAX);
    assert_true(str_eq_z(question.names[0], "0"));
    yyjson_doc_free(doc);
    done(&loaded);
}

static void test_an_answer_has_one_value_or_all_of_them(void **state)
{
#define ONE ASK("\"attributeNameExpression\":\"${k}\"")
#define ONE_OR_NULL ASK("\"attributeNameExpression\":\"${k}\",\"answerMissing\":true")
    static const struct {
        const char *file, *names, *values, *topic, *payload; /* topic NULL: silence */
    } cases[] = {
        {ONE, "a", "{\"a\":\"x\"}", "t/D/a", "a=\"x\""},
        {ONE, "a", "{\"a\":{\"b\":[1]}}", "t/D/a", "a={\"b\":[1]}"},
        {ONE, "a", "{}", NULL, NULL},
        {ONE, "a", "{\"a\":null}", NULL, NULL},
        {ONE, "a+", "{\"a+\":1}", NULL, NULL},
        {ONE_OR_NULL, "a", "{}", "t/D/a", "a=null"},
        {ONE, "a,b", "{\"b\":2,\"a\":1,\"c\":3}", "t/D/a,b", "{\"a\":1,\"b\":2}"},
        {ONE, "a,b", "{\"b\":2}", "t/D/a,b", "{\"b\":2}"},
        {ONE, "a,b", "{}", NULL, NULL},
        {ONE_OR_NULL, "a,b", "{\"b\":2}", "t/D/a,b", "{\"a\":null,\"b\":2}"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct loaded loaded = load(cases[i].file);
        yyjson_doc *doc = json_read(str_from(cases[i].values), NULL);
        struct str rest = str_from(cases[i].names), names[2] = {STR_NONE};
        struct attribute_question question = {false, names, 0};
        struct down_message message;
        struct why why = {0};
        enum err err;

        while (question.n < 2 && str_split(&rest, ',', &names[question.n]))
            question.n++;
        err = down_answer(loaded.file->sections.attribute_requests.items[0], STR("D"), &question,
                          yyjson_doc_get_root(doc), &loaded.arena, &message, &why);
        assert_int_equal(err == ERR_OK, cases[i].topic != NULL);
        if (!err) {
            assert_true(str_eq_z(message.topic, cases[i].topic));
            assert_true(str_eq_z(message.payload, cases[i].payload));
        }
        yyjson_doc_free(doc);
        done(&loaded);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_section_serves_devices_and_methods_its_filters_find),
        cmocka_unit_test(test_get_and_set_bring_their_section_along),
        cmocka_unit_test(test_a_call_to_the_connector_is_its_own_section),
        cmocka_unit_test(test_a_topic_that_nobody_may_publish_to_is_an_error),
        cmocka_unit_test(test_a_response_is_json_or_text),
        cmocka_unit_test(test_every_section_publishes_each_attribute_it_matches),
        cmocka_unit_test(test_plain_filters_are_the_shared_attributes_to_be_fetched),
        cmocka_unit_test(test_names_come_from_the_message_a_constant_or_the_topic),
        cmocka_unit_test(test_names_of_a_hostile_message_are_bounded),
        cmocka_unit_test(test_an_answer_has_one_value_or_all_of_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
