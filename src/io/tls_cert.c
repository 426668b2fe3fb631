/* SPDX-License-Identifier: Apache-2.0 */
#include "io/tls_cert.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <time.h>

enum { SERIAL_BITS = 127, DAY_S = 24 * 60 * 60, COMMON_NAME_MAX = 64 /* RFC 5280, ub-common-name */ };

static void add_bio(struct buf *out, BIO *bio)
{
    char *p = NULL;
    long n = BIO_get_mem_data(bio, &p);

    buf_add(out, p, n > 0 ? (size_t)n : 0);
}

void tls_cert_print(X509 *cert, struct buf *pem)
{
    BIO *bio = BIO_new(BIO_s_mem());

    if (!bio)
        mem_die(0);
    if (PEM_write_bio_X509(bio, cert) == 1)
        add_bio(pem, bio);
    BIO_free(bio);
}

static bool set_serial(X509 *cert)
{
    BIGNUM *number = BN_new();
    bool is_ok = number && BN_rand(number, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
                 BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL;

    BN_free(number);
    return is_ok;
}

/* A common name has at most 64 characters; what is longer would be refused. */
static bool set_name(X509 *cert, const char *name)
{
    X509_NAME *subject = X509_get_subject_name(cert);
    size_t n = strlen(name), cut = n < COMMON_NAME_MAX ? n : COMMON_NAME_MAX;

    while (cut < n && cut > 0 && ((unsigned char)name[cut] & 0xc0) == 0x80)
        cut--;
    return X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, (int)cut, -1, 0) ==
               1 &&
           X509_set_issuer_name(cert, subject) == 1;
}

static bool add_extension(X509 *cert, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *extension;
    bool is_ok;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    is_ok = extension && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return is_ok;
}

/* What a server is reached by: its address or name, and this machine's own. */
static bool add_names(X509 *cert, const char *name)
{
    uint8_t address[16];
    bool is_address = inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
    bool is_name = !is_address && *name && strlen(name) < 200 &&
                   strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") == strlen(name);
    char text[256];

    snprintf(text, sizeof text, "DNS:localhost%s%s",
             is_address ? ",IP:"
             : is_name  ? ",DNS:"
                        : "",
             is_address || is_name ? name : "");
    return add_extension(cert, NID_subject_alt_name, text);
}

static bool add_uses(X509 *cert, const char *name, bool is_server)
{
    if (!is_server)
        return add_extension(cert, NID_key_usage, "critical,digitalSignature") &&
               add_extension(cert, NID_ext_key_usage, "clientAuth");
    return add_extension(cert, NID_key_usage, "critical,digitalSignature") &&
           add_extension(cert, NID_ext_key_usage, "serverAuth") && add_names(cert, name);
}

enum err tls_cert_self_signed(const char *name, unsigned days, bool is_server, struct buf *cert_out,
                              struct buf *key_out, struct why *why)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    BIO *bio = BIO_new(BIO_s_secmem());
    /* A day back: the platform's clock may be behind this machine's. */
    bool is_ok = key && cert && bio && X509_set_version(cert, X509_VERSION_3) == 1 && set_serial(cert) &&
                 set_name(cert, name) && X509_gmtime_adj(X509_getm_notBefore(cert), -(long)DAY_S) &&
                 X509_time_adj_ex(X509_getm_notAfter(cert), (int)days, 0, NULL) && X509_set_pubkey(cert, key) == 1 &&
                 add_extension(cert, NID_basic_constraints, "critical,CA:FALSE") && add_uses(cert, name, is_server) &&
                 X509_sign(cert, key, EVP_sha256()) > 0 &&
                 PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1;

    if (is_ok) {
        add_bio(key_out, bio);
        tls_cert_print(cert, cert_out);
    } else {
        const char *text = ERR_reason_error_string(ERR_peek_error());

        why_set(why, ERR_TLS, "a key and its certificate cannot be made: %s", text ? text : "no reason given");
        ERR_clear_error();
    }
    BIO_free(bio);
    X509_free(cert);
    EVP_PKEY_free(key);
    return is_ok ? ERR_OK : ERR_TLS;
}

static bool read_end(const X509 *cert, int64_t *until_ms)
{
    struct tm tm;

    if (!ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm))
        return false;
    *until_ms = (int64_t)timegm(&tm) * 1000;
    return true;
}

enum err tls_cert_expiry(const char *file, bool is_bundle, int64_t *until_ms, struct why *why)
{
    BIO *bio = BIO_new_file(file, "r");
    unsigned n = 0;
    int64_t end;
    X509 *cert;

    while (bio && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
        if (read_end(cert, &end) && (n++ == 0 || (is_bundle ? end > *until_ms : end < *until_ms)))
            *until_ms = end;
        X509_free(cert);
    }
    BIO_free(bio);
    ERR_clear_error();
    return n ? ERR_OK : why_set(why, ERR_CONFIG, "%s has no certificate that can be read", file);
}
