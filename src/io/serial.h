/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SERIAL_H
#define IOTGW_SERIAL_H
/*
 * A serial line: a terminal device in raw mode, watched by the loop. Any speed the driver can do, not only the usual ones.
 * Owner thread: the loop's. A device that is unplugged ends with .closed; serial_watch tells when its node is there again.
 */
#include "io/loop.h"
#include "io/serial_tty.h"

struct serial;
struct serial_events {
    void (*read)(void *arg, const uint8_t *p, size_t n);
    void (*closed)(void *arg, enum err err, const struct why *why); /* at most once; then serial_close frees it */
};

/* Opens at once; opening a terminal device does not wait for a carrier. */
NODISCARD enum err serial_open(struct serial **out, struct loop *loop, const struct serial_conf *conf,
                               const struct serial_events *events, void *arg, struct why *why);
void serial_write(struct serial *serial, const uint8_t *p, size_t n); /* copies what the driver does not take at once */
void serial_close(struct serial *serial);             /* no callback comes any more; frees it; NULL allowed */
bool serial_lacks_rs485(const struct serial *serial); /* asked for, and the driver has refused */
/* Microseconds that a character takes, with start, parity and stop bits. */
uint32_t serial_char_us(const struct serial_conf *conf);

/* fn whenever a node of that path has appeared (inotify). NULL: it cannot be watched. */
struct serial_watch;
struct serial_watch *serial_watch_new(struct loop *loop, const char *path, void (*fn)(void *arg), void *arg);
void serial_watch_free(struct serial_watch *watch); /* NULL allowed */
#endif
