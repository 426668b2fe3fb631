/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_REQUEST_ITEM_H
#define IOTGW_CONNECTOR_REQUEST_ITEM_H
/*
 * The way from an answer to items (request.md 3): unpacking, requests for an item's further data, and merging them. Pure: the
 * running connector, `iotgw convert` and the fuzzer go through it.
 */
#include "request_conf.h"

/* The items of an answer: those of an array, or the value itself. */
struct answer {
    yyjson_doc *doc;
    yyjson_val *root; /* after unpacking */
    bool is_array;
    yyjson_arr_iter iter;
    size_t n, i; /* items; taken */
};
/* content_type: of the answer, may be empty. ERR_SYNTAX: not JSON. ERR_NOTFOUND: dataUnpackExpression finds nothing. */
NODISCARD enum err answer_open(struct answer *answer, const struct request_mapping *mapping, struct str body,
                               struct str content_type, struct arena *arena, struct why *why);
yyjson_val *answer_next(struct answer *answer); /* NULL: no more */
void answer_rewind(struct answer *answer);
void answer_close(struct answer *answer); /* also a zeroed one */

/* The request for one item's further data. ERR_NOTFOUND: a tag of its URL has no value. */
NODISCARD enum err item_request(const struct request_file *file, const struct request_mapping *mapping,
                                const struct sub_request *sub, yyjson_val *item, struct arena *arena,
                                struct web_request *out, struct why *why);
/* The item with what the answers (by use; empty: none) bring, as a document of its own. NULL: they bring nothing. */
yyjson_doc *item_merge(const struct request_mapping *mapping, yyjson_val *item, const struct str *answers,
                       struct arena *arena);
#endif
