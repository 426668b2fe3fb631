/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/router.h"

#include <stdio.h>

/*
 * Platform and connectors are scripted: what is published stands in a list, what a connector is given waits in it until the
 * test replies. Time is the fake loop's.
 */
enum { HELD_MAX = 600, SENT_MAX = 800 };

struct plant {
    struct ctx *ctx;
    struct connector_type type;
    struct command *held[HELD_MAX];
    unsigned n_held;
    uint64_t timeout_ms; /* its own, 0: none */
    char last_params[200], last_id[40], last_method[40];
    unsigned n_answers;
    uint64_t cookie;
    enum err err;
    char answer[200];
};

static struct loop *loop;
static struct log test_log;
static struct north *north;
static struct router *router;
static struct ctx_host host;
static struct plant plants[3];
static char sent[SENT_MAX][400];
static unsigned n_sent, n_devices;

static bool on_send(void *arg, enum limit_kind limit, struct str topic, struct str payload, uint8_t qos)
{
    (void)arg, (void)limit;
    assert_true(n_sent < SENT_MAX);
    snprintf(sent[n_sent++], sizeof sent[0], STR_FMT " %u " STR_FMT, STR_ARG(topic), qos, STR_ARG(payload));
    return true;
}

static struct uplink_status on_status(void *arg)
{
    (void)arg;
    return (struct uplink_status){.payload_limit = 1000};
}

static void on_command(void *arg, struct command *command)
{
    struct plant *plant = arg;

    assert_true(plant->n_held < HELD_MAX);
    plant->held[plant->n_held++] = command;
    snprintf(plant->last_params, sizeof plant->last_params, STR_FMT, STR_ARG(command->params));
    snprintf(plant->last_id, sizeof plant->last_id, STR_FMT, STR_ARG(command->id));
    snprintf(plant->last_method, sizeof plant->last_method, STR_FMT, STR_ARG(command->method));
    if (plant->timeout_ms)
        (void)ctx_deadline(plant->ctx, command, plant->timeout_ms);
}

static void on_attributes(void *arg, uint64_t cookie, enum err err, struct str json)
{
    struct plant *plant = arg;

    plant->n_answers++;
    plant->cookie = cookie;
    plant->err = err;
    snprintf(plant->answer, sizeof plant->answer, STR_FMT, STR_ARG(json));
}

static bool on_shared_keys(void *arg, struct device *dev, void (*add)(void *, struct str), void *add_arg)
{
    (void)arg, (void)dev;
    add(add_arg, STR("mode"));
    add(add_arg, STR("limit"));
    return false;
}

static void to_router(void *arg, enum uplink_state state)
{
    (void)arg;
    router_state(router, state);
}

static void own_rpc(void *arg, struct str number, yyjson_val *root)
{
    (void)arg;
    router_own_rpc(router, number, root);
}

static void device_rpc(void *arg, yyjson_val *root)
{
    (void)arg;
    router_device_rpc(router, root);
}

static void device_attributes(void *arg, yyjson_val *root)
{
    (void)arg;
    router_device_attributes(router, root);
}

static void replied(void *arg, struct ctx *ctx, struct command *command, enum err err, struct str json)
{
    (void)arg;
    router_reply(router, ctx, command, err, json);
}

static void requested(void *arg, struct ctx *ctx, struct device *dev, struct str shared, struct str client,
                      uint64_t cookie)
{
    (void)arg;
    router_request_attributes(router, ctx, dev, shared, client, cookie);
}

static void serving(void *arg, struct ctx *ctx, bool is_there)
{
    (void)arg;
    router_serving(router, ctx, is_there);
}

static void released(void *arg, struct ctx *ctx)
{
    (void)arg;
    router_released(router, ctx);
}

static void connected(void *arg, struct ctx *ctx, struct device *dev, struct str keys, bool is_all, bool is_again)
{
    (void)arg;
    router_device_connected(router, ctx, dev, keys, is_all, is_again);
}

static void run(void)
{
    loop_advance(loop, 0);
}

static void add_plant(unsigned i, const char *type, const char *name)
{
    struct plant *plant = &plants[i];

    *plant = (struct plant){.type = {.size = sizeof plant->type,
                                     .abi = IOTGW_CONNECTOR_ABI,
                                     .name = type,
                                     .command = on_command,
                                     .attributes = on_attributes,
                                     .shared_keys = i == 2 ? on_shared_keys : NULL}};
    plant->ctx = ctx_new(&plant->type, name, loop, &host, NULL);
    atomic_store(&ctx_log(plant->ctx)->level, LOG_LEVEL_OFF);
    ctx_attach(plant->ctx, plant);
    run();
}

