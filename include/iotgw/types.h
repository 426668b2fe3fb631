/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_TYPES_H
#define IOTGW_TYPES_H
/*
 * The plain types that gateway and modules share. Part of the ABI: enumerators and members are only ever appended.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum err {
#define X(code, text) ERR_##code,
#include "iotgw/err.def"
#undef X
    ERR_COUNT
};

#define NODISCARD __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

/* The reason of a failure, for a person; on the stack of the one who asks. Filled once, by the one who knows most. */
struct why {
    enum err err;
    char text[500]; /* always terminated; empty if nobody said anything */
};

/* A borrowed view of bytes: not terminated. Who owns the bytes is said where the view is stored. */
struct str {
    const char *p;
    size_t n;
};

struct arena;  /* base/arena.h: memory of a message or of a configuration */
struct log;    /* base/log.h */
struct loop;   /* io/loop.h */
struct device; /* data/device.h */
struct ctx;    /* the host's side of one connector */
#endif
