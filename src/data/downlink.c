/* SPDX-License-Identifier: Apache-2.0 */
#include "data/formula.h"
#include "data/number.h"
#include "data/template_impl.h"

/*
 * Templates towards devices (expressions.md 9). One tag becomes text by the kind of the target; commands are rare beside
 * data, so clarity counts here, not nanoseconds.
 */

/* A resolved tag. */
enum piece_kind { PIECE_MISSING, PIECE_NAME, PIECE_TEXT, PIECE_VALUE };
struct piece {
    enum piece_kind kind;
    struct str text; /* NAME, TEXT */
    yyjson_val *val; /* VALUE: number, boolean, null, array, object */
};

static struct piece piece_of_name(struct str name)
{
    return (struct piece){name.p ? PIECE_NAME : PIECE_MISSING, .text = name};
}

static struct piece piece_of_value(yyjson_val *val)
{
    if (!val)
        return (struct piece){PIECE_MISSING};
    if (yyjson_is_str(val))
        return (struct piece){PIECE_TEXT, .text = json_str(val)};
    return (struct piece){PIECE_VALUE, .val = val};
}

/* A number or text as JSON: what stands for the id is its text. */
static struct str id_text(struct str json)
{
    return json.n >= 2 && *json.p == '"' ? (struct str){json.p + 1, json.n - 2} : json;
}

static struct piece find_piece(const struct template *template, size_t i, const struct template_names *names,
                               struct arena *arena)
{
    const struct tag *tag = &template->tags[i];
    struct str character;
    yyjson_val *val;

    switch (tag->name) {
    case TAG_DEVICE_NAME:
        return piece_of_name(names->device_name);
    case TAG_ATTRIBUTE_KEY:
        return piece_of_name(names->attribute_key);
    case TAG_METHOD_NAME:
        return piece_of_name(names->method);
    case TAG_REQUEST_ID:
        return piece_of_name(id_text(names->request_id));
    case TAG_ATTRIBUTE_VALUE:
        return piece_of_value(names->attribute_value);
    case TAG_DATA:
        break;
    }
    val = template_resolve(template, i, names->request, arena, &character);
    return character.p ? (struct piece){PIECE_TEXT, .text = character} : piece_of_value(val);
}

/* --- text of a piece ---------------------------------------------------------------------------------------------- */

static void add_number(struct buf *out, yyjson_val *val)
{
    char text[NUMBER_MAX];

    buf_add_str(out, json_number_in_template(val, text));
}

/* Section 4, with null and the spelling of booleans as the target has them. */
static void add_plain(struct buf *out, const struct piece *piece, bool python_booleans)
{
    if (piece->kind != PIECE_VALUE)
        buf_add_str(out, piece->text);
    else if (json_is_number(piece->val))
        add_number(out, piece->val);
    else if (yyjson_is_bool(piece->val) && python_booleans)
        buf_add_z(out, yyjson_get_bool(piece->val) ? "True" : "False");
    else
        json_add_value(out, piece->val);
}

static void add_json(struct buf *out, const struct piece *piece)
{
    if (piece->kind == PIECE_MISSING)
        buf_add_z(out, "null");
    else if (piece->kind == PIECE_NAME)
        buf_add_str(out, piece->text);
    else if (piece->kind == PIECE_TEXT)
        json_add_string(out, piece->text);
    else
        json_add_value(out, piece->val);
}

static void add_percent(struct buf *out, struct str s)
{
    static const char hex[] = "0123456789ABCDEF";

    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = (uint8_t)s.p[i];
        bool unreserved =
            (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr("_.-~/", c));

        if (unreserved) {
            buf_add_u8(out, c);
        } else {
            buf_add_u8(out, '%');
            buf_add_u8(out, (uint8_t)hex[c >> 4]);
            buf_add_u8(out, (uint8_t)hex[c & 15]);
        }
    }
}

static void add_in_url(struct buf *out, const struct piece *piece)
{
    autobuf struct buf text = {0};

    add_plain(&text, piece, true);
    add_percent(out, buf_str(&text));
}

