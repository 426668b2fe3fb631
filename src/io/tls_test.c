/* SPDX-License-Identifier: Apache-2.0 */
#include "io/stream_bench.h"

#include <pthread.h>

/* --- TLS: who is believed ------------------------------------------------------------------------------------------------------- */
static void fail_tls(const struct listener_conf *listener, const struct tls_conf *tls, const char *words)
{
    struct bench bench;

    bench_init(&bench, listener);
    bench.client.on_closed = bench.server.on_closed = both_over;
    bench_connect(&bench, tls);
    bench_run(&bench);
    if (bench.client.err != ERR_TLS || !strstr(bench.client.why.text, words))
        fail_msg("%s: %s", err_name(bench.client.err), why_text(&bench.client.why));
    assert_non_null(strstr(bench.client.why.text, "127.0.0.1"));
    bench_fini(&bench);
}

static void test_a_certificate_from_an_unknown_ca_is_refused(void **state)
{
    struct listener_conf listener = tls_listener();
    struct tls_conf tls = {.is_on = true, .ca_file = other_ca};

    (void)state;
    fail_tls(&listener, &tls, "unknown CA, \"Plant CA\"");
    tls.insecure = true; /* with a CA file only the name is left out */
    fail_tls(&listener, &tls, "caCert");
    tls = (struct tls_conf){.is_on = true};
    fail_tls(&listener, &tls, "the system's trust store");
}

static void test_insecure_without_a_ca_believes_everybody(void **state)
{
    struct listener_conf listener = tls_listener();
    struct tls_conf tls = {.is_on = true, .insecure = true};

    (void)state;
    exchange_hello(&listener, &tls);
}

static void test_a_certificate_for_another_name_is_refused_with_its_names(void **state)
{
    struct listener_conf listener = {.host = "127.0.0.1", .tls = true, .cert_file = named_cert, .key_file = named_key};
    struct tls_conf tls = tls_with_ca();

    (void)state;
    fail_tls(&listener, &tls, "other names: broker.example, 10.9.8.7");
    tls.insecure = true;
    exchange_hello(&listener, &tls);
    tls.insecure = false;
    tls.server_name = "broker.example";
    exchange_hello(&listener, &tls);
}

static void test_an_expired_certificate_is_refused_with_its_date(void **state)
{
    struct listener_conf listener = {.host = "127.0.0.1", .tls = true, .cert_file = old_cert, .key_file = old_key};
    struct tls_conf tls = tls_with_ca();

    (void)state;
    fail_tls(&listener, &tls, "expired on 2021-02-03 04:05 UTC");
}

static void test_a_server_may_ask_for_a_client_certificate(void **state)
{
    struct listener_conf listener = tls_listener();
    struct tls_conf tls = tls_with_ca();

    (void)state;
    listener.client_ca_file = ca;
    tls.cert_file = client_cert;
    tls.key_file = client_key;
    exchange_hello(&listener, &tls);
    tls.cert_file = tls.key_file = NULL;
    fail_tls(&listener, &tls, "client certificate");
    listener.client_ca_file = other_ca;
    tls.cert_file = client_cert;
    tls.key_file = client_key;
    fail_tls(&listener, &tls, "client certificate");
}

