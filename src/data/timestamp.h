/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_TIMESTAMP_H
#define IOTGW_TIMESTAMP_H
/* Time stamps in data (expressions.md 10). Pure but for the local time zone (TZ). Any thread. */
#include "data/template.h"

struct timestamp_format {
    bool dayfirst, yearfirst;
};
/* now_ms below, when nobody knows what day it is (the clock is not set): then a time alone is none. */
#define TIMESTAMP_NO_NOW INT64_MIN
/* Step 2's parsing: numbers, ISO 8601, RFC 1123, d/d/y … → ms since the epoch. now_ms: for a time alone and for the
 * century of a year of two digits. *foreign_zone (NULL allowed): the text names a zone that is read as the local one. */
NODISCARD enum err timestamp_parse(struct str text, struct timestamp_format format, int64_t now_ms, int64_t *out_ms,
                                   bool *foreign_zone);
/* Step 2 as a whole for one tsField: resolve (tag or bare member name, then depth-first by the last component), parse. */
struct ts_field {
    struct template *template; /* of "${tag}"; a bare name is compiled as "${name}" */
    struct path *anywhere;     /* the last component's name below any node; NULL: it has none */
    bool dayfirst, yearfirst;
};
NODISCARD enum err ts_field_compile(struct ts_field *out, struct arena *arena, struct str text, bool dayfirst,
                                    bool yearfirst, struct why *why);
enum ts_result { TS_NONE, TS_FOUND, TS_FOUND_FOREIGN_ZONE /* usable; its zone is worth a warning */ };
/* TS_NONE, which is false: not resolved, or not a time. */
enum ts_result ts_field_eval(const struct ts_field *field, yyjson_val *data, int64_t now_ms, struct arena *arena,
                             int64_t *out_ms);
/* Step 4: member "ts", else "timestamp", of the data. */
bool timestamp_of_data(yyjson_val *data, int64_t now_ms, int64_t *out_ms);
#endif
