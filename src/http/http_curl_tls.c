/* SPDX-License-Identifier: Apache-2.0 */
#include "http/http_curl_tls.h"

#include "base/mem.h"
#include "io/tls_explain.h"

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>

struct tls_note {
    unsigned refs; /* of the call, and of the context; both on one thread */
    bool has_why;
    char host[300], ca_file[300], unknown_ca[200], other_names[200];
    struct why why;  /* of the chain */
    char names[300]; /* in the server's certificate */
};

static int note_index;

static void unref(struct tls_note *note)
{
    if (note && --note->refs == 0)
        mem_free(note);
}

static void context_freed(void *parent, void *note, CRYPTO_EX_DATA *data, int index, long n, void *arg)
{
    (void)parent;
    (void)data;
    (void)index;
    (void)n;
    (void)arg;
    unref(note);
}

static void index_init(void)
{
    note_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, context_freed);
}

static int on_verify(int is_ok, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_note *note = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), note_index);
    const struct tls_words words = {note->host, note->ca_file, note->unknown_ca, note->other_names};

    if (!is_ok) {
        tls_explain(store, &words, &note->why);
        note->has_why = true;
    } else if (X509_STORE_CTX_get_error_depth(store) == 0) {
        tls_print_names(X509_STORE_CTX_get_current_cert(store), note->names, sizeof note->names);
    }
    return is_ok;
}

static struct tls_note *note_new(const struct tls_wish *wish)
{
    struct tls_note *note = mem_zero(sizeof *note);
    const char *host = strstr(wish->url, "://");
    size_t n;

    host = host ? host + 3 : wish->url;
    n = strcspn(host, "/?#");
    for (size_t i = n; i > 0; i--) {
        if (host[i - 1] == '@') { /* what stands before it is not for logs */
            host += i;
            n -= i;
            break;
        }
    }
    snprintf(note->host, sizeof note->host, "%.*s", (int)n, host);
    snprintf(note->ca_file, sizeof note->ca_file, "%s", wish->ca_file ? wish->ca_file : "the system's trust store");
    snprintf(
        note->unknown_ca, sizeof note->unknown_ca,
        "; set \"%s\" to the file with that CA's certificate, or switch \"%s\" off to connect without verification",
        wish->ca_key, wish->verify_key);
    snprintf(note->other_names, sizeof note->other_names, "; connect by one of them, or switch \"%s\" off",
             wish->verify_key);
    return note;
}

/* A connection begins its handshake: a context of its own, also where a call makes a second connection. */
static CURLcode on_context(CURL *easy, void *context, void *arg)
{
    struct tls_wish *wish = arg;
    struct tls_note *note = note_new(wish);
    SSL_CTX *ctx = context;

    (void)easy;
    unref(wish->note);
    wish->note = note;
    note->refs = 1;
    if (SSL_CTX_set_ex_data(ctx, note_index, note)) {
        note->refs++;
        SSL_CTX_set_verify(ctx, SSL_CTX_get_verify_mode(ctx), on_verify);
    }
    return CURLE_OK;
}

void tls_wish_begin(struct tls_wish *wish, CURL *easy)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, index_init);
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, on_context);
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, wish);
}

bool tls_wish_why(const struct tls_wish *wish, bool is_name, struct why *why)
{
    const struct tls_note *note = wish->note;

    if (note && note->has_why)
        *why = note->why;
    else if (note && is_name && note->names[0])
        (void)why_set(why, ERR_TLS, "%s: the certificate is for other names: %s%s", note->host, note->names,
                      note->other_names);
    else
        return false;
    return true;
}

void tls_wish_end(struct tls_wish *wish)
{
    unref(wish->note);
    wish->note = NULL;
}
