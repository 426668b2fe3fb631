/* SPDX-License-Identifier: Apache-2.0 */
#include "io/stream_bench.h"

#include <sys/resource.h>

static void test_bytes_go_there_and_back(void **state)
{
    struct listener_conf listener = tls_listener();
    struct tls_conf tls = tls_with_ca();

    (void)state;
    exchange_hello(&clear_listener, NULL);
    exchange_hello(&listener, &tls);
}

/* --- framed messages under every kind of pressure ------------------------------------------------------------------------ */
enum { N_FRAMES = 60, MAX_FRAME = 300 * 1024 };

struct frames {
    unsigned seed_out, seed_in, seed_mood; /* both ends know what the other one sends */
    unsigned n_out, n_in, n_wrong;
    bool pauses, drips;
    struct timer resume;
    uint8_t *frame; /* unowned until sent */
    size_t n_frame, n_dripped;
    uint64_t end_of_frame;
    size_t n_need;
    unsigned n_until_end; /* events; of the client's only; 0: runs to its end */
    bool ends_client, ends_now;
};

static size_t frame_size(unsigned *seed, bool drips)
{
    unsigned dice = (unsigned)rand_r(seed) % 10;

    if (drips)
        return (unsigned)rand_r(seed) % 40;
    return dice == 0 ? 0 : (unsigned)rand_r(seed) % (dice < 7 ? 300 : dice < 9 ? 20000 : MAX_FRAME);
}

static void fill_frame(uint8_t *p, size_t n, unsigned *seed)
{
    unsigned word = (unsigned)rand_r(seed);

    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(word + i * 7 + (i >> 8));
}

static void frames_check_over(struct side *side)
{
    struct frames *a = side->bench->client.extra, *b = side->bench->server.extra;

    if (a->n_in == N_FRAMES && b->n_in == N_FRAMES && a->n_out == N_FRAMES && b->n_out == N_FRAMES)
        over(side->bench);
}

/* Sends frames while they go out at once; in drips: one byte a turn. */
static void frames_send(struct side *side)
{
    struct frames *f = side->extra;

    if (!side->stream)
        return;
    if (f->drips && f->n_dripped < f->n_frame) {
        stream_write(side->stream, f->frame + f->n_dripped++, 1, f->n_out & 1);
        return;
    }
    for (;;) {
        size_t n;

        if (f->frame) {
            if (stream_sent(side->stream) < f->end_of_frame)
                return;
            memset(f->frame, 0xdd, f->n_frame); /* ours again */
            mem_free(f->frame);
            f->frame = NULL;
            f->n_out++;
            frames_check_over(side);
        }
        if (f->n_out == N_FRAMES || side->bench->is_over)
            return;
        n = frame_size(&f->seed_out, f->drips);
        f->n_frame = n + 4;
        f->frame = mem_new(f->n_frame);
        f->frame[0] = (uint8_t)(n >> 24);
        f->frame[1] = (uint8_t)(n >> 16);
        f->frame[2] = (uint8_t)(n >> 8);
        f->frame[3] = (uint8_t)n;
        fill_frame(f->frame + 4, n, &f->seed_out);
        f->end_of_frame = stream_queued(side->stream) + f->n_frame;
        if (f->drips) {
            f->n_dripped = 1;
            stream_write(side->stream, f->frame, 1, true);
            return;
        }
        stream_write(side->stream, f->frame, 4, true);
        stream_write(side->stream, f->frame + 4, n, n % 3 == 0);
    }
}

static void frames_resume(void *arg)
{
    struct side *side = arg;

    if (side->stream)
        stream_resume(side->stream);
}

/* One event nearer to the end that the test has set: then one of the two sides closes, gently or not. */
static void frames_count_down(struct side *side)
{
    struct frames *f = side->bench->client.extra;

    if (f->n_until_end && --f->n_until_end == 0)
        stream_close(f->ends_client ? side->bench->client.stream : side->bench->server.stream, f->ends_now);
}

