/* SPDX-License-Identifier: Apache-2.0 */
/* The smaller files of the gateway: logs.json (core.md 12.1), list.json (9.5), statistics.json (11). */
#include "gateway/gateway_conf.h"

#include "base/log.h"
#include "gateway/log_format.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

static yyjson_val *as_json(const struct yyjson_val *val)
{
    return (yyjson_val *)(uintptr_t)val;
}

/* ---- logs.json: a dictionary of Python's logging.config ---- */

static const struct choice logger_levels[] = {
    {"INFO", LOG_LEVEL_INFO},      {"NONE", LOG_LEVEL_OFF},    {"NOTSET", LOG_LEVEL_OFF},
    {"CRITICAL", LOG_LEVEL_ERROR}, {"ERROR", LOG_LEVEL_ERROR}, {"WARNING", LOG_LEVEL_WARN},
    {"WARN", LOG_LEVEL_WARN},      {"DEBUG", LOG_LEVEL_DEBUG}, {"TRACE", LOG_LEVEL_TRACE},
    {"0", LOG_LEVEL_TRACE},        {"5", LOG_LEVEL_TRACE},     {"10", LOG_LEVEL_DEBUG},
    {"20", LOG_LEVEL_INFO},        {"30", LOG_LEVEL_WARN},     {"40", LOG_LEVEL_ERROR},
    {"50", LOG_LEVEL_ERROR},       {"100", LOG_LEVEL_OFF},     {NULL, 0}};

static const struct field formatter_fields[] = {
    F_STR(struct formatter_conf, format, "format", .def_str = "%(message)s",
          .doc = "Python's %(name)s placeholders: asctime, msecs, levelname, name, filename, module, funcName, lineno, "
                 "threadName, message."),
    F_STR(struct formatter_conf, datefmt, "datefmt", .doc = "strftime pattern of asctime."), F_IGNORED("class", NULL),
    F_IGNORED("style", "placeholders are always %(name)s"), F_END};
static enum err check_formatter(struct conf_load *load, void *object, const struct conf_at *at)
{
    const struct formatter_conf *formatter = object;
    struct str unknown = log_format_unknown(formatter->format);

    if (unknown.n)
        conf_warning(load, at, "format",
                     "found \"" STR_FMT "\", which is no placeholder for a line's parts; it stays as text",
                     STR_ARG(unknown));
    return ERR_OK;
}
static const struct conf_type formatter_type = {.name = "logs.formatter",
                                                .size = sizeof(struct formatter_conf),
                                                .fields = formatter_fields,
                                                .check = check_formatter};

static const struct choice rotations[] = {{"S", 0},   {"M", 1},   {"H", 2},  {"D", 3},  {"midnight", 4},
                                          {"W0", 5},  {"W1", 6},  {"W2", 7}, {"W3", 8}, {"W4", 9},
                                          {"W5", 10}, {"W6", 11}, {NULL, 0}};
static const struct field handler_fields[] = {
    F_STR(struct handler_conf, class_name, "class", .need = true,
          .doc =
              "Python's class: StreamHandler, TimedRotatingFileHandler, RotatingFileHandler or FileHandler, whatever "
              "stands before the name."),
    F_ENUM(struct handler_conf, level, "level", .of = logger_levels, .def = LOG_LEVEL_TRACE,
           .doc = "Least level that is written; absent: all."),
    F_STR(struct handler_conf, formatter, "formatter", .doc = "Name of a formatter."),
    F_STR(struct handler_conf, stream, "stream", .def_str = "ext://sys.stderr",
          .doc = "ext://sys.stdout or ext://sys.stderr."),
    F_STR(struct handler_conf, filename, "filename", .doc = "File to write to."),
    F_ENUM(struct handler_conf, when, "when", .of = rotations, .def = 2,
           .doc = "Unit of interval: second, minute, hour, day; or midnight, or a day of the week (W0: Monday)."),
    F_UINT(struct handler_conf, interval, "interval", .def = 1, .min = 1, .doc = "How many of these a file is for."),
    F_UINT(struct handler_conf, backup_count, "backupCount", .doc = "Old files that are kept; 0: all."),
    F_INT(struct handler_conf, max_bytes, "maxBytes", .max = INT64_MAX, .unit = "bytes",
          .doc = "Size at which a new file is begun; 0: none."),
    F_STR(struct handler_conf, encoding, "encoding", .doc = "UTF-8 is written, whatever it says."),
    F_BOOL(struct handler_conf, utc, "utc", .doc = "Times of rotation in UTC."),
    F_IGNORED("delay", "a file is opened at its first line"),
    F_IGNORED("mode", "lines are always appended"),
    F_END};

