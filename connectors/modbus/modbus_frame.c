/* SPDX-License-Identifier: Apache-2.0 */
#include "modbus_frame.h"

enum { LENGTH_MORE = 0, LENGTH_UNKNOWN = -1 };

/* MODBUS over Serial Line V1.02, 6.2.2: polynomial 0xA001, by half bytes. */
uint16_t modbus_crc(const uint8_t *p, size_t n)
{
    static const uint16_t halves[16] = {0x0000, 0xcc01, 0xd801, 0x1400, 0xf001, 0x3c00, 0x2800, 0xe401,
                                        0xa001, 0x6c00, 0x7800, 0xb401, 0x5000, 0x9c01, 0x8801, 0x4400};
    unsigned crc = 0xffff;

    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        crc = crc >> 4 ^ halves[crc & 15];
        crc = crc >> 4 ^ halves[crc & 15];
    }
    return (uint16_t)crc;
}

/* 6.2.1: the two's complement of the sum. */
uint8_t modbus_lrc(const uint8_t *p, size_t n)
{
    unsigned sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += p[i];
    return (uint8_t)(0u - sum);
}

/* --- writing ----------------------------------------------------------------------------------------------------------- */
static size_t put_rtu(uint8_t *out, uint8_t unit, const struct modbus_pdu *pdu)
{
    size_t n = 1u + pdu->n;
    uint16_t crc;

    out[0] = unit;
    memcpy(out + 1, pdu->bytes, pdu->n);
    crc = modbus_crc(out, n);
    out[n] = (uint8_t)crc; /* 2.5.1.2: low byte first */
    out[n + 1] = (uint8_t)(crc >> 8);
    return n + 2;
}

static size_t put_ascii(uint8_t *out, uint8_t unit, const struct modbus_pdu *pdu)
{
    static const char digits[] = "0123456789ABCDEF";
    uint8_t bytes[MODBUS_RTU_MAX];
    size_t n = 1u + pdu->n, at = 0;

    bytes[0] = unit;
    memcpy(bytes + 1, pdu->bytes, pdu->n);
    bytes[n] = modbus_lrc(bytes, n);
    out[at++] = ':';
    for (size_t i = 0; i <= n; i++) {
        out[at++] = (uint8_t)digits[bytes[i] >> 4];
        out[at++] = (uint8_t)digits[bytes[i] & 15];
    }
    out[at++] = '\r';
    out[at++] = '\n';
    return at;
}

size_t modbus_frame_put(uint8_t *out, enum modbus_framing framing, uint16_t tid, uint8_t unit,
                        const struct modbus_pdu *pdu)
{
    switch (framing) {
    case MODBUS_RTU:
        return put_rtu(out, unit, pdu);
    case MODBUS_ASCII:
        return put_ascii(out, unit, pdu);
    case MODBUS_SOCKET:
        break;
    }
    modbus_put_be16(out, tid);
    modbus_put_be16(out + 2, 0);
    modbus_put_be16(out + 4, (uint16_t)(1u + pdu->n));
    out[6] = unit;
    memcpy(out + 7, pdu->bytes, pdu->n);
    return 7u + pdu->n;
}

/* --- MBAP -------------------------------------------------------------------------------------------------------------- */
static void take_pdu(struct modbus_adu *adu, uint16_t tid, uint8_t unit, const uint8_t *p, size_t n)
{
    adu->tid = tid;
    adu->unit = unit;
    adu->pdu.n = (uint8_t)n;
    memcpy(adu->pdu.bytes, p, n);
}

static size_t append(struct modbus_framer *framer, const uint8_t *p, size_t n, size_t upto)
{
    size_t more = upto - framer->n;

    if (more > n)
        more = n;
    memcpy(framer->bytes + framer->n, p, more);
    framer->n = (uint16_t)(framer->n + more);
    return more;
}

static size_t feed_socket(struct modbus_framer *framer, const uint8_t *p, size_t n, struct modbus_adu *adu,
                          enum modbus_fed *fed)
{
    const uint8_t *bytes = framer->bytes;
    size_t used = 0, length;

