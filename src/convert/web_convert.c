/* SPDX-License-Identifier: Apache-2.0 */
#include "convert/web_convert.h"

#include "base/map.h"

/* --- keys ---------------------------------------------------------------------------------------------------------------- */

static const struct field point_fields[] = {
    F_AT(struct web_point, at),
    F_STR(struct web_point, type, "type", .doc = "int, long, float, double, bool, json, else text; absent: json."),
    F_STR(struct web_point, key, "key", .need = true, .min = 1, .doc = "Name on the platform; ${tags} are allowed."),
    F_STR(struct web_point, expression, "value", .need = true, .doc = "Expression of the value."),
    F_STR(struct web_point, ts_expression, "tsField", .doc = "Member of the data that holds the value's time."),
    F_BOOL(struct web_point, dayfirst, "dayfirst", .doc = "In 3/2/2024 the first number is the day."),
    F_BOOL(struct web_point, yearfirst, "yearfirst", .doc = "In 10-11-12 the first number is the year."),
    F_REPORT_STRATEGY(struct web_point, report),
    F_END};
const struct conf_type web_point_type = {
    .name = "web.datapoint", .size = sizeof(struct web_point), .fields = point_fields, .doc = "One value."};

static const struct choice sources[] = {
    {"request", WEB_REQUEST}, {"message", WEB_REQUEST}, {"constant", WEB_CONSTANT}, {NULL, 0}};
static const struct field info_fields[] = {
    F_AT(struct web_device_info, at),
    F_ENUM(struct web_device_info, name_source, "deviceNameExpressionSource", .of = sources, .def = WEB_REQUEST,
           .doc = "request: the expression is filled in from the data; constant: it is the name itself."),
    F_STR(struct web_device_info, name, "deviceNameExpression", .need = true, .min = 1, .doc = "Name of the device."),
    F_ENUM(struct web_device_info, profile_source, "deviceProfileExpressionSource", .of = sources, .def = WEB_REQUEST,
           .doc = "As deviceNameExpressionSource."),
    F_STR(struct web_device_info, profile, "deviceProfileExpression", .doc = "Its profile; absent: default."),
    F_END};
const struct conf_type web_device_info_type = {.name = "web.deviceInfo",
                                               .size = sizeof(struct web_device_info),
                                               .fields = info_fields,
                                               .doc = "Which device the data belong to."};

static enum err compile_text(struct conf_load *load, const struct conf_at *at, const char *key, int source,
                             struct str text, struct web_text *out)
{
    struct why why = {0};

    out->text = text;
    out->is_constant = source == WEB_CONSTANT;
    if (out->is_constant || !text.n)
        return ERR_OK;
    if (template_compile(&out->template, conf_arena(load), text, &why) != ERR_OK) {
        conf_error(load, at, key, "\"" STR_FMT "\" is not an expression: %s", STR_ARG(text), why_text(&why));
        return ERR_CONFIG;
    }
    out->is_constant = template_kind(out->template) == TEMPLATE_CONSTANT;
    return ERR_OK;
}

static enum err compile_device(struct conf_load *load, struct web_converter *converter, const struct conf_at *at)
{
    const struct web_device_info *info = converter->info;
    enum err err;

    if (info && converter->name_old.p)
        conf_warning(load, at, NULL,
                     "has \"deviceInfo\" and other keys for the device's name or profile: \"deviceInfo\" counts");
    if (info) {
        err = compile_text(load, &info->at, "deviceNameExpression", info->name_source, info->name, &converter->name);
        return err ? err
                   : compile_text(load, &info->at, "deviceProfileExpression", info->profile_source, info->profile,
                                  &converter->profile);
    }
    if (!converter->name_old.n) {
        conf_error(load, at, NULL, "has no device name: without it the data belong to no device");
        return ERR_CONFIG;
    }
    err = compile_text(load, at, NULL, WEB_REQUEST, converter->name_old, &converter->name);
    return err ? err : compile_text(load, at, NULL, WEB_REQUEST, converter->profile_old, &converter->profile);
}

static enum err compile_point(struct conf_load *load, struct web_point *point)
{
    struct why why = {0};
    const char *key = "key";
    enum err err = template_compile(&point->key_template, conf_arena(load), point->key, &why);

