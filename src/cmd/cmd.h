/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CMD_H
#define IOTGW_CMD_H
/*
 * A subcommand is a table: its name, its options, its arguments, what it says in help. Parsing, --help, the man page and
 * shell completion come from these tables alone. One file a subcommand; commands.c lists them. Main thread.
 */
#include "base/buf.h"

#include <assert.h>

/* Exit codes (sysexits.h where there is one). */
enum {
    EXIT_DONE = 0,        /* warnings allowed */
    EXIT_FAILED = 1,      /* the operation failed */
    EXIT_USAGE = 64,      /* wrong usage */
    EXIT_NO_GATEWAY = 69, /* no running gateway */
    EXIT_CONFIG = 78      /* configuration error */
};

enum option_value { VALUE_TEXT, VALUE_FILE, VALUE_DIR };

struct option_spec {
    const char *name;     /* "config" for --config */
    char letter;          /* 'c' for -c; 0: none */
    const char *argument; /* "DIR|FILE"; NULL: a switch */
    const char *help;     /* one line, without a full stop */
    const char *choices;  /* "bash zsh fish": checked and completed; NULL: any value */
    enum option_value value;
    bool is_hidden; /* not in help, man page and completion */
};

enum { COMMAND_OPTIONS_MAX = 24, COMMAND_ANY = 10000 };
struct command_line;

struct command_spec {
    const char *name;
    const char *arguments;             /* "FILE…"; NULL or "": none */
    const char *summary;               /* one line, without a full stop */
    const char *text;                  /* paragraphs for help and man page; NULL: none */
    const struct option_spec *options; /* ends with name NULL; NULL: none. --config and --help are everywhere */
    unsigned min_args, max_args;
    const char *choices; /* of the first argument, for completion only; "": files */
    bool is_hidden;
    bool is_foreign;                             /* what follows the name is all arguments, options too */
    int (*run)(const struct command_line *line); /* gives the exit code */
};

struct command_line {
    const struct command_spec *command;
    const char *values[COMMAND_OPTIONS_MAX]; /* by place in the table; NULL: not given, "": a switch that is */
    const char *config;                      /* -c DIR|FILE; NULL: not given */
    const char *const *args;
    unsigned n_args;
};

/* NULL: not given. A switch that is given: "". The option must be in the command's table. */
const char *command_option(const struct command_line *line, const char *name);
static inline bool command_has(const struct command_line *line, const char *name)
{
    return command_option(line, name) != NULL;
}
/* Says "iotgw COMMAND: …" and how to get help on standard error; gives EXIT_USAGE. */
int command_usage(const struct command_line *line, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Says "iotgw COMMAND: …" on standard error; gives code. */
int command_fail(const struct command_line *line, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Writes all of it to standard output, false if that fails (a full disk, a closed pipe): then give EXIT_FAILED. */
bool command_print(const struct buf *out);

/* The whole program: finds the subcommand (run when there is none), parses, runs. */
int command_main(int argc, char **argv);

/* In the order of the help; ends with NULL. */
extern const struct command_spec *const commands[];
extern const struct command_spec cmd_run, cmd_check, cmd_convert, cmd_test_connection, cmd_browse, cmd_schema, cmd_sim,
    cmd_store, cmd_status, cmd_tail, cmd_rpc, cmd_connector, cmd_reload, cmd_log_level, cmd_version, cmd_completion,
    cmd_help;

int steer_preview(const struct command_line *line); /* check --diff */

/* For help.c and completion.c. */
extern const struct option_spec common_options[];
void help_add_overview(struct buf *out);
void help_add_command(struct buf *out, const struct command_spec *command);
void help_add_man(struct buf *out);
#endif
