/* SPDX-License-Identifier: Apache-2.0 */
#include "mqtt_convert.h"

#include "base/map.h"
#include "base/utf8.h"
#include "mqtt/topic.h"

/*
 * A message: route of its topic → for each leg (an entry that the topic concerns): the payload, parsed once for all of
 * them → datapoints → event. Texts live in the arena, the document or the configuration until the next message.
 */
enum {
    ROUTES_MAX = 65536,
    ROUTES_BYTES_MAX = 8 * 1024 * 1024,
    POOL_SIZE = 64 * 1024,
    PREDICT_MAX = 256,
    VALUES_MAX = 512 * 1024, /* of one message; an array of scalars gives every constant for each of its items */
    VALUES_KEEP = 4096,      /* memory for more is given back after the message */
    REPORT_EVERY_MS = 60000
};

/* What the topic alone decides for one entry. */
struct leg {
    const struct entry *entry;
    bool name_is_fixed; /* name from topic or constant: dev, or NULL where there is none */
    bool profile_is_fixed;
    enum drop_cause no_dev; /* why dev is NULL */
    struct device *dev;
    struct str profile;
    struct str *keys; /* prepared, by key_index; p NULL: left out */
};

struct route {
    struct str topic;
    unsigned n;
    struct leg legs[];
};

struct entry_state {
    uint16_t *predict; /* slot of the member at each position in the message before; NO_SLOT: none */
    struct {
        uint64_t n, next_ms; /* not reported yet; when it may be */
    } drops[DROP_CAUSES];
};

enum { NO_SLOT = UINT16_MAX };

struct held { /* an item of an array, until its device's turn */
    struct device *dev;
    struct str profile;
    size_t first, n;
    bool is_done;
};

struct mqtt_converter {
    const struct mqtt_plan *plan;
    struct convert_counts counts;
    struct entry_state *states; /* by entry */

    struct map routes;
    struct arena routes_arena;
    const struct entry **matching; /* scratch of n_entries */
    unsigned n_matching;

    struct arena arena; /* of the message */
    struct buf clean;   /* payload without its invalid bytes */
    void *pool;
    yyjson_doc *big; /* a document that did not fit into the pool; freed with the message */
    bool is_parsed, is_json;
    yyjson_val *root;

    yyjson_val **slots;       /* by slot, of the object at hand */
    struct event_item *items; /* of an array's items */
    size_t n_items, cap_items;
    size_t n_values; /* of the message; beyond VALUES_MAX they are refused */
    struct held *held;
    size_t n_held, cap_held;

    /* the message at hand */
    struct why why;
    struct convert_out *out;
    struct str topic, payload;
    int64_t wall_ms;
    uint64_t mono_ms;
    struct event *event; /* where values go; NULL: to items */
    struct device *dev;  /* whose they are */
    bool sees_ts;        /* slots hold the payload's members */
};

const char *drop_cause_text(enum drop_cause cause)
{
    switch (cause) {
    case DROP_NOT_JSON:
        return "the payload is not JSON";
    case DROP_NO_NAME:
        return "there is no device name";
    case DROP_BAD_NAME:
        return "the device name cannot be used";
    case DROP_NO_VALUE:
        return "there is no value for any datapoint";
    case DROP_KEY:
        return "a datapoint has no usable key";
    case DROP_FORMULA:
        return "a datapoint's value cannot be computed";
    case DROP_TIME:
        return "a time is in a zone that is not known, local time is taken";
    case DROP_REFUSED:
        return "the values were refused";
    case DROP_NO_ATTRIBUTE:
        return "there is no attribute name in the request";
    case DROP_SCOPE:
        return "the scope of the request is neither shared nor client";
    case DROP_CAUSES:
        break;
    }
    return "";
}

static void drop(struct mqtt_converter *converter, const struct entry *entry, enum drop_cause cause, struct str detail)
{
    struct entry_state *state = &converter->states[entry->index];
    uint64_t n;

    if (converter->out->is_silent)
        return;
    n = ++state->drops[cause].n;
    if (!converter->out->is_verbose && converter->mono_ms < state->drops[cause].next_ms)
        return;
    state->drops[cause].n = 0;
    state->drops[cause].next_ms = converter->mono_ms + REPORT_EVERY_MS;
    converter->out->dropped(converter->out, entry, cause, converter->topic, detail, n);
}

