/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/loop_impl.h"

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>

enum {
    LONG_TURN_US = 20000,
    STEP_MS = 1000,            /* a shorter step back of the wall clock is not shown */
    HELD_WAKES = 8,            /* a process has few loops; a further one is woken at once */
    READ_SLACK = 64,           /* writable bytes behind the read buffer; stream.h promises 16 */
    READ_TRIM_MS = 10000,      /* the read buffer's pages go back this long after a use */
    FAKE_MAX_PASSES = 1000000, /* passes of loop_advance without progress of time: something restarts itself for ever */
};

static struct log loop_log = {.name = "loop", .level = LOG_LEVEL_INFO};
static _Thread_local char thread_mark; /* its address tells threads apart, cheaper than pthread_self in a module */

/* --- the clocks --------------------------------------------------------------------------------------------------- */
static bool is_running_here(const struct loop *loop)
{
    return atomic_load_explicit(&loop->runner, memory_order_relaxed) == (const void *)&thread_mark;
}

/* Wall less monotonic clock when the wall clock was last believable; of all real loops, written once in a while. */
#define NO_OFFSET INT64_MIN
static _Atomic(int64_t) known_offset_ms = NO_OFFSET;

static void note_offset(struct loop *loop, int64_t now_ms)
{
    enum { NEAR_MS = 100 };
    int64_t known_ms = atomic_load_explicit(&known_offset_ms, memory_order_relaxed), offset_ms;

    if (loop->is_fake) {
        loop->fake_offset_ms = now_ms - (int64_t)loop->fake_mono_ms;
        return;
    }
    offset_ms = now_ms - (int64_t)loop_mono_ms(loop);
    if (UNLIKELY(known_ms == NO_OFFSET || offset_ms - known_ms > NEAR_MS || offset_ms - known_ms < -NEAR_MS))
        atomic_store_explicit(&known_offset_ms, clock_wall_ms() - (int64_t)clock_mono_ms(), memory_order_relaxed);
}

static void show_wall(struct loop *loop, int64_t now_ms)
{
    if (LIKELY(now_ms >= loop->earliest_ms))
        note_offset(loop, now_ms);
    if (now_ms < loop->wall_ms && loop->wall_ms - now_ms < STEP_MS)
        return;
    if (now_ms < loop->wall_ms)
        LOG_WARN(&loop_log, "the wall clock was set back", KV_MS("by", loop->wall_ms - now_ms),
                 KV_Z("loop", loop->name));
    loop->wall_ms = now_ms;
}

int64_t loop_wall_ms(const struct loop *loop)
{
    if (!loop->is_fake && !loop->is_wall_fresh) {
        struct loop *own = (struct loop *)loop; /* const for callers: asking changes only the cached reading */

        show_wall(own, clock_wall_ms());
        own->is_wall_fresh = is_running_here(loop);
    }
    return loop->wall_ms;
}

bool loop_offset_ms(const struct loop *loop, int64_t *ms)
{
    bool is_fake = loop->is_fake;
    int64_t wall_ms = is_fake ? loop->wall_ms : clock_wall_ms(); /* now: it is not asked for once a message */
    int64_t mono_ms = is_fake ? (int64_t)loop->fake_mono_ms : (int64_t)clock_mono_ms();

    int64_t known_ms = is_fake ? loop->fake_offset_ms : atomic_load_explicit(&known_offset_ms, memory_order_relaxed);

    if (wall_ms >= loop->earliest_ms)
        known_ms = wall_ms - mono_ms;
    if (known_ms == NO_OFFSET)
        return false;
    *ms = known_ms;
    return true;
}

int64_t loop_earliest_ms(const struct loop *loop)
{
    return loop->earliest_ms;
}

bool loop_stamp(const struct loop *loop, int64_t *ms)
{
    int64_t offset_ms;

    *ms = loop_wall_ms(loop);
    if (LIKELY(*ms >= loop->earliest_ms))
        return true;
    if (loop_offset_ms(loop, &offset_ms)) {
        *ms = (int64_t)loop_mono_ms(loop) + offset_ms;
        return true;
    }
    *ms = (int64_t)loop_mono_ms(loop);
    return false;
}

