/* SPDX-License-Identifier: Apache-2.0 */
/* From registers and coils to JSON text. The other way: modbus_encode.c. */
#include "modbus_value.h"

#include "base/hex.h"
#include "base/utf8.h"
#include "data/json.h"
#include "data/number.h"
#include "modbus_type.h"

#include <math.h>
#include <stdio.h>

enum { ROUND_DEFAULT = 6, ROUND_MAX = 60, ROUND_MIN = -308, ROUND_NEVER = INT16_MAX, EXACT_DIGITS = 15 };

static const double powers_of_ten[EXACT_DIGITS + 1] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                                       1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};

bool modbus_reads(unsigned function_code)
{
    return function_code >= MODBUS_READ_COILS && function_code <= MODBUS_READ_INPUT;
}

bool modbus_writes(unsigned function_code)
{
    return function_code == MODBUS_WRITE_COIL || function_code == MODBUS_WRITE_REGISTER ||
           function_code == MODBUS_WRITE_COILS || function_code == MODBUS_WRITE_REGISTERS;
}

/* --- compiling --------------------------------------------------------------------------------------------------------- */

static enum err fail(const char **at, const char *key, struct why *why, enum err err, const char *text)
{
    *at = key;
    return why_set(why, err, "%s", text);
}

static enum err make_scale(struct modbus_decoder *out, const struct modbus_shape *shape, const char **key,
                           struct why *why)
{
    yyjson_val *divider = (yyjson_val *)(uintptr_t)shape->divider;
    yyjson_val *multiplier = (yyjson_val *)(uintptr_t)shape->multiplier;
    double factor = 0;

    if (out->is_coils)
        return ERR_OK;
    if (divider && !yyjson_is_null(divider) &&
        (yyjson_is_str(divider) ? str_to_double(str_trim(json_str(divider)), &factor)
                                : json_to_double(divider, &factor)) != ERR_OK)
        return fail(key, "divider", why, ERR_TYPE, "is not a number");
    if (factor != 0) {
        out->scale = MODBUS_DIVIDED;
        out->factor = factor;
        for (uint8_t i = 1; i <= EXACT_DIGITS; i++) {
            if (factor == powers_of_ten[i]) {
                out->scale = MODBUS_DIVIDED_BY_TEN;
                out->shift = i;
            }
        }
        return ERR_OK;
    }
    if (!multiplier || yyjson_is_null(multiplier))
        return ERR_OK;
    if (json_to_double(multiplier, &out->factor) != ERR_OK) {
        if (!yyjson_is_str(multiplier) || str_to_double(str_trim(json_str(multiplier)), &out->factor) != ERR_OK)
            return fail(key, "multiplier", why, ERR_TYPE, "is not a number");
    }
    if (out->factor == 0)
        return ERR_OK; /* as a divider of 0: absent */
    out->scale = MODBUS_TIMES;
    if (json_is_number(multiplier)) {
        char text[NUMBER_MAX];

        if (number_is_integer(json_number_text(multiplier, text)) && json_to_i64(multiplier, &out->whole) == ERR_OK)
            out->scale = MODBUS_TIMES_WHOLE;
    }
    return ERR_OK;
}

static enum err make_variants(struct modbus_decoder *out, const struct modbus_shape *shape, struct arena *arena,
                              const char **key, struct why *why)
{
    yyjson_val *variants = (yyjson_val *)(uintptr_t)shape->variants, *name;
    struct modbus_variant *list;
    yyjson_obj_iter iter;

    if (!variants || yyjson_is_null(variants))
        return ERR_OK;
    if (!yyjson_is_obj(variants))
        return fail(key, "variants", why, ERR_TYPE, "is not an object");
    list = arena_alloc(arena, (yyjson_obj_size(variants) + 1) * sizeof *list);
    iter = yyjson_obj_iter_with(variants);
    while ((name = yyjson_obj_iter_next(&iter)))
        list[out->n_variants++] = (struct modbus_variant){arena_str(arena, json_str(name)),
                                                          json_final_text(arena, yyjson_obj_iter_get_val(name))};
    out->variants = list;
    return ERR_OK;
}

