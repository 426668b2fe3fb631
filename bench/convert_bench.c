/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPU of one message of performance.md 1.2 in the MQTT connector: topic, JSON, ten values, record in a batch; without sockets,
 * store and platform.   convert_bench [messages] [devices]
 */
#include "base/clock.h"
#include "conf/conf.h"
#include "mqtt_convert.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const char file_text[] =
    "{\"broker\":{\"host\":\"127.0.0.1\"},\"mapping\":[{\"topicFilter\":\"sensors/+/"
    "data\",\"converter\":{\"type\":\"json\","
    "\"deviceInfo\":{\"deviceNameExpressionSource\":\"topic\",\"deviceNameExpression\":\"(?<=sensors/)(.*?)(?=/data)\","
    "\"deviceProfileExpressionSource\":\"constant\",\"deviceProfileExpression\":\"bench\"},\"timeseries\":["
    "{\"type\":\"integer\",\"key\":\"seq\",\"value\":\"${seq}\"},{\"type\":\"integer\",\"key\":\"sent\",\"value\":\"${"
    "sent}\"},"
    "{\"type\":\"double\",\"key\":\"temperature\",\"value\":\"${temperature}\"},"
    "{\"type\":\"double\",\"key\":\"humidity\",\"value\":\"${humidity}\"},"
    "{\"type\":\"double\",\"key\":\"pressure\",\"value\":\"${pressure}\"},"
    "{\"type\":\"double\",\"key\":\"voltage\",\"value\":\"${voltage}\"},"
    "{\"type\":\"double\",\"key\":\"current\",\"value\":\"${current}\"},"
    "{\"type\":\"integer\",\"key\":\"rpm\",\"value\":\"${rpm}\"},{\"type\":\"boolean\",\"key\":\"running\",\"value\":"
    "\"${running}\"},"
    "{\"type\":\"string\",\"key\":\"state\",\"value\":\"${state}\"}]}}]}";

struct bench {
    struct convert_out out;
    struct event event;
    struct batch_sink sink;
    uint64_t n_bytes;
};

static struct event *begin(struct convert_out *out, struct device *dev, struct str profile)
{
    struct bench *bench = CONTAINER_OF(out, struct bench, out);

    event_begin(&bench->event, dev, profile);
    return &bench->event;
}

static enum err end(struct convert_out *out)
{
    static const struct event_limits limits;
    struct bench *bench = CONTAINER_OF(out, struct bench, out);
    unsigned n;
    enum err err = event_encode(&bench->event, 0, &limits, &bench->sink.sink, &n);

    batch_sink_begin(&bench->sink);
    return err;
}

static void dropped(struct convert_out *out, const struct entry *entry, enum drop_cause cause, struct str topic,
                    struct str detail, uint64_t count)
{
    (void)out;
    (void)entry;
    (void)count;
    fprintf(stderr, "%s: " STR_FMT " " STR_FMT "\n", drop_cause_text(cause), STR_ARG(topic), STR_ARG(detail));
}

static void full(void *arg, struct batch *batch)
{
    struct bench *bench = arg;

    bench->n_bytes += batch->n_bytes;
    batch_sink_reuse(&bench->sink, batch);
}

int main(int argc, char **argv)
{
    enum { N_TEXTS = 1000 };
    unsigned n = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 2000000,
             n_devices = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 1000;
    struct bench bench = {.out = {.begin = begin, .end = end, .dropped = dropped}};
    struct problems problems;
    struct conf *conf;
    struct mqtt_converter *converter;
    static char topics[N_TEXTS][40], payloads[N_TEXTS][300];
    clock_t before;
    double ns;

    problems_init(&problems);
    conf = conf_load_text(&mqtt_conf_type, ".", "bench", str_from(file_text), &problems);
    if (!conf)
        return 1;
    converter = mqtt_converter_new(((const struct mqtt_file *)conf_root(conf))->plan);
    event_init(&bench.event);
    batch_sink_init(&bench.sink, NULL, full, &bench);
    for (unsigned i = 0; i < N_TEXTS; i++) {
        snprintf(topics[i], sizeof topics[i], "sensors/dev%05u/data", i % (n_devices ? n_devices : 1));
        snprintf(payloads[i], sizeof payloads[i],
                 "{\"ts\":%" PRIu64
                 ",\"seq\":%u,\"sent\":%u,\"temperature\":%u.35,\"humidity\":45.2,\"pressure\":1001.22,"
                 "\"voltage\":228.4,\"current\":7.123,\"rpm\":1480,\"running\":true,\"state\":\"RUN\"}",
                 (uint64_t)1700000000000 + i, i, 123456789 + i, 20 + i % 10);
    }
    before = clock();
    for (unsigned i = 0; i < n; i++) {
        unsigned k = i % N_TEXTS;

        mqtt_convert(converter, &bench.out, str_from(topics[k]), str_from(payloads[k]), 0, 0, NULL);
    }
    ns = (double)(clock() - before) / CLOCKS_PER_SEC * 1e9 / n;
    printf("{\"messages\":%u,\"devices\":%u,\"ns_per_message\":%.0f,\"bytes_per_record\":%.0f}\n", n, n_devices, ns,
           (double)bench.n_bytes / n);
    batch_sink_fini(&bench.sink);
    event_fini(&bench.event);
    mqtt_converter_free(converter);
    conf_unref(conf);
    problems_fini(&problems);
    return 0;
}
