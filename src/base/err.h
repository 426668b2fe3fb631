/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_ERR_H
#define IOTGW_ERR_H
/*
 * One vocabulary of failures for the whole program, generated from include/iotgw/err.def; and struct why, the place where
 * the function that knows most writes the reason that a person will read.
 *
 * Numbers of libuv, errno and OpenSSL are translated where they enter (err_from_uv, err_from_errno).
 * A struct why lives on the stack of the one who asks; NULL is allowed everywhere and means "not interested".
 */
#include "iotgw/types.h"

#define UNUSED __attribute__((unused))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* "timed out" for ERR_TIMEOUT; a constant string, never NULL. */
const char *err_text(enum err err);
/* "TIMEOUT" for ERR_TIMEOUT. */
const char *err_name(enum err err);
NODISCARD enum err err_from_errno(int number);
/* Negative numbers as libuv returns them; 0 or more is ERR_OK. */
NODISCARD enum err err_from_uv(int number);

/* Keeps the first reason: a second call on the same why changes nothing. Returns err, so that it can be returned on. */
enum err why_set(struct why *why, enum err err, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Puts "prefix: " before the reason that is there. */
void why_prefix(struct why *why, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The reason as text: what was said, or else err_text(). */
const char *why_text(const struct why *why);
#endif