    if (framer->is_lost) {
        *fed = MODBUS_FED_BROKEN;
        return n;
    }
    if (framer->n < MODBUS_MBAP_SIZE)
        used = append(framer, p, n, MODBUS_MBAP_SIZE);
    if (framer->n < MODBUS_MBAP_SIZE)
        return used;
    length = modbus_be16(bytes + 4);
    if (modbus_be16(bytes + 2) != 0 || length < 2 || length > 1 + MODBUS_PDU_MAX) {
        framer->n_garbage += (uint32_t)(framer->n + n - used);
        framer->is_lost = true;
        *fed = MODBUS_FED_BROKEN;
        return n;
    }
    used += append(framer, p + used, n - used, 6 + length);
    if (framer->n == 6 + length) {
        take_pdu(adu, modbus_be16(bytes), bytes[6], bytes + 7, length - 1);
        framer->n = 0;
        *fed = MODBUS_FED_FRAME;
    }
    return used;
}

/* --- RTU --------------------------------------------------------------------------------------------------------------- */
/* 6.21 of the application protocol: objects of their own length each. */
static int identity_length(const uint8_t *pdu, size_t n)
{
    size_t at = 7;

    if (n < 7)
        return LENGTH_MORE;
    for (unsigned i = 0; i < pdu[6]; i++) {
        if (at + 2 > n)
            return at + 2 > MODBUS_PDU_MAX ? LENGTH_UNKNOWN : LENGTH_MORE;
        at += 2u + pdu[at + 1];
    }
    return at > MODBUS_PDU_MAX ? LENGTH_UNKNOWN : (int)at;
}

/* Bytes of the answer's PDU that begins here. */
static int answer_length(const struct modbus_framer *framer, const uint8_t *pdu, size_t n)
{
    if (n < 1)
        return LENGTH_MORE;
    if (pdu[0] & MODBUS_EXCEPTION)
        return 2;
    switch (pdu[0]) {
    case MODBUS_READ_COILS:
    case MODBUS_READ_DISCRETE:
    case MODBUS_READ_HOLDING:
    case MODBUS_READ_INPUT:
    case MODBUS_READ_WRITE_REGISTERS:
    case MODBUS_GET_EVENT_LOG:
    case MODBUS_REPORT_SERVER_ID:
        if (n < 2)
            return LENGTH_MORE;
        return pdu[1] <= MODBUS_PDU_MAX - 2 ? 2 + pdu[1] : LENGTH_UNKNOWN;
    case MODBUS_WRITE_COIL:
    case MODBUS_WRITE_REGISTER:
    case MODBUS_WRITE_COILS:
    case MODBUS_WRITE_REGISTERS:
    case MODBUS_GET_EVENT_COUNTER:
        return 5;
    case MODBUS_MASK_WRITE_REGISTER:
        return 7;
    case MODBUS_ENCAPSULATED:
        return identity_length(pdu, n);
    default:
        return framer->expected_size && pdu[0] == framer->expected_fc ? (int)framer->expected_size : LENGTH_UNKNOWN;
    }
}

static int request_length(const uint8_t *pdu, size_t n)
{
    unsigned at_count = pdu[0] == MODBUS_READ_WRITE_REGISTERS ? 9 : 5;

    if (n < 1)
        return LENGTH_MORE;
    switch (pdu[0]) {
    case MODBUS_WRITE_COILS:
    case MODBUS_WRITE_REGISTERS:
    case MODBUS_READ_WRITE_REGISTERS:
        if (n <= at_count)
            return LENGTH_MORE;
        return at_count + 1 + pdu[at_count] <= MODBUS_PDU_MAX ? (int)(at_count + 1 + pdu[at_count]) : LENGTH_UNKNOWN;
    case MODBUS_MASK_WRITE_REGISTER:
        return 7;
    case MODBUS_ENCAPSULATED:
        return 4;
    case 7: /* read exception status, 6.7 */
    case MODBUS_GET_EVENT_COUNTER:
    case MODBUS_GET_EVENT_LOG:
    case MODBUS_REPORT_SERVER_ID:
        return 1;
    default:
        return pdu[0] <= MODBUS_DIAGNOSTICS ? 5 : LENGTH_UNKNOWN;
    }
}

