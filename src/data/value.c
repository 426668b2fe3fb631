/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hex.h"
#include "base/utf8.h"
#include "data/formula_tree.h"
#include "data/number.h"

#include <math.h>

enum { MAX_DEPTH = 64 }; /* of JSON and literals that become values */

/* --- kinds ---------------------------------------------------------------------------------------------------------- */
const char *value_kind_name(enum value_kind kind)
{
    switch (kind) {
    case VALUE_NONE:
        return "None";
    case VALUE_BOOL:
        return "boolean";
    case VALUE_INT:
        return "integer";
    case VALUE_DOUBLE:
        return "double";
    case VALUE_TEXT:
        return "text";
    case VALUE_BYTES:
        return "bytes";
    case VALUE_LIST:
        return "list";
    case VALUE_OBJECT:
        return "object";
    }
    return "value";
}

bool value_is_integer(const struct value *value)
{
    return value->kind == VALUE_INT || value->kind == VALUE_BOOL;
}

bool value_is_number(const struct value *value)
{
    return value_is_integer(value) || value->kind == VALUE_DOUBLE;
}

__int128 value_integer(const struct value *value)
{
    return value->kind == VALUE_BOOL ? value->b : value->i;
}

double value_double(const struct value *value)
{
    return value->kind == VALUE_DOUBLE ? value->d : (double)value_integer(value);
}

bool value_is_true(const struct value *value)
{
    switch (value->kind) {
    case VALUE_NONE:
        return false;
    case VALUE_BOOL:
        return value->b;
    case VALUE_INT:
        return value->i != 0;
    case VALUE_DOUBLE:
        return value->d != 0;
    case VALUE_TEXT:
    case VALUE_BYTES:
        return value->text.n != 0;
    case VALUE_LIST:
        return value->list.n != 0;
    case VALUE_OBJECT:
        return value->object.n != 0;
    }
    return false;
}

/* The walk ends when the limit is passed, so that values that hold the same text many times cost no more than others. */
size_t value_measure(const struct value *value, size_t limit)
{
    size_t n = 8;

    switch (value->kind) {
    case VALUE_NONE:
    case VALUE_BOOL:
    case VALUE_INT:
    case VALUE_DOUBLE:
        break;
    case VALUE_TEXT:
    case VALUE_BYTES:
        return value->text.n;
    case VALUE_LIST:
        for (size_t i = 0; i < value->list.n && n <= limit; i++)
            n += 8 + value_measure(&value->list.items[i], limit - n);
        break;
    case VALUE_OBJECT:
        for (size_t i = 0; i < value->object.n && n <= limit; i++)
            n += 8 + value->object.keys[i].n + value_measure(&value->object.items[i], limit - n);
        break;
    }
    return n;
}

const struct value *value_member(const struct value *object, struct str key)
{
    for (size_t i = object->object.n; i-- > 0;)
        if (str_eq(object->object.keys[i], key))
            return &object->object.items[i];
    return NULL;
}

bool value_key(const struct value *value, struct arena *arena, struct str *out)
{
    struct value number;

    switch (value->kind) {
    case VALUE_TEXT:
        *out = value->text;
        return true;
    case VALUE_BOOL:
        *out = value->b ? STR("1") : STR("0");
        return true;
    case VALUE_DOUBLE:
        if (value->d == floor(value->d) && fabs(value->d) < 0x1p100) {
            number = value_of_int((__int128)value->d);
            *out = value_text(&number, arena);
            return true;
        }
        *out = value_text(value, arena);
        return true;
    case VALUE_INT:
    case VALUE_NONE:
        *out = value_text(value, arena);
        return true;
    case VALUE_BYTES:
    case VALUE_LIST:
    case VALUE_OBJECT:
        break;
    }
    return false;
}

/* --- numbers -------------------------------------------------------------------------------------------------------- */
int value_compare_mixed(__int128 i, double d)
{
    __int128 whole;

    if (d >= 0x1p127)
        return -1;
    if (d < -0x1p127)
        return 1;
    whole = (__int128)d;
    if (i != whole)
        return i < whole ? -1 : 1;
    return (d < (double)whole) - (d > (double)whole);
}

