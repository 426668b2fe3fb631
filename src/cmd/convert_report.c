/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/convert_vectors.h"
#include "conf/conf.h"
#include "connector/report.h"

/*
 * What the report filter sends of given events (core.md 7.4), by the filter that the running gateway uses, on a clock that
 * is only counted: no waiting.
 */
struct points_conf {
    struct conf_map timeseries, attributes;
};
struct levels_conf {
    const struct report_strategy *main, *connector;
    struct conf_map devices;
    struct points_conf *points;
};
struct dry_conf {
    struct levels_conf *levels;
};

static const struct field points_fields[] = {F_MAP(struct points_conf, timeseries, "timeseries", &report_strategy_type),
                                             F_MAP(struct points_conf, attributes, "attributes", &report_strategy_type),
                                             F_END};
static const struct conf_type points_type = {
    .name = "reportStrategy.points", .size = sizeof(struct points_conf), .fields = points_fields};
static const struct field levels_fields[] = {
    F_OBJECT(struct levels_conf, main, "main", &report_strategy_type, .skip = true),
    F_OBJECT(struct levels_conf, connector, "connector", &report_strategy_type, .skip = true),
    F_MAP(struct levels_conf, devices, "devices", &report_strategy_type),
    F_OBJECT(struct levels_conf, points, "points", &points_type, .always = true), F_END};
static const struct conf_type levels_type = {
    .name = "reportStrategy", .size = sizeof(struct levels_conf), .fields = levels_fields};
static const struct field dry_fields[] = {
    F_OBJECT(struct dry_conf, levels, "reportStrategy", &levels_type, .always = true), F_END};
static const struct conf_type dry_type = {
    .name = "core", .size = sizeof(struct dry_conf), .fields = dry_fields, .any_keys = true};

struct dry {
    const struct levels_conf *levels;
    struct report_outer outer;
    struct report *report;
    struct event event;
    struct buf *out;
    unsigned n_sent;
};

enum {
    START_MS = 1000000, /* of the counted clock: no time before the first event is negative */
    SENT_MAX = 100000   /* a vector of an endless time ends there */
};

static const struct report_strategy *find(const struct conf_map *map, struct str name)
{
    for (size_t i = 0; i < map->n; i++)
        if (str_eq(map->items[i].key, name))
            return map->items[i].value;
    return NULL;
}

/* --- answers --------------------------------------------------------------------------------------------------------- */

static void add_member(struct buf *out, const struct event_item *item, bool is_first)
{
    if (!is_first)
        buf_add_u8(out, ',');
    buf_add_str(out, item->key); /* with quotes and colon */
    buf_add_str(out, item->text);
}

static void add_entries(struct buf *out, const struct event *event)
{
    bool is_open = false;
    int64_t ts = 0;

    for (size_t i = 0; i < event->n; i++) {
        const struct event_item *item = &event->items[i];
        bool is_new = !is_open || item->ts != ts;

        if (item->kind != RECORD_TELEMETRY)
            continue;
        if (is_new) {
            buf_add_z(out, is_open ? "}},{" : ",\"telemetry\":[{");
            if (item->ts != EVENT_NO_TS)
                buf_printf(out, "\"ts\":%lld,", (long long)item->ts);
            buf_add_z(out, "\"values\":{");
        }
        add_member(out, item, is_new);
        is_open = true;
        ts = item->ts;
    }
    if (is_open)
        buf_add_z(out, "}}]");
}

static void add_attributes(struct buf *out, const struct event *event)
{
    bool is_open = false;

    for (size_t i = 0; i < event->n; i++) {
        if (event->items[i].kind != RECORD_ATTRIBUTES)
            continue;
        if (!is_open)
            buf_add_z(out, ",\"attributes\":{");
        add_member(out, &event->items[i], !is_open);
        is_open = true;
    }
    if (is_open)
        buf_add_u8(out, '}');
}

static void send(struct dry *dry, uint64_t at_ms)
{
    const struct event *event = &dry->event;
    const char *profile = atomic_load(&event->dev->profile);

    if (event->n == 0)
        return;
    buf_printf(dry->out, "%s{\"at_ms\":%llu,\"device\":", dry->n_sent++ ? "," : "",
               (unsigned long long)(at_ms - START_MS));
    json_add_string(dry->out, device_name(event->dev));
    buf_add_z(dry->out, ",\"profile\":");
    json_add_string(dry->out, profile ? str_from(profile) : STR("default"));
    add_entries(dry->out, event);
    add_attributes(dry->out, event);
    buf_add_u8(dry->out, '}');
}

