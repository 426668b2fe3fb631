/* SPDX-License-Identifier: Apache-2.0 */
#include "io/own_module.h"
#include "build_id.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct wanted {
    const char *file, *symbol, *what;
    uint32_t size;
    enum err err;
    bool is_there;
};

/* The directory of the running program; false if the system does not tell. */
static bool own_directory(char *path, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", path, size - 1);
    char *slash;

    if (n <= 0)
        return false;
    path[n] = 0;
    slash = strrchr(path, '/');
    if (!slash)
        return false;
    *slash = 0;
    return true;
}

/* A module that is not this program's is left where it is; the next place may have the right one. */
static const struct own_table *try_place(struct wanted *wanted, const char *directory, struct why *why)
{
    const struct own_table *table;
    char path[4200];
    void *module;

    snprintf(path, sizeof path, "%s/%s", directory, wanted->file);
    if (access(path, F_OK))
        return NULL;
    wanted->is_there = true;
    module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!module) {
        why_set(why, wanted->err, "the %s module cannot be loaded: %s", wanted->what, dlerror());
        return NULL;
    }
    table = dlsym(module, wanted->symbol);
    if (!table || table->size != wanted->size || strcmp(table->build_id, IOTGW_BUILD_ID) != 0) {
        why_set(why, wanted->err, "the %s module %s belongs to another build of the program (%s, this is %s)",
                wanted->what, path, table && table->size >= sizeof *table ? table->build_id : "unknown",
                IOTGW_BUILD_ID);
        return NULL;
    }
    return table;
}

const void *own_module_load(const char *file, const char *symbol, uint32_t size, const char *what, enum err err,
                            struct why *why)
{
    struct wanted wanted = {.file = file, .symbol = symbol, .what = what, .size = size, .err = err};
    const char *named = getenv("IOTGW_MODULE_DIR");
    const struct own_table *table = NULL;
    struct why first = {0};
    char own[4096];

    if (own_directory(own, sizeof own))
        table = try_place(&wanted, own, &first);
    if (!table)
        table = try_place(&wanted, IOTGW_MODULE_PATH, &first);
    if (!table && named && *named)
        table = try_place(&wanted, named, &first);
    if (!table && !wanted.is_there)
        why_set(&first, err, "%s needs the module %s, which is neither beside the program nor in %s", what, file,
                IOTGW_MODULE_PATH);
    if (!table)
        why_set(why, first.err, "%s", first.text);
    return table;
}
