/* SPDX-License-Identifier: Apache-2.0 */
/* Argument vector → subcommand and options, by the tables. */
#include "cmd/cmd.h"

#include <stdarg.h>
#include <stdio.h>

const struct option_spec common_options[] = {{.name = "config",
                                              .letter = 'c',
                                              .argument = "DIR|FILE",
                                              .help = "configuration directory, or its main file",
                                              .value = VALUE_FILE},
                                             {.name = "help", .letter = 'h', .help = "this help"},
                                             {.name = NULL}};

struct parser {
    struct command_line line;
    const char *args[64];
    bool want_help;
};

const char *command_option(const struct command_line *line, const char *name)
{
    for (unsigned i = 0; line->command->options && line->command->options[i].name; i++)
        if (strcmp(line->command->options[i].name, name) == 0)
            return line->values[i];
    assert(false); /* an option that is not in the table */
    return NULL;
}

static void say(const struct command_line *line, const char *fmt, va_list args)
{
    fprintf(stderr, "iotgw%s%s: ", line->command ? " " : "", line->command ? line->command->name : "");
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
}

int command_usage(const struct command_line *line, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    say(line, fmt, args);
    va_end(args);
    fprintf(stderr, "Try: iotgw %s%s--help\n", line->command ? line->command->name : "", line->command ? " " : "");
    return EXIT_USAGE;
}

int command_fail(const struct command_line *line, int code, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    say(line, fmt, args);
    va_end(args);
    return code;
}

bool command_print(const struct buf *out)
{
    bool ok = out->n == 0 || fwrite(out->p, 1, out->n, stdout) == out->n;

    return fflush(stdout) == 0 && ok;
}

static const char *nearest_option(const struct option_spec *options, struct str name, const char *best,
                                  unsigned *distance)
{
    for (; options && options->name; options++) {
        unsigned d = str_distance(name, str_from(options->name), 2);

        if (d <= 2 && d < *distance) {
            *distance = d;
            best = options->name;
        }
    }
    return best;
}

static const struct option_spec *find_option(const struct option_spec *options, struct str name, char letter)
{
    for (; options && options->name; options++)
        if (letter ? options->letter == letter : str_eq_z(name, options->name))
            return options;
    return NULL;
}

static bool is_choice(const char *choices, const char *value)
{
    struct str rest = str_from(choices), choice;

    while (str_split(&rest, ' ', &choice))
        if (str_eq_z(choice, value))
            return true;
    return false;
}

/* Stores what was given; EXIT_DONE, or what to leave with. */
static int take_option(struct parser *parser, const struct option_spec *option, const char *value)
{
    struct command_line *line = &parser->line;

    if (option->choices && !is_choice(option->choices, value))
        return command_usage(line, "--%s \"%s\": expected one of: %s", option->name, value, option->choices);
    if (option == &common_options[0])
        line->config = value;
    else if (option == &common_options[1])
        parser->want_help = true;
    else
        line->values[option - line->command->options] = value;
    return EXIT_DONE;
}

static const struct option_spec *option_of(const struct parser *parser, struct str name, char letter)
{
    const struct command_spec *command = parser->line.command;
    const struct option_spec *option = command ? find_option(command->options, name, letter) : NULL;

    return option ? option : find_option(common_options, name, letter);
}

/* One argument that begins with '-'; *i moves on if the next one is its value. */
static int parse_option(struct parser *parser, int argc, char **argv, int *i)
{
    const char *arg = argv[*i], *value = NULL;
    struct str name = str_from(arg + 2);
    bool is_long = arg[1] == '-';
    const struct option_spec *option;

    if (is_long && memchr(name.p, '=', name.n)) {
        value = strchr(arg, '=') + 1;
        name = str_cut(name, str_chr(name, '='));
    }
    option = is_long ? option_of(parser, name, 0) : option_of(parser, STR_NONE, arg[1]);
    if (!option) {
        const struct command_spec *command = parser->line.command;
        unsigned distance = UINT32_MAX;
        const char *nearest = is_long ? nearest_option(common_options, name, NULL, &distance) : NULL;

        if (is_long && command)
            nearest = nearest_option(command->options, name, nearest, &distance);
        if (nearest)
            return command_usage(&parser->line, "unknown option %s; did you mean --%s?", arg, nearest);
        return command_usage(&parser->line, "unknown option %s", arg);
    }
    if (!option->argument) {
        if (value || (!is_long && arg[2]))
            return command_usage(&parser->line, "--%s takes no value", option->name);
        return take_option(parser, option, "");
    }
    if (!is_long && arg[2])
        value = arg + 2;
    if (!value && *i + 1 < argc)
        value = argv[++*i];
    if (!value)
        return command_usage(&parser->line, "--%s needs a value: %s", option->name, option->argument);
    return take_option(parser, option, value);
}

static int find_command(struct parser *parser, const char *name)
{
    const char *nearest = NULL;
    unsigned best = 3;

    for (const struct command_spec *const *command = commands; *command; command++) {
        unsigned distance = str_distance(str_from(name), str_from((*command)->name), 2);

        if (strcmp((*command)->name, name) == 0) {
            parser->line.command = *command;
            return EXIT_DONE;
        }
        if (distance < best && !(*command)->is_hidden) {
            best = distance;
            nearest = (*command)->name;
        }
    }
    if (nearest)
        return command_usage(&parser->line, "unknown subcommand \"%s\"; did you mean \"%s\"?", name, nearest);
    return command_usage(&parser->line, "unknown subcommand \"%s\"", name);
}

static int parse(struct parser *parser, int argc, char **argv)
{
    bool is_options = true;

    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        int code = EXIT_DONE;

        if (is_options && strcmp(arg, "--") == 0) {
            is_options = false;
        } else if (is_options && arg[0] == '-' && arg[1]) {
            if (!parser->line.command && strcmp(arg, "--version") == 0)
                parser->line.command = &cmd_version;
            else
                code = parse_option(parser, argc, argv, &i);
        } else if (!parser->line.command) {
            code = find_command(parser, arg);
            /* Another program parses what follows, but for a first --help. */
            if (parser->line.command && parser->line.command->is_foreign)
                is_options = is_options && i + 1 < argc && strcmp(argv[i + 1], "--help") == 0;
        } else if (parser->line.n_args == COUNT_OF(parser->args)) {
            code = command_usage(&parser->line, "too many arguments");
        } else {
            parser->args[parser->line.n_args++] = arg;
        }
        if (code != EXIT_DONE)
            return code;
    }
    return EXIT_DONE;
}

int command_main(int argc, char **argv)
{
    struct parser parser = {0};
    struct command_line *line = &parser.line;
    int code;

    line->args = parser.args;
    code = parse(&parser, argc, argv);
    if (code != EXIT_DONE)
        return code;
    if (parser.want_help) {
        autobuf struct buf out = {0};

        if (line->command)
            help_add_command(&out, line->command);
        else
            help_add_overview(&out);
        return command_print(&out) ? EXIT_DONE : EXIT_FAILED;
    }
    if (!line->command)
        line->command = commands[0];
    if (line->n_args < line->command->min_args)
        return command_usage(line, "expected %s", line->command->arguments);
    if (line->n_args > line->command->max_args)
        return command_usage(line, "unexpected argument \"%s\"", line->args[line->command->max_args]);
    return line->command->run(line);
}
