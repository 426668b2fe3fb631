/* SPDX-License-Identifier: Apache-2.0 */
#include "data/json.h"
#include "base/file.h"
#include "base/map.h"
#include "base/utf8.h"
#include "data/number.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/*
 * yyjson keeps the values of a document one behind the other in the order of the text, member names included. So the n-th
 * value of the document is the n-th thing that a scan of the text meets, and where it stands is kept by that number.
 */
struct json_file {
    char *name, *text;
    size_t text_n;
    yyjson_doc *doc;
    struct json_pos *positions; /* doc->val_read of them */
};

enum { DEFAULT_LIMIT = 64 << 20 };

/* --- reading ------------------------------------------------------------------------------------------------------ */

struct json_pos json_pos_at(struct str text, size_t offset)
{
    struct json_pos pos = {1, 1};

    for (size_t i = 0; i < offset && i < text.n; i++) {
        if (text.p[i] == '\n') {
            pos.line++;
            pos.column = 1;
        } else if ((text.p[i] & 0xc0) != 0x80) {
            pos.column++;
        }
    }
    return pos;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* What people do most often, in words; else what the parser says. */
static const char *syntax_message(struct str text, const yyjson_read_err *err, size_t *offset)
{
    size_t at = err->pos < text.n ? err->pos : text.n, before = at;
    char c = at < text.n ? text.p[at] : 0;

    *offset = at;
    while (before && is_blank(text.p[before - 1]))
        before--;
    if (str_trim(text).n == 0)
        return "it is empty; a JSON value is needed";
    if (err->code == YYJSON_READ_ERROR_UNEXPECTED_END || at == text.n)
        return "the text ends in the middle; a closing bracket or quote is missing";
    if (err->code == YYJSON_READ_ERROR_UNEXPECTED_CONTENT)
        return "there is more text after the end of the JSON value";
    if (c == ',' || ((c == '}' || c == ']') && before && text.p[before - 1] == ',')) {
        *offset = c == ',' ? at : before - 1;
        return "superfluous comma; JSON allows none here";
    }
    if (c == '#' || (c == '/' && at + 1 < text.n && (text.p[at + 1] == '/' || text.p[at + 1] == '*')))
        return "comments are not allowed in JSON";
    if (c == '\'')
        return "texts and names stand in double quotes in JSON";
    if ((c == '"' || c == '{' || c == '[') && before && text.p[before - 1] != ',' && text.p[before - 1] != ':')
        return "a comma or colon is missing before this";
    return err->msg ? err->msg : "not JSON";
}

bool json_is_too_deep(const yyjson_doc *doc)
{
    const char *ends[JSON_MAX_DEPTH + 1];
    const yyjson_val *val = doc->root, *end = val + doc->val_read;
    size_t depth = 0;

    if (doc->val_read <= JSON_MAX_DEPTH)
        return false;
    for (; val < end; val++) {
        while (depth && (const char *)val >= ends[depth - 1])
            depth--;
        if (unsafe_yyjson_is_ctn((void *)(uintptr_t)val)) {
            if (depth == JSON_MAX_DEPTH)
                return true;
            ends[depth++] = (const char *)val + val->uni.ofs;
        }
    }
    return false;
}

static yyjson_doc *read_doc(struct str text, const char *name, struct why *why)
{
    yyjson_read_err err = {0};
    /* The parser copies the text; it is not changed. */
    yyjson_doc *doc =
        yyjson_read_opts((char *)(uintptr_t)(text.n ? text.p : ""), text.n, YYJSON_READ_NUMBER_AS_RAW, NULL, &err);
    struct json_pos pos;
    size_t offset;
    const char *message;

    if (doc && !json_is_too_deep(doc))
        return doc;
    if (doc) {
        yyjson_doc_free(doc);
        why_set(why, ERR_LIMIT, "%s%snested deeper than %d levels", name, *name ? ": " : "", JSON_MAX_DEPTH);
        return NULL;
    }
    if (err.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION) {
        why_set(why, ERR_NOMEM, "%s%sno memory for %zu bytes of JSON", name, *name ? ": " : "", text.n);
        return NULL;
    }
    message = syntax_message(text, &err, &offset);
    pos = json_pos_at(text, offset);
    why_set(why, ERR_SYNTAX, "%s%s%u:%u: %s", name, *name ? ":" : "", pos.line, pos.column, message);
    return NULL;
}

yyjson_doc *json_read(struct str text, struct why *why)
{
    return read_doc(text, "", why);
}

/* Walks over well-formed JSON. */
static void find_positions(struct json_file *file)
{
    const char *p = file->text, *end = p + file->text_n;
    struct json_pos pos = {1, 1};
    size_t n = 0;

    while (p < end) {
        char c = *p;

        if (c == '\n') {
            pos.line++;
            pos.column = 1;
            p++;
            continue;
        }
        if (is_blank(c) || c == ',' || c == ':' || c == '}' || c == ']') {
            pos.column++;
            p++;
            continue;
        }
        if (n == yyjson_doc_get_val_count(file->doc))
            return;
        file->positions[n++] = pos;
        pos.column++;
        p++;
        if (c == '"') {
            for (; *p != '"'; p++) {
                if (*p == '\\') {
                    pos.column++;
                    p++;
                }
                pos.column += (*p & 0xc0) != 0x80;
            }
            pos.column++;
            p++;
        } else if (c != '{' && c != '[') {
            for (; p < end && !is_blank(*p) && *p != ',' && *p != '}' && *p != ']'; p++)
                pos.column++;
        }
    }
}

/* positions NULL: those in the text. */
static NODISCARD enum err parse(struct json_file **out, const char *name, struct str text,
                                const struct json_pos *positions, struct why *why)
{
    struct json_file *file;
    struct why own = {0};
    yyjson_doc *doc;
    size_t n;

    if (str_starts(text, STR("\xef\xbb\xbf")))
        text = str_skip(text, 3);
    if (text.n > UINT32_MAX / 2)
        return why_set(why, ERR_LIMIT, "%s: %zu bytes are too much for one file", name, text.n);
    doc = read_doc(text, name, why ? why : &own);
    if (!doc)
        return why ? why->err : own.err;
    n = yyjson_doc_get_val_count(doc);
    file = mem_zero(sizeof *file);
    file->name = mem_dup(name);
    file->doc = doc;
    file->text = mem_try(text.n + 1);
    file->positions = mem_try(n * sizeof *file->positions);
    if (!file->text || !file->positions) {
        json_file_free(file);
        return why_set(why, ERR_NOMEM, "%s: no memory for %zu bytes", name, text.n);
    }
    memcpy(file->text, text.p, text.n);
    file->text[text.n] = 0;
    file->text_n = text.n;
    if (positions)
        memcpy(file->positions, positions, n * sizeof *positions);
    else
        find_positions(file);
    *out = file;
    return ERR_OK;
}

enum err json_file_parse(struct json_file **out, const char *name, struct str text, struct why *why)
{
    return parse(out, name, text, NULL, why);
}

enum err json_file_parse_at(struct json_file **out, const char *name, struct str text, const struct json_pos *positions,
                            struct why *why)
{
    return parse(out, name, text, positions, why);
}

enum err json_file_read(struct json_file **out, const char *path, size_t limit_bytes, struct why *why)
{
    autobuf struct buf text = {0};
    enum err err = file_read(&text, path, limit_bytes ? limit_bytes : DEFAULT_LIMIT, why);