static void remove_plant(unsigned i)
{
    if (!plants[i].ctx)
        return;
    ctx_attach(plants[i].ctx, NULL);
    ctx_unref(plants[i].ctx);
    plants[i].ctx = NULL;
    run();
}

/* A device of a name that no test has used. */
static struct device *new_device(unsigned i)
{
    char name[32];
    struct device *dev;

    snprintf(name, sizeof name, "dev %u", ++n_devices);
    dev = device_get(str_from(name));
    assert_true(ctx_serve(plants[i].ctx, dev));
    run();
    return dev;
}

static int setup(void **state)
{
    static const struct north_link link = {.send = on_send, .status = on_status};
    static const struct north_events north_events = {
        .state = to_router, .own_rpc = own_rpc, .device_rpc = device_rpc, .device_attributes = device_attributes};
    const struct router_conf conf = {.syncs_attributes = true};

    (void)state;
    ctx_setup();
    n_sent = 0;
    loop = loop_new_fake(1700000000000);
    log_init(&test_log, "test", LOG_LEVEL_OFF);
    host = (struct ctx_host){.reply = replied,
                             .request_attributes = requested,
                             .serving = serving,
                             .released = released,
                             .device_connected = connected};
    router = router_new(loop, &test_log, &conf, NULL, NULL);
    north = north_new(loop, loop, &test_log, &north_events, NULL);
    router_attach(router, north);
    north_attach_link(north, &link, NULL);
    north_uplink_state(north, UPLINK_READY);
    add_plant(0, "mqtt", "Plant A");
    add_plant(1, "mqtt", "Plant B");
    add_plant(2, "modbus", "Größe 3");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++)
        remove_plant(i);
    router_free(router);
    north_free(north);
    loop_free(loop);
    log_fini(&test_log);
    return 0;
}

static void down(const char *topic, const char *payload)
{
    north_uplink_message(north, str_from(topic), str_from(payload));
    run();
}

static void rpc(const struct device *dev, unsigned id, const char *params)
{
    char payload[300];

    snprintf(payload, sizeof payload,
             "{\"device\":\"" STR_FMT "\",\"data\":{\"id\":%u,\"method\":\"m\",\"params\":%s}}",
             STR_ARG(device_name(dev)), id, params);
    down("v1/gateway/rpc", payload);
}

static void reply(struct plant *plant, unsigned i, enum err err, const char *json)
{
    struct command *command = plant->held[i];

    plant->held[i] = NULL;
    ctx_host_functions.reply(plant->ctx, command, err, str_from(json));
    run();
}

static void reply_all(struct plant *plant)
{
    for (unsigned i = 0; i < plant->n_held; i++)
        if (plant->held[i])
            reply(plant, i, ERR_OK, "1");
    plant->n_held = 0;
}

static void assert_reply(unsigned i, const struct device *dev, unsigned id, const char *data)
{
    char text[400];

    snprintf(text, sizeof text, "v1/gateway/rpc 1 {\"device\":\"" STR_FMT "\",\"id\":%u,\"data\":%s}",
             STR_ARG(device_name(dev)), id, data);
    assert_true(i < n_sent);
    assert_string_equal(sent[i], text);
}

/* --- RPC to devices -------------------------------------------------------------------------------------------------------- */

/* Invariant 8, for commands. */
static void test_a_request_reaches_the_devices_connector_and_is_answered_once(void **state)
{
    struct device *dev = new_device(0);

    (void)state;
    rpc(dev, 7, "{\"x\":1.50}");
    assert_int_equal(plants[0].n_held, 1);
    assert_int_equal(plants[1].n_held, 0);
    assert_ptr_equal(plants[0].held[0]->dev, dev);
    assert_string_equal(plants[0].last_params, "{\"x\":1.50}");
    assert_string_equal(plants[0].last_id, "7");
    reply(&plants[0], 0, ERR_OK, "{\"y\":2}");
    assert_int_equal(n_sent, 1);
    assert_reply(0, dev, 7, "{\"y\":2}");
    assert_int_equal(dev->active_s, loop_mono_ms(loop) / 1000); /* the reply is activity of the device */
    loop_advance(loop, 60000);
    assert_int_equal(n_sent, 1);
}

