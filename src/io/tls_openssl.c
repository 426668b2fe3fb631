/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The module iotgw-tls: io/tls.h with OpenSSL 3. A session's two ends are a BIO of our own over two buffers, which are
 * given back when they are empty; memory BIOs would keep the largest size for the life of an idle link.
 */
#include "io/tls.h"
#include "build_id.h"
#include "io/stream.h"
#include "io/tls_cert.h"
#include "io/tls_explain.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>

enum {
    RECORD_SIZE = 16 * 1024,
    SERVER_TICKETS = 0, /* sessions are not resumed: links live long */
};

struct tls_ctx {
    SSL_CTX *ssl;
    char *ca_file; /* NULL: the system's store */
    bool insecure, is_server;
};

struct tls_session {
    SSL *ssl;
    char *host; /* for reasons and the name check; of a server: NULL */
    char *ca_file;
    bool is_open, is_eof, is_server;
    struct why verify_why; /* what the verification has to say, when it fails */
    struct why why;        /* why the session has failed */
    struct buf in, out;
    size_t in_at;
};

/* --- the wire: a BIO over two buffers -------------------------------------------------------------------------------- */
static int wire_write(BIO *bio, const char *p, size_t n, size_t *done)
{
    struct tls_session *session = BIO_get_data(bio);

    buf_add(&session->out, p, n);
    *done = n;
    return 1;
}

static int wire_read(BIO *bio, char *p, size_t n, size_t *done)
{
    struct tls_session *session = BIO_get_data(bio);
    size_t left = session->in.n - session->in_at;

    BIO_clear_retry_flags(bio);
    if (left == 0) {
        BIO_set_retry_read(bio);
        *done = 0;
        return 0;
    }
    *done = n < left ? n : left;
    memcpy(p, session->in.p + session->in_at, *done);
    session->in_at += *done;
    if (session->in_at == session->in.n) {
        buf_fini(&session->in);
        session->in_at = 0;
    }
    return 1;
}

static long wire_ctrl(BIO *bio UNUSED, int command, long number UNUSED, void *p UNUSED)
{
    return command == BIO_CTRL_FLUSH; /* everything else is unknown here */
}

static BIO_METHOD *wire_method;
static pthread_once_t wire_once = PTHREAD_ONCE_INIT;

static void make_wire_method(void)
{
    wire_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "iotgw wire");
    if (!wire_method)
        mem_die(0);
    BIO_meth_set_write_ex(wire_method, wire_write);
    BIO_meth_set_read_ex(wire_method, wire_read);
    BIO_meth_set_ctrl(wire_method, wire_ctrl);
}

static BIO *new_wire(struct tls_session *session)
{
    BIO *bio;

    pthread_once(&wire_once, make_wire_method);
    bio = BIO_new(wire_method);
    if (!bio)
        mem_die(0);
    BIO_set_data(bio, session);
    BIO_set_init(bio, 1);
    return bio;
}

/* --- reasons --------------------------------------------------------------------------------------------------------- */
/* The first error of OpenSSL's queue is where it happened; those after it are who passed it on. */
static const char *reason_text(void)
{
    unsigned long number = ERR_peek_error();
    const char *text = ERR_SYSTEM_ERROR(number) ? strerror(ERR_GET_REASON(number)) : ERR_reason_error_string(number);

    return text ? text : "no reason given";
}

static void explain_verification(struct tls_session *session, X509_STORE_CTX *store)
{
    const struct tls_words words = {
        .who = session->is_server ? "the client" : session->host,
        .where = session->ca_file ? session->ca_file : "the system's trust store",
        .unknown_ca = session->is_server
                          ? ""
                          : "; set \"caCert\" to the file with that CA's certificate, or \"insecure\" to "
                            "connect without verification",
        .other_names =
            "; connect by one of them, or set \"insecure\" together with \"caCert\" to leave out the check of "
            "the name"};

    tls_explain(store, &words, &session->verify_why);
}

static int on_verify(int is_ok, X509_STORE_CTX *store)
{
    if (!is_ok) {
        SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
        struct tls_session *session = SSL_get_app_data(ssl);

        explain_verification(session, store);
    }
    return is_ok;
}

/* The other end has sent an alert; the words are those of RFC 8446, 6. */
static bool explain_alert(struct tls_session *session, const char *who, int reason)
{
    const char *text = SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET);

    if (reason < SSL_AD_REASON_OFFSET || reason >= SSL_AD_REASON_OFFSET + 256)
        return false;
    switch (reason - SSL_AD_REASON_OFFSET) {
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_ACCESS_DENIED:
    case SSL_AD_HANDSHAKE_FAILURE:
    case TLS13_AD_CERTIFICATE_REQUIRED:
        why_set(&session->why, ERR_TLS, "%s ends TLS: %s%s", who, text,
                session->is_server
                    ? ""
                    : "; is a client certificate (\"cert\", \"privateKey\") wanted, and the right one set?");
        return true;
    default:
        why_set(&session->why, ERR_TLS, "%s ends TLS: %s", who, text);
        return true;
    }
}

