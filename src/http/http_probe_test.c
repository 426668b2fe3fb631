/* SPDX-License-Identifier: Apache-2.0 */
#include "http/http_peer.h"
#include "http/http_probe.h"

#include "base/log.h"

#define ANSWER(status, more) "HTTP/1.1 " status "\r\nContent-Length: 0\r\n" more "\r\n"

enum { MOST = 64 };
struct rig {
    struct loop *loop;
    struct log log;
    struct peer peer;
    struct http_client *client;
    struct http_probe probe;
    struct http_target targets[MOST];
    char urls[MOST][80];
    struct closer closer;
    unsigned n_told[MOST], n;
    enum http_verdict verdicts[MOST];
    char reasons[MOST][200];
    bool is_replaced[MOST];
};

static void stopped(void *arg)
{
    struct rig *rig = arg;

    loop_stop(rig->loop);
}

static void client_closed(void *arg)
{
    struct rig *rig = arg;

    closer_begin(&rig->closer, rig->loop, stopped, rig);
    peer_stop(&rig->peer, &rig->closer);
    closer_end(&rig->closer);
}

static void told(void *arg, struct http_target *target, enum http_verdict verdict, struct str reason,
                 const struct http_reply *reply)
{
    struct rig *rig = arg;
    size_t i = (size_t)(target - rig->targets);

    assert_non_null(reply);
    rig->n_told[i]++;
    rig->verdicts[i] = verdict;
    rig->is_replaced[i] = target->is_replaced;
    snprintf(rig->reasons[i], sizeof rig->reasons[i], "%.*s", (int)reason.n, reason.p);
    if (++rig->n == rig->probe.n)
        http_client_close(rig->client, client_closed, rig);
}

static void open_rig(struct rig *rig, const struct peer_page *pages, unsigned n)
{
    struct why why = {0};

    *rig = (struct rig){0};
    assert_int_equal(loop_new(&rig->loop, "test"), ERR_OK);
    log_init(&rig->log, "test", LOG_LEVEL_OFF);
    peer_start(&rig->peer, rig->loop, pages, n, NULL);
    rig->client = http_client_new(rig->loop, &rig->log, &why);
    if (!rig->client)
        fail_msg("%s", why_text(&why));
    rig->probe = (struct http_probe){.client = rig->client, .targets = rig->targets, .told = told, .arg = rig};
}

static struct http_target *add(struct rig *rig, const char *method, const char *path)
{
    size_t i = rig->probe.n++;

    snprintf(rig->urls[i], sizeof rig->urls[i], "http://127.0.0.1:%u%s", listener_port(rig->peer.listener), path);
    rig->targets[i].call = (struct http_call){
        .method = str_from(method), .url = str_from(rig->urls[i]), .body = STR("body"), .timeout_ms = 20000};
    return &rig->targets[i];
}

static void run(struct rig *rig)
{
    http_probe_start(&rig->probe);
    loop_run(rig->loop);
    loop_free(rig->loop);
    for (size_t i = 0; i < rig->probe.n; i++)
        assert_int_equal(rig->n_told[i], 1);
}

static void answers_are_judged_by_what_was_asked(void **state)
{
    static const struct peer_page pages[] = {{"/ok", ANSWER("200 OK", ""), PEER_ANSWERS},
                                             {"/login", ANSWER("401 Unauthorized", ""), PEER_ANSWERS},
                                             {"/no", ANSWER("405 Method Not Allowed", ""), PEER_ANSWERS},
                                             {"/broken", ANSWER("500 Oh", ""), PEER_ANSWERS},
                                             {"/moved", ANSWER("302 Found", "Location: /ok\r\n"), PEER_ANSWERS},
                                             {"/gone", NULL, PEER_HANGS_UP}};
    static const struct {
        const char *method, *path, *reason;
        enum http_verdict verdict;
        bool takes_any;
    } cases[] = {
        {"GET", "/ok", "", HTTP_WORKS, false},
        {"GET", "/login", "HTTP 401 Unauthorized: the server refuses the login", HTTP_FAILS, false},
        {"POST", "/login", "HTTP 401 Unauthorized: the server refuses the login", HTTP_FAILS, false},
        {"OPTIONS", "/login", "", HTTP_WORKS, true},
        {"GET", "/no", "HTTP 405 Method Not Allowed", HTTP_ANSWERS, false},
        {"POST", "/no", "", HTTP_WORKS, false},
        {"GET", "/broken", "HTTP 500 Oh", HTTP_ANSWERS, false},
        {"put", "/broken", "HTTP 500 Oh", HTTP_ANSWERS, false},
        {"GET", "/moved", "HTTP 302 Found; see \"allowRedirects\"", HTTP_ANSWERS, false},
        {"GET", "/gone", "", HTTP_FAILS, true},
    };
    static struct rig rig;

    (void)state;
    open_rig(&rig, pages, COUNT_OF(pages));
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        add(&rig, cases[i].method, cases[i].path)->takes_any_status = cases[i].takes_any;
    run(&rig);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(rig.verdicts[i], cases[i].verdict);
        if (cases[i].reason[0] || rig.verdicts[i] == HTTP_WORKS)
            assert_string_equal(rig.reasons[i], cases[i].reason);
        else
            assert_true(rig.reasons[i][0] != 0);
    }
    /* What would change something was not sent. */
    assert_true(peer_saw(&rig.peer, "OPTIONS /no ") && !peer_saw(&rig.peer, "POST ") && !peer_saw(&rig.peer, "put "));
    assert_true(rig.is_replaced[5] && !rig.is_replaced[4]);
    buf_fini(&rig.peer.seen);
}

static void many_servers_are_asked_a_few_at_a_time(void **state)
{
    static const struct peer_page pages[] = {{"/ok", ANSWER("200 OK", ""), PEER_ANSWERS}};
    static struct rig rig;

    (void)state;
    open_rig(&rig, pages, 1);
    for (unsigned i = 0; i < MOST; i++)
        add(&rig, "GET", "/ok");
    run(&rig);
    assert_int_equal(rig.peer.n_requests, MOST);
    assert_true(rig.peer.n_connections <= 16);
    buf_fini(&rig.peer.seen);
}

static void the_origin_of_a_url_ends_where_its_host_does(void **state)
{
    (void)state;
    assert_true(str_eq(http_origin(STR("http://h:80/a?b"), true), STR("http://h:80")));
    assert_true(str_eq(http_origin(STR("https://u:p@h"), true), STR("https://u:p@h")));
    assert_true(str_eq(http_origin(STR("http://h/"), false), STR("http://h")));
    assert_null(http_origin(STR("http://h"), false).p); /* a tag follows: it may be part of the name */
    assert_null(http_origin(STR("/a"), true).p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_judged_by_what_was_asked),
        cmocka_unit_test(many_servers_are_asked_a_few_at_a_time),
        cmocka_unit_test(the_origin_of_a_url_ends_where_its_host_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
