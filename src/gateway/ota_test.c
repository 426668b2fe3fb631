/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/ota.h"

#include "uplink/topics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* The platform is scripted: it assigns a firmware and answers, or does not; time is the fake loop's. */
static struct loop *loop;
static struct north *north;
static struct ota *ota;
static struct log test_log;
static char dir[64], asked[100], telemetry[600];
static unsigned n_asked, n_chunks;

static const char *path_of(const char *name)
{
    static char path[128];

    snprintf(path, sizeof path, "%s%s", dir, name);
    return path;
}

static bool on_send(void *arg, enum limit_kind limit, struct str topic, struct str payload, uint8_t qos)
{
    (void)arg, (void)limit, (void)qos;
    if (str_starts(topic, TOPIC_OWN_ATTRIBUTES_REQUEST)) {
        n_asked++;
        snprintf(asked, sizeof asked, STR_FMT, STR_ARG(str_skip(topic, TOPIC_OWN_ATTRIBUTES_REQUEST.n)));
    } else if (str_starts(topic, TOPIC_FIRMWARE_REQUEST)) {
        n_chunks++;
    } else {
        snprintf(telemetry, sizeof telemetry, STR_FMT, STR_ARG(payload));
    }
    return true;
}

static struct uplink_status on_status(void *arg)
{
    (void)arg;
    return (struct uplink_status){.payload_limit = 1000};
}

static void to_ota(void *arg, enum uplink_state state)
{
    (void)arg;
    ota_state(ota, state);
}

static void chunk(void *arg, uint64_t request, uint64_t i, struct str bytes)
{
    (void)arg;
    ota_chunk(ota, request, i, bytes);
}

static void run(uint64_t ms)
{
    loop_advance(loop, ms);
}

static int begin(void **state)
{
    static const struct north_link link = {.send = on_send, .status = on_status};
    static const struct north_events events = {.state = to_ota, .firmware = chunk};
    struct ota_conf conf = {.log = &test_log, .hook = "/bin/true"};

    (void)state;
    snprintf(dir, sizeof dir, "/tmp/iotgw-ota-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    dir[strlen(dir) + 1] = 0;
    dir[strlen(dir)] = '/';
    n_asked = n_chunks = 0;
    *telemetry = 0;
    log_init(&test_log, "test", LOG_LEVEL_OFF);
    loop = loop_new_fake(1795000000000);
    north = north_new(loop, loop, &test_log, &events, NULL);
    north_attach_link(north, &link, NULL);
    conf.loop = loop;
    conf.dir = dir;
    ota = ota_new(&conf);
    ota_attach(ota, north);
    return 0;
}

static int end(void **state)
{
    static const char *const names[] = {"firmware/firmware.bin", "firmware/installed.json"};

    (void)state;
    ota_stop(ota);
    north_stop(north);
    run(0);
    ota_free(ota);
    north_free(north);
    loop_free(loop);
    log_fini(&test_log);
    for (size_t i = 0; i < COUNT_OF(names); i++)
        unlink(path_of(names[i]));
    rmdir(path_of("firmware"));
    return rmdir(dir);
}

/* A session, in which the platform says what is assigned. */
static void session(void)
{
    autobuf struct buf topic = {0};

    north_uplink_state(north, UPLINK_READY);
    run(0);
    buf_add_str(&topic, TOPIC_OWN_ATTRIBUTES_RESPONSE);
    buf_add_z(&topic, asked);
    north_uplink_message(
        north, buf_str(&topic),
        STR("{\"shared\":{\"fw_title\":\"t\",\"fw_version\":\"2\",\"fw_size\":1500,\"fw_checksum\":\"00000000\","
            "\"fw_checksum_algorithm\":\"CRC32\"}}"));
    run(0);
}

static void close_session(void)
{
    north_uplink_state(north, UPLINK_DOWN);
    run(0);
}

static void test_a_platform_that_closes_instead_of_answering_is_asked_less_and_less(void **state)
{
    unsigned before;
    uint64_t pause_ms = 10000;

    (void)state;
    session();
    assert_int_equal(n_chunks, 1);
    close_session();
    session(); /* once may be an accident */
    assert_int_equal(n_chunks, 2);
    for (unsigned n = 2; n < 10; n++) {
        close_session();
        before = n_chunks;
        session();
        assert_int_equal(n_chunks, before);
        assert_non_null(strstr(telemetry, "\"fw_error\":\"the session has ended"));
        run(pause_ms / 2);
        close_session(); /* for another reason: it was not asked for */
        session();
        run(pause_ms / 2 - 1);
        assert_int_equal(n_chunks, before);
        run(1);
        assert_int_equal(n_chunks, before + 1);
        pause_ms *= 2;
    }
    close_session();
    session();
    run(24 * 3600 * 1000);
    assert_int_equal(n_chunks, before + 1); /* given up */
    assert_non_null(strstr(telemetry, "FAILED"));
}

static void test_a_chunk_that_comes_ends_the_pauses(void **state)
{
    static const uint8_t bytes[1000];

    (void)state;
    session();
    close_session();
    session();
    close_session();
    session();
    run(10000);
    assert_int_equal(n_chunks, 3);
    north_uplink_message(north, STR("v2/fw/response/3/chunk/0"), str_of(bytes, 1000));
    run(0);
    assert_int_equal(n_chunks, 4); /* the next one */
    close_session();
    session();
    assert_int_equal(n_chunks, 5); /* at once */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_platform_that_closes_instead_of_answering_is_asked_less_and_less, begin,
                                        end),
        cmocka_unit_test_setup_teardown(test_a_chunk_that_comes_ends_the_pauses, begin, end),
    };

    return cmocka_run_group_tests_name("gateway: firmware", tests, NULL, NULL);
}