/* How many objects the value is made of, and how many bytes a number has. */
static enum err make_width(struct modbus_decoder *out, const struct modbus_type *type, uint32_t count, const char **key,
                           struct why *why)
{
    uint32_t limit = out->is_coils ? MODBUS_READ_BITS_MAX : UINT16_MAX, bytes;

    if (count > limit)
        return fail(key, "objectsCount", why, ERR_RANGE, "is larger than what can be read");
    out->width = type->width;
    if (out->kind > MODBUS_FLOAT) {
        out->count = (uint16_t)(count ? count : 1);
        out->span = out->kind == MODBUS_BITS && !out->is_coils ? 1 : out->count;
        return ERR_OK;
    }
    if (out->is_coils) {
        if (!count)
            count = type->width ? type->width * 8u : 1;
        bytes = (count + 7) / 8;
        if (!out->width && count > 1)
            out->width = (uint8_t)(bytes > 8 ? 0 : bytes);
        if (count > 1 && bytes < out->width)
            return fail(key, "objectsCount", why, ERR_RANGE, "is fewer bits than the type has");
    } else {
        if (!out->width)
            out->width = (uint8_t)(count > 4 ? 0 : count ? count * 2 : 2);
        bytes = out->width > 1 ? out->width : 2;
        if (count * 2 < bytes)
            count = bytes / 2;
    }
    out->count = out->span = (uint16_t)count;
    if (out->is_coils && count == 1)
        return ERR_OK; /* 0 or 1 */
    if (out->width != 1 && out->width != 2 && out->width != 4 && out->width != 8)
        return fail(key, "objectsCount", why, ERR_RANGE, "gives this type no width of 1, 2 or 4 registers");
    if (out->kind == MODBUS_FLOAT && out->width == 1)
        return fail(key, "objectsCount", why, ERR_RANGE, "is fewer bits than a float has");
    return ERR_OK;
}

static const char *unknown_type(struct str type, char *text, size_t n)
{
    const char *like = modbus_type_like(type);

    if (like)
        snprintf(text, n, "\"" STR_FMT "\" is not a type; did you mean \"%s\"?", STR_ARG(str_cut(type, 60)), like);
    else
        snprintf(text, n, "\"" STR_FMT "\" is not a type; for example \"16int\", \"32float\", \"bits\", \"string\"",
                 STR_ARG(str_cut(type, 60)));
    return text;
}

enum err modbus_decoder_make(struct modbus_decoder *out, const struct modbus_shape *shape, struct arena *arena,
                             const char **key, struct why *why)
{
    const struct modbus_type *type = modbus_type_find(shape->type);
    char text[160];
    enum err err;

    *out = (struct modbus_decoder){.is_coils = modbus_reads_coils(shape->function_code),
                                   .byte_little = shape->byte_little,
                                   .word_little = shape->word_little,
                                   .has_bit = shape->has_bit,
                                   .bits_as_numbers = shape->bits_as_numbers};
    if (!modbus_reads(shape->function_code))
        return fail(key, "functionCode", why, ERR_RANGE, "is none that reads: 1, 2, 3 or 4");
    if (!type)
        return fail(key, "type", why, ERR_TYPE, unknown_type(shape->type, text, sizeof text));
    out->kind = type->kind;
    err = make_width(out, type, shape->count, key, why);
    if (err)
        return err;
    if (shape->has_bit && !out->is_coils && out->kind == MODBUS_BITS && out->count == 1 && shape->bit > 15)
        return fail(key, "bit", why, ERR_RANGE, "is beyond 15, and a register has 16 bits");
    out->bit = (uint16_t)(shape->bit < UINT16_MAX ? shape->bit : UINT16_MAX);
    if (shape->has_round && (shape->round < ROUND_MIN || shape->round > ROUND_MAX))
        out->round = ROUND_NEVER;
    else
        out->round = (int16_t)(shape->has_round ? shape->round : ROUND_DEFAULT);
    err = make_scale(out, shape, key, why);
    return err ? err : make_variants(out, shape, arena, key, why);
}

