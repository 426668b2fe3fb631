/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/talk.h"

#include <ctype.h>

enum { LABEL = 12, TIMEOUT_MS = 10000 };

static void label(struct buf *out, const char *text)
{
    buf_printf(out, "%-*s", LABEL, text);
}

static void indent(struct buf *out)
{
    label(out, "");
}

static int64_t ms_of(yyjson_val *object, const char *member)
{
    return (int64_t)number_of(object, member);
}

static void add_gateway(struct buf *out, yyjson_val *gateway, int64_t now_ms)
{
    label(out, "Gateway");
    show_text(out, text_of(gateway, "state"));
    buf_add_u8(out, ' ');
    show_since(out, ms_of(gateway, "since"), now_ms);
    buf_add_z(out, "\n");
    indent(out);
    buf_add_z(out, "version ");
    show_text(out, text_of(gateway, "version"));
    buf_printf(out, ", process %u, ", (unsigned)number_of(gateway, "pid"));
    show_text(out, text_of(gateway, "configuration"));
    buf_add_z(out,
              is_true(gateway, "applying") ? "\n            a change of the configuration is being applied\n" : "\n");
}

/* "text: " for what is not zero. */
static void add_if(struct buf *out, yyjson_val *object, const char *member, const char *after)
{
    if (!number_of(object, member))
        return;
    buf_add_z(out, ", ");
    show_count(out, number_of(object, member));
    buf_add_z(out, after);
}

static void add_platform(struct buf *out, yyjson_val *platform, int64_t now_ms)
{
    struct str state = text_of(platform, "state"), reason = text_of(platform, "reason");
    yyjson_val *name, *wait;
    size_t i, max;

    label(out, "Platform");
    show_text(out, state);
    buf_add_u8(out, ' ');
    show_since(out, ms_of(platform, "since"), now_ms);
    buf_add_z(out, ", ");
    show_text(out, text_of(platform, "host"));
    buf_printf(out, ":%u\n", (unsigned)number_of(platform, "port"));
    if (!str_eq_z(state, "up")) {
        indent(out);
        show_count(out, number_of(platform, "attempts"));
        buf_add_z(out, " attempts");
        if (reason.n)
            buf_add_z(out, "; last failure: ");
        show_text(out, reason);
        buf_add_z(out, "\n");
    }
    indent(out);
    show_count(out, number_of(platform, "values"));
    buf_add_z(out, " values in ");
    show_count(out, number_of(platform, "packs"));
    buf_add_z(out, " publications, ");
    show_bytes(out, number_of(platform, "bytes"));
    buf_printf(out, "; %u of %u in flight", (unsigned)number_of(platform, "inFlight"),
               (unsigned)number_of(platform, "window"));
    add_if(out, platform, "resent", " sent again");
    add_if(out, platform, "rejectedValues", " values rejected");
    add_if(out, platform, "reconnects", " reconnects");
    buf_add_z(out, "\n");
    yyjson_obj_foreach(json_get(platform, STR("waits")), i, max, name, wait)
    {
        if (!number_of(wait, "times"))
            continue;
        indent(out);
        buf_add_z(out, "waited for ");
        show_text(out, json_str(name));
        buf_printf(out, " %u times, ", (unsigned)number_of(wait, "times"));
        show_span(out, ms_of(wait, "ms"));
        buf_add_z(out, "\n");
    }
}

static void add_takeover(struct buf *out, yyjson_val *takeover)
{
    if (!yyjson_is_obj(takeover))
        return;
    indent(out);
    buf_add_z(out, is_true(takeover, "running") ? "taking over" : "taken over");
    if (text_of(takeover, "what").n)
        buf_add_z(out, " from ");
    show_text(out, text_of(takeover, "what"));
    buf_add_z(out, ": ");
    show_count(out, number_of(takeover, "events"));
    buf_add_z(out, " events");
    add_if(out, takeover, "corrupt", " corrupt");
    add_if(out, takeover, "superseded", " superseded by newer attributes");
    add_if(out, takeover, "leftOut", " values left out");
    buf_add_z(out, "\n");
}

