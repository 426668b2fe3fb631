/* SPDX-License-Identifier: Apache-2.0 */
#include "rest_up.h"

#include "base/map.h"
#include "base/utf8.h"
#include "data/number.h"

enum { MAX_NAMES = 256 };

/* --- who ---------------------------------------------------------------------------------------------------------------- */

/* Takes as long for a wrong text as for the right one, wherever they differ. */
static bool is_same_secret(struct str given, struct str wanted)
{
    unsigned differs = given.n != wanted.n;

    for (size_t i = 0; i < given.n; i++)
        differs |= (uint8_t)given.p[i] ^ (uint8_t)wanted.p[wanted.n ? i % wanted.n : 0];
    return !differs && wanted.n;
}

bool rest_is_allowed(const struct rest_security *security, struct str header)
{
    struct str scheme = security && security->login == LOGIN_TOKEN ? STR("Bearer ") : STR("Basic ");

    if (!security || security->login == LOGIN_NONE)
        return true;
    if (header.n > 8192 || !str_eq_nocase(str_cut(header, scheme.n), scheme))
        return false;
    return is_same_secret(str_trim(str_skip(header, scheme.n)), security->expected);
}

struct str rest_failure_text(const struct rest_endpoint *endpoint, unsigned status)
{
    bool is_configured = status == 401 || status == 405 || status == 408 || status == 415 || status == 500;

    return is_configured && endpoint->response ? endpoint->response->failure : STR_NONE;
}

/* --- data ---------------------------------------------------------------------------------------------------------------- */

/* Between web_convert, which makes an event of each item, and the sink, which gets one for items of one device. */
struct joiner {
    struct web_out *out;
    struct rest_sink *sink;
    const struct rest_endpoint *endpoint;
    struct event *event; /* open; NULL: none */
    struct rest_result *result;
    struct arena *arena;
    size_t item, begun; /* from 1, 0: the only one; begun: the first item of the open event */
};
struct joined_out {
    struct web_out out;
    struct joiner *joiner;
};

static struct joiner *joiner_of(struct web_out *out)
{
    return CONTAINER_OF(out, struct joined_out, out)->joiner;
}

static void tell(struct joiner *joiner, size_t item, unsigned status, const char *text)
{
    struct rest_result *result = joiner->result;

    if (result->status != 200)
        return;
    result->status = status;
    result->text =
        item ? arena_printf(joiner->arena, "item %zu: %s", item, text) : arena_str(joiner->arena, str_from(text));
}

static unsigned status_of(enum err err)
{
    switch (err) {
    case ERR_DENIED:
        return 403;
    case ERR_LIMIT:
        return 413;
    case ERR_NOMEM:
    case ERR_FULL:
        return 503;
    default:
        return 500;
    }
}

static void flush(struct joiner *joiner)
{
    struct event *event = joiner->event;
    enum err err;

    joiner->event = NULL;
    if (!event || !event->n)
        return;
    err = joiner->sink->end(joiner->sink);
    if (!err) {
        joiner->result->n_events++;
        return;
    }
    joiner->out->n_dropped++;
    joiner->sink->dropped(joiner->sink, WEB_REFUSED, str_from(err_text(err)));
    tell(joiner, joiner->begun, status_of(err), err == ERR_DENIED ? "the device is not allowed" : err_text(err));
}

static struct event *join_begin(struct web_out *out, struct device *dev, struct str profile)
{
    static const struct report_strategy always = {.type = REPORT_ON_RECEIVED};
    static const struct str expected = STR("\"responseExpected\":");
    struct joiner *joiner = joiner_of(out);

    if (joiner->event && joiner->event->dev == dev && str_eq(joiner->event->profile, profile))
        return joiner->event;
    flush(joiner);
    joiner->begun = joiner->item;
    joiner->event = joiner->sink->begin(joiner->sink, dev, profile);
    if (joiner->endpoint->response->is_expected)
        event_add_reported(joiner->event, RECORD_ATTRIBUTES, expected, STR("true"), EVENT_NO_TS, &always);
    return joiner->event;
}

