/* SPDX-License-Identifier: Apache-2.0 */
#include "rest_cert.h"

#include "base/file.h"
#include "io/stream.h"
#include "io/tls.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

enum { DAYS = 365, RENEWED_AT_DAYS = 3, AGAIN_MS = 12 * 3600 * 1000 };
#define DAY_MS (24 * 3600 * (int64_t)1000)

static bool is_good(const struct tls_api *tls, const char *cert_file, const char *key_file, int64_t now_ms)
{
    const struct listener_conf conf = {.tls = true, .cert_file = cert_file, .key_file = key_file};
    struct tls_ctx *ctx;
    int64_t until_ms;

    if (tls->expiry(cert_file, false, &until_ms, NULL) != ERR_OK || until_ms - now_ms <= RENEWED_AT_DAYS * DAY_MS ||
        tls->server_ctx(&ctx, &conf, NULL) != ERR_OK)
        return false;
    tls->ctx_free(ctx);
    return true;
}

enum err rest_cert_make(const char *directory, const char *host, int64_t now_ms, const char *cert_file,
                        const char *key_file, bool *is_new, struct why *why)
{
    const struct tls_api *tls = tls_load(why);
    autobuf struct buf cert = {0};
    autobuf struct buf key = {0};
    enum err err;

    *is_new = false;
    if (!tls)
        return ERR_TLS;
    if (is_good(tls, cert_file, key_file, now_ms))
        return ERR_OK;
    if (mkdir(directory, 0700) && errno != EEXIST)
        return why_set(why, err_from_errno(errno), "%s, for the server's own certificate, cannot be made: %s",
                       directory, strerror(errno));
    err = tls->self_signed(host, DAYS, true, &cert, &key, why);
    if (!err) /* should it end between the two, they do not belong together, and are made anew */
        err = file_put(key_file, buf_str(&key), FILE_REPLACE, NULL, why);
    if (!err)
        err = file_put(cert_file, buf_str(&cert), FILE_REPLACE, NULL, why);
    *is_new = !err;
    return err;
}

/* --- the thread ----------------------------------------------------------------------------------------------------------- */

static void look(void *arg)
{
    struct rest_cert *cert = arg;

    cert->err = rest_cert_make(cert->directory, cert->host, cert->now_ms, cert->cert_file, cert->key_file,
                               &cert->is_new, &cert->why);
}

static void ended(void *arg)
{
    struct rest_cert *cert = arg;

    cert->helper = NULL;
    cert->is_stopping = false;
    if (cert->closed) {
        cert->closed(cert->closed_arg);
        return;
    }
    if (!cert->err)
        timer_start_coarse(&cert->again, AGAIN_MS);
    cert->ready(cert->arg, cert->err, cert->is_new, &cert->why);
}

static void looked(void *arg, bool ran)
{
    struct rest_cert *cert = arg;

    (void)ran;
    if (!cert->is_stopping)
        helper_stop(cert->helper, ended, cert);
    cert->is_stopping = true;
}

static void ask_again(void *arg)
{
    rest_cert_ask(arg);
}

void rest_cert_init(struct rest_cert *cert, struct ctx *ctx, const char *directory, const char *host)
{
    struct buf path = {0};

    cert->ctx = ctx;
    cert->directory = directory;
    cert->host = host;
    buf_printf(&path, "%s%sdomain_srv.crt", directory, str_ends(str_from(directory), STR("/")) ? "" : "/");
    buf_add_u8(&path, 0);
    cert->cert_file = mem_dup((const char *)path.p);
    cert->key_file = mem_dup((const char *)path.p);
    memcpy(strrchr(cert->key_file, '.'), ".key", 4);
    buf_fini(&path);
    timer_init(&cert->again, ctx_loop(ctx), ask_again, cert);
}

void rest_cert_ask(struct rest_cert *cert)
{
    if (cert->helper)
        return;
    timer_stop(&cert->again);
    cert->why = (struct why){0};
    cert->now_ms = loop_wall_ms(ctx_loop(cert->ctx));
    cert->helper = helper_start(cert->ctx, "rest-cert");
    if (cert->helper) {
        helper_post(cert->helper, look, looked, cert);
        return;
    }
    (void)why_set(&cert->why, ERR_NOMEM, "there is no thread to be had for the server's own certificate");
    cert->ready(cert->arg, ERR_NOMEM, false, &cert->why);
}

bool rest_cert_close(struct rest_cert *cert, closed_fn *closed, void *arg)
{
    if (!cert->ctx)
        return false;
    timer_stop(&cert->again);
    if (!cert->helper)
        return false;
    cert->closed = closed;
    cert->closed_arg = arg;
    if (!cert->is_stopping)
        helper_stop(cert->helper, ended, cert);
    cert->is_stopping = true;
    return true;
}

void rest_cert_fini(struct rest_cert *cert)
{
    mem_free(cert->cert_file);
    mem_free(cert->key_file);
}
