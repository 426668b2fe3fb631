/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MODBUS_LINE_H
#define IOTGW_CONNECTOR_MODBUS_LINE_H
/*
 * What carries the bytes of one link: a stream (TCP, TLS), datagrams (UDP) or a serial line, behind one face. An attempt to
 * connect makes a new one; it ends with exactly one .closed and is freed then. Owner thread: the loop's. No callback comes
 * inside the call that caused it; .read never inside modbus_line_write.
 */
#include "io/loop.h"
#include "io/serial.h"
#include "io/stream.h"

enum modbus_line_kind { MODBUS_LINE_STREAM, MODBUS_LINE_DATAGRAM, MODBUS_LINE_SERIAL };

struct modbus_line_conf { /* texts are borrowed until .closed */
    enum modbus_line_kind kind;
    const char *host;
    uint16_t port;
    uint32_t timeout_ms;      /* of connecting; 0: 10 s */
    uint32_t user_timeout_ms; /* bytes that nobody has confirmed for so long end a stream; 0: timeout_ms, or 5 s */
    struct tls_conf tls;
    struct serial_conf serial;
};

struct modbus_line_events {
    void (*open)(void *arg);
    void (*read)(void *arg, const uint8_t *p, size_t n);            /* all is taken; of datagrams, each one by itself */
    void (*closed)(void *arg, enum err err, const struct why *why); /* ERR_OK: by modbus_line_close */
};

struct modbus_line;
struct modbus_line *modbus_line_new(struct loop *loop, const struct modbus_line_conf *conf,
                                    const struct modbus_line_events *events, void *arg);
/* After .open. Copies; what is written in one turn of the loop leaves in one call where the kind allows it. */
void modbus_line_write(struct modbus_line *line, const uint8_t *p, size_t n);
void modbus_line_close(struct modbus_line *line); /* .closed follows, nothing else; NULL allowed */
void modbus_line_free(struct modbus_line *line);  /* within or after .closed; NULL allowed */
#endif