/* --- payload -------------------------------------------------------------------------------------------------------------- */

static yyjson_val *parse(struct mqtt_converter *converter, struct str text)
{
    const yyjson_read_flag flags = YYJSON_READ_NUMBER_AS_RAW;
    yyjson_doc *doc;

    if (yyjson_read_max_memory_usage(text.n, flags) <= POOL_SIZE) {
        yyjson_alc alc;

        if (UNLIKELY(!converter->pool))
            converter->pool = mem_new(POOL_SIZE);
        yyjson_alc_pool_init(&alc, converter->pool, POOL_SIZE);
        doc = yyjson_read_opts((char *)(uintptr_t)text.p, text.n, flags, &alc, NULL); /* not changed without INSITU */
    } else {
        converter->big = doc = yyjson_read_opts((char *)(uintptr_t)text.p, text.n, flags, NULL, NULL);
    }
    return doc && !json_is_too_deep(doc) ? yyjson_doc_get_root(doc) : NULL;
}

/* The payload as JSON, for all entries that want it; invalid UTF-8 is dropped first where it is all that is wrong. */
static yyjson_val *payload_json(struct mqtt_converter *converter)
{
    struct str payload = converter->payload;

    if (converter->is_parsed)
        return converter->root;
    converter->is_parsed = true;
    converter->root = payload.n ? parse(converter, payload) : NULL;
    if (UNLIKELY(!converter->root && payload.n && !utf8_is_valid(payload))) {
        converter->clean.n = 0;
        utf8_add_valid(&converter->clean, payload);
        if (converter->clean.n)
            converter->root = parse(converter, buf_str(&converter->clean));
    }
    return converter->root;
}

/* One pass over the members of an object. The same device sends the same members in the same order nearly always. */
static void match_members(struct mqtt_converter *converter, const struct entry *entry, yyjson_val *object)
{
    const struct member_table *table = entry->mapping->converter->members;
    uint16_t *predict = converter->states[entry->index].predict;
    yyjson_obj_iter iter;
    yyjson_val *key;
    size_t i = 0;

    memset(converter->slots, 0, table->n * sizeof *converter->slots);
    converter->sees_ts = yyjson_is_obj(object);
    if (!converter->sees_ts)
        return;
    iter = yyjson_obj_iter_with(object);
    while ((key = yyjson_obj_iter_next(&iter))) {
        struct str name = json_str(key);
        unsigned guess = i < PREDICT_MAX ? predict[i] : NO_SLOT;

        if (LIKELY(guess < table->n && table->names[guess].n == name.n &&
                   memcmp(table->names[guess].p, name.p, name.n) == 0)) {
            converter->slots[guess] = yyjson_obj_iter_get_val(key);
        } else {
            int slot = member_slot(table, name);

            if (i < PREDICT_MAX)
                predict[i] = slot < 0 ? NO_SLOT : (uint16_t)slot;
            if (slot >= 0)
                converter->slots[slot] = yyjson_obj_iter_get_val(key);
        }
        i++;
    }
}

/* --- names ------------------------------------------------------------------------------------------------------------------- */

/* False: unresolved. An empty text counts as unresolved. */
static bool rule_text(struct mqtt_converter *converter, const struct text_rule *rule, yyjson_val *data, bool literal_ok,
                      struct str *out)
{
    bool found = false;

    switch (rule->kind) {
    case RULE_NONE:
        break;
    case RULE_CONSTANT:
        *out = rule->text;
        found = true;
        break;
    case RULE_TEMPLATE:
        found = data && template_text(rule->template, data, TEMPLATE_SKIP, &converter->arena, out);
        break;
    case RULE_TOPIC:
        found = regex_topic(rule->regex, converter->topic, literal_ok, out);
        break;
    case RULE_BYTES:
        found = byte_template_text(rule->bytes, converter->payload, false, &converter->arena, out);
        break;
    }
    return found && out->n > 0;
}

