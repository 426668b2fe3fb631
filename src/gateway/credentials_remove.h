/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CREDENTIALS_REMOVE_H
#define IOTGW_CREDENTIALS_REMOVE_H
/*
 * What the platform asks for by gateway_remove_provisioned_credentials (core.md 8.2): what provisioning has left in the
 * configuration directory goes: .credentials is removed, and where it is about them cert.pem and key.pem get the ending
 * ".removed". The session goes on; the next start provisions anew. Appends the answer. Touches three files; any thread.
 */
#include "base/buf.h"

void credentials_remove(const char *dir, struct buf *answer);
#endif
