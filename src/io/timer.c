/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "io/loop_impl.h"

/* Equal times run in the order in which they were started. */
static bool is_before(const struct timer *a, const struct timer *b)
{
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->order < b->order;
}

static void put(struct timer_heap *heap, size_t i, struct timer *timer)
{
    heap->at[i] = timer;
    timer->index = i;
}

static void sift_up(struct timer_heap *heap, size_t i, struct timer *timer)
{
    for (; i > 1 && is_before(timer, heap->at[i / 2]); i /= 2)
        put(heap, i, heap->at[i / 2]);
    put(heap, i, timer);
}

static void sift_down(struct timer_heap *heap, size_t i, struct timer *timer)
{
    for (size_t child; (child = 2 * i) <= heap->n; i = child) {
        if (child < heap->n && is_before(heap->at[child + 1], heap->at[child]))
            child++;
        if (!is_before(heap->at[child], timer))
            break;
        put(heap, i, heap->at[child]);
    }
    put(heap, i, timer);
}

static void heap_add(struct timer_heap *heap, struct timer *timer)
{
    if (heap->n + 1 >= heap->cap) {
        heap->cap = heap->cap ? heap->cap * 2 : 16;
        heap->at = mem_grow(heap->at, heap->cap * sizeof *heap->at);
    }
    timer->order = heap->next_order++;
    heap->n++;
    sift_up(heap, heap->n, timer);
}

static void heap_remove(struct timer_heap *heap, struct timer *timer)
{
    struct timer *last = heap->at[heap->n--];
    size_t i = timer->index;

    timer->index = 0;
    if (last == timer)
        return;
    if (i > 1 && is_before(last, heap->at[i / 2]))
        sift_up(heap, i, last);
    else
        sift_down(heap, i, last);
}

static uint64_t add_ms(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static void start(struct timer *timer, uint64_t due_ms, uint64_t period_ms)
{
    struct timer_heap *heap = &timer->loop->heap;

    loop_assert(timer->loop);
    if (timer->index)
        heap_remove(heap, timer);
    timer->due_ms = due_ms;
    timer->period_ms = period_ms;
    heap_add(heap, timer);
}

/* The next beat that lies in the future: what was missed (a suspended machine) is not made up for. */
static void restart_period(struct timer_heap *heap, struct timer *timer, uint64_t now_ms)
{
    uint64_t n_beats = (now_ms - timer->due_ms) / timer->period_ms + 1;

    timer->due_ms = add_ms(timer->due_ms, n_beats * timer->period_ms);
    heap_add(heap, timer);
}

void timers_run(struct loop *loop)
{
    struct timer_heap *heap = &loop->heap;
    uint64_t now_ms = loop_mono_ms(loop), first_new = heap->next_order;

    /* A timer started by one of these callbacks waits for the next turn, also with no delay. */
    while (heap->n && heap->at[1]->due_ms <= now_ms && heap->at[1]->order < first_new) {
        struct timer *timer = heap->at[1];

        heap_remove(heap, timer);
        if (timer->period_ms)
            restart_period(heap, timer, now_ms);
        timer->fn(timer->arg); /* may free the timer */
    }
}

uint64_t timers_next_ms(const struct loop *loop)
{
    return loop->heap.n ? loop->heap.at[1]->due_ms : UINT64_MAX;
}

void timer_init(struct timer *timer, struct loop *loop, void (*fn)(void *arg), void *arg)
{
    *timer = (struct timer){.loop = loop, .fn = fn, .arg = arg};
}

void timer_start(struct timer *timer, uint64_t delay_ms)
{
    start(timer, add_ms(loop_mono_ms(timer->loop), delay_ms), 0);
}

void timer_start_at(struct timer *timer, uint64_t due_ms)
{
    start(timer, due_ms, 0);
}

void timer_start_periodic(struct timer *timer, uint64_t delay_ms, uint64_t period_ms)
{
    assert(period_ms > 0);
    start(timer, add_ms(loop_mono_ms(timer->loop), delay_ms), period_ms);
}

void timer_start_coarse(struct timer *timer, uint64_t delay_ms)
{
    uint64_t due_ms = add_ms(add_ms(loop_mono_ms(timer->loop), delay_ms), 999);

    start(timer, due_ms - due_ms % 1000, 0);
}

void timer_stop(struct timer *timer)
{
    if (!timer->index)
        return;
    loop_assert(timer->loop);
    heap_remove(&timer->loop->heap, timer);
}
