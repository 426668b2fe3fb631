/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_RUNNER_H
#define IOTGW_RUNNER_H
/*
 * A loop with a thread of its own (a data loop), or the main thread's loop: both take calls, which run on the loop in the
 * order given. runner_call from any thread; the call's memory must stay until it has run.
 */
#include "io/loop.h"

struct call {
    struct node node;
    atomic_bool is_posted; /* until it runs: posted twice, one node would make the mailbox a ring */
    void (*fn)(void *arg);
    void *arg;
};

struct runner {
    struct loop *loop;
    struct mailbox calls;
    uv_thread_t thread;
    bool has_thread;
};

NODISCARD enum err runner_init(struct runner *runner, const char *name); /* no thread yet: runner_start or loop_run */
void runner_init_fake(struct runner *runner); /* for tests: its loop is moved by loop_advance */
NODISCARD enum err runner_start(struct runner *runner);
void runner_call(struct runner *runner, struct call *call);
void runner_wait(struct runner *runner); /* after loop_stop: until its thread has ended */
void runner_join(struct runner *runner); /* after loop_stop; also frees the loop. Accepts a zeroed one */
#endif
