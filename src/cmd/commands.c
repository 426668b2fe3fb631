/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"

const struct command_spec *const commands[] = {
    &cmd_run, &cmd_check, &cmd_convert, &cmd_schema, &cmd_version, &cmd_completion, &cmd_help, NULL,
};

/* A program may be built without some of them. */
static int run_missing(const struct command_line *line)
{
    return command_fail(line, EXIT_FAILED, "this build of the program does not have it");
}
#define OPTIONAL(symbol, text)                                                                                         \
    __attribute__((weak)) const struct command_spec symbol = {.name = (text),                                          \
                                                              .summary = "not in this build",                          \
                                                              .is_hidden = true,                                       \
                                                              .max_args = COMMAND_ANY,                                 \
                                                              .run = run_missing}
OPTIONAL(cmd_run, "run");
