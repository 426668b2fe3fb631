/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MODBUS_FIELDS_H
#define IOTGW_CONNECTOR_MODBUS_FIELDS_H
/* Keys that several objects of the file have in common: how a station is reached (member wire). */
#include "modbus_conf.h"

extern const struct conf_type modbus_tls_type;

#define MODBUS_WIRE_FIELDS(T)                                                                                          \
    F_STR(T, wire.type, "type", .doc = "tcp (the default), udp or serial."),                                           \
        F_STR(T, wire.method, "method",                                                                                \
              .doc = "Framing: socket (the default of tcp and udp), rtu (the default of serial), ascii, tls."),        \
        F_STR(T, wire.host, "host", .doc = "Address or name; not for serial."),                                        \
        F_STR(T, wire.port, "port", .doc = "Number, 502 or with TLS 802 when absent; serial: path of the device."),    \
        F_DOUBLE(T, wire.timeout_s, "timeout", .def_double = 30, .min_double = 0.001, .max_double = 3600, .unit = "s", \
                 .has_offset = offsetof(T, wire.has_timeout), .doc = "For connecting, and for each answer."),          \
        F_JSON(T, wire.retries, "retries", .doc = "Further attempts of each request; true: 3, false: 0; absent: 3."),  \
        F_STR(T, wire.byte_order, "byteOrder",                                                                         \
              .doc = "BIG or LITTLE: order of the bytes of a register; absent: LITTLE."),                              \
        F_STR(T, wire.word_order, "wordOrder",                                                                         \
              .doc = "BIG or LITTLE: order of the registers of a value; absent: LITTLE."),                             \
        F_MS(T, wire.delay_ms, "delayBetweenRequestsMs", .max = 60000,                                                 \
             .doc = "Least pause between two requests of one connection."),                                            \
        F_MS(T, wire.attempt_pause_ms, "connectAttemptTimeMs", .def = 500, .max = 3600000,                             \
             .doc = "Pause between attempts to connect; at least 500."),                                               \
        F_UINT(T, wire.attempts, "connectAttemptCount", .def = 2, .max = 1000000,                                      \
               .doc = "Attempts in a row; at least 2."),                                                               \
        F_MS(T, wire.failed_pause_ms, "waitAfterFailedAttemptsMs", .def = 30000, .max = 86400000,                      \
             .doc = "Pause after that many attempts; at least 1000."),                                                 \
        F_UINT(T, wire.max_in_flight, "maxInFlight", .def = 1, .min = 1, .max = 16,                                    \
               .doc =                                                                                                  \
                   "Requests that are sent before answers have come, over tcp with socket or tls. Not in the peer."),  \
        F_UINT(T, wire.baudrate, "baudrate", .def = 19200, .min = 1, .max = 100000000,                                 \
               .has_offset = offsetof(T, wire.has_baudrate), .doc = "Serial."),                                        \
        F_UINT(T, wire.bytesize, "bytesize", .def = 8, .min = 5, .max = 8,                                             \
               .has_offset = offsetof(T, wire.has_bytesize), .doc = "Serial: bits of a character."),                   \
        F_DOUBLE(T, wire.stopbits, "stopbits", .def_double = 1, .has_offset = offsetof(T, wire.has_stopbits),          \
                 .doc = "Serial: 1, 1.5 or 2."),                                                                       \
        F_STR(T, wire.parity, "parity", .has_offset = offsetof(T, wire.has_parity),                                    \
              .doc = "Serial: N (the default), E, O, M or S."),                                                        \
        F_BOOL(T, wire.local_echo, "handleLocalEcho", .doc = "Serial: what is sent is also received, and discarded."), \
        F_BOOL(T, wire.rs485, "rs485",                                                                                 \
               .doc = "Serial: the driver switches the direction of the line. Not in the peer.")

static inline void modbus_orders(struct modbus_shape *shape, const struct modbus_wire *wire, bool repack)
{
    shape->byte_little = wire->byte_little;
    shape->word_little = wire->word_little;
    shape->repack = repack;
}
#endif
