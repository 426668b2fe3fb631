/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/convert_vectors.h"
#include "gateway/registry.h"
#include "gateway/router.h"
#include "gateway/router_forms.h"

/*
 * What the gateway makes of one message of the platform (platform-api.md 10): the running gateway's north, router and
 * registry on a loop that is not real, with connectors that only note what they are given and reply what the vector says.
 */
struct dry_connector {
    struct connector_type type;
    struct downlink *downlink;
    struct ctx *ctx;
    struct str name;
};

struct downlink {
    yyjson_val *input;
    struct arena *arena;
    struct loop *loop;
    struct log log;
    struct north *north;
    struct router *router;
    struct registry *registry;
    struct ctx_host host;
    struct dry_connector *connectors;
    size_t n_connectors;
    struct device *asked; /* by the call of the vector */
    struct buf published, received;
    bool is_over;
};

static void add(struct buf *out, const char *before, struct str json)
{
    buf_add_z(out, before);
    buf_add_str(out, json);
}

/* --- the connectors' side ------------------------------------------------------------------------------------------------ */

static void begin_received(const struct dry_connector *self, const char *call)
{
    struct buf *out = &self->downlink->received;

    buf_add_z(out, out->n ? ",{\"connector\":" : "{\"connector\":");
    json_add_string(out, self->name);
    buf_printf(out, ",\"call\":\"%s\",\"content\":{", call);
}

static void note_attributes(const struct dry_connector *self, const struct device *dev, struct str json)
{
    struct buf *out = &self->downlink->received;

    begin_received(self, "attributes");
    add(out, "\"device\":", str_of(dev->json, dev->json_n));
    add(out, ",\"data\":", json);
    buf_add_z(out, "}}");
}

static void note_rpc(const struct dry_connector *self, const struct command *command)
{
    struct buf *out = &self->downlink->received;

    begin_received(self, "rpc");
    if (command->dev) {
        add(out, "\"device\":", str_of(command->dev->json, command->dev->json_n));
        add(out, ",\"data\":{\"id\":", command->id);
        buf_add_u8(out, ',');
    }
    buf_add_z(out, "\"method\":");
    json_add_string(out, command->method);
    add(out, ",\"params\":", command->params);
    if (command->dev)
        buf_add_u8(out, '}');
    add(out, ",\"id\":", command->id);
    buf_add_z(out, "}}");
}

static void on_command(void *arg, struct command *command)
{
    const struct dry_connector *self = arg;
    yyjson_val *input = self->downlink->input, *result = json_get(input, STR("connector_result"));
    yyjson_val *reply = json_get(input, STR("then_connector_replies"));
    yyjson_val *content = json_get(reply, STR("content")), *success = json_get(reply, STR("success_sent"));
    autobuf struct buf data = {0};

    if (command->kind == COMMAND_ATTRIBUTES)
        note_attributes(self, command->dev, command->params);
    else
        note_rpc(self, command);
    if (result)
        form_result(&data, result);
    else if (reply)
        form_reply(&data, yyjson_is_null(content) ? NULL : content,
                   yyjson_is_bool(success) ? yyjson_get_bool(success) : -1);
    else if (command->kind == COMMAND_RPC && command->dev)
        return; /* it comes later */
    ctx_host_functions.reply(self->ctx, command, ERR_OK, buf_str(&data));
}

static void on_attributes(void *arg, uint64_t cookie, enum err err, struct str json)
{
    const struct dry_connector *self = arg;

    (void)cookie;
    if (!err)
        note_attributes(self, self->downlink->asked, json);
}

/* --- the platform's side ---------------------------------------------------------------------------------------------------- */

static bool on_send(void *arg, enum limit_kind limit, struct str topic, struct str payload, uint8_t qos)
{
    struct downlink *d = arg;
    struct buf *out = &d->published;

    (void)limit;
    if (d->is_over)
        return false;
    buf_add_z(out, out->n ? ",{\"topic\":" : "{\"topic\":");
    json_add_string(out, topic);
    buf_printf(out, ",\"qos\":%u,\"payload\":", qos);
    json_add_string(out, payload);
    buf_add_u8(out, '}');
    return true;
}

static struct uplink_status on_status(void *arg)
{
    (void)arg;
    return (struct uplink_status){.state = UPLINK_READY};
}