static void test_files_of_tls_that_cannot_be_used_are_named(void **state)
{
    const struct {
        struct tls_conf tls;
        const char *words;
    } cases[] = {
        {{.is_on = true, .ca_file = "/nowhere/ca.pem"}, "/nowhere/ca.pem cannot be used: No such file"},
        {{.is_on = true, .ca_file = key}, key},
        {{.is_on = true, .ca_file = ca, .cert_file = client_cert}, "only "},
        {{.is_on = true, .ca_file = ca, .cert_file = client_cert, .key_file = key}, "does not belong"},
        {{.is_on = true, .ca_file = ca, .cert_file = cert, .key_file = crypted_key}, crypted_key},
        {{.is_on = true, .ca_file = ca, .cert_file = key, .key_file = key}, "certificate file"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct stream_conf conf = {.host = "127.0.0.1", .port = 1, .tls = cases[i].tls};
        struct bench bench;

        bench_init(&bench, NULL);
        connect_and_fail(&bench, &conf, ERR_CONFIG, cases[i].words);
    }
}

/* --- what is not TLS ---- */
struct raw {
    struct bench *bench;
    const uint8_t *bytes;
    size_t n;
};

/* A TLS client's bytes cut off anywhere, or nonsense, against a TLS server. */
static void send_raw(struct side *side)
{
    const struct raw *raw = side->extra;

    if (raw->n)
        stream_write(side->stream, raw->bytes, raw->n, true);
    stream_close(side->stream, false);
}

static void test_nonsense_instead_of_tls_ends_a_server_stream_with_a_reason(void **state)
{
    static const uint8_t nonsense[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n\x16\x03\x01\xff\xff\x01\x00";
    static const uint8_t truncated[] = {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc};
    struct raw raws[] = {
        {.bytes = nonsense, .n = sizeof nonsense}, {.bytes = truncated, .n = sizeof truncated}, {.n = 0}};
    struct listener_conf listener = tls_listener();

    (void)state;
    for (size_t i = 0; i < COUNT_OF(raws); i++) {
        struct bench bench;

        bench_init(&bench, &listener);
        bench.client.extra = &raws[i];
        bench.client.on_open = send_raw;
        bench.client.on_closed = bench.server.on_closed = both_over;
        bench_connect(&bench, NULL);
        bench_run(&bench);
        assert_int_equal(bench.server.n_open, 0);
        assert_int_equal(bench.server.n_closed, 1);
        assert_int_equal(bench.server.err, i == 0 ? ERR_TLS : ERR_CLOSED);
        bench_fini(&bench);
    }
}

static void answer_nonsense(struct side *side)
{
    stream_write(side->stream, "220 mail.example ESMTP ready\r\n", 30, true);
}

static void test_a_server_without_tls_is_told_from_a_bad_certificate(void **state)
{
    struct tls_conf tls = tls_with_ca();
    struct bench bench;

    (void)state;
    bench_init(&bench, &clear_listener);
    bench.server.on_read = answer_nonsense;
    bench.client.on_closed = bench.server.on_closed = both_over;
    bench_connect(&bench, &tls);
    bench_run(&bench);
    assert_int_equal(bench.client.err, ERR_TLS);
    assert_non_null(strstr(bench.client.why.text, "does not speak TLS"));
    bench_fini(&bench);
}

/* --- over threads ---- */
static void *exchange_many(void *arg UNUSED)
{
    struct listener_conf listener = tls_listener();
    struct tls_conf tls[] = {tls_with_ca(), {.is_on = true, .insecure = true}};

    for (size_t i = 0; i < 10; i++)
        exchange_hello(&listener, &tls[i % 2]);
    return NULL;
}

static void test_loops_on_several_threads_share_the_module(void **state)
{
    pthread_t threads[3];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, exchange_many, NULL), 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loops_on_several_threads_share_the_module), /* first: they load it together */
        cmocka_unit_test(test_nonsense_instead_of_tls_ends_a_server_stream_with_a_reason),
        cmocka_unit_test(test_a_server_without_tls_is_told_from_a_bad_certificate),
        cmocka_unit_test(test_a_certificate_from_an_unknown_ca_is_refused),
        cmocka_unit_test(test_insecure_without_a_ca_believes_everybody),
        cmocka_unit_test(test_a_certificate_for_another_name_is_refused_with_its_names),
        cmocka_unit_test(test_an_expired_certificate_is_refused_with_its_date),
        cmocka_unit_test(test_a_server_may_ask_for_a_client_certificate),
        cmocka_unit_test(test_files_of_tls_that_cannot_be_used_are_named),
    };

    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