/* --- values ------------------------------------------------------------------------------------------------------------ */

enum value_form { FORM_INT, FORM_UINT, FORM_DOUBLE, FORM_BOOL, FORM_TEXT, FORM_LIST };
struct value {
    enum value_form form;
    union {
        int64_t i;
        uint64_t u;
        double d;
    };
    struct str text; /* FORM_TEXT: not quoted; FORM_LIST: JSON */
};

static bool coil_at(const uint8_t *data, size_t i)
{
    return data[i / 8] >> (i % 8) & 1;
}

/* The most significant byte comes first in out. */
static void order_bytes(const struct modbus_decoder *decoder, const uint8_t *in, uint8_t *out)
{
    size_t n = decoder->width / 2;

    for (size_t i = 0; i < n; i++) {
        const uint8_t *word = in + 2 * (decoder->word_little ? n - 1 - i : i);

        out[2 * i] = word[decoder->byte_little];
        out[2 * i + 1] = word[!decoder->byte_little];
    }
}

static double half_to_double(uint16_t bits)
{
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double v = exponent == 0 ? ldexp(fraction, -24) : ldexp(fraction + 1024, exponent - 25);

    if (exponent == 31)
        v = fraction ? (double)NAN : (double)INFINITY;
    return bits & 0x8000 ? -v : v;
}

static double float_of(uint64_t bits, unsigned width)
{
    uint32_t narrow = (uint32_t)bits;
    float single;
    double v;

    if (width == 2)
        return half_to_double((uint16_t)bits);
    if (width == 8) {
        memcpy(&v, &bits, sizeof v);
        return v;
    }
    memcpy(&single, &narrow, sizeof single);
    return (double)single;
}

static void take_number(const struct modbus_decoder *decoder, const uint8_t *in, struct value *out)
{
    uint8_t ordered[8];
    uint64_t bits = 0;

    if (decoder->width == 1) {
        bits = in[0]; /* the high byte, whatever the order */
    } else {
        order_bytes(decoder, in, ordered);
        for (unsigned i = 0; i < decoder->width; i++)
            bits = bits << 8 | ordered[i];
    }
    if (decoder->kind == MODBUS_FLOAT) {
        out->form = FORM_DOUBLE;
        out->d = float_of(bits, decoder->width);
    } else if (decoder->kind == MODBUS_UINT) {
        out->form = FORM_UINT;
        out->u = bits;
    } else {
        unsigned unused = 64 - decoder->width * 8u;

        out->form = FORM_INT;
        out->i = (int64_t)(bits << unused) >> unused;
    }
}

static void take_bit(const struct modbus_decoder *decoder, bool bit, struct value *out)
{
    out->form = decoder->has_bit || decoder->bits_as_numbers ? FORM_INT : FORM_BOOL;
    out->i = bit;
}

/* at: the objects of the list, as bits. */
static void take_bits(const struct modbus_decoder *decoder, bool (*at)(const uint8_t *data, size_t i),
                      const uint8_t *data, size_t first, size_t n, struct arena *arena, struct value *out)
{
    char *p, *text;

    if (decoder->has_bit || n == 1) {
        take_bit(decoder, at(data, first + (decoder->bit < n && decoder->has_bit ? decoder->bit : n - 1)), out);
        return;
    }
    text = p = arena_chars(arena, n * 6 + 2);
    *p++ = '[';
    for (size_t i = 0; i < n; i++) {
        struct str word = at(data, first + i) ? (decoder->bits_as_numbers ? STR("1") : STR("true"))
                                              : (decoder->bits_as_numbers ? STR("0") : STR("false"));

        if (i)
            *p++ = ',';
        memcpy(p, word.p, word.n);
        p += word.n;
    }
    *p++ = ']';
    out->form = FORM_LIST;
    out->text = str_of(text, (size_t)(p - text));
}

