/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_TEMPLATE_IMPL_H
#define IOTGW_TEMPLATE_IMPL_H
/* Inside of a compiled template, shared by template.c and downlink.c. */
#include "data/template.h"

/* What a tag means in a downlink template (expressions.md 9.1); in others every tag is data. */
enum tag_name { TAG_DATA, TAG_DEVICE_NAME, TAG_ATTRIBUTE_KEY, TAG_ATTRIBUTE_VALUE, TAG_METHOD_NAME, TAG_REQUEST_ID };

struct tag {
    struct str body;   /* trimmed */
    struct path *path; /* NULL: empty body, which is never resolved */
    struct str single; /* body if it names just one member, else p NULL */
    enum tag_name name;
    bool in_string; /* stands inside "…" of the template's literal text: body templates */
};

struct template
{
    struct str source;
    enum template_kind kind;
    size_t n_tags;
    struct tag *tags;
    struct str *literals; /* n_tags + 1: before, between and behind the tags */
};

/* Section 4. val is not NULL and not null. */
struct str template_value_text(yyjson_val *val, struct arena *arena);
#endif