static size_t frames_read(struct side *side, uint8_t *p, size_t n)
{
    struct frames *f = side->extra;
    size_t n_used = 0;

    frames_count_down(side);

    if (n < f->n_need)
        f->n_wrong++;
    f->n_need = 0;
    while (n - n_used >= 4) {
        const uint8_t *q = p + n_used;
        size_t size = (size_t)q[0] << 24 | (size_t)q[1] << 16 | (size_t)q[2] << 8 | q[3];
        uint8_t *want;

        if (n - n_used < size + 4) {
            if (rand_r(&f->seed_mood) % 4) { /* sometimes not: then all is offered again with each piece */
                f->n_need = size + 4;
                stream_need(side->stream, f->n_need);
            }
            break;
        }
        want = mem_new(size + 1);
        if (frame_size(&f->seed_in, f->drips) != size)
            f->n_wrong++;
        fill_frame(want, size, &f->seed_in);
        if (size && memcmp(want, q + 4, size) != 0)
            f->n_wrong++;
        mem_free(want);
        n_used += size + 4;
        f->n_in++;
        if (f->pauses && rand_r(&f->seed_mood) % 3 == 0) {
            stream_pause(side->stream);
            timer_start(&f->resume, (unsigned)rand_r(&f->seed_mood) % 3);
            break;
        }
    }
    frames_check_over(side);
    return n_used;
}

static void exchange_frames(const struct tls_conf *tls, bool pauses, bool drips, unsigned seed)
{
    struct listener_conf listener = tls ? tls_listener() : clear_listener;
    struct frames a = {.seed_out = seed, .seed_in = seed + 1, .seed_mood = seed + 2, .pauses = pauses, .drips = drips};
    struct frames b = {.seed_out = seed + 1, .seed_in = seed, .seed_mood = seed + 3, .pauses = pauses, .drips = drips};
    struct bench bench;

    bench_init(&bench, &listener);
    timer_init(&a.resume, bench.loop, frames_resume, &bench.client);
    timer_init(&b.resume, bench.loop, frames_resume, &bench.server);
    bench.client.extra = &a;
    bench.server.extra = &b;
    bench.client.on_open = bench.server.on_open = frames_send;
    bench.client.on_sent = bench.server.on_sent = frames_send;
    bench.client.reader = bench.server.reader = frames_read;
    bench_connect(&bench, tls);
    bench_run(&bench);
    if (bench.client.err || bench.server.err)
        fail_msg("%s / %s", why_text(&bench.client.why), why_text(&bench.server.why));
    assert_int_equal(a.n_wrong + b.n_wrong, 0);
    assert_int_equal(a.n_in, N_FRAMES);
    assert_int_equal(b.n_in, N_FRAMES);
    assert_null(a.frame);
    assert_null(b.frame);
    bench_fini(&bench);
}

static void frames_open(struct side *side)
{
    frames_send(side);
    frames_count_down(side);
}

static void frames_sent(struct side *side)
{
    frames_send(side);
    frames_count_down(side);
}

static void frames_closed(struct side *side)
{
    struct frames *f = side->extra;

    timer_stop(&f->resume);
    mem_free(f->frame);
    f->frame = NULL;
    both_over(side);
}

static void end_frames(const struct tls_conf *tls, unsigned n_until_end)
{
    struct listener_conf listener = tls ? tls_listener() : clear_listener;
    struct frames a = {.seed_out = 1, .seed_in = 2, .seed_mood = n_until_end, .pauses = n_until_end & 1};
    struct frames b = {.seed_out = 2, .seed_in = 1, .seed_mood = n_until_end + 1, .pauses = n_until_end & 2};
    struct bench bench;

    a.n_until_end = n_until_end;
    a.ends_client = n_until_end % 3 != 0;
    a.ends_now = n_until_end % 5 < 3;
    bench_init(&bench, &listener);
    timer_init(&a.resume, bench.loop, frames_resume, &bench.client);
    timer_init(&b.resume, bench.loop, frames_resume, &bench.server);
    bench.client.extra = &a;
    bench.server.extra = &b;
    bench.client.on_open = bench.server.on_open = frames_open;
    bench.client.on_sent = bench.server.on_sent = frames_sent;
    bench.client.on_closed = bench.server.on_closed = frames_closed;
    bench.client.reader = bench.server.reader = frames_read;
    bench_connect(&bench, tls);
    bench_run(&bench);
    assert_int_equal(bench.client.n_closed, 1);
    assert_int_equal(a.n_wrong + b.n_wrong, 0);
    if (a.ends_client)
        assert_int_equal(bench.client.err, ERR_OK);
    else
        assert_true(bench.client.err == ERR_CLOSED || bench.client.err == ERR_TLS);
    bench_fini(&bench);
}

