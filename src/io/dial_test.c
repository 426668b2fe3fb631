/* SPDX-License-Identifier: Apache-2.0 */
#include "io/stream_bench.h"
#include "io/stream_impl.h"

#include <ctype.h>
#include <netdb.h>
#include <semaphore.h>

/* --- a resolver of our own, for names that end in ".test" ------------------------------------------------------------ */
/* libuv finds these two before the C library's, because the test exports its symbols. */
static const char *const *scripted; /* addresses, NULL at the end */
static sem_t lookup_may_end;
static bool lookup_waits;

static struct addrinfo *new_info(const char *text)
{
    struct addrinfo *info = mem_zero(sizeof *info);
    struct sockaddr_storage *address = mem_zero(sizeof *address);

    info->ai_addr = (struct sockaddr *)address;
    info->ai_family = strchr(text, ':') ? AF_INET6 : AF_INET;
    info->ai_addrlen = sizeof *address;
    if (info->ai_family == AF_INET6)
        assert_int_equal(uv_ip6_addr(text, 0, (struct sockaddr_in6 *)address), 0);
    else
        assert_int_equal(uv_ip4_addr(text, 0, (struct sockaddr_in *)address), 0);
    return info;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints UNUSED, struct addrinfo **out)
{
    struct addrinfo **end = out;
    static const char *const loopback[] = {"127.0.0.1", NULL};
    const char *itself[] = {name, NULL};
    const char *const *texts = scripted;

    *out = NULL;
    if (lookup_waits)
        sem_wait(&lookup_may_end);
    if (!name || strstr(name, ".invalid"))
        return EAI_NONAME;
    if (!strstr(name, ".test"))
        texts = isdigit((unsigned char)*name) ? itself : loopback;
    for (; texts && *texts; texts++) {
        *end = new_info(*texts);
        if (service)
            ((struct sockaddr_in *)(void *)(*end)->ai_addr)->sin_port = htons((uint16_t)strtoul(service, NULL, 10));
        end = &(*end)->ai_next;
    }
    return 0;
}

void freeaddrinfo(struct addrinfo *info)
{
    while (info) {
        struct addrinfo *next = info->ai_next;

        mem_free(info->ai_addr);
        mem_free(info);
        info = next;
    }
}

/* --- connections that do not come about ---------- */
static void test_a_refused_connection_says_who_refused(void **state)
{
    struct stream_conf conf = {.host = "127.0.0.1"};
    struct bench bench;
    int fd = bound_socket(&conf.port, false);
    char words[64];

    (void)state;
    snprintf(words, sizeof words, "127.0.0.1:%u: Connection refused", conf.port);
    bench_init(&bench, NULL);
    connect_and_fail(&bench, &conf, ERR_REFUSED, words);
    conf.host = "localhost"; /* all its addresses are tried */
    bench_init(&bench, NULL);
    connect_and_fail(&bench, &conf, ERR_REFUSED, words);
    close(fd);
}

static void test_a_name_that_does_not_exist_is_a_failure_of_resolving(void **state)
{
    struct stream_conf conf = {.host = "no-such-host.invalid", .port = 1883};
    char longest[400];
    struct bench bench;

    (void)state;
    bench_init(&bench, NULL);
    connect_and_fail(&bench, &conf, ERR_RESOLVE, "no-such-host.invalid");
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    conf.host = longest;
    bench_init(&bench, NULL);
    connect_and_fail(&bench, &conf, ERR_RESOLVE, "cannot be resolved");
    conf.host = "bad name\r\n";
    bench_init(&bench, NULL);
    connect_and_fail(&bench, &conf, ERR_CONFIG, "not the name");
    conf.host = "";
    bench_init(&bench, NULL);
    connect_and_fail(&bench, &conf, ERR_CONFIG, "not the name");
    conf.host = "a.example";
    conf.proxy_host = "p\n";
    bench_init(&bench, NULL);
    connect_and_fail(&bench, &conf, ERR_CONFIG, "proxy");
}

static void test_a_listener_that_accepts_nobody_is_a_timeout(void **state)
{
    struct stream_conf conf = {.host = "127.0.0.1", .timeout_ms = 60, .tls = tls_with_ca()};
    struct bench bench;
    int fd = bound_socket(&conf.port, true);

    (void)state;
    bench_init(&bench, NULL);
    connect_and_fail(&bench, &conf, ERR_TIMEOUT, "TLS handshake");
    close(fd);
}

