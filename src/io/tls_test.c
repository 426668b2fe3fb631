/* SPDX-License-Identifier: Apache-2.0 */
#include "io/stream_bench.h"
#include "base/clock.h"
#include "io/tls.h"

#include <pthread.h>
#include <unistd.h>

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
    listener.cert_file = early_cert;
    fail_tls(&listener, &tls, "valid only from 2090-01-01 00:00 UTC on");
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

/* --- the module itself ---- */
static void test_a_module_of_another_build_is_refused_and_the_search_goes_on(void **state)
{
    const char *found = getenv("IOTGW_MODULE_DIR");
    char right[512];
    struct why why = {0};

    (void)state;
    assert_non_null(found); /* the build sets it */
    snprintf(right, sizeof right, "%s", found);
    unsetenv("IOTGW_MODULE_DIR");
    assert_null(tls_load(&why));
    assert_int_equal(why.err, ERR_TLS);
    assert_non_null(strstr(why.text, "belongs to another build"));
    assert_non_null(strstr(why.text, "another build, this is"));
    assert_null(tls_load(NULL));
    setenv("IOTGW_MODULE_DIR", dir, 1); /* what stands there is no module */
    assert_int_equal(shell("echo nonsense > iotgw-tls.so"), 0);
    assert_null(tls_load(NULL));
    setenv("IOTGW_MODULE_DIR", right, 1);
}

/* Two sessions without a network between them. */
struct ends {
    const struct tls_api *api;
    struct tls_ctx *client_ctx, *server_ctx;
    struct tls_session *client, *server;
};

static void ends_init(struct ends *ends)
{
    struct tls_conf client = tls_with_ca();
    struct listener_conf server = tls_listener();

    *ends = (struct ends){.api = tls_load(NULL)};
    assert_non_null(ends->api);
    assert_int_equal(ends->api->client_ctx(&ends->client_ctx, &client, NULL), ERR_OK);
    assert_int_equal(ends->api->server_ctx(&ends->server_ctx, &server, NULL), ERR_OK);
    assert_int_equal(ends->api->session_new(&ends->client, ends->client_ctx, "localhost", NULL), ERR_OK);
    assert_int_equal(ends->api->session_new(&ends->server, ends->server_ctx, NULL, NULL), ERR_OK);
}

static void ends_fini(struct ends *ends)
{
    ends->api->session_free(ends->client);
    ends->api->session_free(ends->server);
    ends->api->session_free(NULL);
    ends->api->ctx_free(ends->client_ctx);
    ends->api->ctx_free(ends->server_ctx);
    ends->api->ctx_free(NULL);
}

/* One flight each way; *at counts the bytes that crossed, and the one at flip_at is changed on its way. */
static enum err cross(struct ends *ends, size_t *at, size_t flip_at, bool *client_open, bool *server_open)
{
    bool is_eof;

    for (int i = 0; i < 2; i++) {
        struct buf flight = {0};
        enum err err;

        ends->api->drain(i ? ends->server : ends->client, &flight);
        if (flip_at >= *at && flip_at < *at + flight.n)
            flight.p[flip_at - *at] ^= 0x10;
        *at += flight.n;
        err = ends->api->feed(i ? ends->client : ends->server, flight.p, flight.n, i ? client_open : server_open,
                              &is_eof, NULL);
        buf_fini(&flight);
        if (err)
            return err;
    }
    return ERR_OK;
}

/* Handshake, then a word from the client; true when the server has it. */
static bool says_word(struct ends *ends, size_t *at, size_t flip_at)
{
    const struct iovec word[] = {{"hel", 3}, {"lo", 2}};
    bool client_open = false, server_open = false, is_written = false, is_eof;
    uint8_t got[16];

    for (int i = 0; i < 6; i++) {
        size_t n;

        if (client_open && !is_written) {
            is_written = true;
            if (ends->api->write(ends->client, word, 2, NULL))
                return false;
        }
        if (cross(ends, at, flip_at, &client_open, &server_open))
            return false;
        n = ends->api->read(ends->server, got, sizeof got);
        ends->api->read(ends->client, got + n, sizeof got - n);
        if (ends->api->feed(ends->server, NULL, 0, &server_open, &is_eof, NULL))
            return false;
        if (n)
            return n == 5 && memcmp(got, "hello", 5) == 0;
    }
    return false;
}

static void test_a_changed_byte_anywhere_is_a_failure_and_no_crash(void **state)
{
    struct ends ends;
    size_t n_all = 0, n_passed = 0;

    (void)state;
    ends_init(&ends);
    assert_true(says_word(&ends, &n_all, SIZE_MAX));
    ends_fini(&ends);
    assert_true(n_all > 1000);
    for (size_t at = 0; at < n_all; at += n_all / 300) {
        size_t n = 0;

        ends_init(&ends);
        n_passed += says_word(&ends, &n, at);
        ends_fini(&ends);
    }
    assert_true(n_passed <= 6); /* version bytes of records that nobody looks at */
}

