/* SPDX-License-Identifier: Apache-2.0 */
/* The connector's link and the simulated server, over each kind of line and framing, with each fault. */
#include "base/log.h"
#include "modbus_link.h"
#include "modbus_server.h"
#include "modbus_station.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { LIMIT_MS = 60000, REQUESTS = 40, FIRST = 100 }; /* FIRST: below it registers count and tell the time */

static struct rig {
    struct loop *loop;
    struct log log;
    struct modbus_server_conf server_conf;
    struct modbus_server server;
    struct faults faults;
    struct station_conf station_conf;
    struct station *stations[256];
    struct station_counts counts;
    struct modbus_link_conf conf;
    struct modbus_link *link;
    struct modbus_request requests[REQUESTS];
    unsigned n_wanted, n_done, n_right, n_taken, n_up, n_down, n_ups_wanted;
    enum err errs[REQUESTS];
    uint8_t exceptions[REQUESTS];
    struct timer limit;
    struct closer closer;
    char dir[64], path[128];
    void (*on_up)(void);
} rig;

static void on_limit(void *arg)
{
    (void)arg;
    print_message("it has not come to an end: %u of %u\n", rig.n_done, rig.n_wanted);
    abort();
}

static bool answer(void *arg, unsigned port, uint8_t unit, const struct modbus_pdu *ask, struct modbus_pdu *reply)
{
    (void)arg;
    (void)port;
    if (unit > 100)
        return false; /* a dead one */
    if (!rig.stations[unit])
        rig.stations[unit] = station_new(unit);
    station_answer(rig.stations[unit], &rig.station_conf, NULL, 0, ask, reply, &rig.counts);
    return true;
}

static void on_gone(void *arg)
{
    (void)arg;
    loop_stop(rig.loop);
}

static void on_link_closed(void *arg)
{
    (void)arg;
    timer_stop(&rig.limit);
    closer_begin(&rig.closer, rig.loop, on_gone, NULL);
    modbus_server_down(&rig.server, &rig.closer);
    closer_end(&rig.closer);
}

static void end_if_complete(void)
{
    if (rig.n_done == rig.n_wanted && rig.n_up >= rig.n_ups_wanted && rig.link) {
        modbus_link_close(rig.link, on_link_closed, NULL);
        rig.link = NULL;
    }
}

static void on_done(struct modbus_request *request, enum err err, const struct modbus_pdu *reply)
{
    size_t i = (size_t)(request - rig.requests);
    uint16_t address = modbus_be16(request->pdu.bytes + 1);

    rig.errs[i] = err;
    rig.exceptions[i] = reply ? modbus_exception_of(reply) : 0;
    if (!err && !rig.exceptions[i] && request->pdu.bytes[0] == MODBUS_READ_HOLDING) {
        unsigned n = modbus_be16(request->pdu.bytes + 3), n_right = 0;

        for (unsigned j = 0; j < n; j++)
            n_right += modbus_answer_register(reply, j) == address + j;
        rig.n_right += n_right == n;
        rig.n_taken += n_right != n; /* another one's */
    }
    rig.n_done++;
    end_if_complete();
}

static void on_up(void *arg)
{
    (void)arg;
    rig.n_up++;
    if (rig.on_up)
        rig.on_up();
    end_if_complete();
}

static void on_down(void *arg, enum err err, const struct why *why)
{
    (void)arg;
    (void)err;
    assert_true(why_text(why)[0] != 0);
    rig.n_down++;
}

static void ask(uint8_t unit, uint16_t address, unsigned n)
{
    struct modbus_request *request = &rig.requests[rig.n_wanted++];

    request->unit = unit;
    request->retries = 3;
    request->timeout_ms = 300;
    request->done = on_done;
    assert_int_equal(modbus_ask_read(&request->pdu, MODBUS_READ_HOLDING, address, n), ERR_OK);
    modbus_link_send(rig.link, request);
}

/* So many readings, each of another address and length. */
static void ask_many(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        ask((uint8_t)(1 + i % 5), (uint16_t)(FIRST + 10 * i), 1 + i % 9);
}

