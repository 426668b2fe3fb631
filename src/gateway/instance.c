/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/instance.h"

#include "base/mem.h"

#include <assert.h>

enum { QUIESCE_MS = 2000, STOP_MS = 3000 };

/*
 *   NEW ──start──► RUNNING ──quiesce──► QUIET ──stop──► STOPPED ──free
 *     └─► FAILED (not opened)    └──────────┴─ too late ─► DETACHED
 *
 * One step at a time: `there` goes to the connector's loop, `back` comes from it to the main loop.
 */
struct instance {
    struct instance_conf conf;
    struct ctx *ctx;
    void *self;
    enum instance_state state;
    bool is_open; /* connector's loop: open was called, close is due */
    struct call there, back;
    struct timer limit;  /* main loop */
    instance_fn *answer; /* of the step that runs; NULL: none runs */
    void *answer_arg;
    struct why why;
    enum err err;
};

static void answer(struct instance *instance, enum err err)
{
    instance_fn *fn = instance->answer;

    timer_stop(&instance->limit);
    instance->answer = NULL;
    if (fn)
        fn(instance->answer_arg, instance, err);
}

static void too_late(void *arg)
{
    struct instance *instance = arg;

    LOG_ERROR(ctx_log(instance->ctx), "connector does not stop in time, it is left behind");
    instance->state = INSTANCE_DETACHED;
    answer(instance, ERR_TIMEOUT);
}

static void step(struct instance *instance, void (*there)(void *), void (*back)(void *), uint64_t limit_ms,
                 instance_fn *fn, void *arg)
{
    loop_assert(instance->conf.main->loop);
    assert(!instance->answer);
    instance->answer = fn;
    instance->answer_arg = arg;
    instance->there = (struct call){.fn = there, .arg = instance};
    instance->back = (struct call){.fn = back, .arg = instance};
    if (limit_ms)
        timer_start(&instance->limit, limit_ms);
    runner_call(instance->conf.runner, &instance->there);
}

static void go_back(void *arg)
{
    struct instance *instance = arg;

    runner_call(instance->conf.main, &instance->back);
}

/* --- start ------------------------------------------------------------------------------------------------------- */

static void start_there(void *arg)
{
    struct instance *instance = arg;
    const struct connector_type *type = instance->conf.type;

    instance->is_open = true;
    instance->err = type->open(instance->self, instance->ctx, conf_root(instance->conf.conf), &instance->why);
    if (instance->err == ERR_OK) {
        ctx_attach(instance->ctx, instance->self);
        type->start(instance->self);
    }
    go_back(instance);
}

static void start_back(void *arg)
{
    struct instance *instance = arg;

    instance->state = instance->err ? INSTANCE_FAILED : INSTANCE_RUNNING;
    if (instance->err)
        LOG_ERROR(ctx_log(instance->ctx), "connector not started", KV_WHY(&instance->why));
    else
        LOG_INFO(ctx_log(instance->ctx), "connector started", KV_Z("type", instance->conf.type->name));
    answer(instance, instance->err);
}

void instance_start(struct instance *instance, instance_fn *started, void *arg)
{
    step(instance, start_there, start_back, 0, started, arg);
}

/* --- quiesce, stop ------------------------------------------------------------------------------------------------ */

static void quiesce_there(void *arg)
{
    struct instance *instance = arg;

    if (instance->conf.type->quiesce)
        instance->conf.type->quiesce(instance->self, go_back, instance);
    else
        go_back(instance);
}

static void quiesce_back(void *arg)
{
    struct instance *instance = arg;

    if (instance->state != INSTANCE_RUNNING)
        return; /* too late: it has been given up */
    instance->state = INSTANCE_QUIET;
    answer(instance, ERR_OK);
}

void instance_quiesce(struct instance *instance, instance_fn *quiet, void *arg)
{
    if (instance->state != INSTANCE_RUNNING)
        quiet(arg, instance, ERR_OK);
    else
        step(instance, quiesce_there, quiesce_back, QUIESCE_MS, quiet, arg);
}

static void stop_there(void *arg)
{
    struct instance *instance = arg;

    if (instance->conf.type->stop)
        instance->conf.type->stop(instance->self, go_back, instance);
    else
        go_back(instance);
}

static void stop_back(void *arg)
{
    struct instance *instance = arg;

    if (instance->state == INSTANCE_DETACHED)
        return;
    instance->state = INSTANCE_STOPPED;
    answer(instance, ERR_OK);
}

void instance_stop(struct instance *instance, instance_fn *stopped, void *arg)
{
    if (instance->state != INSTANCE_RUNNING && instance->state != INSTANCE_QUIET)
        stopped(arg, instance, ERR_OK);
    else
        step(instance, stop_there, stop_back, STOP_MS, stopped, arg);
}

/* --- making and freeing ------------------------------------------------------------------------------------------- */

struct instance *instance_new(const struct instance_conf *conf)
{
    struct instance *instance = mem_zero(sizeof *instance);

    instance->conf = *conf;
    instance->conf.conf = conf_ref(conf->conf);
    instance->self = mem_zero(conf->type->state_size);
    instance->ctx = ctx_new(conf->type, conf->name, conf->runner->loop, conf->host, conf->conf);
    atomic_store(&ctx_log(instance->ctx)->level, (int)conf->log_level);
    timer_init(&instance->limit, conf->main->loop, too_late, instance);
    return instance;
}

static void free_there(void *arg)
{
    struct instance *instance = arg;

    ctx_attach(instance->ctx, NULL);
    if (instance->is_open)
        instance->conf.type->close(instance->self);
    ctx_unref(instance->ctx);
    go_back(instance);
}

static void free_back(void *arg)
{
    struct instance *instance = arg;
    instance_fn *closed = instance->answer;

    instance->answer = NULL;
    if (closed)
        closed(instance->answer_arg, instance, ERR_OK);
    mem_free(instance->self);
    conf_unref(instance->conf.conf);
    mem_free(instance);
}

void instance_free(struct instance *instance, instance_fn *closed, void *arg)
{
    if (instance->state == INSTANCE_DETACHED)
        closed(arg, instance, ERR_TIMEOUT);
    else
        step(instance, free_there, free_back, 0, closed, arg);
}

enum instance_state instance_state(const struct instance *instance)
{
    return instance->state;
}
