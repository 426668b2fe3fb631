/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MODBUS_FAKE_LINE_H
#define IOTGW_CONNECTOR_MODBUS_FAKE_LINE_H
/*
 * Stands in for modbus_line.c in tests of the link: no sockets, the clock is a fake one. What the link writes is collected,
 * what it reads is given by the test. One line at a time.
 */
#include "modbus_line.h"

struct fake_line {
    struct modbus_line *line; /* the one in use; NULL: none */
    struct buf out;           /* written and not yet looked at */
    unsigned n_made, n_writes;
};
extern struct fake_line fake_line;

void fake_line_open(void);
void fake_line_feed(const void *p, size_t n, size_t step); /* step: bytes at a time; 0: all at once */
void fake_line_lose(enum err err);                         /* or: the attempt to connect fails */
void fake_line_reset(void);
#endif
