/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SIM_PROGRAM_H
#define IOTGW_SIM_PROGRAM_H
/* What the simulators have in common: a loop, lines, signals, and an orderly end. One thread. */
#include "lines.h"

struct program {
    struct loop *loop;
    struct lines lines;
    struct closer closer;
    uv_signal_t signals[2];
    line_fn *handler;
    void (*close)(void *arg, struct closer *closer); /* closes what the user has open on the loop */
    void *arg;
    bool is_ending;
};

NODISCARD enum err program_init(struct program *program, const char *name, line_fn *handler,
                                void (*close)(void *arg, struct closer *closer), void *arg);
void program_run(
    struct program *program); /* until program_end, SIGINT, SIGTERM or the end of the pipe; frees the loop */
void program_end(struct program *program); /* the handler is not called any more */
#endif
