/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/kinds.h"

#include "connector/module.h"

/* A build without the connector room's loader knows no connector types. */
#pragma weak module_load
#pragma weak module_each

static const struct connector_type *load(const char *name, struct why *why)
{
    if (module_load)
        return module_load(name, why);
    why_set(why, ERR_UNSUPPORTED, "this build of the program loads no connectors");
    return NULL;
}

static void each(void (*fn)(void *arg, const char *type), void *arg)
{
    if (module_each)
        module_each(fn, arg);
}

const struct kind kinds[] = {
    {"gateway", "tb_gateway.json", "Main file of the gateway", &main_conf_type},
    {"logs", "logs.json", "Logging", &logs_conf_type},
    {"list", "list.json", "Device filter", &filter_conf_type},
    {"statistics", "statistics.json", "Custom statistics", &command_file_type},
    {NULL, NULL, NULL, NULL},
};

static const struct conf_type *module_type(const char *name, struct why *why)
{
    const struct connector_type *type = load(name, why);

    return type ? type->conf : NULL;
}

const struct gateway_types module_types = {module_type, each};

const struct conf_type *kind_type(const char *name, const char **title, struct why *why)
{
    const struct connector_type *type;

    for (const struct kind *kind = kinds; kind->name; kind++) {
        if (strcmp(kind->name, name) != 0)
            continue;
        if (title)
            *title = kind->title;
        return kind->type;
    }
    type = load(name, why);
    if (type && title)
        *title = type->title;
    return type ? type->conf : NULL;
}
