/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_BASE64_H
#define IOTGW_BASE64_H
/* Base64 of RFC 4648, section 4. Pure. */
#include "base/buf.h"

/* Appends the bytes. Strict: nothing but the alphabet, padded to a multiple of four; else ERR_SYNTAX and nothing is added. */
NODISCARD enum err base64_decode(struct buf *out, struct str text);
void base64_encode(struct buf *out, struct str bytes); /* appends the text, padded */
#endif
