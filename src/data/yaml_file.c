/* SPDX-License-Identifier: Apache-2.0 */
/* The events of libyaml's parser, written as JSON one after the other; with each value goes where it stands. */
#include "data/yaml_file.h"
#include "base/file.h"
#include "data/yaml_scalar.h"

#include <yaml.h>

#include <assert.h>

enum { MAX_TAG_LINES = 16 };

struct reader {
    const char *name;
    struct str text;
    struct why *why;
    struct buf json;
    struct json_pos *positions; /* n of them */
    size_t n, cap;
    unsigned depth;
    bool has_document;
    struct level {
        bool is_map, has_items, at_value; /* at_value: a key came, its value follows */
    } levels[JSON_MAX_DEPTH];
};

static NODISCARD enum err refuse(struct reader *reader, enum err err, yaml_mark_t mark, const char *message)
{
    return why_set(reader->why, err, "%s:%zu:%zu: %s", reader->name, mark.line + 1, mark.column + 1, message);
}

/* ---- what the parser does not like ---- */

/* Each %TAG line is compared with all others by the parser, before it gives the first event. */
static NODISCARD enum err refuse_tag_lines(struct reader *reader)
{
    struct str text = reader->text;
    struct json_pos pos;
    unsigned n = 0;

    for (size_t at = 0; (at = str_find(text, STR("%TAG"), at)) != SIZE_MAX; at++) {
        uint8_t before = at ? (uint8_t)text.p[at - 1] : '\n';

        if (before != '\n' && before != '\r' && before < 0x80) /* the other line breaks of YAML end above */
            continue;
        if (n++ < MAX_TAG_LINES)
            continue;
        pos = json_pos_at(text, at);
        return why_set(reader->why, ERR_LIMIT, "%s:%u:%u: more than %d lines with %%TAG", reader->name, pos.line,
                       pos.column, MAX_TAG_LINES);
    }
    return ERR_OK;
}

/* The parser says of a tab in the indentation that it "cannot start any token". */
static bool has_tab_before(struct str text, struct json_pos pos)
{
    struct str line = STR_NONE;

    for (uint32_t i = 0; i < pos.line && str_split(&text, '\n', &line); i++)
        ;
    return memchr(line.n ? line.p : "", '\t', line.n < pos.column ? line.n : pos.column) != NULL;
}

static NODISCARD enum err refuse_syntax(struct reader *reader, const yaml_parser_t *parser)
{
    struct json_pos pos = {(uint32_t)parser->problem_mark.line + 1, (uint32_t)parser->problem_mark.column + 1};
    const char *problem = parser->problem ? parser->problem : "it cannot be read", *context = parser->context;

    if (parser->error == YAML_MEMORY_ERROR)
        return why_set(reader->why, ERR_NOMEM, "%s: no memory for %zu bytes of YAML", reader->name, reader->text.n);
    if (parser->error == YAML_READER_ERROR)
        pos = json_pos_at(reader->text, parser->problem_offset);
    else if (strstr(problem, "cannot start any token") && has_tab_before(reader->text, pos))
        return why_set(reader->why, ERR_SYNTAX, "%s:%u:%u: a tab stands here; YAML indents with spaces only",
                       reader->name, pos.line, pos.column);
    if (context && parser->context_mark.line + 1 != pos.line)
        return why_set(reader->why, ERR_SYNTAX, "%s:%u:%u: not YAML: %s, %s that begins in line %zu", reader->name,
                       pos.line, pos.column, problem, context, parser->context_mark.line + 1);
    return why_set(reader->why, ERR_SYNTAX, "%s:%u:%u: not YAML: %s%s%s", reader->name, pos.line, pos.column, problem,
                   context ? ", " : "", context ? context : "");
}

/* ---- values ---- */

/* What stands before each value and name; notes where it stands. */
static void begin(struct reader *reader, yaml_mark_t mark)
{
    struct level *level = reader->depth ? &reader->levels[reader->depth - 1] : NULL;

    if (level && level->at_value)
        buf_add_u8(&reader->json, ':');
    else if (level && level->has_items)
        buf_add_u8(&reader->json, ',');
    if (level) {
        level->has_items = true;
        level->at_value = level->is_map && !level->at_value;
    }
    if (reader->n == reader->cap) {
        reader->cap = reader->cap ? 2 * reader->cap : 64;
        reader->positions = mem_grow(reader->positions, reader->cap * sizeof *reader->positions);
    }
    reader->positions[reader->n++] = (struct json_pos){(uint32_t)mark.line + 1, (uint32_t)mark.column + 1};
}

/* The next value is the name of a member. */
static bool at_key(const struct reader *reader)
{
    return reader->depth && reader->levels[reader->depth - 1].is_map && !reader->levels[reader->depth - 1].at_value;
}

static NODISCARD enum err open_level(struct reader *reader, const yaml_event_t *event, bool is_map)
{
    if (at_key(reader))
        return refuse(reader, ERR_UNSUPPORTED, event->start_mark,
                      "the name of a key is one text here, no list or mapping");
    if (reader->depth == JSON_MAX_DEPTH)
        return refuse(reader, ERR_LIMIT, event->start_mark, "nested too deep");
    begin(reader, event->start_mark);
    buf_add_u8(&reader->json, is_map ? '{' : '[');
    reader->levels[reader->depth++] = (struct level){.is_map = is_map};
    return ERR_OK;
}

