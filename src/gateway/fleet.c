/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/fleet.h"

#include "base/mem.h"
#include "conf/common.h"
#include "connector/module.h"

#include <assert.h>
#include <stdio.h>

enum { HERITAGE_MS = 10000 };

/*
 * What is asked of a connector, step by step. `next` is the instance that shall replace the present one.
 *
 *   replace:  opening next ─► quiescing ─► stopping ─► starting next ─► parting from the old one ─► done
 *                 │ fails                                  │ fails
 *                 ▼                                        ▼
 *               done, the old one runs on        opening, starting the former again ─► parting ─► done with the error
 *   stop, remove:               quiescing ─► stopping ─► parting ─► done
 *   live:     apply ─► done, or as replace
 */
enum op_kind { OP_START, OP_STOP, OP_REPLACE, OP_REMOVE };

struct spec {
    char *name;
    const struct connector_type *type;
    struct conf *conf;
};

struct op {
    struct list node;
    enum op_kind kind;
    enum fleet_change change;
    bool has_spec; /* else what it is */
    struct spec spec;
    fleet_done_fn *done;
    void *arg;
    struct call call; /* leaves the call stack */
    struct member *member;
};

struct member {
    struct fleet *fleet;
    struct spec spec;
    char *type_name;
    struct log log;
    struct data_loop *loop, *next_loop;
    struct instance *instance, *next; /* NULL: none */
    enum instance_state idle_state;   /* without an instance */
    struct why error;
    int64_t since_ms;

    struct list ops; /* the first is being done */
    bool is_begun, is_held;
    bool is_going_back; /* next is the former one again */
    struct why why;     /* of the op */
    struct all *quiet;  /* of fleet_quiesce_all, which waits for the op to end; NULL: nobody waits */

    /* Of the replaced one, with the devices that the present one has not named yet. */
    struct ctx *heritage;
    struct timer heritage_timer;
};

struct left_behind {
    struct left_behind *next;
    struct instance *instance;
    struct data_loop *loop;
};

struct forgotten {
    struct fleet *fleet;
    struct data_loop *loop;
    struct member *member; /* NULL: nothing waits for its end */
};

struct fleet {
    struct loops *loops;
    struct member **members;
    size_t n;
    struct left_behind *left;
    size_t n_left;
    size_t n_forgotten;
    bool is_ending;
    struct all *closing; /* waits for those forgotten; NULL: nobody waits */
};

/* A step of all together. */
struct all {
    struct call call; /* leaves the call stack */
    size_t n_waiting;
    fleet_all_fn *done;
    void *arg;
};

static void op_begin(void *arg);
static void open_next(struct member *member, const struct spec *spec);
static void start_next(struct member *member);
static void member_quiesce(struct member *member, struct all *all);
static void one_done(struct all *all);

/* --- small things --------------------------------------------------------------------------------------------------------- */

static void spec_fini(struct spec *spec)
{
    mem_free(spec->name);
    conf_unref(spec->conf);
    *spec = (struct spec){0};
}

static struct spec spec_of(const struct fleet_spec *from)
{
    return (struct spec){
        .name = mem_dup(from->name), .type = from->type, .conf = from->conf ? conf_ref(from->conf) : NULL};
}

static struct member *find(const struct fleet *fleet, struct str name)
{
    for (size_t i = 0; i < fleet->n; i++)
        if (str_eq(name, str_from(fleet->members[i]->spec.name)))
            return fleet->members[i];
    return NULL;
}

static bool wants_own_loop(const struct spec *spec)
{
    const struct connector_common *common = connector_common_of(spec->conf);

    return common->has_own_loop ? common->own_loop : (spec->type->flags & CONNECTOR_LONG_TURNS) != 0;
}

static enum log_level log_level_of(const struct spec *spec)
{
    return (enum log_level)connector_common_of(spec->conf)->log_level;
}

static enum log_level remote_level_of(const struct spec *spec)
{
    return connector_common_of(spec->conf)->remote_logging ? log_level_of(spec) : LOG_LEVEL_OFF;
}

