/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/router_impl.h"

#include "build_id.h"
#include "gateway/own_methods.h"
#include "gateway/shell.h"

/*
 * RPC to the gateway itself (core.md 8.2): what precedes the first "_" of the method says who answers: the gateway, or every
 * connector of that type. Methods without a prefix are the remote shell's.
 */

/* --- connectors by their prefix --------------------------------------------------------------------------------------------- */

/* A member "qos" of a result asks for the reply's QoS and is not part of it. */
static void answer_result(struct router_request *request)
{
    autobuf struct buf data = {0};
    yyjson_doc *doc = json_read(buf_str(&request->result), NULL);
    yyjson_val *root = yyjson_doc_get_root(doc), *key;
    int64_t qos = 1;

    if (!request->result.n) {
        buf_add_z(&data, "{\"success\":false}");
    } else if (json_get(root, STR("qos")) && json_to_i64(json_get(root, STR("qos")), &qos) == ERR_OK) {
        yyjson_obj_iter iter = yyjson_obj_iter_with(root);

        buf_add_u8(&data, '{');
        while ((key = yyjson_obj_iter_next(&iter))) {
            if (str_eq_z(json_str(key), "qos"))
                continue;
            if (data.n > 1)
                buf_add_u8(&data, ',');
            json_add_string(&data, json_str(key));
            buf_add_u8(&data, ':');
            json_add_value(&data, yyjson_obj_iter_get_val(key));
        }
        buf_add_u8(&data, '}');
    } else {
        buf_add_str(&data, buf_str(&request->result));
    }
    yyjson_doc_free(doc);
    router_answer(request, buf_str(&data), qos == 0 ? 0 : 1);
}

static void set_result(struct router_request *request, enum err err, struct str json)
{
    if (!json.n && err == ERR_OK) /* this one has no result */
        return;
    request->result.n = 0;
    router_reply_data(&request->result, request->type, err, json);
}

void router_part_replied(struct router_request *request, const struct delivery *delivery)
{
    set_result(request, delivery->err, buf_str(&delivery->json));
    if (list_is_empty(&request->deliveries))
        answer_result(request);
}

void router_part_is_gone(struct router_request *request)
{
    if (!request->result.n)
        form_error(&request->result, str_from(request->type), FORM_FAILED, STR("The connector is stopped"));
    if (list_is_empty(&request->deliveries))
        answer_result(request);
}

void router_parts_are_late(struct router_request *request)
{
    if (!request->result.n)
        form_error(&request->result, str_from(request->type), FORM_TIMEOUT, STR("Timeout"));
    answer_result(request);
}

static bool is_meant(const struct connector *connector, struct str type, struct str name)
{
    const struct ctx *ctx = connector->ctx;

    return connector->is_there && str_eq_z(type, ctx_type(ctx)->name) && (!name.n || str_eq_z(name, ctx_name(ctx)));
}

static struct str name_of(yyjson_val *params)
{
    struct str name = json_str(json_get(params, STR("connector")));

    return name.n ? name : json_str(json_get(params, STR("connectorName")));
}

/* False: there is none of that type. */
static bool ask_connectors(struct router_request *request, struct str type, yyjson_val *params)
{
    struct router *router = request->router;
    struct str name = name_of(params);
    uint64_t due = router_deadline(request);
    bool is_any = false;

    LIST_EACH(node, &router->connectors) {
        struct connector *connector = CONTAINER_OF(node, struct connector, node);
        enum err err;

        if (!is_meant(connector, type, name))
            continue;
        is_any = true;
        request->type = ctx_type(connector->ctx)->name;
        err = router_deliver(router, connector, request, NULL, request->params, due);
        if (!err)
            continue;
        request->result.n = 0;
        form_error(&request->result, type, err == ERR_UNSUPPORTED ? FORM_UNKNOWN : FORM_FAILED,
                   err == ERR_UNSUPPORTED ? STR("The connector takes no commands") : STR("The connector is busy"));
    }
    if (!is_any)
        return false;
    if (list_is_empty(&request->deliveries))
        answer_result(request);
    else
        router_watch(request, due);
    return true;
}