/* --- events ---------------------------------------------------------------------------------------------------------- */

static NODISCARD enum err add_values(struct dry *dry, enum record_kind kind, yyjson_val *values, int64_t ts,
                                     const struct conf_map *points, struct why *why)
{
    struct event *event = &dry->event;
    yyjson_obj_iter iter = yyjson_obj_iter_with(values);
    yyjson_val *name;

    while ((name = yyjson_obj_iter_next(&iter))) {
        struct str key;
        enum err err = event_key(&event->arena, json_str(name), &key, why);

        if (err)
            return err;
        event_add_reported(event, kind, key, json_final_text(&event->arena, yyjson_obj_iter_get_val(name)), ts,
                           find(points, json_str(name)));
    }
    return ERR_OK;
}

static NODISCARD enum err add_event(struct dry *dry, yyjson_val *val, uint64_t at_ms, struct why *why)
{
    struct str name = json_str(json_get(val, STR("device"))), profile = json_str(json_get(val, STR("profile")));
    struct device *dev = device_get(name);
    yyjson_arr_iter iter = yyjson_arr_iter_with(json_get(val, STR("telemetry")));
    yyjson_val *entry;
    enum err err;

    if (!dev)
        return why_set(why, ERR_RANGE, "not a name of a device");
    atomic_store(&dev->profile, profile.n ? device_profile_intern(profile) : NULL);
    event_begin(&dry->event, dev, profile);
    event_set_report(&dry->event, find(&dry->levels->devices, name));
    err = add_values(dry, RECORD_ATTRIBUTES, json_get(val, STR("attributes")), EVENT_NO_TS,
                     &dry->levels->points->attributes, why);
    while (!err && (entry = yyjson_arr_iter_next(&iter))) {
        int64_t ts;

        if (json_to_i64(json_get(entry, STR("ts")), &ts))
            ts = EVENT_NO_TS;
        err = add_values(dry, RECORD_TELEMETRY, json_get(entry, STR("values")), ts, &dry->levels->points->timeseries,
                         why);
    }
    if (err)
        return err;
    if (dry->outer.filters || dry->event.has_report)
        (void)report_filter(dry->report, &dry->event, at_ms);
    send(dry, at_ms);
    return ERR_OK;
}

/* Periodic reports, each at its time. */
static void run_until(struct dry *dry, uint64_t until_ms)
{
    uint64_t due_ms;

    while (dry->n_sent < SENT_MAX && (due_ms = report_due(dry->report)) <= until_ms)
        while (report_take(dry->report, &dry->event, due_ms))
            send(dry, due_ms);
}

static NODISCARD enum err run(struct dry *dry, yyjson_val *input, struct why *why)
{
    yyjson_arr_iter iter = yyjson_arr_iter_with(json_get(input, STR("events")));
    yyjson_val *val;
    int64_t at_ms = 0, until_ms = 0;

    while ((val = yyjson_arr_iter_next(&iter))) {
        enum err err;
        int64_t before_ms = at_ms;

        if (json_to_i64(json_get(val, STR("at_ms")), &at_ms) || at_ms < before_ms)
            return why_set(why, ERR_RANGE, "the events are not in the order of their at_ms");
        run_until(dry, START_MS + (uint64_t)at_ms);
        err = add_event(dry, val, START_MS + (uint64_t)at_ms, why);
        if (err)
            return err;
    }
    if (json_to_i64(json_get(input, STR("until_ms")), &until_ms) == ERR_OK && until_ms >= at_ms)
        run_until(dry, START_MS + (uint64_t)until_ms);
    return ERR_OK;
}

enum err convert_report(yyjson_val *config, yyjson_val *input, struct arena *arena, struct buf *members,
                        struct why *why)
{
    struct dry dry = {.out = members};
    struct problems problems;
    struct conf *conf;
    enum err err;

    problems_init(&problems);
    conf = conf_load_text(&dry_type, ".", "config", config ? json_text(arena, config) : STR("{}"), &problems);
    problems_fini(&problems);
    if (!conf)
        return why_set(why, ERR_CONFIG, "nothing of the configuration can be used");
    dry.levels = ((const struct dry_conf *)conf_root(conf))->levels;
    dry.outer = report_outer(dry.levels->main, dry.levels->connector);
    dry.report = report_new(&dry.outer);
    event_init(&dry.event);
    buf_add_z(members, "\"sent\":[");
    err = run(&dry, input, why);
    buf_add_u8(members, ']');
    event_fini(&dry.event);
    report_free(dry.report);
    conf_unref(conf);
    return err;
}
