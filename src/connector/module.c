/* SPDX-License-Identifier: Apache-2.0 */
#include "connector/module.h"

#include "base/mem.h"
#include "base/str.h"
#include "build_id.h"
#include "connector/ctx.h"

#include <dirent.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef IOTGW_LIBDIR
#define IOTGW_LIBDIR "/usr/lib/iotgw"
#endif

const char build_id[] = IOTGW_BUILD_ID;

enum { N_DIRS = 3, TYPE_MAX = 32 };
/* What a module must at least have: all up to state_size and the operations that every connector needs. */
static const size_t type_size_min = offsetof(struct connector_type, quiesce);

/* Beside the program, then where it was installed, then what the environment names. Empty: there is none. */
static void module_dirs(char dirs[N_DIRS][PATH_MAX])
{
    char program[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    const char *env = getenv("IOTGW_MODULE_DIR");

    program[n > 0 ? n : 0] = 0;
    if (n > 0)
        *strrchr(program, '/') = 0;
    snprintf(dirs[0], PATH_MAX, "%s", program);
    snprintf(dirs[1], PATH_MAX, "%s", IOTGW_LIBDIR);
    snprintf(dirs[2], PATH_MAX, "%s", env ? env : "");
}

static bool is_type_name(const char *type)
{
    size_t n = strlen(type);

    return n > 0 && n <= TYPE_MAX && strspn(type, "abcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

static enum err check_type(const struct connector_type *found, const char *type, const char *path, struct why *why)
{
    if (found->abi != IOTGW_CONNECTOR_ABI)
        return why_set(why, ERR_UNSUPPORTED,
                       "%s was built for version %u of the connector contract, this program has version %u", path,
                       found->abi, IOTGW_CONNECTOR_ABI);
    if (found->size < type_size_min || !found->name || !found->open || !found->close || !found->start)
        return why_set(why, ERR_CORRUPT, "%s does not describe a connector", path);
    if (found->build_id && strcmp(found->build_id, build_id) != 0)
        return why_set(why, ERR_UNSUPPORTED, "%s belongs to another build of the program (%s, this is %s)", path,
                       found->build_id, build_id);
    if (strcmp(found->name, type) != 0)
        return why_set(why, ERR_CORRUPT, "%s holds the connector \"%s\", not \"%s\"", path, found->name, type);
    return ERR_OK;
}

/*
 * A module of an older header has a shorter struct: what it does not know is NULL in a copy, which lives as long as the
 * process, as the module does. Two threads that load it at the same moment may each make one; both stay right.
 */
struct whole {
    struct whole *next;
    const struct connector_type *found;
    struct connector_type type;
};
static _Atomic(struct whole *) wholes;

static const struct connector_type *whole_type(const struct connector_type *found)
{
    struct whole *first = atomic_load(&wholes), *whole;

    if (found->size >= sizeof *found)
        return found;
    for (whole = first; whole; whole = whole->next) {
        if (whole->found == found)
            return &whole->type;
    }
    whole = mem_zero(sizeof *whole);
    memcpy(&whole->type, found, found->size);
    whole->found = found;
    do
        whole->next = first;
    while (!atomic_compare_exchange_weak(&wholes, &first, whole));
    return &whole->type;
}

static const struct connector_type *load(const char *path, const char *type, struct why *why)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const struct connector_type *found;
    const struct host **host;

    if (!handle) {
        why_set(why, ERR_IO, "%s", dlerror());
        return NULL;
    }
    found = dlsym(handle, IOTGW_MODULE_SYMBOL);
    if (!found) {
        why_set(why, ERR_CORRUPT, "%s is no connector: it has no symbol %s", path, IOTGW_MODULE_SYMBOL);
        return NULL;
    }
    if (check_type(found, type, path, why) != ERR_OK)
        return NULL;
    host = (const struct host **)dlsym(handle, IOTGW_HOST_SYMBOL);
    if (host)
        __atomic_store_n(host, &ctx_host_functions, __ATOMIC_RELEASE);
    return whole_type(found);
}

const struct connector_type *module_load(const char *type, struct why *why)
{
    char dirs[N_DIRS][PATH_MAX], path[PATH_MAX + TYPE_MAX + 16];

    if (!is_type_name(type)) {
        why_set(why, ERR_NOTFOUND, "\"%.40s\" is not a connector type", type);
        return NULL;
    }
    module_dirs(dirs);
    for (unsigned i = 0; i < N_DIRS; i++) {
        if (!dirs[i][0] || snprintf(path, sizeof path, "%s/iotgw-%s.so", dirs[i], type) >= (int)sizeof path)
            continue;
        if (access(path, F_OK) == 0)
            return load(path, type, why);
    }
    why_set(why, ERR_NOTFOUND, "there is no connector type \"%s\" (no iotgw-%s.so in %s%s%s%s%s)", type, type, dirs[0],
            dirs[1][0] ? ", " : "", dirs[1], dirs[2][0] ? ", " : "", dirs[2]);
    return NULL;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Modules that are no connectors. */
static bool is_support(const char *name)
{
    return strcmp(name, "tls") == 0 || strcmp(name, "sqlite") == 0 || strncmp(name, "http", 4) == 0;
}

static char *type_of_file(const char *file)
{
    size_t n = strlen(file);
    char *type;

    if (n <= strlen("iotgw-.so") || strncmp(file, "iotgw-", 6) != 0 || strcmp(file + n - 3, ".so") != 0)
        return NULL;
    type = mem_dup(file + 6);
    type[n - 9] = 0;
    if (!is_type_name(type) || is_support(type)) {
        mem_free(type);
        return NULL;
    }
    return type;
}

void module_each(void (*fn)(void *arg, const char *type), void *arg)
{
    char dirs[N_DIRS][PATH_MAX], **types = NULL;
    size_t n = 0;

    module_dirs(dirs);
    for (unsigned i = 0; i < N_DIRS; i++) {
        DIR *dir = dirs[i][0] ? opendir(dirs[i]) : NULL;

        for (struct dirent *entry; dir && (entry = readdir(dir));) {
            char *type = type_of_file(entry->d_name);

            if (type) {
                types = mem_grow(types, (n + 1) * sizeof *types);
                types[n++] = type;
            }
        }
        if (dir)
            closedir(dir);
    }
    if (n)
        qsort(types, n, sizeof *types, by_name);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || strcmp(types[i], types[i - 1]) != 0)
            fn(arg, types[i]);
    }
    for (size_t i = 0; i < n; i++)
        mem_free(types[i]);
    mem_free(types);
}
