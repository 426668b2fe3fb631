/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_PATH_H
#define IOTGW_PATH_H
/* The subset of JSONPath of expressions.md 3, compiled once. A compiled path is immutable and lives in the arena. */
#include "base/arena.h"
#include "data/json.h"

struct path;
/* why names the offset (from 0, in bytes) of what is not supported. Empty text is ERR_SYNTAX. */
NODISCARD enum err path_compile(struct path **out, struct arena *arena, struct str text, struct why *why);
/* First match in document order; NULL: none (JSON null is also NULL). chars: arena for a single character of a text
 * ([n] on a text), which becomes *text_out; then the result is NULL and text_out->p is set. */
yyjson_val *path_first(const struct path *path, yyjson_val *root, struct arena *chars, struct str *text_out);
/* Set if the path is one member name: the common case, for matching many keys in one pass. Else p is NULL. */
struct str path_single_member(const struct path *path);
/* Last component's name, or empty: expressions.md 10 step 2. */
struct str path_last_name(const struct path *path);
#endif