static enum err check_handler(struct conf_load *load, void *object, const struct conf_at *at)
{
    static const char *const classes[] = {"StreamHandler", "TimedRotatingFileHandler", "RotatingFileHandler",
                                          "FileHandler"};
    const struct handler_conf *handler = object;
    struct str name = handler->class_name;
    size_t i = 0;

    while (str_chr(name, '.') < name.n)
        name = str_skip(name, str_chr(name, '.') + 1);
    while (i < COUNT_OF(classes) && !str_eq_z(name, classes[i]))
        i++;
    if (i == COUNT_OF(classes)) {
        conf_error(load, at, "class",
                   "found \"" STR_FMT "\"; expected a StreamHandler, TimedRotatingFileHandler, "
                   "RotatingFileHandler or FileHandler; the handler is not used",
                   STR_ARG(handler->class_name));
        return ERR_CONFIG;
    }
    if (i > 0 && !handler->filename.n) {
        conf_error(load, at, "filename", "missing; a %s needs it; the handler is not used", classes[i]);
        return ERR_CONFIG;
    }
    if (i == 0 && !str_eq(handler->stream, STR("ext://sys.stdout")) &&
        !str_eq(handler->stream, STR("ext://sys.stderr")))
        conf_error(load, at, "stream",
                   "found \"" STR_FMT "\"; expected \"ext://sys.stdout\" or \"ext://sys.stderr\"; standard "
                   "error is used",
                   STR_ARG(handler->stream));
    return ERR_OK;
}
static const struct conf_type handler_type = {
    .name = "logs.handler", .size = sizeof(struct handler_conf), .fields = handler_fields, .check = check_handler};

static const struct field logger_fields[] = {
    F_AT(struct logger_conf, at),
    F_ENUM(struct logger_conf, level, "level", .of = logger_levels, .def = LOG_LEVEL_INFO,
           .has_offset = offsetof(struct logger_conf, has_level), .live = true,
           .doc = "Least level that is logged: a name, or Python's number."),
    F_STRS(struct logger_conf, handlers, "handlers", .doc = "Names of handlers."),
    F_BOOL(struct logger_conf, propagate, "propagate", .def = true, .doc = "Give lines to the root's handlers too."),
    F_END};
static const struct conf_type logger_type = {
    .name = "logs.logger", .size = sizeof(struct logger_conf), .fields = logger_fields};

static const struct field logs_fields[] = {
    F_AT(struct logs_conf, at),
    F_UINT(struct logs_conf, version, "version", .def = 1, .min = 1, .max = 1, .doc = "Of the format; always 1."),
    F_IGNORED("disable_existing_loggers", NULL),
    F_MAP(struct logs_conf, formatters, "formatters", &formatter_type, .doc = "How lines look."),
    F_MAP(struct logs_conf, handlers, "handlers", &handler_type, .doc = "Where lines go."),
    F_MAP(struct logs_conf, loggers, "loggers", &logger_type,
          .doc = "service, connector, converter, tb_connection, storage, extension, database, or a connector's name."),
    F_OBJECT(struct logs_conf, root, "root", &logger_type, .always = true, .doc = "What no logger names."),
    F_IGNORED("ts", NULL),
    F_END};

static bool has_entry(const struct conf_map *map, struct str key)
{
    for (size_t i = 0; i < map->n; i++)
        if (str_eq(map->items[i].key, key))
            return true;
    return false;
}

static void check_logger(struct conf_load *load, const struct logs_conf *logs, const struct logger_conf *logger)
{
    for (size_t i = 0; i < logger->handlers.n; i++)
        if (!has_entry(&logs->handlers, logger->handlers.items[i]))
            conf_error(load, &logger->at, "handlers",
                       "found \"" STR_FMT "\", which is no usable entry of \"handlers\"; it is left out",
                       STR_ARG(logger->handlers.items[i]));
}

