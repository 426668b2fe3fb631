/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"
#include "cmd/convert_vectors.h"

static const struct option_spec options[] = {
    {.name = "vectors", .help = "answer test vectors, one JSON object a line"},
    {.name = NULL},
};

static int run(const struct command_line *line)
{
    if (command_has(line, "vectors"))
        return cmd_convert_vectors(stdin, stdout);
    return command_usage(line, "name a connector");
}

const struct command_spec cmd_convert = {.name = "convert",
                                         .summary = "try conversions on given input, without any I/O",
                                         .options = options,
                                         .max_args = 1,
                                         .run = run};
