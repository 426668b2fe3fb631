/* SPDX-License-Identifier: Apache-2.0 */
/* From JSON values to registers and coils (modbus.md 4.3). */
#include "base/hex.h"
#include "data/json.h"
#include "data/number.h"
#include "modbus_type.h"

#include <math.h>

/* --- scalars ------------------------------------------------------------------------------------------------------------ */

/* Digits of a number, or of a text that is one; empty: neither. */
static struct str digits_of(yyjson_val *value, char *room)
{
    if (yyjson_is_str(value))
        return str_trim(json_str(value));
    if (yyjson_is_bool(value))
        return yyjson_get_bool(value) ? STR("1") : STR("0");
    return json_is_number(value) ? json_number_text(value, room) : STR_NONE;
}

/* true, false, 1, 0, and what is truthy of other values. */
static enum err truth_of(yyjson_val *value, bool *out, struct why *why)
{
    struct str text = str_trim(json_str(value));
    double number;

    if (yyjson_is_arr(value) && yyjson_arr_size(value) == 1)
        return truth_of(yyjson_arr_get_first(value), out, why);
    if (yyjson_is_bool(value)) {
        *out = yyjson_get_bool(value);
    } else if (json_is_number(value) && json_to_double(value, &number) == ERR_OK) {
        *out = number != 0;
    } else if (str_eq_nocase(text, STR("true")) || str_eq_nocase(text, STR("false"))) {
        *out = text.n == 4;
    } else if (text.n && number_read(text, &number) == ERR_OK) {
        *out = number != 0;
    } else {
        return why_set(why, ERR_TYPE, "the value is neither true nor false, 1 nor 0");
    }
    return ERR_OK;
}

static enum err integer_of(yyjson_val *value, bool is_signed, unsigned width, uint64_t *out, struct why *why)
{
    char room[NUMBER_MAX];
    struct str text = digits_of(value, room);
    unsigned bits = width * 8;
    int64_t number = 0;
    uint64_t whole = 0;
    bool integral;
    double probe;

    if (yyjson_is_str(value) && (str_eq_nocase(text, STR("true")) || str_eq_nocase(text, STR("false"))))
        text = text.n == 4 ? STR("1") : STR("0");
    if (!text.n || number_read(text, &probe) == ERR_SYNTAX)
        return why_set(why, ERR_TYPE, "the value is not a number");
    if (!is_signed && str_to_u64(text, &whole) == ERR_OK) {
        *out = whole;
    } else {
        if (number_truncate(text, &number, &integral) != ERR_OK || (!is_signed && number < 0))
            return why_set(why, ERR_RANGE, "the value " STR_FMT " is out of the range of the type",
                           STR_ARG(str_cut(text, 40)));
        *out = (uint64_t)number;
        whole = *out;
    }
    if (bits < 64 &&
        (is_signed ? number < -(INT64_C(1) << (bits - 1)) || number >= INT64_C(1) << (bits - 1) : whole >> bits != 0))
        return why_set(why, ERR_RANGE, "the value " STR_FMT " is out of the range of the type",
                       STR_ARG(str_cut(text, 40)));
    return ERR_OK;
}

/* To nearest, ties to even; what is too large becomes infinite. */
static uint16_t half_of(double v)
{
    uint16_t sign = signbit(v) ? 0x8000 : 0;
    double magnitude = fabs(v);
    int exponent;

    if (magnitude < ldexp(1, -14))
        return (uint16_t)(sign | (unsigned)nearbyint(ldexp(magnitude, 24)));
    (void)frexp(magnitude, &exponent);
    magnitude = nearbyint(ldexp(magnitude, 11 - exponent)); /* 1024 … 2048 */
    return (uint16_t)(sign | (((unsigned)(exponent + 13) << 10) + (unsigned)magnitude));
}

static enum err float_bits(yyjson_val *value, unsigned width, uint64_t *out, struct why *why)
{
    char room[NUMBER_MAX];
    struct str text = digits_of(value, room);
    double number = 0;
    enum err err = text.n ? number_read(text, &number) : ERR_SYNTAX;
    float single;
    uint32_t narrow;

    if (err == ERR_SYNTAX)
        return why_set(why, ERR_TYPE, "the value is not a number");
    if (err || (width == 2 && fabs(number) >= 65520) || (width == 4 && fabs(number) >= 0x1.ffffffp127))
        return why_set(why, ERR_RANGE, "the value " STR_FMT " is out of the range of the type",
                       STR_ARG(str_cut(text, 40)));
    if (width == 2) {
        *out = half_of(number);
    } else if (width == 4) {
        single = (float)number;
        memcpy(&narrow, &single, sizeof narrow);
        *out = narrow;
    } else {
        memcpy(out, &number, sizeof *out);
    }
    return ERR_OK;
}

/* --- registers ---------------------------------------------------------------------------------------------------------- */