/* One note for all that set a level which nothing asks for. */
static void tell_unused_levels(struct conf_load *load, const struct logs_conf *logs, const struct conf_at *at)
{
    static const char *const used[] = {"service", "tb_connection", "storage", "extension", "database"};
    autobuf struct buf names = {0};

    for (size_t i = 0; i < logs->loggers.n; i++) {
        const struct logger_conf *logger = logs->loggers.items[i].value;
        struct str name = logs->loggers.items[i].key;
        bool is_used = !logger->has_level || logger->level == LOG_LEVEL_INFO;

        for (size_t k = 0; k < COUNT_OF(used); k++)
            is_used = is_used || str_eq_z(name, used[k]);
        if (!is_used)
            buf_printf(&names, "%s\"" STR_FMT "\"", names.n ? ", " : "", STR_ARG(name));
    }
    if (names.n)
        conf_note(load, at, "loggers",
                  "the level of " STR_FMT " does not count: connectors have \"logLevel\" in their own files",
                  STR_ARG(buf_str(&names)));
}

static enum err check_logs(struct conf_load *load, void *object, const struct conf_at *at)
{
    const struct logs_conf *logs = object;

    for (size_t i = 0; i < logs->handlers.n; i++) {
        const struct handler_conf *handler = logs->handlers.items[i].value;

        if (handler->formatter.n && !has_entry(&logs->formatters, handler->formatter))
            conf_error(load, &logs->handlers.items[i].at, "formatter",
                       "found \"" STR_FMT "\", which is no usable entry of "
                       "\"formatters\"; lines have the program's own form",
                       STR_ARG(handler->formatter));
    }
    for (size_t i = 0; i < logs->loggers.n; i++)
        check_logger(load, logs, logs->loggers.items[i].value);
    check_logger(load, logs, logs->root);
    tell_unused_levels(load, logs, at);
    return ERR_OK;
}

const struct conf_type logs_conf_type = {.name = "logs",
                                         .size = sizeof(struct logs_conf),
                                         .fields = logs_fields,
                                         .check = check_logs,
                                         .doc = "Logging, in the form of Python's logging.config.dictConfig."};

/* ---- list.json ---- */

/* The value is a list of patterns; reports each that is none. */
static enum err rules_from_list(struct conf_load *load, void *object, const struct yyjson_val *val,
                                const struct conf_at *at)
{
    struct filter_rules *rules = object;
    yyjson_arr_iter iter;
    size_t index = 0;

    if (!yyjson_is_arr(as_json(val)))
        return ERR_TYPE;
    rules->patterns.items =
        arena_alloc(conf_arena(load), (yyjson_arr_size(as_json(val)) + 1) * sizeof *rules->patterns.items);
    yyjson_arr_iter_init(as_json(val), &iter);
    for (yyjson_val *item; (item = yyjson_arr_iter_next(&iter)); index++) {
        const struct conf_at *place = conf_at_member(load, at, NULL, index, item);
        struct str pattern = json_str(item);
        int number = 0;
        PCRE2_SIZE offset = 0;
        pcre2_code *code;

        if (!yyjson_is_str(item)) {
            conf_error(load, place, NULL,
                       "found something else than text; expected a regular expression; it is not used");
            continue;
        }
        code = pcre2_compile((PCRE2_SPTR)pattern.p, pattern.n, PCRE2_UTF, &number, &offset, NULL);
        if (code) {
            rules->patterns.items[rules->patterns.n++] = pattern;
            pcre2_code_free(code);
        } else {
            char message[200] = "";

            pcre2_get_error_message(number, (PCRE2_UCHAR *)message, sizeof message);
            conf_error(load, place, NULL,
                       "found \"" STR_FMT "\", which is no regular expression: %s at character %zu; it is not "
                       "used",
                       STR_ARG(pattern), message, offset + 1);
        }
    }
    return ERR_OK;
}
static const struct field no_fields[] = {F_END};
static const struct conf_type rules_type = {
    .name = "list.patterns",
    .size = sizeof(struct filter_rules),
    .fields = no_fields,
    .from_other = rules_from_list,
    .doc = "A list of regular expressions; one must match the device's whole name."};
