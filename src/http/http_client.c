/* SPDX-License-Identifier: Apache-2.0 */
#include "http/http_client.h"

#include "http/http_impl.h"

#include <pthread.h>
#include <stdatomic.h>

static _Atomic(const struct http_client_api *) loaded;
static pthread_mutex_t load_mutex = PTHREAD_MUTEX_INITIALIZER; /* the first client of each loop, never again after */

static const struct http_client_api *load(struct why *why)
{
    const struct http_client_api *api = atomic_load_explicit(&loaded, memory_order_acquire);

    if (api)
        return api;
    pthread_mutex_lock(&load_mutex);
    api = atomic_load_explicit(&loaded, memory_order_relaxed);
    if (!api) {
        api = own_module_load("iotgw-http-client.so", "iotgw_http_client", sizeof *api, "an HTTP client", ERR_NOTFOUND,
                              why);
        atomic_store_explicit(&loaded, api, memory_order_release);
    }
    pthread_mutex_unlock(&load_mutex);
    return api;
}

static const struct http_client_api *api_of(const struct http_client *client)
{
    return ((const struct http_client_head *)(const void *)client)->api;
}

struct http_client *http_client_new(struct loop *loop, struct log *log, struct why *why)
{
    const struct http_client_api *api = load(why);

    return api ? api->make(loop, log, why) : NULL;
}

void http_client_start(struct http_client *client, struct http_call *call)
{
    api_of(client)->start(client, call);
}

void http_client_cancel(struct http_client *client, struct http_call *call)
{
    api_of(client)->cancel(client, call);
}

void http_client_close(struct http_client *client, closed_fn *done, void *arg)
{
    api_of(client)->close(client, done, arg);
}