/* Reads OpenSSL's queue of errors. */
static enum err fail(struct tls_session *session)
{
    unsigned long number = ERR_peek_error();
    const char *who = session->is_server ? "the client" : session->host;
    int reason = ERR_GET_REASON(number);

    if (ERR_GET_LIB(number) != ERR_LIB_SSL) {
        why_set(&session->why, ERR_TLS, "%s: TLS failed: %s", who, reason_text());
    } else if (explain_alert(session, who, reason)) {
        ;
    } else if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && session->verify_why.err) {
        session->why = session->verify_why;
    } else if (!session->is_open && (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST ||
                                     reason == SSL_R_PACKET_LENGTH_TOO_LONG || reason == SSL_R_HTTPS_PROXY_REQUEST ||
                                     reason == SSL_R_BAD_RECORD_TYPE)) {
        why_set(&session->why, ERR_TLS, "%s does not speak TLS here: %s", who, reason_text());
    } else {
        why_set(&session->why, ERR_TLS, "%s: TLS failed: %s", who, reason_text());
    }
    ERR_clear_error();
    return ERR_TLS;
}

/* --- contexts -------------------------------------------------------------------------------------------------------- */
static int give_password(char *p, int size, int is_writing UNUSED, void *arg)
{
    const char *password = arg;
    size_t n = password ? strlen(password) : 0;

    if (!n || n > (size_t)size)
        return -1; /* nobody is at the terminal */
    memcpy(p, password, n);
    return (int)n;
}

static X509_STORE *system_store;
static pthread_once_t system_store_once = PTHREAD_ONCE_INIT;

static void make_system_store(void)
{
    system_store = X509_STORE_new();
    if (!system_store)
        mem_die(0);
    X509_STORE_set_default_paths(system_store); /* an empty store fails each verification, with its reason */
    ERR_clear_error();
}

static NODISCARD enum err file_error(struct why *why, const char *what, const char *file)
{
    why_set(why, ERR_CONFIG, "%s %s cannot be used: %s", what, file, reason_text());
    ERR_clear_error();
    return ERR_CONFIG;
}

static NODISCARD enum err use_key(SSL_CTX *ssl, const char *key_file, const char *password)
{
    int is_used;

    SSL_CTX_set_default_passwd_cb_userdata(ssl, (void *)(uintptr_t)password);
    is_used = SSL_CTX_use_PrivateKey_file(ssl, key_file, SSL_FILETYPE_PEM);
    SSL_CTX_set_default_passwd_cb_userdata(ssl, NULL); /* it is the caller's */
    return is_used == 1 ? ERR_OK : ERR_CONFIG;
}

static NODISCARD enum err use_certificate(SSL_CTX *ssl, const char *cert_file, const char *key_file,
                                          const char *password, struct why *why)
{
    if (!cert_file || !key_file)
        return why_set(why, ERR_CONFIG, "a certificate needs its private key, and the other way round: only %s is set",
                       cert_file ? cert_file : key_file);
    if (SSL_CTX_use_certificate_chain_file(ssl, cert_file) != 1)
        return file_error(why, "the certificate file", cert_file);
    if (use_key(ssl, key_file, password)) {
        int reason = ERR_GET_REASON(ERR_peek_error());

        if (ERR_GET_LIB(ERR_peek_error()) != ERR_LIB_X509 ||
            (reason != X509_R_KEY_VALUES_MISMATCH && reason != X509_R_KEY_TYPE_MISMATCH))
            return file_error(why, "the private key file", key_file);
        ERR_clear_error();
        return why_set(why, ERR_CONFIG, "the private key in %s does not belong to the certificate in %s", key_file,
                       cert_file);
    }
    return ERR_OK;
}

static struct tls_ctx *new_ctx(const SSL_METHOD *method)
{
    struct tls_ctx *ctx = mem_zero(sizeof *ctx);

