/* SPDX-License-Identifier: Apache-2.0 */
#include "io/loop_impl.h"
#include "base/clock.h"
#include "base/mem.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sched.h>
#include <stdlib.h>
#include <stdio.h>

#include <cmocka.h>

/* --- a trace of what ran ------------------------------------------------------------------------------------------ */
static char trace[4096];

static void note(const char *what)
{
    size_t n = strlen(trace);

    snprintf(trace + n, sizeof trace - n, "%s%s", n ? " " : "", what);
}

static void note_arg(void *arg)
{
    note(arg);
}

static struct loop *new_loop(void)
{
    struct loop *loop = NULL;

    assert_int_equal(loop_new(&loop, "test"), ERR_OK);
    trace[0] = 0;
    return loop;
}

static struct loop *new_fake(void)
{
    trace[0] = 0;
    return loop_new_fake(1700000000000);
}

/* --- order within a turn ------------------------------------------------------------------------------------------ */
struct order {
    struct loop *loop;
    struct timer timer;
    struct mailbox store, source;
    struct node to_store, to_source;
    struct late emit, uplink, flush;
    uv_async_t kick;
};

static void order_on_timer(void *arg)
{
    struct order *o = arg;

    note("timer");
    late_arm(o->loop, &o->flush);
    late_arm(o->loop, &o->uplink);
    late_arm(o->loop, &o->emit);
    late_arm(o->loop, &o->emit);
}

static void order_on_emit(void *arg)
{
    struct order *o = arg;

    note("emit");
    mailbox_post(&o->store, &o->to_store);
}

static void order_on_store(void *arg, struct node *nodes)
{
    struct order *o = arg;

    assert_ptr_equal(nodes, &o->to_store);
    assert_null(nodes->next);
    note("store");
    mailbox_post(&o->source, &o->to_source);
}

static void order_on_source(void *arg, struct node *nodes)
{
    struct order *o = arg;

    assert_ptr_equal(nodes, &o->to_source);
    note("source");
}

static void order_on_uplink(void *arg)
{
    (void)arg;
    note("uplink");
}

static void order_on_flush(void *arg)
{
    struct order *o = arg;

    note("flush");
    loop_stop(o->loop);
}

static void order_init(struct order *o, struct loop *loop)
{
    *o = (struct order){.loop = loop};
    timer_init(&o->timer, loop, order_on_timer, o);
    mailbox_init(&o->store, loop, order_on_store, o);
    mailbox_init(&o->source, loop, order_on_source, o);
    late_init(&o->emit, LATE_EMIT, order_on_emit, o);
    late_init(&o->uplink, LATE_UPLINK, order_on_uplink, o);
    late_init(&o->flush, LATE_FLUSH, order_on_flush, o);
}

static void test_a_burst_is_stored_answered_packed_and_flushed_in_one_turn(void **state)
{
    struct order o;
    struct loop *loop = new_loop();
    struct loop_stats before;

    (void)state;
    order_init(&o, loop);
    timer_start(&o.timer, 0);
    before = loop_stats(loop);
    loop_run(loop);
    assert_string_equal(trace, "timer emit store source uplink flush");
    assert_true(loop_stats(loop).n_turns - before.n_turns <= 3);
    loop_free(loop);

    loop = new_fake();
    order_init(&o, loop);
    timer_start(&o.timer, 0);
    loop_advance(loop, 0);
    assert_string_equal(trace, "timer emit store source uplink flush");
    loop_free(loop);
}

static void order_on_kick(uv_async_t *kick)
{
    note("socket");
    order_on_timer(kick->data);
    uv_close((uv_handle_t *)kick, NULL);
}

static void test_mailboxes_and_late_hooks_follow_the_sockets(void **state)
{
    struct order o;
    struct loop *loop = new_loop();

    (void)state;
    order_init(&o, loop);
    assert_int_equal(uv_async_init(loop_uv(loop), &o.kick, order_on_kick), 0);
    o.kick.data = &o;
    uv_async_send(&o.kick);
    loop_run(loop);
    assert_string_equal(trace, "socket timer emit store source uplink flush");
    loop_free(loop);
}

