/* SPDX-License-Identifier: Apache-2.0 */
#include "http/http_client.h"

#include "base/arena.h"
#include "base/log.h"
#include "http/http_peer.h"
#include "io/stream_bench.h"

#define OK_HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
#define MOVED "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: "

static const struct peer_page pages[] = {
    {"/a", OK_HEAD "Content-Length: 7\r\n\r\n{\"a\":1}", PEER_ANSWERS},
    {"/old", "HTTP/1.0 200 Fine\r\n\r\n{\"o\":1}", PEER_CLOSES_AFTER},
    {"/chunked", OK_HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n", PEER_ANSWERS},
    {"/silent", NULL, PEER_IS_SILENT},
    {"/hangup", NULL, PEER_HANGS_UP},
    {"/trickle", "HTTP/1.1 200 OK\r\n\r\n", PEER_TRICKLES},
    {"/garbage", "SSH-2.0-what\r\n\r\n", PEER_CLOSES_AFTER},
    {"/short", OK_HEAD "Content-Length: 70\r\n\r\n{\"a\"", PEER_CLOSES_AFTER},
    {"/large", OK_HEAD "Content-Length: 70000\r\n\r\n", PEER_ANSWERS},
    {"/stream", OK_HEAD "Transfer-Encoding: chunked\r\n\r\n20\r\n01234567890123456789012345678901\r\n", PEER_ANSWERS},
    {"/circle", MOVED "/circle2\r\n\r\n", PEER_ANSWERS},
    {"/circle2", MOVED "http://127.0.0.1:%PORT/circle\r\n\r\n", PEER_ANSWERS},
    {"/moved", MOVED "/a\r\n\r\n", PEER_ANSWERS},
    {"/away", MOVED "http://localhost:%PORT/a\r\n\r\n", PEER_ANSWERS},
    {"/file", MOVED "file:///etc/passwd\r\n\r\n", PEER_ANSWERS},
    {"/bye", OK_HEAD "Content-Length: 2\r\n\r\n{}", PEER_CLOSES_AFTER},
    {"/500", "HTTP/1.1 500 Not Today\r\nContent-Length: 2\r\n\r\nno", PEER_ANSWERS},
};

struct rig {
    struct loop *loop;
    struct http_client *client;
    struct peer peer;
    struct closer closer;
    unsigned n_wanted, n_done;
    struct http_call *to_cancel, *again;
};

struct got {
    struct http_call call;
    struct rig *rig;
    struct http_header headers[4];
    char url[200];
    enum err err;
    unsigned n, status;
    char reason[100], body[100], type[60], why[500];
    bool is_unsent;
};

static struct log quiet = {.name = "test", .level = LOG_LEVEL_OFF};

static void nothing(void *arg)
{
    (void)arg;
}

static void end(struct rig *rig)
{
    closer_begin(&rig->closer, rig->loop, nothing, NULL);
    peer_stop(&rig->peer, &rig->closer);
    closer_end(&rig->closer);
    http_client_close(rig->client, nothing, NULL);
    loop_stop(rig->loop);
}

static void put(char *out, size_t size, struct str s)
{
    snprintf(out, size, STR_FMT, STR_ARG(s));
}

static void done(struct http_call *call, enum err err, const struct http_reply *reply)
{
    struct got *got = call->arg;

    got->n++;
    got->err = err;
    got->status = reply->status;
    got->is_unsent = reply->is_unsent;
    put(got->reason, sizeof got->reason, reply->reason);
    put(got->body, sizeof got->body, reply->body);
    put(got->type, sizeof got->type, reply->content_type);
    put(got->why, sizeof got->why, str_from(err ? why_text(reply->why) : ""));
    if (got->rig->to_cancel) {
        http_client_cancel(got->rig->client, got->rig->to_cancel);
        got->rig->to_cancel = NULL;
    }
    if (++got->rig->n_done == got->rig->n_wanted)
        end(got->rig);
    else if (got->rig->again == call)
        http_client_start(got->rig->client, call);
}

static void rig_open(struct rig *rig, const struct listener_conf *conf)
{
    struct why why = {0};

    memset(rig, 0, sizeof *rig);
    assert_int_equal(loop_new(&rig->loop, "test"), ERR_OK);
    peer_start(&rig->peer, rig->loop, pages, COUNT_OF(pages), conf);
    rig->client = http_client_new(rig->loop, &quiet, &why);
    if (!rig->client)
        fail_msg("%s", why_text(&why));
}

static void ask(struct rig *rig, struct got *got, const char *method, const char *path)
{
    got->rig = rig;
    snprintf(got->url, sizeof got->url, "http://127.0.0.1:%u%s", listener_port(rig->peer.listener), path);
    got->call.method = str_from(method);
    got->call.url = str_from(got->url);
    if (!got->call.timeout_ms)
        got->call.timeout_ms = 20000;
    got->call.done = done;
    got->call.arg = got;
    rig->n_wanted++;
}

static void go(struct rig *rig, struct got *got)
{
    http_client_start(rig->client, &got->call);
    assert_int_equal(got->n, 0);
    (void)rig;
}

static void rig_run(struct rig *rig)
{
    loop_run(rig->loop);
    loop_free(rig->loop);
    assert_int_equal(rig->peer.n_open, 0);
}

static void rig_close(struct rig *rig)
{
    buf_fini(&rig->peer.seen);
}

/* One call against one page. */
static void one(struct got *got, const char *method, const char *path)
{
    struct rig rig;

    rig_open(&rig, NULL);
    ask(&rig, got, method, path);
    go(&rig, got);
    rig_run(&rig);
    rig_close(&rig);
    assert_int_equal(got->n, 1);
}

static void test_an_answer_comes_with_status_reason_type_and_body(void **state)
{
    struct got got = {0};

    (void)state;
    one(&got, "GET", "/a");
    assert_int_equal(got.err, ERR_OK);
    assert_int_equal(got.status, 200);
    assert_string_equal(got.reason, "OK");
    assert_string_equal(got.type, "application/json");
    assert_string_equal(got.body, "{\"a\":1}");
    memset(&got, 0, sizeof got);
    one(&got, "GET", "/500");
    assert_int_equal(got.err, ERR_OK);
    assert_int_equal(got.status, 500);
    assert_string_equal(got.reason, "Not Today");
}

static void test_old_and_chunked_answers_are_understood(void **state)
{
    struct got got = {0};

    (void)state;
    one(&got, "GET", "/old");
    assert_string_equal(got.body, "{\"o\":1}");
    memset(&got, 0, sizeof got);
    one(&got, "GET", "/chunked");
    assert_string_equal(got.body, "[1,2]");
}

static void test_method_headers_body_and_credentials_are_sent(void **state)
{
    struct got got = {.call = {.body = STR("x=1"), .username = STR("me"), .password = STR("secret")}};
    struct rig rig;

    (void)state;
    got.headers[0] = (struct http_header){STR("X-A"), STR("7")};
    got.headers[1] = (struct http_header){STR("X-Empty"), STR("")};
    got.call.headers = got.headers;
    got.call.n_headers = 2;
    rig_open(&rig, NULL);
    ask(&rig, &got, "BREW", "/a");
    go(&rig, &got);
    rig_run(&rig);
    assert_true(peer_saw(&rig.peer, "BREW /a HTTP/1.1\r\n"));
    assert_true(peer_saw(&rig.peer, "\r\nX-A: 7\r\n"));
    assert_true(peer_saw(&rig.peer, "\r\nX-Empty:\r\n"));
    assert_true(peer_saw(&rig.peer, "\r\nAuthorization: Basic bWU6c2VjcmV0\r\n"));
    assert_true(peer_saw(&rig.peer, "\r\n\r\nx=1"));
    assert_false(peer_saw(&rig.peer, "Content-Type"));
    assert_false(peer_saw(&rig.peer, "Expect"));
    rig_close(&rig);
}

static void test_calls_one_after_the_other_use_one_connection(void **state)
{
    struct rig rig;
    struct got got = {0};

    (void)state;
    rig_open(&rig, NULL);
    ask(&rig, &got, "GET", "/a");
    rig.n_wanted = 20;
    rig.again = &got.call;
    go(&rig, &got);
    rig_run(&rig);
    assert_int_equal(got.n, 20);
    assert_int_equal(rig.peer.n_connections, 1);
    rig_close(&rig);
}

/* Looks from time to time until the server's side of the connection is closed, and then at how often the loop woke since. */
struct watch {
    struct rig *rig;
    struct got *next;
    struct timer timer;
    uint64_t n_wakeups;
    unsigned n_looks;
};

static void look(void *arg)
{
    struct watch *watch = arg;
    uint64_t n = loop_stats(watch->rig->loop).n_wakeups;

    if (watch->rig->peer.n_open) {
        watch->n_wakeups = n;
    } else if (++watch->n_looks == 5) {
        watch->n_wakeups = n - watch->n_wakeups;
        go(watch->rig, watch->next);
        return;
    }
    timer_start(&watch->timer, 5);
}

static void test_a_server_that_closes_an_idle_connection_keeps_nobody_awake(void **state)
{
    struct rig rig;
    struct got first = {0}, next = {0};
    struct watch watch = {.rig = &rig, .next = &next};

    (void)state;
    rig_open(&rig, NULL);
    ask(&rig, &first, "GET", "/bye");
    ask(&rig, &next, "GET", "/a");
    go(&rig, &first);
    timer_init(&watch.timer, rig.loop, look, &watch);
    timer_start(&watch.timer, 5);
    rig_run(&rig);
    assert_int_equal(first.status, 200);
    assert_int_equal(next.status, 200);
    assert_int_equal(rig.peer.n_connections, 2);
    assert_true(watch.n_wakeups < 40);
    rig_close(&rig);
}

static void test_what_fails_names_host_cause_and_key(void **state)
{
    static const struct {
        const char *path;
        enum err err;
        const char *words[2];
    } cases[] = {
        {"/hangup", ERR_CLOSED, {"127.0.0.1:", "without an answer"}},
        {"/garbage", ERR_PROTO, {"127.0.0.1:", "not HTTP"}},
        {"/short", ERR_PROTO, {"127.0.0.1:", "not all of it"}},
        {"/large", ERR_LIMIT, {"larger than 100 bytes", "maxBody"}},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        static const struct http_keys keys = {.max_body = "maxBody"};
        struct got got = {.call = {.max_body = 100, .keys = &keys}};

        one(&got, "GET", cases[i].path);
        if (got.err != cases[i].err || !strstr(got.why, cases[i].words[0]) || !strstr(got.why, cases[i].words[1]))
            fail_msg("%s: %s, %s", cases[i].path, err_name(got.err), got.why);
    }
}

static void test_a_body_without_length_is_bounded_while_it_comes(void **state)
{
    struct got got = {.call = {.max_body = 20}};

    (void)state;
    one(&got, "GET", "/stream");
    assert_int_equal(got.err, ERR_LIMIT);
}

static void test_a_time_out_bounds_silence_and_trickle(void **state)
{
    struct got silent = {.call = {.timeout_ms = 60}}, trickle = {.call = {.timeout_ms = 60}};

    (void)state;
    one(&silent, "GET", "/silent");
    assert_int_equal(silent.err, ERR_TIMEOUT);
    assert_non_null(strstr(silent.why, "within 60 ms; see \"timeout\""));
    assert_false(silent.is_unsent);
    one(&trickle, "GET", "/trickle");
    assert_int_equal(trickle.err, ERR_TIMEOUT);
}

static void test_redirects_are_followed_only_where_allowed(void **state)
{
    struct got got = {0};

    (void)state;
    one(&got, "GET", "/moved");
    assert_int_equal(got.status, 302);
    memset(&got, 0, sizeof got);
    got.call.allow_redirects = true;
    one(&got, "GET", "/moved");
    assert_int_equal(got.status, 200);
    assert_string_equal(got.body, "{\"a\":1}");
}

static void test_a_circle_of_redirects_is_found_and_named(void **state)
{
    struct got got = {.call = {.allow_redirects = true}};

    (void)state;
    one(&got, "GET", "/circle");
    assert_int_equal(got.err, ERR_LIMIT);
    assert_non_null(strstr(got.why, "in a circle"));
}

static void test_a_redirect_does_not_lead_out_of_http(void **state)
{
    struct got got = {.call = {.allow_redirects = true}};

    (void)state;
    one(&got, "GET", "/file");
    assert_int_equal(got.err, ERR_PROTO);
}

static void test_credentials_do_not_follow_to_another_host(void **state)
{
    struct got got = {.call = {.allow_redirects = true, .username = STR("me"), .password = STR("secret")}};
    struct rig rig;
    struct str seen;
    size_t at;

    (void)state;
    rig_open(&rig, NULL);
    ask(&rig, &got, "GET", "/away");
    go(&rig, &got);
    rig_run(&rig);
    assert_int_equal(got.status, 200);
    seen = buf_str(&rig.peer.seen);
    at = str_find(seen, STR("GET /a "), 0);
    assert_true(at != SIZE_MAX);
    assert_true(str_find(str_cut(seen, at), STR("Authorization"), 0) != SIZE_MAX);
    assert_true(str_find(seen, STR("Authorization"), at) == SIZE_MAX);
    rig_close(&rig);
}

static void test_what_cannot_be_sent_is_answered_later_and_unsent(void **state)
{
    static const char *const methods[] = {"GET X", "", "GET\r\nX: y"};
    struct got got;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(methods); i++) {
        memset(&got, 0, sizeof got);
        one(&got, methods[i], "/a");
        assert_int_equal(got.err, ERR_USAGE);
        assert_true(got.is_unsent);
    }
    memset(&got, 0, sizeof got);
    got.headers[0] = (struct http_header){STR("X-A"), STR("7\r\nX-B: 8")};
    got.call.headers = got.headers;
    got.call.n_headers = 1;
    one(&got, "GET", "/a");
    assert_int_equal(got.err, ERR_USAGE);
}