/* --- certificates as such ----------------------------------------------------------------------------------------------------- */
static void put_file(char *path, const struct buf *content)
{
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, content->p, content->n), (ssize_t)content->n);
    close(fd);
}

static void test_a_certificate_made_by_itself_has_its_key_and_ends_when_asked(void **state)
{
    char cert_path[] = "/tmp/iotgw-cert-XXXXXX", key_path[] = "/tmp/iotgw-key-XXXXXX";
    const struct tls_api *tls = tls_load(NULL);
    struct tls_conf conf = {.is_on = true, .insecure = true, .cert_file = cert_path, .key_file = key_path};
    struct buf made = {0}, made_key = {0}, other = {0}, other_key = {0};
    struct tls_ctx *ctx;
    int64_t until_ms = 0, later_ms = 0, days_ms = (int64_t)365 * 86400000;

    (void)state;
    assert_non_null(tls);
    assert_int_equal(tls->self_signed("Gateway of a very long hall name, which goes on and on, past sixty-four", 365,
                                      false, &made, &made_key, NULL),
                     ERR_OK);
    put_file(cert_path, &made);
    put_file(key_path, &made_key);
    assert_int_equal(tls->client_ctx(&ctx, &conf, NULL), ERR_OK);
    tls->ctx_free(ctx);
    assert_int_equal(tls->expiry(cert_path, false, &until_ms, NULL), ERR_OK);
    assert_true(until_ms > clock_wall_ms() + days_ms - 60000 && until_ms < clock_wall_ms() + days_ms + 60000);
    unlink(cert_path);
    /* Of several the first that ends counts; in a bundle the last. */
    assert_int_equal(tls->self_signed("b", 10, true, &other, &other_key, NULL), ERR_OK);
    assert_false(str_eq(buf_str(&made_key), buf_str(&other_key)));
    buf_add_str(&made, buf_str(&other));
    snprintf(cert_path, sizeof cert_path, "/tmp/iotgw-cert-XXXXXX");
    put_file(cert_path, &made);
    assert_int_equal(tls->expiry(cert_path, true, &later_ms, NULL), ERR_OK);
    assert_true(later_ms == until_ms);
    assert_int_equal(tls->expiry(cert_path, false, &later_ms, NULL), ERR_OK);
    assert_true(later_ms < until_ms);
    unlink(cert_path);
    unlink(key_path);
    buf_fini(&made);
    buf_fini(&made_key);
    buf_fini(&other);
    buf_fini(&other_key);
}

static void test_the_end_of_what_is_no_certificate_is_an_error(void **state)
{
    struct why why = {0};
    int64_t until_ms;

    (void)state;
    assert_int_equal(tls_load(NULL)->expiry("/dev/null", false, &until_ms, &why), ERR_CONFIG);
    assert_string_equal(why_text(&why), "/dev/null has no certificate that can be read");
}

static void test_a_server_may_ask_for_a_certificate_without_needing_one(void **state)
{
    struct listener_conf listener = tls_listener();
    struct tls_conf tls = tls_with_ca();

    (void)state;
    listener.asks_client = true;
    exchange_hello(&listener, &tls); /* none is needed */
    tls.cert_file = client_cert;
    tls.key_file = client_key;
    exchange_hello(&listener, &tls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_module_of_another_build_is_refused_and_the_search_goes_on),
        cmocka_unit_test(test_loops_on_several_threads_share_the_module), /* first: they load it together */
        cmocka_unit_test(test_nonsense_instead_of_tls_ends_a_server_stream_with_a_reason),
        cmocka_unit_test(test_a_server_without_tls_is_told_from_a_bad_certificate),
        cmocka_unit_test(test_a_certificate_from_an_unknown_ca_is_refused),
        cmocka_unit_test(test_insecure_without_a_ca_believes_everybody),
        cmocka_unit_test(test_a_certificate_for_another_name_is_refused_with_its_names),
        cmocka_unit_test(test_an_expired_certificate_is_refused_with_its_date),
        cmocka_unit_test(test_a_server_may_ask_for_a_client_certificate),
        cmocka_unit_test(test_a_certificate_made_by_itself_has_its_key_and_ends_when_asked),
        cmocka_unit_test(test_the_end_of_what_is_no_certificate_is_an_error),
        cmocka_unit_test(test_a_server_may_ask_for_a_certificate_without_needing_one),
        cmocka_unit_test(test_files_of_tls_that_cannot_be_used_are_named),
        cmocka_unit_test(test_a_changed_byte_anywhere_is_a_failure_and_no_crash),
    };

    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