    return err ? err : json_file_parse(out, path, buf_str(&text), why);
}

void json_file_free(struct json_file *file)
{
    if (!file)
        return;
    yyjson_doc_free(file->doc);
    mem_free(file->name);
    mem_free(file->text);
    mem_free(file->positions);
    mem_free(file);
}

yyjson_val *json_file_root(const struct json_file *file)
{
    return yyjson_doc_get_root(file->doc);
}

const char *json_file_name(const struct json_file *file)
{
    return file->name;
}

struct str json_file_text(const struct json_file *file)
{
    return (struct str){file->text, file->text_n};
}

struct json_pos json_file_pos(const struct json_file *file, const yyjson_val *val)
{
    const yyjson_val *root = yyjson_doc_get_root(file->doc);

    if (val < root || (size_t)(val - root) >= yyjson_doc_get_val_count(file->doc))
        return (struct json_pos){0};
    return file->positions[val - root];
}

/* --- access ------------------------------------------------------------------------------------------------------- */

yyjson_val *json_get(yyjson_val *obj, struct str key)
{
    yyjson_val *last = NULL, *name;
    size_t n;

    if (!yyjson_is_obj(obj))
        return NULL;
    name = unsafe_yyjson_get_first(obj);
    for (n = unsafe_yyjson_get_len(obj); n; n--, name = unsafe_yyjson_get_next(name + 1))
        if (unsafe_yyjson_get_len(name) == key.n && (key.n == 0 || memcmp(name->uni.str, key.p, key.n) == 0))
            last = name + 1;
    return last;
}

bool json_is_number(yyjson_val *val)
{
    return yyjson_is_num(val) || yyjson_is_raw(val);
}

static struct str raw_text(yyjson_val *val)
{
    return (struct str){yyjson_get_raw(val), yyjson_get_len(val)};
}

struct str json_number_text(yyjson_val *val, char *out)
{
    if (LIKELY(yyjson_is_raw(val)))
        return number_final(raw_text(val), out);
    if (yyjson_is_uint(val))
        return (struct str){out, number_put_u64(out, yyjson_get_uint(val))};
    if (yyjson_is_sint(val))
        return (struct str){out, number_put_i64(out, yyjson_get_sint(val))};
    if (yyjson_is_real(val))
        return (struct str){out, number_put_double(out, yyjson_get_real(val))};
    return STR_NONE;
}

struct str json_number_in_template(yyjson_val *val, char *out)
{
    if (LIKELY(yyjson_is_raw(val)))
        return number_in_template(raw_text(val), out);
    if (yyjson_is_real(val))
        return (struct str){out, number_put_python(out, yyjson_get_real(val))};
    return json_number_text(val, out);
}

enum err json_to_double(yyjson_val *val, double *out)
{
    if (yyjson_is_raw(val))
        return number_read(raw_text(val), out);
    if (!yyjson_is_num(val))
        return ERR_TYPE;
    *out = yyjson_get_num(val);
    return ERR_OK;
}

enum err json_to_i64(yyjson_val *val, int64_t *out)
{
    enum err err;
    double v;

