/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SIGNALS_H
#define IOTGW_SIGNALS_H
/*
 * The signals by which the program is told something: SIGINT and SIGTERM (stop), SIGHUP (look again at all files).
 *
 * None is lost, whenever it comes. They are blocked in all threads, and read from a descriptor by the main loop: one that comes before
 * there is a loop waits. So does one that comes while a fault replaces the program (crash.h): what is blocked and pending goes on to
 * the next program, whereas a thread that had taken it might end before it has told anybody.
 *
 * Owner thread: main.
 */
#include "io/loop.h"

#include <signal.h>

struct signals {
    uv_poll_t poll;
    int fd;
    void (*told)(void *arg, int number);
    void *arg;
};
void signals_set(sigset_t *set);
void signals_hold(void); /* before any other thread is there */
NODISCARD enum err signals_start(struct signals *signals, struct loop *main, void (*told)(void *arg, int number),
                                 void *arg);
void signals_stop(struct signals *signals); /* what comes from now on waits for the end of the process */
#endif
