/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SERIAL_TTY_H
#define IOTGW_SERIAL_TTY_H
/*
 * The settings of a serial line, by the kernel's own structures: they know any speed, and exclude <termios.h>, which uv.h
 * brings; so this stands apart from serial.c. Any thread.
 */
#include "base/err.h"

struct serial_conf {
    const char *path; /* "/dev/ttyUSB0" */
    uint32_t baudrate;
    uint8_t bytesize;      /* 5 … 8 */
    uint8_t half_stopbits; /* 2: 1, 3: 1.5, 4: 2. What the hardware cannot do becomes 2 */
    char parity;           /* N E O, M (mark), S (space) */
    bool rs485;            /* the driver switches the direction with RTS (TIOCSRS485) */
};

/* Raw mode with these settings; what is waiting in both directions is dropped. */
NODISCARD enum err serial_tty_set(int fd, const struct serial_conf *conf, struct why *why);
void serial_tty_hurry(int fd); /* where the driver can: bytes are handed over as they come, not every 16 ms */
bool serial_tty_rs485(int fd); /* false: the driver cannot switch the direction */
void serial_tty_drop_output(int fd);
#endif
