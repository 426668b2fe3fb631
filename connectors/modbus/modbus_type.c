/* SPDX-License-Identifier: Apache-2.0 */
#include "modbus_type.h"

static const struct modbus_type types[] = {
    {"8int", MODBUS_INT, 1},          {"16int", MODBUS_INT, 2},
    {"32int", MODBUS_INT, 4},         {"64int", MODBUS_INT, 8},
    {"8uint", MODBUS_UINT, 1},        {"16uint", MODBUS_UINT, 2},
    {"32uint", MODBUS_UINT, 4},       {"64uint", MODBUS_UINT, 8},
    {"16float", MODBUS_FLOAT, 2},     {"32float", MODBUS_FLOAT, 4},
    {"64float", MODBUS_FLOAT, 8},     {"string", MODBUS_STRING, 0},
    {"bytes", MODBUS_BYTES, 0},       {"bits", MODBUS_BITS, 0},
    {"bit", MODBUS_BITS, 0},          {"coil", MODBUS_BITS, 0},
    {"coils", MODBUS_BITS, 0},        {"int", MODBUS_INT, 0},
    {"long", MODBUS_INT, 0},          {"integer", MODBUS_INT, 0},
    {"word", MODBUS_INT, 0},          {"dword", MODBUS_INT, 0},
    {"dword/integer", MODBUS_INT, 0}, {"uint", MODBUS_UINT, 0},
    {"unsigned", MODBUS_UINT, 0},     {"unsigned integer", MODBUS_UINT, 0},
    {"unsigned int", MODBUS_UINT, 0}, {"float", MODBUS_FLOAT, 0},
    {"double", MODBUS_FLOAT, 0},
};

const struct modbus_type *modbus_type_find(struct str name)
{
    for (size_t i = 0; i < COUNT_OF(types); i++)
        if (str_eq_nocase(name, str_from(types[i].name)))
            return &types[i];
    return NULL;
}

const char *modbus_type_like(struct str name)
{
    enum { EDITS = 3 };
    unsigned best = EDITS;
    const char *like = NULL;
    bool is_turned;

    for (size_t i = 0; i < COUNT_OF(types) && !like; i++) { /* "int16" */
        struct str type = str_from(types[i].name);
        size_t digits = 0;

        while (digits < type.n && type.p[digits] >= '0' && type.p[digits] <= '9')
            digits++;
        if (digits && name.n == type.n && str_eq_nocase(str_cut(name, type.n - digits), str_skip(type, digits)) &&
            str_eq(str_skip(name, type.n - digits), str_cut(type, digits)))
            like = types[i].name;
    }
    is_turned = like != NULL;
    for (size_t i = 0; i < COUNT_OF(types) && !is_turned; i++) {
        unsigned distance = str_distance(name, str_from(types[i].name), EDITS);

        if (distance < best) {
            best = distance;
            like = types[i].name;
        }
    }
    return like;
}

uint32_t modbus_type_width(struct str name, bool is_coils)
{
    const struct modbus_type *type = modbus_type_find(name);

    if (!type)
        return 0;
    if (is_coils)
        return type->width ? type->width * 8u : 1;
    return type->width > 2 ? type->width / 2 : 1;
}