static void set_idle(struct member *member, enum instance_state state)
{
    member->idle_state = state;
    member->since_ms = loop_wall_ms(member->fleet->loops->main->loop);
}

static void name_log(struct member *member)
{
    unsigned n_errors = atomic_load(&member->log.n_errors);

    if (member->log.name)
        log_fini(&member->log);
    log_init_of(&member->log, LOG_OF_CONNECTOR, member->spec.name, LOG_LEVEL_INFO);
    atomic_store(&member->log.n_errors, n_errors);
}

/* What the op brought is what it is from now on. */
static void adopt(struct member *member, struct op *op)
{
    if (!op->has_spec)
        return;
    spec_fini(&member->spec);
    member->spec = op->spec;
    op->spec = (struct spec){0};
    op->has_spec = false;
    mem_free(member->type_name);
    member->type_name = mem_dup(member->spec.type->name);
    name_log(member);
}

/* --- those left behind ------------------------------------------------------------------------------------------------ */

static void left_behind_ended(void *arg, struct instance *instance, enum err err)
{
    struct fleet *fleet = arg;

    (void)err;
    for (struct left_behind **at = &fleet->left; *at; at = &(*at)->next) {
        struct left_behind *left = *at;

        if (left->instance != instance)
            continue;
        *at = left->next;
        fleet->n_left--;
        left->loop->n_left--;
        loops_give_back(left->loop);
        mem_free(left);
        return;
    }
}

static void leave_behind(struct fleet *fleet, struct instance *instance, struct data_loop *loop)
{
    struct left_behind *left = mem_new(sizeof *left);

    *left = (struct left_behind){.next = fleet->left, .instance = instance, .loop = loop};
    fleet->left = left;
    fleet->n_left++;
    loop->n_left++;
}

static void leave_instance(struct member *member)
{
    leave_behind(member->fleet, member->instance, member->loop);
    member->instance = NULL;
    set_idle(member, INSTANCE_DETACHED);
}

static void leave_next(struct member *member)
{
    leave_behind(member->fleet, member->next, member->next_loop);
    member->next = NULL;
}

/* --- devices of a replaced connector -------------------------------------------------------------------------------------- */

struct farewell {
    struct call call;
    struct ctx *from, *to;
};

static void say_farewell(void *arg)
{
    struct farewell *farewell = arg;

    ctx_inherit_gone(farewell->to, farewell->from);
    ctx_unref(farewell->from);
    ctx_unref(farewell->to);
    mem_free(farewell);
}

/* What the new one has not named by now, it does not serve. */
static void heritage_is_over(void *arg)
{
    struct member *member = arg;
    struct farewell *farewell;

    if (!member->instance)
        return;
    farewell = mem_new(sizeof *farewell);
    *farewell = (struct farewell){.call = {.fn = say_farewell, .arg = farewell},
                                  .from = member->heritage,
                                  .to = ctx_ref(instance_ctx(member->instance))};
    member->heritage = NULL;
    runner_call(&member->loop->runner, &farewell->call);
}

/* Before the present one goes: its devices and those it has not named yet share their fate. */
static void settle_heritage(struct member *member)
{
    timer_stop(&member->heritage_timer);
    if (!member->heritage)
        return;
    ctx_hand_over(member->heritage, member->instance ? instance_ctx(member->instance) : NULL);
    ctx_unref(member->heritage);
    member->heritage = NULL;
}

/* --- the end of an op ------------------------------------------------------------------------------------------------- */

static struct op *op_of(const struct member *member)
{
    return CONTAINER_OF(list_first(&member->ops), struct op, node);
}

static void op_answer(struct op *op, enum err err, const struct why *why)
{
    list_del(&op->node);
    if (op->done)
        op->done(op->arg, err, why);
    spec_fini(&op->spec);
    mem_free(op);
}

static void cancel_waiting(struct member *member, enum err err)
{
    struct why why = {.err = err};
    struct op *begun = member->is_begun ? op_of(member) : NULL;

    LIST_EACH_SAFE(node, &member->ops) {
        struct op *op = CONTAINER_OF(node, struct op, node);

        if (op != begun && !op->call.is_posted)
            op_answer(op, err, &why);
    }
}

