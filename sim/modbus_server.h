/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SIM_MODBUS_SERVER_H
#define IOTGW_SIM_MODBUS_SERVER_H
/*
 * The connections of a simulated Modbus server: TCP, TLS, UDP or a pseudo terminal, framed in any of the three ways, with
 * the faults that are set. A connection's requests are answered one after the other. What is answered, and by whom, is the
 * user's. Owner thread: the loop's.
 */
#include "base/list.h"
#include "io/stream.h"
#include "modbus_fault.h"
#include "modbus_frame.h"

enum { MODBUS_PENDING_MAX = 32 };

struct modbus_server_conf {
    enum modbus_framing framing;
    enum { MODBUS_SERVE_TCP, MODBUS_SERVE_UDP, MODBUS_SERVE_PTY } over;
    const char *host;
    const char *cert_file, *key_file; /* both: TLS */
    const char *link;                 /* pseudo terminal: a symbolic link to it; NULL: none */
    bool echoes;                      /* what comes is sent back, as by a half-duplex adapter */
    /* False: the unit is not there. Called once a request. */
    bool (*answer)(void *arg, unsigned port, uint8_t unit, const struct modbus_pdu *ask, struct modbus_pdu *answer);
    void *arg;
};

struct modbus_server {
    struct loop *loop;
    const struct modbus_server_conf *conf;
    struct faults *faults;
    unsigned index; /* of its port */
    uint16_t port;
    struct listener *listener;
    struct modbus_pty *pty;
    struct modbus_datagrams *datagrams;
    struct list conns;
    unsigned n_open;
    uint64_t n_accepted, n_dropped;
    bool is_stalled;
};

/* Listens; port 0: any. */
NODISCARD enum err modbus_server_up(struct modbus_server *server, struct closer *closer, struct why *why);
/* Stops listening and drops all connections; a pseudo terminal vanishes. closer: until all is closed. */
void modbus_server_down(struct modbus_server *server, struct closer *closer);
void modbus_server_drop(struct modbus_server *server);                   /* its connections */
void modbus_server_stall(struct modbus_server *server, bool is_stalled); /* nothing is read: half-open */
const char *modbus_server_device(const struct modbus_server *server);    /* of the pseudo terminal; NULL: none */
#endif
