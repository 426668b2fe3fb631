/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the platform says, through the MQTT connector's downlink: device, line feed, method, line feed, parameters as JSON
 * (or what should be). No topic may come out that nobody may publish to, and every answer must be JSON.
 */
#include "fuzz.h"

#include "conf/conf.h"
#include "mqtt/topic.h"
#include "mqtt_down.h"

static const char file_text[] =
    "{\"broker\":{\"host\":\"h\"},\"serverSideRpc\":["
    "{\"deviceNameFilter\":\"^a\",\"methodFilter\":\"m\",\"requestTopicExpression\":\"t/${deviceName}/${params.x}\","
    "\"valueExpression\":\"{\\\"a\\\":${params.y[0]},\\\"id\\\":${requestId},\\\"m\\\":${method}}\","
    "\"responseTopicExpression\":\"r/${params.z}\",\"responseTimeout\":10},"
    "{\"deviceNameFilter\":\".*\",\"methodFilter\":\".*\",\"requestTopicExpression\":\"${params}\","
    "\"valueExpression\":\"${params}\"}],"
    "\"attributeUpdates\":[{\"deviceNameFilter\":\".*\",\"attributeFilter\":\".*\",\"topicExpression\":"
    "\"u/${deviceName}/${attributeKey}/"
    "${attributeValue}\",\"valueExpression\":\"{${attributeKey}:${attributeValue}}\"}]}";

static const struct mqtt_file *file;

static void check_message(const struct down_message *message)
{
    FUZZ_CHECK(topic_name_check(message->topic, NULL) == ERR_OK);
    FUZZ_CHECK(message->qos <= 2);
}

static void publish(struct down_out *out, const struct down_message *message)
{
    (void)out;
    check_message(message);
}

static void failed(struct down_out *out, struct str key, const struct why *why)
{
    (void)out;
    (void)key;
    FUZZ_CHECK(why_text(why)[0]);
}

static void check_json(struct str text)
{
    yyjson_doc *doc = json_read(text, NULL);

    FUZZ_CHECK(doc);
    yyjson_doc_free(doc);
}

static void begin_all(void)
{
    static struct problems problems; /* kept as long as the process */
    static struct conf *conf;

    problems_init(&problems);
    conf = conf_load_text(&mqtt_conf_type, ".", "fuzz", str_from(file_text), &problems);
    if (!conf)
        __builtin_trap();
    file = conf_root(conf);
}

static void call(struct str device, struct str method, struct str params, struct arena *arena)
{
    const struct rpc_call rpc = {.device = device, .method = method, .id = STR("7"), .params = params};
    struct down_rpc down;
    struct why why = {0};

    if (down_rpc(file, &rpc, arena, &down, &why) != ERR_OK) {
        check_json(down_error(str_from(why_text(&why)), arena));
        return;
    }
    check_message(&down.request);
    if (!down.response_topic.p)
        return;
    FUZZ_CHECK(topic_name_check(down.response_topic, NULL) == ERR_OK);
    FUZZ_CHECK(down.timeout_ms > 0 && down.response_qos <= 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = str_of(data, size), device, method;
    struct down_out out = {publish, failed};
    struct arena arena;
    yyjson_doc *doc;

    if (!file)
        begin_all();
    if (!str_split(&rest, '\n', &device) || !str_split(&rest, '\n', &method) || !rest.p)
        return 0;
    arena_init(&arena, 4096);
    call(device, method, rest, &arena);
    call(STR_NONE, method, rest, &arena);
    check_json(down_response(rest, &arena));
    doc = json_read(rest, NULL);
    if (doc)
        (void)down_attributes(file, device, yyjson_doc_get_root(doc), &arena, &out);
    yyjson_doc_free(doc);
    arena_fini(&arena);
    return 0;
}
