/* SPDX-License-Identifier: Apache-2.0 */
/* Argument vector to subcommand, nothing else: the subcommands and their options are tables in src/cmd. */
int main(void)
{
    return 0;
}
