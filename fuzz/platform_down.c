/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes down from the platform, through north and router on a fake loop: lines of topic, space and payload, each followed by
 * what a connector does. A line that begins with "!" is a deed of the plant instead: see deed. Each request that is
 * understood gets exactly one answer, every answer is JSON, and at the end nothing is open.
 */
#include "fuzz.h"

#include "gateway/router.h"

static struct loop *loop;
static struct log quiet;
static struct north *north;
static struct router *router;
static struct ctx_host host;
static struct connector_type type;
static struct ctx *ctx;
static struct device *dev;
static struct command *held[300];
static unsigned n_held, n_answers, n_cookies;
static uint64_t cookies[300];

static bool on_send(void *arg, enum limit_kind limit, struct str topic, struct str payload, uint8_t qos)
{
    yyjson_doc *doc = json_read(payload, NULL);

    (void)arg;
    FUZZ_CHECK(limit < LIMIT_KINDS && qos <= 1 && topic.n);
    FUZZ_CHECK(doc && payload.n <= 1000);
    n_answers += str_eq_z(topic, "v1/gateway/rpc") || str_starts(topic, STR("v1/devices/me/rpc/response/"));
    yyjson_doc_free(doc);
    return true;
}

static struct uplink_status on_status(void *arg)
{
    (void)arg;
    return (struct uplink_status){.payload_limit = 1000};
}

static void on_command(void *arg, struct command *command)
{
    (void)arg;
    FUZZ_CHECK(n_held < COUNT_OF(held));
    held[n_held++] = command;
}

static void on_attributes(void *arg, uint64_t cookie, enum err err, struct str json)
{
    yyjson_doc *doc = json_read(json, NULL);

    (void)arg;
    FUZZ_CHECK(cookie < COUNT_OF(cookies) && cookies[cookie] == 1); /* exactly once */
    FUZZ_CHECK(err || doc);
    cookies[cookie]++;
    yyjson_doc_free(doc);
}

static bool on_keys(void *arg, struct device *device, void (*add)(void *, struct str), void *add_arg)
{
    (void)arg, (void)device;
    add(add_arg, STR("mode"));
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

static void replied(void *arg, struct ctx *from, struct command *command, enum err err, struct str json)
{
    (void)arg;
    router_reply(router, from, command, err, json);
}

static void requested(void *arg, struct ctx *from, struct device *device, struct str shared, struct str client,
                      uint64_t cookie)
{
    (void)arg;
    router_request_attributes(router, from, device, shared, client, cookie);
}

static void serving(void *arg, struct ctx *from, bool is_there)
{
    (void)arg;
    router_serving(router, from, is_there);
}

static void released(void *arg, struct ctx *from)
{
    (void)arg;
    router_released(router, from);
}

static void connected(void *arg, struct ctx *from, struct device *device, struct str keys, bool is_all, bool is_again)
{
    (void)arg;
    router_device_connected(router, from, device, keys, is_all, is_again);
}

static void reply(struct str json)
{
    struct command *command = held[--n_held];

    ctx_host_functions.reply(ctx, command, json.n ? ERR_OK : ERR_IO, json);
}

static void end_connector(void)
{
    if (!ctx)
        return;
    ctx_attach(ctx, NULL);
    ctx_unref(ctx);
    ctx = NULL;
    n_held = 0;
    loop_advance(loop, 0);
}

static void begin_connector(void)
{
    end_connector();
    ctx = ctx_new(&type, "P", loop, &host, NULL);
    atomic_store(&ctx_log(ctx)->level, LOG_LEVEL_OFF);
    ctx_attach(ctx, &type);
    loop_advance(loop, 0);
    (void)ctx_serve(ctx, dev);
}

/* r: a reply · t: time · n: a new session · d: none · c: the connector anew · e: its end · a: attributes are asked for */
static void deed(struct str text)
{
    switch (text.n ? *text.p : 0) {
    case 'r':
        if (n_held)
            reply(str_skip(text, 1));
        break;
    case 't':
        loop_advance(loop, text.n > 1 ? (uint64_t)(uint8_t)text.p[1] * 300 : 6000);
        break;
    case 'n':
        north_uplink_state(north, UPLINK_READY);
        break;
    case 'd':
        north_uplink_state(north, UPLINK_DOWN);
        break;
    case 'c':
        begin_connector();
        break;
    case 'e':
        end_connector();
        break;
    case 'a':
        if (ctx && n_cookies < COUNT_OF(cookies)) {
            cookies[n_cookies] = 1;
            ctx_host_functions.request_attributes(ctx, dev, STR("[\"a\",\"b\"]"), STR_NONE, n_cookies++);
        }
        break;
    default:
        break;
    }
}

static void begin_all(void)
{
    static const struct north_link link = {.send = on_send, .status = on_status};
    static const struct north_events events = {
        .state = to_router, .own_rpc = own_rpc, .device_rpc = device_rpc, .device_attributes = device_attributes};
    const struct router_conf conf = {.has_remote_shell = true, .syncs_attributes = true, .config_dir = "/nonexistent"};

    n_held = n_answers = n_cookies = 0;
    memset(cookies, 0, sizeof cookies);
    type = (struct connector_type){.size = sizeof type,
                                   .abi = IOTGW_CONNECTOR_ABI,
                                   .name = "mqtt",
                                   .command = on_command,
                                   .attributes = on_attributes,
                                   .shared_keys = on_keys};
    loop = loop_new_fake(1700000000000);
    log_init(&quiet, "fuzz", LOG_LEVEL_OFF);
    host = (struct ctx_host){.reply = replied,
                             .request_attributes = requested,
                             .serving = serving,
                             .released = released,
                             .device_connected = connected};
    router = router_new(loop, &quiet, &conf, NULL, NULL);
    north = north_new(loop, loop, &quiet, &events, NULL);
    router_attach(router, north);
    north_attach_link(north, &link, NULL);
    north_uplink_state(north, UPLINK_READY);
    dev = device_get(STR("a"));
    begin_connector();
}

static void end_all(void)
{
    struct router_stats stats;

    while (n_held)
        reply(STR("1"));
    loop_advance(loop, 3700 * 1000); /* longer than any deadline */
    stats = router_stats(router);
    FUZZ_CHECK(stats.n_open == 0 && stats.n_waiting == 0);
    FUZZ_CHECK(n_answers >= stats.n_requests); /* and those that were refused, or came again */
    end_connector();
    loop_advance(loop, 0);
    for (unsigned i = 0; i < n_cookies; i++)
        FUZZ_CHECK(cookies[i] <= 2);
    router_free(router);
    north_free(north);
    loop_free(loop);
    log_fini(&quiet);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool is_set_up;
    struct str rest = str_of(data, size);

    if (!is_set_up)
        ctx_setup();
    is_set_up = true;
    begin_all();
    for (unsigned i = 0; rest.n && i < 250; i++) {
        struct str line = fuzz_part(&rest), topic = str_cut(line, str_chr(line, ' '));

        if (line.n && *line.p == '!')
            deed(str_skip(line, 1));
        else
            north_uplink_message(north, topic, str_skip(line, topic.n + 1));
        loop_advance(loop, 0);
    }
    end_all();
    return 0;
}