static void drop(struct modbus_framer *framer, size_t n)
{
    framer->n = (uint16_t)(framer->n - n);
    memmove(framer->bytes, framer->bytes + n, framer->n);
}

enum candidate { CANDIDATE_NONE, CANDIDATE_PARTIAL, CANDIDATE_FRAME };

/* Is there a frame at that place? known: so many bytes were there at the last look, when no frame was complete. */
static enum candidate try_rtu(struct modbus_framer *framer, size_t at, size_t known, size_t *size)
{
    const uint8_t *p = framer->bytes + at;
    size_t n = framer->n - at;
    int length;

    if (n < 2)
        return CANDIDATE_PARTIAL;
    if (!framer->is_server && at && (p[0] != framer->expected_unit || (p[1] & 0x7f) != framer->expected_fc))
        return CANDIDATE_NONE;
    length = framer->is_server ? request_length(p + 1, n - 1) : answer_length(framer, p + 1, n - 1);
    if (length == LENGTH_UNKNOWN)
        return CANDIDATE_NONE;
    *size = 1 + (size_t)length + 2;
    if (length == LENGTH_MORE || n < *size)
        return CANDIDATE_PARTIAL;
    if (at + *size <= known)
        return CANDIDATE_NONE;
    if (modbus_crc(p, *size - 2) == (p[*size - 2] | p[*size - 1] << 8))
        return CANDIDATE_FRAME;
    framer->n_bad_checks += at == 0;
    return CANDIDATE_NONE;
}

/* Looks for a frame, at the front or, behind garbage, further on. False: none is complete. */
static bool find_rtu(struct modbus_framer *framer, size_t known, struct modbus_adu *adu)
{
    size_t keep = framer->n, size = 0; /* keep: the first place where one may yet become complete */

    for (size_t at = 0; at < framer->n; at++) {
        enum candidate candidate = try_rtu(framer, at, known, &size);

        if (candidate == CANDIDATE_FRAME) {
            take_pdu(adu, 0, framer->bytes[at], framer->bytes + at + 1, size - 3);
            framer->n_garbage += (uint32_t)at;
            drop(framer, at + size);
            return true;
        }
        if (candidate == CANDIDATE_PARTIAL && keep == framer->n)
            keep = at;
        if (framer->is_server && candidate == CANDIDATE_PARTIAL)
            break;
        if (framer->is_server && framer->is_line) {
            framer->is_lost = true;
            keep = framer->n;
            break;
        }
    }
    framer->n_garbage += (uint32_t)keep;
    drop(framer, keep);
    return false;
}

static size_t feed_rtu(struct modbus_framer *framer, const uint8_t *p, size_t n, struct modbus_adu *adu,
                       enum modbus_fed *fed)
{
    size_t used = 0;

    if (framer->is_lost || (!framer->is_server && !framer->expects)) {
        framer->n_garbage += (uint32_t)(n + framer->n);
        framer->n = 0;
        return n;
    }
    while (used < n) {
        size_t known = framer->n, more;

        if (known == MODBUS_RTU_MAX) { /* the front cannot be a frame any more */
            framer->n_garbage++;
            drop(framer, 1);
            known--;
        }
        more = append(framer, p + used, n - used, MODBUS_RTU_MAX);
        used += more;
        if (find_rtu(framer, known, adu)) {
            /* What stands behind the frame goes back to the caller, who may expect something else now. */
            size_t back = framer->n < more ? framer->n : more;

            framer->n = 0;
            *fed = MODBUS_FED_FRAME;
            return used - back;
        }
        if (framer->is_lost) {
            framer->n_garbage += (uint32_t)(n - used);
            return n;
        }
    }
    return used;
}

