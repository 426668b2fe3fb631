/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MODBUS_VALUE_H
#define IOTGW_CONNECTOR_MODBUS_VALUE_H
/*
 * Registers and coils ↔ values (modbus.md 4). What the keys of an entry say is compiled once into a decoder or an encoder;
 * decoding then allocates nothing but the text it gives. Pure; results live in the arena given.
 */
#include "base/arena.h"
#include "modbus_pdu.h"

struct yyjson_val;

enum modbus_kind { MODBUS_INT, MODBUS_UINT, MODBUS_FLOAT, MODBUS_STRING, MODBUS_BYTES, MODBUS_BITS };

/* What the keys of an entry say; texts and JSON values are borrowed. */
struct modbus_shape {
    struct str type;
    unsigned function_code;
    uint32_t count; /* objectsCount; 0: absent */
    bool byte_little, word_little, repack;
    bool has_bit, bits_as_numbers;
    uint32_t bit;
    bool has_round;
    int64_t round;
    const struct yyjson_val *divider, *multiplier, *variants; /* NULL: absent */
};

enum modbus_scale { MODBUS_UNSCALED, MODBUS_DIVIDED, MODBUS_DIVIDED_BY_TEN, MODBUS_TIMES, MODBUS_TIMES_WHOLE };

struct modbus_variant {
    struct str text, json;
};

struct modbus_decoder {
    uint8_t kind;  /* enum modbus_kind */
    uint8_t width; /* bytes of a number */
    uint8_t scale; /* enum modbus_scale */
    bool is_coils, byte_little, word_little, has_bit, bits_as_numbers;
    int16_t round; /* decimals of a float; ROUND_NEVER: all */
    uint16_t bit;
    uint16_t count; /* objects that the value is made of, as configured */
    uint16_t span;  /* objects that must be read for it */
    uint8_t shift;  /* divided by ten to the power of */
    double factor;  /* divider or multiplier */
    int64_t whole;  /* multiplier */
    size_t n_variants;
    const struct modbus_variant *variants;
};
bool modbus_reads(unsigned function_code);  /* 1 to 4 */
bool modbus_writes(unsigned function_code); /* 5, 6, 15, 16 */
static inline bool modbus_reads_coils(unsigned function_code)
{
    return function_code == MODBUS_READ_COILS || function_code == MODBUS_READ_DISCRETE;
}
/* Objects one item of that type takes, for ranges; 0: no such type. */
uint32_t modbus_type_width(struct str type, bool is_coils);
const char *modbus_type_like(struct str type); /* the nearest name, or NULL */

/* arena: of the configuration. ERR_TYPE, ERR_RANGE with a reason; *key: the key it is about. */
NODISCARD enum err modbus_decoder_make(struct modbus_decoder *out, const struct modbus_shape *shape,
                                       struct arena *arena, const char **key, struct why *why);
/*
 * data: register values as on the wire, or coils as an answer has them (the first is bit 0 of the first byte); the value
 * begins at object first, and decoder->span of them are there. *out: JSON text in its final form.
 * ERR_RANGE: not a number that JSON has; ERR_TYPE: text that is none; why says so.
 */
NODISCARD enum err modbus_decode(const struct modbus_decoder *decoder, const uint8_t *data, size_t first,
                                 struct arena *arena, struct str *out, struct why *why);

/* What one write carries. */
struct modbus_write {
    uint8_t function_code; /* the one that can carry it: 6 may have become 16, and 5 15 */
    uint16_t address, count;
    union {
        uint16_t registers[MODBUS_WRITE_REGISTERS_MAX];
        uint8_t coils[MODBUS_WRITE_COILS_MAX]; /* 0 or 1 each */
    };
};
/* Whether the shape can be written at all, whatever the value: ERR_TYPE, ERR_RANGE with a reason. becomes: the function code
 * it takes in the end. */
NODISCARD enum err modbus_encoder_check(const struct modbus_shape *shape, unsigned *becomes, const char **key,
                                        struct why *why);
/* out->address is the caller's. ERR_TYPE, ERR_RANGE with a reason: nothing may be written. */
NODISCARD enum err modbus_encode(const struct modbus_shape *shape, const struct yyjson_val *value,
                                 struct modbus_write *out, struct why *why);
#endif