static void test_a_cancelled_call_is_not_answered(void **state)
{
    struct got cancelled = {0}, other = {0};
    struct rig rig;

    (void)state;
    rig_open(&rig, NULL);
    ask(&rig, &cancelled, "GET", "/silent");
    ask(&rig, &other, "GET", "/a");
    rig.n_wanted = 1;
    rig.to_cancel = &cancelled.call;
    go(&rig, &cancelled);
    go(&rig, &other);
    rig_run(&rig);
    assert_int_equal(cancelled.n, 0);
    assert_int_equal(other.n, 1);
    rig_close(&rig);
}

static void test_closing_ends_what_is_under_way_without_an_answer(void **state)
{
    struct got hung[20], other = {0};
    struct rig rig;

    (void)state;
    rig_open(&rig, NULL);
    memset(hung, 0, sizeof hung);
    for (size_t i = 0; i < COUNT_OF(hung); i++) {
        ask(&rig, &hung[i], "GET", i % 2 ? "/silent" : "/trickle");
        go(&rig, &hung[i]);
    }
    ask(&rig, &other, "GET", "/a");
    rig.n_wanted = 1;
    go(&rig, &other);
    rig_run(&rig);
    for (size_t i = 0; i < COUNT_OF(hung); i++)
        assert_int_equal(hung[i].n, 0);
    rig_close(&rig);
}

