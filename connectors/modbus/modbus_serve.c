/* SPDX-License-Identifier: Apache-2.0 */
/* One request to the gateway's own memory. Clauses are of the MODBUS Application Protocol Specification V1.1b3. */
#include "modbus_server.h"

#include "build_id.h"

static enum modbus_area area_of(uint8_t fc)
{
    switch (fc) {
    case MODBUS_READ_COILS:
    case MODBUS_WRITE_COIL:
    case MODBUS_WRITE_COILS:
        return MODBUS_COILS;
    case MODBUS_READ_DISCRETE:
        return MODBUS_DISCRETE;
    case MODBUS_READ_INPUT:
        return MODBUS_INPUT;
    default:
        return MODBUS_HOLDING;
    }
}

static uint8_t serve_read(const struct modbus_image *image, const struct modbus_asked *asked, struct modbus_pdu *answer)
{
    enum modbus_area area = area_of(asked->fc);

    if (!modbus_image_has(image, area, asked->address, asked->n))
        return MODBUS_ILLEGAL_ADDRESS;
    (void)modbus_image_copy(image, area, asked->address, asked->n, modbus_answer_values(answer, asked));
    return 0;
}

static void put_registers(struct modbus_image *image, uint16_t address, uint16_t n, const uint8_t *data)
{
    for (unsigned i = 0; i < n; i++)
        modbus_image_set(image, MODBUS_HOLDING, address + i, modbus_be16(data + 2 * i));
}

/* 6.5, 6.6, 6.11, 6.12, 6.16 */
static uint8_t serve_write(struct modbus_image *image, const struct modbus_asked *asked, const struct modbus_pdu *ask,
                           struct modbus_pdu *answer, struct modbus_change *change)
{
    enum modbus_area area = area_of(asked->fc);
    unsigned n = asked->fc == MODBUS_WRITE_COILS || asked->fc == MODBUS_WRITE_REGISTERS ? asked->n : 1;
    uint16_t word;

    if (!modbus_image_has(image, area, asked->address, n))
        return MODBUS_ILLEGAL_ADDRESS;
    switch (asked->fc) {
    case MODBUS_WRITE_COIL:
        modbus_image_set(image, area, asked->address, asked->is_on);
        break;
    case MODBUS_WRITE_COILS:
        for (unsigned i = 0; i < n; i++)
            modbus_image_set(image, area, asked->address + i, asked->data[i / 8] >> (i % 8) & 1);
        break;
    case MODBUS_MASK_WRITE_REGISTER:
        word = modbus_image_get(image, area, asked->address);
        modbus_image_set(image, area, asked->address,
                         (uint16_t)((word & asked->and_mask) | (asked->or_mask & ~asked->and_mask)));
        break;
    default:
        put_registers(image, asked->address, (uint16_t)n, asked->data);
    }
    modbus_confirm(answer, ask);
    *change = (struct modbus_change){area, asked->address, n};
    return 0;
}

/* 6.17: the write comes first. */
static uint8_t serve_read_write(struct modbus_image *image, const struct modbus_asked *asked, struct modbus_pdu *answer,
                                struct modbus_change *change)
{
    if (!modbus_image_has(image, MODBUS_HOLDING, asked->write_address, asked->n_write) ||
        !modbus_image_has(image, MODBUS_HOLDING, asked->address, asked->n))
        return MODBUS_ILLEGAL_ADDRESS;
    put_registers(image, asked->write_address, asked->n_write, asked->data);
    *change = (struct modbus_change){MODBUS_HOLDING, asked->write_address, asked->n_write};
    return serve_read(image, asked, answer);
}

/* 6.21: basic objects 0 to 2, regular ones 3 to 6. */
static uint8_t serve_identity(const struct modbus_own *own, const struct modbus_asked *asked, struct modbus_pdu *answer)
{
    static const struct modbus_identity none;
    const struct modbus_identity *identity = own->identity ? own->identity : &none;
    const struct str model = identity->model_name.n ? identity->model_name : identity->model_name_old;
    const struct str objects[] = {identity->vendor_name.n ? identity->vendor_name : STR("iotgw"),
                                  identity->product_code.n ? identity->product_code : STR("iotgw"),
                                  STR(IOTGW_VERSION),
                                  identity->vendor_url,
                                  identity->product_name,
                                  model};

    modbus_answer_identity(answer, asked, objects, COUNT_OF(objects));
    return 0;
}

/* 6.8: sub-function 0 is sent back as it came. */
static uint8_t serve_diagnostics(const struct modbus_pdu *ask, struct modbus_pdu *answer)
{
    if (ask->n < 3 || modbus_be16(ask->bytes + 1) != 0)
        return MODBUS_ILLEGAL_FUNCTION;
    *answer = *ask;
    return 0;
}

/* 6.13 */
static uint8_t serve_server_id(const struct modbus_own *own, struct modbus_pdu *answer)
{
    static const uint8_t RUNNING = 0xff;

    *answer = (struct modbus_pdu){.n = 4, .bytes = {MODBUS_REPORT_SERVER_ID, 2, (uint8_t)own->unit, RUNNING}};
    return 0;
}

bool modbus_serve(struct modbus_image *image, const struct modbus_own *own, uint8_t unit, const struct modbus_pdu *ask,
                  struct modbus_pdu *answer, struct modbus_change *change)
{
    struct modbus_asked asked;
    uint8_t exception = modbus_read_request(&asked, ask);
    uint8_t fc = ask->n ? ask->bytes[0] : 0;

    *change = (struct modbus_change){0};
    *answer = (struct modbus_pdu){0};
    if (own->strict_unit && unit != own->unit && !(unit == 0 && own->wire.medium == MODBUS_OVER_SERIAL))
        return false;
    if (!exception) {
        switch (fc) {
        case MODBUS_READ_COILS:
        case MODBUS_READ_DISCRETE:
        case MODBUS_READ_HOLDING:
        case MODBUS_READ_INPUT:
            exception = serve_read(image, &asked, answer);
            break;
        case MODBUS_WRITE_COIL:
        case MODBUS_WRITE_REGISTER:
        case MODBUS_WRITE_COILS:
        case MODBUS_WRITE_REGISTERS:
        case MODBUS_MASK_WRITE_REGISTER:
            exception = serve_write(image, &asked, ask, answer, change);
            break;
        case MODBUS_READ_WRITE_REGISTERS:
            exception = serve_read_write(image, &asked, answer, change);
            break;
        case MODBUS_ENCAPSULATED:
            exception = serve_identity(own, &asked, answer);
            break;
        case MODBUS_DIAGNOSTICS:
            exception = serve_diagnostics(ask, answer);
            break;
        case MODBUS_REPORT_SERVER_ID:
            exception = serve_server_id(own, answer);
            break;
        default:
            exception = MODBUS_ILLEGAL_FUNCTION;
        }
    }
    if (exception)
        modbus_refuse(answer, fc, exception);
    /* MODBUS over Serial Line V1.02, 2.1: nobody answers a broadcast. */
    return !(unit == 0 && own->wire.medium == MODBUS_OVER_SERIAL);
}