static uint16_t swapped(uint16_t word)
{
    return (uint16_t)(word << 8 | word >> 8);
}

static void put_number(const struct modbus_shape *shape, uint64_t bits, unsigned width, struct modbus_write *out)
{
    unsigned n = width / 2;

    if (width == 1) { /* the high byte, whatever the order */
        out->count = 1;
        out->registers[0] = (uint16_t)(bits << 8);
        return;
    }
    out->count = (uint16_t)n;
    for (unsigned i = 0; i < n; i++) {
        uint16_t word = (uint16_t)(bits >> 16 * (n - 1 - i));

        out->registers[shape->word_little ? n - 1 - i : i] = shape->byte_little ? swapped(word) : word;
    }
}

static enum err put_bytes(struct str bytes, uint32_t count, struct modbus_write *out, struct why *why)
{
    if (bytes.n > 2 * (size_t)count)
        return why_set(why, ERR_RANGE, "the value has %zu bytes, and objectsCount %u registers hold %u", bytes.n, count,
                       2 * count);
    out->count = (uint16_t)count;
    memset(out->registers, 0, 2 * (size_t)count);
    for (size_t i = 0; i < bytes.n; i++)
        out->registers[i / 2] = (uint16_t)(out->registers[i / 2] | (uint8_t)bytes.p[i] << (i % 2 ? 0 : 8));
    return ERR_OK;
}

static enum err put_text(const struct modbus_type *type, yyjson_val *value, uint32_t count, struct modbus_write *out,
                         struct why *why)
{
    autobuf struct buf bytes = {0};

    if (type->kind == MODBUS_BYTES) {
        if (!yyjson_is_str(value) || hex_decode(&bytes, json_str(value)) != ERR_OK)
            return why_set(why, ERR_TYPE, "the value is not a text of hexadecimal digits, two for each byte");
    } else if (yyjson_is_str(value)) {
        buf_add_str(&bytes, json_str(value));
    } else if (json_is_number(value) || yyjson_is_bool(value)) {
        json_add_value(&bytes, value);
    } else {
        return why_set(why, ERR_TYPE, "the value is not a text");
    }
    return put_bytes(buf_str(&bytes), count, out, why);
}

/* --- coils -------------------------------------------------------------------------------------------------------------- */

/* A list of n, a boolean for all, or a number whose binary numeral has n digits at most. */
static enum err bits_of(yyjson_val *value, uint32_t n, uint8_t *out, struct why *why)
{
    uint64_t numeral;
    yyjson_arr_iter iter;
    uint32_t i = 0;
    bool bit;

    if (yyjson_is_arr(value)) {
        if (yyjson_arr_size(value) != n)
            return why_set(why, ERR_RANGE, "the list has %zu items, and objectsCount is %u", yyjson_arr_size(value), n);
        iter = yyjson_arr_iter_with(value);
        for (yyjson_val *item; (item = yyjson_arr_iter_next(&iter)); i++) {
            if (truth_of(item, &bit, why) != ERR_OK)
                return why->err;
            out[i] = bit;
        }
        return ERR_OK;
    }
    if (yyjson_is_bool(value) || (yyjson_is_str(value) && (str_eq_nocase(str_trim(json_str(value)), STR("true")) ||
                                                           str_eq_nocase(str_trim(json_str(value)), STR("false"))))) {
        if (truth_of(value, &bit, why) != ERR_OK)
            return why->err;
        memset(out, bit, n);
        return ERR_OK;
    }
    if (integer_of(value, false, 8, &numeral, why) != ERR_OK)
        return why->err;
    if (n < 64 && numeral >> n != 0)
        return why_set(why, ERR_RANGE, "the number has more binary digits than objectsCount %u", n);
    for (i = 0; i < n; i++)
        out[n - 1 - i] = i < 64 && (numeral >> i & 1);
    return ERR_OK;
}

/* Reserved set gives every value as text; a list in it is one. */
static enum err coils_of(yyjson_val *value, uint32_t n, uint8_t *out, struct why *why)
{
    struct str text = str_trim(json_str(value));
    yyjson_doc *doc = text.n && text.p[0] == '[' ? json_read(text, NULL) : NULL;
    enum err err = bits_of(doc ? yyjson_doc_get_root(doc) : value, n, out, why);

    yyjson_doc_free(doc);
    return err;
}

/* A register of bits: the first eight are the upper byte (modbus.md 4.2). */
static enum err put_register_bits(yyjson_val *value, uint32_t count, struct modbus_write *out, struct why *why)
{
    uint8_t bits[16] = {0};
    uint32_t n = count < 16 ? count : 16;
    unsigned word = 0;
    bool bit;

