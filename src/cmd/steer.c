/* SPDX-License-Identifier: Apache-2.0 */
/* Subcommands that steer the running gateway with one request each: rpc, connector, reload, log-level. */
#include "cmd/talk.h"

#include <inttypes.h>

enum { TIMEOUT_MS = 60 * 1000, MARGIN_MS = 10 * 1000, RPC_MS = 24 * 3600 * 1000 };

static const struct option_spec json_option[] = {{.name = "json", .help = "print an object"}, {.name = NULL}};

static void add_member(struct buf *out, const char *name, const char *text)
{
    buf_printf(out, "%s\"%s\":", out->n ? "," : "{", name);
    json_add_string(out, str_from(text));
}

static int show_nothing(const struct command_line *line, yyjson_val *result)
{
    (void)line;
    (void)result;
    return EXIT_DONE;
}

/* --- rpc ------------------------------------------------------------------------------------------------------------------ */

static int show_reply(const struct command_line *line, yyjson_val *result)
{
    autobuf struct buf out = {0};

    (void)line;
    json_add_pretty(&out, json_get(result, STR("reply")));
    if (!out.n || out.p[out.n - 1] != '\n')
        buf_add_u8(&out, '\n');
    return command_print(&out) ? EXIT_DONE : EXIT_FAILED;
}

static int run_rpc(const struct command_line *line)
{
    const char *timeout = command_option(line, "timeout");
    autobuf struct buf params = {0};
    uint64_t timeout_ms = 0;

    add_member(&params, "device", line->args[0]);
    add_member(&params, "method", line->args[1]);
    if (timeout) {
        double s;

        if (str_to_double(str_from(timeout), &s) || !(s > 0) || s > 86400)
            return command_usage(line, "--timeout: found \"%s\"; expected seconds, up to a day", timeout);
        timeout_ms = (uint64_t)(s * 1000);
        buf_printf(&params, ",\"timeoutMs\":%" PRIu64, timeout_ms);
    }
    if (line->n_args > 2) {
        struct why why = {0};
        yyjson_doc *doc = json_read(str_from(line->args[2]), &why);

        if (!doc)
            return command_usage(line, "PARAMS is no JSON: %s", why_text(&why));
        buf_add_z(&params, ",\"params\":");
        json_add_value(&params, yyjson_doc_get_root(doc));
        yyjson_doc_free(doc);
    }
    buf_add_u8(&params, '}');
    return talk_run(line, "rpc", buf_str(&params), timeout_ms ? timeout_ms + MARGIN_MS : RPC_MS, show_reply);
}

static const struct option_spec rpc_options[] = {
    {.name = "timeout", .argument = "SECONDS", .help = "how long the answer may take; without: as for the platform"},
    {.name = "json", .help = "print an object, {\"reply\":…}"},
    {.name = NULL}};

const struct command_spec cmd_rpc = {
    .name = "rpc",
    .arguments = "DEVICE METHOD [PARAMS]",
    .summary = "send a request to a device, as the platform would",
    .text = "DEVICE is its name on the platform; \"\" is the gateway itself, and by the method's prefix a connector. "
            "PARAMS is JSON. The reply is printed, whatever it says; exit code 1 if there was none.",
    .options = rpc_options,
    .min_args = 2,
    .max_args = 3,
    .run = run_rpc};

/* --- connector -------------------------------------------------------------------------------------------------------------- */

static int show_connectors(const struct command_line *line, yyjson_val *status)
{
    autobuf struct buf out = {0};
    yyjson_val *connector;
    size_t i, max;

    (void)line;
    yyjson_arr_foreach(json_get(status, STR("connectors")), i, max, connector)
    {
        show_text(&out, text_of(connector, "name"));
        buf_add_z(&out, "\t");
        show_text(&out, text_of(connector, "type"));
        buf_add_z(&out, "\t");
        show_text(&out, text_of(connector, "state"));
        buf_add_z(&out, "\t");
        show_text(&out, text_of(json_get(connector, STR("link")), "state"));
        buf_add_z(&out, "\n");
    }
    return command_print(&out) ? EXIT_DONE : EXIT_FAILED;
}