size_t value_put_i128(char *out, __int128 v)
{
    unsigned __int128 rest = v < 0 ? -(unsigned __int128)v : (unsigned __int128)v;
    char text[VALUE_I128_MAX], *p = text + sizeof text;
    size_t n;

    do {
        *--p = (char)('0' + (int)(rest % 10));
        rest /= 10;
    } while (rest);
    if (v < 0)
        *--p = '-';
    n = (size_t)(text + sizeof text - p);
    memcpy(out, p, n);
    return n;
}

static unsigned digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    c |= 32;
    return c >= 'a' && c <= 'z' ? (unsigned)(c - 'a') + 10 : 99;
}

bool value_read_digits(struct str digits, unsigned base, __int128 *i, bool *overflow, double *d)
{
    bool after_digit = false;

    *i = 0;
    *d = 0;
    *overflow = false;
    for (size_t k = 0; k < digits.n; k++) {
        unsigned digit = digit_value(digits.p[k]);

        if (digits.p[k] == '_' && after_digit) {
            after_digit = false;
            continue;
        }
        if (digit >= base)
            return false;
        after_digit = true;
        if (!*overflow &&
            (__builtin_mul_overflow(*i, (__int128)base, i) || __builtin_add_overflow(*i, (__int128)digit, i)))
            *overflow = true;
        *d = *d * base + digit;
    }
    if (*overflow && base == 10) { /* rounded once */
        double exact;

        if (value_read_double(digits, &exact))
            *d = exact;
    }
    return after_digit;
}

bool value_read_double(struct str text, double *out)
{
    char plain[512];
    size_t n = 0;

    for (size_t i = 0; i < text.n; i++) {
        bool between = i > 0 && i + 1 < text.n && digit_value(text.p[i - 1]) < 10 && digit_value(text.p[i + 1]) < 10;

        if (text.p[i] == '_' && between)
            continue;
        if (text.p[i] == '_' || n == sizeof plain)
            return false;
        plain[n++] = text.p[i];
    }
    return str_to_double((struct str){plain, n}, out) == ERR_OK;
}

/* --- as JSON -------------------------------------------------------------------------------------------------------- */
static size_t put_number(char *out, const struct value *value)
{
    if (value->kind == VALUE_DOUBLE)
        return number_put_double(out, value->d);
    if (value->i >= INT64_MIN && value->i <= INT64_MAX)
        return number_put_i64(out, (int64_t)value->i);
    if (value->i > 0 && value->i <= UINT64_MAX)
        return number_put_u64(out, (uint64_t)value->i);
    return number_put_double(out, (double)value->i);
}

/* How a list or an object is written. */
struct style {
    const char *comma, *colon;
    void (*add_key)(struct buf *out, struct str key);
    void (*add)(struct buf *out, const struct value *value);
};

static void add_list(struct buf *out, const struct value *value, const struct style *style)
{
    buf_add_u8(out, '[');
    for (size_t i = 0; i < value->list.n; i++) {
        if (i)
            buf_add_z(out, style->comma);
        style->add(out, &value->list.items[i]);
    }
    buf_add_u8(out, ']');
}

static void add_object(struct buf *out, const struct value *value, const struct style *style)
{
    buf_add_u8(out, '{');
    for (size_t i = 0; i < value->object.n; i++) {
        if (i)
            buf_add_z(out, style->comma);
        style->add_key(out, value->object.keys[i]);
        buf_add_z(out, style->colon);
        style->add(out, &value->object.items[i]);
    }
    buf_add_u8(out, '}');
}

