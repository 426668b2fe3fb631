/* SPDX-License-Identifier: Apache-2.0 */
#include "rest_cert.h"

#include "base/file.h"
#include "io/tls.h"

#include <unistd.h>

enum { DAYS = 365, RENEWED_AT_DAYS = 3 };
#define DAY_MS (24 * 3600 * (int64_t)1000)

enum err rest_cert_get(const char *directory, const char *host, int64_t now_ms, struct arena *arena,
                       const char **cert_file, const char **key_file, struct why *why)
{
    const struct tls_api *tls = tls_load(why);
    autobuf struct buf cert = {0};
    autobuf struct buf key = {0};
    int64_t until_ms;
    enum err err;

    if (!tls)
        return ERR_TLS;
    *cert_file = arena_text(arena, arena_printf(arena, "%s/domain_srv.crt", directory));
    *key_file = arena_text(arena, arena_printf(arena, "%s/domain_srv.key", directory));
    if (access(*key_file, R_OK) == 0 && tls->expiry(*cert_file, false, &until_ms, NULL) == ERR_OK &&
        until_ms - now_ms > RENEWED_AT_DAYS * DAY_MS)
        return ERR_OK;
    err = tls->self_signed(host, DAYS, true, &cert, &key, why);
    if (!err) /* the key first: a certificate without its key would be taken at the next start */
        err = file_put(*key_file, buf_str(&key), FILE_REPLACE, NULL, why);
    if (!err)
        err = file_put(*cert_file, buf_str(&cert), FILE_REPLACE, NULL, why);
    return err;
}
