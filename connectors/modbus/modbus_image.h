/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MODBUS_IMAGE_H
#define IOTGW_CONNECTOR_MODBUS_IMAGE_H
/*
 * Memory of a Modbus server: four areas, each either with exactly the addresses that were defined, or with all 65536.
 * One thread. Addresses: Modbus Application Protocol 1.1b3, 4.3.
 */
#include "modbus_conf.h"

struct modbus_image {
    struct modbus_cells {
        bool is_exact;    /* only what is defined is there */
        uint8_t *defined; /* a bit for each address */
        uint16_t *words;  /* registers; NULL: an area of bits */
        uint8_t *bits;    /* one byte each */
    } areas[MODBUS_AREAS];
};

void modbus_image_init(struct modbus_image *image);
void modbus_image_fini(struct modbus_image *image); /* accepts a zeroed one */
/* From now on the area has exactly what is defined. */
void modbus_image_define(struct modbus_image *image, enum modbus_area area, uint32_t address, uint32_t n);
bool modbus_image_has(const struct modbus_image *image, enum modbus_area area, uint32_t address, uint32_t n);
uint16_t modbus_image_get(const struct modbus_image *image, enum modbus_area area, uint32_t address);
void modbus_image_set(struct modbus_image *image, enum modbus_area area, uint32_t address, uint16_t value);
/* As an answer carries them: registers, or coils from bit 0 of the first byte. Gives the bytes. */
size_t modbus_image_copy(const struct modbus_image *image, enum modbus_area area, uint32_t address, uint32_t n,
                         uint8_t *out);
void modbus_image_write(struct modbus_image *image, enum modbus_area area, const struct modbus_write *write);
/* The initial values. failed: of an entry whose value cannot be encoded. */
void modbus_image_fill(struct modbus_image *image, const struct modbus_own *own,
                       void (*failed)(void *arg, const struct modbus_point *point, const struct why *why), void *arg);
#endif
