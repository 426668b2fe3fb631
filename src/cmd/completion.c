/* SPDX-License-Identifier: Apache-2.0 */
/* Shell completion from the tables: subcommands, their options, choices, files. */
#include "cmd/cmd.h"

#include "base/mem.h"

static void add_names(struct buf *out)
{
    for (const struct command_spec *const *command = commands; *command; command++)
        if (!(*command)->is_hidden)
            buf_printf(out, "%s%s", command == commands ? "" : " ", (*command)->name);
}

static void add_option_names(struct buf *out, const struct option_spec *options)
{
    for (; options && options->name; options++)
        if (!options->is_hidden)
            buf_printf(out, " --%s", options->name);
}

/* Inside '…' of a shell. */
static void add_quoted(struct buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\'')
            buf_add_z(out, "'\\''");
        else
            buf_add_u8(out, (uint8_t)*text);
    }
}

static void add_bash(struct buf *out)
{
    buf_add_z(out,
              "_iotgw() {\n    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd= i\n"
              "    for ((i = 1; i < COMP_CWORD; i++)); do\n        case ${COMP_WORDS[i]} in\n"
              "            -c|--config) ((i++));;\n            -*) ;;\n            *) cmd=${COMP_WORDS[i]}; break;;\n"
              "        esac\n    done\n    case $prev in\n"
              "        -c|--config) COMPREPLY=($(compgen -f -- \"$cur\")); return;;\n    esac\n"
              "    case $cmd in\n        '') COMPREPLY=($(compgen -W '");
    add_names(out);
    add_option_names(out, common_options);
    buf_add_z(out, "' -- \"$cur\"));;\n");
    for (const struct command_spec *const *at = commands; *at; at++) {
        const struct command_spec *command = *at;

        if (command->is_hidden)
            continue;
        buf_printf(out, "        %s)\n", command->name);
        for (const struct option_spec *option = command->options; option && option->name; option++) {
            if (option->choices)
                buf_printf(
                    out, "            [[ $prev == --%s ]] && { COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return; }\n",
                    option->name, option->choices);
            else if (option->argument && option->value != VALUE_TEXT)
                buf_printf(out,
                           "            [[ $prev == --%s ]] && { COMPREPLY=($(compgen -%c -- \"$cur\")); return; }\n",
                           option->name, option->value == VALUE_DIR ? 'd' : 'f');
        }
        buf_add_z(out, "            if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W '");
        add_option_names(out, command->options);
        add_option_names(out, common_options);
        buf_add_z(out, "' -- \"$cur\"))");
        if (command->choices && *command->choices)
            buf_printf(out, "\n            else COMPREPLY=($(compgen -W '%s' -- \"$cur\"))", command->choices);
        else if (command->max_args)
            buf_add_z(out, "\n            else COMPREPLY=($(compgen -f -- \"$cur\"))");
        buf_add_z(out, "\n            fi;;\n");
    }
    buf_add_z(out, "    esac\n}\ncomplete -o filenames -F _iotgw iotgw\n");
}

static void add_zsh_option(struct buf *out, const struct option_spec *option)
{
    if (option->is_hidden)
        return;
    buf_printf(out, " '--%s[", option->name);
    add_quoted(out, option->help);
    buf_add_z(out, "]");
    if (option->choices)
        buf_printf(out, ":value:(%s)", option->choices);
    else if (option->argument)
        buf_add_z(out, option->value == VALUE_TEXT ? ":value:" : ":file:_files");
    buf_add_z(out, "'");
}