static void member_free(struct member *member)
{
    timer_stop(&member->heritage_timer);
    ctx_unref(member->heritage);
    log_fini(&member->log);
    spec_fini(&member->spec);
    mem_free(member->type_name);
    mem_free(member);
}

static void take_out(struct member *member)
{
    struct fleet *fleet = member->fleet;
    size_t i = 0;

    while (fleet->members[i] != member)
        i++;
    memmove(&fleet->members[i], &fleet->members[i + 1], (--fleet->n - i) * sizeof *fleet->members);
    cancel_waiting(member, ERR_NOTFOUND);
    member_free(member);
}

static void op_end(struct member *member, enum err err)
{
    struct op *op = op_of(member);
    struct why why = member->why;
    struct all *quiet = member->quiet;

    why.err = err;
    member->is_begun = member->is_going_back = false;
    member->quiet = NULL;
    list_del(&op->node);
    if (op->kind == OP_REMOVE && !quiet) {
        take_out(member);
    } else {
        struct list *next = list_first(&member->ops);

        if (quiet)
            member_quiesce(member, quiet);
        else if (next)
            runner_call(member->fleet->loops->main, &CONTAINER_OF(next, struct op, node)->call);
    }
    op_answer(op, err, &why);
}

static void log_failure(struct member *member)
{
    if (member->instance)
        LOG_ERROR(&member->log, "connector not changed, the former one runs on", KV_WHY(&member->why));
    else
        LOG_ERROR(&member->log, "connector not started", KV_WHY(&member->why));
}

/* Nothing of the op runs any more. */
static void op_failed(struct member *member)
{
    enum err err = member->why.err;

    member->error = member->why;
    if (err != ERR_CANCELLED)
        log_failure(member);
    op_end(member, err);
}

/* --- parting from the old one ---------------------------------------------------------------------------------------------- */

static void settled(struct member *member)
{
    struct op *op = op_of(member);

    if (member->next) { /* replaced, by the new one or by the former one again */
        member->instance = member->next;
        member->loop = member->next_loop;
        member->next = NULL;
        if (!member->is_going_back)
            adopt(member, op);
        set_idle(member, INSTANCE_RUNNING);
        LOG_INFO(&member->log, "connector started", KV_Z("type", member->type_name));
    } else if (!member->instance) {
        set_idle(member, member->why.err ? INSTANCE_FAILED : INSTANCE_STOPPED);
    }
    if (member->why.err) {
        op_failed(member);
    } else {
        member->error = (struct why){0};
        op_end(member, ERR_OK);
    }
}

static void old_closed(void *arg, struct instance *old, enum err err)
{
    struct member *member = arg;

    (void)old;
    if (err == ERR_TIMEOUT)
        leave_instance(member);
    else
        loops_give_back(member->loop);
    member->instance = NULL;
    settled(member);
}

/* The old one has stopped, or been left behind; next runs, or there is none. */
static void part(struct member *member)
{
    struct instance *old = member->instance;
    struct ctx *from = old ? instance_ctx(old) : NULL;
    enum instance_devices devices = DEVICES_DISCONNECTED;

    settle_heritage(member);
    if (!old) {
        settled(member);
        return;
    }
    if (member->next && member->spec.type->flags & CONNECTOR_NO_LINKS) {
        ctx_hand_over(from, instance_ctx(member->next)); /* a device that is silent is none that has gone */
        devices = DEVICES_LEFT;
    } else if (member->next) {
        member->heritage = ctx_ref(from);
        timer_start(&member->heritage_timer, HERITAGE_MS);
        devices = DEVICES_KEPT;
    }
    instance_free(old, devices, old_closed, member);
}

/* --- the new one ------------------------------------------------------------------------------------------------------- */

/* Nobody waits for it: what asked for it is over. */
static void forgotten_closed(void *arg, struct instance *instance, enum err err)
{
    struct forgotten *forgotten = arg;

    if (err == ERR_TIMEOUT)
        leave_behind(forgotten->fleet, instance, forgotten->loop);
    else
        loops_give_back(forgotten->loop);
    forgotten->fleet->n_forgotten--;
    if (forgotten->member)
        part(forgotten->member);
    if (forgotten->fleet->closing)
        one_done(forgotten->fleet->closing);
    mem_free(forgotten);
}

