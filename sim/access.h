/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SIM_ACCESS_H
#define IOTGW_SIM_ACCESS_H
/*
 * Whom the platform stand-in lets in, and the credentials it makes on request. Without any credentials and without a device
 * profile for provisioning, everybody is let in. One thread.
 */
#include "mqtt/packet.h"

#include <yyjson.h>

enum access_kind { ACCESS_TOKEN = 1, ACCESS_BASIC, ACCESS_CERTIFICATE };
struct access_entry {
    struct access_entry *next;
    enum access_kind kind;
    struct str device;                        /* its name; all texts are owned */
    struct str username, password, client_id; /* a token is a user name */
    struct str certificate;                   /* Base64 without line feeds */
    bool is_gateway;
};

struct access {
    struct access_entry *first;
    struct str profile_key, profile_secret; /* empty key: nothing is provisioned */
    unsigned n_named;                       /* devices that got a name made for them */
};

void access_fini(struct access *access);
/* Of a PEM text (the first certificate), or of what stands for one: without frame and white space. */
void access_base64(struct buf *out, struct str pem);
/* CONNACK code of version 5, 0: let in. certificate: Base64, empty: none shown. *entry NULL: by no credentials. */
uint8_t access_login(struct access *access, const struct mqtt_connect_packet *connect, struct str certificate,
                     const struct access_entry **entry);
/* Replaces those of the device. */
struct access_entry *access_add(struct access *access, enum access_kind kind, struct str device);
void access_set(struct str *text, struct str value);
bool access_remove(struct access *access, struct str device);
/* Answers a provisioning request; false: its form is bad, nothing is answered. */
bool access_provision(struct access *access, yyjson_val *root, struct buf *answer);
#endif