static int run_connector(const struct command_line *line)
{
    static const struct {
        const char *verb, *method;
    } verbs[] = {{"start", "connector.start"}, {"stop", "connector.stop"}, {"restart", "connector.restart"}};
    autobuf struct buf params = {0};

    if (strcmp(line->args[0], "list") == 0 && line->n_args == 1)
        return talk_run(line, "status", STR_NONE, TIMEOUT_MS, show_connectors);
    for (size_t i = 0; i < COUNT_OF(verbs); i++) {
        if (strcmp(line->args[0], verbs[i].verb) != 0)
            continue;
        if (line->n_args != 2)
            return command_usage(line, "%s what? A connector's NAME is missing", verbs[i].verb);
        add_member(&params, "name", line->args[1]);
        buf_add_u8(&params, '}');
        return talk_run(line, verbs[i].method, buf_str(&params), TIMEOUT_MS, show_nothing);
    }
    return command_usage(line, "found \"%s\"; expected list, start NAME, stop NAME or restart NAME", line->args[0]);
}

const struct command_spec cmd_connector = {
    .name = "connector",
    .arguments = "list|start|stop|restart [NAME]",
    .summary = "list, start, stop or restart connectors of the running gateway",
    .text = "list prints name, type, state and link, separated by tabs. A stopped connector stays in the list; it "
            "starts again with "
            "the gateway, or by start. Exit code 1 with the reason if it could not be done.",
    .options = json_option,
    .min_args = 1,
    .max_args = 2,
    .choices = "list start stop restart",
    .run = run_connector};

/* --- reload ------------------------------------------------------------------------------------------------------------------ */

static void add_problems(struct buf *out, yyjson_val *result)
{
    yyjson_val *problem;
    size_t i, max;

    yyjson_arr_foreach(json_get(result, STR("problems")), i, max, problem)
    {
        show_text(out, text_of(problem, "file"));
        if (number_of(problem, "line"))
            buf_printf(out, ":%u:%u", (unsigned)number_of(problem, "line"), (unsigned)number_of(problem, "column"));
        buf_add_z(out, ": ");
        show_text(out, text_of(problem, "path"));
        buf_add_z(out, text_of(problem, "path").n ? ": " : "");
        buf_add_z(out, str_eq_z(text_of(problem, "severity"), "error") ? "" : "warning: ");
        show_text(out, text_of(problem, "message"));
        buf_add_z(out, "\n");
    }
}

static int show_plan(const struct command_line *line, yyjson_val *result)
{
    autobuf struct buf out = {0};
    struct str text = text_of(result, "text"), part;

    (void)line;
    add_problems(&out, result);
    while (text.n && str_split(&text, '\n', &part)) {
        show_text(&out, part);
        buf_add_z(&out, "\n");
    }
    return !command_print(&out) ? EXIT_FAILED : is_true(result, "done") ? EXIT_DONE : EXIT_CONFIG;
}

int steer_preview(const struct command_line *line)
{
    return talk_run(line, "preview", STR_NONE, TIMEOUT_MS, show_plan);
}

static int run_reload(const struct command_line *line)
{
    return talk_run(line, "reload", STR_NONE, TIMEOUT_MS, show_plan);
}

const struct command_spec cmd_reload = {.name = "reload",
                                        .summary = "let the running gateway take over its edited files now",
                                        .text = "Waits until it is done and prints what was changed. What has errors "
                                                "is left as it was, and named; then the exit code "
                                                "is 78. iotgw check --diff says what a reload would change.",
                                        .options = json_option,
                                        .run = run_reload};

/* --- log-level ----------------------------------------------------------------------------------------------------------------- */

static int run_log_level(const struct command_line *line)
{
    autobuf struct buf params = {0};

    add_member(&params, "level", line->args[line->n_args - 1]);
    if (line->n_args == 2)
        add_member(&params, "name", line->args[0]);
    buf_add_u8(&params, '}');
    return talk_run(line, "log-level", buf_str(&params), TIMEOUT_MS, show_nothing);
}

const struct command_spec cmd_log_level = {
    .name = "log-level",
    .arguments = "[CONNECTOR] LEVEL",
    .summary = "change how much the running gateway logs",
    .text = "LEVEL: trace, debug, info, warning, error or none. CONNECTOR may also be a logger: service, "
            "tb_connection, storage. "
            "Without: all of them. Until the next start, or the next change of its configuration.",
    .options = json_option,
    .min_args = 1,
    .max_args = 2,
    .run = run_log_level};