    out->count = 1;
    if (count == 1) {
        if (truth_of(value, &bit, why) != ERR_OK)
            return why->err;
        out->registers[0] = bit;
        return ERR_OK;
    }
    if (coils_of(value, n, bits, why) != ERR_OK)
        return why->err;
    for (unsigned i = 0; i < n; i++)
        word |= (unsigned)bits[i] << (i < 8 ? i + 8 : i - 8);
    out->registers[0] = (uint16_t)word;
    return ERR_OK;
}

/* --- entries ------------------------------------------------------------------------------------------------------------ */

static unsigned width_of(const struct modbus_type *type, uint32_t count)
{
    return type->width ? type->width : count > 4 ? 0 : count * 2;
}

static enum err fail(const char **at, const char *key, struct why *why, enum err err, const char *text)
{
    *at = key;
    return why_set(why, err, "%s", text);
}

static enum err check_registers(const struct modbus_shape *shape, const struct modbus_type *type, uint32_t count,
                                unsigned *becomes, const char **key, struct why *why)
{
    unsigned width = width_of(type, count), n = count;

    if (type->kind <= MODBUS_FLOAT) {
        if ((width != 1 && width != 2 && width != 4 && width != 8) || (type->kind == MODBUS_FLOAT && width == 1))
            return fail(key, "objectsCount", why, ERR_RANGE, "gives this type no width of 1, 2 or 4 registers");
        n = width > 2 ? width / 2 : 1;
    } else if (type->kind == MODBUS_BITS) {
        n = 1;
    }
    if (n > MODBUS_WRITE_REGISTERS_MAX)
        return fail(key, "objectsCount", why, ERR_RANGE, "is more than one request can write, 123 registers");
    *becomes = shape->function_code == MODBUS_WRITE_REGISTER && n > 1 ? MODBUS_WRITE_REGISTERS : shape->function_code;
    return ERR_OK;
}

enum err modbus_encoder_check(const struct modbus_shape *shape, unsigned *becomes, const char **key, struct why *why)
{
    const struct modbus_type *type = modbus_type_find(shape->type);
    uint32_t count = shape->count ? shape->count : 1;
    const char *like;

    *becomes = shape->function_code;
    if (!modbus_writes(shape->function_code))
        return fail(key, "functionCode", why, ERR_RANGE, "is none that writes: 5, 6, 15 or 16");
    if (!type) {
        like = modbus_type_like(shape->type);
        *key = "type";
        return why_set(why, ERR_TYPE, "\"" STR_FMT "\" is not a type%s%s%s", STR_ARG(str_cut(shape->type, 60)),
                       like ? "; did you mean \"" : "", like ? like : "", like ? "\"?" : "");
    }
    if (shape->function_code == MODBUS_WRITE_REGISTER || shape->function_code == MODBUS_WRITE_REGISTERS)
        return check_registers(shape, type, count, becomes, key, why);
    if (count > MODBUS_WRITE_COILS_MAX)
        return fail(key, "objectsCount", why, ERR_RANGE, "is more than one request can write, 1968 coils");
    if (shape->function_code == MODBUS_WRITE_COIL && count > 1 && type->kind == MODBUS_BITS)
        *becomes = MODBUS_WRITE_COILS;
    return ERR_OK;
}

enum err modbus_encode(const struct modbus_shape *shape, const struct yyjson_val *raw, struct modbus_write *out,
                       struct why *why)
{
    const struct modbus_type *type = modbus_type_find(shape->type);
    yyjson_val *value = (yyjson_val *)(uintptr_t)raw;
    uint32_t count = shape->count ? shape->count : 1;
    unsigned becomes, width;
    const char *key = "";
    uint64_t bits = 0;
    bool bit = false;
    enum err err = modbus_encoder_check(shape, &becomes, &key, why);

    if (err) {
        struct why inner = *why;

        *why = (struct why){0};
        return why_set(why, err, "%s %s", key, why_text(&inner));
    }
    if (!value || yyjson_is_null(value))
        return why_set(why, ERR_TYPE, "there is no value");
    out->function_code = (uint8_t)becomes;
    if (becomes == MODBUS_WRITE_COIL) {
        err = truth_of(value, &bit, why);
        out->count = 1;
        out->coils[0] = bit;
        return err;
    }
    if (becomes == MODBUS_WRITE_COILS) {
        out->count = (uint16_t)count;
        return coils_of(value, count, out->coils, why);
    }
    width = width_of(type, count);
    if (type->kind == MODBUS_BITS)
        err = put_register_bits(value, count, out, why);
    else if (type->kind > MODBUS_FLOAT)
        err = put_text(type, value, count, out, why);
    else if (type->kind == MODBUS_FLOAT)
        err = float_bits(value, width, &bits, why);
    else
        err = integer_of(value, type->kind == MODBUS_INT, width, &bits, why);
    if (!err && type->kind <= MODBUS_FLOAT)
        put_number(shape, bits, width, out);
    for (unsigned i = 0; !err && shape->repack && shape->byte_little && i < out->count; i++)
        out->registers[i] = swapped(out->registers[i]);
    return err;
}