static void test_a_cancelled_late_hook_does_not_run(void **state)
{
    struct order o;
    struct loop *loop = new_fake();

    (void)state;
    order_init(&o, loop);
    late_arm(loop, &o.uplink);
    late_arm(loop, &o.flush);
    late_cancel(&o.uplink);
    late_cancel(&o.uplink);
    loop_advance(loop, 0);
    assert_string_equal(trace, "flush");
    late_arm(loop, &o.uplink);
    loop_advance(loop, 0);
    assert_string_equal(trace, "flush uplink");
    loop_free(loop);
}

/* Two mailboxes that answer each other for ever must not keep sockets and timers from running. */
struct endless {
    struct loop *loop;
    struct mailbox box;
    struct node node;
    struct late late;
    struct timer timer;
    unsigned n_rounds;
};

static void endless_on_box(void *arg, struct node *nodes)
{
    struct endless *e = arg;

    e->n_rounds++;
    if (timer_is_running(&e->timer))
        mailbox_post(&e->box, nodes);
}

static void endless_on_late(void *arg)
{
    struct endless *e = arg;

    if (timer_is_running(&e->timer))
        late_arm(e->loop, &e->late);
}

static void endless_on_timer(void *arg)
{
    struct endless *e = arg;

    loop_stop(e->loop);
}

/* --- a mailbox that goes while its loop stays ------------------------------------------------------------------------- */

struct short_lived {
    struct mailbox box;
    struct node nodes[2];
    struct mailbox *other; /* taken away by this one's handler */
    struct node *rest;
    unsigned n_runs;
};

static void short_lived_on_nodes(void *arg, struct node *nodes UNUSED)
{
    struct short_lived *s = arg;

    s->n_runs++;
    if (s->other)
        s->rest = mailbox_fini(s->other);
}

static void test_a_mailbox_that_goes_gives_back_what_was_in_it_and_is_never_run(void **state)
{
    struct loop *loop = loop_new_fake(0);
    struct short_lived *gone = calloc(1, sizeof *gone), stays = {0};
    struct node *rest;

    (void)state;
    mailbox_init(&gone->box, loop, short_lived_on_nodes, gone);
    mailbox_init(&stays.box, loop, short_lived_on_nodes, &stays);
    mailbox_post(&gone->box, &gone->nodes[0]);
    mailbox_post(&stays.box, &stays.nodes[0]);
    mailbox_post(&gone->box, &gone->nodes[1]);
    rest = mailbox_fini(&gone->box);
    assert_ptr_equal(rest, &gone->nodes[0]);
    assert_ptr_equal(rest->next, &gone->nodes[1]);
    assert_null(rest->next->next);
    assert_int_equal(gone->n_runs, 0);
    free(gone);
    loop_advance(loop, 0);
    assert_int_equal(stays.n_runs, 1);
    mailbox_post(&stays.box, &stays.nodes[0]);
    loop_advance(loop, 0);
    assert_int_equal(stays.n_runs, 2);
    assert_null(mailbox_fini(&stays.box));
    assert_null(mailbox_fini(&(struct mailbox){0}));
    loop_free(loop);
}

static void test_a_mailbox_goes_in_the_round_in_which_it_would_have_run(void **state)
{
    struct loop *loop = loop_new_fake(0);
    struct short_lived *gone = calloc(1, sizeof *gone), first = {.other = &gone->box}, last = {0};

    (void)state;
    mailbox_init(&first.box, loop, short_lived_on_nodes, &first);
    mailbox_init(&gone->box, loop, short_lived_on_nodes, gone);
    mailbox_init(&last.box, loop, short_lived_on_nodes, &last);
    mailbox_post(&first.box, &first.nodes[0]);
    mailbox_post(&gone->box, &gone->nodes[0]);
    mailbox_post(&last.box, &last.nodes[0]);
    loop_advance(loop, 0);
    assert_ptr_equal(first.rest, &gone->nodes[0]);
    assert_int_equal(gone->n_runs, 0);
    assert_int_equal(last.n_runs, 1);
    free(gone);
    loop_free(loop);
}