static int set_up(void **state)
{
    (void)state;
    rig = (struct rig){.station_conf = {.size = 65536, .period_ms = 1000}};
    snprintf(rig.dir, sizeof rig.dir, "/tmp/modbus-wire-XXXXXX");
    assert_non_null(mkdtemp(rig.dir));
    assert_int_equal(loop_new(&rig.loop, "test"), ERR_OK);
    log_init(&rig.log, "test", LOG_LEVEL_OFF);
    timer_init(&rig.limit, rig.loop, on_limit, NULL);
    return 0;
}

static int tear_down(void **state)
{
    char command[128];

    (void)state;
    assert_int_equal(rig.n_taken, 0);
    for (unsigned i = 0; i < 256; i++)
        station_free(rig.stations[i]);
    loop_free(rig.loop);
    snprintf(command, sizeof command, "rm -rf %s", rig.dir);
    assert_int_equal(system(command), 0);
    return 0;
}

static void begin(void)
{
    static const struct modbus_link_events events = {.up = on_up, .down = on_down};
    struct why why = {0};

    rig.server_conf.host = "127.0.0.1";
    rig.server_conf.answer = answer;
    rig.server = (struct modbus_server){.loop = rig.loop, .conf = &rig.server_conf, .faults = &rig.faults};
    if (modbus_server_up(&rig.server, &rig.closer, &why))
        fail_msg("%s", why_text(&why));
    rig.conf.name = "test";
    rig.conf.framing = rig.server_conf.framing;
    rig.conf.line.host = "127.0.0.1";
    rig.conf.line.port = rig.server.port;
    rig.conf.line.timeout_ms = 5000;
    if (rig.server_conf.over == MODBUS_SERVE_PTY)
        rig.conf.line.serial = (struct serial_conf){.path = rig.server_conf.link ? rig.server_conf.link
                                                                                 : modbus_server_device(&rig.server),
                                                    .baudrate = 115200,
                                                    .bytesize = 8,
                                                    .half_stopbits = 2,
                                                    .parity = 'N'};
    rig.link = modbus_link_new(rig.loop, &rig.log, &rig.conf, &events, NULL);
    timer_start(&rig.limit, LIMIT_MS);
}

static void use(enum modbus_framing framing, int over)
{
    static const enum modbus_line_kind kinds[] = {[MODBUS_SERVE_TCP] = MODBUS_LINE_STREAM,
                                                  [MODBUS_SERVE_UDP] = MODBUS_LINE_DATAGRAM,
                                                  [MODBUS_SERVE_PTY] = MODBUS_LINE_SERIAL};

    rig.server_conf.framing = framing;
    rig.server_conf.over = over;
    rig.conf.line.kind = kinds[over];
}

static void add_fault(const char *text)
{
    assert_int_equal(faults_add(&rig.faults, str_from(text), NULL), ERR_OK);
}

static void assert_all_right(void)
{
    assert_int_equal(rig.n_done, rig.n_wanted);
    assert_int_equal(rig.n_right, rig.n_wanted);
}

/* --- lines and framings ------------------------------------------------------------------------------------------------ */
static void speak(enum modbus_framing framing, int over)
{
    use(framing, over);
    begin();
    ask_many(30);
    loop_run(rig.loop);
    assert_all_right();
}

static void test_modbus_tcp(void **state)
{
    (void)state;
    speak(MODBUS_SOCKET, MODBUS_SERVE_TCP);
}

static void test_modbus_tcp_with_many_on_their_way(void **state)
{
    (void)state;
    rig.conf.max_in_flight = 16;
    add_fault("delay 2");
    speak(MODBUS_SOCKET, MODBUS_SERVE_TCP);
}

static void test_udp(void **state)
{
    (void)state;
    rig.conf.max_in_flight = 4;
    speak(MODBUS_SOCKET, MODBUS_SERVE_UDP);
}

static void test_rtu_over_tcp(void **state)
{
    (void)state;
    speak(MODBUS_RTU, MODBUS_SERVE_TCP);
}

static void test_ascii_over_tcp(void **state)
{
    (void)state;
    speak(MODBUS_ASCII, MODBUS_SERVE_TCP);
}

static void test_rtu_over_udp(void **state)
{
    (void)state;
    speak(MODBUS_RTU, MODBUS_SERVE_UDP);
}

