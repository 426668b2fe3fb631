/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "http/http_server.h"
#include "io/stream.h"
#include "io/tls.h"
#include "rest_cert.h"

#include <stdio.h>
#include <unistd.h>

struct place {
    char directory[40], cert[60], key[60];
};

static void place_open(struct place *place)
{
    snprintf(place->directory, sizeof place->directory, "/tmp/iotgw-rest-XXXXXX");
    assert_non_null(mkdtemp(place->directory));
    snprintf(place->cert, sizeof place->cert, "%s/domain_srv.crt", place->directory);
    snprintf(place->key, sizeof place->key, "%s/domain_srv.key", place->directory);
}

static void place_close(struct place *place)
{
    unlink(place->cert);
    unlink(place->key);
    assert_int_equal(rmdir(place->directory), 0);
}

static bool make(struct place *place)
{
    struct why why = {0};
    bool is_new;

    if (rest_cert_make(place->directory, "127.0.0.1", clock_wall_ms(), place->cert, place->key, &is_new, &why) !=
        ERR_OK)
        fail_msg("%s", why_text(&why));
    return is_new;
}

static struct buf text_of(const char *path)
{
    struct buf text = {0};

    assert_int_equal(file_read(&text, path, 100000, NULL), ERR_OK);
    return text;
}

static void put_pair(struct place *place, unsigned days, bool with_key)
{
    autobuf struct buf cert = {0};
    autobuf struct buf key = {0};

    assert_int_equal(tls_load(NULL)->self_signed("x", days, true, &cert, &key, NULL), ERR_OK);
    assert_int_equal(file_put(place->cert, buf_str(&cert), FILE_REPLACE, NULL, NULL), ERR_OK);
    if (with_key)
        assert_int_equal(file_put(place->key, buf_str(&key), FILE_REPLACE, NULL, NULL), ERR_OK);
}

static void a_certificate_is_made_once_and_anew_when_it_is_of_no_use(void **state)
{
    struct place place;
    struct why why = {0};
    autobuf struct buf before = {0};
    autobuf struct buf after = {0};
    bool is_new;

    (void)state;
    place_open(&place);
    assert_true(make(&place));
    before = text_of(place.key);
    assert_false(make(&place));
    after = text_of(place.key);
    assert_true(str_eq(buf_str(&before), buf_str(&after)));
    put_pair(&place, 4, true);
    assert_false(make(&place));
    put_pair(&place, 2, true); /* ends soon */
    assert_true(make(&place) && !make(&place));
    put_pair(&place, 100, false); /* of another key */
    assert_true(make(&place) && !make(&place));
    unlink(place.key);
    assert_true(make(&place));
    assert_int_equal(
        rest_cert_make("/proc/no/such", "h", clock_wall_ms(), "/proc/no/such/a", "/proc/no/such/b", &is_new, &why),
        ERR_NOTFOUND);
    assert_false(is_new);
    assert_non_null(strstr(why_text(&why), "/proc/no/such"));
    place_close(&place);
}

/* --- by the thread -------------------------------------------------------------------------------------------------------- */

static const struct connector_type type = {.size = sizeof type, .abi = IOTGW_CONNECTOR_ABI, .name = "test"};
struct rig {
    struct loop *loop;
    struct ctx_host host;
    struct ctx *ctx;
    struct rest_cert cert;
    unsigned n_ready, n_new;
    bool is_closed;
};

static void ready(void *arg, enum err err, bool is_new, const struct why *why)
{
    struct rig *rig = arg;

    if (err)
        fail_msg("%s", why_text(why));
    rig->n_ready++;
    rig->n_new += is_new;
    loop_stop(rig->loop);
}

static void closed(void *arg)
{
    struct rig *rig = arg;

    rig->is_closed = true;
    loop_stop(rig->loop);
}

static void rig_open(struct rig *rig, struct place *place)
{
    *rig = (struct rig){.cert = {.ready = ready, .arg = rig}};
    ctx_setup();
    assert_int_equal(loop_new(&rig->loop, "test"), ERR_OK);
    rig->ctx = ctx_new(&type, "test", rig->loop, &rig->host, NULL);
    rest_cert_init(&rig->cert, rig->ctx, place->directory, "127.0.0.1");
    assert_string_equal(rig->cert.cert_file, place->cert);
    assert_string_equal(rig->cert.key_file, place->key);
}

static void rig_close(struct rig *rig)
{
    rest_cert_fini(&rig->cert);
    ctx_unref(rig->ctx);
    loop_free(rig->loop);
}

