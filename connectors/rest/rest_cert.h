/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_REST_CERT_H
#define IOTGW_CONNECTOR_REST_CERT_H
/*
 * The server's own certificate, where the configuration names none: domain_srv.crt and domain_srv.key in the directory given,
 * self-signed for the host, for 365 days; made anew when fewer than three are left. Blocks for some milliseconds: at start only.
 */
#include "base/arena.h"

NODISCARD enum err rest_cert_get(const char *directory, const char *host, int64_t now_ms, struct arena *arena,
                                 const char **cert_file, const char **key_file, struct why *why);
#endif
