/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_PROVISION_H
#define IOTGW_PROVISION_H
/*
 * How the gateway gets its credentials from the platform (core.md 4; platform-api.md 8): a session of its own with the user name
 * "provision", one request, one answer, which is stored before it is used. Names and secrets that the configuration does
 * not give are random and stay the same over the attempts of one process, as does the certificate that is made.
 *
 * Owner thread: the uplink's loop; files and keys are made on a helper thread. One attempt at a time; when the next one is
 * due is the caller's to say. Secrets are never logged.
 */
#include "base/log.h"
#include "mqtt/mqtt.h"
#include "uplink/credentials.h"

struct provision_conf {
    enum credentials_type type;
    struct stream_conf stream;
    struct str device_key, device_secret;                                /* of the device profile */
    struct str device_name, access_token, client_id, username, password; /* empty: random letters */
    struct str ca_cert;                                                  /* as configured: kept with the answer */
    const char *path;                                                    /* .credentials */
    const char *cert_path,
        *key_path; /* of a certificate that is made; what is there already is used, and never replaced */
};

struct provision_events {
    /* Stored, or at least in hand; lives until provision_free. */
    void (*done)(void *arg, const struct credentials *credentials);
    /* ERR_AUTH: the platform does not want it so; asking again soon is no use. */
    void (*failed)(void *arg, enum err err, const struct why *why);
};

struct provision;
struct provision *provision_new(struct loop *loop, struct log *log, const struct provision_conf *conf,
                                const struct provision_events *events, void *arg);
void provision_start(struct provision *provision); /* one attempt: exactly one event follows, in a later turn */
void provision_stop(struct provision *provision);  /* ends it soon; the event still follows */
bool provision_is_busy(const struct provision *provision);
void provision_free(struct provision *provision); /* not busy; NULL allowed */
#endif
