/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_INSTANCE_H
#define IOTGW_INSTANCE_H
/*
 * One configured connector: its module's state, its context, and its way through open, start, quiesce, stop and close.
 *
 * instance_* are called on the main loop; the connector's own functions run on its data loop, by calls. An answer that
 * does not come within its bound (quiesce 2 s, stop 3 s) is not waited for: the instance is detached and named.
 */
#include "conf/conf.h"
#include "connector/ctx.h"
#include "gateway/runner.h"

enum instance_state {
    INSTANCE_NEW,
    INSTANCE_RUNNING,
    INSTANCE_FAILED,
    INSTANCE_QUIET,
    INSTANCE_STOPPED,
    INSTANCE_DETACHED
};

struct instance;
struct instance_conf {
    const char *name;
    const struct connector_type *type;
    struct conf *conf;            /* a reference is taken */
    struct runner *main, *runner; /* main: where instance_* are called and their answers arrive */
    const struct ctx_host *host;  /* of that runner */
    enum log_level log_level;
};
struct instance *instance_new(const struct instance_conf *conf);
/* Opens and starts; started (may be NULL) runs on the main loop, err says whether it opened. */
typedef void instance_fn(void *arg, struct instance *instance, enum err err);
void instance_start(struct instance *instance, instance_fn *started, void *arg);
void instance_quiesce(struct instance *instance, instance_fn *quiet, void *arg);
void instance_stop(struct instance *instance, instance_fn *stopped, void *arg);
/* Closes it on its loop and frees it; closed comes last. A detached one keeps its memory: its module may still use it. */
void instance_free(struct instance *instance, instance_fn *closed, void *arg);
enum instance_state instance_state(const struct instance *instance);
#endif
