/* SPDX-License-Identifier: Apache-2.0 */
#include "io/tls_explain.h"

#include <arpa/inet.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void print_time(const ASN1_TIME *time, char *text, size_t size)
{
    struct tm tm;

    if (!ASN1_TIME_to_tm(time, &tm) || !strftime(text, size, "%Y-%m-%d %H:%M UTC", &tm))
        snprintf(text, size, "an unreadable date");
}

/* What stands in a certificate is somebody else's text. */
static void print_plain(char *text)
{
    for (char *c = text; *c; c++) {
        if ((unsigned char)*c < ' ' || (unsigned char)*c >= 0x7f)
            *c = '?';
    }
}

static void print_name(const X509_NAME *name, char *text, size_t size)
{
    int n = X509_NAME_get_text_by_NID((X509_NAME *)name, NID_commonName, text, (int)size);

    if (n <= 0 && !X509_NAME_oneline(name, text, (int)size))
        text[0] = 0;
    print_plain(text);
}

static void add_name(char *text, size_t size, const char *p, int n)
{
    size_t at = strlen(text);

    snprintf(text + at, size - at, "%s%.*s", at ? ", " : "", n, p);
}

/* "a.example, b.example, 10.0.0.1": the alternative names, or the common name where there are none. */
void tls_print_names(X509 *cert, char *text, size_t size)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);

    text[0] = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        char address[INET6_ADDRSTRLEN];

        if (name->type == GEN_DNS) {
            add_name(text, size, (const char *)ASN1_STRING_get0_data(name->d.dNSName),
                     ASN1_STRING_length(name->d.dNSName));
        } else if (name->type == GEN_IPADD) {
            int n = ASN1_STRING_length(name->d.iPAddress);

            if ((n == 4 || n == 16) && inet_ntop(n == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(name->d.iPAddress),
                                                 address, sizeof address))
                add_name(text, size, address, (int)strlen(address));
        }
    }
    GENERAL_NAMES_free(names);
    if (!text[0])
        print_name(X509_get_subject_name(cert), text, size);
    print_plain(text);
}

void tls_explain(X509_STORE_CTX *store, const struct tls_words *words, struct why *why)
{
    int number = X509_STORE_CTX_get_error(store);
    X509 *cert = X509_STORE_CTX_get_current_cert(store);
    const char *of_whom =
        X509_STORE_CTX_get_error_depth(store) > 0 ? "an issuer of the certificate" : "the certificate";
    char text[300] = "", issuer[100] = "";

    if (cert)
        print_name(X509_get_issuer_name(cert), issuer, sizeof issuer);
    switch (number) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        print_time(X509_get0_notAfter(cert), text, sizeof text);
        why_set(why, ERR_TLS, "%s: %s expired on %s (if that is in the future, this machine's clock is wrong)",
                words->who, of_whom, text);
        break;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        print_time(X509_get0_notBefore(cert), text, sizeof text);
        why_set(why, ERR_TLS, "%s: %s is valid only from %s on (if that is past, this machine's clock is wrong)",
                words->who, of_whom, text);
        break;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        tls_print_names(cert, text, sizeof text);
        why_set(why, ERR_TLS, "%s: the certificate is for other names: %s%s", words->who, text, words->other_names);
        break;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        why_set(why, ERR_TLS, "%s: the certificate is from an unknown CA, \"%s\", which is not in %s%s", words->who,
                issuer, words->where, words->unknown_ca);
        break;
    default:
        why_set(why, ERR_TLS, "%s: %s is not accepted: %s", words->who, of_whom, X509_verify_cert_error_string(number));
        break;
    }
}