static void add_storage(struct buf *out, yyjson_val *storage, int64_t now_ms)
{
    struct str trouble = text_of(storage, "trouble");

    label(out, "Storage");
    show_text(out, text_of(storage, "type"));
    buf_add_z(out, ": ");
    show_count(out, number_of(storage, "events"));
    buf_add_z(out, " events wait (");
    show_count(out, number_of(storage, "values"));
    buf_add_z(out, " values, ");
    show_bytes(out, number_of(storage, "bytes"));
    buf_add_z(out, ")");
    if (number_of(storage, "events")) {
        buf_add_z(out, ", the oldest for ");
        show_span(out, (int64_t)number_of(storage, "oldestSeconds") * 1000);
    }
    buf_add_z(out, "\n");
    if (is_true(storage, "split")) {
        indent(out);
        show_count(out, number_of(storage, "backlogEvents"));
        buf_add_z(out, " of them are of an outage and drain beside what is new\n");
    }
    if (number_of(storage, "droppedEvents")) {
        indent(out);
        show_count(out, number_of(storage, "droppedEvents"));
        buf_add_z(out, " events (");
        show_count(out, number_of(storage, "droppedValues"));
        buf_add_z(out, " values) dropped\n");
    }
    add_takeover(out, json_get(storage, STR("takeover")));
    if (trouble.n) {
        indent(out);
        buf_add_z(out, "TROUBLE: ");
        show_text(out, trouble);
        buf_add_z(out, ", ");
        show_since(out, ms_of(storage, "troubleSince"), now_ms);
        buf_add_z(out, "\n");
    }
    if (number_of(storage, "blocked")) {
        indent(out);
        buf_add_z(out, "FULL: sources are held back ");
        show_since(out, ms_of(storage, "blockedSince"), now_ms);
        buf_add_z(out, "\n");
    }
}

static void add_ledger(struct buf *out, yyjson_val *ledger)
{
    static const char *const columns[] = {"collected", "delivered", "waiting", "overflow",
                                          "age",       "rejected",  "damaged"};

    label(out, "Values");
    show_count(out, number_of(ledger, "read"));
    buf_add_z(out, " read");
    add_if(out, ledger, "unchanged", " unchanged");
    add_if(out, ledger, "repeated", " repeated");
    add_if(out, ledger, "failed", " failed");
    buf_add_z(out, "\n");
    indent(out);
    for (unsigned i = 0; i < COUNT_OF(columns); i++) {
        if (i >= 3 && !number_of(ledger, columns[i]))
            continue;
        buf_add_z(out, i == 0 ? "" : i == 1 ? " = " : " + ");
        show_count(out, number_of(ledger, columns[i]));
        buf_printf(out, " %s%s", i == 3 || i == 4 ? "dropped by " : "", columns[i]);
    }
    buf_add_z(out, "\n");
}

static void add_link(struct buf *out, yyjson_val *link, int64_t now_ms)
{
    struct str state = text_of(link, "state"), reason = text_of(link, "reason");

    show_text(out, state);
    if (ms_of(link, "since")) {
        buf_add_u8(out, ' ');
        show_span(out, now_ms - ms_of(link, "since"));
    }
    if (str_eq_z(state, "up"))
        return;
    if (number_of(link, "attempts"))
        buf_printf(out, ", %u attempts", (unsigned)number_of(link, "attempts"));
    if (reason.n)
        buf_add_z(out, ": ");
    show_text(out, reason);
}

/* Links of their own lines: only those that are not up, if there are several. */
static void add_links(struct buf *out, yyjson_val *links, int64_t now_ms)
{
    yyjson_val *link;
    size_t i, max;

    if (yyjson_arr_size(links) < 2)
        return;
    yyjson_arr_foreach(links, i, max, link)
    {
        if (str_eq_z(text_of(link, "state"), "up"))
            continue;
        buf_add_z(out, "    ");
        show_text(out, text_of(link, "name"));
        buf_add_z(out, ": ");
        add_link(out, link, now_ms);
        buf_add_z(out, "\n");
    }
}

