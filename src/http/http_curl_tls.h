/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_HTTP_CURL_TLS_H
#define IOTGW_HTTP_CURL_TLS_H
/*
 * Why the certificate of a server was not accepted, in more words than libcurl has. What a handshake says is noted in the
 * context that OpenSSL makes for it, which may outlive the call. Inside of the module iotgw-http-client.
 */
#include "base/err.h"

#include <curl/curl.h>

struct tls_note;
struct tls_wish {                    /* part of a call; lives until tls_wish_end */
    const char *url, *ca_file;       /* ca_file NULL: the system's */
    const char *ca_key, *verify_key; /* for what to do about it */
    struct tls_note *note;           /* private; of the last handshake */
};
/* On the call's handle, before it starts, where the server is to be verified. */
void tls_wish_begin(struct tls_wish *wish, CURL *easy);
/* What the last handshake has said; false: nothing. is_name: libcurl says that the names do not match. */
bool tls_wish_why(const struct tls_wish *wish, bool is_name, struct why *why);
void tls_wish_end(struct tls_wish *wish); /* also one that was not begun */
#endif
