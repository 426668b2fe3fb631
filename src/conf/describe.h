/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONF_DESCRIBE_H
#define IOTGW_CONF_DESCRIBE_H
/* The types that a descriptor reaches, each once, in the order of first use: for the schema and the reference. */
#include "conf/load.h"

enum { TYPES_MAX = 128 };
struct type_set {
    const struct conf_type *types[TYPES_MAX];
    size_t n;
};
void type_set_fill(struct type_set *set, const struct conf_type *root);
#endif
