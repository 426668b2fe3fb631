/* SPDX-License-Identifier: Apache-2.0 */
#include "store/legacy_event.h"

#include "data/json.h"

static void add(struct legacy_event *in, struct event *event, enum record_kind kind, yyjson_val *key, yyjson_val *value,
                int64_t ts)
{
    struct str prepared;

    if (event_key(&event->arena, json_str(key), &prepared, NULL))
        in->n_left_out++;
    else
        event_add(event, kind, prepared, json_final_text(&event->arena, value), ts);
}

static void add_map(struct legacy_event *in, struct event *event, enum record_kind kind, yyjson_val *map, int64_t ts)
{
    yyjson_val *key, *value;
    size_t i, max;

    yyjson_obj_foreach(map, i, max, key, value) add(in, event, kind, key, value, ts);
}

/* {"ts":…,"values":{…}}, or {key:value} without a time. */
static void add_entry(struct legacy_event *in, struct event *event, yyjson_val *entry)
{
    yyjson_val *values = json_get(entry, STR("values"));
    int64_t ts = EVENT_NO_TS;

    if (!yyjson_is_obj(entry) || (values && json_get(entry, STR("ts")) && !yyjson_is_obj(values))) {
        in->n_left_out++;
        return;
    }
    if (!yyjson_is_obj(values)) {
        add_map(in, event, RECORD_TELEMETRY, entry, ts);
        return;
    }
    if (json_to_i64(json_get(entry, STR("ts")), &ts))
        ts = EVENT_NO_TS;
    add_map(in, event, RECORD_TELEMETRY, values, ts);
}

static void add_telemetry(struct legacy_event *in, struct event *event, yyjson_val *telemetry)
{
    yyjson_val *entry;
    size_t i, max;

    if (!yyjson_is_arr(telemetry)) {
        if (telemetry && !yyjson_is_null(telemetry))
            add_entry(in, event, telemetry);
        return;
    }
    yyjson_arr_foreach(telemetry, i, max, entry) add_entry(in, event, entry);
}

static void add_attributes(struct legacy_event *in, struct event *event, yyjson_val *attributes)
{
    yyjson_val *map;
    size_t i, max;

    if (yyjson_is_obj(attributes)) {
        add_map(in, event, RECORD_ATTRIBUTES, attributes, EVENT_NO_TS);
        return;
    }
    if (!yyjson_is_arr(attributes)) {
        in->n_left_out += attributes && !yyjson_is_null(attributes);
        return;
    }
    yyjson_arr_foreach(attributes, i, max, map)
    {
        if (yyjson_is_obj(map))
            add_map(in, event, RECORD_ATTRIBUTES, map, EVENT_NO_TS);
        else
            in->n_left_out++;
    }
}

static size_t count(yyjson_val *attributes)
{
    yyjson_val *map;
    size_t i, max, n = 0;

    if (!yyjson_is_arr(attributes))
        return yyjson_obj_size(attributes);
    yyjson_arr_foreach(attributes, i, max, map) n += yyjson_obj_size(map);
    return n;
}

/* The platform refuses telemetry whose metadata lacks one of these; the third is added when it is sent. */
static bool is_whole(yyjson_val *meta)
{
    yyjson_val *connector = json_get(meta, STR("connector")), *received = json_get(meta, STR("receivedTs"));

    return connector && received && !yyjson_is_null(connector) && !yyjson_is_null(received);
}

static enum err fill(struct legacy_event *in, yyjson_val *root, struct event *event, struct why *why)
{
    yyjson_val *name = json_get(root, STR("deviceName")), *attributes = json_get(root, STR("attributes")),
               *meta = json_get(root, STR("metadata"));
    struct device *dev;
    enum err err;

    if (!yyjson_is_obj(root))
        return why_set(why, ERR_TYPE, "it is no JSON object");
    if (!yyjson_is_str(name))
        return why_set(why, ERR_TYPE, "it has no deviceName");
    err = device_name_check(json_str(name), why);
    if (err)
        return err;
    dev = device_get(json_str(name));
    if (!dev)
        return why_set(why, ERR_RANGE, "its deviceName is not valid");
    event_begin(event, dev, STR_NONE);
    event->profile = arena_str(&event->arena, json_str(json_get(root, STR("deviceType"))));
    add_telemetry(in, event, json_get(root, STR("telemetry")));
    if (in->no_attributes && in->no_attributes(dev))
        in->n_superseded += (unsigned)count(attributes);
    else
        add_attributes(in, event, attributes);
    if (is_whole(meta))
        event->meta = json_final_text(&event->arena, meta);
    return ERR_OK;
}

enum err legacy_event_read(struct legacy_event *in, struct str json, struct event *event, struct why *why)
{
    yyjson_doc *doc = json_read(json, why);
    enum err err;

    in->n_left_out = in->n_superseded = 0;
    if (!doc)
        return why && why->err ? why->err : ERR_SYNTAX;
    err = fill(in, yyjson_doc_get_root(doc), event, why);
    yyjson_doc_free(doc);
    return err;
}