static void test_a_network_that_swallows_packets_is_a_timeout(void **state)
{
    struct stream_conf conf = {.host = "127.0.0.1", .timeout_ms = 60};
    struct bench bench;
    int fd = bound_socket(&conf.port, true), fillers[8];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(fillers); i++) { /* a full backlog: the kernel drops what comes then */
        struct sockaddr_in address = {
            .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(conf.port)};

        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        assert_true(fillers[i] >= 0);
        assert_true(!connect(fillers[i], (struct sockaddr *)&address, sizeof address) || errno == EINPROGRESS);
    }
    bench_init(&bench, NULL);
    connect_and_fail(&bench, &conf, ERR_TIMEOUT, "no address answered");
    for (size_t i = 0; i < COUNT_OF(fillers); i++)
        close(fillers[i]);
    close(fd);
}

static void test_closing_while_connecting_ends_with_one_event(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost", "no-such-host.invalid"};
    struct bench bench;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(hosts); i++) {
        struct stream_conf conf = {.host = hosts[i]};

        bench_init(&bench, &clear_listener);
        conf.port = bench.port;
        bench.client.on_closed = side_over;
        stream_connect(bench.client.stream, &conf);
        stream_close(bench.client.stream, i == 0);
        stream_close(bench.client.stream, true);
        bench_run(&bench);
        assert_int_equal(bench.client.err, ERR_OK);
        assert_int_equal(bench.client.n_open, 0);
        bench_fini(&bench);
    }
}

static void test_a_stream_that_never_began_can_be_closed_or_freed(void **state)
{
    struct stream *stream = NULL;
    struct bench bench;

    (void)state;
    bench_init(&bench, NULL);
    bench.client.on_closed = side_over;
    assert_int_equal(stream_new(&stream, bench.loop, &side_events, &bench.client), ERR_OK);
    assert_ptr_equal(stream_loop(stream), bench.loop);
    stream_free(stream);
    stream_free(NULL);
    stream_close(NULL, true);
    stream_close(bench.client.stream, false);
    bench_run(&bench);
    bench_fini(&bench);
}

static void test_a_name_with_several_addresses_is_tried_until_one_answers(void **state)
{
    struct stream_conf conf = {.host = "localhost"}; /* ::1 refuses where there is IPv6, 127.0.0.1 answers */
    struct bench bench;

    (void)state;
    bench_init(&bench, &clear_listener);
    conf.port = bench.port;
    bench.client.on_open = say_hello;
    bench.server.on_read = side_over;
    stream_connect(bench.client.stream, &conf);
    bench_run(&bench);
    assert_int_equal(bench.client.n_open, 1);
    assert_int_equal(bench.server.got.n, 5);
    bench_fini(&bench);
}

/* --- several addresses ---- */
static bool has_ip6(void)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    bool has = fd >= 0 && !bind(fd, (struct sockaddr *)&address, sizeof address);

    if (fd >= 0)
        close(fd);
    return has;
}

static void test_families_take_turns_and_every_failure_is_told(void **state)
{
    static const char *const addresses[] = {"127.0.0.3", "127.0.0.2", "127.0.0.4", "::1", NULL};
    struct stream_conf conf = {.host = "plant.test"};
    int fd = bound_socket(&conf.port, false);
    struct bench bench;
    char words[300];

    (void)state;
    scripted = addresses;
    bench_init(&bench, NULL);
    snprintf(words, sizeof words,
             "\"plant.test\": 127.0.0.3:%u: Connection refused; [::1]:%u: %s; 127.0.0.2:%u: Connection refused; "
             "127.0.0.4:%u: Connection refused",
             conf.port, conf.port, has_ip6() ? "Connection refused" : "Cannot assign requested address", conf.port,
             conf.port);
    connect_and_fail(&bench, &conf, ERR_REFUSED, words);
    close(fd);
}

static void test_a_name_without_addresses_is_a_failure_of_resolving(void **state)
{
    static const char *const none[] = {NULL};
    struct stream_conf conf = {.host = "empty.test", .port = 1};
    struct bench bench;

    (void)state;
    scripted = none;
    bench_init(&bench, NULL);
    connect_and_fail(&bench, &conf, ERR_RESOLVE, "it has no address");
}

static void test_more_addresses_than_are_tried_do_no_harm(void **state)
{
    static const char *many[40];
    struct stream_conf conf = {.host = "many.test"};
    int fd = bound_socket(&conf.port, false);
    struct bench bench;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(many) - 1; i++)
        many[i] = "127.0.0.9";
    scripted = many;
    bench_init(&bench, NULL);
    connect_and_fail(&bench, &conf, ERR_REFUSED, "127.0.0.9");
    close(fd);
}

