/* SPDX-License-Identifier: Apache-2.0 */
/* The methods of local control that steer the running gateway. Each is answered from the callback of what it asks for. */
#include "gateway/console.h"

#include "gateway/registry.h"
#include "gateway/logging.h"

#include <stdio.h>

/* --- rpc ------------------------------------------------------------------------------------------------------------------ */

static void rpc_replied(void *arg, enum err err, struct str json)
{
    struct control_request *request = arg;
    autobuf struct buf out = {0};

    if (err) {
        control_fail(request, err, "%s", err == ERR_RANGE ? "the parameters are not JSON" : err_text(err));
        return;
    }
    buf_add_z(&out, "{\"reply\":");
    buf_add_str(&out, json.n ? json : STR("null"));
    buf_add_u8(&out, '}');
    control_answer(request, buf_str(&out));
}

/* {"device","method","params","timeoutMs"} */
static void method_rpc(void *arg, struct control_request *request, yyjson_val *params)
{
    enum { TIMEOUT_MAX_MS = 24 * 3600 * 1000 };
    const struct console *console = arg;
    struct str device = json_str(json_get(params, STR("device"))), method = json_str(json_get(params, STR("method")));
    yyjson_val *given = json_get(params, STR("params"));
    autobuf struct buf json = {0};
    int64_t timeout_ms = 0;

    if (!method.n) {
        control_fail(request, ERR_USAGE, "no method is named");
        return;
    }
    if (json_get(params, STR("timeoutMs")) && (json_to_i64(json_get(params, STR("timeoutMs")), &timeout_ms) ||
                                               timeout_ms < 0 || timeout_ms > TIMEOUT_MAX_MS)) {
        control_fail(request, ERR_RANGE, "timeoutMs: found no number of milliseconds up to a day");
        return;
    }
    if (given)
        json_add_value(&json, given);
    router_rpc(console->conf.status.router, device, method, buf_str(&json), (uint64_t)timeout_ms, rpc_replied, request);
}

/* --- connectors ------------------------------------------------------------------------------------------------------------- */

static void fleet_answered(void *arg, enum err err, const struct why *why)
{
    struct control_request *request = arg;

    if (err)
        control_fail(request, err, "%s", why_text(why));
    else
        control_answer(request, STR("{}"));
}

static void steer(void *arg, struct control_request *request, yyjson_val *params,
                  void (*fn)(struct fleet *, struct str, fleet_done_fn *, void *))
{
    const struct console *console = arg;
    struct str name = json_str(json_get(params, STR("name")));
    struct fleet_connector connector;

    if (!name.n)
        control_fail(request, ERR_USAGE, "no connector is named");
    else if (!fleet_find(console->conf.status.fleet, name, &connector))
        control_fail(request, ERR_NOTFOUND, "no connector is called \"" STR_FMT "\"", STR_ARG(name));
    else
        fn(console->conf.status.fleet, name, fleet_answered, request);
}

static void method_start(void *arg, struct control_request *request, yyjson_val *params)
{
    steer(arg, request, params, fleet_start);
}

static void method_stop(void *arg, struct control_request *request, yyjson_val *params)
{
    registry_look(((struct console *)arg)->conf.registry); /* what it brought last stays known */
    steer(arg, request, params, fleet_stop);
}

static void method_restart(void *arg, struct control_request *request, yyjson_val *params)
{
    steer(arg, request, params, fleet_restart);
}

/* --- configuration ------------------------------------------------------------------------------------------------------------ */

/* {"done","error","plan":[…],"text","errors","warnings","problems":[…]} */
static void applied(void *arg, const struct apply_result *result)
{
    struct control_request *request = arg;
    autobuf struct buf out = {0}, text = {0};
    const struct problem *problem = result->problems ? result->problems->first : NULL;

    if (result->err && result->err != ERR_CONFIG) {
        control_fail(request, result->err, "%s", why_text(&result->why));
        return;
    }
    buf_printf(&out, "{\"done\":%s,\"error\":", result->err ? "false" : "true");
    json_add_string(&out, str_from(result->err ? why_text(&result->why) : ""));
    buf_add_z(&out, ",\"plan\":");
    if (result->plan) {
        plan_add_json(&out, result->plan);
        plan_add_text(&text, result->plan);
    } else {
        buf_add_z(&out, "[]");
    }
    buf_add_z(&out, ",\"text\":");
    json_add_string(&out, buf_str(&text));
    buf_printf(&out, ",\"errors\":%u,\"warnings\":%u,\"problems\":[", result->problems ? result->problems->n_errors : 0,
               result->problems ? result->problems->n_warnings : 0);
    for (; problem; problem = problem->next) {
        problem_add_json(&out, problem);
        buf_add_z(&out, problem->next ? "," : "");
    }
    buf_add_z(&out, "]}");
    control_answer(request, buf_str(&out));
}

static void method_reload(void *arg, struct control_request *request, yyjson_val *params)
{
    const struct console *console = arg;

    (void)params;
    apply_reload(console->conf.status.apply, applied, request);
}

static void method_preview(void *arg, struct control_request *request, yyjson_val *params)
{
    const struct console *console = arg;

    (void)params;
    apply_preview(console->conf.status.apply, applied, request);
}

/* --- log level ------------------------------------------------------------------------------------------------------------------ */

static void set_all(const struct console *console, enum log_level level)
{
    static const char *const own[] = {"service", "tb_connection", "storage"};
    const struct fleet *fleet = console->conf.status.fleet;

    for (size_t i = 0; i < COUNT_OF(own); i++)
        if (logging_set_level(console->conf.logging, str_from(own[i]), level) == ERR_NOTFOUND)
            continue;
    for (size_t i = 0; i < fleet_count(fleet); i++)
        if (logging_set_level(console->conf.logging, str_from(fleet_at(fleet, i).name), level) == ERR_NOTFOUND)
            continue; /* it does not run */
}

/* {"name","level"}; no name: all loggers. */
static void method_log_level(void *arg, struct control_request *request, yyjson_val *params)
{
    const struct console *console = arg;
    struct str name = json_str(json_get(params, STR("name"))), text = json_str(json_get(params, STR("level")));
    enum log_level level;

    if (logging_level_of(text, &level))
        control_fail(request, ERR_RANGE, "found \"" STR_FMT "\"; expected trace, debug, info, warning, error or none",
                     STR_ARG(text));
    else if (!name.n)
        set_all(console, level), control_answer(request, STR("{}"));
    else if (logging_set_level(console->conf.logging, name, level))
        control_fail(request, ERR_NOTFOUND, "no connector or logger is called \"" STR_FMT "\"", STR_ARG(name));
    else
        control_answer(request, STR("{}"));
}

void console_add_methods(struct console *console)
{
    control_add(console->control, "rpc", method_rpc, console);
    control_add(console->control, "connector.start", method_start, console);
    control_add(console->control, "connector.stop", method_stop, console);
    control_add(console->control, "connector.restart", method_restart, console);
    control_add(console->control, "reload", method_reload, console);
    control_add(console->control, "preview", method_preview, console);
    control_add(console->control, "log-level", method_log_level, console);
}
