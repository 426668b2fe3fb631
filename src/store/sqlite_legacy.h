/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SQLITE_LEGACY_H
#define IOTGW_SQLITE_LEGACY_H
/* The Python gateway's databases, read as legacy.h says. Inside the module only. */
#include "store/legacy.h"

enum err sqlite_legacy_open(struct legacy **out, const char *dir, struct log *log, struct why *why);
#endif