    if (yyjson_is_raw(val) && number_is_integer(raw_text(val)))
        return str_to_i64(raw_text(val), out);
    if (yyjson_is_sint(val) || yyjson_is_uint(val)) {
        if (yyjson_is_uint(val) && yyjson_get_uint(val) > INT64_MAX)
            return ERR_RANGE;
        *out = yyjson_get_sint(val);
        return ERR_OK;
    }
    err = json_to_double(val, &v);
    if (err)
        return err;
    if (v != trunc(v))
        return ERR_TYPE;
    if (v < -0x1p63 || v >= 0x1p63)
        return ERR_RANGE;
    *out = (int64_t)v;
    return ERR_OK;
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

/* Bytes from i on that stand in a JSON string as they are, ASCII only. */
static size_t plain_run(struct str s, size_t i)
{
    const uint64_t ones = 0x0101010101010101ull, high = 0x8080808080808080ull;
    uint64_t v;

    while (s.n - i >= 8) {
        uint64_t control, quote, slash;

        memcpy(&v, s.p + i, 8);
        control = v - ones * 0x20;
        quote = (v ^ ones * '"') - ones;
        slash = (v ^ ones * '\\') - ones;
        if ((v | control | quote | slash) & high) /* may stop too early, never too late */
            break;
        i += 8;
    }
    while (i < s.n && (uint8_t)s.p[i] >= 0x20 && (uint8_t)s.p[i] < 0x80 && s.p[i] != '"' && s.p[i] != '\\')
        i++;
    return i;
}

static void add_escape(struct buf *out, char c)
{
    static const char hex[] = "0123456789abcdef";
    static const char short_forms[] = "\"\"\\\\\bb\ff\nn\rr\tt";

    buf_add_u8(out, '\\');
    for (const char *p = short_forms; *p; p += 2) {
        if (*p == c) {
            buf_add_u8(out, (uint8_t)p[1]);
            return;
        }
    }
    buf_add_z(out, "u00");
    buf_add_u8(out, (uint8_t)hex[(uint8_t)c >> 4]);
    buf_add_u8(out, (uint8_t)hex[c & 15]);
}

void json_add_escaped(struct buf *out, struct str s)
{
    size_t i = 0, start;

    while (i < s.n) {
        start = i;
        i = plain_run(s, i);
        buf_add(out, s.p + start, i - start);
        if (i == s.n)
            return;
        if ((uint8_t)s.p[i] < 0x80) {
            add_escape(out, s.p[i++]);
            continue;
        }
        start = i;
        if (utf8_next(s, &i) != UINT32_MAX)
            buf_add(out, s.p + start, i - start);
        else
            buf_add_z(out, "\xef\xbf\xbd");
    }
}

void json_add_string(struct buf *out, struct str s)
{
    buf_add_u8(out, '"');
    json_add_escaped(out, s);
    buf_add_u8(out, '"');
}

static void add_number(struct buf *out, yyjson_val *val, bool final)
{
    char text[NUMBER_MAX];

    buf_add_str(out, yyjson_is_raw(val) && !final ? raw_text(val) : json_number_text(val, text));
}

static void add_value(struct buf *out, yyjson_val *val, bool final, unsigned depth)
{
    yyjson_val *item = NULL;
    bool is_obj;
    size_t n;

    switch (yyjson_get_type(val)) {
    case YYJSON_TYPE_STR:
        json_add_string(out, json_str(val));
        return;
    case YYJSON_TYPE_RAW:
    case YYJSON_TYPE_NUM:
        add_number(out, val, final);
        return;
    case YYJSON_TYPE_BOOL:
        buf_add_z(out, yyjson_get_bool(val) ? "true" : "false");
        return;
    case YYJSON_TYPE_ARR:
    case YYJSON_TYPE_OBJ:
        break;
    default:
        buf_add_z(out, "null");
        return;
    }
    if (depth == JSON_MAX_DEPTH) {
        buf_add_z(out, "null");
        return;
    }
    is_obj = yyjson_is_obj(val);
    buf_add_u8(out, is_obj ? '{' : '[');
    n = unsafe_yyjson_get_len(val);
    for (size_t i = 0; i < n; i++) {
        item = i ? unsafe_yyjson_get_next(item) : unsafe_yyjson_get_first(val);
        if (i)
            buf_add_u8(out, ',');
        if (is_obj) {
            json_add_string(out, json_str(item++));
            buf_add_u8(out, ':');
        }
        add_value(out, item, final, depth + 1);
    }
    buf_add_u8(out, is_obj ? '}' : ']');
}

void json_add_value(struct buf *out, yyjson_val *val)
{
    add_value(out, val, false, 0);
}

void json_add_final(struct buf *out, yyjson_val *val)
{
    add_value(out, val, true, 0);
}

static void add_line(struct buf *out, unsigned depth)
{
    buf_add_u8(out, '\n');
    memset(buf_room(out, (size_t)depth * 2), ' ', (size_t)depth * 2);
    out->n += (size_t)depth * 2;
}

static void add_indented(struct buf *out, yyjson_val *val, unsigned depth)
{
    bool is_obj = yyjson_is_obj(val);
    size_t n = yyjson_is_ctn(val) ? unsafe_yyjson_get_len(val) : 0;
    yyjson_val *item = n ? unsafe_yyjson_get_first(val) : NULL;

    if (!n || depth == JSON_MAX_DEPTH) {
        json_add_value(out, val);
        return;
    }
    buf_add_u8(out, is_obj ? '{' : '[');
    for (size_t i = 0; i < n; i++, item = unsafe_yyjson_get_next(item)) {
        if (i)
            buf_add_u8(out, ',');
        add_line(out, depth + 1);
        if (is_obj) {
            json_add_string(out, json_str(item++));
            buf_add_z(out, ": ");
        }
        add_indented(out, item, depth + 1);
    }
    add_line(out, depth);
    buf_add_u8(out, is_obj ? '}' : ']');
}

void json_add_pretty(struct buf *out, yyjson_val *val)
{
    add_indented(out, val, 0);
}

/* --- writing to an arena: the room is known before, so that the text never moves --------------------------------- */

static size_t string_bound(struct str s)
{
    size_t n = 2 + s.n;

    for (size_t i = plain_run(s, 0); i < s.n; i = plain_run(s, i + 1))
        n += (uint8_t)s.p[i] < 0x80 ? 5 : 2;
    return n;
}

static size_t number_bound(yyjson_val *val)
{
    struct str text = raw_text(val);

    if (!text.p || memchr(text.p, 'e', text.n) || memchr(text.p, 'E', text.n))
        return NUMBER_MAX + text.n;
    return text.n + 24;
}

static size_t value_bound(yyjson_val *val, unsigned depth)
{
    size_t n = 2, count;
    yyjson_val *item;

    if (yyjson_is_str(val))
        return string_bound(json_str(val));
    if (json_is_number(val))
        return number_bound(val);
    if (!yyjson_is_ctn(val) || depth == JSON_MAX_DEPTH)
        return 5;
    count = unsafe_yyjson_get_len(val);
    item = unsafe_yyjson_get_first(val);
    for (size_t i = 0; i < count; i++, item = unsafe_yyjson_get_next(item)) {
        if (yyjson_is_obj(val))
            n += string_bound(json_str(item++)) + 1;
        n += value_bound(item, depth + 1) + 1;
    }
    return n;
}

/* Ends a text that was given more room than it took. */
static struct str arena_close(struct arena *arena, const struct buf *out)
{
    assert(out->n <= out->cap);
    if (arena->at == out->p + out->cap)
        arena->at = out->p + out->n;
    return buf_str(out);
}

static struct str value_to_arena(struct arena *arena, yyjson_val *val, bool final)
{
    size_t cap = value_bound(val, 0);
    struct buf out = {(uint8_t *)arena_chars(arena, cap), 0, cap};