static void test_a_mailbox_that_answers_itself_for_ever_starves_nobody(void **state)
{
    struct loop *loop = new_loop();
    struct endless e = {.loop = loop};
    struct loop_stats stats;

    (void)state;
    mailbox_init(&e.box, loop, endless_on_box, &e);
    late_init(&e.late, LATE_EMIT, endless_on_late, &e);
    timer_init(&e.timer, loop, endless_on_timer, &e);
    timer_start(&e.timer, 5);
    mailbox_post(&e.box, &e.node);
    late_arm(loop, &e.late);
    loop_run(loop);
    stats = loop_stats(loop);
    assert_true(e.n_rounds > 32);
    assert_true(e.n_rounds <= 2 * 16 * (stats.n_turns + 1));
    loop_free(loop);
}

/* --- mailboxes over threads ----------------------------------------------------------------------------------------- */
enum { N_PRODUCERS = 4, N_PER_PRODUCER = 20000 };

struct letter {
    struct node node;
    unsigned producer, number;
};

struct post_office {
    struct loop *loop;
    struct mailbox box;
    unsigned next[N_PRODUCERS];
    unsigned n_received, n_out_of_order;
};

static void office_on_letters(void *arg, struct node *nodes)
{
    struct post_office *office = arg;

    while (nodes) {
        struct letter *letter = CONTAINER_OF(nodes, struct letter, node);

        nodes = nodes->next;
        if (letter->number != office->next[letter->producer]++)
            office->n_out_of_order++;
        office->n_received++;
        mem_free(letter);
    }
    if (office->n_received == N_PRODUCERS * N_PER_PRODUCER)
        loop_stop(office->loop);
}

struct producer {
    pthread_t thread;
    struct post_office *office;
    unsigned index;
};

static void *produce(void *arg)
{
    struct producer *p = arg;
    bool holds = p->index % 2 != 0; /* keeps wake-ups back that others count on too: if one is lost, the test hangs */

    for (unsigned i = 0; i < N_PER_PRODUCER; i++) {
        struct letter *letter = mem_new(sizeof *letter);

        *letter = (struct letter){.producer = p->index, .number = i};
        if (holds && i % 64 == 0)
            loop_hold_wakes();
        mailbox_post(&p->office->box, &letter->node);
        if (i % 512 == 0)
            sched_yield();
        if (holds && (i % 64 == 63 || i == N_PER_PRODUCER - 1))
            loop_let_wakes();
    }
    return NULL;
}

static void test_letters_of_four_threads_arrive_each_once_and_in_order(void **state)
{
    struct loop *loop = new_loop();
    struct post_office office = {.loop = loop};
    struct producer producers[N_PRODUCERS];

    (void)state;
    mailbox_init(&office.box, loop, office_on_letters, &office);
    for (unsigned i = 0; i < N_PRODUCERS; i++) {
        producers[i] = (struct producer){.office = &office, .index = i};
        assert_int_equal(pthread_create(&producers[i].thread, NULL, produce, &producers[i]), 0);
    }
    loop_run(loop);
    for (unsigned i = 0; i < N_PRODUCERS; i++)
        pthread_join(producers[i].thread, NULL);
    assert_int_equal(office.n_received, N_PRODUCERS * N_PER_PRODUCER);
    assert_int_equal(office.n_out_of_order, 0);
    loop_free(loop);
}

/* A ball between two loops: every wake-up counts, one that is lost hangs the test. */
struct player {
    struct loop *loop;
    struct mailbox box;
    struct player *other;
    unsigned n_left;
};

static void player_on_ball(void *arg, struct node *nodes)
{
    struct player *player = arg;

    if (player->n_left-- == 0) {
        loop_stop(player->loop);
        loop_stop(player->other->loop);
        return;
    }
    mailbox_post(&player->other->box, nodes);
}