/* Of a connector's own server: what was asked of it, and how much of that was refused. */
static void add_server(struct buf *out, yyjson_val *server)
{
    static const struct {
        const char *member, *text;
    } refused[] = {{"unauthorized", " without login"},
                   {"notFound", " not found"},
                   {"wrongMethod", " with a wrong method"},
                   {"late", " too late"},
                   {"tooLarge", " too large"},
                   {"tooOften", " too often"},
                   {"wrong", " wrong"},
                   {"busy", " told to wait"},
                   {"failed", " failed"},
                   {"gone", " whose client had gone"}};

    if (!number_of(server, "connections"))
        return;
    buf_add_z(out, "    ");
    show_count(out, number_of(server, "open"));
    buf_add_z(out, " connections, ");
    show_count(out, number_of(server, "requests"));
    buf_add_z(out, " requests");
    for (size_t i = 0; i < COUNT_OF(refused); i++)
        add_if(out, server, refused[i].member, refused[i].text);
    add_if(out, server, "slow", " connections too slow");
    add_if(out, server, "tooMany", " connections too many");
    buf_add_z(out, "\n");
}

static void add_connectors(struct buf *out, yyjson_val *connectors, int64_t now_ms)
{
    yyjson_val *connector;
    size_t i, max;
    int width = 10;

    buf_add_z(out, yyjson_arr_size(connectors) ? "\nConnectors\n" : "\nNo connectors\n");
    yyjson_arr_foreach(connectors, i, max, connector)
    {
        int n = (int)text_of(connector, "name").n;

        width = n > width && n <= 30 ? n : width;
    }
    yyjson_arr_foreach(connectors, i, max, connector)
    {
        struct str name = text_of(connector, "name"), error = text_of(connector, "error"),
                   state = text_of(connector, "state");
        yyjson_val *link = json_get(connector, STR("link"));

        buf_add_z(out, "  ");
        show_text(out, name);
        buf_printf(out, "%*s  ", name.n < (size_t)width ? width - (int)name.n : 0, "");
        show_text(out, text_of(connector, "type"));
        buf_add_z(out, "  ");
        if (!str_eq_z(state, "running") || !link) {
            show_text(out, state);
        } else if (str_eq_z(text_of(link, "state"), "none")) {
            buf_add_z(out, "running");
        } else {
            add_link(out, link, now_ms);
        }
        if (link && !is_true(connector, "answers"))
            buf_add_z(out, "; ITS LOOP DOES NOT ANSWER");
        if (error.n) {
            buf_add_z(out, "; ");
            show_text(out, error);
        }
        buf_add_z(out, "\n");
        add_links(out, json_get(connector, STR("links")), now_ms);
        add_server(out, json_get(connector, STR("server")));
    }
}

static void add_loops(struct buf *out, yyjson_val *loops)
{
    yyjson_val *loop;
    size_t i, max;

    yyjson_arr_foreach(loops, i, max, loop)
    {
        if (is_true(loop, "answers") && !number_of(loop, "slowTurns"))
            continue;
        label(out, "Loop");
        show_text(out, text_of(loop, "name"));
        buf_add_z(out, is_true(loop, "answers") ? "" : " DOES NOT ANSWER");
        add_if(out, loop, "slowTurns", " slow turns");
        buf_add_z(out, "\n");
    }
}

static int show(const struct command_line *line, yyjson_val *status)
{
    autobuf struct buf out = {0};
    int64_t now_ms = ms_of(json_get(status, STR("gateway")), "now");

    (void)line;
    add_gateway(&out, json_get(status, STR("gateway")), now_ms);
    add_platform(&out, json_get(status, STR("platform")), now_ms);
    add_storage(&out, json_get(status, STR("storage")), now_ms);
    add_ledger(&out, json_get(status, STR("ledger")));
    add_loops(&out, json_get(status, STR("loops")));
    add_connectors(&out, json_get(status, STR("connectors")), now_ms);
    return command_print(&out) ? EXIT_DONE : EXIT_FAILED;
}

/* --- devices -------------------------------------------------------------------------------------------------------------- */

