/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/instance.h"

#include "base/mem.h"
#include "gateway/crash.h"

#include <assert.h>

/*
 *   NEW ──open──► OPEN ──start──► RUNNING ──quiesce──► QUIET ──stop──► STOPPED ──free
 *    └─► FAILED     └───────────────┴────────────────────┴─ too late ─► DETACHED ─ late answer ─► stop ─► free
 *
 * One step at a time: `there` goes to the connector's loop, `back` comes from it to the main loop.
 */
enum step { STEP_OPEN, STEP_START, STEP_APPLY, STEP_QUIESCE, STEP_STOP, STEP_CLOSE };

struct instance {
    struct instance_conf conf;
    struct crash_owner crash_owner;
    struct conf *next;   /* of apply */
    struct conf *former; /* before the last apply: what is on its way may still point into it */
    struct ctx *ctx;
    void *self;
    enum instance_state state;
    enum step step;
    enum instance_devices devices;
    bool keeps_devices;
    bool is_open; /* connector's loop: open was called, close is due */
    struct call there, back;
    struct timer limit;  /* main loop */
    instance_fn *answer; /* of the step that runs; NULL: none runs, or nobody waits for it */
    void *answer_arg;
    struct why why;
    enum err err;
};

const char *instance_state_name(enum instance_state state)
{
    static const char *const names[] = {[INSTANCE_NEW] = "new",
                                        [INSTANCE_OPEN] = "opened",
                                        [INSTANCE_RUNNING] = "running",
                                        [INSTANCE_FAILED] = "failed",
                                        [INSTANCE_QUIET] = "quiet",
                                        [INSTANCE_STOPPED] = "stopped",
                                        [INSTANCE_DETACHED] = "left behind"};

    return names[state];
}

/* --- on the connector's loop -------------------------------------------------------------------------------------------- */

static void go_back(void *arg)
{
    struct instance *instance = arg;

    runner_call(instance->conf.main, &instance->back);
}

static void open_there(void *arg)
{
    struct instance *instance = arg;

    instance->is_open = true;
    instance->err =
        instance->conf.type->open(instance->self, instance->ctx, conf_root(instance->conf.conf), &instance->why);
    go_back(instance);
}

static void start_there(void *arg)
{
    struct instance *instance = arg;

    ctx_attach(instance->ctx, instance->self);
    instance->conf.type->start(instance->self);
    go_back(instance);
}

static void apply_there(void *arg)
{
    struct instance *instance = arg;
    const struct connector_type *type = instance->conf.type;

    instance->err = type->apply && type->apply(instance->self, conf_root(instance->next)) ? ERR_OK : ERR_UNSUPPORTED;
    if (!instance->err)
        ctx_set_conf(instance->ctx, instance->next);
    go_back(instance);
}

static void quiesce_there(void *arg)
{
    struct instance *instance = arg;

    ctx_quiesce(instance->ctx);
    ctx_hush(instance->ctx);
    if (instance->conf.type->quiesce)
        instance->conf.type->quiesce(instance->self, go_back, instance);
    else
        go_back(instance);
}

static void stop_there(void *arg)
{
    struct instance *instance = arg;

    if (instance->keeps_devices)
        ctx_keep_devices(instance->ctx);
    ctx_hush(instance->ctx);
    if (instance->conf.type->stop)
        instance->conf.type->stop(instance->self, go_back, instance);
    else
        go_back(instance);
}

static void close_there(void *arg)
{
    struct instance *instance = arg;

    if (instance->devices == DEVICES_DISCONNECTED)
        ctx_disconnect_all(instance->ctx);
    if (instance->devices == DEVICES_KEPT)
        ctx_end(instance->ctx);
    else
        ctx_attach(instance->ctx, NULL);
    if (instance->is_open)
        instance->conf.type->close(instance->self);
    go_back(instance);
}

/* --- on the main loop ------------------------------------------------------------------------------------------------- */

static void back(void *arg);
static const struct {
    const char *name;
    void (*there)(void *arg);
    uint64_t limit_ms;
    enum instance_state then;
} steps[] = {[STEP_OPEN] = {"open", open_there, 10000, INSTANCE_OPEN},
             [STEP_START] = {"start", start_there, 10000, INSTANCE_RUNNING},
             [STEP_APPLY] = {"change", apply_there, 10000, INSTANCE_RUNNING},
             [STEP_QUIESCE] = {"quiesce", quiesce_there, 2000, INSTANCE_QUIET},
             [STEP_STOP] = {"stop", stop_there, 3000, INSTANCE_STOPPED},
             [STEP_CLOSE] = {"close", close_there, 3000, INSTANCE_STOPPED}};

static void answer(struct instance *instance, enum err err)
{
    instance_fn *fn = instance->answer;

    timer_stop(&instance->limit);
    instance->answer = NULL;
    if (fn)
        fn(instance->answer_arg, instance, err);
}

static void go(struct instance *instance, enum step step)
{
    instance->step = step;
    instance->there = (struct call){.fn = steps[step].there, .arg = instance};
    instance->back = (struct call){.fn = back, .arg = instance};
    runner_call(instance->conf.runner, &instance->there);
}

static void take(struct instance *instance, enum step step, instance_fn *fn, void *arg)
{
    loop_assert(instance->conf.main->loop);
    assert(!instance->answer);
    instance->answer = fn;
    instance->answer_arg = arg;
    timer_start(&instance->limit, steps[step].limit_ms);
    go(instance, step);
}