static void test_a_silent_server_does_not_delay_another_call(void **state)
{
    struct got silent[50], others[50];
    struct rig rig;

    (void)state;
    rig_open(&rig, NULL);
    memset(silent, 0, sizeof silent);
    memset(others, 0, sizeof others);
    for (size_t i = 0; i < COUNT_OF(silent); i++) {
        ask(&rig, &silent[i], "GET", "/silent");
        go(&rig, &silent[i]);
        ask(&rig, &others[i], "GET", "/a");
        go(&rig, &others[i]);
    }
    rig.n_wanted = COUNT_OF(others);
    rig_run(&rig);
    for (size_t i = 0; i < COUNT_OF(others); i++)
        assert_int_equal(others[i].status, 200);
    rig_close(&rig);
}

static void test_nobody_there_is_refused_and_unsent(void **state)
{
    struct got got = {0};
    struct rig rig;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0); /* bound and not listening: nobody else gets the port */

    (void)state;
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &n), 0);
    rig_open(&rig, NULL);
    ask(&rig, &got, "GET", "/a");
    snprintf(got.url, sizeof got.url, "http://127.0.0.1:%u/a", ntohs(address.sin_port));
    got.call.url = str_from(got.url);
    go(&rig, &got);
    rig_run(&rig);
    rig_close(&rig);
    close(fd);
    assert_int_equal(got.err, ERR_REFUSED);
    assert_true(got.is_unsent);
    assert_non_null(strstr(got.why, "see \"host\""));
}

