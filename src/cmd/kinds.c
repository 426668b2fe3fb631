/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/kinds.h"

#include "connector/module.h"

const struct kind kinds[] = {
    {"gateway", "tb_gateway.json", "Main file of the gateway", &main_conf_type},
    {"logs", "logs.json", "Logging", &logs_conf_type},
    {"list", "list.json", "Device filter", &filter_conf_type},
    {"statistics", "statistics.json", "Custom statistics", &command_file_type},
    {NULL, NULL, NULL, NULL},
};

static const struct conf_type *module_type(const char *name, struct why *why)
{
    const struct connector_type *type = module_load(name, why);

    return type ? type->conf : NULL;
}

const struct gateway_types module_types = {module_type, module_each};

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
    type = module_load(name, why);
    if (type && title)
        *title = type->title;
    return type ? type->conf : NULL;
}
