/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_LOG_FORMAT_H
#define IOTGW_LOG_FORMAT_H
/*
 * A formatter of logs.json: Python's "%(asctime)s %(levelname)-8s %(message)s", compiled once. Pure but for the time zone.
 * A placeholder that does not exist stays as text.
 */
#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"

struct log_format;
/* datefmt empty: as Python's default, "2026-01-02 03:04:05,678". Texts are copied to the arena, where the result lives too. */
struct log_format *log_format_new(struct arena *arena, struct str format, struct str datefmt);
void log_format_put(const struct log_format *format, const struct log_line *line, struct buf *out); /* no line feed */
void log_format_default(const struct log_line *line, struct buf *out); /* for a handler without a formatter */
/* Name and description of a wrong placeholder, in the arena; empty: there is none. */
struct str log_format_unknown(struct str format);
#endif
