/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "gateway/control.h"

#include <stdio.h>

struct plant {
    struct loop *loop;
    struct control *control;
    struct control_peer *peer;
    struct buf out;
    struct control_request *held[20], *stream;
    unsigned n_held, n_wakes, n_closes, n_ended;
};

static void on_wake(void *arg)
{
    ((struct plant *)arg)->n_wakes++;
}

static void on_close(void *arg)
{
    ((struct plant *)arg)->n_closes++;
}

static const struct control_link transport = {.wake = on_wake, .close = on_close};

static void method_echo(void *arg, struct control_request *request, yyjson_val *params)
{
    autobuf struct buf json = {0};

    (void)arg;
    if (params)
        json_add_value(&json, params);
    control_answer(request, params ? buf_str(&json) : STR("null"));
}

static void method_hold(void *arg, struct control_request *request, yyjson_val *params)
{
    struct plant *p = arg;

    (void)params;
    p->held[p->n_held++] = request;
}

static void on_ended(void *arg, struct control_request *request)
{
    struct plant *p = arg;

    assert_ptr_equal(request, p->stream);
    p->n_ended++;
}

static void method_stream(void *arg, struct control_request *request, yyjson_val *params)
{
    struct plant *p = arg;

    (void)params;
    p->stream = request;
    control_stream(request, on_ended, p);
}

static int setup(void **state)
{
    struct plant *p = mem_zero(sizeof *p);

    p->loop = loop_new_fake(1700000000000);
    p->control = control_new(p->loop);
    control_add(p->control, "echo", method_echo, p);
    control_add(p->control, "hold", method_hold, p);
    control_add(p->control, "stream", method_stream, p);
    p->peer = control_peer_new(p->control, &transport, p);
    *state = p;
    return p->peer ? 0 : -1;
}

static int teardown(void **state)
{
    struct plant *p = *state;

    if (p->peer)
        control_peer_close(p->peer);
    control_free(p->control);
    buf_fini(&p->out);
    loop_free(p->loop);
    mem_free(p);
    return 0;
}

static void feed(struct plant *p, const char *text)
{
    control_peer_feed(p->peer, str_from(text));
}

static const char *taken(struct plant *p)
{
    control_peer_take(p->peer, &p->out);
    control_peer_wrote(p->peer);
    buf_add_u8(&p->out, 0);
    return (const char *)p->out.p;
}

static void test_each_request_is_answered_with_its_id_however_it_is_cut(void **state)
{
    struct plant *p = *state;
    const char *request =
        "{\"id\":7,\"method\":\"echo\",\"params\":{\"a\":[1.50]}}\n\n{\"id\":\"x\",\"method\":\"echo\"}\n";

    feed(p, request);
    assert_string_equal(taken(p), "{\"id\":7,\"result\":{\"a\":[1.50]}}\n{\"id\":\"x\",\"result\":null}\n");
    for (const char *c = request; *c; c++)
        control_peer_feed(p->peer, str_of(c, 1));
    assert_string_equal(taken(p), "{\"id\":7,\"result\":{\"a\":[1.50]}}\n{\"id\":\"x\",\"result\":null}\n");
}

static void test_what_is_no_request_is_refused_and_the_next_is_answered(void **state)
{
    static const char *const cases[][2] = {{"{\n", "SYNTAX"},
                                           {"[]\n", "PROTO"},
                                           {"{\"id\":1}\n", "PROTO"},
                                           {"{\"method\":7}\n", "PROTO"},
                                           {"{\"method\":\"echo\",\"params\":[]}\n", "TYPE"},
                                           {"{\"method\":\"nothing\"}\n", "UNSUPPORTED"}};
    struct plant *p = *state;

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        feed(p, cases[i][0]);
        assert_non_null(strstr(taken(p), cases[i][1]));
    }
    feed(p, "{\"id\":{},\"method\":\"echo\"}\n");
    assert_string_equal(taken(p), "{\"id\":null,\"result\":null}\n");
    assert_int_equal(p->n_closes, 0);
}