static void add_json(struct buf *out, const struct value *value)
{
    static const struct style style = {",", ":", json_add_string, add_json};
    char number[NUMBER_MAX];

    switch (value->kind) {
    case VALUE_NONE:
        buf_add_z(out, "null");
        break;
    case VALUE_BOOL:
        buf_add_z(out, value->b ? "true" : "false");
        break;
    case VALUE_INT:
    case VALUE_DOUBLE:
        buf_add(out, number, put_number(number, value));
        break;
    case VALUE_TEXT:
        json_add_string(out, value->text);
        break;
    case VALUE_BYTES:
        buf_add_u8(out, '"');
        hex_add(out, value->text.p, value->text.n);
        buf_add_u8(out, '"');
        break;
    case VALUE_LIST:
        add_list(out, value, &style);
        break;
    case VALUE_OBJECT:
        add_object(out, value, &style);
        break;
    }
}

bool value_json(const struct value *value, struct arena *arena, struct str *out)
{
    char number[NUMBER_MAX];

    switch (value->kind) {
    case VALUE_DOUBLE:
        if (!isfinite(value->d))
            return false;
        /* fallthrough */
    case VALUE_INT:
        *out = arena_str(arena, (struct str){number, put_number(number, value)});
        return true;
    case VALUE_BOOL:
        *out = value->b ? STR("true") : STR("false");
        return true;
    case VALUE_NONE:
        *out = STR("null");
        return true;
    case VALUE_TEXT:
        *out = json_quote(arena, value->text);
        return true;
    case VALUE_BYTES:
    case VALUE_LIST:
    case VALUE_OBJECT: {
        autobuf struct buf buf = {0};

        add_json(&buf, value);
        *out = arena_str(arena, buf_str(&buf));
        return true;
    }
    }
    return false;
}

/* --- as Python's text ----------------------------------------------------------------------------------------------- */
/* What Python's repr() escapes: controls, separators but the blank, format characters, private use. */
static bool is_printable(uint32_t c)
{
    return !(c < 0x20 || (c >= 0x7f && c <= 0xa0) || c == 0xad || c == 0x1680 || c == 0x180e ||
             (c >= 0x2000 && c <= 0x200f) || (c >= 0x2028 && c <= 0x202f) || (c >= 0x205f && c <= 0x206f) ||
             c == 0x3000 || c == 0xfeff || (c >= 0xe000 && c <= 0xf8ff) || (c >= 0xfff0 && c <= 0xfffb) ||
             c >= 0xe0000);
}