static enum err join_end(struct web_out *out)
{
    (void)out;
    return ERR_OK;
}

static void join_dropped(struct web_out *out, enum web_drop drop, struct str detail)
{
    struct joiner *joiner = joiner_of(out);

    if (drop == WEB_NO_NAME || drop == WEB_BAD_NAME)
        tell(joiner, joiner->item, 422, web_drop_text(drop));
    joiner->sink->dropped(joiner->sink, drop, detail);
}

/* In which order items are converted: as they stand, but those of a device after its first one. */
static const size_t *order_of(const struct rest_endpoint *endpoint, const struct rest_data *data, struct arena *arena)
{
    size_t *order = arena_alloc(arena, 3 * data->n * sizeof *order), *next = order + data->n, *firsts = next + data->n;
    struct map last = {0}; /* by name: where the next item of it is noted */
    size_t n = 0, n_firsts = 0;

    for (size_t i = 0; i < data->n; i++) {
        struct str name;
        bool has_name = web_device_name(endpoint->converter, data->items[i], arena, &name);
        size_t *before = has_name ? map_get(&last, name) : NULL;

        next[i] = SIZE_MAX;
        if (before)
            *before = i;
        else
            firsts[n_firsts++] = i;
        if (has_name)
            (void)map_put(&last, name, &next[i]);
    }
    for (size_t k = 0; k < n_firsts; k++)
        for (size_t i = firsts[k]; i != SIZE_MAX; i = next[i])
            order[n++] = i;
    map_fini(&last);
    return order;
}

void rest_convert(const struct rest_endpoint *endpoint, const struct rest_data *data, struct rest_sink *sink,
                  int64_t wall_ms, struct arena *arena, struct web_out *counted, struct rest_result *out)
{
    struct joiner joiner = {.sink = sink, .endpoint = endpoint, .result = out, .arena = arena};
    const size_t *order = NULL;
    struct joined_out joined = {{.begin = join_begin, .end = join_end, .dropped = join_dropped}, &joiner};

    *out = (struct rest_result){.status = 200};
    joiner.out = &joined.out;
    if (data->n > 1)
        order = order_of(endpoint, data, arena);
    for (size_t k = 0; k < data->n; k++) {
        size_t i = order ? order[k] : k;

        joiner.item = order ? i + 1 : 0;
        (void)web_convert(endpoint->converter, endpoint->report, &joined.out, data->items[i], wall_ms, arena);
    }
    flush(&joiner);
    counted->n_converted += joined.out.n_converted;
    counted->n_dropped += joined.out.n_dropped;
    counted->n_errors += joined.out.n_errors;
    counted->n_fallbacks += joined.out.n_fallbacks;
}

/* --- attribute requests --------------------------------------------------------------------------------------------------- */

static void add_name(struct buf *names, struct str name, size_t *n)
{
    if (!name.n || name.n > 255 || *n == MAX_NAMES || !utf8_is_valid(name))
        return;
    buf_add_u8(names, names->n ? ',' : '[');
    json_add_string(names, name);
    (*n)++;
}

static void add_names_of(struct buf *names, yyjson_val *val, struct arena *arena, size_t *n)
{
    yyjson_arr_iter iter = yyjson_arr_iter_with(val);
    yyjson_val *item;

    if (yyjson_is_str(val))
        add_name(names, json_str(val), n);
    else if (json_is_number(val) || yyjson_is_bool(val))
        add_name(names, json_text(arena, val), n);
    while ((item = yyjson_arr_iter_next(&iter)))
        if (yyjson_is_str(item))
            add_name(names, json_str(item), n);
}

static bool read_question(const struct rest_endpoint *endpoint, yyjson_val *item, struct arena *arena,
                          struct rest_question *question)
{
    const struct template *names = endpoint->names_template;
    autobuf struct buf out = {0};
    size_t n_names = 0;

