/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/file.h"
#include "data/json.h"
#include "uplink/provision.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* The MQTT client is scripted here: the test links its own mqtt_* instead of the room's. Time is the fake loop's. */
struct mqtt {
    struct mqtt_events events;
    void *arg;
    struct mqtt_conf conf;
    bool is_busy, is_disconnecting;
    unsigned n_connects;
    char filter[80], topic[80], payload[2000];
    uint8_t qos;
    struct timer closing;
};

static struct mqtt *client;
static struct loop *loop;
static struct log test_log;
static struct provision *provision;
static struct provision_conf conf;
static char folder[40], path[80];
static unsigned n_done, n_failed;
static enum err failure;
static char reason[500], logged[4000];
static struct credentials given;

static void closing(void *arg)
{
    struct mqtt *mqtt = arg;

    mqtt->is_busy = mqtt->is_disconnecting = false;
    mqtt->events.closed(mqtt->arg, ERR_OK, &(struct why){0});
}

struct mqtt *mqtt_new(struct loop *l, struct log *log, const struct mqtt_events *events, void *arg)
{
    (void)log;
    client = mem_zero(sizeof *client);
    client->events = *events;
    client->arg = arg;
    timer_init(&client->closing, l, closing, client);
    return client;
}

void mqtt_free(struct mqtt *mqtt)
{
    assert_false(mqtt->is_busy);
    mem_free(mqtt);
}

void mqtt_connect(struct mqtt *mqtt, const struct mqtt_conf *c)
{
    assert_false(mqtt->is_busy);
    mqtt->is_busy = true;
    mqtt->conf = *c;
    mqtt->n_connects++;
    mqtt->topic[0] = mqtt->filter[0] = 0;
}

void mqtt_disconnect(struct mqtt *mqtt, uint8_t code)
{
    (void)code;
    assert_true(mqtt->is_busy);
    if (!mqtt->is_disconnecting)
        timer_start(&mqtt->closing, 0);
    mqtt->is_disconnecting = true;
}

void mqtt_ack(struct mqtt *mqtt, uint8_t qos, uint16_t packet_id, uint8_t code)
{
    (void)mqtt, (void)qos, (void)packet_id, (void)code;
}

enum err mqtt_subscribe(struct mqtt *mqtt, const struct mqtt_filter *filters, size_t n, uint16_t *packet_id)
{
    assert_int_equal(n, 1);
    snprintf(mqtt->filter, sizeof mqtt->filter, STR_FMT, STR_ARG(filters->filter));
    *packet_id = 1;
    return ERR_OK;
}

enum err mqtt_publish(struct mqtt *mqtt, struct str topic, const struct iovec *payload, int n_payload, uint8_t qos,
                      unsigned flags, uint16_t *packet_id)
{
    assert_int_equal(n_payload, 1);
    assert_int_equal(flags, 0);
    snprintf(mqtt->topic, sizeof mqtt->topic, STR_FMT, STR_ARG(topic));
    snprintf(mqtt->payload, sizeof mqtt->payload, "%.*s", (int)payload->iov_len, (char *)payload->iov_base);
    mqtt->qos = qos;
    *packet_id = 0;
    return ERR_OK;
}

/* --- the plant ---------------------------------------------------------------------------------------------------------- */

static void on_done(void *arg, const struct credentials *credentials)
{
    (void)arg;
    n_done++;
    given = *credentials;
}

static void on_failed(void *arg, enum err err, const struct why *why)
{
    (void)arg;
    n_failed++;
    failure = err;
    snprintf(reason, sizeof reason, "%s", why_text(why));
}

static void note_line(void *arg, enum log_level level, struct str line)
{
    size_t at = strlen(logged);

    (void)arg, (void)level;
    snprintf(logged + at, sizeof logged - at, STR_FMT "\n", STR_ARG(line));
}

static void open_all(enum credentials_type type)
{
    static const struct provision_events events = {.done = on_done, .failed = on_failed};

    snprintf(folder, sizeof folder, "/tmp/iotgw-provision-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/.credentials", folder);
    n_done = n_failed = 0;
    reason[0] = logged[0] = 0;
    log_init(&test_log, "test", LOG_LEVEL_TRACE);
    log_set_sink(note_line, NULL);
    loop = loop_new_fake(1700000000000);
    conf = (struct provision_conf){.type = type,
                                   .stream = {.host = "platform"},
                                   .device_key = STR("key \"1\""),
                                   .device_secret = STR("secret-word"),
                                   .path = path};
    provision = provision_new(loop, &test_log, &conf, &events, NULL);
}

