/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SIM_LINES_H
#define IOTGW_SIM_LINES_H
/*
 * How the simulators are steered: a command a line on standard input, a JSON object a line on standard output.
 * The end of a pipe or terminal is the command "quit"; the end of a file (or /dev/null) is not.
 */
#include "base/buf.h"
#include "io/loop.h"

/* word: the first word of the line; rest: what follows it, trimmed. */
typedef void line_fn(void *arg, struct str word, struct str rest);

struct lines {
    uv_poll_t poll;
    struct closer *closer;
    bool is_polling, is_closed;
    struct buf pending;
    line_fn *handler;
    void *arg;
};

void lines_start(struct lines *lines, struct loop *loop, line_fn *handler, void *arg);
void lines_close(struct lines *lines, struct closer *closer);

/* Appends text as a JSON string, with its quotes. Invalid UTF-8 is left out. */
void json_add_text(struct buf *out, struct str text);
/* Writes line and a line feed to standard output, at once. */
void line_say(struct buf *line);
void line_say_error(struct str command, const char *what);
#endif
