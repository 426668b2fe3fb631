/* SPDX-License-Identifier: Apache-2.0 */
/* Argument vector to subcommand, nothing else: the subcommands and their options are tables in src/cmd. */
#include "cmd/cmd.h"

int main(int argc, char **argv)
{
    return command_main(argc, argv);
}
