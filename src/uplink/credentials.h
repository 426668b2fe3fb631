/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CREDENTIALS_H
#define IOTGW_CREDENTIALS_H
/*
 * Credentials that the platform has made for this gateway (core.md 4): its answer to a provisioning request, kept in the
 * peer's form: the answer itself with the member "caCert". Pure; what is parsed lives in the arena.
 */
#include "base/arena.h"
#include "base/buf.h"

enum credentials_type { CREDENTIALS_TOKEN = 1, CREDENTIALS_BASIC, CREDENTIALS_CERTIFICATE };
struct credentials {
    enum credentials_type type;
    struct str username, password, client_id; /* p NULL: none. A token is the user name */
    struct str ca_cert;                       /* as configured when they were made; empty: none */
};

/* ERR_CONFIG with a reason that tells nothing of the secrets. */
NODISCARD enum err credentials_parse(struct credentials *out, struct arena *arena, struct str json, struct why *why);
/* What is to be stored, of an answer that can be parsed. */
void credentials_print(struct buf *out, struct str answer, struct str ca_cert);
#endif