static void receive(struct downlink *d, yyjson_val *message)
{
    yyjson_val *payload = json_get(message, STR("payload"));
    autobuf struct buf text = {0};

    if (!message)
        return;
    if (yyjson_is_str(payload))
        buf_add_str(&text, json_str(payload));
    else
        json_add_value(&text, payload);
    north_uplink_message(d->north, json_str(json_get(message, STR("topic"))), buf_str(&text));
    loop_advance(d->loop, 0);
}

/* --- the gateway between them ------------------------------------------------------------------------------------------------ */

static void to_router(void *arg, enum uplink_state state)
{
    router_state(((struct downlink *)arg)->router, state);
}

static void own_rpc(void *arg, struct str number, yyjson_val *root)
{
    router_own_rpc(((struct downlink *)arg)->router, number, root);
}

static void device_rpc(void *arg, yyjson_val *root)
{
    router_device_rpc(((struct downlink *)arg)->router, root);
}

static void device_attributes(void *arg, yyjson_val *root)
{
    router_device_attributes(((struct downlink *)arg)->router, root);
}

static struct device *find(void *arg, struct str name)
{
    return registry_by_platform_name(((struct downlink *)arg)->registry, name);
}

static void replied(void *arg, struct ctx *ctx, struct command *command, enum err err, struct str json)
{
    router_reply(((struct downlink *)arg)->router, ctx, command, err, json);
}

static void requested(void *arg, struct ctx *ctx, struct device *dev, struct str shared, struct str client,
                      uint64_t cookie)
{
    router_request_attributes(((struct downlink *)arg)->router, ctx, dev, shared, client, cookie);
}

static void serving(void *arg, struct ctx *ctx, bool is_there)
{
    router_serving(((struct downlink *)arg)->router, ctx, is_there);
}

static void released(void *arg, struct ctx *ctx)
{
    router_released(((struct downlink *)arg)->router, ctx);
}

static void renamed(void *arg, struct router_request *request, yyjson_val *params)
{
    struct downlink *d = arg;
    autobuf struct buf reply = {0};

    registry_renamed(d->registry, params, &reply);
    router_builtin_reply(d->router, request, buf_str(&reply));
}

static void deleted(void *arg, struct router_request *request, yyjson_val *params)
{
    struct downlink *d = arg;
    autobuf struct buf reply = {0};

    registry_deleted(d->registry, params, &reply);
    router_builtin_reply(d->router, request, buf_str(&reply));
}

static void no_devices(void *arg, enum uplink_device_op op, struct device *const *devs, const char *const *wires,
                       size_t n)
{
    (void)arg, (void)op, (void)devs, (void)wires, (void)n;
}

static uint64_t count_of(yyjson_val *statistics, struct str connector, struct str name)
{
    int64_t n = 0;

    return json_to_i64(json_get(json_get(statistics, connector), name), &n) || n < 0 ? 0 : (uint64_t)n;
}

static void add_connector(struct downlink *d, struct str name, struct str type, yyjson_val *statistics)
{
    struct dry_connector *connector = &d->connectors[d->n_connectors++];

    connector->type = (struct connector_type){.size = sizeof connector->type,
                                              .abi = IOTGW_CONNECTOR_ABI,
                                              .name = arena_text(d->arena, type),
                                              .command = on_command,
                                              .attributes = on_attributes};
    connector->downlink = d;
    connector->name = name;
    connector->ctx = ctx_new(&connector->type, arena_text(d->arena, name), d->loop, &d->host, NULL);
    atomic_store(&ctx_log(connector->ctx)->level, LOG_LEVEL_OFF);
    ctx_count(connector->ctx, IOTGW_MESSAGES_IN, count_of(statistics, name, STR("MessagesReceived")));
    ctx_count(connector->ctx, IOTGW_CONVERTED, count_of(statistics, name, STR("MessagesSent")));
    ctx_attach(connector->ctx, connector);
}

static struct dry_connector *connector_of(struct downlink *d, struct str name)
{
    for (size_t i = 0; i < d->n_connectors; i++)
        if (str_eq(d->connectors[i].name, name))
            return &d->connectors[i];
    return NULL;
}

