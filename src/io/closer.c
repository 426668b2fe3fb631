/* SPDX-License-Identifier: Apache-2.0 */
#include "io/loop_impl.h"

static void report(void *arg)
{
    struct closer *closer = arg;

    closer->loop->n_closers--;
    closer->done(closer->arg); /* may free the closer */
}

void closer_begin(struct closer *closer, struct loop *loop, closed_fn *done, void *arg)
{
    loop_assert(loop);
    *closer = (struct closer){.loop = loop, .done = done, .arg = arg, .n_open = 1};
    timer_init(&closer->timer, loop, report, closer);
    loop->n_closers++;
}

void closer_hold(struct closer *closer)
{
    assert(closer->n_open > 0);
    closer->n_open++;
}

void closer_release(struct closer *closer)
{
    loop_assert(closer->loop);
    assert(closer->n_open > 0);
    if (--closer->n_open == 0)
        timer_start(&closer->timer, 0);
}

void closer_end(struct closer *closer)
{
    closer_release(closer);
}

static void run_on_pool(uv_work_t *req)
{
    struct work *work = CONTAINER_OF(req, struct work, req);

    work->run(work->arg);
}

static void back_on_loop(uv_work_t *req, int status UNUSED)
{
    struct work *work = CONTAINER_OF(req, struct work, req);

    work->loop->n_works--;
    work->done(work->arg); /* may free the work */
}

void work_start(struct work *work, struct loop *loop, void (*run)(void *), void (*done)(void *), void *arg)
{
    loop_assert(loop);
    *work = (struct work){.loop = loop, .run = run, .done = done, .arg = arg};
    loop->n_works++;
    if (loop->is_fake) {
        queue_push(&loop->fake_works, &work->node);
    } else {
        int failed = uv_queue_work(&loop->uv, &work->req, run_on_pool, back_on_loop);

        assert(!failed); /* only a missing callback can make it so */
    }
}

bool works_run(struct loop *loop)
{
    struct node *node = queue_take(&loop->fake_works);
    bool any = node != NULL;

    while (node) {
        struct work *work = CONTAINER_OF(node, struct work, node);

        node = node->next;
        work->run(work->arg);
        back_on_loop(&work->req, 0);
    }
    return any;
}
