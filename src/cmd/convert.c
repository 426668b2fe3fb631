/* SPDX-License-Identifier: Apache-2.0 */
/* The converters of the running gateway on given input, without any I/O but standard input and output. */
#include "cmd/cmd.h"
#include "cmd/convert_vectors.h"
#include "cmd/subject.h"

#include <time.h>
#include <unistd.h>

enum { INPUT_MAX = 64 << 20 };

static const struct option_spec options[] = {
    {.name = "file",
     .letter = 'f',
     .argument = "FILE",
     .help = "a connector's file; the argument is then its type",
     .value = VALUE_FILE},
    {.name = "direction",
     .letter = 'd',
     .argument = "DIRECTION",
     .help = "uplink, downlink, or what else the connector has; else it follows from the input"},
    {.name = "json", .help = "print one line of JSON for each input"},
    {.name = "vectors", .help = "answer test vectors, one JSON object a line"},
    {.name = NULL}};

/* --- results for people ------------------------------------------------------------------------------------------- */

/* Text from outside on a terminal: without control characters. */
static void add_plain(struct buf *out, yyjson_val *val)
{
    if (yyjson_is_str(val))
        json_add_escaped(out, json_str(val));
    else
        json_add_value(out, val);
}

static void add_values(struct buf *out, const char *title, yyjson_val *values)
{
    yyjson_obj_iter iter = yyjson_obj_iter_with(values);
    yyjson_val *name;

    buf_printf(out, "  %s\n", title);
    while ((name = yyjson_obj_iter_next(&iter))) {
        buf_add_z(out, "    ");
        add_plain(out, name);
        buf_add_z(out, " = ");
        json_add_value(out, yyjson_obj_iter_get_val(name));
        buf_add_u8(out, '\n');
    }
}

static void add_telemetry(struct buf *out, yyjson_val *entry)
{
    char title[96] = "telemetry, time of reception";
    int64_t ms, in_second;
    struct tm tm;
    time_t s;

    if (json_to_i64(json_get(entry, STR("ts")), &ms) == ERR_OK) {
        in_second = (ms % 1000 + 1000) % 1000;
        s = (time_t)((ms - in_second) / 1000);
        snprintf(title, sizeof title, "telemetry of %lld ms", (long long)ms);
        if (gmtime_r(&s, &tm) && strftime(title, sizeof title, "telemetry of %Y-%m-%d %H:%M:%S", &tm))
            snprintf(title + strlen(title), sizeof title - strlen(title), ".%03d UTC", (int)in_second);
    }
    add_values(out, title, json_get(entry, STR("values")));
}

static void add_message(struct buf *out, yyjson_val *message)
{
    yyjson_val *telemetry = json_get(message, STR("telemetry")), *attributes = json_get(message, STR("attributes"));
    yyjson_val *profile = json_get(message, STR("profile"));

    add_plain(out, json_get(message, STR("device")));
    if (yyjson_is_str(profile)) {
        buf_add_z(out, " (profile ");
        add_plain(out, profile);
        buf_add_u8(out, ')');
    }
    buf_add_u8(out, '\n');
    for (size_t i = 0; i < yyjson_arr_size(telemetry); i++)
        add_telemetry(out, yyjson_arr_get(telemetry, i));
    if (yyjson_obj_size(attributes))
        add_values(out, "attributes", attributes);
}

static void add_messages(struct buf *out, yyjson_val *messages)
{
    yyjson_arr_iter iter = yyjson_arr_iter_with(messages);
    yyjson_val *message;

    if (yyjson_arr_size(messages) == 0)
        buf_add_z(out, "nothing is sent to the platform\n");
    while ((message = yyjson_arr_iter_next(&iter)))
        add_message(out, message);
}

/* Whatever else an answer holds: a line an item. */
static void add_other(struct buf *out, yyjson_val *name, yyjson_val *val)
{
    size_t n = yyjson_is_arr(val) ? yyjson_arr_size(val) : 1;

    for (size_t i = 0; i < n; i++) {
        add_plain(out, name);
        buf_add_z(out, ": ");
        json_add_value(out, yyjson_is_arr(val) ? yyjson_arr_get(val, i) : val);
        buf_add_u8(out, '\n');
    }
}

static void print_left_out(yyjson_val *list)
{
    yyjson_arr_iter iter = yyjson_arr_iter_with(list);
    yyjson_val *item;

    while ((item = yyjson_arr_iter_next(&iter))) {
        autobuf struct buf text = {0};

        add_plain(&text, item);
        fprintf(stderr, "left out: %.*s\n", (int)text.n, (const char *)text.p);
    }
}

static void add_answer(struct buf *out, yyjson_val *answer)
{
    yyjson_obj_iter iter = yyjson_obj_iter_with(answer);
    yyjson_val *name;

    while ((name = yyjson_obj_iter_next(&iter))) {
        yyjson_val *val = yyjson_obj_iter_get_val(name);

        if (str_eq(json_str(name), STR("messages")))
            add_messages(out, val);
        else if (!str_eq(json_str(name), STR("left_out")))
            add_other(out, name, val);
    }
}

/* --- the loop over the inputs ------------------------------------------------------------------------------------- */

