/* SPDX-License-Identifier: Apache-2.0 */
#include "io/tls.h"
#include "build_id.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MODULE "iotgw-tls.so"

static _Atomic(const struct tls_api *) loaded;
static pthread_mutex_t load_mutex = PTHREAD_MUTEX_INITIALIZER; /* the first link of each loop, never again after */

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
static const struct tls_api *try_place(const char *directory, bool *is_there, struct why *why)
{
    const struct tls_api *api;
    char path[4200];
    void *module;

    snprintf(path, sizeof path, "%s/" MODULE, directory);
    if (access(path, F_OK))
        return NULL;
    *is_there = true;
    module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!module) {
        why_set(why, ERR_TLS, "the TLS module cannot be loaded: %s", dlerror());
        return NULL;
    }
    api = dlsym(module, "iotgw_tls");
    if (!api || api->size != sizeof *api || strcmp(api->build_id, IOTGW_BUILD_ID) != 0) {
        why_set(why, ERR_TLS, "the TLS module %s belongs to another build of the program (%s, this is %s)", path,
                api && api->size >= offsetof(struct tls_api, client_ctx) ? api->build_id : "unknown", IOTGW_BUILD_ID);
        return NULL;
    }
    return api;
}

static const struct tls_api *search(struct why *why)
{
    const char *named = getenv("IOTGW_MODULE_DIR");
    const struct tls_api *api = NULL;
    bool is_there = false;
    char own[4096];

    if (own_directory(own, sizeof own))
        api = try_place(own, &is_there, why);
    if (!api)
        api = try_place(IOTGW_MODULE_PATH, &is_there, why);
    if (!api && named && *named)
        api = try_place(named, &is_there, why);
    if (!api && !is_there)
        why_set(why, ERR_TLS, "TLS needs the module " MODULE ", which is neither beside the program nor in %s",
                IOTGW_MODULE_PATH);
    return api;
}

const struct tls_api *tls_load(struct why *why)
{
    const struct tls_api *api = atomic_load_explicit(&loaded, memory_order_acquire);

    if (api)
        return api;
    pthread_mutex_lock(&load_mutex);
    api = atomic_load_explicit(&loaded, memory_order_relaxed);
    if (!api) {
        struct why first = {0};

        api = search(&first); /* not found is asked again by the next link: it may be installed by then */
        if (!api)
            why_set(why, first.err, "%s", first.text);
        atomic_store_explicit(&loaded, api, memory_order_release);
    }
    pthread_mutex_unlock(&load_mutex);
    return api;
}
