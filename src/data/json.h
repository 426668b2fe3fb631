/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_JSON_H
#define IOTGW_JSON_H
/*
 * JSON on yyjson. Documents are immutable. Numbers are kept as raw text where JSON_RAW_NUMBERS is asked for (messages:
 * always), so that digits survive; json_number_* read both forms. Duplicate members: the last one counts
 * (json_get looks from the end).
 *
 * A configuration document also knows where each value stands: line and column, both from 1, columns in characters.
 */
#include "base/arena.h"
#include "base/buf.h"

#include <yyjson.h>

struct json_file; /* a parsed file with its text and positions */

/* Strict JSON of at most JSON_MAX_DEPTH levels; errors are "FILE:LINE:COLUMN: message" in why, and say so of comments,
 * trailing commas and single quotes. name and text are copied. A byte order mark is skipped. limit_bytes 0: 64 MiB. */
NODISCARD enum err json_file_read(struct json_file **out, const char *path, size_t limit_bytes, struct why *why);
NODISCARD enum err json_file_parse(struct json_file **out, const char *name, struct str text, struct why *why);
struct json_pos {
    uint32_t line, column;
};
/* Of text that was made from another form: positions says for each value, member names included, in the order of the text,
 * where it stands there. */
NODISCARD enum err json_file_parse_at(struct json_file **out, const char *name, struct str text,
                                      const struct json_pos *positions, struct why *why);
void json_file_free(struct json_file *file);
static inline void json_autofile(struct json_file **file)
{
    json_file_free(*file);
}
#define autojson __attribute__((cleanup(json_autofile)))
yyjson_val *json_file_root(const struct json_file *file);
const char *json_file_name(const struct json_file *file);
struct str json_file_text(const struct json_file *file);
/* Of any value (or member name) of the document. */
struct json_pos json_file_pos(const struct json_file *file, const yyjson_val *val);
struct json_pos json_pos_at(struct str text, size_t offset);

/*
 * Documents from outside: hostile ones nest as deep as their size allows. What walks values here goes at most this deep
 * (below stands null), so a message that is deeper is refused before anything is made of it.
 */
enum { JSON_MAX_DEPTH = 256 };
bool json_is_too_deep(const yyjson_doc *doc); /* O(1) for small documents */
/* One message: strict JSON, raw numbers, not too deep. NULL with a reason ("line:column: …"). yyjson_doc_free it. */
yyjson_doc *json_read(struct str text, struct why *why);

/* Empty (p NULL) if val is none or no text: of other values yyjson gives a length without bytes. */
static inline struct str json_str(yyjson_val *val)
{
    return yyjson_is_str(val) ? (struct str){unsafe_yyjson_get_str(val), unsafe_yyjson_get_len(val)} : (struct str){0};
}
yyjson_val *json_get(yyjson_val *obj, struct str key); /* last member of that name; NULL if none or no object */
/* Text of a number, raw or not, platform rule (number.h); out at least NUMBER_MAX. Empty if val is none. */
struct str json_number_text(yyjson_val *val, char *out);
bool json_is_number(yyjson_val *val); /* also raw */
/* The same by the template rule (number.h). */
struct str json_number_in_template(yyjson_val *val, char *out);
NODISCARD enum err json_to_i64(yyjson_val *val, int64_t *out); /* integral numbers only, raw or not */
NODISCARD enum err json_to_double(yyjson_val *val, double *out);
/* Compact text; numbers as received when raw, else by the platform rule. */
void json_add_value(struct buf *out, yyjson_val *val);
/* As above with a line for each item, indented by 2: for files that people edit. */
void json_add_pretty(struct buf *out, yyjson_val *val);
/* As json_add_value but every number by the platform rule: what is sent upward. */
void json_add_final(struct buf *out, yyjson_val *val);
/* "text" with quotes and escapes; invalid UTF-8 becomes U+FFFD. */
void json_add_string(struct buf *out, struct str s);
void json_add_escaped(struct buf *out, struct str s); /* the same without the quotes */
/* The same three into an arena. */
struct str json_text(struct arena *arena, yyjson_val *val);
struct str json_final_text(struct arena *arena, yyjson_val *val);
struct str json_quote(struct arena *arena, struct str s);
/* Where "\u0000" stands at or behind from, as an escape of its own; text.n: nowhere. */
size_t json_find_nul(struct str text, size_t from);
unsigned json_replace_nul(char *text, size_t n); /* by U+FFFD, in place; how many */
bool json_equal(yyjson_val *a, yyjson_val *b);   /* deep; 1 equals 1.0; order of members is irrelevant */
#endif
