/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONSOLE_H
#define IOTGW_CONSOLE_H
/*
 * Local control of the running gateway put together: the socket, status, and the methods that steer it.
 *
 * Owner thread: main. Everything here works while the platform, the disk and connectors do not: nothing waits for them.
 */
#include "gateway/control_socket.h"
#include "gateway/status.h"
#include "gateway/tail.h"

struct console_conf {
    struct status_conf status; /* but ledger */
    struct ledger_conf ledger;
    struct logging *logging;
    struct registry *registry;
    struct log *log;
};
struct console {
    struct console_conf conf;
    struct control *control;
    struct control_socket *socket; /* NULL: there is none */
    struct status *status;
    struct ledger *ledger;
    struct tail *tail;
    closed_fn *stopped;
    void *arg;
};
/* The main loop does not run yet. That there is no socket is told in the log, and no reason to stop. */
void console_start(struct console *console, const struct console_conf *conf, const char *config_dir);
void console_stop(struct console *console, closed_fn *done, void *arg);
/* console_methods.c; for console_start. */
void console_add_methods(struct console *console);
void console_fini(struct console *console); /* data loops have ended; a zeroed one allowed */
#endif
