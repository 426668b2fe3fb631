/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_STREAM_BENCH_H
#define IOTGW_STREAM_BENCH_H
/*
 * For the tests of streams: two ends of a connection on one loop, which record what happens to them, and a CA with its
 * certificates in a temporary directory. Included by tests only.
 */
#include "io/stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#pragma GCC diagnostic ignored "-Wunused-function" /* no test uses everything */

enum { LIMIT_MS = 30000 }; /* a test that takes longer has hung */

/* --- two ends of a connection on one loop --------------------------------------------------------------------------- */
struct side;
typedef void side_fn(struct side *side);

struct side {
    struct bench *bench;
    struct stream *stream;
    unsigned n_open, n_closed, n_sent, n_read;
    enum err err;
    struct why why;
    struct buf got;
    bool keeps_unread; /* .read uses nothing */
    side_fn *on_open, *on_read, *on_sent, *on_closed;
    size_t (*reader)(struct side *side, uint8_t *p, size_t n);
    void *extra;
};

struct bench {
    struct loop *loop;
    struct listener *listener;
    struct side client, server;
    struct closer closer;
    struct timer limit;
    bool has_hung, is_over;
    uint16_t port;
};

static void side_opened(void *arg)
{
    struct side *side = arg;

    side->n_open++;
    if (side->on_open)
        side->on_open(side);
}

static size_t side_read(void *arg, uint8_t *p, size_t n)
{
    struct side *side = arg;

    side->n_read++;
    memset(p + n, 0xee, 16); /* the slack is writable */
    if (side->reader)
        return side->reader(side, p, n);
    if (side->keeps_unread)
        return 0;
    buf_add(&side->got, p, n);
    if (side->on_read)
        side->on_read(side);
    return n;
}

static void side_sent(void *arg)
{
    struct side *side = arg;

    side->n_sent++;
    if (side->on_sent)
        side->on_sent(side);
}

static void side_closed(void *arg, enum err err, const struct why *why)
{
    struct side *side = arg;

    side->n_closed++;
    side->err = err;
    side->why = *why;
    stream_free(side->stream);
    side->stream = NULL;
    if (side->on_closed)
        side->on_closed(side);
}

static const struct stream_events side_events = {
    .open = side_opened, .read = side_read, .sent = side_sent, .closed = side_closed};

static void bench_is_closed(void *arg)
{
    struct bench *bench = arg;

    loop_stop(bench->loop);
}

/* Ends the test's run: closes what is open. */
static void over(struct bench *bench)
{
    if (bench->is_over)
        return;
    bench->is_over = true;
    timer_stop(&bench->limit);
    stream_close(bench->client.stream, true);
    stream_close(bench->server.stream, true);
    closer_begin(&bench->closer, bench->loop, bench_is_closed, bench);
    listener_close(bench->listener, &bench->closer);
    closer_end(&bench->closer);
}

static void side_over(struct side *side)
{
    over(side->bench);
}

static void both_over(struct side *side)
{
    if (side->bench->client.n_closed && side->bench->server.n_closed)
        over(side->bench);
}

static void on_limit(void *arg)
{
    struct bench *bench = arg;

    bench->has_hung = true;
    over(bench);
}

static void server_accepted(void *arg, struct stream *stream)
{
    struct bench *bench = arg;

    if (bench->server.stream || bench->server.n_closed)
        return; /* one is enough: the listener closes it */
    bench->server.stream = stream;
    stream_accept(stream, &side_events, &bench->server);
}

static void bench_init(struct bench *bench, const struct listener_conf *conf)
{
    struct why why = {0};

    *bench = (struct bench){0};
    bench->client.bench = bench->server.bench = bench;
    assert_int_equal(loop_new(&bench->loop, "test"), ERR_OK);
    timer_init(&bench->limit, bench->loop, on_limit, bench);
    timer_start(&bench->limit, LIMIT_MS);
    assert_int_equal(stream_new(&bench->client.stream, bench->loop, &side_events, &bench->client), ERR_OK);
    if (conf) {
        if (listener_new(&bench->listener, bench->loop, conf, server_accepted, bench, &why))
            fail_msg("%s", why_text(&why));
        bench->port = listener_port(bench->listener);
        assert_int_not_equal(bench->port, 0);
    }
}

static void bench_connect(struct bench *bench, const struct tls_conf *tls)
{
    struct stream_conf conf = {.host = "127.0.0.1", .port = bench->port};

    if (tls)
        conf.tls = *tls;
    stream_connect(bench->client.stream, &conf);
}

static void bench_run(struct bench *bench)
{
    assert_int_equal(bench->client.n_open, 0);
    loop_run(bench->loop);
    assert_false(bench->has_hung);
    assert_int_equal(bench->client.n_closed, 1);
    assert_null(bench->client.stream);
    assert_null(bench->server.stream);
}

static void bench_fini(struct bench *bench)
{
    loop_free(bench->loop);
    buf_fini(&bench->client.got);
    buf_fini(&bench->server.got);
}

static const struct listener_conf clear_listener = {.host = "127.0.0.1"};

/* --- certificates ------------------------------------------------------------------------------------------------------- */
static char dir[] = "/tmp/iotgw-stream-XXXXXX";
static char ca[64], other_ca[64], cert[64], key[64], named_cert[64], named_key[64], old_cert[64], old_key[64];
static char client_cert[64], client_key[64], crypted_key[64], early_cert[64];

static void in_dir(char *path, const char *name)
{
    snprintf(path, 64, "%s/%s", dir, name);
}