    if (!template_text(endpoint->device_template, item, TEMPLATE_SKIP, arena, &question->device) || !question->device.n)
        return false;
    if (template_kind(names) == TEMPLATE_CONSTANT)
        add_name(&out, template_source(names), &n_names);
    for (size_t i = 0; i < template_n_tags(names); i++) {
        struct str character = STR_NONE;
        yyjson_val *val = template_resolve(names, i, item, arena, &character);

        if (character.p)
            add_name(&out, character, &n_names);
        else if (val)
            add_names_of(&out, val, arena, &n_names);
    }
    buf_add_u8(&out, ']');
    question->names = arena_str(arena, buf_str(&out));
    question->is_one = n_names == 1;
    return n_names > 0;
}

unsigned rest_questions(const struct rest_endpoint *endpoint, const struct rest_data *data, struct arena *arena,
                        struct rest_question **out, struct str *why)
{
    static const char missing[] = "there is no device or no attribute name";

    if (data->n > REST_QUESTIONS_MAX) {
        *why = arena_printf(arena, "there are more than %d items", REST_QUESTIONS_MAX);
        return 413;
    }
    *out = arena_zero(arena, data->n * sizeof **out);
    for (size_t i = 0; i < data->n; i++) {
        if (read_question(endpoint, data->items[i], arena, &(*out)[i]))
            continue;
        *why = data->n > 1 ? arena_printf(arena, "item %zu: %s", i + 1, missing) : str_from(missing);
        return 422;
    }
    return 0;
}

struct str rest_answer_to_question(struct str device, uint64_t id, bool is_one, struct str json, struct arena *arena)
{
    yyjson_doc *doc = json_read(json, NULL);
    yyjson_val *values = yyjson_doc_get_root(doc), *only = NULL;
    yyjson_obj_iter iter = yyjson_obj_iter_with(values);
    autobuf struct buf out = {0};

    buf_add_z(&out, "{\"device\":");
    json_add_string(&out, device);
    buf_printf(&out, ",\"id\":%llu,", (unsigned long long)id);
    if (is_one) {
        yyjson_val *key = yyjson_obj_iter_next(&iter);

        only = key ? yyjson_obj_iter_get_val(key) : NULL;
        buf_add_z(&out, "\"value\":");
        if (only)
            json_add_value(&out, only);
        else
            buf_add_z(&out, "null");
    } else {
        buf_add_z(&out, "\"values\":");
        if (yyjson_is_obj(values))
            json_add_value(&out, values);
        else
            buf_add_z(&out, "{}");
    }
    buf_add_u8(&out, '}');
    yyjson_doc_free(doc);
    return arena_str(arena, buf_str(&out));
}

void rest_add_answer(struct buf *out, size_t i, size_t n, struct str answer)
{
    if (n > 1)
        buf_add_u8(out, i ? ',' : '[');
    buf_add_str(out, answer);
    if (n > 1 && i == n - 1)
        buf_add_u8(out, ']');
}

/* --- awaited attributes ----------------------------------------------------------------------------------------------------- */

bool rest_awaited(const struct rest_response *response, yyjson_val *values, struct arena *arena, struct str *out)
{
    yyjson_val *val = json_get(values, response->attribute);
    char number[NUMBER_MAX];

    if (!response->attribute.n) {
        yyjson_obj_iter iter = yyjson_obj_iter_with(values);
        yyjson_val *key = yyjson_obj_iter_next(&iter);

        val = key ? yyjson_obj_iter_get_val(key) : NULL;
    }
    if (!val)
        return false;
    if (yyjson_is_str(val))
        *out = arena_str(arena, json_str(val));
    else if (json_is_number(val))
        *out = arena_str(arena, json_number_in_template(val, number));
    else if (yyjson_is_bool(val))
        *out = yyjson_get_bool(val) ? STR("True") : STR("False");
    else
        *out = json_text(arena, val);
    return true;
}
