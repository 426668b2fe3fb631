/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_OWN_MODULE_H
#define IOTGW_OWN_MODULE_H
/*
 * Modules of this program that hold no connector but a library which costs memory: loaded when a configuration asks for
 * it, and never unloaded. Looked for beside the program, where it was installed to, and in IOTGW_MODULE_DIR. Each exports
 * one table, which begins as here; one of another build is left alone. Any thread, but not two at once for one file.
 */
#include "base/err.h"

#include <stdint.h>

struct own_table {
    uint32_t size;
    const char *build_id; /* must be the program's */
};
/* The table of that name and size; NULL: why (with err) says which file was looked for, and what was wrong with it.
 * what: "TLS", for the reason. */
const void *own_module_load(const char *file, const char *symbol, uint32_t size, const char *what, enum err err,
                            struct why *why);
#endif
