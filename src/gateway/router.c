/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/own_methods.h"
#include "gateway/router_impl.h"
#include "gateway/shell.h"

#include <math.h>

/*
 *   request ──► repeat of the last minute? its answer again
 *      │
 *      ├─ to a device ── nobody serves it ──► waiting (5 s) ──► 408
 *      │        └── delivery to its connector ──► reply, deadline, or the connector stops ──► answer
 *      └─ to the gateway: router_gateway.c
 */

/* --- looking up -------------------------------------------------------------------------------------------------------------- */

struct device *router_find(struct router *router, struct str platform_name)
{
    return router->events.find ? router->events.find(router->arg, platform_name) : device_find(platform_name);
}

struct connector *router_connector(struct router *router, const struct ctx *ctx)
{
    LIST_EACH(node, &router->connectors) {
        struct connector *connector = CONTAINER_OF(node, struct connector, node);

        if (connector->ctx == ctx && connector->is_there)
            return connector;
    }
    return NULL;
}

struct connector *router_owner(struct router *router, const struct device *dev)
{
    /* Only compared: a ctx that is there is held by its connector here. */
    return dev ? router_connector(router, atomic_load_explicit(&dev->owner, memory_order_relaxed)) : NULL;
}

bool router_is_full(const struct router *router, size_t more)
{
    return router->n_bytes + more > BYTES_MAX;
}

/* --- requests ---------------------------------------------------------------------------------------------------------------- */

static void request_is_due(void *arg);

struct router_request *router_request_new(struct router *router, enum origin origin, struct str device, struct str id,
                                          struct str method, struct str params)
{
    struct router_request *request = mem_zero(sizeof *request);

    request->router = router;
    request->origin = origin;
    request->n_bytes = device.n + id.n + method.n + params.n;
    arena_init(&request->arena, request->n_bytes + 64);
    request->device = arena_str(&request->arena, device);
    request->id = arena_str(&request->arena, id);
    request->method = arena_str(&request->arena, method);
    request->params = arena_str(&request->arena, params);
    timer_init(&request->deadline, router->main, request_is_due, request);
    list_init(&request->deliveries);
    list_add_tail(&router->requests, &request->node);
    router->stats.n_open++;
    router->stats.n_requests++;
    router->n_bytes += request->n_bytes;
    return request;
}

static void request_free(struct router_request *request)
{
    struct router *router = request->router;

    timer_stop(&request->deadline);
    list_del(&request->node);
    router->stats.n_open--;
    router->n_bytes -= request->n_bytes;
    buf_fini(&request->result);
    arena_fini(&request->arena);
    mem_free(request);
}

static void wait_no_more(struct router_request *request)
{
    if (!request->is_waiting)
        return;
    request->is_waiting = false;
    list_del(&request->waits);
    request->router->stats.n_waiting--;
}

/* The connector keeps the command until it gives it back; nobody waits for it. */
static void delivery_is_closed(struct delivery *delivery)
{
    if (!delivery->is_open)
        return;
    delivery->is_open = false;
    delivery->connector->n_open--;
    delivery->request = NULL;
    list_del(&delivery->of_request);
    timer_stop(&delivery->deadline);
}

static void send_own(struct router *router, struct str number, struct str data, uint8_t qos)
{
    if (router->north)
        north_reply_own(router->north, number, data, qos);
}

static void send_device(struct router *router, struct str device, struct str id, struct str data)
{
    autobuf struct buf name = {0};

    json_add_string(&name, device);
    if (router->north)
        north_reply_name(router->north, router_find(router, device), buf_str(&name), id, data);
}

void router_answer(struct router_request *request, struct str data, uint8_t qos)
{
    struct router *router = request->router;
    struct list *node;

    assert(!request->is_answered);
    request->is_answered = true;
    wait_no_more(request);
    while ((node = list_first(&request->deliveries)))
        delivery_is_closed(CONTAINER_OF(node, struct delivery, of_request));
    if (request->repeat)
        repeats_answered(&router->repeats, request->repeat, data, qos);
    switch (request->origin) {
    case FROM_DEVICE:
        send_device(router, request->device, request->id, data);
        break;
    case FROM_OWN:
        send_own(router, request->id, data, qos);
        break;
    case FROM_HERE: /* told in a moment: never inside router_rpc */
        if (data.p != (const char *)request->result.p) {
            request->result.n = 0;
            buf_add_str(&request->result, data);
        }
        timer_start(&request->deadline, 0);
        return;
    }
    request_free(request);
}