/* Gives up next, which is not started; then parts, if asked to. */
static void forget_next(struct member *member, bool and_part)
{
    struct forgotten *forgotten = mem_new(sizeof *forgotten);
    struct instance *next = member->next;

    *forgotten =
        (struct forgotten){.fleet = member->fleet, .loop = member->next_loop, .member = and_part ? member : NULL};
    member->next = NULL;
    member->fleet->n_forgotten++;
    instance_free(next, DEVICES_LEFT, forgotten_closed, forgotten);
}

/* The op has failed. Where the old one was stopped for it, the former one comes back. */
static void next_failed(struct member *member)
{
    bool has_stopped = !member->instance || instance_state(member->instance) != INSTANCE_RUNNING;

    if (!member->instance && member->idle_state != INSTANCE_DETACHED)
        has_stopped = false; /* there was none */
    if (has_stopped && !member->is_going_back && !member->fleet->is_ending) {
        member->is_going_back = true;
        open_next(member, &member->spec);
    } else if (has_stopped) {
        part(member);
    } else {
        if (!member->instance)
            adopt(member, op_of(member)); /* what it will be tried with next time */
        settled(member);
    }
}

static void next_started(void *arg, struct instance *next, enum err err)
{
    struct member *member = arg;

    (void)next;
    if (err) {
        why_set(&member->why, err, "it did not start within 10 s");
        member->why.err = err;
        leave_next(member);
        next_failed(member);
    } else {
        part(member);
    }
}

static void start_next(struct member *member)
{
    if (member->fleet->is_ending) {
        member->why.err = ERR_CANCELLED;
        forget_next(member, true);
        return;
    }
    if (member->instance)
        ctx_continue_counters(instance_ctx(member->next), instance_ctx(member->instance));
    instance_start(member->next, next_started, member);
}

static void old_is_gone(struct member *member, enum err err)
{
    struct op *op = op_of(member);
    struct data_loop *loop = member->loop;

    if (err)
        leave_instance(member);
    if (!member->next) {
        part(member);
    } else if (err && member->next_loop == loop) { /* perhaps nothing runs there any more */
        forget_next(member, false);
        open_next(member, op->has_spec ? &op->spec : &member->spec);
    } else {
        start_next(member);
    }
}

static void old_stopped(void *arg, struct instance *old, enum err err)
{
    (void)old;
    old_is_gone(arg, err);
}

static void old_quiet(void *arg, struct instance *old, enum err err)
{
    if (err)
        old_is_gone(arg, err);
    else
        instance_stop(old, old_stopped, arg);
}

static void next_opened(void *arg, struct instance *next, enum err err)
{
    struct member *member = arg;
    struct instance *old = member->instance;

    if (!err && member->fleet->is_ending)
        err = ERR_CANCELLED;
    if (!err && old && instance_state(old) == INSTANCE_RUNNING) {
        instance_keep_devices(old);
        instance_quiesce(old, old_quiet, member);
    } else if (!err) {
        start_next(member);
    } else {
        if (!member->is_going_back)
            member->why = *instance_why(next);
        if (err == ERR_TIMEOUT)
            why_set(&member->why, err, "it did not open within 10 s");
        member->why.err = err;
        if (err == ERR_TIMEOUT)
            leave_next(member);
        else
            forget_next(member, false);
        next_failed(member);
    }
}

static void open_next(struct member *member, const struct spec *spec)
{
    struct fleet *fleet = member->fleet;
    struct data_loop *loop = loops_take(fleet->loops, wants_own_loop(spec), member->loop);
    const struct instance_conf conf = {.name = spec->name,
                                       .type = spec->type,
                                       .conf = spec->conf,
                                       .main = fleet->loops->main,
                                       .runner = &loop->runner,
                                       .host = &loop->host,
                                       .log_level = log_level_of(spec),
                                       .remote_level = remote_level_of(spec),
                                       .gone = left_behind_ended,
                                       .gone_arg = fleet};

    member->next_loop = loop;
    member->next = instance_new(&conf);
    instance_open(member->next, next_opened, member);
}