static void too_late(void *arg)
{
    struct instance *instance = arg;

    LOG_ERROR(ctx_log(instance->ctx), "connector does not answer in time, it is left behind",
              KV_Z("step", steps[instance->step].name));
    instance->state = INSTANCE_DETACHED;
    ctx_bar(instance->ctx);
    answer(instance, ERR_TIMEOUT);
}

static void end(struct instance *instance)
{
    struct ctx *ctx = instance->ctx;

    if (instance->state == INSTANCE_DETACHED) {
        LOG_INFO(ctx_log(ctx), "connector that was left behind has ended");
        if (instance->conf.gone)
            instance->conf.gone(instance->conf.gone_arg, instance, ERR_OK);
    } else {
        answer(instance, ERR_OK);
    }
    crash_remove(&instance->crash_owner);
    mem_free(instance->self);
    ctx_unref(ctx);
    conf_unref(instance->former);
    conf_unref(instance->conf.conf);
    mem_free(instance);
}

/* Where a detached one goes on when its answer comes after all. */
static void go_on_late(struct instance *instance)
{
    switch (instance->step) {
    case STEP_OPEN:
    case STEP_STOP:
        go(instance, STEP_CLOSE);
        break;
    case STEP_START:
    case STEP_APPLY:
    case STEP_QUIESCE:
        go(instance, STEP_STOP);
        break;
    case STEP_CLOSE:
        end(instance);
        break;
    }
}

static void end_apply(struct instance *instance)
{
    if (instance->err) {
        conf_unref(instance->next);
    } else {
        conf_unref(instance->former);
        instance->former = instance->conf.conf;
        instance->conf.conf = instance->next;
    }
    instance->next = NULL;
}

static void back(void *arg)
{
    struct instance *instance = arg;
    enum err err = instance->step == STEP_OPEN || instance->step == STEP_APPLY ? instance->err : ERR_OK;

    if (instance->step == STEP_APPLY)
        end_apply(instance);
    if (instance->state == INSTANCE_DETACHED) {
        go_on_late(instance);
    } else if (instance->step == STEP_CLOSE) {
        timer_stop(&instance->limit);
        end(instance);
    } else {
        instance->state = err && instance->step == STEP_OPEN ? INSTANCE_FAILED : steps[instance->step].then;
        answer(instance, err);
    }
}

/* --- steps -------------------------------------------------------------------------------------------------------------- */

void instance_open(struct instance *instance, instance_fn *opened, void *arg)
{
    assert(instance->state == INSTANCE_NEW);
    take(instance, STEP_OPEN, opened, arg);
}

void instance_start(struct instance *instance, instance_fn *started, void *arg)
{
    assert(instance->state == INSTANCE_OPEN);
    take(instance, STEP_START, started, arg);
}

void instance_apply(struct instance *instance, struct conf *conf, instance_fn *applied, void *arg)
{
    assert(instance->state == INSTANCE_RUNNING);
    instance->next = conf_ref(conf);
    take(instance, STEP_APPLY, applied, arg);
}

void instance_quiesce(struct instance *instance, instance_fn *quiet, void *arg)
{
    if (instance->state != INSTANCE_RUNNING)
        quiet(arg, instance, ERR_OK);
    else
        take(instance, STEP_QUIESCE, quiet, arg);
}

void instance_stop(struct instance *instance, instance_fn *stopped, void *arg)
{
    if (instance->state != INSTANCE_RUNNING && instance->state != INSTANCE_QUIET)
        stopped(arg, instance, ERR_OK);
    else
        take(instance, STEP_STOP, stopped, arg);
}

void instance_give_up(struct instance *instance)
{
    if (timer_is_running(&instance->limit)) {
        timer_stop(&instance->limit);
        too_late(instance);
    }
}

void instance_keep_devices(struct instance *instance)
{
    instance->keeps_devices = true;
}

/* --- making and freeing ------------------------------------------------------------------------------------------- */

struct instance *instance_new(const struct instance_conf *conf)
{
    struct instance *instance = mem_zero(sizeof *instance);

    instance->conf = *conf;
    instance->conf.conf = conf_ref(conf->conf);
    instance->self = mem_zero(conf->type->state_size);
    instance->ctx = ctx_new(conf->type, conf->name, conf->runner->loop, conf->host, conf->conf);
    ctx_set_log_levels(instance->ctx, conf->log_level, conf->remote_level);
    crash_add(&instance->crash_owner, str_from(conf->name), str_from(conf->type->name), (const void *)conf->type->open,
              instance->self, conf->type->state_size, instance->ctx, conf_root(conf->conf));
    timer_init(&instance->limit, conf->main->loop, too_late, instance);
    return instance;
}

void instance_free(struct instance *instance, enum instance_devices devices, instance_fn *closed, void *arg)
{
    if (instance->state == INSTANCE_DETACHED) {
        closed(arg, instance, ERR_TIMEOUT);
        return;
    }
    instance->devices = devices;
    take(instance, STEP_CLOSE, closed, arg);
}

enum instance_state instance_state(const struct instance *instance)
{
    return instance->state;
}

struct ctx *instance_ctx(const struct instance *instance)
{
    return instance->ctx;
}

const struct why *instance_why(const struct instance *instance)
{
    return &instance->why;
}
