/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_STATISTICS_H
#define IOTGW_STATISTICS_H
/*
 * The gateway's own statistics, as telemetry of its own (core.md 11): machine, process, storage and connectors each period, and
 * results of custom commands. Counters are those since the previous message.
 *
 * Owner thread: the main loop, which never waits for a command. Nothing is stored: without a session nothing is sent, and the
 * counters go on until there is one. A command gets a process group of its own, which is killed at its time-out and when the command
 * has ended; its output is taken up to 64 KiB, more makes it fail.
 */
#include "gateway/fleet.h"
#include "gateway/north.h"

struct statistics;
struct statistics_sample { /* of loop 0 */
    struct store_stats store;
    struct uplink_status uplink;
    uint64_t n_received; /* messages of the platform */
};
/* Loop 0. */
typedef void statistics_sample_fn(void *arg, struct statistics_sample *out);

struct statistics_conf_of {
    struct runner *main, *loop0;
    struct fleet *fleet;
    struct north *north;
    struct log *log;
    statistics_sample_fn *sample;
    void *arg;
};
struct statistics *statistics_new(const struct statistics_conf_of *conf);
/* What is configured; copied. Also when it has changed: periods begin anew; an install command is run once,
 * whichever configuration brought it. */
void statistics_apply(struct statistics *statistics, const struct gateway_conf *conf);
void statistics_session(struct statistics *statistics, bool is_up);
/* Ends commands; stopped comes when none is left, perhaps at once. */
void statistics_stop(struct statistics *statistics, void (*stopped)(void *arg), void *arg);
void statistics_free(struct statistics *statistics); /* no loop runs any more; NULL allowed */

/* --- statistics_machine.c: what the machine and this process are like, from /proc ------------------------------------------------ */
struct machine_clock { /* of processor time: for what was used since the last reading */
    uint64_t mono_us, cpu_us;
};
/* "totalCpuUsage":… , without braces. */
void statistics_machine(struct buf *out, struct machine_clock *since);
/* {"totalMemory":"23.5G","totalDisk":"252.0G","cpuCount":2} */
void statistics_own_attributes(struct buf *out);
/* "23.5G": one decimal, units of 1024. */
void statistics_size(struct buf *out, uint64_t bytes);

/* --- statistics_command.c ----------------------------------------------------------------------------------------------------------- */
struct run_command { /* embedded; zeroed before run_command_start */
    uv_process_t process;
    uv_pipe_t pipe;
    struct timer timer;
    struct closer closer;
    struct buf output;
    bool is_late, is_too_much, has_exited, is_closing;
    int64_t exit_status;
    int signal;
    /* err: ERR_OK: it ended with 0, output is what it said; ERR_TIMEOUT; ERR_LIMIT; else it could not be run or has failed. */
    void (*done)(struct run_command *command, enum err err, struct str output);
};
/* argv ends with NULL. done comes exactly once, never before this has returned. */
void run_command_start(struct run_command *command, struct loop *loop, const char *const *argv, uint64_t timeout_ms,
                       void (*done)(struct run_command *command, enum err err, struct str output));
void run_command_kill(struct run_command *command); /* done comes soon */
/* A number as it is, else text without the line feed at its end. False: it says nothing. */
bool statistics_add_result(struct buf *out, struct str output);
#endif