/* --- what is asked ------------------------------------------------------------------------------------------------------ */

static void applied(void *arg, struct instance *instance, enum err err)
{
    struct member *member = arg;
    struct op *op = op_of(member);

    if (!err) {
        adopt(member, op);
        ctx_set_log_levels(instance_ctx(instance), log_level_of(&member->spec), remote_level_of(&member->spec));
        settled(member);
        return;
    }
    if (err == ERR_TIMEOUT)
        leave_instance(member);
    open_next(member, &op->spec);
}

static void begin_replace(struct member *member, struct op *op)
{
    bool is_running = member->instance && instance_state(member->instance) == INSTANCE_RUNNING;

    if (!is_running || !op->has_spec || op->change == FLEET_RESTART || op->spec.type != member->spec.type ||
        strcmp(op->spec.name, member->spec.name) != 0) {
        open_next(member, op->has_spec ? &op->spec : &member->spec);
    } else if (op->change == FLEET_LIVE) {
        instance_apply(member->instance, op->spec.conf, applied, member);
    } else {
        applied(member, member->instance, ERR_OK);
    }
}

static void op_begin(void *arg)
{
    struct op *op = arg;
    struct member *member = op->member;

    if (member->fleet->is_ending) {
        cancel_waiting(member, ERR_CANCELLED);
        return;
    }
    member->is_begun = true;
    member->is_held = false;
    member->why = (struct why){0};
    switch (op->kind) {
    case OP_START:
        if (member->instance) {
            op_end(member, ERR_OK);
            break;
        }
        if (!member->spec.conf) {
            member->why = member->error;
            op_failed(member);
            break;
        }
        open_next(member, &member->spec);
        break;
    case OP_REPLACE:
        if (!op->has_spec && !member->spec.conf) {
            member->why = member->error;
            op_failed(member);
            break;
        }
        begin_replace(member, op);
        break;
    case OP_STOP:
    case OP_REMOVE:
        if (member->instance)
            instance_quiesce(member->instance, old_quiet, member);
        else
            part(member);
        break;
    }
}

static void op_refused(void *arg)
{
    struct op *op = arg;
    struct why why = {.err = ERR_NOTFOUND};

    op_answer(op, why.err, &why);
}

static void ask(struct fleet *fleet, struct str name, enum op_kind kind, const struct fleet_spec *spec,
                enum fleet_change change, fleet_done_fn *done, void *arg)
{
    struct member *member = find(fleet, name);
    struct op *op = mem_zero(sizeof *op);

    loop_assert(fleet->loops->main->loop);
    op->kind = kind;
    op->change = change;
    op->has_spec = spec != NULL;
    if (spec)
        op->spec = spec_of(spec);
    op->done = done;
    op->arg = arg;
    op->member = member;
    op->call = (struct call){.fn = member ? op_begin : op_refused, .arg = op};
    if (member) {
        bool is_first = list_is_empty(&member->ops);

        list_add_tail(&member->ops, &op->node);
        if (!is_first)
            return;
    }
    runner_call(fleet->loops->main, &op->call);
}

void fleet_hold(struct fleet *fleet, struct str name, const char *why)
{
    struct member *member = find(fleet, name);

    if (!member || member->instance)
        return;
    member->is_held = true;
    why_set(&member->error, ERR_BUSY, "%s", why);
    set_idle(member, INSTANCE_FAILED);
    LOG_ERROR(&member->log, "connector is held back", KV_Z("why", why));
}

void fleet_start(struct fleet *fleet, struct str name, fleet_done_fn *done, void *arg)
{
    ask(fleet, name, OP_START, NULL, FLEET_RESTART, done, arg);
}

void fleet_stop(struct fleet *fleet, struct str name, fleet_done_fn *done, void *arg)
{
    ask(fleet, name, OP_STOP, NULL, FLEET_RESTART, done, arg);
}

