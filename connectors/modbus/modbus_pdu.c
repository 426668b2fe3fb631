/* SPDX-License-Identifier: Apache-2.0 */
#include "modbus_pdu.h"

static const char *const exception_names[] = {
    [MODBUS_ILLEGAL_FUNCTION] = "illegal function",
    [MODBUS_ILLEGAL_ADDRESS] = "illegal data address",
    [MODBUS_ILLEGAL_VALUE] = "illegal data value",
    [MODBUS_DEVICE_FAILURE] = "server device failure",
    [MODBUS_ACKNOWLEDGE] = "acknowledge: it is still working",
    [MODBUS_DEVICE_BUSY] = "server device busy",
    [MODBUS_NEGATIVE_ACKNOWLEDGE] = "negative acknowledge",
    [MODBUS_MEMORY_PARITY] = "memory parity error",
    [MODBUS_GATEWAY_PATH] = "gateway path unavailable",
    [MODBUS_GATEWAY_TARGET] = "gateway target device failed to respond",
};

const char *modbus_exception_name(uint8_t code)
{
    return code < COUNT_OF(exception_names) && exception_names[code] ? exception_names[code] : "exception";
}

const char *modbus_fc_name(uint8_t fc)
{
    switch (fc & ~MODBUS_EXCEPTION) {
    case MODBUS_READ_COILS:
        return "read coils";
    case MODBUS_READ_DISCRETE:
        return "read discrete inputs";
    case MODBUS_READ_HOLDING:
        return "read holding registers";
    case MODBUS_READ_INPUT:
        return "read input registers";
    case MODBUS_WRITE_COIL:
        return "write single coil";
    case MODBUS_WRITE_REGISTER:
        return "write single register";
    case MODBUS_DIAGNOSTICS:
        return "diagnostics";
    case MODBUS_GET_EVENT_COUNTER:
        return "get comm event counter";
    case MODBUS_GET_EVENT_LOG:
        return "get comm event log";
    case MODBUS_WRITE_COILS:
        return "write multiple coils";
    case MODBUS_WRITE_REGISTERS:
        return "write multiple registers";
    case MODBUS_REPORT_SERVER_ID:
        return "report server id";
    case MODBUS_MASK_WRITE_REGISTER:
        return "mask write register";
    case MODBUS_READ_WRITE_REGISTERS:
        return "read/write multiple registers";
    case MODBUS_ENCAPSULATED:
        return "read device identification";
    default:
        return "function";
    }
}

bool modbus_is_write(uint8_t fc)
{
    return fc == MODBUS_WRITE_COIL || fc == MODBUS_WRITE_REGISTER || fc == MODBUS_WRITE_COILS ||
           fc == MODBUS_WRITE_REGISTERS || fc == MODBUS_MASK_WRITE_REGISTER;
}

static bool is_bit_read(uint8_t fc)
{
    return fc == MODBUS_READ_COILS || fc == MODBUS_READ_DISCRETE;
}

static bool fits(uint16_t address, unsigned n, unsigned max)
{
    return n >= 1 && n <= max && address + n <= 0x10000;
}

/* --- client ------------------------------------------------------------------------------------------------------------ */
static void put_head(struct modbus_pdu *pdu, uint8_t fc, uint16_t first, uint16_t second)
{
    pdu->n = 5;
    pdu->bytes[0] = fc;
    modbus_put_be16(pdu->bytes + 1, first);
    modbus_put_be16(pdu->bytes + 3, second);
}

static void put_registers(uint8_t *p, unsigned n, const uint16_t *values)
{
    for (unsigned i = 0; i < n; i++)
        modbus_put_be16(p + 2 * i, values[i]);
}

enum err modbus_ask_read(struct modbus_pdu *ask, enum modbus_fc fc, uint16_t address, unsigned n)
{
    unsigned max = is_bit_read((uint8_t)fc) ? MODBUS_READ_BITS_MAX : MODBUS_READ_REGISTERS_MAX;

    if (fc < MODBUS_READ_COILS || fc > MODBUS_READ_INPUT || !fits(address, n, max))
        return ERR_RANGE;
    put_head(ask, (uint8_t)fc, address, (uint16_t)n);
    return ERR_OK;
}