static void *play(void *arg)
{
    loop_run(((struct player *)arg)->loop);
    return NULL;
}

static void test_no_wake_up_is_lost_between_two_loops(void **state)
{
    struct player a = {.loop = new_loop(), .n_left = 5000}, b = {.loop = new_loop(), .n_left = 5000};
    struct node ball;
    pthread_t thread;

    (void)state;
    a.other = &b;
    b.other = &a;
    mailbox_init(&a.box, a.loop, player_on_ball, &a);
    mailbox_init(&b.box, b.loop, player_on_ball, &b);
    assert_int_equal(pthread_create(&thread, NULL, play, &b), 0);
    mailbox_post(&a.box, &ball);
    loop_run(a.loop);
    pthread_join(thread, NULL);
    assert_true(a.n_left == UINT32_MAX || b.n_left == UINT32_MAX);
    loop_free(a.loop);
    loop_free(b.loop);
}

static void test_a_loop_stopped_before_it_runs_returns_at_once(void **state)
{
    struct loop *loop = new_loop();

    (void)state;
    assert_true(loop_is_owner(loop));
    loop_stop(loop);
    loop_run(loop);
    assert_string_equal(loop_name(loop), "test");
    loop_free(loop);
    loop_free(NULL);
}

static void *ask_owner(void *arg)
{
    return loop_is_owner(arg) ? arg : NULL;
}

static void note_foreign_owner(void *arg)
{
    struct loop *loop = arg;
    pthread_t thread;
    void *answer = loop;

    assert_true(loop_is_owner(loop));
    assert_int_equal(pthread_create(&thread, NULL, ask_owner, loop), 0);
    pthread_join(thread, &answer);
    note(answer ? "owner" : "stranger");
    loop_stop(loop);
}

static void test_a_running_loop_belongs_to_its_thread_alone(void **state)
{
    struct loop *loop = new_loop();
    struct timer timer;

    (void)state;
    timer_init(&timer, loop, note_foreign_owner, loop);
    timer_start(&timer, 0);
    loop_run(loop);
    assert_string_equal(trace, "stranger");
    loop_free(loop);
}

/* --- timers --------------------------------------------------------------------------------------------------------- */
static void test_timers_run_in_order_and_equal_ones_as_they_were_started(void **state)
{
    struct loop *loop = new_fake();
    struct timer timers[5];
    static const uint64_t delays[] = {30, 10, 20, 10, 0};
    static char names[][2] = {"a", "b", "c", "d", "e"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(timers); i++) {
        timer_init(&timers[i], loop, note_arg, names[i]);
        timer_start(&timers[i], delays[i]);
    }
    loop_advance(loop, 9);
    assert_string_equal(trace, "e");
    assert_true(timer_is_running(&timers[1]));
    loop_advance(loop, 1);
    assert_string_equal(trace, "e b d");
    timer_stop(&timers[2]);
    timer_stop(&timers[2]);
    loop_advance(loop, 1000);
    assert_string_equal(trace, "e b d a");
    assert_false(timer_is_running(&timers[0]));
    loop_free(loop);
}

struct beat {
    struct loop *loop;
    struct timer timer;
    uint64_t first_ms;
    unsigned n, n_late;
};

static void on_beat(void *arg)
{
    struct beat *beat = arg;

    if (loop_mono_ms(beat->loop) != beat->first_ms + beat->n * 250)
        beat->n_late++;
    beat->n++;
}

static void test_a_periodic_timer_does_not_drift_and_skips_what_it_missed(void **state)
{
    struct loop *loop = new_fake();
    struct beat beat = {.loop = loop, .first_ms = loop_mono_ms(loop) + 100};

    (void)state;
    timer_init(&beat.timer, loop, on_beat, &beat);
    timer_start_periodic(&beat.timer, 100, 250);
    for (unsigned i = 0; i < 1000; i++)
        loop_advance(loop, 37);
    assert_int_equal(beat.n, (37000 - 100) / 250 + 1);
    assert_int_equal(beat.n_late, 0);
    timer_stop(&beat.timer);
    loop_advance(loop, 10000);
    assert_int_equal(beat.n, (37000 - 100) / 250 + 1);
    loop_free(loop);
}