static bool is_fixed(const struct text_rule *rule)
{
    return rule->kind == RULE_NONE || rule->kind == RULE_CONSTANT || rule->kind == RULE_TOPIC;
}

static struct device *find_device(struct mqtt_converter *converter, const struct device_info *info, yyjson_val *data,
                                  enum drop_cause *cause)
{
    struct device *dev;
    struct str name;

    if (!rule_text(converter, &info->name_rule, data, true, &name)) {
        *cause = DROP_NO_NAME;
        return NULL;
    }
    dev = device_get(name);
    *cause = DROP_BAD_NAME;
    return dev;
}

static struct str find_profile(struct mqtt_converter *converter, const struct device_info *info, yyjson_val *data)
{
    struct str profile;

    return rule_text(converter, &info->profile_rule, data, true, &profile) ? profile : STR("default");
}

/* --- routes ------------------------------------------------------------------------------------------------------------------ */

static void collect(void *arg, void *value)
{
    struct mqtt_converter *converter = arg;
    const struct entry *entry = value;
    unsigned i = converter->n_matching++;

    for (; i > 0 && converter->matching[i - 1]->index > entry->index; i--)
        converter->matching[i] = converter->matching[i - 1];
    converter->matching[i] = entry;
}

static void fill_topic_keys(struct mqtt_converter *converter, struct leg *leg, const struct conf_list *points)
{
    for (size_t i = 0; i < points->n; i++) {
        const struct datapoint *point = points->items[i];
        struct str name;

        if (point->key_rule.kind != RULE_TOPIC)
            continue;
        if (!rule_text(converter, &point->key_rule, NULL, false, &name) ||
            event_key(&converter->routes_arena, name, &leg->keys[point->key_index], NULL) != ERR_OK)
            leg->keys[point->key_index] = STR_NONE;
    }
}

static const struct device_info *info_of(const struct entry *entry)
{
    switch (entry->kind) {
    case ENTRY_MAPPING:
        return entry->mapping->converter->info;
    case ENTRY_CONNECT:
    case ENTRY_DISCONNECT:
        return entry->request->info;
    case ENTRY_ATTRIBUTE_REQUEST:
        break;
    }
    return entry->attribute_request->info;
}

static void fill_leg(struct mqtt_converter *converter, struct leg *leg, const struct entry *entry)
{
    const struct device_info *info = info_of(entry);

    *leg = (struct leg){.entry = entry};
    leg->name_is_fixed = is_fixed(&info->name_rule);
    if (leg->name_is_fixed)
        leg->dev = find_device(converter, info, NULL, &leg->no_dev);
    leg->profile_is_fixed = is_fixed(&info->profile_rule);
    if (leg->profile_is_fixed)
        leg->profile = arena_str(&converter->routes_arena, find_profile(converter, info, NULL));
    if (entry->kind == ENTRY_MAPPING && entry->mapping->converter->n_topic_keys) {
        leg->keys = arena_zero(&converter->routes_arena, entry->mapping->converter->n_topic_keys * sizeof *leg->keys);
        fill_topic_keys(converter, leg, &entry->mapping->converter->attributes);
        fill_topic_keys(converter, leg, &entry->mapping->converter->timeseries);
    }
}

/* Hostile or careless sources may invent topics for ever: a full cache is emptied, which costs each topic one matching. */
static void bound_routes(struct mqtt_converter *converter)
{
    if (converter->routes.n < ROUTES_MAX && arena_bytes(&converter->routes_arena) < ROUTES_BYTES_MAX)
        return;
    map_fini(&converter->routes);
    converter->routes = (struct map){0};
    arena_fini(&converter->routes_arena);
    arena_init(&converter->routes_arena, 4096);
}