static void test_an_end_at_any_point_is_one_closed_event_on_each_side(void **state)
{
    struct tls_conf tls = tls_with_ca();

    (void)state;
    for (unsigned n = 1; n < 60; n++) {
        end_frames(NULL, n);
        end_frames(&tls, n);
    }
}

static void test_frames_of_all_sizes_cross_both_ways(void **state)
{
    struct tls_conf tls = tls_with_ca();

    (void)state;
    for (unsigned seed = 1; seed < 8; seed += 3) {
        exchange_frames(NULL, false, false, seed);
        exchange_frames(&tls, false, false, seed);
    }
}

static void test_frames_survive_pauses_at_any_point(void **state)
{
    struct tls_conf tls = tls_with_ca();

    (void)state;
    for (unsigned seed = 1; seed < 8; seed += 3) {
        exchange_frames(NULL, true, false, seed);
        exchange_frames(&tls, true, false, seed);
    }
}

static void test_frames_arrive_when_they_come_byte_by_byte(void **state)
{
    struct tls_conf tls = tls_with_ca();

    (void)state;
    exchange_frames(NULL, false, true, 5);
    exchange_frames(NULL, true, true, 6);
    exchange_frames(&tls, true, true, 7);
}

/* --- large writes, back-pressure ----------------------------------------------------------------------------------------- */
enum { N_LARGE = 16 * 1024 * 1024 };
static uint8_t *large;

static void send_large(struct side *side)
{
    for (size_t at = 0; at < N_LARGE; at += 100000)
        stream_write(side->stream, large + at, N_LARGE - at < 100000 ? N_LARGE - at : 100000, false);
    assert_int_equal(stream_queued(side->stream), N_LARGE);
    assert_true(stream_sent(side->stream) < N_LARGE); /* no socket buffer is that large */
}

static void close_gently(struct side *side)
{
    assert_int_equal(stream_sent(side->stream), N_LARGE);
    stream_close(side->stream, false);
}

static void push_large(const struct tls_conf *tls)
{
    struct listener_conf listener = tls ? tls_listener() : clear_listener;
    struct bench bench;

    bench_init(&bench, &listener);
    large = mem_new(N_LARGE);
    for (size_t i = 0; i < N_LARGE; i++)
        large[i] = (uint8_t)(i * 31 + (i >> 13));
    bench.client.on_open = send_large;
    bench.client.on_sent = close_gently;
    bench.client.on_closed = bench.server.on_closed = both_over;
    bench_connect(&bench, tls);
    bench_run(&bench);
    assert_int_equal(bench.client.err, ERR_OK);
    assert_int_equal(bench.client.n_sent, 1);
    assert_int_equal(bench.server.got.n, N_LARGE);
    assert_memory_equal(bench.server.got.p, large, N_LARGE);
    mem_free(large);
    bench_fini(&bench);
}

static void test_sixteen_megabytes_go_out_without_blocking_and_nothing_is_lost_at_close(void **state)
{
    struct tls_conf tls = tls_with_ca();

    (void)state;
    push_large(NULL);
    push_large(&tls);
}

/* The reader is paused: the writer's queue stands, the loop does not block, and closing gives up after its bound. */
static void pause_self(struct side *side)
{
    stream_pause(side->stream);
}

static void close_now(struct side *side)
{
    send_large(side);
    stream_close(side->stream, true);
}

static void test_a_reader_that_is_paused_does_not_hold_up_an_immediate_close(void **state)
{
    struct bench bench;

    (void)state;
    large = mem_new(N_LARGE);
    memset(large, 1, N_LARGE);
    bench_init(&bench, &clear_listener);
    bench.server.on_open = pause_self;
    bench.client.on_open = close_now;
    bench.client.on_closed = side_over;
    bench_connect(&bench, NULL);
    bench_run(&bench);
    assert_int_equal(bench.client.err, ERR_OK);
    assert_int_equal(bench.server.got.n, 0);
    bench_fini(&bench);
    mem_free(large);
}

static void send_large_and_close(struct side *side)
{
    send_large(side);
    stream_close(side->stream, false);
    stream_write(side->stream, "too late", 8, true);
}

