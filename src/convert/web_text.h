/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONVERT_WEB_TEXT_H
#define IOTGW_CONVERT_WEB_TEXT_H
/*
 * JSON of servers that do not write it in UTF-8 (RFC 8259 8.1 asks for it, older devices do as they like). Pure; any thread.
 */
#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

/* body in UTF-8, without a byte order mark: itself, or what the arena holds. Its encoding is the one its first bytes show
 * (UTF-16, UTF-32), else that of the content type's charset, else UTF-8. ERR_UNSUPPORTED: a charset that nobody knows;
 * ERR_SYNTAX: it is not in that. */
NODISCARD enum err web_utf8(struct str body, struct str content_type, struct arena *arena, struct str *out,
                            struct why *why);
#endif
