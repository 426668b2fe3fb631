/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONVERT_VECTORS_H
#define IOTGW_CONVERT_VECTORS_H
/*
 * `iotgw convert --vectors`: one JSON object a line in, one line of answer each (README.md 6 of the specification). Each
 * function answers one kind of vectors: it adds the members of the answer, without braces and without "id", to members.
 * Nothing outside the arena is kept. input: raw numbers; it may be anything.
 */
#include "data/json.h"
#include "iotgw/connector.h"

#include <stdio.h>

/* expressions.md 13. */
void convert_expressions(yyjson_val *input, struct arena *arena, struct buf *members);
/* core.md 7.4 and platform-api.md 10. question: the whole vector, for its config and direction. */
void convert_core(yyjson_val *question, struct arena *arena, struct buf *members);
void convert_downlink(yyjson_val *question, struct arena *arena, struct buf *members); /* the same: what comes down */
/* core.md 7.4: "sent":[…]. */
NODISCARD enum err convert_report(yyjson_val *config, yyjson_val *input, struct arena *arena, struct buf *members,
                                  struct why *why);

/* The loop. A bad line never ends it. Gives the exit status. */
int cmd_convert_vectors(FILE *in, FILE *out);

/* A connector's conversion: one input, its answer as a document (an object; yyjson_doc_free it). NULL with the reason. */
yyjson_doc *convert_one(const struct connector_type *connector, const void *conf, struct str direction,
                        yyjson_val *input, struct arena *arena, struct why *why);

/* "unsupported":"why" */
void convert_add_unsupported(struct buf *members, struct str reason);
#endif
