/* SPDX-License-Identifier: Apache-2.0 */
#include "io/tls.h"
#include "io/own_module.h"

#include <pthread.h>
#include <stdatomic.h>

static _Atomic(const struct tls_api *) loaded;
static pthread_mutex_t load_mutex = PTHREAD_MUTEX_INITIALIZER; /* the first link of each loop, never again after */

const struct tls_api *tls_load(struct why *why)
{
    const struct tls_api *api = atomic_load_explicit(&loaded, memory_order_acquire);

    if (api)
        return api;
    pthread_mutex_lock(&load_mutex);
    api = atomic_load_explicit(&loaded, memory_order_relaxed);
    if (!api) {
        /* Not found is asked again by the next link: it may be installed by then. */
        api = own_module_load("iotgw-tls.so", "iotgw_tls", sizeof *api, "TLS", ERR_TLS, why);
        atomic_store_explicit(&loaded, api, memory_order_release);
    }
    pthread_mutex_unlock(&load_mutex);
    return api;
}