static void test_a_gentle_close_gives_up_on_a_peer_that_takes_nothing(void **state)
{
    struct bench bench;

    (void)state;
    large = mem_new(N_LARGE);
    memset(large, 1, N_LARGE);
    bench_init(&bench, &clear_listener);
    bench.server.on_open = pause_self;
    bench.client.on_open = send_large_and_close;
    bench.client.on_closed = side_over;
    bench_connect(&bench, NULL);
    bench_run(&bench);
    assert_int_equal(bench.client.err, ERR_OK);
    assert_int_equal(bench.client.n_sent, 0);
    bench_fini(&bench);
    mem_free(large);
}

/* --- what .read leaves ----------------------------------------------------------------------------------------------------- */
static size_t read_two(struct side *side, uint8_t *p, size_t n)
{
    size_t n_used = n < 2 ? n : 2;

    buf_add(&side->got, p, n_used);
    stream_pause(side->stream);
    stream_resume(side->stream); /* what is left comes again, in a later call */
    if (side->got.n == 5)
        over(side->bench);
    return n_used;
}

static void test_what_is_left_is_offered_again_after_resume(void **state)
{
    struct bench bench;

    (void)state;
    bench_init(&bench, &clear_listener);
    bench.client.on_open = say_hello;
    bench.server.reader = read_two;
    bench_connect(&bench, NULL);
    bench_run(&bench);
    assert_true(str_eq(buf_str(&bench.server.got), STR("hello")));
    assert_int_equal(bench.server.n_read, 3);
    bench_fini(&bench);
}

static void need_too_much(struct side *side)
{
    stream_need(side->stream, (size_t)256 * 1024 * 1024 + 1);
}

static void test_a_packet_above_the_limit_ends_the_stream(void **state)
{
    struct bench bench;

    (void)state;
    bench_init(&bench, &clear_listener);
    bench.client.on_open = say_hello;
    bench.server.on_read = need_too_much;
    bench.client.on_closed = bench.server.on_closed = both_over;
    bench_connect(&bench, NULL);
    bench_run(&bench);
    assert_int_equal(bench.server.err, ERR_LIMIT);
    assert_int_equal(bench.client.err, ERR_CLOSED);
    bench_fini(&bench);
}

static size_t read_without_memory(struct side *side UNUSED, uint8_t *p UNUSED, size_t n UNUSED)
{
    mem_fail_after(1); /* keeping what is left */
    return 0;
}

static void test_no_memory_for_a_leftover_ends_the_stream_with_a_reason(void **state)
{
    struct bench bench;

    (void)state;
    bench_init(&bench, &clear_listener);
    bench.client.on_open = say_hello;
    bench.server.reader = read_without_memory;
    bench.client.on_closed = bench.server.on_closed = both_over;
    bench_connect(&bench, NULL);
    bench_run(&bench);
    mem_fail_after(0);
    assert_int_equal(bench.server.err, ERR_NOMEM);
    bench_fini(&bench);
}

/* --- many pieces ---- */
enum { N_PIECES = 20000, PIECE = 100, GAP = 7 };

static void send_pieces(struct side *side)
{
    for (size_t i = 0; i < N_PIECES; i++) /* never adjoining, so that they stay pieces */
        stream_write(side->stream, large + i * (PIECE + GAP), PIECE, i % 5 == 0);
}

static void resume_server(void *arg)
{
    struct bench *bench = arg;

    stream_resume(bench->server.stream);
}

static void over_after_pieces(struct side *side)
{
    if (side->got.n == N_PIECES * PIECE)
        over(side->bench);
}

static void test_thousands_of_pieces_wait_for_a_slow_reader_in_order(void **state)
{
    struct timer resume;
    struct bench bench;

    (void)state;
    large = mem_new(N_PIECES * (PIECE + GAP));
    for (size_t i = 0; i < N_PIECES * (PIECE + GAP); i++)
        large[i] = (uint8_t)(i * 13 + (i >> 9));
    bench_init(&bench, &clear_listener);
    timer_init(&resume, bench.loop, resume_server, &bench);
    timer_start(&resume, 30);
    bench.server.on_open = pause_self;
    bench.server.on_read = over_after_pieces;
    bench.client.on_open = send_pieces;
    bench_connect(&bench, NULL);
    bench_run(&bench);
    assert_int_equal(bench.server.got.n, N_PIECES * PIECE);
    for (size_t i = 0; i < N_PIECES; i++)
        assert_memory_equal(bench.server.got.p + i * PIECE, large + i * (PIECE + GAP), PIECE);
    bench_fini(&bench);
    mem_free(large);
}