static void test_a_line_without_end_is_cut_off(void **state)
{
    struct plant *p = *state;
    char *part = mem_zero(64 * 1024);

    memset(part, 'x', 64 * 1024);
    for (unsigned i = 0; i < 40; i++)
        control_peer_feed(p->peer, str_of(part, 64 * 1024));
    assert_int_equal(p->n_closes, 1);
    assert_non_null(strstr(taken(p), "LIMIT"));
    mem_free(part);
}

static void test_more_than_sixteen_open_requests_are_refused_and_room_comes_back(void **state)
{
    struct plant *p = *state;

    for (unsigned i = 0; i < 16; i++)
        feed(p, "{\"id\":1,\"method\":\"hold\"}\n");
    assert_int_equal(p->n_held, 16);
    assert_false(control_peer_wants_input(p->peer));
    assert_true(control_peer_awaits(p->peer));
    feed(p, "{\"id\":17,\"method\":\"hold\"}\n");
    assert_non_null(strstr(taken(p), "BUSY"));
    control_answer(p->held[--p->n_held], STR("{}"));
    assert_true(control_peer_wants_input(p->peer));
    while (p->n_held)
        control_fail(p->held[--p->n_held], ERR_TIMEOUT, "%s", "late");
    assert_false(control_peer_awaits(p->peer));
    assert_non_null(strstr(taken(p), "\"message\":\"late\""));
}

static void test_an_answer_for_a_client_that_has_gone_goes_nowhere(void **state)
{
    struct plant *p = *state;

    feed(p, "{\"id\":1,\"method\":\"hold\"}\n{\"id\":2,\"method\":\"hold\"}\n{\"id\":3,\"method\":\"stream\"}\n");
    control_peer_close(p->peer);
    p->peer = NULL;
    assert_int_equal(p->n_ended, 1);
    control_answer(p->held[0], STR("1")); /* the other is given up with the control */
}

static void test_a_stream_is_left_out_where_the_client_does_not_keep_up_and_answers_are_not(void **state)
{
    struct plant *p = *state;
    char text[1024];
    unsigned n = 0;

    memset(text, 'a', sizeof text);
    text[0] = text[sizeof text - 1] = '"';
    feed(p, "{\"id\":1,\"method\":\"stream\"}\n");
    assert_false(control_peer_awaits(p->peer));
    while (control_send(p->stream, str_of(text, sizeof text)))
        n++;
    assert_in_range(n, 200, 256);
    feed(p, "{\"id\":2,\"method\":\"echo\"}\n");
    assert_non_null(strstr(taken(p), "{\"id\":2,\"result\":null}\n"));
    assert_true(control_send(p->stream, STR("1")));
    control_answer(p->stream, STR("{}"));
    assert_string_equal(taken(p), "{\"id\":1,\"stream\":1}\n{\"id\":1,\"result\":{}}\n");
    assert_int_equal(p->n_ended, 0);
}

static void test_there_are_at_most_so_many_clients(void **state)
{
    struct plant *p = *state;
    struct control_peer *peers[CONTROL_PEERS_MAX];
    size_t n = 0;

    while ((peers[n] = control_peer_new(p->control, &transport, p)))
        n++;
    assert_int_equal(n, CONTROL_PEERS_MAX - 1);
    while (n)
        control_peer_close(peers[--n]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_each_request_is_answered_with_its_id_however_it_is_cut),
        TEST(test_what_is_no_request_is_refused_and_the_next_is_answered),
        TEST(test_a_line_without_end_is_cut_off),
        TEST(test_more_than_sixteen_open_requests_are_refused_and_room_comes_back),
        TEST(test_an_answer_for_a_client_that_has_gone_goes_nowhere),
        TEST(test_a_stream_is_left_out_where_the_client_does_not_keep_up_and_answers_are_not),
        TEST(test_there_are_at_most_so_many_clients),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
