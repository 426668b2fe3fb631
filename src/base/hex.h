/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_HEX_H
#define IOTGW_HEX_H
/* Bytes ↔ lower-case hex text. Pure functions. */
#include "base/buf.h"

void hex_add(struct buf *out, const void *p, size_t n);
/* Either case, no separators; ERR_SYNTAX otherwise (out then holds what came before). */
NODISCARD enum err hex_decode(struct buf *out, struct str text);
#endif