void modbus_ask_write_coil(struct modbus_pdu *ask, uint16_t address, bool is_on)
{
    put_head(ask, MODBUS_WRITE_COIL, address, is_on ? 0xff00 : 0);
}

void modbus_ask_write_register(struct modbus_pdu *ask, uint16_t address, uint16_t value)
{
    put_head(ask, MODBUS_WRITE_REGISTER, address, value);
}

enum err modbus_ask_write_coils(struct modbus_pdu *ask, uint16_t address, unsigned n, const uint8_t *bits)
{
    unsigned n_bytes = (n + 7) / 8;

    if (!fits(address, n, MODBUS_WRITE_COILS_MAX))
        return ERR_RANGE;
    put_head(ask, MODBUS_WRITE_COILS, address, (uint16_t)n);
    ask->bytes[5] = (uint8_t)n_bytes;
    memcpy(ask->bytes + 6, bits, n_bytes);
    if (n % 8)
        ask->bytes[5 + n_bytes] &= (uint8_t)((1u << n % 8) - 1); /* 6.11: unused bits are zero */
    ask->n = (uint8_t)(6 + n_bytes);
    return ERR_OK;
}

enum err modbus_ask_write_registers(struct modbus_pdu *ask, uint16_t address, unsigned n, const uint16_t *values)
{
    if (!fits(address, n, MODBUS_WRITE_REGISTERS_MAX))
        return ERR_RANGE;
    put_head(ask, MODBUS_WRITE_REGISTERS, address, (uint16_t)n);
    ask->bytes[5] = (uint8_t)(2 * n);
    put_registers(ask->bytes + 6, n, values);
    ask->n = (uint8_t)(6 + 2 * n);
    return ERR_OK;
}

void modbus_ask_mask_write(struct modbus_pdu *ask, uint16_t address, uint16_t and_mask, uint16_t or_mask)
{
    put_head(ask, MODBUS_MASK_WRITE_REGISTER, address, and_mask);
    modbus_put_be16(ask->bytes + 5, or_mask);
    ask->n = 7;
}

enum err modbus_ask_read_write(struct modbus_pdu *ask, uint16_t read_address, unsigned n_read, uint16_t write_address,
                               unsigned n_write, const uint16_t *values)
{
    if (!fits(read_address, n_read, MODBUS_READ_REGISTERS_MAX) || !fits(write_address, n_write, MODBUS_READ_WRITE_MAX))
        return ERR_RANGE;
    put_head(ask, MODBUS_READ_WRITE_REGISTERS, read_address, (uint16_t)n_read);
    modbus_put_be16(ask->bytes + 5, write_address);
    modbus_put_be16(ask->bytes + 7, (uint16_t)n_write);
    ask->bytes[9] = (uint8_t)(2 * n_write);
    put_registers(ask->bytes + 10, n_write, values);
    ask->n = (uint8_t)(10 + 2 * n_write);
    return ERR_OK;
}

void modbus_ask_identity(struct modbus_pdu *ask, uint8_t category, uint8_t object)
{
    ask->n = 4;
    memcpy(ask->bytes, (const uint8_t[]){MODBUS_ENCAPSULATED, MODBUS_READ_DEVICE_IDENTIFICATION, category, object}, 4);
}

/* --- answers ----------------------------------------------------------------------------------------------------------- */
unsigned modbus_answer_size(const struct modbus_pdu *ask)
{
    unsigned n = ask->n >= 5 ? modbus_be16(ask->bytes + 3) : 0;

    switch (ask->bytes[0]) {
    case MODBUS_READ_COILS:
    case MODBUS_READ_DISCRETE:
        return 2 + (n + 7) / 8;
    case MODBUS_READ_HOLDING:
    case MODBUS_READ_INPUT:
    case MODBUS_READ_WRITE_REGISTERS:
        return 2 + 2 * n;
    case MODBUS_WRITE_COIL:
    case MODBUS_WRITE_REGISTER:
    case MODBUS_WRITE_COILS:
    case MODBUS_WRITE_REGISTERS:
        return 5;
    case MODBUS_MASK_WRITE_REGISTER:
        return 7;
    case MODBUS_DIAGNOSTICS:
        return ask->n;
    case MODBUS_GET_EVENT_COUNTER:
        return 5;
    default:
        return 0;
    }
}

