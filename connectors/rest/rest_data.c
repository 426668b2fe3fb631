/* SPDX-License-Identifier: Apache-2.0 */
#include "rest_data.h"

#include "base/map.h"
#include "base/utf8.h"

enum { MAX_PAIRS = 1000, MAX_MERGED = 16 * 1024 * 1024, STATUS_BAD = 400, STATUS_LARGE = 413, STATUS_NO_DATA = 415 };

struct pairs {
    struct str *names, *values;
    size_t n;
    struct map known; /* by name */
};

struct reader {
    struct rest_data *data;
    const struct rest_input *input;
    struct arena *arena;
    struct why *why;
    struct pairs query;
};

/* --- pairs ------------------------------------------------------------------------------------------------------------ */

static bool has_name(const struct pairs *pairs, struct str name)
{
    return map_get(&pairs->known, name) != NULL;
}

/* a=1&b=x%20y; of a name that is repeated the first counts. False: there are too many. */
static bool read_pairs(struct pairs *pairs, struct str text, struct arena *arena, struct why *why)
{
    struct str part;

    *pairs = (struct pairs){0};
    if (!text.n)
        return true;
    pairs->names = arena_alloc(arena, 2 * MAX_PAIRS * sizeof *pairs->names);
    pairs->values = pairs->names + MAX_PAIRS;
    while (str_split(&text, '&', &part)) {
        size_t equals = str_chr(part, '=');
        struct str name = rest_decode(arena, str_cut(part, equals), true);

        if (!part.n || has_name(pairs, name))
            continue;
        if (pairs->n == MAX_PAIRS) {
            (void)why_set(why, ERR_LIMIT, "the request has more than %d fields", MAX_PAIRS);
            return false;
        }
        pairs->names[pairs->n] = name;
        pairs->values[pairs->n] = rest_decode(arena, str_skip(part, equals + 1), true);
        (void)map_put(&pairs->known, name, &pairs->names[pairs->n]);
        pairs->n++;
    }
    return true;
}

/* --- merging ---------------------------------------------------------------------------------------------------------- */

static void add_name(struct buf *out, struct str name)
{
    if (out->n > 1)
        buf_add_u8(out, ',');
    json_add_string(out, name);
    buf_add_u8(out, ':');
}

static yyjson_val *keep_doc(struct reader *reader, yyjson_doc *doc)
{
    if (!doc)
        return NULL;
    reader->data->docs[reader->data->n_docs++] = doc;
    return yyjson_doc_get_root(doc);
}

static bool is_merging(const struct reader *reader)
{
    return reader->query.n || reader->input->match->endpoint->route->n_vars;
}

/* Path variables, below the body, below the query. object NULL: there is no body. */
static void add_merged(struct reader *reader, yyjson_val *object, struct buf *text)
{
    const struct rest_match *match = reader->input->match;
    const struct rest_route *route = match->endpoint->route;
    yyjson_obj_iter iter = yyjson_obj_iter_with(object);
    yyjson_val *key;

    buf_add_u8(text, '{');
    for (size_t i = 0; i < route->n_vars; i++) {
        if (has_name(&reader->query, route->vars[i]) || json_get(object, route->vars[i]))
            continue;
        add_name(text, route->vars[i]);
        json_add_string(text, match->vars[i]);
    }
    while ((key = yyjson_obj_iter_next(&iter))) {
        if (has_name(&reader->query, json_str(key)))
            continue;
        add_name(text, json_str(key));
        json_add_value(text, yyjson_obj_iter_get_val(key));
    }
    for (size_t i = 0; i < reader->query.n; i++) {
        add_name(text, reader->query.names[i]);
        json_add_string(text, reader->query.values[i]);
    }
    buf_add_u8(text, '}');
}

static yyjson_val *merged(struct reader *reader, yyjson_val *object)
{
    autobuf struct buf text = {0};

    if (object && !is_merging(reader))
        return object;
    add_merged(reader, object, &text);
    return keep_doc(reader, json_read(buf_str(&text), reader->why));
}

static void room_for(struct reader *reader, size_t n)
{
    reader->data->docs = arena_alloc(reader->arena, (n + 2) * sizeof *reader->data->docs);
    reader->data->items = arena_alloc(reader->arena, (n + 1) * sizeof *reader->data->items);
}