void router_answer_form(struct router_request *request, const char *type, enum form form, const char *text)
{
    autobuf struct buf data = {0};

    form_error(&data, str_from(type), form, str_from(text));
    router_answer(request, buf_str(&data), 1);
}

void router_reply_data(struct buf *out, const char *type, enum err err, struct str json)
{
    if (json.n)
        form_checked(out, json);
    else if (err == ERR_OK)
        buf_add_z(out, "{\"success\":true}");
    else
        form_error(out, str_from(type),
                   err == ERR_TIMEOUT                              ? FORM_TIMEOUT
                   : err == ERR_UNSUPPORTED || err == ERR_NOTFOUND ? FORM_UNKNOWN
                                                                   : FORM_FAILED,
                   str_from(err_text(err)));
}

/* --- deadlines ---------------------------------------------------------------------------------------------------------------- */

/* params.timeout: from 1000 on ms, below s (core.md 8.1). 0: it says nothing. */
static uint64_t timeout_of(yyjson_val *params)
{
    double n;

    if (json_to_double(json_get(params, STR("timeout")), &n) || !(n > 0))
        return 0;
    n = n >= 1000 ? n : n * 1000;
    return n > DEADLINE_MAX_MS ? DEADLINE_MAX_MS : (uint64_t)ceil(n);
}

uint64_t router_deadline(const struct router_request *request)
{
    return loop_mono_ms(request->router->main) + (request->timeout_ms ? request->timeout_ms : DEADLINE_MS);
}

void router_watch(struct router_request *request, uint64_t due_ms)
{
    timer_start_at(&request->deadline, due_ms);
}

static void request_is_due(void *arg)
{
    struct router_request *request = arg;
    struct router *router = request->router;
    uint64_t due = 0, now = loop_mono_ms(router->main);

    if (request->is_answered) { /* FROM_HERE */
        request->fn(request->arg, ERR_OK, buf_str(&request->result));
        request_free(request);
        return;
    }
    LIST_EACH(node, &request->deliveries) { /* the connector may have its own idea of it */
        struct delivery *delivery = CONTAINER_OF(node, struct delivery, of_request);
        uint64_t at = atomic_load_explicit(&delivery->box.deadline_ms, memory_order_relaxed);

        due = at > due ? at : due;
    }
    if (due > now) {
        router_watch(request, due < now + DEADLINE_MAX_MS ? due : now + DEADLINE_MAX_MS);
        return;
    }
    router->stats.n_timeouts++;
    if (request->is_waiting)
        router_answer(request, STR("{\"error\":\"Request timeout\",\"code\":408}"), 1);
    else if (request->origin == FROM_DEVICE || request->device.n)
        router_answer_form(request, request->type, FORM_TIMEOUT, "Timeout");
    else
        router_parts_are_late(request);
}

/* --- delivery ------------------------------------------------------------------------------------------------------------------ */

static void delivery_free(struct delivery *delivery)
{
    timer_stop(&delivery->deadline);
    list_del(&delivery->node);
    list_del(&delivery->of_request);
    delivery->connector->n_lent--;
    delivery->router->n_bytes -= delivery->n_bytes;
    buf_fini(&delivery->json);
    mem_free(delivery);
}

static struct str put(char **at, struct str text)
{
    struct str copy = str_of(*at, text.n);

    if (text.n)
        memcpy(*at, text.p, text.n);
    *at += text.n;
    return copy;
}

enum err router_deliver(struct router *router, struct connector *connector, struct router_request *request,
                        struct device *dev, struct str params, uint64_t deadline_ms)
{
    struct str method = request ? request->method : STR_NONE, id = request ? request->id : STR_NONE;
    bool has_quotes = request && !dev; /* a connector RPC: the id is the number as a text */
    size_t n = method.n + id.n + 2 + params.n;
    struct delivery *delivery;
    char *at;