uint64_t loop_mono_ms(const struct loop *loop)
{
    if (loop->is_fake)
        return loop->fake_mono_ms;
    if (!is_running_here(loop))
        uv_update_time((uv_loop_t *)&loop->uv);
    return uv_now(&loop->uv); /* CLOCK_MONOTONIC, as of the return from the wait */
}

/* --- counting ----------------------------------------------------------------------------------------------------- */
static void count(_Atomic(uint64_t) *counter)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1, memory_order_relaxed);
}

static void count_busy(struct loop *loop)
{
    uint64_t idle_ns = uv_metrics_idle_time(&loop->uv), idle_us = idle_ns / 1000, now_us = clock_mono_us();
    uint64_t before_us = atomic_load_explicit(&loop->busy_us, memory_order_relaxed);
    uint64_t busy_us = loop->ran_us + (now_us > loop->start_us + idle_us ? now_us - loop->start_us - idle_us : 0);

    if (idle_ns != loop->idle_ns) /* the last wait was one, not only a look */
        count(&loop->n_wakeups);
    loop->idle_ns = idle_ns;
    if (busy_us <= before_us)
        return;
    if (busy_us - before_us > LONG_TURN_US)
        count(&loop->n_long_turns);
    atomic_store_explicit(&loop->busy_us, busy_us, memory_order_relaxed);
}

/* --- the turn, as libuv runs it: timers, [before_wait], wait and sockets, [after_wait], closed handles ------------------ */
static void count_foreign(uv_handle_t *handle, void *arg)
{
    struct loop *loop = CONTAINER_OF(handle->loop, struct loop, uv);
    size_t *n = arg;

    if (handle != (uv_handle_t *)&loop->wake && handle != (uv_handle_t *)&loop->before_wait &&
        handle != (uv_handle_t *)&loop->after_wait && handle != (uv_handle_t *)&loop->alarm)
        ++*n;
}

static bool is_all_closed(struct loop *loop)
{
    size_t n_foreign = 0;
    bool has_requests;

    if (loop->n_closers || loop->n_works)
        return false;
    uv_walk(&loop->uv, count_foreign, &n_foreign);
    if (n_foreign)
        return false;
    uv_unref((uv_handle_t *)&loop->wake); /* the only handle of ours that is counted */
    has_requests = uv_loop_alive(&loop->uv);
    uv_ref((uv_handle_t *)&loop->wake);
    return !has_requests;
}

static void on_alarm(uv_timer_t *alarm)
{
    struct loop *loop = CONTAINER_OF(alarm, struct loop, alarm);

    loop->alarm_ms = UINT64_MAX;
    timers_run(loop);
}

