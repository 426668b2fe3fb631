/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_MODULE_H
#define IOTGW_MODULE_H
/*
 * Finding and loading connector modules: <dir>/iotgw-<type>.so, looked for beside the program (build tree), then in the
 * installed directory (configured at build time), then in IOTGW_MODULE_DIR. Loaded once, never unloaded. Refused with
 * a reason: no such file, no symbol, another ABI (both numbers), another build id of an in-tree module. Any thread.
 */
#include "iotgw/connector.h"

const struct connector_type *module_load(const char *type, struct why *why);
/* Names of all that can be found, for messages and completion: calls fn for each, sorted. */
void module_each(void (*fn)(void *arg, const char *type), void *arg);
extern const char build_id[]; /* generated: hash of the program's sources */
#endif