static void test_what_is_written_before_open_goes_out_after_it(void **state)
{
    struct bench bench;

    (void)state;
    bench_init(&bench, &clear_listener);
    bench.server.on_read = answer_five;
    bench.client.on_read = side_over;
    bench_connect(&bench, NULL);
    assert_false(stream_is_paused(bench.client.stream));
    stream_write(bench.client.stream, "hello", 5, false);
    bench_run(&bench);
    assert_int_equal(bench.client.n_sent, 1);
    assert_true(str_eq(buf_str(&bench.client.got), STR("world")));
    bench_fini(&bench);
}

/* --- peers that hang up ------------------------------------------------------------------------------------------------------ */
static void hang_up(struct side *side)
{
    stream_close(side->stream, true);
}

static void keep_writing(struct side *side)
{
    if (side->stream)
        stream_write(side->stream, large, 200000, false);
}

/* Says why and hangs up while bytes for it are on their way: the kernel answers those with a reset. */
static void say_bye_and_hang_up(struct side *side)
{
    stream_pause(side->stream);
    stream_write(side->stream, "not authorised", 14, true);
}

static void test_the_last_words_of_a_peer_are_read_although_writing_fails(void **state)
{
    struct tls_conf tls = tls_with_ca();
    struct listener_conf listeners[2] = {clear_listener, tls_listener()};

    (void)state;
    large = mem_zero(200000);
    for (size_t i = 0; i < 2; i++) {
        struct bench bench;

        bench_init(&bench, &listeners[i]);
        bench.client.on_open = bench.client.on_sent = keep_writing;
        bench.server.on_open = say_bye_and_hang_up;
        bench.server.on_sent = hang_up;
        bench.client.on_closed = bench.server.on_closed = both_over;
        bench_connect(&bench, i ? &tls : NULL);
        bench_run(&bench);
        assert_int_equal(bench.client.err, ERR_CLOSED);
        assert_true(str_eq(buf_str(&bench.client.got), STR("not authorised")));
        bench_fini(&bench);
    }
    mem_free(large);
}

static void pause_and_write(struct side *side)
{
    stream_pause(side->stream);
    send_large(side);
}

static void test_a_paused_stream_learns_from_writing_that_the_peer_is_gone(void **state)
{
    struct bench bench;

    (void)state;
    large = mem_zero(N_LARGE);
    bench_init(&bench, &clear_listener);
    bench.client.on_open = pause_and_write;
    bench.server.on_read = hang_up;
    bench.client.on_closed = bench.server.on_closed = both_over;
    bench_connect(&bench, NULL);
    bench_run(&bench);
    assert_int_equal(bench.client.err, ERR_CLOSED);
    assert_int_equal(bench.client.got.n, 0);
    bench_fini(&bench);
    mem_free(large);
}

static void test_a_peer_that_hangs_up_while_we_write_is_one_closed_event(void **state)
{
    struct tls_conf tls = tls_with_ca();
    struct listener_conf listeners[2] = {clear_listener, tls_listener()};
    struct bench bench;

    (void)state;
    large = mem_zero(200000);
    for (size_t i = 0; i < 6; i++) {
        bench_init(&bench, &listeners[i % 2]);
        bench.client.on_open = bench.client.on_sent = keep_writing;
        if (i < 2)
            bench.server.on_open = hang_up;
        else if (i < 4)
            bench.server.on_read = hang_up;
        else
            bench.server.on_open = pause_self;
        if (i >= 4)
            bench.client.on_read = hang_up;
        bench.client.on_closed = bench.server.on_closed = both_over;
        bench_connect(&bench, i % 2 ? &tls : NULL);
        if (i >= 4) { /* our own close, in the middle */
            timer_stop(&bench.limit);
            timer_start(&bench.limit, 30);
            loop_run(bench.loop);
            assert_int_equal(bench.client.n_closed, 1);
        } else {
            bench_run(&bench);
            assert_true(bench.client.err == ERR_CLOSED);
        }
        assert_int_equal(bench.client.n_closed, 1);
        bench_fini(&bench);
    }
    mem_free(large);
}

static void refuse_by_closing(void *arg UNUSED, struct stream *stream)
{
    stream_close(stream, true); /* instead of accepting it */
}