static void test_what_a_connector_does_not_say_is_said_in_its_form(void **state)
{
    static const struct {
        unsigned plant;
        enum err err;
        const char *json, *data;
    } cases[] = {
        {0, ERR_OK, "", "{\"success\":true}"},
        {0, ERR_IO, "", "{\"success\":false,\"error\":\"input/output error\"}"},
        {0, ERR_TIMEOUT, "", "{\"success\":false}"},
        {0, ERR_UNSUPPORTED, "", "{\"error\":\"not supported\",\"success\":false}"},
        {0, ERR_IO, "{\"error\":\"own words\"}", "{\"error\":\"own words\"}"},
        {0, ERR_OK, "no JSON", "\"no JSON\""},
        {2, ERR_BUSY, "", "{\"result\":{\"error\":\"busy\"}}"},
    };

    (void)state;
    for (unsigned i = 0; i < COUNT_OF(cases); i++) {
        struct plant *plant = &plants[cases[i].plant];
        struct device *dev = new_device(cases[i].plant);

        n_sent = 0;
        plant->n_held = 0;
        rpc(dev, i, "null");
        reply(plant, 0, cases[i].err, cases[i].json);
        assert_reply(0, dev, i, cases[i].data);
    }
}

static void test_a_repeat_is_not_executed_twice(void **state)
{
    struct device *dev = new_device(0), *other = new_device(0);

    (void)state;
    rpc(dev, 1, "5");
    rpc(dev, 1, "5"); /* while it is open */
    assert_int_equal(plants[0].n_held, 1);
    reply(&plants[0], 0, ERR_OK, "\"done\"");
    assert_int_equal(n_sent, 1);
    loop_advance(loop, 59000);
    rpc(dev, 1, "5");
    assert_int_equal(plants[0].n_held, 1);
    assert_int_equal(n_sent, 2);
    assert_reply(1, dev, 1, "\"done\"");
    rpc(dev, 1, "6"); /* other parameters, device, time */
    rpc(other, 1, "5");
    loop_advance(loop, 2000);
    rpc(dev, 1, "5");
    assert_int_equal(plants[0].n_held, 4);
    assert_int_equal(router_stats(router).n_repeats, 2);
    reply_all(&plants[0]);
}

static void test_a_deadline_is_the_requests_or_the_connectors_or_five_seconds(void **state)
{
    static const struct {
        const char *params;
        uint64_t own_ms, due_ms;
    } cases[] = {{"null", 0, 5000},
                 {"{\"timeout\":2}", 0, 2000},
                 {"{\"timeout\":1500}", 0, 1500},
                 {"{\"timeout\":0.5}", 0, 500},
                 {"{\"timeout\":-1}", 0, 5000},
                 {"{\"timeout\":\"x\"}", 0, 5000},
                 {"null", 12000, 12000},
                 {"{\"timeout\":3}", 12000, 3000},
                 {"{\"timeout\":999}", 0, 999000}};

    (void)state;
    for (unsigned i = 0; i < COUNT_OF(cases); i++) {
        struct device *dev = new_device(0);

        n_sent = 0;
        plants[0].n_held = 0;
        plants[0].timeout_ms = cases[i].own_ms;
        rpc(dev, i, cases[i].params);
        loop_advance(loop, cases[i].due_ms - 1);
        assert_int_equal(n_sent, 0);
        loop_advance(loop, 2);
        assert_int_equal(n_sent, 1);
        assert_reply(0, dev, i, "{\"success\":false}");
        reply(&plants[0], 0, ERR_OK, "\"late\"");
        assert_int_equal(n_sent, 1);
    }
    assert_int_equal(router_stats(router).n_late, COUNT_OF(cases));
    assert_int_equal(router_stats(router).n_open, 0);
}

static void test_an_unknown_device_is_waited_for_then_the_request_fails(void **state)
{
    struct device *dev;

    (void)state;
    down("v1/gateway/rpc", "{\"device\":\"nobody \\\"x\\\"\",\"data\":{\"id\":3,\"method\":\"m\"}}");
    loop_advance(loop, 4999);
    assert_int_equal(n_sent, 0);
    loop_advance(loop, 2);
    assert_int_equal(n_sent, 1);
    assert_string_equal(sent[0],
                        "v1/gateway/rpc 1 {\"device\":\"nobody \\\"x\\\"\",\"id\":3,\"data\":{\"error\":\"Request "
                        "timeout\",\"code\":408}}");
    down("v1/gateway/rpc", "{\"device\":\"comes later\",\"data\":{\"id\":4,\"method\":\"first\"}}");
    down("v1/gateway/rpc", "{\"device\":\"comes later\",\"data\":{\"id\":5,\"method\":\"second\"}}");
    loop_advance(loop, 3000);
    dev = device_get(STR("comes later"));
    assert_true(ctx_serve(plants[1].ctx, dev));
    run();
    assert_int_equal(plants[1].n_held, 2); /* in their order */
    assert_true(str_eq_z(plants[1].held[0]->method, "first"));
    assert_string_equal(plants[1].last_method, "second");
    loop_advance(loop, 3000); /* its time counts from here */
    assert_int_equal(n_sent, 1);
    reply_all(&plants[1]);
    assert_int_equal(n_sent, 3);
}