/* Bits 8 … 15, then 0 … 7 of a register: the order in which the peer lists them (vector modbus-up-053). */
static bool register_bit(const uint8_t *data, size_t i)
{
    return i < 8 ? data[0] >> i & 1 : data[1] >> (i - 8) & 1;
}

static void take_register_bits(const struct modbus_decoder *decoder, const uint8_t *in, struct arena *arena,
                               struct value *out)
{
    if (decoder->count == 1)
        take_bit(decoder, ((unsigned)in[0] << 8 | in[1]) >> (decoder->has_bit ? decoder->bit : 0) & 1, out);
    else
        take_bits(decoder, register_bit, in, 0, decoder->count < 16 ? decoder->count : 16, arena, out);
}

static struct str hex_of(const uint8_t *in, size_t n, struct arena *arena)
{
    static const char digits[] = "0123456789abcdef";
    char *text = arena_chars(arena, 2 * n);

    for (size_t i = 0; i < n; i++) {
        text[2 * i] = digits[in[i] >> 4];
        text[2 * i + 1] = digits[in[i] & 15];
    }
    return str_of(text, 2 * n);
}

static void take_text(const struct modbus_decoder *decoder, const uint8_t *in, size_t n, struct arena *arena,
                      struct value *out)
{
    struct str text = str_of(in, n);

    out->form = FORM_TEXT;
    while (decoder->kind == MODBUS_STRING && text.n && text.p[text.n - 1] == 0)
        text.n--;
    out->text = decoder->kind == MODBUS_STRING && utf8_is_valid(text) ? text : hex_of(in, n, arena);
}

/* The first coil becomes the most significant bit. */
static uint8_t *pack_coils(const uint8_t *data, size_t first, size_t n, struct arena *arena)
{
    size_t n_bytes = (n + 7) / 8;
    uint8_t *out = arena_zero(arena, n_bytes + 8);

    for (size_t i = 0; i < n; i++)
        out[i / 8] = (uint8_t)(out[i / 8] | coil_at(data, first + i) << (7 - i % 8));
    return out;
}

static void take(const struct modbus_decoder *decoder, const uint8_t *data, size_t first, struct arena *arena,
                 struct value *out)
{
    const uint8_t *in = decoder->is_coils ? NULL : data + 2 * first;
    size_t n_bytes = decoder->is_coils ? (decoder->count + 7u) / 8 : 2u * decoder->count;

    if (decoder->is_coils && decoder->kind == MODBUS_BITS) {
        take_bits(decoder, coil_at, data, first, decoder->count, arena, out);
        return;
    }
    if (decoder->is_coils && decoder->count == 1 && decoder->kind <= MODBUS_FLOAT) {
        out->form = FORM_INT;
        out->i = coil_at(data, first);
        return;
    }
    if (decoder->is_coils)
        in = pack_coils(data, first, decoder->count, arena);
    if (decoder->kind == MODBUS_BITS)
        take_register_bits(decoder, in, arena, out);
    else if (decoder->kind > MODBUS_FLOAT)
        take_text(decoder, in, n_bytes, arena, out);
    else
        take_number(decoder, in, out);
}

/* --- rounding and scaling ---------------------------------------------------------------------------------------------- */

