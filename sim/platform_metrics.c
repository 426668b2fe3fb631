/* SPDX-License-Identifier: Apache-2.0 */
/* What metadata in telemetry says of a gateway: per connector, how long values took to be published and to arrive. */
#include "platform.h"

#include "base/clock.h"
#include "data/json.h"

#include <assert.h>

enum { METRICS_MS = 60000, LAST_MAX = 1024 };

struct span {
    int64_t sum, min, max;
};

struct metrics { /* of a connector, since they were last written */
    uint64_t n;
    struct span gateway, transport;
    struct buf last; /* metadata as it came */
    size_t name_n;
    char name[];
};

static void span_add(struct span *span, int64_t ms, bool is_first)
{
    if (is_first)
        *span = (struct span){.min = ms, .max = ms};
    span->sum += ms;
    span->min = ms < span->min ? ms : span->min;
    span->max = ms > span->max ? ms : span->max;
}

static void add_span(struct buf *out, const struct metrics *metrics, const char *of, const struct span *span)
{
    buf_printf(out, "\"avg%sLatency\":%lld,\"min%sLatency\":%lld,\"max%sLatency\":%lld", of,
               (long long)(metrics->n ? span->sum / (int64_t)metrics->n : 0), of, (long long)span->min, of,
               (long long)span->max);
}

static void write_metrics(void *arg)
{
    struct platform *platform = arg;
    autobuf struct buf json = {0};
    yyjson_doc *doc;

    buf_add_z(&json, "{\"gatewayMetrics\":{");
    for (struct map_slot *slot = NULL; (slot = map_next(&platform->metrics, slot));) {
        struct metrics *metrics = slot->value;

        if (!metrics->n)
            continue;
        if (json.p[json.n - 1] != '{')
            buf_add_u8(&json, ',');
        json_add_string(&json, slot->key);
        buf_add_z(&json, ":{");
        add_span(&json, metrics, "Gw", &metrics->gateway);
        buf_add_u8(&json, ',');
        add_span(&json, metrics, "Transport", &metrics->transport);
        buf_add_u8(&json, '}');
        metrics->n = 0;
    }
    buf_add_z(&json, "}}");
    doc = yyjson_read((char *)json.p, json.n, TALLY_READ);
    assert(doc);
    platform->n_own_values += tally_keep(&platform->own_telemetry, clock_wall_ms(), yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
}

static struct metrics *metrics_of(struct platform *platform, struct str name)
{
    struct metrics *metrics = map_get(&platform->metrics, name);

    if (metrics)
        return metrics;
    if (!platform->metrics.n) {
        timer_init(&platform->metrics_timer, platform->loop, write_metrics, platform);
        timer_start_periodic(&platform->metrics_timer, METRICS_MS, METRICS_MS);
    }
    metrics = mem_zero(sizeof *metrics + name.n);
    metrics->name_n = name.n;
    if (name.n)
        memcpy(metrics->name, name.p, name.n);
    map_put(&platform->metrics, str_of(metrics->name, name.n), metrics);
    return metrics;
}

static bool read_ms(yyjson_val *value, int64_t *out)
{
    return yyjson_is_raw(value) && !str_to_i64(str_of(yyjson_get_raw(value), yyjson_get_len(value)), out);
}

void platform_metrics_take(struct platform *platform, yyjson_val *metadata)
{
    yyjson_val *connector = yyjson_obj_get(metadata, "connector");
    struct str name =
        yyjson_is_str(connector) ? str_of(yyjson_get_str(connector), yyjson_get_len(connector)) : STR("?");
    struct metrics *metrics = metrics_of(platform, name);
    int64_t received_ms, published_ms;

    if (!read_ms(yyjson_obj_get(metadata, "receivedTs"), &received_ms) ||
        !read_ms(yyjson_obj_get(metadata, "publishedTs"), &published_ms))
        return;
    span_add(&metrics->gateway, published_ms - received_ms, metrics->n == 0);
    span_add(&metrics->transport, clock_wall_ms() - published_ms, metrics->n == 0);
    metrics->n++;
    metrics->last.n = 0;
    json_add_value(&metrics->last, metadata);
}

void platform_metrics_add(struct platform *platform, struct buf *out)
{
    write_metrics(platform);
    buf_add_z(out, "\"metadata\":{");
    for (struct map_slot *slot = NULL; (slot = map_next(&platform->metrics, slot));) {
        const struct metrics *metrics = slot->value;

        if (!metrics->last.n)
            continue;
        if (out->p[out->n - 1] != '{')
            buf_add_u8(out, ',');
        json_add_string(out, slot->key);
        buf_add_u8(out, ':');
        buf_add_str(out, buf_str(&metrics->last));
    }
    buf_add_u8(out, '}');
}

void platform_metrics_reset(struct platform *platform)
{
    if (platform->metrics.n)
        timer_stop(&platform->metrics_timer);
    for (struct map_slot *slot = NULL; (slot = map_next(&platform->metrics, slot));) {
        struct metrics *metrics = slot->value;

        buf_fini(&metrics->last);
        mem_free(metrics);
    }
    map_fini(&platform->metrics);
    platform->metrics = (struct map){0};
}
