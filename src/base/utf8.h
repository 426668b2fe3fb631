/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_UTF8_H
#define IOTGW_UTF8_H
/* UTF-8 as RFC 3629 has it: no surrogates, no overlong forms, up to U+10FFFF. Pure functions. */
#include "base/buf.h"

bool utf8_is_valid(struct str s);
/* Decodes one code point at *i and moves *i behind it; UINT32_MAX for an invalid byte (*i moves by one). */
uint32_t utf8_next(struct str s, size_t *i);
/* Bytes written to out (1–4); code must be valid. */
size_t utf8_put(char *out, uint32_t code);
size_t utf8_count(struct str s);
/* Byte offset of the n-th character (n may equal the count: s.n), SIZE_MAX beyond. */
size_t utf8_offset(struct str s, size_t n);
/* Appends s without its invalid bytes. */
void utf8_add_valid(struct buf *out, struct str s);
#endif