static void test_more_than_64_open_are_answered_busy(void **state)
{
    struct device *dev = new_device(2);

    (void)state;
    n_sent = 0;
    for (unsigned i = 0; i < 70; i++)
        rpc(dev, i, "null");
    assert_int_equal(plants[2].n_held, 64);
    assert_int_equal(n_sent, 6);
    assert_reply(0, dev, 64, "{\"result\":{\"error\":\"The connector is busy\"}}");
    reply(&plants[2], 0, ERR_OK, "1");
    rpc(dev, 100, "null");
    assert_int_equal(plants[2].n_held, 65);
    reply_all(&plants[2]);
    assert_int_equal(n_sent, 6 + 65);
}

static void test_a_devices_commands_are_handed_over_in_the_order_in_which_they_came(void **state)
{
    struct device *dev = new_device(0), *other = new_device(0);

    (void)state;
    for (unsigned i = 0; i < 40; i++) { /* nothing of it is answered: the connector may work on many at once */
        char text[200];

        if (i % 4 < 2) {
            rpc(i % 4 ? other : dev, i, "null");
            continue;
        }
        snprintf(text, sizeof text, "{\"device\":\"" STR_FMT "\",\"data\":{\"k\":%u}}", STR_ARG(device_name(dev)), i);
        down("v1/gateway/attributes", text);
    }
    assert_int_equal(plants[0].n_held, 40);
    for (unsigned i = 0; i < 40; i++) {
        const struct command *command = plants[0].held[i];
        char number[16];

        snprintf(number, sizeof number, i % 4 < 2 ? "%u" : "{\"k\":%u}", i);
        assert_ptr_equal(command->dev, i % 4 == 1 ? other : dev);
        assert_true(str_eq_z(i % 4 < 2 ? command->id : command->params, number));
    }
    for (unsigned i = 40; i-- > 0;) /* and may answer in any order */
        reply(&plants[0], i, ERR_OK, "1");
    assert_int_equal(n_sent, 20);
    plants[0].n_held = 0;
}

