/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A received message through the MQTT connector's converters: topic, line feed, payload. Every event is encoded, and the
 * records must be sound. One converter for all inputs, as in a connector, so that caches and predictions are in play.
 */
#include "fuzz.h"

#include "conf/conf.h"
#include "mqtt/topic.h"
#include "mqtt_convert.h"

#define CONSTANT "\"deviceInfo\":{\"deviceNameExpressionSource\":\"constant\",\"deviceNameExpression\":\"D\"}"
static const char file_text[] =
    "{\"broker\":{\"host\":\"h\"},\"mapping\":["
    "{\"topicFilter\":\"j/"
    "#\",\"converter\":{\"type\":\"json\",\"deviceInfo\":{\"deviceNameExpressionSource\":\"message\","
    "\"deviceNameExpression\":\"D${n}\",\"deviceProfileExpressionSource\":\"topic\",\"deviceProfileExpression\":\"j/"
    "(.*)\"},"
    "\"attributes\":[{\"key\":\"a\",\"value\":\"${a}\"},{\"type\":\"string\",\"key\":\"${k}\",\"value\":\"${a} "
    "${b.c[0]}\"}],"
    "\"timeseries\":[{\"type\":\"double\",\"key\":\"t\",\"value\":\"${t}\",\"tsField\":\"${at}\"},{\"type\":\"int\","
    "\"key\":\"i\","
    "\"value\":\"${$..i}\"},{\"type\":\"bool\",\"key\":\"b\",\"value\":\"${b.*}\",\"tsField\":\"at2\",\"dayfirst\":"
    "true},"
    "{\"key\":\"l\",\"value\":\"${l[1:]}\"},{\"key\":\"[^/]+$\",\"keySource\":\"topic\",\"value\":\"${$}\"}]}},"
    "{\"topicFilter\":\"j/+\",\"converter\":{\"type\":\"json\"," CONSTANT
    ",\"attributes\":[\"*\"],\"timeseries\":[\"*\","
    "{\"key\":\"c\",\"value\":\"x\"}]}},"
    "{\"topicFilter\":\"e\",\"converter\":{\"type\":\"json\"," CONSTANT
    ",\"useEval\":true,\"timeseries\":[{\"type\":\"double\","
    "\"key\":\"e\",\"value\":\"${a}*2+${b}\"},{\"type\":\"int\",\"key\":\"m\",\"value\":\"max(${a}, ${b})\"}]}},"
    "{\"topicFilter\":\"b/+/"
    "x\",\"converter\":{\"type\":\"bytes\",\"deviceInfo\":{\"deviceNameExpressionSource\":\"topic\","
    "\"deviceNameExpression\":\"b/(.*)/x\"},\"attributes\":[{\"key\":\"k[0]\",\"value\":\"[1:]\",\"hexMode\":true}],"
    "\"timeseries\":[{\"key\":\"v\",\"value\":\"[:-1][2]x\"}]}}],"
    "\"requestsMapping\":{\"connectRequests\":[{\"topicFilter\":\"j/c\",\"deviceInfo\":{\"deviceNameExpressionSource\":"
    "\"message\",\"deviceNameExpression\":\"${n}\"}}],\"disconnectRequests\":[{\"topicFilter\":\"j/c\"," CONSTANT
    "}],\"attributeRequests\":[{\"topicFilter\":\"j/a\"," CONSTANT ",\"attributeNameExpression\":\"${k}, ${l[0]}\","
    "\"scope\":\"${s}\",\"topicExpression\":\"t/${attributeKey}\",\"valueExpression\":\"${attributeValue}\"}]}}";

struct fuzz {
    struct convert_out out;
    struct event event;
    struct batch_sink sink;
};
static struct fuzz fuzz;
static struct mqtt_converter *converter;

static struct event *begin(struct convert_out *out, struct device *dev, struct str profile)
{
    (void)out;
    event_begin(&fuzz.event, dev, profile);
    return &fuzz.event;
}

static void full(void *arg, struct batch *batch)
{
    uint32_t at = 0;

    (void)arg;
    while (at < batch->n_bytes) {
        FUZZ_CHECK(record_check(batch->bytes + at, batch->n_bytes - at) == ERR_OK);
        at += ((const struct record *)(const void *)(batch->bytes + at))->size;
    }
    batch_sink_reuse(&fuzz.sink, batch);
}

static enum err end(struct convert_out *out)
{
    static const struct event_limits limits = {.max_bytes = 4000, .max_values = 100};
    unsigned n;

    (void)out;
    return event_encode(&fuzz.event, 1, &limits, &fuzz.sink.sink, &n);
}

static void connect(struct convert_out *out, struct device *dev, struct str profile)
{
    (void)out;
    (void)profile;
    FUZZ_CHECK(dev);
}

static void disconnect(struct convert_out *out, struct device *dev)
{
    connect(out, dev, STR_NONE);
}

static void dropped(struct convert_out *out, const struct entry *entry, enum drop_cause cause, struct str topic,
                    struct str detail, uint64_t count)
{
    (void)out;
    (void)topic;
    (void)detail;
    FUZZ_CHECK(entry && count && drop_cause_text(cause)[0]);
}

static void ask(struct convert_out *out, const struct attribute_request *section, struct device *dev,
                const struct attribute_question *question)
{
    yyjson_doc *doc = json_read(STR("{\"a\":1,\"b\":\"x\",\"\":[null]}"), NULL);
    struct down_message message;
    struct arena arena;

    (void)out;
    FUZZ_CHECK(dev && question->n && question->n <= DOWN_NAMES_MAX);
    arena_init(&arena, 0);
    if (down_answer(section, device_name(dev), question, yyjson_doc_get_root(doc), &arena, &message, NULL) == ERR_OK)
        FUZZ_CHECK(topic_name_check(message.topic, NULL) == ERR_OK);
    arena_fini(&arena);
    yyjson_doc_free(doc);
}

static void begin_all(void)
{
    static struct problems problems; /* kept: the converter lives as long as the process */
    static struct conf *conf;

    problems_init(&problems);
    conf = conf_load_text(&mqtt_conf_type, ".", "fuzz", str_from(file_text), &problems);
    if (!conf)
        __builtin_trap();
    converter = mqtt_converter_new(((const struct mqtt_file *)conf_root(conf))->plan);
    fuzz.out = (struct convert_out){.begin = begin,
                                    .end = end,
                                    .connect = connect,
                                    .disconnect = disconnect,
                                    .dropped = dropped,
                                    .ask = ask,
                                    .is_verbose = true};
    event_init(&fuzz.event);
    batch_sink_init(&fuzz.sink, NULL, full, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str payload = str_of(data, size), topic;
    struct batch *batch;

    if (!converter)
        begin_all();
    if (!str_split(&payload, '\n', &topic))
        return 0;
    mqtt_convert(converter, &fuzz.out, topic, payload.p ? payload : STR(""), 1700000000000, 0, NULL);
    batch = batch_sink_take(&fuzz.sink);
    if (batch)
        full(NULL, batch);
    return 0;
}