static void add_in_body(struct buf *out, const struct piece *piece, bool in_string)
{
    autobuf struct buf text = {0};

    if (piece->kind == PIECE_MISSING) {
        buf_add_z(out, "null");
    } else if (!in_string) {
        if (piece->kind == PIECE_VALUE)
            json_add_value(out, piece->val);
        else
            buf_add_str(out, piece->text);
    } else {
        add_plain(&text, piece, true);
        json_add_escaped(out, buf_str(&text));
    }
}

static void add_literal(struct buf *out, struct str literal, enum template_target target)
{
    if (target != TARGET_URL) {
        buf_add_str(out, literal);
        return;
    }
    for (size_t i = 0; i < literal.n; i++) {
        if (literal.p[i] == ' ')
            buf_add_z(out, "%20");
        else
            buf_add_u8(out, (uint8_t)literal.p[i]);
    }
}

/* --- the whole ---------------------------------------------------------------------------------------------------- */

/* Without a value there is no topic and no URL; payloads and bodies say null. */
static bool may_be_missing(enum template_target target)
{
    return target == TARGET_MQTT_RPC || target == TARGET_BODY;
}

static bool is_missing(const struct piece *piece, enum template_target target)
{
    return piece->kind == PIECE_MISSING ||
           (piece->kind == PIECE_VALUE && yyjson_is_null(piece->val) &&
            (target == TARGET_MQTT_TOPIC || target == TARGET_MQTT_RESPONSE || target == TARGET_URL));
}

static bool substitute(struct buf *out, const struct template *template, enum template_target target,
                       const struct template_names *names, struct arena *arena, struct why *why)
{
    add_literal(out, template->literals[0], target);
    for (size_t i = 0; i < template->n_tags; i++) {
        const struct tag *tag = &template->tags[i];
        struct piece piece = find_piece(template, i, names, arena);

        if (is_missing(&piece, target) && !may_be_missing(target)) {
            why_set(why, ERR_NOTFOUND, "${" STR_FMT "} has no value here", STR_ARG(tag->body));
            return false;
        }
        switch (target) {
        case TARGET_MQTT_TOPIC:
            add_plain(out, &piece, true);
            break;
        case TARGET_MQTT_ATTRIBUTE:
            add_plain(out, &piece, false);
            break;
        case TARGET_MQTT_RPC:
        case TARGET_MQTT_RESPONSE:
            add_json(out, &piece);
            break;
        case TARGET_URL:
            add_in_url(out, &piece);
            break;
        case TARGET_BODY:
            add_in_body(out, &piece, tag->in_string);
            break;
        }
        add_literal(out, template->literals[i + 1], target);
    }
    return true;
}

/* The body of one tag and nothing else. False: it is a name, which goes the way of mixed templates. */
static bool pure_body(struct buf *out, const struct template *template, const struct template_names *names,
                      struct arena *arena)
{
    struct piece piece = find_piece(template, 0, names, arena);

    if (piece.kind == PIECE_NAME)
        return false;
    if (piece.kind == PIECE_TEXT && !names->body_is_json)
        buf_add_str(out, piece.text);
    else
        add_json(out, &piece);
    return true;
}

static bool is_json(struct str text)
{
    yyjson_doc *doc = json_read(text, NULL);

    yyjson_doc_free(doc);
    return doc != NULL;
}

/* Rules 3 and 4: JSON as it is, a Python literal as JSON, anything else as text. */
static struct str finish_body(struct str text, const struct template_names *names, struct arena *arena)
{
    struct value value;
    struct str json;

    if (is_json(text))
        return arena_str(arena, text);
    if (text.n && value_from_literal(text, arena, &value) == ERR_OK && value_json(&value, arena, &json))
        return json;
    return names->body_wraps_text ? json_quote(arena, text) : arena_str(arena, text);
}

bool template_downlink(const struct template *template, enum template_target target, const struct template_names *names,
                       struct arena *arena, struct str *out, struct why *why)
{
    autobuf struct buf text = {0};

    if (target == TARGET_BODY && template->kind == TEMPLATE_PURE && pure_body(&text, template, names, arena)) {
        *out = arena_str(arena, buf_str(&text));
        return true;
    }
    if (!substitute(&text, template, target, names, arena, why))
        return false;
    *out = target == TARGET_BODY ? finish_body(buf_str(&text), names, arena) : arena_str(arena, buf_str(&text));
    return true;
}