void fleet_restart(struct fleet *fleet, struct str name, fleet_done_fn *done, void *arg)
{
    ask(fleet, name, OP_REPLACE, NULL, FLEET_RESTART, done, arg);
}

void fleet_replace(struct fleet *fleet, struct str name, const struct fleet_spec *spec, enum fleet_change change,
                   fleet_done_fn *done, void *arg)
{
    ask(fleet, name, OP_REPLACE, spec, change, done, arg);
}

void fleet_remove(struct fleet *fleet, struct str name, fleet_done_fn *done, void *arg)
{
    ask(fleet, name, OP_REMOVE, NULL, FLEET_RESTART, done, arg);
}

/* --- all together ------------------------------------------------------------------------------------------------------- */

static void all_done(void *arg)
{
    struct all *all = arg;

    all->done(all->arg);
    mem_free(all);
}

static void one_done(struct all *all)
{
    if (--all->n_waiting == 0)
        all_done(all);
}

/* One more is waited for than there are: it is given back when all have been asked. */
static struct all *all_begin(fleet_all_fn *done, void *arg)
{
    struct all *all = mem_new(sizeof *all);

    *all = (struct all){.n_waiting = 1, .done = done, .arg = arg, .call = {.fn = all_done, .arg = all}};
    return all;
}

static void all_asked(struct fleet *fleet, struct all *all)
{
    if (--all->n_waiting == 0)
        runner_call(fleet->loops->main, &all->call);
}

static void one_started(void *arg, enum err err, const struct why *why)
{
    (void)err; /* its line is in the log */
    (void)why;
    one_done(arg);
}

void fleet_start_all(struct fleet *fleet, fleet_all_fn *done, void *arg)
{
    struct all *all = all_begin(done, arg);

    for (size_t i = 0; i < fleet->n; i++) {
        struct member *member = fleet->members[i];

        if (!member->spec.conf || member->instance || member->is_held)
            continue;
        all->n_waiting++;
        fleet_start(fleet, str_from(member->spec.name), one_started, all);
    }
    all_asked(fleet, all);
}

static void member_quiet(void *arg, struct instance *instance, enum err err)
{
    struct member *member = arg;
    struct all *all = member->quiet;

    (void)instance;
    member->quiet = NULL;
    if (err)
        leave_instance(member);
    one_done(all);
}

static void member_quiesce(struct member *member, struct all *all)
{
    member->quiet = all;
    if (member->instance)
        instance_quiesce(member->instance, member_quiet, member);
    else
        member_quiet(member, NULL, ERR_OK);
}

void fleet_quiesce_all(struct fleet *fleet, fleet_all_fn *done, void *arg)
{
    struct all *all = all_begin(done, arg);

    fleet->is_ending = true;
    all->n_waiting += fleet->n;
    for (size_t i = 0; i < fleet->n; i++) {
        struct member *member = fleet->members[i];

        settle_heritage(member);
        cancel_waiting(member, ERR_CANCELLED);
        if (!member->is_begun) {
            member_quiesce(member, all);
            continue;
        }
        member->quiet = all;
        if (member->next)
            instance_give_up(member->next); /* opening may take longer than there is time */
    }
    all_asked(fleet, all);
}

static void member_stopped(void *arg, struct instance *instance, enum err err)
{
    struct member *member = arg;
    struct all *all = member->quiet;

    (void)instance;
    member->quiet = NULL;
    if (err)
        leave_instance(member);
    one_done(all);
}

void fleet_stop_all(struct fleet *fleet, fleet_all_fn *done, void *arg)
{
    struct all *all = all_begin(done, arg);

    all->n_waiting += fleet->n;
    for (size_t i = 0; i < fleet->n; i++) {
        struct member *member = fleet->members[i];

        member->quiet = all;
        if (member->instance)
            instance_stop(member->instance, member_stopped, member);
        else
            member_stopped(member, NULL, ERR_OK);
    }
    all_asked(fleet, all);
}

static void member_closed(void *arg, struct instance *instance, enum err err)
{
    struct member *member = arg;
    struct all *all = member->quiet;

    (void)instance;
    member->quiet = NULL;
    if (err)
        leave_instance(member);
    member->instance = NULL;
    one_done(all);
}

