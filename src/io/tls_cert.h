/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_TLS_CERT_H
#define IOTGW_TLS_CERT_H
/* Certificates as such: made, printed, and when they end (tls.h). Inside of the module iotgw-tls only. */
#include "base/buf.h"

#include <openssl/x509.h>

void tls_cert_print(X509 *cert, struct buf *pem);
NODISCARD enum err tls_cert_self_signed(const char *name, unsigned days, bool is_server, struct buf *cert,
                                        struct buf *key, struct why *why);
NODISCARD enum err tls_cert_expiry(const char *file, bool is_bundle, int64_t *until_ms, struct why *why);
#endif