static void close_level(struct reader *reader)
{
    assert(reader->depth > 0);
    buf_add_u8(&reader->json, reader->levels[--reader->depth].is_map ? '}' : ']');
}

static NODISCARD enum err add_scalar(struct reader *reader, const yaml_event_t *event)
{
    struct str text = str_of(event->data.scalar.value, event->data.scalar.length);
    bool is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE, is_key = at_key(reader);
    enum err err = ERR_TYPE;

    if (is_key && is_plain && str_eq(text, STR("<<")))
        return refuse(reader, ERR_UNSUPPORTED, event->start_mark,
                      "merge keys are not supported; write the members themselves");
    begin(reader, event->start_mark);
    if (is_plain && !is_key)
        err = yaml_scalar_add(&reader->json, text);
    if (err == ERR_TYPE) {
        json_add_string(&reader->json, text);
        return ERR_OK;
    }
    if (err == ERR_UNSUPPORTED)
        return refuse(reader, err, event->start_mark, "JSON has no such number; in quotes it is a text");
    if (err)
        return refuse(reader, err, event->start_mark, "an integer of more than 64 bits; in quotes it is a text");
    return ERR_OK;
}

/* ---- events ---- */

static NODISCARD enum err refuse_marks(struct reader *reader, const yaml_event_t *event, const yaml_char_t *anchor,
                                       const yaml_char_t *tag)
{
    if (anchor)
        return refuse(reader, ERR_UNSUPPORTED, event->start_mark,
                      "anchors (&name) are not supported; write the value where it is needed");
    if (tag)
        return refuse(reader, ERR_UNSUPPORTED, event->start_mark, "tags (!name) are not supported");
    return ERR_OK;
}

static NODISCARD enum err take(struct reader *reader, const yaml_event_t *event)
{
    enum err err;

    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (reader->has_document)
            return refuse(reader, ERR_UNSUPPORTED, event->start_mark, "a second document; a file has one");
        reader->has_document = true;
        return ERR_OK;
    case YAML_ALIAS_EVENT:
        return refuse(reader, ERR_UNSUPPORTED, event->start_mark,
                      "aliases (*name) are not supported; write the value itself");
    case YAML_SCALAR_EVENT:
        err = refuse_marks(reader, event, event->data.scalar.anchor, event->data.scalar.tag);
        return err ? err : add_scalar(reader, event);
    case YAML_SEQUENCE_START_EVENT:
        err = refuse_marks(reader, event, event->data.sequence_start.anchor, event->data.sequence_start.tag);
        return err ? err : open_level(reader, event, false);
    case YAML_MAPPING_START_EVENT:
        err = refuse_marks(reader, event, event->data.mapping_start.anchor, event->data.mapping_start.tag);
        return err ? err : open_level(reader, event, true);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        close_level(reader);
        return ERR_OK;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        break;
    }
    return ERR_OK;
}

static NODISCARD enum err take_all(struct reader *reader, yaml_parser_t *parser)
{
    bool is_end = false;
    enum err err = ERR_OK;

    yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(parser, (const unsigned char *)reader->text.p, reader->text.n);
    while (!err && !is_end) {
        yaml_event_t event;

        if (!yaml_parser_parse(parser, &event))
            return refuse_syntax(reader, parser);
        err = take(reader, &event);
        is_end = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    if (!err && !reader->n)
        return why_set(reader->why, ERR_SYNTAX, "%s:1:1: the file is empty; a mapping is needed", reader->name);
    return err;
}

enum err yaml_file_parse(struct json_file **out, const char *name, struct str text, struct why *why)
{
    struct reader reader = {.name = name, .text = {text.n ? text.p : "", text.n}, .why = why};
    yaml_parser_t parser;
    enum err err;

    if (str_starts(reader.text, STR("\xef\xbb\xbf")))
        reader.text = str_skip(reader.text, 3);
    if (text.n > YAML_MAX_BYTES)
        return why_set(why, ERR_LIMIT, "%s: larger than the limit of %d bytes", name, YAML_MAX_BYTES);
    err = refuse_tag_lines(&reader);
    if (err)
        return err;
    if (!yaml_parser_initialize(&parser))
        return why_set(why, ERR_NOMEM, "%s: no memory", name);
    err = take_all(&reader, &parser);
    yaml_parser_delete(&parser);
    if (!err)
        err = json_file_parse_at(out, name, buf_str(&reader.json), reader.positions, why);
    buf_fini(&reader.json);
    mem_free(reader.positions);
    return err;
}

enum err yaml_file_read(struct json_file **out, const char *path, struct why *why)
{
    autobuf struct buf text = {0};
    enum err err = file_read(&text, path, YAML_MAX_BYTES, why);

    return err ? err : yaml_file_parse(out, path, buf_str(&text), why);
}