static const struct route *route_of(struct mqtt_converter *converter)
{
    uint64_t hash = hash_str(converter->topic);
    struct route *route = converter->routes.n ? map_get_hashed(&converter->routes, converter->topic, hash) : NULL;

    if (LIKELY(route != NULL))
        return route;
    bound_routes(converter);
    converter->n_matching = 0;
    topic_trie_match(converter->plan->trie, converter->topic, collect, converter);
    route = arena_zero(&converter->routes_arena, sizeof *route + converter->n_matching * sizeof *route->legs);
    route->topic = arena_str(&converter->routes_arena, converter->topic);
    route->n = converter->n_matching;
    for (unsigned i = 0; i < route->n; i++)
        fill_leg(converter, &route->legs[i], converter->matching[i]);
    (void)map_put(&converter->routes, route->topic, route);
    return route;
}

/* --- values ------------------------------------------------------------------------------------------------------------------- */

static void add(struct mqtt_converter *converter, enum record_kind kind, struct str key, struct str text, int64_t ts,
                const struct report_strategy *report)
{
    if (UNLIKELY(++converter->n_values > VALUES_MAX))
        return;
    if (LIKELY(converter->event != NULL)) {
        event_add_reported(converter->event, kind, key, text, ts, report);
        return;
    }
    if (converter->n_items == converter->cap_items) {
        converter->cap_items = converter->cap_items ? converter->cap_items * 2 : 64;
        converter->items = mem_grow(converter->items, converter->cap_items * sizeof *converter->items);
    }
    converter->items[converter->n_items++] = (struct event_item){key, text, ts, kind, report};
}

static bool leave_out(struct mqtt_converter *converter, const struct leg *leg, enum drop_cause cause,
                      const char *reason)
{
    converter->counts.n_errors++;
    device_add_values(&converter->dev->n_failed, 1);
    drop(converter, leg->entry, cause, str_from(reason));
    return false;
}

/* One for all values: setting half a kilobyte to zero for each would cost more than the value itself. */
static struct why *clear_why(struct mqtt_converter *converter)
{
    converter->why.err = ERR_OK;
    converter->why.text[0] = 0;
    return &converter->why;
}

/* A missing key skips the datapoint, as a missing value does; a key that the platform would lose is an error. */
static bool find_key(struct mqtt_converter *converter, const struct leg *leg, const struct datapoint *point,
                     yyjson_val *data, struct str *out)
{
    struct why *why = clear_why(converter);
    struct str name;

    switch (point->key_rule.kind) {
    case RULE_CONSTANT:
        *out = point->prepared;
        return true;
    case RULE_TOPIC:
        *out = leg->keys[point->key_index];
        return out->p || leave_out(converter, leg, DROP_KEY, "its expression finds nothing in the topic");
    case RULE_NONE:
    case RULE_TEMPLATE:
    case RULE_BYTES:
        break;
    }
    if (!rule_text(converter, &point->key_rule, data, false, &name))
        return leave_out(converter, leg, DROP_KEY, "what its key names is not in the payload");
    if (event_key(&converter->arena, name, out, why) != ERR_OK)
        return leave_out(converter, leg, DROP_KEY, why_text(why));
    return true;
}

static bool find_value(struct mqtt_converter *converter, const struct leg *leg, const struct datapoint *point,
                       yyjson_val *data, struct str *out)
{
    struct why *why = clear_why(converter);
    yyjson_val *found = NULL;

    if (point->slot >= 0) {
        found = converter->slots[point->slot];
        if (!found || yyjson_is_null(found))
            return false;
    }
    switch (datapoint_eval(&point->value, data, found, &converter->arena, out, why)) {
    case CONVERT_OK:
        return true;
    case CONVERT_FALLBACK:
        converter->counts.n_fallbacks++;
        return true;
    case CONVERT_SKIPPED:
        return false;
    case CONVERT_FAILED:
        break;
    }
    return leave_out(converter, leg, DROP_FORMULA, why->err ? why_text(why) : "the number is not finite");
}

/* A plain number of milliseconds, which is what "ts" nearly always is. */
static bool plain_ms(yyjson_val *val, int64_t *out)
{
    const char *p;
    size_t n;
    int64_t ms = 0;

    if (!val || !yyjson_is_raw(val))
        return false;
    p = yyjson_get_raw(val);
    n = yyjson_get_len(val);
    if (n == 0 || n > 18)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        ms = ms * 10 + (p[i] - '0');
    }
    *out = ms;
    return true;
}

