/* SPDX-License-Identifier: Apache-2.0 */
#include "modbus_image.h"

#include "data/json.h"

enum { ADDRESSES = 65536 };

void modbus_image_init(struct modbus_image *image)
{
    *image = (struct modbus_image){0};
    for (size_t area = 0; area < MODBUS_AREAS; area++) {
        if (modbus_area_is_bits((enum modbus_area)area))
            image->areas[area].bits = mem_zero(ADDRESSES);
        else
            image->areas[area].words = mem_zero(ADDRESSES * sizeof(uint16_t));
        image->areas[area].defined = mem_zero(ADDRESSES / 8);
    }
}

void modbus_image_fini(struct modbus_image *image)
{
    for (size_t area = 0; area < MODBUS_AREAS; area++) {
        mem_free(image->areas[area].bits);
        mem_free(image->areas[area].words);
        mem_free(image->areas[area].defined);
    }
    *image = (struct modbus_image){0};
}

void modbus_image_define(struct modbus_image *image, enum modbus_area area, uint32_t address, uint32_t n)
{
    struct modbus_cells *cells = &image->areas[area];

    cells->is_exact = true;
    for (uint32_t i = address; i < address + n && i < ADDRESSES; i++)
        cells->defined[i / 8] = (uint8_t)(cells->defined[i / 8] | 1u << (i % 8));
}

bool modbus_image_has(const struct modbus_image *image, enum modbus_area area, uint32_t address, uint32_t n)
{
    const struct modbus_cells *cells = &image->areas[area];

    if (address + n > ADDRESSES)
        return false;
    for (uint32_t i = address; cells->is_exact && i < address + n; i++)
        if (!(cells->defined[i / 8] >> (i % 8) & 1))
            return false;
    return true;
}

uint16_t modbus_image_get(const struct modbus_image *image, enum modbus_area area, uint32_t address)
{
    const struct modbus_cells *cells = &image->areas[area];

    return cells->words ? cells->words[address] : cells->bits[address];
}

void modbus_image_set(struct modbus_image *image, enum modbus_area area, uint32_t address, uint16_t value)
{
    struct modbus_cells *cells = &image->areas[area];

    if (cells->words)
        cells->words[address] = value;
    else
        cells->bits[address] = value != 0;
}

size_t modbus_image_copy(const struct modbus_image *image, enum modbus_area area, uint32_t address, uint32_t n,
                         uint8_t *out)
{
    if (modbus_area_is_bits(area)) {
        memset(out, 0, (n + 7) / 8);
        for (uint32_t i = 0; i < n; i++)
            out[i / 8] = (uint8_t)(out[i / 8] | image->areas[area].bits[address + i] << (i % 8));
        return (n + 7) / 8;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint16_t word = image->areas[area].words[address + i];

        out[2 * i] = (uint8_t)(word >> 8);
        out[2 * i + 1] = (uint8_t)word;
    }
    return 2 * (size_t)n;
}

void modbus_image_write(struct modbus_image *image, enum modbus_area area, const struct modbus_write *write)
{
    bool is_coils = write->function_code == MODBUS_WRITE_COIL || write->function_code == MODBUS_WRITE_COILS;

    for (uint32_t i = 0; i < write->count; i++)
        modbus_image_set(image, area, write->address + i, is_coils ? write->coils[i] : write->registers[i]);
}

static void fill_point(struct modbus_image *image, enum modbus_area area, const struct modbus_point *point,
                       void (*failed)(void *arg, const struct modbus_point *point, const struct why *why), void *arg)
{
    struct modbus_shape shape = point->shape;
    struct modbus_write write;
    struct why why = {0};
    uint32_t width = modbus_type_width(shape.type, false), n;

    shape.function_code = modbus_area_write(area, point->count);
    n = point->count ? point->count : 1;
    if (!modbus_area_is_bits(area) && n < width)
        n = width;
    if (!point->value) {
        modbus_image_define(image, area, point->address, n);
    } else if (modbus_encode(&shape, point->value, &write, &why) == ERR_OK) {
        write.address = point->address;
        modbus_image_define(image, area, point->address, n > write.count ? n : write.count);
        modbus_image_write(image, area, &write);
    } else {
        failed(arg, point, &why);
    }
}

void modbus_image_fill(struct modbus_image *image, const struct modbus_own *own,
                       void (*failed)(void *arg, const struct modbus_point *point, const struct why *why), void *arg)
{
    for (size_t area = 0; area < MODBUS_AREAS; area++) {
        const struct modbus_section *section = own->values->areas[area];
        const struct conf_list *lists[4];

        if (!section)
            continue;
        lists[0] = &section->attributes;
        lists[1] = &section->timeseries;
        lists[2] = &section->updates;
        lists[3] = &section->rpcs;
        for (size_t l = 0; l < COUNT_OF(lists); l++)
            for (size_t i = 0; i < lists[l]->n; i++)
                fill_point(image, (enum modbus_area)area, lists[l]->items[i], failed, arg);
    }
}
