/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SIM_OPTS_H
#define IOTGW_SIM_OPTS_H
/* Options of a subcommand as a table: parsing and help come from it. Texts point into argv. */
#include "base/str.h"

struct opt {
    const char *name; /* "--port" */
    enum { OPT_FLAG, OPT_TEXT, OPT_UINT } kind;
    void *out;         /* bool *, const char **, uint64_t * */
    const char *value; /* name of the value in the help; NULL for flags */
    const char *doc;
    uint64_t max; /* OPT_UINT; 0: none */
};

/* Parses argv[0 … n); ERR_USAGE with a reason. "--help" prints the table under usage to standard output and ends the program. */
NODISCARD enum err opts_parse(const struct opt *opts, size_t n_opts, const char *usage, int n, char **argv,
                              struct why *why);
#endif