/* Steps 4 and 5: the data's own time, else the time of reception. */
static int64_t time_of_data(struct mqtt_converter *converter, const struct converter *conf, yyjson_val *data)
{
    yyjson_val *ts, *timestamp;
    int64_t ms;

    if (!converter->sees_ts)
        return EVENT_NO_TS;
    ts = converter->slots[conf->members->ts_slot];
    timestamp = converter->slots[conf->members->timestamp_slot];
    if (plain_ms(ts, &ms) || (!ts && plain_ms(timestamp, &ms)))
        return ms;
    if ((ts || timestamp) && timestamp_of_data(data, converter->wall_ms, &ms))
        return ms;
    return EVENT_NO_TS;
}

struct times {              /* of one item */
    bool has_own, has_data; /* own: the first tsField's that gave one */
    int64_t own, data;
};

static int64_t time_of_point(struct mqtt_converter *converter, const struct leg *leg, const struct converter *conf,
                             const struct datapoint *point, yyjson_val *data, struct times *times)
{
    int64_t ms;

    if (conf->use_received_ts)
        return EVENT_NO_TS;
    if (point->has_ts) {
        enum ts_result result = ts_field_eval(&point->ts, data, converter->wall_ms, &converter->arena, &ms);

        if (result == TS_FOUND_FOREIGN_ZONE)
            drop(converter, leg->entry, DROP_TIME, point->ts_expression);
        if (result != TS_NONE) {
            if (!times->has_own) {
                times->has_own = true;
                times->own = ms;
            }
            return ms;
        }
    }
    if (times->has_own)
        return times->own;
    if (!times->has_data) {
        times->has_data = true;
        times->data = time_of_data(converter, conf, data);
    }
    return times->data;
}

static void add_members_of(struct mqtt_converter *converter, const struct leg *leg, enum record_kind kind,
                           yyjson_val *object, int64_t ts)
{
    yyjson_obj_iter iter = yyjson_obj_iter_with(object);
    yyjson_val *name;

    while ((name = yyjson_obj_iter_next(&iter))) {
        struct why why = {0};
        struct str key;

        if (event_key(&converter->arena, json_str(name), &key, &why) != ERR_OK) {
            (void)leave_out(converter, leg, DROP_KEY, why_text(&why));
            continue;
        }
        add(converter, kind, key, json_final_text(&converter->arena, yyjson_obj_iter_get_val(name)), ts, NULL);
    }
}

/* The text "*" (mqtt.md 2): vectors mqtt-up-033, mqtt-up-034. */
static void add_all(struct mqtt_converter *converter, const struct leg *leg, enum record_kind kind, yyjson_val *data)
{
    yyjson_val *values;
    int64_t ts;

    if (!yyjson_is_obj(data))
        return;
    if (kind == RECORD_TELEMETRY) {
        values = json_get(data, STR("values"));
        if (yyjson_is_obj(values) && yyjson_obj_size(values) > 0 && json_get(data, STR("ts"))) {
            if (!timestamp_of_data(data, converter->wall_ms, &ts))
                ts = EVENT_NO_TS;
            add_members_of(converter, leg, kind, values, ts);
            return;
        }
    }
    add_members_of(converter, leg, kind, data, EVENT_NO_TS);
}

