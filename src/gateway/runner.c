/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/runner.h"

#include "gateway/crash.h"

enum { STACK_SIZE = 256 * 1024 };

static void run_calls(void *arg, struct node *nodes)
{
    (void)arg;
    while (nodes) {
        struct call *call = CONTAINER_OF(nodes, struct call, node);

        nodes = nodes->next; /* the call may be used again by its own function */
        atomic_store_explicit(&call->is_posted, false, memory_order_relaxed);
        call->fn(call->arg);
    }
}

static void thread_main(void *arg)
{
    struct runner *runner = arg;

    crash_thread_begin();
    loop_run(runner->loop);
}

enum err runner_init(struct runner *runner, const char *name)
{
    enum err err;

    *runner = (struct runner){0};
    err = loop_new(&runner->loop, name);
    if (err)
        return err;
    mailbox_init(&runner->calls, runner->loop, run_calls, runner);
    return ERR_OK;
}

void runner_init_fake(struct runner *runner)
{
    *runner = (struct runner){.loop = loop_new_fake(0)};
    mailbox_init(&runner->calls, runner->loop, run_calls, runner);
}

enum err runner_start(struct runner *runner)
{
    const uv_thread_options_t options = {.flags = UV_THREAD_HAS_STACK_SIZE, .stack_size = STACK_SIZE};
    int code = uv_thread_create_ex(&runner->thread, &options, thread_main, runner);

    if (code == 0)
        runner->has_thread = true;
    return err_from_uv(code);
}

void runner_call(struct runner *runner, struct call *call)
{
    bool was_posted = atomic_exchange_explicit(&call->is_posted, true, memory_order_relaxed);

    assert(!was_posted);
    mailbox_post(&runner->calls, &call->node);
}

void runner_wait(struct runner *runner)
{
    if (runner->has_thread)
        uv_thread_join(&runner->thread);
    runner->has_thread = false;
}

void runner_join(struct runner *runner)
{
    runner_wait(runner);
    loop_free(runner->loop);
    runner->loop = NULL;
}
