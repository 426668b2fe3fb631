/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/loops.h"

#include "base/mem.h"

#include <stdio.h>

/* --- making ---------------------------------------------------------------------------------------------------------- */

static void watchdog_at_loop(void *arg)
{
    struct data_loop *loop = arg, *next = atomic_load_explicit(&loop->next, memory_order_acquire);

    if (next)
        runner_call(&next->runner, &next->watchdog);
    else
        runner_call(loop->loops->main, &loop->loops->watchdog_back);
}

static NODISCARD enum err add(struct loops *loops, bool own)
{
    struct data_loop *loop = mem_zero(sizeof *loop);
    enum err err;

    loop->loops = loops;
    loop->is_own = own;
    loop->host = loops->host;
    loop->watchdog = (struct call){.fn = watchdog_at_loop, .arg = loop};
    snprintf(loop->name, sizeof loop->name, "loop%zu", loops->n);
    if (loop_is_fake(loops->main->loop)) {
        runner_init_fake(&loop->runner);
        err = ERR_OK;
    } else {
        err = runner_init(&loop->runner, loop->name);
    }
    if (!err && loops->is_running) {
        err = runner_start(&loop->runner);
        if (err)
            runner_join(&loop->runner);
    }
    if (err) {
        mem_free(loop);
        return err;
    }
    loops->all = mem_grow(loops->all, (loops->n + 1) * sizeof(struct data_loop *));
    if (loops->n)
        atomic_store_explicit(&loops->all[loops->n - 1]->next, loop, memory_order_release);
    loops->all[loops->n++] = loop;
    return ERR_OK;
}

static void watchdog_came_back(void *arg)
{
    struct loops *loops = arg;

    loops->watchdog_is_out = false;
    loops->watchdog_fed(loops->watchdog_arg);
}

enum err loops_init(struct loops *loops, struct runner *main, size_t n_shared, const struct ctx_host *host)
{
    enum err err = ERR_OK;

    *loops = (struct loops){.main = main, .n_shared = n_shared, .host = *host};
    loops->watchdog_back = (struct call){.fn = watchdog_came_back, .arg = loops};
    while (!err && loops->n < n_shared)
        err = add(loops, false);
    return err;
}

enum err loops_start(struct loops *loops)
{
    enum err err = ERR_OK;

    for (size_t i = 0; i < loops->n && !err; i++)
        err = runner_start(&loops->all[i]->runner);
    loops->is_running = err == ERR_OK;
    return err;
}

/* --- what connectors see ------------------------------------------------------------------------------------------------ */

void loops_set_store(struct loops *loops, struct store *store)
{
    loops->host.store = store;
    for (size_t i = 0; i < loops->n; i++)
        loops->all[i]->host.store = store;
}

struct new_limits {
    struct call call;
    struct data_loop *loop;
    struct event_limits limits;
};

static void set_limits(void *arg)
{
    struct new_limits *new = arg;

    new->loop->host.limits = new->limits;
    mem_free(new);
}

void loops_set_limits(struct loops *loops, const struct event_limits *limits)
{
    loops->host.limits = *limits;
    for (size_t i = 0; i < loops->n; i++) {
        struct new_limits *new = mem_new(sizeof *new);

        *new = (struct new_limits){.call = {.fn = set_limits, .arg = new}, .loop = loops->all[i], .limits = *limits};
        runner_call(&loops->all[i]->runner, &new->call);
    }
}

struct update {
    loops_change_fn *change;
    void (*done)(void *arg);
    void *arg;
    struct loops *loops;
    size_t n_open;
    struct update_there {
        struct call there, back;
        struct update *update;
        struct data_loop *loop;
    } at[];
};

static void update_there(void *arg)
{
    struct update_there *at = arg;

    at->update->change(at->update->arg, &at->loop->host);
    runner_call(at->update->loops->main, &at->back);
}

static void update_back(void *arg)
{
    struct update *update = ((struct update_there *)arg)->update;

    if (--update->n_open > 0)
        return;
    update->done(update->arg);
    mem_free(update);
}

void loops_update(struct loops *loops, loops_change_fn *change, void (*done)(void *arg), void *arg)
{
    struct update *update = mem_new(sizeof *update + loops->n * sizeof update->at[0]);

    *update = (struct update){.change = change, .done = done, .arg = arg, .loops = loops, .n_open = loops->n};
    change(arg, &loops->host);
    for (size_t i = 0; i < loops->n; i++) {
        struct update_there *at = &update->at[i];

        *at = (struct update_there){.there = {.fn = update_there, .arg = at},
                                    .back = {.fn = update_back, .arg = at},
                                    .update = update,
                                    .loop = loops->all[i]};
        runner_call(&loops->all[i]->runner, &at->there);
    }
}

/* --- places --------------------------------------------------------------------------------------------------------- */

static struct data_loop *least_loaded(struct loops *loops, bool own)
{
    struct data_loop *best = NULL;

    for (size_t i = 0; i < loops->n; i++) {
        struct data_loop *loop = loops->all[i];

        if (loop->is_own != own || (own && loop->n_actors))
            continue;
        if (!best || loop->n_left < best->n_left || (loop->n_left == best->n_left && loop->n_actors < best->n_actors))
            best = loop;
    }
    return best;
}

struct data_loop *loops_take(struct loops *loops, bool own, struct data_loop *before)
{
    struct data_loop *loop = before && before->is_own == own && !before->n_left ? before : NULL;

    if (!loop)
        loop = least_loaded(loops, own);
    if (!loop && add(loops, true) == ERR_OK)
        loop = loops->all[loops->n - 1];
    if (!loop)
        loop = least_loaded(loops, false);
    loop->n_actors++;
    return loop;
}

void loops_give_back(struct data_loop *loop)
{
    assert(loop->n_actors > 0);
    loop->n_actors--;
}

/* --- watchdog, end ------------------------------------------------------------------------------------------------------ */

void loops_feed_watchdog(struct loops *loops, void (*fed)(void *arg), void *arg)
{
    if (loops->watchdog_is_out)
        return;
    loops->watchdog_is_out = true;
    loops->watchdog_fed = fed;
    loops->watchdog_arg = arg;
    runner_call(&loops->all[0]->runner, &loops->all[0]->watchdog);
}

static void end_loop(void *arg)
{
    struct data_loop *loop = arg;
    struct loops *loops = loop->loops;

    if (loop == loops->all[0] && loops->end_first)
        loops->end_first(loops->end_arg);
    loop_stop(loop->runner.loop);
}

void loops_end(struct loops *loops, void (*end_first)(void *arg), void *arg)
{
    loops->end_first = end_first;
    loops->end_arg = arg;
    for (size_t i = 0; i < loops->n; i++) {
        struct data_loop *loop = loops->all[i];

        loop->end = (struct call){.fn = end_loop, .arg = loop};
        runner_call(&loop->runner, &loop->end);
    }
}

void loops_wait(struct loops *loops)
{
    for (size_t i = 0; i < loops->n; i++)
        runner_wait(&loops->all[i]->runner);
}

void loops_fini(struct loops *loops)
{
    for (size_t i = 0; i < loops->n; i++) {
        runner_join(&loops->all[i]->runner);
        mem_free(loops->all[i]);
    }
    mem_free(loops->all);
    *loops = (struct loops){0};
}