/* All datapoints of one item of JSON; one that fails does not touch the others. */
static void add_json_values(struct mqtt_converter *converter, const struct leg *leg, yyjson_val *data)
{
    const struct converter *conf = leg->entry->mapping->converter;
    struct times times = {0};
    struct str key, text;

    match_members(converter, leg->entry, data);
    for (size_t i = 0; i < conf->attributes.n; i++) {
        const struct datapoint *point = conf->attributes.items[i];

        if (UNLIKELY(point->is_all))
            add_all(converter, leg, RECORD_ATTRIBUTES, data);
        else if (find_value(converter, leg, point, data, &text) && find_key(converter, leg, point, data, &key))
            add(converter, RECORD_ATTRIBUTES, key, text, EVENT_NO_TS, point->report);
    }
    for (size_t i = 0; i < conf->timeseries.n; i++) {
        const struct datapoint *point = conf->timeseries.items[i];
        int64_t ts;

        if (UNLIKELY(point->is_all)) {
            add_all(converter, leg, RECORD_TELEMETRY, data);
            continue;
        }
        ts = time_of_point(converter, leg, conf, point, data, &times);
        if (find_value(converter, leg, point, data, &text) && find_key(converter, leg, point, data, &key))
            add(converter, RECORD_TELEMETRY, key, text, ts, point->report);
    }
}

static void add_bytes_values(struct mqtt_converter *converter, const struct leg *leg, enum record_kind kind,
                             const struct conf_list *points)
{
    for (size_t i = 0; i < points->n; i++) {
        const struct datapoint *point = points->items[i];
        struct str key, text;

        if (byte_template_text(point->bytes, converter->payload, point->hex, &converter->arena, &text) &&
            find_key(converter, leg, point, NULL, &key))
            add(converter, kind, key, json_quote(&converter->arena, text), EVENT_NO_TS, point->report);
    }
}

/* --- messages ---------------------------------------------------------------------------------------------------------------- */

static unsigned drop_message(struct mqtt_converter *converter, const struct leg *leg, enum drop_cause cause)
{
    converter->counts.n_dropped += !converter->out->is_silent;
    drop(converter, leg->entry, cause, STR_NONE);
    return 0;
}

static unsigned end_event(struct mqtt_converter *converter, const struct leg *leg)
{
    enum err err;

    if (converter->event->n == 0)
        return drop_message(converter, leg, DROP_NO_VALUE);
    err = converter->out->end(converter->out);
    if (err) {
        converter->counts.n_dropped++;
        drop(converter, leg->entry, DROP_REFUSED, str_from(err_text(err)));
        return 0;
    }
    if (UNLIKELY(converter->n_values > VALUES_MAX)) {
        converter->counts.n_errors++;
        drop(converter, leg->entry, DROP_REFUSED, STR("too many values in one message, the last ones are left out"));
    }
    converter->counts.n_converted++;
    return 1;
}

static struct device *device_of(struct mqtt_converter *converter, const struct leg *leg, yyjson_val *data,
                                enum drop_cause *cause)
{
    *cause = leg->no_dev;
    return LIKELY(leg->name_is_fixed) ? leg->dev : find_device(converter, info_of(leg->entry), data, cause);
}

static struct str profile_of(struct mqtt_converter *converter, const struct leg *leg, yyjson_val *data)
{
    return LIKELY(leg->profile_is_fixed) ? leg->profile : find_profile(converter, info_of(leg->entry), data);
}

static void hold_item(struct mqtt_converter *converter, const struct leg *leg, yyjson_val *data)
{
    enum drop_cause cause;
    struct device *dev = device_of(converter, leg, data, &cause);
    size_t first = converter->n_items;

    if (!dev) {
        (void)drop_message(converter, leg, cause);
        return;
    }
    converter->dev = dev;
    add_json_values(converter, leg, data);
    if (converter->n_items == first) {
        if (converter->n_values <= VALUES_MAX)
            (void)drop_message(converter, leg, DROP_NO_VALUE);
        return;
    }
    if (converter->n_held == converter->cap_held) {
        converter->cap_held = converter->cap_held ? converter->cap_held * 2 : 16;
        converter->held = mem_grow(converter->held, converter->cap_held * sizeof *converter->held);
    }
    converter->held[converter->n_held++] =
        (struct held){dev, profile_of(converter, leg, data), first, converter->n_items - first, false};
}

