/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_GATEWAY_H
#define IOTGW_GATEWAY_H
/*
 * The conductor: makes loops, store, uplink and connectors of a configuration, starts them in this order, waits for the
 * end, and stops them in the reverse order within 10 s (DESIGN: start and stop).
 *
 * Owner thread: main. gateway_run returns the exit code of the program: 0 stopped on request, 78 nothing could be
 * started, 1 the machine refused something (threads, sockets).
 */
#include "gateway/gateway_conf.h"

struct logging;
/* Takes over conf. logging: where log writes, the gateway's other loggers as well. known: what the log has told of it. */
int gateway_run(struct gateway_conf *conf, const struct gateway_types *types, const struct problems *known,
                struct logging *logging, struct log *log);
#endif
