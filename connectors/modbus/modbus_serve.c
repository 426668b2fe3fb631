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

/* 6.8: sub-functions that count requests; what is sent back as it came: 0, and those that begin the diary anew. */
static uint8_t serve_diagnostics(struct modbus_diary *diary, const struct modbus_pdu *ask, struct modbus_pdu *answer)
{
    enum { RETURN_QUERY = 0, RESTART = 1, CLEAR = 10, MESSAGES = 11, EXCEPTIONS = 13, HEARD = 14, UNANSWERED = 15 };
    unsigned function = ask->n < 3 ? UINT16_MAX : modbus_be16(ask->bytes + 1);
    uint16_t count = 0;

    *answer = *ask;
    if (function != RETURN_QUERY &&
        (ask->n != 5 || (modbus_be16(ask->bytes + 3) != 0 && !(function == RESTART && ask->bytes[3] == 0xff))))
        return function == RESTART || (function >= CLEAR && function <= UNANSWERED) ? MODBUS_ILLEGAL_VALUE
                                                                                    : MODBUS_ILLEGAL_FUNCTION;
    switch (function) {
    case RETURN_QUERY:
        return 0;
    case RESTART:
    case CLEAR:
        *diary = (struct modbus_diary){0};
        return 0;
    case MESSAGES:
    case HEARD:
        count = diary->n_messages;
        break;
    case EXCEPTIONS:
        count = diary->n_exceptions;
        break;
    case UNANSWERED:
        count = diary->n_unanswered;
        break;
    default:
        return MODBUS_ILLEGAL_FUNCTION;
    }
    answer->n = 5;
    modbus_put_be16(answer->bytes + 3, count);
    return 0;
}

/* 6.9, 6.10: status 0, for nothing is ever under way. */
static uint8_t serve_diary(const struct modbus_diary *diary, uint8_t fc, struct modbus_pdu *answer)
{
    uint8_t *p = answer->bytes;

    *p++ = fc;
    if (fc == MODBUS_GET_EVENT_LOG)
        *p++ = (uint8_t)(6u + diary->n);
    modbus_put_be16(p, 0);
    modbus_put_be16(p + 2, diary->n_events);
    p += 4;
    if (fc == MODBUS_GET_EVENT_LOG) {
        modbus_put_be16(p, diary->n_messages);
        memcpy(p + 2, diary->events, diary->n);
        p += 2u + diary->n;
    }
    answer->n = (uint8_t)(p - answer->bytes);
    return 0;
}

static void note_event(struct modbus_diary *diary, unsigned event)
{
    memmove(diary->events + 1, diary->events, sizeof diary->events - 1);
    diary->events[0] = (uint8_t)event;
    if (diary->n < sizeof diary->events)
        diary->n++;
}

/* 6.10: bytes of what was received, and of what was sent. */
static void note(struct modbus_diary *diary, uint8_t fc, uint8_t exception, bool is_broadcast)
{
    enum { RECEIVED = 0x80, BROADCAST = 0x40, SENT = 0x40, REFUSED = 1, FAILED = 2, BUSY = 4, NEGATIVE = 8 };
    unsigned how = !exception                                 ? 0
                   : exception <= MODBUS_ILLEGAL_VALUE        ? REFUSED
                   : exception == MODBUS_DEVICE_FAILURE       ? FAILED
                   : exception <= MODBUS_DEVICE_BUSY          ? BUSY
                   : exception == MODBUS_NEGATIVE_ACKNOWLEDGE ? NEGATIVE
                                                              : 0;

    note_event(diary, is_broadcast ? RECEIVED | BROADCAST : RECEIVED);
    if (exception)
        diary->n_exceptions++;
    if (is_broadcast)
        diary->n_unanswered++;
    else
        note_event(diary, SENT | how);
    if (!exception && fc != MODBUS_GET_EVENT_COUNTER && fc != MODBUS_GET_EVENT_LOG)
        diary->n_events++;
}

/* 6.13 */
static uint8_t serve_server_id(const struct modbus_own *own, struct modbus_pdu *answer)
{
    static const uint8_t RUNNING = 0xff;

    *answer = (struct modbus_pdu){.n = 4, .bytes = {MODBUS_REPORT_SERVER_ID, 2, (uint8_t)own->unit, RUNNING}};
    return 0;
}

bool modbus_serve(struct modbus_image *image, struct modbus_diary *diary, const struct modbus_own *own, uint8_t unit,
                  const struct modbus_pdu *ask, struct modbus_pdu *answer, struct modbus_change *change)
{
    struct modbus_asked asked;
    uint8_t exception = modbus_read_request(&asked, ask);
    uint8_t fc = ask->n ? ask->bytes[0] : 0;
    /* MODBUS over Serial Line V1.02, 2.1: nobody answers a broadcast. */
    bool is_broadcast = unit == 0 && own->wire.medium == MODBUS_OVER_SERIAL;

    *change = (struct modbus_change){0};
    *answer = (struct modbus_pdu){0};
    if (own->strict_unit && unit != own->unit && !is_broadcast)
        return false;
    diary->n_messages++;
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
            exception = serve_diagnostics(diary, ask, answer);
            break;
        case MODBUS_GET_EVENT_COUNTER:
        case MODBUS_GET_EVENT_LOG:
            exception = serve_diary(diary, fc, answer);
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
    note(diary, fc, exception, is_broadcast);
    return !is_broadcast;
}