/* --- ASCII ------------------------------------------------------------------------------------------------------------- */
static int digit_of(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void leave_ascii(struct modbus_framer *framer)
{
    framer->n_garbage += framer->is_inside ? 1u + 2u * framer->n : 1;
    framer->is_inside = false;
    framer->n = 0;
}

/* The line feed has come. */
static bool end_ascii(struct modbus_framer *framer, struct modbus_adu *adu)
{
    uint16_t n = framer->n;

    framer->is_inside = false;
    framer->n = 0;
    if (n < 3 || modbus_lrc(framer->bytes, n) != 0) { /* the sum with the LRC itself */
        framer->n_bad_checks++;
        return false;
    }
    take_pdu(adu, 0, framer->bytes[0], framer->bytes + 1, n - 2u);
    return true;
}

static size_t feed_ascii(struct modbus_framer *framer, const uint8_t *p, size_t n, struct modbus_adu *adu,
                         enum modbus_fed *fed)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t c = p[i] & 0x7f; /* 2.5.2: seven bits; a line of eight may carry anything in the eighth */
        int digit = digit_of(c);

        if (c == ':') {
            if (framer->is_inside)
                leave_ascii(framer);
            framer->is_inside = true;
            framer->has_nibble = framer->has_cr = false;
            framer->n = 0;
        } else if (!framer->is_inside) {
            framer->n_garbage++;
        } else if (framer->has_cr) {
            framer->has_cr = false;
            if (c != '\n') {
                leave_ascii(framer);
            } else if (end_ascii(framer, adu)) {
                *fed = MODBUS_FED_FRAME;
                return i + 1;
            }
        } else if (c == '\r' && !framer->has_nibble) {
            framer->has_cr = true;
        } else if (digit < 0 || framer->n >= 1 + MODBUS_PDU_MAX + 1) {
            leave_ascii(framer);
        } else if (framer->has_nibble) {
            framer->bytes[framer->n] = (uint8_t)(framer->bytes[framer->n] << 4 | digit);
            framer->n++;
            framer->has_nibble = false;
        } else {
            framer->bytes[framer->n] = (uint8_t)digit;
            framer->has_nibble = true;
        }
    }
    return n;
}

/* --- all --------------------------------------------------------------------------------------------------------------- */
void modbus_framer_init(struct modbus_framer *framer, enum modbus_framing framing, bool is_server)
{
    *framer = (struct modbus_framer){.framing = framing, .is_server = is_server};
}

void modbus_framer_expect(struct modbus_framer *framer, uint8_t unit, const struct modbus_pdu *ask)
{
    framer->expects = true;
    framer->expected_unit = unit;
    framer->expected_fc = ask->bytes[0];
    framer->expected_size = modbus_answer_size(ask);
}

void modbus_framer_expect_nothing(struct modbus_framer *framer)
{
    framer->expects = false;
}

size_t modbus_framer_feed(struct modbus_framer *framer, const uint8_t *p, size_t n, struct modbus_adu *adu,
                          enum modbus_fed *fed)
{
    *fed = MODBUS_FED_NONE;
    switch (framer->framing) {
    case MODBUS_RTU:
        return feed_rtu(framer, p, n, adu, fed);
    case MODBUS_ASCII:
        return feed_ascii(framer, p, n, adu, fed);
    case MODBUS_SOCKET:
        break;
    }
    return feed_socket(framer, p, n, adu, fed);
}

void modbus_framer_silence(struct modbus_framer *framer)
{
    if (framer->framing == MODBUS_SOCKET)
        return;
    framer->n_garbage += framer->n;
    framer->n = 0;
    framer->is_lost = framer->is_inside = false;
}

void modbus_framer_reset(struct modbus_framer *framer)
{
    framer->n = 0;
    framer->is_lost = framer->is_inside = framer->has_nibble = framer->has_cr = false;
}