/* Ties, on the exact binary value, go to even. */
static double rounded(double v, int decimals)
{
    char text[512];
    double scale, out;
    int n;

    if (decimals == ROUND_NEVER || !isfinite(v))
        return v;
    if (decimals < 0) {
        scale = pow(10, -decimals);
        return isfinite(scale) ? nearbyint(v / scale) * scale : 0;
    }
    if (decimals <= EXACT_DIGITS) {
        double product = v * powers_of_ten[decimals];

        /* Where the product is exact, so is its nearest whole number, and its quotient is what the digits would read as. */
        if (fabs(product) < 1e15 && fma(v, powers_of_ten[decimals], -product) == 0)
            return nearbyint(product) / powers_of_ten[decimals];
    }
    n = snprintf(text, sizeof text, "%.*f", decimals, v);
    return number_read(str_of(text, (size_t)n), &out) == ERR_OK ? out : v;
}

static double as_double(const struct value *value)
{
    return value->form == FORM_DOUBLE ? value->d : value->form == FORM_UINT ? (double)value->u : (double)value->i;
}

static void multiply(struct value *value, const struct modbus_decoder *decoder)
{
    __int128 product;

    if (decoder->scale != MODBUS_TIMES_WHOLE || value->form == FORM_DOUBLE) {
        value->d = as_double(value) * decoder->factor;
        value->form = FORM_DOUBLE;
        return;
    }
    product = (value->form == FORM_UINT ? (__int128)value->u : (__int128)value->i) * decoder->whole;
    if (product < INT64_MIN || product > (__int128)UINT64_MAX) {
        value->form = FORM_DOUBLE;
        value->d = (double)product;
    } else if (product > INT64_MAX) {
        value->form = FORM_UINT;
        value->u = (uint64_t)product;
    } else {
        value->form = FORM_INT;
        value->i = (int64_t)product;
    }
}

static enum err scale(struct value *value, const struct modbus_decoder *decoder, struct why *why)
{
    double number;

    if (decoder->scale == MODBUS_UNSCALED || value->form == FORM_LIST)
        return ERR_OK;
    if (decoder->scale == MODBUS_TIMES || decoder->scale == MODBUS_TIMES_WHOLE) {
        if (value->form != FORM_TEXT)
            multiply(value, decoder);
        return ERR_OK;
    }
    number = value->form == FORM_TEXT ? 0 : as_double(value);
    if (value->form == FORM_TEXT && str_to_double(str_trim(value->text), &number) != ERR_OK)
        return why_set(why, ERR_TYPE, "the text is not a number that could be divided");
    value->form = FORM_DOUBLE;
    value->d = number / decoder->factor;
    return ERR_OK;
}

/* --- text -------------------------------------------------------------------------------------------------------------- */

static const struct modbus_variant *variant(const struct modbus_decoder *decoder, struct str text)
{
    for (size_t i = 0; i < decoder->n_variants; i++)
        if (str_eq(decoder->variants[i].text, text))
            return &decoder->variants[i];
    return NULL;
}

static const struct modbus_variant *find_variant(const struct modbus_decoder *decoder, const struct value *value)
{
    const struct modbus_variant *found;
    char text[NUMBER_MAX];

    switch (value->form) {
    case FORM_INT:
        return variant(decoder, str_of(text, number_put_i64(text, value->i)));
    case FORM_UINT:
        return variant(decoder, str_of(text, number_put_u64(text, value->u)));
    case FORM_DOUBLE:
        return variant(decoder, str_of(text, number_put_python(text, value->d)));
    case FORM_BOOL:
        found = variant(decoder, value->i ? STR("True") : STR("False"));
        if (!found)
            found = variant(decoder, value->i ? STR("true") : STR("false"));
        return found ? found : variant(decoder, value->i ? STR("1") : STR("0"));
    case FORM_TEXT:
        return variant(decoder, value->text);
    case FORM_LIST:
        break;
    }
    return NULL;
}