/* The heap changes often and the alarm seldom has to follow: it is set once, before the wait. */
static void set_alarm(struct loop *loop, bool is_urgent)
{
    uint64_t now_ms = uv_now(&loop->uv), due_ms = is_urgent ? now_ms : timers_next_ms(loop);

    if (due_ms == loop->alarm_ms)
        return;
    loop->alarm_ms = due_ms;
    if (due_ms == UINT64_MAX)
        uv_timer_stop(&loop->alarm);
    else
        uv_timer_start(&loop->alarm, on_alarm, due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

static void on_before_wait(uv_prepare_t *prepare)
{
    struct loop *loop = CONTAINER_OF(prepare, struct loop, before_wait);
    bool is_left = turn_run(loop);

    if (!is_left && atomic_load_explicit(&loop->is_stopping, memory_order_acquire) && is_all_closed(loop)) {
        loop->is_done = true;
        uv_stop(&loop->uv);
    }
    set_alarm(loop, is_left);
    count_busy(loop);
    loop->is_wall_fresh = false;
}

static void on_after_wait(uv_check_t *check)
{
    struct loop *loop = CONTAINER_OF(check, struct loop, after_wait);

    count(&loop->n_turns);
    turn_run(loop); /* what is left over is seen again before the next wait */
}

static void on_wake(uv_async_t *wake UNUSED)
{
    /* Mailboxes are looked at in every turn. */
}

/* Loops that this thread will wake at the end of what belongs together. */
static _Thread_local struct {
    bool is_held;
    unsigned n;
    struct loop *loops[HELD_WAKES];
} held;

/* False: at once. */
static bool hold_wake(struct loop *loop)
{
    for (unsigned i = 0; i < held.n; i++)
        if (held.loops[i] == loop)
            return true;
    if (held.n == HELD_WAKES)
        return false;
    held.loops[held.n++] = loop;
    return true;
}

void loop_wake(struct loop *loop)
{
    if (loop->is_fake || is_running_here(loop) || (held.is_held && hold_wake(loop)))
        return;
    uv_async_send(&loop->wake);
}

void loop_hold_wakes(void)
{
    assert(!held.is_held);
    held.is_held = true;
}

void loop_let_wakes(void)
{
    assert(held.is_held);
    held.is_held = false;
    while (held.n)
        uv_async_send(&held.loops[--held.n]->wake);
}

/* --- the fake loop ------------------------------------------------------------------------------------------------ */
struct loop *loop_new_fake(int64_t wall_ms)
{
    struct loop *loop = mem_zero(sizeof *loop);

    loop->is_fake = true;
    loop->wall_ms = wall_ms;
    loop->fake_mono_ms = 1000000;
    loop->earliest_ms = INT64_MIN;
    loop->fake_offset_ms = NO_OFFSET;
    snprintf(loop->name, sizeof loop->name, "fake");
    for (size_t i = 0; i < LATE_RANKS; i++)
        list_init(&loop->late[i]);
    return loop;
}

static void move_clocks(struct loop *loop, uint64_t to_ms)
{
    if (to_ms > loop->fake_mono_ms) {
        loop->wall_ms += (int64_t)(to_ms - loop->fake_mono_ms);
        loop->fake_mono_ms = to_ms;
    }
}

void loop_advance(struct loop *loop, uint64_t ms)
{
    uint64_t end_ms = loop->fake_mono_ms + ms;
    unsigned n_passes = 0;

    assert(loop->is_fake);
    for (;;) {
        uint64_t before_ms = loop->fake_mono_ms;
        bool is_left = turn_run(loop), has_worked = works_run(loop);

        if (!is_left && !has_worked) {
            if (timers_next_ms(loop) > end_ms)
                break;
            move_clocks(loop, timers_next_ms(loop));
            timers_run(loop);
        }
        count(&loop->n_turns);
        n_passes = loop->fake_mono_ms > before_ms ? 0 : n_passes + 1;
        assert(n_passes < FAKE_MAX_PASSES);
    }
    move_clocks(loop, end_ms);
}

void loop_set_wall(struct loop *loop, int64_t wall_ms)
{
    assert(loop->is_fake);
    show_wall(loop, wall_ms);
}

void loop_set_earliest(struct loop *loop, int64_t wall_ms)
{
    assert(loop->is_fake);
    loop->earliest_ms = wall_ms;
}

/* --- life --------------------------------------------------------------------------------------------------------- */
enum err loop_new(struct loop **out, const char *name)
{
    struct loop *loop = mem_zero(sizeof *loop);
    int failed = uv_loop_init(&loop->uv);

    if (failed) {
        mem_free(loop);
        return err_from_uv(failed);
    }
    failed = uv_async_init(&loop->uv, &loop->wake, on_wake);
    if (failed) {
        uv_loop_close(&loop->uv);
        mem_free(loop);
        return err_from_uv(failed);
    }
    signal(SIGPIPE, SIG_IGN); /* libuv writes with plain write(2); a closed connection is an error, not a signal */
    snprintf(loop->name, sizeof loop->name, "%s", name);
    for (size_t i = 0; i < LATE_RANKS; i++)
        list_init(&loop->late[i]);
    loop->alarm_ms = UINT64_MAX;
    loop->earliest_ms = clock_build_ms;
    uv_loop_configure(&loop->uv, UV_METRICS_IDLE_TIME);
    uv_prepare_init(&loop->uv, &loop->before_wait);
    uv_prepare_start(&loop->before_wait, on_before_wait);
    uv_unref((uv_handle_t *)&loop->before_wait);
    uv_check_init(&loop->uv, &loop->after_wait);
    uv_check_start(&loop->after_wait, on_after_wait);
    uv_unref((uv_handle_t *)&loop->after_wait);
    uv_timer_init(&loop->uv, &loop->alarm);
    uv_unref((uv_handle_t *)&loop->alarm);
    *out = loop;
    return ERR_OK;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    assert(!atomic_load(&loop->runner));
    if (!loop->is_fake) {
        int failed;

        uv_close((uv_handle_t *)&loop->wake, NULL);
        uv_close((uv_handle_t *)&loop->before_wait, NULL);
        uv_close((uv_handle_t *)&loop->after_wait, NULL);
        uv_close((uv_handle_t *)&loop->alarm, NULL);
        uv_run(&loop->uv, UV_RUN_DEFAULT);
        failed = uv_loop_close(&loop->uv);
        assert(!failed); /* a handle was left open */
    }
    if (loop->read_buffer)
        munmap(loop->read_buffer, LOOP_READ_SIZE + READ_SLACK);
    mem_free(loop->heap.at);
    mem_free(loop);
}

void loop_run(struct loop *loop)
{
    assert(!loop->is_fake && !atomic_load(&loop->runner));
    atomic_store(&loop->runner, (const void *)&thread_mark);
    loop->is_done = false;
    loop->start_us = clock_mono_us() - uv_metrics_idle_time(&loop->uv) / 1000;
    loop->ran_us = atomic_load_explicit(&loop->busy_us, memory_order_relaxed);
    while (!loop->is_done)
        uv_run(&loop->uv, UV_RUN_DEFAULT);
    loop->is_wall_fresh = false;
    atomic_store(&loop->is_stopping, false);
    atomic_store(&loop->runner, NULL);
}

void loop_stop(struct loop *loop)
{
    atomic_store_explicit(&loop->is_stopping, true, memory_order_release);
    loop_wake(loop);
}

uv_loop_t *loop_uv(struct loop *loop)
{
    assert(!loop->is_fake);
    return &loop->uv;
}

bool loop_is_fake(const struct loop *loop)
{
    return loop->is_fake;
}

const char *loop_name(const struct loop *loop)
{
    return loop->name;
}

bool loop_is_owner(const struct loop *loop)
{
    const void *runner = atomic_load_explicit(&loop->runner, memory_order_relaxed);

    return !runner || runner == (const void *)&thread_mark;
}

struct loop_stats loop_stats(const struct loop *loop)
{
    return (struct loop_stats){
        .n_turns = atomic_load_explicit(&loop->n_turns, memory_order_relaxed),
        .n_wakeups = atomic_load_explicit(&loop->n_wakeups, memory_order_relaxed),
        .n_long_turns = atomic_load_explicit(&loop->n_long_turns, memory_order_relaxed),
        .busy_us = atomic_load_explicit(&loop->busy_us, memory_order_relaxed),
    };
}

static void trim_read_buffer(void *arg)
{
    struct loop *loop = arg;

    madvise(loop->read_buffer, LOOP_READ_SIZE + READ_SLACK, MADV_DONTNEED); /* failure costs memory only */
}

uint8_t *loop_read_buffer(struct loop *loop)
{
    if (!loop->read_buffer) {
        void *p = mmap(NULL, LOOP_READ_SIZE + READ_SLACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
            mem_die(LOOP_READ_SIZE);
        loop->read_buffer = p;
        timer_init(&loop->read_trim, loop, trim_read_buffer, loop);
    }
    if (!loop->is_fake && !timer_is_running(&loop->read_trim))
        timer_start_coarse(&loop->read_trim, READ_TRIM_MS);
    return loop->read_buffer;
}