static void add_escape(struct buf *out, uint32_t c)
{
    switch (c) {
    case '\n':
        buf_add_z(out, "\\n");
        break;
    case '\r':
        buf_add_z(out, "\\r");
        break;
    case '\t':
        buf_add_z(out, "\\t");
        break;
    default:
        buf_printf(out, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
    }
}

static char quote_for(struct str s)
{
    return str_chr(s, '\'') < s.n && str_chr(s, '"') == s.n ? '"' : '\'';
}

static void add_repr(struct buf *out, struct str s, bool is_bytes)
{
    char quote = quote_for(s);

    if (is_bytes)
        buf_add_u8(out, 'b');
    buf_add_u8(out, (uint8_t)quote);
    for (size_t i = 0; i < s.n;) {
        size_t from = i;
        uint32_t c = is_bytes ? (uint8_t)s.p[i++] : utf8_next(s, &i);

        if (c == UINT32_MAX)
            c = (uint8_t)s.p[from];
        if (c == (uint32_t)quote || c == '\\') {
            buf_add_u8(out, '\\');
            buf_add_u8(out, (uint8_t)c);
        } else if (is_bytes ? c < 0x20 || c >= 0x7f : !is_printable(c) || (i - from == 1 && c >= 0x80)) {
            add_escape(out, c);
        } else {
            buf_add(out, s.p + from, i - from);
        }
    }
    buf_add_u8(out, (uint8_t)quote);
}

static void add_key_repr(struct buf *out, struct str key)
{
    add_repr(out, key, false);
}

static void add_python(struct buf *out, const struct value *value)
{
    static const struct style style = {", ", ": ", add_key_repr, add_python};
    char number[NUMBER_MAX];

    switch (value->kind) {
    case VALUE_NONE:
        buf_add_z(out, "None");
        break;
    case VALUE_BOOL:
        buf_add_z(out, value->b ? "True" : "False");
        break;
    case VALUE_INT:
        buf_add(out, number, value_put_i128(number, value->i));
        break;
    case VALUE_DOUBLE:
        buf_add(out, number, number_put_python(number, value->d));
        break;
    case VALUE_TEXT:
    case VALUE_BYTES:
        add_repr(out, value->text, value->kind == VALUE_BYTES);
        break;
    case VALUE_LIST:
        add_list(out, value, &style);
        break;
    case VALUE_OBJECT:
        add_object(out, value, &style);
        break;
    }
}

struct str value_text(const struct value *value, struct arena *arena)
{
    char number[NUMBER_MAX];

    switch (value->kind) {
    case VALUE_NONE:
        return STR("None");
    case VALUE_BOOL:
        return value->b ? STR("True") : STR("False");
    case VALUE_INT:
        return arena_str(arena, (struct str){number, value_put_i128(number, value->i)});
    case VALUE_DOUBLE:
        return arena_str(arena, (struct str){number, number_put_python(number, value->d)});
    case VALUE_TEXT:
        return value->text;
    case VALUE_BYTES:
    case VALUE_LIST:
    case VALUE_OBJECT:
        break;
    }
    autobuf struct buf buf = {0};

    add_python(&buf, value);
    return arena_str(arena, buf_str(&buf));
}

/* --- from JSON ------------------------------------------------------------------------------------------------------ */
static struct value number_of(struct str text)
{
    struct value value = {.kind = VALUE_NONE};
    bool negative = text.n && text.p[0] == '-', overflow;
    __int128 i;
    double d;

    if (number_is_integer(text) && value_read_digits(str_skip(text, negative), 10, &i, &overflow, &d))
        return overflow ? value_of_double(negative ? -d : d) : value_of_int(negative ? -i : i);
    if (str_to_double(text, &d) == ERR_OK)
        value = value_of_double(d);
    return value;
}

static void from_json(yyjson_val *val, struct arena *arena, struct value *out, unsigned depth)
{
    *out = value_none();
    switch (yyjson_get_type(val)) {
    case YYJSON_TYPE_RAW:
        *out = number_of((struct str){yyjson_get_raw(val), yyjson_get_len(val)});
        break;
    case YYJSON_TYPE_NUM:
        if (yyjson_is_real(val))
            *out = value_of_double(yyjson_get_real(val));
        else if (yyjson_is_uint(val))
            *out = value_of_int(yyjson_get_uint(val));
        else
            *out = value_of_int(yyjson_get_sint(val));
        break;
    case YYJSON_TYPE_BOOL:
        *out = value_of_bool(yyjson_get_bool(val));
        break;
    case YYJSON_TYPE_STR:
        *out = value_of_text(json_str(val));
        break;
    case YYJSON_TYPE_ARR: {
        size_t n = yyjson_arr_size(val), i, max;
        struct value *items = n && depth < MAX_DEPTH ? arena_alloc(arena, n * sizeof *items) : NULL;
        yyjson_val *item;

        if (depth >= MAX_DEPTH)
            break;
        yyjson_arr_foreach(val, i, max, item) from_json(item, arena, &items[i], depth + 1);
        *out = value_of_list(items, n);
        break;
    }
    case YYJSON_TYPE_OBJ: {
        size_t n = yyjson_obj_size(val), i, max;
        yyjson_val *key, *item;

        if (depth >= MAX_DEPTH)
            break;
        out->kind = VALUE_OBJECT;
        out->object.n = n;
        out->object.keys = n ? arena_alloc(arena, n * sizeof *out->object.keys) : NULL;
        out->object.items = n ? arena_alloc(arena, n * sizeof *out->object.items) : NULL;
        yyjson_obj_foreach(val, i, max, key, item)
        {
            out->object.keys[i] = json_str(key);
            from_json(item, arena, &out->object.items[i], depth + 1);
        }
        break;
    }
    default:
        break;
    }
}

void value_from_json(yyjson_val *val, struct arena *arena, struct value *out)
{
    from_json(val, arena, out, 0);
}