static void add_device(struct buf *out, yyjson_val *device)
{
    static const char *const columns[] = {"read", "collected", "delivered", "waiting"};
    yyjson_val *ledger = json_get(device, STR("ledger"));
    uint64_t dropped = number_of(ledger, "overflow") + number_of(ledger, "age") + number_of(ledger, "rejected");
    struct str name = text_of(device, "name");

    for (unsigned i = 0; i < COUNT_OF(columns); i++) {
        autobuf struct buf count = {0};

        show_count(&count, number_of(ledger, columns[i]));
        buf_printf(out, "%12.*s", STR_ARG(buf_str(&count)));
    }
    buf_printf(out, "%9u  ", (unsigned)dropped);
    show_text(out, name);
    if (text_of(device, "platformName").n) {
        buf_add_z(out, " (on the platform: ");
        show_text(out, text_of(device, "platformName"));
        buf_add_z(out, ")");
    }
    if (text_of(device, "connector").n) {
        buf_add_z(out, ", ");
        show_text(out, text_of(device, "connector"));
    }
    if (str_eq_z(text_of(device, "link"), "down"))
        buf_add_z(out, ", DOWN");
    buf_add_z(out, "\n");
}

/* All parts, one after the other; nothing of the gateway is kept waiting by a long list. */
static int devices(const struct command_line *line)
{
    struct talk talk;
    bool is_json = command_has(line, "json"), is_first = true, is_more = true;
    autobuf struct buf out = {0}, params = {0};
    int code = talk_open(&talk, line);

    if (line->n_args) {
        buf_add_z(&params, "{\"name\":");
        json_add_string(&params, str_from(line->args[0]));
        buf_add_u8(&params, '}');
    }
    if (!code)
        buf_add_z(&out,
                  is_json ? "{\"devices\":[" : "        read   collected   delivered     waiting  dropped  device\n");
    while (!code && is_more) {
        yyjson_val *result, *device, *next;
        size_t i, max;

        code = talk_ask(&talk, "devices", buf_str(&params), TIMEOUT_MS, &result);
        if (code)
            break;
        yyjson_arr_foreach(json_get(result, STR("devices")), i, max, device)
        {
            if (is_json && !is_first)
                buf_add_u8(&out, ',');
            is_first = false;
            if (is_json)
                json_add_value(&out, device);
            else
                add_device(&out, device);
        }
        next = json_get(result, STR("next"));
        is_more = json_is_number(next);
        params.n = 0;
        buf_add_z(&params, "{\"from\":");
        json_add_value(&params, next);
        buf_add_u8(&params, '}');
    }
    if (is_json)
        buf_add_z(&out, "]}\n");
    talk_close(&talk);
    return code ? code : command_print(&out) ? EXIT_DONE : EXIT_FAILED;
}

/* --- endpoints ---------------------------------------------------------------------------------------------------------- */

static void add_results(struct buf *out, yyjson_val *endpoint)
{
    static const struct {
        const char *member, *text;
    } results[] = {{"moved", " redirected"},
                   {"refused", " refused"},
                   {"failed", " failed"},
                   {"timeout", " timed out"},
                   {"unreachable", " not reachable"},
                   {"closed", " cut off"},
                   {"tls", " TLS failures"},
                   {"protocol", " not understood"},
                   {"limit", " beyond a limit"},
                   {"content", " of no use"},
                   {"overdue", " left out, the last had not ended"},
                   {"noRoom", " left out, the storage had no room"}};

    for (size_t i = 0; i < COUNT_OF(results); i++)
        add_if(out, endpoint, results[i].member, results[i].text);
}

/* "badChecksums": 3 bad checksums */
static void add_figures(struct buf *out, yyjson_val *figures)
{
    yyjson_val *name, *count;
    size_t i, max;

    yyjson_obj_foreach(figures, i, max, name, count)
    {
        struct str text = json_str(name);
        autobuf struct buf words = {0};

        for (size_t k = 0; k < text.n; k++) {
            if (isupper((unsigned char)text.p[k]) ||
                (isdigit((unsigned char)text.p[k]) && k && !isdigit((unsigned char)text.p[k - 1])))
                buf_add_u8(&words, ' ');
            buf_add_u8(&words, (uint8_t)tolower((unsigned char)text.p[k]));
        }
        buf_add_u8(&words, 0);
        if (!number_of(figures, text.p))
            continue;
        buf_add_z(out, ", ");
        show_count(out, number_of(figures, text.p));
        buf_printf(out, " %s", (const char *)words.p);
    }
}