/* Gives what the shell gives, or -1. */
static int shell(const char *script)
{
    char command[4096];
    int status = -1;
    pid_t child;

    snprintf(command, sizeof command, "cd %s && {\n%s\n} >log 2>&1", dir, script);
    child = fork();
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    return child > 0 && waitpid(child, &status, 0) == child ? status : -1;
}

static int make_certificates(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    in_dir(ca, "ca.pem");
    in_dir(other_ca, "other.pem");
    in_dir(cert, "server.pem");
    in_dir(key, "server.key");
    in_dir(named_cert, "named.pem");
    in_dir(named_key, "named.key");
    in_dir(old_cert, "old.pem");
    in_dir(old_key, "old.key");
    in_dir(client_cert, "client.pem");
    in_dir(client_key, "client.key");
    in_dir(crypted_key, "crypted.key");
    in_dir(early_cert, "early.pem");
    return shell(
        "set -e; NEW='openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'\n"
        "$NEW -x509 -days 30 -subj '/CN=Plant CA' -keyout ca.key -out ca.pem\n"
        "$NEW -x509 -days 30 -subj '/CN=Other CA' -keyout other.key -out other.pem\n"
        "sign() { openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $1.pem -extfile $1.ext "
        "$2; }\n"
        "$NEW -subj '/CN=server' -keyout server.key -out server.csr\n"
        "echo 'subjectAltName=IP:127.0.0.1,DNS:localhost' > server.ext; sign server '-days 30'\n"
        "$NEW -subj '/CN=named' -keyout named.key -out named.csr\n"
        "echo 'subjectAltName=DNS:broker.example,IP:10.9.8.7' > named.ext; sign named '-days 30'\n"
        "$NEW -subj '/CN=old' -keyout old.key -out old.csr; echo 01 > serial; : > index.txt; mkdir new\n"
        "printf "
        "'[ca]\\ndefault_ca=d\\n[d]\\ndatabase=index.txt\\nserial=serial\\nnew_certs_dir=new\\ndefault_md=sha256\\n"
        "unique_subject=no\\npolicy=p\\n[p]\\ncommonName=supplied\\n' > ca.conf\n"
        "openssl ca -batch -notext -config ca.conf -cert ca.pem -keyfile ca.key -in old.csr -out old.pem -extfile "
        "server.ext "
        "-startdate 20200101000000Z -enddate 20210203040500Z\n"
        "openssl ca -batch -notext -config ca.conf -cert ca.pem -keyfile ca.key -in old.csr -out early.pem -extfile "
        "server.ext -startdate 20900101000000Z -enddate 20910203040500Z\n"
        "$NEW -subj '/CN=gateway' -keyout client.key -out client.csr; : > client.ext; sign client '-days 30'\n"
        "openssl pkey -in server.key -aes128 -passout pass:secret -out crypted.key\n");
}

static int remove_certificates(void **state)
{
    (void)state;
    return shell("rm -rf new && rm -f *") | rmdir(dir);
}

static struct listener_conf tls_listener(void)
{
    return (struct listener_conf){.host = "127.0.0.1", .tls = true, .cert_file = cert, .key_file = key};
}

static struct tls_conf tls_with_ca(void)
{
    return (struct tls_conf){.is_on = true, .ca_file = ca};
}

/* --- a word there and a word back ---- */
static void say_hello(struct side *side)
{
    stream_write(side->stream, "hello", 5, true);
}

static void answer_five(struct side *side)
{
    if (side->got.n == 5)
        stream_write(side->stream, "world", 5, true);
}

static void close_after_five(struct side *side)
{
    if (side->got.n == 5)
        stream_close(side->stream, false);
}

static void exchange_hello(const struct listener_conf *listener, const struct tls_conf *tls)
{
    struct bench bench;

    bench_init(&bench, listener);
    bench.client.on_open = say_hello;
    bench.client.on_read = close_after_five;
    bench.server.on_read = answer_five;
    bench.client.on_closed = bench.server.on_closed = both_over;
    bench_connect(&bench, tls);
    assert_string_equal(stream_peer(bench.client.stream), "");
    bench_run(&bench);
    if (bench.client.err)
        fail_msg("%s", why_text(&bench.client.why));
    assert_int_equal(bench.client.n_open, 1);
    assert_int_equal(bench.server.n_open, 1);
    assert_int_equal(bench.server.n_closed, 1);
    assert_int_equal(bench.server.err, ERR_CLOSED);
    assert_true(str_eq(buf_str(&bench.client.got), STR("world")));
    assert_true(str_eq(buf_str(&bench.server.got), STR("hello")));
    assert_int_equal(bench.client.n_sent, 1);
    bench_fini(&bench);
}

static void connect_and_fail(struct bench *bench, const struct stream_conf *conf, enum err want, const char *words)
{
    bench->client.on_closed = side_over;
    stream_connect(bench->client.stream, conf);
    assert_int_equal(bench->client.n_closed, 0); /* never inside the call */
    bench_run(bench);
    if (bench->client.err != want || !strstr(why_text(&bench->client.why), words))
        fail_msg("%s: %s", err_name(bench->client.err), why_text(&bench->client.why));
    assert_int_equal(bench->client.n_open, 0);
    bench_fini(bench);
}

/* A port of this machine that nobody listens on: bound, so that nobody else takes it. */
static int bound_socket(uint16_t *port, bool listens)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    if (listens)
        assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

#endif
