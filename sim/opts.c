/* SPDX-License-Identifier: Apache-2.0 */
#include "opts.h"

#include <stdio.h>
#include <stdlib.h>

static void help(const struct opt *opts, size_t n_opts, const char *usage)
{
    printf("Usage: %s\n\n", usage);
    for (size_t i = 0; i < n_opts; i++) {
        char left[64];

        snprintf(left, sizeof left, "%s%s%s", opts[i].name, opts[i].value ? " " : "",
                 opts[i].value ? opts[i].value : "");
        printf("  %-26s %s\n", left, opts[i].doc);
    }
    exit(0);
}

static const struct opt *find(const struct opt *opts, size_t n_opts, struct str name)
{
    for (size_t i = 0; i < n_opts; i++) {
        if (str_eq_z(name, opts[i].name))
            return &opts[i];
    }
    return NULL;
}

enum err opts_parse(const struct opt *opts, size_t n_opts, const char *usage, int n, char **argv, struct why *why)
{
    for (int i = 0; i < n; i++) {
        struct str name = str_from(argv[i]);
        size_t eq = str_chr(name, '=');
        const char *value = eq < name.n ? argv[i] + eq + 1 : NULL;
        const struct opt *opt;

        name = str_cut(name, eq);
        if (str_eq_z(name, "--help") || str_eq_z(name, "-h"))
            help(opts, n_opts, usage);
        opt = find(opts, n_opts, name);
        if (!opt)
            return why_set(why, ERR_USAGE, "%s: no such option; --help lists them", argv[i]);
        if (opt->kind == OPT_FLAG) {
            if (value)
                return why_set(why, ERR_USAGE, "%s takes no value", opt->name);
            *(bool *)opt->out = true;
            continue;
        }
        if (!value && ++i == n)
            return why_set(why, ERR_USAGE, "%s needs a value: %s", opt->name, opt->value);
        if (!value)
            value = argv[i];
        if (opt->kind == OPT_TEXT) {
            *(const char **)opt->out = value;
        } else if (str_to_u64(str_from(value), opt->out) || (opt->max && *(uint64_t *)opt->out > opt->max)) {
            return why_set(why, ERR_USAGE, "%s %s: a whole number is needed, at most %llu", opt->name, value,
                           (unsigned long long)(opt->max ? opt->max : UINT64_MAX));
        }
    }
    return ERR_OK;
}
