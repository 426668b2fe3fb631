/* SPDX-License-Identifier: Apache-2.0 */
#include "connector/ctx.h"

#include <assert.h>
#include <pthread.h>
#include <semaphore.h>

/*
 * Jobs go down through a queue and a semaphore, and come back through a mailbox of the connector's loop. The thread ends at
 * the job without run; that one comes back last. The helper holds its ctx, and so the loop's mailbox outlives the thread
 * even if the library never returns from a call.
 */
struct job {
    struct node node;
    void (*run)(void *job);
    void (*done)(void *job, bool ran);
    void *arg;
    bool ran;
};

struct helper {
    struct ctx *ctx;
    struct queue jobs;
    struct mailbox back;
    sem_t wake;
    pthread_t thread;
    atomic_bool is_stopping;
    struct job end;
    connector_done_fn *stopped;
    void *stopped_arg;
    char name[16];
};

static void *thread_main(void *arg)
{
    struct helper *helper = arg;
    bool is_running = true;

    pthread_setname_np(pthread_self(), helper->name);
    while (is_running) {
        struct node *node;

        while (sem_wait(&helper->wake) != 0) /* interrupted by a signal */
            ;
        for (node = queue_take(&helper->jobs); node;) {
            struct job *job = CONTAINER_OF(node, struct job, node);

            node = node->next;
            if (job == &helper->end) {
                is_running = false;
            } else if (!atomic_load_explicit(&helper->is_stopping, memory_order_acquire)) {
                job->run(job->arg);
                job->ran = true;
            }
            mailbox_post(&helper->back, &job->node);
        }
    }
    return NULL;
}

static void come_back(void *arg, struct node *nodes)
{
    struct helper *helper = arg;

    while (nodes) {
        struct job *job = CONTAINER_OF(nodes, struct job, node);

        nodes = nodes->next;
        if (job == &helper->end) {
            struct ctx *ctx = helper->ctx;

            assert(!nodes);
            pthread_join(helper->thread, NULL); /* its last act was to send this: no wait */
            sem_destroy(&helper->wake);
            if (helper->stopped)
                helper->stopped(helper->stopped_arg);
            mem_free(helper);
            ctx_unref(ctx);
            return;
        }
        job->done(job->arg, job->ran);
        mem_free(job);
    }
}

struct helper *helper_start(struct ctx *ctx, const char *name)
{
    struct helper *helper = mem_zero(sizeof *helper);
    int failed;

    helper->ctx = ctx_ref(ctx);
    snprintf(helper->name, sizeof helper->name, "%s", name);
    mailbox_init(&helper->back, ctx_loop(ctx), come_back, helper);
    sem_init(&helper->wake, 0, 0);
    failed = pthread_create(&helper->thread, NULL, thread_main, helper);
    if (failed) {
        LOG_ERROR(ctx_log(ctx), "helper thread not started", KV_ERR(err_from_errno(failed)));
        sem_destroy(&helper->wake);
        mem_free(helper);
        ctx_unref(ctx);
        return NULL;
    }
    return helper;
}

void helper_post(struct helper *helper, void (*run)(void *job), void (*done)(void *job, bool ran), void *arg)
{
    struct job *job = mem_new(sizeof *job);

    *job = (struct job){.run = run, .done = done, .arg = arg};
    queue_push(&helper->jobs, &job->node);
    sem_post(&helper->wake);
}

void helper_stop(struct helper *helper, connector_done_fn *stopped, void *arg)
{
    assert(!atomic_load(&helper->is_stopping));
    helper->stopped = stopped;
    helper->stopped_arg = arg;
    atomic_store_explicit(&helper->is_stopping, true, memory_order_release);
    queue_push(&helper->jobs, &helper->end.node);
    sem_post(&helper->wake);
}