static void test_rtu_on_a_serial_line(void **state)
{
    (void)state;
    speak(MODBUS_RTU, MODBUS_SERVE_PTY);
}

static void test_ascii_on_a_serial_line(void **state)
{
    (void)state;
    speak(MODBUS_ASCII, MODBUS_SERVE_PTY);
}

static void test_a_serial_line_that_echoes(void **state)
{
    (void)state;
    rig.server_conf.echoes = rig.conf.local_echo = true;
    speak(MODBUS_RTU, MODBUS_SERVE_PTY);
}

static void test_tls_with_an_encrypted_key(void **state)
{
    static char cert[128], key[128], locked[128];
    char command[1000];

    (void)state;
    snprintf(cert, sizeof cert, "%s/cert.pem", rig.dir);
    snprintf(key, sizeof key, "%s/key.pem", rig.dir);
    snprintf(locked, sizeof locked, "%s/locked.pem", rig.dir);
    snprintf(
        command, sizeof command,
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout %s -out %s -days 2 -subj "
        "/CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 2>/dev/null && openssl pkey -in %s -aes128 -passout "
        "pass:secret -out %s",
        key, cert, key, locked);
    assert_int_equal(system(command), 0);
    rig.server_conf.cert_file = cert;
    rig.server_conf.key_file = key;
    rig.conf.line.tls = (struct tls_conf){
        .is_on = true, .ca_file = cert, .cert_file = cert, .key_file = locked, .key_password = "secret"};
    speak(MODBUS_SOCKET, MODBUS_SERVE_TCP);
}

/* --- faults ---------------------------------------------------------------------------------------------------------------- */
static void test_nothing_wrong_is_ever_believed(void **state)
{
    static const char *const faults[] = {"drop 30",  "late 350:40", "length 30", "cut 30",    "split 60",      "tid 30",
                                         "check 30", "twice 50",    "noise 30",  "hangup 20", "exception 6:40"};

    (void)state;
    for (unsigned i = 0; i < 2 * COUNT_OF(faults); i++) {
        use(i % 2 ? MODBUS_RTU : MODBUS_SOCKET, MODBUS_SERVE_TCP);
        rig.conf.max_in_flight = 4;
        rig.faults = (struct faults){.dice = i};
        rig.n_wanted = rig.n_done = rig.n_right = rig.n_up = rig.n_down = 0;
        memset(rig.requests, 0, sizeof rig.requests);
        add_fault(faults[i / 2]);
        begin();
        ask_many(16);
        loop_run(rig.loop);
        assert_int_equal(rig.n_done, rig.n_wanted);
        assert_true(rig.n_right > 0);
        if (rig.n_taken)
            fail_msg("%s: %u answers were taken for others", faults[i / 2], rig.n_taken);
        loop_free(rig.loop);
        assert_int_equal(loop_new(&rig.loop, "test"), ERR_OK);
        timer_init(&rig.limit, rig.loop, on_limit, NULL);
    }
}

static void test_a_split_answer_is_whole(void **state)
{
    (void)state;
    add_fault("split 100");
    speak(MODBUS_RTU, MODBUS_SERVE_PTY);
}

static void test_noise_on_a_serial_line_is_passed_over(void **state)
{
    (void)state;
    add_fault("noise 100");
    speak(MODBUS_RTU, MODBUS_SERVE_PTY);
}

static void test_a_dead_unit_costs_the_others_nothing_but_time(void **state)
{
    (void)state;
    use(MODBUS_RTU, MODBUS_SERVE_PTY);
    begin();
    ask(200, FIRST, 1);
    ask_many(20);
    loop_run(rig.loop);
    assert_int_equal(rig.errs[0], ERR_TIMEOUT);
    assert_int_equal(rig.n_right, 20);
}

static void test_an_exception_reaches_who_has_asked(void **state)
{
    (void)state;
    use(MODBUS_SOCKET, MODBUS_SERVE_TCP);
    rig.station_conf.size = 200;
    begin();
    ask(1, 199, 2);
    ask(1, 199, 1);
    loop_run(rig.loop);
    assert_int_equal(rig.exceptions[0], MODBUS_ILLEGAL_ADDRESS);
    assert_int_equal(rig.exceptions[1], 0);
}

