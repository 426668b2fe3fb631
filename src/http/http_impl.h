/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_HTTP_IMPL_H
#define IOTGW_HTTP_IMPL_H
/* The table of the module iotgw-http-client: http_client.h with libcurl. */
#include "http/http_client.h"
#include "io/own_module.h"

struct http_client_api {
    struct own_table own;
    struct http_client *(*make)(struct loop *loop, struct log *log, struct why *why);
    void (*start)(struct http_client *client, struct http_call *call);
    void (*cancel)(struct http_client *client, struct http_call *call);
    void (*close)(struct http_client *client, closed_fn *done, void *arg);
};
/* First member of the module's struct http_client. */
struct http_client_head {
    const struct http_client_api *api;
};
#endif
