/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONVERT_H
#define IOTGW_CONVERT_H
/*
 * A datapoint's value: template (or formula), then type conversion (expressions.md 5), straight to the JSON text that is
 * sent. Nothing is parsed per message but the payload; a number that already is in final form is not printed again.
 */
#include "data/template.h"

enum value_class { CLASS_JSON, CLASS_INTEGER, CLASS_DOUBLE, CLASS_BOOLEAN, CLASS_TEXT };
enum convert_mode { CONVERT_STRICT, CONVERT_LOSSLESS };

/* By the "type" key, any case; empty (missing): json. */
enum value_class value_class_of(struct str type);

/* What became of one value, for counting. */
enum convert_result {
    CONVERT_OK,
    CONVERT_SKIPPED /* unresolved */,
    CONVERT_FALLBACK /* text that does not parse: sent as text */,
    CONVERT_FAILED /* formula; infinite number */
};

struct datapoint_value {
    struct template *template;
    struct formula *formula; /* useEval: compiled with tags as variables; NULL: none, or only at run time possible */
    enum value_class class;
    enum convert_mode mode;
    bool use_eval;  /* obeyed unless the class is text by a type containing "str" (decided by datapoint_compile) */
    bool has_power; /* the formula has a "**": a negative number does not stand for its text */
    const struct str *names;             /* the formula's names for the tags */
    enum convert_result constant_result; /* a template without tags is converted once */
    struct str constant;
};
NODISCARD enum err datapoint_compile(struct datapoint_value *out, struct arena *arena, struct str expression,
                                     struct str type, enum convert_mode mode, bool use_eval, struct why *why);

/* A formula with tags is known only when their texts are in it. False: none that is likely (a number, a list, an operator)
 * makes it one that can be evaluated; why says so for a number. True also for what is no formula. */
bool datapoint_may_work(const struct datapoint_value *value, struct arena *arena, struct why *why);

/* found: the value of a pure single-member template when the caller has looked it up already (one pass over the
 * members); else NULL, and it is resolved against data. *out: JSON text in arena, payload or template. */
enum convert_result datapoint_eval(const struct datapoint_value *value, yyjson_val *data, yyjson_val *found,
                                   struct arena *arena, struct str *out, struct why *why);
/* Conversion alone: a JSON value (pure) or a text (constant, mixed; val NULL). */
enum convert_result convert_value(enum value_class class, enum convert_mode mode, yyjson_val *val, struct str text,
                                  struct arena *arena, struct str *out);
#endif
