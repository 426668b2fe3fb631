/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MODBUS_FRAME_H
#define IOTGW_CONNECTOR_MODBUS_FRAME_H
/*
 * How a PDU travels: behind an MBAP header (MODBUS Messaging on TCP/IP Implementation Guide V1.0b, 3.1.3; inside TLS the
 * same), as RTU with a CRC, or as ASCII with an LRC (MODBUS over Serial Line V1.02, 2.5). A framer takes bytes as they
 * come, one or many, and finds the frames in them. Pure; one thread at a time. Nothing here trusts the bytes.
 *
 * Resynchronisation: MBAP has none: what is no header breaks the connection. ASCII begins anew at each colon. RTU: a
 * frame's length follows from its function code; where the CRC is wrong, the beginning is sought further on: a client looks
 * for unit and function code of the answer it expects; a server slides by one byte, or on a real line (is_line) waits for
 * silence, as frames between others pass by there.
 */
#include "modbus_pdu.h"

enum modbus_framing { MODBUS_SOCKET, MODBUS_RTU, MODBUS_ASCII };
enum { MODBUS_MBAP_SIZE = 7, MODBUS_RTU_MAX = 256, MODBUS_ADU_MAX = 260, MODBUS_FRAME_MAX = 513 };

struct modbus_adu {
    uint16_t tid; /* MODBUS_SOCKET; else 0 */
    uint8_t unit;
    struct modbus_pdu pdu;
};

enum modbus_fed {
    MODBUS_FED_NONE,   /* all bytes are used, no frame is complete */
    MODBUS_FED_FRAME,  /* *adu is one; there may be more bytes */
    MODBUS_FED_BROKEN, /* no header of MBAP: nothing more can be understood until modbus_framer_reset */
};

struct modbus_framer {
    enum modbus_framing framing;
    bool is_server, is_line;
    /* RTU, client: the answer that is expected. */
    bool expects;
    uint8_t expected_unit, expected_fc;
    unsigned expected_size; /* of its PDU, where it is no exception; 0: not known */
    uint32_t n_bad_checks;  /* CRC, LRC */
    uint32_t n_garbage;     /* bytes outside of frames */
    /* private */
    bool is_lost, is_inside, has_nibble, has_cr;
    uint16_t n;
    uint8_t bytes[MODBUS_ADU_MAX];
};

/* Writes the frame of pdu to out (MODBUS_FRAME_MAX bytes); gives its length. */
size_t modbus_frame_put(uint8_t *out, enum modbus_framing framing, uint16_t tid, uint8_t unit,
                        const struct modbus_pdu *pdu);
uint16_t modbus_crc(const uint8_t *p, size_t n);
uint8_t modbus_lrc(const uint8_t *p, size_t n);

void modbus_framer_init(struct modbus_framer *framer, enum modbus_framing framing, bool is_server);
/* RTU, client: what the next bytes may answer; without it they are garbage. */
void modbus_framer_expect(struct modbus_framer *framer, uint8_t unit, const struct modbus_pdu *ask);
void modbus_framer_expect_nothing(struct modbus_framer *framer);
/* Takes bytes up to the end of a frame; gives how many were used. *fed says what came of it. */
size_t modbus_framer_feed(struct modbus_framer *framer, const uint8_t *p, size_t n, struct modbus_adu *adu,
                          enum modbus_fed *fed);
/* The line has been silent: what is incomplete will not be completed. */
void modbus_framer_silence(struct modbus_framer *framer);
void modbus_framer_reset(struct modbus_framer *framer); /* forgets all bytes; counters stay */
/* Bytes of an unfinished frame are held. */
static inline bool modbus_framer_is_partial(const struct modbus_framer *framer)
{
    return framer->n || framer->is_inside || framer->is_lost;
}
#endif