/* --- the way back ------------------------------------------------------------------------------------------------------------- */
static void drop_once(void)
{
    if (rig.n_up == 1)
        modbus_server_drop(&rig.server);
    else if (rig.n_wanted == 0)
        ask_many(5);
}

static void test_a_connection_that_is_dropped_comes_back(void **state)
{
    (void)state;
    use(MODBUS_SOCKET, MODBUS_SERVE_TCP);
    rig.n_ups_wanted = 2;
    rig.on_up = drop_once;
    begin();
    loop_run(rig.loop);
    assert_all_right();
    assert_int_equal(rig.n_down, 1);
}

static struct timer replug;
static struct closer unplugged;

static void on_replug(void *arg)
{
    struct why why = {0};

    (void)arg;
    if (modbus_server_up(&rig.server, &rig.closer, &why))
        fail_msg("%s", why_text(&why));
}

static void on_unplugged(void *arg)
{
    (void)arg;
    timer_init(&replug, rig.loop, on_replug, NULL);
    timer_start(&replug, 3000); /* by then the pauses between attempts are long */
}

static void unplug_once(void)
{
    if (rig.n_up == 1) {
        closer_begin(&unplugged, rig.loop, on_unplugged, NULL);
        modbus_server_down(&rig.server, &unplugged);
        closer_end(&unplugged);
    } else if (rig.n_wanted == 0) {
        ask_many(5);
    }
}

static void test_a_serial_device_that_is_unplugged_comes_back_with_its_node(void **state)
{
    (void)state;
    use(MODBUS_RTU, MODBUS_SERVE_PTY);
    snprintf(rig.path, sizeof rig.path, "%s/tty", rig.dir);
    rig.server_conf.link = rig.path;
    rig.conf.attempts = 1;
    rig.conf.attempt_pause_ms = rig.conf.failed_pause_ms = 600000; /* it is the node that brings it back */
    rig.n_ups_wanted = 2;
    rig.on_up = unplug_once;
    begin();
    loop_run(rig.loop);
    assert_all_right();
    assert_int_equal(rig.n_down, 1);
}

static void on_refused(void *arg, enum err err, const struct why *why)
{
    (void)arg;
    assert_int_equal(err, ERR_NOTFOUND);
    assert_non_null(strstr(why->text, "no-such-tty"));
    timer_stop(&rig.limit);
    modbus_link_close(rig.link, on_gone, NULL);
}

static void test_a_device_that_is_not_there_is_named(void **state)
{
    static const struct modbus_link_events events = {.down = on_refused};

    (void)state;
    rig.conf.name = "test";
    rig.conf.framing = MODBUS_RTU;
    rig.conf.line.kind = MODBUS_LINE_SERIAL;
    snprintf(rig.path, sizeof rig.path, "%s/no-such-tty", rig.dir);
    rig.conf.line.serial =
        (struct serial_conf){.path = rig.path, .baudrate = 9600, .bytesize = 8, .half_stopbits = 2, .parity = 'E'};
    rig.link = modbus_link_new(rig.loop, &rig.log, &rig.conf, &events, NULL);
    timer_start(&rig.limit, LIMIT_MS);
    loop_run(rig.loop);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_modbus_tcp),
        T(test_modbus_tcp_with_many_on_their_way),
        T(test_udp),
        T(test_rtu_over_tcp),
        T(test_ascii_over_tcp),
        T(test_rtu_over_udp),
        T(test_rtu_on_a_serial_line),
        T(test_ascii_on_a_serial_line),
        T(test_a_serial_line_that_echoes),
        T(test_tls_with_an_encrypted_key),
        T(test_nothing_wrong_is_ever_believed),
        T(test_a_split_answer_is_whole),
        T(test_noise_on_a_serial_line_is_passed_over),
        T(test_a_dead_unit_costs_the_others_nothing_but_time),
        T(test_an_exception_reaches_who_has_asked),
        T(test_a_connection_that_is_dropped_comes_back),
        T(test_a_serial_device_that_is_unplugged_comes_back_with_its_node),
        T(test_a_device_that_is_not_there_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