/* --- the gateway's own methods ------------------------------------------------------------------------------------------------ */

static void ping(void *arg, struct router_request *request, yyjson_val *params)
{
    (void)arg, (void)params;
    router_builtin_reply(arg, request, STR("{\"code\":200,\"resp\":\"pong\"}"));
}

static void devices(void *arg, struct router_request *request, yyjson_val *params)
{
    struct router *router = arg;
    autobuf struct buf out = {0};
    bool is_first = true;

    (void)params;
    buf_add_z(&out, "{\"code\":200,\"resp\":{");
    for (uint32_t i = 0, n = device_count(); i < n; i++) {
        const struct device *dev = device_at(i);
        const struct connector *connector = router_owner(router, dev);

        if (!connector)
            continue;
        if (!is_first)
            buf_add_u8(&out, ',');
        is_first = false;
        buf_add(&out, dev->json, dev->json_n);
        buf_add_u8(&out, ':');
        json_add_string(&out, str_from(ctx_name(connector->ctx)));
    }
    buf_add_z(&out, "}}");
    router_builtin_reply(router, request, buf_str(&out));
}

/* The name without its blanks. */
static void add_count(struct buf *out, struct str name, const char *what, uint64_t n)
{
    struct str part;

    buf_add_z(out, ",\"");
    while (str_split(&name, ' ', &part))
        json_add_escaped(out, part);
    buf_printf(out, "%s\":%llu", what, (unsigned long long)n);
}

/* Received from the devices' side, and made into data for the platform. */
static void stats(void *arg, struct router_request *request, yyjson_val *params)
{
    struct router *router = arg;
    autobuf struct buf each = {0}, out = {0};
    uint64_t n_in = 0, n_sent = 0;

    (void)params;
    LIST_EACH(node, &router->connectors) {
        const struct connector *connector = CONTAINER_OF(node, struct connector, node);
        uint64_t in, sent;

        if (!connector->is_there)
            continue;
        in = ctx_counter(connector->ctx, IOTGW_MESSAGES_IN);
        sent = ctx_counter(connector->ctx, IOTGW_CONVERTED);
        n_in += in;
        n_sent += sent;
        add_count(&each, str_from(ctx_name(connector->ctx)), "EventsProduced", in);
        add_count(&each, str_from(ctx_name(connector->ctx)), "EventsSent", sent);
    }
    buf_printf(&out, "{\"eventsProduced\":%llu,\"eventsSent\":%llu", (unsigned long long)n_in,
               (unsigned long long)n_sent);
    buf_add_str(&out, buf_str(&each));
    buf_add_u8(&out, '}');
    router_builtin_reply(router, request, buf_str(&out));
}

static void version(void *arg, struct router_request *request, yyjson_val *params)
{
    (void)params;
    router_builtin_reply(arg, request,
                         STR("{\"resp\":{\"current_version\":\"" IOTGW_VERSION "\",\"latest_version\":\"" IOTGW_VERSION
                             "\"},\"code\":200}"));
}

static void update(void *arg, struct router_request *request, yyjson_val *params)
{
    (void)params;
    router_builtin_reply(arg, request,
                         STR("{\"error\":\"Update is managed by the system package manager\",\"code\":501}"));
}

static void restart_is_due(void *arg)
{
    struct router *router = arg;

    if (router->events.restart)
        router->events.restart(router->arg, router->is_machine);
}

static void restart_in(struct router *router, yyjson_val *params, bool is_machine)
{
    enum { SECONDS_MAX = 24 * 3600 };
    double seconds = 1;

    if (json_to_double(params, &seconds) || !(seconds >= 1))
        seconds = 1;
    router->is_machine = is_machine;
    timer_start(&router->restart, (uint64_t)((seconds < SECONDS_MAX ? seconds : SECONDS_MAX) * 1000));
}