/* One data object, of a body or without one. */
static unsigned take_one(struct reader *reader, yyjson_val *object)
{
    yyjson_val *item = merged(reader, object);

    if (!item)
        return STATUS_BAD;
    if (!yyjson_obj_size(item)) {
        (void)why_set(reader->why, ERR_NOTFOUND, "the request has no data");
        return STATUS_NO_DATA;
    }
    reader->data->items[reader->data->n++] = item;
    return 0;
}

static unsigned take_array(struct reader *reader, yyjson_val *array, size_t n_bytes)
{
    size_t n = yyjson_arr_size(array);
    yyjson_arr_iter iter = yyjson_arr_iter_with(array);
    yyjson_val *item;

    if (!n)
        return take_one(reader, NULL);
    if (is_merging(reader) && n_bytes + n * (reader->input->query.n + 256) > MAX_MERGED) {
        (void)why_set(reader->why, ERR_LIMIT, "the array is too large to be merged with path and query");
        return STATUS_LARGE;
    }
    while ((item = yyjson_arr_iter_next(&iter))) {
        if (!yyjson_is_obj(item)) {
            (void)why_set(reader->why, ERR_TYPE, "item %zu of the array is not an object", reader->data->n);
            return STATUS_BAD;
        }
        item = merged(reader, item);
        if (!item)
            return STATUS_BAD;
        reader->data->items[reader->data->n++] = item;
    }
    return 0;
}

/* --- bodies ----------------------------------------------------------------------------------------------------------- */

static struct str media_type(struct str content_type)
{
    return str_trim(str_cut(content_type, str_chr(content_type, ';')));
}

static bool is_json_type(struct str content_type)
{
    struct str type = media_type(content_type);

    return str_eq_nocase(type, STR("application/json")) ||
           (type.n > 5 && str_eq_nocase(str_skip(type, type.n - 5), STR("+json")));
}

/* The value of a parameter, as boundary=x or name="a b"; p NULL: none. */
static struct str parameter(struct str header, struct str name)
{
    struct str part;

    (void)str_split(&header, ';', &part);
    while (header.p && header.n) {
        size_t equals = str_chr(header, '=');
        struct str key = str_trim(str_cut(header, equals)), value = str_skip(header, equals + 1);
        size_t n;

        if (value.n && value.p[0] == '"') {
            value = str_skip(value, 1);
            n = str_chr(value, '"');
            header = str_skip(value, n + 1);
            header = str_skip(header, str_chr(header, ';') + 1);
        } else {
            n = str_chr(value, ';');
            header = str_skip(value, n + 1);
        }
        if (str_eq_nocase(key, name))
            return str_cut(value, n);
    }
    return STR_NONE;
}

static struct str field_of(struct str head, struct str name)
{
    struct str line;

    while (str_split(&head, '\n', &line)) {
        size_t colon = str_chr(line, ':');

        if (str_eq_nocase(str_trim(str_cut(line, colon)), name))
            return str_trim(str_skip(line, colon + 1));
    }
    return STR_NONE;
}

/* One part of a form; a file is passed over. */
static void add_part(struct buf *text, struct str part)
{
    size_t end = str_find(part, STR("\r\n\r\n"), 0);
    struct str head = str_cut(part, end), value = end == SIZE_MAX ? STR_NONE : str_skip(part, end + 4);
    struct str disposition = field_of(head, STR("Content-Disposition")), name = parameter(disposition, STR("name"));
    yyjson_doc *doc = NULL;

    if (end == SIZE_MAX || !name.p || parameter(disposition, STR("filename")).p)
        return;
    if (is_json_type(field_of(head, STR("Content-Type"))))
        doc = json_read(value, NULL);
    add_name(text, name);
    if (doc)
        json_add_value(text, yyjson_doc_get_root(doc));
    else
        json_add_string(text, value);
    yyjson_doc_free(doc);
}

static bool add_parts(struct buf *text, struct str body, struct str boundary, struct arena *arena)
{
    struct str mark = arena_printf(arena, "--" STR_FMT, STR_ARG(boundary));
    struct str between = arena_printf(arena, "\r\n" STR_FMT, STR_ARG(mark));
    size_t at = str_find(body, mark, 0), next;

    if (!boundary.n || boundary.n > 70 || at == SIZE_MAX)
        return false;
    at += mark.n;
    while ((next = str_find(body, between, at)) != SIZE_MAX) {
        add_part(text, str_of(body.p + at, next - at));
        at = next + between.n;
        if (str_starts(str_skip(body, at), STR("--")))
            return true;
    }
    return str_starts(str_skip(body, at), STR("--")); /* a form without parts */
}

