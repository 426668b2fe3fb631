/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_KINDS_H
#define IOTGW_KINDS_H
/* The kinds of configuration files there are, by name: the gateway's own and those of connectors. */
#include "gateway/gateway_conf.h"

struct kind {
    const char *name, *file, *title;
    const struct conf_type *type;
};
extern const struct kind kinds[]; /* the gateway's own; ends with name NULL */
/* Of a kind or a connector type; title may be NULL. NULL with the reason. */
const struct conf_type *kind_type(const char *name, const char **title, struct why *why);
/* Connector types as the modules give them. */
extern const struct gateway_types module_types;
#endif