/* --- TLS ------------------------------------------------------------------------------------------------------------------ */

static void tls_call(struct got *got, const char *host)
{
    const struct listener_conf conf = tls_listener();
    struct rig rig;

    rig_open(&rig, &conf);
    ask(&rig, got, "GET", "/a");
    snprintf(got->url, sizeof got->url, "https://%s:%u/a", host, listener_port(rig.peer.listener));
    got->call.url = str_from(got->url);
    go(&rig, got);
    rig_run(&rig);
    rig_close(&rig);
    assert_int_equal(got->n, 1);
}

static void test_tls_is_verified_when_wanted_and_reasons_name_the_key(void **state)
{
    struct got got = {.call = {.verify = true}};

    (void)state;
    tls_call(&got, "localhost");
    assert_int_equal(got.err, ERR_TLS);
    assert_non_null(strstr(got.why, "SSLVerify"));
    memset(&got, 0, sizeof got);
    tls_call(&got, "localhost"); /* not verified */
    assert_int_equal(got.status, 200);
    for (unsigned i = 0; i < 2; i++) {
        memset(&got, 0, sizeof got);
        got.call.verify = true;
        got.call.ca_file = i ? other_ca : ca;
        tls_call(&got, "localhost");
        assert_int_equal(got.err, i ? ERR_TLS : ERR_OK);
    }
}

