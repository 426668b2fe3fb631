/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_UDP_H
#define IOTGW_UDP_H
/*
 * Datagrams to and from one other end: a connected UDP socket, so that nothing of others is received and a port that nobody
 * listens on is noticed. Owner thread: the loop's. Callbacks never come inside the call that caused them.
 */
#include "io/loop.h"

struct udp;
struct udp_events {
    void (*open)(void *arg); /* the name is resolved; that somebody is there is not known */
    void (*read)(void *arg, const uint8_t *p, size_t n);
    void (*closed)(void *arg, enum err err, const struct why *why); /* at most once; then udp_close frees it */
};

struct udp *udp_new(struct loop *loop, const char *host, uint16_t port, const struct udp_events *events, void *arg);
void udp_write(struct udp *udp, const uint8_t *p, size_t n); /* one datagram; what the kernel does not take is lost */
void udp_close(struct udp *udp);                             /* no callback comes any more; frees it; NULL allowed */
#endif