static void test_coarse_timers_fall_on_whole_seconds(void **state)
{
    struct loop *loop = new_fake();
    struct timer timer;
    uint64_t start_ms;

    (void)state;
    loop_advance(loop, 123);
    start_ms = loop_mono_ms(loop);
    timer_init(&timer, loop, note_arg, "x");
    timer_start_coarse(&timer, 1500);
    assert_int_equal(timer.due_ms % 1000, 0);
    assert_true(timer.due_ms >= start_ms + 1500 && timer.due_ms < start_ms + 2500);
    timer_start_coarse(&timer, UINT64_MAX);
    assert_true(timer.due_ms > start_ms);
    timer_start_at(&timer, start_ms + 5);
    loop_advance(loop, 4);
    assert_string_equal(trace, "");
    loop_advance(loop, 1);
    assert_string_equal(trace, "x");
    loop_free(loop);
}

/* Random starts, restarts and stops against a plain array. */
enum { N_RANDOM = 300 };

struct random_timer {
    struct timer timer;
    uint64_t want_ms; /* 0: not running */
    unsigned *n_wrong;
};

static void on_random_timer(void *arg)
{
    struct random_timer *r = arg;

    if (r->want_ms != loop_mono_ms(r->timer.loop))
        ++*r->n_wrong;
    r->want_ms = 0;
}

static void test_the_heap_agrees_with_a_plain_list(void **state)
{
    struct loop *loop = new_fake();
    static struct random_timer timers[N_RANDOM];
    unsigned seed = 1, n_wrong = 0;

    (void)state;
    for (size_t i = 0; i < N_RANDOM; i++) {
        timers[i] = (struct random_timer){.n_wrong = &n_wrong};
        timer_init(&timers[i].timer, loop, on_random_timer, &timers[i]);
    }
    for (unsigned step = 0; step < 20000; step++) {
        struct random_timer *r = &timers[(unsigned)rand_r(&seed) % N_RANDOM];

        if (rand_r(&seed) % 4 == 0) {
            timer_stop(&r->timer);
            r->want_ms = 0;
        } else {
            uint64_t delay_ms = (unsigned)rand_r(&seed) % 500;

            timer_start(&r->timer, delay_ms);
            r->want_ms = loop_mono_ms(loop) + delay_ms;
        }
        if (step % 8 == 0)
            loop_advance(loop, (unsigned)rand_r(&seed) % 20);
    }
    loop_advance(loop, 1000);
    for (size_t i = 0; i < N_RANDOM; i++)
        n_wrong += timers[i].want_ms != 0;
    assert_int_equal(n_wrong, 0);
    loop_free(loop);
}

static void stop_loop(void *arg)
{
    loop_stop(arg);
}

static void test_a_real_timer_never_runs_early(void **state)
{
    struct loop *loop = new_loop();
    struct timer timer;
    uint64_t start_ms, due_ms;

    (void)state;
    timer_init(&timer, loop, stop_loop, loop);
    start_ms = clock_mono_ms();
    timer_start(&timer, 20);
    due_ms = timer.due_ms;
    assert_true(due_ms >= start_ms + 20 - 1); /* libuv's reading may be a tick old */
    loop_run(loop);
    assert_true(clock_mono_ms() + 1 >= due_ms);
    assert_true(loop_stats(loop).n_wakeups >= 1);
    loop_free(loop);
}

