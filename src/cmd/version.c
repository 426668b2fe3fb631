/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"

#include "build_id.h"

static const struct option_spec options[] = {{.name = "json", .help = "print an object"}, {.name = NULL}};

static int run(const struct command_line *line)
{
    autobuf struct buf out = {0};

    if (command_has(line, "json"))
        buf_printf(&out, "{\"version\":\"%s\",\"build\":\"%s\"}\n", IOTGW_VERSION, IOTGW_BUILD_ID);
    else
        buf_printf(&out, "iotgw %s (build %s)\n", IOTGW_VERSION, IOTGW_BUILD_ID);
    return command_print(&out) ? EXIT_DONE : EXIT_FAILED;
}

const struct command_spec cmd_version = {
    .name = "version", .summary = "print the version", .options = options, .run = run};
