/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_NOTIFY_H
#define IOTGW_NOTIFY_H
/*
 * Tells the service manager about the program's state (sd_notify(3)): one datagram to the socket named by NOTIFY_SOCKET.
 * Without that variable nothing happens. Main thread.
 */
#include "base/str.h"

void notify_send(struct str state); /* "READY=1", "STOPPING=1", "STATUS=…", "WATCHDOG=1"; lines */
uint64_t notify_watchdog_ms(void);  /* half of WATCHDOG_USEC; 0: the manager asks for none */
#endif
