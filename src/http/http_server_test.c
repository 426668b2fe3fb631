/* SPDX-License-Identifier: Apache-2.0 */
#include "http/http_server.h"

#include "base/log.h"
#include "io/stream.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define H "Host: a\r\n"

struct rig {
    struct loop *loop;
    struct log log;
    struct http_server *server;
    struct stream *client;
    struct buf received, seen; /* seen: method, path and body of each request */
    struct closer closer;
    struct http_request *held; /* by /later */
    struct timer answer;
    bool is_closed, leaves; /* leaves: as soon as all is sent */
};

static void answer_later(void *arg)
{
    struct rig *rig = arg;

    http_answer(rig->held, &(struct http_answer){.status = 200, .body = STR("late")});
    rig->held = NULL;
}

static void on_head(void *arg, struct http_request *request)
{
    (void)arg;
    if (str_eq(request->head.path, STR("/none")))
        http_answer_error(request, 404, "there is \"nothing\" here");
    if (str_eq(request->head.path, STR("/small")))
        request->max_body = 4;
}

static void on_request(void *arg, struct http_request *request)
{
    struct rig *rig = arg;

    buf_printf(&rig->seen, "%.*s %.*s [%.*s]\n", (int)request->head.method.n, request->head.method.p,
               (int)request->head.path.n, request->head.path.p, (int)str_cut(request->body, 64).n, request->body.p);
    if (str_eq(request->head.path, STR("/later"))) {
        rig->held = request;
        timer_start(&rig->answer, 1);
        return;
    }
    http_answer(request, &(struct http_answer){.status = 200, .type = STR("text/plain"), .body = request->body});
}

static size_t on_read(void *arg, uint8_t *p, size_t n)
{
    struct rig *rig = arg;

    buf_add(&rig->received, p, n);
    return n;
}

static void on_server_closed(void *arg)
{
    struct rig *rig = arg;

    loop_stop(rig->loop);
}

static void on_closed(void *arg, enum err err, const struct why *why)
{
    struct rig *rig = arg;

    (void)err;
    (void)why;
    stream_free(rig->client);
    rig->client = NULL;
    rig->is_closed = true;
    http_server_close(rig->server, on_server_closed, rig);
}

static void on_sent(void *arg)
{
    struct rig *rig = arg;

    if (rig->leaves)
        stream_close(rig->client, false);
}

static const struct stream_events client_events = {.read = on_read, .sent = on_sent, .closed = on_closed};

/* Sends all of it at once, and gives what comes until the server closes. */
static void exchange_and(struct rig *rig, const char *text, size_t n, bool leaves)
{
    static const struct http_server_events events = {.head = on_head, .request = on_request};
    const struct http_server_conf conf = {.host = "127.0.0.1"};
    struct stream_conf to = {.host = "127.0.0.1"};
    struct why why = {0};

    *rig = (struct rig){.leaves = leaves};
    log_init(&rig->log, "test", LOG_LEVEL_OFF);
    assert_int_equal(loop_new(&rig->loop, "test"), ERR_OK);
    if (http_server_new(&rig->server, rig->loop, &rig->log, &conf, &events, rig, &why) != ERR_OK)
        fail_msg("%s", why_text(&why));
    timer_init(&rig->answer, rig->loop, answer_later, rig);
    to.port = http_server_port(rig->server);
    assert_int_equal(stream_new(&rig->client, rig->loop, &client_events, rig), ERR_OK);
    stream_connect(rig->client, &to);
    stream_write(rig->client, text, n, true);
    loop_run(rig->loop);
    loop_free(rig->loop);
    buf_add_u8(&rig->received, 0);
    buf_add_u8(&rig->seen, 0);
}

static void exchange(struct rig *rig, const char *text, size_t n)
{
    exchange_and(rig, text, n, false);
}

static void rig_fini(struct rig *rig)
{
    buf_fini(&rig->received);
    buf_fini(&rig->seen);
    log_fini(&rig->log);
}

static unsigned count_of(const struct buf *buf, const char *text)
{
    unsigned n = 0;
    size_t at = 0;

    while ((at = str_find(buf_str(buf), str_from(text), at)) != SIZE_MAX) {
        at += strlen(text);
        n++;
    }
    return n;
}