/* The class of durations below which share of all calls lie. */
static struct str duration_at(yyjson_val *endpoint, double share)
{
    uint64_t n = 0, wanted = (uint64_t)(share * (double)number_of(endpoint, "calls") + 0.999999);
    yyjson_val *name, *count;
    size_t i, max;

    yyjson_obj_foreach(json_get(endpoint, STR("durations")), i, max, name, count)
    {
        n += number_of(json_get(endpoint, STR("durations")), json_str(name).p);
        if (n >= wanted)
            return json_str(name);
    }
    return STR("-");
}

static void add_endpoint(struct buf *out, yyjson_val *endpoint)
{
    autobuf struct buf count = {0};
    uint64_t n = number_of(endpoint, "calls");

    show_count(&count, n);
    buf_printf(out, "%12.*s", STR_ARG(buf_str(&count)));
    buf_printf(out, "%10.2f", n ? (double)number_of(endpoint, "us") / (double)n / 1000 : 0.0);
    buf_printf(out, "%9.*s", STR_ARG(n ? duration_at(endpoint, 0.5) : STR("-")));
    buf_printf(out, "%9.*s", STR_ARG(n ? duration_at(endpoint, 0.99) : STR("-")));
    buf_printf(out, "%10.1f  ", (double)number_of(endpoint, "longestUs") / 1000);
    show_text(out, text_of(endpoint, "name"));
    add_results(out, endpoint);
    add_figures(out, json_get(endpoint, STR("figures")));
    buf_add_z(out, "\n");
}

static int show_endpoints(const struct command_line *line, yyjson_val *result)
{
    autobuf struct buf out = {0};
    yyjson_val *endpoint;
    size_t i, max;

    (void)line;
    buf_add_z(&out, "       calls   mean ms   half in   99 % in   longest  endpoint\n");
    yyjson_arr_foreach(json_get(result, STR("endpoints")), i, max, endpoint) add_endpoint(&out, endpoint);
    return command_print(&out) ? EXIT_DONE : EXIT_FAILED;
}

static int endpoints(const struct command_line *line)
{
    autobuf struct buf params = {0};

    if (line->n_args) {
        buf_add_z(&params, "{\"connector\":");
        json_add_string(&params, str_from(line->args[0]));
        buf_add_u8(&params, '}');
    }
    return talk_run(line, "endpoints", buf_str(&params), TIMEOUT_MS, show_endpoints);
}

static int run(const struct command_line *line)
{
    if (command_has(line, "devices"))
        return devices(line);
    if (command_has(line, "endpoints"))
        return endpoints(line);
    if (line->n_args)
        return command_usage(line, "found \"%s\"; a device is named with --devices, a connector with --endpoints",
                             line->args[0]);
    return talk_run(line, "status", STR_NONE, TIMEOUT_MS, show);
}

static const struct option_spec options[] = {
    {.name = "devices", .letter = 'd', .help = "values of each device instead, or of DEVICE alone"},
    {.name = "endpoints",
     .letter = 'e',
     .help = "results and durations of what connectors poll instead, or of CONNECTOR alone"},
    {.name = "json", .help = "print an object"},
    {.name = NULL}};

const struct command_spec cmd_status = {
    .name = "status",
    .arguments = "[DEVICE|CONNECTOR]",
    .summary = "what the running gateway is doing",
    .text =
        "The link to the platform, the storage, the connectors and their links, and where every value is: read from "
        "its source, collected (what the report strategy lets pass), delivered, waiting, or dropped and why. "
        "Exit code 69 if no gateway runs with this configuration.",
    .options = options,
    .max_args = 1,
    .run = run};