static void test_a_url_is_shown_without_its_password(void **state)
{
    static const struct {
        const char *url, *shown;
    } cases[] = {{"http://a/b", "http://a/b"},
                 {"http://me:secret@a/b", "http://me:***@a/b"},
                 {"https://me@a/b", "https://me@a/b"},
                 {"http://a/b?c=d:e@f", "http://a/b?c=d:e@f"},
                 {"nothing", "nothing"}};
    struct arena arena;

    (void)state;
    arena_init(&arena, 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_true(str_eq_z(http_url_shown(&arena, str_from(cases[i].url)), cases[i].shown));
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_answer_comes_with_status_reason_type_and_body),
        cmocka_unit_test(test_old_and_chunked_answers_are_understood),
        cmocka_unit_test(test_method_headers_body_and_credentials_are_sent),
        cmocka_unit_test(test_calls_one_after_the_other_use_one_connection),
        cmocka_unit_test(test_a_server_that_closes_an_idle_connection_keeps_nobody_awake),
        cmocka_unit_test(test_what_fails_names_host_cause_and_key),
        cmocka_unit_test(test_a_body_without_length_is_bounded_while_it_comes),
        cmocka_unit_test(test_a_time_out_bounds_silence_and_trickle),
        cmocka_unit_test(test_redirects_are_followed_only_where_allowed),
        cmocka_unit_test(test_a_circle_of_redirects_is_found_and_named),
        cmocka_unit_test(test_a_redirect_does_not_lead_out_of_http),
        cmocka_unit_test(test_credentials_do_not_follow_to_another_host),
        cmocka_unit_test(test_what_cannot_be_sent_is_answered_later_and_unsent),
        cmocka_unit_test(test_a_cancelled_call_is_not_answered),
        cmocka_unit_test(test_closing_ends_what_is_under_way_without_an_answer),
        cmocka_unit_test(test_a_silent_server_does_not_delay_another_call),
        cmocka_unit_test(test_nobody_there_is_refused_and_unsent),
        cmocka_unit_test(test_tls_is_verified_when_wanted_and_reasons_name_the_key),
        cmocka_unit_test(test_a_url_is_shown_without_its_password),
    };

    setenv("no_proxy", "*", 1);
    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