static void it_is_looked_at_again_and_replaced_before_it_ends(void **state)
{
    struct place place;
    struct rig rig;

    (void)state;
    place_open(&place);
    rig_open(&rig, &place);
    rest_cert_ask(&rig.cert);
    rest_cert_ask(&rig.cert); /* it looks already */
    loop_run(rig.loop);
    assert_true(rig.n_ready == 1 && rig.n_new == 1);
    assert_true(timer_is_running(&rig.cert.again));
    put_pair(&place, 2, true);
    rest_cert_ask(&rig.cert);
    assert_false(timer_is_running(&rig.cert.again));
    loop_run(rig.loop);
    assert_true(rig.n_ready == 2 && rig.n_new == 2);
    assert_false(rest_cert_close(&rig.cert, closed, &rig));
    assert_false(timer_is_running(&rig.cert.again));
    rig_close(&rig);
    place_close(&place);
}

static void closing_waits_for_the_thread_and_tells_nothing_more(void **state)
{
    struct place place;
    struct rig rig;

    (void)state;
    place_open(&place);
    rig_open(&rig, &place);
    rest_cert_ask(&rig.cert);
    assert_true(rest_cert_close(&rig.cert, closed, &rig));
    loop_run(rig.loop);
    assert_true(rig.is_closed && rig.n_ready == 0);
    rig_close(&rig);
    place_close(&place);
}

/* --- in a server that runs ------------------------------------------------------------------------------------------------ */

enum { TALKS = 3 };
struct talk {
    struct loop *loop;
    struct log log;
    struct place one, two;
    struct http_server *server;
    struct stream *stream;
    struct timer next;
    struct buf pems[TALKS]; /* what each client was shown */
    unsigned n;
    struct why why; /* of the pair that does not belong together */
};

static void server_closed(void *arg)
{
    struct talk *talk = arg;

    loop_stop(talk->loop);
}

static void on_open(void *arg)
{
    struct talk *talk = arg;

    assert_true(stream_peer_certificate(talk->stream, &talk->pems[talk->n]));
    stream_close(talk->stream, false);
}

static size_t on_read(void *arg, uint8_t *p, size_t n)
{
    (void)arg, (void)p;
    return n;
}

static void on_closed(void *arg, enum err err, const struct why *why)
{
    struct talk *talk = arg;

    if (err)
        fail_msg("%s", why_text(why));
    stream_free(talk->stream);
    talk->n++;
    timer_start(&talk->next, 0);
}

static void next_client(void *arg)
{
    static const struct stream_events events = {.open = on_open, .read = on_read, .closed = on_closed};
    struct talk *talk = arg;
    const struct stream_conf to = {
        .host = "127.0.0.1", .port = http_server_port(talk->server), .tls = {.is_on = true, .insecure = true}};

    if (talk->n == TALKS) {
        http_server_close(talk->server, server_closed, talk);
        return;
    }
    if (talk->n == 1)
        assert_int_equal(http_server_renew(talk->server, talk->two.cert, talk->two.key, &talk->why), ERR_OK);
    if (talk->n == 2)
        assert_int_not_equal(http_server_renew(talk->server, talk->one.cert, talk->two.key, &talk->why), ERR_OK);
    assert_int_equal(stream_new(&talk->stream, talk->loop, &events, talk), ERR_OK);
    stream_connect(talk->stream, &to);
}

static void on_request(void *arg, struct http_request *request)
{
    (void)arg;
    http_answer_error(request, 404, "nothing");
}

static void a_server_shows_its_new_certificate_without_being_closed(void **state)
{
    static const struct http_server_events events = {.request = on_request};
    static struct talk talk;
    struct http_server_conf conf = {
        .host = "127.0.0.1", .tls = true, .cert_file = talk.one.cert, .key_file = talk.one.key};
    struct buf one, two;

    (void)state;
    place_open(&talk.one);
    place_open(&talk.two);
    assert_true(make(&talk.one) && make(&talk.two));
    log_init(&talk.log, "test", LOG_LEVEL_OFF);
    assert_int_equal(loop_new(&talk.loop, "test"), ERR_OK);
    assert_int_equal(http_server_new(&talk.server, talk.loop, &talk.log, &conf, &events, NULL, NULL), ERR_OK);
    timer_init(&talk.next, talk.loop, next_client, &talk);
    timer_start(&talk.next, 0);
    loop_run(talk.loop);
    loop_free(talk.loop);
    one = text_of(talk.one.cert);
    two = text_of(talk.two.cert);
    assert_true(str_eq(buf_str(&talk.pems[0]), buf_str(&one)));
    assert_true(str_eq(buf_str(&talk.pems[1]), buf_str(&two)) && str_eq(buf_str(&talk.pems[2]), buf_str(&two)));
    assert_non_null(strstr(why_text(&talk.why), "does not belong to"));
    buf_fini(&one);
    buf_fini(&two);
    for (unsigned i = 0; i < TALKS; i++)
        buf_fini(&talk.pems[i]);
    place_close(&talk.one);
    place_close(&talk.two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_certificate_is_made_once_and_anew_when_it_is_of_no_use),
        cmocka_unit_test(it_is_looked_at_again_and_replaced_before_it_ends),
        cmocka_unit_test(closing_waits_for_the_thread_and_tells_nothing_more),
        cmocka_unit_test(a_server_shows_its_new_certificate_without_being_closed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
