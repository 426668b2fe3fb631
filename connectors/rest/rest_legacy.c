/* SPDX-License-Identifier: Apache-2.0 */
/* Forms of the peer's older versions (rest.md 7): each part on its own, with one notice. */
#include "rest_conf.h"

static void take_list(struct conf_load *load, const struct rest_file *file, const char *key,
                      const struct conf_list *old, const struct conf_list *present, struct conf_list *out)
{
    *out = present->n ? *present : *old;
    if (old->n && present->n)
        conf_warning(load, &file->common.at, key,
                     "stands at top level and in \"requestsMapping\": the one in \"requestsMapping\" counts");
    else if (old->n)
        conf_note(load, &file->common.at, key, "belongs in \"requestsMapping\" now; it works here too");
}

static void take_server(struct conf_load *load, struct rest_file *file)
{
    struct rest_server *server;

    if (!file->old_host.n)
        return;
    if (file->server) {
        conf_warning(load, &file->common.at, "host", "has no effect, as there is \"server\" too");
        return;
    }
    conf_note(load, &file->common.at, "host", "belongs in \"server\" now; it works here too");
    server = arena_zero(conf_arena(load), sizeof *server);
    server->max_body = REST_MAX_BODY;
    server->max_connections = REST_MAX_CONNECTIONS;
    server->at = file->common.at;
    server->host = file->old_host;
    server->port = file->old_port;
    server->tls = file->old_tls;
    server->files = file->old_files;
    file->server = server;
}

void rest_legacy(struct conf_load *load, struct rest_file *file, struct rest_requests *out)
{
    static const struct rest_requests none;
    const struct rest_requests *present = file->requests ? file->requests : &none, *old = &file->old_requests;

    take_server(load, file);
    take_list(load, file, "attributeRequests", &old->attribute_requests, &present->attribute_requests,
              &out->attribute_requests);
    take_list(load, file, "attributeUpdates", &old->updates, &present->updates, &out->updates);
    take_list(load, file, "serverSideRpc", &old->rpcs, &present->rpcs, &out->rpcs);
}