    if (!err && template_kind(point->key_template) == TEMPLATE_CONSTANT)
        err = event_key(conf_arena(load), point->key, &point->prepared, &why);
    if (!err) {
        key = "value";
        err = datapoint_compile(&point->value, conf_arena(load), point->expression, point->type, CONVERT_LOSSLESS,
                                false, &why);
    }
    if (!err && point->ts_expression.n) {
        key = "tsField";
        point->has_ts = true;
        err = ts_field_compile(&point->ts, conf_arena(load), point->ts_expression, point->dayfirst, point->yearfirst,
                               &why);
    }
    if (err)
        conf_error(load, &point->at, key, "%s", why_text(&why));
    return err;
}

static void compile_points(struct conf_load *load, struct conf_list *list)
{
    size_t n = 0;

    for (size_t i = 0; i < list->n; i++)
        if (compile_point(load, list->items[i]) == ERR_OK)
            list->items[n++] = list->items[i];
    list->n = n;
}

enum err web_converter_check(struct conf_load *load, struct web_converter *converter, const struct conf_at *at)
{
    converter->is_custom = converter->extension.n || str_eq_nocase(converter->type, STR("custom"));
    if (converter->is_custom)
        return ERR_OK;
    if (compile_device(load, converter, at) != ERR_OK)
        return ERR_CONFIG;
    compile_points(load, &converter->attributes);
    compile_points(load, &converter->timeseries);
    compile_points(load, &converter->telemetry);
    if (!converter->attributes.n && !converter->timeseries.n && !converter->telemetry.n)
        conf_warning(load, at, NULL, "has no datapoint: its data give nothing");
    return ERR_OK;
}

/* --- conversion ---------------------------------------------------------------------------------------------------------- */

const char *web_drop_text(enum web_drop cause)
{
    switch (cause) {
    case WEB_NO_NAME:
        return "there is no device name";
    case WEB_BAD_NAME:
        return "the device name cannot be used";
    case WEB_NO_VALUE:
        return "there is no value for any datapoint";
    case WEB_REFUSED:
        return "the values were refused";
    case WEB_KEY:
        return "a datapoint has no usable key";
    case WEB_VALUE:
        return "a datapoint's value cannot be computed";
    case WEB_TIME:
        return "a time is in a zone that is not known, local time is taken";
    case WEB_DROPS:
        break;
    }
    return "";
}

static bool find_text(const struct web_text *rule, yyjson_val *data, struct arena *arena, struct str *out)
{
    *out = rule->text;
    if (rule->is_constant)
        return out->n > 0;
    return rule->template && template_text(rule->template, data, TEMPLATE_SKIP, arena, out) && out->n > 0;
}

bool web_device_name(const struct web_converter *converter, yyjson_val *data, struct arena *arena, struct str *out)
{
    return find_text(&converter->name, data, arena, out);
}

struct item { /* at hand */
    struct web_out *out;
    struct event *event;
    yyjson_val *data;
    struct arena *arena;
    int64_t wall_ms, data_ms;
    bool has_data_ms;
};

static bool find_key(struct item *item, const struct web_point *point, struct str *out)
{
    struct why why = {0};
    struct str name;

    *out = point->prepared;
    if (out->p)
        return true;
    if (!template_text(point->key_template, item->data, TEMPLATE_SKIP, item->arena, &name))
        why_set(&why, ERR_NOTFOUND, "what its key names is not in the data");
    else if (event_key(item->arena, name, out, &why) == ERR_OK)
        return true;
    device_add_values(&item->event->dev->n_failed, 1);
    item->out->n_errors++;
    item->out->dropped(item->out, WEB_KEY, str_from(why_text(&why)));
    return false;
}

static bool find_value(struct item *item, const struct web_point *point, struct str *out)
{
    struct why why = {0};

    switch (datapoint_eval(&point->value, item->data, NULL, item->arena, out, &why)) {
    case CONVERT_OK:
        return true;
    case CONVERT_FALLBACK:
        item->out->n_fallbacks++;
        return true;
    case CONVERT_SKIPPED:
        return false;
    case CONVERT_FAILED:
        break;
    }
    device_add_values(&item->event->dev->n_failed, 1);
    item->out->n_errors++;
    item->out->dropped(item->out, WEB_VALUE, str_from(why.err ? why_text(&why) : "the number is not finite"));
    return false;
}

/* expressions.md 10, rules 2, 4, 5. */
static int64_t time_of(struct item *item, const struct web_point *point)
{
    int64_t ms;

    if (point->has_ts) {
        enum ts_result result = ts_field_eval(&point->ts, item->data, item->wall_ms, item->arena, &ms);

        if (result == TS_FOUND_FOREIGN_ZONE)
            item->out->dropped(item->out, WEB_TIME, point->ts_expression);
        if (result != TS_NONE)
            return ms;
    }
    if (!item->has_data_ms) {
        item->has_data_ms = true;
        if (!timestamp_of_data(item->data, item->wall_ms, &item->data_ms))
            item->data_ms = EVENT_NO_TS;
    }
    return item->data_ms;
}

