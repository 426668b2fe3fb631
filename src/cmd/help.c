/* SPDX-License-Identifier: Apache-2.0 */
/* Help texts and the man page, from the tables. */
#include "cmd/cmd.h"

#include "build_id.h"

#include <stdio.h>

static void add_option(struct buf *out, const struct option_spec *option)
{
    char names[80];

    if (option->is_hidden)
        return;
    snprintf(names, sizeof names, "%s%c%s--%s%s%s", option->letter ? "-" : "", option->letter ? option->letter : ' ',
             option->letter ? ", " : "   ", option->name, option->argument ? " " : "",
             option->argument ? option->argument : "");
    buf_printf(out, "  %-28s %s\n", names, option->help);
    if (option->choices)
        buf_printf(out, "  %-28s one of: %s\n", "", option->choices);
}

static bool takes_config(const struct command_spec *command)
{
    return command != &cmd_version && command != &cmd_completion && command != &cmd_help && command != &cmd_schema;
}

void help_add_command(struct buf *out, const struct command_spec *command)
{
    buf_printf(out, "Usage: iotgw %s%s%s%s\n\n", command->name, command->options ? " [OPTION…]" : "",
               command->arguments && *command->arguments ? " " : "", command->arguments ? command->arguments : "");
    buf_printf(out, "%s.\n", command->summary);
    if (command->text)
        buf_printf(out, "\n%s\n", command->text);
    buf_add_z(out, "\nOptions:\n");
    for (const struct option_spec *option = command->options; option && option->name; option++)
        add_option(out, option);
    for (const struct option_spec *option = common_options; option->name; option++)
        if (option->letter != 'c' || takes_config(command))
            add_option(out, option);
}

void help_add_overview(struct buf *out)
{
    buf_add_z(
        out,
        "Usage: iotgw [-c DIR|FILE] [SUBCOMMAND] [OPTION…] [ARGUMENT…]\n\n"
        "Connects field devices to a ThingsBoard-compatible platform. Without a subcommand: run.\n\nSubcommands:\n");
    for (const struct command_spec *const *command = commands; *command; command++)
        if (!(*command)->is_hidden)
            buf_printf(out, "  %-14s %s\n", (*command)->name, (*command)->summary);
    buf_add_z(out, "\nOptions:\n");
    for (const struct option_spec *option = common_options; option->name; option++)
        add_option(out, option);
    buf_add_z(out, "\nEach subcommand explains itself: iotgw SUBCOMMAND --help\n");
}

/* Text for roff: no line may begin with a control character, backslash and minus are escaped. */
static void add_roff(struct buf *out, const char *text)
{
    bool at_start = true;

    for (; *text; text++) {
        if (at_start && (*text == '.' || *text == '\''))
            buf_add_z(out, "\\&");
        at_start = *text == '\n';
        if (*text == '\\')
            buf_add_z(out, "\\e");
        else if (*text == '-')
            buf_add_z(out, "\\-");
        else
            buf_add_u8(out, (uint8_t)*text);
    }
}

static void add_roff_option(struct buf *out, const struct option_spec *option)
{
    if (option->is_hidden)
        return;
    buf_add_z(out, ".TP\n");
    if (option->letter)
        buf_printf(out, "\\fB\\-%c\\fR, ", option->letter);
    buf_add_z(out, "\\fB\\-\\-");
    add_roff(out, option->name);
    buf_add_z(out, "\\fR");
    if (option->argument) {
        buf_add_z(out, " \\fI");
        add_roff(out, option->argument);
        buf_add_z(out, "\\fR");
    }
    buf_add_z(out, "\n");
    add_roff(out, option->help);
    if (option->choices) {
        buf_add_z(out, "; one of: ");
        add_roff(out, option->choices);
    }
    buf_add_z(out, "\n");
}