    if (!connector->is_there)
        return ERR_CLOSED;
    if (connector->n_open >= OPEN_MAX || connector->n_lent >= LENT_MAX || router_is_full(router, n)) {
        router->stats.n_busy++;
        return ERR_BUSY;
    }
    delivery = mem_zero(sizeof *delivery + n);
    at = delivery->bytes;
    delivery->router = router;
    delivery->n_bytes = n;
    router->n_bytes += n;
    delivery->connector = connector;
    delivery->request = request;
    delivery->dev = dev;
    delivery->box.has_timeout = request && request->timeout_ms;
    delivery->box.command = (struct command){.size = sizeof delivery->box.command,
                                             .kind = request ? COMMAND_RPC : COMMAND_ATTRIBUTES,
                                             .dev = dev,
                                             .deadline_ms = deadline_ms};
    delivery->box.command.method = put(&at, method);
    delivery->box.command.params = put(&at, params);
    delivery->box.command.id.p = at;
    if (has_quotes)
        (void)put(&at, STR("\""));
    (void)put(&at, id);
    if (has_quotes)
        (void)put(&at, STR("\""));
    delivery->box.command.id.n = (size_t)(at - delivery->box.command.id.p);
    timer_init(&delivery->deadline, router->main, NULL, delivery);
    list_add_tail(&connector->lent, &delivery->node);
    connector->n_lent++;
    if (!ctx_command(connector->ctx, &delivery->box.command)) {
        delivery_free(delivery);
        return ERR_UNSUPPORTED;
    }
    delivery->is_open = true;
    connector->n_open++;
    if (request)
        list_add_tail(&request->deliveries, &delivery->of_request);
    return ERR_OK;
}

/* What one connector gave, or that it is gone. */
static void delivery_is_over(struct delivery *delivery)
{
    struct router_request *request = delivery->request;
    struct router *router = delivery->router;
    autobuf struct buf data = {0};

    if (!delivery->is_open) {
        router->stats.n_late++;
        LOG_DEBUG(router->log, "late reply of a connector is dropped",
                  KV_Z("connector", ctx_name(delivery->connector->ctx)));
        return;
    }
    delivery_is_closed(delivery);
    if (!request) {
        update_is_over(router, delivery, delivery->err);
    } else if (request->device.n) {
        router_reply_data(&data, request->type, delivery->err, buf_str(&delivery->json));
        router_answer(request, buf_str(&data), 1);
    } else {
        router_part_replied(request, delivery);
    }
}

static void take_replies(void *arg, struct node *nodes)
{
    struct router *router = arg;

    while (nodes) {
        struct delivery *delivery = CONTAINER_OF(nodes, struct delivery, back);
        struct connector *connector = delivery->connector;

        nodes = nodes->next;
        delivery_is_over(delivery);
        delivery_free(delivery);
        updates_room(router, connector);
    }
}

void router_reply(struct router *router, struct ctx *ctx, struct command *command, enum err err, struct str json)
{
    struct delivery *delivery = CONTAINER_OF(command, struct delivery, box.command);

    if (atomic_exchange_explicit(&delivery->is_replied, true, memory_order_relaxed)) {
        LOG_ERROR(router->log, "a connector replied twice to one command", KV_Z("connector", ctx_name(ctx)));
        return;
    }
    delivery->err = err;
    buf_add_str(&delivery->json, json);
    mailbox_post(&router->replies, &delivery->back);
}

/* --- devices -------------------------------------------------------------------------------------------------------------------- */

static void hand_over(struct router_request *request, struct device *dev, struct connector *connector)
{
    struct router *router = request->router;
    uint64_t due = router_deadline(request);
    enum err err;

    wait_no_more(request);
    request->type = ctx_type(connector->ctx)->name;
    err = router_deliver(router, connector, request, dev, request->params, due);
    if (!err)
        router_watch(request, due);
    else if (err == ERR_UNSUPPORTED)
        router_answer_form(request, request->type, FORM_UNKNOWN, "The connector takes no commands");
    else
        router_answer_form(request, request->type, FORM_FAILED, "The connector is busy");
}

static void wait_for_device(struct router_request *request)
{
    struct router *router = request->router;

    request->is_waiting = true;
    list_add_tail(&router->waiting, &request->waits);
    router->stats.n_waiting++;
    router_watch(request, loop_mono_ms(router->main) + UNKNOWN_MS);
}

static void look_again(struct router *router, struct device *dev)
{
    LIST_EACH_SAFE(node, &router->waiting) {
        struct router_request *request = CONTAINER_OF(node, struct router_request, waits);
        struct device *found = router_find(router, request->device);
        struct connector *connector = !dev || found == dev ? router_owner(router, found) : NULL;

        if (connector)
            hand_over(request, found, connector);
    }
}