static void pipelined_requests_are_answered_in_their_order(void **state)
{
    static const char text[] = "POST /a HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\nhi"
                               "POST /later HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nyou"
                               "POST /b HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
                               "3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n"
                               "GET /none HTTP/1.1\r\n" H "Content-Length: 4\r\n\r\nskip"
                               "HEAD /c HTTP/1.1\r\n" H "\r\n"
                               "POST /d HTTP/1.1\r\n" H "Connection: close\r\n\r\n";
    struct rig rig;

    (void)state;
    exchange(&rig, text, sizeof text - 1);
    assert_string_equal((char *)rig.seen.p,
                        "POST /a [hi]\nPOST /later [you]\nPOST /b [abcde]\nHEAD /c []\nPOST /d []\n");
    assert_int_equal(count_of(&rig.received, "HTTP/1.1 200 OK\r\n"), 5);
    assert_int_equal(count_of(&rig.received, "HTTP/1.1 404 Not Found\r\n"), 1);
    assert_int_equal(count_of(&rig.received, "{\"error\":\"there is \\\"nothing\\\" here\"}"), 1);
    assert_int_equal(count_of(&rig.received, "Connection: close\r\n"), 1);
    assert_true(str_find(buf_str(&rig.received), STR("late"), 0) < str_find(buf_str(&rig.received), STR("abcde"), 0));
    rig_fini(&rig);
}

static void faults_are_named_and_end_the_connection(void **state)
{
    static const struct {
        const char *text, *status, *cause;
    } cases[] = {
        {"POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400 Bad Request",
         "both Content-Length and Transfer-Encoding"},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "400 Bad Request",
         "more than one Content-Length"},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nx\r\n", "400 Bad Request", "size of a chunk"},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\nab", "400 Bad Request", "CR and LF"},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n123456789\r\n", "400 Bad Request",
         "size of a chunk"},
        {"GET / HTTP/1.1\nHost: a\n\r\n\r\n", "400 Bad Request", "CR and LF"},
        {"SSH-2.0-x\r\n\r\n", "400 Bad Request", "request line"},
        {"GET / HTTP/3.0\r\n" H "\r\n", "505 HTTP Version Not Supported", "HTTP/1.0 and HTTP/1.1"},
    };
    struct rig rig;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char answer[80];

        snprintf(answer, sizeof answer, "HTTP/1.1 %s\r\n", cases[i].status);
        exchange(&rig, cases[i].text, strlen(cases[i].text));
        if (count_of(&rig.received, answer) != 1 || count_of(&rig.received, cases[i].cause) != 1 ||
            count_of(&rig.received, "{\"error\":\"") != 1 || rig.seen.n != 1)
            fail_msg("%zu: %s", i, (char *)rig.received.p);
        rig_fini(&rig);
    }
}

static void bodies_beyond_the_limit_are_refused_and_passed_over(void **state)
{
    static const char text[] =
        "POST /small HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\n12345"
        "POST /small HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\n123\r\n3\r\n456\r\n0\r\n\r\n"
        "POST /small HTTP/1.1\r\n" H "Content-Length: 4\r\nConnection: close\r\n\r\n1234";
    struct rig rig;

    (void)state;
    exchange(&rig, text, sizeof text - 1);
    assert_string_equal((char *)rig.seen.p, "POST /small [1234]\n");
    assert_int_equal(count_of(&rig.received, "HTTP/1.1 413 "), 2);
    assert_int_equal(count_of(&rig.received, "{\"error\":\"the body is longer than 4 bytes\"}"), 2);
    rig_fini(&rig);
}

static void leave_to_send_is_given_or_not(void **state)
{
    static const char text[] = "POST /a HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi";
    static const char refused[] = "POST /none HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    struct rig rig;

    (void)state;
    exchange(&rig, text, sizeof text - 1);
    assert_int_equal(count_of(&rig.received, "100 Continue"), 0);
    assert_int_equal(count_of(&rig.received, "HTTP/1.1 200 OK"), 1);
    rig_fini(&rig);
    exchange(&rig, refused, sizeof refused - 1);
    assert_int_equal(count_of(&rig.received, "100 Continue"), 0);
    assert_int_equal(count_of(&rig.received, "HTTP/1.1 404 "), 1);
    assert_int_equal(count_of(&rig.received, "Connection: close"), 1);
    rig_fini(&rig);
}

static void a_body_may_be_larger_than_what_one_read_takes(void **state)
{
    static char text[700 * 1024];
    int n = snprintf(text, sizeof text, "POST /big HTTP/1.1\r\n" H "Connection: close\r\nContent-Length: %u\r\n\r\n",
                     600 * 1024);
    struct rig rig;

    (void)state;
    memset(text + n, 'x', 600 * 1024);
    exchange(&rig, text, (size_t)n + 600 * 1024);
    assert_int_equal(count_of(&rig.seen, "POST /big [xxx"), 1);
    assert_true(rig.received.n > 600 * 1024);
    rig_fini(&rig);
}

