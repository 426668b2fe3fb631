/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_TALK_H
#define IOTGW_TALK_H
/*
 * Talking to the running gateway (gateway/control.h) for subcommands: one request after the other, each waits for its answer.
 * What goes wrong is said on standard error, as the subcommand. Main thread.
 */
#include "cmd/cmd.h"
#include "data/json.h"

struct talk {
    const struct command_line *line;
    int fd;
    unsigned n_asked;
    struct buf in;
    size_t n_taken; /* of in: the line that was given last */
    yyjson_doc *doc;
};

/* EXIT_DONE, or EXIT_NO_GATEWAY; talk_close in any case. */
int talk_open(struct talk *talk, const struct command_line *line);
void talk_close(struct talk *talk);
/* params_json empty: none. EXIT_DONE with the result, which lives until the next call; else an exit code. */
int talk_ask(struct talk *talk, const char *method, struct str params_json, uint64_t timeout_ms, yyjson_val **result);
/* The same in one: opens, asks, prints the result as JSON if --json is given, else lets show print it. */
typedef int talk_show_fn(const struct command_line *line, yyjson_val *result);
int talk_run(const struct command_line *line, const char *method, struct str params_json, uint64_t timeout_ms,
             talk_show_fn *show);
/* A stream: the next part; NULL: it has ended, *code says how. */
int talk_begin(struct talk *talk, const char *method, struct str params_json);
yyjson_val *talk_next(struct talk *talk, int *code);

/* --- for people --------------------------------------------------------------------------------------------------------- */
/* Text of the gateway, without what would steer a terminal. */
void show_text(struct buf *out, struct str text);
void show_count(struct buf *out, uint64_t n);                 /* 12,345 */
void show_bytes(struct buf *out, uint64_t n);                 /* 12.3 MiB */
void show_span(struct buf *out, int64_t ms);                  /* 3 min 20 s */
void show_since(struct buf *out, int64_t ms, int64_t now_ms); /* since 2026-05-01 12:00:03 (3 min 20 s) */
uint64_t number_of(yyjson_val *object, const char *member);   /* 0: none */
struct str text_of(yyjson_val *object, const char *member);   /* empty: none */
bool is_true(yyjson_val *object, const char *member);
#endif