    ERR_clear_error();
    ctx->ssl = SSL_CTX_new(method);
    if (!ctx->ssl)
        mem_die(0);
    SSL_CTX_set_min_proto_version(ctx->ssl, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ctx->ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_session_cache_mode(ctx->ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_default_passwd_cb(ctx->ssl, give_password);
    return ctx;
}

static void ctx_free(struct tls_ctx *ctx)
{
    if (!ctx)
        return;
    SSL_CTX_free(ctx->ssl);
    mem_free(ctx->ca_file);
    mem_free(ctx);
}

static const char *set_or_null(const char *text)
{
    return text && *text ? text : NULL;
}

static NODISCARD enum err trust(struct tls_ctx *ctx, const char *ca_file, struct why *why)
{
    if (!ca_file) {
        pthread_once(&system_store_once, make_system_store);
        SSL_CTX_set1_cert_store(ctx->ssl, system_store);
        return ERR_OK;
    }
    if (SSL_CTX_load_verify_file(ctx->ssl, ca_file) != 1)
        return file_error(why, "the CA file", ca_file);
    ctx->ca_file = mem_dup(ca_file);
    /* What the file names is trusted, also where it is not the root of its chain. */
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx->ssl), X509_V_FLAG_PARTIAL_CHAIN);
    return ERR_OK;
}

static enum err client_ctx(struct tls_ctx **out, const struct tls_conf *conf, struct why *why)
{
    struct tls_ctx *ctx = new_ctx(TLS_client_method());
    const char *ca_file = set_or_null(conf->ca_file), *cert_file = set_or_null(conf->cert_file);
    const char *key_file = set_or_null(conf->key_file);
    enum err err = ERR_OK;

    ctx->insecure = conf->insecure;
    if (ca_file || !conf->insecure) {
        err = trust(ctx, ca_file, why);
        SSL_CTX_set_verify(ctx->ssl, SSL_VERIFY_PEER, on_verify);
    } else {
        SSL_CTX_set_verify(ctx->ssl, SSL_VERIFY_NONE, NULL);
    }
    if (!err && (cert_file || key_file))
        err = use_certificate(ctx->ssl, cert_file, key_file, set_or_null(conf->key_password), why);
    if (err)
        ctx_free(ctx);
    else
        *out = ctx;
    return err;
}

/* Who the client is, is judged by the server's user. */
static int take_any(int is_ok UNUSED, X509_STORE_CTX *store UNUSED)
{
    return 1;
}

static enum err server_ctx(struct tls_ctx **out, const struct listener_conf *conf, struct why *why)
{
    struct tls_ctx *ctx = new_ctx(TLS_server_method());
    const char *ca_file = set_or_null(conf->client_ca_file), *cert_file = set_or_null(conf->cert_file);
    const char *key_file = set_or_null(conf->key_file);
    enum err err;

    ctx->is_server = true;
    SSL_CTX_set_num_tickets(ctx->ssl, SERVER_TICKETS);
    SSL_CTX_set_options(ctx->ssl, SSL_OP_NO_TICKET);
    if (!cert_file && !key_file)
        err = why_set(why, ERR_CONFIG, "a TLS server needs a certificate and its private key");
    else
        err = use_certificate(ctx->ssl, cert_file, key_file, set_or_null(conf->key_password), why);
    if (!err && ca_file) {
        STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(ca_file);

        err = trust(ctx, ca_file, why);
        SSL_CTX_set_client_CA_list(ctx->ssl, names);
        SSL_CTX_set_verify(ctx->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, on_verify);
    }
    if (!err && !ca_file && conf->asks_client)
        SSL_CTX_set_verify(ctx->ssl, SSL_VERIFY_PEER, take_any);
    if (err)
        ctx_free(ctx);
    else
        *out = ctx;
    return err;
}

/* --- sessions -------------------------------------------------------------------------------------------------------- */
static void session_free(struct tls_session *session)
{
    if (!session)
        return;
    SSL_free(session->ssl);
    buf_fini(&session->in);
    buf_fini(&session->out);
    mem_free(session->host);
    mem_free(session->ca_file);
    mem_free(session);
}

static bool is_address(const char *host)
{
    struct in6_addr address;

    return inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1;
}

static NODISCARD enum err set_host(struct tls_session *session, bool checks_name, struct why *why)
{
    const char *host = session->host;
    bool is_ok = true;

    if (is_address(host)) {
        if (checks_name)
            is_ok = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session->ssl), host) == 1;
    } else {
        is_ok = SSL_set_tlsext_host_name(session->ssl, host) == 1;
        if (is_ok && checks_name)
            is_ok = SSL_set1_host(session->ssl, host) == 1;
    }
    ERR_clear_error();
    return is_ok ? ERR_OK : why_set(why, ERR_CONFIG, "\"%s\" cannot be the name in a certificate", host);
}

static enum err session_new(struct tls_session **out, struct tls_ctx *ctx, const char *host, struct why *why)
{
    struct tls_session *session = mem_zero(sizeof *session);
    BIO *wire;
    enum err err = ERR_OK;