static void ask(void)
{
    provision_start(provision);
    loop_advance(loop, 0);
    client->events.connected(client->arg, &(struct mqtt_connack){0});
    loop_advance(loop, 0);
}

static void answer_on(const char *topic, const char *payload)
{
    struct mqtt_message message = {
        .topic = str_from(topic), .payload = (const uint8_t *)payload, .payload_n = strlen(payload), .qos = 1};

    client->events.message(client->arg, &message);
    loop_advance(loop, 0);
    loop_advance(loop, 0);
}

static void answer(const char *payload)
{
    answer_on("/provision/response", payload);
}

static void close_all(void)
{
    assert_false(provision_is_busy(provision));
    assert_null(strstr(logged, "secret-word"));
    provision_free(provision);
    loop_free(loop);
    log_set_sink(NULL, NULL);
    log_fini(&test_log);
    unlink(path);
    rmdir(folder);
}

static struct str member(const char *name, char *out, size_t size)
{
    yyjson_doc *doc = json_read(str_from(client->payload), NULL);
    struct str text = json_str(json_get(yyjson_doc_get_root(doc), str_from(name)));

    assert_non_null(doc);
    snprintf(out, size, STR_FMT, STR_ARG(text));
    yyjson_doc_free(doc);
    return str_from(out);
}

/* --- tests --------------------------------------------------------------------------------------------------------------- */

static void test_the_session_is_one_of_3_1_1_with_its_own_user_and_one_request(void **state)
{
    char text[200];

    (void)state;
    open_all(CREDENTIALS_TOKEN);
    ask();
    assert_int_equal(client->conf.version, MQTT_311);
    assert_true(str_eq_z(client->conf.username, "provision"));
    assert_int_equal(client->conf.keep_alive_s, 60);
    assert_string_equal(client->filter, "/provision/response");
    assert_string_equal(client->topic, "/provision/request");
    assert_int_equal(client->qos, 0);
    assert_true(str_eq_z(member("provisionDeviceKey", text, sizeof text), "key \"1\""));
    assert_true(str_eq_z(member("provisionDeviceSecret", text, sizeof text), "secret-word"));
    assert_true(str_eq_z(member("credentialsType", text, sizeof text), "ACCESS_TOKEN"));
    assert_true(str_starts(member("deviceName", text, sizeof text), STR("Gateway ")) && strlen(text) == 13);
    assert_int_equal(member("token", text, sizeof text).n, 15);
    for (const char *c = text; *c; c++)
        assert_true(*c >= 'a' && *c <= 'z');
    assert_non_null(strstr(client->payload, "\"gateway\":true"));
    answer("{\"status\":\"SUCCESS\",\"credentialsType\":\"ACCESS_TOKEN\",\"credentialsValue\":\"t0ken\"}");
    assert_int_equal(n_done, 1);
    close_all();
}

static void test_the_answer_is_stored_with_the_ca_for_the_owner_only(void **state)
{
    struct buf text = {0};
    struct stat st;

    (void)state;
    open_all(CREDENTIALS_BASIC);
    ask();
    answer(
        "{\"provisionDeviceStatus\":5,\"status\":\"SUCCESS\",\"credentialsType\":\"MQTT_BASIC\",\"credentialsValue\":"
        "{\"clientId\":\"c\",\"userName\":\"u\",\"password\":\"p\"}}");
    assert_int_equal(n_done, 1);
    assert_int_equal(n_failed, 0);
    assert_true(str_eq_z(given.client_id, "c") && str_eq_z(given.username, "u") && str_eq_z(given.password, "p"));
    assert_int_equal(file_read(&text, path, 10000, NULL), ERR_OK);
    buf_add_u8(&text, 0);
    assert_string_equal(
        (char *)text.p,
        "{\"provisionDeviceStatus\":5,\"status\":\"SUCCESS\",\"credentialsType\":\"MQTT_BASIC\","
        "\"credentialsValue\":{\"clientId\":\"c\",\"userName\":\"u\",\"password\":\"p\"},\"caCert\":\"\"}");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    buf_fini(&text);
    close_all();
}

static void test_what_cannot_be_stored_is_used_and_said(void **state)
{
    (void)state;
    open_all(CREDENTIALS_TOKEN);
    ask();
    rmdir(folder);
    answer("{\"status\":\"SUCCESS\",\"credentialsType\":\"ACCESS_TOKEN\",\"credentialsValue\":\"t0ken\"}");
    assert_int_equal(n_done, 1);
    assert_non_null(strstr(logged, "lost when the gateway stops"));
    close_all();
}