void router_names_changed(struct router *router)
{
    look_again(router, NULL);
}

static void begin(struct router_request *request)
{
    struct router *router = request->router;
    struct device *dev = request->device.n ? router_find(router, request->device) : NULL;
    struct connector *connector = router_owner(router, dev);

    if (!request->device.n) {
        router_gateway_request(request);
    } else if (connector) {
        if (router->stats.n_waiting) /* it has come this moment: what waited for it goes first */
            look_again(router, dev);
        hand_over(request, dev, connector);
    } else {
        wait_for_device(request);
    }
}

/* --- what comes from the platform ------------------------------------------------------------------------------------------------ */

static void malformed(struct router *router, const char *what)
{
    LOG_WARN(router->log, "request of the platform is not understood", KV_Z("because", what));
}

static bool is_repeated(struct router *router, enum origin origin, struct str device, struct str id, struct str method,
                        struct str params, struct repeat **repeat)
{
    bool is_new;

    *repeat = repeats_get(&router->repeats, device, id, method, params, loop_mono_ms(router->main), &is_new);
    if (is_new)
        return false;
    router->stats.n_repeats++;
    LOG_DEBUG(router->log, "request of the platform came again", KV_STR("method", method), KV_STR("id", id));
    if (!(*repeat)->is_answered) /* it gets the answer that is on its way */
        return true;
    if (origin == FROM_OWN)
        send_own(router, id, (*repeat)->answer, (*repeat)->qos);
    else
        send_device(router, device, id, (*repeat)->answer);
    return true;
}

/* id: JSON text, or the number of an own request. */
static void from_platform(struct router *router, enum origin origin, struct str device, struct str id, yyjson_val *data)
{
    yyjson_val *given = json_get(data, STR("params"));
    struct str method = json_str(json_get(data, STR("method"))), refusal = STR_NONE;
    autobuf struct buf params = {0};
    struct repeat *repeat = NULL;
    struct router_request *request;

    if (given)
        json_add_value(&params, given);
    else
        buf_add_z(&params, "null");
    if (router->is_stopping)
        refusal = STR("{\"error\":\"The gateway is stopping\",\"success\":false}");
    else if (!yyjson_is_obj(data))
        refusal = STR("{\"error\":\"The request is not a JSON object\",\"success\":false}");
    else if (!yyjson_is_str(json_get(data, STR("method"))))
        refusal = STR("{\"error\":\"The request has no method\",\"success\":false}");
    else if (router->stats.n_open >= REQUESTS_MAX || router_is_full(router, params.n + device.n + method.n))
        refusal = STR("{\"error\":\"The gateway is busy\",\"success\":false}");
    if (refusal.n) {
        if (origin == FROM_OWN)
            send_own(router, id, refusal, 1);
        else
            send_device(router, device, id, refusal);
        return;
    }
    LOG_DEBUG(router->log, "request of the platform", KV_STR("device", device), KV_STR("method", method),
              KV_STR("id", id));
    if (is_repeated(router, origin, device, id, method, buf_str(&params), &repeat))
        return;
    request = router_request_new(router, origin, device, id, method, buf_str(&params));
    request->repeat = repeat;
    request->timeout_ms = timeout_of(given);
    begin(request);
}

void router_own_rpc(struct router *router, struct str number, yyjson_val *root)
{
    from_platform(router, FROM_OWN, STR_NONE, number, root);
}

/* What the platform takes back as the id of an answer: it closes the session for another one (platform-behaviour.md). */
static bool is_id(yyjson_val *id)
{
    int64_t number;

    return json_is_number(id) || (yyjson_is_str(id) && str_to_i64(json_str(id), &number) == ERR_OK &&
                                  number >= INT32_MIN && number <= INT32_MAX);
}

void router_device_rpc(struct router *router, yyjson_val *root)
{
    yyjson_val *data = json_get(root, STR("data")), *number = json_get(data, STR("id"));
    struct str device = json_str(json_get(root, STR("device")));
    autobuf struct buf id = {0};

    if (!device.n)
        malformed(router, "it names no device");
    else if (!is_id(number))
        malformed(router, number ? "its id is no integer" : "it has no id");
    else {
        json_add_value(&id, number);
        from_platform(router, FROM_DEVICE, device, buf_str(&id), data);
    }
}

