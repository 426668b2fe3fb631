/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/talk.h"

#include <inttypes.h>
#include <time.h>

static void add_clock(struct buf *out, int64_t ms)
{
    time_t s = (time_t)(ms / 1000);
    struct tm tm;
    char text[16];

    if (localtime_r(&s, &tm) && strftime(text, sizeof text, "%H:%M:%S", &tm))
        buf_printf(out, "%s.%03d", text, (int)(ms % 1000));
}

static void add_values(struct buf *out, yyjson_val *part)
{
    yyjson_val *item;
    size_t i, max;

    yyjson_arr_foreach(json_get(part, STR("values")), i, max, item)
    {
        yyjson_val *value = json_get(item, STR("value"));
        autobuf struct buf text = {0};

        if (value)
            json_add_value(&text, value);
        else
            buf_printf(&text, "(%" PRIu64 " bytes)", number_of(item, "bytes"));
        buf_add_z(out, str_eq_z(text_of(item, "kind"), "attribute") ? " @" : " ");
        show_text(out, text_of(item, "key"));
        buf_add_u8(out, '=');
        show_text(out, buf_str(&text));
    }
    if (number_of(part, "more"))
        buf_printf(out, " and %" PRIu64 " more", number_of(part, "more"));
}

static void add_wire(struct buf *out, yyjson_val *part)
{
    struct str text = text_of(part, "text");

    buf_add_z(out, str_eq_z(text_of(part, "direction"), "out") ? " -> " : " <- ");
    show_text(out, text_of(part, "subject"));
    buf_printf(out, " (%" PRIu64 " bytes) ", number_of(part, "bytes"));
    show_text(out, text.p ? text : text_of(part, "hex"));
}

static void add_line(struct buf *out, yyjson_val *part)
{
    int64_t ms = (int64_t)number_of(part, "at");
    uint64_t n_left_out = number_of(part, "leftOut");

    if (n_left_out) {
        buf_printf(out, "... %" PRIu64 " left out: they come faster than they can be shown\n", n_left_out);
        return;
    }
    add_clock(out, ms);
    buf_add_z(out, "  ");
    show_text(out, text_of(part, "connector"));
    if (json_get(part, STR("device"))) {
        buf_add_z(out, "  ");
        show_text(out, text_of(part, "device"));
        buf_add_u8(out, ' ');
        add_values(out, part);
    } else {
        add_wire(out, part);
    }
    buf_add_u8(out, '\n');
}

static int follow(struct talk *talk, const struct command_line *line, uint64_t n_max)
{
    bool is_json = command_has(line, "json");
    yyjson_val *part;
    int code = EXIT_DONE;

    for (uint64_t n = 0; (!n_max || n < n_max) && (part = talk_next(talk, &code));) {
        autobuf struct buf out = {0};

        if (is_json) {
            json_add_value(&out, part);
            buf_add_u8(&out, '\n');
        } else {
            add_line(&out, part);
        }
        n += json_get(part, STR("leftOut")) == NULL;
        if (!command_print(&out))
            return EXIT_FAILED;
    }
    return code;
}

static int run_tail(const struct command_line *line)
{
    const char *count = command_option(line, "count");
    autobuf struct buf params = {0};
    struct talk talk;
    int64_t n = 0;
    int code;

    if (count && (str_to_i64(str_from(count), &n) || n < 1))
        return command_usage(line, "--count: found \"%s\"; expected a number from 1", count);
    buf_printf(&params, "{\"wire\":%s", command_has(line, "wire") ? "true" : "false");
    if (line->n_args) {
        buf_add_z(&params, ",\"device\":");
        json_add_string(&params, str_from(line->args[0]));
    }
    buf_add_u8(&params, '}');
    code = talk_open(&talk, line);
    if (!code)
        code = talk_begin(&talk, "tail", buf_str(&params));
    if (!code)
        code = follow(&talk, line, (uint64_t)n);
    talk_close(&talk);
    return code;
}

static const struct option_spec options[] = {
    {.name = "wire", .help = "what connectors receive and send, instead of values"},
    {.name = "count", .letter = 'n', .argument = "N", .help = "end after so many lines"},
    {.name = "json", .help = "print an object a line"},
    {.name = NULL}};

const struct command_spec cmd_tail = {
    .name = "tail",
    .arguments = "[DEVICE]",
    .summary = "show values as they pass through the gateway",
    .text =
        "Behind the report strategy: what is shown is what will be delivered. Attributes are marked by @. With --wire, "
        "what "
        "connectors receive and send (of MQTT: topic and payload), with DEVICE only the connector that serves it. The "
        "gateway never waits for this: what comes faster than it can be shown is left out, and the number is told.",
    .options = options,
    .max_args = 1,
    .run = run_tail};
