/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_INSTANCE_H
#define IOTGW_INSTANCE_H
/*
 * One configured connector: its module's state, its context, and its way through open, start, quiesce, stop and close.
 *
 * instance_* are called on the main loop; the connector's own functions run on its data loop, by calls. An answer that
 * does not come within its bound (open, start 10 s; quiesce 2 s; stop, close 3 s) is not waited for: the instance is
 * detached and named, and takes nothing more from its sources. If the answer comes after all, the instance goes on to its end
 * by itself, and .gone tells.
 */
#include "conf/conf.h"
#include "connector/ctx.h"
#include "gateway/runner.h"

enum instance_state {
    INSTANCE_NEW,
    INSTANCE_OPEN,
    INSTANCE_RUNNING,
    INSTANCE_FAILED, /* not opened */
    INSTANCE_QUIET,
    INSTANCE_STOPPED,
    INSTANCE_DETACHED
};
const char *instance_state_name(enum instance_state state); /* "running" */

struct instance;
/* err says whether the step succeeded: ERR_TIMEOUT: it is detached. Runs on the main loop, never before the step's function has
 * returned, unless there is nothing to do in this state. */
typedef void instance_fn(void *arg, struct instance *instance, enum err err);

struct instance_conf {
    const char *name;
    const struct connector_type *type;
    struct conf *conf;                      /* a reference is taken */
    struct runner *main, *runner;           /* main: where instance_* are called and their answers arrive */
    const struct ctx_host *host;            /* of that runner */
    enum log_level log_level, remote_level; /* remote: what the platform gets */
    instance_fn *gone; /* a detached one has come to its end after all; freed when it returns. NULL: nobody asks */
    void *gone_arg;
};
struct instance *instance_new(const struct instance_conf *conf);
void instance_open(struct instance *instance, instance_fn *opened, void *arg); /* builds state, no input or output */
void instance_start(struct instance *instance, instance_fn *started, void *arg);
void instance_quiesce(struct instance *instance, instance_fn *quiet, void *arg);
void instance_stop(struct instance *instance, instance_fn *stopped, void *arg);
/* A new configuration of the same file for a running one. ERR_UNSUPPORTED: it must be restarted, nothing has changed. */
void instance_apply(struct instance *instance, struct conf *conf, instance_fn *applied, void *arg);
/* Closes it on its loop and frees it; closed comes last. A detached one keeps its memory: its module may still use it. What
 * becomes of its devices: */
enum instance_devices {
    DEVICES_LEFT,        /* as they are, with nobody */
    DEVICES_KEPT,        /* as they are, with its context */
    DEVICES_DISCONNECTED /* told to the platform */
};
void instance_free(struct instance *instance, enum instance_devices devices, instance_fn *closed, void *arg);
/* Does not wait for the step that runs: as if its bound had passed. */
void instance_give_up(struct instance *instance);
/* Devices that go away because it stops are not told to the platform: it comes back at once. */
void instance_keep_devices(struct instance *instance);

enum instance_state instance_state(const struct instance *instance);
struct ctx *instance_ctx(const struct instance *instance);
const struct why *instance_why(const struct instance *instance); /* of a failed open */
#endif