/* --- the wall clock ------------------------------------------------------------------------------------------------- */
static void test_the_wall_clock_steps_back_by_a_second_or_not_at_all(void **state)
{
    struct loop *loop = new_fake();
    int64_t start_ms = loop_wall_ms(loop);

    (void)state;
    loop_advance(loop, 500);
    assert_int_equal(loop_wall_ms(loop), start_ms + 500);
    loop_set_wall(loop, start_ms);
    assert_int_equal(loop_wall_ms(loop), start_ms + 500);
    loop_set_wall(loop, start_ms - 499);
    assert_int_equal(loop_wall_ms(loop), start_ms + 500);
    loop_set_wall(loop, start_ms - 500);
    assert_int_equal(loop_wall_ms(loop), start_ms - 500);
    loop_set_wall(loop, start_ms + 1000000);
    assert_int_equal(loop_wall_ms(loop), start_ms + 1000000);
    loop_free(loop);
}

static void test_a_stamp_is_since_boot_until_the_clock_is_set_and_never_before_the_program(void **state)
{
    struct loop *loop = new_fake();
    int64_t start_ms = loop_wall_ms(loop), ms = 7;

    (void)state;
    assert_true(loop_stamp(loop, &ms));
    assert_int_equal(ms, start_ms);
    loop_set_earliest(loop, start_ms + 1000000);
    assert_false(loop_stamp(loop, &ms));
    assert_int_equal(ms, loop_mono_ms(loop));
    ms = 7;
    assert_false(loop_offset_ms(loop, &ms));
    assert_int_equal(ms, 7);
    loop_set_wall(loop, start_ms + 2000000);
    loop_advance(loop, 500);
    assert_true(loop_stamp(loop, &ms));
    assert_int_equal(ms, start_ms + 2000500);
    loop_set_wall(loop, 0); /* a step back behind the program: what was believed goes on */
    loop_advance(loop, 500);
    assert_int_equal(loop_wall_ms(loop), 500);
    assert_true(loop_stamp(loop, &ms));
    assert_int_equal(ms, start_ms + 2001000);
    loop_set_wall(loop, start_ms + 1000000); /* one that could be right is followed */
    assert_true(loop_stamp(loop, &ms));
    assert_int_equal(ms, start_ms + 1000000);
    loop_free(loop);
}

static void test_a_real_loop_shows_the_system_clock(void **state)
{
    struct loop *loop = new_loop();
    int64_t before_ms = clock_wall_ms(), shown_ms = loop_wall_ms(loop);

    (void)state;
    assert_true(shown_ms >= before_ms && shown_ms <= clock_wall_ms());
    loop_free(loop);
}

/* --- closing, work, memory -------------------------------------------------------------------------------------------- */
static void on_handle_closed(uv_handle_t *handle)
{
    note("handle");
    closer_release(handle->data);
}

static void test_the_closer_reports_once_after_the_last_handle_and_in_a_later_turn(void **state)
{
    struct loop *loop = new_loop();
    struct closer closer;
    uv_tcp_t a, b;

    (void)state;
    assert_int_equal(uv_tcp_init(loop_uv(loop), &a), 0);
    assert_int_equal(uv_tcp_init(loop_uv(loop), &b), 0);
    a.data = b.data = &closer;
    closer_begin(&closer, loop, note_arg, "closed");
    closer_hold(&closer);
    uv_close((uv_handle_t *)&a, on_handle_closed);
    closer_hold(&closer);
    uv_close((uv_handle_t *)&b, on_handle_closed);
    closer_end(&closer);
    loop_stop(loop); /* loop_run waits for the handles and the closer */
    loop_run(loop);
    assert_string_equal(trace, "handle handle closed");
    loop_free(loop);
}

struct idle_handle {
    uv_tcp_t tcp;
    struct timer timer;
};

static void close_idle_handle(void *arg)
{
    struct idle_handle *idle = arg;

    uv_close((uv_handle_t *)&idle->tcp, NULL);
    note("closed");
}

static void test_a_stopped_loop_waits_for_handles_that_are_open_and_idle(void **state)
{
    struct loop *loop = new_loop();
    struct idle_handle idle;

    (void)state;
    assert_int_equal(uv_tcp_init(loop_uv(loop), &idle.tcp), 0);
    timer_init(&idle.timer, loop, close_idle_handle, &idle);
    timer_start(&idle.timer, 20);
    loop_stop(loop);
    loop_run(loop);
    assert_string_equal(trace, "closed");
    assert_true(loop_stats(loop).n_turns < 10); /* and does not spin meanwhile */
    loop_free(loop);
}