static const struct choice filter_defaults[] = {{"allow", FILTER_ALLOW}, {"deny", FILTER_DENY}, {NULL, 0}};
static const struct field filter_fields[] = {
    F_MAP(struct filter_conf, deny, "deny", &rules_type, .doc = "By connector name: devices that are not let through."),
    F_MAP(struct filter_conf, allow, "allow", &rules_type,
          .doc = "By connector name: devices that are, whatever deny says."),
    F_ENUM(struct filter_conf, by_default, "default", .of = filter_defaults, .def = FILTER_ALLOW,
           .doc = "What happens to a device that no pattern matches."),
    F_END};
const struct conf_type filter_conf_type = {.name = "list",
                                           .size = sizeof(struct filter_conf),
                                           .fields = filter_fields,
                                           .doc = "The filter of devices (deviceFiltering.filterFile)."};

/* ---- statistics.json ---- */

static const struct field command_fields[] = {
    F_STR(struct command_conf, attribute, "attributeOnGateway", .need = true, .min = 1, .doc = "Key of the result."),
    F_JSON(struct command_conf, command, "command", .need = true,
           .doc = "Shell command, or the list of a process's arguments."),
    F_DOUBLE(struct command_conf, timeout_s, "timeout", .def_double = 10, .unit = "s",
             .doc = "Longest time it may run."),
    F_STR(struct command_conf, install, "installCmd", .doc = "Run once at start; only with remoteShell."), F_END};

static enum err check_command(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct command_conf *command = object;
    yyjson_val *val = as_json(command->command);
    size_t n = yyjson_is_arr(val) ? yyjson_arr_size(val) : 3;
    yyjson_arr_iter iter;

    command->argv.items = arena_alloc(conf_arena(load), (n + 1) * sizeof *command->argv.items);
    if (yyjson_is_str(val)) {
        const struct str argv[] = {STR("/bin/sh"), STR("-c"), json_str(val)};

        memcpy(command->argv.items, argv, sizeof argv);
        command->argv.n = COUNT_OF(argv);
    } else if (yyjson_is_arr(val)) {
        yyjson_arr_iter_init(val, &iter);
        for (yyjson_val *item; (item = yyjson_arr_iter_next(&iter));)
            if (yyjson_is_str(item))
                command->argv.items[command->argv.n++] = json_str(item);
    }
    if (command->argv.n == n && n > 0)
        return ERR_OK;
    conf_error(load, at, "command", "found neither text nor a list of texts; the command is not used");
    return ERR_TYPE;
}
const struct conf_type command_conf_type = {.name = "statistics.command",
                                            .size = sizeof(struct command_conf),
                                            .fields = command_fields,
                                            .check = check_command};

static enum err commands_from_list(struct conf_load *load, void *object, const struct yyjson_val *val,
                                   const struct conf_at *at)
{
    struct command_file_conf *file = object;
    yyjson_arr_iter iter;
    size_t index = 0;

    if (!yyjson_is_arr(as_json(val)))
        return ERR_TYPE;
    file->commands.items =
        arena_alloc(conf_arena(load), (yyjson_arr_size(as_json(val)) + 1) * sizeof *file->commands.items);
    yyjson_arr_iter_init(as_json(val), &iter);
    for (yyjson_val *item; (item = yyjson_arr_iter_next(&iter)); index++) {
        void *command = conf_load_val(load, &command_conf_type, item, conf_at_member(load, at, NULL, index, item));

        if (command)
            file->commands.items[file->commands.n++] = command;
    }
    return ERR_OK;
}
static const struct field command_file_fields[] = {F_LIST(struct command_file_conf, commands, "commands",
                                                          &command_conf_type,
                                                          .doc = "The file is the list itself, without this key."),
                                                   F_END};
const struct conf_type command_file_type = {.name = "statistics",
                                            .size = sizeof(struct command_file_conf),
                                            .fields = command_file_fields,
                                            .from_other = commands_from_list,
                                            .doc = "Custom statistics commands: a list."};