static void add_points(struct item *item, enum record_kind kind, const struct conf_list *points)
{
    for (size_t i = 0; i < points->n; i++) {
        const struct web_point *point = points->items[i];
        struct str key, text;

        if (find_value(item, point, &text) && find_key(item, point, &key))
            event_add_reported(item->event, kind, key, text,
                               kind == RECORD_TELEMETRY ? time_of(item, point) : EVENT_NO_TS, point->report);
    }
}

static enum err drop(struct web_out *out, enum web_drop cause, enum err err)
{
    out->n_dropped++;
    out->dropped(out, cause, cause == WEB_REFUSED ? str_from(err_text(err)) : STR_NONE);
    return err;
}

enum err web_convert(const struct web_converter *converter, const struct report_strategy *report, struct web_out *out,
                     yyjson_val *data, int64_t wall_ms, struct arena *arena)
{
    struct item item = {.out = out, .data = data, .arena = arena, .wall_ms = wall_ms};
    struct str name, profile;
    struct device *dev;
    enum err err;

    if (!find_text(&converter->name, data, arena, &name))
        return drop(out, WEB_NO_NAME, ERR_USAGE);
    dev = device_get(name);
    if (!dev)
        return drop(out, WEB_BAD_NAME, ERR_USAGE);
    if (!find_text(&converter->profile, data, arena, &profile))
        profile = STR("default");
    item.event = out->begin(out, dev, profile);
    event_set_report(item.event, report);
    add_points(&item, RECORD_ATTRIBUTES, &converter->attributes);
    add_points(&item, RECORD_TELEMETRY, &converter->timeseries);
    add_points(&item, RECORD_TELEMETRY, &converter->telemetry);
    if (!item.event->n)
        return drop(out, WEB_NO_VALUE, ERR_NOTFOUND);
    err = out->end(out);
    if (err)
        return drop(out, WEB_REFUSED, err);
    out->n_converted++;
    return ERR_OK;
}

/* --- dry runs ------------------------------------------------------------------------------------------------------------ */

/* Values of one kind and time, in the order of the first of each key; the last value of a key counts. */
static void add_values(struct buf *out, const struct event *event, enum record_kind kind, int64_t ts)
{
    struct map seen = {0};
    bool is_first = true;

    for (size_t i = 0; i < event->n; i++)
        if (event->items[i].kind == kind && event->items[i].ts == ts)
            (void)map_put(&seen, event->items[i].key, &event->items[i]);
    for (size_t i = 0; i < event->n; i++) {
        struct event_item *item = &event->items[i], *last;

        if (item->kind != kind || item->ts != ts || !(last = map_del(&seen, item->key)))
            continue;
        if (!is_first)
            buf_add_u8(out, ',');
        is_first = false;
        buf_add_str(out, last->key);
        buf_add_str(out, last->text);
    }
    map_fini(&seen);
}

static bool is_first_of_time(const struct event *event, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (event->items[i].kind == RECORD_TELEMETRY && event->items[i].ts == event->items[at].ts)
            return false;
    return event->items[at].kind == RECORD_TELEMETRY;
}

void web_describe_event(struct buf *out, const struct event *event)
{
    bool is_first = true, has_attributes = false;

    buf_add_z(out, "{\"device\":");
    json_add_string(out, device_name(event->dev));
    buf_add_z(out, ",\"profile\":");
    json_add_string(out, event->profile);
    for (size_t i = 0; i < event->n; i++) {
        int64_t ts = event->items[i].ts;

        has_attributes |= event->items[i].kind == RECORD_ATTRIBUTES;
        if (!is_first_of_time(event, i))
            continue;
        buf_add_z(out, is_first ? ",\"telemetry\":[{" : ",{");
        if (ts != EVENT_NO_TS)
            buf_printf(out, "\"ts\":%lld,", (long long)ts);
        buf_add_z(out, "\"values\":{");
        add_values(out, event, RECORD_TELEMETRY, ts);
        buf_add_z(out, "}}");
        is_first = false;
    }
    if (!is_first)
        buf_add_u8(out, ']');
    if (has_attributes) {
        buf_add_z(out, ",\"attributes\":{");
        add_values(out, event, RECORD_ATTRIBUTES, EVENT_NO_TS);
        buf_add_u8(out, '}');
    }
    buf_add_u8(out, '}');
}