static void test_a_closer_of_nothing_reports_later(void **state)
{
    struct loop *loop = new_fake();
    struct closer closer;

    (void)state;
    closer_begin(&closer, loop, note_arg, "closed");
    closer_end(&closer);
    assert_string_equal(trace, "");
    loop_advance(loop, 0);
    assert_string_equal(trace, "closed");
    loop_free(loop);
}

static void test_work_runs_elsewhere_and_reports_on_the_loop(void **state)
{
    struct loop *loop = new_loop();
    struct work work;

    (void)state;
    work_start(&work, loop, note_arg, note_arg, "work");
    loop_stop(loop); /* loop_run waits for the work */
    loop_run(loop);
    assert_string_equal(trace, "work work");
    loop_free(loop);
    loop = new_fake();
    work_start(&work, loop, note_arg, note_arg, "work");
    assert_string_equal(trace, "");
    loop_advance(loop, 0);
    assert_string_equal(trace, "work work");
    loop_free(loop);
}

static void test_the_read_buffer_is_whole_and_is_given_back(void **state)
{
    struct loop *loop = new_loop();
    uint8_t *p = loop_read_buffer(loop);

    (void)state;
    memset(p, 1, LOOP_READ_SIZE + 16);
    assert_ptr_equal(loop_read_buffer(loop), p);
    assert_true(timer_is_running(&loop->read_trim));
    loop->read_trim.fn(loop->read_trim.arg);
    assert_int_equal(p[0] | p[LOOP_READ_SIZE - 1], 0); /* the kernel has taken the pages */
    loop_stop(loop);                                   /* the timer that trims it keeps nobody waiting */
    loop_run(loop);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_burst_is_stored_answered_packed_and_flushed_in_one_turn),
        cmocka_unit_test(test_mailboxes_and_late_hooks_follow_the_sockets),
        cmocka_unit_test(test_a_cancelled_late_hook_does_not_run),
        cmocka_unit_test(test_a_mailbox_that_goes_gives_back_what_was_in_it_and_is_never_run),
        cmocka_unit_test(test_a_mailbox_goes_in_the_round_in_which_it_would_have_run),
        cmocka_unit_test(test_a_mailbox_that_answers_itself_for_ever_starves_nobody),
        cmocka_unit_test(test_letters_of_four_threads_arrive_each_once_and_in_order),
        cmocka_unit_test(test_no_wake_up_is_lost_between_two_loops),
        cmocka_unit_test(test_a_loop_stopped_before_it_runs_returns_at_once),
        cmocka_unit_test(test_a_running_loop_belongs_to_its_thread_alone),
        cmocka_unit_test(test_timers_run_in_order_and_equal_ones_as_they_were_started),
        cmocka_unit_test(test_a_periodic_timer_does_not_drift_and_skips_what_it_missed),
        cmocka_unit_test(test_coarse_timers_fall_on_whole_seconds),
        cmocka_unit_test(test_the_heap_agrees_with_a_plain_list),
        cmocka_unit_test(test_a_real_timer_never_runs_early),
        cmocka_unit_test(test_the_wall_clock_steps_back_by_a_second_or_not_at_all),
        cmocka_unit_test(test_a_stamp_is_since_boot_until_the_clock_is_set_and_never_before_the_program),
        cmocka_unit_test(test_a_real_loop_shows_the_system_clock),
        cmocka_unit_test(test_the_closer_reports_once_after_the_last_handle_and_in_a_later_turn),
        cmocka_unit_test(test_a_stopped_loop_waits_for_handles_that_are_open_and_idle),
        cmocka_unit_test(test_a_closer_of_nothing_reports_later),
        cmocka_unit_test(test_work_runs_elsewhere_and_reports_on_the_loop),
        cmocka_unit_test(test_the_read_buffer_is_whole_and_is_given_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