static NODISCARD enum err check_identity(const struct modbus_pdu *ask, const struct modbus_pdu *answer, struct why *why)
{
    size_t at = 7;

    if (answer->n < 7 || answer->bytes[1] != MODBUS_READ_DEVICE_IDENTIFICATION || answer->bytes[2] != ask->bytes[2])
        return why_set(why, ERR_PROTO, "the identification has %u bytes or another form than asked for", answer->n);
    for (unsigned i = 0; i < answer->bytes[6]; i++) {
        if (at + 2 > answer->n || at + 2 + answer->bytes[at + 1] > answer->n)
            return why_set(why, ERR_PROTO, "object %u of the identification is cut", i);
        at += 2u + answer->bytes[at + 1];
    }
    return at == answer->n ? ERR_OK : why_set(why, ERR_PROTO, "%zu bytes behind the identification", answer->n - at);
}

static NODISCARD enum err check_byte_count(const struct modbus_pdu *answer, struct why *why)
{
    if (answer->n < 2 || answer->bytes[1] != answer->n - 2)
        return why_set(why, ERR_PROTO, "the answer's byte count is %u, but %u bytes follow it",
                       answer->n < 2 ? 0 : answer->bytes[1], answer->n < 2 ? 0 : answer->n - 2);
    return ERR_OK;
}

static NODISCARD enum err check_echo(const struct modbus_pdu *ask, const struct modbus_pdu *answer, struct why *why)
{
    if (memcmp(ask->bytes, answer->bytes, answer->n) != 0)
        return why_set(why, ERR_PROTO, "the answer to %s does not repeat what was asked",
                       modbus_fc_name(ask->bytes[0]));
    return ERR_OK;
}

enum err modbus_check_answer(const struct modbus_pdu *ask, const struct modbus_pdu *answer, struct why *why)
{
    unsigned size = modbus_answer_size(ask);
    uint8_t fc = ask->bytes[0];

    if (answer->n == 0 || (answer->bytes[0] & ~MODBUS_EXCEPTION) != fc)
        return why_set(why, ERR_PROTO, "the answer has function code %u instead of %u",
                       answer->n ? answer->bytes[0] : 0u, fc);
    if (answer->bytes[0] & MODBUS_EXCEPTION) {
        if (answer->n != 2 || answer->bytes[1] == 0)
            return why_set(why, ERR_PROTO, "an exception of %u bytes", answer->n);
        return ERR_OK;
    }
    if (size && answer->n != size)
        return why_set(why, ERR_PROTO, "the answer to %s has %u bytes instead of %u", modbus_fc_name(fc), answer->n,
                       size);
    switch (fc) {
    case MODBUS_READ_COILS:
    case MODBUS_READ_DISCRETE:
    case MODBUS_READ_HOLDING:
    case MODBUS_READ_INPUT:
    case MODBUS_READ_WRITE_REGISTERS:
    case MODBUS_GET_EVENT_LOG:
    case MODBUS_REPORT_SERVER_ID:
        return check_byte_count(answer, why);
    case MODBUS_WRITE_COIL:
    case MODBUS_WRITE_REGISTER:
    case MODBUS_WRITE_COILS:
    case MODBUS_WRITE_REGISTERS:
    case MODBUS_MASK_WRITE_REGISTER:
        return check_echo(ask, answer, why);
    case MODBUS_ENCAPSULATED:
        return check_identity(ask, answer, why);
    default:
        return ERR_OK;
    }
}

bool modbus_answer_object(const struct modbus_pdu *answer, size_t *at, uint8_t *id, struct str *value)
{
    size_t from = *at ? *at : 7;

    if (from + 2 > answer->n || from + 2 + answer->bytes[from + 1] > answer->n)
        return false;
    *id = answer->bytes[from];
    *value = str_of(answer->bytes + from + 2, answer->bytes[from + 1]);
    *at = from + 2 + value->n;
    return true;
}

