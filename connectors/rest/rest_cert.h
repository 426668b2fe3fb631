/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_REST_CERT_H
#define IOTGW_CONNECTOR_REST_CERT_H
/*
 * The server's own certificate, where the configuration names none: domain_srv.crt and domain_srv.key in the directory given,
 * self-signed for the host, EC P-256, for 365 days; made anew when fewer than three are left, or when the two do not belong
 * together. Files are read and written, and the library is loaded, by a thread that ends with it.
 * Owner thread: the connector's loop.
 */
#include "connector/ctx.h"

/* One look at the files, and a new pair if it is needed. Blocks; any thread. */
NODISCARD enum err rest_cert_make(const char *directory, const char *host, int64_t now_ms, const char *cert_file,
                                  const char *key_file, bool *is_new, struct why *why);

struct rest_cert {
    struct ctx *ctx;
    const char *directory, *host;
    /* err ERR_OK: the files are there; is_new: they were made just now. Comes once for each rest_cert_ask that was taken, and twice a
     * day after the first that went well. */
    void (*ready)(void *arg, enum err err, bool is_new, const struct why *why);
    void *arg;
    char *cert_file, *key_file;

    /* private */
    struct helper *helper; /* while it looks */
    struct timer again;
    enum err err;
    struct why why;
    int64_t now_ms;
    bool is_new, is_stopping; /* the latter: the thread */
    closed_fn *closed;
    void *closed_arg;
};
/* directory and host must live as long. */
void rest_cert_init(struct rest_cert *cert, struct ctx *ctx, const char *directory, const char *host);
void rest_cert_ask(struct rest_cert *cert); /* nothing if it looks already */
/* No .ready after it. False: nothing is under way, and closed does not come; else it comes when the thread has ended. */
bool rest_cert_close(struct rest_cert *cert, closed_fn *closed, void *arg);
void rest_cert_fini(struct rest_cert *cert); /* after that; also a zeroed one */
#endif