void fleet_close(struct fleet *fleet, fleet_all_fn *done, void *arg)
{
    struct all *all = all_begin(done, arg);

    fleet->closing = all;
    all->n_waiting += fleet->n + fleet->n_forgotten;
    for (size_t i = 0; i < fleet->n; i++) {
        struct member *member = fleet->members[i];

        settle_heritage(member);
        member->quiet = all;
        if (member->instance)
            instance_free(member->instance, DEVICES_LEFT, member_closed, member);
        else
            member_closed(member, NULL, ERR_OK);
    }
    all_asked(fleet, all);
}

/* --- which there are ---------------------------------------------------------------------------------------------------- */

struct fleet *fleet_new(struct loops *loops)
{
    struct fleet *fleet = mem_zero(sizeof *fleet);

    fleet->loops = loops;
    return fleet;
}

void fleet_free(struct fleet *fleet)
{
    if (!fleet)
        return;
    for (size_t i = 0; i < fleet->n; i++)
        member_free(fleet->members[i]);
    while (fleet->left) {
        struct left_behind *left = fleet->left;

        fleet->left = left->next;
        mem_free(left);
    }
    mem_free(fleet->members);
    mem_free(fleet);
}

void fleet_add(struct fleet *fleet, const struct fleet_spec *spec, const char *type_name, const char *why)
{
    struct member *member = mem_zero(sizeof *member);

    assert(!find(fleet, str_from(spec->name)));
    member->fleet = fleet;
    member->spec = spec_of(spec);
    member->type_name = mem_dup(type_name);
    name_log(member);
    list_init(&member->ops);
    timer_init(&member->heritage_timer, fleet->loops->main->loop, heritage_is_over, member);
    set_idle(member, spec->conf ? INSTANCE_NEW : INSTANCE_FAILED);
    if (!spec->conf) {
        why_set(&member->error, ERR_CONFIG, "%s", why ? why : "its configuration cannot be used");
        LOG_ERROR(&member->log, "connector failed", KV_WHY(&member->error));
    }
    fleet->members = mem_grow(fleet->members, (fleet->n + 1) * sizeof *fleet->members);
    fleet->members[fleet->n++] = member;
}

void fleet_add_configured(struct fleet *fleet, const struct gateway_connector *connector)
{
    struct why why = {0};
    const struct connector_type *type = connector->conf ? module_load(connector->type, &why) : NULL;
    const struct fleet_spec spec = {.name = connector->name, .type = type, .conf = type ? connector->conf : NULL};

    fleet_add(fleet, &spec, connector->type, connector->conf ? why_text(&why) : connector->reason);
}

size_t fleet_count(const struct fleet *fleet)
{
    return fleet->n;
}

static struct fleet_connector view_of(const struct member *member)
{
    return (struct fleet_connector){.name = member->spec.name,
                                    .type = member->type_name,
                                    .state = member->instance ? instance_state(member->instance) : member->idle_state,
                                    .ctx = member->instance ? instance_ctx(member->instance) : NULL,
                                    .loop = member->instance ? member->loop : NULL,
                                    .error = member->error.err ? why_text(&member->error) : "",
                                    .since_ms = member->since_ms,
                                    .conf = member->spec.conf,
                                    .is_busy = member->is_begun,
                                    .is_held = member->is_held};
}

struct fleet_connector fleet_at(const struct fleet *fleet, size_t i)
{
    assert(i < fleet->n);
    return view_of(fleet->members[i]);
}

bool fleet_find(const struct fleet *fleet, struct str name, struct fleet_connector *out)
{
    const struct member *member = find(fleet, name);

    if (member)
        *out = view_of(member);
    return member != NULL;
}

struct ctx *fleet_ctx(const struct fleet *fleet, struct str name)
{
    const struct member *member = find(fleet, name);

    return member && member->instance ? instance_ctx(member->instance) : NULL;
}

size_t fleet_n_left_behind(const struct fleet *fleet)
{
    return fleet->n_left;
}
