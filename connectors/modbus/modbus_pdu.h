/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MODBUS_PDU_H
#define IOTGW_CONNECTOR_MODBUS_PDU_H
/*
 * Requests and answers of the MODBUS Application Protocol Specification V1.1b3, both sides: what a client asks and what it
 * may believe of an answer, what a server understands and how it answers. Clauses named below are of that document.
 * Pure: no state, no allocation, any thread. Bytes of the other side are hostile; nothing here asserts on them.
 */
#include "base/str.h"

enum { MODBUS_PDU_MAX = 253 }; /* 4.1 */

struct modbus_pdu {
    uint8_t n;
    uint8_t bytes[MODBUS_PDU_MAX]; /* function code first */
};

enum modbus_fc {
    MODBUS_READ_COILS = 1,                  /* 6.1 */
    MODBUS_READ_DISCRETE = 2,               /* 6.2 */
    MODBUS_READ_HOLDING = 3,                /* 6.3 */
    MODBUS_READ_INPUT = 4,                  /* 6.4 */
    MODBUS_WRITE_COIL = 5,                  /* 6.5 */
    MODBUS_WRITE_REGISTER = 6,              /* 6.6 */
    MODBUS_DIAGNOSTICS = 8,                 /* 6.8 */
    MODBUS_GET_EVENT_COUNTER = 11,          /* 6.9 */
    MODBUS_GET_EVENT_LOG = 12,              /* 6.10 */
    MODBUS_WRITE_COILS = 15,                /* 6.11 */
    MODBUS_WRITE_REGISTERS = 16,            /* 6.12 */
    MODBUS_REPORT_SERVER_ID = 17,           /* 6.13 */
    MODBUS_MASK_WRITE_REGISTER = 22,        /* 6.16 */
    MODBUS_READ_WRITE_REGISTERS = 23,       /* 6.17 */
    MODBUS_ENCAPSULATED = 43,               /* 6.19 */
    MODBUS_READ_DEVICE_IDENTIFICATION = 14, /* 6.21: the MEI type under 43 */
    MODBUS_EXCEPTION = 0x80,                /* is added to the function code of a refused request, 7 */
};

enum modbus_exception {
    MODBUS_ILLEGAL_FUNCTION = 1,
    MODBUS_ILLEGAL_ADDRESS = 2,
    MODBUS_ILLEGAL_VALUE = 3,
    MODBUS_DEVICE_FAILURE = 4,
    MODBUS_ACKNOWLEDGE = 5, /* it works on it; ask again later */
    MODBUS_DEVICE_BUSY = 6,
    MODBUS_NEGATIVE_ACKNOWLEDGE = 7, /* of older devices */
    MODBUS_MEMORY_PARITY = 8,
    MODBUS_GATEWAY_PATH = 10,
    MODBUS_GATEWAY_TARGET = 11,
};

/* Of one request: 6.1, 6.2; 6.3, 6.4; 6.11; 6.12; 6.17. */
enum {
    MODBUS_READ_BITS_MAX = 2000,
    MODBUS_READ_REGISTERS_MAX = 125,
    MODBUS_WRITE_COILS_MAX = 1968,
    MODBUS_WRITE_REGISTERS_MAX = 123,
    MODBUS_READ_WRITE_MAX = 121, /* registers written by 6.17 */
};

const char *modbus_exception_name(uint8_t code); /* "illegal data address"; others: "exception", never NULL */
const char *modbus_fc_name(uint8_t fc);          /* "read holding registers"; others: "function"; without the 0x80 */

static inline uint16_t modbus_be16(const uint8_t *p)
{
    return (uint16_t)((unsigned)p[0] << 8 | p[1]);
}

static inline void modbus_put_be16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