static void set_state(struct downlink *d, yyjson_val *state)
{
    yyjson_val *connectors = json_get(state, STR("connectors")), *key;
    yyjson_obj_iter iter = yyjson_obj_iter_with(connectors);

    d->connectors = arena_zero(d->arena, (yyjson_obj_size(connectors) + 1) * sizeof *d->connectors);
    while ((key = yyjson_obj_iter_next(&iter)))
        add_connector(d, json_str(key), json_str(yyjson_obj_iter_get_val(key)), json_get(state, STR("statistics")));
    iter = yyjson_obj_iter_with(json_get(state, STR("devices")));
    while ((key = yyjson_obj_iter_next(&iter))) {
        struct device *dev = device_get(json_str(key));
        struct dry_connector *owner =
            connector_of(d, json_str(json_get(yyjson_obj_iter_get_val(key), STR("connector"))));

        if (dev && owner)
            (void)ctx_serve(owner->ctx, dev);
    }
    iter = yyjson_obj_iter_with(json_get(state, STR("renamed")));
    while ((key = yyjson_obj_iter_next(&iter)))
        (void)!registry_rename(d->registry, json_str(key), json_str(yyjson_obj_iter_get_val(key)), NULL);
    loop_advance(d->loop, 0);
}

static void ask(struct downlink *d)
{
    struct ctx *owner;
    struct str shared = STR_NONE, client = STR_NONE;

    if (!str_eq(json_str(json_get(d->input, STR("call"))), STR("request_device_attributes")))
        return;
    d->asked = device_get(json_str(json_get(d->input, STR("device"))));
    owner = d->asked ? atomic_load(&d->asked->owner) : NULL;
    if (!owner)
        return;
    if (json_get(d->input, STR("shared")))
        shared = json_text(d->arena, json_get(d->input, STR("shared")));
    if (json_get(d->input, STR("client")))
        client = json_text(d->arena, json_get(d->input, STR("client")));
    ctx_host_functions.request_attributes(owner, d->asked, shared, client, 1);
    loop_advance(d->loop, 0);
}

static void open_gateway(struct downlink *d)
{
    static const struct north_link link = {.send = on_send, .status = on_status};
    static const struct north_events north = {
        .state = to_router, .own_rpc = own_rpc, .device_rpc = device_rpc, .device_attributes = device_attributes};
    static const struct router_events router = {.find = find};
    static const struct router_conf conf = {0};

    ctx_setup();
    d->loop = loop_new_fake(1700000000000);
    d->host = (struct ctx_host){
        .reply = replied, .request_attributes = requested, .serving = serving, .released = released, .arg = d};
    log_init(&d->log, "convert", LOG_LEVEL_OFF);
    d->registry = registry_new(&(struct registry_conf){.loop = d->loop,
                                                       .log = &d->log,
                                                       .dir = ".",
                                                       .handle_renaming = true,
                                                       .link = {.devices = no_devices, .arg = d}});
    d->router = router_new(d->loop, &d->log, &conf, &router, d);
    d->north = north_new(d->loop, d->loop, &d->log, &north, d);
    router_attach(d->router, d->north);
    router_add_builtin(d->router, "device_renamed", renamed, d);
    router_add_builtin(d->router, "device_deleted", deleted, d);
    north_attach_link(d->north, &link, d);
    north_uplink_state(d->north, UPLINK_READY);
    loop_advance(d->loop, 0);
}

static void close_gateway(struct downlink *d)
{
    d->is_over = true;
    for (size_t i = 0; i < d->n_connectors; i++) {
        ctx_attach(d->connectors[i].ctx, NULL);
        ctx_unref(d->connectors[i].ctx);
    }
    loop_advance(d->loop, 0);
    router_free(d->router);
    north_free(d->north);
    registry_free(d->registry);
    loop_free(d->loop);
    log_fini(&d->log);
    buf_fini(&d->published);
    buf_fini(&d->received);
}

void convert_downlink(yyjson_val *question, struct arena *arena, struct buf *members)
{
    struct downlink d = {.input = json_get(question, STR("input")), .arena = arena};

    open_gateway(&d);
    set_state(&d, json_get(d.input, STR("state")));
    ask(&d);
    receive(&d, json_get(d.input, STR("receive")));
    receive(&d, json_get(d.input, STR("then_receive")));
    add(members, "\"publish\":[", buf_str(&d.published));
    add(members, "],\"to_connector\":[", buf_str(&d.received));
    buf_add_u8(members, ']');
    close_gateway(&d);
}