    ERR_clear_error();
    session->ssl = SSL_new(ctx->ssl);
    if (!session->ssl)
        mem_die(0);
    SSL_set_app_data(session->ssl, session);
    wire = new_wire(session);
    SSL_set_bio(session->ssl, wire, wire);
    session->is_server = ctx->is_server;
    session->ca_file = ctx->ca_file ? mem_dup(ctx->ca_file) : NULL;
    if (ctx->is_server) {
        SSL_set_accept_state(session->ssl);
    } else {
        session->host = mem_dup(host);
        SSL_set_connect_state(session->ssl);
        err = set_host(session, !ctx->insecure, why);
    }
    if (err)
        session_free(session);
    else
        *out = session;
    return err;
}

static bool is_waiting(const struct tls_session *session, int result)
{
    int number = SSL_get_error(session->ssl, result);

    return number == SSL_ERROR_WANT_READ || number == SSL_ERROR_WANT_WRITE;
}

/* A step of the handshake, or nothing once it is done. */
static void step(struct tls_session *session)
{
    int result;

    if (session->is_open || session->why.err)
        return;
    ERR_clear_error();
    result = SSL_do_handshake(session->ssl);
    if (result == 1)
        session->is_open = true;
    else if (!is_waiting(session, result))
        fail(session);
}

static enum err feed(struct tls_session *session, const uint8_t *p, size_t n, bool *open, bool *eof, struct why *why)
{
    if (!session->why.err && !session->is_eof) {
        if (session->in_at) {
            buf_drop(&session->in, session->in_at);
            session->in_at = 0;
        }
        buf_add(&session->in, p, n);
        step(session);
    }
    *open = session->is_open;
    *eof = session->is_eof;
    if (session->why.err && why)
        *why = session->why;
    return session->why.err;
}

static size_t read_clear(struct tls_session *session, uint8_t *p, size_t cap)
{
    size_t n = 0;

    if (!session->is_open || session->why.err || session->is_eof || cap == 0)
        return 0;
    ERR_clear_error();
    if (SSL_read_ex(session->ssl, p, cap, &n) == 1)
        return n;
    if (SSL_get_error(session->ssl, 0) == SSL_ERROR_ZERO_RETURN)
        session->is_eof = true;
    else if (!is_waiting(session, 0))
        fail(session);
    return 0;
}

/* One record; our BIO takes everything, so it is written whole or not at all. */
static bool write_record(struct tls_session *session, const void *p, size_t n)
{
    size_t n_done = 0;

    ERR_clear_error();
    if (SSL_write_ex(session->ssl, p, n, &n_done) == 1 && n_done == n)
        return true;
    fail(session);
    return false;
}

/* Small pieces share a record, large ones are not copied. */
static enum err write_clear(struct tls_session *session, const struct iovec *iov, int n, struct why *why)
{
    uint8_t record[RECORD_SIZE];
    size_t n_record = 0;

    for (int i = 0; i < n && !session->why.err; i++) {
        const uint8_t *p = iov[i].iov_base;
        size_t left = iov[i].iov_len;

        while (left && !session->why.err) {
            size_t part = left < RECORD_SIZE - n_record ? left : RECORD_SIZE - n_record;

            if (n_record == 0 && part == RECORD_SIZE) {
                write_record(session, p, part);
            } else {
                memcpy(record + n_record, p, part);
                n_record += part;
                if (n_record == RECORD_SIZE) {
                    write_record(session, record, n_record);
                    n_record = 0;
                }
            }
            p += part;
            left -= part;
        }
    }
    if (n_record && !session->why.err)
        write_record(session, record, n_record);
    if (session->why.err && why)
        *why = session->why;
    return session->why.err;
}

static void shut(struct tls_session *session)
{
    if (!session->is_open || session->why.err)
        return;
    ERR_clear_error();
    SSL_shutdown(session->ssl); /* the other end's answer is not waited for */
    ERR_clear_error();
}

static void drain(struct tls_session *session, struct buf *out)
{
    if (!session->is_server)
        step(session);
    if (out->n == 0 && session->out.n) {
        struct buf old = *out;

        *out = session->out;
        session->out = old;
    } else {
        buf_add(out, session->out.p, session->out.n);
    }
    buf_fini(&session->out);
}

static bool peer(const struct tls_session *session, struct buf *pem)
{
    X509 *cert = SSL_get0_peer_certificate(session->ssl);

    if (cert)
        tls_cert_print(cert, pem);
    return cert != NULL;
}

extern const struct tls_api iotgw_tls;
const struct tls_api iotgw_tls = {
    .size = sizeof(struct tls_api),
    .build_id = IOTGW_BUILD_ID,
    .client_ctx = client_ctx,
    .server_ctx = server_ctx,
    .ctx_free = ctx_free,
    .session_new = session_new,
    .session_free = session_free,
    .feed = feed,
    .read = read_clear,
    .write = write_clear,
    .shutdown = shut,
    .drain = drain,
    .peer = peer,
    .self_signed = tls_cert_self_signed,
    .expiry = tls_cert_expiry,
    .forget_thread = OPENSSL_thread_stop,
};