/* The first address swallows packets: the second one is tried while the first is still silent. */
static void test_a_silent_address_does_not_hold_up_the_next(void **state)
{
    static const char *const addresses[] = {"127.0.0.1", "127.0.0.2", NULL};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct listener_conf listener = {.host = "127.0.0.2"};
    struct stream_conf conf = {.host = "plant.test", .timeout_ms = 20000};
    struct bench bench;
    int fd, fillers[8];

    (void)state;
    fd = bound_socket(&conf.port, true);
    address.sin_port = htons(conf.port);
    for (size_t i = 0; i < COUNT_OF(fillers); i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        assert_true(!connect(fillers[i], (struct sockaddr *)&address, sizeof address) || errno == EINPROGRESS);
    }
    scripted = addresses;
    listener.port = conf.port;
    bench_init(&bench, &listener);
    bench.client.on_open = say_hello;
    bench.server.on_read = side_over;
    stream_connect(bench.client.stream, &conf);
    bench_run(&bench);
    assert_int_equal(bench.client.n_open, 1);
    assert_int_equal(bench.server.got.n, 5);
    bench_fini(&bench);
    for (size_t i = 0; i < COUNT_OF(fillers); i++)
        close(fillers[i]);
    close(fd);
}

static void close_client(void *arg)
{
    struct bench *bench = arg;

    stream_close(bench->client.stream, true);
}

static void end_lookup(void *arg UNUSED)
{
    sem_post(&lookup_may_end);
}

static void test_a_lookup_that_hangs_outlives_its_stream(void **state)
{
    struct stream_conf conf = {.host = "slow.test", .port = 1, .timeout_ms = 30};
    struct timer close_timer, end_timer;
    struct bench bench;

    (void)state;
    for (int i = 0; i < 2; i++) { /* the timeout, or the user, ends it */
        sem_init(&lookup_may_end, 0, 0);
        lookup_waits = true;
        bench_init(&bench, NULL);
        bench.client.on_closed = side_over;
        timer_init(&close_timer, bench.loop, close_client, &bench);
        if (i)
            timer_start(&close_timer, 5);
        timer_init(&end_timer, bench.loop, end_lookup, NULL);
        timer_start(&end_timer, 60); /* loop_run waits for the look-up, stopped as it is */
        stream_connect(bench.client.stream, &conf);
        bench_run(&bench);
        lookup_waits = false;
        assert_int_equal(bench.client.err, i ? ERR_OK : ERR_TIMEOUT);
        if (!i)
            assert_non_null(strstr(bench.client.why.text, "looked up"));
        bench_fini(&bench);
        sem_destroy(&lookup_may_end);
    }
}

static void test_addresses_are_printed_as_people_write_them(void **state)
{
    struct sockaddr_in6 in6;
    struct sockaddr_in in;
    char text[64];

    (void)state;
    assert_int_equal(uv_ip6_addr("2001:db8::7", 1883, &in6), 0);
    sock_print((struct sockaddr *)&in6, text, sizeof text);
    assert_string_equal(text, "[2001:db8::7]:1883");
    assert_int_equal(uv_ip4_addr("10.0.0.7", 502, &in), 0);
    sock_print((struct sockaddr *)&in, text, sizeof text);
    assert_string_equal(text, "10.0.0.7:502");
}