static void add_roff_command(struct buf *out, const struct command_spec *command)
{
    buf_add_z(out, ".SS \"iotgw ");
    add_roff(out, command->name);
    if (command->arguments && *command->arguments) {
        buf_add_z(out, " ");
        add_roff(out, command->arguments);
    }
    buf_add_z(out, "\"\n");
    add_roff(out, command->summary);
    buf_add_z(out, ".\n");
    if (command->text) {
        buf_add_z(out, ".PP\n");
        for (const char *p = command->text, *end; *p; p = end) {
            end = strstr(p, "\n\n");
            end = end ? end + 2 : p + strlen(p);

            autofree char *paragraph = mem_new((size_t)(end - p) + 1);

            memcpy(paragraph, p, (size_t)(end - p));
            paragraph[end - p] = 0;
            while (*paragraph && paragraph[strlen(paragraph) - 1] == '\n')
                paragraph[strlen(paragraph) - 1] = 0;
            add_roff(out, paragraph);
            buf_add_z(out, *end ? "\n.PP\n" : "\n");
        }
    }
    for (const struct option_spec *option = command->options; option && option->name; option++)
        add_roff_option(out, option);
}

void help_add_man(struct buf *out)
{
    buf_add_z(out,
              ".TH IOTGW 1 \"\" \"iotgw " IOTGW_VERSION "\" \"User Commands\"\n.SH NAME\niotgw \\- IoT gateway to a "
              "ThingsBoard\\-compatible platform\n.SH SYNOPSIS\n\\fBiotgw\\fR [\\fB\\-c\\fR \\fIDIR|FILE\\fR] "
              "[\\fISUBCOMMAND\\fR] [\\fIOPTION\\fR...] [\\fIARGUMENT\\fR...]\n.SH DESCRIPTION\n"
              "Connects field devices to the platform over its Gateway MQTT API. Without a subcommand: run.\n"
              ".SH OPTIONS\n");
    for (const struct option_spec *option = common_options; option->name; option++)
        add_roff_option(out, option);
    buf_add_z(out, ".SH SUBCOMMANDS\n");
    for (const struct command_spec *const *command = commands; *command; command++)
        if (!(*command)->is_hidden)
            add_roff_command(out, *command);
    buf_add_z(out,
              ".SH EXIT STATUS\n.TP\n0\ndone, warnings allowed\n.TP\n1\nthe operation failed\n.TP\n64\nwrong usage\n"
              ".TP\n69\nno running gateway\n.TP\n78\nconfiguration error\n"
              ".SH FILES\n.TP\n\\fItb_gateway.json\\fR\nthe main file, in the configuration directory\n"
              ".TP\n\\fIlogs.json\\fR\nlogging, beside it\n"
              ".SH ENVIRONMENT\n.TP\n\\fBTB_GW_CONFIG_DIR\\fR, \\fBIOTGW_CONFIG_DIR\\fR\nthe configuration directory\n"
              ".TP\n\\fBTB_GW_HOST\\fR, \\fBTB_GW_PORT\\fR, \\fBTB_GW_ACCESS_TOKEN\\fR, ...\n"
              "go before the keys of the main file\n.TP\n\\fBNO_COLOR\\fR\nno colours in logs\n");
}

static const struct option_spec options[] = {{.name = "man", .help = "print the man page in roff", .is_hidden = true},
                                             {.name = NULL}};

static int run(const struct command_line *line)
{
    autobuf struct buf out = {0};

    if (command_has(line, "man")) {
        help_add_man(&out);
    } else if (!line->n_args) {
        help_add_overview(&out);
    } else {
        const struct command_spec *const *command = commands;

        while (*command && strcmp((*command)->name, line->args[0]) != 0)
            command++;
        if (!*command)
            return command_usage(line, "unknown subcommand \"%s\"", line->args[0]);
        help_add_command(&out, *command);
    }
    return command_print(&out) ? EXIT_DONE : EXIT_FAILED;
}

const struct command_spec cmd_help = {.name = "help",
                                      .arguments = "[SUBCOMMAND]",
                                      .summary = "explain the program or one subcommand",
                                      .options = options,
                                      .max_args = 1,
                                      .run = run};