static unsigned take_form(struct reader *reader, bool is_multipart)
{
    const struct rest_input *input = reader->input;
    autobuf struct buf text = {0};
    struct pairs pairs = {0};
    bool is_read = true;

    buf_add_u8(&text, '{');
    if (is_multipart) {
        if (!add_parts(&text, input->body, parameter(input->content_type, STR("boundary")), reader->arena)) {
            (void)why_set(reader->why, ERR_SYNTAX, "the form has no boundary, or does not end with it");
            return STATUS_BAD;
        }
    } else {
        is_read = read_pairs(&pairs, input->body, reader->arena, reader->why);
        for (size_t i = 0; i < pairs.n; i++) {
            add_name(&text, pairs.names[i]);
            json_add_string(&text, pairs.values[i]);
        }
    }
    buf_add_u8(&text, '}');
    map_fini(&pairs.known);
    return is_read ? take_one(reader, keep_doc(reader, json_read(buf_str(&text), reader->why))) : STATUS_LARGE;
}

static unsigned take_text(struct reader *reader)
{
    autobuf struct buf clean = {0};
    autobuf struct buf text = {0};

    utf8_add_valid(&clean, reader->input->body);
    buf_add_z(&text, "{\"text\":");
    json_add_string(&text, buf_str(&clean));
    buf_add_u8(&text, '}');
    return take_one(reader, keep_doc(reader, json_read(buf_str(&text), reader->why)));
}

/* What does not begin so is no JSON: there is no need to try. */
static bool may_be_json(struct str text)
{
    return text.n && strchr("{[\"-0123456789tfn", text.p[0]) && text.p[0];
}

/* Meant as JSON, whatever the client says: curl -d calls all it sends a form. Text that calls itself so may begin with [. */
static bool is_meant_as_json(struct str body, struct str type)
{
    return body.n && (body.p[0] == '{' || body.p[0] == '[') && !str_starts(type, STR("text/")) &&
           !str_eq_nocase(type, STR("multipart/form-data"));
}

static unsigned take_body(struct reader *reader)
{
    const struct rest_input *input = reader->input;
    struct str type = media_type(input->content_type), body = str_trim(input->body);
    bool is_json = is_json_type(input->content_type);
    struct why why = {0};
    yyjson_doc *doc = is_json || may_be_json(body) ? json_read(input->body, &why) : NULL;
    yyjson_val *root = yyjson_doc_get_root(doc);

    room_for(reader, yyjson_is_arr(root) ? yyjson_arr_size(root) : 1);
    if (doc) {
        (void)keep_doc(reader, doc);
        if (yyjson_is_arr(root))
            return take_array(reader, root, input->body.n);
        if (yyjson_is_obj(root))
            return take_one(reader, root);
        (void)why_set(reader->why, ERR_TYPE, "the body is JSON, but neither an object nor an array");
        return STATUS_BAD;
    }
    if (is_json || is_meant_as_json(body, type)) {
        (void)why_set(reader->why, ERR_SYNTAX, "the body is not JSON: %s", why_text(&why));
        return STATUS_BAD;
    }
    if (str_eq_nocase(type, STR("application/x-www-form-urlencoded")))
        return take_form(reader, false);
    if (str_eq_nocase(type, STR("multipart/form-data")))
        return take_form(reader, true);
    return take_text(reader);
}

unsigned rest_data_open(struct rest_data *data, const struct rest_input *input, struct arena *arena, struct why *why)
{
    struct reader reader = {.data = data, .input = input, .arena = arena, .why = why};
    unsigned status = STATUS_LARGE;

    *data = (struct rest_data){0};
    if (!read_pairs(&reader.query, input->query, arena, why)) {
        /* refused */
    } else if (str_trim(input->body).n && !str_eq(input->method, STR("GET"))) {
        status = take_body(&reader);
    } else {
        room_for(&reader, 1);
        status = take_one(&reader, NULL);
    }
    map_fini(&reader.query.known);
    return status;
}

void rest_data_close(struct rest_data *data)
{
    for (size_t i = 0; i < data->n_docs; i++)
        yyjson_doc_free(data->docs[i]);
    *data = (struct rest_data){0};
}
