/* SPDX-License-Identifier: Apache-2.0 */
/* The framers (MBAP also stands inside TLS), as client and server, with bytes in pieces of any size; and what they find. */
#include "fuzz.h"
#include "modbus_frame.h"

#include <assert.h>
#include <stdlib.h>

static void look_at(const struct modbus_adu *adu, const struct modbus_pdu *ask)
{
    struct modbus_pdu answer = {.n = 0};
    struct modbus_asked asked;
    struct str value;
    size_t at = 0;
    uint8_t id;

    assert(adu->pdu.n >= 1 && adu->pdu.n <= MODBUS_PDU_MAX);
    if (modbus_check_answer(ask, &adu->pdu, NULL) == ERR_OK && !modbus_exception_of(&adu->pdu)) {
        unsigned size = modbus_answer_size(ask);

        assert(!size || adu->pdu.n == size);
        if (adu->pdu.bytes[0] == MODBUS_ENCAPSULATED) {
            while (modbus_answer_object(&adu->pdu, &at, &id, &value))
                assert(value.p + value.n <= (const char *)adu->pdu.bytes + adu->pdu.n);
        }
    }
    if (modbus_read_request(&asked, &adu->pdu))
        return;
    assert(asked.n_data <= adu->pdu.n);
    if (asked.fc <= MODBUS_READ_INPUT || asked.fc == MODBUS_READ_WRITE_REGISTERS)
        modbus_answer_values(&answer, &asked);
    else if (asked.fc == MODBUS_ENCAPSULATED)
        modbus_answer_identity(&answer, &asked, &STR("x"), 1);
    else if (modbus_is_write(asked.fc))
        modbus_confirm(&answer, &adu->pdu);
    assert(!answer.n || modbus_check_answer(&adu->pdu, &answer, NULL) == ERR_OK);
}

/* First byte: framing, side, line; second: size of pieces; then the request that is expected to be answered, 5 bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct modbus_framer framer;
    struct modbus_pdu ask = {.n = 5};
    size_t step;

    if (size < 8)
        return 0;
    modbus_framer_init(&framer, (enum modbus_framing)(data[0] % 3), data[0] & 4);
    framer.is_line = data[0] & 8;
    step = 1 + data[1] % 64;
    memcpy(ask.bytes, data + 2, 5);
    modbus_framer_expect(&framer, data[7], &ask);
    data += 8;
    size -= 8;
    for (size_t at = 0; at < size; at += step) {
        size_t n = step < size - at ? step : size - at, used = 0;
        uint8_t *piece = malloc(n); /* of its own size: the address sanitizer sees who reads on */

        memcpy(piece, data + at, n);
        while (used < n) {
            struct modbus_adu adu;
            enum modbus_fed fed;
            size_t took = modbus_framer_feed(&framer, piece + used, n - used, &adu, &fed);

            assert(took > 0 && took <= n - used);
            used += took;
            if (fed == MODBUS_FED_FRAME)
                look_at(&adu, &ask);
        }
        free(piece);
        if (data[at] == 0xee)
            modbus_framer_silence(&framer);
    }
    return 0;
}
