/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MODBUS_SERVER_H
#define IOTGW_CONNECTOR_MODBUS_SERVER_H
/*
 * The gateway as a Modbus server: its memory, those who ask it over TCP, TLS, UDP or a serial line, and what of it is
 * reported as a device (modbus.md 10). Owner thread: the connector's loop.
 */
#include "connector/ctx.h"
#include "modbus_collect.h"
#include "modbus_down.h"
#include "modbus_frame.h"
#include "modbus_image.h"

struct modbus_server;
struct modbus_server *modbus_server_new(struct ctx *ctx, const struct modbus_own *own, uint64_t *cookie);
void modbus_server_start(struct modbus_server *server);
void modbus_server_quiet(struct modbus_server *server);                               /* reports nothing more */
void modbus_server_close(struct modbus_server *server, closed_fn *closed, void *arg); /* frees it before closed */
void modbus_server_free(struct modbus_server *server); /* one that was never started; NULL allowed */
/* Whether it could listen now, or open its line; nobody is served meanwhile. */
NODISCARD enum err modbus_server_check(const struct modbus_own *own, struct why *why);
/* A call of the platform: done at once; gives the answer. */
struct str modbus_server_execute(struct modbus_server *server, const struct modbus_call *call, struct arena *arena);

/* --- one request, whatever brought it; pure but for the memory -------------------------------------------------------------- */
struct modbus_change { /* what a request has written */
    enum modbus_area area;
    uint32_t address, n; /* n 0: nothing */
};
struct modbus_diary { /* since the start, or a diagnostics request that begins them anew; 6.8, 6.9, 6.10 */
    uint16_t n_messages, n_exceptions, n_events, n_unanswered;
    uint8_t n, events[64]; /* the newest first */
};
/* False: it is not to be answered. */
bool modbus_serve(struct modbus_image *image, struct modbus_diary *diary, const struct modbus_own *own, uint8_t unit,
                  const struct modbus_pdu *ask, struct modbus_pdu *answer, struct modbus_change *change);
#endif