static void clients_that_leave_keep_nothing_open(void **state)
{
    static const char *const texts[] = {"POST /a HT", "POST /a HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhi",
                                        "POST /a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nhi",
                                        "POST /none HTTP/1.1\r\n" H "Content-Length: 50\r\n\r\nhi",
                                        "POST /later HTTP/1.1\r\n" H "\r\nGET /later HTTP/1.1\r\n" H "\r\n"};
    struct rig rig;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(texts); i++) { /* each ends when the server is closed and freed */
        exchange_and(&rig, texts[i], strlen(texts[i]), true);
        rig_fini(&rig);
    }
}

struct half {
    struct rig rig;
    struct timer look;
    int fd;
};

static void look_for_bytes(void *arg)
{
    struct half *half = arg;
    char text[4096];
    ssize_t n = recv(half->fd, text, sizeof text, MSG_DONTWAIT);

    if (n > 0)
        buf_add(&half->rig.received, text, (size_t)n);
    if (n == 0)
        http_server_close(half->rig.server, on_server_closed, &half->rig);
    else
        timer_start(&half->look, 1);
}

/* nc -N, and small stacks that have nothing more to say. */
static void who_has_asked_and_sends_nothing_more_gets_every_answer(void **state)
{
    static const struct http_server_events events = {.head = on_head, .request = on_request};
    static const char *const texts[] = {"GET /later HTTP/1.1\r\n" H "\r\n",
                                        "GET /later HTTP/1.1\r\n" H "\r\nGET /later HTTP/1.1\r\n" H
                                        "\r\nGET /a HTTP/1.1\r\n" H "\r\n",
                                        "GET /later HTTP/1.1\r\n" H "\r\nGET /cut"};
    static const unsigned n_answers[] = {1, 3, 1};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        const struct http_server_conf conf = {.host = "127.0.0.1"};
        struct half half = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        struct why why = {0};

        log_init(&half.rig.log, "test", LOG_LEVEL_OFF);
        assert_int_equal(loop_new(&half.rig.loop, "test"), ERR_OK);
        assert_int_equal(
            http_server_new(&half.rig.server, half.rig.loop, &half.rig.log, &conf, &events, &half.rig, &why), ERR_OK);
        timer_init(&half.rig.answer, half.rig.loop, answer_later, &half.rig);
        timer_init(&half.look, half.rig.loop, look_for_bytes, &half);
        to.sin_port = htons(http_server_port(half.rig.server));
        assert_int_equal(connect(half.fd, (const struct sockaddr *)&to, sizeof to), 0);
        assert_int_equal(send(half.fd, texts[i], strlen(texts[i]), 0), strlen(texts[i]));
        assert_int_equal(shutdown(half.fd, SHUT_WR), 0);
        timer_start(&half.look, 0);
        loop_run(half.rig.loop);
        loop_free(half.rig.loop);
        buf_add_u8(&half.rig.received, 0);
        assert_int_equal(count_of(&half.rig.received, "HTTP/1.1 200 OK"), n_answers[i]);
        close(half.fd);
        rig_fini(&half.rig);
    }
}

static void a_port_in_use_is_told(void **state)
{
    static const struct http_server_events events = {.request = on_request};
    struct http_server_conf conf = {.host = "127.0.0.1"};
    struct http_server *other = NULL;
    struct rig rig = {0};
    struct why why = {0};

    (void)state;
    log_init(&rig.log, "test", LOG_LEVEL_OFF);
    assert_int_equal(loop_new(&rig.loop, "test"), ERR_OK);
    assert_int_equal(http_server_new(&rig.server, rig.loop, &rig.log, &conf, &events, &rig, &why), ERR_OK);
    conf.port = http_server_port(rig.server);
    assert_int_not_equal(http_server_new(&other, rig.loop, &rig.log, &conf, &events, &rig, &why), ERR_OK);
    assert_non_null(strstr(why_text(&why), "Address already in use"));
    http_server_close(rig.server, on_server_closed, &rig);
    loop_run(rig.loop);
    loop_free(rig.loop);
    rig_fini(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pipelined_requests_are_answered_in_their_order),
        cmocka_unit_test(faults_are_named_and_end_the_connection),
        cmocka_unit_test(bodies_beyond_the_limit_are_refused_and_passed_over),
        cmocka_unit_test(leave_to_send_is_given_or_not),
        cmocka_unit_test(a_body_may_be_larger_than_what_one_read_takes),
        cmocka_unit_test(clients_that_leave_keep_nothing_open),
        cmocka_unit_test(who_has_asked_and_sends_nothing_more_gets_every_answer),
        cmocka_unit_test(a_port_in_use_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
