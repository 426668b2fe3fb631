/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_UUID_H
#define IOTGW_UUID_H
/* Identities in their text form (RFC 9562): 36 lower-case characters and the terminating 0. Any thread. */
#include "base/str.h"

enum { UUID_SIZE = 37 };

void uuid_random(char out[UUID_SIZE]); /* version 4 */
void uuid_from_name(char out[UUID_SIZE],
                    struct str name); /* version 5 in the namespace of this program: always the same */
#endif