static void refuse_silently(void *arg UNUSED, struct stream *stream UNUSED)
{
}

static void test_a_connection_that_is_not_accepted_is_closed(void **state)
{
    accepted_fn *const refusals[] = {refuse_by_closing, refuse_silently};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(refusals); i++) {
        struct why why = {0};
        struct bench bench;

        bench_init(&bench, NULL);
        assert_int_equal(listener_new(&bench.listener, bench.loop, &clear_listener, refusals[i], NULL, &why), ERR_OK);
        bench.port = listener_port(bench.listener);
        bench.client.on_closed = side_over;
        bench_connect(&bench, NULL);
        bench_run(&bench);
        assert_int_equal(bench.client.err, ERR_CLOSED);
        bench_fini(&bench);
    }
}

static void restore_descriptors(void *arg)
{
    setrlimit(RLIMIT_NOFILE, arg);
}

static void test_a_listener_without_descriptors_takes_connections_later(void **state)
{
    struct rlimit before, low;
    struct timer restore;
    struct bench bench;
    int next_fd;

    (void)state;
    bench_init(&bench, &clear_listener);
    bench.client.on_open = say_hello;
    bench.server.on_read = side_over;
    next_fd = dup(0);
    close(next_fd);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = (struct rlimit){.rlim_cur = (rlim_t)next_fd + 1, .rlim_max = before.rlim_max}; /* one, for the client */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    timer_init(&restore, bench.loop, restore_descriptors, &before);
    timer_start(&restore, 200);
    bench_connect(&bench, NULL);
    bench_run(&bench);
    assert_true(str_eq(buf_str(&bench.server.got), STR("hello")));
    bench_fini(&bench);
}

static void test_a_listener_says_why_it_cannot_listen(void **state)
{
    struct listener_conf conf = {.host = "127.0.0.1"};
    struct listener *listener = NULL;
    struct why why = {0};
    struct loop *loop = NULL;
    int fd = bound_socket(&conf.port, true);
    char words[40];

    (void)state;
    assert_int_equal(loop_new(&loop, "test"), ERR_OK);
    assert_int_equal(listener_new(&listener, loop, &conf, refuse_silently, NULL, &why), ERR_EXISTS);
    snprintf(words, sizeof words, "127.0.0.1:%u", conf.port);
    assert_non_null(strstr(why.text, words));
    why = (struct why){0};
    conf = (struct listener_conf){.host = "127.0.0.1", .tls = true};
    assert_int_equal(listener_new(&listener, loop, &conf, refuse_silently, NULL, &why), ERR_CONFIG);
    loop_free(loop);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_go_there_and_back),
        cmocka_unit_test(test_frames_of_all_sizes_cross_both_ways),
        cmocka_unit_test(test_frames_survive_pauses_at_any_point),
        cmocka_unit_test(test_frames_arrive_when_they_come_byte_by_byte),
        cmocka_unit_test(test_an_end_at_any_point_is_one_closed_event_on_each_side),
        cmocka_unit_test(test_sixteen_megabytes_go_out_without_blocking_and_nothing_is_lost_at_close),
        cmocka_unit_test(test_a_reader_that_is_paused_does_not_hold_up_an_immediate_close),
        cmocka_unit_test(test_a_gentle_close_gives_up_on_a_peer_that_takes_nothing),
        cmocka_unit_test(test_what_is_left_is_offered_again_after_resume),
        cmocka_unit_test(test_a_packet_above_the_limit_ends_the_stream),
        cmocka_unit_test(test_no_memory_for_a_leftover_ends_the_stream_with_a_reason),
        cmocka_unit_test(test_thousands_of_pieces_wait_for_a_slow_reader_in_order),
        cmocka_unit_test(test_what_is_written_before_open_goes_out_after_it),
        cmocka_unit_test(test_the_last_words_of_a_peer_are_read_although_writing_fails),
        cmocka_unit_test(test_a_paused_stream_learns_from_writing_that_the_peer_is_gone),
        cmocka_unit_test(test_a_peer_that_hangs_up_while_we_write_is_one_closed_event),
        cmocka_unit_test(test_a_connection_that_is_not_accepted_is_closed),
        cmocka_unit_test(test_a_listener_without_descriptors_takes_connections_later),
        cmocka_unit_test(test_a_listener_says_why_it_cannot_listen),
    };

    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
