/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CERT_WATCH_H
#define IOTGW_CERT_WATCH_H
/*
 * Looks from time to time at when the certificates of the platform link end (core.md 3), says so in time, and tells the platform.
 * Changes no file: what the operator has put there is his to replace. Each connection reads the files anew.
 *
 * Owner thread: the main loop; files are read on a helper thread. Embedded.
 */
#include "base/arena.h"
#include "base/log.h"
#include "io/loop.h"

struct cert_watch_conf {
    const char *cert_file, *ca_file; /* NULL: none */
    uint64_t period_ms;
    unsigned days_left; /* warn from then on */
};

typedef void cert_watch_fn(void *arg,
                           struct str attributes); /* {"certificateExpiryTs":ms}, of the one that ends first */
struct cert_watch {
    struct loop *loop;
    struct log *log;
    struct cert_watch_conf conf, next; /* next: of a change that waits for the helper thread */
    struct arena arena, next_arena;    /* of their texts */
    cert_watch_fn *tell;
    void *arg;
    struct timer timer;
    struct work work;
    bool is_working, is_stopped, has_next;
    struct cert_end {     /* the helper thread's while working */
        int64_t until_ms; /* 0: not known */
        struct why why;
    } cert, ca;
};

/* conf is copied. Without files it does nothing until there are some. */
void cert_watch_start(struct cert_watch *watch, struct loop *loop, struct log *log, const struct cert_watch_conf *conf,
                      cert_watch_fn *tell, void *arg);
void cert_watch_change(struct cert_watch *watch, const struct cert_watch_conf *conf); /* nothing, if it is the same */
void cert_watch_look(struct cert_watch *watch); /* now: files may be there that were not, as after provisioning */
void cert_watch_stop(struct cert_watch *watch);
void cert_watch_fini(struct cert_watch *watch); /* the loop runs no more */
#endif