/* --- what comes from other parts -------------------------------------------------------------------------------------------------- */

struct refusal {
    struct router *router;
    struct timer timer;
    struct list node;
    enum err err;
    router_reply_fn *fn;
    void *arg;
};

static void tell_refusal(void *arg)
{
    struct refusal *refusal = arg;

    list_del(&refusal->node);
    refusal->fn(refusal->arg, refusal->err, STR_NONE);
    mem_free(refusal);
}

static void refuse(struct router *router, enum err err, router_reply_fn *fn, void *arg)
{
    struct refusal *refusal = mem_zero(sizeof *refusal);

    *refusal = (struct refusal){.router = router, .err = err, .fn = fn, .arg = arg};
    timer_init(&refusal->timer, router->main, tell_refusal, refusal);
    list_add_tail(&router->refusals, &refusal->node);
    timer_start(&refusal->timer, 0);
}

void router_rpc(struct router *router, struct str device, struct str method, struct str params_json,
                uint64_t timeout_ms, router_reply_fn *fn, void *arg)
{
    struct str params = params_json.n ? params_json : STR("null");
    yyjson_doc *doc = json_read(params, NULL);
    struct router_request *request;

    if (!doc || router->is_stopping || router->stats.n_open >= REQUESTS_MAX) {
        refuse(router, !doc ? ERR_RANGE : router->is_stopping ? ERR_CANCELLED : ERR_BUSY, fn, arg);
    } else {
        request = router_request_new(router, FROM_HERE, device, STR("0"), method, params);
        request->fn = fn;
        request->arg = arg;
        request->timeout_ms = timeout_ms ? timeout_ms : timeout_of(yyjson_doc_get_root(doc));
        begin(request);
    }
    yyjson_doc_free(doc);
}

/* --- what comes from connectors ---------------------------------------------------------------------------------------------------- */

void router_post(struct router *router, struct notice *notice)
{
    if (!notice->is_released)
        ctx_ref(notice->ctx);
    mailbox_post(&router->in, &notice->node);
}

static void take_notices(void *arg, struct node *nodes)
{
    struct router *router = arg;

    while (nodes) {
        struct notice *notice = CONTAINER_OF(nodes, struct notice, node);
        struct ctx *ctx = notice->is_released ? NULL : notice->ctx;

        nodes = nodes->next;
        notice->run(router, notice);
        ctx_unref(ctx);
    }
}

/* Answers all that waits for it; what it holds comes back, or is freed when it is released. */
static void connector_is_gone(struct router *router, struct connector *connector)
{
    connector->is_there = false;
    LIST_EACH_SAFE(node, &connector->lent) {
        struct delivery *delivery = CONTAINER_OF(node, struct delivery, node);

        if (!delivery->is_open)
            continue;
        struct router_request *request = delivery->request;

        if (!request) {
            delivery_is_closed(delivery);
            update_is_over(router, delivery, ERR_CLOSED);
        } else if (request->device.n) {
            router_answer_form(request, request->type, FORM_FAILED, "The connector is stopped");
        } else {
            delivery_is_closed(delivery);
            router_part_is_gone(request);
        }
    }
    ctx_unref(connector->ctx);
}

struct serving {
    struct notice notice;
    bool is_there;
};

static void run_serving(struct router *router, struct notice *notice)
{
    bool is_there = CONTAINER_OF(notice, struct serving, notice)->is_there;
    struct connector *connector = router_connector(router, notice->ctx);

    if (connector && !is_there) {
        connector_is_gone(router, connector);
    } else if (!connector && is_there) {
        connector = mem_zero(sizeof *connector);
        connector->ctx = ctx_ref(notice->ctx);
        connector->is_there = true;
        list_init(&connector->lent);
        list_add_tail(&router->connectors, &connector->node);
    }
    if (is_there) { /* devices of another may have become its own */
        updates_connector_is_there(router, connector);
        look_again(router, NULL);
    }
    mem_free(CONTAINER_OF(notice, struct serving, notice));
}

void router_serving(struct router *router, struct ctx *ctx, bool is_there)
{
    struct serving *serving = mem_zero(sizeof *serving);

    serving->notice = (struct notice){.ctx = ctx, .run = run_serving};
    serving->is_there = is_there;
    router_post(router, &serving->notice);
}