static void test_numbers_of_libuv_become_our_words(void **state)
{
    static const struct {
        int number;
        enum err err;
    } cases[] = {{0, ERR_OK},
                 {5, ERR_OK},
                 {UV_EOF, ERR_CLOSED},
                 {UV_ECONNREFUSED, ERR_REFUSED},
                 {UV_ETIMEDOUT, ERR_TIMEOUT},
                 {UV_EAI_NONAME, ERR_RESOLVE},
                 {UV_EAI_MEMORY, ERR_NOMEM},
                 {UV_EAI_CANCELED, ERR_CANCELLED},
                 {UV_UNKNOWN, ERR_IO}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(err_from_uv(cases[i].number), cases[i].err);
}

/* --- through a proxy -------------------------------------------------------------------------------------------------------- */
struct proxy {
    const char *answer, *early; /* early: what the other end of the tunnel says first */
    struct buf request;
    const char *host;
    struct bench *bench;
    bool is_tunnel;
};

static void proxy_check_over(struct side *side)
{
    const struct proxy *proxy = side->bench->server.extra;

    if (side->bench->server.got.n == 5 && side->bench->client.got.n == (proxy->early ? strlen(proxy->early) : 0))
        over(side->bench);
}

static size_t proxy_read(struct side *side, uint8_t *p, size_t n)
{
    struct proxy *proxy = side->extra;

    if (proxy->is_tunnel) {
        buf_add(&side->got, p, n);
        proxy_check_over(side);
        return n;
    }
    buf_add(&proxy->request, p, n);
    if (str_ends(buf_str(&proxy->request), STR("\r\n\r\n"))) {
        proxy->is_tunnel = true;
        stream_write(side->stream, proxy->answer, strlen(proxy->answer), true);
        if (!*proxy->answer)
            stream_close(side->stream, true);
        if (proxy->early)
            stream_write(side->stream, proxy->early, strlen(proxy->early), true);
    }
    return n;
}

static void proxy_run(struct bench *bench, struct proxy *proxy, bool tls, uint32_t timeout_ms)
{
    struct stream_conf conf = {.host = proxy->host,
                               .port = 8883,
                               .proxy_host = "127.0.0.1",
                               .proxy_port = bench->port,
                               .timeout_ms = timeout_ms,
                               .tls = {.is_on = tls, .insecure = true}};

    bench->server.extra = proxy;
    bench->server.reader = proxy_read;
    bench->client.on_open = say_hello;
    bench->client.on_read = proxy_check_over;
    bench->client.on_closed = side_over;
    stream_connect(bench->client.stream, &conf);
    bench_run(bench);
}

static void test_a_proxy_is_asked_for_a_tunnel(void **state)
{
    struct proxy proxy = {.host = "platform.example",
                          .answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 Connection established\r\nX: y\r\n\r\n",
                          .early = "greeting"};
    struct bench bench;

    (void)state;
    bench_init(&bench, &clear_listener);
    proxy_run(&bench, &proxy, false, 0);
    assert_true(str_eq(buf_str(&proxy.request),
                       STR("CONNECT platform.example:8883 HTTP/1.1\r\nHost: platform.example:8883\r\n\r\n")));
    assert_true(str_eq(buf_str(&bench.server.got), STR("hello")));
    assert_true(str_eq(buf_str(&bench.client.got), STR("greeting")));
    buf_fini(&proxy.request);
    bench_fini(&bench);
}

static void test_a_proxy_that_refuses_is_quoted(void **state)
{
    const struct {
        const char *answer;
        enum err err;
        const char *words;
    } cases[] = {
        {"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", ERR_AUTH, "407 Proxy Authentication Required"},
        {"HTTP/1.0 502 Bad Gateway\r\n\r\n", ERR_REFUSED, "502 Bad Gateway"},
        {"SSH-2.0-x\r\n\r\n", ERR_PROTO, "does not answer in HTTP"},
        {"HTTP/1.1 2x0 OK\r\n\r\n", ERR_PROTO, "does not answer in HTTP"},
        {"HTTP/1.1 200 half", ERR_TIMEOUT, "proxy did not answer"},
        {"", ERR_CLOSED, "before the proxy had answered"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct proxy proxy = {.host = "2001:db8::1", .answer = cases[i].answer};
        struct bench bench;

        bench_init(&bench, &clear_listener);
        proxy_run(&bench, &proxy, i & 1, cases[i].err == ERR_TIMEOUT ? 80 : 0);
        if (bench.client.err != cases[i].err || !strstr(bench.client.why.text, cases[i].words))
            fail_msg("%s: %s", err_name(bench.client.err), why_text(&bench.client.why));
        assert_true(str_starts(buf_str(&proxy.request), STR("CONNECT [2001:db8::1]:8883 HTTP/1.1\r\n")));
        buf_fini(&proxy.request);
        bench_fini(&bench);
    }
}

static void test_a_proxy_whose_answer_has_no_end_is_left(void **state)
{
    struct bench bench;
    char *answer = mem_new(40001);
    struct proxy proxy = {.host = "a.example", .answer = answer};

    (void)state;
    memset(answer, 'x', 40000);
    answer[40000] = 0;
    bench_init(&bench, &clear_listener);
    proxy_run(&bench, &proxy, false, 0);
    assert_int_equal(bench.client.err, ERR_LIMIT);
    buf_fini(&proxy.request);
    mem_free(answer);
    bench_fini(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_refused_connection_says_who_refused),
        cmocka_unit_test(test_a_name_that_does_not_exist_is_a_failure_of_resolving),
        cmocka_unit_test(test_a_listener_that_accepts_nobody_is_a_timeout),
        cmocka_unit_test(test_a_network_that_swallows_packets_is_a_timeout),
        cmocka_unit_test(test_closing_while_connecting_ends_with_one_event),
        cmocka_unit_test(test_a_stream_that_never_began_can_be_closed_or_freed),
        cmocka_unit_test(test_a_name_with_several_addresses_is_tried_until_one_answers),
        cmocka_unit_test(test_families_take_turns_and_every_failure_is_told),
        cmocka_unit_test(test_a_name_without_addresses_is_a_failure_of_resolving),
        cmocka_unit_test(test_more_addresses_than_are_tried_do_no_harm),
        cmocka_unit_test(test_a_silent_address_does_not_hold_up_the_next),
        cmocka_unit_test(test_a_lookup_that_hangs_outlives_its_stream),
        cmocka_unit_test(test_addresses_are_printed_as_people_write_them),
        cmocka_unit_test(test_numbers_of_libuv_become_our_words),
        cmocka_unit_test(test_a_proxy_is_asked_for_a_tunnel),
        cmocka_unit_test(test_a_proxy_that_refuses_is_quoted),
        cmocka_unit_test(test_a_proxy_whose_answer_has_no_end_is_left),
    };

    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
