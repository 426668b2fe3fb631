/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MODBUS_TYPE_H
#define IOTGW_CONNECTOR_MODBUS_TYPE_H
/* The names of types (modbus.md 4). */
#include "modbus_value.h"

struct modbus_type {
    const char *name;
    uint8_t kind;  /* enum modbus_kind */
    uint8_t width; /* bytes; 0: as objectsCount says */
};
const struct modbus_type *modbus_type_find(struct str name); /* any case; NULL: none */
#endif
