/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_NUMBER_H
#define IOTGW_NUMBER_H
/* Numbers as text. Two rules: for the platform (core.md 6.3) and inside mixed templates (expressions.md 4). Pure. */
#include "base/buf.h"

enum { NUMBER_MAX = 352 }; /* longest text either rule makes, positional doubles included */

/* Platform rule. Writes at most NUMBER_MAX bytes, gives the count. NaN and infinity: "null". */
size_t number_put_double(char *out, double v);
size_t number_put_i64(char *out, int64_t v);
size_t number_put_u64(char *out, uint64_t v);
/* JSON number text as received → platform rule: integers by their digits (beyond 64 bit: as double), else double.
 * If text already is in final form it is returned itself, nothing is written. */
struct str number_final(struct str text, char out[NUMBER_MAX]);
/* True if JSON number text has neither fraction nor exponent. */
bool number_is_integer(struct str text);
/* True if number_final(text) as a *double* is text itself: digits, point, at most 15 significant digits, no superfluous zero. */
bool number_is_final_double(struct str text);
/* The nearest double of decimal text of any length, JSON or as people write it ("+1.", ".5"); ERR_RANGE: infinite. */
NODISCARD enum err number_read(struct str text, double *out);
/* Toward zero, by the digits, so that nothing is lost on the way. The same texts.
 * ERR_RANGE beyond 64 bits; *integral: nothing was cut off. */
NODISCARD enum err number_truncate(struct str text, int64_t *out, bool *integral);
/* Template rule (the shortest form that reads back; 1e-05, 1e+16, 21.0). */
size_t number_put_python(char *out, double v);
/* JSON number text as received → template rule: integers as they are, of any length; returned itself if nothing changes. */
struct str number_in_template(struct str text, char out[NUMBER_MAX]);
#endif