static void restart(void *arg, struct router_request *request, yyjson_val *params)
{
    restart_in(arg, params, false);
    router_builtin_reply(arg, request, STR("{\"success\":true}"));
}

static void reboot(void *arg, struct router_request *request, yyjson_val *params)
{
    struct router *router = arg;

    if (!router->conf.has_remote_shell) {
        router_builtin_reply(router, request, STR("{\"error\":\"Disabled\",\"code\":403}"));
        return;
    }
    restart_in(router, params, true);
    router_builtin_reply(router, request, STR("{\"success\":true}"));
}

void router_add_builtin(struct router *router, const char *name, router_builtin_fn *fn, void *arg)
{
    assert(router->n_builtins < COUNT_OF(router->builtins));
    router->builtins[router->n_builtins++] = (struct builtin){.name = name, .fn = fn, .arg = arg};
}

void router_builtin_reply(struct router *router, struct router_request *request, struct str json)
{
    assert(request->router == router);
    router_answer(request, json, 1);
}

/* --- dispatch -------------------------------------------------------------------------------------------------------------------- */

static bool is_none(yyjson_val *params)
{
    return !params || yyjson_is_null(params) || (yyjson_is_obj(params) && yyjson_obj_size(params) == 0) ||
           str_eq_z(json_str(params), "{}");
}

static void not_found(struct router_request *request, struct str prefix)
{
    autobuf struct buf text = {0}, data = {0};

    buf_add_str(&text, prefix);
    buf_add_z(&text, " - connector not found in available connectors.");
    buf_add_z(&data, "{\"error\":");
    json_add_string(&data, buf_str(&text));
    buf_add_z(&data, ",\"code\":404}");
    router_answer(request, buf_str(&data), 1);
}

static void gateway_method(struct router_request *request, struct str name, yyjson_val *params)
{
    struct router *router = request->router;

    if (yyjson_is_arr(params) && yyjson_arr_size(params) <= 1) /* a list is spread over the arguments */
        params = yyjson_arr_get_first(params);
    for (size_t i = 0; i < router->n_builtins; i++)
        if (str_eq_z(name, router->builtins[i].name)) {
            request->is_builtin = true;
            router->builtins[i].fn(router->builtins[i].arg, request, is_none(params) ? NULL : params);
            return;
        }
    if (router->conf.has_remote_shell) {
        request->is_builtin = true;
        if (own_methods_request(router->own_methods, request, name, request->params))
            return;
    }
    router_answer(request, STR("{\"error\":\"Method not found\",\"code\":404}"), 1);
}

void router_gateway_request(struct router_request *request)
{
    struct str prefix = str_cut(request->method, str_chr(request->method, '_'));
    struct str name = str_skip(request->method, prefix.n + 1);
    yyjson_doc *doc = json_read(request->params, NULL);
    yyjson_val *params = yyjson_doc_get_root(doc);
    bool has_prefix = prefix.n < request->method.n;

    if (has_prefix && str_eq_z(prefix, "gateway"))
        gateway_method(request, name, params);
    else if (!has_prefix && request->router->conf.has_remote_shell &&
             shell_request(request->router->shell, request, params))
        ; /* it has answered */
    else if (!has_prefix || !ask_connectors(request, prefix, params))
        not_found(request, prefix);
    yyjson_doc_free(doc);
}

void router_gateway_init(struct router *router)
{
    static const struct {
        const char *name;
        router_builtin_fn *fn;
    } own[] = {{"ping", ping},     {"devices", devices}, {"stats", stats},  {"version", version},
               {"update", update}, {"restart", restart}, {"reboot", reboot}};

    for (size_t i = 0; i < COUNT_OF(own); i++)
        router_add_builtin(router, own[i].name, own[i].fn, router);
    timer_init(&router->restart, router->main, restart_is_due, router);
}
