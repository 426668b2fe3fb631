/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SUBJECT_H
#define IOTGW_SUBJECT_H
/* The connector that a subcommand is about, from the configuration or from a file alone; without a running gateway. */
#include "cmd/cmd.h"
#include "cmd/kinds.h"
#include "connector/module.h"

struct subject {
    const char *name; /* or the type, of a file alone */
    const struct connector_type *type;
    struct conf *file;
    const void *conf;             /* its root */
    struct conf *own;             /* of a file alone */
    struct gateway_conf *gateway; /* of the configuration */
    unsigned n_errors;            /* in what it is configured by, all printed */
};

/* By the first argument: a connector's name, or, with a file, a type. Says what is wrong; gives an exit code. */
NODISCARD int subject_load(struct subject *subject, const struct command_line *line, const char *file);
void subject_fini(struct subject *subject); /* accepts a zeroed one */
#endif