/* The items of one device go together, devices in the order of first appearance; a later profile counts. */
static unsigned release_items(struct mqtt_converter *converter, const struct leg *leg)
{
    struct map first = {0};
    size_t *next = arena_alloc(&converter->arena, converter->n_held * sizeof *next),
           *last = arena_alloc(&converter->arena, converter->n_held * sizeof *last);
    unsigned n = 0;

    /* next: chains of items with one device, from its first item on */
    for (size_t i = 0; i < converter->n_held; i++) {
        struct held *held = &converter->held[i];
        struct held *head = map_get(&first, device_name(held->dev));

        next[i] = SIZE_MAX;
        if (!head) {
            (void)map_put(&first, device_name(held->dev), held);
            last[i] = i;
        } else {
            size_t h = (size_t)(head - converter->held);

            next[last[h]] = i;
            last[h] = i;
            held->is_done = true;
        }
    }
    map_fini(&first);
    for (size_t i = 0; i < converter->n_held; i++) {
        if (converter->held[i].is_done)
            continue;
        converter->event =
            converter->out->begin(converter->out, converter->held[i].dev, converter->held[last[i]].profile);
        event_set_report(converter->event, leg->entry->mapping->report);
        for (size_t k = i; k != SIZE_MAX; k = next[k]) {
            const struct event_item *item = &converter->items[converter->held[k].first];

            for (size_t j = 0; j < converter->held[k].n; j++, item++)
                event_add_reported(converter->event, item->kind, item->key, item->text, item->ts, item->report);
        }
        n += end_event(converter, leg);
    }
    return n;
}

static unsigned convert_array(struct mqtt_converter *converter, const struct leg *leg, yyjson_val *array)
{
    yyjson_arr_iter iter = yyjson_arr_iter_with(array);
    yyjson_val *item;

    converter->event = NULL;
    converter->n_values = 0;
    converter->n_items = converter->n_held = 0;
    while ((item = yyjson_arr_iter_next(&iter)) && converter->n_values <= VALUES_MAX)
        hold_item(converter, leg, item);
    return release_items(converter, leg);
}

static unsigned convert_mapping(struct mqtt_converter *converter, const struct leg *leg)
{
    const struct converter *conf = leg->entry->mapping->converter;
    yyjson_val *data = NULL;
    enum drop_cause cause;
    struct device *dev;

    if (!conf->is_bytes) {
        data = payload_json(converter);
        if (UNLIKELY(!data))
            return drop_message(converter, leg, DROP_NOT_JSON); /* vector mqtt-up-053: even if no tag needs it */
        if (UNLIKELY(yyjson_is_arr(data)))
            return convert_array(converter, leg, data);
    }
    dev = device_of(converter, leg, data, &cause);
    if (UNLIKELY(!dev))
        return drop_message(converter, leg, cause);
    converter->event = converter->out->begin(converter->out, dev, profile_of(converter, leg, data));
    event_set_report(converter->event, leg->entry->mapping->report);
    converter->dev = dev;
    converter->n_values = 0;
    if (conf->is_bytes) {
        add_bytes_values(converter, leg, RECORD_ATTRIBUTES, &conf->attributes);
        add_bytes_values(converter, leg, RECORD_TELEMETRY, &conf->timeseries);
    } else {
        add_json_values(converter, leg, data);
    }
    converter->event->keys_unique = conf->keys_unique;
    return end_event(converter, leg);
}

/* After a message that was too large for what is kept. */
static void tidy_up(struct mqtt_converter *converter)
{
    yyjson_doc_free(converter->big);
    converter->big = NULL;
    if (converter->cap_items > VALUES_KEEP) {
        mem_free(converter->items);
        converter->items = NULL;
        converter->cap_items = 0;
    }
    if (converter->cap_held > VALUES_KEEP) {
        mem_free(converter->held);
        converter->held = NULL;
        converter->cap_held = 0;
    }
}

static unsigned convert_request(struct mqtt_converter *converter, const struct leg *leg)
{
    enum drop_cause cause;
    yyjson_val *data = leg->name_is_fixed && leg->profile_is_fixed ? NULL : payload_json(converter);
    struct device *dev = device_of(converter, leg, data, &cause);

    if (!dev)
        return drop_message(converter, leg, cause);
    if (leg->entry->kind == ENTRY_CONNECT)
        converter->out->connect(converter->out, dev, profile_of(converter, leg, data));
    else
        converter->out->disconnect(converter->out, dev);
    return 1;
}