static void add_zsh(struct buf *out)
{
    buf_add_z(out, "#compdef iotgw\n_iotgw() {\n    local -a names\n    names=(\n");
    for (const struct command_spec *const *command = commands; *command; command++) {
        if ((*command)->is_hidden)
            continue;
        buf_printf(out, "        '%s:", (*command)->name);
        add_quoted(out, (*command)->summary);
        buf_add_z(out, "'\n");
    }
    buf_add_z(out, "    )\n    local curcontext=$curcontext state line\n    _arguments -C");
    for (const struct option_spec *option = common_options; option->name; option++)
        add_zsh_option(out, option);
    buf_add_z(out, " '1:subcommand:->name' '*::argument:->rest'\n    case $state in\n"
                   "        name) _describe subcommand names;;\n        rest)\n            case $line[1] in\n");
    for (const struct command_spec *const *at = commands; *at; at++) {
        const struct command_spec *command = *at;

        if (command->is_hidden)
            continue;
        buf_printf(out, "                %s) _arguments", command->name);
        for (const struct option_spec *option = command->options; option && option->name; option++)
            add_zsh_option(out, option);
        for (const struct option_spec *option = common_options; option->name; option++)
            add_zsh_option(out, option);
        if (command->choices && *command->choices)
            buf_printf(out, " '1:argument:(%s)'", command->choices);
        else if (command->max_args)
            buf_add_z(out, " '*:argument:_files'");
        buf_add_z(out, ";;\n");
    }
    buf_add_z(out, "            esac;;\n    esac\n}\n_iotgw \"$@\"\n");
}

static void add_fish_option(struct buf *out, const char *condition, const struct option_spec *option)
{
    if (option->is_hidden)
        return;
    buf_printf(out, "complete -c iotgw%s -l %s", condition, option->name);
    if (option->letter)
        buf_printf(out, " -s %c", option->letter);
    if (option->choices)
        buf_printf(out, " -x -a '%s'", option->choices);
    else if (option->argument)
        buf_add_z(out, option->value == VALUE_TEXT ? " -x" : " -r -F");
    buf_add_z(out, " -d '");
    add_quoted(out, option->help);
    buf_add_z(out, "'\n");
}

static void add_fish(struct buf *out)
{
    buf_add_z(out, "complete -c iotgw -f\n");
    for (const struct option_spec *option = common_options; option->name; option++)
        add_fish_option(out, "", option);
    for (const struct command_spec *const *at = commands; *at; at++) {
        const struct command_spec *command = *at;
        autobuf struct buf condition = {0};

        if (command->is_hidden)
            continue;
        buf_printf(out, "complete -c iotgw -n __fish_use_subcommand -a %s -d '", command->name);
        add_quoted(out, command->summary);
        buf_add_z(out, "'\n");
        buf_printf(&condition, " -n '__fish_seen_subcommand_from %s'", command->name);
        buf_add_u8(&condition, 0);
        for (const struct option_spec *option = command->options; option && option->name; option++)
            add_fish_option(out, (const char *)condition.p, option);
        if (command->choices && *command->choices)
            buf_printf(out, "complete -c iotgw%s -a '%s'\n", (const char *)condition.p, command->choices);
        else if (command->max_args)
            buf_printf(out, "complete -c iotgw%s -F\n", (const char *)condition.p);
    }
}

static int run(const struct command_line *line)
{
    const char *shell = line->args[0];
    autobuf struct buf out = {0};

    if (strcmp(shell, "bash") == 0)
        add_bash(&out);
    else if (strcmp(shell, "zsh") == 0)
        add_zsh(&out);
    else if (strcmp(shell, "fish") == 0)
        add_fish(&out);
    else
        return command_usage(line, "unknown shell \"%s\"; expected bash, zsh or fish", shell);
    return command_print(&out) ? EXIT_DONE : EXIT_FAILED;
}

const struct command_spec cmd_completion = {.name = "completion",
                                            .arguments = "SHELL",
                                            .summary = "print a completion script for bash, zsh or fish",
                                            .text = "For example: iotgw completion bash > "
                                                    "/etc/bash_completion.d/iotgw",
                                            .min_args = 1,
                                            .max_args = 1,
                                            .choices = "bash zsh fish",
                                            .run = run};