/* --- client ------------------------------------------------------------------------------------------------------------ */
/* Each fills *ask, or answers ERR_RANGE: a count of none or more than one request takes, or an end beyond address 65535. */
NODISCARD enum err modbus_ask_read(struct modbus_pdu *ask, enum modbus_fc fc, uint16_t address, unsigned n); /* 1 … 4 */
void modbus_ask_write_coil(struct modbus_pdu *ask, uint16_t address, bool is_on);
void modbus_ask_write_register(struct modbus_pdu *ask, uint16_t address, uint16_t value);
/* bits: packed, the first one lowest in the first byte. */
NODISCARD enum err modbus_ask_write_coils(struct modbus_pdu *ask, uint16_t address, unsigned n, const uint8_t *bits);
NODISCARD enum err modbus_ask_write_registers(struct modbus_pdu *ask, uint16_t address, unsigned n,
                                              const uint16_t *values);
void modbus_ask_mask_write(struct modbus_pdu *ask, uint16_t address, uint16_t and_mask, uint16_t or_mask);
NODISCARD enum err modbus_ask_read_write(struct modbus_pdu *ask, uint16_t read_address, unsigned n_read,
                                         uint16_t write_address, unsigned n_write, const uint16_t *values);
/* category: 1 basic, 2 regular, 3 extended, 4 the one object. */
void modbus_ask_identity(struct modbus_pdu *ask, uint8_t category, uint8_t object);

/* Bytes of the answer that is not an exception; 0: not known beforehand (identification and others). */
unsigned modbus_answer_size(const struct modbus_pdu *ask);
/* True if a request with this function code changes the device, so that a broadcast of it makes sense. */
bool modbus_is_write(uint8_t fc);
/*
 * ERR_OK: answer is one to ask, whole and well-formed: an exception, or byte counts and echoes are right. ERR_PROTO with a
 * reason: it is not to be believed.
 */
NODISCARD enum err modbus_check_answer(const struct modbus_pdu *ask, const struct modbus_pdu *answer, struct why *why);
/* The code of an exception, 0: it is none. */
static inline uint8_t modbus_exception_of(const struct modbus_pdu *answer)
{
    return answer->n >= 2 && answer->bytes[0] & MODBUS_EXCEPTION ? answer->bytes[1] : 0;
}

/* Of checked answers: registers of 3, 4 and 23, bits of 1 and 2, by their index from the address asked for. */
static inline uint16_t modbus_answer_register(const struct modbus_pdu *answer, unsigned i)
{
    return modbus_be16(answer->bytes + 2 + 2 * i);
}

static inline bool modbus_answer_bit(const struct modbus_pdu *answer, unsigned i)
{
    return answer->bytes[2 + i / 8] >> (i % 8) & 1;
}

/* Of checked identifications. *at: 0 at first. False: no more objects. */
bool modbus_answer_object(const struct modbus_pdu *answer, size_t *at, uint8_t *id, struct str *value);
/* True: more objects are to be asked for, from *next on. */
bool modbus_answer_has_more(const struct modbus_pdu *answer, uint8_t *next);

/* --- server ------------------------------------------------------------------------------------------------------------ */
struct modbus_asked {
    uint8_t fc;
    uint16_t address, n;             /* 1 … 6, 15, 16, 22, 23 (its read part) */
    uint16_t write_address, n_write; /* 23 */
    const uint8_t *data;             /* 15: packed bits; 6, 16, 23: big-endian registers; 8: sub-function and data */
    uint8_t n_data;
    bool is_on;                 /* 5 */
    uint16_t and_mask, or_mask; /* 22 */
    uint8_t category, object;   /* 43/14 */
};

/* 0: understood; else the exception to answer with (a form that is wrong: 3). Views into ask. */
NODISCARD uint8_t modbus_read_request(struct modbus_asked *asked, const struct modbus_pdu *ask);
void modbus_refuse(struct modbus_pdu *answer, uint8_t fc, uint8_t exception);
/* The head of an answer to 1 … 4 and 23; the bytes behind it, zeroed, are the caller's to fill. */
uint8_t *modbus_answer_values(struct modbus_pdu *answer, const struct modbus_asked *asked);
/* To 5, 6, 15, 16, 22: what was asked, or the first of it. */
void modbus_confirm(struct modbus_pdu *answer, const struct modbus_pdu *ask);
/* To 43/14. objects: by identifier 0 … n-1, p NULL: not there. */
void modbus_answer_identity(struct modbus_pdu *answer, const struct modbus_asked *asked, const struct str *objects,
                            unsigned n);
#endif