static void convert_question(struct mqtt_converter *converter, const struct leg *leg)
{
    const struct attribute_request *section = leg->entry->attribute_request;
    struct attribute_question question;
    enum drop_cause cause;
    yyjson_val *data = payload_json(converter);
    struct device *dev = device_of(converter, leg, data, &cause);
    enum err err;

    if (!dev) {
        (void)drop_message(converter, leg, cause);
        return;
    }
    err = down_question(section, converter->topic, data, &converter->arena, &question);
    if (err)
        (void)drop_message(converter, leg, err == ERR_RANGE ? DROP_SCOPE : DROP_NO_ATTRIBUTE);
    else if (converter->out->ask)
        converter->out->ask(converter->out, section, dev, &question);
}

unsigned mqtt_convert(struct mqtt_converter *converter, struct convert_out *out, struct str topic, struct str payload,
                      int64_t wall_ms, uint64_t mono_ms, unsigned *matched)
{
    const struct route *route;
    bool is_disconnected = false;
    unsigned n = 0;

    arena_reset(&converter->arena);
    converter->is_parsed = false;
    converter->out = out;
    converter->topic = topic;
    converter->payload = payload;
    converter->wall_ms = wall_ms;
    converter->mono_ms = mono_ms;
    route = route_of(converter);
    for (unsigned i = 0; i < route->n; i++) {
        const struct leg *leg = &route->legs[i];

        switch (leg->entry->kind) {
        case ENTRY_MAPPING:
            n += convert_mapping(converter, leg);
            break;
        case ENTRY_CONNECT:
            n += convert_request(converter, leg);
            break;
        case ENTRY_DISCONNECT: /* the first that yields a name */
            if (!is_disconnected && convert_request(converter, leg)) {
                is_disconnected = true;
                n++;
            }
            break;
        case ENTRY_ATTRIBUTE_REQUEST:
            convert_question(converter, leg);
            break;
        }
    }
    if (UNLIKELY(converter->big != NULL))
        tidy_up(converter);
    if (matched)
        *matched = route->n;
    return n;
}

const struct convert_counts *mqtt_converter_counts(const struct mqtt_converter *converter)
{
    return &converter->counts;
}

/* --- life ---------------------------------------------------------------------------------------------------------------------- */

struct mqtt_converter *mqtt_converter_new(const struct mqtt_plan *plan)
{
    struct mqtt_converter *converter = mem_zero(sizeof *converter);
    size_t n_slots = 0;

    converter->plan = plan;
    converter->states = mem_zero((plan->n_entries + 1) * sizeof *converter->states);
    converter->matching = mem_zero((plan->n_entries + 1) * sizeof *converter->matching);
    for (unsigned i = 0; i < plan->n_entries; i++) {
        const struct entry *entry = &plan->entries[i];
        const struct member_table *members = entry->kind == ENTRY_MAPPING ? entry->mapping->converter->members : NULL;

        if (!members)
            continue;
        if (members->n > n_slots)
            n_slots = members->n;
        converter->states[i].predict = mem_new(PREDICT_MAX * sizeof(uint16_t));
        memset(converter->states[i].predict, 0xff, PREDICT_MAX * sizeof(uint16_t));
    }
    converter->slots = mem_zero((n_slots + 1) * sizeof *converter->slots);
    arena_init(&converter->arena, 16384);
    arena_init(&converter->routes_arena, 4096);
    return converter;
}

void mqtt_converter_free(struct mqtt_converter *converter)
{
    if (!converter)
        return;
    for (unsigned i = 0; i < converter->plan->n_entries; i++)
        mem_free(converter->states[i].predict);
    mem_free(converter->states);
    mem_free(converter->matching);
    map_fini(&converter->routes);
    arena_fini(&converter->routes_arena);
    arena_fini(&converter->arena);
    buf_fini(&converter->clean);
    mem_free(converter->pool);
    mem_free(converter->slots);
    mem_free(converter->items);
    mem_free(converter->held);
    mem_free(converter);
}