static void test_what_waits_for_a_device_goes_before_what_comes_when_it_is_there(void **state)
{
    yyjson_doc *doc = json_read(STR("{\"device\":\"just come\",\"data\":{\"id\":2,\"method\":\"second\"}}"), NULL);

    (void)state;
    down("v1/gateway/rpc", "{\"device\":\"just come\",\"data\":{\"id\":1,\"method\":\"first\"}}");
    assert_true(ctx_serve(plants[1].ctx, device_get(STR("just come")))); /* which the router has not been told yet */
    router_device_rpc(router, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    run();
    assert_int_equal(plants[1].n_held, 2);
    assert_true(str_eq_z(plants[1].held[0]->method, "first"));
    assert_string_equal(plants[1].last_method, "second");
    reply_all(&plants[1]);
}

static void test_answers_are_kept_for_repeats_within_a_bound(void **state)
{
    enum { LENGTH = 700, MANY = 20000 }; /* together more than 8 MiB */
    struct device *dev = new_device(0);
    char answer[LENGTH];

    (void)state;
    memset(answer, '1', sizeof answer - 1);
    answer[sizeof answer - 1] = 0;
    for (unsigned i = 0; i < MANY; i++) {
        n_sent = 0;
        rpc(dev, i, "null");
        reply(&plants[0], 0, ERR_OK, answer);
        plants[0].n_held = 0;
    }
    n_sent = 0;
    rpc(dev, MANY - 1, "null"); /* the newest are there */
    rpc(dev, MANY - 9000, "null");
    assert_int_equal(n_sent, 2);
    assert_int_equal(plants[0].n_held, 0);
    rpc(dev, 0, "null"); /* the oldest are not */
    assert_int_equal(plants[0].n_held, 1);
    reply_all(&plants[0]);
}

static void test_a_connector_that_keeps_its_commands_is_given_256_at_most(void **state)
{
    struct device *dev = new_device(0);

    (void)state;
    for (unsigned round = 0; round < 6; round++) {
        for (unsigned i = 0; i < 64; i++)
            rpc(dev, round * 100 + i, "null");
        loop_advance(loop, 6000);
    }
    assert_int_equal(plants[0].n_held, 256);
    assert_int_equal(n_sent, 6 * 64);
    reply_all(&plants[0]);
    assert_int_equal(n_sent, 6 * 64);
}

/* Invariant 8: its connector is gone. */
static void test_a_connector_that_stops_leaves_no_request_unanswered(void **state)
{
    struct device *dev = new_device(0);

    (void)state;
    rpc(dev, 1, "null");
    rpc(dev, 2, "null");
    reply(&plants[0], 0, ERR_OK, "1");
    ctx_hush(plants[0].ctx);
    rpc(dev, 3, "null");
    assert_int_equal(plants[0].n_held, 2);
    assert_int_equal(n_sent, 2);
    assert_reply(1, dev, 3, "{\"success\":false,\"error\":\"connection closed\"}");
    remove_plant(0); /* still holds one, and never gives it back */
    assert_int_equal(n_sent, 3);
    assert_reply(2, dev, 2, "{\"success\":false,\"error\":\"The connector is stopped\"}");
    rpc(dev, 4, "null");
    loop_advance(loop, 5001);
    assert_int_equal(n_sent, 4);
    assert_int_equal(router_stats(router).n_open, 0);
}

/* --- RPC to connectors and to the gateway ------------------------------------------------------------------------------------- */

static void own(unsigned id, const char *method, const char *params)
{
    char topic[60], payload[300];

    snprintf(topic, sizeof topic, "v1/devices/me/rpc/request/%u", id);
    snprintf(payload, sizeof payload, "{\"method\":\"%s\",\"params\":%s}", method, params);
    down(topic, payload);
}

static void test_a_prefix_goes_to_every_connector_of_the_type_and_the_last_result_counts(void **state)
{
    (void)state;
    own(1, "mqtt_read", "{\"t\":1}");
    assert_int_equal(plants[0].n_held + plants[1].n_held, 2);
    assert_string_equal(plants[0].last_method, "mqtt_read");
    assert_string_equal(plants[0].last_id, "\"1\"");
    reply(&plants[1], 0, ERR_OK, "{\"b\":1,\"qos\":0}");
    assert_int_equal(n_sent, 0);
    reply(&plants[0], 0, ERR_OK, "");
    assert_int_equal(n_sent, 1);
    assert_string_equal(sent[0], "v1/devices/me/rpc/response/1 0 {\"b\":1}");
    own(2, "mqtt_read", "{\"connector\":\"Plant B\"}");
    assert_int_equal(plants[0].n_held, 1);
    assert_int_equal(plants[1].n_held, 2);
    reply(&plants[1], 1, ERR_OK, "");
    assert_string_equal(sent[1], "v1/devices/me/rpc/response/2 1 {\"success\":false}");
    own(3, "mqtt_read", "{\"connectorName\":\"none\"}");
    assert_string_equal(sent[2], "v1/devices/me/rpc/response/3 1 {\"error\":\"mqtt - connector not found in available "
                                 "connectors.\",\"code\":404}");
    own(4, "modbus_get", "1");
    loop_advance(loop, 5001);
    assert_string_equal(sent[3], "v1/devices/me/rpc/response/4 1 {\"result\":{\"error\":\"Timeout\"}}");
    own(5, "modbus_get", "1");
    remove_plant(2);
    assert_string_equal(sent[4],
                        "v1/devices/me/rpc/response/5 1 {\"result\":{\"error\":\"The connector is stopped\"}}");
    assert_int_equal(n_sent, 5);
}

static void test_the_gateways_own_methods(void **state)
{
    static const struct {
        const char *method, *params, *reply;
    } cases[] = {
        {"gateway_ping", "null", "{\"code\":200,\"resp\":\"pong\"}"},
        {"gateway_stats", "{}",
         "{\"eventsProduced\":0,\"eventsSent\":0,\"PlantAEventsProduced\":0,\"PlantAEventsSent\":0,"
         "\"PlantBEventsProduced\":0,"
         "\"PlantBEventsSent\":0,\"Größe3EventsProduced\":0,\"Größe3EventsSent\":0}"},
        {"gateway_update", "[]", "{\"error\":\"Update is managed by the system package manager\",\"code\":501}"},
        {"gateway_reboot", "1", "{\"error\":\"Disabled\",\"code\":403}"},
        {"gateway_", "1", "{\"error\":\"Method not found\",\"code\":404}"},
        {"gateway_../x", "1", "{\"error\":\"Method not found\",\"code\":404}"},
        {"sendCommand", "{}",
         "{\"error\":\"sendCommand - connector not found in available connectors.\",\"code\":404}"},
        {"", "1", "{\"error\":\" - connector not found in available connectors.\",\"code\":404}"},
    };

    (void)state;
    for (unsigned i = 0; i < COUNT_OF(cases); i++) {
        char text[500];

        own(i, cases[i].method, cases[i].params);
        assert_int_equal(n_sent, i + 1);
        snprintf(text, sizeof text, "v1/devices/me/rpc/response/%u 1 %s", i, cases[i].reply);
        assert_string_equal(sent[i], text);
    }
}

static void test_what_is_no_request_is_answered_where_an_answer_can_be_taken(void **state)
{
    static const char *const wrong[] = {"null", "5", "[]", "\"x\"", "{\"method\":", "{} x", ""};

    (void)state;
    for (unsigned i = 0; i < COUNT_OF(wrong); i++) {
        char topic[60], text[200];

        snprintf(topic, sizeof topic, "v1/devices/me/rpc/request/%u", i);
        snprintf(text, sizeof text,
                 "v1/devices/me/rpc/response/%u 1 {\"error\":\"The request is not a JSON object\",\"success\":false}",
                 i);
        down(topic, wrong[i]);
        assert_int_equal(n_sent, i + 1);
        assert_string_equal(sent[i], text);
    }
    /* An answer to these would end the session. */
    down("v1/gateway/rpc", "{\"device\":\"d1\",\"data\":{\"id\":\"abc\",\"method\":\"x\"}}");
    down("v1/gateway/rpc", "{\"device\":\"d1\",\"data\":{\"id\":\"99999999999\",\"method\":\"x\"}}");
    down("v1/gateway/rpc", "{\"device\":\"d1\",\"data\":{\"id\":[1],\"method\":\"x\"}}");
    assert_int_equal(n_sent, COUNT_OF(wrong));
    down("v1/gateway/rpc", "{\"device\":\"d1\",\"data\":{\"id\":\"12\"}}");
    assert_string_equal(sent[COUNT_OF(wrong)],
                        "v1/gateway/rpc 1 {\"device\":\"d1\",\"id\":\"12\",\"data\":{\"error\":\"The request has no "
                        "method\",\"success\":false}}");
}

struct told {
    unsigned n;
    enum err err;
    char json[100];
};

static void tell(void *arg, enum err err, struct str json)
{
    struct told *told = arg;

    told->n++;
    told->err = err;
    snprintf(told->json, sizeof told->json, STR_FMT, STR_ARG(json));
}

static void test_other_parts_ask_as_the_platform_does(void **state)
{
    struct told told = {0};
    struct device *dev = new_device(0);

    (void)state;
    router_rpc(router, device_name(dev), STR("m"), STR("[1]"), 700, tell, &told);
    assert_int_equal(told.n, 0);
    run();
    reply(&plants[0], 0, ERR_OK, "\"x\"");
    assert_int_equal(told.n, 1);
    assert_string_equal(told.json, "\"x\"");
    router_rpc(router, STR_NONE, STR("gateway_ping"), STR_NONE, 0, tell, &told);
    assert_int_equal(told.n, 1); /* never inside the call */
    run();
    assert_string_equal(told.json, "{\"code\":200,\"resp\":\"pong\"}");
    router_rpc(router, STR_NONE, STR("x"), STR("no JSON"), 0, tell, &told);
    run();
    assert_int_equal(told.err, ERR_RANGE);
    router_rpc(router, device_name(dev), STR("m"), STR("[1]"), 700, tell, &told);
    loop_advance(loop, 701);
    assert_int_equal(told.n, 4);
    assert_string_equal(told.json, "{\"success\":false}");
    assert_int_equal(n_sent, 0);
}

static void test_hostile_messages_do_nothing_but_a_line_in_the_log(void **state)
{
    static const char *const topics[] = {"v1/gateway/rpc",
                                         "v1/gateway/attributes",
                                         "v1/gateway/attributes/response",
                                         "v1/devices/me/attributes",
                                         "v1/devices/me/rpc/request/",
                                         "v1/devices/me/rpc/request/-1",
                                         "v1/devices/me/rpc/request/99999999999999999999999",
                                         "v1/devices/me/rpc/response/1",
                                         "v1/devices/me/attributes/response/x",
                                         "else",
                                         ""};
    static const char *const payloads[] = {"",
                                           "null",
                                           "[]",
                                           "{}",
                                           "5",
                                           "{\"device\":5,\"data\":5}",
                                           "{\"device\":\"\"}",
                                           "{\"device\":\"a\",\"data\":[]}",
                                           "{\"device\":\"a\",\"data\":{\"id\":{}}}",
                                           "{\"id\":-1}",
                                           "{\"id\":1,\"value\":1}",
                                           "{\"id\":1e99}",
                                           "[[[[",
                                           "\xff"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(topics); i++)
        for (size_t j = 0; j < COUNT_OF(payloads); j++)
            down(topics[i], payloads[j]);
    loop_advance(loop, 10000);
    assert_int_equal(n_sent, 0);
    down("v1/gateway/rpc", "{\"device\":\"a\",\"data\":{\"id\":1,\"method\":5}}");
    assert_int_equal(n_sent, 1); /* it can be answered, so it is */
}

/* --- attributes ---------------------------------------------------------------------------------------------------------------- */

static void update(struct str device, const char *data)
{
    char payload[300];

    snprintf(payload, sizeof payload, "{\"device\":\"" STR_FMT "\",\"data\":%s}", STR_ARG(device), data);
    down("v1/gateway/attributes", payload);
}

static void test_an_update_reaches_the_connector_without_what_was_deleted(void **state)
{
    struct device *dev = new_device(0);

    (void)state;
    update(device_name(dev), "{\"a\":1.0,\"deleted\":[\"b\"]}");
    assert_int_equal(plants[0].n_held, 1);
    assert_int_equal(plants[0].held[0]->kind, COMMAND_ATTRIBUTES);
    assert_string_equal(plants[0].last_params, "{\"a\":1.0}");
    update(device_name(dev), "{\"deleted\":[\"b\"]}");
    assert_int_equal(plants[0].n_held, 1);
    loop_advance(loop, 5001);
    assert_int_equal(router_stats(router).n_timeouts, 1);
    reply(&plants[0], 0, ERR_OK, "");
    assert_int_equal(n_sent, 0);
}

static void test_values_are_kept_until_the_device_is_there(void **state)
{
    (void)state;
    update(STR("kept"), "{\"a\":1,\"b\":1}");
    update(STR("kept"), "{\"b\":2,\"c\":3}");
    update(STR("kept"), "{\"deleted\":[\"c\",\"never\"]}");
    assert_int_equal(plants[1].n_held, 0);
    assert_true(ctx_serve(plants[1].ctx, device_get(STR("kept"))));
    run();
    assert_int_equal(plants[1].n_held, 1);
    assert_string_equal(plants[1].last_params, "{\"a\":1,\"b\":2}");
    reply_all(&plants[1]);
}

static void test_values_wait_while_the_connector_is_busy(void **state)
{
    struct device *dev = new_device(0);

    (void)state;
    for (unsigned i = 0; i < 64; i++)
        rpc(dev, i, "null");
    update(device_name(dev), "{\"a\":1}");
    update(device_name(dev), "{\"a\":2}");
    assert_int_equal(plants[0].n_held, 64);
    for (unsigned i = 0; i < 64; i++)
        reply(&plants[0], i, ERR_OK, "1");
    assert_int_equal(plants[0].n_held, 65);
    assert_string_equal(plants[0].last_params, "{\"a\":2}");
    reply_all(&plants[0]);
}

static void test_kept_values_are_bounded(void **state)
{
    char name[40], data[200];

    (void)state;
    for (unsigned i = 0; i < 30000; i++) {
        snprintf(name, sizeof name, "absent %u", i);
        snprintf(data, sizeof data, "{\"a\":\"%0100u\"}", i);
        update(str_from(name), data);
    }
    assert_true(ctx_serve(plants[0].ctx, device_get(STR("absent 0"))));
    assert_true(ctx_serve(plants[0].ctx, device_get(STR("absent 29999"))));
    run();
    assert_int_equal(plants[0].n_held, 1); /* the oldest are forgotten */
    reply_all(&plants[0]);
}

static void ask(unsigned i, struct device *dev, const char *shared, const char *client, uint64_t cookie)
{
    ctx_host_functions.request_attributes(plants[i].ctx, dev, str_from(shared), str_from(client), cookie);
    run();
}

static void test_a_connectors_request_is_answered_exactly_once(void **state)
{
    struct device *dev = new_device(0);
    struct plant *plant = &plants[0];

    (void)state;
    ask(0, dev, "[\"a\"]", "[\"b\",\"c\"]", 11);
    assert_int_equal(n_sent, 2);
    assert_non_null(strstr(sent[0], "{\"keys\":[\"a\"],"));
    assert_non_null(strstr(sent[0], "\"client\":false,\"id\":1}"));
    assert_non_null(strstr(sent[1], "\"client\":true,\"id\":2}"));
    down("v1/gateway/attributes/response", "{\"id\":2,\"values\":{\"b\":{\"x\":1}}}");
    assert_int_equal(plant->n_answers, 0);
    down("v1/gateway/attributes/response", "{\"id\":1,\"value\":5}");
    assert_int_equal(plant->n_answers, 1);
    assert_int_equal(plant->cookie, 11);
    assert_string_equal(plant->answer, "{\"b\":{\"x\":1},\"a\":5}");
    down("v1/gateway/attributes/response", "{\"id\":1,\"value\":5}"); /* again, and one that nobody asked for */
    down("v1/gateway/attributes/response", "{\"id\":9,\"value\":5}");
    assert_int_equal(plant->n_answers, 1);
    ask(0, dev, "[\"a\"]", "", 12);
    down("v1/gateway/attributes/response", "{\"id\":3,\"values\":{\"a\":6}}"); /* the other form */
    assert_string_equal(plant->answer, "{\"a\":6}");
    ask(0, dev, "[\"a\"]", "", 13);
    down("v1/gateway/attributes/response", "{\"id\":4}");
    assert_string_equal(plant->answer, "{}");
    assert_int_equal(plant->err, ERR_OK);
    ask(0, dev, "[\"a\"]", "", 14);
    loop_advance(loop, 20001);
    assert_int_equal(plant->n_answers, 4);
    assert_int_equal(plant->err, ERR_TIMEOUT);
    ask(0, dev, "[\"a\"]", "[\"b\"]", 15);
    north_uplink_state(north, UPLINK_DOWN);
    run();
    assert_int_equal(plant->n_answers, 5);
    assert_int_equal(plant->err, ERR_CLOSED);
    ask(0, dev, "[\"a\"]", "", 16); /* without a session */
    assert_int_equal(plant->n_answers, 6);
    assert_int_equal(plant->err, ERR_CLOSED);
    north_uplink_state(north, UPLINK_READY);
    run();
    ask(0, dev, "[]", "", 17);
    assert_int_equal(plant->err, ERR_RANGE);
    n_sent = 0;
    ask(0, dev, "[\"a\"]", "", 18);
    assert_non_null(strstr(sent[0], "\"id\":1}")); /* from one in each session */
}

static void test_shared_attributes_are_fetched_when_a_device_connects(void **state)
{
    struct device *dev;
    struct plant *plant = &plants[2];

    (void)state;
    n_sent = 0;
    dev = new_device(2);
    assert_int_equal(n_sent, 1);
    assert_non_null(strstr(sent[0], "{\"keys\":[\"mode\",\"limit\"],"));
    down("v1/gateway/attributes/response", "{\"id\":1,\"values\":{\"mode\":\"auto\"}}");
    assert_int_equal(plant->n_held, 1);
    assert_string_equal(plant->last_params, "{\"mode\":\"auto\"}");
    update(device_name(dev), "{\"limit\":3}");
    assert_int_equal(plant->n_held, 2);
    router_device_connected(router, plant->ctx, dev, STR("[\"mode\",\"limit\"]"), false, false);
    run();
    assert_int_equal(n_sent, 1); /* from memory */
    assert_int_equal(plant->n_held, 3);
    assert_string_equal(plant->last_params, "{\"mode\":\"auto\",\"limit\":3}");
    north_uplink_state(north, UPLINK_DOWN);
    north_uplink_state(north, UPLINK_READY);
    run();
    assert_int_equal(n_sent, 2); /* a new session: what it knew may have changed */
    reply_all(plant);
}

static void test_stopping_answers_what_is_open_and_takes_nothing_more(void **state)
{
    struct device *dev = new_device(0);

    (void)state;
    rpc(dev, 1, "null");
    router_stop(router);
    run();
    assert_reply(0, dev, 1, "{\"error\":\"The gateway is stopping\",\"success\":false}");
    rpc(dev, 2, "null");
    assert_reply(1, dev, 2, "{\"error\":\"The gateway is stopping\",\"success\":false}");
    assert_int_equal(plants[0].n_held, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(test_a_request_reaches_the_devices_connector_and_is_answered_once),
        T(test_what_a_connector_does_not_say_is_said_in_its_form),
        T(test_a_repeat_is_not_executed_twice),
        T(test_a_deadline_is_the_requests_or_the_connectors_or_five_seconds),
        T(test_an_unknown_device_is_waited_for_then_the_request_fails),
        T(test_more_than_64_open_are_answered_busy),
        T(test_a_devices_commands_are_handed_over_in_the_order_in_which_they_came),
        T(test_what_waits_for_a_device_goes_before_what_comes_when_it_is_there),
        T(test_answers_are_kept_for_repeats_within_a_bound),
        T(test_a_connector_that_keeps_its_commands_is_given_256_at_most),
        T(test_a_connector_that_stops_leaves_no_request_unanswered),
        T(test_a_prefix_goes_to_every_connector_of_the_type_and_the_last_result_counts),
        T(test_the_gateways_own_methods),
        T(test_what_is_no_request_is_answered_where_an_answer_can_be_taken),
        T(test_other_parts_ask_as_the_platform_does),
        T(test_hostile_messages_do_nothing_but_a_line_in_the_log),
        T(test_an_update_reaches_the_connector_without_what_was_deleted),
        T(test_values_are_kept_until_the_device_is_there),
        T(test_values_wait_while_the_connector_is_busy),
        T(test_kept_values_are_bounded),
        T(test_a_connectors_request_is_answered_exactly_once),
        T(test_shared_attributes_are_fetched_when_a_device_connects),
        T(test_stopping_answers_what_is_open_and_takes_nothing_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
