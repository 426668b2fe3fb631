/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_TLS_EXPLAIN_H
#define IOTGW_TLS_EXPLAIN_H
/* Why a certificate is not accepted, for a person. Inside of modules with OpenSSL only (iotgw-tls, iotgw-http-client). */
#include "base/err.h"

#include <openssl/x509.h>

struct tls_words {
    const char *who;        /* "broker.example" */
    const char *where;      /* the CAs stand: a path, "the system's trust store" */
    const char *unknown_ca; /* "; set …": what to do about each */
    const char *other_names;
};
/* In a verification's callback, which says no. */
void tls_explain(X509_STORE_CTX *store, const struct tls_words *words, struct why *why);
/* "a.example, 10.0.0.1": whom the certificate is for; as much as has room. */
void tls_print_names(X509 *cert, char *text, size_t size);
#endif