bool modbus_answer_has_more(const struct modbus_pdu *answer, uint8_t *next)
{
    if (answer->n < 7 || answer->bytes[4] != 0xff)
        return false;
    *next = answer->bytes[5];
    return true;
}

/* --- server ------------------------------------------------------------------------------------------------------------ */
static uint8_t read_read(struct modbus_asked *asked, const struct modbus_pdu *ask)
{
    unsigned max = is_bit_read(asked->fc) ? MODBUS_READ_BITS_MAX : MODBUS_READ_REGISTERS_MAX;

    if (ask->n != 5 || asked->n < 1 || asked->n > max)
        return MODBUS_ILLEGAL_VALUE;
    return asked->address + asked->n > 0x10000 ? MODBUS_ILLEGAL_ADDRESS : 0;
}

static uint8_t read_write_many(struct modbus_asked *asked, const struct modbus_pdu *ask)
{
    bool is_bits = asked->fc == MODBUS_WRITE_COILS;
    unsigned n_bytes = is_bits ? (asked->n + 7u) / 8 : 2u * asked->n;
    unsigned max = is_bits ? MODBUS_WRITE_COILS_MAX : MODBUS_WRITE_REGISTERS_MAX;

    if (ask->n < 6 || asked->n < 1 || asked->n > max || ask->bytes[5] != n_bytes || ask->n != 6 + n_bytes)
        return MODBUS_ILLEGAL_VALUE;
    asked->data = ask->bytes + 6;
    asked->n_data = (uint8_t)n_bytes;
    return asked->address + asked->n > 0x10000 ? MODBUS_ILLEGAL_ADDRESS : 0;
}

static uint8_t read_read_write(struct modbus_asked *asked, const struct modbus_pdu *ask)
{
    if (ask->n < 10)
        return MODBUS_ILLEGAL_VALUE;
    asked->write_address = modbus_be16(ask->bytes + 5);
    asked->n_write = modbus_be16(ask->bytes + 7);
    if (asked->n < 1 || asked->n > MODBUS_READ_REGISTERS_MAX || asked->n_write < 1 ||
        asked->n_write > MODBUS_READ_WRITE_MAX || ask->bytes[9] != 2 * asked->n_write || ask->n != 10 + ask->bytes[9])
        return MODBUS_ILLEGAL_VALUE;
    asked->data = ask->bytes + 10;
    asked->n_data = ask->bytes[9];
    return asked->address + asked->n > 0x10000 || asked->write_address + asked->n_write > 0x10000
               ? MODBUS_ILLEGAL_ADDRESS
               : 0;
}

static uint8_t read_write_one(struct modbus_asked *asked, const struct modbus_pdu *ask)
{
    uint16_t value = asked->n; /* stands where others have the count */

    if (ask->n != 5 || (asked->fc == MODBUS_WRITE_COIL && value != 0 && value != 0xff00))
        return MODBUS_ILLEGAL_VALUE;
    asked->is_on = value != 0;
    asked->data = ask->bytes + 3;
    asked->n_data = 2;
    asked->n = 1;
    return 0;
}

