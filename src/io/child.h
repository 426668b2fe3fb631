/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CHILD_H
#define IOTGW_CHILD_H
/*
 * A program run beside this one: in a session and process group of its own, its output read as it comes. It never blocks the
 * loop: what is not read waits in the pipe, and the program with it.
 *
 * Owner thread: the loop's. Fake loops have no programs (ERR_UNSUPPORTED).
 * What a program leaves behind in its process group ends (SIGKILL) when the program itself has ended.
 * SIGPIPE must be ignored by the process.
 */
#include "io/loop.h"

struct child;
/* bytes: valid until it returns. May call any child_ function. */
typedef void child_output_fn(void *arg, struct str bytes);
/* Once, when the program has ended and its output is read: status, or the signal that ended it (else 0). The child is gone
 * when it returns. Not called after child_abandon. */
typedef void child_ended_fn(void *arg, int64_t status, int signal);

struct child_conf {
    const char *const *argv;   /* the first is a path; ends with NULL */
    const char *directory;     /* NULL: that of this process */
    struct str input;          /* copied; empty: none */
    bool has_errors_in_output; /* else they go where those of this process go */
    child_output_fn *output;
    child_ended_fn *ended;
    void *arg;
};
/* Nothing is called before it has returned. */
NODISCARD enum err child_start(struct child **out, struct loop *loop, const struct child_conf *conf, struct why *why);
/* Bounds what the caller has to keep: while paused nothing is read. */
void child_pause(struct child *child, bool is_paused);
void child_signal(struct child *child, int number); /* to its whole process group */
/* SIGKILL to its process group, and nothing is called any more. */
void child_abandon(struct child *child);
#endif
