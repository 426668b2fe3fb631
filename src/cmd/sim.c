/* SPDX-License-Identifier: Apache-2.0 */
/* The simulators are a program of their own, so that the gateway carries nothing of them. */
#include "cmd/cmd.h"

#include "base/mem.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

static int run(const struct command_line *line)
{
    char path[PATH_MAX];
    char **argv;
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - sizeof "-sim");

    if (n < 0)
        return command_fail(line, EXIT_FAILED, "where this program stands cannot be read: %s", strerror(errno));
    memcpy(path + n, "-sim", sizeof "-sim");
    argv = mem_zero((line->n_args + 2) * sizeof *argv);
    argv[0] = path;
    for (unsigned i = 0; i < line->n_args; i++)
        argv[i + 1] = (char *)(uintptr_t)line->args[i];
    execv(path, argv);
    mem_free(argv);
    return command_fail(line, EXIT_FAILED, "%s: %s; simulators come with the package iotgw-sim", path, strerror(errno));
}

const struct command_spec cmd_sim = {
    .name = "sim",
    .summary = "simulators: a platform stand-in, a fleet of MQTT devices, Modbus servers, load generators",
    .arguments = "TYPE [OPTION…]",
    .text = "Runs the program iotgw-sim that stands beside this one. `iotgw sim help` "
            "lists the types, `iotgw sim TYPE --help` "
            "what each takes.",
    .max_args = COMMAND_ANY,
    .is_foreign = true,
    .run = run};