static void test_answers_that_are_no_success_say_what_to_do(void **state)
{
    static const struct {
        const char *answer, *words;
        enum err err;
    } cases[] = {
        {"{\"status\":\"NOT_FOUND\",\"errorMsg\":\"Provision data was not found!\"}", "check \"provisionDeviceKey\"",
         ERR_AUTH},
        {"{\"status\":\"FAILURE\",\"errorMsg\":\"Failed to provision device!\"}", "Set another \"deviceName\"",
         ERR_AUTH},
        {"{\"status\":\"SUCCESS\"}", "credentialsType: expected", ERR_PROTO},
        {"{\"status\":\"SUCCESS\",\"credentialsType\":\"MQTT_BASIC\",\"credentialsValue\":{\"userName\":\"u\"}}",
         "another type", ERR_PROTO},
        {"{\"status\":\"SUCCESS\",\"credentialsType\":\"ACCESS_TOKEN\",\"credentialsValue\":{}}", "credentialsValue",
         ERR_PROTO},
        {"{\"status\":5}", "not understood", ERR_PROTO},
        {"[]", "not understood", ERR_PROTO},
        {"", "not understood", ERR_PROTO},
        {"{\"status\":", "not understood", ERR_PROTO},
    };

    (void)state;
    open_all(CREDENTIALS_TOKEN);
    for (unsigned i = 0; i < COUNT_OF(cases); i++) {
        ask();
        answer(cases[i].answer);
        assert_int_equal(n_failed, i + 1);
        assert_int_equal(failure, cases[i].err);
        if (!strstr(reason, cases[i].words))
            fail_msg("%s: %s", cases[i].answer, reason);
        assert_int_not_equal(access(path, F_OK), 0);
    }
    close_all();
}

static void test_random_names_stay_the_same_over_attempts(void **state)
{
    char first[200], again[200];

    (void)state;
    open_all(CREDENTIALS_BASIC);
    ask();
    snprintf(first, sizeof first, "%.199s", client->payload);
    answer("{\"status\":\"FAILURE\"}");
    ask();
    snprintf(again, sizeof again, "%.199s", client->payload);
    assert_string_equal(first, again);
    answer("{\"status\":\"FAILURE\"}");
    close_all();
}

static void test_silence_ends_the_attempt_after_a_minute(void **state)
{
    (void)state;
    open_all(CREDENTIALS_TOKEN);
    ask();
    answer_on("/another/topic",
              "{\"status\":\"SUCCESS\",\"credentialsType\":\"ACCESS_TOKEN\",\"credentialsValue\":\"t\"}");
    loop_advance(loop, 59000);
    assert_int_equal(n_failed + n_done, 0);
    loop_advance(loop, 2000);
    assert_int_equal(n_failed, 1);
    assert_int_equal(failure, ERR_TIMEOUT);
    close_all();
}

static void test_a_refused_or_lost_connection_is_the_reason(void **state)
{
    struct why why = {0};

    (void)state;
    open_all(CREDENTIALS_TOKEN);
    provision_start(provision);
    client->is_busy = false;
    why_set(&why, ERR_REFUSED, "platform: connection refused");
    client->events.closed(client->arg, ERR_REFUSED, &why);
    assert_int_equal(failure, ERR_REFUSED);
    assert_string_equal(reason, "platform: connection refused");
    close_all();
}

static void test_stopping_ends_an_attempt(void **state)
{
    (void)state;
    open_all(CREDENTIALS_TOKEN);
    ask();
    provision_stop(provision);
    loop_advance(loop, 0);
    assert_int_equal(n_failed, 1);
    assert_int_equal(failure, ERR_CLOSED);
    close_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_session_is_one_of_3_1_1_with_its_own_user_and_one_request),
        cmocka_unit_test(test_the_answer_is_stored_with_the_ca_for_the_owner_only),
        cmocka_unit_test(test_what_cannot_be_stored_is_used_and_said),
        cmocka_unit_test(test_answers_that_are_no_success_say_what_to_do),
        cmocka_unit_test(test_random_names_stay_the_same_over_attempts),
        cmocka_unit_test(test_silence_ends_the_attempt_after_a_minute),
        cmocka_unit_test(test_a_refused_or_lost_connection_is_the_reason),
        cmocka_unit_test(test_stopping_ends_an_attempt),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