static struct str direction_of(const struct command_line *line, yyjson_val *input)
{
    static const char *const others[] = {"slave", "poll", "run"};

    if (command_has(line, "direction"))
        return str_from(command_option(line, "direction"));
    if (json_get(input, STR("rpc")) || json_get(input, STR("attributes")))
        return STR("downlink");
    for (size_t i = 0; i < COUNT_OF(others); i++)
        if (json_get(input, str_from(others[i])))
            return str_from(others[i]);
    return STR("uplink");
}

static int convert_input(const struct subject *subject, const struct command_line *line, yyjson_val *input)
{
    autobuf struct buf out = {0};
    struct why why = {0};
    struct arena arena;
    yyjson_doc *answer;
    int code = EXIT_DONE;

    arena_init(&arena, 65536);
    answer = convert_one(subject->type, subject->conf, direction_of(line, input), input, &arena, &why);
    if (!answer) {
        code = command_fail(line, EXIT_FAILED, "%s", why_text(&why));
    } else if (command_has(line, "json")) {
        json_add_value(&out, yyjson_doc_get_root(answer));
        buf_add_u8(&out, '\n');
    } else {
        print_left_out(json_get(yyjson_doc_get_root(answer), STR("left_out")));
        add_answer(&out, yyjson_doc_get_root(answer));
    }
    if (!command_print(&out))
        code = EXIT_FAILED;
    yyjson_doc_free(answer);
    arena_fini(&arena);
    return code;
}

static NODISCARD enum err read_input(struct buf *text)
{
    ssize_t n;

    do {
        enum err err = buf_try_grow(text, 65536, INPUT_MAX);

        if (err)
            return err;
        n = read(STDIN_FILENO, text->p + text->n, text->cap - text->n);
        if (n > 0)
            text->n += (size_t)n;
    } while (n > 0);
    return n < 0 ? ERR_IO : ERR_OK;
}

/* Why the value at from is none, with its place in the whole text: what stands before it is read as blanks. */
static void explain(struct str all, size_t from, struct why *why)
{
    autobuf struct buf text = {0};

    buf_add_str(&text, all);
    for (size_t i = 0; i < from; i++)
        if (text.p[i] != '\n')
            text.p[i] = ' ';
    yyjson_doc_free(json_read(buf_str(&text), why));
}

/* JSON values one after the other, with or without blanks between. */
static int convert_inputs(const struct subject *subject, const struct command_line *line, struct str all)
{
    struct str rest = str_trim(all);
    int code = EXIT_DONE;

    while (rest.n) {
        yyjson_read_err err;
        yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)rest.p, rest.n,
                                           YYJSON_READ_NUMBER_AS_RAW | YYJSON_READ_STOP_WHEN_DONE, NULL, &err);
        struct why why = {0};
        int one;

        if (!doc || json_is_too_deep(doc)) {
            yyjson_doc_free(doc);
            explain(all, (size_t)(rest.p - all.p), &why);
            return command_fail(line, EXIT_FAILED, "standard input:%s", why_text(&why));
        }
        one = convert_input(subject, line, yyjson_doc_get_root(doc));
        code = one ? one : code;
        rest = str_trim(str_skip(rest, yyjson_doc_get_read_size(doc)));
        yyjson_doc_free(doc);
    }
    return code;
}

static int convert(const struct subject *subject, const struct command_line *line)
{
    autobuf struct buf text = {0};
    enum err err = read_input(&text);
    int code;

    if (err == ERR_LIMIT)
        return command_fail(line, EXIT_FAILED, "standard input is larger than %d bytes", INPUT_MAX);
    if (err)
        return command_fail(line, EXIT_FAILED, "standard input cannot be read: %s", err_text(err));
    code = convert_inputs(subject, line, buf_str(&text));
    return code == EXIT_DONE && subject->n_errors ? EXIT_CONFIG : code;
}

static int run(const struct command_line *line)
{
    struct subject subject = {0};
    const char *file = command_option(line, "file");
    int code;

    if (command_has(line, "vectors"))
        return line->n_args || file ? command_usage(line, "--vectors stands alone")
                                    : cmd_convert_vectors(stdin, stdout);
    if (line->n_args != 1)
        return command_usage(line, file ? "with --file the argument is a connector type" : "name one connector");
    code = subject_load(&subject, line, file);
    if (code == EXIT_DONE)
        code = convert(&subject, line);
    subject_fini(&subject);
    return code;
}

const struct command_spec cmd_convert = {
    .name = "convert",
    .arguments = "NAME | TYPE --file FILE",
    .summary = "show what the gateway makes of given input",
    .text =
        "Takes the connector called NAME of the configuration, or a connector's FILE, reads input objects from "
        "standard "
        "input, one JSON value after the other, and prints what would be sent. Nothing is connected to.\n\n"
        "What an input holds depends on the connector; for MQTT: "
        "{\"topic\":\"plant/boiler\",\"payload\":{\"t\":21.5}}. "
        "What is left out is named with its reason on standard error. Errors of the configuration are printed as by "
        "check; the exit code is then 78.",
    .options = options,
    .max_args = 1,
    .run = run};
