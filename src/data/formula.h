/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_FORMULA_H
#define IOTGW_FORMULA_H
/*
 * The one evaluator for every text that the peer gave to Python's eval (expressions.md 6): a closed language, compiled at load to
 * a tree in the configuration's arena, immutable afterwards. Evaluation is bounded (steps, depth, sizes) and writes to
 * the arena given. Nothing of the machine can be reached from it.
 */
#include "base/arena.h"
#include "data/json.h"

enum value_kind { VALUE_NONE, VALUE_BOOL, VALUE_INT, VALUE_DOUBLE, VALUE_TEXT, VALUE_BYTES, VALUE_LIST, VALUE_OBJECT };
struct value {
    enum value_kind kind;
    union {
        bool b;
        __int128 i;
        double d;
        struct str text; /* text and bytes */
        struct {
            struct value *items;
            size_t n;
        } list;
        struct {
            struct str *keys;
            struct value *items;
            size_t n;
        } object;
    };
};

struct formula;
/*
 * The text is copied. names: what may stand in the formula; NULL: any name, known at run time only. no_calls: CAN's strictEval.
 * A tuple is a list; an object's key that is no text is kept as its text (1, 1.0 and True are "1").
 * Errors name what was found and the offset (from 0, in bytes): 'unknown name "foo" at offset 3'. ERR_SYNTAX, ERR_NOTFOUND
 * (name, function, method), ERR_DENIED (no_calls), ERR_LIMIT.
 */
NODISCARD enum err formula_compile(struct formula **out, struct arena *arena, struct str text, bool no_calls,
                                   const struct str *names, size_t n_names, struct why *why);
/* Looks a name up; false: unknown name (a run-time error). What it gives must live as long as the result. */
typedef bool formula_lookup_fn(void *arg, struct str name, struct value *out);
NODISCARD enum err formula_eval(const struct formula *formula, formula_lookup_fn *lookup, void *arg,
                                struct arena *arena, struct value *out, struct why *why);
/* JSON text by the platform's number rule; bytes as lower-case hex; NaN and infinity: false (left out), null within a
 * list or object. */
bool value_json(const struct value *value, struct arena *arena, struct str *out);
/* Python's str() of a value. */
struct str value_text(const struct value *value, struct arena *arena);
/* Texts are borrowed from the document. What is nested deeper than 64 is None. Of members of one name
 * the last is found by a look-up. */
void value_from_json(yyjson_val *val, struct arena *arena, struct value *out);
/* A Python literal (9.3 rule 3): quotes of either kind, True/False/None (and true/false/null), tuples, trailing commas →
 * value. ERR_SYNTAX: it is none; ERR_LIMIT: nested deeper than 64. */
NODISCARD enum err value_from_literal(struct str text, struct arena *arena, struct value *out);
#endif