/* digits ÷ 10^decimals: the shortest text that reads back, as digits has no more than 15. At least one decimal. */
static size_t put_decimal(char *out, int64_t digits, unsigned decimals)
{
    char text[32];
    uint64_t magnitude = digits < 0 ? ~(uint64_t)digits + 1 : (uint64_t)digits;
    size_t n, before, at = 0;

    while (decimals > 1 && magnitude % 10 == 0) {
        magnitude /= 10;
        decimals--;
    }
    n = number_put_u64(text, magnitude);
    if (digits < 0)
        out[at++] = '-';
    before = n > decimals ? n - decimals : 0;
    if (before)
        memcpy(out + at, text, before);
    else
        out[at++] = '0';
    at += before;
    out[at++] = '.';
    memset(out + at, '0', decimals - (n - before));
    at += decimals - (n - before);
    memcpy(out + at, text + before, n - before);
    return at + n - before;
}

static struct str keep(struct arena *arena, const char *text, size_t n)
{
    char *copy = arena_chars(arena, n);

    memcpy(copy, text, n);
    return str_of(copy, n);
}

/* The usual ways of numbers, which need no search for the shortest digits. */
static bool put_quickly(const struct modbus_decoder *decoder, const struct value *value, char *out, size_t *n)
{
    double product;

    if (decoder->n_variants)
        return false;
    if (value->form == FORM_INT && decoder->scale == MODBUS_DIVIDED_BY_TEN && decoder->shift <= 6 &&
        value->i > -1000000000000 && value->i < 1000000000000) {
        *n = put_decimal(out, value->i, decoder->shift);
        return true;
    }
    if (value->form == FORM_UINT && decoder->scale == MODBUS_DIVIDED_BY_TEN && decoder->shift <= 6 &&
        value->u < 1000000000000) {
        *n = put_decimal(out, (int64_t)value->u, decoder->shift);
        return true;
    }
    if (value->form != FORM_DOUBLE || decoder->scale != MODBUS_UNSCALED || decoder->round < 1 || decoder->round > 6)
        return false;
    product = value->d * powers_of_ten[decoder->round];
    if (!(fabs(product) < 1e15) || fma(value->d, powers_of_ten[decoder->round], -product) != 0 || product == 0)
        return false;
    product = nearbyint(product);
    if (product == 0)
        return false; /* the sign */
    *n = put_decimal(out, (int64_t)product, (unsigned)decoder->round);
    return true;
}

enum err modbus_decode(const struct modbus_decoder *decoder, const uint8_t *data, size_t first, struct arena *arena,
                       struct str *out, struct why *why)
{
    const struct modbus_variant *found;
    struct value value = {0};
    char text[NUMBER_MAX];
    size_t n = 0;
    enum err err;

    take(decoder, data, first, arena, &value);
    if (put_quickly(decoder, &value, text, &n)) {
        *out = keep(arena, text, n);
        return ERR_OK;
    }
    if (decoder->kind == MODBUS_FLOAT && value.form == FORM_DOUBLE)
        value.d = rounded(value.d, decoder->round);
    err = scale(&value, decoder, why);
    if (err)
        return err;
    if (value.form == FORM_DOUBLE && !isfinite(value.d))
        return why_set(why, ERR_RANGE, "%s", isnan(value.d) ? "not a number (NaN)" : "infinite");
    found = decoder->n_variants ? find_variant(decoder, &value) : NULL;
    if (found) {
        *out = found->json;
        return ERR_OK;
    }
    switch (value.form) {
    case FORM_INT:
        n = number_put_i64(text, value.i);
        break;
    case FORM_UINT:
        n = number_put_u64(text, value.u);
        break;
    case FORM_DOUBLE:
        n = number_put_double(text, value.d);
        break;
    case FORM_BOOL:
        *out = value.i ? STR("true") : STR("false");
        return ERR_OK;
    case FORM_TEXT:
        *out = json_quote(arena, value.text);
        return ERR_OK;
    case FORM_LIST:
        *out = value.text;
        return ERR_OK;
    }
    *out = keep(arena, text, n);
    return ERR_OK;
}