    add_value(&out, val, final, 0);
    return arena_close(arena, &out);
}

struct str json_text(struct arena *arena, yyjson_val *val)
{
    return value_to_arena(arena, val, false);
}

struct str json_final_text(struct arena *arena, yyjson_val *val)
{
    return value_to_arena(arena, val, true);
}

struct str json_quote(struct arena *arena, struct str s)
{
    size_t cap = string_bound(s);
    struct buf out = {(uint8_t *)arena_chars(arena, cap), 0, cap};

    json_add_string(&out, s);
    return arena_close(arena, &out);
}

/* --- comparing ---------------------------------------------------------------------------------------------------- */

static bool numbers_equal(yyjson_val *a, yyjson_val *b)
{
    char text_a[NUMBER_MAX], text_b[NUMBER_MAX];
    double da, db;
    int64_t ia, ib;

    if (str_eq(json_number_text(a, text_a), json_number_text(b, text_b)))
        return true;
    if (json_to_i64(a, &ia) == ERR_OK && json_to_i64(b, &ib) == ERR_OK)
        return ia == ib;
    return json_to_double(a, &da) == ERR_OK && json_to_double(b, &db) == ERR_OK && da == db;
}

static bool equal_at(yyjson_val *a, yyjson_val *b, unsigned depth);

/* Looked up one by one, the members of a large object in another order would take seconds: members is filled then. */
static yyjson_val *member_in(yyjson_val *obj, struct str key, struct map *members)
{
    enum { FEW = 32 };

    if (unsafe_yyjson_get_len(obj) <= FEW)
        return json_get(obj, key);
    if (!members->n) {
        yyjson_obj_iter iter = yyjson_obj_iter_with(obj);
        yyjson_val *name;

        while ((name = yyjson_obj_iter_next(&iter)))
            (void)map_put(members, json_str(name), yyjson_obj_iter_get_val(name));
    }
    return map_get(members, key);
}

static bool objects_equal(yyjson_val *a, yyjson_val *b, unsigned depth)
{
    yyjson_obj_iter iter = yyjson_obj_iter_with(a), other = yyjson_obj_iter_with(b);
    struct map members = {0};
    bool is_equal = true;
    yyjson_val *name;

    while (is_equal && (name = yyjson_obj_iter_next(&iter))) {
        yyjson_val *twin = yyjson_obj_iter_next(&other); /* the same order is the usual case */
        yyjson_val *val = twin && str_eq(json_str(name), json_str(twin)) ? yyjson_obj_iter_get_val(twin)
                                                                         : member_in(b, json_str(name), &members);

        is_equal = val && equal_at(yyjson_obj_iter_get_val(name), val, depth);
    }
    map_fini(&members);
    return is_equal;
}

static bool equal_at(yyjson_val *a, yyjson_val *b, unsigned depth)
{
    if (a == b)
        return true;
    if (json_is_number(a))
        return json_is_number(b) && numbers_equal(a, b);
    if (yyjson_is_str(a))
        return yyjson_is_str(b) && str_eq(json_str(a), json_str(b));
    if (yyjson_get_tag(a) != yyjson_get_tag(b) || yyjson_get_len(a) != yyjson_get_len(b))
        return false;
    if (yyjson_is_obj(a))
        return depth < JSON_MAX_DEPTH && objects_equal(a, b, depth + 1);
    if (yyjson_is_arr(a)) {
        yyjson_arr_iter iter = yyjson_arr_iter_with(a), other = yyjson_arr_iter_with(b);
        yyjson_val *item;

        while ((item = yyjson_arr_iter_next(&iter)))
            if (depth == JSON_MAX_DEPTH || !equal_at(item, yyjson_arr_iter_next(&other), depth + 1))
                return false;
    }
    return true;
}

bool json_equal(yyjson_val *a, yyjson_val *b)
{
    return equal_at(a, b, 0);
}

/* --- U+0000 -------------------------------------------------------------------------------------------------------------- */

size_t json_find_nul(struct str text, size_t from)
{
    for (size_t i = from; i + 6 <= text.n; i++) {
        if (text.p[i] != '\\')
            continue;
        if (memcmp(text.p + i + 1, "u0000", 5) == 0)
            return i;
        i++; /* what is escaped, a backslash perhaps */
    }
    return text.n;
}

unsigned json_replace_nul(char *text, size_t n)
{
    struct str whole = {text, n};
    unsigned n_replaced = 0;

    for (size_t at = json_find_nul(whole, 0); at < n; at = json_find_nul(whole, at + 6), n_replaced++)
        memcpy(text + at + 2, "fffd", 4);
    return n_replaced;
}