uint8_t modbus_read_request(struct modbus_asked *asked, const struct modbus_pdu *ask)
{
    *asked = (struct modbus_asked){.fc = ask->n ? ask->bytes[0] : 0};
    if (ask->n >= 5) {
        asked->address = modbus_be16(ask->bytes + 1);
        asked->n = modbus_be16(ask->bytes + 3);
    }
    switch (asked->fc) {
    case MODBUS_READ_COILS:
    case MODBUS_READ_DISCRETE:
    case MODBUS_READ_HOLDING:
    case MODBUS_READ_INPUT:
        return read_read(asked, ask);
    case MODBUS_WRITE_COIL:
    case MODBUS_WRITE_REGISTER:
        return read_write_one(asked, ask);
    case MODBUS_WRITE_COILS:
    case MODBUS_WRITE_REGISTERS:
        return read_write_many(asked, ask);
    case MODBUS_MASK_WRITE_REGISTER:
        if (ask->n != 7)
            return MODBUS_ILLEGAL_VALUE;
        asked->and_mask = asked->n;
        asked->or_mask = modbus_be16(ask->bytes + 5);
        asked->n = 1;
        return 0;
    case MODBUS_READ_WRITE_REGISTERS:
        return read_read_write(asked, ask);
    case MODBUS_DIAGNOSTICS:
        asked->data = ask->bytes + 1;
        asked->n_data = (uint8_t)(ask->n - 1);
        return ask->n >= 5 && ask->n % 2 ? 0 : MODBUS_ILLEGAL_VALUE;
    case MODBUS_GET_EVENT_COUNTER:
    case MODBUS_GET_EVENT_LOG:
    case MODBUS_REPORT_SERVER_ID:
        return ask->n == 1 ? 0 : MODBUS_ILLEGAL_VALUE;
    case MODBUS_ENCAPSULATED:
        if (ask->n < 2 || ask->bytes[1] != MODBUS_READ_DEVICE_IDENTIFICATION)
            return MODBUS_ILLEGAL_FUNCTION;
        if (ask->n != 4 || ask->bytes[2] < 1 || ask->bytes[2] > 4)
            return MODBUS_ILLEGAL_VALUE;
        asked->category = ask->bytes[2];
        asked->object = ask->bytes[3];
        return 0;
    default:
        return MODBUS_ILLEGAL_FUNCTION;
    }
}

void modbus_refuse(struct modbus_pdu *answer, uint8_t fc, uint8_t exception)
{
    answer->n = 2;
    answer->bytes[0] = fc | MODBUS_EXCEPTION;
    answer->bytes[1] = exception;
}

uint8_t *modbus_answer_values(struct modbus_pdu *answer, const struct modbus_asked *asked)
{
    unsigned n_bytes = is_bit_read(asked->fc) ? (asked->n + 7u) / 8 : 2u * asked->n;

    answer->bytes[0] = asked->fc;
    answer->bytes[1] = (uint8_t)n_bytes;
    answer->n = (uint8_t)(2 + n_bytes);
    return memset(answer->bytes + 2, 0, n_bytes);
}

void modbus_confirm(struct modbus_pdu *answer, const struct modbus_pdu *ask)
{
    answer->n = ask->bytes[0] == MODBUS_MASK_WRITE_REGISTER ? 7 : 5;
    memcpy(answer->bytes, ask->bytes, answer->n);
}

/* 6.21: a stream of objects; those that do not fit are asked for anew, from the next one on. */
void modbus_answer_identity(struct modbus_pdu *answer, const struct modbus_asked *asked, const struct str *objects,
                            unsigned n)
{
    static const unsigned ends[] = {[1] = 3, [2] = 7, [3] = 256}; /* of the categories */
    bool is_one = asked->category == 4;
    unsigned first = asked->object, end = is_one ? first + 1 : ends[asked->category];
    uint8_t *p = answer->bytes;

    if (end > n)
        end = n;
    if (is_one && (first >= n || !objects[first].p)) {
        modbus_refuse(answer, asked->fc, MODBUS_ILLEGAL_ADDRESS);
        return;
    }
    if (first >= end)
        first = 0; /* 6.21: an object that is not known starts from the beginning */
    memcpy(p, (const uint8_t[]){asked->fc, MODBUS_READ_DEVICE_IDENTIFICATION, asked->category, 0x83, 0, 0, 0}, 7);
    answer->n = 7;
    for (unsigned i = first; i < end; i++) {
        struct str value = str_cut(objects[i], MODBUS_PDU_MAX - 9);

        if (!objects[i].p)
            continue;
        if (answer->n + 2 + value.n > MODBUS_PDU_MAX) {
            p[4] = 0xff;
            p[5] = (uint8_t)i;
            break;
        }
        p[answer->n] = (uint8_t)i;
        p[answer->n + 1] = (uint8_t)value.n;
        memcpy(p + answer->n + 2, value.p, value.n);
        answer->n = (uint8_t)(answer->n + 2 + value.n);
        p[6]++;
    }
}