static void connector_free(struct connector *connector)
{
    LIST_EACH_SAFE(node, &connector->lent)
        delivery_free(CONTAINER_OF(node, struct delivery, node));
    list_del(&connector->node);
    mem_free(connector);
}

/* Nobody can reply any more: what was lent and never came back is freed. Replies that are on their way come first. */
static void run_released(struct router *router, struct notice *notice)
{
    take_replies(router, queue_take(&router->replies.queue));
    LIST_EACH_SAFE(node, &router->connectors) {
        struct connector *connector = CONTAINER_OF(node, struct connector, node);

        if (connector->ctx == notice->ctx && !connector->is_there)
            connector_free(connector);
    }
    mem_free(notice);
}

void router_released(struct router *router, struct ctx *ctx)
{
    struct notice *notice = mem_zero(sizeof *notice);

    *notice = (struct notice){.ctx = ctx, .is_released = true, .run = run_released};
    router_post(router, notice);
}

void router_device_is_there(struct router *router, struct device *dev)
{
    struct connector *connector = router_owner(router, dev);

    if (!connector)
        return;
    updates_device_is_there(router, dev, connector);
    look_again(router, dev);
}

/* --- life ------------------------------------------------------------------------------------------------------------------------ */

void router_state(struct router *router, enum uplink_state state)
{
    updates_session(router, state == UPLINK_READY);
}

struct router_stats router_stats(const struct router *router)
{
    return router->stats;
}

struct router *router_new(struct loop *main, struct log *log, const struct router_conf *conf,
                          const struct router_events *events, void *arg)
{
    struct router *router = mem_zero(sizeof *router);

    router->main = main;
    router->log = log;
    router->conf = *conf;
    if (events)
        router->events = *events;
    router->arg = arg;
    mailbox_init(&router->in, main, take_notices, router);
    mailbox_init(&router->replies, main, take_replies, router);
    list_init(&router->connectors);
    list_init(&router->requests);
    list_init(&router->waiting);
    list_init(&router->refusals);
    repeats_init(&router->repeats);
    updates_init(router);
    router->shell = shell_new(router);
    router->own_methods = own_methods_new(router, conf->config_dir);
    router_gateway_init(router);
    return router;
}

void router_set_syncs_attributes(struct router *router, bool is_on)
{
    router->conf.syncs_attributes = is_on;
}

void router_set_remote_shell(struct router *router, bool is_on)
{
    router->conf.has_remote_shell = is_on;
    if (is_on)
        return;
    shell_stop(router->shell);
    own_methods_stop(router->own_methods);
}

void router_attach(struct router *router, struct north *north)
{
    router->north = north;
}

void router_stop(struct router *router)
{
    router->is_stopping = true;
    LIST_EACH_SAFE(node, &router->requests) {
        struct router_request *request = CONTAINER_OF(node, struct router_request, node);

        if (!request->is_answered && !request->is_builtin)
            router_answer_form(request, "", FORM_FAILED, "The gateway is stopping");
    }
    shell_stop(router->shell);
    own_methods_stop(router->own_methods);
    timer_stop(&router->restart);
}

void router_free(struct router *router)
{
    struct list *node;

    if (!router)
        return;
    router_stop(router);
    router->is_ending = true;
    if (router->north)
        north_stop(router->north);
    router->north = NULL;
    while ((node = list_first(&router->requests))) {
        struct router_request *request = CONTAINER_OF(node, struct router_request, node);

        if (request->fn)
            request->fn(request->arg, ERR_CANCELLED, STR_NONE);
        request_free(request);
    }
    while ((node = list_first(&router->refusals))) {
        struct refusal *refusal = CONTAINER_OF(node, struct refusal, node);

        timer_stop(&refusal->timer);
        tell_refusal(refusal);
    }
    /* What is still on its way: it holds connectors, whose end comes this way too. */
    for (struct node *nodes; (nodes = queue_take(&router->in.queue));)
        take_notices(router, nodes);
    take_replies(router, queue_take(&router->replies.queue));
    LIST_EACH_SAFE(at, &router->connectors) {
        struct connector *connector = CONTAINER_OF(at, struct connector, node);

        if (connector->is_there) /* left behind: its memory stays, and so does what it holds */
            continue;
        connector_free(connector);
    }
    updates_fini(router);
    shell_free(router->shell);
    own_methods_free(router->own_methods);
    repeats_fini(&router->repeats);
    mem_free(router);
}
